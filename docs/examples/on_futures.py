"""Primes, counted by the processes of a pool of `concurrent.futures`.

    python on_futures.py [DIRECTORY]

If a process is killed the pool breaks, and this program ends. The same command again does what is missing.
"""

import math
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tastypy import POD, Tracker

STARTS = range(0, 300_000, 3_000)


def primes(start: int) -> dict[str, int]:
    """Count the primes among three thousand numbers."""
    numbers = range(max(start, 2), start + 3_000)
    count = sum(all(number % factor for factor in range(2, math.isqrt(number) + 1)) for number in numbers)
    return {"primes": count, "process": os.getpid()}


def store(pod: POD[int, dict[str, int]], start: int) -> None:
    """Put a count into a POD, which came along as its path, and is opened here."""
    pod[start] = primes(start)


def main(directory: Path = Path()) -> None:
    """Count them twice: with a tracker, whose workers claim tasks, and with a pool that gives tasks out and a POD."""
    with ProcessPoolExecutor(4) as executor:
        with Tracker[int](directory / "primes.tracker", max_tries=3) as tracker:
            tracker.add_many_if_absent(STARTS)
            print(tracker.run(primes, executor=executor))
        with POD[int, dict[str, int]](directory / "primes.pod") as pod:
            list(executor.map(partial(store, pod), [start for start in STARTS if start not in pod]))
            pod.refresh()
            print(sum(entry["primes"] for entry in pod.values()), "primes")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
