"""What `tastypy status` looks like: pages of any width, drawn by rich or without it, and on a terminal that changes."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import helpers
import pytest
from helpers import PATIENCE, end
from rich.cells import cell_len

from tastypy import Tracker
from tastypy.entries import Counts
from tastypy.screen import Page, _drawn_by_rich, fitted, plain, printable, width_of
from tastypy.show import _LOWER, page_of
from tastypy.status import Failure, Held, Process, Status, Worker

NOW = 10_000.0


def status(
    workers: int = 2, tasks: int = 2, errors: int = 2, key: str = "https://example.org/{}", **fields: Any
) -> Status:
    """A status with so many of everything."""
    some = [
        Worker(
            f"{n:016}",
            f"node{n}",
            100 + n,
            NOW - 3723 - n,
            [Held(key.format(m), NOW - m, m == 0) for m in range(tasks)],
        )
        for n in range(workers)
    ]
    failures = [Failure(f"ValueError: {n}\nmore", n + 1, key.format(n), NOW - 60 * n) for n in range(errors)]
    counts = Counts(total=10_000, done=4_520, aborted=0, claimed=workers * tasks, given_up=3, failed=12, open=5_000)
    standard: dict[str, Any] = {
        "path": "/data/my.tracker", "time": NOW, "counts": counts, "max_tries": 3, "rate": 12.34, "seconds_left": 406.0,
        "workers": some, "runs": [], "dead": [], "errors": failures,
    }  # fmt: skip
    return Status(**{**standard, **fields})


def unstyled(lines: list[str]) -> list[str]:
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]


@pytest.fixture
def by_rich(monkeypatch: pytest.MonkeyPatch) -> Callable[[Page, int], list[str]]:
    """Draws a page by rich, with colours."""
    for name in ("NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    return _drawn_by_rich


# ---------------------------------------------------------------------------------------------------------------- pages


def test_a_page_as_plain_text() -> None:
    dead = [Worker("0" * 16, None, None, None, [Held("x", None, True)])]
    runs = [Process("1" * 16, "node0", 99, NOW - 61), Process("2" * 16, "node1", 98, NOW)]
    shown = plain(page_of(status(dead=dead, runs=runs)), 80)
    assert (
        "\n".join(shown)
        == """\
/data/my.tracker
[######################...........................] 45.2 %, 4,520 of 10,000 done
5,000 open, 4 claimed, 12 failed, 3 given up
12.3/s, 6:46 left
2 runs: node0 (process 99, for 1:01), node1 (process 98, for 0:00)

2 workers  pid      age  task                          for
node0      100  1:02:03  https://example.org/0        0:00
                         https://example.org/1  ahead 0:01
node1      101  1:02:04  https://example.org/0        0:00
                         https://example.org/1  ahead 0:01

1 dead worker  pid  age  task  for
?                ?    ?  x       ?
their tasks go to the next worker that looks for one

tasks  error          for example             ago
    1  ValueError: 0  https://example.org/0  0:00
    2  ValueError: 1  https://example.org/1  1:00"""
    )


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"rate": None, "seconds_left": None}, "no rate yet"),
        ({"rate": None, "seconds_left": None, "workers": 0}, "no worker is alive"),
        ({"counts": Counts(9, 7, 0, 0, 2, 0, 0)}, "nothing is left to do"),
        ({"counts": Counts(0, 0, 0, 0, 0, 0, 0)}, "there are no tasks yet"),
        ({"rate": 0.5, "seconds_left": 90000.0}, "30/min, 1 day 1:00:00 left"),
    ],
)
def test_the_line_about_the_rate_says_why_there_is_none(fields: dict[str, Any], line: str) -> None:
    assert plain(page_of(status(**fields)), 80)[3] == line


def test_only_all_is_100_percent() -> None:
    assert "99.9 %, 9,999 of 10,000" in plain(page_of(status(counts=Counts(10_000, 9_999, 0, 0, 0, 0, 1))), 80)[1]
    assert "100.0 %, 9 of 9" in plain(page_of(status(counts=Counts(9, 9, 0, 0, 0, 0, 0))), 80)[1]


