"""Who is alive: each process that claims tasks has a file of its own in the tracker's directory, and an flock on it.

The kernel drops the lock with the process, on whichever host. So whoever obtains it, or finds the file gone or stale, has
found a dead worker; any other error counts as alive. Where the directory's lock is a lease, so is each worker's, on a marker
beside its file: a worker counts as dead when it has not been seen to renew it for some time. The file is one JSON value a
line: first who it is, then, at fixed places that are written over, the tokens of the claims that the process has in hand, one
of them for each of its threads. What claims mean is left to `claims`.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet, ref

import orjson
from filelock import lock_descriptor

from tastypy import chance, entries, fencing, files
from tastypy.errors import CommitError, PermissionDeniedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tastypy.lease import Lease
    from tastypy.lock import DirectoryLock
    from tastypy.store import Store

log = logging.getLogger("tastypy")

_SLOT = 19  # bytes: a token of 16 digits in quotes, and a newline
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}
_SWEPT = 16  # files of other workers that a new one looks at

_workers: WeakKeyDictionary[DirectoryLock, Worker] = WeakKeyDictionary()
_all: WeakSet[Worker] = WeakSet()  # those of runs, too, which claim nothing
_probes: set[int] = set()  # descriptors of others' files while they may be locked by us, for a fork just then
_rivals: dict[
    str, Lease
] = {}  # by their paths, the leases of others, since how long none was renewed is theirs to know


def host() -> str:
    """Return the name of this host (that of the socket module, which takes longer to import than all of this package)."""
    return os.uname().nodename


def label_of(host: object, pid: object) -> str:
    """Return what entries call a worker, with "?" for what is not known of a dead one."""
    known = host if isinstance(host, str) else "?", pid if isinstance(pid, int) else "?"
    return "{}:{}".format(*known)


class Worker:
    """A process as the others see it. The file is there, and locked, from `begin` to `end` or the death of the process.

    Attributes:
        name: 16 hexadecimal digits, random.
        path: of its file.
        process: its id; a forked child is a worker of its own.
        label: what entries call it, "HOST:PID": its name says nothing to people once its file is gone.
        tokens: of the claims that it has.
        looked: when it was last made sure that its file is there, as its tracker counts time.
    """

    _descriptor = -1  # here, for a Ctrl-C at the first instruction of what follows

    def __init__(self, store: Store) -> None:
        self._inode = self._size = 0
        self.name: str = files.random_text(8)
        self.path: str = store.file(files.worker_name(self.name))
        self.process: int = os.getpid()
        self.label: str = label_of(host(), self.process)
        self.tokens: set[str] = set()
        self.looked: float = float("-inf")
        self._lease = _lease_of(store, self.name) if store.header.leased else None
        self._lock = ref(store.lock)  # which has this
        self._slots = count()
        self._free: list[int] = []
        self._in_hand: dict[str, int] = {}
        self._new_tokens: list[str] = []
        _all.add(self)

    def begin(self, head: bytes, temporary: str, permissions: int) -> None:
        """Create the file, which begins with `head`, first as `temporary`; with the lock held."""
        try:
            self._descriptor = files.create(temporary, permissions, append=False)
            # locked before it has its name: nobody who looks for dead workers finds it without its lock
            if not (
                lock_descriptor(self._descriptor, blocking=False) if self._lease is None else self._do(self._lease.take)
            ):
                raise OSError(errno.EWOULDBLOCK, "a new file is locked by somebody else")  # noqa: TRY301 - told like others
            self._inode = files.inode_of(self._descriptor)
            self._size = len(head)
            files.write_at(self._descriptor, head + b'"%b"\n' % (b" " * 16), 0)
            files.rename(temporary, self.path)
        except BaseException:
            files.remove(temporary)
            files.remove(self.path)  # a Ctrl-C may have come when it had its name
            self.abandon()
            raise

    def new_token(self) -> str:
        """Return a random token for a claim, 16 hexadecimal digits."""
        try:
            token = self._new_tokens.pop()
        except IndexError:  # a hundred at once, since a system call for each takes as long as ten of these
            text = files.random_text(800)
            self._new_tokens = [text[start : start + 16] for start in range(16, len(text), 16)]
            token = text[:16]
        return token

    def _do(self, action: Callable[[], bool]) -> bool:
        lock = self._lock()
        return lock.do(action) if lock is not None else action()

    @property
    def is_open(self) -> bool:
        """Whether it has not ended here, and this is no forked child."""
        return self._descriptor >= 0

    def is_whole(self) -> bool:
        """Tell whether its file is still there: others may have taken it for dead, or somebody removed it."""
        if self._descriptor < 0 or not (self._lease is None or self._lease.is_had()):
            return False
        try:
            return files.size_and_inode(self.path)[1] == self._inode
        except OSError as error:
            return error.errno not in _GONE

    def take_in_hand(self, token: str) -> None:
        """Write down that the work on a claim begins: should it kill this process, that counts as a try.

        Raises:
            CommitError: it could not be written.
        """
        if token in self._in_hand:
            return
        try:
            slot = self._free.pop()
        except IndexError:
            slot = next(self._slots)
        self._in_hand[token] = slot
        try:
            files.write_at(self._descriptor, b'"%b"\n' % token.encode(), self._size + slot * _SLOT)
        except OSError as error:
            self._free.append(self._in_hand.pop(token))
            message = f"{self.path}: what this worker has in hand could not be written ({error.strerror})"
            raise CommitError(message, self.path, error.errno) from error

    def drop(self, token: str) -> None:
        """Forget a claim that has ended. What the file says of it means nothing any more: no entry has that token."""
        self.tokens.discard(token)
        slot = self._in_hand.pop(token, None)
        if slot is not None:
            self._free.append(slot)

    def end(self) -> None:
        """Remove the file, and let go of its lock: its claims are released."""
        if self._descriptor >= 0:
            if self.is_whole():
                files.remove(self.path)
            self.abandon()

    def abandon(self) -> None:
        """Close the file, without a change to its lock, which in a forked child is the parent's."""
        if self._lease is not None and self.process == os.getpid():
            self._do(self._lease.drop)
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)

    def __del__(self, close: Any = os.close, quietly: Any = suppress(OSError)) -> None:  # noqa: B008 - bound
        with quietly:
            if self._descriptor >= 0:
                close(self._descriptor)


