"""The fold: any shards and any batches merge into what their replay gives, in pieces that fit; nothing is renamed over anything."""

from __future__ import annotations

import os
from itertools import permutations
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from faults import FailingOS
from helpers import Opener, exactly, files, header_of, journals, shards, stored
from hypothesis import example, given
from hypothesis import strategies as st

from tastypy import POD, CommitError
from tastypy import format as form
from tastypy.changes import replay
from tastypy.merging import Order, OutOfOrderError, Piece, merge, net_entries
from tastypy.shards import shard_dict, shard_text
from tastypy.store import Store
from tastypy.values import encode_key

TEXT = st.sampled_from([*"abcdefg", "#", "#1", '"', "\\", '":', "\n", "é"])
KEYS = TEXT | st.sampled_from([0, 1, 1.0, True, None, (1, "a"), (True, "a")])
VALUES = st.text(max_size=12) | st.integers(0, 9) | st.just([1, {"#1": "#2"}])
Memory = dict[Any, Any]
Record = dict[str, Any]


class Disk:
    """As much of a store as a merge needs: shards that are texts in memory, counted as they are read."""

    path = "/nowhere"

    def __init__(self, entries: list[Memory], limit: int, free: int) -> None:
        self.texts = {number: text_of(shard) for number, shard in enumerate(entries)}
        named = tuple(form.Shard(at, 1, len(shard), len(self.texts[at]), "") for at, shard in enumerate(entries))
        self.header = form.Header("0" * 16, 1, 0, 0, False, limit, free, named)
        self.read: list[int] = []

    def read_shard(self, _: form.Header, shard: form.Shard) -> bytes:
        self.read.append(shard.number)
        return self.texts[shard.number]

    def merge(self, records: list[Record], keys: list[Any] | None = None) -> list[Piece]:
        """What the fold of these batches writes, where these are taken to be the keys that there are then, in order."""
        lines = form.read_lines(b"".join(line_of(record) for record in records), 0)
        assert lines.trouble == ""
        put = {key for record in records for key in record.get("put", ())}
        order = None if keys is None else Order(keys, put)
        return list(merge(cast("Store", self), self.header, net_entries(lines.records, lines.lines), order))

    def entries(self, pieces: list[Piece]) -> list[Memory]:
        """The content of each piece."""
        texts = []
        for shard, entries in pieces:
            if entries is not None:
                texts.append(shard_text(entries))
            elif shard is not None:
                texts.append(self.texts[shard.number])
        return [shard_dict(text) for text in texts]


def entry(key: Any, value: Any) -> bytes:
    return encode_key(key) + b":" + orjson.dumps(value)


def text_of(shard: Memory) -> bytes:
    return shard_text([entry(key, value) for key, value in shard.items()])


def line_of(record: Record) -> bytes:
    put = [(encode_key(key), orjson.dumps(value)) for key, value in record.get("put", {}).items()]
    names = {field: map(encode_key, record.get(field, ())) for field in ("del", "front")}
    return form.batch_line(
        record["seq"], form.batch_content(names["del"], put, names["front"], clear="clear" in record)
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Memory], list[Record]]:
    """Shards with keys of their own, and batches of a journal that stands on them."""
    keys = draw(st.lists(KEYS, unique=True, max_size=10))
    base = {key: draw(VALUES) for key in keys}
    cuts = sorted(draw(st.sets(st.integers(1, 9), max_size=4)))
    parts = [keys[one:other] for one, other in zip([0, *cuts], [*cuts, 99], strict=True)]
    there = base.copy()
    records: list[Record] = []
    for _ in range(draw(st.integers(0, 5))):
        record: Record = {"crc": "", "seq": len(records) + 1}
        if draw(st.integers(0, 12)) == 12:
            record["clear"] = True
        if draw(st.booleans()) and (deleted := draw(st.lists(KEYS, unique=True, max_size=3))):
            record["del"] = deleted
        if put := draw(st.dictionaries(KEYS, VALUES, max_size=3)):
            record["put"] = put
        replay(there, [record])
        if there and draw(st.integers(0, 3)) == 3:
            record["front"] = draw(st.lists(st.sampled_from(list(there)), unique=True, min_size=1, max_size=3))
            replay(there, [{"front": record["front"]}])
        if len(record) > 2:
            records.append(record)
    return [{key: base[key] for key in part} for part in parts if part], records