def test_long_lists_are_cut_and_say_so() -> None:
    lines = plain(page_of(status(workers=12, tasks=8, errors=6)), 120)
    assert sum(line.startswith("node") for line in lines) == 10
    assert sum("https" in line and "Error" not in line for line in lines) == 10 * 5
    assert lines.count("... and 2 more") == 1
    assert sum(line.endswith("  +3") for line in lines) == 10
    assert sum("ValueError" in line for line in lines) == 5
    assert lines[-1] == "... and 1 more"
    assert plain(page_of(status(workers=12, errors=6), _LOWER[-1]), 120)[4:] == ["12 workers", "6 errors"]


def test_the_widest_columns_give_way_and_then_the_bar() -> None:
    page = page_of(status(key="https://example.org/a/b/c/{}", workers=1))
    assert (
        "\n".join(plain(page, 60)[5:8])
        == """\
1 worker  pid      age  task                             for
node0     100  1:02:03  https:/...le.org/a/b/c/0        0:00
                        https:/...le.org/a/b/c/1  ahead 0:01"""
    )
    assert plain(page, 36)[1] == "45.2 %, 4,520 of 10,000 done"


@pytest.mark.parametrize(
    "key", ["x" * 300, "漢字" * 60, "\x1b[2J\r\n\t\x00{}", "e\u0301" * 200, "\U0001f469\u200d\U0001f680" * 9, ""]
)
@pytest.mark.parametrize("most", [_LOWER[0], _LOWER[7], _LOWER[-1]])
def test_no_line_is_wider_than_it_may_be_or_obeyed_by_the_terminal(
    by_rich: Callable[[Page, int], list[str]], key: str, most: Any
) -> None:
    page = page_of(status(key=key, path=f"/data/{key}", runs=[Process("", key, None, None)] * 3), most)
    for width in (7, 20, 59, 60, 139):
        lines, drawn = plain(page, width), unstyled(by_rich(page, width))
        assert max(map(width_of, lines)) <= width
        assert max(map(cell_len, drawn)) <= width
        assert all(line.isprintable() for line in (*lines, *drawn))
        assert len(lines) == len(drawn)


def test_rich_draws_the_same_in_colours(by_rich: Callable[[Page, int], list[str]]) -> None:
    page = page_of(status(tasks=8))
    for width in (60, 100):
        lines, drawn = plain(page, width), by_rich(page, width)
        assert [line.rstrip() for n, line in enumerate(unstyled(drawn)) if n != 1] == [*lines[:1], *lines[2:]]
        assert lines[1].endswith("45.2 %, 4,520 of 10,000 done")
        assert unstyled(drawn)[1].rstrip().endswith("45.2 %, 4,520 of 10,000 done")
        assert any("\x1b[36m" in line for line in drawn)


def test_a_key_is_cut_in_its_middle_and_an_error_at_its_end() -> None:
    assert fitted("https://example.org/very/long/path/17", 20, ends=True) == "https...long/path/17"
    assert fitted("ValueError: something", 15) == "ValueError: ..."
    assert fitted("漢字漢字漢字", 8) == "漢字..."
    assert [fitted("abcdef", width) for width in range(7)] == ["", "a", "ab", "abc", "a...", "ab...", "abcdef"]


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert printable("a\x1b[31mb\nc\udcff d\u202e") == "a\\x1b[31mb\\nc\\udcff d\\u202e"
    assert printable("naïve ☃ 漢字") == "naïve ☃ 漢字"


# ----------------------------------------------------------------------------------------------------------- a terminal


