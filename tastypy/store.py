"""A directory under its lock: find or create it, read what is new, append a batch. It knows nothing of the dicts users see.

What may be relied on, everywhere in here: names that were never used before, files that only grow, and the content of
`.lock` read through the locked descriptor. A stat, a directory listing or a descriptor kept open are believed only on
file systems known to be local.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, NoReturn

from tastypy import fencing, files, folding, health, mounts, opening
from tastypy import format as form
from tastypy import lock as locks
from tastypy.changes import replay
from tastypy.errors import (
    CommitError,
    MissingPODError,
    PersistentOrderedDictIntegrityError,
    ReadOnlyError,
    SettingsError,
    TastypyError,
    UnknownOutcomeError,
    explained,
    storage_error,
)
from tastypy.journal import Journal
from tastypy.reading import PAUSE, TRIES, Doubt, News, Position, read_more, read_news

log = logging.getLogger("tastypy")

_LEAST_LIMIT, _MOST_LIMIT = 1 << 20, 1 << 26  # bytes that a journal may reach before it is folded
_SYNC_EVERY = 1.0  # seconds after which a commit also waits for stable storage


class Stats(NamedTuple):
    """What a directory holds: entries and shards, bytes of the shards and of the journal, and its epoch."""

    entries: int
    shards: int
    bytes: int
    journal_bytes: int
    epoch: int


class Store(Journal):
    """One object's view of a directory.

    Attributes:
        lock: of the directory; a reader's is its own and never taken.
        local: whether it lies on a file system that is known to be local.
        position: up to where everything was read and applied; None if everything has to be read anew.
        floor: a position that was known for certain before it was forgotten; nothing may end before it.
        doubt: the last line, if it was read without the lock.
        marked: the greatest offset of the journal that a line said to be on stable storage.
        sealed: the epoch whose line in `.lock` is known to be on stable storage, and its predecessor sealed.
        wrote: something was appended since the last fold of this process.
        failed: of a fold that failed, its process, the epoch that it began from, and the number that it took.
        under_way: a fold that is done in steps.
        left: the files of old epochs that one has still to remove.
        seen: the last number that another process was seen to have taken.
        keys: returns all keys in the order of the directory as of the position, or None where that is not known.
        room: returns a dict to load everything into, if there is one that is empty, else None.
        own: the stamps of the last batches that were written here, by their numbers, on file systems that are not known to be local.
        limit: bytes that the journal may reach before it is folded.
    """

    def __init__(
        self,
        path: str,
        *,
        writable: bool = True,
        timeout: float = 300,
        durable: bool = False,
        gzipped: bool | None = None,
        shard_bytes: int | None = None,
        lock: str | None = None,
        load: bool = True,
    ) -> None:
        super().__init__(path, writable=writable)
        self.timeout = timeout
        self.position: Position | None = None
        self.lock: locks.DirectoryLock
        self.local: bool
        self.floor: Position | None = None
        self.doubt: Doubt | None = None
        self.marked: int = 0
        self.wrote: bool = False
        self.failed: tuple[int, int, int] | None = None
        self.under_way: folding.Fold | None = None
        self.left: list[str] = []
        self.seen = 0
        self.keys: Callable[[], list[Any] | None] = lambda: None
        self.room: Callable[[], dict[Any, Any] | None] = lambda: None
        self.limit: int = _LEAST_LIMIT
        self._durable = durable
        self._synced_at = float("-inf")
        self.sealed: int = 0
        self.own: dict[int, str] = {}
        self._synced: int | None = None  # the offset up to which fdatasync succeeded, until a line has said so
        self._line = b""  # of .lock, as of the position
        opening.open_lock(self, lock)
        if not load:  # it is damaged, and about to be repaired
            return
        with explained(path):
            if writable:
                self.lock.run(partial(opening.find_or_create, self, gzipped, shard_bytes), timeout)
            else:
                opening.find(self)
        for name, wanted in (("gzipped", gzipped), ("shard_bytes", shard_bytes), ("lock", lock)):
            stored = getattr(self.header, name)
            if wanted is not None and wanted != stored:
                self.close()
                message = f"{path} was created with {name}={stored!r}, not {wanted!r}: leave {name} out"
                raise SettingsError(message, path)

    # --- opening

    def close(self) -> None:
        """Close the journal; the lock's descriptor goes with its last user."""
        with suppress(OSError):
            folding.abandon(self)
        self._close_journal()

    # --- reading

    @property
    def seq(self) -> int:
        """The number of the last batch that was applied; -1 if everything has to be read anew."""
        return -1 if self.position is None else self.position.seq

    def read_lock_line(self, *, locked: bool) -> bytes:
        """Return the content of `.lock`; without the lock from a descriptor of this moment, where caches would answer."""
        try:
            if self.local or (locked and not self.lock.leased):
                return files.read_at(self.lock.open(), form.LOCK_LINE_BYTES + 1, 0)
            return files.read_rewritten(self.file(files.LOCK))
        except OSError as error:
            if error.errno in files.VANISHED:
                self.check_place()
            raise

    def line_by_journals(self) -> bytes:
        """Return what `.lock` should say by the journals, where the lock is a lease, and it was written late; empty if none is whole."""
        line = health.choose(self.path)
        return line.encode() if line else b""

    def current(self, data: bytes, *, locked: bool) -> form.LockLine:
        """Return what `data`, the content of `.lock`, says; without the lock it may be read again.

        Raises:
            DirectoryGoneError: it is another directory's.
        """
        line = form.decode_lock_line(data)
        if line is None and locked:
            message = f"{self.file(files.LOCK)} is damaged: close this POD and open it again, which recovers it"
            raise PersistentOrderedDictIntegrityError(message, self.path)
        for _ in range(TRIES):
            if line is not None:
                break
            time.sleep(PAUSE)  # it is being written, or the POD created
            line = form.decode_lock_line(self.read_lock_line(locked=False))
        line = line or health.choose(self.path)
        if line is None:
            message = f"there is no POD at {self.path}: its .lock says nothing, and no journal is whole"
            raise MissingPODError(message, self.path)
        if self.id and line.id != self.id:
            self._gone()
        return line

    def news(self, *, locked: bool) -> News | None:
        """Return what is new since the position, None if nothing is; with the lock held if `locked`.

        Once it is applied, `arrive` has to be called with it. Raises what `read_news` does.
        """
        here = self.position
        try:
            if self._journal >= 0 and here is not None:  # as on local file systems only
                # by its name, not by the descriptor: where somebody moved or replaced the directory, it is another file or none
                data, size, inode = files.look(self.lock.open(), form.LOCK_LINE_BYTES + 1, self._journal_path)
                if data == self._line:
                    if inode != self._inode:
                        self.check_place()
                        self._close_journal()  # folded twice meanwhile
                    elif size > here.offset:
                        more = read_more(self, here, size, locked=locked)
                        if more is not None:
                            return more
                    elif size == here.offset and (self.doubt is None or self._is_true(self.doubt, size, locked=locked)):
                        return None
            else:
                data = self.read_lock_line(locked=locked)
                if self.local and here is not None and data == self._line:
                    with suppress(FileNotFoundError):
                        self._open_journal(here.epoch)
            return read_news(self, data, locked=locked)
        except OSError as error:
            if isinstance(error, TastypyError):
                raise
            raise storage_error(self.path, error) from error

    def _is_true(self, doubt: Doubt, size: int, *, locked: bool) -> bool:
        """Tell whether the last line, which is in doubt, is still the last of the journal, which is of this size."""
        if files.read_at(self._journal, len(doubt.begin), size - doubt.length) != doubt.begin:
            return False
        if locked:
            self.doubt = None
        return True

    def arrive(self, news: News) -> None:
        """Move to where the news ends, since they were applied."""
        if self.position is None or news.position.epoch != self.position.epoch:  # or it was forgotten
            self.settle(news.header, news.position)
        self.doubt, self.marked = news.doubt, news.marked
        self.position = news.position

    def settle(self, header: form.Header, position: Position) -> None:
        """Move to a position in another epoch."""
        self._close_journal()
        self.position = None  # an exception between these lines has everything read anew
        line = header.lock_line.encode()
        if line != self._line:  # another journal
            self._line = line
            self._synced = None
            self.wrote = False
        self.marked, self.doubt = 0, None
        self.header = header
        self._head = header.encode()
        self.id: str = header.id
        self.limit = self.regular_limit()
        if self.under_way is not None:
            self.under_way.drop()  # whoever folded has removed what it wrote
        self.left = []
        self.position = position

    def regular_limit(self) -> int:
        """Return the bytes that the journal may reach: with the data, so that folding has a constant share."""
        return min(max(self.shard_sizes() // 2, _LEAST_LIMIT), _MOST_LIMIT)

    def forget(self) -> None:
        """Have everything read anew; what comes then must not lie before what was known."""
        if self.position is not None:
            self.floor = self.position._replace(seq=self.position.seq - (self.doubt is not None))
        self.position = self.doubt = None
        self._close_journal()

    def shard_sizes(self) -> int:
        """Return the bytes of all shards together."""
        return sum(shard.size for shard in self.header.shards)

    def stats(self, entries: int) -> Stats:
        """Return the figures of the directory, `entries` being known to who asks."""
        header = self.header
        journal = self.position.offset if self.position else 0
        return Stats(entries, len(header.shards), self.shard_sizes(), journal, header.epoch)

    def committed(self) -> dict[Any, Any]:
        """Return everything that is committed up to the position, from the disk; with the lock held."""
        here, header = self.position, self.header
        if here is None:
            message = "what is committed is known up to a position only"
            raise RuntimeError(message)
        entries = self.load(header)
        start = Position(here.epoch, len(self._head), header.seq)
        replay(entries, self.applied_lines(start, here).records)
        return entries

    # --- writing

    def append(self, content: bytes, *, sync: bool = False) -> Position:
        """Commit a batch, with the lock held and the news applied; return the position after it, for when it is applied.

        Raises:
            CommitError: it could not be written; the journal is as before.
            LeaseLostError: neither, since another process has taken the lease over.
            UnknownOutcomeError: and undoing it failed, too.
        """
        here = self.position
        if here is None:
            message = "an append needs everything applied"
            raise RuntimeError(message)
        epoch, offset, seq = here
        if self.lock.bad_epoch == epoch:  # an fdatasync of this journal failed
            self.fold(always=True)
            return self.append(content, sync=sync)
        seq += 1
        said = self._synced
        line = form.batch_line(seq, content, said)
        end = offset + len(line)
        now = time.monotonic()
        if now - self._synced_at < _SYNC_EVERY and not (sync or self._durable):
            now = 0.0
        began = False
        try:
            if self.sealed != epoch:
                self.seal()
            if self.local:
                if self._journal < 0:
                    self._open_journal(epoch)
                began = True
                files.append(self._journal, line)
                if now:
                    self._sync(self._journal, now, end)
            elif self.lock.leased:
                end = fencing.append(
                    self, here, line, lambda descriptor: self._write_and_close(descriptor, line, now, end)
                )
                self._keep(seq, form.stamp(line))
            else:
                descriptor = self._open_remotely(epoch)
                began = True
                self._write_and_close(descriptor, line, now, end)
                self._keep(seq, form.stamp(line))
        except OSError as error:
            if isinstance(error, TastypyError):
                raise
            self._undo(here, error, began=began)
        if said is not None:
            self.marked = max(self.marked, said)
            if self._synced == said:
                self._synced = None
        self.wrote = True
        return tuple.__new__(Position, (epoch, end, seq))  # as `Position` does, which takes a call of Python

    def _open_remotely(self, epoch: int) -> int:
        self._check_lock_line()
        return files.open_to_append(self.file(files.journal_name(epoch)))

    def _check_lock_line(self) -> None:
        # Where the lock was lost meanwhile, a network file system fails here.
        if files.read_at(self.lock.open(), form.LOCK_LINE_BYTES + 1, 0) != self._line:
            raise mounts.incoherent(self.path, "the epoch changed under the lock, which was given to two at once")

    def _keep(self, seq: int, stamp: str) -> None:
        self.own.pop(seq, None)  # of one that was taken back
        self.own[seq] = stamp
        if len(self.own) > form.STAMPS:
            del self.own[next(iter(self.own))]

    def _write_and_close(self, descriptor: int, line: bytes, now: float, end: int) -> None:
        try:
            files.append(descriptor, line)
            if now:
                self._sync(descriptor, now, end)
        except BaseException:
            os.close(descriptor)
            raise
        files.close(descriptor)  # where a full disk is reported

    def _sync(self, descriptor: int, now: float, end: int) -> None:
        try:
            files.sync(descriptor)
        except OSError:
            # the kernel may have dropped the pages, and forgotten that it did
            self.lock.bad_epoch = self.header.epoch
            raise
        self._synced_at = now
        self._synced = end

    def _undo(self, here: Position, error: OSError, *, began: bool) -> NoReturn:
        """Cut off what a failed append left, with a fresh descriptor, if it `began` at all, and say what became of it."""
        path = self.file(files.journal_name(here.epoch))
        if error.errno in files.VANISHED:
            self.check_place()
        self._close_journal()
        self._synced = None
        gone = () if self.local else files.VANISHED
        if not began and error.errno in gone:  # folds removed it, though the lock was held all the time
            what = f"{path} is gone ({error.strerror}), and .lock names it"
            raise mounts.incoherent(self.path, what, error.errno) from error
        try:
            if began:
                files.cut(path, here.offset)
        except OSError as second:
            if second.errno in gone:
                what = f"{path} is gone ({second.strerror}), and .lock names it; whether the change was made shows at its next use"
                raise mounts.incoherent(self.path, what, error.errno) from error
            message = (
                f"{path}: writing failed ({error.strerror}), and so did undoing it ({second.strerror}): whether the change "
                "was made shows when the POD is used again"
            )
            raise UnknownOutcomeError(message, path, error.errno) from error
        message = f"{path}: writing failed ({error.strerror}); nothing was changed"
        raise CommitError(message, path, error.errno) from error

    def sync_journal(self) -> None:
        """Wait until what this process appended is on stable storage, with the lock held."""
        here = self.position
        if here is None or not self.wrote or self._synced == here.offset:  # as after a held batch, just now
            return
        path = self.file(files.journal_name(here.epoch))
        try:
            descriptor = files.open_to_append(path)
            try:
                self._sync(descriptor, time.monotonic(), here.offset)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.check_place()
            if error.errno == errno.ENOENT:
                return  # folded twice meanwhile, and so on stable storage
            message = (
                f"{path}: fdatasync failed ({error.strerror}); what was committed lately may not survive a power cut"
            )
            raise CommitError(message, path, error.errno) from error

    def fold(self, *, always: bool = False) -> None:
        """Merge the journal into the shards, with the lock held and the news applied."""
        folding.fold(self, always=always)

    def fold_up_to(self, seq: int) -> bool:
        """Do a step of merging the batches up to number `seq` into the shards; tell whether they are; as `fold` otherwise."""
        return folding.fold_up_to(self, seq)

    def fold_on(self) -> None:
        """Bring a fold on, the journal being past its limit, with the lock held and the news applied."""
        folding.advance(self)

    def seal(self) -> None:
        """Add the seal to the journal before the header's, unless it is there or this was done; with the lock held.

        Where it is missing, the writer of the fold died, or failed, between the write to `.lock` and this: nobody knows
        whether the line in `.lock` is on stable storage, and nothing may be appended to this epoch, or said to be on stable
        storage, before it is. Of the first epoch nothing tells how its creator ended.
        """
        header = self.header
        if self.sealed == header.epoch:
            return
        if self.lock.leased:
            fencing.secure(self)
            self.sealed = header.epoch
            return
        self._check_lock_line()  # it is written below as it was read: not over another one's
        if not header.before:
            if self.seq <= header.seq:
                # else whoever appended first has done this, or a recovery will do again what it did
                files.replace_line(self.lock.open(), self._line)
        else:
            seal = form.seal_line(header.epoch)
            try:
                descriptor = files.open_to_append(self.file(files.journal_name(header.before)))
            except FileNotFoundError:
                self.sealed = header.epoch  # whoever removed it had folded, and so synced
                return
            try:
                if files.read_end(descriptor, len(seal))[0] != seal:
                    files.replace_line(self.lock.open(), self._line)
                    files.append(descriptor, seal)
            finally:
                files.close(descriptor)
        self.sealed = header.epoch

    # --- what may have happened to the directory

    def require_writable(self, what: str) -> None:
        """Raise ReadOnlyError unless the directory was opened to be changed."""
        if not self.writable:
            message = f'{what}: {self.path} was opened with mode="r"; open it with mode="a" to change it'
            raise ReadOnlyError(message, self.path)
