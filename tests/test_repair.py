"""Recovery and repair where `.lock` or a journal's header is gone: no good line and no committed shard is lost in silence."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from helpers import PATIENCE, Opener, exactly, files, in_child, journal, journals, shards, stored

import tastypy
from tastypy import (
    POD,
    CommitError,
    MissingPODError,
    PersistentOrderedDictIntegrityError,
    TransactionError,
)
from tastypy import files as tastypy_files
from tastypy import format as form

LINES = {f"line {number}": number for number in range(5)}
FOLDED = {f"key {number}": "x" * 30 for number in range(8)}


def leave(pod: POD[Any, Any]) -> None:
    """Close a POD without a fold, as a process that is killed leaves it."""
    pod._store.wrote = False
    pod.close()


@pytest.fixture
def unfolded(path: Path) -> Path:
    """A directory with everything still in its first journal."""
    pod = POD[str, int](path)
    for key, value in LINES.items():
        pod[key] = value
    leave(pod)
    return path


@pytest.fixture
def folded(path: Path) -> Path:
    """A directory with a shard, and five lines in the second journal; the first one is there, too."""
    pod = POD[str, Any](path, shard_bytes=400)
    pod.update(FOLDED)
    pod.sync()
    for key, value in LINES.items():
        pod[key] = value
    leave(pod)
    assert len(journals(path)) == 2
    return path


def flip_header(file: Path) -> None:
    """Change one bit of a journal's first line."""
    data = bytearray(file.read_bytes())
    data[12] ^= 1
    file.write_bytes(data)


def without_lock(directory: Path) -> dict[str, bytes]:
    """Every file but `.lock`."""
    return {name: data for name, data in files(directory).items() if name != ".lock"}


def asides(directory: Path) -> dict[str, bytes]:
    """What was set aside, under the whole name."""
    return {name: data for name, data in files(directory).items() if name.startswith("aside-")}


def assert_nothing_thrown_away(directory: Path, before: dict[str, bytes], done: list[str]) -> None:
    """Each file whose content the POD stopped using for a damage lies aside, and the answer names it."""
    said = "\n".join(done)
    for name in asides(directory).keys() - before.keys():
        assert name in said
    for name, text in before.items():
        if name.endswith(".jsonl") and not has_header(text):
            assert any(aside.endswith(name) for aside in asides(directory)), (name, said)
            assert name in said
    assert [problem for problem in tastypy.check(directory) if "aside-" not in problem] == []
    assert tastypy.repair(directory) == []


def has_header(text: bytes) -> bool:
    """Tell whether a journal's first line is good."""
    return form.is_good(text.partition(b"\n")[0])


def take_away_the_lock(directory: Path, how: str) -> None:
    """Leave `.lock` as it is, or take it away in one of the ways that a copy by hand does."""
    match how:
        case "missing":
            (directory / ".lock").unlink()
        case "empty":
            (directory / ".lock").write_bytes(b"")
        case "damaged":
            flip_header(directory / ".lock")


# ---------------------------------------------------------------------------------------------------------------- opening


@pytest.mark.parametrize("lock", ["missing", "empty", "damaged"])
def test_opening_never_creates_over_a_journal_that_has_lines(unfolded: Path, lock: str) -> None:
    take_away_the_lock(unfolded, lock)
    flip_header(journal(unfolded))
    before = without_lock(unfolded)
    for _ in range(2):
        with pytest.raises(PersistentOrderedDictIntegrityError, match="repair"):
            POD(unfolded)
        assert without_lock(unfolded) == before


@pytest.mark.parametrize("begun", [b"", b'{"crc":"0123', b'{"crc":"01234567","tastypy":1'])
def test_a_creation_that_died_before_its_header_was_whole_is_begun_anew(unfolded: Path, begun: bytes) -> None:
    """Nothing can have been committed there."""
    (unfolded / ".lock").write_bytes(b"")
    journal(unfolded).write_bytes(begun)
    with POD[str, int](unfolded) as pod:
        assert len(pod) == 0
        pod["a"] = 1
    assert stored(unfolded) == {"a": 1}


@pytest.mark.parametrize("lock", ["missing", "empty"])
def test_opening_does_not_go_back_to_an_older_journal_when_the_newest_has_lost_its_header(
    folded: Path, lock: str
) -> None:
    take_away_the_lock(folded, lock)
    flip_header(journal(folded))
    before = without_lock(folded)
    with pytest.raises((PersistentOrderedDictIntegrityError, OSError)):
        POD(folded)
    after = without_lock(folded)
    assert {name: after.get(name) for name in before} == before


