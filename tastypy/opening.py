"""Finding a directory, or creating it: what stands between a path and a `Store` that can be read and written."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tastypy import fencing, files, health
from tastypy import format as form
from tastypy import lock as locks
from tastypy.errors import (
    CommitError,
    MissingPODError,
    NotAPODError,
    PermissionDeniedError,
    PersistentOrderedDictIntegrityError,
    StorageError,
    TastypyError,
    storage_error,
)
from tastypy.reading import PAUSE, TRIES

if TYPE_CHECKING:
    from tastypy.store import Store


def open_lock(store: Store, wanted: str | None) -> None:
    """Open `.lock`: where the store is writable, created with its directory if need be; else it must be there.

    Of a new directory the lock is what is `wanted`, flock if that is None.
    """
    path = store.file(files.LOCK)
    try:
        if store.writable:
            if os.path.islink(store.path) and not os.path.exists(store.path):
                message = f"{store.path} cannot be a POD: it is a symbolic link to nothing"
                raise NotAPODError(message, store.path)
            files.make_directories(store.path)
            if not os.path.lexists(path):
                _refuse_foreign(store)
            store.permissions = files.permissions_in(store.path)
            descriptor = files.open_or_create_lock(path, store.permissions)
            try:
                leased = _is_leased(store, descriptor, wanted)
            except BaseException:
                os.close(descriptor)
                raise
            store.lock = locks.lock_of(path, descriptor, leased=leased)
            store.local = store.lock.local
        else:
            store.lock = _wait_for_lock_file(store, path)
            store.local = store.lock.local and not _is_leased(store, store.lock.open(), wanted)
    except (FileExistsError, NotADirectoryError) as error:
        message = f"{store.path} cannot be a POD: a file of that name, or of a parent's, is in the way"
        raise NotAPODError(message, store.path) from error
    except PermissionError as error:
        advice = 'open it with mode="r", or ask for the permission' if store.writable else "ask for the permission"
        message = f"{store.path}: no permission ({error.strerror}: {error.filename}); {advice}"
        raise PermissionDeniedError(message, store.path, error.errno) from error
    except OSError as error:
        if isinstance(error, TastypyError):
            raise
        raise storage_error(store.path, error) from error


def _is_leased(store: Store, descriptor: int, wanted: str | None) -> bool:
    """Tell whether the lock is a lease: by what `.lock` says, or, where it is damaged, the journals; else, if that is `wanted`."""
    line = form.decode_lock_line(files.read_from(descriptor, 0)) or health.choose(store.path)
    return (line.lock if line else wanted) == form.LEASE


def _wait_for_lock_file(store: Store, path: str) -> locks.DirectoryLock:
    start = time.monotonic()
    while True:
        try:
            return locks.reader_of(path)
        except FileNotFoundError as error:
            # somebody may be creating it just now
            if health.has_files(store.path) and time.monotonic() - start > TRIES * PAUSE:
                message = f'{path} is missing, though there are journals: open it once with mode="a", which recovers it'
                raise PersistentOrderedDictIntegrityError(message, store.path) from error
            if not os.path.isdir(store.path) or time.monotonic() - start > TRIES * PAUSE:
                message = f'there is no POD at {store.path}; mode="a" creates one'
                raise MissingPODError(message, store.path) from error
            time.sleep(PAUSE)


def _refuse_foreign(store: Store) -> None:
    foreign = [name for name, what in files.names_in(store.path).items() if what is None]
    if foreign:
        message = (
            f"{store.path} is a directory with other things in it ({', '.join(foreign[:3])}"
            f"{', ...' if len(foreign) > 3 else ''}): a POD wants a directory of its own"
        )
        raise NotAPODError(message, store.path)


def find_or_create(store: Store, gzipped: bool | None, shard_bytes: int | None) -> None:
    """Find the epoch, recover it, or create the first one; with the lock held."""
    data = store.read_lock_line(locked=True)
    line = form.decode_lock_line(data)
    if line is None:
        # whoever made the directory may have died before its name was on stable storage
        with suppress(PermissionError):
            files.sync_directory(os.path.dirname(store.path))
        kinds = {what.kind for what in files.names_in(store.path).values() if what}
        if not store.lock.is_had():  # and `data` is old by now
            raise fencing.lost(store)
        if kinds & {"journal", "shard"}:
            line = health.recover(store, data)
        elif data:
            message = (
                f"{store.path} cannot be a POD: its .lock is another program's, or damaged, and there is no journal"
            )
            raise NotAPODError(message, store.path)
    if line is None:
        _refuse_foreign(store)
        line = _create(store, gzipped=gzipped or False, shard_bytes=shard_bytes or health.SHARD_BYTES)
    store.id = line.id
    _read_header(store, line.epoch)


def _create(store: Store, *, gzipped: bool, shard_bytes: int) -> form.LockLine:
    try:
        epoch, descriptor = store.create_journal(1)
        lock = form.LEASE if store.lock.leased else form.FLOCK
        header = form.Header(files.random_text(8), epoch, 0, 0, gzipped, shard_bytes, 0, (), lock=lock)
        try:
            files.write_and_sync(descriptor, header.encode())
        finally:
            files.close(descriptor)
        files.sync_directory(store.path)
        if not store.lock.is_had():
            raise fencing.lost(store)  # somebody may use that journal by now
        line = header.lock_line
        files.replace_line(store.lock.open(), line.encode())
    except OSError as error:
        if isinstance(error, TastypyError):
            raise
        message = f"{store.path} cannot be created: {error.strerror}"
        raise CommitError(message, store.path, error.errno) from error
    store.sealed = epoch
    return line


def find(store: Store) -> None:
    """Find the epoch without the lock."""
    line = store.current(store.read_lock_line(locked=False), locked=False)
    store.id = line.id
    _read_header(store, line.epoch)


def _read_header(store: Store, epoch: int) -> None:
    """Read the header of an epoch, or, without the lock, of one that came after it."""
    missing = 0
    for attempt in range(TRIES):
        try:
            store.header = store.read_journal(epoch)[0]
        except FileNotFoundError as error:  # folded twice meanwhile; or a cache does not know the name yet
            line = store.current(store.read_lock_line(locked=store.writable), locked=store.writable)
            missing = missing + 1 if line.epoch == epoch else 0
            if missing:
                if line.lock == form.LEASE:  # whoever wrote it may have been late
                    line = form.decode_lock_line(store.line_by_journals()) or line
                if missing > 4 and line.epoch == epoch:
                    message = (
                        f"{error.filename} is missing, though .lock names it; "
                        f"`tastypy repair {store.path}` makes a POD of what the shards hold"
                    )
                    raise PersistentOrderedDictIntegrityError(message, store.path) from error
                time.sleep(PAUSE)
            epoch = line.epoch  # without a pause, in which it may be folded twice again
        except PersistentOrderedDictIntegrityError:
            if store.writable or attempt > 3:  # without the lock, it may have been read before it was there
                raise
            time.sleep(PAUSE)
        else:
            return
    message = f"{store.path} is folded faster than this process can read it: open it again when fewer write"
    raise StorageError(message, store.path)
