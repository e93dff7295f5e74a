"""Chance, against lockstep: no secrets. Python's `random` is imported when it is first asked for.

It brings hashlib and OpenSSL with it, a third of what importing this package takes otherwise, and most processes never wait for a lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def uniform(low: float, high: float) -> float:
    """Return a number between the two."""
    import random  # noqa: PLC0415 - it brings OpenSSL, and most processes never wait

    return random.uniform(low, high)  # noqa: S311 - against lockstep, and no secret


def sample(things: Sequence[T], number: int) -> list[T]:
    """Return so many of the things, each at most once."""
    import random  # noqa: PLC0415 - as above, and most processes claim nothing

    return random.sample(things, number)
