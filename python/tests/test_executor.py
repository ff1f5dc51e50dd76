"""CPython's own tests of executors (Lib/test/test_concurrent_futures of 3.13), adapted.

Left out, since they are about what this executor has not:

* processes and threads of its own: ``max_workers``, ``initializer`` (test_init), names of threads, reuse of idle
  processes, ``max_tasks_per_child``, saturation, forking and start methods, a pool that is "broken" by a killed
  process (here others compute what it had: test_seats);
* locks, queues and managers of `multiprocessing` as arguments (test_deadlock, test_ressources_gced_in_workers);
* `Future` by itself (test_future), and the tests of ``as_completed`` and ``wait`` without an executor: they are
  of the standard library, whose futures these are.

Different here: functions of ``__main__`` and lambdas can be sent, if cloudpickle is installed.
"""

from __future__ import annotations

import itertools
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import Future
from typing import Any

import pytest
from conftest import System

import giostra


def create_future(state: str, exception: BaseException | None = None, result: Any = None) -> Future[Any]:
    future: Future[Any] = Future()
    future._state, future._exception, future._result = state, exception, result
    return future


PENDING = create_future("PENDING")
CANCELLED = create_future("CANCELLED")
NOTIFIED = create_future("CANCELLED_AND_NOTIFIED")
EXCEPTION = create_future("FINISHED", exception=OSError())
SUCCESSFUL = create_future("FINISHED", result=42)


class MyObject:
    def my_method(self) -> None:
        pass


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


