"""A simulation of workers that claim tasks of a tracker on a network file system: of time, of the server, and of the lock.

What a worker does to the lock is that of `tastypy.lock.DirectoryLock`, call by call, and how long it pauses is decided by
`tastypy.backoff` itself. Time is virtual: the same seed gives the same figures on any machine. What an operation takes is
what `costs` measured; the server has so many threads, and what comes when all are busy waits in a queue.

An attempt costs the server nothing while the lock is held by a process of the same host: Linux's client knows that.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Generator
from itertools import count
from typing import Any, NamedTuple

from tastypy.backoff import CROWDED, Backoff

_LOCK, _UNLOCK, _OTHER = "lock", "unlock", "other"  # operations of the server
_LOOK = 3  # operations to look for what is new, and one more to read it, where there is something
_BEFORE, _AFTER = 4, 4  # operations of a commit with the lock held, before and after it has all that is new

Step = float | str  # seconds that pass, or an operation
Steps = Generator[Step, Any, None]  # sent to it: after an attempt to lock, whether it got the lock


class Place(NamedTuple):
    """What things take, in seconds: see `costs` for where that is from.

    Attributes:
        operations: that the server does in a second, on so many threads.
        way: of an operation to the server and back; refusal: of an attempt that the host itself refuses.
        line: to apply another one's commit; python: the rest of a commit's own work; flush: of the server, for what is written.
        per_host: the workers of a host, where there are many.
    """

    operations: int = 20_000
    threads: int = 2
    way: float = 0.00015
    refusal: float = 0.00006
    line: float = 0.000005
    python: float = 0.0002
    flush: float = 0.0005
    per_host: int = 32


_NFS = Place()


class Load(NamedTuple):
    """How many workers there are, how many seconds a task takes (half as long, or half as long again), and how many they claim at once."""

    workers: int
    task: float
    batch: int


class Figures(NamedTuple):
    """What came of it: rates a second, shares of one, and waits in seconds."""

    commits: float
    tasks: float
    attempts: float
    refused: float
    operations: float
    working: float
    waits: int
    median: float
    high: float
    longest: float

    @property
    def ratio(self) -> float:
        """How many times the median the longest wait is."""
        return self.longest / self.median if self.median else 0.0


class _Worker:
    """One worker: its generator `live` yields what it does, and is sent whether it got the lock where that was asked."""

    def __init__(self, world: World, number: int) -> None:
        self.host = number % world.hosts
        self.waiting = -1.0  # since when
        self._world = world
        self._backoff = Backoff(local=False, uniform=world.chance.uniform)
        self._seen = 0  # of the commits

    def live(self) -> Steps:
        """Claim and end tasks for ever."""
        world, load = self._world, self._world.load
        while True:
            yield from self._commit()
            for _ in range(load.batch):
                seconds = load.task * world.chance.uniform(0.5, 1.5)
                yield seconds
                world.add("work", seconds)
                world.add("tasks")
                yield from self._commit()

    def _commit(self) -> Steps:
        world, place = self._world, self._world.place
        yield from self._take()
        yield from [_OTHER] * _BEFORE
        yield self._new_lines() + place.python
        yield from [_OTHER] * _AFTER
        yield place.flush
        world.commits += 1
        self._seen += 1
        world.add("commits")
        yield _UNLOCK

    def _take(self) -> Steps:
        """Do as `DirectoryLock.take` and `_wait`."""
        world, backoff = self._world, self._backoff
        if backoff.usual > CROWDED and (seconds := backoff.courtesy()):
            yield seconds
        start = world.now
        if (yield _LOCK):
            return
        self.waiting = began = turn = world.now
        while True:
            yield from [_OTHER] * _LOOK
            if self._seen != world.commits:
                yield _OTHER
                yield self._new_lines()
                turn = world.now
            got = yield _LOCK
            waited = world.now - self.waiting
            backoff.tried(world.now - began)
            if got:
                break
            yield backoff.pause(waited, world.now - turn)
            began = world.now
        backoff.had(waited)
        self.waiting = -1.0
        world.note_wait(world.now - start)

    def _new_lines(self) -> float:
        """Return the seconds that applying what is new takes, after which it is known."""
        lines, self._seen = self._world.commits - self._seen, self._world.commits
        return lines * self._world.place.line


class World:
    """The server, the lock, and the time of a simulation."""

    def __init__(self, load: Load, place: Place, seed: int) -> None:
        self.load, self.place = load, place
        self.chance = random.Random(seed)
        self.hosts = max(2, load.workers // place.per_host)
        self.now = 0.0
        self.commits = 0
        self._begin = 0.0  # of what counts
        self._sums: dict[str, float] = {}
        self._waits: list[float] = []
        self._holder = -1  # the host whose process has the lock
        self._threads = [0.0] * place.threads  # when each is free
        self._workers = [_Worker(self, number) for number in range(load.workers)]

    def add(self, what: str, amount: float = 1.0) -> None:
        """Add to a sum, once it counts."""
        if self.now >= self._begin:
            self._sums[what] = self._sums.get(what, 0.0) + amount

    def note_wait(self, seconds: float) -> None:
        """Note how long somebody had to wait."""
        if self.now >= self._begin:
            self._waits.append(seconds)

    def run(self, begin: float, end: float) -> Figures:
        """Simulate it up to a time, all workers starting at zero; what happens from `begin` on counts."""
        self._begin = begin
        numbers = count()
        # when, in which order, who, the operation that arrives at the server, what the worker is sent
        events: list[tuple[float, int, int, str, bool | None]] = [
            (0.0, next(numbers), number, "", None) for number in range(self.load.workers)
        ]
        lives = [worker.live() for worker in self._workers]
        way = self.place.way / 2
        while events[0][0] < end:
            self.now, _, number, operation, answer = heapq.heappop(events)
            if operation:
                when, answer = self._serve(number, operation)
                heapq.heappush(events, (when + way, next(numbers), number, "", answer))
                continue
            step = lives[number].send(answer)
            if isinstance(step, float):
                heapq.heappush(events, (self.now + step, next(numbers), number, "", None))
            elif step == _LOCK and self._holder == self._workers[number].host:
                heapq.heappush(events, (self.now + self.place.refusal, next(numbers), number, "", False))
            else:
                heapq.heappush(events, (self.now + way, next(numbers), number, step, None))
        self.now = end
        return self._figures(end - begin)

    def _serve(self, number: int, operation: str) -> tuple[float, bool | None]:
        """Return when an operation that arrives is done, and of an attempt, whether it got the lock."""
        when = max(heapq.heappop(self._threads), self.now) + self.place.threads / self.place.operations
        heapq.heappush(self._threads, when)
        self.add("operations")
        got = None
        if operation == _LOCK:
            got = self._holder < 0
            self.add("attempts")
            self.add("refused", not got)
            if got:
                self._holder = self._workers[number].host
        elif operation == _UNLOCK:
            self._holder = -1
        return when, got

    def _figures(self, seconds: float) -> Figures:
        waits = self._waits
        # who waits still has waited as long at least
        longest = max([*waits, *(self.now - one.waiting for one in self._workers if one.waiting >= 0)], default=0.0)
        rates = {what: amount / seconds for what, amount in self._sums.items()}
        attempts = rates.get("attempts", 0.0)
        waits.sort()
        return Figures(
            commits=rates.get("commits", 0.0),
            tasks=rates.get("tasks", 0.0),
            attempts=attempts,
            refused=rates.get("refused", 0.0) / attempts if attempts else 0.0,
            operations=rates.get("operations", 0.0),
            working=min(rates.get("work", 0.0) / self.load.workers, 1.0),
            waits=len(waits),
            median=waits[len(waits) // 2] if waits else 0.0,
            high=waits[len(waits) * 99 // 100] if waits else 0.0,
            longest=longest,
        )


def simulate(load: Load, seed: int, *, begin: float, end: float, place: Place = _NFS) -> Figures:
    """Return the figures of a load, from one time to another after the start of all workers at once."""
    return World(load, place, seed).run(begin, end)
