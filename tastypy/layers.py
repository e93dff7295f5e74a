"""Changes that were made to the memory of a POD and not committed yet, and how news from the disk goes beneath them.

A POD has at most one layer that is held, and above it one for each transaction that is under way. All functions use the
methods of the builtin dict, whatever the memory overrides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tastypy.changes import Changes, extend, plain, replay, to_end, to_front
from tastypy.format import Record


class _Absent:
    """Stands for no value at all."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Any = _Absent()


class Layer:
    """A row of changes to `memory`, as `changes`, with what it takes to undo them.

    Attributes:
        user: whether code of the user runs while it grows, which may mutate values after they were set.
        noted: where each key is put before its value changes in the memory, if somebody wants to know.
        undo: of each key changed what it was before, or ABSENT.
        disturbed: whether `undo` is not enough: something moved, or was mutated in place.
        new: the keys set that the directory does not have, as far as is known; they stand at the end of the memory.
        moved: the keys that were moved to the end and not set: of these others' values are taken.
        below: the layer that this one lies on, if it is a savepoint.
        content: the whole batch, where that is known already.
        watch: what tells that the block of the transaction is over (see `transactions`).
    """

    __slots__ = ("below", "changes", "content", "disturbed", "memory", "moved", "new", "noted", "undo", "user", "watch")

    def __init__(
        self, memory: dict[Any, Any], *, user: bool, below: Layer | None = None, noted: dict[Any, Any] | None = None
    ) -> None:
        self.memory = memory
        self.user = user
        self.noted = noted
        self.below = below
        self.content = b""
        self.watch: object = None
        self.changes = Changes()
        self.undo: dict[Any, Any] = {}
        self.disturbed = False
        self.new: set[Any] = set()
        self.moved: set[Any] = set()

    def set(self, key: Any, value: Any, text: bytes) -> None:
        """Set `key` to `value`, whose JSON is `text` as long as nobody mutates it."""
        old = dict.get(self.memory, key, ABSENT)
        self.undo.setdefault(key, old)
        self.changes.set(key, None if self.user else text)
        if old is ABSENT:
            self.new.add(key)
            self.changes.front.pop(key, None)  # others deleted what was moved
        self.moved.discard(key)
        if self.noted is not None:
            self.noted[key] = None
        dict.__setitem__(self.memory, key, value)

    def mend(self) -> None:
        """Make the memory agree with what is noted: an exception, a Ctrl-C, came in between, and the note comes first."""
        if self.noted is not None:
            self.noted.update(dict.fromkeys(self.changes.keys()))
        for key in self.changes.deleted.keys() - self.changes.put.keys():
            dict.pop(self.memory, key, None)
        for key in [key for key in self.changes.put if key not in self.memory]:
            self.changes.put.pop(key)
            self.new.discard(key)

    def set_many(self, items: dict[Any, Any], content: bytes) -> None:
        """Set all of `items`; `content` is the batch that says so, as long as nobody mutates them."""
        get = dict.get
        memory = self.memory
        before = {key: get(memory, key, ABSENT) for key in items}
        if not self.user and not self.undo:
            self.content = content
        self.undo = {**before, **self.undo}
        for key in [key for key, old in before.items() if old is ABSENT]:
            self.new.add(key)
            self.changes.front.pop(key, None)
        self.changes.put.update(dict.fromkeys(items))
        self.moved.difference_update(items)
        if self.noted is not None:
            self.noted.update(items)
        extend(memory, [items])

    def touch(self, key: Any) -> None:
        """Note that the value of `key`, which is there, was mutated in place."""
        self.undo.setdefault(key, dict.__getitem__(self.memory, key))
        self.changes.set(key)
        self.moved.discard(key)
        self.disturbed = True
        if self.noted is not None:
            self.noted[key] = None

    def delete(self, key: Any) -> Any:
        """Delete `key`, which is there; return its value."""
        value = dict.__getitem__(self.memory, key)
        self.undo.setdefault(key, value)
        self.disturbed = True
        self.changes.delete(key)
        self.new.discard(key)
        self.moved.discard(key)
        if self.noted is not None:
            self.noted[key] = None
        dict.__delitem__(self.memory, key)
        return value

    def move(self, key: Any, *, last: bool) -> None:
        """Move `key`, which is there, to the end or to the front."""
        if type(key) is not str:  # 1, 1.0 and True are one key, and the first spelling stays
            key = next(stored for stored in dict.keys(self.memory) if stored == key)
        self.undo.setdefault(key, dict.__getitem__(self.memory, key))
        self.disturbed = True
        if last:
            if key not in self.changes.put:
                self.moved.add(key)
            self.changes.move_to_end(key)
            self.new.add(key)
            to_end(self.memory, key)
        else:
            self.changes.move_to_front(key)
            to_front(self.memory, [key])

    def wipe(self) -> None:
        """Delete every key there is."""
        self.undo = {**plain(self.memory), **self.undo}
        self.disturbed = True
        self.changes.wipe()
        self.new.clear()
        if self.noted is not None:
            self.noted.update(dict.fromkeys(dict.keys(self.memory)))
        dict.clear(self.memory)

    def absorb(self, other: Layer) -> None:
        """Take over what a layer above this one did."""
        above, changes = other.changes, self.changes.copy()
        if above.clear:
            changes.wipe()
        for key in above.deleted:
            changes.delete(key)
        changes.put.update(above.put)
        for key in above.front:
            changes.move_to_front(key)
        undo = {**other.undo, **self.undo}
        new = (self.new | other.new) & changes.put.keys()
        # stores only: no signal comes in between
        self.disturbed = self.disturbed or other.disturbed
        self.changes, self.undo, self.new = changes, undo, new

    def undo_simply(self) -> bool:
        """Undo everything if that takes nothing but `undo`; return whether it was done."""
        if self.disturbed:
            return False
        for key, old in reversed(self.undo.items()):
            if old is ABSENT:
                dict.pop(self.memory, key, None)
            else:
                dict.__setitem__(self.memory, key, old)
        return True

    def committed(self, above: Layer) -> None:
        """Let a layer above this one be beneath it: it was committed; its keys are not held any more."""
        changes = self.changes
        late = [
            key for key in above.changes.put if (key in above.new or key in self.new) and key not in above.changes.front
        ]
        for key in (*above.changes.keys(), *(above.undo if above.changes.clear else ())):
            changes.put.pop(key, None)
            changes.deleted.pop(key, None)
            self.undo.pop(key, None)
            self.new.discard(key)
            self.moved.discard(key)
        for key in (*late, *(key for key in changes.put if key in self.new)):
            if key in self.memory:
                to_end(self.memory, key)
        if changes.front:
            to_front(self.memory, changes.front)

    # --- news beneath it

    def replay_beneath(self, records: Iterable[Record]) -> None:
        """Apply what others committed to the memory: what is held wins, and new keys stay last."""
        memory, held = self.memory, self.changes
        for record in records:
            self._unmove(record)
            if record.get("clear"):
                for key in [key for key in dict.keys(memory) if key not in held.put]:
                    dict.__delitem__(memory, key)
                self.new = set(held.put)
            for key in record.get("del", ()):
                if key in held.put:
                    self.new.add(key)
                else:
                    dict.pop(memory, key, None)
            for key, value in record.get("put", {}).items():
                if key in self.moved:
                    dict.__setitem__(memory, key, value)
                elif key in held.put:
                    if key in self.new and key not in held.deleted:
                        self.new.discard(key)
                        to_end(memory, key)
                elif key not in held.deleted:
                    dict.__setitem__(memory, key, value)
            if "front" in record:
                to_front(memory, record["front"])
        for key in held.put:
            if key in self.new:
                to_end(memory, key)
        if held.front:
            to_front(memory, held.front)

    def _unmove(self, record: Record) -> None:
        """Forget the moves of the keys that the record deletes for good."""
        if self.moved:
            gone = self.moved if record.get("clear") else self.moved.intersection(record.get("del", ()))
            for key in gone.difference(record.get("put", ())):
                self.moved.discard(key)
                self.new.discard(key)
                self.changes.put.pop(key, None)
                self.changes.deleted.pop(key, None)

    def replay_onto(self, fresh: dict[Any, Any], values: dict[Any, Any]) -> None:
        """Apply this layer to `fresh`, which has none of it; the values of the keys that it sets are in `values`."""
        changes = self.changes
        for key in self.moved & values.keys():
            if key in fresh:
                values[key] = fresh[key]
        self._unmove({"del": [key for key in self.moved if key not in fresh]})
        self.new = {key for key in changes.put if key not in fresh or key in changes.deleted}
        put = {key: values[key] for key in changes.put if key in values}
        replay(fresh, [{"clear": changes.clear, "del": changes.deleted, "put": put, "front": list(changes.front)}])


def differing(before: dict[Any, Any], after: dict[Any, Any], same: Callable[[Any, Any], bool]) -> set[Any]:
    """Return the keys that are in one of the dicts only, or whose values are not the `same`."""
    common = before.keys() & after.keys()
    changed = {key for key in common if before[key] is not after[key] and not same(before[key], after[key])}
    return (before.keys() ^ after.keys()) | changed
