"""What `plots` has counted, drawn by matplotlib, without any state of pyplot's. Nothing is imported before it is needed.

Every text is plain: what `$` or control characters would do to it is undone in here. The colours are those of Okabe and Ito,
which everyone can tell apart, on a light ground, whatever style the program has set.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

from tastypy.screen import fitted, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tastypy.plots import Facts, Lane

_DONE, _FAILED, _WORK, _OTHER = "#0072b2", "#d55e00", "#009e73", "#b0b0b0"
_FEW, _MANY, _SOME, _GROUND, _INK = "#a6cee8", "#003a5c", "#f7d3b8", "#f2f2f2", "#333333"
_DAY = 86_400.0
_DPI = 110
_WIDE = 10.0  # inches
_LONGEST_PATH, _LONGEST_ERROR, _LONGEST_NAME = 100, 80, 32  # characters
_MOST_NAMES = 36  # of lanes, that there is room for

# tried after matplotlib's own, where they are installed, for what that has no letters for
_MORE_FONTS = [
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "IPAGothic", "Droid Sans Fallback", "Unifont"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "FreeSans", "Symbola"),
]
_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#808080",
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": _INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.facecolor": "white",
    "font.size": 9,
    "grid.color": "#e0e0e0",
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.hashsalt": "tastypy",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


@contextmanager
def _styled() -> Iterator[None]:
    """Have matplotlib draw as it does by default, but for `_STYLE`, and as to fonts that lack something, quietly."""
    from matplotlib import style  # noqa: PLC0415 - an extra

    with style.context(["default", {**_STYLE, "font.family": _fonts()[0]}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # as a combined letter may
        yield


@cache
def _fonts() -> tuple[list[str], frozenset[int]]:
    """Return the fonts to draw with, in the order in which they are tried, and all characters that they have."""
    from matplotlib import font_manager  # noqa: PLC0415 - an extra

    there = set(font_manager.get_font_names())
    names = ["DejaVu Sans", *(name for name in _MORE_FONTS if name in there)]
    found = [font_manager.get_font(font_manager.findfont(name)) for name in names]
    return names, frozenset[int]().union(*(font.get_charmap() for font in found))


def _text(text: str, longest: int, *, ends: bool = False) -> str:
    """Return a text as it is drawn: in one line, of limited length, without mathematics, and with letters that there are.

    With `ends`, its end is kept, too.
    """
    text, known = fitted(printable(text), longest, ends), _fonts()[1]
    text = "".join(one if ord(one) in known else one.encode("unicode_escape").decode() for one in text)
    return fitted(text, longest, ends).replace("$", "\\$")


# --- the picture


def draw(facts: Facts) -> Figure:
    """Return the picture of what was counted."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415 - as above

    with _styled():
        heights = [1.9, 1.6, _height(len(facts.lanes)), 2.1]
        layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08)
        figure = Figure(figsize=(_WIDE, sum(heights) + 2.3), dpi=_DPI, layout=layout)
        rows: list[Any] = [["curve"] * 5, ["rate"] * 5, ["lanes"] * 5, ["tries"] * 2 + ["errors"] * 3]
        axes = figure.subplot_mosaic(rows, height_ratios=heights)
        figure.suptitle(_text(facts.path, _LONGEST_PATH, ends=True), x=0.01, ha="left", weight="bold")
        for name in ("rate", "lanes"):
            axes[name].sharex(axes["curve"])
        for name in ("curve", "rate"):
            axes[name].tick_params(labelbottom=False)
        _draw_curve(axes["curve"], facts)
        _draw_rate(axes["rate"], facts)
        _draw_lanes(axes["lanes"], facts)
        if facts.bins:
            _show_time(axes["lanes"], facts)
        _draw_tries(axes["tries"], facts)
        _draw_errors(axes["errors"], facts)
        figure.draw_without_rendering()  # what is only made then is made in this style
    # a notebook that has not imported pyplot would show the figure's name
    figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]  # asked for by IPython
    return figure


def rendered(figure: Figure, kind: str) -> bytes:
    """Return the picture as a file of this kind: svg, png or pdf."""
    stream = BytesIO()
    no_date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)  # so that equal pictures are equal files
    with _styled():
        figure.savefig(stream, format=kind, dpi=_DPI, metadata=no_date)
    return stream.getvalue()


def _png(figure: Figure) -> bytes:
    return rendered(figure, "png")


def _height(lanes: int) -> float:
    """Return the inches that so many lanes take."""
    return min(max(0.2 * lanes, 0.6), 5.0)


# --- its parts


