"""The peers: what each is, what its documentation promises, and how its own calls are used. How long they take is left to `workloads`.

Nothing of a peer is imported before it is opened, so that one that is not installed is left out by name.
"""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from stress.bench import stores
from tastypy import POD, __version__


def _import(name: str) -> Any:
    return importlib.import_module(name)


def _update(store: Any, mapping: Mapping[str, Any]) -> None:
    store.update(mapping)


def _items(store: Any) -> Iterable[tuple[str, Any]]:
    items: Iterable[tuple[str, Any]] = store.items()
    return items


def _close(store: Any) -> None:
    store.close()


class Peer(NamedTuple):
    """A store, or a limit that no store can pass.

    Attributes:
        name: as it stands in the tables, a limit's in parentheses.
        module: that has to be there.
        package: the distribution, for its version; "" if it comes with Python.
        process, machine: what its documentation says of acknowledged changes after a crash of the process, of the machine.
        shared: whether its documentation lets several processes write at once.
        open: opens the store at a path, new if there is none.
        batch: assigns many new keys, in one transaction if it has them.
        items, close: keys and values; the end.
        refresh: has the store see what others changed; None if each read does.
        flushed: whether an assignment waits for stable storage.
        lasting: whether there is anything on disk.
        appends: whether assignments are all that it does.
        reads_like: the peer that it does not differ from but in assignments.
        largest: the most entries that it is tried with, and `because`, why not with more.
    """

    name: str
    module: str
    package: str
    process: str
    machine: str
    shared: bool
    open: Callable[[Path], Any]
    batch: Callable[[Any, Mapping[str, Any]], None] = _update
    items: Callable[[Any], Iterable[tuple[str, Any]]] = _items
    close: Callable[[Any], None] = _close
    refresh: Callable[[Any], object] | None = None
    flushed: bool = False
    lasting: bool = True
    appends: bool = False
    reads_like: str = ""
    largest: int = 10_000_000
    because: str = ""

    def missing(self) -> str:
        """Return why it cannot be used here, "" if it can."""
        try:
            importlib.import_module(self.module)
        except ImportError as error:
            return f"not installed: {error}"
        return ""

    def version(self) -> str:
        """Return its version, or Python's."""
        if self.package == "tastypy":
            return __version__
        return version(self.package) if self.package else f"Python {platform.python_version()}"


def _cache_batch(cache: Any, mapping: Mapping[str, Any]) -> None:
    with cache.transact():
        for key, value in mapping.items():
            cache[key] = value


def _index_batch(index: Any, mapping: Mapping[str, Any]) -> None:
    with index.transact():
        index.update(mapping)


def _no_close(_: object) -> None:
    """Do nothing, for what has no `close`."""


def _cache_items(cache: Any) -> Iterable[tuple[str, Any]]:
    return ((key, cache[key]) for key in cache)


def _shelf_batch(shelf: stores.Shelf, mapping: Mapping[str, Any]) -> None:
    shelf.assign_all(mapping)


_WHOLE = "writes its whole file at each assignment: not tried with more than {:,} entries".format
_WAL = "the last ones may be lost, the rest is whole (SQLite: WAL, synchronous=NORMAL)"
_NOTHING = "nothing is said"
_KEPT, _ALL = "kept", "kept"

_SHELVES = tuple(
    Peer(
        f"shelve, {backend}",
        backend,
        "",
        "a write that was under way may damage the file",
        _NOTHING,
        shared=False,
        open=partial(stores.Shelf, backend=backend),
        batch=_shelf_batch,
        largest=largest,
        because="writes its whole index at each `sync`: not tried with more than 10,000 entries" if largest else "",
    )
    for backend, largest in (
        ("dbm.gnu", 10_000_000),
        ("dbm.ndbm", 10_000_000),
        ("dbm.dumb", 10_000),
        ("dbm.sqlite3", 10_000_000),
    )
)

