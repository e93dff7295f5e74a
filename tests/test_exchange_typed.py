"""What goes out of a POD with `type=`, and comes into one: in files are plain fields, in memory objects."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest

from tastypy import POD, WrongTypeError
from tastypy.exchange.rows import plain_items


@dataclass
class Page:
    """A value."""

    lines: int
    tags: list[str]


PAGES: dict[str | int, Page] = {"a": Page(1, ["x"]), 2: Page(3, [])}


@pytest.fixture
def typed(tmp_path: Path) -> POD[str | int, Page]:
    pod: POD[str | int, Page] = POD(tmp_path / "typed.pod", type=Page)
    pod.update(PAGES)
    return pod


@pytest.mark.parametrize("suffix", ["json", "jsonl.gz", "csv"])
def test_what_goes_out_are_fields_and_what_comes_in_are_objects(
    typed: POD[str | int, Page], tmp_path: Path, suffix: str
) -> None:
    typed.export_to(tmp_path / f"out.{suffix}")
    plain, again = POD[str | int, object](tmp_path / "plain.pod"), POD(tmp_path / "again.pod", type=Page)
    for pod in (plain, again):
        pod.import_from(tmp_path / f"out.{suffix}")
    assert dict(plain) == {"a": {"lines": 1, "tags": ["x"]}, 2: {"lines": 3, "tags": []}} == plain_items(typed)
    assert dict(again) == PAGES
    assert POD(again.path, type=Page) == PAGES


def test_columns_are_fields(typed: POD[str | int, Page], tmp_path: Path) -> None:
    typed.export_to(tmp_path / "out.csv", columns=True)
    assert (tmp_path / "out.csv").read_text().splitlines() == ["key,lines,tags", 'a,1,"[""x""]"', "#2,3,[]"]


def test_what_is_not_of_the_type_does_not_come_in(typed: POD[str | int, Page], tmp_path: Path) -> None:
    source = tmp_path / "in.json"
    source.write_text('{"b": {"lines": 1, "tags": []}, "c": {"lines": "many", "tags": []}}')
    with pytest.raises(
        WrongTypeError, match=r"in\.json, entry 2: the value of 'c': field 'lines' .* nothing was imported"
    ):
        typed.import_from(source)
    assert dict(typed) == PAGES == dict(POD(typed.path, type=Page))
    done = typed.import_from(source, skip_unstorable=True)
    assert (done.added, len(done.unstorable)) == (1, 1)
    assert typed["b"] == Page(1, [])


def test_objects_that_are_unpickled_come_in(typed: POD[str | int, Page], tmp_path: Path) -> None:
    (tmp_path / "in.pickle").write_bytes(pickle.dumps({"b": Page(5, []), "c": {"lines": 6, "tags": []}}))
    typed.import_from(tmp_path / "in.pickle", unpickle=True)
    assert dict(POD(typed.path, type=Page)) == {**PAGES, "b": Page(5, []), "c": Page(6, [])}
