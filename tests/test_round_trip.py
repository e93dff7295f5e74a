"""Any key and any value is either stored and read back equal and of the same types, or refused, and then nothing changes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from helpers import exactly, stored
from hypothesis import event, example, given

from tastypy import POD, UnstorableTypeError, UnstorableValueError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INTEGERS = st.integers(-(2**63), 2**64 - 1) | st.integers(-5, 5)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | INTEGERS | FLOATS | TEXT

KEYS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)
"""Every key that can be stored."""

VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(TEXT, inner, max_size=4)
    ),
    max_leaves=15,
)
"""Every kind of value that can be stored."""

STRANGE = st.one_of(
    st.floats(),
    st.integers(),
    st.text(st.characters(), max_size=5),
    st.binary(max_size=3),
    st.complex_numbers(),
    st.decimals(),
    st.fractions(),
    st.dates(),
    st.datetimes(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.sets(st.integers(), max_size=2),
    st.frozensets(st.integers(), max_size=2),
    st.dictionaries(st.integers() | st.booleans() | st.none(), st.integers(), max_size=2),
    st.just(object()),
    st.sampled_from([int, len, NotImplemented, ..., range(3), slice(1), bytearray(b"x")]),
)
ANYTHING = st.recursive(
    SCALARS | STRANGE,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=8,
)
HASHABLE = st.recursive(
    SCALARS | STRANGE.filter(lambda thing: not isinstance(thing, set | dict | slice | bytearray)),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)


def as_json_has_it(value: Any) -> Any:
    """The value with its tuples as lists."""
    if isinstance(value, list | tuple):
        return [as_json_has_it(part) for part in value]
    if isinstance(value, dict):
        return {key: as_json_has_it(part) for key, part in value.items()}
    return value


@contextmanager
def directory() -> Iterator[Path]:
    """A directory for one example; in memory where that is possible."""
    name = tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None, prefix="tastypy-")
    try:
        yield Path(name) / "my.pod"
    finally:
        shutil.rmtree(name)


@given(
    entries=st.dictionaries(KEYS, VALUES, max_size=6),
    gzipped=st.booleans(),
    shard_bytes=st.sampled_from([1, 100, None]),
)
@example(entries={"": "", "#": "#", "##": 1, "#1": 2, 1: 3, "1": 4}, gzipped=False, shard_bytes=1)
@example(
    entries={'a":1,\n"b': '"},\n"', "\n}\n": ",\n", "\\": "\\u0000", "\x7f\u2028": "\x00"},
    gzipped=False,
    shard_bytes=None,
)
def test_what_json_holds_is_read_back_equal_and_of_the_same_types(
    entries: dict[Any, Any], *, gzipped: bool, shard_bytes: int | None
) -> None:
    """From the journal, from the shards, and by another fold of the same."""
    expected = exactly(as_json_has_it(entries))
    with directory() as path:
        with POD[Any, Any](path, gzipped=gzipped, shard_bytes=shard_bytes) as pod:
            for key, value in entries.items():
                pod[key] = value
            assert exactly(pod) == expected
            assert exactly(stored(path)) == expected
            pod.sync()
            assert exactly(stored(path)) == expected
            for key, value in list(entries.items())[::2]:
                pod[key] = value
            pod.sync()
        assert exactly(stored(path)) == expected
        with POD[Any, Any](path) as again:
            again.update(entries)
            for key in entries:
                del again[key]
            assert again.check() == []
        assert stored(path) == {}


def assert_stored_or_refused(key: Any, value: Any) -> None:
    """And say which it was."""
    with directory() as path:
        with POD[Any, Any](path) as pod:
            pod["before"] = 1
            try:
                pod[key] = value
            except (UnstorableTypeError, UnstorableValueError):
                event("refused")
                assert exactly(pod) == exactly({"before": 1})
            else:
                event("stored")
                assert exactly(pod) == exactly({"before": 1, key: as_json_has_it(value)})
            memory = exactly(pod)
            assert exactly(stored(path)) == memory
            pod.sync()
            assert exactly(stored(path)) == memory
        assert exactly(stored(path)) == memory


@given(value=ANYTHING)
def test_any_value_is_stored_exactly_or_refused(value: Any) -> None:
    assert_stored_or_refused("key", value)


@given(key=HASHABLE)
def test_any_key_is_stored_exactly_or_refused(key: Any) -> None:
    assert_stored_or_refused(key, "value")


@given(first=KEYS, second=KEYS)
@example(first=1, second=True)
@example(first=0.0, second=-0.0)
@example(first=("a", 1), second=("a", 1.0))
@example(first="#1", second=1)
def test_two_keys_are_one_exactly_if_they_are_one_in_a_dict(first: Any, second: Any) -> None:
    plain = {first: "first"}
    plain[second] = "second"
    with directory() as path:
        for held in (False, True):
            with POD[Any, Any](path) as pod:
                pod.clear()
                if held:
                    pod.hold()
                pod[first] = "first"
                pod[second] = "second"
                assert exactly(pod) == exactly(plain)
            assert exactly(stored(path)) == exactly(plain)


def test_the_strategies_reach_both_ends() -> None:
    """What can be stored never is refused, and something strange is: the tests above could not fail otherwise."""
    with directory() as path, POD[Any, Any](path) as pod:
        pod["fine"] = {"a": [1, 2.5, None, True, "x", (1,)]}
        for strange in (object(), float("nan"), 2**70, b"", {1: 2}):
            with pytest.raises((UnstorableTypeError, UnstorableValueError)):
                pod["strange"] = strange
