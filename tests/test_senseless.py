"""A right CRC in front of what no tastypy writes, and whole files in the wrong place: an error, never wrong data in silence."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import pytest
from helpers import Opener, append, batches, exactly, files, journal, journals, shards, signed, stored

import tastypy
from tastypy import POD, DirectoryGoneError, IncoherentFileSystemError, PersistentOrderedDictIntegrityError
from tastypy import format as form
from tastypy.shards import pack, shard_dict, unpack
from tastypy.values import decode_key

SENSELESS = [
    b'"put":[1]}',
    b'"put":null}',
    b'"put":{"#[":1}}',
    b'"put":{"#{}":1}}',
    b'"put":{"#01":1}}',
    b'"put":{"a":NaN}}',
    b'"put":{"a":\xff}}',
    b'"put":{"a":1}},{"seq":7}',
    b'"put":{"a":%b}}' % (b"[" * 2000 + b"]" * 2000),
    b'"del":5}',
    b'"del":[["a"]]}',
    b'"front":[null]}',
    b'"clear":0}',
    b'"synced":"x"}',
    b'"seal":9}',
    b'"tastypy":1}',
    b'"put":{"a":1}',
]
NO_SHARDS: list[Any] = [None, 1, {}, [1], [[1]], [[0, 1, 1, 1, 1]], [[0, 1, 1, "1", "a"]]]


def leave(pod: POD[Any, Any]) -> None:
    """Close a POD without a fold, as a process that is killed leaves it."""
    pod._store.wrote = False
    pod.close()


@pytest.fixture
def folded(path: Path) -> Path:
    """A directory with shards, two journals, and three lines in the second one."""
    pod = POD[str, Any](path, shard_bytes=64)
    pod.update({f"key {number}": "x" * 20 for number in range(6)})
    pod.sync()
    for number in range(3):
        pod[f"line {number}"] = number
    leave(pod)
    return path


def assert_refused(directory: Path, error: type[Exception], name: str) -> None:
    """Readers and writers get an error that names the file, `check` finds something, and no byte changes."""
    before = files(directory)
    for mode in ("r", "a"):
        with pytest.raises(error, match=name):
            POD(directory, mode=mode)
    assert tastypy.check(directory) != []
    assert files(directory) == before


# ------------------------------------------------------------------------------------------------------------ the parsers


@pytest.mark.parametrize("content", SENSELESS)
def test_a_line_with_a_right_crc_that_is_no_batch_ends_the_lines_as_senseless(content: bytes) -> None:
    good = form.batch_line(6, b'"put":{"a":1}')
    found = form.read_lines(good + signed(b'"seq":7,' + content), 5)
    assert (found.trouble, found.seq, found.length) == ("senseless", 6, len(good))


@pytest.mark.parametrize("number", [b"7.0", b'"7"', b"true", b"null"])
def test_a_number_of_another_type_is_none(number: bytes) -> None:
    found = form.read_lines(form.batch_line(6, b'"put":{"a":1}') + signed(b'"seq":%b,"put":{}}' % number), 5)
    assert (found.trouble, found.seq) == ("senseless", 6)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            ("id", 1),
            ("epoch", "3"),
            ("before", None),
            ("seq", 1.0),
            ("gzipped", 0),
            ("shard_bytes", -1),
            ("next", True),
        ),
        *(("shards", each) for each in NO_SHARDS),
    ],
)
def test_a_header_with_a_right_crc_and_a_field_of_another_type_is_none(field: str, value: Any) -> None:
    line = form.Header("0" * 16, 3, 2, 5, False, 100, 3, ()).encode()
    assert form.decode_header(line, "name") is not None
    fields = {**json.loads(line), field: value}
    del fields["crc"]
    for changed in (fields, {name: each for name, each in fields.items() if name != field}):
        assert form.decode_header(signed(json.dumps(changed, separators=(",", ":")).encode()[1:]), "name") is None


@pytest.mark.parametrize("body", [b'{"id":1,"epoch":2', b'{"id":"0"', b"[1,2", b"{", b'{"id":"0","epoch":2.5', b"\xff"])
def test_a_lock_line_with_a_right_crc_that_makes_no_sense_is_none(body: bytes) -> None:
    body += b" " * (len(form.LockLine("0" * 16, 0).encode()) - len(body) - len(b',"crc":"00000000"}\n'))
    assert form.decode_lock_line(b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(body))) is None


@pytest.mark.parametrize(
    "name", ["#", "#[", "#01", "#1e400", "#{}", "#[{}]", '#"\\ud800"', "#" + "[" * 900 + "]" * 900]
)
def test_a_name_that_stands_for_no_key_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - that of the parser, or ours
        decode_key(name)


@pytest.mark.parametrize("text", [b"", b"[]\n", b"null", b'{"a":', b'{\n"#[":1\n}\n', b"\xff"])
def test_a_text_that_is_no_shard_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - that of the parser, or ours
        shard_dict(text)


@pytest.mark.parametrize("damage", [b"text", pack(b"{}")[:-3], pack(b"{}")[:12] + b"\xff" * 12])
def test_bytes_that_are_no_gzip_are_a_value_error(damage: bytes) -> None:
    """Also those that zlib itself complains about, whose error is of no builtin kind."""
    with pytest.raises(ValueError, match="gzip"):
        unpack(damage)


# ---------------------------------------------------------------------------------------------------------- in a directory


SENSELESS = [
    *(b'"seq":%d,"put":[1]}', b'"seq":%d,"put":{"#[":1}}', b'"seq":%d,"put":{"a":1}', b'"seq":%d,"put":{"#":1}}'),
    *(b'"seq":%d,"put":{"#{}":1}}', b'"seq":%d,"put":{"b":' + b"[" * 100_000 + b"}}"),
    *(b'"seal":"../../x%d"}', b'"seal":-%d}', b"%d"),
]


@pytest.mark.parametrize("content", SENSELESS)
def test_a_senseless_line_is_named_and_repair_sets_it_aside(folded: Path, content: bytes) -> None:
    whole, line = stored(folded), signed(content % (batches(folded)[-1]["seq"] + 1))
    append(journal(folded), line)
    assert_refused(folded, PersistentOrderedDictIntegrityError, "line 5")
    tastypy.repair(folded)
    assert exactly(stored(folded)) == exactly(whole)
    assert [data for name, data in files(folded).items() if name.startswith("aside-")] == [line]


def test_a_journal_in_the_place_of_a_later_one_is_no_journal_of_that_epoch(path: Path) -> None:
    """Its own header is whole, and what it says is of another time."""
    with POD[str, int](path) as pod:
        pod["a"] = 1
        pod.sync()
        old = journal(path).read_bytes()
        pod["a"] = 2
        pod.sync()
        kept = shards(path)[-1]
    (path / "0000-2.json").write_bytes(kept.read_bytes())
    file = journal(path)
    file.write_bytes(old)
    for mode in ("r", "a"):
        with pytest.raises(PersistentOrderedDictIntegrityError, match=file.name):
            POD(path, mode=mode)
    with pytest.raises(PersistentOrderedDictIntegrityError, match=file.name):
        tastypy.repair(path)


def test_lines_that_were_read_under_the_lock_and_are_gone_stop_the_next_commit(path: Path, opened: Opener) -> None:
    """They were acknowledged; a writer that reads the rest anew would go on without them in silence."""
    pod = opened()
    for number in range(4):
        pod[f"line {number}"] = number
    file = journal(path)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:3]))
    before = files(path)
    with pytest.raises(IncoherentFileSystemError):
        pod["next"] = 1
    assert files(path) == before
    file.write_bytes(b"".join(lines))
    pod["next"] = 1
    assert exactly(stored(path)) == exactly(pod)


def test_a_fold_takes_no_lines_of_a_journal_that_is_not_the_one_that_was_read(path: Path, opened: Opener) -> None:
    """Another directory's, of the same length, written over it."""
    pod = opened()
    pod["a"] = "v"
    with POD[str, str](path.with_name("other.pod")) as other:
        other["a"] = "w"
        strange = journal(path.with_name("other.pod")).read_bytes()
    assert len(strange) == len(journal(path).read_bytes())
    journal(path).write_bytes(strange)
    with pytest.raises(PersistentOrderedDictIntegrityError, match="header"):
        pod.sync()
    assert len(journals(path)) == 1


