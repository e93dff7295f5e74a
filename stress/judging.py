"""What a killed writer may have left: its entries before or after the change that was in flight, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stress.changes import TOTAL, Entries, Writer
from stress.command import WrongError
from tastypy import POD, MissingPODError, check, files
from tastypy import format as form

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Known:
    """What is known of a writer's part of a POD: the entries before its change number `step`."""

    writer: Writer
    step: int = 0
    entries: Entries = field(default_factory=dict)

    def judge(self, pod: Entries, acknowledged: int) -> None:
        """Raise unless its part is right after so many acknowledged changes more, and go on from what is there."""
        found = self.writer.own(pod)
        before, after = self.writer.states(self.step, self.entries, acknowledged)
        for number, state in enumerate((before, after)):
            if same(found, state):
                self.step += acknowledged + number
                self.entries = state
                return
        step = self.step + acknowledged
        message = (
            f"writer {self.writer.name}, {acknowledged} changes acknowledged from step {self.step} on, in flight "
            f"{str(self.writer.change(step, before))[:300]}\n"
            f"  against before it: {difference(found, before)}\n  against after it:  {difference(found, after)}"
        )
        raise WrongError(message)

    def follow(self, *, made: bool) -> None:
        """Go on by its next change, which was made or not."""
        if made:
            self.entries = self.writer.change(self.step, self.entries).apply(self.entries)
        self.step += 1

    def judge_again(self, pod: Entries) -> None:
        """Raise unless its part is what it was."""
        found = self.writer.own(pod)
        if not same(found, self.entries):
            message = f"writer {self.writer.name} before step {self.step}: {difference(found, self.entries)}"
            raise WrongError(message)


def same(one: Entries, other: Entries) -> bool:
    """Tell whether they are equal, order included."""
    return [*one.items()] == [*other.items()]


def difference(found: Entries, wanted: Entries) -> str:
    """Return in words what is wrong with `found`."""
    missing = [key for key in wanted if key not in found]
    added = [key for key in found if key not in wanted]
    other = [key for key in found if key in wanted and found[key] != wanted[key]]
    if missing or added or other:
        return f"missing {missing}, not expected {added}, of another value {other}"
    return f"in the order {[*found]}, not {[*wanted]}"


def judge_total(pod: Entries) -> None:
    """Raise unless the total is what the writers counted: each transaction changes both."""
    counted = sum(value for key, value in pod.items() if key.endswith("-count"))
    if pod.get(TOTAL, 0) != counted:
        message = f"the total is {pod.get(TOTAL, 0)}, the writers counted {counted} transactions"
        raise WrongError(message)


def read(path: Path | str) -> Entries:
    """Return what a reader without the lock sees."""
    try:
        with POD[str, Any](path, mode="r") as pod:
            return pod.copy()
    except MissingPODError:  # its writer was killed before it was there
        return {}


def go_on(path: Path, **options: Any) -> Entries:
    """Return what the next writer finds, after it has written something, taken it back, and found nothing wrong."""
    with POD[str, Any](path, **options) as pod:
        found = pod.copy()
        pod["probe"] = True
        del pod["probe"]
        problems = pod.check()
        if problems or not same(pod.copy(), found):
            message = f"after the next writer: {problems or difference(pod.copy(), found)}"
            raise WrongError(message)
    return found


def judge_files(path: Path) -> None:
    """Raise if a fold leaves anything of those that died before it."""
    with POD[str, Any](path) as pod:
        pod["probe"] = False
        pod.sync()
        shards = pod.stats().shards
    names = sorted(file.name for file in path.iterdir())
    journals = [name for name in names if name.startswith("journal-")]
    if len(journals) > 2 or len(names) != len(journals) + shards + len([".lock"]):
        message = f"{path}: {shards} shards and at most two journals belong here, not {names}"
        raise WrongError(message)


def _epoch(path: Path) -> int:
    """Return the epoch that `.lock` names, 0 if it says nothing yet."""
    try:
        line = form.decode_lock_line((path / files.LOCK).read_bytes())
    except FileNotFoundError:
        return 0
    return line.epoch if line else 0


def dead_epochs(path: Path) -> set[int]:
    """Return the numbers that folds took which were not committed, and which nobody may use again."""
    epoch = _epoch(path)
    names = files.names_in(str(path)).values() if epoch else ()
    return {name.epoch for name in names if name and name.kind == "journal" and name.epoch > epoch}


def judge_epoch(path: Path, dead: set[int]) -> None:
    """Raise if a fold used a number again that another fold, now dead, had taken."""
    epoch = _epoch(path)
    if epoch in dead:
        message = f"{path}: epoch {epoch}, whose number a dead fold had taken, was used again"
        raise WrongError(message)


def judge_asides(path: Path, lost: tuple[bytes, ...]) -> None:
    """Raise unless what was lost is in files that were set aside, and nothing else is wrong; remove these files."""
    with POD[str, Any](path) as pod:
        pod["probe"] = True  # the next writer sets aside what a reader leaves as it is
        del pod["probe"]
    asides = {file.name: file.read_bytes() for file in path.glob("aside-*")}
    missing = [part for part in lost if not any(part in data for data in asides.values())]
    others = [problem for problem in check(path) if problem.partition(":")[0] not in asides]
    if missing or others:
        message = f"{path}: damaged, and not set aside: {missing}; other problems: {others}"
        raise WrongError(message)
    for name in asides:
        (path / name).unlink()
