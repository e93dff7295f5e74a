"""What a fold makes of shards and batches: the pieces of the new shards, as text that was committed.

Nothing is written here; old shards are read, one at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from tastypy import format as form
from tastypy.changes import Changes
from tastypy.values import encode_key

if TYPE_CHECKING:
    from tastypy.directory import Directory

_PUT = b'"put":{'

# An old shard and its new entries. Entries None leave the shard as it is; a shard None makes a new one.
Piece = tuple[form.Shard | None, list[bytes] | None]


def merge(store: Directory, header: form.Header, changes: Changes) -> Iterator[Piece]:
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


def _change(store: Directory, header: form.Header, shards: Iterable[form.Shard], changed: Changed) -> Iterator[Piece]:
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
    add_net_entries(changes, records, lines)
    return changes


def add_net_entries(changes: Changes, records: Iterable[form.Record], lines: Iterable[bytes]) -> None:
    """Add the net effect of batches that follow."""
    for record, line in zip(records, lines, strict=False):  # there may be a seal after the last batch
        put = record.get("put", ()) if len(record) == 1 else ()
        if len(put) == 1:
            # one key: most are of this kind, and its text is as it will be in the shard
            entry = line[line.index(_PUT) + len(_PUT) : -2]
            _put(changes, form.index_key_of(entry), entry)
        elif put and b"\\" not in line and b'"#' not in line:
            # many, with plain index keys
            names = [*map(orjson.dumps, put)]
            entries = [b"%b:%b" % entry for entry in zip(names, map(orjson.dumps, put.values()), strict=True)]
            changes.put.update(zip([name[:-1] for name in names], entries, strict=True))
        else:
            for field in ("del", "front"):
                if field in record:
                    record[field] = [form.index_key(key) for key in record[field]]
            changes.add({field: record[field] for field in ("clear", "del") if field in record})
            for key, value in record.get("put", {}).items():
                _put(changes, form.index_key(key), _entry(key, value))
            changes.add({"front": record.get("front", ())})


def _put(changes: Changes, name: Any, entry: bytes) -> None:
    if type(name) is not bytes and name in changes.put:
        entry = _respelled(entry, changes.put[name])
    changes.put[name] = entry


def _entry(key: Any, value: Any) -> bytes:
    return b"%b:%b" % (encode_key(key), orjson.dumps(value))


def _extend(store: Directory, header: form.Header, pieces: Iterable[Piece], put: dict[Any, bytes]) -> Iterator[Piece]:
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
