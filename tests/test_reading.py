"""What is new in a directory: found from wherever a process was, and where files do not fit together, read again or refused."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faults import FailingOS
from helpers import Opener, append, exactly, files, in_child, journal, journals, shards, signed

from tastypy import (
    POD,
    FormatVersionError,
    IncoherentFileSystemError,
    PersistentOrderedDictIntegrityError,
    StorageError,
)
from tastypy import format as form


@pytest.fixture(autouse=True, params=["local", "network"])
def _file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds on what is taken for a local file system and for one of another machine."""
    if request.param == "network":
        monkeypatch.setattr("tastypy.files.is_local", lambda descriptor: False)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What happens in the first pauses between two attempts to read, which take no time."""
    actions: list[Callable[[], object]] = []
    monkeypatch.setattr("tastypy.reading.time.sleep", lambda _: actions.pop(0)() if actions else None)
    return actions


@pytest.fixture
def writer(opened: Opener) -> POD[Any, Any]:
    """A POD with two entries in shards and one in the journal."""
    pod = opened()
    pod.update(a=1, b=2)
    pod.sync()
    pod["c"] = 3
    pod._store.wrote = False  # so that closing it does not look at what a test leaves
    return pod


@pytest.fixture
def reader(writer: POD[Any, Any], opened: Opener) -> POD[Any, Any]:
    """Another one of the same directory, as of now."""
    return opened()


def epoch(pod: POD[Any, Any]) -> int:
    return pod.stats().epoch


def seq_of(pod: POD[Any, Any]) -> int:
    return pod._store.seq


def cut_last_line(file: Path) -> bytes:
    """Take the last line off a journal, as its writer does that failed after it; return it."""
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-1]))
    return lines[-1]


# --------------------------------------------------------------------------------------------------- seals and epochs


def test_a_journal_is_sealed_by_the_fold_that_follows_it(writer: POD[Any, Any]) -> None:
    writer.sync()
    old, new = journals(Path(writer.path))
    assert old.read_bytes().endswith(form.seal_line(epoch(writer)))
    assert b"seal" not in new.read_bytes()


@pytest.mark.parametrize("who", ["one that was open", "one that opens"])
def test_a_seal_that_a_dead_fold_did_not_write_is_added_once_by_the_next_writer(
    writer: POD[Any, Any], reader: POD[Any, Any], opened: Opener, who: str
) -> None:
    writer.sync()
    old = journals(Path(writer.path))[0]
    sealed = old.read_bytes()
    cut_last_line(old)
    other = reader if who == "one that was open" else opened()
    for number in range(3):
        other[f"more {number}"] = number
    assert old.read_bytes() == sealed
    opened()["again"] = 1
    assert old.read_bytes() == sealed


def test_a_reader_needs_no_seal_since_the_lock_line_says_the_same(writer: POD[Any, Any], opened: Opener) -> None:
    reader = opened(mode="r")
    writer.sync()
    writer["d"] = 4
    cut_last_line(journals(Path(writer.path))[0])
    assert reader.refresh() == {"d"}
    assert exactly(reader) == exactly(writer)


def opened_shards(failing_os: FailingOS) -> list[str]:
    """The names of the shards that are opened from now on."""
    found: list[str] = []

    def note(name: str, *_: object) -> None:
        if Path(name).name[0].isdigit():
            found.append(Path(name).name)

    failing_os.before["open"] = note
    return found


@pytest.mark.parametrize("more", [0, 1, 3])
@pytest.mark.parametrize("locked", [False, True])
def test_a_last_line_that_was_taken_back_is_not_kept_where_others_follow_what_stands_there_now(
    writer: POD[Any, Any], opened: Opener, more: int, *, locked: bool
) -> None:
    """Its writer failed after it, and another batch of that length and number was committed in its place."""
    reader = opened(writer.path, mode="a" if locked else "r")
    assert reader.refresh() == set(), "its journal is open now"
    file, seq = journal(Path(writer.path)), seq_of(writer)
    whole = file.read_bytes()
    append(file, form.batch_line(seq + 1, b'"put":{"x":1}'))
    assert reader.refresh() == {"x"}
    lines = [form.batch_line(seq + 1, b'"put":{"x":2}')]
    lines += [form.batch_line(seq + 2 + at, b'"put":{"y":%d}' % at) for at in range(more)]
    with file.open("r+b") as same:
        same.truncate(len(whole))
    append(file, b"".join(lines))
    if locked:
        reader["z"] = 0
    else:
        reader.refresh()
    assert reader["x"] == 2
    assert reader.get("y") == (more - 1 if more else None)


def test_a_load_that_fails_leaves_an_empty_pod_empty_and_is_done_anew(
    opened: Opener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fills the POD itself, shard by shard."""
    monkeypatch.setattr("tastypy.reading.PAUSE", 0)
    opened(shard_bytes=50)
    late, held = opened(mode="r"), opened()
    held.hold()
    held["mine"] = 0

    def fold_thrice() -> None:
        pod = POD[str, int](path)
        for number in range(3):
            pod.update({f"{number} {each}": each for each in range(5)})
            pod.sync()

    assert in_child(fold_thrice) == 0
    last = max(path.glob("0*.json"))
    whole = last.read_bytes()
    last.write_bytes(whole[:-3])
    for pod, before in ((late, {}), (held, {"mine": 0})):
        with pytest.raises(PersistentOrderedDictIntegrityError, match=last.name):
            pod.refresh()
        assert pod.copy() == before
    last.write_bytes(whole)
    expected = {f"{number} {each}": each for number in range(3) for each in range(5)}
    assert late.refresh() == expected.keys()
    held.refresh()
    assert exactly(late) == exactly(expected)
    assert exactly(held) == exactly({**expected, "mine": 0})


