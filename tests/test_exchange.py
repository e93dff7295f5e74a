"""Exports and imports: what goes out comes back as it was, or is refused with its place, and nothing was changed."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from faults import FailingOS
from helpers import Opener, exactly, files, stored
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tastypy import (
    POD,
    DuplicateKeyError,
    ExchangeError,
    Imported,
    MissingExtraError,
    MissingPODError,
    MissingSourceError,
    PathTakenError,
    ReadOnlyError,
    StorageError,
    TastypyError,
    Tracker,
    UnstorableTypeError,
    UnstorableValueError,
    WrongTypeError,
)

TEXTS = ("json", "jsonl", "csv")

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["#", "#1", '"', ",", "\r", "\n", "\r\n", "\t", "\0", "\ufeff", "key", "value", "", "\u2028", "\\"]
)
_scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
KEYS = st.recursive(_texts | _scalars, lambda inner: st.tuples(inner, inner) | st.tuples(), max_leaves=4)
VALUES = st.recursive(
    _texts | _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60)
@example({"a\rb": "\r", "\r": "a\nb", "\n": "", '"': ",", "": "\ufeff"}, "csv")
@given(entries=st.dictionaries(KEYS, VALUES, max_size=6), suffix=st.sampled_from([*TEXTS, "jsonl.gz"]))
def test_an_export_that_is_imported_gives_an_equal_pod_in_the_same_order(
    quick_directory_of_all: Path, entries: dict[Any, Any], suffix: str
) -> None:
    directory = quick_directory_of_all / os.urandom(8).hex()
    with POD[Any, Any](directory / "from.pod") as pod, POD[Any, Any](directory / "to.pod") as other:
        pod.update(entries)
        assert pod.export_to(directory / f"all.{suffix}") == len(pod)
        assert other.import_from(directory / f"all.{suffix}") == (len(pod), 0, 0, ())
        assert exactly(other) == exactly(pod)
    assert exactly(stored(directory / "to.pod")) == exactly(stored(directory / "from.pod"))


@pytest.fixture(scope="module")
def quick_directory_of_all() -> Any:
    """As `quick_directory`, one for all examples."""
    directory = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None, prefix="tastypy-")
    yield Path(directory)
    shutil.rmtree(directory)


@pytest.fixture
def pages(pod: POD[Any, Any]) -> POD[Any, Any]:
    pod.update(
        {
            "/": {"status": 200, "tags": ["a", None]},
            "#x": {"status": 404, "text": 'no, "none"'},
            1: "one",
            (1, "a"): None,
        }
    )
    return pod


# --- out


def test_the_formats_are_what_they_are_said_to_be(pages: POD[Any, Any], tmp_path: Path) -> None:
    for name in TEXTS:
        assert pages.export_to(tmp_path / f"pages.{name}") == 4
    assert json.loads((tmp_path / "pages.json").read_text()) == {
        "/": pages["/"],
        '#"#x"': pages["#x"],
        "#1": "one",
        '#[1,"a"]': None,
    }
    lines = [json.loads(line) for line in (tmp_path / "pages.jsonl").read_text().splitlines()]
    assert lines[2:] == [{"key": "#1", "value": "one"}, {"key": '#[1,"a"]', "value": None}]
    with open(tmp_path / "pages.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1]["key"] == '#"#x"'
    assert [json.loads(row["value"]) for row in rows] == list(pages.values())


def test_with_columns_each_field_has_its_own(pages: POD[Any, Any], tmp_path: Path) -> None:
    pages.export_to(tmp_path / "pages.csv", columns=True, key="page")
    assert (tmp_path / "pages.csv").read_bytes().decode() == (
        'page,status,tags,text,value\r\n/,200,"[""a"",null]",,\r\n"#""#x""",404,,"no, ""none""",\r\n#1,,,,one\r\n"#[1,""a""]",,,,\r\n'
    )
    pages.export_to(tmp_path / "pages.jsonl", columns=True, key="#")
    assert (tmp_path / "pages.jsonl").read_text().splitlines() == [
        '{"#":"/","status":200,"tags":["a",null]}',
        '{"#":"#\\"#x\\"","status":404,"text":"no, \\"none\\""}',
        '{"#":"#1","value":"one"}',
        '{"#":"#[1,\\"a\\"]","value":null}',
    ]


