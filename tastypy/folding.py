"""The fold: merge a journal into shards, all of them at one moment.

With the lock held and everything applied: create the next journal, empty; write each shard that has changed keys under its
next name; write the header into the new journal; write the new epoch into `.lock`, which is the commit; seal the old journal;
remove what is not needed any more. Before the commit the old journal with its shards is whole, after it the new one is.
Where the lock is a lease, the seal is the commit, and comes before `.lock` (see `fencing`).

A fold of a large POD is done in steps, in the commits of one process, so that nobody waits for all of it. What is appended
to the old journal meanwhile is copied into the new one, after its header.

A fold writes text that was committed: entries that did not change come from the old shard as they stand, those that did
from the journal. It never looks at the objects in memory, which the user may have mutated without saying so.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from tastypy import chance, fencing, files, mounts
from tastypy import format as form
from tastypy.changes import Changes
from tastypy.errors import CommitError, TastypyError, UnknownOutcomeError
from tastypy.merging import Order, OutOfOrderError, Piece, add_net_entries, merge
from tastypy.reading import Position, without_collector
from tastypy.shards import pack, shard_text

if TYPE_CHECKING:
    from tastypy.store import Store

log = logging.getLogger("tastypy")

_FULL = (errno.ENOSPC, errno.EDQUOT)
_AT_ONCE = 4 << 20  # bytes of a POD that is folded in one step
_STEP = 1 << 18  # bytes of a journal that are read in one step; of shards it is one
_GROWTH = 8  # a fold in steps is done when the journal has grown by this part of its size
_FILES = 8  # of an old epoch are removed at once
_TOO_LARGE = 3  # times its limit; such a journal is folded in one step, since those who began to do so do not go on


def fold(store: Store, *, always: bool = False) -> bool:
    """Fold, with the lock held and the news applied; return whether there was anything to fold, or `always`.

    Raises:
        CommitError: something could not be written; everything is as before.
    """
    here, header = store.position, store.header
    if here is None:
        message = "a fold needs everything applied"
        raise RuntimeError(message)
    abandon(store)
    if here.offset == len(header.encode()) and not always:
        with _failing(store):
            store.seal()  # whose fold it was may have died, and then the commit need not be on stable storage
        return False
    # one that is done always comes in the middle of a commit, when memory has what is not committed yet
    without_collector(partial(_fold, store, here, None if always else store.keys()))
    return True


def _fold(store: Store, here: Position, keys: list[Any] | None) -> None:
    whole = Fold(store, here, keys, whole=True)
    while not whole.step(here):
        pass


def advance(store: Store) -> None:
    """Do a step of a fold if it is time for it, with the lock held and the news applied, the journal being past its limit.

    The last steps, in which old files are removed, come after the commit: till then the new journal's limit is none.

    Raises what `fold` does.
    """
    here = store.position
    if here is None:
        return
    if store.left:
        _remove_left(store, _FILES)
        return
    under_way = _under_way(store)
    if under_way is None:
        if store.shard_sizes() + here.offset <= _AT_ONCE or is_too_large(store) or store.lock.leased:
            fold(store)
            return
        taken = _last_number(store)
        if taken > max(store.header.epoch, store.seen):
            store.seen = taken  # somebody seems to be at it; if nothing has come of that by then, it is done here
            store.limit = round(store.limit * chance.uniform(1.25, 1.5))  # not all at once
            return
        store.under_way = under_way = Fold(store, here, store.keys())
    if under_way.is_due(here):
        under_way.step(here)


def is_too_large(store: Store) -> bool:
    """Tell whether the journal is so long that whoever commits next folds it at once."""
    return store.position is not None and store.position.offset > _TOO_LARGE * store.regular_limit()


def fold_up_to(store: Store, seq: int) -> bool:
    """Do a step of getting the batches up to number `seq` into the shards; tell whether they are, on stable storage.

    With the lock held and the news applied. Raises what `fold` does.
    """
    here, header = store.position, store.header
    at_once = here is None or store.shard_sizes() + here.offset <= _AT_ONCE or store.lock.leased
    if here is None or at_once or here.offset == len(header.encode()):
        fold(store)
        return True
    if store.left:
        _remove_left(store, _FILES)
    elif header.seq >= seq:
        with _failing(store):
            store.seal()
        return True
    else:
        store.under_way = _under_way(store) or Fold(store, here, store.keys())
        store.under_way.step(here)
    return False


def _under_way(store: Store) -> Fold | None:
    """Return the fold that this process has under way; one of its parent is dropped."""
    if store.under_way is not None and not store.under_way.is_mine():
        store.under_way.drop()
    return store.under_way


def abandon(store: Store) -> None:
    """Drop a fold that is under way, and what it wrote; or remove what the last one has left."""
    under_way = _under_way(store)
    if under_way is not None:
        under_way.abandon()
    if store.left:
        _remove_left(store, None)


class Fold:
    """A fold of what was committed up to the position `here`, done as a `whole` or step by step.

    It is made with the lock held and everything applied. `keys` are all that there are, in order, or None if that is not known.
    """

    def __init__(self, store: Store, here: Position, keys: list[Any] | None, *, whole: bool = False) -> None:
        self._store = store
        self._whole = whole
        self._process = os.getpid()
        self._header = store.header
        self._here = here
        self._last = store.header.last
        self._later: list[bytes] = []  # the lines that were appended since, for the next journal, up to a position
        self._up_to = here
        self._done = 0
        self._size = store.shard_sizes() + here.offset
        self._new: _Epoch | None = None
        self._keys = keys
        if not whole:  # others see that somebody is at it
            with _failing(store):
                self._new = _Epoch(store)
        self._steps = self._prepare()

    def is_mine(self) -> bool:
        """Tell whether it is of this process, and not of its parent."""
        return self._process == os.getpid()

    def drop(self) -> None:
        """Do no more; what was written has been, or will be, removed by another fold."""
        self._store.under_way = None
        self._steps.close()  # or it and this would keep each other, and the store with its descriptors

    def is_due(self, now: Position) -> bool:
        """Tell whether less is done than the journal has grown since the begin."""
        grown = (now.offset - self._here.offset) * _GROWTH
        return self._done * self._here.offset <= self._size * grown

    def step(self, now: Position) -> bool:
        """Do the next step, with the lock held and everything up to `now` applied; tell whether it was the last one, the commit.

        Raises:
            CommitError: something could not be written; everything is as before, and this fold is over.
        """
        store = self._store
        try:
            with _failing(store):
                self._take_later_lines(now)  # at each step, or the last one took long, with all of them
                new = without_collector(partial(next, self._steps))
                if new is None:
                    return False
                self.drop()
                header, end = new.finish(self._here.seq, self._last, self._later)
        except BaseException as error:
            self.abandon(error)
            raise
        if header.leased:
            fencing.seal(store, now, header.epoch)
        _commit(store, header, end, None if self._whole else _FILES)
        return True

    def abandon(self, error: BaseException | None = None) -> None:
        """Remove what was written, because of an error perhaps."""
        self.drop()
        if self._new is not None:
            self._new.undo(error)

    def _prepare(self) -> Generator[_Epoch | None]:
        """Do step after step, and yield None after each; at last the epoch, all of whose shards are written."""
        store, header, start = self._store, self._header, len(self._header.encode())
        changes = Changes()
        put: set[Any] = set()
        at = Position(header.epoch, start, header.seq)
        while at.offset < self._here.offset:
            lines = store.applied_lines(at, self._here, _STEP)
            put.update(*[record["put"] for record in lines.records if "put" in record])
            add_net_entries(changes, lines.records, lines.lines)
            at = Position(at.epoch, at.offset + lines.length, lines.seq)
            self._last = (*self._last, *map(form.stamp, lines.lines[-form.STAMPS :]))[-form.STAMPS :]
            self._done += lines.length
            yield None
        if self._new is None:
            self._new = _Epoch(store)
        try:
            yield from self._write(self._new, changes, Order(self._keys, put) if self._keys else None)
        except OutOfOrderError:
            log.debug("%s: the keys in memory are others than those in the shards", store.path)
            self._new.undo(None)
            self._new = _Epoch(store)
            yield from self._write(self._new, changes, None)
        yield self._new

    def _write(self, new: _Epoch, changes: Changes, order: Order | None) -> Generator[None]:
        """Write shard after shard, and yield after each."""
        for piece in merge(self._store, self._header, changes, order):
            new.add(piece)
            self._done += piece[0].size if piece[0] else 0
            yield

    def _take_later_lines(self, now: Position) -> None:
        """Take the lines that were appended since the last time."""
        store, here = self._store, self._up_to
        if now == here:
            return  # without a look: a whole fold is here for each shard, and nobody else can append meanwhile
        *lines, rest = store.read_tail(here.epoch, here.offset)[: now.offset - here.offset].split(b"\n")
        if rest or len(lines) != now.seq - here.seq or not all(map(form.is_good, lines)):
            lines = store.applied_lines(here, now).lines  # which says what is wrong
        self._later += [form.without_mark(line) if b',"synced":' in line else line + b"\n" for line in lines]
        self._up_to = now


def write_epoch(store: Store, pieces: Iterable[Piece], seq: int) -> None:
    """Write a new epoch, with the lock held, whose shards are the `pieces`."""
    with _failing(store):
        new = _Epoch(store)
        try:
            for piece in pieces:
                new.add(piece)
            header, end = new.finish(seq, (), [])
        except BaseException as error:
            new.undo(error)
            raise
    _commit(store, header, end, None)


class _Epoch:
    """An epoch that is being written."""

    def __init__(self, store: Store) -> None:
        store.check_place()
        self._store = store
        self._header = store.header
        self._number, descriptor = _take_number(store)
        files.close(descriptor)
        self._shards: list[form.Shard] = []
        self._free = store.header.next
        self._written: list[str] = []

    def add(self, piece: Piece) -> None:
        """Write the next shard, unless it stays as it is."""
        store, header = self._store, self._header
        shard, entries = piece
        if entries is None:
            self._shards += [shard] if shard else []
            return
        number = self._free if shard is None else shard.number
        self._free = max(self._free, number + 1)
        text = shard_text(entries)
        data = pack(text) if header.gzipped else text
        self._written.append(files.shard_name(number, self._number, gzipped=header.gzipped))
        files.write_new(store.file(self._written[-1]), data, store.permissions)
        self._shards.append(form.Shard(number, self._number, len(entries), len(data), form.crc_text(data)))

    def finish(self, seq: int, last: tuple[str, ...], lines: list[bytes]) -> tuple[form.Header, Position]:
        """Write the header, and the lines after the batches that are in the shards: all but the commit.

        `seq` is the number of the last one of these, `last` has the stamps of the last ones.

        Return the header, and the position after the lines.
        """
        store, header = self._store, self._header
        new = header._replace(
            epoch=self._number, before=header.epoch, seq=seq, next=self._free, shards=tuple(self._shards), last=last
        )
        text = b"".join([new.encode(), *lines])
        descriptor = files.open_to_append(store.file(files.journal_name(self._number)))
        try:
            files.write_and_sync(descriptor, text)
        finally:
            files.close(descriptor)
        files.sync_directory(store.path)
        return new, Position(self._number, len(text), seq + len(lines))

    def undo(self, cause: BaseException | None) -> None:
        """Remove what was written; the journal stays, empty, so that nobody else uses its number.

        This process tries again with it, unless it was something else than a full disk that was in the way.
        """
        store, journal = self._store, files.journal_name(self._number)
        store.failed = None
        for name in self._written:
            files.remove(store.file(name))
        try:
            files.cut(store.file(journal), 0)
        except OSError as error:
            log.warning("%s: %s could not be emptied: %s", store.path, journal, error)
        else:
            if cause is None or getattr(cause, "errno", None) in _FULL:
                store.failed = os.getpid(), store.header.epoch, self._number


@contextmanager
def _failing(store: Store) -> Iterator[None]:
    """Turn a bare OSError in the body, which is what precedes the commit, into a CommitError."""
    try:
        yield
    except TastypyError:
        raise
    except OSError as error:
        file = error.filename2 or error.filename  # of a rename, what is in the way
        what = f"{error.strerror}: {file}" if file else error.strerror
        if error.errno in files.VANISHED and not store.local:  # somebody else folded under the same lock
            store.check_place()
            if store.lock.leased:
                raise fencing.lost(store) from error
            raise mounts.incoherent(
                store.path, f"folding failed ({what}), though nobody else may remove anything", error.errno
            ) from error
        message = f"{store.path}: folding failed ({what}); the shards and the journal are as before"
        raise CommitError(message, store.path, error.errno) from error


def _take_number(store: Store) -> tuple[int, int]:
    """Return the number of the new epoch, and its journal, empty.

    It is that of the fold of this process that failed last, if it still is after all that was committed: on a full disk each
    trial would leave another journal, until there is room for none.
    """
    epoch = store.header.epoch
    if store.failed and store.failed[:2] == (os.getpid(), epoch):
        with suppress(FileNotFoundError):
            return store.failed[2], files.open_to_append(store.file(files.journal_name(store.failed[2])))
    return store.create_journal(epoch + 1)


def _last_number(store: Store) -> int:
    """Return the last number that a fold of another process has taken, or that of the epoch."""
    # not by asking for the next name: once it was missing, a network file system may say so for a minute after it is there
    epoch = max(name.epoch for name in files.names_in(store.path).values() if name and name.kind == "journal")
    return epoch if store.failed is None or store.failed[2] != epoch else epoch - 1


def _commit(store: Store, header: form.Header, end: Position, most: int | None) -> None:
    """Write the epoch into `.lock`, and remove old files, at most so many now.

    Once that began nothing is removed, and whatever it was that failed is read again.
    """
    line = header.lock_line
    try:
        files.replace_line(store.lock.open(), line.encode())
    except BaseException as error:
        store.forget()
        if isinstance(error, OSError):
            message = f"{store.path}: writing .lock failed ({error.strerror}); what came of it is read at the next use"
            raise UnknownOutcomeError(message, store.path, error.errno) from error
        raise
    store.settle(header, end)
    store.wrote = end.seq > header.seq  # what came meanwhile is in the new journal
    try:
        if not header.leased:
            with suppress(FileNotFoundError):  # a repair may have had shards only
                _seal(store, header)
        clean(store, most)
    except OSError as error:
        log.warning("%s: the journal before could not be sealed, or old files not be removed: %s", store.path, error)


def _seal(store: Store, header: form.Header) -> None:
    descriptor = files.open_to_append(store.file(files.journal_name(header.before)))
    try:
        files.append(descriptor, form.seal_line(header.epoch))
    finally:
        files.close(descriptor)


def clean(store: Store, most: int | None = None) -> None:
    """Remove what the header does not name, the journal before the one before, and what dead folds left; see `_remove_left`.

    Where the lock is a lease, what is newer than the header is let be: somebody may have gone on.
    """
    header = store.header
    shards = {(shard.number, shard.epoch) for shard in header.shards}
    store.left = [
        name
        for name, what in files.names_in(store.path).items()
        if what
        and not (header.leased and what.epoch > header.epoch)
        and (
            (what.kind == "shard" and (what.number, what.epoch) not in shards)
            or (what.kind == "journal" and what.epoch not in (header.epoch, header.before))
            or what.kind == "temporary"
        )
    ]
    _remove_left(store, most)


def _remove_left(store: Store, most: int | None) -> None:
    """Remove files that are left of old epochs, at most so many; then the next commit goes on with it, if there are more."""
    names, store.left = store.left[:most], store.left[most:] if most else []
    store.limit = 0 if store.left else store.regular_limit()
    for name in names:
        files.remove(store.file(name))