def test_one_fold_later_no_shard_is_loaded(writer: POD[Any, Any], reader: POD[Any, Any], failing_os: FailingOS) -> None:
    """Everything was in the journal that was followed to its seal."""
    writer["d"] = 4
    writer.sync()
    writer["e"] = 5
    loaded = opened_shards(failing_os)
    assert reader.refresh() == {"d", "e"}
    assert loaded == []
    assert exactly(reader) == exactly({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5})


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("folds", [2, 3, 10])
def test_a_process_that_slept_over_folds_loads_the_shards_and_brings_nothing_back(
    writer: POD[Any, Any], reader: POD[Any, Any], failing_os: FailingOS, folds: int, *, locked: bool
) -> None:
    del writer["a"]
    for number in range(folds):
        writer[f"fold {number}"] = number
        writer.sync()
    writer.move_to_end("b")
    loaded = opened_shards(failing_os)
    if locked:
        reader["mine"] = 1
        writer.refresh()
    else:
        assert reader.refresh() == {"a", *(f"fold {number}" for number in range(folds))}
    failing_os.before.clear()
    assert loaded
    assert exactly(reader) == exactly(writer)
    assert "a" not in reader


# ------------------------------------------------------------------------------------------------------- a line in doubt


@pytest.mark.parametrize("then", ["nothing", "another line of its length", "a longer one", "a shorter one"])
@pytest.mark.parametrize("locked", [False, True])
def test_a_line_that_was_read_without_the_lock_and_cut_off_again_is_forgotten(
    writer: POD[Any, Any], reader: POD[Any, Any], opened: Opener, then: str, *, locked: bool
) -> None:
    """Its writer failed after it (fdatasync, close), cut it off, and raised."""
    writer["x"] = "failed"
    assert reader.refresh() == {"x"}
    seq = seq_of(reader)
    file = journal(Path(writer.path))
    cut_last_line(file)
    expected = {"a": 1, "b": 2, "c": 3}
    put = {
        "another line of its length": b'{"y":"worked"}',
        "a longer one": b'{"y":"worked, and longer"}',
        "a shorter one": b'{"y":1}',
    }.get(then)
    if put:
        append(file, form.batch_line(seq, b'"put":' + put))
        expected |= json.loads(put)
    writer._store.position = None  # as after a commit that failed
    writer._store.own.clear()
    writer.close()
    if locked:
        reader["z"] = 1
        expected |= {"z": 1}
    else:
        reader.refresh()
    assert exactly(reader) == exactly(expected)
    assert exactly(opened()) == exactly(expected)


def test_a_line_that_was_read_under_the_lock_is_in_no_doubt(writer: POD[Any, Any], reader: POD[Any, Any]) -> None:
    writer["x"] = 1
    reader.refresh()
    assert reader._store.doubt is not None
    reader["y"] = 2
    assert reader._store.doubt is None


# ------------------------------------------------------------------------------------- what is a matter of time is read again


def test_a_gap_that_closes_is_a_matter_of_time_to_who_reads_without_the_lock(
    writer: POD[Any, Any], opened: Opener, pauses: list[Callable[[], object]]
) -> None:
    """A network file system may show the later page of a file first."""
    reader = opened(mode="r")
    file = journal(Path(writer.path))
    lines = [form.batch_line(seq_of(writer) + number, b'"put":{"x":%d}' % number) for number in (1, 2)]
    append(file, lines[1])
    whole = file.read_bytes()[: -len(lines[1])] + lines[0] + lines[1]
    pauses.extend([lambda: None, lambda: file.write_bytes(whole)])
    assert reader.refresh() == {"x"}
    assert reader["x"] == 2
    assert pauses == []


