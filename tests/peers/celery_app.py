"""Celery's application. Durable: late acknowledgement, and a result that is stored again until Redis takes it."""
import os
import time

from celery import Celery

port = os.environ["REDIS_PORT"]
app = Celery("celery_app", broker=f"redis://127.0.0.1:{port}/0", backend=f"redis://127.0.0.1:{port}/1")
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_store_errors_even_if_ignored=True,
    result_backend_always_retry=True,
    result_expires=86400,
    worker_prefetch_multiplier=int(os.environ.get("CELERY_PREFETCH", "64")),
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # Messages that a worker had and did not acknowledge come back after this many seconds; the sweep is every 2 s.
    broker_transport_options={
        "visibility_timeout": int(os.environ.get("CELERY_VISIBILITY", "30")),
        "unacked_restore_interval": 2, "unacked_restore_throttle": 1, "unacked_mutex_expire": 10,
    },
)
record = os.environ.get("EXEC_LOG")
fd = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if record else None


def ran(number):
    if fd is not None:
        os.write(fd, b"%d\n" % number)


@app.task
def sleep5(number):
    time.sleep(0.005)
    ran(number)
    return number


@app.task
def nothing(number):
    ran(number)
    return number + 1
