"""The fold: merge a journal into shards, all of them at one moment.

With the lock held and everything applied: create the next journal, empty; write each shard that has changed keys under its
next name; write the header into the new journal; write the new epoch into `.lock`, which is the commit; seal the old journal;
remove what is not needed any more. Before the commit the old journal with its shards is whole, after it the new one is.

A fold writes text that was committed: entries that did not change come from the old shard as they stand, those that did
from the journal. It never looks at the objects in memory, which the user may have mutated without saying so.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from tastypy import files
from tastypy import format as form
from tastypy.changes import Changes, net
from tastypy.errors import CommitError, TastypyError, explained
from tastypy.reading import Position
from tastypy.values import encode_key

if TYPE_CHECKING:
    from tastypy.store import Store

log = logging.getLogger("tastypy")

Pieces = list[tuple[form.Shard | None, list[bytes] | None]]


@contextmanager
def collector_off() -> Iterator[None]:
    """Keep the garbage collector from looking at the many objects that are being made, of which none is garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def fold(store: Store, *, always: bool = False) -> bool:
    """Fold, with the lock held and the news applied; return whether there was anything to fold, or `always`.

    Raises:
        CommitError: something could not be written; everything is as before.
    """
    here, header = store.position, store.header
    if here is None:
        message = "a fold needs everything applied"
        raise RuntimeError(message)
    start = len(header.encode())
    if here.offset == start and not always:
        return False
    with collector_off(), explained(store.path):
        text = store.read_tail(here.epoch, start)[: here.offset - start]
        changes = net(form.read_lines(text, header.seq).records)
        write_epoch(store, lambda: merge(store, header, changes), here.seq)
    return True


def write_epoch(store: Store, pieces: Any, seq: int) -> None:
    """Write a new epoch, with the lock held, whose shards are those that `pieces()` returns.

    A piece is an old shard and its new entries: entries None leave the shard as it is, no shard makes a new one.
    """
    header, epoch = store.header, store.header.epoch
    written: list[str] = []
    created = False
    try:
        store.check_place()
        epoch, descriptor = store.create_journal(header.epoch + 1)
        created = True
        try:
            shards, free = [], header.next
            for shard, entries in pieces():
                if entries is None:
                    shards.append(shard)
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
    except BaseException as error:
        if created:
            _undo(store, epoch, written)
        if isinstance(error, OSError) and not isinstance(error, TastypyError):
            message = f"{store.path}: folding failed ({error.strerror}); everything is as before"
            raise CommitError(message, store.path, error.errno) from error
        raise
    _commit(store, new)


def _undo(store: Store, epoch: int, written: list[str]) -> None:
    """Remove what was written; the journal stays, empty, so that nobody uses its number again."""
    for name in written:
        files.remove(store.file(name))
    try:
        files.cut(store.file(files.journal_name(epoch)), 0)
    except OSError as error:
        log.warning("%s: %s could not be emptied: %s", store.path, files.journal_name(epoch), error)


def _commit(store: Store, header: form.Header) -> None:
    """Write the epoch into `.lock`. Once that began nothing is removed, and whatever it was that failed is read again."""
    line = form.LockLine(header.id, header.epoch)
    try:
        files.replace_line(store.lock.open(), line.encode())
    except BaseException as error:
        store.forget()
        store.must_fold = True
        if isinstance(error, OSError):
            message = f"{store.path}: writing .lock failed ({error.strerror}); what came of it is read at the next use"
            raise CommitError(message, store.path, error.errno) from error
        raise
    store.seal(header)
    store.settle(header, Position(header.epoch, len(header.encode()), header.seq))
    try:
        clean(store)
    except OSError as error:
        log.warning("%s: old files could not be removed: %s", store.path, error)


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


def merge(store: Store, header: form.Header, changes: Changes) -> Pieces:
    """Return the pieces of the shards with the changes."""
    pieces: Pieces = []
    put = changes.put.copy()
    deleted = changes.deleted
    front = dict.fromkeys(changes.front, b"")
    touched = deleted.keys() | front.keys() | put.keys()
    if not changes:
        return [(shard, None) for shard in header.shards]
    for shard in () if changes.clear else header.shards:
        text = store.read_shard(header, shard)
        found = form.find_entries(text, touched)
        if not found:
            pieces.append((shard, None))
            continue
        entries = form.shard_entries(text)
        gone = set()
        for key, at in found.items():
            if key in put and key not in deleted:
                entries[at] = b"%b:%b" % (form.entry_name(entries[at]), orjson.dumps(put.pop(key)))
            if key in front:
                front[key] = entries[at]
                gone.add(at)
            elif key in deleted:
                gone.add(at)
        pieces.append((shard, [entry for at, entry in enumerate(entries) if at not in gone] if gone else entries))
    new = {key: entry_of(key, value) for key, value in put.items()}
    first = [new.pop(key, b"") or entry for key, entry in reversed(front.items())]
    _extend(pieces, 0, [entry for entry in first if entry], store, header)
    _extend(pieces, len(pieces), list(new.values()), store, header)
    return list(_cut(pieces, header))


def entry_of(key: Any, value: Any) -> bytes:
    """Return the entry of a shard for a key and a value that came from a journal."""
    return b"%b:%b" % (encode_key(key), orjson.dumps(value))


def _extend(pieces: Pieces, at: int, entries: list[bytes], store: Store, header: form.Header) -> None:
    """Put entries before the first piece, or after the last one, which takes them if it has room."""
    if not entries:
        return
    neighbour = 0 if at == 0 else at - 1
    if pieces:
        shard, old = pieces[neighbour]
        if old is None and shard is not None and (at == 0 or shard.size < header.shard_bytes):
            old = form.shard_entries(store.read_shard(header, shard))
        if old is not None:
            pieces[neighbour] = shard, (entries + old if at == 0 else old + entries)
            return
    pieces.insert(at, (None, entries))


def _cut(pieces: Pieces, header: form.Header) -> Iterable[tuple[form.Shard | None, list[bytes] | None]]:
    """Yield the pieces in sizes that fit: empty ones go, small neighbours are joined, large ones are cut.

    The last piece is cut where it is full, since it goes on growing; any other one into equal parts, that have room.
    """
    limit = header.shard_bytes
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
