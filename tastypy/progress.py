"""What a run shows of its progress: a bar by `tqdm` where that is installed, else a line every few seconds, or nothing."""

from __future__ import annotations

import sys
import time
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from tastypy.claims import ClaimedDict

_LINE_EVERY = 5.0  # seconds


class Progress:
    """Shows how far a tracker is, each time that `update` is called. This one shows nothing.

    Attributes:
        every: the seconds between calls of `update` that make sense.
    """

    every = 0.5

    def __init__(self, tracker: ClaimedDict[Any]) -> None:
        self._tracker = tracker

    def update(self) -> None:
        """Show what has changed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Show how it ended."""

    def _figures(self) -> tuple[int, int, int, int]:
        """Return how many tasks are done, how many there are to do, how many failed, and how many tries were not the first."""
        counts, tried, _, tries = self._tracker._figures().figures
        return counts.done, counts.total - counts.aborted, counts.failed + counts.given_up, tries - tried


class Lines(Progress):
    """Prints a line every few seconds."""

    def __init__(self, tracker: ClaimedDict[Any]) -> None:
        super().__init__(tracker)
        self._before = self._figures()[0]
        self._start = time.monotonic()
        self._next = self._start + _LINE_EVERY

    def update(self) -> None:
        """Print the next line when its time has come."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_EVERY
            self._print()

    def __exit__(self, *_: object) -> None:
        self._print()

    def _print(self) -> None:
        done, total, failed, retried = self._figures()
        seconds = time.monotonic() - self._start
        rate = (done - self._before) / max(seconds, 1e-9)
        left = f", {duration((total - done) / rate)} left" if rate > 0 and total > done else ""
        more = "".join(f", {number:,} {what}" for number, what in ((failed, "failed"), (retried, "retried")) if number)
        print(
            f"{PurePath(self._tracker.path).name}: {done:,} of {total:,} done{more}, {rate_text(rate)}{left}",
            file=sys.stderr,
            flush=True,
        )


class Bar(Progress):
    """Draws a bar by tqdm, which begins at what was done before, so that rate and remaining time are those of this run."""

    every = 0.1

    def __init__(self, tracker: ClaimedDict[Any], tqdm: Any) -> None:
        super().__init__(tracker)
        done, total, _, _ = self._figures()
        self._bar = tqdm(total=total, initial=done, desc=PurePath(tracker.path).name, unit="task", dynamic_ncols=True)

    def update(self) -> None:
        """Bring the bar up to date; tqdm decides whether to draw it."""
        done, total, failed, retried = self._figures()
        self._bar.total = total
        self._bar.set_postfix({"failed": failed, "retried": retried}, refresh=False)
        self._bar.update(done - self._bar.n)

    def __exit__(self, *_: object) -> None:
        self.update()
        self._bar.refresh()
        self._bar.close()


def progress_of(tracker: ClaimedDict[Any], wanted: bool | None) -> Progress:
    """Return what shows the progress: None where there is a terminal or a notebook, True in any case, False not at all."""
    if wanted is False:
        return Progress(tracker)
    if sys.stderr is None or getattr(sys.stderr, "closed", False):
        return Progress(tracker)
    terminal = bool(wanted) or (hasattr(sys.stderr, "isatty") and sys.stderr.isatty())
    try:
        from tqdm.auto import tqdm  # noqa: PLC0415 - an extra
    except ImportError:
        return Lines(tracker) if terminal else Progress(tracker)
    if not terminal and not any("notebook" in base.__module__ for base in tqdm.__mro__):
        return Progress(tracker)

    class Quiet(tqdm):  # type: ignore[type-arg]  # the class cannot be subscripted everywhere
        monitor_interval = 0  # a thread that watches over the bar, and that workers forked later had better not meet

    return Bar(tracker, Quiet)


def duration(seconds: float) -> str:
    """Return a time in words: "1:02:03", "2:03", or "3 days 1:02:03"."""
    whole = round(seconds)
    days, rest = divmod(whole, 86400)
    hours, minutes, last = rest // 3600, rest // 60 % 60, rest % 60
    text = f"{hours}:{minutes:02}:{last:02}" if hours or days else f"{minutes}:{last:02}"
    return f"{days} day{'s' if days > 1 else ''} {text}" if days else text


def rate_text(rate: float) -> str:
    """Return tasks a second as people read it: "12.3/s", or "4.5/min" and "2/h" where that is less than one."""
    for factor, unit in ((1, "s"), (60, "min")):
        if rate * factor >= 1:
            return f"{rate * factor:.3g}/{unit}" if rate * factor < 999.5 else f"{rate * factor:,.0f}/{unit}"
    return f"{rate * 3600:.3g}/h"
