"""What one process does in a cell: the work of the `workloads`, each returning what one key cost and whether it was cut short."""

from __future__ import annotations

import gc
import importlib
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from stress.bench.bench import entry, key_of
from stress.bench.cells import Cell, LeftOutError, Outcome, new_entries, paced
from stress.bench.figures import percentile
from stress.bench.peers import PEERS


def _known(cell: Cell, operations: int) -> list[str]:
    chooser = random.Random(cell.entries)
    return [key_of(chooser.randrange(cell.entries)) for _ in range(operations)]


def _confirm(cell: Cell, store: Any, key: str, value: Any) -> None:
    if not cell.peer.appends and store[key] != value:
        raise LeftOutError(f"wrong: {key} is not what was assigned to it")


def assign(cell: Cell) -> tuple[float, bool]:
    """Assign new keys."""
    items = new_entries(0, cell.operations)
    with cell.store() as store:

        def work(part: Sequence[tuple[str, Any]]) -> None:
            for key, value in part:
                store[key] = value

        cost, done = paced(work, items, cell.seconds)
        _confirm(cell, store, *items[done - 1])
    return cost, done < len(items)


def assign_large(cell: Cell, size: int) -> tuple[float, bool]:
    """Assign values of a size."""
    value = {"text": "x" * (size - len('{"text":""}'))}
    keys = [key_of(number) for number in range(cell.operations)]
    with cell.store() as store:

        def work(part: Sequence[str]) -> None:
            for key in part:
                store[key] = value

        cost, done = paced(work, keys, cell.seconds)
        _confirm(cell, store, keys[done - 1], value)
    return cost, done < len(keys)


def batches(cell: Cell, size: int) -> tuple[float, bool]:
    """Assign new keys in batches."""
    items = [dict(new_entries(first, size)) for first in range(0, cell.operations, size)]
    with cell.store() as store:

        def work(part: Sequence[dict[str, Any]]) -> None:
            for mapping in part:
                cell.peer.batch(store, mapping)

        cost, done = paced(work, items, cell.seconds)
        _confirm(cell, store, *list(items[done - 1].items())[-1])
    return cost / size, done < len(items)


def update(cell: Cell) -> tuple[float, bool]:
    """Assign to random keys."""
    items = [(key, entry(number)) for number, key in enumerate(_known(cell, cell.operations))]
    with cell.store() as store:

        def work(part: Sequence[tuple[str, Any]]) -> None:
            for key, value in part:
                store[key] = value

        cost, done = paced(work, items, cell.seconds)
        _confirm(cell, store, *items[done - 1])
    return cost, done < len(items)


def delete(cell: Cell) -> tuple[float, bool]:
    """Delete random keys and add them again."""
    keys = _known(cell, cell.operations)
    with cell.store() as store:

        def work(part: Sequence[str]) -> None:
            for key in part:
                del store[key]
                store[key] = 0

        cost, done = paced(work, keys, cell.seconds)
        _confirm(cell, store, keys[done - 1], 0)
    return cost, done < len(keys)


def read(cell: Cell) -> tuple[float, bool]:
    """Read random keys."""
    keys = _known(cell, cell.operations)
    with cell.store() as store:

        def work(part: Sequence[str]) -> None:
            for key in part:
                store[key]

        cost, done = paced(work, keys, cell.seconds)
    return cost, done < len(keys)


def contains(cell: Cell) -> tuple[float, bool]:
    """Ask for keys, half of them absent."""
    keys = [key if number % 2 else f"no {key}" for number, key in enumerate(_known(cell, cell.operations))]
    with cell.store() as store:

        def work(part: Sequence[str]) -> None:
            for key in part:
                _ = key in store

        cost, done = paced(work, keys, cell.seconds)
        if keys[0] in store or (len(keys) > 1 and keys[1] not in store):
            raise LeftOutError("wrong: `in` does not tell what is there")
    return cost, done < len(keys)


