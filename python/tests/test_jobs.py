"""Durable jobs: what outlives the program that submits it."""

from __future__ import annotations

import pytest
from conftest import System

import giostra


def test_a_job_is_submitted_waited_for_and_collected(client: giostra.Client) -> None:
    job = client.submit_job("add", range(3000), [1] * 3000, name="sums")
    status = job.wait()
    assert (status.state, status.requests, status.succeeded, status.failed) == ("finished", 3000, 3000, 0)
    assert status.has_ended and status.name == "sums" and status.pool == "compute" and status.ended is not None
    assert list(job.results()) == list(range(1, 3001))
    assert list(job.results(2998)) == [2999, 3000]
    assert job.id in [one.id for one in client.jobs()]
    job.delete()
    with pytest.raises(giostra.Refused):
        job.status()


def test_a_jobs_failures_are_raised_or_returned(client: giostra.Client) -> None:
    job = client.submit_job("divide", [4, 1, 6], [2, 0, 3])
    assert job.wait().failed == 1
    with pytest.raises(giostra.Failed, match="ZeroDivisionError"):
        list(job.results())
    four, error, two = job.results(return_exceptions=True)
    assert (four, two) == (2, 2) and isinstance(error, giostra.Failed)
    assert job.retry().state == "running"
    assert job.wait().failed == 1


def test_another_process_finds_a_job_by_its_id(shared: System, client: giostra.Client) -> None:
    job = client.submit_job("add", [1, 2], [3, 4])
    program = shared.python(
        f"import giostra\nwith giostra.Client() as client:\n"
        f"    job = client.job({job.id!r})\n    print(job.wait().state, list(job.results()))\n"
    )
    assert program.wait() == 0
    assert program.lines == ["finished [4, 6]"]


def test_a_cancelled_job_ends(client: giostra.Client) -> None:
    job = client.submit_job("nap", [0.05] * 500)
    assert job.cancel().state == "cancelled"
    assert job.wait().has_ended


def test_waiting_for_a_job_has_a_limit_and_the_job_goes_on(client: giostra.Client) -> None:
    job = client.submit_job("nap", [0.4, 0.4, 0.4])
    with pytest.raises(TimeoutError):
        job.wait(0.05)
    assert job.wait(10).succeeded == 3


def test_the_same_key_gives_the_same_job(client: giostra.Client) -> None:
    first = client.submit_job("add", [1], [2], key="once")
    assert client.submit_job("add", [1], [2], key="once").id == first.id


def test_a_job_outlives_its_broker(tmp_path) -> None:
    system = System(tmp_path, "--store", "store")
    try:
        system.worker()
        with system.client() as client:
            job = client.submit_job("slow_square", range(500))
            system.broker.signal(9)
            system.broker.wait()
            system.start_broker()
            assert job.wait(20).succeeded == 500
            assert list(job.results()) == [n * n for n in range(500)]
    finally:
        system.end()


def test_wrong_words_are_refused(client: giostra.Client) -> None:
    with pytest.raises(ValueError):
        client.job("no id").status()
    with pytest.raises((ValueError, giostra.Refused)):
        client.submit_job("add", [1], [2], key="two words")
    with pytest.raises(ValueError):
        client.submit_job("add", [1], [2], keep=-1)
    with pytest.raises(LookupError, match="in the items"):
        client.submit_job("add", (_ for _ in _raising()))


def _raising():
    yield 1
    raise LookupError("in the items")


def test_a_broker_without_a_store_refuses_jobs(system: System) -> None:
    with system.client() as client, pytest.raises(giostra.Refused, match="store"):
        client.submit_job("add", [1], [2])


def test_a_client_of_several_brokers_finds_a_job_where_it_is(tmp_path) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    systems = [System(folder, "--store", "store") for folder in folders]
    try:
        systems[0].worker("--broker", ",".join(one.backend for one in systems))
        with systems[1].client() as client:
            job = client.submit_job("add", [1, 2], [3, 4])
        with giostra.Client(",".join(one.frontend for one in systems), spread=True) as client:
            found = client.job(job.id)
            assert found.wait().succeeded == 2 and list(found.results()) == [4, 6]
            keyed = client.submit_job("add", [1], [2], key="night")
            assert client.submit_job("add", [1], [2], key="night").id == keyed.id
            assert {one.id for one in client.jobs()} == {job.id, keyed.id}
    finally:
        for one in systems:
            one.end()
