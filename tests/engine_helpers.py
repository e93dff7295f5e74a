"""What tests of the examples that run on engines share: what is to be done, who is at it, and that all is done."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from helpers import stored

from tastypy import Tracker

PATIENCE = 120
"""Seconds after which what does not come counts as never coming: engines take long to start on a busy machine."""

EXAMPLES = Path(__file__).parent.parent / "docs/examples"
STARTS = range(0, 300_000, 3_000)


def primes_from(start: int) -> int:
    """The number of primes among three thousand numbers, found in another way than the examples do it."""
    end = start + 3_000
    composite = {
        multiple
        for factor in range(2, int(end**0.5) + 1)
        for multiple in range(max(factor * factor, -(-start // factor) * factor), end, factor)
    }
    return end - max(start, 2) - len(composite)


def assert_all_done(directory: Path, starts: list[int]) -> dict[int, dict[str, Any]]:
    """Every task is done, with its own result, and nobody has left anything; the entries."""
    tracker = directory / "primes.tracker"
    entries = stored(tracker)
    assert sorted(entries) == sorted(starts)
    assert {(entry["_done"], "_claim" in entry) for entry in entries.values()} == {(True, False)}
    assert {key: entry["result"]["primes"] for key, entry in entries.items()} == {
        start: primes_from(start) for start in starts
    }
    assert [file.name for file in tracker.iterdir() if file.name.startswith("worker-")] == []
    return entries


def add_more(directory: Path, number: int) -> list[int]:
    """Give the run of an example so many tasks more, each of some 20 ms, that it goes on for a while; all there is to do."""
    more = range(3_000_000, 3_000_000 + 3_000 * number, 3_000)
    with Tracker[int](directory / "primes.tracker") as tracker:
        tracker.add_many(more)
    return [*STARTS, *more]


def wait_for_workers(directory: Path, number: int) -> set[int]:
    """Wait until so many processes have claimed tasks; which."""
    deadline = time.monotonic() + PATIENCE
    processes: set[int] = set()
    with Tracker[int](directory / "primes.tracker", mode="r") as tracker:
        while len(processes) < number:
            assert time.monotonic() < deadline, f"there are only {processes}"
            time.sleep(0.005)
            tracker.refresh()
            with suppress(FileNotFoundError):  # one has just ended
                processes = {process_of(tracker, entry["_claim"]["worker"]) for entry in tracker.claimed_values()}
    return processes


def process_of(tracker: Tracker[int], worker: str) -> int:
    """The process of a worker, which stands in its file."""
    with (Path(tracker.path) / f"worker-{worker}.jsonl").open() as lines:
        return int(json.loads(next(lines))["pid"])
