"""Start a shared file system, mount it twice, for two hosts, and try PODs and trackers on it from both sides at once.

    python -m stress.rigs nfs4.2            real NFS, of these versions: nfs4.2 nfs4.0 nfs3
    python -m stress.rigs gluster moosefs   others that keep what they promise
    python -m stress.rigs nfs3-nolock gluster-default sshfs
                                            mounts that do not: a POD has to say so
    python -m stress.rigs local             one directory of this machine, as seen by two hosts

It takes root, for all but `local`. What Debian packages each wants, it says where they are not there.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from typing import NamedTuple

from stress.rigs import fuse, nfs
from stress.rigs.suite import COHERENT, INCOHERENT

_UP = 200  # seconds that a rig may take to come up and go down; NFS 3 takes one and a half minutes to be mounted
_MORE = 4  # times as long as asked for may the suite take, which ends rounds that have begun


class Rig(NamedTuple):
    """A file system: the options of an NFS mount, or none; what it promises; its Debian packages."""

    nfs: str
    promise: str
    packages: tuple[str, ...]


_GLUSTER = ("glusterfs-server", "glusterfs-client")
RIGS = {
    "nfs4.2": Rig("vers=4.2", COHERENT, nfs.PACKAGES),
    "nfs4.0": Rig("vers=4.0", COHERENT, nfs.PACKAGES),
    "nfs3": Rig("vers=3", COHERENT, nfs.PACKAGES),
    "nfs3-nolock": Rig("vers=3,nolock", INCOHERENT, nfs.PACKAGES),
    "gluster": Rig("", COHERENT, _GLUSTER),
    "gluster-default": Rig("", INCOHERENT, _GLUSTER),
    "moosefs": Rig("", COHERENT, ("moosefs-master", "moosefs-chunkserver", "moosefs-client", "iproute2")),
    "sshfs": Rig("", INCOHERENT, ("sshfs", "openssh-sftp-server")),
    "local": Rig("", COHERENT, ()),
}


def _try(name: str, seconds: float, *, quick: bool) -> int:
    """Run the suite on a rig; return its exit status."""
    rig = RIGS[name]
    arguments = [rig.promise, f"--seconds={seconds:g}", *(["--quick"] if quick else [])]
    if rig.nfs:
        for program in nfs.PROGRAMS:
            if not shutil.which(program):
                raise fuse.NotUpError(f"{program} is not installed")
        return nfs.run(rig.nfs, arguments, _UP + _MORE * seconds)
    with fuse.mounted(name) as mounts:
        command = [sys.executable, "-m", "stress.rigs.suite", *arguments, "--mounts", *mounts]
        return subprocess.run(command, check=False).returncode


def main() -> int:
    """Run the command; return its exit status: 0, 1 if something is wrong, 2 if a rig cannot be had."""
    parser = argparse.ArgumentParser(
        prog="python -m stress.rigs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rigs", nargs="+", metavar="RIG", choices=RIGS, help=f"of {', '.join(RIGS)}")
    parser.add_argument("--seconds", type=float, metavar="S", help="of each suite (default 120, with --quick 20)")
    parser.add_argument("--quick", action="store_true", help="a sample of all")
    options = parser.parse_args()
    seconds = options.seconds or (20 if options.quick else 120)
    status = 0
    for name in options.rigs:
        print(f"# {name}: {RIGS[name].promise}", flush=True)
        start = time.monotonic()
        try:
            status = max(status, 1 if _try(name, seconds, quick=options.quick) else 0)
        except (fuse.NotUpError, RuntimeError) as error:
            told = f"; it takes the packages {' '.join(RIGS[name].packages)}, and root" if RIGS[name].packages else ""
            print(f"{name} cannot be had here: {error}{told}", flush=True)
            status = 2
        print(f"# {name}: {time.monotonic() - start:.0f} s", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
