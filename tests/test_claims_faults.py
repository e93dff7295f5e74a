"""Claims when the disk is full, and when each system call fails in turn: nobody's task is lost, none costs a try it did not have.

The invariant, at every point: once the failing process has closed its tracker, nothing is claimed, no file of a worker is
left, each task is as before or done, and a next worker finishes the rest.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import Error, FailingOS, os_error
from helpers import stored
from test_full_disk import disk, fill  # noqa: F401 - a fixture
from tracker_programs import claimed, finish, leftovers

from tastypy import CommitError, TastypyError, Tracker

KEYS = ["a", "b", "c"]


@pytest.fixture(params=["local", "network"])
def proxy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, failing_os: FailingOS) -> FailingOS:
    """The failing `os`, on what is taken for a local file system and for one of another machine."""
    if request.param == "network":
        monkeypatch.setattr("tastypy.files.is_local", lambda descriptor: False)
    return failing_os


@pytest.fixture
def directories(quick_directory: Path) -> Iterator[Path]:
    """A new path with each `next`."""
    return (quick_directory / f"{number}.pod" for number in range(10_000))


def claim(tracker: Tracker[Any]) -> None:
    tracker.claim()


def claim_again(tracker: Tracker[Any]) -> None:
    tracker.claim()


def finish_one(tracker: Tracker[Any]) -> None:
    task = tracker.claim()
    if task is not None:
        task.done(x=1)


def finish_all(tracker: Tracker[Any]) -> None:
    for task in tracker.claims():
        with task:
            task["x"] = 1


def finish_all_in_batches(tracker: Tracker[Any]) -> None:
    for task in tracker.claims(batch=2):
        with task:
            task["x"] = 1


def leave_early(tracker: Tracker[Any]) -> None:
    loop = tracker.claims(batch=2)
    with next(loop):
        pass
    loop.close()  # type: ignore[attr-defined]  # it is a generator; were it dropped, Python would swallow a Ctrl-C here


PROGRAMS: list[Callable[[Tracker[Any]], None]] = [
    *(claim, claim_again, finish_one, finish_all, finish_all_in_batches, leave_early)
]
FAULTS: list[tuple[Error, bool]] = [
    (KeyboardInterrupt, False),
    (os_error(errno.EIO), False),
    (os_error(errno.EIO), True),
    (os_error(errno.ENOSPC), True),
]


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("error", "persistent"), FAULTS, ids=["Ctrl-C", "EIO once", "EIO", "ENOSPC"])
def test_whatever_call_fails_tasks_are_as_before_or_done_and_nothing_stays_claimed(
    proxy: FailingOS,
    directories: Iterator[Path],
    program: Callable[[Tracker[Any]], None],
    error: Error,
    persistent: bool,
) -> None:
    logging.disable(logging.ERROR)  # of what fails much is told
    try:
        for at in range(1, 400):
            path = next(directories)
            tracker = Tracker[Any](path)
            tracker.add_many(KEYS)
            if program is not claim:
                claimed(tracker).release()
            proxy.arm(at, error, persistent=persistent)
            with contextlib.suppress(TastypyError, KeyboardInterrupt):
                program(tracker)
            fired, call = proxy.fired, (proxy.calls[at - 1 :] or ["none"])[0]
            proxy.disarm()
            tracker.close()
            where = f"at call {at}, {call}"
            found = stored(path)
            assert leftovers(path) == {}, where
            assert {key: entry["_tries"] - entry["_done"] for key, entry in found.items()} == dict.fromkeys(KEYS, 0), (
                where
            )
            with Tracker[Any](path) as next_one:
                assert sorted(finish(next_one)) == [key for key in KEYS if not found[key]["_done"]], where
            if not fired:
                return
    finally:
        logging.disable(logging.NOTSET)
    raise AssertionError("more calls than were expected")


def test_a_batch_that_cannot_be_given_back_is_logged_and_given_back_at_last(
    path: Path, failing_os: FailingOS, caplog: pytest.LogCaptureFixture
) -> None:
    """A loop is left by an exception or `break`, which must not turn into another one, nor into noise."""
    with Tracker[Any](path) as tracker:
        tracker.add_many(KEYS)
        with pytest.raises(LookupError):
            for task in tracker.claims(batch=3):
                with task:
                    pass
                failing_os.always["write"] = os_error(errno.ENOSPC)()
                raise LookupError
        assert "No space left" in caplog.text
        failing_os.always.clear()
        assert tracker.counts().claimed == 2
    assert leftovers(path) == {}
    assert {entry["_tries"] - entry["_done"] for entry in stored(path).values()} == {0}


def test_on_a_full_disk_nothing_is_claimed_and_what_is_claimed_goes_on_once_there_is_room(disk: Path) -> None:  # noqa: F811 - the fixture
    path = disk / "my.pod"
    with Tracker[Any](path) as tracker:
        tracker.add_many(KEYS, text="x" * 3000)
        first = claimed(tracker)
        tracker.sync()
        filler = fill(disk)
        taken = [first]
        with pytest.raises(CommitError, match="No space left"):
            while True:
                taken.append(claimed(tracker))
        before = stored(path)
        assert [key for key, entry in before.items() if "_claim" in entry] == [task.key for task in taken]
        with pytest.raises(CommitError, match="No space left"), first:
            first["more"] = "y" * 10_000
        assert not first.ended
        assert stored(path) == before
        filler.unlink()
        for task in taken:
            with task:
                pass
        assert stored(path)["a"]["more"] == "y" * 10_000
        finish(tracker)
    assert leftovers(path) == {}
    assert [(entry["_done"], entry["_tries"]) for entry in stored(path).values()] == [(True, 1)] * 3


def test_on_a_full_disk_the_file_of_a_new_worker_is_an_error_that_names_it(disk: Path) -> None:  # noqa: F811 - the fixture
    path = disk / "my.pod"
    with Tracker[Any](path) as tracker:
        tracker.add_many(KEYS, text="x" * 3000)
        tracker.sync()
        filler = fill(disk)
        with pytest.raises(CommitError, match=r"(No space left.*nothing was claimed|writing failed \(No space left)"):
            tracker.claim()
        assert [name for name in leftovers(path) if not name.startswith("worker-")] == []
        filler.unlink()
        assert finish(tracker) == KEYS
    assert leftovers(path) == {}
