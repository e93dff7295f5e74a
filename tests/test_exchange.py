"""Exports and imports: what goes out comes back as it was, or is refused with its place, and nothing was changed."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import FailingOS
from helpers import Opener, exactly, stored
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tastypy import (
    POD,
    ExchangeError,
    MissingExtraError,
    PathTakenError,
    StorageError,
    UnstorableTypeError,
    UnstorableValueError,
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
    target = tmp_path / "out.json"
    target.write_text("before")
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


def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(
    pages: POD[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.parquet").touch()
    for name in ("pyarrow", "pandas", "polars"):
        monkeypatch.setitem(sys.modules, name, None)
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: pages.export_to(tmp_path / "out.parquet"), "parquet"),
        (lambda: pages.import_from(tmp_path / "in.parquet", existing="skip"), "parquet"),
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
