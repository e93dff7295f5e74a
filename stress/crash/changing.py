"""The program of `crash` that changes a POD, step by step, and what is right when it was killed or hindered at one."""

from __future__ import annotations

import json
import random
import shutil
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import tastypy
from stress.changes import KINDS, SHARD_BYTES, TOTAL, Change, Entries, Writer
from stress.command import WrongError
from stress.judging import (
    Known,
    dead_epochs,
    difference,
    go_on,
    judge_asides,
    judge_epoch,
    judge_files,
    judge_total,
    read,
    same,
)
from stress.steps import perhaps_in_steps
from tastypy import POD, IncoherentFileSystemError, TastypyError, UnknownOutcomeError, files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from stress.crash.calls import Outcome, Tell

_MOST = KINDS.keys() - {"clear", "large"}


class Changing(NamedTuple):
    """A program that makes a writer's changes from `first` to `last`, beginning with these entries.

    Attributes:
        origin: the directory that it begins with a copy of; None: with a new one.
        in_steps: whether it folds step by step.
        damaged: whether that has to be repaired first; `lost` is what must be found in files set aside then, or when the
            POD is opened, since a line of its journal is damaged.
    """

    writer: Writer
    first: int
    last: int
    entries: Entries
    origin: Path | None = None
    damaged: bool = False
    in_steps: bool = False
    lost: tuple[bytes, ...] = ()

    def run(self, path: Path, tell: Tell) -> None:
        """Make the changes, by two objects in turn."""
        random.seed(0)  # when who folds is random, and the calls are counted
        with perhaps_in_steps(self.in_steps):
            self._run(path, tell)

    def _run(self, path: Path, tell: Tell) -> None:
        if self.damaged:
            tell.until_done(lambda: tastypy.repair(path))
            tell("repaired")
        pods = [tell.until_done(lambda: POD[str, Any](path, shard_bytes=SHARD_BYTES)) for _ in range(2)]
        entries = self.entries
        for step in range(self.first, self.last):
            pod = pods[step // 2 % 2]  # each has to follow what the other one did
            change = self.writer.change(step, entries)
            after = change.apply(entries)
            made = self._try(pod, change, entries, after, tell)
            tell("made" if made else "not made")
            entries = after if made else entries
            if not made and len(dead_epochs(path)) > len(pods):  # what is looked at now does not fail
                message = "failed folds took more numbers than one for each object, which tries again with it"
                raise WrongError(message)
        for pod in pods:
            tell.until_done(pod.refresh)
            if not same(self.writer.own(pod), entries):
                message = f"in memory at the end: {difference(self.writer.own(pod), entries)}"
                raise WrongError(message)
            tell.until_done(pod.close)
        tell("closed")

    def _try(self, pod: POD[str, Any], change: Change, before: Entries, after: Entries, tell: Tell) -> bool:
        """Make a change; tell whether it was made, which an error has to be right about, too."""
        try:
            self.writer.commit(pod, change)
        except TastypyError as error:
            tell.error(error)
            unknown = isinstance(error, UnknownOutcomeError | IncoherentFileSystemError)
        else:
            return True
        if pod.dirty():  # what is held stays so
            pod.sync()
            unknown = True
        pod.refresh()  # it may not even have looked at what the other object did
        found, disk = self.writer.own(pod), self.writer.own(read(pod.path))
        if not same(found, disk):
            message = f"after an error the memory is not the disk: {difference(found, disk)}"
            raise WrongError(message)
        if same(found, before):  # a sync is never made, then
            return False
        if unknown and same(found, after):
            return True
        message = f"after the error of {change}: {difference(found, before)}"
        raise WrongError(message)

    def judge(self, path: Path, outcome: Outcome) -> None:
        """Raise unless what it left is right."""
        done = outcome.done
        if self.damaged and done[:1] != ["repaired"]:
            tastypy.repair(path)
        known = Known(self.writer, self.first, self.entries)
        for text in done:
            if text in ("made", "not made"):
                known.follow(made=text == "made")
        found = read(path)
        if outcome.status or known.step < self.last:
            known.judge(found, 0)
        known.judge_again(found)
        if self.lost:
            judge_asides(path, self.lost)
        dead = dead_epochs(path)
        found = go_on(path)
        known.judge_again(found)
        judge_total(found)
        judge_files(path)
        judge_epoch(path, dead)
        known.judge_again(read(path))


def new_directory(place: Path, seed: int) -> Changing:
    """Return a program that begins with nothing."""
    del place
    return Changing(_writer(seed, 0, 14, _MOST), 0, 14, {})


def folding_in_steps(place: Path, seed: int) -> Changing:
    """Return a program that folds step by step, while it makes changes."""
    writer = _writer(seed, 20, 50, {"delete", "front", "transaction"})
    origin = place / "shards"
    with _written(origin, writer, 20) as (pod, known):
        pod.sync()
    return Changing(writer, 20, 50, known, origin, in_steps=True)


def dead_writers(place: Path, seed: int) -> Changing:
    """Return a program in a directory that a writer and a fold died in: there is a torn line, and something to clean up."""
    writer = _writer(seed, 40, 60, {*_MOST, "large"})
    origin = place / "dead"
    with _written(place / "alive", writer, 40) as (pod, known):
        shutil.copytree(pod.path, origin)  # as it is before closing folds
        epoch = pod.stats().epoch
    with (origin / files.journal_name(epoch)).open("ab") as journal:
        journal.write(b'{"crc":"00000000","seq":')
    (origin / files.journal_name(epoch + 1)).touch()
    (origin / files.temporary_name()).write_text("{\n")
    return Changing(writer, 40, 60, known, origin)


def lost_line(place: Path, seed: int) -> Changing:
    """Return a program in a directory whose journal lost a line in its middle, as in a power cut."""
    writer = _writer(seed, 40, 50, ())
    origin = place / "lost"
    with _written(place / "alive", writer, 40) as (pod, known):
        lines = _damage_line(pod, writer, origin)
    return Changing(writer, 40, 50, {**known, writer.key("a"): 1}, origin, lost=lines)


def damaged(place: Path, seed: int) -> Changing:
    """Return a program that repairs a directory first: a shard is damaged, and a line of the journal."""
    writer = _writer(seed, 40, 50, ())
    origin = place / "damaged"
    with _written(place / "alive", writer, 40) as (pod, written):
        more = {
            writer.key(f"more {number}"): "x" * 50 for number in range(20)
        }  # whatever was deleted, there are shards
        pod.update(more)
        known = {**written, **more}
        pod.sync()
        lines = _damage_line(pod, writer, origin)
    for shard in sorted(origin.glob("*.json")):
        data = shard.read_bytes()
        gone = json.loads(data)
        if not gone.keys() & {TOTAL, writer.counter}:
            break
    middle = len(data) // 2
    data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    shard.write_bytes(data)
    kept = {key: value for key, value in known.items() if key not in gone}
    kept |= {writer.key("a"): 1, writer.key("c"): 3}
    return Changing(writer, 40, 50, kept, origin, damaged=True, lost=(data, lines[0]))


def _writer(seed: int, first: int, last: int, kinds: Iterable[str]) -> Writer:
    """Return a writer that makes changes of all these kinds between two steps."""
    writers = (Writer(number, "w", alone=True) for number in count(seed << 20))
    return next(writer for writer in writers if writer.kinds(first, last).issuperset(kinds))


@contextmanager
def _written(path: Path, writer: Writer, steps: int) -> Iterator[tuple[POD[str, Any], Entries]]:
    """Give a POD with so many changes of the writer, and what is in it of the writer's."""
    known: Entries = {}
    with POD[str, Any](path, shard_bytes=SHARD_BYTES) as pod:
        for step in range(steps):
            change = writer.change(step, known)
            writer.commit(pod, change)
            known = change.apply(known)
        yield pod, known


def _damage_line(pod: POD[str, Any], writer: Writer, copy: Path) -> tuple[bytes, bytes]:
    """Commit three lines, copy the directory, damage the second line there; return that and the third."""
    for number, name in enumerate("abc", 1):
        pod[writer.key(name)] = number
    shutil.copytree(pod.path, copy)
    journal = copy / files.journal_name(pod.stats().epoch)
    *lines, second, third = journal.read_bytes().splitlines(keepends=True)
    second = second.replace(b":2}", b":7}")
    journal.write_bytes(b"".join([*lines, second, third]))
    return second, third