def test_columns_come_back_where_they_can(opened: Opener, tmp_path: Path) -> None:
    pod, other = opened(), opened(tmp_path / "other.pod")
    pod.update({"a": {"n": 1, "deep": {"er": [2.5]}}, 7: {}, "c": {"n": None}})
    pod.export_to(tmp_path / "rows.jsonl", columns=True)
    other.import_from(tmp_path / "rows.jsonl", columns=True)
    assert exactly(other) == exactly(pod)
    pod.export_to(tmp_path / "rows.csv", columns=True)
    other.import_from(tmp_path / "rows.csv", columns=True, existing="replace")
    assert other.copy() == {
        "a": {"n": "1", "deep": '{"er":[2.5]}'},
        7: {"n": "", "deep": ""},
        "c": {"n": "", "deep": ""},
    }


def test_an_empty_pod_goes_out_and_comes_in(pod: POD[Any, Any], tmp_path: Path) -> None:
    for name in TEXTS:
        for columns in (False, True)[: 1 if name == "json" else 2]:
            assert pod.export_to(tmp_path / f"none.{name}", columns=columns) == 0
            assert pod.import_from(tmp_path / f"none.{name}", columns=columns) == (0, 0, 0, ())


def test_a_field_that_is_called_as_the_column_with_the_keys_is_refused(pod: POD[Any, Any], tmp_path: Path) -> None:
    pod["foo"] = {"key": 1}
    (tmp_path / "out.csv").write_text("before")
    for name in ("csv", "jsonl"):
        with pytest.raises(ExchangeError, match=r"the value of 'foo' has a field 'key', .* give that another name"):
            pod.export_to(tmp_path / f"out.{name}", columns=True)
    assert sorted(os.listdir(tmp_path)) == ["my.pod", "out.csv"]
    assert (tmp_path / "out.csv").read_text() == "before"
    with pytest.raises(ExchangeError, match="cannot be called 'value'"):
        pod.export_to(tmp_path / "out.csv", key="value")


