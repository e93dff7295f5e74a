"""What a run shows: a bar, lines, or nothing; on a real terminal, elsewhere, and in a notebook."""

from __future__ import annotations

import io
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tastypy import Tracker, progress
from tastypy.progress import Bar, Lines, Progress, duration, progress_of, rate_text

pytestmark = pytest.mark.timeout(60)

On = Callable[[Any], Any]


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[int]]:
    """Ten tasks, of which two are done and one is aborted."""
    with Tracker[int](path) as tracker:
        tracker.add_many(range(10))
        tracker.mark_done(0)
        tracker.mark_done(1)
        tracker.abort(9)
        yield tracker


class Terminal(io.StringIO):
    """What takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """Put a stream in the place of standard error (which pytest replaces between a fixture and its test), and return it."""

    def put(stream: Any) -> Any:
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return put


@pytest.fixture
def _no_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if tqdm was not installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "tqdm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time as progress sees it, in a list of one."""
    now = [100.0]
    stand_in = ModuleType("time")
    stand_in.monotonic = lambda: now[0]  # type: ignore[attr-defined]  # a module is what its names are
    monkeypatch.setattr(progress, "time", stand_in)
    return now


# ------------------------------------------------------------------------------------------------------------------- bar


class Recorder:
    """What stands in for tqdm, and keeps what it is told."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.total = options["total"]
        self.n = options["initial"]
        self.postfix: dict[str, int] = {}
        self.closed = False

    def set_postfix(self, postfix: dict[str, int], *, refresh: bool) -> None:
        assert not refresh, "tqdm decides when"
        self.postfix = postfix

    def update(self, number: int) -> None:
        self.n += number

    def refresh(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def test_a_bar_begins_at_what_was_done_before_of_all_that_is_not_aborted(tracker: Tracker[int]) -> None:
    with Bar(tracker, Recorder) as bar:
        assert bar._bar.options["initial"] == 2
        assert bar._bar.options["total"] == 9
        assert bar._bar.options["desc"] == "my.pod"
        assert not bar._bar.closed
    assert bar._bar.closed


def test_a_bar_follows_what_is_done_added_failed_and_tried_again(tracker: Tracker[int]) -> None:
    bar = Bar(tracker, Recorder)
    tracker.mark_done(2)
    tracker.add_many([10, 11])
    for _ in range(3):
        task = tracker.claim()
        assert task is not None
        task.fail("no")
    bar.update()
    assert (bar._bar.n, bar._bar.total, bar._bar.postfix) == (3, 11, {"failed": 3, "retried": 0})
    while (task := tracker.claim()) is not None and task.tries == 0:
        task.done()
    assert task is not None
    task.done()
    bar.update()
    assert (bar._bar.n, bar._bar.total, bar._bar.postfix) == (9, 11, {"failed": 2, "retried": 1})
    tracker.mark_not_done(2)
    del tracker[0]
    bar.update()
    assert (bar._bar.n, bar._bar.total) == (7, 10)


def test_a_bar_shows_at_its_end_what_came_of_it_even_when_an_error_ends_it(tracker: Tracker[int]) -> None:
    bar = Bar(tracker, Recorder)
    with pytest.raises(LookupError), bar:
        tracker.mark_done(5)
        raise LookupError
    assert (bar._bar.n, bar._bar.closed) == (3, True)


def test_tqdm_draws_the_bar_with_the_rate_of_this_run_alone(tracker: Tracker[int], on: On) -> None:
    terminal = on(Terminal())
    shown = progress_of(tracker, None)
    assert type(shown) is Bar
    assert "| 2/9 [" in terminal.getvalue()
    with shown:
        time.sleep(0.2)
        tracker.mark_done(2)
    last = terminal.getvalue().split("\r")[-1]
    assert last.startswith("my.pod:  33%|")
    assert "| 3/9 [" in last
    assert last.endswith("failed=0, retried=0]\n")
    rate = re.search(r"([\d.]+)task/s", last)
    assert rate is not None
    assert 2 < float(rate[1]) < 6  # one task in a fifth of a second, not three


def test_the_bar_starts_no_thread_that_forked_workers_would_meet(tracker: Tracker[int], on: On) -> None:
    on(Terminal())
    before = threading.active_count()
    with progress_of(tracker, None):
        assert threading.active_count() == before


# ----------------------------------------------------------------------------------------------------------------- lines


def test_a_line_is_printed_every_five_seconds_and_at_the_end(tracker: Tracker[int], on: On, clock: list[float]) -> None:
    elsewhere = on(io.StringIO())
    with Lines(tracker) as lines:
        lines.update()
        clock[0] += 4.9
        lines.update()
        assert elsewhere.getvalue() == ""
        clock[0] += 0.1
        tracker.mark_done(2)
        lines.update()
        assert elsewhere.getvalue() == "my.pod: 3 of 9 done, 12/min, 0:30 left\n"
        clock[0] += 4
        lines.update()
        clock[0] += 1
        task = tracker.claim()
        assert task is not None
        task.fail("no")
        for key in range(4, 9):
            tracker.mark_done(key)
        lines.update()
        assert elsewhere.getvalue().splitlines()[1:] == ["my.pod: 8 of 9 done, 1 failed, 36/min, 0:02 left"]
        task = tracker.claim()
        assert task is not None
        task.done()
    assert elsewhere.getvalue().splitlines()[2:] == ["my.pod: 9 of 9 done, 1 retried, 42/min"]


def test_lines_before_anything_is_done_say_nothing_of_the_time_that_is_left(
    tracker: Tracker[int], on: On, clock: list[float]
) -> None:
    elsewhere = on(io.StringIO())
    with Lines(tracker):
        pass
    assert elsewhere.getvalue() == "my.pod: 2 of 9 done, 0/h\n"


# ----------------------------------------------------------------------------------------------------- which of them it is


@pytest.mark.parametrize(("wanted", "kind"), [(None, Bar), (True, Bar), (False, Progress)])
def test_on_a_terminal_there_is_a_bar_unless_it_is_not_wanted(
    tracker: Tracker[int], on: On, wanted: bool | None, kind: type[Progress]
) -> None:
    terminal = on(Terminal())
    with progress_of(tracker, wanted) as shown:
        assert type(shown) is kind
        shown.update()
    assert bool(terminal.getvalue()) == (kind is Bar)


@pytest.mark.parametrize(("wanted", "kind"), [(None, Progress), (True, Bar), (False, Progress)])
def test_elsewhere_there_is_nothing_unless_it_is_wanted(
    tracker: Tracker[int], on: On, wanted: bool | None, kind: type[Progress]
) -> None:
    elsewhere = on(io.StringIO())
    with progress_of(tracker, wanted) as shown:
        assert type(shown) is kind
        shown.update()
    assert bool(elsewhere.getvalue()) == (kind is Bar)


@pytest.mark.usefixtures("_no_tqdm")
@pytest.mark.parametrize(("wanted", "kind"), [(None, Lines), (True, Lines), (False, Progress)])
def test_without_tqdm_a_terminal_gets_lines(
    tracker: Tracker[int], on: On, wanted: bool | None, kind: type[Progress]
) -> None:
    on(Terminal())
    assert type(progress_of(tracker, wanted)) is kind


@pytest.mark.usefixtures("_no_tqdm")
@pytest.mark.parametrize(("wanted", "kind"), [(None, Progress), (True, Lines), (False, Progress)])
def test_without_tqdm_there_are_lines_elsewhere_only_if_they_are_wanted(
    tracker: Tracker[int], on: On, wanted: bool | None, kind: type[Progress]
) -> None:
    on(io.StringIO())
    assert type(progress_of(tracker, wanted)) is kind


class Plain:
    """A stream that only writes, as programs put in the place of standard error to log what is printed."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, text: str) -> int:
        self.written.append(text)
        return len(text)

    def flush(self) -> None:
        pass


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, Plain(), closed()], ids=["none", "write only", "closed"])
def test_standard_error_that_cannot_be_asked_is_no_terminal(
    tracker: Tracker[int], monkeypatch: pytest.MonkeyPatch, stream: Any
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stream)
        kind = type(progress_of(tracker, None))
    assert kind is Progress


