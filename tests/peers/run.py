"""Runs one of the peers once: run.py PEER JOBS KIND plain|killed [BINARIES]. Prints one line of key=value.

plain:  the server and three workers are ready; then JOBS requests are submitted while the workers compute. seconds: from the start of the
        submission to the last result being available; submit: to the last acknowledgement; cpu: CPU seconds meanwhile of all of the
        peer's processes, clients included, by the cgroup's account (this driver is not in it); collect: reading all of the results afterwards.
killed: JOBS requests are submitted; then the workers start; after half of the results the server is killed by -9, and started again after a
        second. When all has come to rest: results that are missing (stalled). If there are any, all workers are killed and started again, and
        what is missing when that has come to rest is lost. twice: computations beyond the first of each request.
"""
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# What setup.sh has made: programs in C, a virtual environment. The servers are the system's.
FOLDER = os.environ.get("PEERS") or os.path.abspath(f"{HERE}/../../target/peers")
BIN, VENV = f"{FOLDER}/bin", f"{FOLDER}/venv/bin"
WORKERS = 3
LIMIT = float(os.environ.get("LIMIT", "270"))  # seconds for the whole run


class OutOfTime(Exception):
    pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, seconds=60.0, step=0.02):
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise OutOfTime(f"waited {seconds} s")
        time.sleep(step)


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
        return True
    except OSError:
        return False


class Group:
    """A cgroup that everything but this driver runs in: what it used, and what is left of it at the end."""

    def __init__(self):
        name = f"compare_{os.getpid()}"
        self.v1 = os.path.isdir("/sys/fs/cgroup/cpuacct")
        self.path = f"/sys/fs/cgroup/cpuacct/{name}" if self.v1 else f"/sys/fs/cgroup/{name}"
        os.mkdir(self.path)

    def cpu(self):
        if self.v1:
            return int(open(f"{self.path}/cpuacct.usage").read()) / 1e9
        return int(open(f"{self.path}/cpu.stat").read().split()[1]) / 1e6

    def pids(self):
        return [int(p) for p in open(f"{self.path}/cgroup.procs").read().split()]

    def end(self):
        for _ in range(200):
            pids = self.pids()
            if not pids:
                break
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass
            time.sleep(0.02)
        os.rmdir(self.path)


class Peer:
    needs_workers_again = False  # whether workers end with the server, so that an operator starts them again
    note = ""
    rest = 20  # seconds without a new result that count as rest: more than the peer waits by itself before it gives anything out again

    def __init__(self, group, folder, jobs, kind, killed, binaries):
        self.group, self.folder, self.jobs, self.kind, self.killed = group, folder, jobs, kind, killed
        self.binaries = binaries
        self.us = 5000 if kind == "sleep5" else 0
        self.record = f"{folder}/executions"
        self.env = dict(os.environ, PYTHONPATH=HERE)
        self.worker_env = dict(self.env, EXEC_LOG=self.record) if killed else self.env
        self.deadline = time.monotonic() + LIMIT - 20
        self.server = None
        self.workers = []
        self.setup()

    def setup(self):
        pass

    def start(self, *command, env=None, stdin=None, stdout=None):
        """Starts a process in the group; its output goes to a file unless it is read."""
        wrap = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', self.group.path, *map(str, command)]
        log = open(f"{self.folder}/{os.path.basename(str(command[0]))}.log", "ab")
        return subprocess.Popen(wrap, env=env or self.env, cwd=self.folder, stdin=stdin or subprocess.DEVNULL, stdout=stdout or log, stderr=log)

    def call(self, *command, env=None, stdin=None, check=True):
        p = self.start(*command, env=env, stdin=stdin, stdout=subprocess.PIPE)
        try:
            out = p.communicate(timeout=max(1.0, self.deadline - time.monotonic()))[0].decode()
        except subprocess.TimeoutExpired:
            p.kill()
            raise OutOfTime(f"{os.path.basename(str(command[0]))} did not end in time") from None
        if check and p.returncode:
            raise RuntimeError(f"{command[:3]} ended with {p.returncode}: {out[-300:]}")
        return out

    def start_workers(self):
        self.workers = [self.start_worker(n) for n in range(WORKERS)]

    def kill_server(self):
        self.server.kill()
        self.server.wait()

    def wait_done(self, deadline):
        """Returns once all results are available, and how many are."""
        while (done := self.done()) < self.jobs and time.monotonic() < deadline:
            time.sleep(0.02)
        return done

    def details(self):
        return {}

    def executions(self):
        try:
            return open(self.record).read().split()
        except FileNotFoundError:
            return []


