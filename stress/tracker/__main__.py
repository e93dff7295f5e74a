"""Kill, terminate, interrupt, stop and restart workers of a tracker at random moments under load, and judge what they did.

The plans follow from the seed; the moments of the kills are never the same.

What the workers did is known from what they wrote down outside the tracker (see `worker`), and how each of them ended.
So it is known what must hold: no two live workers were ever at one task; each task was done, once, or tried as often as
allowed; its tries are those that ended, and those that a kill ended, and no others; the figures equal a recount; `check()`
finds nothing, and nothing is left of the dead.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stress.command import Trial, WrongError, command
from stress.hosts import Place
from stress.recount import recount
from stress.tracker.worker import INTERRUPTED, Plan, lines_of, work
from tastypy import POD, Task

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess

_PATIENCE = (
    240  # seconds that a round may take: on an emulated machine, or while a network file system stalls, it is slow
)
_HOW = {  # what is done to a worker, and how often
    "kill": 3,
    "terminate": 2,
    "terminate and kill": 1,
    "interrupt": 2,
    "interrupt and kill": 1,
    "stop": 2,
    "stop and kill": 1,
}
_STATUS = {"kill": -signal.SIGKILL, "terminate": -signal.SIGTERM, "interrupt": INTERRUPTED}
_SENT = {"terminate": signal.SIGTERM, "interrupt": signal.SIGINT}


class Crew:
    """The worker processes of a round: some work at any time, and each that was ended is followed by another."""

    def __init__(self, plan: Plan, size: int, chance: random.Random) -> None:
        self.ended: dict[int, str] = {}  # how, by number; not those that ended by themselves
        self.counts: Counter[str] = Counter()
        self._plan = plan
        self._chance = chance
        self._numbers = count()
        self._processes: dict[int, ForkProcess] = {}
        for _ in range(size):
            self._start()

    def _start(self) -> None:
        number = next(self._numbers)
        process = multiprocessing.get_context("fork").Process(target=work, args=(self._plan, number), daemon=True)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._processes[number] = process

    def disturb(self) -> None:
        """Do something to one after the other until all have ended by themselves, since nothing was left to do."""
        deadline = time.monotonic() + _PATIENCE
        pause = self._chance.choice([0.005, 0.02, 0.05])
        left = self._chance.randint(10, 60)  # so that all get to their end
        while self._processes:
            if time.monotonic() > deadline:
                message = f"the workers {[*self._processes]} have not ended after {_PATIENCE} s"
                raise WrongError(message)
            time.sleep(self._chance.expovariate(1 / pause))
            for number, process in list(self._processes.items()):
                if not process.is_alive():
                    self._bury(number)
            left -= 1
            if self._processes and left > 0:
                number = self._chance.choice([*self._processes])
                self._do(number, *self._chance.choices([*_HOW], [*_HOW.values()]))

    def _do(self, number: int, how: str) -> None:
        process, chance = self._processes[number], self._chance
        self.counts[f"times {how}"] += 1
        first, _, then = how.partition(" and ")
        if first == "stop":
            os.kill(process.pid or 0, signal.SIGSTOP)
            time.sleep(chance.random() ** 2 * 0.1)
            if not then:
                os.kill(process.pid or 0, signal.SIGCONT)
                return
        elif first != "kill":
            os.kill(process.pid or 0, _SENT[first])
            time.sleep(chance.random() ** 3 * 0.01 if then else 0)
        if "kill" in how:
            process.kill()
        self.ended[number] = "kill" if first == "stop" else how
        process.join(_PATIENCE)
        self._bury(number)
        self._start()

    def _bury(self, number: int) -> None:
        process, how = self._processes.pop(number), self.ended.pop(number, "")
        first, _, then = how.partition(" and ")
        status = process.exitcode
        if status == 0:  # by itself, whatever was sent to it afterwards
            return
        if then and status == _STATUS[first]:  # before it was killed
            how = first
        elif status not in (_STATUS.get(how), _STATUS[then] if then else None):
            message = f"worker {number} ended with status {status}, see above; what was done to it: {how or 'nothing'}"
            raise WrongError(message)
        self.ended[number] = how

    def kill(self) -> None:
        """End all that still run."""
        for process in self._processes.values():
            process.kill()
            process.join()


class Known:
    """What is known of one task from what the workers wrote down."""

    def __init__(self) -> None:
        self.least = self.most = 0  # tries
        self.acknowledged: list[int] = []  # who was told that it is done
        self.perhaps: list[int] = []  # who had done it, and was ended before it was told so
        self.at_it: dict[int, str] = {}  # who is, and how far

    def ended(self, worker: int, how: str) -> None:
        """Count what it means that this worker ended while it was at the task."""
        end = self.at_it.pop(worker)
        if end == "done":
            self.perhaps.append(worker)
        if how == "kill":
            self.least += end != "release"
            self.most += 1
        elif "kill" in how:
            self.most += 1
        else:  # it could let go, without a try; or was past the end already
            self.most += end in ("done", "fail")


def judge_log(plan: Plan, ended: dict[int, str]) -> tuple[dict[str, Known], int]:
    """Return what is known of each task, and how many tries more there may be of tasks that were claimed and not begun.

    Raises:
        WrongError: two workers were at a task at once, or a worker found something wrong.
    """
    tasks: dict[str, Known] = {}
    passed: dict[int, str] = {}  # who was at a task when another one began it: dead, if all is well
    last: dict[int, str] = {}  # what each wrote last
    for worker, what, key, text in lines_of(plan.log):
        last[worker] = what
        if what == "wrong":
            message = f"worker {worker}: {what} {key} {text}"
            raise WrongError(message)
        if worker in passed:
            message = f"worker {worker} was still alive ({what} {key}) when another one began the task {passed[worker]}"
            raise WrongError(message)
        if key == "-":
            continue
        known = tasks.setdefault(key, Known())
        at_it = [one for one, end in known.at_it.items() if not end]
        if what == "wait" and at_it and not any(ended.get(one, "kill") != "kill" for one in at_it):
            message = f"worker {worker} got the task {key} while another one was alive and at it, of {at_it}"
            raise WrongError(message)
        if what in ("wait", "start"):
            if known.acknowledged:
                message = f"worker {worker} began the task {key}, which worker {known.acknowledged[0]} had done"
                raise WrongError(message)
            passed.update((one, key) for one, end in known.at_it.items() if end in ("", "done"))
        if what == "start":
            known.at_it[worker] = ""
        elif what == "end":
            known.at_it[worker] = text
        elif what == "ack":
            end = known.at_it.pop(worker)
            known.least += end != "release"
            known.most += end != "release"
            if end == "done":
                known.acknowledged.append(worker)
    for known in tasks.values():
        for worker in list(known.at_it):
            if worker not in ended:
                message = f"worker {worker} ended by itself while it was at a task"
                raise WrongError(message)
            known.ended(worker, ended[worker])
    return tasks, sum("kill" in how and last.get(worker) in ("ask", "wait") for worker, how in ended.items())


def judge_tasks(plan: Plan, found: dict[str, Any], tasks: dict[str, Known], slack: int) -> None:
    """Raise unless each task is done, or given up, and was tried as often as is known; `slack` is for all together."""
    expected = [str(number) for number in range(plan.tasks)]
    more = 0
    for key in expected:
        known, entry = tasks.get(key, Known()), found.get(key)
        if entry is None:
            message = f"the task {key} is lost"
            raise WrongError(message)
        told = f"the task {key}: {entry}, done by {known.acknowledged}, perhaps by {known.perhaps}"
        if entry["_done"]:
            expected += plan.children(key)
        done_by = known.acknowledged or known.perhaps
        if "_claim" in entry or (entry["_done"] and entry["by"] not in done_by):
            raise WrongError(told)
        if len(known.acknowledged) > 1 or bool(known.acknowledged) > entry["_done"]:
            message = f"{told}: done more than once, or done and lost"
            raise WrongError(message)
        if not entry["_done"] and not (0 < plan.max_tries <= entry["_tries"]):
            message = f"{told}: neither done nor given up"
            raise WrongError(message)
        tries = entry["_tries"]
        more += max(tries - known.most, 0)
        if tries < known.least or more > slack or 0 < plan.max_tries < tries:
            message = (
                f"{told}: tried {tries} times, known are {known.least} to {known.most}, and {more} of {slack} more, of any task, "
                f"for workers killed between a claim and the beginning of the work; at most {plan.max_tries}"
            )
            raise WrongError(message)
    unexpected = found.keys() - {*expected}
    if any(key not in plan.all_keys() or not key.count(".") for key in unexpected):
        message = f"nobody added the tasks {unexpected}"
        raise WrongError(message)


def judge_directory(plan: Plan) -> None:
    """Raise unless the figures are right, `check` finds nothing, and the next worker leaves nothing of those before."""
    with POD[str, Any](plan.path, mode="r") as pod:
        wanted = recount(pod.copy(), plan.max_tries)
    with plan.open() as tracker:
        if tracker.counts() != wanted:
            message = f"the figures are {tracker.counts()}, a recount gives {wanted}"
            raise WrongError(message)
        tracker.add("probe")
        task = tracker.claim()
        if not isinstance(task, Task) or task.key != "probe":
            message = f"instead of the probe there was {task!r} to claim"
            raise WrongError(message)
        task.done()
        problems = tracker.check()
    left = [
        file.name
        for file in plan.path.iterdir()
        # filelock leaves a name of its own behind where a process is killed as it takes a dead one's lease over
        if (file.name.startswith("worker-") and ".lease.break." not in file.name) or file.suffix == ".tmp"
    ]
    if problems or left:
        message = f"{plan.path}: {problems}, and there are {left}"
        raise WrongError(message)


def play(shared: Place, place: Path, chance: random.Random, lock: str | None) -> Counter[str]:
    """Play one round; return its figures."""
    place.mkdir()
    plan = Plan(
        tracker=shared,
        place=place,
        seed=chance.randrange(1 << 30),
        tasks=chance.randint(50, 200),
        max_tries=chance.choice([0, 0, 2, 4]),
        batch=chance.choice([1, 2, 10]),
        slow=chance.choice([0.0, 0.003, 0.01]),
        options={
            "shard_bytes": chance.choice([300, 3000, None]),
            "gzipped": chance.random() < 0.2,
            "lock": lock,
        },
    )
    plan.log.touch()
    plan.locks.touch()
    with plan.open() as tracker:
        tracker.add_many(str(number) for number in range(plan.tasks))
    crew = Crew(plan, chance.randint(2, 6), chance)
    try:
        crew.disturb()
        tasks, slack = judge_log(plan, crew.ended)
        with POD[str, Any](plan.path, mode="r") as pod:
            found = pod.copy()
        judge_tasks(plan, found, tasks, slack)
        judge_directory(plan)
    except Exception as error:
        error.add_note(f"{plan}")
        raise
    finally:
        crew.kill()
    tries = sum(entry["_tries"] for entry in found.values())
    done = sum(entry["_done"] for entry in found.values())
    return Counter({"rounds": 1, "tasks": len(found), "done": done, "tries": tries}) + crew.counts


def _play_all(trial: Trial) -> None:
    with trial.part("workers of a tracker") as figures:
        for number in trial.rounds():
            shared, path = trial.shared(), trial.path()
            chance = trial.chance(number)
            # on several hosts a round with leases would take minutes, one of them for each that dies with the lock
            lock = trial.lock(chance) if len(shared.hosts) == 1 else None
            figures.update(play(shared, path, chance, lock))
            shared.remove()
            shutil.rmtree(path)


if __name__ == "__main__":
    sys.exit(command("tracker", __doc__, _play_all, seconds=60, quick=8))
