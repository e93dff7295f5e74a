"""What `forks` interrupts at every point: operations on PODs and trackers, with what must hold after each.

A scene is played on two PODs of a new directory; what it leaves undisturbed is known from a rehearsal.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from stress.changes import Entries
from stress.command import WrongError
from stress.forks.alone import descriptors, is_free
from stress.judging import go_on, read
from tastypy import POD, Tracker

if TYPE_CHECKING:
    from pathlib import Path

BEGIN: Entries = {"a": 1, "b": [2], "c": 3}


class Two(NamedTuple):
    """Two PODs of one directory: the scene is played on `one`."""

    one: POD[str, Any]
    other: POD[str, Any]


def _nothing(_: Two) -> None:
    """Prepare nothing."""


class Scene(NamedTuple):
    """What is interrupted.

    Attributes:
        whole: it is one commit, which is made or not; undoes: it may undo what a handler does in the middle of it.
        steps: folds are done step by step.
    """

    name: str
    act: Callable[[POD[str, Any]], object]
    prepare: Callable[[Two], object] = _nothing
    whole: bool = True
    undoes: bool = False
    tracker: bool = False
    steps: bool = False


def _transact(pod: POD[str, Any], *, fail: bool = False) -> None:
    with suppress(LookupError), pod.transaction():
        pod["a"] = 10
        with suppress(ZeroDivisionError), pod.transaction():
            pod["never"] = 1 // len(pod["b"][1:])
        del pod["c"]
        if fail:
            raise LookupError


def _edit(pod: POD[str, Any]) -> None:
    with pod.edit("b") as value:
        value.append(3)


def _hold(pod: POD[str, Any]) -> None:
    with pod.hold():
        pod["a"] = 10
        pod["new"] = 1
        del pod["c"]


def _revert(pod: POD[str, Any]) -> None:
    pod.hold()
    try:
        pod["a"] = 10
        pod.revert()
    finally:
        pod.unhold()


def _change(two: Two) -> None:
    two.other.update({"a": 20, "new": 2})
    del two.other["c"]


def _fold_twice(two: Two) -> None:
    for number in range(2):
        two.other["new"] = number
        two.other.sync()


def _grow(two: Two) -> None:
    two.one.update({f"key {number}": "x" * 100 for number in range(12)})


def _fold_on(pod: POD[str, Any]) -> None:
    epoch = pod.stats().epoch
    while pod.stats().epoch == epoch:
        pod["new"] = "x" * 50
    pod["new"] = 1


def _open(pod: POD[str, Any]) -> None:
    POD[str, Any](pod.path).close()


def _create(pod: POD[str, Any]) -> None:
    POD[str, Any](f"{pod.path}.new").close()


def _close(pod: POD[str, Any]) -> None:
    third = POD[str, Any](pod.path)
    try:
        third.hold()
        third["a"] = 10
        third.close()
    except BaseException:
        third.close()
        raise


def _claim(pod: POD[str, Any]) -> None:
    task = _tracker(pod).claim()
    if task is not None:
        task.done(result=1)


def _with_task(pod: POD[str, Any]) -> None:
    for task in _tracker(pod).claims(batch=2):
        with task:
            task["result"] = 1


def _release(pod: POD[str, Any]) -> None:
    task = _tracker(pod).claim()
    if task is not None:
        task.release()


def _tracker(pod: POD[str, Any]) -> Tracker[str]:
    if not isinstance(pod, Tracker):
        raise TypeError(pod)
    return pod


SCENES = (
    Scene("assignment", lambda pod: pod.__setitem__("a", 10)),
    Scene("update", lambda pod: pod.update({"a": 10, "new": 1})),
    Scene("deletion", lambda pod: pod.__delitem__("b")),
    Scene("pop", lambda pod: pod.popitem(last=False)),
    Scene("clear", lambda pod: pod.clear(), undoes=True),
    Scene("move", lambda pod: pod.move_to_end("a")),
    Scene("incr", lambda pod: pod.incr("a")),
    Scene("edit", _edit),
    Scene("transaction", _transact, undoes=True),
    Scene("rollback", lambda pod: _transact(pod, fail=True), undoes=True),
    Scene("hold", _hold, whole=False),
    Scene("revert", _revert, whole=False, undoes=True),
    Scene("fold", lambda pod: pod.sync()),
    Scene("fold with a split", lambda pod: pod.sync(), _grow),
    Scene("fold in steps", _fold_on, _grow, whole=False, steps=True),
    Scene("refresh", lambda pod: pod.refresh(), _change),
    Scene("refresh after folds", lambda pod: pod.refresh(), _fold_twice),
    Scene("assignment after folds", lambda pod: pod.__setitem__("a", 10), _fold_twice),
    Scene("opening", _open),
    Scene("creation", _create),
    Scene("closing", _close, whole=False),
    Scene("claim and done", _claim, tracker=True),
    Scene("with task", _with_task, tracker=True),
    Scene("release", _release, tracker=True),
)


class Stage:
    """A new directory that a scene is prepared on."""

    def __init__(self, scene: Scene, path: Path) -> None:
        gc.collect()  # an earlier stage may not have been
        self._descriptors = descriptors()
        self.path = path
        self.scene = scene
        cls: Any = Tracker if scene.tracker else POD
        self.two = Two(cls(path, shard_bytes=600), cls(path))
        if scene.tracker:
            _tracker(self.two.one).add_many([*BEGIN])
        else:
            self.two.one.update(BEGIN)
        self.two.other.refresh()
        scene.prepare(self.two)
        self.begin = read(path)

    def judge(self, after: Entries, added: Entries) -> None:
        """Raise unless all is well: the scene was played, to end with `after`, or not; `added` is there in any case."""
        scene, pod, path = self.scene, self.two.one, self.path
        if not is_free(path):
            raise WrongError("the lock is not free")
        if not gc.isenabled():
            raise WrongError("the garbage collector is off")
        pod.unhold()
        pod.unhold()
        pod.refresh()
        found = read(path)
        if [*pod.items()] != [*found.items()]:
            message = f"memory has {pod.copy()}, the disk {found}"
            raise WrongError(message)
        if any(found.pop(key, None) != value for key, value in added.items()) and not scene.undoes:
            message = f"what a handler changed, {added}, is not there"
            raise WrongError(message)
        if scene.tracker:
            self._judge_tasks(found)
        elif scene.whole and found not in (self.begin, after):
            message = f"{self.begin} became {found}, not {after}"
            raise WrongError(message)
        self.two.one.close()
        self.two.other.close()
        left = [file.name for file in path.iterdir() if file.name.startswith("worker-") or file.suffix == ".tmp"]
        if scene.tracker and (left or any("_claim" in entry for entry in read(path).values())):
            message = f"left are {left}, {read(path)}"
            raise WrongError(message)
        go_on(path)

    def leaked(self) -> int:
        """Return how many descriptors are open that were not before, though all is closed."""
        gc.collect()
        return descriptors() - self._descriptors

    def _judge_tasks(self, found: Entries) -> None:
        for entry in found.values():
            if entry["_tries"] != entry["_done"] or ("result" in entry) != entry["_done"]:
                message = f"a task is {entry}"
                raise WrongError(message)