class Terminal:
    """A terminal that `tastypy status` is shown on, and that understands as much as that uses."""

    def __init__(self, columns: int, lines: int) -> None:
        self.leader, self.follower = os.openpty()
        self.rows = [""]
        self.row = self.column = 0
        self.text = self.raw = ""
        self.resize(columns, lines)
        self.columns, self.lines = columns, lines

    def start(self, path: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start the command on it."""
        clean = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
        process = subprocess.Popen(
            [sys.executable, "-m", "tastypy", "status", path, *arguments],
            stdin=subprocess.PIPE,
            stdout=self.follower,
            env={**clean, "TERM": "xterm-256color", **environment},
        )
        helpers._started.append(process)
        return process

    def resize(self, columns: int, lines: int) -> None:
        """Give it another size; a program that does not control it gets no signal of that."""
        self.next = columns, lines  # from the first frame on that knows of it
        fcntl.ioctl(self.follower, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self, last: str = "\x1b[?7h") -> list[str]:
        """Take in what is written up to `last`, by default the next frame; what is seen then."""
        while last not in self.text:
            assert select.select([self.leader], [], [], PATIENCE)[0], self.text
            self.text += os.read(self.leader, 1 << 16).decode()
        frame, last, self.text = self.text.partition(last)
        self.raw = frame + last
        if "\x1b[H" in frame:
            self.columns, self.lines = self.next
        for part in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", self.raw):
            self._obey(part)
        return self.seen()

    def seen(self) -> list[str]:
        """The rows that are seen, without the empty ones at their end."""
        return "\n".join(row.rstrip() for row in self.rows[-self.lines :]).rstrip("\n").split("\n")

    def _obey(self, part: str) -> None:
        top = max(0, len(self.rows) - self.lines)
        if part == "\r":
            self.column = 0
        elif part == "\n":
            self.row += 1
            if self.row == len(self.rows):
                self.rows.append("")
        elif re.fullmatch(r"\x1b\[\d+A", part):
            self.row -= int(part[2:-1])
            assert self.row >= top, "higher than it is"
        elif part == "\x1b[H":
            self.row, self.column = top, 0
        elif part == "\x1b[K":
            self.rows[self.row] = self.rows[self.row][: self.column]
        elif part == "\x1b[J":
            self.rows[self.row] = self.rows[self.row][: self.column]
            self.rows[self.row + 1 :] = [""] * (len(self.rows) - self.row - 1)
        elif part[0] != "\x1b":
            before, behind = self.rows[self.row][: self.column], self.rows[self.row][self.column + len(part) :]
            self.rows[self.row] = before.ljust(self.column) + part + behind
            self.column += len(part)
            assert self.column < self.columns, "wider than it is"
        else:
            assert re.fullmatch(r"\x1b\[(\?7[lh]|[0-9;]*m)", part), part


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal of 80 columns and 24 lines."""
    terminal = Terminal(80, 24)
    yield terminal
    helpers.end_all()
    os.close(terminal.leader)
    os.close(terminal.follower)


@pytest.fixture
def tracker(quick_directory: Path) -> Iterator[Tracker[str]]:
    """A tracker with a short path, 20 dead workers, each of which had 3 tasks, and 9 different errors."""
    with Tracker[str](quick_directory / "t") as tracker:
        for number in range(20):
            for task in range(3):
                claim = {"token": f"{number:08}{task:08}", "worker": f"{number:016}"}
                tracker[f"task {number}/{task}"] = {"_claim": claim, "_at": 5.0}
        tracker.update({f"failed {number}": {"_error": f"ValueError: {number}", "_at": number} for number in range(9)})
        yield tracker


@pytest.fixture(params=["rich", "no rich"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """One in which rich is installed, and one in which it is not."""
    if request.param == "rich":
        return {}
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "rich.py").write_text("raise ImportError('not installed')")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path / "without"), *filter(None, sys.path)])}


def test_each_frame_takes_the_place_of_the_one_before(
    terminal: Terminal, tracker: Tracker[str], environment: dict[str, str]
) -> None:
    before = [f"before {number}" for number in range(15)]
    terminal.rows, terminal.row = [*before, ""], 15
    terminal.start(tracker.path, "--watch", "--interval", "0.02", **environment)
    for _ in range(3):
        shown = terminal.read()
        assert terminal.rows[:15] == before
        assert len(terminal.rows) == 15 + len(shown) + 1
        assert shown[0] == tracker.path
        assert len(shown) == 23
    assert "20 dead workers" in "".join(shown)
    tracker.clear()
    terminal.read()
    shown = terminal.read()
    assert shown == [tracker.path, shown[1], "0 open, 0 claimed, 0 failed", "there are no tasks yet"]


