"""Imports from pickles, shelves and the files of the first tastypy; those that need a library are in extras."""

from __future__ import annotations

import datetime as dt
import dbm.dumb
import gzip
import io
import json
import os
import pickle
import shelve
import sqlite3
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from helpers import Opener, exactly, files
from hypothesis import given, settings
from hypothesis import strategies as st

from tastypy import POD, ExchangeError, Tracker, UnstorableTypeError
from tastypy.exchange.first import read_first
from tastypy.exchange.places import Place


class Burglar:
    """What its unpickling does is for all to see."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("burgled",)


@pytest.mark.parametrize("kind", ["pickle", "shelve", "sqlitedict", "diskcache"])
def test_nothing_is_unpickled_unless_the_user_says_so(
    pod: POD[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    source: Any = "source"
    if kind == "pickle":
        Path(source).write_bytes(pickle.dumps(Burglar()))
    elif kind == "shelve":
        with shelve.open(source) as shelf:
            shelf["a"] = Burglar()
    else:
        os.mkdir(source)
        file = Path("source/cache.db")
        database = sqlite3.connect(file)
        if kind == "sqlitedict":
            database.execute("CREATE TABLE unnamed (key TEXT PRIMARY KEY, value BLOB)")
            database.execute("INSERT INTO unnamed VALUES ('a', ?)", (pickle.dumps(Burglar()),))
            source = file
        else:
            database.execute("CREATE TABLE Cache (key BLOB, raw, expire_time, mode, filename, value BLOB)")
            database.execute("INSERT INTO Cache VALUES ('a', 1, NULL, 4, NULL, ?)", (pickle.dumps(Burglar()),))
        database.commit()
        database.close()
    with pytest.raises(ExchangeError, match=r"is to unpickle, which runs .* unpickle=True \(--unpickle\)"):
        pod.import_from(source, format=kind)
    assert not os.path.exists("burgled")
    with pytest.raises((ExchangeError, UnstorableTypeError)):  # it is no dict, or None
        pod.import_from(source, format=kind, unpickle=True)
        raise ExchangeError("None can be stored")
    assert os.path.isdir("burgled")


def test_a_pickled_dict_of_any_kind_comes_in(pod: POD[Any, Any], tmp_path: Path) -> None:
    data = pickle.dumps(OrderedDict([("z", 1), (("a", 1), (1, 2)), (None, {"deep": [1.5]})]))
    (tmp_path / "in.pkl").write_bytes(data)
    assert pod.import_from(tmp_path / "in.pkl", unpickle=True) == (3, 0, 0, ())
    assert exactly(pod) == [("'z'", "1"), ("('a', 1)", "[1, 2]"), ("None", "{'deep': [1.5]}")]
    (tmp_path / "in.pickle.gz").write_bytes(gzip.compress(data))
    assert pod.import_from(tmp_path / "in.pickle.gz", unpickle=True, existing="skip").skipped == 3


def test_what_no_pickle_or_no_dict_is_in_is_refused_by_name(pod: POD[Any, Any], tmp_path: Path) -> None:
    for data, message in (
        (pickle.dumps([1, 2]), "in.pkl: not a pickled dict, but list"),
        (b"nonsense", "in.pkl: it cannot be read"),
        (b"", "in.pkl: it cannot be read"),
        (b"cno_such_module\nThing\n.", "it cannot be read .* only where its classes can be imported"),
        (pickle.dumps({}) + pickle.dumps({}), "in.pkl: more follows the pickle"),
        (gzip.compress(pickle.dumps({}))[:-8] + bytes(8), "in.pkl is damaged: not a whole file of gzip"),
        (gzip.compress(pickle.dumps({}))[:-8], "in.pkl is damaged: not a whole file of gzip"),
    ):
        (tmp_path / "in.pkl").write_bytes(data)
        with pytest.raises(ExchangeError, match=message):
            pod.import_from(tmp_path / "in.pkl", unpickle=True)
    assert pod == {}


def test_a_shelf_comes_in_by_its_name_or_that_of_its_file_and_is_not_changed(
    pod: POD[Any, Any], tmp_path: Path
) -> None:
    directory = tmp_path / "shelf"
    directory.mkdir()
    entries = {f"key {number}": {"number": number} for number in range(50)}
    with shelve.open(str(directory / "my")) as shelf:
        shelf.update(entries)
    before = files(directory)
    assert pod.import_from(directory / "my", format="shelve", unpickle=True).added == 50
    assert pod == entries
    for name in before:
        assert pod.import_from(directory / name, format="shelve", unpickle=True, existing="skip").skipped == 50
    assert files(directory) == before


def test_a_shelf_of_a_later_python_comes_in_too(pod: POD[Any, Any], tmp_path: Path) -> None:
    """Python 3.13 makes it a table of SQLite, in the mode in which a reader leaves files beside it, too."""
    directory = tmp_path / "shelf"
    directory.mkdir()
    database = sqlite3.connect(directory / "my")
    database.execute("PRAGMA journal_mode = wal")
    database.execute("CREATE TABLE Dict (key BLOB UNIQUE NOT NULL, value BLOB NOT NULL)")
    database.execute("INSERT INTO Dict VALUES (?, ?)", ("naïve".encode(), pickle.dumps({"n": 1})))
    database.commit()
    database.close()
    before = files(directory)
    pod.import_from(directory / "my", format="shelve", unpickle=True)
    assert pod == {"naïve": {"n": 1}}
    assert files(directory) == before


def test_a_value_that_json_lacks_is_named_and_left_out_if_the_user_says_so(pod: POD[Any, Any], tmp_path: Path) -> None:
    with shelve.open(str(tmp_path / "my")) as shelf:
        shelf.update({"when": dt.date(2017, 1, 31), "set": [{1}], "good": 1})
    with pytest.raises(UnstorableTypeError, match=r"my, entry \d: the value of '(when|set)'"):
        pod.import_from(tmp_path / "my", format="shelve", unpickle=True)
    assert pod == {}
    done = pod.import_from(tmp_path / "my", format="shelve", unpickle=True, skip_unstorable=True)
    assert (done.added, len(done.unstorable)) == (1, 2)
    assert any("the value of 'set'[0] is of type builtins.set" in what for what in done.unstorable)
    assert pod == {"good": 1}


def test_what_is_no_shelf_is_refused(pod: POD[Any, Any], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a letter to whom it may concern")
    with pytest.raises(ExchangeError, match="text: cannot be opened as a shelf"):
        pod.import_from(tmp_path / "text", format="shelve", unpickle=True)
    with dbm.dumb.open(str(tmp_path / "raw")) as database:
        database["key"] = b"no pickle"
    with pytest.raises(ExchangeError, match="raw: the value of 'key' cannot be read"):
        pod.import_from(tmp_path / "raw", format="shelve", unpickle=True)
    with open(tmp_path / "raw.dir", "a") as file:
        file.write("'damaged', (\n")
    with pytest.raises(ExchangeError, match="raw: cannot be opened as a shelf"):
        pod.import_from(tmp_path / "raw", format="shelve", unpickle=True)


@pytest.mark.parametrize("kind", ["sqlitedict", "diskcache"])
def test_what_is_no_database_is_refused(pod: POD[Any, Any], tmp_path: Path, kind: Any) -> None:
    (tmp_path / "cache.db").write_text("a letter to whom it may concern, of more than a hundred bytes" * 10)
    source = tmp_path / "cache.db" if kind == "sqlitedict" else tmp_path
    with pytest.raises(ExchangeError, match=f"cannot be read as {kind}"):
        pod.import_from(source, format=kind, unpickle=True)
    with pytest.raises(ExchangeError, match=f"no (directory of )?{kind}"):
        pod.import_from(pod.path, format=kind, unpickle=True)


# --- 2017


def serialised(key: Any, value: Any, *, plain: bool = False) -> str:
    """A line as the first tastypy wrote it: the key's JSON, or the key itself, with backslashes doubled."""
    text = key if plain else json.dumps(key)
    return text.replace("\\", "\\\\").replace("\t", "\\t") + "\t" + json.dumps(value) + "\n"


