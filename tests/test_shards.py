"""The text of a shard, its entries and what stands for their keys: each way to read them has the same."""

from __future__ import annotations

import gzip
import json
from typing import Any

import orjson
import pytest
from helpers import exactly
from hypothesis import given
from hypothesis import strategies as st
from json_strategies import KEYS, VALUES

from tastypy.shards import (
    entry_name,
    index_key,
    index_key_of,
    index_keys,
    pack,
    shard_dict,
    shard_entries,
    shard_text,
    unpack,
)
from tastypy.values import encode_key


@given(entries=st.dictionaries(KEYS, VALUES, min_size=1, max_size=5))
def test_a_shard_reads_back_exactly_as_a_dict_as_lines_and_as_json(entries: dict[Any, Any]) -> None:
    lines = [encode_key(key) + b":" + orjson.dumps(value) for key, value in entries.items()]
    text = shard_text(lines)
    assert exactly(shard_dict(text)) == exactly(entries)
    assert shard_entries(text) == lines
    assert list(json.loads(text).values()) == list(entries.values())
    assert text.count(b"\n") == len(lines) + 2


def test_a_shard_is_the_documented_text() -> None:
    assert shard_text([b'"foo":"bar"', b'"#1":[1,2]']) == b'{\n"foo":"bar",\n"#1":[1,2]\n}\n'


def test_a_compressed_shard_is_gzip_and_the_same_bytes_every_time() -> None:
    """The bytes do not hold the time, or a fold that failed and was repeated could not be compared."""
    text = shard_text([b'"a":1'] * 100)
    assert gzip.decompress(pack(text)) == unpack(pack(text)) == text
    assert pack(text)[4:8] == bytes(4)
    assert len(pack(text)) < len(text)


@given(one=KEYS, other=KEYS)
def test_keys_have_one_index_key_exactly_if_they_are_one_in_a_dict(one: Any, other: Any) -> None:
    assert (index_key(one) == index_key(other)) == (one == other)


@pytest.mark.parametrize("spellings", [(1, 1.0, True), (0, 0.0, -0.0, False), ((1, "a"), (1.0, "a"), (True, "a"))])
def test_keys_that_are_spelled_differently_and_equal_have_one_index_key(spellings: tuple[Any, ...]) -> None:
    assert len({index_key(key) for key in spellings}) == 1


@given(entries=st.dictionaries(KEYS, VALUES, min_size=1, max_size=5))
def test_the_index_keys_of_a_shard_are_those_of_its_keys(entries: dict[Any, Any]) -> None:
    """Whichever way they are found: from the key, from its entry, or from the text of the shard."""
    expected = [index_key(key) for key in entries]
    lines = [encode_key(key) + b":" + orjson.dumps(value) for key, value in entries.items()]
    assert [index_key_of(line) for line in lines] == expected
    assert index_keys(shard_text(lines), lines) == expected
    assert [entry_name(line) for line in lines] == [encode_key(key) for key in entries]


def test_what_is_no_entry_of_a_shard_is_an_error() -> None:
    with pytest.raises(ValueError, match="not an entry"):
        entry_name(b"{}")
