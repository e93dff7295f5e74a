"""`tastypy log`: what it prints, once and while others commit."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import helpers
import pytest
from cli_helpers import PATIENCE, TASTYPY, Command, environment, in_process
from helpers import append, end, hear, journal
from tracker_programs import ask, kill, start, worker_files

from tastypy import POD, Tracker
from tastypy import format as form
from tastypy.chronicle import _Teller
from tastypy.entries import FRESH
from tastypy.history import History


@pytest.fixture
def tastypy(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, in this process."""
    return in_process(capsys)


def follow(path: Path, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start `tastypy log --follow`."""
    command = [*TASTYPY, "log", str(path), "--follow", "--interval", "0.02", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), **options)
    helpers._started.append(process)
    return process


def test_it_prints_a_line_a_batch_the_last_ten_of_them(path: Path, tastypy: Command) -> None:
    with POD[Any, Any](path) as pod:
        pod.update({"foo": 1, 2: {}})
        pod.move_to_end("foo", last=False)
        with pod.transaction():
            del pod[2]
            pod["new\nline"] = 1
        pod.clear()
        lines = [
            "1  -  put foo, #2",
            "2  -  moved foo to the front",
            "3  -  deleted #2; put new\\nline",
            "4  -  cleared",
        ]
        assert tastypy("log", path) == (0, "".join(f"{line}\n" for line in lines), "")
        for number in range(20):
            pod[number] = number
        assert tastypy("log", path).out.splitlines() == [f"{number + 5}  -  put #{number}" for number in range(10, 20)]
        assert tastypy("log", path, "-n", "1").out == "24  -  put #19\n"
        assert tastypy("log", path, "-n", "0").out == ""
        assert len(tastypy("log", path, "--lines", "9" * 30).out.splitlines()) == 24


@pytest.mark.parametrize("at", [1e12, 1e300, -1e15, 253402300800])
def test_a_time_that_no_calendar_has_is_not_known(path: Path, tastypy: Command, at: float) -> None:
    with POD[str, Any](path) as pod:
        pod["a"] = {**FRESH, "_done": True, "_at": at}
        assert tastypy("log", path) == (0, "1  -  done a\n", "")
        assert json.loads(tastypy("log", path, "--json").out)["time"] == at


@pytest.mark.parametrize(
    ("worker", "pid"), [("h:12", 12), ("h:" + "9" * 23, None), ("h:" + "9" * 5000, None), ("h:²", None), ("h:٣", None)]
)
def test_a_process_that_no_host_has_is_not_known(path: Path, tastypy: Command, worker: str, pid: int | None) -> None:
    with POD[str, Any](path) as pod:
        pod["a"] = {**FRESH, "_done": True, "_worker": worker}
        (change,) = json.loads(tastypy("log", path, "--json").out)["changes"]
        assert change["worker"] == {"name": None, "host": "h", "pid": pid}
        assert tastypy("log", path).out == f"1  -  done a by h:{pid}\n"


def test_ctrl_c_before_the_first_line_ends_it_as_later(
    path: Path, tastypy: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: History) -> list[Any]:
        raise KeyboardInterrupt

    POD[str, int](path).close()
    monkeypatch.setattr(History, "new", interrupted)
    assert tastypy("log", path, "--follow") == (0, "", "")
    assert tastypy("log", path) == (130, "", "")


def test_of_a_tracker_it_tells_who_did_what_and_when(path: Path, tastypy: Command) -> None:
    with Tracker[str](path) as tracker:
        tracker.add_many(["a", "b"])
        tracker.sync()
        worker = start("obey", path)
        assert ask(worker, "claim") == "a"
        assert ask(worker, "fail") == "failed"
        who = rf"{re.escape(os.uname().nodename)}:{worker.pid}"
        when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
        claimed, failed = tastypy("log", path, "-n", "2").out.splitlines()
        assert re.fullmatch(rf"2  {when}  claimed a by {who}", claimed)
        assert re.fullmatch(rf"3  {when}  failed a by {who}: .*", failed)
        one = json.loads(tastypy("log", path, "-n", "1", "--json").out)
        assert [*one] == ["batch", "time", "changes"]
        assert abs(one["time"] - time.time()) < 60
        (change,) = one["changes"]
        assert {name: change[name] for name in ("what", "keys")} == {"what": "failed", "keys": ["a"]}
        assert (change["error"], change["worker"]["pid"]) == (tracker.refresh() and tracker["a"]["_error"], worker.pid)
        assert ask(worker, "claim") == "b"
        assert ask(worker, "done") == "done"
        assert ask(worker, "claim") == "a"
        kill(worker)
        for file in worker_files(path):  # as the next worker does
            file.unlink()
        # what it had done tells who it was
        lines = tastypy("log", path, "-n", "3").out.splitlines()
        for line, expected in zip(
            lines,
            (rf"4  {when}  claimed b by {who}", rf"5  {when}  done b by {who}", rf"6  {when}  claimed a by {who}"),
            strict=True,
        ):
            assert re.fullmatch(expected, line)


def test_a_worker_of_which_nothing_is_known_has_its_name(path: Path, tastypy: Command) -> None:
    with Tracker[str](path) as tracker:
        tracker.add("a")
        worker = start("obey", path)
        assert ask(worker, "claim") == "a"
        kill(worker)
        (file,) = worker_files(path)
        name = file.stem.partition("-")[2]
        assert tastypy("log", path).out.splitlines()[1].endswith(f"claimed a by {os.uname().nodename}:{worker.pid}")
        file.unlink()
        assert tastypy("log", path).out.splitlines()[1].endswith(f"claimed a by worker {name[:8]}")
        (change,) = json.loads(tastypy("log", path, "--json").out.splitlines()[1])["changes"]
        assert change["worker"] == {"name": name, "host": None, "pid": None}


def test_it_follows_over_folds_and_from_the_begin_of_the_journal(path: Path) -> None:
    with POD[str, int](path) as pod:
        pod["before"] = 1
        process = follow(path, "--json", "-n", "1")
        begin = time.time()
        assert json.loads(hear(process))["changes"][0]["keys"] == ["before"]
        for number in range(4):
            pod[f"{number}"] = number
            line = json.loads(hear(process))
            assert (line["batch"], line["changes"]) == (
                number + 2, [{"what": "put", "keys": [f"{number}"], "worker": None, "error": ""}],
            )  # fmt: skip
            assert begin - 1 < line["time"] < time.time() + 1
            pod.sync()
        process.send_signal(signal.SIGINT)
        assert end(process) == 0


def test_who_a_worker_is_stays_known_to_who_follows(path: Path) -> None:
    with Tracker[str](path) as tracker:
        tracker.add("a")
        process = follow(path)
        assert hear(process) == "1  -  added a"
        worker = start("obey", path)
        assert ask(worker, "claim") == "a"
        assert f":{worker.pid}" in hear(process)
        assert ask(worker, "done") == "done"
        assert end(worker) == 0
        assert f" done a by {os.uname().nodename}:{worker.pid}" in hear(process)


def test_what_is_missed_or_revoked_is_said(path: Path) -> None:
    with POD[str, int](path) as pod:
        pod["a"] = 1
        process, as_json = follow(path), follow(path, "--json")
        assert (hear(process), json.loads(hear(as_json))["batch"]) == ("1  -  put a", 1)
        size = journal(path).stat().st_size
        append(journal(path), form.batch_line(2, b'"put":{"b":1}'))
        assert hear(process).endswith("  put b")
        assert json.loads(hear(as_json))["batch"] == 2
        os.truncate(journal(path), size)
        assert hear(process) == "-- batch 2 was taken back: its commit had failed"
        assert hear(as_json) == '{"revoked":2}'
        for one in (process, as_json):
            one.send_signal(signal.SIGSTOP)
        for number in range(5):
            pod[f"{number}"] = number
            pod.sync()
        for one in (process, as_json):
            one.send_signal(signal.SIGCONT)
        assert hear(process).startswith("2  ")
        assert hear(process) == "-- batches 3 to 5 were folded into the shards before they could be read"
        assert [json.loads(hear(as_json)) for _ in range(2)][1] == {"missing": [3, 5]}
        assert json.loads(hear(as_json))["batch"] == 6


def test_what_happened_in_missing_batches_is_not_told_later(path: Path) -> None:
    with Tracker[str](path) as tracker, History(str(path)) as history:
        teller = _Teller(history, as_json=False)
        tracker.add_many(["a", "b"])
        assert [teller.line(teller.hear(event)) for event in history.new()] == ["1  -  added a, b"]
        tracker.sync()
        for number in range(4):
            tracker.mark_done("a")
            tracker.update(b={"number": number})
            tracker.sync()
        tracker.update(a={"x": 1})
        lines = [teller.line(teller.hear(event)) for event in history.new()]
        assert [line for line in lines if line.startswith("--")]
        assert (lines[-1], [line for line in lines if "done" in line]) == ("7  -  changed a", [])


def test_a_directory_that_goes_ends_it_with_one_line(path: Path, tmp_path: Path) -> None:
    POD[str, int](path)["a"] = 1
    process = follow(path, stderr=subprocess.PIPE)
    assert hear(process)
    path.rename(tmp_path / "elsewhere")
    _, told = process.communicate(timeout=PATIENCE)
    assert (process.returncode, told.count(b"\n"), str(path).encode() in told) == (2, 1, True)


def test_where_nothing_is_one_line_says_so(path: Path, tastypy: Command) -> None:
    assert tastypy("log", path) == (2, "", f"tastypy: there is no POD at {path}\n")
    POD[str, int](path).close()
    assert tastypy("log", path) == (0, "", "")
    for option in (["-n", "-1"], ["-n", "x"], ["--interval", "0"], ["--interval", "soon"]):
        code, out, told = tastypy("log", path, *option)
        assert (code, out, told.count("\n")) == (2, "", 1)
