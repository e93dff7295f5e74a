"""Fill a small file system while processes write to it, free it, fill it again, and judge what they were told.

What is promised: an assignment that finds no room raises an error that says what and where, and changes nothing, neither in
memory nor on the disk; reading goes on; a fold that finds none is logged, and leaves everything; and when there is room
again, everything goes on in the same processes. Every so often one of them is killed while nothing is free. Disks: ext4 and
tmpfs of 4 MB, and an ext4 with few inodes; full to the last byte, with some bytes left, or with bytes but no inodes.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from stress.changes import SHARD_BYTES, Entries
from stress.command import Trial, WrongError, command
from stress.disks import NoDiskError
from stress.filling_tasks import Crew, judge_tasks
from stress.full.filling import Filler, small_disk
from stress.judging import difference, go_on, judge_files, judge_total, read
from stress.steps import perhaps_in_steps
from stress.telling import SmallWriter, Teller, Voice
from tastypy import POD, CommitError, Tracker

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

_DISKS = {
    "ext4": ("bytes", "some"),
    "tmpfs": ("bytes", "some"),
    "inodes": ("inodes", "bytes"),
}  # and how they are filled
_WRITERS = 4
_AT_MOST = 10.0  # seconds that it may take until everybody goes on, or finds the disk full
_FULL = 0.15  # seconds for which it stays full then
_PAUSE = 0.01


def _wait(what: str, condition: Callable[[], bool], meanwhile: Callable[[], object]) -> None:
    deadline = time.monotonic() + _AT_MOST
    while not condition():
        if time.monotonic() > deadline:
            message = f"for {_AT_MOST} s: {what}"
            raise WrongError(message)
        meanwhile()
        time.sleep(_PAUSE)


class Siege:
    """A disk, how it is filled, and those who go on reading."""

    def __init__(self, disk: Path, chance: random.Random) -> None:
        self.filler = Filler(disk)
        self._chance = chance

    def fill(self, how: str) -> None:
        """Take what is free, as `how` says; to be called again and again, since those who work give some back."""
        match how:
            case "bytes":
                self.filler.take_bytes()
            case "some":
                self.filler.take_bytes(leave=self._chance.randrange(4_000, 200_000))
            case "inodes":
                self.filler.take_inodes()


def _fill_and_free(
    siege: Siege,
    how: str,
    figures: Counter[str],
    listen: Callable[[], object],
    counts: Callable[[], list[Counter[str]]],
) -> None:
    """Fill the disk until it shows, keep it full for a moment, free it, and see everybody go on."""
    before = counts()
    shown = {"failed"} if how != "inodes" else {"failed", "warnings logged"}  # of a worker that begins, of a fold
    try:

        def meanwhile() -> None:
            siege.fill(how)
            listen()

        def someone_sees() -> bool:
            return any(now[one] > then[one] for now, then in zip(counts(), before, strict=True) for one in shown)

        _wait(f"nobody finds the disk full ({how})", someone_sees, meanwhile)
        end = time.monotonic() + _FULL
        while time.monotonic() < end:
            meanwhile()
            time.sleep(_PAUSE)
        figures[f"times full ({how})"] += 1
    finally:
        siege.filler.free()
    listen()
    then = counts()

    def all_go_on() -> bool:
        return all(now["made"] > was["made"] + 3 for now, was in zip(counts(), then, strict=True))

    _wait("not everybody goes on, though there is room", all_go_on, listen)


def _judge_reader(reader: POD[str, Any], found: Entries) -> None:
    reader.refresh()
    if reader != found:
        message = f"a reader that was open all the time sees something else: {difference(reader, found)}"
        raise WrongError(message)


def fill_under_writers(trial: Trial, place: Path, kind: str, chance: random.Random, rounds: int) -> Counter[str]:
    """Let writers share a POD on a disk that is filled and freed, `rounds` times; judge what they told."""
    figures: Counter[str] = Counter()
    with small_disk(place, kind) as disk, perhaps_in_steps(chance.random() < 0.5, 50_000):
        path, stop = disk / "my.pod", place / "stop"
        options: dict[str, Any] = {
            "durable": chance.random() < 0.3,
            "gzipped": chance.random() < 0.2,
            "shard_bytes": chance.choice([SHARD_BYTES * 20, 50_000, None]) if kind != "inodes" else None,
        }
        siege = Siege(disk, chance)
        voices = [
            Voice(Teller(SmallWriter(chance.randrange(1 << 30), f"w{number}"), path, stop, (CommitError,)), options)
            for number in range(_WRITERS)
        ]
        POD[str, Any](path, **options).close()
        reader = POD[str, Any](path, mode="r")

        def listen() -> None:
            for voice in voices:
                if not voice.listen():
                    voice.end()
                    message = f"writer {voice.told.writer.name} ended by itself"
                    raise WrongError(message)
            reader.refresh()
            judge_total(read(path))
            judge_total(reader)
            figures["readings"] += 2

        try:
            for voice in voices:
                voice.start()
            for _ in range(rounds):
                if siege.filler.spent:
                    break
                how = chance.choice(_DISKS[kind])
                _fill_and_free(siege, how, figures, listen, lambda: [Counter(voice.told.counts) for voice in voices])
                if chance.random() < 0.5:
                    siege.fill("bytes")
                    voice = chance.choice(voices)
                    voice.kill()
                    figures["kills"] += 1
                    voice.told.judge(read(path), killed=True)
                    siege.filler.free()
                    voice.start()
            stop.touch()
            for voice in voices:
                voice.end()
            found = go_on(path)
            judge_total(found)
            for voice in voices:
                voice.told.judge(found, killed=False)
            _judge_reader(reader, found)
            judge_files(path)
        except Exception as error:
            error.add_note(f"{kind}, {options}, {trial.seed}")
            raise
        finally:
            for voice in voices:
                voice.kill()
        for voice in voices:
            figures.update(voice.told.counts)
    return figures


def fill_under_workers(place: Path, kind: str, chance: random.Random, rounds: int) -> Counter[str]:
    """Let workers share a tracker on a disk that is filled and freed; judge its figures by what they told."""
    figures: Counter[str] = Counter()
    with small_disk(place, kind) as disk:
        path, stop = disk / "tracker", place / "stop"
        siege = Siege(disk, chance)
        with Tracker[str](path) as tracker:
            tracker.add_many(f"task-{number}" for number in range(200))
        crew = Crew(path, stop, _WRITERS)
        try:
            crew.start()
            for _ in range(rounds):
                if siege.filler.spent:
                    break
                how = chance.choice(_DISKS[kind])
                _fill_and_free(siege, how, figures, crew.listen, crew.counts)
                if chance.random() < 0.5:
                    siege.fill("bytes")
                    crew.kill_one(chance)
                    figures["kills"] += 1
                    siege.filler.free()
                    crew.start()
            stop.touch()
            crew.end()
            judge_tasks(path, crew)
        finally:
            crew.kill()
        for counts in crew.counts():
            figures.update(counts)
    return figures


def _run(trial: Trial) -> None:
    kinds = [*_DISKS]
    rounds = 1 if trial.quick else 8
    for name, share in (("writers", 0.6), ("workers", 0.4)):
        if not trial.wants(name):
            continue
        for kind in kinds[:1] if trial.quick and name == "workers" else kinds:
            title = f"{name}, {kind}"
            try:
                with trial.part(title) as figures:
                    for number in trial.rounds(share / len(kinds)):
                        chance = trial.chance(title, number)
                        if name == "writers":
                            figures.update(fill_under_writers(trial, trial.path(), kind, chance, rounds))
                        else:
                            figures.update(fill_under_workers(trial.path(), kind, chance, rounds))
                        figures["disks"] += 1
            except NoDiskError as error:
                print(f"{title}: left out, {error}", flush=True)


if __name__ == "__main__":
    sys.exit(command("full", __doc__, _run, seconds=60, quick=4, parts=("writers", "workers")))
