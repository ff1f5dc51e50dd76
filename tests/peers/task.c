// A request as a process, for HyperQueue: sleeps (argv[1] microseconds), records that it ran, prints its number.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    long us = argc > 1 ? atol(argv[1]) : 0;
    if (us) nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
    char line[32];
    const char *number = getenv("HQ_TASK_ID");
    int length = snprintf(line, sizeof line, "%s\n", number ? number : "?");
    const char *record = getenv("EXEC_LOG");
    if (record) {
        int fd = open(record, O_WRONLY | O_APPEND | O_CREAT, 0644);
        if (fd < 0 || write(fd, line, length) != length) return 1;
    }
    return write(1, line, length) == length ? 0 : 1;
}