def current(store: Store) -> Worker | None:
    """Return this process's worker in the directory, if it has begun."""
    worker = _workers.get(store.lock)
    return worker if worker is not None and worker.process == os.getpid() else None


def begun(store: Store, who: dict[str, Any], holders: Callable[[], Iterable[str]]) -> Worker:
    """Return this process's worker in the directory, with the lock held; it begins now if it has not, or was taken for dead.

    `who` is written down for whoever looks; `holders` gives the workers that have claims: what is left of others is removed.

    Raises:
        CommitError, PermissionDeniedError: its file cannot be created.
    """
    worker = current(store)
    if worker is not None and worker.is_open:
        if worker.is_whole():
            return worker
        log.warning("%s is gone: this worker was taken for dead, and begins anew", worker.path)
        worker.abandon()
    _sweep(store, set(holders()))
    worker = begin(store, who)
    try:
        _workers[store.lock] = worker
    except BaseException:  # a Ctrl-C, since that is a method written in Python
        worker.end()
        raise
    return worker


def begin(store: Store, who: dict[str, Any]) -> Worker:
    """Return a new worker of this process, with the lock held: so no fold removes its file before that has its name."""
    worker = Worker(store)
    head = orjson.dumps({"host": host(), "pid": os.getpid(), "since": entries.time_now(), **who}) + b"\n"
    path = worker.path
    try:
        worker.begin(head, store.file(files.temporary_name()), store.permissions)
    except PermissionError as error:
        message = f"{path}: no permission to create the file of this worker ({error.strerror}); nothing was claimed"
        raise PermissionDeniedError(message, path, error.errno) from error
    except OSError as error:
        if store.lock.leased and error.errno in _GONE:  # a fold has removed it before it had its name
            raise fencing.lost(store) from error
        message = f"{path}: the file of this worker cannot be created ({error.strerror}); nothing was claimed"
        raise CommitError(message, path, error.errno) from error
    return worker


def _sweep(store: Store, holders: set[str]) -> None:
    """Remove files of workers that died without a claim, or that a process has left which did not close its tracker."""
    try:
        kinds = {name: what.kind for name, what in files.names_in(store.path).items() if what}
    except OSError as error:
        log.warning("%s cannot be listed, so what dead workers left there stays: %s", store.path, error)
        return
    names = [name for name, kind in kinds.items() if kind == "worker"]
    for name, kind in kinds.items():
        worker = files.worker_of(name)
        if kind == "lease" and files.worker_name(worker) not in kinds and not _is_held(store, worker, -1):
            files.remove(store.file(name))  # of one that died as it began, or ended
    for name in chance.sample(names, min(_SWEPT, len(names))):
        worker = files.worker_of(name)
        if worker not in holders and not is_alive(store, worker):
            remains = find_remains(store, worker)
            if remains is not None:
                remains.remove()
                remains.close()


def _close_probe(descriptor: int) -> None:
    """Close another worker's file; an error says nothing of what was done meanwhile, such as a claim."""
    _probes.discard(descriptor)
    with suppress(OSError):
        os.close(descriptor)


