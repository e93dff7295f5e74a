"""`tastypy watch` and `status` on a terminal: frames take each other's place, with rich or without it, whatever happens to the terminal."""

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
from collections.abc import Iterator
from pathlib import Path

import helpers
import pytest
from helpers import PATIENCE, end

from tastypy import Tracker


class Terminal:
    """A terminal that `tastypy watch` is shown on, and that understands as much as that uses."""

    def __init__(self, columns: int, lines: int) -> None:
        self.leader, self.follower = os.openpty()
        self.rows = [""]
        self.row = self.column = 0
        self.text = self.raw = ""
        self.resize(columns, lines)
        self.columns, self.lines = columns, lines

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start the command on it."""
        clean = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
        process = subprocess.Popen(
            [sys.executable, "-m", "tastypy", *arguments],
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
    terminal.start("watch", tracker.path, "--interval", "0.02", **environment)
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
    terminal.start("watch", tracker.path, "--interval", "0.02", **environment)
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
    process = terminal.start("watch", tracker.path, "--interval", "3600")
    terminal.read()
    process.send_signal(number)
    shown = terminal.read()
    assert "\x1b[H\x1b[J" in terminal.raw
    assert shown[0] == tracker.path


def test_ctrl_c_ends_it_with_0_and_below_what_is_shown(terminal: Terminal, tracker: Tracker[str]) -> None:
    process = terminal.start("watch", tracker.path, "--interval", "3600")
    shown = terminal.read()
    process.send_signal(signal.SIGINT)
    assert end(process) == 0
    terminal.read("\n")
    assert [row.rstrip() for row in terminal.rows] == [*shown, "", ""]
    assert (terminal.row, terminal.column) == (len(shown) + 1, 0)


def test_there_are_colours_with_rich_unless_no_color_is_set(terminal: Terminal, tracker: Tracker[str]) -> None:
    seen = []
    for variables in ({}, {"NO_COLOR": "1"}):
        process = terminal.start("watch", tracker.path, "--interval", "3600", **variables)
        terminal.read()
        seen.append(bool(re.search(r"\x1b\[[0-9;]*3[0-9]", terminal.raw)))
        process.kill()
        process.wait()
    assert seen == [True, False]


def test_without_rich_there_is_plain_text(
    terminal: Terminal, tracker: Tracker[str], environment: dict[str, str]
) -> None:
    terminal.start("watch", tracker.path, "--interval", "3600", **environment)
    terminal.read()
    assert bool(re.search(r"\x1b\[[0-9;]*m", terminal.raw)) == (not environment)
    assert ("[#" in terminal.raw or "[.." in terminal.raw) == bool(environment)


def test_on_a_terminal_that_can_do_nothing_pages_follow_each_other(terminal: Terminal, tracker: Tracker[str]) -> None:
    tracker.clear()
    terminal.start("watch", tracker.path, "--interval", "0.02", TERM="dumb")
    terminal.read("there are no tasks yet\r\n\r\n")
    shown = terminal.read("there are no tasks yet\r\n\r\n")
    assert "\x1b" not in terminal.raw
    assert shown.count(tracker.path) == 2


def test_json_is_json_on_a_terminal_too(terminal: Terminal, tracker: Tracker[str]) -> None:
    tracker.clear()
    terminal.columns = 10_000  # it wraps by itself
    terminal.start("watch", tracker.path, "--json", "--interval", "3600")
    assert json.loads(terminal.read("\n")[0])["counts"]["total"] == 0


def test_once_it_is_as_wide_as_the_terminal_and_as_long_as_it_takes(terminal: Terminal, tracker: Tracker[str]) -> None:
    terminal.resize(40, 10)
    terminal.columns, terminal.lines = 40, 100
    process = terminal.start("status", tracker.path)
    assert end(process) == 0
    shown = terminal.read("... and 4 more")
    assert len(shown) > 40
    assert shown[0] == tracker.path
