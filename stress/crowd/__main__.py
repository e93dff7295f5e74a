"""Many workers at once: how long they wait for each other, and what they take from a file server.

`processes` are 64 on one POD, on the disk that --dir is on. They assign as fast as they can, then with a pause after each
assignment. Of the waits of those who found the lock taken the longest must be at most fifty times the median, and all that was
acknowledged must be there. (An assignment that finds the lock free does not wait. Most of those made as fast as they can do, so the
median of all of them says nothing of waiting; it is printed beside.) The longest of thousands of waits is also that in which the machine did
something else: what is beyond is measured again, and wrong if it is so three times.

`simulated` are up to 1,000 workers of a tracker on a network file system: the pauses are decided by the library, what operations take was
measured by `costs`. The same is demanded of their waits, and that many workers commit as much as few. The long form has the table of
how much they work by the length of a task and the tasks claimed at once.

`costs` measures, on the file system that --dir is on, what the simulation takes as given. Where `ON2` says what to put before a
command to run it on another host, and `MOUNT2` where that has the directory of --dir, that host takes part. It is not done unless it
is asked for.
"""

from __future__ import annotations

import sys

from stress.command import Trial, WrongError, command
from stress.crowd.costs import measure
from stress.crowd.processes import PROCESSES, crowd, waits_of
from stress.crowd.simulation import Load, Place, simulate

PARTS = ("processes", "simulated", "costs")
_RATIO = 50  # how many times the median the longest wait may be
_ROUNDS = 3  # at most, of which one has to be so
_FEWER = 0.6  # of the commits of few workers that many have to make, where the server can
_PAUSE = 0.005  # seconds after an assignment
_SLOW = Place(operations=8_000)
_ROWS = [(Load(workers, 0.01, 1), Place()) for workers in (2, 8, 64)]
_MORE = [
    (Load(64, 0.0, 1), Place()),
    (Load(64, 0.1, 1), Place(operations=4_000)),
    (Load(1000, 1.0, 1), Place()),
    (Load(1000, 1.0, 1), _SLOW),
    (Load(1000, 5.0, 1), Place()),
    (Load(1000, 10.0, 1), Place()),
]


def _processes(trial: Trial) -> None:
    for title, pause in (("as fast as they can", 0.0), (f"with {1000 * _PAUSE:.0f} ms after each", _PAUSE)):
        with trial.part(f"{PROCESSES} processes, {title}") as figures:
            for _ in range(_ROUNDS):
                accounts = crowd(trial.path(), trial.seconds / 2, pause)
                made = sorted(one.made for one in accounts)
                figures.update({"rounds": 1, "assignments": sum(made)})
                print(f"  {made[0]:,} assignments by the least busy, {made[-1]:,} by the busiest")
                waits = waits_of([wait for one in accounts for wait in one.waits])
                print(f"  waits of those who found the lock taken, {waits}")
                print(f"  assignments, waits included, {waits_of([each for one in accounts for each in one.whole])}")
                if waits.ratio <= _RATIO:
                    break
            else:
                message = f"the longest wait is {waits.ratio:.0f} times the median: {waits}"
                raise WrongError(message)


def _simulated(trial: Trial) -> None:
    few = 0.0
    for load, place in _ROWS if trial.quick else [*_ROWS, *_MORE]:
        begin, end = (5.0, 25.0) if trial.quick else (30.0, 90.0)
        with trial.part(
            f"simulated: {load.workers} workers, tasks of {load.task:g} s, {place.operations:,} operations a second"
        ) as figures:
            found = simulate(load, trial.seed, begin=begin, end=end, place=place)
            figures["simulated seconds"] = round(end - begin)
            print(
                f"  {found.commits:.0f} commits a second; {found.waits:,} waits: median {1000 * found.median:.0f} ms, "
                f"99th percentile {1000 * found.high:.0f} ms, longest {1000 * found.longest:.0f} ms, {found.ratio:.0f} times the "
                f"median; {found.attempts:.0f} attempts a second, {100 * found.refused:.0f} % of them refused; "
                f"{found.operations:,.0f} operations a second; {100 * found.working:.0f} % of the time at work"
            )
            if found.ratio > _RATIO:
                message = f"the longest wait is {found.ratio:.0f} times the median"
                raise WrongError(message)
            if place == Place() and load.task <= 1:
                few = few or found.commits
                if found.commits < _FEWER * few:
                    message = f"{found.commits:.0f} commits a second, where fewer workers made {few:.0f}"
                    raise WrongError(message)


def _table(trial: Trial) -> None:
    """Print the share of the time that workers work, by how long tasks are and how many are claimed at once."""
    with trial.part("table of the time at work, and of tasks a second") as figures:
        for workers in (8, 64, 256, 1000):
            for task in (0.01, 0.1, 1.0, 5.0, 10.0):
                cells = []
                for batch in (1, 10, 100):
                    found = simulate(Load(workers, task, batch), trial.seed, begin=60.0, end=180.0)
                    cells.append(f"batch={batch} {100 * found.working:.0f} %, {found.tasks:.0f}/s")
                    figures["simulations"] += 1
                print(f"  {workers} workers, tasks of {task:g} s: {'; '.join(cells)}", flush=True)


def _run(trial: Trial) -> None:
    if trial.wants("processes"):
        _processes(trial)
    if trial.wants("simulated"):
        _simulated(trial)
        if not trial.quick:
            _table(trial)
    if trial.asked("costs"):
        with trial.part("costs") as figures:
            figures["costs"] = measure(trial.path())


if __name__ == "__main__":
    sys.exit(command("crowd", __doc__, _run, seconds=40, quick=6, parts=PARTS))
