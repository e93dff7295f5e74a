"""Every example in the README, the pages of docs/, and the docstrings runs, and the README's copies are true."""

import doctest
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

import tastypy
from stress.bench import pages
from stress.bench.peers import PEERS
from stress.bench.rows import ROWS
from stress.broken import BREAKAGES

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
MODULES = [
    module.name for module in pkgutil.walk_packages(tastypy.__path__, "tastypy.") if module.name != "tastypy.__main__"
]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def examples_of(page: Path) -> str:
    """The page with everything but its code blocks blanked, so that line numbers stay."""
    lines = []
    inside = False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            inside = line in ("```python", "```{doctest}")
            line = ""  # noqa: PLW2901 - blanked like the others
        lines.append(line if inside else "")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page_run(page: Path) -> None:
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(doctest.DocTestParser().get_doctest(examples_of(page), {}, page.name, str(page), 0))
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_modules_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for number, test in enumerate(doctest.DocTestFinder().find(importlib.import_module(name))):
        directory = tmp_path / str(number)
        directory.mkdir()
        monkeypatch.chdir(directory)
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_the_readme_shows_the_example_as_it_is() -> None:
    shown = re.search(r"<!-- file: (\S+) -->\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown is not None
    assert shown[2] == (ROOT / shown[1]).read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_to_files(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)#]+)", prose):
        assert link.startswith("https://") or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_commands_of_this_project_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"(?<![\w/])((?:tastypy|tests|stress|docs|\.ci)/[\w./-]*\w)", text):
        place = Path(tastypy.__file__).parents[1] if name.startswith("tastypy/") else ROOT  # which may be an sdist's
        assert (place / name).exists() or "docs/_" in name or "X.Y" in name, name
    for name in re.findall(r"python -m (stress\.\w+)", text):
        assert (ROOT / name.replace(".", "/")).exists() or (ROOT / name.replace(".", "/")).with_suffix(
            ".py"
        ).exists(), name


def test_the_checksums_example_does_a_tree_and_then_only_what_is_new(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(30):
        (tree / f"{number}.txt").write_text("a line\n" * number)
    script = [sys.executable, str(ROOT / "docs/examples/checksums.py"), str(tree), str(tmp_path / "sums.tracker")]
    first = subprocess.run(script, capture_output=True, text=True, check=True, timeout=60)
    assert "30 files, 30 of them new\nSummary(done=30, failed=0, given_up=0" in first.stdout
    (tree / "new.txt").write_text("one\ntwo\n")
    second = subprocess.run(script, capture_output=True, text=True, check=True, timeout=60)
    assert "31 files, 1 of them new\nSummary(done=1, failed=0, given_up=0" in second.stdout
    with tastypy.Tracker[str](tmp_path / "sums.tracker", mode="r") as tracker:
        assert tracker.percent_done() == "100.00 %"
        assert [tracker[str(tree / f"{number}.txt")]["result"]["lines"] for number in range(30)] == list(range(30))
        assert tracker[str(tree / "new.txt")]["result"]["lines"] == 2


@pytest.mark.parametrize("gzipped", [False, True])
def test_the_reader_in_the_description_of_the_format_reads_what_a_pod_wrote(tmp_path: Path, gzipped: bool) -> None:
    lock: Literal["flock", "lease"] = "flock" if gzipped else "lease"
    pod = tastypy.POD[Any, Any](tmp_path / "my.pod", gzipped=gzipped, shard_bytes=200, lock=lock)
    keys = ["foo", "#foo", 'a "quoted" one', "naïve\n", 1, 2.5, None, True, ("a", (1, None)), ()]
    pod.update({key: [repr(key), {"nested": index / 3}] for index, key in enumerate(keys)})
    for step in (
        pod.sync,
        lambda: pod.update(new=1, foo="again"),
        lambda: pod.pop("#foo"),
        lambda: pod.move_to_end(("a", (1, None)), last=False),
        lambda: pod.move_to_end(None),
        pod.sync,
        lambda: pod.update({number: number for number in range(100)}),
        pod.sync,
        pod.clear,
        lambda: pod.update(last=2**64 - 1),
    ):
        step()
        script = [sys.executable, str(ROOT / "docs/examples/read_pod.py"), pod.path]
        read = subprocess.run(script, capture_output=True, text=True, check=True, timeout=60).stdout
        assert read.splitlines() == [f"{key!r} {json.dumps(value)}" for key, value in pod.items()]
    pod.close()


def test_the_table_of_breakages_has_those_that_are_tried() -> None:
    rows = [f"| {one.what} | `stress.{one.caught_by[0]}` |" for one in BREAKAGES.values()]
    page = (ROOT / "docs/proof.md").read_text().splitlines()
    assert [line for line in page if line.endswith("` |") and "`stress." in line and line.count("|") == 3] == rows


def test_the_page_of_speed_shows_all_of_the_file_of_figures_and_nothing_else() -> None:
    text = (ROOT / "docs/measured.json").read_bytes()
    measured = json.loads(text)
    assert len(text) < 30_000
    shown = re.findall(r"_measured/(\S+)", (ROOT / "docs/performance.md").read_text())
    made = [f"{name}.md" for name in pages.fragments(measured)] + [
        f"{name}.svg" for name in pages.chart_names(measured)
    ]
    assert sorted(shown) == sorted(made)


def test_the_file_of_figures_is_of_the_rows_and_peers_that_there_are() -> None:
    measured = json.loads((ROOT / "docs/measured.json").read_bytes())
    bounds = {pair.name: pair.bound for pair in ROWS if pair.bound is not None}
    assert {row["name"]: row["bound"] for row in measured["rows"] if row["bound"] is not None} == bounds
    assert [peer["name"] for peer in measured["peers"]] == [
        peer.name for peer in PEERS if peer.name not in measured["missing"]
    ]
    assert all(len(column["cells"]) == len(measured["peers"]) for column in measured["columns"])


def test_the_text_of_the_page_of_speed_has_no_figures_of_its_own() -> None:
    prose = re.sub(r"^```.*?^```$", "", (ROOT / "docs/performance.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"\d+(?:\.\d+)? ?(?:ns|µs|us|ms|s|%|times|B|kB|MB)\b", prose) == []
