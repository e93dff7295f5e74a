"""`tastypy status` and `watch`: what they print and exit with, on a pipe and on a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import helpers
import pytest
from helpers import PATIENCE, end, files, hear, in_child
from tracker_programs import ask, start

from tastypy import POD, Tracker, cli, show
from tastypy.run import _marked
from tastypy.status import Monitor, Status, opened

TASTYPY = [sys.executable, "-m", "tastypy"]


def look(path: Path) -> Status:
    with opened(str(path)) as reader:
        return Monitor(reader).look()


def entry(**fields: Any) -> dict[str, Any]:
    return {f"_{name}": value for name, value in fields.items()}


# ------------------------------------------------------------------------------------------------------------------ once


def test_it_needs_no_permission_to_write_and_leaves_the_directory_as_it_is(public_directory: Path) -> None:
    path = public_directory / "my.tracker"
    with Tracker[str](path) as tracker:
        tracker.add_many([*"abc"])
        worker = start("obey", path)
        assert ask(worker, "claim") == "a"
        path.chmod(0o555)
        before = files(path)

        def body() -> None:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            for arguments in ([], ["--json"], ["--max-tries", "3"]):
                assert cli.main(["status", str(path), *arguments]) == 0

        def without_the_file() -> None:
            body()
            status = look(path)
            assert ([one.host for one in status.workers], status.dead) == ([None], []), "who cannot be asked is alive"

        assert in_child(body) == 0
        if os.geteuid() == 0:
            (path / f"worker-{look(path).workers[0].name}.jsonl").chmod(0o600)
            assert in_child(without_the_file) == 0
        assert files(path) == before
        path.chmod(0o755)
        assert ask(worker, "done") == "done"


def test_json_has_all_of_it_and_keys_as_in_files(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Tracker[Any](path, max_tries=2) as tracker, _marked(tracker):
        tracker.add_many([("a", 1), "#x", "y"])
        tracker[1] = entry(tries=1, error="ValueError: no\nnone at all", at=5.0)
        loop = tracker.claims(batch=3)
        next(loop)
        assert cli.main(["status", str(path), "--json"]) == 0
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    status = json.loads(text)
    documented = "path time counts max_tries rate seconds_left workers runs dead errors"
    assert " ".join(status) == documented
    assert status["path"] == str(path)
    assert status["counts"] == {
        "total": 4,
        "done": 0,
        "aborted": 0,
        "claimed": 3,
        "given_up": 0,
        "failed": 1,
        "open": 0,
    }
    (worker,), (run,), (error,) = status["workers"], status["runs"], status["errors"]
    assert (worker["pid"], run["pid"], "tasks" in run) == (os.getpid(), os.getpid(), False)
    assert [held["key"] for held in worker["tasks"]] == ['#["a",1]', '#"#x"', "y"]
    assert [held["in_hand"] for held in worker["tasks"]] == [True, False, False]
    assert {key: error[key] for key in ("text", "count", "key")} == {
        "text": "ValueError: no\nnone at all", "count": 1, "key": "#1",
    }  # fmt: skip
    with pytest.raises(SystemExit):
        cli.main(["status", "--help"])
    told = capsys.readouterr().out
    for word in documented.split():
        assert word in told


def test_what_is_no_tracker_gets_one_line_and_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    POD[str, Any](tmp_path / "numbers")["a"] = 3
    POD[str, Any](tmp_path / "dicts")["a"] = {"depth": 1}
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    before = files(tmp_path / "dicts")
    for name, what in {
        "numbers": "is not a tracker",
        "dicts": "is no tracker",
        "file": "file",
        "folder": "there is no POD at",
        "nothing": "there is no POD at",
    }.items():
        for arguments in (["status"], ["status", "--json"], ["watch"]) if name == "dicts" else (["status"],):
            assert cli.main([*arguments, str(tmp_path / name)]) == 2
            told = capsys.readouterr()
            assert told.out == ""
            assert (told.err.count("\n"), what in told.err, str(tmp_path / name) in told.err) == (1, True, True)
    assert files(tmp_path / "dicts") == before
    assert not (tmp_path / "nothing").exists()


# --------------------------------------------------------------------------------------------------- again and again


def watch(path: Path, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start `tastypy watch`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    options = {"stdout": subprocess.PIPE, "env": environment, **options}
    command = [*TASTYPY, "watch", str(path), *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, **options)
    helpers._started.append(process)
    return process


def test_on_a_pipe_it_prints_an_object_each_time_until_ctrl_c(path: Path) -> None:
    with Tracker[str](path) as tracker:
        tracker.add_many(["a", "b"])
        process = watch(path, "--json", "--interval", "0.01")
        assert json.loads(hear(process))["counts"]["done"] == 0
        tracker.mark_done("a")
        while (status := json.loads(hear(process)))["counts"]["done"] == 0:
            pass
        assert status["counts"]["open"] == 1
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert all(json.loads(line)["counts"]["open"] == 1 for line in rest.splitlines())


def test_on_a_pipe_it_prints_pages_with_a_line_between_them(path: Path) -> None:
    Tracker[str](path).close()
    process = watch(path, "--interval", "0.01", env={**os.environ, "COLUMNS": "500"})  # the path has to fit
    lines = [hear(process) for _ in range(9)]
    page = [str(path), lines[1], "0 open, 0 claimed, 0 failed", "there are no tasks yet"]
    assert lines == [*page, "", *page]
    assert re.fullmatch(r"\[\.+\] 0\.0 %, 0 of 0 done", page[1])
    process.send_signal(signal.SIGINT)
    assert end(process) == 0


def test_what_it_prints_is_there_at_once(path: Path) -> None:
    Tracker[str](path).close()
    process = watch(path, "--json", "--interval", "3600")
    assert json.loads(hear(process, patience=10))["path"] == str(path)
    process.send_signal(signal.SIGINT)
    assert end(process) == 0


def test_it_waits_for_the_interval(path: Path) -> None:
    Tracker[str](path).close()
    process = watch(path, "--json", "--interval", "0.3")
    times = []
    for _ in range(5):
        times.append(json.loads(hear(process))["time"])
        process.send_signal(signal.SIGWINCH)  # which is nothing to a pipe
    assert 0.3 <= min(after - before for before, after in pairwise(times)) < 0.9
    process.send_signal(signal.SIGINT)
    assert end(process) == 0


def test_ctrl_c_during_a_look_ends_it_too_and_no_signal_stays_blocked(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Tracker[str](path).close()
    looks = iter([Monitor.look])

    def look(self: Monitor) -> Status:
        for real in looks:
            return real(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Monitor, "look", look)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert cli.main(["watch", str(path), "--json", "--interval", "0.01"]) == 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked
    assert capsys.readouterr().out.count("\n") == 1
    assert cli.main(["status", str(path)]) == 130


def test_a_ctrl_c_just_before_a_wait_is_noticed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that has not begun is not ended by it, so none is long."""
    waits = []

    def wait(_: object, seconds: float) -> object:
        waits.append(seconds)
        return None if len(waits) < 3 else "a signal"

    monkeypatch.setattr("tastypy.show.signal.sigtimedwait", wait)
    assert show._disturbed_within(3600, set())
    assert len(waits) == 3
    assert max(waits) < 0.5


def test_a_tracker_that_is_removed_ends_it(path: Path, tmp_path: Path) -> None:
    Tracker[str](path).close()
    process = watch(path, "--json", "--interval", "0.01", stderr=subprocess.PIPE)
    assert hear(process)
    path.rename(tmp_path / "elsewhere")
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert (told.count(b"\n"), told.startswith(f"tastypy: {path}".encode())) == (1, True)


@pytest.mark.parametrize(
    "arguments", [["--interval", "0"], ["--interval", "nan"], ["--interval", "1e9"], ["--max-tries", "-1"]]
)
def test_numbers_that_make_no_sense_are_refused(path: Path, arguments: list[str]) -> None:
    Tracker[str](path).close()
    with pytest.raises(SystemExit) as refused:
        cli.main(["watch", str(path), *arguments])
    assert refused.value.code == 2
