"""What the commands of `tastypy` have in common: the parser, exit codes, and kinds of arguments. No command is in here."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn, TypeAlias

DONE, PROBLEMS, IMPOSSIBLE, INTERRUPTED = 0, 1, 2, 130
_DAY = 86400  # seconds

EXIT_CODES = """\
exit codes:
  0    done, and all is well
  1    done, but there are problems; they are printed
  2    it could not be done; one line on standard error says why
  130  stopped by Ctrl-C
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and exit with `IMPOSSIBLE`."""

    flags_first = False  # whether flags, options without a value, may stand between positional arguments

    def error(self, message: str) -> NoReturn:
        """Exit; `message` says what is wrong with the arguments."""
        self.exit(IMPOSSIBLE, f"{self.prog}: {message}; {self.prog} --help tells more\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as always, with the flags put first: argparse has no place for the KEYs in `PATH --failed KEY`."""
        if self.flags_first:
            end = args.index("--") if "--" in args else len(args)
            flags = [one for one in args[:end] if one.startswith("-")]
            rest = [one for one in args[:end] if not one.startswith("-")]
            args = [*flags, "--", *rest, *args[end + 1 :]]
        return super().parse_known_args(args, namespace)


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 - what `add_subparsers` returns has no public name


def command(commands: Commands, name: str, summary: str, description: str, more: str = "") -> Parser:
    """Add a command whose help has these texts, and whose errors end with one line; return its parser."""
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{description}",
        epilog=more + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def positive(text: str) -> int:
    """Read an integer of 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def count_of_tries(text: str) -> int:
    """Read an integer of 0 or more."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is less than 0")
    return number


def seconds(text: str) -> float:
    """Read a number of seconds, above 0 and up to a day."""
    number = float(text)
    if not 0 < number <= _DAY:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0 and at most {_DAY}")
    return number
