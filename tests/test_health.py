"""Damage: found by `check`, mended by `repair` with nothing thrown away; `.lock` recovered at the right epoch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Opener, append, batches, exactly, files, journal, journals, shards, stored
from hypothesis import example, given
from hypothesis import strategies as st

import tastypy
from tastypy import POD, MissingPODError, PersistentOrderedDictIntegrityError, health
from tastypy import format as form
from tastypy.shards import pack, shard_dict, shard_text, unpack

ALL = {**{f"key {number:02}": "x" * 40 for number in range(12)}, "line 1": 1, "line 2": 2, "line 3": 3}


@pytest.fixture(params=[False, True], ids=["plain", "gzipped"])
def directory(request: pytest.FixtureRequest, path: Path) -> Iterator[Path]:
    """A directory with several shards and three lines in the journal, that nobody has open."""
    pod = POD[Any, Any](path, shard_bytes=150, gzipped=request.param)
    pod.update({key: value for key, value in ALL.items() if key.startswith("key")})
    pod.sync()
    for number in (1, 2, 3):
        pod[f"line {number}"] = number
    pod._store.wrote = False  # or closing it would fold
    pod.close()
    yield path
    with POD[Any, Any](path) as after:
        after["next"] = 1
        after.sync()
        assert [problem for problem in after.check() if not problem.startswith("aside-")] == []


def flip(file: Path, position: int) -> None:
    """Change one bit."""
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


def asides(directory: Path) -> dict[str, bytes]:
    """What was set aside, by the rest of the name."""
    return {
        entry.name.split("-", 2)[2]: entry.read_bytes()
        for entry in directory.iterdir()
        if entry.name.startswith("aside-")
    }


def entries_of(directory: Path, shard: Path) -> set[str]:
    """The keys of a shard."""
    data = shard.read_bytes()
    return set(shard_dict(unpack(data) if shard.suffix == ".gz" else data))


def assert_repaired(directory: Path, expected: dict[str, Any], *said: str) -> None:
    """`check` finds it and changes nothing, `repair` says so, keeps the rest, and a second one has nothing to do."""
    before = files(directory)
    found = tastypy.check(directory)
    assert files(directory) == before
    for name in said:
        assert any(name in problem for problem in found), found
    done = tastypy.repair(directory)
    for name in said:
        assert any(name in one for one in done), done
    assert exactly(stored(directory)) == exactly(expected)
    assert tastypy.repair(directory) == []
    assert len(tastypy.check(directory)) == len(asides(directory))


# ----------------------------------------------------------------------------------------------------- check and repair


def test_a_sound_directory_is_found_sound_and_not_changed(directory: Path) -> None:
    before = files(directory)
    assert tastypy.check(directory) == tastypy.repair(directory) == []
    assert files(directory) == before
    assert exactly(stored(directory)) == exactly(ALL)


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "missing"])
@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_damaged_shard_is_set_aside_and_the_others_are_kept(directory: Path, which: int, how: str) -> None:
    shard = shards(directory)[which]
    lost = entries_of(directory, shard)
    match how:
        case "flipped":
            flip(shard, 30)
        case "cut":
            shard.write_bytes(shard.read_bytes()[:-9])
        case "empty":
            shard.write_bytes(b"")
        case "missing":
            shard.unlink()
    damaged = shard.read_bytes() if shard.exists() else None
    assert_repaired(directory, {key: value for key, value in ALL.items() if key not in lost}, shard.name)
    assert asides(directory) == ({} if damaged is None else {shard.name: damaged})


@pytest.mark.parametrize("line", [1, 2, 3])
def test_a_damaged_line_is_set_aside_and_those_after_it_are_kept(directory: Path, line: int) -> None:
    file = journal(directory)
    position = file.read_bytes().index(b'"line %d"' % line) + 2
    flip(file, position)
    damaged = file.read_bytes().splitlines(keepends=True)[line]
    expected = {key: value for key, value in ALL.items() if key != f"line {line}"}
    if line == 3:
        # as a torn end, which was never acknowledged as far as anybody can tell: the next writer's to cut off
        assert tastypy.check(directory) == []
        assert len(tastypy.repair(directory)) == 1
        assert exactly(stored(directory)) == exactly(expected)
    else:
        assert_repaired(directory, expected, f"{file.name}")
    assert asides(directory) == {file.name: damaged}


@pytest.mark.parametrize("how", ["flipped", "missing"])
def test_without_a_header_the_newest_file_of_each_shard_is_taken(directory: Path, how: str) -> None:
    file = journal(directory)
    expected = {key: value for key, value in ALL.items() if key.startswith("key")}
    for old in journals(directory)[:-1]:
        old.unlink()
    if how == "flipped":
        flip(file, 40)
        expected = ALL  # the lines are good
    else:
        file.unlink()
    assert_repaired(directory, expected, file.name)
    assert (file.name in asides(directory)) == (how == "flipped")


def test_of_two_files_of_a_shard_the_newer_one_is_taken_by_number_not_by_name(directory: Path) -> None:
    for file in journals(directory):
        file.write_bytes(b"nothing good\n")
    (directory / ".lock").write_bytes(b"")  # else what is newer than its epoch was never committed
    old = shards(directory)[0]
    text = shard_text([b'"key 00":"newer"'])
    newer = old.with_name("0000-10.json" + (".gz" if old.suffix == ".gz" else ""))
    newer.write_bytes(pack(text) if old.suffix == ".gz" else text)
    lost = entries_of(directory, old) - {"key 00"}
    tastypy.repair(directory)
    kept = {key: value for key, value in ALL.items() if key.startswith("key") and key not in lost}
    assert exactly(stored(directory)) == exactly(kept | {"key 00": "newer"})


def test_without_lock_and_journals_the_shards_are_what_is_left(directory: Path) -> None:
    (directory / ".lock").unlink()
    for file in journals(directory):
        file.unlink()
    before = files(directory)
    with pytest.raises(PersistentOrderedDictIntegrityError, match="repair"):
        POD(directory)
    assert {name: data for name, data in files(directory).items() if name != ".lock"} == before
    (directory / ".lock").touch()
    tastypy.repair(directory)
    assert exactly(stored(directory)) == exactly({key: value for key, value in ALL.items() if key.startswith("key")})


def test_a_repair_is_seen_by_who_has_it_open(directory: Path, opened: Opener) -> None:
    """What is lost on the disk goes from their memory, too, at the next refresh."""
    pod = opened(directory)
    shard = shards(directory)[1]
    lost = entries_of(directory, shard)
    flip(shard, 30)
    tastypy.repair(directory)
    assert pod.refresh() == lost
    assert exactly(pod) == exactly(stored(directory))
    pod["more"] = 1
    assert stored(directory)["more"] == 1


def test_a_key_in_two_shards_and_a_wrong_count_are_found(directory: Path) -> None:
    """Nothing but a bug or a hand could do that; so `check` looks."""
    header = form.decode_header(journal(directory).read_bytes().partition(b"\n")[0], "")
    assert header is not None
    first, second = header.shards[:2]
    name = shards(directory)[0].name
    twice = second._replace(number=99, entries=second.entries + 1)
    copy = directory / name.replace("0000", "0099")
    copy.write_bytes((directory / name.replace("0000", f"{second.number:04d}")).read_bytes())
    text = header._replace(shards=(first, second, twice)).encode()
    rest = journal(directory).read_bytes().partition(b"\n")[2]
    old = journal(directory).read_bytes()
    journal(directory).write_bytes(text + rest)
    found = "\n".join(tastypy.check(directory))
    assert f"{copy.name}: {second.entries} entries, though the header says {second.entries + 1}" in found
    assert f"is in {second.number:04d}-{second.epoch}" in found
    journal(directory).write_bytes(old)


@pytest.mark.parametrize("call", [tastypy.check, tastypy.repair])
@pytest.mark.parametrize("there", ["nothing", "an empty directory", "other things", "a file"])
def test_where_there_is_no_pod_nothing_is_created(call: Any, path: Path, there: str) -> None:
    if there == "a file":
        path.write_text("mine")
    elif there != "nothing":
        path.mkdir()
    if there == "other things":
        (path / "thesis.txt").write_text("mine")
    with pytest.raises(MissingPODError) as caught:
        call(path)
    assert caught.value.path == str(path)
    assert path.exists() == (there != "nothing")
    if path.is_dir():
        assert list(files(path)) == (["thesis.txt"] if there == "other things" else [])


# --------------------------------------------------------------------------------------------------- recovery of .lock


def make(path: Path, epoch: int, before: int, first: int, last: int) -> None:
    """A journal with a header after batch `first` and lines up to batch `last`."""
    header = form.Header("0" * 16, epoch, before, first, False, 1000, 0, ())
    lines = [form.batch_line(seq, b'"put":{"%d":%d}' % (epoch, seq)) for seq in range(first + 1, last + 1)]
    (path / f"journal-{epoch}.jsonl").write_bytes(header.encode() + b"".join(lines))


@given(
    committed=st.lists(st.integers(0, 3), min_size=1, max_size=2),
    more=st.integers(0, 3),
    dead=st.lists(st.sampled_from(["empty", "torn", "whole"]), max_size=3),
)
@example(committed=[2], more=1, dead=["whole"])
@example(committed=[0, 0], more=3, dead=["whole", "whole", "empty"])
def test_the_highest_committed_journal_is_chosen_and_none_of_a_dead_fold(
    committed: list[int], more: int, dead: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A dead fold's header is told from a committed one where others went on in the journal before it."""
    path = tmp_path_factory.mktemp("choose")
    seq = epoch = 0
    for lines in committed:
        make(path, epoch + 1, epoch, seq, seq + lines)
        epoch, seq = epoch + 1, seq + lines
    whole = [at for at, kind in enumerate(dead) if kind == "whole"]
    for at, kind in enumerate(dead):
        number = epoch + 1 + at
        make(path, number, epoch, seq, seq)
        file = path / f"journal-{number}.jsonl"
        file.write_bytes({"empty": b"", "torn": file.read_bytes()[:-5], "whole": file.read_bytes()}[kind])
    # with no line after it a dead fold's header cannot be told from a committed one, and says the same
    make(path, epoch, epoch - 1, seq - committed[-1], seq + more)
    chosen = health.choose(str(path))
    expected = epoch if more or not whole else epoch + 1 + whole[-1]
    assert chosen == form.LockLine("0" * 16, expected)


