"""A conversation of two processes, perhaps on two hosts, through a directory on a file system that neither can trust.

It relies on two things only, which even a mount without locks and with stale caches does right. *The exclusive creation of a
name* is decided by the server: of two who try it, one succeeds, and no cache is asked. And *a name that was never looked up
before* opens with what was written and closed under it.

So the text of a message gets a name of its own, and then a turn is taken: who listens creates `turn-SIDE-NUMBER-0`, `-1`, `-2` …,
each of which says "nothing yet"; who speaks creates the first of them that is still free. The listener's next attempt fails, and it
knows that the text is there without ever having looked for it. (To look a name up too early would be fatal on NFS: what was
missing once stays missing. Listings and sizes may be old for a minute.) No clock of another host is ever asked.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tastypy import files
from tastypy.errors import PeerError, PermissionDeniedError, storage_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_SHORTEST, _LONGEST = 0.001, 0.2  # seconds between two looks for a message
_GONE = {errno.ENOENT, errno.ESTALE, errno.ENOTDIR}
# sshfs says so, and not EEXIST, if the server refuses to create what is there
_TAKEN = {errno.EEXIST, errno.EPERM}
_DAY = 86400  # seconds
_LEAVING = 6.0  # seconds: the longest that a side is too busy to listen
_TIDYING = 30.0  # seconds: sshfs keeps listings for 20


def is_gone(error: BaseException) -> bool:
    """Tell whether it says that a file, or the room that it was to be in, is not there."""
    return isinstance(error, OSError) and error.errno in _GONE


class Room:
    """The directory of one examination, inside of the one that is examined, which is as it was after the `with` block.

    Attributes:
        path: of the room.
        side: 1 for who made it, 2 for who came second.
    """

    def __init__(self, directory: str, code: str = "") -> None:
        self.directory = directory
        self.code = code or files.random_text(4)
        self.path = os.path.join(directory, files.examination_name(self.code))
        self.side = 1
        self._tidy = True  # whether everything is for us to remove
        self._handler: Any = signal.SIG_DFL

    def __enter__(self) -> Self:
        sweep(self.directory)
        # SIGTERM is how schedulers end a job; it unwinds, so that nothing is left behind
        with suppress(ValueError):  # not the main thread
            self._handler = signal.signal(signal.SIGTERM, _terminated)
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make(self) -> None:
        try:
            files.make_directory(self.path)
        except PermissionError as error:
            if not os.path.isdir(self.path):
                raise _unwritable(self.directory, error) from error
            self.side = 2
        except FileExistsError:
            self.side = 2
        except OSError as error:
            self._tidy = False
            if error.errno == errno.EROFS:
                raise _unwritable(self.directory, error) from error
            raise storage_error(self.directory, error) from error
        try:
            descriptor = self.create(f"owner-{self.side}", append=True)
        except FileExistsError:
            self._tidy = False
            message = f"{self.path}: two sides are at this examination already; begin one of your own with --peer"
            raise PeerError(message, self.directory) from None
        try:
            files.write_and_sync(descriptor, json.dumps(_identity(os.getpid())).encode())
        finally:
            files.close(descriptor)

    def __exit__(self, *error: object) -> None:
        if self._tidy:
            self._clear()
        with suppress(ValueError):
            signal.signal(signal.SIGTERM, self._handler)

    def leave(self) -> None:
        """Leave it to the other side to remove what is left."""
        self._tidy = False

    def _clear(self) -> None:
        start = time.monotonic()
        pause = 0.01
        while time.monotonic() - start < _TIDYING:
            try:
                files.remove_directory(self.path)
            except OSError:
                # The other side is creating or removing files at the same time, or the listing is an old one, which a
                # change of our own makes the client read anew. It also tells, past all caches, whether the room is there.
                try:
                    files.close(self.create(f"tidy-{files.random_text(4)}"))
                except OSError as error:
                    if is_gone(error):
                        return
            else:
                return
            time.sleep(pause)
            pause = min(pause * 2, 1.0)

    def file(self, name: str) -> str:
        """Return the path of a file in here."""
        return f"{self.path}/{name}"

    def create(self, name: str, *, append: bool = False) -> int:
        """Create a file and open it; FileExistsError if somebody else did."""
        try:
            return files.create(self.file(name), 0o666, append=append)
        except OSError as error:
            if error.errno in _TAKEN:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), error.filename) from error
            raise


def _unwritable(directory: str, error: OSError) -> PermissionDeniedError:
    message = f"{directory} cannot be examined: no permission to write there ({error.strerror})"
    return PermissionDeniedError(message, directory, error.errno)


def _terminated(_: int, __: FrameType | None) -> None:
    raise SystemExit(128 + signal.SIGTERM)


class Dialogue:
    """Messages between the two sides of a room, in order.

    Attributes:
        other: what the other side is called in messages to the user.
    """

    def __init__(self, room: Room, *, patience: float) -> None:
        self.room = room
        self.patience = patience  # seconds that the other side may be silent
        self.other = "the other side"
        self._said = self._heard = 0

    def say(self, message: Any) -> None:
        """Send a message: whatever JSON has."""
        mine = self.room.side
        descriptor = self.room.create(f"text-{mine}-{self._said}", append=True)
        try:
            # with fsync, since a client may close before it has sent everything
            files.write_and_sync(descriptor, json.dumps(message).encode())
        finally:
            files.close(descriptor)
        for turn in count():
            if self._take(f"turn-{mine}-{self._said}-{turn}"):
                break
        self._said += 1

    def hear(self, patience: float | None = None, meanwhile: Callable[[], object] = lambda: None) -> Any:
        """Return the next message of the other side; `meanwhile` is called now and then until it comes.

        Raises:
            PeerError: there is none, or the other side has failed or gone.
        """
        theirs = 3 - self.room.side
        patience = self.patience if patience is None else patience
        start = time.monotonic()
        pause = _SHORTEST
        for turn in count():
            if not self._take(f"turn-{theirs}-{self._heard}-{turn}"):
                break
            if time.monotonic() - start > patience:
                what = "was silent" if self._heard else "did not come"
                advice = "" if self._heard else "; run its command sooner, or give it more time with --wait"
                raise PeerError(f"{self.other} {what} for {patience:g} s{advice}", self.room.directory)
            meanwhile()
            time.sleep(pause)
            pause = min(pause * 1.2, _LONGEST)
        name = f"text-{theirs}-{self._heard}"
        self._heard += 1
        try:
            message = json.loads(files.read_file(self.room.file(name)))
        except (OSError, ValueError) as error:
            text = f"{self.other} has ended the examination, or this file system does not even show new files ({error})"
            raise PeerError(text, self.room.directory) from error
        if isinstance(message, dict) and "failed" in message:
            raise PeerError(f"{self.other} failed: {message['failed']}", self.room.directory)
        return message

    def _take(self, name: str) -> bool:
        """Create a name, and tell whether it was not there."""
        try:
            files.close(self.room.create(name))
        except FileExistsError:
            return False
        except OSError as error:
            if is_gone(error):
                raise PeerError(f"{self.other} has ended the examination", self.room.directory) from error
            raise
        return True

    def exchange(self, message: Any) -> Any:
        """Send a message and return the one that the other side sends at the same point."""
        self.say(message)
        return self.hear()

    def fail(self, error: BaseException) -> None:
        """Tell the other side why there will be nothing more, if it is still there to hear it, and give it time to."""
        with suppress(OSError, PeerError):
            self.say({"failed": str(error) if isinstance(error, Exception) else "it was stopped"})
            self._wait_for_its_end()

    def _wait_for_its_end(self) -> None:
        # in a function of its own for a Ctrl-C: see tests/test_jumps.py
        start = time.monotonic()
        while self._heard and time.monotonic() - start < _LEAVING:  # until it has gone, or has failed itself for that
            self.hear(_LEAVING)


# --- what a killed examination left


def _identity(pid: int) -> list[Any]:
    """Return what tells a process from all others: the boot of its host, its process namespace, its id, and its start."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    namespace = os.readlink("/proc/self/ns/pid")
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return [boot, namespace, pid, int(fields[19])]


