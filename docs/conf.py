"""How Sphinx builds these pages: `sphinx-build docs docs/_build`, or `-b doctest` to run their examples."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import tastypy

_HERE = Path(__file__).parent
sys.path.insert(0, str(_HERE.parent))  # for `stress.bench`, which is not installed

charts, pages = map(import_module, ("stress.bench.charts", "stress.bench.pages"))

project = "tastypy"
author = "the tastypy authors"
copyright = "2026, the tastypy authors"
release = version = tastypy.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.doctest", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "_drawn", "_measured"]
# The tables and charts of performance.md are made from the figures of a run, anew in each build.
_measured = json.loads((_HERE / "measured.json").read_text())
pages.write(_measured, _HERE / "_measured")
charts.draw(_measured, _HERE / "_measured")
# The picture of pictures.md is that of a run which takes place now.
(_HERE / "_drawn").mkdir(exist_ok=True)
_command = [sys.executable, _HERE / "examples" / "draw.py", _HERE / "_drawn" / "progress.svg"]
subprocess.run(_command, check=True)  # noqa: S603 - no shell, this interpreter, and a program from beside this file: nothing comes from outside

html_theme = "furo"
html_title = "tastypy"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]

# What is copied can be pasted: without the prompts and what was printed.
copybutton_prompt_text = r">>> |\.\.\. |\$ |node\d\$ "
copybutton_prompt_is_regexp = True

myst_heading_anchors = 3
autodoc_member_order = "bysource"

# Public names of this package must resolve. Those of Python's library would need its inventory, and that a network.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!tastypy\.[A-Z]).*")]

# The examples of a page run one after another in a directory of its own. (Those of docstrings, see tests/test_docs.py.)
doctest_test_doctest_blocks = ""
doctest_global_setup = """
import os, tempfile
_before, _directory = os.getcwd(), tempfile.TemporaryDirectory()
os.chdir(_directory.name)
"""
doctest_global_cleanup = """
import tastypy
for _each in list(globals().values()):
    if isinstance(_each, tastypy.POD):
        _each.close()
os.chdir(_before)
_directory.cleanup()
"""
