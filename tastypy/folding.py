"""The fold: merge a journal into shards, all of them at one moment.

With the lock held and everything applied: create the next journal, empty; write each shard that has changed keys under its
next name; write the header into the new journal; write the new epoch into `.lock`, which is the commit; seal the old journal;
remove what is not needed any more. Before the commit the old journal with its shards is whole, after it the new one is.

A fold writes text that was committed: entries that did not change come from the old shard as they stand, those that did
from the journal. It never looks at the objects in memory, which the user may have mutated without saying so.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from tastypy import files
from tastypy import format as form
from tastypy.changes import Changes
from tastypy.errors import CommitError, TastypyError, UnknownOutcomeError, explained
from tastypy.reading import Position, without_collector
from tastypy.values import encode_key

if TYPE_CHECKING:
    from tastypy.store import Store

log = logging.getLogger("tastypy")

_PUT = b'"put":{'

# An old shard and its new entries. Entries None leave the shard as it is; a shard None makes a new one.
Piece = tuple[form.Shard | None, list[bytes] | None]


def fold(store: Store, *, always: bool = False) -> bool:
    """Fold, with the lock held and the news applied; return whether there was anything to fold, or `always`.

    Raises:
        CommitError: something could not be written; everything is as before.
    """
    here, header = store.position, store.header
    if here is None:
        message = "a fold needs everything applied"
        raise RuntimeError(message)
    if here.offset == len(header.encode()) and not always:
        with _failing(store):
            store.seal()  # whose fold it was may have died, and then the commit need not be on stable storage
        return False
    with explained(store.path):
        without_collector(partial(_fold, store, here))
    return True


def _fold(store: Store, here: Position) -> None:
    lines = store.applied_lines(here)
    changes = net_entries(lines.records, lines.lines)
    write_epoch(store, merge(store, store.header, changes), here.seq)


def write_epoch(store: Store, pieces: Iterable[Piece], seq: int) -> None:
    """Write a new epoch, with the lock held, whose shards are the `pieces`."""
    header = store.header
    written: list[str] = []
    with _failing(store):
        store.check_place()
        epoch, descriptor = _take_number(store)
        try:
            try:
                shards: list[form.Shard] = []
                free = header.next
                for shard, entries in pieces:
                    if entries is None:
                        shards += [shard] if shard else []
                        continue
                    number = free if shard is None else shard.number
                    free = max(free, number + 1)
                    text = form.shard_text(entries)
                    data = form.pack(text) if header.gzipped else text
                    written.append(files.shard_name(number, epoch, gzipped=header.gzipped))
                    files.write_new(store.file(written[-1]), data, store.permissions)
                    shards.append(form.Shard(number, epoch, len(entries), len(data), form.crc_text(data)))
                new = header._replace(epoch=epoch, before=header.epoch, seq=seq, next=free, shards=tuple(shards))
                files.write_and_sync(descriptor, new.encode())
            finally:
                files.close(descriptor)
            files.sync_directory(store.path)
        except BaseException:
            _undo(store, epoch, written)
            raise
    _commit(store, new)


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


def _undo(store: Store, epoch: int, written: list[str]) -> None:
    """Remove what was written; the journal stays, empty, so that nobody else uses its number."""
    store.failed = None
    for name in written:
        files.remove(store.file(name))
    try:
        files.cut(store.file(files.journal_name(epoch)), 0)
    except OSError as error:
        log.warning("%s: %s could not be emptied: %s", store.path, files.journal_name(epoch), error)
    else:
        store.failed = os.getpid(), store.header.epoch, epoch


def _commit(store: Store, header: form.Header) -> None:
    """Write the epoch into `.lock`. Once that began nothing is removed, and whatever it was that failed is read again."""
    line = form.LockLine(header.id, header.epoch)
    try:
        files.replace_line(store.lock.open(), line.encode())
    except BaseException as error:
        store.forget()
        if isinstance(error, OSError):
            message = f"{store.path}: writing .lock failed ({error.strerror}); what came of it is read at the next use"
            raise UnknownOutcomeError(message, store.path, error.errno) from error
        raise
    store.settle(header, Position(header.epoch, len(header.encode()), header.seq))
    try:
        with suppress(FileNotFoundError):  # a repair may have had shards only
            _seal(store, header)
        clean(store)
    except OSError as error:
        log.warning("%s: the journal before could not be sealed, or old files not be removed: %s", store.path, error)


def _seal(store: Store, header: form.Header) -> None:
    descriptor = files.open_to_append(store.file(files.journal_name(header.before)))
    try:
        files.append(descriptor, form.seal_line(header.epoch))
    finally:
        files.close(descriptor)


def clean(store: Store) -> None:
    """Remove what the header does not name, the journal before the one before, and what dead folds left."""
    header = store.header
    shards = {(shard.number, shard.epoch) for shard in header.shards}
    for name, what in files.names_in(store.path).items():
        if what is None:
            continue
        if (
            (what.kind == "shard" and (what.number, what.epoch) not in shards)
            or (what.kind == "journal" and what.epoch not in (header.epoch, header.before))
            or what.kind == "temporary"
        ):
            files.remove(store.file(name))


def merge(store: Store, header: form.Header, changes: Changes) -> Iterator[Piece]:
    """Yield the pieces of the shards with the changes, those of `net_entries`; one shard is in memory at a time."""
    put = changes.put.copy()
    old = () if changes.clear else header.shards
    if not changes:
        yield from ((shard, None) for shard in old)
        return
    front = dict.fromkeys(changes.front, b"")
    pieces = _change(store, header, old, Changed(put, changes.deleted, front))
    if front:
        # what moves to the front may come from any shard
        rest = list(pieces)
        first = [put.pop(name, b"") or entry for name, entry in reversed(front.items())]
        pieces = iter([(None, [entry for entry in first if entry]), *rest])
    yield from _cut(_extend(store, header, pieces, put), header.shard_bytes)


class Changed(NamedTuple):
    """What changes, by index keys: entries to be set, where `_change` leaves the new ones, and those that go or move."""

    put: dict[Any, bytes]
    deleted: dict[Any, None]
    front: dict[Any, bytes]


def _change(store: Store, header: form.Header, shards: Iterable[form.Shard], changed: Changed) -> Iterator[Piece]:
    """Yield the shards without what is deleted or moves, and with what is set in them; fill in the entries that move."""
    put, deleted, front = changed
    touched = deleted.keys() | front.keys() | put.keys()
    for shard in shards:
        text = store.read_shard(header, shard)
        entries = form.shard_entries(text)
        names = form.index_keys(text, entries)
        found = [*compress(range(len(names)), map(touched.__contains__, names))]
        gone = set()
        for at in found:
            name = names[at]
            if name in put and name not in deleted:
                entries[at] = put.pop(name) if type(name) is bytes else _respelled(put.pop(name), entries[at])
            if name in front:
                front[name] = entries[at]
            if name in front or name in deleted:
                gone.add(at)
        if gone:
            entries = [entry for at, entry in enumerate(entries) if at not in gone]
        yield shard, entries if found else None


def _respelled(entry: bytes, old: bytes) -> bytes:
    """Return the entry with the key as the old one spells it: 1, 1.0 and True are one key, and the first spelling stays."""
    return form.entry_name(old) + entry[len(form.entry_name(entry)) :]


def net_entries(records: Iterable[form.Record], lines: Iterable[bytes]) -> Changes:
    """Return the net effect of the batches, given as records and as lines, by index keys and with entries of shards as values."""
    changes = Changes()
    for record, line in zip(records, lines, strict=False):  # there may be a seal after the last batch
        if len(record) == 3 and len(record.get("put", ())) == 1:
            # crc, number and one key: most are of this kind, and its text is as it will be in the shard
            entry = line[line.index(_PUT) + len(_PUT) : -2]
            _put(changes, form.index_key_of(entry), entry)
        else:
            for field in ("del", "front"):
                if field in record:
                    record[field] = [form.index_key(key) for key in record[field]]
            changes.add({field: record[field] for field in ("clear", "del") if field in record})
            for key, value in record.get("put", {}).items():
                _put(changes, form.index_key(key), _entry(key, value))
            changes.add({"front": record.get("front", ())})
    return changes


def _put(changes: Changes, name: Any, entry: bytes) -> None:
    if type(name) is not bytes and name in changes.put:
        entry = _respelled(entry, changes.put[name])
    changes.put[name] = entry


def _entry(key: Any, value: Any) -> bytes:
    return b"%b:%b" % (encode_key(key), orjson.dumps(value))


def _extend(store: Store, header: form.Header, pieces: Iterable[Piece], put: dict[Any, bytes]) -> Iterator[Piece]:
    """Yield the pieces, and what is left in `put` after the last of them, in it if it has room."""
    last: Piece | None = None
    for piece in pieces:
        if last is not None:
            yield last
        last = piece
    new = list(put.values())
    if last is not None:
        shard, entries = last
        if new and entries is None and shard is not None and shard.size < header.shard_bytes:
            entries = form.shard_entries(store.read_shard(header, shard))
        if entries is None:
            yield last
        else:
            new = entries + new
            yield shard, new
            return
    if new:
        yield None, new


def _cut(pieces: Iterable[Piece], limit: int) -> Iterator[Piece]:
    """Yield the pieces in sizes that fit: empty ones go, small neighbours are joined, large ones are cut.

    The last piece is cut where it is full, since it goes on growing; any other one into equal parts, that have room.
    """
    waiting: tuple[form.Shard | None, list[bytes]] | None = None
    for shard, entries in pieces:
        if entries is None:
            if waiting:
                yield from _parts(*waiting, limit, last=False)
            waiting = None
            yield shard, None
        elif entries:
            if waiting and _size(waiting[1]) + _size(entries) <= limit // 2:
                waiting = waiting[0] or shard, waiting[1] + entries
                continue
            if waiting:
                yield from _parts(*waiting, limit, last=False)
            waiting = shard, entries
    if waiting:
        yield from _parts(*waiting, limit, last=True)


def _size(entries: list[bytes]) -> int:
    return sum(map(len, entries)) + 2 * len(entries)


def _parts(
    shard: form.Shard | None, entries: list[bytes], limit: int, *, last: bool
) -> Iterable[tuple[form.Shard | None, list[bytes]]]:
    """Yield the entries in parts: the first keeps the shard's number."""
    size = _size(entries)
    if size > limit:
        most = limit if last else size / -(-size // limit)
        part: list[bytes] = []
        filled = 0
        for entry in entries:
            filled += len(entry) + 2
            if part and filled > most:
                yield shard, part
                shard, part, filled = None, [], len(entry) + 2
            part.append(entry)
        entries = part
    if entries:
        yield shard, entries