def test_what_is_held_goes_out_and_what_was_mutated_into_what_json_lacks_does_not(
    pod: POD[Any, Any], tmp_path: Path
) -> None:
    with pod.hold():
        pod["held"] = 1
        pod.export_to(tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == '{"key":"held","value":1}\n'
    pod["list"] = []
    pod["list"].append({1, 2})
    with pytest.raises(UnstorableTypeError, match=r"the value of 'list'\[0\] is of type builtins.set"):
        pod.export_to(tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == '{"key":"held","value":1}\n'
    pod["list"].clear()


def test_an_export_sees_what_others_did(pod: POD[Any, Any], opened: Opener, tmp_path: Path) -> None:
    reader = opened(mode="r")
    pod["new"] = 1
    assert reader.export_to(tmp_path / "out.json") == 1


def test_a_file_is_replaced_as_a_whole_with_the_permissions_that_it_had(pages: POD[Any, Any], tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    old = os.umask(0o027)
    try:
        pages.export_to(target)
    finally:
        os.umask(old)
    assert target.stat().st_mode & 0o777 == 0o640
    target.chmod(0o604)
    (tmp_path / "link.json").symlink_to(target)
    with open(target) as before:
        pages["more"] = 1
        pages.export_to(tmp_path / "link.json")
        assert "more" not in before.read()
    assert (tmp_path / "link.json").is_symlink()
    assert "more" in json.loads(target.read_text())
    assert target.stat().st_mode & 0o777 == 0o604
    assert sorted(os.listdir(tmp_path)) == ["link.json", "my.pod", "out.json"]


def test_an_error_at_any_system_call_leaves_the_file_that_was_there(
    pages: POD[Any, Any], tmp_path: Path, failing_os: FailingOS
) -> None:
    target = tmp_path / "out.jsonl.gz"
    target.write_text("before")
    number = 0
    while target.read_bytes() == b"before":
        number += 1
        failing_os.arm(number, lambda: OSError(28, "No space left on device"))
        try:
            pages.export_to(target)
        except StorageError as error:
            assert error.errno == 28
        failing_os.disarm()
        assert sorted(os.listdir(tmp_path)) == ["my.pod", "out.jsonl.gz"]
    assert number > 3
    assert len(gzip.decompress(target.read_bytes()).splitlines()) == 4


def test_what_is_no_regular_file_is_written_to(pages: POD[Any, Any], tmp_path: Path) -> None:
    pages.export_to("/dev/null", format="json")
    assert os.path.exists("/dev/null")
    assert not os.path.isfile("/dev/null")
    buffer = io.BytesIO()
    pages.export_to(buffer, format="jsonl")
    pages.export_to(buffer, format="csv")
    assert buffer.getvalue().count(b"\n") == 4 + 5


class Reluctant(io.RawIOBase):
    """A file without a buffer, which writes short, and at last not at all."""

    def __init__(self, room: int, *, blocking: bool = True) -> None:
        self.data, self.room, self.blocking = b"", room, blocking

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int | None:
        part = bytes(data[: min(7, self.room - len(self.data))])
        if not part and self.blocking:
            raise OSError(28, "No space left on device")
        self.data += part
        return len(part) or None


@pytest.mark.parametrize("name", TEXTS)
def test_an_export_to_a_file_without_a_buffer_is_whole_or_an_error(pages: POD[Any, Any], name: Any) -> None:
    whole = io.BytesIO()
    pages.export_to(whole, format=name)
    file = Reluctant(10_000)
    assert pages.export_to(file, format=name) == 4  # type: ignore[arg-type]  # as open(..., buffering=0) returns
    assert (file.data, file.closed) == (whole.getvalue(), False)
    with pytest.raises(OSError, match="No space left"):
        pages.export_to(Reluctant(20), format=name)  # type: ignore[arg-type]  # as above
    with pytest.raises(BlockingIOError, match="takes no more for now"):
        pages.export_to(Reluctant(20, blocking=False), format=name)  # type: ignore[arg-type]  # as above


def test_permissions_that_let_nobody_read_are_kept_and_nobody_can_read_meanwhile(
    pages: POD[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write(tmp_path / "out.json", "before")
    seen = []
    create = os.open

    def noted(path: Any, *arguments: Any, **options: Any) -> int:
        descriptor = create(path, *arguments, **options)
        if str(path).endswith(".tmp"):
            seen.append(os.fstat(descriptor).st_mode & 0o777)
        return descriptor

    monkeypatch.setattr(os, "open", noted)
    for permissions in (0o600, 0):
        target.chmod(permissions)
        pages.export_to(target)
        assert target.stat().st_mode & 0o777 == permissions
    assert seen == [0o600, 0]


@pytest.mark.parametrize(
    ("target", "options", "kind", "message"),
    [
        ("out.txt", {}, ExchangeError, "its name does not say which format"),
        (
            "out",
            {"format": "xml"},
            ExchangeError,
            "'xml' is not a format; those possible here are json, jsonl, csv, parquet",
        ),
        ("copy.pod", {}, ExchangeError, "its name does not say which format"),
        ("out.json", {"columns": True}, ExchangeError, "the format json has no columns"),
        ("out.json", {"key": "id"}, ExchangeError, "the format json has no columns"),
        ("", {}, ValueError, "must not be empty"),
        ("out.parquet.gz", {}, ExchangeError, "only json, jsonl and csv are compressed"),
        ("out.gz", {"format": "parquet"}, ExchangeError, "only json, jsonl and csv are compressed"),
        ("out.csv", {"key": "\ufeffkey"}, ExchangeError, "cannot be called '.ufeffkey'"),
        ("out.csv", {"key": "\udcff"}, UnstorableValueError, "lone surrogate"),
        ("out.parquet", {"key": "\udcff"}, UnstorableValueError, "lone surrogate"),
        ("none/out.json", {}, StorageError, "there is no directory .*none; make it first"),
        (".", {"format": "json"}, PathTakenError, "is a directory"),
        ("my.pod/out.json", {}, PathTakenError, "inside of a POD"),
        ("my.pod/../my.pod/aside-0-x/out.json", {}, PathTakenError, "inside of a POD"),
    ],
)
def test_a_target_that_is_none_is_refused(
    pages: POD[Any, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    options: Any,
    kind: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("my.pod/aside-0-x")
    with pytest.raises(kind, match=message):
        pages.export_to(target, **options)
    assert os.listdir(tmp_path) == ["my.pod"]
    assert os.listdir("my.pod/aside-0-x") == []
    with open(tmp_path / "text", "w") as text, pytest.raises(ExchangeError, match="opened for text"):
        pages.export_to(text, format="json")  # type: ignore[arg-type]  # that is refused


# --- in


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


def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(
    pages: POD[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyarrow", "pandas", "polars"):
        monkeypatch.setitem(sys.modules, name, None)
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: pages.export_to(tmp_path / "out.parquet"), "parquet"),
        (lambda: pages.import_from(write(tmp_path / "in.parquet", ""), existing="skip"), "parquet"),
        (pages.to_dataframe, "pandas"),
        (lambda: pages.to_dataframe("polars"), "polars"),
    ]
    for call, name in calls:
        with pytest.raises(MissingExtraError, match=rf"pip install 'tastypy\[{name}\]'") as caught:
            call()
        assert isinstance(caught.value, ImportError)
    with pytest.raises(ValueError, match="library must be"):
        pages.to_dataframe("excel")  # type: ignore[arg-type]  # that is refused
    assert not (tmp_path / "out.parquet").exists()


# --- values with a type


@dataclass
class Page:
    """What a typed POD has."""

    status: int
    tags: list[str] = field(default_factory=list)


def test_values_with_a_type_go_out_as_json_and_come_in_as_what_they_are(path: Path, tmp_path: Path) -> None:
    pages = {"/": Page(200, ["a"]), "/gone": Page(404)}
    with POD[str, Page](path, type=Page) as pod, POD[str, Page](tmp_path / "other.pod", type=Page) as other:
        pod.update(pages)
        for name in TEXTS:
            pod.export_to(tmp_path / f"pages.{name}")
            assert other.import_from(tmp_path / f"pages.{name}") == (2, 0, 0, ())
            assert other == pages
            other.clear()
        assert (tmp_path / "pages.jsonl").read_text().splitlines()[
            1
        ] == '{"key":"/gone","value":{"status":404,"tags":[]}}'
        pod.export_to(tmp_path / "rows.csv", columns=True)
        assert (tmp_path / "rows.csv").read_bytes() == b'key,status,tags\r\n/,200,"[""a""]"\r\n/gone,404,[]\r\n'
        pickled = write(tmp_path / "in.pickle", pickle.dumps({"object": Page(1), "plain": {"status": 2}}))
        other.import_from(pickled, unpickle=True)
        assert other == {"object": Page(1), "plain": Page(2)}
        pod.copy_to(tmp_path / "copy.pod")
    assert stored(tmp_path / "copy.pod") == {"/": {"status": 200, "tags": ["a"]}, "/gone": {"status": 404, "tags": []}}


def test_a_value_of_another_type_is_refused_with_its_place_or_left_out(path: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.json", '{"good":{"status":1},"bad":{"status":"high"}}')
    with POD[str, Page](path, type=Page) as pod:
        with pytest.raises(
            WrongTypeError, match=r"entry 2: the value of 'bad': field 'status' must be int, not 'high'"
        ):
            pod.import_from(source)
        assert pod == {}
        done = pod.import_from(source, skip_unstorable=True)
        assert (done.added, len(done.unstorable)) == (1, 1)
        assert pod == {"good": Page(1)}
