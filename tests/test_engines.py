"""The examples that run on engines of others, each for real: what they leave, and what a killed worker costs.

Where an engine is not installed its tests are skipped: `pip install 'tastypy[engines]'`, and Open MPI from the system.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from engine_helpers import EXAMPLES, PATIENCE, STARTS, add_more, assert_all_done, primes_from, wait_for_workers
from helpers import stored

pytestmark = pytest.mark.timeout(4 * PATIENCE)


class Engine(NamedTuple):
    """What an example needs, how it is started, whether a run on it outlives a killed worker, and how many tries that costs."""

    needs: str
    before: tuple[str, ...] = ()
    outlives: bool = False
    costs: int = 1


ENGINES = {
    "futures": Engine("concurrent.futures"),
    "multiprocessing": Engine("multiprocessing", outlives=True),
    "joblib": Engine("joblib", costs=4),  # which kills its other processes then
    "dask": Engine("distributed", outlives=True),
    "mpi": Engine("mpi4py", ("-m", "mpi4py.futures"), costs=3),  # which gives the other ranks a second to let go
    "ray": Engine("ray", outlives=True),
}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The name of an engine that is installed."""
    name: str = request.param
    if importlib.util.find_spec(ENGINES[name].needs) is None:
        pytest.skip(f"{ENGINES[name].needs} is not installed")
    if name == "mpi" and shutil.which("mpiexec") is None:
        pytest.skip("there is no mpiexec, which Debian has in the package openmpi-bin")
    return name


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A directory for what has sockets, whose paths may not be long."""
    directory = tempfile.mkdtemp(prefix="engine-")
    yield Path(directory)
    shutil.rmtree(directory, ignore_errors=True)  # processes of the engine may still be about to end


@contextmanager
def example(engine: str, directory: Path, home: Path) -> Iterator[subprocess.Popen[str]]:
    """Start an example, in a process group of its own that ends with the block."""
    script = EXAMPLES / f"on_{engine}.py"
    command = [sys.executable, *ENGINES[engine].before, str(script), str(directory)]
    if engine == "mpi":
        command = ["mpiexec", "--oversubscribe", "-n", "4", *command]
    environment = {
        **os.environ,
        "HOME": str(home),  # Ray and Open MPI leave something there
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "RAY_TMPDIR": str(home),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    program = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield program
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()


def ended(program: subprocess.Popen[str]) -> tuple[int, str, str]:
    """The status of a program, and what it has printed."""
    output, errors = program.communicate(timeout=2 * PATIENCE)
    return program.returncode, output, errors


# ------------------------------------------------------------------------------------------------------------ the engines


def test_an_example_does_every_task_once_and_stores_every_result(
    engine: str, tmp_path: Path, short_directory: Path
) -> None:
    with example(engine, tmp_path, short_directory) as program:
        status, output, errors = ended(program)
    assert status == 0, errors
    assert [line[:40] for line in output.splitlines()[-2:]] == [
        "Summary(done=100, failed=0, given_up=0, ",
        "25997 primes",
    ]
    entries = assert_all_done(tmp_path, [*STARTS])
    assert {entry["_tries"] for entry in entries.values()} == {1}
    counted = stored(tmp_path / "primes.pod")
    assert {start: entry["primes"] for start, entry in counted.items()} == {
        start: primes_from(start) for start in STARTS
    }
    assert program.pid not in {
        entry["process"] for entry in [*counted.values(), *(one["result"] for one in entries.values())]
    }


def test_a_killed_worker_costs_a_try_at_most_and_the_same_command_goes_on(
    engine: str, tmp_path: Path, short_directory: Path
) -> None:
    starts = add_more(tmp_path, 80)
    with example(engine, tmp_path, short_directory) as program:
        killed = min(wait_for_workers(tmp_path, 2))
        os.kill(killed, signal.SIGKILL)
        status, _, errors = ended(program)
    assert (status == 0) is ENGINES[engine].outlives, errors
    if status != 0:
        with example(engine, tmp_path, short_directory) as program:
            status, _, errors = ended(program)
        assert status == 0, errors
    entries = assert_all_done(tmp_path, starts)
    # each worker that died, and some engines then kill the others, costs one, perhaps all of them of the same task
    assert sum(entry["_tries"] - 1 for entry in entries.values()) <= ENGINES[engine].costs
    assert min(entry["_tries"] for entry in entries.values()) == 1
