"""Files: what each name says, and each thing that is done to them, whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from faults import FailingOS, os_error
from helpers import Opener, files, open_files
from hypothesis import given
from hypothesis import strategies as st

from tastypy import files as under_test
from tastypy import mounts
from tastypy.files import Name, parse_name

NUMBERS = st.integers(1, 10**7)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A file that is open to be appended to, and its descriptor."""
    path = tmp_path / "file"
    descriptor = under_test.create(str(path), 0o600)
    yield path, descriptor
    os.close(descriptor)


# --------------------------------------------------------------------------------------------------------------- names


@given(number=NUMBERS, epoch=NUMBERS, gzipped=st.booleans())
def test_every_name_that_is_made_says_what_it_is(number: int, epoch: int, *, gzipped: bool) -> None:
    assert parse_name(under_test.journal_name(epoch)) == Name("journal", 0, epoch)
    assert parse_name(under_test.shard_name(number, epoch, gzipped=gzipped)) == Name("shard", number, epoch)
    for name in (under_test.journal_name(epoch), under_test.shard_name(number, epoch, gzipped=gzipped), ".lock"):
        assert parse_name(under_test.aside_name(name)) == Name("aside")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (".lock", "other"),
        (".nfs0000000000ab", "other"),
        (".doctor-1a2b", "other"),
        (".0123456789abcdef.tmp", "temporary"),
    ],
)
def test_a_name_without_numbers_says_its_kind(name: str, kind: str) -> None:
    assert parse_name(name) == Name(kind)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "journal-0.jsonl",
            "journal-01.jsonl",
            "journal-.jsonl",
            "journal-1.json",
            "xjournal-1.jsonl",
            "journal-1.jsonl~",
        ),
        *("000-1.json", "0000-0.json", "0000-1.json.bz2", "0000-1.json.gz.tmp", "0000--1.json", "notes.json"),
        *(".0123456789abcde.tmp", "0123456789abcdef.tmp", "aside-1234567-x", ".lock~", "README", "", ".gitignore"),
    ],
)
def test_a_name_that_is_not_ours_says_nothing(name: str) -> None:
    """Nothing of such a name is ever removed."""
    assert parse_name(name) is None


def test_shard_names_sort_by_number() -> None:
    assert under_test.shard_name(7, 12, gzipped=False) == "0007-12.json"
    assert under_test.shard_name(12345, 1, gzipped=True) == "12345-1.json.gz"


def test_names_set_aside_are_random_and_not_hidden() -> None:
    """Two hosts may set the same file aside at the same time, and people shall see it."""
    names = {under_test.aside_name(".lock") for _ in range(50)}
    assert len(names) == 50
    assert all(name.startswith("aside-") and name.endswith("-lock") for name in names)


# ------------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_a_short_write_is_continued_until_all_is_written(
    file: tuple[Path, int], failing_os: FailingOS, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    path, descriptor = file
    monkeypatch.setattr(failing_os, "write", lambda to, data: os.write(to, data[:most]), raising=False)
    under_test.append(descriptor, b"0123456789")
    under_test.append(descriptor, b"")
    assert path.read_bytes() == b"0123456789"


