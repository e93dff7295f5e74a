"""What is new in a directory: from a position through the journals to the end, loading shards only where that is needed.

With the lock held, what is read is final: a torn tail is cut off, a bad line is damage. Without it, whatever does not fit
together may be a matter of time, and is read again.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from tastypy import files, mounts
from tastypy import format as form
from tastypy.errors import PersistentOrderedDictIntegrityError, TastypyError

if TYPE_CHECKING:
    from tastypy.store import Store

log = logging.getLogger("tastypy")

T = TypeVar("T")

TRIES = 100  # how often something that must be there is read again
PAUSE = 0.01  # seconds in between


class Position(NamedTuple):
    """How far the directory was read: an epoch, an offset in its journal, the number of the last batch before that."""

    epoch: int
    offset: int
    seq: int


class Doubt(NamedTuple):
    """The last line that was read without the lock, by its length and its begin, which has its crc.

    Its writer may have failed after it (fdatasync, close), cut it off again, and raised; another line may stand there now.
    """

    length: int
    begin: bytes


_CERTAIN = Doubt(0, b"")
_NEWLINE = ord("\n")


class News(NamedTuple):
    """What is new: `entries`, where they are not None, replace everything; then `records` follow.

    `marked` is the greatest offset of the journal that a line said to be on stable storage.
    """

    entries: dict[Any, Any] | None
    records: list[form.Record]
    position: Position
    header: form.Header
    doubt: Doubt | None
    marked: int


class _ReadAgainError(Exception):
    """What was read does not fit together; `final` is what to raise if it stays so."""

    def __init__(self, final: TastypyError) -> None:
        super().__init__(str(final))
        self.final = final


collector_is_off = False  # by the following: a forked child has to know


def without_collector(action: Callable[[], T]) -> T:
    """Return what `action` returns, called with the garbage collector off: of the many objects that it makes none is garbage.

    No context manager: a signal may keep the `__exit__` of one written in Python from beginning.
    """
    global collector_is_off  # noqa: PLW0603 - a process has one collector
    if not gc.isenabled():
        return action()
    try:
        collector_is_off = True
        gc.disable()
        return action()
    finally:
        gc.enable()
        collector_is_off = False


_SOME = 1 << 15  # bytes; of more so many objects are made that it is worth while to have the collector off


def read_more(store: Store, here: Position, size: int, *, locked: bool) -> News | None:
    """Return what was appended to the position's journal, which is open and has `size` bytes, if that is what nearly always is.

    That means some batches, of entries to put only, after a last line that is still there. Else None, and `read_news` tells.
    """
    skip, begin = store.doubt or _CERTAIN
    start = here.offset - skip - 1
    if size - start > _SOME:
        return None
    text = store.read_part(here.epoch, start, size - start)
    if len(text) < size - start or text[0] != _NEWLINE or text[1 : 1 + len(begin)] != begin:
        return None
    lines = text[1 + skip :].split(b"\n")
    tail = lines.pop()
    puts = form.read_puts(lines, here.seq) if lines and not tail else None
    if puts is None:
        return None
    entries: dict[Any, Any] = {}
    any(map(entries.update, puts.entries))  # all of them, since it returns None
    last = lines[-1]
    return News(
        None,
        [{"put": entries}],
        Position(here.epoch, size, here.seq + len(lines)),
        store.header,
        None if locked else Doubt(len(last) + 1, last[:17]),
        max(store.marked, *puts.marks.values()) if puts.marks else store.marked,
    )


def read_news(store: Store, data: bytes, *, locked: bool) -> News | None:
    """Return what is new since the store's position, `data` being the content of `.lock`; None if nothing is.

    Raises:
        PersistentOrderedDictIntegrityError: a damaged file.
        IncoherentFileSystemError: a sequence number out of line; or a damaged file, with the lock held on a file system that is
            not known to be local, of a directory that was whole before: so it looks where others' writes are shown late.
        DirectoryGoneError: the directory was removed or replaced.
    """
    was_read = store.position is not None or store.floor is not None
    try:
        return _read_news(store, data, locked=locked)
    except PersistentOrderedDictIntegrityError as error:
        if store.local or not locked or not was_read:
            raise
        raise mounts.incoherent(store.path, f"what was whole before is not ({error})") from error


def _read_news(store: Store, data: bytes, *, locked: bool) -> News | None:
    for attempt in range(TRIES):
        try:
            line = store.current(data, locked=locked)
            return without_collector(partial(_follow, store, line.epoch, locked=locked))
        except (_ReadAgainError, OSError) as error:
            if isinstance(error, _ReadAgainError):
                last = error.final
            elif isinstance(error, TastypyError) or error.errno not in files.VANISHED:
                raise
            else:  # a fold removed the file, or a cache does not know its name yet
                message = f"{error.filename} is missing, though it must be there"
                last = PersistentOrderedDictIntegrityError(message, store.path)
            store.forget()
            store.check_place()
            if not store.local:
                # has a client ask for the directory anew, and forget which names it once found missing
                files.names_in(store.path)
            if attempt > 2:  # a fold that ran meanwhile needs no pause
                time.sleep(PAUSE)
            data = store.read_lock_line(locked=locked)
            if store.header.leased and attempt:
                data = store.line_by_journals() or data
    raise last


class _Walk:
    """The way from a position to the end."""

    def __init__(self, store: Store, *, locked: bool) -> None:
        self.store = store
        self.locked = locked
        self.here = store.position
        self.header: form.Header = store.header
        self.entries: dict[Any, Any] | None = None
        self.records: list[form.Record] = []
        self.doubt = store.doubt
        self.marked = store.marked
        self.seal = 0

    def past(self, known: int, here: Position, text: bytes) -> tuple[Position, bytes, int]:
        """Return what `take` is to read of `text`, which begins at `here` with so many batches that are in the journal before.

        These were applied, and are not read again if all are whole, and the last one has the number that it is to have: a fold
        in steps leaves many. (With stamps of our own to compare they are read.)
        """
        if known and not self.store.own:
            *lines, rest = text.split(b"\n", known)
            seq = here.seq + known
            if len(lines) == known and form.has_number(lines[-1], seq) and all(map(form.is_good, lines[:-1])):
                return Position(here.epoch, here.offset + len(text) - len(rest), seq), rest, 0
        return here, text, known

    def take(self, here: Position, text: bytes, known: int = 0, *, cut: bool) -> None:
        """Add the batches of `text`, which begins at `here`, and move to its end; the first `known` are in the journal before."""
        lines = form.read_lines(text, here.seq, leased=self.header.leased)
        if lines.trouble == "disorder":
            name = files.journal_name(here.epoch)
            self.disorder(f"the line after batch {lines.seq} in {name}")
        self.marked = max(self.marked, lines.synced)
        end = here.offset + lines.length
        if lines.trouble == "senseless":
            self.damaged(here.epoch, end, "its CRC is right, and it is no batch")
        if 0 < lines.seal <= here.epoch:
            self.damaged(here.epoch, end - lines.last, f"a seal that names epoch {lines.seal}")
        if lines.trouble:
            floor = self.store.floor
            certain = max(here.seq + known, floor.seq if floor is not None else 0)
            if lines.seq < certain and self.store.local:
                # what a fold in steps has copied, and we had applied; elsewhere it may be a cache that shows what is not so
                self.damaged(here.epoch, end, "damaged, though it was on stable storage")
            self.trouble(here.epoch, end, text[lines.length :], lines.trouble, cut=cut)
        if self.store.own and here.seq < next(reversed(self.store.own)):  # it was read before, and has to be again
            batches = lines.lines[: len(lines.records)]  # without the seal
            self._match([*map(form.stamp, batches)], lines.seq, here.epoch)
        if known > len(lines.records):
            self.disorder(f"batch {lines.seq} at the end of {files.journal_name(here.epoch)}")
        self.records += lines.records[known:]
        self.here = Position(here.epoch, end, lines.seq)
        self.seal = lines.seal
        if lines.last and not self.locked:
            self.doubt = Doubt(lines.last, text[lines.length - lines.last :][:17])

    def trouble(self, epoch: int, end: int, rest: bytes, trouble: str, *, cut: bool) -> None:
        """Deal with a journal that is not whole from the offset `end` on."""
        store = self.store
        name = files.journal_name(epoch)
        path = store.file(name)
        floor = self.store.floor
        known = floor.offset if floor is not None and floor.epoch == epoch else 0
        if end < max(self.marked, known):
            self.damaged(epoch, end, "damaged, though it was on stable storage")
        if self.header.leased:
            if trouble == "damaged":
                self.damaged(epoch, end, "damaged")
            return  # a torn line is void, and stays, since whoever wrote it may do so still
        if not cut:
            return
        if trouble == "damaged":
            aside = files.aside_name(name)
            files.write_new(store.file(aside), rest, store.permissions)
            files.sync_directory(store.path)  # or a power cut could take its name, and leave the journal cut
            log.warning("%s: a line was lost at offset %d; what follows it was set aside in %s", path, end, aside)
        files.cut(path, end)

    def damaged(self, epoch: int, end: int, what: str) -> NoReturn:
        """Raise for a line of a journal, at the offset `end`, that must not be as it is."""
        path = self.store.file(files.journal_name(epoch))
        number = files.read_file(path)[:end].count(b"\n") + 1
        message = (
            f"{path}, line {number}: {what}. Nothing was overwritten; "
            f"`tastypy repair {self.store.path}` sets the line aside and keeps the rest"
        )
        error = PersistentOrderedDictIntegrityError(message, path)
        raise error if self.locked else _ReadAgainError(error)

    def next_epoch(self, epoch: int) -> int:
        """Return the epoch to go on with: that of `.lock`, or, without the lock or with a lease, a later one that a seal names."""
        if self.locked and self.seal > epoch and not self.header.leased:
            self.disorder(f"epoch {epoch} in .lock, after a seal that names {self.seal},")
        return max(epoch, self.seal)

    def follows(self, header: form.Header, here: Position | None) -> None:
        """Raise unless an epoch can be the next one: after the journal that was read to its end at `here`, and with our batches in it."""
        if here is not None and header.before == here.epoch and header.seq > here.seq and header.last:
            self.disorder(
                f"batch {header.seq}, up to which {files.journal_name(here.epoch)} was folded, after {here.seq}"
            )
        self._match(header.last, header.seq, header.epoch)

    def _match(self, stamps: Sequence[str], seq: int, epoch: int) -> None:
        """Raise if one of the batches up to number `seq`, with these stamps, was written here with another content."""
        for number, stamp in enumerate(stamps, seq - len(stamps) + 1):
            if self.store.own.get(number, stamp) != stamp:
                self.disorder(f"batch {number}, which epoch {epoch} has with another content than was written here,")

    def disorder(self, what: str) -> NoReturn:
        """Raise for a number that is out of line."""
        error = mounts.incoherent(self.store.path, f"{what} is out of line")
        raise error if self.locked else _ReadAgainError(error)


def _follow(store: Store, epoch: int, *, locked: bool) -> News | None:
    """Return what stands after the position, through the journals up to that of `epoch` or one that it was sealed to."""
    walk = _Walk(store, locked=locked)
    if walk.here is not None and walk.header.leased and epoch < walk.here.epoch:  # whoever wrote it was late
        epoch = walk.here.epoch
        store.sealed = 0  # so that it is written again
    if walk.here is not None and epoch < walk.here.epoch and not locked:
        return None  # a cache is older than what was read already
    if walk.here is not None:
        _finish_journal(walk, walk.here, epoch)
    epoch = walk.next_epoch(epoch)
    anew = False
    while walk.here is None or walk.here.epoch != epoch:
        walk.header, text = store.read_journal(epoch)
        start = text.find(b"\n") + 1
        walk.follows(walk.header, None if anew else walk.here)
        if anew or walk.here is None or walk.header.seq > walk.here.seq:
            anew = True
            walk.records.clear()
        known = 0 if anew or walk.here is None else walk.here.seq - walk.header.seq
        walk.marked, walk.doubt = 0, None
        walk.take(*walk.past(known, Position(epoch, start, walk.header.seq), text[start:]), cut=locked)
        epoch = walk.next_epoch(epoch)
    floor = store.floor
    if floor is not None and (walk.here.epoch < floor.epoch or walk.here.seq < floor.seq):
        walk.disorder(f"batch {walk.here.seq} of epoch {epoch} as the last one, after {floor.seq} of {floor.epoch},")
    if anew:
        walk.entries = store.load(walk.header, store.room())
    if walk.entries is None and not walk.records and walk.here == store.position:
        store.doubt = walk.doubt
        return None
    return News(walk.entries, walk.records, walk.here, walk.header, walk.doubt, walk.marked)


def _finish_journal(walk: _Walk, here: Position, epoch: int) -> None:
    """Read the position's own journal to its end; where folds removed it, everything has to be loaded."""
    current = epoch == here.epoch
    if epoch < here.epoch:
        walk.disorder(f"epoch {epoch} in {files.LOCK} after epoch {here.epoch}")
    skip, begin = walk.doubt or _CERTAIN
    start = here.offset - skip
    try:
        text = walk.store.read_tail(here.epoch, start - 1)
    except OSError as error:
        if current or error.errno not in files.VANISHED:
            raise
        walk.here = None
        return
    # The newline before it is still there, and so is the line in doubt; else something was cut off that had been read.
    if text[:1] != b"\n" or len(text) <= skip or text[1 : 1 + len(begin)] != begin:
        if walk.locked:
            walk.store.forget()  # nothing may end before what was known
            walk.here = None
            return
        message = f"{files.journal_name(here.epoch)} became shorter"
        raise _ReadAgainError(PersistentOrderedDictIntegrityError(message, walk.store.path))
    if walk.locked:
        walk.doubt = walk.store.doubt = None
    walk.take(here, text[1 + skip :], cut=walk.locked and current)
