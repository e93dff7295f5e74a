"""Signals that come at any moment of a claim and of its end: no task is lost or pays for it."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import end, hear, stored, tell
from tracker_programs import start

from tastypy import Tracker


def claims_left(path: Path) -> list[str]:
    """The tasks that are claimed on the disk, by whoever."""
    return [key for key, entry in stored(path).items() if "_claim" in entry]


@pytest.mark.parametrize(("threads", "batch"), [(1, 1), (1, 5), (3, 1)])
def test_sigterm_at_any_moment_costs_no_task_a_try(path: Path, threads: int, batch: int) -> None:
    with Tracker[int](path) as tracker:
        tracker.add_many(range(30_000))
    for _ in range(3):
        crowd = [start("work_until_terminated", path, threads, batch) for _ in range(2)]
        assert [hear(program) for program in crowd] == ["busy"] * 2
        time.sleep(random.uniform(0, 0.02))
        for program in crowd:
            program.terminate()
        assert [end(program) for program in crowd] == [-signal.SIGTERM] * 2
        assert claims_left(path) == []
    assert {entry["_tries"] - entry["_done"] for entry in stored(path).values()} == {0}


def test_sigterm_while_the_figures_are_counted_anew_costs_no_try(path: Path) -> None:
    tracker = Tracker[Any](path)
    tracker.add_many(["a", "b"])
    program = start("terminate_while_counting", path)
    assert hear(program) == "a"
    for number in range(2):
        tracker.add(f"new {number}")
        tracker.sync()  # of two folds the other one has to read everything anew
    tell(program)
    assert end(program) == -signal.SIGTERM
    tracker.close()
    assert claims_left(path) == []


def test_sigterm_gives_back_what_a_thread_claimed_when_another_one_had_just_ended_its_task(
    path: Path,
) -> None:
    with Tracker[Any](path) as tracker:
        tracker.add_many(["a", "b"])
    program = start("terminate_beside_a_claim", path)
    assert hear(program) == "claimed"
    program.terminate()
    assert end(program) == -signal.SIGTERM
    assert claims_left(path) == []
    assert [entry["_tries"] for entry in stored(path).values()] == [1, 0]


def test_sigterm_ends_a_process_though_a_thread_of_it_stays_in_a_transaction_for_ever(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its lock is waited for as long as the tracker's `timeout` says, no longer."""
    with Tracker[Any](path) as tracker:
        tracker.add_many(["a", "b"])
        program = start("terminate_beside_a_transaction", path)
        assert hear(program) == "a"
        program.terminate()
        assert end(program, patience=10) == -signal.SIGTERM
        assert tracker.claim() is not None
    capfd.readouterr()


@pytest.mark.parametrize("batch", [1, 4])
def test_interrupts_at_any_moment_leave_nothing_claimed_once_the_tracker_is_closed(path: Path, batch: int) -> None:
    """Ctrl-C is caught in notebooks, and work goes on with the same tracker."""
    Tracker[int](path).close()
    program = start("interrupt_often", path, 1500, batch)
    assert hear(program) == "sound"
    assert claims_left(path) == []
    assert {entry["_tries"] - entry["_done"] for entry in stored(path).values()} == {0}
    tell(program)
    assert end(program) == 0
