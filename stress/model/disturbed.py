"""What is less usual, as more rules: calls that fail, values that are mutated in place, forks, repairs that find nothing to do."""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from operator import methodcaller
from typing import Any

import hypothesis.strategies as st
from hypothesis import event
from hypothesis.stateful import invariant, precondition

from stress.judging import read
from stress.model.elsewhere import Child, Distant, failing
from stress.model.machine import AbortError, counted, leave_out
from stress.model.plain_pod import CHANGES, KEYS, VALUES, Action, Change, Dict, assign, exactly, mutate, transact
from stress.model.plain_tracker import CALLS, FIELDS, FRESH, GONE, Call, PlainTracker, Tasks, outcome, timeless
from stress.model.plain_tracker import KEYS as TASKS
from stress.model.pods import WHICH, Pods
from stress.model.trackers import Trackers
from stress.recount import Entry, assert_right
from tastypy import POD, CommitError, UnknownOutcomeError

RAISED: dict[str, Callable[[], BaseException]] = {
    "EIO": partial(OSError, errno.EIO, os.strerror(errno.EIO)),
    "ENOSPC": partial(OSError, errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "Ctrl-C": KeyboardInterrupt,
}
ERRORS = st.sampled_from(sorted(RAISED))


class DisturbedPods(Pods):
    """PODs that are not left in peace."""

    def here(self, which: int) -> POD[Any, Any]:
        """Return a POD of this process."""
        pod = self.pods[which]
        leave_out(isinstance(pod, Distant))
        assert isinstance(pod, POD)
        return pod

    def may_fail(self, which: int, failing_call: AbstractContextManager[None], action: Action, after: Dict) -> None:
        """An action that leaves `after` on the disk, or, if it fails, what was there before; a CommitError says the latter."""
        pod = self.here(which)
        try:
            with failing_call:
                action(pod)
        except (OSError, KeyboardInterrupt) as failure:
            event(f"failed: {type(failure).__name__}")
            found = read(self.path)
            before = exactly(self.disk)
            assert exactly(found) in (before, exactly(after))
            if isinstance(failure, CommitError) and not isinstance(failure, UnknownOutcomeError):
                assert exactly(found) == before
            self.disk = found
            pod.refresh()
        else:
            self.disk = after
        self.committed(which)

    @counted(
        which=WHICH,
        changes=st.lists(CHANGES, min_size=1, max_size=3),
        at=st.integers(1, 10),
        error=ERRORS,
        lasting=st.booleans(),
    )
    def fails_in_a_transaction(self, which: int, changes: list[Change], at: int, error: str, *, lasting: bool) -> None:
        """A system call of a transaction fails, or is interrupted, or all from one on."""
        self.here(which)
        keys = set[Any]().union(*(change.keys for change in changes))
        leave_out(self.is_touched(*keys) or self.views[which].quiet.keys() & keys)
        after = dict(self.disk)
        for change in changes:
            change.action(after)
        action = partial(transact, changes=changes, savepoint=[], fails=False)
        self.may_fail(which, failing(at, RAISED[error], lasting=lasting), action, after)

    @counted(which=WHICH, at=st.integers(1, 40), error=ERRORS, lasting=st.booleans())
    def fails_in_a_fold(self, which: int, at: int, error: str, *, lasting: bool) -> None:
        """A system call of a fold fails, or is interrupted, or all from one on."""
        self.here(which)
        leave_out(self.views[which].dirty)
        self.may_fail(which, failing(at, RAISED[error], lasting=lasting), methodcaller("sync"), self.disk)

    # ------------------------------------------------------------------------------------------------ mutated in place

    @counted(which=WHICH, number=st.integers(0, 3))
    def mutates(self, which: int, number: int) -> None:
        """Change a value in place. If its key was set under hold, that is held; else nobody is told, and no disk must have it."""
        view = self.views[which]
        now = view.now()
        there = [key for key in now if type(now[key]) in (list, dict) and key not in view.moved | view.quiet.keys()]
        leave_out(not there)
        key = there[number % len(there)]
        self.do(which, partial(mutate, key=key))
        if key in view.dirty:
            view.held.append(partial(mutate, key=key))
        else:
            after = {key: now[key]}
            mutate(after, key=key)
            view.quiet[key] = now[key], after[key]

    @precondition(lambda self: any(view.quiet for view in self.views))
    @counted(which=WHICH, number=st.integers(0, 3))
    def tells(self, which: int, number: int) -> None:
        """Tell of a value that was mutated in place."""
        view = self.views[which]
        quiet = [key for key in view.quiet if key in view.now()]
        leave_out(not quiet)
        key = quiet[number % len(quiet)]
        leave_out(self.others_hold(which, {key}))
        del view.quiet[key]
        value = copy.deepcopy(self.ask(which, "get", key))
        name = "update" if type(key) is str and key else "sync_key"
        self.change(which, assign(key, value), methodcaller(name, key))

    # ----------------------------------------------------------------------------------------------------------- forks

    @counted(
        which=WHICH,
        changes=st.lists(CHANGES, max_size=3),
        holds=st.booleans(),
        abrupt=st.booleans(),
        inside=st.one_of(st.none(), st.tuples(KEYS, VALUES)),
        leaves=st.booleans(),
        fails=st.booleans(),
    )
    def forks(
        self,
        which: int,
        changes: list[Change],
        inside: tuple[Any, Any] | None,
        *,
        holds: bool,
        abrupt: bool,
        leaves: bool,
        fails: bool,
    ) -> None:
        """Fork a child that inherits every POD and changes one of them; the fork may be `inside` a transaction."""
        pod, view = self.here(which), self.views[which]
        keys = set[Any]().union(*(change.keys for change in changes))
        leave_out(self.is_touched(*keys) or (inside and (self.is_touched(inside[0]) or inside[0] in keys)))
        leave_out(view.quiet and (inside or view.quiet.keys() & keys))
        held = holds or view.holds > 0
        known = [exactly(state) for state in (view.seen, self.disk)]
        stack = ExitStack()

        def inherit() -> None:
            found = exactly(pod)
            assert view.quiet or found in known, found
            assert pod.dirty() == set()
            if leaves:
                stack.close()

        def act() -> None:
            if holds:
                pod.hold()
            pod.refresh()
            for change in changes:
                change.action(pod)

        if inside:
            stack.enter_context(pod.transaction())
            pod[inside[0]] = inside[1]
        child = Child(inherit, act, abrupt=abrupt)
        child.hear()
        if inside and fails:
            stack.__exit__(AbortError, AbortError(), None)
        else:
            stack.close()
            self.disk |= dict([inside] if inside else [])
        if inside:
            self.committed(which)
        child.join()
        if not (held and abrupt):
            for change in changes:
                change.action(self.disk)


class DisturbedTrackers(Trackers):
    """Trackers whose processes fork, and beside them a plain POD, which overwrites and deletes entries as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.plain: POD[Any, Any] | None = None
        self.plain_seen: Tasks = {}
        self.plain_held: Tasks = {}
        self.plain_holds = False

    def open_more(self) -> None:
        """Open the directory as a POD."""
        self.plain = POD(self.path)

    def end(self) -> None:
        """Close the plain POD first: it may hold something."""
        if self.plain is not None:
            self.plain.close()
        super().end()

    def plain_on(self, disk: Tasks) -> Tasks:
        """What the plain POD is once it has seen the disk: what it holds are whole entries."""
        return {key: entry for key, entry in {**disk, **self.plain_held}.items() if entry is not GONE}

    def plain_writes(self) -> None:
        """What the plain POD holds gets to the disk."""
        self.commit(None, self.plain_held, {*self.plain_held})
        self.plain_held, self.plain_seen = {}, self.disk

    @counted(
        entries=st.dictionaries(TASKS, st.one_of(st.none(), FIELDS), min_size=1, max_size=3), together=st.booleans()
    )
    def plain_changes(self, entries: dict[Any, Entry | None], *, together: bool) -> None:
        """Overwrite or delete entries, each by itself or in a transaction."""
        assert self.plain is not None
        held = self.plain_holds and not together
        known = self.plain_on(self.plain_seen if held else self.disk)
        there = {key: {**FRESH, **fields} for key, fields in entries.items() if fields is not None}
        after = {key: there.get(key, GONE) for key in entries if key in there or key in known}
        leave_out(self.would_clash(None, there, {*after}))
        with self.plain.transaction() if together else nullcontext():
            for key in entries:
                if key in there:
                    self.plain[key] = there[key]
                else:
                    self.plain.pop(key, None)
        if held:
            self.plain_held |= after
        else:
            self.plain_held = {key: entry for key, entry in self.plain_held.items() if key not in after}
            self.commit(None, after, {*after})
            self.plain_seen = self.disk

    @counted(what=st.sampled_from(["hold", "unhold", "sync", "revert", "refresh"]))
    def plain_synchronises(self, what: str) -> None:
        """Hold, or end that, or do something else to what is held."""
        assert self.plain is not None
        leave_out((what == "hold") == self.plain_holds and what in ("hold", "unhold"))
        there = {key: entry for key, entry in self.plain_held.items() if entry is not GONE}
        leave_out(what in ("unhold", "sync") and self.would_clash(None, there, {*self.plain_held}))
        getattr(self.plain, what)()
        if what in ("unhold", "sync"):
            self.plain_writes()
        if what in ("hold", "unhold"):
            self.plain_holds = what == "hold"
        if what == "revert":
            self.plain_held = {}
        self.plain.refresh()
        self.plain_seen = self.disk

    @counted(which=WHICH, calls=st.lists(CALLS, max_size=3), abrupt=st.booleans())
    def forks(self, which: int, calls: list[Call], *, abrupt: bool) -> None:
        """Fork a child that inherits every tracker, with its claims and what it holds, and uses one of them."""
        tracker, view = self.trackers[which], self.views[which]
        leave_out(view.holds)
        known = [view.seen, self.disk]
        model = PlainTracker(self.disk, view.max_tries)
        expected = [outcome(getattr(model, name), arguments) for name, arguments in calls]
        leave_out(self.would_clash(None, model.tasks, model.touched))

        def inherit() -> None:
            assert {key: timeless(entry) for key, entry in tracker.items()} in known
            assert_right(tracker)

        def act() -> None:
            assert [outcome(getattr(tracker, name), arguments) for name, arguments in calls] == expected
            assert_right(tracker)

        child = Child(inherit, act, abrupt=abrupt)
        child.hear()
        child.join()
        self.commit(None, model.tasks, model.touched)

    @invariant()
    def the_plain_pod_is_what_it_has_seen_and_holds(self) -> None:
        """It has no say in how entries are merged."""
        if self.plain is not None:
            assert {key: timeless(entry) for key, entry in self.plain.items()} == self.plain_on(self.plain_seen)
