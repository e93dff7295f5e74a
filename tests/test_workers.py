"""The file of a worker: how long it is there and locked, what it says, and what happens where it cannot be created."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
from faults import FailingOS, os_error
from helpers import end, in_child, stored, tell
from tracker_programs import ask, claimed, finish, kill, leftovers, open_files_of_workers, start, worker_files

from stress.points import each_point
from tastypy import POD, CommitError, PermissionDeniedError, Tracker, entries, workers

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of .*fork:DeprecationWarning")


@pytest.fixture
def tracker(path: Path) -> Iterator[Tracker[Any]]:
    with Tracker[Any](path) as tracker:
        tracker.add_many(range(10))
        yield tracker


@pytest.fixture(params=["local", "network"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the file system is taken for."""
    if request.param == "network":
        monkeypatch.setattr("tastypy.files.is_local", lambda descriptor: False)
    return str(request.param)


def is_locked(file: Path) -> bool:
    """Whether somebody has the lock of a file."""
    with file.open("r+b") as other:
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def in_hand(file: Path) -> set[str]:
    """The tokens that a worker's file names."""
    tokens = set()
    for line in file.read_bytes().splitlines()[1:]:
        token = json.loads(line)
        assert len(token) == 16
        tokens.add(token)
    return tokens - {" " * 16}


# ---------------------------------------------------------------------------------------------------------- when it is there


def test_a_worker_has_a_file_from_its_first_claim_until_its_tracker_is_closed(path: Path, place: str) -> None:
    with Tracker[Any](path) as tracker:
        tracker.add_many(range(3))
        assert tracker.counts().open == 3
        assert worker_files(path) == []
        claimed(tracker).done()
        (file,) = worker_files(path)
        assert is_locked(file)
        assert finish(tracker) == [1, 2]
        assert worker_files(path) == [file]
        assert is_locked(file)
        assert tracker.claim() is None
    assert leftovers(path) == {}


def test_a_tracker_that_claims_nothing_has_no_file(tracker: Tracker[Any], path: Path) -> None:
    for key in tracker:
        tracker.mark_done(key)
    assert tracker.claim() is None
    assert [*tracker.claims()] == []
    assert worker_files(path) == []


def assert_swept(tracker: Tracker[Any], path: Path, state: str) -> None:
    """A process that has nothing in hand need not look after its file: the next worker that begins does."""
    if state == "none in hand":
        claimed(tracker).release()
        tracker.close()
    assert leftovers(path) == {}


@pytest.mark.parametrize(("word", "status"), [("exit", 3), ("raise_outside", 1)])
@pytest.mark.parametrize("state", ["one in hand", "none in hand"])
def test_the_file_is_removed_at_the_end_of_the_process(
    tracker: Tracker[Any], path: Path, word: str, status: int, state: str, capfd: pytest.CaptureFixture[str]
) -> None:
    program = start("obey", path)
    ask(program, "claim")
    if state == "none in hand":
        ask(program, "done")
    assert len(worker_files(path)) == 1
    tell(program, word)
    assert end(program) == status
    assert_swept(tracker, path, state)
    capfd.readouterr()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("state", ["one in hand", "none in hand"])
def test_the_file_is_removed_at_a_signal_that_ends_the_process(
    tracker: Tracker[Any], path: Path, number: signal.Signals, state: str, capfd: pytest.CaptureFixture[str]
) -> None:
    program = start("obey", path)
    ask(program, "claim")
    if state == "none in hand":
        ask(program, "done")
    assert len(worker_files(path)) == 1
    program.send_signal(number)
    assert end(program) == -number
    assert_swept(tracker, path, state)
    capfd.readouterr()


def test_the_file_of_a_killed_worker_stays_unlocked_until_the_next_claim(tracker: Tracker[Any], path: Path) -> None:
    program = start("obey", path)
    assert ask(program, "claim") == "0"
    (file,) = worker_files(path)
    kill(program)
    assert worker_files(path) == [file]
    assert not is_locked(file)
    tracker.refresh()
    assert stored(path)[0]["_claim"]["worker"] in file.name
    assert sorted(finish(tracker)) == [*range(10)]
    assert file not in worker_files(path)


