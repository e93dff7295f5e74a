"""What the system says about a mount, and what that means for a POD there."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers import append, journal

from tastypy import POD, IncoherentFileSystemError, LocksUnsupportedError, mounts
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


# --- what PODs say about their mount


def lies_on(place: Mount | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "mount_of", lambda descriptor: place)


def test_a_pod_where_several_hosts_must_not_use_it_says_so_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lies_on(mount("nfs", "vers=3", "nolock"), monkeypatch)
    with POD[str, int](tmp_path / "my.pod") as pod:
        pod["a"] = 1
    (record,) = caplog.records
    for what in (
        str(tmp_path / "my.pod"),
        "/mnt (NFS 3 from server:/export",
        "nolock keeps flock within each host",
        "vers=4.2",
    ):
        assert what in record.getMessage()
    caplog.clear()
    POD[str, int](tmp_path / "my.pod", mode="r").close()  # a reader takes no lock
    lies_on(mount("nfs4", "vers=4.2"), monkeypatch)
    POD[str, int](tmp_path / "another.pod").close()
    lies_on(None, monkeypatch)
    POD[str, int](tmp_path / "a third.pod").close()
    assert caplog.records == []


def test_an_error_for_want_of_locks_names_the_mount_and_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, **_: Any) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("tastypy.lock.lock_descriptor", refuse)
    lies_on(mount("lustre"), monkeypatch)
    with pytest.raises(
        LocksUnsupportedError, match=r"It lies on /mnt \(Lustre from server:/export\)\. Mount it with -o flock"
    ):
        POD(tmp_path / "my.pod")
    lies_on(None, monkeypatch)
    with pytest.raises(LocksUnsupportedError, match="Put the POD on another file system"):
        POD(tmp_path / "another.pod")


def test_an_error_for_old_data_names_the_mount_and_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = POD[str, int](tmp_path / "my.pod")
    pod["a"] = 1
    append(journal(tmp_path / "my.pod"), journal(tmp_path / "my.pod").read_bytes().splitlines(keepends=True)[-1])
    lies_on(mount("fuse.glusterfs", source="server:volume"), monkeypatch)
    with pytest.raises(IncoherentFileSystemError) as caught:
        pod["b"] = 2
    for what in ("It lies on /mnt (GlusterFS from server:volume)", "performance.OPTION off", "tastypy doctor"):
        assert what in str(caught.value)


def test_what_is_wrong_on_a_local_file_system_is_not_the_mounts_fault(tmp_path: Path) -> None:
    lies = mounts.advice(str(tmp_path))
    found = of(tmp_path)
    assert found is not None
    if found.kind != "local":
        pytest.skip("the temporary directory is not on a local file system")
    assert lies == f"It lies on {found.name}"
    assert mounts.advice("/nonexistent").startswith("Put the POD on another file system")
