"""Users of one group who share a directory, and a stranger: the part of `neighbours` that means no harm."""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from stress.command import WrongError
from stress.filling_tasks import Crew, judge_tasks
from stress.judging import go_on, read
from stress.neighbours import hostile
from stress.neighbours.bounded import User, attempt
from stress.telling import SmallWriter, Teller, Voice
from tastypy import Tracker

if TYPE_CHECKING:
    import random
    from pathlib import Path

_GROUP = 54_321
_UMASKS = (0o022, 0o077, 0o002, 0o007)


def _share(path: Path, mode: int) -> None:
    path.mkdir()
    os.chown(path, -1, _GROUP)
    path.chmod(mode)


def share(place: Path, chance: random.Random, seconds: float) -> Counter[str]:
    """Let users of one group write to one POD and claim tasks of one tracker; nothing may fail."""
    stop = place / "stop"
    users = [User(54_400 + number, _GROUP, chance.choice(_UMASKS)) for number in range(2)]
    users[0] = users[0]._replace(umask=0o077)
    _share(place / "pod", 0o2770)
    _share(place / "tracker", 0o2770)

    def fill() -> None:
        users[0].become()
        with Tracker[str](place / "tracker") as tracker:
            tracker.add_many(f"task-{number}" for number in range(200))

    attempt("a new tracker", fill)
    voices = [
        Voice(
            Teller(SmallWriter(chance.randrange(1 << 30), f"w{number}"), place / "pod", stop, (), user.become),
            {"shard_bytes": 5000},
        )
        for number, user in enumerate(users)
    ]
    crew = Crew(place / "tracker", stop, len(users), [user.become for user in users])
    try:
        crew.start()
        for voice in voices:
            voice.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.02)
            crew.listen()
            for voice in voices:
                voice.listen()
        stop.touch()
        for voice in voices:
            voice.end()
        crew.end()
        for user, other in (users, users[::-1]):
            _look_at_modes(place)
            for voice in voices:
                voice.told.judge(read(place / "pod"), killed=False)
            answer = attempt("the other user goes on", partial(go_on, place / "pod"), user)
            if answer.error:
                raise WrongError(f"{user} after {other}: {answer.error}")
        judge_tasks(place / "tracker", crew)
    finally:
        for voice in voices:
            voice.kill()
        crew.kill()
    made = [told["made"] for told in (*(voice.told.counts for voice in voices), *crew.counts())]
    if not all(made):
        message = f"somebody did nothing: {made}"
        raise WrongError(message)
    return Counter({"changes and tries": sum(made), "users": len(users)})


def _look_at_modes(place: Path) -> None:
    for file in (*(place / "pod").iterdir(), *(place / "tracker").iterdir()):
        status = file.stat()
        if stat.S_IMODE(status.st_mode) != 0o660 or status.st_gid != _GROUP:
            message = f"{file} has mode {status.st_mode:o} and group {status.st_gid}"
            raise WrongError(message)


def exclude(place: Path) -> Counter[str]:
    """Let a user outside of the group try."""
    stranger = User(54_500, 54_500)
    figures: Counter[str] = Counter()
    for mode in (0o2770, 0o2775, 0o2771):
        path = place / f"{mode:o}"
        _share(path, mode)
        expected = hostile.make(path)
        before = _snapshot(path)
        for how in ("a", "r"):
            answer = attempt(f"a stranger, {how}, {mode:o}", partial(hostile.copy, path, how), stranger)
            figures["attempts of strangers"] += 1
            if how == "r" and mode == 0o2775:
                if answer.value != expected:
                    message = f"who may read, reads {answer}"
                    raise WrongError(message)
            elif "PermissionDenied" not in answer.error or str(path) not in answer.error or "ask" not in answer.error:
                message = f"a stranger, {how}, {mode:o}: {answer}"
                raise WrongError(message)
        if _snapshot(path) != before:
            message = f"{path} was changed"
            raise WrongError(message)
    return figures


def _snapshot(path: Path) -> dict[str, tuple[bytes, int]]:
    return {file.name: (file.read_bytes(), file.stat().st_mode) for file in path.iterdir()}
