"""What a run makes of functions that fail, and of workers that die."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import run_functions as functions
from helpers import end, hear, stored
from run_helpers import PATIENCE, assert_nothing_left, called, filled, start_run

from tastypy import WorkerError

pytestmark = pytest.mark.timeout(60)

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(autouse=True)
def _forking() -> Iterator[None]:
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("fork", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    log = tmp_path / "log"
    log.touch()
    return log


# ------------------------------------------------------------------------------------------------------ functions that fail


def test_an_error_is_recorded_and_tried_again_after_the_others(path: Path, log: Path) -> None:
    with filled(path, 6, max_tries=3) as tracker:
        summary = tracker.run(partial(functions.fail_if_odd, log), workers=1)
        assert summary[:3] == (3, 3, 3)
        assert tracker.counts().given_up == 3
    assert called(log) == [*"012345", *"135", *"135"]
    entry = stored(path)[3]
    assert entry["_error"] == "ZeroDivisionError: no 3"
    assert (entry["_tries"], entry["_done"]) == (3, False)
    assert "result" not in entry
    assert_nothing_left(path)


def test_the_summary_tells_what_failed_from_what_was_given_up(path: Path, log: Path) -> None:
    """A task that failed stays open for the next run where its tries are not used up: here the first error ends the run."""
    with filled(path, 3, max_tries=2) as tracker:
        with pytest.raises(ZeroDivisionError):
            tracker.run(partial(functions.fail_if_odd, log), workers=1, on_error="raise")
        assert tracker.counts()[1:] == (1, 0, 0, 0, 1, 1)
        assert tracker.run(partial(functions.fail_if_odd, log), workers=1)[:3] == (1, 1, 1)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_first_error_is_raised_with_the_workers_traceback_as_its_cause(path: Path, workers: int) -> None:
    with filled(path, 4) as tracker:
        with pytest.raises(ZeroDivisionError, match="no ") as caught:
            tracker.run(functions.fail, workers=workers, on_error="raise")
        cause = str(caught.value.__cause__)
        assert "run_functions.py" in cause
        assert "in fail" in cause
        assert cause.endswith(f"ZeroDivisionError: {caught.value}\n")
        failed = [entry for entry in tracker.values() if "_error" in entry]
        assert [entry["_tries"] for entry in failed] == [1] * len(failed)
        assert 1 <= len(failed) <= workers
        assert tracker.counts().done == 0
    assert_nothing_left(path)


@pytest.mark.parametrize(
    "kind", [OSError, FileNotFoundError, BrokenPipeError, EOFError, KeyError, TypeError, AttributeError, StopIteration]
)
def test_whatever_its_type_an_error_is_raised_that_is_to_be_raised(path: Path, kind: type[Exception]) -> None:
    """Some of them are also what a pipe to a worker raises when that is gone."""
    with filled(path, 4, max_tries=1) as tracker:
        with pytest.raises(kind, match="not 0"):
            tracker.run(partial(functions.fail_with, kind.__name__), workers=1, on_error="raise")
        assert tracker.counts()[1:] == (0, 0, 0, 1, 0, 3)
    assert_nothing_left(path)


@pytest.mark.parametrize("on_error", ["record", "raise"])
def test_an_end_that_cannot_be_written_is_no_error_of_the_task_and_stops_the_run(path: Path, on_error: str) -> None:
    filled(path, 4).close()
    program = start_run(path, "double", workers=2, on_error=on_error, disk_full=True)
    assert hear(program, PATIENCE) == "CommitError: the disk is full"
    assert end(program, PATIENCE) == 0
    assert {entry["_tries"] for entry in stored(path).values()} == {0}
    assert_nothing_left(path)


SLOW_FORKS = """
import multiprocessing, os, sys, threading, time
multiprocessing.set_start_method("fork")
os.register_at_fork(before=lambda: time.sleep(0.05))  # before filelock's: such hooks are called from the last to the first
from tastypy import Tracker

def run(path):
    with Tracker(path) as tracker:
        tracker.add_many(range(4))
        print(tracker.run(abs, workers=2).done, flush=True)