def _draw_curve(axes: Axes, facts: Facts) -> None:
    counts = facts.counts
    share = counts.done / counts.total if counts.total else 0.0
    # rounded down: 100 % means all
    texts = [f"{counts.done:,} of {counts.total:,} done ({int(1000 * share) / 10:.1f} %)"]
    states = [(counts.failed + counts.given_up, "failed"), (counts.claimed, "claimed")]
    states += [(counts.open, "open"), (counts.aborted, "aborted")]
    texts += [f"{number:,} {state}" for number, state in states if number]
    axes.set_title(", ".join(texts) if counts.total else "There are no tasks yet")
    if not facts.curve:
        _say(axes, "nothing was done yet" if not counts.done else "when tasks were done is not known")
        return
    times, numbers = zip(*facts.curve, strict=True)
    before = counts.done - numbers[-1]  # those without a time
    dates = [facts.start / _DAY, *(at / _DAY for at in times), facts.end / _DAY]
    heights = [before, *(before + number for number in numbers), counts.done]
    axes.fill_between(dates, heights, step="post", color=_DONE, alpha=0.2, linewidth=0)
    axes.plot(dates, heights, drawstyle="steps-post", color=_DONE, linewidth=1.6)
    if counts.done < counts.total:
        axes.axhline(counts.total, color="#808080", linewidth=1, linestyle="--")
    axes.set_ylim(0, counts.total * 1.05)
    axes.set_ylabel("tasks done")
    _count(axes.yaxis)
    axes.grid(axis="y")


def _draw_rate(axes: Axes, facts: Facts) -> None:
    if not sum(facts.done) + sum(facts.failed):
        _say(axes, "there is no rate yet")
        axes.set_title("Rate")
        return
    width = facts.width
    most = max(map(sum, zip(facts.done, facts.failed, strict=True))) / width
    unit, seconds = next(one for one in _UNITS if most * one[1] >= 1 or one is _UNITS[-1])
    edges = [at / _DAY for at in facts.bins]
    done = [number / width * seconds for number in facts.done]
    total = [own + number / width * seconds for own, number in zip(done, facts.failed, strict=True)]
    axes.stairs(done, edges, fill=True, color=_DONE, label="done")
    if any(facts.failed):
        axes.stairs(total, edges, baseline=done, fill=True, color=_FAILED, label="failed")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.1, handlelength=1)
    axes.set_title(f"Rate: tasks a {unit}, averaged over {_duration(width)}")
    axes.set_ylabel(f"tasks / {unit}")
    axes.set_ylim(0, max(total) * 1.08)
    axes.yaxis.set_major_formatter("{x:,.10g}")
    axes.grid(axis="y")


_UNITS = [("second", 1.0), ("minute", 60.0), ("hour", 3600.0), ("day", _DAY)]


def _duration(width: float) -> str:
    for unit, seconds in reversed(_UNITS):
        if width >= seconds:
            number = width / seconds
            return f"{number:g} {unit}{'' if number == 1 else 's'}"
    return f"{1000 * width:g} ms"


