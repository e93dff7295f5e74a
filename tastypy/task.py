"""`Task`, what a worker holds while it works on an entry of a tracker."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterator, MutableMapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self

from tastypy import entries
from tastypy.entries import Entry
from tastypy.errors import (
    ClaimLost,
    ClosedPODError,
    TaskEndedError,
    TastypyError,
    UnstorableTypeError,
    UnstorableValueError,
)
from tastypy.variables import KeyOfTask

if TYPE_CHECKING:
    from tastypy.claims import ClaimedDict
    from tastypy.workers import Worker

log = logging.getLogger("tastypy")


class Task(MutableMapping[str, Any], Generic[KeyOfTask]):
    """A task that this worker has claimed: nobody else gets it until it has ended, or this process has.

    It is a mapping of the fields of its entry. What is stored in it goes into the entry when it is done, in one commit, and
    nowhere otherwise. As a context manager it is done at the end of the block. An exception in the block is stored as the
    entry's `_error`, counts as a try, releases the claim, and is raised; Ctrl-C, SystemExit and whatever else is no
    `Exception` release it only.

    >>> from tastypy import Tracker
    >>> tracker = Tracker("pages.tracker")
    >>> tracker.add("https://example.org", depth=1)
    >>> for task in tracker.claims():
    ...     with task:
    ...         task["status"] = 200 + task["depth"]
    >>> tracker["https://example.org"]["status"], tracker.done("https://example.org")
    (201, True)

    Attributes:
        key: of the entry.
        claim: what stands in the entry as `_claim`: a token of its own, and the worker's name.
        token, worker: of the claim.
    """

    __slots__ = ("__weakref__", "_ended", "_entry", "_fields", "_set", "_tracker", "claim", "key", "token", "worker")

    def __init__(
        self, tracker: ClaimedDict[KeyOfTask], key: KeyOfTask, entry: Entry, worker: Worker, *, ahead: bool
    ) -> None:
        self.key: KeyOfTask = key
        self.token: str = worker.new_token()
        self.worker: Worker = worker
        self.claim: Entry = {"token": self.token, "worker": worker.name}
        if ahead:
            self.claim["ahead"] = True
        self._tracker = tracker
        self._entry = entry
        self._fields: Entry | None = None  # a copy of the entry's, made when it is needed
        self._set: set[str] = set()
        self._ended = False

    # --- how it ends

    def done(self, **fields: Any) -> None:
        """Mark the task done, and store what was stored in it and `fields` in its entry: one commit.

        Raises:
            ClaimLost: somebody deleted or reset the entry, or took this worker for dead; nothing was written.
            TaskEndedError: it has ended before, or another process claimed it.
            ClosedPODError: its tracker was closed, which released it.
            UnstorableTypeError, UnstorableValueError: JSON cannot hold a field; it has not ended then.
            CommitError: it could not be written; it has not ended then.
        """
        self._require()
        if fields:
            entries.check_fields(self.key, fields, self._tracker.path)
        if self._fields is not None:
            fields = {**self._stored(), **fields}
        self._tracker._end(self, lambda entry, now: entries.done(entry, now, self.worker.label), fields)
        self._ended = True

    def fail(self, error: BaseException | str) -> None:
        """Count a try that failed, store the text of `error` as `_error`, and release the claim. Raises what `done` does."""
        self._require()
        text = entries.error_text(error)
        self._tracker._end(self, lambda entry, now: entries.failed(entry, text, now, self.worker.label))
        self._ended = True

    def release(self) -> None:
        """Give the task back as it was, for whoever wants it; no try is counted. Raises what `done` does."""
        self._require()
        self._tracker._end(self, entries.released)
        self._ended = True

    @property
    def tries(self) -> int:
        """How often it was tried before, in vain."""
        return int(self._entry.get("_tries", 0))

    @property
    def ended(self) -> bool:
        """Whether it was done, failed or released here."""
        return self._ended

    def __enter__(self) -> Self:
        self._require()
        self.take_in_hand()
        return self

    def take_in_hand(self) -> None:
        """Let it be known that work on it begins, as `with task:` and `claims` do: a death from now on counts as a try.

        A task that was claimed alone is in hand from its claim on.
        """
        if "ahead" in self.claim:
            self.worker.take_in_hand(self.token)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._ended or os.getpid() != self.worker.process:
            return  # in a child that was forked in the block it is the parent's
        try:
            if error is None:
                self.done()
            else:
                self._end_by(error)
        except ClaimLost as lost:
            self._lose(lost)
        except TastypyError as wrong:
            if isinstance(wrong, UnstorableTypeError | UnstorableValueError):
                self._end_by(wrong)
            raise  # else it could not be written, and has not ended
        except BaseException as wrong:
            self._end_by(wrong)
            raise

    def _lose(self, lost: ClaimLost) -> None:
        self._ended = True
        log.warning("%s", lost)

    def _end_by(self, error: BaseException) -> None:
        """End as the error says that is about to be raised."""
        try:
            if isinstance(error, Exception):
                self.fail(error)
            else:
                self.release()
        except ClaimLost as lost:
            if isinstance(error, Exception):
                self._lose(lost)
            self._ended = True  # a Ctrl-C may have come when it was written
        except Exception:  # what is raised is the block's own, which says more
            log.exception("%s: that the task %r ended by %r could not be written", self._tracker.path, self.key, error)

    def _require(self) -> None:
        if not self._ended and not self._tracker.closed and os.getpid() == self.worker.process:
            return
        path = self._tracker.path
        if self._tracker.closed:
            message = f"the task {self.key!r} cannot end: {path} was closed, and the task released by that"
            raise ClosedPODError(message, path)
        if self._ended:
            message = f"the task {self.key!r} of {path} has ended already: it was done, failed or released"
            raise TaskEndedError(message, path)
        message = (
            f"the task {self.key!r} of {path} was claimed by process {self.worker.process}, and this is {os.getpid()}: only the "
            "process that claimed it can end it; a forked child claims tasks of its own"
        )
        raise TaskEndedError(message, path)

    # --- its fields

    def _own(self) -> Entry:
        if self._fields is None:
            self._fields = copy.deepcopy(self._entry)
        return self._fields

    def _stored(self) -> Entry:
        """Return the fields that were set, or mutated in place."""
        fields, entry = self._own(), self._entry
        return {name: value for name, value in fields.items() if name in self._set or _differs(value, entry.get(name))}

    def __getitem__(self, name: str) -> Any:
        return self._own()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._require()
        entries.check_fields(self.key, {name: value}, self._tracker.path)
        self._own()[name] = value
        self._set.add(name)

    def __delitem__(self, name: str) -> NoReturn:
        message = f"{name!r} cannot be deleted in a task, whose end adds to its entry: set it to None"
        raise TypeError(message)

    def __iter__(self) -> Iterator[str]:
        return iter(self._own())

    def __len__(self) -> int:
        return len(self._own())

    def __eq__(self, other: object) -> bool:
        return self is other  # and not its fields

    __hash__ = object.__hash__

    def __reduce__(self) -> NoReturn:
        message = f"the task {self.key!r} cannot go to another process, which claims tasks of its own; send task.key"
        raise TypeError(message)

    def __repr__(self) -> str:
        return f"Task({self.key!r}{', ended' if self._ended else ''})"


def _differs(value: Any, before: Any) -> bool:
    """Tell whether a value was mutated in place."""
    try:
        return bool(value != before)
    except Exception:  # noqa: BLE001 - what cannot be compared was not there before
        return True
