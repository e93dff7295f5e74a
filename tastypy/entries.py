"""What the entry of a task says: its fields, the state that it is in, what is wrong with a damaged one. Pure, without I/O.

An entry is a dict. The fields of the tracker begin with an underscore, all others are the user's::

    _done, _aborted    whether the task is done, and whether it was given up by hand
    _tries             how often it was tried, tries that are under way not included
    _claim             {"token": ..., "worker": ...} while a worker has it; with "ahead": true if it was claimed in a batch,
                       and so is in hand only if the worker's file says so
    _error             the text of the error that its last try ended with
    _worker            who ended that try, "HOST:PID"
    _at                when its state changed last, in seconds since the epoch
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Collection
from typing import Any, NamedTuple

from tastypy.errors import TastypyError, UnstorableTypeError, UnstorableValueError

Entry = dict[str, Any]

FRESH: Entry = {"_done": False, "_aborted": False, "_tries": 0}
RESERVED = frozenset({*FRESH, "_claim", "_error", "_worker", "_at"})
_NO_CLAIM = {"token": "", "worker": ""}
_MISSING = "\ufffe"  # that very object stands for no value
_NUMBERS = (int, float)
_LONGEST_ERROR = 4000  # characters of an error's text that are kept


# What an entry counts as: its state, one of the fields of `Counts` but `total`; how often it was tried; whether it was
# aborted, whatever its state is; and the name of the worker that has a claim on it, or "". (A NamedTuple takes five times as
# long to make, and one is made for every change of every worker.)
Kind = tuple[str, int, bool, str]


class Counts(NamedTuple):
    """How many tasks there are, and how many of them are in each state. Each task is in one, the first that fits.

    Attributes:
        total: all of them.
        done: done.
        aborted: aborted.
        claimed: claimed by a worker, which may be dead.
        given_up: tried `max_tries` times.
        failed: the last try ended with an error, and the task will be tried again.
        open: none of these: it waits for a worker.
    """

    total: int
    done: int
    aborted: int
    claimed: int
    given_up: int
    failed: int
    open: int


def kind_of(entry: Any, max_tries: int) -> Kind | None:
    """Return what an entry counts as, None if `problem` has something to say of it; missing fields are those of a new task."""
    if type(entry) is not dict:
        return None
    get = entry.get
    done, aborted, tries = get("_done", False), get("_aborted", False), get("_tries", 0)
    error, worker = get("_error", _MISSING), ""
    if not (  # at once, since this is asked for every change of every worker
        type(done) is bool is type(aborted)
        and type(tries) is int
        and tries >= 0
        and type(error) is str
        and type(get("_at", 0.0)) in _NUMBERS
    ):
        return None
    if "_claim" in entry:
        claim = entry["_claim"]
        if type(claim) is not dict or not (type(claim.get("token")) is str is type(claim.get("worker"))):
            return None
        worker = claim["worker"]
    if done:
        state = "done"
    elif aborted:
        state = "aborted"
    elif worker:
        state = "claimed"
    elif 0 < max_tries <= tries:
        state = "given_up"
    elif error is not _MISSING:
        state = "failed"
    else:
        state = "open"
    return state, tries, aborted, worker


def state_of(entry: Entry, max_tries: int) -> str:
    """Return the state of a sound entry."""
    kind = kind_of(entry, max_tries)
    return kind[0] if kind is not None else ""


def is_in_hand(claim: dict[str, Any], named: Collection[str]) -> bool:
    """Tell whether a worker has begun to work on what it claimed, where its file names the tokens in `named`.

    What was claimed alone is in hand at once, and needs no write to a file (2.6 us of the 40 that a claim and its end take).
    """
    return "ahead" not in claim or claim["token"] in named


def should_do(entry: Entry, max_tries: int, *, allow_aborted: bool = False) -> bool:
    """Tell whether the task is not done, not aborted, and tried fewer than `max_tries` times, if that is not 0."""
    return (
        not entry.get("_done", False)
        and (allow_aborted or not entry.get("_aborted", False))
        and (max_tries == 0 or entry.get("_tries", 0) < max_tries)
    )


def problem(entry: Any) -> str | None:
    """Return what keeps `entry` from being that of a task, or None."""
    if kind_of(entry, 0) is not None:
        return None
    if type(entry) is not dict:
        return f"is {_shortened(entry)}, not a dict with the fields of a task"
    for name in ("_done", "_aborted"):
        if type(entry.get(name, False)) is not bool:
            return f"has {name}={_shortened(entry[name])}, which must be true or false"
    tries = entry.get("_tries", 0)
    if type(tries) is not int or tries < 0:
        return f"has _tries={_shortened(tries)}, which must be an int, 0 or more"
    claim = entry.get("_claim", _NO_CLAIM)
    if type(claim) is not dict or [type(claim.get(name)) for name in ("token", "worker")] != [str, str]:
        return f"has _claim={_shortened(claim)}, which must be a dict with a token and a worker's name"
    if type(entry.get("_error", "")) is not str:
        return f"has _error={_shortened(entry['_error'])}, which must be a str"
    return f"has _at={_shortened(entry['_at'])}, which must be seconds since the epoch"


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def sound(key: Any, entry: Any, path: str) -> Entry:
    """Return the entry with the fields that every task has, before its own.

    Raises:
        UnstorableTypeError, UnstorableValueError: it cannot be an entry.
    """
    wrong = problem(entry)
    if wrong is not None:
        kind: type[TastypyError] = UnstorableValueError if isinstance(entry, dict) else UnstorableTypeError
        message = f"the entry of {key!r} {wrong}; {path} is a tracker: use add({key!r}, name=value), update or a Task"
        raise kind(message, path)
    return {**FRESH, **entry}


def check_fields(key: Any, fields: Entry, path: str) -> None:
    """Raise UnstorableValueError if there are fields of the tracker among those that a task is to store."""
    for name in fields:
        if name in RESERVED:
            message = f"{key!r}: {name} is the tracker's own field in {path}: say done(), fail(error) or release()"
            raise UnstorableValueError(message, path)


def merged(before: Entry, ours: Entry, theirs: Entry) -> Entry:
    """Return their entry with what we changed since `before`; so a claim that came meanwhile stays."""
    entry = {name: value for name, value in theirs.items() if name in ours or before.get(name, _MISSING) != value}
    entry.update((name, value) for name, value in ours.items() if name not in before or before[name] != value)
    return entry


def released(entry: Entry, now: float) -> Entry:
    """Return the entry without a claim."""
    entry = {**entry, "_at": now}
    entry.pop("_claim", None)
    return entry


def done(entry: Entry, now: float, worker: str) -> Entry:
    """Return the entry as a try of `worker` that succeeded leaves it."""
    entry = {**FRESH, **entry, "_done": True, "_tries": entry.get("_tries", 0) + 1, "_at": now, "_worker": worker}
    entry.pop("_claim", None)
    entry.pop("_error", None)
    return entry


def failed(entry: Entry, error: str, now: float, worker: str) -> Entry:
    """Return the entry as a try of `worker` that failed leaves it."""
    more = {"_tries": entry.get("_tries", 0) + 1, "_error": error, "_worker": worker}
    return released({**FRESH, **entry, **more}, now)


def untried(entry: Entry, now: float) -> Entry:
    """Return the entry as if it had never been tried: with all that is the user's."""
    entry = {**FRESH, **entry, "_tries": 0, "_at": now}
    entry.pop("_error", None)
    entry.pop("_worker", None)
    return entry


def reserved(entry: Entry) -> Entry:
    """Return the fields that are the tracker's own."""
    return {name: value for name, value in entry.items() if name in RESERVED}


def time_now() -> float:
    """Return the time as entries and files of workers have it: seconds since the epoch, to the millisecond."""
    return round(time.time(), 3)


def error_text(error: BaseException | str) -> str:
    """Return what is stored of an error: its type and message, as far as UTF-8 has them."""
    text = error if isinstance(error, str) else "".join(traceback.format_exception_only(error)).strip()
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= _LONGEST_ERROR else f"{text[:_LONGEST_ERROR]} ..."
