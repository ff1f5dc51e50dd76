from collections.abc import Callable, Iterator
from typing import Any

__version__: str

def packb(value: object) -> bytes:
    """Returns an object as MessagePack, as it is sent."""

def unpackb(packed: bytes) -> Any:
    """Returns the object that was written as MessagePack."""

class Client:
    def __init__(
        self,
        broker: str,
        *,
        name: str | None,
        pool: str,
        priority: str,
        wait: bool,
        spread: bool,
        return_to_first: bool,
        broker_timeout: float,
        keys: str | None,
        broker_key: str | None,
    ) -> None: ...
    @property
    def pool(self) -> str: ...
    def call(
        self,
        future: object,
        operation: str,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any] | None,
        timeout: float | None,
        priority: str | None,
    ) -> int: ...
    def call_now(
        self,
        operation: str,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any] | None,
        timeout: float | None,
        priority: str | None,
    ) -> Any: ...
    def map(
        self,
        operation: str,
        arguments: Iterator[tuple[Any, ...]],
        *,
        window: int,
        ordered: bool,
        timeout: float | None,
        priority: str | None,
        exceptions: bool,
    ) -> Map: ...
    def submit_job(
        self,
        future: object,
        operation: str,
        arguments: Iterator[tuple[Any, ...]],
        *,
        key: str | None,
        name: str,
        priority: str,
        timeout: float | None,
        retries: int,
        keep: float | None,
    ) -> int: ...
    def job(self, future: object, id: str, question: str) -> int: ...
    def job_results(self, future: object, id: str, first: int) -> int: ...
    def jobs(self, future: object) -> int: ...
    def status(self, future: object) -> int: ...
    def seats(self, future: object) -> int: ...
    def cancel(self, task: int) -> bool: ...
    def progress(self, task: int) -> tuple[int, int] | None: ...
    def take(self) -> list[tuple[Any, bool, Any]] | None: ...
    def wait(self) -> None: ...
    def fileno(self) -> int: ...
    def unanswered(self) -> int: ...
    def close(self) -> list[Any]: ...

class Map(Iterator[Any]):
    def __next__(self) -> Any: ...
    def close(self) -> None: ...

class Context:
    """What an operation may ask and tell about the request that it computes."""

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more. Cheap enough for a loop."""

    def progress(self, done: int, total: int = 0) -> None:
        """Tells the client that ``done`` of ``total`` is done, in any unit; ``total`` is 0 if it is not known.
        At most ten reports a second are sent."""

def serve_seat(
    functions: dict[str, tuple[Callable[..., Any], bool]],
    *,
    broker: str,
    name: str | None,
    host: str | None,
    pool: str,
    threads: int,
    window: int,
    grace: float,
    lifetime: float,
    idle_timeout: float,
    keys: str | None,
    broker_key: str | None,
) -> int: ...
def end_with_parent(signal: int) -> None: ...
def log_level(level: int) -> None: ...
def log_lines() -> list[tuple[int, str, str]] | None: ...
def log_close() -> None: ...
