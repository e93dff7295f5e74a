"""Keys and values and their JSON: what is encoded reads back exactly, what would not is refused with its place."""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
import uuid
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tastypy.errors import TastypyError, UnstorableTypeError, UnstorableValueError
from tastypy.values import decode_key, decode_keys, encode_items, encode_key, encode_value

TEXT = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["#", "#1", "##", '"', "\\", '":', "\n"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
KEYS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


class Colour(enum.IntEnum):
    """Equal to an int, and none."""

    RED = 1


class Text(str):
    """Equal to a str, and none."""

    __slots__ = ()


@dataclass
class Point:
    """What orjson would write on its own."""

    x: int = 0


Pair = namedtuple("Pair", "one other")  # noqa: PYI024 - what users have


# ---------------------------------------------------------------------------------------------------------------- keys


@given(key=KEYS)
def test_a_key_is_a_json_string_that_reads_back_exactly(key: Any) -> None:
    """The type included, and -0.0."""
    name = json.loads(encode_key(key))
    assert type(name) is str
    assert repr(decode_key(name)) == repr(key)


@given(one=KEYS, other=KEYS)
def test_keys_that_are_spelled_differently_have_different_names(one: Any, other: Any) -> None:
    assert (encode_key(one) == encode_key(other)) == (repr(one) == repr(other))


@given(key=TEXT)
def test_a_text_is_its_own_name_unless_it_looks_like_another_key(key: str) -> None:
    name = orjson.loads(encode_key(key))
    assert (name == key) == (not key.startswith("#"))


@given(entries=st.dictionaries(KEYS, st.integers(), max_size=6))
def test_decoded_keys_keep_their_order_and_values(entries: dict[Any, int]) -> None:
    names = {orjson.loads(encode_key(key)): value for key, value in entries.items()}
    assert repr(decode_keys(names)) == repr(entries)


def nested(depth: int) -> Any:
    """A tuple in a tuple, so many times."""
    key: Any = ()
    for _ in range(depth):
        key = (key,)
    return key


@pytest.mark.parametrize(
    ("key", "error", "reason"),
    [
        (b"bytes", UnstorableTypeError, "bytes"),
        (Text("text"), UnstorableTypeError, "Text"),
        (Colour.RED, UnstorableTypeError, "Colour"),
        (Pair(1, 2), UnstorableTypeError, "Pair"),
        ((1, frozenset()), UnstorableTypeError, "frozenset"),
        (("a", (Text("inside"),)), UnstorableTypeError, "Text"),
        (dt.date(2020, 1, 1), UnstorableTypeError, "date"),
        (math.nan, UnstorableValueError, "NaN"),
        ((0, -math.inf), UnstorableValueError, "infinite"),
        (2**64, UnstorableValueError, "64 bits"),
        (-(2**63) - 1, UnstorableValueError, "64 bits"),
        ("\ud800", UnstorableValueError, "surrogate"),
        (("#\udfff",), UnstorableValueError, "surrogate"),
        ("#\udfff", UnstorableValueError, "surrogate"),
        (nested(300), UnstorableValueError, "deep"),
    ],
    ids=repr,
)
def test_a_key_that_would_not_read_back_is_refused_by_name(key: Any, error: type[TastypyError], reason: str) -> None:
    with pytest.raises(error, match=reason) as caught:
        encode_key(key)
    assert repr(key) in str(caught.value)


def test_the_deepest_keys_are_stored_or_refused_never_anything_else() -> None:
    stored = 0
    for depth in range(240, 265):
        try:
            name = encode_key(nested(depth))
        except UnstorableValueError:
            continue
        stored += 1
        assert decode_key(orjson.loads(name)) == nested(depth)
    assert stored > 5


# -------------------------------------------------------------------------------------------------------------- values


@given(value=VALUES)
def test_a_value_reads_back_exactly_and_the_copy_is_what_reads_back(value: Any) -> None:
    text, copy = encode_value(value)
    assert repr(json.loads(text)) == repr(copy) == repr(value)
    assert b"\n" not in text


def as_lists(value: Any) -> Any:
    """The value with its tuples as lists."""
    if isinstance(value, tuple | list):
        return [as_lists(part) for part in value]
    return {key: as_lists(part) for key, part in value.items()} if isinstance(value, dict) else value


@given(value=st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6))
def test_tuples_inside_of_values_come_back_as_lists(value: Any) -> None:
    text, copy = encode_value({"a": value})
    assert repr(copy) == repr({"a": as_lists(value)}) == repr(json.loads(text))


def test_the_copy_shares_nothing_that_can_change_with_the_value() -> None:
    value: dict[str, Any] = {"a": [{"b": []}]}
    _, copy = encode_value(value)
    value["a"][0]["b"].append("later")
    value["c"] = 1
    assert copy == {"a": [{"b": []}]}


