"""Copies of a directory: of one moment while others write, whole or not at all, and PODs of their own."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from exchange_programs import fill
from faults import FailingOS
from helpers import Opener, exactly, files, header_of, journal, shards, stored

from tastypy import (
    POD,
    ClosedPODError,
    DirectoryGoneError,
    MissingPODError,
    PathTakenError,
    StorageError,
    Tracker,
    check,
)
from tastypy.exchange import copying
from tastypy.exchange.rows import without_claim

# --- what a copy is


@pytest.mark.parametrize("gzipped", [False, True])
def test_a_copy_has_the_same_entries_in_the_same_order_and_the_same_settings(
    opened: Opener, tmp_path: Path, gzipped: bool
) -> None:
    pod = opened(gzipped=gzipped, shard_bytes=300)
    fill(pod)
    before = files(Path(pod.path))
    pod.copy_to(tmp_path / "deep" / "copy.pod")
    assert files(Path(pod.path)) == before
    copy = opened(tmp_path / "deep" / "copy.pod", gzipped=gzipped, shard_bytes=300)
    assert exactly(copy) == exactly(pod)
    assert len(shards(Path(copy.path))) > 5
    assert check(copy.path) == []
    assert os.listdir(tmp_path / "deep") == ["copy.pod"]


def test_all_of_a_copy_is_in_its_shards(opened: Opener, tmp_path: Path) -> None:
    pod = opened(shard_bytes=300)
    fill(pod)
    pod.copy_to(tmp_path / "copy.pod")
    assert len(journal(tmp_path / "copy.pod").read_bytes().splitlines()) == 1
    assert sum(shard.entries for shard in header_of(tmp_path / "copy.pod").shards) == len(pod)
    assert len(shards(tmp_path / "copy.pod")) == len(header_of(tmp_path / "copy.pod").shards)


def test_an_empty_pod_has_a_copy(pod: POD[Any, Any], tmp_path: Path) -> None:
    pod.copy_to(tmp_path / "copy.pod")
    assert stored(tmp_path / "copy.pod") == {}
    assert check(tmp_path / "copy.pod") == []


def test_a_copy_is_a_pod_of_its_own_beside_the_original_in_one_process(
    pod: POD[Any, Any], opened: Opener, tmp_path: Path
) -> None:
    pod["both"] = 1
    pod.copy_to(tmp_path / "copy.pod")
    copy = opened(tmp_path / "copy.pod")
    with pod.transaction(), copy.transaction():
        pod["original"] = 1
        copy["copy"] = 1
    for one in (pod, copy):
        one.sync()
    assert stored(pod.path) == {"both": 1, "original": 1}
    assert stored(copy.path) == {"both": 1, "copy": 1}
    assert header_of(pod.path).id != header_of(copy.path).id


def test_a_backup_in_the_place_of_a_pod_is_another_directory_to_who_has_that_open(
    pod: POD[Any, Any], tmp_path: Path
) -> None:
    pod["foo"] = 1
    pod.copy_to(tmp_path / "backup.pod")
    pod["foo"] = 2
    os.rename(pod.path, tmp_path / "away")
    os.rename(tmp_path / "backup.pod", pod.path)
    with pytest.raises(DirectoryGoneError):
        pod["foo"] = 3
    with pytest.raises(DirectoryGoneError):
        pod.copy_to(tmp_path / "another.pod")
    assert stored(pod.path) == {"foo": 1}
    os.rename(pod.path, tmp_path / "backup.pod")
    os.rename(tmp_path / "away", pod.path)


def test_a_copy_of_a_copy_is_a_copy(pod: POD[Any, Any], opened: Opener, tmp_path: Path) -> None:
    fill(pod)
    pod.copy_to(tmp_path / "0.pod")
    for number in range(3):
        copy = opened(tmp_path / f"{number}.pod")
        copy[f"at {number}"] = number
        copy.copy_to(tmp_path / f"{number + 1}.pod")
    assert list(stored(tmp_path / "3.pod")) == [*pod, "at 0", "at 1", "at 2"]


def test_what_is_held_and_what_a_transaction_has_not_committed_is_in_no_copy(
    pod: POD[Any, Any], tmp_path: Path
) -> None:
    pod["committed"] = 1
    with pod.hold():
        pod["held"] = 1
        pod.copy_to(tmp_path / "held.pod")
    with pod.transaction():
        pod["inside"] = 1
        pod.copy_to(tmp_path / "inside.pod")
    assert stored(tmp_path / "held.pod") == {"committed": 1}
    assert stored(tmp_path / "inside.pod") == {"committed": 1, "held": 1}


def test_a_value_that_was_mutated_in_memory_is_copied_as_it_was_committed(pod: POD[Any, Any], tmp_path: Path) -> None:
    pod["list"] = [1]
    pod["list"].append(2)
    pod.copy_to(tmp_path / "copy.pod")
    assert stored(tmp_path / "copy.pod") == {"list": [1]}


def test_a_copy_has_the_permissions_of_the_original(pod: POD[Any, Any], tmp_path: Path) -> None:
    os.chmod(pod.path, 0o750)
    pod["foo"] = 1
    pod.copy_to(tmp_path / "copy.pod")
    assert (tmp_path / "copy.pod").stat().st_mode & 0o777 == 0o750
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "copy.pod").iterdir()} == {0o640}


def test_the_lock_of_a_copy_is_that_of_the_original_or_the_one_asked_for(opened: Opener, tmp_path: Path) -> None:
    leased = opened(lock="lease")
    leased["foo"] = 1
    leased.sync()
    leased["bar"] = 2
    leased.copy_to(tmp_path / "same.pod")
    leased.copy_to(tmp_path / "other.pod", lock="flock")
    for name, lock in (("same", "lease"), ("other", "flock")):
        with POD[str, int](tmp_path / f"{name}.pod", lock=lock) as copy:  # type: ignore[arg-type]  # one of the two
            copy["more"] = 3
            copy.sync()
        assert stored(tmp_path / f"{name}.pod") == {"foo": 1, "bar": 2, "more": 3}
        assert check(tmp_path / f"{name}.pod") == []
    with pytest.raises(ValueError, match="lock must be"):
        leased.copy_to(tmp_path / "third.pod", lock="none")  # type: ignore[arg-type]  # that is refused


def test_claims_are_released_in_a_copy_without_a_try_wherever_they_stand(tmp_path: Path) -> None:
    with Tracker[int](tmp_path / "my.tracker", max_tries=1, shard_bytes=400) as tracker:
        tracker.add_many(range(20), note="kept")
        claims = tracker.claims(batch=4)
        first = next(claims)
        tracker.sync()  # these are in a shard
        second = tracker.claim()
        assert second is not None
        tracker["looks like one"] = {"_done": False, "claim": '"_claim":{'}  # type: ignore[index]  # any key will do
        tracker.copy_to(tmp_path / "copy.tracker")
        assert tracker.counts().claimed == 5
        with Tracker[Any](tmp_path / "copy.tracker", max_tries=1) as copy:
            assert copy.counts() == (21, 0, 0, 0, 0, 0, 21)
            assert not any("_claim" in entry or entry["_tries"] for entry in copy.values())
            assert list(copy) == list(tracker)
            assert copy[0]["note"] == "kept"
        assert not list((tmp_path / "copy.tracker").glob("worker-*"))
        assert check(tmp_path / "copy.tracker") == []
        first.release()
        second.release()


FIXTURES = Path(__file__).with_name("fixtures") / "1.0"
KEPT = sorted(file.parent.name for file in FIXTURES.glob("*/.lock") if file.parent.name != "future")


@pytest.mark.parametrize("name", KEPT)
def test_every_directory_that_an_earlier_version_has_left_has_a_copy(tmp_path: Path, name: str) -> None:
    shutil.copytree(FIXTURES / name, tmp_path / "old.pod")
    before = files(tmp_path / "old.pod")
    with POD[Any, Any](tmp_path / "old.pod", mode="r") as pod:
        pod.copy_to(tmp_path / "copy.pod")
        entries = {key: without_claim(value) for key, value in pod.items()}
    assert files(tmp_path / "old.pod") == before
    assert exactly(stored(tmp_path / "copy.pod")) == exactly(entries)
    assert check(tmp_path / "copy.pod") == []


# --- where it goes


def test_a_copy_replaces_nothing(pod: POD[Any, Any], tmp_path: Path) -> None:
    pod["foo"] = 1
    (tmp_path / "file").write_text("a letter")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("another one")
    (tmp_path / "link").symlink_to(tmp_path / "full")
    for name in ("file", "full", "link", "my.pod"):
        with pytest.raises(PathTakenError, match="is there already") as caught:
            pod.copy_to(tmp_path / name)
        assert isinstance(caught.value, FileExistsError)
    for inside in ("copy.pod", "x/y/copy.pod"):
        with pytest.raises(PathTakenError, match="inside of a POD"):
            pod.copy_to(Path(pod.path) / inside)
    with pytest.raises(StorageError, match="file"):
        pod.copy_to(tmp_path / "file" / "copy.pod")
    with pytest.raises(ValueError, match="must not be empty"):
        pod.copy_to("")
    assert sorted(os.listdir(tmp_path)) == ["file", "full", "link", "my.pod"]
    assert (tmp_path / "file").read_text() == "a letter"


def test_an_empty_directory_and_one_behind_a_link_are_places_for_a_copy(pod: POD[Any, Any], tmp_path: Path) -> None:
    pod["foo"] = 1
    for name in ("empty", "behind"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "behind")
    for name in ("empty", "link"):
        pod.copy_to(tmp_path / name)
        assert stored(tmp_path / name) == {"foo": 1}
    assert (tmp_path / "link").is_symlink()


def test_an_empty_directory_keeps_its_permissions_and_its_group(pod: POD[Any, Any], tmp_path: Path) -> None:
    pod["foo"] = 1
    target = tmp_path / "shared"
    target.mkdir()
    with suppress(OSError):  # only root may be in any group
        os.chown(target, -1, 1234)
    target.chmod(0o2770)
    before = target.stat()
    pod.copy_to(target)
    after = target.stat()
    assert (after.st_mode, after.st_gid) == (before.st_mode, before.st_gid)
    assert {(file.stat().st_mode & 0o777, file.stat().st_gid) for file in target.iterdir()} == {(0o660, after.st_gid)}


def test_who_was_faster_is_not_overwritten(pod: POD[Any, Any], tmp_path: Path, failing_os: FailingOS) -> None:
    pod["foo"] = 1

    def be_faster(*_: object) -> None:
        (tmp_path / "copy.pod").mkdir(exist_ok=True)
        (tmp_path / "copy.pod" / "file").write_text("mine")

    failing_os.before["rename"] = be_faster
    with pytest.raises(PathTakenError, match="is there already"):
        pod.copy_to(tmp_path / "copy.pod")
    assert sorted(os.listdir(tmp_path)) == ["copy.pod", "my.pod"]
    assert os.listdir(tmp_path / "copy.pod") == ["file"]


def test_a_closed_pod_and_none_at_all_are_not_copied(pod: POD[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(MissingPODError):
        copying.copy(tmp_path / "none.pod", tmp_path / "new" / "copy.pod")
    assert os.listdir(tmp_path) == ["my.pod"]
    pod.close()
    with pytest.raises(ClosedPODError):
        pod.copy_to(tmp_path / "copy.pod")
