"""A dict in memory that follows a directory: what others committed is applied beneath what is held here.

What changes the directory from here is `memory`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import get_ident
from typing import Any, Self, TypeVar
from weakref import WeakMethod

from tastypy.changes import plain, replace, replay
from tastypy.errors import WrongTypeError
from tastypy.layers import ABSENT, Layer, differing
from tastypy.reading import News, without_collector
from tastypy.store import Store
from tastypy.values import PLAIN, Codec

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class Front:
    """The first keys of a dict, so that taking them one by one does not look at each deleted one again and again."""

    __slots__ = ("gone", "keys")

    def __init__(self, memory: dict[Any, Any]) -> None:
        # half of them: taking all from the front is then a matter of n log n steps, all of them in C
        half = len(memory) // 2 + 1
        self.keys = [key for key, _ in zip(dict.keys(memory), range(half), strict=False)][::-1]
        self.gone: set[Any] = set()

    def next(self) -> Any:
        """Return the first key that is still there, or ABSENT if there may be others only."""
        while self.keys:
            key = self.keys[-1]
            if key not in self.gone:
                return key
            self.keys.pop()
        return ABSENT


def _weakly(method: Callable[[], T | None]) -> Callable[[], T | None]:
    """Return a function that does what `method` does without keeping its object, and returns None without that."""
    weak = WeakMethod(method)
    return lambda: known() if (known := weak()) is not None else None


class Following(dict[K, V]):
    """The dict and what it takes to have in it what the directory has."""

    __slots__ = ("__weakref__", "_codec", "_front", "_held", "_layer", "_noted", "_store")

    _store: Store

    def _follow(self, store: Store, codec: Codec = PLAIN) -> None:
        """Begin to follow a directory: nothing is read yet."""
        self._store = store
        self._codec = codec
        self._held: Layer | None = None  # what is held; there may be some left when nothing is under hold again
        self._layer: Layer | None = None  # of the innermost transaction
        self._front: Front | None = None
        # the keys (only those count) whose values may have changed, in order, put here before they do, for a subclass that
        # keeps figures; ABSENT among them: any key
        self._noted: dict[Any, Any] | None = None
        store.keys, store.room = _weakly(self._keys), _weakly(self._room)

    def _catch_up(self, *, locked: bool, changed: set[Any] | None = None) -> None:
        """Apply what is new on the disk, with the mutex held; add the keys that changed to `changed`."""
        news = self._store.news(locked=locked)
        if news is None:
            return
        if self._codec.typed:
            news = self._decoded(news)  # a value of a wrong type raises here, before anything is applied
        try:
            self._apply(news, changed)
        except BaseException:
            # A Ctrl-C in the middle: the next read must not find half of it.
            if self._noted is not None:
                self._noted[ABSENT] = None
            self._store.forget()
            again = self._store.news(locked=locked)
            if again is not None:
                self._apply(self._decoded(again) if self._codec.typed else again, changed)
            raise

    def _decoded(self, news: News) -> News:
        """Return the news with values for the memory in place of those of files.

        Only those count that are left in the end: so a value that somebody has mended by now is not looked at.

        Raises:
            WrongTypeError: one is not of the type; nothing was applied.
        """
        decode, entries = self._codec.decode, news.entries

        def decode_all(left: dict[Any, Any]) -> dict[Any, Any]:
            return {key: decode(key, value) for key, value in left.items()}

        left: dict[Any, Any] = {} if entries is None else entries
        if entries is not None:
            replay(left, news.records)
            return news._replace(entries=without_collector(partial(decode_all, left)), records=[])
        for record in news.records:
            if record.get("clear"):
                left.clear()
            for key in record.get("del", ()):
                left.pop(key, None)
            left.update(record.get("put", ()))
        left = decode_all(left)
        records = [
            {**record, "put": {key: left[key] for key in record["put"] if key in left}} if "put" in record else record
            for record in news.records
        ]
        return news._replace(records=records)

    def _look(self, changed: set[Any] | None = None) -> None:
        """Catch up without the lock."""
        lock = self._store.lock
        with lock.mutex:
            try:
                lock.busy = get_ident()
                self._catch_up(locked=False, changed=changed)
            finally:
                lock.busy = 0
                if lock.deferred:
                    lock.run_deferred()

    def _meanwhile(self) -> bool:
        """Catch up between attempts to take the lock; tell whether others have committed since."""
        here = self._store.position
        try:
            self._catch_up(locked=False)
        except WrongTypeError:
            return True  # it is for whoever has the lock then, and may do without
        return self._store.position is not here

    def _apply(self, news: News, changed: set[Any] | None = None) -> None:
        store, held, noted = self._store, self._held, self._noted
        records = news.records
        if news.entries is self:
            replay(self, records)
            if changed is not None:
                changed.update(dict.keys(self))
        elif news.entries is not None:
            fresh = news.entries
            replay(fresh, records)
            before = plain(self)
            if held is not None:
                held.replay_onto(fresh, before.copy())
            store.position = self._front = None  # an exception in the middle has everything read anew
            if changed is not None:
                changed |= differing(before, fresh, self._codec.same)
            if noted is not None:
                noted[ABSENT] = None
            replace(self, fresh)
        else:
            if self._front is not None:
                for record in records:
                    self._front.gone.update(record.get("del", ()))
                if any("front" in record or "clear" in record for record in records):
                    self._front = None
            if changed is not None:
                for record in records:
                    changed.update(record.get("del", ()), record.get("put", ()), self if record.get("clear") else ())
            if noted is not None:
                for record in records:
                    if len(record) != 1 or "put" not in record:  # else as most are
                        noted.update(dict.fromkeys(dict.keys(self) if record.get("clear") else record.get("del", ())))
                    noted.update(record.get("put", {}))
            if held is None:
                replay(self, records)
            else:
                self._front = None
                held.replay_beneath(records)
                if changed is not None:
                    changed -= (held.changes.put.keys() | held.changes.deleted.keys()) - held.moved
        store.arrive(news)

    def _keys(self) -> list[Any] | None:
        """Return all keys in the order of the directory, with the lock held; None where something is not written yet."""
        return list(dict.keys(self)) if self._held is None and self._layer is None else None

    def _room(self) -> Self | None:
        """Return this memory, to be filled with everything there is, if there is nothing in it, and files have what it will have."""
        if self or self._held is not None or self._layer is not None or self._codec.typed:
            return None
        if self._noted is not None:
            self._noted[ABSENT] = None
        return self
