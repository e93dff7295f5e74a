"""A disk that is really full: a small ext4 image, mounted through a loop device. Root only; skipped where that cannot be."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import exactly, files, stored

from tastypy import POD, CommitError


def _run(*command: object) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        pytest.skip(f"no small disk can be made here: {' '.join(map(str, command))}: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system of 4 MB of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    if shutil.which("mkfs.ext4") is None or shutil.which("mount") is None:
        pytest.skip("mounting a small disk takes mkfs.ext4 and mount")
    image, mounted = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(4 << 20)
    _run("mkfs.ext4", "-q", image)
    mounted.mkdir()
    _run("mount", "-o", "loop", image, mounted)
    yield mounted
    subprocess.run(["umount", "-l", str(mounted)], check=True, timeout=60)


def fill(disk: Path) -> Path:
    """Use up every byte of the disk; removing the file that is returned gives them back."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC
    return filler


def test_an_assignment_on_a_full_disk_fails_and_changes_nothing(disk: Path) -> None:
    """Until there is room again; then the same POD goes on."""
    with POD[Any, Any](disk / "my.pod") as pod:
        pod["a"] = 1
        pod.sync()
        filler = fill(disk)
        acknowledged: dict[Any, Any] = {"a": 1}
        with pytest.raises(CommitError, match="No space left") as caught:
            for number in range(100):
                pod[number] = "x" * 500
                acknowledged[number] = "x" * 500
        assert caught.value.errno == errno.ENOSPC
        assert str(pod.path) in str(caught.value)
        before = files(Path(pod.path))
        assert exactly(pod) == exactly(acknowledged) == exactly(stored(pod.path))
        with pytest.raises(CommitError, match="No space left"):
            pod.update({f"more {number}": "y" * 1000 for number in range(100)})
        assert files(Path(pod.path)) == before
        assert exactly(pod) == exactly(acknowledged)
        filler.unlink()
        pod["b"] = acknowledged["b"] = 2
        pod.sync()
        assert exactly(pod) == exactly(acknowledged) == exactly(stored(pod.path))
        assert pod.check() == []


def test_a_fold_on_a_full_disk_fails_and_changes_nothing(disk: Path) -> None:
    with POD[Any, Any](disk / "my.pod", shard_bytes=10_000) as pod:
        expected = {str(number): "x" * 1000 for number in range(300)}
        pod.update(expected)
        filler = fill(disk)
        with pytest.raises(CommitError, match="No space left"):
            pod.sync()
        assert exactly(stored(pod.path)) == exactly(expected)
        assert exactly(pod) == exactly(expected)
        filler.unlink()
        pod.sync()
        assert exactly(stored(pod.path)) == exactly(expected)
        assert pod.check() == []
        names = {entry.name.partition("-")[0] for entry in Path(pod.path).iterdir()}
        assert not [name for name in names if name.endswith(".tmp")]


def test_a_transaction_and_held_changes_survive_a_full_disk_in_memory(disk: Path) -> None:
    """The transaction is rolled back; what is held stays held, and is written once there is room."""
    with POD[Any, Any](disk / "my.pod") as pod:
        pod["a"] = 1
        pod.hold()
        pod["held"] = "h" * 50_000
        filler = fill(disk)
        with pytest.raises(CommitError), pod.transaction():
            pod["a"] = 2
            pod["b"] = "x" * 50_000
        assert exactly(pod) == exactly({"a": 1, "held": "h" * 50_000})
        with pytest.raises(CommitError):
            pod.sync()
        assert pod.dirty() == {"held"}
        filler.unlink()
        pod.unhold()
        assert exactly(stored(pod.path)) == exactly({"a": 1, "held": "h" * 50_000})


def test_a_new_pod_on_a_full_disk_is_an_error_and_can_be_made_later(disk: Path) -> None:
    filler = fill(disk)
    try:
        POD[Any, Any](disk / "my.pod").close()
    except OSError as error:
        assert str(disk / "my.pod") in str(error)  # small files may still find room
    filler.unlink()
    with POD[Any, Any](disk / "my.pod") as pod:
        pod["a"] = 1
        pod.sync()
        assert pod.check() == []
    assert stored(disk / "my.pod") == {"a": 1}


def test_a_full_disk_can_be_emptied_through_the_pod_itself(disk: Path) -> None:
    """Deleting is a line in the journal, for which there must be room; the fold then gives the space back."""
    with POD[Any, Any](disk / "my.pod") as pod:
        number = 0
        with pytest.raises(CommitError):
            while True:
                pod[number] = "x" * 20_000
                number += 1
        assert number > 20
        assert len(stored(pod.path)) == len(pod) == number
        pod.clear()
        pod.sync()
        pod["again"] = "x" * 100_000
        assert set(stored(pod.path)) == {"again"}
