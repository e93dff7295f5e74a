"""Folds in steps on small PODs, as they are done on large ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from unittest import mock

from tastypy import folding, store


@contextmanager
def in_steps(limit: int = 500) -> Iterator[None]:
    """Let this process, and its forks, fold step by step whenever a journal has more than `limit` bytes."""
    with (
        mock.patch.multiple(folding, _AT_ONCE=0, _STEP=max(limit // 8, 50)),
        mock.patch.multiple(store, _LEAST_LIMIT=limit, _MOST_LIMIT=limit),
    ):
        yield


def perhaps_in_steps(yes: bool, limit: int = 500) -> AbstractContextManager[None]:
    """Do that, or nothing."""
    return in_steps(limit) if yes else nullcontext()
