"""Type hints at work: what checks a value, turns it into what JSON holds, and makes it again of that.

Pure, and of Python's library only. Which of these a hint becomes is left to `hints`.

All are exact: a `dump` takes values of the very types that it names, since a subclass would come back as its base. What it
takes comes back equal from `load`, and of the same types. The one exception is that a float may be an int, as for every
type checker; it comes back as that int.
"""

from __future__ import annotations

import dataclasses
import marshal
import typing
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

from tastypy.errors import TastypyError

ABSENT: Any = object()
_MARSHAL_VERSION = 2  # without references, which the same value may have or not
_LONGEST = 80  # characters of a value that a message shows


class Mismatch(Exception):  # noqa: N818 - it is told as a WrongTypeError, by who knows the key
    """A value does not fit.

    Attributes:
        says: goes on after the name of what does not fit.
        field: where in the value that is, from the outside inwards, as in `.scores[0]`.
        value: what is there instead, if that is to be told.
    """

    def __init__(self, says: str, field: str = "", *, value: Any = ABSENT) -> None:
        super().__init__(says, field)
        self.says = says
        self.field = field
        self.value = value

    def within(self, step: str) -> Mismatch:
        """Add a step from the outside: `.name` of a field, or `[0]` of an item."""
        self.field = step + self.field
        return self

    def __str__(self) -> str:
        # made when it is asked for: of a union most members do not fit, and nobody asks
        field = self.field.removeprefix(".")
        says = self.says if self.value is ABSENT else f"{self.says}, not {shown(self.value)}"
        return f": field {field!r}{says}" if field else says


class Hint:
    """A compiled type hint.

    Attributes:
        name: what messages call it.
        recursive: a class in it may hold others of its kind, to any depth.
    """

    name: str
    recursive = False

    def dump(self, value: Any) -> Any:
        """Return what JSON holds for a value; raise Mismatch if it does not fit."""
        raise NotImplementedError

    def load(self, value: Any) -> Any:
        """Return the value that `dump` made this of; raise Mismatch if it is not one of those."""
        raise NotImplementedError

    def refuse(self, value: Any) -> typing.NoReturn:
        """Raise Mismatch for a value of another type."""
        raise Mismatch(f" must be {self.name}", value=value)


def shown(value: Any) -> str:
    """Return the `repr` of a value, or what fits into a message of it."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the code of a user may do anything, and this is about another error
        text = object.__repr__(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({type(value).__name__})"


# --- what JSON has


class Anything(Hint):
    """Whatever a POD without a type takes."""

    name = "Any"

    def dump(self, value: Any) -> Any:
        return value

    load = dump


class Scalar(Hint):
    """A value of JSON's own, of one of the types given."""

    def __init__(self, name: str, *kinds: type) -> None:
        self.name = name
        self._kinds = kinds

    def dump(self, value: Any) -> Any:
        return value if type(value) in self._kinds else self.refuse(value)

    load = dump


NONE = Scalar("None", type(None))
SCALARS = {
    str: Scalar("str", str),
    int: Scalar("int", int),
    float: Scalar("float", float, int),
    bool: Scalar("bool", bool),
    type(None): NONE,
}


