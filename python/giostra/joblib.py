"""joblib on Giostra's workers, and with it what is built on joblib, such as scikit-learn.

    import giostra.joblib
    with joblib.parallel_config(backend="giostra", pool="functions"):
        joblib.Parallel()(joblib.delayed(pow)(n, 2) for n in range(10))

The workers have to be started with ``--allow-functions``. ``parallel_config`` takes the arguments of
`giostra.Executor`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib.parallel import (  # type: ignore[import-untyped]
    AutoBatchingMixin,
    ParallelBackendBase,
    register_parallel_backend,
)

from giostra._executor import Executor


class Backend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """A backend of joblib that computes by `giostra.Executor`."""

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self, nesting_level: int | None = None, inner_max_num_threads: int | None = None, **executor: Any
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._options = executor
        self._executor: Executor | None = None

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        """Connects to the broker, at the beginning of a `joblib.Parallel`."""
        self.parallel = parallel
        self._executor = Executor(**self._options)
        return self.effective_n_jobs(n_jobs)

    def effective_n_jobs(self, n_jobs: int) -> int:
        """The number of calls that the pool's workers compute at once, unless fewer are asked for."""
        if n_jobs is not None and n_jobs > 0:
            return n_jobs
        executor = self._executor or Executor(**self._options)
        seats = executor.seats()
        if executor is not self._executor:
            executor.shutdown()
        return max(seats, 1)

    def submit(self, func: Callable[[], Any], callback: Callable[[Future[Any]], None]) -> Future[Any]:
        """Calls a function, and then the callback."""
        if self._executor is None:
            raise RuntimeError("the backend was not configured")
        future = self._executor.submit(func)
        future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Returns the result of a call."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancels what is under way."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = Executor(**self._options) if ensure_ready else None

    def terminate(self) -> None:
        """Ends the connection, at the end of a `joblib.Parallel`."""
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None


register_parallel_backend("giostra", Backend)
