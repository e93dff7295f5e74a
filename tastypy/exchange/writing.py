"""The export of entries to a file: JSON, JSON Lines, CSV and Parquet."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

from tastypy.errors import ExchangeError
from tastypy.exchange import places
from tastypy.exchange.places import extra
from tastypy.exchange.rows import VALUE, columns_of, fields_of, items_of, text_of
from tastypy.exchange.types import BOOL, FLOAT, INT, NULL, STR, UNSIGNED, ListOf, MixedTypesError, Struct, Type, type_of
from tastypy.values import encode_key, name_of

if TYPE_CHECKING:
    from tastypy.pod import PersistentOrderedDict

_ROWS = 10_000  # of a table that are made at once

Items = dict[Any, Any]


def export(
    pod: PersistentOrderedDict[Any, Any],
    target: str | os.PathLike[str] | BinaryIO,
    *,
    format: str | None = None,  # noqa: A002 - what users call it
    columns: bool = False,
    key: str = "key",
) -> int:
    """Do what `POD.export_to` says."""
    if columns is False and key == VALUE:
        message = f"the column with the keys cannot be called {VALUE!r}, as that with the values is"
        raise ExchangeError(message)
    place = places.place_of(target, format, places.WRITTEN)
    places.refuse_columns(place, columns=columns, key=key)
    encode_key(key)  # raises what it is if it is no text for a file
    if place.format == "csv" and key.startswith("\ufeff"):
        message = (
            f"the column with the keys cannot be called {key!r}: readers take what it begins with for a mark of UTF-8"
        )
        raise ExchangeError(message)
    write = _WRITERS[place.format]
    if place.format == "parquet":
        extra("pyarrow", "parquet")  # before a file is made
    items = items_of(pod)
    with places.written(place) as file:
        write(items, file, columns, key)
    return len(items)


def _write_json(items: Items, file: BinaryIO, _columns: bool, _key: str) -> None:
    before = b"{\n"
    for key, value in items.items():
        file.write(b"%b%b:%b" % (before, encode_key(key), text_of(key, value)))
        before = b",\n"
    file.write(b"\n}\n" if items else b"{}\n")


def _write_lines(items: Items, file: BinaryIO, columns: bool, key: str) -> None:
    first = encode_key(key) if key[:1] != "#" else text_of("key", key)
    for name, value in items.items():
        if columns:
            fields = text_of(name, fields_of(name, value, key))[1:]
            comma = b"" if fields == b"}" else b","
            file.write(b"{%b:%b%b%b\n" % (first, encode_key(name), comma, fields))
        else:
            file.write(b'{%b:%b,"value":%b}\n' % (first, encode_key(name), text_of(name, value)))


def _write_csv(items: Items, file: BinaryIO, columns: bool, key: str) -> None:
    # both characters that may end a line are quoted where both of them do
    text = io.TextIOWrapper(file, "utf-8", newline="")
    rows = csv.writer(text, lineterminator="\r\n")
    try:
        if columns:
            names = list(columns_of(items, key))
            rows.writerow([key, *names])
            for name, value in items.items():
                fields = fields_of(name, value, key)
                rows.writerow([name_of(name), *(_cell(name, fields.get(column)) for column in names)])
        else:
            rows.writerow([key, VALUE])
            rows.writerows([name_of(name), text_of(name, value).decode()] for name, value in items.items())
        text.flush()
    finally:
        text.detach()  # or it would close the file


def _cell(key: Any, value: Any) -> str:
    """Return a field as a cell: a str as it is, nothing for None, else JSON."""
    if type(value) is str:
        return value
    return "" if value is None else text_of(key, value).decode()


def _write_parquet(items: Items, file: BinaryIO, columns: bool, key: str) -> None:
    arrow = extra("pyarrow", "parquet")
    parquet = extra("pyarrow.parquet", "parquet")
    tables = _typed_tables(arrow, items, key) if columns else _text_tables(arrow, items, key)
    writer = None
    try:
        for table in tables:
            writer = writer or parquet.ParquetWriter(file, table.schema)
            writer.write_table(table)
    except arrow.ArrowException as error:
        message = f"Parquet cannot hold it: {error}; without columns (--columns) values are stored as JSON text"
        raise ExchangeError(message) from error
    finally:
        if writer is not None:
            writer.close()


def _text_tables(arrow: Any, items: Items, key: str) -> Iterator[Any]:
    schema = arrow.schema([(key, arrow.string()), (VALUE, arrow.string())])
    yield schema.empty_table()
    rest = iter(items.items())
    while some := list(islice(rest, _ROWS)):
        names = [name_of(name) for name, _ in some]
        values = [text_of(name, value).decode() for name, value in some]
        yield arrow.table([names, values], schema=schema)


def _typed_tables(arrow: Any, items: Items, key: str) -> Iterator[Any]:
    arrays = {}
    for name, values in {key: [name_of(name) for name in items], **columns_of(items, key)}.items():
        try:
            arrays[name] = arrow.array(values, arrow.string() if name == key else _arrow_type(arrow, type_of(values)))
        except MixedTypesError as error:
            message = (
                f"the column {name!r} has {error}, which Parquet cannot hold; without columns (--columns) values are stored as "
                "JSON text"
            )
            raise ExchangeError(message) from error
    yield arrow.table(arrays)


def _arrow_type(arrow: Any, kind: Type) -> Any:
    if isinstance(kind, ListOf):
        return arrow.list_(_arrow_type(arrow, kind.item))
    if isinstance(kind, Struct):
        return arrow.struct([(name, _arrow_type(arrow, part)) for name, part in kind.fields.items()])
    return getattr(arrow, _ARROW[kind])()


_ARROW = {NULL: "null", BOOL: "bool_", INT: "int64", UNSIGNED: "uint64", FLOAT: "float64", STR: "string"}
_WRITERS: dict[str, Callable[[Items, BinaryIO, bool, str], None]] = {
    "json": _write_json,
    "jsonl": _write_lines,
    "csv": _write_csv,
    "parquet": _write_parquet,
}
