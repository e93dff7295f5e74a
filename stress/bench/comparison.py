"""The comparison: every workload by every peer that can do it, the peers in turn within every round."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from stress.bench.cells import Cell, LeftOutError, Outcome, apart, fill
from stress.bench.crowds import OTHERS, WRITERS
from stress.bench.figures import Spread, spread
from stress.bench.peers import OURS, PEERS, Peer
from stress.bench.workloads import FOOTPRINT, HUGE, LATENCY, OPENING, READING, VALUES, WRITING, Column, Workload

GROUPS: dict[str, tuple[Workload, ...]] = {
    "writing": WRITING,
    "reading": READING,
    "values": VALUES,
    "opening": OPENING,
    "writers": WRITERS,
    "others": OTHERS,
    "footprint": FOOTPRINT,
    "latency": LATENCY,
}
TITLES = {
    "writing": "Assignments by one process",
    "reading": "Reads by one process",
    "values": "Assignments of values of several sizes",
    "opening": "Opening a store and reading one entry, or all",
    "huge": "Opening 10,000,000 entries",
    "writers": "Assignments by several processes at once, of all together",
    "others": "Several processes on the same keys, readers beside writers, and changes of others",
    "footprint": "Files and memory",
    "latency": "How long single assignments take",
}

_CELL = 30.0  # seconds after which a peer is given up in a cell, and
_FILL = 300.0  # in preparing one
_FEWEST = 3  # rounds that a workload takes at least, whatever was asked for,
_SHORT = 20.0  # unless it has taken so many seconds by then


class Compared(NamedTuple):
    """What came of a workload.

    Attributes:
        samples: of each column and peer, the costs of the rounds.
        left_out: of each column and peer that has no cost, why.
        cut: the peers that did less than was asked, since their time was up.
    """

    workload: Workload
    samples: dict[tuple[str, str], list[float]]
    left_out: dict[tuple[str, str], str]
    cut: set[str]

    def cost(self, column: Column, peer: str) -> Spread | None:
        """Return the costs of a peer; None if it was left out."""
        samples = self.samples.get((column.name, peer))
        return spread(samples) if samples else None

    def ratio(self, column: Column, peer: str) -> Spread | None:
        """Return how many times as much it costs as tastypy does; None if there is nothing to compare."""
        ours, theirs = self.samples.get((column.name, OURS)), self.samples.get((column.name, peer))
        if not ours or not theirs or not all(ours):
            return None
        return spread([one / other for one, other in zip(theirs, ours, strict=False)])


def unable(peer: Peer, workload: Workload, entries: int) -> str:
    """Return why a peer does not take part in a workload, "" if it does."""
    if peer.appends and not workload.assigns:
        return "does nothing but append"
    if workload.lasting and not peer.lasting:
        return "is not on disk"
    if workload.shared and not peer.shared:
        return "not for several processes, by its documentation"
    if workload.reads and peer.reads_like:
        return f"as {peer.reads_like}"
    return peer.because if entries > peer.largest else ""


class Comparison:
    """Where the stores lie that were filled, and which peers are installed."""

    def __init__(self, place: Path, *, quick: bool) -> None:
        self._place = place
        self._quick = quick
        self._numbers = count()
        self._filled: dict[tuple[str, int], Path] = {}
        self.peers = [peer for peer in PEERS if not peer.missing()]

    def compare(self, workload: Workload, rounds: int) -> Compared | None:
        """Measure a workload; None if it is left out in the quick form."""
        if self._quick and workload.quick is None:
            return None
        entries, operations = (self._quick and workload.quick) or (workload.entries, workload.operations)
        seconds = min(workload.seconds, 0.02) if self._quick else workload.seconds
        compared = Compared(workload.with_entries(entries), {}, {}, set())
        taking_part = list(self._able(compared, entries))
        end = time.monotonic() + _SHORT
        for number in range(min(max(rounds, 1 if self._quick else _FEWEST), workload.most)):
            if number >= rounds and time.monotonic() > end:
                break
            start = number % len(taking_part) if taking_part else 0
            for peer in taking_part[start:] + taking_part[:start]:  # who follows whom stays, who begins does not
                try:
                    outcome = self._measure(workload, peer, entries, operations, seconds)
                except LeftOutError as error:
                    outcome = Outcome({column.name: str(error) for column in workload.columns})
                self._note(compared, peer, outcome)
            taking_part = [each for each in taking_part if (workload.name, each.name) not in compared.left_out]
        return compared

    def _able(self, compared: Compared, entries: int) -> Iterator[Peer]:
        for peer in self.peers:
            why = unable(peer, compared.workload, entries)
            for column in compared.workload.columns if why else ():
                compared.left_out[column.name, peer.name] = why
            if not why:
                yield peer

    @staticmethod
    def _note(compared: Compared, peer: Peer, outcome: Outcome) -> None:
        for name, cost in outcome.costs.items():
            if isinstance(cost, str):
                compared.samples.pop((name, peer.name), None)
                compared.left_out[name, peer.name] = cost
            elif (name, peer.name) not in compared.left_out:
                compared.samples.setdefault((name, peer.name), []).append(cost)
        if outcome.cut:
            compared.cut.add(peer.name)

    def _measure(self, workload: Workload, peer: Peer, entries: int, operations: int, seconds: float) -> Outcome:
        if entries:
            return apart(workload.run, Cell(peer, self._store(peer, entries), entries, operations, seconds), _CELL)
        path = self._path()
        try:
            return apart(workload.run, Cell(peer, path, entries, operations, seconds), _CELL)
        finally:
            self._remove(path)

    def _path(self) -> Path:
        return self._place / str(next(self._numbers))

    def _store(self, peer: Peer, entries: int) -> Path:
        known = self._filled.get((peer.name, entries))
        if known is not None or not peer.lasting:
            return known or self._path()
        path = self._path()
        apart(fill, Cell(peer, path, entries, entries, _FILL), _FILL)
        self._filled[peer.name, entries] = path
        return path

    def _remove(self, path: Path) -> None:
        for each in path.parent.glob(f"{path.name}*"):
            if each.name.partition(".")[0].partition("-")[0] == path.name:
                shutil.rmtree(each) if each.is_dir() else each.unlink()

    def clear(self) -> None:
        """Remove the stores that were filled."""
        for path in self._filled.values():
            self._remove(path)
        self._filled.clear()


def compared_groups(
    comparison: Comparison, wanted: Callable[[Workload], bool], rounds: int, *, huge: bool
) -> Iterator[tuple[str, list[Compared]]]:
    """Measure one group after the other; tell how it goes."""
    groups = {**GROUPS, "huge": HUGE} if huge else GROUPS
    for name, workloads in groups.items():
        chosen: list[Compared] = []
        for workload in filter(wanted, workloads):
            start = time.monotonic()
            compared = comparison.compare(workload, rounds)
            if compared is not None:
                chosen.append(compared)
                number = len({peer for _, peer in compared.samples})
                print(
                    f"  {compared.workload.columns[0].what}: {number} peers, {time.monotonic() - start:.0f} s",
                    flush=True,
                )
        if name in {"opening", "huge", "latency"}:
            comparison.clear()
        if chosen:
            yield name, chosen


def fields(groups: Sequence[tuple[str, list[Compared]]]) -> list[dict[str, Any]]:
    """Return every figure, as JSON has it."""
    return [
        {
            "group": name,
            "name": column.name,
            "what": column.what,
            "unit": column.unit,
            "costs": {peer: costs for (each, peer), costs in compared.samples.items() if each == column.name},
            "left out": {peer: why for (each, peer), why in compared.left_out.items() if each == column.name},
            "cut short": sorted(compared.cut),
        }
        for name, results in groups
        for compared in results
        for column in compared.workload.columns
    ]
