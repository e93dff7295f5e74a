"""Several trackers on one directory against plain dicts, through any row of operations that Hypothesis finds.

The model: `disk` is what was committed; a tracker's view is the disk as it last saw it, with what it holds merged into it. What
a call means is said by `PlainTracker`. After each step all trackers have the model's contents, and figures that a recount gives.
`disturbed` adds what is less usual.
"""

# ruff: noqa: TRY301 - a transaction's block raises to be rolled back

from __future__ import annotations

from contextlib import suppress
from typing import Any

import hypothesis.strategies as st
from hypothesis import event
from hypothesis.stateful import initialize, invariant, precondition

from stress.judging import read
from stress.model.machine import AbortError, Machine, counted, leave_out
from stress.model.plain_tracker import (
    CALLS,
    FIELDS,
    FRESH,
    GONE,
    KEYS,
    Call,
    PlainTracker,
    Tasks,
    View,
    claim_of,
    failed,
    finished,
    outcome,
    released,
    timeless,
)
from stress.recount import Entry, assert_right, claimable
from tastypy import ClaimLost, Tracker

WHICH = st.integers(0, 2)


class Trackers(Machine):
    """The operations, and after each that all trackers are as the model says."""

    views: list[View]

    def __init__(self) -> None:
        super().__init__()
        self.disk: Tasks = {}
        self.trackers: list[Tracker[Any]] = []
        self.steps = self.every = 0

    @initialize(
        limits=st.lists(st.integers(0, 3), min_size=2, max_size=3),
        shard_bytes=st.sampled_from([1, 300, None]),
        every=st.sampled_from([1, 1, 3, 10]),
    )
    def start(self, limits: list[int], shard_bytes: int | None, every: int) -> None:
        """Create the tracker, and open it a few times."""
        self.every = every  # steps between looks at the figures, which are brought up to date by that
        self.trackers = [Tracker(self.path, max_tries=limit, shard_bytes=shard_bytes) for limit in limits]
        self.views = [View({}, limit) for limit in limits]
        self.open_more()

    def open_more(self) -> None:
        """Open what more there is to be open."""

    def end(self) -> None:
        """Look at the figures, and close; a new tracker must find nothing wrong, and no claim."""
        for tracker in self.trackers:
            assert_right(tracker)
        for tracker in self.trackers:
            tracker.close()
        if self.trackers:
            with Tracker[Any](self.path) as last:
                assert last.check() == []
                assert_right(last)
                assert list(last.claimed_keys()) == []

    # ------------------------------------------------------------------------------------------------------- machinery

    def may_have_caught_up(self, which: int) -> None:
        """An operation that changes nothing may look at the disk, or not."""
        view = self.views[which]
        if {key: timeless(entry) for key, entry in self.trackers[which].items()} == view.on(self.disk):
            view.see(self.disk)

    def would_clash(self, which: int | None, after: Tasks, touched: set[Any]) -> bool:
        """Whether deletions and what is held of a task would meet so that it is left open what comes of it.

        An entry that is held with a claim brings that back when others delete it; whoever notices releases it. And of a task
        that is deleted under hold, changed by others, and set under hold, more or less of what they changed may stay.
        """
        if any(
            key not in after and claim_of(view.held.get(key))
            for number, view in enumerate(self.views)
            for key in touched
            if number != which
        ):
            return True
        if which is None or not self.views[which].holds:
            return False
        view = self.views[which]
        return any(
            (key not in self.disk and claim_of(view.now().get(key)))
            or (view.held.get(key) is GONE and key in after and self.disk.get(key, {}) != view.base[key])
            for key in touched
        )

    def commit(self, which: int | None, after: Tasks, touched: set[Any]) -> None:
        """The touched keys are on the disk as they are in `after`, and not held any more by this tracker, which sees all."""
        self.disk = {**self.disk, **{key: after.get(key, GONE) for key in touched}}
        self.disk = {key: entry for key, entry in self.disk.items() if entry is not GONE}
        if which is not None:
            view = self.views[which]
            for key in touched:
                view.drop(key)
            view.see(self.disk)

    def change(self, which: int, name: str, arguments: tuple[Any, ...]) -> None:
        """One call, held or committed, with the same outcome as on the model."""
        tracker, view = self.trackers[which], self.views[which]
        model = PlainTracker(view.now() if view.holds else self.disk, view.max_tries)
        expected = outcome(getattr(model, name), arguments)
        leave_out(self.would_clash(which, model.tasks, model.touched))
        assert outcome(getattr(tracker, name), arguments) == expected
        if view.holds:
            for key in model.touched:
                view.hold(key, model.tasks.get(key, GONE))
        else:
            self.commit(which, model.tasks, model.touched)

    # ----------------------------------------------------------------------------------------------------------- rules

    @counted(which=WHICH, call=CALLS)
    def calls(self, which: int, call: Call) -> None:
        """Change something."""
        self.change(which, *call)

    @counted(which=WHICH, rarely=st.integers(0, 3))
    def clears(self, which: int, rarely: int) -> None:
        """Delete everything, now and then."""
        leave_out(rarely)
        self.change(which, "clear", ())

    @counted(which=WHICH, key=KEYS, fields=FIELDS)
    def mutates_in_place(self, which: int, key: Any, fields: Entry) -> None:
        """Change an entry in place, and tell of it."""
        tracker, view = self.trackers[which], self.views[which]
        entry = view.now().get(key, GONE)
        leave_out(entry is GONE or claim_of(entry) != claim_of(self.disk.get(key)))
        # what was there before is not known else: how much of it counts as changed is left open
        leave_out(view.holds and key not in view.held)
        after = {**entry, **fields}
        leave_out(self.would_clash(which, {key: after}, {key}))
        tracker[key].update(fields)
        if type(key) is str:
            tracker.update(key)
        else:
            tracker.sync_key(key)
        if view.holds:
            view.hold(key, after)
        else:
            self.commit(which, {key: after}, {key})

    @counted(
        which=WHICH, changes=st.lists(CALLS, max_size=3), savepoint=st.lists(CALLS, max_size=2), fails=st.booleans()
    )
    def transacts(self, which: int, changes: list[Call], savepoint: list[Call], *, fails: bool) -> None:
        """A transaction with a savepoint in it that fails, and that may fail itself."""
        tracker, view = self.trackers[which], self.views[which]
        model = PlainTracker(view.on(self.disk), view.max_tries)
        expected = [outcome(getattr(model, name), arguments) for name, arguments in changes]
        leave_out(self.would_clash(which, model.tasks, model.touched))
        try:
            with tracker.transaction():
                assert [outcome(getattr(tracker, name), arguments) for name, arguments in changes] == expected
                with suppress(AbortError), tracker.transaction():
                    for name, arguments in savepoint:
                        outcome(getattr(tracker, name), arguments)
                    self.looks(tracker)
                    raise AbortError
                assert {key: timeless(entry) for key, entry in tracker.items()} == model.tasks
                self.looks(tracker)
                if fails:
                    raise AbortError
        except AbortError:
            event("transaction failed")
            view.see(self.disk)
        else:
            event("transaction committed")
            self.commit(which, model.tasks, model.touched)

    def looks(self, tracker: Tracker[Any]) -> None:
        """Look at the figures inside a transaction."""
        if self.every == 1:
            assert_right(tracker)

    @counted(which=WHICH, key=KEYS, fields=FIELDS, fails=st.booleans())
    def edits(self, which: int, key: Any, fields: Entry, *, fails: bool) -> None:
        """Edit an entry, or fail to."""
        view = self.views[which]
        after = {key: {**FRESH, **view.on(self.disk).get(key, {}), **fields}}
        leave_out(self.would_clash(which, after, {key}))
        with suppress(AbortError), self.trackers[which].edit(key, default={}) as entry:
            entry.update(fields)
            if fails:
                raise AbortError
        view.see(self.disk)
        if not fails:
            self.commit(which, after, {key})

    @counted(which=WHICH)
    def holds(self, which: int) -> None:
        """Hold, once more if need be."""
        self.trackers[which].hold()
        self.views[which].holds += 1

    @precondition(lambda self: any(view.holds for view in self.views))
    @counted(which=WHICH)
    def unholds(self, which: int) -> None:
        """End a hold."""
        view = self.views[which]
        self.trackers[which].unhold()
        if view.holds == 1:
            self.commit(which, view.on(self.disk), set(view.held)) if view.held else None
        view.holds = max(0, view.holds - 1)
        self.may_have_caught_up(which)

    @counted(which=WHICH)
    def syncs(self, which: int) -> None:
        """Write what is held, and fold."""
        view = self.views[which]
        self.trackers[which].sync()
        self.commit(which, view.on(self.disk), set(view.held))

    @counted(which=WHICH)
    def reverts(self, which: int) -> None:
        """Drop what is held."""
        self.trackers[which].revert()
        assert self.trackers[which].dirty() == set()
        for key in [*self.views[which].held]:
            self.views[which].drop(key)
        self.may_have_caught_up(which)

    @counted(which=WHICH)
    def refreshes(self, which: int) -> None:
        """Bring in what others did."""
        self.trackers[which].refresh()
        self.views[which].see(self.disk)

    @counted(which=WHICH)
    def reopens(self, which: int) -> None:
        """Close, whatever is held and claimed, and open again."""
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

    @counted(which=WHICH)
    def claims(self, which: int) -> None:
        """Claim a task."""
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
        assert timeless({**task}) == tasks[task.key]
        self.commit(which, {task.key: {**tasks[task.key], "_claim": task.claim}}, {task.key})
        view.tasks.append(task)

    @counted(which=WHICH, batch=st.integers(1, 4), fails=st.booleans())
    def works_in_a_loop(self, which: int, batch: int, *, fails: bool) -> None:
        """One task of a batch; the loop is left then, and the others are given back."""
        view = self.views[which]
        leave_out(view.held)  # of whose tasks those that are claimed ahead would be committed
        possible = claimable(self.disk, view.max_tries)
        for task in self.trackers[which].claims(batch):
            assert task.key in possible
            entry = self.disk[task.key]
            after = failed(entry, "AbortError: text") if fails else finished(entry, {"mine": "done"})
            try:
                with task:
                    task["mine"] = "done"
                    if fails:
                        raise AbortError("text")
            except AbortError:
                assert fails
            stated = timeless(self.trackers[which][task.key])
            if fails:
                after["_error"] = stated["_error"]
                assert stated["_error"].endswith("AbortError: text")
            self.commit(which, {task.key: after}, {task.key})
            break
        else:
            assert possible == set()
        view.see(self.disk)

    @precondition(lambda self: any(view.tasks for view in self.views))
    @counted(
        which=WHICH,
        number=st.integers(0, 9),
        end=st.sampled_from(["done", "fail", "release"]),
        text=st.text(max_size=3),
    )
    def ends(self, which: int, number: int, end: str, text: str) -> None:
        """End a claim."""
        view = self.views[which]
        leave_out(not view.tasks)
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
        """A reader that comes anew finds nothing else."""
        if self.trackers:
            assert {key: timeless(entry) for key, entry in read(self.path).items()} == self.disk

    @invariant()
    def each_tracker_is_what_it_has_seen_and_holds(self) -> None:
        """Every tracker has that."""
        for tracker, view in zip(self.trackers, self.views, strict=True):
            assert {key: timeless(entry) for key, entry in tracker.items()} == view.now()
            assert tracker.dirty() <= view.held.keys()

    @invariant()
    def figures_are_those_of_a_recount(self) -> None:
        """Every figure is, and the loops go over the right tasks."""
        self.steps += 1
        if self.trackers and self.steps % self.every == 0:
            for tracker in self.trackers:
                assert_right(tracker)
                todo = [key for key, entry in tracker.items() if tracker.should_do(key)]
                assert list(tracker.todo_keys()) == todo
