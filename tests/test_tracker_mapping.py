"""The tracker as a dict: the mapping contract with whole entries as values, and figures that are right after each change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from contract import MappingContract

from stress.recount import assert_right
from tastypy import POD, Tracker


def entry(number: int) -> dict[str, Any]:
    """A whole entry, in a state of its own."""
    return {
        "_done": number % 2 == 0,
        "_aborted": number % 3 == 0,
        "_tries": number % 4,
        "number": number,
        "list": [None],
    }


class TestContract(MappingContract):
    """The contract, with whole entries; after each change the figures are right, too."""

    def open(self, path: Path) -> POD[Any, Any]:
        return Tracker[Any](path)

    def value(self, number: int) -> Any:
        return entry(number)

    def assert_same(self, mapping: POD[Any, Any], plain: dict[Any, Any]) -> None:
        assert isinstance(mapping, Tracker)
        assert_right(mapping)
        super().assert_same(mapping, plain)
        assert_right(mapping)


class TestContractUnderHold(TestContract):
    """The same while synchronisation is held: in memory at once, and on the disk once it is written."""

    def open(self, path: Path) -> POD[Any, Any]:
        tracker = super().open(path)
        tracker.hold()
        return tracker

    def assert_same(self, mapping: POD[Any, Any], plain: dict[Any, Any]) -> None:
        assert list(mapping.items()) == list(plain.items())
        mapping.sync()
        super().assert_same(mapping, plain)

    def test_it_pickles_as_its_path(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        filled.unhold()
        super().test_it_pickles_as_its_path(filled, plain)


class TestContractWithTasksThatAreClaimed(TestContract):
    """The same with a claimed task beside, of which nobody should notice anything."""

    def open(self, path: Path) -> POD[Any, Any]:
        return Tracker[Any](path, max_tries=2)

    def value(self, number: int) -> Any:
        return {**entry(number), "_claim": {"token": f"{number:016}", "worker": "0123456789abcdef"}, "_at": number / 4}


def test_what_a_tracker_adds_to_a_pod_is_public_and_known() -> None:
    """The names of the design's table, and no other: whoever adds one says so in the documentation."""
    groups = [
        f"{group}_{what}"
        for group in ("todo", "try", "aborted", "failed", "claimed")
        for what in ("keys", "values", "items")
    ]
    figures = [
        f"{kind}_{what}"
        for kind in ("num", "fraction", "percent", "percent_not")
        for what in ("done", "tried", "aborted")
    ]
    expected = {
        *("add", "add_if_absent", "add_many", "add_many_if_absent"),
        *("mark_done", "mark_not_done", "abort", "unabort", "increment_tries", "decrement_tries", "reset_tries"),
        *("done", "aborted", "tries", "should_do", "should_do_add", "should_try", "should_try_add"),
        *groups,
        *figures,
        *("counts", "max_tries", "claim", "claims", "run", "plot"),
    }  # fmt: skip
    assert {name for name in {*dir(Tracker)} - {*dir(POD)} if name[0] != "_"} == expected


def test_the_entries_that_are_read_are_those_in_memory(path: Path) -> None:
    with Tracker[Any](path) as tracker:
        tracker.add("a", links=[])
        assert tracker["a"] is tracker.get("a") is tracker.setdefault("a") is next(tracker.todo_values())


@pytest.mark.parametrize("name", ["Tracker", "ProgressTracker"])
def test_its_names_are_one_class(name: str, path: Path) -> None:
    import tastypy  # noqa: PLC0415 - the names are what is tested

    assert getattr(tastypy, name) is Tracker
    with Tracker[Any](path) as tracker:
        assert repr(tracker) == f"ProgressTracker({str(path)!r}, 0 entries)"
