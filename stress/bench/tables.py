"""The comparison as tables in a terminal of 120 columns: a group of workloads each, a line a peer."""

from __future__ import annotations

from collections.abc import Sequence

from stress.bench.comparison import TITLES, Compared
from stress.bench.figures import Notes, Spread, amount
from stress.bench.peers import PEERS
from stress.bench.workloads import Column

_NAME, _CELL = 22, 15  # columns of the terminal: six cells beside a name


def times(ratio: float) -> str:
    """Return a ratio in four characters or fewer."""
    if ratio >= 9_995:
        return f"{ratio / 1000:.0f}k"
    return f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.2g}"


def cell(cost: Spread | None, ratio: Spread | None, unit: str, *, cut: bool, note: str) -> str:
    """Return a cell: the cost, how many times that of tastypy it is, and half the spread; or the letter of a note."""
    if cost is None:
        return f"- {note}"
    text = amount(cost.middle, unit) + ("*" if cut else "")
    if ratio is None:
        return text
    percent = f"±{ratio.percent()}%" if ratio.percent() < 100 else "±>99%"
    return f"{text} {times(ratio.middle)}{percent if ratio.low != ratio.high else ''}"


def table(group: str, results: Sequence[Compared]) -> list[str]:
    """Return the lines of a group's table, with what they need explained beneath."""
    columns: list[tuple[Compared, Column]] = [(each, column) for each in results for column in each.workload.columns]
    notes = Notes()
    lines = [TITLES[group], "".join([" " * _NAME, *(f" {column.head:>{_CELL}}" for _, column in columns)])]
    for peer in (each for each in PEERS if not each.missing()):
        line = [f"{peer.name:<{_NAME}}"]
        for compared, column in columns:
            why = compared.left_out.get((column.name, peer.name), "not measured")
            cost = compared.cost(column, peer.name)
            text = cell(
                cost,
                compared.ratio(column, peer.name),
                column.unit,
                cut=peer.name in compared.cut,
                note="" if cost else notes.letter(why),
            )
            line.append(f" {text:>{_CELL}}")
        lines.append("".join(line))
    lines += [f"  {letter}: {reason}" for letter, reason in notes.lines()]
    if any(compared.cut for compared in results):
        lines.append("  *: less than was asked, since the time was up")
    return lines
