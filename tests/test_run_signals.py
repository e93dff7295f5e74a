"""Ctrl-C, SIGTERM and SIGKILL to a program that runs: what is left behind, and what is not."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import end, hear, stored
from run_helpers import (
    PATIENCE,
    Gate,
    Program,
    assert_nothing_left,
    assert_untried,
    begun,
    is_there,
    rest,
    start_run,
    to_group,
    to_program,
    wait_until_gone,
)

from tastypy import Tracker, crew

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


# -------------------------------------------------------------------------------------------------------------- Ctrl-C


@pytest.mark.parametrize("send", [to_program, to_group])
@pytest.mark.parametrize("batch", [1, 2])
def test_ctrl_c_ends_all_workers_and_releases_their_tasks_as_if_never_tried(
    tasks: Path, gate: Gate, send: Callable[[Program, int], None], batch: int
) -> None:
    program = start_run(tasks, "wait_and_say", gate.path, workers=2, batch=batch)
    processes = begun(program, 2).values()
    send(program, signal.SIGINT)
    assert rest(program) == ["KeyboardInterrupt"]
    assert end(program, PATIENCE) == -signal.SIGINT
    assert not any(map(is_there, processes))
    assert_nothing_left(tasks)
    assert_untried(tasks)


@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c_ends_workers_whatever_the_start_method(tasks: Path, gate: Gate, method: str) -> None:
    program = start_run(tasks, "wait_and_say", gate.path, workers=2, method=method, options={"stderr": subprocess.PIPE})
    processes = begun(program, 2).values()
    to_group(program, signal.SIGINT)
    assert rest(program) == ["KeyboardInterrupt"]
    _, errors = program.communicate(timeout=PATIENCE)
    assert program.returncode == -signal.SIGINT
    assert errors.count(b"Traceback") == 1, "the program's own, and none of a worker"
    assert not any(map(is_there, processes))
    assert_nothing_left(tasks)
    assert_untried(tasks)


def test_what_is_done_before_ctrl_c_stays_done_and_the_next_run_does_the_rest(tasks: Path, gate: Gate) -> None:
    program = start_run(tasks, "wait_and_say", gate.path, workers=1)
    begun(program, 1)
    gate.let_through(1)
    assert hear(program, PATIENCE).startswith("ended 0")
    begun(program, 1)
    to_group(program, signal.SIGINT)
    assert rest(program) == ["KeyboardInterrupt"]
    assert [key for key, entry in stored(tasks).items() if entry["_done"]] == [0]
    gate.open()
    program = start_run(tasks, "wait_and_say", gate.path, workers=2)
    assert rest(program)[-1] == "summary 5 0 0"
    assert {entry["_tries"] for entry in stored(tasks).values()} == {1}
    assert_nothing_left(tasks)


def test_ctrl_c_does_not_count_as_a_failure_though_it_ends_what_the_function_had_started(tasks: Path) -> None:
    """A terminal sends it to all: the program that a task waits for ends, which the function takes for an error.

    Here the parent is late, as it may be on a busy machine.
    """
    program = start_run(tasks, "run_a_program", workers=2)
    begun(program, 2)
    wait_for_sleeping(program, 2)
    program.send_signal(signal.SIGSTOP)
    to_group(program, signal.SIGINT)
    wait_for_sleeping(program, 0)
    time.sleep(0.2)
    program.send_signal(signal.SIGCONT)
    assert rest(program) == ["KeyboardInterrupt"]
    assert_nothing_left(tasks)
    assert_untried(tasks)


def wait_for_sleeping(program: Program, number: int) -> None:
    """Wait until so many programs named sleep are in the group of the program."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = 0
        for process in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                name, _, fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")
                state, _, group = fields.split()[:3]
                found += name.endswith("(sleep") and int(group) == program.pid and state != "Z"
        if found == number:
            return
        time.sleep(0.005)
    raise AssertionError(f"there are not {number} of them")


def test_a_function_that_swallows_ctrl_c_ends_its_task_and_no_other_is_begun(tasks: Path, gate: Gate) -> None:
    program = start_run(tasks, "wait_whatever_comes", gate.path, workers=1)
    begun(program, 1)
    to_group(program, signal.SIGINT)
    assert rest(program) == ["swallowed 0", "KeyboardInterrupt"]
    assert [key for key, entry in stored(tasks).items() if entry["_done"]] == [0]
    assert_nothing_left(tasks)


def test_a_second_ctrl_c_kills_workers_that_do_not_let_go(tasks: Path, gate: Gate) -> None:
    program = start_run(tasks, "wait_though_terminated", gate.path, workers=2)
    processes = begun(program, 2)
    to_group(program, signal.SIGINT)
    assert [hear(program, PATIENCE) for _ in range(2)] == ["SIGTERM", "SIGTERM"]
    to_group(program, signal.SIGINT)
    assert rest(program) == ["KeyboardInterrupt"]
    assert end(program, PATIENCE) == -signal.SIGINT
    assert not any(map(is_there, processes.values()))
    with Tracker[int](tasks) as tracker:  # these were killed: whoever comes next finds it out
        assert tracker.counts().claimed == 2
        gate.open()
        assert tracker.run(str, workers=2).done == 6
        assert [tracker.tries(key) for key in range(6)] == [1 + (str(key) in processes) for key in range(6)]
    assert_nothing_left(tasks)


