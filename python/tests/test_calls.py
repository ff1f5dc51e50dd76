"""Calls, futures and maps over a live system."""

from __future__ import annotations

import itertools
import signal
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from pathlib import Path

import pytest
from conftest import System, wait_until

import giostra


def test_a_call_returns_the_result(client: giostra.Client) -> None:
    assert client.call("add", 1, 2) == 3
    assert client.submit("add", "a", "b").result(10) == "ab"


def test_keyword_arguments_arrive_by_name(client: giostra.Client) -> None:
    assert client.call("divide", b=2, a=7) == 3.5
    assert client.call("echo", 1, two={"**": 3}) == [[1], {"two": {"**": 3}}]


def test_a_map_gives_results_in_the_order_of_the_items(client: giostra.Client) -> None:
    assert list(client.map("add", range(5000), itertools.repeat(1))) == list(range(1, 5001))


def test_an_unordered_map_gives_each_result_once(client: giostra.Client) -> None:
    results = list(client.map("slow_square", range(200), ordered=False))
    assert sorted(results) == [n * n for n in range(200)]


def test_an_unordered_map_does_not_wait_for_the_slowest(client: giostra.Client) -> None:
    results = client.map("nap", [0.5, 0.0], ["slow", "quick"], ordered=False)
    assert list(results) == ["quick", "slow"]


def test_a_map_over_an_endless_iterable_takes_only_a_window(client: giostra.Client) -> None:
    taken = 0

    def numbers():
        nonlocal taken
        for taken in itertools.count(1):
            yield taken

    results = client.map("add", numbers(), itertools.repeat(0), window=50)
    assert list(itertools.islice(results, 500)) == list(range(1, 501))
    assert taken <= 550


def test_a_map_over_a_slow_iterable_gives_results_before_its_window_is_full(client: giostra.Client) -> None:
    more = threading.Event()

    def items():
        for n in range(3):
            yield n
            time.sleep(0.05)
        assert more.wait(10), "no result was given before the next item came"
        yield 3

    results = client.map("add", items(), itertools.repeat(0))
    assert next(results) == 0
    more.set()
    assert list(results) == [1, 2, 3]


def test_an_error_in_the_middle_of_a_map_is_raised_in_its_place(client: giostra.Client) -> None:
    results = client.map("divide", [4, 1, 6], [2, 0, 3])
    assert next(results) == 2
    with pytest.raises(giostra.Failed, match="ZeroDivisionError"):
        next(results)
    assert list(results) == [2]


def test_a_map_can_return_its_exceptions(client: giostra.Client) -> None:
    four, error, two = client.map("divide", [4, 1, 6], [2, 0, 3], return_exceptions=True)
    assert (four, two) == (2, 2)
    assert isinstance(error, giostra.Failed)


