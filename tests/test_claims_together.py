"""Claims beside other workers, holds, transactions, objects and threads."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers import PATIENCE, in_child, stored
from tracker_programs import ask, claimed, finish, kill, leftovers, start

from tastypy import Tracker, TransactionError

TrackerOpener = Callable[..., Tracker[Any]]


@pytest.fixture
def trackers(path: Path) -> Iterator[TrackerOpener]:
    """Open trackers that are closed when the test ends."""
    opened: list[Tracker[Any]] = []

    def open_one(**options: Any) -> Tracker[Any]:
        opened.append(Tracker(path, **options))
        return opened[-1]

    yield open_one
    for tracker in reversed(opened):
        tracker.close()


@pytest.fixture
def tracker(trackers: TrackerOpener) -> Tracker[Any]:
    return trackers()


def run_threads(*bodies: Callable[[], object]) -> None:
    """Run each body in a thread of its own; their exceptions are raised here."""
    failed: list[BaseException] = []

    def body_of(body: Callable[[], object]) -> None:
        try:
            body()
        except BaseException as error:  # raised again below
            failed.append(error)

    threads = [threading.Thread(target=body_of, args=(body,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a deadlock"
    for error in failed:
        raise error


# ---------------------------------------------------------------------------------------------------------------- waiting


@pytest.fixture
def waiting(tracker: Tracker[Any]) -> Iterator[tuple[threading.Thread, list[Any]]]:
    """A loop in a thread that waits for tasks, and the keys of those that it has finished so far."""
    keys: list[Any] = []

    def loop() -> None:
        for task in tracker.claims(wait=True):
            with task:
                keys.append(task.key)

    thread = threading.Thread(target=loop, daemon=True)
    yield thread, keys
    if thread.is_alive():  # the test has failed
        tracker.clear()
        thread.join(PATIENCE)


def still_waits(thread: threading.Thread) -> bool:
    """Whether the loop, which has nothing to do, goes on for some time."""
    thread.join(0.1)
    return thread.is_alive()


Waiting = tuple[threading.Thread, list[Any]]


def test_a_loop_that_waits_goes_on_with_what_others_add_or_give_back(path: Path, waiting: Waiting) -> None:
    thread, keys = waiting
    other = start("obey", path)
    assert ask(other, "add a b") == "2"
    assert ask(other, "claim") == "a"
    thread.start()
    assert still_waits(thread)
    assert keys == ["b"]
    assert ask(other, "add c") == "1"
    assert still_waits(thread)
    assert keys == ["b", "c"]
    assert ask(other, "fail") == "failed"
    thread.join(PATIENCE)
    assert keys == ["b", "c", "a"]


def test_a_loop_that_waits_ends_when_nothing_is_open_or_claimed(
    tracker: Tracker[Any], path: Path, waiting: Waiting
) -> None:
    thread, keys = waiting
    other = start("obey", path)
    assert ask(other, "add a") == "1"
    assert ask(other, "claim") == "a"
    assert finish(tracker) == []
    thread.start()
    assert still_waits(thread)
    assert ask(other, "done") == "done"
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert keys == []


def test_a_loop_that_waits_takes_over_from_a_worker_that_is_killed(
    tracker: Tracker[Any], path: Path, waiting: Waiting
) -> None:
    thread, keys = waiting
    other = start("obey", path)
    assert ask(other, "add a") == "1"
    assert ask(other, "claim") == "a"
    thread.start()
    assert still_waits(thread)
    kill(other)
    thread.join(PATIENCE)
    assert keys == ["a"]
    assert tracker.tries("a") == 2


def test_a_loop_that_waits_for_tasks_that_nobody_can_end_any_more_says_so_and_ends(
    tracker: Tracker[Any], caplog: pytest.LogCaptureFixture, waiting: Waiting
) -> None:
    tracker.add_many(["a", "b"])
    claimed(tracker)
    claimed(tracker)
    thread, _ = waiting
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    (record,) = caplog.records
    assert "2 tasks were claimed here and neither done nor released, 'a' the first" in record.getMessage()
    assert "use `with task:`" in record.getMessage()


def test_a_loop_that_waits_and_ends_no_task_does_not_wait_for_itself(
    tracker: Tracker[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The plainest mistake: no `with`. The variable of the loop has the last task still, and nobody else is there."""
    tracker.add_many(["a", "b"])

    def child() -> None:
        for _ in tracker.claims(wait=True):
            pass
        (record,) = caplog.records
        assert "use `with task:`" in record.getMessage()

    assert in_child(child, patience=10) == 0


def test_a_loop_that_waits_says_once_what_it_does_not_wait_for(
    tracker: Tracker[Any], path: Path, waiting: Waiting, caplog: pytest.LogCaptureFixture
) -> None:
    thread, keys = waiting
    tracker.add("dropped")
    claimed(tracker)
    other = start("obey", path)
    assert ask(other, "add a") == "1"
    assert ask(other, "claim") == "a"
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    assert ask(other, "done") == "done"
    thread.join(PATIENCE)
    assert keys == []
    assert len(caplog.records) == 1


# -------------------------------------------------------------------------------------------------- holds and transactions


def test_a_claim_under_hold_is_committed_at_once_and_what_is_held_stays_held(tracker: Tracker[Any], path: Path) -> None:
    tracker.add_many(["a", "b"])
    with tracker.hold():
        tracker.update({"b": {"depth": 1}})
        task = claimed(tracker)
        assert stored(path)["a"]["_claim"] == task.claim
        assert "depth" not in stored(path)["b"]
        task.done(x=1)
        assert stored(path)["a"]["x"] == 1
        assert tracker.dirty() == {"b"}
        keys = finish(tracker, batch=2)
    assert keys + finish(tracker, batch=2) == ["b"]
    assert stored(path)["b"]["depth"] == 1
    assert [(entry["_done"], entry["_tries"]) for entry in stored(path).values()] == [(True, 1)] * 2


