"""Small file systems, ext4 and tmpfs, and what fills them up."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stress.disks import NoDiskError, disk, run

_SIZE = 4 << 20  # bytes of a file system
_BALLAST = 400_000
_ROOM = 100_000  # bytes that are enough to go on


@contextmanager
def small_disk(place: Path, kind: str) -> Iterator[Path]:
    """Mount a new file system of 4 MB of the kind "ext4", "inodes" (ext4 with few of them) or "tmpfs" below `place`.

    Raises:
        NoDiskError: that cannot be done here.
    """
    place.mkdir(parents=True)
    if kind == "tmpfs":
        if os.geteuid():
            raise NoDiskError("mounting takes root")
        mounted = place / kind
        mounted.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=0755", "tmpfs", mounted)
        try:
            yield mounted
        finally:
            run("umount", "-l", mounted)
    else:
        with disk(place, "ext4", _SIZE, ("-m", 0, *(("-N", 48) if kind == "inodes" else ()))) as made:
            yield made.path


class Filler:
    """What takes up a disk: one file with its bytes, and empty ones with its inodes.

    Attributes:
        spent: the ballast is gone. Each fold that fails lets the journal grow, and at last two of them fill a disk as small
            as this by themselves; then, as the user would, something else is removed.
    """

    def __init__(self, disk: Path) -> None:
        self._place = disk / "filler"
        self._place.mkdir()  # now, since on a full disk it could not be
        self._bytes = self._place / "bytes"
        self._bytes.touch()
        self._ballast = self._place / "ballast"
        self._ballast.write_bytes(b"x" * _BALLAST)
        self._inodes = 0
        self.spent = False

    def take_bytes(self, leave: int = 0) -> None:
        """Take every byte that is free, but for `leave`."""
        with self._bytes.open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 10, 1):
                with _until_full():
                    while True:
                        file.write(b"x" * size)
            if leave:
                os.ftruncate(file.fileno(), max(file.tell() - leave, 0))

    def take_inodes(self) -> None:
        """Take every inode that is free."""
        with _until_full():
            while True:
                (self._place / str(self._inodes)).touch(exist_ok=False)
                self._inodes += 1

    def free(self) -> None:
        """Give everything back."""
        os.truncate(self._bytes, 0)
        for number in range(self._inodes):
            (self._place / str(number)).unlink()
        self._inodes = 0
        here = os.statvfs(self._place)
        if here.f_bavail * here.f_frsize < _ROOM:
            os.truncate(self._ballast, 0)
            self.spent = True


@contextmanager
def _until_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
