"""The program of `forks` that forks while ten threads are in commits, folds, transactions and refreshes of one directory.

`python -m stress.forks.forker PATH SEED SECONDS FORKS` forks until the time or the number is up. Threads and children write down
what was acknowledged, and each transaction makes sure that nobody else is inside one.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import random
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stress.command import WrongError
from stress.forks.alone import HANGS, is_free, report, wait_for
from stress.judging import go_on, read
from stress.points import Point
from tastypy import POD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WAYS = {"work": 8, "in a transaction": 6, "killed anywhere": 6, "grandchild": 3, "close": 3}
_METHODS = ("fork", "forkserver", "spawn")
_COUNTERS = ("thread 4", "thread 5")
_EVERY = 40  # forks between two processes of multiprocessing, which take longer
_AT_ONCE = 3  # children


class _UndoError(Exception):
    """Rolls a transaction back."""


class Shared:
    """Several PODs of one directory, and what each who shares it does to them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.one, self.two = (POD[str, Any](path, timeout=HANGS - 5, shard_bytes=2000) for _ in range(2))

    @contextmanager
    def transaction(self, pod: POD[str, Any]) -> Iterator[None]:
        """Be in a transaction, and nobody else."""
        inside = f"{self.path}.inside"
        with pod.transaction():
            try:
                os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                message = "two are inside a transaction at once"
                raise WrongError(message) from None
            try:
                yield
            finally:
                Path(inside).unlink()

    def count(self, pod: POD[str, Any], name: str) -> None:
        """Count in a transaction, in total and by name."""
        with self.transaction(pod):
            time.sleep(0.0003)
            pod.incr("total")
            pod.incr(name)

    def work(self, name: str) -> None:
        """Do, in a child, a bit of all, and end."""
        for pod in (self.one, self.two):
            pod.refresh()
            if {"secret", "held"} & pod.keys() or pod.dirty():
                message = f"{name} has what its parent held or did not commit: {pod.dirty()}, {pod.copy()}"
                raise WrongError(message)
        self.one[name] = 0
        self.count(self.two, name)
        self.one.sync()
        if self.one[name] != 1:
            message = f"{name} does not see what it did: {self.one[name]}"
            raise WrongError(message)
        self.close()

    def close(self) -> None:
        """Let go of the directory."""
        self.one.close()
        self.two.close()


