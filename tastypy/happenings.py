"""What batches did: keys put and deleted, and in a tracker what became of tasks, and by whom. No I/O but through `load`.

An entry does not say what has happened to it. That shows beside what it was before, which is known from where the shards that
a journal stands on could be loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tastypy import format as form
from tastypy.changes import replay
from tastypy.entries import Entry, kind_of
from tastypy.layers import ABSENT
from tastypy.values import name_of


class Happening(NamedTuple):
    """Something that was done to keys by a batch.

    Attributes:
        what: "put", "deleted", "cleared", or "moved" to the front; of tasks "added", "claimed", "done", "failed", "released",
            "aborted", "unaborted", "reopened", or "changed", which is what is stored with them; and where it is not known what
            they were before, the state that they are in: "claimed", "done", "failed", "aborted", or "open".
        keys: as in the files; of "cleared" none.
        worker: the name of the worker that has claimed, or had, the tasks, or "".
        who: "HOST:PID" of that one, which the entries say where a try has ended, or "".
        error: the text of what they failed with, or "".
        at: when the state of the last one changed, in seconds since the epoch, if that is known.
    """

    what: str
    keys: list[str]
    worker: str = ""
    who: str = ""
    error: str = ""
    at: float | None = None


class Witness:
    """Tells what batches, one after the other, have done.

    `load` returns the entries that a journal with this header stands on, or None if they cannot be had any more; it is asked only
    when there are tasks.
    """

    def __init__(self, load: Callable[[form.Header], dict[Any, Any] | None]) -> None:
        self._load = load
        self._entries: dict[Any, Any] = {}
        self._knows_all = False  # what is not in there is not in the directory
        self._tried = -1  # the epoch that it was loaded for, or tried to

    def forget(self) -> None:
        """Forget everything: some batches were missed."""
        self._entries, self._knows_all, self._tried = {}, False, -1

    def of(self, header: form.Header, record: form.Record) -> list[Happening]:
        """Return what the batch did that comes next, in a journal with this header."""
        put: dict[Any, Any] = record.get("put", {})
        has_tasks = any(map(_is_task, put.values()))
        if has_tasks and not self._knows_all and self._tried != header.epoch:
            self._tried = header.epoch
            loaded = self._load(header)
            if loaded is not None:
                # what came since, and had no tasks, is not in it, but for what is known
                self._entries, self._knows_all = loaded, True
        happenings = list(_joined(self._happenings(record, put)))
        if has_tasks or self._entries:
            replay(self._entries, [record])
        return happenings

    def _happenings(self, record: form.Record, put: dict[Any, Any]) -> Iterator[Happening]:
        if record.get("clear"):
            yield Happening("cleared", [])
        for key in record.get("del", ()):
            if key not in put:  # else it moves to the end
                yield Happening("deleted", [name_of(key)])
        for key, entry in put.items():
            if _is_task(entry):
                before = self._entries.get(key, ABSENT)
                if before is ABSENT:
                    before = {} if self._knows_all else None
                elif kind_of(before, 0) is None:
                    before = {}
                what, worker, error = _fate(before, entry)
                who = entry.get("_worker", "") if what in ("done", "failed") else ""
                at = entry.get("_at") if what not in ("added", "changed") else None
                yield Happening(what, [name_of(key)], worker, who if type(who) is str else "", error, at)
            else:
                yield Happening("put", [name_of(key)])
        for key in record.get("front", ()):
            yield Happening("moved", [name_of(key)])


def _is_task(entry: Any) -> bool:
    return type(entry) is dict and "_done" in entry and kind_of(entry, 0) is not None


def _fate(before: Entry | None, after: Entry) -> tuple[str, str, str]:
    """Return what became of a task, the worker concerned, and the error; `before` is {} if it was not there, None if unknown."""
    was, claim = before or {}, _claim_of(after)
    token, worker = _claim_of(was)
    error = after.get("_error", "")
    if claim[0] and claim[0] != token:
        return "claimed", claim[1], ""
    ended = bool(token) and not claim[0]
    if after.get("_done") and not was.get("_done"):
        return "done", worker if ended else "", ""
    if after.get("_aborted") and not was.get("_aborted"):
        return "aborted", "", ""
    tries = after.get("_tries", 0)
    if error and (before is None or tries > was.get("_tries", 0)):
        return "failed", worker if ended else "", error
    if ended and tries >= was.get("_tries", 0):
        return "released", worker, ""
    if was.get("_aborted") and not after.get("_aborted"):
        return "unaborted", "", ""
    if (was.get("_done") and not after.get("_done")) or (was.get("_tries", 0) > 0 == tries) or ended:
        return "reopened", "", ""
    return ("open" if before is None else "changed" if before else "added"), "", ""


def _claim_of(entry: Entry) -> tuple[str, str]:
    claim = entry.get("_claim")
    return (claim["token"], claim["worker"]) if claim else ("", "")


def _joined(happenings: Iterator[Happening]) -> Iterator[Happening]:
    """Yield one for each row of the same that was done to several keys."""
    last: Happening | None = None
    for one in happenings:
        if (
            last is not None
            and one.what != "cleared"
            and (one.what, one.worker, one.who, one.error) == (last.what, last.worker, last.who, last.error)
        ):
            last.keys.extend(one.keys)
            last = last._replace(at=max(filter(None, (last.at, one.at)), default=None))
        else:
            if last is not None:
                yield last
            last = one
    if last is not None:
        yield last
