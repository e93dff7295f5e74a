"""Where an export goes, and an import comes from: files, compressed or not, replaced as a whole; and what format they have."""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from tastypy import files
from tastypy import format as form
from tastypy.errors import (
    ExchangeError,
    MissingExtraError,
    MissingSourceError,
    PathTakenError,
    StorageError,
    TastypyError,
    explained,
    storage_error,
)

if TYPE_CHECKING:
    from types import ModuleType

TEXTS = ("json", "jsonl", "csv")
TABLES = ("jsonl", "csv", "parquet")
WRITTEN = (*TEXTS, "parquet")
READ = (*WRITTEN, "pod", "2017", "shelve", "sqlitedict", "diskcache", "pickle")
_SUFFIXES = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".pod": "pod",
    ".tracker": "pod",
    ".pickle": "pickle",
    ".pkl": "pickle",
}
# what a directory is that has such a file in it, whatever its own name is
_INSIDE = {files.LOCK: "pod", "0.json": "2017", "0.json.gz": "2017", "cache.db": "diskcache"}
_AT_ONCE = 1 << 18  # bytes that are gathered before they are written


class Place(NamedTuple):
    """A file by its path, absolute, or one that is open; `name` is what messages call it, and `format` what it has or gets."""

    path: str
    file: BinaryIO | None
    name: str
    format: str


def place_of(what: Any, wanted: str | None, known: tuple[str, ...]) -> Place:
    """Return the place that a user names, by a path or an open file, with the format that is wanted, or that its name says.

    Raises:
        ExchangeError: the format is none that is known, or cannot be told.
    """
    if wanted is not None and wanted not in known:
        message = f"{wanted!r} is not a format; those possible here are {', '.join(known)}"
        raise ExchangeError(message)
    if hasattr(what, "read" if known is READ else "write"):
        name = str(getattr(what, "name", "a file"))
        if isinstance(what, io.TextIOBase):
            message = f'{name} was opened for text; open it for bytes, with "rb" or "wb"'
            raise ExchangeError(message)
        if wanted is None:
            message = f"{name}: say which format it has; those possible here are {', '.join(known)}"
            raise ExchangeError(message)
        return Place("", what, name.strip("<>"), wanted)
    path = files.absolute(what, "the path of a file")
    format = wanted or _format_by_name(path, known)  # noqa: A001 - what it is called everywhere
    if known is not READ and format not in TEXTS and path.lower().endswith(".gz"):
        message = (
            f"{path}: only {', '.join(TEXTS[:-1])} and {TEXTS[-1]} are compressed, and {format} is not: leave out .gz"
        )
        raise ExchangeError(message, path)
    return Place(path, None, os.fspath(what), format)


def _format_by_name(path: str, known: tuple[str, ...]) -> str:
    name = path.lower()
    inside = next((found for file, found in _INSIDE.items() if os.path.lexists(os.path.join(path, file))), None)
    found = inside or _SUFFIXES.get(os.path.splitext(name.removesuffix(".gz"))[1])
    if found not in known:
        message = (
            f"{path}: its name does not say which format it has: say one of {', '.join(known)} (format=, --format)"
        )
        raise ExchangeError(message, path)
    return found


def refuse_columns(place: Place, *, columns: bool, key: str) -> None:
    """Raise ExchangeError if something is said of columns, and the format has none."""
    if (columns or key != "key") and place.format not in TABLES:
        message = f"columns, key: the format {place.format} has no columns; {', '.join(TABLES)} have"
        raise ExchangeError(message)


def refuse_inside_a_pod(path: str) -> None:
    """Raise PathTakenError if a directory that `path` lies in is that of a POD, which is to have nothing else in it."""
    directory = path
    while directory != (directory := os.path.dirname(directory)):
        line = None
        # there is none, or another program's
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError, StorageError):
            line = form.decode_lock_line(files.read_file(os.path.join(directory, files.LOCK)))
        if line is not None:
            message = f"{path} is inside of a POD, whose directory is for its own files only: choose another place"
            raise PathTakenError(message, path)


def extra(module: str, name: str) -> ModuleType:
    """Return a module that only those have who installed the extra called `name`.

    Raises:
        MissingExtraError: it is not installed.
    """
    from importlib import import_module  # noqa: PLC0415 - as below

    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        message = f"{error.name} is not installed, which this needs: pip install 'tastypy[{name}]'"
        raise MissingExtraError(message) from None


# --- reading


