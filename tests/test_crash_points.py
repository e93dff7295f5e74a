"""What failing system calls showed that no other test did; `stress.crash` lets each of them fail."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import FailingOS, os_error
from filelock import lock_descriptor
from helpers import Opener, in_child, shards, stored

import tastypy
from tastypy import POD, StorageError, Tracker, store


def assign(pod: POD[Any, Any]) -> None:
    pod["b"] = 2


def sync(pod: POD[Any, Any]) -> None:
    pod.sync()


def transact(pod: POD[Any, Any]) -> None:
    with pod.transaction():
        pod["b"] = 2


@pytest.mark.parametrize("change", [assign, sync, transact])
def test_a_lock_that_cannot_be_dropped_is_closed_instead(
    opened: Opener, path: Path, change: Callable[[POD[Any, Any]], None]
) -> None:
    """The change was made, so no error is raised, and nobody waits for the lock."""
    pod = opened()

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "on purpose")

    if change == sync:
        pod["b"] = 2
    pod._store.lock.let_go = fail  # of the descriptor that it has now
    change(pod)
    assert pod._store.lock.let_go != fail or pod._store.lock.descriptor < 0
    assert pod["b"] == 2
    descriptor = os.open(path / ".lock", os.O_RDWR)
    try:
        assert lock_descriptor(descriptor, blocking=False)
    finally:
        os.close(descriptor)
    pod["c"] = 3
    assert stored(path) == {"b": 2, "c": 3}


def test_a_lock_that_cannot_be_opened_again_is_named(pod: POD[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor is gone in a forked child, and where it could not be unlocked."""
    pod["a"] = 1
    pod._store.lock.drop(OSError(errno.EIO, "on purpose"))

    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, "on purpose")

    with monkeypatch.context() as patch:
        patch.setattr("tastypy.lock.os.open", fail)
        with pytest.raises(StorageError, match=r"\.lock: .*on purpose") as caught:
            pod["b"] = 2
    assert caught.value.errno == errno.EMFILE
    pod["b"] = 2


def test_a_journal_that_others_have_folded_and_that_cannot_be_closed_is_left(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod, other = opened(), opened()
    pod["a"] = 1
    other["b"] = 2
    other.sync()
    closed: list[int] = []

    def fail(descriptor: int) -> None:
        closed.append(descriptor)
        os.close(descriptor)
        raise OSError(errno.EIO, "on purpose")

    close = store.Store._close_journal
    monkeypatch.setattr(close, "__defaults__", (fail, *(close.__defaults__ or ())[1:]))
    pod["c"] = 3
    assert closed
    assert pod == {"a": 1, "b": 2, "c": 3}


def test_repair_keeps_a_shard_that_the_file_system_fails_to_read(path: Path, failing_os: FailingOS) -> None:
    """A failure of the file system says nothing of the shard: repair changes nothing, and says why."""
    with POD[str, str](path, shard_bytes=60) as pod:
        for number in range(6):
            pod[f"key {number}"] = "x" * 40
    damaged, *rest = shards(path)
    lost = set(tastypy.POD[str, str](path, mode="r")) - {
        key for shard in rest for key in json.loads(shard.read_bytes())
    }
    damaged.write_bytes(b"damaged")
    before = sorted(file.name for file in path.iterdir())

    failed: list[str] = []

    def fail_once(file: str, *_: object) -> None:
        if file == str(rest[0]) and not failed:
            failed.append(file)
            raise OSError(errno.EIO, "on purpose")

    failing_os.before["open"] = fail_once
    with pytest.raises(StorageError, match=str(path)):
        tastypy.repair(path)
    assert failed
    assert sorted(file.name for file in path.iterdir() if not file.name.startswith("aside-")) == before
    tastypy.repair(path)
    assert stored(path).keys() == {f"key {number}" for number in range(6)} - lost


@pytest.mark.parametrize("call", [tastypy.check, tastypy.repair])
def test_a_directory_that_cannot_be_listed_is_named(path: Path, failing_os: FailingOS, call: Any) -> None:
    POD[str, int](path).close()
    failing_os.always["listdir"] = os_error(errno.EIO)()
    with pytest.raises(StorageError, match=str(path)):
        call(path)
    failing_os.always.clear()
    shutil.rmtree(path)


@pytest.mark.parametrize("mode", ["a", "r"])
def test_a_stale_handle_while_a_pod_is_opened_is_no_directory_that_was_replaced(
    path: Path, failing_os: FailingOS, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    POD[str, int](path).close()
    monkeypatch.setattr("tastypy.mounts.LOCAL", frozenset())
    failed: list[int] = []

    def fail_once(descriptor: int, *_: object) -> None:
        if not failed:
            failed.append(descriptor)
            raise OSError(errno.ESTALE, "on purpose")

    failing_os.before["pread"] = fail_once
    with pytest.raises(StorageError, match="on purpose") as caught:
        POD(path, mode=mode)
    assert caught.value.errno == errno.ESTALE
    assert failed


def test_a_claim_is_had_though_the_file_of_the_dead_worker_cannot_be_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim was committed: an error would leave it to nobody."""

    def claim_and_die() -> None:
        Tracker[str](path).claim()
        os.kill(os.getpid(), signal.SIGKILL)

    tracker = Tracker[str](path)
    tracker.add("task")
    assert in_child(claim_and_die) == -signal.SIGKILL
    close = os.close

    def fail(descriptor: int) -> None:
        close(descriptor)
        raise OSError(errno.EIO, "on purpose")

    with monkeypatch.context() as patch:
        patch.setattr("tastypy.workers.os.close", fail)
        task = tracker.claim()
    assert task is not None
    task.done()
    tracker.close()


def test_what_was_held_is_not_said_to_have_failed_when_it_was_written(
    pod: POD[Any, Any], failing_os: FailingOS
) -> None:
    """A POD that is too large to be folded each time waits once for stable storage, and not again after the commit."""
    pod["large"] = "x" * 1_200_000
    pod.sync()
    pod["a"] = 1
    failing_os.calls.clear()
    with pod.hold():
        pod["b"] = 2
    assert failing_os.calls.count("fdatasync") == 1
