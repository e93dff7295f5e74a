"""`lock="lease"`: the lock is a marker that its holder renews, and who is stopped for too long finds out before anything is acknowledged."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from faults import FailingOS
from helpers import exactly, header_of, stored

from tastypy import (
    POD,
    LockTimeout,
    SettingsError,
    Tracker,
    check,
    lease,
    repair,
)
from tastypy import format as form

PROGRAMS = Path(__file__).with_name("lease_programs.py")
RIVAL = {"rival 0": 0, "rival 1": 1, "rival 2": 2}
BEFORE = {"old": 0, "count": 0, "older": 0}


def names(path: str | Path) -> set[str]:
    return {file.name for file in Path(path).iterdir()}


# ------------------------------------------------------------------------------------------------------- processes stopped


def paused(action: str, folds: int, place: Path) -> list[dict[str, Any]]:
    """What became of an action that was stopped before each of its system calls, while another process went on."""
    command = [sys.executable, str(PROGRAMS), action, str(folds), str(place)]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=120, check=True)
    answer = json.loads(ended.stdout)
    assert answer["wrong"] == []
    found: list[dict[str, Any]] = answer["found"]
    assert len(found) > 25, "it has fewer calls than an assignment"
    assert found[-1]["call"] == "", "the last one was not stopped"
    assert [one for one in found if one["problems"]] == []
    return found


def _writes(found: list[dict[str, Any]]) -> int:
    """How many were stopped before they had written their line, or just then."""
    return [one["call"] for one in found].index("write") + 1


@pytest.mark.parametrize(("action", "folds"), [("assign", 0), ("assign", 3), ("delete", 1)])
def test_a_change_that_is_stopped_anywhere_is_made_all_the_same_and_no_other_is_lost(
    path: Path, action: str, folds: int
) -> None:
    found = paused(action, folds, path)
    for at, one in enumerate(found, 1):
        assert one["outcome"] == "done"
        if action == "delete":
            assert one["entries"] == {"count": 0, "older": 0, **RIVAL, "after": at}
        else:
            mine = {"mine": 1}
            entries = {**BEFORE, **RIVAL, **mine} if at <= _writes(found) else {**BEFORE, **mine, **RIVAL}
            order = [key for key in one["entries"] if key != "after"]
            assert one["entries"] == {**entries, "after": at}
            assert order == [*entries], "whoever wrote first is first"


def test_a_transaction_that_was_too_late_says_so_and_has_changed_nothing(path: Path) -> None:
    found = paused("count", 1, path)
    for at, one in enumerate(found, 1):
        late = at <= _writes(found)
        assert one["outcome"] == ("LeaseLostError" if late else "done")
        assert one["entries"] == {**BEFORE, "count": 3 if late else 4, **RIVAL, "after": at}


def test_a_fold_that_is_stopped_anywhere_loses_nothing(path: Path) -> None:
    found = paused("hold", 3, path)
    assert len(found) > 70
    for at, one in enumerate(found, 1):
        assert one["outcome"] == "done"
        assert one["entries"] == {**BEFORE, "mine": 1, **RIVAL, "after": at}


def test_two_that_create_it_agree_on_one(path: Path) -> None:
    for at, one in enumerate(paused("create", 1, path), 1):
        assert (one["outcome"], one["entries"]) == ("done", {**RIVAL, "after": at})


def test_a_worker_that_is_stopped_anywhere_loses_its_claim_or_has_it_alone(path: Path) -> None:
    for one in paused("claim", 1, path):
        assert one["outcome"] == "done"
        by = [entry.get("by") for entry in one["entries"].values() if entry["_done"]]
        assert sorted(by) in (["rival"] * 3, ["mine", *["rival"] * 3])
        assert [entry["_tries"] for entry in one["entries"].values() if entry["_done"]] == [1] * len(by)


# ------------------------------------------------------------------------------------------------------------ day by day


def test_it_is_stored_and_found_again(path: Path, leased: POD[Any, Any]) -> None:
    leased["a"] = 1
    assert names(path) == {".lock", "journal-1.jsonl"}, "no marker stays after a commit"
    assert header_of(path).lock == "lease"
    with POD[Any, Any](path) as other:
        other["b"] = 2
        with other.transaction():
            assert ".lease" in names(path)
    leased.refresh()
    assert exactly(leased) == exactly(stored(path)) == exactly({"a": 1, "b": 2})
    assert check(path) == repair(path) == []


def test_the_two_kinds_are_not_mixed(path: Path, leased: POD[Any, Any]) -> None:
    with pytest.raises(SettingsError, match="created with lock='lease', not 'flock': leave lock out"):
        POD(path, lock="flock")
    with POD[Any, Any](path / "other") as pod, pytest.raises(SettingsError, match="lock='flock', not 'lease'"):
        POD(pod.path, lock="lease")
    (path / ".lock").write_bytes(b"nonsense")
    with POD[Any, Any](path) as pod:
        pod["a"] = 1
        assert form.decode_lock_line((path / ".lock").read_bytes()) == header_of(path).lock_line
        assert pod._store.lock.leased


@pytest.mark.parametrize("lock", ["LEASE", "", True, 1, b"lease"])
def test_nothing_else_is_a_lock(path: Path, lock: Any) -> None:
    with pytest.raises(ValueError, match='lock must be "flock" or "lease", not'):
        POD(path, lock=lock)
    assert not path.exists()


def test_who_has_to_wait_too_long_is_told_who_has_it(path: Path, leased: POD[Any, Any]) -> None:
    with leased.transaction():
        other = subprocess.run(
            [sys.executable, "-c", f"from tastypy import POD; POD({str(path)!r}, timeout=0.3)['a'] = 1"],
            stderr=subprocess.PIPE,
            check=False,
        )
    assert b"LockTimeout" in other.stderr
    assert f"process {os.getpid()} on {os.uname().nodename}".encode() in other.stderr
    assert issubclass(LockTimeout, TimeoutError)


def test_a_killed_holder_is_followed_at_once(path: Path, leased: POD[Any, Any]) -> None:
    code = (
        f"import os, signal\nfrom tastypy import POD\npod = POD({str(path)!r})\nwith pod.transaction():\n"
        "    pod['lost'] = 1\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert ".lease" in names(path)
    start = time.monotonic()
    leased["a"] = 1
    assert time.monotonic() - start < lease.DURATION / 2
    assert stored(path) == {"a": 1}


def test_a_marker_of_one_that_was_killed_before_it_wrote_it_is_removed(
    path: Path, leased: POD[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_UNWRITTEN", 0.3)
    (path / ".lease").touch()
    start = time.monotonic()
    leased["a"] = 1
    assert 0.3 < time.monotonic() - start < lease.DURATION / 2
    assert ".lease" not in names(path)


def test_a_forked_child_has_a_lease_of_its_own(path: Path) -> None:
    code = f"""
