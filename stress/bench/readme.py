"""The figures in the README's table of alternatives, filled in from the small file of figures.

python -m stress.bench.readme           # after a new docs/measured.json
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stress.bench.figures import amount

_ROOT = Path(__file__).resolve().parent.parent.parent

# How each row begins, and the peers whose costs of a read and of an assignment it shows.
_ROWS = {
    "**tastypy**": ("tastypy", "tastypy"),
    "the same, `durable=True`": ("tastypy", "tastypy, durable"),
    "a `dict` in one file": ("(dict)", "pickledb"),
    "`shelve`": ("shelve, dbm.dumb", "shelve, dbm.dumb"),
    "SQLite": ("sqlitedict", "sqlitedict"),
    "`diskcache.Index`": ("diskcache.Index", "diskcache.Index"),
    "LMDB |": ("lmdb, sync off", "lmdb"),
    "LMDB, `sync=False`": ("lmdb, sync off", "lmdb, sync off"),
}
_COST = re.compile(r"^[\d.,]+\s(?:s|ms|µs|ns)\b")


def filled(readme: str, document: Mapping[str, Any]) -> str:
    """Return the README with the costs that the document has, at the beginning of the last two cells of each row.

    Raises:
        ValueError: a row is not there, or has no costs to replace.
    """
    peers = [peer["name"] for peer in document["peers"]]
    costs = {
        column["name"]: dict(zip(peers, column["cells"], strict=True))
        for column in document["columns"]
        if column["name"] in ("read", "assign")
    }
    lines = readme.splitlines(keepends=True)
    for start, (reader, writer) in _ROWS.items():
        found = [number for number, line in enumerate(lines) if line.startswith(f"| {start}")]
        if len(found) != 1:
            raise ValueError(f"{len(found)} rows of the README begin with {start!r}, instead of one")
        *cells, read, assignment = lines[found[0]].removesuffix(" |\n").split(" | ")
        for name, peer, old in (("read", reader, read), ("assign", writer, assignment)):
            if not _COST.match(old):
                raise ValueError(f"no cost at the beginning of {old!r} in the row {start!r} of the README")
            cost = amount(costs[name][peer][0], "s").replace(" ", "\N{NO-BREAK SPACE}")
            cells.append(_COST.sub(cost, old))
        lines[found[0]] = " | ".join(cells) + " |\n"
    return "".join(lines)


if __name__ == "__main__":
    path = _ROOT / "README.md"
    path.write_text(filled(path.read_text(), json.loads((_ROOT / "docs/measured.json").read_bytes())))