def test_a_new_worker_removes_what_is_left_of_those_that_died_without_a_claim(
    tracker: Tracker[Any], path: Path
) -> None:
    for _ in range(3):
        program = start("obey", path)
        ask(program, "claim")
        ask(program, "done")
        kill(program)
    assert worker_files(path) != []
    living = start("obey", path)
    assert ask(living, "claim") == "3"
    claimed(tracker)
    assert len(worker_files(path)) == 2
    assert all(is_locked(file) for file in worker_files(path))


def test_the_files_of_dead_workers_do_not_pile_up_beside_many_living_ones(tracker: Tracker[Any], path: Path) -> None:
    living = []
    for number in range(20):
        file = (path / f"worker-{number:016x}.jsonl").open("w")
        fcntl.flock(file, fcntl.LOCK_EX)
        living.append(file)
    for number in range(20):
        (path / f"worker-f{number:015x}.jsonl").write_text("{}\n")
    for _ in range(30):

        def claim() -> None:
            with Tracker[Any](path) as mine:
                claimed(mine).release()

        assert in_child(claim) == 0
    for file in living:
        file.close()
    assert len([file for file in worker_files(path) if file.name.startswith("worker-f")]) < 5


def test_the_file_of_a_dead_worker_is_not_swept_before_its_claims_were_seen_to(path: Path) -> None:
    """It says what was in hand. A new worker that has not looked for a while must not take it for one without claims."""
    with Tracker[Any](path) as first, Tracker[Any](path) as second:
        first.add_many(range(20))
        claimed(first).done()
        claimed(second).done()
        program = start("obey", path)
        ask(program, "loop_over 3")
        assert ask(program, "step") == "2"
        kill(program)
        second.close()  # the worker of this process ends, and begins anew with the next claim
        claimed(first).done()
        assert {2, 3, 4} <= {*finish(first)}
        assert [stored(path)[key]["_tries"] for key in (2, 3, 4)] == [2, 1, 1]
    assert leftovers(path) == {}


# --------------------------------------------------------------------------------------------------------------- what it says


def test_the_file_is_json_lines_who_the_worker_is_first(
    tracker: Tracker[Any], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "time_now", lambda: 1234.567)
    claimed(tracker)
    (file,) = worker_files(path)
    who, *tokens = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert (who["host"], who["pid"]) == (os.uname().nodename, os.getpid())
    assert who["since"] == 1234.567
    assert [token.strip() for token in tokens] == [""]


def test_of_a_batch_the_file_names_what_is_in_hand(tracker: Tracker[Any], path: Path) -> None:
    loop = tracker.claims(batch=4)
    tasks = [next(loop)]
    (file,) = worker_files(path)
    assert in_hand(file) == {tasks[0].claim["token"]}
    tasks += [next(loop), next(loop)]
    assert in_hand(file) == {task.claim["token"] for task in tasks}
    for task in tasks:
        task.done()
    tasks += [next(loop), next(loop)]
    assert in_hand(file) >= {task.claim["token"] for task in tasks[3:]}
    assert len(file.read_bytes().splitlines()) == 4  # places are used again
    for task in tasks[3:]:
        task.done()


def test_a_task_of_a_batch_is_in_hand_once_its_block_is_entered(tracker: Tracker[Any], path: Path) -> None:
    tasks = tracker._claim(3)
    (file,) = worker_files(path)
    assert in_hand(file) == set()
    with tasks[1]:
        assert in_hand(file) == {tasks[1].claim["token"]}


def test_a_token_is_read_though_the_one_in_front_of_it_is_not_written_yet(tracker: Tracker[Any], path: Path) -> None:
    """Two threads take tasks in hand, and the second one writes first."""
    claimed(tracker)
    (file,) = worker_files(path)
    token = "0123456789abcdef"
    with file.open("ab") as end:
        end.write(b"\0" * 19 + f'"{token}"\n'.encode())
    assert token in workers.seen(tracker._store)[0].in_hand


