"""Functions by value: how an executor's calls travel, and how a worker that allows them computes them."""

from __future__ import annotations

import importlib
import pickle
import sys
import traceback
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from giostra._errors import Failed

#: The operation of workers that compute any function.
OPERATION = "giostra.function"

#: Bytecode fits the interpreter's version only.
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

try:
    _dumps: Callable[..., bytes] = importlib.import_module("cloudpickle").dumps
except ImportError:
    _dumps = pickle.dumps


def dumps(value: Any) -> bytes:
    """Returns an object as bytes, functions of ``__main__`` and lambdas included if cloudpickle is installed."""
    try:
        return _dumps(value, protocol=5)
    except (AttributeError, pickle.PicklingError) as error:
        if "cloudpickle" in sys.modules:
            raise
        raise pickle.PicklingError(
            f"{error}; pip install cloudpickle has lambdas and functions of __main__ sent"
        ) from error


@lru_cache(maxsize=256)
def _function(dumped: bytes) -> Callable[..., Any]:
    function: Callable[..., Any] = pickle.loads(dumped)
    return function


def compute(version: str, function: bytes, arguments: bytes) -> list[Any]:
    """Computes a call, in a worker. Returns whether it has succeeded, and the pickled result or exception."""
    if version != VERSION:
        raise Failed("invalid", f"the function comes from Python {version}, and this worker has {VERSION}")
    try:
        args, kwargs = pickle.loads(arguments)
        result = _function(function)(*args, **kwargs)
    except Exception as error:
        trace = "".join(traceback.format_exception(error))
        try:
            return [False, dumps((error.with_traceback(None), trace))]
        except Exception:
            raise error from None
    return [True, dumps(result)]


def refuse(version: str, function: bytes, arguments: bytes) -> list[Any]:
    """What a worker answers that takes no functions."""
    raise Failed(
        "invalid", "this worker takes no functions: start it with --allow-functions (run(allow_functions=True))"
    )


class RemoteTraceback(Exception):
    """The cause of an exception that was raised in a worker: its traceback there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def result(value: list[Any]) -> Any:
    """Returns the result of a call, or raises its exception."""
    ok, dumped = value
    loaded = pickle.loads(dumped)
    if ok:
        return loaded
    error, trace = loaded
    error.__cause__ = RemoteTraceback(trace)
    raise error
