"""Calls of functions on worker processes, on one machine or many.

A client, an executor and a worker of the compute broker Giostra:

* `Client`: calls, futures, maps, durable jobs; `giostra.aio` has the same for asyncio.
* `Executor`: any function, as `concurrent.futures` has it.
* `Worker`: functions as operations, a process a seat.
"""

from giostra._client import CallFuture, Client, Job, JobStatus, Priority, Results
from giostra._errors import (
    Closed,
    Error,
    Expired,
    Failed,
    Invalid,
    NoBroker,
    NoWorker,
    Poisoned,
    Refused,
    Unable,
)
from giostra._executor import Executor
from giostra._native import Context, __version__, packb, unpackb
from giostra._types import register
from giostra._worker import Worker

__all__ = [
    "CallFuture",
    "Client",
    "Closed",
    "Context",
    "Error",
    "Executor",
    "Expired",
    "Failed",
    "Invalid",
    "Job",
    "JobStatus",
    "NoBroker",
    "NoWorker",
    "Poisoned",
    "Priority",
    "Refused",
    "Results",
    "Unable",
    "Worker",
    "__version__",
    "packb",
    "register",
    "unpackb",
]