def test_an_iterable_that_raises_does_so_after_the_results_of_its_items(client: giostra.Client) -> None:
    def items():
        yield from range(3)
        raise LookupError("no more")

    results = client.map("add", items(), itertools.repeat(1))
    assert [next(results) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(LookupError, match="no more"):
        next(results)
    assert list(results) == []


def test_an_item_that_can_not_be_sent_is_an_error_in_its_place(client: giostra.Client) -> None:
    results = client.map("echo", [1, object(), 3])
    assert next(results) == 1
    with pytest.raises(TypeError, match="object can't be sent"):
        next(results)


def test_a_map_that_is_closed_or_dropped_cancels_its_calls(client: giostra.Client, tmp_path: Path) -> None:
    results = client.map("until_cancelled", [str(tmp_path / "a")])
    thread = threading.Thread(target=lambda: list(results), daemon=True)
    thread.start()
    wait_until((tmp_path / "a.began").exists)
    results.close()
    wait_until((tmp_path / "a").exists)
    thread.join(5)
    assert not thread.is_alive()

    results = client.map("nap", itertools.repeat(0.05), window=100)
    next(results)
    del results
    wait_until(lambda: client.status()["pools"][0]["pending"] == 0)


def test_a_map_of_a_closed_client_raises_closed(shared: System) -> None:
    client = shared.client()
    results = client.map("nap", itertools.repeat(0.05))
    next(results)
    client.close()
    with pytest.raises(giostra.Closed):
        list(results)


def test_closing_a_map_from_its_own_items_or_another_thread_is_no_deadlock(client: giostra.Client) -> None:
    def items():
        yield 1
        results.close()
        yield 2

    results = client.map("echo", items())
    assert len(list(results)) <= 2
    waits = client.map("nap", [1.5])
    threading.Timer(0.2, waits.close).start()
    begun = time.monotonic()
    assert list(waits) == []
    assert time.monotonic() - begun < 1.2


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_of_nothing_is_refused(client: giostra.Client, window: int) -> None:
    with pytest.raises((ValueError, OverflowError)):
        list(client.map("echo", [1], window=window))


def test_a_bar_is_shown_if_asked_for(client: giostra.Client, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    assert list(client.map("add", range(10), range(10), progress="sums")) == [2 * n for n in range(10)]
    assert "sums: 100%" in capfd.readouterr().err


def test_a_call_past_its_time_limit_expires(client: giostra.Client) -> None:
    begun = time.monotonic()
    with pytest.raises(giostra.Expired) as raised:
        client.call("nap", 1.5, timeout=0.2)
    assert time.monotonic() - begun < 1.2
    assert raised.value.code == "expired"
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="no time in seconds"):
            client.call("add", 1, 2, timeout=wrong)


def test_an_operation_that_nobody_offers_is_invalid(client: giostra.Client) -> None:
    with pytest.raises(giostra.Invalid, match="unknown operation 'adn'; this worker offers .*add"):
        client.call("adn", 1, 2)


def test_wrong_arguments_are_invalid_and_errors_within_the_function_are_not(client: giostra.Client) -> None:
    with pytest.raises(giostra.Invalid, match="missing 1 required positional argument"):
        client.call("add", 1)
    with pytest.raises(giostra.Failed, match="unsupported operand") as raised:
        client.call("add", 1, "a")
    assert raised.value.code == "failed"
    with pytest.raises(giostra.Invalid, match="missing 1 required positional argument"):
        client.call("gather")


def test_a_failure_has_the_traceback_of_the_worker(client: giostra.Client) -> None:
    with pytest.raises(giostra.Failed, match="ZeroDivisionError: ") as raised:
        client.call("divide", 1, 0)
    assert raised.value.traceback is not None
    assert "in divide" in raised.value.traceback and "return a / b" in raised.value.traceback
    assert raised.value.message.startswith("ZeroDivisionError")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("unprintable", "Unprintable: an exception that can't be printed"),
        ("surrogate", r"ValueError: half a pair: \\ud800"),
        ("exit", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt"),
        ("long", "ValueError: xxx"),
        pytest.param(
            "group",
            "BaseExceptionGroup: both",
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="there are none before 3.11"),
        ),
    ],
)
def test_whatever_an_operation_raises_is_a_failure_and_the_seat_lives(
    client: giostra.Client, kind: str, text: str
) -> None:
    with pytest.raises(giostra.Failed, match=text) as raised:
        client.call("fail", kind)
    assert raised.value.code == "failed"
    assert client.call("add", 1, 1) == 2


def test_an_operation_may_fail_with_a_code_of_its_own(client: giostra.Client) -> None:
    with pytest.raises(giostra.Failed) as raised:
        client.call("fail", "code")
    assert (raised.value.code, raised.value.message) == ("out-of-range", "a code of its own")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("object", "object can't be sent"),
        ("int", "OverflowError"),
        ("surrogate", "surrogates not allowed"),
        ("large", "large"),
    ],
)
def test_a_result_that_can_not_be_sent_is_a_failure(client: giostra.Client, kind: str, text: str) -> None:
    with pytest.raises(giostra.Failed, match=text):
        client.call("unsendable", kind)


def test_a_request_that_is_too_large_is_refused_and_the_client_lives(client: giostra.Client) -> None:
    with pytest.raises((ValueError, giostra.Failed), match="large|bytes"):
        client.call("echo", b"x" * (65 << 20))
    assert client.call("add", 1, 1) == 2


def test_without_a_broker_a_call_raises_no_broker() -> None:
    with giostra.Client("tcp://127.0.0.1:9", broker_timeout=0.3) as client, pytest.raises(giostra.NoBroker):
        client.call("add", 1, 2)


def test_a_client_that_does_not_wait_is_told_that_there_is_no_worker(shared: System) -> None:
    with shared.client(pool="empty", wait=False) as client, pytest.raises(giostra.NoWorker):
        client.call("add", 1, 2)


@pytest.mark.parametrize("broker", ["", "tcp://127.0.0.1:port", "http://localhost"])
def test_an_address_that_is_none_is_refused_at_once(broker: str) -> None:
    with pytest.raises(ValueError):
        giostra.Client(broker)


