"""The surface of `dict` and `OrderedDict`, each mutator one commit; `pod` adds what is a POD's own."""

from __future__ import annotations

import copy as copies
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, overload

from tastypy.changes import plain
from tastypy.errors import MissingKeyError, TastypyError
from tastypy.following import Front
from tastypy.layers import ABSENT, Layer
from tastypy.memory import Memory
from tastypy.values import encode_key
from tastypy.views import Items, Keys, Values, keys_backward, keys_forward

if TYPE_CHECKING:
    from _typeshed import SupportsKeysAndGetItem

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class SharedDict(Memory[K, V]):
    """A dict whose changes go to a directory."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]  # as for any dict

    def __setitem__(self, key: K, value: V) -> None:
        """Set `pod[key]`, one commit.

        Raises:
            UnstorableTypeError, UnstorableValueError: JSON cannot hold the key or the value exactly.
            WrongTypeError: the value is not of the `type` of this POD.
            CommitError: it could not be written (a full disk, say); nothing changed.
        """
        name = encode_key(key)
        text, copy = self._codec.encode(value, self._default, key)
        store = self._store
        lock = store.lock
        if lock.busy == get_ident():
            lock.deferred.append(partial(self.__setitem__, key, copy))
            return

        batch = b'"put":{%b:%b}' % (name, text), {key: copy}
        if not (store.writable and lock.transaction is None and self._commit_items(lambda: batch, unless_held=True)):
            self._run("assignment", lambda layer: layer.set(key, copy, text))

    def __delitem__(self, key: K) -> None:
        """Delete `pod[key]`, one commit; KeyError if it is not there."""
        if not self._later(self.__delitem__, key):
            self._run("deletion", lambda layer: self._delete(layer, key))

    def _delete(self, layer: Layer, key: K) -> Any:
        if key not in self:
            raise KeyError(key)
        if self._front is not None:
            self._front.gone.add(key)
        return layer.delete(self._storable(key))

    def _storable(self, key: Any) -> Any:
        """Return `key`, which is there, or its stored spelling, if it is equal to that and cannot be stored itself."""
        try:
            encode_key(key)
        except TastypyError:
            return next(stored for stored in dict.keys(self) if stored == key)
        return key

    def _later(self, action: Callable[..., object], *arguments: Any) -> bool:
        """Put the action off if a signal handler or finaliser calls it inside a commit; tell whether that is so."""
        lock = self._store.lock
        if lock.busy != get_ident():
            return False
        lock.deferred.append(partial(action, *arguments))
        return True

    def __iter__(self) -> Iterator[K]:
        """Yield the keys there now, then those added meanwhile; those deleted meanwhile are skipped."""
        return keys_forward(self)

    def __reversed__(self) -> Iterator[K]:
        """Yield the keys there now from the last to the first, without those deleted meanwhile."""
        return keys_backward(self)

    def keys(self) -> Keys[K]:  # type: ignore[override]  # dict's view types cannot be made in Python
        """Return a view of the keys, whose iteration is that of the POD."""
        return Keys(self)

    def values(self) -> Values[V]:  # type: ignore[override]  # as above
        """Return a view of the values, whose iteration is that of the POD."""
        return Values(self)

    def items(self) -> Items[K, V]:  # type: ignore[override]  # as above
        """Return a view of the items, whose iteration is that of the POD."""
        return Items(self)

    def clear(self) -> None:
        """Delete everything, one commit. Under `hold` that means the keys known now."""
        if not self._later(self.clear):
            self._run("clear", self._clear)

    def _clear(self, layer: Layer) -> None:
        self._front = None
        if layer is self._held:
            for key in list(dict.keys(self)):
                layer.delete(key)
        elif self:
            layer.wipe()

    @overload
    def pop(self, key: K, /) -> V: ...

    @overload
    def pop(self, key: K, default: V, /) -> V: ...

    @overload
    def pop(self, key: K, default: T, /) -> V | T: ...

    def pop(self, key: K, *default: Any) -> Any:
        """Delete `key` and return its value, one commit; without the key return `default` or raise KeyError."""
        if len(default) > 1:
            message = f"pop expected at most 2 arguments, got {1 + len(default)}"
            raise TypeError(message)
        return self._run("pop", lambda layer: default[0] if default and key not in self else self._delete(layer, key))

    def popitem(self, last: bool = True) -> tuple[K, V]:
        """Delete the last item, or the first one, and return it, one commit; KeyError if there is none."""
        return self._run("popitem", partial(self._popitem, last))

    def _popitem(self, last: bool, layer: Layer) -> tuple[K, V]:
        if not self:
            message = f"popitem: {self!r} is empty"
            raise KeyError(message)
        if last:
            key = next(dict.__reversed__(self))
        elif self._front is None or (key := self._front.next()) is ABSENT:
            self._front = Front(self)
            key = self._front.next()
        return key, self._delete(layer, key)

    def setdefault(self, key: K, default: V = None) -> V:  # type: ignore[assignment]  # dict's None, for whatever V is
        """Return `pod[key]`, set to `default` if it was missing in the directory: one commit, so one process sets it."""
        encode_key(key)
        text, copy = self._codec.encode(default, self._default, key)

        def action(layer: Layer) -> V:
            if key not in self:
                layer.set(key, copy, text)
            return self[key]

        return self._run("setdefault", action)

    @overload
    def update(self, key: str, /) -> None: ...

    @overload
    def update(self, items: SupportsKeysAndGetItem[K, V], /, **more: V) -> None: ...

    @overload
    def update(self, items: Iterable[tuple[K, V]], /, **more: V) -> None: ...

    @overload
    def update(self, /, **more: V) -> None: ...

    def update(self, /, *arguments: Any, **more: Any) -> None:
        """Set all items of a mapping or of an iterable of pairs, one commit; or, with a lone `str`, `sync_key` of it."""
        if len(arguments) == 1 and not more and type(arguments[0]) is str and arguments[0]:
            self.sync_key(arguments[0])  # type: ignore[arg-type]  # a key, where keys are str
            return
        self._update(dict(*arguments, **more))

    def _update(self, items: dict[Any, Any]) -> None:
        text, copy = self._codec.encode_items(items, self._default)
        if not copy or self._later(self._update, copy):
            return
        content = b'"put":%b' % text
        store = self._store
        at_once = store.writable and store.lock.transaction is None
        if not (at_once and self._commit_items(lambda: (content, copy), unless_held=True)):
            self._run("update", lambda layer: layer.set_many(copy, content))

    def sync_key(self, key: K) -> None:
        """Commit the value of `key` as it is now: it was mutated in place, which nothing told the POD.

        Raises:
            MissingKeyError: there is no such key.
        """
        value = dict.get(self, key, ABSENT)
        if value is ABSENT:
            message = f"{self!r} has no key {key!r} to synchronise; pod[{key!r}] = value adds it"
            raise MissingKeyError(message, self._store.path)
        key = self._storable(key)
        # before catching up, or another process's value would take the place of the mutated object
        text, copy = self._codec.encode_again(value, self._default, key)
        if self._later(self.__setitem__, key, copy):
            return

        def action(layer: Layer) -> None:
            if layer.user and dict.get(self, key) is copy:
                layer.touch(key)
            else:
                layer.set(key, copy, text)

        self._run("update(key)", action)

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc,override]  # `|` gives a plain dict
        """Do what `update` does."""
        self._update(dict(other))
        return self

    def copy(self) -> dict[K, V]:
        """Return a plain dict with the same items; atomic against the threads of this process, and fast."""
        return plain(self)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[K, V]:
        return copies.deepcopy(plain(self), memo)

    @classmethod
    def fromkeys(cls, *_: object) -> NoReturn:
        """Raise: a POD needs a path. Use `update(dict.fromkeys(...))`."""
        message = f"{cls.__name__} has no fromkeys, since it needs a path: pod.update(dict.fromkeys(...))"
        raise TypeError(message)

    def move_to_end(self, key: K, last: bool = True) -> None:
        """Move `key` to the end, or to the front, one commit; KeyError if it is not there."""
        if not self._later(self.move_to_end, key, last):
            self._run("move_to_end", lambda layer: self._move(layer, key, last=last))

    def _move(self, layer: Layer, key: K, *, last: bool) -> None:
        if key not in self:
            raise KeyError(key)
        self._front = None
        layer.move(key, last=last)
