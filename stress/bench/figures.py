"""Numbers out of measurements, and text out of numbers: pure, and known to the tables, the charts and the tests alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import NamedTuple

_FEWEST = {50.0: 3, 99.0: 100, 99.9: 1000, 100.0: 100}  # samples that a percentile takes: less would be another one's


class Spread(NamedTuple):
    """What several rounds gave: the median, the least and the greatest."""

    middle: float
    low: float
    high: float

    def percent(self) -> int:
        """Return half of the distance between the least and the greatest, in percent of the median."""
        return round(50 * (self.high - self.low) / self.middle) if self.middle else 0


def spread(values: Sequence[float]) -> Spread:
    """Return what the values of several rounds come to."""
    return Spread(median(values), min(values), max(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the least of the values that at least so many percent of them do not exceed.

    Raises:
        ValueError: there are too few of them to tell.
    """
    least = _FEWEST.get(percent, 1)
    if len(values) < least:
        raise ValueError(f"fewer than {least:,} in the time: too few to tell")
    return sorted(values)[max(math.ceil(len(values) * percent / 100) - 1, 0)]


def slope(points: Mapping[int, float]) -> float:
    """Return the exponent with which the costs grow with the sizes: least squares, on logarithmic scales."""
    places = [math.log(size) for size in points]
    heights = [math.log(cost) for cost in points.values()]
    middle, height = fmean(places), fmean(heights)
    across = sum((place - middle) * (high - height) for place, high in zip(places, heights, strict=True))
    return across / sum((place - middle) ** 2 for place in places)


def rounded(value: float) -> float:
    """Return the value with three digits, as the small file has it."""
    return float(f"{value:.3g}")


def number(value: float) -> str:
    """Return three digits, without an exponent where that is readable."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


_SCALES = {
    "s": ((1.0, " s"), (1e3, " ms"), (1e6, " µs"), (1e9, " ns")),
    "B": ((1e-6, " MB"), (1e-3, " kB"), (1.0, " B")),
    "B/B": ((1.0, " B/B"),),
    "files": ((1.0, ""),),
    "/s": ((1.0, "/s"),),
}


def amount(cost: float, unit: str) -> str:
    """Return a cost with the unit that suits its size."""
    for factor, name in _SCALES[unit]:
        if cost * factor >= 0.9995:  # what would be printed as 1
            return number(cost * factor) + name
    factor, name = _SCALES[unit][-1]
    return number(cost * factor) + name


class Notes:
    """The reasons beneath a table: each of them once, by a letter."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def letter(self, reason: str) -> str:
        """Return the letter of a reason, a new one if it was not there."""
        return self._reasons.setdefault(reason, _letters(len(self._reasons)))

    def lines(self) -> list[tuple[str, str]]:
        """Return letters and reasons."""
        return [(letter, reason) for reason, letter in self._reasons.items()]


def _letters(index: int) -> str:
    return (_letters(index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)


def beyond(value: float, bound: float, *, at_least: bool, slack: float = 1.0) -> bool:
    """Tell whether a figure is beyond its bound, the bound made `slack` times as wide."""
    return value < bound / slack if at_least else value > bound * slack
