"""What a hostile neighbour puts in the place of a file, and what of it must not be touched."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import shutil
import socket
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from stress.command import WrongError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE, AT_FDCWD
_PAUSE = 0.001


class Outside:
    """Files of somebody else beside the directory, that links lead to: nothing may happen to them."""

    def __init__(self, place: Path) -> None:
        self.file, self.missing = place / "foreign", place / "missing"
        self.file.write_bytes(b"of somebody else\n" * 100)
        self.file.chmod(0o604)
        self._before = self._look()

    def _look(self) -> tuple[Any, ...]:
        status = self.file.stat()
        return self.file.read_bytes(), status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns

    def judge(self) -> None:
        """Raise if something happened to them."""
        if self._look() != self._before or os.path.lexists(self.missing):
            message = f"{self.file} was changed, or {self.missing} was made"
            raise WrongError(message)


def _socket(path: Path, _: Outside) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"/proc/self/fd/{here}/{path.name}")  # the path itself may be too long
    os.close(here)


def _device(path: Path, _: Outside) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # as /dev/zero


PLANTS: dict[str, Callable[[Path, Outside], object]] = {
    "symbolic link": lambda path, outside: path.symlink_to(outside.file),
    "dangling link": lambda path, outside: path.symlink_to(outside.missing),
    "link to a FIFO": lambda path, outside: path.symlink_to(_fifo_of(outside)),
    "link to /dev/zero": lambda path, _: path.symlink_to("/dev/zero"),
    "hard link": lambda path, outside: path.hardlink_to(outside.file),
    "FIFO": lambda path, _: os.mkfifo(path),
    "directory": lambda path, _: path.mkdir(),
    "socket": _socket,
    "device": _device,
}


def _fifo_of(outside: Outside) -> Path:
    path = outside.file.with_name("fifo")
    if not os.path.lexists(path):
        os.mkfifo(path)
    return path


def possible(place: Path, outside: Outside) -> dict[str, Callable[[Path, Outside], object]]:
    """Return the plants that this user can put somewhere; say which are left out."""
    found = {}
    for name, plant in PLANTS.items():
        path = place / "try"
        try:
            plant(path, outside)
        except OSError as error:
            print(f"{name}: left out, {error}", flush=True)
        else:
            found[name] = plant
            remove(path)
    return found


def remove(path: Path) -> None:
    """Remove what is at the path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def exchange(one: Path, other: Path) -> None:
    """Exchange what two names stand for, at once.

    Raises:
        OSError: that cannot be done.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))


def swap(path: Path, aside: Path, outside: Outside, kinds: dict[str, Any], seed: int, stop: Path) -> None:
    """Exchange files of the directory with plants and back until the file `stop` is there; for a process of its own.

    Not those that are not whole yet: whoever may write in a directory can make away with a file in it, too.
    """
    chance = random.Random(seed)
    here = aside / "plant"
    while not stop.exists():
        victim = chance.choice([file for file in path.iterdir() if file.suffix != ".tmp"])
        kinds[chance.choice([*kinds])](here, outside)
        try:
            exchange(here, victim)
        except FileNotFoundError:  # a fold removed it just now
            remove(here)
            continue
        time.sleep(_PAUSE * chance.random())
        with suppress(FileNotFoundError):  # a fold removed the plant: nobody needs what it stood for
            exchange(here, victim)
        remove(here)
        with (aside / "swaps").open("ab") as count:
            count.write(b".")
        time.sleep(_PAUSE * chance.random())


def can_exchange(place: Path) -> str:
    """Return why names cannot be exchanged here, "" if they can."""
    one, other = place / "one", place / "other"
    one.touch()
    other.touch()
    try:
        exchange(one, other)
    except (OSError, AttributeError) as error:
        return str(error) or errno.errorcode[errno.ENOSYS]
    finally:
        one.unlink()
        other.unlink()
    return ""
