"""The program of `forks` that is interrupted: at every point of each scene, or at random moments of a writer's changes.

`python -m stress.forks.interrupts points|random PATH SEED SECONDS EVERY`. A point is where CPython could handle a signal (see
`points`); Ctrl-C comes at each EVERYth, from a random one on, and most else at a sixth of them. Each scene is also played with a
collection at every other allocation.
"""

from __future__ import annotations

import gc
import random
import shutil
import signal
import sys
import time
import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NoReturn, Self

from stress.changes import SHARD_BYTES, Change, Entries, Writer
from stress.command import WrongError
from stress.forks.alone import descriptors, is_free, report
from stress.forks.scenes import SCENES, Scene, Stage
from stress.judging import Known, difference, go_on, read
from stress.points import Point
from stress.steps import perhaps_in_steps
from tastypy import POD, Tracker, TransactionError

Action = Callable[[Stage, Entries], object]  # what happens at a point; it notes what it has added


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _fields(stage: Stage) -> Any:
    return {"_done": True, "_tries": 1, "_aborted": False, "result": 1} if stage.scene.tracker else 1


def _change(stage: Stage, added: Entries) -> None:
    stage.two.one["handler"] = added["handler"] = _fields(stage)


def _change_other(stage: Stage, added: Entries) -> None:
    with suppress(TransactionError):  # as inside a transaction of the one
        stage.two.other["handler"] = _fields(stage)
        added["handler"] = _fields(stage)


def _open(stage: Stage, _: Entries) -> None:
    with suppress(TransactionError), POD[str, Any](f"{stage.path}.other") as pod:
        pod.incr("opened")
    with suppress(TransactionError), POD[str, Any](stage.path) as pod:
        pod.refresh()


