"""Iteration that is safe while the dict changes, and views: held against what dict's own views do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tastypy import POD, ClosedPODError
from tastypy.views import Items, Keys, Values, keys_backward, keys_forward

KEYS = st.sampled_from("abcdef")
BASES = st.dictionaries(KEYS, st.integers(0, 3))


@given(base=BASES, changes=st.lists(st.tuples(st.integers(0, 6), KEYS, st.booleans()), max_size=6))
def test_an_iteration_gives_each_key_once_that_stays_and_none_that_is_gone(
    base: dict[str, int], changes: list[tuple[int, str, bool]]
) -> None:
    """Keys there at the start in their order, then those added meanwhile; a key deleted before its turn is skipped."""
    memory = base.copy()
    touched = {key for _, key, _ in changes}
    seen: list[str] = []
    for key in keys_forward(memory):
        assert key in memory
        seen.append(key)
        for at, other, adds in changes:
            if at == len(seen):
                if adds:
                    memory[other] = 9
                else:
                    memory.pop(other, None)
    assert len(seen) == len(set(seen))
    assert [key for key in seen if key not in touched] == [key for key in base if key not in touched]
    assert {key for key in memory if key not in base} <= set(seen) | touched - set(memory)


def test_keys_added_while_iterating_are_given_and_so_are_those_added_by_them() -> None:
    """The crawler of the documentation depends on it."""
    memory = {"3": 0}
    seen = []
    for key in keys_forward(memory):
        seen.append(key)
        if int(key):
            memory[str(int(key) - 1)] = 0
    assert seen == ["3", "2", "1", "0"]


def test_a_key_that_is_deleted_and_set_again_is_not_given_twice() -> None:
    memory = {"a": 0, "b": 0}
    seen = []
    for key in keys_forward(memory):
        seen.append(key)
        del memory[key]
        memory[key] = 1
    assert seen == ["a", "b"]


def test_backwards_keys_deleted_meanwhile_are_skipped_and_added_ones_are_not_given() -> None:
    memory = dict.fromkeys("abcd", 0)
    seen = []
    for key in keys_backward(memory):
        seen.append(key)
        memory.pop("b", None)
        memory[key + key] = 0
    assert seen == ["d", "c", "a"]


def test_an_iteration_over_a_pod_that_is_closed_meanwhile_raises(pod: POD[Any, Any]) -> None:
    """Or the loop would look complete."""
    for key in ("a", "b"):  # in the middle, and after the last one
        pod[key] = 1
        for begin in (iter, lambda each: iter(each.items()), lambda each: iter(each.values())):
            with POD[Any, Any](pod.path) as other:
                iterator = begin(other)
                next(iterator)
            with pytest.raises(ClosedPODError):
                next(iterator)


@pytest.mark.parametrize(
    "begin", [keys_forward, lambda memory: iter(Items(memory)), lambda memory: iter(Values(memory))]
)
def test_an_iteration_over_nothing_ends(begin: Callable[[dict[Any, Any]], Any]) -> None:
    assert list(begin({})) == []


@given(base=BASES)
def test_views_give_what_those_of_a_dict_give_in_both_directions(base: dict[str, int]) -> None:
    assert list(Keys(base)) == list(base.keys())
    assert list(Values(base)) == list(base.values())
    assert list(Items(base)) == list(base.items())
    assert list(reversed(Keys(base))) == list(reversed(base.keys()))
    assert list(reversed(Values(base))) == list(reversed(base.values()))
    assert list(reversed(Items(base))) == list(reversed(base.items()))
    assert len(Keys(base)) == len(Values(base)) == len(Items(base)) == len(base)


@given(base=BASES, other=BASES)
def test_views_are_the_sets_that_those_of_a_dict_are(base: dict[str, int], other: dict[str, int]) -> None:
    keys, items = Keys(base), Items(base)
    assert keys & other.keys() == base.keys() & other.keys()
    assert keys | other.keys() == base.keys() | other.keys()
    assert keys - other.keys() == base.keys() - other.keys()
    assert keys ^ other.keys() == base.keys() ^ other.keys()
    assert items & other.items() == base.items() & other.items()
    assert (keys <= other.keys()) == (base.keys() <= other.keys())
    assert (keys == other.keys()) == (base.keys() == other.keys())
    assert keys.isdisjoint(other) == base.keys().isdisjoint(other)


def test_views_contain_what_is_there_with_its_value() -> None:
    memory = {"a": 1}
    assert "a" in Keys(memory)
    assert "b" not in Keys(memory)
    assert ("a", 1) in Items(memory)
    assert ("a", 2) not in Items(memory)
    assert 1 in Values(memory)
    assert 2 not in Values(memory)


def test_views_follow_the_dict_name_it_and_show_what_is_in_it() -> None:
    memory = {"a": 1}
    keys, values, items = Keys(memory), Values(memory), Items(memory)
    memory["b"] = 2
    assert (repr(keys), repr(values), repr(items)) == (
        "Keys(['a', 'b'])",
        "Values([1, 2])",
        "Items([('a', 1), ('b', 2)])",
    )
    for view in (keys, values, items):
        assert view.mapping == memory
        with pytest.raises(TypeError):
            view.mapping["c"] = 3  # type: ignore[index]  # that is what is tested


def test_an_item_that_another_thread_deletes_between_key_and_value_is_skipped() -> None:
    """`keys_forward` has seen it; the value is asked for a moment later."""

    class Hasty(dict[Any, Any]):
        def __iter__(self) -> Any:
            for key in keys_forward(self):
                if key == "b":
                    dict.pop(self, "b")
                yield key

    assert list(Items(Hasty(a=1, b=2, c=3))) == [("a", 1), ("c", 3)]
    assert list(Values(Hasty(a=1, b=2, c=3))) == [1, 3]
