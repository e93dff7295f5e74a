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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import FailingOS
from helpers import exactly, header_of, journal, stored
from hypothesis import given
from hypothesis import strategies as st

from tastypy import (
    POD,
    ClaimLost,
    CommitError,
    LockTimeout,
    SettingsError,
    Tracker,
    UnknownOutcomeError,
    check,
    fencing,
    lease,
    repair,
)
from tastypy import format as form
from tastypy.reading import Position

ROOT = Path(__file__).parent.parent
PROGRAMS = Path(__file__).with_name("lease_programs.py")
RIVAL = {"rival 0": 0, "rival 1": 1, "rival 2": 2}
BEFORE = {"old": 0, "count": 0, "older": 0}


@pytest.fixture
def leased(path: Path) -> Iterator[POD[Any, Any]]:
    with POD[Any, Any](path, lock="lease") as pod:
        yield pod


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


# ------------------------------------------------------------------------------------------------------------- on the disk


def test_a_torn_line_stays_and_is_void(path: Path, leased: POD[Any, Any]) -> None:
    leased["a"] = 1
    with journal(path).open("ab") as file:
        file.write(b'{"crc":"01234567","seq":2,"put":{"tor')
    leased["b"] = 2
    leased["c"] = 3
    with journal(path).open("ab") as file:
        file.write(form.batch_line(3, b'"put":{"late":true}') + form.seal_line(9, 2))
    assert b'"tor\n{' in journal(path).read_bytes()
    assert stored(path) == {"a": 1, "b": 2, "c": 3}
    script = [sys.executable, str(ROOT / "docs/examples/read_pod.py"), str(path)]
    assert subprocess.run(script, capture_output=True, text=True, check=True).stdout.split() == [
        "'a'",
        "1",
        "'b'",
        "2",
        "'c'",
        "3",
    ]
    assert check(path) == repair(path) == []
    leased.sync()
    assert stored(path) == {"a": 1, "b": 2, "c": 3}


def test_a_line_that_is_damaged_is_told_of_when_a_number_is_missing(path: Path, leased: POD[Any, Any]) -> None:
    for number in range(3):
        leased[number] = number
    lines = journal(path).read_bytes().splitlines(keepends=True)
    journal(path).write_bytes(b"".join([*lines[:2], lines[2].replace(b"1", b"7"), *lines[3:]]))
    with pytest.raises(ValueError, match=r"journal-1\.jsonl, line 3: damaged"):
        POD(path)
    assert check(path) == ["journal-1.jsonl, line 3: damaged"]
    assert "1 damaged lines set aside" in "".join(repair(path))
    assert stored(path) == {0: 0, 2: 2}
    with POD[Any, Any](path) as pod:
        pod["a"] = 1
        pod.sync()
    assert stored(path) == {0: 0, 2: 2, "a": 1}


def test_a_lock_file_that_was_written_late_is_put_right(path: Path, leased: POD[Any, Any]) -> None:
    early = (path / ".lock").read_bytes()
    for number in range(3):
        leased[number] = number
        leased.sync()
    (path / ".lock").write_bytes(early)  # of an epoch whose journal is gone
    assert stored(path) == {0: 0, 1: 1, 2: 2}
    leased["a"] = 1
    assert form.decode_lock_line((path / ".lock").read_bytes()) == header_of(path).lock_line
    (path / ".lock").write_bytes(early)
    with POD[Any, Any](path) as pod:
        pod["b"] = 1
    assert stored(path) == {0: 0, 1: 1, 2: 2, "a": 1, "b": 1}


@pytest.mark.parametrize(
    ("call", "error", "kept"), [("write", CommitError, False), ("fdatasync", UnknownOutcomeError, True)]
)
def test_what_could_not_be_written_is_not_there_and_what_was_is_told_of(
    path: Path, failing_os: FailingOS, leased: POD[Any, Any], call: str, error: type[Exception], kept: bool
) -> None:
    leased["a"] = 1
    failing_os.always[call] = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(error, match="writing failed"):
        leased.update({"b": 2}) if call == "write" else POD(path, durable=True).update({"b": 2})
    failing_os.always.clear()
    leased.refresh()
    assert ("b" in leased) == kept
    leased["c"] = 3
    assert stored(path) == {"a": 1, **({"b": 2} if kept else {}), "c": 3}


def test_a_stopped_worker_is_dead_to_others_and_knows_when_it_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "DURATION", 0.4)
    code = f"""
import os, signal
from tastypy import ClaimLost, Tracker, lease
lease.DURATION = 0.4
tracker = Tracker({str(path)!r}, lock="lease")
task = tracker.claim()
os.kill(os.getpid(), signal.SIGSTOP)
try:
    task.done()
except ClaimLost:
    print("lost", tracker.claim().key)
"""
    with Tracker[Any](path, lock="lease") as tracker:
        tracker.add_many(["a", "b"])
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        found: list[str] = []
        deadline = time.monotonic() + 20
        while len(found) < 2 and time.monotonic() < deadline:
            task = tracker.claim()
            if task is None:
                time.sleep(0.05)
                continue
            found.append(task.key)
            if task.key == "a":
                task.done()
            else:
                held = task
        assert sorted(found) == ["a", "b"], "the other one's claim is taken over"
        assert tracker.tries("a") == 2, "as of a dead worker, its try counts"
        held.release()
        os.kill(process.pid, signal.SIGCONT)
        assert process.communicate(timeout=30)[0].split() == [b"lost", b"b"]
    assert issubclass(ClaimLost, RuntimeError)


def test_a_seal_of_another_process_is_not_taken_for_the_own_one(path: Path) -> None:
    """Not either where it is shorter by the one byte that a search that fails would make up for."""
    here = Position(1, 0, 7)
    for others in (9, 10, 11, 100):
        path.write_bytes(form.seal_line(others, 8) + form.seal_line(10, 8))
        found = fencing._find(str(path), here, form.seal_line(10, 8))
        assert found == (len(form.seal_line(10, 8)) if others == 10 else None)
        path.write_bytes(form.seal_line(others, 8))
        assert (fencing._find(str(path), here, form.seal_line(10, 8)) is None) == (others != 10)


# ------------------------------------------------------------------------------------------------------------- the reading

_LINES = st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["batch", "seal", "torn", "bad"])), max_size=12)


@given(_LINES)
def test_the_first_line_of_a_number_counts(written: list[tuple[int, str]]) -> None:
    """Whoever appends, and whenever: by a model that takes line after line."""
    counting: list[dict[str, list[str]]] = []
    text, seal, missing, length = b"", 0, False, 0
    for at, (number, kind) in enumerate(written):
        if kind == "torn":
            text += b'{"crc":"00000000","seq":'
            continue
        line = form.seal_line(number + 7, number) if kind == "seal" else form.batch_line(number, b'"del":["%d"]' % at)
        begins = not text or text.endswith(b"\n")
        text += b"{" + line if kind == "bad" else line
        if kind == "bad" or not begins or seal or missing or number <= len(counting):
            continue
        if number > len(counting) + 1:
            missing = True
        elif kind == "seal":
            seal, length = number + 7, len(text)
        else:
            counting.append({"del": [str(at)]})
            length = len(text)
    lines = form.read_lines(text, 0, leased=True)
    assert (lines.records, lines.seal, lines.length, lines.seq) == (counting, seal, length, len(counting))
    assert (lines.trouble in ("damaged", "disorder")) == missing
