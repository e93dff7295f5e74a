"""Hostile neighbours: what somebody puts into the directory who may write there is refused, and neither followed nor waited for."""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from helpers import Opener, journal, shards, signed, stored

from tastypy import POD, CommitError, PersistentOrderedDictIntegrityError, StorageError
from tastypy import files as under_test
from tastypy import format as form
from tastypy import shards as shard_texts
from tastypy.pod import repair
from tastypy.shards import pack, unpack

OUTSIDE = b"somebody else's\n"
BOUND = 20  # seconds that a test may take, on a busy machine


@pytest.fixture(autouse=True)
def bound() -> Iterator[None]:
    """Nothing in here may wait: a hang ends in an error."""

    def give_up(*_: object) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(BOUND)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file outside the directory, that nothing in here may change."""
    file = tmp_path / "outside"
    file.write_bytes(OUTSIDE)
    file.chmod(0o640)
    return file


def _symlink(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def _dangling(path: Path, outside: Path) -> None:
    path.symlink_to(outside.with_name("nothing"))


def _fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _zero(path: Path, _: Path) -> None:
    path.symlink_to("/dev/zero")


def _directory(path: Path, _: Path) -> None:
    path.mkdir()


def _hard_link(path: Path, outside: Path) -> None:
    path.hardlink_to(outside)


def _socket(path: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = os.open(path.parent, os.O_RDONLY)
        one.bind(f"/proc/self/fd/{here}/{path.name}")  # the path may be too long for a socket
        os.close(here)


Plant = Callable[[Path, Path], None]
PLANTS = [_symlink, _dangling, _fifo, _zero, _directory, _hard_link, _socket]


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize(
    "open_it",
    [
        under_test.open_to_read,
        under_test.open_to_append,
        under_test.open_to_lock,
        under_test.open_lock,
        lambda path: under_test.open_or_create_lock(path, 0o600),
        lambda path: under_test.cut(path, 0),
        under_test.read_file,
    ],
)
def test_what_is_not_a_file_of_ours_is_refused_by_its_name(
    tmp_path: Path, outside: Path, plant: Plant, open_it: Callable[[str], object]
) -> None:
    """However it is opened; only what is read may have other names, since nobody else's file passes for one of ours."""
    path = tmp_path / "planted"
    plant(path, outside)
    if plant is _hard_link and open_it in (under_test.open_to_read, under_test.read_file):
        return
    with pytest.raises(StorageError, match=f"{path} (is a .* remove it|has 2 names)"):
        open_it(str(path))
    assert outside.read_bytes() == OUTSIDE
    assert stat.S_IMODE(outside.stat().st_mode) == 0o640
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("victim", [".lock", "journal", "shard"])
@pytest.mark.parametrize("mode", ["a", "r"])
def test_a_pod_with_something_else_in_the_place_of_a_file_is_refused(
    opened: Opener, path: Path, outside: Path, plant: Plant, victim: str, mode: str
) -> None:
    with opened() as pod:
        pod["a"] = 1
        pod.sync()
        pod["b"] = 2
    file = {".lock": path / ".lock", "journal": journal(path), "shard": shards(path)[0]}[victim]
    file.rename(path.with_name("kept"))
    plant(file, outside)
    if plant is _hard_link and victim == ".lock" and mode == "r":
        assert stored(path) == {"a": 1, "b": 2}  # what a damaged .lock says, the journals say, too
        return
    before = sorted(os.listdir(path))
    with pytest.raises((StorageError, PersistentOrderedDictIntegrityError), match=file.name.replace(".", r"\.")):
        POD[Any, Any](path, mode=mode).close()
    assert sorted(os.listdir(path)) == before
    assert outside.read_bytes() == OUTSIDE


@pytest.mark.parametrize("plant", PLANTS)
def test_a_journal_that_is_swapped_while_it_is_open_is_refused_and_the_pod_goes_on_when_it_is_back(
    opened: Opener, path: Path, outside: Path, plant: Plant
) -> None:
    pod = opened()
    pod["a"] = 1
    file, kept = journal(path), path.with_name("kept")
    file.rename(kept)
    plant(file, outside)
    with pytest.raises((StorageError, PersistentOrderedDictIntegrityError)):
        pod["b"] = 2
    assert pod == {"a": 1}
    assert outside.read_bytes() == OUTSIDE
    if file.is_dir() and not file.is_symlink():
        file.rmdir()
    kept.rename(file)
    pod["c"] = 3
    assert stored(path) == {"a": 1, "c": 3}


def test_a_planted_name_of_a_new_file_is_not_written_through(opened: Opener, path: Path, outside: Path) -> None:
    """Neither the next journal nor the next shard: a number that is taken is not used, and a shard takes the name over."""
    pod = opened()
    pod["a"] = 1
    epoch = pod.stats().epoch
    (path / f"journal-{epoch + 1}.jsonl").symlink_to(outside)
    (path / f"0000-{epoch + 2}.json").symlink_to(outside)
    pod.sync()
    assert stored(path) == {"a": 1}
    assert outside.read_bytes() == OUTSIDE


def test_a_fold_that_a_directory_is_in_the_way_of_names_it_and_the_next_one_goes_around_it(
    opened: Opener, path: Path
) -> None:
    pod = opened()
    pod["a"] = 1
    name = f"0000-{pod.stats().epoch + 1}.json"
    (path / name).mkdir()
    with pytest.raises(CommitError, match=f"Is a directory: {path / name}"):
        pod.sync()
    pod.sync()
    assert stored(path) == {"a": 1}


