"""`tastypy ls`, `keys`, `get`, `set` and `del`: a look and a hand at the entries of a POD."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

from tastypy.commands.output import json_line
from tastypy.commands.parsing import (
    DONE,
    PROBLEMS,
    Commands,
    add_json,
    add_path,
    add_timeout,
    command,
    not_negative,
)

_KEYS = """\
A KEY is written as in the files: a str is itself; any other key is # and its JSON (#1, #["a",1]), and so is a str that begins
with #. Behind -- a KEY may begin with a dash.
"""


def add(commands: Commands) -> None:
    """Add `ls`, `keys`, `get`, `set` and `del`."""
    _add_ls(commands)
    _add_keys(commands)
    _add_get(commands)
    _add_set(commands)
    _add_del(commands)


def _add_ls(commands: Commands) -> None:
    parser = command(
        commands,
        "ls",
        "show the entries of a POD, in their order",
        """\
On a terminal a line is a key and as much of its value as there is room for; in a pipe it is the key, a tab, and all of the
value, as JSON.

  tastypy ls results.pod
  tastypy ls results.pod --tail 20
  tastypy ls results.pod --pattern 'https://example.org/*' --limit 5
  tastypy ls results.pod --json | jq -r 'select(.value.status == 404) | .key'
""",
        """\
--json prints one object a line: {"key": ..., "value": ...}, the key as in the files.

""",
    )
    add_path(parser)
    _add_selection(parser)
    add_json(parser, "print an object a line, for scripts")
    parser.set_defaults(run=_ls)


def _add_keys(commands: Commands) -> None:
    parser = command(
        commands,
        "keys",
        "print the keys of a POD, one a line, in their order",
        """\
They are written as in the files, and so as all commands take them.

  tastypy keys results.pod
  tastypy keys results.pod | wc -l
  tastypy keys results.pod --pattern '*.tmp' -0 | xargs -0 tastypy del results.pod --

A key may hold a newline: -0 ends each with a NUL instead, and --json prints each as a JSON string.
""",
    )
    add_path(parser)
    _add_selection(parser)
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("-0", "--null", action="store_true", help="end each key with a NUL, for xargs -0")
    forms.add_argument("--json", action="store_true", help="print each key as a JSON string, for scripts")
    parser.set_defaults(run=_keys)


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pattern", metavar="GLOB", help="only keys like this: * is any text, ? any character, [ab] a or b"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--limit", type=not_negative, metavar="N", help="the first N of them")
    which.add_argument("--tail", type=not_negative, metavar="N", help="the last N of them, the newest")


def _add_get(commands: Commands) -> None:
    parser = command(
        commands,
        "get",
        "print values of a POD",
        f"""\
On a terminal they are laid out for reading; in a pipe each is one line of JSON. If one of the keys is not there, that is said
on standard error, nothing is printed, and the exit code is 1.

  tastypy get results.pod foo
  tastypy get results.pod foo | jq .tags
  tastypy get results.pod '#1' '#["a",1]' --json
  if name=$(tastypy get results.pod name --raw); then ...

{_KEYS}""",
        """\
--json prints one object a line: {"key": ..., "value": ...}, as `tastypy ls --json` does.

""",
    )
    add_path(parser)
    parser.options_first = True
    parser.add_argument("keys", nargs="+", metavar="KEY", help="of the value")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--raw", action="store_true", help="print a str without its quotes, as it is")
    forms.add_argument("--json", action="store_true", help="print an object a line, for scripts")
    parser.set_defaults(run=_get)


def _add_set(commands: Commands) -> None:
    parser = command(
        commands,
        "set",
        "set a value of a POD",
        f"""\
It is on disk, and seen by all others, when the command ends. Nothing is printed.

  tastypy set results.pod foo '{{"lines": 12, "tags": ["a", "b"]}}'
  tastypy set results.pod name --str "Ada Lovelace"
  tastypy get results.pod foo | jq '.lines += 1' | tastypy set results.pod foo -
  tastypy set new.pod '#1' 2.5 --create

Of a task of a tracker it replaces what is stored with it. The fields of the tracker (_done, _tries, ...) stay: they may be left
out, or be as they are there. A key that is not there is a new task then.

{_KEYS}""",
    )
    add_path(parser)
    parser.options_first = True
    parser.add_argument("key", metavar="KEY", help="where to put it")
    parser.add_argument("value", metavar="JSON", help="the value; - reads it from standard input")
    parser.add_argument(
        "--str",
        action="store_true",
        dest="as_str",
        help="the value is a text, not JSON; of standard input without its last newline",
    )
    parser.add_argument("--create", action="store_true", help="make the POD if it is not there")
    add_timeout(parser)
    parser.set_defaults(run=_set)


def _add_del(commands: Commands) -> None:
    parser = command(
        commands,
        "del",
        "delete keys of a POD",
        f"""\
All of them in one step. If one is not there, that is said on standard error, nothing is deleted, and the exit code is 1.
Nothing is printed otherwise.

  tastypy del results.pod foo '#1'

