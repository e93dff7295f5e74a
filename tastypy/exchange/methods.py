"""What a POD has for in and out, with what users read about it; the work is done by modules that are imported when it is called."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, TypeVar, cast

from tastypy.mapping import SharedDict

if TYPE_CHECKING:
    from tastypy.pod import PersistentOrderedDict

K = TypeVar("K")
V = TypeVar("V")


class Imported(NamedTuple):
    """What came of an import.

    Attributes:
        added: how many entries are new.
        replaced: how many took the place of one that was there, in the POD or earlier in the source.
        skipped: how many were left out since there was one already.
        unstorable: of each entry that was left out since it cannot be stored, what is wrong with it.
    """

    added: int
    replaced: int
    skipped: int
    unstorable: tuple[str, ...]


class Exchanged(SharedDict[K, V]):
    """A dict in a directory that is copied, exported, filled from elsewhere, and shown as a table."""

    __slots__ = ()

    def copy_to(self, path: str | os.PathLike[str], *, lock: Literal["flock", "lease"] | None = None) -> None:
        """Copy the directory to a new one, as it is at one moment, while others go on writing.

        What is copied is what is committed; what is held is not. The copy is a POD of its own, on stable storage when this
        returns, with everything in its shards, and with the same `gzipped` and `shard_bytes`. Claims of workers are released in
        it, without a try. It takes no lock, so it keeps nobody waiting, and works with mode "r", too.

        Until it is whole, the copy has another name beside `path`, which begins with a dot and ends with `.incomplete`.

        >>> from tastypy import POD
        >>> pod = POD("my.pod")
        >>> pod["foo"] = "bar"
        >>> pod.copy_to("backup.pod")
        >>> POD("backup.pod")
        PersistentOrderedDict('...backup.pod', 1 entries)

        Args:
            path: where nothing is, or an empty directory; `~` is expanded, parents are created.
            lock: "flock" or "lease", if it is not to be that of this POD.

        Raises:
            PathTakenError: something is at `path`.
            PersistentOrderedDictIntegrityError: a file is damaged; nothing was copied.
            StorageError: the copy could not be written, or this directory changes faster than it can be read.
        """
        from tastypy.exchange.copying import copy  # noqa: PLC0415 - seldom needed

        copy(self._pod().path, path, identity=self._store.id, lock=lock)

    def export_to(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        format: Literal["json", "jsonl", "csv", "parquet"] | None = None,  # noqa: A002 - what everybody calls it
        columns: bool = False,
        key: str = "key",
    ) -> int:
        """Write all entries to a file, as they are at one moment; return how many.

        A file is replaced as a whole, or, on an error, not at all. Keys are spelled as in the files of a POD, and `import_from`
        brings everything back as it is, unless `columns` says otherwise.

        >>> from pathlib import Path
        >>> from tastypy import POD
        >>> pod = POD("my.pod")
        >>> pod["foo"] = {"lines": 12}
        >>> pod.export_to("my.jsonl")
        1
        >>> print(Path("my.jsonl").read_text(), end="")
        {"key":"foo","value":{"lines":12}}

        Args:
            target: a path, or a file that was opened to write bytes.
            format: "json", one object; "jsonl", an object with key and value a line; "csv" and "parquet", the same as a table, with
                the value as JSON text. By default what the suffix of `target` says; with `.gz` behind it, it is compressed.
            columns: whether each field of a value that is a dict becomes a column of its own (in "jsonl" a field of its own), and
                any other value one called "value". That is how other programs like it, and does not come back exactly.
            key: what the column with the keys is called.

        Raises:
            ExchangeError: the format is not known, or cannot hold the entries.
            MissingExtraError: the format needs a package that is not installed.
            UnstorableTypeError, UnstorableValueError, WrongTypeError: a value was mutated into what JSON lacks, or another type.
            StorageError: it could not be written.
        """
        from tastypy.exchange.writing import export  # noqa: PLC0415 - seldom needed

        return export(self._pod(), target, format=format, columns=columns, key=key)

    def import_from(
        self,
        source: str | os.PathLike[str] | BinaryIO,
        *,
        format: Literal["json", "jsonl", "csv", "parquet", "pod", "2017", "shelve", "sqlitedict", "diskcache", "pickle"]  # noqa: A002 - as above
        | None = None,
        existing: Literal["error", "skip", "replace"] = "error",
        columns: bool = False,
        key: str = "key",
        table: str | None = None,
        unpickle: bool = False,
        skip_unstorable: bool = False,
    ) -> Imported:
        """Store all entries of a file, or of another store, in one commit: all or, on any error, none.

        >>> from pathlib import Path
        >>> from tastypy import POD
        >>> _ = Path("numbers.json").write_text('{"one": 1, "two": 2}')
        >>> POD("my.pod").import_from("numbers.json")
        Imported(added=2, replaced=0, skipped=0, unstorable=())

        Args:
            source: a path, or a file that was opened to read bytes. Text may be compressed with gzip.
            format: as for `export_to`; or "pod", another POD; "2017", files of the first tastypy; "shelve", "sqlitedict", "diskcache",
                or "pickle", a pickled dict. By default what the suffix of `source` says, or what is in it if it is a directory.
            existing: what to do about keys that are there already: "error", "skip" those entries, or "replace" what is there.
            columns: whether all columns but that with the key become fields of a dict; else there must be one more, "value", with
                JSON text.
            key: what the column with the keys is called.
            table: of sqlitedict, if there are several.
            unpickle: must be True for "shelve", "sqlitedict", "diskcache" and "pickle": unpickling runs what the writer of the
                data wants to be run.
            skip_unstorable: whether to leave out entries that JSON cannot hold, or that are not of the `type` of this POD, which
                is an error otherwise. What `default` of this POD converts is no such entry.

        Raises:
            ExchangeError: the source cannot be read; the message has file, line or entry, and what to do.
            DuplicateKeyError: a key is there already, or twice in the source, and `existing` is "error".
            UnstorableTypeError, UnstorableValueError: JSON cannot hold a key or a value exactly.
            WrongTypeError: a value is not of the `type` of this POD.
            MissingExtraError: the format needs a package that is not installed.
            And what an `update` raises.
        """
        from tastypy.exchange import importing  # noqa: PLC0415 - seldom needed

        self._store.require_writable("import")
        parcel = importing.read(
            source,
            format=format,
            existing=existing,
            columns=columns,
            key=key,
            table=table,
            unpickle=unpickle,
            skip_unstorable=skip_unstorable,
            default=self._default,
            codec=self._codec,
        )
        return importing.store(self._pod(), parcel)

    def to_dataframe(self, library: Literal["pandas", "polars"] = "pandas", *, key: str = "key") -> Any:
        """Return a table with a row for each entry, in order: a `DataFrame` of pandas or polars.

        The first column has the keys: as they are if all are of one type, else spelled as in files. The fields of values that are
        dicts have a column each, in the order in which they come; all other values are in one called "value". What lies deeper stays
        as it is.

        >>> from tastypy import POD
        >>> pod = POD("my.pod")
        >>> pod.update({"a": {"lines": 12}, "b": {"lines": 7, "bytes": 105}})
        >>> pod.to_dataframe()  # doctest: +SKIP
          key  lines  bytes
        0   a     12   <NA>
        1   b      7    105

        In pandas a column of integers or booleans in which some are missing is of the type `Int64` or `boolean`, so that no integer
        becomes a float. A column of values of several types has objects.

        Args:
            library: "pandas" or "polars".
            key: what the column with the keys is called.

        Raises:
            MissingExtraError: the library is not installed.
            ExchangeError: a value has a field of the name of the column with the keys.
        """
        from tastypy.exchange.frames import dataframe  # noqa: PLC0415 - seldom needed

        return dataframe(self._pod(), library, key=key)

    def _pod(self) -> PersistentOrderedDict[Any, Any]:
        return cast("PersistentOrderedDict[Any, Any]", self)