def test_nothing_is_chosen_where_no_header_is_whole(path: Path) -> None:
    path.mkdir()
    assert health.choose(str(path)) is None
    (path / "journal-3.jsonl").write_bytes(b'{"crc":"')
    (path / "journal-4.jsonl").touch()
    assert health.choose(str(path)) is None


def test_a_recovered_lock_is_noted_with_what_stood_there(directory: Path, opened: Opener) -> None:
    (directory / ".lock").write_bytes(b"nonsense \xff")
    opened(directory)
    note = json.loads(asides(directory)["lock.json"])
    assert (note["file"], note["found"]) == (".lock", "nonsense \N{REPLACEMENT CHARACTER}")
    assert f"journal-{note['epoch']}.jsonl" == journal(directory).name
    assert tastypy.repair(directory) == []
    assert len(tastypy.check(directory)) == 1


@pytest.mark.parametrize("left", ["an empty lock", "an empty journal", "half a header", "a whole header"])
def test_a_creation_that_died_is_completed_without_a_word(path: Path, opened: Opener, left: str) -> None:
    path.mkdir()
    (path / ".lock").touch()
    if left != "an empty lock":
        make(path, 1, 0, 0, 0)
        text = (path / "journal-1.jsonl").read_bytes()
        size = {"an empty journal": 0, "half a header": len(text) // 2}.get(left, len(text))
        (path / "journal-1.jsonl").write_bytes(text[:size])
    pod = opened()
    assert pod == {}
    assert pod.check() == []
    pod["a"] = 1
    assert batches(path)[0]["seq"] == 1
    assert stored(path) == {"a": 1}


def test_a_torn_end_is_no_problem_and_a_line_out_of_order_is(directory: Path) -> None:
    file = journal(directory)
    good = file.read_bytes()
    seq = batches(directory)[-1]["seq"]
    append(file, b'{"crc":"torn')
    assert tastypy.check(directory) == []
    file.write_bytes(good + form.batch_line(seq + 5, b'"put":{"a":1}'))
    assert [problem.partition(": ") for problem in tastypy.check(directory)] == [
        (f"{file.name}, line 5", ": ", "disorder")
    ]
    file.write_bytes(good)
