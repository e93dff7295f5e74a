"""Something that happens at each point where a signal could be handled in the package's code, one after the other.

CPython handles signals at the start of a Python function, at the end of a call, and in loops. A profile function is called at
the first two; what it raises is raised there, as from a signal handler. So a test goes through every moment at which a Ctrl-C,
another handler, or another thread could come in between, instead of hoping to meet the one that matters.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import tastypy

_PACKAGE = str(Path(tastypy.__file__).parent)


class Point:
    """One of them, by its number from the start of the block that it comes in.

    Attributes:
        where: the functions that were running when it came, the innermost first; empty if the block ended before.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.where: list[str] = []

    def __repr__(self) -> str:
        return f"at point {self.number}, in {' < '.join(self.where)}"

    @contextmanager
    def calls(self, action: Callable[[], object]) -> Iterator[None]:
        """Call `action` once when the point comes in the block."""
        left = self.number

        def look(frame: FrameType, event: str, _: Any) -> None:
            nonlocal left
            if event in ("call", "c_return") and frame.f_code.co_filename.startswith(_PACKAGE):
                left -= 1
                if left == 0:
                    self.where = [*_lines(frame)]
                    action()

        before = sys.getprofile()
        sys.setprofile(look)
        try:
            yield
        finally:
            sys.setprofile(before)


def _lines(frame: FrameType | None) -> Iterator[str]:
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        yield f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back


def each_point() -> Iterator[Point]:
    """Every point, from the first to the last one that comes."""
    number = 0
    point = Point(1)
    while point.where or not number:
        number += 1
        point = Point(number)
        yield point
    assert number > 1, "the block ran no code of the package"
