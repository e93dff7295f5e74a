"""`run` in processes of its own: what it does with each task, what it returns, and what ends it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import run_functions as functions
from helpers import end, hear, open_files, stored, tell
from run_helpers import PATIENCE, assert_nothing_left, by_whom, called, start

from tastypy import ClosedPODError, ReadOnlyError, Tracker, TransactionError, UnstorableTypeError

# Where a test runs in a process with threads, Python 3.12 and later warn of each fork.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of .*fork:DeprecationWarning"),
    pytest.mark.timeout(60),
]


@pytest.fixture(autouse=True)
def _forking() -> Iterator[None]:
    """Later versions of Python have another default; the others are tested in programs."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("fork", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](path) as tracker:
        yield tracker


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where functions put down which keys they were called with."""
    log = tmp_path / "log"
    log.touch()
    return log


# --------------------------------------------------------------------------------------------------------- what it does


def test_every_task_goes_through_the_function_and_its_result_is_stored(tracker: Tracker[Any], path: Path) -> None:
    tracker.add_many(range(20), colour="red")
    summary = tracker.run(functions.double)
    assert summary[:3] == (20, 0, 0)
    assert 0 < summary.seconds < PATIENCE
    for key, entry in stored(path).items():
        assert entry == {
            "_done": True,
            "_aborted": False,
            "_tries": 1,
            "colour": "red",
            "result": 2 * key,
            "_at": entry["_at"],
            "_worker": entry["_worker"],
        }
    assert tracker.counts().done == 20
    assert tracker.copy() == stored(path)
    assert_nothing_left(path)


@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (1, 7), (2, 1), (3, 10), (2, 1000)])
def test_each_task_is_done_once_whatever_the_number_of_workers_and_the_batch(
    tracker: Tracker[Any], path: Path, log: Path, workers: int, batch: int
) -> None:
    tracker.add_many(range(60))
    assert tracker.run(partial(functions.put_down, log), workers=workers, batch=batch).done == 60
    assert sorted(map(int, called(log))) == list(range(60))
    assert len(by_whom(log)) <= workers
    assert str(os.getpid()) not in by_whom(log)
    assert_nothing_left(path)


def test_by_default_there_is_a_worker_for_each_processor_that_the_process_may_use(
    tracker: Tracker[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    tracker.add_many(range(3))
    barrier = multiprocessing.Barrier(3)  # passed only if there are three at once
    assert tracker.run(lambda _: barrier.wait(PATIENCE) < 3).done == 3
    assert not barrier.broken


def test_what_is_done_aborted_or_given_up_is_left_alone(path: Path, log: Path) -> None:
    with Tracker[str](path, max_tries=2) as tracker:
        tracker.add_many(["done", "aborted", "tried", "given up", "open"])
        tracker.mark_done("done")
        tracker.abort("aborted")
        for key in ("tried", "given up", "given up"):
            tracker.increment_tries(key)
        assert tracker.run(partial(functions.put_down, log))[:3] == (2, 1, 1)
    assert sorted(called(log)) == ["open", "tried"]


@pytest.mark.parametrize("state", ["no tasks", "done", "given up", "aborted"])
def test_with_nothing_to_do_it_returns_at_once_and_starts_nothing(
    path: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Tracker[int](path, max_tries=1) as tracker:
        if state != "no tasks":
            tracker.add(1)
            {"done": tracker.mark_done, "given up": tracker.increment_tries, "aborted": tracker.abort}[state](1)
        monkeypatch.setattr("os.fork", lambda: pytest.fail("it forked"))
        given_up = int(state == "given up")
        assert tracker.run(functions.double)[:3] == (0, given_up, given_up)
    assert_nothing_left(path)


def test_a_function_that_cannot_be_pickled_runs_in_forked_workers(tracker: Tracker[Any]) -> None:
    tracker.add_many(["a", "b"])
    assert tracker.run(lambda key: key + "!").done == 2
    assert tracker["b"]["result"] == "b!"


def test_a_function_that_returns_nothing_has_null_as_its_result(tracker: Tracker[Any]) -> None:
    tracker.add(1)
    tracker.run(lambda _: None)
    assert tracker[1]["result"] is None


def test_tasks_that_tasks_add_are_done_too(tracker: Tracker[Any], path: Path) -> None:
    tracker.add(1)
    assert tracker.run(partial(functions.add_below, path), workers=2).done == 63
    assert sorted(tracker) == list(range(1, 64))
    assert_nothing_left(path)


@pytest.mark.parametrize("batch", [1, 8])
def test_tasks_may_add_to_the_tracker_that_they_were_forked_with(tracker: Tracker[Any], path: Path, batch: int) -> None:
    tracker.add(1)

    def add_more(key: int) -> None:
        if key < 40:
            tracker.add(key + 1)

    assert tracker.run(add_more, workers=2, batch=batch).done == 40
    assert_nothing_left(path)


def test_held_changes_are_written_first_and_what_tasks_add_meanwhile_is_done(tracker: Tracker[Any], path: Path) -> None:
    tracker.add("before")

    def add_more(key: str) -> int:
        if key == "held":
            tracker.add("added by a task")
        return len(key)

    with tracker.hold():
        tracker.add("held")
        tracker["before"] = {"colour": "red"}
        assert tracker.run(add_more, workers=1).done == 3
        assert tracker.dirty() == set()
    assert stored(path)["before"]["colour"] == "red"
    assert {key: entry["result"] for key, entry in stored(path).items()} == {
        "before": 6,
        "held": 4,
        "added by a task": 15,
    }
    assert_nothing_left(path)


def test_it_runs_in_a_thread_that_is_not_the_main_one(tracker: Tracker[Any], path: Path) -> None:
    tracker.add_many(range(10))
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(tracker.run(functions.double, workers=2).done))
    thread.start()
    thread.join(PATIENCE)
    assert done == [10]
    assert_nothing_left(path)


def test_runs_in_threads_of_one_process_share_the_tasks(tracker: Tracker[Any], path: Path, log: Path) -> None:
    tracker.add_many(range(60))
    done: list[int] = []

    def run() -> None:
        done.append(tracker.run(partial(functions.put_down, log), workers=2).done)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(done) == 3
    assert sorted(map(int, called(log))) == list(range(60))
    assert_nothing_left(path)


def test_a_task_that_is_deleted_while_it_is_in_hand_is_lost_and_the_others_are_done(tracker: Tracker[Any]) -> None:
    tracker.add_many(range(6))

    def delete_one(key: int) -> int:
        if key == 3:
            del tracker[key]
        return key

    assert tracker.run(delete_one, workers=2).done == 5
    assert sorted(tracker) == [0, 1, 2, 4, 5]
    assert_nothing_left(Path(tracker.path))


def test_a_run_leaves_the_handlers_of_signals_and_what_is_blocked_as_they_were(tracker: Tracker[Any]) -> None:
    def handlers() -> list[Any]:
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)]

    before = handlers(), signal.pthread_sigmask(signal.SIG_BLOCK, [])
    tracker.add_many(range(4))
    tracker.run(functions.double, workers=2)
    assert (handlers(), signal.pthread_sigmask(signal.SIG_BLOCK, [])) == before
    tracker.add_many(range(4, 8))
    with pytest.raises(ZeroDivisionError):
        tracker.run(functions.fail, workers=2, on_error="raise")
    assert (handlers(), signal.pthread_sigmask(signal.SIG_BLOCK, [])) == before


def test_one_run_after_the_other_leaves_no_descriptor_open(tracker: Tracker[Any]) -> None:
    found = []
    for number in range(4):
        tracker.add_many([(number, one) for one in range(3)])
        tracker.run(functions.double, workers=2)
        found.append(len(open_files()))
    assert found == [found[0]] * 4


# ----------------------------------------------------------------------------------------------------- tasks that others hold


def test_it_waits_for_a_task_that_another_process_holds_and_goes_on_with_it_when_that_dies(
    tracker: Tracker[Any], path: Path
) -> None:
    tracker.add_many(["held", "free"])
    holder = start("hold_a_task", path)
    assert hear(holder) == "claimed held"

    def kill_the_holder(key: str) -> str:
        if key == "free":
            os.kill(holder.pid, signal.SIGKILL)
        return key

    assert tracker.run(kill_the_holder, workers=2).done == 2
    assert [tracker.tries(key) for key in ("held", "free")] == [2, 1]
    assert_nothing_left(path)


def test_it_takes_what_another_process_gives_back(tracker: Tracker[Any], path: Path) -> None:
    tracker.add_many(["held", "free"])
    holder = start("hold_a_task", path)
    assert hear(holder) == "claimed held"
    assert tracker.run(lambda key: tell(holder) if key == "free" else None, workers=1).done == 2
    assert end(holder) == 0
    assert [tracker.tries(key) for key in ("held", "free")] == [1, 1]


@pytest.mark.parametrize("by", ["the same", "another"])
def test_what_this_process_itself_holds_does_not_keep_a_run_going_for_ever(path: Path, by: str) -> None:
    """Nobody can end that task while its holder waits for the run; whichever object of the tracker it was that claimed it."""
    with Tracker[Any](path) as tracker:
        tracker.add_many(range(4))
    program = start("run_while_holding", path, by)
    assert hear(program, PATIENCE) == "done 3"
    assert end(program, PATIENCE) == 0


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"workers": 0}, ValueError, "workers must be 1 or more, not 0"),
        ({"workers": -2}, ValueError, "workers must be 1 or more"),
        ({"workers": 1.5}, TypeError, "workers must be an int"),
        ({"workers": True}, TypeError, "workers must be an int"),
        ({"batch": 0}, ValueError, "batch must be 1 or more, not 0"),
        ({"batch": "2"}, TypeError, "batch must be an int"),
        ({"on_error": "ignore"}, ValueError, "on_error must be"),
        ({"func": "double"}, TypeError, "func must be callable"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_begins(
    tracker: Tracker[Any], options: dict[str, Any], error: type[Exception], text: str
) -> None:
    tracker.add(1)
    with pytest.raises(error, match=text):
        tracker.run(**{"func": functions.double, **options})
    assert tracker.counts().open == 1


def test_a_run_inside_a_transaction_is_refused(tracker: Tracker[Any]) -> None:
    tracker.add(1)
    with pytest.raises(TransactionError, match="run"), tracker.transaction():
        tracker.run(functions.double)
    assert tracker.counts().open == 1


def test_a_run_of_a_tracker_that_is_only_read_or_closed_is_refused(tracker: Tracker[Any], path: Path) -> None:
    tracker.add(1)
    with Tracker[Any](path, mode="r") as reader, pytest.raises(ReadOnlyError):
        reader.run(functions.double)
    tracker.close()
    with pytest.raises(ClosedPODError):
        tracker.run(functions.double)


def test_a_result_that_json_lacks_is_the_error_of_its_task_alone(tracker: Tracker[Any], path: Path) -> None:
    tracker.add_many([1, 2])
    with Tracker[Any](path, max_tries=2) as twice:
        assert twice.run(functions.return_what_json_lacks)[:3] == (1, 1, 1)
        assert twice[1]["_error"].startswith("tastypy.errors.UnstorableTypeError: ")
        assert "set" in twice[1]["_error"]
        assert "result" not in twice[1]
        assert twice.tries(1) == 2
        twice.reset_tries(1)
        with pytest.raises(UnstorableTypeError):
            twice.run(functions.return_what_json_lacks, on_error="raise")
    assert_nothing_left(path)
