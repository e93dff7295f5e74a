"""A POD whose values are the entries of tasks: at its door each is looked at, and each change is counted.

What users see of it is left to `tracker`, and who works on what to `claims`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import islice
from threading import get_ident
from typing import Any, NoReturn, TypeVar

from tastypy import entries
from tastypy.changes import at_once
from tastypy.entries import FRESH, Entry
from tastypy.errors import MissingKeyError, NotATrackerError
from tastypy.index import DamagedEntriesError, Index
from tastypy.layers import ABSENT, Layer
from tastypy.pod import PersistentOrderedDict
from tastypy.reading import News
from tastypy.values import encode_items, encode_key, encode_value

K = TypeVar("K")


class TaskDict(PersistentOrderedDict[K, Entry]):
    """A POD of entries, with an index that follows every change of theirs, by whomever."""

    __slots__ = ("_busy", "_index", "_max_tries")

    def __init__(self, path: str | os.PathLike[str], max_tries: int = 0, mode: str = "a", **options: Any) -> None:
        check_number("max_tries", max_tries, 0)
        if options.get("type") is not None:
            message = (
                f"a tracker has no type=: its values are the entries of tasks, which are dicts, not {options['type']!r}"
            )
            raise TypeError(message)
        self._max_tries = max_tries
        self._index: Index[K] = Index(max_tries)
        self._busy = False  # with the index
        super().__init__(path, mode, **options)
        self._options["max_tries"] = max_tries
        self._noted = {ABSENT: None}
        try:
            self._figures()
            if self._store.writable and any(map(_is_lacking, dict.values(self))):
                self._run("opening", self._complete)
        except BaseException:
            self.close()
            raise

    def _complete(self, layer: Layer) -> None:
        """Give the entries of a plain POD the fields that they lack."""
        self._put(layer, {key: {**FRESH, **entry} for key, entry in dict.items(self) if _is_lacking(entry)})

    # --- the door

    def __setitem__(self, key: K, value: Entry) -> None:
        """Set the entry of a task, one commit; fields of the tracker that it lacks are those of a new task.

        Raises:
            UnstorableTypeError, UnstorableValueError: it cannot be an entry.
        """
        super().__setitem__(key, entries.sound(key, value, self.path))

    def setdefault(self, key: K, default: Entry | None = None) -> Entry:
        """Return the entry of a task, which is added with the fields in `default` if it is missing."""
        return super().setdefault(key, entries.sound(key, {} if default is None else default, self.path))

    def sync_key(self, key: K) -> None:
        """Commit the entry of `key` as it is now: it was mutated in place, which nothing told the tracker."""
        if key in self:
            entries.sound(key, self[key], self.path)
        with self._store.lock.mutex:
            super().sync_key(key)
            held = self._held
            if held is not None and self._layer is None and key in held.undo and held.undo[key] is self.get(key):
                # What it was before it was mutated nobody knows, so all that is the user's counts as changed; what is the
                # tracker's does not. Noted now, before more is held of the task and the memory has another object.
                held.undo[key] = entries.reserved(self[key])

    def _update(self, items: dict[Any, Any]) -> None:
        for key, fields in items.items():
            entries.sound(key, fields, self.path)
            encode_key(key)
        if self._store.lock.busy == get_ident():  # as it is now, and refused now, though it is done later
            items = encode_items(items, self._default)[1]
        if items and not self._later(self._update, items):
            self._run("update", lambda layer: self._merge(layer, items))

    def _merge(self, layer: Layer, items: dict[Any, Entry]) -> None:
        self._put(layer, {key: {**FRESH, **self._known(key), **fields} for key, fields in items.items()})

    def _known(self, key: K) -> Entry:
        return self._entry(key) if key in self else {}

    def _put(self, layer: Layer, items: dict[Any, Entry]) -> None:
        if items:
            text, copy = encode_items(items, self._default)
            layer.set_many(copy, b'"put":%b' % text)

    def _change(self, what: str, key: K, change: Callable[[Entry], Entry | None]) -> bool:
        """Make the entry of `key` what `change` returns, one commit; None means no change. Tell whether there was one."""

        def action(layer: Layer) -> bool:
            entry = change(self._entry(key))
            if entry is None:
                return False
            text, copy = encode_value(entry, self._default, f"the entry of {key!r}")
            layer.set(self._storable(key), copy, text)
            return True

        return self._run(what, action)

    def _entry(self, key: K) -> Entry:
        entry = dict.get(self, key, ABSENT)
        if entry is ABSENT:
            message = f"there is no task {key!r} in {self.path}: add({key!r}) adds it"
            raise MissingKeyError(message, self.path)
        return self._sound(key, entry)

    def _sound(self, key: K, entry: Any) -> Entry:
        """Return an entry that the memory has, if it is one."""
        wrong = entries.problem(entry)
        if wrong is not None:
            self._refuse({key: wrong})
        result: Entry = entry
        return result

    def _encode_stored(self, key: Any) -> bytes:
        entries.sound(key, dict.__getitem__(self, key), self.path)  # it may have been mutated since it was set
        return super()._encode_stored(key)

    # --- what others did to entries that are held

    def _apply(self, news: News, changed: set[Any] | None = None) -> None:
        """Apply what others did, with the mutex held: to an entry that is held field by field, and so its claim is known."""
        held = self._held
        if held is not None and held.changes.put:
            loaded = news.entries or {}
            theirs: dict[Any, Any] = {key: loaded[key] for key in held.changes.put if key in loaded}
            for record in news.records:
                for key in theirs.keys() & (theirs.keys() if record.get("clear") else record.get("del", ())):
                    del theirs[key]
                theirs.update((key, entry) for key, entry in record.get("put", {}).items() if key in held.changes.put)
            for key, entry in theirs.items():
                before: Any = held.undo.get(key)
                ours: Any = self.get(key)
                if type(entry) is dict and type(ours) is dict:
                    if before is ours:  # mutated in place, so nobody knows what it was: the tracker's fields are theirs
                        before = entries.reserved(ours)
                    ours = entries.merged(before if type(before) is dict else {}, ours, entry)
                    if self._noted is not None:
                        self._noted[key] = None
                    at_once(partial(held.undo.__setitem__, key, entry), partial(dict.__setitem__, self, key, ours))
        super()._apply(news, changed)

    # --- the index

    def _figures(self) -> Index[K]:
        """Return the index, brought up to date, but for what this thread, or another one's transaction, is changing just now.

        Raises:
            NotATrackerError: there are values that are no entries.
        """
        lock = self._store.lock
        me = get_ident()
        # A signal handler that asks inside a commit, and a thread that asks beside another one's transaction, whose end may
        # wait for this thread, get what was known before.
        if lock.busy == me or (lock.transaction is not None and lock.thread != me):
            return self._index
        with lock.mutex:
            return self._count_noted()

    def _count_noted(self) -> Index[K]:
        """Bring the index up to date, with the mutex held."""
        index, noted = self._index, self._noted
        if (not noted and index.whole) or noted is None or self._busy:
            return index
        try:
            self._busy = True
            anew = not index.whole or ABSENT in noted
            index.whole = False
            keys = _take_all(noted)
            if anew:
                index.rebuild(list(dict.items(self)))
            else:
                for key in reversed(keys):
                    index.change(key, dict.get(self, key, ABSENT))
                index.end()
        except DamagedEntriesError as error:
            self._refuse(error.problems)
        finally:
            self._busy = False
        return index

    def _refuse(self, problems: dict[Any, str]) -> NoReturn:
        first = "; ".join(f"the entry of {key!r} {wrong}" for key, wrong in islice(problems.items(), 3))
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        message = (
            f"{self.path} is not a tracker: {first}{more}. Was it written as a plain POD? Set such entries to dicts, or "
            f"delete them, with POD({self.path!r})"
        )
        raise NotATrackerError(message, self.path)

    def _forked(self, *, reload: bool) -> None:
        self._busy = False
        super()._forked(reload=reload)


def _take_all(noted: dict[Any, None]) -> list[Any]:
    # in a function of its own for a Ctrl-C: see tests/test_jumps.py
    keys = []
    while noted:  # not by its items: a signal handler may add some meanwhile
        keys.append(noted.popitem()[0])
    return keys


def _is_lacking(entry: Entry) -> bool:
    return not FRESH.keys() <= entry.keys()


def check_number(name: str, number: Any, least: int) -> None:
    """Raise unless `number` is an int, `least` or more."""
    if isinstance(number, bool) or not isinstance(number, int):
        message = f"{name} must be an int, not {number!r}"
        raise TypeError(message)
    if number < least:
        message = f"{name} must be {least} or more, not {number}"
        raise ValueError(message)
