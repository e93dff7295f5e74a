"""The lock of a directory: one at a time, among processes and among threads; whoever waits is told; a fork takes nothing along."""

from __future__ import annotations

import errno
import fcntl
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from helpers import PATIENCE, Opener, exactly, files, in_child, stored

from tastypy import POD, DirectoryGoneError, LocksUnsupportedError, LockTimeout, StorageError, TransactionError
from tastypy import files as tastypy_files
from tastypy import lock as under_test
from tastypy.backoff import Backoff
from tastypy.lock import DirectoryLock, lock_of
from tastypy.store import Store

ROUNDS = 300


def flock_of(path: str) -> DirectoryLock:
    """This process's lock of the `.lock` at `path`."""
    return lock_of(path, tastypy_files.open_or_create_lock(path, 0o600), leased=False)


@pytest.fixture
def lock(tmp_path: Path) -> DirectoryLock:
    """The lock of a directory of its own."""
    return flock_of(str(tmp_path / ".lock"))


@pytest.fixture
def held(lock: DirectoryLock) -> Iterator[DirectoryLock]:
    """The same, while another open file description has it, as another process would."""
    descriptor = os.open(lock.path, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield lock
    os.close(descriptor)


def enter_often(path: str, barrier: Barrier, rounds: int) -> None:
    """Go through the lock many times; leave with an error if anybody else is found in it.

    Two independent detectors: a file that only one can create, and a number that is read, and written, in two steps.
    """
    own = flock_of(path)
    inside, number = f"{path}.inside", f"{path}.number"

    def action() -> None:
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
        count = int(Path(number).read_text())
        os.sched_yield()
        Path(number).write_text(str(count + 1))
        os.unlink(inside)

    barrier.wait(PATIENCE)
    for _ in range(rounds):
        own.run(action, PATIENCE)


@pytest.mark.parametrize(("method", "workers", "rounds"), [("fork", 4, ROUNDS), ("spawn", 2, ROUNDS)])
def test_processes_exclude_each_other_as_two_detectors_see_it(
    tmp_path: Path, method: str, workers: int, rounds: int
) -> None:
    context = multiprocessing.get_context(method)
    path = tmp_path / ".lock"
    Path(f"{path}.number").write_text("0")
    barrier = context.Barrier(workers)
    processes = [context.Process(target=enter_often, args=(str(path), barrier, rounds)) for _ in range(workers)]  # type: ignore[attr-defined]  # every context has it
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert Path(f"{path}.number").read_text() == str(workers * rounds)
    assert not Path(f"{path}.inside").exists()


def test_threads_exclude_each_other_though_an_flock_knows_no_threads(lock: DirectoryLock) -> None:
    inside: list[int] = []
    most: list[int] = []
    numbers = {"number": 0}

    def action() -> None:
        inside.append(1)
        count = numbers["number"]
        os.sched_yield()
        numbers["number"] = count + 1
        most.append(len(inside))
        inside.pop()

    def work() -> None:
        barrier.wait(PATIENCE)
        for _ in range(ROUNDS):
            lock.run(action, PATIENCE)

    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert numbers["number"] == len(most) == 4 * ROUNDS
    assert set(most) == {1}


# ------------------------------------------------------------------------------------------------------------- waiting


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_who_waits_too_long_is_told_with_the_path(held: DirectoryLock, timeout: float) -> None:
    asked: list[int] = []
    with pytest.raises(LockTimeout, match="lsof") as caught:

        def meanwhile() -> bool:
            asked.append(1)
            return True

        held.run(lambda: None, timeout, meanwhile)
    assert caught.value.path == held.path
    assert str(held.path) in str(caught.value)
    assert asked, "what others write is read while waiting"
    assert held.busy == 0
    held.mutex.acquire(blocking=False)
    held.mutex.release()


def test_a_free_lock_is_had_at_once_and_nothing_is_read_meanwhile(lock: DirectoryLock) -> None:
    assert lock.run(lambda: "result", 0, lambda: pytest.fail("there was nothing to wait for")) == "result"


@pytest.mark.parametrize("seconds", [0.02, 100])
def test_a_long_wait_is_logged_once_with_the_path(
    held: DirectoryLock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seconds: float
) -> None:
    monkeypatch.setattr("tastypy.lock.WARN_AFTER", seconds)
    with caplog.at_level(logging.WARNING, "tastypy"), pytest.raises(LockTimeout):
        held.run(lambda: None, 0.1)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (seconds < 1)
    assert all(held.path in text for text in said)


def test_the_lock_is_free_again_whatever_was_raised_inside(lock: DirectoryLock) -> None:
    for error in (ValueError, KeyboardInterrupt, SystemExit):

        def action(error: type[BaseException] = error) -> None:
            raise error

        with pytest.raises(error):
            lock.run(action, 0)
        assert in_child(lambda: lock_in_a_child(lock.path)) == 0


def test_a_signal_handler_inside_a_commit_cannot_enter_another(lock: DirectoryLock) -> None:
    def action() -> None:
        with pytest.raises(TransactionError, match="commit") as caught:
            lock.run(lambda: None, 0)
        assert caught.value.path == lock.path
        lock.deferred.append(lambda: done.append(1))
        lock.deferred.append(fail)
        lock.deferred.append(lambda: done.append(2))
        assert done == []

    def fail() -> None:
        raise LookupError

    done: list[int] = []
    lock.run(action, 0)
    assert done == [1, 2], "what was put off is done at the end, and one that fails keeps none of the others back"


# --------------------------------------------------------------------------------------------------- where it cannot be


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES])
def test_a_file_system_without_locks_is_named_with_what_to_do(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    POD[Any, Any](path).close()
    before = files(path)

    def lock_descriptor(descriptor: int, *, blocking: bool) -> bool:
        assert not blocking
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tastypy.lock.lock_descriptor", lock_descriptor)
    with pytest.raises(LocksUnsupportedError, match='mode="r"') as caught:
        POD(path)
    assert caught.value.errno == number
    assert caught.value.path == str(path / ".lock")
    assert files(path) == before
    assert stored(path) == {}, "reading takes no lock"


def test_any_other_failure_to_lock_is_not_called_a_lack_of_locks(
    lock: DirectoryLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lock_descriptor(descriptor: int, *, blocking: bool) -> bool:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr("tastypy.lock.lock_descriptor", lock_descriptor)
    with pytest.raises(StorageError, match="broken") as caught:
        lock.run(lambda: None, 0)
    assert caught.value.errno == errno.EIO


# --------------------------------------------------------------------------------------------------- where many want it


class Recorder(Backoff):
    """A back-off that decides nothing itself, and notes what it is told."""

    __slots__ = ("told",)

    def __init__(self) -> None:
        super().__init__(local=True)
        self.told: list[tuple[str | float, ...]] = []

    def pause(self, waited: float, kept: float = 0.0) -> float:
        self.told.append(("pause", waited, kept))
        return 3.0

    def tried(self, seconds: float) -> None:
        self.told.append(("tried", seconds))

    def had(self, waited: float) -> None:
        self.told.append(("had", waited))

    def courtesy(self) -> float:
        return 7.0


class Clock:
    """What stands in for the module `time`: it goes on when somebody sleeps, and when something is done."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(lock: DirectoryLock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of a lock that is free after ten seconds, of which an attempt takes one, with what it takes."""
    clock = Clock()

    def attempt(descriptor: int, *, blocking: bool) -> bool:
        clock.now += 1.0
        return clock.now > 10.0

    monkeypatch.setattr("tastypy.lock.time", clock)
    monkeypatch.setattr("tastypy.lock.lock_descriptor", attempt)
    lock.backoff = Recorder()
    return clock


def test_whoever_finds_the_lock_taken_pauses_as_the_back_off_decides_and_tells_it_what_came_of_it(
    lock: DirectoryLock, clock: Clock
) -> None:
    assert isinstance(lock.backoff, Recorder)
    turns = iter([False, True, False])  # of others, as `meanwhile` sees them

    def meanwhile() -> bool:
        clock.sleep(0.5)
        return next(turns)

    lock.run(lambda: None, 300, meanwhile)
    assert clock.slept == [0.5, 3.0, 0.5, 3.0, 0.5]
    assert lock.backoff.told == [
        ("tried", 1.5),
        ("pause", 1.5, 1.5),
        ("tried", 1.5),
        ("pause", 6.0, 1.0),
        ("tried", 1.5),
        ("had", 10.5),
    ]


def test_nobody_pauses_longer_than_the_timeout_leaves(lock: DirectoryLock, clock: Clock) -> None:
    with pytest.raises(LockTimeout):
        lock.run(lambda: None, 2.0)
    assert clock.slept == [pytest.approx(1.001)]


def test_whoever_finds_it_free_pauses_only_where_others_wait(lock: DirectoryLock, clock: Clock) -> None:
    clock.now = 100.0
    lock.run(lambda: None, 300)
    assert clock.slept == []
    lock.backoff.usual = 1.0
    lock.run(lambda: None, 300)
    assert clock.slept == [7.0]
    assert lock.backoff == flock_of(lock.path).backoff, "it is the process's, for all its objects"


# ---------------------------------------------------------------------------------------------- PODs of one directory


def test_pods_of_one_directory_share_one_lock_by_whatever_path(path: Path, opened: Opener) -> None:
    """They exclude each other's threads by it, and the process has one descriptor."""
    pod = opened()
    link = path.with_name("link")
    link.symlink_to(path)
    assert opened()._store.lock is opened(link)._store.lock is pod._store.lock
    assert opened(path.with_name("other.pod"))._store.lock is not pod._store.lock
    assert opened(mode="r")._store.lock is not pod._store.lock, "a reader's is never taken"


def test_whoever_waits_tells_the_back_off_whether_others_commit(pod: POD[Any, Any], opened: Opener) -> None:
    other = opened()
    assert not other._meanwhile()
    pod["a"] = 1
    assert other._meanwhile()
    assert not other._meanwhile()
    pod.sync()
    assert other._meanwhile(), "a fold is a turn, too"
    assert exactly(other) == exactly({"a": 1})


def test_another_thread_that_waits_for_a_transaction_in_vain_is_told(pod: POD[Any, Any], opened: Opener) -> None:
    """Through the same object, and through another one of the directory; a write and a transaction."""
    quick = opened(timeout=0.05)
    calls: list[Callable[[], object]] = [
        lambda: quick.update(a=1),
        lambda: quick.pop("a", None),
        quick.transaction().__enter__,
    ]
    caught: list[BaseException] = []

    def work() -> None:
        for call in calls:
            try:
                call()
            except BaseException as error:
                caught.append(error)

    with pod.transaction():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(PATIENCE)
        pod["mine"] = 1
    assert [type(error) for error in caught] == [LockTimeout] * 3
    assert {getattr(error, "path", "") for error in caught} == {os.path.join(pod.path, ".lock")}
    assert exactly(stored(pod.path)) == exactly({"mine": 1})


def test_a_write_through_another_object_in_a_transaction_of_this_thread_names_both(
    pod: POD[Any, Any], opened: Opener
) -> None:
    other = opened()
    other["before"] = 1
    with pod.transaction(), pytest.raises(TransactionError) as caught:
        other["a"] = 1
    assert str(caught.value).count(pod.path) == 2
    assert exactly(stored(pod.path)) == exactly({"before": 1})


# --------------------------------------------------------------------------------------------------------------- forks


def test_a_forked_child_that_ends_drops_nothing_of_its_parents_lock(lock: DirectoryLock) -> None:
    """Unlocking the descriptor that both have would; so the child closes it, and opens its own."""
    descriptor = lock.descriptor

    def child() -> None:
        under_test.forked()
        assert lock.descriptor == -1
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(descriptor)
        with pytest.raises(LockTimeout):
            lock.run(lambda: None, 0)

    def child_that_waits() -> None:
        with pytest.raises(LockTimeout):
            lock_in_a_child(lock.path)

    def action() -> None:
        # the hook that calls `forked` is of PODs; there is none here
        assert in_child(child) == 0
        assert in_child(child_that_waits) == 0

    lock.run(action, 0)
    assert in_child(lambda: lock_in_a_child(lock.path)) == 0


def lock_in_a_child(path: str) -> None:
    """Take the lock by a description of its own."""
    under_test.forked()
    flock_of(path).run(lambda: None, 0)


def test_a_child_forked_inside_a_commit_may_enter_one_itself(lock: DirectoryLock) -> None:
    """It has neither its parent's mutex, which nobody there would release, nor what it put off."""

    def child() -> None:
        under_test.forked()
        assert (lock.busy, lock.transaction, lock.thread, len(lock.deferred)) == (0, None, 0, 0)
        with lock.mutex:
            pass

    def action() -> None:
        lock.deferred.append(lambda: None)
        lock.transaction, lock.thread = "a POD", threading.get_ident()
        assert in_child(child) == 0
        lock.transaction, lock.thread = None, 0

    lock.run(action, 0)


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_child_does_not_lock_a_file_that_took_the_place_of_its_parents(lock: DirectoryLock, how: str) -> None:
    os.unlink(lock.path)
    if how == "replaced":
        Path(lock.path).touch()

    def child() -> None:
        under_test.forked()
        with pytest.raises(DirectoryGoneError) as caught:
            lock.run(lambda: None, 0)
        assert caught.value.path == lock.path

    assert in_child(child) == 0


def test_the_descriptor_goes_with_the_last_user_of_the_lock(tmp_path: Path) -> None:
    path = str(tmp_path / ".lock")
    one, other = flock_of(path), flock_of(path)
    descriptor = one.descriptor
    assert one is other
    del one
    os.fstat(descriptor)
    del other
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)


def test_a_lock_whose_construction_was_interrupted_is_dropped_in_silence() -> None:
    """Ctrl-C may come at the first instruction of `__init__`; an exception in `__del__` would fail this test."""
    DirectoryLock.__new__(DirectoryLock)
    Store.__new__(Store)
