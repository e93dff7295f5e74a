"""What others commit while a fold is done in steps: it is in the next journal, and nobody reads it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fold_helpers import begin, fill, go_on
from helpers import Opener, exactly, files, header_of, journal, stored

from tastypy import POD, IncoherentFileSystemError, PersistentOrderedDictIntegrityError, check, store
from tastypy import format as form

pytestmark = pytest.mark.usefixtures("small_folds")


def test_what_is_committed_while_it_is_under_way_is_in_the_next_journal(opened: Opener) -> None:
    pod, other, reader = opened(shard_bytes=200), opened(), opened(mode="r")
    fill(pod)
    epoch = begin(pod)
    other["another's"] = [1]
    del other["key 7"]
    other.move_to_end("key 9", last=False)
    reader.refresh()
    go_on(pod, epoch)
    header = header_of(pod.path)
    assert header.before == epoch
    assert header.seq < pod._store.seq
    found = stored(pod.path)
    assert found["another's"] == [1]
    assert next(iter(found)) == "key 9"
    assert "key 7" not in found
    for one in (pod, other, reader):
        one.refresh()
        assert exactly(one) == exactly(found)
        assert list(one) == list(found)
    assert check(pod.path) == []
    pod.sync()
    assert exactly(stored(pod.path)) == exactly(found)


def test_nobody_loads_again_what_they_have(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither who read all of the old journal, nor who read some of it, if it is there still."""
    pod, other, late = opened(shard_bytes=200), opened(), opened(mode="r")
    fill(pod)
    late.refresh()
    epoch = begin(pod)
    other.refresh()
    pod["one"] = 1
    go_on(pod, epoch)
    monkeypatch.setattr(store.Store, "load", lambda *_: pytest.fail("shards were loaded"))
    for one in (other, late):
        assert one.refresh() >= {"one", "more"}
        assert exactly(one) == exactly(pod)


def test_what_is_committed_meanwhile_is_copied_a_few_lines_in_each_step(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once, at a million keys, it took a fifth of a second with the lock held."""
    pod = opened(shard_bytes=200)
    fill(pod)
    epoch = begin(pod)
    looked_at = 0
    is_good = form.is_good

    def counted(line: bytes) -> bool:
        nonlocal looked_at
        looked_at += 1
        return is_good(line)

    monkeypatch.setattr(form, "is_good", counted)
    each: list[int] = []
    while header_of(pod.path).epoch == epoch:
        looked_at = 0
        pod["during"] = len(each)
        each.append(looked_at)
    assert len(each) > 10
    assert len(each) <= sum(each) < 3 * len(each)
    assert max(each) < 5


def test_lines_that_were_applied_are_not_read_again_in_the_next_journal(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fold in steps of a large POD leaves tens of thousands there."""
    pod, other = opened(shard_bytes=200), opened()
    fill(pod)
    epoch = begin(pod)
    for number in range(5):
        pod["during"] = number
    other.refresh()
    go_on(pod, epoch)
    known = other._store.seq - header_of(pod.path).seq
    assert known > 4
    read: list[int] = []
    read_lines = form.read_lines

    def noted(data: bytes, seq: int, *, leased: bool = False) -> form.Lines:
        lines = read_lines(data, seq, leased=leased)
        read.extend(range(seq + 1, lines.seq + 1))
        return lines

    monkeypatch.setattr(form, "read_lines", noted)
    before = other._store.seq
    other.refresh()
    assert [seq for seq in read if seq <= before] == []
    assert [*dict.fromkeys(read)] == [*range(before + 1, pod._store.seq + 1)]
    assert exactly(other) == exactly(dict(pod))


def test_a_next_journal_that_lacks_what_was_applied_is_an_error(opened: Opener) -> None:
    pod, other = opened(shard_bytes=200), opened()
    fill(pod)
    epoch = begin(pod)
    for number in range(4):
        pod["during"] = number
    other["mine"] = 1  # and so has the lock, and all that it knows is certain
    go_on(pod, epoch)
    new = journal(Path(pod.path))
    whole = new.read_bytes()
    head, _, *rest = whole.splitlines(keepends=True)
    new.write_bytes(b"".join([head, *rest]))
    with pytest.raises(IncoherentFileSystemError, match="out of line"):
        other.refresh()
    new.write_bytes(whole)
    other.refresh()
    assert exactly(other) == exactly(dict(pod))


def damaged_copy(opened: Opener, number: int) -> tuple[POD[Any, Any], POD[Any, Any], bytes]:
    """A POD whose fold has copied what another one has applied, and that one; and the journal, of which that line was damaged."""
    pod, other = opened(shard_bytes=200), opened()
    fill(pod)
    epoch = begin(pod)
    for during in range(6):
        pod["during"] = during
    other.refresh()
    go_on(pod, epoch)
    new = journal(Path(pod.path))
    whole = new.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) > 7
    lines[number] = lines[number][:-4] + b"~" + lines[number][-3:]
    new.write_bytes(b"".join(lines))
    return pod, other, whole


