"""Entries read and changed by a person or a script, one by one: what `tastypy get`, `set` and `del` do. Printing is left to them.

A tracker's entries are changed with care: its own fields stay as they are, and what a live worker has in hand is not deleted.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from tastypy import files, workers
from tastypy.entries import FRESH, RESERVED, Entry, reserved
from tastypy.errors import UnstorableTypeError, UnstorableValueError, explained
from tastypy.exact import parse
from tastypy.pod import POD, require
from tastypy.values import encode_value, key_of, name_of


class Refused(NamedTuple):
    """The names of keys for which nothing was done: those that are not there, and the tasks that a live worker has."""

    unknown: list[str]
    held: list[str]


def opened(path: str) -> POD[Any, Any]:
    """Return the POD at `path`, for reading; MissingPODError if there is none."""
    return POD(require(path), mode="r")


def is_tracker(pod: POD[Any, Any]) -> bool:
    """Tell whether the entries of a POD are tasks: one of them has been, or there are workers."""
    if any(type(entry) is dict and "_done" in entry for entry in dict.values(pod)):
        return True
    with explained(pod.path):
        return any(what and what.kind == "worker" for what in files.names_in(pod.path).values())


def items_of(pod: POD[Any, Any], names: list[str]) -> tuple[list[tuple[str, Any]], list[str]]:
    """Return keys, spelled as in files, and their values, and those of the names that are not there."""
    found, unknown = [], []
    for name in names:
        key = key_of(name)
        if key not in pod:
            unknown.append(name)
        elif type(key) is str:
            found.append((name, pod[key]))
        else:  # 1, 1.0 and True are one key, and the files have one spelling
            found.append((name_of(next(stored for stored in dict.keys(pod) if stored == key)), pod[key]))
    return found, unknown


def parsed(text: str) -> Any:
    """Return what JSON text holds, exactly: an integer that is too long for a POD is not made a float.

    Raises:
        UnstorableValueError: it is no JSON, or has a key twice.
    """
    try:
        return parse(text)
    except ValueError as error:
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        message = f"{shown!r} is no JSON: {error}; --str stores a text as it is"
        raise UnstorableValueError(message) from error


def assign(path: str, name: str, value: Any, *, create: bool, timeout: float) -> None:
    """Set the value of a key that is spelled as in files, one commit.

    In a tracker it is the task's own fields that are replaced; the tracker's stay. Where there is no POD, one is made if `create`.

    Raises:
        MissingPODError: there is none.
        UnstorableTypeError, UnstorableValueError: the key, the value, or what it would make of a task, is not possible.
        And what a commit raises.
    """
    key = key_of(name)
    encode_value(value, None, f"the value of {name!r}")  # first, so that no POD is made for what cannot be stored
    with POD[Any, Any](path if create else require(path), timeout=timeout) as pod, pod.transaction():
        if is_tracker(pod):
            value = _entry(pod, name, key, value)
        pod[key] = value


def _entry(pod: POD[Any, Any], name: str, key: Any, fields: Any) -> Entry:
    """Return the entry of a task with new fields of its own."""
    if type(fields) is not dict:
        message = f"{pod.path} is a tracker: the value of {name!r} must be a JSON object, with the task's own fields"
        raise UnstorableTypeError(message, pod.path)
    before = pod.get(key, FRESH)
    if type(before) is not dict:  # damaged, and this is how it is mended
        before = FRESH
    kept = reserved(before)
    for field in fields:
        if field in RESERVED and (field not in kept or kept[field] != fields[field]):
            there = f"is {json.dumps(kept[field])} there" if field in kept else "is not there"
            message = (
                f"{name!r}: {field} is the tracker's own field, and {there}: leave it out, or, if "
                "it has changed meanwhile, get the task again"
            )
            raise UnstorableValueError(message, pod.path)
    return {**kept, **{field: value for field, value in fields.items() if field not in RESERVED}}


def delete(path: str, names: list[str], *, force: bool, timeout: float) -> Refused:
    """Delete keys that are spelled as in files, all of them in one commit, or none of them if any is refused.

    Tasks that a live worker has are refused unless `force`; the worker then notices when the task ends, and stores nothing.

    Raises:
        MissingPODError: there is no POD.
        And what a commit raises.
    """
    keys = {name: key_of(name) for name in names}
    with POD[Any, Any](require(path), timeout=timeout) as pod, pod.transaction():
        return _delete(pod, keys, force=force)


def _delete(pod: POD[Any, Any], keys: dict[str, Any], *, force: bool) -> Refused:
    # in a function of its own for a Ctrl-C: see tests/test_jumps.py
    unknown = [name for name, key in keys.items() if key not in pod]
    held = [] if force else [name for name, key in keys.items() if key in pod and _is_held(pod, pod[key])]
    if not (unknown or held):
        for key in dict.fromkeys(keys.values()):  # two names may be of equal keys
            del pod[key]
    return Refused(unknown, held)


def _is_held(pod: POD[Any, Any], entry: Any) -> bool:
    claim = entry.get("_claim") if isinstance(entry, dict) else None
    worker = claim.get("worker") if isinstance(claim, dict) else None
    return isinstance(worker, str) and workers.is_alive(pod._store, worker)
