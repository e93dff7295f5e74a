"""`POD(path, type=...)`: objects in memory, plain JSON of their fields in files, and nothing of another type in either."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from helpers import Opener, exactly, files, stored
from typed_values import GOOD, Page, Positive, Result, Step

from tastypy import POD, TastypyError, Tracker, UnstorableTypeError, UnstorableValueError, WrongTypeError

BAD: Any = [
    pytest.param(Result("x"), "field 'score' must be float, not 'x'", id="a field"),  # type: ignore[arg-type]  # that is the point
    pytest.param(Result(1.5, steps=[Step("a"), Step(1)]), r"field 'steps\[1\].name' must be str, not 1", id="deep"),  # type: ignore[arg-type]  # as above
    pytest.param({"score": 1.5}, "must be Result, not {'score': 1.5}", id="a dict"),
    pytest.param(None, "must be Result, not None", id="None"),
]


@dataclass
class Seen:
    """One that adds to what it is given."""

    tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.tags:
            self.tags.append("seen")


@dataclass
class Link:
    """One that holds another of its kind."""

    number: int = 0
    next: Link | None = None

    @classmethod
    def chain(cls, length: int) -> Link:
        """Return so many, each in the one before it."""
        made = cls()
        for number in range(1, length):
            made = cls(number, made)
        return made


@dataclass
class Numbers:
    """One whose fields a dict may have as well."""

    a: list[int]


# ---------------------------------------------------------------------------------------------- what is stored and read


def test_an_object_is_stored_as_a_plain_json_object_and_read_as_an_equal_one(
    results: POD[str, Result], opened: Opener
) -> None:
    results["a"] = GOOD
    assert results["a"] == GOOD
    assert stored(results.path) == {"a": json.loads(json.dumps(asdict(GOOD)))}
    assert stored(results.path)["a"]["size"] == [3, 4]
    again = opened(type=Result)
    assert again["a"] == GOOD
    results.sync()
    assert opened(type=Result, mode="r")["a"] == GOOD


def test_a_typed_dict_is_checked_and_stays_a_dict(opened: Opener) -> None:
    pages = opened(type=Page)
    page: Page = {"url": "/", "links": [{"url": "/a", "status": 200}]}
    pages["a"] = page
    assert exactly(opened(type=Page)) == exactly({"a": page})
    with pytest.raises(WrongTypeError, match=r"the value of 'b': field 'links\[0\].url' is missing"):
        pages["b"] = {"url": "/", "links": [{"status": 200}]}
    assert list(pages) == ["a"]


def test_a_type_may_be_less_than_a_class_with_fields(opened: Opener) -> None:
    scores = opened(type=float)
    scores["a"] = 0.5
    assert scores.incr("a", 1.5) == 2.0
    with pytest.raises(WrongTypeError, match="the value of 'a' must be float, not 'x'"):
        scores["a"] = "x"
    lists = opened(Path(scores.path).with_name("lists.pod"), type=list[Step])
    lists["a"] = [Step("a")]
    assert lists["a"] == [Step("a")]


def test_what_is_stored_is_a_copy(results: POD[str, Result]) -> None:
    mine = Result(1.5, steps=[Step("a")])
    results["a"] = mine
    mine.score = 2.5
    mine.steps.append(Step("b"))
    assert results["a"] == Result(1.5, steps=[Step("a")])
    assert results.setdefault("b", mine) == mine
    assert results.setdefault("b", mine) is not mine


def test_every_mutator_takes_and_gives_objects(results: POD[str, Result], opened: Opener) -> None:
    results.update({"a": Result(1)}, b=Result(2))
    results |= {"c": Result(3)}
    results.setdefault("d", Result(4))
    with results.transaction():
        results["e"] = Result(5)
    with results.edit("a") as first:
        first.score = 10
    with results.edit("f", default=Result(6)) as last:
        last.label = "new"
    assert results.pop("b") == Result(2)
    assert results.popitem(last=False) == ("a", Result(10))
    results.move_to_end("c")
    expected = {"d": Result(4), "e": Result(5), "f": Result(6, "new"), "c": Result(3)}
    assert list(results.items()) == list(expected.items())
    assert list(opened(type=Result).items()) == list(expected.items())
    assert results.copy() == expected
    results.clear()
    assert opened(type=Result) == {}


@pytest.mark.parametrize("call", ["update", "sync_key"])
def test_an_object_that_is_mutated_in_place_is_committed_by_its_key_and_stays_the_same_object(
    results: POD[str, Result], untyped: POD[str, Any], call: str
) -> None:
    results["a"] = Result(1)
    mine = results["a"]
    for score in (2, 3):
        mine.score = score
        getattr(results, call)("a")
        assert results["a"] is mine
        untyped.refresh()
        assert untyped["a"]["score"] == score


@pytest.mark.parametrize("held", [False, True])
def test_what_it_is_mutated_into_is_made_what_the_file_has(
    results: POD[str, Result], opened: Opener, held: bool
) -> None:
    results["a"] = Result(1)
    if held:
        results.hold()
        results["a"] = Result(1)
    results["a"].more = (1, 2)
    if held:
        results.unhold()
    else:
        results.update("a")
    assert exactly(results) == exactly(opened(type=Result)) == exactly({"a": Result(1, more=[1, 2])})


def test_an_object_that_is_mutated_into_what_its_class_refuses_is_not_stored(opened: Opener) -> None:
    pod = opened(type=Positive)
    pod["a"] = Positive(1)
    pod["a"].number = -1
    with pytest.raises(WrongTypeError, match="the value of 'a' is not what Positive takes: ValueError: it is negative"):
        pod.update("a")
    assert opened(type=Positive) == {"a": Positive(1)}


def test_a_class_that_changes_a_field_in_place_is_refused_before_memory_and_disk_differ(opened: Opener) -> None:
    pod = opened(type=Seen)
    with pytest.raises(
        WrongTypeError, match=r"'tags' comes back as \['x', 'seen', 'seen'\], not \['x', 'seen'\]: Seen"
    ):
        pod["b"] = Seen(["x"])
    pod["a"] = Seen()
    pod["a"].tags.append("x")
    with pytest.raises(WrongTypeError, match=r"'tags' comes back as \['x', 'seen'\], not \['x'\]: Seen changes it"):
        pod.update("a")
    assert opened(type=Seen) == {"a": Seen()}


def test_a_value_that_was_taken_can_be_read_from_a_deep_stack(opened: Opener) -> None:
    pod = opened(type=Link)
    with pytest.raises(UnstorableValueError, match="the value of 'a' is nested more than 60 levels deep"):
        pod["a"] = Link.chain(61)
    assert pod == {}
    pod["a"] = Link.chain(60)

    def deeper(calls: int) -> dict[str, Any]:
        return deeper(calls - 1) if calls else dict(opened(type=Link))

    assert deeper(400) == {"a": Link.chain(60)}
    opened()["a"] = asdict(Link.chain(100))
    with pytest.raises(
        WrongTypeError, match=r"my.pod: the value of 'a' is nested too deep for .* stack here: (?!.*stored)"
    ):
        deeper(600)
    assert opened(type=Link)["a"] == Link.chain(100)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Numbers | dict, {"a": (1, 2)}),
        (Numbers | Any, {"a": (1, 2)}),
        (Numbers | dict, {"a": {1, 2}}),
        (dict[str, Numbers | dict], {"inner": {"a": (1, 2)}}),  # type: ignore[type-arg]  # whatever is in it
    ],
)
def test_what_json_makes_another_member_of_a_union_is_refused(opened: Opener, kind: Any, value: Any) -> None:
    pod = opened(type=kind, default=list)
    with pytest.raises(WrongTypeError, match=r"(Any|dict\[str, Any\]), and would come back as Numbers"):
        pod["a"] = value
    pod["a"] = {}
    pod["a"].update(value)
    with pytest.raises(WrongTypeError, match="would come back as Numbers"):
        pod.update("a")
    assert opened(type=kind, default=list) == {"a": {}}


def test_default_converts_what_stands_where_the_type_leaves_it_open(opened: Opener) -> None:
    results = opened(type=Result, default=sorted)
    results["a"] = Result(1, more={2, 1})
    assert results["a"].more == [1, 2]
    with pytest.raises(WrongTypeError, match="'counts'"):
        results["b"] = Result(1, counts={2, 1})  # type: ignore[arg-type]  # that is the point


# ------------------------------------------------------------------------------------------------------ what is refused

WAYS: dict[str, Callable[[POD[str, Any], Any], object]] = {
    "assignment": lambda pod, value: pod.__setitem__("a", value),
    "update": lambda pod, value: pod.update({"new": Result(1), "a": value}),
    "|=": lambda pod, value: pod.__ior__({"a": value}),
    "setdefault": lambda pod, value: pod.setdefault("a", value),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("value", "message"), BAD)
def test_a_value_of_another_type_is_refused_by_key_and_field_and_nothing_changes(
    results: POD[str, Any], way: str, value: Any, message: str
) -> None:
    results["b"] = GOOD
    before = files(Path(results.path))
    with pytest.raises(WrongTypeError, match=f"^the value of 'a':? {message}$") as caught:
        WAYS[way](results, value)
    assert isinstance(caught.value, TastypyError)
    assert isinstance(caught.value, TypeError)
    assert caught.value.path == results.path
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert dict(results.items()) == {"b": GOOD}
    assert files(Path(results.path)) == before


def test_what_json_lacks_is_refused_as_ever(results: POD[str, Result]) -> None:
    with pytest.raises(UnstorableValueError, match=r"the value of 'a'\['score'\] is NaN"):
        results["a"] = Result(float("nan"))
    with pytest.raises(UnstorableTypeError, match=r"the value of 'a'\['more'\] is of type builtins.set"):
        results["a"] = Result(1, more={1})
    endless = Result(1)
    endless.before = endless
    with pytest.raises(UnstorableValueError, match="the value of 'a' is nested too deep, or holds itself"):
        results["a"] = endless
    assert results == {}


def test_an_edit_that_leaves_a_wrong_type_changes_nothing(results: POD[str, Result], untyped: POD[str, Any]) -> None:
    results["a"] = Result(1, steps=[Step("a")])
    with pytest.raises(WrongTypeError, match=r"the value of 'a': field 'steps\[0\].seconds' must be float, not 'x'"):  # noqa: SIM117 - it is the end of the block that raises
        with results.edit("a") as result:
            result.steps[0].seconds = "x"  # type: ignore[assignment]  # that is the point
    assert results["a"] == Result(1, steps=[Step("a")])
    untyped.refresh()
    assert untyped["a"]["steps"] == [{"name": "a", "seconds": 0.0}]


def test_a_transaction_is_rolled_back_to_objects(results: POD[str, Result]) -> None:
    results.update(a=Result(1), b=Result(2))
    with pytest.raises(LookupError), results.transaction():
        results["a"] = Result(3)
        del results["b"]
        results["c"] = Result(4)
        with pytest.raises(WrongTypeError):
            results["d"] = 4  # type: ignore[assignment]  # that is the point
        raise LookupError
    assert list(results.items()) == [("a", Result(1)), ("b", Result(2))]


def test_a_held_object_that_becomes_wrong_stays_held_and_the_others_are_written(
    results: POD[str, Result], untyped: POD[str, Any]
) -> None:
    results.hold()
    results.update(a=Result(1), b=Result(2))
    results["a"].score = "x"  # type: ignore[assignment]  # that is the point
    with pytest.raises(WrongTypeError, match="the value of 'a': field 'score' must be float, not 'x'"):
        results.sync()
    assert results.dirty() == {"a"}
    untyped.refresh()
    assert list(untyped) == ["b"]
    results["a"].score = 3
    results.unhold()
    untyped.refresh()
    assert untyped["a"]["score"] == 3


def test_revert_brings_back_objects(results: POD[str, Result]) -> None:
    results["a"] = Result(1)
    with results.hold():
        results["a"] = Result(2)
        results["b"] = Result(3)
        results.revert()
    assert results == {"a": Result(1)}


@pytest.mark.parametrize("kind", [set, dict[int, str], 5, list[bytes]], ids=str)
def test_a_type_that_json_cannot_hold_is_refused_before_anything_is_made(path: Path, kind: Any) -> None:
    with pytest.raises(TypeError, match=r"^type=.* cannot be the type of a POD's values: .* JSON cannot hold"):
        POD(path, type=kind)
    assert not path.exists()


def test_a_tracker_has_no_type(path: Path) -> None:
    options: dict[str, Any] = {"type": Result}
    with pytest.raises(TypeError, match="a tracker has no type=: its values are the entries of tasks"):
        Tracker(path, **options)
    assert not path.exists()
    Tracker(path, **{**options, "type": None}).close()


def test_an_alias_that_holds_itself_is_refused_by_what_it_is(path: Path) -> None:
    class TypeAliasType:
        """What `type Nested = int | list[Nested]` makes, which Python has from 3.12 on."""

        @property
        def __value__(self) -> Any:
            return int | list[self]  # type: ignore[valid-type]  # it is what `type` would make

    nested: Any = TypeAliasType()
    with pytest.raises(TypeError, match="a `type` alias in it holds itself"):
        POD(path, type=nested)
    assert not path.exists()
