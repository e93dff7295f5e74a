"""Mounts that show one host's writes to another late, or give the lock to both, played by hand on a local file system.

Who changes a file here does what another host does: the POD under test is shown the directory as such a mount would show it.
`stress.rigs` has real ones.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import FailingOS
from helpers import Opener, exactly, header_of, journal, stored

from tastypy import POD, IncoherentFileSystemError, PersistentOrderedDictIntegrityError
from tastypy import files as tastypy_files
from tastypy import format as form
from tastypy.reading import Position, _Walk


@pytest.fixture(autouse=True)
def _network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tastypy_files, "is_local", lambda _: False)


def _lines(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines(keepends=True)


def _refused(pod: POD[Any, Any], match: str, number: int = errno.EIO) -> None:
    """A change raises, and the directory stays as it is."""
    before = {file.name: file.read_bytes() for file in Path(pod.path).iterdir()}
    with pytest.raises(IncoherentFileSystemError, match=match) as caught:
        pod["never"] = True
    assert caught.value.errno == number
    assert {file.name: file.read_bytes() for file in Path(pod.path).iterdir()} == before


def test_a_header_has_the_stamps_of_the_last_batches_across_folds(pod: POD[Any, Any]) -> None:
    stamps = []
    for number in range(form.STAMPS + 5):
        pod["a"] = number
        stamps.append(form.stamp(_lines(journal(Path(pod.path)))[-1]))
        if number % 7 == 0:
            pod.sync()
    pod.sync()
    assert header_of(pod.path).last == tuple(stamps[-form.STAMPS :])


def test_a_stamp_is_that_of_the_line_without_its_mark() -> None:
    content = b'"put":{"a":",\\"synced\\":1}"}'
    assert form.stamp(form.batch_line(7, content, 4711)) == form.stamp(form.batch_line(7, content))
    assert form.stamp(form.batch_line(7, content)) != form.stamp(form.batch_line(8, content))


def test_a_batch_that_another_host_had_overwritten_before_it_folded_is_missed(path: Path) -> None:
    """It saw no growth, and put its own line to the same offset, under the same number."""
    pod = POD[str, int](path)  # not closed, which would raise once more
    pod.update(before=1)
    pod["between"] = 1  # its line says that an fdatasync succeeded
    pod["mine"] = 1
    file = journal(Path(pod.path))
    *others, mine = _lines(file)
    theirs = form.batch_line(pod._store.seq, b'"put":{"thei":1}')
    assert len(theirs) == len(mine)
    file.write_bytes(b"".join([*others, theirs]))
    with POD[str, int](pod.path) as other:
        other.sync()
        other["and on"] = 1
        other.sync()
    _refused(pod, r"batch 3, which epoch 3 has with another content than was written here")


def test_the_seal_of_a_journal_that_is_read_again_is_taken_for_no_batch(pod: POD[Any, Any]) -> None:
    pod["a"] = 1
    pod["b"] = 2
    header, text = pod._store.read_journal(pod.stats().epoch)
    start = text.find(b"\n") + 1
    walk = _Walk(pod._store, locked=False)
    walk.take(Position(header.epoch, start, header.seq), text[start:] + form.seal_line(header.epoch + 1), cut=False)
    assert (walk.seal, len(walk.records)) == (header.epoch + 1, 2)


def test_a_batch_that_another_host_has_overwritten_is_missed_before_any_fold(path: Path) -> None:
    """Both had the lock, and put their lines to the same offset: here the other one's is longer."""
    pod = POD[str, int](path)  # not closed, which would raise once more
    pod["before"] = 1
    pod["mine"] = 1
    file = journal(Path(pod.path))
    *others, _ = _lines(file)
    theirs = form.batch_line(pod._store.seq, b'"put":{"theirs, and longer":1}', 1)
    file.write_bytes(b"".join([*others, theirs]))
    _refused(pod, r"batch 2, which epoch 1 has with another content than was written here")


def test_a_fold_of_batches_that_are_not_shown_here_is_noticed(pod: POD[Any, Any], opened: Opener) -> None:
    pod["a"] = 1
    file = journal(Path(pod.path))
    shown = file.read_bytes()
    other = opened()
    other["b"] = 1
    other.sync()
    file.write_bytes(shown)
    _refused(pod, r"batch 2, up to which journal-1\.jsonl was folded, after 1")


