"""What goes on in a tracker: its figures, who works on what, which errors came. Seen from outside, without a change to it.

How that is shown is left to `screen`.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from tastypy import entries, workers
from tastypy.entries import Counts
from tastypy.errors import NotATrackerError, explained
from tastypy.index import Index
from tastypy.pod import require
from tastypy.tracker import Tracker
from tastypy.values import name_of
from tastypy.workers import Seen

# The rate is the average over the latest tasks done, or over the latest seconds if there were more in them: a hundred
# tasks that take a millisecond are over before one has looked, and their rate changed by a factor of thirty from look to look.
_TASKS, _SECONDS = 100, 10.0


@dataclass(frozen=True, slots=True)
class Process:
    """A worker or a run, as its file says; None where that is gone or damaged.

    Attributes:
        name: of its file, 16 hexadecimal digits.
        host, pid: where it is, or was.
        since: when it began, in seconds since the epoch.
    """

    name: str
    host: str | None
    pid: int | None
    since: float | None


@dataclass(frozen=True, slots=True)
class Held:
    """A task that a worker has claimed.

    Attributes:
        key: as files have it.
        since: when it was claimed, in seconds since the epoch.
        in_hand: whether the work on it has begun; False for what lies ahead in a batch.
    """

    key: str
    since: float | None
    in_hand: bool


@dataclass(frozen=True, slots=True)
class Worker(Process):
    """A process that claims tasks, and those that it has, first what is in hand."""

    tasks: list[Held]


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that tasks ended with, and were neither done nor aborted since.

    Attributes:
        text: all of it.
        count: how many tasks have it.
        key: the last of them, as files have it.
        at: when that one failed, in seconds since the epoch; if it is being tried again, when that began.
    """

    text: str
    count: int
    key: str
    at: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """How it stands with a tracker.

    Attributes:
        path: its directory.
        time: of this look, in seconds since the epoch, as all times.
        counts: how many tasks there are (`total`), and how many in each state.
        max_tries: after how many tries a task counts as given up; 0: never.
        rate: tasks done a second of late; None if no worker is alive, or nothing was done since the first of them began.
        seconds_left: for what is open, failed and claimed, at that rate.
        workers: those that are alive.
        runs: the processes that are in `Tracker.run`.
        dead: workers that are not alive and still have claims: their tasks go to the next worker that looks.
        errors: the newest first.
    """

    path: str
    time: float
    counts: Counts
    max_tries: int
    rate: float | None
    seconds_left: float | None
    workers: list[Worker]
    runs: list[Process]
    dead: list[Worker]
    errors: list[Failure]

    def as_json(self) -> str:
        """Return it as a JSON object, in one line."""
        return orjson.dumps(self, default=lambda counts: counts._asdict()).decode()


def opened(path: str, max_tries: int = 0) -> Tracker[Any]:
    """Return the tracker at `path`, for reading.

    Raises:
        MissingPODError: there is none.
        NotATrackerError: there are entries, and none of them has been a task.
        And what `Tracker` raises.
    """
    tracker = Tracker[Any](require(path), max_tries, mode="r")
    if tracker and not any("_done" in entry for entry in dict.values(tracker)):
        place = tracker.path
        tracker.close()
        message = f"{place} is no tracker: none of its entries has a field _done; Tracker({place!r}) would make it one"
        raise NotATrackerError(message, place)
    return tracker


