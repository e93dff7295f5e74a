"""Parquet, pandas and polars: what goes into a table is in it, and comes back where that is promised."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Opener, exactly
from hypothesis import given, settings
from hypothesis import strategies as st

from tastypy import POD, ExchangeError, Tracker, UnstorableTypeError

pyarrow = pytest.importorskip("pyarrow")
pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
parquet = pytest.importorskip("pyarrow.parquet")

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
_numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_scalars = st.none() | st.booleans() | _numbers | _texts
KEYS = st.recursive(_texts | _scalars, lambda inner: st.tuples(inner, inner), max_leaves=3)
_FIELDS = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_FIELDS, inner, max_size=3), max_leaves=6
)


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A directory in memory for all examples."""
    directory = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None, prefix="tastypy-")
    yield Path(directory)
    shutil.rmtree(directory)


@pytest.fixture
def pages(pod: POD[Any, Any]) -> POD[Any, Any]:
    pod.update({"/": {"status": 200, "bytes": 5120}, "/about": {"status": 200}, "/gone": {"status": 404, "bytes": 99}})
    return pod


# --- Parquet


@given(entries=st.dictionaries(KEYS, VALUES, max_size=5))
def test_what_goes_to_parquet_comes_back_exactly(memory: Path, entries: dict[Any, Any]) -> None:
    directory = memory / os.urandom(8).hex()
    with POD[Any, Any](directory / "from.pod") as pod, POD[Any, Any](directory / "to.pod") as other:
        pod.update(entries)
        assert pod.export_to(directory / "all.parquet") == len(pod)
        assert other.import_from(directory / "all.parquet") == (len(pod), 0, 0, ())
        assert exactly(other) == exactly(pod)


def test_parquet_has_keys_and_json_or_columns_with_types(pages: POD[Any, Any], tmp_path: Path) -> None:
    pages.export_to(tmp_path / "text.parquet")
    table = parquet.read_table(tmp_path / "text.parquet")
    assert (table.column_names, set(table.schema.types)) == (["key", "value"], {pyarrow.string()})
    assert table.to_pylist()[0] == {"key": "/", "value": '{"status":200,"bytes":5120}'}
    pages.export_to(tmp_path / "typed.parquet", columns=True, key="page")
    table = parquet.read_table(tmp_path / "typed.parquet")
    assert table.schema.types == [pyarrow.string(), pyarrow.int64(), pyarrow.int64()]
    assert table.to_pydict() == {"page": ["/", "/about", "/gone"], "status": [200, 200, 404], "bytes": [5120, None, 99]}


def test_more_rows_than_are_written_at_once_and_none(pod: POD[Any, Any], tmp_path: Path) -> None:
    pod.export_to(tmp_path / "none.parquet")
    pod.export_to(tmp_path / "none too.parquet", columns=True)
    assert pod.import_from(tmp_path / "none.parquet").added == 0
    assert pod.import_from(tmp_path / "none too.parquet", columns=True).added == 0
    entries = {number: str(number) for number in range(25_000)}
    pod.update(entries)
    pod.export_to(tmp_path / "all.parquet")
    pod.clear()
    with open(tmp_path / "all.parquet", "rb") as file:
        assert pod.import_from(file, format="parquet").added == 25_000
    assert pod == entries


@settings(max_examples=60)
@given(values=st.lists(VALUES, min_size=1, max_size=4))
def test_columns_of_parquet_hold_the_values_or_are_refused_by_name(memory: Path, values: list[Any]) -> None:
    directory = memory / os.urandom(8).hex()
    with POD[Any, Any](directory / "from.pod") as pod:
        pod.update({str(at): {"x": value} for at, value in enumerate(values)})
        file = io.BytesIO()
        try:
            pod.export_to(file, format="parquet", columns=True)
        except ExchangeError as error:
            assert "'x' has several types" in str(error) or "no child field" in str(error)
            return
    found = parquet.read_table(io.BytesIO(file.getvalue())).column("x").to_pylist()
    assert all(same(one, other) for one, other in zip(found, values, strict=True))


def same(found: Any, value: Any) -> bool:
    """Whether a table's value is this one, but for ints that became floats, and fields that are missing, and there None."""
    if isinstance(value, dict) and isinstance(found, dict):
        return all(same(found[name], value.get(name)) for name in {*found, *value})
    if isinstance(value, list) and isinstance(found, list):
        return len(found) == len(value) and all(map(same, found, value))
    if type(value) is int and type(found) is float:
        return found == value
    return type(found) is type(value) and bool(found == value)


