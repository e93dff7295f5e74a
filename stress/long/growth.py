"""A process that lives through the whole long run, works and looks at itself: nothing may grow that the data does not ask for.

What is compared are the medians of the first and the last quarter of the run, after a time in which it warms up.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from stress.command import WrongError
from stress.long.hands import die_with_parent, memory, open_files, same
from tastypy import POD

if TYPE_CHECKING:
    from pathlib import Path

    from stress.changes import Entries, Writer

Sample = dict[str, int]

_PAUSE = 0.02  # seconds between two steps
_MIB = 1 << 20
# how much more each may be, at the end, than it was at first: so many times that, and so much
_MAY_GROW = {
    "descriptors without journals": (1, 0),
    "resident bytes": (1, 32 * _MIB),  # values of a megabyte come and go
    "allocated blocks": (1.25, 20_000),
    "files without shards": (1.5, 10),
    "bytes without shards": (1.5, 6 * _MIB),
}


class Survivor:
    """Changes each POD, sees to it that two objects of each follow, and takes a sample at regular intervals."""

    def __init__(self, path: Path, options: dict[str, Any], writer: Writer) -> None:
        self._path, self._writer = path, writer
        self._pod: POD[str, Any] = POD(path, **options)
        self._reader: POD[str, Any] = POD(path, mode="r")
        self._entries: Entries = {}
        self._step = 0

    def act(self) -> None:
        """Make a change, and look what this object, and the one that only reads, have."""
        self._pod.refresh()
        change = self._writer.change(self._step, self._entries)
        self._writer.commit(self._pod, change)
        self._entries = change.apply(self._entries)
        self._step += 1
        self._reader.refresh()
        for pod in (self._pod, self._reader):
            if not same(self._writer.own(pod), self._entries):
                message = f"{pod} differs from what {self._writer.name} wrote, at step {self._step}"
                raise WrongError(message)
        if self._step % 500 == 0 and (problems := self._pod.check()):
            raise WrongError("\n".join([f"{self._path}:", *problems]))

    def look(self) -> Sample:
        """Return what the directory has beside the shards that count."""
        self._reader.refresh()
        stats = self._reader.stats()
        sizes = []
        for file in os.scandir(self._path):
            try:
                sizes.append(file.stat().st_size)
            except FileNotFoundError:  # removed just now
                continue
        return {"files without shards": len(sizes) - stats.shards, "bytes without shards": sum(sizes) - stats.bytes}


def survive(plans: list[tuple[Path, dict[str, Any], Writer]], report: int, every: float, parent: int) -> None:
    """Be the process that lives through it all; write a line for each sample, one `every` so many seconds."""
    die_with_parent(parent)
    survivors = [Survivor(*plan) for plan in plans]
    steps, due = 0, 0.0
    while True:
        for survivor in survivors:
            survivor.act()
            steps += 1
            time.sleep(_PAUSE)
        if time.monotonic() < due:
            continue
        due = time.monotonic() + every
        gc.collect()
        journals = sum("journal-" in name for name in open_files())
        if journals > 2 * len(survivors):
            message = f"{journals} journals are open, of {2 * len(survivors)} objects that have one each at most"
            raise WrongError(message)
        sample = {
            "steps": steps,
            "descriptors without journals": len(open_files()) - journals,
            "resident bytes": memory(1),
            "allocated blocks": sys.getallocatedblocks(),
        }
        for survivor in survivors:
            for name, value in survivor.look().items():
                sample[name] = sample.get(name, 0) + value
        os.write(report, json.dumps(sample).encode() + b"\n")


def judge_growth(samples: list[Sample]) -> list[str]:
    """Return the figures of the first and the last quarter; raise if something grew between them."""
    samples = samples[len(samples) // 10 :]
    quarter = len(samples) // 4
    if quarter < 2:
        message = f"only {len(samples)} samples were taken"
        raise WrongError(message)
    told: list[str] = []
    wrong: list[str] = []
    for name, (times, more) in _MAY_GROW.items():
        first, last = ([sample[name] for sample in part] for part in (samples[:quarter], samples[-quarter:]))
        before, after = statistics.median(first), statistics.median(last)
        text = f"{name}: {before:,.0f} in the first quarter, {after:,.0f} in the last; at most {max(first):,}, {max(last):,}"
        (wrong if after > before * times + more else told).append(text)
    if wrong:
        raise WrongError("\n".join(["grown:", *wrong]))
    return told
