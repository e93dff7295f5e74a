"""Many processes that assign to one POD, on a disk of this machine, and every time that one of them waits for another."""

from __future__ import annotations

import multiprocessing
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

from stress.command import WrongError
from tastypy import POD
from tastypy.backoff import Backoff

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

PROCESSES = 64
_PATIENCE = 300  # seconds after which a process is given up


class Account(NamedTuple):
    """What a process did: the assignments that returned, and the seconds of each wait and of each assignment."""

    number: int
    made: int
    waits: list[float]
    whole: list[float]


class Waits(NamedTuple):
    """Waits in seconds: how many, the median, the 99th percentile, and the longest."""

    number: int
    median: float
    high: float
    longest: float

    @property
    def ratio(self) -> float:
        """How many times the median the longest one is."""
        return self.longest / self.median

    def __str__(self) -> str:
        return (
            f"{self.number:,}: median {1000 * self.median:.1f} ms, 99th percentile {1000 * self.high:.0f} ms, "
            f"longest {1000 * self.longest:.0f} ms, {self.ratio:.0f} times the median"
        )


def waits_of(seconds: list[float]) -> Waits:
    """Return the figures of these waits."""
    seconds = sorted(seconds)
    number = len(seconds)
    return Waits(number, seconds[number // 2], seconds[number * 99 // 100], seconds[-1])


def _work(path: Path, number: int, seconds: float, pause: float, barrier: Barrier, told: Connection) -> None:
    """Be one of the processes."""
    waits: list[float] = []
    had = Backoff.had

    def noted(backoff: Backoff, waited: float) -> None:
        """Note a wait: only who found the lock taken comes here."""
        waits.append(waited)
        had(backoff, waited)

    with mock.patch.object(Backoff, "had", noted), POD[str, Any](path, timeout=_PATIENCE) as pod:
        barrier.wait(_PATIENCE)
        waits.clear()
        whole, made, start = list[float](), 0, time.monotonic()
        end = start + seconds
        while (now := time.monotonic()) < end:
            pod[f"{number}-{made}"] = {"made": made, "text": "a small result"}
            made += 1
            whole.append(time.monotonic() - now)
            if pause:
                time.sleep(pause)
        told.send(Account(number, made, waits.copy(), whole))


def _hear(end: Connection) -> Account:
    if not end.poll(_PATIENCE):
        message = f"a process does not end within {_PATIENCE} s"
        raise WrongError(message)
    try:
        account: Account = end.recv()
    except EOFError:
        message = "a process failed, see above"
        raise WrongError(message) from None
    return account


def crowd(path: Path, seconds: float, pause: float, processes: int = PROCESSES) -> list[Account]:
    """Let processes assign to new keys for so long, each pausing for so many seconds after each; judge that nothing is lost.

    Raises:
        WrongError: an assignment that returned is not there, or there is something else.
    """
    POD[str, Any](path).close()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes)
    workers, ends = [], []
    try:
        for number in range(processes):
            end, told = context.Pipe(duplex=False)
            workers.append(
                context.Process(target=_work, args=(path, number, seconds, pause, barrier, told), daemon=True)
            )
            workers[-1].start()
            told.close()  # here: where a process dies, its end is read
            ends.append(end)
        accounts = [_hear(end) for end in ends]
        for worker in workers:
            worker.join(_PATIENCE)
    finally:
        for worker in workers:
            worker.kill()
    with POD[str, Any](path, mode="r") as pod:
        expected = {
            f"{one.number}-{step}": {"made": step, "text": "a small result"}
            for one in accounts
            for step in range(one.made)
        }
        if pod != expected:
            message = f"{len(expected)} assignments returned, {len(pod)} entries are there, or others than those"
            raise WrongError(message)
    return accounts
