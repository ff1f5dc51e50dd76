"""A worker with the operations that the tests call."""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import giostra

worker = giostra.Worker()


@giostra.register
@dataclasses.dataclass
class Point:
    x: float
    y: float


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@worker.operation
def add(a: Any, b: Any) -> Any:
    return a + b


@worker.operation
def is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))


@worker.operation
def echo(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs] if kwargs or len(args) != 1 else args[0]


@worker.operation
def type_of(value: Any) -> str:
    return type(value).__name__


@worker.operation
def nap(seconds: float, value: Any = None) -> Any:
    time.sleep(seconds)
    return value


@worker.operation
def divide(a: float, b: float) -> float:
    return a / b


@worker.operation
def until_cancelled(context: giostra.Context, path: str) -> None:
    Path(path + ".began").touch()
    while not context.cancelled:
        time.sleep(0.005)
    Path(path).touch()


@worker.operation
def steps(context: giostra.Context, count: int, path: str) -> int:
    for done in range(count):
        context.progress(done + 1, count)
        time.sleep(0.02)
    while not Path(path).exists() and not context.cancelled:
        time.sleep(0.01)
    return count


@worker.operation
def fail(kind: str) -> None:
    if kind == "unprintable":
        raise Unprintable
    if kind == "surrogate":
        raise ValueError("half a pair: \ud800")
    if kind == "code":
        raise giostra.Failed("out-of-range", "a code of its own")
    if kind == "long":
        raise ValueError("x" * 100_000)
    if kind == "group":
        raise BaseExceptionGroup("both", [ValueError(1), KeyboardInterrupt()])
    raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt()}.get(kind) or ValueError(kind)


@worker.operation
def unsendable(kind: str) -> Any:
    return {"object": object(), "int": 1 << 64, "surrogate": "\ud800", "large": b"x" * (65 << 20)}.get(kind)


@worker.operation
def unable_once(path: str) -> int:
    """Is unable in the first seat that has it."""
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return os.getpid()
    raise giostra.Unable("not now")


@worker.operation
def die(how: str, path: str | None = None) -> int:
    """Ends its process, if a path is given only the first time."""
    if path is not None:
        try:
            Path(path).touch(exist_ok=False)
        except FileExistsError:
            return os.getpid()
    if how == "exit":
        os._exit(1)
    if how == "segfault":
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@worker.operation
def hold_the_lock(seconds: int) -> str:
    """Computes for so long without releasing the interpreter's lock."""
    ctypes.PyDLL(None).sleep(seconds)
    return "done"


@worker.operation
def pid() -> int:
    return os.getpid()


@worker.operation
def slow_square(n: int) -> int:
    time.sleep(0.002)
    return n * n


@worker.operation
async def gather(count: int) -> list[int]:
    async def one(n: int) -> int:
        await asyncio.sleep(0.05)
        return n

    return list(await asyncio.gather(*map(one, range(count))))


@worker.operation
def mask_of_a_program() -> int:
    """Returns the signals that are blocked in a program that it starts."""
    status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    return int(next(line for line in status.splitlines() if line.startswith("SigBlk:")).split()[1], 16)


@worker.operation
def end_a_program() -> int:
    """Starts a program, and returns how SIGTERM ends it."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    return process.wait(10)


if __name__ == "__main__":
    worker.run()