def test_a_short_write_of_the_lock_line_is_continued_before_it_is_made_stable(
    tmp_path: Path, failing_os: FailingOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".lock"
    path.write_bytes(b"old and longer")
    order: list[str] = []

    def write(descriptor: int, data: bytes, offset: int) -> int:
        order.append("pwrite")
        return os.pwrite(descriptor, data[:4], offset) if len(order) == 1 else os.pwrite(descriptor, data, offset)

    monkeypatch.setattr(failing_os, "pwrite", write, raising=False)
    failing_os.before["fdatasync"] = lambda _: order.append("fdatasync")
    descriptor = under_test.open_or_create_lock(str(path), 0o600)
    under_test.replace_line(descriptor, b"new line\n")
    os.close(descriptor)
    assert path.read_bytes() == b"new line\nonger"
    assert order == ["pwrite", "pwrite", "fdatasync"]


def test_a_new_file_is_stable_before_it_has_its_name(tmp_path: Path, failing_os: FailingOS) -> None:
    target = tmp_path / "0000-1.json"
    failing_os.before["rename"] = lambda source, _: os.path.getsize(source) == 4 or pytest.fail("not written yet")
    under_test.write_new(str(target), b"data", 0o600)
    assert target.read_bytes() == b"data"
    calls = [call for call in failing_os.calls if call in ("write", "fsync", "close", "rename")]
    assert calls == ["write", "fsync", "close", "rename"]


@pytest.mark.parametrize("call", ["open", "fchmod", "write", "fsync", "close", "rename"])
@pytest.mark.parametrize("error", [os_error(errno.ENOSPC), KeyboardInterrupt], ids=["ENOSPC", "Ctrl-C"])
def test_a_file_that_cannot_be_written_whole_leaves_nothing(
    tmp_path: Path, failing_os: FailingOS, call: str, error: Any
) -> None:
    (tmp_path / "other").write_bytes(b"other")
    before = files(tmp_path)
    descriptors = open_files()
    under_test.write_new(str(tmp_path / "first"), b"data", 0o600)
    at = failing_os.calls.index(call) + 1
    (tmp_path / "first").unlink()
    failing_os.arm(at, error)
    with pytest.raises((OSError, KeyboardInterrupt)):
        under_test.write_new(str(tmp_path / "0000-1.json"), b"data", 0o600)
    failing_os.disarm()
    assert files(tmp_path) == before
    assert open_files() == descriptors


def test_a_file_is_created_by_one_and_an_error_for_the_next(file: tuple[Path, int]) -> None:
    path, descriptor = file
    under_test.append(descriptor, b"mine")
    with pytest.raises(FileExistsError):
        under_test.create(str(path), 0o600)
    assert path.read_bytes() == b"mine"


def test_the_lock_that_another_process_creates_meanwhile_is_taken_as_it_is(
    tmp_path: Path, failing_os: FailingOS
) -> None:
    """Found missing here, created there, and then not created but opened here."""
    path = tmp_path / ".lock"

    def create_meanwhile(name: str, flags: int, *_: object) -> None:
        if flags & os.O_CREAT:
            path.write_bytes(b"theirs")

    failing_os.before["open"] = create_meanwhile
    descriptor = under_test.open_or_create_lock(str(path), 0o600)
    assert under_test.read_from(descriptor, 0) == b"theirs"
    os.close(descriptor)


@pytest.mark.parametrize("writable", [True, False])
def test_a_lock_that_another_user_is_creating_is_waited_for(
    tmp_path: Path, failing_os: FailingOS, *, writable: bool
) -> None:
    """It has that one's umask until its permissions are set: so it was refused to one of the same group, once in a while."""
    path = tmp_path / ".lock"
    path.touch()
    refused = [1, 2, 3]

    def refuse(*_: object) -> None:
        if refused:
            refused.pop()
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    failing_os.before["open"] = refuse
    os.close(under_test.open_lock(str(path), writable=writable))
    assert not refused


def test_a_lock_that_another_user_creates_just_before_we_would_is_waited_for(
    tmp_path: Path, failing_os: FailingOS
) -> None:
    path = tmp_path / ".lock"
    steps = ["found missing", "created", "refused", "refused"]

    def happen(name: str, flags: int, *_: object) -> None:
        step = steps.pop(0) if steps else ""
        assert bool(flags & os.O_CREAT) == (step == "created")
        if step == "created":
            path.touch()
        elif step == "refused":
            raise PermissionError(errno.EACCES, "Permission denied", name)

    failing_os.before["open"] = happen
    os.close(under_test.open_or_create_lock(str(path), 0o600))
    assert not steps


@pytest.mark.parametrize("mode", ["a", "r"])
def test_a_pod_that_another_user_is_creating_is_waited_for(
    opened: Opener, failing_os: FailingOS, mode: Literal["a", "r"]
) -> None:
    path = Path(opened().path)
    lock = path / ".lock"
    line = lock.read_bytes()
    lock.write_bytes(b"")
    refusals = [1, 2]

    def happen(name: str, *_: object) -> None:
        if name == str(lock) and refusals:
            refusals.pop()
            raise PermissionError(errno.EACCES, "Permission denied", name)
        if name == str(lock):
            lock.write_bytes(line)

    failing_os.before["open"] = happen
    assert opened(mode=mode) == {}
    assert not refusals


def test_a_lock_that_is_written_to_when_it_was_refused_is_opened(tmp_path: Path, failing_os: FailingOS) -> None:
    path = tmp_path / ".lock"
    path.touch()
    refusals = [1]

    def refuse(*_: object) -> None:
        if refusals:
            refusals.pop()
            path.write_bytes(b"a line")  # whoever creates it was that quick
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    failing_os.before["open"] = refuse
    os.close(under_test.open_lock(str(path)))


@pytest.mark.parametrize("text", ["", "whole"])
def test_a_lock_without_permission_is_an_error_soon_if_it_is_empty_and_at_once_if_not(
    tmp_path: Path, failing_os: FailingOS, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(under_test, "_BEGUN_PAUSE", 0.0001)
    path = tmp_path / ".lock"
    path.write_text(text)
    calls: list[object] = []
    failing_os.before["open"] = lambda *arguments: calls.append(arguments)
    failing_os.always["open"] = PermissionError(errno.EACCES, "Permission denied", str(path))
    with pytest.raises(PermissionError):
        under_test.open_lock(str(path))
    assert len(calls) == 2 if text else 10 < len(calls) < 100


def test_cutting_cuts_at_the_offset_and_needs_the_file(file: tuple[Path, int]) -> None:
    path, descriptor = file
    under_test.append(descriptor, b"0123456789")
    under_test.cut(str(path), 4)
    under_test.append(descriptor, b"x")
    assert path.read_bytes() == b"0123x"
    with pytest.raises(FileNotFoundError):
        under_test.cut(str(path.with_name("missing")), 0)
    assert not path.with_name("missing").exists()


def test_removing_what_cannot_be_removed_is_left_to_a_later_fold(tmp_path: Path, failing_os: FailingOS) -> None:
    under_test.remove(str(tmp_path / "missing"))
    (tmp_path / "busy").touch()
    failing_os.always["unlink"] = OSError(errno.EBUSY, "busy")
    under_test.remove(str(tmp_path / "busy"))
    assert (tmp_path / "busy").exists()


# ------------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("size", [0, 1, 1 << 14, (1 << 14) + 1, (1 << 22) + (1 << 14) + 5])
def test_a_file_of_any_size_is_read_from_any_offset(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    for offset in (0, 1, size // 2, size, size + 3):
        assert under_test.read_file(str(tmp_path / "file"), offset) == data[offset:]


def test_the_end_of_a_file_is_its_last_bytes_and_its_length(file: tuple[Path, int]) -> None:
    _, descriptor = file
    assert under_test.read_end(descriptor, 4) == (b"", 0)
    under_test.append(descriptor, b"0123456789")
    assert under_test.read_end(descriptor, 4) == (b"6789", 10)
    assert under_test.read_end(descriptor, 40) == (b"0123456789", 10)


def test_a_file_that_another_one_took_the_place_of_is_told_by_its_inode(file: tuple[Path, int]) -> None:
    path, descriptor = file
    under_test.append(descriptor, b"123")
    assert under_test.size_and_inode(str(path)) == (3, under_test.inode_of(descriptor))
    path.unlink()
    with pytest.raises(FileNotFoundError):
        under_test.size_and_inode(str(path))
    path.write_bytes(b"123")
    assert under_test.size_and_inode(str(path)) != (3, under_test.inode_of(descriptor))


# --------------------------------------------------------------------------------------------------------- directories


def test_a_file_system_that_cannot_synchronise_directories_is_believed_and_any_other_error_is_not(
    tmp_path: Path, failing_os: FailingOS
) -> None:
    descriptors = open_files()
    for number in (errno.EINVAL, errno.ENOTSUP):
        failing_os.always["fsync"] = OSError(number, os.strerror(number))
        under_test.sync_directory(str(tmp_path))
    failing_os.always["fsync"] = OSError(errno.EIO, "broken")
    with pytest.raises(OSError, match="broken"):
        under_test.sync_directory(str(tmp_path))
    assert open_files() == descriptors


def test_directories_that_another_process_makes_meanwhile_are_taken(tmp_path: Path, failing_os: FailingOS) -> None:
    failing_os.before["mkdir"] = os.mkdir
    under_test.make_directories(str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").is_dir()
    assert failing_os.calls.count("mkdir") == 2


@pytest.mark.parametrize("wanted", [0o700, 0o770, 0o775, 0o2770, 0o777])
def test_new_files_take_the_permissions_of_the_directory_whatever_the_umask_is(
    opened: Opener, path: Path, wanted: int
) -> None:
    path.mkdir()
    path.chmod(wanted)
    umask = os.umask(0o077)
    try:
        pod = opened(shard_bytes=100)
        pod.update({f"key {number}": "x" * 60 for number in range(4)})
        pod.sync()
        pod["journal"] = 1
    finally:
        os.umask(umask)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.iterdir()}
    assert len(modes) > 5
    assert set(modes.values()) == {wanted & 0o666}


# ------------------------------------------------------------------------------------------------------- local or not


@pytest.mark.parametrize(
    ("kind", "local"),
    [
        ("ext4", True),
        ("xfs", True),
        ("tmpfs", True),
        ("nfs4", False),
        ("fuse.sshfs", False),
        ("9p", False),
        ("new", False),
    ],
)
def test_a_file_system_is_local_only_if_it_is_known_to_be(
    file: tuple[Path, int], monkeypatch: pytest.MonkeyPatch, kind: str, *, local: bool
) -> None:
    monkeypatch.setattr(mounts, "mount_of", lambda descriptor: mounts.Mount("/mnt", kind, "/dev/sda1", ("rw",)))
    assert under_test.is_local(file[1]) is local


def test_a_file_system_that_the_system_does_not_tell_of_is_not_local(
    file: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "mount_of", lambda descriptor: None)
    assert under_test.is_local(file[1]) is False