class Parent:
    """The process with ten threads."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self.shared = Shared(path)
        self.chance = chance
        self.figures: Counter[str] = Counter()
        self._holder = POD[str, Any](path)
        self._holder.hold()
        self._holder["held"] = True
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._acknowledged: Counter[str] = Counter()
        self._children: dict[int, tuple[str, str]] = {}
        one, two = self.shared.one, self.shared.two
        acts: list[Callable[[str, int], object]] = [
            *(one.__setitem__, one.__setitem__, two.__setitem__, two.__setitem__),
            *(lambda name, _: self.shared.count(one, name), lambda name, _: self.shared.count(two, name)),
            partial(self._fold, one),
            partial(self._refresh, two),
            partial(self._undo, one),
            partial(self._hold, POD[str, Any](path)),
        ]
        self._threads = [
            threading.Thread(target=self._repeat, args=(f"thread {number}", act)) for number, act in enumerate(acts)
        ]

    def _fold(self, pod: POD[str, Any], name: str, number: int) -> None:
        pod[name] = number
        pod.sync()

    def _refresh(self, pod: POD[str, Any], name: str, number: int) -> None:
        pod.refresh()
        pod.pop(name, None)
        pod[name] = number

    def _undo(self, pod: POD[str, Any], name: str, number: int) -> None:
        with suppress(_UndoError), self.shared.transaction(pod):
            pod["secret"] = number
            raise _UndoError
        pod[name] = number

    def _hold(self, pod: POD[str, Any], name: str, number: int) -> None:
        with pod.hold():
            pod[name] = -1
            time.sleep(0.001)
            pod[name] = number

    def _repeat(self, name: str, act: Callable[[str, int], object]) -> None:
        number = 0
        try:
            while not self._stop.is_set():
                act(name, number + 1)
                number += 1
                self._acknowledged[name] = number
                time.sleep(0.001 + 0.004 * random.random())
        except BaseException as error:  # a thread's exception is lost unless the main thread raises it
            self._errors.append(error)

    def run(self, seconds: float, most: int) -> None:
        """Fork until the time or the number is up; judge what came of it."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.start()
        try:
            for number in range(most):
                if number % _EVERY == _EVERY // 2:
                    self._start_process(number // _EVERY, f"process {number}")
                else:
                    self._fork(f"child {number}")
                if self._errors or time.monotonic() > end:
                    break
            self._reap(0)
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(HANGS)
            if any(thread.is_alive() for thread in self._threads):
                faulthandler.dump_traceback(all_threads=True)
                os._exit(1)
        if self._errors:
            raise self._errors[0]
        self._judge()

    # --- children

    def _fork(self, name: str) -> None:
        way = self.chance.choices([*_WAYS], [*_WAYS.values()])[0]
        shared, child = self.shared, -1
        if way == "in a transaction":
            with suppress(_UndoError), shared.one.transaction():
                shared.one["secret"] = name
                child = os.fork()
                if child:
                    time.sleep(0.001)
                    if is_free(shared.path):
                        message = f"{way}: the parent's lock is gone after a fork"
                        raise WrongError(message)
                    raise _UndoError
        else:
            child = os.fork()
        if child == 0:
            self._be_child(way, name)
        self._children[child] = way, name
        self.figures[f"forks, {way}"] += 1
        self._reap(_AT_ONCE)

    def _be_child(self, way: str, name: str) -> None:
        """Never returns."""
        status, shared = 1, self.shared
        failed = 0
        try:
            if way == "close":
                shared.close()
            elif way == "killed anywhere":
                point = Point(int(1000 ** random.random()))
                with point.calls(lambda: os._exit(3)):
                    shared.two[f"{name}'s"] = 1
                    shared.one.sync()
                    shared.two.incr(f"{name}'s")
            else:
                grandchild = os.fork() if way == "grandchild" else -1
                shared.work(name if grandchild else f"{name}'s child")
                failed = wait_for(grandchild, way) if grandchild > 0 else 0
            status = 1 if failed else 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
            raise
        finally:
            os._exit(status)

    def _reap(self, left: int) -> None:
        """Wait until no more than so many children are left."""
        while len(self._children) > left:
            child, (way, name) = next(iter(self._children.items()))
            code = wait_for(child, f"{name}, {way}")
            del self._children[child]
            if code == 3 and way == "killed anywhere":
                self.figures["ends by _exit inside the library"] += 1
            elif code:
                message = f"{name}, {way}, ended with {code}, see above"
                raise WrongError(message)
            elif way not in ("close", "killed anywhere"):
                self._acknowledged[name] = 1
                if way == "grandchild":
                    self._acknowledged[f"{name}'s child"] = 1

    def _start_process(self, number: int, name: str) -> None:
        method = _METHODS[number % len(_METHODS)]
        shared = self.shared if number // len(_METHODS) % 2 else None
        context: Any = multiprocessing.get_context(method)  # of a type that has no Process
        process = context.Process(target=_work, args=(shared, str(self.shared.path), name))
        process.start()
        process.join(HANGS)
        if process.exitcode is None:
            os.kill(process.pid, 6)
            process.join(1)
            process.kill()
        if process.exitcode:
            message = f"{name}, {method}, {'with' if shared else 'without'} a POD: {process.exitcode}, see above"
            raise WrongError(message)
        self._acknowledged[name] = 1
        self.figures[f"processes by {method}"] += 1

    # --- what came of it

    def _judge(self) -> None:
        shared = self.shared
        shared.one.refresh()
        found = read(shared.path)
        if shared.one.copy() != found:
            message = f"memory is not what the disk has: {shared.one.copy().items() ^ found.items()}"
            raise WrongError(message)
        known = self._acknowledged
        wrong = {name: (found.get(name), number) for name, number in known.items() if found.get(name) != number}
        if wrong or {"secret", "held"} & found.keys():
            message = (
                f"found and acknowledged: {wrong}; of what nobody committed: { {'secret', 'held'} & found.keys() }"
            )
            raise WrongError(message)
        total = sum(number for name, number in known.items() if not name.startswith("thread") or name in _COUNTERS)
        if found["total"] != total:
            message = f"the total is {found['total']}, and {total} were counted"
            raise WrongError(message)
        self._holder.unhold()
        if go_on(shared.path).get("held") is not True:
            message = "what the parent held was not written by it"
            raise WrongError(message)
        self.figures["commits of threads"] = sum(
            number for name, number in self._acknowledged.items() if name.startswith("thread")
        )


def _work(shared: Shared | None, path: str, name: str) -> None:
    """Be a process of multiprocessing, which gets the PODs, or opens its own."""
    (shared or Shared(Path(path))).work(name)


def main() -> None:
    """Be the program."""
    path, seed, seconds, most = sys.argv[1:]
    sys.setswitchinterval(0.0005)
    parent = Parent(Path(path), random.Random(seed))
    parent.run(float(seconds), int(most))
    report(parent.figures)


if __name__ == "__main__":
    main()
