"""Texts that are none, or nearly, for each parser of the library: it returns, or raises what its docstring says, in little time.

They are valid ones, damaged at random; lines with a right CRC and a content that is damaged, or of the wrong types; and random
bytes. Part of `corruption`.
"""

from __future__ import annotations

import json
import tempfile
import time
import zlib
from typing import TYPE_CHECKING, Any

import orjson

from stress.command import WrongError
from stress.corruption.plain import exactly, signed
from tastypy import FormatVersionError, values, workers
from tastypy import format as form
from tastypy.changes import replay
from tastypy.shards import entry_name, index_keys, pack, shard_dict, shard_entries, shard_text, unpack

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

_PATIENCE = 5.0  # seconds that a parser may take on a busy machine; the texts are short
_PIECES = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\n", b"\r", b"\0", b"\xff", b"\xc3", b"null", b"true", b"NaN", b"-0", b"1e400"),
    *(b"99999999999999999999999", b'"#', b'"#1"', b'"#01"', b'"#["', b'"#{}"', b'"\\ud800"', b'"seq"', b'"put":{', b'"del":[', b'"seal":'),
    *(b'"front":', b'"clear":', b'"synced":', b'"crc":"', b"[" * 1500, b'{"a":' * 1500),
]  # fmt: skip
_KEYS: list[Any] = [
    "a",
    "",
    "#",
    "#1",
    1,
    1.0,
    True,
    None,
    ("a", (1, None)),
    (),
    "\N{GREEK SMALL LETTER ALPHA}",
    'q"\\',
    ":",
]
_SCALARS: list[Any] = [
    *(0, 1, -1, 2**63, 10**30, 1.5, 1e300, True, False, None, "", "a", "#1", "#01", "#[", "#1e400", "#{}", "#[[{}]]")
]


def _mutated(chance: random.Random, text: bytes) -> bytes:
    """Return the text with up to four changes; now and then none."""
    for _ in range(chance.choice([0, 1, 1, 2, 4])):
        start = chance.randrange(len(text) + 1)
        end = min(len(text), start + chance.choice([0, 0, 1, 1, 2, 8, 30]))
        new = chance.choice(
            [b"", chance.randbytes(chance.randrange(1, 4)), chance.choice(_PIECES), text[end : end + 9]]
        )
        text = text[:start] + new + text[end:]
    return text


def _value(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(6 if depth < 3 else 4)
    if kind == 4:
        return [_value(chance, depth + 1) for _ in range(chance.randrange(3))]
    if kind == 5:
        return {str(chance.choice(_SCALARS)): _value(chance, depth + 1) for _ in range(chance.randrange(3))}
    return chance.choice(_SCALARS)


def _fields(chance: random.Random, names: list[str]) -> bytes:
    """Return the fields of a line, some with a content that makes no sense, some more than once."""
    chosen = [chance.choice(names) for _ in range(chance.randrange(1, len(names)))]
    return (
        b",".join(b"%b:%b" % (json.dumps(name).encode(), json.dumps(_value(chance)).encode()) for name in chosen) + b"}"
    )


def _batch(chance: random.Random, seq: int) -> bytes:
    put = [(values.encode_key(key), orjson.dumps(chance.random())) for key in chance.sample(_KEYS, chance.randrange(3))]
    deleted, front = ([values.encode_key(key) for key in chance.sample(_KEYS, chance.randrange(2))] for _ in range(2))
    line = form.batch_line(seq, form.batch_content(deleted, put, front) or b'"clear":true', chance.choice([None, 3]))
    match chance.randrange(8):
        case 0:
            return signed(
                b'"seq":%d,' % seq + _fields(chance, ["put", "del", "front", "clear", "synced", "seal", "tastypy"])
            )
        case 1:
            return signed(_mutated(chance, line[18:-1]))
        case 2:
            return _mutated(chance, line)
        case 3:
            return form.seal_line(chance.randrange(5))
    return line


def _header(chance: random.Random) -> bytes:
    shards = tuple(form.Shard(number, 2, 1, 20, "00000000") for number in range(chance.randrange(3)))
    line = form.Header("0" * 16, 3, 2, 5, chance.random() < 0.5, 100, 3, shards).encode()
    fields = {**json.loads(line), chance.choice([*form.Header._fields, "tastypy"]): _value(chance)}
    del fields["crc"]
    odd = json.dumps(fields, separators=(",", ":")).encode()[1:]
    return chance.choice([line, _mutated(chance, line), signed(_mutated(chance, line[18:-1])), signed(odd)])


def _lock_line(chance: random.Random) -> None:
    line = form.LockLine("0123456789abcdef", chance.randrange(10**6)).encode()
    body = _mutated(chance, line[: line.index(b',"crc"')])
    forged = b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(body))
    found = form.decode_lock_line(chance.choice([_mutated(chance, line), forged]))
    if found is not None and (type(found.id), type(found.epoch)) != (str, int):
        raise WrongError(f"{found}")


