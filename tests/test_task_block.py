"""`with task:`, which ends it, whatever becomes of its block; also in a child that is forked in there."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import FailingOS, os_error
from helpers import batches, in_child, stored
from tracker_programs import claimed

from tastypy import (
    ClosedPODError,
    CommitError,
    Task,
    TaskEndedError,
    Tracker,
    TransactionError,
    UnstorableTypeError,
    UnstorableValueError,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of .*fork:DeprecationWarning")

ENDS: dict[str, Callable[[Task], None]] = {
    "done": Task.done,
    "fail": lambda task: task.fail("x"),
    "release": Task.release,
}


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](path) as tracker:
        tracker.add("a")
        yield tracker


@pytest.fixture
def task(tracker: Tracker[Any]) -> Task:
    task = tracker.claim()
    assert task is not None
    return task


def entry_of(task: Task) -> dict[str, Any]:
    """What anybody else finds; without the time, and who ended it."""
    entry: dict[str, Any] = stored(task._tracker.path)[task.key]
    entry.pop("_at")
    entry.pop("_worker", None)
    return entry


FRESH = {"_done": False, "_aborted": False, "_tries": 0}


def test_the_end_of_the_block_is_one_commit_with_all_that_it_stored(task: Task) -> None:
    path = Path(task._tracker.path)
    before = len(batches(path))
    with task as same:
        assert same is task
        task["status"] = 200
        task["list"] = []
        task["list"].append(1)
        assert len(batches(path)) == before
    assert len(batches(path)) == before + 1
    assert entry_of(task) == {**FRESH, "_done": True, "_tries": 1, "status": 200, "list": [1]}
    assert task.ended


def test_an_exception_is_recorded_counts_as_a_try_releases_the_claim_and_is_raised(
    task: Task, tracker: Tracker[Any]
) -> None:
    error = ValueError("no such page")
    with pytest.raises(ValueError, match="no such page") as caught, task:
        task["status"] = 404
        raise error
    assert caught.value is error
    assert entry_of(task) == {**FRESH, "_tries": 1, "_error": "ValueError: no such page"}
    assert task.ended
    assert tracker.counts().failed == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_failure_gives_the_task_back_without_a_try(task: Task, kind: type[BaseException]) -> None:
    with pytest.raises(kind), task:
        task["status"] = 1
        raise kind
    assert entry_of(task) == FRESH
    assert task.ended


def test_an_exception_after_earlier_ones_replaces_the_text_and_success_removes_it(tracker: Tracker[Any]) -> None:
    for number in range(2):
        with pytest.raises(LookupError), claimed(tracker):
            raise LookupError(number)
    worker = f"{os.uname().nodename}:{os.getpid()}"
    error = {"_error": "LookupError: 1", "_worker": worker}
    assert {**stored(tracker.path)["a"], "_at": 0} == {**FRESH, "_at": 0, "_tries": 2, **error}
    again = claimed(tracker)
    with again:
        pass
    assert entry_of(again) == {**FRESH, "_done": True, "_tries": 3}


@pytest.mark.parametrize("end", ENDS)
def test_a_task_that_was_ended_in_its_block_is_left_alone_at_the_end(task: Task, end: str) -> None:
    with task:
        ENDS[end](task)
        before = entry_of(task)
    assert entry_of(task) == before
    assert "_claim" not in before


@pytest.mark.parametrize("end", ENDS)
def test_an_exception_after_the_end_is_raised_and_not_recorded(task: Task, end: str) -> None:
    with pytest.raises(LookupError), task:
        ENDS[end](task)
        before = entry_of(task)
        raise LookupError
    assert entry_of(task) == before


@pytest.mark.parametrize(
    ("bad", "error", "text"),
    [
        (object(), UnstorableTypeError, "object"),
        (float("inf"), UnstorableValueError, "inf"),
        ({1: 2}, TypeError, "key"),
    ],
)
def test_what_json_cannot_hold_is_an_error_like_any_other(
    task: Task, bad: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error), task:
        task["good"] = 1
        task["bad"] = bad
    entry = entry_of(task)
    stored_error = entry.pop("_error")
    assert entry == {**FRESH, "_tries": 1}
    assert "bad" in stored_error
    assert text in stored_error


def test_an_end_that_cannot_be_written_is_raised_and_can_be_tried_again(task: Task, failing_os: FailingOS) -> None:
    def block() -> None:
        with task:
            task["x"] = 1
            failing_os.always["write"] = os_error(errno.ENOSPC)()

    with pytest.raises(CommitError, match="No space left"):
        block()
    assert not task.ended
    failing_os.always.clear()
    task.done()
    assert entry_of(task) == {**FRESH, "_done": True, "_tries": 1, "x": 1}


@pytest.mark.parametrize("kind", [LookupError, KeyboardInterrupt, SystemExit])
def test_what_the_block_raised_is_raised_though_that_cannot_be_written(
    task: Task, kind: type[BaseException], failing_os: FailingOS, caplog: pytest.LogCaptureFixture
) -> None:
    """It says more; and an `except Exception` must not swallow a Ctrl-C."""

    def block() -> None:
        with task:
            failing_os.always["write"] = os_error(errno.ENOSPC)()
            raise kind

    with pytest.raises(kind):
        block()
    assert "'a'" in caplog.text
    assert "could not be written" in caplog.text
    failing_os.always.clear()
    assert not task.ended
    task.release()
    assert entry_of(task) == FRESH


@pytest.mark.parametrize("kind", [None, LookupError, KeyboardInterrupt])
def test_a_lost_claim_is_logged_and_nothing_else(
    task: Task, tracker: Tracker[Any], kind: type[BaseException] | None, caplog: pytest.LogCaptureFixture
) -> None:
    def block() -> None:
        with task:
            tracker["a"] = {"reset": True}
            if kind is not None:
                raise kind

    if kind is None:
        block()
    else:
        with pytest.raises(kind):
            block()
    if kind is not KeyboardInterrupt:  # that may have come when the task had just ended, which looks the same
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "the claim on 'a' was lost: the entry was reset" in caplog.text
    assert task.ended
    assert stored(tracker.path) == {"a": {**FRESH, "reset": True}}


def test_a_lost_claim_does_not_hide_what_json_cannot_hold(
    task: Task, tracker: Tracker[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UnstorableTypeError), task:
        task["bad"] = object()
        del tracker["a"]
    assert "the claim on 'a' was lost: the entry was deleted" in caplog.text
    assert task.ended


def test_a_block_whose_tracker_was_closed_says_so_instead_of_losing_what_it_stored(
    task: Task, tracker: Tracker[Any]
) -> None:
    with pytest.raises(ClosedPODError, match="was closed"), task:
        task["status"] = 1
        tracker.close()
    assert stored(tracker.path)["a"] | {"_at": 0} == FRESH | {"_at": 0}


def test_an_exception_of_a_block_whose_tracker_was_closed_is_raised(task: Task, tracker: Tracker[Any]) -> None:
    with pytest.raises(LookupError), task:
        tracker.close()
        raise LookupError


@pytest.mark.parametrize("kind", [None, LookupError, KeyboardInterrupt])
def test_a_block_inside_a_transaction_does_not_end_the_task(
    task: Task, tracker: Tracker[Any], kind: type[BaseException] | None
) -> None:
    def block() -> None:
        with tracker.transaction(), task:
            task["x"] = 1
            if kind is not None:
                raise kind

    with pytest.raises(kind or TransactionError):
        block()
    assert not task.ended
    task.done()
    assert entry_of(task) == {**FRESH, "_done": True, "_tries": 1, "x": 1}


def test_a_transaction_inside_the_block_is_committed_by_itself(task: Task, tracker: Tracker[Any]) -> None:
    with pytest.raises(LookupError), task:
        with tracker.transaction():
            tracker.add("b")
            tracker.update({"a": {"seen": True}})
        raise LookupError
    assert set(stored(tracker.path)) == {"a", "b"}
    assert entry_of(task) == {**FRESH, "_tries": 1, "_error": "LookupError", "seen": True}


# -------------------------------------------------------------------------------------------------------- a forked child


@pytest.mark.parametrize("end", ENDS)
def test_a_forked_child_cannot_end_its_parents_task(task: Task, end: str) -> None:
    parent = os.getpid()

    def child() -> None:
        with pytest.raises(TaskEndedError, match=f"claimed by process {parent}, and this is {os.getpid()}"):
            ENDS[end](task)
        with pytest.raises(TaskEndedError, match="a forked child claims tasks of its own"):
            task["x"] = 1
        with pytest.raises(TaskEndedError), task:
            raise AssertionError
        assert "_tries" in task

    assert in_child(child) == 0
    assert entry_of(task) == {**FRESH, "_claim": task.claim}
    ENDS[end](task)


@pytest.mark.parametrize("kind", [None, LookupError, KeyboardInterrupt, SystemExit])
def test_a_block_that_is_left_in_a_forked_child_does_nothing(task: Task, kind: type[BaseException] | None) -> None:
    with task:
        task["x"] = 1
        assert in_child(lambda: task.__exit__(kind, None if kind is None else kind(), None)) == 0
        assert in_child(task._tracker.close) == 0
        assert entry_of(task) == {**FRESH, "_claim": task.claim}
    assert entry_of(task) == {**FRESH, "_done": True, "_tries": 1, "x": 1}


@pytest.mark.parametrize("batch", [1, 3])
def test_a_forked_child_that_goes_on_with_its_parents_loop_claims_tasks_of_its_own(
    tracker: Tracker[Any], batch: int
) -> None:
    tracker.add_many(["b", "c", "d", "e", "f"])
    loop = tracker.claims(batch=batch)
    first = next(loop)

    def child() -> None:
        task = next(loop)
        with task:
            task["by"] = os.getpid()
        assert task.key not in [key for key, entry in before.items() if "_claim" in entry]
        tracker.close()

    with first:
        before = stored(tracker.path)
        assert in_child(child) == 0
    for task in loop:
        with task:
            task["by"] = os.getpid()
    found = stored(tracker.path)
    assert {entry["_tries"] for entry in found.values()} == {1}
    assert len({entry.get("by") for entry in found.values()} - {None}) == 2