class Redis(Peer):
    """Redis with an append-only file that is synced before each answer."""

    def setup(self):
        self.port = free_port()
        for env in (self.env, self.worker_env):
            env["REDIS_PORT"] = str(self.port)
        sys.path[:0] = glob.glob(f"{FOLDER}/venv/lib/python3.*/site-packages")

    def start_server(self):
        self.server = self.start(
            "redis-server", "--port", self.port, "--bind", "127.0.0.1", "--dir", self.folder, "--save", "",
            "--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no",
        )
        wait_for(lambda: answers(self.port))
        wait_for(self.up)

    def up(self):
        import redis
        self.redis = redis.Redis(port=self.port, db=self.results_db)
        try:
            return self.redis.ping()
        except redis.exceptions.RedisError:
            return False

    def submit_by(self, script):
        """Runs a script that submits; what it takes until it says that it has loaded is not counted."""
        p = self.start(f"{VENV}/python", f"{HERE}/{script}", self.kind, self.jobs, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if p.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{script} did not load")
        self.began = time.monotonic(), self.group.cpu()
        try:
            out = p.communicate(b"go\n", timeout=max(1.0, self.deadline - time.monotonic()))[0]
        except subprocess.TimeoutExpired:
            p.kill()
            raise OutOfTime(f"{script} did not end in time") from None
        if p.returncode:
            raise RuntimeError(f"{script} ended with {p.returncode}")
        return int(out)

    def safe_done(self):
        import redis
        try:
            return self.done()
        except redis.exceptions.RedisError:
            return 0


class Celery(Redis):
    results_db = 1
    rest = 45  # visibility_timeout is 30 s here

    def version(self):
        return "celery-5.7.0+redis-7.0.15"

    def start_workers(self):
        # One worker with three processes, as Celery is used; CELERY_POOL=solo: three workers of one process, which do all in one thread.
        common = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]
        if os.environ.get("CELERY_POOL", "prefork") == "solo":
            self.workers = [
                self.start(f"{VENV}/celery", "-A", "celery_app", "worker", "--pool", "solo", "-n", f"w{n}", *common, env=self.worker_env) for n in range(WORKERS)
            ]
        else:
            self.workers = [self.start(f"{VENV}/celery", "-A", "celery_app", "worker", "--concurrency", WORKERS, *common, env=self.worker_env)]

    def ready(self):
        import redis
        clients = redis.Redis(port=self.port, db=0).client_list()
        return sum(c["cmd"] in ("brpop", "bzmpop", "blmove") for c in clients) >= len(self.workers)

    def submit(self):
        return self.submit_by("celery_submit.py")

    def done(self):
        return self.redis.dbsize()

    def collect(self):
        keys = [f"celery-task-meta-t{n}" for n in range(1, self.jobs + 1)]
        good = 0
        for first in range(0, self.jobs, 1000):
            for n, value in enumerate(self.redis.mget(keys[first:first + 1000]), first + 1):
                good += value is not None and json.loads(value)["result"] == n + (self.kind == "nothing")
        return good


class Rq(Redis):
    results_db = 0
    rest = 95  # 65 s until a job counts as abandoned, up to 15 + 5 s until somebody looks

    def setup(self):
        super().setup()
        if self.killed:
            # A job whose worker is gone is noticed when its timeout and a minute have passed, and an idle worker looks only between two
            # blocking reads, each of (worker-ttl - 15) s. With the defaults (180, 420, 600 s) that would take up to a quarter of an hour.
            self.env["RQ_TIMEOUT"] = self.worker_env["RQ_TIMEOUT"] = "5"

    def version(self):
        return "rq-3.0.0+redis-7.0.15"

    def start_worker(self, n):
        # SimpleWorker: in the worker's process, instead of a fork for each job.
        return self.start(
            f"{VENV}/rq", "worker", "--worker-class", os.environ.get("RQ_WORKER", "rq.SimpleWorker"), "--url", f"redis://127.0.0.1:{self.port}", "--quiet",
            "--name", f"w{n}-{time.time_ns()}", *(["--maintenance-interval", "5", "--worker-ttl", "30"] if self.killed else []), "default", env=self.worker_env,
        )

    def ready(self):
        clients = self.redis.client_list()
        return sum(c["cmd"] in ("blmove", "brpoplpush", "blpop", "brpop") for c in clients) >= WORKERS

    def submit(self):
        return self.submit_by("rq_submit.py")

    def done(self):
        return self.redis.zcard("rq:finished:default")

    def details(self):
        return {"marked_failed": self.redis.zcard("rq:failed:default"), "held_by_nobody": self.redis.zcard("rq:wip:default")}

    def collect(self):
        """Counts results by themselves, not jobs that say that they have one."""
        import pickle, base64, zlib
        good = 0
        for first in range(1, self.jobs + 1, 1000):
            pipe = self.redis.pipeline(transaction=False)
            numbers = range(first, min(first + 1000, self.jobs + 1))
            for n in numbers:
                pipe.xrevrange(f"rq:results:t{n}", "+", "-", count=1)
            for n, entries in zip(numbers, pipe.execute()):
                value = entries and entries[0][1].get(b"return_value")
                good += bool(value) and pickle.loads(base64.b64decode(value)) == n + (self.kind == "nothing")
        return good


