"""Imports from what sqlitedict and diskcache really write."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import exactly, files

from tastypy import POD, ExchangeError, UnstorableTypeError

diskcache = pytest.importorskip("diskcache")
sqlitedict = pytest.importorskip("sqlitedict")

ENTRIES = {"z": {"n": [1, 2.5, None]}, "a": "text", "naïve #": True}


def test_a_table_of_sqlitedict_comes_in_in_order_and_is_not_changed(pod: POD[Any, Any], tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    source = tmp_path / "db" / "my ?#.sqlite"
    with sqlitedict.SqliteDict(str(source), autocommit=True) as table:
        table.update(ENTRIES)
    before = files(tmp_path / "db")
    assert pod.import_from(source, format="sqlitedict", unpickle=True) == (3, 0, 0, ())
    assert exactly(pod) == exactly(ENTRIES)
    assert files(tmp_path / "db") == before


def test_of_several_tables_one_has_to_be_named(pod: POD[Any, Any], tmp_path: Path) -> None:
    source = str(tmp_path / "my.sqlite")
    for name in ("runs", 'the "others"'):
        with sqlitedict.SqliteDict(source, tablename=name, autocommit=True) as table:
            table[name] = 1
    with pytest.raises(ExchangeError, match=r"""has the tables 'runs', 'the "others"': say which"""):
        pod.import_from(source, format="sqlitedict", unpickle=True)
    with pytest.raises(ExchangeError, match="there is no table 'none', only 'runs'"):
        pod.import_from(source, format="sqlitedict", table="none", unpickle=True)
    for name in ('the "others"', "runs"):
        pod.import_from(source, format="sqlitedict", table=name, unpickle=True)
    assert list(pod) == ['the "others"', "runs"]


def test_a_value_that_sqlitedict_stored_in_a_way_of_its_own_is_refused_by_name(
    pod: POD[Any, Any], tmp_path: Path
) -> None:
    source = str(tmp_path / "my.sqlite")
    with sqlitedict.SqliteDict(source, autocommit=True, encode=json.dumps, decode=json.loads) as table:
        table["a"] = 1
    with pytest.raises(ExchangeError, match=r"the value of 'a' cannot be read .*it was stored by a way of its own"):
        pod.import_from(source, format="sqlitedict", unpickle=True)


def test_a_cache_of_diskcache_comes_in_with_every_kind_of_value(pod: POD[Any, Any], tmp_path: Path) -> None:
    entries: dict[Any, Any] = {
        **ENTRIES,
        2: 3,
        0.5: -1.5,
        ("a", 1): {"x": None},
        "long": "ü" * 50_000,
        "large": list(range(50_000)),
        None: None,
    }
    with diskcache.Cache(str(tmp_path / "cache")) as cache:
        for key, value in entries.items():
            cache[key] = value
        cache.set("gone", 1, expire=0.001)
        cache.set("later", 1, expire=1000)
    time.sleep(0.01)
    before = files_below(tmp_path / "cache")
    assert pod.import_from(tmp_path / "cache", unpickle=True) == (len(entries) + 1, 0, 0, ())  # by what is in it
    assert exactly(pod) == exactly({**entries, "later": 1})
    assert files_below(tmp_path / "cache") == before


def files_below(directory: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def test_a_cache_that_is_in_use_comes_in_with_what_was_stored_last(pod: POD[Any, Any], tmp_path: Path) -> None:
    with diskcache.Cache(str(tmp_path / "cache")) as cache:
        cache["a"] = 1
        pod.import_from(tmp_path / "cache", format="diskcache", unpickle=True)
        cache["b"] = 2
        assert pod.import_from(tmp_path / "cache", format="diskcache", unpickle=True, existing="skip").added == 1
        cache["c"] = 3
    assert pod == {"a": 1, "b": 2}


def test_bytes_in_a_cache_are_named_as_what_json_lacks(pod: POD[Any, Any], tmp_path: Path) -> None:
    with diskcache.Cache(str(tmp_path / "index")) as index:
        index["small"] = b"1"
        index["large"] = b"1" * 100_000
        index[b"key"] = 1
        index["good"] = 1
    with pytest.raises(UnstorableTypeError, match=r"the value of 'small' is of type builtins.bytes"):
        pod.import_from(tmp_path / "index", format="diskcache", unpickle=True)
    done = pod.import_from(tmp_path / "index", format="diskcache", unpickle=True, skip_unstorable=True)
    assert (done.added, len(done.unstorable)) == (1, 3)


def test_all_parts_of_a_fanout_cache_come_in(pod: POD[Any, Any], tmp_path: Path) -> None:
    with diskcache.FanoutCache(str(tmp_path / "fan [1]"), shards=4) as cache:
        for number in range(50):
            cache[number] = str(number)
    pod.import_from(tmp_path / "fan [1]", format="diskcache", unpickle=True)
    assert pod == {number: str(number) for number in range(50)}
