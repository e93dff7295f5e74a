"""What tests of `run` share: the starting of programs, what holds their functions up, and what must not be left of them."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import helpers
from helpers import hear, stored

from tastypy import Tracker

PATIENCE = 15
"""Seconds after which a program that does not answer counts as hanging."""

PROGRAMS = Path(__file__).with_name("run_programs.py")
Program = subprocess.Popen[bytes]


def start(name: str, *arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    """Start a program of run_programs.py in a new interpreter, in a process group of its own, as a terminal would."""
    command = [sys.executable, str(PROGRAMS), name, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    options = {"stdout": subprocess.PIPE, "start_new_session": True, "env": environment, **options}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, **options)
    helpers._started.append(process)
    return process


def start_run(path: Path, function: str, *arguments: object, **settings: Any) -> subprocess.Popen[bytes]:
    """Start a program that calls `run` with a function of run_functions, its first arguments, and these settings."""
    options = settings.pop("options", {})
    return start(
        "run", path, function, json.dumps([str(argument) for argument in arguments]), json.dumps(settings), **options
    )


class Gate:
    """What functions wait at until they are let through."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR)

    def let_through(self, number: int) -> None:
        """Let so many through, of those who wait and those who come later."""
        os.write(self._descriptor, b"." * number)

    def open(self) -> None:
        """Let all through."""
        self.let_through(1000)

    def close(self) -> None:
        """Let through who is still there."""
        self.open()
        os.close(self._descriptor)


def begun(program: Program, number: int) -> dict[str, int]:
    """The tasks that workers begin, so many, with their processes."""
    lines = [hear(program, PATIENCE) for _ in range(number)]
    assert all(line.startswith("begun ") for line in lines), lines
    return {key: int(process) for _, key, process in map(str.split, lines)}


def rest(program: Program) -> list[str]:
    """What a program and its workers say until all of them have ended."""
    lines = []
    while line := hear(program, PATIENCE):
        lines.append(line)
    return lines


def is_there(process: int) -> bool:
    """Whether a process runs; one that has ended and waits to be noticed does not."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def assert_untried(path: Path) -> None:
    """Every task is as it was added."""
    states = {(entry["_done"], entry["_tries"], "_error" in entry) for entry in stored(path).values()}
    assert states == {(False, 0, False)}, states


def to_program(program: Program, number: int) -> None:
    program.send_signal(number)


def to_group(program: Program, number: int) -> None:
    """As a terminal does it: workers, and what they started, get it too."""
    os.killpg(program.pid, number)


def wait_until_gone(processes: Iterable[int]) -> None:
    """Wait until processes have ended whose end is not ours to be told."""
    left = [*processes]
    deadline = time.monotonic() + PATIENCE
    while any(map(is_there, left)):
        assert time.monotonic() < deadline, f"some of {left} are still there"
        time.sleep(0.005)


def called(log: Path) -> list[str]:
    return [line.split()[0] for line in log.read_text().splitlines()]


def by_whom(log: Path) -> set[str]:
    return {line.split()[1] for line in log.read_text().splitlines()}


def assert_nothing_left(path: Path) -> None:
    """No process, no claim, and no file of a worker or of the run."""
    claimed = [key for key, entry in stored(path).items() if "_claim" in entry]
    files = [file.name for file in path.iterdir() if file.name.startswith("worker-") or file.suffix == ".tmp"]
    left = multiprocessing.active_children(), claimed, files
    assert left == ([], [], []), f"left are {left}"


def filled(path: Path, number: int, max_tries: int = 0) -> Tracker[int]:
    """A tracker with so many tasks."""
    tracker = Tracker[int](path, max_tries)
    tracker.add_many(range(number))
    return tracker
