"""Small file systems that are really full: ext4 through a loop device, and tmpfs. They take root."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PATIENCE = 60  # seconds that a command may take
_SIZE = 4 << 20  # bytes of a file system


class NoDiskError(Exception):
    """No file system can be made and mounted here; it says why."""


def _run(*command: object) -> None:
    try:
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except FileNotFoundError as error:
        message = f"{command[0]} is not installed"
        raise NoDiskError(message) from error
    if done.returncode:
        message = f"{' '.join(map(str, command))}: {done.stderr.strip()}"
        raise NoDiskError(message)


@contextmanager
def small_disk(place: Path, kind: str) -> Iterator[Path]:
    """Mount a new file system of 4 MB of the kind "ext4", "inodes" (ext4 with few of them) or "tmpfs" below `place`.

    Raises:
        NoDiskError: that cannot be done here.
    """
    if os.geteuid() != 0:
        message = "mounting takes root"
        raise NoDiskError(message)
    mounted = place / "disk"
    mounted.mkdir(parents=True)
    if kind == "tmpfs":
        _run("mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=0755", "tmpfs", mounted)
    else:
        image = place / "image"
        with image.open("wb") as file:
            file.truncate(_SIZE)
        _run("mkfs.ext4", "-q", "-m", 0, *(("-N", 48) if kind == "inodes" else ()), image)
        _run("mount", "-o", "loop", image, mounted)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True, timeout=_PATIENCE)


class Filler:
    """What takes up a disk: one file with its bytes, and empty ones with its inodes."""

    def __init__(self, disk: Path) -> None:
        self._place = disk / "filler"
        self._place.mkdir()  # now, since on a full disk it could not be
        self._bytes = self._place / "bytes"
        self._bytes.touch()
        self._inodes = 0

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


@contextmanager
def _until_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
