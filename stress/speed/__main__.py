"""Print how fast tastypy is, as ratios to other things measured in the same run.

    python -m stress.speed                        every row, exit status 1 if one is beyond its bound
    python -m stress.speed --quick                in a minute, exit status 1 if one is beyond twice its bound
    python -m stress.speed --only assign writers  these rows

Both sides of a row take turns within every round, so that what else the machine does meets both. A row's figure is the
median of the rounds' ratios, and beside it stand the least and the greatest. Rows without a bound are for information.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from stress.speed.bench import Bench, Pair
from stress.speed.pairs import PAIRS
from stress.speed.tasks import TASK_PAIRS

_ROWS = (*PAIRS, *TASK_PAIRS)
_ROUNDS = 9
_SLACK = 2.0  # of --quick, which is for machines with other things to do


class Result(NamedTuple):
    """A row that was measured: the costs of both sides and the ratio in each round."""

    pair: Pair
    ours: list[float]
    theirs: list[float]
    ratios: list[float]

    def beyond(self, slack: float = 1.0) -> bool:
        """Tell whether the median of the ratios is beyond the bound, the bound made `slack` times as wide."""
        if self.pair.bound is None:
            return False
        if self.pair.rate:
            return median(self.ratios) < self.pair.bound / slack
        return median(self.ratios) > self.pair.bound * slack

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        pair = self.pair
        sign = "≥" if pair.rate else "≤"
        return (
            pair.name,
            pair.what,
            pair.against,
            _amount(median(self.ours), pair.unit),
            _amount(median(self.theirs), pair.unit),
            f"{median(self.ratios):.2f}",
            f"{min(self.ratios):.2f}..{max(self.ratios):.2f}",
            "" if pair.bound is None else f"{sign} {pair.bound:.2f}",
            "" if pair.bound is None else "BEYOND" if self.beyond() else "ok",
        )

    def fields(self) -> dict[str, Any]:
        """Return the row as JSON has it."""
        pair = self.pair
        return {
            "name": pair.name,
            "what": pair.what,
            "against": pair.against,
            "unit": pair.unit,
            "rate": pair.rate,
            "bound": pair.bound,
            "ratio": median(self.ratios),
            "beyond": self.beyond(),
            "ours": self.ours,
            "theirs": self.theirs,
            "ratios": self.ratios,
        }


def _amount(cost: float, unit: str) -> str:
    if unit == "B":
        return f"{cost:.0f} B"
    for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if cost * factor >= 1:
            return f"{cost * factor:.3g} {name}"
    return f"{cost * 1e9:.3g} ns"


def measure(pair: Pair, bench: Bench, rounds: int) -> Result:
    """Measure a row: both sides in turn, the first one changing from time to time."""
    result = Result(pair, [], [], [])
    with pair.prepare(bench) as sides:
        for number in range(-1 if pair.warm else 0, rounds):
            samples: tuple[list[float], list[float]] = ([], [])
            for chunk in range(pair.chunks if number >= 0 else 1):
                for side in (0, 1) if (number + chunk) % 2 else (1, 0):
                    gc.collect()
                    samples[side].append(sides[side]())
            ours, theirs = pair.combine(samples[0]), pair.combine(samples[1])
            if number >= 0:
                result.ours.append(ours)
                result.theirs.append(theirs)
                result.ratios.append(theirs / ours if pair.rate else ours / theirs)
    return result


_HEAD = ("row", "one", "against", "ours", "theirs", "ratio", "spread", "bound", "")
_WIDTHS = (12, 29, 23, 8, 8, 6, 12, 7, 0)


def _print(cells: tuple[str, ...]) -> None:
    print("  ".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip(), flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    names = [pair.name for pair in _ROWS]
    parser = argparse.ArgumentParser(prog="python -m stress.speed", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="less of everything, and bounds twice as wide")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names, help=f"of {', '.join(names)}")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"default {_ROUNDS}, with --quick 1 to 3")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help="where the data lies meanwhile (default: the temporary directory)"
    )
    options = parser.parse_args(arguments)
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be 1 or more")

    place = Path(tempfile.mkdtemp(prefix="tastypy-speed-", dir=options.dir))
    start = time.monotonic()
    bench = Bench(place, quick=options.quick)
    results = []
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, data in {place.parent}")
    _print(_HEAD)
    try:
        for pair in _ROWS:
            if options.only is None or pair.name in options.only:
                rounds = options.rounds or (pair.quick_rounds if options.quick else _ROUNDS)
                results.append(measure(pair, bench, rounds))
                _print(results[-1].cells())
    finally:
        shutil.rmtree(place)
    if options.json:
        machine = {"python": platform.python_version(), "cores": os.cpu_count()}
        options.json.write_text(
            json.dumps({**machine, "rows": [result.fields() for result in results]}, indent=1) + "\n"
        )

    slack = _SLACK if options.quick else 1.0
    failed = [result.pair.name for result in results if result.beyond(slack)]
    print(
        f"{time.monotonic() - start:.0f} s; "
        + (f"beyond {slack:g} times its bound: {', '.join(failed)}" if failed else "passed")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