import os
from tastypy import POD
pod = POD({str(path)!r}, lock="lease")
for number in range(20):
    with pod.transaction():
        child = os.fork()
        if child:
            pod[number] = "parent"
    if not child:
        pod[number, "child"] = "child"
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
    assert len(stored(path)) == 40


def test_a_ctrl_c_at_any_moment_leaves_no_marker(path: Path, failing_os: FailingOS, leased: POD[Any, Any]) -> None:
    leased["a"] = 0
    reached, done = 0, False
    while not done:
        reached += 1
        failing_os.arm(reached, KeyboardInterrupt)
        try:
            leased["a"] = reached
            done = True
        except KeyboardInterrupt:
            pass
        failing_os.disarm()
        leased.refresh()  # which waits for what the keeper has to do
        assert ".lease" not in names(path)
    assert reached > 10
    assert stored(path) == {"a": reached}


@pytest.mark.skipif(lease._NONE_AT_EXIT, reason="this Python starts no threads at exit, and opening the POD says so")
def test_what_is_held_is_written_at_exit(path: Path) -> None:
    code = f"""
from tastypy import POD
first = POD({str(path) + "-flock"!r})
pod = POD({str(path)!r}, lock="lease")
pod["a"] = 1
pod.hold()
pod["b"] = 2
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
    assert stored(path) == {"a": 1, "b": 2}
    assert ".lease" not in names(path)


def test_a_python_without_threads_at_exit_is_named_when_the_pod_is_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lease, "_NONE_AT_EXIT", True)
    POD[Any, Any](path, lock="lease").close()
    (message,) = caplog.messages
    assert f"{path} has leases" in message
    assert f"Python {sys.version.split()[0]} starts none at its exit: close it before" in message


def test_threads_take_turns(path: Path, leased: POD[Any, Any]) -> None:
    def count() -> None:
        for _ in range(20):
            leased.incr("n")

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert stored(path) == {"n": 60}


def test_a_lock_that_is_dropped_leaves_no_thread(path: Path) -> None:
    before = threading.active_count()
    for number in range(5):
        with Tracker[Any](path, lock="lease") as tracker:
            tracker.add(number)
            for task in tracker.claims():
                task.done()
            del task
    deadline = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_processes_count_together(path: Path) -> None:
    code = f"from tastypy import POD\npod = POD({str(path)!r}, lock='lease')\nfor _ in range(40): pod.incr('n')"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [one.wait(60) for one in running] == [0] * 4
    assert stored(path) == {"n": 160}


def test_it_needs_no_flock_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    for module in ("lock", "workers"):
        monkeypatch.setattr(f"tastypy.{module}.lock_descriptor", refuse)
    monkeypatch.setattr("tastypy.lock.flock", refuse)
    monkeypatch.setattr("tastypy.workers.fcntl.flock", refuse)
    with pytest.raises(OSError, match='make it with lock="lease"'):
        POD(path)
    with Tracker[Any](path, lock="lease") as tracker:
        tracker.add_many(range(3))
        for task in tracker.claims():
            with task:
                task["n"] = task.key
        assert tracker.percent_done() == "100.00 %"
        assert [name for name in names(path) if name.endswith(".lease")], "a worker has one of its own"
    assert not [name for name in names(path) if name.endswith(".lease")]


def test_what_dead_workers_left_is_removed_by_the_next_one(path: Path) -> None:
    code = f"""
import os, signal
from tastypy import Tracker
Tracker({str(path)!r}, lock="lease").claim()
os.kill(os.getpid(), signal.SIGKILL)
"""
    with Tracker[Any](path, lock="lease") as tracker:
        tracker.add_many(range(3))
        for _ in range(2):
            assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
        for file in path.glob("worker-*.jsonl"):
            file.unlink()
        (path / f"worker-{'0' * 16}.lease").touch()
        assert len(list(path.glob("worker-*"))) >= 2
        for task in tracker.claims():
            task.done()
        assert len(list(path.glob("worker-*"))) == 2, "its own"
    assert not list(path.glob("worker-*"))
    assert stored(path).keys() == {0, 1, 2}
