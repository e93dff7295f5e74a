"""What damaged files hold by docs/format.md: a second reader, on the standard library alone, that `corruption` believes.

It shares no code with the library. Files are a dict from names to bytes: nothing is read from a disk here.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from typing import Any, NamedTuple

Files = dict[str, bytes]
Fields = dict[str, Any]
Entries = dict[Any, Any]

_JOURNAL = re.compile(r"journal-(\d+)\.jsonl")


def signed(rest: bytes) -> bytes:
    """Return the line with the right CRC before `rest`, its other fields and the closing brace."""
    return b'{"crc":"%08x",%s\n' % (zlib.crc32(rest), rest)


def is_whole(line: bytes) -> bool:
    """Tell whether a line, with its newline, has a right CRC."""
    return line.endswith(b"\n") and line[:18] == b'{"crc":"%08x",' % zlib.crc32(line[18:-1])


def lines_of(text: bytes) -> list[bytes]:
    """Return the lines with their newlines; the last one may have none."""
    return [line for line in re.split(rb"(?<=\n)", text) if line]


def epoch_of(name: str) -> int:
    """Return the epoch of a journal by its name, 0 for other files."""
    match = _JOURNAL.fullmatch(name)
    return int(match[1]) if match else 0


class Sound(NamedTuple):
    """What undamaged files say: their directory's id, their epoch, and the header of its journal."""

    id: str
    epoch: int
    header: Fields

    @property
    def journal(self) -> str:
        """The name of the current journal."""
        return f"journal-{self.epoch}.jsonl"

    @property
    def shards(self) -> list[str]:
        """The names of the current shards, in the order of their keys."""
        end = ".json.gz" if self.header["gzipped"] else ".json"
        return [f"{number:04d}-{epoch}{end}" for number, epoch, *_ in self.header["shards"]]


def sound(files: Files) -> Sound:
    """Return what files say that are known to be sound."""
    line = json.loads(files[".lock"])
    header = json.loads(lines_of(files[f"journal-{line['epoch']}.jsonl"])[0])
    return Sound(line["id"], line["epoch"], header)


class Reading(NamedTuple):
    """What may be read: the entries, the bad line and what follows it, and whether a good line follows it."""

    entries: Entries
    rest: bytes
    damaged: bool


def opened(known: Sound, origin: Files, files: Files) -> Reading | None:
    """Return what opening the damaged `files` may give, those of `origin` as `known` before; None if only an error is right.

    Everything that the current epoch stands on has to be as it was: header and shards. Of the journal's lines those count
    that come before the first bad one, unless a good line, before or after, says that this was on stable storage.
    """
    text = files.get(known.journal, b"")
    lines = lines_of(text)
    head = lines_of(origin[known.journal])[0]
    if not lines or lines[0] != head or any(files.get(name) != origin[name] for name in known.shards):
        return None
    entries = _shards(known, known.shards, files)
    seq, offset, marked = known.header["seq"], len(head), 0
    rest = b""
    for number, line in enumerate(lines[1:], 1):
        if not is_whole(line):
            rest = b"".join(lines[number:])
            later = [json.loads(each) for each in lines[number + 1 :] if is_whole(each)]
            marked = max([marked, *(fields.get("synced", 0) for fields in later)])
            return Reading(entries, rest, bool(later)) if marked <= offset else None
        fields = json.loads(line)
        if fields.get("seq") != seq + 1 or "tastypy" in fields:
            return None
        seq += 1
        offset += len(line)
        marked = max(marked, fields.get("synced", 0))
        entries = apply(entries, fields)
    return Reading(entries, rest, damaged=False)


def readable(known: Sound, origin: Files, files: Files) -> tuple[Entries, list[bytes]]:
    """Return all that is left of the damaged files, and the journal's lines that are no part of it.

    That are the shards that are whole, and every good line, in the order of the numbers.
    """
    entries = _shards(known, [name for name in known.shards if files.get(name) == origin[name]], files)
    batches: dict[int, Fields] = {}
    other = []
    lines = lines_of(files.get(known.journal, b""))
    for line in lines:
        fields = json.loads(line) if is_whole(line) else {}
        number = fields.get("seq", 0)
        if number > known.header["seq"] and number not in batches and "tastypy" not in fields:
            batches[number] = fields
        elif not (line == lines[0] and "tastypy" in fields):
            other.append(line)
    for _, fields in sorted(batches.items()):
        entries = apply(entries, fields)
    return entries, other


def _shards(known: Sound, names: list[str], files: Files) -> Entries:
    entries: Entries = {}
    for name in names:
        text = gzip.decompress(files[name]) if known.header["gzipped"] else files[name]
        entries |= {key_of(key): value for key, value in json.loads(text).items()}
    return entries


def apply(entries: Entries, batch: Fields) -> Entries:
    """Return the entries after a batch."""
    after = {} if "clear" in batch else dict(entries)
    for name in batch.get("del", []):
        after.pop(key_of(name), None)
    for name, value in batch.get("put", {}).items():
        after[key_of(name)] = value
    for name in batch.get("front", []):
        key = key_of(name)
        if key in after:
            after = {key: after.pop(key)} | after
    return after


def key_of(name: str) -> Any:
    """Return the key that a name in a file stands for."""
    return _tuples(json.loads(name[1:])) if name.startswith("#") else name


def _tuples(key: Any) -> Any:
    return tuple(map(_tuples, key)) if isinstance(key, list) else key


def exactly(entries: Any) -> list[tuple[str, str]]:
    """Return keys and values in order, and so that 1, 1.0 and True differ."""
    return [(repr(key), json.dumps(value)) for key, value in entries.items()]
