"""Kill programs at every system call, let every system call fail, cut journals at every byte, and judge what is left.

What is right is known beforehand (see `changes`): everything that was acknowledged is there, the one change in flight is
there whole or not at all, order included; a reader sees it without the lock, `check()` finds nothing, and the next writer
goes on from it. A program that is not killed but hindered goes on, and was told what failed; its memory is the disk.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stress.changes import SHARD_BYTES, Entries, Writer
from stress.command import Trial, WrongError, command
from stress.crash.calls import Place, Program, no_strace, try_points
from stress.crash.changing import damaged, dead_writers, folding_in_steps, lost_line, new_directory
from stress.crash.claiming import dead_worker, new_tracker
from stress.judging import Known, go_on, read
from tastypy import POD


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


_PROGRAMS: dict[str, Callable[[Path, int], Program]] = {
    "new": new_directory,
    "steps": folding_in_steps,
    "dead": dead_writers,
    "lost": lost_line,
    "repair": damaged,
    "tasks": new_tracker,
    "takeover": dead_worker,
}
_REMOTE = "-remote"  # what is added to a program's name where it takes the file system for a network's
_PARTS = ["cuts", *(name + kind for name in _PROGRAMS for kind in ("", _REMOTE))]


def _run(trial: Trial) -> None:
    kinds = {"transaction", "front"}
    if not trial.quick:
        kinds |= {"set", "delete", "pop", "update", "back", "clear"}  # "held" is folded at its end
    for gzipped in (False,) if trial.quick else (False, True):
        if not trial.wants("cuts"):
            break
        with trial.part(f"journals cut at every byte, gzipped={gzipped}") as figures:
            path = trial.path()
            path.mkdir()
            writer = Writer(trial.seed, "w", alone=True)
            figures.update(cut_everywhere(path, writer, kinds, {"shard_bytes": SHARD_BYTES, "gzipped": gzipped}))

    if reason := no_strace():
        print(f"kills and errors at system calls: left out, {reason}")
        return
    wanted = [name for name in _PARTS[1:] if trial.wants(name)]
    most = 250 // len(wanted) if trial.quick else None
    for name in wanted:
        with trial.part(f"kills and errors at system calls, {name}") as figures:
            path = trial.path()
            path.mkdir()
            program = _PROGRAMS[name.removesuffix(_REMOTE)](path, trial.seed)
            place = Place(path / "points", name.endswith(_REMOTE))
            figures.update(try_points(place, program, trial.chance(name), most))


if __name__ == "__main__":
    sys.exit(command("crash", __doc__, _run, seconds=60, quick=12, parts=_PARTS))