def replayed(entries: list[Memory], records: list[Record]) -> Memory:
    memory: Memory = {}
    for shard in entries:
        memory.update(shard)
    replay(memory, records)
    return memory


@given(case=cases(), limit=st.sampled_from([1, 20, 40, 1000]))
@example(case=([{1: "a"}, {"b": 2}], [{"seq": 1, "put": {True: "c", "b": 3, "new": 4}}]), limit=20)
@example(case=([{"a": 1, "b": 2}], [{"seq": 1, "del": ["a"], "put": {"a": 3}, "front": ["b"]}]), limit=1)
@example(case=([], [{"seq": 1, "put": {1: "a"}}, {"seq": 2, "put": {True: "b"}}]), limit=20)
@example(case=([], [{"seq": 1, "put": {"a": 1}}, {"seq": 2, "del": ["a"]}, {"seq": 3, "put": {"b": 1}}]), limit=20)
@example(
    case=([], [{"seq": 1, "put": {"a": 1}}, {"seq": 2, "put": {"a": 2, "b": 2}}, {"seq": 3, "put": {"c": 3}}]), limit=20
)
def test_a_fold_of_any_batches_is_their_replay_order_and_spelling_included(
    case: tuple[list[Memory], list[Record]], limit: int
) -> None:
    entries, records = case
    disk = Disk(entries, limit, free=len(entries))
    merged = disk.entries(disk.merge(records))
    found = replayed(merged, [])
    assert sum(map(len, merged)) == len(found), "no key is in two pieces"
    assert exactly(found) == exactly(replayed(entries, records))


@given(case=cases(), limit=st.sampled_from([1, 20, 40, 1000]))
def test_the_pieces_of_a_fold_fit_and_are_never_empty(case: tuple[list[Memory], list[Record]], limit: int) -> None:
    """Each that is written is within the limit, but for a single entry that is larger; each old shard is used once."""
    entries, records = case
    disk = Disk(entries, limit, free=len(entries))
    pieces = disk.merge(records)
    for shard, written in pieces:
        assert shard is not None or written is not None
        if written is not None:
            assert written
            assert len(written) == 1 or sum(len(one) + 2 for one in written) <= limit
    kept = [shard.number for shard, _ in pieces if shard is not None]
    assert len(kept) == len(set(kept))
    assert set(kept) <= disk.texts.keys()
    assert [len(shard) for shard in disk.entries(pieces)].count(0) == 0


@given(case=cases(), limit=st.sampled_from([1, 20, 40, 1000]))
def test_a_shard_that_no_batch_touches_stays_as_it_is(case: tuple[list[Memory], list[Record]], limit: int) -> None:
    """But for the one at the end (or the front) that has room for what is new there."""
    entries, records = case
    disk = Disk(entries, limit, free=len(entries))
    pieces = disk.merge(records)
    named = {key for each in records for field in ("del", "put", "front") for key in each.get(field, ())}
    if any("clear" in each for each in records):
        return
    untouched = [at for at, shard in enumerate(entries) if not named & shard.keys()]
    as_they_were = {shard.number for shard, written in pieces if shard is not None and written is None}
    neighbours = {0, len(entries) - 1} if records else set()
    # a small neighbour of something rewritten is only joined to it if it was rewritten, too
    gone = [at for at in untouched if at not in as_they_were]
    inner = [at for at in gone if at not in neighbours and any(entries[other].keys() - named for other in range(at))]
    inner = [at for at in inner if any(entries[other].keys() - named for other in range(at + 1, len(entries)))]
    assert inner == []


