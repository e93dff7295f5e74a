"""A stand-in for `os` in the one module that writes: it counts system calls, and lets those fail that a test chose."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

SYSTEM_CALLS = {
    *("open", "close", "read", "pread", "write", "pwrite", "fsync", "fdatasync", "ftruncate", "truncate"),
    *("rename", "replace", "link", "unlink", "remove", "mkdir", "listdir", "scandir"),
    *("stat", "lstat", "fstat", "chmod", "fchmod", "statvfs", "lseek"),
}
"""What can fail. A name that is not here is passed on uncounted."""

Error = Callable[[], BaseException]


class FailingOS:
    """Put it where `tastypy.files.os` is; everything it does not fail is done by `os`.

    Attributes:
        calls: the name of every system call so far.
        at: the number of the call that fails, counted from 1; 0 for none.
        error: makes the exception that it fails with.
        persistent: whether all calls after it fail too.
        always: exceptions by the name of a call that fails every time.
        before: functions by the name of a call, called with its arguments.
        kill: "before", "after" or "half" (a write that was half done) to end the process by SIGKILL at the call instead;
            "pause" to stop it there until it gets SIGCONT, and to go on then.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.at = 0
        self.error: Error = KeyboardInterrupt
        self.persistent = False
        self.always: dict[str, BaseException] = {}
        self.before: dict[str, Callable[..., object]] = {}
        self.kill = ""

    def arm(self, at: int, error: Error, *, persistent: bool = False) -> None:
        """Let the call number `at`, counted from now, fail."""
        self.calls.clear()
        self.at, self.error, self.persistent = at, error, persistent

    def disarm(self) -> None:
        """Let nothing fail any more."""
        self.at = 0

    @property
    def fired(self) -> bool:
        """Whether the call that was to fail has been reached."""
        return 0 < self.at <= len(self.calls)

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in SYSTEM_CALLS:
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append(name)
            if name in self.before:
                self.before[name](*arguments, **options)
            if name in self.always:
                raise self.always[name]
            number = len(self.calls)
            if self.at and (number == self.at or (self.persistent and number > self.at)):
                if self.kill == "pause":
                    os.kill(os.getpid(), signal.SIGSTOP)
                    return real(*arguments, **options)
                if self.kill:
                    self._die(real, arguments, options)
                if name == "close":  # as Linux does: the descriptor is gone whatever close says
                    real(*arguments)
                raise self.error()
            return real(*arguments, **options)

        return call

    def _die(self, real: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        try:
            if self.kill == "half" and real in (os.write, os.pwrite):
                descriptor, data, *offset = arguments
                real(descriptor, data[: len(data) // 2], *offset)
            elif self.kill == "after":
                real(*arguments, **options)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)


def os_error(number: int) -> Error:
    """Makes the OSError of this errno."""
    return lambda: OSError(number, os.strerror(number))
