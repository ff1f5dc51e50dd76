"""The worker: functions as operations, a process a seat."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, overload

from giostra import _functions, _logging, _native, _settings
from giostra._errors import Failed

F = TypeVar("F", bound=Callable[..., Any])

#: Tells a process that it is a seat: its number, and the process that has started it.
SEAT = "GIOSTRA_SEAT"

#: A seat that ended within this many seconds is started again after a pause, which doubles up to the second.
SOON, LONGEST_PAUSE = 5.0, 30.0

#: The exit status of a seat that the broker does not take, or that is set up wrongly.
REFUSED = 78

_log = logging.getLogger("giostra.worker")


class Worker:
    """A worker of Giostra's broker: its operations are functions.

    What is not given is taken from the environment, as ``giostra-worker`` takes it: ``GIOSTRA_BACKEND``,
    ``GIOSTRA_POOL``, ``GIOSTRA_NAME``, ``GIOSTRA_HOST``, ``GIOSTRA_THREADS``, ``GIOSTRA_WORKER_WINDOW``,
    ``GIOSTRA_WORKER_GRACE``, ``GIOSTRA_WORKER_LIFETIME``, ``GIOSTRA_WORKER_IDLE_TIMEOUT``, ``GIOSTRA_WORKER_KEYS``,
    ``GIOSTRA_BROKER_KEY``.

    Args:
        broker: the endpoint of the broker's backend, ``tcp://127.0.0.1:5556`` by default.
        pool: the pool to register in, ``compute`` by default.
        name: the name in the broker's log and status, one word; with several processes, each adds its
            number. By default of host and process.
        threads: how many requests each process computes at once.
        window: the most requests that a process holds; 0 leaves that to the broker.
        grace: seconds to finish what is held after a signal; 30 by default.
        lifetime: seconds after which to leave, as after a signal: before a batch system's limit, minus
            ``grace``. Up to a tenth earlier, by chance, so that workers do not leave together.
        idle_timeout: seconds without a request after which to leave, also without a broker.
        keys: the file of the worker's secret certificate, for a broker with keys.
        broker_key: the broker's public key, or the file of its public certificate.

    >>> import giostra
    >>> worker = giostra.Worker(pool="text")
    >>> @worker.operation
    ... def shout(text: str) -> str:
    ...     return text.upper()
    >>> shout("ciao")
    'CIAO'
    >>> worker.run(processes=4)  # doctest: +SKIP
    """

    def __init__(
        self,
        broker: str | None = None,
        *,
        pool: str | None = None,
        name: str | None = None,
        threads: int | None = None,
        window: int | None = None,
        grace: float | None = None,
        lifetime: float | None = None,
        idle_timeout: float | None = None,
        keys: str | Path | None = None,
        broker_key: str | Path | None = None,
    ) -> None:
        self.broker, self.pool, self.name, self.threads = broker, pool, name, threads
        self.window, self.grace, self.lifetime, self.idle_timeout = window, grace, lifetime, idle_timeout
        self.keys, self.broker_key = keys, broker_key
        self._functions: dict[str, tuple[Callable[..., Any], bool]] = {}

    @overload
    def operation(self, function: F, /) -> F: ...
    @overload
    def operation(self, /, *, name: str) -> Callable[[F], F]: ...
    def operation(self, function: Any = None, /, *, name: str | None = None) -> Any:
        """Makes a function an operation, under its own name or another.

        Its arguments and its result are what can be sent: see `register`. An exception becomes an error
        reply. If its first parameter is annotated as `giostra.Context`, it gets that of the request: to
        tell its progress, and to learn that nobody waits any more. A coroutine function is run to its end in an
        event loop of its thread.
        """
        if function is None:
            return functools.partial(self._add, name=name)
        return self._add(function, name)

    def _add(self, function: F, /, name: str | None) -> F:
        called: Callable[..., Any] = function
        if inspect.iscoroutinefunction(function):
            called = functools.wraps(function)(functools.partial(_run, function))
        self._functions[name or function.__name__] = called, _takes_context(function)
        return function

    def run(self, *, processes: int | None = None, allow_functions: bool | None = None) -> None:
        """Registers and computes until SIGINT or SIGTERM, then finishes what is held, and returns.

        Args:
            processes: how many seats there are, each a process of its own, in which the program is started
                again up to this call. One that dies, whatever of, is started again. 0: in this process,
                where a crash of the interpreter is the end. ``GIOSTRA_PROCESSES``, or 1.
            allow_functions: whether executors may have it compute any function, which is to run any code.
                ``GIOSTRA_ALLOW_FUNCTIONS=true``, or not.

        Raises:
            RuntimeError: if the broker refuses the worker or its key, with ``processes=0``; otherwise the
                program ends with status 1.
        """
        if allow_functions is None:
            allow_functions = os.environ.get("GIOSTRA_ALLOW_FUNCTIONS", "").lower() in ("1", "true", "yes")
        processes = _settings.number(processes, "GIOSTRA_PROCESSES", 1)
        seat = os.environ.pop(SEAT, None)
        if seat is not None:
            number, parent, served, begun = map(int, seat.split("/"))
            _native.end_with_parent(signal.SIGTERM)
            if os.getppid() != parent:
                sys.exit(1)
            os.pwrite(served, b"\1", number)
            os.close(served)
            try:
                self._serve(number if processes > 1 else None, allow_functions, begun)
            except (RuntimeError, ValueError) as error:
                _log.error("%s", error)
                sys.exit(REFUSED)
            # What the program does after this call is for the process that was started first.
            sys.exit()
        elif processes == 0:
            self._serve(None, allow_functions, time.monotonic_ns())
        else:
            status = _Seats(processes).run()
            if status:
                sys.exit(status)

    def _serve(self, number: int | None, allow_functions: bool, begun: int) -> None:
        if not logging.getLogger().handlers:
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-5s %(message)s")
        _logging.start()
        name = self.name or os.environ.get("GIOSTRA_NAME")
        keys = _settings.keys(self.keys, self.broker_key, "GIOSTRA_WORKER_KEYS")
        lifetime = _settings.seconds(self.lifetime, "GIOSTRA_WORKER_LIFETIME", 0.0)
        if lifetime:
            # A seat that was started again is as old as the program.
            lifetime = max(lifetime - (time.monotonic_ns() - begun) / 1e9, 0.001)
        functions = {_functions.OPERATION: (_functions.compute if allow_functions else _functions.refuse, False)}
        running = _native.serve_seat(
            functions | self._functions,
            broker=_settings.text(self.broker, "GIOSTRA_BACKEND", "tcp://127.0.0.1:5556"),
            name=f"{name}-{number}" if name and number is not None else name,
            host=os.environ.get("GIOSTRA_HOST") or None,
            pool=_settings.text(self.pool, "GIOSTRA_POOL", _settings.DEFAULT_POOL),
            threads=_settings.number(self.threads, "GIOSTRA_THREADS", 1),
            window=_settings.number(self.window, "GIOSTRA_WORKER_WINDOW", 0),
            grace=_settings.seconds(self.grace, "GIOSTRA_WORKER_GRACE", 30.0),
            lifetime=lifetime,
            idle_timeout=_settings.seconds(self.idle_timeout, "GIOSTRA_WORKER_IDLE_TIMEOUT", 0.0),
            keys=keys.own,
            broker_key=keys.broker,
        )
        if running:
            # What still computes has had its time. The interpreter would wait for it, or crash with it.
            _logging.stop()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)


class _Seats:
    """The processes of a worker, and the one that looks after them."""

    def __init__(self, count: int) -> None:
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._since = time.monotonic_ns()
        self._begun = dict.fromkeys(range(1, count + 1), 0.0)
        self._pauses = dict.fromkeys(range(1, count + 1), 0.0)
        #: When those that have died are started again.
        self._due: dict[int, float] = {}
        #: The seats whose processes have ended, each with its exit status, and None to look up.
        self._news: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        #: A file with a byte for each seat: whether its process has come as far as to serve.
        self._served = os.memfd_create("seats", 0)
        self._ends = False
        self._status = 0

    def run(self) -> int:
        """Starts them, starts those again that have died, and ends them at a signal. Returns the exit status."""
        command = _command()
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("run() starts processes, from the main thread only; run(processes=0) does not")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._end)
        for seat in self._begun:
            if not self._ends:
                self._start(seat, command)
        while self._processes or self._due:
            pause = max(0.0, min(self._due.values()) - time.monotonic()) if self._due else None
            try:
                news = self._news.get(timeout=pause)
            except queue.Empty:
                news = None
            if news is not None:
                self._processes.pop(news[0])
                self._ended(*news)
            if self._ends:
                self._due.clear()
            for seat in [seat for seat, due in self._due.items() if due <= time.monotonic()]:
                del self._due[seat]
                self._start(seat, command)
        return self._status

    def _ended(self, seat: int, code: int) -> None:
        if self._ends:
            # One that was about to begin has held nothing.
            self._status = self._status or (1 if code not in (0, -signal.SIGTERM) else 0)
            return
        if code == 0:
            # It was drained, or is old or idle enough to leave.
            return
        lived = time.monotonic() - self._begun[seat]
        is_lame = code == 1 and lived < SOON and self._pauses[seat] >= 1.0 and not self._has_served(seat)
        if code == REFUSED or is_lame:
            # It has said why. That is for good, also if it can't even begin, so often.
            self._status = 1
            self._end(signal.SIGTERM, None)
            return
        self._pauses[seat] = min(max(0.25, 2 * self._pauses[seat]), LONGEST_PAUSE) if lived < SOON else 0.0
        self._due[seat] = time.monotonic() + self._pauses[seat]
        how = f"by signal {_signal(-code)}" if code < 0 else f"with status {code}"
        _warn(f"seat {seat} ended {how}: started again" + (f" in {self._pauses[seat]} s" if self._pauses[seat] else ""))

    def _has_served(self, seat: int) -> bool:
        """Whether a seat's process has come as far as to serve."""
        return os.pread(self._served, 1, seat) != b"\0"

    def _start(self, seat: int, command: list[str]) -> None:
        self._begun[seat] = time.monotonic()
        environment = os.environ | {SEAT: f"{seat}/{os.getpid()}/{self._served}/{self._since}"}
        os.pwrite(self._served, b"\0", seat)
        # Of a session of its own: Ctrl-C reaches this process alone, which tells each once.
        process = subprocess.Popen(command, env=environment, start_new_session=True, pass_fds=[self._served])
        self._processes[seat] = process
        if self._ends:
            # By a signal in between.
            process.terminate()
        # Each is waited for by itself: other children may be the program's own.
        wait = threading.Thread(target=lambda: self._news.put((seat, process.wait())), daemon=True)
        wait.start()

    def _end(self, _number: int, _frame: object) -> None:
        self._ends = True
        for process in list(self._processes.values()):
            process.send_signal(signal.SIGTERM)
        self._news.put(None)