@pytest.mark.parametrize("fork", [1, 2, 3])
def test_ctrl_c_while_workers_are_being_started_ends_those_that_were(tasks: Path, gate: Gate, fork: int) -> None:
    program = start_run(tasks, "wait_and_say", gate.path, workers=3, at_fork=fork)
    said = rest(program)
    assert said[-1] == "KeyboardInterrupt"
    assert end(program, PATIENCE) == -signal.SIGINT
    assert_nothing_left(tasks)
    assert_untried(tasks)


def test_where_ctrl_c_is_ignored_neither_workers_nor_what_they_start_heed_it(tasks: Path) -> None:
    """So it is in programs that a shell script has put into the background, and under nohup."""
    options = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    program = start_run(tasks, "run_a_program", workers=2, options=options)
    begun(program, 2)
    wait_for_sleeping(program, 2)
    to_group(program, signal.SIGINT)
    assert program.stdout is not None
    assert select.select([program.stdout], [], [], 0.3) == ([], [], [])
    wait_for_sleeping(program, 2)
    to_group(program, signal.SIGTERM)
    assert rest(program) == []
    assert_untried(tasks)


# -------------------------------------------------------------------------------------------------------------- SIGTERM


@pytest.mark.parametrize("send", [to_program, to_group])
@pytest.mark.parametrize("batch", [1, 2])
def test_sigterm_ends_all_workers_releases_their_tasks_and_then_the_program(
    tasks: Path, gate: Gate, send: Callable[[Program, int], None], batch: int
) -> None:
    program = start_run(tasks, "wait_and_say", gate.path, workers=2, batch=batch)
    processes = begun(program, 2).values()
    send(program, signal.SIGTERM)
    assert rest(program) == []
    assert end(program, PATIENCE) == -signal.SIGTERM
    assert not any(map(is_there, processes))
    assert_untried(tasks)
    assert_nothing_left(tasks)


def test_a_second_sigterm_does_not_kill_workers_that_are_about_to_let_go(tasks: Path, gate: Gate) -> None:
    """A scheduler sends it to every process of a job, and the job's shell sends it on."""
    program = start_run(tasks, "wait_though_terminated", gate.path, workers=2)
    begun(program, 2)
    program.send_signal(signal.SIGTERM)
    assert [hear(program, PATIENCE) for _ in range(2)] == ["SIGTERM", "SIGTERM"]
    program.send_signal(signal.SIGTERM)
    assert program.stdout is not None
    assert select.select([program.stdout], [], [], 0.3) == ([], [], [])
    gate.open()
    assert sum(line.startswith("ended ") for line in rest(program)) == 6
    assert end(program, PATIENCE) == -signal.SIGTERM
    assert {(entry["_done"], entry["_tries"]) for entry in stored(tasks).values()} == {(True, 1)}
    assert_nothing_left(tasks)


def test_sigterm_writes_what_the_program_itself_holds(tasks: Path, gate: Gate) -> None:
    program = start_run(tasks, "wait_and_say", gate.path, workers=1, held=True)
    begun(program, 1)
    program.send_signal(signal.SIGTERM)
    assert rest(program) == []
    assert end(program, PATIENCE) == -signal.SIGTERM
    assert stored(f"{tasks}.other") == {"held": 1}
    assert_nothing_left(tasks)


def test_a_programs_own_handler_of_sigterm_decides(tasks: Path, gate: Gate) -> None:
    program = start_run(tasks, "wait_and_say", gate.path, workers=2, handler=True)
    begun(program, 2)
    program.send_signal(signal.SIGTERM)
    assert hear(program, PATIENCE) == "own handler"
    gate.open()
    said = rest(program)
    assert said[-1] == "summary 6 0 0"
    assert end(program, PATIENCE) == 0
    assert_nothing_left(tasks)


def test_a_worker_that_is_sent_sigterm_by_somebody_else_lets_go_and_is_replaced(tasks: Path, gate: Gate) -> None:
    program = start_run(tasks, "wait_and_say", gate.path, workers=1)
    ((key, process),) = begun(program, 1).items()
    os.kill(process, signal.SIGTERM)
    processes = begun(program, 1)
    gate.open()
    assert rest(program)[-1] == "summary 6 0 0"
    assert process not in processes.values()
    assert {entry["_tries"] for entry in stored(tasks).values()} == {1}
    assert_nothing_left(tasks)
    assert key == "0"


def test_a_terminal_that_is_closed_ends_all_and_releases_their_tasks(tasks: Path, gate: Gate) -> None:
    program = start_run(tasks, "wait_and_say", gate.path, workers=2, batch=2)
    processes = begun(program, 2).values()
    to_group(program, signal.SIGHUP)
    assert rest(program) == []
    assert end(program, PATIENCE) == -signal.SIGHUP
    wait_until_gone(processes)
    assert_untried(tasks)
    assert not [key for key, entry in stored(tasks).items() if "_claim" in entry]


def test_a_signal_handler_that_was_not_installed_from_python_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`signal.getsignal` gives None for it, and nothing can put it back."""
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("a handler was replaced"))
    with crew._undisturbed("spawn"):
        pass
