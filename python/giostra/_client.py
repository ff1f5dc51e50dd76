"""The client for threads: futures, maps, and durable jobs."""

from __future__ import annotations

import functools
import importlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as _TimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from giostra import _logging, _native, _settings
from giostra._errors import Closed

Priority = Literal["high", "normal", "low"]

#: How many calls of a map are under way unless it is told otherwise.
WINDOW = 2000

#: Seconds between two looks at the workers that are there.
LOOK = 0.05

#: For how long a job is kept after its end: a week.
KEEP = 7 * 24 * 3600.0


def connect(
    broker: str | None,
    *,
    pool: str | None,
    name: str | None,
    priority: Priority | None,
    wait: bool,
    spread: bool | None,
    return_to_first: bool | None,
    broker_timeout: float | None,
    keys: str | Path | None,
    broker_key: str | Path | None,
) -> _native.Client:
    """Returns the native half of a client; what is not given is as the environment says."""
    _logging.start()
    both = _settings.keys(keys, broker_key, "GIOSTRA_KEYS")
    return _native.Client(
        _settings.text(broker, "GIOSTRA_FRONTEND", "tcp://127.0.0.1:5555"),
        name=name,
        pool=_settings.text(pool, "GIOSTRA_POOL", _settings.DEFAULT_POOL),
        priority=_settings.text(priority, "GIOSTRA_PRIORITY", "normal"),
        wait=wait,
        spread=_settings.switch(spread, "GIOSTRA_SPREAD"),
        return_to_first=_settings.switch(return_to_first, "GIOSTRA_RETURN_TO_FIRST"),
        broker_timeout=_settings.seconds(broker_timeout, "GIOSTRA_BROKER_TIMEOUT", 10.0),
        keys=both.own,
        broker_key=both.broker,
    )


class Results(Iterator[Any], Protocol):
    """The results of a map. Closed, or no longer referred to, it cancels the calls that are under way."""

    def close(self) -> None:
        """Cancels the calls that are under way, and ends the iteration."""


class CallFuture(Future[Any]):
    """The future result of a call. Cancelled, it cancels its request."""

    def __init__(
        self,
        client: Client | None = None,
        native: _native.Client | None = None,
        begin: Callable[[CallFuture], int] | None = None,
    ) -> None:
        super().__init__()
        self._native = native
        # A client lives as long as there are calls that it has not answered.
        self._client = client
        self._task = begin(self) if begin else None

    def cancel(self) -> bool:
        """Cancels the request, wherever it is, unless its result is here."""
        cancelled = super().cancel()
        # Those who wait are told by the one who takes the task away, which happens once.
        if cancelled and self._native is not None and self._task is not None and self._native.cancel(self._task):
            self.set_running_or_notify_cancel()
        if cancelled:
            self._client = None
        return cancelled

    def progress(self) -> tuple[int, int] | None:
        """How much is done, and of how much (0 if that is not known); None if the operation tells nothing."""
        if self._native is None or self._task is None or self.done():
            return None
        return self._native.progress(self._task)


