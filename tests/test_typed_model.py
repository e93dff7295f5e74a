"""Typed PODs against plain dicts of objects: what Hypothesis makes comes back from the disk, whatever is done to it."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from helpers import exactly
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from typed_values import Result, Step

from tastypy import POD, WrongTypeError

FLOATS = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**64 - 1))
INTS = st.integers(-(2**63), 2**64 - 1)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), INTS, FLOATS, st.text()),
    lambda part: st.one_of(st.lists(part, max_size=3), st.dictionaries(st.text(), part, max_size=3)),
    max_leaves=5,
)
STEPS = st.builds(Step, st.text(), FLOATS)
RESULTS: st.SearchStrategy[Result] = st.deferred(
    lambda: st.builds(
        Result,
        score=FLOATS,
        label=st.text(),
        steps=st.lists(STEPS, max_size=3),
        counts=st.dictionaries(st.text(), INTS, max_size=3),
        size=st.tuples(INTS, INTS),
        path=st.lists(st.text(), max_size=3).map(tuple),
        state=st.sampled_from(["open", "done"]),
        best=st.none() | STEPS,
        number=st.one_of(INTS, FLOATS, st.text()),
        before=st.none() | st.builds(Result, FLOATS) | RESULTS,
        more=JSON,
    )
)
SMALL = st.builds(Result, st.integers(0, 3), st.sampled_from("ab"), st.lists(st.builds(Step, st.just("s")), max_size=1))
KEYS = st.sampled_from(["a", "b", "c", 1, ("t", 2)])
Results = dict[Any, Result]


def memory() -> Path:
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None, prefix="tastypy-"))


@given(value=RESULTS)
@settings(max_examples=150)
def test_whatever_fits_the_type_comes_back_from_the_disk_equal_and_of_the_same_types(value: Result) -> None:
    directory = memory()
    try:
        with POD(directory / "my.pod", type=Result) as pod:
            pod["a"] = value
            read = [pod["a"]]
            with POD(directory / "my.pod", type=Result, mode="r") as other:
                read.append(other["a"])
            pod.sync()
            with POD(directory / "my.pod", type=Result, mode="r") as other:
                read.append(other["a"])
        assert read == [value] * 3
        assert {repr(one) for one in read} == {repr(value)}  # which tells 1 from 1.0 and True, as equality does not
    finally:
        shutil.rmtree(directory)


class TypedPods(RuleBasedStateMachine):
    """One POD that changes things, another that looks and changes some, and one without a type that may do wrong.

    `disk` is what was committed, `held` what the first one holds beside it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.directory = memory()
        self.disk: Results = {}
        self.held: dict[Any, Result | None] = {}
        self.holds = False
        self.bad: set[Any] = set()

    @initialize()
    def open(self) -> None:
        self.pod = POD[Any, Result](self.directory / "my.pod", type=Result)
        self.twin = POD[Any, Result](self.directory / "my.pod", type=Result)
        self.plain = POD[Any, Any](self.directory / "my.pod")

    def teardown(self) -> None:
        try:
            if hasattr(self, "pod"):
                for pod in (self.pod, self.twin, self.plain):
                    pod.close()
                self.write_held()
                with POD[Any, Any](self.directory / "my.pod") as plain:
                    for key in self.bad:
                        del plain[key]
                assert self.on_disk() == self.disk
        finally:
            shutil.rmtree(self.directory)

    def on_disk(self) -> Results:
        with POD[Any, Result](self.directory / "my.pod", type=Result, mode="r") as reader:
            return reader.copy()

    def write_held(self) -> None:
        for key, value in self.held.items():
            self.bad.discard(key)
            if value is None:
                self.disk.pop(key, None)
            else:
                self.disk[key] = value
        self.held = {}

    def change(self, action: Callable[[Any], object], after: dict[Any, Result | None], *, atomic: bool = False) -> None:
        """Do something to the first POD that leaves `after`; where a bad value is on the disk, nothing if it looks there."""
        if self.bad and (atomic or not self.holds):
            before = exactly(self.pod)
            try:
                action(self.pod)
            except WrongTypeError:
                assert exactly(self.pod) == before
                return
            raise AssertionError("a bad value went unnoticed")
        action(self.pod)
        if self.holds and not atomic:
            self.held.update(after)
        else:
            self.held = {key: value for key, value in self.held.items() if key not in after}
            for key, value in after.items():
                if value is None:
                    self.disk.pop(key, None)
                else:
                    self.disk[key] = value

    @rule(key=KEYS, value=SMALL)
    def sets(self, key: Any, value: Result) -> None:
        self.change(lambda pod: pod.__setitem__(key, value), {key: copy.deepcopy(value)})
        value.score = 99

    @rule(values=st.dictionaries(KEYS, SMALL, min_size=1))
    def updates(self, values: Results) -> None:
        self.change(lambda pod: pod.update(values), {**values})

    @rule(key=KEYS)
    def deletes(self, key: Any) -> None:
        if self.holds and self.bad:
            return  # what it knows is as old as the first bad value
        there = {**self.disk, **self.held}.get(key) is not None
        self.change(lambda pod: pod.pop(key, None), {key: None} if there else {})

    @rule(key=KEYS, by=st.integers(1, 3), fails=st.booleans())
    def edits(self, key: Any, by: int, *, fails: bool) -> None:
        there = {**self.disk, **self.held}.get(key)
        after = Result(by) if there is None else copy.deepcopy(there)
        after.score += by

        def edit(pod: POD[Any, Result]) -> None:
            try:
                with pod.edit(key, default=Result(by)) as value:
                    value.score += by
                    if fails:
                        value.steps.append("no step")  # type: ignore[arg-type]  # that is the point
            except WrongTypeError as error:
                if not fails or "no step" not in str(error):
                    raise

        self.change(edit, {} if fails else {key: after}, atomic=True)

    @rule(values=st.dictionaries(KEYS, st.none() | SMALL, min_size=1), fails=st.booleans())
    def transacts(self, values: dict[Any, Result | None], *, fails: bool) -> None:
        def transact(pod: POD[Any, Result]) -> None:
            try:
                with pod.transaction():
                    for key, value in values.items():
                        if value is None:
                            pod.pop(key, None)
                        else:
                            pod[key] = value
                    if fails:
                        raise LookupError
            except LookupError:
                pass

        self.change(transact, {} if fails else {**values}, atomic=True)

    @precondition(lambda self: not self.holds)
    @rule()
    def begins_to_hold(self) -> None:
        self.pod.hold()
        self.holds = True

    @precondition(lambda self: self.holds)
    @rule(how=st.sampled_from(["unhold", "revert"]))
    def ends_to_hold(self, how: str) -> None:
        if how == "revert":
            if self.bad and self.pod.dirty():
                return
            self.pod.revert()
            self.held = {}
        self.pod.unhold()
        self.holds = False
        self.write_held()

    @rule(key=KEYS, value=SMALL)
    def others_set(self, key: Any, value: Result) -> None:
        if not self.bad:
            self.twin[key] = value
            self.disk[key] = value

    @rule(keys=st.sets(KEYS, min_size=1))
    def others_delete(self, keys: set[Any]) -> None:
        with self.plain.transaction():
            for key in keys:
                self.plain.pop(key, None)
                self.disk.pop(key, None)
                self.bad.discard(key)

    @rule(key=KEYS, value=st.sampled_from([None, {"score": "x"}, {"score": 1, "extra": 1}]))
    def others_set_what_is_bad(self, key: Any, value: Any) -> None:
        self.plain[key] = value
        self.disk.pop(key, None)
        self.bad.add(key)

    @rule(key=KEYS, value=SMALL, mend=st.sampled_from(["put", "del", "del and put"]), folds=st.integers(0, 2))
    def others_set_what_is_bad_and_mend_it(self, key: Any, value: Result, mend: str, folds: int) -> None:
        self.plain[key] = "bad"
        for _ in range(folds):
            self.plain.sync()
        if "del" in mend:
            del self.plain[key]
            self.disk.pop(key, None)
        if "put" in mend:
            self.plain[key] = asdict(value)
            self.disk[key] = value
        self.bad.discard(key)

    @rule(number=st.integers(0, 4), score=st.integers(4, 6))
    def mutates_in_place(self, number: int, score: int) -> None:
        there = [key for key, value in {**self.disk, **self.held}.items() if value is not None]
        if self.bad or not there:
            return
        key = there[number % len(there)]
        mine = self.pod[key]
        mine.score = score
        self.change(lambda pod: pod.sync_key(key), {key: copy.deepcopy(mine)})
        assert self.pod[key] is mine

    @rule()
    def others_fold(self) -> None:
        self.plain.sync()

    @invariant()
    def memory_is_what_the_disk_has_and_what_is_held(self) -> None:
        if not hasattr(self, "pod"):
            return
        for pod, held in ((self.pod, self.held), (self.twin, {})):
            if self.bad:
                try:
                    pod.refresh()
                except WrongTypeError as error:
                    assert any(f"the value of {key!r}" in str(error) for key in self.bad)
                else:
                    raise AssertionError("a bad value went unnoticed")
            else:
                pod.refresh()
                expected = {key: value for key, value in {**self.disk, **held}.items() if value is not None}
                assert pod == expected
        self.plain.refresh()
        assert {*self.plain} == self.disk.keys() | self.bad
        if not self.bad and not self.held:
            assert list(self.pod.items()) == list(self.on_disk().items())


TestTypedPods = TypedPods.TestCase
TestTypedPods.settings = settings(max_examples=60, stateful_step_count=30)
