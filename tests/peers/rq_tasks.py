"""RQ's functions."""
import os
import time

record = os.environ.get("EXEC_LOG")
fd = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if record else None


def ran(number):
    if fd is not None:
        os.write(fd, b"%d\n" % number)


def sleep5(number):
    time.sleep(0.005)
    ran(number)
    return number


def nothing(number):
    ran(number)
    return number + 1
