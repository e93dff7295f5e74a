"""What goes out of a `POD(path, type=...)` and comes into one: fields in files, objects in memory."""

from __future__ import annotations

import html
import json
import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from helpers import Opener, exactly, stored
from typed_values import GOOD, Result, Step

from tastypy import POD, WrongTypeError


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv"])
def test_objects_are_exported_as_in_files_and_imported_as_objects(
    results: POD[str, Result], opened: Opener, tmp_path: Path, suffix: str
) -> None:
    results.update(a=GOOD, b=Result(2))
    results.export_to(tmp_path / f"all.{suffix}")
    for kind in (Result, None):
        other = opened(tmp_path / f"{kind}.pod", type=kind)
        assert other.import_from(tmp_path / f"all.{suffix}").added == 2
        assert exactly(other) == exactly(results if kind else stored(results.path))
    results.export_to(tmp_path / "columns.jsonl", columns=True)
    assert json.loads((tmp_path / "columns.jsonl").read_text().splitlines()[1])["score"] == 2


def test_what_is_not_of_the_type_is_not_imported(results: POD[str, Result], tmp_path: Path) -> None:
    source = tmp_path / "some.jsonl"
    source.write_text('{"key":"a","value":{"score":1}}\n{"key":"b","value":{"score":"x"}}\n')
    with pytest.raises(
        WrongTypeError, match=r"some.jsonl, line 2: the value of 'b': field 'score' must be float, not 'x'"
    ):
        results.import_from(source)
    assert results == {}
    assert len(results.import_from(source, skip_unstorable=True).unstorable) == 1
    assert results == {"a": Result(1)}


def test_pickled_objects_are_imported_as_what_they_are(results: POD[str, Result], tmp_path: Path) -> None:
    (tmp_path / "old.pickle").write_bytes(pickle.dumps({"a": GOOD, "b": {"score": 1}}))
    results.import_from(tmp_path / "old.pickle", unpickle=True)
    assert results == {"a": GOOD, "b": Result(1)}


def test_a_notebook_shows_objects_by_their_fields_cut_short(results: POD[str, Result]) -> None:
    results["a"] = Result(1, steps=[Step(str(number)) for number in range(1000)])
    (shown,) = re.findall(r"Result\([^<]*", html.unescape(results._repr_html_()))
    assert shown.startswith("Result(score=1, label='none', steps=[Step(name='0', seconds=0.0), Step(name='1'")
    assert len(shown) < 150


@dataclass
class Visit:
    """A value with few fields."""

    status: int
    tags: list[str] = field(default_factory=list)


def test_columns_are_fields_and_a_copy_has_what_the_files_have(opened: Opener, tmp_path: Path) -> None:
    pod = opened(type=Visit)
    pod.update({"/": Visit(200, ["a"]), "/gone": Visit(404)})
    pod.export_to(tmp_path / "rows.csv", columns=True)
    assert (tmp_path / "rows.csv").read_bytes() == b'key,status,tags\r\n/,200,"[""a""]"\r\n/gone,404,[]\r\n'
    pod.copy_to(tmp_path / "copy.pod")
    assert stored(tmp_path / "copy.pod") == {"/": {"status": 200, "tags": ["a"]}, "/gone": {"status": 404, "tags": []}}
