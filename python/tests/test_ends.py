"""How a process ends: with futures open, by Ctrl-C, after a fork; and how much memory it takes before."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import wait
from pathlib import Path

import pytest
from conftest import System, wait_until

import giostra

#: How often an interpreter exits with futures open.
ROUNDS = int(os.environ.get("GIOSTRA_TEST_ROUNDS", "20"))

OPEN = """
import giostra
client = giostra.Client()
{before}
futures = [client.submit("nap", 0.05) for _ in range(1000)]
{more}
print("open", flush=True)
"""


@pytest.mark.parametrize(
    ("before", "more"),
    [
        ("", ""),
        ("", "del client"),
        ("results = client.map('add', range(9000), range(9000)); next(results)", ""),
        (
            "",
            "import threading; threading.Thread(target=lambda: list(client.map('nap', [0.01] * 1000)), daemon=True).start()",
        ),
        ("", "for future in futures: future.add_done_callback(lambda future: client.unanswered())"),
    ],
    ids=["futures", "dropped", "map", "thread", "callbacks"],
)
def test_an_interpreter_exits_with_futures_open_and_neither_hangs_nor_crashes(
    shared: System, before: str, more: str
) -> None:
    for _ in range(max(1, ROUNDS // 5)):
        begun = time.monotonic()
        program = shared.python(OPEN.format(before=before, more=more), options=("-X", "faulthandler"))
        assert program.wait() == 0, program.text
        assert program.lines == ["open"]
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "waits",
    [
        "client.call('until_cancelled', path)",
        "list(client.map('until_cancelled', [path]))",
        "client.submit('until_cancelled', path).result()",
    ],
    ids=["call", "map", "future"],
)
def test_ctrl_c_ends_a_wait_at_once_and_the_request(shared: System, tmp_path: Path, waits: str) -> None:
    path = tmp_path / "seen"
    program = shared.python(
        f"import giostra\npath = {str(path)!r}\nwith giostra.Client() as client:\n"
        f"    try:\n        {waits}\n    except KeyboardInterrupt:\n        print('interrupted', flush=True)\n"
    )
    wait_until(Path(f"{path}.began").exists)
    begun = time.monotonic()
    program.signal(signal.SIGINT)
    program.line("interrupted")
    assert time.monotonic() - begun < 1
    assert program.wait() == 0, program.text
    wait_until(path.exists)


def test_a_client_in_a_forked_process_is_a_clear_error_and_the_child_exits(shared: System) -> None:
    program = shared.python(
        "import giostra, os, sys\n"
        "client = giostra.Client()\n"
        "results = client.map('nap', [0.01] * 100)\n"
        "next(results)\n"
        "executor = giostra.Executor()\n"
        "executor.submit(pow, 2, 3)\n"
        "future = client.submit('nap', 0.5, 1)\n"
        "if os.fork() == 0:\n"
        "    for ask in (lambda: client.call('add', 1, 2), lambda: next(results), lambda: executor.submit(pow, 2, 3)):\n"
        "        try:\n            ask()\n        except RuntimeError as error:\n            print(error, flush=True)\n"
        "    with giostra.Client() as own:\n        print('own', own.call('add', 1, 2), flush=True)\n"
        "    sys.exit(7)\n"
        "_, status = os.wait()\n"
        "print('child', os.waitstatus_to_exitcode(status), future.result(), client.call('add', 2, 2), flush=True)\n",
        options=("-X", "faulthandler"),
    )
    assert program.wait() == 0, program.text
    assert program.text.count("forked process") == 3, program.text
    assert "own 3" in program.text and "child 7 1 4" in program.text


def test_a_hundred_thousand_futures_are_answered(shared: System, capsys: pytest.CaptureFixture[str]) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with shared.client() as client:
        before, begun = resident(), time.monotonic()
        futures = [client.submit("add", n, 1) for n in range(100_000)]
        submitted = time.monotonic()
        done, open_ = wait(futures, 60)
        ended = time.monotonic()
        assert not open_ and sum(future.result() for future in done) == sum(range(1, 100_001))
        bytes_each = (resident() - before) / 100_000
    with capsys.disabled():
        print(
            f"\n100,000 futures: {100_000 / (submitted - begun):,.0f} submitted a second, "
            f"{100_000 / (ended - begun):,.0f} answered a second, {bytes_each:,.0f} bytes each"
        )
    assert bytes_each < 10_000


def test_memory_does_not_grow_with_the_number_of_calls(client: giostra.Client) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def calls(count: int) -> None:
        for _ in client.map("add", range(count), range(count)):
            pass
        for _ in range(count // 100):
            client.call("echo", {"a": [b"x" * 1000]})

    calls(30_000)
    before = resident()
    calls(100_000)
    assert resident() - before < 8 << 20


def test_a_second_interpreter_works_or_says_why_not(shared: System) -> None:
    program = shared.python(
        "try:\n    import _interpreters as interpreters\nexcept ImportError:\n    import _xxsubinterpreters as interpreters\n"
        "import giostra\n"
        "made = interpreters.create()\n"
        "try:\n    error = interpreters.run_string(made, 'import giostra')\n    print(error and error.formatted)\n"
        "except Exception as error:\n    print(error)\n"
    )
    assert program.wait() == 0, program.text
    assert "subinterpreters" in program.text or "None" in program.text


def test_of_two_brokers_one_may_be_killed_in_the_middle_of_a_map(system: System, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = System(folder)
    try:
        system.worker("--broker", f"{system.backend},{other.backend}", seats=2)
        for broker in (system, other):
            with broker.client() as client:
                client.wait_for_workers(2)
        with giostra.Client(f"{system.frontend},{other.frontend}", broker_timeout=30.0) as client:
            client.wait_for_workers(2)
            results = client.map("nap", [0.002] * 1000)
            next(results)
            system.broker.signal(signal.SIGKILL)
            assert sum(1 for _ in results) == 999
    finally:
        other.end()
