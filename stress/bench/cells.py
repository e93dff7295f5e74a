"""One cell of the comparison: one peer at one workload, in a process of its own that is given up when it takes too long."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from stress.bench.bench import entry, key_of
from stress.bench.peers import Peer

T = TypeVar("T")

_STEP = 0.1  # of the time, the most that is done between two looks at the clock


class LeftOutError(Exception):
    """A peer has no figure in a cell, for the reason that this says."""


class Cell(NamedTuple):
    """What a workload is measured with.

    Attributes:
        peer: whose cell it is.
        path: of its store, with `entries` entries in it; nothing is there if those are 0.
        operations: how many, if the time suffices.
        seconds: after which it is cut short, and what was done counts.
    """

    peer: Peer
    path: Path
    entries: int
    operations: int
    seconds: float

    @contextmanager
    def store(self) -> Iterator[Any]:
        """Open the store; what is not on disk is filled anew."""
        store = self.peer.open(self.path)
        try:
            if self.entries and not self.peer.lasting:
                self.peer.batch(store, dict(new_entries(0, self.entries)))
            yield store
        finally:
            self.peer.close(store)


class Outcome(NamedTuple):
    """What a cell gave: of each column a cost, or why there is none; and whether it was cut short."""

    costs: dict[str, float | str]
    cut: bool = False


def new_entries(first: int, number: int) -> list[tuple[str, Any]]:
    """Return entries from a number on."""
    return [(key_of(each), entry(each)) for each in range(first, first + number)]


def paced(work: Callable[[Sequence[T]], object], items: Sequence[T], seconds: float) -> tuple[float, int]:
    """Do the work on the items, ever more at a time, until all are done or the time is up; return the seconds of one, and how many."""
    done, size = 0, 1
    start = time.perf_counter()
    while done < len(items):
        work(items[done : done + size])
        done = min(done + size, len(items))
        elapsed = time.perf_counter() - start
        if elapsed > seconds:
            break
        if elapsed / done * 2 * size < seconds * _STEP:
            size *= 2
    return (time.perf_counter() - start) / done, done


def fill(cell: Cell) -> None:
    """Fill a new store, so that others can open it."""
    store = cell.peer.open(cell.path)
    for first in range(0, cell.operations, 100_000):
        cell.peer.batch(store, dict(new_entries(first, min(100_000, cell.operations - first))))
    cell.peer.close(store)


def apart(work: Callable[[Cell], T], cell: Cell, limit: float) -> T:
    """Do the work in a process of its own.

    Raises:
        LeftOutError: it failed, or took longer than `limit` seconds.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(work, cell, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(limit):
            raise LeftOutError(f"took longer than {limit:.0f} s")
        try:
            answer, why = receiver.recv()
        except EOFError:
            process.join(limit)
            raise LeftOutError(f"its process ended with {process.exitcode}") from None
        process.join(limit)
    finally:
        with suppress(ProcessLookupError):  # with everything that it started
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
        receiver.close()
    if why:
        raise LeftOutError(why)
    result: T = answer
    return result


def _report(work: Callable[[Cell], object], cell: Cell, sender: Connection) -> None:
    os.setpgid(0, 0)
    gc.collect()
    try:
        sender.send((work(cell), ""))
    except Exception as error:  # a peer may raise anything, and the table has to say why it is left out
        sender.send((None, str(error) if isinstance(error, LeftOutError) else reason(error)))


def reason(error: Exception) -> str:
    """Return why something failed, in a line that is not too long."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:100]