class Remains(NamedTuple):
    """What a dead worker left: its file, or none if that is gone."""

    name: str
    path: str
    descriptor: int
    who: dict[str, Any]
    in_hand: set[str]

    def remove(self) -> None:
        """Remove the file: its claims are released."""
        if self.descriptor >= 0:
            files.remove(self.path)

    def close(self) -> None:
        """Let go of the file."""
        if self.descriptor >= 0:
            _close_probe(self.descriptor)


def find_remains(store: Store, name: str) -> Remains | None:
    """Return what is left of a worker that is not alive, with the directory's lock held; None if it is alive all the same."""
    path = store.file(files.worker_name(name))
    descriptor = -1
    if not files.is_worker(name):  # it was written by hand, and no worker can have it
        return Remains(name, path, -1, {}, set())
    try:
        descriptor = files.open_to_lock(path)
        _probes.add(descriptor)
        if not _is_held(store, name, descriptor):
            remains = Remains(name, path, descriptor, *_read(descriptor))
            descriptor = -1
            return remains
    except OSError as error:
        if error.errno in _GONE:
            return Remains(name, path, -1, {}, set())
        log.warning("%s cannot be looked at, and its worker counts as alive: %s", path, error)
    finally:
        if descriptor >= 0:
            _close_probe(descriptor)
    return None


def _read(descriptor: int) -> tuple[dict[str, Any], set[str]]:
    """Return who a worker is, and the tokens that it has in hand; what is damaged is left out."""
    lines = files.read_from(descriptor, 0).split(b"\n")
    parsed: list[Any] = []
    for line in lines:
        try:
            parsed.append(orjson.loads(line.strip(b"\0")))  # a slot may be written before the one in front of it
        except orjson.JSONDecodeError:
            parsed.append(None)
    who = parsed[0] if parsed and isinstance(parsed[0], dict) else {}
    return who, {token for token in parsed[1:] if isinstance(token, str)}


class Seen(NamedTuple):
    """A worker's file as an onlooker sees it: the worker's name, whether it is alive, who it is, what it has in hand."""

    name: str
    alive: bool
    who: dict[str, Any]
    in_hand: set[str]


def seen(store: Store) -> list[Seen]:
    """Return the workers of the directory, without the lock, without a change, and without permission to write."""
    found = []
    for file, what in files.names_in(store.path).items():
        if what is None or what.kind != "worker":
            continue
        try:
            descriptor = files.open_to_lock(store.file(file), writable=False)
        except OSError as error:
            if error.errno not in _GONE:
                log.warning("%s cannot be looked at: %s", store.file(file), error)
            continue
        _probes.add(descriptor)
        try:
            name = files.worker_of(file)
            found.append(Seen(name, _is_held(store, name, descriptor, look_only=True), *_read(descriptor)))
        except OSError as error:
            log.warning("%s cannot be read: %s", store.file(file), error)
        finally:
            _close_probe(descriptor)
    return found


def is_alive(store: Store, name: str) -> bool:
    """Tell whether a worker is alive, without a change."""
    if not files.is_worker(name):  # it was written by hand, and no worker can have it
        return False
    try:
        descriptor = files.open_to_lock(store.file(files.worker_name(name)), writable=False)
    except OSError as error:
        if error.errno not in _GONE:
            log.warning("%s cannot be looked at, and its worker counts as alive: %s", name, error)
        return error.errno not in _GONE
    _probes.add(descriptor)
    try:
        return _is_held(store, name, descriptor, look_only=not store.writable)
    finally:
        _close_probe(descriptor)


def _is_held(store: Store, name: str, descriptor: int, *, look_only: bool = False) -> bool:
    """Tell whether a worker's file is locked; if that is a lease, and one may `look_only`, whether its marker is there."""
    if not store.header.leased:
        return _is_locked(descriptor)
    path = store.file(files.lease_name(name))
    if look_only:
        return os.path.lexists(path)
    rival = _rivals.setdefault(path, _lease_of(store, name))
    if not store.lock.do(rival.is_free):
        return descriptor >= 0 or not rival.is_empty()  # without a file it has died before it wrote its marker
    _rivals.pop(path, None)
    return False


def _lease_of(store: Store, name: str) -> Lease:
    from tastypy.lease import Lease  # noqa: PLC0415 - seldom needed, see `lock`

    return Lease(store.file(files.lease_name(name)), store.permissions)


def _is_locked(descriptor: int) -> bool:
    try:
        # a shared lock: who looks, or sees to what a dead worker left, is not taken for that worker by another one, whose
        # claim would then return None though there are tasks
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def forked() -> None:
    """Close, in a forked child, the files whose locks are the parent's."""
    for worker in list(_all):
        if worker.process != os.getpid():
            worker.abandon()
    while _probes:
        with suppress(OSError):
            os.close(_probes.pop())
