"""Break copies of the library, one change at a time, and see that each breakage is caught by a command of this directory.

A breakage is a patch: one text in one file that is replaced by another. The command that is to catch it runs on the broken copy
and has to end with exit status 1 and the word WRONG. Without --quick each command also runs on a copy that is not broken,
and has to find nothing there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from stress.command import Trial, WrongError, command

_ROOT = Path(__file__).parents[1]
_PATIENCE = 120  # seconds that a command may take


class Breakage(NamedTuple):
    """A change that must be caught: in a file of the package, `old` becomes `new`; and the command that catches it."""

    what: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]


BREAKAGES: dict[str, Breakage] = {}


def _copy(place: Path, breakage: Breakage | None) -> Path:
    """Make a copy of the package and of these commands, broken or not."""
    for name in ("tastypy", "stress"):
        shutil.copytree(_ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    if breakage:
        file = place / "tastypy" / breakage.file
        text = file.read_text()
        if text.count(breakage.old) != 1:
            message = (
                f"{breakage.file} has changed: it holds {text.count(breakage.old)} times {breakage.old!r}, not once"
            )
            raise WrongError(message)
        file.write_text(text.replace(breakage.old, breakage.new))
    return place


def _run(place: Path, arguments: tuple[str, ...]) -> tuple[int, str]:
    """Run a command of the copy; return its exit status and what it printed."""
    scratch = place / "data"
    scratch.mkdir()
    module, *rest = arguments
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"stress.{module}", "--dir", str(scratch), *rest],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(place)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{' '.join(arguments)} has not ended after {_PATIENCE} s"
        raise WrongError(message) from error
    return done.returncode, done.stdout


def _judge(place: Path, breakage: Breakage) -> None:
    status, told = _run(_copy(place, breakage), breakage.caught_by)
    if status != 1 or "\nWRONG" not in told:
        message = f"{breakage.what}: not caught by {' '.join(breakage.caught_by)}, status {status}\n{told[-2000:]}"
        raise WrongError(message)


def _judge_sound(place: Path, arguments: tuple[str, ...]) -> None:
    status, told = _run(_copy(place, None), arguments)
    if status:
        message = (
            f"{' '.join(arguments)} finds something in a library that is not broken, status {status}\n{told[-2000:]}"
        )
        raise WrongError(message)


def _break_all(trial: Trial) -> None:
    wanted = [breakage for name, breakage in BREAKAGES.items() if trial.wants(name)]
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        with trial.part("broken on purpose") as figures:
            for _ in executor.map(_judge, [trial.path() for _ in wanted], wanted):
                figures["caught"] += 1
        if not trial.quick:
            commands = {one.caught_by for one in wanted}
            with trial.part("not broken") as figures:
                for _ in executor.map(_judge_sound, [trial.path() for _ in commands], commands):
                    figures["without a finding"] += 1


if __name__ == "__main__":
    sys.exit(command("broken", __doc__, _break_all, seconds=0, quick=0, parts=[*BREAKAGES]))
