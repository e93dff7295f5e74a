"""Bytes and records: what is encoded is decoded, and what was damaged, be it by a single byte, is never taken for good."""

from __future__ import annotations

import json
import random
import re
from typing import Any
from zlib import crc32

import orjson
import pytest
from helpers import exactly, signed
from hypothesis import given
from hypothesis import strategies as st
from json_strategies import KEYS, VALUES

from tastypy import format as form
from tastypy.errors import FormatVersionError
from tastypy.values import encode_key

IDS = st.text("0123456789abcdef", min_size=16, max_size=16)
NUMBERS = st.integers(0, 10**9)
SHARDS = st.builds(form.Shard, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.text("0123456789abcdef", min_size=8, max_size=8))
HEADERS = st.builds(
    form.Header,
    id=IDS,
    epoch=NUMBERS,
    before=NUMBERS,
    seq=NUMBERS,
    gzipped=st.booleans(),
    shard_bytes=NUMBERS.map(lambda number: number + 1),
    next=NUMBERS,
    shards=st.lists(SHARDS, max_size=4).map(tuple),
    lock=st.sampled_from([form.FLOCK, form.LEASE]),
)
BATCHES = st.fixed_dictionaries(
    {},
    optional={
        "clear": st.just(value=True),
        "del": st.lists(KEYS, min_size=1, max_size=3),
        "put": st.dictionaries(KEYS, VALUES, min_size=1, max_size=3),
        "front": st.lists(KEYS, min_size=1, max_size=3),
    },
).filter(bool)
Batch = dict[str, Any]

HEADER = form.Header("0123456789abcdef", 12, 10, 4710, False, 262144, 2, (form.Shard(0, 7, 3, 99, "9a3f0c12"),))


def content(batch: Batch) -> bytes:
    """The fields of a batch, made from Python objects."""
    return form.batch_content(
        map(encode_key, batch.get("del", [])),
        [(encode_key(key), orjson.dumps(value)) for key, value in batch.get("put", {}).items()],
        map(encode_key, batch.get("front", [])),
        clear=batch.get("clear", False),
    )


def journal_of(batches: list[Batch], seq: int) -> list[bytes]:
    """The lines of a journal, the first one with the number after `seq`."""
    return [form.batch_line(seq + 1 + at, content(batch)) for at, batch in enumerate(batches)]


def batches_of(lines: form.Lines) -> list[Any]:
    """The records as they were encoded."""
    return [{field: value for field, value in each.items() if field not in ("crc", "seq")} for each in lines.records]


SIMPLE = [form.batch_line(number, b'"put":{"key":%d}' % number) for number in range(6, 12)]


# ------------------------------------------------------------------------------------------------------ the line in .lock


@given(identity=IDS, epoch=st.integers(0, 10**12 - 1))
def test_the_lock_line_reads_back_and_has_one_width(identity: str, epoch: int) -> None:
    line = form.LockLine(identity, epoch).encode()
    assert form.decode_lock_line(line) == form.LockLine(identity, epoch)
    leased = form.LockLine(identity, epoch, form.LEASE)
    assert form.decode_lock_line(leased.encode()) == leased
    assert len(leased.encode()) == form.LOCK_LINE_BYTES
    assert len(line) == len(form.LockLine("0" * 16, 0).encode()) < 512, "it is to lie within one sector"
    assert json.loads(line).keys() == {"id", "epoch", "crc"}


def test_the_lock_line_is_the_documented_one() -> None:
    pattern = rb'\{"id":"00112233aabbccdd","epoch":          12,"crc":"[0-9a-f]{8}"\}\n'
    assert re.fullmatch(pattern, form.LockLine("00112233aabbccdd", 12).encode())


def test_a_lock_line_with_any_byte_changed_is_not_accepted() -> None:
    line = form.LockLine("00112233aabbccdd", 12).encode()
    for position in range(len(line)):
        for bits in range(1, 256):
            damaged = bytearray(line)
            damaged[position] ^= bits
            assert form.decode_lock_line(bytes(damaged)) is None


