"""The systems that several.py compares: their servers, workers and clients, and each one's settings."""
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request

from run import BIN, HERE, VENV, answers, free_port, wait_for

RUNS, JOBS, WINDOW = (int(os.environ.get(name, default)) for name, default in (("RUNS", 5), ("JOBS", 5000), ("WINDOW", 256)))
US = 1000  # microseconds of each computation
WORKERS = 3
NATS_SERVER = os.environ.get("NATS_SERVER", f"{VENV}/nats-server")
SILENCE = 2000  # milliseconds without a reply or a job, after which gearmand's client and workers look for servers that answer


class System:
    """A system in a folder of its own. Its client prints the number of each reply, and at the end "again N"."""

    name, label = "", ""
    runs, ways = RUNS, ("killed", "frozen")
    background = False
    env = {}

    def __init__(self, folder, binaries):
        self.folder, self.binaries, self.record = folder, binaries, f"{folder}/executions"
        self.servers = []

    def start(self, *command, stdin=subprocess.DEVNULL, stdout=None):
        """Starts a process; its output goes to a file unless it is read."""
        command = [str(word) for word in command]
        with open(f"{self.folder}/{os.path.basename(command[0])}.log", "ab") as log:
            return subprocess.Popen(command, cwd=self.folder, env=dict(os.environ, **self.env), stdin=stdin, stdout=stdout or log, stderr=log)

    def used(self):
        """Returns the server that the client uses."""
        return self.servers[0]

    def executions(self):
        """Returns the numbers of what was computed."""
        try:
            with open(self.record) as f:
                return f.read().split()
        except FileNotFoundError:
            return []

    def end(self):
        """Kills every child, one that a signal has kept from `start` included."""
        with open(f"/proc/self/task/{os.getpid()}/children") as f:
            for pid in map(int, f.read().split()):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


class Giostra(System):
    """No setting but the names and the addresses."""

    name, label = "giostra", "Giostra, two brokers"

    def start_servers(self):
        self.ports = [(free_port(), free_port()) for _ in range(2)]
        for n, (front, back) in enumerate(self.ports):
            self.servers.append(self.start(
                f"{self.binaries}/giostra-broker", "--frontend", f"tcp://127.0.0.1:{front}", "--backend", f"tcp://127.0.0.1:{back}",
                "--log-dir", f"{self.folder}/log{n}", "--stderr-level", "warn",
            ))
        for front, _ in self.ports:
            wait_for(lambda front=front: answers(front))

    def start_workers(self):
        brokers = ",".join(f"tcp://127.0.0.1:{back}" for _, back in self.ports)
        for n in range(WORKERS):
            self.start(
                f"{self.binaries}/giostra-worker", "--broker", brokers, "--name", f"w{n}", "--log-level", "warn",
                "--exec-lines", f"{BIN}/lines {US} {self.record}", "--operation", "nap",
            )

    def start_client(self):
        with open(f"{self.folder}/numbers", "w") as f:
            f.writelines(f"{n}\n" for n in range(1, JOBS + 1))
        brokers = ",".join(f"tcp://127.0.0.1:{front}" for front, _ in self.ports)
        with open(f"{self.folder}/numbers") as numbers:
            return self.start(
                f"{self.binaries}/giostra", "--broker", brokers, "map", "nap", "--unordered", "--window", WINDOW, "--quiet",
                "--wait-workers", WORKERS, stdin=numbers, stdout=subprocess.PIPE,
            )


class Gearman(System):
    """Clients and workers that leave a server which is silent for a while, by loops around libgearman."""

    name, label = "gearman", "gearmand, two servers, foreground jobs"
    queue, silence = (), (SILENCE,)

    def start_servers(self):
        self.ports = [free_port() for _ in range(2)]
        for port in self.ports:
            self.servers.append(self.start(
                "gearmand", "--listen", "127.0.0.1", "--port", port, "--log-file", f"{self.folder}/{port}.log",
                "--pid-file", f"{self.folder}/{port}.pid", *(option.replace("PORT", f"{self.folder}/{port}") for option in self.queue),
            ))
        for port in self.ports:
            wait_for(lambda port=port: answers(port))

    def used(self):
        return next(server for server, port in zip(self.servers, self.ports) if self.has_jobs(port))

    def has_jobs(self, port):
        with socket.create_connection(("127.0.0.1", port), 1) as s:
            s.sendall(b"status\n")
            return any(line.startswith("nap\t") and line.split("\t")[1] != "0" for line in s.recv(4096).decode().splitlines())

    def list(self):
        return ",".join(map(str, self.ports))

    def start_workers(self):
        for _ in range(WORKERS):
            self.start(f"{BIN}/gear_worker", self.list(), US, self.record, *self.silence)

    def start_client(self):
        return self.start(f"{BIN}/gear_submit", self.list(), JOBS, WINDOW, SILENCE, stdout=subprocess.PIPE)


