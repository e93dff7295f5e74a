"""Workloads of several processes: writers, on keys of their own and on the same ones, readers beside them, and who sees their changes.

The processes work for a fixed time, so that a slow peer takes no longer than a fast one. A cost is the time of all divided by
what all did: one over the rate.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from stress.bench.bench import entry, key_of
from stress.bench.cells import Cell, LeftOutError, Outcome, new_entries, paced
from stress.bench.workloads import Column, Workload

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue
    from multiprocessing.synchronize import Barrier, Semaphore

_PATIENCE = 60  # seconds after which a process is given up
_SAME = 100  # keys that all write to

Step = Callable[[Any, int], object]  # one piece of work on a store, numbered
Role = Callable[[Cell, int], Step]  # what the process of a number does


class Stint(NamedTuple):
    """What one process did: from when to when, how often, and how long the longest of it took."""

    start: float
    end: float
    done: int
    longest: float


def own(_: Cell, process: int) -> Step:
    """Have a process assign to new keys of its own."""

    def step(store: Any, number: int) -> None:
        store[f"{process}-{key_of(number)}"] = entry(number)

    return step


def _keys(process: int, done: int) -> set[int]:
    return {(number + process) % _SAME for number in range(min(done, _SAME))}


def _same(_: Cell, process: int) -> Step:
    def step(store: Any, number: int) -> None:
        store[key_of((number + process) % _SAME)] = entry(number)

    return step


def _reader(cell: Cell, process: int) -> Step:
    refresh = cell.peer.refresh

    def step(store: Any, number: int) -> None:
        if refresh is not None:
            refresh(store)
        store[key_of((number * 7 + process) % cell.entries)]

    return step


def _work(cell: Cell, step: Step, barrier: Barrier, times: SimpleQueue[Any]) -> None:
    """Be one of the processes."""
    store = cell.peer.open(cell.path)
    barrier.wait(_PATIENCE)
    start = last = time.monotonic()  # one clock for all processes
    done, longest = 0, 0.0
    for number in count():
        step(store, number)
        now = time.monotonic()
        longest, last, done = max(longest, now - last), now, done + 1
        if now > start + cell.seconds:
            break
    times.put(Stint(start, last, done, longest))
    cell.peer.close(store)


def together(cell: Cell, steps: Sequence[Step]) -> list[Stint]:
    """Have each step repeated by a process of its own, all at once; return what each did."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(len(steps))
    queues = [context.SimpleQueue() for _ in steps]
    processes = [
        context.Process(target=_work, args=(cell, step, barrier, times))
        for step, times in zip(steps, queues, strict=True)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(_PATIENCE)
    bad = [process.exitcode for process in processes if process.exitcode != 0]
    if bad:
        raise LeftOutError(f"{len(bad)} of {len(steps)} processes failed")
    return [times.get() for times in queues]


def cost(stints: Sequence[Stint]) -> float:
    """Return the seconds of one of all that they did."""
    return (max(each.end for each in stints) - min(each.start for each in stints)) / sum(each.done for each in stints)


def _writers(cell: Cell, role: Role, processes: int) -> Outcome:
    with cell.store():
        pass  # is there, then: to begin a store is no part of it
    times = together(cell, [role(cell, process) for process in range(processes)])
    if not cell.peer.appends:
        with cell.store() as store:
            there = sum(1 for _ in store)
        done = sum(each.done for each in times)
        expected = (
            done if role is own else len({key for index, each in enumerate(times) for key in _keys(index, each.done)})
        )
        if there < expected:
            raise LeftOutError(f"wrong: {there} keys of {expected} that were assigned")
    name = "own" if role is own else "same"
    return Outcome({f"{name}-{processes}": cost(times)})


def _mixed(cell: Cell, pairs: int) -> Outcome:
    steps = [role(cell, process) for process in range(pairs) for role in (own, _reader)]
    times = together(cell, steps)
    return Outcome({"beside-write": cost(times[::2]), "beside-read": cost(times[1::2])})


_CHANGES = 100


def _change(cell: Cell, go: Semaphore, ready: Semaphore) -> None:
    """Be the process that changes them, whenever it is told to."""
    with cell.store() as store:
        for number in range(cell.operations):
            ready.release()
            go.acquire()
            for key, value in new_entries(0, _CHANGES):
                store[key] = {**value, "round": number}
        ready.release()


def _see(cell: Cell) -> Outcome:
    """Read the keys that another process has changed, all of them in their new state."""
    context = multiprocessing.get_context("fork")
    go, ready = context.Semaphore(0), context.Semaphore(0)
    keys = [key_of(index) for index in range(_CHANGES)]
    total, times = 0.0, 0
    context.Process(
        target=_change, args=(cell, go, ready), daemon=True
    ).start()  # before the store is open: LMDB does not survive a fork
    if not ready.acquire(timeout=_PATIENCE):
        raise LeftOutError("the process that changes them failed")
    with cell.store() as store:
        while times < cell.operations and total * _CHANGES <= cell.seconds:
            go.release()
            if not ready.acquire(timeout=_PATIENCE):
                raise LeftOutError("the process that changes them failed")
            start = time.perf_counter()
            if cell.peer.refresh is not None:
                cell.peer.refresh(store)
            refreshed = time.perf_counter() - start
            last: list[Any] = []

            def work(part: Sequence[str], last: list[Any] = last) -> None:
                for key in part:
                    last[:] = [store[key]]

            each, done = paced(work, keys, cell.seconds)
            if last != [{**entry(done - 1), "round": times}]:
                raise LeftOutError("wrong: what another process changed is not seen")
            total += refreshed / _CHANGES + each
            times += 1
    return Outcome({"see": total / times})


def _group(name: str, role: Role, numbers: Sequence[int]) -> list[Workload]:
    keys = "keys of their own" if name == "own" else f"the same {_SAME} keys"
    return [
        Workload(
            (Column(f"{name}-{number}", f"{number}, {name} keys", f"assignment, {number} processes on {keys}"),),
            partial(_writers, role=role, processes=number),
            0,
            1,
            (0, 1) if number <= 2 else None,
            assigns=True,
            lasting=True,
            shared=number > 1,
            seconds=0.5,
            most=3,
        )
        for number in numbers
    ]


WRITERS = tuple(_group("own", own, (1, 2, 4, 8)))
OTHERS = (
    *_group("same", _same, (2, 4, 8)),
    Workload(
        (
            Column("beside-write", "2 writers", "assignment by two processes, two others reading"),
            Column("beside-read", "2 readers", "read of the newest value, two processes writing"),
        ),
        partial(_mixed, pairs=2),
        1000,
        1,
        (200, 1),
        lasting=True,
        shared=True,
        most=3,
    ),
    Workload(
        (Column("see", "see a change", f"reading {_CHANGES} keys of {{entries}} that another process changed, a key"),),
        _see,
        10_000,
        5,
        (500, 1),
        lasting=True,
        shared=True,
        most=5,
    ),
)
