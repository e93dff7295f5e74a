"""Rows: tastypy against one other thing each, as a ratio that most of them have a bound for. The rows themselves stand in `pairs` and its kin."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, NamedTuple

from stress.bench.bench import Bench, Pair, Sides
from stress.bench.cells import LeftOutError
from stress.bench.figures import amount, beyond, spread
from stress.bench.large import LARGE_PAIRS
from stress.bench.pairs import PAIRS
from stress.bench.tasks import TASK_PAIRS
from stress.bench.together import TOGETHER_PAIRS

ROWS = (*PAIRS, *LARGE_PAIRS, *TOGETHER_PAIRS, *TASK_PAIRS)
SLACK = 2.0  # of --quick, which is for machines with other things to do
_DOUBTED = 4  # times as many rounds does it take where a row would fail: one or three say little on such a machine


class Result(NamedTuple):
    """A row that was measured: the costs of both sides and the ratio in each round; or why it could not be."""

    pair: Pair
    what: str
    against: str
    ours: list[float]
    theirs: list[float]
    ratios: list[float]
    why: str = ""

    def beyond(self, slack: float = 1.0) -> bool:
        """Tell whether it has a bound and is beyond it, the bound made `slack` times as wide, or could not be measured."""
        if self.why:
            return True
        bound = self.pair.bound
        return bound is not None and beyond(median(self.ratios), bound, at_least=self.pair.rate, slack=slack)

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        pair = self.pair
        bound = "" if pair.bound is None else f"{'≥' if pair.rate else '≤'} {pair.bound:.2f}"
        if self.why:
            return (pair.name, self.what, self.against, "-", "-", "-", "-", bound, self.why)
        ratio = spread(self.ratios)
        return (
            pair.name,
            self.what,
            self.against,
            amount(median(self.ours), pair.unit),
            amount(median(self.theirs), pair.unit),
            f"{ratio.middle:.2f}",
            f"{ratio.low:.2f}..{ratio.high:.2f}",
            bound,
            "" if pair.bound is None else "BEYOND" if self.beyond() else "ok",
        )

    def fields(self) -> dict[str, Any]:
        """Return the row as JSON has it."""
        pair = self.pair
        return {
            "name": pair.name,
            "what": self.what,
            "against": self.against,
            "unit": pair.unit,
            "rate": pair.rate,
            "bound": pair.bound,
            "ratio": median(self.ratios) if self.ratios else None,
            "beyond": self.beyond(),
            "left out": self.why,
            "ours": self.ours,
            "theirs": self.theirs,
            "ratios": self.ratios,
        }


def _take(result: Result, sides: Sides, rounds: range) -> None:
    """Measure these rounds, both sides in turn, the first one changing from time to time; one below 0 is for warmth alone."""
    pair = result.pair
    for number in rounds:
        samples: tuple[list[float], list[float]] = ([], [])
        for chunk in range(pair.chunks if number >= 0 else 1):
            for side in (0, 1) if (number + chunk) % 2 else (1, 0):
                gc.collect()
                samples[side].append(sides.theirs() if side else sides.ours())
        ours, theirs = pair.combine(samples[0]), pair.combine(samples[1])
        if number >= 0:
            result.ours.append(ours)
            result.theirs.append(theirs)
            result.ratios.append(theirs / ours if pair.rate else ours / theirs)


def measure(pair: Pair, bench: Bench, rounds: int) -> Result:
    """Measure a row: in the quick form with some rounds more where so few have it fail, for the median of all to tell."""
    what = pair.what.format(large=f"{bench.large:,}")
    result = Result(pair, what, pair.against, [], [], [])
    try:
        with pair.prepare(bench) as sides:
            result = result._replace(against=sides.named or pair.against)
            _take(result, sides, range(-1 if pair.warm else 0, rounds))
            if bench.quick and result.beyond(SLACK):
                _take(result, sides, range(rounds, _DOUBTED * rounds))
    except (ImportError, LeftOutError) as error:
        return Result(pair, what, pair.against, [], [], [], f"could not be measured: {error}")
    return result


HEAD = ("row", "one", "against", "ours", "theirs", "ratio", "spread", "bound", "")
_WIDTHS = (12, 30, 23, 8, 8, 6, 12, 7, 0)


def _print(cells: tuple[str, ...]) -> None:
    print("  ".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip(), flush=True)


def measured_rows(bench: Bench, wanted: Callable[[Pair], bool]) -> Iterator[Result]:
    """Measure the rows that are wanted, in the quick form only those with bounds, and print each."""
    chosen = [pair for pair in ROWS if wanted(pair) and (pair.bound is not None or not bench.quick)]
    if chosen:
        _print(HEAD)
    for pair in chosen:
        result = measure(pair, bench, pair.quick_rounds if bench.quick else pair.most)
        _print(result.cells())
        yield result
