"""`tastypy log`: a line, or a JSON object, for each batch that was committed, and for those that come."""

from __future__ import annotations

import sys
import time
from collections import deque
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from tastypy import entries, workers
from tastypy import format as form
from tastypy.errors import PersistentOrderedDictIntegrityError
from tastypy.happenings import Happening, Witness
from tastypy.history import Batch, Event, History, Missing
from tastypy.pod import require
from tastypy.screen import Screen, fitted, printable

_STYLES = {
    "failed": "red",
    "deleted": "yellow",
    "cleared": "yellow",
    "aborted": "yellow",
    "done": "green",
    "claimed": "cyan",
}
_SHOWN = 3  # keys on a terminal


def chronicle(path: str, *, last: int, interval: float | None, as_json: bool) -> None:
    """Print the `last` batches; with an `interval`, those that come as well, until Ctrl-C.

    Raises:
        MissingPODError: there is no POD.
        And what `POD` raises when it is opened for reading.
    """
    try:
        with History(require(path)) as history:
            _tell(history, _Teller(history, as_json=as_json), last, interval)
    except KeyboardInterrupt:
        if interval is None:
            raise
        if sys.stdout.isatty():
            print()  # behind the ^C


def _tell(history: History, teller: _Teller, last: int, interval: float | None) -> None:
    # in a function of its own for a Ctrl-C: see tests/test_jumps.py
    # all of it is heard before anything is told: who a worker is may stand further down
    for news in deque(map(teller.hear, history.new()), maxlen=last):
        print(teller.line(news))
    while interval is not None:
        sys.stdout.flush()
        time.sleep(interval)
        now = entries.time_now()
        for event in history.new():
            print(teller.line(teller.hear(event, now)))


class _News(NamedTuple):
    """An event, what happened by it, and when that was, if it is known."""

    event: Event
    happenings: list[Happening]
    time: float | None


class _Teller:
    """Puts what happened into lines."""

    def __init__(self, history: History, *, as_json: bool) -> None:
        self._history = history
        self._as_json = as_json
        self._screen = Screen()
        self._witness = Witness(self._load)
        self._workers: dict[str, dict[str, Any]] = {}  # who they are, by their names

    def _load(self, header: form.Header) -> dict[Any, Any] | None:
        try:
            return self._history.store.load(header)
        except (OSError, PersistentOrderedDictIntegrityError):  # a later fold has removed it
            return None

    def hear(self, event: Event, now: float | None = None) -> _News:
        """Take in what has come up to the time `now`."""
        if not isinstance(event, Batch):
            self._witness.forget()
            return _News(event, [], None)
        happenings = self._witness.of(event.header, event.record)
        for one in happenings:
            if one.worker and one.who:
                self._workers[one.worker] = _who_of(one.who)
        return _News(event, happenings, max((one.at for one in happenings if one.at is not None), default=now))

    def line(self, news: _News) -> str:
        """Return the line for what was heard."""
        event = news.event
        if isinstance(event, Batch):
            return self._object(event, news) if self._as_json else self._batch(event, news)
        if isinstance(event, Missing):
            fields: dict[str, Any] = {"missing": [event.first, event.last]}
            one = event.first == event.last
            batches = f"batch {event.first} was" if one else f"batches {event.first} to {event.last} were"
            text = f"{batches} folded into the shards before {'it' if one else 'they'} could be read"
        else:
            fields = {"revoked": event.number}
            text = f"batch {event.number} was taken back: its commit had failed"
        return orjson.dumps(fields).decode() if self._as_json else self._screen.paint(f"-- {text}", "yellow")

    def _object(self, batch: Batch, news: _News) -> str:
        changes = [
            {"what": one.what, "keys": one.keys, "worker": self._worker(one), "error": one.error}
            for one in news.happenings
        ]
        return orjson.dumps({"batch": batch.number, "time": news.time, "changes": changes}).decode()

    def _batch(self, batch: Batch, news: _News) -> str:
        begin = f"{batch.number}  {_when(news.time)}  "
        text = "; ".join(map(self._text, news.happenings))
        if not self._screen.is_terminal:
            return begin + text
        text = fitted(text, max(self._screen.width - 1 - len(begin), 1))
        what = news.happenings[0].what if news.happenings else ""
        return begin + (self._screen.paint(text, _STYLES[what]) if what in _STYLES else text)

    def _text(self, one: Happening) -> str:
        most = _SHOWN if self._screen.is_terminal else len(one.keys)
        keys = ", ".join(map(printable, one.keys[:most]))
        more = f" and {len(one.keys) - most:,} more" if len(one.keys) > most else ""
        place = " to the front" if one.what == "moved" else ""
        who = self._worker(one)
        by = f" by {_name(who)}" if who else ""
        error = f": {printable(one.error.strip().partition(chr(10))[0])}" if one.error else ""
        return f"{one.what}{' ' if keys else ''}{keys}{more}{place}{by}{error}"

    def _worker(self, one: Happening) -> dict[str, Any] | None:
        """Return name, host and process of the worker that has, or had, the tasks, as far as its file or the entries tell."""
        if not (one.worker or one.who):
            return None
        who = _who_of(one.who) if one.who else self._workers.get(one.worker)
        if who is None:
            self._workers.update((seen.name, seen.who) for seen in workers.seen(self._history.store))
            who = self._workers.setdefault(one.worker, {})
        return {"name": one.worker or None, "host": who.get("host"), "pid": who.get("pid")}


def _who_of(text: str) -> dict[str, Any]:
    host, _, pid = text.rpartition(":")
    # what somebody else wrote may be no number, or one that is too long for JSON
    return {"host": host, "pid": int(pid) if pid.isascii() and pid.isdecimal() and len(pid) < 19 else None}


def _name(who: dict[str, Any]) -> str:
    host, pid = who["host"], who["pid"]
    return f"{printable(str(host))}:{pid}" if host is not None else f"worker {printable(str(who['name']))[:8]}"


def _when(at: float | None) -> str:
    if at is None:
        return "-"
    try:
        return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):  # no calendar has it
        return "-"
