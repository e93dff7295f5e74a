"""Entries that somebody wrote past the tracker: named by whatever needs them, left alone by the rest, right again once mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import stored

from stress.recount import assert_right
from tastypy import POD, MissingKeyError, NotATrackerError, TastypyError, Tracker

FRESH = {"_done": False, "_aborted": False, "_tries": 0}
Use = Callable[[Tracker[Any]], object]

DAMAGE: list[Any] = [3, None, [], "x", {"_done": 1}, {"_tries": -1}, {"_tries": "x"}, {"_claim": None}, {"_error": 0}]
every_damage = pytest.mark.parametrize("damage", DAMAGE, ids=repr)


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](path, max_tries=2) as tracker:
        tracker.update({"a": {"mine": 1}, "b": {"_done": True}})
        yield tracker


@pytest.fixture
def pod(tracker: Tracker[Any]) -> Iterator[POD[Any, Any]]:
    """The same directory, as one sees it who knows of no tasks."""
    with POD[Any, Any](tracker.path) as pod:
        yield pod


def assert_names(caught: pytest.ExceptionInfo[NotATrackerError], tracker: Tracker[Any], *parts: str) -> None:
    assert isinstance(caught.value, ValueError)
    assert caught.value.path == tracker.path
    for part in (tracker.path, *parts):
        assert part in str(caught.value)


FIGURES: dict[str, Use] = {
    **{
        name: getattr(Tracker, name)
        for what in ("done", "tried", "aborted")
        for name in (f"num_{what}", f"fraction_{what}", f"percent_{what}", f"percent_not_{what}")
    },
    "counts": Tracker.counts,
}
CLAIMS: dict[str, Use] = {
    "claim": Tracker.claim,
    "claims": lambda tracker: list(tracker.claims()),
    "claims in batches": lambda tracker: list(tracker.claims(batch=5)),
}


@every_damage
@pytest.mark.parametrize("name", [*FIGURES, *CLAIMS])
def test_the_next_figure_or_claim_says_which_entry_is_none(
    tracker: Tracker[Any], pod: POD[Any, Any], name: str, damage: Any
) -> None:
    tracker.counts()
    pod["damaged"] = damage
    tracker.refresh()
    for _ in range(2):
        with pytest.raises(NotATrackerError) as caught:
            (FIGURES | CLAIMS)[name](tracker)
        assert_names(caught, tracker, "'damaged'", "POD(")
    assert not any("_claim" in entry for entry in pod.values() if isinstance(entry, dict) and entry.get("_claim"))


def test_all_damaged_entries_are_counted_and_the_first_ones_named(tracker: Tracker[Any], pod: POD[Any, Any]) -> None:
    pod.update({("damaged", number): number for number in range(5)})
    tracker.refresh()
    with pytest.raises(NotATrackerError):
        tracker.counts()
    with pytest.raises(NotATrackerError) as caught:
        tracker.counts()
    assert_names(caught, tracker, "('damaged', 0)", "('damaged', 2)", "2 more")


def test_a_claim_finds_damage_that_it_did_not_know_of(tracker: Tracker[Any], pod: POD[Any, Any]) -> None:
    tracker.counts()
    pod["a"] = 3
    with pytest.raises(NotATrackerError) as caught:
        tracker.claim()
    assert_names(caught, tracker, "'a' is 3")
    assert stored(tracker.path)["a"] == 3


@every_damage
def test_reads_go_on_working(tracker: Tracker[Any], pod: POD[Any, Any], damage: Any) -> None:
    pod["damaged"] = damage
    tracker.refresh()
    assert tracker["damaged"] == damage
    assert list(tracker.values()) == list(pod.values())
    assert len(tracker) == 3
    assert tracker.done("b")
    assert tracker.copy() == pod
    assert f"{tracker!r}".endswith("3 entries)")


@every_damage
def test_other_tasks_are_changed_as_ever(tracker: Tracker[Any], pod: POD[Any, Any], damage: Any) -> None:
    pod["damaged"] = damage
    tracker.add("c")
    tracker.mark_done("a")
    tracker.update({"b": {"mine": 2}})
    with tracker.transaction():
        tracker.abort("c")
    with tracker.hold():
        tracker.increment_tries("c")
    with pytest.raises(MissingKeyError):
        tracker.mark_done("nothing")
    assert stored(tracker.path) == tracker
    del tracker["damaged"]
    assert_right(tracker)


@every_damage
def test_a_task_in_hand_can_end_beside_it(tracker: Tracker[Any], pod: POD[Any, Any], damage: Any) -> None:
    task = tracker.claim()
    assert task is not None
    pod["damaged"] = damage
    task.done(result=1)
    assert stored(tracker.path)["a"]["result"] == 1
    del tracker["damaged"]
    assert_right(tracker)


MENDS: dict[str, Use] = {
    "assignment": lambda tracker: tracker.__setitem__("damaged", {"mended": True}),
    "deletion": lambda tracker: tracker.__delitem__("damaged"),
    "pop": lambda tracker: tracker.pop("damaged"),
    "popitem": lambda tracker: tracker.popitem(),
    "clear": lambda tracker: tracker.clear(),
    "a POD": lambda tracker: POD[str, Any](tracker.path).__setitem__("damaged", {}),
}


@every_damage
@pytest.mark.parametrize("mend", MENDS.values(), ids=MENDS)
@pytest.mark.parametrize("known", [True, False])
def test_once_mended_everything_is_right_again(
    tracker: Tracker[Any], pod: POD[Any, Any], mend: Use, damage: Any, known: bool
) -> None:
    pod["damaged"] = damage
    tracker.refresh()
    if known:
        with pytest.raises(NotATrackerError):
            tracker.counts()
    mend(tracker)
    tracker.refresh()
    assert_right(tracker)
    task = tracker.claim()
    assert (task is None) is ("a" not in tracker)
    assert_right(tracker)


@pytest.mark.parametrize("damage", [3, None, {"_tries": "x"}, {"_done": 0}], ids=repr)
@pytest.mark.parametrize(
    "use",
    [
        *(Tracker.done, Tracker.aborted, Tracker.tries, Tracker.mark_done, Tracker.mark_not_done, Tracker.abort),
        *(Tracker.unabort, Tracker.increment_tries, Tracker.decrement_tries, Tracker.reset_tries, Tracker.should_do),
        *(Tracker.should_do_add, Tracker.should_try, Tracker.should_try_add),
        *[lambda tracker, key: tracker.update({key: {"mine": 1}}), lambda tracker, key: tracker.sync_key(key)],
    ],
)
def test_whoever_needs_the_damaged_entry_itself_says_so_and_changes_nothing(
    tracker: Tracker[Any], pod: POD[Any, Any], use: Callable[[Tracker[Any], Any], object], damage: Any
) -> None:
    """By an error of this package that names the key; some do not need what is damaged of it, and work or mend it."""
    pod["damaged"] = damage
    tracker.refresh()
    try:
        use(tracker, "damaged")
    except TastypyError as error:
        assert "damaged" in str(error)
        assert stored(tracker.path)["damaged"] == damage
    else:
        assert isinstance(damage, dict)
    assert tracker.dirty() == set()


@pytest.mark.parametrize("group", ["todo", "try", "aborted", "failed", "claimed"])
def test_a_loop_that_meets_a_damaged_entry_says_so(tracker: Tracker[Any], pod: POD[Any, Any], group: str) -> None:
    pod["damaged"] = 3
    tracker.refresh()
    with pytest.raises(NotATrackerError) as caught:
        list(getattr(tracker, f"{group}_keys")())
    assert_names(caught, tracker, "'damaged'")


def test_a_dict_without_the_fields_of_a_task_is_a_new_one(tracker: Tracker[Any], pod: POD[Any, Any]) -> None:
    pod["new"] = {"mine": 1}
    tracker.refresh()
    assert_right(tracker)
    assert tracker.counts().open == 2
    assert not tracker.done("new")
    tracker.mark_done("new")
    assert tracker["new"].keys() == {*FRESH, "mine", "_at"}
    assert_right(tracker)
