"""What `tastypy doctor` tries out: the lock on this host alone, and everything a POD stands on with a second host.

Both sides of an examination run the same code, and take turns by messages (`dialogue`). Each counts what it sees, in its
`findings`. Times are differences on one host's own monotonic clock.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from contextlib import suppress
from fcntl import LOCK_UN, flock
from typing import TYPE_CHECKING, Any, Self

from filelock import lock_descriptor

from tastypy import files
from tastypy.errors import PeerError, TastypyError
from tastypy.findings import Findings
from tastypy.pod import PersistentOrderedDict

if TYPE_CHECKING:
    from collections.abc import Callable

    from tastypy.dialogue import Dialogue, Room

_ATTEMPTS = 25  # for the lock while the other side has it
_LOOKS, _LOOKING = 25, 3.0  # at what the other side wrote, and seconds after which it is enough
_RACE = 3.0  # seconds of both sides at the lock at once
_RELEASE = 8.0  # seconds that the lock of a killed process may take to come free
_TAKING = 5.0  # seconds that a lock may take which is free
_ALONE, _TOGETHER, _COMMITS = 1.0, 2.0, 300  # seconds of commits of one side, of both at once, and how many are enough
_STOPPED = "stopped"
_WIDTH = 16  # bytes of a number in the locked file


class Holder:
    """A process of its own that takes the lock, and has it until it is killed, at the end of the block, or this process ends."""

    _PROGRAM = """\
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("held", flush=True)
sys.stdin.read()
"""

    def __init__(self, path: str) -> None:
        command = [sys.executable, "-I", "-S", "-c", self._PROGRAM, path]
        self._process = subprocess.Popen(  # noqa: S603 - it is this Python
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def has_it(self) -> bool:
        """Wait until it has the lock, or is known not to get it."""
        return self._process.stdout is not None and self._process.stdout.readline() == b"held\n"

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self._process.wait()


def attempt(descriptor: int) -> bool:
    """Take the lock if it is free; as PODs do."""
    return lock_descriptor(descriptor, blocking=False)


def take(descriptor: int, patience: float) -> float | None:
    """Take the lock, and return after how many seconds it was had, or None if it was not."""
    start = time.monotonic()
    while not attempt(descriptor):
        if time.monotonic() - start > patience:
            return None
        _pause(0.001)
    return time.monotonic() - start


def release(descriptor: int) -> None:
    """Drop the lock."""
    flock(descriptor, LOCK_UN)


def _pause(most: float) -> None:
    time.sleep(random.uniform(most / 2, most))  # noqa: S311 - against lockstep, no secret


def examine_alone(room: Room) -> str:
    """Return what is wrong with locks between processes of this host; nothing if they work."""
    path = room.file(f"alone-{room.side}")
    files.close(room.create(f"alone-{room.side}"))
    descriptor = files.open_to_lock(path)
    try:
        with Holder(path) as holder:
            if not holder.has_it():
                try:
                    attempt(descriptor)
                except OSError as error:
                    return f"flock does not work ({error.strerror})"
                return "a lock that nobody had was not to be had"
            if attempt(descriptor):
                return "flock gave a lock to two processes of this host at once"
        if take(descriptor, _RELEASE) is None:
            return f"the lock of a killed process was not free after {_RELEASE:g} s"
    except OSError as error:
        return f"flock does not work ({error.strerror})"
    finally:
        files.close(descriptor)
    return ""


class _OtherStoppedError(Exception):
    """The other side's POD has stopped with an error."""


