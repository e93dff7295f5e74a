"""Record short programs, cut the power at every point of the record, and judge each state that the disk may then be in.

The changes of a program are those of `changes`, so what is right is known beforehand.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from stress.changes import SHARD_BYTES, Entries, Writer
from stress.command import WrongError
from stress.judging import difference, read
from stress.power.recorder import SEQ, Op, Recorder, recorded
from stress.power.remains import look
from stress.power.replay import Disk, Rules, State, lay_out
from stress.steps import in_steps
from tastypy import POD, TastypyError, files, repair, store
from tastypy.format import decode_lock_line

_NAME = "my.pod"
_SMALL = 2000  # bytes: of a program's journals, so that assignments set off folds


class Fast:
    """A stand-in for `os` that waits for no disk: what is judged is there for as long as it is looked at."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, descriptor: int) -> None:
        """Do nothing."""

    fdatasync = fsync


class Plan(NamedTuple):
    """A program: who changes the POD, how it is opened, and where; what breaks off; what of it is `damaged` and repaired meanwhile."""

    writer: Writer
    durable: bool
    remote: bool
    options: dict[str, Any]
    limit: int  # bytes of a journal
    rules: Rules
    steps: int
    damaged: str
    steps_of_folds: bool

    def folding(self) -> AbstractContextManager[object]:
        """Return what lets the program fold as planned."""
        if self.steps_of_folds and self.limit < _SMALL:
            return in_steps(self.limit)
        return mock.patch.object(store, "_LEAST_LIMIT", self.limit)

    def after(self) -> list[Entries]:
        """Return the entries after each number of changes."""
        states: list[Entries] = [{}]
        for step in range(self.steps):
            states.append(self.writer.change(step, states[-1]).apply(states[-1]))
        return states


def plan(chance: random.Random, *, client: bool, most: int) -> Plan:
    """Return a program of up to `most` changes, for a disk, or for a client of a file server."""
    steps = chance.randint(3, most)
    while True:
        writer = Writer(chance.randrange(1 << 30), "w", alone=True)
        made = Plan(
            writer,
            durable=chance.random() < 0.4,
            remote=client or chance.random() < 0.3,
            options={"gzipped": chance.random() < 0.2, "shard_bytes": chance.choice([1, 60, SHARD_BYTES, None])},
            limit=chance.choice([1, 500, _SMALL, 1 << 20]),
            rules=Rules(client=client, ordered=client or chance.random() < 0.7),
            steps=steps,
            damaged=chance.choice(["", "journal", ".lock"]),
            steps_of_folds=chance.random() < 0.5,
        )
        if len(str(made.after()[-1])) < 100_000:  # without one that alone fills a journal: `limit` does as much
            return made


class Record:
    """What a program, and who took over when it died, did and acknowledged.

    Attributes:
        start: where in `ops` the last of them began; repairs: how many there were.
    """

    def __init__(self, made: Plan) -> None:
        self.plan = made
        self.after = made.after()
        self.ops: list[Op] = []
        self.start = self.repairs = 0

    def run(self, root: Path, step: int, end: int, chance: random.Random) -> None:
        """Make the changes from number `step` to `end`, in one or two sittings, and note what is done."""
        made = self.plan
        self.start = len(self.ops)
        disk = self._disk()
        lay_out(disk.now(), root)
        recorder = Recorder(root, self.ops, disk.names())
        path = root / _NAME
        with recorded(recorder, remote=made.remote), made.folding():
            breaks = sorted({step, end, chance.randint(step, end)})
            for first, last in itertools.pairwise(breaks):
                if first > step and made.damaged:
                    recorder.begin(first)
                    _damage(recorder, path, made.damaged)
                    repair(path)
                    self.repairs += 1
                    recorder.acknowledge(first, stable=True)
                pod = POD[str, Any](path, durable=made.durable, **made.options)
                for number in range(first, last):
                    change = made.writer.change(number, self.after[number])
                    recorder.begin(number + 1)
                    made.writer.commit(pod, change)
                    recorder.acknowledge(number + 1, stable=made.durable or change.kind in ("sync", "held"))
                recorder.begin(last)
                pod.close()
                recorder.acknowledge(last, stable=True)

    def take_over(self, root: Path, chance: random.Random) -> None:
        """Let the program die at one of its calls, and another one go on."""
        del self.ops[chance.randrange(len(self.ops)) :]
        told, begun = self._numbers()
        if self.plan.rules.client:  # whose kernel closes the files of a process that died
            self.ops += [Op("close", file=file) for file in self._disk().unfinished()]
        lay_out(self._disk().now(), root)
        with mock.patch.object(files, "os", Fast()):
            found = self.plan.writer.own(read(root / _NAME))
        shutil.rmtree(root)
        there = self.judge(found, told, begun)
        if there > told:
            self.ops.append(Op("ack", number=there))
        self.run(root, there, min(there + chance.randint(1, 4), self.plan.steps), chance)

    def _disk(self) -> Disk:
        disk = Disk(self.plan.rules)
        for op in self.ops:
            disk.do(op)
        return disk

    def _numbers(self) -> tuple[int, int]:
        numbers = Counter({"ack": 0, "begin": 0})
        for op in self.ops:
            numbers[op.kind] = op.number
        return numbers["ack"], max(numbers["ack"], numbers["begin"])

    def judge(self, found: Entries, least: int, most: int) -> int:
        """Raise unless the entries are those after `least` to `most` changes; return after how many."""
        for number in range(most, least - 1, -1):
            if [*found.items()] == [*self.after[number].items()]:
                return number
        message = f"not after {least} to {most} changes; against {least}: {difference(found, self.after[least])}"
        raise WrongError(message)

    def states(self, chance: random.Random, most: int) -> Iterator[tuple[int, State, int, int]]:
        """Yield where it breaks off, a state, and how many changes must be there, and may be."""
        disk = Disk(self.plan.rules)
        seen = set()
        least = begun = 0
        for at, op in enumerate(self.ops):
            disk.do(op)
            if op.kind == "begin":
                begun = op.number
            if op.kind == "promise" or (op.kind == "ack" and self.plan.rules.client):
                least = max(least, op.number)
            if at < self.start:
                continue
            for state in disk.states(chance, most):
                key = hash((least, begun, *state.items()))
                if key not in seen:
                    seen.add(key)
                    yield at, state, least, begun


