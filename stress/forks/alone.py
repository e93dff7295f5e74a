"""Run a stress module in an interpreter of its own, with a bound on its time and, where it hangs, the stacks of its threads.

What forks beside threads, or is interrupted all the time, is no place for a command's own bookkeeping.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from stress.command import WrongError

if TYPE_CHECKING:
    from collections.abc import Mapping

HANGS = 20.0  # seconds after which a process counts as hanging


def run_alone(module: str, *arguments: object, seconds: float) -> Counter[str]:
    """Return the figures of `python -m stress.forks.MODULE ARGUMENTS`, which is to take about so many seconds."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-m", f"stress.forks.{module}", *map(str, arguments)],
        # the stacks of all threads are printed at SIGABRT
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONFAULTHANDLER": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, complaint = process.communicate(timeout=3 * seconds + 2 * HANGS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        complaint = process.communicate()[1]
        raise WrongError(f"{module} {arguments} hangs:\n{complaint.decode(errors='replace')}") from None
    finally:
        if process.poll() is None or process.returncode:
            _kill_group(process.pid)  # what a failed program has forked
        process.wait()
    if process.returncode:
        message = f"{module} ended with {process.returncode}:\n{complaint.decode(errors='replace')[-6000:]}"
        raise WrongError(message)
    return Counter(json.loads(output))


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def report(figures: Mapping[str, int]) -> None:
    """Tell the figures to `run_alone`."""
    os.write(1, json.dumps(figures).encode())


def wait_for(child: int, what: object) -> int:
    """Return the exit code of a child; raise, with its stack on stderr, if it hangs."""
    end = time.monotonic() + HANGS
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    os.kill(child, signal.SIGABRT)
    time.sleep(0.5)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    message = f"{what}: the child hangs, and its stack is above"
    raise WrongError(message)


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def is_free(path: Path) -> bool:
    """Tell whether the lock of a directory can be had: by another process, or a descriptor of its own, which is the same."""
    descriptor = os.open(path / ".lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
