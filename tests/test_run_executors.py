"""`run` with the workers of an executor."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import run_functions as functions
import run_programs as programs
from helpers import end, stored
from run_helpers import (
    PATIENCE,
    Gate,
    assert_nothing_left,
    assert_untried,
    begun,
    by_whom,
    called,
    rest,
    start_run,
    to_group,
)

from tastypy import Tracker, WorkerError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of .*fork:DeprecationWarning"),
    pytest.mark.timeout(60),
]


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[int]]:
    """A tracker with twenty tasks, each of which is tried up to three times."""
    with Tracker[int](path, max_tries=3) as tracker:
        tracker.add_many(range(20))
        yield tracker


@pytest.fixture
def tasks(path: Path) -> Path:
    """A tracker with six tasks."""
    with Tracker[int](path) as tracker:
        tracker.add_many(range(6))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    log = tmp_path / "log"
    log.touch()
    return log


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.close()


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def processes(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """A pool of two processes, with each way to start them."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(request.param)) as executor:
        yield executor


@pytest.fixture
def threads() -> Iterator[Executor]:
    """A pool of four threads."""
    with ThreadPoolExecutor(4) as executor:
        yield executor


def assert_released(path: Path) -> None:
    """No claim; and no file but that of this process, whose tracker is open and has claimed something."""
    assert [key for key, entry in stored(path).items() if "_claim" in entry] == []
    with Tracker[Any](path) as one:
        one.add("probe")
        task = one.claim()
        assert task is not None
        task.done()
        del one["probe"]
    assert len([file for file in path.iterdir() if file.name.startswith("worker-")]) <= 1


# -------------------------------------------------------------------------------------------------------------- processes


def test_the_processes_of_a_pool_do_the_tasks(
    tracker: Tracker[int], path: Path, log: Path, processes: Executor
) -> None:
    tracker.add("not an int")  # type: ignore[arg-type]  # a key of another type
    assert tracker.run(partial(functions.put_down, log), executor=processes, batch=3)[:3] == (21, 0, 0)
    assert sorted(called(log)[:]) == sorted([*map(str, range(20)), "not"])
    assert str(os.getpid()) not in by_whom(log)
    assert stored(path)[3]["result"] == 3
    assert {entry["_tries"] for entry in stored(path).values()} == {1}
    assert_released(path)


def test_a_pool_goes_on_to_work_for_others_after_a_run(tracker: Tracker[int]) -> None:
    with ProcessPoolExecutor(2) as executor:
        assert tracker.run(functions.double, executor=executor).done == 20
        tracker.add(20)
        assert tracker.run(functions.double, executor=executor).done == 1
        assert executor.submit(functions.double, 2).result(PATIENCE) == 4
    assert_nothing_left(Path(tracker.path))


def test_errors_are_recorded_or_raised_as_without_an_executor(tracker: Tracker[int], log: Path) -> None:
    with ProcessPoolExecutor(2) as executor:
        assert tracker.run(partial(functions.fail_if_odd, log), executor=executor)[:3] == (10, 10, 10)
        tracker.reset_tries(1)
        with pytest.raises(ZeroDivisionError, match="no 1") as caught:
            tracker.run(partial(functions.fail_if_odd, log), executor=executor, on_error="raise")
        assert "in fail" in str(caught.value.__cause__)
    assert tracker.tries(1) in (1, 2), "the other process may have tried it, too, before the run ended"
    assert_nothing_left(Path(tracker.path))


def test_a_function_that_cannot_be_pickled_is_refused(tracker: Tracker[int], processes: Executor) -> None:
    with pytest.raises(WorkerError, match="define it at the top of a module"):
        tracker.run(lambda key: key, executor=processes)
    assert tracker.counts().open == 20
    assert_released(Path(tracker.path))


@pytest.mark.parametrize("batch", [1, 4])
def test_a_killed_process_breaks_the_pool_and_leaves_no_claim_behind(tracker: Tracker[int], batch: int) -> None:
    executor = ProcessPoolExecutor(2)
    with executor, pytest.raises(BrokenProcessPool):
        tracker.run(partial(functions.end_by, "SIGKILL"), executor=executor, batch=batch)
    summary = tracker.run(functions.double, workers=2)
    assert (summary.failed, tracker.counts().done) == (0, 20)
    assert tracker.tries(0) in (2, 3), "the other process may have taken it over before the pool ended that"
    assert {tracker.tries(key) for key in range(1, 20)} == {1}
    assert_nothing_left(Path(tracker.path))


# ---------------------------------------------------------------------------------------------------------------- threads


def test_the_threads_of_a_pool_do_the_tasks_in_this_process(
    tracker: Tracker[int], path: Path, threads: Executor
) -> None:
    barrier = threading.Barrier(4)  # passed by four at once, five times

    def wait_for_others(key: int) -> str:
        barrier.wait(PATIENCE)
        return threading.current_thread().name

    assert tracker.run(wait_for_others, executor=threads)[:3] == (20, 0, 0)
    assert len({entry["result"] for entry in stored(path).values()}) == 4
    assert not tracker.closed
    assert tracker.counts().done == 20
    assert tracker.copy() == stored(path)
    tracker.close()
    assert_nothing_left(path)


