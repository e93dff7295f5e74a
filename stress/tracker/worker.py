"""What workers of `tracker` do with a task, and how they write down, outside the tracker, what they have done.

All write lines into one file, each by one call that appends: so its order is that in which things happened. Who begins a
task also takes an exclusive lock of its own on it, one byte of another file. That lock is a POSIX one: the kernel drops it
before it drops an flock of the same process, so whoever takes over a killed worker's task finds it free. One that was
terminated or interrupted gives its tasks back with its last breath: whoever is faster than its death has to wait for that,
and says so.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from stress.hosts import Place
from stress.recount import recount
from tastypy import Task, Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_ENDS = ("done", "fail", "release")
_LOOK_AT_FIGURES = 0.05  # of all tasks
_PATIENCE = 2  # seconds that a process may take to die


INTERRUPTED = 3  # the status of a worker that SIGINT has ended


class WantedError(Exception):
    """What a task fails with."""


class InterruptError(BaseException):
    """SIGINT came: raised wherever the worker is just then, as Ctrl-C is."""


class Plan(NamedTuple):
    """What a round is about: where the tracker and the files about it are, its tasks, and how they are worked on."""

    tracker: Place
    place: Path
    seed: int
    tasks: int
    max_tries: int
    batch: int
    slow: float  # seconds that a task takes at most
    options: dict[str, Any]

    @property
    def log(self) -> Path:
        """The file of what was done."""
        return self.place / "log"

    @property
    def locks(self) -> Path:
        """The file with a byte to lock for each task."""
        return self.place / "locks"

    def children(self, key: str) -> list[str]:
        """Return the tasks that this one adds: up to two, and some of them up to two more."""
        chance = random.Random(f"{self.seed} {key}")
        return [f"{key}.{number}" for number in range(chance.choice([0, 0, 1, 2]))] if key.count(".") < 2 else []

    def all_keys(self) -> list[str]:
        """Return the tasks that there are when all are done."""
        keys = [str(number) for number in range(self.tasks)]
        for key in keys:
            keys += self.children(key)
        return keys

    @property
    def path(self) -> Path:
        """The tracker's, as who judges sees it."""
        return self.tracker.path()

    def open(self, path: Path | None = None) -> Tracker[str]:
        """Open the tracker."""
        return Tracker(path or self.path, self.max_tries, timeout=120, **self.options)