PEERS = (
    Peer(
        "tastypy",
        "tastypy",
        "tastypy",
        _KEPT,
        "up to a second of a burst may be lost, the rest is whole",
        shared=True,
        open=POD[str, Any],
        refresh=lambda pod: pod.refresh(),
    ),
    Peer(
        "tastypy, durable",
        "tastypy",
        "tastypy",
        _KEPT,
        _ALL,
        shared=True,
        open=lambda path: POD[str, Any](path, durable=True),
        refresh=lambda pod: pod.refresh(),
        flushed=True,
        reads_like="tastypy",
    ),
    Peer(
        "diskcache.Index",
        "diskcache",
        "diskcache",
        _KEPT,
        _WAL,
        shared=True,
        open=lambda path: _import("diskcache").Index(str(path)),
        batch=_index_batch,
        close=lambda index: index.cache.close(),
    ),
    Peer(
        "diskcache.Cache",
        "diskcache",
        "diskcache",
        "kept, until evicted: beyond 1 GB by default",
        _WAL,
        shared=True,
        open=lambda path: _import("diskcache").Cache(str(path)),
        batch=_cache_batch,
        items=_cache_items,
    ),
    Peer(
        "diskcache.FanoutCache",
        "diskcache",
        "diskcache",
        "kept, until evicted: beyond 1 GB by default",
        _WAL,
        shared=True,
        open=lambda path: _import("diskcache").FanoutCache(str(path)),
        batch=_cache_batch,
        items=_cache_items,
    ),
    Peer(
        "sqlitedict",
        "sqlitedict",
        "sqlitedict",
        _KEPT,
        "the file may be damaged (SQLite: synchronous=OFF)",
        shared=False,
        open=lambda path: _import("sqlitedict").SqliteDict(str(path), autocommit=True),
    ),
    *_SHELVES,
    Peer(
        "lmdb, sync off",
        "lmdb",
        "lmdb",
        _KEPT,
        "the file may be damaged, or the last ones lost",
        shared=True,
        open=lambda path: stores.Lmdb(path, sync=False),
    ),
    Peer(
        "lmdb",
        "lmdb",
        "lmdb",
        _KEPT,
        _ALL,
        shared=True,
        open=lambda path: stores.Lmdb(path, sync=True),
        flushed=True,
        reads_like="lmdb, sync off",
    ),
    Peer(
        "zict.File",
        "zict",
        "zict",
        "the one under way may be lost, with its old value",
        _NOTHING,
        shared=False,
        open=lambda path: _import("zict").Func(orjson.dumps, orjson.loads, _import("zict").File(path)),
        largest=100_000,
        because="a file each: not tried with more than 100,000 entries",
    ),
    Peer(
        "tinydb",
        "tinydb",
        "tinydb",
        "the file is written in place: all may be lost",
        "the same",
        shared=False,
        open=stores.Tiny,
        flushed=True,
        largest=10_000,
        because=_WHOLE(10_000),
    ),
    Peer(
        "pickledb",
        "pickledb",
        "pickledb",
        _KEPT,
        _NOTHING,
        shared=False,
        open=stores.Pickle,
        largest=100_000,
        because=_WHOLE(100_000),
    ),
    Peer(
        "dictdatabase",
        "dictdatabase",
        "dictdatabase",
        'kept ("ACID"); the file is written in place',
        'kept ("ACID"); it never calls fsync',
        shared=True,
        open=stores.DictDataBase,
        largest=100_000,
        because=_WHOLE(100_000),
    ),
    Peer(
        "synced-collections",
        "synced_collections.backends.collection_json",
        "synced-collections",
        "the file is written in place: all may be lost",
        _NOTHING,
        shared=False,
        open=lambda path: _import("synced_collections.backends.collection_json").JSONDict(str(path)),
        close=_no_close,
        largest=10_000,
        because="reads and writes its whole file at each use: not tried with more than 10,000 entries",
    ),
    Peer(
        "(lock, append, unlock)",
        "fcntl",
        "",
        "kept",
        _NOTHING,
        shared=True,
        open=stores.Bare,
        appends=True,
    ),
    Peer(
        "(dict)",
        "builtins",
        "",
        "lost",
        "lost",
        shared=False,
        open=lambda _: {},
        close=_no_close,
        lasting=False,
    ),
)
OURS = PEERS[0].name