def test_threads_do_each_task_once_in_batches_too(
    tracker: Tracker[int], path: Path, log: Path, threads: Executor
) -> None:
    assert tracker.run(partial(functions.put_down, log), executor=threads, batch=4).done == 20
    assert sorted(map(int, called(log))) == list(range(20))
    assert by_whom(log) == {str(os.getpid())}
    tracker.close()
    assert_nothing_left(path)


def test_tasks_in_threads_may_add_tasks_to_the_same_tracker(tracker: Tracker[int], threads: Executor) -> None:
    def add_more(key: int) -> None:
        if key < 50:
            tracker.add_if_absent(key + 20)

    assert tracker.run(add_more, executor=threads).done == 70


def test_as_many_workers_are_asked_for_as_the_caller_says(tracker: Tracker[int], threads: Executor) -> None:
    names = set()

    def note(_: int) -> None:
        names.add(threading.current_thread().name)

    tracker.run(note, executor=threads, workers=1)
    assert len(names) == 1


def test_a_type_error_of_a_lambda_in_a_thread_is_raised_as_what_it_is(tracker: Tracker[int], threads: Executor) -> None:
    """A lambda could not be pickled, but here nobody has to."""

    def refuse(key: int) -> None:
        message = f"not {key}"
        raise TypeError(message)

    with pytest.raises(TypeError, match="not "):
        tracker.run(lambda key: refuse(key), executor=threads, on_error="raise")  # noqa: PLW0108 - that is the point


def test_an_error_in_a_thread_lets_the_others_end_what_they_have_in_hand(
    tracker: Tracker[int], threads: Executor
) -> None:
    others, failed = threading.Barrier(4), threading.Event()

    def fail_one(key: int) -> int:
        if key < 4:
            others.wait(PATIENCE)
        if key == 0:
            failed.set()
            return functions.fail(key)
        failed.wait(PATIENCE)
        threading.Event().wait(0.6)  # they look whether the run goes on no more than twice a second
        return key

    with pytest.raises(ZeroDivisionError, match="no 0"):
        tracker.run(fail_one, executor=threads, on_error="raise")
    assert tracker.counts()[1:] == (3, 0, 0, 0, 1, 16)
    tracker.close()
    assert_nothing_left(Path(tracker.path))


# ----------------------------------------------------------------------------------------------------- an executor of one's own


def test_any_executor_will_do(tracker: Tracker[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    executor = programs.Inline()
    assert tracker.run(functions.double, executor=executor).done == 20
    assert len(executor.calls) == 3
    with pytest.raises(ValueError, match="workers"):
        tracker.run(functions.double, executor=executor, workers=0)


def test_no_two_calls_of_an_executor_are_equal_since_some_make_equal_ones_once(tracker: Tracker[int]) -> None:
    executor = programs.Inline()
    tracker.run(functions.double, executor=executor, workers=3)
    assert len(set(executor.calls)) == 3


def test_a_call_that_an_executor_never_begins_is_not_waited_for_after_an_error(tracker: Tracker[int]) -> None:
    """Some never tell their futures that they were cancelled."""
    with pytest.raises(ZeroDivisionError, match="no 0"):
        tracker.run(functions.fail, executor=programs.OnlyOne(), workers=2, on_error="raise")


# ----------------------------------------------------------------------------------------------------------------- signals


def test_ctrl_c_lets_threads_end_what_they_have_in_hand(tasks: Path, gate: Gate) -> None:
    """Nothing can interrupt a thread; the same of the pool's processes, which are not ours to end."""
    program = start_run(tasks, "wait_and_say", gate.path, pool="threads")
    keys = begun(program, 2).keys()
    to_group(program, signal.SIGINT)
    assert program.stdout is not None
    assert select.select([program.stdout], [], [], 0.7) == ([], [], [])
    gate.open()
    said = rest(program)
    assert sorted(line.split()[1] for line in said[:-1]) == sorted(keys)
    assert said[-1] == "KeyboardInterrupt"
    assert end(program, PATIENCE) == -signal.SIGINT
    assert {str(key) for key, entry in stored(tasks).items() if entry["_done"]} == keys
    assert_nothing_left(tasks)


@pytest.mark.parametrize("pool", ["processes", "none"])
def test_ctrl_c_interrupts_functions_where_it_can_and_releases_their_tasks_as_if_never_tried(
    tasks: Path, gate: Gate, pool: str
) -> None:
    """The processes of a pool get it from the terminal; and an executor may do its work in the main thread."""
    program = start_run(tasks, "wait_and_say", gate.path, pool=pool, options={"stderr": subprocess.DEVNULL})
    begun(program, 1 if pool == "none" else 2)
    to_group(program, signal.SIGINT)
    assert [line.split()[0] for line in rest(program)] == ["KeyboardInterrupt"]  # and the processes of the pool
    assert end(program, PATIENCE) == -signal.SIGINT
    assert_untried(tasks)
    assert_nothing_left(tasks)


@pytest.mark.parametrize("pool", ["threads", "processes", "none"])
def test_sigterm_releases_the_tasks_of_a_pool_and_leaves_no_file(tasks: Path, gate: Gate, pool: str) -> None:
    program = start_run(tasks, "wait_and_say", gate.path, pool=pool)
    begun(program, 1 if pool == "none" else 2)
    to_group(program, signal.SIGTERM)
    assert rest(program) == []
    assert end(program, PATIENCE) == -signal.SIGTERM
    assert_untried(tasks)
    assert_nothing_left(tasks)
