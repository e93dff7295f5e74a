"""PODs in other processes, for a state machine: in a forked child that inherits them, and in a process of their own.

Also calls that fail: the `os` of the one module that writes, which fails when it is told to.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

from tastypy import POD

_PATIENCE = 60  # seconds after which another process counts as hanging
_forking = multiprocessing.get_context("fork")
_spawning = multiprocessing.get_context("spawn")


def open_pod(path: Path, options: dict[str, Any], *, local: bool) -> POD[Any, Any]:
    """Open a POD; if it is not `local`, as on a file system that is not known to be so."""
    if local:
        return POD(path, **options)
    with mock.patch("tastypy.mounts.LOCAL", frozenset()):
        return POD(path, **options)


# --- a process of their own


def _serve(pipe: Connection) -> None:
    """Open PODs and do with them what is asked for, until nobody is there to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pods: dict[int, POD[Any, Any]] = {}
    while True:
        try:
            number, action = pipe.recv()
        except EOFError:
            return
        try:
            answer = action(pods.get(number))
            if isinstance(answer, POD):
                pods[number], answer = answer, None
            pipe.send((answer, None))
        except Exception as error:  # it is for whoever asked
            pipe.send((None, error))


@cache
def _helper() -> Connection:
    ours, theirs = _spawning.Pipe()
    _spawning.Process(target=_serve, args=(theirs,), daemon=True).start()
    theirs.close()
    return ours


class _Opening:
    """Opens a POD, over there."""

    def __init__(self, path: Path, options: dict[str, Any], *, local: bool) -> None:
        self.path, self.options, self.local = path, options, local

    def __call__(self, _: object) -> POD[Any, Any]:
        return open_pod(self.path, self.options, local=self.local)


class Distant:
    """A POD in another process; there is one for all of them."""

    _numbers = count()

    def __init__(self, path: Path, options: dict[str, Any], *, local: bool) -> None:
        self._number = next(self._numbers)
        self.do(_Opening(path, options, local=local))

    def do(self, action: Callable[[Any], Any]) -> Any:
        """Return what an action on the POD returns, or raise what it raises."""
        pipe = _helper()
        pipe.send((self._number, action))
        if not pipe.poll(_PATIENCE):
            raise AssertionError(f"the other process does not answer to {action} for {_PATIENCE} s")
        answer, error = pipe.recv()
        if error is not None:
            raise error
        return answer


# --- a forked child


class Child:
    """A forked child that looks at what it has inherited, says so, and then acts.

    Args:
        look: raises what is wrong.
        act: called after it.
        abrupt: whether it ends by `os._exit` then, or as a worker of multiprocessing does.
    """

    def __init__(self, look: Callable[[], None], act: Callable[[], None], *, abrupt: bool) -> None:
        self._look, self._act, self._abrupt = look, act, abrupt
        self._ours, self._theirs = _forking.Pipe()
        self._process = _forking.Process(target=self._run)
        self._process.start()
        self._theirs.close()

    def _run(self) -> None:
        try:
            self._look()
            self._theirs.send("")
            self._act()
            self._theirs.send("")
        except BaseException:  # the parent raises it
            self._theirs.send(traceback.format_exc())
            os._exit(1)
        if self._abrupt:
            os._exit(0)

    def hear(self) -> None:
        """Wait until it has looked, or acted; raise what went wrong in it."""
        complaint = self._ours.recv() if self._ours.poll(_PATIENCE) else f"nothing is heard of it for {_PATIENCE} s"
        if complaint:
            self._process.kill()
            self._process.join()
            raise AssertionError(f"in a forked child: {complaint}")

    def join(self) -> None:
        """Wait until it has acted and ended."""
        self.hear()
        self._process.join(_PATIENCE)
        status = self._process.exitcode
        if status != 0:
            self._process.kill()
            self._process.join()
            raise AssertionError(f"a forked child ended with status {status}")
        self._process.close()
        self._ours.close()


# --- calls that fail


class _FailingOS:
    def __init__(self, at: int, error: Callable[[], BaseException], *, lasting: bool) -> None:
        self._left, self._error, self._lasting = at, error, lasting

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if not callable(real) or name in ("fspath", "major", "minor", "urandom"):
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left == 0 or (self._left < 0 and self._lasting):
                if name == "close":  # as Linux does: the descriptor is gone whatever close says
                    real(*arguments)
                raise self._error()
            return real(*arguments, **options)

        return call


@contextmanager
def failing(at: int, error: Callable[[], BaseException], *, lasting: bool) -> Iterator[None]:
    """Let the system call number `at` of the module that writes fail, counted from 1; if `lasting`, all after it, too."""
    with mock.patch("tastypy.files.os", _FailingOS(at, error, lasting=lasting)):
        yield
