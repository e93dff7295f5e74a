"""The program of `crash` that works on a tracker's tasks, and what is right when it was killed or hindered at a call."""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from stress.command import WrongError
from stress.judging import judge_files, read
from tastypy import ClaimLost, Task, TastypyError, Tracker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stress.crash.calls import Outcome, Tell

_TASKS = [f"task {number}" for number in range(8)]
_ENDS = ("done", "failed", "released", "done", "failed", "done", "done")  # of the claims in turn
_FIRST = _TASKS[0]  # what a dead worker has in hand


class Claiming(NamedTuple):
    """A program that adds tasks, claims some, and ends each claim in one way or another.

    Attributes:
        origin: the directory that it begins with a copy of, in which a worker died with claims; None: with a new one.
    """

    origin: Path | None = None

    def run(self, path: Path, tell: Tell) -> None:
        """Work on the tasks."""
        tracker = tell.until_done(lambda: Tracker[str](path))
        tell.until_done(lambda: tracker.add_many_if_absent(_TASKS))
        tell("added")
        for end in _ENDS:
            task: Task = tell.until_done(tracker.claim)
            tell(f"claimed {task.key}")
            if _end(tracker, task, end, tell):
                tell(f"{end} {task.key}")
        tell.until_done(tracker.refresh)
        disk = tell.until_done(lambda: read(path))
        if disk != tracker.copy():
            message = f"in memory at the end {tracker.copy()}, on disk {disk}"
            raise WrongError(message)
        tell.until_done(tracker.close)
        tell("closed")

    def judge(self, path: Path, outcome: Outcome) -> None:
        """Raise unless all that is known of the tasks is so, and another worker can do what is left."""
        told = [text.partition(" ")[::2] for text in outcome.done]
        done = {key for end, key in told if end == "done"}
        failed = Counter(key for end, key in told if end == "failed")
        in_hand = told[-1][1] if told and told[-1][0] == "claimed" else ""
        with Tracker[str](path) as tracker:
            if outcome.done[:1] == ["added"] and [*tracker] != _TASKS:
                message = f"of the tasks there are {[*tracker]}"
                raise WrongError(message)
            lost = [key for key in done if not tracker.done(key) or tracker[key].get("by") != "program"]
            tracker.add_many_if_absent(_TASKS)
            for task in tracker.claims():
                if task.key in done:
                    lost.append(task.key)
                with task:
                    task["by"] = "judge"
            if lost or tracker.num_done() != len(_TASKS):
                message = f"done before, and not now: {lost}; {tracker.num_done()} are done at the end"
                raise WrongError(message)
            tries = {
                key: tracker.tries(key) - 1 - failed[key] - (key == _FIRST and self.origin is not None)
                for key in tracker
            }
        # one task was in hand when it died: what it was doing may have been written, and its death counts as a try
        more = {key: number for key, number in tries.items() if number}
        if (outcome.status == 0 and more) or any(number != 1 for number in more.values()) or len(more) > 1:
            message = f"tries that nobody knows of: {more}; in hand was {in_hand!r}"
            raise WrongError(message)
        if in_hand and more and [*more] != [in_hand]:
            message = f"{in_hand!r} was in hand, and a try counted for {more}"
            raise WrongError(message)
        judge_files(path)


def _end(tracker: Tracker[str], task: Task, end: str, tell: Tell) -> bool:
    """End a claim; tell whether that is so, where it was said to have failed."""
    ends: dict[str, Callable[[], Any]] = {
        "done": lambda: task.done(by="program"),
        "failed": lambda: task.fail("on purpose"),
        "released": task.release,
    }
    try:
        ends[end]()
    except ClaimLost:
        raise
    except TastypyError as error:
        tell.error(error)
        tracker.refresh()
        if tracker[task.key].get("_claim") == task.claim:
            ends[end]()
    return True


def new_tracker(place: Path, seed: int) -> Claiming:
    """Return a program that begins with nothing."""
    del place, seed
    return Claiming()


def dead_worker(place: Path, seed: int) -> Claiming:
    """Return a program in a directory in which a worker died with one task in hand and two that it had claimed ahead."""
    del seed
    origin = place / "origin"
    child = os.fork()
    if not child:
        tracker = Tracker[str](origin)
        tracker.add_many(_TASKS)
        next(iter(tracker.claims(batch=3)))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    return Claiming(origin)