# ----------------------------------------------------------------------------------------------------------------- .lock


def test_repair_by_an_object_whose_lock_file_is_gone_does_not_say_that_all_is_well(path: Path, opened: Opener) -> None:
    pod = opened()
    pod["a"] = 1
    line = (path / ".lock").read_bytes()
    (path / ".lock").unlink()
    with pytest.raises(DirectoryGoneError):
        pod.repair()
    (path / ".lock").write_bytes(line)


@pytest.mark.parametrize("call", ["open", "repair"])
def test_a_lock_file_that_is_too_long_is_mended_for_good(folded: Path, call: str) -> None:
    whole = stored(folded)
    append(folded / ".lock", b"and more\n")
    if call == "open":
        POD(folded).close()
    else:
        assert any(".lock" in line for line in tastypy.repair(folded))
    assert (folded / ".lock").stat().st_size == len(form.LockLine("0" * 16, 0).encode())
    assert [problem for problem in tastypy.check(folded) if not problem.startswith("aside-")] == []
    assert exactly(stored(folded)) == exactly(whole)


@pytest.mark.parametrize("how", ["missing", "empty", "damaged"])
def test_repair_mends_a_lock_file_and_says_so(folded: Path, how: str) -> None:
    whole, lock = stored(folded), folded / ".lock"
    match how:
        case "missing":
            lock.unlink()
        case "empty":
            lock.write_bytes(b"")
        case "damaged":
            lock.write_bytes(b"\xff" * 64)
    done = tastypy.repair(folded)
    assert len(done) == 1
    assert ".lock" in done[0]
    assert exactly(stored(folded)) == exactly(whole)
    assert all(problem.startswith("aside-") for problem in tastypy.check(folded))
    assert tastypy.repair(folded) == []
    (note,) = [data for name, data in files(folded).items() if name.startswith("aside-")]
    assert how != "damaged" or b"ff" * 64 in note, "bytes that are no text are noted, too"