class Monitor:
    """Follows a tracker that was `opened`. A look takes time for what has changed since the last one, not for what there is.

    `max_tries`: what to count as given up; None for what the workers that are alive say, or said last.
    """

    def __init__(self, tracker: Tracker[Any], max_tries: int | None = None) -> None:
        self._tracker = tracker
        self._max_tries = max_tries
        self._done: dict[Any, float] = {}  # when tasks were done
        self._failed: dict[Any, None] = {}  # the tasks that have an error, and are not aborted
        self._note(dict.keys(tracker))

    def _note(self, changed: Iterable[Any]) -> None:
        for key in changed:
            self._done.pop(key, None)
            self._failed.pop(key, None)
            entry = dict.get(self._tracker, key)
            if not isinstance(entry, dict):  # it is gone, or damaged
                continue
            if entry.get("_done", False):
                if "_at" in entry:
                    self._done[key] = entry["_at"]
            elif "_error" in entry and not entry.get("_aborted", False):
                self._failed[key] = None

    def look(self) -> Status:
        """Return how it stands now.

        Raises:
            NotATrackerError: somebody has put in what is no entry of a task.
        """
        tracker = self._tracker
        with explained(tracker.path):
            now, found = self._catch_up()
        index = tracker._figures()
        counts = index.figures.counts
        alive = self._workers(one for one in found if one.alive and not _is_run(one))
        rate = self._rate(alive, now)
        left = counts.open + counts.failed + counts.claimed
        return Status(
            path=tracker.path.encode(errors="backslashreplace").decode(),
            time=now,
            counts=counts,
            max_tries=tracker.max_tries,
            rate=rate,
            seconds_left=left / rate if rate else None,
            workers=alive,
            runs=sorted((Process(*_who(one)) for one in found if one.alive and _is_run(one)), key=_place),
            dead=self._workers(one for one in found if not one.alive and one.name in index.holders),
            errors=self._errors(),
        )

    def _catch_up(self) -> tuple[float, list[Seen]]:
        """Take up what has changed; return when that was, and the workers that were seen, or have claims."""
        tracker = self._tracker
        # first, since a worker's file is there before its claims, and goes after them
        found = {one.name: one for one in workers.seen(tracker._store)}
        now = time.time()
        self._note(tracker.refresh())
        self._count_as_given_up(self._tries_of(found.values()))
        missing = tracker._figures().holders.keys() - found.keys()
        if missing:  # they began just now, or their files are gone
            for name in missing:
                found[name] = Seen(name, workers.is_alive(tracker._store, name), {}, set())
            found.update((one.name, one) for one in workers.seen(tracker._store) if one.name in missing)
        return now, list(found.values())

    def _tries_of(self, found: Iterable[Seen]) -> int:
        if self._max_tries is not None:
            return self._max_tries
        limits = [one.who.get("max_tries") for one in found if one.alive and not _is_run(one)]
        known = [limit for limit in limits if type(limit) is int]
        if not known:
            return self._tracker.max_tries
        return 0 if 0 in known else max(known)  # one without a limit gives nothing up

    def _count_as_given_up(self, max_tries: int) -> None:
        tracker = self._tracker
        if max_tries != tracker.max_tries:
            tracker._max_tries = max_tries
            tracker._index = Index(max_tries)

    def _rate(self, alive: list[Worker], now: float) -> float | None:
        begins = [one.since for one in alive if one.since is not None]
        done = sorted(self._done.values())  # nearly sorted they are, so that this takes 0.4 ms for 50,000
        if not (begins and done):
            return None
        now = max(now, done[-1])  # the clocks of other hosts may be ahead
        begin = min(begins)
        if len(done) >= _TASKS:
            begin = max(begin, min(done[-_TASKS], now - _SECONDS))
        number = len(done) - bisect_right(done, begin)
        return number / (now - begin) if number else None

    def _workers(self, found: Iterable[Seen]) -> list[Worker]:
        return sorted((Worker(*_who(one), self._held(one)) for one in found), key=_place)

    def _held(self, worker: Seen) -> list[Held]:
        held = []
        for key in self._tracker._figures().holders.get(worker.name, ()):
            entry = dict.__getitem__(self._tracker, key)
            in_hand = entries.is_in_hand(entry["_claim"], worker.in_hand)
            held.append(Held(name_of(key), entry.get("_at"), in_hand))
        return sorted(held, key=lambda one: (not one.in_hand, one.since or 0))

    def _errors(self) -> list[Failure]:
        groups: dict[str, list[Any]] = {}
        for key in self._failed:
            entry = dict.__getitem__(self._tracker, key)
            at = entry.get("_at", float("-inf"))
            group = groups.setdefault(entry["_error"], [0, at, key])
            group[0] += 1
            if at > group[1]:
                group[1:] = at, key
        newest = sorted(groups.items(), key=lambda item: item[1][1], reverse=True)
        return [
            Failure(text, count, name_of(key), at if at > float("-inf") else None) for text, (count, at, key) in newest
        ]


def _is_run(seen: Seen) -> bool:
    return seen.who.get("role") == "run"


def _who(seen: Seen) -> tuple[str, str | None, int | None, float | None]:
    host, pid, since = (seen.who.get(name) for name in ("host", "pid", "since"))
    return (
        seen.name,
        host if isinstance(host, str) else None,
        pid if isinstance(pid, int) else None,
        since if isinstance(since, float | int) else None,
    )


def _place(process: Process) -> tuple[str, int, str]:
    return process.host or "", process.pid or 0, process.name
