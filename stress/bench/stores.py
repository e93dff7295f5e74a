"""Peers that are no dicts, made into what the workloads take: keys that are `str`, values that are what JSON holds.

Each is used as its documentation shows, and no class here does more than that takes. Where a library leaves the commit to
the user, it follows every assignment.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import shelve
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson


class Shelf(shelve.Shelf[Any]):
    """A shelf that is synchronised after every assignment."""

    def __init__(self, path: Path, backend: str) -> None:
        super().__init__(importlib.import_module(backend).open(str(path), "c"))

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.sync()

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self.sync()

    def assign_all(self, mapping: Mapping[str, Any]) -> None:
        """Assign many keys, with one synchronisation at the end."""
        for key, value in mapping.items():
            super().__setitem__(key, value)
        self.sync()


class Lmdb:
    """LMDB with values that orjson makes, one transaction a call."""

    def __init__(self, path: Path, *, sync: bool) -> None:
        # address space, not memory; readers of several processes share a table of this many places
        self._env = importlib.import_module("lmdb").open(str(path), map_size=1 << 36, sync=sync, max_readers=256)

    def __setitem__(self, key: str, value: Any) -> None:
        with self._env.begin(write=True) as transaction:
            transaction.put(key.encode(), orjson.dumps(value))

    def __getitem__(self, key: str) -> Any:
        with self._env.begin() as transaction:
            text = transaction.get(key.encode())
        if text is None:
            raise KeyError(key)
        return orjson.loads(text)

    def __delitem__(self, key: str) -> None:
        with self._env.begin(write=True) as transaction:
            if not transaction.delete(key.encode()):
                raise KeyError(key)

    def __contains__(self, key: str) -> bool:
        with self._env.begin() as transaction:
            return transaction.get(key.encode()) is not None

    def __iter__(self) -> Iterator[str]:
        with self._env.begin() as transaction:
            for key in transaction.cursor().iternext(keys=True, values=False):
                yield key.decode()

    def items(self) -> Iterator[tuple[str, Any]]:
        """Go over keys and values."""
        with self._env.begin() as transaction:
            for key, text in transaction.cursor():
                yield key.decode(), orjson.loads(text)

    def update(self, mapping: Mapping[str, Any]) -> None:
        """Assign many keys in one transaction."""
        with self._env.begin(write=True) as transaction:
            for key, value in mapping.items():
                transaction.put(key.encode(), orjson.dumps(value))

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


class Tiny:
    """TinyDB: a document a key."""

    def __init__(self, path: Path) -> None:
        tinydb = importlib.import_module("tinydb")
        self._db = tinydb.TinyDB(str(path))
        self._key = tinydb.Query().key

    def __setitem__(self, key: str, value: Any) -> None:
        self._db.upsert({"key": key, "value": value}, self._key == key)

    def __getitem__(self, key: str) -> Any:
        document = self._db.get(self._key == key)
        if document is None:
            raise KeyError(key)
        return document["value"]

    def __delitem__(self, key: str) -> None:
        if not self._db.remove(self._key == key):
            raise KeyError(key)

    def __contains__(self, key: str) -> bool:
        return bool(self._db.contains(self._key == key))

    def __iter__(self) -> Iterator[str]:
        return (document["key"] for document in self._db)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Go over keys and values."""
        return ((document["key"], document["value"]) for document in self._db)

    def update(self, mapping: Mapping[str, Any]) -> None:
        """Add many keys that are new."""
        self._db.insert_multiple([{"key": key, "value": value} for key, value in mapping.items()])

    def close(self) -> None:
        """Close the file."""
        self._db.close()


class Pickle:
    """pickleDB, saved after every assignment."""

    def __init__(self, path: Path) -> None:
        self._db = importlib.import_module("pickledb").PickleDB(str(path)).load()

    def __setitem__(self, key: str, value: Any) -> None:
        self._db.set(key, value)
        self._db.save()

    def __getitem__(self, key: str) -> Any:
        return self._db.get(key)

    def __delitem__(self, key: str) -> None:
        if not self._db.remove(key):
            raise KeyError(key)
        self._db.save()

    def __contains__(self, key: str) -> bool:
        return self._db.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._db.all())

    def items(self) -> Iterator[tuple[str, Any]]:
        """Go over keys and values."""
        return ((key, self._db.get(key)) for key in self._db.all())

    def update(self, mapping: Mapping[str, Any]) -> None:
        """Assign many keys, saved at the end."""
        for key, value in mapping.items():
            self._db.set(key, value)
        self._db.save()

    def close(self) -> None:
        """Do nothing: everything is saved."""


class DictDataBase:
    """DictDataBase: one of its files, a session for every assignment."""

    def __init__(self, path: Path) -> None:
        self._library = importlib.import_module("dictdatabase")
        self._library.config.storage_directory = str(path)  # one a process, as the library has it
        if not self._library.at("store").exists():
            self._library.at("store").create({})

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __getitem__(self, key: str) -> Any:
        value = self._library.at("store", key=key).read()
        if value is None:
            raise KeyError(key)
        return value

    def __delitem__(self, key: str) -> None:
        with self._library.at("store").session() as (session, data):
            del data[key]
            session.write()

    def __contains__(self, key: str) -> bool:
        return bool(self._library.at("store", key=key).exists())

    def __iter__(self) -> Iterator[str]:
        return iter(self._library.at("store").read())

    def items(self) -> Iterator[tuple[str, Any]]:
        """Go over keys and values."""
        return iter(self._library.at("store").read().items())

    def update(self, mapping: Mapping[str, Any]) -> None:
        """Assign many keys in one session."""
        with self._library.at("store").session() as (session, data):
            data.update(mapping)
            session.write()

    def close(self) -> None:
        """Do nothing: nothing is open."""


class Bare:
    """A file that lines are appended to under a lock, and nothing else: what no store that processes share can be faster than."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)

    def __setitem__(self, key: str, value: Any) -> None:
        line = orjson.dumps({key: value}) + b"\n"
        fcntl.flock(self._file, fcntl.LOCK_EX)
        os.write(self._file, line)
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
