"""What `tastypy status` knows of a tracker: its figures, its workers alive and dead, its errors; with workers in processes."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import end
from tracker_programs import ask, kill, start, worker_files

from tastypy import POD, NotATrackerError, Tracker, workers
from tastypy.run import _marked
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
    assert [ask(worker, word) for word in ("claim", "done")] == ["0", "done"]
    assert look(path).rate is not None
    kill(worker)
    assert (look(path).rate, look(path).seconds_left) == (None, None)


def test_times_of_a_host_whose_clock_is_ahead_give_a_rate(rated: Callable[..., Status]) -> None:
    assert rated([100.0, 200.0, 400.0], 50.0).rate == pytest.approx(3 / 400)


# ------------------------------------------------------------------------------------------------------------- workers


def test_a_worker_is_shown_with_what_it_has_in_hand_and_ahead(tracker: Tracker[Any], path: Path) -> None:
    tracker.add_many([*"abcde"])
    worker, idle = start("obey", path), start("obey", path)
    assert ask(idle, "claim") == "a"
    assert ask(idle, "done") == "done"
    assert [ask(worker, word) for word in ("loop_over 3", "step", "step")] == ["begun", "b", "c"]
    status = look(path)
    first, second = sorted(status.workers, key=lambda one: len(one.tasks))
    assert (first.pid, first.tasks, second.pid) == (idle.pid, [], worker.pid)
    assert [(held.key, held.in_hand) for held in second.tasks] == [("b", True), ("c", True), ("d", False)]
    tracker.refresh()
    assert {held.since for held in second.tasks} == {tracker["d"]["_at"]}
    assert second.host == os.uname().nodename
    assert second.since is not None
    assert status.time - 60 < second.since < status.time
    assert (status.dead, status.runs) == ([], [])
    assert end(worker) == 0  # its input has ended
    assert [one.pid for one in look(path).workers] == [idle.pid]


def test_a_stopped_worker_is_alive(tracker: Tracker[Any], path: Path) -> None:
    tracker.add("a")
    worker = start("obey", path)
    assert ask(worker, "claim") == "a"
    worker.send_signal(signal.SIGSTOP)
    assert [one.pid for one in look(path).workers] == [worker.pid]


def test_a_killed_worker_is_dead_as_long_as_it_has_claims(tracker: Tracker[Any], path: Path, monitor: Monitor) -> None:
    tracker.add_many([*"abc"])
    worker = start("obey", path)
    assert [ask(worker, word) for word in ("loop_over 3", "step")] == ["begun", "a"]
    kill(worker)
    for status in (look(path), monitor.look()):
        assert status.workers == []
        assert [(one.pid, len(one.tasks), one.tasks[0].in_hand) for one in status.dead] == [(worker.pid, 3, True)]
        assert status.counts.claimed == 3
    task = tracker.claim()
    assert task is not None
    for status in (look(path), monitor.look()):
        assert ([one.pid for one in status.workers], status.dead) == ([os.getpid()], [])
        assert [(one.key, one.text.split(" (")[0]) for one in status.errors] == [("a", "its worker died")]


def test_a_killed_worker_without_claims_is_forgotten(tracker: Tracker[Any], path: Path) -> None:
    tracker.add("a")
    worker = start("obey", path)
    assert [ask(worker, word) for word in ("claim", "done")] == ["a", "done"]
    kill(worker)
    assert len(worker_files(path)) == 1
    assert (look(path).workers, look(path).dead) == ([], [])


def test_a_worker_whose_file_is_gone_is_dead_and_nobody_knows_who_it_was(tracker: Tracker[Any], path: Path) -> None:
    tracker.add("a")
    worker = start("obey", path)
    assert ask(worker, "claim") == "a"
    kill(worker)
    (file,) = worker_files(path)
    file.unlink()
    (gone,) = look(path).dead
    assert (gone.host, gone.pid, gone.since, [held.key for held in gone.tasks]) == (None, None, None, ["a"])


def test_a_damaged_file_of_a_worker_does_no_harm(tracker: Tracker[Any], path: Path) -> None:
    tracker.add_many([*"ab"])
    worker = start("obey", path)
    assert ask(worker, "claim") == "a"
    (file,) = worker_files(path)
    for text in ("", "[1]\n", "nonsense\n", '{"host":1,"pid":"x","since":[],"max_tries":"3"}\n"\n'):
        file.write_text(text)
        (one,) = look(path).workers
        assert (one.host, one.pid, one.since, [held.key for held in one.tasks]) == (None, None, None, ["a"])
        assert look(path).rate is None


def test_a_run_is_no_worker_and_is_forgotten_when_it_was_killed(tracker: Tracker[Any], path: Path) -> None:
    tracker.add("a")
    with _marked(tracker):
        status = look(path)
        assert ([one.pid for one in status.runs], status.workers, status.max_tries) == ([os.getpid()], [], 0)
        (file,) = worker_files(path)
        (path / f"worker-{16 * 'f'}.jsonl").write_bytes(file.read_bytes())  # what is left of another
        assert [one.name for one in look(path).runs] == [status.runs[0].name]
    status = look(path)
    assert (status.runs, status.dead) == ([], [])


def test_a_worker_that_ends_during_the_look_is_not_dead(
    tracker: Tracker[Any], path: Path, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claim was there before the files were looked at, and when they are its file is gone."""
    tracker.add("a")
    worker = start("obey", path)
    assert ask(worker, "claim") == "a"
    seen = workers.seen

    def ended_meanwhile(store: Any) -> Any:
        monkeypatch.undo()
        assert end(worker) == 0
        return seen(store)

    monkeypatch.setattr(workers, "seen", ended_meanwhile)
    assert monitor.look().dead == []


def test_a_worker_that_begins_during_the_look_is_alive(
    tracker: Tracker[Any], path: Path, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file was not there when the files were looked at, and its claim is there when the entries are."""
    tracker.add("a")
    worker = start("obey", path)
    refresh = Tracker.refresh

    def claimed_meanwhile(self: Tracker[Any]) -> set[Any]:
        monkeypatch.undo()
        assert ask(worker, "claim") == "a"
        return refresh(self)

    monkeypatch.setattr(Tracker, "refresh", claimed_meanwhile)
    status = monitor.look()
    assert ([one.pid for one in status.workers], status.dead) == ([worker.pid], [])


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
