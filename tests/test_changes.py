"""What a batch changes: the net effect of many is that of their replay, one after another, order included."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import exactly
from hypothesis import given
from hypothesis import strategies as st

from tastypy.changes import Changes, extend, replace, replay, to_end, to_front

KEYS = st.sampled_from([*"abcdef", 1, 1.0, True, (0, "x")])
BASES = st.lists(KEYS, unique=True, max_size=8).map(lambda keys: {key: f"old {key!r}" for key in keys})
Memory = dict[Any, Any]
Record = dict[str, Any]


@st.composite
def rows(draw: st.DrawFn, most: int = 5) -> tuple[Memory, list[Record]]:
    """A dict and records of a journal that stands on it: what moves to the front is there."""
    base = draw(BASES)
    there = base.copy()
    records: list[Record] = []
    for number in range(draw(st.integers(0, most))):
        record: Record = {"crc": "", "seq": number + 1}
        if draw(st.integers(0, 9)) == 0:
            record["clear"] = True
        if deleted := draw(st.lists(KEYS, unique=True, max_size=3)):
            record["del"] = deleted
        if put := draw(st.lists(KEYS, unique=True, max_size=3)):
            record["put"] = {key: f"{number} {key!r}" for key in put}
        replay(there, [record])
        moves = draw(st.booleans())
        if moves and there:
            record["front"] = draw(st.lists(st.sampled_from(list(there)), unique=True, min_size=1, max_size=3))
            replay(there, [{"front": record["front"]}])
        if len(record) > 2:
            records.append(record)
    return base, records


def naively(memory: Memory, record: Record) -> Memory:
    """What the documentation of the format says of a batch, on a list of pairs: the oracle of these tests."""
    pairs = [] if record.get("clear") else list(memory.items())
    pairs = [pair for pair in pairs if pair[0] not in record.get("del", [])]
    for key, value in record.get("put", {}).items():
        at = next((at for at, pair in enumerate(pairs) if pair[0] == key), None)
        if at is None:
            pairs.append((key, value))
        else:
            pairs[at] = (pairs[at][0], value)
    for key in record.get("front", []):
        pairs.sort(key=lambda pair: pair[0] != key)
    return dict(pairs)


def as_record(changes: Changes) -> Record:
    """The batch that has the effect of the changes."""
    return {"clear": changes.clear, "del": changes.deleted, "put": changes.put, "front": list(changes.front)}


# -------------------------------------------------------------------------------------------------------------- replay


@given(row=rows())
def test_replay_does_what_the_format_says_of_each_batch_in_turn(row: tuple[Memory, list[Record]]) -> None:
    base, records = row
    expected = base
    for record in records:
        expected = naively(expected, record)
    memory = base.copy()
    replay(memory, records)
    assert exactly(memory) == exactly(expected)


@given(row=rows())
def test_replay_twice_of_the_last_batch_changes_no_values(row: tuple[Memory, list[Record]]) -> None:
    """Entries are absolute: a batch that was applied when an exception came may be applied again."""
    memory, records = row
    replay(memory, records)
    once = memory.copy()
    replay(memory, records[-1:])
    assert memory == once


class Guarded(dict[Any, Any]):
    """A dict none of whose own mutators may be called."""

    def refuse(self, *_: object) -> Any:
        raise AssertionError("replay called what the subclass overrides")

    __setitem__ = __delitem__ = __getitem__ = __contains__ = __iter__ = clear = refuse
    pop = update = keys = items = refuse  # type: ignore[assignment]  # they are not to be called with anything


@given(row=rows())
def test_replay_uses_the_methods_of_the_builtin_dict_whatever_is_overridden(row: tuple[Memory, list[Record]]) -> None:
    """Those of a POD would commit what they are given."""
    base, records = row
    guarded = Guarded(base)
    replay(guarded, records)
    replay(base, records)
    assert exactly(dict(dict.items(guarded))) == exactly(base)


# ------------------------------------------------------------------------------------------------------ the net effect


@given(row=rows())
def test_the_net_effect_of_records_is_that_of_their_replay_order_included(row: tuple[Memory, list[Record]]) -> None:
    base, records = row
    changes = Changes()
    for record in records:
        changes.add(record)
    memory = base.copy()
    replay(memory, [as_record(changes)])
    replay(base, records)
    assert list(memory.items()) == list(base.items())


@given(row=rows(), split=st.integers(0, 5))
def test_the_net_effect_may_be_taken_in_parts(row: tuple[Memory, list[Record]], split: int) -> None:
    """A net effect is a batch like any other."""
    base, records = row
    parts = Changes(), Changes()
    for at, record in enumerate(records):
        parts[at >= split].add(record)
    both = Changes()
    both.add(as_record(parts[0]))
    both.add(as_record(parts[1]))
    memory = base.copy()
    replay(memory, [as_record(both)])
    replay(base, records)
    assert list(memory.items()) == list(base.items())


@given(row=rows())
def test_the_net_effect_names_every_key_that_changed(row: tuple[Memory, list[Record]]) -> None:
    base, records = row
    changes = Changes()
    for record in records:
        changes.add(record)
    after = base.copy()
    replay(after, records)
    differing = {key for key in base.keys() | after.keys() if base.get(key) != after.get(key)}
    assert changes.clear or differing <= changes.keys()
    assert bool(changes) or not differing


def test_each_kind_of_change_counts_as_one() -> None:
    for record in ({"clear": True}, {"del": ["a"]}, {"put": {"a": None}}, {"front": ["a"]}):
        changes = Changes()
        assert not changes
        changes.add(record)
        assert changes
        assert changes.keys() == (set() if "clear" in record else {"a"})


def test_the_methods_have_the_effects_of_their_names() -> None:
    changes = Changes()
    changes.delete("gone")
    changes.set("a", 1)
    changes.move_to_end("b", 2)
    changes.move_to_front("c")
    changes.move_to_front("d")
    changes.move_to_front("c")
    memory = {"gone": 0, "b": 2, "x": 0, "c": 3, "d": 4}
    replay(memory, [as_record(changes)])
    assert exactly(memory) == exactly({"c": 3, "d": 4, "x": 0, "a": 1, "b": 2})
    changes.wipe()
    changes.set("new", 5)
    replay(memory, [as_record(changes)])
    assert memory == {"new": 5}


def test_a_key_that_was_moved_deleted_and_set_again_is_at_the_end() -> None:
    changes = Changes()
    for record in ({"front": ["b"]}, {"del": ["b"]}, {"put": {"b": 1}}):
        changes.add(record)
    memory = {"a": 0, "b": 0}
    replay(memory, [as_record(changes)])
    assert exactly(memory) == exactly({"a": 0, "b": 1})


def test_a_key_deleted_after_a_clear_is_not_named() -> None:
    changes = Changes()
    changes.wipe()
    changes.set("a", 1)
    changes.delete("a")
    assert as_record(changes) == {"clear": True, "del": {}, "put": {}, "front": []}


def test_a_copy_of_changes_goes_its_own_way() -> None:
    changes = Changes()
    changes.set("a", 1)
    changes.delete("b")
    changes.move_to_front("c")
    before = repr(as_record(changes))
    copy = changes.copy()
    assert repr(as_record(copy)) == before
    copy.set("x")
    copy.delete("y")
    copy.move_to_front("z")
    copy.clear = True
    assert repr(as_record(changes)) == before


# ----------------------------------------------------------------------------------------------------------- on a dict


@given(base=BASES, keys=st.lists(KEYS, max_size=5))
def test_moving_many_to_the_front_is_moving_each_in_turn_and_skips_what_is_not_there(
    base: Memory, keys: list[Any]
) -> None:
    memory = base.copy()
    to_front(memory, keys)
    assert list(memory.items()) == list(naively(base, {"front": keys}).items())


def test_moving_a_key_keeps_its_first_spelling() -> None:
    """1, 1.0 and True are one key."""
    memory: Memory = {"a": 0, 1: "x", "b": 2}
    to_front(memory, [True])
    assert exactly(memory) == exactly({1: "x", "a": 0, "b": 2})
    to_end(memory, 1)
    assert exactly(memory) == exactly({"a": 0, "b": 2, 1: "x"})


@given(base=BASES.filter(bool), data=st.data())
def test_moving_to_the_end_keeps_the_others_and_the_spelling(base: Memory, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(list(base)))
    memory = base.copy()
    to_end(memory, key)
    assert exactly(memory) == exactly({**{other: base[other] for other in base if other != key}, key: base[key]})


def test_moving_a_missing_key_to_the_end_is_an_error_that_changes_nothing() -> None:
    memory = {"a": 1}
    with pytest.raises(KeyError):
        to_end(memory, "b")
    assert memory == {"a": 1}


@given(one=BASES, other=BASES)
def test_replacing_gives_content_and_order_and_keeps_the_object(one: Memory, other: Memory) -> None:
    memory = one
    replace(memory, other)
    assert memory is one
    assert exactly(memory) == exactly(other)


@given(shards=st.lists(BASES, max_size=4))
def test_a_dict_is_extended_by_shards_in_their_order(shards: list[Memory]) -> None:
    expected: Memory = {}
    for shard in shards:
        expected.update(shard)
    memory: Memory = {}
    extend(memory, iter(shards))
    assert exactly(memory) == exactly(expected)
    memory = {"before": 1}
    extend(memory, shards)
    assert exactly(memory) == exactly({"before": 1} | expected)
