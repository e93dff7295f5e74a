"""What the changes of a POD mean, said with a plain dict: the model that the real one is held against.

Every change is a function that can be pickled, of a POD or a dict: it is done in other processes, too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from operator import methodcaller
from typing import Any, NamedTuple

import hypothesis.strategies as st

from stress.model.machine import AbortError
from tastypy import POD

Dict = dict[Any, Any]
Action = Callable[[Any], Any]
Exact = list[tuple[str, str]]

KEYS = st.sampled_from(["a", "b", "c", "#x", "", "ü\n", 1, 0, True, 2.5, None, ("a", 1), (), "x" * 40])
VALUES = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([None, True, 1.0, "", "text"]),
    st.sampled_from([[], {}, [1, [2]], {"k": {"l": [None]}}]),
    st.integers(0, 150).map(lambda size: "v" * size),
)
ITEMS = st.dictionaries(KEYS, VALUES, max_size=4)


class Change(NamedTuple):
    """A mutator with its arguments, and the keys that it may change."""

    action: Action
    keys: set[Any]


def assign(key: Any, value: Any) -> Change:
    """Return an assignment."""
    return Change(methodcaller("__setitem__", key, value), {key})


def delete(key: Any) -> Change:
    """Return a deletion that takes it well if there is nothing to delete."""
    return Change(methodcaller("pop", key, None), {key})


def update(items: Dict) -> Change:
    """Return an update."""
    return Change(methodcaller("update", items), set(items))


def setdefault(key: Any, value: Any) -> Change:
    """Return a `setdefault`."""
    return Change(methodcaller("setdefault", key, value), {key})


def move(key: Any, *, last: bool) -> Change:
    """Return a move to the end or to the front, if the key is there."""
    return Change(partial(_move, key=key, last=last), {key})


def _move(each: Any, *, key: Any, last: bool) -> None:
    if isinstance(each, POD):
        with suppress(KeyError):
            each.move_to_end(key, last=last)
    elif key in each:
        key = spelled(each, key)
        value = each.pop(key)
        rest = dict(each)
        each.clear()
        each.update({**rest, key: value} if last else {key: value, **rest})


def mutate(each: Any, *, key: Any) -> None:
    """Change the value of a key, a list or a dict, in place; in a plain dict, which may share it, a copy."""
    value = each[key] if isinstance(each, POD) else copy.deepcopy(each[key])
    if isinstance(value, list):
        value.append("mutated")
    else:
        value["mutated"] = True
    if not isinstance(each, POD):
        each[key] = value


CHANGES = st.one_of(
    st.builds(assign, KEYS, VALUES),
    st.builds(delete, KEYS),
    st.builds(update, ITEMS),
    st.builds(setdefault, KEYS, VALUES),
    st.builds(move, KEYS, last=st.booleans()),
)


def exactly(mapping: Any) -> Exact:
    """Keys and values in order and so that 1, 1.0 and True differ."""
    return [(repr(key), repr(value)) for key, value in mapping.items()]


def spelled(mapping: Dict, key: Any) -> Any:
    """The key as the mapping has it: 1, 1.0 and True are one key, and the first spelling stays."""
    return next((one for one in mapping if one == key), key)


def edit(pod: Any, *, key: Any) -> None:
    """Edit the list at a key."""
    with pod.edit(key, default=[]) as value:
        value.append("edited")


def transact(pod: Any, *, changes: list[Change], savepoint: list[Change], fails: bool) -> list[Exact]:
    """Make a transaction with a savepoint in it that fails, and that may fail itself; return what was seen in it."""
    seen = []
    with suppress(AbortError), pod.transaction():
        for change in changes:
            change.action(pod)
            seen.append(exactly(pod))
        with suppress(AbortError), pod.transaction():
            for change in savepoint:
                change.action(pod)
            raise AbortError
        seen.append(exactly(pod))
        if fails:
            raise AbortError
    return seen


class Look(NamedTuple):
    """What a POD shows of itself."""

    items: Exact
    backward: list[str]
    size: int
    dirty: set[Any]


def look(pod: Any) -> Look:
    """Look at a POD."""
    return Look(exactly(pod), [repr(key) for key in reversed(pod)], len(pod), pod.dirty())


class View:
    """What one POD should be: the disk as it saw it, and the changes that it holds, in order.

    Attributes:
        moved: the keys that were moved under hold.
        quiet: of each key whose value was mutated in place, which nothing told the POD, that value before and after. The
            memory has the one, or, once it was read again, the other.
    """

    def __init__(self, disk: Dict) -> None:
        self.seen = dict(disk)
        self.held: list[Action] = []
        self.holds = 0
        self.dirty: set[Any] = set()
        self.moved: set[Any] = set()
        self.quiet: dict[Any, tuple[Any, Any]] = {}

    def now(self) -> Dict:
        """What it is, but for what is quiet."""
        return self.applied_to(self.seen)

    def applied_to(self, state: Dict) -> Dict:
        """What it is once it has seen a state of the disk."""
        result = dict(state)
        for action in self.held:
            action(result)
        return result

    def shown(self, state: Dict, found: Exact) -> Exact:
        """What a POD whose items are `found` should show in this state: each quiet value as found."""
        shown = exactly(state)
        for key, (before, after) in self.quiet.items():
            item = repr(spelled(state, key)), repr(before)
            if item in shown and (item[0], repr(after)) in found:
                shown[shown.index(item)] = item[0], repr(after)
        return shown

    def forget_quiet(self, found: Exact) -> None:
        """Forget the quiet values that are not in the memory any more."""
        values = dict(found)
        self.quiet = {key: two for key, two in self.quiet.items() if values.get(repr(key)) == repr(two[1])}
