"""Claims: which task is next, loops over them, and how a loop gives back what it had claimed ahead."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from helpers import batches, stored
from tracker_programs import claimed, finish, leftovers

from tastypy import POD, NotATrackerError, ReadOnlyError, Task, Tracker

TrackerOpener = Callable[..., Tracker[Any]]


@pytest.fixture
def trackers(path: Path) -> Iterator[TrackerOpener]:
    """Open trackers that are closed when the test ends."""
    opened: list[Tracker[Any]] = []

    def open_one(**options: Any) -> Tracker[Any]:
        opened.append(Tracker(path, **options))
        return opened[-1]

    yield open_one
    for tracker in reversed(opened):
        tracker.close()


@pytest.fixture
def tracker(trackers: TrackerOpener) -> Tracker[Any]:
    return trackers()


# ---------------------------------------------------------------------------------------------------------- which is next


def test_a_claim_is_one_commit_that_names_task_and_worker(tracker: Tracker[Any], path: Path) -> None:
    tracker.add_many(["a", "b"])
    before = len(batches(path))
    task = claimed(tracker)
    assert len(batches(path)) == before + 1
    claim = stored(path)["a"]["_claim"]
    assert claim == task.claim == {"token": claim["token"], "worker": claim["worker"]}
    assert len(claim["token"]) == len(claim["worker"]) == 16
    assert tracker.counts()[:4] == (2, 0, 0, 1)
    assert [*tracker.claimed_keys()] == ["a"]
    second = claimed(tracker)
    assert second.claim["worker"] == claim["worker"]
    assert second.claim["token"] != claim["token"]


def test_without_a_task_that_can_be_claimed_there_is_none_and_nothing_is_written(
    tracker: Tracker[Any], path: Path
) -> None:
    assert tracker.claim() is None
    tracker.add_many(["done", "aborted", "mine"])
    tracker.mark_done("done")
    tracker.abort("aborted")
    assert claimed(tracker).key == "mine"
    before = len(batches(path))
    assert tracker.claim() is None
    assert [*tracker.claims()] == []
    assert len(batches(path)) == before


def test_tasks_are_given_out_in_their_order_and_failed_ones_after_fresh_ones(
    tracker: Tracker[Any], trackers: TrackerOpener
) -> None:
    tracker.add_many(["a", "b", "c", "d"])
    claimed(tracker).fail("x")
    claimed(tracker).release()
    assert finish(trackers()) == ["b", "c", "d", "a"]
    tracker.refresh()
    tracker.add_many(["e", "f"])
    assert finish(tracker) == ["e", "f"]


def test_a_task_that_keeps_failing_does_not_keep_others_from_their_turn(tracker: Tracker[Any]) -> None:
    tracker.add_many(["poison", "b", "c"])
    seen = []
    for task in tracker.claims():
        seen.append(task.key)
        if task.key == "poison":
            tracker.add_if_absent("late")
            task.fail("x")
            if seen.count("poison") == 5:
                tracker.abort("poison")
        else:
            task.done()
    assert Counter(seen) == {"poison": 5, "b": 1, "c": 1, "late": 1}
    assert seen[:3] == ["poison", "b", "c"]


def test_a_task_is_given_up_after_max_tries_and_taken_up_when_they_are_reset(trackers: TrackerOpener) -> None:
    tracker = trackers(max_tries=2)
    tracker.add("a")
    claimed(tracker).release()
    claimed(tracker).fail("x")
    claimed(tracker).fail("y")
    assert tracker.claim() is None
    assert tracker.counts().given_up == 1
    patient = trackers(max_tries=3)
    claimed(patient).fail("z")
    assert (tracker.claim(), patient.claim()) == (None, None)
    assert claimed(trackers()).key == "a"
    tracker.reset_tries("a")
    assert tracker.claim() is None  # it is claimed
    assert tracker.tries("a") == 0


def test_a_reader_cannot_claim(tracker: Tracker[Any], trackers: TrackerOpener) -> None:
    tracker.add("a")
    reader = trackers(mode="r")
    with pytest.raises(ReadOnlyError, match="claim"):
        reader.claim()
    with pytest.raises(ReadOnlyError):
        next(reader.claims())


# ------------------------------------------------------------------------------------------------------------------ loops


@pytest.mark.parametrize("batch", [1, 2, 3, 10])
def test_a_loop_finishes_every_task_once(tracker: Tracker[Any], path: Path, batch: int) -> None:
    tracker.add_many(range(10))
    before = len(batches(path))
    assert finish(tracker, batch=batch) == [*range(10)]
    assert len(batches(path)) == before + 10 + -(-10 // batch)
    assert [(entry["_done"], entry["_tries"]) for entry in stored(path).values()] == [(True, 1)] * 10
    assert leftovers(path).keys() == {f"worker-{tracker._worker.name}.jsonl" if tracker._worker else ""}


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_is_one_task_or_more(tracker: Tracker[Any], batch: int) -> None:
    with pytest.raises(ValueError, match=f"batch must be 1 or more, not {batch}"):
        tracker.claims(batch=batch)
    for wrong in (1.5, True, "2", None):
        with pytest.raises(TypeError, match="batch must be an int"):
            tracker.claims(batch=wrong)  # type: ignore[arg-type]  # that is the question


def leave_by_break(loop: Iterator[Task]) -> None:
    for task in loop:
        with task:
            break


def leave_by_return(loop: Iterator[Task]) -> None:
    for task in loop:
        with task:
            return


def leave_by_exception(loop: Iterator[Task]) -> None:
    with pytest.raises(LookupError):
        for task in loop:
            with task:
                raise LookupError


def leave_by_close(loop: Iterator[Task]) -> None:
    with next(loop):
        pass
    loop.close()  # type: ignore[attr-defined]  # it is a generator


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_return, leave_by_exception, leave_by_close])
def test_a_loop_that_is_left_gives_back_what_it_had_claimed_ahead(
    tracker: Tracker[Any], path: Path, leave: Callable[[Iterator[Task]], None]
) -> None:
    tracker.add_many(range(10))
    before = len(batches(path))
    leave(tracker.claims(batch=4))
    assert len(batches(path)) == before + 3
    entries = stored(path)
    assert [key for key, entry in entries.items() if "_claim" in entry] == []
    assert [entries[key]["_tries"] for key in range(1, 10)] == [0] * 9
    assert entries[0]["_tries"] == 1
    assert sorted(finish(tracker)) == ([*range(10)] if leave is leave_by_exception else [*range(1, 10)])


def test_a_loop_that_is_dropped_inside_a_transaction_gives_its_tasks_back_after_it(
    tracker: Tracker[Any], path: Path
) -> None:
    tracker.add_many(range(4))
    loop = tracker.claims(batch=3)
    next(loop).done()
    with tracker.transaction():
        tracker.add("more")
        del loop
    assert [key for key, entry in stored(path).items() if "_claim" in entry] == []
    assert {*finish(tracker)} == {3, "more", 1, 2}


def test_tasks_added_by_anybody_while_a_loop_runs_are_found(tracker: Tracker[Any], trackers: TrackerOpener) -> None:
    tracker.add("first")
    other = trackers()
    seen = []
    for task in tracker.claims(batch=2):
        with task:
            seen.append(task.key)
            if task.key == "first":
                tracker.add("by me")
                other.add("by another object")
                with POD[Any, Any](tracker.path) as pod:
                    pod["by a plain POD"] = {"depth": 1}
    assert seen == ["first", "by me", "by another object", "by a plain POD"]


def test_a_loop_over_a_closed_tracker_says_so(tracker: Tracker[Any]) -> None:
    tracker.add_many(range(4))
    loop = tracker.claims(batch=2)
    next(loop).done()
    tracker.close()
    with pytest.raises(ValueError, match="was closed"):
        for task in loop:
            task.done()
    with pytest.raises(ValueError, match="was closed"):
        tracker.claims()
    assert leftovers(tracker.path) == {}


# ------------------------------------------------------------------------------------------------------------------ damage


def test_a_damaged_entry_is_named_when_tasks_are_looked_for_and_others_can_still_end(
    tracker: Tracker[Any], path: Path
) -> None:
    tracker.add_many(["a", "b", "c"])
    task = claimed(tracker)
    with POD[Any, Any](path) as pod:
        pod["b"] = 3
    with pytest.raises(NotATrackerError, match="'b' is 3"):
        [*islice(tracker.claims(), 3)]
    task.done()
    with POD[Any, Any](path) as pod:
        pod["b"] = {}
    assert sorted(finish(tracker)) == ["b", "c"]


def test_a_tracker_with_a_damaged_entry_can_be_closed_and_gives_back_its_claims(
    tracker: Tracker[Any], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker.add_many(["a", "b"])
    assert claimed(tracker).key == "a"
    with POD[Any, Any](path) as pod:
        pod["b"] = 3
    try:
        tracker.close()
        assert "_claim" not in stored(path)["a"]
    finally:
        with POD[Any, Any](path) as pod:
            pod["b"] = {}
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
