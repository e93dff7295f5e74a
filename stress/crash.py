"""Kill writers at any moment and at every system call, cut journals at every byte, and judge what is left.

What is right is known beforehand (see `changes`): everything that was acknowledged is there, the one change in flight is
there whole or not at all, order included; a reader sees it without the lock, `check()` finds nothing, and the next writer
goes on from it. The changes follow from the seed; the moments of the random kills are never the same.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stress.calls import Program, dead_writers, kill_at_calls, no_strace
from stress.changes import SHARD_BYTES, Entries, Writer
from stress.command import Trial, WrongError, command
from stress.judging import Known, go_on, judge_files, judge_total, read
from tastypy import POD

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess

_PATIENCE = 60  # seconds after which a process is given up
_RUN = 5.0  # seconds after which a writer ends by itself, should nobody kill it
_MOST = 50_000  # changes of a writer: fewer reports than a pipe holds


class Hand:
    """A writing process, and what is known of its part of the directory."""

    def __init__(self, writer: Writer) -> None:
        self.known = Known(writer)
        self._process: ForkProcess | None = None
        self._reports = -1

    def start(self, path: Path, options: dict[str, Any]) -> None:
        """Start changing the POD."""
        known = self.known
        self._reports, report = os.pipe()
        self._process = multiprocessing.get_context("fork").Process(
            target=known.writer.run,
            args=(str(path), known.step, known.entries, report, _RUN, _MOST),
            kwargs=options,
            daemon=True,
        )
        self._process.start()
        os.close(report)

    def kill(self) -> int:
        """Kill the process with SIGKILL, if it runs; return how many changes it acknowledged."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()
        process.join(_PATIENCE)
        acknowledged = 0
        while reports := os.read(self._reports, 1 << 16):
            acknowledged += len(reports)
        os.close(self._reports)
        if process.exitcode not in (0, -signal.SIGKILL):
            message = f"writer {self.known.writer.name} ended with exit status {process.exitcode}, see above"
            raise WrongError(message)
        return acknowledged


def kill_at_random(path: Path, hands: list[Hand], chance: random.Random, rounds: int) -> Counter[str]:
    """Let writers share a directory, kill one after the other, and judge what each left while the rest go on."""
    stored: dict[str, Any] = {
        "gzipped": chance.random() < 0.3,
        "shard_bytes": chance.choice([1, 60, SHARD_BYTES, 5000]),
    }
    options = {"durable": chance.random() < 0.2, "timeout": _PATIENCE, **stored}
    counts = Counter(directories=1)
    try:
        for _ in range(rounds):
            for hand in hands:
                hand.start(path, options)
            time.sleep(0.002 * 150 ** chance.random())  # up to 0.3 s, often a few milliseconds
            for hand in chance.sample(hands, len(hands)):
                time.sleep(chance.random() ** 3 * 0.05)
                acknowledged = hand.kill()
                counts.update(kills=1, acknowledged=acknowledged)
                found = read(path)
                hand.known.judge(found, acknowledged)
                judge_total(found)
            found = go_on(path, **stored)
            judge_total(found)
            for hand in hands:
                hand.known.judge_again(found)
        judge_files(path)
    except Exception as error:
        error.add_note(f"{path}: {options}")
        raise
    finally:
        for hand in hands:
            hand.kill()
    return counts


def cut_everywhere(place: Path, writer: Writer, kinds: set[str], stored: dict[str, Any]) -> Counter[str]:
    """Cut the journal at every byte of its last line, for one line of each kind, and the journal before within its seal."""
    counts: Counter[str] = Counter()
    origin, copy = place / "origin", place / "copy"
    entries: Entries = {}
    todo = {*kinds, "sync"}
    with POD[str, Any](origin, **stored) as pod:
        for step in range(2000):
            change = writer.change(step, entries)
            epoch, begin = pod.stats().epoch, (origin / f"journal-{pod.stats().epoch}.jsonl").stat().st_size
            writer.commit(pod, change)
            before, entries = entries, change.apply(entries)
            if step < 30 or change.kind not in todo or (pod.stats().epoch != epoch) != (change.kind == "sync"):
                continue  # there should be several shards first
            todo.remove(change.kind)
            journal = origin / f"journal-{epoch}.jsonl"
            size = journal.stat().st_size
            if change.kind == "sync":
                begin = journal.read_bytes().rindex(b"\n", 0, size - 1) + 1
            for offset in range(begin, size + 1):
                shutil.copytree(origin, copy)
                os.truncate(copy / journal.name, offset)
                known = Known(writer, step, entries if offset == size else before)
                try:
                    for found in (read(copy), go_on(copy), read(copy)):
                        known.judge_again(found)
                except Exception as error:
                    error.add_note(f"{copy / journal.name} cut at {offset} of {size}, {change}")
                    raise
                shutil.rmtree(copy)
            counts.update(lines=1, cuts=size + 1 - begin)
            if not todo:
                return counts
    message = f"no change of the kinds {todo} in 2000 steps"
    raise WrongError(message)


def _run(trial: Trial) -> None:
    for title, most in (("kills, a writer for itself", 1), ("kills, writers sharing a directory", 4)):
        with trial.part(title) as figures:
            chance = trial.chance(title)
            for _ in trial.rounds(1 / 2):
                path = trial.path()
                size = chance.randint(min(2, most), most)
                hands = [
                    Hand(Writer(chance.randrange(1 << 30), f"w{number}", alone=size == 1)) for number in range(size)
                ]
                figures.update(kill_at_random(path, hands, chance, rounds=8))
                shutil.rmtree(path)

    kinds = {"transaction", "front"}
    if not trial.quick:
        kinds |= {"set", "delete", "pop", "update", "back", "clear"}  # "held" is folded at its end
    for gzipped in (False,) if trial.quick else (False, True):
        with trial.part(f"journals cut at every byte, gzipped={gzipped}") as figures:
            path = trial.path()
            path.mkdir()
            writer = Writer(trial.seed, "w", alone=True)
            figures.update(cut_everywhere(path, writer, kinds, {"shard_bytes": SHARD_BYTES, "gzipped": gzipped}))

    if reason := no_strace():
        print(f"kills at system calls: left out, {reason}")
        return
    for title, first, last in (("a new directory", 0, 12), ("a directory of dead writers", 40, 60)):
        with trial.part(f"kills at system calls, {title}") as figures:
            path = trial.path()
            path.mkdir()
            writer = Writer(trial.seed, "w", alone=True)
            origin = dead_writers(path, writer, first) if first else None
            program = Program(writer, first, last, origin)
            figures.update(kill_at_calls(path, program, trial.chance(title), 40 if trial.quick else None))


if __name__ == "__main__":
    sys.exit(command("crash", __doc__, _run, seconds=60, quick=12))
