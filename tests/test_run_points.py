"""Ctrl-C at each point of a claim, and at many of a run, one after the other: what is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NoReturn

import pytest
import run_functions as functions
from helpers import stored
from run_helpers import assert_nothing_left

from stress.points import Point
from tastypy import Tracker

pytestmark = pytest.mark.timeout(60)

_EVERY = 7  # point of a run, of which there are some 600


@pytest.fixture(autouse=True)
def _forking() -> Iterator[None]:
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("fork", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


def raise_interrupt() -> NoReturn:
    raise KeyboardInterrupt


def test_ctrl_c_at_any_point_of_a_first_claim_leaves_no_file_no_claim_and_no_try(quick_directory: Path) -> None:
    for number in count(1):
        path, point = quick_directory / str(number), Point(number)
        tracker = Tracker[int](path)
        tracker.add_many(range(3))
        with suppress(KeyboardInterrupt), point.calls(raise_interrupt):
            tracker.claim()
        tracker.close()
        assert_nothing_left(path)
        assert {entry["_tries"] for entry in stored(path).values()} == {0}, point
        if not point.where:
            return


def test_ctrl_c_at_any_point_of_a_run_leaves_no_worker_no_claim_and_no_try_that_did_not_end(
    quick_directory: Path,
) -> None:
    before = signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, [])
    for number in count(1, _EVERY):
        path, point = quick_directory / str(number), Point(number)
        with Tracker[int](path) as tracker:
            tracker.add_many(range(3))
            with suppress(KeyboardInterrupt), point.calls(lambda: os.kill(os.getpid(), signal.SIGINT)):
                tracker.run(functions.double, workers=2)
                assert not point.where, "it was swallowed"
        assert multiprocessing.active_children() == [], point
        assert (signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, [])) == before, point
        with Tracker[int](path) as tracker:
            counts, tries = tracker.counts(), sum(entry["_tries"] for entry in tracker.values())
            assert (counts.claimed, tries) == (0, counts.done), point
            tracker.add(3)
            assert tracker.run(functions.double, workers=1).done == 4 - counts.done
        assert_nothing_left(path)
        if not point.where:
            return
