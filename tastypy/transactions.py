"""The block of a transaction: entered with the lock, left with a commit or with nothing, whatever signal comes when."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import ref

from tastypy.errors import TransactionError
from tastypy.layers import Layer

if TYPE_CHECKING:
    from tastypy.memory import Memory

T = TypeVar("T")


class _Pledge:
    """What goes, without any call that a signal could prevent, when a `with` statement is over; see `_Exit`."""

    __slots__ = ("__weakref__",)


class _Exit:
    """Gives a `with` statement the function that it calls at its end, with a pledge tied to it.

    A signal handler may raise after the block's last instruction and before the first one of an `__exit__` written in
    Python, which then never runs: the transaction would stay open, with the lock, and swallow what comes later. But the
    statement holds the only reference to the function that it was given; so the pledge goes with it, which the layer
    watches. (No `__del__`: that would run at every end, and a Ctrl-C in there be ignored.)
    """

    def __get__(self, block: Transaction[Any] | None, cls: type[Transaction[Any]]) -> Callable[..., None]:
        if block is None:  # ExitStack asks the class
            return cls.end
        pledge = _Pledge()
        block.pledge = ref(pledge)
        end = partial(cls.end, block)
        end.pledge = pledge  # type: ignore[attr-defined]  # an attribute, since an argument would be in the traceback, too
        return end


class Transaction(Generic[T]):
    """A context manager whose block is a transaction, or, inside another one, a savepoint.

    Args:
        memory: the POD.
        begin: gives the value of `as`, called with the lock held and everything up to date.
        end: called with that value at the end of a block without an exception, before the commit.
    """

    __slots__ = ("_begin", "_end", "_layers", "_process", "_values", "memory", "pledge")

    def __init__(
        self, memory: Memory[Any, Any], begin: Callable[[], T], end: Callable[[T], object] = lambda _: None
    ) -> None:
        self.memory: Memory[Any, Any] = memory
        self.pledge: Callable[[], _Pledge | None] = lambda: None
        self._begin = begin
        self._end = end
        self._process = 0
        self._layers: list[Layer] = []
        self._values: list[T] = []

    def __enter__(self) -> T:
        layer = _enter(self.memory, self.pledge())
        try:
            value = self._begin()
        except BaseException:
            leave(self.memory, layer, commit=False)
            raise
        self._process = os.getpid()
        self._layers.append(layer)
        self._values.append(value)
        return value

    def end(self, kind: object, *_: object) -> None:
        """Commit, or roll back if there is an exception.

        Raises:
            TransactionError: it is not this thread's innermost one, and so was not committed.
        """
        layer, value = self._layers.pop(), self._values.pop()
        if os.getpid() != self._process:
            return  # it is the parent's
        if kind is None and (
            self.memory._layer is not layer or self.memory._store.lock.thread != threading.get_ident()
        ):
            leave(self.memory, layer, commit=False)
            message = (
                f"a transaction of {self.memory!r} was not committed: it ended in another thread than it began in, or not before "
                "the one that it began inside of, as when coroutines await in transactions: use asyncio.to_thread, or a lock"
            )
            raise TransactionError(message, self.memory._store.path)
        try:
            if kind is None:
                self._end(value)
        except BaseException:
            leave(self.memory, layer, commit=False)
            raise
        leave(self.memory, layer, commit=kind is None)

    __exit__: _Exit = _Exit()


def _enter(memory: Memory[Any, Any], pledge: _Pledge | None) -> Layer:
    """Take the lock, catch up, and put a layer on the memory."""
    store = memory._store
    lock = store.lock
    store.require_writable("transaction")
    lock.refuse_inside_commit()
    if lock.transaction is not None:
        lock.wait_for_transaction(memory, store.timeout)
    layer = memory._new_layer(user=True, below=memory._layer if lock.thread == threading.get_ident() else None)
    if pledge is not None:
        layer.watch = ref(pledge, partial(_abandon, memory, layer))
    if layer.below is None:
        try:
            lock.mutex.acquire()  # not by `with`, since it is kept; so below it is asked whether it was taken
            lock.busy = threading.get_ident()
            lock.take(store.timeout, memory._meanwhile)
            lock.began = time.monotonic()
            memory._catch_up(locked=True)
            lock.transaction, lock.thread = memory, threading.get_ident()
            lock.busy = 0
        except BaseException:
            if lock.is_mine():
                lock.busy, lock.transaction, lock.thread = 0, None, 0
                try:
                    lock.unlock()
                finally:
                    lock.mutex.release()
            raise
    memory._layer = layer
    return layer


def _abandon(memory: Memory[Any, Any], layer: Layer, _: object) -> None:
    leave(memory, layer, commit=False)


def _roll_back_above(memory: Memory[Any, Any], layer: Layer) -> None:
    # in a function of its own for a Ctrl-C: see tests/test_jumps.py
    while (top := memory._layer) is not None and top is not layer:
        memory._roll_back(top)  # the block of a savepoint was never left: see `_Exit`
        memory._layer = top.below


def leave(memory: Memory[Any, Any], layer: Layer, *, commit: bool) -> None:
    """Commit or roll back a layer, and what was left open above it; a no-op where it is gone, as in a forked child."""
    store = memory._store
    lock = store.lock
    if lock.thread != threading.get_ident() or not memory._has_layer(layer):
        return
    below = layer.below
    seq = store.seq
    try:
        lock.busy = threading.get_ident()
        _roll_back_above(memory, layer)
        if not commit:
            memory._roll_back(layer)
        elif below is None:
            memory._commit(layer)
            lock.owe(time.monotonic() - lock.began)
        else:
            below.absorb(layer)
    except BaseException:
        if below is not None:
            memory._roll_back(layer)
        else:
            memory._undo(layer, seq)
        raise
    finally:
        # Nothing but stores to attributes and calls of functions written in C: no signal can keep the lock from going.
        lock.busy = 0
        layer.watch = None
        memory._layer = below
        if below is None:
            lock.transaction, lock.thread = None, 0
            try:
                if lock.descriptor >= 0:
                    lock.let_go()
            except OSError as error:
                lock.drop(error)
            finally:
                lock.mutex.release()
            if lock.deferred:
                lock.run_deferred()
