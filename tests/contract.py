"""What every mapping of this package must do that a `dict` does: the same calls on it and on a plain dict, compared.

A test file applies it by deriving from `MappingContract` and saying how its mapping is opened and what a value looks like::

    class TestPOD(MappingContract):
        def open(self, path):
            return POD(path)

        def value(self, number):
            return number

After each change the mapping must equal the dict, in order, and so must a second instance opened on the same directory.
"""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from tastypy import POD

MISSING = object()


class MappingContract:
    """Derive from this in a test file, and define `open` and `value`."""

    def open(self, path: Path) -> POD[Any, Any]:
        """The mapping at `path`, made if it is not there."""
        raise NotImplementedError

    def value(self, number: int) -> Any:
        """A value that can be stored, different for each number."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------------------------- fixtures

    @pytest.fixture
    def mapping(self, path: Path) -> Iterator[POD[Any, Any]]:
        """An empty mapping."""
        mapping = self.open(path)
        yield mapping
        mapping.close()

    @pytest.fixture
    def plain(self) -> dict[str, Any]:
        """Three entries, as a dict has them."""
        return {"a": self.value(1), "b": self.value(2), "c": self.value(3)}

    @pytest.fixture
    def filled(self, mapping: POD[Any, Any], plain: dict[str, Any]) -> POD[Any, Any]:
        """A mapping with the same three entries."""
        for key, value in plain.items():
            mapping[key] = value
        return mapping

    def assert_same(self, mapping: POD[Any, Any], plain: dict[Any, Any]) -> None:
        """Memory equals the dict in content and order, and so does the disk."""
        assert list(mapping.items()) == list(plain.items())
        assert dict.__len__(mapping) == len(plain)
        other = self.open(Path(mapping.path))
        try:
            assert list(other.items()) == list(plain.items())
        finally:
            other.close()

    # ------------------------------------------------------------------------------------------------------ reading

    def test_it_is_a_dict_and_a_mutable_mapping(self, mapping: POD[Any, Any]) -> None:
        assert isinstance(mapping, dict)
        assert isinstance(mapping, MutableMapping)

    def test_an_empty_one_is_false_and_has_no_entries(self, mapping: POD[Any, Any]) -> None:
        assert not mapping
        assert len(mapping) == 0
        assert list(mapping) == []
        assert list(reversed(mapping)) == []
        self.assert_same(mapping, {})

    def test_reading_gives_what_was_assigned(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        assert filled
        assert len(filled) == 3
        for key, value in plain.items():
            assert filled[key] == value
            assert filled.get(key) == value
            assert key in filled
        self.assert_same(filled, plain)

    def test_a_missing_key_raises_and_get_gives_the_default(self, filled: POD[Any, Any]) -> None:
        with pytest.raises(KeyError, match="nothing"):
            filled["nothing"]
        assert filled.get("nothing") is None
        assert filled.get("nothing", MISSING) is MISSING
        assert "nothing" not in filled

    @pytest.mark.parametrize("call", ["__getitem__", "__contains__", "get"])
    def test_reading_an_unhashable_key_is_a_type_error(self, filled: POD[Any, Any], call: str) -> None:
        with pytest.raises(TypeError, match="unhashable"):
            getattr(filled, call)(["a"])

    def test_iteration_is_in_order_and_backwards_too(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        assert list(filled) == list(iter(filled)) == list("abc")
        assert list(reversed(filled)) == list("cba")
        assert list(reversed(filled.keys())) == list("cba")
        assert list(reversed(filled.values())) == list(reversed(plain.values()))
        assert list(reversed(filled.items())) == list(reversed(plain.items()))

    def test_it_equals_a_dict_with_the_same_entries(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        assert filled == plain
        assert plain == filled
        assert filled != {**plain, "d": 4}
        assert filled != {}
        unlike: Any = list(plain)
        assert filled != unlike

    def test_it_cannot_be_hashed(self, filled: POD[Any, Any]) -> None:
        with pytest.raises(TypeError, match="unhashable"):
            hash(filled)

    def test_it_unpacks_and_matches_as_a_mapping(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        assert dict(**filled) == plain
        assert {**filled} == plain
        match filled:
            case {"a": first, **others}:
                assert first == plain["a"]
                assert list(others) == ["b", "c"]
            case _:
                pytest.fail("a mapping pattern does not match")

    def test_dict_list_sorted_and_json_see_its_entries(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        assert dict(filled) == plain
        assert list(dict(filled)) == list(plain)
        assert sorted(filled) == list("abc")
        assert json.loads(json.dumps(filled)) == plain

    # ------------------------------------------------------------------------------------------------------- views

    def test_views_are_live_and_sized(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        keys, values, items = filled.keys(), filled.values(), filled.items()
        filled["d"] = plain["d"] = self.value(4)
        assert list(keys) == list(plain)
        assert list(values) == list(plain.values())
        assert list(items) == list(plain.items())
        assert len(keys) == len(values) == len(items) == 4

    def test_views_know_what_they_contain(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        assert "a" in filled.keys()  # noqa: SIM118 - the view itself is under test
        assert "z" not in filled.keys()  # noqa: SIM118 - as above
        assert plain["b"] in filled.values()
        assert self.value(99) not in filled.values()
        assert ("a", plain["a"]) in filled.items()
        assert ("a", self.value(99)) not in filled.items()
        assert ("z", plain["a"]) not in filled.items()

    def test_key_views_do_set_operations_as_a_dicts_do(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        mine, theirs, other = filled.keys(), plain.keys(), {"b", "z"}
        assert mine & other == theirs & other == {"b"}
        assert mine | other == theirs | other
        assert mine - other == theirs - other
        assert mine ^ other == theirs ^ other
        assert other & mine == {"b"}
        assert other | mine == {"a", "b", "c", "z"}
        assert other - mine == {"z"}
        assert other ^ mine == {"a", "c", "z"}
        assert mine == theirs
        alike: Any = {"a", "b", "c"}
        assert mine == alike
        assert mine != {"a": 1}.keys()
        assert mine <= {"a", "b", "c", "d"}
        assert mine < {"a", "b", "c", "d"}
        assert mine >= {"a"}
        assert mine > {"a"}
        assert mine.isdisjoint({"z"})
        assert not mine.isdisjoint(other)

    def test_item_views_do_set_operations_when_the_values_can_be_hashed(self, mapping: POD[Any, Any]) -> None:
        if isinstance(self.value(1), dict | list):
            pytest.skip("the values of this mapping cannot be hashed")
        mapping.update(a=self.value(1), b=self.value(2))
        assert mapping.items() & {("a", self.value(1)), ("z", 0)} == {("a", self.value(1))}
        assert mapping.items() == {"a": self.value(1), "b": self.value(2)}.items()
        assert mapping.items() - {("a", self.value(1))} == {("b", self.value(2))}

    def test_views_name_their_mapping_and_show_their_entries(
        self, filled: POD[Any, Any], plain: dict[str, Any]
    ) -> None:
        assert filled.keys().mapping == plain
        for view in (filled.keys(), filled.values(), filled.items()):
            assert repr(plain["a"]) in repr(view) or "'a'" in repr(view)

    # --------------------------------------------------------------------------------------------- copies and unions

    def test_copies_are_plain_dicts_and_independent(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        for duplicate in (filled.copy(), copy.copy(filled), copy.deepcopy(filled)):
            assert type(duplicate) is dict
            assert list(duplicate.items()) == list(plain.items())
            duplicate["d"] = 4
        self.assert_same(filled, plain)

    def test_a_union_is_a_plain_dict_in_the_order_of_a_dicts_union(
        self, filled: POD[Any, Any], plain: dict[str, Any]
    ) -> None:
        other = {"c": self.value(9), "d": self.value(4)}
        for mine, theirs in (
            (filled | other, plain | other),
            (other | filled, other | plain),
            (filled | filled, plain),
        ):
            assert type(mine) is dict
            assert list(mine.items()) == list(theirs.items())
        with pytest.raises(TypeError):
            filled | [("d", 4)]  # type: ignore[operator]  # that is the point
        self.assert_same(filled, plain)

    def test_fromkeys_is_refused_since_it_has_no_path(self, mapping: POD[Any, Any]) -> None:
        with pytest.raises(TypeError):
            type(mapping).fromkeys(["a"])

    def test_it_pickles_as_its_path(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        twin = pickle.loads(pickle.dumps(filled))
        try:
            assert type(twin) is type(filled)
            assert twin.path == filled.path
            twin["d"] = plain["d"] = self.value(4)
            assert filled.refresh() == {"d"}
            self.assert_same(filled, plain)
        finally:
            twin.close()

    # ------------------------------------------------------------------------------------------------------ changing

    def test_a_new_key_goes_to_the_end_and_an_old_one_stays_in_place(
        self, filled: POD[Any, Any], plain: dict[str, Any]
    ) -> None:
        for key in ("d", "a"):
            filled[key] = plain[key] = self.value(9)
        assert list(filled) == ["a", "b", "c", "d"]
        self.assert_same(filled, plain)

    def test_a_key_deleted_and_set_again_goes_to_the_end(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        for each in (filled, plain):
            del each["a"]
            each["a"] = self.value(7)
        assert list(filled) == ["b", "c", "a"]
        self.assert_same(filled, plain)

    def test_deleting_removes_one_entry(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        del filled["b"], plain["b"]
        assert "b" not in filled
        self.assert_same(filled, plain)

    @pytest.mark.parametrize("call", ["__delitem__", "pop"])
    def test_removing_a_missing_key_raises_and_changes_nothing(
        self, filled: POD[Any, Any], plain: dict[str, Any], call: str
    ) -> None:
        with pytest.raises(KeyError, match="nothing"):
            getattr(filled, call)("nothing")
        self.assert_same(filled, plain)

    @pytest.mark.parametrize(
        ("call", "arguments"),
        [("__setitem__", (1,)), ("__delitem__", ()), ("pop", ()), ("pop", (1,)), ("setdefault", (1,))],
    )
    def test_changing_an_unhashable_key_is_a_type_error(
        self, filled: POD[Any, Any], plain: dict[str, Any], call: str, arguments: tuple[Any, ...]
    ) -> None:
        with pytest.raises(TypeError):
            getattr(filled, call)(["a"], *arguments)
        self.assert_same(filled, plain)

    def test_pop_gives_the_value_or_the_default(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        assert filled.pop("b") == plain.pop("b")
        assert filled.pop("b", MISSING) is MISSING
        assert filled.pop("b", None) is None
        self.assert_same(filled, plain)

    @pytest.mark.parametrize("last", [True, False])
    def test_popitem_takes_from_the_end_that_was_asked_for(
        self, filled: POD[Any, Any], plain: dict[str, Any], *, last: bool
    ) -> None:
        key = "c" if last else "a"
        assert filled.popitem(last=last) == (key, plain.pop(key))
        self.assert_same(filled, plain)

    def test_popitem_takes_the_last_by_default_until_none_is_left(
        self, filled: POD[Any, Any], plain: dict[str, Any]
    ) -> None:
        assert [filled.popitem() for _ in range(3)] == [plain.popitem() for _ in range(3)]
        for last in (True, False):
            with pytest.raises(KeyError):
                filled.popitem(last=last)
        self.assert_same(filled, {})

    def test_setdefault_keeps_what_is_there_and_stores_what_is_not(
        self, filled: POD[Any, Any], plain: dict[str, Any]
    ) -> None:
        assert filled.setdefault("a", self.value(9)) == plain["a"]
        assert filled.setdefault("d", self.value(4)) == self.value(4)
        plain["d"] = self.value(4)
        self.assert_same(filled, plain)

    def test_setdefault_returns_the_stored_object(self, filled: POD[Any, Any]) -> None:
        """As with a dict, what it returns can be mutated, and then is what the mapping holds."""
        assert filled.setdefault("d", self.value(4)) is filled["d"]

    def test_update_takes_what_a_dicts_update_takes(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        for each in (filled, plain):
            each.update({"a": self.value(4), "d": self.value(5)})
            each.update([("e", self.value(6)), ("a", self.value(7))])
            each.update(iter([("f", self.value(8))]))
            each.update(g=self.value(9), b=self.value(10))
            each.update({"h": self.value(11)}, c=self.value(12))
            each.update()
            each.update({})
            each.update([])
        self.assert_same(filled, plain)

    def test_update_takes_any_object_with_keys(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        class Keyed:
            def keys(self) -> list[str]:
                return ["x", "a"]

            def __getitem__(_, key: str) -> Any:  # noqa: N805 - the outer self has the values
                return self.value(ord(key))

        filled.update(Keyed())
        plain.update(Keyed())
        self.assert_same(filled, plain)

    @pytest.mark.parametrize("nonsense", [5, [1], [(1, 2, 3)], None], ids=repr)
    def test_update_with_nonsense_raises_as_a_dicts_does_and_changes_nothing(
        self, filled: POD[Any, Any], plain: dict[str, Any], nonsense: Any
    ) -> None:
        with pytest.raises((TypeError, ValueError)):
            plain.update(nonsense)
        with pytest.raises((TypeError, ValueError)):
            filled.update(nonsense)
        self.assert_same(filled, plain)

    def test_an_update_that_fails_halfway_changes_nothing(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        """Where a dict would keep the first half, a commit is all or nothing."""

        def half() -> Iterator[tuple[str, Any]]:
            yield "d", self.value(4)
            raise LookupError("half")

        with pytest.raises(LookupError, match="half"):
            filled.update(half())
        self.assert_same(filled, plain)

    def test_the_augmented_union_changes_it_in_place(self, filled: POD[Any, Any], plain: dict[str, Any]) -> None:
        before = filled
        for other in ({"a": self.value(4), "d": self.value(5)}, [("e", self.value(6))]):
            filled |= other
            plain |= other
        assert filled is before
        self.assert_same(filled, plain)

    def test_clear_leaves_nothing(self, filled: POD[Any, Any]) -> None:
        filled.clear()
        self.assert_same(filled, {})
        filled.clear()
        filled["a"] = self.value(1)
        self.assert_same(filled, {"a": self.value(1)})

    @pytest.mark.parametrize("last", [True, False])
    @pytest.mark.parametrize("key", ["a", "b", "c"])
    def test_move_to_end_moves_to_the_end_that_was_asked_for(
        self, filled: POD[Any, Any], plain: dict[str, Any], key: str, *, last: bool
    ) -> None:
        filled.move_to_end(key, last=last)
        value = plain.pop(key)
        self.assert_same(filled, {**plain, key: value} if last else {key: value, **plain})

    @pytest.mark.parametrize("last", [True, False])
    def test_move_to_end_of_a_missing_key_raises(
        self, filled: POD[Any, Any], plain: dict[str, Any], *, last: bool
    ) -> None:
        with pytest.raises(KeyError, match="nothing"):
            filled.move_to_end("nothing", last=last)
        self.assert_same(filled, plain)

    def test_many_changes_in_a_row_agree_with_a_dict(self, mapping: POD[Any, Any]) -> None:
        plain: dict[str, Any] = {}
        for number in range(200):
            key = f"key {number * 7 % 23}"
            for each in (mapping, plain):
                if number % 5 == 4:
                    each.pop(key, None)
                else:
                    each[key] = self.value(number)
        self.assert_same(mapping, plain)
