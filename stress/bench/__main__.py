"""Print how fast tastypy is: as ratios to one other thing each, beside its peers, and as it grows.

    python -m stress.bench                        all of it, exit status 1 if something is beyond its bound
    python -m stress.bench --quick                in a minute, exit status 1 if a ratio is beyond twice its bound
    python -m stress.bench --only rows            a part: rows, peers or growth
    python -m stress.bench --only assign writers  whatever has these names

Rows: both sides take turns within every round, so that what else the machine does meets both; a row's figure is the median of
the rounds' ratios, and beside it stand the least and the greatest. Rows without a bound are for information.

Peers: all of them take turns at each workload. A cell has the median of the costs, how many times that of tastypy it is, and half of
the distance between the least and the greatest of the rounds' ratios. Whoever is left out is so for a reason that stands beneath.

Growth: what tastypy costs with more and more entries, and what many processes wait for.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from stress.bench import growth, record
from stress.bench.bench import Bench
from stress.bench.comparison import GROUPS, Comparison, compared_groups
from stress.bench.rows import ROWS, SLACK, measured_rows
from stress.bench.tables import table

_PARTS = ("rows", "peers", "growth")
_ROUNDS = 5  # of the peers; each row says itself how many it takes


class _Choice:
    """What --only chooses: parts, names within them, or both."""

    def __init__(self, only: Iterable[str] | None) -> None:
        named = set(only or ())
        self._parts = named & set(_PARTS) or set(_PARTS)
        self._names = named - set(_PARTS)

    def takes(self, part: str, names: Iterable[str]) -> bool:
        """Tell whether something of a part, which goes by these names, is to be measured."""
        return part in self._parts and (not self._names or not self._names.isdisjoint(names))


def _names() -> dict[str, list[str]]:
    workloads = [column.name for group in GROUPS.values() for each in group for column in each.columns]
    return {"rows": [pair.name for pair in ROWS], "peers": [*GROUPS, *workloads], "growth": list(growth.PARTS)}


def _parser() -> argparse.ArgumentParser:
    names = _names()
    told = "; ".join(f"{part}: {', '.join(names[part])}" for part in _PARTS)
    parser = argparse.ArgumentParser(
        prog="python -m stress.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="less of everything, and bounds twice as wide")
    parser.add_argument(
        "--huge", action="store_true", help="10,000,000 entries, too: it takes memory, disk and patience"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        choices=[*_PARTS, *(name for part in _PARTS for name in names[part])],
        help=f"parts, or what is in them: {told}",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help=f"of peers and growth (default {_ROUNDS}, with --quick 1); what is short takes 3, and rows have their own",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="write there what docs/performance.md is made from")
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help="where the data lies meanwhile (default: the temporary directory)"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    if options.docs and options.only:
        parser.error("--docs is for all of it, without --only")
    choice = _Choice(options.only)
    group_of = {each.name: name for name, group in GROUPS.items() for each in group}
    rounds = options.rounds or (1 if options.quick else _ROUNDS)

    place = Path(tempfile.mkdtemp(prefix="tastypy-bench-", dir=options.dir))
    start = time.monotonic()
    about = record.machine(place, sys.argv[1:] if arguments is None else arguments)
    print(f"{record.described(about)}, data in {place.parent}")
    for name, why in record.missing().items():
        print(f"without {name}: {why}")
    groups = []
    try:
        bench = Bench(place, quick=options.quick)
        rows = list(measured_rows(bench, lambda pair: choice.takes("rows", [pair.name])))
        bench.clear()
        comparison = Comparison(place, quick=options.quick)
        for name, results in compared_groups(
            comparison,
            lambda each: choice.takes(
                "peers", [group_of.get(each.name, "huge"), *(column.name for column in each.columns)]
            ),
            rounds,
            huge=options.huge,
        ):
            groups.append((name, results))
            print(f"{time.monotonic() - start:.0f} s", *table(name, results), sep="\n", flush=True)
        lines, waits = growth.grown(
            place,
            lambda part: choice.takes("growth", [part]),
            min(rounds, 3),
            quick=options.quick,
            huge=options.huge,
        )
    finally:
        shutil.rmtree(place)
    if options.json:
        options.json.write_text(record.everything(about, rows, groups, lines, waits) + "\n")
    if options.docs:
        options.docs.write_text(record.text_of(record.small(about, rows, groups, lines, waits)))

    slack = SLACK if options.quick else 1.0
    failed = [result.pair.name for result in rows if result.beyond(slack)]
    failed += [wait.name for wait in waits if wait.beyond()]
    verdict = f"beyond {slack:g} times its bound: {', '.join(failed)}" if failed else "passed"
    print(f"{time.monotonic() - start:.0f} s; {verdict}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
