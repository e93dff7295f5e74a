"""Eight processes that start, work, fork, are killed, and run out of descriptors and memory, for as long as asked.

They share directories with different settings: some live as long as the run, one is begun anew every few seconds. Each process
has keys of its own, and what it acknowledged is counted outside; when it ends, whichever way, its part is judged while the
others go on. One more process works in the directories that live long, is never disturbed, and sees that nothing grows.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from stress.changes import SHARD_BYTES, Writer
from stress.command import Trial, WrongError, command
from stress.judging import Known, go_on, judge_files, judge_total, read
from stress.long.growth import Sample, judge_growth, survive
from stress.long.hands import Account, Hand, Life
from tastypy import POD

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess
    from pathlib import Path

_PATIENCE = 60  # seconds that a process, and those that it forked, may take to end
_PAUSE = 0.08  # seconds between two things that are done to a process, in the mean
_PROGRESS = 300  # seconds between two lines about how it goes
_NEW = 3.0  # seconds that a new directory is worked on, in the mean
_EVERY = 0.2  # seconds between two samples
_HOW = {"kill": 4, "terminate": 4, "interrupt": 4, "stop": 2, "stop and kill": 1}
_SIGNALS = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT, "stop": signal.SIGSTOP}
_LASTING: dict[str, tuple[int, dict[str, Any]]] = {  # how many processes work there, and with which options
    "default": (2, {}),
    "small shards": (2, {"shard_bytes": SHARD_BYTES}),
    "gzipped": (1, {"gzipped": True, "shard_bytes": 5000}),
    "durable": (1, {"durable": True}),
}


class Seat:
    """The place of a process, which another one takes when it has ended, and what is known of their part of a POD."""

    def __init__(self, path: Path, options: dict[str, Any], writer: Writer, chance: random.Random) -> None:
        self.account = Account(Known(writer))
        self.process: ForkProcess | None = None
        self._path, self._options, self._chance = path, options, chance
        self._reports = -1
        self._at_end = True

    def start(self) -> None:
        """Start a process."""
        self._reports, report = os.pipe()
        os.set_blocking(self._reports, False)
        self._at_end = False
        chance = random.Random(self._chance.random())
        life = Life(self._path, self._options, chance, chance.choice([1, 10, 100, 1000]))
        self.process = multiprocessing.get_context("fork").Process(
            target=Hand(life, self.account.known, report).run, args=(os.getpid(),)
        )
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        self.process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(report)

    def listen(self) -> bool:
        """Take the reports that are there; tell whether the process still runs."""
        while not self._at_end:
            try:
                data = os.read(self._reports, 1 << 16)
            except BlockingIOError:
                break
            self.account.take(data)
            self._at_end = not data
        return self.process is not None and self.process.is_alive()

    def send(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.process is not None and self.process.pid and self.process.is_alive():
            os.kill(self.process.pid, number)

    def bury(self) -> Counter[str]:
        """Judge what the process has left, which ends just now, or ended, and those that it forked."""
        process = self.process
        if process is None:
            return Counter()
        process.join(_PATIENCE)
        end = time.monotonic() + _PATIENCE
        while self.listen() or not self._at_end:
            if time.monotonic() > end:
                message = f"writer {self.account.known.writer.name}, or a process that it forked, does not end"
                raise WrongError(message)
            time.sleep(0.001)
        os.close(self._reports)
        self.process, pid, status = None, process.pid or 0, process.exitcode
        process.close()
        if self.account.crashed(pid, status or 0):
            status = -signal.SIGKILL
        elif status not in (0, -signal.SIGKILL, -signal.SIGTERM):
            message = f"writer {self.account.known.writer.name} ended with exit status {status}, see above"
            raise WrongError(message)
        found = read(self._path)
        acknowledged = self.account.settle(found, 0 if status == -signal.SIGKILL else pid)
        judge_total(found)
        ends = {0: "ended by themselves", -signal.SIGKILL: "killed", -signal.SIGTERM: "terminated"}
        return Counter({"judged": 1, ends[status]: 1, "acknowledged": acknowledged})

    def kill(self) -> None:
        """End the process, if there is one, and let those that it forked notice that nobody listens."""
        self.send(signal.SIGKILL)
        if self.process is not None:
            self.process.join()
            os.close(self._reports)
            self.process = None


class Place:
    """A directory with its processes."""

    def __init__(
        self, path: Path, options: dict[str, Any], size: int, chance: random.Random, *, alone: bool = False
    ) -> None:
        self.path, self.options = path, {"timeout": 60, **options}
        self.seats = [
            Seat(path, self.options, Writer(chance.randrange(1 << 30), f"w{number}", alone and size == 1), chance)
            for number in range(size)
        ]
        self.until = time.monotonic() + chance.expovariate(1 / _NEW)

    def bury(self, seat: Seat) -> Counter[str]:
        """Judge what a process has left that ends just now."""
        try:
            return seat.bury()
        except Exception as error:
            error.add_note(f"{self.path}: {self.options}")
            raise

    def end(self) -> Counter[str]:
        """Kill all that work here, and judge what they leave, which the next one goes on from."""
        counts: Counter[str] = Counter()
        for seat in self.seats:
            seat.send(signal.SIGKILL)
        for seat in self.seats:
            counts += self.bury(seat)
        found = go_on(self.path)
        judge_total(found)
        for seat in self.seats:
            seat.account.known.judge_again(found)
            counts.update(seat.account.counts)
        judge_files(self.path)
        return counts

    def epoch(self) -> int:
        """Return the number of its last fold; dead ones have taken numbers, too."""
        with POD[str, Any](self.path, mode="r") as pod:
            return pod.stats().epoch

    def kill(self) -> None:
        """End all that work here."""
        for seat in self.seats:
            seat.kill()


class Watch:
    """What the process tells that lives through it all."""

    def __init__(self, places: list[Place], chance: random.Random) -> None:
        self.samples: list[Sample] = []
        self._lines, report = os.pipe()
        os.set_blocking(self._lines, False)
        self._rest = b""
        plans = [(place.path, place.options, Writer(chance.randrange(1 << 30), "s")) for place in places]
        self._process = multiprocessing.get_context("fork").Process(
            target=survive, args=(plans, report, _EVERY, os.getpid())
        )
        self._process.start()
        os.close(report)

    def listen(self) -> None:
        """Take the samples that are there; raise if the process has ended."""
        with suppress(BlockingIOError):
            while data := os.read(self._lines, 1 << 16):
                *lines, self._rest = (self._rest + data).split(b"\n")
                self.samples += map(json.loads, lines)
        if not self._process.is_alive():
            message = "the process that was to live through it all has ended, see above"
            raise WrongError(message)

    def kill(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


class Turmoil:
    """All places, and what happens to the processes there."""

    def __init__(self, trial: Trial) -> None:
        self.counts: Counter[str] = Counter()
        self._trial, self._chance = trial, trial.chance("turmoil")
        self.lasting = [
            Place(trial.path(), options, size, trial.chance(name)) for name, (size, options) in _LASTING.items()
        ]
        self._new = self._begin()

    def _begin(self) -> Place:
        chance = self._chance
        options = {
            "gzipped": chance.random() < 0.3,
            "shard_bytes": chance.choice([1, 60, SHARD_BYTES, 5000]),
            "durable": chance.random() < 0.2,
        }
        return Place(self._trial.path(), options, chance.randint(1, 2), chance, alone=True)

    def act(self) -> None:
        """Do something to one of the processes, and see to those that have ended."""
        if time.monotonic() > self._new.until:
            self._finish(self._new)
            shutil.rmtree(self._new.path)
            self._new = self._begin()
            self.counts["new directories"] += 1
        seats = [(place, seat) for place in (*self.lasting, self._new) for seat in place.seats]
        for place, seat in seats:
            if not seat.listen():
                self.counts += place.bury(seat)
                seat.start()
        place, seat = self._chance.choice(seats)
        how = self._chance.choices([*_HOW], [*_HOW.values()])[0]
        self.counts[how] += 1
        first, _, then = how.partition(" and ")
        seat.send(_SIGNALS[first])
        if first == "stop":
            time.sleep(self._chance.random() ** 3 * 0.5)
            seat.send(signal.SIGKILL if then else signal.SIGCONT)
        if first in ("kill", "terminate") or then:
            self.counts += place.bury(seat)
            seat.start()

    def end(self) -> None:
        """End all, and judge it."""
        for place in (*self.lasting, self._new):
            self._finish(place)

    def _finish(self, place: Place) -> None:
        self.counts += place.end()

    def kill(self) -> None:
        """End all that still run."""
        for place in (*self.lasting, self._new):
            place.kill()


def _run(trial: Trial) -> None:
    with trial.part("processes that are disturbed") as figures:
        turmoil = Turmoil(trial)
        chance = trial.chance("watch")
        watch = Watch(turmoil.lasting, chance)
        told = start = time.monotonic()
        try:
            for _ in trial.rounds():
                time.sleep(chance.expovariate(1 / _PAUSE))
                turmoil.act()
                watch.listen()
                if time.monotonic() > told + _PROGRESS:
                    told = time.monotonic()
                    print(f"{told - start:.0f} s: {dict(turmoil.counts)}, {watch.samples[-1]}", flush=True)
            watch.kill()
            turmoil.end()
            figures["folds"] = sum(place.epoch() for place in turmoil.lasting)
        finally:
            watch.kill()
            turmoil.kill()
        figures.update(turmoil.counts)
    with trial.part("a process that is not") as figures:
        figures.update({name: value for name, value in watch.samples[-1].items() if "steps" in name})
        figures["samples"] = len(watch.samples)
    print(*judge_growth(watch.samples), sep="\n")


if __name__ == "__main__":
    sys.exit(command("long", __doc__, _run, seconds=60, quick=8))
