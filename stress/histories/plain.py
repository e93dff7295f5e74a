"""What a POD's calls do to a plain dict, and what each object that shares it then sees: the model of `histories`. Pure.

A state is the entries, in order, and a view for each object: the entries as they were at that object's last commit, refresh
or opening, which is what its reads must give. So a view is the state after some of the calls in their order, it only moves
forward, and it moves to the moment of each commit or refresh; nothing else moves it.

Not judged: a read that overlaps a call of another thread on the same object, whose changes may be seen before they are
committed; the keys that `refresh` returns beyond those whose values differ, and all of them where two threads use the object;
and, since each piece of a history is judged by itself, a read of what an object saw before the last rest.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from itertools import pairwise
from typing import Any

from stress.histories.linear import Call, frozen, lanes_of

Entries = tuple[tuple[str, Any], ...]

OWN = frozenset({"get", "items", "backward", "fork"})  # what touches its own object only
LOOKS = frozenset({"open", "refresh", "sync"})  # what moves the view, and changes nothing
_MISSING = object()


class WantedError(Exception):
    """What a transaction is left with, so that it does nothing."""


class Plain(OrderedDict[str, Any]):
    """An ordered dict with those methods of a POD that it lacks."""

    def incr(self, key: str, by: int = 1) -> int:
        """Add `by` to a number."""
        self[key] = self.get(key, 0) + by
        return int(self[key])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Undo, on an exception, what the block did."""
        before = [*self.items()]
        try:
            yield
        except BaseException:
            self.clear()
            self.update(before)
            raise

    def hold(self) -> AbstractContextManager[None]:
        """Hold nothing."""
        return nullcontext()

    @contextmanager
    def edit(self, key: str, default: list[Any]) -> Iterator[list[Any]]:
        """Give a list to be changed, and store it."""
        value = [*self.get(key, default)]
        yield value
        self[key] = frozen(value)


def perform(target: Any, name: str, arguments: Sequence[Any]) -> Any:
    """Make a call on a POD, or on a `Plain`; return what it returned, or the name of the KeyError that it raised."""
    try:
        return _perform(target, name, arguments)
    except KeyError:
        return "KeyError"


def _perform(target: Any, name: str, arguments: Sequence[Any]) -> Any:
    match name:
        case "set":
            target[arguments[0]] = arguments[1]
        case "delete":
            del target[arguments[0]]
        case "update":
            target.update(dict(arguments[0]))
        case "held":
            with target.hold():
                for key, value in arguments[0]:
                    target[key] = value
        case "edit":
            with target.edit(arguments[0], default=[]) as value:
                value.append(arguments[1])
            return [*value]
        case "move":  # an amount from one to another: their sum stays
            giver, taker, amount = arguments
            with target.transaction():
                before = target.get(giver, 0), target.get(taker, 0)
                target[giver] = before[0] - amount
                target[taker] = before[1] + amount
            return before
        case "transaction":
            with target.transaction():
                return [_perform(target, *one) for one in arguments]
        case "aborted":
            return _aborted(target, arguments)
        case "items":
            return [*target.items()]
        case "backward":
            return [*reversed(target)]
        case _:  # get, pop, popitem, setdefault, incr, clear, move_to_end, refresh, sync
            return getattr(target, name)(*arguments)
    return None


def _aborted(target: Any, steps: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    with suppress(WantedError), target.transaction():
        found += [_perform(target, *one) for one in steps]
        raise WantedError
    return found


class Shared:
    """The meaning of calls on objects that share a dict, as `linear.search` asks for it."""

    def __init__(self, calls: Sequence[Call]) -> None:
        subjects = {call.subject for call in calls} | {call.arguments[0] for call in calls if call.name == "fork"}
        self._places = {subject: place for place, subject in enumerate(sorted(subjects))}
        self._unread = _unread(calls)

    def state(self, entries: Entries) -> Hashable:
        """Return the state in which all have these entries in view."""
        return entries, (entries,) * len(self._places)

    def step(self, state: Any, call: Call) -> Iterable[Hashable]:
        """Return the state after a call, or none if it could not return what it did."""
        entries, views = state
        place = self._places[call.subject]
        if call.name == "fork":
            view = views[self._places[call.arguments[0]]]
        elif call.name in LOOKS:
            view = entries
            if (
                call.name == "refresh"
                and call.result is not None
                and not _differing(views[place], entries) <= {*call.result}
            ):
                return ()
        elif call.name in OWN:
            found = perform(Plain(views[place]), call.name, call.arguments)
            return (state,) if frozen(found) == call.result else ()
        else:
            memory = Plain(entries)
            found = perform(memory, call.name, call.arguments)
            if not call.pending and frozen(found) != call.result:
                return ()
            view = entries = tuple(memory.items())
        if call in self._unread:
            view = ()  # which makes states equal that no call can tell apart
        return ((entries, (*views[:place], view, *views[place + 1 :])),)


def _unread(calls: Sequence[Call]) -> set[Call]:
    """Return the calls whose object has its view moved again before anything is read of it."""
    forks = {call.arguments[0] for call in calls if call.name == "fork"}
    lanes = [lane for lane in lanes_of(calls) if lane[0].subject not in forks]
    often = Counter(lane[0].subject for lane in lanes)
    return {
        call
        for lane in lanes
        if often[lane[0].subject] == 1
        for call, following in pairwise(lane)
        if following.name != "refresh" and following.name not in OWN
    }


def _differing(before: Entries, after: Entries) -> set[str]:
    """Return the keys that are in one of them only, or whose values differ."""
    old, new = dict(before), dict(after)
    return {key for key in old.keys() | new.keys() if old.get(key, _MISSING) != new.get(key, _MISSING)}