def test_a_lease_that_nobody_gives_up_is_an_error_and_not_waited_for(tmp_path: Path, monkeypatch: Any) -> None:
    """Whoever opens the file of an NFS server's client, there, has to wait for it a little."""
    monkeypatch.setattr(under_test, "_LEASE_TRIES", 3)
    path = tmp_path / "leased"
    path.write_bytes(b"")
    descriptor = os.open(path, os.O_RDONLY)
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    start = time.monotonic()
    with pytest.raises(BlockingIOError):
        under_test.open_to_append(str(path))
    assert time.monotonic() - start < 1
    os.close(descriptor)
    os.close(under_test.open_to_append(str(path)))


def test_a_stale_handle_and_a_lease_are_tried_again(failing_os: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"data")
    errors = [errno.ESTALE, errno.EAGAIN, errno.ESTALE]

    def fail(*_: object) -> None:
        if errors:
            raise OSError(errors.pop(), "for a moment")

    failing_os.before["open"] = fail
    assert under_test.read_file(str(path)) == b"data"
    assert not errors


# --------------------------------------------------------------------------------------------- what is in a file


def test_a_file_of_holes_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.seek(1 << 40)
        file.write(b"data")
    with pytest.raises(StorageError, match=f"{path} has .* NUL bytes"):
        under_test.read_file(str(path))


def test_a_journal_with_a_tail_of_zeros_as_a_power_cut_leaves_it_is_cut(opened: Opener, path: Path) -> None:
    with opened() as pod:
        pod["a"] = 1
    os.truncate(journal(path), (1 << 26) - 1)
    with opened() as pod:
        assert pod == {"a": 1}
        pod["b"] = 2
    assert stored(path) == {"a": 1, "b": 2}


def test_text_that_gzip_makes_too_small_is_packed_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is unpacked is never out of proportion, and everything that is packed can be."""
    monkeypatch.setattr(shard_texts, "_PLAIN", 1 << 18)
    text = b"x" * (shard_texts._PLAIN + 1)
    assert len(pack(text)) > len(text)
    assert unpack(pack(text)) == text
    assert len(pack(text[1:])) < len(text) / 500
    assert unpack(pack(text[1:])) == text[1:]
    with pytest.raises(ValueError, match="unpack to more than"):
        unpack(gzip.compress(text))


ZIPPED = gzip.compress(b"{}", mtime=0)


@pytest.mark.parametrize("data", [b"", b"{}", ZIPPED[:-1], ZIPPED * 2, b"\x1f\x8b\x08"])
def test_what_is_not_one_whole_gzip_file_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        unpack(data)


@pytest.mark.parametrize(
    "text",
    [b"[" * 100_000, b"[1]", b"{", b'{\n"#{}":1\n}\n', b'{\n"#' + b"[" * 1000 + b"]" * 1000 + b'":1\n}\n', b"\0" * 99],
)
def test_a_shard_with_the_right_crc_that_is_no_shard_is_damage_that_names_it(
    opened: Opener, path: Path, text: bytes
) -> None:
    with opened() as pod:
        pod["a"] = 1
        pod.sync()
    shard = shards(path)[0]
    shard.write_bytes(text)
    _say_in_header(path, {"shards": [[0, int(shard.stem.partition("-")[2]), 1, len(text), form.crc_text(text)]]})
    for mode in ("a", "r"):
        with pytest.raises(PersistentOrderedDictIntegrityError, match=shard.name):
            opened(mode=mode)


@pytest.mark.parametrize(
    "fields",
    [
        {"shards": [[0, "../../../etc/passwd", 1, 1, ""]]},
        {"shards": [["../x", 1, 1, 1, ""]]},
        {"shards": [[0, 1, -1, 1, ""]]},
        {"shards": [[0, 1]]},
        {"shards": 7},
        {"epoch": "../1"},
        {"seq": 1.5},
        {"before": None},
        {"id": 5},
        {"next": True},
    ],
)
def test_a_header_with_the_right_crc_that_says_what_no_header_says_is_damage(
    opened: Opener, path: Path, fields: dict[str, Any]
) -> None:
    """Files are named by what it says: nothing but numbers may get into a path."""
    with opened() as pod:
        pod["a"] = 1
    _say_in_header(path, fields)
    with pytest.raises(PersistentOrderedDictIntegrityError, match=journal(path).name):
        opened()


def _say_in_header(path: Path, fields: dict[str, Any]) -> None:
    file = journal(path)
    head, _, rest = file.read_bytes().partition(b"\n")
    said = orjson.loads(head)
    del said["crc"]
    file.write_bytes(signed(orjson.dumps(said | fields)[1:]) + rest)


def test_repair_sets_a_line_with_the_right_crc_aside_that_is_none_of_ours(opened: Opener, path: Path) -> None:
    with opened() as pod:
        pod["a"] = 1
        pod.sync()
        epoch = pod.stats().epoch
    file = path / f"journal-{epoch}.jsonl"
    head = orjson.loads(file.read_bytes())
    line = signed(b'"seq":%d,"put":{"b":' % (head["seq"] + 1) + b"[" * 2000 + b"}}")
    file.write_bytes(file.read_bytes() + line)
    assert [done for done in repair(path) if "1 damaged lines set aside" in done]
    assert stored(path) == {"a": 1}
