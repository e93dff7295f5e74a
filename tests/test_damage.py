"""What a damaged directory gets: the damage is named, nothing is overwritten, and what can be recovered is."""

from __future__ import annotations

import contextlib
import errno
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
from helpers import Opener, append, batches, exactly, files, journal, journals, shards, signed, stored

from tastypy import (
    POD,
    DirectoryGoneError,
    FormatVersionError,
    IncoherentFileSystemError,
    LocksUnsupportedError,
    PersistentOrderedDictIntegrityError,
    TastypyError,
)
from tastypy import format as form
from tastypy.pod import repair

ENTRIES = {f"key {number}": "x" * 30 for number in range(8)}


@pytest.fixture
def whole(path: Path) -> Path:
    """A directory with shards and a journal with three lines, as a killed process leaves it."""
    with POD[Any, Any](path, shard_bytes=64) as pod:
        pod.update(ENTRIES)
        pod.sync()
        for number in range(3):
            pod[f"line {number}"] = number
        saved = files(path)
    for entry in path.iterdir():
        entry.unlink()
    for name, data in saved.items():
        (path / name).write_bytes(data)
    return path


ALL = {**ENTRIES, "line 0": 0, "line 1": 1, "line 2": 2}


def assert_refused(path: Path, error: type[TastypyError], *names: str) -> None:
    """Opening raises for readers and writers, names what is damaged, and leaves every byte as it is."""
    before = files(path)
    for mode in ("r", "a"):
        with pytest.raises(error) as caught:
            POD(path, mode=mode)
        for name in names:
            assert name in str(caught.value)
        assert caught.value.path is not None
        assert caught.value.path.startswith(str(path))
    assert files(path) == before


def flip(file: Path, position: int) -> None:
    """Change one bit."""
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


def test_the_undamaged_directory_is_read(whole: Path) -> None:
    """The others of these tests stand on this."""
    assert exactly(stored(whole)) == exactly(ALL)
    assert len(batches(whole)) == 3
    assert len(shards(whole)) > 3


@pytest.mark.parametrize("position", [0, 5, 30, -2])
def test_a_damaged_header_is_named(whole: Path, position: int) -> None:
    text = journal(whole).read_bytes()
    end = text.index(b"\n")
    flip(journal(whole), position if position >= 0 else end + position)
    assert_refused(whole, PersistentOrderedDictIntegrityError, str(journal(whole)), "line 1")


@pytest.mark.parametrize("position", [0, 10, -3])
def test_a_damaged_shard_is_named(whole: Path, position: int) -> None:
    flip(shards(whole)[1], position)
    assert_refused(whole, PersistentOrderedDictIntegrityError, str(shards(whole)[1]), "repair")


@pytest.mark.parametrize("size", [0, 10])
def test_a_shard_that_was_cut_off_is_named(whole: Path, size: int) -> None:
    shard = shards(whole)[1]
    shard.write_bytes(shard.read_bytes()[:size])
    assert_refused(whole, PersistentOrderedDictIntegrityError, str(shard))


def test_a_shard_that_is_missing_is_named(whole: Path) -> None:
    shard = shards(whole)[1]
    shard.unlink()
    assert_refused(whole, PersistentOrderedDictIntegrityError, shard.name)


def test_a_journal_that_is_missing_is_named(whole: Path) -> None:
    missing = journal(whole)
    missing.unlink()
    assert_refused(whole, PersistentOrderedDictIntegrityError, missing.name)


def test_a_damaged_line_before_the_last_synced_mark_is_corruption(whole: Path) -> None:
    """It was on stable storage; file and line are named."""
    file = journal(whole)
    seq = batches(whole)[-1]["seq"]
    append(file, signed(b'"seq":%d,"put":{"line 3":3},"synced":%d}' % (seq + 1, file.stat().st_size)))
    assert stored(whole) == {**ALL, "line 3": 3}
    flip(file, file.read_bytes().index(b'"line 1"') + 2)
    assert_refused(whole, PersistentOrderedDictIntegrityError, str(file), "line 3")


def test_what_a_power_cut_left_is_set_aside_and_reported(whole: Path, opened: Opener) -> None:
    file = journal(whole)
    seq = batches(whole)[-1]["seq"]
    good = file.read_bytes()
    lost = b'{"crc":"00000000","seq":%d,"put":{"lost":1}}\n' % (seq + 1)
    after = signed(b'"seq":%d,"put":{"after":1}}' % (seq + 2))
    append(file, lost + after)
    assert stored(whole) == ALL
    assert file.read_bytes() == good + lost + after, "a reader changes nothing"
    pod = opened()
    pod["next"] = 1
    assert stored(whole) == pod == {**ALL, "next": 1}
    asides = [entry for entry in whole.iterdir() if entry.name.startswith("aside-")]
    assert [entry.read_bytes() for entry in asides] == [lost + after]
    assert [problem for problem in pod.check() if asides[0].name in problem]
    pod.sync()
    assert asides[0].exists()
    assert stored(whole) == {**ALL, "next": 1}


