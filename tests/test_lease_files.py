"""What is in the files of a directory whose lock is a lease: lines that came late, or are torn, and what counts of them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from faults import FailingOS
from helpers import header_of, journal, stored
from hypothesis import given
from hypothesis import strategies as st

from tastypy import (
    POD,
    ClaimLost,
    CommitError,
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