class Examination:
    """One side of an examination by two, who have met."""

    def __init__(self, room: Room, dialogue: Dialogue) -> None:
        self._room = room
        self._dialogue = dialogue
        self._path = room.file("lock")
        self._other_stopped = False
        self.mine = Findings()

    def run(self) -> Findings:
        """Try everything out, and return what both sides saw."""
        if self._room.side == 1:
            for side in (1, 2):
                files.close(self._room.create(f"growing-{side}"))
            descriptor = self._room.create("lock")
            files.replace_line(descriptor, b"0" * _WIDTH)
            files.close(descriptor)
        self._dialogue.exchange("ready")
        lock = files.open_to_lock(self._path)
        try:
            for examine in (self._exclusion, self._release, self._freshness):
                for first in (1, 2):
                    examine(lock, first=self._room.side == first)
            self._race(lock)
        finally:
            files.close(lock)
        findings = self._add_up()
        if findings.flawless:  # a POD would stop with an error, or wait in vain
            self._commits()
            findings = self._add_up()
        return findings

    def _add_up(self) -> Findings:
        return self.mine + Findings(**self._dialogue.exchange(vars(self.mine)))

    def _trouble(self, what: str) -> None:
        self.mine.troubles.append(what)

    # Each of the three is run twice, so that either side is the first to do it.

    def _exclusion(self, lock: int, *, first: bool) -> None:
        """See whether one side gets the lock that the other one has."""
        if first:
            self._take(lock)
            self._dialogue.say("have it")
            self._dialogue.hear()
            release(lock)
            self._dialogue.say("dropped it")
            self._dialogue.hear()
            return
        self._dialogue.hear()
        for _ in range(_ATTEMPTS):
            self.mine.attempts += 1
            if attempt(lock):
                self.mine.let_in += 1
                release(lock)
            _pause(0.01)
        self._dialogue.exchange("tried it")
        self._take(lock)
        release(lock)
        self._dialogue.say("had it")

    def _take(self, lock: int) -> bool:
        if take(lock, _TAKING) is None:
            self._trouble(f"a lock that nobody had was not to be had within {_TAKING:g} s")
            return False
        return True

    def _release(self, lock: int, *, first: bool) -> None:
        """See how long the lock of a process that was killed on one side stays taken on the other."""
        if first:
            with Holder(self._path) as holder:
                self._dialogue.say(holder.has_it())
                self._dialogue.hear()
                holder.kill()
                self._dialogue.hear()
            return
        if not self._dialogue.hear():
            self._trouble("a process did not get the lock that nobody had")
        self.mine.attempts += 1
        if attempt(lock):
            self.mine.let_in += 1
            release(lock)
        start = time.monotonic()
        self._dialogue.say("kill it")
        self.mine.releases.append(-1.0 if take(lock, _RELEASE) is None else time.monotonic() - start)
        release(lock)
        self._dialogue.say("had it")

    def _freshness(self, lock: int, *, first: bool) -> None:
        """Write under the lock on one side, and look under the lock, right after, on the other, which writes nothing itself.

        Its own writes would have its client look anew at what it remembers, and so hide what it does otherwise.
        """
        start = time.monotonic()
        last = False
        number = 0
        while not last:
            number += 1
            if first:
                last = number == _LOOKS or time.monotonic() - start > _LOOKING
                self._write(lock, number)
                self._dialogue.say(last)
                self._dialogue.hear()
            else:
                last = self._dialogue.hear()
                self._look(lock, number)
                self._dialogue.say("looked")

    def _write(self, lock: int, number: int) -> None:
        side = self._room.side
        self._take(lock)
        text = b"%0*d\n" % (_WIDTH, number)
        growing = files.open_to_append(self._room.file(f"growing-{side}"))
        try:
            files.append(growing, text)
        finally:
            files.close(growing)
        new = self._room.create(f"new-{number}-{side}", append=True)
        try:
            files.append(new, text)
        finally:
            files.close(new)
        files.replace_line(lock, text[:_WIDTH])
        release(lock)

    def _look(self, lock: int, number: int) -> None:
        side = 3 - self._room.side
        self._take(lock)
        text = b"%0*d\n" % (_WIDTH, number)
        self.mine.looks += 1
        self.mine.old_locked += not _sees(lambda: files.read_at(lock, _WIDTH, 0) == text[:_WIDTH])
        growing = self._room.file(f"growing-{side}")
        self.mine.old_growth += not _sees(lambda: files.read_file(growing, (number - 1) * len(text)) == text)
        self.mine.old_names += not _sees(lambda: files.read_file(self._room.file(f"new-{number}-{side}")) == text)
        release(lock)

    def _race(self, lock: int) -> None:
        """Be under the lock as often as possible while the other side does the same; in there, be alone, and count."""
        if self._room.side == 1:
            files.replace_line(lock, b"0" * _WIDTH)
        self._dialogue.exchange("go")
        start = time.monotonic()
        counted = 0
        while time.monotonic() - start < _RACE:
            if not self._take(lock):
                break
            self.mine.turns += 1
            # The server decides who creates a name, whatever becomes of locks. Each turn of a side has one of its own …
            alone = self._enter()
            with suppress(OSError, ValueError):
                # … and counts through what the lock is to protect.
                number = int(files.read_at(lock, _WIDTH, 0))
                files.replace_line(lock, b"%0*d" % (_WIDTH, number + 1))
                counted += 1
            _pause(0.002)
            if alone:
                files.remove(self._room.file("inside"))
            release(lock)
            _pause(0.002)
        counted += self._dialogue.exchange(counted)
        if self._room.side == 1:
            self._take(lock)
            self.mine.lost = counted
            with suppress(OSError, ValueError):
                self.mine.lost = max(0, counted - int(files.read_at(lock, _WIDTH, 0)))
            release(lock)
        self._dialogue.exchange("counted")

    def _enter(self) -> bool:
        """Create the name that says that somebody is inside; tell whether nobody was."""
        try:
            files.close(self._room.create("inside"))
        except OSError:
            self.mine.met += 1
            return False
        return True

    def _commits(self) -> None:
        """Time commits to a POD, alone and while the other side commits, too; see whether all arrive."""
        try:
            self._use_pod()
            self._meet()
        except _OtherStoppedError:
            pass  # and has noted why
        except PeerError:
            raise
        except TastypyError as error:
            self._trouble(f"a POD stopped: {error}")
            if not self._other_stopped:
                self._dialogue.exchange(_STOPPED)

    def _use_pod(self) -> None:
        if self._room.side == 2:
            self._meet()
        with PersistentOrderedDict[str, int](self._room.file("pod"), timeout=_RELEASE) as pod:
            if self._room.side == 1:
                self._meet()
            for first in (1, 2):
                if self._room.side == first:
                    self.mine.alone = _timed(lambda number: pod.update(key=number), _ALONE)
                self._meet()
            self.mine.together = _timed(lambda _: pod.incr("count"), _TOGETHER)
            total = len(self.mine.together) + self._meet(len(self.mine.together))
            pod.refresh()
            if self._room.side == 1:
                self.mine.lost_commits = total - int(pod.get("count", 0))

    def _meet(self, message: Any = None) -> Any:
        """Exchange messages, unless the other side's POD has stopped."""
        reply = self._dialogue.exchange(message)
        if reply == _STOPPED:
            self._other_stopped = True
            raise _OtherStoppedError
        return reply


def _sees(look: Callable[[], bool]) -> bool:
    try:
        return look()
    except OSError:
        return False


def _timed(commit: Callable[[int], object], seconds: float) -> list[float]:
    """Commit for so long, and return how long each took."""
    start = last = time.monotonic()
    times: list[float] = []
    while last - start < seconds and len(times) < _COMMITS:
        commit(len(times))
        now = time.monotonic()
        times.append(now - last)
        last = now
    return times
