"""Loops over tasks without claims: what should be done or tried, and the tasks that are in some state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import batches, files, stored

from stress.recount import assert_right, in_states
from tastypy import POD, MissingKeyError, Tracker

CLAIM = {"token": "0123456789abcdef", "worker": "fedcba9876543210"}
TASKS: dict[Any, dict[str, Any]] = {
    "open": {},
    "done": {"_done": True, "_error": "x"},
    "aborted": {"_aborted": True},
    "done and aborted": {"_done": True, "_aborted": True},
    "aborted and given up": {"_aborted": True, "_tries": 2},
    "claimed": {"_claim": CLAIM},
    "claimed again": {"_claim": CLAIM, "_tries": 1, "_error": "x"},
    "given up": {"_tries": 2, "_error": "x"},
    "tried without a word": {"_tries": 2},
    "failed": {"_tries": 1, "_error": "x"},
    1: {"_tries": 1},
}
TODO = ["open", "claimed", "claimed again", "failed", 1]


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](path, max_tries=2) as tracker:
        tracker.update(TASKS)
        yield tracker


def expected(group: str) -> list[Any]:
    """The tasks of a group, in order."""
    tasks = [
        *in_states(TASKS, 2, *{"failed": ["failed", "given_up"], "claimed": ["claimed"]}.get(group, [])),
        *(key for key in TASKS if group == "aborted" and TASKS[key].get("_aborted")),
    ]
    return TODO if group in ("todo", "try") else tasks


@pytest.mark.parametrize("group", ["todo", "aborted", "failed", "claimed"])
def test_keys_values_and_items_of_a_group_are_in_the_order_of_the_tracker(tracker: Tracker[Any], group: str) -> None:
    before = files(Path(tracker.path))
    keys = expected(group)
    assert keys
    assert list(getattr(tracker, f"{group}_keys")()) == keys
    assert list(getattr(tracker, f"{group}_values")()) == [tracker[key] for key in keys]
    assert list(getattr(tracker, f"{group}_items")()) == [(key, tracker[key]) for key in keys]
    assert all(value is tracker[key] for key, value in getattr(tracker, f"{group}_items")())
    assert files(Path(tracker.path)) == before


def test_aborted_tasks_are_among_those_to_do_where_that_is_asked_for(tracker: Tracker[Any]) -> None:
    keys = ["open", "aborted", *TODO[1:]]
    assert list(tracker.todo_keys(allow_aborted=True)) == keys
    assert list(tracker.todo_values(allow_aborted=True)) == [tracker[key] for key in keys]
    assert dict(tracker.todo_items(allow_aborted=True)).keys() == set(keys)
    assert list(tracker.try_keys(allow_aborted=True)) == keys
    assert tracker.tries("aborted") == 1


@pytest.mark.parametrize("what", ["keys", "values", "items"])
def test_a_try_is_counted_when_a_task_is_yielded(tracker: Tracker[Any], what: str) -> None:
    before = {key: tracker.tries(key) for key in tracker}
    seen = 0
    commits = len(batches(Path(tracker.path)))
    for one in getattr(tracker, f"try_{what}")():
        key = TODO[seen]
        entry = {"keys": lambda one: tracker[one], "values": lambda one: one, "items": lambda one: one[1]}[what](one)  # type: ignore[no-untyped-call]  # of three shapes
        assert entry is tracker[key]
        assert entry["_tries"] == before[key] + 1
        seen += 1
        assert len(batches(Path(tracker.path))) == commits + seen
        assert_right(tracker)
    assert seen == len(TODO)
    assert {key: tracker.tries(key) for key in tracker} == before | {key: before[key] + 1 for key in TODO}
    assert stored(tracker.path) == tracker


def test_a_loop_that_is_left_counts_no_try_of_those_that_it_did_not_reach(tracker: Tracker[Any]) -> None:
    for key in tracker.try_keys():
        if key == "claimed":
            break
    assert [tracker.tries(key) for key in TODO] == [1, 1, 1, 1, 1]
    assert tracker.tries("claimed again") == 1


def test_a_task_is_looked_at_when_its_turn_comes(tracker: Tracker[Any]) -> None:
    seen = []
    for key in tracker.todo_keys():
        seen.append(key)
        if key == "open":
            tracker.mark_done("claimed")
            del tracker["failed"]
            tracker.add("added")
            tracker.mark_not_done("given up")
            tracker.reset_tries("given up")
    assert seen == ["open", "claimed again", "given up", 1, "added"]


def test_no_try_is_counted_of_what_another_process_deleted_or_did(tracker: Tracker[Any]) -> None:
    seen = []
    with Tracker[Any](tracker.path, max_tries=2) as other:
        for key in tracker.try_keys():
            seen.append(key)
            if key == "open":
                del other["claimed"]
                other.mark_done("claimed again")
                other.increment_tries("failed")
    assert seen == ["open", 1]
    assert tracker.tries("failed") == 2
    assert_right(tracker)
    assert stored(tracker.path) == tracker


def test_a_loop_over_nothing_ends(path: Path) -> None:
    with Tracker[Any](path) as tracker:
        for group in ("todo", "try", "aborted", "failed", "claimed"):
            for what in ("keys", "values", "items"):
                assert list(getattr(tracker, f"{group}_{what}")()) == []


def test_gates_say_what_the_loops_do(tracker: Tracker[Any]) -> None:
    before = files(Path(tracker.path))
    assert [key for key in TASKS if tracker.should_do(key)] == TODO
    assert [key for key in TASKS if tracker.should_do(key, True)] == list(tracker.todo_keys(True))
    assert files(Path(tracker.path)) == before
    assert [key for key in TASKS if tracker.should_try(key)] == TODO
    assert [key for key in TASKS if tracker.should_try(key)] == ["open", "claimed"]
    assert [key for key in TASKS if tracker.should_try(key)] == []
    assert all(tracker.tries(key) == 2 for key in TODO)
    assert tracker.should_try("aborted", allow_aborted=True) is True
    assert tracker.tries("aborted") == 1
    assert_right(tracker)


def test_without_a_limit_a_task_may_be_tried_for_ever(path: Path) -> None:
    with Tracker[Any](path) as tracker:
        tracker.add("a", _tries=1000)
        assert tracker.should_do("a")
        assert tracker.should_try("a")
        assert list(tracker.try_keys()) == ["a"]
        assert tracker.tries("a") == 1002
        assert tracker.counts().given_up == 0


def test_a_gate_adds_a_task_that_is_not_there(tracker: Tracker[Any]) -> None:
    assert tracker.should_do_add("new") is True
    assert tracker.tries("new") == 0
    assert tracker.should_do_add("new") is True
    assert tracker.should_try_add("newer") is True
    assert tracker.tries("newer") == 1
    assert tracker.should_try_add("newer") is True
    assert tracker.should_try_add("newer") is False
    assert tracker.should_do_add("newer") is False
    assert tracker.should_do_add("done") is tracker.should_try_add("done") is False
    assert tracker.should_do_add("aborted") is False
    assert tracker.should_do_add("aborted", allow_aborted=True) is True
    assert tracker.should_try_add("aborted", allow_aborted=True) is True
    with pytest.raises(MissingKeyError):
        tracker.should_do("never added")
    assert "never added" not in tracker
    assert stored(tracker.path) == tracker
    assert_right(tracker)


def test_the_number_of_tries_holds_for_all_processes_together(tracker: Tracker[Any]) -> None:
    with Tracker[Any](tracker.path, max_tries=2) as other:
        assert [one.should_try("open") for one in (tracker, other, tracker, other)] == [True, True, False, False]
        assert tracker.tries("open") == 2
        assert [one.add_if_absent("new") for one in (tracker, other)] == [True, False]
        assert [one.should_do_add("newer") for one in (other, tracker)] == [True, True]
        tracker.mark_done("newer")
        assert other.should_do_add("newer") is False, "that it is done was not known here before"


def test_a_gate_on_a_pod_opened_to_read_answers_and_counts_nothing(tracker: Tracker[Any]) -> None:
    with Tracker[Any](tracker.path, max_tries=2, mode="r") as reader:
        assert list(reader.todo_keys()) == TODO
        assert reader.should_do("open")
        with pytest.raises(TypeError):
            reader.should_try("open")
    with POD[Any, Any](tracker.path, mode="r") as pod:
        assert pod == tracker
