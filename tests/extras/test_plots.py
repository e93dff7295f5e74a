"""`tracker.plot` and `tastypy plot`: what is counted, what is drawn, and what cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from helpers import Opener, files, stored

from tastypy import MissingExtraError, Tracker, cli, entries
from tastypy.plots import facts_of

pytest.importorskip("matplotlib")

TASTYPY = [sys.executable, "-m", "tastypy"]
NOW = float(int(time.time())) - 100_000
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](path) as tracker:
        yield tracker


def done(at: float, worker: str = "node1:1", **more: Any) -> dict[str, Any]:
    return {"_done": True, "_tries": 1, "_at": at, "_worker": worker, **more}


def failed(at: float, error: str = "ValueError: no", worker: str = "node1:1") -> dict[str, Any]:
    return {"_tries": 1, "_at": at, "_error": error, "_worker": worker}


def texts_of(figure: Any) -> str:
    """All that is written in a picture."""
    from matplotlib.text import Text  # noqa: PLC0415 - an extra

    return "\n".join(text.get_text() for text in figure.findobj(Text))


# --------------------------------------------------------------------------------------------------------- what is counted


def test_each_task_is_counted_where_its_last_try_ended(tracker: Tracker[Any]) -> None:
    tracker.update(
        {
            "a": done(NOW),
            "b": done(NOW + 5, "node2:1", _tries=3),
            "c": failed(NOW + 10, worker="node10:1"),
            "d": {},
            "e": {**failed(NOW + 3), "_aborted": True},
        }
    )
    facts = facts_of(tracker)
    assert (facts.start, facts.end) == (NOW, NOW + 10)
    assert (sum(facts.done), sum(facts.failed)) == (2, 1)
    assert facts.curve == [(NOW, 1), (NOW + 5, 2)]
    assert [tuple(row) for row in facts.tries] == [
        ("0", 0, 0, 1),
        ("1", 1, 1, 1),
        ("2", 0, 0, 0),
        ("3", 1, 0, 0),
    ]
    assert [(lane.name, lane.number, sum(lane.done), sum(lane.failed)) for lane in facts.lanes] == [
        ("node1:1", 1, 1, 0),
        ("node2:1", 1, 1, 0),
        ("node10:1", 1, 0, 1),
    ]
    assert facts.errors == [("ValueError: no", 1)]


def test_a_real_worker_has_a_lane_and_what_it_has_in_hand_a_begin(
    tracker: Tracker[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "time_now", count(NOW).__next__)
    tracker.add_many([*"abc"])
    with pytest.raises(ValueError, match="no"), next(tracker.claims()):
        raise ValueError("no")
    for task in tracker.claims():
        if task.key == "c":
            break
        with task:
            pass
    (lane,) = facts_of(tracker).lanes
    assert lane.name == f"{os.uname().nodename}:{os.getpid()}"
    assert stored(tracker.path)["a"]["_worker"] == stored(tracker.path)["b"]["_worker"] == lane.name
    assert (lane.number, sum(lane.done), sum(lane.failed)) == (2, 1, 1)
    assert lane.since is not None
    assert NOW <= lane.since < lane.claims[0] == tracker["c"]["_at"]


def test_a_task_that_is_being_tried_again_is_not_in_a_lane_by_its_last_try(tracker: Tracker[Any]) -> None:
    tracker.update({"a": failed(NOW)})
    task = tracker.claim()
    assert task is not None
    facts = facts_of(tracker)
    assert (facts.errors, sum(facts.failed)) == ([("ValueError: no", 1)], 0)
    assert sum(lane.number for lane in facts.lanes) == 0


@pytest.mark.parametrize("at", [0, -1e300, 1e300, 10**18, 2**63, 1e10, NOW + 10**9])
def test_impossible_times_are_counted_and_left_out(tracker: Tracker[Any], at: float) -> None:
    tracker.update({"a": done(NOW), "b": done(NOW + 9), "wrong": done(at), "none": {"_done": True}})
    facts = facts_of(tracker)
    assert (facts.start, facts.end, facts.untimed) == (NOW, NOW + 9, 2)


def test_clocks_that_jump_back_do_not_matter(tracker: Tracker[Any]) -> None:
    times = [NOW, NOW + 50, NOW + 10, NOW + 20, NOW - 30]
    tracker.update({at: done(at) for at in times})
    assert facts_of(tracker).curve == [(at, number) for number, at in enumerate(sorted(times), start=1)]


def test_errors_of_many_kinds_are_grouped_by_type_and_the_rest_together(tracker: Tracker[Any]) -> None:
    texts = [f"TimeoutError: {number}" for number in range(50)] + [f"Kind{number}Error: x" for number in range(9)]
    texts += [
        "requests.HTTPError: 404",
        "TimeoutError: 1\n  a second line",
        "",
        "no colon here",
        *["no colon either"] * 5,
    ]
    tracker.update({number: failed(NOW, text) for number, text in enumerate(texts)})
    errors = facts_of(tracker).errors
    assert errors[:2] == [("TimeoutError: … (50 different)", 51), ("no: … (2 different)", 6)]
    assert len(errors) == 8
    assert errors[-1] == ("6 others", 6)
    assert sum(number for _, number in errors) == len(texts)


def test_what_does_not_say_who_did_it_is_counted(tracker: Tracker[Any]) -> None:
    tracker.update({"a": done(NOW), "b": {"_done": True, "_at": NOW}, "c": {"_done": True, "_at": NOW, "_worker": 3}})
    tracker.mark_done("a")
    tracker.update({"no time": {"_done": True}})
    facts = facts_of(tracker)
    assert (facts.unnamed, facts.untimed) == (2, 1)
    assert "not shown: 1 without a time; not in a lane: 2 whose worker is not known" in texts_of(tracker.plot())


@pytest.mark.parametrize("workers", [1, 200, 1000])
def test_lanes_are_those_of_who_did_most_in_the_order_of_their_names(tracker: Tracker[Any], workers: int) -> None:
    tracker.update({(n, m): done(NOW + n + m, f"node{n}:7") for n in range(workers) for m in range(1 + n % 3)})
    facts = facts_of(tracker)
    assert (len(facts.lanes), facts.hidden) == (min(workers, 200), max(workers - 200, 0))
    assert [int(lane.name[4:-2]) for lane in facts.lanes] == sorted(int(lane.name[4:-2]) for lane in facts.lanes)
    assert workers < 201 or {lane.number for lane in facts.lanes} == {3}
    if workers == 1000:
        assert "200 of 1,000 workers" in texts_of(tracker.plot())


def test_many_tries_are_counted_together(tracker: Tracker[Any]) -> None:
    tracker.update({number: {"_tries": number} for number in range(12)})
    assert [(row.name, row.other) for row in facts_of(tracker).tries] == [
        *((str(number), 1) for number in range(8)),
        ("8 or more", 4),
    ]


# ------------------------------------------------------------------------------------------------------------ what is drawn


def realistic(number: int) -> dict[Any, dict[str, Any]]:
    """Tasks of eight workers, with a pause in the middle, and failures of several kinds."""
    kinds = ["TimeoutError: read timed out", "ConnectionError: reset by peer", "ValueError: not a $number$ <&>"]
    entries: dict[Any, dict[str, Any]] = {}
    for task in range(number):
        at = NOW + task * 3600 / number + (1800 if task > number // 2 else 0)
        worker = f"node{task % 4 + 1}:{1000 + task % 8}"
        if task > number * 9 // 10:
            entries[task] = {}
        elif task % 10 == 3:
            entries[task] = failed(at, kinds[task % 3], worker)
        else:
            entries[task] = done(at, worker, _tries=1 + (task % 7 == 0))
    return entries


@pytest.mark.parametrize("number", [1, 30_000])
def test_pictures_are_of_bounded_size_and_time(tracker: Tracker[Any], tmp_path: Path, number: int) -> None:
    tracker.update(realistic(number))
    start = time.perf_counter()
    tracker.plot(tmp_path / "a.svg")
    assert time.perf_counter() - start < 10
    data = (tmp_path / "a.svg").read_bytes()
    assert len(data) < 400_000
    ET.fromstring(data)


@pytest.mark.parametrize(("suffix", "begin"), [("svg", b"<?xml"), ("PNG", b"\x89PNG"), ("pdf", b"%PDF")])
def test_the_suffix_says_the_format(tracker: Tracker[Any], tmp_path: Path, suffix: str, begin: bytes) -> None:
    tracker.update(realistic(10))
    file = tmp_path / f"a b.{suffix}"
    file.write_text("before")
    tracker.plot(str(file))
    assert file.read_bytes().startswith(begin)
    assert sorted(os.listdir(tmp_path)) == [file.name, "my.pod"]


NASTY = [
    "$x^{$",
    "$$",
    "\\frac{$a$}",
    "a\x00b\x1b[31m\n\tc",
    "接続エラー: 失敗",
    "🙂 \u202e x",
    "\ud7ff￿",
    "é" * 5000,
    "%s {0} {x}",
]


def test_no_text_is_taken_for_mathematics_or_breaks_the_picture(tmp_path: Path) -> None:
    with Tracker[Any](tmp_path / "$a$_\\alpha.tracker") as tracker:
        tracker.update({text: failed(NOW + n, text, f"{text[:30]}:1") for n, text in enumerate(NASTY)})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figure = tracker.plot(tmp_path / "a.svg")
        ET.parse(tmp_path / "a.svg")
        shown = texts_of(figure)
        assert not {"\x1b", "\u202e"} & {*shown}
        assert "\\$x^{\\$" in shown, "which matplotlib shows as $x^{$"
        assert len(max(shown.split("\n"), key=len)) < 200


def test_equal_pictures_are_equal_files(tracker: Tracker[Any], tmp_path: Path) -> None:
    tracker.update(realistic(30))
    tracker.plot(tmp_path / "a.svg")
    tracker.plot(tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_the_style_of_the_program_and_pyplot_are_left_alone(tracker: Tracker[Any], tmp_path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - an extra

    tracker.update(realistic(10))
    with mpl.rc_context({"figure.facecolor": "black", "text.color": "white", "font.family": ["monospace"]}):
        before = dict.copy(mpl.rcParams)  # its own `copy` would have a backend chosen
        figure = tracker.plot()
        assert dict.copy(mpl.rcParams) == before
        assert figure.get_facecolor() == (1.0, 1.0, 1.0, 1.0)
    program = (
        "import sys, tastypy; tastypy.Tracker('a.tracker').plot(); print([*sys.modules].count('matplotlib.pyplot'))"
    )
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60).stdout
    assert printed == "0\n"


def test_it_is_drawn_inside_transactions_under_hold_and_read_only(tracker: Tracker[Any], path: Path) -> None:
    tracker.update(realistic(10))
    with tracker.transaction():
        tracker.mark_done(9)
        assert "9 of 10 done" in texts_of(tracker.plot())
    with tracker.hold():
        tracker.add("more")
        assert facts_of(tracker).counts.total == 11
    with Tracker[Any](path, mode="r") as reader:
        assert facts_of(reader).counts.total == 11


# -------------------------------------------------------------------------------------------------------- what cannot be


@pytest.mark.parametrize("name", ["a.bmp", "a", "svg", ".svg", "a.svg.gz"])
def test_a_name_with_another_suffix_is_refused_before_anything_is_read(
    tracker: Tracker[Any], tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"a picture ends in \.svg, \.png or \.pdf"):
        tracker.plot(name)
    with pytest.raises(SystemExit) as caught:
        cli.main(["plot", str(tmp_path / "nothing"), "-o", name])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "a picture ends in .svg, .png or .pdf" in error


def test_what_cannot_be_written_is_an_error_and_leaves_what_was_there(tracker: Tracker[Any], tmp_path: Path) -> None:
    (tmp_path / "directory.svg").mkdir()
    for name, says in (
        ("nowhere/a.svg", "there is no directory"),
        ("directory.svg", "is a directory"),
        ("my.pod/a.svg", "is inside of a POD"),
    ):
        with pytest.raises(OSError, match=says) as caught:
            tracker.plot(tmp_path / name)
        assert name in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["directory.svg", "my.pod"]
    assert not [name for name in os.listdir(tracker.path) if name.endswith(".svg")]


def test_a_full_disk_leaves_the_picture_that_was_there(tracker: Tracker[Any], tmp_path: Path, failing_os: Any) -> None:
    file = tmp_path / "a.svg"
    file.write_text("before")
    failing_os.always["write"] = OSError(28, os.strerror(28))
    with pytest.raises(OSError, match="No space left"):
        tracker.plot(file)
    assert file.read_text() == "before"
    assert sorted(os.listdir(tmp_path)) == ["a.svg", "my.pod"]


def test_a_link_stays_a_link_and_permissions_are_those_of_the_umask(tracker: Tracker[Any], tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "a.png").symlink_to(tmp_path / "shared" / "b.png")
    before = os.umask(0o027)
    try:
        tracker.plot(tmp_path / "a.png")
    finally:
        os.umask(before)
    assert (tmp_path / "a.png").is_symlink()
    assert (tmp_path / "shared" / "b.png").stat().st_mode & 0o777 == 0o640


def test_without_matplotlib_it_says_what_to_install(
    tracker: Tracker[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tastypy\[plot\]'"):
        tracker.plot()
    assert cli.main(["plot", tracker.path, "-o", str(tmp_path / "a.svg")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "a.svg").exists()


def test_the_command_writes_the_picture_changes_nothing_else_and_says_what_it_shows(
    tracker: Tracker[Any], tmp_path: Path
) -> None:
    tracker.update(realistic(20))
    before = files(Path(tracker.path))
    command = [*TASTYPY, "plot", tracker.path, "--output", "progress.svg"]
    others = {**os.environ, "MPLBACKEND": "nonsense"}  # which says where windows are opened, and here none is
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60, env=others)
    assert (result.stdout, result.stderr) == ("progress.svg: 20 tasks, 17 done\n", "")
    assert ET.parse(tmp_path / "progress.svg").getroot().tag == f"{SVG}svg"
    assert files(Path(tracker.path)) == before


def test_what_is_no_tracker_is_said_in_one_line(
    opened: Opener, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened()["a"] = {"plain": 1}
    for place, says in ((path, "is no tracker"), (tmp_path / "nowhere", "there is no POD at")):
        assert cli.main(["plot", str(place), "-o", str(tmp_path / "a.svg")]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert says in error
    assert not (tmp_path / "a.svg").exists()


def test_an_empty_picture_says_so_and_is_one_all_the_same(tracker: Tracker[Any]) -> None:
    figure = tracker.plot()
    shown = texts_of(figure)
    assert "There are no tasks yet" in shown
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]  # as a notebook asks for it
    assert "no worker has ended a task yet" in shown
