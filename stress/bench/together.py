"""Rows of several processes that write at once. See `pairs` for the rest."""

from __future__ import annotations

import importlib
import multiprocessing
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stress.bench.bench import Bench, Pair, Sides, entry, key_of
from stress.bench.pairs import assign
from tastypy import POD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.queues import SimpleQueue
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

WRITERS = 8  # processes at once, and
CROWD = 64  # where many more of them are than cores
_PATIENCE = 300  # seconds after which a process is given up


def _write(kind: str, path: Path, mine: list[tuple[str, Any]], barrier: Barrier, times: SimpleQueue[Any]) -> None:
    """Be one of the processes that write at once."""
    store: Any = POD[str, Any](path) if kind == "pod" else importlib.import_module("diskcache").Index(str(path))
    barrier.wait(_PATIENCE)
    start = time.monotonic()  # one clock for all processes
    assign(store, mine)
    times.put((start, time.monotonic()))
    if kind == "pod":
        store.close()


def _wrote(bench: Bench, kind: str, processes: int, each: int) -> float:
    """Return the seconds of an assignment, from the first start to the last end, of all that these processes make."""
    path = bench.path()
    context = multiprocessing.get_context("fork")
    barrier, queues = context.Barrier(processes), [context.SimpleQueue() for _ in range(processes)]
    crowd = []
    try:
        for number, times in enumerate(queues):
            mine = [(f"{number}-{key_of(step)}", entry(step)) for step in range(each)]
            crowd.append(context.Process(target=_write, args=(kind, path, mine, barrier, times), daemon=True))
            crowd[-1].start()
        for process in crowd:
            process.join(_PATIENCE)
            if process.exitcode != 0:
                raise RuntimeError(f"a writer on {kind} ended with {process.exitcode}")
    finally:
        for process in crowd:
            process.kill()
    starts, ends = zip(*(times.get() for times in queues), strict=True)
    if kind == "pod":
        with POD[str, Any](path) as pod:
            if len(pod) != processes * each:
                raise RuntimeError(f"{processes * each} keys were written, {len(pod)} are there")
    return float(max(ends) - min(starts)) / (processes * each)


@contextmanager
def writers(bench: Bench) -> Iterator[Sides]:
    """Write from several processes at once, a fixed number each."""
    each = 1000 if bench.quick else 3000
    yield Sides(lambda: _wrote(bench, "pod", WRITERS, each), lambda: _wrote(bench, "index", WRITERS, each))


@contextmanager
def crowd(bench: Bench) -> Iterator[Sides]:
    """Write from many processes, and as much from a few."""
    all_of_them = 3200 if bench.quick else 25_600

    def side(processes: int) -> float:
        return _wrote(bench, "pod", processes, all_of_them // processes)

    yield Sides(lambda: side(CROWD), lambda: side(WRITERS))


# The bounds are those of the issues that asked for them.
TOGETHER_PAIRS = (
    Pair(
        "writers",
        f"assignment, {WRITERS} processes",
        "diskcache.Index",
        writers,
        3.0,
        rate=True,
        warm=False,
        quick_rounds=2,
    ),
    Pair(
        "crowd",
        f"assignment, {CROWD} processes",
        f"{WRITERS} processes",
        crowd,
        0.25,
        rate=True,
        warm=False,
        quick_rounds=1,
    ),
)
