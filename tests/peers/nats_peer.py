"""A client and a worker of NATS, for several.py.

nats_peer.py setup SERVERS                             makes the streams, prints the name of the leader of the jobs' stream
nats_peer.py core-worker|js-worker SERVERS US FILE     prints "ready" when it is
nats_peer.py core-client|js-client SERVERS JOBS WINDOW

SERVERS: ports with commas; the first is connected to first. The client prints the number of each reply when it comes,
and at the end "again N": how many had no reply, or no acknowledgement, from their first attempt. Core: request and reply, the
workers in a queue group. JetStream: a work queue of jobs and a stream of results, three copies of each, in files.
"""
import asyncio
import os
import sys
import time

import nats
from nats.errors import Error
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType

TIMEOUT = 2  # seconds until a request or a publication counts as failed
PING = float(os.environ.get("NATS_PING", "1"))  # seconds between pings; nats-py's own default is 120
ACK_WAIT = 5  # seconds until a job that nobody has acknowledged is handed out again; JetStream's own default is 30
PATIENCE = 20  # seconds for which a request or a publication is tried again
PAUSE = 0.1  # seconds between two tries
FETCH = 16  # jobs that a worker of JetStream takes at once


async def connect(servers):
    return await nats.connect(
        [f"nats://127.0.0.1:{port}" for port in servers.split(",")], dont_randomize=True, ping_interval=PING,
        max_outstanding_pings=2, max_reconnect_attempts=-1,
    )


async def setup(servers):
    js = (await connect(servers)).jetstream(timeout=5)
    for name, retention in ("jobs", RetentionPolicy.WORK_QUEUE), ("results", RetentionPolicy.LIMITS):
        await js.add_stream(name=name, subjects=[name], retention=retention, num_replicas=3, storage=StorageType.FILE)
        config = ConsumerConfig(durable_name=name, ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT, max_ack_pending=10000)
        await js.add_consumer(name, config)
    print((await js.stream_info("jobs")).cluster.leader)


class Record:
    """Sleeps, and appends the number to a file: a computation."""

    def __init__(self, us, path):
        self.seconds = int(us) / 1e6
        self.fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def nap(self, number):
        await asyncio.sleep(self.seconds)
        os.write(self.fd, number + b"\n")


async def core_worker(servers, us, path):
    record = Record(us, path)
    nc = await connect(servers)

    async def nap(message):
        await record.nap(message.data)
        await message.respond(message.data)

    await nc.subscribe("nap", queue="workers", cb=nap)
    await nc.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


class Tries:
    """Tries something again until it succeeds; counts what did not at first."""

    def __init__(self):
        self.again = 0

    async def until_done(self, what):
        end, first = time.monotonic() + PATIENCE, True
        while time.monotonic() < end:
            try:
                return await what()
            except (Error, asyncio.TimeoutError, ConnectionError):
                self.again += first
                first = False
                await asyncio.sleep(PAUSE)
        return None


async def in_parallel(jobs, window, do):
    """Does `do` with each number, `window` at a time; those in which it fails do no more."""
    numbers = iter(range(1, jobs + 1))

    async def lane():
        for number in numbers:
            if not await do(number):
                break

    await asyncio.gather(*(lane() for _ in range(window)))


async def core_client(servers, jobs, window):
    nc = await connect(servers)
    tries = Tries()

    async def ask(number):
        reply = await tries.until_done(lambda: nc.request("nap", b"%d" % number, timeout=TIMEOUT))
        if reply:
            print(reply.data.decode(), flush=True)
        return reply

    await in_parallel(int(jobs), int(window), ask)
    print("again", tries.again)


def publish(js, subject, number):
    """Published twice under one id within two minutes, the stream keeps it once."""
    return lambda: js.publish(subject, number, timeout=TIMEOUT, headers={"Nats-Msg-Id": number.decode()})


async def fetch(consumer, count):
    try:
        return await consumer.fetch(count, timeout=TIMEOUT)
    except (Error, asyncio.TimeoutError):
        await asyncio.sleep(PAUSE)
        return []


async def js_worker(servers, us, path):
    record, tries = Record(us, path), Tries()
    js = (await connect(servers)).jetstream(timeout=5)
    jobs = await js.pull_subscribe_bind("jobs", stream="jobs")
    print("ready", flush=True)

    async def answer(message):
        if await tries.until_done(publish(js, "results", message.data)):
            await message.ack()

    while True:
        answers = []
        for message in await fetch(jobs, FETCH):
            await record.nap(message.data)
            answers.append(asyncio.create_task(answer(message)))
        await asyncio.gather(*answers)


async def js_client(servers, jobs, window):
    tries, room = Tries(), asyncio.Semaphore(int(window))
    js = (await connect(servers)).jetstream(timeout=5)
    results = await js.pull_subscribe_bind("results", stream="results")
    missing = set(range(1, int(jobs) + 1))

    async def submit(number):
        await room.acquire()
        return await tries.until_done(publish(js, "jobs", b"%d" % number))

    submitting = asyncio.create_task(in_parallel(int(jobs), int(window), submit))
    last = time.monotonic()
    while missing and time.monotonic() - last < PATIENCE:
        for message in await fetch(results, 100):
            last = time.monotonic()
            print(message.data.decode(), flush=True)
            if int(message.data) in missing:
                missing.remove(int(message.data))
                room.release()
            await message.ack()
    submitting.cancel()
    print("again", tries.again)


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[1].replace("-", "_")](*sys.argv[2:]))
