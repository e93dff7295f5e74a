"""What type a column of JSON values has, for libraries that would guess it from the first ones, and lose what does not fit. No I/O.

A type is one of the names below, or a list of a type, or a struct of types by names; what is missing, or None, fits every type.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

NULL, BOOL, INT, UNSIGNED, FLOAT, STR = "null", "bool", "int", "unsigned", "float", "str"

_MOST = 2**63 - 1  # of an integer with a sign
_EXACT = 2**53  # up to which every integer is a float
_DEEPEST = 49  # lists and dicts in each other: with more, no reader of Parquet takes it, and polars exceeds the stack


@dataclass(frozen=True, slots=True)
class ListOf:
    """Lists whose items have a type."""

    item: Type


@dataclass(frozen=True, slots=True)
class Struct:
    """Dicts whose fields have types; each of them may lack some."""

    fields: dict[str, Type]


Type = str | ListOf | Struct


class MixedTypesError(Exception):
    """There is no such type; the text says what there is instead."""


def type_of(values: Iterable[object], deepest: int = _DEEPEST) -> Type:
    """Return the type that all values have; at most so many lists and dicts are in each other.

    >>> type_of([1, None]), type_of([1, 2.5]), type_of([{"a": [1]}, {"b": "c"}])
    ('int', 'float', Struct(fields={'a': ListOf(item='int'), 'b': 'str'}))

    Raises:
        MixedTypesError: there is none that loses nothing of any.
    """
    there = [value for value in values if value is not None]
    kinds = set(map(type, there))
    if not kinds:
        return NULL
    if kinds == {bool}:
        return BOOL
    if kinds == {str}:
        return STR
    if not deepest and kinds <= {list, dict}:
        raise MixedTypesError("values that are nested too deep")
    if kinds == {list}:
        return ListOf(type_of(chain.from_iterable(value for value in there if isinstance(value, list)), deepest - 1))
    if kinds == {dict}:
        parts: dict[str, list[object]] = {}
        for value in there:
            for name, part in value.items() if isinstance(value, dict) else ():
                parts.setdefault(name, []).append(part)
        return Struct({name: type_of(part, deepest - 1) for name, part in parts.items()})
    if kinds <= {int, float}:
        return _type_of_numbers([value for value in there if isinstance(value, int)], whole=kinds == {int})
    raise MixedTypesError(f"several types ({' and '.join(sorted(kind.__name__ for kind in kinds))})")


def _type_of_numbers(numbers: list[int], *, whole: bool) -> Type:
    least, most = min(numbers, default=0), max(numbers, default=0)
    if not whole:
        if least >= -_EXACT and most <= _EXACT:
            return FLOAT
        message = f"several types (float and integers beyond {_EXACT}, which are none)"
        raise MixedTypesError(message)
    if most <= _MOST:
        return INT
    if least >= 0:
        return UNSIGNED
    message = f"several types (integers below 0 and beyond {_MOST})"
    raise MixedTypesError(message)