@given(case=cases(), limit=st.sampled_from([1, 20, 40, 1000]), data=st.data())
@example(case=([{1: "a"}, {"b": 2}], [{"seq": 1, "put": {True: "c", "b": 3, "new": 4}}]), limit=20, data=None)
def test_whatever_the_keys_are_taken_to_be_a_fold_is_right_or_says_that_they_are_not(
    case: tuple[list[Memory], list[Record]], limit: int, data: st.DataObject | None
) -> None:
    """With the right ones it reads what changes only, and perhaps the last shard, which what is new goes to."""
    entries, records = case
    puts_only = data is None or data.draw(st.booleans())
    if puts_only:
        puts = [record["put"] for record in records if "put" in record]
        records = [{"seq": number, "put": put} for number, put in enumerate(puts, 1)]
    right = replayed(entries, records)
    keys = [*right]
    if data is not None and data.draw(st.booleans()):
        keys = data.draw(st.permutations(keys) | st.lists(st.sampled_from(keys or [0]) | KEYS, unique=True))
    disk = Disk(entries, limit, free=len(entries))
    try:
        merged = disk.entries(disk.merge(records, keys))
    except OutOfOrderError:
        assert keys != [*right]
        return
    found = replayed(merged, [])
    put = {key for record in records for key in record.get("put", ())}
    if {*keys} == right.keys() or not put <= {*keys}:
        assert sum(map(len, merged)) == len(found), "no key is in two pieces"
        assert exactly(found) == exactly(right)
    if keys == [*right] and puts_only:
        changed = {at for at, shard in enumerate(entries) if put & shard.keys()}
        assert {*disk.read} <= changed | {len(entries) - 1}


@pytest.mark.parametrize("put", [{"b": 9}, {"n": 9}, {"b": 9, "n": 9}, {"a": 8, "c": 9}, {"m": 8, "n": 9}])
def test_no_order_of_the_keys_leads_a_fold_astray(put: Memory) -> None:
    """But for one in which keys are that nobody has committed, and such are not given."""
    entries: list[Memory] = [{"a": 1, "b": 2}, {"c": 3}]
    right = replayed(entries, [{"put": put}])
    refused = 0
    for size in range(len(right) + 1):
        for keys in permutations(right, size):
            disk = Disk(entries, 1, free=2)
            try:
                merged = disk.entries(disk.merge([{"seq": 1, "put": put}], [*keys]))
            except OutOfOrderError:
                refused += 1
                continue
            assert exactly(replayed(merged, [])) == exactly(right), keys
            assert sum(map(len, merged)) == len(right), keys
    assert refused


def test_more_changed_keys_than_a_few_are_looked_for_in_every_shard() -> None:
    entries = [{f"{at} {number}": 0 for number in range(400)} for at in range(5)]
    keys = [key for shard in entries for key in shard]
    disk = Disk(entries, 100_000, free=5)
    changed = {key: 1 for shard in entries[1:4] for key in shard}
    pieces = disk.merge([{"seq": 1, "put": changed}], keys)
    assert disk.read == [0, 1, 2, 3, 4]
    assert replayed(disk.entries(pieces), []) == {**dict.fromkeys(keys, 0), **changed}


def test_a_fold_of_nothing_reads_and_changes_nothing() -> None:
    disk = Disk([{"a": 1}, {"b": 2}], 1, free=2)
    assert disk.merge([]) == [(shard, None) for shard in disk.header.shards]
    assert disk.read == []


def test_after_a_clear_no_old_shard_is_read() -> None:
    disk = Disk([{"a": 1}, {"b": 2}], 100, free=2)
    assert disk.merge([{"seq": 1, "clear": True, "put": {"c": 3}}]) == [(None, [b'"c":3'])]
    assert disk.read == []


def test_what_a_shard_shrinks_to_is_joined_to_its_neighbour() -> None:
    """Or a queue, filled at the end and emptied at the front, would leave a trail of little files."""
    disk = Disk([{"a": 1, "b": 2}, {"c": 3, "d": 4}], 40, free=2)
    pieces = disk.merge([{"seq": 1, "del": ["a", "c"]}])
    assert [(shard and shard.number, written) for shard, written in pieces] == [(0, [b'"b":2', b'"d":4'])]


