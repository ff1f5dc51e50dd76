"""Giostra for Python beside its peers: the same calls by each, on this machine, in one run.

    GIOSTRA_BIN=target/dist python3 tests/python/compare.py [--rounds 3] [--peers NAME,NAME] [--quick]

Peers: concurrent.futures.ProcessPoolExecutor, multiprocessing.Pool, Dask distributed, ipyparallel (a load-balanced
view), Giostra's Client with a giostra.Worker, and giostra.Executor, each with three workers and otherwise with its
defaults. It needs numpy, and of the peers those that are to be measured:

    pip install ./python 'dask[distributed]' ipyparallel numpy cloudpickle

Each measurement is a process of its own, so that no peer pays for another's memory or threads; rounds go in turns
between peers, and figures are medians of the rounds. All results of all calls are checked. The functions are in a
module that the workers can import, so that each peer sends their names only.

What a measurement starts is a descendant of this process, also when its parent has died: it is ended with it.
It does not measure more than one machine, keys, or peers that are tuned.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import importlib.util
import itertools
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKERS = 3
NAP = 0.005
ARRAY = 1 << 17
"""Numbers in an array: 1 MiB of float64."""
AT_ONCE = 2 * WORKERS
"""Calls with arrays that are under way at once."""
LIMIT = 300.0
"""Seconds for one measurement of one peer; what has not been measured by then is left out."""
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Sizes:
    """How many calls of each kind there are."""

    single: int
    single_seconds: float
    submits: int
    small: int
    naps: int
    arrays: int
    futures: int


FULL = Sizes(5000, 3.0, 2000, 10_000, 2000, 300, 100_000)
QUICK = Sizes(300, 1.0, 300, 2000, 300, 60, 10_000)


def nothing(number: int) -> int:
    """Returns its argument: a call that costs nothing but the way."""
    return number


def nap(number: int) -> int:
    """Takes a while without using a core."""
    time.sleep(NAP)
    return number


def negative(array: Any) -> Any:
    """Returns another array of the same size."""
    return -array


# The peers.


@dataclass(frozen=True)
class Peer:
    """A system that has been started: how its users call it."""

    call: Callable[..., Any]
    submit: Callable[..., Any]
    results: Callable[[list[Any]], list[Any]]
    map: Callable[..., Iterable[Any]]
    has_chunks: bool = True


@contextmanager
def process_pool_executor() -> Iterator[Peer]:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS) as executor:
        yield of_executor(executor)


@contextmanager
def pool() -> Iterator[Peer]:
    from multiprocessing import Pool

    with Pool(WORKERS) as processes:
        yield Peer(
            call=lambda function, *args: processes.apply(function, args),
            submit=lambda function, *args: processes.apply_async(function, args),
            results=lambda futures: [future.get() for future in futures],
            map=processes.map,
        )


@contextmanager
def dask() -> Iterator[Peer]:
    from distributed import Client, LocalCluster

    # Otherwise equal calls are the same call.
    fresh = {"pure": False}
    with (
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, local_directory=os.getcwd()
        ) as cluster,
        Client(cluster) as client,
    ):
        yield Peer(
            call=lambda function, *args: client.submit(function, *args, **fresh).result(),
            submit=lambda function, *args: client.submit(function, *args, **fresh),
            results=client.gather,
            map=lambda function, items: client.gather(client.map(function, items, **fresh)),
            has_chunks=False,
        )


@contextmanager
def ipyparallel() -> Iterator[Peer]:
    from ipyparallel import Cluster

    os.environ["IPYTHONDIR"] = os.getcwd()
    cluster = Cluster(n=WORKERS, controller_ip="127.0.0.1")
    try:
        client = cluster.start_and_connect_sync()
        view = client.load_balanced_view()
        yield Peer(
            call=view.apply_sync,
            submit=view.apply_async,
            results=lambda futures: [future.get() for future in futures],
            map=view.map_sync,
        )
        client.close()
    finally:
        cluster.stop_cluster_sync()


@contextmanager
def giostra_client() -> Iterator[Peer]:
    with giostra_system() as client:
        yield Peer(
            call=lambda function, *args: client.call(function.__name__, *args),
            submit=lambda function, *args: client.submit(function.__name__, *args),
            results=lambda futures: [future.result() for future in futures],
            map=lambda function, items: client.map(function.__name__, items),
            has_chunks=False,
        )


@contextmanager
def giostra_executor() -> Iterator[Peer]:
    import giostra

    with giostra_system() as client, giostra.Executor(client) as executor:
        yield of_executor(executor)


def of_executor(executor: Any) -> Peer:
    """Returns the peer that is used as PEP 3148 says."""
    return Peer(
        call=lambda function, *args: executor.submit(function, *args).result(),
        submit=executor.submit,
        results=lambda futures: [future.result() for future in futures],
        map=executor.map,
    )


@contextmanager
def giostra_system() -> Iterator[Any]:
    """A client, a broker and a worker of three processes, at endpoints that it puts into the environment."""
    import giostra

    with socket.socket() as front, socket.socket() as back:
        for free, variable in ((front, "GIOSTRA_FRONTEND"), (back, "GIOSTRA_BACKEND")):
            free.bind(("127.0.0.1", 0))
            os.environ[variable] = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    broker = subprocess.Popen([broker_program() or "giostra-broker", "--log-dir", "log", "--stderr-level", "off"])
    worker = subprocess.Popen([sys.executable, __file__, "--worker"])
    try:
        with giostra.Client() as client:
            while len(client.status()["workers"]) < WORKERS:
                # The broker tells nobody when a worker has come.
                time.sleep(0.05)
            yield client
    finally:
        for process in (worker, broker):
            process.terminate()
            process.wait()


def run_worker() -> None:
    """Runs the worker of both of Giostra's peers."""
    import giostra

    worker = giostra.Worker()
    for function in (nothing, nap, negative):
        worker.operation(function)
    worker.run(processes=WORKERS, allow_functions=True)


