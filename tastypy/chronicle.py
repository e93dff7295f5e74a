"""`tastypy log`: a line, or a JSON object, for each batch that was committed, and for those that come."""

from __future__ import annotations

import sys
import time
from collections import deque
from datetime import datetime
from typing import Any

import orjson

from tastypy import format as form
from tastypy import workers
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
    with History(require(path)) as history:
        teller = _Teller(history, as_json=as_json)
        for line in deque(map(teller.line, history.new()), maxlen=last):
            print(line)
        if interval is None:
            return
        try:
            while True:
                sys.stdout.flush()
                time.sleep(interval)
                now = round(time.time(), 3)
                for event in history.new():
                    print(teller.line(event, now))
        except KeyboardInterrupt:
            if sys.stdout.isatty():
                print()  # behind the ^C


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

    def line(self, event: Event, now: float | None = None) -> str:
        """Return the line of an event, which came up to the time `now`."""
        if isinstance(event, Batch):
            return self._batch(event, now)
        self._witness.forget()
        if isinstance(event, Missing):
            fields: dict[str, Any] = {"missing": [event.first, event.last]}
            one = event.first == event.last
            batches = f"batch {event.first} was" if one else f"batches {event.first} to {event.last} were"
            text = f"{batches} folded into the shards before {'it' if one else 'they'} could be read"
        else:
            fields = {"revoked": event.number}
            text = f"batch {event.number} was taken back: its commit had failed"
        return orjson.dumps(fields).decode() if self._as_json else self._screen.paint(f"-- {text}", "yellow")

    def _batch(self, batch: Batch, now: float | None) -> str:
        happenings = self._witness.of(batch.header, batch.record)
        at = max((one.at for one in happenings if one.at is not None), default=now)
        if self._as_json:
            done = [{**one._asdict(), "worker": self._who(one.worker)} for one in happenings]
            for one in done:
                del one["at"]
            return orjson.dumps({"batch": batch.number, "time": at, "changes": done}).decode()
        begin = f"{batch.number}  {_when(at)}  "
        text = "; ".join(map(self._text, happenings))
        if not self._screen.is_terminal:
            return begin + text
        text = fitted(text, max(self._screen.width - 1 - len(begin), 1))
        what = happenings[0].what if happenings else ""
        return begin + (self._screen.paint(text, _STYLES[what]) if what in _STYLES else text)

    def _text(self, one: Happening) -> str:
        most = _SHOWN if self._screen.is_terminal else len(one.keys)
        keys = ", ".join(map(printable, one.keys[:most]))
        more = f" and {len(one.keys) - most:,} more" if len(one.keys) > most else ""
        place = " to the front" if one.what == "moved" else ""
        who = self._who(one.worker)
        by = f" by {_name(who)}" if who else ""
        error = f": {printable(one.error.strip().partition(chr(10))[0])}" if one.error else ""
        return f"{one.what}{' ' if keys else ''}{keys}{more}{place}{by}{error}"

    def _who(self, worker: str) -> dict[str, Any] | None:
        """Return name, host and process of a worker, as far as its file, which goes with it, has told."""
        if not worker:
            return None
        if worker not in self._workers:
            found = {one.name: one.who for one in workers.seen(self._history.store)}
            self._workers.update(found)
            self._workers.setdefault(worker, {})
        who = self._workers[worker]
        return {"name": worker, "host": who.get("host"), "pid": who.get("pid")}


def _name(who: dict[str, Any]) -> str:
    host, pid = who["host"], who["pid"]
    return f"{printable(str(host))}:{pid}" if host is not None else f"worker {printable(str(who['name']))[:8]}"


def _when(at: float | None) -> str:
    return "-" if at is None else datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
