"""What a fold makes of shards and batches: the pieces of the new shards, as text that was committed.

Nothing is written here; old shards are read, one at a time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, compress, repeat
from operator import add
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from tastypy import format as form
from tastypy.changes import Changes
from tastypy.shards import entry_name, index_key, index_key_of, index_keys, shard_entries
from tastypy.values import encode_key

if TYPE_CHECKING:
    from tastypy.directory import Directory

_PUT = b'"put":{'

# An old shard and its new entries. Entries None leave the shard as it is; a shard None makes a new one.
Piece = tuple[form.Shard | None, list[bytes] | None]


_FEW = 1000  # old entries that a few of the shards may have all of


class Order(NamedTuple):
    """What spares a merge a look at shards that do not change: all keys there are after the changes, in order, and those set."""

    keys: Sequence[Any]
    put: set[Any]


class OutOfOrderError(Exception):
    """The keys that were given are not those of the directory, in its order: the merge has to be done anew, without them."""


def merge(store: Directory, header: form.Header, changes: Changes, order: Order | None = None) -> Iterator[Piece]:
    """Yield the pieces of the shards with the changes, those of `net_entries`; one shard is in memory at a time.

    Raises:
        OutOfOrderError: the order is not what it is to be.
    """
    put = changes.put.copy()
    old = () if changes.clear else header.shards
    if not changes:
        yield from ((shard, None) for shard in old)
        return
    front = dict.fromkeys(changes.front, b"")
    places = None
    if order is not None and not (changes.clear or changes.deleted or front):
        places = _places(old, order)
    if places is None:
        pieces = _change(store, header, old, Changed(put, changes.deleted, front))
    else:
        pieces = _change_at(store, header, old, put, places)
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
        entries = shard_entries(text)
        names = index_keys(text, entries)
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


# Of each shard that changes, by its index, where in it each entry is that does, and its index key.
_Places = dict[int, dict[int, Any]]


def _places(shards: Sequence[form.Shard], order: Order) -> _Places | None:
    """Return the places of the entries to be set that are not new; None if they are many, or that cannot be right.

    New keys are last, behind as many as there are old entries. None of those there is old, or a new one would stand in the
    place of an old one, which `_change_at` sees.
    """
    keys, put = order
    old = sum(shard.entries for shard in shards)
    known = put.difference(keys[old:])
    if len(known) > _FEW:
        return None
    found = [*compress(range(old), map(known.__contains__, keys))] if known else []
    if len(found) != len(known):
        return None
    places: _Places = {}
    at = begin = 0
    for place in found:
        while place >= begin + shards[at].entries:
            begin += shards[at].entries
            at += 1
        places.setdefault(at, {})[place - begin] = index_key(keys[place])
    return places


def _change_at(
    store: Directory, header: form.Header, shards: Sequence[form.Shard], put: dict[Any, bytes], places: _Places
) -> Iterator[Piece]:
    """Do what `_change` does where entries are set only, in places that are known."""
    for at, shard in enumerate(shards):
        if at not in places:
            yield shard, None
            continue
        entries = shard_entries(store.read_shard(header, shard))
        for place, name in places[at].items():
            if len(entries) != shard.entries or index_key_of(entries[place]) != name:
                raise OutOfOrderError
            entries[place] = put.pop(name) if type(name) is bytes else _respelled(put.pop(name), entries[place])
        yield shard, entries


def _respelled(entry: bytes, old: bytes) -> bytes:
    """Return the entry with the key as the old one spells it: 1, 1.0 and True are one key, and the first spelling stays."""
    return entry_name(old) + entry[len(entry_name(entry)) :]


def net_entries(records: Iterable[form.Record], lines: Iterable[bytes]) -> Changes:
    """Return the net effect of the batches, given as records and as lines, by index keys and with entries of shards as values."""
    changes = Changes()
    add_net_entries(changes, records, lines)
    return changes


def add_net_entries(changes: Changes, records: Iterable[form.Record], lines: Iterable[bytes]) -> None:
    """Add the net effect of batches that follow."""
    single: list[bytes] = []  # of one key: most batches are of this kind, and their text is as it will be in the shard
    for record, line in zip(records, lines, strict=False):  # there may be a seal after the last batch
        put = record.get("put", ()) if len(record) == 1 else ()
        if len(put) == 1:
            single.append(line[line.index(_PUT) + len(_PUT) : -2])
            continue
        _put_all(changes, single)
        if put and b"\\" not in line and b'"#' not in line:
            # many, with plain index keys
            # (sliced, formatted: what orjson returns takes four kilobytes until it is dropped, however short it is)
            names = [name[:-1] for name in map(orjson.dumps, put)]
            entries = [b'%b":%b' % entry for entry in zip(names, map(orjson.dumps, put.values()), strict=True)]
            changes.put.update(zip(names, entries, strict=True))
        else:
            add_record(changes, record)
    _put_all(changes, single)


def add_record(changes: Changes, record: form.Record) -> None:
    """Add the net effect of a batch that follows, of any kind; `record` is changed."""
    for field in ("del", "front"):
        if field in record:
            record[field] = [index_key(key) for key in record[field]]
    changes.add({field: record[field] for field in ("clear", "del") if field in record})
    for key, value in record.get("put", {}).items():
        _put(changes, index_key(key), _entry(key, value))
    changes.add({"front": record.get("front", ())})


def _put_all(changes: Changes, entries: list[bytes]) -> None:
    """Add entries as a shard has them, and clear their list."""
    names = index_keys(b"\n" + b"\n".join(entries), entries)
    if set(map(type, names)) <= {bytes}:  # at a third of what one after another takes
        changes.put.update(zip(names, entries, strict=True))
    else:
        for name, entry in zip(names, entries, strict=True):
            _put(changes, name, entry)
    entries.clear()


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
            entries = shard_entries(store.read_shard(header, shard))
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
    ends = [*accumulate(map(add, map(len, entries), repeat(2)))]
    size = ends[-1] if ends else 0
    most = size if size <= limit else limit if last else size / -(-size // limit)
    begin = filled = 0
    while begin < len(entries):
        end = max(bisect_right(ends, filled + most), begin + 1)
        yield shard, entries[begin:end]
        shard, begin, filled = None, end, ends[end - 1]
