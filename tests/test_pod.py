"""The POD as a dict: the mapping contract, every mutator of `dict` as one commit, order, keys and values."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract import MappingContract
from helpers import Opener, batches, exactly, stored

from tastypy import POD, PersistentOrderedDict

Change = Callable[[POD[Any, Any]], object]

READERS = set(dir(object)) - {"__init__"} | {
    *("__class_getitem__", "__contains__", "__getitem__", "__iter__", "__len__", "__reversed__"),
    *("__or__", "__ror__", "copy", "fromkeys", "get", "items", "keys", "values"),
}
"""What `dict` has that changes nothing. `__init__` does: `d.__init__(a=1)` is an update."""

MUTATORS: dict[str, Change] = {
    "__setitem__": lambda pod: pod.__setitem__("new", 1),
    "__delitem__": lambda pod: pod.__delitem__("a"),
    "__ior__": lambda pod: pod.__ior__({"new": 1, "a": 2}),
    "clear": lambda pod: pod.clear(),
    "pop": lambda pod: pod.pop("a"),
    "popitem": lambda pod: pod.popitem(),
    "setdefault": lambda pod: pod.setdefault("new", 1),
    "update": lambda pod: pod.update({"new": 1, "a": 2}, b=3),
}
"""Each mutator of `dict`, with a call that changes something; `dict(a=1, b=2)` is where it starts."""

MORE_MUTATORS: dict[str, Change] = {
    "popitem(last=False)": lambda pod: pod.popitem(last=False),
    "move_to_end": lambda pod: pod.move_to_end("a"),
    "move_to_end(last=False)": lambda pod: pod.move_to_end("b", last=False),
    "incr": lambda pod: pod.incr("a"),
}


class TestContract(MappingContract):
    """The contract with numbers as values."""

    def open(self, path: Path) -> POD[Any, Any]:
        return POD(path)

    def value(self, number: int) -> Any:
        return number


class TestContractWithTinyGzippedShards(MappingContract):
    """The contract where every few entries are a shard of their own, compressed."""

    def open(self, path: Path) -> POD[Any, Any]:
        return POD(path, gzipped=True, shard_bytes=64)

    def value(self, number: int) -> Any:
        return {"number": number, "text": "x" * 30}


class TestContractUnderHold(MappingContract):
    """The contract while synchronisation is held: the same in memory, and on the disk once it is written."""

    def open(self, path: Path) -> POD[Any, Any]:
        pod = POD[Any, Any](path)
        pod.hold()
        return pod

    def value(self, number: int) -> Any:
        return [number, None, "x"]

    def assert_same(self, mapping: POD[Any, Any], plain: dict[Any, Any]) -> None:
        assert list(mapping.items()) == list(plain.items())
        mapping.sync()
        super().assert_same(mapping, plain)

    def test_it_pickles_as_its_path(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        filled.unhold()
        super().test_it_pickles_as_its_path(filled, plain)


# -------------------------------------------------------------------------------------------------------- mutators


def test_no_method_of_dict_is_unknown_here() -> None:
    """A mutator that a future Python adds must be overridden, or it would bypass the journal."""
    unknown = {name for name in dir(dict) if name not in READERS and name not in {*MUTATORS, "__init__"}}
    assert unknown == set(), "override these in PersistentOrderedDict, or list them as readers above"


@pytest.mark.parametrize("name", [*MUTATORS, "__init__"])
def test_every_mutator_of_dict_is_overridden(name: str) -> None:
    assert inspect.getattr_static(POD, name) is not inspect.getattr_static(dict, name)


@pytest.mark.parametrize("name", [*MUTATORS, *MORE_MUTATORS])
def test_every_mutator_is_one_commit_that_another_pod_sees(pod: POD[Any, Any], opened: Opener, name: str) -> None:
    pod.update(a=1, b=2)
    other = opened()
    before = len(batches(Path(pod.path)))
    (MUTATORS | MORE_MUTATORS)[name](pod)
    assert exactly(pod) != exactly({"a": 1, "b": 2})
    assert len(batches(Path(pod.path))) == before + 1
    other.refresh()
    assert exactly(other) == exactly(pod)
    assert exactly(stored(pod.path)) == exactly(pod)


@pytest.mark.parametrize("name", [*MUTATORS, *(name for name in MORE_MUTATORS if name != "incr")])
def test_every_mutator_is_in_memory_only_while_held(pod: POD[Any, Any], name: str) -> None:
    pod.update(a=1, b=2)
    before = len(batches(Path(pod.path)))
    pod.hold()
    (MUTATORS | MORE_MUTATORS)[name](pod)
    assert exactly(pod) != exactly({"a": 1, "b": 2})
    assert len(batches(Path(pod.path))) == before
    assert exactly(stored(pod.path)) == exactly({"a": 1, "b": 2})
    pod.unhold()
    assert exactly(stored(pod.path)) == exactly(pod)


@pytest.mark.parametrize("name", [*MUTATORS, *MORE_MUTATORS])
def test_every_mutator_sees_what_other_processes_committed_before_it(
    pod: POD[Any, Any], opened: Opener, name: str
) -> None:
    pod.update(a=0)
    other = opened()
    pod.update(a=1, b=2)
    alone = opened(Path(pod.path).with_name("alone.pod"))
    alone.update(a=1, b=2)
    change = (MUTATORS | MORE_MUTATORS)[name]
    change(alone)
    change(other)
    assert exactly(other) == exactly(alone)
    assert exactly(stored(pod.path)) == exactly(alone)


def test_the_short_name_is_the_long_one() -> None:
    assert POD is PersistentOrderedDict


def test_constructing_over_an_open_pod_does_not_update_it(pod: POD[Any, Any]) -> None:
    """`dict.__init__` is a mutator; the POD's takes a path and no entries."""
    pod["a"] = 1
    with pytest.raises((TypeError, RuntimeError)):
        pod.__init__(a=2)  # type: ignore[misc]  # that is the point
    assert stored(pod.path) == {"a": 1}


