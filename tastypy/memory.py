"""A dict in memory that follows a directory: it catches up, commits layers of changes, rolls them back, and is forked.

What users see is `pod`; everything in here is private to the package.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any, TypeVar

from tastypy import lifecycle
from tastypy.changes import replay
from tastypy.errors import LockTimeout, TastypyError
from tastypy.format import batch_content
from tastypy.layers import ABSENT, Layer, become, differing
from tastypy.reading import News
from tastypy.store import Store
from tastypy.values import encode_key, encode_value, type_of_default

log = logging.getLogger("tastypy")

K = TypeVar("K")
V = TypeVar("V")

_CHEAP = 1 << 20  # bytes of a POD that is folded whenever somebody is done with it


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


class Memory(dict[K, V]):
    """The dict and what it takes to share it. A subclass sets `_store` and calls `_begin`."""

    __slots__ = ("__weakref__", "_default", "_depth", "_front", "_held", "_layer", "_store")

    _store: Store

    def _begin(self, store: Store, default: type_of_default) -> None:
        self._store = store
        self._default = default
        self._depth = 0  # of holds
        self._held: Layer | None = None  # what is held; there may be some left when `_depth` is 0 again
        self._layer: Layer | None = None  # of the innermost transaction
        self._front: Front | None = None
        with store.lock.mutex:
            self._catch_up(locked=False)
        lifecycle.opened(self)

    # --- what others did

    def _catch_up(self, *, locked: bool, changed: set[Any] | None = None) -> None:
        """Apply what is new on the disk, with the mutex held; add the keys that changed to `changed`."""
        news = self._store.news(locked=locked)
        if news is not None:
            self._apply(news, changed)

    def _meanwhile(self) -> None:
        self._catch_up(locked=False)

    def _apply(self, news: News, changed: set[Any] | None = None) -> None:
        store, held = self._store, self._held
        records = news.records
        if news.entries is not None:
            fresh = news.entries
            replay(fresh, records)
            before = dict.copy(self)
            if held is not None:
                held.replay_onto(fresh, before)
            store.position = self._front = None  # an exception in the middle has everything read anew
            become(self, fresh)
            if changed is not None:
                changed |= differing(before, fresh)
        else:
            if any("front" in record or "clear" in record for record in records):
                store.position = self._front = None
            for record in records:
                if self._front is not None and "del" in record:
                    self._front.gone.update(record["del"])
                if changed is not None:
                    changed.update(record.get("del", ()), record.get("put", ()), self if record.get("clear") else ())
            if held is None:
                replay(self, records)
            else:
                self._front = None
                held.replay_beneath(records)
                if changed is not None:
                    changed -= held.changes.put.keys() | held.changes.deleted.keys()
        store.arrive(news)

    # --- changes

    @contextmanager
    def _change(self, what: str) -> Iterator[Layer]:
        """Give the layer that a mutator's changes go to: the transaction's, what is held, or a commit of its own."""
        store = self._store
        lock = store.lock
        store.require_writable(what)
        if lock.transaction is not None:
            lock.wait_for_transaction(self, store.timeout)
        with lock.mutex:
            if self._layer is not None:
                yield self._layer
            elif self._depth and self._held is not None:
                yield self._held
                if self._holds():
                    lifecycle.holds(self)
            else:
                with self._transact(user=False) as layer:
                    yield layer

    @contextmanager
    def _transact(self, *, user: bool) -> Iterator[Layer]:
        """Hold the lock, catch up, and commit what the body adds to the layer; on an exception, nothing of it.

        The mutator of a `user=False` body runs no code of the user, so that signal handlers and finalisers must not come
        between (`DirectoryLock.busy`).
        """
        store = self._store
        lock = store.lock
        store.require_writable("transaction")
        if lock.transaction is not None:
            lock.wait_for_transaction(self, store.timeout)
        if self._layer is not None and lock.thread == get_ident():
            with self._savepoint(self._layer) as layer:
                yield layer
            return
        with lock.held(store.timeout, self._meanwhile):
            self._catch_up(locked=True)
            layer = Layer(self, user=user)
            try:
                self._layer, lock.transaction, lock.thread = layer, self, get_ident()
                if user:
                    lock.busy = 0
                yield layer
                if self._layer is layer:  # else this is a forked child: the transaction is its parent's
                    lock.busy = get_ident()
                    self._commit(layer)
            except BaseException:
                if self._layer is layer:
                    lock.busy = get_ident()
                    self._roll_back(layer)
                raise
            finally:
                if self._layer is layer:
                    self._layer = lock.transaction = None

    @contextmanager
    def _savepoint(self, below: Layer) -> Iterator[Layer]:
        layer = self._layer = Layer(self, user=True, below=below)
        try:
            yield layer
            if self._layer is layer:
                below.absorb(layer)
        except BaseException:
            if self._layer is layer:
                self._roll_back(layer)
            raise
        finally:
            if self._layer is layer:
                self._layer = below

    def _commit(self, layer: Layer) -> None:
        held = self._held
        if held is not None:
            # where a held deletion had taken the key away, it is at the end here, and has to get there for all
            layer.changes.deleted.update((key, None) for key in layer.changes.put if key in held.changes.deleted)
        content = self._content(layer, {})
        if not content:
            return
        position = self._store.append(content)
        if held is not None:
            self._front = None
            held.committed(layer)
            self._let_go()
        self._store.position = position
        self._fold_if_large()

    def _content(self, layer: Layer, without: dict[Any, Any]) -> bytes:
        """Return the batch of a layer, but for the keys in `without`."""
        changes = layer.changes
        if layer.content and not changes.deleted:
            return layer.content
        put = []
        for key, text in changes.put.items():
            if key not in without:
                put.append((encode_key(key), text or self._encode_stored(key)))
        deleted = [encode_key(key) for key in changes.deleted if key not in without]
        front = [encode_key(key) for key in changes.front if key not in without]
        return batch_content(deleted, put, front, clear=changes.clear)

    def _encode_stored(self, key: Any) -> bytes:
        """Return the JSON of a value as it is now; what memory has is made what JSON gives back, if it is not that."""
        value = dict.__getitem__(self, key)
        text, copy = encode_value(value, self._default, f"the value of {key!r}")
        if copy != value:
            dict.__setitem__(self, key, copy)
        return text

    def _roll_back(self, layer: Layer) -> None:
        """Undo a layer: from what it noted, or from the disk where that is not enough."""
        self._front = None
        if layer.undo_simply():
            return
        try:
            fresh = self._store.committed()
            touched = layer.changes.keys() | layer.undo.keys()
            for key in fresh:
                if key not in touched and key in self:
                    fresh[key] = dict.__getitem__(self, key)
            values = dict.copy(self)
            values.update((key, old) for key, old in layer.undo.items() if old is not ABSENT)
            below = []
            while layer.below is not None:
                layer = layer.below
                below.append(layer)
            if self._held is not None:
                below.append(self._held)
            for one in reversed(below):
                one.replay_onto(fresh, values)
            become(self, fresh)
        except (OSError, TastypyError):
            log.exception(
                "%s could not be read to undo a transaction; it is read again at its next use", self._store.path
            )
            self._store.forget()

    # --- what is held

    def _write_held(self, *, sync: bool) -> TastypyError | None:
        """Commit what is held, with the lock held and caught up; return what is wrong with values that stay behind."""
        held = self._held
        if held is None or not held.changes:
            return None
        bad: dict[Any, TastypyError] = {}
        for key in held.changes.put:
            try:
                self._encode_stored(key)
            except TastypyError as error:
                bad[key] = error
        content = self._content(held, bad)
        if content:
            position = self._store.append(content, sync=sync)
            rest = Layer(self, user=True)
            for key in bad:
                rest.changes.set(key)
            rest.new = held.new & bad.keys()
            self._held = rest
            self._store.position = position
        self._let_go()
        return next(iter(bad.values()), None)

    def _holds(self) -> bool:
        return self._held is not None and bool(self._held.changes)

    def _let_go(self) -> None:
        if self._held is not None and not self._held.changes:
            lifecycle.released(self)
            if not self._depth:
                self._held = None

    def _settle(self) -> None:
        """Write what is held, have it and what was committed on stable storage, and fold where that is cheap."""
        store = self._store
        lock = store.lock
        if lock.deferred and lock.busy != get_ident():
            lock.run_deferred()
        if not store.writable or self._layer is not None:
            return
        holds = self._holds()
        if not holds and not store.wrote:
            return
        error = None
        try:
            with store.lock.held(store.timeout if holds else 1.0, self._meanwhile):
                self._catch_up(locked=True)
                error = self._write_held(sync=True)
                if store.wrote:
                    size = store.shard_sizes() + (store.position.offset if store.position else 0)
                    if size > max(_CHEAP, store.limit) or not self._fold_quietly():
                        store.sync_journal()
        except LockTimeout:
            if holds:
                raise
            store.sync_journal()  # somebody else is at it, who will fold
        if error is not None:
            raise error

    def _fold_if_large(self) -> None:
        position = self._store.position
        if position is not None and position.offset > self._store.limit:
            self._fold_quietly()

    def _fold_quietly(self) -> bool:
        """Fold, with the lock held; a failure is not the caller's, whose change is in the journal. Tell whether it was done."""
        store = self._store
        try:
            store.fold()
        except (OSError, TastypyError) as error:
            log.warning("%s: folding failed and is tried again later: %s", store.path, error)
            store.limit = store.limit * 5 // 4
            return False
        return True

    # --- what `lifecycle` asks for

    def _abandon(self) -> None:
        """Undo the transaction that this thread is in, since the process is about to end."""
        lock = self._store.lock
        while self._layer is not None and lock.thread == get_ident():
            layer = self._layer
            self._roll_back(layer)
            self._layer = layer.below
        if self._layer is None and lock.transaction is self:
            lock.transaction = None

    def _is_unsettled(self) -> bool:
        """Tell whether a child that is forked now would have a memory that is not the directory's."""
        lock = self._store.lock
        return bool(lock.busy or lock.transaction is not None or self._holds())

    def _forked(self, *, reload: bool) -> None:
        """Drop, in a forked child, what is the parent's to write."""
        self._layer = self._front = None
        self._held = Layer(self, user=True) if self._depth else None
        self._store.wrote = False
        if reload:
            self._store.forget()
            try:
                self._catch_up(locked=False)
            except (OSError, TastypyError):
                log.exception("%s could not be read after a fork; it is read again at its next use", self._store.path)