def test_a_sequence_number_out_of_line_stops_everything(whole: Path, opened: Opener) -> None:
    """The file system does not show one process's writes to another under the lock."""
    pod = opened()
    seq = batches(whole)[-1]["seq"]
    append(journal(whole), signed(b'"seq":%d,"put":{"gap":1}}' % (seq + 2)))
    before = files(whole)
    with pytest.raises(IncoherentFileSystemError, match=str(whole)):
        pod["a"] = 1
    assert pod == ALL
    with pytest.raises(IncoherentFileSystemError):
        POD(whole)
    assert files(whole) == before


def test_a_sequence_number_that_comes_twice_stops_everything(whole: Path, opened: Opener) -> None:
    pod = opened()
    append(journal(whole), journal(whole).read_bytes().splitlines(keepends=True)[-1])
    before = files(whole)
    with pytest.raises(IncoherentFileSystemError, match=str(whole)):
        pod["a"] = 1
    assert files(whole) == before


def test_an_epoch_that_goes_backwards_stops_everything(path: Path, opened: Opener) -> None:
    pod = opened()
    pod["a"] = 1
    pod.sync()
    old = (path / ".lock").read_bytes()
    pod["a"] = 2
    pod.sync()
    (path / ".lock").write_bytes(old)
    with pytest.raises(IncoherentFileSystemError, match=str(path)):
        pod["a"] = 3
    assert pod == {"a": 2}


