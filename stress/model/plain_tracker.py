"""What the changes of a tracker mean, said in a few lines with a plain dict: the model that the real one is held against."""

# ruff: noqa: D102 - the methods are named as those of a tracker

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st

from stress.recount import Entry, state_of
from tastypy import Task

Tasks = dict[Any, Entry]

FRESH: Entry = {"_done": False, "_aborted": False, "_tries": 0}


class PlainTracker:
    """Tasks in a dict, without the times of their changes.

    Attributes:
        tasks: the entries.
        touched: the keys that were set or deleted.
    """

    def __init__(self, tasks: Tasks, max_tries: int) -> None:
        self.tasks = dict(tasks)
        self.max_tries = max_tries
        self.touched: set[Any] = set()

    def put(self, key: Any, entry: Entry) -> None:
        self.tasks[key] = {**FRESH, **entry}
        self.touched.add(key)

    # --- as a dict

    def __setitem__(self, key: Any, entry: Entry) -> None:
        self.put(key, entry)

    def __delitem__(self, key: Any) -> None:
        del self.tasks[key]
        self.touched.add(key)

    def pop(self, key: Any, default: object) -> object:
        if key not in self.tasks:
            return default
        entry = self.tasks[key]
        del self[key]
        return entry

    def clear(self) -> None:
        for key in list(self.tasks):
            del self[key]

    def update(self, items: dict[Any, Entry]) -> None:
        for key, fields in items.items():
            self.put(key, {**self.tasks.get(key, {}), **fields})

    def setdefault(self, key: Any, entry: Entry) -> Entry:
        if key not in self.tasks:
            self.put(key, entry)
        return self.tasks[key]

    # --- adding

    def add(self, key: Any, **fields: Any) -> None:
        if key in self.tasks:
            raise KeyError(key)
        self.put(key, fields)

    def add_if_absent(self, key: Any, **fields: Any) -> bool:
        absent = key not in self.tasks
        if absent:
            self.put(key, fields)
        return absent

    def add_many(self, keys: list[Any]) -> int:
        if any(key in self.tasks for key in keys):
            raise KeyError(keys)
        return self.add_many_if_absent(keys)

    def add_many_if_absent(self, keys: list[Any]) -> int:
        return sum([self.add_if_absent(key) for key in keys])

    # --- states

    def change(self, key: Any, **fields: Any) -> None:
        entry = {**FRESH, **self.tasks[key]}
        if any(entry.get(name) != value for name, value in fields.items()):
            self.put(key, {**entry, **fields})

    def forget_error(self, key: Any) -> None:
        if "_error" in self.tasks[key]:
            self.put(key, {name: value for name, value in self.tasks[key].items() if name != "_error"})

    def mark_done(self, key: Any) -> None:
        if not self.tasks[key]["_done"]:
            self.change(key, _done=True)
            self.forget_error(key)

    def mark_not_done(self, key: Any) -> None:
        self.change(key, _done=False)

    def abort(self, key: Any) -> None:
        self.change(key, _aborted=True)

    def unabort(self, key: Any) -> None:
        self.change(key, _aborted=False)

    def increment_tries(self, key: Any) -> None:
        self.change(key, _tries=self.tasks[key]["_tries"] + 1)

    def decrement_tries(self, key: Any) -> None:
        if self.tasks[key]["_tries"] == 0:
            raise ValueError(key)
        self.change(key, _tries=self.tasks[key]["_tries"] - 1)

    def reset_tries(self, key: Any) -> None:
        self.change(key, _tries=0)
        self.forget_error(key)

    # --- gates

    def should_do(self, key: Any) -> bool:
        entry = {name: value for name, value in self.tasks[key].items() if name != "_claim"}
        return state_of(entry, self.max_tries) in ("open", "failed")

    def should_do_add(self, key: Any) -> bool:
        return self.add_if_absent(key) or self.should_do(key)

    def should_try(self, key: Any) -> bool:
        should = self.should_do(key)
        if should:
            self.increment_tries(key)
        return should

    def should_try_add(self, key: Any) -> bool:
        self.add_if_absent(key)
        return self.should_try(key)


# --- the ends of a claim: what becomes of the entry


def released(entry: Entry) -> Entry:
    """Return the entry without its claim."""
    return {name: value for name, value in entry.items() if name != "_claim"}


def finished(entry: Entry, fields: Entry) -> Entry:
    """Return the entry of a task that was done."""
    kept = {name: value for name, value in released(entry).items() if name != "_error"}
    return {**kept, **fields, "_done": True, "_tries": entry["_tries"] + 1}


