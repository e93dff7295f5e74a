"""Small directories to be damaged, one of each kind, each with what it was at earlier moments; for `corruption`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stress.corruption.plain import Entries, Files, Sound, sound
from tastypy import POD, Tracker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SHARD_BYTES = 40  # so that a few entries make several shards


class Sample(NamedTuple):
    """A directory as a process that was killed leaves it.

    Attributes:
        name: of its kind; kind: the class that it is opened with; files: what is there; known: what they say; entries: of the POD.
        earlier: what was there at earlier moments.
        foreign: the files of another directory of the same kind, with other values.
    """

    name: str
    kind: type[POD[Any, Any]]
    files: Files
    known: Sound
    entries: Entries
    earlier: list[Files]
    foreign: Files


class _Maker:
    """Takes a POD through its life, and notes what is on the disk in between."""

    def __init__(self, path: Path, kind: type[POD[Any, Any]], **options: Any) -> None:
        self.path = path
        self.pod = kind(path, **options)
        self.moments = [self.files()]

    def files(self) -> Files:
        return {file.name: file.read_bytes() for file in sorted(self.path.iterdir())}

    def note(self) -> None:
        self.moments.append(self.files())

    def lines(self, value: Any) -> None:
        """Commit batches with every field, and keys of every kind."""
        pod = self.pod
        for change in (
            lambda: pod.update({"a": value, "#b": [1, None], 1: {"c": 0.5}}),
            lambda: pod.move_to_end("a", last=False),
            lambda: pod.update({("d", True): value, "e": "\N{GREEK SMALL LETTER ALPHA}"}),
            lambda: pod.pop("#b"),
            lambda: pod.update({"f": value}),
        ):
            change()
            self.note()

    def fold(self, value: Any) -> None:
        """Leave several shards, their numbers not in the order of their keys, and lines after them."""
        self.pod.update({f"key {number}": value for number in range(4)} | {"#x": 1, 2: "y"})
        self.pod.sync()
        self.note()
        self.pod.move_to_end("key 3", last=False)
        self.pod["key 1"] = [value]
        self.pod.sync()
        self.note()
        self.lines(value)
        self.pod["key 2"] = value * 2
        self.note()


def _fresh(maker: _Maker, value: str) -> None:
    del maker, value


def _lines(maker: _Maker, value: str) -> None:
    maker.lines(value)


def _folded(maker: _Maker, value: str) -> None:
    maker.fold(value)


def _dead(maker: _Maker, value: str) -> None:
    """Leave what a fold leaves that died just before its commit."""
    maker.fold(value)
    earlier = maker.files()
    maker.pod.sync()
    dead = {name: data for name, data in maker.files().items() if name not in earlier}
    maker.moments.append({**earlier, **dead, f".{'0' * 16}.tmp": b"{\n"})


def _tracked(maker: _Maker, value: str) -> None:
    tracker: Any = maker.pod
    for key in ("a", "b", "c"):
        tracker.add(key, of=value)
        maker.note()
    next(iter(tracker.claims())).done(result=value)
    maker.note()
    claim = next(iter(tracker.claims()))
    maker.note()
    claim.release()


_KINDS: dict[str, tuple[Callable[[_Maker, str], None], type[POD[Any, Any]], dict[str, Any]]] = {
    "fresh": (_fresh, POD, {}),
    "lines": (_lines, POD, {}),
    "synced lines": (_lines, POD, {"durable": True}),
    "folded": (_folded, POD, {"shard_bytes": _SHARD_BYTES}),
    "gzipped": (_folded, POD, {"shard_bytes": _SHARD_BYTES, "gzipped": True}),
    "dead fold": (_dead, POD, {"shard_bytes": _SHARD_BYTES}),
    "tracker": (_tracked, Tracker, {}),
}


def samples(place: Path) -> list[Sample]:
    """Return one of each kind."""
    found = []
    for name, (live, kind, options) in _KINDS.items():
        made = []
        for value in ("v", "w"):
            maker = _Maker(place / f"{name} {value}", kind, **options)
            live(maker, value)
            made.append(maker.moments)
            maker.pod.close()
        files = made[0][-1]
        known = sound(files)
        found.append(Sample(name, kind, files, known, _entries(place / name, files, kind), made[0][:-1], made[1][-1]))
    return found


def write(path: Path, files: Files) -> None:
    """Make a directory with these files."""
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)


def _entries(path: Path, files: Files, kind: type[POD[Any, Any]]) -> Entries:
    write(path, files)
    with kind(path, mode="r") as pod:
        return pod.copy()
