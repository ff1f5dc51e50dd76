"""The executor of PEP 3148: any function, computed by the workers of a pool."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor as _Executor
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar, cast

from giostra import _functions
from giostra._client import Client, Priority, resolve

T = TypeVar("T")


class Executor(_Executor):
    """Calls functions by workers that were started with ``--allow-functions``.

    As `concurrent.futures.ProcessPoolExecutor`, with workers that may be on other machines, and that may be
    lost: what they had is computed by others. A function is sent by value; with cloudpickle installed,
    lambdas and functions of ``__main__`` are, too. Arguments and results are pickled.

    Whoever may submit to such a worker runs code there: docs/security.md.

    Args:
        client: the client whose connection it uses; without one, it makes its own of the other arguments,
            which are those of `Client`.

    >>> import giostra
    >>> with giostra.Executor() as executor:  # doctest: +SKIP
    ...     list(executor.map(pow, [2, 3], [10, 2]))
    [1024, 9]
    """

    def __init__(
        self,
        client: Client | None = None,
        *,
        broker: str | None = None,
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
        self._owns = client is None
        self._client = client or Client(
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
        self._pending: set[_CallFuture] = set()
        self._idle = threading.Condition()
        self._is_shut = False
        _open.add(self)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Calls a function, and returns the future of its result."""
        return self._submit(fn.dumped if isinstance(fn, _Dumped) else _functions.dumps(fn), args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **others: Any,
    ) -> Iterator[T]:
        """As `Executor.map`; with a ``chunksize``, a request has so many calls."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(cast(Callable[..., T], _Dumped(fn)), *iterables, timeout=timeout, **others)
        calls = zip(*iterables, strict=False)
        chunks = iter(lambda: list(itertools.islice(calls, chunksize)), [])
        chunk = cast(Callable[..., list[T]], _Dumped(_Chunk(fn)))
        results = super().map(chunk, chunks, timeout=timeout, **others)
        return itertools.chain.from_iterable(results)

    def seats(self) -> int:
        """Returns how many calls the workers of the pool compute at once."""
        workers = self._client.status()["workers"]
        return sum(int(worker["threads"]) for worker in workers if worker["pool"] == self._client.pool)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls. Those that were submitted are computed, unless they are to be cancelled."""
        with self._idle:
            self._is_shut = True
            pending = list(self._pending)
        if cancel_futures:
            for future in pending:
                future.cancel()
        if wait:
            with self._idle:
                self._idle.wait_for(lambda: not self._pending)
            if self._owns:
                self._client.close()

    def _submit(self, function: bytes, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        arguments = _functions.dumps((args, kwargs))
        with self._idle:
            if self._is_shut or _exiting:
                raise RuntimeError("cannot schedule new futures after shutdown")
            future = _CallFuture()
            self._pending.add(future)
        try:
            call = self._client.submit(_functions.OPERATION, _functions.VERSION, function, arguments)
        except BaseException:
            self._forget(future)
            raise
        future.call = call
        future.add_done_callback(self._forget)
        call.add_done_callback(future.end)
        return future

    def _forget(self, future: Future[Any]) -> None:
        with self._idle:
            self._pending.discard(future)
            if self._pending:
                return
            self._idle.notify_all()
            closes = self._is_shut and self._owns
        if closes:
            # After a shutdown that did not wait. Not from the thread that delivers, which would wait for itself.
            threading.Thread(target=self._client.close, name="giostra-close", daemon=True).start()


class _CallFuture(Future[Any]):
    """The future of a function's result, which comes as the result of a call."""

    call: Future[Any] | None = None

    def cancel(self) -> bool:
        cancelled = super().cancel()
        call = self.call
        # It tells those who wait.
        if cancelled and call is not None:
            call.cancel()
        return cancelled

    def end(self, call: Future[Any]) -> None:
        # The call has this as its callback: without the cycle, a result goes with the last reference to it.
        self.call = None
        if call.cancelled():
            if super().cancel():
                self.set_running_or_notify_cancel()
            return
        error = call.exception()
        try:
            ok, value = (True, _functions.result(call.result())) if error is None else (False, error)
        except BaseException as raised:
            ok, value = False, raised
        resolve(self, ok, value)
        # Not kept alive by the frames of the one who raised it.
        del error, value, call


class _Dumped:
    """A function as it is sent, made once for a map."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.dumped = _functions.dumps(function)

    def __call__(self) -> None:
        raise TypeError("it is called by a worker only")


class _Chunk:
    """A function that is called for each item of a list."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, calls: list[tuple[Any, ...]]) -> list[Any]:
        return [self.function(*args) for args in calls]


_open: weakref.WeakSet[Executor] = weakref.WeakSet()
_exiting = False


def _exit() -> None:
    """Waits, at the end of the interpreter, for what was submitted, as the other executors do."""
    global _exiting
    _exiting = True
    for executor in list(_open):
        executor.shutdown(wait=True)


# As concurrent.futures itself does: before the end of the threads is waited for. It is not public, and has
# been there since 3.9.
threading._register_atexit(_exit)  # type: ignore[attr-defined]
# A process that was forked has nobody to wait for.
os.register_at_fork(after_in_child=_open.clear)
