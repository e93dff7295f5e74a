"""What a run shows on a real terminal, without one, and in a notebook."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import end, hear
from run_helpers import PATIENCE, start, start_run

from tastypy import Tracker

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def screen() -> Iterator[tuple[int, int]]:
    """A terminal of 100 columns: the side of whoever looks at it, and that of the program."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    yield here, there
    os.close(here)
    os.close(there)


def seen(screen: int) -> str:
    """Everything that a program has written to a terminal, once it has ended."""
    text = b""
    while select.select([screen], [], [], 0.05)[0]:
        text += os.read(screen, 1 << 16)
    return text.decode()


def run_on(screen: tuple[int, int], path: Path, tmp_path: Path, **settings: Any) -> str:
    """Run a function that fails for odd keys, three times at most, and return what is on the terminal then."""
    with Tracker[int](path) as tracker:
        tracker.add_many(range(10))
        tracker.mark_done(0)
        tracker.mark_done(2)
    program = start_run(path, "fail_if_odd", tmp_path / "log", max_tries=3, options={"stderr": screen[1]}, **settings)
    assert hear(program, PATIENCE) == "summary 3 5 5"
    assert end(program, PATIENCE) == 0
    return seen(screen[0])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_run_on_a_terminal_draws_one_bar(screen: tuple[int, int], path: Path, tmp_path: Path, method: str) -> None:
    text = run_on(screen, path, tmp_path, method=method)
    assert text.count("\n") == 1, "and nothing else is printed"
    drawn = text.rstrip("\r\n").split("\r")
    assert "| 2/10 [" in drawn[1]
    assert drawn[-1].startswith("my.pod:  50%|")
    assert "| 5/10 [" in drawn[-1]
    assert drawn[-1].endswith("failed=5, retried=10]")
    assert 90 <= len(drawn[-1]) <= 100


def test_a_run_on_a_terminal_without_tqdm_prints_a_line_at_its_end(
    screen: tuple[int, int], path: Path, tmp_path: Path
) -> None:
    text = run_on(screen, path, tmp_path, without_tqdm=True)
    assert re.fullmatch(r"my\.pod: 5 of 10 done, 5 failed, 10 retried, [\d.]+/(s|min), \d+:\d\d left\r\n", text)


def test_a_run_on_a_terminal_that_is_told_to_be_silent_is(screen: tuple[int, int], path: Path, tmp_path: Path) -> None:
    assert run_on(screen, path, tmp_path, progress=False) == ""


def test_a_run_that_nobody_looks_at_prints_nothing(path: Path, tmp_path: Path) -> None:
    with Tracker[int](path) as tracker:
        tracker.add_many(range(10))
    with (tmp_path / "errors").open("w") as errors:
        program = start_run(path, "fail_if_odd", tmp_path / "log", max_tries=3, options={"stderr": errors})
    assert hear(program, PATIENCE) == "summary 5 5 5"
    assert hear(program, PATIENCE) == ""
    assert end(program, PATIENCE) == 0
    assert (tmp_path / "errors").read_text() == ""


def test_a_program_whose_standard_error_is_closed_can_run(path: Path, tmp_path: Path) -> None:
    """As daemons and cron jobs are started; Python has None for it then."""
    with Tracker[int](path) as tracker:
        tracker.add_many(range(4))
    program = start_run(path, "double", options={"preexec_fn": lambda: os.close(2)})
    assert hear(program, PATIENCE) == "summary 4 0 0"
    assert end(program, PATIENCE) == 0


# ------------------------------------------------------------------------------------------------------------- a notebook


def test_in_a_notebook_there_is_the_bar_of_the_notebook_though_there_is_no_terminal(path: Path) -> None:
    with Tracker[int](path) as tracker:
        tracker.add_many(range(4))
        tracker.mark_done(0)
    program = start("run_in_a_notebook", path, stderr=subprocess.DEVNULL)
    assert hear(program, PATIENCE) == "displayed 1"
    assert hear(program, PATIENCE) == "summary 3"
    assert hear(program, PATIENCE) == "bar 4 of 4"
    assert end(program, PATIENCE) == 0
