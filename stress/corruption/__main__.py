"""Damage small directories in every way there is, and judge what the library makes of each.

Right is, for every reader and every writer that opens what is left: the entries as they were; or an error that names a file
that was damaged, is one of the library's own, and leaves every file as it is. And, where the current epoch's header and shards
are whole, one thing more: the entries without the last lines of its journal, from the first one on whose CRC is wrong or that has no
newline, if no whole line says that this was on stable storage. Good lines among them are set aside, and `check` reports
that. For two things no reader can find out: lines that are gone from the end, whole, with nothing after them; and a line with the
next number and a right CRC that another directory wrote, since lines do not tell whose they are. They are counted as what they say. Where no
journal and no shard is left at all, there is no POD, and a writer makes an empty one.

`repair` makes of it a directory with all that is left: each shard that is whole and each line that is, in the order of their
numbers, however little of the rest is. Everything else that belonged to the current epoch lies in files that were set aside, whole, named
in the answer, and they are all that `check` finds then. A second repair does nothing. Only where whole files were exchanged for those
of another directory, or another time, it may refuse.

A directory that is damaged under an open POD gets an error at its next use, or is used rightly; no good line and shard goes.

The second part gives the parsers of lines, shards, keys and workers' files what is no such thing, or nearly one.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from stress.command import Trial, WrongError, command
from stress.corruption.damages import Damage, damages
from stress.corruption.parsers import PARSERS
from stress.corruption.samples import Sample, samples
from stress.corruption.verdicts import Case
from tastypy import opening, reading, store

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_PATIENCE = 30.0  # seconds after which one case counts as hanging
_AT_ONCE = 40  # cases for which processes are started
_SHARE = 0.9  # of the time, for files; the rest is for parsers
_MEMORY = 256 << 20  # bytes that a judging process may take beyond what it has at first


class _Judges:
    """Processes that judge the cases of a sample, each every n-th one, and are watched for hanging."""

    def __init__(self, sample: Sample, cases: list[Damage], place: Path) -> None:
        self._sample = sample
        self._cases = cases
        self._place = place
        context = multiprocessing.get_context("fork")
        self._number = os.cpu_count() or 1
        self._at = context.RawArray("q", self._number)
        self._counts, counts = context.Pipe(duplex=False)
        self._processes = [
            context.Process(target=self._judge, args=(number, counts), daemon=True) for number in range(self._number)
        ]

    def run(self) -> Counter[str]:
        """Return how the cases ended; raise for the first one that is wrong."""
        figures: Counter[str] = Counter()
        for process in self._processes:
            process.start()
        try:
            left = self._number
            before, since = [*self._at], [time.monotonic()] * self._number
            while left:
                if self._counts.poll(0.5):
                    found = self._counts.recv()
                    if isinstance(found, str):
                        raise WrongError(found)
                    figures.update(found)
                    left -= 1
                for number, process in enumerate(self._processes):
                    if before[number] != self._at[number] or not process.is_alive():
                        before[number], since[number] = self._at[number], time.monotonic()
                    if time.monotonic() - since[number] > _PATIENCE or process.exitcode:
                        damage = self._cases[self._at[number]]
                        what = f"ended with {process.exitcode}" if process.exitcode else f"hangs for {_PATIENCE:g} s"
                        raise WrongError(f"{self._sample.name}, {damage.words}: the process {what}")
        finally:
            for process in self._processes:
                process.kill()
                process.join()
        return figures

    def _judge(self, number: int, counts: Connection) -> None:
        logging.getLogger("tastypy").disabled = True  # it warns of each damage
        for module in (reading, store, opening):  # nobody else writes here: it is no use to wait, and to look again
            vars(module).update(TRIES=5, PAUSE=0.0)
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, most))
        figures: Counter[str] = Counter()
        for at in range(number, len(self._cases), self._number):
            self._at[number] = at
            place = self._place / str(at)
            place.mkdir()
            try:
                figures.update(Case(self._sample, self._cases[at]).judge(place))
            except BaseException as error:  # this process ends with it, and the parent raises it: see `counts`
                notes = getattr(error, "__notes__", ())
                unexpected = [] if isinstance(error, WrongError) else traceback.format_exception(error)
                counts.send("\n".join([str(error), *notes, *unexpected]))
                return
            place.rmdir()
            figures["damages"] += 1
        counts.send(figures)


def _cases(sample: Sample, trial: Trial) -> list[Damage]:
    """Return the damages of the sample at random, but so that those of all kinds take turns."""
    chance = trial.chance(sample.name)
    found = list(damages(sample, chance))
    chance.shuffle(found)
    turns: Counter[str] = Counter()
    order = []
    for damage in found:
        turns[damage.kind] += 1
        order.append(turns[damage.kind])
    return [found[at] for at in sorted(range(len(found)), key=order.__getitem__)]


def _damage(trial: Trial) -> None:
    with trial.in_memory() as place:
        (place / "samples").mkdir()
        todo = [(sample, _cases(sample, trial)) for sample in samples(place / "samples")]
        total = sum(len(cases) for _, cases in todo)
        for sample, cases in todo:
            with trial.part(f"{sample.name}, {sum(map(len, sample.files.values()))} bytes") as figures:
                figures["possible damages"] = len(cases)
                for number in trial.rounds(_SHARE * len(cases) / total):
                    some = cases[number * _AT_ONCE :][:_AT_ONCE]
                    if not some:
                        break
                    figures.update(_Judges(sample, some, place).run())


def _run(trial: Trial) -> None:
    if trial.wants("files"):
        _damage(trial)
    if trial.wants("parsers"):
        for title, fuzz in PARSERS.items():
            with trial.part(f"parsers, {title}") as figures:
                for number in trial.rounds((1 - _SHARE) / len(PARSERS)):
                    fuzz(trial.chance(title, number))
                    figures["texts"] += 1


if __name__ == "__main__":
    sys.exit(command("corruption", __doc__, _run, seconds=280, quick=9, parts=("files", "parsers")))
