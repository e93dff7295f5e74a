"""The directory under its lock: epochs and numbers, what is made stable when, and what a failure leaves."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import FailingOS
from helpers import Opener, batches, exactly, files, header_of, journal, journals, open_files, shards, stored

from tastypy import (
    POD,
    CommitError,
    DirectoryGoneError,
    IncoherentFileSystemError,
    NotAPODError,
    SettingsError,
    UnknownOutcomeError,
)
from tastypy import format as form


@pytest.fixture(autouse=True, params=["local", "network"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything holds on what is taken for a local file system and for one of another machine."""
    if request.param == "network":
        monkeypatch.setattr("tastypy.files.is_local", lambda descriptor: False)
    return str(request.param)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass."""
    now = [1000.0]
    monkeypatch.setattr("tastypy.store.time.monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def ends_of_lines(path: str | Path) -> list[int]:
    """The offset after each line of the newest journal."""
    offsets = [0]
    for line in journal(Path(path)).read_bytes().splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    return offsets[1:]


# -------------------------------------------------------------------------------------------------- what is written where


def test_numbers_grow_by_one_from_line_to_line_and_across_epochs(pod: POD[Any, Any], opened: Opener) -> None:
    other = opened()
    numbers: list[int] = []
    for number in range(12):
        (pod, other)[number % 2][number] = number
        numbers.append(batches(Path(pod.path))[-1]["seq"])
        if number % 5 == 4:
            pod.sync()
            assert header_of(pod.path).seq == numbers[-1]
    assert numbers == list(range(1, 13))


def test_a_commit_by_two_writers_in_turn_is_one_line_each(pod: POD[Any, Any], opened: Opener) -> None:
    other = opened()
    for number in range(5):
        pod["a"] = number
        other["b"] = number
    lines = [line["put"] for line in batches(Path(pod.path))]
    assert lines == [each for number in range(5) for each in ({"a": number}, {"b": number})]
    assert exactly(stored(pod.path)) == exactly({"a": 4, "b": 4})


def test_the_lock_line_and_the_header_of_a_new_pod_say_the_same(pod: POD[Any, Any]) -> None:
    line = form.decode_lock_line((Path(pod.path) / ".lock").read_bytes())
    header = header_of(pod.path)
    assert line == header.lock_line == form.LockLine(header.id, 1)
    assert (header.before, header.seq, header.shards) == (0, 0, ())
    assert len(header.id) == 16
    assert files(Path(pod.path)).keys() == {".lock", "journal-1.jsonl"}


def test_every_directory_has_an_id_of_its_own(opened: Opener, tmp_path: Path) -> None:
    assert len({header_of(opened(tmp_path / f"{number}.pod").path).id for number in range(5)}) == 5


def test_an_open_that_asks_for_other_settings_changes_nothing_and_leaves_no_descriptor(
    pod: POD[Any, Any], opened: Opener
) -> None:
    before, descriptors = files(Path(pod.path)), open_files()
    for settings in ({"gzipped": True}, {"shard_bytes": 7}):
        with pytest.raises(SettingsError, match=next(iter(settings))) as caught:
            opened(**settings)
        assert caught.value.path == pod.path
    assert open_files() <= descriptors
    assert files(Path(pod.path)) == before


def test_the_lock_of_another_program_is_not_taken_over(path: Path) -> None:
    path.mkdir()
    (path / ".lock").write_text("pid 123")
    with pytest.raises(NotAPODError, match=r"\.lock"):
        POD(path)
    assert files(path) == {".lock": b"pid 123"}


# ------------------------------------------------------------------------------------------------------ stable storage


def synced_calls(failing_os: FailingOS) -> int:
    """How often a journal was waited for since the last time this was asked."""
    count = failing_os.calls.count("fdatasync")
    failing_os.calls.clear()
    return count


def test_a_process_that_writes_all_the_time_waits_about_once_a_second(
    pod: POD[Any, Any], failing_os: FailingOS, clock: Callable[[float], None]
) -> None:
    pod["first"] = 0
    synced_calls(failing_os)
    for number in range(1000):
        clock(0.01)
        pod["a"] = number
    assert 8 <= synced_calls(failing_os) <= 10


def test_sparse_commits_all_wait(pod: POD[Any, Any], failing_os: FailingOS, clock: Callable[[float], None]) -> None:
    for number in range(5):
        clock(1.1)
        synced_calls(failing_os)
        pod["a"] = number
        assert synced_calls(failing_os) == 1


def test_the_first_line_after_an_fdatasync_says_up_to_where_it_was(
    pod: POD[Any, Any], clock: Callable[[float], None]
) -> None:
    for number in range(9):
        if number % 3 == 0:
            clock(1.1)  # this one waits, and the next one says so
        pod["a"] = number
    ends = ends_of_lines(pod.path)[1:]
    marks = [line.get("synced") for line in batches(Path(pod.path))]
    assert marks == [ends[number - 1] if number % 3 == 1 else None for number in range(9)]


def test_a_durable_pod_says_of_every_line_that_the_one_before_is_safe(opened: Opener, failing_os: FailingOS) -> None:
    pod = opened(durable=True)
    synced_calls(failing_os)
    for number in range(5):
        pod["a"] = number
        assert synced_calls(failing_os) == 1
    ends = ends_of_lines(pod.path)[1:]
    assert [line.get("synced") for line in batches(Path(pod.path))] == [None, *ends[:-1]]


def test_a_mark_does_not_outlive_its_journal(opened: Opener) -> None:
    """An offset of one would be nonsense in the next."""
    pod = opened(durable=True)
    pod["a"] = "x" * 1000
    pod.sync()
    pod["b"] = 1
    assert "synced" not in batches(Path(pod.path))[0]
    assert stored(pod.path)["b"] == 1


def test_a_fold_waits_for_the_header_and_the_directory_before_the_epoch_is_written(
    pod: POD[Any, Any], failing_os: FailingOS
) -> None:
    """And for every shard before that has its name; and for the epoch before the old journal is sealed."""
    pod["a"] = 1
    order: list[str] = []

    def note(call: str) -> Callable[..., None]:
        def noted(first: Any, *_: object) -> None:
            name = os.path.basename(first if isinstance(first, str) else os.readlink(f"/proc/self/fd/{first}"))
            order.append(f"{call} {name if name in ('.lock', 'my.pod') else name.split('-')[0].split('.')[-1]}")

        return noted

    failing_os.before.update({call: note(call) for call in ("write", "pwrite", "fsync", "fdatasync", "rename")})
    pod.sync()
    failing_os.before.clear()
    assert order == [
        *("write tmp", "fsync tmp", "rename tmp"),
        *("write journal", "fsync journal", "fsync my.pod"),
        *("pwrite .lock", "fdatasync .lock", "write journal"),
    ]


# ---------------------------------------------------------------------------------------------------------- failures


def test_after_a_failed_fdatasync_nothing_more_is_appended_to_that_journal(
    opened: Opener, failing_os: FailingOS
) -> None:
    """The kernel may have dropped the pages, and forgotten that it did; so what is known to be good is folded."""
    pod = opened(durable=True)
    pod["a"] = 1
    old, epoch = journal(Path(pod.path)), header_of(pod.path).epoch
    good = old.read_bytes()
    failing_os.always["fdatasync"] = OSError(errno.EIO, "broken")
    with pytest.raises(CommitError, match="broken") as caught:
        pod["b"] = 2
    assert (caught.value.path, caught.value.errno) == (str(old), errno.EIO)
    assert exactly(pod) == exactly({"a": 1})
    assert old.read_bytes() == good
    failing_os.always.clear()
    pod["c"] = 3
    assert old.read_bytes() == good + form.seal_line(epoch + 1)
    assert header_of(pod.path).epoch == epoch + 1
    assert exactly(pod) == exactly(stored(pod.path)) == exactly({"a": 1, "c": 3})


def test_an_append_that_cannot_be_undone_is_an_unknown_outcome_and_read_at_the_next_use(
    pod: POD[Any, Any], failing_os: FailingOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod["a"] = 1
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        real(descriptor, data)
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(failing_os, "write", write, raising=False)
    failing_os.always["ftruncate"] = OSError(errno.EROFS, "read only now")
    with pytest.raises(UnknownOutcomeError, match=r"broken.*read only now"):
        pod["b"] = 2
    monkeypatch.undo()
    failing_os.always.clear()
    pod.refresh()
    assert exactly(pod) == exactly(stored(pod.path))


def test_an_error_while_the_epoch_is_written_removes_nothing(pod: POD[Any, Any], failing_os: FailingOS) -> None:
    """Whether the sector was written cannot be told: both epochs stay whole, and what came of it is read."""
    pod["a"] = 1
    before = files(Path(pod.path))
    failing_os.always["fdatasync"] = OSError(errno.EIO, "broken")
    with pytest.raises(CommitError, match=r"\.lock"):
        pod.sync()
    failing_os.always.clear()
    after = files(Path(pod.path))
    assert before.items() - {(".lock", before[".lock"])} <= after.items()
    assert len(journals(Path(pod.path))) == 2
    assert len(shards(Path(pod.path))) == 1
    pod["b"] = 2
    assert exactly(pod) == exactly(stored(pod.path)) == exactly({"a": 1, "b": 2})


def test_old_files_that_cannot_be_removed_fail_nothing_and_go_with_the_next_fold(
    pod: POD[Any, Any], failing_os: FailingOS
) -> None:
    failing_os.always["unlink"] = OSError(errno.EBUSY, "busy")
    failing_os.always["listdir"] = OSError(errno.EIO, "broken")
    for number in range(4):
        pod["a"] = number
        pod.sync()
    failing_os.always.clear()
    assert len(journals(Path(pod.path))) == 5
    pod["a"] = "last"
    pod.sync()
    assert len(journals(Path(pod.path))) == 2
    assert len(shards(Path(pod.path))) == 1
    assert stored(pod.path) == {"a": "last"}


def test_a_lock_that_was_lost_in_the_middle_of_a_commit_is_noticed_on_a_network(
    pod: POD[Any, Any], failing_os: FailingOS, kind: str
) -> None:
    """`.lock` is read once more just before the line is appended: there it has another epoch."""
    if kind == "local":
        pytest.skip("nobody can lose a lock of the local kernel")
    pod["a"] = 1
    failing_os.calls.clear()
    pod["a"] = 2
    last = failing_os.calls.count("pread")
    lock = Path(pod.path) / ".lock"
    good, before = lock.read_bytes(), journal(Path(pod.path)).read_bytes()
    reads: list[int] = []

    def pread(*_: object) -> None:
        reads.append(1)
        if len(reads) == last:
            lock.write_bytes(form.LockLine(header_of(pod.path).id, 99).encode())

    failing_os.before["pread"] = pread
    with pytest.raises(IncoherentFileSystemError, match="two at once"):
        pod["a"] = 3
    failing_os.before.clear()
    assert journal(Path(pod.path)).read_bytes() == before
    lock.write_bytes(good)
    pod.refresh()
    assert pod == {"a": 2}


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_a_commit_to_a_directory_that_went_is_an_error_or_goes_with_it(path: Path, kind: str, how: str) -> None:
    """By a descriptor that is open it may still reach the moved directory; never the one that took its place."""
    pod, moved = POD[Any, Any](path), path.with_name("moved")
    pod["a"] = 1
    if how == "removed":
        for entry in path.iterdir():
            entry.unlink()
    else:
        path.rename(moved)
    if how == "replaced":
        POD[Any, Any](path).close()
    before = files(path) if path.exists() else None
    expected = {"a": 1}
    try:
        pod["b"] = 2
        expected = {"a": 1, "b": 2}
    except DirectoryGoneError as error:
        assert error.path in (str(path), str(path / ".lock"))
    assert (how, kind) in {("moved", "local"), ("replaced", "local")} or expected == {"a": 1}
    with pytest.raises(DirectoryGoneError):
        pod.sync()
    with contextlib.suppress(DirectoryGoneError):
        pod.close()
    assert pod.closed
    assert (files(path) if path.exists() else None) == before
    assert how == "removed" or stored(moved) == expected


# ------------------------------------------------------------------------------------------------------------- limits


def test_the_journal_is_folded_when_it_outgrew_its_limit_and_not_before(pod: POD[Any, Any]) -> None:
    """A megabyte, as long as there are not many of shards."""
    for number in range(11):
        assert header_of(pod.path).epoch == 1
        pod["a"] = str(number) * 100_000
    assert header_of(pod.path).epoch == 2
    assert pod.stats().journal_bytes < 1000
    assert pod.stats().bytes > 100_000


def test_a_local_commit_by_the_only_writer_reads_one_line(pod: POD[Any, Any], failing_os: FailingOS, kind: str) -> None:
    """Nobody's news costs next to nothing: `.lock`, the size of the journal, and the write."""
    if kind == "network":
        pytest.skip("there a size is not to be trusted")
    pod["a"] = 1
    failing_os.calls.clear()
    pod["a"] = 2
    assert len(failing_os.calls) == 3
    assert (failing_os.calls[0], failing_os.calls[2]) == ("pread", "write")
