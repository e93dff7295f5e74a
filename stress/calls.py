"""Kill a program at each of its system calls; the part of `crash` that needs strace."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stress.changes import MARK, SHARD_BYTES, Entries, Writer
from stress.command import WrongError
from stress.judging import Known, go_on, judge_files, judge_total, read
from tastypy import POD

if TYPE_CHECKING:
    import random

_PATIENCE = 60  # seconds after which a process is given up
_CALLS = ("write", "pwrite64", "rename", "fsync", "fdatasync", "unlink", "openat", "ftruncate", "close", "flock")
# not --seccomp-bpf, though it would be faster: with it, strace 6.1 injects nothing
_STRACE = ("strace", "-f", "-qq", "-e", f"trace={','.join(_CALLS)}")


def no_strace() -> str:
    """Return why no program can be traced here, "" if it can."""
    try:
        done = subprocess.run([*_STRACE, "true"], capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except FileNotFoundError:
        return "strace is not installed"
    return done.stderr.strip() if done.returncode else ""


class Outcome(NamedTuple):
    """How a program ended: the changes that it acknowledged, and what it complained about."""

    status: int
    acknowledged: int
    complaint: str


class Program(NamedTuple):
    """The program that is killed: a writer's steps, in a copy of the directory `origin`, or in a new one."""

    writer: Writer
    first: int
    last: int
    origin: Path | None

    def run(self, path: Path, *options: str) -> Outcome:
        """Run it under strace with these options."""
        if self.origin:
            shutil.copytree(self.origin, path)
        steps = [str(self.writer.seed), self.writer.name, str(self.first), str(self.last)]
        process = subprocess.Popen(
            [*_STRACE, *options, sys.executable, "-m", "stress.changes", str(path), *steps],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            output, complaint = process.communicate(timeout=_PATIENCE)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # strace and what it traces
            process.wait()
            raise
        return Outcome(process.returncode, len(output), complaint.decode(errors="replace"))

    def known(self) -> Known:
        """Return what is in the directory when it begins."""
        before, _ = self.writer.states(0, {}, self.first)
        return Known(self.writer, self.first, before)


def dead_writers(place: Path, writer: Writer, steps: int) -> Path:
    """Return a directory that a writer died in, and a fold, so that the next one finds something to clean up."""
    path, copy = place / "alive", place / "dead"
    known: Entries = {}
    with POD[str, Any](path, shard_bytes=SHARD_BYTES) as pod:
        for step in range(steps):
            change = writer.change(step, known)
            writer.commit(pod, change)
            known = change.apply(known)
        shutil.copytree(path, copy)  # as it is before closing folds
        epoch = pod.stats().epoch
    with (copy / f"journal-{epoch}.jsonl").open("ab") as journal:
        journal.write(b'{"crc":"00000000","seq":')
    (copy / f"journal-{epoch + 1}.jsonl").touch()
    (copy / f".{'0' * 16}.tmp").write_text("{\n")
    return copy


def _points(trace: str) -> list[tuple[str, int]]:
    """Return each call, and the how-manieth of its name it is, after the program's imports, and one more of each."""
    names = re.findall(rf"^(?:\d+ +)?(\w+)\((.*{MARK})?", trace, re.MULTILINE)
    begin = next(number for number, (_, mark) in enumerate(names) if mark)
    before, total = (Counter(name for name, _ in some) for some in (names[: begin + 1], names))
    return [(name, when) for name in _CALLS for when in range(before[name] + 1, total[name] + 2)]


def kill_at_calls(place: Path, program: Program, chance: random.Random, most: int | None) -> Counter[str]:
    """Kill the program at each of its system calls, or at about as many as `most`, evenly spread; judge what is left."""
    whole = program.run(place / "whole", "-o", str(place / "trace"))
    if whole.status or whole.acknowledged != program.last - program.first:
        message = f"the program does not end well under strace: {whole}"
        raise WrongError(message)
    points = _points((place / "trace").read_text(errors="replace"))
    every = 1 if most is None else max(1, len(points) // most)
    chosen = list(enumerate(points[chance.randrange(every) :: every]))

    def kill(point: tuple[int, tuple[str, int]]) -> Outcome:
        number, (name, when) = point
        return program.run(place / str(number), "-o", os.devnull, "-e", f"inject={name}:signal=SIGKILL:when={when}")

    counts = Counter({"points": len(points), "kills": 0})
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        for (number, (name, when)), outcome in zip(chosen, executor.map(kill, chosen), strict=True):
            path = place / str(number)
            try:
                _judge(path, program.known(), outcome)
            except Exception as error:
                error.add_note(f"{path}: killed at {name} number {when}; {outcome}")
                raise
            counts["kills" if outcome.status else "ended by themselves"] += 1
            shutil.rmtree(path)
    if not counts["kills"]:
        message = "strace killed nothing: this part tests nothing here"
        raise WrongError(message)
    return counts


def _judge(path: Path, known: Known, outcome: Outcome) -> None:
    if outcome.status not in (0, -signal.SIGKILL, 128 + signal.SIGKILL):
        raise WrongError(str(outcome))
    known.judge(read(path), outcome.acknowledged)
    found = go_on(path)
    known.judge_again(found)
    judge_total(found)
    judge_files(path)
