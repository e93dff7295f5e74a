"""Imports: all of a source comes in, or it is refused with its place, and nothing was changed."""

from __future__ import annotations

import csv
import gzip
import io
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Opener, exactly, files, stored

from tastypy import (
    POD,
    DuplicateKeyError,
    ExchangeError,
    Imported,
    MissingPODError,
    MissingSourceError,
    ReadOnlyError,
    TastypyError,
    Tracker,
    UnstorableValueError,
)

TEXTS = ("json", "jsonl", "csv")


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_keys_that_are_there_are_an_error_or_skipped_or_replaced(pod: POD[Any, Any], tmp_path: Path) -> None:
    pod.update(a=1, b=2)
    source = write(tmp_path / "in.jsonl", '{"key":"c","value":3}\n\n{"value":20,"key":"b"}\n{"key":"a","value":10}\n')
    before = files(Path(pod.path))
    with pytest.raises(
        DuplicateKeyError, match=r"has the key 'b' \(line 3 of .*in.jsonl\) and 1 more already"
    ) as caught:
        pod.import_from(source)
    assert isinstance(caught.value, KeyError)
    assert (pod.copy(), files(Path(pod.path))) == ({"a": 1, "b": 2}, before)
    assert pod.import_from(source, existing="skip") == Imported(1, 0, 2, ())
    assert list(pod.items()) == [("a", 1), ("b", 2), ("c", 3)]
    del pod["c"]
    assert pod.import_from(source, existing="replace") == Imported(1, 2, 0, ())
    assert list(stored(pod.path).items()) == [("a", 10), ("b", 20), ("c", 3)]
    with pytest.raises(ValueError, match="existing must be one of"):
        pod.import_from(source, existing="perhaps")  # type: ignore[arg-type]  # that is refused


