"""The version stands in one place, and what else names a release agrees with it."""

from __future__ import annotations

import re
from pathlib import Path

import tastypy

ROOT = Path(__file__).resolve().parent.parent

CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
RELEASES = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", CHANGELOG, re.MULTILINE)


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def test_the_version_is_that_of_the_newest_release_or_one_in_development_after_it() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev0)?", tastypy.__version__)
    version, _, development = tastypy.__version__.partition(".dev")
    newest = RELEASES[0][0]
    assert numbers(version) > numbers(newest) if development else version == newest


def test_the_changelog_has_what_is_unreleased_and_then_each_release_the_newest_first() -> None:
    headings = re.findall(r"^## .*$", CHANGELOG, re.MULTILINE)
    assert headings == ["## [Unreleased]", *(f"## [{version}] - {date}" for version, date in RELEASES)]
    assert [*map(numbers, dict(RELEASES))] == sorted(map(numbers, dict(RELEASES)), reverse=True)
    assert [date for _, date in RELEASES] == sorted((date for _, date in RELEASES), reverse=True)


def test_what_is_to_be_cited_is_the_newest_release() -> None:
    """That it is well-formed, `.ci/release` says."""
    fields = dict(re.findall(r"^([a-z-]+): (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE))
    assert (fields["version"], fields["date-released"].strip('"')) == RELEASES[0]


def test_the_version_stands_nowhere_else() -> None:
    """Packages and pages have it from there."""
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()
    assert "tastypy.__version__" in (ROOT / "docs/conf.py").read_text()
    for file in ("pyproject.toml", "docs/conf.py", "README.md", "CONTRIBUTING.md", "SECURITY.md"):
        assert RELEASES[0][0] not in (ROOT / file).read_text(), file


def test_type_checkers_are_told_that_the_package_has_types() -> None:
    assert Path(tastypy.__file__).with_name("py.typed").is_file()
