"""The figures: how many tasks are done, tried and aborted, right after every change, without a look at all the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import files, stored

from stress.recount import assert_right, recount
from tastypy import Counts, Tracker
from tastypy.entries import kind_of
from tastypy.index import Index

CLAIM = {"token": "0123456789abcdef", "worker": "fedcba9876543210"}
WHATS = ("done", "tried", "aborted")
NAMES = [f"{kind}_{what}" for kind in ("num", "fraction", "percent", "percent_not") for what in WHATS]


class Abort(Exception):  # noqa: N818 - a signal of these tests, not an error
    """Ends a transaction without a commit."""


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](path, max_tries=2) as tracker:
        yield tracker


@pytest.fixture
def other(tracker: Tracker[Any]) -> Iterator[Tracker[Any]]:
    with Tracker[Any](tracker.path, max_tries=2) as other:
        yield other


# --------------------------------------------------------------------------------------------------- what they look like


def test_there_is_a_number_a_fraction_and_two_percentages_of_each_kind(tracker: Tracker[Any]) -> None:
    tracker.update({0: {"_done": True, "_tries": 1}, 1: {"_done": True, "_aborted": True}, 2: {}})
    expected = {
        "num_done": 2, "num_tried": 1, "num_aborted": 1,
        "fraction_done": 2 / 3, "fraction_tried": 1 / 3, "fraction_aborted": 1 / 3,
        "percent_done": "66.67 %", "percent_tried": "33.33 %", "percent_aborted": "33.33 %",
        "percent_not_done": "33.33 %", "percent_not_tried": "66.67 %", "percent_not_aborted": "66.67 %",
    }  # fmt: skip
    assert expected.keys() == set(NAMES)
    for name, value in expected.items():
        assert callable(getattr(tracker, name)), "they are methods"
        assert getattr(tracker, name)() == value
        assert type(getattr(tracker, name)()) is type(value)
    assert "num_not_done" not in dir(tracker)


@pytest.mark.parametrize(
    ("done", "total", "decimals", "percent", "percent_not"),
    [
        (2, 3, 2, "66.67 %", "33.33 %"),
        (2, 3, 0, "67 %", "33 %"),
        (2, 3, 1, "66.7 %", "33.3 %"),
        (2, 3, 5, "66.66667 %", "33.33333 %"),
        (0, 3, 2, "0.00 %", "100.00 %"),
        (3, 3, 2, "100.00 %", "0.00 %"),
        (29, 100, 2, "29.00 %", "71.00 %"),
        (29, 100, 0, "29 %", "71 %"),
        (1, 7, 3, "14.286 %", "85.714 %"),
    ],
)
def test_a_percentage_has_as_many_decimals_as_one_asks_for(
    tracker: Tracker[Any], done: int, total: int, decimals: int, percent: str, percent_not: str
) -> None:
    tracker.update({number: dict.fromkeys(["_done", "_aborted"], number < done) for number in range(total)})
    for number in range(done):
        tracker.increment_tries(number)
    for what in WHATS:
        assert getattr(tracker, f"percent_{what}")(decimals) == percent
        assert getattr(tracker, f"percent_{what}")(decimals=decimals) == percent
        assert getattr(tracker, f"percent_not_{what}")(decimals) == percent_not
        if decimals == 2:
            assert getattr(tracker, f"percent_{what}")() == percent


@pytest.mark.parametrize("decimals", [-1, 1.5, True, None])
def test_a_number_of_decimals_that_is_none_is_refused(tracker: Tracker[Any], decimals: Any) -> None:
    for what in WHATS:
        for name in (f"percent_{what}", f"percent_not_{what}"):
            with pytest.raises((TypeError, ValueError)):
                getattr(tracker, name)(decimals)


def test_of_no_tasks_none_is_done_and_nothing_is_divided_by_zero(tracker: Tracker[Any]) -> None:
    for _ in range(2):
        assert tracker.counts() == Counts(0, 0, 0, 0, 0, 0, 0)
        for what in WHATS:
            assert getattr(tracker, f"num_{what}")() == 0
            assert getattr(tracker, f"fraction_{what}")() == 0
            assert getattr(tracker, f"percent_{what}")() == "0.00 %"
            assert getattr(tracker, f"percent_not_{what}")() == "100.00 %"
        tracker.add("a", _done=True, _tries=1, _aborted=True)
        assert tracker.percent_done() == "100.00 %"
        tracker.clear()


def test_each_task_is_counted_in_one_state_the_first_that_fits(tracker: Tracker[Any]) -> None:
    everything = {"_done": True, "_aborted": True, "_claim": CLAIM, "_tries": 2, "_error": "x"}
    states: list[str] = []
    for field, state in zip([*everything, None], Counts._fields[1:], strict=True):
        tracker[state] = dict(everything)
        states.append(state)
        counts = tracker.counts()
        assert counts.total == len(states)
        assert {name for name in Counts._fields[1:] if getattr(counts, name) == 1} == set(states)
        assert_right(tracker)
        if field is not None:
            del everything[field]


def test_done_tried_and_aborted_are_counted_whatever_the_state_is(tracker: Tracker[Any]) -> None:
    tracker["a"] = {"_done": True, "_aborted": True, "_claim": CLAIM, "_tries": 2, "_error": "x"}
    assert [getattr(tracker, f"num_{what}")() for what in WHATS] == [1, 1, 1]
    assert tracker.counts() == Counts(1, 1, 0, 0, 0, 0, 0)


def test_counts_are_a_named_tuple_with_the_total_first(tracker: Tracker[Any]) -> None:
    tracker.add_many(["a", "b"])
    counts = tracker.counts()
    assert counts._asdict() == dict(zip(Counts._fields, counts, strict=True))
    assert counts[0] == counts.total == sum(counts[1:]) == len(tracker) == 2


# ------------------------------------------------------------------------------------------------------- without a scan


def test_a_figure_after_a_change_looks_at_the_changed_entries_only(
    tracker: Tracker[Any], other: Tracker[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker.add_many(range(1000))
    tracker.counts()
    looks = 0

    def counting(entry: Any, max_tries: int) -> Any:
        nonlocal looks
        looks += 1
        return kind_of(entry, max_tries)

    def forbidden(*_: object) -> None:
        raise AssertionError("all entries were looked at")

    def abort() -> None:
        with pytest.raises(Abort), tracker.transaction():
            tracker.mark_done(9)
            raise Abort

    def transact() -> None:
        with tracker.transaction():
            tracker.mark_done(10)
            tracker.add("in a transaction")

    def hold() -> None:
        with tracker.hold():
            tracker.mark_done(11)

    def news() -> None:
        other.mark_done(12)
        del other[13]
        tracker.refresh()

    def work() -> None:
        task = tracker.claim()
        assert task is not None
        task.done()

    changes: list[Callable[[], object]] = [
        lambda: tracker.add("new"),
        lambda: tracker.mark_done(1),
        lambda: tracker.__setitem__(2, {"_aborted": True}),
        lambda: tracker.update({3: {"_tries": 1}}),
        lambda: tracker.pop(4),
        lambda: tracker.popitem(last=False),
        *(abort, transact, hold, news, work),
        tracker.sync,
        tracker.counts,
    ]
    monkeypatch.setattr("tastypy.index.kind_of", counting)
    monkeypatch.setattr(Index, "rebuild", forbidden)
    tracker.counts()
    for change in changes:
        looks = 0
        change()
        tracker.counts()
        assert looks <= 6
    monkeypatch.undo()
    assert_right(tracker)


# ---------------------------------------------------------------------------------- hold, revert, refresh, transactions


def test_what_is_held_is_counted_and_what_is_reverted_is_not(tracker: Tracker[Any], other: Tracker[Any]) -> None:
    tracker.update({"a": {}, "b": {"_done": True}, "c": {}})
    before = tracker.counts()
    disk = files(Path(tracker.path))
    tracker.hold()
    tracker.mark_done("a")
    tracker.update({"b": {"_done": False}, "new": {"_aborted": True}})
    del tracker["c"]
    held = tracker.counts()
    assert held == Counts(3, 1, 1, 0, 0, 0, 1)
    assert_right(tracker)
    assert files(Path(tracker.path)) == disk
    other.refresh()
    assert other.counts() == before
    tracker.revert()
    assert tracker.counts() == before
    assert_right(tracker)


def test_others_changes_are_counted_once_they_came_in(tracker: Tracker[Any], other: Tracker[Any]) -> None:
    tracker.update({"a": {}, "b": {"_done": True}})
    other.refresh()
    tracker.mark_done("a")
    tracker.pop("b")
    tracker.add("c")
    assert other.counts() == Counts(2, 1, 0, 0, 0, 0, 1)
    other.refresh()
    assert other.counts() == tracker.counts() == Counts(2, 1, 0, 0, 0, 0, 1)
    assert_right(other)
    tracker.clear()
    other.add("d")
    assert other.counts() == Counts(1, 0, 0, 0, 0, 0, 1)
    assert_right(other)


def test_others_changes_under_ones_own_held_ones_are_counted_as_the_memory_has_them(
    tracker: Tracker[Any], other: Tracker[Any]
) -> None:
    tracker.update({"mine": {}, "theirs": {}, "deleted": {}})
    other.refresh()
    tracker.hold()
    tracker.mark_done("mine")
    del tracker["deleted"]
    other.update({"mine": {"_aborted": True}, "theirs": {"_done": True}, "deleted": {"_done": True}, "new": {}})
    tracker.refresh()
    assert (tracker["mine"]["_done"], tracker["mine"]["_aborted"], "deleted" in tracker) == (True, True, False)
    assert_right(tracker)
    other.clear()
    tracker.refresh()
    assert_right(tracker)
    tracker.unhold()
    assert_right(tracker)
    other.refresh()
    assert_right(other)
    assert other == tracker == stored(tracker.path)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("looks", [False, True])
def test_a_transaction_is_counted_while_it_is_under_way_and_only_if_it_is_committed_afterwards(
    tracker: Tracker[Any], looks: bool, fails: bool
) -> None:
    """Whether or not somebody looked in the middle of it."""
    tracker.update({"a": {}, "b": {"_done": True}, "c": {"_tries": 1}})
    tracker.move_to_end("a")
    before = tracker.copy()
    try:
        with tracker.transaction():
            tracker.mark_done("a")
            tracker["b"] = {"_aborted": True}
            del tracker["c"]
            tracker.add("d")
            if looks:
                assert_right(tracker)
            inside = tracker.copy()
            with pytest.raises(Abort), tracker.transaction():
                tracker.clear()
                tracker.add_many(range(5))
                if looks:
                    assert tracker.counts() == Counts(5, 0, 0, 0, 0, 0, 5)
                raise Abort
            if looks:
                assert tracker.counts() == recount(inside, 2)
            assert tracker == inside
            if fails:
                raise Abort
    except Abort:
        assert fails
    assert tracker == (before if fails else inside)
    assert tracker.counts() == recount(before if fails else inside, 2)
    assert_right(tracker)


def test_a_commit_that_fails_is_not_counted(tracker: Tracker[Any], failing_os: Any) -> None:
    tracker.add_many(["a", "b"])
    before = tracker.counts()
    failing_os.always["write"] = OSError(28, "No space left on device")
    changes: list[Callable[[], object]] = [
        lambda: tracker.mark_done("a"),
        lambda: tracker.__setitem__("a", {"_done": True}),
        lambda: tracker.update({"a": {"_done": True}, "c": {}}),
        lambda: tracker.pop("a"),
        tracker.clear,
        lambda: tracker.add("c"),
        tracker.claim,
    ]
    for change in changes:
        with pytest.raises(OSError, match="No space"):
            change()
        assert tracker.counts() == before
        assert_right(tracker)
    failing_os.always.clear()
    tracker.mark_done("a")
    assert tracker.counts() == Counts(2, 1, 0, 0, 0, 0, 1)
    assert_right(tracker)


def test_figures_are_right_after_a_long_absence(tracker: Tracker[Any], other: Tracker[Any]) -> None:
    """The journal that this one had read to is gone by then: everything is loaded anew."""
    tracker.add_many(range(10))
    tracker.counts()
    for number in range(10):
        other.update({number: {"_done": True, "text": "x" * 1000}, f"more {number}": {}})
        other.sync()
    tracker.refresh()
    assert tracker.counts() == other.counts() == Counts(20, 10, 0, 0, 0, 0, 10)
    assert_right(tracker)
