"""The files of a POD: their names, and each thing that is ever done to them.

The only module that writes. Every system call goes through the name `os` of this module, so that tests may put one in its
place that fails, and through nothing that a network file system answers from a cache (see the documentation, "Design").

Whoever may write in the directory may put anything there under one of our names. What is opened in here is a regular file
of one name, or an error that says what it is: no link is followed, nothing is waited for, and no file of holes is read to
its end. The path of the directory itself is the user's own, and may lead over symbolic links.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from contextlib import suppress
from typing import Any, NamedTuple

from tastypy import mounts
from tastypy.errors import StorageError

LOCK = ".lock"
LEASE = ".lease"
_NAMES = re.compile(
    r"(?P<journal>journal-(?P<je>[1-9]\d*)\.jsonl)"
    r"|(?P<shard>(?P<number>\d{4,})-(?P<se>[1-9]\d*)\.json(\.gz)?)"
    r"|(?P<worker>worker-[0-9a-f]{16}\.jsonl)"
    r"|(?P<lease>worker-[0-9a-f]{16}\.lease)"
    r"|(?P<temporary>\.[0-9a-f]{16}\.tmp)"
    r"|(?P<aside>aside-[0-9a-f]{8}-.*)"
    # a network file system keeps under .nfs… what was removed while it was open; `tastypy doctor` works in .doctor-…;
    # filelock takes a lease over under names that end with .break… and .restore…
    r"|(?P<other>\.lock|\.nfs.*|\.doctor-[0-9A-Za-z_-]{1,40}"
    r"|\.lease|(\.|worker-[0-9a-f]{16}\.)lease\.(break|restore)\.\d+\.[0-9a-f]+)"
)

VANISHED = (errno.ENOENT, errno.ESTALE)  # of a name that another process removed, as different hosts see it
_STALE_TRIES = 10
_BEGUN_TRIES, _BEGUN_PAUSE = 50, 0.01  # seconds in between, for what takes microseconds
_LEASE_TRIES, _LEASE_PAUSE = 3000, 0.02  # seconds in between: the kernel breaks a lease after 45 s
# neither a symbolic link nor a FIFO without a writer, a lease or a terminal are anything to follow or wait for
_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_NO_FILE = {
    errno.ELOOP: "a symbolic link",
    errno.EMLINK: "a symbolic link",  # as the BSDs say it
    errno.EISDIR: "a directory",
    errno.ENXIO: "a socket, a FIFO or a device",
    errno.ENODEV: "a device",
}
# No file of ours has any in its text, but after a power cut a journal may have a hole, as large as what was not synced.
_MOST_NULS = 1 << 26  # bytes


class Name(NamedTuple):
    """What a file's name says: its kind (journal, shard, worker, lease, temporary, aside or other), number and epoch (0: none)."""

    kind: str
    number: int = 0
    epoch: int = 0


def journal_name(epoch: int) -> str:
    """Return the name of the journal of an epoch."""
    return f"journal-{epoch}.jsonl"


def shard_name(number: int, epoch: int, *, gzipped: bool) -> str:
    """Return the name of a shard as an epoch wrote it."""
    return f"{number:04d}-{epoch}.json{'.gz' if gzipped else ''}"


def worker_name(name: str) -> str:
    """Return the name of the file of a worker, whose own name is 16 hexadecimal digits."""
    return f"worker-{name}.jsonl"


def is_worker(name: str) -> bool:
    """Tell whether a worker can have this name."""
    return _NAMES.fullmatch(worker_name(name)) is not None


def worker_of(file: str) -> str:
    """Return the name of the worker whose file, or marker of a lease, it is."""
    return file.removeprefix("worker-").removesuffix(".jsonl").removesuffix(".lease")


def temporary_name() -> str:
    """Return a name for a file that is not whole yet, random, so that no other host has chosen it too."""
    return f".{random_text(8)}.tmp"


def aside_name(name: str) -> str:
    """Return a name under which something is set aside, random, so that no other host has chosen it too."""
    return f"aside-{random_text(4)}-{name.lstrip('.')}"


def examination_name(code: str) -> str:
    """Return the name of the directory of an examination by `tastypy doctor`."""
    return f".doctor-{code}"