# ---------------------------------------------------------------------------------------------------------------- repair


@pytest.mark.parametrize("lock", ["good", "missing", "empty", "damaged"])
def test_repair_keeps_the_good_lines_of_a_journal_without_a_header(unfolded: Path, lock: str) -> None:
    take_away_the_lock(unfolded, lock)
    flip_header(journal(unfolded))
    before = files(unfolded)
    done = tastypy.repair(unfolded)
    assert exactly(stored(unfolded)) == exactly(LINES)
    assert_nothing_thrown_away(unfolded, before, done)


@pytest.mark.parametrize("lock", ["good", "missing", "empty", "damaged"])
def test_repair_keeps_shards_and_the_lines_of_the_newest_journal_without_a_header(folded: Path, lock: str) -> None:
    take_away_the_lock(folded, lock)
    flip_header(journal(folded))
    before = files(folded)
    done = tastypy.repair(folded)
    assert exactly(stored(folded)) == exactly(FOLDED | LINES)
    assert_nothing_thrown_away(folded, before, done)


@pytest.mark.parametrize("lock", ["good", "missing", "empty"])
def test_repair_keeps_shards_and_lines_where_no_journal_has_a_header(folded: Path, lock: str) -> None:
    take_away_the_lock(folded, lock)
    for file in journals(folded):
        flip_header(file)
    before = files(folded)
    done = tastypy.repair(folded)
    assert exactly(stored(folded)) == exactly(FOLDED | LINES)
    assert_nothing_thrown_away(folded, before, done)


def test_repair_after_opening_failed_keeps_what_it_would_have_kept_before(folded: Path) -> None:
    """Whatever an attempt to open the directory made of `.lock`."""
    (folded / ".lock").unlink()
    flip_header(journal(folded))
    with pytest.raises((PersistentOrderedDictIntegrityError, OSError)):
        POD(folded)
    before = files(folded)
    done = tastypy.repair(folded)
    assert exactly(stored(folded)) == exactly(FOLDED | LINES)
    assert_nothing_thrown_away(folded, before, done)


@pytest.mark.parametrize("lock", ["flock", "lease"])
def test_a_seal_of_the_other_kind_of_lock_is_damage_that_repair_sets_aside(
    path: Path, lock: Literal["flock", "lease"]
) -> None:
    """With leases a seal has a number, with flock it has none. Its CRC is right, so nothing but that tells."""
    pod = POD[str, int](path, lock=lock)
    pod.update(LINES)
    leave(pod)
    with journal(path).open("ab") as file:
        file.write(form.seal_line(9, None if lock == "lease" else 2))
    with pytest.raises(PersistentOrderedDictIntegrityError, match="no batch"):
        POD[str, int](path, mode="r")
    assert tastypy.check(path) == [f"{journal(path).name}, line 3: senseless"]
    assert len(tastypy.repair(path)) == 1
    assert exactly(stored(path)) == exactly(LINES)
    assert len(tastypy.check(path)) == 1, "what was set aside"
    assert tastypy.repair(path) == []


# --------------------------------------------------------------------------------------------------- shards of no epoch


def die_in_a_fold(directory: Path, *, after: int) -> None:
    """Let a process die in a fold, when it has written so many of its shard files."""

    def body() -> None:
        write_new, left = tastypy_files.write_new, [after]

        def write_and_die(path: str, data: bytes, permissions: int) -> None:
            write_new(path, data, permissions)
            left[0] -= 1
            if not left[0]:
                os._exit(9)

        tastypy_files.write_new = write_and_die
        POD(directory).sync()

    assert in_child(body) == 9


def test_repair_takes_no_shard_of_an_epoch_that_was_never_committed(path: Path) -> None:
    """A fold that died half way through a split has written one half only; what it split is whole."""
    pod = POD[str, str](path, shard_bytes=400)
    pod.update({f"key {number}": "v" * 30 for number in range(8)})
    pod.sync()
    pod.update({f"key {number}": "w" * 200 for number in range(3)})
    everything = pod.copy()
    leave(pod)
    current, committed = journal(path), {shard.name for shard in shards(path)}
    die_in_a_fold(path, after=1)
    (dead,) = {shard.name for shard in shards(path)} - committed
    text = (path / dead).read_bytes()
    flip_header(current)
    before = files(path)

    done = tastypy.repair(path)

    assert exactly(stored(path)) == exactly(everything)
    assert text in asides(path).values()
    assert any(dead in line for line in done), done
    assert_nothing_thrown_away(path, {name: data for name, data in before.items() if data}, done)


