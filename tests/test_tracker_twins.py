"""Two trackers on one directory in one process: one worker, claims of their own, and what each holds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import in_child, stored

from stress.recount import assert_right
from tastypy import ClaimLost, ClosedPODError, Tracker


@pytest.fixture
def one(path: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](path) as one:
        one.add_many(["a", "b"])
        yield one


@pytest.fixture
def other(one: Tracker[Any]) -> Iterator[Tracker[Any]]:
    with Tracker[Any](one.path) as other:
        yield other


def workers(tracker: Tracker[Any]) -> list[Path]:
    """The files of workers."""
    return list(Path(tracker.path).glob("worker-*"))


def test_they_are_one_worker_and_never_have_the_same_task(one: Tracker[Any], other: Tracker[Any]) -> None:
    mine, yours = one.claim(), other.claim()
    assert mine is not None
    assert yours is not None
    assert {mine.key, yours.key} == {"a", "b"}
    assert mine.claim["worker"] == yours.claim["worker"]
    assert mine.claim["token"] != yours.claim["token"]
    assert one.claim() is other.claim() is None
    assert len(workers(one)) == 1
    mine.done()
    yours.fail("x")
    for tracker in (one, other):
        tracker.refresh()
        assert_right(tracker)
        assert (tracker.counts().done, tracker.counts().failed) == (1, 1)


def test_closing_one_gives_back_its_tasks_and_leaves_the_others(
    one: Tracker[Any], other: Tracker[Any], caplog: pytest.LogCaptureFixture
) -> None:
    mine, yours = one.claim(), other.claim()
    assert mine is not None
    assert yours is not None
    one.close()
    assert len(workers(one)) == 1, "the process is still alive"
    with pytest.raises(ClosedPODError):
        mine.done()
    other.refresh()
    assert list(other.claimed_keys()) == [yours.key]
    assert_right(other)
    again = other.claim()
    assert again is not None
    assert (again.key, again.tries) == (mine.key, 0)
    again.done()
    yours.done()
    assert other.counts().done == 2
    other.close()
    assert workers(one) == []
    assert caplog.records == []


def test_when_one_is_closed_that_had_nothing_in_hand_the_other_goes_on_in_silence(
    one: Tracker[Any], other: Tracker[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody was taken for dead."""
    task = one.claim()
    assert task is not None
    task.done()
    one.close()
    task = other.claim()
    assert task is not None
    task.done()
    assert other.counts().done == 2
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_loop_does_not_end_while_there_is_a_task_of_a_worker_that_just_died(one: Tracker[Any]) -> None:
    """Dead workers are looked for when nothing else can be claimed, however short ago that was done last."""
    seen = []
    for task in one.claims():
        with task:
            seen.append(task.key)
            if len(seen) == 1:
                assert in_child(lambda: Tracker[Any](one.path).claim()) == 0
    assert sorted(seen) == ["a", "b"]
    assert one.counts().done == 2
    assert_right(one)


def test_looking_after_the_directory_leaves_a_task_in_hand_alone(one: Tracker[Any], other: Tracker[Any]) -> None:
    task = one.claim()
    assert task is not None
    for look_after in (other.sync, one.sync, other.repair, one.repair, other.sync):
        look_after()
        assert other.check() == one.check() == []
        assert len(workers(one)) == 1
    task.done()
    assert stored(one.path)["a"]["_done"] is True
    assert_right(one)


# ------------------------------------------------------------------------------------------------------- what is held


def test_what_is_held_of_a_task_that_the_other_has_claimed_gives_nobody_that_task(
    one: Tracker[Any], other: Tracker[Any]
) -> None:
    """A claim is made of what is on the disk, whatever the memory has."""
    one.hold()
    one.update({"a": {"mine": 1}})
    theirs = other.claim()
    assert theirs is not None
    assert theirs.key == "a"
    mine = one.claim()
    assert mine is not None
    assert mine.key == "b"
    theirs.done()
    assert stored(one.path)["a"]["_done"] is True


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.update({"a": {"mine": 1}}),
        lambda one: one.abort("a"),
        lambda one: one.increment_tries("a"),
        lambda one: [one["a"].update(mine=1), one.update("a")],
    ],
    ids=["update", "abort", "tries", "in place"],
)
@pytest.mark.parametrize("when", ["unhold", "refresh", "sync", "close"])
def test_what_is_held_of_a_task_leaves_a_claim_alone_that_came_meanwhile(
    one: Tracker[Any], other: Tracker[Any], change: Callable[[Tracker[Any]], object], when: str
) -> None:
    one.hold()
    change(one)
    theirs = other.claim()
    assert theirs is not None
    assert theirs.key == "a"
    getattr(one, when)()
    if when != "close":
        assert one["a"]["_claim"] == theirs.claim
        assert_right(one)
        one.unhold()
    assert stored(other.path)["a"]["_claim"] == theirs.claim
    theirs.done(result=1)
    entry = stored(other.path)["a"]
    assert (entry["_done"], entry["result"]) == (True, 1)
    assert entry.get("mine") == 1 or entry["_aborted"] or entry["_tries"] == 2