class Gearman(Peer):
    note = "no-results-of-background-jobs:workers-write-a-file"

    def setup(self):
        self.port = free_port()
        self.record = f"{self.folder}/executions"
        self.counted, self.offset, self.seen = 0, 0, set()

    def version(self):
        return "gearmand-1.1.20+sqlite"

    def start_server(self):
        self.server = self.start(
            "gearmand", "--listen", "127.0.0.1", "--port", self.port, "--log-file", f"{self.folder}/gearmand.log",
            "--pid-file", f"{self.folder}/gearmand.pid", "--queue-type", "libsqlite3", "--libsqlite3-db", f"{self.folder}/queue.db",
        )
        wait_for(lambda: answers(self.port))

    def start_worker(self, n):
        return self.start(f"{BIN}/gear_worker", self.port, self.us, self.record)

    def ready(self):
        with socket.create_connection(("127.0.0.1", self.port)) as s:
            s.sendall(b"status\n")
            return any(line.split("\t")[0] == "nap" and line.split("\t")[3].strip() == str(WORKERS) for line in s.recv(4096).decode().splitlines() if "\t" in line)

    def submit(self):
        return int(self.call(f"{BIN}/gear_submit", self.port, self.jobs, os.environ.get("GEARMAN_BATCH", "1000"), check=False) or 0)

    def done(self):
        try:
            with open(self.record, "rb") as f:
                f.seek(self.offset)
                data = f.read()
        except FileNotFoundError:
            return 0
        data = data[:data.rfind(b"\n") + 1]
        self.offset += len(data)
        self.seen.update(data.split())
        return len(self.seen)

    def collect(self):
        return len(set(self.executions()))


class HyperQueue(Peer):
    needs_workers_again = True
    note = "a-process-a-task"

    def setup(self):
        self.hq = os.environ.get("HQ", "hq")
        for env in (self.env, self.worker_env):
            env.update(HQ_SERVER_DIR=f"{self.folder}/server", HOME=self.folder)
        self.offset = 0

    def version(self):
        return "hq-" + self.call(self.hq, "--version").split()[-1]

    def start_server(self):
        self.server = self.start(
            self.hq, "server", "start", "--journal", f"{self.folder}/journal", "--journal-flush-period", os.environ.get("HQ_FLUSH", "100ms"), "--host", "127.0.0.1",
        )
        wait_for(lambda: subprocess.run([self.hq, "server", "info"], env=self.env, capture_output=True).returncode == 0, step=0.2)

    def start_worker(self, n):
        return self.start(self.hq, "worker", "start", "--cpus", "1", env=self.worker_env)

    def ready(self):
        out = self.call(self.hq, "--output-mode", "json", "worker", "list")
        time.sleep(0.1)
        return len(json.loads(out)) >= WORKERS

    def submit(self):
        # Streams are the documented fast way. Killed: a file for each task's output, hq's default, since the reader of streams
        # (hq output-log) stumbles over tasks that ran again after a crash, and what it does not print need not be lost.
        os.mkdir(f"{self.folder}/out")
        output = ["--stdout", f"{self.folder}/out/%{{TASK_ID}}"] if self.killed else ["--stream", f"{self.folder}/stream"]
        self.call(self.hq, "submit", "--array", f"1-{self.jobs}", *output, "--stderr", "none", "--", f"{BIN}/task", self.us, env=self.worker_env)
        return self.jobs  # submit answers once the journal has it and is synced (hq's changelog)

    def wait_done(self, deadline):
        p = self.start(self.hq, "job", "wait", "1")
        try:
            p.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            p.kill()
        return self.done()

    def done(self):
        out = self.call(self.hq, "--output-mode", "json", "job", "info", "1", check=False)
        time.sleep(0.05)
        try:
            return json.loads(out)[0]["info"]["task_stats"]["finished"]
        except (ValueError, KeyError, IndexError, TypeError):
            return 0

    def collect(self):
        if not self.killed:
            out = self.call(self.hq, "output-log", f"{self.folder}/stream", "cat", "1", "stdout", check=False)
            return len({n for n in out.split() if n.isdigit() and 1 <= int(n) <= self.jobs})
        good = 0
        for n in range(1, self.jobs + 1):
            try:
                good += open(f"{self.folder}/out/{n}").read().strip() == str(n)
            except FileNotFoundError:
                pass
        return good


