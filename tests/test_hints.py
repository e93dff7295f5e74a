"""Type hints that check: what they take comes back equal and of the same types, what they refuse is named."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, NamedTuple, NewType, NotRequired, Required, TypedDict

import pytest

from tastypy.hints import compile_hint, name_of
from tastypy.kinds import Mismatch

UserId = NewType("UserId", int)
T = typing.TypeVar("T")


class Colour(enum.Enum):
    """JSON has no enums."""

    RED = "red"


class Text(str):
    """A text that would come back as a `str`."""

    __slots__ = ()


class Pair(NamedTuple):
    """A tuple that would come back as a list."""

    left: int


@dataclass
class Point:
    """A plain dataclass."""

    x: int
    y: float = 0.5


@dataclass
class Place:
    """Another one, with the same fields."""

    x: int
    y: float = 0.5


@dataclass
class Longer(Point):
    """A subclass."""

    z: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Frozen:
    """All that a dataclass can be told."""

    name: Final[str] = "frozen"
    points: tuple[Point, ...] = ()
    count: int = field(init=False, default=0)


@dataclass(eq=False)
class Unequal:
    """One that compares by identity."""

    x: int


@dataclass
class Summed:
    """One with a field that is no parameter."""

    parts: list[int]
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = sum(self.parts)


@dataclass
class Positive:
    """One that checks what it is given."""

    x: int

    def __post_init__(self) -> None:
        if self.x < 0:
            message = "negative"
            raise ValueError(message)


@dataclass
class Halved:
    """One that changes what it is given."""

    x: int

    def __post_init__(self) -> None:
        self.x //= 2


@dataclass
class Sorting:
    """One that sorts in place."""

    parts: Any

    def __post_init__(self) -> None:
        self.parts.sort()


@dataclass
class Floats:
    """One that converts what is in a field."""

    parts: list[float]

    def __post_init__(self) -> None:
        self.parts = [float(part) for part in self.parts]


@dataclass
class Guarded:
    """One with a `__setattr__` of its own."""

    parts: list[int]

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, [part for part in value if part])


@dataclass(init=False)
class ByHand:
    """One with an `__init__` of its own."""

    parts: list[int]

    def __init__(self, parts: list[int]) -> None:
        self.parts = parts
        parts.append(0)


@dataclass
class Incomparable:
    """One that raises when it is compared."""

    x: int

    def __eq__(self, _: object) -> bool:
        raise ArithmeticError

    __hash__ = None  # type: ignore[assignment]  # as dataclass has it, for what can be changed


@dataclass
class Outer:
    """One that holds such a one, and looks at it."""

    inner: Incomparable

    def __post_init__(self) -> None:
        self.inner = Incomparable(self.inner.x)


@dataclass
class Renewing:
    """One that makes it another."""

    inner: Incomparable

    def __post_init__(self) -> None:
        self.inner = Incomparable(self.inner.x + 1)


@dataclass
class Tree:
    """One that holds others of its kind."""

    children: list[Tree] = field(default_factory=list)
    parent: Tree | None = None


class Movie(TypedDict):
    """A TypedDict."""

    title: str
    year: NotRequired[int]


class Partly(TypedDict, total=False):
    """One whose keys need not be there."""

    id: Required[int]
    name: str


class Whole(Partly):
    """One whose bases differ in that."""

    size: int


@dataclass
class WithInit:
    """One that does not keep all that it is given."""

    x: dataclasses.InitVar[int]


@dataclass
class WithDate:
    """One that JSON cannot hold."""

    inner: list[dict[str, dt.date]]


@dataclass
class Unresolvable:
    """One that names what is not there."""

    x: Nowhere  # type: ignore[name-defined]  # noqa: F821 - that is the point


@dataclass
class Holder:
    """One that has such a field."""

    x: Unresolvable


def same(one: Any, other: Any) -> bool:
    """Whether they are equal, and of the same types all the way."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, part.name), getattr(other, part.name)) for part in dataclasses.fields(one))
    return bool(one == other)


