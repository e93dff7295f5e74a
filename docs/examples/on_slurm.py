"""Primes, counted by jobs of Slurm: see slurm_array.sbatch and slurm_srun.sbatch. All of them run this program.

    python on_slurm.py [DIRECTORY]

As many jobs and ranks as there are do what is missing, each with as many processes as Slurm has given it processors.
"""

import math
import os
import sys
from pathlib import Path

from tastypy import POD, Tracker

STARTS = range(0, 300_000, 3_000)


def primes(start: int) -> dict[str, int]:
    """Count the primes among three thousand numbers."""
    numbers = range(max(start, 2), start + 3_000)
    count = sum(all(number % factor for factor in range(2, math.isqrt(number) + 1)) for number in numbers)
    return {"primes": count, "process": os.getpid()}


def main(directory: Path = Path()) -> None:
    """Note down in a POD that this job begins, once more perhaps, and take tasks from the tracker until none is left."""
    job, rank, cpus = (os.environ.get(f"SLURM_{name}", "1") for name in ("JOB_ID", "PROCID", "CPUS_PER_TASK"))
    with POD[str, int](directory / "begins.pod") as begins:
        begins.incr(f"job {job}, rank {rank}")
    with Tracker[int](directory / "primes.tracker", max_tries=3) as tracker:
        tracker.add_many_if_absent(STARTS)
        print(tracker.run(primes, workers=int(cpus)))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
