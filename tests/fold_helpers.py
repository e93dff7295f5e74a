"""Folds that are done in steps, made small."""

from __future__ import annotations

from typing import Any

from helpers import header_of

from tastypy import POD

LIMIT = 2000  # bytes of a journal, in tests with `small_folds`


def fill(pod: POD[Any, Any], keys: int = 60) -> None:
    """Put so much into the POD that a fold takes some steps."""
    pod.update({f"key {number}": "x" * 50 for number in range(keys)})
    pod.sync()


def begin(pod: POD[Any, Any]) -> int:
    """Assign until a fold is under way; return the epoch."""
    epoch = header_of(pod.path).epoch
    for number in range(1000):
        pod[f"key {number % 60}"] = number
        if pod._store.under_way is not None:
            return epoch
    raise AssertionError("no fold began")


def go_on(pod: POD[Any, Any], epoch: int) -> int:
    """Assign until the fold is committed; return how many assignments that took."""
    for number in range(1000):
        pod["more"] = number
        if header_of(pod.path).epoch != epoch:
            return number + 1
    raise AssertionError("the fold does not end")