def test_a_sound_directory_beside_what_a_dead_fold_left_needs_no_repair(path: Path) -> None:
    pod = POD[str, str](path, shard_bytes=400)
    pod.update({f"key {number}": "v" * 150 for number in range(8)})
    everything = pod.copy()
    leave(pod)
    die_in_a_fold(path, after=2)
    before = files(path)
    assert tastypy.repair(path) == []
    assert files(path) == before
    assert exactly(stored(path)) == exactly(everything)


# -------------------------------------------------------------------------------------------------- inside a transaction


def test_repair_by_path_inside_a_transaction_of_this_thread_is_refused(folded: Path, opened: Opener) -> None:
    """It would fold beneath the transaction, which would then commit to a sealed journal."""
    pod = opened(folded)
    shard = shards(folded)[0]
    shard.write_bytes(b"{broken")
    with pod.transaction():
        pod["acknowledged"] = 1
        before = files(folded)
        with pytest.raises(TransactionError):
            tastypy.repair(folded)
        assert files(folded) == before
    done = tastypy.repair(folded)
    assert any(shard.name in line for line in done), done
    assert exactly(stored(folded)) == exactly(LINES | {"acknowledged": 1})
    pod.refresh()
    assert exactly(pod) == exactly(stored(folded))


def test_repair_by_path_waits_for_the_transaction_of_another_thread(folded: Path, opened: Opener) -> None:
    pod = opened(folded)
    shards(folded)[0].write_bytes(b"{broken")
    inside, answers = threading.Event(), list[list[str]]()

    def repair() -> None:
        inside.set()
        answers.append(tastypy.repair(folded))

    thread = threading.Thread(target=repair)
    with pod.transaction():
        thread.start()
        assert inside.wait(PATIENCE)
        pod["acknowledged"] = 1
        assert answers == []
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert len(answers) == 1
    assert stored(folded)["acknowledged"] == 1


# -------------------------------------------------------------------------------------------- a copy without `.lock`


@pytest.fixture
def copied(folded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `cp pod/* copy/` makes of a POD: hidden files stay behind."""
    monkeypatch.setattr("tastypy.opening.TRIES", 3)  # how long somebody may take to create it
    copy = tmp_path / "copy"
    shutil.copytree(folded, copy, ignore=shutil.ignore_patterns(".*"))
    return copy


def test_a_reader_of_a_copy_without_lock_is_told_to_open_it_once_with_mode_a(copied: Path) -> None:
    before = files(copied)
    with pytest.raises(PersistentOrderedDictIntegrityError, match=r"\.lock") as caught:
        POD(copied, mode="r")
    assert 'mode="a"' in str(caught.value)
    assert files(copied) == before
    POD(copied).close()
    assert exactly(stored(copied)) == exactly(FOLDED | LINES)


def test_check_of_a_copy_without_lock_reports_that_as_a_problem(copied: Path) -> None:
    before = files(copied)
    problems = tastypy.check(copied)
    assert any(".lock" in problem for problem in problems), problems
    assert files(copied) == before


@pytest.mark.parametrize("call", [lambda path: POD(path, mode="r"), tastypy.check])
def test_a_directory_without_journals_and_shards_is_still_no_pod(copied: Path, call: Callable[[Path], object]) -> None:
    for file in list(copied.iterdir()):
        file.unlink()
    with pytest.raises(MissingPODError):
        call(copied)
    assert files(copied) == {}


# ------------------------------------------------------------------------------------------------- a repair that fails


def test_a_pod_works_on_or_says_the_damage_after_a_repair_that_failed(
    folded: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = opened(folded)
    shards(folded)[0].write_bytes(b"{broken")
    before = {name: data for name, data in files(folded).items() if name.endswith(".json")}

    def full(_: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(CommitError):
        patch.setattr("tastypy.files.sync_directory", full)
        pod.repair()
    assert {name: data for name, data in files(folded).items() if name in before} == before
    for use in (pod.refresh, lambda: pod.update(more=1), pod.sync):
        try:
            use()
        except PersistentOrderedDictIntegrityError as error:
            assert shards(folded)[0].name in str(error)
    assert pod.repair() != []
    pod["after"] = 1
    assert exactly(pod) == exactly(stored(folded))
    assert pod.copy().items() >= (LINES | {"after": 1}).items()
