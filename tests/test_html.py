"""What a notebook shows of a POD and of a tracker: `_repr_html_`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from helpers import Opener, files
from hypothesis import given
from hypothesis import strategies as st

from tastypy import POD, Tracker
from tastypy.notebook import _short


class Page(HTMLParser):
    """The text of a page, its tags, and the cells of its table; it raises where a tag is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, _: Any) -> None:
        self.tags.add(tag)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "div":
            self.text += "\n"

    def handle_data(self, data: str) -> None:
        if self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        else:
            self.text += data


def page(pod: POD[Any, Any]) -> Page:
    html = pod._repr_html_()
    html.encode()  # it travels as UTF-8
    return Page(html)


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](path, max_tries=2) as tracker:
        yield tracker


# ---------------------------------------------------------------------------------------------------------------- POD


def test_it_shows_where_the_pod_lies_its_length_and_all_of_a_few_entries(pod: POD[Any, Any]) -> None:
    pod.update({"foo": {"bar": [1, 2.5, None]}, 1: "one", ("a", 1): True})
    shown = page(pod)
    assert shown.text.split("\n")[:2] == [f"PersistentOrderedDict {pod.path}", "3 entries"]
    assert shown.rows == [
        ["key", "value"],
        ["'foo'", "{'bar': [1, 2.5, None]}"],
        ["1", "'one'"],
        ["('a', 1)", "True"],
    ]


@pytest.mark.parametrize("number", [0, 1, 5, 6, 10, 11, 1000])
def test_of_many_entries_it_shows_the_first_and_the_last_ones(pod: POD[Any, Any], number: int) -> None:
    pod.update({key: key for key in range(number)})
    shown = [row[0] for row in page(pod).rows[1:]]
    if number <= 10:
        assert shown == [str(key) for key in range(number)]
    else:
        assert shown == ["0", "1", "2", "3", "4", f"… {number - 10:,} more", *map(str, range(number - 5, number))]
    assert page(pod).text.split("\n")[1] == ("1 entry" if number == 1 else f"{number:,} entries")


