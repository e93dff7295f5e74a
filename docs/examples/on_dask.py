"""Primes, counted by the workers of a Dask cluster: here one of three processes, elsewhere any that Dask can reach.

    python on_dask.py [DIRECTORY]

If a worker is killed another one does what it was at. The same command again, of whatever cluster, does what is missing.
"""

import math
import os
import sys
from functools import partial
from pathlib import Path

from distributed import Client, LocalCluster

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
    """Count them twice: with a tracker, whose workers claim tasks, and with Dask, which gives tasks out, and a POD."""
    with LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        with Tracker[int](directory / "primes.tracker", max_tries=3) as tracker:
            tracker.add_many_if_absent(STARTS)
            workers = sum(client.nthreads().values())
            print(tracker.run(primes, executor=client.get_executor(), workers=workers))
        with POD[int, dict[str, int]](directory / "primes.pod") as pod:
            client.gather(client.map(partial(store, pod), [start for start in STARTS if start not in pod]))
            pod.refresh()
            print(sum(entry["primes"] for entry in pod.values()), "primes")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
