// Submits jobs 1..N to gearmand, BATCH at a time through one connection: gear_submit PORTS N BATCH [TIMEOUT].
// PORTS: of one server, or of several with commas, of which libgearman uses the last that it can.
// Without TIMEOUT they are background jobs, and it prints how many were acknowledged. With it (milliseconds without any reply)
// they are foreground jobs: it prints the number of each reply when it comes. What is unanswered when a run has failed is sent
// again for up to PATIENCE seconds, to the servers that answer an echo: libgearman would choose the lost one again.
// The last line is "again N": how many had no reply from their first attempt.
#include <libgearman/gearman.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 20, ECHO = 500 };  // seconds, milliseconds

static long acknowledged;
static char ports[8][16];
static int servers;

static gearman_return_t created(gearman_task_st *task) { (void)task; acknowledged++; return GEARMAN_SUCCESS; }

static gearman_return_t complete(gearman_task_st *task) {
    bool *answered = gearman_task_context(task);
    *answered = true;
    printf("%.*s\n", (int)gearman_task_data_size(task), (const char *)gearman_task_data(task));
    fflush(stdout);
    return GEARMAN_SUCCESS;
}

static int background(long jobs, long batch) {
    gearman_client_st *client = gearman_client_create(NULL);
    for (int n = 0; n < servers; n++)
        if (gearman_client_add_server(client, "127.0.0.1", atoi(ports[n])) != GEARMAN_SUCCESS) return 1;
    gearman_client_add_options(client, GEARMAN_CLIENT_FREE_TASKS);
    gearman_client_set_created_fn(client, created);
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

static bool echoes(const char *port) {
    gearman_client_st *client = gearman_client_create(NULL);
    gearman_client_add_server(client, "127.0.0.1", atoi(port));
    gearman_client_set_timeout(client, ECHO);
    bool good = gearman_client_echo(client, "?", 1) == GEARMAN_SUCCESS;
    gearman_client_free(client);
    return good;
}

static gearman_client_st *new_foreground(int timeout, bool check) {
    gearman_client_st *client = gearman_client_create(NULL);
    for (int n = 0; n < servers; n++)
        if (!check || echoes(ports[n])) gearman_client_add_server(client, "127.0.0.1", atoi(ports[n]));
    gearman_client_set_complete_fn(client, complete);
    gearman_client_set_timeout(client, timeout);
    gearman_client_add_options(client, GEARMAN_CLIENT_FREE_TASKS);
    return client;
}

static int foreground(long jobs, long batch, int timeout) {
    gearman_client_st *client = new_foreground(timeout, false);
    char (*numbers)[24] = malloc(batch * sizeof *numbers);
    bool *answered = calloc(jobs + 1, sizeof *answered);
    long again = 0;
    for (long first = 1; first <= jobs; first += batch) {
        long missing = batch;
        time_t end = time(NULL) + PATIENCE;
        for (int attempt = 0; missing && time(NULL) < end; attempt++) {
            for (long n = first; n < first + batch && n <= jobs; n++) {
                if (answered[n]) continue;
                gearman_return_t ret;
                char *number = numbers[n - first];
                sprintf(number, "%ld", n);
                // Another unique id each time, or the server may answer with what it holds of the first.
                char unique[64];
                sprintf(unique, "%ld-%d-%d", n, attempt, (int)getpid());
                gearman_client_add_task(client, NULL, &answered[n], "nap", unique, number, strlen(number), &ret);
            }
            gearman_client_run_tasks(client);
            missing = 0;
            for (long n = first; n < first + batch && n <= jobs; n++) missing += !answered[n];
            if (!missing) break;
            if (attempt == 0) again += missing;
            fprintf(stderr, "%s\n", gearman_client_error(client));
            gearman_client_free(client);
            usleep(10000);
            client = new_foreground(timeout, true);
        }
        if (missing) break;
    }
    printf("again %ld\n", again);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    for (char *port = strtok(argv[1], ","); port && servers < 8; port = strtok(NULL, ","))
        snprintf(ports[servers++], sizeof ports[0], "%s", port);
    long jobs = atol(argv[2]), batch = atol(argv[3]);
    return argc > 4 ? foreground(jobs, batch, atoi(argv[4])) : background(jobs, batch);
}
