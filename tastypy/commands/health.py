"""`tastypy check` and `repair`: what is wrong with the files of a POD."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tastypy import check, repair
from tastypy.commands.parsing import DONE, PROBLEMS, Commands, command

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable


def add(commands: Commands) -> None:
    """Add `check` and `repair`."""
    parser = command(commands, "check", "read every file of a POD and print what is wrong", "Changes nothing.")
    parser.add_argument("path", metavar="PATH", help="the POD's directory")
    parser.set_defaults(run=_check)
    parser = command(
        commands,
        "repair",
        "set damaged files of a POD aside and keep the rest",
        """\
Prints what was done. What cannot be read is not deleted but set aside, in files named aside-*; they count as problems
until you have looked at them and removed them.
""",
    )
    parser.add_argument("path", metavar="PATH", help="the POD's directory")
    parser.set_defaults(run=_repair)


def _check(options: argparse.Namespace) -> int:
    problems = check(options.path)
    _print(problems)
    print(f"{options.path}: {_count(problems)}")
    return PROBLEMS if problems else DONE


def _repair(options: argparse.Namespace) -> int:
    done = repair(options.path)
    _print(done)
    if not done:
        print(f"{options.path}: nothing to repair")
    left = check(options.path)
    _print(f"left: {problem}" for problem in left)
    return PROBLEMS if left else DONE


def _print(lines: Iterable[str]) -> None:
    from tastypy.screen import printable  # noqa: PLC0415 - of no use where there is nothing to say

    for line in lines:
        print(printable(line))


def _count(problems: list[str]) -> str:
    return "no problem" if not problems else "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
