"""``python -m giostra worker MODULE:WORKER``: runs a worker that a module has."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys

import giostra
from giostra._settings import duration

EXAMPLES = """\
examples:
  python -m giostra worker tasks:worker --processes 4
  python -m giostra worker --allow-functions --processes 4
"""


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    top = argparse.ArgumentParser(
        prog="python -m giostra", description="The Python side of the compute broker Giostra."
    )
    top.add_argument("--version", action="version", version=f"giostra {giostra.__version__}")
    commands = top.add_subparsers(dest="command", required=True)
    worker = commands.add_parser(
        "worker",
        help="run a worker",
        description="Runs a worker: the functions of a module, or any (--allow-functions).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    worker.add_argument(
        "worker", nargs="?", metavar="MODULE:WORKER", help="module, and the name of the giostra.Worker in it [worker]"
    )
    worker.add_argument("--processes", type=int, metavar="N", help="seats, a process each [GIOSTRA_PROCESSES, 1]")
    worker.add_argument(
        "--broker", metavar="ENDPOINT", help="the broker's backend [GIOSTRA_BACKEND, tcp://127.0.0.1:5556]"
    )
    worker.add_argument("--name", help="name in the broker's log and status [GIOSTRA_NAME, HOST-PID]")
    worker.add_argument("--pool", help="pool whose requests to compute [GIOSTRA_POOL, compute]")
    worker.add_argument(
        "--threads", type=int, metavar="N", help="requests that a process computes at once [GIOSTRA_THREADS, 1]"
    )
    worker.add_argument(
        "--window", type=int, metavar="N", help="most requests that a process holds [GIOSTRA_WORKER_WINDOW]"
    )
    worker.add_argument(
        "--grace", type=duration, metavar="DURATION", help="time after a signal to finish [GIOSTRA_WORKER_GRACE, 30s]"
    )
    worker.add_argument(
        "--lifetime", type=duration, metavar="DURATION", help="leave after this time [GIOSTRA_WORKER_LIFETIME]"
    )
    worker.add_argument(
        "--idle-timeout",
        type=duration,
        metavar="DURATION",
        help="leave after this time without a request [GIOSTRA_WORKER_IDLE_TIMEOUT]",
    )
    worker.add_argument("--keys", metavar="FILE", help="the worker's secret certificate [GIOSTRA_WORKER_KEYS]")
    worker.add_argument("--broker-key", metavar="KEY|FILE", help="the broker's public key [GIOSTRA_BROKER_KEY]")
    worker.add_argument(
        "--allow-functions",
        action="store_true",
        default=None,
        help="compute any function that a giostra.Executor sends",
    )
    worker.add_argument(
        "--log-level", default="info", choices=["error", "warning", "info", "debug"], help="log level, to stderr [info]"
    )
    return top


def main() -> None:
    """Runs the command line of this process."""
    top = parser()
    args = top.parse_args()
    logging.basicConfig(level=args.log_level.upper(), format="%(asctime)s %(levelname)-5s %(message)s")
    if args.worker is None:
        if not args.allow_functions:
            top.error("name a worker as MODULE:WORKER, or --allow-functions")
        worker = giostra.Worker()
    else:
        worker = find(top, args.worker)
    options = "broker name pool threads window grace lifetime idle_timeout keys broker_key"
    for name in options.split():
        if (value := getattr(args, name)) is not None:
            setattr(worker, name, value)
    try:
        worker.run(processes=args.processes, allow_functions=args.allow_functions)
    except (RuntimeError, ValueError) as error:
        sys.exit(f"error: {error}")


def find(top: argparse.ArgumentParser, path: str) -> giostra.Worker:
    """Returns the worker that a path such as ``tasks:worker`` names."""
    module, _, name = path.partition(":")
    sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), name or "worker", None)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] and error.name != module:
            raise
        top.error(f"no module {module} in {sys.path[1:]}; is it in this folder?")
    if not isinstance(found, giostra.Worker):
        top.error(f"{module} has no giostra.Worker named {name or 'worker'}")
    return found


if __name__ == "__main__":
    main()
