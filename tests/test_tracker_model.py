"""Two trackers on one directory against plain dicts, through any row of operations that Hypothesis finds.

The model: `disk` is what was committed; a tracker's view is the disk as it last saw it, with what it holds merged into it. What
a call means is said by `PlainTracker`. After each step both trackers have the model's contents, and figures that a recount gives.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from helpers import stored
from hypothesis import event, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from plain_tracker import (
    CALLS,
    FIELDS,
    FRESH,
    GONE,
    KEYS,
    Call,
    PlainTracker,
    View,
    claim_of,
    failed,
    finished,
    outcome,
    released,
    timeless,
)
from recount import Entry, assert_right, claimable

from tastypy import ClaimLost, Tracker

WHICH = st.integers(0, 1)
Tasks = dict[Any, Entry]


class Abort(Exception):  # noqa: N818 - a signal of this test, not an error
    """Ends a transaction without a commit."""


class TwoTrackers(RuleBasedStateMachine):
    """The operations, and after each that both trackers are as the model says."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None, prefix="tastypy-")
        self.path = Path(self.directory) / "my.tracker"
        self.disk: Tasks = {}
        self.trackers: list[Tracker[Any]] = []
        self.views: list[View] = []
        self.steps = self.every = 0

    @initialize(
        limits=st.tuples(st.integers(0, 3), st.integers(0, 3)),
        shard_bytes=st.sampled_from([1, 300, None]),
        every=st.sampled_from([1, 1, 3, 10]),
    )
    def start(self, limits: tuple[int, int], shard_bytes: int | None, every: int) -> None:
        self.every = every  # steps between looks at the figures, which are brought up to date by that
        self.trackers = [Tracker(self.path, max_tries=limit, shard_bytes=shard_bytes) for limit in limits]
        self.views = [View({}, limit) for limit in limits]

    def teardown(self) -> None:
        try:
            for tracker in self.trackers:
                assert_right(tracker)
            for tracker in self.trackers:
                tracker.close()
            if self.trackers:
                with Tracker[Any](self.path) as last:
                    assert last.check() == []
                    assert_right(last)
                    assert list(last.claimed_keys()) == []
        finally:
            shutil.rmtree(self.directory)

    # ------------------------------------------------------------------------------------------------------- machinery

    def may_have_caught_up(self, which: int) -> None:
        """An operation that changes nothing may look at the disk, or not."""
        view = self.views[which]
        if {key: timeless(entry) for key, entry in self.trackers[which].items()} == view.on(self.disk):
            view.see(self.disk)

    def would_clash(self, which: int, after: Tasks, touched: set[Any]) -> bool:
        """Whether deletions and what is held of a task would meet so that it is left open what comes of it.

        An entry that is held with a claim brings that back when others delete it; whoever notices releases it. And of a task
        that is deleted under hold, changed by others, and set under hold, more or less of what they changed may stay.
        """
        view, other = self.views[which], self.views[1 - which]
        return any(
            (key not in after and claim_of(other.held.get(key)))
            or (view.holds and key not in self.disk and claim_of(view.now().get(key)))
            or (view.holds and view.held.get(key) is GONE and key in after and self.disk.get(key, {}) != view.base[key])
            for key in touched
        )

    def commit(self, which: int, after: Tasks, touched: set[Any]) -> None:
        """The touched keys are on the disk as they are in `after`, and not held any more; all is seen."""
        view = self.views[which]
        self.disk = {**self.disk, **{key: after.get(key, GONE) for key in touched}}
        self.disk = {key: entry for key, entry in self.disk.items() if entry is not GONE}
        for key in touched:
            view.drop(key)
        view.see(self.disk)

    def change(self, which: int, name: str, arguments: tuple[Any, ...]) -> None:
        """One call, held or committed, with the same outcome as on the model."""
        tracker, view = self.trackers[which], self.views[which]
        model = PlainTracker(view.now() if view.holds else self.disk, view.max_tries)
        expected = outcome(getattr(model, name), arguments)
        if self.would_clash(which, model.tasks, model.touched):
            event("left out, since claims would clash")
            return
        assert outcome(getattr(tracker, name), arguments) == expected
        if view.holds:
            for key in model.touched:
                view.hold(key, model.tasks.get(key, GONE))
        else:
            self.commit(which, model.tasks, model.touched)

    # ----------------------------------------------------------------------------------------------------------- rules

    @rule(which=WHICH, call=CALLS)
    def calls(self, which: int, call: Call) -> None:
        self.change(which, *call)

    @rule(which=WHICH, rarely=st.integers(0, 3))
    def clears(self, which: int, rarely: int) -> None:
        if rarely == 0:
            self.change(which, "clear", ())

    @rule(which=WHICH, key=KEYS, fields=FIELDS)
    def mutates_in_place(self, which: int, key: Any, fields: Entry) -> None:
        tracker, view = self.trackers[which], self.views[which]
        entry = view.now().get(key)
        if entry is None or claim_of(entry) != claim_of(self.disk.get(key)):
            return
        if view.holds and key not in view.held:
            return  # what was there before is not known then: how much of it counts as changed is left open
        after = {**entry, **fields}
        if self.would_clash(which, {key: after}, {key}):
            return
        tracker[key].update(fields)
        if type(key) is str:
            tracker.update(key)
        else:
            tracker.sync_key(key)
        if view.holds:
            view.hold(key, after)
        else:
            self.commit(which, {key: after}, {key})

    @rule(which=WHICH, changes=st.lists(CALLS, max_size=3), savepoint=st.lists(CALLS, max_size=2), fails=st.booleans())
    def transacts(self, which: int, changes: list[Call], savepoint: list[Call], *, fails: bool) -> None:
        """A transaction with a savepoint in it that fails, and that may fail itself."""
        tracker, view = self.trackers[which], self.views[which]
        model = PlainTracker(view.on(self.disk), view.max_tries)
        expected = [outcome(getattr(model, name), arguments) for name, arguments in changes]
        if self.would_clash(which, model.tasks, model.touched):
            return
        try:
            with tracker.transaction():
                assert [outcome(getattr(tracker, name), arguments) for name, arguments in changes] == expected
                with suppress(Abort), tracker.transaction():
                    for name, arguments in savepoint:
                        outcome(getattr(tracker, name), arguments)
                    self.looks(tracker)
                    raise Abort
                assert {key: timeless(entry) for key, entry in tracker.items()} == model.tasks
                self.looks(tracker)
                if fails:
                    raise Abort
        except Abort:
            event("transaction failed")
            view.see(self.disk)
        else:
            event("transaction committed")
            self.commit(which, model.tasks, model.touched)

    def looks(self, tracker: Tracker[Any]) -> None:
        if self.every == 1:
            assert_right(tracker)

    @rule(which=WHICH, key=KEYS, fields=FIELDS, fails=st.booleans())
    def edits(self, which: int, key: Any, fields: Entry, *, fails: bool) -> None:
        view = self.views[which]
        after = {key: {**FRESH, **view.on(self.disk).get(key, {}), **fields}}
        if self.would_clash(which, after, {key}):
            return
        with suppress(Abort), self.trackers[which].edit(key, default={}) as entry:
            entry.update(fields)
            if fails:
                raise Abort
        view.see(self.disk)
        if not fails:
            self.commit(which, after, {key})

    @rule(which=WHICH)
    def holds(self, which: int) -> None:
        self.trackers[which].hold()
        self.views[which].holds += 1

    @precondition(lambda self: any(view.holds for view in self.views))
    @rule(which=WHICH)
    def unholds(self, which: int) -> None:
        view = self.views[which]
        self.trackers[which].unhold()
        if view.holds == 1:
            self.commit(which, view.on(self.disk), set(view.held)) if view.held else None
        view.holds = max(0, view.holds - 1)
        self.may_have_caught_up(which)

    @rule(which=WHICH)
    def syncs(self, which: int) -> None:
        view = self.views[which]
        self.trackers[which].sync()
        self.commit(which, view.on(self.disk), set(view.held))

    @rule(which=WHICH)
    def reverts(self, which: int) -> None:
        self.trackers[which].revert()
        assert self.trackers[which].dirty() == set()
        for key in [*self.views[which].held]:
            self.views[which].drop(key)
        self.may_have_caught_up(which)

    @rule(which=WHICH)
    def refreshes(self, which: int) -> None:
        self.trackers[which].refresh()
        self.views[which].see(self.disk)

    @rule(which=WHICH)
    def reopens(self, which: int) -> None:
        view = self.views[which]
        after = view.on(self.disk)
        tokens = {task.claim["token"] for task in view.tasks}
        mine = {key for key, entry in after.items() if "_claim" in entry and entry["_claim"]["token"] in tokens}
        after |= {key: released(after[key]) for key in mine}
        self.trackers[which].close()
        self.commit(which, after, {*view.held, *mine})
        self.trackers[which] = Tracker(self.path, max_tries=view.max_tries)
        self.views[which] = View(self.disk, view.max_tries)

    # ---------------------------------------------------------------------------------------------------------- claims

    @rule(which=WHICH)
    def claims(self, which: int) -> None:
        view = self.views[which]
        tasks = view.on(self.disk)
        possible = claimable(tasks, view.max_tries)
        task = self.trackers[which].claim()
        view.see(self.disk)
        if task is None:
            assert possible == set()
            return
        event("claimed")
        assert task.key in possible
        assert {**task} | {"_at": 0} == {**tasks[task.key], "_at": 0}
        self.commit(which, {task.key: {**tasks[task.key], "_claim": task.claim}}, {task.key})
        view.tasks.append(task)

    @rule(which=WHICH, batch=st.integers(1, 4), fails=st.booleans())
    def works_in_a_loop(self, which: int, batch: int, *, fails: bool) -> None:
        """One task of a batch; the loop is left then, and the others are given back."""
        view = self.views[which]
        if view.held:
            return  # of whose tasks those that are claimed ahead would be committed
        possible = claimable(self.disk, view.max_tries)
        for task in self.trackers[which].claims(batch):
            assert task.key in possible
            entry = self.disk[task.key]
            after = failed(entry, "Abort: text") if fails else finished(entry, {"mine": "done"})
            try:
                with task:
                    task["mine"] = "done"
                    if fails:
                        raise Abort("text")
            except Abort:
                assert fails
            stated = timeless(self.trackers[which][task.key])
            if fails:
                after["_error"] = stated["_error"]
                assert stated["_error"].endswith("Abort: text")
            self.commit(which, {task.key: after}, {task.key})
            break
        else:
            assert possible == set()
        view.see(self.disk)

    @precondition(lambda self: any(view.tasks for view in self.views))
    @rule(
        which=WHICH,
        number=st.integers(0, 9),
        end=st.sampled_from(["done", "fail", "release"]),
        text=st.text(max_size=3),
    )
    def ends(self, which: int, number: int, end: str, text: str) -> None:
        view = self.views[which]
        if not view.tasks:
            return
        task = view.tasks[number % len(view.tasks)]
        entry = view.on(self.disk).get(task.key)
        try:
            if end == "done":
                task.done(mine=text)
            elif end == "fail":
                task.fail(text)
            else:
                task.release()
        except ClaimLost:
            event("claim lost")
            assert claim_of(entry) != task.claim
            view.see(self.disk)
        else:
            assert entry is not None
            assert claim_of(entry) == task.claim
            after = {"done": finished(entry, {"mine": text}), "fail": failed(entry, text), "release": released(entry)}
            self.commit(which, {task.key: after[end]}, {task.key})
        view.tasks.remove(task)

    # ------------------------------------------------------------------------------------------------------ invariants

    @invariant()
    def the_disk_is_what_was_committed(self) -> None:
        if self.trackers:
            assert {key: timeless(entry) for key, entry in stored(self.path).items()} == self.disk

    @invariant()
    def each_tracker_is_what_it_has_seen_and_holds(self) -> None:
        for tracker, view in zip(self.trackers, self.views, strict=True):
            assert {key: timeless(entry) for key, entry in tracker.items()} == view.now()
            assert tracker.dirty() <= view.held.keys()

    @invariant()
    def figures_are_those_of_a_recount(self) -> None:
        self.steps += 1
        if self.trackers and self.steps % self.every == 0:
            for tracker in self.trackers:
                assert_right(tracker)
                todo = [key for key, entry in tracker.items() if tracker.should_do(key)]
                assert list(tracker.todo_keys()) == todo


TestTwoTrackers = TwoTrackers.TestCase
TestTwoTrackers.settings = settings(max_examples=max(100, settings.default.max_examples if settings.default else 0))
