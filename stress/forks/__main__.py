"""Fork beside threads in commits, collect garbage in them, interrupt and terminate: at every point, and at random moments.

`forks` forks, by every start method, while ten threads are in commits, folds and transactions. `points` raises Ctrl-C, runs
handlers and finalisers at points where CPython could handle a signal, with --seconds 180 at each, and collects garbage at every
other allocation; `interrupts` does so by a timer. `sigterm` and `pools` terminate who holds changes or has claimed tasks, the workers of a real pool included.
"""

from __future__ import annotations

import sys

from stress.command import Trial, command
from stress.forks.alone import run_alone
from stress.forks.pools import terminate_holder, terminate_pool

_METHODS = ("fork", "fork", "fork", "forkserver", "spawn")


def _run(trial: Trial) -> None:
    for name, share in (("forks", 0.45), ("interrupts", 0.2)):
        if trial.wants(name):
            with trial.part(name) as figures:
                seconds = share * trial.seconds
                module = ("forker",) if name == "forks" else ("interrupts", "random")
                last = trial.most or 10_000
                figures.update(run_alone(*module, trial.path(), trial.seed, seconds, last, seconds=seconds))
    if trial.wants("points"):
        with trial.part("points") as figures, trial.in_memory() as place:
            # from a random one on; a long run takes every one of them
            every = 40 if trial.quick else max(1, round(180 / trial.seconds))
            arguments = ("interrupts", "points", place / "points", trial.seed, 0, every)
            figures.update(run_alone(*arguments, seconds=trial.seconds))
    if trial.wants("sigterm"):
        with trial.part("sigterm") as figures:
            for number in trial.rounds(0.1):
                figures.update(terminate_holder(trial.path(), trial.chance("sigterm", number)))
    if trial.wants("pools"):
        with trial.part("pools") as figures:
            for number in trial.rounds(0.25):
                method = _METHODS[number % len(_METHODS)]
                figures.update(terminate_pool(trial.path(), trial.chance("pools", number), method))


PARTS = ("forks", "interrupts", "points", "sigterm", "pools")

if __name__ == "__main__":
    sys.exit(command("forks", __doc__, _run, seconds=60, quick=7, parts=PARTS))
