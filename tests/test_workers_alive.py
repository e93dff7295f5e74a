"""Who is alive: what others conclude from the file of a worker, and what a forked child has of it."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faults import FailingOS
from helpers import hear, in_child, stored, tell
from tracker_programs import ask, claimed, finish, kill, open_files_of_workers, start, worker_files

from tastypy import Tracker, files, workers

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of .*fork:DeprecationWarning")


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](path) as tracker:
        tracker.add_many(range(10))
        yield tracker


def is_locked(file: Path) -> bool:
    """Whether somebody has the lock of a file."""
    with file.open("r+b") as other:
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


# ------------------------------------------------------------------------------------------------------------- who is alive


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENFILE])
def test_a_worker_whose_file_cannot_be_looked_at_counts_as_alive_and_is_logged(
    tracker: Tracker[Any], path: Path, failing_os: FailingOS, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    program = start("obey", path)
    assert ask(program, "claim") == "0"
    kill(program)

    def fail(file: Any, *_: Any) -> None:
        if "worker-" in str(file):
            raise OSError(number, os.strerror(number))

    failing_os.before["open"] = fail
    assert finish(tracker) == [*range(1, 10)]
    assert "cannot be looked at, and its worker counts as alive" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    failing_os.before.clear()
    assert finish(tracker) == [0]


def test_a_lock_that_cannot_be_asked_for_counts_as_a_living_worker(
    tracker: Tracker[Any], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed(tracker).done()
    program = start("obey", path)
    assert ask(program, "claim") == "1"
    kill(program)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(workers, "fcntl", SimpleNamespace(flock=fail, LOCK_SH=fcntl.LOCK_SH, LOCK_NB=fcntl.LOCK_NB))
    assert finish(tracker) == [*range(2, 10)]
    monkeypatch.undo()
    assert finish(tracker) == [1]


def test_who_sees_to_what_a_dead_worker_left_is_not_taken_for_it(tracker: Tracker[Any], path: Path) -> None:
    """Nor is who looks at it: else a claim at that moment would find nothing, though there are tasks."""
    program = start("obey", path)
    assert ask(program, "claim") == "0"
    kill(program)
    name = files.worker_of(worker_files(path)[0].name)
    first = workers.find_remains(tracker._store, name)
    assert not workers.is_alive(tracker._store, name)
    second = workers.find_remains(tracker._store, name)
    assert first is not None
    assert second is not None
    assert first.in_hand == second.in_hand
    first.close()
    second.close()


def test_a_worker_that_dies_just_before_a_claim_has_the_lock_is_found_when_nothing_else_is_left(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its task can be claimed then, and before that another one could be: the claim does not return None."""
    with Tracker[Any](path) as tracker:
        tracker.add_many(range(3))
        dying, other = start("obey", path), start("obey", path)
        assert (ask(dying, "claim"), ask(other, "claim")) == ("0", "1")
        claimed(tracker).release()
        commit = Tracker._commit_items

        def meanwhile(*arguments: Any) -> None:
            monkeypatch.undo()
            kill(dying)
            assert ask(other, "claim") == "2"  # which was open until now
            commit(*arguments)

        monkeypatch.setattr(Tracker, "_commit_items", meanwhile)
        assert claimed(tracker).key == 0


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESTALE])
def test_a_worker_whose_file_is_gone_or_stale_is_dead(
    tracker: Tracker[Any], path: Path, failing_os: FailingOS, number: int
) -> None:
    program = start("obey", path)
    assert ask(program, "claim") == "0"

    def fail(file: Any, *_: Any) -> None:
        if "worker-" in str(file):
            raise OSError(number, os.strerror(number))

    failing_os.before["open"] = fail
    assert sorted(finish(tracker)) == [*range(10)]
    assert tracker.tries(0) == 2
    assert "its worker died" not in str(tracker[0])


def test_the_file_of_a_dead_worker_that_is_damaged_is_read_as_far_as_it_goes(tracker: Tracker[Any], path: Path) -> None:
    program = start("obey", path)
    ask(program, "loop_over 3")
    ask(program, "step")
    kill(program)
    (file,) = worker_files(path)
    file.write_bytes(b"\xff\x00not json\n" + file.read_bytes().split(b"\n", 1)[1] + b'{"a":1}\n"torn')
    assert sorted(finish(tracker)) == [*range(10)]
    assert [entry["_tries"] for entry in stored(path).values()] == [2] + [1] * 9


def test_the_file_of_a_dead_worker_that_is_empty_releases_its_claims(tracker: Tracker[Any], path: Path) -> None:
    program = start("obey", path)
    assert ask(program, "claim") == "0"
    kill(program)
    (file,) = worker_files(path)
    file.write_bytes(b"")
    assert sorted(finish(tracker)) == [*range(10)]


# --------------------------------------------------------------------------------------------------------------------- fork


def test_a_forked_child_has_no_descriptor_of_its_parents_file(tracker: Tracker[Any], path: Path) -> None:
    claimed(tracker)

    def child() -> None:
        assert open_files_of_workers(path) == []

    assert in_child(child) == 0
    (file,) = worker_files(path)
    assert is_locked(file)
    assert open_files_of_workers(path) == [file.name]


@pytest.mark.parametrize("call", ["pwrite", "rename"])
def test_a_child_that_is_forked_while_a_worker_begins_has_not_its_lock(path: Path, call: str) -> None:
    """Else the claims of the parent would outlive it, as long as the child lives."""
    program = start("fork_beside_a_claim", path, call)
    assert hear(program) == "ready"
    with Tracker[Any](path) as tracker:
        tracker.add("a")
        tell(program)
        child = int(hear(program))
        try:
            tell(program)
            assert hear(program) == "a"
            assert tracker.claim() is None
            kill(program)
            assert claimed(tracker).tries == 1
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_child_that_is_forked_while_a_dead_worker_is_looked_at_has_not_its_lock(
    tracker: Tracker[Any], path: Path, failing_os: FailingOS
) -> None:
    program = start("obey", path)
    assert ask(program, "claim") == "0"
    kill(program)
    (file,) = worker_files(path)
    children: list[int] = []

    def fork(descriptor: int, *_: Any) -> None:
        if not children and os.readlink(f"/proc/self/fd/{descriptor}") == str(file):
            children.append(
                in_child(lambda: (_ for _ in ()).throw(AssertionError) if open_files_of_workers(path) else None)
            )

    failing_os.before["pread"] = fork
    assert sorted(finish(tracker)) == [*range(10)]
    assert children == [0]


def test_a_forked_child_is_a_worker_of_its_own(tracker: Tracker[Any], path: Path) -> None:
    task = claimed(tracker)

    def child() -> None:
        mine = claimed(tracker)
        assert mine.key == 1
        assert mine.claim["worker"] != task.claim["worker"]
        assert len(worker_files(path)) == 2
        mine.done()
        tracker.close()
        assert len(worker_files(path)) == 1

    assert in_child(child) == 0
    task.done()
    assert sorted(finish(tracker)) == [*range(2, 10)]


def test_the_lock_of_the_parent_survives_its_children(tracker: Tracker[Any], path: Path) -> None:
    task = claimed(tracker)
    (file,) = worker_files(path)
    for body in (lambda: None, tracker.close, lambda: claimed(tracker).done()):
        assert in_child(body) == 0
        assert is_locked(file)
    task.done()
