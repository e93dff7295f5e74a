"""Figures that are right whatever comes in between: signal handlers that read, add or claim, and a Ctrl-C, at every point."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers import in_child, stored

from stress.points import Point, each_point
from stress.recount import assert_right, recount
from tastypy import Counts, Tracker, TransactionError

TASKS: dict[Any, dict[str, Any]] = {
    "open": {},
    "done": {"_done": True},
    "aborted": {"_aborted": True},
    "failed": {"_tries": 1, "_error": "x"},
}
_numbers = count()


class Abort(Exception):  # noqa: N818 - a signal of these tests, not an error
    """Ends a transaction without a commit."""


class Two(NamedTuple):
    """Two trackers on a new directory, with a task in each state."""

    one: Tracker[Any]
    other: Tracker[Any]


class Scene(NamedTuple):
    """What is interrupted."""

    name: str
    act: Callable[[Tracker[Any]], object]
    prepare: Callable[[Two], object] = lambda two: None
    held: bool = False
    transaction: bool = False


def transact(tracker: Tracker[Any], *, fail: bool) -> None:
    with suppress(Abort), tracker.transaction():
        tracker["open"] = {"_done": True}
        del tracker["failed"]
        tracker.add("new")
        if fail:
            raise Abort


def hold(two: Two) -> None:
    two.one.hold()
    two.one.update({"open": {"_done": True}, "new": {}})


def revert(two: Two) -> None:
    hold(two)
    two.one.revert()
    two.one.unhold()


def change_much(two: Two) -> None:
    two.other.update({"open": {"_done": True}, "new": {}})
    del two.other["failed"]


def change_and_refresh(two: Two) -> None:
    change_much(two)
    two.one.refresh()


def try_one(tracker: Tracker[Any]) -> None:
    task = tracker.claim()
    if task is not None:
        task.fail("x")


SCENES = [
    Scene("update", lambda one: one.update({"open": {"_done": True}, "new": {}})),
    Scene("held assignment", lambda one: one.__setitem__("open", {"_done": True}), held=True),
    Scene("held update", lambda one: one.update({"open": {"_done": True}, "new": {}}), held=True),
    Scene("held deletion", lambda one: one.pop("failed"), held=True),
    Scene("held state", lambda one: one.mark_done("open"), held=True),
    Scene("update in a transaction", lambda one: one.update({"open": {"_done": True}, "new": {}}), transaction=True),
    Scene("clear in a transaction", lambda one: one.clear(), transaction=True),
    Scene("commit", lambda one: transact(one, fail=False)),
    Scene("rollback", lambda one: transact(one, fail=True)),
    Scene("revert", lambda one: one.revert(), hold),
    Scene("refresh", lambda one: one.refresh(), change_much),
    Scene("counting", lambda one: one.counts(), change_and_refresh),
    Scene("counting anew", lambda one: one.counts(), revert),
    Scene("claim", try_one),
]
every_scene = pytest.mark.parametrize("scene", SCENES, ids=[scene.name for scene in SCENES])


@contextmanager
def two_trackers(directory: Path) -> Iterator[Two]:
    path = directory / f"tracker {next(_numbers)}"
    with Tracker[Any](path, max_tries=2) as one, Tracker[Any](path, max_tries=2) as other:
        one.update(TASKS)
        one.counts()
        other.refresh()
        yield Two(one, other)


@contextmanager
def prepared(scene: Scene, directory: Path) -> Iterator[Tracker[Any]]:
    """The tracker that the scene plays on."""
    with two_trackers(directory) as two, ExitStack() as stack:
        scene.prepare(two)
        if scene.held:
            stack.enter_context(two.one.hold())
        if scene.transaction:
            stack.enter_context(two.one.transaction())
        yield two.one


def assert_usable(tracker: Tracker[Any], point: Point) -> None:
    """It goes on working, its figures are right, and memory and disk agree."""
    tracker.add("last")
    while tracker.dirty():
        tracker.unhold()
    tracker.refresh()
    assert_right(tracker)
    assert stored(tracker.path) == tracker, point


@every_scene
def test_a_handler_gets_the_figures_before_or_after_and_makes_none_wrong(quick_directory: Path, scene: Scene) -> None:
    for point in each_point():
        seen: list[Counts] = []
        with prepared(scene, quick_directory) as tracker:
            before = recount(tracker, 2)
            with point.calls(lambda: seen.append(tracker.counts())):  # noqa: B023 - called in the same round
                scene.act(tracker)
            assert_right(tracker)
            if scene.name in ("commit", "rollback", "claim"):  # which have states in between
                assert all(counts.total == sum(counts[1:]) for counts in seen), point
            else:
                known = recount(TASKS, 2)  # others' news are counted when somebody asks, or while they come in
                assert {*seen} <= {before, known, tracker.counts()}, point


@every_scene
def test_a_handler_that_adds_a_task_does_no_harm(quick_directory: Path, scene: Scene) -> None:
    for point in each_point():
        added: list[bool] = []

        def add() -> None:
            with suppress(TransactionError):
                added.append(tracker.add_if_absent("handler"))  # noqa: B023 - called in the same round

        with prepared(scene, quick_directory) as tracker:
            with point.calls(add):
                scene.act(tracker)
            assert_right(tracker)
            if added and scene.name not in ("clear in a transaction", "rollback", "revert"):
                assert "handler" in tracker, point
        with Tracker[Any](tracker.path, max_tries=2) as again:
            assert_usable(again, point)
            assert recount(again, 2) == again.counts()


INTERRUPTED: dict[str, Callable[[Tracker[Any]], object]] = {
    "refresh": lambda tracker: tracker.refresh(),
    "counting": lambda tracker: tracker.counts(),
    "claim": try_one,
}


@pytest.mark.parametrize("what", INTERRUPTED)
def test_a_handler_that_claims_gets_no_task_that_somebody_has(quick_directory: Path, what: str) -> None:
    for point in each_point():
        with two_trackers(quick_directory) as (tracker, other):
            task = other.claim()
            assert task is not None
            mine: list[Any] = []

            def claim() -> None:
                with suppress(TransactionError):
                    mine.append(tracker.claim())  # noqa: B023 - called in the same round

            if what != "refresh":
                tracker.refresh()
            with point.calls(claim):
                INTERRUPTED[what](tracker)
            assert [one.key for one in mine if one is not None] in ([], ["failed"]), point
            task.done()
            assert_right(tracker)
            other.refresh()
            assert_right(other)


def test_what_a_handler_updates_inside_a_commit_is_what_it_says_then(quick_directory: Path) -> None:
    """It is done once the commit has ended, and what cannot be stored is refused at once."""
    for point in each_point():
        with two_trackers(quick_directory) as (tracker, _):
            refused: list[bool] = []

            def update() -> None:
                fields = {"mine": 1}
                tracker.update({"open": fields})
                fields["mine"] = 2
                with pytest.raises(TypeError):
                    tracker.update({"open": {"mine": object()}})
                refused.append(True)  # noqa: B023 - as above

            with point.calls(update):
                tracker["assigned"] = {}
            assert refused or not point.where
            if point.where:
                assert tracker["open"]["mine"] == 1, point
            assert_right(tracker)


@pytest.mark.parametrize("name", ["held update", "counting", "counting anew"])
def test_a_child_that_is_forked_at_any_point_counts_what_it_has(quick_directory: Path, name: str) -> None:
    scene = next(scene for scene in SCENES if scene.name == name)
    for point in each_point():
        with prepared(scene, quick_directory) as tracker:

            def look() -> None:  # pragma: no cover - in a child
                assert_right(tracker)
                tracker.unhold()
                tracker.add("child")
                assert_right(tracker)

            with point.calls(lambda: in_child(look)):
                scene.act(tracker)
            assert_right(tracker)
            tracker.refresh()
            assert ("child" in tracker) is bool(point.where), point
            assert_right(tracker)


def interrupt() -> None:
    """What a Ctrl-C does."""
    raise KeyboardInterrupt


@every_scene
def test_after_a_ctrl_c_the_figures_are_those_of_the_entries(quick_directory: Path, scene: Scene) -> None:
    for point in each_point():
        with two_trackers(quick_directory) as two:
            scene.prepare(two)
            with suppress(KeyboardInterrupt), ExitStack() as stack:
                if scene.held:
                    stack.enter_context(two.one.hold())
                if scene.transaction:
                    stack.enter_context(two.one.transaction())
                with point.calls(interrupt):
                    scene.act(two.one)
            gc.collect(0)
            assert_right(two.one)
            assert_usable(two.one, point)
            two.other.refresh()
            assert_right(two.other)


@pytest.mark.parametrize("folds", [False, True])
def test_a_ctrl_c_while_others_changes_come_in_beneath_what_is_held_loses_neither(
    quick_directory: Path, folds: bool
) -> None:
    for point in each_point():
        with two_trackers(quick_directory) as (tracker, other):
            tracker.hold()
            tracker.update({"open": {"mine": 1}})
            task = other.claim()
            assert task is not None
            other.update({"open": {"theirs": 1}})
            for _ in range(2 * folds):
                other.sync()
            with suppress(KeyboardInterrupt), point.calls(interrupt):
                tracker.refresh()
            tracker.refresh()
            assert_right(tracker)
            tracker.unhold()
            entry = stored(tracker.path)["open"]
            assert (entry["mine"], entry["theirs"], entry["_claim"]) == (1, 1, task.claim), point
            task.done()


def test_a_ctrl_c_in_a_claim_is_no_try(quick_directory: Path) -> None:
    """Whatever was written by then, nobody had begun with the task."""
    for point in each_point():
        with two_trackers(quick_directory) as (tracker, other):
            with suppress(KeyboardInterrupt), point.calls(interrupt):
                tracker.claim()
            tracker.close()
            again = other.claim()
            assert again is not None, point
            assert again.tries == 0, point
            other.refresh()
            assert {task: other.tries(task) for task in other} == dict.fromkeys(TASKS, 0) | {"failed": 1}, point