class OneOf(Hint):
    """One of these values of JSON's own."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.name = " or ".join(map(repr, values))
        self._values = {(type(value), value) for value in values}

    def dump(self, value: Any) -> Any:
        known = type(value) in SCALARS and (type(value), value) in self._values
        return value if known else self.refuse(value)

    load = dump


# --- what holds others


def _each(convert: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
    parts: list[Any] = []
    try:
        for value in values:
            parts.append(convert(value))  # noqa: PERF401 - how many there are tells which one failed
    except Mismatch as error:
        raise error.within(f"[{len(parts)}]") from error.__cause__
    return parts


class List(Hint):
    """A list."""

    def __init__(self, item: Hint) -> None:
        self.name = f"list[{item.name}]"
        self._item = item

    def dump(self, value: Any) -> Any:
        return _each(self._item.dump, value) if type(value) is list else self.refuse(value)

    def load(self, value: Any) -> Any:
        return _each(self._item.load, value) if type(value) is list else self.refuse(value)


class Tuple(Hint):
    """A tuple; JSON has a list in its place."""

    def __init__(self, items: list[Hint], *, more: bool) -> None:
        self.name = f"tuple[{', '.join(item.name for item in items)}{', ...' if more else ''}]"
        self._items = items
        self._more = more

    def dump(self, value: Any) -> Any:
        return self._parts("dump", value) if type(value) is tuple else self.refuse(value)

    def load(self, value: Any) -> Any:
        return tuple(self._parts("load", value)) if type(value) is list else self.refuse(value)

    def _parts(self, what: str, value: Any) -> list[Any]:
        if self._more:
            return _each(getattr(self._items[0], what), value)
        if len(value) != len(self._items):
            self.refuse(value)
        return _each(lambda pair: getattr(pair[0], what)(pair[1]), zip(self._items, value, strict=True))


class Dict(Hint):
    """A dict whose keys are str."""

    def __init__(self, item: Hint) -> None:
        self.name = f"dict[str, {item.name}]"
        self._item = item

    def dump(self, value: Any) -> Any:
        return self._parts(self._item.dump, value)

    def load(self, value: Any) -> Any:
        return self._parts(self._item.load, value)

    def _parts(self, convert: Callable[[Any], Any], value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            self.refuse(value)
        parts = {}
        for key, part in value.items():
            if type(key) is not str:
                raise Mismatch(f" has the key {key!r}, which must be str")
            try:
                parts[key] = convert(part)
            except Mismatch as error:
                raise error.within(f"[{key!r}]") from error.__cause__
        return parts


class AnyOf(Hint):
    """One of several: the first that takes it. `as_read` makes what JSON gives back of what it is given."""

    def __init__(self, members: list[Hint], as_read: Callable[[Any], Any]) -> None:
        self.name = " | ".join(member.name for member in members)
        self._as_read = as_read
        self._optional = NONE in members
        self._members = [member for member in members if member is not NONE]

    def dump(self, value: Any) -> Any:
        if value is None and self._optional:
            return None
        at, plain = self._first("dump", value)
        # a scalar takes the same values of memory and of files
        earlier = [member for member in self._members[:at] if not isinstance(member, Scalar | OneOf)]
        if not earlier:
            return plain
        try:
            read = self._as_read(plain)
        except TastypyError:
            return plain  # whoever encodes it tells what JSON lacks
        for member in earlier:
            try:
                member.load(read)
            except Mismatch:
                continue
            raise Mismatch(f" is {self._members[at].name}, and would come back as {member.name}: {shown(value)}")
        return plain

    def load(self, value: Any) -> Any:
        return None if value is None and self._optional else self._first("load", value)[1]

    def _first(self, what: str, value: Any) -> tuple[int, Any]:
        errors = []
        for at, member in enumerate(self._members):
            try:
                return at, getattr(member, what)(value)
            except Mismatch as error:
                errors.append(error)
        deepest = max(errors, key=lambda error: len(error.field))
        # with a field: it is one of these, but for that
        raise deepest if deepest.field else Mismatch(f" must be {self.name}", value=value)


# --- what has fields


class Fields(Hint):
    """What has named fields. `fields` is filled in later, since they may be of the same type."""

    def __init__(self, cls: type) -> None:
        self.name = cls.__name__
        self.cls: Any = cls
        self.fields: dict[str, Hint] = {}
        self.required: set[str] = set()

    def parts(self, what: str, values: dict[str, Any]) -> dict[str, Any]:
        """Dump or load each of the fields."""
        parts: dict[str, Any] = {}
        name = ""
        fields = self.fields
        if not values.keys() <= fields.keys():
            unknown: Any = next(name for name in values if name not in fields)
            field = f".{unknown}" if isinstance(unknown, str) else f"[{unknown!r}]"
            raise Mismatch(f" is unknown: {self.name} has no such field", field)
        try:
            for name, value in values.items():
                parts[name] = getattr(fields[name], what)(value)
        except Mismatch as error:
            raise error.within(f".{name}") from error.__cause__
        if not self.required <= parts.keys():
            missing = next(name for name in fields if name in self.required and name not in parts)
            raise Mismatch(" is missing", f".{missing}")
        return parts


class TypedDict(Fields):
    """A dict that has to have some keys, and may have others."""

    def dump(self, value: Any) -> Any:
        return self.parts("dump", value) if type(value) is dict else self.refuse(value)

    def load(self, value: Any) -> Any:
        return self.parts("load", value) if type(value) is dict else self.refuse(value)


class Dataclass(Fields):
    """An object of a dataclass."""

    def __init__(self, cls: type) -> None:
        super().__init__(cls)
        self.late: list[str] = []  # fields that are no parameters of the class
        self._meddles = _runs_code(cls)

    def dump(self, value: Any) -> Any:
        if type(value) is not self.cls:
            self.refuse(value)
        values = {name: part for name in self.fields if (part := getattr(value, name, ABSENT)) is not ABSENT}
        if len(values) < len(self.fields):  # deleted, or of a class whose `__post_init__` does not set it
            raise Mismatch(" is missing", f".{next(name for name in self.fields if name not in values)}")
        return self.parts("dump", values)

    def load(self, value: Any) -> Any:
        if type(value) is not dict:
            self.refuse(value)
        # a copy, since what stands under Any is passed on as it is, and may be changed in place
        given = deepcopy(value) if self._meddles else value
        parts = self.parts("load", value)
        late = {name: parts[name] for name in self.late if name in parts}
        try:
            made = self.cls(**{name: part for name, part in parts.items() if name not in late})
            for name, part in late.items():
                object.__setattr__(made, name, part)  # which a frozen one allows, too
        except RecursionError:
            raise  # it is about the stack, and not about the value
        except Exception as error:
            says = f" is not what {self.name} takes: {type(error).__name__}: {error}"
            raise Mismatch(says) from error
        if self._meddles:
            self._compare(made, given)
            return made
        for name, part in parts.items():
            if getattr(made, name, ABSENT) is not part:  # it is a descriptor
                self._compare(made, given)
                break
        return made

    def _compare(self, made: Any, given: dict[str, Any]) -> None:
        """Raise Mismatch for a field that is not, exactly, what JSON has for it."""
        for name, plain in given.items():
            now = ABSENT
            try:
                now = getattr(made, name)
                again = marshal.dumps(self.fields[name].dump(now), _MARSHAL_VERSION)
            except RecursionError:
                raise
            except Exception:  # noqa: BLE001 - a Mismatch, or the code of a user; the field is another in any case
                again = b""
            if again != marshal.dumps(plain, _MARSHAL_VERSION):
                says = "is deleted" if now is ABSENT else f"comes back as {shown(now)}, not {shown(plain)}"
                raise Mismatch(f" {says}: {self.name} changes it", f".{name}")


@dataclasses.dataclass
class _Sample:
    """For the name of the code that `dataclass` generates."""


def _runs_code(cls: Any) -> bool:
    """Tell whether code of its own runs when an object of a dataclass is made."""
    # A frozen one is filled without its `__setattr__`.
    sets = not cls.__dataclass_params__.frozen and cls.__setattr__ is not object.__setattr__
    made_by = getattr(cls.__init__, "__code__", None)
    return sets or hasattr(cls, "__post_init__") or made_by is None or made_by.co_qualname != _GENERATED


_GENERATED = _Sample.__init__.__code__.co_qualname
