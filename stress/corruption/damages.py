"""Every damage to a small directory that `corruption` tries: to each byte, line and file, and files in each other's place."""

from __future__ import annotations

import json
import re
from itertools import combinations, permutations
from typing import TYPE_CHECKING, Any, NamedTuple

from stress.corruption.plain import Files, lines_of, signed

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from stress.corruption.samples import Sample

_BLOCK = 16  # bytes, as 512 would be of files that are 30 times as large
_NO_FIELD = ...
_VALUES: list[Any] = [None, "1", -1, 10**30, 1.5, [], [1], [[1]], [[0, 1, 1, "a", "b"]], {}, True]
_TEXTS = {
    "empty": b"",
    "a text": b"Dear diary,\n",
    "a list": b"[]\n",
    "an empty object": b"{}\n",
    "null": b"null\n",
    "an object": b'{"a":1}\n',
    "the same key twice": b'{"a":1,"a":2}\n',
    "NaN": b'{"a":NaN}\n',
    "Latin-1": b'{"\xe9":1}\n',
    "zeros": bytes(4096),
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "large": b"x" * 3_000_000,
}
# Lines that have a right CRC, and a content that no writer gives them, in the place of a header ...
_HEADERS = [b"", b"}", b"[]}", b'"tastypy":1}', b'"tastypy":2}', b'"tastypy":"1"}', b'"id":1}']
# ... and as the next batch, of the number that each needs
_BATCHES = [
    *(b'"seq":%%d,%b}' % (field) for field in (
        b'"put":[1]', b'"put":1', b'"put":null', b'"put":"a"', b'"del":{"a":1}', b'"del":5', b'"del":[5]', b'"del":[["a"]]',
        b'"front":7', b'"front":[null]', b'"clear":0', b'"synced":"x"', b'"synced":1e400', b'"synced":99999999999999999999999',
        b'"put":{"#":1}', b'"put":{"#[":1}', b'"put":{"#01":1}', b'"put":{"#1e400":1}', b'"put":{"#{}":1}', b'"put":{"#[{}]":1}',
        b'"put":{"a":NaN}', b'"put":{"a":\xff}', b'"put":{"\\ud800":1}', b'"del":["#\\"\\ud800\\""]',
        b'"put":{"a":%b}' % (b"[" * 2000 + b"]" * 2000), b'"put":{"#%b":1}' % (b"[" * 2000 + b"]" * 2000),
        b'"put":{"a":1}},{"seq":1', b'"seal":[]', b'"seal":3', b'"put":{"a":1},"put":5',
    )),
    b'"seq":%d', b'"seq":%d.0,"put":{"a":1}}', b'"seq":"%d"}', b'"seal":"%d"}', b'"seal":-%d}', b'"seal":999999999999%d}', b'"a":%d}',
]  # fmt: skip


class Damage(NamedTuple):
    """What was done, in words, and the files after it."""

    kind: str
    words: str
    files: Files


def damages(sample: Sample, chance: random.Random) -> Iterator[Damage]:
    """Yield every damage of the sample."""
    for name, data in sample.files.items():
        for kind, words, after in (
            *_bytes(data, chance),
            *_blocks(data),
            *_lines(name, data, sample),
            *_forged(name, data),
        ):
            if after != data:
                yield Damage(kind, f"{name}: {words}", {**sample.files, name: after})
    yield from _whole_files(sample)


def _bytes(data: bytes, chance: random.Random) -> Iterator[tuple[str, str, bytes]]:
    for at, byte in enumerate(data):
        head, tail = data[:at], data[at + 1 :]
        for kind, new in (
            ("one bit flipped", bytes([byte ^ 1 << chance.randrange(8)])),
            ("a byte inverted", bytes([byte ^ 0xFF])),
            ("a byte zeroed", b"\0"),
            ("a byte dropped", b""),
            ("a byte doubled", bytes([byte, byte])),
            ("a byte inserted", bytes([chance.randrange(256), byte])),
        ):
            yield kind, f"{kind} at {at}", head + new + tail
        yield "cut off", f"cut off at {at}", head
        yield "zeroed to its end", f"zeroed from {at} on", head + bytes(len(data) - at)