class _Cycle:
    """Garbage that the collector finds."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action
        self.me = self

    def __del__(self) -> None:
        self.action()


def _collect(stage: Stage, added: Entries) -> None:
    """Have the collector run a finaliser that changes the POD, and the callback of a weak reference, another one."""
    one = _Cycle(lambda: _change(stage, added))
    two = _Cycle(lambda: None)
    watch = weakref.ref(two, lambda _: _open(stage, added))
    del one, two
    gc.collect()
    del watch


@contextmanager
def _collecting(action: Callable[[], object], figures: Counter[str]) -> Iterator[None]:
    """Have the collector run at every other allocation in the block, and a finaliser that does `action` in each of its runs."""
    going = True

    def again() -> None:
        if going:
            _Cycle(again)
            figures["collections at allocations"] += 1
            action()

    before = gc.get_threshold()
    _Cycle(again)
    gc.set_threshold(1)
    try:
        yield
    finally:
        going = False
        gc.set_threshold(*before)


def _store(stage: Stage) -> Any:
    return stage.two.one._store  # nothing public begins where the library makes up for an interruption


def _interrupt_twice(stage: Stage, _: Entries) -> NoReturn:
    """Raise, and again as soon as the library begins to make up for it: a profile function that raised is not called again."""
    store = _store(stage)

    def forget() -> NoReturn:
        del store.forget
        raise KeyboardInterrupt

    store.forget = forget
    raise KeyboardInterrupt


ACTIONS: dict[str, Action] = {
    "Ctrl-C": lambda *_: _interrupt(),
    "handlers that change the POD": _change,
    "handlers that change another POD of the directory": _change_other,
    "handlers that open PODs": _open,
    "collections with finalisers": _collect,
}
_LEFT_OPEN = "descriptors left open by a Ctrl-C right at the opening or closing of a file"
_SAMPLE = 40  # or more: of the points so many are left out that a sample is enough of all else, too
_TWICE = "two Ctrl-C in a row"  # the second one hits what makes up for the first


def at_points(place: Path, chance: random.Random, every: int) -> Counter[str]:
    """Let each action happen at the points of each scene; judge what is left each time."""
    figures: Counter[str] = Counter()
    numbers = count()
    for scene in SCENES:
        with perhaps_in_steps(scene.steps):
            _at_points(scene, place, chance, every, figures, numbers)
    return figures


def _at_points(
    scene: Scene, place: Path, chance: random.Random, every: int, figures: Counter[str], numbers: Iterator[int]
) -> None:
    rehearsal = Stage(scene, place / str(next(numbers)))
    scene.act(rehearsal.two.one)
    after = read(rehearsal.path)
    rehearsal.judge(after, {})
    twice = {_TWICE: _interrupt_twice} if scene.name.startswith("refresh") else {}
    for name, action in {**ACTIONS, **twice}.items():
        step = {"Ctrl-C": every, _TWICE: min(every, 2)}.get(name, 6 * every)
        number = chance.randrange(step) + 1
        while True:
            point = Point(number)
            path = place / str(next(numbers))
            _play(Stage(scene, path), after, point, name, action, figures)
            shutil.rmtree(path)
            shutil.rmtree(f"{path}.other", ignore_errors=True)
            shutil.rmtree(f"{path}.new", ignore_errors=True)
            if not point.where:
                break
            figures[name] += 1
            number += step
    collected = (_change, _change_other, _open)
    for action in collected if every < _SAMPLE else [chance.choice(collected)]:
        stage, added = Stage(scene, place / str(next(numbers))), Entries()
        with _collecting(partial(action, stage, added), figures):
            scene.act(stage.two.one)
        stage.judge(after, added)


def _opens(where: str) -> bool:
    """Tell whether the point lies between two instructions that no `finally` can close up: see `files`."""
    return where.startswith(("files.py", "lock.py"))


def _judge_leaks(leaked: int, point: Point, figures: Counter[str]) -> None:
    if leaked:
        figures[_LEFT_OPEN] += leaked
    if leaked > 1 or (leaked and not _opens(point.where[0])):
        raise WrongError(f"{leaked} descriptors leak")


def _play(stage: Stage, after: Entries, point: Point, name: str, action: Action, figures: Counter[str]) -> None:
    added: Entries = {}
    try:
        with suppress(KeyboardInterrupt), point.calls(lambda: action(stage, added)):
            stage.scene.act(stage.two.one)
        vars(_store(stage)).pop("forget", None)
        stage.judge(after, added)
        _judge_leaks(stage.leaked(), point, figures)
    except Exception as error:
        error.add_note(f"{stage.scene.name}, {name} {point}")
        raise


class _Timer:
    """Raises, or does something, at a random moment of a block."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._action: Callable[[], object] = _interrupt
        self.where = ""  # the signal came, the innermost function first
        signal.signal(signal.SIGALRM, self._handle)

    def _handle(self, *_: object) -> None:
        self._action()

    def run(self, block: Callable[[], object], action: Callable[[], object]) -> None:
        """Repeat the block until the signal has come, and raised."""
        self._action = action
        try:
            signal.setitimer(signal.ITIMER_REAL, self._chance.uniform(0.00002, 0.003))
            while True:
                block()
        except KeyboardInterrupt as interrupt:
            frames = traceback.extract_tb(interrupt.__traceback__)
            self.where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))


def at_random(place: Path, chance: random.Random, seconds: float) -> Counter[str]:
    """Interrupt a writer, and a worker, at random moments; judge what is left each time."""
    figures: Counter[str] = Counter()
    timer = _Timer(chance)
    end = time.monotonic() + seconds
    before = descriptors()
    with Written(place / "written", chance) as written, Worked(place / "worked") as worked:
        while time.monotonic() < end:
            try:
                for _ in range(20):
                    written.interrupt(timer, figures)
                for _ in range(5):
                    worked.interrupt(timer, figures)
            except WrongError as error:
                error.add_note(f"interrupted at {timer.where}")
                raise
    gc.collect()
    figures[_LEFT_OPEN] = descriptors() - before
    if figures[_LEFT_OPEN] > 20 + figures.total() // 8:
        raise WrongError(f"descriptors leak: {figures}")
    return figures


