"""What a review found, once each, about directories that others swap or fold while they are being looked at."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

import pytest
from helpers import Opener, exactly, files, in_child, stored, wait_for_child

from tastypy import POD, DirectoryGoneError


@pytest.fixture(params=["local", "network"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """It holds on what is taken for a local file system and for one of another machine."""
    if request.param == "network":
        monkeypatch.setattr("tastypy.files.is_local", lambda descriptor: False)
    return str(request.param)


# ---------------------------------------------------------------------------------- a directory that was swapped


def make_another(path: Path, how: str) -> None:
    """Put a POD that another process made in the place of the one at `path`."""
    if how == "removed":
        shutil.rmtree(path)
    else:
        path.rename(path.with_name("moved"))

    def create() -> None:
        other = POD[str, int](path)
        other["new 1"] = 1
        other["new 2"] = 2

    assert in_child(create) == 0


@pytest.mark.parametrize("how", ["removed", "moved"])
@pytest.mark.parametrize("use", ["assign", "delete", "refresh", "sync", "transaction"])
@pytest.mark.parametrize("before", ["open", "fold"])
def test_a_directory_that_was_made_again_is_neither_written_nor_read(
    path: Path, opened: Opener, file_system: str, how: str, use: str, before: str
) -> None:
    """The new one has another lock, so both would write at once; its header is as long as the old one's."""
    pod = opened()
    if before == "fold":
        pod["old"] = 0
        pod.sync()
    memory = exactly(pod)
    make_another(path, how)
    new = files(path)
    for _ in range(2):
        with pytest.raises(DirectoryGoneError):
            match use:
                case "assign":
                    pod["old"] = 1
                case "delete":
                    pod.pop("new 1")
                case "refresh":
                    pod.refresh()
                case "sync":
                    pod.sync()
                case "transaction":
                    with pod.transaction():
                        pod["old"] = 1
        assert exactly(pod) == memory
    assert files(path) == new


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_a_reader_does_not_go_on_in_a_directory_that_was_made_again(
    path: Path, opened: Opener, file_system: str, how: str
) -> None:
    opened()
    reader = opened(mode="r")
    make_another(path, how)
    for _ in range(2):
        with pytest.raises(DirectoryGoneError):
            reader.refresh()
        assert len(reader) == 0


@pytest.mark.parametrize("how", ["renamed", "through a link that is gone"])
def test_a_forked_child_opens_the_lock_by_the_name_that_it_was_last_opened_by(
    tmp_path: Path, opened: Opener, how: str
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    if how == "renamed":
        opened(first)
        first.rename(second)
    else:
        second.mkdir()
        first.symlink_to(second)
        opened(first)
        first.unlink()
    pod = opened(second)
    pod["parent"] = 1
    assert in_child(lambda: pod.update(child=1)) == 0
    assert stored(second) == {"parent": 1, "child": 1}


def test_a_new_pod_in_a_forked_child_may_have_the_inode_of_a_removed_one(tmp_path: Path) -> None:
    old = POD[str, int](tmp_path / "old")
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - the child ends without coverage's exit hook
        status = 1
        try:
            os.read(receive, 1)
            for number in range(10):
                POD[str, int](tmp_path / f"new {number}")["x"] = number
            status = 0
        finally:
            os._exit(status)
    old.close()
    del old
    gc.collect()  # the lock's descriptor goes, and with it the inode
    shutil.rmtree(tmp_path / "old")
    os.write(send, b"x")
    assert wait_for_child(child) == 0
    for descriptor in (receive, send):
        os.close(descriptor)
    assert stored(tmp_path / "new 9") == {"x": 9}


# ------------------------------------------------------------------------- folds of others between two reads


def fold_thrice(path: Path) -> None:
    """Let another process fold three times: the journal of now is removed."""

    def fold() -> None:
        pod = POD[str, int](path)
        for number in range(3):
            pod["n"] = number
            pod.sync()

    assert in_child(fold) == 0


@pytest.mark.parametrize("mode", ["r", "a"])
@pytest.mark.parametrize("before", ["open", "refresh"])
def test_folds_between_reading_lock_and_looking_at_the_journal_are_no_error(
    path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch, file_system: str, mode: str, before: str
) -> None:
    opened()["a"] = 1
    pod = opened(mode=mode)
    if before == "refresh":
        pod.refresh()
    pread, times = os.pread, [1]

    def read_and_let_fold(descriptor: int, size: int, offset: int) -> bytes:
        data = pread(descriptor, size, offset)
        if times and os.readlink(f"/proc/self/fd/{descriptor}").endswith(".lock"):
            times.pop()
            fold_thrice(path)
        return data

    with monkeypatch.context() as patch:
        patch.setattr("tastypy.files.os.pread", read_and_let_fold)
        pod.refresh()
    assert not times
    pod.refresh()
    assert exactly(pod) == exactly({"a": 1, "n": 2})