@pytest.mark.parametrize("what", ["a change", "a look"])
def test_damage_to_what_was_applied_is_an_error_and_nothing_is_cut_or_appended(opened: Opener, what: str) -> None:
    """What a fold in steps has copied is on stable storage: nobody may go on as if a writer had died there."""
    pod, other, whole = damaged_copy(opened, 2)
    new = journal(Path(pod.path))
    before = files(Path(pod.path))
    with pytest.raises(
        PersistentOrderedDictIntegrityError, match=f"{new}, line 3: damaged, though it was on stable storage"
    ):
        other.setdefault("mine", 1) if what == "a change" else other.refresh()
    assert files(Path(pod.path)) == before
    new.write_bytes(whole)
    other["mine"] = 1
    assert exactly(other) == exactly(stored(pod.path))


@pytest.mark.parametrize("from_the_end", [1, 2, 3])
def test_a_damaged_line_in_the_next_journal_does_not_count_though_the_old_one_has_it(
    opened: Opener, from_the_end: int
) -> None:
    """Or whoever knows it would append behind it, and for those who read it later nothing behind it counts."""
    pod, other, whole = damaged_copy(opened, -from_the_end)
    other.refresh()
    assert other._store.seq == pod._store.seq - from_the_end
    journal(Path(pod.path)).write_bytes(whole)
    other.refresh()
    assert exactly(other) == exactly(dict(pod))


def test_the_offset_up_to_which_a_journal_is_on_stable_storage_is_not_copied(opened: Opener) -> None:
    """It would tell that of the new journal more is on stable storage than there is; a torn tail would be taken for damage."""
    pod = opened(shard_bytes=200, durable=True)
    fill(pod)
    epoch = begin(pod)
    go_on(pod, epoch)
    path = Path(pod.path) / f"journal-{header_of(pod.path).epoch}.jsonl"
    lines = path.read_bytes().splitlines()[1:]
    assert lines
    assert all(form.is_good(line) for line in lines)
    assert not any(b'"synced"' in line for line in lines)
    with path.open("ab") as journal:
        journal.write(b'{"crc":"torn')
    assert exactly(stored(pod.path)) == exactly(pod)
    pod["after"] = 1
    assert check(pod.path) == []


@pytest.mark.parametrize(
    "content",
    [
        b'"put":{"synced":1}',
        b'"put":{"a":{"b":1,"synced":1}}',
        b'"put":{"a":1,"synced":1}',
        b'"put":{"a":",\\"synced\\":1}"}',
        b'"del":["a"],"front":["synced"]',
    ],
)
def test_only_the_mark_itself_is_left_out(content: bytes) -> None:
    line = form.batch_line(7, content)
    assert form.without_mark(line[:-1]) == line
    assert form.without_mark(form.batch_line(7, content, 4711)[:-1]) == line
