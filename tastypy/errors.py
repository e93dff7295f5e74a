"""The exceptions that tastypy raises.

Each derives from `TastypyError` and from the builtin that callers already catch, carries the path that it is about, and
survives pickling, so that it reaches the parent of a worker process whole::

    TastypyError
    ├── ClaimLost (RuntimeError)                          a task is not this worker's any more
    ├── ClosedPODError (ValueError)                       the POD was closed
    ├── DirectoryGoneError (FileNotFoundError)            removed, moved or replaced under an open POD
    ├── DuplicateKeyError (KeyError)                      a task of that name is there already
    ├── ExchangeError (ValueError)                        an export or import that cannot be done
    ├── FormatVersionError (ValueError)                   written by a newer tastypy
    ├── IncoherentFileSystemError (OSError)               the file system shows old data under the lock
    ├── LockTimeout (TimeoutError)                        somebody else holds the lock for too long
    ├── LocksUnsupportedError (OSError)                   no flock here
    ├── MissingExtraError (ImportError)                   a package that is not installed
    ├── MissingKeyError (KeyError)                        update(key), or a task's state, of a key that is not there
    ├── MissingPODError (FileNotFoundError)               mode="r" where there is no POD
    ├── MissingSourceError (FileNotFoundError)            an import from where nothing is
    ├── NotAPODError (ValueError)                         a file, or a directory with other things in it
    ├── NotATrackerError (ValueError)                     a POD with values that are no entries of tasks
    ├── PathTakenError (FileExistsError)                  something is where a copy or an export should go
    ├── PeerError (RuntimeError)                          the other side of `tastypy doctor --peer` is not there, or failed
    ├── PermissionDeniedError (PermissionError)           the file system does not let us
    ├── PersistentOrderedDictIntegrityError (ValueError)  a damaged file
    ├── ReadOnlyError (TypeError)                         a change to a POD opened with mode="r"
    ├── SettingsError (ValueError)                        options other than the stored ones
    ├── StorageError (OSError)                            the file system failed; `errno` says how
    │   └── CommitError                                   a change could not be written; memory and disk are as before
    │       ├── LeaseLostError                            ... since another process has taken the lease over meanwhile
    │       └── UnknownOutcomeError                       ... and whether it reached the disk cannot be told
    ├── TaskEndedError (RuntimeError)                     a task was done, failed or released before
    ├── TransactionError (RuntimeError)                   not possible inside a transaction
    ├── UnstorableTypeError (TypeError)                   JSON has no such type
    ├── UnstorableValueError (ValueError)                 JSON has the type, but not this value
    ├── WorkerError (RuntimeError)                        the workers of a run cannot work
    └── WrongTypeError (TypeError)                        a value is not of the type= that the POD was opened with
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator


class TastypyError(Exception):
    """The base of all errors of this package.

    Attributes:
        message: what happened, to what, and what to do.
        path: the directory or file that it is about, or None.
        errno: of the system call that failed, or None.
    """

    def __init__(self, message: str, path: str | None = None, errno: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.errno: int | None = errno

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[type[Self], tuple[str, str | None, int | None]]:
        return type(self), (self.message, self.path, self.errno)


class ClaimLost(TastypyError, RuntimeError):  # noqa: N818 - the name that the design uses; it is a loss before an error
    """A task ended whose claim is not this worker's any more; nothing was written."""


class ClosedPODError(TastypyError, ValueError):
    """The POD was closed; nothing but `close` can be done with it."""


class DirectoryGoneError(TastypyError, FileNotFoundError):
    """The directory of an open POD was removed, moved away, or replaced by another one."""


class DuplicateKeyError(TastypyError, KeyError):
    """A task with this key exists already, or an entry that is to be imported."""


class ExchangeError(TastypyError, ValueError):
    """An export or import cannot be done as asked for: the format is another one, or lacks something; nothing was changed."""


class FormatVersionError(TastypyError, ValueError):
    """The directory was written by a newer version of the format."""


class IncoherentFileSystemError(TastypyError, OSError):
    """The file system does not show one process's writes to another that holds the lock."""


class LockTimeout(TastypyError, TimeoutError):  # noqa: N818 - the name that the design and `filelock.Timeout` use
    """The lock could not be had within `timeout` seconds."""


class LocksUnsupportedError(TastypyError, OSError):
    """This file system, mount or permission does not allow flock."""


class MissingExtraError(TastypyError, ImportError):
    """A package is not installed that only this call needs; the message has the command that installs it."""


class MissingKeyError(TastypyError, KeyError):
    """A key was to be synchronised, or a task to be looked at or marked, that is not there."""


class MissingPODError(TastypyError, FileNotFoundError):
    """There is no POD at the path, and mode "r" does not create one."""


class MissingSourceError(TastypyError, FileNotFoundError):
    """There is nothing at the path that is to be imported."""


class NotAPODError(TastypyError, ValueError):
    """The path is a file, or a directory with other things in it."""


class NotATrackerError(TastypyError, ValueError):
    """Some values are no entries of tasks: of a POD that was opened as a tracker, or written past the tracker."""


class PathTakenError(TastypyError, FileExistsError):
    """Something is at the path where a copy or an export should go."""


class PeerError(TastypyError, RuntimeError):
    """The other side of an examination by `tastypy doctor --peer` did not come, failed, or left."""


class PermissionDeniedError(TastypyError, PermissionError):
    """The file system does not allow what the mode needs."""


class PersistentOrderedDictIntegrityError(TastypyError, ValueError):
    """A file of the POD is damaged; nothing was overwritten."""


class ReadOnlyError(TastypyError, TypeError):
    """The POD was opened with mode "r"."""


class SettingsError(TastypyError, ValueError):
    """Options were passed that differ from those the POD was created with."""


class StorageError(TastypyError, OSError):
    """The file system failed to open, read or lock something (`errno` says how); nothing was changed."""


class CommitError(StorageError):
    """A commit or a fold failed (`errno` says why); memory and disk are as they were before it."""


class LeaseLostError(CommitError):
    """The lease on a directory ran out while this process was paused, and others went on; do the same again."""


class UnknownOutcomeError(CommitError):
    """A commit failed, and so did undoing it: the next use of the POD reads from the disk what came of it."""


class TaskEndedError(TastypyError, RuntimeError):
    """A task has ended before, or was claimed by another process."""


class TransactionError(TastypyError, RuntimeError):
    """The call is not possible inside a transaction or a commit that is under way."""


class UnstorableTypeError(TastypyError, TypeError):
    """A key or value has a type that JSON cannot hold exactly, or a tracker not take for an entry."""


class UnstorableValueError(TastypyError, ValueError):
    """A key or value has a type that JSON can hold, but not with this content."""


class WorkerError(TastypyError, RuntimeError):
    """The workers of a run cannot work: they die before they begin, or the function cannot be brought to them."""


class WrongTypeError(TastypyError, TypeError):
    """A value is not of the `type=` that the POD was opened with: one to be stored, or one that the directory has."""


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn a bare OSError in the body into a StorageError about `path`."""
    try:
        yield
    except TastypyError:
        raise
    except OSError as error:
        raise storage_error(path, error) from error


def storage_error(path: str, error: OSError) -> StorageError:
    """Return what to raise for a bare OSError about `path`."""
    file = f" ({error.filename})" if error.filename else ""
    return StorageError(
        f"{path}: the file system failed: {error.strerror}{file}; try again once it works", path, error.errno
    )
