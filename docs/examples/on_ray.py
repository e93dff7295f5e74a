"""Primes, counted by the workers of Ray.

    python on_ray.py [DIRECTORY]

If a worker is killed another one does what it was at. The same command again does what is missing.
"""

import math
import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import ray

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


class RayExecutor(Executor):
    """As much of an executor as `run` needs, on Ray."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Call a function in some worker of Ray."""
        future: Future[Any] = ray.remote(function).remote(*arguments, **options).future()
        future.set_running_or_notify_cancel()  # so that `run` waits for it when it is interrupted
        return future


def main(directory: Path = Path()) -> None:
    """Count them twice: with a tracker, whose workers claim tasks, and with Ray, which gives tasks out, and a POD."""
    ray.init(num_cpus=3, include_dashboard=False)
    with Tracker[int](directory / "primes.tracker", max_tries=3) as tracker:
        tracker.add_many_if_absent(STARTS)
        print(tracker.run(primes, executor=RayExecutor(), workers=int(ray.cluster_resources()["CPU"])))
    with POD[int, dict[str, int]](directory / "primes.pod") as pod:
        remote = ray.remote(store)
        ray.get([remote.remote(pod, start) for start in STARTS if start not in pod])
        pod.refresh()
        print(sum(entry["primes"] for entry in pod.values()), "primes")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
