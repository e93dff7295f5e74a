"""Entries as rows of a table, and back: how keys are spelled, and which column has what. No I/O here.

A row has a column with the key, and either one, `value`, with the JSON of the value; or, as other programs like it, one for each
field of a value that is a dict, and `value` for any other value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tastypy import files
from tastypy.errors import ExchangeError
from tastypy.exact import parse
from tastypy.values import encode_value

if TYPE_CHECKING:
    from tastypy.pod import PersistentOrderedDict

VALUE = "value"
_TOKEN = 16  # characters of the token of a claim


def items_of(pod: PersistentOrderedDict[Any, Any]) -> dict[Any, Any]:
    """Return all entries of a POD, as they are at one moment, with values as files have them."""
    pod.refresh()
    return pod._codec.as_in_files(pod.copy(), pod._default)  # noqa: SLF001 - what is public has objects


def text_of(key: Any, value: Any) -> bytes:
    """Return the JSON of the value of a key; it may have been mutated into what JSON lacks, which raises what `encode_value` does."""
    return encode_value(value, None, f"the value of {key!r}")[0]


def fields_of(key: Any, value: Any, column: str) -> dict[str, Any]:
    """Return the columns of an entry but for that with the key, which is called `column`.

    Raises:
        ExchangeError: the value has a field of that name.
    """
    fields: dict[str, Any] = value if type(value) is dict else {VALUE: value}
    if column in fields:
        message = (
            f"the value of {key!r} has a field {column!r}, and so is the column with the keys called: give that another name "
            "(key=, --key)"
        )
        raise ExchangeError(message)
    return fields


def columns_of(items: dict[Any, Any], column: str) -> dict[str, list[Any]]:
    """Return the columns of all entries but for that with the keys, in the order in which they come; what is missing is None."""
    columns: dict[str, list[Any]] = {}
    for at, (key, value) in enumerate(items.items()):
        for name, part in fields_of(key, value, column).items():
            values = columns.setdefault(name, [])
            if len(values) < at:
                values.extend([None] * (at - len(values)))
            values.append(part)
    for values in columns.values():
        values.extend([None] * (len(items) - len(values)))
    return columns


class NotAnEntryError(Exception):
    """A row is no entry; the text says why."""


def entry_of(row: dict[str, Any], *, columns: bool, key: str, as_text: bool) -> tuple[Any, Any]:
    """Return the key and the value that a row stands for; its value is JSON `as_text`, or what that says.

    Raises:
        NotAnEntryError: it stands for none.
    """
    if key not in row:
        what = f"there is no {key!r}, only {', '.join(map(repr, row)) or 'nothing'}; key= (--key) says what has the key"
        raise NotAnEntryError(what)
    if columns:
        return key_of(row[key]), {name: part for name, part in row.items() if name != key}
    if row.keys() != {key, VALUE}:
        what = (
            f"there are {', '.join(map(repr, row))}, not just {key!r} and {VALUE!r}; with columns (--columns) all but {key!r} become "
            "fields of a dict"
        )
        raise NotAnEntryError(what)
    value = row[VALUE]
    if as_text:
        if type(value) is not str:
            raise NotAnEntryError(f"the value is {value!r}, not JSON text; columns (--columns) takes it as it is")
        try:
            value = parse(value)
        except ValueError as error:
            what = f"the value {_shortened(value)} is not JSON ({error}); columns (--columns) takes it as it is"
            raise NotAnEntryError(what) from error
    return key_of(row[key]), value


def key_of(cell: Any) -> Any:
    """Return the key that a cell of a table, or the name in an object, stands for.

    Raises:
        NotAnEntryError: it stands for none.
    """
    if type(cell) is str and cell[:1] != "#":
        return cell
    try:
        return _as_tuple(parse(cell[1:]) if type(cell) is str else cell)
    except (ValueError, RecursionError):
        what = f"{_shortened(cell)} is no key: after # comes JSON, as in '#1'; a str that begins with # is spelled '#\"#...\"'"
        raise NotAnEntryError(what) from None


def _as_tuple(key: Any) -> Any:
    if type(key) is dict:
        message = "an object"
        raise ValueError(message)
    return tuple(map(_as_tuple, key)) if type(key) is list else key


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def without_claim(value: Any) -> Any:
    """Return a value without the claim of a worker, if it is the entry of a task that has one: a worker has none elsewhere."""
    claim = value.get("_claim") if type(value) is dict else None
    if type(claim) is not dict:
        return value
    token, worker = claim.get("token"), claim.get("worker")
    if type(token) is not str or len(token) != _TOKEN or type(worker) is not str or not files.is_worker(worker):
        return value
    return {name: part for name, part in value.items() if name != "_claim"}
