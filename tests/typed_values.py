"""Types of values for tests, in a module that other processes can import, and programs that use them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict

from tastypy import POD


@dataclass
class Step:
    """A part of a result."""

    name: str
    seconds: float = 0.0


@dataclass
class Result:
    """A value with one of everything."""

    score: float
    label: str = "none"
    steps: list[Step] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    path: tuple[str, ...] = ()
    state: Literal["open", "done"] = "open"
    best: Step | None = None
    number: int | float | str = 0
    before: Result | None = None
    more: Any = None


@dataclass
class Positive:
    """A value that checks itself."""

    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            message = "it is negative"
            raise ValueError(message)


class Page(TypedDict):
    """A value that is a dict."""

    url: str
    status: NotRequired[int]
    links: NotRequired[list[Page]]


GOOD = Result(
    1.5,
    "good",
    [Step("a", 1), Step("b")],
    {"x": 1},
    (3, 4),
    ("p", "q"),
    "done",
    Step("c"),
    "n",
    Result(2),
    {"any": [1]},
)


def add_one(pod: POD[str, Result]) -> Result:
    """For another process: edit, and return what is there then."""
    with pod.edit("a") as result:
        result.score += 1
    return pod["a"]