def random_text(size: int) -> str:
    """Return `size` random bytes as hexadecimal digits."""
    return os.urandom(size).hex()


def parse_name(name: str) -> Name | None:
    """Return what the name says, or None if it is none of ours."""
    match = _NAMES.fullmatch(name)
    if match is None:
        return None
    kind = str(match.lastgroup if match.lastgroup in ("worker", "lease", "temporary", "aside", "other") else "")
    if match["journal"]:
        return Name("journal", 0, int(match["je"]))
    if match["shard"]:
        return Name("shard", int(match["number"]), int(match["se"]))
    return Name(kind)


def names_in(path: str) -> dict[str, Name | None]:
    """Return every name in the directory with what it says."""
    return {name: parse_name(name) for name in sorted(os.listdir(path))}


def is_local(descriptor: int) -> bool:
    """Tell whether the file lies on a file system that is known to be local.

    Only there a journal's descriptor may stay open, and its size be asked for instead of read. What is not known is taken
    for a network file system.
    """
    mount = mounts.mount_of(descriptor)
    return mount is not None and mount.kind == "local"


def absolute(path: Any, what: str) -> str:
    """Return a path that a user gave, absolute, with `~` expanded; `what` it is stands in errors.

    Raises:
        TypeError, ValueError: it is no text, or empty.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        message = f"{what} must be a str or PathLike, not {path!r}"
        raise TypeError(message)
    if not text:
        message = f"{what} must not be empty"
        raise ValueError(message)
    return os.path.abspath(os.path.expanduser(text))


# --- reading


def open_to_read(path: str) -> int:
    """Open a file that is only read; return the descriptor."""
    return _open(path, os.O_RDONLY)


def open_to_append(path: str) -> int:
    """Open a file that is there, to read it and to append to it; return the descriptor."""
    return _open(path, os.O_RDWR | os.O_APPEND)


def open_to_lock(path: str, *, writable: bool = True) -> int:
    """Open a file that is there, for its lock and to read it; return the descriptor.

    A network file system wants it to be writable for a lock that excludes all others.
    """
    return _open(path, os.O_RDWR if writable else os.O_RDONLY)


def open_lock(path: str, *, writable: bool = True) -> int:
    """Open `.lock`, which is there, and wait a little for the permission if it is empty.

    Then another user may be creating it, whose umask it has until its permissions are set, before it is written to.
    """
    for _ in range(_BEGUN_TRIES):
        try:
            return open_to_lock(path, writable=writable)
        except PermissionError:
            if os.lstat(path).st_size:
                break  # for good, or written to since
            time.sleep(_BEGUN_PAUSE)
    return open_to_lock(path, writable=writable)


def _open(path: str, flags: int) -> int:
    """Open a regular file that is there; what is written to has no other name, which may be in somebody else's directory.

    Raises:
        StorageError: it is something else.
    """
    try:
        descriptor = _open_patiently(path, flags | _SAFE)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise _refused(path, _NO_FILE[error.errno], error.errno) from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _refused(path, "a FIFO, a directory or a device", errno.EINVAL)  # noqa: TRY301 - the cleanup is one
        if flags & os.O_RDWR and status.st_nlink > 1:
            message = (
                f"{path} has {status.st_nlink} names (hard links, as `cp -al` makes them), and what is written to it would be "
                "written to all of them; it was left alone. Remove its other names, or, while nobody uses the directory, "
                "replace that by a copy that `cp -a` made"
            )
            raise StorageError(message, path, errno.EMLINK)  # noqa: TRY301 - as above
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_patiently(path: str, flags: int) -> int:
    stale = leased = 0
    while True:
        try:
            return os.open(path, flags)
        except OSError as error:
            # A network file system may know the name by a handle that is no more valid; the next look-up gets a new one.
            # A server gives its clients leases on files; who opens one there without waiting has them called back.
            if error.errno == errno.ESTALE and stale < _STALE_TRIES:
                stale += 1
            elif error.errno == errno.EAGAIN and leased < _LEASE_TRIES:
                leased += 1
                time.sleep(_LEASE_PAUSE)
            else:
                raise


def _refused(path: str, what: str, number: int) -> StorageError:
    message = f"{path} is {what}, which tastypy does not put there; it was left alone. Find out who put it there, and remove it"
    return StorageError(message, path, number)


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Return up to `size` bytes from `offset`."""
    return os.pread(descriptor, size, offset)


