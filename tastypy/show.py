"""`tastypy status` and `watch`: what stands on the page about a tracker, and the loop that shows it again and again."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import NamedTuple

from tastypy.errors import NotATrackerError
from tastypy.progress import duration, rate_text
from tastypy.screen import Bar, Column, Line, Page, Screen, Table, printable
from tastypy.status import Failure, Monitor, Process, Status, Worker, opened


class Most(NamedTuple):
    """How many workers, tasks of each, and errors are shown."""

    workers: int
    tasks: int
    errors: int


# until a page is low enough for the terminal: fewer tasks of each worker first, then fewer of all
_LOWER = [*(Most(10, number, 5) for number in range(5, 0, -1)), *(Most(n, 1, min(n, 5)) for n in range(9, -1, -1))]


# --- what is to be seen


def page_of(status: Status, most: Most = _LOWER[0]) -> Page:
    """Return what is to be seen of a status."""
    counts = status.counts
    share = counts.done / counts.total if counts.total else 0.0
    page: Page = [
        Line(printable(status.path), "bold"),
        # rounded down: 100 % means all
        Bar(share, f"{int(1000 * share) / 10:.1f} %, {counts.done:,} of {counts.total:,} done"),
        Line(_states(status)),
        Line(_speed(status)),
    ]
    if status.runs:
        page.append(Line(_runs(status.runs[: max(1, most.workers)], status)))
    page += _crew("worker", status.workers, status, most)
    page += _crew("dead worker", status.dead, status, most)
    if status.dead:
        page.append(Line("their tasks go to the next worker that looks for one", "yellow"))
    page += _errors(status.errors, status, most)
    return page


def _states(status: Status) -> str:
    counts = status.counts
    texts = [f"{counts.open:,} open", f"{counts.claimed:,} claimed", f"{counts.failed:,} failed"]
    texts += [f"{counts.given_up:,} given up"] if counts.given_up else []
    texts += [f"{counts.aborted:,} aborted"] if counts.aborted else []
    return ", ".join(texts)


def _speed(status: Status) -> str:
    if not status.counts.open + status.counts.failed + status.counts.claimed:
        return "nothing is left to do" if status.counts.total else "there are no tasks yet"
    if status.rate is None or status.seconds_left is None:
        return "no rate yet" if status.workers else "no worker is alive"
    return f"{rate_text(status.rate)}, {duration(status.seconds_left)} left"


def _runs(shown: list[Process], status: Status) -> str:
    texts = [f"{_host(run)} (process {run.pid or '?'}, for {_age(run.since, status)})" for run in shown]
    more = len(status.runs) - len(shown)
    return f"{_number(len(status.runs), 'run')}: {', '.join(texts)}{f' ... and {more:,} more' if more else ''}"


def _crew(what: str, workers: list[Worker], status: Status, most: Most) -> Iterator[Line | Table]:
    title = _number(len(workers), what)
    columns = [Column(title), Column("pid", "", True), Column("age", "", True)]
    columns += [Column("task", "cyan", ends=True), Column("for", "", True), Column("more", "", True)]
    rows = []
    for worker in workers[: most.workers]:
        who = [_host(worker), str(worker.pid or "?"), _age(worker.since, status)]
        for number, held in enumerate(worker.tasks[: most.tasks], start=1):
            more = len(worker.tasks) - number if number == most.tasks else 0
            since = ("" if held.in_hand else "ahead ") + _age(held.since, status)
            rows.append([*who, printable(held.key), since, f"+{more:,}" if more else ""])
            who = ["", "", ""]
        if not worker.tasks:
            rows.append([*who, "-", "", ""])
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return _listed(title, Table(columns, rows), most.workers, len(workers))


def _errors(errors: list[Failure], status: Status, most: Most) -> Iterator[Line | Table]:
    columns = [Column("tasks", "", True), Column("error", "red"), Column("for example", "cyan", ends=True)]
    columns += [Column("ago", "", True)]
    rows = [
        [f"{one.count:,}", printable(one.text.strip().partition("\n")[0]), printable(one.key), _age(one.at, status)]
        for one in errors[: most.errors]
    ]
    return _listed(_number(len(errors), "error"), Table(columns, rows), most.errors, len(errors))


def _listed(title: str, table: Table, most: int, number: int) -> Iterator[Line | Table]:
    """Yield a table of the first of `number` things, if there are any; where none can be shown, how many there are."""
    if number and not most:
        yield Line(title, "bold")
    elif number:
        yield Line("")
        yield table
        if number > most:
            yield Line(f"... and {number - most:,} more")


def _host(process: Process) -> str:
    return printable(process.host or "?")


def _age(since: float | None, status: Status) -> str:
    return "?" if since is None else duration(max(0.0, status.time - since))


def _number(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


# --- the command


def show(path: str, *, max_tries: int | None, as_json: bool, interval: float | None) -> None:
    """Print how it stands with the tracker at `path`; with an `interval`, again and again until Ctrl-C.

    Raises:
        MissingPODError, NotATrackerError: there is none.
        And what `Tracker` raises.
    """
    try:
        with opened(path, max_tries or 0) as tracker:
            monitor, screen = Monitor(tracker, max_tries), Screen()
            if interval is None:
                _print(monitor.look(), screen, as_json=as_json)
                return
            with _signals_blocked():
                _watch(monitor, screen, interval, as_json=as_json)
    except NotATrackerError as error:
        if interval is None:
            raise
        message = f"{error}. What changes in a POD shows `tastypy log {path} --follow`"
        raise NotATrackerError(message, error.path) from error
    except KeyboardInterrupt:
        if interval is None:
            raise
        if sys.stdout.isatty():
            sys.stdout.write("\n")  # behind the ^C


def _watch(monitor: Monitor, screen: Screen, interval: float, *, as_json: bool) -> None:
    # in a function of its own for a Ctrl-C: see tests/test_jumps.py
    in_place = screen.is_terminal and not as_json
    for number in count():
        status = monitor.look()
        if in_place:
            screen.refresh(map(partial(page_of, status), _LOWER))
        else:
            screen.write("\n" if number and not as_json else "")
            _print(status, screen, as_json=as_json)
        if _disturbed_within(interval, _WAKING if in_place else set()):
            screen.disturbed()


_WAKING = {signal.SIGWINCH, signal.SIGCONT}  # the terminal has changed, or was somebody else's
_AT_MOST = 0.2  # seconds; a Ctrl-C just before a wait is noticed at its end: 7 of 500 came just then on a busy machine


def _disturbed_within(seconds: float, signals: set[signal.Signals]) -> bool:
    """Wait for so long, or until one of the signals, which are blocked, comes; tell whether one did."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if signal.sigtimedwait(signals, min(left, _AT_MOST)) is not None:
            return True
    return False


def _print(status: Status, screen: Screen, *, as_json: bool) -> None:
    if as_json:
        screen.write(f"{status.as_json()}\n")
    else:
        screen.show(page_of(status))


@contextmanager
def _signals_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WAKING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
