"""Figures that threads read while others change what is counted: at every point, under load, and beside a transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from helpers import PATIENCE

from stress.points import each_point
from stress.recount import assert_right, recount
from tastypy import LockTimeout, Tracker
from tastypy.entries import kind_of

Figure = Callable[[Tracker[Any]], object]

FIGURES: dict[str, Figure] = {
    "counts": Tracker.counts,
    **{
        name: getattr(Tracker, name)
        for what in ("done", "tried", "aborted")
        for name in (f"num_{what}", f"fraction_{what}", f"percent_{what}", f"percent_not_{what}")
    },
}
_numbers = count()


@pytest.fixture
def tracker(quick_directory: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](quick_directory / "tracker", timeout=0.05) as tracker:
        yield tracker


def run_in_thread(action: Callable[[], object], patience: float) -> threading.Thread:
    """Let another thread do something, as far as it gets before it has to wait for this one."""
    thread = threading.Thread(target=action)
    thread.start()
    thread.join(patience)
    return thread


# ------------------------------------------------------------------------------------------------------ at every point


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_that_of_one_moment_whatever_another_thread_does_meanwhile(
    tracker: Tracker[Any], name: str
) -> None:
    """Four of four, then none of one: neither four of one, nor none of four."""

    def change() -> None:
        tracker.clear()
        tracker.add("one")
        tracker.counts()

    for point in each_point():
        tracker.clear()
        tracker.add_many(range(4), _done=True, _aborted=True, _tries=1)
        before = FIGURES[name](tracker)
        tracker.update({0: {"mine": 1}})
        threads: list[threading.Thread] = []
        with point.calls(lambda: threads.append(run_in_thread(change, 0.02))):  # noqa: B023 - called in the same round
            seen = FIGURES[name](tracker)
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        if threads:
            assert seen in (before, FIGURES[name](tracker)), point


def test_nobody_sees_figures_that_another_thread_is_counting_anew(
    tracker: Tracker[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for point in each_point():
        halfway, go_on = threading.Event(), threading.Event()

        def slow(entry: Any, max_tries: int) -> Any:
            if threading.current_thread() is not threading.main_thread() and entry.get("halfway"):
                halfway.set()  # noqa: B023 - called in the same round
                go_on.wait(PATIENCE)  # noqa: B023 - as above
            return kind_of(entry, max_tries)

        def count_anew() -> None:
            with tracker.hold():
                tracker["held"] = {}
                tracker.revert()
            tracker.counts()

        def begin() -> None:
            threads.append(threading.Thread(target=count_anew))  # noqa: B023 - as above
            threads[-1].start()  # noqa: B023 - as above
            halfway.wait(0.02)  # noqa: B023 - as above

        tracker.clear()
        tracker.update({"a": {"_done": True}, "b": {"halfway": True}, "c": {}})
        expected = tracker.counts()
        threads: list[threading.Thread] = []
        monkeypatch.setattr("tastypy.index.kind_of", slow)
        timer = threading.Timer(0.04, go_on.set)  # for one who waits until the other has counted
        timer.start()
        with point.calls(begin):
            seen = tracker.counts()
        timer.cancel()
        go_on.set()
        for thread in threads:
            thread.join(PATIENCE)
        monkeypatch.undo()
        assert seen == expected, point
        assert_right(tracker)


# ---------------------------------------------------------------------------------------------------------- under load


def test_figures_stay_right_while_threads_add_finish_and_delete(tracker: Tracker[Any]) -> None:
    stop = threading.Event()
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for step in range(100):
                key = (number, step)
                tracker.add(key)
                tracker.mark_done(key)
                if step % 3 == 0:
                    del tracker[key]
        except BaseException as error:
            wrong.append(error)

    def read() -> None:
        try:
            while not stop.is_set():
                counts, fraction = tracker.counts(), tracker.fraction_done()
                if (
                    counts.total != sum(counts[1:])
                    or not 0 <= fraction <= 1
                    or counts.done + counts.open < counts.total
                ):
                    wrong.append((counts, fraction))
        except BaseException as error:
            wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in (*readers, *workers):
        thread.start()
    for thread in workers:
        thread.join(PATIENCE)
    stop.set()
    for thread in readers:
        thread.join(PATIENCE)
    assert wrong == []
    assert tracker.counts() == recount(tracker, 0)
    assert tracker.num_done() == len(tracker) == 3 * 66
    assert_right(tracker)


# ------------------------------------------------------------------------------------------------ beside a transaction


@pytest.mark.parametrize("name", ["counts", "percent_done"])
def test_no_figure_waits_longer_than_the_timeout_for_a_transaction_of_another_thread(
    tracker: Tracker[Any], name: str
) -> None:
    """A transaction that waits for a thread that shows the progress would wait for ever."""
    tracker.add("a")
    seconds: list[float] = []

    def look() -> None:
        start = time.monotonic()
        try:
            FIGURES[name](tracker)
        except LockTimeout:
            pass
        finally:
            seconds.append(time.monotonic() - start)

    with tracker.transaction():
        tracker.add("b")
        thread = run_in_thread(look, 2)
        ended = not thread.is_alive()
    thread.join(PATIENCE)
    assert ended
    assert seconds[0] < 2
    assert_right(tracker)


def test_a_thread_beside_a_transaction_sees_its_changes_before_they_are_committed_or_waits(
    tracker: Tracker[Any],
) -> None:
    """The memory is one dict: whatever it sees, it is what a recount of that memory gives, before or after."""
    seen: list[object] = []

    def look() -> None:
        try:
            seen.append(tracker.counts())
        except LockTimeout:
            seen.append(None)

    tracker.add_many(["a", "b"])
    with tracker.transaction():
        tracker.mark_done("a")
        inside = tracker.counts()
        thread = run_in_thread(look, 0.2)
    thread.join(PATIENCE)
    assert seen in ([None], [inside])
    assert_right(tracker)
