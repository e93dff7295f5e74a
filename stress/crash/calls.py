"""Let a program die, or a system call of its fail, at each call that it makes; the part of `crash` that needs strace.

The program is a forked child, to which strace is attached before it begins: this takes a tenth of the time of a new
interpreter under strace. strace counts each call on its own, so one kind of call is injected at a time.
"""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol
from unittest import mock

from stress.command import WrongError
from tastypy import IncoherentFileSystemError, LocksUnsupportedError, StorageError, TastypyError, mounts

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

_KILL = "SIGKILL"
_EFFECTS = (_KILL, "ENOSPC", "EIO", "EINTR", "ESTALE")
_PATIENCE = 60  # seconds after which a program is given up
_CALLS = ("write", "pwrite64", "rename", "fsync", "fdatasync", "unlink", "openat", "ftruncate", "close", "flock")
_REPEATED = {"write", "pwrite64", "fsync", "fdatasync", "openat", "ftruncate", "flock"}  # by Python itself after EINTR
_STRACE = ("strace", "-f", "-y", "-e", "signal=none")
_LINE = re.compile(r"^\d+ +(?P<name>\w+)\((?:\d+<(?P<path>[^>]*)>)?(?P<rest>.*)", re.MULTILINE)


def no_strace() -> str:
    """Return why no program can be traced here, "" if it can."""
    sleeper = subprocess.Popen(["sleep", str(_PATIENCE)])
    try:
        strace = subprocess.Popen(
            [*_STRACE, "-p", str(sleeper.pid)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    except FileNotFoundError:
        return "strace is not installed"
    else:
        said = (strace.stderr.readline() if strace.stderr else "").strip()
    finally:
        sleeper.kill()
        sleeper.wait()
    strace.communicate(timeout=_PATIENCE)
    return "" if said.endswith("attached") else said


class Tell:
    """How a program tells what it has done: through a socket, by a system call that is none of those that fail."""

    def __init__(self, pipe: socket.socket, path: Path) -> None:
        self._pipe = pipe
        self._path = str(path)

    def __call__(self, text: str) -> None:
        """Tell it."""
        self._pipe.sendall(text.encode(errors="replace") + b"\0")

    def error(self, error: TastypyError) -> None:
        """Tell of a failure; raise unless its error is one that the file system's failures are documented to be."""
        self(f"error {error.errno}")
        if not isinstance(error, StorageError | LocksUnsupportedError | IncoherentFileSystemError):
            raise error
        name = os.strerror(error.errno or 0)
        if not (error.path or "").startswith(self._path) or self._path not in str(error) or name not in str(error):
            message = f"the error does not say what happened to what: {error!r}, path {error.path}, errno {error.errno}"
            raise WrongError(message) from error

    def until_done(self, action: Callable[[], Any]) -> Any:
        """Return what `action` returns; where it fails, that is told, and it is done again."""
        try:
            return action()
        except TastypyError as error:
            self.error(error)
        return action()


class Outcome(NamedTuple):
    """How a program ended: its exit status, or the signal's negative number, and what it told; whether anything was injected."""

    status: int
    told: list[str]
    injected: bool

    @property
    def done(self) -> list[str]:
        """What it told of what it did."""
        return [text for text in self.told if not text.startswith("error ")]


class Program(Protocol):
    """A program that is killed, or hindered."""

    @property
    def origin(self) -> Path | None:
        """The directory that it begins with a copy of."""

    def run(self, path: Path, tell: Tell) -> None:
        """Be the program: tell each thing when it is done, "closed" at last."""

    def judge(self, path: Path, outcome: Outcome) -> None:
        """Raise unless what it left is right."""


class Place(NamedTuple):
    """Where a program runs, and whether it takes the file system for one that is not known to be local."""

    path: Path
    remote: bool


class Point(NamedTuple):
    """A call, the how-manieth of its name it is, and what happens there; `vital`: a batch is lost if it fails."""

    name: str
    when: int
    effect: str = ""
    vital: bool = False

    @property
    def options(self) -> list[str]:
        """How to tell strace."""
        what = "signal=SIGKILL" if self.effect == _KILL else f"error={self.effect}"
        return ["-e", f"trace={self.name}", "-e", f"inject={self.name}:{what}:when={self.when}"]


def run(program: Program, place: Place, log: Path, options: Sequence[str]) -> Outcome:
    """Run the program under strace with these options."""
    path = place.path
    if program.origin:
        shutil.copytree(program.origin, path)
    ours, theirs = socket.socketpair()
    ours.settimeout(_PATIENCE)
    child = os.fork()
    if not child:
        ours.close()
        _be(program, place, theirs)
    theirs.close()
    strace = subprocess.Popen(
        [*_STRACE, *options, "-o", str(log), "-p", str(child)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    text = b""
    try:
        _wait_until_attached(strace)
        ours.sendall(b"!")
        while part := ours.recv(1 << 16):
            text += part
    except BaseException:
        os.kill(child, signal.SIGKILL)
        strace.kill()
        raise
    finally:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        strace.communicate(timeout=_PATIENCE)
        ours.close()
    told = text.decode().split("\0")[:-1]
    return Outcome(status, told, status < 0 or "(INJECTED)" in log.read_text(errors="replace"))


def _wait_until_attached(strace: subprocess.Popen[bytes]) -> None:
    said = strace.stderr.readline() if strace.stderr else b""
    if not said.strip().endswith(b"attached"):
        raise WrongError(said.decode(errors="replace"))


def _be(program: Program, place: Place, pipe: socket.socket) -> NoReturn:
    """Be the program, in the child, once strace is attached."""
    status = 1
    try:
        pipe.recv(1)
        logging.disable()  # of failures that are made here
        if place.remote:
            mock.patch.object(mounts, "LOCAL", frozenset()).start()
        tell = Tell(pipe, place.path)
        try:
            program.run(place.path, tell)
            status = 0
        except BaseException:
            tell(f"WRONG: {traceback.format_exc()}")
            raise
    finally:
        os._exit(status)


def _points(trace: str) -> list[Point]:
    """Return each call, and one more of each kind, without an effect."""
    counts: Counter[str] = Counter()
    points = []
    batch = ""  # the path of the journal that a batch is being appended to
    for line in _LINE.finditer(trace):
        name, path, rest = line["name"], line["path"], line["rest"]
        if name not in _CALLS:
            continue
        counts[name] += 1
        if (
            name == "write"
            and "/journal-" in (path or "")
            and rest.startswith(r', "{\"crc\":\"')
            and r"\",\"seq\":" in rest
        ):
            batch = path
        points.append(Point(name, counts[name], vital=bool(batch) and path == batch))
        if name in ("close", "flock"):
            batch = ""
    return points + [Point(name, counts[name] + 1) for name in _CALLS]


def try_points(place: Place, program: Program, chance: random.Random, most: int | None) -> Counter[str]:
    """Run the program with each effect at each of its calls, or at about as many as `most`, evenly spread, and judge."""
    place.path.mkdir()
    here, trace = place._replace(path=place.path / "whole"), place.path / "trace"
    whole = run(program, here, trace, ["-e", f"trace={','.join(_CALLS)}"])
    _judge(here.path, program, None, whole)
    points = _points(trace.read_text(errors="replace"))
    all_points = [point._replace(effect=effect) for effect in _EFFECTS for point in points]
    every = 1 if most is None else max(1, len(all_points) // most)
    chosen = all_points[chance.randrange(every) :: every]
    counts = Counter({"calls": len(points) - len(_CALLS), "points": 0})
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("fork")) as executor:
        try:
            for count in executor.map(partial(_try, place, program), range(len(chosen)), chosen):
                counts += count
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise
    missing = [effect for effect in _EFFECTS if not counts["kills" if effect == _KILL else effect]]
    if missing:
        message = f"strace injected nothing of {', '.join(missing)}: this tests nothing here"
        raise WrongError(message)
    return counts


def _try(place: Place, program: Program, number: int, point: Point) -> Counter[str]:
    logging.disable()  # of what is found and mended here, point after point
    path, log = place.path / str(number), place.path / f"{number}.log"
    outcome = run(program, place._replace(path=path), log, point.options)
    _judge(path, program, point, outcome)
    shutil.rmtree(path, ignore_errors=True)
    log.unlink()
    kind = "kills" if point.effect == _KILL else point.effect
    failed = len(outcome.told) - len(outcome.done)
    return Counter({"points": 1, kind if outcome.injected else "not reached": 1, "errors told": failed})


def _judge(path: Path, program: Program, point: Point | None, outcome: Outcome) -> None:
    try:
        _judge_end(point, outcome)
        program.judge(path, outcome)
    except Exception as error:
        error.add_note(f"{path}: {point}; exit status {outcome.status}; the program told:")
        error.add_note("\n".join(outcome.told[-12:]))
        raise


def _judge_end(point: Point | None, outcome: Outcome) -> None:
    """Raise unless the program ended as it must: killed, or by itself after it told of what failed."""
    killed = bool(point and point.effect == _KILL and outcome.injected)
    failures = [text for text in outcome.told if text.startswith("error ")]
    if outcome.status != (-signal.SIGKILL if killed else 0) or (not killed and outcome.told[-1:] != ["closed"]):
        message = "the program did not end well"
        raise WrongError(message)
    wanted = f"error {getattr(errno, point.effect)}" if point and outcome.injected and not killed else ""
    if any(text != wanted for text in failures):
        message = f"it was told {failures}, which is not what happened"
        raise WrongError(message)
    repeated = point is not None and point.effect == "EINTR" and point.name in _REPEATED
    # A process may close one socket more than the recorded one, that its fork has left: then ESTALE comes to the close before,
    # of the same journal when it was read, which is done again in silence, as it should be.
    repeated |= point is not None and (point.effect, point.name) == ("ESTALE", "close")
    if point and point.vital and wanted and not failures and not repeated:
        message = f"{point.name} failed while a batch was written, and nobody was told"
        raise WrongError(message)