def test_a_table_that_others_made_comes_in_by_its_columns(pod: POD[Any, Any], tmp_path: Path) -> None:
    table = pyarrow.table({"id": [3, 4], "name": ["Ada", None], "tags": [["a"], []]})
    parquet.write_table(table, tmp_path / "people.parquet")
    pod.import_from(tmp_path / "people.parquet", columns=True, key="id")
    assert pod == {3: {"name": "Ada", "tags": ["a"]}, 4: {"name": None, "tags": []}}
    with pytest.raises(ExchangeError, match="row 1: there is no 'key', only 'id', 'name', 'tags'"):
        pod.import_from(tmp_path / "people.parquet")
    with pytest.raises(ExchangeError, match="row 1: there are 'id', 'name', 'tags', not just 'id' and 'value'"):
        pod.import_from(tmp_path / "people.parquet", key="id")
    parquet.write_table(pyarrow.table({"key": ["a"], "value": [1]}), tmp_path / "number.parquet")
    with pytest.raises(ExchangeError, match="row 1: the value is 1, not JSON text; columns"):
        pod.import_from(tmp_path / "number.parquet")
    (tmp_path / "text.parquet").write_text("a letter")
    with pytest.raises(ExchangeError, match="cannot be read as Parquet"):
        pod.import_from(tmp_path / "text.parquet")
    times = pyarrow.table({"key": ["a"], "at": pyarrow.array([0], pyarrow.timestamp("s"))})
    parquet.write_table(times, tmp_path / "times.parquet")
    with pytest.raises(UnstorableTypeError, match=r"row 1: the value of 'a'\['at'\] is of type datetime"):
        pod.import_from(tmp_path / "times.parquet", columns=True)
    assert len(pod) == 2


def a_column(values: list[Any], kind: Any) -> Any:
    return pyarrow.table({"key": ["a"] * len(values), "x": pyarrow.array(values, kind)})


ELSEWHERE = {
    "a time far off": a_column([10**15], pyarrow.int64()).cast(
        pyarrow.schema([("key", pyarrow.string()), ("x", pyarrow.timestamp("ms"))])
    ),
    "a day far off": a_column([2**31 - 1], pyarrow.int32()).cast(
        pyarrow.schema([("key", pyarrow.string()), ("x", pyarrow.date32())])
    ),
    "a long time": a_column([2**62], pyarrow.int64()).cast(
        pyarrow.schema([("key", pyarrow.string()), ("x", pyarrow.duration("s"))])
    ),
    "a field twice": pyarrow.table(
        {"key": ["a"], "x": pyarrow.StructArray.from_arrays([pyarrow.array([1])] * 2, names=["f", "f"])}
    ),
    "no UTF-8": pyarrow.table(
        {
            "key": ["a"],
            "x": pyarrow.StringArray.from_buffers(
                1, pyarrow.py_buffer(b"\0\0\0\0\1\0\0\0"), pyarrow.py_buffer(b"\xff")
            ),
        }
    ),
}


@pytest.mark.parametrize("what", ELSEWHERE)
def test_what_python_cannot_hold_is_refused_with_its_file(pod: POD[Any, Any], tmp_path: Path, what: str) -> None:
    parquet.write_table(ELSEWHERE[what], tmp_path / "in.parquet")
    with pytest.raises(ExchangeError, match=r"in.parquet: cannot be read as Parquet"):
        pod.import_from(tmp_path / "in.parquet", columns=True)


def test_a_key_that_is_missing_is_none(pod: POD[Any, Any], tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"key": ["a", None], "value": ["1", "2"]}), tmp_path / "in.parquet")
    with pytest.raises(ExchangeError, match=r"row 2: there is no key in 'key'; None is spelled '#null'"):
        pod.import_from(tmp_path / "in.parquet")


def test_what_is_nested_too_deep_for_a_type_is_an_object_or_refused(pod: POD[Any, Any], tmp_path: Path) -> None:
    value: Any = 1
    for _ in range(248):
        value = {"a": value}
    pod["deep"] = {"x": value}
    assert pod.to_dataframe()["x"].tolist() == [value]
    assert pod.to_dataframe("polars")["x"].to_list() == [value]
    with pytest.raises(ExchangeError, match=r"'x' .*nested too deep"):
        pod.export_to(tmp_path / "out.parquet", columns=True)


# --- tables


def test_each_field_is_a_column_with_a_type_that_loses_nothing(pages: POD[Any, Any]) -> None:
    table = pages.to_dataframe()
    assert table.columns.tolist() == ["key", "status", "bytes"]
    assert [str(kind) for kind in table.dtypes][1:] == ["int64", "Int64"]
    assert table["bytes"].sum() == 5219
    lean = pages.to_dataframe("polars", key="page")
    assert lean.schema == {"page": polars.String, "status": polars.Int64, "bytes": polars.Int64}
    assert lean["bytes"].to_list() == [5120, None, 99]


