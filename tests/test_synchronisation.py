"""When memory and disk meet: assignment, `update(key)`, hold, unhold, sync, refresh, revert, dirty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import Opener, batches, exactly, files, in_shards, journal, stored

from tastypy import POD, MissingKeyError


@pytest.fixture
def other(pod: POD[Any, Any], opened: Opener) -> POD[Any, Any]:
    """A second POD on the directory of `pod`."""
    return opened()


# ------------------------------------------------------------------------------------------- assignment, update(key)


def test_an_assignment_is_on_disk_at_once_as_one_line(pod: POD[Any, Any]) -> None:
    before = journal(Path(pod.path)).read_bytes()
    pod["foo"] = "bar"
    after = journal(Path(pod.path)).read_bytes()
    assert after.startswith(before)
    assert after[len(before) :].count(b"\n") == 1
    assert batches(Path(pod.path))[-1]["put"] == {"foo": "bar"}
    assert pod.dirty() == set()


def test_a_stored_list_that_is_mutated_is_not_noticed_until_update_is_called(pod: POD[Any, Any]) -> None:
    pod["mutable"] = [1, 2, 3]
    pod["mutable"].append(4)
    assert stored(pod.path) == {"mutable": [1, 2, 3]}
    pod.update("mutable")
    assert pod["mutable"] == [1, 2, 3, 4]
    assert stored(pod.path) == {"mutable": [1, 2, 3, 4]}


@pytest.mark.parametrize("key", ["text", "", 1, None, ("a", 1)], ids=repr)
def test_sync_key_commits_a_mutated_value_under_any_key(pod: POD[Any, Any], key: Any) -> None:
    pod[key] = []
    pod[key].append(1)
    pod.sync_key(key)
    assert stored(pod.path) == {key: [1]}


def test_update_of_a_key_keeps_its_place(pod: POD[Any, Any]) -> None:
    pod.update(a=[], b=[])
    pod["a"].append(1)
    pod.update("a")
    assert exactly(stored(pod.path)) == exactly({"a": [1], "b": []})


@pytest.mark.parametrize("call", ["update", "sync_key"])
def test_synchronising_a_missing_key_raises_and_changes_nothing(pod: POD[Any, Any], call: str) -> None:
    pod["a"] = 1
    before = files(Path(pod.path))
    with pytest.raises(MissingKeyError, match="missing"):
        getattr(pod, call)("missing")
    assert files(Path(pod.path)) == before
    assert pod == {"a": 1}


def test_update_of_a_held_key_stays_held(pod: POD[Any, Any]) -> None:
    pod["a"] = []
    pod.hold()
    pod["a"].append(1)
    pod.update("a")
    assert pod.dirty() == {"a"}
    assert stored(pod.path) == {"a": []}
    pod.unhold()
    assert stored(pod.path) == {"a": [1]}


# -------------------------------------------------------------------------------------------------------- hold, sync


def test_hold_keeps_changes_in_memory_and_unhold_writes_them(pod: POD[Any, Any]) -> None:
    pod["a"] = 1
    pod.hold()
    pod["a"] = 2
    pod["b"] = 3
    del pod["a"]
    assert pod == {"b": 3}
    assert pod.dirty() == {"a", "b"}
    assert stored(pod.path) == {"a": 1}
    pod.unhold()
    assert pod.dirty() == set()
    assert stored(pod.path) == {"b": 3}
    pod["c"] = 4
    assert stored(pod.path) == {"b": 3, "c": 4}


def test_sync_writes_and_does_not_lift_the_hold(pod: POD[Any, Any]) -> None:
    pod.hold()
    pod["a"] = 1
    pod.sync()
    assert pod.dirty() == set()
    assert stored(pod.path) == {"a": 1}
    pod["b"] = 2
    assert pod.dirty() == {"b"}
    assert stored(pod.path) == {"a": 1}


def test_hold_acts_at_once_and_its_result_ends_it(pod: POD[Any, Any]) -> None:
    held = pod.hold()
    pod["a"] = 1
    assert stored(pod.path) == {}
    with held:
        pod["b"] = 2
        assert stored(pod.path) == {}
    assert stored(pod.path) == {"a": 1, "b": 2}


def test_holds_nest_and_the_outermost_writes(pod: POD[Any, Any]) -> None:
    with pod.hold():
        pod["a"] = 1
        with pod.hold():
            pod["b"] = 2
        pod["c"] = 3
        assert stored(pod.path) == {}
        assert pod.dirty() == {"a", "b", "c"}
    assert stored(pod.path) == {"a": 1, "b": 2, "c": 3}
    pod["d"] = 4
    assert "d" in stored(pod.path)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_hold_ends_by_writing_whatever_happened_in_its_body(pod: POD[Any, Any], error: type[BaseException]) -> None:
    with pytest.raises(error), pod.hold():
        pod["a"] = 1
        raise error
    assert stored(pod.path) == {"a": 1}
    assert pod.dirty() == set()


def test_held_changes_are_one_batch(pod: POD[Any, Any], other: POD[Any, Any]) -> None:
    """Another process sees all of a hold or nothing of it."""
    with pod.hold():
        for number in range(1000):
            pod[str(number)] = number
    assert other.refresh() == {str(number) for number in range(1000)}


def test_unhold_writes_what_was_held_as_values_of_that_moment(pod: POD[Any, Any]) -> None:
    """A value that is dirty anyway is written as it is, mutations included."""
    pod.hold()
    pod["a"] = [1]
    pod["a"].append(2)
    pod.unhold()
    assert stored(pod.path) == {"a": [1, 2]}


def test_a_sync_folds_everything_into_shards_that_any_json_reader_reads(pod: POD[Any, Any]) -> None:
    pod["foo"] = "bar"
    pod[1] = [1, 2]
    pod.sync()
    assert in_shards(Path(pod.path)) == {"foo": "bar", "#1": [1, 2]}
    assert batches(Path(pod.path)) == []


def test_a_sync_without_changes_does_nothing(pod: POD[Any, Any]) -> None:
    pod["foo"] = "bar"
    pod.sync()
    before = files(Path(pod.path))
    pod.sync()
    assert files(Path(pod.path)) == before


@pytest.mark.parametrize("leave", ["unhold", "close"])
def test_a_small_pod_is_plain_shards_when_it_is_left(pod: POD[Any, Any], leave: str) -> None:
    """What people look at is shards."""
    pod.hold()
    pod["foo"] = "bar"
    getattr(pod, leave)()
    assert in_shards(Path(pod.path)) == {"foo": "bar"}


def test_a_sync_brings_in_what_others_changed(pod: POD[Any, Any], other: POD[Any, Any]) -> None:
    other["theirs"] = 1
    pod.hold()
    pod["mine"] = 2
    pod.sync()
    assert pod == stored(pod.path) == {"theirs": 1, "mine": 2}


def test_held_changes_merge_key_by_key_with_those_of_others(pod: POD[Any, Any], other: POD[Any, Any]) -> None:
    pod.update(both=0, mine=0, theirs=0, deleted=0)
    pod.hold()
    pod.update(both="mine", mine=1)
    other.update(both="theirs", theirs=2)
    del other["deleted"]
    pod.unhold()
    other.refresh()
    assert pod == other == stored(pod.path) == {"both": "mine", "mine": 1, "theirs": 2}


# ---------------------------------------------------------------------------------------------- refresh, revert, dirty


def test_refresh_gives_the_keys_that_others_changed(pod: POD[Any, Any], other: POD[Any, Any]) -> None:
    pod.update(kept=0, changed=0, deleted=0)
    assert other.refresh() == {"kept", "changed", "deleted"}
    pod["changed"] = 1
    pod["new"] = 2
    del pod["deleted"]
    assert other == {"kept": 0, "changed": 0, "deleted": 0}
    assert other.refresh() == {"changed", "new", "deleted"}
    assert other == {"kept": 0, "changed": 1, "new": 2}
    assert other.refresh() == set()


@pytest.mark.parametrize("folds", [0, 2], ids=["from the journal", "from the shards"])
def test_refresh_names_a_key_that_is_moved_under_hold_and_that_others_set(
    pod: POD[Any, Any], other: POD[Any, Any], folds: int
) -> None:
    """Only its place is held, and the others' value is taken."""
    pod.update(a=1, b=2)
    pod.hold()
    pod.move_to_end("a")
    other["a"] = 3
    for number in range(folds):
        other["c"] = number
        other.sync()
    assert "a" in pod.refresh()
    assert list(pod.items()) == [("b", 2), *[("c", 1)][:folds], ("a", 3)]


