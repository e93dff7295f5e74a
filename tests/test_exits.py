"""How a process may end, and what is on the disk then: exit, exception, signals, kills, garbage collection, threads."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers import PATIENCE, Opener, end, exactly, hear, run, start, stored, tell

from tastypy import POD

BOTH = {"assigned": 1, "held": 2}


@pytest.mark.parametrize(("ending", "status"), [("return", 0), ("exit", 3), ("thread", 0)])
def test_what_is_held_is_written_at_exit(path: Path, ending: str, status: int) -> None:
    assert run("hold_and", ending, path) == status
    assert stored(path) == BOTH


def test_what_is_held_is_written_after_an_uncaught_exception(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """And the exception is shown as ever."""
    assert run("hold_and", "raise", path) == 1
    assert stored(path) == BOTH
    assert "LookupError: uncaught" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_is_held_is_written_at_a_signal_that_then_ends_the_process(path: Path, number: signal.Signals) -> None:
    """The parent sees that a signal ended it, as without a POD."""
    program = start("hold_and", "wait", path)
    assert hear(program) == "ready"
    assert stored(path) == {"assigned": 1}
    program.send_signal(number)
    assert end(program) == -number
    assert stored(path) == BOTH


def test_a_programs_own_signal_handler_is_left_alone(path: Path) -> None:
    program = start("hold_and", "own handler", path)
    assert hear(program) == "ready"
    program.send_signal(signal.SIGTERM)
    assert end(program) == 7
    assert stored(path) == BOTH


def test_sigterm_is_seen_to_though_a_thread_was_the_first_to_hold_something(path: Path) -> None:
    """Only the main thread may set a signal's handler; it does so at its own first held change."""
    program = start("hold_and", "after a thread", path)
    assert hear(program) == "ready"
    program.send_signal(signal.SIGTERM)
    assert end(program) == -signal.SIGTERM
    assert stored(path) == BOTH
    assert stored(f"{path}.other") == {"held": 2}


def test_a_kill_loses_what_is_held_and_nothing_else(path: Path) -> None:
    program = start("hold_and", "wait", path)
    assert hear(program) == "ready"
    program.kill()
    assert end(program) == -signal.SIGKILL
    assert stored(path) == {"assigned": 1}
    with POD[str, int](path) as pod:
        assert pod.check() == []


def test_a_signal_inside_a_transaction_drops_it_and_writes_what_was_held(path: Path) -> None:
    program = start("hold_and", "in a transaction", path)
    assert hear(program) == "ready"
    program.send_signal(signal.SIGTERM)
    assert end(program) == -signal.SIGTERM
    assert stored(path) == BOTH


def test_a_pod_with_held_changes_that_is_garbage_is_written_all_the_same(path: Path) -> None:
    program = start("hold_and", "garbage", path)
    assert hear(program) == "collected"
    tell(program)
    assert end(program) == 0
    assert stored(path) == BOTH


def test_what_other_exit_functions_change_is_written_too(path: Path) -> None:
    assert run("hold_and", "atexit", path) == 0
    assert stored(path) == {**BOTH, "registered": 3}


def test_what_a_thread_held_is_written_at_exit(path: Path) -> None:
    assert run("hold_without_main_guard", path) == 0
    assert stored(path) == {"held": 2}


@pytest.mark.parametrize("options", ["", "sync", "sync gzipped"])
@pytest.mark.parametrize("after", [1, 7, 40])
def test_everything_acknowledged_survives_a_kill_at_any_moment(
    path: Path, opened: Opener, options: str, after: int
) -> None:
    """A SIGKILL in the middle of commits and folds loses at most the assignment that had not returned."""
    program = start("assign_and_say", path, options)
    said = -1
    assert hear(program) == "ready"
    while said < after:
        said = int(hear(program))
    program.kill()
    while line := hear(program):
        said = int(line)
    assert end(program) == -signal.SIGKILL
    found = stored(path)
    expected = {number: "x" * (number % 50) for number in range(len(found))}
    assert exactly(found) == exactly(expected)
    assert said + 1 <= len(found) <= said + 2
    pod = opened()
    pod["next"] = "writer"
    assert pod.check() == []
    pod.sync()
    assert exactly(stored(path)) == exactly({**expected, "next": "writer"})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("after", [1, 20, 21, 22, 23])
