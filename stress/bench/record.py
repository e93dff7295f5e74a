"""What is kept of a run: every figure for `--json`, and the small file that the documentation's tables and charts are made from."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stress.bench import comparison, growth
from stress.bench.comparison import TITLES, Compared
from stress.bench.figures import Spread, rounded, spread
from stress.bench.growth import Line, Wait
from stress.bench.peers import PEERS, Peer
from stress.bench.rows import Result

_PATHS = ("--json", "--docs", "--dir")
Groups = Sequence[tuple[str, list[Compared]]]


def machine(place: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Return where, when and how the figures came about."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(["python -m stress.bench", *_without_paths(arguments)]),
        "python": platform.python_version(),
        "processor": _after("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory": f"{int(_after('/proc/meminfo', 'MemTotal').split()[0]) / 1e6:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "file system": _file_system(place),
        "load before": rounded(os.getloadavg()[0]),
    }


def _without_paths(arguments: Sequence[str]) -> Iterator[str]:
    """Leave out what tells where, since that makes no difference to the figures."""
    path = False
    for each in arguments:
        if not path and not each.startswith(_PATHS):
            yield each
        path = each in _PATHS


def described(about: Mapping[str, Any]) -> str:
    """Return it in a line."""
    names = ("processor", "cores", "memory", "system", "file system", "python", "load before")
    return ", ".join(f"{name} {about[name]}" for name in names)


def _after(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return "0"


def _file_system(place: Path) -> str:
    """Return the type of the file system: that of the longest mount point above the place."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    above = [each for each in mounts if place.resolve().is_relative_to(each[1])]
    return max(above, key=lambda each: len(each[1]))[2] if above else "unknown"


def versions() -> dict[str, str]:
    """Return the versions of everything that takes part."""
    found = {"Python": platform.python_version()}
    for peer in _there():
        if peer.package:
            found[peer.package] = peer.version()
    for name in ("orjson", "filelock"):
        found[name] = version(name)
    return found


def everything(
    about: Mapping[str, Any], rows: Sequence[Result], groups: Groups, lines: list[Line], waits: list[Wait]
) -> str:
    """Return all figures, for `--json`."""
    return json.dumps(
        {
            "machine": about,
            "versions": versions(),
            "rows": [result.fields() for result in rows],
            "peers": comparison.fields(groups),
            "growth": growth.fields(lines, waits),
        },
        indent=1,
    )


def missing() -> dict[str, str]:
    """Return which peers cannot take part, and why."""
    return {peer.name: why for peer in PEERS if (why := peer.missing())}


def _there() -> list[Peer]:
    return [peer for peer in PEERS if not peer.missing()]


def _row(result: Result) -> dict[str, Any]:
    pair = result.pair
    ratio = [rounded(each) for each in spread(result.ratios)] if result.ratios else None
    return {
        "name": pair.name,
        "what": result.what,
        "against": result.against,
        "ratio": ratio,
        "bound": pair.bound,
        "rate": pair.rate,
    }


def _cells(compared: Compared, column: Any, reasons: list[str]) -> list[Any]:
    """Return a cell a peer: cost, ratio, its least and greatest, and 1 if it was cut short; or the number of a reason."""
    cells: list[Any] = []
    for peer in _there():
        cost, ratio = compared.cost(column, peer.name), compared.ratio(column, peer.name)
        if cost is None:
            why = compared.left_out.get((column.name, peer.name), "not measured")
            if why not in reasons:
                reasons.append(why)
            cells.append(reasons.index(why))
        else:
            figures = (cost.middle, *(ratio or Spread(1.0, 1.0, 1.0)))
            cells.append([*map(rounded, figures), *([1] if peer.name in compared.cut else [])])
    return cells


def small(
    about: Mapping[str, Any], rows: Sequence[Result], groups: Groups, lines: list[Line], waits: list[Wait]
) -> dict[str, Any]:
    """Return the medians and spreads, for the documentation."""
    reasons: list[str] = []
    columns = [
        {
            "group": name,
            "name": column.name,
            "head": column.head,
            "what": column.what,
            "unit": column.unit,
            "cells": _cells(compared, column, reasons),
        }
        for name, results in groups
        for compared in results
        for column in compared.workload.columns
    ]
    return {
        "machine": dict(about),
        "versions": versions(),
        "titles": {name: TITLES[name] for name, _ in groups},
        "rows": [_row(result) for result in rows],
        "peers": [
            {
                "name": peer.name,
                "package": peer.package,
                "process": peer.process,
                "machine": peer.machine,
                "shared": peer.shared,
                "flushed": peer.flushed,
            }
            for peer in _there()
        ],
        "missing": missing(),
        "reasons": reasons,
        "columns": columns,
        "lines": [
            {
                "name": line.name,
                "what": line.what,
                "slope": rounded(line.slope),
                "points": [[size, *map(rounded, each)] for size, each in line.points.items()],
            }
            for line in lines
        ],
        "waits": [
            {"what": wait.what, "value": rounded(wait.value), "unit": wait.unit, "bound": wait.bound} for wait in waits
        ],
    }


def text_of(document: Mapping[str, Any]) -> str:
    """Return JSON with a line for each item of each list: short, and its changes can be looked at."""
    parts = []
    for name, value in document.items():
        if isinstance(value, list):
            items = ",\n".join("  " + _short(each) for each in value)
            parts.append(f'"{name}": [\n{items}\n]' if items else f'"{name}": []')
        else:
            parts.append(f'"{name}": {_short(value)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
