"""What the rows are made of: entries, where the data lies, and the two sides of a pair."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from tastypy import POD

if TYPE_CHECKING:
    from pathlib import Path

SMALL = 1_000  # entries
_LARGE, _QUICK = 1_000_000, 100_000  # entries of a large POD, and what --quick takes for one

Store = MutableMapping[str, Any]
Side = Callable[[], float]


class Sides(NamedTuple):
    """What is compared: tastypy, and the other thing, named here if it had to be found first."""

    ours: Side
    theirs: Side
    named: str = ""


def key_of(number: int) -> str:
    """Return the key of an entry."""
    return f"key-{number:06d}"


def entry(number: int) -> dict[str, Any]:
    """Return a small value, as a task's result might be."""
    return {"lines": number, "name": f"file-{number % 1000}"}


class Bench:
    """Where the data lies, how much is done at a time, and how many entries are many."""

    def __init__(self, place: Path, *, quick: bool) -> None:
        self.place = place
        self.quick = quick
        self.large = _QUICK if quick else _LARGE
        self._numbers = count()
        self._copy: Path | None = None

    def path(self) -> Path:
        """Return a path that is not in use."""
        return self.place / str(next(self._numbers))

    def pod(self, entries: int) -> Path:
        """Return the path of a new POD with this many entries, all of them in shards."""
        path = self.path()
        if entries == self.large and self._copy is not None:
            shutil.copytree(self._copy, path)
            return path
        with POD[str, Any](path) as pod:
            pod.update({key_of(number): entry(number) for number in range(entries)})
            pod.sync()
        if entries == self.large:
            self._copy = self.path()
            shutil.copytree(path, self._copy)
        return path

    def clear(self) -> None:
        """Remove the data of all rows."""
        self._copy = None
        for each in self.place.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()

    @contextmanager
    def index(self) -> Iterator[Any]:
        """Open a new `diskcache.Index`, as it is by default."""
        index = importlib.import_module("diskcache").Index(str(self.path()))
        try:
            yield index
        finally:
            index.cache.close()


class Pair(NamedTuple):
    """One row of the table.

    Attributes:
        name: what `--only` calls it.
        what: one unit of our side's work; `{large}` stands for the entries of a large POD.
        against: the same of the other side.
        prepare: a context in which both sides are ready.
        bound: what the ratio may be at most (at least, if `rate`); None if it is for information.
        rate: the ratio is one of rates, ours to theirs; otherwise one of costs.
        chunks: how often the sides alternate within a round.
        combine: what makes one figure of a side's chunks. The mean where rare events (a fold) belong to the cost, the
            minimum where anything above it is the machine's doing.
        unit: of the costs, "s" or "B".
        warm: whether there is a first round that does not count.
        most: how many rounds are enough; quick_rounds: how many `--quick` takes.
    """

    name: str
    what: str
    against: str
    prepare: Callable[[Bench], AbstractContextManager[Sides]]
    bound: float | None = None
    rate: bool = False
    chunks: int = 1
    combine: Callable[[list[float]], float] = fmean
    unit: str = "s"
    warm: bool = True
    most: int = 9
    quick_rounds: int = 3
