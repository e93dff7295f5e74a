"""The import of entries from anywhere: all of them are read, and found to be storable, before one commit stores them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from tastypy import entries
from tastypy.errors import (
    DuplicateKeyError,
    ExchangeError,
    UnstorableTypeError,
    UnstorableValueError,
    WrongTypeError,
)
from tastypy.exchange.methods import Imported
from tastypy.exchange.places import READ, Place, place_of
from tastypy.exchange.reading import Options, source_of
from tastypy.exchange.rows import without_claim
from tastypy.layers import Layer
from tastypy.reading import without_collector
from tastypy.shards import entry_name
from tastypy.values import PLAIN, Codec, encode_key, encode_value, type_of_default

if TYPE_CHECKING:
    from tastypy.pod import PersistentOrderedDict

EXISTING = ("error", "skip", "replace")


class Parcel(NamedTuple):
    """What was read and can be stored.

    Attributes:
        name: what messages call the source; unit: what its entries are numbered by.
        existing: what to do about keys that are there already.
        items: all of it; texts: of each key, its and the value's JSON, as in a batch; numbers: of each key, that of its entry.
        skipped, replaced: how many entries were left out, or others took their place, since the source has their keys twice.
        unstorable: of each entry that cannot be stored, what is wrong with it.
    """

    name: str
    unit: str
    existing: str
    items: dict[Any, Any]
    texts: dict[Any, bytes]
    numbers: dict[Any, int]
    skipped: int
    replaced: int
    unstorable: tuple[str, ...]

    def where(self, key: Any) -> str:
        """Return where a key stands in the source."""
        return f"{self.unit} {self.numbers[key]} of {self.name}"


def read(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    format: str | None = None,  # noqa: A002 - what users call it
    existing: str = "error",
    columns: bool = False,
    key: str = "key",
    table: str | None = None,
    unpickle: bool = False,
    skip_unstorable: bool = False,
    default: type_of_default = None,
    codec: Codec = PLAIN,
) -> Parcel:
    """Read everything that is to be imported, and store nothing; see `POD.import_from`. `default` and `codec` are the POD's."""
    if existing not in EXISTING:
        message = f"existing must be one of {', '.join(EXISTING)}, not {existing!r}"
        raise ValueError(message)
    place = place_of(source, format, READ)
    options = Options(columns=columns, key=key, table=table, unpickle=unpickle)
    take = partial(codec.take, default=default)
    return without_collector(partial(_read, place, options, existing, take, skip_unstorable=skip_unstorable))


def _read(
    place: Place, options: Options, existing: str, take: Callable[..., tuple[bytes, Any]], *, skip_unstorable: bool
) -> Parcel:
    found = source_of(place, options)
    items: dict[Any, Any] = {}
    texts: dict[Any, bytes] = {}
    numbers: dict[Any, int] = {}
    unstorable: list[str] = []
    twice = 0
    for number, name, value in found.entries:
        try:
            text = encode_key(name)
            body, copy = take(without_claim(value), key=name)
        except (UnstorableTypeError, UnstorableValueError, WrongTypeError) as error:
            what = f"{place.name}, {found.unit} {number}: {error.message}"
            if not skip_unstorable:
                message = f"{what}; or leave such entries out, with skip_unstorable=True (--skip-unstorable); nothing was imported"
                raise type(error)(message, place.path or None) from error
            unstorable.append(what)
            continue
        if name in items:
            if existing == "error":
                message = (
                    f"{place.name}, {found.unit} {number}: the key {name!r} is in {found.unit} {numbers[name]} already: choose "
                    f"which one counts, {_CHOICE}; nothing was imported"
                )
                raise DuplicateKeyError(message, place.path or None)
            twice += 1
            if existing == "skip":
                continue
            text = entry_name(texts[name])  # as in a dict, the first spelling of equal keys stays
        items[name], texts[name] = copy, b"%b:%b" % (text, body)
        numbers[name] = number
    skipped, replaced = (twice, 0) if existing == "skip" else (0, twice)
    return Parcel(place.name, found.unit, existing, items, texts, numbers, skipped, replaced, tuple(unstorable))


_CHOICE = 'the first with existing="skip" (--existing skip), or the last with "replace"'


def store(pod: PersistentOrderedDict[Any, Any], parcel: Parcel) -> Imported:
    """Store what was read, in one commit."""

    def action(layer: Layer) -> Imported:
        known = [key for key in parcel.items if key in pod]
        if known and parcel.existing == "error":
            more = f" and {len(known) - 1:,} more" if len(known) > 1 else ""
            message = (
                f"{pod.path} has the key {known[0]!r} ({parcel.where(known[0])}){more} already: leave such entries out with "
                'existing="skip" (--existing skip), or replace what is there with "replace"; nothing was imported'
            )
            raise DuplicateKeyError(message, pod.path)
        items, texts = parcel.items, parcel.texts
        if known and parcel.existing == "skip":
            items = {key: value for key, value in items.items() if key not in pod}
        if _has_tasks(pod):
            items = {key: _sound(pod, parcel, key, value) for key, value in items.items()}
            texts = {key: b"%b:%b" % (encode_key(key), encode_value(entry)[0]) for key, entry in items.items()}
        if items:
            layer.set_many(items, b'"put":{%b}' % b",".join([texts[key] for key in items]))
        if parcel.existing == "skip":
            return Imported(len(items), parcel.replaced, parcel.skipped + len(known), parcel.unstorable)
        return Imported(len(items) - len(known), parcel.replaced + len(known), parcel.skipped, parcel.unstorable)

    return pod._run("import", action)  # noqa: SLF001 - one commit, of what is known to be storable: there is nothing public for it


def _has_tasks(pod: PersistentOrderedDict[Any, Any]) -> bool:
    """Tell whether the directory is that of a tracker, though it may be open as a POD."""
    from tastypy.tasks import TaskDict  # noqa: PLC0415 - it imports what imports this package

    fields = entries.FRESH.keys()
    return isinstance(pod, TaskDict) or any(
        type(value) is dict and fields <= value.keys() for value in dict.values(pod)
    )


def _sound(pod: PersistentOrderedDict[Any, Any], parcel: Parcel, key: Any, value: Any) -> Any:
    wrong = entries.problem(value)
    if wrong is not None:
        message = f"{parcel.where(key)}: {key!r} {wrong}, and {pod.path} is a tracker; nothing was imported"
        raise ExchangeError(message, pod.path)
    return {**entries.FRESH, **value}