def test_what_is_wanted_in_any_case_is_written_to_a_stream_that_only_writes(
    tracker: Tracker[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Plain()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stream)
        with progress_of(tracker, True):  # as a caller may write it
            pass
    assert "2/9" in "".join(stream.written)


# ------------------------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (0.4, "0:00"),
        (1.5, "0:02"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (60, "1:00"),
        (123, "2:03"),
        (3599.7, "1:00:00"),
        (3723, "1:02:03"),
        (86399, "23:59:59"),
        (86400, "1 day 0:00:00"),
        (262923, "3 days 1:02:03"),
    ],
)
def test_a_duration_is_told_in_hours_minutes_and_seconds(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (12.34, "12.3/s"),
        (1, "1/s"),
        (0.999, "59.9/min"),
        (0.075, "4.5/min"),
        (1 / 60, "1/min"),
        (1 / 1800, "2/h"),
        (0, "0/h"),
        (123.4, "123/s"),
        (999.4, "999/s"),
        (999.7, "1,000/s"),
        (1234.5, "1,234/s"),
        (1e6, "1,000,000/s"),
        (1e-6, "0.0036/h"),
    ],
)
def test_a_rate_is_told_in_the_unit_that_makes_it_one_or_more(rate: float, text: str) -> None:
    assert rate_text(rate) == text
