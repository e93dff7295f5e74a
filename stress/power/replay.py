"""The states that a disk, or a file server, may be in when a record breaks off: each one that is legal.

A model of what is promised, and of no more:

* A file holds what was written before its last fsync or fdatasync. Of all later writes and cuts each may have arrived or not;
  an append also in part, or as zeros, where its size arrived without its pages. A write within the file, which is the one
  short line of `.lock`, arrives whole or not at all: it lies in one sector.
* Names (create, rename, unlink) arrive in order, as on a journaled file system (ext4, XFS): any number of those after the last
  that an fsync of its directory waited for. Not `ordered`, any of them arrive without the others. An fsync of a file says
  nothing of its name.
* Where a client of a network file system dies, the server has all names, and of a file what was written before its last close.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple, TypeVar

from stress.power.recorder import Op

State = dict[str, bytes | None]  # what each name holds; None: it is a directory
T = TypeVar("T")

_SECTOR = 512  # bytes that arrive together
_VERSIONS = 24  # of a file, at most
_NAMINGS = 8  # of the names, at most


class Rules(NamedTuple):
    """What breaks off: a `client` of a file server, or a disk, one that keeps names `ordered` or not."""

    client: bool = False
    ordered: bool = True


class Disk:
    """What was done to it, and what of that is there for certain."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._names: dict[str, int] = {}  # 0: a directory
        self._later_names: list[Op] = []
        self._files: dict[int, bytes] = {}
        self._later: dict[int, list[Op]] = {}

    def do(self, op: Op) -> None:
        """Do it."""
        if op.kind == "create":
            self._files[op.file], self._later[op.file] = b"", []
        if op.kind in ("create", "mkdir", "rename", "unlink"):
            self._later_names.append(op)
            if self._rules.client:
                self._settle(len(self._later_names))
        elif op.kind in ("write", "cut"):
            self._later[op.file].append(op)
        elif op.kind == "sync" or (op.kind == "close" and self._rules.client):
            for one in self._later[op.file]:
                self._files[op.file] = _written(self._files[op.file], one)
            self._later[op.file].clear()
        elif op.kind == "settle":
            inside = [str(PurePath(one.name).parent) == op.name for one in self._later_names]
            if self._rules.ordered:
                self._settle(len(inside) - [*reversed(inside), True].index(True))
            else:
                for one in itertools.compress(self._later_names, inside):
                    _name(self._names, one)
                self._later_names = [one for one, it_is in zip(self._later_names, inside, strict=True) if not it_is]

    def _settle(self, number: int) -> None:
        for op in self._later_names[:number]:
            _name(self._names, op)
        del self._later_names[:number]

    def names(self) -> dict[str, int]:
        """Return the files that there are for who looks now, and the directories, as 0."""
        return self._named(self._later_names)

    def now(self) -> State:
        """Return what there is for who looks now."""
        return {
            name: self._arrived(file, [op.data for op in self._later[file]]) if file else None
            for name, file in self.names().items()
        }

    def unfinished(self) -> list[int]:
        """Return the files of which something need not be there."""
        return [file for file, later in self._later.items() if later]

    def states(self, chance: random.Random, most: int) -> Iterator[State]:
        """Yield what may be there after it breaks off here, at most about `most` of it, picked at random if it is more."""
        namings = self._namings(chance)
        for names in namings:
            used = [file for file in names.values() if file]
            versions = [self._versions(file, chance) for file in used]
            for contents in _picked(versions, max(most // len(namings), 2), chance):
                found = dict(zip(used, contents, strict=True))
                yield {name: found.get(file) for name, file in names.items() if _parents(name) <= names.keys()}

    def _namings(self, chance: random.Random) -> list[dict[str, int]]:
        later = self._later_names
        if self._rules.ordered:
            numbers: Sequence[int] = range(len(later) + 1)
            if len(numbers) > _NAMINGS:
                numbers = sorted({0, len(later), *chance.sample(numbers, _NAMINGS - 2)})
            return [self._named(later[:number]) for number in numbers]
        chosen = _picked([(False, True)] * len(later), _NAMINGS, chance)
        return [self._named([*itertools.compress(later, some)]) for some in chosen]

    def _named(self, later: Sequence[Op]) -> dict[str, int]:
        names = self._names.copy()
        for op in later:
            _name(names, op)
        return names

    def _versions(self, file: int, chance: random.Random) -> list[bytes]:
        """Return what the file may hold, the least first, the most last."""
        ways = [_ways(op, chance) for op in self._later[file]]
        pieces = [*_picked(ways, _VERSIONS, chance)]
        if len(ways) > 1:  # a journal that was not synchronised is likely to be there up to some line
            whole = [way[-1] for way in ways]
            cuts = chance.sample(range(len(ways)), min(len(ways), _VERSIONS // 2))
            pieces[1:1] = [[*whole[:at], chance.choice(ways[at]), *[None] * (len(ways) - at - 1)] for at in cuts]
        return [*dict.fromkeys(self._arrived(file, some) for some in pieces)]

    def _arrived(self, file: int, pieces: Sequence[bytes | None]) -> bytes:
        data = self._files[file]
        for op, piece in zip(self._later[file], pieces, strict=True):
            if piece is not None:
                data = _written(data, op._replace(data=piece))
        return data


def _parents(name: str) -> set[str]:
    return {str(parent) for parent in PurePath(name).parents} - {"."}


def _name(names: dict[str, int], op: Op) -> None:
    if op.kind in ("rename", "unlink"):
        names.pop(op.name, None)
    if op.kind != "unlink":
        names[op.to or op.name] = op.file


def _written(data: bytes, op: Op) -> bytes:
    """Return what the file holds after a write or a cut; where nothing was written are zeros."""
    begin = data[: op.number].ljust(op.number, b"\0")
    return begin if op.kind == "cut" else begin + op.data + data[op.number + len(op.data) :]


def _ways(op: Op, chance: random.Random) -> list[bytes | None]:
    """Return what may arrive of a write, or of a cut, which has no data: nothing, first, and all of it, last."""
    size = len(op.data)
    if size < 2 or op.data[:5] == b'{"id"':
        return [None, op.data]
    ways = [None, op.data[: chance.randrange(1, size)], op.data[:-1], bytes(size)]
    edges = range(_SECTOR - op.number % _SECTOR, size, _SECTOR)
    if edges:
        edge = chance.choice(edges)
        ways += [op.data[:edge] + bytes(size - edge), bytes(edge) + op.data[edge:]]
    return [*ways, op.data]


def _picked(choices: Sequence[Sequence[T]], most: int, chance: random.Random) -> Iterator[Sequence[T]]:
    """Yield one of each in every combination, or `most` of them at random, among these the first and the last."""
    if math.prod(map(len, choices)) <= most:
        yield from itertools.product(*choices)
        return
    yield [some[0] for some in choices]
    for _ in range(most - 2):
        yield [chance.choice(some) for some in choices]
    yield [some[-1] for some in choices]


def lay_out(state: State, root: Path) -> None:
    """Make the files of a state below `root`, a new directory."""
    root.mkdir()
    for name, data in sorted(state.items()):
        if data is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(data)