def test_a_lock_line_that_is_cut_lengthened_or_mixed_is_not_accepted() -> None:
    old, new = form.LockLine("00112233aabbccdd", 9).encode(), form.LockLine("00112233aabbccdd", 10).encode()
    for cut in range(len(old)):
        assert form.decode_lock_line(old[:cut]) is None
        mixed = new[:cut] + old[cut:]
        assert mixed in (old, new) or form.decode_lock_line(mixed) is None
    assert form.decode_lock_line(old + b"\n") is None
    body = b'{"id":"00112233aabbccdd","epoch":9'
    assert form.decode_lock_line(b'%b,"crc":"%08x"}\n' % (body, crc32(body))) is None, "of another width"
    assert form.decode_lock_line(old + b" ") is None


# ------------------------------------------------------------------------------------------------------------ a header


@given(header=HEADERS)
def test_a_header_reads_back(header: form.Header) -> None:
    line = header.encode()
    assert form.decode_header(line, "name") == form.decode_header(line[:-1], "name") == header
    assert line.count(b"\n") == 1
    assert json.loads(line)["tastypy"] == form.VERSION


def test_a_header_with_any_byte_changed_or_missing_is_not_accepted() -> None:
    line = HEADER.encode()
    for position in range(len(line)):
        for bits in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            damaged = bytearray(line)
            damaged[position] ^= bits
            assert form.decode_header(bytes(damaged), "name") is None, (position, bits)
        if position < len(line) - 1:
            assert form.decode_header(line[:position], "name") is None, position
            assert form.decode_header(line[:position] + line[position + 1 :], "name") is None, position


@pytest.mark.parametrize("version", [b"2", b"99", b'"2.0"'])
def test_a_header_of_another_format_is_refused_with_the_name_of_the_file(version: bytes) -> None:
    body = HEADER.encode()[len(b'{"crc":"00000000",') : -1]
    line = signed(body.replace(b'"tastypy":1', b'"tastypy":%b' % version))
    with pytest.raises(FormatVersionError, match=r"/some/journal.*newer") as caught:
        form.decode_header(line, "/some/journal")
    assert caught.value.path == "/some/journal"


# ------------------------------------------------------------------------------------------------------- a batch line


def test_a_batch_line_is_the_documented_one() -> None:
    line = form.batch_line(4711, content({"del": ["gone"], "put": {"foo": "bar"}}))
    assert re.fullmatch(rb'\{"crc":"[0-9a-f]{8}","seq":4711,"del":\["gone"\],"put":\{"foo":"bar"\}\}\n', line)


def test_the_fields_of_a_batch_stand_in_the_order_in_which_they_are_applied() -> None:
    batch = {"front": [1, "b"], "put": {"c": [], 1: {}}, "del": ["a"], "clear": True}
    line = form.batch_line(1, content(batch), synced=77)
    assert list(json.loads(line)) == ["crc", "seq", "clear", "del", "put", "front", "synced"]
    assert json.loads(line)["synced"] == 77


def test_nothing_changed_is_no_content() -> None:
    assert form.batch_content([], [], []) == b""


@given(batches=st.lists(BATCHES, max_size=5), seq=NUMBERS)
def test_batches_read_back_exactly_and_in_order(batches: list[Batch], seq: int) -> None:
    data = b"".join(journal_of(batches, seq))
    lines = form.read_lines(data, seq)
    assert [exactly(batch) for batch in batches_of(lines)] == [exactly(dict(sorted_fields(each))) for each in batches]
    assert (lines.trouble, lines.seal, lines.synced) == ("", 0, 0)
    assert (lines.length, lines.seq) == (len(data), seq + len(batches))
    assert b"".join(line + b"\n" for line in lines.lines) == data


def sorted_fields(batch: Batch) -> list[tuple[str, Any]]:
    """In the order of the line."""
    return [(field, batch[field]) for field in ("clear", "del", "put", "front") if field in batch]


def test_a_batch_line_with_any_byte_changed_is_not_accepted() -> None:
    line = form.batch_line(7, content({"del": ["#a", (1, 2)], "put": {"foo": [1.5, None]}, "front": [True]}), 44)
    for position in range(len(line)):
        for bits in range(1, 256):
            damaged = bytearray(line)
            damaged[position] ^= bits
            lines = form.read_lines(bytes(damaged), 6)
            assert (lines.records, lines.length, lines.seq) == ([], 0, 6)
            assert lines.trouble == "torn"