def test_refresh_does_not_name_what_this_pod_changed_itself(pod: POD[Any, Any]) -> None:
    pod["a"] = 1
    assert pod.refresh() == set()
    pod.sync()
    assert pod.refresh() == set()


@pytest.mark.parametrize("folds", [1, 3])
def test_refresh_over_folds_brings_in_everything_and_nothing_back(
    pod: POD[Any, Any], other: POD[Any, Any], folds: int
) -> None:
    """A POD that slept over folds must not bring back what others deleted."""
    pod.update(kept=0, changed=0, deleted=0)
    pod.sync()
    other.refresh()
    del pod["deleted"]
    for number in range(folds):
        pod["changed"] = number + 1
        pod.sync()
    assert other.refresh() == {"changed", "deleted"}
    assert exactly(other) == exactly(pod) == exactly({"kept": 0, "changed": folds})
    other["new"] = 1
    assert exactly(stored(pod.path)) == exactly({"kept": 0, "changed": folds, "new": 1})


def test_refresh_after_a_clear_names_every_key_that_went(pod: POD[Any, Any], other: POD[Any, Any]) -> None:
    pod.update(a=1, b=2)
    other.refresh()
    pod.clear()
    pod["c"] = 3
    assert other.refresh() == {"a", "b", "c"}
    assert other == {"c": 3}


