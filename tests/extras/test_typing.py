"""What type checkers know of the package: the files in tests/typing, and how much of what is public has a type."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import tastypy

ROOT = Path(__file__).resolve().parents[2]
CHECKERS = {
    "mypy": ["--config-file", "pyproject.toml", "tests/typing"],
    "pyright": ["--pythonpath", sys.executable],
    "basedpyright": ["--pythonpath", sys.executable],  # a fork of it, which needs nothing but its wheel
}


def check(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a checker, if it is installed."""
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    command = [sys.executable, "-m", name, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)


@pytest.mark.parametrize("name", CHECKERS)
def test_the_types_are_those_that_users_expect(name: str) -> None:
    done = check(name, *CHECKERS[name])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["pyright", "basedpyright"])
def test_all_that_is_public_has_a_type_that_does_not_depend_on_the_checker(name: str) -> None:
    done = check(name, "--verifytypes", "tastypy", "--ignoreexternal", "--outputjson", *CHECKERS[name])
    symbols: list[dict[str, Any]] = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    public = {f"tastypy.{name}" for name in tastypy.__all__}
    public |= {f"{thing.__module__}.{thing.__qualname__}" for thing in map(vars(tastypy).get, tastypy.__all__) if thing}
    seen = [symbol for symbol in symbols if any(f"{symbol['name']}.".startswith(f"{name}.") for name in public)]
    assert len(seen) > 200
    assert [symbol["name"] for symbol in seen if symbol["isTypeAmbiguous"] or not symbol["isTypeKnown"]] == []
