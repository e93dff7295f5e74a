"""Functions that tests give to `run`: what they do is seen from what they say, or put down.

They say it in lines on the standard output, which all processes of a program share. Where a function has to wait for the
test it waits at a gate, a FIFO with a byte for each that may go through.
"""

from __future__ import annotations

import asyncio
import builtins
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from tastypy import Tracker

PATIENCE = 30
"""Seconds after which a function that nobody lets through its gate ends its process."""


def say(*words: object) -> None:
    """One line to the test, at once and whole."""
    os.write(1, f"{' '.join(map(str, words))}\n".encode())


def wait_at(gate: str) -> None:
    """Wait until the test lets one through the gate: by a byte in it."""
    signal.alarm(PATIENCE)
    descriptor = os.open(gate, os.O_RDWR)
    try:
        os.read(descriptor, 1)
    finally:
        os.close(descriptor)
    signal.alarm(0)


def double(key: Any) -> Any:
    return key * 2


def put_down(log: str | Path, key: Any) -> Any:
    """Add the key and the process to a file that all share."""
    with Path(log).open("a") as lines:
        lines.write(f"{key} {os.getpid()}\n")
    return key


def fail(key: Any) -> NoReturn:
    message = f"no {key}"
    raise ZeroDivisionError(message)


def fail_if_odd(log: str | Path, key: int) -> int:
    put_down(log, key)
    return fail(key) if key % 2 else key


def return_what_json_lacks(key: Any) -> Any:
    return {key} if key == 1 else key


class LockedError(Exception):
    """One that cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class TwoArgumentsError(Exception):
    """One that is pickled, but cannot be made again from that."""

    def __init__(self, text: str, more: str) -> None:
        super().__init__(f"{text} {more}")


class SilentError(Exception):
    """One that has no text."""

    def __str__(self) -> str:
        message = "no text"
        raise RuntimeError(message)


def fail_with(name: str, key: Any) -> NoReturn:
    text = f"not {key}"
    match name:
        case "locked":
            raise LockedError(text)
        case "two arguments":
            raise TwoArgumentsError(text, "at all")
        case "silent":
            raise SilentError
        case "of a module that only the worker has":
            module = type(sys)("only_here")
            sys.modules["only_here"] = module
            exec("class HereError(Exception): pass", module.__dict__)
            raise module.HereError(text)
        case "large":
            raise ZeroDivisionError(text + "!" * 300_000)
    kind: type[Exception] = getattr(builtins, name)
    raise kind(text)


def end_by(how: str, key: Any) -> Any:
    """End for key 0 in a way that is no `Exception`; the other keys are done."""
    if key == 0:
        match how:
            case "sys.exit(0)":
                sys.exit(0)
            case "sys.exit(3)":
                sys.exit(3)
            case "CancelledError":
                raise asyncio.CancelledError
            case "KeyboardInterrupt":
                raise KeyboardInterrupt
            case "os._exit(0)":
                os._exit(0)
            case "os._exit(3)":
                os._exit(3)
            case "SIGKILL":
                os.kill(os.getpid(), signal.SIGKILL)
            case "SIGTERM":
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(PATIENCE)
    return key


def end_once_by(mark: str, how: str, key: Any) -> Any:
    """Do what `end_by` does the first time only, and say which process does which task."""
    say("begun", key, os.getpid())
    if key == 0 and not Path(mark).exists():
        Path(mark).touch()
        return end_by(how, key)
    return key


def fail_twice(log: str | Path, key: Any) -> Any:
    """Fail twice, each time put down when; then succeed."""
    with Path(log).open("a+") as lines:
        lines.write(f"{time.monotonic()}\n")
        lines.seek(0)
        return key if len(lines.readlines()) > 2 else fail(key)


def add_below(path: str | Path, key: int) -> None:
    """Add the tasks 2 * key and 2 * key + 1, up to 63, through a tracker of our own."""
    with Tracker[int](path) as tracker:
        tracker.add_many_if_absent(number for number in (2 * key, 2 * key + 1) if number < 64)


def wait_and_say(gate: str, key: Any) -> Any:
    """Wait at a gate, and say before and after which process does which task."""
    say("begun", key, os.getpid())
    wait_at(gate)
    say("ended", key, os.getpid())
    return key


def wait_whatever_comes(gate: str, key: Any) -> Any:
    """Do as `wait_and_say`, and swallow what ends the process, as many programs do by a bare `except`."""
    try:
        say("begun", key, os.getpid())
        wait_at(gate)
    except:  # noqa: E722 - that is the point
        say("swallowed", key)
    return key


def wait_though_terminated(gate: str, key: Any) -> Any:
    """Do as `wait_and_say`, but say so, and no more, at SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: say("SIGTERM"))
    return wait_and_say(gate, key)


def run_a_program(key: Any) -> None:
    """Run a program that Ctrl-C ends, and fail then."""
    signal.alarm(PATIENCE)
    say("begun", key, os.getpid())
    subprocess.run(["sleep", str(PATIENCE)], check=True)


def terminate_this_program(key: Any) -> NoReturn:
    """Be a task of a thread pool, in whose process SIGTERM arrives."""
    say("begun", key, os.getpid())
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)