def identity_of_host() -> list[str]:
    """Return the name of this host, and what tells one boot of it from others."""
    return [socket.gethostname(), str(_identity(os.getpid())[0])]


def sweep(directory: str) -> None:
    """Remove the rooms in the directory that nobody can be in any more: of dead processes of this host, or a day old."""
    with suppress(OSError):
        for entry in os.scandir(directory):
            if not (entry.name.startswith(files.examination_name("")) and entry.is_dir(follow_symlinks=False)):
                continue
            with suppress(OSError):
                if _is_abandoned(directory, entry.path):
                    files.remove_directory(entry.path)


def _is_abandoned(directory: str, room: str) -> bool:
    owners = [files.read_file(f"{room}/{name}") for name in os.listdir(room) if name.startswith("owner-")]
    if owners and all(_is_dead(owner) for owner in owners):
        return True
    # Both times are the file system's own: no clocks of two hosts are compared, unless their clients set the times of files.
    # Then a difference of hours does no harm.
    new = f"{directory}/{files.examination_name(files.random_text(4))}"
    files.make_directory(new)
    try:
        return os.stat(new).st_mtime - os.stat(room).st_mtime > _DAY
    finally:
        os.rmdir(new)


def _is_dead(owner: bytes) -> bool:
    """Tell whether a process is known to be dead: that of another host or container is not."""
    try:
        boot, namespace, pid, _ = identity = json.loads(owner)
    except ValueError:
        return False  # just being written
    if [boot, namespace] != _identity(os.getpid())[:2]:
        return False
    try:
        return bool(_identity(pid) != identity)
    except (FileNotFoundError, ProcessLookupError):
        return True