def broker_program() -> str | None:
    """Returns the path of the broker: in GIOSTRA_BIN, or as it was built here."""
    target = Path(__file__).resolve().parents[2] / "target"
    named = os.environ.get("GIOSTRA_BIN")
    folders = [Path(named).resolve()] if named else [target / "dist", target / "release"]
    return next((str(folder / "giostra-broker") for folder in folders if (folder / "giostra-broker").exists()), None)


@dataclass(frozen=True)
class Known:
    """A peer that may be installed."""

    title: str
    start: Callable[[], Any]
    module: str


PEERS = {
    "executor": Known("ProcessPoolExecutor", process_pool_executor, "concurrent.futures"),
    "pool": Known("multiprocessing.Pool", pool, "multiprocessing"),
    "dask": Known("Dask distributed", dask, "distributed"),
    "ipyparallel": Known("ipyparallel", ipyparallel, "ipyparallel"),
    "giostra": Known("Giostra Client", giostra_client, "giostra"),
    "giostra-executor": Known("Giostra Executor", giostra_executor, "giostra"),
}


# The measurements: each yields the names of figures with their values.


def measure_calls(peer: Peer, sizes: Sizes) -> Iterator[tuple[str, float]]:
    """Calls one by one, submissions, maps, arrays, and what memory is taken afterwards."""
    import numpy

    equal(peer.map(nothing, range(100)), range(100))
    equal(-peer.call(negative, numpy.ones(ARRAY)), numpy.ones(ARRAY))

    end = time.perf_counter() + sizes.single_seconds
    times: list[float] = []
    while len(times) < sizes.single and time.perf_counter() < end:
        begin = time.perf_counter()
        result = peer.call(nothing, len(times))
        times.append(time.perf_counter() - begin)
        equal([result], [len(times) - 1])
    yield "single_rate", len(times) / sum(times)
    yield "single_p50", statistics.median(times) * 1e3

    times, futures = [], []
    for number in range(sizes.submits):
        begin = time.perf_counter()
        futures.append(peer.submit(nothing, number))
        times.append(time.perf_counter() - begin)
    equal(peer.results(futures), range(sizes.submits))
    del futures
    yield "submit_p50", statistics.median(times) * 1e6

    yield "map", map_rate(peer, nothing, sizes.small)
    if peer.has_chunks:
        yield "map_1", map_rate(peer, nothing, sizes.small, chunksize=1)
        yield "map_100", map_rate(peer, nothing, sizes.small, chunksize=100)
    yield "naps", map_rate(peer, nap, sizes.naps)
    yield "arrays", array_rate(peer, sizes.arrays)
    gc.collect()
    # Long enough for the others to have noticed, too.
    time.sleep(1.0)
    yield "memory", sum(memory(process, "Pss") for process in family(os.getpid()))
    yield "processes", len(family(os.getpid()))


def map_rate(peer: Peer, function: Callable[[int], int], count: int, **options: int) -> float:
    """Returns the calls a second of a map."""
    begin = time.perf_counter()
    results = list(peer.map(function, range(count), **options))
    taken = time.perf_counter() - begin
    equal(results, range(count))
    return count / taken


