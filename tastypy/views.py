"""Iteration that is safe while the POD changes, and the views that have it."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from types import MappingProxyType
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_ABSENT: Any = object()


def keys_forward(memory: dict[K, Any]) -> Iterator[K]:
    """Yield the keys there now, then those added meanwhile; those deleted meanwhile are skipped.

    A POD that was closed meanwhile raises ClosedPODError, since `in` and `len` do.
    """
    return _forward(memory, list(dict.keys(memory)))


def _forward(memory: dict[K, Any], keys: list[K]) -> Iterator[K]:
    seen: set[K] = set()
    while keys:
        for key in keys:
            if key in memory:
                yield key
        now = list(dict.keys(memory))
        if now == keys:
            break
        seen.update(keys)
        keys = [key for key in now if key not in seen]
    len(memory)


def keys_backward(memory: dict[K, Any]) -> Iterator[K]:
    """Yield the keys there now from the last to the first, without those deleted meanwhile."""
    keys = list(dict.keys(memory))
    return (key for key in reversed(keys) if key in memory)


class _View:
    """What the three views have in common."""

    __slots__ = ()
    _mapping: dict[Any, Any]

    @property
    def mapping(self) -> MappingProxyType[Any, Any]:
        """The POD, read only."""
        return MappingProxyType(self._mapping)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)!r})"  # type: ignore[call-overload]  # the views can be iterated


class Keys(_View, KeysView[K]):
    """The keys of a POD."""

    def __iter__(self) -> Iterator[K]:
        return iter(self._mapping)

    def __reversed__(self) -> Iterator[K]:
        return keys_backward(self._mapping)


class Values(_View, ValuesView[V]):
    """The values of a POD."""

    def __iter__(self) -> Iterator[V]:
        return (value for _, value in _items(self._mapping, iter(self._mapping)))

    def __reversed__(self) -> Iterator[V]:
        return (value for _, value in _items(self._mapping, reversed(self._mapping)))


class Items(_View, ItemsView[K, V]):
    """The items of a POD."""

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return _items(self._mapping, iter(self._mapping))

    def __reversed__(self) -> Iterator[tuple[K, V]]:
        return _items(self._mapping, reversed(self._mapping))


def _items(memory: dict[K, V], keys: Iterator[K]) -> Iterator[tuple[K, V]]:
    for key in keys:
        value = dict.get(memory, key, _ABSENT)
        if value is not _ABSENT:  # another thread may have deleted it just now
            yield key, value
