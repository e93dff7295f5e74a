"""What a tracker is opened with, which directories become one, and its copies."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from helpers import batches, exactly, files, stored

from stress.points import each_point
from stress.recount import assert_right
from tastypy import (
    POD,
    ClosedPODError,
    MissingPODError,
    NotATrackerError,
    ReadOnlyError,
    SettingsError,
    Tracker,
    TransactionError,
)

FRESH = {"_done": False, "_aborted": False, "_tries": 0}


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](path) as tracker:
        yield tracker


# ------------------------------------------------------------------------------------------------- what it is opened with


@pytest.mark.parametrize(
    ("max_tries", "error"), [(-1, ValueError), (True, TypeError), (1.0, TypeError), ("r", TypeError), (None, TypeError)]
)
def test_a_number_of_tries_that_is_none_is_refused_before_a_directory_is_made(
    path: Path, max_tries: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="max_tries"):
        Tracker(path, max_tries)
    assert not path.exists()


def test_the_number_of_tries_is_the_objects_and_not_stored(path: Path) -> None:
    with Tracker[str](path, 2) as two, Tracker[str](path, max_tries=3) as three, Tracker[str](path) as without:
        two.add("a", _tries=2)
        three.refresh()
        without.refresh()
        assert [one.max_tries for one in (two, three, without)] == [2, 3, 0]
        assert [one.counts().given_up for one in (two, three, without)] == [1, 0, 0]
        for one in (two, three, without):
            assert_right(one)
        with pytest.raises(AttributeError):
            two.max_tries = 5  # type: ignore[misc]  # that is the point


def test_it_takes_the_options_of_a_pod(path: Path) -> None:
    with Tracker[str](path, durable=True, gzipped=True, shard_bytes=64, default=str, timeout=5) as tracker:
        tracker.add("a", where=Path("/x"))
        assert tracker["a"]["where"] == "/x"
        tracker.sync()
    with pytest.raises(SettingsError):
        Tracker(path, gzipped=False)
    with pytest.raises(ValueError, match="mode"):
        Tracker(path, mode="w")


def test_opened_to_read_it_shows_everything_and_changes_nothing(path: Path) -> None:
    with pytest.raises(MissingPODError):
        Tracker(path, mode="r")
    with Tracker[str](path) as tracker:
        tracker.add_many(["a", "b"])
        tracker.mark_done("a")
    before = files(path)
    with Tracker[str](path, mode="r") as reader:
        assert_right(reader)
        assert reader.percent_done() == "50.00 %"
        assert list(reader.todo_keys()) == ["b"]
        assert (reader.done("a"), reader.should_do("b")) == (True, True)
        changes: list[Callable[[], object]] = [
            lambda: reader.add("c"),
            lambda: reader.add_if_absent("a"),
            lambda: reader.add_many(["c"]),
            lambda: reader.mark_done("b"),
            lambda: reader.should_do_add("c"),
            lambda: reader.should_try("b"),
            lambda: list(reader.try_keys()),
            lambda: reader.setdefault("a"),
            lambda: reader.update({"a": {}}),
            reader.claim,
            lambda: list(reader.claims()),
        ]
        for change in changes:
            with pytest.raises(ReadOnlyError):
                change()
    assert files(path) == before


def test_a_closed_one_raises_on_every_use_but_close(tracker: Tracker[Any]) -> None:
    tracker.add("a")
    names = [name for name in {*dir(Tracker)} - {*dir(POD)} if name[0] != "_" and name != "max_tries"]
    assert len(names) > 40
    tracker.close()
    for name in names:
        with pytest.raises(ClosedPODError, match=name):
            getattr(tracker, name)("a")
    tracker.close()


# ---------------------------------------------------------------------------------------------- a POD becomes a tracker


def test_a_pod_whose_values_are_dicts_becomes_a_tracker_in_one_commit(path: Path) -> None:
    with POD[Any, Any](path) as pod:
        pod.update({"a": {"mine": 1}, 1: {}, "b": {"_tries": 2, "_error": "x"}, "whole": {**FRESH, "mine": 2}})
        before = len(batches(path))
        with Tracker[Any](path) as tracker:
            expected = {
                "a": {**FRESH, "mine": 1},
                1: FRESH,
                "b": {**FRESH, "_tries": 2, "_error": "x"},
                "whole": {**FRESH, "mine": 2},
            }
            assert exactly(tracker) == exactly(expected)
            assert len(batches(path)) == before + 1
            assert stored(path) == expected
            assert_right(tracker)
            with Tracker[Any](path):
                assert len(batches(path)) == before + 1, "the second time there is nothing to do"
        pod.refresh()
        assert pod == expected  # fmt: skip


def test_a_pod_that_is_read_as_a_tracker_stays_what_it_is(path: Path) -> None:
    with POD[Any, Any](path) as pod:
        pod.update({"a": {"mine": 1}, "b": {"_done": True}})
    with Tracker[Any](path, mode="r") as reader:
        assert reader == {"a": {"mine": 1}, "b": {"_done": True}}
        assert (reader.done("a"), reader.tries("a"), reader.done("b")) == (False, 0, True)
        assert list(reader.todo_keys()) == ["a"]
        assert_right(reader)


@pytest.mark.parametrize("mode", ["a", "r"])
def test_a_pod_with_other_values_becomes_none_and_it_is_said_which(path: Path, mode: str) -> None:
    with POD[Any, Any](path) as pod:
        pod.update({"a": {}, "b": 3, "c": [1], "d": None, "e": {"_tries": -1}, "f": "x"})
    before = files(path)
    with pytest.raises(NotATrackerError) as caught:
        Tracker(path, mode=mode)
    assert isinstance(caught.value, ValueError)
    for part in (str(path), "'b' is 3", "'c' is [1]", "'d' is None", "and 2 more"):
        assert part in str(caught.value)
    assert files(path) == before
    with POD[Any, Any](path) as pod:
        pod.update({key: {} for key in "bcdef"})
    with Tracker[Any](path) as tracker:
        assert_right(tracker)


def test_what_somebody_deletes_while_it_is_opened_stays_deleted(quick_directory: Path) -> None:
    """It is given the fields that it lacks, and so must not be brought back by that."""
    for point in each_point():
        path = quick_directory / f"pod {point.number}"
        with POD[Any, Any](path) as pod:
            pod.update(a={}, b={})
            deleted: list[object] = []

            def delete() -> None:
                with suppress(TransactionError):  # a point inside a commit
                    deleted.append(pod.pop("a"))  # noqa: B023 - called in the same round

            with point.calls(delete):
                tracker = Tracker[Any](path)
            with tracker:
                tracker.refresh()
                assert ("a" in tracker) is not bool(deleted), point
                assert ("a" in stored(path)) is not bool(deleted), point
                assert_right(tracker)


# ---------------------------------------------------------------------------------------------------------------- copies


def test_it_pickles_as_its_path_and_options(path: Path) -> None:
    with Tracker[Any](path, max_tries=3, timeout=5) as tracker:
        tracker.add("a", _tries=3)
        with pickle.loads(pickle.dumps(tracker)) as twin:
            assert type(twin) is Tracker
            assert (twin.path, twin.max_tries, twin.mode, twin._options) == (str(path), 3, "a", tracker._options)
            twin.add("b")
            assert twin.counts().given_up == 1
            assert tracker.refresh() == {"b"}
            assert_right(tracker)
        with Tracker[Any](path, 2, "r") as reader, pickle.loads(pickle.dumps(reader)) as twin:
            assert (twin.max_tries, twin.mode) == (2, "r")
            assert_right(twin)


def test_a_copy_is_a_plain_dict_of_its_own(tracker: Tracker[Any]) -> None:
    tracker.add("a", links=[])
    for copied in (tracker.copy(), copy.copy(tracker), copy.deepcopy(tracker), tracker | {}):
        assert type(copied) is dict
        assert copied == {"a": {**FRESH, "links": []}}
        copied["b"] = {}
    assert list(tracker) == ["a"]
