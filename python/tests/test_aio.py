"""The client for asyncio."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import System

import giostra
from giostra import aio


def run(shared: System, test: Callable[[aio.Client], Awaitable[Any]]) -> list[str]:
    """Runs a test in a loop of its own. Returns what the loop had to complain about."""
    complaints: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
        async with aio.Client(shared.frontend) as client:
            await asyncio.wait_for(test(client), 15)

    asyncio.run(main())
    return complaints


async def appears(path: Path) -> None:
    for _ in range(1000):
        if path.exists():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{path} does not appear")


def test_calls_are_awaited_together(shared: System) -> None:
    async def test(client: aio.Client) -> None:
        assert await client.call("add", 1, b=2) == 3
        assert await asyncio.gather(*(client.call("add", n, 1) for n in range(2000))) == list(range(1, 2001))
        with pytest.raises(giostra.Failed, match="ZeroDivisionError"):
            await client.call("divide", 1, 0)
        with pytest.raises(giostra.Expired):
            await client.call("nap", 1.0, timeout=0.1)
        assert len((await client.status())["workers"]) == 2
        await client.wait_for_workers(2)
        with pytest.raises(TimeoutError, match="2 of 3 workers are there"):
            await client.wait_for_workers(3, timeout=0.1)

    assert run(shared, test) == []


@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_takes_plain_and_asynchronous_iterables(shared: System, ordered: bool) -> None:
    async def items() -> AsyncIterator[int]:
        for n in range(300):
            if n % 50 == 0:
                await asyncio.sleep(0)
            yield n

    async def test(client: aio.Client) -> None:
        plain = [result async for result in client.map("add", range(300), itertools.repeat(1), ordered=ordered)]
        mixed = [result async for result in client.map("add", items(), range(300), ordered=ordered, window=7)]
        assert (plain if ordered else sorted(plain)) == list(range(1, 301))
        assert (mixed if ordered else sorted(mixed)) == list(range(0, 600, 2))
        with pytest.raises(ValueError):
            _ = [result async for result in client.map("add", [1], window=0)]

    assert run(shared, test) == []


def test_a_map_gives_a_result_while_it_waits_for_the_next_item(shared: System) -> None:
    async def test(client: aio.Client) -> None:
        more = asyncio.Event()

        async def items() -> AsyncIterator[int]:
            yield 1
            await more.wait()
            yield 2

        results = client.map("echo", items())
        assert await anext(results) == 1
        more.set()
        assert [result async for result in results] == [2]

    assert run(shared, test) == []


def test_errors_of_a_map_are_raised_or_returned_and_none_is_reported_twice(shared: System) -> None:
    async def test(client: aio.Client) -> None:
        with pytest.raises(giostra.Failed):
            async for _ in client.map("divide", [1] * 50, [0] * 50):
                pass
        results = [result async for result in client.map("divide", [1, 4], [0, 2], return_exceptions=True)]
        assert isinstance(results[0], giostra.Failed) and results[1] == 2

    assert run(shared, test) == []


def test_an_iterable_that_raises_does_so_after_the_results_of_its_items(shared: System) -> None:
    async def test(client: aio.Client) -> None:
        def plain() -> Iterator[int]:
            yield 1
            raise LookupError("no more")

        async def items() -> AsyncIterator[int]:
            for n in plain():
                yield n

        for iterable in (plain(), items()):
            results = client.map("echo", iterable)
            assert await anext(results) == 1
            with pytest.raises(LookupError, match="no more"):
                await anext(results)

    assert run(shared, test) == []


def test_a_cancelled_task_cancels_its_request(shared: System, tmp_path: Path) -> None:
    async def test(client: aio.Client) -> None:
        task = asyncio.create_task(client.call("until_cancelled", str(tmp_path / "seen")))
        await appears(tmp_path / "seen.began")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await appears(tmp_path / "seen")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.call("until_cancelled", str(tmp_path / "late")), 0.3)
        await appears(tmp_path / "late")

    assert run(shared, test) == []


def test_a_map_that_is_left_cancels_its_calls(shared: System, tmp_path: Path) -> None:
    async def test(client: aio.Client) -> None:
        paths = [str(tmp_path / str(n)) for n in range(2)]
        results = client.map("until_cancelled", paths)
        first = asyncio.ensure_future(anext(results))
        for path in paths:
            await appears(Path(path + ".began"))
        first.cancel()
        for path in paths:
            await appears(Path(path))

    assert run(shared, test) == []


def test_closing_ends_what_is_awaited_with_closed(shared: System) -> None:
    async def test(client: aio.Client) -> None:
        own = aio.Client(shared.frontend)
        call = asyncio.create_task(own.call("nap", 1.0))
        await asyncio.sleep(0.1)
        await own.close()
        with pytest.raises(giostra.Closed):
            await call
        with pytest.raises(giostra.Closed):
            await own.call("add", 1, 2)
        await own.close()

    assert run(shared, test) == []


def test_a_client_belongs_to_one_event_loop(shared: System) -> None:
    async def make() -> aio.Client:
        return aio.Client(shared.frontend)

    client = asyncio.run(make())

    async def use() -> None:
        with pytest.raises(RuntimeError, match="event loop that it was made in"):
            await client.call("add", 1, 2)

    asyncio.run(use())
    with pytest.raises(RuntimeError):
        aio.Client(shared.frontend)


def test_jobs_are_submitted_and_collected(shared: System) -> None:
    async def test(client: aio.Client) -> None:
        job = await client.submit_job("add", range(100), range(100))
        assert (await job.wait()).succeeded == 100
        assert [result async for result in job.results()] == list(range(0, 200, 2))
        assert job.id in [one.id for one in await client.jobs()]
        await job.delete()

    assert run(shared, test) == []