def test_settings_come_from_the_environment(shared: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIOSTRA_FRONTEND", shared.frontend)
    monkeypatch.setenv("GIOSTRA_BROKER_TIMEOUT", "2s")
    with giostra.Client() as client:
        assert client.call("add", 1, 2) == 3
    monkeypatch.setenv("GIOSTRA_PRIORITY", "utmost")
    with pytest.raises(ValueError, match="high, normal or low"):
        giostra.Client()


def test_a_cancelled_future_cancels_its_request(client: giostra.Client, tmp_path: Path) -> None:
    future = client.submit("until_cancelled", str(tmp_path / "seen"))
    wait_until((tmp_path / "seen.began").exists)
    assert future.cancel() and future.cancelled()
    wait_until((tmp_path / "seen").exists)
    with pytest.raises(CancelledError):
        future.result()
    assert client.unanswered() == 0


def test_a_cancelled_future_wakes_those_who_wait(client: giostra.Client) -> None:
    futures = [client.submit("nap", 1.5) for _ in range(3)]
    threading.Timer(0.1, lambda: [future.cancel() for future in futures]).start()
    begun = time.monotonic()
    assert all(future.cancelled() for future in as_completed(futures, timeout=4))
    assert time.monotonic() - begun < 1.2


def test_a_result_that_is_here_can_not_be_cancelled(client: giostra.Client) -> None:
    future = client.submit("add", 1, 2)
    assert future.result() == 3
    assert not future.cancel()


def test_cancelling_while_results_arrive_loses_neither(client: giostra.Client) -> None:
    futures = [client.submit("add", n, 0) for n in range(3000)]
    for future in futures[::2]:
        future.cancel()
    for n, future in enumerate(futures):
        if not future.cancelled():
            assert future.result(10) == n
    wait_until(lambda: client.unanswered() == 0)


def test_progress_is_told_while_a_call_is_computed(client: giostra.Client, tmp_path: Path) -> None:
    future = client.submit("steps", 5, str(tmp_path / "go"))
    done, total = wait_until(future.progress)
    assert 1 <= done <= 5 and total == 5
    (tmp_path / "go").touch()
    assert future.result(10) == 5
    assert future.progress() is None


def test_an_unable_seat_leaves_the_request_to_another(client: giostra.Client, tmp_path: Path) -> None:
    assert client.call("unable_once", str(tmp_path / "once"), timeout=10) > 0


def test_closing_cancels_what_is_open(shared: System) -> None:
    client = shared.client()
    futures = [client.submit("nap", 2.0) for _ in range(10)]
    client.close()
    assert all(future.cancelled() for future in futures)
    with pytest.raises(giostra.Closed):
        client.call("add", 1, 2)
    client.close()


def test_a_call_in_another_thread_ends_when_the_client_is_closed(shared: System) -> None:
    client = shared.client()
    threading.Timer(0.2, client.close).start()
    with pytest.raises(giostra.Closed):
        client.call("nap", 1.5)


def test_a_future_outlives_the_name_of_its_client(shared: System) -> None:
    assert shared.client().submit("nap", 0.2, "here").result(10) == "here"


def test_a_callback_may_call_again(client: giostra.Client) -> None:
    done = threading.Event()
    client.submit("add", 1, 2).add_done_callback(
        lambda future: client.submit("add", future.result(), 4).add_done_callback(lambda _: done.set())
    )
    assert done.wait(10)


def test_a_client_may_be_closed_by_a_callback(shared: System) -> None:
    client = shared.client()
    closed = threading.Event()

    def close(_: object) -> None:
        client.close()
        closed.set()

    client.submit("add", 1, 2).add_done_callback(close)
    assert closed.wait(5)


def test_many_threads_share_a_client(client: giostra.Client) -> None:
    wrong: list[int] = []

    def run(first: int) -> None:
        wrong.extend(n for n in range(first, first + 200) if client.call("add", n, 1) != n + 1)

    threads = [threading.Thread(target=run, args=(1000 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not wrong


def test_status_tells_of_the_workers_over_the_connection_that_is_there(shared: System) -> None:
    with shared.client(name="curious") as client, ThreadPoolExecutor(20) as threads:
        for status in threads.map(lambda _: client.status(), range(100)):
            assert len(status["workers"]) == 2
            assert [other["name"] for other in status["clients"]].count("curious") == 1


def test_workers_are_waited_for_until_there_are_enough(system: System) -> None:
    with system.client() as client:
        with pytest.raises(TimeoutError, match="0 of 2 workers are there"):
            client.wait_for_workers(2, timeout=0.1)
        system.worker(seats=2, ready=False)
        client.wait_for_workers(2, timeout=20)
        assert client.call("add", 1, 2) == 3


def test_a_status_that_is_asked_for_while_the_broker_is_away_is_that_of_the_next(system: System) -> None:
    with system.client() as client:
        client.status()
        system.broker.signal(signal.SIGKILL)
        system.broker.wait()
        found: list[int] = []
        asking = threading.Thread(target=lambda: found.append(client.status()["totals"]["accepted"]))
        asking.start()
        system.start_broker()
        asking.join(10)
        assert found == [0]


def test_an_urgent_call_overtakes_those_that_wait(shared: System) -> None:
    with shared.client(priority="low") as client:
        slow = [client.submit("nap", 0.1) for _ in range(20)]
        urgent = client.submit("nap", 0.0, priority="high")
        urgent.result(10)
        assert sum(not future.done() for future in slow) > 5
        with pytest.raises(ValueError):
            client.submit("nap", 0.0, priority="utmost")  # type: ignore[arg-type]
        for future in slow:
            future.cancel()