def test_the_file_may_be_read_and_written_by_those_who_may_read_and_write_the_directory(
    tracker: Tracker[Any], path: Path
) -> None:
    path.chmod(0o2770)
    with Tracker[Any](path) as other:
        before = os.umask(0o077)
        try:
            claimed(other)
        finally:
            os.umask(before)
        (file,) = worker_files(path)
        assert file.stat().st_mode & 0o777 == 0o660


def test_check_and_a_fold_leave_the_file_alone(tracker: Tracker[Any], path: Path) -> None:
    task = claimed(tracker)
    tracker.sync()
    with POD[Any, Any](path) as pod:
        pod["x"] = {}
        pod.sync()
        pod.sync()
        assert pod.check() == []
    (file,) = worker_files(path)
    assert is_locked(file)
    task.done()


# ----------------------------------------------------------------------------------------------- where it cannot be created


@pytest.mark.parametrize("call", ["open", "pwrite", "rename", "fchmod"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_where_it_cannot_be_created_nothing_is_claimed(
    tracker: Tracker[Any], path: Path, failing_os: FailingOS, call: str, number: int, place: str
) -> None:
    assert tracker.counts().open == 10

    def fail(*arguments: Any, **_: Any) -> None:
        if call != "open" or ".tmp" in str(arguments[0]):
            raise OSError(number, os.strerror(number))

    failing_os.before[call] = fail
    with pytest.raises(CommitError, match=r"worker-.* cannot be created .*; nothing was claimed") as caught:
        tracker.claim()
    assert caught.value.errno == number
    failing_os.before.clear()
    assert leftovers(path) == {}
    assert tracker.counts().open == 10
    assert finish(tracker) == [*range(10)]


def test_without_permission_to_create_it_nothing_is_claimed(
    tracker: Tracker[Any], path: Path, failing_os: FailingOS
) -> None:
    failing_os.always["rename"] = os_error(errno.EACCES)()
    with pytest.raises(PermissionDeniedError, match=r"worker-.*: no permission to create .*; nothing was claimed"):
        tracker.claim()
    failing_os.always.clear()
    assert leftovers(path) == {}
    assert finish(tracker) == [*range(10)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, os_error(errno.EIO)], ids=["Ctrl-C", "EIO"])
@pytest.mark.parametrize("call", ["rename", "fstat", "pwrite"])
def test_a_worker_that_was_interrupted_when_it_began_leaves_neither_a_file_nor_a_descriptor(
    tracker: Tracker[Any], path: Path, failing_os: FailingOS, call: str, error: Any
) -> None:
    """Above all it closes no descriptor twice, which may be another file's by then."""
    begin = workers.begin

    def armed(*arguments: Any) -> Any:
        failing_os.before[call] = interrupt
        return begin(*arguments)

    def interrupt(*_: Any) -> None:
        failing_os.before.clear()
        raise error()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tastypy.workers.begin", armed)
        with pytest.raises((KeyboardInterrupt, CommitError)) as caught:
            tracker.claim()
    watched = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
    del caught
    for descriptor in watched:
        os.close(descriptor)
    assert open_files_of_workers(path) == []
    assert leftovers(path) == {}
    assert finish(tracker) == [*range(10)]


def test_a_ctrl_c_right_after_a_workers_file_was_made_leaves_no_file(
    tracker: Tracker[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come in the code of a dict with weak keys, which is written in Python."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("weakref.WeakKeyDictionary.__setitem__", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tracker.claim()
    assert leftovers(tracker.path) == {}
    assert finish(tracker) == list(range(10))


def test_ctrl_c_at_any_point_of_the_end_of_a_task_leaves_no_file_behind(quick_directory: Path) -> None:
    """Once the tracker is closed: it has given back the claim, or knows that it has ended."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    for point in each_point():
        path = quick_directory / f"{point.number}.tracker"
        with Tracker[Any](path) as tracker:
            tracker.add("a")
            task = claimed(tracker)
            with suppress(KeyboardInterrupt), point.calls(interrupt):
                task.done()
        assert leftovers(path) == {}, point
        assert [entry for entry in stored(path).values() if "_claim" in entry] == [], point