class NotLoaded(Exception):
    """Its pickle can't be read: it is made without the argument that it needs."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)


def mul(x: int, y: int) -> int:
    return x * y


def capture(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def make_dummy_object(_: int) -> MyObject:
    return MyObject()


def sleep_and_raise(seconds: float) -> None:
    time.sleep(seconds)
    raise Exception("this is an exception")


def raise_it(error: BaseException) -> None:
    raise error


def fail_with_comment() -> None:
    raise RuntimeError(123)  # some comment


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    system = System(tmp_path_factory.mktemp("executor"))
    system.worker("--allow-functions", module="", seats=4)
    yield system
    system.end()


@pytest.fixture
def executor(pool: System) -> Iterator[giostra.Executor]:
    # The module of the tests is not there for the workers: its functions are sent as those of __main__ are.
    cloudpickle = pytest.importorskip("cloudpickle")
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    made = giostra.Executor(broker=pool.frontend)
    yield made
    made.shutdown()
    cloudpickle.unregister_pickle_by_value(module)


def test_submit(executor: giostra.Executor) -> None:
    assert executor.submit(pow, 2, 8).result() == 256


def test_submit_keyword(executor: giostra.Executor) -> None:
    assert executor.submit(mul, 2, y=8).result() == 16
    assert executor.submit(capture, 1, self=2, fn=3).result() == ((1,), {"self": 2, "fn": 3})
    with pytest.raises(TypeError):
        executor.submit(fn=capture, arg=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        executor.submit(arg=1)  # type: ignore[call-arg]


def test_a_lambda_and_a_closure_can_be_submitted(executor: giostra.Executor) -> None:
    factor = 3
    assert executor.submit(lambda n: factor * n, 4).result() == 12


def test_map(executor: giostra.Executor) -> None:
    expected = list(map(pow, range(10), range(10)))
    assert list(executor.map(pow, range(10), range(10))) == expected
    assert list(executor.map(pow, range(10), range(10), chunksize=3)) == expected


def test_map_chunksize(executor: giostra.Executor) -> None:
    expected = list(map(pow, range(40), range(40)))
    for chunksize in (6, 50, 40):
        assert list(executor.map(pow, range(40), range(40), chunksize=chunksize)) == expected
    with pytest.raises(ValueError):
        list(executor.map(pow, range(40), range(40), chunksize=-1))


@pytest.mark.parametrize("chunksize", [1, 4])
def test_map_exception(executor: giostra.Executor, chunksize: int) -> None:
    results = executor.map(divmod, [1, 1, 0, 1], [2, 3, 5, 0], chunksize=chunksize)
    if chunksize == 1:
        assert [next(results) for _ in range(3)] == [(0, 1), (0, 1), (0, 0)]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_timeout(executor: giostra.Executor) -> None:
    results = []
    with pytest.raises(futures.TimeoutError):
        for result in executor.map(time.sleep, [0, 0, 1.5], timeout=0.7):
            results.append(result)
    assert results == [None, None]


def test_shutdown_race_issue12456(executor: giostra.Executor) -> None:
    executor.map(str, [2] * 6)
    executor.shutdown()


def test_no_stale_references(executor: giostra.Executor) -> None:
    my_object = MyObject()
    collected = threading.Event()
    _callback = weakref.ref(my_object, lambda _: collected.set())
    executor.submit(my_object.my_method)
    del my_object
    assert collected.wait(10)


def test_free_reference(executor: giostra.Executor) -> None:
    for obj in executor.map(make_dummy_object, range(10)):
        reference = weakref.ref(obj)
        del obj
        assert reference() is None


def test_a_result_is_kept_by_nothing_but_its_future(executor: giostra.Executor) -> None:
    future = executor.submit(make_dummy_object, 1)
    reference = weakref.ref(future.result())
    del future
    end = time.monotonic() + 5
    while reference() is not None:
        assert time.monotonic() < end, "still referred to"
        time.sleep(0.01)


def test_traceback(executor: giostra.Executor, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError) as raised:
        executor.submit(fail_with_comment).result()
    assert type(raised.value) is RuntimeError and raised.value.args == (123,)
    assert "RuntimeError: 123" in str(raised.value.__cause__)
    assert "fail_with_comment" in str(raised.value.__cause__)
    sys.excepthook(RuntimeError, raised.value, raised.value.__traceback__)
    assert "fail_with_comment" in capsys.readouterr().err


def test_exceptions_that_can_not_be_sent_or_read_are_failures(executor: giostra.Executor) -> None:
    with pytest.raises(giostra.Failed, match="Unpicklable"):
        executor.submit(_raise_unpicklable).result()
    with pytest.raises(Exception) as raised:
        executor.submit(raise_it_loosely).result()
    assert "NotLoaded" in str(raised.value) or "argument" in str(raised.value)
    with pytest.raises((TypeError, pickle.PicklingError)):
        executor.submit(len, threading.Lock())
    with pytest.raises(giostra.Failed, match="lock"):
        executor.submit(threading.Lock).result()
    with pytest.raises(giostra.Failed, match="SystemExit"):
        executor.submit(sys.exit, 3).result()
    assert executor.submit(pow, 2, 2).result() == 4


def _raise_unpicklable() -> None:
    raise Unpicklable


def raise_it_loosely() -> None:
    raise NotLoaded(1, 2)


def test_run_after_shutdown(executor: giostra.Executor) -> None:
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(pow, 2, 5)


APPLE = """
import sys, time, giostra
def sleep_and_return(seconds, text):
    time.sleep(seconds)
    return text
