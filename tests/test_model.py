"""Two PODs on one directory against a plain dict, through any row of operations that Hypothesis finds.

The model: `disk` is what was committed; a POD's view is the disk as it last saw it, with what it holds done again on top.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from helpers import exactly, stored
from hypothesis import event, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tastypy import POD

Dict = dict[Any, Any]
Change = Callable[[Any], Any]

KEYS = st.sampled_from(["a", "b", "c", "#x", "", "ü\n", 1, 0, True, 2.5, None, ("a", 1), (), "x" * 40])
VALUES = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([None, True, 1.0, "", "text", [], {}, [1, [2]], {"k": {"l": [None]}}]),
    st.integers(0, 150).map(lambda size: "v" * size),
)
ITEMS = st.dictionaries(KEYS, VALUES, max_size=4)
WHICH = st.integers(0, 1)


class Abort(Exception):  # noqa: N818 - a signal of this test, not an error
    """Ends a transaction without a commit."""


def assign(key: Any, value: Any) -> Change:
    return lambda each: each.__setitem__(key, value)


def delete(key: Any) -> Change:
    return lambda each: each.pop(key, None)


def update(items: Dict) -> Change:
    return lambda each: each.update(items)


def setdefault(key: Any, value: Any) -> Change:
    return lambda each: each.setdefault(key, value)


def move(key: Any, *, last: bool) -> Change:
    def change(each: Any) -> None:
        if isinstance(each, POD):
            each.move_to_end(key, last=last)
        else:
            value = each.pop(key)
            rest = dict(each)
            each.clear()
            each.update({**rest, key: value} if last else {key: value, **rest})

    return change


CHANGES = st.one_of(
    st.builds(assign, KEYS, VALUES),
    st.builds(delete, KEYS),
    st.builds(update, ITEMS),
    st.builds(setdefault, KEYS, VALUES),
)


def spelled(mapping: Dict, key: Any) -> Any:
    """The key as the mapping has it: 1, 1.0 and True are one key, and the first spelling stays."""
    return next((one for one in mapping if one == key), key)


class View:
    """What one POD should be: the disk as it saw it, and the changes that it holds, in order."""

    def __init__(self, disk: Dict) -> None:
        self.seen = dict(disk)
        self.held: list[Change] = []
        self.holds = 0
        self.dirty: set[Any] = set()
        self.moved: set[Any] = set()

    def now(self) -> Dict:
        return self.applied_to(self.seen)

    def applied_to(self, state: Dict) -> Dict:
        result = dict(state)
        for change in self.held:
            change(result)
        return result


class TwoPods(RuleBasedStateMachine):
    """The operations, and after each that both PODs are as the model says."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None, prefix="tastypy-")
        self.path = Path(self.directory) / "my.pod"
        self.disk: Dict = {}
        self.pods: list[POD[Any, Any]] = []
        self.views: list[View] = []

    @initialize(gzipped=st.booleans(), shard_bytes=st.sampled_from([1, 100, 300, None]), durable=st.booleans())
    def start(self, *, gzipped: bool, shard_bytes: int | None, durable: bool) -> None:
        self.pods = [POD(self.path, gzipped=gzipped, shard_bytes=shard_bytes, durable=durable), POD(self.path)]
        self.views = [View({}), View({})]

    def teardown(self) -> None:
        try:
            for pod in self.pods:
                pod.close()
            if self.pods:
                with POD[Any, Any](self.path) as last:
                    assert last.check() == []
        finally:
            shutil.rmtree(self.directory)

    # ------------------------------------------------------------------------------------------------------- machinery

    def committed(self, which: int) -> None:
        """The POD has just seen the disk as it is now."""
        self.views[which].seen = dict(self.disk)

    def may_have_caught_up(self, which: int) -> None:
        """An operation that changes nothing may look at the disk, or not."""
        if exactly(self.pods[which]) == exactly(self.views[which].applied_to(self.disk)):
            self.committed(which)

    def is_touched(self, key: Any) -> bool:
        """Whether either POD holds a change to the key."""
        return any(key in view.dirty for view in self.views)

    def written(self, which: int) -> None:
        """What this POD held is on the disk, or dropped."""
        view = self.views[which]
        view.held, view.dirty, view.moved = [], set(), set()

    def others_hold(self, which: int, keys: set[Any]) -> bool:
        """Whether the other POD holds changes to any of these keys; what order they then end up in is left open."""
        return bool(self.views[1 - which].dirty & keys)

    def change(self, which: int, change: Change, keys: set[Any]) -> None:
        """One mutator, held or committed, with the same result as on the model."""
        pod, view = self.pods[which], self.views[which]
        if self.views[1 - which].moved & keys:
            return  # whose value a key has that was moved under hold is left open
        if view.holds:
            result = change(pod)
            model = view.now()
            before = dict(model)
            assert result == change(model) or result is None
            named = {key for key in keys if key in before or key in model}
            if named:
                view.held.append(change)
                view.dirty |= named
        else:
            result = change(pod)
            expected = change(self.disk)
            self.committed(which)
            assert result is None or result == expected

    # ----------------------------------------------------------------------------------------------------------- rules

    @rule(which=WHICH, key=KEYS, value=VALUES)
    def assigns(self, which: int, key: Any, value: Any) -> None:
        self.change(which, assign(key, value), {key})

    @rule(which=WHICH, items=ITEMS)
    def updates(self, which: int, items: Dict) -> None:
        if items:
            self.change(which, update(items), set(items))
        else:
            self.pods[which].update(items)
            self.may_have_caught_up(which)

    @rule(which=WHICH, key=KEYS, value=VALUES)
    def sets_default(self, which: int, key: Any, value: Any) -> None:
        if self.views[which].holds:
            if key in self.views[which].now():
                assert exactly({0: self.pods[which].setdefault(key, value)}) == exactly(
                    {0: self.views[which].now()[key]}
                )
                return
            self.change(which, assign(key, value), {key})
            return
        self.change(which, setdefault(key, value), {key})

    @rule(which=WHICH, key=KEYS)
    def pops(self, which: int, key: Any) -> None:
        if not self.others_hold(which, {key}):
            self.change(which, delete(key), {key})

    @rule(which=WHICH, key=KEYS)
    def deletes(self, which: int, key: Any) -> None:
        view = self.views[which]
        there = view.now() if view.holds else self.disk
        if key not in there:
            try:
                del self.pods[which][key]
            except KeyError:
                self.may_have_caught_up(which)
            else:
                raise AssertionError(f"{key!r} was deleted though it was not there")
        elif not self.others_hold(which, {key}):
            self.change(which, lambda each: each.pop(key, None) if type(each) is dict else each.__delitem__(key), {key})

    @rule(which=WHICH, last=st.booleans())
    def pops_item(self, which: int, *, last: bool) -> None:
        view = self.views[which]
        there = view.now() if view.holds else self.disk
        if not there:
            try:
                self.pods[which].popitem(last=last)
            except KeyError:
                self.may_have_caught_up(which)
            else:
                raise AssertionError("something was taken from nothing")
            return
        key = list(there)[-1 if last else 0]
        if self.others_hold(which, {key}):
            return
        expected = (key, there[key])
        taken = self.pods[which].popitem(last=last)
        assert repr(taken) == repr(expected)
        if view.holds:
            view.held.append(delete(key))
            view.dirty.add(key)
        else:
            del self.disk[key]
            self.committed(which)

    @rule(which=WHICH, key=KEYS, last=st.booleans())
    def moves(self, which: int, key: Any, *, last: bool) -> None:
        view = self.views[which]
        there = view.now() if view.holds else self.disk
        if key in there and (not view.holds or key in self.disk) and not self.others_hold(which, {key}):
            self.change(which, move(spelled(there, key), last=last), {key})
            if view.holds:
                view.moved.add(key)

    @rule(which=WHICH)
    def clears(self, which: int) -> None:
        view = self.views[which]
        if view.holds:
            known = list(view.now())
            if self.others_hold(which, set(known)):
                return
            self.pods[which].clear()
            view.held.extend(map(delete, known))
            view.dirty.update(known)
        elif not self.views[1 - which].dirty:
            self.change(which, lambda each: each.clear(), set())

    @rule(which=WHICH, key=KEYS, by=st.integers(-2, 2))
    def counts(self, which: int, key: Any, by: int) -> None:
        there = self.views[which].applied_to(self.disk)
        if not self.is_touched(key) and type(there.get(key, 0)) in (int, float):
            assert self.pods[which].incr(key, by) == there.get(key, 0) + by
            self.disk[key] = there.get(key, 0) + by
            self.committed(which)

    @rule(which=WHICH, key=KEYS)
    def edits(self, which: int, key: Any) -> None:
        there = self.views[which].applied_to(self.disk)
        if not self.is_touched(key) and type(there.get(key, [])) is list:
            with self.pods[which].edit(key, default=[]) as value:
                value.append("edited")
            self.disk[key] = [*there.get(key, []), "edited"]
            self.committed(which)

    @rule(
        which=WHICH, changes=st.lists(CHANGES, max_size=4), savepoint=st.lists(CHANGES, max_size=2), fails=st.booleans()
    )
    def transacts(self, which: int, changes: list[Change], savepoint: list[Change], *, fails: bool) -> None:
        """A transaction with a savepoint in it that fails, and that may fail itself."""
        if any(view.dirty for view in self.views):
            return  # on held keys: test_decisions
        pod = self.pods[which]
        state = dict(self.disk)
        try:
            with pod.transaction():
                for change in changes:
                    change(pod)
                    change(state)
                    assert exactly(pod) == exactly(state)
                try:
                    with pod.transaction():
                        for change in savepoint:
                            change(pod)
                        raise Abort
                except Abort:
                    assert exactly(pod) == exactly(state)
                if fails:
                    raise Abort
        except Abort:
            event("transaction failed")
        else:
            event("transaction committed")
            self.disk = state
        self.committed(which)

    @rule(which=WHICH, key=KEYS, value=VALUES, fails=st.booleans())
    def transacts_beside_what_is_held(self, which: int, key: Any, value: Any, *, fails: bool) -> None:
        if self.is_touched(key):
            return
        try:
            with self.pods[which].transaction():
                self.pods[which][key] = value
                if fails:
                    raise Abort
        except Abort:
            pass
        else:
            self.disk[key] = value
        self.committed(which)

    @rule(which=WHICH)
    def holds(self, which: int) -> None:
        self.pods[which].hold()
        self.views[which].holds += 1

    @precondition(lambda self: any(view.holds for view in self.views))
    @rule(which=WHICH)
    def unholds(self, which: int) -> None:
        view = self.views[which]
        self.pods[which].unhold()
        if view.holds == 1:
            self.writes(which)
        view.holds = max(0, view.holds - 1)
        self.may_have_caught_up(which)

    def writes(self, which: int) -> None:
        """What is held gets to the disk."""
        view = self.views[which]
        self.disk = view.applied_to(self.disk)
        if view.dirty:
            self.committed(which)
        self.written(which)
        self.may_have_caught_up(which)

    @rule(which=WHICH)
    def syncs(self, which: int) -> None:
        self.pods[which].sync()
        self.disk = self.views[which].applied_to(self.disk)
        self.written(which)
        self.committed(which)

    @rule(which=WHICH)
    def reverts(self, which: int) -> None:
        self.pods[which].revert()
        assert self.pods[which].dirty() == set()
        self.written(which)
        self.may_have_caught_up(which)

    @rule(which=WHICH)
    def refreshes(self, which: int) -> None:
        view = self.views[which]
        before = view.now()
        changed = self.pods[which].refresh()
        self.committed(which)
        after = view.now()
        differing = {key for key in {*before, *after} if (key in before) != (key in after) or before[key] != after[key]}
        assert differing <= changed
        assert changed & view.dirty <= differing

    @rule(which=WHICH)
    def reopens(self, which: int) -> None:
        view = self.views[which]
        self.pods[which].close()
        self.disk = view.applied_to(self.disk)
        self.pods[which] = POD(self.path)
        self.views[which] = View(self.disk)

    # ------------------------------------------------------------------------------------------------------ invariants

    @invariant()
    def the_disk_is_what_was_committed(self) -> None:
        if self.pods:
            assert exactly(stored(self.path)) == exactly(self.disk)

    @invariant()
    def each_pod_is_what_it_has_seen_and_holds(self) -> None:
        for pod, view in zip(self.pods, self.views, strict=True):
            assert exactly(pod) == exactly(view.now())
            assert len(pod) == len(view.now())
            assert pod.dirty() <= view.dirty
            assert list(reversed(pod)) == list(reversed(list(view.now())))


TestTwoPods = TwoPods.TestCase
TestTwoPods.settings = settings(max_examples=max(100, settings.default.max_examples if settings.default else 0))
