"""What is written where the lock is a lease, and read back before it counts.

Who was stopped for longer than its lease lasts goes on as if it had it, and no check before a write can prevent that. So nothing
that was acknowledged hangs on the lease: a journal only grows there, and the first line with a number counts (see
`format.read_lines`). A fold is committed by its seal, which has a number as a batch has; `.lock` only tells where to begin to
read. Whoever appends reads its line back, and finds out whether it was the first.

That takes a file system whose appends do not write over each other. NFS gives that only to those who have the lock.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from tastypy import files, health
from tastypy import format as form
from tastypy.errors import CommitError, LeaseLostError, TastypyError, UnknownOutcomeError

if TYPE_CHECKING:
    from tastypy.reading import Position
    from tastypy.store import Store


def append(store: Store, here: Position, line: bytes, write: Callable[[int], object]) -> int:
    """Append a line to the journal read up to `here`, with the lease had; return the offset after it.

    `write` is called with the journal's descriptor, which is closed by it.

    Raises:
        LeaseLostError: another process has written instead; the lease is had again.
        CommitError: it could not be written; nobody reads what there is of it.
        UnknownOutcomeError: an error came, and the line is there; or whether it is there cannot be told.
    """
    if not store.lock.is_had():
        raise lost(store)
    path = store.file(files.journal_name(here.epoch))
    failed: OSError | None = None
    try:
        write(_open_to_append(path))
    except OSError as error:
        failed = error
    try:
        end = _end_of(store, here, line)
    except OSError as error:
        if isinstance(error, TastypyError):
            raise
        message = (
            f"{path}: what was written cannot be read back ({error.strerror}): whether the change was made shows when the POD "
            "is used again"
        )
        raise UnknownOutcomeError(message, path, error.errno) from failed or error
    if failed is None or failed.errno in files.VANISHED:  # the latter: folds of others removed it
        if end is None:
            raise lost(store) from failed
        return end
    if end is not None:
        message = f"{path}: writing failed ({failed.strerror}), but the line is there: the change was made, and may not survive a power cut"
        raise UnknownOutcomeError(message, path, failed.errno) from failed
    message = f"{path}: writing failed ({failed.strerror}); nothing was changed"
    raise CommitError(message, path, failed.errno) from failed


def _open_to_append(path: str) -> int:
    """Open a journal, at whose end a line begins."""
    descriptor = files.open_to_append(path)
    try:
        if files.read_end(descriptor, 1)[0] != b"\n":  # somebody died, or is paused, within a line
            files.append(descriptor, b"\n")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _end_of(store: Store, here: Position, line: bytes) -> int | None:
    """Return the offset after the line if it is the first one that counts after `here`, for good, with the lease had."""
    path = store.file(files.journal_name(here.epoch))
    while True:
        try:
            end = _find(path, here, line)
        except OSError as error:
            if error.errno not in files.VANISHED:
                raise
            take_again(store)
            return here.offset + len(line) if _was_folded(store, here.seq + 1, form.stamp(line)) else None
        if store.lock.is_had():
            return end
        take_again(store)  # who has it may be writing


def _find(path: str, here: Position, line: bytes) -> int | None:
    """Return the offset after the line, if it is the first one that counts after `here` by now."""
    text = files.read_rewritten(path, here.offset)
    lines = form.read_lines(text, here.seq, leased=True)
    first = lines.lines[0] + b"\n" if lines.lines else text[lines.length - lines.last : lines.length]
    return here.offset + text.find(line) + len(line) if first == line else None


def _was_folded(store: Store, number: int, stamp: str) -> bool:
    """Tell whether the batch of this number that others folded has this stamp.

    Raises:
        UnknownOutcomeError: the header does not go back so far.
    """
    line = health.choose(store.path)
    header = store.read_journal(line.epoch)[0] if line else store.header
    first = header.seq - len(header.last) + 1
    if number < first:
        message = (
            f"{store.path}: this process was paused while it wrote, and others have gone on so far that it cannot be told whether the "
            "change was made: it shows when the POD is used again"
        )
        raise UnknownOutcomeError(message, store.path, errno.ETIMEDOUT)
    return number <= header.seq and header.last[number - first] == stamp


def seal(store: Store, here: Position, epoch: int) -> None:
    """Append the seal that has everybody go on in the journal of `epoch`; raises what `append` does."""
    line = form.seal_line(epoch, here.seq + 1)

    def write(descriptor: int) -> None:
        try:
            files.append(descriptor, line)
            files.sync(descriptor)
        finally:
            files.close(descriptor)

    append(store, here, line, write)


def secure(store: Store) -> None:
    """Have the seal that led to the header's epoch on stable storage, and `.lock` say so, before anything is appended there."""
    header = store.header
    try:
        descriptor = files.open_to_append(store.file(files.journal_name(header.before)))
    except FileNotFoundError:
        pass  # the first epoch has none; and whoever removed it has folded since, and so synced
    else:
        try:
            files.sync(descriptor)
        finally:
            files.close(descriptor)
    said = form.decode_lock_line(store.read_lock_line(locked=True))
    if said is None or said.epoch < header.epoch:
        files.replace_line(store.lock.open(), header.lock_line.encode())


def lost(store: Store) -> LeaseLostError:
    """Return the error for a commit that was not made since another process has taken the lease over; it is had again then."""
    take_again(store)
    message = (
        f"{store.path}: the lease ran out while this process was paused, and another process wrote first; nothing was changed: do "
        "the same again"
    )
    return LeaseLostError(message, store.path, errno.ETIMEDOUT)


def take_again(store: Store) -> None:
    """Take the lease that was lost."""
    store.lock.let_go()
    store.lock.take(store.timeout, lambda: True)
