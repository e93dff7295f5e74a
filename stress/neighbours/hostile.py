"""Files that somebody made by hand who knows the format: with right checks, and with content that should harm who reads it."""

from __future__ import annotations

import gzip
import os
import zlib
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson

from tastypy import POD
from tastypy import format as form

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_DEEP = 100_000
_TERABYTE = 1 << 40
_BOMB = 512 << 20  # bytes that it unpacks to

SECRET = b'{"secret":"of somebody else"}'


def make(path: Path, *, gzipped: bool = False) -> dict[str, Any]:
    """Make a POD with a shard and lines in its journal; return its entries."""
    with POD[str, Any](path, gzipped=gzipped) as pod:
        pod.update({f"key-{number}": number for number in range(20)})
        pod.sync()
    with POD[str, Any](path) as pod:
        pod["last"] = 1
        pod._store.wrote = False  # so that it stays in the journal
        return pod.copy()


def copy(path: Path, mode: str) -> dict[str, Any]:
    """Open the POD and return its entries."""
    with POD[str, Any](path, mode=mode) as pod:
        return pod.copy()


def go_on(path: Path) -> list[str]:
    """Change the POD and fold it; return what `check` finds, but for what was set aside before."""
    with POD[str, Any](path) as pod:
        pod["again"] = True
        pod.sync()
        return [problem for problem in pod.check() if "set aside" not in problem]


def journal(path: Path) -> Path:
    """Return the newest journal."""
    return max(path.glob("journal-*"), key=lambda file: int(file.stem.partition("-")[2]))


def shard(path: Path) -> Path:
    """Return the shard."""
    return next(path.glob("0000-*"))


def signed(rest: bytes) -> bytes:
    """Return a line with a right crc."""
    return b'{"crc":"%08x",%b\n' % (zlib.crc32(rest), rest)


def _add_line(rest: bytes) -> Callable[[Path], None]:
    def add(path: Path) -> None:
        with journal(path).open("ab") as file:
            file.write(signed(rest))

    return add


def _say(**fields: Any) -> Callable[[Path], None]:
    """Return what makes the header say other things than it does, with a right crc."""

    def say(path: Path) -> None:
        file = journal(path)
        head, _, rest = file.read_bytes().partition(b"\n")
        said = orjson.loads(head)
        del said["crc"]
        file.write_bytes(signed(orjson.dumps(said | fields)[1:]) + rest)

    return say


def _put_header(rest: bytes) -> Callable[[Path], None]:
    def put(path: Path) -> None:
        journal(path).write_bytes(signed(rest))

    return put


def _put_shard(data: bytes) -> Callable[[Path], None]:
    """Return what puts these bytes into the shard, and their size and CRC into the header."""

    def put(path: Path) -> None:
        file = shard(path)
        file.write_bytes(data)
        epoch = int(file.name.partition("-")[2].partition(".")[0])
        _say(shards=[[0, epoch, 1, len(data), form.crc_text(data)]])(path)

    return put


@cache
def _bomb_data() -> bytes:
    """Return a gzip file of a shard with one long value, its many equal parts packed once."""
    part, times = b"x" * (1 << 22), _BOMB >> 22
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    begin, end = b'{\n"a":"', b'"\n}\n'
    first = packer.compress(begin) + packer.flush(zlib.Z_FULL_FLUSH)
    middle = packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH)
    last = packer.compress(end) + packer.flush()
    crc = zlib.crc32(begin)
    for _ in range(times):
        crc = zlib.crc32(part, crc)
    size = len(begin) + times * len(part) + len(end)
    trailer = zlib.crc32(end, crc).to_bytes(4, "little") + size.to_bytes(4, "little")
    return b"\x1f\x8b\x08" + bytes(7) + first + middle * times + last + trailer


def _bomb(path: Path) -> None:
    _put_shard(_bomb_data())(path)


def _stretch(which: Callable[[Path], Path], size: int, end: bytes = b"") -> Callable[[Path], None]:
    """Return what makes a file this large, of one hole, with these bytes after it."""

    def stretch(path: Path) -> None:
        os.truncate(which(path), size)
        with which(path).open("ab") as file:
            file.write(end)

    return stretch


def _lead_out(path: Path) -> None:
    """Have the header name a shard outside of the directory."""
    (path.parent / "foreign.json").write_bytes(SECRET)
    (path / "0000-x").mkdir()
    _say(shards=[[0, "x/../../foreign", 1, len(SECRET), form.crc_text(SECRET)]])(path)


def _lock(path: Path) -> Path:
    return path / ".lock"


_WHOLE = signed(b'"seq":10000000,"put":{"z":1}}')

PLAIN: dict[str, Callable[[Path], None]] = {
    "a .lock of gigabytes": _stretch(_lock, 1 << 34),
    "a journal of a terabyte": _stretch(journal, _TERABYTE),
    "a journal of a terabyte, with a line after it": _stretch(journal, _TERABYTE, _WHOLE),
    "a shard of a terabyte": _stretch(shard, _TERABYTE),
    "a deep shard": _put_shard(b'{\n"a":' + b"[" * _DEEP + b"]" * _DEEP + b"\n}\n"),
    "a shard of one open bracket": _put_shard(b"[" * _DEEP),
    "a shard that is a list": _put_shard(b"[1]"),
    "a shard with a deep key": _put_shard(b'{\n"#' + b"[" * 1000 + b"]" * 1000 + b'":1\n}\n'),
    "a shard with a key that is a dict": _put_shard(b'{\n"#{}":1\n}\n'),
    "a shard with a number of a million digits": _put_shard(b'{\n"a":' + b"9" * 1_000_000 + b"\n}\n"),
    "a shard of NUL bytes": _put_shard(b"\0" * 1000),
    "a deep line": _add_line(b'"seq":22,"put":{"a":' + b"[" * _DEEP + b"]" * _DEEP + b"}}"),
    "a line with a key that is a dict": _add_line(b'"seq":22,"put":{"#{}":1}}'),
    "a line with a number of a million digits": _add_line(b'"seq":22,"put":{"a":' + b"9" * 1_000_000 + b"}}"),
    "a seal that is a path": _add_line(b'"seal":"../../x"}'),
    "a seal of a far epoch": _add_line(b'"seal":1000000000000000000}'),
    "a header of 10**18 entries": _say(shards=[[0, 2, 10**18, 1, ""]]),
    "a header of a shard of 10**18 bytes": _say(shards=[[0, 2, 1, 10**18, ""]]),
    "a header of 10**18 shard bytes": _say(shard_bytes=10**18, next=10**18),
    "a header with a path": _lead_out,
    "a header with other types": _say(shards={"a": 1}, seq="x"),
    "a header without a number": _say(seq=None),
    "a header of a negative epoch": _say(before=-7),
    "a deep header": _put_header(b'"tastypy":' + b"[" * _DEEP + b"}"),
}
GZIPPED: dict[str, Callable[[Path], None]] = {
    "a gzip bomb": _bomb,
    "a shard that is no gzip": _put_shard(b"{}"),
    "a gzip file cut off": _put_shard(gzip.compress(b"{}" * 100)[:-9]),
    "a gzip file of a list": _put_shard(gzip.compress(b"[1]")),
}
