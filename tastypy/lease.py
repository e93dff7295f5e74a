"""The lock of a directory on a mount without flock: `filelock.SoftFileLease`, a marker file that its holder renews.

Another process takes the marker over when it has not seen it renewed for `DURATION`, or at once where it sees that the holder's
process is gone, which only the same host can. What follows from that for what is written is `fencing`'s.

A thread takes and drops the lease: filelock does so in Python, where a Ctrl-C could leave it halfway, and a Ctrl-C comes to the
main thread alone. This one only puts what it wants into a queue, which is one call of a function written in C.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple
from weakref import finalize

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from tastypy import files
from tastypy.errors import DirectoryGoneError, SettingsError, TastypyError, TransactionError, storage_error
from tastypy.lifecycle import THREADS
from tastypy.lock import DirectoryLock, gone

log = logging.getLogger("tastypy")

DURATION = 30.0  # seconds; of all processes of a directory
_UNWRITTEN = 2.0  # seconds after which a marker that is still empty is that of a process which has died meanwhile
_PATIENCE = 10.0  # seconds to wait, at the end of a commit, until the lease is dropped
_NONE_AT_EXIT = (3, 12) <= sys.version_info < (3, 12, 3)  # no thread can be started then: python/cpython issue 113964


class Lease:
    """A lease on a marker file, which is there as long as it is had.

    Attributes:
        path: of the marker.
    """

    def __init__(self, path: str, mode: int) -> None:
        self.path = path
        # of all threads: one takes it, and another asks for its token
        self._lease = SoftFileLease(path, mode=mode, thread_local=False, lease_duration=DURATION)
        self._empty: tuple[tuple[int, int], float] | None = None  # a marker that was seen so, and since when

    def take(self) -> bool:
        """Try to take it; tell whether it is had.

        Raises:
            SettingsError: its holder counts on another duration, as another version of this package may.
            OSError: the file system failed.
        """
        try:
            self._lease.acquire(blocking=False)
        except Timeout:
            self._remove_empty()
            return False
        except LeaseSettingsMismatch as error:
            message = f"{error}: use the same version of tastypy everywhere"
            raise SettingsError(message, self.path) from error
        return True

    def is_empty(self) -> bool:
        """Tell whether its marker is there, and nothing was written to it."""
        return self._empty is not None

    def is_free(self) -> bool:
        """Tell whether nobody has it, by taking and dropping it; so the marker of a dead holder is removed. Raises what `take` does."""
        return self.take() and self.drop()

    def _remove_empty(self) -> None:
        """Remove a marker that has been empty for some time, which filelock leaves for ever."""
        try:
            status = os.lstat(self.path)
        except FileNotFoundError:
            self._empty = None
            return
        marker = status.st_ino, status.st_mtime_ns
        now = time.monotonic()
        if status.st_size:
            self._empty = None
        elif self._empty is None or self._empty[0] != marker:
            self._empty = marker, now
        elif now - self._empty[1] > _UNWRITTEN:
            age = now - self._empty[1]
            log.warning("%s was empty for %.0f s, and is removed: who made it has died", self.path, age)
            # should it be another one by now, its holder finds that out, as all that lose theirs
            files.remove(self.path)

    def is_had(self) -> bool:
        """Tell whether the marker says that it is had here."""
        owner, token = self._lease.owner, self._lease.token
        return owner is not None and token is not None and owner.token == token

    def drop(self) -> bool:
        """Drop it, if it is had; what was done under it is done all the same."""
        try:
            self._lease.release(force=True)
        except OSError as error:
            log.warning("%s could not be dropped, and is taken over by others: %s", self.path, error)
        return True

    def holder(self) -> str:
        """Return, for a message, who has it."""
        owner = self._lease.owner
        return f"process {owner.pid} on {owner.hostname}" if owner else "nobody who can be told"


class _Request(NamedTuple):
    """What the keeper is to do, and where it puts what came of it, if somebody waits for that."""

    action: Callable[[], bool]
    reply: SimpleQueue[bool | Exception] | None


class LeaseLock(DirectoryLock):
    """The lock of one directory in this process, a lease."""

    leased = True

    def __init__(self, path: str, descriptor: int) -> None:
        self._mode = files.permissions_in(os.path.dirname(path))
        super().__init__(path, descriptor)
        if _NONE_AT_EXIT:
            log.warning(
                "%s has leases, which need threads, and Python %s starts none at its exit: close it before, or use 3.12.3 or newer",
                os.path.dirname(path),
                sys.version.split()[0],
            )

    def _reset(self) -> None:
        super()._reset()
        self._requests: SimpleQueue[_Request | None] = SimpleQueue()
        # not at the exit of the process, when held changes may have to be written yet
        finalize(self, self._requests.put, None).atexit = False
        self._keeper: Thread | None = None
        self._lease = Lease(self._marker(), self._mode)
        self.use(self.descriptor)

    def _marker(self) -> str:
        return os.path.join(os.path.dirname(self.path), files.LEASE)

    def use(self, descriptor: int) -> None:
        """Take a descriptor of `.lock`, which is read, and not locked."""
        self.descriptor = descriptor
        self.let_go = partial(self._requests.put, _Request(self._lease.drop, None))

    def is_had(self) -> bool:
        """Tell whether the lease is still this process's."""
        return self._lease.is_had()

    def _finder(self) -> str:
        return f"{self._lease.path}: it is {self._lease.holder()}"

    def _attempt(self, descriptor: int) -> bool:
        if self._lease.path != self._marker():  # the directory was renamed, and opened again
            self._lease = Lease(self._marker(), self._mode)
            self.use(descriptor)
        try:
            if not self.do(self._lease.take):
                return False
        except OSError as error:
            if isinstance(error, TastypyError):
                raise
            if error.errno in files.VANISHED:
                raise DirectoryGoneError(gone(self.path), self.path) from error
            raise storage_error(self.path, error) from error
        self.deferred.append(self._wait_until_dropped)
        return True

    def do(self, action: Callable[[], bool]) -> bool:
        """Have the keeper do something; return, or raise, what came of it."""
        outcome = self._ask(action, None)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _ask(self, action: Callable[[], bool], timeout: float | None) -> bool | Exception:
        if self._keeper is None or not self._keeper.is_alive():  # a Ctrl-C may have come before it was started
            self._keeper = Thread(target=_keep, args=(self._requests,), name=THREADS[0], daemon=True)
            self._keeper.start()
        reply: SimpleQueue[bool | Exception] = SimpleQueue()
        self._requests.put(_Request(action, reply))
        return reply.get(timeout=timeout)

    def _wait_until_dropped(self) -> None:
        """Wait, after a commit, until the lease is dropped, so that the process may end then."""
        if self.transaction is not None:
            message = f"{self._marker()} is had until the end of a transaction"
            raise TransactionError(message, self.path)  # which has this put off to then
        with suppress(Empty):
            self._ask(self._lease.is_had, _PATIENCE)


def _keep(requests: SimpleQueue[_Request | None]) -> None:
    while (request := requests.get()) is not None:
        outcome: bool | Exception
        try:
            outcome = request.action()
        except Exception as error:  # noqa: BLE001 - whoever asked raises it
            outcome = error
        if request.reply is not None:
            request.reply.put(outcome)
