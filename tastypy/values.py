"""Which keys and values a POD holds, and their JSON: what is stored reads back equal and of the same types, or is refused.

Tuples are the exception that JSON makes: inside values they come back as lists (as keys they stay tuples).
No I/O here; where a value goes is left to `format` and `shards`.
"""

from __future__ import annotations

import marshal
import math
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from tastypy.errors import TastypyError, UnstorableTypeError, UnstorableValueError
from tastypy.exact import parse

type_of_default = Callable[[Any], Any] | None

# orjson writes datetimes, dataclasses and subclasses of the builtins on its own; passed through, they are refused like
# any other object. (Enums and UUIDs it writes whatever the options: those are found by comparing what comes back.)
_EXACT = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_DEEPEST = 250  # orjson refuses to write what is nested deeper than 254, and a value lies a few levels deep in its line
_MARSHAL_VERSION = 2  # without the table of references of later versions, which costs time


def loads(text: bytes | str) -> Any:
    """Return what JSON text holds.

    Raises:
        MemoryError: there is not enough memory, which orjson calls an error of the text.
        orjson.JSONDecodeError: it is no JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if error.msg.startswith("Not enough memory"):  # nothing else tells it from damage, which `repair` sets aside
            raise MemoryError(error.msg) from None
        raise


def encode_key(key: object) -> bytes:
    r"""Return the JSON string that stands for `key` in files, quotes included.

    A `str` is itself; any other key, and a `str` that begins with `#`, is `#` and its JSON.

    >>> encode_key("a"), encode_key(1), encode_key(("a", 1)), encode_key("#a")
    (b'"a"', b'"#1"', b'"#[\\"a\\",1]"', b'"#\\"#a\\""')

    Raises:
        UnstorableTypeError: its type is none of str, int, float, bool, None and tuples of these.
        UnstorableValueError: a lone surrogate, a non-finite float, an integer beyond 64 bits.
    """
    try:
        if type(key) is str and key[:1] != "#":
            return orjson.dumps(key)
        problem = _key_problem(key, 0)
        if problem is None:
            return orjson.dumps("#" + orjson.dumps(key).decode())
    except orjson.JSONEncodeError:
        problem = _key_problem(key, 0) or (UnstorableValueError, "cannot be written as JSON")
    kind, reason = problem
    message = (
        f"key {key!r} {reason}; keys may be str, int (64 bits), float (finite), bool, None and tuples of these, "
        "and not of a subclass of theirs"
    )
    raise kind(message)


def _key_problem(key: object, depth: int) -> tuple[type[TastypyError], str] | None:
    kind = type(key)
    if isinstance(key, tuple) and kind is tuple:
        if depth > _DEEPEST:
            return UnstorableValueError, "is nested too deep"
        return next((problem for part in key if (problem := _key_problem(part, depth + 1))), None)
    reason = _scalar_problem(key)
    if reason is None:
        return None
    return (UnstorableValueError if kind in _SCALARS else UnstorableTypeError), f"holds {key!r}, which {reason}"


def decode_key(name: str) -> Any:
    """Return the key that `name`, a key of a file, stands for; the inverse of `encode_key`.

    Raises:
        ValueError: it stands for none.
    """
    return _as_tuple(loads(name[1:]), 0) if name[:1] == "#" else name


def _as_tuple(key: Any, depth: int) -> Any:
    if type(key) is dict or depth > _DEEPEST + 1:
        message = "not the name of a key"
        raise ValueError(message)
    return tuple([_as_tuple(part, depth + 1) for part in key]) if type(key) is list else key


def decode_keys(entries: dict[str, Any]) -> dict[Any, Any]:
    """Return `entries` of a file, in their order, under the keys that the names stand for."""
    return {decode_key(name) if name[:1] == "#" else name: value for name, value in entries.items()}


def key_of(name: str) -> Any:
    """Return the key that files call `name`, which somebody has typed.

    >>> key_of("a"), key_of("#1"), key_of('#["a",1]')
    ('a', 1, ('a', 1))

    Raises:
        UnstorableTypeError, UnstorableValueError: there is none.
    """
    try:
        key = _as_tuple(parse(name[1:]), 0) if name[:1] == "#" else name
    except ValueError as error:
        shown = name if len(name) <= 60 else f"{name[:57]}..."
        message = f"{shown!r} is no key: after # comes JSON, as in '#1' or '#[\"a\",1]'; the key {shown!r} itself is '#\"{shown}\"'"
        raise UnstorableValueError(message) from error
    encode_key(key)
    return key


def name_of(key: Any) -> str:
    """Return what files call `key`; the inverse of `key_of`."""
    return key if type(key) is str and key[:1] != "#" else "#" + orjson.dumps(key).decode()


def encode_value(value: Any, default: type_of_default = None, place: str = "value") -> tuple[bytes, Any]:
    """Return the JSON of `value` and the copy of it that JSON gives back.

    `default` is called with what JSON lacks, as in `json.dumps`; `place` is what errors call the value.

    Raises:
        UnstorableTypeError, UnstorableValueError: it would come back different; the message says where in it.
    """
    try:
        text = orjson.dumps(value, option=_EXACT)
    except (orjson.JSONEncodeError, RecursionError):
        return _encode_converted(value, default, place)
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return text, value
    try:  # as `loads` and `plainly_equal` do, without the calls
        copy = orjson.loads(text)
        if copy == value and marshal.dumps(value, _MARSHAL_VERSION):
            return text, copy
    except (ValueError, RecursionError):
        copy = loads(text)
    if plainly_equal(copy, value) or next(_problems(value, place), None) is None:
        return text, copy
    return _encode_converted(value, default, place)


def encode_again(value: Any) -> tuple[bytes, Any] | None:
    """Return what `encode_value` does for a value that JSON gave back before, if nobody has mutated it into something else.

    None if somebody has: `encode_value` tells. An equal copy is enough then, which takes half the time.
    """
    try:
        text = orjson.dumps(value, option=_EXACT)
    except (orjson.JSONEncodeError, RecursionError):
        return None
    copy = loads(text)
    return (text, copy) if copy == value else None


def encode_items(items: dict[Any, Any], default: type_of_default = None) -> tuple[bytes, dict[Any, Any]]:
    """Return the JSON object of all the items, and the copy of them that JSON gives back, under the same keys.

    Raises what `encode_key` and `encode_value` do.
    """
    if set(map(type, items)) == {str}:
        # All at once, which takes a fifth of the time, where no key has another name in files.
        try:
            text = orjson.dumps(items, option=_EXACT)
        except (orjson.JSONEncodeError, RecursionError):
            text = b'"#'
        if b'"#' not in text:
            copy: dict[Any, Any] = loads(text)
            if plainly_equal(copy, items):
                return text, copy
    parts = []
    copy = {}
    for key, value in items.items():
        name = encode_key(key)
        text, copy[key] = encode_value(value, default, f"the value of {key!r}")
        parts.append(b"%b:%b" % (name, text))
    return b"{%b}" % b",".join(parts), copy


class Codec:
    """How the values in memory become JSON, and JSON values in memory: here they are what JSON gives back.

    With `type=` that is `typed.TypedCodec`, whose values in memory are others than those in files.
    """

    __slots__ = ()
    typed = False

    def encode(self, value: Any, default: type_of_default, _: Any) -> tuple[bytes, Any]:
        """Return the JSON of a value that is to be the one of a key, and the copy of it for the memory.

        Raises what `encode_value` does.
        """
        return encode_value(value, default)

    def encode_items(self, items: dict[Any, Any], default: type_of_default) -> tuple[bytes, dict[Any, Any]]:
        """Return the JSON object of all the items, and the copy of them for the memory; raise what `encode_items` does."""
        return encode_items(items, default)

    def encode_again(self, value: Any, default: type_of_default, key: Any) -> tuple[bytes, Any]:
        """Return the JSON of a value that the memory has, and may have been mutated, and that value; or, if JSON lacks it, a copy."""
        text, copy = encode_value(value, default, f"the value of {key!r}")
        return text, value if plainly_equal(copy, value) else copy

    def copy(self, value: Any, default: type_of_default, key: Any) -> Any:
        """Return a copy of a value for the memory; raise what `encode` does, with the name of the key."""
        return encode_value(value, default, f"the value of {key!r}")[1]

    def take(self, value: Any, default: type_of_default, key: Any) -> tuple[bytes, Any]:
        """Return what `encode` does, with the name of the key in errors, for a value from elsewhere, which may be as in a file."""
        return encode_value(value, default, f"the value of {key!r}")

    def as_in_files(self, items: dict[Any, Any], default: type_of_default) -> dict[Any, Any]:
        """Return items of the memory, which may have been mutated, with values as files have them; raise what `encode` does."""
        if default is None:
            return items  # as they are, or what JSON lacks, which whoever writes them finds
        return {key: self.copy(value, default, key) for key, value in items.items()}

    def decode(self, _: Any, value: Any) -> Any:
        """Return the value of a key for the memory, given the one that a file has."""
        return value

    def same(self, one: Any, other: Any) -> bool:
        """Tell whether two values of the memory are the same in a file."""
        if one != other:
            return False
        try:
            return orjson.dumps(one) == orjson.dumps(other)  # 1, 1.0 and True are equal, and not the same
        except TypeError:
            return False  # mutated into something that JSON lacks


PLAIN = Codec()


def plainly_equal(copy: Any, value: Any) -> bool:
    """Tell whether they are equal and hold nothing but the exact builtin types; False where that takes a longer look."""
    try:
        if copy != value:
            return False
        # Equality does not see an IntEnum, which orjson writes as an int; marshal refuses all but exact types,
        # at a tenth of the cost of a walk in Python.
        marshal.dumps(value, _MARSHAL_VERSION)
    except (ValueError, RecursionError):
        return False
    return True


def _encode_converted(value: Any, default: type_of_default, place: str) -> tuple[bytes, Any]:
    converted = value if default is None else _convert(value, default, place, 0)
    for kind, message in _problems(converted, place):
        raise kind(message)
    try:
        text = orjson.dumps(converted, option=_EXACT)
    except orjson.JSONEncodeError as error:
        message = f"{place} cannot be written as JSON: {error}"
        raise UnstorableValueError(message) from None
    return text, loads(text)


def _convert(value: Any, default: Callable[[Any], Any], place: str, depth: int) -> Any:
    """Return `value` with each part that JSON lacks replaced by what `default` makes of it, in its turn converted."""
    if depth > _DEEPEST:
        message = f"{place} is nested too deep, or default= keeps returning what JSON lacks"
        raise UnstorableValueError(message)
    kind = type(value)
    if kind is dict:
        return {key: _convert(part, default, f"{place}[{key!r}]", depth + 1) for key, part in value.items()}
    if kind in (list, tuple):
        return [_convert(part, default, f"{place}[{index}]", depth + 1) for index, part in enumerate(value)]
    if kind in _SCALARS:
        return value
    return _convert(default(value), default, place, depth + 1)


_SCALARS = (str, int, float, bool, type(None))
_LEAST, _MOST = -(2**63), 2**64 - 1


def _scalar_problem(value: Any) -> str | None:
    """Return what keeps the scalar from JSON, or None."""
    kind = type(value)
    if kind not in _SCALARS:
        return f"is of type {kind.__module__}.{kind.__qualname__}, which JSON would not give back"
    if kind is float and not math.isfinite(value):
        return "is " + ("NaN" if math.isnan(value) else "infinite") + ", which JSON cannot hold"
    if kind is int and not _LEAST <= value <= _MOST:
        return "is an integer beyond 64 bits, which would come back as a float"
    if kind is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            return "has a lone surrogate, which UTF-8 cannot hold"
    return None


def _problems(value: Any, place: str, depth: int = 0) -> Iterator[tuple[type[TastypyError], str]]:
    """Yield each place in `value` that would not come back equal and of the same type, with its reason."""
    kind = type(value)
    if depth > _DEEPEST:
        # the place of something nested this deep is longer than anybody reads
        yield (
            UnstorableValueError,
            f"{place[:80]}... is nested too deep ({_DEEPEST} levels are possible), or holds itself",
        )
    elif kind is dict:
        for key, part in value.items():
            if type(key) is not str:
                yield UnstorableTypeError, f"{place} has the key {key!r}: keys inside of values must be str"
            elif (reason := _scalar_problem(key)) is not None:
                yield UnstorableValueError, f"{place} has the key {key!r}, which {reason}"
            else:
                yield from _problems(part, f"{place}[{key!r}]", depth + 1)
    elif kind in (list, tuple):
        for index, part in enumerate(value):
            yield from _problems(part, f"{place}[{index}]", depth + 1)
    elif (reason := _scalar_problem(value)) is not None:
        error = UnstorableValueError if kind in _SCALARS else UnstorableTypeError
        yield error, f"{place} {reason}; convert it first, or pass default= when opening the POD"
