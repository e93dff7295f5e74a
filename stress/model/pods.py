"""Several PODs on one directory against a plain dict, through any row of operations that Hypothesis finds.

The model: `disk` is what was committed; a POD's view is the disk as it last saw it, with what it holds done again on top.
Some of the PODs are in another process; one more only reads. `disturbed` adds what is less usual.
"""

from __future__ import annotations

from functools import partial
from operator import methodcaller
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import initialize, invariant, precondition

from stress.judging import read
from stress.model.elsewhere import Distant, open_pod
from stress.model.machine import Machine, counted, leave_out
from stress.model.plain_pod import (
    CHANGES,
    ITEMS,
    KEYS,
    VALUES,
    Action,
    Change,
    Dict,
    View,
    assign,
    delete,
    edit,
    exactly,
    look,
    move,
    setdefault,
    transact,
    update,
)
from stress.steps import perhaps_in_steps
from tastypy import POD

WHICH = st.integers(0, 3)


class Pods(Machine):
    """The operations, and after each that every POD is as the model says."""

    views: list[View]

    def __init__(self) -> None:
        super().__init__()
        self.disk: Dict = {}
        self.pods: list[POD[Any, Any] | Distant] = []
        self.reader: POD[Any, Any] | None = None
        self.read: Dict = {}
        self.local = True

    @initialize(
        distant=st.lists(st.sampled_from([False] * 5 + [True]), min_size=2, max_size=4),
        gzipped=st.booleans(),
        shard_bytes=st.sampled_from([1, 100, 300, None]),
        durable=st.booleans(),
        local=st.booleans(),
        steps=st.booleans(),
    )
    def start(
        self, *, distant: list[bool], gzipped: bool, shard_bytes: int | None, durable: bool, local: bool, steps: bool
    ) -> None:
        """Create the POD, as on a local file system or as on another one, and open it a few times."""
        self.around.enter_context(perhaps_in_steps(steps))
        self.local = local
        options: dict[str, Any] = {"gzipped": gzipped, "shard_bytes": shard_bytes, "durable": durable}
        for far in distant:
            self.pods.append((Distant if far else open_pod)(self.path, options, local=local))
            self.views.append(View({}))
            options = {}
        self.reader = open_pod(self.path, {"mode": "r"}, local=local)

    def end(self) -> None:
        """Close every POD; a new one must find nothing wrong."""
        if self.reader is not None:
            self.reader.close()
        for which in range(len(self.pods)):
            self.ask(which, "close")
        if self.pods:
            with POD[Any, Any](self.path) as last:
                assert last.check() == []

    # ------------------------------------------------------------------------------------------------------- machinery

    def do(self, which: int, action: Action) -> Any:
        """Return what an action on a POD returns, wherever that POD is."""
        pod = self.pods[which]
        return pod.do(action) if isinstance(pod, Distant) else action(pod)

    def ask(self, which: int, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method."""
        return self.do(which, methodcaller(name, *arguments, **options))

    def committed(self, which: int) -> None:
        """The POD has just seen the disk as it is now."""
        self.views[which].seen = dict(self.disk)

    def may_have_caught_up(self, which: int) -> None:
        """An operation that changes nothing may look at the disk, or not."""
        view = self.views[which]
        found = self.do(which, exactly)
        if found == view.shown(view.applied_to(self.disk), found):
            self.committed(which)

    def is_touched(self, *keys: Any) -> bool:
        """Whether any POD holds a change to one of the keys."""
        return any(view.dirty.intersection(keys) for view in self.views)

    def written(self, which: int) -> None:
        """What this POD held is on the disk, or dropped."""
        view = self.views[which]
        view.held, view.dirty, view.moved = [], set(), set()

    def others(self, which: int) -> list[View]:
        """The views of the other PODs."""
        return [view for number, view in enumerate(self.views) if number != which]

    def others_hold(self, which: int, keys: set[Any]) -> bool:
        """Whether another POD holds changes to any of these keys; what order they then end up in is left open."""
        return any(view.dirty & keys for view in self.others(which))

    def change(self, which: int, change: Change, real: Action | None = None) -> None:
        """One mutator, held or committed, with the same result as on the model; `real` is how the POD is told, if not so."""
        view, (action, keys) = self.views[which], change
        # whose value a key has that was moved under hold is left open
        leave_out(any(other.moved & keys for other in self.others(which)) or view.quiet.keys() & keys)
        result = self.do(which, real or action)
        if view.holds:
            model = view.now()
            before = dict(model)
            expected = action(model)
            assert result == expected or real
            named = {key for key in keys if key in before or key in model}
            if named:
                view.held.append(action)
                view.dirty |= named
        else:
            expected = action(self.disk)
            self.committed(which)
            assert result == expected or real

    # ------------------------------------------------------------------------------------------------- one commit each

    @counted(which=WHICH, key=KEYS, value=VALUES)
    def assigns(self, which: int, key: Any, value: Any) -> None:
        """Set a key."""
        self.views[which].quiet.pop(key, None)
        self.change(which, assign(key, value))

    @counted(which=WHICH, items=ITEMS)
    def updates(self, which: int, items: Dict) -> None:
        """Set some keys, or none."""
        if items:
            self.change(which, update(items))
        else:
            self.ask(which, "update", items)
            self.may_have_caught_up(which)

    @counted(which=WHICH, key=KEYS, value=VALUES)
    def sets_default(self, which: int, key: Any, value: Any) -> None:
        """Set a key if it is not there."""
        view = self.views[which]
        leave_out(key in view.quiet)
        if view.holds and key in view.now():
            assert repr(self.ask(which, "setdefault", key, value)) == repr(view.now()[key])
        else:
            real = setdefault(key, value)
            self.change(which, assign(key, value) if view.holds else real, real.action)

    @counted(which=WHICH, key=KEYS)
    def pops(self, which: int, key: Any) -> None:
        """Delete a key if it is there."""
        leave_out(self.others_hold(which, {key}))
        self.change(which, delete(key))

    @counted(which=WHICH, key=KEYS)
    def deletes(self, which: int, key: Any) -> None:
        """Delete a key, or fail to, if it is not there."""
        view = self.views[which]
        if key not in (view.now() if view.holds else self.disk):
            try:
                self.ask(which, "__delitem__", key)
            except KeyError:
                self.may_have_caught_up(which)
            else:
                raise AssertionError(f"{key!r} was deleted though it was not there")
        else:
            leave_out(self.others_hold(which, {key}))
            self.change(which, delete(key), methodcaller("__delitem__", key))

    @counted(which=WHICH, last=st.booleans())
    def pops_item(self, which: int, *, last: bool) -> None:
        """Take the first or the last item."""
        view = self.views[which]
        there = view.now() if view.holds else self.disk
        if not there:
            try:
                self.ask(which, "popitem", last=last)
            except KeyError:
                self.may_have_caught_up(which)
            else:
                raise AssertionError("something was taken from nothing")
            return
        key = list(there)[-1 if last else 0]
        leave_out(self.others_hold(which, {key}) or key in view.quiet)
        expected = (key, there[key])
        assert repr(self.ask(which, "popitem", last=last)) == repr(expected)
        if view.holds:
            view.held.append(delete(key).action)
            view.dirty.add(key)
        else:
            del self.disk[key]
            self.committed(which)

    @counted(which=WHICH, number=st.integers(0, 9), last=st.booleans())
    def moves(self, which: int, number: int, *, last: bool) -> None:
        """Move a key to the end or to the front."""
        view = self.views[which]
        there = [*view.now()] if view.holds else [*self.disk]
        leave_out(not there)
        key = there[number % len(there)]
        leave_out((view.holds and key not in self.disk) or self.others_hold(which, {key}))
        self.change(which, move(key, last=last))
        if view.holds:
            view.moved.add(key)

    @counted(which=WHICH)
    def clears(self, which: int) -> None:
        """Delete everything."""
        view = self.views[which]
        if view.holds:
            known = list(view.now())
            leave_out(self.others_hold(which, set(known)))
            self.ask(which, "clear")
            view.held.extend(delete(key).action for key in known)
            view.dirty.update(known)
        else:
            leave_out(any(other.dirty for other in self.others(which)))
            self.change(which, Change(methodcaller("clear"), set()))

    @counted(which=WHICH, key=KEYS, by=st.integers(-2, 2))
    def counts_up(self, which: int, key: Any, by: int) -> None:
        """Add to a number."""
        there = self.views[which].applied_to(self.disk)
        leave_out(self.is_touched(key) or type(there.get(key, 0)) not in (int, float))
        assert self.ask(which, "incr", key, by) == there.get(key, 0) + by
        self.disk[key] = there.get(key, 0) + by
        self.committed(which)

    @counted(which=WHICH, key=KEYS)
    def edits(self, which: int, key: Any) -> None:
        """Edit a list."""
        view = self.views[which]
        there = view.applied_to(self.disk)
        leave_out(self.is_touched(key) or type(there.get(key, [])) is not list or key in view.quiet)
        self.do(which, partial(edit, key=key))
        self.disk[key] = [*there.get(key, []), "edited"]
        self.committed(which)

    # ---------------------------------------------------------------------------------------------------- transactions

    @counted(
        which=WHICH, changes=st.lists(CHANGES, max_size=4), savepoint=st.lists(CHANGES, max_size=2), fails=st.booleans()
    )
    def transacts(self, which: int, changes: list[Change], savepoint: list[Change], *, fails: bool) -> None:
        """A transaction with a savepoint in it that fails, and that may fail itself."""
        leave_out(any(view.dirty for view in self.views) or self.views[which].quiet)  # on held keys: test_decisions
        state = dict(self.disk)
        expected = []
        for change in changes:
            change.action(state)
            expected.append(exactly(state))
        seen = self.do(which, partial(transact, changes=changes, savepoint=savepoint, fails=fails))
        assert seen == [*expected, exactly(state)]
        if not fails:
            self.disk = state
        self.committed(which)

    @counted(which=WHICH, key=KEYS, value=VALUES, fails=st.booleans())
    def transacts_beside(self, which: int, key: Any, value: Any, *, fails: bool) -> None:
        """A transaction beside what is held and what is quiet."""
        leave_out(self.is_touched(key) or key in self.views[which].quiet)
        self.do(which, partial(transact, changes=[assign(key, value)], savepoint=[], fails=fails))
        if not fails:
            self.disk[key] = value
        self.committed(which)

    # --------------------------------------------------------------------------------------------------------- holding

    @counted(which=WHICH)
    def holds(self, which: int) -> None:
        """Hold, once more if need be."""
        self.ask(which, "hold")
        self.views[which].holds += 1

    @precondition(lambda self: any(view.holds for view in self.views))
    @counted(which=WHICH)
    def unholds(self, which: int) -> None:
        """End a hold."""
        view = self.views[which]
        self.ask(which, "unhold")
        if view.holds == 1:
            self.disk = view.applied_to(self.disk)
            if view.dirty:
                self.committed(which)
            self.written(which)
        view.holds = max(0, view.holds - 1)
        self.may_have_caught_up(which)

    @counted(which=WHICH)
    def syncs(self, which: int) -> None:
        """Write what is held, and fold."""
        self.ask(which, "sync")
        self.disk = self.views[which].applied_to(self.disk)
        self.written(which)
        self.committed(which)

    @counted(which=WHICH)
    def reverts(self, which: int) -> None:
        """Drop what is held; with it goes what is quiet."""
        view = self.views[which]
        self.ask(which, "revert")
        if view.dirty:
            view.quiet.clear()
        self.written(which)
        self.may_have_caught_up(which)

    @counted(which=WHICH)
    def refreshes(self, which: int) -> None:
        """Bring in what others did."""
        view = self.views[which]
        before = view.now()
        changed = self.ask(which, "refresh")
        self.committed(which)
        after = view.now()
        differing = {key for key in {*before, *after} if (key in before) != (key in after) or before[key] != after[key]}
        assert differing <= changed | view.quiet.keys()
        assert changed & (view.dirty - view.moved) <= differing  # of what only moved the value is that of others

    @counted()
    def reader_refreshes(self) -> None:
        """Bring it in where nothing can be changed."""
        assert self.reader is not None
        before, self.read = self.read, dict(self.disk)
        changed = self.reader.refresh()
        common = before.keys() & self.read.keys()
        assert (before.keys() ^ self.read.keys()) | {key for key in common if before[key] != self.read[key]} <= changed

    @counted(which=WHICH)
    def reopens(self, which: int) -> None:
        """Close, whatever is held, and open again."""
        view = self.views[which]
        self.ask(which, "close")
        self.disk = view.applied_to(self.disk)
        kind = type(self.pods[which])
        self.pods[which] = (Distant if kind is Distant else open_pod)(self.path, {}, local=self.local)
        self.views[which] = View(self.disk)

    @counted(which=WHICH, repairs=st.booleans())
    def checks(self, which: int, *, repairs: bool) -> None:
        """Look at all files; to repair them finds nothing to do."""
        assert self.ask(which, "check") == []
        self.may_have_caught_up(which)
        if repairs:
            before = {file.name: file.read_bytes() for file in self.path.iterdir()}
            assert self.ask(which, "repair") == []
            assert {file.name: file.read_bytes() for file in self.path.iterdir()} == before
            self.may_have_caught_up(which)

    # ------------------------------------------------------------------------------------------------------ invariants

    @invariant()
    def the_disk_is_what_was_committed(self) -> None:
        """A reader that comes anew finds nothing else."""
        if self.pods:
            assert exactly(read(self.path)) == exactly(self.disk)

    @invariant()
    def each_pod_is_what_it_has_seen_and_holds(self) -> None:
        """Every POD shows that, and the reader what it read."""
        for which, view in enumerate(self.views):
            found = self.do(which, look)
            assert found.items == view.shown(view.now(), found.items)
            assert found.backward == [key for key, _ in reversed(found.items)]
            assert found.size == len(found.items)
            assert found.dirty <= view.dirty
            view.forget_quiet(found.items)
        if self.reader is not None:
            assert exactly(self.reader) == exactly(self.read)