class Client:
    """A client of Giostra's broker, for any number of threads.

    What is not given is taken from the environment, as the command line takes it: ``GIOSTRA_FRONTEND``,
    ``GIOSTRA_POOL``, ``GIOSTRA_PRIORITY``, ``GIOSTRA_SPREAD``, ``GIOSTRA_RETURN_TO_FIRST``, ``GIOSTRA_BROKER_TIMEOUT``, ``GIOSTRA_KEYS``, ``GIOSTRA_BROKER_KEY``.

    Args:
        broker: the endpoint of the broker's frontend, ``tcp://127.0.0.1:5555`` by default; of several
            brokers a list with commas: the next one is used where one is gone.
        pool: the pool whose workers compute, ``compute`` by default.
        name: the name in the broker's log and status, one word; by default of host and process.
        priority: how urgent requests are among those that wait, ``normal`` by default.
        wait: whether a request waits if its pool has no worker; otherwise it raises `NoWorker`.
        spread: whether several brokers are tried in an order that differs from one client to the next.
        return_to_first: whether to go back to a broker that goes before the one in use, once it is there
            again and nothing is under way.
        broker_timeout: seconds to wait for a broker, at the start or after a lost connection, before
            requests raise `NoBroker`; 10 by default.
        keys: the file of the client's secret certificate, for a broker with keys.
        broker_key: the broker's public key, or the file of its public certificate; of several brokers a
            list with commas in the same order.

    >>> import giostra
    >>> with giostra.Client() as client:
    ...     print(client.call("add", 1, 2))
    ...     print(list(client.map("is_prime", range(2, 6))))
    3
    [True, True, False, True]
    """

    def __init__(
        self,
        broker: str | None = None,
        *,
        pool: str | None = None,
        name: str | None = None,
        priority: Priority | None = None,
        wait: bool = True,
        spread: bool | None = None,
        return_to_first: bool | None = None,
        broker_timeout: float | None = None,
        keys: str | Path | None = None,
        broker_key: str | Path | None = None,
    ) -> None:
        self._native = connect(
            broker,
            pool=pool,
            name=name,
            priority=priority,
            wait=wait,
            spread=spread,
            return_to_first=return_to_first,
            broker_timeout=broker_timeout,
            keys=keys,
            broker_key=broker_key,
        )
        #: The pool whose workers compute.
        self.pool = self._native.pool
        self._delivery = threading.Thread(target=_deliver, args=(self._native,), name="giostra-delivery", daemon=True)
        self._delivery.start()
        # At the end of the interpreter, or of this object: the thread holds only the native half.
        self._end = weakref.finalize(self, _end, self._native, self._delivery, os.getpid())

    def call(
        self,
        operation: str,
        /,
        *args: Any,
        timeout: float | None = None,
        priority: Priority | None = None,
        **kwargs: Any,
    ) -> Any:
        """Calls an operation, and returns its result.

        Args:
            operation: the name under which workers offer it.
            args: its arguments, as `register` says.
            timeout: a time limit in seconds, after which it raises `Expired`, and is computed no more.
            priority: that of this call.
            kwargs: its keyword arguments, for workers in Python.

        Raises:
            Failed: if it has failed; ``traceback`` has the worker's.
            NoBroker: if no broker has answered in time.
        """
        return self._native.call_now(operation, args, kwargs, timeout, priority)

    def submit(
        self,
        operation: str,
        /,
        *args: Any,
        timeout: float | None = None,
        priority: Priority | None = None,
        **kwargs: Any,
    ) -> CallFuture:
        """Calls an operation, and returns the future of its result.

        >>> import giostra
        >>> from concurrent.futures import as_completed
        >>> with giostra.Client() as client:
        ...     futures = [client.submit("add", n, 1) for n in range(3)]
        ...     sorted(future.result() for future in as_completed(futures))
        [1, 2, 3]
        """
        return self._submit(operation, args, kwargs, timeout, priority)

    def map(
        self,
        operation: str,
        /,
        *iterables: Iterable[Any],
        ordered: bool = True,
        window: int = WINDOW,
        timeout: float | None = None,
        priority: Priority | None = None,
        return_exceptions: bool = False,
        progress: bool | str = False,
    ) -> Results:
        """Calls an operation for each item, as `map` does, and returns an iterator over the results.

        As many items are taken from the iterables, and as many results are kept, as the window has: both
        may be endless.

        Args:
            operation: the name under which workers offer it.
            iterables: each gives an argument of each call.
            ordered: whether results come in the order of the items, or as they arrive.
            window: how many calls are under way at once.
            timeout: the time limit of each call in seconds.
            priority: that of these calls.
            return_exceptions: whether a call that fails gives its exception as its result; otherwise it is
                raised, and the iterator can be gone on with.
            progress: whether to show a bar, with that title if it is a text, if tqdm is installed.
        """
        if window < 1:
            raise ValueError(f"a window of {window}: it takes at least 1")
        results = self._native.map(
            operation,
            zip(*iterables, strict=False),
            window=window,
            ordered=ordered,
            timeout=timeout,
            priority=priority,
            exceptions=return_exceptions,
        )
        return _with_bar(results, iterables, progress)

    def submit_job(
        self,
        operation: str,
        /,
        *iterables: Iterable[Any],
        key: str | None = None,
        name: str = "",
        priority: Priority = "low",
        timeout: float | None = None,
        retries: int = 0,
        keep: float | None = KEEP,
    ) -> Job:
        """Submits a durable job: calls that are computed, and results that are kept, whether or not this
        program lives on. Returns when all calls are safe on the broker's disk.

        Args:
            operation: the name under which workers offer it.
            iterables: each gives an argument of each call.
            key: makes the submission idempotent: the same key gives the same job, however often it is
                submitted. One word of at most 64 characters.
            name: a name for people, one word.
            priority: how urgent its calls are.
            timeout: the time limit of each attempt at a call in seconds, from when a worker has it.
            retries: how often a call that failed is computed again, after growing pauses.
            keep: for how many seconds after its end it is kept; None: until it is deleted.
        """
        id: str = self._ask(
            lambda future: self._native.submit_job(
                future,
                operation,
                zip(*iterables, strict=False),
                key=key,
                name=name,
                priority=priority,
                timeout=timeout,
                retries=retries,
                keep=keep,
            )
        )
        return self.job(id)

    def job(self, id: str) -> Job:
        """Returns the job with this id, which the broker is not asked for yet."""
        return Job(self._native, self._ask, id)

    def jobs(self) -> list[JobStatus]:
        """Returns the jobs that this client may see, the newest first."""
        return [JobStatus(**fields) for fields in self._ask(self._native.jobs)]

    def status(self) -> dict[str, Any]:
        """Returns the broker's status: workers, clients, pools, totals, as ``giostra status --json`` prints it."""
        status: dict[str, Any] = self._ask(self._native.status)
        return status

    def wait_for_workers(self, count: int = 1, timeout: float | None = None) -> None:
        """Waits until the pool has so many workers that take requests: a seat of `Worker.run` is one.

        Raises:
            TimeoutError: if it has fewer after so many seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while (found := self._ask(self._native.seats)) < count:
            time.sleep(next_look(found, count, end))

    def unanswered(self) -> int:
        """Returns how many calls and questions are not answered."""
        return self._native.unanswered()

    def close(self) -> None:
        """Ends the connection. What is not answered is cancelled."""
        self._end()
        # Also if another thread closes it, the callbacks have run afterwards.
        if self._delivery is not threading.current_thread():
            self._delivery.join(5.0)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit(
        self,
        operation: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None,
        priority: Priority | None,
    ) -> CallFuture:
        native = self._native
        return CallFuture(self, native, lambda future: native.call(future, operation, args, kwargs, timeout, priority))

    def _ask(self, begin: Callable[[CallFuture], int], timeout: float | None = None) -> Any:
        future = CallFuture()
        task = begin(future)
        try:
            return future.result(timeout)
        except _TimeoutError:
            self._native.cancel(task)
            raise TimeoutError(f"no answer within {timeout} s") from None
        except CancelledError:
            raise Closed("the client was closed meanwhile") from None
        except BaseException:
            self._native.cancel(task)
            raise


@dataclass(frozen=True)
class JobStatus:
    """How far a job is."""

    id: str
    state: Literal["open", "running", "finished", "cancelled"]
    requests: int
    succeeded: int
    failed: int
    name: str
    key: str
    pool: str
    priority: Priority
    owner: str
    """The public key of the client that has submitted it; empty without keys."""
    submitted: float
    """When it was submitted, in seconds since 1970."""
    ended: float | None
    """When it ended; None if it has not."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more of it is computed."""
        return self.state in ("finished", "cancelled")


