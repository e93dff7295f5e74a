"""Small disks in files, mounted through loop devices: to be filled up, or to have their power cut. It takes root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SIZES = {"ext4": 128 << 20, "xfs": 300 << 20}  # XFS wants no less; what is not used takes no room
_PATIENCE = 60  # seconds


class NoDiskError(Exception):
    """No such disk can be had here, for this reason."""


def run(*command: object) -> None:
    """Run a command.

    Raises:
        NoDiskError: it is not there, or fails.
    """
    words = [*map(str, command)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except FileNotFoundError:
        raise NoDiskError(f"{words[0]} is not installed") from None
    if done.returncode:
        raise NoDiskError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")


class Disk:
    """A file system in a file.

    Attributes:
        path: where it is mounted.
    """

    def __init__(self, image: Path, path: Path) -> None:
        self._image = image
        self.path = path

    def mount(self) -> None:
        """Mount it, as the system does at its start: what was committed to its log is brought in."""
        run("mount", "-o", "loop", self._image, self.path)

    def unmount(self) -> None:
        """Unmount it, if it is mounted, whoever uses it; its loop device goes with it."""
        if not self._is_mounted():
            return
        try:
            run("umount", self.path)
        except NoDiskError:  # somebody uses it
            run("umount", "-l", self.path)

    def _is_mounted(self) -> bool:
        # not os.path.ismount: an XFS that was shut down answers EIO, which that takes for no
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
        return f" {self.path} " in mounts

    def cut(self, *, flush: bool) -> None:
        """Cut its power: nothing gets to it any more, from its log only with `flush`."""
        run("xfs_io", "-x", "-c", "shutdown -f" if flush else "shutdown", self.path)


def no_disk(kind: str) -> str:
    """Return why no such disk can be had here, "" if it can."""
    if os.geteuid():
        return "mounting takes root"
    missing = [name for name in (f"mkfs.{kind}", "mount", "umount") if shutil.which(name) is None]
    return f"{', '.join(missing)} not installed" if missing else ""


@contextmanager
def disk(place: Path, kind: str = "ext4", size: int | None = None, options: Iterable[object] = ()) -> Iterator[Disk]:
    """Make a disk of a kind, "ext4" or "xfs", below `place`, a directory, and mount it; it is gone afterwards.

    `options` are those of the program that makes it.

    Raises:
        NoDiskError: it cannot be had here.
    """
    if reason := no_disk(kind):
        raise NoDiskError(reason)
    place = place.resolve()  # as the kernel's list of mounts has it
    image = place / f"{kind}.image"
    with image.open("wb") as file:
        file.truncate(size or _SIZES[kind])
    made = Disk(image, place / kind)
    made.path.mkdir()
    try:
        run(f"mkfs.{kind}", "-q", *options, image)
        made.mount()
        yield made
    finally:
        made.unmount()
        made.path.rmdir()
        image.unlink(missing_ok=True)
