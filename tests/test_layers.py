"""Changes not committed yet: news goes beneath them so that the memory is what the directory will have once they are written."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import exactly
from hypothesis import given, settings
from hypothesis import strategies as st

from tastypy.changes import replay
from tastypy.layers import ABSENT, Layer, differing
from tastypy.values import PLAIN

KEYS = st.sampled_from([*"abcdefg", 1])
BASES = st.lists(KEYS, unique=True, max_size=6).map(lambda keys: {key: f"old {key!r}" for key in keys})
Memory = dict[Any, Any]
Record = dict[str, Any]


def content(layer: Layer) -> Record:
    """The batch that would be written now."""
    changes = layer.changes
    put = {key: layer.memory[key] for key in changes.put}
    return {"clear": changes.clear, "del": list(changes.deleted), "put": put, "front": list(changes.front)}


def change(data: st.DataObject, layer: Layer, number: int, *, wipes: bool = False) -> None:
    """Let the layer do something that its memory allows."""
    memory = layer.memory
    kinds = ["set", "set", "set many"] + (["touch", "delete", "delete", "last", "first"] if memory else [])
    kind = data.draw(st.sampled_from([*kinds, "wipe"] if wipes else kinds), label="change")
    if kind == "wipe":
        layer.wipe()
    elif kind == "set":
        layer.set(data.draw(KEYS), f"held {number}", b"")
    elif kind == "set many":
        keys = data.draw(st.lists(KEYS, unique=True, min_size=1, max_size=3))
        layer.set_many({key: f"many {number} {key!r}" for key in keys}, b"")
    else:
        key = data.draw(st.sampled_from(list(memory)), label="key")
        if kind == "touch":
            layer.touch(key)
        elif kind == "delete":
            layer.delete(key)
        else:
            layer.move(key, last=kind == "last")


def news(data: st.DataObject, disk: Memory, number: int) -> Record:
    """A batch that another process may write to what is on the disk; it is applied to it."""
    record: Record = {"crc": "", "seq": number}
    if data.draw(st.integers(0, 7), label="clears") == 0:
        record["clear"] = True
    if deleted := data.draw(st.lists(KEYS, unique=True, max_size=2), label="del"):
        record["del"] = deleted
    if put := data.draw(st.lists(KEYS, unique=True, max_size=2), label="put"):
        record["put"] = {key: f"news {number} {key!r}" for key in put}
    replay(disk, [record])
    moves = data.draw(st.booleans(), label="moves")
    if moves and disk:
        record["front"] = data.draw(st.lists(st.sampled_from(list(disk)), unique=True, min_size=1, max_size=2))
        replay(disk, [{"front": record["front"]}])
    return record


@settings(max_examples=max(200, settings().max_examples))
@given(base=BASES, data=st.data())
def test_the_memory_with_news_beneath_it_is_what_the_directory_has_once_the_layer_is_written(
    base: Memory, data: st.DataObject
) -> None:
    """Values and order, after any changes held before and between any news."""
    disk, memory = base.copy(), base.copy()
    layer = Layer(memory, user=True)
    for number in range(data.draw(st.integers(1, 5), label="rounds")):
        if data.draw(st.booleans(), label="held"):
            change(data, layer, number)
        else:
            layer.replay_beneath([news(data, disk, number) for _ in range(data.draw(st.integers(1, 2)))])
        written = disk.copy()
        replay(written, [content(layer)])
        assert list(written.items()) == list(memory.items())


@pytest.mark.parametrize("first", [{"del": ["b"]}, {"clear": True}])
def test_a_key_held_in_front_that_others_delete_and_set_again_is_where_it_will_be_on_the_disk(first: Record) -> None:
    disk = {"a": 0, "b": 0}
    memory = disk.copy()
    layer = Layer(memory, user=True)
    layer.move("b", last=False)
    records = [{"crc": "", "seq": 1, **first}, {"crc": "", "seq": 2, "put": {"c": 1, "b": 1}}]
    layer.replay_beneath(records)
    replay(disk, [*records, content(layer)])
    assert exactly(memory) == exactly(disk)


@given(base=BASES, data=st.data())
def test_a_directory_that_is_loaded_anew_beneath_a_layer_gives_the_same_as_its_news(
    base: Memory, data: st.DataObject
) -> None:
    disk, memory = base.copy(), base.copy()
    layer, again = Layer(memory, user=True), Layer(base.copy(), user=True)
    for number in range(data.draw(st.integers(0, 3), label="changes")):
        change(data, layer, number)
    for number in range(data.draw(st.integers(0, 3), label="news")):
        news(data, disk, number)
    fresh = disk.copy()
    layer.replay_onto(fresh, memory.copy())
    again.memory, layer.memory = fresh, fresh
    written = disk.copy()
    replay(written, [content(layer)])
    assert list(written.items()) == list(fresh.items())


@given(base=BASES, data=st.data())
def test_a_layer_is_the_batch_that_makes_its_memory_of_what_was_before(base: Memory, data: st.DataObject) -> None:
    memory = base.copy()
    layer = Layer(memory, user=False)
    for number in range(data.draw(st.integers(0, 5))):
        change(data, layer, number, wipes=True)
    replay(base, [content(layer)])
    assert list(base.items()) == list(memory.items())


@given(base=BASES, data=st.data())
def test_a_layer_that_absorbed_the_one_above_it_is_both(base: Memory, data: st.DataObject) -> None:
    """A savepoint that ends well is part of its transaction, for the commit and for the rollback."""
    before, memory = base.copy(), base.copy()
    below = Layer(memory, user=True)
    for number in range(data.draw(st.integers(0, 3))):
        change(data, below, number, wipes=True)
    above = Layer(memory, user=True, below=below)
    for number in range(data.draw(st.integers(0, 3))):
        change(data, above, 10 + number, wipes=True)
    below.absorb(above)
    written = base.copy()
    replay(written, [content(below)])
    assert list(written.items()) == list(memory.items())
    for key, old in below.undo.items():
        if old is ABSENT:
            memory.pop(key, None)
        else:
            memory[key] = old
    assert memory == before


@given(base=BASES, data=st.data())
def test_what_a_layer_noted_undoes_it_order_included_where_it_says_so(base: Memory, data: st.DataObject) -> None:
    before, memory = base.copy(), base.copy()
    layer = Layer(memory, user=True)
    for number in range(data.draw(st.integers(0, 4))):
        change(data, layer, number, wipes=True)
    changed = memory.copy()
    if layer.undo_simply():
        assert list(memory.items()) == list(before.items())
    else:
        assert list(memory.items()) == list(changed.items()), "it left everything to who reads the disk"
        assert layer.disturbed


def test_setting_alone_is_undone_without_the_disk() -> None:
    memory = {"a": 1, "b": 2}
    layer = Layer(memory, user=False)
    layer.set("b", 3, b"3")
    layer.set("c", 4, b"4")
    layer.set("c", 5, b"5")
    layer.set_many({"a": 6, "d": 7}, b"")
    assert layer.undo_simply()
    assert exactly(memory) == exactly({"a": 1, "b": 2})


@pytest.mark.parametrize("kind", ["delete", "move", "touch", "wipe"])
def test_what_needs_the_disk_to_be_undone_says_so(kind: str) -> None:
    memory = {"a": 1, "b": 2}
    layer = Layer(memory, user=True)
    {
        "delete": lambda: layer.delete("a"),
        "move": lambda: layer.move("a", last=True),
        "touch": lambda: layer.touch("a"),
        "wipe": layer.wipe,
    }[kind]()
    assert not layer.undo_simply()
    assert layer.undo["a"] == 1


def test_of_a_key_that_was_moved_the_value_of_others_is_taken_unless_it_was_set_too() -> None:
    memory = {"a": 0, "b": 0, "c": 0}
    layer = Layer(memory, user=True)
    layer.move("a", last=True)
    layer.move("b", last=True)
    layer.set("b", "mine", b"")
    layer.replay_beneath([{"crc": "", "seq": 1, "put": {"a": "theirs", "b": "theirs"}}])
    assert exactly(memory) == exactly({"c": 0, "a": "theirs", "b": "mine"})


def test_the_text_of_a_value_is_kept_where_nobody_can_mutate_it_before_the_commit() -> None:
    """Under hold or in a transaction the user's code runs before it is written."""
    own, users = Layer({}, user=False), Layer({}, user=True)
    for layer in (own, users):
        layer.set("a", [1], b"[1]")
    assert own.changes.put == {"a": b"[1]"}
    assert users.changes.put == {"a": None}


