"""An attempt in a process of its own, with bounds on its time and memory, and as another user if need be."""

from __future__ import annotations

import logging
import os
import pickle
import resource
import select
import signal
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stress.command import WrongError
from tastypy import TastypyError

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 5.0  # that an attempt may take
_MEMORY = 400 << 20  # bytes that it may use, beyond what this process has


class User(NamedTuple):
    """Who a process is: nobody that the machine needs to know."""

    uid: int
    gid: int
    umask: int = 0o022

    def become(self) -> None:
        """Make this process the user's."""
        os.setgroups([])
        os.setgid(self.gid)
        os.setuid(self.uid)
        os.umask(self.umask)


class Answer(NamedTuple):
    """What an attempt came to: its value, or the error of tastypy that it ended with."""

    value: object
    error: str


def attempt(name: str, action: Callable[[], object], user: User | None = None) -> Answer:
    """Return what the action came to.

    Raises:
        WrongError: it ended with another error than one of tastypy, took too long or too much memory, or crashed.
    """
    read, write = os.pipe()
    process = os.fork()
    if not process:
        _answer(write, action, user)
    os.close(write)
    try:
        told = _hear(name, read)
    finally:
        os.kill(process, signal.SIGKILL)
        status = os.waitpid(process, 0)[1]
        os.close(read)
    if not told:
        message = f"{name}: the process ended without a word, status {status}"
        raise WrongError(message)
    answer, wrong = pickle.loads(told)
    if wrong:
        message = f"{name}: {wrong}"
        raise WrongError(message)
    return Answer(*answer)


def _hear(name: str, read: int) -> bytes:
    told = b""
    deadline = time.monotonic() + SECONDS
    while True:
        if not select.select([read], [], [], max(deadline - time.monotonic(), 0))[0]:
            message = f"{name}: no end in {SECONDS} s"
            raise WrongError(message)
        part = os.read(read, 1 << 16)
        if not part:
            return told
        told += part


def _answer(write: int, action: Callable[[], object], user: User | None) -> None:
    answer: tuple[object, str] = (None, "")
    wrong = ""
    try:
        logging.getLogger("tastypy").setLevel(logging.CRITICAL)
        if user is not None:
            user.become()
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY,) * 2)
        try:
            answer = (action(), "")
        except TastypyError as error:
            answer = (None, f"{type(error).__name__}: {error}")
    except BaseException:  # it is told
        wrong = traceback.format_exc()
    try:
        os.write(write, pickle.dumps((answer, wrong)))
    finally:
        os._exit(0)
