"""JSON that people and other programs wrote, read to the letter: what a POD has written itself is read by `values`."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any


def parse(text: str) -> Any:
    """Return what JSON text says, exactly: orjson would make floats of large integers, and drop one of two equal keys.

    Raises:
        ValueError: it is no JSON, or an object has a key twice, or it is nested too deep.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        message = "nested too deep"
        raise ValueError(message) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)  # made once: that takes as long as a short text