def iterate(cell: Cell) -> tuple[float, bool]:
    """Go over the keys."""
    with cell.store() as store:
        found = 0
        start = time.perf_counter()
        for _ in store:
            found += 1
        cost = time.perf_counter() - start
    if found != cell.entries:
        raise LeftOutError(f"wrong: {found} keys of {cell.entries}")
    return cost / found, False


def open_one(cell: Cell) -> tuple[float, bool]:
    """Open and read a key, again and again: closing is not counted."""
    key = key_of(cell.entries // 2)
    total, times = 0.0, 0
    while times < cell.operations and total < cell.seconds:
        gc.collect()
        start = time.perf_counter()
        store = cell.peer.open(cell.path)
        value = store[key]
        total += time.perf_counter() - start
        times += 1
        cell.peer.close(store)
        del store, value
    return total / times, False


def open_all(cell: Cell) -> tuple[float, bool]:
    """Open and read all; what the time does not suffice for is reckoned by what was read."""
    found = 0
    start = time.perf_counter()
    store = cell.peer.open(cell.path)
    opened = time.perf_counter()
    for _ in cell.peer.items(store):
        found += 1
        if not found % 1000 and time.perf_counter() - start > cell.seconds:
            break
    end = time.perf_counter()
    cell.peer.close(store)
    return (opened - start) + (end - opened) * cell.entries / found, found < cell.entries


def _resident() -> int:
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise LeftOutError("this system does not tell a process's own memory")


def memory(cell: Cell) -> Outcome:
    """Have a new interpreter hold the store open: a fork of this one would use what this one has freed."""
    program = "import sys; from stress.bench.work import hold_open; hold_open(*sys.argv[1:])"
    command = [sys.executable, "-c", program, cell.peer.name, str(cell.path), str(cell.entries)]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise LeftOutError(ended.stderr.strip().rpartition("\n")[2])
    return Outcome({"memory": int(ended.stdout) / cell.entries})


def hold_open(name: str, path: str, entries: str) -> None:
    """Print the bytes that a store takes in memory that is the process's own; a file that is mapped can be dropped, and is not in it."""
    peer = next(each for each in PEERS if each.name == name)
    importlib.import_module(peer.module)
    before = _resident()
    with Cell(peer, Path(path), int(entries), 1, 0).store() as store:
        for _ in peer.items(store):
            pass
        print(_resident() - before)


def _written() -> int:
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    raise LeftOutError("this system does not tell what a process writes")


def footprint(cell: Cell) -> Outcome:
    """Assign, close, and look at what is on disk and how much was handed to the system's calls that write."""
    before = _written()
    cost, cut = assign(cell)
    written = _written() - before
    with cell.store() as store:
        keys = cell.operations if cell.peer.appends else sum(1 for _ in store)
    if cut and cell.peer.appends:
        raise LeftOutError(f"too slow, {cost:.3g} s each")
    size = sum(len(orjson.dumps(key)) + len(orjson.dumps(value)) + 2 for key, value in new_entries(0, keys))
    files = [cell.path] if cell.path.is_file() else [each for each in cell.path.rglob("*") if each.is_file()]
    files += [each for each in cell.path.parent.glob(f"{cell.path.name}*") if each.is_file() and each != cell.path]
    disk = sum(each.stat().st_blocks * 512 for each in files)
    return Outcome({"written": written / size, "disk": disk / size, "files": float(len(files))}, cut)


_PERCENTS = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "worst": 100.0}


def latency(cell: Cell) -> Outcome:
    """Assign new keys, each of them timed."""
    items = new_entries(0, cell.operations)
    times = []
    with cell.store() as store:
        end = time.perf_counter() + cell.seconds
        for key, value in items:
            start = time.perf_counter()
            store[key] = value
            stop = time.perf_counter()
            times.append(stop - start)
            if stop > end:
                break
    costs: dict[str, float | str] = {}
    for name, percent in _PERCENTS.items():
        try:
            costs[name] = percentile(times, percent)
        except ValueError as error:
            costs[name] = str(error)
    return Outcome(costs, len(times) < len(items))