def test_the_text_of_many_is_kept_only_where_they_are_all_there_is() -> None:
    own, users, more = Layer({}, user=False), Layer({}, user=True), Layer({}, user=False)
    more.set("z", 1, b"1")
    for layer in (own, users, more):
        layer.set_many({"a": 1}, b'"put":{"a":1}')
    assert (own.content, users.content, more.content) == (b'"put":{"a":1}', b"", b"")


def test_an_interruption_between_the_note_and_the_memory_is_mended() -> None:
    memory = {"a": 1, "b": 2}
    layer = Layer(memory, user=True)
    layer.changes.delete("a")  # a Ctrl-C came before the memory followed
    layer.changes.set("c")
    layer.new.add("c")
    layer.mend()
    assert memory == {"b": 2}
    assert layer.changes.put == {}
    assert layer.new == set()


# ----------------------------------------------------------------------------------- a transaction above what is held


@given(base=BASES, data=st.data())
def test_what_is_committed_above_what_is_held_goes_beneath_it(base: Memory, data: st.DataObject) -> None:
    """Its keys are held no more; the memory is what the directory has once the rest is written."""
    disk, memory = base.copy(), base.copy()
    held = Layer(memory, user=True)
    for number in range(data.draw(st.integers(0, 3), label="held")):
        kind = data.draw(st.sampled_from(["set", "delete"] if memory else ["set"]))
        if kind == "set":
            held.set(data.draw(KEYS), f"held {number}", b"")
        else:
            held.delete(data.draw(st.sampled_from(list(memory))))
    above = Layer(memory, user=True)
    for number in range(data.draw(st.integers(1, 3), label="above")):
        key = data.draw(KEYS)
        if key in memory and data.draw(st.booleans()):
            above.delete(key)
        else:
            above.set(key, f"above {number}", b"")
    # as Memory._commit has it: what a held deletion had taken away is at the end
    above.changes.deleted.update((key, None) for key in above.changes.put if key in held.changes.deleted)
    replay(disk, [content(above)])
    held.committed(above)
    assert not held.changes.keys() & above.changes.keys()
    replay(disk, [content(held)])
    assert list(disk.items()) == list(memory.items())


# --------------------------------------------------------------------------------------------------- what differs


def test_equal_values_of_other_types_differ() -> None:
    before = {"int": 1, "bool": True, "nested": [1, {"a": 0}], "same": [1], "gone": 0}
    after = {"int": 1.0, "bool": 1, "nested": [1, {"a": False}], "same": [1], "new": 0}
    assert differing(before, after, PLAIN.same) == {"int", "bool", "nested", "gone", "new"}
    assert differing(before, before, PLAIN.same) == set()


def test_a_value_that_was_mutated_into_what_json_lacks_differs() -> None:
    assert differing({"a": [{1}], "b": 1}, {"a": [{1}], "b": 1}, PLAIN.same) == {"a"}
