"""Pages of text on standard output: plain, or drawn by `rich` where that is installed; once, or in each other's place.

A page is lines, bars and tables, whoever draws it: all widths are settled in here. What stands on it is left to others.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from unicodedata import east_asian_width

_NO_TERMINAL = 120  # columns where there is no terminal that has some


class Line(NamedTuple):
    """A text that is wrapped where it is too long."""

    text: str
    style: str = ""


class Bar(NamedTuple):
    """A bar that is full to a `share` of its length, and the text behind it."""

    share: float
    text: str

    def length(self, width: int) -> int:
        """Return how long it can be: 0 where there is no room for it."""
        room = min(width - len(self.text) - 3, 60)
        return room if room >= 8 else 0


class Column(NamedTuple):
    """Of a table. `ends`: what is too long is cut in the middle, since it is the ends that tell it from others."""

    name: str
    style: str = ""
    right: bool = False
    ends: bool = False


class Table(NamedTuple):
    """A header and a line for each row."""

    columns: list[Column]
    rows: list[list[str]]

    def laid_out(self, width: int) -> list[tuple[Column, int, list[str]]]:
        """Return the columns that there is room for, each with its own width, and its name and cells cut to that."""
        shown = self.columns[: max(1, (width + 2) // 3)]
        columns = [[column.name, *(row[number] for row in self.rows)] for number, column in enumerate(shown)]
        widths = [min(width, max(map(width_of, cells))) for cells in columns]
        while sum(widths) + 2 * len(widths) - 2 > width:
            widths[widths.index(max(widths))] -= 1  # the widest gives way
        return [
            (column, room, [fitted(cell, room, column.ends) for cell in cells])
            for column, room, cells in zip(shown, widths, columns, strict=True)
        ]


Page = list[Line | Bar | Table]


# --- text


def printable(text: str) -> str:
    """Return the text with escapes in place of what a terminal would obey instead of show."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _escaped(line: str) -> str:
    """Return a line of JSON with escapes of JSON in place of what cannot be printed, which stands in strings only."""
    import json  # noqa: PLC0415 - seldom needed

    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in line)


def width_of(text: str) -> int:
    """Return how many cells of a terminal a text takes at most."""
    return len(text) if text.isascii() else sum(2 if east_asian_width(one) in "WF" else 1 for one in text)