class Job:
    """A durable job at the broker."""

    def __init__(self, native: _native.Client, ask: Callable[..., Any], id: str) -> None:
        self._native, self._of_client = native, ask
        #: Its id, by which any client of the same keys finds it.
        self.id = id

    def __repr__(self) -> str:
        return f"<giostra.Job {self.id}>"

    def status(self) -> JobStatus:
        """Returns how far it is.

        Raises:
            Refused: if there is no such job, or it is another's.
        """
        return self._ask("status")

    def wait(self, timeout: float | None = None) -> JobStatus:
        """Waits for its end.

        Raises:
            TimeoutError: if it has not ended after that many seconds.
        """
        return self._ask("wait", timeout)

    def cancel(self) -> JobStatus:
        """Ends it. The results that it has stay."""
        return self._ask("cancel")

    def retry(self) -> JobStatus:
        """Has the calls that failed computed again."""
        return self._ask("retry")

    def delete(self) -> None:
        """Deletes it with its results. It must have ended."""
        self._of_client(functools.partial(self._question, question="delete"))

    def results(self, first: int = 0, *, return_exceptions: bool = False) -> Iterator[Any]:
        """Returns an iterator over the results, in the order of the calls, of those that are there.

        Args:
            first: the number of the call to begin with.
            return_exceptions: whether a call that failed gives its exception; otherwise it is raised, and
                ends the iterator.
        """
        for _, ok, value in self.numbered(first):
            if not ok and not return_exceptions:
                raise value
            yield value

    def numbered(self, first: int = 0) -> Iterator[tuple[int, bool, Any]]:
        """Returns an iterator over the results that are there: the number of the call, whether it has
        succeeded, and the result or the exception."""
        while True:
            results = self._of_client(functools.partial(self._results, first=first))
            if not results:
                return
            yield from results
            first = results[-1][0] + 1

    def _results(self, future: CallFuture, first: int) -> int:
        return self._native.job_results(future, self.id, first)

    def _question(self, future: CallFuture, question: str) -> int:
        return self._native.job(future, self.id, question)

    def _ask(self, question: str, timeout: float | None = None) -> JobStatus:
        fields = self._of_client(functools.partial(self._question, question=question), timeout)
        return JobStatus(**fields)


