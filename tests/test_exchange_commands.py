"""`tastypy export` and `import`: what they print, write, and exit with."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Command, alone, bash, in_process
from helpers import exactly, stored

from tastypy import POD, check


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with POD[Any, Any]("my.pod") as pod:
        pod.update({"a": {"n": 1}, 2: "two"})


@pytest.fixture
def tastypy(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, run in this process."""
    return in_process(capsys)


def test_what_is_exported_is_imported(tastypy: Command) -> None:
    assert tastypy("export", "my.pod", "my.csv.gz") == (0, "2 entries of my.pod in my.csv.gz\n", "")
    assert tastypy("import", "my.csv.gz", "new.pod") == (0, "new.pod: 2 entries added\n", "")
    assert exactly(stored("new.pod")) == exactly(stored("my.pod"))
    code, out, error = tastypy("import", "my.csv.gz", "new.pod")
    assert (code, out) == (2, "")
    assert error.startswith("tastypy: ")
    assert "has the key 'a' (line 2 of my.csv.gz) and 1 more already" in error
    assert error.count("\n") == 1
    done = tastypy("import", "my.csv.gz", "new.pod", "--existing", "skip")
    assert done == (0, "new.pod: 0 entries added, 2 left as they were\n", "")
    code, out, _ = tastypy("import", "my.csv.gz", "new.pod", "--existing", "replace", "--json")
    assert code == 0
    assert json.loads(out) == {
        "source": "my.csv.gz",
        "path": "new.pod",
        "added": 0,
        "replaced": 2,
        "skipped": 0,
        "unstorable": [],
    }


def test_entries_go_through_pipes_and_nothing_else_does(tastypy: Command) -> None:
    assert tastypy("export", "my.pod") == (0, '{"key":"a","value":{"n":1}}\n{"key":"#2","value":"two"}\n', "")
    for order in (
        ["my.pod", "-", "--format", "json"],
        ["my.pod", "--format", "json", "-"],
        ["--format=json", "my.pod"],
    ):
        code, out, error = tastypy("export", *order, "--json")
        assert (code, json.loads(out)) == (0, {"a": {"n": 1}, "#2": "two"})
        assert json.loads(error) == {"path": "my.pod", "target": "-", "format": "json", "entries": 2}
    piped = bash(
        "set -o pipefail; tastypy export my.pod --columns --key id | tastypy import - new.pod --columns --key id"
    )
    assert (piped.returncode, piped.stdout, piped.stderr) == (0, "new.pod: 2 entries added\n", "")
    assert stored("new.pod") == {"a": {"n": 1}, 2: {"value": "two"}}
    with POD[Any, Any]("my.pod") as pod:
        pod.update({str(number): "x" * 1000 for number in range(2000)})
    piped = bash("tastypy export my.pod | head -n 1; echo ${PIPESTATUS[0]}")
    assert (piped.stdout, piped.stderr) == ('{"key":"a","value":{"n":1}}\n141\n', "")
    piped = bash(
        "tastypy export my.pod /dev/stdout --format csv | wc -l; tastypy export my.pod >(wc -l) --format csv | cat"
    )
    assert [line for line in piped.stdout.split("\n") if "entries" not in line] == ["2004", "2003", ""]
    assert piped.stderr == ""
    # what the file takes is less than one write of it
    piped = bash("ulimit -f 1024; trap '' XFSZ; PYTHONUNBUFFERED=1 tastypy export my.pod > cut.jsonl")
    assert (piped.returncode, "cut.jsonl" in os.listdir()) == (2, True)
    assert "File too large" in piped.stderr
    done = alone("export", "my.pod", "/dev/full", "--format", "csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No space left on device" in done.stderr


def test_a_copy_is_exported_by_its_name_and_replaces_nothing(tastypy: Command) -> None:
    assert tastypy("export", "my.pod", "copy.pod") == (0, "2 entries of my.pod in copy.pod\n", "")
    assert exactly(stored("copy.pod")) == exactly(stored("my.pod"))
    assert check("copy.pod") == []
    code, out, error = tastypy("export", "my.pod", "copy.pod")
    assert (code, out) == (2, "")
    assert error.endswith("copy.pod is there already: a copy goes where nothing is, or into an empty directory\n")
    assert tastypy("export", "my.pod", "elsewhere", "--format", "pod", "--json")[0] == 0
    assert tastypy("import", "elsewhere", "copy.pod", "--existing", "skip")[0] == 0


def test_what_no_shell_should_give_is_one_line(tastypy: Command) -> None:
    done = bash("tastypy import - new.pod <&-; tastypy export my.pod x.csv --key $'\\xff'")
    assert (done.returncode, done.stdout) == (2, "")
    first, last = done.stderr.splitlines()
    assert "standard input is closed" in first
    assert "lone surrogate" in last
    assert os.listdir() == ["my.pod"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "none.pod", "x.json"], "there is no POD"),
        (["export", "none.pod", "x.pod"], "there is no POD"),
        (["export", "my.pod", "x.txt"], "its name does not say"),
        (["export", "my.pod", "-", "--format", "pod"], "does not go to standard output"),
        (["export", "my.pod", "x.pod.gz"], "only json, jsonl and csv are compressed"),
        (["export", "my.pod", "x.pod", "--columns"], "a copy has no columns"),
        (["import", "none.json", "new.pod"], "none.json: there is no such file"),
        (["import", "bad.jsonl", "new.pod"], "bad.jsonl, line 1: not JSON"),
        (["import", "bad.pickle", "new.pod"], "--unpickle"),
        (["import", "my.pod", "new.pod", "--format", "xml"], "invalid choice"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_makes_no_pod(tastypy: Command, arguments: list[str], message: str) -> None:
    Path("bad.jsonl").write_text("nonsense\n")
    Path("bad.pickle").write_bytes(pickle.dumps({}))
    before = sorted(os.listdir())
    code, out, error = tastypy(*arguments)
    assert (code, out) == (2, "")
    assert message in error
    assert error.count("\n") == 1
    assert sorted(os.listdir()) == before


def test_what_is_left_out_is_printed_and_the_exit_code_says_so(tastypy: Command) -> None:
    Path("all.pickle").write_bytes(pickle.dumps({"good": 1, "bad": {1}}))
    code, out, error = tastypy("import", "all.pickle", "new.pod", "--unpickle", "--skip-unstorable")
    assert (code, error) == (1, "")
    first, last = out.splitlines()
    assert first.startswith("left out: all.pickle, entry 2: the value of 'bad' is of type builtins.set")
    assert last == "new.pod: 1 entry added, 1 left out, which JSON cannot hold"
    assert stored("new.pod") == {"good": 1}


def test_the_help_has_examples_and_the_fields_of_json(tastypy: Command) -> None:
    for command in ("export", "import"):
        code, out, _ = tastypy(command, "--help")
        assert code == 0
        assert f"  tastypy {command} my.jsonl my.pod" in out or f"  tastypy {command} my.pod my.jsonl" in out
        assert "--json prints one object" in out
