"""The tables of docs/performance.md, made from its small file of figures when the documentation is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stress.bench.figures import Notes, amount, number


def fragments(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the pieces that the page includes, by their names."""
    pieces = {
        "machine": _machine(document),
        "bounds": _bounds(document["rows"]),
        "peers": _peers(document),
        "growth": _growth(document["lines"]),
        "waits": _waits(document["waits"]),
    }
    for group in document["titles"]:
        pieces[group] = _group(document, group)
    return pieces


def write(document: Mapping[str, Any], directory: Path) -> None:
    """Write the tables into a directory that the page includes them from."""
    directory.mkdir(exist_ok=True)
    for name, text in fragments(document).items():
        (directory / f"{name}.md").write_text(text)


_BARS = ("writing", "values", "reading", "opening", "footprint")

Series = dict[str, list[float | None]]  # of each peer, its costs


def bars(document: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the columns of each group that there is a chart of bars for."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for column in document["columns"]:
        if column["group"] in _BARS:
            groups.setdefault(column["group"], []).append(column)
    return groups


def latency(document: Mapping[str, Any]) -> Series:
    """Return what the chart of percentiles shows."""
    return _series(document, [column for column in document["columns"] if column["group"] == "latency"])


def writers(document: Mapping[str, Any]) -> Series:
    """Return what the chart of writers shows."""
    return _series(document, [column for column in document["columns"] if column["name"].startswith("own-")])


def _series(document: Mapping[str, Any], columns: Sequence[Mapping[str, Any]]) -> Series:
    """Return the costs of each peer in these columns, of those that have more than one."""
    found: Series = {}
    for index, peer in enumerate(document["peers"]):
        cells = [column["cells"][index] for column in columns]
        costs = [cell[0] if isinstance(cell, list) else None for cell in cells]
        if sum(cost is not None for cost in costs) > 1:
            found[peer["name"]] = costs
    return found


def chart_names(document: Mapping[str, Any]) -> list[str]:
    """Return the names of the charts that there are figures for."""
    found = [f"bars-{group}" for group in bars(document)]
    found += ["latency"] if latency(document) else []
    found += ["writers"] if writers(document) else []
    return found + (["growth"] if document["lines"] else [])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    marks = ["---"] * left + ["---:"] * (len(head) - left)
    lines = [head, marks, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _machine(document: Mapping[str, Any]) -> str:
    about = document["machine"]
    names = [name for name in about if name != "command"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    rows = [(name, str(about[name])) for name in names]
    rows += [("versions", versions), ("command", f"`{about['command']}`")]
    return _table(("", ""), rows, 2)


def _bounds(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for row in rows:
        bound = "" if row["bound"] is None else f"{'at least' if row['rate'] else 'at most'} {row['bound']:g}"
        ratio = "not measured"
        if row["ratio"]:
            middle, low, high = row["ratio"]
            ratio = f"{number(middle)} ({number(low)}..{number(high)})"
        lines.append((row["what"], row["against"], ratio, bound))
    return _table(("one", "against", "ratio", "wanted"), lines, 2)


def _peers(document: Mapping[str, Any]) -> str:
    versions = document["versions"]
    rows = [
        (
            peer["name"],
            versions.get(peer["package"], f"Python {versions['Python']}"),
            peer["process"],
            peer["machine"],
            "yes" if peer["shared"] else "no",
        )
        for peer in document["peers"]
    ]
    head = ("", "version", "after a crash of the process", "of the machine", "several processes")
    text = _table(head, rows, 5)
    if document["missing"]:
        told = "; ".join(f"{name} ({why})" for name, why in document["missing"].items())
        text += f"\nNot on this machine: {told}.\n"
    return text


def _cell(cell: Any, unit: str, notes: Notes, reasons: Sequence[str]) -> str:
    if not isinstance(cell, list):
        return f"- ({notes.letter(reasons[cell])})"
    cost, middle, low, high, *cut = cell
    span = f" ({number(low)}..{number(high)})" if low != high else ""
    mark = "\\*" if cut else ""
    return f"{amount(cost, unit)}{mark} · {number(middle)}{span}"


def _group(document: Mapping[str, Any], group: str) -> str:
    columns = [column for column in document["columns"] if column["group"] == group]
    notes = Notes()
    rows = []
    for index, peer in enumerate(document["peers"]):
        cells = [_cell(column["cells"][index], column["unit"], notes, document["reasons"]) for column in columns]
        strong = "**" if peer["package"] == "tastypy" else ""
        rows.append((f"{strong}{peer['name']}{strong}", *cells))
    text = _table(("", *(column["head"] for column in columns)), rows, 1)
    told = [f"({letter}) {reason}" for letter, reason in notes.lines()]
    if any(isinstance(cell, list) and len(cell) > 4 for column in columns for cell in column["cells"]):
        told.append("\\* less than was asked, since the time was up")
    text += f"\n{'; '.join(told)}.\n" if told else ""
    what = "; ".join(f"*{column['head']}*: {column['what']}" for column in columns)
    return f"{text}\n{what}.\n"


def _growth(lines: Sequence[Mapping[str, Any]]) -> str:
    if not lines:
        return ""
    sizes = [point[0] for point in lines[0]["points"]]
    rows = [
        (line["what"], *(amount(point[1], "s") for point in line["points"]), f"{line['slope']:.2f}") for line in lines
    ]
    return _table(("one", *(f"{size:,}" for size in sizes), "exponent"), rows, 1)


def _waits(waits: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (wait["what"], amount(wait["value"], wait["unit"]), f"at most {wait['bound']:g} s" if wait["bound"] else "")
        for wait in waits
    ]
    return _table(("", "", "wanted"), rows, 1)
