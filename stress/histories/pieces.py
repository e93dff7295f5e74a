"""Histories in pieces: processes that work at the same time for a moment, then rest together, and write down what they do.

At rest nothing is under way, so each piece can be judged by itself, from the state that was agreed on before it. Each thread
writes two lines into a file of its own, one before and one after a call: of a killed process it is known what it was at.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from stress.command import WrongError
from stress.histories.linear import Call, frozen

if TYPE_CHECKING:
    import random

_PATIENCE = 240  # seconds after which processes count as hanging: a network file system may stall for some
_PIECE, _REST = b"p", b"r"


class Recorder:
    """Writes down the calls of one lane."""

    def __init__(self, place: Path, lane: int, subject: int) -> None:
        self._subject = subject
        self._file = os.open(place / f"lane-{lane}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def call(self, name: str, arguments: tuple[Any, ...], action: Callable[[], Any], start: int = 0) -> Any:
        """Return what `action` does, written down; if it raises, that is wrong, and the end of this process.

        `start` is when the call began, if that was before.
        """
        self._write([self._subject, name, arguments, time.monotonic_ns()])
        start = start or time.monotonic_ns()
        try:
            result = action()
        except Exception:  # no call may raise but what its result is made of: any error is a finding
            print(f"{name}({', '.join(map(repr, arguments))}) raised", file=sys.stderr)
            traceback.print_exc()
            os._exit(1)
        self._write([result, start, time.monotonic_ns()])
        return result

    def _write(self, line: list[Any]) -> None:
        os.write(self._file, json.dumps(line, default=sorted).encode() + b"\n")


class Killed(NamedTuple):
    """A process that was killed: its subject, since when and until when it may have died."""

    subject: int
    start: int
    end: int


def recorded(place: Path, killed: Iterable[Killed]) -> list[Call]:
    """Return all calls that were written down; of those that were killed the last one may be pending."""
    ends = {one.subject: one.end for one in killed}
    calls = []
    for file in place.glob("lane-*.jsonl"):
        lane = int(file.stem.partition("-")[2])
        lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        for number in range(0, len(lines), 2):
            subject, name, arguments, begin = lines[number]
            if number + 1 == len(lines):
                calls.append(Call(lane, subject, name, frozen(arguments), None, begin, ends[subject], pending=True))
                continue
            result, start, end = lines[number + 1]
            calls.append(Call(lane, subject, name, frozen(arguments), frozen(result), start, end))
    return calls


class Player(Protocol):
    """What a process does."""

    def play(self) -> None:
        """Make the calls of a piece."""

    def rest(self) -> None:
        """Make the calls that tell, while all rest, what there is."""

    def close(self) -> None:
        """End."""


class _Hand(NamedTuple):
    pid: int
    commands: int
    answers: int


class Crew:
    """The processes; `cuts` has the moment after each piece, when all have rested."""

    def __init__(self) -> None:
        self.cuts: list[int] = []
        self.killed: list[Killed] = []
        self._hands: dict[int, _Hand] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill those that are left, when something went wrong."""
        for hand in self._hands.values():
            os.kill(hand.pid, signal.SIGKILL)
            os.waitpid(hand.pid, 0)
            for descriptor in hand[1:]:
                with suppress(OSError):
                    os.close(descriptor)

    def start(self, subject: int, make: Callable[[], Player]) -> None:
        """Start a process that does what the player does that `make` returns in it."""
        commands, to_commands = os.pipe()
        answers, to_answers = os.pipe()
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                for descriptor in (to_commands, answers, *(one for hand in self._hands.values() for one in hand[1:])):
                    os.close(descriptor)
                _serve(make(), commands, to_answers)
                status = 0
            except BaseException:  # it must not go on as the parent does
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(commands)
        os.close(to_answers)
        self._hands[subject] = _Hand(pid, to_commands, answers)

    def piece(self, victim: int | None, delay: float) -> None:
        """Let all play, kill the victim after a delay of some seconds, and let those that are left rest."""
        self._tell(_PIECE)
        if victim is not None:
            time.sleep(delay)
            self.kill(victim)
        self._wait()
        self._tell(_REST)
        self._wait()
        self.cuts.append(time.monotonic_ns())

    def kill(self, subject: int) -> None:
        """Kill a process, and wait until it, and those that it has forked, are gone."""
        hand = self._hands.pop(subject)
        start = time.monotonic_ns()
        os.kill(hand.pid, signal.SIGKILL)
        if os.WIFEXITED(os.waitpid(hand.pid, 0)[1]):
            self._ended(subject)
        self.killed.append(Killed(subject, start, time.monotonic_ns()))
        os.close(hand.commands)
        self._drain(subject, hand)

    def _tell(self, command: bytes) -> None:
        for subject, hand in self._hands.items():
            try:
                os.write(hand.commands, command)
            except BrokenPipeError:
                self._ended(subject)

    def _wait(self) -> None:
        """Wait for an answer of each, in whatever order they come."""
        waiting = {hand.answers: subject for subject, hand in self._hands.items()}
        while waiting:
            answering = select.select([*waiting], [], [], _PATIENCE)[0]
            if not answering:
                message = f"processes {[*waiting.values()]} have not answered for {_PATIENCE} s"
                raise WrongError(message)
            for descriptor in answering:
                subject = waiting.pop(descriptor)
                if not os.read(descriptor, 1):
                    self._ended(subject)

    def _ended(self, subject: int) -> None:
        message = f"process {subject} ended by itself, see above"
        raise WrongError(message)

    def _drain(self, subject: int, hand: _Hand) -> None:
        """Wait until a process that makes no calls any more, and those that it has forked, are gone."""
        while select.select([hand.answers], [], [], _PATIENCE)[0]:
            if not os.read(hand.answers, 1):
                os.close(hand.answers)
                return
        message = f"process {subject}, or a child of it, does not end"
        raise WrongError(message)

    def end(self) -> None:
        """Let all end by themselves."""
        for hand in self._hands.values():
            os.close(hand.commands)
        for subject in self.subjects:
            self._drain(subject, self._hands[subject])
            if os.waitpid(self._hands.pop(subject).pid, 0)[1]:
                self._ended(subject)

    @property
    def subjects(self) -> list[int]:
        """Those that live."""
        return [*self._hands]

    def pieces(self, calls: Iterable[Call]) -> Iterator[list[Call]]:
        """Yield the calls of each piece."""
        calls = sorted(calls, key=lambda call: call.start)
        begin = 0
        for cut in self.cuts:
            end = bisect_left(calls, cut, key=lambda call: call.start)
            yield calls[begin:end]
            begin = end


def _serve(player: Player, commands: int, answers: int) -> None:
    while command := os.read(commands, 1):
        if command == _PIECE:
            player.play()
        else:
            player.rest()
        os.write(answers, b".")
    player.close()


def nap(chance: random.Random) -> None:
    """Sleep for a moment, now and then."""
    if chance.random() < 0.1:
        time.sleep(chance.random() * 0.0005)


def longest(figures: Counter[str], name: str, value: int) -> None:
    """Note the greatest of some figures."""
    figures[name] = max(figures[name], value)
