"""What the system says about a mount, and what that means for a POD there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tastypy import mounts
from tastypy.mounts import Mount


def mount(kind: str, *options: str, source: str = "server:/export") -> Mount:
    return Mount("/mnt", kind, source, ("rw", *options))


NFS = "rw,vers={version},rsize=262144,namlen=255,hard,proto=tcp,timeo=600,local_lock=none,addr=10.9.0.1"
LINES = [
    (
        "48 22 0:29 / /mnt/1 rw,relatime - nfs4 10.9.0.1:/ " + NFS.format(version="4.2"),
        ("/mnt/1", "nfs4", "NFS 4.2", "network"),
    ),
    (
        "48 22 0:29 / /mnt/1 rw,relatime - nfs 10.9.0.1:/srv " + NFS.format(version="3"),
        ("/mnt/1", "nfs", "NFS 3", "network"),
    ),
    (
        "45 27 0:39 / /mnt/two\\040words rw,nosuid - fuse mfs\\04310.77.0.1:9421 rw,user_id=0",
        ("/mnt/two words", "fuse", "MooseFS", "network"),
    ),
    (
        "44 27 0:39 / /mnt/1 rw shared:1 master:2 - fuse.glusterfs 127.0.0.1:rig rw,allow_other",
        ("/mnt/1", "fuse.glusterfs", "GlusterFS", "network"),
    ),
    ("26 1 254:0 / / rw - ext4 /dev/vda rw", ("/", "ext4", "ext4", "local")),
    ("26 1 0:9 / /mnt\\134 rw - fuse program rw", ("/mnt\\", "fuse", "fuse", "unknown")),
]


@pytest.mark.parametrize(("line", "facts"), LINES)
def test_a_line_of_the_system_is_understood(line: str, facts: tuple[str, str, str, str]) -> None:
    number, found = mounts.parse(line + "\n")
    assert number == int(line.split(maxsplit=1)[0])
    assert (found.point, found.type, found.file_system, found.kind) == facts


def test_the_options_of_mount_and_file_system_come_together_without_doubles() -> None:
    found = mounts.parse("48 22 0:29 / /mnt ro,relatime - nfs4 server:/ rw,relatime,vers=4.2")[1]
    assert found.options == ("ro", "relatime", "rw", "vers=4.2")
    assert (found.option("vers"), found.option("ro"), found.option("soft")) == ("4.2", "", None)


def test_the_mount_of_an_open_directory_is_that_which_the_system_has(tmp_path: Path) -> None:
    found = of(tmp_path)
    assert found is not None
    told = subprocess.run(["stat", "-c", "%m", tmp_path], check=True, capture_output=True, text=True).stdout.strip()
    assert found.point == told


def of(path: Path) -> Mount | None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return mounts.mount_of(descriptor)
    finally:
        os.close(descriptor)


def test_a_mount_with_a_blank_in_its_name_is_found_below_another_mount(tmp_path: Path) -> None:
    place = tmp_path / "two words"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "t", place], check=False).returncode != 0:
        pytest.skip("mounting takes root")
    try:
        found = of(place)
        assert found is not None
        assert (found.point, found.type, found.kind) == (str(place), "tmpfs", "local")
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_closed_descriptor_has_no_mount() -> None:
    assert mounts.mount_of(1_000_000) is None


@pytest.mark.parametrize(
    ("place", "text", "remedy"),
    [
        (mount("nfs", "vers=3", "nolock", "local_lock=all"), "nolock", "vers=4.2"),
        (mount("nfs", "vers=3", "local_lock=flock"), "local_lock=flock", "vers=4.2"),
        (mount("nfs4", "vers=4.2", "nocto", "local_lock=none"), "nocto", "without nocto"),
        (mount("fuse.sshfs"), "sshfs", "another file system"),
        (mount("lustre"), "no flock", "-o flock"),
        (mount("lustre", "localflock"), "localflock", "-o flock"),
        (mount("cifs", "nobrl"), "nobrl", "without nobrl"),
        (mount("smb3", "cache=loose"), "cache=loose", "cache=strict"),
        (mount("gfs2", "localflocks"), "localflocks", "without localflocks"),
        (Mount("/mnt", "ext4", "/dev/sda1", ("ro",)), "read-only", "rw"),
    ],
)
def test_what_makes_a_mount_unfit_for_pods_is_named_with_what_to_change(place: Mount, text: str, remedy: str) -> None:
    remark = mounts.remarks(place)[0]
    assert remark.bad
    assert text in remark.text
    assert remedy in remark.remedy


@pytest.mark.parametrize(
    ("place", "texts"),
    [
        (mount("ext4"), []),
        (mount("nfs4", "vers=4.2", "hard", "local_lock=none"), []),
        (mount("nfs4", "vers=4.2", "local_lock=posix"), []),  # that is for the other kind of locks
        (mount("lustre", "flock"), []),
        (mount("cifs", "cache=strict"), []),
        (mount("fuse", source="mfs#10.77.0.1:9421"), []),
        (mount("nfs", "vers=3", "local_lock=none"), ["lockd"]),
        (mount("nfs4", "vers=4.0", "soft"), ["soft"]),
        (mount("fuse.glusterfs"), ["GlusterFS"]),
        (mount("beegfs"), ["BeeGFS"]),
        (mount("virtiofs"), ["virtiofs"]),
    ],
)
def test_what_may_be_well_is_not_called_bad(place: Mount, texts: list[str]) -> None:
    remarks = mounts.remarks(place)
    assert not any(remark.bad for remark in remarks)
    assert len(remarks) == len(texts)
    assert all(text in remark.text and remark.remedy for text, remark in zip(texts, remarks, strict=True))


def test_glusterfs_is_told_every_cache_that_has_to_go() -> None:
    remedy = mounts.remedy(mount("fuse.glusterfs"))
    for word in ("quick-read", "io-cache", "write-behind", "open-behind", "attribute-timeout=0", "entry-timeout=0"):
        assert word in remedy
