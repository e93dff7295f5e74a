"""The scripts for Slurm, with a Slurm of our own, on this host alone, for as long as the tests run.

Skipped where it is not installed (in Debian: slurmctld, slurmd, slurm-client and munge), or not by root.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engine_helpers import EXAMPLES, PATIENCE, add_more, assert_all_done, wait_for_workers
from helpers import stored

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])

pytestmark = [
    pytest.mark.timeout(4 * PATIENCE),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a Slurm"),
    pytest.mark.skipif(not all(shutil.which(one, path=PATH) for one in PROGRAMS), reason="Slurm is not installed"),
]

CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={next_port}
SlurmUser=root
AuthInfo=socket={directory}/socket
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES
"""
"""Eight processors, whatever there is here, and no control groups, which a container does not let one have."""

SOON = "StartTime=now+3"
"""Instead of the two minutes that a job waits which queues again. In the second of its end it would not start."""


class Slurm:
    """A Slurm, and the commands with which one speaks to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {**os.environ, "PATH": PATH, "SLURM_CONF": f"{directory}/slurm.conf"}

    def __call__(self, *command: str, check: bool = True) -> str:
        """What a command prints."""
        return subprocess.run(
            command, cwd=EXAMPLES, env=self.environment, capture_output=True, text=True, check=check, timeout=PATIENCE
        ).stdout.strip()

    def states(self, job: str) -> dict[str, str]:
        """The states of what is left of a job: of each in an array."""
        lines = self("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return {name: state for name, state in map(str.split, lines) if name.partition("_")[0] == job}


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    """A Slurm that is ready for jobs."""
    directory = Path(tempfile.mkdtemp(prefix="slurm-"))
    directory.chmod(0o755)
    key = directory / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    port = 20_000 + os.getpid() % 10_000 * 2
    configuration = CONFIGURATION.format(
        host=platform.node().partition(".")[0], port=port, next_port=port + 1, directory=directory
    )
    (directory / "slurm.conf").write_text(configuration)
    one = Slurm(directory)
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={directory}/socket"]
    munged += [f"--{name}-file={directory}/{name}" for name in ("pid", "log", "seed")]
    daemons = []
    with (directory / "log").open("wb") as log:
        for command in (munged, ["slurmctld", "-D", "-c"], ["slurmd", "-D"]):
            path = shutil.which(command[0], path=PATH)
            daemons.append(
                subprocess.Popen(
                    [str(path), *command[1:]], env=one.environment, stdout=log, stderr=log, start_new_session=True
                )
            )
            if command is munged:
                wait_until((directory / "socket").exists, "munged does not start")
    try:
        wait_until(lambda: one("sinfo", "--noheader", "--format=%T", check=False) == "idle", "Slurm does not start")
        yield one
        one("scancel", "--user=root", check=False)
        wait_until(lambda: one("squeue", "--noheader", check=False) == "", "jobs do not end")
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(PATIENCE)
        shutil.rmtree(directory, ignore_errors=True)


def submit(slurm: Slurm, script: str, directory: Path) -> str:
    """Submit a script; the number of its job."""
    return slurm("sbatch", "--parsable", f"--output={directory}/%j.log", script, str(directory))


def claims(directory: Path) -> int:
    return sum("_claim" in entry for entry in stored(directory / "primes.tracker").values())


def assert_tried_once(directory: Path, starts: list[int]) -> None:
    entries = assert_all_done(directory, starts)
    assert {entry["_tries"] for entry in entries.values()} == {1}


def test_a_job_of_an_array_whose_time_is_up_gives_its_tasks_back_and_queues_again(slurm: Slurm, tmp_path: Path) -> None:
    """What `--signal=B:TERM@60` sends, to the shell of the script alone, is sent here when some have begun."""
    starts = add_more(tmp_path, 200)
    job = submit(slurm, "slurm_array.sbatch", tmp_path)
    wait_for_workers(tmp_path, 8)
    slurm("scancel", "--batch", "--signal=TERM", f"{job}_2", f"{job}_4")
    wait_until(lambda: [*slurm.states(job).values()].count("PENDING") == 2, "they do not queue again")
    assert claims(tmp_path) <= 4
    slurm("scontrol", "update", f"JobId={job}_2,{job}_4", SOON)
    wait_until(lambda: not slurm.states(job), "some do not end")
    assert_tried_once(tmp_path, starts)
    assert sorted(stored(tmp_path / "begins.pod").values()) == [1, 1, 2, 2]


def test_a_job_of_an_array_that_is_cancelled_gives_its_tasks_back_and_does_not_queue_again(
    slurm: Slurm, tmp_path: Path
) -> None:
    """All of its processes get SIGTERM then, and the program another one from the script."""
    starts = add_more(tmp_path, 200)
    job = submit(slurm, "slurm_array.sbatch", tmp_path)
    wait_for_workers(tmp_path, 8)
    slurm("scancel", f"{job}_1")
    wait_until(lambda: not slurm.states(job), "some do not end, or one queues again")
    assert_tried_once(tmp_path, starts)
    assert [*stored(tmp_path / "begins.pod").values()] == [1, 1, 1, 1]


def test_the_ranks_of_a_job_whose_time_is_up_give_their_tasks_back_and_it_queues_again(
    slurm: Slurm, tmp_path: Path
) -> None:
    """What `--signal=TERM@60` sends, to all but the shell of the script, is sent here when they have begun."""
    starts = add_more(tmp_path, 200)
    job = submit(slurm, "slurm_srun.sbatch", tmp_path)
    wait_for_workers(tmp_path, 8)
    slurm("scancel", "--signal=TERM", job)
    wait_until(lambda: slurm.states(job) == {job: "PENDING"}, "it does not queue again")
    assert claims(tmp_path) == 0
    slurm("scontrol", "update", f"JobId={job}", SOON)
    wait_until(lambda: not slurm.states(job), "it does not end")
    assert_tried_once(tmp_path, starts)
    assert [*stored(tmp_path / "begins.pod").values()] == [2, 2, 2, 2]
