"""Entries set, merged, edited and mutated by hand: what they become, and what is refused."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import batches, files, stored

from stress.recount import assert_right
from tastypy import ClaimLost, Counts, Tracker, TransactionError, UnstorableTypeError, UnstorableValueError

FRESH = {"_done": False, "_aborted": False, "_tries": 0}
CLAIM = {"token": "0123456789abcdef", "worker": "fedcba9876543210"}
Use = Callable[[Tracker[Any]], object]


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](path, max_tries=2) as tracker:
        tracker.add("a", mine=1, links=["b"])
        yield tracker


@pytest.fixture
def other(tracker: Tracker[Any]) -> Iterator[Tracker[Any]]:
    with Tracker[Any](tracker.path, max_tries=2) as other:
        yield other


# ------------------------------------------------------------------------------------------------------- set and merged


def test_an_entry_that_is_set_gets_the_fields_that_it_lacks_and_replaces_the_one_before(tracker: Tracker[Any]) -> None:
    tracker["a"] = {"other": 2}
    tracker["b"] = {"_done": True, "other": 3}
    assert tracker == {"a": {**FRESH, "other": 2}, "b": {**FRESH, "_done": True, "other": 3}}
    assert list(tracker["b"]) == [*FRESH, "other"]
    assert stored(tracker.path) == tracker
    assert_right(tracker)


def test_an_update_merges_fields_into_entries_and_adds_what_is_absent(tracker: Tracker[Any]) -> None:
    before = len(batches(Path(tracker.path)))
    tracker.update({"a": {"mine": 2, "_tries": 1}, "b": {"new": None}}, c={})
    assert tracker == {
        "a": {**FRESH, "mine": 2, "links": ["b"], "_tries": 1},
        "b": {**FRESH, "new": None},
        "c": FRESH,
    }
    assert len(batches(Path(tracker.path))) == before + 1
    tracker |= {"c": {"mine": 3}}
    tracker.update([("c", {"yours": 4}), ("d", {"mine": 5})])
    assert tracker["c"] == {**FRESH, "mine": 3, "yours": 4}
    assert tracker["d"] == {**FRESH, "mine": 5}
    assert stored(tracker.path) == tracker
    assert_right(tracker)


def test_an_update_merges_into_what_another_process_committed(tracker: Tracker[Any], other: Tracker[Any]) -> None:
    other.update({"a": {"theirs": 1, "_tries": 1}, "b": {"theirs": 2}})
    tracker.update({"a": {"mine": 2}, "b": {"mine": 3}})
    assert tracker["a"] == {**FRESH, "mine": 2, "links": ["b"], "theirs": 1, "_tries": 1}
    assert tracker["b"] == {**FRESH, "theirs": 2, "mine": 3}
    del other["b"]
    tracker.update({"b": {"mine": 4}})
    assert tracker["b"] == {**FRESH, "mine": 4}
    assert_right(tracker)


def test_an_update_leaves_a_claim_alone(tracker: Tracker[Any], other: Tracker[Any]) -> None:
    task = other.claim()
    assert task is not None
    tracker.update({"a": {"mine": 2}})
    assert tracker["a"]["_claim"] == task.claim
    task.done(result=3)
    tracker.refresh()
    assert (tracker["a"]["mine"], tracker["a"]["result"]) == (2, 3)
    assert_right(tracker)


@pytest.mark.parametrize("change", [lambda tracker: tracker.__setitem__("a", {}), lambda tracker: tracker.pop("a")])
def test_an_entry_that_is_set_or_deleted_takes_the_claim_away(
    tracker: Tracker[Any], other: Tracker[Any], change: Use
) -> None:
    task = other.claim()
    assert task is not None
    change(tracker)
    assert_right(tracker)
    with pytest.raises(ClaimLost):
        task.done()
    assert other == tracker
    assert tracker.counts() == other.counts()
    assert tracker.num_done() == 0
    assert_right(other)


def test_an_update_with_nothing_changes_nothing(tracker: Tracker[Any]) -> None:
    before = files(Path(tracker.path))
    tracker.update()
    tracker.update({})
    tracker |= {}
    tracker.update("")
    assert files(Path(tracker.path)) == before


def test_setdefault_adds_a_task_or_returns_the_one_that_is_there(tracker: Tracker[Any], other: Tracker[Any]) -> None:
    other.add("theirs", theirs=1)
    assert tracker.setdefault("a", {"mine": 2}) == {**FRESH, "mine": 1, "links": ["b"]}
    assert tracker.setdefault("theirs", {"mine": 2}) == {**FRESH, "theirs": 1}
    assert tracker.setdefault("b") == FRESH
    assert tracker.setdefault("c", {"mine": 3}) is tracker["c"]
    assert tracker["c"] == {**FRESH, "mine": 3}
    assert stored(tracker.path) == tracker
    assert_right(tracker)


def test_an_edited_entry_is_committed_and_counted(tracker: Tracker[Any], other: Tracker[Any]) -> None:
    with tracker.edit("a") as entry:
        entry["links"].append("c")
        entry["_done"] = True
    with tracker.edit("b", default={"mine": 2}) as entry:
        entry["_aborted"] = True
    assert tracker["a"] == {**FRESH, "_done": True, "mine": 1, "links": ["b", "c"]}
    assert tracker["b"] == {**FRESH, "_aborted": True, "mine": 2}
    assert_right(tracker)
    other.refresh()
    assert other == tracker
    assert_right(other)


def test_an_edit_that_fails_or_damages_the_entry_changes_nothing(tracker: Tracker[Any]) -> None:
    before = tracker.copy()
    with pytest.raises(ZeroDivisionError), tracker.edit("a") as entry:
        entry["_done"] = True
        raise ZeroDivisionError
    with pytest.raises(UnstorableValueError, match="_done"), tracker.edit("a") as entry:
        entry["_done"] = "yes"
    with pytest.raises(KeyError), tracker.edit("nothing"):
        pass
    assert tracker == stored(tracker.path) == before
    assert_right(tracker)


# -------------------------------------------------------------------------------------------------------------- deleted


@pytest.mark.parametrize(
    "delete",
    [
        lambda tracker: tracker.__delitem__("a"),
        lambda tracker: tracker.pop("a"),
        lambda tracker: tracker.popitem(last=False),
        lambda tracker: tracker.clear(),
    ],
    ids=["del", "pop", "popitem", "clear"],
)
@pytest.mark.parametrize("state", [{}, {"_done": True}, {"_aborted": True}, {"_tries": 2}, {"_claim": CLAIM}], ids=repr)
def test_a_task_that_is_deleted_is_not_counted_any_more(
    tracker: Tracker[Any], other: Tracker[Any], delete: Use, state: dict[str, Any]
) -> None:
    tracker["a"] = state
    tracker.add("b")
    tracker.counts()
    delete(tracker)
    assert "a" not in tracker
    assert_right(tracker)
    other.refresh()
    assert_right(other)
    assert other == tracker
    tracker.add("a")
    assert_right(tracker)


# ------------------------------------------------------------------------------------------------------ mutated in place


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("sync", [lambda tracker: tracker.update("a"), lambda tracker: tracker.sync_key("a")])
def test_an_entry_that_was_mutated_in_place_is_counted_when_its_key_is_synchronised(
    tracker: Tracker[Any], other: Tracker[Any], sync: Use, held: bool
) -> None:
    if held:
        tracker.hold()
    tracker.counts()
    tracker["a"]["_done"] = True
    tracker["a"]["links"].append("c")
    sync(tracker)
    assert_right(tracker)
    tracker.unhold()
    other.refresh()
    assert other["a"] == {**FRESH, "_done": True, "mine": 1, "links": ["b", "c"]}
    assert_right(other)


def test_a_held_entry_that_was_mutated_in_place_is_counted_when_it_is_written(tracker: Tracker[Any]) -> None:
    """What is written of a held key is its value then, whether or not somebody told of the mutation."""
    with tracker.hold():
        tracker["a"] = {"mine": 2}
        tracker.counts()
        tracker["a"]["_done"] = True
    assert stored(tracker.path)["a"]["_done"] is True
    assert_right(tracker)


def test_an_entry_that_was_set_in_a_transaction_and_mutated_then_is_counted(tracker: Tracker[Any]) -> None:
    with tracker.transaction():
        tracker["a"] = {"mine": 2}
        tracker.counts()
        tracker["a"]["_aborted"] = True
    assert stored(tracker.path)["a"]["_aborted"] is True
    assert_right(tracker)


def test_an_entry_that_was_mutated_in_place_and_moved_is_counted(tracker: Tracker[Any]) -> None:
    """A move writes the value as it is."""
    tracker.add("b")
    tracker.counts()
    tracker["a"]["_done"] = True
    tracker.move_to_end("a")
    assert stored(tracker.path)["a"]["_done"] is tracker["a"]["_done"]
    assert_right(tracker)


@pytest.mark.parametrize("how", ["update", "hold", "transaction"])
def test_an_entry_that_was_mutated_into_none_of_a_task_is_not_written(tracker: Tracker[Any], how: str) -> None:
    """Nobody could open the tracker any more."""
    with pytest.raises(UnstorableValueError, match="_tries"):
        if how == "update":
            tracker["a"]["_tries"] = -1
            tracker.update("a")
        elif how == "hold":
            with tracker.hold():
                tracker["a"] = {}
                tracker["a"]["_tries"] = -1
        else:
            with tracker.transaction():
                tracker["a"] = {}
                tracker["a"]["_tries"] = -1
    assert stored(tracker.path) == {"a": {**FRESH, "mine": 1, "links": ["b"]}}
    tracker["a"]["_tries"] = 1
    tracker.update("a")
    tracker.unhold()
    assert stored(tracker.path) == tracker
    assert_right(tracker)


# -------------------------------------------------------------------------------------------------------------- refused

NONE_OF_A_TASK: list[tuple[Any, type[Exception]]] = [
    (3, TypeError),
    (None, TypeError),
    ("x", TypeError),
    ([], TypeError),
    (OrderedDict(mine=1), ValueError),
    ({"_done": 1}, ValueError),
    ({"_aborted": None}, ValueError),
    ({"_tries": -1}, ValueError),
    ({"_tries": True}, ValueError),
    ({"_claim": "me"}, ValueError),
    ({"_error": 3}, ValueError),
    ({"_at": "now"}, ValueError),
    ({"mine": object()}, TypeError),
    ({1: 2}, TypeError),
    ({"mine": float("inf")}, ValueError),
]
WAYS: dict[str, Callable[[Any, Any], object]] = {
    "assignment": lambda tracker, entry: tracker.__setitem__("a", entry),
    "assignment of another": lambda tracker, entry: tracker.__setitem__("b", entry),
    "setdefault": lambda tracker, entry: tracker.setdefault("b", entry or []),
    "update": lambda tracker, entry: tracker.update({"b": {}, "a": entry}),
    "update of another": lambda tracker, entry: tracker.update(c={}, b=entry),
    "|=": lambda tracker, entry: tracker.__ior__({"a": entry}),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(("entry", "error"), NONE_OF_A_TASK, ids=lambda value: repr(value)[:30])
def test_what_is_no_entry_is_refused_and_nothing_changes(
    tracker: Tracker[Any], way: Callable[[Tracker[Any], Any], object], entry: Any, error: type[Exception]
) -> None:
    before, disk = tracker.copy(), files(Path(tracker.path))
    for held in (False, True):
        if held:
            tracker.hold()
        with pytest.raises(error) as caught:
            way(tracker, entry)
        assert isinstance(caught.value, UnstorableTypeError | UnstorableValueError)
        assert tracker == before
        assert tracker.dirty() == set()
        assert files(Path(tracker.path)) == disk
        assert_right(tracker)


def test_the_error_of_a_refused_entry_names_its_key_the_directory_and_the_way_out(tracker: Tracker[Any]) -> None:
    with pytest.raises(UnstorableTypeError) as caught:
        tracker["a"] = 3  # type: ignore[assignment]  # that is the point
    for part in ("'a'", "3", tracker.path, "add("):
        assert part in str(caught.value)
    assert caught.value.path == tracker.path


def test_incr_is_for_numbers_and_a_tracker_has_none(tracker: Tracker[Any]) -> None:
    for key in ("a", "nothing"):
        with pytest.raises(TypeError):
            tracker.incr(key)
    assert tracker == stored(tracker.path) == {"a": {**FRESH, "mine": 1, "links": ["b"]}}
    assert_right(tracker)


@pytest.mark.parametrize(
    "claim",
    [{"token": "t", "worker": ""}, {"token": "t", "worker": "\0"}, {"token": "t", "worker": "w" * 300}, {"token": "t", "worker": "../w"}],
    ids=["none", "zero byte", "long", "path"],
)  # fmt: skip
def test_a_claim_of_a_worker_that_cannot_be_is_refused_or_given_up(
    tracker: Tracker[Any], claim: dict[str, str]
) -> None:
    """Else the task stays claimed for ever, or every claim of every worker raises."""
    try:
        tracker["a"] = {"_claim": claim}
    except UnstorableValueError:
        assert "_claim" not in tracker["a"]
    assert tracker.counts() in (Counts(1, 0, 0, 1, 0, 0, 0), Counts(1, 0, 0, 0, 0, 0, 1))
    task = tracker.claim()
    assert task is not None
    task.done()
    assert_right(tracker)


def test_inside_a_transaction_nothing_can_be_claimed_and_no_task_ended(tracker: Tracker[Any]) -> None:
    task = tracker.claim()
    assert task is not None
    with tracker.transaction():
        for end in (tracker.claim, lambda: list(tracker.claims()), task.done, task.release, lambda: task.fail("x")):
            with pytest.raises(TransactionError):
                end()
    assert_right(tracker)
    task.done()
    assert tracker.counts() == Counts(1, 1, 0, 0, 0, 0, 0)
