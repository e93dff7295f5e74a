"""The page "In and out": each example of it, and each command, run in order, as a reader would."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tastypy import POD

for needed in ("diskcache", "duckdb", "pandas", "polars", "pyarrow", "sqlitedict"):
    pytest.importorskip(needed)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "exchange.md"
BLOCKS = re.findall(r"^```(\S+)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    command = tmp_path / "bin" / "tastypy"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tastypy "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    with POD[str, Any]("gzipped.pod", gzipped=True, shard_bytes=30) as pod:
        pod.update(
            {"/": {"status": 200, "bytes": 5120}, "/about": {"status": 200}, "/gone": {"status": 404, "bytes": 99}}
        )


def run_python(text: str, names: dict[str, Any]) -> None:
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    test = doctest.DocTestParser().get_doctest(text, names, PAGE.name, str(PAGE), 0)
    test.globs = names  # not a copy: the next block goes on with them
    runner.run(test, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0


def run_shell(text: str) -> int:
    """Run each line that begins with a prompt, and compare what it prints; how many were run."""
    done = 0
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
        if "jq" in command and not shutil.which("jq"):
            continue
        line = f"set -o pipefail; {command}"
        result = subprocess.run(["bash", "-c", line], check=False, capture_output=True, text=True, timeout=60)
        assert (result.returncode, result.stderr) == (0, "")
        assert not expected or result.stdout == expected
        done += 1
    return done


def test_every_example_of_the_page_runs_in_its_order() -> None:
    names: dict[str, Any] = {}
    commands = 0
    for kind, text in BLOCKS:
        if kind == "console":
            commands += run_shell(text)
        else:
            assert kind in ("{doctest}", "pycon")
            run_python(text, names)
    assert commands >= 5 + (3 if shutil.which("jq") else 0)


def test_the_one_liners_read_gzipped_shards_too() -> None:
    readers = [text for kind, text in BLOCKS if kind == "pycon" and "snapshot.pod" in text]
    assert len(readers) == 3
    assert len(list(Path("gzipped.pod").glob("[0-9]*.json.gz"))) == 3
    for text in readers:
        run_python(text.replace("snapshot.pod", "gzipped.pod"), {})
