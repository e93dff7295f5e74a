"""A task in hand: the mapping of its fields, and how it ends."""

from __future__ import annotations

import copy
import datetime as dt
import errno
import os
import pickle
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from faults import FailingOS, os_error
from helpers import batches, stored

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

ENDS: dict[str, Callable[[Task], None]] = {
    "done": Task.done,
    "fail": lambda task: task.fail("x"),
    "release": Task.release,
}


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](path) as tracker:
        tracker.add("a", depth=1, links=["b"])
        yield tracker


@pytest.fixture
def task(tracker: Tracker[Any]) -> Task:
    task = tracker.claim()
    assert task is not None
    return task


def entry_of(task: Task) -> dict[str, Any]:
    """What anybody else finds; without the time and the worker, which are looked at where they matter."""
    entry: dict[str, Any] = stored(task._tracker.path)[task.key]
    entry.pop("_at")
    entry.pop("_worker", None)
    return entry


FIELDS = {"_done": False, "_aborted": False, "_tries": 0, "depth": 1, "links": ["b"]}


# ------------------------------------------------------------------------------------------------------------ a mapping


def test_a_task_is_a_mapping_of_the_fields_of_its_entry(task: Task) -> None:
    assert task.key == "a"
    assert isinstance(task, MutableMapping)
    assert dict(task) == FIELDS
    assert len(task) == len(FIELDS)
    assert "depth" in task
    assert task.get("nothing") is None
    with pytest.raises(KeyError, match="nothing"):
        task["nothing"]


def test_what_is_stored_in_a_task_is_there_at_once_and_in_the_entry_when_it_is_done(
    task: Task, tracker: Tracker[Any]
) -> None:
    task["status"] = 200
    task.update(title="A", depth=2)
    assert task["status"] == 200
    assert dict(task) == {**FIELDS, "status": 200, "title": "A", "depth": 2}
    assert entry_of(task) == {**FIELDS, "_claim": task.claim}
    before = len(batches(Path(tracker.path)))
    task.done(title="B", links=None)
    assert len(batches(Path(tracker.path))) == before + 1
    expected = {**FIELDS, "_done": True, "_tries": 1, "depth": 2, "links": None, "status": 200, "title": "B"}
    assert entry_of(task) == expected
    more = {"_at": 0, "_worker": f"{os.uname().nodename}:{os.getpid()}"}
    assert {**tracker["a"], "_at": 0} == {**expected, **more}


def test_a_field_that_was_mutated_in_place_is_stored(task: Task) -> None:
    task["links"].append("c")
    assert entry_of(task)["links"] == ["b"]
    task.done()
    assert entry_of(task)["links"] == ["b", "c"]


def test_what_was_mutated_in_a_task_that_is_given_back_goes_nowhere(task: Task, tracker: Tracker[Any]) -> None:
    task["links"].append("c")
    task["new"] = 1
    assert tracker["a"]["links"] == ["b"]
    task.release()
    assert entry_of(task) == FIELDS
    again = tracker.claim()
    assert again is not None
    assert dict(again) == {**FIELDS, "_at": again["_at"]}


def test_what_others_stored_meanwhile_stays_unless_the_task_stores_that_field_itself(
    task: Task, tracker: Tracker[Any]
) -> None:
    task["mine"] = task["both"] = "task"
    assert task["depth"] == 1
    tracker.update({"a": {"theirs": 1, "both": "others", "depth": 7}})
    task.done()
    entry = entry_of(task)
    assert {name: entry[name] for name in ("mine", "both", "theirs", "depth")} == {
        "mine": "task",
        "both": "task",
        "theirs": 1,
        "depth": 7,
    }


def test_a_field_that_was_set_to_what_it_was_wins_over_what_others_stored(task: Task, tracker: Tracker[Any]) -> None:
    task["depth"] = 1
    tracker.update({"a": {"depth": 7}})
    task.done()
    assert entry_of(task)["depth"] == 1


@pytest.mark.parametrize("name", ["_done", "_aborted", "_tries", "_claim", "_error", "_worker", "_at"])
def test_the_trackers_own_fields_are_refused(task: Task, name: str) -> None:
    with pytest.raises(UnstorableValueError, match=f"'a': {name} "):
        task[name] = 1
    with pytest.raises(UnstorableValueError, match=name):
        task.done(**{name: 1})
    assert not task.ended
    assert entry_of(task) == {**FIELDS, "_claim": task.claim}
    task.done(_own=1)
    assert entry_of(task)["_own"] == 1


def test_a_field_cannot_be_deleted(task: Task) -> None:
    for delete in (lambda: task.__delitem__("depth"), lambda: task.pop("depth"), task.clear):
        with pytest.raises(TypeError, match="set it to None"):
            delete()
    assert dict(task) == FIELDS


def test_a_task_keeps_no_hold_on_what_was_stored_in_it(task: Task, tracker: Tracker[Any]) -> None:
    mine = [1]
    task["list"] = mine
    task.done()
    mine.append(2)
    assert tracker["a"]["list"] == [1]


def test_a_task_is_itself_and_stays_in_its_process(task: Task, tracker: Tracker[Any]) -> None:
    tracker.add("b", depth=1, links=["b"])
    other = tracker.claim()
    assert other is not None
    assert (task == other, task == task, task != other) == (False, True, True)  # noqa: PLR0124 - that is the question
    assert len({task, other}) == 2
    assert repr(task) == "Task('a')"
    task.done()
    assert repr(task) == "Task('a', ended)"
    for move in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="send task"):
            move(other)


def test_the_options_of_the_tracker_hold_for_its_tasks(path: Path) -> None:
    with Tracker[str](path, default=lambda value: value.isoformat()) as tracker:
        tracker.add("a")
        for task in tracker.claims():
            with task:
                task["day"] = dt.date(2024, 2, 29)
        assert tracker["a"]["day"] == "2024-02-29"