def next_look(found: int, count: int, end: float | None) -> float:
    """Returns the seconds until the broker is asked again for its workers: it tells nobody by itself."""
    left = LOOK if end is None else end - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"{found} of {count} workers are there")
    return min(left, LOOK)


def resolve(future: Future[Any], ok: bool, value: Any) -> None:
    """Gives a future its result or exception, unless it was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    if ok:
        future.set_result(value)
    else:
        future.set_exception(value)


def _deliver(native: _native.Client) -> None:
    """Runs the thread that gives futures their results."""
    while (ended := native.take()) is not None:
        for future, ok, value in ended:
            resolve(future, ok, value)
            future._client = None
        # The last ones are not to live until the next ones come.
        ended = future = value = None
        native.wait()


def _end(native: _native.Client, delivery: threading.Thread, process: int) -> None:
    if os.getpid() != process:
        # After a fork, the connection and the futures are the parent's.
        return
    for future in native.close():
        if future.cancel():
            future.set_running_or_notify_cancel()
    if delivery is not threading.current_thread():
        delivery.join(5.0)


def _with_bar(results: _native.Map, iterables: tuple[Iterable[Any], ...], progress: bool | str) -> Results:
    if not progress:
        return results
    try:
        tqdm: Any = importlib.import_module("tqdm.auto").tqdm
    except ImportError:
        return results
    sizes = [len(iterable) for iterable in iterables if hasattr(iterable, "__len__")]  # type: ignore[arg-type]
    bar: Iterable[Any] = tqdm(
        results, total=min(sizes, default=None), desc=progress if isinstance(progress, str) else None
    )
    return _barred(results, bar)


def _barred(results: _native.Map, bar: Iterable[Any]) -> Generator[Any, None, None]:
    try:
        yield from bar
    finally:
        results.close()
