"""Cut the power: of real file systems under load, and of recorded programs at every point; judge what is left.

"disks": writers share a POD on an ext4 or XFS, which is shut down at a random moment and mounted again. "recorder": each
state is judged that a disk could be in if the power went at any call of a short program. "client": the same of a server
whose client dies. With durable=True nothing acknowledged may be lost; without it, nothing up to the last fold or fdatasync,
and of what is lost, nothing but the end of all changes. What is lost on the disks is measured.
"""

from __future__ import annotations

import logging
import shutil
import statistics
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stress.changes import SHARD_BYTES, Writer
from stress.command import Trial, command
from stress.disks import Disk, NoDiskError, disk
from stress.power.cuts import cut_everywhere, plan, refuse_closes
from stress.power.load import Hand, Steady, judge, windows
from stress.power.remains import look
from stress.steps import perhaps_in_steps

if TYPE_CHECKING:
    import random

_STATES = 24  # that are judged of a cut, about
_CUTS = 5  # of the power of a directory, at most


def cut_under_load(made: Disk, place: Path, chance: random.Random, longest: float) -> tuple[Counter[str], list[float]]:
    """Have writers share a directory of a disk, and cut its power a few times; return figures, and the windows of loss."""
    path = made.path / "my.pod"
    options: dict[str, Any] = {"durable": chance.random() < 0.4, "shard_bytes": chance.choice([SHARD_BYTES, None])}
    kind = Writer if options["durable"] else chance.choice([Writer, Steady, Steady])
    hands = [
        Hand(kind(chance.randrange(1 << 30), f"w{number}"), place / f"reports-{number}")
        for number in range(chance.randint(1, 3))
    ]
    counts, lost_after = Counter[str](), list[float]()
    around = ExitStack()
    around.enter_context(perhaps_in_steps(chance.random() < 0.5, 5000))
    try:
        for _ in range(chance.randint(1, _CUTS)):
            for hand in hands:
                hand.start(path, options)
            time.sleep(0.02 * (longest / 0.02) ** chance.random())
            for hand in hands:
                hand.stop()
            made.cut(flush=chance.random() < 0.3)
            cut = time.monotonic()
            for hand in hands:
                hand.kill()
            reports = [hand.reports() for hand in hands]
            made.unmount()
            made.mount()
            found = look(path, shard_bytes=options["shard_bytes"])  # it may not have been created yet
            judge(hands, reports, found)
            lost, window = windows(reports, found, cut)
            what = "durable changes" if options["durable"] else "other changes"
            counts.update({"cuts": 1, what: sum(map(len, reports)), f"{what} lost": lost, "set aside": found.aside})
            if kind is Steady:
                lost_after.append(window)
    except Exception as error:
        error.add_note(f"{path}: {options}, {len(hands)} writers")
        with suppress(OSError):  # it may be gone
            shutil.copytree(path, place / "found")
        raise
    finally:
        around.close()
        for hand in hands:
            hand.kill()
    shutil.rmtree(path)
    return counts, lost_after


def _cut_disks(trial: Trial) -> None:
    for kind in ("ext4", "xfs"):
        place = trial.path()
        place.mkdir()
        lost_after: list[float] = []
        try:
            with disk(place, kind) as made, trial.part(f"cuts of an {kind} under load") as figures:
                for number in trial.rounds(1 / 4):
                    counts, more = cut_under_load(made, place, trial.chance(kind, number), 0.5 if trial.quick else 2.5)
                    figures.update(counts)
                    lost_after += more
        except NoDiskError as error:
            print(f"cuts of an {kind} under load: left out, {error}")
        if lost_after:
            print(
                f"  where nobody syncs, from the first lost change to the cut: median {statistics.median(lost_after):.3f} s, "
                f"at most {max(lost_after):.3f} s, of {len(lost_after)} cuts"
            )


def _run(trial: Trial) -> None:
    logging.getLogger("tastypy").setLevel(logging.CRITICAL)  # it says what it recovered and set aside
    if trial.wants("disks"):
        _cut_disks(trial)
    for part, share in (("recorder", 3 / 8), ("client", 1 / 8)):
        if not trial.wants(part):
            continue
        with trial.part(f"cuts at every call, {part}") as figures:
            for number in trial.rounds(share):
                chance = trial.chance(part, number)
                made = plan(chance, client=part == "client", most=6 if trial.quick else 14)
                with trial.in_memory() as place:
                    if part == "client":
                        figures.update(refuse_closes(place, made))
                    states, seconds = (_STATES // 3, 2) if trial.quick else (_STATES, 20)
                    figures.update(cut_everywhere(place, made, chance, states, seconds))


if __name__ == "__main__":
    sys.exit(command("power", __doc__, _run, seconds=120, quick=8, parts=("disks", "recorder", "client")))
