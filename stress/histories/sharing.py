"""Processes that make random calls on a few shared keys of a POD, and write down what they get; the players of `histories`."""

from __future__ import annotations

import os
import random
import sys
import time
import traceback
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

from stress.histories.pieces import Recorder, nap
from stress.histories.plain import perform
from stress.hosts import Place
from tastypy import POD

_WRITER = {
    "set": 6,
    "delete": 3,
    "setdefault": 4,
    "pop": 4,
    "popitem": 2,
    "incr": 6,
    "update": 4,
    "clear": 0.3,
    "move_to_end": 2,
    "edit": 4,
    "move": 6,
    "transaction": 6,
    "aborted": 1,
    "sync": 1,
}
_READER = {"refresh": 6, "get": 8, "items": 4, "backward": 1}
_ALONE = {"open": 0.5, "fork": 1}  # what takes an object that no other thread uses
_ALONE_WRITER = {"held": 0.5}
_STEPS = {"get": 6, "set": 3, "incr": 2, "pop": 1, "delete": 1, "setdefault": 1, "items": 0.5}  # of a transaction

LANES = 10  # of a subject at most: its lanes are numbered from `subject * LANES` on
CHILDREN = 1000  # of a subject at most, numbered from `subject * CHILDREN` on


class Plan(NamedTuple):
    """What a round is about: where its files are, where the POD is, and how it is opened."""

    place: Path
    pod: Place
    seed: int
    keys: int
    options: dict[str, Any]

    @property
    def exists(self) -> bool:
        """Whether the POD has been created."""
        return self.pod.path().exists()

    def open(self, mode: str = "a", path: Path | None = None) -> POD[str, Any]:
        """Open the POD."""
        return POD(path or self.pod.path(), mode=mode, **(self.options if mode == "a" else {}))


def _operation(chance: random.Random, kinds: dict[str, float], keys: int, unique: int) -> tuple[str, tuple[Any, ...]]:
    """Return a call; `unique` is a number that no other one has."""
    numbers = [f"n{number}" for number in range(keys - 1)]
    key = chance.choice([*numbers, "list"])
    value = [unique] if key == "list" else unique
    name = chance.choices([*kinds], [*kinds.values()])[0]
    match name:
        case "set" | "setdefault":
            return name, (key, value)
        case "delete" | "get":
            return name, (key,)
        case "pop":
            return name, (key, None)
        case "popitem":
            return name, (chance.random() < 0.5,)
        case "move_to_end":
            return name, (key, chance.random() < 0.5)
        case "incr":
            return name, (chance.choice(numbers), chance.randint(1, 9))
        case "edit":
            return name, ("list", unique)
        case "move":
            return name, (*chance.sample(numbers, 2), chance.randint(1, 9))
        case "update" | "held":
            return name, ([[one, unique] for one in chance.sample(numbers, chance.randint(1, 2))],)
        case "transaction" | "aborted":
            steps = [_operation(chance, _STEPS, keys, unique * 10 + number) for number in range(chance.randint(2, 5))]
            return name, tuple(steps)
        case _:
            return name, ()


class Sharer:
    """A process with one POD, `pod` or one that it opens itself, and one thread or two on it."""

    def __init__(
        self, plan: Plan, subject: int, pod: POD[str, Any] | None, *, mode: str = "a", threads: int = 1
    ) -> None:
        self._plan = plan
        self._subject = subject
        self._pod: Any = pod
        self._path = plan.pod.path() if pod is not None else plan.pod.enter(subject)
        self._mode = mode
        self._pieces = 0
        self._recorders = [Recorder(plan.place, subject * LANES + number, subject) for number in range(threads)]
        self._children: list[int] = []
        self._kinds: dict[str, float] = {**_READER, **(_WRITER if mode == "a" else {})}
        if threads == 1:
            self._kinds |= {**_ALONE, **(_ALONE_WRITER if mode == "a" else {})}
        else:
            sys.setswitchinterval(1e-5)

    def play(self) -> None:
        """Make the calls of a piece."""
        self._pieces += 1
        if self._pod is None:
            self._recorders[0].call("open", (), self._open)
        threads = [Thread(target=self._make_calls, args=(number,)) for number in range(1, len(self._recorders))]
        for thread in threads:
            thread.start()
        self._make_calls(0)
        for thread in threads:
            thread.join()
        for child in self._children:
            if os.waitpid(child, 0)[1]:
                raise ChildProcessError
        self._children.clear()

    def rest(self) -> None:
        """Tell what there is."""
        self._call(0, "refresh", ())
        self._call(0, "items", ())

    def close(self) -> None:
        """Close the POD."""
        if self._pod is not None:
            self._pod.close()

    def _make_calls(self, number: int) -> None:
        plan = self._plan
        lane = self._subject * LANES + number
        chance = random.Random(f"{plan.seed} {lane} {self._pieces}")
        size = chance.randint(6, 12)
        for step in range(size):
            nap(chance)
            unique = (lane * 1000 + self._pieces) * 100 + step
            name, arguments = _operation(chance, self._kinds, plan.keys, unique)
            if name == "open":
                self._pod.close()
                self._recorders[number].call(name, (), self._open)
            elif name == "fork":
                if not self._children:
                    self._fork()
            else:
                self._call(number, name, arguments)

    def _open(self) -> None:
        self._pod = self._plan.open(self._mode, self._path)

    def _call(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
        self._recorders[number].call(name, arguments, lambda: perform(self._pod, name, arguments))

    def _fork(self) -> None:
        """Fork a child that goes on with the POD as it is, at the same time as this process."""
        ready, to_ready = os.pipe()
        start = time.monotonic_ns()
        child = os.fork()
        if child:
            self._children.append(child)
            os.close(to_ready)
            os.read(ready, 1)
            os.close(ready)
            return
        status = 1
        try:
            subject = self._subject * CHILDREN + self._pieces
            parent, self._subject = self._subject, subject
            self._recorders = [Recorder(self._plan.place, subject * LANES, subject)]
            self._kinds = {name: often for name, often in self._kinds.items() if name not in _ALONE}
            self._recorders[0].call("fork", (parent,), lambda: None, start)
            os.write(to_ready, b".")
            self._make_calls(0)
            status = 0
        except BaseException:  # it must not go on as its parent does
            traceback.print_exc()
        finally:
            os._exit(status)
