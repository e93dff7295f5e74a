"""What a batch changes, as a value: pure, without files.

`Changes` is the net effect of a row of operations on an ordered dict; `replay` applies records to a dict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from operator import call
from typing import Any, Self

from tastypy.format import Record


class Changes:
    """The net effect of operations, in the order in which a batch line is applied.

    First everything goes (`clear`), or the keys in `deleted` go; then each of `put` is set, in place if it is there,
    else at the end; then each of `front` in turn moves to the front. A key in both `deleted` and `put` moves to the end.
    """

    __slots__ = ("clear", "deleted", "front", "put")

    def __init__(self) -> None:
        self.clear = False
        self.deleted: dict[Any, None] = {}
        self.put: dict[Any, Any] = {}
        self.front: dict[Any, None] = {}

    def __bool__(self) -> bool:
        return bool(self.clear or self.deleted or self.put or self.front)

    def copy(self) -> Self:
        """Return a copy that shares the values only."""
        copy = type(self)()
        copy.clear = self.clear
        copy.deleted, copy.put, copy.front = self.deleted.copy(), self.put.copy(), self.front.copy()
        return copy

    def keys(self) -> set[Any]:
        """Return the keys that are named; `clear` names none."""
        return {*self.deleted, *self.put, *self.front}

    def set(self, key: Any, value: Any = None) -> None:
        """Set `key`: in place if it is there, else at the end."""
        self.put[key] = value

    def delete(self, key: Any) -> None:
        """Delete `key`, whether it is there or not."""
        self.put.pop(key, None)
        self.front.pop(key, None)
        if not self.clear:
            self.deleted[key] = None

    def move_to_end(self, key: Any, value: Any = None) -> None:
        """Move `key`, whose value is `value`, to the end."""
        self.delete(key)
        self.put[key] = value

    def move_to_front(self, key: Any) -> None:
        """Move `key`, which is there, to the front."""
        self.front.pop(key, None)
        self.front[key] = None

    def wipe(self) -> None:
        """Delete every key there is."""
        self.clear = True
        self.deleted, self.put, self.front = {}, {}, {}

    def add(self, record: Record) -> None:
        """Let the batch of a record follow what is noted."""
        if len(record) == 1 and "put" in record:
            self.put.update(record["put"])
            return
        if record.get("clear"):
            self.wipe()
        for key in record.get("del", ()):
            self.delete(key)
        if "put" in record:
            self.put.update(record["put"])
        for key in record.get("front", ()):
            self.move_to_front(key)


def replay(memory: dict[Any, Any], records: Iterable[Record]) -> None:
    """Apply the records to `memory`, by the methods of the builtin dict whatever it overrides."""
    update = dict.update
    for record in records:
        if len(record) == 1 and "put" in record:  # as most are
            update(memory, record["put"])
            continue
        if record.get("clear"):
            dict.clear(memory)
        for key in record.get("del", ()):
            dict.pop(memory, key, None)
        if "put" in record:
            dict.update(memory, record["put"])
        if "front" in record:
            to_front(memory, record["front"])


def extend(memory: dict[Any, Any], shards: Iterable[dict[Any, Any]]) -> None:
    """Put the entries of all the shards into `memory`."""
    for shard in shards:
        # orjson makes its dicts in one size, and CPython gives those a table for keys of any kind, which is larger, and a
        # read of it slower by a fifth. A dict that takes all of such a one takes its kind; one that grows key by key has
        # the table for str keys, and keeps it when more is added than there is room for.
        larger = len(shard) > len(memory)
        dict.update(memory, dict(zip(shard, shard.values(), strict=True)) if larger else shard)


def plain(memory: dict[Any, Any]) -> dict[Any, Any]:
    """Return a plain dict with the same items, at once; `dict.copy` would go by the methods that a subclass overrides."""
    return dict(dict.items(memory))


def to_front(memory: dict[Any, Any], keys: Iterable[Any]) -> None:
    """Move each of `keys` that is there to the front of `memory`, in turn: a rebuild, since a dict has nothing better."""
    last = dict.fromkeys(reversed(list(keys)))  # the key moved last comes first; of two moves of a key the last counts
    before = plain(memory)
    spelled = {key: key for key in before if key in last}  # 1, 1.0 and True are one key, and the first spelling stays
    replace(memory, {spelled[key]: before[key] for key in last if key in before} | before)


def to_end(memory: dict[Any, Any], key: Any) -> None:
    """Move `key`, which is there and spelled as given, to the end."""
    value = dict.__getitem__(memory, key)
    at_once(partial(dict.__delitem__, memory, key), partial(dict.__setitem__, memory, key, value))


def replace(memory: dict[Any, Any], fresh: dict[Any, Any]) -> None:
    """Give `memory` the content and the order of `fresh`."""
    at_once(partial(dict.clear, memory), partial(dict.update, memory, fresh))


def at_once(*actions: Callable[[], None]) -> None:
    """Do all of `actions`, functions written in C that return None, in one call of such a function.

    Neither a signal nor another thread, which reads without any lock, comes in between.
    """
    any(map(call, actions))