executor = giostra.Executor()
executor.submit(sleep_and_return, 0.2, "apple").add_done_callback(lambda future: print(future.result(), flush=True))
"""


@pytest.mark.parametrize("then", ["", "executor.shutdown(wait=False)", "del executor"])
def test_interpreter_shutdown(pool: System, then: str) -> None:
    for _ in range(3):
        program = pool.python(APPLE + then, options=("-X", "faulthandler"))
        assert program.wait() == 0
        assert program.lines == ["apple"]


def test_cancel_futures_wait_false(pool: System) -> None:
    program = pool.python(
        "import giostra, time\nexecutor = giostra.Executor()\nfuture = executor.submit(time.sleep, 0.1)\n"
        "executor.shutdown(wait=False, cancel_futures=True)\nprint(future.cancelled() or future.done())\n"
    )
    assert program.wait() == 0
    assert program.lines == ["True"]


def test_submit_after_interpreter_shutdown(pool: System) -> None:
    program = pool.python(
        "import atexit\n@atexit.register\ndef run_last():\n    try:\n        executor.submit(id, None)\n"
        "    except RuntimeError:\n        print('runtime-error')\n        raise\n"
        "import giostra\nexecutor = giostra.Executor()\nexecutor.submit(id, 42).result()\n"
    )
    program.wait()
    assert "RuntimeError: cannot schedule new futures" in program.text
    assert program.lines[0] == "runtime-error"


def test_hang_issue12364(executor: giostra.Executor) -> None:
    submitted = [executor.submit(time.sleep, 0.02) for _ in range(50)]
    executor.shutdown()
    for future in submitted:
        future.result()


def test_cancel_futures(executor: giostra.Executor) -> None:
    submitted = [executor.submit(time.sleep, 0.1) for _ in range(50)]
    submitted[0].result()
    executor.shutdown(cancel_futures=True)
    assert sum(future.cancelled() for future in submitted) > 20
    others = [future for future in submitted if not future.cancelled()]
    assert others and all(future.done() and future.exception() is None for future in others)


def test_hang_gh94440(executor: giostra.Executor) -> None:
    executor.submit(int).result()
    executor.submit(int).cancel()
    begun = time.monotonic()
    executor.shutdown(wait=True)
    assert time.monotonic() - begun < 2


def test_context_manager_shutdown(pool: System) -> None:
    with giostra.Executor(broker=pool.frontend) as executor:
        assert list(executor.map(abs, range(-5, 5))) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]
    with pytest.raises(RuntimeError):
        executor.submit(abs, 1)


def test_del_shutdown_and_no_wait(pool: System) -> None:
    for ends in (lambda executor: None, lambda executor: executor.shutdown(wait=False)):
        executor = giostra.Executor(broker=pool.frontend)
        results = executor.map(abs, range(-5, 5))
        ends(executor)
        del executor
        assert list(results) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]


def test_a_clients_connection_can_be_used_and_stays_open(pool: System) -> None:
    with pool.client() as client:
        with giostra.Executor(client) as executor:
            assert executor.submit(pow, 2, 3).result() == 8
        with giostra.Executor(client) as executor:
            assert executor.submit(pow, 2, 4).result() == 16


def test_a_worker_without_functions_refuses_them_with_what_to_do(system: System) -> None:
    system.worker()
    with (
        giostra.Executor(broker=system.frontend) as executor,
        pytest.raises(giostra.Invalid, match="--allow-functions"),
    ):
        executor.submit(pow, 2, 3).result(10)


def test_a_function_of_another_version_of_python_is_refused(
    executor: giostra.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("giostra._functions.VERSION", "3.9")
    with pytest.raises(giostra.Invalid, match=r"comes from Python 3.9, and this worker has 3\."):
        executor.submit(pow, 2, 3).result(10)


# test_as_completed


def test_as_completed_no_timeout(executor: giostra.Executor) -> None:
    all_ = {NOTIFIED, EXCEPTION, SUCCESSFUL, executor.submit(mul, 2, 21), executor.submit(mul, 7, 6)}
    assert set(futures.as_completed(all_)) == all_


@pytest.mark.parametrize("timeout", [0, 0.1])
def test_as_completed_future_times_out(executor: giostra.Executor, timeout: float) -> None:
    done = {NOTIFIED, EXCEPTION, SUCCESSFUL}
    completed = set()
    with pytest.raises(futures.TimeoutError):
        for future in futures.as_completed(done | {executor.submit(time.sleep, 0.5)}, timeout):
            completed.add(future)
    assert completed == done


def test_as_completed_duplicate_futures(executor: giostra.Executor) -> None:
    future = executor.submit(time.sleep, 0.2)
    assert len(list(futures.as_completed(itertools.repeat(future, 3)))) == 1


# test_wait


def test_wait_20369(executor: giostra.Executor) -> None:
    future = executor.submit(time.sleep, 0.2)
    assert futures.wait([future, future]) == ({future}, set())


def test_wait_first_completed(executor: giostra.Executor) -> None:
    quick, slow = executor.submit(mul, 21, 2), executor.submit(time.sleep, 0.5)
    assert futures.wait([CANCELLED, quick, slow], return_when=futures.FIRST_COMPLETED) == ({quick}, {CANCELLED, slow})


def test_wait_first_completed_some_already_completed(executor: giostra.Executor) -> None:
    slow = executor.submit(time.sleep, 0.5)
    done = futures.wait([NOTIFIED, SUCCESSFUL, slow], return_when=futures.FIRST_COMPLETED)
    assert done == ({NOTIFIED, SUCCESSFUL}, {slow})


def test_wait_first_exception(executor: giostra.Executor) -> None:
    quick, fails = executor.submit(mul, 2, 21), executor.submit(sleep_and_raise, 0.3)
    slow = executor.submit(time.sleep, 1.2)
    assert futures.wait([quick, fails, slow], return_when=futures.FIRST_EXCEPTION) == ({quick, fails}, {slow})


def test_wait_first_exception_some_already_complete(executor: giostra.Executor) -> None:
    fails, slow = executor.submit(divmod, 21, 0), executor.submit(time.sleep, 0.5)
    done, open_ = futures.wait([SUCCESSFUL, CANCELLED, NOTIFIED, fails, slow], return_when=futures.FIRST_EXCEPTION)
    assert (done, open_) == ({SUCCESSFUL, NOTIFIED, fails}, {CANCELLED, slow})


def test_wait_first_exception_one_already_failed(executor: giostra.Executor) -> None:
    slow = executor.submit(time.sleep, 0.5)
    assert futures.wait([EXCEPTION, slow], return_when=futures.FIRST_EXCEPTION) == ({EXCEPTION}, {slow})


def test_wait_all_completed(executor: giostra.Executor) -> None:
    all_ = {SUCCESSFUL, NOTIFIED, EXCEPTION, executor.submit(divmod, 2, 0), executor.submit(mul, 2, 21)}
    assert futures.wait(all_, return_when=futures.ALL_COMPLETED) == (all_, set())


def test_wait_timeout(executor: giostra.Executor) -> None:
    slow = executor.submit(time.sleep, 0.5)
    done, open_ = futures.wait([NOTIFIED, EXCEPTION, SUCCESSFUL, slow], timeout=0.05)
    assert (done, open_) == ({NOTIFIED, EXCEPTION, SUCCESSFUL}, {slow})


def test_wait_pending_calls_race(executor: giostra.Executor) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        done, open_ = futures.wait({executor.submit(pow, n, 2) for n in range(100)}, timeout=20)
    finally:
        sys.setswitchinterval(before)
    assert len(done) == 100 and not open_


# test_future, with futures of this executor


def test_a_call_that_is_under_way_is_cancelled_and_those_who_wait_are_told(executor: giostra.Executor) -> None:
    future = executor.submit(time.sleep, 1.0)
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    time.sleep(0.1)
    assert future.cancel() and future.cancelled() and future.cancel()
    assert called.is_set()
    assert futures.wait([future], timeout=1).done == {future}
    with pytest.raises(futures.CancelledError):
        future.result()


def test_cancelling_while_results_arrive_loses_neither(executor: giostra.Executor) -> None:
    submitted = [executor.submit(abs, n) for n in range(2000)]
    for future in submitted[::2]:
        future.cancel()
    assert all(future.cancelled() or future.result(10) == n for n, future in enumerate(submitted))
    assert futures.wait(submitted, timeout=10).not_done == set()
