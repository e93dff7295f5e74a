"""What `speed` compares: pairs of sides that do the same work. How often they run, and the table, are left to `speed`.

A side is a function that does its work and returns what one unit of it cost: seconds, or bytes. Preparing and cleaning up
are not in that figure. Garbage collection stays as Python has it by default, on both sides.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import random
import subprocess
import sys
import time
import tracemalloc
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from statistics import median
from timeit import Timer
from typing import TYPE_CHECKING, Any

import diskcache
import orjson

from stress.speed.bench import LARGE, SMALL, Bench, Pair, Side, Sides, Store, entry, key_of
from tastypy import POD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.queues import SimpleQueue
    from multiprocessing.synchronize import Barrier

WRITERS = 8  # processes at once
_PATIENCE = 300  # seconds after which a process is given up


def assign(store: Store, entries: list[tuple[str, Any]]) -> float:
    """Assign every entry, each a commit of its own; return the seconds that one takes."""
    start = time.perf_counter()
    for key, value in entries:
        store[key] = value
    return (time.perf_counter() - start) / len(entries)


def _new_entries(numbers: Iterator[int], size: int) -> list[tuple[str, Any]]:
    return [(key_of(number), entry(number)) for number, _ in zip(numbers, range(size), strict=False)]


@contextmanager
def assignment(bench: Bench) -> Iterator[Sides]:
    """Assign new keys one by one."""
    with POD[str, Any](bench.path()) as pod, bench.index() as index:
        ours, theirs = count(), count()
        yield Sides(lambda: assign(pod, _new_entries(ours, 1000)), lambda: assign(index, _new_entries(theirs, 1000)))


class Plain(dict[str, Any]):
    """An empty subclass of dict: an exact dict has an instruction of its own in the interpreter."""


_READS = 100


def _reading(store: Store, loops: int) -> Side:
    # a code object for each store, since the interpreter adapts it to what it meets; unrolled, since the loop costs too
    timer = Timer(
        "\n".join(["store[key]"] * _READS), "store, key = pair", globals={"pair": (store, key_of(SMALL // 2))}
    )
    return lambda: timer.timeit(loops) / loops / _READS


@contextmanager
def reading(bench: Bench) -> Iterator[Sides]:
    """Read a key."""
    with POD[str, Any](bench.pod(SMALL)) as pod:
        yield Sides(_reading(pod, 1000), _reading(Plain(pod), 1000))


def _opening(path: Path) -> float:
    start = time.perf_counter()
    pod = POD[str, Any](path)
    seconds = time.perf_counter() - start
    pod.close()
    return seconds


def _loading(text: bytes) -> float:
    start = time.perf_counter()
    data = orjson.loads(text)
    seconds = time.perf_counter() - start
    del data
    return seconds


@contextmanager
def opening(bench: Bench) -> Iterator[Sides]:
    """Open a POD of small dicts."""
    path = bench.pod(LARGE)
    text = orjson.dumps({key_of(number): entry(number) for number in range(LARGE)})
    yield Sides(lambda: _opening(path), lambda: _loading(text))


@contextmanager
def opening_numbers(bench: Bench) -> Iterator[Sides]:
    """Open a POD of numbers, the worst case: the collector, which opening switches off, has nothing to do in `loads`."""
    path = bench.path()
    numbers = {key_of(number): number for number in range(LARGE)}
    with POD[str, int](path) as pod:
        pod.update(numbers)
        pod.sync()
    text = orjson.dumps(numbers)
    del numbers
    yield Sides(lambda: _opening(path), lambda: _loading(text))


@contextmanager
def bulk(bench: Bench) -> Iterator[Sides]:
    """Load many keys at once into a new store."""
    size = 10_000 if bench.quick else 50_000
    mapping = {key_of(number): entry(number) for number in range(size)}

    def ours() -> float:
        with POD[str, Any](bench.path()) as pod:
            start = time.perf_counter()
            pod.update(mapping)
            return (time.perf_counter() - start) / size

    def theirs() -> float:
        with bench.index() as index:
            start = time.perf_counter()
            with index.transact():
                index.update(mapping)
            return (time.perf_counter() - start) / size

    yield Sides(ours, theirs)


_TURNS = 25  # in which a round's updates are made


@contextmanager
def scaling(bench: Bench) -> Iterator[Sides]:
    """Update random keys of a large POD and of a small one, so many that both fold in each round."""
    folds = 1 if bench.quick else 2  # of the large one, in a round; the small one folds more often

    def update(pod: POD[str, Any], entries: int, chooser: random.Random, updates: int) -> float:
        return assign(pod, [(key_of(chooser.randrange(entries)), entry(number)) for number in range(updates)])

    with POD[str, Any](bench.pod(LARGE)) as large, POD[str, Any](bench.pod(SMALL)) as small:
        chooser, step = random.Random(LARGE), 500
        epoch, period = large.stats().epoch, 0
        while large.stats().epoch == epoch:
            update(large, LARGE, chooser, step)
            period += step
        updates = folds * (period + step) // _TURNS
        epochs = large.stats().epoch, small.stats().epoch
        yield Sides(lambda: update(large, LARGE, chooser, updates), lambda: update(small, SMALL, chooser, updates))
        if large.stats().epoch - epochs[0] < folds or small.stats().epoch - epochs[1] < folds:
            message = f"fewer than {folds} folds: this row measured too little"
            raise RuntimeError(message)


def _write(kind: str, path: Path, mine: list[tuple[str, Any]], barrier: Barrier, times: SimpleQueue[Any]) -> None:
    """Be one of the processes that write at once."""
    store: Any = POD[str, Any](path) if kind == "pod" else diskcache.Index(str(path))
    barrier.wait(_PATIENCE)
    start = time.monotonic()  # one clock for all processes
    assign(store, mine)
    times.put((start, time.monotonic()))
    if kind == "pod":
        store.close()


@contextmanager
def writers(bench: Bench) -> Iterator[Sides]:
    """Write from several processes at once, a fixed number each, timed from the first start to the last end."""
    each = 1000 if bench.quick else 3000

    def side(kind: str) -> float:
        path = bench.path()
        context = multiprocessing.get_context("fork")
        barrier, times = context.Barrier(WRITERS), context.SimpleQueue()
        processes = []
        try:
            for number in range(WRITERS):
                mine = [(f"{number}-{key_of(step)}", entry(step)) for step in range(each)]
                processes.append(context.Process(target=_write, args=(kind, path, mine, barrier, times), daemon=True))
                processes[-1].start()
            for process in processes:
                process.join(_PATIENCE)
                if process.exitcode != 0:
                    message = f"a writer on {kind} ended with {process.exitcode}"
                    raise RuntimeError(message)
        finally:
            for process in processes:
                if process.is_alive():
                    process.kill()
        starts, ends = zip(*(times.get() for _ in processes), strict=True)
        if kind == "pod":
            with POD[str, Any](path) as pod:
                if len(pod) != WRITERS * each:
                    message = f"{WRITERS * each} keys were written, {len(pod)} are there"
                    raise RuntimeError(message)
        return float(max(ends) - min(starts)) / (WRITERS * each)

    yield Sides(lambda: side("pod"), lambda: side("index"))


@contextmanager
def refreshing(bench: Bench) -> Iterator[Sides]:
    """Ask whether anything changed, when nothing did."""
    with POD[str, Any](bench.pod(SMALL)) as pod:
        asking = Timer("refresh()", "refresh = pod.refresh", globals={"pod": pod})
        stating = Timer("stat(path)", "from os import stat", globals={"path": f"{pod.path}/.lock"})
        loops = 5000
        yield Sides(lambda: asking.timeit(loops) / loops, lambda: stating.timeit(loops) / loops)


@contextmanager
def importing(bench: Bench) -> Iterator[Sides]:
    """Import in a fresh interpreter; its own start is not counted."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])

    def side(names: str) -> Side:
        program = f"from time import perf_counter as now; start = now(); import {names}; print(now() - start)"
        command = [sys.executable, "-c", program]
        return lambda: float(subprocess.check_output(command, env=environment, cwd=bench.place, timeout=_PATIENCE))

    yield Sides(side("tastypy"), side("filelock, orjson"))