def _blocks(data: bytes) -> Iterator[tuple[str, str, bytes]]:
    for at in range(0, len(data), _BLOCK // 2):
        head, block, tail = data[:at], data[at : at + _BLOCK], data[at + _BLOCK :]
        yield "a block zeroed", f"a block zeroed at {at}", head + bytes(len(block)) + tail
        yield "a block dropped", f"a block dropped at {at}", head + tail
        yield "a block doubled", f"a block doubled at {at}", head + block + block + tail


def _lines(name: str, data: bytes, sample: Sample) -> Iterator[tuple[str, str, bytes]]:
    lines = lines_of(data)
    for at, line in enumerate(lines):
        head, tail = lines[:at], lines[at + 1 :]
        yield "a line dropped", f"line {at + 1} dropped", b"".join(head + tail)
        for to in range(len(lines) + 1):
            yield (
                "a line repeated",
                f"line {at + 1} again before line {to + 1}",
                b"".join([*lines[:to], line, *lines[to:]]),
            )
        for to in range(at):
            swapped = [*lines]
            swapped[at], swapped[to] = swapped[to], swapped[at]
            yield "lines swapped", f"lines {to + 1} and {at + 1} swapped", b"".join(swapped)
        for kind, other in _other_lines(name, sample):
            yield f"a line of {kind}", f"line {at + 1} is of {kind}: {other!r}", b"".join([*head, other, *tail])
            yield (
                f"a line of {kind}",
                f"before line {at + 1} one of {kind}: {other!r}",
                b"".join([*head, other, line, *tail]),
            )
    for kind, other in _other_lines(name, sample):
        yield f"a line of {kind}", f"at the end one of {kind}: {other!r}", data + other


def _other_lines(name: str, sample: Sample) -> Iterator[tuple[str, bytes]]:
    own = lines_of(sample.files[name])
    for file, data in sample.files.items():
        if file != name:
            yield from (("another file", line) for line in lines_of(data)[:4])
    yield from (("another POD", line) for line in lines_of(sample.foreign.get(name, b"")) if line not in own)


def _forged(name: str, data: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Yield the journal with a line that has a right CRC and a content that makes no sense."""
    if not name.startswith("journal-"):
        return
    lines = lines_of(data)
    seqs = [int(number) for number in re.findall(rb'"seq":(\d+)', data)]
    for content in _HEADERS:
        yield "a forged header", f"a forged header {content[:60]!r}", b"".join([signed(content), *lines[1:]])
    for field, right in json.loads(lines[0]).items() if lines else ():
        for value in (_NO_FIELD, *_VALUES):
            if type(value) is type(right):
                continue  # that would be a header as another directory may have it
            fields = {**json.loads(lines[0]), field: value}
            del fields["crc"]
            if value is _NO_FIELD:
                fields.pop(field, None)
            content = json.dumps(fields, separators=(",", ":"), default=str).encode()[1:]
            yield "a forged header", f"a header with {field} {value!r:.30}", b"".join([signed(content), *lines[1:]])
    for content in _BATCHES:
        forged = signed(content % (max(seqs, default=0) + 1))
        yield "a forged batch", f"a forged batch {content[:60]!r}", data + forged


def _whole_files(sample: Sample) -> Iterator[Damage]:
    files = sample.files
    for name in files:
        yield Damage("a file missing", f"{name} missing", _without(files, name))
        for words, text in _TEXTS.items():
            yield Damage("a file of other content", f"{name} is {words}", {**files, name: text})
        if name in sample.foreign:
            yield Damage("a file of another POD", f"{name} is another POD's", {**files, name: sample.foreign[name]})
        older = {moment[name] for moment in sample.earlier if name in moment} - {files[name]}
        for text in sorted(older):
            yield Damage("an older file", f"{name} as it was: {text[-60:]!r}", {**files, name: text})
    for one, other in combinations(files, 2):
        yield Damage("two files missing", f"{one} and {other} missing", _without(files, one, other))
        yield Damage("files swapped", f"{one} and {other} swapped", {**files, one: files[other], other: files[one]})
    for one, other in permutations(files, 2):
        yield Damage("a file in place of another", f"{other} in place of {one}", {**files, one: files[other]})
    for moment in sample.earlier:
        for name in moment.keys() - files.keys():
            yield Damage("an old file back", f"{name} of earlier is back", {**files, name: moment[name]})


def _without(files: Files, *names: str) -> Files:
    return {name: data for name, data in files.items() if name not in names}