def test_a_task_that_was_added_under_hold_can_be_claimed(tracker: Tracker[Any], path: Path) -> None:
    with tracker.hold():
        tracker.add_many(["a", "b"])
        claimed(tracker).done()
        assert stored(path).keys() == {"a"}
    assert stored(path)["a"]["_done"]
    assert not stored(path)["b"]["_done"]


@pytest.mark.parametrize("change", ["update", "increment_tries", "abort"])
def test_what_is_held_does_not_hide_that_another_worker_has_the_task(
    tracker: Tracker[Any], path: Path, change: str
) -> None:
    """Nor does it take the claim away when it is written: two would have the task else."""
    tracker.add("a")
    other = start("obey", path)
    with tracker.hold():
        if change == "update":
            tracker.update({"a": {"depth": 1}})
        else:
            getattr(tracker, change)("a")
        assert ask(other, "claim") == "a"
        assert tracker.claim() is None
    assert "_claim" in stored(path)["a"]
    assert tracker.claim() is None
    assert ask(other, "done") == "done"
    assert stored(path)["a"]["_done"]


def test_no_claim_inside_a_transaction_of_the_same_thread(
    tracker: Tracker[Any], trackers: TrackerOpener, path: Path
) -> None:
    tracker.add_many(["a", "b"])
    other, loop = trackers(), tracker.claims()
    with tracker.transaction():
        with pytest.raises(TransactionError, match="claim inside a transaction"):
            tracker.claim()
        with pytest.raises(TransactionError):
            next(loop)
        with pytest.raises(TransactionError):
            other.claim()
    assert leftovers(path) == {}
    assert claimed(tracker).key == "a"


def test_a_claim_waits_for_a_transaction_of_another_thread(tracker: Tracker[Any]) -> None:
    tracker.add_many(["a", "b"])
    inside, leave = threading.Event(), threading.Event()

    def transact() -> None:
        with tracker.transaction():
            del tracker["a"]
            inside.set()
            leave.wait(PATIENCE)

    def claim() -> None:
        inside.wait(PATIENCE)
        threading.Timer(0.05, leave.set).start()
        assert claimed(tracker).key == "b"
        assert leave.is_set()

    run_threads(transact, claim)


# ---------------------------------------------------------------------------------------------------- objects and threads


def test_objects_of_one_process_are_one_worker_and_get_different_tasks(
    trackers: TrackerOpener, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = trackers(), trackers()
    one.add_many(range(6))
    tasks = [claimed(tracker) for tracker in (one, two, one, two)]
    assert [task.key for task in tasks] == [0, 1, 2, 3]
    assert len({task.claim["worker"] for task in tasks}) == 1
    one.close()
    assert [key for key, entry in stored(path).items() if "_claim" in entry] == [1, 3]
    for task in tasks[1::2]:
        task.done()
    assert sorted(finish(two)) == [0, 2, 4, 5]
    two.close()
    assert leftovers(path) == {}
    assert {entry["_tries"] for entry in stored(path).values()} == {1}
    assert caplog.records == []


def test_an_object_goes_on_after_another_one_of_its_process_was_closed(
    trackers: TrackerOpener, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = trackers(), trackers()
    one.add_many(range(4))
    claimed(one).done()
    claimed(two).done()
    one.close()
    assert finish(two) == [2, 3]
    two.close()
    assert leftovers(path) == {}
    assert caplog.records == []


def test_an_object_may_be_closed_inside_a_transaction_of_another_one(
    trackers: TrackerOpener, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = trackers(), trackers()
    one.add_many(range(3))
    claimed(two).done()
    two.sync()  # what it wrote would have to be settled
    with one.transaction():
        two.close()
    assert finish(one) == [1, 2]
    assert caplog.records == []


@pytest.mark.parametrize("batch", [1, 3])
def test_threads_share_a_tracker_and_no_two_get_one_task(tracker: Tracker[Any], path: Path, batch: int) -> None:
    tracker.add_many(range(120))
    seen: list[int] = []
    inside: set[int] = set()
    overlaps: list[int] = []

    def work() -> None:
        for task in tracker.claims(batch=batch, wait=True):
            with task:
                if task.key in inside:
                    overlaps.append(task.key)
                inside.add(task.key)
                seen.append(task.key)
                time.sleep(0)
                inside.discard(task.key)

    run_threads(work, work, work, work)
    assert sorted(seen) == [*range(120)]
    assert overlaps == []
    assert {entry["_tries"] for entry in stored(path).values()} == {1}
    assert tracker.counts().done == 120


def test_threads_with_objects_of_their_own_fail_release_and_finish_every_task(
    trackers: TrackerOpener, path: Path
) -> None:
    trackers().add_many(range(60))
    ends: Counter[str] = Counter()

    def work(tracker: Tracker[Any], number: int) -> None:
        for turn, task in enumerate(tracker.claims(batch=1 + number, wait=True)):
            end = ("done", "fail", "release")[(turn + number) % 3]
            task.fail("x") if end == "fail" else getattr(task, end)()
            ends[end] += 1

    objects = [trackers() for _ in range(3)]
    run_threads(*(partial(work, one, number) for number, one in enumerate(objects)))
    entries = stored(path)
    assert ends["done"] == 60
    assert all(entry["_done"] for entry in entries.values())
    assert sum(entry["_tries"] for entry in entries.values()) == 60 + ends["fail"]
