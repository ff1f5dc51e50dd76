// Computes gearmand's jobs: sleeps (argv[2] microseconds) and appends the job's number to the file argv[3], which is the only
// result there can be: gearmand keeps none of background jobs. The file also says what was computed twice.
#include <fcntl.h>
#include <libgearman/gearman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long us;
static int results;

static void *nap(gearman_job_st *job, void *context, size_t *size, gearman_return_t *ret) {
    (void)context;
    if (us) nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
    char line[64];
    int length = snprintf(line, sizeof line, "%.*s\n", (int)gearman_job_workload_size(job), (const char *)gearman_job_workload(job));
    *ret = write(results, line, length) == length ? GEARMAN_SUCCESS : GEARMAN_ERROR;
    *size = 0;
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    us = atol(argv[2]);
    results = open(argv[3], O_WRONLY | O_APPEND | O_CREAT, 0644);
    gearman_worker_st *worker = gearman_worker_create(NULL);
    gearman_worker_add_server(worker, "127.0.0.1", atoi(argv[1]));
    gearman_worker_add_function(worker, "nap", 0, nap, NULL);
    for (;;)
        if (gearman_worker_work(worker) != GEARMAN_SUCCESS) usleep(50000);
}
