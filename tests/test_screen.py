"""What `tastypy status` looks like: pages of any width, drawn by rich or without it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.cells import cell_len

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