@settings(max_examples=80)
@given(values=st.lists(VALUES, min_size=1, max_size=4))
def test_what_is_in_a_table_is_what_was_stored(memory: Path, values: list[Any]) -> None:
    with POD[Any, Any](memory / os.urandom(8).hex()) as pod:
        pod.update({str(at): {"x": value} for at, value in enumerate(values)})
        lean, table = pod.to_dataframe("polars"), pod.to_dataframe()
    assert all(map(same, lean["x"].to_list(), values))
    found = [None if value is pandas.NA or value != value else value for value in table["x"].tolist()]  # noqa: PLR0124 - NaN
    assert all(map(same, found, values))


@pytest.mark.parametrize(
    ("values", "pandas_type", "polars_type"),
    [
        ([1, 2], "int64", polars.Int64),
        ([2**64 - 1, 1], "uint64", polars.UInt64),
        ([2**64 - 1, None], "UInt64", polars.UInt64),
        ([2**64 - 1, -1], "object", polars.Object),
        ([2**53 + 1, 0.5], "object", polars.Object),
        ([1, 0.5, None], "float64", polars.Float64),
        ([True, None], "boolean", polars.Boolean),
        ([True, False], "bool", polars.Boolean),
        ([True, 1], "object", polars.Object),
        (["a", 1], "object", polars.Object),
        ([[1], [0.5]], "object", polars.List(polars.Float64)),
        ([{"a": 1}, {"b": "c"}], "object", polars.Struct({"a": polars.Int64, "b": polars.String})),
        ([None], "object", polars.Null),
    ],
)
def test_the_types_are_those_of_the_documentation(
    pod: POD[Any, Any], values: list[Any], pandas_type: str, polars_type: Any
) -> None:
    pod.update({number: {"x": value} for number, value in enumerate(values)})
    assert str(pod.to_dataframe()["x"].dtype) == pandas_type
    assert pod.to_dataframe("polars").schema["x"] == polars_type


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["b", "a"], ["b", "a"]),
        (["#a"], ["#a"]),
        ([3, 1], [3, 1]),
        ([0.5], [0.5]),
        ([1, "a"], ["#1", "a"]),
        ([("a", 1)], ['#["a",1]']),
        ([None], ["#null"]),
        ([], []),
    ],
)
def test_keys_are_themselves_if_they_are_of_one_type(pod: POD[Any, Any], keys: list[Any], expected: list[Any]) -> None:
    pod.update(dict.fromkeys(keys, 1))
    assert pod.to_dataframe()["key"].tolist() == expected
    assert pod.to_dataframe("polars")["key"].to_list() == expected


def test_values_that_are_no_dicts_are_in_a_column_of_their_own(pod: POD[Any, Any]) -> None:
    pod.update({"a": 1, "b": {"x": 2}, "c": None})
    assert pod.to_dataframe("polars").to_dict(as_series=False) == {
        "key": ["a", "b", "c"],
        "value": [1, None, None],
        "x": [None, 2, None],
    }
    pod["d"] = {"key": 1}
    with pytest.raises(ExchangeError, match="give that another name"):
        pod.to_dataframe()
    assert pod.to_dataframe(key="name")["key"].tolist()[-1] == 1


def test_a_tracker_has_columns_of_its_states(tmp_path: Path, opened: Opener) -> None:
    with Tracker[str](tmp_path / "my.tracker") as tracker:
        tracker.add_many(["a", "b", "c"])
        for task in tracker.claims():
            if task.key == "b":
                task.fail("broken")
                break
            with task:
                task["size"] = 7
        table = tracker.to_dataframe()
        assert {"_done", "_aborted", "_tries", "_at", "_error", "size"} <= set(table.columns)
        assert table["_done"].tolist() == [True, False, False]
        assert str(table["_done"].dtype) == "bool"
        assert table.query("_error.notna()")["key"].tolist() == ["b"]
        assert tracker.to_dataframe("polars").filter(polars.col("_done"))["size"].to_list() == [7]


def test_a_table_sees_what_others_did_and_what_is_held(pod: POD[Any, Any], opened: Opener) -> None:
    reader = opened(mode="r")
    pod["new"] = 1
    assert reader.to_dataframe()["key"].tolist() == ["new"]
    with pod.hold():
        pod["held"] = 1
        assert pod.to_dataframe()["key"].tolist() == ["new", "held"]