class GearmanBare(Gearman):
    """Workers that do nothing about a silent server."""

    name, label = "gearman-bare", "the same, without a loop around the workers (one run)"
    silence, runs, ways = (), 1, ("frozen",)


class Memory(Gearman):
    name, label = "memory", "gearmand, two servers, background jobs in memory (one run)"
    runs, ways, background = 1, ("killed",), True

    def submit(self):
        out = self.start(f"{BIN}/gear_submit", self.list(), JOBS, WINDOW, stdout=subprocess.PIPE).communicate()[0]
        if int(out) != JOBS:
            raise RuntimeError(f"acknowledged: {out}")


class Sqlite(Memory):
    name, label = "sqlite", "the same, with a queue in SQLite (one run)"
    queue = ("--queue-type", "libsqlite3", "--libsqlite3-db", "PORT.db")


class Nats(System):
    """Pings each second, two of them unanswered at most, by servers, client and workers; the settings of nats_peer.py."""

    name, label, kind = "nats", "NATS, three servers, request and reply", "core"
    jetstream = ""

    def start_servers(self):
        self.ports, routes, monitors = ([free_port() for _ in range(3)] for _ in range(3))
        for n, port in enumerate(self.ports):
            with open(f"{self.folder}/{n}.conf", "w") as f:
                f.write(
                    f'server_name: "s{n}"\nlisten: "127.0.0.1:{port}"\nhttp: "127.0.0.1:{monitors[n]}"\nping_interval: "1s"\nping_max: 2\n'
                    f'cluster {{ name: "several", listen: "127.0.0.1:{routes[n]}", routes: {[f"nats://127.0.0.1:{r}" for r in routes]} }}\n'
                    + self.jetstream.replace("STORE", f"{self.folder}/store{n}")
                )
            self.servers.append(self.start(NATS_SERVER, "--config", f"{self.folder}/{n}.conf"))
        for n, port in enumerate(monitors):
            wait_for(lambda n=n, port=port: self.others(port) >= {f"s{m}" for m in range(3) if m != n})
        self.prepare()

    def others(self, port):
        """Returns the names of the servers that this one has a route to."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/routez", timeout=1) as got:
                return {route.get("remote_name") for route in json.load(got)["routes"]}
        except OSError:
            return set()

    def prepare(self):
        pass

    def list(self, first):
        return ",".join(str(self.ports[(first + n) % 3]) for n in range(3))

    def python(self, what, *arguments, **options):
        return self.start(f"{VENV}/python", f"{HERE}/nats_peer.py", what, *arguments, **options)

    def start_workers(self):
        # One at each server.
        workers = [self.python(f"{self.kind}-worker", self.list(n), US, self.record, stdout=subprocess.PIPE) for n in range(WORKERS)]
        for worker in workers:
            if worker.stdout.readline() != b"ready\n":
                raise RuntimeError("a worker did not start")
        time.sleep(0.5)  # until the servers have told each other

    def start_client(self):
        return self.python(f"{self.kind}-client", self.list(0), JOBS, WINDOW, stdout=subprocess.PIPE)


class NatsBare(Nats):
    """nats-py's own interval of pings."""

    name, label = "nats-bare", "the same, with nats-py's own ping interval, 120 s (one run)"
    env, runs, ways = {"NATS_PING": "120"}, 1, ("frozen",)


class JetStream(Nats):
    name, label, kind = "jetstream", "NATS, three servers, JetStream, three copies", "js"
    jetstream = 'jetstream { store_dir: "STORE" }\n'

    def prepare(self):
        """Makes the streams. The worst case: the server that the client uses leads the stream of jobs, too."""
        leader = ""

        def made():
            nonlocal leader
            leader = self.python("setup", self.list(0), stdout=subprocess.PIPE).communicate()[0].decode().strip()
            return leader

        wait_for(made, step=0.5)
        first = int(leader[1:])
        self.ports, self.servers = (a[first:] + a[:first] for a in (self.ports, self.servers))


SYSTEMS = [Giostra, Gearman, GearmanBare, Nats, NatsBare, JetStream, Memory, Sqlite]
