"""What shelve, sqlitedict, diskcache and pickle have stored, read without writing to it; and unpickled, if the user says so.

The databases of sqlitedict and diskcache are read with sqlite3, read only: both libraries write to what they open, and neither
is needed to read what it wrote.
"""

from __future__ import annotations

import dbm
import io
import os
import pickle
import shelve
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from glob import escape, glob
from typing import Any
from urllib.parse import quote

from tastypy.errors import ExchangeError
from tastypy.exchange.places import Place, missing, opened

_RAW, _BINARY, _TEXT, _PICKLE = 1, 2, 3, 4  # how diskcache stores a value

Items = Iterator[tuple[Any, Callable[[], Any]]]  # keys, and what returns their values


def read_pickled(place: Place, *, table: str | None, unpickle: bool) -> Iterator[tuple[int, Any, Any]]:
    """Yield the entries of a store, with their numbers.

    Raises:
        ExchangeError: `unpickle` is False, or something is not what it should be.
    """
    if not unpickle:
        message = (
            f"{place.name}: to read {place.format} is to unpickle, which runs whatever the writer of the data wants to be run; if "
            "you trust the data, say unpickle=True (--unpickle)"
        )
        raise ExchangeError(message, place.path or None)
    items = _read_sqlitedict(place, table) if place.format == "sqlitedict" else _READERS[place.format](place)
    try:
        for number, (key, value) in enumerate(items, 1):
            yield number, key, _unpickled(place, f"the value of {key!r}", value)
    except sqlite3.Error as error:
        raise _wrong(place, f"cannot be read as {place.format} ({error})") from error


def _unpickled(place: Place, what: str, value: Callable[[], Any]) -> Any:
    try:
        return value()
    except (sqlite3.Error, ExchangeError):
        raise
    except Exception as error:  # unpickling may raise anything
        how = "what was pickled can be unpickled only where its classes can be imported"
        raise _wrong(place, f"{what} cannot be read ({type(error).__name__}: {error}): {how}") from error


def _wrong(place: Place, what: str) -> ExchangeError:
    return ExchangeError(f"{place.name}: {what}; nothing was imported", place.path or None)


def _read_pickle(place: Place) -> Items:
    def load() -> Any:
        with opened(place) as file:
            found = pickle.load(file)  # noqa: S301 - the user says that it may be
            if file.read(1):  # at the end gzip looks at its checksum, too
                raise _wrong(place, "more follows the pickle")
            return found

    found = _unpickled(place, "it", load)
    if not isinstance(found, Mapping):
        raise _wrong(place, f"not a pickled dict, but {type(found).__qualname__}")
    for key in found:
        yield key, partial(found.__getitem__, key)


def _read_shelve(place: Place) -> Items:
    path = place.path
    if _is_sqlite(path):  # as Python 3.13 and later make it, for any version to read
        with closing(_database(place, path)) as database:
            for key, value in _rows_of(database, "Dict"):
                yield _unpickled(place, "a key", key.decode), value
        return
    if not dbm.whichdb(path):  # by the name of one of its files, perhaps
        path = path.removesuffix(".db").removesuffix(".dat").removesuffix(".dir").removesuffix(".bak")
    kind = dbm.whichdb(path)
    if kind is None and not os.path.lexists(place.path):
        raise missing(place)
    try:
        shelf = shelve.open(path, "r")  # noqa: S301, SIM115 - as above; it is closed below, if it could be opened
    except Exception as error:  # dbm.dumb evaluates its index, which may be anything
        raise _wrong(place, f"cannot be opened as a shelf ({error})") from error
    with closing(shelf):
        for key in _unpickled(place, "a key", partial(list, shelf)):
            yield key, partial(shelf.__getitem__, key)


def _database(place: Place, path: str) -> sqlite3.Connection:
    if not os.path.isfile(path):
        raise _wrong(place, f"no {place.format}: there is no file {path}")
    in_wal_mode = _begin_of(path)[18:] == b"\2\2"
    # In that mode even a reader makes files beside it; where there are none, nobody has it open, and none are needed.
    alone = in_wal_mode and not os.path.exists(f"{path}-wal")
    return sqlite3.connect(f"file:{quote(path)}?mode=ro{'&immutable=1' if alone else ''}", uri=True)


def _is_sqlite(path: str) -> bool:
    return os.path.isfile(path) and _begin_of(path).startswith(b"SQLite format 3\0")


def _begin_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(20)


def _read_sqlitedict(place: Place, table: str | None) -> Items:
    with closing(_database(place, place.path)) as database:
        tables = [
            name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid")
        ]
        if table is None and len(tables) != 1:
            has = f"has the tables {', '.join(map(repr, tables))}: say which, with table= (--table)"
            raise _wrong(place, has if tables else "has no table")
        name = table or tables[0]
        if name not in tables:
            raise _wrong(place, f"there is no table {name!r}, only {', '.join(map(repr, tables)) or 'none at all'}")
        yield from _rows_of(database, name)


def _rows_of(database: sqlite3.Connection, table: str) -> Items:
    quoted = '"' + table.replace('"', '""') + '"'
    for key, value in database.execute(f"SELECT key, value FROM {quoted} ORDER BY rowid"):  # noqa: S608 - it is quoted
        yield key, partial(_loaded, value)


def _loaded(data: Any) -> Any:
    if type(data) is not bytes:
        message = f"{type(data).__name__}, not bytes: it was stored by a way of its own"
        raise TypeError(message)
    return pickle.loads(data)  # noqa: S301 - as above


def _read_diskcache(place: Place) -> Items:
    name = "cache.db"
    parts = (
        [place.path] if os.path.exists(os.path.join(place.path, name)) else sorted(glob(f"{escape(place.path)}/[0-9]*"))
    )
    if not parts:
        raise _wrong(place, f"no directory of diskcache: there is no {name} in it")
    for part in parts:  # more than one of a FanoutCache
        with closing(_database(place, os.path.join(part, name))) as database:
            rows = database.execute(
                "SELECT key, raw, mode, filename, value FROM Cache WHERE expire_time IS NULL OR expire_time > ? ORDER BY rowid",
                (time.time(),),
            )
            for data, raw, mode, filename, value in rows:
                key = data if raw else _unpickled(place, "a key", partial(_loaded, data))
                yield key, partial(_fetched, part, mode, filename, value)


def _fetched(part: str, mode: int, filename: str | None, value: Any) -> Any:
    """Return a value of diskcache: from its row, or, if it is large, from a file."""
    if filename is not None:
        with open(os.path.join(part, filename), "rb") as file:
            value = file.read()
    if mode == _PICKLE:
        return _loaded(value)
    if mode == _TEXT:
        return io.TextIOWrapper(io.BytesIO(value), "utf-8").read()
    if mode in (_RAW, _BINARY):
        return value
    raise ValueError(f"mode {mode} is not known")


_READERS: dict[str, Callable[[Place], Items]] = {
    "pickle": _read_pickle,
    "shelve": _read_shelve,
    "diskcache": _read_diskcache,
}