def array_rate(peer: Peer, count: int) -> float:
    """Returns the calls a second of arrays there and back."""
    import numpy

    arrays = [numpy.random.default_rng(seed).random(ARRAY) for seed in range(AT_ONCE)]
    expected = [-array for array in arrays]
    under_way: deque[Any] = deque()
    begin = time.perf_counter()
    for number in range(count + AT_ONCE):
        if number >= AT_ONCE:
            equal(peer.results([under_way.popleft()])[0], expected[number % AT_ONCE])
        if number < count:
            under_way.append(peer.submit(negative, arrays[number % AT_ONCE]))
    return count / (time.perf_counter() - begin)


def measure_futures(peer: Peer, sizes: Sizes) -> Iterator[tuple[str, float]]:
    """Many futures at once: the rate, and how much the processes grow meanwhile."""
    equal(peer.map(nothing, range(100)), range(100))
    processes = family(os.getpid())
    for process in processes:
        # Makes the peak what it takes now.
        Path(f"/proc/{process}/clear_refs").write_text("5")
    before = {process: memory(process, "Rss") for process in processes}
    begin = time.perf_counter()
    futures = [peer.submit(nothing, number) for number in range(sizes.futures)]
    results = peer.results(futures)
    taken = time.perf_counter() - begin
    equal(results, range(sizes.futures))
    growth = {process: peak(process) - rss for process, rss in before.items()}
    yield "futures_rate", sizes.futures / taken
    yield "futures_client", growth[os.getpid()]
    yield "futures_all", sum(growth.values())


def equal(results: Iterable[Any], expected: Iterable[Any]) -> None:
    """Fails unless these are the same."""
    same = (one == other for one, other in itertools.zip_longest(results, expected))
    if hasattr(results, "dtype"):
        same = iter([bool((results == expected).all())])
    if not all(same):
        raise AssertionError("a call has a wrong result")


STAGES = {"calls": measure_calls, "futures": measure_futures}


def measure(name: str, stage: str, sizes: Sizes, out: Path) -> None:
    """Measures a peer in this process, and writes the figures, each as soon as it is known."""
    adopt_orphans()
    with PEERS[name].start() as peer, out.open("w", buffering=1) as file:
        for figure in STAGES[stage](peer, sizes):
            print(json.dumps(figure), file=file)


# Processes, by Linux's /proc.


def adopt_orphans() -> None:
    """Makes this process the parent of descendants whose parent dies, so that they can be found."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def family(root: int) -> list[int]:
    """Returns a process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(entry.parent.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def memory(process: int, kind: str) -> float:
    """Returns what a process takes in MiB: Rss, or Pss, where shared pages are divided."""
    return megabytes(Path(f"/proc/{process}/smaps_rollup"), kind)


def peak(process: int) -> float:
    """Returns the most that a process has taken in MiB since its peak was reset."""
    return megabytes(Path(f"/proc/{process}/status"), "VmHWM")


def megabytes(path: Path, field: str) -> float:
    try:
        lines = path.read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def end_descendants() -> int:
    """Ends what a measurement has left. Returns how many that were."""
    left = family(os.getpid())[1:]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in family(os.getpid())[1:]:
            os.kill(process, number)
        end = time.monotonic() + 5.0
        while time.monotonic() < end:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.02)
            except ChildProcessError:
                return len(left)
    return len(left)


# The run.


NOTES = """
(Nx): Giostra's Client, or its Executor where the Client has no such thing, is N times as good; below 1 the peer is
better. By default, Pool's map makes large chunks; those of the others have one call each. Dask's scheduler is in the
client's process.
"""


