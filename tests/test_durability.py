"""What is on stable storage when: the order of fsyncs in a fold, `durable`, and one fdatasync a second; changes inside a commit."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import FailingOS
from helpers import Opener, exactly, journal, stored

from tastypy import POD, TransactionError


def name_of(descriptor: int) -> str:
    """The name of an open file within its directory."""
    return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name


@pytest.fixture
def trace(failing_os: FailingOS, pod: POD[Any, Any]) -> Iterator[list[tuple[str, str]]]:
    """Every call that changes or synchronises something, with the name of its file, in order."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("there is no /proc/self/fd to tell a descriptor's name")
    calls: list[tuple[str, str]] = []
    for call in ("write", "pwrite", "fsync", "fdatasync", "ftruncate"):
        failing_os.before[call] = lambda first, *_, call=call: calls.append((call, name_of(first)))
    failing_os.before["rename"] = lambda source, target: calls.append(("rename", Path(target).name))
    failing_os.before["unlink"] = lambda target: calls.append(("unlink", Path(target).name))
    pod["before"] = 1
    calls.clear()
    yield calls
    failing_os.before.clear()


def test_an_assignment_is_one_write_and_nothing_else(pod: POD[Any, Any], trace: list[tuple[str, str]]) -> None:
    """No fdatasync: the one before is less than a second ago."""
    pod["a"] = 1
    assert trace == [("write", journal(Path(pod.path)).name)]


