"""Which workers `tastypy status` takes for alive or dead, and what it says that they have; all in processes of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import end
from tracker_programs import ask, kill, start, worker_files

from tastypy import Tracker, workers
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


def look(path: Path) -> Status:
    """How it stands for one who comes anew."""
    with opened(str(path)) as reader:
        return Monitor(reader).look()


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
        assert [(one.key, one.text.split(" on ")[0]) for one in status.errors] == [("a", "its worker died")]


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
