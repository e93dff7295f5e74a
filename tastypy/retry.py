"""Tasks of a tracker made available again: those that failed, those that were aborted, and any that are named."""

from __future__ import annotations

from typing import Any, NamedTuple

from tastypy import workers
from tastypy.entries import FRESH, Entry, time_now, untried
from tastypy.status import opened
from tastypy.tracker import Tracker
from tastypy.values import key_of


class Outcome(NamedTuple):
    """What came of it: how many tasks are open again; of the names those that are unknown, held, and were open anyway.

    If there is an unknown one, nothing was changed.
    """

    opened: int
    unknown: list[str]
    held: list[str]
    idle: list[str]


def retry(path: str, names: list[str], *, failed: bool, aborted: bool, timeout: float = 300) -> Outcome:
    """Make tasks open again in one transaction: as if they had never been tried, and with all that is stored with them.

    Args:
        path: of the tracker.
        names: tasks by their keys as files have them, whatever their state is; a live worker's are left alone.
        failed: all that were tried and are neither done nor aborted nor claimed.
        aborted: all that were aborted, unless they are done or claimed.
        timeout: seconds to wait for another process that holds the lock.

    Raises:
        NotATrackerError, MissingPODError: there is none at `path`.
        UnstorableTypeError, UnstorableValueError: a name stands for no key.
    """
    keys = {name: key_of(name) for name in names}
    opened(path).close()  # it would be made one else
    with Tracker[Any](path, timeout=timeout) as tracker, tracker.transaction():
        return _retry(tracker, keys, failed=failed, aborted=aborted)


def _retry(tracker: Tracker[Any], keys: dict[str, Any], *, failed: bool, aborted: bool) -> Outcome:
    # in a function of its own for a Ctrl-C: see tests/test_jumps.py
    outcome = Outcome(0, [name for name, key in keys.items() if key not in tracker], [], [])
    if outcome.unknown:
        return outcome
    wanted = (key for key, entry in dict.items(tracker) if _is_wanted(entry, failed=failed, aborted=aborted))
    chosen = dict.fromkeys(wanted)
    for name, key in keys.items():
        entry = tracker[key]
        claim = entry.get("_claim")
        if claim is not None and workers.is_alive(tracker._store, claim["worker"]):
            outcome.held.append(name)
        elif claim is None and FRESH.items() <= entry.items() and "_error" not in entry:
            outcome.idle.append(name)
        else:
            chosen[key] = None
    now = time_now()
    for key in chosen:
        tracker[key] = _fresh(tracker[key], now)
    return outcome._replace(opened=len(chosen))


def _is_wanted(entry: Entry, *, failed: bool, aborted: bool) -> bool:
    if entry.get("_done", False) or "_claim" in entry:
        return False
    if entry.get("_aborted", False):
        return aborted
    # how often it may be tried is not stored: what was given up without an error was tried, at any rate
    return failed and ("_error" in entry or entry.get("_tries", 0) > 0)


def _fresh(entry: Entry, now: float) -> Entry:
    entry = {**untried(entry, now), "_done": False, "_aborted": False}
    entry.pop("_claim", None)
    return entry
