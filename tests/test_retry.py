"""`tastypy retry`: which tasks are open again, what is left alone, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import batches, end, files, stored
from tracker_programs import ask, kill, start, worker_files

from tastypy import POD, Tracker, UnstorableValueError, cli
from tastypy.values import key_of

FRESH = {"_done": False, "_aborted": False, "_tries": 0}

TASKS: dict[Any, dict[str, Any]] = {
    "done": {"_done": True, "_tries": 1, "result": 3},
    "aborted": {"_aborted": True, "_tries": 2, "_error": "ValueError: no"},
    "done and aborted": {"_done": True, "_aborted": True},
    "failed": {"_tries": 1, "_error": "ValueError: no", "depth": 7},
    "failed at its start": {"_error": "ValueError: no"},
    "given up": {"_tries": 3},
    "open": {"depth": 1},
}


@pytest.fixture
def full(path: Path) -> Path:
    """A tracker with a task in each state but claimed."""
    with Tracker[Any](path) as tracker:
        tracker.update(TASKS)
    return path


Retry = Callable[..., tuple[int, str, str]]


@pytest.fixture
def retry(path: Path, capsys: pytest.CaptureFixture[str]) -> Retry:
    """Calls the command; its exit code, and what it printed."""

    def retry(*arguments: str) -> tuple[int, str, str]:
        try:
            code = cli.main(["retry", str(path), *arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return retry


def changed(path: Path) -> set[Any]:
    """The tasks that are not as `full` made them; they are open, and have nothing but what was stored with them."""
    entries = stored(path)
    found = set()
    for key, fields in TASKS.items():
        if entries[key] != {**FRESH, **fields}:
            own = {name: value for name, value in fields.items() if name[0] != "_"}
            assert entries[key].pop("_at") > 1e9
            assert entries[key] == {**FRESH, **own}
            found.add(key)
    return found


# -------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "opened"),
    [
        (["--failed"], {"failed", "failed at its start", "given up"}),
        (["--aborted"], {"aborted"}),
        (["--aborted", "--failed"], {"aborted", "failed", "failed at its start", "given up"}),
        (["--aborted", "failed"], {"aborted", "failed"}),
        (["failed", "--failed", "done"], {"failed", "failed at its start", "given up", "done"}),
    ],
)
def test_an_option_opens_all_of_a_kind(full: Path, retry: Retry, options: list[str], opened: set[str]) -> None:
    number = f"{len(opened)} tasks are" if len(opened) > 1 else "1 task is"
    assert retry(*options) == (0, f"{number} open again\n", "")
    assert changed(full) == opened
    assert list(stored(full)) == list(TASKS), "in their order"


def test_it_is_one_commit(full: Path, retry: Retry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tastypy.store.Store.fold", lambda _: None)  # which a close does, and would begin a new journal
    before = batches(full)
    assert retry("--failed", "--aborted", "done")[0] == 0
    (batch,) = batches(full)[len(before) :]
    assert set(batch["put"]) == {"aborted", "failed", "failed at its start", "given up", "done"}


def test_what_was_opened_is_claimed_by_a_worker_that_waits(path: Path, retry: Retry) -> None:
    with Tracker[str](path, max_tries=1) as tracker:
        tracker.add("a")
    worker = start("obey", path, 1)
    assert [ask(worker, word) for word in ("claim", "fail", "claim")] == ["a", "failed", "None"]
    assert retry("--failed") == (0, "1 task is open again\n", "")
    assert ask(worker, "claim") == "a"
    assert ask(worker, "done") == "done"
    assert end(worker) == 0
    assert stored(path)["a"]["_tries"] == 1


# ----------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize("key", [key for key in TASKS if key != "open"])
def test_a_key_is_opened_whatever_its_state_is(full: Path, retry: Retry, key: str) -> None:
    assert retry(key) == (0, "1 task is open again\n", "")
    assert changed(full) == {key}


def test_what_is_open_anyway_is_left_as_it_is(full: Path, retry: Retry) -> None:
    before = files(full)
    assert retry("open") == (0, "open: is open, and was not tried\n0 tasks are open again\n", "")
    assert files(full) == before


def test_a_key_is_spelled_as_in_the_files(path: Path, retry: Retry) -> None:
    keys = [1, 2.5, None, ("a", 1), ("a", ("b", None)), "#x", "-d", "--failed", "naïve ☃", "", "a b\nc", "1"]
    with Tracker[Any](path) as tracker:
        tracker.update({key: {"_done": True} for key in keys})
    names = ["#1", "#2.5", "#null", '#["a",1]', '#["a", ["b", null]]', '#"#x"', "naïve ☃", "", "a b\nc", "1"]
    assert retry(*names, "--", "-d", "--failed") == (0, "12 tasks are open again\n", "")
    assert {entry["_done"] for entry in stored(path).values()} == {False}
    assert len(stored(path)) == 12


@pytest.mark.parametrize("name", ["#", "#x", "#[1", '#"a', "#tru"])
def test_a_key_that_is_not_json_is_refused(full: Path, retry: Retry, name: str) -> None:
    code, out, told = retry("failed", name)
    assert (code, out, told.count("\n"), repr(name) in told) == (2, "", 1, True)
    assert changed(full) == set()


def test_json_that_is_no_key_is_refused() -> None:
    with pytest.raises(UnstorableValueError, match="no key"):
        key_of('#{"a":1}')
    with pytest.raises(UnstorableValueError, match="lone surrogate"):
        key_of("caf\udce9")


def test_an_unknown_key_is_named_and_nothing_is_changed(full: Path, retry: Retry) -> None:
    before = files(full)
    assert retry("failed", "nope", "#1", "--aborted") == (
        1, "nope: there is no such task\n#1: there is no such task\nnothing was changed\n", "",
    )  # fmt: skip
    assert files(full) == before


# --------------------------------------------------------------------------------------------------------------- claims


def test_what_a_live_worker_has_is_left_alone(path: Path, retry: Retry) -> None:
    with Tracker[str](path) as tracker:
        tracker.add("a", _error="ValueError: no")
        tracker["done"] = {"_done": True}
    worker = start("obey", path)
    assert ask(worker, "claim") == "a"
    before = stored(path)["a"]
    assert retry("a", "done") == (1, "a: left alone, a live worker has it\n1 task is open again\n", "")
    assert retry("--failed", "--aborted") == (0, "0 tasks are open again\n", "")
    assert stored(path)["a"] == before
    assert stored(path)["done"]["_done"] is False
    assert ask(worker, "done") == "done"
    assert stored(path)["a"]["_done"] is True


@pytest.mark.parametrize("gone", [False, True])
def test_the_claim_of_a_dead_worker_is_released_for_a_key(path: Path, retry: Retry, gone: bool) -> None:
    with Tracker[str](path) as tracker:
        tracker.add_many(["a", "b"])
    worker = start("obey", path)
    assert [ask(worker, word) for word in ("loop_over 2", "step")] == ["begun", "a"]
    kill(worker)
    if gone:
        (file,) = worker_files(path)
        file.unlink()
    assert retry("--failed") == (0, "0 tasks are open again\n", "")
    assert retry("a") == (0, "1 task is open again\n", "")
    entries = stored(path)
    assert {name: entries["a"][name] for name in entries["a"] if name != "_at"} == FRESH
    assert "_claim" in entries["b"]
    with Tracker[str](path) as tracker:
        for task in tracker.claims():
            task.done()
        assert tracker.num_done() == 2
        assert (tracker.tries("a"), tracker.tries("b")) == (1, 1)


# ------------------------------------------------------------------------------------------------------------- refusals


def test_it_must_be_said_which_tasks(full: Path, retry: Retry) -> None:
    code, out, told = retry()
    assert (code, out, told.count("\n"), "--failed, --aborted or KEYs" in told) == (2, "", 1, True)
    assert changed(full) == set()


def test_an_unknown_option_is_refused(full: Path, retry: Retry) -> None:
    code, out, told = retry("failed", "--everything")
    assert (code, out, told.count("\n"), "--everything" in told) == (2, "", 1, True)
    assert changed(full) == set()


@pytest.mark.parametrize("arguments", [["--failed"], ["--aborted"], ["a"], ["nope"]])
@pytest.mark.parametrize("value", [{"depth": 1}, 3])
def test_a_plain_pod_is_not_made_a_tracker(path: Path, retry: Retry, arguments: list[str], value: Any) -> None:
    with POD[str, Any](path) as pod:
        pod["a"] = value
    before = files(path)
    code, out, told = retry(*arguments)
    assert (code, out, told.count("\n"), f"{path} is " in told, "tracker" in told) == (2, "", 1, True, True)
    assert files(path) == before


def test_where_nothing_is_nothing_is_made(path: Path, retry: Retry) -> None:
    code, out, told = retry("a")
    assert (code, out, told.count("\n"), "there is no POD at" in told) == (2, "", 1, True)
    assert not path.exists()


def test_an_empty_tracker_has_no_such_task(path: Path, retry: Retry) -> None:
    Tracker[str](path).close()
    assert retry("a") == (1, "a: there is no such task\nnothing was changed\n", "")
    assert retry("--failed") == (0, "0 tasks are open again\n", "")


def test_the_keys_that_status_prints_are_those_that_retry_takes(path: Path) -> None:
    """As a shell would hand them over."""
    with Tracker[Any](path) as tracker:
        tracker.update({key: {"_error": f"ValueError: {key}"} for key in (1, ("a", 'b"c'), "#x", "y\nz")})
    command = [sys.executable, "-m", "tastypy"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    status = subprocess.run([*command, "status", str(path), "--json"], check=True, capture_output=True, env=environment)
    keys = [error["key"] for error in json.loads(status.stdout)["errors"]]
    again = subprocess.run([*command, "retry", str(path), *keys], check=True, capture_output=True, env=environment)
    assert again.stdout == b"4 tasks are open again\n"
