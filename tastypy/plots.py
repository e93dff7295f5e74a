"""The picture of a tracker: what was done when and how fast, by whom, how often tasks were tried, and which errors there are.

What is known of a task is its entry, so of each task it is the last try that is shown. All is counted in here, into so many
bins, points and rows that a picture of a million tasks is as large as one of a thousand; how it is drawn is left to `drawing`.
"""

from __future__ import annotations

import os
import re
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from tastypy import drawing, entries, files, workers
from tastypy.changes import plain
from tastypy.entries import Counts
from tastypy.exchange.places import Place, extra, written

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tastypy.claims import ClaimedDict

SUFFIXES = (".svg", ".png", ".pdf")

_MOST_POINTS = 800  # of a line
_MOST_BINS = 120  # of time
_MOST_LANES = 200
_MOST_ERRORS = 8
_MOST_TRIES = 8  # from which on tries are counted together
_FIRST = 946_684_800.0  # 2000: what is said to have happened before did not
_AHEAD = 86_400.0  # seconds that the clock of another host may be ahead
_WIDTHS = [  # of bins, in seconds
    *(digit * 10.0**power for power in range(-3, 1) for digit in (1, 2, 5)),
    *(10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400),
    *(86_400 * days for days in (2, 7, 14, 30, 90, 365)),
]


class Row(NamedTuple):
    """How many tasks there are of a kind: `done` ones, `failed` ones (given up or not), and `other` ones."""

    name: str
    done: int
    failed: int
    other: int


