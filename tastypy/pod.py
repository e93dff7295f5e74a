"""`PersistentOrderedDict`, what users see: a dict whose contents also live in a directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import Any, Generic, Literal, Self, TypeVar

from tastypy import files, health, lifecycle
from tastypy.closing import closed_class
from tastypy.errors import (
    DirectoryGoneError,
    MissingPODError,
    TastypyError,
    TransactionError,
    WrongTypeError,
    explained,
)
from tastypy.exchange.methods import Exchanged
from tastypy.layers import ABSENT
from tastypy.store import Stats, Store
from tastypy.transactions import Transaction
from tastypy.values import PLAIN, Codec
from tastypy.variables import K, V

P = TypeVar("P", bound="PersistentOrderedDict[Any, Any]")


class PersistentOrderedDict(Exchanged[K, V]):
    """A dict whose contents also live in a directory, shared by any number of processes. Its short name is `POD`.

    Reads are those of `dict`. A change is on disk when the call returns: it survives a SIGKILL of this process, and every
    other process sees it at its next change, `sync` or `refresh`.

    * **as a dict**: everything `dict` has; each mutator is one commit. `copy()` and `|` give plain dicts.
    * **ordered**: `popitem`, `move_to_end`, `reversed`. The order is that in which keys reached the directory.
    * **synchronisation**: `update(key)`, `sync_key`, `hold`, `unhold`, `sync`, `refresh`, `revert`, `dirty`.
    * **atomic across processes**: `transaction`, `edit`, `incr`; `setdefault`, `pop`, `popitem` and `update`, too.
    * **in and out**: `copy_to`, `export_to`, `import_from`, `to_dataframe`.
    * **life**: `close`, `with POD(path) as pod:`, `path`, `mode`, `closed`.
    * **health**: `check`, `repair`, `stats`.

    Keys are `str`, `int` (64 bits), `float` (finite), `bool`, `None` and tuples of these. Values are what JSON reads back
    equal and of the same types; tuples come back as lists. With `type=` they are objects of that type. Anything else is refused,
    and nothing changes then.

    >>> pod = POD("my.pod")
    >>> pod["foo"] = {"bar": [1, 2.5, None]}
    >>> pod["foo"]
    {'bar': [1, 2.5, None]}
    >>> POD("my.pod") == pod
    True

    Args:
        path: the directory; `~` is expanded, parents are created.
        mode: "a" to read and write, created if missing; "r" to read only, without any lock or permission to write.
        timeout: seconds to wait for another process or thread that holds the lock.
        durable: whether each commit waits for stable storage, and so survives a power cut, too. Otherwise that is done
            at the end of a fold, a `sync`, an `unhold`, a `close`, and in a commit when the last time is a second ago.
        default: called with a value that JSON lacks, as in `json.dumps`, returns what is stored in its place.
        type: of all values: a dataclass, a TypedDict, a model of msgspec or pydantic, or another type that "Values with a type" in
            the documentation names. They are objects of it in memory, and JSON objects of their fields in files. Not stored.
        gzipped: whether shards are compressed; stored when the POD is created.
        shard_bytes: at which size of its text a shard is closed; stored when the POD is created. 256 KiB if None.
        lock: "flock", or "lease" for a mount that has none, at the cost that "On a cluster" in the documentation tells; stored
            when the POD is created. "flock" if None.

    Raises:
        NotAPODError: the path is a file, or a directory with other things in it.
        MissingPODError: mode is "r", and there is no POD.
        PermissionDeniedError, LocksUnsupportedError, LockTimeout: what is needed cannot be had.
        SettingsError: `gzipped`, `shard_bytes` or `lock` is not what the POD was created with.
        PersistentOrderedDictIntegrityError, FormatVersionError: the directory cannot be read.
        WrongTypeError: a value in the directory is not of the `type`. (And so does whatever brings in what others changed.)
        TypeError: values of the `type` cannot be stored exactly.
    """

    __slots__ = ("_mode", "_options", "_path")

    def __init__(
        self,
        path: str | os.PathLike[str],
        mode: str = "a",
        *,
        timeout: float = 300,
        durable: bool = False,
        default: Callable[[Any], Any] | None = None,
        type: type[V] | None = None,  # noqa: A002 - it is the type of the values, and a user reads `type=Result`
        gzipped: bool | None = None,
        shard_bytes: int | None = None,
        lock: Literal["flock", "lease"] | None = None,
    ) -> None:
        super().__init__()
        self._path = files.absolute(path, "the path of a POD")
        self._mode = mode
        self._options: dict[str, Any] = {"timeout": timeout, "durable": durable, "default": default}
        _check_options(mode, gzipped=gzipped, shard_bytes=shard_bytes, lock=lock, **self._options)
        codec = PLAIN
        if type is not None:
            codec = _codec_of(type, self._path, default)
            self._options["type"] = type
        store = Store(
            self._path,
            writable=mode == "a",
            timeout=timeout,
            durable=durable,
            gzipped=gzipped,
            shard_bytes=shard_bytes,
            lock=lock,
        )
        self._begin(store, default, codec)

    # --- synchronisation

    def hold(self) -> Hold[Self]:
        """Suspend synchronisation: changes go to memory only, until `unhold`, `sync`, `close` or the end of the process.

        Acts at once; as a context manager, the result calls `unhold` at its end. Holds nest.

        >>> pod = POD("my.pod")
        >>> with pod.hold():
        ...     for number in range(1000):
        ...         pod[number] = number**2
        """
        self._store.require_writable("hold")
        self._refuse_in_transaction("hold")
        with self._store.lock.mutex:
            self._depth += 1
            if self._held is None:
                self._held = self._new_layer(user=True)
        return Hold(self)

    def unhold(self) -> None:
        """End the hold: write what is held, and go on synchronising each change. Nothing without a hold.

        Raises:
            UnstorableTypeError, UnstorableValueError: a held value was mutated into what JSON lacks; the other ones are
                written, this one stays held.
            CommitError: it could not be written; it stays held.
        """
        self._refuse_in_transaction("unhold")
        with self._store.lock.mutex:
            if self._depth:
                self._depth -= 1
            if not self._depth:
                self._settle()
                self._let_go()

    def sync(self) -> None:
        """Write what is held, bring in what others changed, and fold everything into the shards, on stable storage.

        Raises what `unhold` does.
        """
        store = self._store
        store.require_writable("sync")
        self._refuse_in_transaction("sync")
        error, seq, done = store.lock.run(self._sync, store.timeout, self._meanwhile)
        while not done:  # step by step, since it is much: others may commit in between
            done = store.lock.run(partial(self._fold_up_to, seq), store.timeout, self._meanwhile)
        if error is not None:
            raise error

    def _sync(self) -> tuple[TastypyError | None, int, bool]:
        self._catch_up(locked=True)
        error = self._write_held(sync=False)
        seq = self._store.seq
        return error, seq, self._store.fold_up_to(seq)

    def refresh(self) -> set[K]:
        """Bring in what others changed, without the lock; return the keys that this changed here."""
        changed: set[K] = set()
        lock = self._store.lock
        if lock.transaction is not None and lock.thread != get_ident():
            lock.wait_for_transaction(self, self._store.timeout)
        if self._layer is not None or lock.busy == get_ident():
            return changed  # inside a transaction nothing can be new
        self._look(changed)
        return changed

    def revert(self) -> None:
        """Drop what is held: what others committed, and what this process did before, takes its place."""
        self._refuse_in_transaction("revert")
        lock = self._store.lock
        with lock.mutex:
            if not self.dirty():
                return
            try:
                lock.busy = get_ident()
                self._catch_up(locked=False)  # if that is not possible, nothing is dropped
                self._store.forget()  # first: a Ctrl-C from now on has everything read anew
                self._held = self._new_layer(user=True) if self._depth else None
                lifecycle.released(self)
                self._catch_up(locked=False)
            finally:
                lock.busy = 0
                if lock.deferred:
                    lock.run_deferred()

    def dirty(self) -> set[K]:
        """Return the keys whose changes are held."""
        return self._held.changes.keys() if self._held is not None else set()

    def _refuse_in_transaction(self, what: str) -> None:
        lock = self._store.lock
        if lock.transaction is not None and lock.thread == get_ident():
            message = f"{what} inside a transaction of {lock.transaction!r}: it commits at its end, by itself"
            raise TransactionError(message, self._path)
        lock.wait_for_other_thread(self._store.timeout)

    # --- atomic across processes

    def transaction(self) -> Transaction[Self]:
        """Hold the lock, bring in what others changed, and commit everything the block does, or, on an exception, nothing.

        Its changes are one line of the journal, whether or not the POD is held. Inside another one it is a savepoint.

        >>> pod = POD("accounts.pod")
        >>> pod.update({"me": 10, "you": 0})
        >>> with pod.transaction():
        ...     pod["me"] -= 5
        ...     pod["you"] += 5

        Raises:
            LockTimeout: the lock could not be had.
            TransactionError: another object of the same directory is inside a transaction of this thread.
        """
        return Transaction(self, lambda: self)

    def edit(self, key: K, default: V = ABSENT) -> Transaction[V]:
        """Give the value of `key` to be mutated in place, and commit it at the end of the block, in one transaction.

        What is given is a copy: on an exception nothing changes. Without the key it is a copy of `default`, or a KeyError.

        >>> pod = POD("my.pod")
        >>> with pod.edit("seen", default=[]) as seen:
        ...     seen.append("https://example.org")
        """

        def begin() -> V:
            value = dict.get(self, key, default)
            if value is ABSENT:
                raise KeyError(key)
            copy: V = self._codec.copy(value, self._default, key)
            return copy

        def end(value: V) -> None:
            self[key] = self._codec.copy(value, self._default, key)

        return Transaction(self, begin, end)

    def incr(self, key: K, by: float = 1, default: float = 0) -> V:
        """Add `by` to the number at `key`, which is `default` if it is missing, in one transaction; return the sum."""
        with self.transaction():
            value: Any = dict.get(self, key, default)
            total: V = value + by  # the caller says that it is a number
            self[key] = total
            return total

    # --- life

    @property
    def path(self) -> str:
        """The directory, absolute."""
        return self._path

    @property
    def mode(self) -> str:
        """The mode it was opened with, "a" or "r"."""
        return self._mode

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return False

    def close(self) -> None:
        """Write what is held, and let go of the directory; after that every use but `close` raises ClosedPODError.

        Raises what `unhold` does; it is still open then. DirectoryGoneError is raised when it was closed.
        """
        store = self._store
        if self._is_pending() or store.wrote or store.lock.transaction is self:
            self._refuse_in_transaction("close")
        closed = closed_class(type(self))  # first, since code of a subclass may run in it
        with store.lock.mutex:
            depth, self._depth = self._depth, 0
            try:
                self._release()
                self._settle()
            except DirectoryGoneError:
                self._close(closed)
                raise
            except BaseException:
                self._depth = depth
                raise
            self._close(closed)

    def _close(self, closed: type[Self]) -> None:
        lifecycle.closed(self)
        self._store.close()
        # orjson and other code in C reads a dict past its methods: there must be nothing to read
        dict.clear(self)
        del self._store
        self.__class__ = closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), self._path, self._mode, self._options)

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return self.__reduce__()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._path!r}, {len(self)} entries)"

    def _repr_html_(self) -> str:
        from tastypy.notebook import pod_html  # noqa: PLC0415 - for notebooks only

        return pod_html(self)

    # --- health

    def check(self) -> list[str]:
        """Return the problems that a look at every file finds; an empty list if all is well."""
        return check_store(self._store)

    def repair(self) -> list[str]:
        """Set aside what is damaged, keep the rest; return what was done. See also `tastypy.repair`."""
        store = self._store
        store.require_writable("repair")
        self._refuse_in_transaction("repair")
        with explained(self._path):
            return store.lock.run(self._repair, store.timeout, self._meanwhile)

    def _repair(self) -> list[str]:
        self._store.check_place()  # nothing of a `.lock` that is gone, or another directory's, is of use
        done = health.repair(self._store)
        with suppress(WrongTypeError):  # what was done is told first; the next use finds that value
            self._catch_up(locked=True)
        return done

    def stats(self) -> Stats:
        """Return the figures of the directory, as of the last time that it was read."""
        return self._store.stats(len(self))


POD = PersistentOrderedDict


class Hold(Generic[P]):
    """What `hold` returns: a context manager that ends the hold."""

    __slots__ = ("_pod",)

    def __init__(self, pod: P) -> None:
        self._pod = pod

    def __enter__(self) -> P:
        return self._pod

    def __exit__(self, *_: object) -> None:
        self._pod.unhold()


def check(path: str | os.PathLike[str]) -> list[str]:
    """Return the problems of the POD at `path`, which may be too damaged to be opened; an empty list if all is well."""
    place = require(path)
    if not os.path.lexists(os.path.join(place, files.LOCK)):
        return [f"{files.LOCK}: missing; opening the POD recovers it"]
    return check_store(Store(place, writable=False, load=False))


def repair(path: str | os.PathLike[str], *, timeout: float = 300) -> list[str]:
    """Set aside what is damaged in the POD at `path`, keep the rest; return what was done.

    Nothing is thrown away: what cannot be used is in files whose names begin with `aside-`.

    Args:
        path: the directory.
        timeout: seconds to wait for another process that holds the lock.
    """
    place = require(path)
    store = Store(place, timeout=timeout, load=False)
    if store.lock.transaction is not None and store.lock.thread == get_ident():
        message = f"repair of {place} inside a transaction of {store.lock.transaction!r}"
        raise TransactionError(message, place)
    with explained(place):
        done = store.lock.run(partial(health.repair, store), store.timeout)
    store.close()
    return done


def require(path: str | os.PathLike[str]) -> str:
    """Return the path of the POD there, absolute.

    Raises:
        MissingPODError: there is none.
    """
    place = files.absolute(path, "the path of a POD")
    with explained(place):
        there = health.has_files(place)
    if not there:
        message = f"there is no POD at {place}"
        raise MissingPODError(message, place)
    return place


def check_store(store: Store) -> list[str]:
    """Return the problems of a directory: under the lock if that can be had, else those that stay when one looks again."""
    with explained(store.path):
        if store.writable:
            return store.lock.run(partial(health.check, store), store.timeout)
        problems = health.check(store)
        for _ in range(3):
            if not problems:
                break
            problems = list(filter(health.check(store).__contains__, problems))
        return problems


def _check_options(
    mode: Any, *, timeout: Any, durable: Any, default: Any, gzipped: Any, shard_bytes: Any, lock: Any
) -> None:
    if lock not in ("flock", "lease", None):
        message = f'lock must be "flock" or "lease", not {lock!r}'
        raise ValueError(message)
    if mode not in ("a", "r"):
        message = f'mode must be "a" (read and write) or "r" (read only), not {mode!r}'
        raise ValueError(message)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        message = f"timeout must be a number of seconds, not {timeout!r}"
        raise TypeError(message)
    if not timeout >= 0:
        message = f"timeout must be 0 or more seconds, not {timeout!r}"
        raise ValueError(message)
    if default is not None and not callable(default):
        message = f"default must be callable, not {default!r}"
        raise TypeError(message)
    for name, flag in (("durable", durable), ("gzipped", gzipped or False)):
        if not isinstance(flag, bool):
            message = f"{name} must be True or False, not {flag!r}"
            raise TypeError(message)
    if shard_bytes is not None:
        if isinstance(shard_bytes, bool) or not isinstance(shard_bytes, int):
            message = f"shard_bytes must be an int, not {shard_bytes!r}"
            raise TypeError(message)
        if shard_bytes < 1:
            message = f"shard_bytes must be 1 or more, not {shard_bytes!r}"
            raise ValueError(message)


def _codec_of(kind: Any, path: str, default: Callable[[Any], Any] | None) -> Codec:
    from tastypy.typed import codec_of  # noqa: PLC0415 - nobody else needs what compiles type hints

    return codec_of(kind, path, default)


def _reopen(cls: type[PersistentOrderedDict[Any, Any]], path: str, mode: str, options: dict[str, Any]) -> Any:
    return cls(path, mode=mode, **options)
