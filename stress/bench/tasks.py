"""Rows of trackers: claims and their ends, by one worker and by several. See `pairs` for the rest."""

from __future__ import annotations

import importlib
import multiprocessing
import time
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from stress.bench.bench import Bench, Pair, Side, Sides, entry, key_of
from stress.bench.pairs import assign
from stress.bench.together import WRITERS
from tastypy import POD, Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.queues import SimpleQueue
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

_TASKS = 50_000
_PATIENCE = 300  # seconds after which a process is given up


def _queues() -> Any:
    return importlib.import_module("persistqueue")


def _claim_and_end(tracker: Tracker[str], tasks: int) -> float:
    """Claim tasks and mark them done; return the seconds that one takes."""
    start = time.perf_counter()
    for _ in range(tasks):
        task = tracker.claim()
        if task is None:
            raise RuntimeError("there are too few tasks")
        task.done()
    return (time.perf_counter() - start) / tasks


@contextmanager
def claiming(bench: Bench) -> Iterator[Sides]:
    """Claim a task and mark it done; assign a new key."""
    with POD[str, Any](bench.path()) as pod, Tracker[str](bench.path()) as tracker:
        numbers = count()

        def ours() -> float:
            tracker.add_many([key_of(next(numbers)) for _ in range(1000)])
            return _claim_and_end(tracker, 1000)

        def theirs() -> float:
            return assign(
                pod, [(key_of(number), entry(number)) for number, _ in zip(numbers, range(1000), strict=False)]
            )

        yield Sides(ours, theirs)


@contextmanager
def late_claiming(bench: Bench) -> Iterator[Sides]:
    """Claim and end the last of many tasks, and the first ones."""
    with Tracker[str](bench.path()) as late, Tracker[str](bench.path()) as early:
        for tracker in (late, early):
            tracker.add_many(key_of(number) for number in range(_TASKS))
        left = 15_000
        late.update({key_of(number): {"_done": True} for number in range(_TASKS - left)})
        for tracker in (late, early):
            tracker.sync()
        yield Sides(lambda: _claim_and_end(late, 250), lambda: _claim_and_end(early, 250))


def _work(kind: str, path: Path, tasks: int, barrier: Barrier, times: SimpleQueue[Any]) -> None:
    """Be one of the workers: claim and finish empty tasks."""
    step: Callable[[], object]
    if kind == "tracker":
        tracker = Tracker[str](path)
        tracker.num_done()

        def step() -> None:
            task = tracker.claim()
            if task is not None:
                task.done()
    else:
        queue = _queues().SQLiteAckQueue(str(path), multithreading=True, auto_resume=False)

        def step() -> None:
            queue.ack(queue.get())

    barrier.wait(_PATIENCE)
    start = time.monotonic()  # one clock for all processes
    for _ in range(tasks):
        step()
    times.put((start, time.monotonic()))
    if kind == "tracker":
        tracker.close()


@contextmanager
def working(bench: Bench) -> Iterator[Sides]:
    """Claim and finish empty tasks in several processes, a fixed number each, from the first start to the last end."""
    context = multiprocessing.get_context("fork")

    def side(kind: str, each: int) -> Side:
        def run() -> float:
            path = bench.path()
            keys = [key_of(number) for number in range(WRITERS * each)]
            if kind == "tracker":
                with Tracker[str](path) as tracker:
                    tracker.add_many(keys)
            else:
                queue = _queues().SQLiteAckQueue(str(path), multithreading=True)
                for key in keys:
                    queue.put(key)
                del queue
            barrier, times = context.Barrier(WRITERS), context.SimpleQueue()
            arguments = (kind, path, each, barrier, times)
            processes = [context.Process(target=_work, args=arguments, daemon=True) for _ in range(WRITERS)]
            try:
                for process in processes:
                    process.start()
                for process in processes:
                    process.join(_PATIENCE)
                    if process.exitcode != 0:
                        raise RuntimeError(f"a worker on {kind} ended with {process.exitcode}")
            finally:
                for process in processes:
                    process.kill()
            if kind == "tracker":
                with Tracker[str](path) as tracker:
                    if tracker.num_done() != len(keys):
                        raise RuntimeError(f"{len(keys)} tasks, {tracker.num_done()} done")
            starts, ends = zip(*(times.get() for _ in processes), strict=True)
            return float(max(ends) - min(starts)) / len(keys)

        return run

    # SQLite takes a dozen times as long: as many tasks would be no better a figure
    yield Sides(side("tracker", 400 if bench.quick else 1000), side("queue", 50 if bench.quick else 150))


# The bounds are those of the issue that asked for them.
TASK_PAIRS = (
    # in so many chunks that both sides fold in each round
    Pair("claim", "claim and end of a task", "assignment of a POD", claiming, 3.0, chunks=16, quick_rounds=1),
    Pair("claim-late", f"claim of {_TASKS:,}th task", "of the first", late_claiming, 1.15, chunks=4),
    Pair("workers", f"task, {WRITERS} workers", "SQLiteAckQueue", working, 5.0, rate=True, warm=False, quick_rounds=1),
)
