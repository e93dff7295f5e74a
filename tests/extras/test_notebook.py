"""A real notebook, run by a real kernel: what its cells show."""

from __future__ import annotations

import base64
import warnings
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

CELLS = [
    "from tastypy import POD, Tracker",
    'pod = POD("a.pod"); pod["<script>"] = "<b>"; pod',
    "pod.close(); pod",
    'tracker = Tracker("a.tracker"); tracker.add_many(range(20)); tracker',
    "for task in tracker.claims():\n    with task:\n        task['x'] = 1",
    "tracker",
    "tracker.plot()",
    "import matplotlib.pyplot as plt",
    "tracker.plot()",
    "from IPython.display import display\nfor _ in range(2):\n    display(tracker.plot())",
    "with tracker.transaction():\n    tracker.mark_not_done(3)\n    display(tracker)",
    "tracker.close()",
]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """Of each cell, what it shows, by its type."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter's own
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
        directory: Path = tmp_path_factory.mktemp("notebook")
        client = nbclient.NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(directory)}})
        client.execute()
    for cell in notebook.cells:
        assert [output.text for output in cell.outputs if output.output_type == "stream"] == [], "nothing is printed"
    return [[dict(output.data) for output in cell.outputs] for cell in notebook.cells]


def test_a_pod_and_a_tracker_are_shown_as_html(shown: list[list[dict[str, Any]]]) -> None:
    (pod,), (closed,), (new,), (ended,) = shown[1], shown[2], shown[3], shown[5]
    assert "1 entry" in pod["text/html"]
    assert "&lt;script&gt;" in pod["text/html"]
    assert "<script" not in pod["text/html"]
    assert "closed" in closed["text/html"]
    assert "0.0 % done, 20 open" in new["text/html"]
    assert "100.0 % done, 20 done" in ended["text/html"]
    assert "inside a transaction" in shown[10][0]["text/html"]
    assert all("text/plain" in data for data in (pod, closed, new, ended)), "for what cannot show HTML"


@pytest.mark.parametrize("cell", [6, 8, 9])
def test_a_picture_is_shown_once_with_and_without_pyplot(shown: list[list[dict[str, Any]]], cell: int) -> None:
    assert len(shown[cell]) == (2 if cell == 9 else 1)
    for data in shown[cell]:
        assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
        assert len(data) == 2, "and its name as text"