# ------------------------------------------------------------------------------------------------------------ how it ends


def test_a_try_is_counted_by_done_and_by_fail_and_not_by_release(tracker: Tracker[Any]) -> None:
    for end, tries, state in (
        ("release", 0, "open"),
        ("fail", 1, "failed"),
        ("fail", 2, "failed"),
        ("done", 3, "done"),
    ):
        task = tracker.claim()
        assert task is not None
        assert tracker.counts().claimed == 1
        ENDS[end](task)
        assert task.ended
        assert tracker.tries("a") == tries
        assert getattr(tracker.counts(), state) == 1
        assert "_claim" not in tracker["a"]
    assert "_error" not in tracker["a"]


def test_a_task_knows_how_often_it_was_tried_in_vain(task: Task, tracker: Tracker[Any]) -> None:
    assert task.tries == 0
    task.fail("x")
    again = tracker.claim()
    assert again is not None
    assert again.tries == 1
    assert again["_error"] == "x"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("in words", "in words"),
        (ValueError("text"), "ValueError: text"),
        (KeyError("k"), "KeyError: 'k'"),
        (AssertionError(), "AssertionError"),
        (OSError(2, "No such file"), "FileNotFoundError: [Errno 2] No such file"),
        ("lone \ud800 surrogate", "lone \\ud800 surrogate"),
        (ValueError("two\nlines"), "ValueError: two\nlines"),
    ],
)
def test_the_text_of_an_error_is_stored(task: Task, error: Any, text: str) -> None:
    task.fail(error)
    assert entry_of(task) == {**FIELDS, "_tries": 1, "_error": text}


def test_an_error_without_a_text_is_no_problem(task: Task) -> None:
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    task.fail(UnprintableError())
    assert "UnprintableError: <exception str() failed>" in entry_of(task)["_error"]


def test_the_text_of_an_error_is_stored_up_to_a_length(task: Task) -> None:
    task.fail("é" * 100_000)
    text = entry_of(task)["_error"]
    assert text.startswith("é" * 1000)
    assert len(text) < 5000


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("again", ENDS)
def test_a_task_ends_once(task: Task, tracker: Tracker[Any], end: str, again: str) -> None:
    ENDS[end](task)
    before = stored(tracker.path)
    with pytest.raises(TaskEndedError, match=r"'a' of .* has ended already"):
        ENDS[again](task)
    with pytest.raises(TaskEndedError, match="has ended already"):
        task["late"] = 1
    with pytest.raises(TaskEndedError, match="has ended already"), task:
        raise AssertionError
    assert stored(tracker.path) == before == tracker
    assert "late" not in task


def test_the_end_of_an_old_task_does_not_touch_a_new_claim_on_its_entry(task: Task, tracker: Tracker[Any]) -> None:
    task.release()
    again = tracker.claim()
    assert again is not None
    with pytest.raises(TaskEndedError):
        task.done()
    assert entry_of(again)["_claim"] == again.claim
    assert again.claim["token"] != task.claim["token"]


@pytest.mark.parametrize("end", ENDS)
def test_the_task_of_a_closed_tracker_cannot_end(task: Task, tracker: Tracker[Any], end: str) -> None:
    tracker.close()
    with pytest.raises(ClosedPODError, match=r"the task 'a' cannot end: .* was closed, and the task released"):
        ENDS[end](task)
    with pytest.raises(ClosedPODError, match="was closed"):
        task["late"] = 1
    assert task["depth"] == 1
    assert stored(tracker.path)["a"] | {"_at": 0} == FIELDS | {"_at": 0}


def test_what_json_cannot_hold_is_refused_and_the_task_goes_on(task: Task) -> None:
    with pytest.raises(UnstorableTypeError, match="'a'"):
        task.done(bad=object())
    task["bad"] = float("nan")
    with pytest.raises(UnstorableValueError, match="bad"):
        task.done()
    assert not task.ended
    assert entry_of(task) == {**FIELDS, "_claim": task.claim}
    task["bad"] = None
    task.done()
    assert entry_of(task) == {**FIELDS, "_done": True, "_tries": 1, "bad": None}


@pytest.mark.parametrize("end", ENDS)
def test_an_end_that_cannot_be_written_can_be_tried_again(task: Task, end: str, failing_os: FailingOS) -> None:
    task["x"] = 1
    failing_os.always["write"] = os_error(errno.ENOSPC)()
    with pytest.raises(CommitError, match="No space left"):
        ENDS[end](task)
    assert not task.ended
    assert entry_of(task) == {**FIELDS, "_claim": task.claim}
    failing_os.always.clear()
    ENDS[end](task)
    assert "_claim" not in entry_of(task)
    assert entry_of(task).get("x") == (1 if end == "done" else None)


@pytest.mark.parametrize("end", ENDS)
def test_a_task_does_not_end_inside_a_transaction(task: Task, tracker: Tracker[Any], end: str) -> None:
    """It would be given out again, or counted as done, before the transaction is committed, or rolled back."""
    with tracker.transaction(), pytest.raises(TransactionError):
        ENDS[end](task)
    assert not task.ended
    ENDS[end](task)
    assert task.ended


def test_an_end_is_committed_at_once_under_hold(tracker: Tracker[Any], task: Task) -> None:
    with tracker.hold():
        tracker.add("held")
        task.done(x=1)
        assert set(stored(tracker.path)) == {"a"}
        assert entry_of(task) == {**FIELDS, "_done": True, "_tries": 1, "x": 1}
        assert tracker.dirty() == {"held"}
    assert set(stored(tracker.path)) == {"a", "held"}