def _headers(chance: random.Random) -> None:
    line = _header(chance)
    try:
        found = form.decode_header(line, "name")
    except FormatVersionError:
        return
    if found is not None and found.encode() != line.removesuffix(b"\n") + b"\n":
        raise WrongError(f"{line!r} is taken for {found}")


def _journal(chance: random.Random) -> None:
    text = b"".join(_batch(chance, seq) for seq in range(6, chance.randrange(6, 12)))
    text = chance.choice([text, text, _mutated(chance, text)])
    found = form.read_lines(text, 5)
    whole = b"".join(line + b"\n" for line in found.lines)
    if not text.startswith(whole) or len(whole) != found.length or found.seq != 5 + len(found.records):
        raise WrongError(f"{text!r}: {found}")
    replay({}, found.records)  # whatever is taken for a batch can be applied


def _shards(chance: random.Random) -> None:
    entries = [
        b"%b:%b" % (values.encode_key(key), json.dumps(_value(chance)).encode()) for key in chance.sample(_KEYS, 3)
    ]
    text = shard_text(entries)
    if chance.random() < 0.2:
        packed = pack(text)
        damaged = _mutated(chance, packed)
        try:
            text = unpack(damaged)
        except ValueError:
            return
    text = _mutated(chance, text)
    for parse in (shard_dict, _index):
        try:
            parse(text)
        except ValueError:
            continue


def _index(text: bytes) -> None:
    entries = shard_entries(text)
    index_keys(text, entries)
    for entry in entries:
        entry_name(entry)


def _names(chance: random.Random) -> None:
    name = _mutated(chance, orjson.loads(values.encode_key(chance.choice(_KEYS))).encode()).decode(errors="replace")
    name = chance.choice([name, "#" + name, "#" + json.dumps(_value(chance))])
    try:
        key = values.decode_key(name)
    except ValueError:
        return
    hash(key)
    if exactly({values.decode_key(orjson.loads(values.encode_key(key))): 0}) != exactly({key: 0}):
        raise WrongError(f"{name!r} is read as {key!r}, which is not read back")


def _workers_file(chance: random.Random) -> None:
    text = b'{"host":"h","pid":1,"since":1.5,"max_tries":0}\n"0123456789abcdef"\n"%b"\n' % (b" " * 16)
    with tempfile.TemporaryFile() as file:
        file.write(_mutated(chance, text))
        file.flush()
        # the public ways to it need a worker that is dead, for each of many texts
        who, in_hand = workers._read(file.fileno())
    if type(who) is not dict or not all(type(token) is str for token in in_hand):
        raise WrongError(f"{who}, {in_hand}")


def _bounded(fuzz: Callable[[random.Random], None]) -> Callable[[random.Random], None]:
    def run(chance: random.Random) -> None:
        start = time.process_time()
        fuzz(chance)
        if time.process_time() - start > _PATIENCE:
            raise WrongError(f"a short text took {time.process_time() - start:.1f} s")

    return run


PARSERS = {
    title: _bounded(fuzz)
    for title, fuzz in {
        "the line of .lock": _lock_line,
        "headers": _headers,
        "journals": _journal,
        "shards": _shards,
        "names of keys": _names,
        "files of workers": _workers_file,
    }.items()
}