def run(peers: list[str], rounds: int, quick: bool) -> int:
    """Measures these peers in turns, and prints the table. Returns the exit status."""
    adopt_orphans()
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in peers}
    notes: list[str] = []
    for number, stage, name in itertools.product(range(1, rounds + 1), STAGES, peers):
        print(f"round {number} of {rounds}: {stage}, {PEERS[name].title}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            out, log = Path(folder, "figures"), Path(folder, "output")
            command = [sys.executable, __file__, "--measure", name, stage, str(out)] + ["--quick"] * quick
            paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
            problem = None
            try:
                with log.open("w") as file:
                    status = subprocess.run(
                        command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT,
                        timeout=LIMIT, start_new_session=True
                    ).returncode
                if status != 0:
                    problem = f"ended with status {status}: {' / '.join(log.read_text().splitlines()[-5:])}"
            except subprocess.TimeoutExpired:
                problem = f"had not ended after {LIMIT:.0f} s"
            finally:
                left = end_descendants()
            if problem:
                notes.append(f"{PEERS[name].title}, {stage}, round {number}: {problem}")
            elif left:
                notes.append(f"{PEERS[name].title}, {stage}, round {number}: left {left} processes, which were ended")
            for line in out.read_text().splitlines() if out.exists() else ():
                figure, value = json.loads(line)
                figures[name].setdefault(figure, []).append(value)
    medians = {}
    for name, values in figures.items():
        medians[name] = {figure: statistics.median(of_rounds) for figure, of_rounds in values.items()}
    print_table(medians, QUICK if quick else FULL)
    print(*(f"\n{note}" for note in notes), sep="")
    return 1 if any(" ended with " in note for note in notes) else 0


def print_table(figures: dict[str, dict[str, float]], sizes: Sizes) -> None:
    """Prints the figures of all peers, and how many times as good Giostra's are."""
    rows = [
        ("single_rate", "calls one by one, a second", True),
        ("single_p50", "one call, p50, ms", False),
        ("submit_p50", "submit itself, p50, µs", False),
        ("map", f"map of {sizes.small:,}, calls a second", True),
        ("map_1", f"map of {sizes.small:,}, chunksize=1", True),
        ("map_100", f"map of {sizes.small:,}, chunksize=100", True),
        ("naps", f"map of {sizes.naps:,} of 5 ms, calls a second (ideal {WORKERS / NAP:.0f})", True),
        ("arrays", "1 MiB arrays there and back, calls a second", True),
        ("futures_rate", f"{sizes.futures:,} futures at once, calls a second", True),
        ("futures_client", f"{sizes.futures:,} futures: growth of the client, MiB", False),
        ("futures_all", f"{sizes.futures:,} futures: growth of all processes, MiB", False),
        ("memory", "idle afterwards: memory (PSS) of all, MiB", False),
        ("processes", "idle afterwards: processes", False),
    ]
    print("|  |", " | ".join(PEERS[name].title for name in figures), "|")
    print("|---|" + "---:|" * len(figures))
    for figure, title, more_is_better in rows:
        bases = [figures.get(name, {}).get(figure) for name in ("giostra", "giostra-executor")]
        base = next((value for value in bases if value), None)
        cells = []
        for of in figures.values():
            value = of.get(figure)
            ratio = (base / value if more_is_better else value / base) if base and value else None
            shown = "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
            better = f"{ratio:,.0f}" if ratio and ratio >= 10 else f"{ratio:.2g}" if ratio else ""
            cells.append(shown + (f" ({better}x)" if better else ""))
        print("|", " | ".join([title, *cells]), "|")
    print(NOTES)


def print_machine(peers: list[str]) -> None:
    """Prints what is measured, and where."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in info if line.startswith("model name")), platform.machine())
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{model}, {os.cpu_count()} cores; load before: {load}")
    print(f"Linux {platform.release()}; Python {platform.python_version()}")
    modules = dict.fromkeys(["numpy", *(PEERS[name].module for name in peers)])
    versions = {name: getattr(importlib.import_module(name), "__version__", None) for name in modules}
    print("; ".join(f"{name} {version}" for name, version in versions.items() if version))
    print(f"{WORKERS} workers each\n")


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds, in turns between the peers [3]")
    parser.add_argument("--peers", default=",".join(PEERS), metavar="NAME,NAME", help=f"of {', '.join(PEERS)} [all]")
    parser.add_argument("--quick", action="store_true", help="fewer calls: to see whether it works")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        run_worker()
        return 0
    if args.measure:
        # As a module that the workers import, too: what is in this one is of __main__.
        name, stage, out = args.measure
        compare = importlib.import_module("compare")
        compare.measure(name, stage, compare.QUICK if args.quick else compare.FULL, Path(out))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if named := os.environ.get("GIOSTRA_BIN"):
        # Measurements run in folders of their own.
        os.environ["GIOSTRA_BIN"] = str(Path(named).resolve())
    peers = []
    for name in args.peers.split(","):
        if name not in PEERS:
            parser.error(f"no peer {name}: there are {', '.join(PEERS)}")
        if importlib.util.find_spec(PEERS[name].module) is None:
            print(f"left out: {PEERS[name].title}, which is not installed ({PEERS[name].module})")
        elif PEERS[name].module == "giostra" and broker_program() is None:
            print(f"left out: {PEERS[name].title}: no giostra-broker in GIOSTRA_BIN, target/dist or target/release")
        else:
            peers.append(name)
    print_machine(peers)
    return run(peers, args.rounds, args.quick)


if __name__ == "__main__":
    sys.exit(main())