def read_from(descriptor: int, offset: int) -> bytes:
    """Return all bytes from `offset` to the end, however large the file became meanwhile.

    Raises:
        StorageError: they are NUL bytes by the million, of the holes of a sparse file: a terabyte of them takes no space.
    """
    parts = []
    size = 1 << 14
    nuls = 0
    while part := os.pread(descriptor, size, offset):
        parts.append(part)
        offset += len(part)
        size = 1 << 22
        nuls += part.count(0)
        if nuls > _MOST_NULS:
            if _is_hole(descriptor, offset):
                break  # to the end: a power cut left it, and it is cut off as a torn line is
            path = _path_of(descriptor)
            message = (
                f"{path} has {nuls:,} NUL bytes or more, which no file of a POD has; it was left alone: keep a copy of what "
                "is before them, and cut them off"
            )
            raise StorageError(message, path, errno.EFBIG)
    return b"".join(parts)


def _is_hole(descriptor: int, offset: int) -> bool:
    """Tell whether a file is known to have no data from `offset` on."""
    try:
        os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        return error.errno == errno.ENXIO
    return False


def _path_of(descriptor: int) -> str:
    """Return the path of an open file, for a message."""
    with suppress(OSError):
        return os.readlink(f"/proc/self/fd/{descriptor}")
    return "a file"


def read_file(path: str, offset: int = 0) -> bytes:
    """Return the bytes of the file from `offset`."""
    descriptor = open_to_read(path)
    try:
        return read_from(descriptor, offset)
    finally:
        os.close(descriptor)


def read_rewritten(path: str, offset: int = 0) -> bytes:
    """Return the bytes from `offset` of a file that others write, without the lock that would have it read anew.

    An NFS client keeps what it has as long as the file's change attribute is the same, and a server may make that from a clock
    that goes in steps of 4 ms: of two changes in one step the second one is not seen until there is a third.
    """
    descriptor = open_to_read(path)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # the cache lets go of it
        return read_from(descriptor, offset)
    finally:
        os.close(descriptor)


def read_end(descriptor: int, size: int) -> tuple[bytes, int]:
    """Return the last `size` bytes of a file that was opened just now, and its length."""
    length = os.lseek(descriptor, 0, os.SEEK_END)
    return os.pread(descriptor, size, max(length - size, 0)), length


def look(lock: int, most: int, path: str) -> tuple[bytes, int, int]:
    """Return up to `most` bytes that an open file begins with, and the size of the file at `path` and its inode, -1 without one.

    As `read_at` and `size_and_inode` do, in one call: this is what each commit begins with.
    """
    begin = os.pread(lock, most, 0)
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return begin, -1, -1
    return begin, status.st_size, status.st_ino


def size_and_inode(path: str) -> tuple[int, int]:
    """Return the size of a file and its inode; to be trusted on local file systems only."""
    status = os.lstat(path)
    return status.st_size, status.st_ino


def inode_of(descriptor: int) -> int:
    """Return the inode of an open file."""
    return os.fstat(descriptor).st_ino


# --- writing


def permissions_in(path: str) -> int:
    """Return the permission bits of new files in the directory: its own, without those to search it."""
    return os.stat(path).st_mode & 0o666


