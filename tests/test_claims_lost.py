"""Claims that are lost, forgotten, or that nobody has."""

from __future__ import annotations

import errno
import gc
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import FailingOS, os_error
from helpers import PATIENCE, files, stored
from tracker_programs import ask, claimed, finish, leftovers, start, worker_files

from tastypy import POD, ClaimLost, CommitError, DirectoryGoneError, Task, Tracker, UnknownOutcomeError

ENDS: dict[str, Callable[[Task], None]] = {
    "done": Task.done,
    "fail": lambda task: task.fail("x"),
    "release": Task.release,
}


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](path) as tracker:
        tracker.add_many(["a", "b"])
        yield tracker


def delete(tracker: Tracker[Any]) -> None:
    del tracker["a"]


def reset(tracker: Tracker[Any]) -> None:
    tracker["a"] = {"new": 1}


def clear(tracker: Tracker[Any]) -> None:
    tracker.clear()


def delete_and_add(tracker: Tracker[Any]) -> None:
    del tracker["a"]
    tracker.add("a")


def claim_by_another(tracker: Tracker[Any]) -> None:
    tracker.update({"a": {"_claim": {"token": "0" * 16, "worker": "f" * 16}}})


FATES: dict[Callable[[Tracker[Any]], None], str] = {
    delete: "the entry was deleted",
    clear: "the entry was deleted",
    reset: "the entry was reset",
    delete_and_add: "the entry was reset",
    claim_by_another: "another worker has claimed it",
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("by", ["this object", "another object"])
@pytest.mark.parametrize("fate", FATES)
def test_the_end_of_a_task_whose_claim_was_lost_says_so_and_writes_nothing(
    tracker: Tracker[Any], path: Path, fate: Callable[[Tracker[Any]], None], by: str, end: str
) -> None:
    task = claimed(tracker)
    task["status"] = 1
    if by == "this object":
        fate(tracker)
    else:
        with Tracker[Any](path) as other:
            fate(other)
    before = stored(path)
    with pytest.raises(ClaimLost, match=f"the claim on 'a' was lost: {FATES[fate]}; nothing was written"):
        ENDS[end](task)
    assert stored(path) == before == tracker
    assert tracker.claim() is not None or fate is clear


@pytest.mark.parametrize("fate", [delete, reset, claim_by_another])
def test_a_loop_logs_a_lost_claim_and_goes_on(
    tracker: Tracker[Any], fate: Callable[[Tracker[Any]], None], caplog: pytest.LogCaptureFixture
) -> None:
    tracker.add_many(["c", "d"])
    seen: list[str] = []
    for task in tracker.claims():
        with task:
            if seen == []:
                fate(tracker)
            seen.append(task.key)
    assert seen == ["a", "b", "c", "d", *["a"] * (fate is not delete)]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"the claim on 'a' was lost: {FATES[fate]}" in caplog.text


def test_two_workers_never_end_one_task_where_somebody_reset_its_entry(tracker: Tracker[Any], path: Path) -> None:
    task = claimed(tracker)
    reset(tracker)
    other = start("obey", path)
    assert [ask(other, "claim") for _ in range(2)] == ["a", "b"] or ask(other, "done")
    with pytest.raises(ClaimLost, match="another worker has claimed it"):
        task.done()
    assert stored(path)["a"]["_claim"]["worker"] != task.claim["worker"]


def test_marking_a_task_leaves_its_claim_to_the_worker(tracker: Tracker[Any]) -> None:
    """It may store what it found, and nobody else gets the task meanwhile."""
    task = claimed(tracker)
    for mark in (tracker.mark_done, tracker.abort, tracker.unabort, tracker.mark_not_done, tracker.increment_tries):
        mark("a")
    tracker.update({"a": {"depth": 1}})
    assert [task.key for task in [claimed(tracker)]] == ["b"]
    assert tracker.claim() is None
    task.done(x=1)
    assert {**tracker["a"], "_at": 0} == {
        "_done": True,
        "_aborted": False,
        "_tries": 2,
        "depth": 1,
        "x": 1,
        "_at": 0,
        "_worker": task.worker.label,
    }


def test_a_lost_claim_in_a_batch_concerns_that_task_only(
    tracker: Tracker[Any], caplog: pytest.LogCaptureFixture
) -> None:
    tracker.add("c")
    seen = []
    for task in tracker.claims(batch=3):
        if task.key == "a":
            del tracker["b"]
        seen.append(task.key)
        with task:
            pass
    assert seen == ["a", "b", "c"]
    assert "the claim on 'b' was lost" in caplog.text
    assert {key: entry["_done"] for key, entry in tracker.items()} == {"a": True, "c": True}


def test_the_directory_that_is_gone_is_an_error_of_its_own(tracker: Tracker[Any], path: Path) -> None:
    task = claimed(tracker)
    path.rename(path.with_name("elsewhere"))
    for call in (task.done, task.release, tracker.claim):
        with pytest.raises(DirectoryGoneError):
            call()
    path.with_name("elsewhere").rename(path)
    task.done()


# ------------------------------------------------------------------------------------------------ a worker taken for dead


def test_a_worker_whose_file_was_removed_counts_as_dead_and_begins_anew(
    tracker: Tracker[Any], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = claimed(tracker)
    (file,) = worker_files(path)
    file.unlink()
    other = start("obey", path)
    assert {ask(other, "claim"), ask(other, "claim")} == {"a", "b"}
    assert stored(path)["a"]["_tries"] == 1
    assert "its worker died" in stored(path)["a"]["_error"]
    with pytest.raises(ClaimLost, match="another worker has claimed it"):
        task.done()
    tracker.add("c")
    again = claimed(tracker)
    assert again.claim["worker"] != task.claim["worker"]
    assert "was taken for dead" in caplog.text
    assert len(worker_files(path)) == 2
    assert ask(other, "claim") == "None"
    again.done()


def test_a_worker_that_nobody_missed_ends_its_task_though_its_file_was_removed(
    tracker: Tracker[Any], path: Path
) -> None:
    task = claimed(tracker)
    (file,) = worker_files(path)
    file.unlink()
    task.done()
    assert tracker.counts().done == 1


# --------------------------------------------------------------------------------------------------- tasks that are dropped


def test_a_task_that_is_dropped_stays_claimed_until_its_tracker_is_closed(tracker: Tracker[Any], path: Path) -> None:
    assert claimed(tracker).key == "a"
    gc.collect()
    other = start("obey", path)
    assert [ask(other, "claim") for _ in range(2)] == ["b", "None"]
    tracker.refresh()
    assert tracker.counts().claimed == 2
    tracker.close()
    assert ask(other, "claim") == "a"
    assert stored(path)["a"]["_tries"] == 0


def test_a_tracker_that_is_dropped_with_a_task_stays_until_the_process_ends(path: Path) -> None:
    program = start("obey", path)
    assert ask(program, "add a") == "1"
    assert ask(program, "claim") == "a"
    assert ask(program, "forget") == "forgotten"
    with Tracker[Any](path) as tracker:
        assert tracker.claim() is None
        program.communicate(timeout=PATIENCE)
        assert leftovers(path) == {}
        assert claimed(tracker).tries == 0


def test_a_claim_that_names_no_known_worker_is_a_dead_ones(tracker: Tracker[Any]) -> None:
    claim_by_another(tracker)
    assert finish(tracker) == ["b", "a"]
    assert tracker.tries("a") == 2


# -------------------------------------------------------------------------------------------------- claims that nobody has


def unknown_outcome(path: Path, failing_os: FailingOS) -> Tracker[Any]:
    """A tracker whose next commits reach the disk, and that cannot know it."""
    tracker = Tracker[Any](path, durable=True)
    tracker.sync()  # the line in `.lock` is on stable storage, so that the next commit begins with its batch
    failing_os.always.update(fdatasync=os_error(errno.EIO)(), ftruncate=os_error(errno.EIO)())
    return tracker


@pytest.mark.parametrize("batch", [1, 2])
def test_a_claim_of_unknown_outcome_is_taken_up_by_the_next_one(
    tracker: Tracker[Any], path: Path, failing_os: FailingOS, batch: int
) -> None:
    with unknown_outcome(path, failing_os) as other:
        with pytest.raises(UnknownOutcomeError):
            next(other.claims(batch=batch))
        failing_os.always.clear()
        assert len([key for key, entry in stored(path).items() if "_claim" in entry]) == batch
        assert sorted(finish(other)) == ["a", "b"]
    assert [(entry["_done"], entry["_tries"]) for entry in stored(path).values()] == [(True, 1)] * 2
    assert leftovers(path) == {}


@pytest.mark.parametrize("batch", [1, 2])
def test_a_claim_of_unknown_outcome_is_given_back_when_the_tracker_is_closed(
    tracker: Tracker[Any], path: Path, failing_os: FailingOS, batch: int
) -> None:
    other = unknown_outcome(path, failing_os)
    with pytest.raises(UnknownOutcomeError):
        next(other.claims(batch=batch))
    failing_os.always.clear()
    other.close()
    assert leftovers(path) == {}
    assert [claimed(tracker).tries for _ in range(2)] == [0, 0]


def test_a_claim_of_unknown_outcome_is_found_beside_one_that_was_lost(
    tracker: Tracker[Any], path: Path, failing_os: FailingOS
) -> None:
    with Tracker[Any](path, durable=True) as other:
        lost = claimed(other)
        del tracker["a"]
        failing_os.always.update(fdatasync=os_error(errno.EIO)(), ftruncate=os_error(errno.EIO)())
        with pytest.raises(UnknownOutcomeError):
            other.claim()
        failing_os.always.clear()
        assert finish(other) == ["b"]
        with pytest.raises(ClaimLost):
            lost.done()


@pytest.mark.parametrize("end", ENDS)
def test_an_end_of_unknown_outcome_is_not_made_twice(
    tracker: Tracker[Any], path: Path, failing_os: FailingOS, end: str
) -> None:
    with Tracker[Any](path, durable=True) as other:
        task = claimed(other)
        failing_os.always.update(fdatasync=os_error(errno.EIO)(), ftruncate=os_error(errno.EIO)())
        with pytest.raises(UnknownOutcomeError):
            ENDS[end](task)
        failing_os.always.clear()
        before = stored(path)["a"]
        assert "_claim" not in before
        with pytest.raises(ClaimLost):
            ENDS[end](task)
        assert stored(path)["a"] == before
        assert sorted(finish(other)) == ["b"] if end == "done" else ["a", "b"]
    assert leftovers(path) == {}


def test_a_claim_that_ctrl_c_interrupted_after_it_was_written_is_given_back(
    tracker: Tracker[Any], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed(tracker).release()
    append = tracker._store.append

    def interrupted(*arguments: Any, **options: Any) -> Any:
        append(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(tracker._store, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tracker.claim()
    monkeypatch.undo()
    assert len([key for key, entry in stored(path).items() if "_claim" in entry]) == 1
    tracker.close()
    assert leftovers(path) == {}
    assert {entry["_tries"] for entry in stored(path).values()} == {0}


def test_a_claim_that_ctrl_c_interrupted_before_it_was_written_leaves_nothing(
    tracker: Tracker[Any], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Any:
        Task(*arguments, **options)
        raise KeyboardInterrupt

    claimed(tracker).release()
    monkeypatch.setattr("tastypy.claims.Task", interrupted)
    before = files(path)
    with pytest.raises(KeyboardInterrupt):
        tracker.claim()
    monkeypatch.undo()
    assert files(path) == before
    tracker.close()
    assert leftovers(path) == {}


def test_a_task_that_could_not_be_taken_in_hand_is_one_task_still(tracker: Tracker[Any], failing_os: FailingOS) -> None:
    """Whether it is given back or goes on: nobody gets it while it goes on."""
    tracker.add_many(["c", "d", "e", "f"])
    tasks = tracker._claim(3)
    failing_os.always["pwrite"] = os_error(errno.EIO)()
    with pytest.raises(CommitError, match="in hand could not be written"), tasks[0]:
        raise AssertionError
    failing_os.always.clear()
    others = [task.key for task in iter(tracker.claim, None)]
    assert tasks[0].ended or "a" not in others
    for task in tasks:
        if not task.ended:
            with task:
                pass
            assert tracker.done(task.key)


def test_a_plain_pod_that_was_a_tracker_shows_the_claims_and_nothing_breaks(tracker: Tracker[Any], path: Path) -> None:
    task = claimed(tracker)
    with POD[Any, Any](path) as pod:
        assert pod["a"]["_claim"] == task.claim
        pod["c"] = {"depth": 2}
    task.done()
    assert finish(tracker) == ["b", "c"]
