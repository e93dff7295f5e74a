"""Decide whether a history is linearizable: the search of Wing and Gong with the memory of Lowe. Pure, and knows no POD.

A history is calls with what they returned and when they began and ended. It is linearizable if each call can be given one
moment between its begin and its end so that all of them, done in that order one at a time, return what they did return.

The search goes through the orders that the times allow, call by call, and never twice through the same calls done with the
same state (G. Lowe, "Testing for linearizability", 2017). What a call does to a state is told by a function; the state may
hold more than the thing itself, such as what each object knows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import Any, NamedTuple


class Call(NamedTuple):
    """One call.

    Attributes:
        lane: the thread that made it: the calls of a lane follow one another.
        subject: the object that it is a method of.
        name, arguments: of the method.
        result: what it returned, or None if that is not judged; both have tuples instead of lists.
        start, end: in nanoseconds, of one clock for all.
        pending: its process was killed in it, before `end`: it may have been done, or not, and its result is not known.
    """

    lane: int
    subject: int
    name: str
    arguments: tuple[Any, ...]
    result: Any
    start: int
    end: int
    pending: bool = False


class Verdict(NamedTuple):
    """What the search found.

    Attributes:
        linearizable: None if that was not decided, since there were too many states.
        states: how many were looked at.
        stuck: if it is not linearizable, the calls that none of the longest orders could get past.
    """

    linearizable: bool | None
    states: int
    stuck: tuple[Call, ...] = ()


Step = Callable[[Hashable, Call], Iterable[Hashable]]
"""The states after a call that was made in a state and returned what it did; none if it cannot have."""

_MOST_STATES = 100_000


def lanes_of(calls: Iterable[Call]) -> list[list[Call]]:
    """Return the calls of each lane, in order."""
    lanes: dict[int, list[Call]] = {}
    for call in sorted(calls, key=lambda call: call.start):
        lanes.setdefault(call.lane, []).append(call)
    return list(lanes.values())


def search(
    calls: Iterable[Call], state: Hashable, step: Step, own: Collection[str] = (), most: int = _MOST_STATES
) -> Verdict:
    """Decide whether the calls are linearizable from this state on.

    `own` are the names of calls that neither change anything for others nor depend on what others do: as soon as one of
    them may come next, it does, and no other order is tried.
    """
    lanes = lanes_of(calls)
    begin = ((0,) * len(lanes), state)
    seen: set[tuple[tuple[int, ...], Hashable]] = {begin}
    todo = [begin]
    farthest, stuck = -1, tuple[Call, ...]()
    while todo:
        at, state = todo.pop()
        ready = _ready(lanes, at, own)
        if not ready:
            return Verdict(linearizable=True, states=len(seen))
        if sum(at) > farthest:
            farthest, stuck = sum(at), tuple(lanes[number][at[number]] for number in ready)
        for number in ready:
            call = lanes[number][at[number]]
            after = (*at[:number], at[number] + 1, *at[number + 1 :])
            for following in (*step(state, call), *([state] if call.pending else ())):
                node = (after, following)
                if node not in seen:
                    seen.add(node)
                    todo.append(node)
        if len(seen) > most:
            return Verdict(linearizable=None, states=len(seen))
    return Verdict(linearizable=False, states=len(seen), stuck=stuck)


def _ready(lanes: Sequence[Sequence[Call]], at: tuple[int, ...], own: Collection[str]) -> list[int]:
    """Return the lanes whose next call may come next: it began before any other that is left has ended."""
    heads = {
        number: lane[place] for number, (lane, place) in enumerate(zip(lanes, at, strict=True)) if place < len(lane)
    }
    first_end = min((call.end for call in heads.values()), default=0)
    ready = [number for number, call in heads.items() if call.start <= first_end]
    for number in ready:
        if heads[number].name in own:
            return [number]
    return sorted(
        ready, key=lambda number: -heads[number].end
    )  # what ended first is looked at first, as the last one here


def frozen(value: Any) -> Any:
    """Return JSON values with tuples instead of lists, so that they may be in a set."""
    return tuple(frozen(one) for one in value) if isinstance(value, list | tuple) else value


def table(calls: Iterable[Call], stuck: Collection[Call] = ()) -> str:
    """Return the calls as lines, in the order of their begin; marked are those that the search could not get past."""
    ordered = sorted(calls, key=lambda call: call.start)
    zero = ordered[0].start if ordered else 0
    lines = ["      begin       end  lane object  call"]
    for call in ordered:
        times = f"{(call.start - zero) / 1000:9.1f} {(call.end - zero) / 1000:9.1f}"
        result = "killed in it" if call.pending else f"-> {call.result!r}"
        mark = ">>" if call in stuck else "  "
        arguments = ", ".join(map(repr, call.arguments))
        lines.append(f"{mark} {times} {call.lane:5d} {call.subject:6d}  {call.name}({arguments}) {result}")
    return "\n".join(lines)