def test_a_gap_that_stays_is_an_error_without_the_lock_too(
    writer: POD[Any, Any], opened: Opener, pauses: list[Callable[[], object]]
) -> None:
    reader = opened(mode="r")
    append(journal(Path(writer.path)), form.batch_line(seq_of(writer) + 2, b'"put":{"x":1}'))
    with pytest.raises(IncoherentFileSystemError) as caught:
        reader.refresh()
    assert caught.value.path == writer.path
    assert caught.value.errno
    assert exactly(reader) == exactly({"a": 1, "b": 2, "c": 3})


def test_a_stable_line_that_is_not_whole_yet_is_a_matter_of_time_without_the_lock(
    writer: POD[Any, Any], opened: Opener, pauses: list[Callable[[], object]]
) -> None:
    reader = opened(mode="r")
    file = journal(Path(writer.path))
    end, good = file.stat().st_size, file.read_bytes()
    lines = [form.batch_line(seq_of(writer) + 1, b'"put":{"x":1}')]
    lines.append(form.batch_line(seq_of(writer) + 2, b'"put":{"y":1}', end + len(lines[0])))
    append(file, bytes(len(lines[0]) - 1) + b"\n" + lines[1])
    pauses.extend([lambda: None, lambda: file.write_bytes(good + b"".join(lines))])
    assert reader.refresh() == {"x", "y"}
    assert pauses == []


def test_a_journal_whose_name_is_not_known_yet_is_asked_for_again(
    writer: POD[Any, Any], opened: Opener, pauses: list[Callable[[], object]]
) -> None:
    reader = opened(mode="r")
    writer["d"] = 4
    writer.sync()
    new = journal(Path(writer.path))
    hidden = new.with_name("hidden")
    new.rename(hidden)
    pauses.extend([lambda: None, lambda: hidden.rename(new)])
    reader.refresh()
    assert exactly(reader) == exactly(writer)


