"""What the tests of copies share: what a POD is filled with, and, as `python exchange_programs.py PATH NAME`, a process that writes until it is killed."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from tastypy import POD

KEYS = 40


def fill(pod: POD[Any, Any]) -> None:
    """Every kind of key, entries in many shards, changes after the last fold, and some of each kind of change."""
    pod.update({key: [repr(key)] * 3 for key in ("foo", "#foo", 'a "quoted" one', 1, 2.5, None, ("a", (1, None)), ())})
    pod.update({f"key {number}": {"number": number} for number in range(60)})
    pod.sync()
    pod.update({"foo": "later", "key 7": 7, True: "the same key as 1"})
    del pod["key 9"]
    pod.move_to_end(2.5)
    pod.move_to_end("key 50", last=False)
    pod["new"] = 2**64 - 1


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
