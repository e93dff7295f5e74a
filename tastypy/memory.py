"""A dict in memory that changes the directory that it follows: it commits layers of changes, rolls them back, and is forked.

What users see is `pod`; everything in here is private to the package.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from threading import get_ident
from time import monotonic
from typing import Any, TypeVar

from tastypy import folding, lifecycle
from tastypy.changes import plain, replace
from tastypy.errors import LeaseLostError, LockTimeout, TastypyError, WrongTypeError
from tastypy.following import Following
from tastypy.format import batch_content
from tastypy.layers import ABSENT, Layer
from tastypy.store import Store
from tastypy.transactions import leave
from tastypy.values import Codec, encode_key, type_of_default

log = logging.getLogger("tastypy")

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

_CHEAP = 1 << 20  # bytes of a POD that is folded whenever somebody is done with it


class Memory(Following[K, V]):
    """The dict and what it takes to share it. A subclass calls `_begin`."""

    __slots__ = ("_default", "_depth")

    def _begin(self, store: Store, default: type_of_default, codec: Codec) -> None:
        self._follow(store, codec)
        self._default = default
        self._depth = 0  # of holds
        lifecycle.opened(self)
        try:
            self._look()
        except BaseException:
            lifecycle.closed(self)
            raise

    # --- changes

    def _run(self, what: str, action: Callable[[Layer], T]) -> T:
        """Return what `action` returns, called with the layer that its changes go to.

        That is the transaction's, or what is held, or one that is committed at once.
        """
        store = self._store
        lock = store.lock
        store.require_writable(what)
        lock.refuse_inside_commit()
        if lock.transaction is not None:
            lock.wait_for_transaction(self, store.timeout)
        with lock.mutex:
            layer = self._layer or (self._held if self._depth else None)
            if layer is None:
                return lock.run(partial(self._commit_alone, action), store.timeout, self._meanwhile)
            try:
                lock.busy = get_ident()  # what a signal handler does now comes after it, as in a commit
                return action(layer)
            except (KeyError, TastypyError):
                raise  # before anything changed
            except BaseException:
                layer.mend()
                raise
            finally:
                lock.busy = 0
                if self._holds():
                    lifecycle.holds(self)
                if lock.deferred:
                    lock.run_deferred()

    def _commit_alone(self, action: Callable[[Layer], T]) -> T:
        self._catch_up(locked=True)
        layer = self._new_layer(user=False)
        seq = self._store.seq
        try:
            result = action(layer)
            self._commit(layer)
        except BaseException:
            self._undo(layer, seq)
            raise
        return result

    def _undo(self, layer: Layer, seq: int) -> None:
        """Make the memory what the disk has, with the lock held, after an exception; `seq` was the number before the layer."""
        if self._store.seq == seq:  # else it was committed before the exception came, a Ctrl-C
            self._roll_back(layer)
        self._mend()

    def _mend(self) -> None:
        """Follow the disk, with the lock held, after an exception: a Ctrl-C may have come when the batch was written."""
        try:
            self._catch_up(locked=True)
        except WrongTypeError:
            pass  # of others' values: of them nothing was applied, and the next use says so
        except (OSError, TastypyError) as error:
            log.warning("%s is read again at its next use: %s", self._store.path, error)
            self._store.forget()

    def _commit_items(self, make: Callable[[], tuple[bytes, dict[Any, Any]]], *, unless_held: bool = False) -> bool:
        """Commit the items that `make` returns together with their batch, at once; none means nothing.

        `make` is called with the lock held and everything applied, and changes nothing itself. The same as `_run`, without
        what it takes to undo changes: this is what everybody waits for. With `unless_held` nothing is done under hold. Tell
        whether it was done: it was not either where the lease was lost meanwhile, and then has to be done again.
        """
        store = self._store
        lock = store.lock
        with lock.mutex:
            if unless_held and (self._depth or self._held is not None):
                return False
            taken = False
            try:
                lock.busy = get_ident()
                lock.take(store.timeout, self._meanwhile)
                taken = True
                self._catch_up(locked=True)
                content, items = make()
                if items and self._held is not None:
                    self._commit_beneath(content, items)
                elif items:
                    position = store.append(content)
                    if self._noted is not None:
                        self._noted.update(items)
                    dict.update(self, items)
                    store.position = position
                    if position.offset > store.limit:
                        self._fold_quietly(store.fold_on)
            except BaseException as error:
                if taken:
                    self._mend()
                if isinstance(error, LeaseLostError):
                    return False
                raise
            finally:
                lock.busy = 0
                if lock.descriptor >= 0:
                    try:
                        lock.let_go()
                    except OSError as error:
                        lock.drop(error)
                if lock.deferred:
                    lock.run_deferred()
        return True

    def _commit_beneath(self, content: bytes, items: dict[Any, Any]) -> None:
        """Commit items beneath what is held, with the lock held and caught up."""
        layer = self._new_layer(user=False)
        seq = self._store.seq
        try:
            layer.set_many(items, content)
            self._commit(layer)
        except BaseException:
            self._undo(layer, seq)
            raise

    def _new_layer(self, *, user: bool, below: Layer | None = None) -> Layer:
        return Layer(self, user=user, below=below, noted=self._noted)

    def _has_layer(self, layer: Layer) -> bool:
        one = self._layer
        while one is not None and one is not layer:
            one = one.below
        return one is layer

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
        put = (
            (encode_key(key), text or self._encode_stored(key))
            for key, text in changes.put.items()
            if key not in without
        )
        deleted = (encode_key(key) for key in changes.deleted if key not in without)
        # a key that others deleted meanwhile cannot move
        front = (encode_key(key) for key in changes.front if key in self and key not in without)
        return batch_content(deleted, put, front, clear=changes.clear)

    def _encode_stored(self, key: Any) -> bytes:
        """Return the JSON of a value as it is now; what memory has is made what JSON gives back, if it is not that."""
        value = dict.__getitem__(self, key)
        text, kept = self._codec.encode_again(value, self._default, key)
        if self._noted is not None:  # it may have been mutated since it was set
            self._noted[key] = None
        if kept is not value:
            dict.__setitem__(self, key, kept)
        return text

    def _roll_back(self, layer: Layer) -> None:
        """Undo a layer: from what it noted, or from the disk where that is not enough."""
        if not layer.undo:
            return
        if self._noted is not None:
            self._noted.update(dict.fromkeys([*layer.undo, *layer.changes.keys()]))
        self._front = None
        try:
            if not layer.undo_simply():
                self._undo_from_disk(layer)
        except BaseException as error:
            self._store.forget()  # the memory may have changes that were never committed
            if not isinstance(error, OSError | MemoryError | TastypyError):  # but a Ctrl-C
                raise
            log.exception(
                "%s could not be read to undo a transaction; it is read again at its next use", self._store.path
            )

    def _undo_from_disk(self, layer: Layer) -> None:
        fresh = self._store.committed()
        touched = layer.changes.keys() | layer.undo.keys()
        for key in fresh:
            as_it_was = key not in touched and key in self
            fresh[key] = dict.__getitem__(self, key) if as_it_was else self._codec.decode(key, fresh[key])
        values = plain(self)
        values.update((key, old) for key, old in layer.undo.items() if old is not ABSENT)
        below = []
        while layer.below is not None:
            layer = layer.below
            below.append(layer)
        if self._held is not None:
            below.append(self._held)
        for one in reversed(below):
            one.replay_onto(fresh, values)
        replace(self, fresh)

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
        rest = self._new_layer(user=True)
        for key in bad:
            rest.changes.set(key)
        rest.new = held.new & bad.keys()
        position = self._store.append(content, sync=sync) if content else self._store.position
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
        try:
            error = lock.run(self._settle_locked, store.timeout if holds else 1.0, self._meanwhile)
        except LockTimeout:
            if holds:
                raise
            store.sync_journal()  # somebody else is at it, who will fold
            return
        self._fold_much()
        if error is not None:
            raise error

    def _fold_much(self) -> None:
        """Fold a journal that a few large batches have made far too long, step by step, lest the next commit has to at once."""
        store = self._store
        seq = store.seq
        try:
            while store.wrote and folding.is_too_large(store):
                if store.lock.run(partial(self._fold_up_to, seq), 1.0, self._meanwhile):
                    break
        except LockTimeout:
            return  # somebody else is at it, who will fold
        except (OSError, MemoryError, TastypyError) as error:
            log.warning("%s: folding failed and is tried again later: %r", store.path, error)

    def _fold_up_to(self, seq: int) -> bool:
        self._catch_up(locked=True)
        return self._store.fold_up_to(seq)

    def _settle_locked(self) -> TastypyError | None:
        store = self._store
        try:
            self._catch_up(locked=True)
        except WrongTypeError as wrong:
            return self._write_past(wrong)
        error = self._write_held(sync=True)
        if store.wrote:
            size = store.shard_sizes() + (store.position.offset if store.position else 0)
            if size > max(_CHEAP, store.limit) or not self._fold_quietly(store.fold):
                store.sync_journal()
        return error

    def _write_past(self, wrong: WrongTypeError) -> TastypyError | None:
        """Write what is held behind others' values of a wrong type, which are not brought in; the next use finds them again."""
        store = self._store
        if self._holds():
            log.warning("%s; what is held here is written all the same", wrong)
        try:
            news = store.news(locked=True)
            if news is not None:
                store.arrive(news)
            error = self._write_held(sync=True)
            store.sync_journal()
        finally:
            store.forget()
        return error

    def _fold_if_large(self) -> None:
        position = self._store.position
        if position is not None and position.offset > self._store.limit:
            self._fold_quietly(self._store.fold_on)

    def _fold_quietly(self, fold: Callable[[], None]) -> bool:
        """Fold, with the lock held; a failure is not the caller's, whose change is in the journal. Tell whether it was done."""
        store = self._store
        began = monotonic()
        try:
            fold()
        except (OSError, MemoryError, TastypyError) as error:
            log.warning("%s: folding failed and is tried again later: %r", store.path, error)
            store.limit = store.limit * 5 // 4
            return False
        finally:
            store.lock.owe(monotonic() - began)
        return True

    # --- what `lifecycle` asks for

    def _abandon(self) -> None:
        """Undo the transaction that this thread is in, since the process is about to end."""
        layer = self._layer
        while layer is not None and layer.below is not None:
            layer = layer.below
        if layer is not None:
            leave(self, layer, commit=False)

    def _release(self) -> None:
        """Give back what this process has claimed of the directory, since its use comes to an end: a POD claims nothing."""

    def _is_pending(self) -> bool:
        """Tell whether something must be written before this object, or the process, ends."""
        return self._holds()

    def _is_unsettled(self) -> bool:
        """Tell whether a child that is forked now would have a memory that is not the directory's."""
        lock = self._store.lock
        return bool(lock.busy or lock.transaction is not None or self._holds())

    def _forked(self, *, reload: bool) -> None:
        """Drop, in a forked child, what is the parent's to write."""
        self._layer = self._front = None
        self._held = self._new_layer(user=True) if self._depth else None
        self._store.wrote = False
        if reload:
            self._store.forget()
            try:
                self._catch_up(locked=False)
            except (OSError, TastypyError):
                log.exception("%s could not be read after a fork; it is read again at its next use", self._store.path)
