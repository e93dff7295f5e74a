"""From type hints to what checks values: dataclasses, TypedDicts, and what their fields are made of.

What is not known is refused here, when a POD is opened, and not when a value comes. Other modules add kinds of classes by
`Extra`.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, NotRequired, Required, Union, get_args, get_origin

from tastypy import kinds
from tastypy.kinds import SCALARS, Hint
from tastypy.values import encode_value, type_of_default

Extra = Callable[[Any], Hint | None]


def compile_hint(hint: Any, extra: Extra = lambda _: None, default: type_of_default = None) -> Hint:
    """Return the hint, compiled; `extra` is asked first about each one that is met, `default` is the POD's.

    Raises:
        TypeError: a part of it is nothing that JSON could hold exactly; the message names the field.
    """
    compiler = _Compiler(extra, default)
    made = compiler.compile(hint, "")
    if compiler.recursive:
        made.recursive = True
    return made


def name_of(hint: Any) -> str:
    """Return how a hint is written."""
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


class _Compiler:
    def __init__(self, extra: Extra, default: type_of_default) -> None:
        self._extra = extra
        self._as_read = lambda plain: encode_value(plain, default)[1]
        self._classes: dict[type, Hint] = {}
        self._unfinished: set[type] = set()
        self.recursive = False

    def compile(self, hint: Any, place: str) -> Hint:
        """Return a hint compiled; `place` is the field that has it."""
        hint = _bare(hint)
        known = self._extra(hint)
        if known is not None:
            return known
        if hint in (Any, object):
            return kinds.Anything()
        if hint is None:
            return SCALARS[type(None)]
        origin, args = get_origin(hint) or hint, get_args(hint)
        if origin is Literal and set(map(type, args)) <= SCALARS.keys() - {float}:
            return kinds.OneOf(args)
        if origin in (Union, types.UnionType):
            return kinds.AnyOf([self.compile(arg, place) for arg in args], self._as_read)
        if origin is list:
            return kinds.List(self.compile(args[0] if args else Any, f"{place}[]"))
        if origin is dict and (not args or args[0] in (str, Any)):
            return kinds.Dict(self.compile(args[1] if args else Any, f"{place}[]"))
        if origin is tuple:
            more = not args or args[-1] is Ellipsis
            items = args[:-1] if args and more else args or (Any,)
            return kinds.Tuple(
                [self.compile(item, f"{place}[{'' if more else at}]") for at, item in enumerate(items)], more=more
            )
        if isinstance(hint, type) and not args:
            if hint in SCALARS:
                return SCALARS[hint]
            if dataclasses.is_dataclass(hint) or _is_typeddict(hint):
                return self._class(hint, place)
        what = f"field {place.removeprefix('.')!r} is {name_of(hint)}, whose" if place else "its"
        message = (
            f"{what} values JSON cannot hold exactly; there may be dataclasses, TypedDicts, str, int, float, bool, None, Literal, "
            "Any, lists, tuples, dicts with str keys, unions, and models of msgspec and pydantic, which hold more"
        )
        raise TypeError(message)

    def _class(self, cls: type, place: str) -> Hint:
        if cls not in self._classes:
            made = kinds.Dataclass(cls) if dataclasses.is_dataclass(cls) else kinds.TypedDict(cls)
            self._classes[cls] = made  # first, since a field of it may be of it
            self._unfinished.add(cls)
            hints = _hints_of(cls, place)
            if isinstance(made, kinds.Dataclass):
                self._fill_dataclass(made, hints, place)
            else:
                self._fill_typeddict(made, hints, place)
            self._unfinished.remove(cls)
        elif cls in self._unfinished:
            self.recursive = True
        return self._classes[cls]

    def _fill_dataclass(self, made: kinds.Dataclass, hints: dict[str, Any], place: str) -> None:
        for name, hint in hints.items():
            if isinstance(hint, dataclasses.InitVar):
                message = f"field {f'{place}.{name}'.removeprefix('.')!r} is an InitVar, which an object does not keep"
                raise TypeError(message)
        for field in dataclasses.fields(made.cls):
            made.fields[field.name] = self.compile(hints[field.name], f"{place}.{field.name}")
            if not field.init:
                made.late.append(field.name)
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                made.required.add(field.name)

    def _fill_typeddict(self, made: kinds.TypedDict, hints: dict[str, Any], place: str) -> None:
        made.required.update(made.cls.__required_keys__)
        for name, hint in hints.items():
            made.fields[name] = self.compile(hint, f"{place}.{name}")
            # Python does not see what stands in a string, as with `from __future__ import annotations`
            if get_origin(hint) is Required:
                made.required.add(name)
            elif get_origin(hint) is NotRequired:
                made.required.discard(name)


def _bare(hint: Any) -> Any:
    """Return a hint without what says nothing about the value."""
    while True:
        if get_origin(hint) in (Annotated, Final, Required, NotRequired) or str(get_origin(hint)).endswith(".ReadOnly"):
            hint = get_args(hint)[0]
        elif hasattr(hint, "__supertype__"):  # a NewType
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            return hint


def _is_typeddict(cls: type) -> bool:
    # that of typing_extensions, too, which `typing.is_typeddict` does not know
    return issubclass(cls, dict) and hasattr(cls, "__total__") and hasattr(cls, "__required_keys__")


def _hints_of(cls: type, place: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception as error:
        where = f" of field {place.removeprefix('.')!r}" if place else ""
        message = (
            f"the annotations of {cls.__qualname__}{where} cannot be resolved ({type(error).__name__}: {error}); "
            "what they name must stand at the top of the module"
        )
        raise TypeError(message) from error