# ---------------------------------------------------------------------------------------------- a journal that is not whole


@given(batches=st.lists(BATCHES, max_size=3))
def test_a_journal_cut_anywhere_gives_its_whole_lines(batches: list[Batch]) -> None:
    whole = journal_of(batches, 5)
    data = b"".join(whole)
    ends = [sum(map(len, whole[:count])) for count in range(len(whole) + 1)]
    for cut in range(len(data) + 1):
        lines = form.read_lines(data[:cut], 5)
        complete = sum(end <= cut for end in ends) - 1
        assert len(lines.records) == complete
        assert (lines.length, lines.seq) == (ends[complete], 5 + complete)
        assert lines.last == (len(whole[complete - 1]) if complete else 0)
        assert lines.trouble == ("" if cut in ends else "torn")


@given(
    batches=st.lists(BATCHES, min_size=1, max_size=4), place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255)
)
def test_a_damaged_byte_costs_its_line_and_the_trouble_says_whether_good_ones_follow(
    batches: list[Batch], place: float, bits: int
) -> None:
    whole = journal_of(batches, 5)
    data = bytearray(b"".join(whole))
    position = int(place * len(data))
    data[position] ^= bits
    before = 0
    while sum(map(len, whole[: before + 1])) <= position:
        before += 1
    joined = position == sum(map(len, whole[: before + 1])) - 1  # the newline: the line after it is lost, too
    lines = form.read_lines(bytes(data), 5)
    assert len(lines.records) == before
    assert lines.length == sum(map(len, whole[:before]))
    assert lines.trouble == ("damaged" if len(whole) - before - 1 - joined > 0 else "torn")


PUTS = st.fixed_dictionaries({"put": st.dictionaries(KEYS, VALUES, min_size=1, max_size=3)})
MARKS = st.none() | st.integers(0, 2**60)


@given(rows=st.lists(st.tuples(PUTS | BATCHES, MARKS), min_size=1, max_size=6), seq=st.integers(0, 10**6))
def test_batches_that_do_nothing_but_put_are_read_at_once_and_as_one_by_one(
    rows: list[tuple[Batch, int | None]], seq: int
) -> None:
    lines = [form.batch_line(seq + at, content(batch), mark)[:-1] for at, (batch, mark) in enumerate(rows, 1)]
    puts = form.read_puts(lines, seq)
    if any(batch.keys() != {"put"} for batch, _ in rows):
        assert puts is None
        return
    assert puts is not None
    assert [*map(exactly, puts.entries)] == [exactly(batch["put"]) for batch, _ in rows]
    assert puts.marks == {at: mark for at, (_, mark) in enumerate(rows) if mark is not None}


@given(at=st.integers(0, 5), position=st.integers(0, 40), byte=st.integers(0, 255))
def test_damaged_lines_are_not_read_at_once(at: int, position: int, byte: int) -> None:
    lines = [bytearray(line[:-1]) for line in SIMPLE]
    if position < len(lines[at]) and lines[at][position] != byte:
        lines[at][position] = byte
        assert form.read_puts([*map(bytes, lines)], 5) is None
    assert form.read_puts([line[:-1] for line in SIMPLE], 6) is None, "the numbers are others"
    assert form.read_puts([line[:-1] for line in SIMPLE[:at] + SIMPLE[at + 1 :]], 5) is None or at == 5


@pytest.mark.parametrize(
    "bodies",
    [
        [b'"put":{"a":1},"z":{}}'],
        [b'"put":{"a":1},{"b":2}}'],
        [b'"put":{"a":[1}}'],
        [b'"put":{"a":1},"synced":07}'],
        [b'"put":{"a":[1],"synced":7}', b'"put":{"b":2}}'],
        [b'"put":{"a":[{"b":1}}', b'"put":{"c":2}]}}'],
        [b'"put":{"a":"}}', b'"put":{"}}'],
    ],
    ids=["another field", "two objects", "no JSON", "no number", "open", "a whole together", "a string together"],
)
def test_lines_with_a_right_crc_that_are_no_batches_are_not_read_at_once(bodies: list[bytes]) -> None:
    assert form.read_puts([signed(b'"seq":%d,%b' % (6 + at, body))[:-1] for at, body in enumerate(bodies)], 5) is None