def test_a_signal_in_the_middle_of_commits_loses_nothing_acknowledged(
    path: Path, number: signal.Signals, after: int
) -> None:
    program = start("count_until_terminated", path)
    assert hear(program) == "ready"
    said = 0
    while said < after:
        said = int(hear(program))
    program.send_signal(number)
    while (line := hear(program)).isdigit():
        said = int(line)
    assert end(program) == -number
    found = stored(path)
    assert found["held"] == 1
    assert said <= found["committed"] <= said + 1


def test_an_interrupt_at_any_moment_leaves_the_pod_usable_and_equal_to_the_disk(path: Path) -> None:
    """Ctrl-C is caught in notebooks and servers, and work goes on with the same POD."""
    program = start("interrupt_often", path, 600)
    assert hear(program) == "sound"
    assert end(program) == 0


def test_the_lock_of_a_killed_process_is_free_at_once(path: Path, opened: Opener) -> None:
    """And its transaction never happened."""
    program = start("stand_in_transaction", path)
    assert hear(program) == "inside"
    program.kill()
    assert end(program) == -signal.SIGKILL
    pod = opened(timeout=5)
    pod["next"] = 1
    assert stored(path) == {"next": 1}


# -------------------------------------------------------------------------------------------------------------- threads


def run_threads(bodies: list[Any]) -> None:
    """Run each body in a thread, all beginning at the same moment; their exceptions are raised here."""
    barrier, failed = threading.Barrier(len(bodies)), []

    def body_of(body: Any) -> None:
        barrier.wait(PATIENCE)
        try:
            body()
        except BaseException as error:  # raised again in the main thread
            failed.append(error)

    threads = [threading.Thread(target=body_of, args=(body,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a deadlock"
    for error in failed:
        raise error


def test_threads_share_a_pod(pod: POD[Any, Any]) -> None:
    def assign(first: int) -> None:
        for number in range(first, first + 100):
            pod[number] = number
            pod.incr("n")

    run_threads([lambda first=first: assign(first) for first in range(0, 800, 100)])
    assert pod["n"] == 800
    assert {key for key in pod if key != "n"} == set(range(800))
    assert exactly(stored(pod.path)) == exactly(pod)


def test_threads_share_a_directory_through_pods_of_their_own(opened: Opener) -> None:
    """PODs of one process exclude each other's threads, though they share a lock's descriptor."""
    pods = [opened() for _ in range(4)]
    pods[0]["n"] = 0

    def add(pod: POD[Any, Any]) -> None:
        for _ in range(100):
            with pod.transaction():
                pod["n"] += 1

    run_threads([lambda pod=pod: add(pod) for pod in pods])
    assert stored(pods[0].path) == {"n": 400}


def test_threads_may_iterate_sync_and_hold_while_others_write(pod: POD[Any, Any]) -> None:
    done = threading.Event()

    def write() -> None:
        for number in range(300):
            pod[number] = number
            if number % 3 == 0:
                pod.pop(number // 2, None)
        done.set()

    def read() -> None:
        while not done.is_set():
            for key, value in pod.items():
                assert key == value
            assert len(list(pod)) <= 300

    def synchronise() -> None:
        while not done.is_set():
            with pod.hold():
                pod.refresh()
            pod.sync()

    run_threads([write, read, read, synchronise])
    pod.sync()
    assert exactly(stored(pod.path)) == exactly(pod)
    assert not pod.dirty()


def test_two_pods_of_one_directory_in_one_process_see_each_other(opened: Opener) -> None:
    one, two = opened(), opened()
    one["a"] = 1
    two["b"] = 2
    assert two == {"a": 1, "b": 2}
    one.refresh()
    assert one == two
    one.close()
    two["c"] = 3
    assert stored(two.path) == {"a": 1, "b": 2, "c": 3}
