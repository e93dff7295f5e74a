"""The command `tastypy`: how it is parsed and run, and what it exits with. What it does is in `commands`."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TYPE_CHECKING

from tastypy import TastypyError, __version__
from tastypy.commands import (
    completion,
    demonstration,
    entries,
    exchange,
    health,
    history,
    hosts,
    pictures,
    storage,
    tasks,
)
from tastypy.commands.parsing import EXIT_CODES, IMPOSSIBLE, INTERRUPTED, UNHEARD, Help, Parser

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: those of this process) and return its exit code."""
    _prepare_output()
    try:
        code = _run(arguments)
    except BrokenPipeError:
        code = UNHEARD
    except KeyboardInterrupt:
        code = INTERRUPTED
    except (TastypyError, OSError) as error:
        code = IMPOSSIBLE
        print(f"tastypy: {_message(error)}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # so that the flush at exit does not fail as well
    return code


def _run(arguments: Sequence[str] | None) -> int:
    try:
        options = parser().parse_args(arguments)
        code: int = options.run(options)
    except SystemExit:  # as after --help
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return code


def _message(error: TastypyError | OSError) -> str:
    if isinstance(error, TastypyError):
        text = str(error)
    elif error.filename is None:  # nothing but a write to a stream comes without a name
        text = f"writing failed: {error.strerror or error}"
    else:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}"
    from tastypy.screen import printable  # noqa: PLC0415 - for errors only, and each command begins here

    return printable(text)


# --- the streams


def _prepare_output() -> None:
    """Have streams that are closed lead nowhere, and what the output's encoding lacks be escaped."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # `tastypy ... >&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - it is open until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error("tastypy", _escaped)
        sys.stdout.reconfigure(errors="tastypy")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""Write what a terminal's encoding lacks, or a file name has that is no text, as JSON does: `\u2603`."""
    import json  # noqa: PLC0415 - only where a terminal lacks a character

    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def parser() -> Parser:
    """Return the parser of the command line."""
    whole = Parser(
        prog="tastypy",
        description="A dict in a directory of JSON files that many processes may share, and no crash can hurt.",
        epilog=EXIT_CODES,
        formatter_class=Help,
    )
    whole.add_argument("--version", action="version", version=f"tastypy {__version__}")
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (demonstration, entries, storage, exchange, health, tasks, history, pictures, hosts):
        module.add(commands)
    completion.add(commands, whole)
    return whole