@pytest.mark.parametrize("shown", [0, 30])
def test_a_journal_of_which_the_header_is_not_shown_yet_is_no_damage(
    pod: POD[Any, Any], opened: Opener, shown: int
) -> None:
    other = opened()
    other["a"] = 1
    other.sync()
    file = journal(Path(pod.path))
    whole = file.read_bytes()
    file.write_bytes(whole[:shown])
    _refused(pod, r"header is damaged.*does not show")
    file.write_bytes(whole)
    pod["b"] = 1
    assert exactly(pod) == exactly(stored(pod.path)) == exactly({"a": 1, "b": 1})


def test_who_opens_a_damaged_directory_is_told_of_damage(pod: POD[Any, Any]) -> None:
    pod["a"] = 1
    pod.close()
    file = journal(Path(pod.path))
    file.write_bytes(file.read_bytes().replace(b'"before":1', b'"before":2'))
    with pytest.raises(PersistentOrderedDictIntegrityError, match="repair"):
        POD(pod.path)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESTALE])
def test_a_journal_that_goes_while_the_lock_is_held_is_noticed(
    pod: POD[Any, Any], failing_os: FailingOS, number: int
) -> None:
    pod["a"] = 1
    name = journal(Path(pod.path)).name

    def opening(path: str, flags: int, *_: object) -> None:
        if path.endswith(name) and flags & os.O_APPEND:
            raise OSError(number, os.strerror(number), path)

    failing_os.before["open"] = opening
    _refused(pod, rf"{name}.*is gone.*\.lock names it", number)
    failing_os.before.clear()
    pod["b"] = 1
    assert exactly(pod) == exactly(stored(pod.path)) == exactly({"a": 1, "b": 1})


def test_a_journal_that_goes_in_the_middle_of_a_write_leaves_open_whether_it_was_made(
    pod: POD[Any, Any], failing_os: FailingOS
) -> None:
    pod["a"] = 1
    failing_os.always["write"] = failing_os.always["ftruncate"] = OSError(errno.ESTALE, "stale")
    with pytest.raises(IncoherentFileSystemError, match="whether the change was made shows"):
        pod["b"] = 1
    failing_os.always.clear()
    pod.refresh()
    assert exactly(pod) == exactly(stored(pod.path))


def test_a_fold_from_under_which_somebody_removes_files_is_noticed(pod: POD[Any, Any], failing_os: FailingOS) -> None:
    pod["a"] = 1
    failing_os.always["rename"] = OSError(errno.ESTALE, "stale")
    with pytest.raises(IncoherentFileSystemError, match=r"folding failed.*nobody else may remove"):
        pod.sync()
    failing_os.always.clear()
    pod.sync()
    assert exactly(stored(pod.path)) == exactly({"a": 1})


def test_no_name_is_looked_up_before_it_is_there(
    pod: POD[Any, Any], opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NFS client that once found a name missing says so for up to a minute after another host made it."""
    monkeypatch.setattr("tastypy.folding._AT_ONCE", 0)
    monkeypatch.setattr("tastypy.store._LEAST_LIMIT", 1000)
    monkeypatch.setattr("tastypy.store._MOST_LIMIT", 1000)
    missing: list[str] = []

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def look(path: str | int, *arguments: Any, **options: Any) -> Any:
            try:
                return call(path, *arguments, **options)
            except FileNotFoundError:
                missing.append(os.path.basename(str(path)))
                raise

        return look

    for name in ("open", "stat", "lstat"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    other = opened()
    for number in range(200):
        (pod, other)[number % 2][f"key {number}"] = "x" * 30
        if number % 20 == 0:
            other.refresh()
    assert header_of(pod.path).epoch > 4
    assert missing == []


def test_who_finds_a_name_missing_has_the_directory_asked_for_anew(
    pod: POD[Any, Any], opened: Opener, failing_os: FailingOS
) -> None:
    """A listing has an NFS client forget which names it found missing."""
    other = opened()
    other["a"] = 1
    other.sync()
    file = journal(Path(pod.path))
    hidden = file.rename(file.with_name("hidden"))
    failing_os.before["listdir"] = lambda path: hidden.rename(file)
    pod.refresh()
    assert pod == {"a": 1}


def test_without_the_lock_the_epoch_is_read_past_the_cache(
    pod: POD[Any, Any], failing_os: FailingOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int, int, int]] = []
    monkeypatch.setattr(failing_os, "posix_fadvise", lambda *arguments: told.append(arguments), raising=False)
    pod.refresh()
    assert [arguments[1:] for arguments in told] == [(0, 0, os.POSIX_FADV_DONTNEED)]
