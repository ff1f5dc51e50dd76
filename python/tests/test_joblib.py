"""joblib, which computes by giostra.Executor if it is told so."""

from __future__ import annotations

import joblib
import pytest
from conftest import System

import giostra.joblib


def test_joblib_computes_by_the_workers_of_the_pool(shared: System) -> None:
    with joblib.parallel_config(backend="giostra", broker=shared.frontend):
        assert joblib.effective_n_jobs() == 2
        assert joblib.Parallel()(joblib.delayed(pow)(n, 2) for n in range(1000)) == [n * n for n in range(1000)]
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel()(joblib.delayed(divmod)(n, 0) for n in range(10))
        assert joblib.Parallel()(joblib.delayed(abs)(n) for n in (-1, 1)) == [1, 1]


def test_a_backend_without_a_broker_says_so(shared: System) -> None:
    with joblib.parallel_config(backend="giostra", broker="tcp://127.0.0.1:9", broker_timeout=0.2):
        with pytest.raises(giostra.NoBroker):
            joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(n) for n in range(3))
