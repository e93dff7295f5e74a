"""The charts of the documentation, drawn from its small file of figures: SVG that is readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from stress.bench.figures import amount
from stress.bench.pages import bars, latency, writers

_OURS, _FLUSHED, _OTHER, _LIMIT = "#d55e00", "#0072b2", "#56b4e9", "#999999"  # Okabe and Ito's, told apart by everyone
_LINES = ("#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = "osDv^PX"
_GREY = "#808080"  # has the same contrast on white and on black
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "path",
    "svg.hashsalt": "tastypy",
    "text.color": _GREY,
    "axes.labelcolor": _GREY,
    "axes.edgecolor": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "legend.frameon": False,
    "grid.color": _GREY,
    "grid.alpha": 0.25,
}


def draw(document: Mapping[str, Any], directory: Path) -> None:
    """Draw every chart into the directory."""
    with mpl.rc_context(_STYLE):
        for group, columns in bars(document).items():
            _save(_bars(document["peers"], columns), directory / f"bars-{group}.svg")
        if latency(document):
            _save(_latencies(latency(document)), directory / "latency.svg")
        if writers(document):
            _save(_scaling(writers(document)), directory / "writers.svg")
        if document["lines"]:
            _save(_growth(document["lines"]), directory / "growth.svg")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, transparent=True, metadata={"Date": None})


def _colour(peer: Mapping[str, Any]) -> str:
    if peer["package"] == "tastypy":
        return _OURS
    if peer["name"].startswith("("):
        return _LIMIT
    return _FLUSHED if peer["flushed"] else _OTHER


def _ticks(axes: Axes, low: float, high: float, unit: str, *, along_x: bool) -> None:
    """Label powers of ten on an axis, as many as there is room for; with fewer than three of them, their multiples, too."""
    powers = [10.0**power for power in range(-12, 13) if low <= 10.0**power <= high]
    if len(powers) < 3:
        powers = [
            digit * 10.0**power for power in range(-13, 13) for digit in (1, 2, 5) if low <= digit * 10.0**power <= high
        ]
    step = max(1, -(-len(powers) // (5 if along_x else 10)))
    axis = axes.xaxis if along_x else axes.yaxis
    axis.set_major_locator(FixedLocator(powers[::step]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: amount(value, unit)))
    axis.set_minor_formatter(NullFormatter())


def _bars(peers: Sequence[Mapping[str, Any]], columns: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw a panel a workload, with a bar a peer, the cheapest at the top."""
    rows = -(-len(columns) // 2)
    most = max(sum(isinstance(cell, list) for cell in column["cells"]) for column in columns)
    figure = Figure(figsize=(10, rows * (0.24 * most + 0.85) + 0.4), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False).flatten()
    for axes, column in zip(panels, columns, strict=False):
        costs = sorted(
            (cell[0], peer["name"], _colour(peer))
            for peer, cell in zip(peers, column["cells"], strict=True)
            if isinstance(cell, list) and cell[0] > 0
        )
        _panel(axes, column, costs)
    for axes in panels[len(columns) :]:
        axes.set_axis_off()
    entries = {"tastypy": _OURS, "waits for the disk": _FLUSHED, "does not": _OTHER, "limit, no store": _LIMIT}
    patches = [Patch(color=colour, label=label) for label, colour in entries.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=4)
    return figure


def _panel(axes: Axes, column: Mapping[str, Any], bars: Sequence[tuple[float, str, str]]) -> None:
    costs = [cost for cost, _, _ in bars] or [1.0]
    low, high = min(costs) / 2, max(costs)
    axes.barh(
        range(len(bars)), [cost for cost, _, _ in bars], left=0, color=[colour for *_, colour in bars], height=0.75
    )
    axes.set_xscale("log")
    axes.set_xlim(low, high * (high / low) ** 0.22)
    axes.set_yticks(range(len(bars)), [name for _, name, _ in bars])
    for label, (_, _, colour) in zip(axes.get_yticklabels(), bars, strict=True):
        if colour == _OURS:
            label.set_color(_OURS)
            label.set_fontweight("bold")
    for index, (cost, _, colour) in enumerate(bars):
        text = f" {amount(cost, column['unit'])}"
        axes.text(cost, index, text, va="center", fontsize=8.5, color=_OURS if colour == _OURS else _GREY)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    _ticks(axes, low, high, column["unit"], along_x=True)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_title(column["what"].replace("`", ""))


def _lines(axes: Axes, places: Sequence[float], series: Mapping[str, Sequence[float | None]], *, rates: bool) -> None:
    """Draw a line a peer, told apart by colour, marker and dashes."""
    other = 0
    for name, costs in series.items():
        points = [(place, cost) for place, cost in zip(places, costs, strict=True) if cost is not None]
        values = [1 / cost if rates else cost for _, cost in points]
        style: dict[str, Any] = {"color": _OURS, "marker": "o", "linewidth": 3, "zorder": 5}
        if name.startswith("tastypy,"):
            style.update(linewidth=2, linestyle="--")
        elif name.startswith("("):
            style = {"color": _LIMIT, "marker": "", "linewidth": 1.5, "linestyle": ":" if name == "(dict)" else "-."}
        elif name != "tastypy":
            colour, turn = _LINES[other % len(_LINES)], other // len(_LINES)
            style = {"color": colour, "marker": _MARKERS[other % len(_MARKERS)], "linewidth": 1.3}
            style["linestyle"] = ("-", "--", ":")[turn % 3]
            other += 1
        axes.plot([place for place, _ in points], values, label=name, markersize=6, **style)
    axes.set_yscale("log")
    axes.grid(axis="y")
    low, high = axes.get_ylim()
    _ticks(axes, low, high, "/s" if rates else "s", along_x=False)


def _values(line: Line2D) -> Sequence[float]:
    return cast("Sequence[float]", line.get_ydata())  # which is what was plotted


def _beside(figure: Figure, axes: Axes) -> None:
    """Put the legend beside the lines, the line that ends highest first."""
    handles, labels = axes.get_legend_handles_labels()
    lines = [handle for handle in handles if isinstance(handle, Line2D)]
    order = sorted(zip(lines, labels, strict=True), key=lambda pair: -_values(pair[0])[-1])
    legend = figure.legend(*zip(*order, strict=True), loc="outside right center")
    for text in legend.get_texts():
        if text.get_text().startswith("tastypy"):
            text.set_color(_OURS)


def _latencies(series: Mapping[str, Sequence[float | None]]) -> Figure:
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    _lines(axes, range(4), series, rates=False)
    axes.set_xticks(range(4), ["50 %", "99 %", "99.9 %", "worst"])
    axes.set_title("So many of the assignments take no longer than this")
    _beside(figure, axes)
    return figure


def _scaling(series: Mapping[str, Sequence[float | None]]) -> Figure:
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    processes = [2**power for power in range(len(next(iter(series.values()))))]
    axes.set_xscale("log", base=2)
    _lines(axes, processes, series, rates=True)
    axes.set_xticks(processes, [str(number) for number in processes])
    axes.set_title("Assignments a second, of all processes together, by the number of processes")
    _beside(figure, axes)
    return figure


def _growth(lines: Sequence[Mapping[str, Any]]) -> Figure:
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    colours = (_OURS, *_LINES)
    for index, line in enumerate(lines):
        sizes, middles, lows, highs = zip(*line["points"], strict=True)
        colour = colours[index % len(colours)]
        label = f"{line['what'].replace('`', '')}: n^{line['slope']:.2f}"
        axes.plot(sizes, middles, color=colour, marker=_MARKERS[index], linewidth=2, label=label)
        axes.fill_between(sizes, lows, highs, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid()
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    _ticks(axes, low, high, "s", along_x=False)
    axes.set_title("What it costs, by the number of entries")
    figure.legend(loc="outside lower center", ncols=2)
    return figure
