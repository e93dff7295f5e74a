"""Processes that claim the same few tasks, and what their calls mean; the tracker's part of `histories`.

A state is which tasks there are: open, held by which process, or done; and which processes are dead, whose tasks are as
good as open. So no task is ever held by two that live, and a claim that returned None had a moment in its interval at which
nothing could be claimed. Not judged: which of several tasks is claimed, how often one was tried, and, where the dead of other
hosts are found by their leases, a claim of nothing after a death: when a lease runs out is not in the history.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Hashable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from stress.histories.linear import Call
from stress.histories.pieces import Killed, Recorder, nap
from stress.hosts import Place
from tastypy import Task, Tracker

_CALLS = {"claim": 8, "end": 6, "add": 1.5, "sync": 0.3}
_ENDS = {"release": 5, "fail": 2, "done": 2}
START = ("a", "b", "c")  # the tasks that there are at first
_NEW = 3  # tasks at most that are added in a piece


class Tasks(NamedTuple):
    """A state."""

    open: frozenset[str] = frozenset()
    held: frozenset[tuple[str, int]] = frozenset()
    done: frozenset[str] = frozenset()
    dead: frozenset[int] = frozenset()
    lasting: bool = False  # whether the claims of the dead last for a while

    def found(self, tasks: Collection[tuple[str, bool]]) -> Tasks:
        """Return the state after this one in which there are these tasks, done or open."""
        open_, done = (frozenset(key for key, is_done in tasks if is_done is wanted) for wanted in (False, True))
        return self._replace(open=open_, held=frozenset(), done=done)

    def claimable(self) -> frozenset[str]:
        """Return the tasks that are open, or held by the dead."""
        return self.open | {key for key, subject in self.held if subject in self.dead}

    def known(self) -> frozenset[str]:
        """Return all tasks."""
        return self.open | self.done | {key for key, _ in self.held}

    def without(self, key: str) -> Tasks:
        """Return the state with a task neither open nor held."""
        return self._replace(open=self.open - {key}, held=frozenset(one for one in self.held if one[0] != key))

    def claimed(self, key: str, subject: int) -> Tasks:
        """Return the state with a task held."""
        state = self.without(key)
        return state._replace(held=state.held | {(key, subject)})


def step(state: Any, call: Call) -> Iterable[Hashable]:
    """Return the states after a call, none if it could not return what it did; see `linear.search`."""
    tasks: Tasks = state
    key = str(call.arguments[0]) if call.arguments else ""
    match call.name:
        case "die":
            return (tasks._replace(dead=tasks.dead | {call.subject}),)
        case "claim":
            wanted = tasks.claimable()
            if not call.pending:
                wanted &= {call.result}
                if call.result is None and (not tasks.claimable() or (tasks.lasting and tasks.dead)):
                    return (tasks,)
            return [tasks.claimed(one, call.subject) for one in sorted(wanted)]
        case "add":
            is_new = key not in tasks.known()
            if not call.pending and call.result is not is_new:
                return ()
            return (tasks._replace(open=tasks.open | {key}) if is_new else tasks,)
        case "done" | "fail" | "release":
            if (key, call.subject) not in tasks.held:
                return ()
            rest = tasks.without(key)
            if call.name == "done":
                return (rest._replace(done=rest.done | {key}),)
            return (rest._replace(open=rest.open | {key}),)
        case _:  # rest: what there is, and whether it is done
            return (tasks,) if {*call.result} == {(one, one in tasks.done) for one in tasks.known()} else ()


def death(killed: Killed) -> Call:
    """Return the death of a process as a call, which follows, or was, its last one."""
    return Call(-killed.subject, killed.subject, "die", (), None, killed.start, killed.end)


class Claimer:
    """A process that claims tasks, one or several at a time, and ends them, within a piece."""

    def __init__(
        self,
        place: Path,
        shared: Place,
        seed: int,
        subject: int,
        tracker: Tracker[str] | None,
        options: dict[str, Any],
    ) -> None:
        self._path = shared.path() if tracker is not None else shared.enter(subject)
        self._seed = seed
        self._subject = subject
        self._tracker = tracker
        self._options = options
        self._recorder = Recorder(place, subject, subject)
        self._tasks: dict[str, Task] = {}
        self._pieces = 0

    @property
    def tracker(self) -> Tracker[str]:
        """The tracker, which is opened when it is needed first."""
        if self._tracker is None:
            self._tracker = Tracker(self._path, **self._options)
        return self._tracker

    def play(self) -> None:
        """Make the calls of a piece."""
        self._pieces += 1
        chance = random.Random(f"{self._seed} {self._subject} {self._pieces}")
        for _ in range(chance.randint(6, 12)):
            nap(chance)
            match chance.choices([*_CALLS], [*_CALLS.values()])[0]:
                case "claim":
                    self._recorder.call("claim", (), self._claim)
                case "end" if self._tasks:
                    self._end(chance.choice([*self._tasks]), chance.choices([*_ENDS], [*_ENDS.values()])[0])
                case "add":
                    key = f"{self._pieces}-{chance.randrange(_NEW)}"
                    self._recorder.call("add", (key,), partial(self._add, key))
                case "sync":
                    self.tracker.sync()
        for key in [*self._tasks]:
            self._end(key, "release")

    def _add(self, key: str) -> bool:
        return self.tracker.add_if_absent(key)

    def _claim(self) -> str | None:
        task = self.tracker.claim()
        if task is None:
            return None
        self._tasks[task.key] = task
        return str(task.key)

    def _end(self, key: str, how: str) -> None:
        task = self._tasks.pop(key)
        self._recorder.call(how, (key,), lambda: task.fail("wanted") if how == "fail" else getattr(task, how)())

    def rest(self) -> None:
        """Tell what there is."""
        self.tracker.refresh()
        self._recorder.call("rest", (), lambda: [[key, entry["_done"]] for key, entry in self.tracker.items()])

    def close(self) -> None:
        """Close the tracker."""
        self.tracker.close()
