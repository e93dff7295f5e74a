"""Running `tastypy`: in this process, in one of its own, and in a shell."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tastypy import cli

TASTYPY = [sys.executable, "-m", "tastypy"]
PATIENCE = 60


class Told(NamedTuple):
    """What a command exits with, and what it prints."""

    code: int
    out: str
    err: str


Command = Callable[..., Told]


def in_process(capsys: pytest.CaptureFixture[str]) -> Command:
    """A function that runs the command in this process."""

    def tastypy(*arguments: object) -> Told:
        try:
            code = cli.main([*map(str, arguments)])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        return Told(code, *capsys.readouterr())

    return tastypy


def environment(**more: str) -> dict[str, str]:
    """That of a command that finds this package, and does not know of the terminal that the tests run on."""
    left_out = {"COLUMNS", "LINES", "NO_COLOR", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONUNBUFFERED"}
    clean = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**clean, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **more}


def alone(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [*TASTYPY, *map(str, arguments)]
    options = {"env": environment(), "capture_output": True, "text": True, **options}
    return subprocess.run(command, check=False, timeout=PATIENCE, **options)


def bash(script: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a script of bash in which `tastypy` is the command."""
    function = f'tastypy() {{ "{sys.executable}" -m tastypy "$@"; }}\n'
    options = {"env": environment(), "capture_output": True, "text": True, **options}
    return subprocess.run(["bash", "-c", function + script], check=False, timeout=PATIENCE, **options)


def commands() -> dict[str, argparse.ArgumentParser]:
    """All commands by their names, with their parsers."""
    (action,) = (one for one in cli.parser()._actions if isinstance(one, argparse._SubParsersAction))
    return dict(action.choices)
