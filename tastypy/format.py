"""Bytes <-> records: the line in `.lock`, a journal's lines. No I/O here; the text of a shard is left to `shards`.

Every line is one JSON object whose first field is the CRC-32 of the bytes from the one after that field's comma up to the
newline:

.. code-block:: json

    {"crc":"9a3f0c12","seq":4711,"del":["gone"],"put":{"foo":"bar"}}

A journal is a header line, then one line a committed batch, at last a seal. A record is such a line parsed, with its keys
decoded (see `values`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, NamedTuple
from zlib import crc32

import orjson

from tastypy.errors import FormatVersionError
from tastypy.values import decode_key, decode_keys, loads

VERSION = 1
FLOCK, LEASE = "flock", "lease"  # what the lock of a directory is
STAMPS = 16  # of the last batches, that a header has: whoever was shown other ones finds that out
_MARK = re.compile(rb',"synced":(0|[1-9][0-9]{0,18})}\Z')  # nothing in a value or key ends a line like this
_CRC_FIELD = len(b'{"crc":"9a3f0c12",')
_BRACE = ord("}")
_EPOCHS = 10**12  # have room in `.lock`

Record = dict[str, Any]


def crc_text(data: bytes | memoryview) -> str:
    """Return the CRC-32 of `data` (as in zlib) as eight hexadecimal digits."""
    return f"{crc32(data):08x}"


def checked(body: bytes) -> bytes:
    """Return the line with its crc put before `body`, the fields and the closing brace of a JSON object."""
    return b'{"crc":"%08x",%b\n' % (crc32(body), body)


def is_good(line: bytes) -> bool:
    """Tell whether the line, without its newline, has the crc that it says."""
    return line[:_CRC_FIELD] == b'{"crc":"%08x",' % crc32(line[_CRC_FIELD:])


def has_number(line: bytes, seq: int) -> bool:
    """Tell whether the line, without its newline, is good and that of the batch with this number."""
    return is_good(line) and line.startswith(b'"seq":%d,' % seq, _CRC_FIELD)


# --- the line in .lock


class LockLine(NamedTuple):
    """What `.lock` says: the random id of the directory, its current epoch, and what its lock is: "flock" or "lease"."""

    id: str
    epoch: int
    lock: str = FLOCK

    def encode(self) -> bytes:
        """Return the line: of one width for every epoch, so that it is replaced in place by one short write."""
        body = b'{"id":"%b","epoch":%12d%b' % (
            self.id.encode(),
            self.epoch,
            b',"lock":"lease"' if self.lock == LEASE else b"",
        )
        return b'%b,"crc":"%08x"}\n' % (body, crc32(body))


LOCK_LINE_BYTES = len(LockLine("0" * 16, 0, LEASE).encode())  # at most
_LOCK_LINE = re.compile(rb'\{"id":"([0-9a-f]{16})","epoch": *(\d+)(,"lock":"lease")?,"crc":"[0-9a-f]{8}"\}\n')


def decode_lock_line(data: bytes) -> LockLine | None:
    """Return what the line says, or None if it is empty or damaged."""
    match = _LOCK_LINE.fullmatch(data)
    line = LockLine(match[1].decode(), int(match[2]), LEASE if match[3] else FLOCK) if match else None
    return line if line is not None and line.encode() == data else None


# --- a journal


class Shard(NamedTuple):
    """A shard file as a header names it: its number, the epoch that wrote it, entries, size in bytes, CRC-32 of its bytes."""

    number: int
    epoch: int
    entries: int
    size: int
    crc: str


class Header(NamedTuple):
    """The first line of a journal: everything that the epoch stands on.

    `before` is the epoch before this one (0: none), `seq` the sequence number of the last batch that the shards contain,
    `next` the next free shard number; the shards are in the order of their keys. `last` has the `stamp` of the last ones of these
    batches, the last one at the end, as far as they are known: who wrote another batch of such a number was shown another journal.
    `lock` is "flock", or "lease" where there is no flock, and the journals are read by other rules (see `_read_leased`).
    """

    id: str
    epoch: int
    before: int
    seq: int
    gzipped: bool
    shard_bytes: int
    next: int
    shards: tuple[Shard, ...]
    last: tuple[str, ...] = ()
    lock: str = FLOCK

    @property
    def leased(self) -> bool:
        """Whether the lock is a lease."""
        return self.lock == LEASE

    @property
    def lock_line(self) -> LockLine:
        """What `.lock` says in this epoch."""
        return LockLine(self.id, self.epoch, self.lock)

    def encode(self) -> bytes:
        """Return the header line."""
        fields = {"tastypy": VERSION, **self._asdict(), "shards": [list(shard) for shard in self.shards]}
        if not self.last:
            del fields["last"]
        if not self.leased:
            del fields["lock"]
        return checked(orjson.dumps(fields)[1:])


def decode_header(line: bytes, name: str) -> Header | None:
    """Return the header that `line` is (with or without its newline), or None if it is damaged, incomplete or none of ours.

    Files are named by what it says, so it is believed in nothing but numbers.

    Raises:
        FormatVersionError: a newer tastypy wrote it; `name` is what the message calls the file.
    """
    line = line.removesuffix(b"\n")
    if not is_good(line):
        return None
    try:
        fields = loads(line)
        version = fields["tastypy"]
        if version != VERSION:
            message = f"{name} is of format {version}, this tastypy reads format {VERSION}: install a newer tastypy"
            raise FormatVersionError(message, name)
        shards = tuple(Shard(*shard) for shard in fields["shards"])
        header = Header(
            **{field: fields[field] for field in Header._fields[:-3]},
            shards=shards,
            last=tuple(fields.get("last", ())),
            lock=fields.get("lock", FLOCK),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return header if _is_header(header) and header.encode()[:-1] == line else None


def _is_header(header: Header) -> bool:
    """Tell whether all is of the right type, and no number negative."""
    numbers = [header.epoch, header.before, header.seq, header.shard_bytes, header.next]
    for shard in header.shards:
        numbers += shard[:-1]
    texts = [header.id, *header.last, *(shard.crc for shard in header.shards)]
    return (
        _are(int, *numbers)
        and min(numbers) >= 0 < header.shard_bytes
        and _are(str, *texts)
        and _are(bool, header.gzipped)
        and header.lock in (FLOCK, LEASE)
    )


def _are(kind: type, *values: object) -> bool:
    """Tell whether all values are exactly of the type: True is no int."""
    return all(type(value) is kind for value in values)


def batch_content(
    deleted: Iterable[bytes], put: Iterable[tuple[bytes, bytes]], front: Iterable[bytes], *, clear: bool = False
) -> bytes:
    """Return the fields of a batch line from the JSON of its keys and values; empty if nothing changes.

    Of generators, best: what orjson returns takes four kilobytes until it is dropped, and here it is not kept.
    """
    fields = [
        b'"clear":true' if clear else b"",
        b'"del":[%b]' % names if (names := _joined(deleted)) else b"",
        b'"put":{%b}' % entries if (entries := b",".join([b"%b:%b" % entry for entry in put])) else b"",
        b'"front":[%b]' % names if (names := _joined(front)) else b"",
    ]
    return b",".join(filter(None, fields))


def _joined(names: Iterable[bytes]) -> bytes:
    return b",".join([b"%b" % name for name in names])


def batch_line(seq: int, content: bytes, synced: int | None = None) -> bytes:
    """Return the line of batch number `seq`; up to the offset `synced` of the journal an fdatasync has succeeded."""
    body = b'"seq":%d,%b}' % (seq, content) if synced is None else b'"seq":%d,%b,"synced":%d}' % (seq, content, synced)
    return b'{"crc":"%08x",%b\n' % (crc32(body), body)  # as `checked` does, without the call


def without_mark(line: bytes) -> bytes:
    """Return the line of a batch, with its newline, for another journal: the offset of its "synced" is one of this journal."""
    mark = _mark_of(line)
    return checked(line[_CRC_FIELD : mark.start()] + b"}") if mark else line + b"\n"


def stamp(line: bytes) -> str:
    """Return the crc that the line of a batch, with or without its newline, has in every journal that it may get to."""
    if b',"synced":' in line:
        line = without_mark(line.removesuffix(b"\n"))
    return line[8:16].decode()


def seal_line(epoch: int, seq: int | None = None) -> bytes:
    """Return the last line of a journal that goes on in that of `epoch`; with leases it has the number that a batch would have."""
    return checked(b'"seal":%d}' % epoch if seq is None else b'"seq":%d,"seal":%d}' % (seq, epoch))


class Lines(NamedTuple):
    """What `read_lines` found.

    `length` bytes of good `lines` hold `records`, without their crcs and numbers, the last with the number `seq`, the last line
    `last` bytes long; `seal` is the epoch that the journal goes on in, or 0; `synced` the greatest offset so marked. `trouble`
    is "" if there is nothing after them; "torn" if what follows is not whole; "damaged" if a bad line has good ones after it;
    "disorder" if a good line has a number out of line; "senseless" if one is good, and neither a batch nor, as the last one, a seal.
    """

    records: list[Record]
    lines: list[bytes]
    length: int
    last: int
    seq: int
    seal: int
    synced: int
    trouble: str


def read_lines(data: bytes, seq: int, *, leased: bool = False) -> Lines:
    """Return the batches in `data`, which begins at a line's begin, the batch before it having the number `seq`.

    Where the lock is a lease, that is read as `_read_leased` says.
    """
    lines = data.split(b"\n")
    tail = lines.pop()
    puts = read_puts(lines, seq) if lines and not tail else None
    if puts is not None:
        records: list[Record] = [{"put": put} for put in puts.entries]
        for at, offset in puts.marks.items():
            records[at]["synced"] = offset
        last, synced = len(lines[-1]) + 1, max(puts.marks.values(), default=0)
        return Lines(records, lines, len(data), last, seq + len(lines), 0, synced, "")
    if leased:
        return _read_leased([*lines, tail], seq)
    good = 0
    for line in lines:
        if not is_good(line):
            break
        good += 1
    trouble = ""
    rest = lines[good + 1 :]
    if good < len(lines) or tail:
        trouble = "damaged" if any(map(is_good, rest)) else "torn"
    records = parse_lines(lines[:good])
    if len(records) < good:
        good, trouble = len(records), "senseless"
    seal = 0
    if records and "seal" in records[-1]:
        if "seq" in records[-1]:
            good, trouble = good - 1, "senseless"
        else:
            seal = records[-1]["seal"]
        records.pop()
    numbers = [record.get("seq") for record in records]
    if numbers != list(range(seq + 1, seq + 1 + len(records))):
        good = next(index for index, number in enumerate(numbers) if number != seq + 1 + index)
        trouble, seal = "disorder", 0
        del records[good:]
    del lines[good:]
    synced = 0
    if b'"synced":' in data:
        # what a good line after a bad one says to be on stable storage includes the bad one
        later = (
            [record for line in rest if is_good(line) for record in parse_lines([line])] if trouble == "damaged" else []
        )
        synced = max((record.get("synced", 0) for record in (*records, *later)), default=0)
    for record in records:
        del record["crc"], record["seq"]
    length = sum(map(len, lines)) + len(lines)
    last = len(lines[-1]) + 1 if lines else 0
    return Lines(records, lines, length, last, seq + len(records), seal, synced, trouble)


def _read_leased(lines: Sequence[bytes], seq: int) -> Lines:
    """Do what `read_lines` does where the lock is a lease, whose holder may go on when others have taken it over.

    The first good line with the next number counts, be it a batch or a seal. What has a number that was there before is void: its
    writer was late, and knows. So is what is not whole, as long as the numbers go on after it. Nothing counts after a seal.
    `length` is up to the last line that counts. No `trouble` but "torn", if void bytes follow it; "damaged" or "disorder"
    if a number is missing, with and without something before it that is not whole; and "senseless".
    """
    records: list[Record] = []
    taken: list[bytes] = []
    at = length = seal = 0
    trouble = ""
    for line in lines:
        at += len(line) + 1
        if not is_good(line):
            trouble = "torn" if line or trouble else ""
            continue
        record = next(iter(parse_lines([line])), None)
        if record is None or "seq" not in record:
            trouble = "senseless"
            break
        if record["seq"] > seq + len(taken) + 1:
            trouble = "damaged" if trouble else "disorder"
            break
        if record["seq"] <= seq + len(taken):
            continue
        length, trouble, last = at, "", len(line) + 1
        if "seal" in record:
            seal = record["seal"]
            break
        taken.append(line)
        del record["crc"], record["seq"]
        records.append(record)
    synced = max((record.get("synced", 0) for record in records), default=0)
    return Lines(records, taken, length, last if length else 0, seq + len(taken), seal, synced, trouble)


class Puts(NamedTuple):
    """What batches put that do nothing else: the entries of each, and, by the index of the line, the offsets that some marked."""

    entries: list[dict[Any, Any]]
    marks: dict[int, int]


def read_puts(lines: Sequence[bytes], seq: int) -> Puts | None:
    """Return what the lines put, if all are good batches with the numbers after `seq` that do nothing else, as nearly all are.

    Functions written in C tell that at a third of the cost of parsing each line and looking at it.
    """
    crcs = map(crc32, [line[_CRC_FIELD:] for line in lines])
    begins = [b'{"crc":"%08x","seq":%d,"put":{' % each for each in zip(crcs, count(seq + 1))]
    if not all(map(bytes.startswith, lines, begins)):
        return None
    ends = [-2] * len(lines)
    marks = {}
    for at in [at for at, line in enumerate(lines) if line[-2:] != b"}}"]:
        mark = _mark_of(lines[at])
        if mark is None or lines[at][mark.start() - 1] != _BRACE:
            return None
        ends[at] = mark.start() - 1
        marks[at] = int(mark[1])
    text = b"},{".join([line[len(begin) : end] for line, begin, end in zip(lines, begins, ends, strict=True)])
    try:
        entries = loads(b"[{%b}]" % text)
        if b'"#' in text:
            entries = [*map(decode_keys, entries)]
    except ValueError:  # no JSON, or a key that is none
        return None
    return Puts(entries, marks) if len(entries) == len(lines) else None


def _mark_of(line: bytes) -> re.Match[bytes] | None:
    """Return the field with the offset up to which an fdatasync has succeeded, if the line ends with one."""
    return _MARK.search(line, max(len(line) - 40, 0))


def parse_lines(lines: Sequence[bytes]) -> list[Record]:
    """Return the records that the lines, of which each is good, hold, up to the first one that is none."""
    try:
        # one call for all of them: a third of the time that a call for each takes
        text = b",".join(lines)
        records: list[Record] = loads(b"[%b]" % text)
        # most have a crc, a number and one field more, and need no longer look
        odd = [
            record
            for record in records
            if type(record) is not dict
            or len(record) != 3
            or type(record.get("put")) is not dict
            or "seq" not in record
        ]
        whole = len(records) == len(lines) and all(map(_is_record, odd))
        if whole and set(map(type, [record.get("seq", 0) for record in records])) <= {int}:
            if b'"#' in text:
                for record in records:
                    _decode_record(record)
            return records
    except ValueError:  # no JSON, or a key that is none
        pass
    if len(lines) <= 1:
        return []
    half = len(lines) // 2
    first = parse_lines(lines[:half])
    return first if len(first) < half else first + parse_lines(lines[half:])


def _is_record(record: object) -> bool:
    """Tell whether it is a batch, or a seal, and not both, of which each field is of the right type."""
    if type(record) is not dict:
        return False
    if "seal" in record:
        return len(record) == 2 + ("seq" in record) and _are(int, record["seal"]) and 0 < record["seal"] < _EPOCHS
    return (
        "tastypy" not in record
        and _are(int, record.get("synced", 0))
        and record.get("synced", 0) >= 0
        and record.get("clear", True) is True
        and _are(dict, record.get("put", {}))
        and _are(list, record.get("del", []), record.get("front", []))
        and _are(str, *record.get("del", ()), *record.get("front", ()))
    )


def _decode_record(record: Record) -> None:
    for field in ("del", "front"):
        if field in record:
            record[field] = [decode_key(name) for name in record[field]]
    if "put" in record:
        record["put"] = decode_keys(record["put"])
