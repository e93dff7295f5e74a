"""Real shared file systems that are programs, on one machine: each is started here, and mounted by two clients with caches of their own."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_PATIENCE = 30  # seconds for something to come up
_CACHES = (  # of GlusterFS's clients, which do not know what the others do
    "quick-read",
    "io-cache",
    "stat-prefetch",
    "read-ahead",
    "readdir-ahead",
    "write-behind",
    "flush-behind",
    "open-behind",
    "parallel-readdir",
    "nl-cache",
    "client-io-threads",
)
_NO_KERNEL_CACHE = ("--attribute-timeout=0", "--entry-timeout=0", "--negative-timeout=0", "--auto-invalidation=on")
_MOOSE = "10.62.0.1"  # its master refuses the loopback address: it gets a network of its own


class NotUpError(Exception):
    """The file system cannot be had here, for this reason."""


def _do(*command: object) -> str:
    """Run a command, and return what it prints.

    Raises:
        NotUpError: it fails.
    """
    words = [*map(str, command)]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120)
    except FileNotFoundError:
        raise NotUpError(f"{words[0]} is not installed") from None
    if done.returncode:
        raise NotUpError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip() or done.returncode}")
    return done.stdout


def _wait(what: str, is_there: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE
    while not is_there():
        if time.monotonic() > end:
            raise NotUpError(f"{what} does not come up in {_PATIENCE} s")
        time.sleep(0.1)


def _works(*command: object) -> bool:
    try:
        _do(*command)
    except NotUpError:
        return False
    return True


def _unmount(mount: Path) -> None:
    with suppress(NotUpError):
        _do("umount", "--lazy", mount)


@contextmanager
def _mounted(mount: Path, *command: object) -> Iterator[str]:
    """Run the command that mounts there."""
    mount.mkdir()
    _do(*command)
    try:
        _wait(str(mount), lambda: os.path.ismount(mount))
        yield str(mount)
    finally:
        _unmount(mount)


@contextmanager
def _started(*command: object) -> Iterator[None]:
    try:
        process = subprocess.Popen(
            [*map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise NotUpError(f"{command[0]} is not installed") from None
    try:
        yield
    finally:
        process.terminate()
        process.wait(_PATIENCE)


@contextmanager
def _gluster(base: Path, *, coherent: bool) -> Iterator[list[str]]:
    volume, brick = f"tastypy{os.getpid()}", base / "brick"
    configuration = base / "glusterd.vol"
    for name in ("work", "run", "brick"):
        (base / name).mkdir()
    options = {
        "working-directory": base / "work",
        "run-directory": base / "run",
        "transport-type": "socket",
        "transport.socket.bind-address": "127.0.0.1",
    }
    lines = ["volume management", "type mgmt/glusterd", *(f"option {name} {value}" for name, value in options.items())]
    configuration.write_text("\n".join([*lines, "end-volume", ""]))
    gluster = ("gluster", "--mode=script", "volume")
    with ExitStack() as stack:
        stack.enter_context(_started("glusterd", "--no-daemon", f"--volfile={configuration}", f"--log-file={base}/log"))
        _wait("glusterd", lambda: _works(*gluster, "list"))
        _do(*gluster, "create", volume, f"{os.uname().nodename}:{brick}", "force")
        stack.callback(_works, *gluster, "delete", volume)
        for cache in _CACHES if coherent else ():
            _do(*gluster, "set", volume, f"performance.{cache}", "off")
        _do(*gluster, "start", volume)
        stack.callback(_works, *gluster, "stop", volume, "force")
        client = ("glusterfs", "--volfile-server=127.0.0.1", f"--volfile-id={volume}", f"--log-file={base}/client.log")
        flags = _NO_KERNEL_CACHE if coherent else ()
        yield [stack.enter_context(_mounted(base / name, *client, *flags, base / name)) for name in ("1", "2")]


@contextmanager
def _moose(base: Path) -> Iterator[list[str]]:
    network = f"tastypy{os.getpid()}"
    files = _do("dpkg", "--listfiles", "moosefs-master").split()
    empty = next(file for file in files if file.endswith("metadata.mfs.empty"))
    for name in ("master", "chunks", "disk"):
        (base / name).mkdir()
    (base / "master" / "metadata.mfs").write_bytes(Path(empty).read_bytes())
    (base / "exports").write_text(f"{_MOOSE}/32 / rw,alldirs,admin,maproot=0:0\n")
    (base / "disks").write_text(f"{base}/disk\n")
    everybody = {"WORKING_USER": "nobody", "WORKING_GROUP": "nogroup"}
    master = everybody | {
        "DATA_PATH": f"{base}/master",
        "EXPORTS_FILENAME": f"{base}/exports",
        "TOPOLOGY_FILENAME": "/dev/null",
        "MATOML_LISTEN_HOST": _MOOSE,
        "MATOCS_LISTEN_HOST": _MOOSE,
        "MATOCL_LISTEN_HOST": _MOOSE,
    }
    chunks = everybody | {
        "DATA_PATH": f"{base}/chunks",
        "HDD_CONF_FILENAME": f"{base}/disks",
        "HDD_LEAVE_SPACE_DEFAULT": "64MiB",
        "MASTER_HOST": _MOOSE,
        "CSSERV_LISTEN_HOST": _MOOSE,
        "BIND_HOST": _MOOSE,
    }
    for name, settings in (("master.cfg", master), ("chunks.cfg", chunks)):
        (base / name).write_text("".join(f"{setting}={value}\n" for setting, value in settings.items()))
    base.chmod(0o755)
    _do("chown", "--recursive", "nobody:nogroup", *(base / name for name in ("master", "chunks", "disk")))
    with ExitStack() as stack:
        _do("ip", "netns", "add", network)
        stack.callback(_works, "ip", "netns", "delete", network)
        on = ("nsenter", f"--net=/var/run/netns/{network}")
        _do(*on, "ip", "link", "set", "lo", "up")
        _do(*on, "ip", "address", "add", f"{_MOOSE}/32", "dev", "lo")
        for program, name in (("mfsmaster", "master.cfg"), ("mfschunkserver", "chunks.cfg")):
            _do(*on, program, "-c", base / name, "start")
            stack.callback(_works, *on, program, "-c", base / name, "stop")
        time.sleep(2)  # a chunk server that the master has not heard of yet has no room
        yield [
            stack.enter_context(_mounted(base / name, *on, "mfsmount", base / name, "-H", _MOOSE))
            for name in ("1", "2")
        ]


@contextmanager
def _sshfs(base: Path) -> Iterator[list[str]]:
    (base / "files").mkdir()
    connect = base / "connect"  # no daemon and no network: it speaks to the file server through a pipe
    connect.write_text("#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n")
    connect.chmod(0o755)
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                _mounted(base / name, "sshfs", "-o", f"ssh_command={connect}", f"here:{base}/files", base / name)
            )
            for name in ("1", "2")
        ]


@contextmanager
def _local(base: Path) -> Iterator[list[str]]:
    (base / "files").mkdir()
    yield [str(base / "files")] * 2


@contextmanager
def mounted(kind: str) -> Iterator[Sequence[str]]:
    """Start a file system of this kind, and give the paths of its two mounts.

    Raises:
        NotUpError: it cannot be had here.
    """
    with tempfile.TemporaryDirectory(prefix="tastypy-rig-") as text, ExitStack() as stack:
        base = Path(text)
        match kind:
            case "gluster" | "gluster-default":
                yield stack.enter_context(_gluster(base, coherent=kind == "gluster"))
            case "moosefs":
                yield stack.enter_context(_moose(base))
            case "sshfs":
                yield stack.enter_context(_sshfs(base))
            case _:
                yield stack.enter_context(_local(base))