@contextmanager
def system_calls(bench: Bench) -> Iterator[Sides]:
    """Assign to a key, and do no more than the system calls that a commit cannot do without."""
    line = b'{"crc":"9a3f0c12","seq":4711,"put":{"key-000123":{"lines":123,"name":"file-123"}}}\n'
    lock = os.open(bench.path(), os.O_RDWR | os.O_CREAT)
    journal = os.open(bench.path(), os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.write(lock, b"x" * 60)
    offset = 0

    def calls() -> float:
        nonlocal offset
        start = time.perf_counter()
        for _ in range(1000):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pread(lock, 64, 0)
            os.pread(journal, 4096, offset)
            offset += os.write(journal, line)
            fcntl.flock(lock, fcntl.LOCK_UN)
        return (time.perf_counter() - start) / 1000

    with POD[str, Any](bench.path()) as pod:
        numbers = count()
        yield Sides(lambda: assign(pod, _new_entries(numbers, 1000)), calls)
    os.close(lock)
    os.close(journal)


def _kept(make: Callable[[], Any]) -> float:
    """Return the bytes, a key, of what `make` returns."""
    tracemalloc.start()
    try:
        kept = make()
        return tracemalloc.get_traced_memory()[0] / len(kept)
    finally:
        tracemalloc.stop()


@contextmanager
def memory(bench: Bench) -> Iterator[Sides]:
    """Hold an open POD in memory."""
    path = bench.pod(LARGE)
    text = orjson.dumps({key_of(number): entry(number) for number in range(LARGE)})
    yield Sides(lambda: _kept(lambda: POD[str, Any](path)), lambda: _kept(lambda: orjson.loads(text)))


@contextmanager
def folding(bench: Bench) -> Iterator[Sides]:
    """Fold a large POD, all of whose shards have changed keys; write and fsync as many bytes."""
    with POD[str, Any](bench.pod(LARGE)) as pod:
        chooser = random.Random(LARGE)

        def ours() -> float:
            pod.update({key_of(chooser.randrange(LARGE)): entry(number) for number in range(5000)})
            start = time.perf_counter()
            pod.sync()
            return time.perf_counter() - start

        def theirs() -> float:
            text = b"x" * pod.stats().bytes
            start = time.perf_counter()
            descriptor = os.open(bench.path(), os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, text)
            os.fsync(descriptor)
            os.close(descriptor)
            return time.perf_counter() - start

        yield Sides(ours, theirs)


# The bounds are those of the issue that asked for them.
PAIRS = (
    Pair("assign", "assignment, on disk", "diskcache.Index", assignment, 0.30, chunks=5),
    Pair("read", "read of a key", "subclass of dict", reading, 1.1, chunks=20, combine=min),
    Pair("open", f"opening {LARGE:,} entries", "orjson.loads", opening, 1.2, chunks=3, combine=min, warm=False),
    Pair("bulk", "key of a bulk load", "Index, one transaction", bulk, 0.30),
    Pair(
        "scale",
        f"update of one of {LARGE:,} keys",
        f"of {SMALL:,} keys",
        scaling,
        1.5,
        chunks=_TURNS,
        warm=False,
        quick_rounds=1,
    ),
    Pair("writers", f"assignment, {WRITERS} processes", "diskcache.Index", writers, 2.0, rate=True, warm=False),
    Pair("refresh", "refresh, unchanged", "os.stat", refreshing, 3.5, chunks=20, combine=min),
    Pair("import", "import tastypy", "import filelock, orjson", importing, 1.25, chunks=5, combine=median, warm=False),
    Pair("calls", "assignment, on disk", "its bare system calls", system_calls, chunks=5, quick_rounds=1),
    Pair("open-numbers", f"opening {LARGE:,} numbers", "orjson.loads", opening_numbers, quick_rounds=1),
    Pair("memory", f"key in memory, of {LARGE:,}", "dict", memory, unit="B", warm=False, quick_rounds=1),
    Pair("fold", f"fold of {LARGE:,} entries", "write and fsync", folding, warm=False, quick_rounds=1),
)
