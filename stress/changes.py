"""Writers whose every change can be told in advance, so that what they left behind when killed can be judged.

A writer's n-th change follows from the seed, its name, n and its entries so far. It reports each acknowledged change by one
byte. Whoever reads the bytes knows the entries before and after the change that was in flight, and no others are right.
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from tastypy import POD

if TYPE_CHECKING:
    from collections.abc import Iterator

Entries = dict[str, Any]  # in order, as a POD is

SHARD_BYTES = 400  # of small shards, so that a few entries make many files
TOTAL = "total"  # the sum of all writers' counts: a transaction changes both
_KEYS = 40  # of a writer
_LARGE = 1_200_000  # bytes; more than a journal holds, so that an assignment sets off a fold


class Change(NamedTuple):
    """One commit, or, as `sync`, none: what it deletes, sets and moves to the front."""

    kind: str
    deleted: tuple[str, ...] = ()
    put: tuple[tuple[str, Any], ...] = ()
    front: str | None = None

    def apply(self, entries: Entries) -> Entries:
        """Return the entries after the change."""
        after = {key: value for key, value in entries.items() if key not in self.deleted}
        after.update(self.put)
        if self.front is not None:
            after = {self.front: after[self.front], **after}
        return after


KINDS = {  # and how often each is chosen
    "set": 30,
    "delete": 10,
    "pop": 5,
    "update": 10,
    "transaction": 15,
    "held": 5,
    "front": 4,
    "back": 4,
    "sync": 8,
    "clear": 1,
    "large": 1,
}


def _make(pod: POD[str, Any], change: Change) -> None:
    for key in change.deleted:
        del pod[key]
    for key, value in change.put:
        pod[key] = value


class Writer(NamedTuple):
    """One who changes a POD: its keys begin with its name. If it is not `alone`, it does not clear the POD."""

    seed: int
    name: str
    alone: bool = False

    def key(self, number: int | str) -> str:
        """Return one of its keys; a few of them are such that files spell them differently."""
        return f"{self.name}-{number}" + ('"\\\n' if number in (5, 18, 31) else "")

    @property
    def counter(self) -> str:
        """Return the key under which it counts its transactions."""
        return f"{self.name}-count"

    def own(self, pod: dict[str, Any]) -> Entries:
        """Return its part of a POD that it may share."""
        return {key: value for key, value in pod.items() if key.startswith(f"{self.name}-")}

    def kinds(self, first: int, last: int) -> set[str]:
        """Return what kinds of changes it wants to make from step `first` on, before step `last`."""
        return {self._begin(step)[1] for step in range(first, last)}

    def _begin(self, step: int) -> tuple[random.Random, str]:
        chance = random.Random(f"{self.seed} {self.name} {step}")
        return chance, chance.choices([*KINDS], [*KINDS.values()])[0]

    def change(self, step: int, entries: Entries) -> Change:
        """Return its change number `step`, with these entries before it."""
        chance, kind = self._begin(step)
        there = [key for key in entries if key != self.counter]

        def fresh(size: int) -> tuple[tuple[str, Any], ...]:
            keys = [self.key(number) for number in chance.sample(range(_KEYS), size)]
            return tuple((key, {"step": step, "text": "ä" * chance.randrange(30)}) for key in keys)

        if kind == "clear":
            return Change(kind, tuple(entries)) if self.alone else Change("sync")
        if kind == "sync":
            return Change(kind)
        if kind == "set" or not there:
            return Change("set", put=fresh(1))
        some = chance.choice(there)
        if kind in ("delete", "pop"):
            return Change(kind, deleted=(some,))
        if kind == "front":
            return Change(kind, front=some)
        if kind == "back":  # as a change of entries: deleted and set again
            return Change(kind, deleted=(some,), put=((some, entries[some]),))
        if kind == "large":
            return Change("set", put=((some, "x" * _LARGE),))
        if kind == "transaction":
            put = tuple((key, value) for key, value in fresh(4) if key != some)
            return Change(kind, (some,), (*put, (self.counter, entries.get(self.counter, 0) + 1)))
        return Change(kind, put=fresh(6))

    def commit(self, pod: POD[str, Any], change: Change) -> None:
        """Make the change."""
        match change.kind:
            case "sync":
                pod.sync()
            case "clear":
                pod.clear()
            case "pop":
                pod.pop(change.deleted[0])
            case "update":
                pod.update(dict(change.put))
            case "front":
                pod.move_to_end(str(change.front), last=False)
            case "back":
                pod.move_to_end(change.deleted[0])
            case "transaction":
                with pod.transaction():
                    _make(pod, change)
                    pod.incr(TOTAL)
            case "held":
                with pod.hold():
                    _make(pod, change)
            case _:
                _make(pod, change)

    def states(self, step: int, entries: Entries, acknowledged: int) -> Iterator[Entries]:
        """Yield the entries that may be found after this many acknowledged changes: before and after the next one."""
        for number in range(step, step + acknowledged):
            entries = self.change(number, entries).apply(entries)
        yield entries
        yield self.change(step + acknowledged, entries).apply(entries)

    def run(
        self, path: str, step: int, entries: Entries, report: int, seconds: float, most: int, **options: Any
    ) -> None:
        """Make one change after the other, and report each, until the time or the number of them is up."""
        end = time.monotonic() + seconds
        with POD[str, Any](path, **options) as pod:
            for number in range(step, step + most):
                change = self.change(number, entries)
                self.commit(pod, change)
                os.write(report, b".")
                entries = change.apply(entries)
                if time.monotonic() > end:
                    break
