"""Fixtures that every test file shares, and the Hypothesis profiles.

`HYPOTHESIS_PROFILE=thorough pytest` looks further than the default `ci` profile, which is fixed so that a clone passes today
and tomorrow.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fold_helpers
import pytest
from faults import FailingOS
from helpers import Opener, end_all
from hypothesis import HealthCheck, settings
from typed_values import Result

from tastypy import POD, folding, store

pytest.register_assert_rewrite("contract")

SLOW_BY_NATURE = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "ci",
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=SLOW_BY_NATURE,
)
settings.register_profile(
    "thorough",
    max_examples=1500,
    stateful_step_count=60,
    deadline=None,
    print_blob=True,
    suppress_health_check=SLOW_BY_NATURE,
)
# who started the tests may ignore them, as `nohup` and a script's `&` do, and so would every program that a test starts
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _no_program_stays() -> Iterator[None]:
    """End the processes that a failed test left running, so that the next one finds its own only."""
    yield
    end_all()
    for child in multiprocessing.active_children():
        child.kill()
        child.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's POD lies; nothing is there yet."""
    return tmp_path / "my.pod"


@pytest.fixture
def opened(path: Path) -> Iterator[Callable[..., POD[Any, Any]]]:
    """Open PODs (by default at `path`) that are closed when the test ends, whatever became of it."""
    pods: list[POD[Any, Any]] = []

    def open_one(where: Path | str = path, **options: Any) -> POD[Any, Any]:
        pods.append(POD(where, **options))
        return pods[-1]

    yield open_one
    end_all()  # a program that a failed test left may hold the lock
    for pod in reversed(pods):
        pod.close()


@pytest.fixture
def pod(opened: Callable[..., POD[Any, Any]]) -> POD[Any, Any]:
    """A new, empty POD."""
    return opened()


@pytest.fixture
def leased(path: Path) -> Iterator[POD[Any, Any]]:
    """An empty POD whose lock is a lease."""
    with POD[Any, Any](path, lock="lease") as pod:
        yield pod


@pytest.fixture
def results(opened: Opener) -> POD[str, Result]:
    """A POD of results."""
    return opened(type=Result)


@pytest.fixture
def untyped(opened: Opener, results: POD[str, Result]) -> POD[str, Any]:
    """The same directory without a type."""
    return opened()


@pytest.fixture
def small_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals are folded early, and each POD counts as a large one."""
    monkeypatch.setattr(folding, "_AT_ONCE", 0)
    monkeypatch.setattr(folding, "_STEP", 300)
    monkeypatch.setattr(store, "_LEAST_LIMIT", fold_helpers.LIMIT)
    monkeypatch.setattr(store, "_MOST_LIMIT", fold_helpers.LIMIT)


@pytest.fixture
def quick_directory() -> Iterator[Path]:
    """A directory in memory, where an fsync costs nothing, for tests that fold thousands of times."""
    memory = "/dev/shm"
    directory = tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None, prefix="tastypy-")
    yield Path(directory)
    shutil.rmtree(directory)


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that another user may enter, as pytest's own are not."""
    directory = tempfile.mkdtemp(prefix="tastypy-")
    Path(directory).chmod(0o755)
    yield Path(directory)
    shutil.rmtree(directory)


@pytest.fixture
def failing_os(monkeypatch: pytest.MonkeyPatch) -> FailingOS:
    """The `os` of the module that writes, to be told what fails."""
    proxy = FailingOS()
    monkeypatch.setattr("tastypy.files.os", proxy)
    return proxy
