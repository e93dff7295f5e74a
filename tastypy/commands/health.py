"""`tastypy check` and `repair`: what is wrong with the files of a POD."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tastypy.commands.output import json_object
from tastypy.commands.parsing import DONE, PROBLEMS, Commands, add_json, add_path, add_timeout, command
from tastypy.pod import check, repair, require

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable


def add(commands: Commands) -> None:
    """Add `check` and `repair`."""
    parser = command(
        commands,
        "check",
        "read every file of a POD and print what is wrong",
        """\
Changes nothing, and takes no lock. If there is nothing wrong, the exit code is 0.

  tastypy check results.pod
  tastypy check results.pod || tastypy repair results.pod
""",
        """\
--json prints one object, in one line: path, and problems, a list of texts.

""",
    )
    add_path(parser)
    add_json(parser)
    parser.set_defaults(run=_check)
    parser = command(
        commands,
        "repair",
        "set damaged files of a POD aside and keep the rest",
        """\
Prints what was done. What cannot be read is not deleted but set aside, in files named aside-*; they count as problems
until you have looked at them and removed them.

  tastypy repair results.pod
  ls results.pod/aside-*
""",
        """\
--json prints one object, in one line: path, done, and what is left, both lists of texts.

""",
    )
    add_path(parser)
    add_json(parser)
    add_timeout(parser)
    parser.set_defaults(run=_repair)


def _check(options: argparse.Namespace) -> int:
    problems = check(options.path)
    if options.json:
        print(json_object(require(options.path), problems=problems))
    else:
        _print(problems)
        print(f"{options.path}: {_count(problems)}")
    return PROBLEMS if problems else DONE


def _repair(options: argparse.Namespace) -> int:
    done = repair(options.path, timeout=options.timeout)
    left = check(options.path)
    if options.json:
        print(json_object(require(options.path), done=done, left=left))
    else:
        _print(done)
        if not done:
            print(f"{options.path}: nothing to repair")
        _print(f"left: {problem}" for problem in left)
    return PROBLEMS if left else DONE


def _print(lines: Iterable[str]) -> None:
    from tastypy.screen import printable  # noqa: PLC0415 - of no use where there is nothing to say

    for line in lines:
        print(printable(line))


def _count(problems: list[str]) -> str:
    return "no problem" if not problems else "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