threads = [threading.Thread(target=run, args=(path,)) for path in sys.argv[1:]]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_runs_in_several_threads_start_their_workers_one_at_a_time(tmp_path: Path) -> None:
    """Filelock has a fork fail while another thread is in one."""
    command = [sys.executable, "-c", SLOW_FORKS, *(str(tmp_path / name) for name in "abc")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("4\n" * 3, "")


@pytest.mark.parametrize("name", ["locked", "two arguments", "of a module that only the worker has"])
def test_an_exception_that_cannot_be_brought_here_comes_as_a_worker_error_that_says_what_it_was(
    path: Path, name: str
) -> None:
    with filled(path, 1) as tracker:
        with pytest.raises(WorkerError, match="Error: not 0") as caught:
            tracker.run(partial(functions.fail_with, name), on_error="raise")
        assert "in fail_with" in str(caught.value.__cause__)
        assert "not 0" in tracker[0]["_error"]
    assert_nothing_left(path)


def test_after_an_error_the_tracker_here_knows_what_became_of_all_tasks(path: Path) -> None:
    """Of the one that failed, and of those that other workers had in hand and gave back."""
    others = multiprocessing.Event()

    def fail_one(key: int) -> None:
        if key == 0:
            others.wait(PATIENCE)
            functions.fail(key)
        others.set()
        time.sleep(PATIENCE)

    with filled(path, 4) as tracker:
        with pytest.raises(ZeroDivisionError):
            tracker.run(fail_one, workers=2, on_error="raise")
        assert tracker.copy() == stored(path)
        assert tracker.counts()[1:] == (0, 0, 0, 0, 1, 3)
    assert_nothing_left(path)


def test_an_exception_without_a_text_is_recorded_all_the_same(path: Path) -> None:
    with filled(path, 1, max_tries=2) as tracker:
        assert tracker.run(partial(functions.fail_with, "silent"))[:3] == (0, 1, 1)
        assert "SilentError" in tracker[0]["_error"]


def test_an_exception_that_is_larger_than_a_pipe_is_raised_whole(path: Path) -> None:
    with filled(path, 4) as tracker:
        with pytest.raises(ZeroDivisionError) as caught:
            tracker.run(partial(functions.fail_with, "large"), workers=2, on_error="raise")
        assert len(str(caught.value)) > 300_000
        assert len(tracker[0]["_error"]) < 10_000
    assert_nothing_left(path)


def test_without_a_limit_a_task_is_tried_until_it_succeeds_after_pauses_that_grow(path: Path, log: Path) -> None:
    with filled(path, 1) as tracker:
        assert tracker.run(partial(functions.fail_twice, log), workers=2)[:3] == (1, 0, 0)
        assert tracker.tries(0) == 3
        assert "_error" not in tracker[0]
    first, second, third = map(float, log.read_text().split())
    assert 0.04 < second - first < third - second


# ---------------------------------------------------------------------------------------------------------- workers that die


@pytest.mark.parametrize("batch", [1, 5])
def test_a_task_that_kills_its_worker_each_time_is_given_up_and_the_rest_finish(
    path: Path, batch: int, caplog: pytest.LogCaptureFixture
) -> None:
    with filled(path, 12, max_tries=3) as tracker:
        assert tracker.run(partial(functions.end_by, "SIGKILL"), workers=2, batch=batch)[:3] == (11, 1, 1)
        assert tracker.tries(0) == 3
        assert tracker[0]["_error"].startswith("its worker died")
        assert {tracker.tries(key) for key in range(1, 12)} == {1}
    died = [record for record in caplog.records if "died with status -9" in record.getMessage()]
    assert len(died) == 3
    assert {record.levelno for record in died} == {logging.WARNING}
    assert_nothing_left(path)


@pytest.mark.parametrize(("how", "tries"), [("SIGKILL", 2), ("os._exit(3)", 2), ("os._exit(0)", 2), ("SIGTERM", 1)])
def test_a_worker_that_ends_is_replaced_however_it_ended(path: Path, tmp_path: Path, how: str, tries: int) -> None:
    """At SIGTERM it lets go of its task, which does not count as a try."""
    filled(path, 4).close()
    program = start_run(path, "end_once_by", tmp_path / "mark", how, workers=1)
    begun = []
    while (line := hear(program, PATIENCE)).startswith("begun"):
        begun.append(line.split()[1:])
    assert line == "summary 4 0 0"
    assert end(program, PATIENCE) == 0
    assert [key for key, _ in begun].count("0") == 2
    assert len({process for _, process in begun}) == 2
    assert {key: entry["_tries"] for key, entry in stored(path).items()} == {0: tries, 1: 1, 2: 1, 3: 1}
    assert_nothing_left(path)


@pytest.mark.parametrize(
    "how", ["os._exit(0)", "os._exit(3)", "sys.exit(0)", "sys.exit(3)", "CancelledError", "KeyboardInterrupt"]
)
def test_a_function_that_always_ends_its_worker_does_not_keep_a_run_going_for_ever(path: Path, how: str) -> None:
    """Nor does it take the run with it: what such a task calls may do so, as a command line parser does."""
    filled(path, 4, max_tries=2).close()
    program = start_run(path, "end_by", how, workers=2, max_tries=2, options={"stderr": subprocess.DEVNULL})
    assert hear(program, PATIENCE) == "summary 3 1 1"
    assert end(program, PATIENCE) == 0
    assert_nothing_left(path)


@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ("sys.exit(3)", SystemExit, "SystemExit: 3"),
        ("CancelledError", asyncio.CancelledError, "asyncio.exceptions.CancelledError"),
    ],
)
def test_what_would_end_a_worker_elsewhere_is_an_error_of_its_task_here(
    path: Path, how: str, kind: type[BaseException], text: str
) -> None:
    with filled(path, 4, max_tries=1) as tracker:
        assert tracker.run(partial(functions.end_by, how), workers=1)[:3] == (3, 1, 1)
        assert (tracker[0]["_error"], tracker.tries(0)) == (text, 1)
        tracker.reset_tries(0)
        with pytest.raises(kind):
            tracker.run(partial(functions.end_by, how), workers=1, on_error="raise")
        assert (tracker[0]["_error"], tracker.tries(0)) == (text, 1)
    assert_nothing_left(path)


def test_workers_are_seen_to_end_where_the_program_ignores_what_becomes_of_its_children(path: Path) -> None:
    """As it may have inherited it; the kernel then keeps no status of a child that nobody asked for."""
    filled(path, 4).close()
    program = start_run(path, "double", workers=2, children_ignored=True)
    assert hear(program, PATIENCE) == "summary 4 0 0"
    assert end(program, PATIENCE) == 0
    assert_nothing_left(path)
