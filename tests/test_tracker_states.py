"""The state of a task: marked, aborted, tried and forgotten, one commit each, and looked at."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import batches, files, stored

from stress.recount import assert_right
from tastypy import MissingKeyError, Tracker, UnstorableValueError

FRESH = {"_done": False, "_aborted": False, "_tries": 0}
Entry = dict[str, Any]
Change = Callable[[Tracker[Any], Any], object]

FAILED: Entry = {**FRESH, "_tries": 2, "_error": "x", "_worker": "node1:1", "mine": 1}

CHANGES: dict[str, tuple[Entry, Change, Entry]] = {
    "mark_done": (FRESH, Tracker.mark_done, {**FRESH, "_done": True}),
    "mark_done of one that failed": (FAILED, Tracker.mark_done, {**FRESH, "_done": True, "_tries": 2, "mine": 1}),
    "mark_done of one aborted": (
        {**FRESH, "_aborted": True},
        Tracker.mark_done,
        {**FRESH, "_aborted": True, "_done": True},
    ),
    "mark_not_done": ({**FRESH, "_done": True, "_tries": 1}, Tracker.mark_not_done, {**FRESH, "_tries": 1}),
    "abort": (FAILED, Tracker.abort, {**FAILED, "_aborted": True}),
    "unabort": ({**FAILED, "_aborted": True}, Tracker.unabort, FAILED),
    "increment_tries": (FAILED, Tracker.increment_tries, {**FAILED, "_tries": 3}),
    "decrement_tries": (FAILED, Tracker.decrement_tries, {**FAILED, "_tries": 1}),
    "reset_tries": (FAILED, Tracker.reset_tries, {**FRESH, "mine": 1}),
    "reset_tries of an error": ({**FRESH, "_error": "x"}, Tracker.reset_tries, FRESH),
    "should_try": (FAILED, Tracker.should_try, {**FAILED, "_tries": 3}),
}
"""What was there, a change, and what is there then."""

every_change = pytest.mark.parametrize(("before", "change", "after"), CHANGES.values(), ids=CHANGES)


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](path) as tracker:
        yield tracker


def without_time(entry: Entry) -> Entry:
    return {name: value for name, value in entry.items() if name != "_at"}


@every_change
def test_a_change_of_state_is_one_commit_that_says_when(
    tracker: Tracker[Any], before: Entry, change: Change, after: Entry
) -> None:
    tracker["a"] = before
    commits = len(batches(Path(tracker.path)))
    start = time.time()
    change(tracker, "a")
    assert start - 0.001 <= tracker["a"]["_at"] <= time.time() + 0.001
    assert len(batches(Path(tracker.path))) == commits + 1
    assert without_time(tracker["a"]) == after
    assert stored(tracker.path) == tracker
    assert_right(tracker)


@every_change
def test_a_change_of_state_leaves_a_claim_alone(
    tracker: Tracker[Any], before: Entry, change: Change, after: Entry
) -> None:
    claim = {"token": "0123456789abcdef", "worker": "fedcba9876543210"}
    tracker["a"] = {**before, "_claim": claim}
    change(tracker, "a")
    assert without_time(tracker["a"]) == {**after, "_claim": claim}
    assert_right(tracker)


@every_change
def test_a_change_of_state_is_made_to_what_another_process_committed(
    tracker: Tracker[Any], before: Entry, change: Change, after: Entry
) -> None:
    tracker["a"] = {"theirs": 0}
    with Tracker[Any](tracker.path) as other:
        other["a"] = {**before, "theirs": 1}
        change(tracker, "a")
        assert without_time(tracker["a"]) == {**after, "theirs": 1}


@every_change
def test_a_change_of_state_is_held_and_reverted_like_any_other(
    tracker: Tracker[Any], before: Entry, change: Change, after: Entry
) -> None:
    tracker["a"] = before
    disk = files(Path(tracker.path))
    tracker.hold()
    change(tracker, "a")
    assert without_time(tracker["a"]) == after
    assert_right(tracker)
    assert files(Path(tracker.path)) == disk
    tracker.revert()
    assert tracker == {"a": before}
    assert_right(tracker)
    change(tracker, "a")
    tracker.unhold()
    assert without_time(stored(tracker.path)["a"]) == after
    assert_right(tracker)


@pytest.mark.parametrize(
    ("entry", "change"),
    [
        ({"_done": True}, Tracker.mark_done),
        ({}, Tracker.mark_not_done),
        ({"_aborted": True}, Tracker.abort),
        ({}, Tracker.unabort),
        ({"_at": 1.5}, Tracker.reset_tries),
        ({"_done": True}, Tracker.should_try),
        ({"_aborted": True}, Tracker.should_try),
    ],
)
def test_what_is_so_already_is_no_commit(tracker: Tracker[Any], entry: Entry, change: Change) -> None:
    tracker["a"] = entry
    before, disk = tracker.copy(), files(Path(tracker.path))
    change(tracker, "a")
    assert tracker == before
    assert files(Path(tracker.path)) == disk


@pytest.mark.parametrize(
    "name",
    [
        *("mark_done", "mark_not_done", "abort", "unabort", "increment_tries", "decrement_tries", "reset_tries"),
        *("done", "aborted", "tries", "should_do", "should_try"),
    ],
)
@pytest.mark.parametrize("key", ["nothing", 1, None, ("a", 1)], ids=repr)
def test_the_state_of_a_task_that_is_not_there_is_a_key_error_that_names_it(
    tracker: Tracker[Any], name: str, key: Any
) -> None:
    tracker.add("a")
    disk = files(Path(tracker.path))
    with pytest.raises(MissingKeyError) as caught:
        getattr(tracker, name)(key)
    assert isinstance(caught.value, KeyError)
    assert repr(key) in str(caught.value)
    assert tracker.path in str(caught.value)
    assert files(Path(tracker.path)) == disk
    assert_right(tracker)


def test_a_task_that_another_process_deleted_is_not_brought_back_by_a_change_of_its_state(
    tracker: Tracker[Any],
) -> None:
    tracker.add("a")
    with Tracker[Any](tracker.path) as other:
        del other["a"]
        with pytest.raises(MissingKeyError, match="'a'"):
            tracker.mark_done("a")
    assert tracker == stored(tracker.path) == {}
    assert_right(tracker)


def test_there_is_no_try_to_take_back_where_there_was_none(tracker: Tracker[Any]) -> None:
    tracker.add("a")
    with pytest.raises(UnstorableValueError, match="_tries=-1") as caught:
        tracker.decrement_tries("a")
    assert isinstance(caught.value, ValueError)
    assert tracker == stored(tracker.path) == {"a": FRESH}
    assert_right(tracker)


def test_tries_cannot_be_more_than_a_file_can_hold(tracker: Tracker[Any]) -> None:
    tracker.add("a", _tries=2**64 - 1)
    with pytest.raises(UnstorableValueError, match="64 bits"):
        tracker.increment_tries("a")
    assert tracker.tries("a") == 2**64 - 1
    assert_right(tracker)


def test_the_state_is_told_in_the_types_that_one_expects(tracker: Tracker[Any]) -> None:
    tracker.add("a", _tries=2, _done=True)
    tracker.add("b", _aborted=True)
    assert (tracker.done("a"), tracker.aborted("a"), tracker.tries("a")) == (True, False, 2)
    assert (tracker.done("b"), tracker.aborted("b"), tracker.tries("b")) == (False, True, 0)


def test_a_task_that_was_given_up_is_tried_again_when_its_tries_are_forgotten(path: Path) -> None:
    with Tracker[Any](path, max_tries=1) as tracker:
        tracker.add("a")
        for _ in range(2):
            task = tracker.claim()
            assert task is not None
            task.fail("x")
            assert tracker.claim() is None
            assert tracker.counts().given_up == 1
            tracker.reset_tries("a")
            assert_right(tracker)
        assert tracker["a"].keys() == {*FRESH, "_at"}
        tracker.add("b", _tries=2)
        tracker.decrement_tries("b")
        assert not tracker.should_do("b")
        tracker.decrement_tries("b")
        assert tracker.should_do("b")
        assert_right(tracker)


def test_a_claimed_task_that_is_marked_or_aborted_can_be_finished_by_its_worker(tracker: Tracker[Any]) -> None:
    for number, change in enumerate([Tracker.mark_done, Tracker.abort, Tracker.increment_tries, Tracker.reset_tries]):
        tracker.add(number, _error="x")
        with Tracker[Any](tracker.path) as other:
            task = other.claim()
            assert task is not None
            change(tracker, number)
            assert_right(tracker)
            task.done(result=number)
        tracker.refresh()
        assert tracker[number]["result"] == number
        assert tracker.done(number)
        assert_right(tracker)
