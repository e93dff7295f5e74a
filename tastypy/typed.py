"""The values of a POD that was opened with `type=`: objects in memory, plain JSON objects of their fields in files.

Whatever `hints` knows, and models of msgspec and pydantic, which whoever has one has imported.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import orjson

from tastypy.errors import TastypyError, UnstorableValueError, WrongTypeError
from tastypy.hints import compile_hint, name_of
from tastypy.kinds import Hint, Mismatch, shown
from tastypy.values import Codec, encode_key, encode_value, plainly_equal, type_of_default

_DEEPEST = 60  # levels; reading one takes up to 6 of the 1000 frames that Python's stack has


def codec_of(kind: Any, path: str, default: type_of_default) -> TypedCodec:
    """Return the codec of a type, for the POD at `path` that has this `default`.

    Raises:
        TypeError: it is none whose values JSON could hold exactly; the message names the field.
    """
    try:
        hint = compile_hint(kind, _model, default)
    except (TypeError, RecursionError) as error:
        endless = "a `type` alias in it holds itself: only a dataclass or a TypedDict can"
        says = endless if isinstance(error, RecursionError) else error
        message = f"type={name_of(kind)} cannot be the type of a POD's values: {says}"
        raise TypeError(message) from error
    return TypedCodec(hint, path)


class TypedCodec(Codec):
    """Values of one type."""

    __slots__ = ("_hint", "_path")
    typed = True

    def __init__(self, hint: Hint, path: str) -> None:
        self._hint = hint
        self._path = path

    def encode(self, value: Any, default: type_of_default, key: Any) -> tuple[bytes, Any]:
        """Return the JSON of a value that is to be the one of a key, and a copy of it.

        Raises:
            WrongTypeError: it is not of the type.
            UnstorableTypeError, UnstorableValueError: it is, and JSON lacks something in it.
        """
        _, text, copy = self._encode(value, default, key)
        return text, self._load(copy, key)

    def encode_items(self, items: dict[Any, Any], default: type_of_default) -> tuple[bytes, dict[Any, Any]]:
        """Return the JSON object of all the items, and a copy of them; raise what `encode` and `encode_key` do."""
        parts, copies = [], {}
        for key, value in items.items():
            name = encode_key(key)
            text, copies[key] = self.encode(value, default, key)
            parts.append(b"%b:%b" % (name, text))
        return b"{%b}" % b",".join(parts), copies

    def encode_again(self, value: Any, default: type_of_default, key: Any) -> tuple[bytes, Any]:
        """Return the JSON of a value that the memory has, and may have been mutated, and that value; or, if JSON lacks it, a copy."""
        plain, text, copy = self._encode(value, default, key)
        again = self._load(copy, key)  # which may refuse it
        return text, value if plainly_equal(copy, plain) else again

    def copy(self, value: Any, default: type_of_default, key: Any) -> Any:
        """Return a copy of a value for the memory; raise what `encode` does."""
        return self.encode(value, default, key)[1]

    def take(self, value: Any, default: type_of_default, key: Any) -> tuple[bytes, Any]:
        """Return what `encode` does for a value from elsewhere, which may be as in a file, as those of JSON are."""
        try:
            return self.encode(value, default, key)
        except WrongTypeError:
            text, copy = self._text(value, default, key)
            return text, self._load(copy, key)

    def as_in_files(self, items: dict[Any, Any], default: type_of_default) -> dict[Any, Any]:
        """Return items of the memory, which may have been mutated, with values as files have them; raise what `encode` does."""
        return {key: self._encode(value, default, key)[2] for key, value in items.items()}

    def decode(self, key: Any, value: Any) -> Any:
        """Return the value of a key for the memory, given the one that a file has.

        Raises:
            WrongTypeError: it is not of the type.
        """
        try:
            return self._hint.load(value)
        except RecursionError:
            raise self._no_stack(f"{self._path}: the value of {key!r}") from None
        except Mismatch as error:
            message = (
                f"{self._path}: the value of {key!r}{error}. It was stored without type=, or with another one: open the POD without it, and mend "
                "or delete the value"
            )
            raise WrongTypeError(message, self._path) from error.__cause__

    def same(self, one: Any, other: Any) -> bool:
        """Tell whether two values of the memory are the same in a file."""
        try:
            return super().same(self._hint.dump(one), self._hint.dump(other))
        except (Mismatch, RecursionError):
            return False  # mutated into something else

    def _encode(self, value: Any, default: type_of_default, key: Any) -> tuple[Any, bytes, Any]:
        """Return what JSON holds for a value, the text of that, and what the text gives back."""
        try:
            plain = self._hint.dump(value)
        except Mismatch as error:
            raise self._wrong(key, error) from error.__cause__
        except RecursionError:
            message = f"the value of {key!r} is nested too deep, or holds itself, or Python's stack is deep already"
            raise UnstorableValueError(message, self._path) from None
        return plain, *self._text(plain, default, key)

    def _text(self, plain: Any, default: type_of_default, key: Any) -> tuple[bytes, Any]:
        """Return the JSON of what stands for a value, and what that gives back, which can be loaded from most stacks."""
        text, copy = encode_value(plain, default, f"the value of {key!r}")
        # most have fewer lists and dicts at all, which their text tells at once
        if self._hint.recursive and text.count(b"[") + text.count(b"{") > _DEEPEST and _is_deeper(copy, _DEEPEST):
            message = (
                f"the value of {key!r} is nested more than {_DEEPEST} levels deep, and could not be read where Python's stack is "
                "deep already; let a flat list or dict hold the parts, which name each other by number or key"
            )
            raise UnstorableValueError(message, self._path)
        return text, copy

    def _load(self, value: Any, key: Any) -> Any:
        try:
            return self._hint.load(value)
        except Mismatch as error:
            raise self._wrong(key, error) from error.__cause__
        except RecursionError:
            raise self._no_stack(f"the value of {key!r}") from None

    def _no_stack(self, what: str) -> WrongTypeError:
        message = (
            f"{what} is nested too deep for what is left of Python's stack here: read it from where fewer calls are under way, or "
            "raise the limit with sys.setrecursionlimit"
        )
        return WrongTypeError(message, self._path)

    def _wrong(self, key: Any, error: Mismatch) -> WrongTypeError:
        return WrongTypeError(f"the value of {key!r}{error}", self._path)


def _is_deeper(plain: Any, levels: int) -> bool:
    """Tell whether lists and dicts are nested more than so many levels deep."""
    layer = [plain]
    for _ in range(levels + 1):
        layer = [part for part in layer if type(part) in (dict, list)]
        if not layer:
            return False
        layer = [part for whole in layer for part in (whole.values() if type(whole) is dict else whole)]
    return True


# --- models of other libraries


def _model(hint: Any) -> Hint | None:
    """Return what looks after a model of msgspec or pydantic; None for anything else."""
    # A subscripted generic model of msgspec has these as well; and whoever has such a class has imported its library.
    if hasattr(hint, "__struct_config__") and "msgspec" in sys.modules:
        return _Struct(hint)
    if isinstance(hint, type) and hasattr(hint, "__pydantic_validator__") and "pydantic" in sys.modules:
        return _Pydantic(hint)
    return None


class _Model(Hint):
    """A model of another library, which checks it; what it loses on the way to JSON and back is found here."""

    def __init__(self, cls: Any) -> None:
        self.name = name_of(cls)
        self._class = getattr(cls, "__origin__", cls)

    def dump(self, value: Any) -> Any:
        if type(value) is not self._class:
            self.refuse(value)
        try:
            plain = self.to_plain(value)
        except Exception as error:
            raise Mismatch(f" cannot be written as JSON: {error}") from error
        try:
            _, read = encode_value(plain)
        except TastypyError:
            return plain  # whoever encodes it tells where there is, say, a NaN
        copy = self.load(read)
        try:
            same = bool(copy == value) and self.of_same_types(copy, value)
        except Exception as error:
            says = f" cannot be compared: {type(error).__name__}: {error}"
            raise Mismatch(says) from error
        if not same:
            raise Mismatch(f" would come back as {shown(copy)}", value=value)
        return plain

    def to_plain(self, value: Any) -> Any:
        """Return what JSON holds for the value; whatever is raised says why there is nothing."""
        raise NotImplementedError

    def of_same_types(self, _copy: Any, _value: Any) -> bool:
        """Tell whether what came back holds the types that the value, which is equal, holds."""
        return True  # a library that converts nothing


class _Struct(_Model):
    """A msgspec.Struct."""

    _ERROR = re.compile(r"(.*?)(?: - at (?:`key` in )?`\$(.*)`)?", re.DOTALL)

    def __init__(self, cls: Any) -> None:
        import msgspec  # noqa: PLC0415 - an extra, imported by whoever has such a class

        super().__init__(cls)
        if not self._class.__struct_config__.eq:
            message = f"{self.name} has eq=False, and nobody could tell whether a value comes back as it was"
            raise TypeError(message)
        try:
            msgspec.json.Decoder(cls)
        except Exception as error:
            message = f"msgspec cannot check {self.name} ({type(error).__name__}: {error})"
            raise TypeError(message) from error
        self._type = cls
        self._library = msgspec

    def to_plain(self, value: Any) -> Any:
        return self._library.to_builtins(value, str_keys=True)

    def load(self, value: Any) -> Any:
        try:
            return self._library.convert(value, self._type, str_keys=True)
        except self._library.ValidationError as error:
            found = self._ERROR.fullmatch(str(error))
            says, field = found.groups() if found else (str(error), "")
            raise Mismatch(f": {says}", field or "") from error


class _Pydantic(_Model):
    """A model, or dataclass, of pydantic."""

    def __init__(self, cls: Any) -> None:
        import pydantic  # noqa: PLC0415 - an extra, imported by whoever has such a class

        super().__init__(cls)
        self._adapter = pydantic.TypeAdapter(cls)
        self._error = pydantic.ValidationError

    def to_plain(self, value: Any) -> Any:
        # by alias, as it is validated; a value that was assigned past the model's checks is told by `load`
        return self._adapter.dump_python(value, mode="json", by_alias=True, round_trip=True, warnings=False)

    def of_same_types(self, copy: Any, value: Any) -> bool:
        both = [self._adapter.dump_python(one, round_trip=True, warnings=False) for one in (copy, value)]
        return _of_same_types(*both)

    def load(self, value: Any) -> Any:
        try:
            # as JSON, of which even a strict model takes a date
            return self._adapter.validate_json(orjson.dumps(value))
        except self._error as error:
            first, *more = error.errors(include_url=False, include_context=False)
            field = "".join(f".{step}" if isinstance(step, str) else f"[{step!r}]" for step in first["loc"])
            others = f" (and {len(more)} more)" if more else ""
            raise Mismatch(f": {first['msg']}{others}", field, value=first["input"]) from error


def _of_same_types(copy: Any, value: Any) -> bool:
    """Tell whether two that are equal hold the same types; where the copy has a float, the value may have an int."""
    if type(copy) is not type(value):
        return type(copy) is float and type(value) is int
    if isinstance(copy, dict):
        return all(_of_same_types(part, value[key]) for key, part in copy.items())
    if isinstance(copy, list | tuple):
        return all(map(_of_same_types, copy, value))
    return True