def test_a_key_that_the_source_has_twice_counts_as_one_that_is_there(pod: POD[Any, Any], tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", "key,value\r\n#1,10\r\nb,20\r\n#1.0,30\r\n")
    with pytest.raises(DuplicateKeyError, match=r"line 4: the key 1.0 is in line 2 already"):
        pod.import_from(source)
    assert pod.import_from(source, existing="skip") == Imported(2, 0, 1, ())
    assert exactly(pod) == [("1", "10"), ("'b'", "20")]
    pod.clear()
    assert pod.import_from(source, existing="replace") == Imported(2, 1, 0, ())
    assert exactly(pod) == [("1", "30"), ("'b'", "20")]
    assert exactly(stored(pod.path)) == exactly(pod)


def test_an_import_is_one_commit_and_part_of_what_is_held_or_of_a_transaction(
    pod: POD[Any, Any], tmp_path: Path
) -> None:
    source = write(tmp_path / "in.json", '{"a":1,"b":2}')
    pod.import_from(source)
    seq = pod._store.seq
    assert seq == 1
    with pytest.raises(LookupError), pod.transaction():
        pod.import_from(source, existing="replace")
        pod["a"] = 5
        raise LookupError
    with pod.hold():
        pod.import_from(write(source, '{"c":3}'))
        assert pod.dirty() == {"c"}
        assert stored(pod.path) == {"a": 1, "b": 2}
    assert stored(pod.path) == {"a": 1, "b": 2, "c": 3}


def test_sources_are_read_whatever_packed_them_and_marked_their_begin(pod: POD[Any, Any], tmp_path: Path) -> None:
    for number, (name, text) in enumerate(
        [("j.json", '{"%s":1}'), ("l.ndjson", '{"key":"%s","value":1}\n'), ("c.csv", "key,value\n%s,1\n")]
    ):
        for step, data in enumerate([text.encode(), b"\xef\xbb\xbf" + text.encode(), gzip.compress(text.encode())]):
            plain = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
            data = plain % f"{number}{step}".encode()  # noqa: PLW2901 - the same, with a key of its own
            pod.import_from(write(tmp_path / name, gzip.compress(data) if step == 2 else data))
    assert list(pod) == [f"{number}{step}" for number in range(3) for step in range(3)]
    assert pod.import_from(io.BytesIO(b'{"open": 1}'), format="json").added == 1
    reading, writing = os.pipe()
    with open(writing, "wb") as end:
        end.write(gzip.compress(b'{"piped": 1}'))
    with open(reading, "rb") as file:
        assert pod.import_from(file, format="json").added == 1


BAD: list[tuple[str, str | bytes, str]] = [
    ("a.json", '{"a": 1', "a.json: not JSON"),
    ("a.json", "[1, 2]", "a.json: not one object"),
    ("a.json", '{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' is there twice"),
    ("a.json", '{"#x": 1}', "entry 1: '#x' is no key: after # comes JSON"),
    ("a.json", '{"#{}": 1}', "entry 1: '#{}' is no key"),
    ("a.json", "[" * 100_000, "nested too deep"),
    ("a.json", b"\xff\xfe{}", "not JSON"),
    ("a.jsonl", '{"key":"a","value":1}\nnonsense\n', "a.jsonl, line 2: not JSON"),
    ("a.jsonl", '{"key":"a","value":1}\n[1]\n', "line 2: not an object with 'key' and 'value'"),
    ("a.jsonl", '{"key":"a","value":1}\n{"key":"b"}\n', "line 2: there are 'key', not just 'key' and 'value'"),
    ("a.jsonl", '{"name":"a","value":1}\n', "line 1: there is no 'key', only 'name', 'value'; key="),
    ("a.jsonl", '{"key":{},"value":1}\n', "line 1: {} is no key"),
    ("a.jsonl", b'{"key":"\xff","value":1}\n', "line 1: not JSON"),
    ("a.csv", "", "a.csv, line 1: there is no header"),
    ("a.csv", "key,key\n", "two columns have one name"),
    ("a.csv", "key,value\na,1\nb,2,3\n", "a.csv, line 3: 3 cells, though the header has 2"),
    ("a.csv", "key,value\na,one\n", "line 2: the value 'one' is not JSON .* columns"),
    ("a.csv", "key,name\na,one\n", "line 2: there are 'key', 'name', not just 'key' and 'value'; with columns"),
    ("a.csv", 'key,value\na,"1\n', "not CSV in UTF-8"),
    ("a.csv", b"key,value\n\xff,1\n", "not CSV in UTF-8"),
    ("a.jsonl.gz", gzip.compress(b'{"key":"a","value":1}\n')[:-9], "not a whole file of gzip"),
    ("a.jsonl.gz", b"\x1f\x8b nonsense", "not a whole file of gzip"),
    ("a.pod", "a file", "cannot be a POD|there is no POD"),
]


def test_a_name_that_is_there_twice_is_found_soon_among_many(pod: POD[Any, Any], tmp_path: Path) -> None:
    names = ",".join(f'"name {number}":1' for number in range(40_000))
    source = write(tmp_path / "in.json", f'{{{names},"name 39999":2}}')
    begin = time.monotonic()
    with pytest.raises(ExchangeError, match="the key 'name 39999' is there twice"):
        pod.import_from(source)
    assert time.monotonic() - begin < 3  # one by one it takes ten


@pytest.mark.parametrize(("name", "text", "message"), BAD, ids=range(len(BAD)))
def test_what_is_no_source_is_refused_with_its_line_and_nothing_is_changed(
    pod: POD[Any, Any], tmp_path: Path, name: str, text: str | bytes, message: str
) -> None:
    pod["there"] = 1
    before = files(Path(pod.path))
    with pytest.raises(TastypyError, match=message) as caught:
        pod.import_from(write(tmp_path / name, text))
    assert isinstance(caught.value, ExchangeError) or name == "a.pod"
    assert (pod.copy(), files(Path(pod.path))) == ({"there": 1}, before)


UNSTORABLE: list[tuple[str, type[TastypyError], str]] = [
    (
        '{"ok":1,"big":[18446744073709551616]}',
        UnstorableValueError,
        r"entry 2: the value of 'big'\[0\] is an integer beyond 64",
    ),
    ('{"ok":1,"not":NaN}', UnstorableValueError, "entry 2: the value of 'not' is NaN"),
    ('{"ok":1,"far":1e999}', UnstorableValueError, "the value of 'far' is infinite"),
    ('{"ok":1,"half":"\\ud800"}', UnstorableValueError, "the value of 'half' has a lone surrogate"),
    ('{"ok":1,"#18446744073709551616":2}', UnstorableValueError, "key 18446744073709551616 holds"),
    ('{"ok":1,"\\ud800":2}', UnstorableValueError, "has a lone surrogate"),
]


@pytest.mark.parametrize(("text", "kind", "message"), UNSTORABLE)
def test_what_json_text_can_say_and_a_pod_cannot_hold_is_refused_or_left_out_and_told(
    pod: POD[Any, Any], tmp_path: Path, text: str, kind: type[TastypyError], message: str
) -> None:
    source = write(tmp_path / "in.json", text)
    with pytest.raises(kind, match=message) as caught:
        pod.import_from(source)
    assert "--skip-unstorable" in str(caught.value)
    assert pod == {}
    done = pod.import_from(source, skip_unstorable=True)
    assert done[:3] == (1, 0, 0)
    assert len(done.unstorable) == 1
    assert pod == {"ok": 1}


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"source": "none.json"}, MissingSourceError, "none.json: there is no such file"),
        ({"source": "none", "format": "shelve", "unpickle": True}, MissingSourceError, "there is no such file"),
        ({"source": "none.pod"}, MissingSourceError, "there is no such file"),
        ({"source": ".", "format": "json"}, ExchangeError, "is a directory"),
        ({"source": "."}, ExchangeError, "its name does not say"),
        ({"source": io.BytesIO()}, ExchangeError, "say which format it has"),
        (
            {"source": ".", "format": "2017", "columns": True},
            ExchangeError,
            "the format 2017 has no columns; jsonl, csv",
        ),
        ({"source": ".", "format": "pod", "key": "id"}, ExchangeError, "the format pod has no columns"),
        ({"source": ".", "format": "pickle", "table": "t"}, ExchangeError, "table: the format pickle has none"),
        ({"source": io.BytesIO(), "format": "2017"}, ExchangeError, "name its path"),
        ({"source": io.BytesIO(), "format": "pod"}, ExchangeError, "name its path"),
    ],
)
def test_a_source_that_is_not_there_is_said_to_be_so(
    pod: POD[Any, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: Any,
    kind: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message):
        pod.import_from(**options)
    assert os.listdir(tmp_path) == ["my.pod"]


def test_another_pod_is_a_source_by_its_name_or_since_it_is_one(
    pod: POD[Any, Any], opened: Opener, tmp_path: Path
) -> None:
    pod.update({"a": 1, 2: "b"})
    other = opened(tmp_path / "other")
    assert other.import_from(pod.path) == (2, 0, 0, ())
    assert exactly(other) == exactly(pod)
    with pytest.raises(MissingPODError):
        other.import_from(tmp_path / "other" / "..", format="pod")


def test_nothing_is_imported_into_what_is_only_read(pod: POD[Any, Any], opened: Opener, tmp_path: Path) -> None:
    pod["a"] = 1
    with pytest.raises(ReadOnlyError):
        opened(mode="r").import_from(write(tmp_path / "in.json", '{"b": 1}'))


def test_default_converts_what_json_lacks_as_in_an_assignment(opened: Opener, tmp_path: Path) -> None:
    write(tmp_path / "in.pickle", pickle.dumps({"a": {1, 2}}))
    pod = opened(default=sorted)
    pod.import_from(tmp_path / "in.pickle", unpickle=True)
    assert pod == {"a": [1, 2]}


def test_into_a_tracker_come_tasks_without_their_claims_whichever_way_it_is_open(tmp_path: Path) -> None:
    with Tracker[Any](tmp_path / "my.tracker") as tracker:
        tracker.add_many(["a", "b"], note=1)
        task = tracker.claim()
        tracker.export_to(tmp_path / "tasks.jsonl")
        assert task is not None
        assert '"_claim"' in (tmp_path / "tasks.jsonl").read_text()
        task.release()
    scalars = write(tmp_path / "scalars.json", '{"c": {"note": 2}, "d": 3}')
    opens: list[Callable[[Path], POD[Any, Any]]] = [POD, Tracker]
    for number, open_one in enumerate(opens):
        path = tmp_path / f"{number}.tracker"
        with Tracker[Any](path) as tracker:
            tracker.import_from(tmp_path / "tasks.jsonl")
        with open_one(path) as other:
            with pytest.raises(ExchangeError, match=r"entry 2 of .*'d' is 3, not a dict .* is a tracker"):
                other.import_from(scalars)
            other.import_from(io.BytesIO(b'{"c": {"note": 2}}'), format="json")
            assert other["c"] == {"_done": False, "_aborted": False, "_tries": 0, "note": 2}
        with Tracker[Any](path) as tracker:
            assert tracker.counts() == (3, 0, 0, 0, 0, 0, 3)
            assert not any("_claim" in entry for entry in tracker.values())


def test_a_large_cell_is_a_cell_and_no_limit_of_the_process_is_changed(pod: POD[Any, Any], tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    pod["large"] = "x" * 300_000
    pod.export_to(tmp_path / "large.csv")
    assert pod.import_from(tmp_path / "large.csv", existing="replace").replaced == 1
    assert csv.field_size_limit() == limit
