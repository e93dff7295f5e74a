"""What a notebook shows of a POD: where it lies, how many entries it has, the first and the last ones, and its state.

All of it is of bounded length, and takes no longer for a million entries, or one of a gigabyte. Colours are left to the page,
which may be light or dark, or go with both.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any

from tastypy import entries
from tastypy.errors import NotATrackerError
from tastypy.screen import fitted, printable

if TYPE_CHECKING:
    from tastypy.pod import PersistentOrderedDict
    from tastypy.tracker import ProgressTracker

_SHOWN = 5  # entries at either end
_LONGEST_KEY, _LONGEST_VALUE, _LONGEST_PATH = 60, 120, 200  # characters

# What goes with light and dark pages: half transparent, or of the page.
_LINE = "1px solid rgba(128,128,128,.35)"
_CELL = f"padding:.15em .7em .15em 0;text-align:left;vertical-align:top;border:0;border-bottom:{_LINE}"
_BAR = "display:inline-block;width:16em;max-width:60%;height:.7em;background:rgba(128,128,128,.25);margin-right:.7em"
# The classes keep MathJax away, which notebooks have look for formulas in all that they show.
_BOX = '<div class="tex2jax_ignore mathjax_ignore" style="overflow-x:auto">'

Cells = Sequence[str]


class _Short(reprlib.Repr):
    """Values cut short before they are written out, however long they are, and dicts in their own order."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxdict = 8
        self.maxstring = self.maxlong = self.maxother = 100

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """Return a dict in its own order, which `reprlib` would sort, all of it."""
        if level <= 0:
            return "{...}"
        parts = [f"{self.repr1(key, level - 1)}: {self.repr1(x[key], level - 1)}" for key in islice(x, self.maxdict)]
        return f"{{{', '.join([*parts, '...'] if len(x) > self.maxdict else parts)}}}"

    def repr_instance(self, x: Any, level: int) -> str:
        """Return an object of a POD with a type by its fields, each cut short."""
        if dataclasses.is_dataclass(x) and not isinstance(x, type):
            fields = [(field.name, getattr(x, field.name, None)) for field in dataclasses.fields(x)]
        elif hasattr(x, "__rich_repr__"):  # as models of msgspec and pydantic have it
            fields = [field for field in x.__rich_repr__() if isinstance(field, tuple) and len(field) == 2]
        else:
            return super().repr_instance(x, level)
        if level <= 0:
            return f"{type(x).__name__}(...)"
        parts = [f"{name}={self.repr1(part, level - 1)}" for name, part in fields[: self.maxdict]]
        return f"{type(x).__name__}({', '.join([*parts, '...'] if len(fields) > self.maxdict else parts)})"


_short = _Short().repr


def pod_html(pod: PersistentOrderedDict[Any, Any]) -> str:
    """Return what is shown of a POD, in whatever state it is."""
    if pod.closed:
        return _page(pod, ["closed"])
    return _page(
        pod, [_number(len(pod), "entry", "entries"), *_state(pod)], _table(pod, ("key", "value"), lambda v: [_value(v)])
    )


def tracker_html(tracker: ProgressTracker[Any]) -> str:
    """Return what is shown of a tracker, in whatever state it is."""
    if tracker.closed:
        return _page(tracker, ["closed"])
    facts = [_number(len(tracker), "task", "tasks"), *_state(tracker)]
    table = _table(tracker, ("task", "state", "tries", "fields"), lambda entry: _cells(entry, tracker.max_tries))
    try:
        counts = tracker.counts()
    except NotATrackerError as error:
        return _page(tracker, facts, f"<div>{escape(fitted(printable(str(error)), 500))}</div>", table)
    share = counts.done / counts.total if counts.total else 0.0
    # rounded down: 100 % means all
    texts = [f"{int(1000 * share) / 10:.1f} % done"]
    texts += [
        f"{number:,} {name.replace('_', ' ')}"
        for name, number in counts._asdict().items()
        if number and name != "total"
    ]
    filled = f'<span style="display:block;width:{100 * share:.1f}%;height:100%;background:#0072b2"></span>'
    return _page(tracker, facts, f'<div><span style="{_BAR}">{filled}</span>{", ".join(texts)}</div>', table)


def _page(pod: PersistentOrderedDict[Any, Any], facts: Iterable[str], *parts: str) -> str:
    head = f"<strong>{escape(type(pod).__name__)}</strong> <code>{escape(fitted(printable(pod.path), _LONGEST_PATH, ends=True))}</code>"
    return f"{_BOX}<div>{head}</div><div>{escape(', '.join(facts))}</div>{''.join(parts)}</div>"


def _state(pod: PersistentOrderedDict[Any, Any]) -> list[str]:
    texts = ["read only"] if pod.mode == "r" else []
    dirty = len(pod.dirty())
    if dirty:
        texts.append(f"{_number(dirty, 'change', 'changes')} held, not written yet")
    elif pod._depth:
        texts.append("held")
    if pod._layer is not None:
        texts.append("inside a transaction, not committed yet")
    return texts


def _table(pod: PersistentOrderedDict[Any, Any], names: Cells, cells_of: Callable[[Any], Cells]) -> str:
    first, last, more = _ends(pod)
    if not first:
        return ""
    rows = [_row((_key(key), *cells_of(value))) for key, value in first]
    if more:
        rows.append(_row([f"… {more:,} more", *[""] * (len(names) - 1)]))
    rows += [_row((_key(key), *cells_of(value))) for key, value in last]
    head = _row(names, "th")
    return f'<table style="border-collapse:collapse;margin:.4em 0">{head}{"".join(rows)}</table>'


def _ends(pod: PersistentOrderedDict[Any, Any]) -> tuple[list[tuple[Any, Any]], list[tuple[Any, Any]], int]:
    """Return the first and the last items, and how many are between them."""
    while True:
        number = len(pod)
        try:
            first = [*islice(dict.items(pod), _SHOWN)]
            last = [*islice(reversed(dict.items(pod)), max(0, min(_SHOWN, number - _SHOWN)))]
        except RuntimeError:  # another thread has changed it meanwhile
            continue
        return first, last[::-1], max(0, number - 2 * _SHOWN)


def _cells(entry: Any, max_tries: int) -> Cells:
    """Return what is shown of the entry of a task."""
    if entries.problem(entry) is not None:
        return ["damaged", "", _value(entry)]
    own = {name: value for name, value in entry.items() if name not in entries.RESERVED}
    error = entry.get("_error")
    first = error.strip().partition("\n")[0] if error is not None else ""
    text = f"{fitted(printable(first), _LONGEST_VALUE)} " if first else ""
    state = entries.state_of(entry, max_tries).replace("_", " ")
    return [state, str(entry.get("_tries", 0)), f"{text}{_value(own) if own else ''}"]


def _row(cells: Cells, kind: str = "td") -> str:
    texts = [f'<{kind} style="{_CELL}">{escape(cell)}</{kind}>' for cell in cells]
    return f"<tr>{''.join(texts)}</tr>"


def _key(key: Any) -> str:
    return fitted(_short(key), _LONGEST_KEY, ends=True)


def _value(value: Any) -> str:
    return fitted(printable(_short(value)), _LONGEST_VALUE)


def _number(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
