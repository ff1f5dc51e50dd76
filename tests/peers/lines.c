// A request a line, for `giostra-worker --exec-lines` where it has to be counted how often each was computed:
// sleeps (argv[1] microseconds), records the line in the file argv[2], answers with it.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    long us = atol(argv[1]);
    int fd = open(argv[2], O_WRONLY | O_APPEND | O_CREAT, 0644);
    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        if (us) nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
        if (write(fd, line, strlen(line)) < 0) return 1;
        fputs(line, stdout);
        fflush(stdout);
    }
}