def test_commits_in_quick_succession_share_one_fdatasync_a_second(
    pod: POD[Any, Any], trace: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that comes more than a second after the last one waits for stable storage: sparse commits are all safe."""
    now = [time.monotonic() + 1000]
    monkeypatch.setattr("tastypy.store.time.monotonic", lambda: now[0])
    pod["first"] = 0
    trace.clear()
    for number in range(100):
        pod[number] = number
    assert ("fdatasync", journal(Path(pod.path)).name) not in trace
    for number in range(3):
        now[0] += 1.1
        trace.clear()
        pod[number] = -number
        assert [call for call, _ in trace] == ["write", "fdatasync"]


def test_a_durable_pod_waits_for_stable_storage_in_every_commit(opened: Opener, trace: list[tuple[str, str]]) -> None:
    durable = opened(durable=True)
    durable["first"] = 0
    trace.clear()
    for number in range(10):
        durable[number] = number
    assert [call for call, _ in trace] == ["write", "fdatasync"] * 10


def test_a_fold_makes_everything_stable_before_it_commits(pod: POD[Any, Any], trace: list[tuple[str, str]]) -> None:
    """Each shard, then the header, then the directory, then the epoch in `.lock`; what is old goes last."""
    old = journal(Path(pod.path)).name
    pod["a"] = 1
    trace.clear()
    pod.sync()
    new = journal(Path(pod.path)).name
    commit = trace.index(("pwrite", ".lock"))
    before, after = trace[:commit], trace[commit + 1 :]
    temporary = before[0][1]
    assert before == [
        ("write", temporary),
        ("fsync", temporary),
        ("rename", f"0000-{new.removeprefix('journal-').removesuffix('.jsonl')}.json"),
        ("write", new),
        ("fsync", new),
        ("fsync", Path(pod.path).name),
    ]
    assert after[0] == ("fdatasync", ".lock")
    assert after[1] == ("write", old)
    assert {call for call, _ in after[2:]} <= {"unlink", "fsync", "fdatasync"}


def test_the_first_epoch_is_on_stable_storage_before_anything_is_appended(
    tmp_path: Path, opened: Opener, trace: list[tuple[str, str]]
) -> None:
    """Its creator may have died between the write to `.lock` and the fdatasync. Whoever appends later need not do it again."""
    place = tmp_path / "other.pod"
    opened(place)
    other = opened(place)
    name = journal(Path(other.path)).name
    trace.clear()
    other["a"] = 1
    assert trace == [("pwrite", ".lock"), ("fdatasync", ".lock"), ("write", name), ("fdatasync", name)]
    trace.clear()
    opened(place)["a"] = 2
    assert trace == [("write", name), ("fdatasync", name)]


def test_a_sync_that_finds_nothing_to_fold_makes_the_fold_of_a_dead_writer_stable(
    pod: POD[Any, Any], opened: Opener, trace: list[tuple[str, str]]
) -> None:
    """That one may have died between the write to `.lock` and the fdatasync; a seal would say that it had not."""
    before = journal(Path(pod.path))
    pod.sync()
    before.write_bytes(before.read_bytes()[: before.read_bytes().rindex(b'{"crc"')])
    other = opened()
    trace.clear()
    other.sync()
    assert trace == [("pwrite", ".lock"), ("fdatasync", ".lock"), ("write", before.name)]
    trace.clear()
    other.sync()
    assert trace == []


def test_what_a_dead_creator_left_is_made_stable_before_it_is_used(
    pod: POD[Any, Any], trace: list[tuple[str, str]]
) -> None:
    """The name of the directory, the header of the journal, the name of the journal; only then `.lock` says so."""
    path = Path(pod.path)
    pod.close()
    os.truncate(path / ".lock", 0)
    trace.clear()
    POD[Any, Any](path).close()
    written = [call for call in trace if call[0] != "write"]  # the note of the recovery, since it was not empty
    commit = written.index(("pwrite", ".lock"))
    assert ("fsync", path.parent.name) in written[:commit]
    assert written[commit - 2 : commit + 2] == [
        ("fdatasync", journal(path).name),
        ("fsync", path.name),
        ("pwrite", ".lock"),
        ("fdatasync", ".lock"),
    ]


@pytest.mark.parametrize("leave", ["unhold", "close"])
def test_what_was_held_is_on_stable_storage_when_it_is_left(
    pod: POD[Any, Any], trace: list[tuple[str, str]], leave: str
) -> None:
    pod.hold()
    pod["held"] = "x" * 2_000_000  # too large for a fold to be cheap
    getattr(pod, leave)()
    writes = [position for position, (call, _) in enumerate(trace) if call == "write"]
    syncs = [position for position, (call, _) in enumerate(trace) if call in ("fdatasync", "fsync")]
    assert writes
    assert max(syncs) > writes[0]
    assert stored(pod.path)["held"] == "x" * 2_000_000


# ---------------------------------------------------------------------------------------------- changes inside a commit


def test_a_change_from_a_finaliser_inside_a_commit_is_queued(pod: POD[Any, Any], failing_os: FailingOS) -> None:
    """It must not enter the commit that it interrupted; it is made at that one's end."""
    again = [True]

    def finalise(*_: object) -> None:
        if again.pop():
            again.append(False)
            pod["from the finaliser"] = [1]
        else:
            again.append(False)

    failing_os.before["write"] = finalise
    pod["a"] = 1
    failing_os.before.clear()
    assert exactly(pod) == exactly({"a": 1, "from the finaliser": [1]})
    assert exactly(stored(pod.path)) == exactly(pod)


def test_what_has_to_give_a_result_cannot_be_queued_inside_a_commit(pod: POD[Any, Any], failing_os: FailingOS) -> None:
    """And says so; the commit that it interrupted goes on."""
    pod["a"] = 1
    caught: list[BaseException] = []

    def interfere(*_: object) -> None:
        failing_os.before.clear()
        for call in (
            lambda: pod.pop("a"),
            pod.popitem,
            lambda: pod.incr("n"),
            pod.sync,
            lambda: pod.transaction().__enter__(),
        ):
            try:
                call()
            except TransactionError as error:
                caught.append(error)

    failing_os.before["write"] = interfere
    pod["b"] = 2
    assert len(caught) == 5
    assert exactly(pod) == exactly(stored(pod.path)) == exactly({"a": 1, "b": 2})


def test_what_is_set_aside_of_a_journal_is_stable_before_the_journal_is_cut(
    pod: POD[Any, Any], trace: list[tuple[str, str]]
) -> None:
    """Its content and its name: a power cut in between must not take both copies."""
    file = journal(Path(pod.path))
    good = file.read_bytes().splitlines(keepends=True)[-1]
    with file.open("ab") as end:
        end.write(good.replace(b"before", b"damage") + good)
    pod["a"] = 1
    aside = next(name for _, name in trace if name.startswith("aside-"))
    steps = [("rename", aside), ("fsync", Path(pod.path).name), ("ftruncate", file.name)]
    assert [step for step in trace if step in steps] == steps
