"""What checkers know of a POD. Nothing in here runs: an error that is expected is ignored, and an ignore without one is an error."""

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from dataclasses import dataclass
from typing import Any, TypedDict, assert_type

from tastypy import POD, PersistentOrderedDict, Stats


@dataclass
class Result:
    """A value."""

    score: float


class Page(TypedDict):
    """A value that is a dict."""

    url: str


def opening() -> None:
    """The type of the values follows from `type=`; keys are `str` unless that is said otherwise."""
    assert_type(POD("x.pod", type=Result), PersistentOrderedDict[str, Result])
    assert_type(POD("x.pod", "r", type=Page, timeout=3), PersistentOrderedDict[str, Page])
    assert_type(POD("x.pod", type=float), PersistentOrderedDict[str, float])
    assert_type(POD("x.pod", type=list[Result]), PersistentOrderedDict[str, list[Result]])
    assert_type(POD[str, Result]("x.pod", type=Result), PersistentOrderedDict[str, Result])
    assert_type(POD[int, Result]("x.pod", type=Result), PersistentOrderedDict[int, Result])
    assert_type(POD[str, int]("x.pod"), PersistentOrderedDict[str, int])
    assert_type(POD("x.pod"), PersistentOrderedDict[str, Any])
    annotated: POD[int, float] = POD("x.pod")
    assert_type(annotated, PersistentOrderedDict[int, float])
    POD[str, int]("x.pod", type=Result)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    POD("x.pod", type=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    POD(3, type=Result)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def reading(pod: POD[str, Result]) -> None:
    """What is read is of the type."""
    assert_type(pod["a"], Result)
    assert_type(pod["a"].score, float)
    assert_type(pod.get("a"), Result | None)
    assert_type(pod.get("a", 3), Result | int)
    assert_type(list(pod), list[str])
    assert_type(iter(pod), Iterator[str])
    assert_type(dict(pod.items()), dict[str, Result])
    assert_type(list(pod.values()), list[Result])
    views: tuple[KeysView[str], ValuesView[Result], ItemsView[str, Result]] = pod.keys(), pod.values(), pod.items()
    assert_type([(key, value) for key, value in views[2]], list[tuple[str, Result]])
    assert_type(pod.copy(), dict[str, Result])
    assert_type(pod | {"a": Result(1)}, dict[str, Result])
    _ = pod[1]  # type: ignore[index]  # pyright: ignore[reportArgumentType]
    _ = str(pod["a"].missing)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]


def changing(pod: POD[str, Result]) -> None:
    """What is stored has to be of the type."""
    pod["a"] = Result(1)
    pod.update({"a": Result(1)}, b=Result(2))
    pod.update([("a", Result(1))])
    pod.update(a=Result(1))
    pod.update("a")
    pod |= {"a": Result(1)}
    assert_type(pod.setdefault("a", Result(1)), Result)
    assert_type(pod.pop("a"), Result)
    assert_type(pod.pop("a", Result(1)), Result)
    assert_type(pod.pop("a", None), Result | None)
    assert_type(pod.popitem(last=False), tuple[str, Result])
    pod["a"] = 1  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
    pod[1] = Result(1)  # type: ignore[index]  # pyright: ignore[reportArgumentType]
    pod.update({"a": 1})  # type: ignore[dict-item]  # pyright: ignore[reportCallIssue, reportArgumentType]
    pod.update(a=1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    pod.setdefault("a", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def synchronising(pod: POD[str, Result]) -> None:
    """Blocks give what they say."""
    with pod.edit("a") as result:
        assert_type(result, Result)
        result.score = "x"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    with pod.edit("a", default=Result(1)) as result:
        assert_type(result, Result)
    with pod.transaction() as same:
        assert_type(same, PersistentOrderedDict[str, Result])
    with pod.hold() as same:
        assert_type(same, PersistentOrderedDict[str, Result])
    with pod as same:
        assert_type(same, PersistentOrderedDict[str, Result])
    assert_type(pod.refresh(), set[str])
    assert_type(pod.dirty(), set[str])
    assert_type(pod.check(), list[str])
    assert_type(pod.stats(), Stats)
    assert_type((pod.path, pod.mode, pod.closed), tuple[str, str, bool])
    numbers = POD("x.pod", type=int)
    assert_type(numbers.incr("a"), int)
    pod.edit("a", default=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
