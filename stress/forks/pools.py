"""Workers that are terminated at random moments: those of pools, that hold something or have claimed it, and programs alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stress.command import WrongError
from stress.forks.alone import HANGS, wait_for
from stress.judging import go_on, read
from tastypy import POD, Tracker

if TYPE_CHECKING:
    import random

_WORKERS = 3
_TASKS = 400


def _tell(path: str, what: object) -> None:
    """Note outside the POD that something was acknowledged."""
    descriptor = os.open(f"{path}.told", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, f"{what}\n".encode())
    finally:
        os.close(descriptor)


def _told(path: Path) -> list[str]:
    told = Path(f"{path}.told")
    return told.read_text().split() if told.exists() else []


_tracker: Tracker[int] | None = None
_pod: POD[str, Any] | None = None


def _open(path: str) -> None:
    """Be the initializer of a pool."""
    global _tracker, _pod
    _tracker, _pod = Tracker(path), POD(f"{path}.held")


def _claim(path: str) -> None:
    """Be a job: end some tasks, and be terminated in the middle of one, perhaps."""
    if _tracker is None:
        raise RuntimeError(path)
    for number, task in enumerate(_tracker.claims(batch=2)):
        with task:
            task["result"] = task.key
        _tell(path, task.key)
        if number == 3:
            return


def _hold(path: str, job: int) -> None:
    """Be a job: hold some changes."""
    if _pod is None:
        raise RuntimeError(path)
    with _pod.hold():
        for number in range(5):
            _pod[f"{job} {number}"] = job
            _tell(f"{path}.held", f"{job}.{number}")
        time.sleep(0.001)


def terminate_pool(path: Path, chance: random.Random, method: str) -> Counter[str]:
    """Terminate a pool at a random moment; judge what its workers leave."""
    with Tracker[int](path) as tracker:
        tracker.add_many(range(_TASKS))
    POD[str, Any](f"{path}.held").close()
    pool: Any = multiprocessing.get_context(method).Pool(_WORKERS, initializer=_open, initargs=(str(path),))
    for job in range(_TASKS):
        pool.apply_async(*((_claim, (str(path),)) if chance.random() < 0.5 else (_hold, (str(path), job))))
    time.sleep(0.1 * chance.random() + (0.3 if method != "fork" else 0.0))
    workers = [pid for process in multiprocessing.active_children() if (pid := process.pid)]
    ending = threading.Thread(target=pool.terminate, daemon=True)
    ending.start()
    ending.join(HANGS)
    if ending.is_alive():
        for worker in workers:
            os.kill(worker, signal.SIGABRT)
        raise WrongError(f"Pool.terminate hangs, with {method}")
    pool.join()
    found: dict[Any, Any] = read(path)
    done = {*map(int, _told(path))}
    wrong = {
        key: entry
        for key, entry in found.items()
        if "_claim" in entry or entry["_tries"] != entry["_done"] or (key in done) > entry["_done"]
    }
    held = {tuple(told.split(".")) for told in _told(Path(f"{path}.held"))}
    written = read(Path(f"{path}.held"))
    lost = [key for key in held if " ".join(key) not in written]
    if wrong or lost:
        raise WrongError(f"wrong are the tasks {wrong}, lost is of what was held {lost}")
    with Tracker[int](path) as tracker:  # the next worker removes the files of those that ended without a claim
        tracker.add(-1)
        if tracker.claim() is None:
            raise WrongError("the next worker gets no task")
    if left := [file.name for file in path.iterdir() if file.name.startswith("worker-")]:
        raise WrongError(f"left are {left}")
    return Counter({f"pools terminated, {method}": 1, "tasks done": len(done), "changes held": len(held)})


def terminate_holder(path: Path, chance: random.Random) -> Counter[str]:
    """End a process that holds changes, commits and folds, by SIGTERM; what it held is there, whole."""
    reports, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reports)
            _be_holder(path, told)
        finally:
            os._exit(1)
    os.close(told)
    size = len(os.read(reports, 1))
    time.sleep(0.02 * chance.random())
    os.kill(child, signal.SIGTERM)
    code = wait_for(child, "SIGTERM")
    while more := os.read(reports, 1 << 16):
        size += len(more)
    os.close(reports)
    found = read(path)
    held = {key: value for key, value in found.items() if key != "committed"}
    if code != -signal.SIGTERM or len(held) not in (size, size + 1) or [*held.values()] != [*range(len(held))]:
        raise WrongError(f"ended with {code}, held {size} changes, of which {len(held)} are there")
    go_on(path)
    return Counter({"programs ended by SIGTERM": 1, "changes that they held": size})


def _be_holder(path: Path, report: int) -> None:
    pod, other = POD[str, int](path, shard_bytes=400), POD[str, int](path)
    pod.hold()
    number = 0
    while True:
        pod[f"held {number}"] = number
        os.write(report, b".")
        other["committed"] = number
        if number % 3 == 2:
            other.sync()
        number += 1
