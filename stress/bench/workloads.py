"""What the peers are compared in: the workloads of one process, which `work` does. Those of several processes stand in `crowds`.

A cost is of one key, in seconds or bytes. Preparing is not in it. The collector of garbage stays as Python has it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from stress.bench import work
from stress.bench.cells import Cell, Outcome


class Column(NamedTuple):
    """One figure of a workload: its name in JSON and for `--only`, its heading, what one unit of it is.

    `{entries}` stands for the entries that the store has.
    """

    name: str
    head: str
    what: str
    unit: str = "s"


class Workload(NamedTuple):
    """What every peer does, and what is told of it.

    Attributes:
        columns: of the table; the first one's name is what `--only` calls it.
        run: does it.
        entries: in the store at the beginning; 0 for a new one.
        operations: how many at most.
        quick: both of `--quick`; None if it is left out there.
        assigns, reads: whether it does nothing else.
        lasting, shared: whether it needs something on disk; several processes.
        seconds: of a cell.
        most: rounds.
    """

    columns: tuple[Column, ...]
    run: Callable[[Cell], Outcome]
    entries: int
    operations: int
    quick: tuple[int, int] | None
    assigns: bool = False
    reads: bool = False
    lasting: bool = False
    shared: bool = False
    seconds: float = 0.5
    most: int = 100

    @property
    def name(self) -> str:
        """What `--only` calls it."""
        return self.columns[0].name

    def with_entries(self, entries: int) -> Workload:
        """Return it with headings for so many entries."""
        told = f"{entries:,}"
        columns = [
            each._replace(head=each.head.format(entries=told), what=each.what.format(entries=told))
            for each in self.columns
        ]
        return self._replace(columns=tuple(columns))


def _alone(
    name: str,
    head: str,
    what: str,
    run: Callable[[Cell], tuple[float, bool]],
    *args: Any,
    **options: Any,
) -> Workload:
    """Make a workload of one column, of a function that returns the cost and whether it was cut short."""

    def whole(cell: Cell) -> Outcome:
        cost, cut = run(cell)
        return Outcome({name: cost}, cut)

    return Workload((Column(name, head, what),), whole, *args, **options)


def _opening(size: int, name: str, quick: int) -> Workload:
    what = "opening {entries} entries and reading one"
    rounds = 3 if size >= 1_000_000 else 100
    few = (quick, 2) if quick else None
    return _alone(name, "{entries}", what, work.open_one, size, 20, few, reads=True, lasting=True, most=rounds)


def _opening_all(size: int, name: str, quick: int) -> Workload:
    what = "opening {entries} entries and reading all"
    seconds, rounds = (6.0, 3) if size >= 1_000_000 else (2.0, 100)
    few = (quick, 1) if quick else None
    options = {"reads": True, "lasting": True, "seconds": seconds, "most": rounds}
    return _alone(name, "{entries}, all", what, work.open_all, size, 1, few, **options)


def _batch(size: int, quick: int, operations: int) -> Workload:
    run = partial(work.batches, size=size)
    return _alone(
        f"batch-{size}",
        f"batch of {size:,}",
        f"a key in a batch of {size:,}",
        run,
        0,
        operations,
        (0, quick) if quick else None,
        most=3 if size > 10_000 else 100,
    )


def _value(size: int, head: str, operations: int) -> Workload:
    run = partial(work.assign_large, size=size)
    return _alone(f"value-{size}", head, f"assignment of {head}", run, 0, operations, (0, 3), assigns=True)


WRITING = (
    _alone("assign", "assignment", "assignment of a new key", work.assign, 0, 10_000, (0, 50), assigns=True),
    _batch(10, 0, 5_000),
    _batch(1000, 1000, 20_000),
    _batch(100_000, 0, 100_000),
    _alone(
        "update", "random key", "assignment to a random one of {entries} keys", work.update, 10_000, 10_000, (500, 20)
    ),
    _alone(
        "delete",
        "delete, return",
        "deletion and return of one of {entries} keys",
        work.delete,
        10_000,
        5000,
        (500, 10),
    ),
)
READING = (
    _alone("read", "read", "read of one of {entries} keys", work.read, 10_000, 200_000, (500, 50), reads=True),
    _alone("contains", "in", "`key in store` of {entries} keys", work.contains, 10_000, 200_000, (500, 50), reads=True),
    _alone("iterate", "iteration", "iteration, a key of {entries}", work.iterate, 10_000, 1, (500, 1), reads=True),
)
OPENING = (
    _opening(1000, "open-1000", 500),
    _opening(10_000, "open-10000", 0),
    _opening(100_000, "open-100000", 0),
    _opening(1_000_000, "open-1000000", 0),
    _opening_all(100_000, "all-100000", 500),
    _opening_all(1_000_000, "all-1000000", 0),
)
HUGE = (_opening(10_000_000, "open-10000000", 0), _opening_all(10_000_000, "all-10000000", 0))
VALUES = (_value(50, "50 B", 5000), _value(5000, "5 kB", 1000), _value(500_000, "500 kB", 30))
FOOTPRINT = (
    Workload(
        (
            Column("written", "written", "bytes written, a byte of JSON assigned", "B/B"),
            Column("disk", "on disk", "bytes on disk, a byte of JSON assigned", "B/B"),
            Column("files", "files", "files there afterwards", "files"),
        ),
        work.footprint,
        0,
        2000,
        (0, 50),
        assigns=True,
        lasting=True,
        seconds=2.0,
        most=1,
    ),
    Workload(
        (Column("memory", "memory", "memory, a key of {entries}, all read once", "B"),),
        work.memory,
        100_000,
        1,
        (5000, 1),
        reads=True,
        most=3,
    ),
)
LATENCY = (
    Workload(
        (
            Column("p50", "50 %", "half of the assignments take no longer"),
            Column("p99", "99 %", "99 % of them"),
            Column("p99.9", "99.9 %", "99.9 % of them"),
            Column("worst", "worst", "the longest"),
        ),
        work.latency,
        0,
        30_000,
        (0, 100),
        assigns=True,
        seconds=2.0,
    ),
)