# -------------------------------------------------------------------------------------------------------- on the disk


@pytest.fixture
def small(opened: Opener) -> POD[Any, Any]:
    """A POD whose shards are tiny."""
    return opened(shard_bytes=100)


def test_over_many_folds_no_name_is_used_twice_and_nothing_is_renamed_over_anything(
    small: POD[Any, Any], failing_os: FailingOS
) -> None:
    names: list[str] = []

    def rename(source: str, target: str) -> None:
        assert not os.path.lexists(target)
        names.append(target)

    def create(path: str, flags: int, *_: object) -> None:
        if flags & os.O_CREAT:
            assert flags & os.O_EXCL
            names.append(path)

    failing_os.before.update(rename=rename, open=create)
    expected: Memory = {}
    for number in range(40):
        changes = {f"key {key}": "x" * (number % 30) for key in range(number % 7, 20, 4)}
        small.update(changes)
        expected.update(changes)
        if number % 3 == 0 and expected:
            key = list(expected)[number % len(expected)]
            del small[key], expected[key]
        if number % 10 == 9:
            small.clear()
            expected.clear()
        small.sync()
        assert exactly(stored(small.path)) == exactly(expected)
    failing_os.before.clear()
    assert len(names) > 100
    assert len(names) == len(set(names))
    numbers = [shard.number for shard in header_of(small.path).shards]
    assert len(numbers) == len(set(numbers))


def test_the_header_names_the_epoch_before_it_and_the_files_that_are_there(small: POD[Any, Any]) -> None:
    before = 0
    for number in range(5):
        small[f"key {number}"] = "x" * 60
        small.sync()
        header = header_of(small.path)
        assert header.before == before or number == 0
        before = header.epoch
        there = {shard.name: shard.read_bytes() for shard in shards(Path(small.path))}
        assert there.keys() == {f"{one.number:04d}-{one.epoch}.json" for one in header.shards}
        for one in header.shards:
            data = there[f"{one.number:04d}-{one.epoch}.json"]
            assert (one.size, one.crc, one.entries) == (len(data), form.crc_text(data), len(orjson.loads(data)))
        assert header.next > max(one.number for one in header.shards)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the shards that are read."""
    numbers: list[int] = []
    read_shard = Store.read_shard

    def read(store: Store, header: form.Header, shard: form.Shard) -> bytes:
        numbers.append(shard.number)
        return read_shard(store, header, shard)

    monkeypatch.setattr(Store, "read_shard", read)
    return numbers


def test_a_sync_reads_the_shards_only_that_change_however_many_there_are(opened: Opener, reads: list[int]) -> None:
    pod = opened(shard_bytes=100)
    pod.update({f"key {number}": number for number in range(500)})
    pod.sync()
    shards = pod.stats().shards
    assert shards > 50
    reads.clear()
    pod["new"] = 1
    pod.sync()
    assert len(reads) <= 1, "the last one, if it has room"
    reads.clear()
    pod["key 3"] = pod["key 300"] = 0
    pod.sync()
    assert len(reads) == 2
    reads.clear()
    with pod.hold():
        pod["key 5"] = 1
        pod.sync()
        pod["held"] = 1
    pod["key 6"] = 1
    pod.sync()
    assert exactly(pod) == exactly(stored(pod.path))
    del pod["key 9"]
    pod.sync()
    assert len(reads) >= shards, "where it was is not known any more"
    assert exactly(pod) == exactly(stored(pod.path))


def test_a_whole_fold_does_not_look_for_new_lines_at_each_shard(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else can append meanwhile, and each look opens the journal where the file system is not local."""
    pod = opened(shard_bytes=100)
    pod.update({f"key {number}": number for number in range(200)})
    pod.sync()
    assert pod.stats().shards > 20
    looks: list[int] = []
    read_tail = Store.read_tail

    def read(store: Store, epoch: int, offset: int) -> bytes:
        looks.append(offset)
        return read_tail(store, epoch, offset)

    monkeypatch.setattr(Store, "read_tail", read)
    pod["key 3"] = 0
    pod.sync()
    assert len(looks) <= 2


