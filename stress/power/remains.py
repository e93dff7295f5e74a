"""What a power cut has left of a POD: seen by a reader, by the next writer, and after that one went on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from stress.changes import Entries
from stress.command import WrongError
from stress.judging import difference, judge_total, read
from tastypy import POD, files
from tastypy.format import decode_lock_line


class Found(NamedTuple):
    """What was found: the entries, the number of the last batch, and whether lines were set aside."""

    entries: Entries
    seq: int
    aside: bool


def look(path: Path, **options: Any) -> Found:
    """Return what is found; raise unless all agree about it, and `check` finds nothing but what was set aside."""
    lock = path / files.LOCK
    begin = (
        read(path) if lock.exists() and decode_lock_line(lock.read_bytes()) else None
    )  # else a writer must come first
    with POD[str, Any](path, **options) as pod:
        found, seq = pod.copy(), pod._store.seq  # the order of all changes
        pod["probe"] = True
        pod.sync()
        del pod["probe"]
        problems = pod.check()
    for other in (found if begin is None else begin, read(path)):
        if [*other.items()] != [*found.items()]:
            message = f"a reader and a writer disagree: {difference(other, found)}"
            raise WrongError(message)
    judge_total(found)
    wrong = [line for line in problems if not line.endswith(": set aside; remove it when it is of no more use")]
    if wrong:
        message = f"after the next writer: {problems}"
        raise WrongError(message)
    return Found(found, seq, bool(problems))
