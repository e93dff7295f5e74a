"""Faults that a review found in recovering, repairing, and in what two processes do about one directory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Opener, append, files, journal, signed, stored

import tastypy
from tastypy import POD, IncoherentFileSystemError, PersistentOrderedDictIntegrityError
from tastypy import format as form


def test_the_line_in_lock_is_not_written_over_another_one_where_the_lock_was_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first commit of a process in the first epoch makes the line stable: but not one that another host has replaced."""
    other = POD[str, int](path)
    pod = POD[str, int](path)
    pod._store.local = False
    real = form.batch_line

    def lose_the_lock(*arguments: Any) -> bytes:
        monkeypatch.setattr(form, "batch_line", real)
        other._store.fold(always=True)  # as another host does that was given the lock meanwhile
        return real(*arguments)

    monkeypatch.setattr(form, "batch_line", lose_the_lock)
    with pytest.raises(IncoherentFileSystemError):
        pod["mine"] = 1
    assert stored(path) == {}
    assert form.decode_lock_line((path / ".lock").read_bytes()) == form.LockLine(other._store.id, 2)


def test_a_hole_at_the_end_of_a_journal_is_cut_however_large_it_is(path: Path) -> None:
    """A power cut leaves it, where the size of the file has arrived without its content."""
    with POD[str, int](path) as pod:
        pod["a"] = 1
    os.truncate(journal(path), 1 << 40)
    assert stored(path) == {"a": 1}
    with POD[str, int](path) as pod:
        pod["b"] = 2
    assert stored(path) == {"a": 1, "b": 2}


def test_repair_refuses_the_lock_file_of_another_directory_whatever_epoch_it_names(tmp_path: Path) -> None:
    """Else its id would be taken, and all batches of the journal set aside."""
    here, there = tmp_path / "here", tmp_path / "there"
    with POD[str, int](there) as other:
        for number in range(5):
            other["a"] = number
            other.sync()
    with POD[str, int](here) as pod:
        pod["a"] = 1
        pod.sync()
        pod["late"] = 2
        shutil.copytree(here, tmp_path / "copy")
    shutil.copy(there / ".lock", tmp_path / "copy" / ".lock")
    before = files(tmp_path / "copy")
    with pytest.raises(PersistentOrderedDictIntegrityError, match="put here by hand"):
        tastypy.repair(tmp_path / "copy")
    assert files(tmp_path / "copy") == before


def test_a_copy_without_lock_is_noted_in_the_first_epoch_too(path: Path, tmp_path: Path) -> None:
    with POD[str, int](path) as pod:
        pod["a"] = 1
        copy = tmp_path / "copy"
        copy.mkdir()
        shutil.copy(journal(path), copy)
    with POD[str, int](copy) as again:
        assert again == {"a": 1}
        assert [problem for problem in again.check() if "aside" in problem]


def test_no_field_of_a_line_with_a_right_crc_is_believed_to_be_of_its_type() -> None:
    """Of lines that are good after a bad one, and of lines whose texts together are other records than each alone."""
    good = form.batch_line(1, b'"put":{"a":1}')
    bad = b'{"crc":"00000000","seq":2}\n'
    lines = form.read_lines(good + bad + signed(b'"put":{"a":1},"synced":"x"}'), 0)
    assert (lines.trouble, len(lines.records), lines.synced) == ("damaged", 1, 0)
    three = [signed(b'"seq":1,"put":{}},7,{"x":[1'), signed(b'"z":1}]}'), form.batch_line(2, b'"put":{}')]
    assert form.read_lines(b"".join(three), 0)[:2] == ([], [])


def test_a_seal_that_does_not_lead_on_is_named_by_its_line(path: Path) -> None:
    with POD[str, int](path) as pod:
        pod["a"] = 1
    append(journal(path), form.seal_line(1))
    number = journal(path).read_bytes().count(b"\n")
    with pytest.raises(PersistentOrderedDictIntegrityError, match=f"line {number}: a seal that names epoch 1"):
        POD(path)


def test_a_deferred_change_that_another_thread_has_done_is_no_error(opened: Opener) -> None:
    class Emptied(deque[Callable[[], object]]):
        """Another thread comes between the look and the taking."""

        def popleft(self) -> Callable[[], object]:
            self.clear()
            return super().popleft()

    pod = opened()
    pod._store.lock.deferred = Emptied([lambda: None])
    with pod.transaction():
        pod["a"] = 1
    assert stored(pod.path) == pod == {"a": 1}


HELD_BY_A_THREAD_FIRST = """
import os, signal, sys, threading, time
from tastypy import POD
pod = POD(sys.argv[1])
pod.hold()
thread = threading.Thread(target=lambda: pod.update(thread=1))
thread.start()
thread.join()
pod["main"] = 1
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
"""


def test_sigterm_is_seen_to_once_the_main_thread_holds_something_though_a_thread_was_first(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", HELD_BY_A_THREAD_FIRST, path], check=False, timeout=60)
    assert done.returncode == -signal.SIGTERM
    assert stored(path) == {"thread": 1, "main": 1}
