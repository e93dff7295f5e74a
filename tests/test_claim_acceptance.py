"""The loop of the documentation, run by four processes that are killed at random moments and started again."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import PATIENCE, end, stored
from tracker_programs import kill, start

from tastypy import Tracker

WORKERS = 4


class Said(NamedTuple):
    """A line of the record that the workers keep outside the tracker."""

    what: str
    key: str
    pid: int


def record_of(journal: Path) -> list[Said]:
    """What the workers did, in the order in which they did it."""
    lines = [line.split() for line in journal.read_text().splitlines()]
    return [Said(what, key, int(pid)) for what, key, pid in lines]


def work_and_kill(path: Path, journal: Path, batch: int, kills: int) -> list[int]:
    """Have the workers at it until all is done, and kill some at random moments; the process ids of those killed."""
    chance = random.Random(batch)

    def new() -> subprocess.Popen[bytes]:
        return start("work", path, journal, batch, 4 * batch**0.5)

    crowd = [new() for _ in range(WORKERS)]
    killed: list[int] = []
    deadline = time.monotonic() + PATIENCE
    while any(program.poll() is None for program in crowd):
        assert time.monotonic() < deadline
        time.sleep(chance.uniform(0.01, 0.05))
        number = chance.randrange(WORKERS)
        begun = f"begin - {crowd[number].pid}\n" in journal.read_text()
        if len(killed) < kills and begun:
            crowd[number].kill()
            if crowd[number].wait(PATIENCE) == -signal.SIGKILL:  # else it had finished
                killed.append(crowd[number].pid)
                crowd[number] = new()
    assert [end(program) for program in crowd] == [0] * WORKERS
    return killed


def overlaps(record: list[Said], killed: list[int]) -> list[Said]:
    """The tasks that somebody began while another one, that was not killed, had not come to the end of it."""
    inside: dict[str, set[int]] = {}
    found = []
    for said in record:
        if said.what == "start":
            others = inside.setdefault(said.key, set())
            found += [said] * bool(others.difference(killed))
            others.add(said.pid)
        elif said.what == "end":
            inside[said.key].discard(said.pid)
    return found


@pytest.mark.parametrize(("batch", "tasks", "kills"), [(1, 400, 12), (4, 200, 6)])
def test_four_processes_that_get_killed_and_restarted_finish_each_task_exactly_once(
    path: Path, tmp_path: Path, batch: int, tasks: int, kills: int
) -> None:
    journal = tmp_path / "record"
    journal.touch()
    with Tracker[int](path) as tracker:
        tracker.add_many(range(tasks))
    killed = work_and_kill(path, journal, batch, kills)
    record = record_of(journal)
    entries = stored(path)

    assert kills // 3 <= len(killed) <= kills
    assert {said.pid for said in record if said.what == "begin"} >= {*killed}

    # none is lost, each is done, with its result
    assert [*entries] == [*range(tasks)]
    assert all(entry["_done"] and entry["status"] == 2 * key for key, entry in entries.items())
    assert [key for key, entry in entries.items() if "_claim" in entry] == []

    # no two that live ever stood in one block: neither by the locks of the tasks, nor by the order of what was said
    assert [said for said in record if said.what == "overlap"] == []
    assert overlaps(record, killed) == []

    # exactly once: nobody finished a task twice, or one that another one had finished
    finished = Counter(said.key for said in record if said.what == "finished")
    assert set(finished.values()) == {1}
    assert tasks - len(finished) <= kills  # killed between the commit and the word about it

    # a try for each time that it was in hand, none for the innocent: each kill accounts for one at most
    tries = {str(key): entry["_tries"] for key, entry in entries.items()}
    starts = Counter(said.key for said in record if said.what == "start")
    unsaid = {key: tries[key] - starts[key] for key in tries}  # killed between the claim and the word about it
    assert min(unsaid.values()) == 0
    in_a_block = 0
    for pid in killed:
        began = [said.key for said in record if said.pid == pid and said.what == "start"]
        came_through = [said.key for said in record if said.pid == pid and said.what == "finished"]
        assert began[: len(came_through)] == came_through
        assert len(began) - len(came_through) <= 1
        in_a_block += len(began) - len(came_through)
    assert sum(unsaid.values()) <= len(killed) - in_a_block
    assert in_a_block > 0


def test_a_worker_that_is_killed_in_each_task_costs_that_task_one_try_and_no_other(path: Path, tmp_path: Path) -> None:
    """The same with kills that are all known to come in the middle of a block."""
    journal = tmp_path / "record"
    journal.touch()
    with Tracker[int](path) as tracker:
        tracker.add_many(range(30))
    hit: Counter[int] = Counter()
    for _ in range(6):
        program = start("work", path, journal, 3, 1000)
        while not (inside := [said for said in record_of(journal) if said.pid == program.pid and said.what == "start"]):
            assert program.poll() is None
            time.sleep(0.002)
        kill(program)
        hit[int(inside[0].key)] += 1
    assert end(start("work", path, journal, 3, 0)) == 0
    assert {key: entry["_tries"] for key, entry in stored(path).items()} == {key: 1 + hit[key] for key in range(30)}
    assert all(entry["_done"] for entry in stored(path).values())
    assert sum(hit.values()) == 6