def _signal(number: int) -> str:
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        # Such as those for real time, of which only the first and the last have names.
        return str(number)


def _warn(text: str) -> None:
    if logging.getLogger().handlers:
        _log.warning("%s", text)
    else:
        print(text, file=sys.stderr, flush=True)


def _command() -> list[str]:
    """Returns the command by which this program was started."""
    command = list(sys.orig_argv)
    if len(command) < 2 or command[1] in ("-", "-i") or hasattr(sys, "ps1"):
        raise RuntimeError("the worker's processes run this program again: put it into a file, or run(processes=0)")
    return [sys.executable, *command[1:]]


def _takes_context(function: Callable[..., Any]) -> bool:
    """Whether the first parameter is annotated as the context."""
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except (TypeError, ValueError):
        return False
    if first is None:
        return False
    written = first.annotation
    return written is _native.Context or written in ("Context", "giostra.Context")


_loops = threading.local()


def _run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs a coroutine function in the event loop of this thread."""
    loop = getattr(_loops, "loop", None)
    if loop is None:
        loop = _loops.loop = asyncio.new_event_loop()
    try:
        coroutine = function(*args, **kwargs)
    except TypeError as error:
        # Nothing of the function has run: the arguments are not its.
        raise Failed("invalid", f"TypeError: {error}") from None
    return loop.run_until_complete(coroutine)
