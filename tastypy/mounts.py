"""What the system says about the mount that a directory lies on, and what that means for a POD there.

Only read: from `/proc`, which tells the mount of an open descriptor exactly, over bind mounts, automounts and subvolumes.
What stands here about each file system was measured, or is in its own manual. Whether a given mount keeps what its options
promise, only `tastypy doctor --peer` can tell.
"""

from __future__ import annotations

import errno
import os
import re
from typing import NamedTuple

from tastypy.errors import IncoherentFileSystemError

# File systems that show every process of this machine the same bytes at once.
LOCAL = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "reiserfs", "tmpfs", "xfs", "zfs"}
)
_NFS = frozenset({"nfs", "nfs4"})
_SMB = frozenset({"cifs", "smb3"})
# FUSE file systems that give every lock to everybody, or keep it to the one host, and say nothing
_LOCKLESS = frozenset({"fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.goofys", "fuse.curlftpfs"})
_NETWORK = (
    _NFS
    | _SMB
    | _LOCKLESS
    | frozenset(
        {"9p", "afs", "beegfs", "ceph", "fuse.ceph", "fuse.ceph-fuse", "fuse.glusterfs", "fuse.juicefs", "fuse.moosefs"}
        | {"gfs2", "gpfs", "lustre", "ocfs2", "virtiofs"}
    )
)
GLUSTER = (
    "switch the caches of its clients off: `gluster volume set VOLUME performance.OPTION off` for each OPTION of "
    "quick-read, io-cache, stat-prefetch, read-ahead, readdir-ahead, write-behind, flush-behind, open-behind, "
    "parallel-readdir, nl-cache and client-io-threads, and mount it with "
    "-o attribute-timeout=0,entry-timeout=0,negative-timeout=0"
)
ELSEWHERE = "put the POD on another file system: a local one, or for several hosts NFS 4"
_ESCAPE = re.compile(r"\\([0-7]{3})")  # a blank, tab, newline, backslash or # in a field


class Mount(NamedTuple):
    """A mount: where, of which type, from what, and its options."""

    point: str
    type: str
    source: str
    options: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Whether only this host sees what is there: local, network or unknown."""
        if self.type in LOCAL:
            return "local"
        return "network" if self.type in _NETWORK or _is_moosefs(self) else "unknown"

    @property
    def file_system(self) -> str:
        """The type by the name that its users know."""
        if self.type in _NFS:
            return f"NFS {self.option('vers') or ''}".rstrip()
        if _is_moosefs(self):
            return "MooseFS"
        return {"fuse.glusterfs": "GlusterFS", "fuse.sshfs": "sshfs", "lustre": "Lustre"}.get(self.type, self.type)

    def option(self, name: str) -> str | None:
        """Return the value of an option, an empty one if it has none, or None if it is not set."""
        for option in self.options:
            key, _, value = option.partition("=")
            if key == name:
                return value
        return None

    @property
    def name(self) -> str:
        """Where it is, and what."""
        return f"{self.point} ({self.file_system} from {self.source})"

    def __str__(self) -> str:
        return f"{self.name[:-1]}; {','.join(self.options)})"


class Remark(NamedTuple):
    """What an option or a type means for a POD.

    Attributes:
        bad: whether PODs that several hosts share do not work so.
        text: the meaning.
        remedy: what to change; empty where nothing must be.
    """

    bad: bool
    text: str
    remedy: str = ""


def parse(line: str) -> tuple[int, Mount]:
    r"""Return the id of a mount and the mount, from a line of `/proc/self/mountinfo`.

    >>> parse("48 22 0:29 / /mnt/my\\040pods rw,relatime - nfs4 server:/ rw,vers=4.2,local_lock=none")
    (48, Mount(point='/mnt/my pods', type='nfs4', source='server:/', options=('rw', 'relatime', 'vers=4.2', 'local_lock=none')))
    """
    mount, _, of_file_system = line.rstrip("\n").partition(" - ")
    number, _, _, _, point, options = mount.split(" ")[:6]
    kind, source, *more = of_file_system.split(" ")
    # both lists have rw or ro, and may have more in common
    both = dict.fromkeys(options.split(",") + (more[0].split(",") if more else []))
    return int(number), Mount(_plain(point), kind, _plain(source), tuple(both))


def _plain(field: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)


def mount_of(descriptor: int) -> Mount | None:
    """Return the mount that an open file or directory lies on, or None if the system does not tell."""
    try:
        wanted = _mount_id(descriptor)
        for line in _lines("/proc/self/mountinfo"):
            if line.startswith(wanted):
                return parse(line)[1]
    except (OSError, ValueError):
        pass
    return None


def mount_at(path: str) -> Mount | None:
    """Return the mount that a file or directory lies on, or None if the system does not tell."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return mount_of(descriptor)
    finally:
        os.close(descriptor)


def advice(path: str) -> str:
    """Return a sentence or two for an error about a file there: what it lies on, and what to change."""
    mount = mount_at(path)
    if mount is None:
        return f"{ELSEWHERE[0].upper()}{ELSEWHERE[1:]}"
    if mount.kind == "local":
        return f"It lies on {mount.name}"
    what = remedy(mount)
    return f"It lies on {mount.name}. {what[0].upper()}{what[1:]}"