def failed(entry: Entry, error: str) -> Entry:
    """Return the entry of a task that failed."""
    return {**released(entry), "_error": error, "_tries": entry["_tries"] + 1}


# --- what a tracker sees and holds

GONE: Entry = {}


def merged(base: Entry, ours: Entry, theirs: Entry) -> Entry:
    """What each changed of a base, field by field; what both changed is as we have it."""
    names = {*ours, *theirs}
    mine = {name for name in {*names, *base} if (name in base, base.get(name)) != (name in ours, ours.get(name))}
    changed = {name for name in {*names, *base} if (name in base, base.get(name)) != (name in theirs, theirs.get(name))}
    ends = {name: ours if name in mine and (name in ours or name not in changed) else theirs for name in names}
    return {name: end[name] for name, end in ends.items() if name in end}


class View:
    """What one tracker should be: the disk as it saw it, and what it holds: each key with its entry or GONE.

    Attributes:
        base: of each key that is held the entry on the disk that it is a change of.
    """

    def __init__(self, disk: Tasks, max_tries: int) -> None:
        self.seen = dict(disk)
        self.max_tries = max_tries
        self.held: Tasks = {}
        self.base: Tasks = {}
        self.holds = 0
        self.tasks: list[Task] = []

    def on(self, disk: Tasks) -> Tasks:
        """What it is once it has seen the disk."""
        tasks = dict(disk)
        for key, entry in self.held.items():
            tasks[key] = merged(self.base[key], entry, disk[key]) if entry is not GONE and key in disk else entry
        return {key: entry for key, entry in tasks.items() if entry is not GONE}

    def now(self) -> Tasks:
        return self.on(self.seen)

    def see(self, disk: Tasks) -> None:
        tasks = self.on(disk)
        for key in self.held:
            if self.held[key] is not GONE and key in disk:
                self.held[key], self.base[key] = tasks[key], disk[key]
        self.seen = dict(disk)

    def hold(self, key: Any, entry: Entry) -> None:
        self.base.setdefault(key, self.seen.get(key, {}))
        self.held[key] = entry

    def drop(self, key: Any) -> None:
        self.held.pop(key, None)
        self.base.pop(key, None)


# --- calls, and what comes of them

Call = tuple[str, tuple[Any, ...]]
Outcome = tuple[str, Any]

KEYS = st.sampled_from(["a", "a", "a", "b", "b", "#c", 1, None, ("d", 2)])  # some more often, so that changes meet
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "_done": st.booleans(),
        "_aborted": st.booleans(),
        "_tries": st.integers(0, 3),
        "_error": st.just("by hand"),
        "mine": st.sampled_from([0, "text", [], {"k": [None]}]),
    },
)
NAMES_OF_A_KEY = [
    *("mark_done", "mark_not_done", "abort", "unabort", "increment_tries", "decrement_tries", "reset_tries"),
    *("add", "add_if_absent", "should_do_add", "should_try", "should_try_add", "__delitem__"),
]


def calls(*names: str, arguments: st.SearchStrategy[tuple[Any, ...]]) -> st.SearchStrategy[Call]:
    """Return a strategy of calls of these methods."""
    return st.tuples(st.sampled_from(names), arguments)


CALLS = st.one_of(
    calls(*NAMES_OF_A_KEY, arguments=st.tuples(KEYS)),
    calls("__setitem__", "setdefault", arguments=st.tuples(KEYS, FIELDS)),
    calls("pop", arguments=st.tuples(KEYS, st.none())),
    calls("update", arguments=st.tuples(st.dictionaries(KEYS, FIELDS, min_size=1, max_size=3))),
    calls("add_many", "add_many_if_absent", arguments=st.tuples(st.lists(KEYS, unique=True, min_size=1, max_size=3))),
)


def timeless(value: Any) -> Any:
    """An entry without when, and by whom, its state was changed last, or something else as it is."""
    told = ("_at", "_worker")
    return {name: part for name, part in value.items() if name not in told} if isinstance(value, dict) else value


def outcome(call: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
    """What came of a call."""
    try:
        return "returned", timeless(call(*arguments))
    except KeyError:
        return "raised", KeyError
    except ValueError:
        return "raised", ValueError


def claim_of(entry: Entry | None) -> Any:
    """Return the claim of an entry, if there is one."""
    return entry.get("_claim") if entry else None
