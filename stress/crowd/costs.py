"""What a commit, an attempt and a look at what is new cost on the file system of a directory: in time, and in operations of NFS.

Alone, a client of NFS is lent the file and asks the server less often. So another process has the POD open meanwhile, and has the
lock where attempts are to fail; on another host, if `ON2` says what to put before a command to have it run there, and
`MOUNT2` what is there as the directory of `--dir` here: an attempt is refused by the host itself where one of its processes has the lock.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from fcntl import LOCK_UN, flock
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import lock_descriptor

from tastypy import POD, Tracker

if TYPE_CHECKING:
    from collections.abc import Callable

_TIMES = 200  # how often each is measured
_PEER = """
import fcntl, sys
from tastypy import POD
pod = POD(sys.argv[1])
for line in sys.stdin:
    if line == "assign\\n":
        pod["theirs"] = line
    else:
        fcntl.flock(pod._store.lock.descriptor, fcntl.LOCK_EX if line == "lock\\n" else fcntl.LOCK_UN)
    print(flush=True)
"""


class _Peer:
    """Another process that has the POD open and does what it is told."""

    def __init__(self, path: Path) -> None:
        before = os.environ.get("ON2", "").split()
        there = Path(os.environ.get("MOUNT2", path.parents[2])).joinpath(*path.parts[-3:])
        self.process = subprocess.Popen(
            [*before, sys.executable, "-c", _PEER, there], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def do(self, what: str) -> None:
        """Have it do something, and wait until that is done."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the process was started without pipes")
        print(what, file=self.process.stdin, flush=True)
        if not self.process.stdout.readline():
            raise RuntimeError("the other process failed, see above")


def _operations(path: Path) -> Counter[str]:
    """Return how often the mount that a path lies on has asked its server, by kinds; nothing where it is no mount of NFS."""
    counts: Counter[str] = Counter()
    mount = path.resolve()
    while not mount.is_mount():
        mount = mount.parent
    here = False
    with suppress(OSError):
        for line in Path("/proc/self/mountstats").read_text().splitlines():
            if line.startswith("device "):
                here = f" mounted on {mount} with" in line
            elif here and line.startswith("\t"):
                kind, _, rest = line.strip().partition(":")
                figures = rest.split()
                if kind.isupper() and len(figures) >= 8:
                    counts[kind] = int(figures[0])
    return counts


def _measure(path: Path, what: str, action: Callable[[], object], before: Callable[[], object] = lambda: None) -> None:
    """Print what an action costs, of which `before` is no part."""
    times, counts = [], Counter[str]()
    for number in range(_TIMES + 2):
        before()
        operations = _operations(path)
        start = time.perf_counter()
        action()
        seconds = time.perf_counter() - start
        if number >= 2:  # the first ones find less in the caches
            times.append(seconds)
            counts.update(_operations(path) - operations)
    times.sort()
    asked = ", ".join(f"{kind} {number / _TIMES:.1f}" for kind, number in counts.items() if number * 20 > _TIMES)
    median, high = 1e6 * times[_TIMES // 2], 1e6 * times[_TIMES * 9 // 10]
    print(f"  {what}: median {median:,.0f} us, 90th percentile {high:,.0f} us; {asked or 'no operations'}", flush=True)


def measure(path: Path) -> int:
    """Print the costs on the file system of a path that nothing is at; return how many there are."""
    path.mkdir()
    with POD[str, Any](path / "a.pod") as pod:
        lock = pod._store.lock  # its costs are measured by themselves
        peer = _Peer(path / "a.pod")
        try:

            def attempt() -> None:
                lock_descriptor(lock.descriptor, blocking=False)

            def assign() -> None:
                pod["ours"] = "a small result"

            def unlock() -> None:
                flock(lock.descriptor, LOCK_UN)

            def look() -> None:
                pod.refresh()

            peer.do("assign")
            _measure(path, "an assignment", assign)
            _measure(path, "one after another's", assign, lambda: peer.do("assign"))
            _measure(path, "a look where nothing is new", look)
            _measure(path, "one where something is", look, lambda: peer.do("assign"))
            _measure(path, "an attempt that gets the lock", attempt, unlock)
            unlock()
            peer.do("lock")
            _measure(path, "an attempt that is refused", attempt)
            peer.do("unlock")
        finally:
            peer.process.kill()
            peer.process.communicate()
    with Tracker[int](path / "a.tracker") as tracker:
        tracker.add_many(range(_TIMES + 2))

        def work() -> None:
            task = tracker.claim()
            if task is not None:
                task.done(result="a small result")

        _measure(path, "a claim and its end, alone", work)
    return 7
