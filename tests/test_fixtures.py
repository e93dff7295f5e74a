"""Directories that releases have left on disks are read, and written, by this version; see fixtures/make.py, which made them."""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import exactly, files, header_of

import tastypy
from tastypy import POD, FormatVersionError, Tracker, check
from tastypy import format as form

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests/fixtures"
VERSIONS = sorted(path.parent for path in FIXTURES.glob("*/expected.json"))
EXPECTED: dict[Path, dict[str, Any]] = {
    version / name: expected
    for version in VERSIONS
    for name, expected in json.loads((version / "expected.json").read_bytes()).items()
}
READ = [path for path, expected in EXPECTED.items() if "entries" in expected]
REFUSED = [path for path, expected in EXPECTED.items() if "refused" in expected]


def name_of(fixture: Path) -> str:
    return str(fixture.relative_to(FIXTURES))


def entries_of(fixture: Path) -> dict[Any, Any]:
    """What it holds, as it was written down when it was made."""
    return {ast.literal_eval(key): value for key, value in EXPECTED[fixture]["entries"]}


def copied(fixture: Path, to: Path) -> Path:
    return shutil.copytree(fixture, to / fixture.name)


def complained_of(path: Path) -> list[str]:
    """The files that `check` has something to say of, with their lines."""
    return [problem.partition(":")[0] for problem in check(path)]


def test_there_are_fixtures_of_this_release() -> None:
    """Made with the release, once: from then on they are what is on the disks of its users."""
    release, _, development = tastypy.__version__.partition(".dev")
    assert development or FIXTURES / ".".join(release.split(".")[:2]) in VERSIONS


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_the_files_of_a_release_are_what_they_were(version: Path) -> None:
    """Else a later version is tried with what no earlier one has written; `.gitattributes` keeps git from changing them."""
    said = {line[66:]: line[:64] for line in (version / "SHA256SUMS").read_text().splitlines()}
    there = [path for path in version.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    assert {str(path.relative_to(version)): hashlib.sha256(path.read_bytes()).hexdigest() for path in there} == said
    assert {version / Path(name).parent for name in said if "/" in name} == {
        one for one in EXPECTED if version in one.parents
    }


@pytest.mark.parametrize("fixture", READ, ids=name_of)
def test_a_reader_finds_what_an_earlier_release_wrote_and_changes_nothing(fixture: Path, tmp_path: Path) -> None:
    path = copied(fixture, tmp_path)
    before = files(path)
    assert complained_of(path) == EXPECTED[fixture]["problems"]
    if "reader" in EXPECTED[fixture]:
        with pytest.raises(getattr(tastypy, EXPECTED[fixture]["reader"])):
            POD(path, mode="r")
    else:
        with POD[Any, Any](path, mode="r") as pod:
            assert exactly(pod) == exactly(entries_of(fixture))
    assert files(path) == before


@pytest.mark.parametrize("fixture", READ, ids=name_of)
def test_a_writer_goes_on_with_what_an_earlier_release_wrote(fixture: Path, tmp_path: Path) -> None:
    """Every kind of batch, a fold that touches each shard, and more of both; what was set aside stays."""
    path = copied(fixture, tmp_path)
    asides = {name: data for name, data in files(path).items() if name.startswith("aside-")}
    with POD[Any, Any](path) as pod:
        entries = entries_of(fixture)
        assert exactly(pod) == exactly(entries)
        pod["new"] = entries["new"] = {"_done": False, "_aborted": False, "_tries": 0}  # as in a tracker
        pod.move_to_end("new", last=False)
        entries = {"new": entries.pop("new")} | entries
        for key in [*entries][1::2]:
            pod.move_to_end(key)
            entries[key] = entries.pop(key)
        assert exactly(pod) == exactly(entries)
        pod.sync()
        assert header_of(path).encode().count(b'"tastypy":%d,' % form.VERSION) == 1
    with POD[Any, Any](path) as pod:
        assert exactly(pod) == exactly(entries)
        key, value = pod.popitem()
        assert (repr(key), value) == (repr([*entries][-1]), entries.pop(key))
        pod.update({"newer": value})
    with POD[Any, Any](path, mode="r") as pod:
        assert exactly(pod) == exactly({**entries, "newer": value})
    left = [problem for problem in complained_of(path) if not problem.startswith("aside-")]
    assert left == []
    assert asides.items() <= files(path).items()


@pytest.mark.parametrize("fixture", [path for path in READ if "counts" in EXPECTED[path]], ids=name_of)
def test_the_tasks_of_an_earlier_release_are_counted_and_finished(fixture: Path, tmp_path: Path) -> None:
    """A worker that died then is dead now: the task that it had in hand was tried, what it had claimed ahead was not."""
    path, expected = copied(fixture, tmp_path), EXPECTED[fixture]
    entries = entries_of(fixture)
    claimed = {key: "ahead" in entry["_claim"] for key, entry in entries.items() if "_claim" in entry}
    with Tracker[Any](path, max_tries=expected["max_tries"]) as tracker:
        assert tracker.counts()._asdict() == expected["counts"]
        seen = []
        for task in tracker.claims():
            with task:
                task["by"] = tastypy.__version__
                seen.append(task.key)
        assert set(seen) == set(entries) - {"done", "with result", "aborted", "given up"}
        assert seen != []
        assert claimed.keys() <= set(seen)
        in_hand = fixture.joinpath(f"worker-{entries['a', 'tuple']['_claim']['worker']}.jsonl").read_text()
        for key in claimed:
            tried = entries[key]["_claim"]["token"] in in_hand
            assert tracker[key]["_tries"] == entries[key]["_tries"] + tried + 1
        assert tracker.num_done() == expected["counts"]["done"] + len(seen)
        assert tracker["with result"] == entries["with result"]
    assert [*path.glob("worker-*")] == []
    assert check(path) == []


@pytest.mark.parametrize("fixture", REFUSED, ids=name_of)
def test_a_format_that_is_too_new_is_refused_by_name_and_left_as_it_is(fixture: Path, tmp_path: Path) -> None:
    path = copied(fixture, tmp_path)
    before = files(path)
    for mode in ("r", "a"):
        with pytest.raises(FormatVersionError, match=r"journal-\d+\.jsonl is of format 99, .* install a newer tastypy"):
            POD(path, mode=mode)
    assert files(path) == before


@pytest.mark.parametrize("fixture", [path for path in READ if "reader" not in EXPECTED[path]], ids=name_of)
def test_the_reader_in_the_description_of_the_format_reads_them_too(fixture: Path) -> None:
    """Which is no code of the package."""
    script = [sys.executable, str(ROOT / "docs/examples/read_pod.py"), str(fixture)]
    read = subprocess.run(script, capture_output=True, text=True, check=True, timeout=60).stdout
    assert read.splitlines() == [f"{key!r} {json.dumps(value)}" for key, value in entries_of(fixture).items()]


def test_the_script_makes_the_same_files_in_every_run_and_replaces_none(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        script = [sys.executable, str(FIXTURES / "make.py"), str(tmp_path / name)]
        subprocess.run(script, capture_output=True, check=True, timeout=60)
        made.append({str(path.relative_to(tmp_path / name)): path for path in (tmp_path / name).rglob("*")})
    assert made[0].keys() == made[1].keys()
    for name, path in made[0].items():
        assert path.is_dir() or path.read_bytes() == made[1][name].read_bytes(), name
    before = {path: path.read_bytes() for path in made[1].values() if path.is_file()}
    assert subprocess.run(script, capture_output=True, check=False, timeout=60).returncode == 1
    assert {path: path.read_bytes() for path in made[1].values() if path.is_file()} == before