def test_who_opens_a_pod_that_others_fold_all_the_time_opens_it(
    writer: POD[Any, Any], opened: Opener, path: Path, failing_os: FailingOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What .lock names is opened at once: it may be gone after any pause."""

    def fold_twice(*_: object) -> None:
        for number in range(2):
            writer["folds"] = number
            writer.sync()

    def fold_before_it_is_opened(name: str, *_: object) -> None:
        if "journal-" in name:
            del failing_os.before["open"]
            fold_twice()

    monkeypatch.setattr(
        "tastypy.opening.time", SimpleNamespace(sleep=fold_twice, monotonic=time.monotonic)
    )  # its pauses, and no others
    failing_os.before["open"] = fold_before_it_is_opened
    assert opened(mode="r") == writer


def test_who_opens_a_pod_that_is_always_folded_too_soon_is_told_so(
    writer: POD[Any, Any], path: Path, failing_os: FailingOS
) -> None:
    def fold_twice(name: str, *_: object) -> None:
        if "journal-" in name:
            del failing_os.before["open"]
            for number in range(2):
                writer["folds"] = number
                writer.sync()
            failing_os.before["open"] = fold_twice

    failing_os.before["open"] = fold_twice
    with pytest.raises(StorageError, match=f"{path} is folded faster"):
        POD[Any, Any](path, mode="r")
    failing_os.before.clear()


def test_a_journal_that_stays_away_is_named(
    writer: POD[Any, Any], reader: POD[Any, Any], pauses: list[Callable[[], object]]
) -> None:
    writer.sync()
    missing = journal(Path(writer.path))
    missing.unlink()
    before = files(Path(writer.path))
    with pytest.raises(PersistentOrderedDictIntegrityError, match=missing.name):
        reader.refresh()
    # under the lock, on a network file system, that is what one that shows others' writes late looks like
    error = PersistentOrderedDictIntegrityError if reader._store.local else IncoherentFileSystemError
    with pytest.raises(error, match=missing.name):
        reader.update(x=1)
    assert files(Path(writer.path)) == before


# ------------------------------------------------------------------------------------------------------ what is refused


def refused(pod: POD[Any, Any], error: type[Exception]) -> None:
    """A write raises, and nothing is written, also by the next attempts."""
    before, memory = files(Path(pod.path)), exactly(pod)
    for _ in range(3):
        with pytest.raises(error):
            pod["never"] = 1
        with pytest.raises(error):
            pod.update(never=1)
    assert files(Path(pod.path)) == before
    assert exactly(pod) == memory


@pytest.mark.parametrize("skip", [0, 2, 1000, -1])
def test_a_number_out_of_line_under_the_lock_stops_every_write(
    writer: POD[Any, Any], reader: POD[Any, Any], skip: int
) -> None:
    append(journal(Path(writer.path)), form.batch_line(seq_of(reader) + skip, b'"put":{"x":1}'))
    refused(reader, IncoherentFileSystemError)


def test_a_seal_that_is_ahead_of_the_lock_line_stops_every_write(writer: POD[Any, Any], reader: POD[Any, Any]) -> None:
    """It is written after that: under the lock, this `.lock` is old."""
    old = (Path(writer.path) / ".lock").read_bytes()
    writer.sync()
    (Path(writer.path) / ".lock").write_bytes(old)
    refused(reader, IncoherentFileSystemError)


def test_a_lock_line_that_goes_backwards_stops_every_write(writer: POD[Any, Any], reader: POD[Any, Any]) -> None:
    """Nor is what is read anew after the first error taken for the truth."""
    old = (Path(writer.path) / ".lock").read_bytes()
    shard, *_ = shards(Path(writer.path))
    text = shard.read_bytes()
    writer.sync()
    reader.refresh()
    (Path(writer.path) / ".lock").write_bytes(old)
    shard.write_bytes(text)
    refused(reader, IncoherentFileSystemError)


def new_epoch(pod: POD[Any, Any], **fields: Any) -> None:
    """Write the journal of the next epoch, and `.lock`, with some fields of the header as given."""
    header = pod._store.header
    fields = {"epoch": header.epoch + 1, "before": header.epoch, "seq": seq_of(pod)} | fields
    version = fields.pop("version", form.VERSION)
    line = header._replace(**fields).encode()
    body = line[len(b'{"crc":"00000000",') : -1].replace(b'"tastypy":1', b'"tastypy":%d' % version)
    directory = Path(pod.path)
    (directory / f"journal-{fields['epoch']}.jsonl").write_bytes(signed(body))
    (directory / ".lock").write_bytes(form.LockLine(header.id, fields["epoch"]).encode())


def test_a_fold_that_knew_less_than_this_process_stops_every_write(
    writer: POD[Any, Any], reader: POD[Any, Any]
) -> None:
    new_epoch(reader, seq=seq_of(reader) - 1)
    refused(reader, IncoherentFileSystemError)


def test_a_newer_format_that_another_process_began_stops_every_write(
    writer: POD[Any, Any], reader: POD[Any, Any], opened: Opener
) -> None:
    new_epoch(reader, version=2)
    refused(reader, FormatVersionError)
    with pytest.raises(FormatVersionError, match="format 2"):
        POD(writer.path)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_what_was_on_stable_storage_and_is_not_whole_is_damage_with_file_and_line(
    writer: POD[Any, Any], opened: Opener, pauses: list[Callable[[], object]], damage: str
) -> None:
    """A line says up to where; what is beyond that is what a power cut may leave."""
    file = journal(Path(writer.path))
    before = file.stat().st_size
    reader = opened()
    append(file, form.batch_line(seq_of(writer) + 1, b'"put":{"x":1}', before + 500))
    append(file, b"x" * 20 + (b"\n" if damage == "flipped" else b""))
    with pytest.raises(PersistentOrderedDictIntegrityError, match=r"line 4.*stable.*repair") as caught:
        reader.refresh()
    assert caught.value.path == str(file)
    # under the lock, on a network file system, that is what another host's writes that are shown late look like
    error = PersistentOrderedDictIntegrityError if reader._store.local else IncoherentFileSystemError
    with pytest.raises(error, match=rf"{file}, line 4.*stable.*repair"):
        reader.update(y=1)
    assert file.stat().st_size > before
    assert "x" not in reader


def test_a_torn_line_is_left_alone_without_the_lock_and_cut_off_under_it(writer: POD[Any, Any], opened: Opener) -> None:
    """Without the lock, its writer may be at it."""
    file = journal(Path(writer.path))
    line = form.batch_line(seq_of(writer) + 1, b'"put":{"x":1}')
    reader = opened(mode="r")
    append(file, line[:-3])
    before = file.read_bytes()
    assert reader.refresh() == set()
    assert file.read_bytes() == before
    append(file, line[-3:])
    assert reader.refresh() == {"x"}
    append(file, b'{"crc":"')
    opened()["y"] = 2
    assert b'{"crc":"{' not in file.read_bytes()
    assert reader.refresh() == {"y"}
    assert os.path.exists(file)
