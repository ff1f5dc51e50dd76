"""Seats that die, are drained or are refused; brokers that are killed; and what is left of it all: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Process, System, children, is_alive, program, wait_until

import giostra


def seats(worker: Process) -> list[int]:
    return children(worker.pid)


def test_a_seat_that_is_killed_in_the_middle_of_a_map_costs_no_result(system: System) -> None:
    worker = system.worker(seats=3)
    with system.client() as client:
        results = client.map("slow_square", range(1500))
        got = [next(results) for _ in range(100)]
        os.kill(seats(worker)[0], signal.SIGKILL)
        got += results
    assert got == [n * n for n in range(1500)]
    worker.line("registered")
    assert "by signal 9 (SIGKILL): started again" in worker.text


def test_a_seat_that_is_killed_costs_an_executor_no_result(system: System) -> None:
    worker = system.worker("--allow-functions", module="", seats=3)
    with giostra.Executor(broker=system.frontend) as executor:
        results = executor.map(pow, range(3000), [2] * 3000)
        got = [next(results) for _ in range(10)]
        os.kill(seats(worker)[0], signal.SIGKILL)
        got += results
    assert got == [n * n for n in range(3000)]


@pytest.mark.parametrize("option", ["--lifetime", "--idle-timeout"])
def test_seats_that_are_old_or_idle_leave_and_the_program_ends(system: System, option: str) -> None:
    worker = system.worker(option, "500ms", seats=2)
    assert worker.wait() == 0, worker.text
    assert "started again" not in worker.text


@pytest.mark.parametrize("how", ["exit", "segfault", "kill"])
def test_a_crash_of_the_interpreter_loses_one_seat_which_comes_back(system: System, tmp_path: Path, how: str) -> None:
    worker = system.worker(seats=2)
    before = set(seats(worker))
    with system.client() as client:
        assert client.call("die", how, str(tmp_path / "once"), timeout=10) > 0
        worker.line("registered")
        after = set(seats(worker))
        assert len(after) == 2 and len(after & before) == 1
        assert len(client.status()["workers"]) == 2


def test_a_request_that_kills_each_seat_is_poisoned_and_the_worker_lives_on(system: System) -> None:
    worker = system.worker(seats=2)
    with system.client() as client:
        for _ in range(2):
            with pytest.raises(giostra.Poisoned):
                client.call("die", "exit", timeout=15)
        assert client.call("add", 1, 2, timeout=10) == 3
    assert worker.popen.poll() is None


def test_a_broker_that_is_killed_and_started_again_costs_no_result(system: System) -> None:
    system.worker(seats=2)
    with system.client() as client:
        results = client.map("slow_square", range(1000))
        got = [next(results) for _ in range(50)]
        system.broker.signal(signal.SIGKILL)
        system.broker.wait()
        system.start_broker()
        got += results
    assert got == [n * n for n in range(1000)]


def test_a_function_that_holds_the_interpreters_lock_does_not_cost_its_seat(tmp_path: Path) -> None:
    system = System(tmp_path, "--ping-interval", "200ms")
    try:
        worker = system.worker()
        before = seats(worker)
        with system.client() as client:
            assert client.call("hold_the_lock", 3) == "done"
            totals = client.status()["workers"]
        assert seats(worker) == before and len(totals) == 1
        assert not any(" dropped " in line for line in system.broker.lines)
    finally:
        system.end()


def test_the_seats_of_a_killed_worker_end_too(system: System) -> None:
    worker = system.worker(seats=3)
    left = seats(worker)
    assert len(left) == 3
    worker.signal(signal.SIGKILL)
    worker.wait()
    wait_until(lambda: not any(map(is_alive, left)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_has_the_worker_finish_what_it_holds(system: System, number: int) -> None:
    worker = system.worker(seats=2)
    with system.client() as client:
        futures = [client.submit("nap", 0.5, n) for n in range(2)]
        wait_until(lambda: sum(one["in_flight"] for one in client.status()["workers"]) == 2)
        left = seats(worker)
        worker.signal(number)
        assert worker.wait() == 0
        assert [future.result(5) for future in futures] == [0, 1]
    assert not any(map(is_alive, left))


def test_a_second_signal_ends_the_worker_at_once(system: System) -> None:
    worker = system.worker()
    with system.client() as client:
        client.submit("nap", 30.0)
        wait_until(lambda: client.status()["workers"][0]["in_flight"] == 1)
        left = seats(worker)
        worker.signal(signal.SIGTERM)
        wait_until(lambda: not client.status()["workers"] or client.status()["workers"][0].get("draining", True))
        begun = time.monotonic()
        worker.signal(signal.SIGTERM)
        worker.wait()
        assert time.monotonic() - begun < 5
        wait_until(lambda: not any(map(is_alive, left)))


def test_the_grace_is_an_end_also_for_a_function_that_goes_on(system: System) -> None:
    worker = system.worker("--grace", "300ms")
    with system.client() as client:
        client.submit("nap", 30.0)
        wait_until(lambda: client.status()["workers"][0]["in_flight"] == 1)
        worker.signal(signal.SIGTERM)
        worker.wait(5)


def test_a_worker_that_can_not_even_begin_is_not_started_for_ever(system: System, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import os, giostra\nworker = giostra.Worker()\n"
                                        "if 'GIOSTRA_SEAT' in os.environ: raise LookupError('no model file')\n")  # fmt: skip
    worker = system.worker(module="broken:worker", ready=False, PYTHONSAFEPATH="")
    assert worker.wait() == 1
    assert "LookupError: no model file" in worker.text


def test_a_worker_that_is_set_up_wrongly_ends_at_once_and_says_why(system: System) -> None:
    for options, text in [
        (("--broker", "tcp://nowhere"), "tcp://nowhere"),
        (("--keys", "/nowhere"), "belong together"),
    ]:
        worker = system.worker(*options, ready=False)
        assert worker.wait(5) == 1
        assert text in worker.text and "Traceback" not in worker.text


def test_a_program_that_an_operation_starts_hears_signals(client: giostra.Client) -> None:
    assert client.call("mask_of_a_program") == 0
    assert client.call("end_a_program") == -signal.SIGTERM


def test_a_coroutine_function_is_an_operation(client: giostra.Client) -> None:
    assert client.call("gather", 5) == [0, 1, 2, 3, 4]


def test_a_script_runs_its_seats_and_goes_on_after_a_signal(system: System) -> None:
    script = system.python(
        "import giostra, os\n"
        "worker = giostra.Worker()\n"
        "@worker.operation\n"
        "def pid(): return os.getpid()\n"
        "if __name__ == '__main__':\n"
        "    worker.run(processes=2)\n"
        "    print('after', flush=True)\n",
        ready="registered",
    )
    script.line("registered")
    with system.client() as client:
        assert set(client.map("pid", *[])) == set()
        assert {client.call("pid") for _ in range(4)} == set(seats(script))
    script.signal(signal.SIGTERM)
    assert script.wait() == 0
    assert script.lines.count("after") == 1


def test_a_worker_in_its_own_process_serves_and_returns(system: System) -> None:
    script = system.python(
        "import giostra, os\nworker = giostra.Worker(threads=4)\n"
        "@worker.operation\ndef pid(): return os.getpid()\n"
        "worker.run(processes=0)\nprint('after', flush=True)\n",
        ready="registered",
    )
    with system.client() as client:
        assert client.call("pid") == script.pid
    script.signal(signal.SIGTERM)
    assert script.wait() == 0 and "after" in script.text


@pytest.fixture
def keyed(tmp_path: Path):
    def keys(*words: str) -> None:
        subprocess.run([program("giostra"), "keys", *words], cwd=tmp_path, check=True, capture_output=True)

    for name in ("broker", "alice", "bob", "worker", "stranger"):
        keys("new", name)
    keys("allow", "keys/alice.key", "--role", "client", "--role", "admin")
    keys("allow", "keys/bob.key", "--role", "client")
    keys("allow", "keys/worker.key", "--role", "worker")
    system = System(tmp_path, "--keys", "keys/broker.key_secret", "--allow", "keys/allow")
    yield system
    system.end()


def test_with_keys_client_and_worker_are_let_in(keyed: System) -> None:
    keys = keyed.folder / "keys"
    keyed.worker("--keys", f"{keys}/worker.key_secret", "--broker-key", f"{keys}/broker.key")
    with keyed.client(keys=keys / "alice.key_secret", broker_key=keys / "broker.key") as client:
        assert client.call("add", 1, 2, timeout=10) == 3


def test_a_client_without_the_role_admin_can_wait_for_workers_but_not_see_who_they_are(keyed: System) -> None:
    keys = keyed.folder / "keys"
    keyed.worker("--keys", f"{keys}/worker.key_secret", "--broker-key", f"{keys}/broker.key")
    with keyed.client(keys=keys / "bob.key_secret", broker_key=keys / "broker.key") as client:
        client.wait_for_workers(1, timeout=10)
        with pytest.raises(giostra.Error, match="role 'admin'"):
            client.status()


def test_without_its_keys_a_client_is_told_what_it_lacks(keyed: System) -> None:
    keys = keyed.folder / "keys"
    with pytest.raises(giostra.Error, match="key") as raised, keyed.client(broker_timeout=5) as client:
        client.call("add", 1, 2)
    assert not isinstance(raised.value, giostra.Closed)
    stranger = {"keys": keys / "stranger.key_secret", "broker_key": keys / "broker.key"}
    with pytest.raises(giostra.Error, match="key"), keyed.client(**stranger, broker_timeout=5) as client:
        client.call("add", 1, 2)
    with pytest.raises(ValueError, match="nobody.key_secret"):
        keyed.client(keys=keys / "nobody.key_secret", broker_key=keys / "broker.key")


def test_a_worker_whose_key_is_refused_ends_with_status_1_and_says_why(keyed: System) -> None:
    keys = keyed.folder / "keys"
    stranger = keyed.worker(
        "--keys", f"{keys}/stranger.key_secret", "--broker-key", f"{keys}/broker.key", seats=2, ready=False
    )
    assert stranger.wait() == 1
    assert "key" in stranger.text and "Traceback" not in stranger.text
