"""Submits jobs 1..N by enqueue_many, 1,000 in one pipeline; prints how many were acknowledged."""
import os
import sys

from redis import Redis
from rq import Queue, Retry

kind, jobs = sys.argv[1], int(sys.argv[2])
connection = Redis(port=int(os.environ["REDIS_PORT"]))
queue = Queue(connection=connection)
sent = 0
connection.ping()
print("ready", flush=True)
sys.stdin.readline()
for first in range(1, jobs + 1, 1000):
    numbers = range(first, min(first + 1000, jobs + 1))
    data = [
        Queue.prepare_data(f"rq_tasks.{kind}", (n,), job_id=f"t{n}", result_ttl=86400, timeout=int(os.environ.get("RQ_TIMEOUT", "180")), retry=Retry(max=3))
        for n in numbers
    ]
    with connection.pipeline() as pipeline:
        queue.enqueue_many(data, pipeline=pipeline)
        pipeline.execute()
    sent += len(data)
print(sent)