@dataclass(frozen=True, slots=True)
class Lane:
    """What a worker did.

    Attributes:
        name: "HOST:PID".
        number: how many tasks it ended.
        since: when it began, if it is alive, or None.
        done, failed: in each bin, how many tasks it ended so.
        claims: since when it has each of the tasks that it has in hand.
    """

    name: str
    number: int
    since: float | None
    done: list[int]
    failed: list[int]
    claims: list[float]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is drawn. All times are in seconds since the epoch.

    Attributes:
        path: of the tracker.
        counts: how many tasks there are in each state.
        start, end: of the time that is shown.
        width: of a bin, in seconds.
        bins: the time at which each bin begins, and the end of the last one; none if nothing has a time.
        curve: times, and how many tasks were done by then.
        done, failed: in each bin, how many tasks ended so.
        tries: how many tasks were tried so often.
        errors: how many tasks have which error, the most frequent first, and at last how many have another one.
        lanes: of the workers.
        hidden: how many more workers there are.
        untimed: how many tasks were done or failed at no time, or at an impossible one.
        unnamed: how many tasks were done or failed by nobody knows whom.
    """

    path: str
    counts: Counts
    start: float
    end: float
    width: float
    bins: list[float]
    curve: list[tuple[float, int]]
    done: list[int]
    failed: list[int]
    tries: list[Row]
    errors: list[tuple[str, int]]
    lanes: list[Lane]
    hidden: int
    untimed: int
    unnamed: int


def plot(tracker: ClaimedDict[Any], path: str | os.PathLike[str] | None = None) -> Figure:
    """Return the picture of a tracker; with a `path`, write it there, too. See `Tracker.plot`."""
    place = checked(path) if path is not None else None
    require()
    figure = drawing.draw(facts_of(tracker))
    if place is not None:
        with written(place) as file:
            file.write(drawing.rendered(figure, place.format))
    return figure


def checked(path: str | os.PathLike[str]) -> Place:
    """Return where a picture is to be written.

    Raises:
        ValueError: its suffix says no format that there is.
    """
    place = files.absolute(path, "the path of a picture")
    suffix = os.path.splitext(place)[1]
    if suffix.lower() not in SUFFIXES:
        what = f"has the suffix {suffix}" if suffix else "has no suffix"
        message = f"{os.fspath(path)!r} {what}: a picture ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise ValueError(message)
    return Place(place, None, place, suffix[1:].lower())


def require() -> None:
    """Raise MissingExtraError if what is drawn with is not installed."""
    extra("matplotlib", "plot")


# --- counting


# A task whose last try has ended: when, and by whom, "" where that is not known; whether it is done, else it failed. (There
# may be millions, and a NamedTuple takes five times as long to make.)
_Ended = tuple[float, str, bool]


def facts_of(tracker: ClaimedDict[Any]) -> Facts:
    """Return what there is to draw."""
    index = tracker._figures()
    now = time.time()
    ended: list[_Ended] = []
    tries: dict[int, list[int]] = {}
    errors: Counter[str] = Counter()
    untimed = 0
    for entry in plain(tracker).values():
        state = entries.state_of(entry, 0)
        failed = state != "aborted" and "_error" in entry and not entry.get("_done", False)
        kind = 0 if state == "done" else 1 if failed else 2
        tries.setdefault(entry.get("_tries", 0), [0, 0, 0])[kind] += 1
        if failed:
            errors[entry["_error"]] += 1
        if kind == 2 or state == "claimed":  # it is being tried again, and `_at` says since when
            continue
        at, worker = entry.get("_at", 0.0), entry.get("_worker", "")
        if _FIRST <= at <= now + _AHEAD:
            ended.append((at, worker if type(worker) is str else "", kind == 0))
        else:
            untimed += 1
    ended.sort()
    alive, claims = _crew(tracker, index.holders)
    start, end = _span(ended, alive.values(), (since for held in claims.values() for since in held), now)
    width = _width(end - start, len(ended))
    bins = _bins(start, end, width) if ended or alive or claims else []
    done, failures = _histogram(ended, bins)
    lanes, hidden = _lanes(ended, bins, alive, claims)
    return Facts(
        path=tracker.path,
        counts=index.figures.counts,
        start=start,
        end=end,
        width=width,
        bins=bins,
        curve=_curve([at for at, _, done in ended if done]),
        done=done,
        failed=failures,
        tries=_tries(tries),
        errors=_errors(errors),
        lanes=lanes,
        hidden=hidden,
        untimed=untimed,
        unnamed=sum(not worker for _, worker, _ in ended),
    )


def _crew(tracker: ClaimedDict[Any], holders: dict[str, Any]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Return since when each worker that is alive is there, and since when each has what it has in hand."""
    alive: dict[str, float] = {}
    claims: dict[str, list[float]] = {}
    for one in workers.seen(tracker._store):
        if not one.alive or one.who.get("role") == "run":
            continue
        name = workers.label_of(one.who.get("host"), one.who.get("pid"))
        since = one.who.get("since")
        if _is_time(since):
            alive[name] = min(since, alive.get(name, since))
        for key in list(holders.get(one.name, ())):
            entry = dict.get(tracker, key, {})
            claim = entry.get("_claim")
            if claim is not None and entries.is_in_hand(claim, one.in_hand) and _is_time(entry.get("_at")):
                claims.setdefault(name, []).append(entry["_at"])
    return alive, claims


