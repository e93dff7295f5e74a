"""The command `tastypy`: how it is parsed and run, and what it exits with. What it does is in `commands`."""

from __future__ import annotations

import argparse
import io
import os
import sys
from typing import TYPE_CHECKING

from tastypy import TastypyError, __version__
from tastypy.commands import demonstration, health, hosts, tasks
from tastypy.commands.parsing import EXIT_CODES, IMPOSSIBLE, INTERRUPTED, Parser

if TYPE_CHECKING:
    from collections.abc import Sequence


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
        from tastypy.screen import printable  # noqa: PLC0415 - of no use where all is well

        print(f"tastypy: {printable(str(error))}", file=sys.stderr)
        return IMPOSSIBLE
    return code


def _parser() -> Parser:
    parser = Parser(
        prog="tastypy",
        description="A dict in a directory of JSON files that many processes may share, and no crash can hurt.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tastypy {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (demonstration, health, tasks, hosts):
        module.add(commands)
    return parser
