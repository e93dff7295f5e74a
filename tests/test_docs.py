"""Every example in the README, the pages of docs/, and the docstrings runs, and the README's copies are true."""

import doctest
import importlib
import json
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import pytest

import tastypy
from stress.bench import pages, readme
from stress.bench.peers import PEERS
from stress.bench.rows import ROWS
from stress.broken import BREAKAGES

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(
        page for page in (ROOT / "docs").rglob("*.md") if not page.relative_to(ROOT / "docs").parts[0].startswith("_")
    ),
]
DRAWINGS = sorted((ROOT / "docs/drawings").iterdir())
NEEDS = {"docs/howto/numpy.md": "numpy"}  # what the examples of a page import; the documentation's own build has it
MODULES = [
    module.name for module in pkgutil.walk_packages(tastypy.__path__, "tastypy.") if module.name != "tastypy.__main__"
]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def examples_of(text: str) -> str:
    """The text of a page with everything but its code blocks blanked, so that line numbers stay."""
    lines = []
    inside = False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = line in ("```python", "```{doctest}")
            line = ""  # noqa: PLW2901 - blanked like the others
        lines.append(line if inside else "")
    return "\n".join(lines) + "\n"


def run_the_examples(text: str, name: str) -> None:
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(doctest.DocTestParser().get_doctest(examples_of(text), {}, name, name, 0))
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_examples_of_a_page_run(page: Path) -> None:
    if name_of(page) in NEEDS:
        pytest.importorskip(NEEDS[name_of(page)])
    run_the_examples(page.read_text(), name_of(page))


@pytest.mark.parametrize("page", ["README.md", "docs/howto/files.md"])
def test_the_files_that_a_page_shows_are_those_that_its_examples_left(page: str) -> None:
    text = (ROOT / page).read_text()
    session = re.search(r"^```console\n(\$ ls -A .*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert session is not None
    run_the_examples(text[: session.start()], page)
    steps = re.findall(r"^\$ (.+)\n((?:[^$].*\n)*)", session[1], re.MULTILINE)
    assert len(steps) > 2
    for command, shown in steps:
        if shutil.which(command.split()[0]) is not None:  # jq need not be there
            done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True, timeout=60)
            assert sorted(done.stdout.split()) == sorted(shown.split()), command


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_modules_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for number, test in enumerate(doctest.DocTestFinder().find(importlib.import_module(name))):
        directory = tmp_path / str(number)
        directory.mkdir()
        monkeypatch.chdir(directory)
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def anchors_of(page: Path) -> set[str]:
    """The anchors of the page's headings, as a forge and the documentation make them, those of what it includes left out."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_to_headings_in_them(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)]*)\)", prose):
        if re.match(r"\w+:", link):
            parts = urlsplit(link)
            assert parts.scheme == "https", link
            assert re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc), link
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.is_file(), link
        assert ROOT in target.resolve().parents, link
        assert not anchor or anchor in anchors_of(target), link


def test_the_readme_has_the_figures_of_the_file_of_figures() -> None:
    text = (ROOT / "README.md").read_text()
    measured = json.loads((ROOT / "docs/measured.json").read_bytes())
    assert text == readme.filled(text, measured), "python -m stress.bench.readme fills them in"
    slower = json.loads(json.dumps(measured))
    for column in slower["columns"]:
        column["cells"] = [[cell[0] * 1000, *cell[1:]] if isinstance(cell, list) else cell for cell in column["cells"]]
    lines = zip(text.splitlines(), readme.filled(text, slower).splitlines(), strict=True)
    assert sum(old != new for old, new in lines) == 8, "each row of figures is filled in"


@pytest.mark.parametrize("old", ["| **tastypy** | yes |", "| 1.5 s |\n"])
def test_a_readme_without_the_rows_or_the_costs_is_not_filled_in(old: str) -> None:
    measured = json.loads((ROOT / "docs/measured.json").read_bytes())
    line = "| **tastypy** | no | soon | soon |\n"
    with pytest.raises(ValueError, match="of the README"):
        readme.filled(old if old.startswith("| 1") else line, measured)


@pytest.mark.parametrize("drawing", DRAWINGS, ids=name_of)
def test_a_drawing_tells_in_words_what_it_shows_has_no_colours_of_text_and_is_on_a_page(drawing: Path) -> None:
    name = drawing.stem
    root = ET.parse(drawing).getroot()
    space = {"svg": "http://www.w3.org/2000/svg"}
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{name}-title {name}-desc"
    for tag, fewest in (("title", 10), ("desc", 200)):
        found = root.find(f"svg:{tag}[@id='{name}-{tag}']", space)
        assert found is not None
        assert len(found.text or "") >= fewest
    ids = [element.get("id", "") for element in root.iter() if element.get("id")]
    assert all(each.startswith(f"{name}-") for each in ids), "several drawings stand in one page"
    for element in root.iterfind(".//svg:text", space):
        assert element.get("fill", "currentColor") == "currentColor", "it is read on white and on black"
    assert any(f"\n:file: drawings/{drawing.name}\n" in page.read_text() for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
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