@given(order=st.permutations(range(6)), kept=st.integers(0, 6))
def test_lines_in_another_order_are_told_from_torn_ones(order: list[int], kept: int) -> None:
    """So are lines that are missing, or there twice: what stands before the first wrong number is given."""
    order = order[:kept]
    lines = form.read_lines(b"".join(SIMPLE[at] for at in order), 5)
    good = next((at for at, number in enumerate(order) if at != number), kept)
    assert lines.records == [{"put": {"key": number}} for number in range(6, 6 + good)]
    assert lines.trouble == ("" if good == kept else "disorder")
    assert (lines.length, lines.seq) == (sum(map(len, SIMPLE[:good])), 5 + good)


@pytest.mark.parametrize(
    "order", [[0, 1, 1], [0, 0], [0, 1, 3], [1], [0, 1, 2, 1]], ids=["twice", "first twice", "gap", "begin", "back"]
)
def test_a_number_out_of_line_is_disorder(order: list[int]) -> None:
    lines = form.read_lines(b"".join(SIMPLE[at] for at in order), 5)
    assert lines.trouble == "disorder"
    assert lines.seal == 0


def test_disorder_is_seen_before_a_torn_end_and_a_damaged_line() -> None:
    """What would be cut off or set aside is not touched where the file system cannot be trusted."""
    for end in (b"torn", b"damaged\n", b"damaged\n" + SIMPLE[5]):
        assert form.read_lines(SIMPLE[0] + SIMPLE[2] + end, 5).trouble == "disorder"


def test_random_bytes_are_never_a_batch() -> None:
    source = random.Random(1)
    for size in range(200):
        noise = source.randbytes(size)
        lines = form.read_lines(SIMPLE[0] + noise, 5)
        assert len(lines.records) == 1
        assert lines.trouble == ("torn" if noise else "")


# ------------------------------------------------------------------------------------------------------ seals and marks


def test_a_seal_is_the_last_line_and_says_where_to_go_on() -> None:
    data = SIMPLE[0] + form.seal_line(13)
    lines = form.read_lines(data, 5)
    assert (lines.seal, lines.trouble, lines.seq, len(lines.records)) == (13, "", 6, 1)
    assert (lines.length, lines.last) == (len(data), len(form.seal_line(13)))
    assert re.fullmatch(rb'\{"crc":"[0-9a-f]{8}","seal":13\}\n', form.seal_line(13))


def test_a_batch_after_a_seal_is_disorder() -> None:
    """Somebody went on in a journal that was sealed."""
    lines = form.read_lines(SIMPLE[0] + form.seal_line(13) + SIMPLE[1], 5)
    assert (lines.trouble, lines.seal, len(lines.records)) == ("disorder", 0, 1)


def test_a_damaged_seal_is_none() -> None:
    line = form.seal_line(13)
    for position in range(len(line)):
        damaged = bytearray(line)
        damaged[position] ^= 1
        lines = form.read_lines(SIMPLE[0] + bytes(damaged), 5)
        assert (lines.seal, lines.trouble) == (0, "torn")


def test_the_greatest_mark_counts_whether_it_stands_before_a_bad_line_or_after_it() -> None:
    """What a good line says to be on stable storage includes the bad one before it."""
    marked = [form.batch_line(number, b'"put":{"a":1}', 100 * number) for number in range(6, 9)]
    assert form.read_lines(b"".join(marked), 5).synced == 800
    assert form.read_lines(marked[0] + b"bad\n" + marked[2], 5).synced == 800
    assert form.read_lines(marked[0] + b"bad\n" + SIMPLE[2], 5).synced == 600
    assert form.read_lines(marked[0] + b"bad\n" + marked[2].replace(b"a", b"b"), 5).synced == 600
    assert form.read_lines(SIMPLE[0], 5).synced == 0


def test_a_value_that_looks_like_a_mark_or_a_key_of_another_type_is_neither() -> None:
    batch = {"put": {"a": {"synced": 99, "seal": 3, "#1": "#2", "del": ["#x"]}}}
    lines = form.read_lines(form.batch_line(6, content(batch)), 5)
    assert (lines.synced, lines.seal) == (0, 0)
    assert batches_of(lines) == [batch]