class Giostra(Peer):
    def setup(self):
        front, back = free_port(), free_port()
        for env in (self.env, self.worker_env):
            env.update(GIOSTRA_FRONTEND=f"tcp://127.0.0.1:{front}", GIOSTRA_BACKEND=f"tcp://127.0.0.1:{back}", GIOSTRA_BROKER_TIMEOUT="60s")
        self.front, self.job = front, None
        self.program = f"{self.binaries}/giostra"
        if self.killed:
            self.note = "workers-by---exec-lines-to-count-executions"

    def version(self):
        return "giostra-" + self.call(self.program, "--version").split()[-1]

    def start_server(self):
        self.server = self.start(f"{self.binaries}/giostra-broker", "--store", f"{self.folder}/store", "--log-dir", f"{self.folder}/log", "--stderr-level", "warn")
        wait_for(lambda: answers(self.front))

    def start_worker(self, n):
        count = ["--exec-lines", f"{BIN}/lines {self.us} {self.record}", "--operation", "nap"] if self.killed else []
        return self.start(f"{self.binaries}/giostra-worker", "--name", f"w{n}", "--log-level", "warn", *count, env=self.worker_env)

    def ready(self):
        return len(json.loads(self.call(self.program, "status", "--json"))["workers"]) >= WORKERS

    def submit(self):
        lines = f"{self.folder}/lines"
        with open(lines, "w") as f:
            for n in range(1, self.jobs + 1):
                f.write(f"{n}\n" if self.killed else "0.005\n" if self.kind == "sleep5" else f"{n} 1\n")
        self.began = time.monotonic(), self.group.cpu()  # the file is not the peer's work
        operation = "nap" if self.killed else "sleep" if self.kind == "sleep5" else "add"
        with open(lines) as f:
            self.job = self.call(self.program, "submit", operation, "--lines", stdin=f).split()[-1]
        return self.jobs

    def wait_done(self, deadline):
        p = self.start(self.program, "wait", self.job)
        try:
            if p.wait(timeout=max(0.1, deadline - time.monotonic())) == 0:
                return self.jobs
        except subprocess.TimeoutExpired:
            p.kill()
        return self.done()

    def done(self):
        try:
            status = json.loads(self.call(self.program, "job", self.job, "--json", check=False))
        except ValueError:
            return 0
        time.sleep(0.01)
        return status.get("succeeded", 0)

    def collect(self):
        got = self.call(self.program, "collect", self.job, check=False).splitlines()
        if self.killed:
            return sum(line.strip('"') == str(n) for n, line in enumerate(got, 1))
        if self.kind == "nothing":
            return sum(line == str(n + 1) for n, line in enumerate(got, 1))
        return sum(bool(line) for line in got)


PEERS = {"giostra": Giostra, "hyperqueue": HyperQueue, "gearman": Gearman, "celery": Celery, "rq": Rq}


def plain(peer):
    peer.start_server()
    peer.start_workers()
    wait_for(peer.ready)
    time.sleep(0.5)
    peer.began = time.monotonic(), peer.group.cpu()
    try:
        acknowledged = peer.submit()
    except OutOfTime:
        acknowledged = None  # the submitter did not come to the end; how many it got acknowledged is not known
    submitted = time.monotonic()
    done = peer.wait_done(peer.deadline) if acknowledged else peer.done()
    ended, cpu = time.monotonic(), peer.group.cpu()
    peer.deadline = ended + 60
    results = peer.collect() if done >= peer.jobs else done
    collected = time.monotonic()
    began, cpu_began = peer.began
    return {
        "seconds": f"{ended - began:.3f}", "submit": f"{submitted - began:.3f}", "cpu": f"{cpu - cpu_began:.3f}", "collect": f"{collected - ended:.3f}",
        "acknowledged": "not-ended" if acknowledged is None else acknowledged, "results": results,
        "end": "complete" if done >= peer.jobs == results else "results-missing" if done >= peer.jobs else "out-of-time",
    }