def test_refresh_keeps_the_identity_of_unchanged_values(pod: POD[Any, Any], other: POD[Any, Any]) -> None:
    pod["mine"] = [1]
    value = pod["mine"]
    other["theirs"] = 2
    pod.refresh()
    assert pod["mine"] is value


def test_a_held_key_that_was_moved_to_the_front_stays_there_when_another_is_committed(pod: POD[Any, Any]) -> None:
    """What is committed goes beneath what is held, in memory as on the disk."""
    pod["a"] = 0
    pod.hold()
    del pod["a"]
    pod["a"] = 1
    pod.move_to_end("a", last=False)
    pod.incr("b")
    assert list(pod) == ["a", "b"]
    pod.unhold()
    assert exactly(pod) == exactly(stored(pod.path)) == exactly({"a": 1, "b": 1})


def test_revert_drops_what_is_held(pod: POD[Any, Any]) -> None:
    pod.update(a=1, b=2, c=3)
    pod.hold()
    pod["a"] = 9
    del pod["b"]
    pod["d"] = 4
    pod.move_to_end("c", last=False)
    pod.revert()
    assert pod.dirty() == set()
    assert exactly(pod) == exactly(stored(pod.path)) == exactly({"a": 1, "b": 2, "c": 3})
    pod["e"] = 5
    assert pod.dirty() == {"e"}, "a revert does not lift the hold"
    pod.unhold()
    assert exactly(stored(pod.path)) == exactly({"a": 1, "b": 2, "c": 3, "e": 5})


def test_revert_of_a_held_clear_brings_everything_back(pod: POD[Any, Any]) -> None:
    pod.update(a=1, b=[2])
    pod.sync()
    pod["c"] = 3
    pod.hold()
    pod.clear()
    assert pod == {}
    pod.revert()
    assert exactly(pod) == exactly({"a": 1, "b": [2], "c": 3})


def test_revert_without_held_changes_does_nothing(pod: POD[Any, Any]) -> None:
    pod["a"] = 1
    pod.revert()
    assert pod == stored(pod.path) == {"a": 1}


def test_dirty_is_a_set_of_its_own(pod: POD[Any, Any]) -> None:
    pod.hold()
    pod["a"] = 1
    pod.dirty().clear()
    assert pod.dirty() == {"a"}


def test_a_reader_sees_held_changes_of_nobody(pod: POD[Any, Any], opened: Opener) -> None:
    pod["a"] = 1
    reader = opened(mode="r")
    pod.hold()
    pod["a"] = 2
    assert reader.refresh() == set()
    assert reader == {"a": 1}
    pod.unhold()
    assert reader.refresh() == {"a"}
    assert reader == {"a": 2}


def test_a_reader_follows_a_writer_over_folds(pod: POD[Any, Any], opened: Opener) -> None:
    reader = opened(mode="r")
    for number in range(30):
        pod[str(number % 7)] = number
        if number % 4 == 0:
            pod.sync()
        if number % 5 == 0:
            pod.pop("3", None)
        if number % 3 == 0:
            reader.refresh()
            assert exactly(reader) == exactly(pod)
