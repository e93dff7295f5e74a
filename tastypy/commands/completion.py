"""`tastypy completion`: a script with which a shell completes the command."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from tastypy.commands.parsing import DONE, Commands, command
from tastypy.errors import MissingExtraError

if TYPE_CHECKING:
    from tastypy.commands.parsing import Parser

_SHELLS = ("bash", "zsh", "fish")
_DIRECTORIES = {"PATH", "DIR", "DIRECTORY"}  # what the arguments are called that are one
_FILES = {"FILE", "SOURCE", "TARGET"}


def add(commands: Commands, whole: Parser) -> None:
    """Add `completion`, which completes all that `whole` parses."""
    parser = command(
        commands,
        "completion",
        "print a script with which a shell completes tastypy",
        """\
It completes commands, options and directories. It is made by shtab: pip install 'tastypy[completion]'. For this shell only, and
for every one to come:

  eval "$(tastypy completion bash)"
  tastypy completion bash > ~/.local/share/bash-completion/completions/tastypy
  tastypy completion zsh > ~/.zfunc/_tastypy    # where ~/.zshrc has: fpath+=~/.zfunc; autoload -Uz compinit; compinit
  tastypy completion fish > ~/.config/fish/completions/tastypy.fish
""",
    )
    parser.add_argument("shell", choices=_SHELLS, metavar="SHELL", help=", ".join(_SHELLS))
    parser.set_defaults(run=partial(_completion, whole))


def _completion(whole: Parser, options: argparse.Namespace) -> int:
    try:
        import shtab  # noqa: PLC0415 - an extra
    except ImportError as error:
        message = "completion needs shtab: pip install 'tastypy[completion]'"
        raise MissingExtraError(message) from error
    for action in _actions(whole):
        for names, kind in ((_DIRECTORIES, shtab.DIRECTORY), (_FILES, shtab.FILE)):
            if action.metavar in names:
                action.complete = kind  # where shtab looks for it
    print(shtab.complete(whole, options.shell))
    return DONE


def _actions(parser: argparse.ArgumentParser) -> Iterator[Any]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to them
        yield action
        if isinstance(action.choices, dict):  # parsers, by the names of commands
            for inner in action.choices.values():
                yield from _actions(inner)
