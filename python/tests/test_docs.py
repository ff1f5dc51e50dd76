"""The examples in docstrings run, and the types are strict: those of the package, and of a program that uses it."""

from __future__ import annotations

import doctest
import importlib
import json
import site
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import System, environment

import giostra
from giostra import _types

MODULES = ["_client", "_errors", "_executor", "_settings", "_types", "_worker"]

EXAMPLE = """
import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import Any

import giostra
from giostra import aio

worker = giostra.Worker(pool="text")


@worker.operation
def shout(text: str) -> str:
    return text.upper()


@worker.operation(name="count")
def counted(context: giostra.Context, n: int) -> int:
    context.progress(n, n)
    return 0 if context.cancelled else n


def use(client: giostra.Client) -> str:
    future: giostra.CallFuture = client.submit("shout", "a", timeout=1.0, priority="high")
    results: Iterator[Any] = client.map("shout", ["a"], window=5)
    job: giostra.Job = client.submit_job("shout", ["a"], keep=None)
    status: giostra.JobStatus = job.wait(1.0)
    text: str = shout("b")
    return f"{text} {future.result()} {list(results)} {status.ended}"


async def main() -> None:
    async with aio.Client() as client:
        results: AsyncIterator[Any] = client.map("shout", ["a"])
        print([result async for result in results], await client.call("shout", "a"))


with giostra.Executor() as executor:
    power: Future[int] = executor.submit(pow, 2, 3)
asyncio.run(main())
"""


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(shared: System, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("GIOSTRA_FRONTEND", shared.frontend)
    # What they register is not for other tests.
    monkeypatch.setattr("giostra._types._names", dict(_types._names))
    monkeypatch.setattr("giostra._types._readers", dict(_types._readers))
    found = doctest.testmod(importlib.import_module(f"giostra.{name}"), optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert found.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    examples = [
        len(test.examples) for name in MODULES for test in finder.find(importlib.import_module(f"giostra.{name}"))
    ]
    assert sum(examples) > 15


def checked(checker: list[str], folder: Path) -> None:
    # mypy finds what is installed by itself, and refuses to be told.
    folder_of_package = str(Path(giostra.__file__).parent.parent)
    told = {} if folder_of_package in site.getsitepackages() else {"MYPYPATH": folder_of_package}
    environ = environment(**told)
    done = subprocess.run([sys.executable, "-m", *checker], cwd=folder, capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_is_content_with_the_package_and_with_a_program(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "program.py").write_text(EXAMPLE)
    checked(["mypy", "--strict", "--cache-dir", str(tmp_path), "-p", "giostra"], tmp_path)
    checked(["mypy", "--strict", "--cache-dir", str(tmp_path), "program.py"], tmp_path)


def test_mypy_finds_what_is_wrong_in_a_program(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "program.py").write_text("import giostra\ngiostra.Client(priority='utmost').submit(1)\n")
    with pytest.raises(AssertionError, match='(?s)incompatible type "Literal.*incompatible type "int"'):
        checked(["mypy", "--strict", "--cache-dir", str(tmp_path), "program.py"], tmp_path)


def test_pyright_is_content_with_the_package(tmp_path: Path) -> None:
    pytest.importorskip("pyright")
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps({"typeCheckingMode": "strict", "include": [str(Path(giostra.__file__).parent)]})
    )
    checked(["pyright", "--pythonpath", sys.executable], tmp_path)