# --------------------------------------------------------------------------------------------- keys, values, order


@pytest.mark.parametrize(
    "key",
    ["", "a", "#", "#1", '#"a"', "ü\u2028\U0001f600", '\x00\n"\\', 0, -1, 2**63 - 1, -(2**63), 2**64 - 1, 1.5, -0.0, 1e300,
     5e-324, True, False, None, (), ("a",), ("a", 1, 2.5, None, True, ("#", ())), "1", "None", "true", "x" * 100_000],
    ids=lambda key: ascii(key)[:30],
)  # fmt: skip
def test_a_key_comes_back_equal_and_of_the_same_type(pod: POD[Any, Any], key: Any) -> None:
    pod["before"] = 0
    pod[key] = "value"
    assert exactly(stored(pod.path)) == exactly({"before": 0, key: "value"})
    pod.sync()
    assert exactly(stored(pod.path)) == exactly({"before": 0, key: "value"})
    del pod[key]
    pod.sync()
    assert stored(pod.path) == {"before": 0}


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0, 2**64 - 1, -(2**63), 0.1, -0.0, 1e308, 5e-324, "", "ü\u2028\U0001f600\x00", [], {}, [[], {}, ""],
     {"": {"#": [1, 1.0, True, "1", None]}}, {"b": 1, "a": 2}, "x" * 1_000_000, list(range(10_000))],
    ids=lambda value: ascii(value)[:30],
)  # fmt: skip
def test_a_value_comes_back_equal_and_of_the_same_types(pod: POD[Any, Any], value: Any) -> None:
    pod["key"] = value
    assert repr(pod["key"]) == repr(value)
    assert exactly(stored(pod.path)) == exactly({"key": value})
    pod.sync()
    assert exactly(stored(pod.path)) == exactly({"key": value})


def test_tuples_become_lists_in_memory_at_once(pod: POD[Any, Any]) -> None:
    pod["key"] = (1, ("a", {"b": ()}))
    assert pod["key"] == [1, ["a", {"b": []}]]
    assert stored(pod.path) == pod


def test_equal_numbers_are_one_key_and_the_first_spelling_stays(pod: POD[Any, Any]) -> None:
    pod[1] = "int"
    pod[1.0] = "float"
    pod[True] = "bool"
    pod["1"] = "text"
    expected = exactly({1: "bool", "1": "text"})
    assert exactly(pod) == expected
    assert exactly(stored(pod.path)) == expected
    pod.sync()
    assert exactly(stored(pod.path)) == expected
    del pod[True]
    assert stored(pod.path) == {"1": "text"}


def test_later_changes_to_the_callers_object_do_not_leak_in(pod: POD[Any, Any]) -> None:
    mine: list[Any] = [1, {"a": []}]
    pod["key"] = mine
    assert pod["key"] == mine
    mine[1]["a"].append(2)
    mine.append(3)
    assert pod["key"] == [1, {"a": []}]
    assert stored(pod.path) == pod


def test_default_converts_what_json_lacks(opened: Opener) -> None:
    """As in `json.dumps`; the POD holds what it returned."""
    pod = opened(default=lambda thing: sorted(thing) if isinstance(thing, set) else str(thing))
    pod["set"] = {3, 1, 2}
    pod["nested"] = [{"path": Path("/x")}]
    assert pod == {"set": [1, 2, 3], "nested": [{"path": "/x"}]}
    assert stored(pod.path) == pod


def test_order_is_that_in_which_keys_reached_the_directory(opened: Opener) -> None:
    one, two = opened(), opened()
    one["a"] = 1
    two["b"] = 2
    one["c"] = 3
    two["a"] = 4
    one.refresh()
    assert list(one.items()) == list(two.items()) == list(stored(one.path).items()) == [("a", 4), ("b", 2), ("c", 3)]


def test_unsynchronised_new_keys_come_last(opened: Opener) -> None:
    one, two = opened(), opened()
    one.hold()
    one["mine"] = 1
    two["theirs"] = 2
    one.refresh()
    assert list(one) == ["theirs", "mine"]
    one.unhold()
    assert list(one) == list(stored(one.path)) == ["theirs", "mine"]


def test_front_moves_are_kept_in_order_across_processes_and_folds(opened: Opener) -> None:
    one, two = opened(shard_bytes=64), opened()
    one.update({str(number): "x" * 20 for number in range(10)})
    one.sync()
    for key in ("5", "9", "0"):
        two.move_to_end(key, last=False)
    expected = ["0", "9", "5", "1", "2", "3", "4", "6", "7", "8"]
    one.refresh()
    assert list(one) == list(two) == list(stored(one.path)) == expected
    one.sync()
    assert list(one) == list(stored(one.path)) == expected


def test_a_path_may_be_text_or_path_and_is_made_absolute(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that changes its directory keeps its POD."""
    monkeypatch.chdir(tmp_path)
    pod = opened("some/parents/my.pod")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    pod["a"] = 1
    assert Path(pod.path) == tmp_path / "some" / "parents" / "my.pod"
    assert stored(tmp_path / "some" / "parents" / "my.pod") == {"a": 1}


def test_a_tilde_is_expanded(opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    pod = opened("~/my.pod")
    assert Path(pod.path) == tmp_path / "my.pod"
