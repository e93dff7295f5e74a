"""No loop jumps back outside of the `try` or `with` that it is in: a Ctrl-C is raised at such jumps, and would be missed there.

CPython 3.13 compiles them so (python/cpython issues 130279 and 148278): where the last statement of a loop's body is an `if`
without `else`, where a comprehension has an `if`, and at the end of each `while` with a condition. What a `finally` has to let go
of is kept for ever then. So loops of these kinds are in functions of their own, or begin with `if ...: continue`. (3.12 has the same
tables, but raises what a signal handler raised behind the jump, not at it. A loop whose body begins with a `try` of its own is not
seen through here.)
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import count, pairwise
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

import tastypy

PACKAGE = Path(tastypy.__file__).parent


def codes(code: CodeType) -> Iterator[CodeType]:
    """The code and all that is defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def exception_table(code: CodeType) -> list[Any]:
    """Which offsets which handlers cover."""
    # private, and so without types; but nothing else parses the table
    found: list[Any] = dis._parse_exception_table(code)  # type: ignore[attr-defined]  # as above
    return found


def unprotected(code: CodeType) -> Iterator[int | None]:
    """The lines of jumps back that the handlers of the place that they lead to do not cover."""
    steps: list[dis.Instruction] = []
    places = {}  # in `steps`, by offset
    for step in dis.get_instructions(code):
        places[step.offset] = len(steps)
        if step.opname != "EXTENDED_ARG":  # a part of the next one
            steps.append(step)
    table = exception_table(code)

    def handles_interrupts(handler: int) -> bool:
        at = places[handler]
        if steps[at].opname != "PUSH_EXC_INFO":  # made by the compiler, to clear variables away
            return False
        while True:  # clause after clause
            names = []
            at += 1
            while steps[at].opname.startswith(("LOAD_", "BUILD_TUPLE")):
                names.append(steps[at].argval)
                at += 1
            if steps[at].opname != "CHECK_EXC_MATCH":  # the end of a `with`, a `finally`, or an `except:`
                return steps[at].opname != "RERAISE"
            if {"BaseException", "KeyboardInterrupt"} & {*names}:
                return True
            at = places[steps[at + 1].argval] - 1

    def handlers(offset: int) -> Iterator[int]:
        while found := [entry.target for entry in table if entry.start <= offset < entry.end]:
            if handles_interrupts(found[0]):
                yield found[0]
            offset = found[0]

    for before, step in pairwise(steps):
        if step.opname != "JUMP_BACKWARD" or before.opname == "CLEANUP_THROW":  # whose exception was raised already
            continue
        if not {*handlers(step.argval)} <= {*handlers(step.offset)}:
            yield step.positions.lineno if step.positions else None


def test_each_jump_back_is_covered_by_what_covers_its_loop() -> None:
    missed = {}
    for file in PACKAGE.rglob("*.py"):
        for code in codes(compile(file.read_bytes(), str(file), "exec")):
            if lines := list(unprotected(code)):
                missed[f"{file.relative_to(PACKAGE)}: {code.co_qualname}"] = lines
    assert missed == {}


# ----------------------------------------------------------------------------------------- that such jumps would be found


def _in_with(block: AbstractContextManager[None], go_on: Callable[[], bool]) -> None:
    with block:
        while True:
            if not go_on():
                break


def _in_finally(done: Callable[[], object], go_on: Callable[[], bool]) -> None:
    try:
        while True:
            if not go_on():
                break
    finally:
        done()


def _in_a_later_clause(done: Callable[[], object], go_on: Callable[[], bool]) -> None:
    try:
        while True:
            if not go_on():
                break
    except (ValueError, OSError):
        pass
    except BaseException:
        done()
        raise


def _for_others_only(done: Callable[[], object], go_on: Callable[[], bool]) -> None:
    try:
        while True:
            if not go_on():
                break
    except (ValueError, OSError):
        done()


# the table's form is told in CPython's InternalDocs/exception_handling.md


def _varint(value: int) -> Iterator[int]:
    groups = [value >> shift & 63 for shift in range(0, max(value.bit_length(), 1), 6)][::-1]
    yield from (group | 64 for group in groups[:-1])
    yield groups[-1]


def without_jumps_back(code: CodeType) -> CodeType:
    """The code as those versions compile it: its table of exceptions leaves out the jumps back."""
    jumps = {step.offset for step in dis.get_instructions(code) if step.opname == "JUMP_BACKWARD"}
    table = bytearray()
    for entry in exception_table(code):
        cut = [entry.start, *(offset for offset in sorted(jumps) if entry.start <= offset < entry.end), entry.end]
        for number, (start, end) in zip(count(), pairwise(cut), strict=False):
            first = start // 2 + (number > 0)
            fields = [first, end // 2 - first, entry.target // 2, entry.depth << 1 | entry.lasti]
            if fields[1]:
                begin = len(table)
                table += bytes(group for field in fields for group in _varint(field))
                table[begin] |= 128
    return code.replace(co_exceptiontable=bytes(table))


@pytest.mark.parametrize("function", [_in_with, _in_finally, _in_a_later_clause, _for_others_only])
def test_one_that_is_not_covered_is_found_unless_no_interrupt_is_handled_there(function: FunctionType) -> None:
    code = function.__code__
    assert list(unprotected(code)) == []
    found = list(unprotected(without_jumps_back(code)))
    assert found if function is not _for_others_only else not found
