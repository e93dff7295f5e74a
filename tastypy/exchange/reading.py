"""What an import reads: JSON, JSON Lines, CSV, Parquet, another POD; and, from modules of their own, what other stores have left.

A source is entries one after the other, each with its number in units of the source, as a line or a row is one.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from tastypy.errors import ExchangeError
from tastypy.exact import parse
from tastypy.exchange.places import WRITTEN, Place, extra, missing, opened, refuse_columns
from tastypy.exchange.rows import VALUE, NotAnEntryError, entry_of, key_of

Found = tuple[int, Any, Any]


class Options(NamedTuple):
    """What a user says of a source; see `POD.import_from`."""

    columns: bool = False
    key: str = "key"
    table: str | None = None
    unpickle: bool = False


class Source(NamedTuple):
    """Entries, each with its number, and what that counts."""

    unit: str
    entries: Iterable[Found]


def source_of(place: Place, options: Options) -> Source:
    """Return the entries of a place, to be read one after the other.

    Reading them raises an ExchangeError for what is none, with its number.
    """
    refuse_columns(place, columns=options.columns, key=options.key)
    if options.table is not None and place.format != "sqlitedict":
        message = f"table: the format {place.format} has none"
        raise ExchangeError(message)
    # (a shelve adds a suffix of its own)
    if place.file is None and not os.path.lexists(place.path) and place.format != "shelve":
        raise missing(place)
    if place.file is not None and place.format not in (*WRITTEN, "pickle"):
        message = f"{place.format} is more than a file that is open: name its path"
        raise ExchangeError(message)
    if place.format in _READERS:
        unit, read = _READERS[place.format]
        return Source(unit, read(place, options))
    if place.format == "2017":
        from tastypy.exchange.first import read_first  # noqa: PLC0415 - seldom needed

        return Source("entry", read_first(place))
    from tastypy.exchange.foreign import read_pickled  # noqa: PLC0415 - as above

    return Source("entry", read_pickled(place, table=options.table, unpickle=options.unpickle))


def wrong(place: Place, unit: str, number: int, what: object) -> ExchangeError:
    """Return what to raise for an entry that is none."""
    where = f"{place.name}, {unit} {number}" if number else place.name
    return ExchangeError(f"{where}: {what}; nothing was imported", place.path or None)


def _read_json(place: Place, _: Options) -> Iterator[Found]:
    with opened(place) as file:
        try:
            entries = parse(_text(file.read()))
        except ValueError as error:
            raise wrong(place, "", 0, f"not JSON ({error})") from error
    if type(entries) is not dict:
        what = "not one object with a value for each key; a line for each entry is the format jsonl"
        raise wrong(place, "", 0, what)
    for number, (name, value) in enumerate(entries.items(), 1):
        try:
            yield number, key_of(name), value
        except NotAnEntryError as error:
            raise wrong(place, "entry", number, error) from error


def _read_lines(place: Place, options: Options) -> Iterator[Found]:
    with opened(place) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = parse(_text(line, begin=number == 1))
                if type(row) is not dict:
                    raise NotAnEntryError(f"not an object with {options.key!r} and {VALUE!r}")  # noqa: TRY301 - one place tells
                yield number, *entry_of(row, columns=options.columns, key=options.key, as_text=False)
            except (ValueError, NotAnEntryError) as error:
                what = f"not JSON ({error})" if isinstance(error, ValueError) else error
                raise wrong(place, "line", number, what) from error


def _text(data: bytes, *, begin: bool = True) -> str:
    """Return UTF-8 as text, without the mark that some programs put before it; ValueError if it is none."""
    return data.decode("utf-8-sig" if begin else "utf-8")


def _read_csv(place: Place, options: Options) -> Iterator[Found]:
    with opened(place) as file:
        rows = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True)
        try:
            header = next(_rows(rows), [])
            if not header:
                raise wrong(place, "line", 1, "there is no header with the names of the columns")
            if len(set(header)) < len(header):
                raise wrong(place, "line", 1, "two columns have one name")
            for row in _rows(rows):
                if len(row) != len(header):
                    what = f"{len(row)} cells, though the header has {len(header)}"
                    raise NotAnEntryError(what)  # noqa: TRY301 - one place tells
                cells = dict(zip(header, row, strict=True))
                yield rows.line_num, *entry_of(cells, columns=options.columns, key=options.key, as_text=True)
        except NotAnEntryError as error:
            raise wrong(place, "line", rows.line_num, error) from error
        except (csv.Error, UnicodeDecodeError) as error:
            raise wrong(place, "line", rows.line_num + 1, f"not CSV in UTF-8 ({error})") from error


def _rows(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """Yield the rows that have something in them, with cells of any length."""
    before = csv.field_size_limit()
    while True:
        csv.field_size_limit(sys.maxsize)  # it is the process's: only while a row is read
        try:
            row = next(rows, None)
        finally:
            csv.field_size_limit(before)
        if row is None:
            return
        if row:
            yield row


def _read_parquet(place: Place, options: Options) -> Iterator[Found]:
    arrow = extra("pyarrow", "parquet")
    parquet = extra("pyarrow.parquet", "parquet")
    number = 0
    try:
        with parquet.ParquetFile(place.file or place.path) as file:
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise wrong(place, "", 0, "two columns have one name")
            for some in file.iter_batches():
                for row in some.to_pylist():
                    number += 1
                    if row.get(options.key, "") is None:
                        raise NotAnEntryError(f"there is no key in {options.key!r}; None is spelled '#null'")  # noqa: TRY301 - one place tells
                    yield number, *entry_of(row, columns=options.columns, key=options.key, as_text=True)
    except NotAnEntryError as error:
        raise wrong(place, "row", number, error) from error
    except ExchangeError:
        raise
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:  # the latter: Python has no such value
        raise wrong(place, "", 0, f"cannot be read as Parquet ({error})") from error


def _read_pod(place: Place, _: Options) -> Iterator[Found]:
    from tastypy.pod import PersistentOrderedDict  # noqa: PLC0415 - it imports this package

    with PersistentOrderedDict[Any, Any](place.path, mode="r") as pod:
        items = pod.copy()
    for number, (key, value) in enumerate(items.items(), 1):
        yield number, key, value


_READERS: dict[str, tuple[str, Callable[[Place, Options], Iterator[Found]]]] = {
    "json": ("entry", _read_json),
    "jsonl": ("line", _read_lines),
    "csv": ("line", _read_csv),
    "parquet": ("row", _read_parquet),
    "pod": ("entry", _read_pod),
}
