"""A web service over giostra.aio: nothing is lost when its clients go away, and nothing is computed for them."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web
from conftest import System, wait_until

import giostra.aio


async def serve(system: System, users: int, calls: int) -> tuple[int, int]:
    """Has users ask a service, each tenth time for something long, which they don't wait for. Returns how many were
    answered, and how many went away."""
    answered = gone = 0
    async with giostra.aio.Client(system.frontend) as client:

        async def add(request: web.Request) -> web.Response:
            return web.json_response(await client.call("add", int(request.query["n"]), 1))

        async def long(request: web.Request) -> web.Response:
            return web.json_response(await client.call("until_cancelled", request.query["n"]))

        app = web.Application()
        app.add_routes([web.get("/add", add), web.get("/long", long)])
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]

        async def user(session: aiohttp.ClientSession, first: int) -> None:
            nonlocal answered, gone
            for n in range(first, first + calls):
                if n % 10 == 0:
                    try:
                        await asyncio.wait_for(session.get(f"http://{host}:{port}/long", params={"n": n}), 0.05)
                    except asyncio.TimeoutError:
                        gone += 1
                else:
                    async with session.get(f"http://{host}:{port}/add", params={"n": n}) as response:
                        assert await response.json() == n + 1
                        answered += 1

        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(user(session, number * calls) for number in range(users)))
        await runner.cleanup()
    return answered, gone


def test_a_service_answers_all_who_stay_and_computes_nothing_for_those_who_leave(system: System) -> None:
    system.worker(seats=2)
    assert asyncio.run(serve(system, users=10, calls=30)) == (270, 30)
    with system.client() as client:
        wait_until(lambda: client.status()["in_flight"] == 0)
        # The seats are free.
        assert list(client.map("add", range(10), [1] * 10, timeout=5)) == list(range(1, 11))
