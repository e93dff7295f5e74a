"""Copies while something fails, is killed, or writes: of one moment, and whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from exchange_programs import KEYS, fill
from faults import FailingOS, os_error
from helpers import (
    Opener,
    append,
    exactly,
    files,
    header_of,
    hear,
    in_child,
    journal,
    open_files,
    shards,
    signed,
    stored,
)

from tastypy import (
    POD,
    PersistentOrderedDictIntegrityError,
    StorageError,
    check,
)
from tastypy import files as module
from tastypy.exchange import copying

PROGRAMS = str(Path(__file__).with_name("exchange_programs.py"))


def program(*arguments: object) -> list[str]:
    return [sys.executable, PROGRAMS, *map(str, arguments)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


# --- damage, errors, crashes


def test_a_damaged_file_is_named_and_nothing_is_copied(opened: Opener, tmp_path: Path) -> None:
    pod = opened(shard_bytes=300)
    fill(pod)
    shard = shards(Path(pod.path))[2]
    data = shard.read_bytes()
    shard.write_bytes(data.replace(b"number", b"numbex", 1))
    with pytest.raises(PersistentOrderedDictIntegrityError, match=shard.name):
        pod.copy_to(tmp_path / "copy.pod")
    shard.write_bytes(data)
    assert os.listdir(tmp_path) == ["my.pod"]


def test_a_line_that_is_being_written_is_in_no_copy_and_is_not_cut_off(pod: POD[Any, Any], tmp_path: Path) -> None:
    pod["foo"] = 1
    append(journal(Path(pod.path)), signed(b'"seq":2,"put":{"bar":2}}')[:-5])
    before = files(Path(pod.path))
    pod.copy_to(tmp_path / "copy.pod")
    assert files(Path(pod.path)) == before
    assert stored(tmp_path / "copy.pod") == {"foo": 1}


@pytest.mark.parametrize("gzipped", [False, True])
def test_an_error_at_any_system_call_leaves_nothing_but_the_original(
    opened: Opener, tmp_path: Path, failing_os: FailingOS, gzipped: bool
) -> None:
    pod = opened(gzipped=gzipped, shard_bytes=2000)
    fill(pod)
    before = files(Path(pod.path))
    descriptors = open_files()
    number, done = 0, False
    while not done:
        number += 1
        for error in (os_error(errno.ENOSPC), KeyboardInterrupt):
            failing_os.arm(number, error)
            try:
                pod.copy_to(tmp_path / "copy.pod")
                done = True
            except (StorageError, KeyboardInterrupt):
                pass
            failing_os.disarm()
            if (tmp_path / "copy.pod").exists():  # an error that is of no account, or came after the end
                assert exactly(stored(tmp_path / "copy.pod")) == exactly(pod)
                for file in (tmp_path / "copy.pod").iterdir():
                    file.unlink()
                (tmp_path / "copy.pod").rmdir()
            left = [name for name in os.listdir(tmp_path) if name != "my.pod"]
            assert left == [] or "unlink" in failing_os.calls[number - 1 :][:1], (number, error, left)
    assert number > 20
    assert files(Path(pod.path)) == before
    assert open_files() == descriptors


def test_a_kill_before_any_system_call_leaves_a_whole_copy_or_none_of_that_name(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = opened(shard_bytes=2000)
    fill(pod)
    whole = exactly(pod)

    def killed_at(number: int, target: Path) -> None:
        calls: Any = FailingOS()
        reader = POD[Any, Any](pod.path, mode="r")
        monkeypatch.setattr(module, "os", calls)  # in a child of its own
        calls.kill, calls.at = "before", number
        reader.copy_to(target)

    number, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        number += 1
        target = tmp_path / f"{number}.pod"
        status = in_child(lambda number=number, target=target: killed_at(number, target))  # type: ignore[misc]  # the defaults are these
        remains = list(tmp_path.glob(f".{number}.pod.*.incomplete"))
        if target.exists():
            assert remains == []
            assert exactly(stored(target)) == whole
        else:
            assert len(remains) <= 1
    assert status == 0
    assert number > 20
    assert exactly(stored(pod.path)) == whole
    parts = [part for part in tmp_path.glob(".*.incomplete") if shards(part) and not list(part.glob("journal-*"))]
    assert len(parts) > 5
    for part in parts:
        with pytest.raises(PersistentOrderedDictIntegrityError), POD[Any, Any](part):
            pass  # what has a part only is no POD


def test_everything_is_on_stable_storage_before_the_copy_gets_its_name(
    opened: Opener, tmp_path: Path, failing_os: FailingOS
) -> None:
    pod = opened(shard_bytes=300)
    fill(pod)
    failing_os.arm(0, KeyboardInterrupt)
    pod.copy_to(tmp_path / "copy.pod")
    calls = failing_os.calls
    renamed = len(calls) - 1 - calls[::-1].index("rename")
    # each file, the directory, and at last the name of it
    assert calls[:renamed].count("fsync") >= len(os.listdir(tmp_path / "copy.pod")) + 1
    assert "fsync" in calls[renamed:]


# --- while others write


@contextmanager
def writers(path: Path, number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes = [
        subprocess.Popen(program(path, name), stdout=subprocess.PIPE, env=ENVIRONMENT) for name in range(number)
    ]
    try:
        for process in processes:
            assert hear(process) == "writing"
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(("gzipped", "mode"), [(False, "r"), (True, "a")])
def test_each_copy_is_of_one_moment_and_of_a_later_one_than_what_was_known(
    opened: Opener, path: Path, tmp_path: Path, gzipped: bool, mode: str
) -> None:
    opened(gzipped=gzipped, shard_bytes=500)["total"] = 0
    with writers(path, 2) as processes:
        pod = opened(mode=mode)
        end = time.monotonic() + 1.5
        copies, epochs = 0, set()
        while time.monotonic() < end:
            pod.refresh()
            known = pod["total"]
            pod.copy_to(tmp_path / f"copy {copies}")
            copy = stored(tmp_path / f"copy {copies}")
            counts = [{copy[f"{name} {key}"] for key in range(KEYS)} for name in range(2)]
            assert [len(count) for count in counts] == [1, 1]
            assert sum(count.pop() for count in counts) == copy["total"] >= known
            epochs.add(header_of(tmp_path / f"copy {copies}").epoch)
            copies += 1
        assert all(process.poll() is None for process in processes)
    assert check(tmp_path / f"copy {copies - 1}") == []
    assert copies > 5
    assert len(epochs) > 2  # so there were folds in between
    assert not list(tmp_path.glob(".copy*"))


def test_a_shard_that_a_fold_removes_while_it_is_copied_has_the_copy_begin_again_with_the_new_epoch(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = opened(shard_bytes=300)
    fill(pod)
    pod["last"] = 0
    pod.sync()
    reader = opened(mode="r")
    read_file = module.read_file
    folds = iter(range(8))
    busy = False

    reads: list[str] = []

    def fold_first(path: str, offset: int = 0) -> bytes:
        nonlocal busy
        if not busy:
            reads.append(path)
        if not busy and "/0003-" in path and path.startswith(pod.path) and next(folds, None) is not None:
            busy = True  # the fold reads shards, too
            for key in list(pod)[len(pod) // 3 : -1 : 5]:
                pod[key] = "another value"
            pod["last"] += 1
            pod.sync()
            busy = False
        return read_file(path, offset)

    monkeypatch.setattr(module, "read_file", fold_first)
    reader.copy_to(tmp_path / "copy.pod")
    assert next(folds, None) is None
    assert exactly(stored(tmp_path / "copy.pod")) == exactly(pod)
    assert pod["last"] == 8
    assert len([path for path in reads if path.startswith(f"{pod.path}/0000-")]) == 1  # once is enough


def test_a_last_line_that_its_writer_takes_back_is_in_no_copy(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = opened()
    pod["foo"] = 1
    reader = opened(mode="r")
    file = journal(Path(pod.path))
    whole = file.read_bytes()
    append(file, signed(b'"seq":2,"put":{"never":"acknowledged"}}'))
    arrived = copying._Original._arrived

    def taken_back(original: Any) -> Any:
        news = arrived(original)
        file.write_bytes(whole)
        return news

    monkeypatch.setattr(copying._Original, "_arrived", taken_back)
    reader.copy_to(tmp_path / "copy.pod")
    assert stored(tmp_path / "copy.pod") == {"foo": 1}