A task of a tracker that a live worker has is not deleted either, unless --force is given: its worker notices when it is done with it,
and stores nothing.

{_KEYS}""",
    )
    add_path(parser)
    parser.options_first = True
    parser.add_argument("keys", nargs="+", metavar="KEY", help="what to delete")
    parser.add_argument("--force", action="store_true", help="tasks that a live worker has, too")
    add_timeout(parser)
    parser.set_defaults(run=_del)


# --- what they do


def _ls(options: argparse.Namespace) -> int:
    from tastypy import by_hand  # noqa: PLC0415 - the other commands do not need it
    from tastypy.screen import Screen, fitted, printable, width_of  # noqa: PLC0415 - as above

    screen = Screen()
    with by_hand.opened(options.path) as pod:
        chosen = list(_chosen(pod, options))
        if options.json:
            for name, value in chosen:
                print(_object(name, value))
        elif screen.is_terminal:
            width = screen.width - 1
            names = [printable(name) for name, _ in chosen]
            room = min(max(map(width_of, names), default=0), max(width * 3 // 5, 1))
            for name, (_, value) in zip(names, chosen, strict=True):
                key = fitted(name, room, ends=True)
                text = fitted(printable(json_line(value)), max(width - room - 2, 1))
                print(screen.paint(key, "cyan") + " " * (room - width_of(key) + 2) + text)
        else:
            for name, value in chosen:
                print(name, json_line(value), sep="\t")
    return DONE


def _keys(options: argparse.Namespace) -> int:
    from tastypy import by_hand  # noqa: PLC0415 - the other commands do not need it
    from tastypy.screen import Screen, printable  # noqa: PLC0415 - as above

    escapes = Screen().is_terminal and not options.null
    with by_hand.opened(options.path) as pod:
        for name, _ in _chosen(pod, options):
            text = json_line(name) if options.json else printable(name) if escapes else name
            print(text, end="\0" if options.null else "\n")
    return DONE


def _chosen(pod: Any, options: argparse.Namespace) -> Iterable[tuple[str, Any]]:
    """Return the entries that were asked for, each with the name of its key."""
    from tastypy.values import name_of  # noqa: PLC0415 - the other commands do not need it

    def named(items: Iterable[tuple[Any, Any]]) -> Iterator[tuple[str, Any]]:
        for key, value in items:
            name = name_of(key)
            if options.pattern is None or fnmatchcase(name, options.pattern):
                yield name, value

    items: list[tuple[Any, Any]] = list(dict.items(pod))
    if options.tail is not None:
        return [*islice(named(reversed(items)), options.tail)][::-1]
    return islice(named(items), options.limit)


def _get(options: argparse.Namespace) -> int:
    from tastypy import by_hand  # noqa: PLC0415 - the other commands do not need it
    from tastypy.screen import Screen  # noqa: PLC0415 - as above

    screen = Screen()
    with by_hand.opened(options.path) as pod:
        items, unknown = by_hand.items_of(pod, options.keys)
    if unknown:
        return _refused(options, unknown)
    for name, value in items:
        if options.json:
            print(_object(name, value))
        elif options.raw and isinstance(value, str):
            print(value)
        elif screen.is_terminal:
            print(screen.json(value))
        else:
            print(json_line(value))
    return DONE


def _set(options: argparse.Namespace) -> int:
    from tastypy import by_hand  # noqa: PLC0415 - the other commands do not need it

    text = options.value
    if text == "-":
        text = _standard_input()
        text = text.removesuffix("\n") if options.as_str else text
    value = text if options.as_str else by_hand.parsed(text)
    by_hand.assign(options.path, options.key, value, create=options.create, timeout=options.timeout)
    return DONE


def _standard_input() -> str:
    from tastypy import UnstorableValueError  # noqa: PLC0415 - the other commands do not need it

    if sys.stdin is None:  # it was closed
        return ""
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        message = f"standard input is not UTF-8: {error}"
        raise UnstorableValueError(message) from error


def _del(options: argparse.Namespace) -> int:
    from tastypy import by_hand  # noqa: PLC0415 - the other commands do not need it

    refused = by_hand.delete(options.path, options.keys, force=options.force, timeout=options.timeout)
    if not (refused.unknown or refused.held):
        return DONE
    return _refused(options, refused.unknown, refused.held, "; nothing was deleted")


def _refused(options: argparse.Namespace, unknown: list[str], held: Iterable[str] = (), so: str = "") -> int:
    from tastypy.screen import printable  # noqa: PLC0415 - the other commands do not need it

    for name in unknown:
        print(f"tastypy: {printable(name)}: there is no such key in {options.path}{so}", file=sys.stderr)
    for name in held:
        print(
            f"tastypy: {printable(name)}: a live worker has this task; --force deletes it all the same{so}",
            file=sys.stderr,
        )
    return PROBLEMS


def _object(name: str, value: Any) -> str:
    return json_line({"key": name, "value": value})
