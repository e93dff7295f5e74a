"""The index of a tracker: told of changes one by one, it is what a look at each entry gives, and gives tasks out in order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from stress.recount import claimable, recount
from tastypy.entries import kind_of
from tastypy.index import DamagedEntriesError, Index
from tastypy.layers import ABSENT

Entry = dict[str, Any]
Tasks = dict[Any, Entry]

KEYS = st.sampled_from(["a", "b", "c", 1, None, ("a", 1)])
SOUND = st.fixed_dictionaries(
    {},
    optional={
        "_done": st.booleans(),
        "_aborted": st.booleans(),
        "_tries": st.integers(0, 3),
        "_claim": st.builds(lambda token, worker: {"token": token, "worker": worker}, st.sampled_from("tu"), st.sampled_from("vw")),
        "_error": st.just("x"),
        "_at": st.just(1.5),
        "mine": st.integers(0, 1),
    },
)  # fmt: skip
CHANGES = st.lists(st.tuples(KEYS, st.one_of(st.none(), SOUND)), max_size=20)


def index_of(tasks: Tasks, max_tries: int = 0) -> Index[Any]:
    """An index built from these tasks."""
    index = Index[Any](max_tries)
    index.rebuild(tasks.items())
    return index


def tell(index: Index[Any], key: Any, entry: Entry | None) -> None:
    """Tell it of one change; None stands for a deletion."""
    index.change(key, ABSENT if entry is None else entry)
    index.end()


def assert_right(index: Index[Any], tasks: Tasks, max_tries: int = 0) -> None:
    """All that the index knows is what a look at each entry gives."""
    assert index.whole
    assert index.figures.counts == recount(tasks, max_tries)
    tries = [entry.get("_tries", 0) for entry in tasks.values()]
    assert (index.figures.tries, index.figures.tried) == (sum(tries), sum(number > 0 for number in tries))
    assert index.figures.aborted == sum(entry.get("_aborted", False) for entry in tasks.values())
    claims = [(entry["_claim"]["worker"], key) for key, entry in tasks.items() if "_claim" in entry]
    assert {(worker, key) for worker, keys in index.holders.items() for key in keys} == set(claims)
    assert all(index.holders.values())
    index.refill()
    taken = take_all(index)
    assert len(taken) == len(set(taken))
    assert set(taken) == claimable(tasks, max_tries)


def take_all(index: Index[Any]) -> list[Any]:
    """What claims are given, one after the other."""
    taken = []
    while index.has_next:
        taken.append(index.next_open())
    return taken + index.failed(1000)


# ------------------------------------------------------------------------------------------------------------- figures


@given(st.integers(0, 3), st.dictionaries(KEYS, SOUND), CHANGES)
def test_told_of_each_change_it_is_what_it_would_be_built_anew(
    max_tries: int, tasks: Tasks, changes: list[tuple[Any, Entry | None]]
) -> None:
    index = index_of(tasks, max_tries)
    assert_right(index, tasks, max_tries)
    for key, entry in changes:
        if entry is None:
            tasks.pop(key, None)
        else:
            tasks[key] = entry
        tell(index, key, entry)
        assert_right(index, tasks, max_tries)
    event(f"{len(tasks)} tasks at the end")


@given(st.dictionaries(KEYS, SOUND), CHANGES)
def test_being_told_the_same_twice_changes_nothing(tasks: Tasks, changes: list[tuple[Any, Entry | None]]) -> None:
    index = index_of(tasks)
    for key, entry in changes:
        tasks.pop(key, None)
        if entry is not None:
            tasks[key] = entry
        orders = []
        for _ in range(2):
            tell(index, key, entry)
            index.refill()
            orders.append(take_all(index))
        assert orders[0] == orders[1]
    for key, entry in tasks.items():
        tell(index, key, entry)
    assert_right(index, tasks)


def test_the_figures_of_a_row_of_changes_are_those_before_until_it_has_ended() -> None:
    """So that a signal handler, or another thread, sees one moment."""
    index = index_of({"a": {}, "b": {}})
    before = index.figures
    index.change("a", {"_done": True})
    index.change("c", {"_aborted": True, "_tries": 2})
    assert index.figures is before
    index.end()
    assert_right(index, {"a": {"_done": True}, "b": {}, "c": {"_aborted": True, "_tries": 2}})
    with pytest.raises(DamagedEntriesError):
        index.rebuild({"a": {}, "b": 3}.items())
    assert before.counts == recount({"a": {}, "b": {}}, 0)


def test_a_change_looks_at_one_entry_whatever_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Entry] = []

    def counting(entry: Entry, max_tries: int) -> Any:
        looks.append(entry)
        return kind_of(entry, max_tries)

    monkeypatch.setattr("tastypy.index.kind_of", counting)
    index = index_of({key: {} for key in range(1000)})
    assert len(looks) == 1000
    tell(index, 500, {"_done": True})
    tell(index, 501, None)
    assert len(looks) <= 1002
    assert index.figures.counts[:2] == (999, 1)


def test_an_empty_one_counts_nothing() -> None:
    assert_right(index_of({}), {})


# --------------------------------------------------------------------------------------------------------- whole or not


def test_it_is_not_whole_before_it_was_built() -> None:
    assert not Index[Any](0).whole


def test_damaged_entries_are_named_all_at_once_and_it_is_not_whole_then() -> None:
    index = Index[Any](0)
    with pytest.raises(DamagedEntriesError) as caught:
        index.rebuild({"a": {}, "b": 3, "c": {"_tries": -1}, "d": None}.items())
    assert list(caught.value.problems) == ["b", "c", "d"]
    assert "3" in caught.value.problems["b"]
    assert "_tries=-1" in caught.value.problems["c"]
    assert not index.whole
    index.rebuild({"a": {}}.items())
    assert_right(index, {"a": {}})


@pytest.mark.parametrize("damage", [{"_done": "yes"}, None, 3])
def test_a_change_to_a_damaged_entry_is_refused_before_anything_changed(damage: Any) -> None:
    index = index_of({"a": {}, "b": {"_done": True}})
    with pytest.raises(DamagedEntriesError) as caught:
        index.change("a", damage)
    assert list(caught.value.problems) == ["a"]
    assert_right(index, {"a": {}, "b": {"_done": True}})


def test_it_begins_anew_whatever_it_knew() -> None:
    index = index_of({"a": {"_claim": {"token": "t", "worker": "w"}}, "b": {"_tries": 3}})
    index.rebuild({"c": {}}.items())
    assert_right(index, {"c": {}})


# ------------------------------------------------------------------------------------------------------------- the next


def test_tasks_are_given_out_in_the_order_in_which_they_can_be_claimed() -> None:
    index = index_of({key: {} for key in "abc"})
    tell(index, "d", {})
    tell(index, "b", {"_done": True})
    index.refill()
    assert take_all(index) == ["a", "c", "d"]


def test_tasks_whose_last_try_failed_are_given_out_last() -> None:
    index = index_of({"failed": {"_tries": 1, "_error": "x"}, "fresh": {}, "given up": {"_tries": 2, "_error": "x"}}, 2)
    index.refill()
    assert take_all(index) == ["fresh", "failed"]


def test_a_task_that_fails_goes_behind_the_others() -> None:
    index = index_of({key: {} for key in "abc"})
    tell(index, "a", {"_tries": 1, "_error": "x"})
    index.refill()
    assert take_all(index) == ["b", "c", "a"]


def test_a_task_that_fails_again_goes_behind_the_others_again() -> None:
    """Also where its second claim went unnoticed, since the index is brought up to date late."""
    index = index_of({key: {"_tries": 1, "_error": "x"} for key in "abc"})
    tell(index, "a", {"_tries": 2, "_error": "x"})
    index.refill()
    assert take_all(index) == ["b", "c", "a"]


def test_tasks_that_are_added_come_before_those_that_failed() -> None:
    index = index_of({"failed": {"_tries": 1, "_error": "x"}})
    tell(index, "added", {})
    index.refill()
    assert take_all(index) == ["added", "failed"]


def test_a_task_that_is_given_back_goes_to_the_end() -> None:
    index = index_of({key: {} for key in "abc"})
    tell(index, "a", {"_claim": {"token": "t", "worker": "w"}})
    tell(index, "a", {})
    index.refill()
    assert take_all(index) == ["b", "c", "a"]


def test_there_is_nothing_next_before_a_refill_and_after_the_last() -> None:
    index = Index[Any](0)
    tell(index, "a", {})
    for _ in range(2):
        assert take_all(index) == []
        with pytest.raises(IndexError):
            index.next_open()
        index.refill()
        assert take_all(index) == ["a"]


def test_a_task_that_was_added_meanwhile_is_found_after_a_refill() -> None:
    index = index_of({"a": {}})
    index.refill()
    tell(index, "b", {})
    assert "a" in take_all(index)
    index.refill()
    assert take_all(index) == ["a", "b"]
