"""Workers on a tracker whose disk is full now and then: each try that was acknowledged has to count, and no other.

A worker claims a task and lets it fail, for ever, so that the tasks do not run out: their tries are what is counted. An end
that could not be written is tried again with the same task, which has not ended.
"""

from __future__ import annotations

import os
import time
import traceback
from collections import Counter
from multiprocessing import get_context
from typing import TYPE_CHECKING

from stress.command import WrongError
from stress.telling import FAILED, MADE, MEANINGS, UNKNOWN, WRONG, tell_warnings
from tastypy import CommitError, TaskEndedError, Tracker, UnknownOutcomeError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from multiprocessing.context import ForkProcess
    from pathlib import Path

_PAUSE = 0.002
_PATIENCE = 60


def work(path: Path, stop: Path, report: int, begin: Callable[[], object]) -> None:
    """Be a worker until the file `stop` is there; for a process of its own, in which `begin` is called first."""
    tell_warnings(report)
    try:
        begin()
        with Tracker[str](path, timeout=_PATIENCE) as tracker:
            while not stop.exists():
                _try_one(tracker, stop, report)
    except Exception:  # the parent raises whatever it is, and reads it from this pipe
        os.write(report, WRONG + traceback.format_exc().encode())


def _try_one(tracker: Tracker[str], stop: Path, report: int) -> None:
    before = tracker.counts()
    try:
        task = tracker.claim()
    except CommitError as error:
        _check(tracker, error, report)
        if type(error) is CommitError and tracker.counts().total != before.total:
            message = f"a claim that failed changed {before} to {tracker.counts()}"
            raise WrongError(message) from error
        return
    if task is None:
        time.sleep(_PAUSE)
        return
    perhaps = False
    while True:
        try:
            task.fail("as it should")
        except TaskEndedError:
            if not perhaps:
                raise
            return
        except CommitError as error:
            _check(tracker, error, report)
            perhaps |= isinstance(error, UnknownOutcomeError)
            if stop.exists():
                return  # closing gives it back
        else:
            os.write(report, MADE)
            return


def _check(tracker: Tracker[str], error: CommitError, report: int) -> None:
    if tracker.path not in str(error):
        raise error
    os.write(report, UNKNOWN if isinstance(error, UnknownOutcomeError) else FAILED)
    time.sleep(_PAUSE)


class Crew:
    """The workers' processes, and what they told; `killed` is how many were killed."""

    def __init__(self, path: Path, stop: Path, size: int, begins: Sequence[Callable[[], object]] = ()) -> None:
        self.killed = 0
        self._begins = begins or [lambda: None] * size
        self._path, self._stop = path, stop
        self._told: list[Counter[str]] = [Counter() for _ in range(size)]
        self._processes: list[ForkProcess | None] = [None] * size
        self._reports = [-1] * size

    def counts(self) -> list[Counter[str]]:
        """Return what each told, counted."""
        return [Counter(told) for told in self._told]

    def start(self) -> None:
        """Start those that do not run."""
        for number, process in enumerate(self._processes):
            if process is None:
                self._reports[number], report = os.pipe()
                os.set_blocking(self._reports[number], False)
                one = get_context("fork").Process(
                    target=work, args=(self._path, self._stop, report, self._begins[number]), daemon=True
                )
                one.start()
                self._processes[number] = one
                os.close(report)

    def listen(self) -> None:
        """Hear what they told; they may have ended only if they were to."""
        for number, process in enumerate(self._processes):
            if process is not None and not self._hear(number) and not self._stop.exists():
                message = f"worker {number} ended by itself"
                raise WrongError(message)

    def _hear(self, number: int) -> bool:
        try:
            while told := os.read(self._reports[number], 1 << 16):
                if WRONG in told:
                    message = f"worker {number}: {told[told.index(WRONG) :].decode()}"
                    raise WrongError(message)
                for mark, name in MEANINGS.items():
                    self._told[number][name] += told.count(mark)
        except BlockingIOError:
            return True
        return False

    def kill_one(self, chance: random.Random) -> None:
        """Kill one of them."""
        self.killed += 1
        self._kill(chance.randrange(len(self._processes)))

    def _kill(self, number: int) -> None:
        process, self._processes[number] = self._processes[number], None
        if process is not None:
            process.kill()
            process.join()
            self._hear(number)
            os.close(self._reports[number])

    def end(self) -> None:
        """Wait for their ends, once the file `stop` is there."""
        deadline = time.monotonic() + _PATIENCE
        for number, process in enumerate(self._processes):
            while self._hear(number):
                if time.monotonic() > deadline:
                    message = f"worker {number} does not end"
                    raise WrongError(message)
                time.sleep(_PAUSE)
            if process is not None:
                process.join(1)
                self._kill(number)

    def kill(self) -> None:
        """Kill all of them."""
        for number in range(len(self._processes)):
            self._kill(number)


def judge_tasks(path: Path, crew: Crew) -> None:
    """Raise unless the tries are those that were told, and one more at most for each kill and each unknown outcome."""
    total = sum(crew.counts(), Counter[str]())
    with Tracker[str](path) as tracker:
        for _ in range(crew.killed):  # each takes over what one of them had
            if (task := tracker.claim()) is not None:
                task.release()
        found = sum(tracker.tries(key) for key in tracker)
        counts, problems = tracker.counts(), tracker.check()
    least, most = total["made"], total["made"] + total["of unknown outcome"] + 2 * crew.killed
    if not least <= found <= most or problems or counts.total != 200 or counts.claimed:
        message = f"{path}: {found} tries, known are {least} to {most}; {counts}; {problems}"
        raise WrongError(message)
