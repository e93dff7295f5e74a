"""What `tastypy status` knows of a tracker: its figures, its rate, its errors. Its workers are for `test_status_workers`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tracker_programs import ask, kill, start

from tastypy import POD, NotATrackerError, Tracker
from tastypy.status import Monitor, Status, opened


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[Any]]:
    """A new tracker."""
    with Tracker[Any](path) as tracker:
        yield tracker


@pytest.fixture
def monitor(tracker: Tracker[Any], path: Path) -> Iterator[Monitor]:
    """What follows the tracker, from the time when it was empty."""
    with opened(str(path)) as reader:
        yield Monitor(reader)


def look(path: Path, max_tries: int | None = None) -> Status:
    """How it stands for one who comes anew."""
    with opened(str(path)) as reader:
        return Monitor(reader, max_tries).look()


def entry(**fields: Any) -> dict[str, Any]:
    return {f"_{name}": value for name, value in fields.items()}


# ------------------------------------------------------------------------------------------------------------ figures


def test_each_task_counts_in_one_state(tracker: Tracker[Any], path: Path) -> None:
    tracker.add("claimed")
    task = tracker.claim()
    tracker["done"] = entry(done=True, tries=9)
    tracker["aborted"] = entry(aborted=True, error="ValueError: no")
    tracker["failed"] = entry(tries=2, error="ValueError: no")
    tracker["often failed"] = entry(tries=3, error="ValueError: no")
    tracker.add("open")
    assert look(path).counts._asdict() == {
        "total": 6, "done": 1, "aborted": 1, "claimed": 1, "given_up": 0, "failed": 2, "open": 1,
    }  # fmt: skip
    assert look(path, max_tries=3).counts[-3:] == (1, 1, 1)
    assert look(path, max_tries=2).counts[-3:] == (2, 0, 1)
    assert task is not None


def test_what_counts_as_given_up_is_what_the_workers_say(tracker: Tracker[Any], path: Path, monitor: Monitor) -> None:
    tracker.add_many(["a", "b", "c"])
    tracker["failed"] = entry(tries=3, error="ValueError: no")
    assert (look(path).max_tries, look(path).counts.given_up) == (0, 0)
    workers = [start("obey", path, max_tries) for max_tries in (2, 3)]
    assert [ask(worker, "claim") for worker in workers] == ["a", "b"]
    assert (look(path).max_tries, look(path).counts.given_up) == (3, 1)
    assert (monitor.look().max_tries, monitor.look().counts.given_up) == (3, 1)
    assert (look(path, max_tries=4).max_tries, look(path, max_tries=4).counts.given_up) == (4, 0)
    unlimited = start("obey", path, 0)
    assert ask(unlimited, "claim") == "c"
    assert (look(path).max_tries, monitor.look().counts.given_up) == (0, 0)
    kill(unlimited)
    assert monitor.look().counts.given_up == 1
    for worker in workers:
        kill(worker)
    assert (look(path).max_tries, look(path).counts.given_up) == (0, 0)
    assert (monitor.look().max_tries, monitor.look().counts.given_up) == (3, 1), "it was said while one watched"


def test_a_look_takes_up_what_has_changed_alone(tracker: Tracker[Any], path: Path) -> None:
    tracker.add_many(range(1000))
    noted: list[set[Any]] = []

    class Counting(Monitor):
        def _note(self, changed: Any) -> None:
            noted.append(set(changed))
            super()._note(changed)

    with opened(str(path)) as reader:
        monitor = Counting(reader)
        monitor.look()
        tracker.mark_done(7)
        tracker["new"] = {}
        assert monitor.look().counts[:2] == (1001, 1)
        monitor.look()
    assert noted == [set(range(1000)), set(), {7, "new"}, set()]


def test_one_who_watches_sees_what_one_sees_who_comes_anew(tracker: Tracker[Any], path: Path, monitor: Monitor) -> None:
    chance = random.Random(1)

    def change(what: str, key: int) -> None:
        match what:
            case "delete":
                tracker.pop(key, None)
            case "fail" | "finish":
                fields = {"done": True} if what == "finish" else {"error": f"ValueError: {key % 3}"}
                tracker.update({key: entry(at=float(key), **fields)})
            case "claim":
                task = tracker.claim()
                if task is not None:
                    end_of_it: list[Callable[[], None]] = [task.done, task.release, lambda: task.fail("no")]
                    chance.choice(end_of_it)()
            case "sync":
                tracker.sync()
            case "clear":
                tracker.clear() if key == 0 else None
            case _:
                tracker.add_if_absent(key)
                mark: Callable[[int], None] = getattr(tracker, what)
                mark(key)

    names = ["delete", "fail", "finish", "claim", "sync", "clear", "mark_done", "mark_not_done", "abort", "unabort"]
    for _ in range(400):
        change(chance.choice(names), chance.randrange(20))
        if chance.random() < 0.5:
            with opened(str(path)) as reader:
                anew = Monitor(reader)
                assert _comparable(monitor.look()) == _comparable(anew.look())
                assert monitor._done == anew._done


def _comparable(status: Status) -> Status:
    """Without what the time of the look decides, and which of equally new errors comes first."""
    errors = [replace(one, key="") for one in sorted(status.errors, key=lambda one: one.text)]
    return replace(status, time=0, rate=None, seconds_left=None, errors=errors)


# --------------------------------------------------------------------------------------------------------------- rate


@pytest.fixture
def rated(tracker: Tracker[Any], path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Status]:
    """How it stands if tasks were done at these times, and it is `now`, all in seconds after a worker began."""

    def rated(done: list[float], now: float, *, left: int = 5) -> Status:
        tracker.add("in hand")
        assert tracker.claim() is not None
        since = look(path).workers[0].since
        assert since is not None
        tracker.update({number: entry(done=True, at=since + at) for number, at in enumerate(done)})
        tracker.add_many([f"left {number}" for number in range(left - 1)])
        monkeypatch.setattr("tastypy.status.time.time", lambda: since + now)
        return look(path)

    return rated


def test_the_rate_is_that_since_the_worker_began(rated: Callable[..., Status]) -> None:
    status = rated([-40.0, -1.0, 10.0, 20.0, 30.0, 40.0], 50.0)
    assert status.rate == pytest.approx(4 / 50)
    assert status.seconds_left == pytest.approx(5 / (4 / 50))


def test_the_rate_is_that_of_the_latest_hundred(rated: Callable[..., Status]) -> None:
    """A hundred of them lie in the last 495 seconds, before which it was slower."""
    slow, fast = [100.0 * number for number in range(1, 101)], [10000.0 + 5 * number for number in range(1, 101)]
    assert rated([*fast, *slow], 10505.0).rate == pytest.approx(99 / 500)


def test_the_rate_of_fast_tasks_is_that_of_the_last_ten_seconds(rated: Callable[..., Status]) -> None:
    """And not of the last hundred, which were done in one burst."""
    steady, burst = [100 + number / 50 for number in range(995)], [119.9 + number / 2000 for number in range(200)]
    assert rated([*steady, *burst], 120.0).rate == pytest.approx((9.9 * 50 + 200) / 10, rel=0.01)


def test_there_is_no_rate_if_nothing_was_done_since_the_worker_began(rated: Callable[..., Status]) -> None:
    status = rated([-2.0, -1.0], 50.0)
    assert (status.rate, status.seconds_left, len(status.workers)) == (None, None, 1)


def test_there_is_no_rate_if_no_worker_is_alive(tracker: Tracker[Any], path: Path) -> None:
    tracker.add_many(range(3))
    worker = start("obey", path)
    assert ask(worker, "claim") == "0"
    time.sleep(0.002)  # times are of a millisecond
    assert ask(worker, "done") == "done"
    assert look(path).rate is not None
    kill(worker)
    assert (look(path).rate, look(path).seconds_left) == (None, None)


def test_times_of_a_host_whose_clock_is_ahead_give_a_rate(rated: Callable[..., Status]) -> None:
    assert rated([100.0, 200.0, 400.0], 50.0).rate == pytest.approx(3 / 400)


# -------------------------------------------------------------------------------------------------------------- errors


def test_errors_are_grouped_by_their_text_the_newest_first(tracker: Tracker[Any], path: Path) -> None:
    tracker.update({("a", n): entry(error="ValueError: old", tries=1, at=10.0 + n) for n in range(5)})
    tracker["x"] = entry(error="KeyError: 'new'\nand more", tries=1, at=20.0)
    tracker["no time"] = entry(error="OSError: when?")
    tracker["mended"] = entry(error="ValueError: old", done=True, at=30.0)
    tracker["aborted"] = entry(error="ValueError: old", aborted=True, at=30.0)
    assert [(one.text, one.count, one.key, one.at) for one in look(path).errors] == [
        ("KeyError: 'new'\nand more", 1, "x", 20.0),
        ("ValueError: old", 5, '#["a",4]', 14.0),
        ("OSError: when?", 1, "no time", None),
    ]


def test_the_error_of_a_task_that_is_tried_again_is_still_there(tracker: Tracker[Any], path: Path) -> None:
    tracker.add("a")
    for task in tracker.claims():
        task.fail("told so")
        break
    task = tracker.claim()  # type: ignore[assignment]  # there is one
    assert [(one.text, one.count) for one in look(path).errors] == [("told so", 1)]
    task.done()
    assert look(path).errors == []


# --------------------------------------------------------------------------------------------------------- odd trackers


def test_a_tracker_without_tasks_is_one(tracker: Tracker[Any], path: Path) -> None:
    assert look(path).counts.total == 0


def test_an_entry_that_was_damaged_is_named_and_all_is_well_once_it_is_mended(
    tracker: Tracker[Any], path: Path, monitor: Monitor
) -> None:
    tracker.add("a")
    with POD[str, Any](path) as pod:
        pod.update({"a": {"_done": True, "_at": 4.0}, "b": 3})
        with pytest.raises(NotATrackerError, match="'b' is 3"):
            monitor.look()
        pod["b"] = {"_done": True, "_at": 5.0}
        assert monitor.look().counts[:2] == (2, 2)
        assert monitor._done == {"a": 4.0, "b": 5.0}