class Worker:
    """A process that works on tasks until there are none, or it is killed."""

    def __init__(self, plan: Plan, number: int) -> None:
        self._plan = plan
        self._number = number
        self._chance = random.Random(f"{plan.seed} {number}")
        self._bytes = {key: place for place, key in enumerate(plan.all_keys())}
        self._log = os.open(plan.log, os.O_WRONLY | os.O_APPEND)
        self._locks = os.open(plan.locks, os.O_RDWR)
        self._tracker = plan.open(plan.tracker.enter(number))

    def run(self) -> None:
        """Work until nothing is left to do."""
        ways = [self._one_by_one, self._two_at_once, self._in_batches, self._in_batches]
        try:
            while self._chance.choice(ways)():
                pass
            self._say("out", "-")
        except Exception as error:
            self._say("wrong", "-", f"{type(error).__name__}: {error}")
            raise
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self._tracker.close()

    # --- ways to go over the tasks; each tells whether there may be more

    def _one_by_one(self) -> bool:
        for _ in range(self._chance.randint(1, 30)):
            task = self._ask(self._tracker.claim)
            if task is None:
                return self._is_more()
            self._work_on(task)
        return True

    def _two_at_once(self) -> bool:
        """Hold two tasks, and end them in either order."""
        held = []
        for _ in range(2):
            task = self._ask(self._tracker.claim)
            if task is not None:
                self._begin(task)
                held.append(task)
        for task in self._chance.sample(held, len(held)):
            self._finish(task)
        return bool(held) or self._is_more()

    def _in_batches(self) -> bool:
        """Go over batches, and leave one in the middle now and then: the rest is given back."""
        tasks = self._tracker.claims(self._plan.batch, wait=self._chance.random() < 0.8)
        while (task := self._ask(lambda: next(tasks, None))) is not None:
            self._work_on(task)
            if self._chance.random() < 0.03:
                return True
        return self._is_more()

    def _ask(self, claim: Callable[[], Task | None]) -> Task | None:
        self._say("ask", "-")  # who is killed from now on may have a task in hand that was not begun
        return claim()

    def _is_more(self) -> bool:
        self._tracker.refresh()
        counts = self._tracker.counts()
        if counts.claimed:
            time.sleep(0.002)
        return counts.open + counts.failed + counts.claimed > 0

    # --- a task

    def _work_on(self, task: Task) -> None:
        self._begin(task)
        self._finish(task)

    def _begin(self, task: Task) -> None:
        if not self._has_lock(task.key):
            self._say("wait", task.key)
            deadline = time.monotonic() + _PATIENCE
            while not self._has_lock(task.key):
                if time.monotonic() > deadline:
                    self._say("wrong", task.key, "another process has its lock, and goes on living")
                    break
                time.sleep(0.001)
        self._say("start", task.key)

    def _has_lock(self, key: str) -> bool:
        try:
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._bytes[key])
        except OSError:
            return False
        return True

    def _finish(self, task: Task) -> None:
        chance, key = self._chance, task.key
        end = chance.choices(_ENDS, (80, 15, 5))[0]
        as_block = chance.random() < 0.5
        try:
            if as_block:
                self._as_block(task, end)
            else:
                self._do(key)
                self._effect(key, end)
                match end:
                    case "done":
                        task.done(by=self._number)
                    case "fail":
                        task.fail(f"as {self._number} wanted")
                    case "release":
                        task.release()
        except (WantedError, KeyboardInterrupt):
            pass
        self._say("ack", key)
        if chance.random() < _LOOK_AT_FIGURES:
            self._look_at_figures()

    def _as_block(self, task: Task, end: str) -> None:
        with task:
            self._do(task.key)
            task["by"] = self._number
            self._effect(task.key, end)
            if end == "fail":
                raise WantedError
            if end == "release":
                raise KeyboardInterrupt

    def _do(self, key: str) -> None:
        time.sleep(self._plan.slow * self._chance.random())
        added = self._plan.children(key)
        if added:
            self._tracker.add_many_if_absent(added, since=self._number)

    def _effect(self, key: str, end: str) -> None:
        self._say("end", key, end)
        fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, self._bytes[key])

    def _look_at_figures(self) -> None:
        tracker = self._tracker
        tracker.refresh()
        found, wanted = tracker.counts(), recount(tracker.copy(), self._plan.max_tries)
        if found != wanted:
            self._say("wrong", "-", f"the figures are {found}, a recount gives {wanted}")

    def _say(self, what: str, key: str, text: str = "") -> None:
        os.write(self._log, f"{self._number}\t{what}\t{key}\t{' '.join(text.split())}\n".encode())


def work(plan: Plan, number: int) -> None:
    """Be a worker; for a process of its own."""
    try:
        signal.signal(signal.SIGINT, _interrupt)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # who started it had blocked it until here
        Worker(plan, number).run()
    except InterruptError:
        sys.exit(INTERRUPTED)
    except Exception as error:  # the log has it
        sys.exit(f"worker {number}: {error}")


def _interrupt(*_: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise InterruptError


class Line(NamedTuple):
    """What a worker wrote down."""

    worker: int
    what: str
    key: str
    text: str


def lines_of(log: Path) -> Iterator[Line]:
    """Yield what all workers wrote down, in order."""
    for line in log.read_text().splitlines():
        worker, what, key, text = line.split("\t")
        yield Line(int(worker), what, key, text)
