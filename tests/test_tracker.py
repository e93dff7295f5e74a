"""Tasks that are added: once, with fields of their own, under keys of every kind; what cannot be added is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import batches, exactly, files, stored

from stress.recount import assert_right
from tastypy import DuplicateKeyError, Tracker, UnstorableTypeError, UnstorableValueError

FRESH = {"_done": False, "_aborted": False, "_tries": 0}
Use = Callable[[Tracker[Any]], object]


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](path) as tracker:
        yield tracker


# --------------------------------------------------------------------------------------------------------------- adding


def test_an_added_task_has_the_trackers_fields_and_its_own(tracker: Tracker[Any]) -> None:
    tracker.add("a")
    tracker.add("b", depth=1, links=["c"], key="a name like another", self=None)
    assert tracker == {
        "a": FRESH,
        "b": {**FRESH, "depth": 1, "links": ["c"], "key": "a name like another", "self": None},
    }
    assert stored(tracker.path) == tracker
    assert_right(tracker)


def test_a_task_that_is_there_is_not_added_again_and_stays_as_it_is(tracker: Tracker[Any]) -> None:
    tracker.add("a", mine=1)
    before = files(Path(tracker.path))
    for key in ("a", "a"):
        with pytest.raises(DuplicateKeyError, match="'a'") as caught:
            tracker.add(key, mine=2)
        assert isinstance(caught.value, KeyError)
        assert caught.value.path == tracker.path
    assert tracker.add_if_absent("a", mine=2) is False
    assert tracker["a"] == {**FRESH, "mine": 1}
    assert files(Path(tracker.path)) == before
    assert tracker.add_if_absent("b", mine=2) is True
    assert stored(tracker.path) == {"a": {**FRESH, "mine": 1}, "b": {**FRESH, "mine": 2}}


def test_many_tasks_are_added_in_one_commit_each_with_the_same_fields(tracker: Tracker[Any]) -> None:
    assert tracker.add_many((key for key in "abc"), depth=1) == 3
    assert stored(tracker.path) == {key: {**FRESH, "depth": 1} for key in "abc"}
    assert len(batches(Path(tracker.path))) == 1
    tracker["a"]["depth"] = 9
    assert tracker["b"]["depth"] == 1, "each has an entry of its own"
    assert_right(tracker)


def test_many_tasks_from_a_mapping_have_fields_of_their_own_which_win(tracker: Tracker[Any]) -> None:
    assert tracker.add_many({"a": {"depth": 2}, "b": {}}, depth=1, links=[]) == 2
    assert tracker == {"a": {**FRESH, "depth": 2, "links": []}, "b": {**FRESH, "depth": 1, "links": []}}


def test_one_task_that_is_there_keeps_all_of_many_from_being_added(tracker: Tracker[Any]) -> None:
    tracker.add("b")
    with pytest.raises(DuplicateKeyError, match="'b'"):
        tracker.add_many(["a", "b", "c"])
    assert tracker == {"b": FRESH}
    assert tracker.add_many_if_absent(["a", "b", "c", "a"], mine=1) == 2
    assert tracker == {"b": FRESH, "a": {**FRESH, "mine": 1}, "c": {**FRESH, "mine": 1}}
    assert tracker.add_many_if_absent(["a", "b", "c"]) == 0
    assert tracker.add_many([]) == tracker.add_many_if_absent({}) == 0
    assert len(batches(Path(tracker.path))) == 2
    assert stored(tracker.path) == tracker


def test_a_task_that_another_process_added_is_there(tracker: Tracker[Any]) -> None:
    with Tracker[Any](tracker.path) as other:
        other.add("a", mine=1)
        with pytest.raises(DuplicateKeyError):
            tracker.add("a")
        other.add("b")
        assert tracker.add_if_absent("b") is False
        other.add("c")
        assert tracker.add_many_if_absent(["c", "d"]) == 1
    assert tracker == {"a": {**FRESH, "mine": 1}, "b": FRESH, "c": FRESH, "d": FRESH}


def test_a_task_may_be_added_in_whatever_state(tracker: Tracker[Any]) -> None:
    tracker.add("a", _done=True, _tries=2)
    assert tracker.counts().done == 1
    assert_right(tracker)


@pytest.mark.parametrize(
    ("add", "error"),
    [
        (lambda tracker: tracker.add("a", thing=object()), UnstorableTypeError),
        (lambda tracker: tracker.add("a", thing=float("nan")), UnstorableValueError),
        (lambda tracker: tracker.add(b"a"), UnstorableTypeError),
        (lambda tracker: tracker.add(float("inf")), UnstorableValueError),
        (lambda tracker: tracker.add(["a"]), TypeError),
        (lambda tracker: tracker.add("a", _tries=-1), UnstorableValueError),
        (lambda tracker: tracker.add("a", _done=1), UnstorableValueError),
        (lambda tracker: tracker.add_if_absent("a", _claim=None), UnstorableValueError),
        (lambda tracker: tracker.add_many("abc"), TypeError),
        (lambda tracker: tracker.add_many(b"abc"), TypeError),
        (lambda tracker: tracker.add_many(3), TypeError),
        (lambda tracker: tracker.add_many(["a", b"b"]), UnstorableTypeError),
        (lambda tracker: tracker.add_many({"a": {}, "b": 3}), TypeError),
        (lambda tracker: tracker.add_many_if_absent({"a": {}, "b": {"_aborted": None}}), UnstorableValueError),
        (lambda tracker: tracker.add_many_if_absent(["a"], thing={1: 2}), UnstorableTypeError),
    ],
)
def test_what_cannot_be_added_is_refused_and_nothing_changes(
    tracker: Tracker[Any], add: Use, error: type[Exception]
) -> None:
    before = files(Path(tracker.path))
    with pytest.raises(error):
        add(tracker)
    assert tracker == {}
    assert files(Path(tracker.path)) == before
    assert_right(tracker)


@pytest.mark.parametrize("key", ["", "#", "#1", "ü\n", 0, -1, 2.5, True, None, (), ("a", 1, None, ("b",))], ids=repr)
def test_a_key_may_be_whatever_a_pod_takes(path: Path, key: Any) -> None:
    with Tracker[Any](path) as tracker:
        tracker.add(key, mine=1)
        tracker.mark_done(key)
        tracker.abort(key)
        tracker.increment_tries(key)
        assert (tracker.done(key), tracker.aborted(key), tracker.tries(key)) == (True, True, 1)
        assert exactly(dict.fromkeys(tracker.aborted_keys())) == exactly({key: None})
        tracker.update({key: {"_done": False, "_aborted": False}})
        task = tracker.claim()
        assert task is not None
        assert repr(task.key) == repr(key)
        task.done()
        assert_right(tracker)
    with Tracker[Any](path) as tracker:
        assert exactly(tracker.keys().mapping) == exactly(stored(path))
        assert repr(list(tracker)) == repr([key])
        assert tracker.done(key)
        del tracker[key]
        assert_right(tracker)


def test_a_task_keeps_the_first_spelling_of_its_key(tracker: Tracker[Any]) -> None:
    """1, 1.0 and True are one key: who claims it gets the one that was added."""
    tracker.add(1)
    tracker.mark_done(1)
    assert tracker.num_done() == 1
    tracker.mark_not_done(True)
    tracker.counts()
    task = tracker.claim()
    assert task is not None
    assert repr(task.key) == repr(next(iter(tracker))) == "1"