def test_repair_follows_the_seal_of_a_journal_that_an_old_lock_file_names(folded: Path) -> None:
    """It must not make an epoch of what is left of the old one, whose fold would remove the shards of the new one."""
    whole = stored(folded)
    line = form.decode_lock_line((folded / ".lock").read_bytes())
    assert line is not None
    (folded / ".lock").write_bytes(line._replace(epoch=1).encode())
    assert any(".lock" in problem for problem in tastypy.check(folded))
    tastypy.repair(folded)
    assert exactly(stored(folded)) == exactly(whole)
    with POD[Any, Any](folded) as pod:
        pod["next"] = 1
    assert exactly(stored(folded)) == exactly(whole | {"next": 1})


@pytest.mark.parametrize("which", [".lock", "journal"])
def test_repair_leaves_it_to_a_hand_which_of_two_directories_files_are_wrong(folded: Path, which: str) -> None:
    whole = stored(folded)
    with POD[str, int](folded.with_name("other.pod")) as other:
        other["a"] = 1
        other.sync()
        other["b"] = 1
        strange = files(folded.with_name("other.pod"))
    file = folded / ".lock" if which == ".lock" else journal(folded)
    good = file.read_bytes()
    file.write_bytes(strange[file.name])
    before = files(folded)
    with pytest.raises(PersistentOrderedDictIntegrityError, match=r"\.lock"):
        tastypy.repair(folded)
    assert files(folded) == before
    file.write_bytes(good)
    assert exactly(stored(folded)) == exactly(whole)


# ------------------------------------------------------------------------------------------- lines out of line, and repair


@pytest.mark.parametrize("how", ["swapped", "one dropped", "one twice", "an old one"])
def test_repair_takes_lines_in_the_order_of_their_numbers_once_each(path: Path, how: str) -> None:
    pod = POD[str, int](path)
    pod["a"] = 0
    old = journal(path).read_bytes().splitlines(keepends=True)[1]
    pod.sync()
    for number in (1, 2, 3):
        pod["a"] = number
    leave(pod)
    header, *lines = journal(path).read_bytes().splitlines(keepends=True)
    changed = {
        "swapped": [lines[0], lines[2], lines[1]],
        "one dropped": [lines[0], lines[2]],
        "one twice": [*lines, lines[0]],
        "an old one": [*lines, old],
    }[how]
    journal(path).write_bytes(b"".join([header, *changed]))
    assert_refused(path, IncoherentFileSystemError, journal(path).name)
    assert tastypy.repair(path) != []
    assert stored(path) == {"a": 3}
    assert all(problem.startswith("aside-") for problem in tastypy.check(path))
    assert tastypy.repair(path) == []


def test_repair_keeps_the_first_batch_where_the_line_of_the_header_is_gone(path: Path) -> None:
    pod = POD[str, int](path)
    for number in range(3):
        pod[f"line {number}"] = number
    leave(pod)
    journal(path).write_bytes(journal(path).read_bytes().partition(b"\n")[2])
    tastypy.repair(path)
    assert stored(path) == {"line 0": 0, "line 1": 1, "line 2": 2}


def test_of_a_large_lock_file_the_beginning_is_noted(folded: Path) -> None:
    """All of it could take more memory than there is, and it is one short line that was there."""
    whole = stored(folded)
    (folded / ".lock").write_bytes(b"\0" * (1 << 20))
    os.truncate(folded / ".lock", 1 << 34)
    with POD[Any, Any](folded) as pod:
        assert exactly(pod) == exactly(whole)
    notes = [data for name, data in files(folded).items() if name.startswith("aside-")]
    assert [len(note) < 1 << 16 for note in notes] == [True]