@pytest.mark.parametrize(
    ("hint", "value", "plain"),
    [
        (int, 1, 1),
        (float, 1.5, 1.5),
        (float, 1, 1),
        (bool, True, True),
        (None, None, None),
        (Any, {"a": [1]}, {"a": [1]}),
        (UserId, 3, 3),
        (Annotated[str, "whatever"], "a", "a"),
        (Literal["a", 1], 1, 1),
        (str | None, None, None),
        (int | list[str], ["a"], ["a"]),
        (list[int], [1, 2], [1, 2]),
        (list, [1, "a"], [1, "a"]),
        (dict[str, float], {"a": 1.5}, {"a": 1.5}),
        (dict, {"a": 1}, {"a": 1}),
        (tuple[int, str], (1, "a"), [1, "a"]),
        (tuple[int, ...], (1, 2, 3), [1, 2, 3]),
        (tuple[()], (), []),
        (tuple, (1, "a"), [1, "a"]),
        (Point, Point(1), {"x": 1, "y": 0.5}),
        (Frozen, Frozen(points=(Point(1),)), {"name": "frozen", "points": [{"x": 1, "y": 0.5}], "count": 0}),
        (Unequal, Unequal(1), {"x": 1}),
        (Summed, Summed([1, 2]), {"parts": [1, 2], "total": 3}),
        (Tree, Tree([Tree()], Tree()), None),
        (Point | Movie, {"title": "a"}, {"title": "a"}),
        (Movie, {"title": "a", "year": 1}, {"title": "a", "year": 1}),
        (Whole, {"id": 1, "size": 2}, {"id": 1, "size": 2}),
        (list[int] | tuple[str, ...], ("a",), ["a"]),
    ],
    ids=lambda value: name_of(value) if not isinstance(value, dict | list) else "",
)
def test_what_fits_comes_back_equal_and_of_the_same_types(hint: Any, value: Any, plain: Any) -> None:
    compiled = compile_hint(hint)
    dumped = compiled.dump(value)
    assert plain is None or same(dumped, plain)
    assert same(compiled.load(dumped), value)


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (int, True, " must be int, not True"),
        (int, 1.0, " must be int, not 1.0"),
        (bool, 1, " must be bool, not 1"),
        (str, Text("a"), " must be str, not 'a'"),
        (Literal["a", 1], True, " must be 'a' or 1, not True"),
        (Literal["a", 1], [], " must be 'a' or 1, not []"),
        (int | str | None, 1.5, " must be int | str | None, not 1.5"),
        (list[int], (1,), " must be list[int], not (1,)"),
        (list[int], [1, "a"], ": field '[1]' must be int, not 'a'"),
        (dict[str, list[int]], {"a": [1, None]}, ": field \"['a'][1]\" must be int, not None"),
        (dict[str, int], {1: 1}, " has the key 1, which must be str"),
        (tuple[int, str], (1,), " must be tuple[int, str], not (1,)"),
        (tuple[int, str], (1, 2), ": field '[1]' must be str, not 2"),
        (tuple[int, ...], (1, "a"), ": field '[1]' must be int, not 'a'"),
        (Point, Longer(1), " must be Point, not Longer(x=1, y=0.5, z=0)"),
        (Point, {"x": 1}, " must be Point, not {'x': 1}"),
        (Point, Point("a"), ": field 'x' must be int, not 'a'"),  # type: ignore[arg-type]  # that is the point
        (Frozen, Frozen(points=(Point(1), Point(1, "a"))), ": field 'points[1].y' must be float, not 'a'"),  # type: ignore[arg-type]  # as above
        (Movie, {}, ": field 'title' is missing"),
        (Movie, {"title": "a", "name": 1}, ": field 'name' is unknown: Movie has no such field"),
        (Movie, {"title": "a", 1: 1}, ": field '[1]' is unknown: Movie has no such field"),
        (Partly, {"name": "a"}, ": field 'id' is missing"),
        (Whole, {"id": 1}, ": field 'size' is missing"),
        (int, "a" * 100, f" must be int, not '{'a' * 79}... (str)"),
    ],
)
def test_what_does_not_fit_is_named(hint: Any, value: Any, message: str) -> None:
    with pytest.raises(Mismatch) as caught:
        compile_hint(hint).dump(value)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("hint", "plain", "message"),
    [
        (Point, [1], " must be Point, not [1]"),
        (Point, {"y": 1.5}, ": field 'x' is missing"),
        (Point, {"x": 1, "z": 1}, ": field 'z' is unknown: Point has no such field"),
        (list[Point], [{"x": 1}, {"x": "a"}], ": field '[1].x' must be int, not 'a'"),
        (Point | None, {"x": "a"}, ": field 'x' must be int, not 'a'"),
        (tuple[int, str], [1], " must be tuple[int, str], not [1]"),
        (tuple[int, ...], {}, " must be tuple[int, ...], not {}"),
        (Positive, {"x": -1}, " is not what Positive takes: ValueError: negative"),
    ],
)
def test_what_a_file_has_and_does_not_fit_is_named(hint: Any, plain: Any, message: str) -> None:
    with pytest.raises(Mismatch) as caught:
        compile_hint(hint).load(plain)
    assert str(caught.value) == message


