"""The ways in which workers are started, and those that cannot begin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import end, hear, stored
from run_helpers import PATIENCE, assert_nothing_left, called, filled, start, start_run

pytestmark = pytest.mark.timeout(60)

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    log = tmp_path / "log"
    log.touch()
    return log


@pytest.mark.parametrize("method", METHODS)
def test_it_runs_whatever_the_start_method(path: Path, log: Path, method: str) -> None:
    filled(path, 10).close()
    program = start_run(path, "put_down", log, method=method, workers=2, batch=2)
    assert hear(program, PATIENCE) == "summary 10 0 0"
    assert hear(program, PATIENCE) == ""
    assert end(program, PATIENCE) == 0
    assert sorted(called(log)) == [*"0123456789"]
    assert_nothing_left(path)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_an_error_comes_from_whatever_process_with_its_type_and_traceback(path: Path, method: str) -> None:
    filled(path, 2).close()
    program = start_run(path, "fail", method=method, workers=1, on_error="raise")
    assert hear(program, PATIENCE) == "ZeroDivisionError: no 0"
    assert end(program, PATIENCE) == 0
    assert stored(path)[0]["_error"] == "ZeroDivisionError: no 0"
    assert_nothing_left(path)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_function_that_cannot_be_pickled_is_refused_where_processes_are_not_forked(path: Path, method: str) -> None:
    filled(path, 2).close()
    program = start_run(path, "double", method=method, **{"lambda": True})
    said = hear(program, PATIENCE)
    assert said.startswith("WorkerError: ")
    assert "define it at the top of a module" in said
    assert end(program, PATIENCE) == 0
    assert {entry["_tries"] for entry in stored(path).values()} == {0}
    assert_nothing_left(path)


def test_a_tracker_that_cannot_be_pickled_is_refused_by_an_error_of_ours(path: Path) -> None:
    """Its `default=` is a lambda."""
    filled(path, 2).close()
    program = start_run(path, "double", method="spawn", default=True)
    said = hear(program, PATIENCE)
    assert said.startswith("WorkerError: ")
    assert "default" in said
    assert end(program, PATIENCE) == 0
    assert_nothing_left(path)


def script(tmp_path: Path, *lines: str) -> tuple[int, str]:
    """Run a program of its own file; its status and what it printed as errors."""
    file = tmp_path / "script.py"
    file.write_text("\n".join(lines))
    ended = subprocess.run([sys.executable, file], stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
    return ended.returncode, ended.stderr.decode()


SPAWNING = (
    "import multiprocessing, sys",
    "from tastypy import Tracker",
    "def double(key):",
    "    return 2 * key",
)


def test_a_program_that_spawned_workers_cannot_import_without_running_it_again_is_told_so(
    path: Path, tmp_path: Path
) -> None:
    filled(path, 2).close()
    status, errors = script(
        tmp_path,
        *SPAWNING,
        "multiprocessing.set_start_method('spawn', force=True)",
        f"Tracker({str(path)!r}).run(double, workers=2)",
    )
    assert status == 1
    assert "tastypy.errors.WorkerError" in errors
    assert 'start it under `if __name__ == "__main__":`' in errors
    assert {entry["_tries"] for entry in stored(path).values()} == {0}
    assert_nothing_left(path)


def test_a_function_that_the_workers_cannot_find_is_told_as_one_that_cannot_be_pickled(path: Path) -> None:
    """Pickle stores no more than its name: of a program from the command line, or a notebook, there is nothing to import."""
    filled(path, 2).close()
    program = [*SPAWNING, "multiprocessing.set_start_method('spawn')", f"Tracker({str(path)!r}).run(double, workers=1)"]
    ended = subprocess.run(
        [sys.executable, "-c", "\n".join(program)], stderr=subprocess.PIPE, timeout=PATIENCE, check=False
    )
    assert ended.returncode == 1
    last = ended.stderr.decode().splitlines()[-1]
    assert last.startswith("tastypy.errors.WorkerError: ")
    assert "define it at the top of a module" in last
    assert_nothing_left(path)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_that_die_before_they_begin_are_not_replaced_for_ever(path: Path, workers: int) -> None:
    filled(path, 2).close()
    program = start_run(path, "double", workers=workers, lost_at_fork=True)
    said = hear(program, PATIENCE)
    assert said.startswith("WorkerError: ")
    assert "ended with status 3 before it began" in said
    assert said.endswith('"__main__":`'), "and no worker is left"
    assert end(program, PATIENCE) == 0
    assert_nothing_left(path)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_that_the_program_starts_later_can_be_terminated(path: Path, method: str) -> None:
    """Whatever was blocked while workers were started: a process for good inherits it otherwise."""
    filled(path, 1).close()
    program = start("terminate_another_process", path, method)
    assert hear(program, PATIENCE) == "it ended with -15"
    assert end(program, PATIENCE) == 0