def create(path: str, permissions: int, *, append: bool = True) -> int:
    """Create a file and open it to read and append, with these permission bits whatever the umask is.

    Without `append` it is opened to be written at any place.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | (os.O_APPEND if append else 0)
    descriptor = os.open(path, flags, permissions)
    try:
        os.fchmod(descriptor, permissions)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def create_ordinary(path: str, permissions: int | None) -> int:
    """Create a file as programs do, and open it to append; with these permissions, or with None those that the umask leaves."""
    if permissions is not None:
        return create(path, permissions)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)


def lease_name(worker: str) -> str:
    """Return the name of the marker of the lease of a worker, where there is no flock."""
    return f"worker-{worker}.lease"


def open_or_create_lock(path: str, permissions: int) -> int:
    """Open `.lock`, created if need be; not to append, since its one line is replaced in place."""
    try:
        return open_lock(path)
    except FileNotFoundError:
        with suppress(FileExistsError):  # another one has just created it
            os.close(create(path, permissions))
        return open_lock(path)


def append(descriptor: int, data: bytes) -> None:
    """Append all of `data`; a short write is continued."""
    written = os.write(descriptor, data)
    while written < len(data):
        data = data[written:]
        written = os.write(descriptor, data)


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write `data`, which is short, at `offset`; a short write is continued."""
    written = os.pwrite(descriptor, data, offset)
    if written < len(data):
        os.pwrite(descriptor, data[written:], offset + written)


def replace_line(descriptor: int, line: bytes) -> None:
    """Write the one short line of `.lock`, all of it within a sector, and wait until it is on stable storage."""
    write_at(descriptor, line, 0)
    os.fdatasync(descriptor)


def shorten(descriptor: int, size: int) -> None:
    """Cut an open file off at `size`."""
    os.ftruncate(descriptor, size)


def sync(descriptor: int) -> None:
    """Wait until the content of the file is on stable storage."""
    os.fdatasync(descriptor)


def sync_all(descriptor: int) -> None:
    """Wait until the content of the file, and its size, are on stable storage."""
    os.fsync(descriptor)


def close(descriptor: int) -> None:
    """Close the file; a network file system reports here what it could not write."""
    os.close(descriptor)


def cut(path: str, offset: int) -> None:
    """Cut the file off at `offset`, by a descriptor of its own."""
    descriptor = _open(path, os.O_RDWR)
    try:
        os.ftruncate(descriptor, offset)
    finally:
        os.close(descriptor)


def write_new(path: str, data: bytes, permissions: int) -> None:
    """Write a file whole, or not at all: under a random name beside it, to stable storage, and only then under its own."""
    temporary = os.path.join(os.path.dirname(path), temporary_name())
    try:
        descriptor = create(temporary, permissions)
        try:
            append(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        remove(temporary)
        raise


def write_and_sync(descriptor: int, data: bytes) -> None:
    """Append `data` and wait until file and size are on stable storage."""
    append(descriptor, data)
    os.fsync(descriptor)


def rename(path: str, to: str) -> None:
    """Give a file another name, in the same directory."""
    os.rename(path, to)


def sync_file(path: str) -> None:
    """Wait until a file is on stable storage that was written before."""
    descriptor = open_to_append(path)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: str) -> None:
    """Remove a file if that is possible; what stays is removed by a later fold."""
    with suppress(OSError):
        os.unlink(path)


def sync_directory(path: str) -> None:
    """Wait until the names in the directory are on stable storage."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that have nothing to do here say so thus
            raise
    finally:
        os.close(descriptor)


def make_directories(path: str) -> None:
    """Create the directory and its parents, and wait until the new names are on stable storage."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        with suppress(FileExistsError):  # another process was faster
            os.mkdir(directory)
        sync_directory(os.path.dirname(directory))


def make_directory(path: str, *, like: str | None = None) -> None:
    """Create a directory with the permissions of the one that it is in, or of another one, whatever the umask is.

    What is `like` another directory may be written to by its owner in any case, and is of the same group, if the user may have
    that, which files in it get, too, where they do in the other one.

    Raises:
        FileExistsError: something of that name is there.
    """
    os.mkdir(path, 0o700)
    if like is None:
        os.chmod(path, os.stat(os.path.dirname(path)).st_mode & 0o777)
        return
    other = os.stat(like)
    with suppress(OSError):  # of a group that the user is not in, or where there are none
        os.chown(path, -1, other.st_gid)
    os.chmod(path, other.st_mode & (0o777 | stat.S_ISGID) | 0o700)


def remove_directory(path: str) -> None:
    """Remove a directory with everything in it that can be seen."""
    for entry in os.scandir(path):
        if entry.is_dir(follow_symlinks=False):
            remove_directory(entry.path)
        else:
            os.unlink(entry.path)
    os.rmdir(path)