REFUSED: list[tuple[Any, type[TastypyError], str]] = [
    ({"a": [1, 2, 3, math.nan]}, UnstorableValueError, "value['a'][3] is NaN"),
    ([math.inf], UnstorableValueError, "value[0] is infinite"),
    (2**64, UnstorableValueError, "value is an integer beyond 64 bits"),
    ([-(2**63) - 1], UnstorableValueError, "value[0] is an integer beyond 64 bits"),
    ("\ud800", UnstorableValueError, "value has a lone surrogate"),
    ({"a": {"\udc00": 1}}, UnstorableValueError, "value['a'] has the key '\\udc00'"),
    ({"a": {1: 2}}, UnstorableTypeError, "value['a'] has the key 1"),
    ({"a": ({True: 2},)}, UnstorableTypeError, "value['a'][0] has the key True"),
    ({Text("key"): 1}, UnstorableTypeError, "value has the key 'key'"),
    ([Text("text")], UnstorableTypeError, "value[0] is of type"),
    (Colour.RED, UnstorableTypeError, "value is of type"),
    ({"a": Colour.RED}, UnstorableTypeError, "value['a'] is of type"),
    (OrderedDict(a=1), UnstorableTypeError, "value is of type collections.OrderedDict"),
    (Pair(1, 2), UnstorableTypeError, "value is of type"),
    ([Point()], UnstorableTypeError, "value[0] is of type"),
    ([uuid.UUID(int=1)], UnstorableTypeError, "value[0] is of type uuid.UUID"),
    (dt.datetime(2020, 1, 1, tzinfo=dt.UTC), UnstorableTypeError, "value is of type datetime.datetime"),
    ({1, 2}, UnstorableTypeError, "value is of type builtins.set"),
    ([b"bytes"], UnstorableTypeError, "value[0] is of type builtins.bytes"),
]


@pytest.mark.parametrize(("value", "error", "place"), REFUSED, ids=[repr(value) for value, _, _ in REFUSED])
def test_a_value_that_would_come_back_different_is_refused_with_its_place(
    value: Any, error: type[TastypyError], place: str
) -> None:
    """Equal is not enough: an IntEnum is equal to the int that it would come back as."""
    with pytest.raises(error) as caught:
        encode_value(value)
    assert str(caught.value).startswith(place)
    with pytest.raises(error) as caught:
        encode_items({"fine": 1, "key": value})
    assert str(caught.value).startswith(place.replace("value", "the value of 'key'", 1))


def test_a_value_may_be_nested_as_deep_as_promised_and_one_that_holds_itself_is_refused() -> None:
    value: Any = 0
    for _ in range(250):
        value = [value]
    assert encode_value(value)[1] == value
    for _ in range(10):
        value = [value]
    with pytest.raises(UnstorableValueError, match="deep"):
        encode_value(value)
    loop: list[Any] = []
    loop.append({"a": loop})
    with pytest.raises(UnstorableValueError, match="itself"):
        encode_value(loop)


# --------------------------------------------------------------------------------------------------- many items at once


@given(items=st.dictionaries(KEYS, VALUES, max_size=6))
def test_many_items_are_encoded_as_each_alone(items: dict[Any, Any]) -> None:
    text, copy = encode_items(items)
    assert repr(copy) == repr(items)
    assert repr(decode_keys(orjson.loads(text))) == repr(items)
    parts = [encode_key(key) + b":" + encode_value(value)[0] for key, value in items.items()]
    assert text == b"{" + b",".join(parts) + b"}"


def test_an_unstorable_key_among_many_items_is_refused_by_name() -> None:
    for key in (b"key", Text("key"), math.nan, "\ud800"):
        with pytest.raises((UnstorableTypeError, UnstorableValueError), match="key"):
            encode_items({"fine": 1, key: 2})


# ------------------------------------------------------------------------------------------------------------- default


def test_what_default_returns_is_what_is_stored() -> None:
    def default(thing: Any) -> Any:
        return sorted(thing) if isinstance(thing, set) else (thing.x, "point")

    text, copy = encode_value({"a": [{3, 1}, Point(7)], "b": (1,)}, default)
    assert text == b'{"a":[[1,3],[7,"point"]],"b":[1]}'
    assert copy == {"a": [[1, 3], [7, "point"]], "b": [1]}


def test_default_is_called_with_what_json_lacks_only() -> None:
    asked: list[Any] = []

    def default(thing: Any) -> Any:
        asked.append(thing)
        return None

    assert encode_value([1, "a", None, {"b": 2.5}, (True,)], default)[1] == [1, "a", None, {"b": 2.5}, [True]]
    assert asked == []
    assert encode_value([1, Colour.RED], default)[1] == [1, None]
    assert asked == [Colour.RED]


def test_default_may_return_what_default_has_to_convert() -> None:
    assert encode_value(Point(3), lambda thing: {thing.x} if isinstance(thing, Point) else list(thing))[1] == [3]


@pytest.mark.parametrize("answer", [object(), [object()], {"a": {1}}], ids=["itself", "in a list", "in a dict"])
def test_a_default_that_keeps_returning_what_json_lacks_is_an_error(answer: Any) -> None:
    with pytest.raises(UnstorableValueError, match=r"value.*default= keeps returning"):
        encode_value(object(), lambda _: answer)


@pytest.mark.parametrize("answer", [math.nan, 2**70, {1: 2}, "\ud800"], ids=repr)
def test_what_default_returns_is_held_to_the_same_rules(answer: Any) -> None:
    with pytest.raises((UnstorableValueError, UnstorableTypeError), match=r"^value\[0\]"):
        encode_value([object()], lambda _: answer)


def test_default_does_not_make_a_value_storable_that_json_has_no_content_for() -> None:
    """It is asked about types, as in `json.dumps`; NaN is a float."""
    with pytest.raises(UnstorableValueError, match="NaN"):
        encode_value([math.nan], lambda _: 0)