def _damage(recorder: Recorder, path: Path, what: str) -> None:
    """Damage the POD in one call, so that whatever of that arrives, nothing is lost: empty `.lock`, or spoil the journal's end."""
    if what == "journal":
        line = decode_lock_line((path / files.LOCK).read_bytes())
        assert line, "the POD was closed"
        journal = path / files.journal_name(line.epoch)
        last = journal.read_bytes().splitlines(keepends=True)[
            -1
        ]  # of a batch, once more: what precedes it is no torn tail
        descriptor = recorder.open(str(journal), os.O_RDWR | os.O_APPEND)
        recorder.write(descriptor, b"spoilt\n" + (last if last[SEQ] == b'"seq":' else b"and more\n"))
    else:
        descriptor = recorder.open(str(path / files.LOCK), os.O_RDWR)
        recorder.ftruncate(descriptor, 0)
    recorder.close(descriptor)


def cut_everywhere(place: Path, made: Plan, chance: random.Random, most: int, seconds: float) -> Counter[str]:
    """Record a program, perhaps one that dies and one that takes over, and judge the states of every cut, while there is time."""
    end = time.monotonic() + seconds
    record = Record(made)
    record.run(place / "first", 0, made.steps, chance)
    if chance.random() < 0.5:
        record.take_over(place / "second", chance)
    counts = Counter({"programs": 1, "repairs": record.repairs})
    cuts = set[int]()
    root = place / "cut"
    for at, state, least, most_there in record.states(chance, most):
        lay_out(state, root)
        try:
            with mock.patch.object(files, "os", Fast()):
                found = look(root / _NAME)
            record.judge(made.writer.own(found.entries), least, most_there)
        except Exception as caught:
            error = WrongError(f"{type(caught).__name__}: {caught}") if isinstance(caught, TastypyError) else caught
            error.add_note(f"{root / _NAME}: cut after {at}, {str(record.ops[at])[:200]}\n{made}")
            raise error from caught
        shutil.rmtree(root)
        cuts.add(at)
        counts.update({"states": 1, "states with lines set aside": found.aside})
        if time.monotonic() > end:
            counts["programs not to their end"] = 1
            break
    counts["cuts"] = len(cuts)
    return counts


def refuse_closes(place: Path, made: Plan) -> Counter[str]:
    """Let each close with something to write fail, one in each run of the program: what was refused must not be acknowledged."""
    after = made.after()
    counts = Counter[str]()
    refused = True
    while refused:
        root = place / "refused"
        root.mkdir()
        recorder = Recorder(root, [], {})
        recorder.refuse = counts["closes refused"] + 1
        with (
            recorded(recorder, remote=True),
            made.folding(),
            POD[str, Any](root / _NAME, **made.options) as pod,
        ):
            for number in range(made.steps):
                change = made.writer.change(number, after[number])
                try:
                    made.writer.commit(pod, change)
                except OSError:
                    made.writer.commit(pod, change)
                # another process than this one sees what reached the server
                found = made.writer.own(read(root / _NAME))
                if [*found.items()] != [*after[number + 1].items()]:
                    message = (
                        f"close {recorder.refuse} refused: {difference(found, after[number + 1])}, {change}\n{made}"
                    )
                    raise WrongError(message)
        refused = recorder.late >= recorder.refuse
        counts["closes refused"] += refused
        shutil.rmtree(root)
    return counts
