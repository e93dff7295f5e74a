r"""The files that the first tastypy, of 2017, has left: `0.json`, `1.json` and so on, or the same with `.gz`.

Each line has a key, a tab and the JSON of a value. Backslashes in the key are doubled. From February 2017 on the key is JSON, too,
a list standing for a tuple; before, it was a str as it is, with tabs as `\t`. Nothing says which of the two: where each key of a
source can be JSON, it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from tastypy import files
from tastypy.exact import parse
from tastypy.exchange.places import Place, opened
from tastypy.exchange.reading import wrong
from tastypy.exchange.rows import NotAnEntryError, key_of

_NAME = re.compile(r"(0|[1-9][0-9]*)\.json(\.gz)?")
_ESCAPED = re.compile(r"\\(.)")


def read_first(place: Place) -> Iterator[tuple[int, Any, Any]]:
    """Yield the entries of one file, or of all files of a directory, with their numbers.

    Raises:
        ExchangeError: a file or a line is missing, or a line is not what it should be.
    """
    names: list[str] = []
    values = []
    counts: list[tuple[int, Place]] = []
    for file in _files(place):
        count = len(names)
        for number, line in _lines(file):
            name, tab, text = line.partition("\t")
            if not tab:
                raise wrong(file, "line", number, "not a key, a tab and a value")
            try:
                values.append(parse(text))
            except ValueError as error:
                raise wrong(file, "line", number, f"the value is not JSON ({error})") from error
            names.append(name)
        counts.append((len(names) - count, file))
    most = max(count for count, _ in counts)
    for count, file in counts[:-1]:
        if count < most:
            what = f"{count} entries, and another file has {most}: only the last one may have fewer, so some are lost"
            raise wrong(file, "", 0, f"{what}; to have the others, import the files one by one")
    keys = _json_keys(names)
    if keys is None:
        keys = [_ESCAPED.sub(lambda match: "\t" if match[1] == "t" else match[1], name) for name in names]
    for number, (key, value) in enumerate(zip(keys, values, strict=True), 1):
        yield number, key, value


def _lines(file: Place) -> Iterator[tuple[int, str]]:
    with opened(file) as lines:
        for number, line in enumerate(lines, 1):
            try:
                text = line.decode().removesuffix("\n")
            except UnicodeDecodeError as error:
                raise wrong(file, "line", number, f"not UTF-8 ({error})") from error
            if not text:  # and not `if text: yield …`: see tests/test_jumps.py
                continue
            yield number, text


def _files(place: Place) -> list[Place]:
    """Return the files of the source, in the order of their numbers."""
    if place.file is not None or not os.path.isdir(place.path):
        return [place]
    names = os.listdir(place.path)
    if files.LOCK in names:
        raise wrong(place, "", 0, "not of the first tastypy, but a POD: the format is pod")
    found: dict[int, str] = {}
    for name in names:
        if match := _NAME.fullmatch(name):
            other = found.setdefault(int(match[1]), name)
            if other != name:
                what = f"the file number {match[1]} is there twice, as {other} and {name}: remove the one that is wrong"
                raise wrong(place, "", 0, what)
    if not found:
        raise wrong(place, "", 0, "there is no file like 0.json or 0.json.gz in it")
    absent = next((number for number in range(max(found)) if number not in found), None)
    if absent is not None:
        raise wrong(place, "", 0, f"the file number {absent} is missing; to have the others, import them one by one")
    ordered = [found[number] for number in sorted(found)]
    return [
        place._replace(path=os.path.join(place.path, name), name=os.path.join(place.name, name)) for name in ordered
    ]


def _json_keys(names: list[str]) -> list[Any] | None:
    """Return the keys, if all of them are JSON, else None."""
    keys = []
    for name in names:
        try:
            key = parse(name.replace("\\\\", "\\"))
            keys.append(key_of(key) if type(key) is not str else key)
        except (ValueError, NotAnEntryError):
            return None
    return keys
