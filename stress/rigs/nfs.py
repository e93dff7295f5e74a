"""Real NFS on one machine: a server and two clients in a Linux that runs as a program (User Mode Linux).

Each client has a network, a host name and caches of its own, and the server's kernel is the one that boots here: nothing is
asked of the machine but the packages below. The machine's files are visible inside, read-only; what is written inside goes to
memory, or to the job's directory, which is mounted there a second time to be written to.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("user-mode-linux", "nfs-kernel-server", "nfs-common", "kmod", "iproute2", "e2fsprogs")
PROGRAMS = ("linux.uml", "exportfs", "mount.nfs", "modprobe", "ip", "mkfs.ext4")

_MODULES = "/usr/lib/uml/modules"
_SETTINGS = ("mem=2G", "rootfstype=hostfs", "rootflags=/", "quiet", "con=null", "con0=null,fd:1", "ssl=null", "panic=1")
NOT_UP = 125  # the status of a rig that did not come up
_BEGIN, _END = "-- the rig is up", "-- the rig ends with"


def run(options: str, arguments: Sequence[str], seconds: float) -> int:
    """Run `python -m stress.rigs.suite` with the arguments on two mounts with these options; return its exit status.

    Raises:
        RuntimeError: it did not come up, or did not end within so many seconds.
    """
    with tempfile.TemporaryDirectory(prefix="tastypy-nfs-") as text:
        job = Path(text)
        _write_job(job, options, arguments)
        status = None
        lines: list[str] = []
        with subprocess.Popen(
            ("timeout", "--kill-after=5", str(seconds), "linux.uml", "ro", f"init={job}/init", *_SETTINGS),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "TMPDIR": "/dev/shm"},  # its memory
        ) as process:
            shown = False
            for line in process.stdout or ():
                told = line.rstrip()
                lines.append(told)
                if told.startswith(_END):
                    status = int(told.removeprefix(_END))
                    shown = False
                if shown:
                    print(told, flush=True)
                shown = shown or told == _BEGIN
        if status in (None, NOT_UP):
            told = "\n".join(lines[-40:])
            message = f"the rig did not come up, or not to its end in {seconds:.0f} s; the last of its console:\n{told}"
            raise RuntimeError(message)
        return status or 0


def _write_job(job: Path, options: str, arguments: Sequence[str]) -> None:
    (job / "modules").joinpath("lib").mkdir(parents=True)
    (job / "modules" / "lib" / "modules").symlink_to(_MODULES)
    modprobe = job / "modprobe"
    modprobe.write_text(f'#!/bin/sh\nexec /sbin/modprobe -d {job}/modules "$@"\n')
    inside = [sys.executable, "-m", "stress.rigs.inside", str(job), options, *arguments]
    init = job / "init"
    init.write_text(
        f"#!/bin/sh\nexport PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8\n"
        f"export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TMPDIR=/dev/shm\n"
        f"cd {shlex.quote(str(Path.cwd()))}\n{shlex.join(inside)}\n"
        f"echo o >/proc/sysrq-trigger\nsleep 5\n"
    )
    for script in (modprobe, init):
        script.chmod(0o755)


def begin() -> None:
    """Say, inside, that what is printed from now on is the suite's."""
    print(_BEGIN, flush=True)


def end(status: int) -> None:
    """Say, inside, how it ended."""
    print(_END, status, flush=True)
