// Computes gearmand's jobs: gear_worker PORTS US FILE [TIMEOUT]. Sleeps US microseconds, appends the job's number to FILE and
// answers with it. Of background jobs gearmand keeps no answer; the file is the only result there can be. It also says what
// was computed twice. PORTS: of several servers with commas. TIMEOUT: milliseconds without an answer or a job, after which
// the worker leaves the servers that don't answer an echo within ECHO milliseconds. Without it, it waits for a silent server
// as long as libgearman does.
#include <fcntl.h>
#include <libgearman/gearman.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ECHO = 500 };

static long us;
static int results;

static void *nap(gearman_job_st *job, void *context, size_t *size, gearman_return_t *ret) {
    (void)context;
    if (us) nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
    char line[64];
    int length = snprintf(line, sizeof line, "%.*s\n", (int)gearman_job_workload_size(job), (const char *)gearman_job_workload(job));
    *ret = write(results, line, length) == length ? GEARMAN_SUCCESS : GEARMAN_ERROR;
    *size = length - 1;
    return strndup(line, length - 1);  // libgearman frees it
}

static bool echoes(int port) {
    gearman_client_st *client = gearman_client_create(NULL);
    gearman_client_add_server(client, "127.0.0.1", port);
    gearman_client_set_timeout(client, ECHO);
    bool good = gearman_client_echo(client, "?", 1) == GEARMAN_SUCCESS;
    gearman_client_free(client);
    return good;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    int ports[8], servers = 0, timeout = argc > 4 ? atoi(argv[4]) : 0;
    for (char *port = strtok(argv[1], ","); port && servers < 8; port = strtok(NULL, ",")) ports[servers++] = atoi(port);
    us = atol(argv[2]);
    results = open(argv[3], O_WRONLY | O_APPEND | O_CREAT, 0644);
    for (bool checked = false;; checked = true) {
        gearman_worker_st *worker = gearman_worker_create(NULL);
        for (int n = 0; n < servers; n++)
            if (!checked || echoes(ports[n])) gearman_worker_add_server(worker, "127.0.0.1", ports[n]);
        if (timeout) gearman_worker_set_timeout(worker, timeout);
        gearman_worker_add_function(worker, "nap", 0, nap, NULL);
        gearman_return_t ret;
        while ((ret = gearman_worker_work(worker)), !timeout || (ret != GEARMAN_TIMEOUT && ret != GEARMAN_NO_SERVERS))
            if (ret != GEARMAN_SUCCESS) usleep(50000);
        gearman_worker_free(worker);
    }
}
