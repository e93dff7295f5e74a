"""What the figures of a tracker must be: its entries counted one by one, without a look at how the package does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tastypy import Counts, Tracker

Entry = dict[str, Any]
Tasks = Mapping[Any, Entry]

STATES = Counts._fields[1:]


def state_of(entry: Entry, max_tries: int) -> str:
    """The first state that fits, in the order of `Counts`."""
    tries = entry.get("_tries", 0)
    fits = {
        "done": entry.get("_done", False),
        "aborted": entry.get("_aborted", False),
        "claimed": "_claim" in entry,
        "given_up": max_tries > 0 and tries >= max_tries,
        "failed": "_error" in entry,
        "open": True,
    }
    return next(state for state in STATES if fits[state])


def recount(tasks: Tasks, max_tries: int) -> Counts:
    """How many tasks are in which state."""
    states = [state_of(entry, max_tries) for entry in tasks.values()]
    return Counts(len(states), *map(states.count, STATES))


def in_states(tasks: Tasks, max_tries: int, *states: str) -> dict[Any, Entry]:
    """The tasks that are in one of these states."""
    return {key: entry for key, entry in tasks.items() if state_of(entry, max_tries) in states}


def claimable(tasks: Tasks, max_tries: int) -> set[Any]:
    """The tasks that a worker may get."""
    return set(in_states(tasks, max_tries, "open", "failed"))


def assert_right(tracker: Tracker[Any]) -> None:
    """Every figure is what a recount of the entries in memory gives."""
    tasks = tracker.copy()
    limit = tracker.max_tries
    numbers = {
        "done": sum(entry.get("_done", False) for entry in tasks.values()),
        "tried": sum(entry.get("_tries", 0) > 0 for entry in tasks.values()),
        "aborted": sum(entry.get("_aborted", False) for entry in tasks.values()),
    }
    assert tracker.counts() == recount(tasks, limit), tasks
    for name, number in numbers.items():
        fraction = number / len(tasks) if tasks else 0
        assert getattr(tracker, f"num_{name}")() == number, tasks
        assert getattr(tracker, f"fraction_{name}")() == fraction
        assert getattr(tracker, f"percent_{name}")() == f"{100 * fraction:.2f} %"
        assert getattr(tracker, f"percent_not_{name}")() == f"{100 * (1 - fraction):.2f} %"
    assert {key for keys in tracker._figures()._open.values() for key in keys} == claimable(tasks, limit)
    holders: dict[str, set[Any]] = {}
    for key, entry in tasks.items():
        if "_claim" in entry:
            holders.setdefault(entry["_claim"]["worker"], set()).add(key)
    assert {worker: set(keys) for worker, keys in tracker._figures().holders.items()} == holders