def test_a_lock_that_was_lost_meanwhile_stops_the_commit_on_a_network_file_system(
    path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else folded though this process believes that it holds the lock: nothing is appended."""
    monkeypatch.setattr("tastypy.files.is_local", lambda descriptor: False)
    pod = opened()
    pod["a"] = 1
    lock, before = path / ".lock", journal(path).read_bytes()
    line = lock.read_bytes()
    stolen = b'%s"epoch":%12d,' % (line[: line.index(b'"epoch"')], 7)
    stolen += b'"crc":"%08x"}\n' % zlib.crc32(stolen[:-1])
    with pytest.raises(IncoherentFileSystemError, match=str(path)), pod.transaction():
        pod["b"] = 2
        lock.write_bytes(stolen)
    lock.write_bytes(line)
    assert journal(path).read_bytes() == before
    assert pod == {"a": 1}
    pod["c"] = 3
    assert stored(path) == {"a": 1, "c": 3}


def test_a_pod_written_by_a_newer_format_is_refused(whole: Path) -> None:
    file = journal(whole)
    header, _, rest = file.read_bytes().partition(b"\n")
    assert b'"tastypy":1,' in header
    body = header[len(b'{"crc":"00000000",') :].replace(b'"tastypy":1,', b'"tastypy":99,')
    file.write_bytes(signed(body) + rest)
    assert_refused(whole, FormatVersionError, "99", "newer")


@pytest.mark.parametrize("how", ["missing", "empty", "damaged", "short"])
def test_a_lock_file_that_is_missing_or_damaged_is_recovered_never_created_anew(
    whole: Path, opened: Opener, how: str
) -> None:
    """People copy directories with `cp dir/*`."""
    lock = whole / ".lock"
    match how:
        case "missing":
            lock.unlink()
        case "empty":
            lock.write_bytes(b"")
        case "damaged":
            flip(lock, 20)
        case "short":
            lock.write_bytes(lock.read_bytes()[:-5])
    pod = opened()
    assert exactly(pod) == exactly(ALL)
    assert [problem for problem in pod.check() if ".lock" in problem or "lock.json" in problem]
    pod["next"] = 1
    pod.sync()
    assert stored(whole) == {**ALL, "next": 1}


def test_recovery_takes_the_highest_journal_that_was_committed(path: Path, opened: Opener) -> None:
    """A fold that died leaves a journal above it, empty or with a whole header that others' lines have outrun."""
    pod = opened()
    pod["a"] = 1
    pod.sync()
    pod["b"] = 2
    current = journal(path)
    epoch = int(current.stem.partition("-")[2])
    header = current.read_bytes().splitlines()[0][len(b'{"crc":"00000000",') :]
    unfinished = header.replace(
        b'"epoch":%d,"before":%d' % (epoch, epoch - 1), b'"epoch":%d,"before":%d' % (epoch + 1, epoch)
    )
    assert unfinished != header
    (path / f"journal-{epoch + 1}.jsonl").write_bytes(signed(unfinished))
    (path / f"journal-{epoch + 2}.jsonl").write_bytes(b"")
    (path / ".lock").unlink()
    pod.close()
    with POD[Any, Any](path) as again:
        assert again == {"a": 1, "b": 2}
        again["c"] = 3
        again.sync()
    assert stored(path) == {"a": 1, "b": 2, "c": 3}


def test_shards_without_any_journal_are_not_taken_for_an_empty_pod(whole: Path) -> None:
    for each in journals(whole):
        each.unlink()
    (whole / ".lock").unlink()
    before = files(whole)
    with pytest.raises(PersistentOrderedDictIntegrityError, match="repair"):
        POD(whole)
    assert {name: data for name, data in files(whole).items() if name != ".lock"} == {
        name: data for name, data in before.items() if name != ".lock"
    }


def test_foreign_files_that_appear_later_are_left_alone(path: Path, opened: Opener) -> None:
    pod = opened()
    pod["a"] = 1
    (path / "notes.txt").write_text("mine")
    (path / "0000.json.bak").write_text("mine, too")
    for number in range(5):
        pod["a"] = number
        pod.sync()
    with opened() as again:
        assert again == {"a": 4}
    assert (path / "notes.txt").read_text() == "mine"
    assert (path / "0000.json.bak").read_text() == "mine, too"


# ----------------------------------------------------------------------------------------------- under an open POD


@pytest.mark.parametrize("how", ["removed", "moved", "replaced by a POD", "replaced by nothing"])
def test_a_directory_that_goes_under_an_open_pod_is_an_error_not_a_mixture(path: Path, how: str) -> None:
    pod = POD[str, int](path)
    pod["a"] = 1
    if how == "moved":
        path.rename(path.with_name("moved.pod"))
    else:
        shutil.rmtree(path)
    if how == "replaced by a POD":
        with POD[str, int](path) as other:
            other["other"] = 1
    if how == "replaced by nothing":
        path.mkdir()
    with pytest.raises(DirectoryGoneError, match=str(path)):
        pod.refresh()
        pod.sync()
    with pytest.raises(DirectoryGoneError, match=str(path)):
        pod["a"] = 2
        pod.sync()
    if how == "replaced by a POD":
        assert stored(path) == {"other": 1}
    elif how != "replaced by nothing":
        assert not path.exists()
    else:
        assert files(path) == {}
    with contextlib.suppress(DirectoryGoneError):
        pod.close()
    assert pod.closed, "what is gone can still be closed"
    pod.close()


def test_a_reader_of_a_directory_that_goes_says_so(path: Path, opened: Opener) -> None:
    with POD[str, int](path) as pod:
        pod["a"] = 1
    reader = opened(mode="r")
    shutil.rmtree(path)
    with pytest.raises(DirectoryGoneError, match=str(path)):
        reader.refresh()
    assert reader == {"a": 1}


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_with_what_to_do(
    path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    pod = opened()
    pod["a"] = 1
    before = files(path)

    def refuse(descriptor: int, **_: Any) -> bool:
        raise OSError(number, "no locks here")

    monkeypatch.setattr("tastypy.lock.lock_descriptor", refuse)
    with pytest.raises(LocksUnsupportedError, match=str(path)) as caught:
        pod["b"] = 2
    assert caught.value.errno == number
    assert 'mode="r"' in str(caught.value)
    with pytest.raises(LocksUnsupportedError, match=str(path)):
        POD(path)
    assert pod == stored(path) == {"a": 1}
    assert files(path) == before
    monkeypatch.undo()
    pod["b"] = 2
    assert stored(path) == {"a": 1, "b": 2}


@pytest.mark.parametrize("mend", ["open", "repair"])
def test_a_lock_with_more_than_its_line_is_recovered_for_good(opened: Opener, path: Path, mend: str) -> None:
    with opened() as pod:
        pod["a"] = 1
    lock = path / ".lock"
    lock.write_bytes(lock.read_bytes() + b"more\n")
    if mend == "repair":
        repair(path)
    with opened() as pod:
        pod["b"] = 2
    with opened() as pod:
        assert pod == {"a": 1, "b": 2}
    assert len(lock.read_bytes()) == len(form.LockLine("0" * 16, 0).encode())
