"""What runs first inside the Linux of `nfs`: it sets up the server and the clients, and runs the suite on the two mounts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from stress.rigs import nfs

_ADDRESS = "10.61.0.{}"
_EXPORT = "/srv/x"
_SECONDS = 10  # that the server waits for clients of a life before, and for a silent one: no less is taken


def _do(*command: str, check: bool = True) -> None:
    subprocess.run(command, check=check, stdout=subprocess.DEVNULL)


def _write(path: str, text: object) -> None:
    Path(path).write_text(f"{text}\n")


def _file_systems(job: str) -> None:
    _do("mount", "-t", "proc", "proc", "/proc")
    _do("mount", "-t", "sysfs", "sys", "/sys")
    for path in ("/run", "/var/lib/nfs", "/mnt", "/srv", "/var/tmp"):
        _do("mount", "-t", "tmpfs", "none", path)
    for path, kind in (("/dev/pts", "devpts"), ("/dev/shm", "tmpfs")):
        Path(path).mkdir(exist_ok=True)
        _do("mount", "-t", kind, "none", path)
    _write("/proc/sys/kernel/modprobe", f"{job}/modprobe")
    for module in ("nfsd", "nfs", "nfsv3", "nfsv4", "ext4", "loop", "veth", "bridge"):
        _do(f"{job}/modprobe", module)


def _serve() -> None:
    """Export a disk."""
    image = "/mnt/image"
    Path(_EXPORT).mkdir()
    _do("truncate", "--size=1500M", image)
    _do("mkfs.ext4", "-q", "-F", image)
    _do("mount", "-o", "loop", image, _EXPORT)
    _state("/var/lib/nfs")
    for name in ("v4recovery", "rpc_pipefs"):
        Path("/var/lib/nfs", name).mkdir()
    for name in ("etab", "rmtab"):
        Path("/var/lib/nfs", name).touch()
    _do("ip", "link", "set", "lo", "up")
    _do("hostname", "server")
    _do("mount", "-t", "nfsd", "none", "/proc/fs/nfsd")
    _do("mount", "-t", "rpc_pipefs", "none", "/var/lib/nfs/rpc_pipefs")
    _port_mapper()
    _do("ip", "link", "add", "bridge0", "type", "bridge")
    _do("ip", "address", "add", f"{_ADDRESS.format(1)}/24", "dev", "bridge0")
    _do("ip", "link", "set", "bridge0", "up")
    for file in ("fs/nfsd/nfsv4gracetime", "fs/nfsd/nfsv4leasetime", "sys/fs/nfs/nlm_grace_period"):
        _write(f"/proc/{file}", _SECONDS)
    _do("exportfs", "-o", "rw,no_root_squash,no_subtree_check,fsid=0,sync,insecure", f"*:{_EXPORT}")
    _do("rpc.mountd")
    _do("rpc.nfsd", "4")


def _state(path: str) -> None:
    for name in ("sm", "sm.bak"):
        Path(path, name).mkdir(parents=True, exist_ok=True)


def _port_mapper() -> None:
    """Start what tells, to this network alone, where lockd listens: a client would find the server's by its socket in /run."""
    Path("/run/rpcbind").mkdir(exist_ok=True)
    _do("rpcbind")
    Path("/run/rpcbind.sock").unlink(missing_ok=True)
    _do("rpc.statd", "--no-notify")


def _network(process: int) -> Path:
    return Path(f"/proc/{process}/ns/net")


def _mount(number: int, options: str) -> str:
    """Start a client, and return its mount as `stress.hosts` takes it."""
    mount = Path(f"/mnt/client{number}")
    mount.mkdir()
    holder = subprocess.Popen(
        ("unshare", "--net", "--uts", "sleep", "infinity")
    )  # of its namespaces, as long as all runs
    while _network(holder.pid).samefile(_network(os.getpid())):
        time.sleep(0.01)
    on = ("nsenter", f"--target={holder.pid}", "--net", "--uts")
    inner, outer = f"inner{number}", f"outer{number}"
    _do("ip", "link", "add", outer, "type", "veth", "peer", "name", inner)
    _do("ip", "link", "set", outer, "master", "bridge0", "up")
    _do("ip", "link", "set", inner, "netns", str(holder.pid))
    _do(*on, "hostname", f"client{number}")
    _do(*on, "ip", "link", "set", "lo", "up")
    _do(*on, "ip", "address", "add", f"{_ADDRESS.format(10 + number)}/24", "dev", inner)
    _do(*on, "ip", "link", "set", inner, "up")
    # lockd of version 3 wants a port mapper and a statd of its client's network, and these a /run of their own
    _do(*on, "unshare", "--mount", sys.executable, "-m", "stress.rigs.inside", "port mapper")
    source = f"{_ADDRESS.format(1)}:{_EXPORT if 'vers=3' in options else '/'}"
    _do(*on, "mount", "-t", "nfs", "-o", options, source, str(mount))
    return f"{mount}@{holder.pid}"


def _private_port_mapper() -> None:
    for path in ("/run", "/var/lib/nfs"):
        _do("mount", "-t", "tmpfs", "none", path)
    _state("/var/lib/nfs")
    _port_mapper()


def main(job: str, options: str, arguments: Sequence[str]) -> int:
    """Set everything up, and run the suite; return its exit status."""
    try:
        _file_systems(job)
        _serve()
        mounts = [_mount(number, options) for number in (1, 2)]
    except Exception:  # whatever it is, the console has to have it before this Linux ends
        traceback.print_exc()
        return nfs.NOT_UP
    nfs.begin()
    return subprocess.run(
        [sys.executable, "-m", "stress.rigs.suite", *arguments, "--mounts", *mounts], check=False
    ).returncode


if __name__ == "__main__":
    if sys.argv[1] == "port mapper":
        _private_port_mapper()
    else:
        nfs.end(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
