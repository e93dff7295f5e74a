"""What bad arguments, keys, values and calls get: a clear exception that names path or key; memory and disk as before."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import os
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers import Opener, files, in_child, stored

from tastypy import (
    POD,
    MissingPODError,
    NotAPODError,
    PermissionDeniedError,
    ReadOnlyError,
    TastypyError,
    UnstorableTypeError,
    UnstorableValueError,
)

NAN, INFINITY = float("nan"), float("inf")


class Text(str):
    """A subclass, which JSON would not give back."""

    __slots__ = ()


class Number(enum.IntEnum):
    """An enum, which orjson writes on its own."""

    ONE = 1


@dataclass
class Data:
    """A dataclass, which orjson writes on its own."""

    number: int = 1


Pair = namedtuple("Pair", "a b")  # noqa: PYI024 - the untyped one is what people have


# --------------------------------------------------------------------------------------------------------------- paths


def test_a_path_that_is_a_file_is_refused_by_name(path: Path) -> None:
    path.write_text("a letter")
    for mode in ("a", "r"):
        with pytest.raises(NotAPODError, match=str(path)) as caught:
            POD(path, mode=mode)
        assert caught.value.path == str(path)
    assert path.read_text() == "a letter"


def test_a_path_below_a_file_is_refused_by_name(path: Path) -> None:
    path.write_text("a letter")
    with pytest.raises(NotAPODError, match=str(path)):
        POD(path / "my.pod")
    assert path.read_text() == "a letter"


@pytest.mark.parametrize("name", ["letter.txt", "data.json", ".hidden", "0000.json"])
def test_a_directory_with_foreign_files_is_refused_by_name(path: Path, name: str) -> None:
    path.mkdir()
    (path / name).write_text("{}")
    for mode in ("a", "r"):
        with pytest.raises((NotAPODError, MissingPODError), match=str(path)) as caught:
            POD(path, mode=mode)
        assert mode == "r" or caught.type is NotAPODError
    assert files(path) == {name: b"{}"}


def test_an_empty_directory_becomes_a_pod(path: Path, opened: Opener) -> None:
    path.mkdir()
    opened()["a"] = 1
    assert stored(path) == {"a": 1}


def test_a_dangling_link_is_refused_or_followed_but_never_replaced(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "nothing")
    try:
        POD(path).close()
    except (TastypyError, OSError) as error:
        assert str(path) in str(error)
    assert path.is_symlink()


def test_a_link_to_a_directory_is_followed(path: Path, tmp_path: Path, opened: Opener) -> None:
    (tmp_path / "real").mkdir()
    path.symlink_to(tmp_path / "real")
    opened()["a"] = 1
    assert stored(tmp_path / "real") == {"a": 1}


@pytest.mark.parametrize("nonsense", [5, None, b"bytes", ["list"]], ids=repr)
def test_a_path_that_is_no_path_is_a_type_error(nonsense: Any) -> None:
    with pytest.raises(TypeError):
        POD(nonsense)


@pytest.mark.parametrize("nonsense", ["w", "rw", "", "A", None, 1], ids=repr)
def test_a_mode_that_is_neither_is_a_value_error_and_creates_nothing(path: Path, nonsense: Any) -> None:
    with pytest.raises(ValueError, match="mode"):
        POD(path, nonsense)
    assert not path.exists()


def test_reading_nothing_says_so_and_creates_nothing(path: Path) -> None:
    with pytest.raises(MissingPODError, match=str(path)) as caught:
        POD(path, mode="r")
    assert isinstance(caught.value, FileNotFoundError)
    assert not path.exists()
    path.mkdir()
    with pytest.raises(MissingPODError, match=str(path)):
        POD(path, mode="r")
    assert files(path) == {}


@pytest.mark.parametrize(
    "options",
    [{"timeout": "soon"}, {"timeout": -1}, {"timeout": NAN}, {"shard_bytes": 0}, {"shard_bytes": -5}, {"shard_bytes": 1.5},
     {"shard_bytes": "1"}, {"default": 5}, {"gzipped": "yes"}, {"nonsense": 1}],
    ids=repr,
)  # fmt: skip
def test_options_that_make_no_sense_are_named_and_create_nothing(path: Path, options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        POD(path, **options)
    assert not path.exists()


# ---------------------------------------------------------------------------------------------------------- permissions


def as_somebody_else(body: Callable[[], object]) -> int:
    """Run `body` in a forked child as a user without any rights; 0 if it returned."""

    def drop_rights() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        body()

    return in_child(drop_rights)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of .*fork:DeprecationWarning")  # a test runner has threads
def test_a_path_without_permission_is_refused_by_name(public_directory: Path) -> None:
    public_directory.chmod(0o555)

    def body() -> None:
        for place in (public_directory, public_directory / "my.pod", public_directory / "parents" / "my.pod"):
            with pytest.raises(PermissionDeniedError, match=str(place)):
                POD(place)

    assert as_somebody_else(body) == 0
    assert list(public_directory.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of .*fork:DeprecationWarning")  # as above
def test_a_pod_may_be_read_without_permission_to_write(public_directory: Path) -> None:
    path = public_directory / "my.pod"
    with POD[str, int](path) as pod:
        pod["a"] = 1
        pod.sync()
        pod["b"] = 2
        path.chmod(0o555)
        for entry in path.iterdir():
            entry.chmod(0o444)
        before = files(path)

        def body() -> None:
            with POD[str, int](path, mode="r") as reader:
                assert reader == {"a": 1, "b": 2}
                assert reader.refresh() == set()
                assert reader.check() == []
                assert reader.stats().entries == 2
                with pytest.raises(ReadOnlyError):
                    reader["c"] = 3
            with pytest.raises(PermissionDeniedError, match=str(path)) as caught:
                POD(path)
            assert 'mode="r"' in str(caught.value)

        assert as_somebody_else(body) == 0
        assert files(path) == before


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of .*fork:DeprecationWarning")  # as above
def test_a_directory_that_may_not_even_be_searched_is_refused_by_name(public_directory: Path) -> None:
    path = public_directory / "my.pod"
    POD[str, int](path).close()
    path.chmod(0o700 if os.geteuid() == 0 else 0)

    def body() -> None:
        for mode in ("a", "r"):
            with pytest.raises(PermissionDeniedError, match=str(path)):
                POD(path, mode=mode)

    try:
        assert as_somebody_else(body) == 0
    finally:
        path.chmod(0o700)


# -------------------------------------------------------------------------------------------------------- keys, values


@pytest.mark.parametrize(
    ("key", "error"),
    [(b"bytes", UnstorableTypeError), (Text("text"), UnstorableTypeError), (Number.ONE, UnstorableTypeError),
     (frozenset(), UnstorableTypeError), (Pair(1, 2), UnstorableTypeError), (("a", (b"x",)), UnstorableTypeError),
     pytest.param(object(), UnstorableTypeError, id="object"), (dt.date(2020, 1, 1), UnstorableTypeError), (1j, UnstorableTypeError),
     (decimal.Decimal(1), UnstorableTypeError), (NAN, UnstorableValueError), (INFINITY, UnstorableValueError),
     (("a", -INFINITY), UnstorableValueError), (2**64, UnstorableValueError), (-(2**63) - 1, UnstorableValueError),
     ("\ud800", UnstorableValueError), (("\udfff",), UnstorableValueError)],
    ids=lambda key: ascii(key)[:40],
)  # fmt: skip
def test_a_key_that_json_cannot_hold_is_refused_by_name(pod: POD[Any, Any], key: Any, error: type[Exception]) -> None:
    pod["a"] = 1
    before = files(Path(pod.path))
    calls: list[Callable[[], object]] = [
        lambda: pod.__setitem__(key, 1),
        lambda: pod.setdefault(key, 1),
        lambda: pod.update({"b": 2, key: 1}),
        lambda: pod.__ior__({key: 1}),
        lambda: pod.incr(key),
    ]
    for held in (False, True):
        if held:
            pod.hold()
        for call in calls:
            with pytest.raises(error) as caught:
                call()
            assert repr(key) in str(caught.value)
            assert isinstance(caught.value, TypeError if error is UnstorableTypeError else ValueError)
        assert pod == {"a": 1}
        assert pod.dirty() == set()
        assert files(Path(pod.path)) == before


@pytest.mark.parametrize(
    ("value", "place", "error"),
    [
        (NAN, "value is NaN", UnstorableValueError),
        ({"a": [0, 1, 2, NAN]}, "value['a'][3] is NaN", UnstorableValueError),
        ([[-INFINITY]], "value[0][0] is inf", UnstorableValueError),
        ({"a": {"b": 2**64}}, "value['a']['b']", UnstorableValueError),
        ([-(2**63) - 1], "value[0]", UnstorableValueError),
        ({"a": "\ud800"}, "value['a']", UnstorableValueError),
        ({"a": {"\ud800": 1}}, "value['a']", UnstorableValueError),
        ({"a": {1: 2}}, "value['a']", UnstorableTypeError),
        ({None: 2}, "value", UnstorableTypeError),
        ([{("a",): 2}], "value[0]", UnstorableTypeError),
        ({Text("a"): 2}, "value", UnstorableTypeError),
        ([1, (2, b"bytes")], "value[1][1]", UnstorableTypeError),
        ({"a": {1, 2}}, "value['a']", UnstorableTypeError),
        ([Text("text")], "value[0]", UnstorableTypeError),
        ([True, Number.ONE], "value[1]", UnstorableTypeError),
        ([Pair(1, 2)], "value[0]", UnstorableTypeError),
        ([OrderedDict(a=1)], "value[0]", UnstorableTypeError),
        ([Data()], "value[0]", UnstorableTypeError),
        ([uuid.UUID(int=0)], "value[0]", UnstorableTypeError),
        ([dt.datetime(2020, 1, 1, tzinfo=dt.UTC)], "value[0]", UnstorableTypeError),
        ([dt.date(2020, 1, 1)], "value[0]", UnstorableTypeError),
        ([decimal.Decimal(1)], "value[0]", UnstorableTypeError),
        ([1j], "value[0]", UnstorableTypeError),
        pytest.param([object()], "value[0]", UnstorableTypeError, id="object"),
        ([len], "value[0]", UnstorableTypeError),
    ],
    ids=lambda thing: ascii(thing)[:40],
)
def test_a_value_that_json_cannot_hold_is_refused_with_the_place_in_it(
    pod: POD[Any, Any], value: Any, place: str, error: type[Exception]
) -> None:
    pod["a"] = 1
    before = files(Path(pod.path))
    for held in (False, True):
        if held:
            pod.hold()
        for call in (pod.__setitem__, pod.setdefault):
            with pytest.raises(error) as caught:
                call("key", value)
            assert place in str(caught.value)
        with pytest.raises(error) as caught:
            pod.update({"b": 2, "the key": value})
        assert "the key" in str(caught.value)
        assert place.removeprefix("value") in str(caught.value)
        assert pod == {"a": 1}
        assert pod.dirty() == set()
        assert files(Path(pod.path)) == before


def test_a_value_that_holds_itself_or_is_nested_too_deep_is_refused(pod: POD[Any, Any]) -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    for value in (circle, deep):
        with pytest.raises(UnstorableValueError, match=r"nested|itself"):
            pod["key"] = value
    assert pod == stored(pod.path) == {}


def test_everything_that_is_accepted_nested_deeply_is_read_back(pod: POD[Any, Any]) -> None:
    value: Any = 1
    accepted = 0
    for depth in range(1, 400):
        value = [value] if depth % 2 else {"k": value}
        try:
            pod[str(depth)] = value
        except UnstorableValueError:
            break
        accepted = depth
    assert 200 <= accepted < 400
    pod.sync()
    assert stored(pod.path) == pod
    assert len(pod) == accepted


def test_a_default_that_returns_nonsense_is_an_error_with_the_place(opened: Opener) -> None:
    pod = opened(default=lambda thing: thing)
    with pytest.raises((UnstorableTypeError, UnstorableValueError), match=r"value\['a'\]"):
        pod["key"] = {"a": object()}
    assert pod == stored(pod.path) == {}


def test_a_default_that_raises_raises_through(opened: Opener) -> None:
    def refuse(thing: Any) -> Any:
        raise LookupError(f"nothing for {type(thing).__name__}")

    pod = opened(default=refuse)
    with pytest.raises(LookupError, match="nothing for set"):
        pod["key"] = {1}
    assert pod == stored(pod.path) == {}
