"""Claims of real processes: what is left of them when they are killed, stopped, ended, forked; pools; a changed clock."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import end, hear, stored, tell
from tracker_programs import ask, claimed, finish, kill, start, worker_files

from tastypy import ClaimLost, Tracker

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


def claims_left(path: Path) -> list[str]:
    """The tasks that are claimed on the disk, by whoever."""
    return [key for key, entry in stored(path).items() if "_claim" in entry]


# ----------------------------------------------------------------------------------------------------------- killed, stopped


@pytest.mark.parametrize("word", ["claim", "sleep_inside"])
def test_a_killed_workers_task_is_free_at_once_and_costs_a_try(tracker: Tracker[Any], path: Path, word: str) -> None:
    program = start("obey", path)
    assert ask(program, "claim") == "a"
    if word == "sleep_inside":
        assert ask(program, word) == "inside"
    kill(program)
    assert sorted(finish(tracker)) == list("abcdef")
    assert tries(path) == {**dict.fromkeys("bcdef", 1), "a": 2}
    assert len(worker_files(path)) == 1


def test_what_killed_a_worker_is_named_until_the_task_succeeds(tracker: Tracker[Any], path: Path) -> None:
    program = start("obey", path)
    assert ask(program, "claim") == "a"
    kill(program)
    claimed(tracker)
    tracker.refresh()
    assert f"its worker died on {os.uname().nodename}" in tracker["a"]["_error"]
    assert tracker["a"]["_worker"] == f"{os.uname().nodename}:{program.pid}"


def test_a_killed_workers_task_is_found_though_others_seemed_to_be_open(tracker: Tracker[Any], path: Path) -> None:
    """A loop that does not wait must not end as long as there is something to be had."""
    for key in "abcd":
        tracker.mark_done(key)
    claimed(tracker).done()  # e; dead workers were looked for just now, and f is known to be open
    program = start("obey", path)
    assert ask(program, "claim") == "f"
    kill(program)
    assert finish(tracker) == ["f"]
    assert tracker.tries("f") == 2


@pytest.mark.parametrize("ended", [0, 1, 2])
def test_of_a_killed_workers_batch_the_task_in_hand_costs_a_try_and_the_others_nothing(
    tracker: Tracker[Any], path: Path, ended: int
) -> None:
    program = start("obey", path)
    assert ask(program, "loop_over 4") == "begun"
    for key in "abcd"[:ended]:
        assert ask(program, "step") == key
        assert ask(program, "done") == "done"
    assert ask(program, "step") == "abcd"[ended]
    kill(program)
    assert sorted(finish(tracker)) == list("abcdef")[ended:]
    assert tries(path) == {**dict.fromkeys("abcdef", 1), "abcd"[ended]: 2}


def test_of_a_killed_workers_batch_all_that_were_in_hand_cost_a_try(tracker: Tracker[Any], path: Path) -> None:
    program = start("obey", path)
    ask(program, "loop_over 4")
    assert [ask(program, "step") for _ in range(2)] == ["a", "b"]
    kill(program)
    finish(tracker)
    assert tries(path) == {"a": 2, "b": 2, "c": 1, "d": 1, "e": 1, "f": 1}


def test_a_batch_between_two_tasks_costs_nothing(tracker: Tracker[Any], path: Path) -> None:
    program = start("obey", path)
    ask(program, "loop_over 4")
    assert ask(program, "step") == "a"
    assert ask(program, "done") == "done"
    kill(program)
    assert sorted(finish(tracker)) == list("bcdef")
    assert tries(path) == dict.fromkeys("abcdef", 1)


def test_a_task_that_keeps_killing_its_workers_is_given_up_and_the_others_are_finished(path: Path) -> None:
    with Tracker[Any](path, max_tries=3) as tracker:
        tracker.add_many(["poison", "b", "c"])
        for _ in range(3):
            program = start("obey", path, 3)
            while ask(program, "claim") != "poison":
                ask(program, "done")
            kill(program)
        assert finish(tracker) == []
        assert tracker.counts()[:6] == (3, 2, 0, 0, 1, 0)
        assert tracker.tries("poison") == 3


def test_a_task_that_was_marked_done_costs_its_killed_worker_nothing(tracker: Tracker[Any], path: Path) -> None:
    program = start("obey", path)
    assert ask(program, "claim") == "a"
    tracker.mark_done("a")
    kill(program)
    assert finish(tracker) == list("bcdef")
    entry = stored(path)["a"]
    assert (entry["_done"], entry["_tries"], "_claim" in entry) == (True, 0, False)


@pytest.mark.parametrize("mark", ["mark_done", "abort", "give up"])
def test_a_killed_workers_last_task_that_nobody_may_have_is_released_all_the_same(path: Path, mark: str) -> None:
    with Tracker[Any](path, max_tries=1) as tracker:
        tracker.add("a")
        program = start("obey", path)
        assert ask(program, "claim") == "a"
        if mark != "give up":
            getattr(tracker, mark)("a")
        kill(program)
        assert tracker.claim() is None
        assert claims_left(path) == []
        assert tracker.tries("a") == (0 if mark == "mark_done" else 1)


def test_a_stopped_worker_keeps_its_task(tracker: Tracker[Any], path: Path) -> None:
    """Whether it goes on again cannot be known."""
    program = start("obey", path)
    assert ask(program, "claim") == "a"
    program.send_signal(signal.SIGSTOP)
    try:
        assert finish(tracker) == list("bcdef")
        time.sleep(0.6)  # longer than the pause between looks for the dead
        assert tracker.claim() is None
    finally:
        program.send_signal(signal.SIGCONT)
    assert ask(program, "done") == "done"
    assert tries(path) == dict.fromkeys("abcdef", 1)


def test_many_workers_that_are_killed_at_once_are_all_taken_over_by_one(tracker: Tracker[Any], path: Path) -> None:
    crowd = [start("obey", path) for _ in range(5)]
    assert sorted(ask(program, "claim") for program in crowd) == list("abcde")
    for program in crowd:
        kill(program)
    assert sorted(finish(tracker)) == list("abcdef")
    assert tries(path) == {**dict.fromkeys("abcde", 2), "f": 1}
    assert len(worker_files(path)) == 1


# ------------------------------------------------------------------------------------------------------------- other ends


@pytest.mark.parametrize(
    ("word", "status"), [("exit", 3), ("exit_inside", 3), ("raise_outside", 1), ("close", 0), ("", 0)]
)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_worker_that_ends_by_itself_gives_its_tasks_back_without_a_try(
    tracker: Tracker[Any], path: Path, word: str, status: int, batch: int, capfd: pytest.CaptureFixture[str]
) -> None:
    program = start("obey", path)
    ask(program, f"loop_over {batch}")
    assert ask(program, "step") == "a"
    if word:
        tell(program, word)
    assert end(program) == status
    assert claims_left(path) == []
    assert tries(path) == {}
    capfd.readouterr()


def test_an_uncaught_exception_in_the_block_is_the_tasks_own(
    tracker: Tracker[Any], path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = start("obey", path)
    ask(program, "loop_over 3")
    assert ask(program, "step") == "a"
    tell(program, "raise_inside")
    assert end(program) == 1
    assert claims_left(path) == []
    assert tries(path) == {"a": 1}
    assert stored(path)["a"]["_error"] == "LookupError: inside"
    capfd.readouterr()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("word", ["", "sleep_inside"])
def test_a_signal_that_ends_a_worker_gives_its_tasks_back_without_a_try(
    tracker: Tracker[Any], path: Path, word: str, number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    program = start("obey", path)
    ask(program, "loop_over 3")
    assert ask(program, "step") == "a"
    if word:
        assert ask(program, word) == "inside"
    program.send_signal(number)
    assert end(program) == -number
    assert claims_left(path) == []
    assert tries(path) == {}
    capfd.readouterr()


def test_a_handler_of_the_programs_own_decides_at_sigterm(tracker: Tracker[Any], path: Path) -> None:
    program = start("obey", path)
    assert ask(program, "handle_sigterm") == "handled"
    assert ask(program, "claim") == "a"
    assert ask(program, "sleep_inside") == "inside"
    program.send_signal(signal.SIGTERM)
    assert end(program) == 7
    assert claims_left(path) == []
    assert tries(path) == {}


# ------------------------------------------------------------------------------------------------------------------ together


def test_tasks_that_workers_add_are_found_by_all_of_them(path: Path) -> None:
    with Tracker[int](path) as tracker:
        tracker.add(1)
        crowd = [start("work_and_add", path, 64) for _ in range(3)]
        done = [[int(key) for key in hear(program).split()] for program in crowd]
        assert [end(program) for program in crowd] == [0, 0, 0]
        assert sorted(key for keys in done for key in keys) == [*range(1, 128)]
        assert tracker.refresh() >= {1, 127}
        assert tracker.counts().done == 127
        assert {entry["_tries"] for entry in tracker.values()} == {1}
    assert claims_left(path) == []


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_a_clock_that_jumps_changes_nothing(
    tracker: Tracker[Any], path: Path, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    living, dead = start("obey", path), start("obey", path)
    assert (ask(living, "claim"), ask(dead, "claim")) == ("a", "b")
    mine = claimed(tracker)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + jump)
    late = claimed(tracker)
    kill(dead)
    assert finish(tracker) == ["e", "f", "b"]
    time.sleep(0.6)  # longer than the pause between looks for the dead
    assert tracker.claim() is None
    mine.done()
    monkeypatch.undo()
    late.done()
    assert ask(living, "done") == "done"
    assert tries(path) == {**dict.fromkeys("acdef", 1), "b": 2}


def test_two_that_take_over_from_one_dead_worker_at_the_same_time_get_different_tasks(
    tracker: Tracker[Any], path: Path
) -> None:
    for key in "cdef":
        tracker.mark_done(key)
    for _ in range(2):
        dead = start("obey", path)
        ask(dead, "loop_over 2")
        ask(dead, "step")
        crowd = [start("obey", path) for _ in range(2)]
        for program in crowd:
            assert ask(program, "loop_over 1") == "begun"
        kill(dead)
        for program in crowd:
            tell(program, "step")
        found = [hear(program) for program in crowd]
        got = [key for key in found if key != "None"]
        assert len(set(got)) == len(got) >= 1
        for program, key in zip(crowd, found, strict=True):
            if key != "None":
                tell(program, "leave")
                assert hear(program) == "left"
            assert end(program) == 0
        assert claims_left(path) == []


def test_a_worker_that_was_taken_for_dead_cannot_end_what_another_one_has_now(
    tracker: Tracker[Any], path: Path
) -> None:
    """As on a host that was cut off for longer than its lease; here its file is removed by hand."""
    mine = claimed(tracker)
    (file,) = worker_files(path)
    file.unlink()
    program = start("obey", path)
    assert sorted(ask(program, "claim") for _ in range(6)) == list("abcdef")
    with pytest.raises(ClaimLost):
        mine.done()
    assert ask(program, "done") == "done"
