"""The lock of a directory: between processes by flock on `.lock`, between threads by one re-entrant mutex.

PODs of one directory in one process share a `DirectoryLock`, found by device and inode, so that they exclude each other's
threads, and so that one descriptor is the process's only one. An flock belongs to the open file description, which a
fork shares: a forked child closes its copy, never unlocks it (that would drop the parent's lock), and opens its own.

`DirectoryLock.mutex` is only ever taken by `with`: CPython lets no signal handler in between taking a lock written in C and
the block, nor between the block and its release. For the same reason unlocking is one call of a function written in C
(`let_go`), the first thing in a `finally`. filelock's `unlock_descriptor` is a Python function, whose first instruction a
Ctrl-C can hit.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from fcntl import LOCK_UN, flock
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from filelock import lock_descriptor

from tastypy import chance, files, mounts
from tastypy.backoff import CROWDED, Backoff
from tastypy.errors import (
    DirectoryGoneError,
    LeaseLostError,
    LocksUnsupportedError,
    LockTimeout,
    StorageError,
    TransactionError,
    storage_error,
)

log = logging.getLogger("tastypy")

T = TypeVar("T")

_TRIES = 10  # of a commit whose lease was lost each time
_LONG, _SHARE = 0.001, 0.1  # seconds that are long for a lock, and what part of them it is left to others for
_GENEROUS = 0.05  # seconds of that at most
WARN_AFTER = 10.0  # seconds of waiting after which a warning names the lock
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF, errno.EACCES, errno.EPERM}


class DirectoryLock:
    """The lock of one directory in this process.

    Attributes:
        path: of `.lock`.
        leased: whether it is no flock but a lease, which others may take over: see `lease`.
        local: whether it lies on a file system that is known to be local.
        descriptor: of `.lock`, open as long as a POD uses it; -1 until it is needed in a forked child, or after `drop`.
        let_go: drops the lock, where there is a descriptor; written in C.
        mutex: excludes the threads of this process; flock is taken with the mutex held.
        backoff: how long this process pauses between attempts.
        busy: the thread that is inside a commit, 0 if none is: what it calls then must not enter another one.
        transaction: the POD that is inside a transaction, if any, and `thread`, the thread that this one is of.
        bad_epoch: of a journal that nothing more may be appended to by this process, since its fdatasync failed.
        deferred: what signal handlers and finalisers asked for inside a commit, for its end.
        began: when the transaction did.
        owed: when this process may have the lock again, after it had it for long; 0 if at once.
    """

    descriptor: int = -1  # here, for `__del__` after a Ctrl-C at the first instruction of what follows
    let_go: Callable[[], object]
    leased = False

    def __init__(self, path: str, descriptor: int, *, writable: bool = True) -> None:
        self.path = path
        self.descriptor = descriptor
        self._writable = writable
        self._identity = _identity(descriptor)
        self.bad_epoch = 0
        self.local: bool = files.is_local(descriptor) and not self.leased  # where nothing that may be stale is believed
        self._reset()
        self.use(descriptor)

    def use(self, descriptor: int) -> None:
        """Take a descriptor of `.lock` for the one to lock."""
        self.descriptor = descriptor
        self.let_go = partial(flock, descriptor, LOCK_UN)

    def _reset(self) -> None:
        self._process = os.getpid()
        self.backoff: Backoff = Backoff(local=self.local)
        self.mutex: threading.RLock = threading.RLock()
        self.busy: int = 0
        self.transaction: Any = None
        self.thread = 0
        self.began: float = 0.0
        self.owed: float = 0.0
        self.deferred: deque[Callable[[], object]] = deque()

    def __del__(self, close: Callable[[int], None] = os.close, quietly: Any = suppress(OSError)) -> None:  # noqa: B008 - bound
        # No I/O: the descriptor goes as an unreferenced file object's would, and the kernel drops nothing that is held,
        # since who holds the lock holds a reference.
        with quietly:
            if self.descriptor >= 0:
                close(self.descriptor)

    def forked(self) -> None:
        """Forget, in a forked child, what is the parent's."""
        if self.descriptor >= 0:
            with suppress(OSError):  # closed already, when a signal came in between and this is done again
                os.close(self.descriptor)
            self.descriptor = -1
        self._reset()

    def open(self) -> int:
        """Return the descriptor, opened anew in a forked child."""
        if self.descriptor < 0:
            try:
                descriptor = files.open_lock(self.path, writable=self._writable)
            except FileNotFoundError:
                raise DirectoryGoneError(gone(self.path), self.path) from None
            except OSError as error:
                raise storage_error(self.path, error) from error
            if _identity(descriptor) != self._identity:
                os.close(descriptor)
                raise DirectoryGoneError(gone(self.path), self.path)
            self.use(descriptor)
        return self.descriptor

    def is_had(self) -> bool:
        """Tell whether the lock, which was taken, is still had: an flock is."""
        return True

    def do(self, action: Callable[[], bool]) -> bool:
        """Return what `action` returns; where the lock is a lease, a Ctrl-C does not interrupt that, but the wait for it."""
        return action()

    def wait_for_transaction(self, pod: Any, timeout: float) -> None:
        """Wait until no other thread is inside a transaction; one of this thread on another POD is an error.

        Polled, since a wait for the mutex that can time out cannot be written with `with`.
        """
        start = time.monotonic()
        while (other := self.transaction) is not None:
            if self.thread == threading.get_ident():
                if other is pod:
                    return
                message = (
                    f"{pod!r} cannot be changed inside a transaction of {other!r}, another object of the same "
                    "directory: use one of them for both"
                )
                raise TransactionError(message, self.path)
            if time.monotonic() - start > timeout:
                message = f"another thread is inside a transaction on {self.path} for more than {timeout} s"
                raise LockTimeout(message, self.path)
            time.sleep(chance.uniform(0.001, 0.002))

    def wait_for_other_thread(self, timeout: float) -> None:
        """Wait until no other thread is inside a transaction."""
        if self.transaction is not None and self.thread != threading.get_ident():
            self.wait_for_transaction(None, timeout)

    def take(self, timeout: float, meanwhile: Callable[[], bool]) -> None:
        """Take the lock, with the mutex held, within `timeout` seconds.

        The caller unlocks in a `finally`, whether or not this returned. `meanwhile` is called between attempts: what others
        wrote is then read before the lock is had, and the time under it stays short. It tells whether they wrote anything.
        """
        if self._process != os.getpid():
            after_fork()
            message = (
                f"{self.path}: a signal came when this process was forked; what it did then is made up for: try again"
            )
            raise StorageError(message, self.path)
        descriptor = self.descriptor if self.descriptor >= 0 else self.open()
        if self.owed:
            time.sleep(min(max(self.owed - time.monotonic(), 0.0), _GENEROUS))
            self.owed = 0.0
        if self.backoff.usual > CROWDED and (seconds := self.backoff.courtesy()):
            time.sleep(seconds)
        if not self._attempt(descriptor):
            self._wait(descriptor, timeout, meanwhile)

    def _wait(self, descriptor: int, timeout: float, meanwhile: Callable[[], bool]) -> None:
        """Attempt it until it is had."""
        backoff = self.backoff
        start = began = turn = time.monotonic()
        warned = False
        while True:
            if meanwhile():
                turn = time.monotonic()  # of another one: the lock went from hand to hand till then
            got = self._attempt(descriptor)
            now = time.monotonic()
            waited = now - start
            backoff.tried(now - began)
            if got:
                backoff.had(waited)
                return
            if waited > timeout:
                message = (
                    f"{self.path} is locked by another process or thread for more than {timeout} s: wait for it, raise timeout=, "
                    f"or find it with {self._finder()}"
                )
                raise LockTimeout(message, self.path)
            if waited > WARN_AFTER and not warned:
                warned = True
                log.warning("waiting for the lock %s since %.0f s; it is held by another process", self.path, waited)
            time.sleep(min(backoff.pause(waited, now - turn), max(timeout - waited, 0.0) + 0.001))
            began = time.monotonic()

    def _finder(self) -> str:
        """Return what tells who has the lock."""
        return f"`lsof {self.path}`"

    def _attempt(self, descriptor: int) -> bool:
        try:
            return lock_descriptor(descriptor, blocking=False)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise storage_error(self.path, error) from error
            message = (
                f"{self.path} cannot be locked ({error.strerror}): there is no flock, or this process may not write there. "
                f'{mounts.advice(self.path)}; or read it with mode="r"; or, where there can be no flock, make it with lock="lease"'
            )
            raise LocksUnsupportedError(message, self.path, error.errno) from error

    def run(self, action: Callable[[], T], timeout: float, meanwhile: Callable[[], bool] = lambda: True) -> T:
        """Return what `action()` returns, called with the lock held; inside a transaction of this thread it is held already.

        Without a `meanwhile`, where nobody follows what others do, each wait is taken for luck, and none for a lock that is kept.
        Where the lock is a lease, and was lost meanwhile, the action has changed nothing, and is done again.

        Not a context manager: the `__exit__` of one written in Python may be kept from beginning by a signal.
        """
        self.refuse_inside_commit()
        self.wait_for_other_thread(timeout)
        with self.mutex:
            if self.transaction is not None:
                return action()
            try:
                self.busy = threading.get_ident()
                self.take(timeout, meanwhile)
                left = _TRIES
                began = time.monotonic()
                while True:
                    try:
                        result = action()
                    except LeaseLostError as error:  # had again by now
                        left -= 1
                        if not left:
                            raise
                        log.warning("%s", error)
                    else:
                        self.owe(time.monotonic() - began)
                        return result
            finally:
                # In this order: a signal may be handled right after the call returned, and then nothing below is reached.
                self.busy = 0
                if self.descriptor >= 0:
                    try:
                        self.let_go()
                    except OSError as error:
                        self.drop(error)
                if self.deferred:
                    self.run_deferred()

    def owe(self, seconds: float) -> None:
        """Note that the lock was held for so long.

        Others wait, perhaps, and find it free only by chance. Whoever has it again at once, for milliseconds again, would keep
        them out for seconds: with a tenth of the time for them it is a matter of a few attempts.
        """
        if seconds > _LONG:
            self.owed = time.monotonic() + min(seconds * _SHARE, _GENEROUS)

    def refuse_inside_commit(self) -> None:
        """Raise where this thread is inside a commit: a signal handler or finaliser that it was interrupted by is calling."""
        if self.busy == threading.get_ident():
            message = f"{self.path}: a signal handler or finaliser cannot do this inside a commit that it interrupted"
            raise TransactionError(message, self.path)

    def is_mine(self) -> bool:
        """Tell whether this thread has the mutex."""
        # threading.Condition stands on this method, too; there is no public one
        return bool(self.mutex._is_owned())  # type: ignore[attr-defined]  # noqa: SLF001 - see above

    def unlock(self) -> None:
        """Drop the flock, where no second signal is expected (see the module's docstring)."""
        if self.descriptor >= 0:
            try:
                self.let_go()
            except OSError as error:
                self.drop(error)

    def drop(self, error: OSError) -> None:
        """Close the descriptor, whose lock could not be dropped otherwise; what was done under it is done all the same."""
        log.warning("%s could not be unlocked (%s), and is closed instead", self.path, error.strerror)
        descriptor, self.descriptor = self.descriptor, -1
        with suppress(OSError):
            os.close(descriptor)

    def run_deferred(self) -> None:
        """Do what was asked for inside a commit, which has ended.

        What another object's transaction does not let in, which goes on, is put off again, to its end.
        """
        for _ in range(len(self.deferred)):
            try:
                action = self.deferred.popleft()
            except IndexError:
                return  # an action's own commit, or another thread's, has done the others
            try:
                action()
            except Exception as error:
                if isinstance(error, TransactionError | LockTimeout) and self.transaction is not None:
                    self.deferred.append(action)
                    continue
                log.exception("%s: a change from a signal handler or finaliser inside a commit failed", self.path)


