"""Rows of one process and a small POD. Those of a large one stand in `large`, of several processes in `together`, of trackers in `tasks`.

A side is a function that does its work and returns what one unit of it cost: seconds, or bytes. Preparing and cleaning up
are not in that figure. Garbage collection stays as Python has it by default, on both sides.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from statistics import median
from timeit import Timer
from typing import TYPE_CHECKING, Any

import orjson

from stress.bench import stores
from stress.bench.bench import SMALL, Bench, Pair, Side, Sides, Store, entry, key_of
from tastypy import POD

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 300  # seconds after which a process is given up


def assign(store: Store, entries: list[tuple[str, Any]]) -> float:
    """Assign every entry, each a commit of its own; return the seconds that one takes."""
    start = time.perf_counter()
    for key, value in entries:
        store[key] = value
    return (time.perf_counter() - start) / len(entries)


def new_entries(numbers: Iterator[int], size: int) -> list[tuple[str, Any]]:
    """Return entries of the next numbers."""
    return [(key_of(number), entry(number)) for number, _ in zip(numbers, range(size), strict=False)]


@contextmanager
def assignment(bench: Bench) -> Iterator[Sides]:
    """Assign new keys one by one."""
    with POD[str, Any](bench.path()) as pod, bench.index() as index:
        ours, theirs = count(), count()
        yield Sides(lambda: assign(pod, new_entries(ours, 1000)), lambda: assign(index, new_entries(theirs, 1000)))


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
        yield Sides(lambda: assign(pod, new_entries(numbers, 1000)), calls)
    os.close(lock)
    os.close(journal)


@contextmanager
def batch(bench: Bench) -> Iterator[Sides]:
    """Assign a thousand new keys at once: one line of the journal, one transaction of LMDB."""
    lmdb = stores.Lmdb(bench.path(), sync=False)
    with POD[str, Any](bench.path()) as pod, closing(lmdb):
        ours, theirs = count(), count()

        def side(store: Any, numbers: Iterator[int]) -> float:
            mapping = dict(new_entries(numbers, 1000))
            start = time.perf_counter()
            store.update(mapping)
            return (time.perf_counter() - start) / 1000

        yield Sides(lambda: side(pod, ours), lambda: side(lmdb, theirs))


@contextmanager
def durable(bench: Bench) -> Iterator[Sides]:
    """Assign new keys one by one, each on stable storage before the next."""
    connection = sqlite3.connect(bench.path(), isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, value TEXT)")
    upsert = "INSERT INTO entries VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    with POD[str, Any](bench.path(), durable=True) as pod, closing(connection):
        ours, theirs = count(), count()

        def rows() -> float:
            entries = new_entries(theirs, 50)
            start = time.perf_counter()
            for key, value in entries:
                connection.execute(upsert, (key, orjson.dumps(value)))
            return (time.perf_counter() - start) / len(entries)

        yield Sides(lambda: assign(pod, new_entries(ours, 50)), rows)


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


# The bounds are those of the issues that asked for them.
PAIRS = (
    Pair("assign", "assignment, on disk", "diskcache.Index", assignment, 0.18, chunks=5),
    Pair("calls", "assignment, on disk", "its bare system calls", system_calls, 1.8, chunks=5),
    Pair("batch", "key in a batch of 1,000", "lmdb, sync off", batch, 1.0, chunks=10),
    Pair("durable", "assignment, durable", "SQLite, WAL, FULL", durable, 0.9, chunks=10, quick_rounds=1),
    Pair("bulk", "key of a bulk load", "Index, one transaction", bulk, 0.30, quick_rounds=2),
    Pair("read", "read of a key", "subclass of dict", reading, 1.02, chunks=20, combine=min),
    Pair("refresh", "refresh, unchanged", "os.stat", refreshing, 2.5, chunks=20, combine=min, quick_rounds=2),
    Pair("import", "import tastypy", "import filelock, orjson", importing, 1.25, chunks=5, combine=median, warm=False),
)