@contextmanager
def opened(place: Place) -> Iterator[BinaryIO]:
    """Give the bytes of a place to be read, unpacked if they are compressed."""
    with ExitStack() as stack:
        try:
            file = place.file or stack.enter_context(open(place.path, "rb"))
        except FileNotFoundError:
            raise missing(place) from None
        except IsADirectoryError:
            message = f"{place.name} is a directory, and {place.format} is a file"
            raise ExchangeError(message, place.path) from None
        except OSError as error:
            raise storage_error(place.name, error) from error
        packed = False
        try:
            stream = _Rewound(file)
            packed = stream.begin == b"\x1f\x8b"
            if packed:
                yield cast("BinaryIO", stack.enter_context(gzip.GzipFile(fileobj=io.BufferedReader(stream))))
            else:
                yield cast("BinaryIO", stack.enter_context(io.BufferedReader(stream, _AT_ONCE)))
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            if not packed:
                raise
            message = f"{place.name} is damaged: not a whole file of gzip ({error})"
            raise ExchangeError(message, place.path) from error
        except OSError as error:
            raise error if isinstance(error, TastypyError) else storage_error(place.name, error) from error


def missing(place: Place) -> MissingSourceError:
    """Return what to raise where nothing is."""
    return MissingSourceError(f"{place.name}: there is no such file or directory", place.path)


class _Rewound(io.RawIOBase):
    """A file of which the first two bytes are known, as if nothing had been read of it: a pipe cannot be rewound."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._rest = b""
        while len(self._rest) < 2 and (part := file.read(2 - len(self._rest))):
            self._rest += part
        self.begin = self._rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as something is there."""
        part, self._rest = (self._rest or self._file.read(len(buffer)))[: len(buffer)], b""
        buffer[: len(part)] = part
        return len(part)


# --- writing


@contextmanager
def written(place: Place) -> Iterator[BinaryIO]:
    """Give a file to be written, which at the end takes the place's name, on stable storage; on an exception nothing changes.

    What is not a regular file, as a pipe is none, is written to as it is.
    """
    if place.file is not None:
        given: object = place.file
        if isinstance(given, io.RawIOBase):
            with io.BufferedWriter(_Unbuffered(given), _AT_ONCE) as file:
                yield cast("BinaryIO", file)
        else:
            yield place.file
        return
    with explained(place.name), ExitStack() as stack:
        target = stack.enter_context(_replaced(place.path))
        if place.format in TEXTS and place.path.lower().endswith(".gz"):
            # neither a name nor a time in it: the same entries give the same file
            yield cast("BinaryIO", stack.enter_context(gzip.GzipFile("", "wb", 6, target, mtime=0)))
        else:
            yield target


@contextmanager
def _replaced(path: str) -> Iterator[BinaryIO]:
    target = os.path.realpath(path)
    permissions = None
    try:
        mode = os.stat(path).st_mode  # of a pipe in /proc, as /dev/stdout may be one, there is no real path
        permissions = stat.S_IMODE(mode)
    except FileNotFoundError:
        mode = stat.S_IFREG
        if not os.path.isdir(os.path.dirname(target)):
            message = (
                f"{target}: there is no directory {os.path.dirname(target)}; make it first, or choose another place"
            )
            raise StorageError(message, target, errno.ENOENT) from None
    if stat.S_ISDIR(mode):
        message = f"{target} is a directory: name a file in it"
        raise PathTakenError(message, target)
    if not stat.S_ISREG(mode):
        with open(path, "wb") as file:
            yield file
        return
    refuse_inside_a_pod(target)
    temporary = os.path.join(os.path.dirname(target), files.temporary_name())
    try:
        descriptor = files.create_ordinary(temporary, permissions)
        try:
            with io.BufferedWriter(_Appended(descriptor), _AT_ONCE) as file:
                yield cast("BinaryIO", file)
                file.flush()
                files.sync_all(descriptor)
        finally:
            files.close(descriptor)
        files.rename(temporary, target)
    except BaseException:
        files.remove(temporary)
        raise
    files.sync_directory(os.path.dirname(target))


class _Appended(io.RawIOBase):
    """A descriptor as a file, written by the module that writes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Append all of it."""
        files.append(self._descriptor, bytes(data))
        return len(data)


class _Unbuffered(io.RawIOBase):
    """A user's file without a buffer, which may write less than it is given; it stays open."""

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Write all of it."""
        done = 0
        while done < len(data):
            count = self._file.write(data[done:])
            if count is None:
                message = "the file takes no more for now, as it was opened not to block; open it to block"
                raise BlockingIOError(errno.EAGAIN, message)
            done += count
        return done