def old_pod(
    directory: Path, entries: dict[Any, Any], *, size: int = 3, gzipped: bool = False, plain: bool = False
) -> Path:
    directory.mkdir(parents=True)
    lines = [serialised(key, value, plain=plain) for key, value in entries.items()]
    for number in range(0, len(lines), size):
        text = "".join(lines[number : number + size]).encode()
        name = f"{number // size}.json{'.gz' if gzipped else ''}"
        (directory / name).write_bytes(gzip.compress(text) if gzipped else text)
    return directory


ENTRIES: dict[Any, Any] = {
    "foo": "bar",
    'a "quoted" \\ one\\t': [1, 2.5, None],
    "tab\tand\nnewline": {"tab\t": "\t"},
    "#naïve 😀": True,
    1: "one",
    ("a", (1, "b\\")): None,
    **{f"key {number}": number for number in range(30)},
}


@pytest.mark.parametrize("gzipped", [False, True])
def test_a_pod_of_2017_comes_in_as_it_was(opened: Opener, tmp_path: Path, gzipped: bool) -> None:
    pod = opened()
    old = old_pod(tmp_path / "old.pod", ENTRIES, gzipped=gzipped)
    (old / "notes.txt").write_text("not one of its files")
    assert pod.import_from(old) == (len(ENTRIES), 0, 0, ())  # by what is in it
    assert exactly(pod) == exactly({**ENTRIES, ("a", (1, "b\\")): None})
    single = next(old.glob("0.json*"))
    assert pod.import_from(single, format="2017", existing="skip").skipped == 3