def test_no_frame_is_larger_than_a_terminal_that_changes(
    terminal: Terminal, tracker: Tracker[str], environment: dict[str, str]
) -> None:
    terminal.start(tracker.path, "--watch", "--interval", "0.02", **environment)
    terminal.read()
    for size in ((60, 15), (140, 40), (30, 6), (9, 2), (100, 24)):
        terminal.resize(*size)
        while (terminal.columns, terminal.lines) != size:
            terminal.read()
        for shown in (terminal.seen(), terminal.read()):
            assert len(shown) < size[1]
            assert shown[0] == tracker.path[: size[0] - 1]
            assert "\n".join(shown).count(tracker.path) == (size[0] > 9)


@pytest.mark.parametrize("number", [signal.SIGWINCH, signal.SIGCONT])
def test_a_terminal_that_changed_or_was_somebody_elses_is_drawn_on_at_once(
    terminal: Terminal, tracker: Tracker[str], number: int
) -> None:
    process = terminal.start(tracker.path, "--watch", "--interval", "3600")
    terminal.read()
    process.send_signal(number)
    shown = terminal.read()
    assert "\x1b[H\x1b[J" in terminal.raw
    assert shown[0] == tracker.path


def test_ctrl_c_ends_it_with_0_and_below_what_is_shown(terminal: Terminal, tracker: Tracker[str]) -> None:
    process = terminal.start(tracker.path, "--watch", "--interval", "3600")
    shown = terminal.read()
    process.send_signal(signal.SIGINT)
    assert end(process) == 0
    terminal.read("\n")
    assert [row.rstrip() for row in terminal.rows] == [*shown, "", ""]
    assert (terminal.row, terminal.column) == (len(shown) + 1, 0)


def test_there_are_colours_with_rich_unless_no_color_is_set(terminal: Terminal, tracker: Tracker[str]) -> None:
    seen = []
    for variables in ({}, {"NO_COLOR": "1"}):
        process = terminal.start(tracker.path, "--watch", "--interval", "3600", **variables)
        terminal.read()
        seen.append(bool(re.search(r"\x1b\[[0-9;]*3[0-9]", terminal.raw)))
        process.kill()
        process.wait()
    assert seen == [True, False]


def test_without_rich_there_is_plain_text(
    terminal: Terminal, tracker: Tracker[str], environment: dict[str, str]
) -> None:
    terminal.start(tracker.path, "--watch", "--interval", "3600", **environment)
    terminal.read()
    assert bool(re.search(r"\x1b\[[0-9;]*m", terminal.raw)) == (not environment)
    assert ("[#" in terminal.raw or "[.." in terminal.raw) == bool(environment)


def test_on_a_terminal_that_can_do_nothing_pages_follow_each_other(terminal: Terminal, tracker: Tracker[str]) -> None:
    tracker.clear()
    terminal.start(tracker.path, "--watch", "--interval", "0.02", TERM="dumb")
    terminal.read("there are no tasks yet\r\n\r\n")
    shown = terminal.read("there are no tasks yet\r\n\r\n")
    assert "\x1b" not in terminal.raw
    assert shown.count(tracker.path) == 2


def test_json_is_json_on_a_terminal_too(terminal: Terminal, tracker: Tracker[str]) -> None:
    tracker.clear()
    terminal.columns = 10_000  # it wraps by itself
    terminal.start(tracker.path, "--watch", "--json", "--interval", "3600")
    assert json.loads(terminal.read("\n")[0])["counts"]["total"] == 0


def test_once_it_is_as_wide_as_the_terminal_and_as_long_as_it_takes(terminal: Terminal, tracker: Tracker[str]) -> None:
    terminal.resize(40, 10)
    terminal.columns, terminal.lines = 40, 100
    process = terminal.start(tracker.path)
    assert end(process) == 0
    shown = terminal.read("... and 4 more")
    assert len(shown) > 40
    assert shown[0] == tracker.path
