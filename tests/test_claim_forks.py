"""Claims and forks: whose task it is in a forked child, and what the workers of a Pool get."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tracker_programs as programs
from helpers import PATIENCE, stored
from tracker_programs import ask, claimed, finish, kill, leftovers, start

from tastypy import Tracker

# Python 3.12 and later warn of every fork in a process with threads; pools have threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of .*fork:DeprecationWarning")


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](path) as tracker:
        tracker.add_many(list("abcdef"))
        yield tracker


def tries(path: Path) -> dict[str, int]:
    """How often each task was tried, those left out that never were."""
    return {key: entry["_tries"] for key, entry in stored(path).items() if entry["_tries"]}


def test_a_forked_child_that_lives_on_does_not_keep_its_killed_parents_claim(tracker: Tracker[Any], path: Path) -> None:
    program = start("obey", path)
    assert ask(program, "claim") == "a"
    child = int(ask(program, "fork"))
    try:
        kill(program)
        assert "zombie" not in Path(f"/proc/{child}/status").read_text()
        assert sorted(finish(tracker)) == list("abcdef")
        assert tracker.tries("a") == 2
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_forked_child_that_is_ended_in_the_block_leaves_the_task_to_its_parent(
    tracker: Tracker[Any], path: Path, number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    program = start("obey", path)
    assert ask(program, "claim") == "a"
    child = int(ask(program, "fork"))
    os.kill(child, number)
    deadline = time.monotonic() + PATIENCE
    while "zombie" not in Path(f"/proc/{child}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.002)
    assert finish(tracker) == list("bcdef")
    assert ask(program, "done") == "done"
    assert tries(path) == dict.fromkeys("abcdef", 1)
    capfd.readouterr()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_workers_of_a_pool_claim_for_themselves(tracker: Tracker[Any], path: Path, method: str) -> None:
    """By a tracker that comes along with each job, or with one of their own."""
    context = multiprocessing.get_context(method)
    mine = claimed(tracker)
    for with_tracker in (True, False):
        tracker.add_many(range(10 * with_tracker, 10 * with_tracker + 10))
        with context.Pool(2, initializer=programs.open_in_worker, initargs=(str(path),)) as pool:
            claim = functools.partial(programs.claim_in_pool, tracker if with_tracker else None)
            found = pool.map_async(claim, range(20), chunksize=1).get(PATIENCE)
            pool.close()
            pool.join()
        assert os.getpid() not in [pid for _, pid in found]
    tracker.refresh()
    assert tracker.counts()[:4] == (26, 25, 0, 1)
    mine.done()
    assert set(tries(path).values()) == {1}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_what_the_workers_of_a_pool_have_claimed_is_given_back_when_they_end(
    tracker: Tracker[Any], path: Path, method: str
) -> None:
    with multiprocessing.get_context(method).Pool(
        2, initializer=programs.open_in_worker, initargs=(str(path),)
    ) as pool:
        found = pool.map_async(programs.claim_and_stay, range(4), chunksize=1).get(PATIENCE)
        assert sorted(found) == [*"abcd"]
        pool.close()
        pool.join()
    assert leftovers(path) == {}
    assert tries(path) == {}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_what_a_process_has_claimed_is_given_back_when_it_is_terminated(
    tracker: Tracker[Any], path: Path, method: str
) -> None:
    context: Any = multiprocessing.get_context(method)
    keys = context.SimpleQueue()
    crowd = [context.Process(target=programs.claim_and_wait, args=(str(path), keys)) for _ in range(2)]
    for process in crowd:
        process.start()
    assert sorted(keys.get() for _ in crowd) == ["a", "b"]
    for process in crowd:
        process.terminate()
        process.join(PATIENCE)
    assert [process.exitcode for process in crowd] == [-signal.SIGTERM] * 2
    assert leftovers(path) == {}
    assert tries(path) == {}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_takes_sigterm_only_while_it_has_claimed_something(tracker: Tracker[Any], method: str) -> None:
    """A pool that terminates it sends SIGTERM once, which a worker must not miss that waits for its next job."""
    with multiprocessing.get_context(method).Pool(1) as pool:
        for _ in range(2):
            assert pool.apply_async(programs.look_at_sigterm, (tracker,)).get(PATIENCE) == [False, True, False]
        pool.close()
        pool.join()