def incoherent(path: str, what: str, number: int | None = None) -> IncoherentFileSystemError:
    """Return the error for what cannot be where every process sees, under the lock of the directory, what the others wrote.

    `number` is the errno of the system call that failed, if one did.
    """
    message = (
        f"{path}: {what}: this file system does not show one process's writes to another that holds the lock, or gives it to "
        f"both (or files were put back by hand). Nothing more is written. {advice(path)}; `tastypy doctor {path}` tells more"
    )
    return IncoherentFileSystemError(message, path, number or errno.EIO)


def _mount_id(descriptor: int) -> str:
    """Return what the line of the mount begins with."""
    for fact in _lines(f"/proc/self/fdinfo/{descriptor}"):
        name, _, value = fact.partition(":")
        if name == "mnt_id":
            return f"{value.strip()} "
    raise ValueError(descriptor)


def _lines(path: str) -> list[str]:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.readlines()


def _is_moosefs(mount: Mount) -> bool:
    return mount.type == "fuse.moosefs" or (mount.type == "fuse" and mount.source.startswith("mfs#"))


def remarks(mount: Mount) -> list[Remark]:
    """Return what the mount's type and options mean for a POD, what is bad first."""
    found = [Remark(True, "it is mounted read-only: a POD can be read there, not changed", "mount it with rw")]
    if "ro" not in mount.options:
        found = []
    if mount.type in _NFS:
        found += _remarks_on_nfs(mount)
    elif mount.type in _LOCKLESS:
        text = f"{mount.file_system} gives each host every lock, whoever else has it"
        found.append(Remark(True, text, remedy(mount)))
    elif mount.type == "fuse.glusterfs":
        text = (
            "GlusterFS as it is installed shows old data under a lock; whether its caches are off cannot be seen here"
        )
        found.append(Remark(False, text, remedy(mount)))
    elif mount.type == "lustre" and mount.option("flock") is None:
        what = (
            "keeps the lock of one host from no other (localflock)"
            if mount.option("localflock") is not None
            else "has no flock"
        )
        found.append(Remark(True, f"Lustre so mounted {what}", remedy(mount)))
    elif mount.type in _SMB and mount.option("nobrl") is not None:
        found.append(Remark(True, "nobrl keeps locks within each host", remedy(mount)))
    elif mount.type in _SMB and mount.option("cache") == "loose":
        found.append(Remark(True, "cache=loose shows old data under a lock", remedy(mount)))
    elif mount.type in ("gfs2", "ocfs2") and mount.option("localflocks") is not None:
        found.append(Remark(True, "localflocks keeps locks within each host", remedy(mount)))
    elif mount.type == "beegfs":
        found.append(
            Remark(False, "BeeGFS keeps flock within each host unless its clients are told otherwise", remedy(mount))
        )
    elif mount.type in ("9p", "virtiofs"):
        found.append(
            Remark(
                False, f"{mount.type} keeps flock within each guest unless its server was told otherwise", remedy(mount)
            )
        )
    return sorted(found, key=lambda remark: not remark.bad)


def _remarks_on_nfs(mount: Mount) -> list[Remark]:
    found = []
    local = mount.option("local_lock")
    if mount.option("nolock") is not None or local in ("all", "flock"):
        name = "nolock" if mount.option("nolock") is not None else f"local_lock={local}"
        found.append(
            Remark(True, f"{name} keeps flock within each host, so that two hosts get one lock", remedy(mount))
        )
    if mount.option("nocto") is not None:
        found.append(
            Remark(
                True,
                "nocto lets old data be seen under a lock: a file is not looked at anew when it is opened",
                "mount it without nocto",
            )
        )
    version = mount.option("vers") or ""
    if version.startswith("3") and not found:
        text = "version 3 takes its locks from lockd and statd, which must run, and be reached, on the server and on each client"
        found.append(Remark(False, text, "if you can choose, mount it with vers=4.2, which needs neither"))
    if mount.option("soft") is not None or mount.option("softerr") is not None:
        text = "with soft, a change fails, with an error, while the server is slow or away for long"
        found.append(Remark(False, text, "mount it with hard, to wait instead"))
    return found


def remedy(mount: Mount) -> str:
    """Return what to change on a mount where locks or freshness fail."""
    if mount.type in _NFS:
        return "mount it with vers=4.2, and without nolock, local_lock= or nocto, on every host"
    if mount.type == "fuse.glusterfs":
        return GLUSTER
    if mount.type == "lustre":
        return "mount it with -o flock on every host"
    if mount.type in _SMB:
        return "mount it without nobrl and with cache=strict, or better, export it by NFS 4"
    if mount.type in ("gfs2", "ocfs2"):
        return "mount it without localflocks on every host"
    if mount.type == "beegfs":
        return "set tuneUseGlobalFileLocks = true in beegfs-client.conf on every host"
    if mount.type == "virtiofs":
        return "start virtiofsd with its remote locks on and cache=none, or better, mount by NFS 4 in the guest"
    if mount.type in _LOCKLESS:
        return f"nothing makes it usable from several hosts: {ELSEWHERE}"
    return ELSEWHERE