@pytest.mark.parametrize("steps", [False, True])
def test_a_fold_that_was_given_keys_in_another_order_is_done_without_them(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, steps: bool
) -> None:
    monkeypatch.setattr(POD, "_keys", lambda pod: [*dict.keys(pod)][::-1])
    if steps:
        monkeypatch.setattr("tastypy.folding._AT_ONCE", 0)
    pod = opened(shard_bytes=100)
    pod.update({f"key {number}": number for number in range(100)})
    pod.sync()
    pod["key 3"] = pod["new"] = 0
    pod.sync()
    assert (
        exactly(pod)
        == exactly(stored(pod.path))
        == exactly({**{f"key {n}": n for n in range(100)}, "key 3": 0, "new": 0})
    )
    assert pod.check() == []


def test_a_number_that_a_dead_fold_took_is_skipped(small: POD[Any, Any]) -> None:
    """Its empty journal stays the owner of the number, for its shards too: another host may have seen them."""
    small["a"] = 1
    epoch = header_of(small.path).epoch
    for dead in (epoch + 1, epoch + 2):
        (Path(small.path) / f"journal-{dead}.jsonl").touch()
        (Path(small.path) / f"0000-{dead}.json").write_bytes(b"what the dead fold left")
    small.sync()
    header = header_of(small.path)
    assert (header.epoch, header.before) == (epoch + 3, epoch)
    assert [shard.epoch for shard in header.shards] == [epoch + 3]
    assert [file.name for file in journals(Path(small.path))] == [f"journal-{at}.jsonl" for at in (epoch, epoch + 3)]
    assert [file.name for file in shards(Path(small.path))] == [f"0000-{epoch + 3}.json"]
    assert stored(small.path) == {"a": 1}


def test_a_fold_that_fails_leaves_its_number_taken_and_nothing_else_however_often_it_is_tried(
    small: POD[Any, Any], failing_os: FailingOS
) -> None:
    small["a"] = 1
    before = files(Path(small.path))
    epoch = header_of(small.path).epoch
    failing_os.always["rename"] = OSError(28, "No space left on device")
    with pytest.raises(CommitError, match="No space left"):
        small.sync()
    failing_os.always.clear()
    left = before | {f"journal-{epoch + 1}.jsonl": b""}
    assert files(Path(small.path)) == left
    other = POD[Any, Any](small.path)  # for others the number is taken
    failing_os.always["rename"] = OSError(28, "No space left on device")
    for _ in range(3):  # for its owner it is not, or trying again would fill the disk with journals
        for pod in (small, other):
            with pytest.raises(CommitError, match="No space left"):
                pod.sync()
    failing_os.always.clear()
    assert files(Path(small.path)) == left | {f"journal-{epoch + 2}.jsonl": b""}
    other.sync()
    assert header_of(small.path).epoch == epoch + 2
    small.sync()
    small["b"] = 2
    small.sync()
    assert header_of(small.path).epoch == epoch + 3
    assert stored(small.path) == {"a": 1, "b": 2}
    other.close()


def test_a_held_move_to_the_front_of_a_key_that_others_deleted_does_not_put_it_there_later(opened: Opener) -> None:
    """The order that a process has that replayed the journal is that of one that opens after the fold."""
    pod, other = opened(), opened()
    pod.update(x=0, k=1, large="x" * 1_500_000)  # so that the unhold does not fold
    pod.sync()
    pod.hold()
    pod.move_to_end("k", last=False)
    del other["k"]
    pod.unhold()
    other["k"] = 2
    pod.refresh()
    before = list(other)
    assert list(pod) == before
    other.sync()
    assert list(stored(pod.path)) == before
