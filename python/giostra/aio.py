"""The client for asyncio: no thread a call, and a cancelled task cancels its request.

async with giostra.aio.Client() as client:
    print(await client.call("add", 1, 2))
    async for prime in client.map("is_prime", range(2, 10)):
        print(prime)
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from giostra import _native
from giostra._errors import Closed
from giostra._client import KEEP, JobStatus, Priority, connect, next_look

#: How many calls of a map are under way unless it is told otherwise.
WINDOW = 1000


class Client:
    """As `giostra.Client`, for the event loop that it is made in."""

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
        self._loop = asyncio.get_running_loop()
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
        self._descriptor: int | None = os.dup(self._native.fileno())
        self._loop.add_reader(self._descriptor, self._deliver)

    async def call(
        self,
        operation: str,
        /,
        *args: Any,
        timeout: float | None = None,
        priority: Priority | None = None,
        **kwargs: Any,
    ) -> Any:
        """Calls an operation: see `giostra.Client.call`."""
        future = self._future()
        return await self._answer(future, self._native.call(future, operation, args, kwargs, timeout, priority))

    async def map(
        self,
        operation: str,
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True,
        window: int = WINDOW,
        timeout: float | None = None,
        priority: Priority | None = None,
        return_exceptions: bool = False,
    ) -> AsyncIterator[Any]:
        """Calls an operation for each item, and gives the results: see `giostra.Client.map`. The iterables
        may be asynchronous."""
        if window < 1:
            raise ValueError(f"a window of {window}: it takes at least 1")
        woken = asyncio.Event()
        items = _Items(self._loop, iterables, woken)
        under_way: deque[asyncio.Task[Any]] = deque()
        unordered: set[asyncio.Task[Any]] = set()
        finished: deque[asyncio.Task[Any]] = deque()

        def is_done(call: asyncio.Task[Any]) -> None:
            if not ordered:
                finished.append(call)
            woken.set()

        try:
            while True:
                while len(under_way) + len(unordered) < window and (args := items.next()) is not None:
                    call = self._loop.create_task(self.call(operation, *args, timeout=timeout, priority=priority))
                    call.add_done_callback(is_done)
                    under_way.append(call) if ordered else unordered.add(call)
                if ordered and under_way and under_way[0].done():
                    call = under_way.popleft()
                elif finished:
                    call = finished.popleft()
                    unordered.discard(call)
                elif items.is_over and not under_way and not unordered:
                    if items.error is not None:
                        raise items.error
                    return
                else:
                    await woken.wait()
                    woken.clear()
                    continue
                error = call.exception()
                if error is None:
                    yield call.result()
                elif return_exceptions:
                    yield error
                else:
                    raise error
        finally:
            items.close()
            for call in (*under_way, *unordered):
                if not call.cancel() and not call.cancelled():
                    # It has been looked at, and is not to be reported.
                    call.exception()

    async def submit_job(
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
        """Submits a durable job: see `giostra.Client.submit_job`."""
        future = self._future()
        task = self._native.submit_job(
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
        return self.job(await self._answer(future, task))

    def job(self, id: str) -> Job:
        """Returns the job with this id, which the broker is not asked for yet."""
        return Job(self._native, self._ask, id)

    async def jobs(self) -> list[JobStatus]:
        """Returns the jobs that this client may see, the newest first."""
        future = self._future()
        return [JobStatus(**fields) for fields in await self._answer(future, self._native.jobs(future))]

    async def status(self) -> dict[str, Any]:
        """Returns the broker's status: see `giostra.Client.status`."""
        future = self._future()
        status: dict[str, Any] = await self._answer(future, self._native.status(future))
        return status

    async def wait_for_workers(self, count: int = 1, timeout: float | None = None) -> None:
        """Waits until the pool has so many workers: see `giostra.Client.wait_for_workers`."""
        end = None if timeout is None else time.monotonic() + timeout
        while (found := await self._seats()) < count:
            await asyncio.sleep(next_look(found, count, end))

    async def _seats(self) -> int:
        future = self._future()
        seats: int = await self._answer(future, self._native.seats(future))
        return seats

    async def close(self) -> None:
        """Ends the connection. What is not answered is cancelled."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
        for future in self._native.close():
            if not future.done():
                future.set_exception(Closed("the client was closed meanwhile"))
                # One that nobody waits for any more is not to be reported.
                future.exception()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _future(self) -> asyncio.Future[Any]:
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("a client of giostra.aio is used in the event loop that it was made in")
        return self._loop.create_future()

    async def _ask(self, begin: Callable[[asyncio.Future[Any]], int]) -> Any:
        future = self._future()
        return await self._answer(future, begin(future))

    async def _answer(self, future: asyncio.Future[Any], task: int) -> Any:
        try:
            return await future
        except asyncio.CancelledError:
            self._native.cancel(task)
            raise

    def _deliver(self) -> None:
        for future, ok, value in self._native.take() or ():
            if future.done():
                continue
            if ok:
                future.set_result(value)
            else:
                future.set_exception(value)


class Job:
    """A durable job at the broker: see `giostra.Job`."""

    def __init__(self, native: _native.Client, ask: Callable[..., Awaitable[Any]], id: str) -> None:
        self._native, self._of_client = native, ask
        #: Its id, by which any client of the same keys finds it.
        self.id = id

    def __repr__(self) -> str:
        return f"<giostra.aio.Job {self.id}>"

    async def status(self) -> JobStatus:
        """Returns how far it is."""
        return await self._ask("status")

    async def wait(self) -> JobStatus:
        """Waits for its end."""
        return await self._ask("wait")

    async def cancel(self) -> JobStatus:
        """Ends it. The results that it has stay."""
        return await self._ask("cancel")

    async def retry(self) -> JobStatus:
        """Has the calls that failed computed again."""
        return await self._ask("retry")

    async def delete(self) -> None:
        """Deletes it with its results. It must have ended."""
        await self._of_client(functools.partial(self._question, question="delete"))

    async def results(self, first: int = 0, *, return_exceptions: bool = False) -> AsyncIterator[Any]:
        """Gives the results that are there, in the order of the calls: see `giostra.Job.results`."""
        while True:
            results = await self._of_client(functools.partial(self._results, first=first))
            if not results:
                return
            for _, ok, value in results:
                if not ok and not return_exceptions:
                    raise value
                yield value
            first = results[-1][0] + 1

    async def _ask(self, question: str) -> JobStatus:
        return JobStatus(**await self._of_client(functools.partial(self._question, question=question)))

    def _results(self, future: asyncio.Future[Any], first: int) -> int:
        return self._native.job_results(future, self.id, first)

    def _question(self, future: asyncio.Future[Any], question: str) -> int:
        return self._native.job(future, self.id, question)


class _Items:
    """The arguments of each call of a map, from plain iterables, or from some that are asynchronous."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...],
        woken: asyncio.Event,
    ) -> None:
        plain = [items for items in iterables if not isinstance(items, AsyncIterable)]
        self._plain = zip(*plain, strict=False) if len(plain) == len(iterables) else None
        self._items = _zip(iterables)
        self._loop, self._woken = loop, woken
        self._coming: asyncio.Task[tuple[Any, ...] | None] | None = None
        #: Whether there are no more, and what they have raised.
        self.is_over = False
        self.error: Exception | None = None

    def next(self) -> tuple[Any, ...] | None:
        """Returns the next, if it is there; what wakes is set when it is."""
        if self.is_over:
            return None
        try:
            if self._plain is not None:
                args = next(self._plain, None)
            else:
                if self._coming is None:
                    self._coming = self._loop.create_task(_next(self._items))
                    self._coming.add_done_callback(lambda _: self._woken.set())
                if not self._coming.done():
                    return None
                coming, self._coming = self._coming, None
                args = coming.result()
        except Exception as error:
            # It comes after the results of those before.
            self.error, args = error, None
        self.is_over = args is None
        return args

    def close(self) -> None:
        """Waits for no more."""
        if self._coming is not None:
            self._coming.cancel()


async def _next(calls: AsyncIterator[tuple[Any, ...]]) -> tuple[Any, ...] | None:
    return await anext(calls, None)


async def _zip(iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...]) -> AsyncIterator[tuple[Any, ...]]:
    iterators: list[Iterator[Any] | AsyncIterator[Any]] = [
        aiter(items) if isinstance(items, AsyncIterable) else iter(items) for items in iterables
    ]
    if not iterators:
        return
    while True:
        args: list[Any] = []
        for items in iterators:
            try:
                args.append(await anext(items) if isinstance(items, AsyncIterator) else next(items))
            except (StopIteration, StopAsyncIteration):
                return
        yield tuple(args)