def _draw_lanes(axes: Axes, facts: Facts) -> None:
    lanes = facts.lanes
    if not lanes:
        axes.set_title("Workers")
        _say(axes, "no worker has ended a task yet, or is alive")
        return
    number = f"{len(lanes):,} of {len(lanes) + facts.hidden:,} workers" if facts.hidden else f"{len(lanes):,} worker"
    axes.set_title(
        f"{number}{'s' if len(lanes) > 1 and not facts.hidden else ''}: the darker, the more tasks were done"
    )
    edges = [at / _DAY for at in facts.bins]
    _draw_strips(axes, lanes, edges)
    _draw_claims(axes, lanes, facts)
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    step = -(-len(lanes) // _MOST_NAMES)
    shown = range(0, len(lanes), step)
    names = [f"{_text(lanes[lane].name, _LONGEST_NAME, ends=True)}  {lanes[lane].number:,}" for lane in shown]
    axes.set_yticks([*shown], names, fontsize=7 if len(lanes) > 12 else 8)
    axes.tick_params(axis="y", length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.1, handlelength=1)


def _draw_strips(axes: Axes, lanes: Sequence[Lane], edges: Sequence[float]) -> None:
    """Draw what was done, and below it what failed, as images, a few kilobytes of them, however many lanes and bins."""
    most = max(max(lane.done) for lane in lanes)
    done = [lane.done for lane in lanes]
    _draw_strip(axes, edges, (-0.4, 0.16), done, (_FEW, _DONE, _MANY), (0.5, max(most, 2)))
    shares = [
        [failed / max(done + failed, 1) for done, failed in zip(lane.done, lane.failed, strict=True)] for lane in lanes
    ]
    _draw_strip(axes, edges, (0.16, 0.4), shares, (_SOME, _FAILED, _FAILED), (1e-9, 1))
    if any(any(lane.failed) for lane in lanes):
        axes.bar(edges[0], 0, color=_FAILED, label="failed", width=0)  # for the legend


def _draw_strip(
    axes: Axes,
    edges: Sequence[float],
    sides: tuple[float, float],
    numbers: Sequence[Sequence[float]],
    colours: Sequence[str],
    limits: tuple[float, float],
) -> None:
    """Draw a strip between two sides of each lane, and nothing between two of them; what is below the limits has no colour."""
    from matplotlib.colors import LinearSegmentedColormap  # noqa: PLC0415 - an extra
    from numpy import full, nan  # noqa: PLC0415 - matplotlib's

    data = full((2 * len(numbers) - 1, len(edges) - 1), nan)
    data[::2] = numbers
    rows = [lane + side for lane in range(len(numbers)) for side in sides]
    cmap = LinearSegmentedColormap.from_list("tastypy", list(colours)).with_extremes(under=_GROUND)
    axes.pcolormesh(edges, rows, data, cmap=cmap, vmin=limits[0], vmax=limits[1], rasterized=True)


def _draw_claims(axes: Axes, lanes: Sequence[Lane], facts: Facts) -> None:
    """Draw a line from the begin of what each has in hand up to now."""
    held = [(lane, min(one.claims)) for lane, one in enumerate(lanes) if one.claims]
    if held:
        rows = [lane + 0.4 for lane, _ in held]
        begins, now = [since / _DAY for _, since in held], facts.end / _DAY
        width = max(0.8, min(2.5, 60 / len(lanes)))
        axes.hlines(rows, begins, now, color=_WORK, linewidth=width, zorder=2)
        # what began just now would not be seen else
        axes.scatter([now] * len(rows), rows, s=10 * width, color=_WORK, label="in hand now", zorder=3)


def _draw_tries(axes: Axes, facts: Facts) -> None:
    axes.set_title("Tasks by the number of tries")
    if not facts.tries:
        _say(axes, "there are no tasks yet")
        return
    places = range(len(facts.tries))
    base = [0] * len(facts.tries)
    parts: list[tuple[str, str, Callable[[Any], int]]] = [
        ("done", _DONE, lambda row: row.done),
        ("failed", _FAILED, lambda row: row.failed),
        ("other", _OTHER, lambda row: row.other),
    ]
    for name, colour, number_of in parts:
        numbers = [number_of(row) for row in facts.tries]
        if any(numbers):
            axes.bar(places, numbers, bottom=base, color=colour, label=name, width=0.75)
            base = [below + number for below, number in zip(base, numbers, strict=True)]
    for place, number in zip(places, base, strict=True):
        if number:
            axes.text(place, number, f"{number:,}", ha="center", va="bottom", fontsize=8)
    axes.set_xticks(places, [row.name for row in facts.tries])
    axes.set_xlim(-0.6, max(len(facts.tries), 4) - 0.4)
    axes.set_ylim(0, max(base) * 1.15)
    axes.set_xlabel("tries")
    _count(axes.yaxis)
    axes.legend(loc="upper right")


def _draw_errors(axes: Axes, facts: Facts) -> None:
    number = sum(count for _, count in facts.errors)
    axes.set_title(f"Failed tasks by error: {number:,}" if number else "Failed tasks by error")
    if not facts.errors:
        _say(axes, "no task has failed, or all that did are done by now")
        return
    places = range(len(facts.errors))
    most = max(count for _, count in facts.errors)
    axes.barh(places, [count for _, count in facts.errors], height=0.36, color=_FAILED)
    for place, (text, count) in enumerate(facts.errors):
        axes.text(0, place - 0.24, _text(text, _LONGEST_ERROR), va="bottom", ha="left", fontsize=8)
        axes.text(count + most * 0.01, place, f"{count:,}", va="center", fontsize=8)
    axes.set_yticks([])
    axes.set_ylim(max(len(facts.errors), 3) - 0.5, -0.8)
    axes.set_xlim(0, most * 1.1)
    _count(axes.xaxis)
    axes.set_xlabel("tasks")


def _count(axis: Any) -> None:
    """Label an axis of numbers of tasks."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - an extra

    axis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.set_major_formatter("{x:,.0f}")


def _say(axes: Axes, text: str) -> None:
    """Show a text in place of data."""
    axes.text(0.5, 0.5, text, ha="center", va="center", color="#606060", transform=axes.transAxes)
    # not `set_xticks`, which would be for all that share the axis
    axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)


def _show_time(axes: Axes, facts: Facts) -> None:
    """Label the axis of time, which is that of all three."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # noqa: PLC0415 - an extra

    begin = dt.datetime.fromtimestamp(facts.start).astimezone()
    locator = AutoDateLocator(tz=begin.tzinfo, minticks=4, maxticks=9)  # type: ignore[no-untyped-call]  # theirs to type
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, tz=begin.tzinfo)  # type: ignore[no-untyped-call]  # as above
    axes.xaxis.set_major_formatter(formatter)
    margin = (facts.end - facts.start) * 0.01
    axes.set_xlim((facts.start - margin) / _DAY, (facts.end + margin) / _DAY)
    texts = [f"local time ({begin:%Z})"]
    if facts.untimed:
        texts.append(f"not shown: {facts.untimed:,} without a time")
    if facts.unnamed:
        texts.append(f"not in a lane: {facts.unnamed:,} whose worker is not known")
    axes.set_xlabel("; ".join(texts))