def fitted(text: str, width: int, ends: bool = False) -> str:
    """Return the text, cut to a width in cells: at its end, or so that a third of it is the beginning, the rest the end."""
    if width_of(text) <= width:
        return text
    dots = "..." if width > 3 else ""
    room = width - len(dots)
    head = _first(text, room // 3 if ends else room)
    return head + dots + (_first(text[::-1], room - width_of(head))[::-1] if ends else "")


def _first(text: str, width: int) -> str:
    text = text[:width]
    while width_of(text) > width:
        text = text[:-1]
    return text


def _padded(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - width_of(text))
    return space + text if right else text + space


def _wrapped(text: str, width: int) -> list[str]:
    return [fitted(line, width) for line in textwrap.wrap(text, width, break_on_hyphens=False)] or [""]


# --- who draws it

Draw = Callable[[Page, int], list[str]]


def plain(page: Page, width: int) -> list[str]:
    """Return the lines of a page as plain text."""
    lines: list[str] = []
    for part in page:
        if isinstance(part, Line):
            lines += _wrapped(part.text, width)
        elif isinstance(part, Bar):
            length = part.length(width)
            full = int(part.share * length)
            bar = f"[{'#' * full}{'.' * (length - full)}] " if length else ""
            lines.append(fitted(bar + part.text, width))
        else:
            columns = [
                [_padded(cell, room, right=column.right) for cell in cells]
                for column, room, cells in part.laid_out(width)
            ]
            lines += ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
    return lines


def _drawn_by_rich(page: Page, width: int) -> list[str]:
    from rich.console import Console  # noqa: PLC0415 - an extra
    from rich.progress_bar import ProgressBar  # noqa: PLC0415 - as above
    from rich.table import Table as RichTable  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        for part in page:
            drawn: Any
            if isinstance(part, Line):
                drawn = Text("\n".join(_wrapped(part.text, width)), part.style)
            elif isinstance(part, Bar):
                drawn = RichTable.grid(padding=(0, 3, 0, 0))
                text = Text(fitted(part.text, width), no_wrap=True)
                length = part.length(width)
                drawn.add_row(*([ProgressBar(1, part.share, length)] if length else []), text)
            else:
                drawn = RichTable(box=None, padding=(0, 2, 0, 0), pad_edge=False)
                columns = part.laid_out(width)
                for column, room, cells in columns:
                    justify: Any = "right" if column.right else "left"
                    drawn.add_column(Text(cells[0]), width=room, no_wrap=True, justify=justify, style=column.style)
                for row in zip(*(cells[1:] for _, _, cells in columns), strict=True):
                    drawn.add_row(*map(Text, row))
            console.print(drawn)
    return captured.get().split("\n")[:-1]


class Screen:
    """Standard output.

    Attributes:
        is_terminal: whether pages can take each other's place on it.
        has_colours: whether single texts can have some. (Pages are rich's own.)
    """

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
        is_rich = self.is_terminal and _has_rich()
        self.has_colours = is_rich and not os.environ.get("NO_COLOR")
        self._draw: Draw = _drawn_by_rich if is_rich else plain
        self._size: os.terminal_size | None = None
        self._lines = 0

    def write(self, text: str) -> None:
        """Print a text as it is, at once."""
        sys.stdout.write(text)
        sys.stdout.flush()

    @property
    def width(self) -> int:
        """The columns of it, or of a page where there is no terminal."""
        return shutil.get_terminal_size((_NO_TERMINAL, 24)).columns

    def paint(self, text: str, style: str) -> str:
        """Return a text, which is `printable`, in a style (a colour, "bold") where there are colours."""
        if not self.has_colours:
            return text
        from rich.style import Style  # noqa: PLC0415 - an extra

        return Style.parse(style).render(text)

    def json(self, value: Any) -> str:
        """Return the JSON of a value laid out for reading, in colours where there are some, and with nothing that a terminal obeys."""
        import json  # noqa: PLC0415 - seldom needed

        lines = json.dumps(value, indent=2, ensure_ascii=False).split("\n")
        text = "\n".join(line if line.isprintable() else _escaped(line) for line in lines)
        if not self.has_colours:
            return text
        from rich.console import Console  # noqa: PLC0415 - an extra
        from rich.highlighter import JSONHighlighter  # noqa: PLC0415 - as above

        console = Console(highlight=False, markup=False, emoji=False)
        with console.capture() as captured:
            console.print(JSONHighlighter()(text), soft_wrap=True, end="")
        return captured.get()

    def show(self, page: Page) -> None:
        """Print a page, as long as it is."""
        self.write("".join(f"{line}\n" for line in self._draw(page, max(1, self.width - 1))))

    def refresh(self, pages: Iterable[Page]) -> None:
        """Put a page in the place of the one before, in one go: the first that is no higher than the terminal, else the last, cut."""
        size = shutil.get_terminal_size()
        width, height = max(1, size.columns - 1), max(1, size.lines - 1)  # the cursor stays below, and no line wraps
        page: Page = []
        for page in pages:
            if len(plain(page, width)) <= height:
                break
        lines = self._draw(page, width)[:height]
        if self._size is None:
            begin = ""
        elif size == self._size:
            begin = f"\r\x1b[{self._lines}A"
        else:  # what is there may have been wrapped anew: nobody knows where it begins
            begin = "\x1b[H\x1b[J"
        # wrapping is off meanwhile: where a terminal takes a character for wider than we do, the line is cut
        self.write(f"\x1b[?7l{begin}" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J\x1b[?7h")
        self._size, self._lines = size, len(lines)

    def disturbed(self) -> None:
        """Have the next frame begin anew: somebody else may have written."""
        if self._size is not None:
            self._size = os.terminal_size((0, 0))


def _has_rich() -> bool:
    try:
        import rich  # noqa: F401, PLC0415 - an extra
    except ImportError:
        return False
    return True
