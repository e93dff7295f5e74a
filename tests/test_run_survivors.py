"""Runs whose program is killed, whose workers are stopped, and that share a tracker with another run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import hear, stored
from run_helpers import PATIENCE, Gate, assert_nothing_left, begun, is_there, rest, start_run, to_group, wait_until_gone

from tastypy import Tracker

pytestmark = pytest.mark.timeout(60)

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.close()


@pytest.fixture
def tasks(path: Path) -> Path:
    """A tracker with six tasks."""
    with Tracker[int](path) as tracker:
        tracker.add_many(range(6))
    return path


@pytest.mark.parametrize("method", METHODS)
def test_workers_whose_program_was_killed_end_what_they_have_in_hand_and_stop(
    tasks: Path, gate: Gate, method: str
) -> None:
    program = start_run(tasks, "wait_and_say", gate.path, workers=2, method=method)
    processes = begun(program, 2)
    program.kill()
    program.wait(PATIENCE)
    time.sleep(0.6)  # they look whether the run goes on no more than twice a second
    assert all(map(is_there, processes.values()))
    gate.open()
    assert sorted(rest(program)) == sorted(f"ended {key} {process}" for key, process in processes.items())
    wait_until_gone(processes.values())
    done = {str(key) for key, entry in stored(tasks).items() if entry["_done"]}
    assert done == processes.keys()
    with Tracker[int](tasks) as tracker:
        assert tracker.counts().claimed == 0
        assert tracker.run(str, workers=1).done == 4
        assert {entry["_tries"] for entry in tracker.values()} == {1}
    assert_nothing_left(tasks)  # the file by which the run was known, too


def test_two_runs_in_two_processes_share_the_tasks_and_one_goes_on_when_the_other_is_killed(
    tasks: Path, gate: Gate
) -> None:
    one, other = [start_run(tasks, "wait_and_say", gate.path, workers=2) for _ in range(2)]
    both = [begun(one, 2), begun(other, 2)]
    assert sorted({**both[0], **both[1]}) == ["0", "1", "2", "3"]
    to_group(one, signal.SIGKILL)
    assert rest(one) == []
    gate.open()
    said = [line.split() for line in rest(other)]
    assert said[-1] == ["summary", "6", "0", "0"]
    assert sorted(key for what, key, *_ in said[:-1] if what == "ended") == ["0", "1", "2", "3", "4", "5"]
    killed = {int(key) for key in both[0]}
    assert {key: entry["_tries"] for key, entry in stored(tasks).items()} == {
        key: 1 + (key in killed) for key in range(6)
    }
    with Tracker[int](tasks) as tracker:  # whoever comes next removes what the dead have left
        tracker.add(6)
        tracker.run(str, workers=1)
    assert_nothing_left(tasks)


def test_two_runs_that_go_on_to_the_end_do_each_task_once(tasks: Path, gate: Gate) -> None:
    runs = [start_run(tasks, "wait_and_say", gate.path, workers=2) for _ in range(2)]
    for one in runs:
        begun(one, 2)
    gate.open()
    said = [rest(one) for one in runs]
    assert [lines[-1] for lines in said] == ["summary 6 0 0"] * 2
    ended = [line.split()[1] for lines in said for line in lines if line.startswith("ended")]
    assert sorted(ended) == ["0", "1", "2", "3", "4", "5"]
    assert {entry["_tries"] for entry in stored(tasks).values()} == {1}
    assert_nothing_left(tasks)


def test_a_stopped_worker_keeps_its_task_and_the_others_do_the_rest(tasks: Path, gate: Gate) -> None:
    program = start_run(tasks, "wait_and_say", gate.path, workers=2)
    processes = begun(program, 2)
    os.kill(processes["0"], signal.SIGSTOP)
    gate.open()
    ended: list[str] = []
    while len(ended) < 5:
        line = hear(program, PATIENCE)
        ended += [line.split()[1]] if line.startswith("ended") else []
    assert sorted(ended) == ["1", "2", "3", "4", "5"]
    assert stored(tasks)[0]["_claim"]
    os.kill(processes["0"], signal.SIGCONT)
    assert rest(program)[-1] == "summary 6 0 0"
    assert {entry["_tries"] for entry in stored(tasks).values()} == {1}
    assert_nothing_left(tasks)