def test_what_is_held_of_a_task_that_was_finished_meanwhile_does_not_undo_that(
    one: Tracker[Any], other: Tracker[Any]
) -> None:
    task = other.claim()
    assert task is not None
    one.refresh()
    one.hold()
    one.update({task.key: {"mine": 1}})
    task.done(result=1)
    one.unhold()
    for tracker in (one, other):
        tracker.refresh()
        entry = tracker[task.key]
        assert (entry["_done"], entry["_tries"], entry["mine"], entry["result"]) == (True, 1, 1, 1)
        assert "_claim" not in entry
        assert_right(tracker)


def test_what_was_mutated_in_place_under_hold_stays_when_more_is_held_of_the_task(
    one: Tracker[Any], other: Tracker[Any]
) -> None:
    one.hold()
    one["a"]["mine"] = 1
    one.update("a")
    one.update({"a": {"more": 2}})
    other.update({"a": {"theirs": 3}})
    one.unhold()
    entry = stored(one.path)["a"]
    assert (entry.get("mine"), entry["more"], entry["theirs"]) == (1, 2, 3)
    assert_right(one)


def test_what_is_held_anew_is_a_change_of_what_was_committed_meanwhile(one: Tracker[Any], other: Tracker[Any]) -> None:
    one.hold()
    one.update({"a": {"mine": 1, "both": 1}})
    with one.transaction():
        one.update({"a": {"both": 2}})
    assert one.dirty() == set()
    one.update({"a": {"mine": 2}})
    other.update({"a": {"both": 3}})
    one.unhold()
    entry = stored(one.path)["a"]
    assert (entry["mine"], entry["both"]) == (2, 3)
    assert_right(one)


def test_a_claim_that_was_lost_is_lost_also_where_the_entry_is_held(one: Tracker[Any], other: Tracker[Any]) -> None:
    task = one.claim()
    assert task is not None
    one.hold()
    one.update({task.key: {"mine": 1}})
    other[task.key] = {}
    del other["b"]
    again = other.claim()
    assert again is not None
    assert again.key == task.key
    with pytest.raises(ClaimLost):
        task.done()
    assert stored(one.path)[task.key]["_claim"] == again.claim
    again.done()


def test_a_claim_under_hold_is_committed_at_once_and_what_is_held_stays_held(
    one: Tracker[Any], other: Tracker[Any]
) -> None:
    one.hold()
    one.add("held")
    one.mark_done("b")
    task = one.claim()
    assert task is not None
    assert task.key == "a"
    assert stored(one.path)["a"]["_claim"] == task.claim
    assert stored(one.path)["b"]["_done"] is False
    assert one.dirty() == {"held", "b"}
    assert_right(one)
    task.done(result=1)
    assert stored(one.path)["a"]["result"] == 1
    assert one.dirty() == {"held", "b"}
    assert_right(one)
    one.revert()
    assert_right(one)
    assert list(one) == ["a", "b"]
    other.refresh()
    assert other == one
    assert other.counts() == one.counts()


def test_a_held_task_can_be_claimed_by_who_holds_it_and_is_committed_with_that(
    one: Tracker[Any], other: Tracker[Any]
) -> None:
    one.clear()
    one.hold()
    one.add("held", mine=1)
    other.refresh()
    assert other.claim() is None
    task = one.claim()
    assert task is not None
    assert (task.key, task["mine"]) == ("held", 1)
    assert one.dirty() == set()
    assert stored(one.path) == one
    assert other.claim() is None
    one.revert()
    task.done()
    assert stored(one.path)["held"]["mine"] == 1
    assert_right(one)
