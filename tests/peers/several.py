"""Several servers of one system, one of which is lost in the middle of a batch: several.py [BINARIES].

Prints a table in Markdown, in less than ten minutes, and on stderr each run as a line of key=value. BINARIES: the folder of
Giostra's programs (default: target/dist). setup.sh makes what else is needed.

A client sends JOBS requests, WINDOW of them under way, to three workers, each of which sleeps a millisecond, records the
request's number in a file and answers with it. After a third of the replies the server that the client uses is killed by
-9, or frozen by SIGSTOP, and does not come back. The medians of RUNS runs:

failed   requests whose attempt by the client's own library ended without a reply, or without an acknowledgement. Without the
         loop around it that there is in gear_submit.c and nats_peer.py, these are lost. Giostra has no loop around it.
lost     requests without a reply in the end: the loops try for 20 seconds, and nothing is waited for much longer
replies  replies beyond the first of a request, as its caller sees them
twice    computations beyond the first of a request
gap      the longest time between two replies, in milliseconds; "-" if no more replies came

Rows with "(one run)" show a system without what these loops, or a setting, add. In the last ones jobs are gearmand's background
jobs: all of them are submitted before the workers start, "lost" was not computed, and the gap is between computations.

Environment: RUNS (5), JOBS (5000), WINDOW (256), HOW ("killed frozen"), RUN (the systems' names), NATS_SERVER (setup.sh's),
KEEP: not to remove the folders of the runs.
"""
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from run import FOLDER, HERE
from several_systems import JOBS, NATS_SERVER, RUNS, SYSTEMS, WINDOW

# gear_submit sends a window after the other: just after the beginning of one, as many are under way as with the others.
LOSE_AT = JOBS // 3 // WINDOW * WINDOW + WINDOW // 32
REST = 25.0  # seconds without a reply, after which no more are waited for: more than a client's loop takes
COLUMNS = {
    "failed": "failed at first", "lost": "lost", "replies": "replied twice", "twice": "computed twice", "gap_ms": "longest gap, ms",
}


def lose(server, how):
    server.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)


def figures(replies, again, executions, gap):
    unique = set(replies)
    if not unique <= {str(n) for n in range(1, JOBS + 1)}:
        raise RuntimeError(f"wrong replies: {sorted(unique)[:3]}")
    return {
        "failed": again, "lost": JOBS - len(unique), "replies": len(replies) - len(unique),
        "twice": len(executions) - len(set(executions)), "gap_ms": gap * 1000,
    }


def foreground(system, how):
    """Runs a batch in which a server is lost; returns what became of it."""
    system.start_servers()
    system.start_workers()
    client = system.start_client()
    os.set_blocking(client.stdout.fileno(), False)
    replies, again, part, gap, last, lost = [], 0, "", 0.0, None, False
    while select.select([client.stdout], [], [], REST)[0]:
        data, now = client.stdout.read(), time.monotonic()
        if not data:
            break
        *lines, part = (part + data.decode()).split("\n")
        for line in lines:
            if line.startswith("again"):
                again = int(line.split()[1])
            else:
                replies.append(line.strip('"'))
                gap, last = max(gap, now - (last or now)), now
        if not lost and len(replies) >= LOSE_AT:
            lose(system.used(), how)
            lost = True
    if not lost:
        raise RuntimeError(f"no server was lost: {len(replies)} replies")
    return figures(replies, again, system.executions(), gap)


def background(system, how):
    """The same for jobs that have no replies: what the workers computed is all that is known."""
    system.start_servers()
    system.submit()
    used = system.used()
    system.start_workers()
    seen, gap, last, lost = 0, 0.0, time.monotonic(), False
    while seen < JOBS and time.monotonic() - last < REST / 5:
        now, ran = time.monotonic(), len(set(system.executions()))
        if ran > seen:
            gap, last, seen = max(gap, now - last) if seen else 0.0, now, ran
        if not lost and ran >= LOSE_AT:
            lose(used, how)
            lost = True
        time.sleep(0.002)
    ran = system.executions()
    return figures(sorted(set(ran)), 0, ran, gap)


def once(kind, how, binaries):
    folder = tempfile.mkdtemp(prefix=f"{kind.name}-", dir=f"{FOLDER}/run")
    system, began = kind(folder, binaries), time.monotonic()
    try:
        out = (background if kind.background else foreground)(system, how)
    finally:
        system.end()
    if not os.environ.get("KEEP"):
        shutil.rmtree(folder, ignore_errors=True)
    line = [f"{k}={v:.1f}" if isinstance(v, float) else f"{k}={v}" for k, v in out.items()]
    print(f"system={kind.name} how={how}", *line, f"seconds={time.monotonic() - began:.1f}", file=sys.stderr, flush=True)
    return out


def machine(binaries):
    def first(*command):
        return subprocess.run(command, capture_output=True, text=True).stdout.strip().split("\n")[0]
    cpu = next(line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    versions = ", ".join(filter(None, (first(f"{binaries}/giostra", "--version"), first("gearmand", "--version").split(" -")[0], first(NATS_SERVER, "--version"))))
    return f"{time.strftime('%F')}: {versions}; {os.cpu_count()} cores ({cpu}), load {os.getloadavg()[0]:.1f}; {JOBS:,} requests, {WINDOW} under way"


def row(runs):
    """The medians. A gap that did not end is none."""
    medians = {key: statistics.median(run[key] for run in runs) for key in COLUMNS}
    return [f"{value:,.0f}" if key != "gap_ms" or not medians["lost"] else "-" for key, value in medians.items()]


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what it started ends with it
    binaries = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.abspath(f"{HERE}/../../target/dist")
    os.makedirs(f"{FOLDER}/run", exist_ok=True)
    chosen, ways = os.environ.get("RUN", "").split(), os.environ.get("HOW", "killed frozen").split()
    if unknown := set(chosen) - {kind.name for kind in SYSTEMS}:
        sys.exit(f"several.py: no such system: {' '.join(unknown)}")
    try:
        what = machine(binaries)
    except FileNotFoundError as error:
        sys.exit(f"several.py: {error.filename} is missing; see setup.sh")
    print(what, "", "| | | " + " | ".join(COLUMNS.values()) + " |", "|---" * (2 + len(COLUMNS)) + "|", sep="\n", flush=True)
    for kind in SYSTEMS:
        for how in kind.ways:
            if (chosen and kind.name not in chosen) or how not in ways:
                continue
            runs = [once(kind, how, binaries) for _ in range(min(RUNS, kind.runs))]
            print(f"| {kind.label} | {how} | " + " | ".join(row(runs)) + " |", flush=True)


if __name__ == "__main__":
    main()
