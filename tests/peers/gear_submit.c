// Submits background jobs 1..N to gearmand, BATCH at a time through one connection; prints how many were acknowledged.
#include <libgearman/gearman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long acknowledged;
static gearman_return_t created(gearman_task_st *task) { (void)task; acknowledged++; return GEARMAN_SUCCESS; }

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    long jobs = atol(argv[2]), batch = atol(argv[3]);
    gearman_client_st *client = gearman_client_create(NULL);
    if (gearman_client_add_server(client, "127.0.0.1", atoi(argv[1])) != GEARMAN_SUCCESS) return 1;
    gearman_client_set_created_fn(client, created);
    gearman_client_add_options(client, GEARMAN_CLIENT_FREE_TASKS);
    char (*numbers)[24] = malloc(batch * sizeof *numbers);
    for (long first = 1; first <= jobs; first += batch) {
        for (long n = first; n < first + batch && n <= jobs; n++) {
            gearman_return_t ret;
            char *number = numbers[n - first];
            sprintf(number, "%ld", n);
            gearman_client_add_task_background(client, NULL, NULL, "nap", number, number, strlen(number), &ret);
            if (ret != GEARMAN_SUCCESS) { fprintf(stderr, "%s\n", gearman_client_error(client)); break; }
        }
        if (gearman_client_run_tasks(client) != GEARMAN_SUCCESS) { fprintf(stderr, "%s\n", gearman_client_error(client)); break; }
    }
    printf("%ld\n", acknowledged);
    return acknowledged == jobs ? 0 : 1;
}
