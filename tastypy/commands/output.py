"""What the commands print alike: JSON objects, for scripts."""

from __future__ import annotations

from typing import Any

import orjson


def json_line(value: Any) -> str:
    """Return the JSON of a value, in one line."""
    return orjson.dumps(value).decode()


def json_object(path: str, **fields: Any) -> str:
    """Return the JSON of an object about a directory, in one line; bytes of its path that are no text are escaped."""
    return json_line({"path": path_text(path), **fields})


def path_text(path: str) -> str:
    """Return a path as text that UTF-8 has."""
    return path.encode(errors="backslashreplace").decode()