def _is_time(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and _FIRST <= value <= time.time() + _AHEAD


def _span(ended: Sequence[_Ended], begun: Iterable[float], claimed: Iterable[float], now: float) -> tuple[float, float]:
    """Return the time that is shown: up to now if there is somebody at work."""
    times = [*begun, *claimed]
    if times:
        times.append(now)
    if ended:
        times += [ended[0][0], ended[-1][0]]
    if not times:
        return now, now
    start, end = min(times), max(times)
    return start, max(end, start + 0.01)


def _width(seconds: float, number: int) -> float:
    """Return the width of bins, a round number: few bins where there are few tasks."""
    most = min(max(number // 4, 10), _MOST_BINS)
    return next((width for width in _WIDTHS if seconds / width <= most), seconds / most)


def _bins(start: float, end: float, width: float) -> list[float]:
    """Return where bins begin, and where the last one ends.

    It is the first one that is not full, since a rate that seems to fall just now would be taken for true.
    """
    return [end - step * width for step in range(int((end - start) / width) + 1, -1, -1)]


def _histogram(ended: Iterable[_Ended], bins: Sequence[float]) -> tuple[list[int], list[int]]:
    """Return how many tasks were done in each bin, and how many failed; what ended at the end of the last one is in it."""
    number = max(len(bins) - 1, 0)
    done, failed = [0] * number, [0] * number
    for at, _, is_done in ended:
        (done if is_done else failed)[min(bisect_right(bins, at), number) - 1] += 1
    return done, failed


def _curve(times: Sequence[float]) -> list[tuple[float, int]]:
    """Return some of the times, the first and the last one among them, with how many there are up to each."""
    step = max(1, (len(times) - 1) / (_MOST_POINTS - 1))
    numbers = {round(step * point) for point in range(_MOST_POINTS)} & {*range(len(times))} | {len(times) - 1}
    return [(times[number], number + 1) for number in sorted(numbers) if number >= 0]


def _tries(tries: dict[int, list[int]]) -> list[Row]:
    numbers = range(min(tries, default=0), min(max(tries, default=-1), _MOST_TRIES - 1) + 1)
    rows = {number: tries.get(number, [0, 0, 0]) for number in numbers}
    many = [counts for number, counts in tries.items() if number >= _MOST_TRIES]
    if many:
        rows[_MOST_TRIES] = [sum(kind) for kind in zip(*many, strict=True)]
    last = f"{_MOST_TRIES} or more" if max(tries, default=0) > _MOST_TRIES else f"{_MOST_TRIES}"
    return [Row(last if number == _MOST_TRIES else str(number), *counts) for number, counts in rows.items()]


def _errors(errors: Counter[str]) -> list[tuple[str, int]]:
    """Return the most frequent errors by their first lines, or, if there are many, by what is before the first colon."""
    lines: Counter[str] = Counter()
    for text, number in errors.items():
        lines[text.strip().partition("\n")[0].strip() or "(no text)"] += number
    if len(lines) > _MOST_ERRORS:
        kinds: dict[str, list[str]] = {}
        for line in lines:
            kinds.setdefault(_kind_of_error(line), []).append(line)
        lines = Counter(
            {
                own[0] if len(own) == 1 else f"{kind}: … ({len(own):,} different)": sum(lines[line] for line in own)
                for kind, own in kinds.items()
            }
        )
    shown = lines.most_common(_MOST_ERRORS if len(lines) <= _MOST_ERRORS else _MOST_ERRORS - 1)
    rest = lines.total() - sum(number for _, number in shown)
    return [*shown, (f"{len(lines) - len(shown):,} others", rest)] if rest else shown


def _kind_of_error(line: str) -> str:
    match = re.match(r"[\w.]{1,80}(?=:)", line)  # as a traceback ends: the type, and a colon
    return match[0] if match else line.partition(" ")[0][:80]


def _lanes(
    ended: Iterable[_Ended], bins: Sequence[float], alive: dict[str, float], claims: dict[str, list[float]]
) -> tuple[list[Lane], int]:
    """Return the lanes of the workers, and how many more there are; those alive, and those who did most, come first."""
    own: dict[str, list[_Ended]] = {name: [] for name in (*alive, *claims)}
    for one in ended:
        if one[1]:
            own.setdefault(one[1], []).append(one)
    first = sorted(own, key=lambda name: (name not in alive and name not in claims, -len(own[name])))
    lanes = [
        Lane(name, len(own[name]), alive.get(name), *_histogram(own[name], bins), sorted(claims.get(name, [])))
        for name in sorted(first[:_MOST_LANES], key=_natural)
    ]
    return lanes, len(own) - len(lanes)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return what sorts names as people do: node9 before node10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]{1,9})", name)]