def _warn_of_mount(path: str, descriptor: int) -> None:
    """Log what is known to be wrong with the mount at once; processes of one host alone may be well with it."""
    mount = mounts.mount_of(descriptor)
    for remark in mounts.remarks(mount) if mount else ():
        if remark.bad:
            log.warning(
                "%s lies on %s, where several hosts must not use it: %s; %s", path, mount, remark.text, remark.remedy
            )


def gone(path: str) -> str:
    """Return what to say of a directory that is not where it was."""
    return f"{os.path.dirname(path)} was removed, moved or replaced while it was open: close the POD and open it again"


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


_locks: WeakValueDictionary[tuple[int, int], DirectoryLock] = WeakValueDictionary()
_readers: WeakValueDictionary[int, DirectoryLock] = WeakValueDictionary()
_locks_mutex = threading.RLock()  # a signal handler may open a POD while one is being opened


def lock_of(path: str, descriptor: int, *, leased: bool) -> DirectoryLock:
    """Return this process's lock of the `.lock` at `path`, of which this is a new descriptor, now the lock's to close."""
    identity = _identity(descriptor)
    with _locks_mutex:
        lock = _locks.get(identity)
        if lock is None:
            fresh = _made(path, descriptor, leased=leased)
            return _locks.setdefault(identity, fresh)  # a signal handler may have been here meanwhile
        lock.path = path  # it may have been renamed since
        if lock.descriptor < 0:  # a forked child's; its inode may even be another file's by now
            lock.use(descriptor)
            return lock
    os.close(descriptor)
    return lock


def _made(path: str, descriptor: int, *, leased: bool) -> DirectoryLock:
    if leased:
        from tastypy.lease import LeaseLock  # noqa: PLC0415 - seldom needed, and it imports threads and filelock's leases

        return LeaseLock(path, descriptor)
    lock = DirectoryLock(path, descriptor)
    if not lock.local:
        _warn_of_mount(path, descriptor)
    return lock


def reader_of(path: str) -> DirectoryLock:
    """Return a lock of its own for one who only reads: for its threads, never taken between processes."""
    lock = DirectoryLock(path, files.open_lock(path, writable=False), writable=False)
    _readers[id(lock)] = lock
    return lock


def forked() -> None:
    """Give a forked child locks of its own."""
    global _locks_mutex  # noqa: PLW0603 - the parent's may be held for ever in here
    _locks_mutex = threading.RLock()
    for lock in [*_locks.values(), *_readers.values()]:
        lock.forked()


after_fork: Callable[[], object] = (
    forked  # what makes up for a fork hook that a signal interrupted; `lifecycle` does more
)
