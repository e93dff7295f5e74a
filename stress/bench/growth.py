"""How tastypy alone does as it grows: with the entries, from a thousand on, and with the processes, to 64 of them.

The waits have bounds of their own, without anything to compare with. They are not judged in the quick form.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from stress.bench.bench import entry, key_of
from stress.bench.cells import Cell, Outcome, apart, fill, new_entries, paced
from stress.bench.crowds import Step, Stint, cost, own, together
from stress.bench.figures import Spread, amount, beyond, slope, spread
from stress.bench.peers import PEERS
from tastypy import POD

LINES = {
    "assign": "assignment of a new key",
    "update": "assignment to a random key",
    "read": "read of a random key",
    "refresh": "`refresh()` after a change by another",
    "open": "opening and reading one entry",
    "fold": "fold, a hundredth of the keys changed",
}
PARTS = ("sizes", "waits", "opens", "crowd-waits")
_SIZES, _HUGE, _QUICK = (1000, 10_000, 100_000, 1_000_000), 10_000_000, (1000, 10_000)
_LIMIT = 600.0  # seconds after which a part is given up
_OURS = PEERS[0]


class Line(NamedTuple):
    """How a cost grows: its spread at each size, and the exponent."""

    name: str
    what: str
    points: dict[int, Spread]

    @property
    def slope(self) -> float:
        """How it grows: 0 if it does not, 1 if with the number of entries."""
        return slope({size: each.middle for size, each in self.points.items()})


class Wait(NamedTuple):
    """One figure of many processes, with its bound, if it has one."""

    name: str
    what: str
    value: float
    unit: str = "s"
    bound: float | None = None

    def beyond(self) -> bool:
        """Tell whether it is beyond its bound."""
        return self.bound is not None and beyond(self.value, self.bound, at_least=False)

    def __str__(self) -> str:
        if self.bound is None:
            return f"{self.what}: {amount(self.value, self.unit)}"
        verdict = "BEYOND" if self.beyond() else "ok"
        return f"{self.what}: {amount(self.value, self.unit)} (at most {amount(self.bound, self.unit)}: {verdict})"


def _at_size(cell: Cell) -> Outcome:
    """Measure every line's cost at one size."""
    chooser = random.Random(cell.entries)
    keys = [key_of(chooser.randrange(cell.entries)) for _ in range(100_000)]
    start = time.perf_counter()
    pod = POD[str, Any](cell.path)
    pod[keys[0]]
    costs: dict[str, float | str] = {"open": time.perf_counter() - start}

    def read(part: Any) -> None:
        for key in part:
            pod[key]

    def assign(part: Any) -> None:
        for key, value in part:
            pod[key] = value

    costs["read"], _ = paced(read, keys, cell.seconds)
    costs["update"], _ = paced(assign, [(key, entry(number)) for number, key in enumerate(keys)], cell.seconds)
    added = new_entries(cell.entries, 2000)
    costs["assign"], _ = paced(assign, added, cell.seconds)
    with POD[str, Any](cell.path) as other:
        times = []
        for number, key in enumerate(keys[:50]):
            other[key] = number
            start = time.perf_counter()
            pod.refresh()
            times.append(time.perf_counter() - start)
    costs["refresh"] = sum(times) / len(times)
    for key, _ in added:
        pod.pop(key, None)  # as many as before, for the next round
    pod.sync()
    pod.update({chooser.choice(keys): entry(number) for number in range(max(cell.entries // 100, 10))})
    start = time.perf_counter()
    pod.sync()
    costs["fold"] = time.perf_counter() - start
    pod.close()
    return Outcome(costs)


def lines(place: Path, rounds: int, *, quick: bool, huge: bool) -> list[Line]:
    """Measure how the costs grow with the number of entries."""
    sizes = _QUICK if quick else (*_SIZES, _HUGE) if huge else _SIZES
    samples: dict[str, dict[int, list[float]]] = {name: {size: [] for size in sizes} for name in LINES}
    for size in sizes:
        apart(fill, Cell(_OURS, place / f"growth-{size}", 0, size, 0), _LIMIT)
    for _ in range(rounds):
        for size in sizes:
            cell = Cell(_OURS, place / f"growth-{size}", size, 0, 0.05 if quick else 1.0)
            for name, each in apart(_at_size, cell, _LIMIT).costs.items():
                samples[name][size].append(float(each))
    for size in sizes:
        shutil.rmtree(place / f"growth-{size}")
    result = [
        Line(name, LINES[name], {size: spread(each) for size, each in points.items()})
        for name, points in samples.items()
    ]
    for line in result:
        told = ", ".join(f"{amount(each.middle, 's')} of {size:,}" for size, each in line.points.items())
        print(f"  {line.what}: {told}; exponent {line.slope:.2f}", flush=True)
    return result


def _updates(cell: Cell, process: int) -> Step:
    chooser = random.Random(process)

    def step(pod: Any, number: int) -> None:
        pod[key_of(chooser.randrange(cell.entries))] = entry(number)

    return step


def _opened(path: Any, _: int) -> None:
    pod = POD[str, Any](path)
    pod[key_of(0)]
    pod.close()


def _crowd(cell: Cell, steps: list[Step]) -> list[Stint]:
    """Run the steps in processes that are forked from a small one, as every cell's are."""
    return apart(lambda each: together(each, steps), cell, _LIMIT)


def waits(place: Path, part: str, *, quick: bool) -> Iterator[Wait]:
    """Measure what many processes wait for; with bounds, unless it is the quick form."""
    path = place / part
    crowd, few = (8, 2) if quick else (64, 8)
    if part == "waits":
        entries = 10_000 if quick else 1_000_000
        apart(fill, Cell(_OURS, path, 0, entries, 0), _LIMIT)
        epoch = POD[str, Any](path, mode="r").stats().epoch
        cell = Cell(_OURS, path, entries, 0, 1.0 if quick else 30.0)
        stints = _crowd(cell, [_updates(cell, process) for process in range(2)])
        folds = POD[str, Any](path, mode="r").stats().epoch - epoch
        what = f"the longest of {sum(each.done for each in stints):,} commits of two processes, {entries:,} keys, {folds} folds"
        yield Wait("commit-wait", what, max(each.longest for each in stints), bound=None if quick else 0.5)
    elif part == "opens":
        entries = 10_000 if quick else 100_000
        apart(fill, Cell(_OURS, path, 0, entries, 0), _LIMIT)
        cell = Cell(_OURS._replace(open=lambda each: each, close=lambda _: None), path, entries, 0, 0.0)
        stints = _crowd(cell, [_opened] * crowd)
        end, start = max(each.end for each in stints), min(each.start for each in stints)
        yield Wait("opens", f"{crowd} processes opening {entries:,} entries at once, all of them", end - start)
    else:
        for processes in (few, crowd):
            cell = Cell(_OURS, place / f"{part}-{processes}", 0, 0, 0.5 if quick else 5.0)
            POD[str, Any](cell.path).close()
            stints = _crowd(cell, [own(cell, process) for process in range(processes)])
            yield Wait(f"rate-{processes}", f"assignments of {processes} processes together", 1 / cost(stints), "/s")
        longest = max(each.longest for each in stints)
        yield Wait("crowd-wait", f"the longest assignment of {crowd} processes", longest, bound=None if quick else 2.0)


def grown(
    place: Path, wanted: Callable[[str], bool], rounds: int, *, quick: bool, huge: bool
) -> tuple[list[Line], list[Wait]]:
    """Measure the parts that are wanted; tell how it goes."""
    result = lines(place, rounds, quick=quick, huge=huge) if wanted("sizes") else []
    told = []
    for part in PARTS[1:]:
        for wait in waits(place, part, quick=quick) if wanted(part) else ():
            print(f"  {wait}", flush=True)
            told.append(wait)
    return result, told


def fields(result: list[Line], told: list[Wait]) -> dict[str, Any]:
    """Return every figure, as JSON has it."""
    return {
        "lines": [
            {"name": line.name, "what": line.what, "slope": line.slope, "points": line.points} for line in result
        ],
        "waits": [{**wait._asdict(), "beyond": wait.beyond()} for wait in told],
    }
