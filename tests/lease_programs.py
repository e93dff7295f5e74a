"""Processes that lose their lease, for `test_lease`: `python lease_programs.py ACTION FOLDS DIRECTORY` prints what became of them as JSON.

For each system call that `tastypy.files` makes in the action, a process is stopped just before it. Another one takes its lease over,
makes changes and folds, so many times; then the first one goes on.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from faults import FailingOS

from tastypy import POD, TastypyError, Tracker, files, lease

lease.DURATION = 0.4

POINTS = 200  # more than any action has
PATIENCE = 30


def _assign(pod: POD[Any, Any]) -> None:
    pod["mine"] = 1


def _delete(pod: POD[Any, Any]) -> None:
    del pod["old"]


def _transact(pod: POD[Any, Any]) -> None:
    with pod.transaction():
        pod["mine"] = 1
        pod["mine, too"] = len(pod)


def _count(pod: POD[Any, Any]) -> None:
    pod["count"]  # as it is known here
    pod.incr("count")


def _hold(pod: POD[Any, Any]) -> None:
    """And fold, which comes with the end of a hold."""
    with pod.hold():
        pod["mine"] = 1


def _claim(tracker: Any) -> None:
    for task in tracker.claims():
        with task:
            task["by"] = "mine"
        break


ACTIONS: dict[str, Callable[[Any], None]] = {
    "assign": _assign,
    "delete": _delete,
    "transact": _transact,
    "count": _count,
    "hold": _hold,
    "claim": _claim,
}


def opened(action: str, path: str, **options: Any) -> Any:
    """The POD or tracker that the action is tried on."""
    return (Tracker if action == "claim" else POD)(path, **options)


def _prepare(action: str, path: str) -> None:
    with opened(action, path, lock="lease") as pod:
        if action == "claim":
            pod.add_many(range(6))
        else:
            pod.update({"old": 0, "count": 0})
            pod.sync()
            pod["older"] = 0


def _paused(action: str, path: str, at: int, answer: int) -> NoReturn:
    """Do the action, stopped before the call number `at`, and say what came of it."""
    pod = None if action == "create" else opened(action, path)
    system: Any = FailingOS()
    system.kill = "pause"
    system.arm(at, KeyboardInterrupt)
    vars(files).update(os=system)
    try:
        if pod is None:
            pod = POD(path, lock="lease")
        else:
            ACTIONS[action](pod)
        outcome = "done"
    except TastypyError as error:
        outcome = type(error).__name__
    system.disarm()
    reached = system.calls[at - 1] if len(system.calls) >= at else ""
    if pod is not None and action != "claim":
        pod["after"] = at
    os.write(answer, json.dumps([reached, outcome]).encode())
    os._exit(0)


def _rival(action: str, path: str, folds: int, rivals: list[Any], wrong: list[str]) -> None:
    """Take the lease over, change what there is, and fold so many times."""
    try:
        pod = opened(action, path, lock="lease")
        rivals.append(pod)  # it folds when it is closed
        for number in range(3):
            if action == "claim":
                for task in pod.claims():
                    with task:
                        task["by"] = "rival"
                    break
            else:
                pod[f"rival {number}"] = number
                if action == "count":
                    pod.incr("count")
            if number < folds:
                pod.sync()
    except BaseException as error:
        wrong.append(f"{path}: {error!r}")


def main(action: str, folds: str, place: str) -> None:
    """Try all points at once, each in a directory of its own."""
    children: list[tuple[int, int, str]] = []
    for at in range(1, POINTS):
        path = f"{place}/{at}"
        if action != "create":
            _prepare(action, path)
        heard, answer = os.pipe()
        child = os.fork()
        if not child:
            _paused(action, path, at, answer)
        os.close(answer)
        children.append((child, heard, path))
        if not os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1]):
            break  # it went through without so many calls
    time.sleep(lease.DURATION)  # before anybody looks at a marker, which a stopped process does not renew
    wrong: list[str] = []
    rivals: list[Any] = []
    threads = [
        threading.Thread(target=_rival, args=(action, path, int(folds), rivals, wrong)) for _, _, path in children
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    found = []
    for child, heard, path in children:
        os.kill(child, signal.SIGCONT) if child != children[-1][0] else None
        reached, outcome = json.loads(os.read(heard, 1000) or '["", "ended without an answer"]')
        with opened(action, path, mode="r") as pod:
            found.append(
                {"at": path, "call": reached, "outcome": outcome, "entries": pod.copy(), "problems": pod.check()}
            )
    sys.stdout.write(json.dumps({"wrong": wrong, "found": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
