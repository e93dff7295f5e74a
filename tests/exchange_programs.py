"""A process for `test_copying`: `python exchange_programs.py PATH NAME` writes until it is killed."""

from __future__ import annotations

import os
import sys
import time

from tastypy import POD

KEYS = 40


def write(path: str, name: str) -> None:
    """Make commits that each leave all of this writer's keys equal, and `total` the sum of all writers' counts; and fold."""
    with POD[str, int](path) as pod:
        for count in range(1, 1_000_000):
            with pod.transaction():
                pod.update({f"{name} {key}": count for key in range(KEYS)})
                pod["total"] += 1
            if count % 5 == 0:
                pod.sync()
            if count == 1:
                os.write(1, b"writing\n")
            time.sleep(0.001)  # so that the others come to write, too


if __name__ == "__main__":
    write(*sys.argv[1:])