def test_keys_of_before_february_2017_are_plain_text(pod: POD[Any, Any], tmp_path: Path) -> None:
    entries = {"plain": 1, "with\ttab": 2, "back\\slash\\t": 3, "12": 4, '"quoted"': 5, "ünï": 6}
    pod.import_from(old_pod(tmp_path / "old.pod", entries, plain=True), format="2017")
    assert exactly(pod) == exactly(entries)


@settings(max_examples=25)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])) | st.integers() | st.tuples(st.text(), st.integers()),
        st.integers(),
        min_size=1,
    )
)
def test_every_key_of_2017_is_read_as_what_it_was(entries: dict[Any, Any]) -> None:
    text = "".join(serialised(key, value) for key, value in entries.items()).encode()
    found = read_first(Place("", io.BytesIO(text), "a file", "2017"))
    assert [(key, value) for _, key, value in found] == list(entries.items())


def test_a_tracker_of_2017_is_a_tracker(tmp_path: Path) -> None:
    entries = {
        f"https://example.org/{n}": {"_done": n < 2, "_tries": n, "_aborted": n == 3, "size": n} for n in range(5)
    }
    with POD[Any, Any](tmp_path / "new.tracker") as pod:
        pod.import_from(old_pod(tmp_path / "old.tracker", entries), format="2017")
    with Tracker[str](tmp_path / "new.tracker") as tracker:
        assert (tracker.num_done(), tracker.num_tried(), tracker.num_aborted()) == (2, 4, 1)
        assert tracker["https://example.org/4"]["size"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda old: (old / "2.json").unlink(), "old.pod: the file number 2 is missing"),
        (
            lambda old: (old / "1.json").write_text('"x"\t1\n'),
            "1.json: 1 entries, and another file has 3: .* some are lost",
        ),
        (lambda old: (old / "1.json").write_text('"x" 1\n'), "1.json, line 1: not a key, a tab and a value"),
        (lambda old: (old / "1.json").write_text('"x"\t1\n"y"\t{\n'), "1.json, line 2: the value is not JSON"),
        (lambda old: (old / "1.json").write_bytes(b'"\xff"\t1\n'), "1.json, line 1: not UTF-8"),
        (lambda old: [file.unlink() for file in old.iterdir()], "there is no file like 0.json"),
        (lambda old: (old / "1.json.gz").write_bytes(b""), "the file number 1 is there twice"),
        (lambda old: (old / "1.json").rename(old / "01.json"), "the file number 1 is missing"),
        (lambda old: (old / ".lock").write_text(""), "not of the first tastypy, but a POD: the format is pod"),
    ],
)
def test_damage_of_2017_is_named_and_nothing_comes_in(
    pod: POD[Any, Any], tmp_path: Path, change: Any, message: str
) -> None:
    old = old_pod(tmp_path / "old.pod", {f"key {number}": number for number in range(11)})
    change(old)
    with pytest.raises(ExchangeError, match=message):
        pod.import_from(old, format="2017")
    assert pod == {}