def test_fields_that_a_file_lacks_have_their_defaults() -> None:
    assert compile_hint(Point).load({"x": 1}) == Point(1)
    assert compile_hint(Tree).load({}) == Tree()


def test_a_dataclass_that_changes_what_it_is_given_is_told() -> None:
    compiled = compile_hint(Halved)
    with pytest.raises(Mismatch, match=r": field 'x' comes back as 2, not 5: Halved changes it"):
        compiled.load(compiled.dump(Halved(10)))


@pytest.mark.parametrize(
    ("kind", "plain", "message"),
    [
        (Sorting, {"parts": [2, 1]}, "'parts' comes back as [1, 2], not [2, 1]"),
        (Floats, {"parts": [1]}, "'parts' comes back as [1.0], not [1]"),
        (Guarded, {"parts": [1, 0]}, "'parts' comes back as [1], not [1, 0]"),
        (ByHand, {"parts": [1]}, "'parts' comes back as [1, 0], not [1]"),
    ],
)
def test_a_field_that_a_class_changes_in_place_is_told(kind: type, plain: Any, message: str) -> None:
    compiled = compile_hint(kind)
    with pytest.raises(Mismatch) as caught:
        compiled.load(plain)
    assert str(caught.value) == f": field {message}: {kind.__name__} changes it"


def test_a_class_whose_code_changes_nothing_in_the_end_is_taken() -> None:
    for value in (Sorting([1, 2]), Floats([1.0]), Guarded([2]), Positive(1)):
        compiled = compile_hint(type(value))
        assert same(compiled.load(compiled.dump(value)), value)


def test_what_raises_when_it_is_compared_is_no_matter() -> None:
    compiled = compile_hint(Outer)
    assert compiled.load({"inner": {"x": 1}}).inner.x == 1
    with pytest.raises(Mismatch, match=r"field 'inner' comes back as .*: Renewing changes it"):
        compile_hint(Renewing).load({"inner": {"x": 1}})


def test_a_deleted_field_is_told() -> None:
    point = Point(1)
    del point.x
    with pytest.raises(Mismatch, match="field 'x' is missing"):
        compile_hint(Point).dump(point)


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (Point | Place, Place(1), " is Place, and would come back as Point: Place(x=1, y=0.5)"),
        (list[Any] | tuple[int, ...], (1,), " is tuple[int, ...], and would come back as list[Any]: (1,)"),
    ],
)
def test_what_a_union_would_give_back_as_something_else_is_told(hint: Any, value: Any, message: str) -> None:
    with pytest.raises(Mismatch) as caught:
        compile_hint(hint).dump(value)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("hint", "message"),
    [
        (WithDate, r"field 'inner\[\]\[\]' is date, whose values JSON cannot hold exactly"),
        (WithInit, "field 'x' is an InitVar"),
        (Unresolvable, "the annotations of Unresolvable cannot be resolved .*Nowhere.*top of the module"),
        (Holder, "the annotations of Unresolvable of field 'x' cannot be resolved"),
        (set, "its values JSON cannot hold"),
        (Colour, "its values"),
        (Pair, "its values"),
        (Text, "its values"),
        (dict[int, str], "its values"),
        (Literal[Colour.RED], "its values"),
        (T, "its values"),
        ("Point", "its values"),
        (5, "its values"),
        (tuple[int, set[int]], r"field '\[1\]' is set\[int\]"),
        (Callable[[], int], "its values"),
    ],
)
def test_a_hint_that_json_cannot_hold_is_refused_at_once(hint: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        compile_hint(hint)


def test_other_kinds_of_classes_can_be_added() -> None:
    def texts(hint: Any) -> Any:
        return compile_hint(str) if hint is Text else None

    assert compile_hint(list[Text], texts).dump(["a"]) == ["a"]
