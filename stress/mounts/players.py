"""The processes of a round of `mounts`. What each was told goes through a pipe, beside the file system that is tried."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, NamedTuple

from stress.changes import Entries, Writer
from stress.command import WrongError
from stress.hosts import Place
from stress.judging import Known, judge_total
from stress.steps import in_steps
from tastypy import POD, IncoherentFileSystemError, TastypyError

INCOHERENT, REFUSED = 3, 4  # the status of a writer that was told so; of one that was told something else
_PATIENCE = 300  # seconds; on an emulated machine a commit takes some milliseconds


class Round(NamedTuple):
    """What a round is about: the POD, how it is opened, after how many bytes it is folded, and how long, in seconds, its writers work."""

    pod: Place
    options: dict[str, Any]
    fold_at: int
    seconds: float


class Player:
    """A process on one of the hosts, and how many bytes it has sent: one for each thing that it was told, or has seen."""

    def __init__(self, target: Callable[[Path, int], object], place: Place, number: int) -> None:
        self._reports, report = os.pipe()
        self.process: ForkProcess = multiprocessing.get_context("fork").Process(
            target=partial(self._play, target, place, number, report), daemon=True
        )
        self.process.start()
        os.close(report)
        self._told = 0

    def _play(self, target: Callable[[Path, int], object], place: Place, number: int, report: int) -> None:
        os.close(self._reports)
        logging.getLogger("tastypy").setLevel(logging.CRITICAL)  # of what goes wrong on purpose
        try:
            target(place.enter(number), report)
        except Exception as error:
            if _is_told(error):
                sys.exit(INCOHERENT)
            if not isinstance(error, TastypyError):
                raise
            traceback.print_exc()
            sys.exit(REFUSED)

    def end(self) -> tuple[int, int]:
        """Wait for its end; return how often it reported, and its status."""
        while data := os.read(self._reports, 1 << 16):  # a full pipe would have it wait
            self._told += len(data)
        self.process.join(_PATIENCE)
        if self.process.exitcode is None:
            raise WrongError(f"process {self.process.pid} does not end")
        os.close(self._reports)
        return self._told, self.process.exitcode


def _is_told(error: BaseException | None) -> bool:
    """Tell whether an error is that of a mount which does not agree, or came when a POD was closed after that one."""
    while error is not None:
        if isinstance(error, IncoherentFileSystemError):
            return True
        error = error.__context__
    return False


def writer(played: Round, known: Known) -> Callable[[Path, int], None]:
    """Return a process that makes changes for the time of the round."""

    def write(path: Path, report: int) -> None:
        with in_steps(played.fold_at):
            known.writer.run(
                str(path), known.step, known.entries, report, played.seconds, sys.maxsize, timeout=120, **played.options
            )

    return write


def reader(writers: int, chance: random.Random) -> Callable[[Path, int], None]:
    """Return a process that reads without the lock, now and then after a long sleep, until it is ended; it reports each look."""

    def read(path: Path, report: int) -> None:
        before: Entries = {}
        with POD[str, Any](path, mode="r") as pod:
            while True:
                time.sleep(chance.choice([0.0, 0.001, 0.02, 1.5]))
                changed = pod.refresh()
                judge_total(pod)
                _judge_news(before, pod, changed, writers)
                before = pod.copy()
                os.write(report, b".")

    return read


def _judge_news(before: Entries, pod: POD[str, Any], changed: set[str], writers: int) -> None:
    """Raise if something changed that `refresh` did not name, or a writer has counted backwards."""
    silent = [key for key in before.keys() | pod.keys() if before.get(key) != pod.get(key) and key not in changed]
    if before and silent:
        raise WrongError(f"changed without being named: {silent}")
    for name in range(writers):
        count = Writer(0, f"w{name}").counter
        if pod.get(count, 0) < before.get(count, 0):
            raise WrongError(f"{count} went from {before[count]} to {pod[count]}")


def spoiler(chance: random.Random) -> Callable[[Path, int], None]:
    """Return a process that has its host cache what is, and what is not there yet, until it is ended.

    It looks at each file by its name, at names that will be used next, and keeps files open that others remove.
    """

    def spoil(path: Path, report: int) -> None:
        kept: list[int] = []
        while True:
            names: list[str] = []
            with suppress(OSError):
                names = [entry.name for entry in path.iterdir()]
            last = max((int(name[8:-6]) for name in names if name.startswith("journal-")), default=1)
            for name in [*names, *(f"journal-{last + ahead}.jsonl" for ahead in range(4)), f"0000-{last + 1}.json"]:
                with suppress(OSError):
                    (path / name).stat()
                with suppress(OSError):
                    descriptor = os.open(path / name, os.O_RDONLY)
                    kept.append(descriptor)
                    os.read(descriptor, 1 << 16)
            while len(kept) > 100:
                os.close(kept.pop(chance.randrange(len(kept))))
            os.write(report, b".")
            time.sleep(chance.choice([0.0, 0.01, 0.1]))

    return spoil
