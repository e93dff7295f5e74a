"""The command `tastypy`: a demonstration, and the health of a POD. It stands on the public names of the package alone."""

from __future__ import annotations

import argparse
import io
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from tastypy import TastypyError, __version__, check, repair

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE, PROBLEMS, IMPOSSIBLE, INTERRUPTED = 0, 1, 2, 130

_EXIT_CODES = """\
exit codes:
  0    done, and all is well
  1    done, but there are problems; they are printed
  2    it could not be done; one line on standard error says why
  130  stopped by Ctrl-C
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(IMPOSSIBLE, f"{self.prog}: {message}; {self.prog} --help tells more\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: those of this process) and return its exit code."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may have bytes that are no text
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone: `tastypy demo | head`
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # so that the flush at exit does not fail as well
        return IMPOSSIBLE
    except KeyboardInterrupt:
        return INTERRUPTED
    except (TastypyError, OSError) as error:
        print(f"tastypy: {error}", file=sys.stderr)
        return IMPOSSIBLE
    return code


def _parser() -> _Parser:
    parser = _Parser(
        prog="tastypy",
        description="A dict in a directory of JSON files that many processes may share, and no crash can hurt.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tastypy {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    command = _command(
        commands,
        "demo",
        "watch processes share a POD, one of them get killed, and the work go on from what is stored",
        """\
Store the SHA-256 and the number of lines of every file below DIRECTORY in a POD that several worker processes share.
After a third of the work one of them is killed with SIGKILL, and everything stops. A second run starts from what is
stored and does the rest. Then every file's entry is looked for, and a sample of them computed again by other means.

A file that cannot be read gets an entry that says why. Symbolic links to directories are not followed; pipes, sockets
and devices are counted and left out. A name that is not UTF-8 gets the key ("bytes", its percent-encoding).
""",
    )
    command.add_argument(
        "directory", nargs="?", metavar="DIRECTORY", help="what to read (default: the standard library of this Python)"
    )
    command.add_argument(
        "--pod",
        metavar="PATH",
        help="where to put the POD; if it is there, go on with it (default: a new temporary directory)",
    )
    command.add_argument(
        "--workers", type=_positive, metavar="N", help="worker processes (default: one a CPU, at least 2, at most 8)"
    )
    command.set_defaults(run=_demo)
    command = _command(commands, "check", "read every file of a POD and print what is wrong", "Changes nothing.")
    command.add_argument("path", metavar="PATH", help="the POD's directory")
    command.set_defaults(run=_check)
    command = _command(
        commands,
        "repair",
        "set damaged files of a POD aside and keep the rest",
        """\
Prints what was done. What cannot be read is not deleted but set aside, in files named aside-*; they count as problems
until you have looked at them and removed them.
""",
    )
    command.add_argument("path", metavar="PATH", help="the POD's directory")
    command.set_defaults(run=_repair)
    return parser


def _command(
    commands: argparse._SubParsersAction[_Parser], name: str, summary: str, description: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{description}",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _demo(options: argparse.Namespace) -> int:
    from tastypy.demo import demo  # noqa: PLC0415 - `check` and `repair` need no multiprocessing

    return DONE if demo(options.directory, options.pod, options.workers) else PROBLEMS


def _check(options: argparse.Namespace) -> int:
    problems = check(options.path)
    for problem in problems:
        print(problem)
    print(f"{options.path}: {_count(problems)}")
    return PROBLEMS if problems else DONE


def _repair(options: argparse.Namespace) -> int:
    done = repair(options.path)
    for line in done:
        print(line)
    if not done:
        print(f"{options.path}: nothing to repair")
    left = check(options.path)
    for problem in left:
        print(f"left: {problem}")
    return PROBLEMS if left else DONE


def _count(problems: list[str]) -> str:
    return "no problem" if not problems else "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
