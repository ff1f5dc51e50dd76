"""Submits tasks 1..N one by one (Celery has no way to send many in one round trip); prints how many were acknowledged."""
import sys

import celery_app

kind, jobs = sys.argv[1], int(sys.argv[2])
task = getattr(celery_app, kind)
sent = 0
with celery_app.app.producer_or_acquire() as producer:
    producer.connection.ensure_connection(max_retries=3)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(1, jobs + 1):
        task.apply_async((number,), producer=producer, task_id=f"t{number}")
        sent += 1
print(sent)