def until_rest(peer):
    """Returns how many results there are once they are all there, or none has come for as long as counts as rest."""
    count = getattr(peer, "safe_done", peer.done)
    last, progress = count(), time.monotonic()
    while last < peer.jobs and time.monotonic() < peer.deadline and time.monotonic() - progress < peer.rest:
        time.sleep(0.1)
        if (now := count()) != last:
            last, progress = now, time.monotonic()
    return last


def killed(peer):
    peer.start_server()
    began = time.monotonic()
    acknowledged = peer.submit()
    peer.start_workers()
    while (half := peer.done()) < peer.jobs // 2:
        if time.monotonic() > peer.deadline - 30:
            raise OutOfTime("half of the results were not there in time")
        time.sleep(0.005)
    peer.kill_server()
    killed_at = time.monotonic()
    executed = len(peer.executions())
    time.sleep(1)
    peer.start_server()
    restarted = time.monotonic()
    time.sleep(1)
    ended = sum(w.poll() is not None for w in peer.workers)
    if peer.needs_workers_again:
        peer.start_workers()
    else:
        # As a supervisor would: whatever of them ended is started again.
        for n, worker in enumerate(peer.workers):
            if worker.poll() is not None:
                peer.workers[n] = peer.start_worker(n) if hasattr(peer, "start_worker") else worker
    last = until_rest(peer)
    stalled = peer.jobs - last
    if stalled and time.monotonic() < peer.deadline:
        # Some may be held for workers that have hung since: an operator would start all of them again.
        for pid in peer.group.pids():
            if pid != peer.server.pid:
                os.kill(pid, signal.SIGKILL)
        peer.start_workers()
        last = until_rest(peer)
    end = "complete" if last >= peer.jobs else "at-rest" if time.monotonic() < peer.deadline else "out-of-time"
    settled = time.monotonic()
    peer.deadline = settled + 60
    time.sleep(1)
    results, ran = peer.collect(), peer.executions()
    missing = "unfinished" if end == "out-of-time" else "lost"
    out = {
        "seconds": f"{settled - began:.3f}", "down": f"{restarted - killed_at:.3f}", "at_kill": half, "executed_at_kill": executed, "acknowledged": acknowledged,
        "results": results, missing: acknowledged - results, "twice": len(ran) - len(set(ran)), "executions": len(ran), "workers_ended": ended, "stalled": stalled, "end": end,
    }
    if half >= peer.jobs:
        out["end"] += ",killed-too-late:all-results-were-there"
    return out | peer.details()


def main():
    name, jobs, kind, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    binaries = os.path.abspath(sys.argv[5]) if len(sys.argv) > 5 else os.path.abspath(f"{HERE}/../../target/dist")
    assert kind in ("sleep5", "nothing") and mode in ("plain", "killed")
    os.makedirs(f"{FOLDER}/run", exist_ok=True)
    folder = tempfile.mkdtemp(prefix=f"{name}-", dir=f"{FOLDER}/run")
    group = Group()

    def stop(number, frame):
        raise OutOfTime(f"signal {number}" if number != signal.SIGALRM else f"{LIMIT:.0f} s")

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(int(LIMIT) + 15)
    line = {"peer": name, "jobs": jobs, "kind": kind, "run": mode}
    peer = None
    try:
        peer = PEERS[name](group, folder, jobs, kind, mode == "killed", binaries)
        line["version"] = peer.version()
        line |= (plain if mode == "plain" else killed)(peer)
        if peer.note:
            line["note"] = peer.note
        good = True
    except Exception as error:  # the line says what went wrong
        line["error"] = f"{type(error).__name__}:{error}".replace(" ", "_").replace("\n", "_")[:300]
        good = False
        import traceback
        traceback.print_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        group.end()
    print(" ".join(f"{k}={v}" for k, v in line.items()), flush=True)
    if good and not os.environ.get("KEEP"):
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(not good)


if __name__ == "__main__":
    main()