class Written:
    """A writer's POD, and what it acknowledged."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self.path = path
        self.pod = POD[str, Any](path, shard_bytes=SHARD_BYTES)
        self.known = Known(Writer(chance.randrange(1 << 30), "w"))
        self.pod["handler"] = 0
        self._chance = chance
        self._change = Change("sync")
        self._handled = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pod.close()
        go_on(self.path)

    def _step(self) -> None:
        known = self.known
        self._change = known.writer.change(known.step, known.entries)
        known.writer.commit(self.pod, self._change)
        # one line, so that what is known is one step behind at most
        known.entries, known.step = self._change.apply(known.entries), known.step + 1

    def _handle(self) -> None:
        """Change the POD, and open others, before all is interrupted."""
        self._handled += 1
        self.pod["handler"] = self._handled
        with suppress(TransactionError), POD[str, Any](f"{self.path}.other") as other:
            other["handler"] = self._handled
        with suppress(TransactionError), POD[str, Any](self.path) as again:
            again.refresh()

    def interrupt(self, timer: _Timer, figures: Counter[str]) -> None:
        """Make changes until the signal comes."""
        before = self._handled
        if self._chance.random() < 0.3:
            end: list[bool] = []

            def handle() -> None:
                self._handle()
                end.append(True)

            def step() -> None:
                self._step()
                if end:
                    raise KeyboardInterrupt

            timer.run(step, handle)
            figures["handlers that changed it and opened others"] += 1
        else:
            timer.run(self._step, _interrupt)
            figures[f"interrupts of a {'hold' if self._change.kind == 'held' else 'writer'}"] += 1
        self._judge(before)

    def _judge(self, before: int) -> None:
        pod, known = self.pod, self.known
        pod.unhold()
        found = read(self.path)
        if [*pod.items()] != [*found.items()]:
            raise WrongError(f"memory is not what the disk has: {difference(pod.copy(), found)}")
        if found["handler"] not in (self._handled, *((before,) if self._change.kind == "transaction" else ())):
            raise WrongError(f"a handler's change number {self._handled} is not there: {found['handler']}")
        if not is_free(self.path):
            raise WrongError("the lock is not free")
        if not gc.isenabled():
            raise WrongError("the garbage collector is off")
        change = known.writer.change(known.step, known.entries)
        if change.kind == "held" and known.writer.own(found) in [
            Change("held", put=change.put[:number]).apply(known.entries) for number in range(len(change.put))
        ]:
            known.entries = known.writer.own(found)  # what was held by then, which `unhold` wrote
        else:
            known.judge(found, 0)


class Worked:
    """A tracker, and the tasks that were done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tracker = Tracker[int](path)
        self._tasks = count()
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.tracker.close()
        go_on(self.path)

    def _step(self) -> None:
        for task in self.tracker.claims(batch=2):
            with task:
                task["result"] = task.key
            self._done += 1

    def interrupt(self, timer: _Timer, figures: Counter[str]) -> None:
        """Work on tasks until the signal comes."""
        self.tracker.add_many([next(self._tasks) for _ in range(12)])
        done, self._done = self.tracker.counts().done, 0
        timer.run(self._step, _interrupt)
        figures["interrupts of a worker"] += 1
        self.tracker.close()
        found = read(self.path)
        more = sum(entry["_done"] for entry in found.values()) - done - self._done
        if more not in (0, 1) or not is_free(self.path):
            raise WrongError(
                f"{self._done} tasks were done, and {more} more are; the lock is free: {is_free(self.path)}"
            )
        for key, entry in found.items():
            if "_claim" in entry or entry["_tries"] != entry["_done"] or entry.get("result", key) != key:
                raise WrongError(f"{key}: {entry}")
        if left := [file.name for file in self.path.iterdir() if file.name.startswith("worker-")]:
            raise WrongError(f"left are {left}")
        self.tracker = Tracker[int](self.path)


def main() -> None:
    """Be the program."""
    how, path, seed, seconds, every = sys.argv[1:]
    place, chance = Path(path), random.Random(seed)
    place.mkdir()
    if how == "points":
        report(at_points(place, chance, int(every)))
    else:
        report(at_random(place, chance, float(seconds)))


if __name__ == "__main__":
    main()