def test_what_stands_in_entries_is_text_and_nothing_else(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    with POD[Any, Any](tmp_path / f"{evil.replace('/', '')}&amp;.pod") as pod:
        pod.update({evil: evil, "b": {evil: [evil]}, "quotes": "\"'`", "math": "$x^2$ \\(y\\)"})
        html = pod._repr_html_()
        shown = Page(html)
        assert "script" not in shown.tags
        assert pod.path in shown.text
        assert shown.rows[1] == [repr(evil), repr(evil)]
        assert shown.rows[4] == ["'math'", repr("$x^2$ \\(y\\)")]
        assert "mathjax_ignore" in html, "or a notebook would typeset it"


def test_control_characters_and_what_is_no_text_are_shown_as_escapes(tmp_path: Path) -> None:
    with POD[Any, Any](os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n.pod")) as pod:
        pod.update({"\x1b[31m\u202eabc": "\0\n\ud7ff"})
        shown = page(pod)
        assert "\\udcff\\n.pod" in shown.text
        assert shown.rows[1] == [r"'\x1b[31m\u202eabc'", r"'\x00\n\ud7ff'"]


def test_long_keys_and_values_are_cut_before_they_are_written_out(pod: POD[Any, Any]) -> None:
    nested: list[Any] = []
    for _ in range(200):
        nested = [nested]
    pod["k" * 100_000] = "v" * 10_000_000
    pod["dict"] = {f"{number}": number for number in range(300_000)}
    pod["list"] = [[1.5] * 10] * 100_000
    pod["nested"] = nested
    start = time.process_time()
    html = pod._repr_html_()
    assert time.process_time() - start < 0.5
    assert len(html) < 6000
    rows = Page(html).rows[1:]
    assert all(len(cell) <= 120 for row in rows for cell in row)
    assert rows[0][0].startswith("'kkk")
    assert rows[1][1].startswith("{'0': 0, '1': 1, '2': 2")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=6,
)


@given(JSON)
def test_a_short_value_is_shown_as_it_is(value: Any) -> None:
    if _depth(value) < 4:
        assert _short(value) == repr(value)


def _depth(value: Any) -> int:
    inner = value if isinstance(value, list) else [*value.values()] if isinstance(value, dict) else []
    return 1 + max(map(_depth, inner), default=0) if isinstance(value, list | dict) else 0


def test_it_says_what_is_held_and_that_a_transaction_goes_on(pod: POD[Any, Any], opened: Opener) -> None:
    with pod.hold():
        assert page(pod).text.split("\n")[1] == "0 entries, held"
        pod["a"] = 1
        assert page(pod).text.split("\n")[1] == "1 entry, 1 change held, not written yet"
        pod["b"] = 1
        assert page(pod).text.split("\n")[1] == "2 entries, 2 changes held, not written yet"
    with pod.transaction():
        pod["c"] = 3
        shown = page(pod)
        assert shown.text.split("\n")[1] == "3 entries, inside a transaction, not committed yet"
        assert shown.rows[3] == ["'c'", "3"]
    assert page(pod).text.split("\n")[1] == "3 entries"
    assert page(opened(mode="r")).text.split("\n")[1] == "3 entries, read only"


@pytest.mark.parametrize("kind", [POD, Tracker])
def test_a_closed_one_says_that_it_is_closed(path: Path, kind: type[POD[Any, Any]]) -> None:
    pod = kind(path)
    pod["a"] = {"secret": 1}
    pod.close()
    shown = page(pod)
    assert shown.text.strip().split("\n") == [f"{kind.__name__} {path}", "closed"]
    assert shown.rows == []


def test_looking_changes_nothing(pod: POD[Any, Any]) -> None:
    pod.update({key: key for key in range(100)})
    before = files(Path(pod.path))
    page(pod)
    assert files(Path(pod.path)) == before


def test_a_million_entries_take_no_longer_than_ten(pod: POD[Any, Any]) -> None:
    pod.hold()
    dict.update(pod, dict.fromkeys(range(1_000_000), "x"))  # in memory only, since it is that which is looked at
    took = []
    for _ in range(5):
        start = time.process_time()
        assert "999,990 more" in pod._repr_html_()
        took.append(time.process_time() - start)
    assert min(took) < 0.01, "to go over all of them takes more than that"
    dict.clear(pod)


def test_colours_are_those_of_the_page_light_or_dark(tracker: Tracker[Any]) -> None:
    tracker.add("a")
    colours = re.findall(r"(?:color|background)(?:-color)?:([^;\"]+)", tracker._repr_html_())
    assert set(colours) <= {"rgba(128,128,128,.25)", "#0072b2"}, "of the bar; text has none of its own"


# ------------------------------------------------------------------------------------------------------------ tracker


def test_of_a_tracker_it_shows_how_far_it_is_and_the_state_of_tasks(tracker: Tracker[Any]) -> None:
    tracker.add_many(["a", "b", "c", "d", "e"], depth=1)
    for task in tracker.claims():
        if task.key == "d":
            break
        try:
            with task:
                task["status"] = 200
                if task.key == "b":
                    raise ValueError("no <b>\nmore")
        except ValueError:
            pass
    tracker.abort("e")
    shown = page(tracker)
    lines = shown.text.split("\n")
    assert lines[1] == "5 tasks"
    assert lines[2] == "40.0 % done, 2 done, 1 aborted, 1 claimed, 1 failed"
    assert shown.rows == [
        ["task", "state", "tries", "fields"],
        ["'a'", "done", "1", "{'depth': 1, 'status': 200}"],
        ["'b'", "failed", "1", "ValueError: no <b> {'depth': 1}"],
        ["'c'", "done", "1", "{'depth': 1, 'status': 200}"],
        ["'d'", "claimed", "0", "{'depth': 1}"],
        ["'e'", "aborted", "0", "{'depth': 1}"],
    ]


def test_100_percent_means_all(tracker: Tracker[Any]) -> None:
    tracker.update({key: {"_done": key > 0} for key in range(3000)})
    assert "99.9 % done" in page(tracker).text
    tracker.mark_done(0)
    assert "100.0 % done" in page(tracker).text


def test_an_empty_tracker_is_shown_too(tracker: Tracker[Any]) -> None:
    assert page(tracker).text.split("\n")[1:3] == ["0 tasks", "0.0 % done"]


def test_what_somebody_put_in_that_is_no_task_is_shown_as_such(tracker: Tracker[Any], opened: Opener) -> None:
    tracker.add("good")
    opened()["bad <i>"] = 3
    tracker.refresh()
    shown = page(tracker)
    assert "is not a tracker: the entry of 'bad <i>' is 3" in shown.text
    assert shown.rows[1:] == [["'good'", "open", "0", ""], ["'bad <i>'", "damaged", "", "3"]]
    opened().clear()
