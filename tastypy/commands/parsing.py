"""What the commands of `tastypy` have in common: the parser, exit codes, and kinds of arguments. No command is in here."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from itertools import islice
from typing import Any, NoReturn, TypeAlias

DONE, PROBLEMS, IMPOSSIBLE, INTERRUPTED, UNHEARD = 0, 1, 2, 130, 141
_DAY = 86400  # seconds
_NEGATIVE = re.compile(r"-\d*\.?\d+([eE][+-]?\d+)?")  # a number, and no option
_DASHES = "\0--"  # stands for a -- that is meant: no argument of a process has a NUL

EXIT_CODES = """\
exit codes:
  0    done, and all is well
  1    there are problems, or no such key; they are printed
  2    it could not be done; one line on standard error says why
  130  stopped by Ctrl-C
  141  whoever read the output has gone, as in `tastypy keys PATH | head`
"""


class Help(argparse.HelpFormatter):
    """Fits prose and descriptions of fields to the width of the terminal; examples, which are indented, stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in fitted_help(text, min(width, 110)))


def fitted_help(text: str, width: int) -> list[str]:
    """Return the lines of a help's text, those of a paragraph joined and wrapped anew.

    A description begins with a few blanks, a name and two more, and may go on in lines that are indented further.
    """
    found = _PART.findall(text)
    lines: list[str] = []
    for part in found:
        field = _FIELD.match(part)
        if part[0] != " " and part[0] != "\n":
            lines += textwrap.wrap(part, width, break_long_words=False, break_on_hyphens=False)
        elif field and len(field[0]) < width // 2:
            body = " ".join(part[field.end() :].split())
            margin = " " * len(field[0])
            lines += textwrap.wrap(
                body,
                width,
                initial_indent=field[0],
                subsequent_indent=margin,
                break_long_words=False,
                break_on_hyphens=False,
            )
        else:
            lines += part.rstrip("\n").split("\n")
    return lines


# a row of lines without an indent, an indented one with those that are indented further, or an empty one
_PART = re.compile(r"(?:^\S.*\n?)+|^ +\S.*\n?(?:^ {8,}\S.*\n?)*|^\n", re.MULTILINE)
_FIELD = re.compile(r" {2,6}\S+(?: \S+)* {2,}(?![#\s])")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and exit with `IMPOSSIBLE`."""

    options_first = False  # options may stand between positional arguments, and behind a -- these may be anything

    def error(self, message: str) -> NoReturn:
        """Exit; `message` says what is wrong with the arguments."""
        self.exit(IMPOSSIBLE, f"{self.prog}: {message.replace(_DASHES, '--')}; {self.prog} --help tells more\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as always, with the options put first: argparse has no place for the second KEY in `PATH KEY --raw KEY`.

        And of the arguments of each positional one it takes a `--` away, up to Python 3.12.4.
        """
        if self.options_first:
            end = args.index("--") if "--" in args else len(args)
            options, rest = [], []
            remaining = iter(args[:end])
            for one in remaining:
                if not one.startswith("-") or one == "-" or _NEGATIVE.fullmatch(one):
                    rest.append(one)
                    continue
                options.append(one)
                begin, equals, _ = one.partition("=")
                known = {action for name, action in self._option_string_actions.items() if name.startswith(begin)}
                if not known:
                    self.error(f"there is no option {one}; what begins with a dash and is none stands behind --")
                if not equals and {action.nargs for action in known} == {None}:  # the next one is its value
                    options.extend(islice(remaining, 1))
            args = [*options, "--", *rest, *(_DASHES if one == "--" else one for one in args[end + 1 :])]
        return super().parse_known_args(args, namespace)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        return super()._get_value(action, "--" if arg_string == _DASHES else arg_string)


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 - what `add_subparsers` returns has no public name


def command(commands: Commands, name: str, summary: str, description: str, more: str = "") -> Parser:
    """Add a command whose help has these texts, and whose errors end with one line; return its parser."""
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{description}",
        epilog=more + EXIT_CODES,
        formatter_class=Help,
    )


def add_path(parser: argparse.ArgumentParser, what: str = "the POD's directory") -> None:
    """Add PATH, which completion of a shell knows by its name."""
    parser.add_argument("path", metavar="PATH", type=place, help=what)


def add_json(parser: argparse.ArgumentParser, what: str = "print all of it as JSON, for scripts") -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help=what)


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """Add `--timeout`, to the commands that change something."""
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=300.0,
        metavar="SECONDS",
        help="how long to wait for others, who may have the lock (default: 300)",
    )


def place(text: str) -> str:
    """Read a path, which is not empty."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return text


def _number(kind: type[int | float], text: str) -> float:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no {'integer' if kind is int else 'number'}") from None


def positive(text: str) -> int:
    """Read an integer of 1 or more."""
    number = int(_number(int, text))
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return min(number, sys.maxsize)  # `islice` and others take no more


def not_negative(text: str) -> int:
    """Read an integer of 0 or more."""
    number = int(_number(int, text))
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is less than 0")
    return min(number, sys.maxsize)  # as above


def seconds(text: str) -> float:
    """Read a number of seconds, above 0 and up to a day."""
    number = _number(float, text)
    if not 0 < number <= _DAY:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0 and at most {_DAY}")
    return number
