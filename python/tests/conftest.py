"""What the tests share: brokers and workers of their own, each ended by its process id.

The programs are those of ``GIOSTRA_BIN``, or else of ``target/release`` or ``target/debug``. The package is the
one that is installed (``pip install ./python``, ``maturin develop``) or on ``PYTHONPATH``.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import giostra

HERE = Path(__file__).parent

#: Seconds after which a test that waits has failed.
PATIENCE = 10.0


def program(name: str) -> str:
    """Returns the path of one of the programs, or skips; with ``CI=true`` it has to be there."""
    target = HERE.parent.parent / "target"
    folders = [os.environ["GIOSTRA_BIN"]] if "GIOSTRA_BIN" in os.environ else [target / "release", target / "debug"]
    for folder in folders:
        if (path := Path(folder) / name).exists():
            return str(path)
    message = f"no program {name} in {folders}: cargo build --release, or set GIOSTRA_BIN"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def wait_until(what: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Waits until something is true, and returns it."""
    end = time.monotonic() + patience
    while not (value := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return value


def environment(**variables: str) -> dict[str, str]:
    """Returns this process's environment without settings of Giostra's, and with these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIOSTRA_")}
    # Not the folder of the sources, where there may be no native part.
    return kept | {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"} | variables


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """Returns the ids of a process's children."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Process:
    """A process whose output is read as it comes."""

    def __init__(self, command: list[str], **options: Any) -> None:
        options.setdefault("env", environment())
        self.popen = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
        )
        self.pid = self.popen.pid
        self.lines: list[str] = []
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.lines.append(line.rstrip("\n"))
            self._queue.put(line)
        self._queue.put(None)

    def line(self, word: str, patience: float = PATIENCE) -> str:
        """Waits for a line with this word that was not asked for before."""
        end = time.monotonic() + patience
        while True:
            try:
                line = self._queue.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"no line with {word!r}:\n" + "\n".join(self.lines)
            if word in line:
                return line.rstrip("\n")

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, patience: float = PATIENCE) -> int:
        """Waits for the end. Returns the status."""
        try:
            status = self.popen.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError("it does not end:\n" + "\n".join(self.lines)) from None
        self._reader.join(2.0)
        return status

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def end(self) -> None:
        """Ends it and what it has started, at once."""
        for pid in [*children(self.pid), self.pid]:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.popen.wait()
        self._reader.join(2.0)
        if self.popen.stdout is not None and not self._reader.is_alive():
            self.popen.stdout.close()


class System:
    """A broker, and what a test starts beside it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options = folder, options
        self.frontend = self.backend = "tcp://127.0.0.1:*"
        self.started: list[Process] = []
        self.start_broker()

    def start_broker(self) -> None:
        """Starts it, again at the addresses that it had."""
        command = [program("giostra-broker"), "--frontend", self.frontend, "--backend", self.backend, *self.options]
        self.broker = self.start(command, cwd=self.folder)
        words = self.broker.line(" listening ").split()
        found = dict(word.split("=", 1) for word in words if "=" in word)
        self.frontend, self.backend = found["frontend"], found["backend"]

    def start(self, command: list[str], **options: Any) -> Process:
        process = Process(command, **options)
        self.started.append(process)
        return process

    def variables(self, **others: str) -> dict[str, str]:
        return environment(GIOSTRA_FRONTEND=self.frontend, GIOSTRA_BACKEND=self.backend, **others)

    def worker(
        self, *options: str, module: str = "tasks:worker", seats: int = 1, ready: bool = True, **variables: str
    ) -> Process:
        """Starts a worker of these seats, and waits until they have registered."""
        command = [sys.executable, "-m", "giostra", "worker", *([module] if module else [])]
        path = os.pathsep.join([str(HERE), *([os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else [])])
        process = self.start(
            [*command, "--processes", str(seats), *options],
            cwd=self.folder,
            env=self.variables(PYTHONPATH=path, **variables),
        )
        for _ in range(seats if ready else 0):
            process.line("registered")
        return process

    def python(
        self, code: str, *, ready: str | None = None, options: tuple[str, ...] = (), **variables: str
    ) -> Process:
        """Runs a program, and waits until it has printed a word."""
        path = self.folder / f"program{len(self.started)}.py"
        path.write_text(code)
        process = self.start([sys.executable, *options, str(path)], cwd=self.folder, env=self.variables(**variables))
        if ready is not None:
            process.line(ready)
        return process

    def client(self, **options: Any) -> giostra.Client:
        return giostra.Client(self.frontend, **options)

    def end(self) -> None:
        for process in reversed(self.started):
            process.end()


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """A broker of the test's own."""
    started = System(tmp_path)
    yield started
    started.end()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A broker with a store, and a worker of two seats, for tests that break neither."""
    folder = tmp_path_factory.mktemp("shared")
    started = System(folder, "--store", "store")
    started.worker("--allow-functions", seats=2)
    yield started
    started.end()


@pytest.fixture
def client(shared: System) -> Iterator[giostra.Client]:
    with shared.client() as made:
        yield made


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("GIOSTRA_") and name not in ("GIOSTRA_BIN", "GIOSTRA_TEST_ROUNDS"):
            monkeypatch.delenv(name)
