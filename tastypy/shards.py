"""The text of a shard: one JSON object whose entries stand one a line, so that a fold takes them over without parsing them.

An entry is the JSON of its key, a colon, and the JSON of its value. No I/O here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from zlib import decompressobj
from zlib import error as zlib_error

from tastypy.values import decode_key, decode_keys, encode_key, loads

_PLAIN = 1 << 26  # bytes of text that a shard may always unpack to, however few bytes it has
_MOST_RATIO = 32  # a text beyond that is not longer than so many times the shard


def _most_text(size: int) -> int:
    """Return how long a text `size` bytes may unpack to: gzip would allow a thousand times as many."""
    return max(_PLAIN, _MOST_RATIO * size)


def pack(text: bytes) -> bytes:
    """Return the text as gzip holds it; as it is, if it were to become too small to be told from a bomb."""
    import gzip  # noqa: PLC0415 - seldom needed, and a tenth of the time of importing this package

    data = gzip.compress(text, 6, mtime=0)
    return data if len(text) <= _most_text(len(data)) else gzip.compress(text, 0, mtime=0)


def unpack(data: bytes) -> bytes:
    """Return the text of `pack`.

    Raises:
        ValueError: it is none, or longer than `pack` allows for.
    """
    most = _most_text(len(data))
    unpacking = decompressobj(wbits=31)
    try:
        text = unpacking.decompress(data, most + 1)
    except zlib_error as error:
        raise ValueError(f"not a text in gzip: {error}") from error
    if len(text) > most or not unpacking.eof or unpacking.unused_data:
        message = f"{len(data)} bytes that unpack to more than {most:,}" if len(text) > most else "not one gzip file"
        raise ValueError(message)
    return text


_FIRST, _BETWEEN, _LAST = b"{\n", b",\n", b"\n}\n"
_NAME = re.compile(rb'"(?:[^"\\]|\\.)*"')


def shard_text(entries: Sequence[bytes]) -> bytes:
    """Return the text of the shard with these entries, each the JSON of its key, a colon, and the JSON of its value."""
    return _FIRST + _BETWEEN.join(entries) + _LAST


def shard_entries(text: bytes) -> list[bytes]:
    """Return the entries of a shard; the inverse of `shard_text`."""
    return text[len(_FIRST) : -len(_LAST)].split(_BETWEEN)


def shard_dict(text: bytes) -> dict[Any, Any]:
    """Return the shard as a dict, its keys decoded.

    Raises:
        ValueError: it is none.
    """
    entries: Any = loads(text)
    if type(entries) is not dict:
        message = "no JSON object"
        raise ValueError(message)
    # a look for one byte takes a tenth of the time
    found: dict[Any, Any] = decode_keys(entries) if b"#" in text and b'\n"#' in text else entries
    return found


def index_key(key: object) -> Any:
    """Return what stands for a key in a fold: its JSON without the last quote where that is plain, else the key itself.

    Equal keys that are spelled differently, as 1 and True, then have equal index keys.
    """
    name = encode_key(key)
    return key if b"\\" in name or name[1:2] == b"#" else name[:-1]


def index_key_of(entry: bytes) -> Any:
    """Return the index key of an entry of a shard."""
    # A key's JSON ends at the first `":`, unless there is a backslash before, or the key begins with a colon: that takes a
    # fifth of the time of parsing the entry.
    name = entry.partition(b'":')[0]
    if b"\\" in name or name[1:2] == b"#" or not name:
        return index_key(decode_key(loads(entry_name(entry))))
    return name


def index_keys(text: bytes, entries: Sequence[bytes]) -> list[Any]:
    """Return the index key of each entry of the shard `text`."""
    if b"\\" in text or (b"#" in text and b'\n"#' in text) or b'\n":' in text:
        return [index_key_of(entry) for entry in entries]
    return [entry.partition(b'":')[0] for entry in entries]


def entry_name(entry: bytes) -> bytes:
    """Return the JSON of the key of an entry of a shard."""
    match = _NAME.match(entry)
    if match is None:
        message = f"not an entry of a shard: {entry[:40]!r}"
        raise ValueError(message)
    return match[0]
