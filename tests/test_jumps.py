"""No loop jumps back outside of the `try` or `with` that it is in: a Ctrl-C is raised at such jumps, and would be missed there.

CPython 3.12 and 3.13 compile them so (python/cpython issues 130279 and 148278): where the last statement of a loop's body is an
`if` without `else`, where a comprehension has an `if`, and at the end of each `while` with a condition. What a `finally` has to
let go of is kept for ever then. So loops of these kinds are in functions of their own, or begin with `if ...: continue`.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import CodeType

import tastypy

PACKAGE = Path(tastypy.__file__).parent


def codes(code: CodeType) -> Iterator[CodeType]:
    """The code and all that is defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def unprotected(code: CodeType) -> Iterator[int | None]:
    """The lines of jumps back, and of what a generator goes on with, that handlers of the place they come from do not cover."""
    steps = list(dis.get_instructions(code))
    places = {step.offset: number for number, step in enumerate(steps)}
    table = dis._parse_exception_table(code)  # type: ignore[attr-defined]

    def handles_interrupts(handler: int) -> bool:
        first, *rest = steps[places[handler] : places[handler] + 5]
        if first.opname != "PUSH_EXC_INFO":  # made by the compiler, to clear variables away
            return False
        chosen = any(step.opname == "CHECK_EXC_MATCH" for step in rest) and rest[0].opname == "LOAD_GLOBAL"
        return not chosen or rest[0].argval in {"BaseException", "KeyboardInterrupt"}

    def handlers(offset: int) -> Iterator[int]:
        while found := [entry.target for entry in table if entry.start <= offset < entry.end]:
            if handles_interrupts(found[0]):
                yield found[0]
            offset = found[0]

    for before, step in pairwise(steps):
        origin = step.offset
        if step.opname == "JUMP_BACKWARD" and before.opname != "CLEANUP_THROW":  # whose exception was raised already
            origin = step.argval
        elif step.opname == "RESUME" and step.arg:  # not at the begin of a function
            origin = before.offset
        if not {*handlers(origin)} <= {*handlers(step.offset)}:
            yield step.positions.lineno if step.positions else None


def test_each_jump_back_is_covered_by_what_covers_its_loop() -> None:
    missed = {}
    for file in PACKAGE.rglob("*.py"):
        for code in codes(compile(file.read_bytes(), str(file), "exec")):
            if lines := list(unprotected(code)):
                missed[f"{file.relative_to(PACKAGE)}: {code.co_qualname}"] = lines
    assert missed == {}
