"""Writers that go on after errors, and tell over a pipe what became of each change, so that others can judge what is there.

One byte a change: it was made, it failed, or nobody knows yet; then, when the writer has looked, what it was. After a failed
change the writer makes sure that its memory is what it was, and that others, who open the POD anew, see the same.
"""

from __future__ import annotations

import logging
import os
import signal
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, NamedTuple

from stress.changes import Change, Entries, Writer
from stress.command import WrongError
from stress.judging import difference, read
from tastypy import POD, TastypyError, UnknownOutcomeError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import ForkProcess
    from pathlib import Path

MADE, FAILED, UNKNOWN, WAS_MADE, WAS_NOT, LOGGED, WRONG = (b"%c" % byte for byte in b".x?+-l!")
MEANINGS = {MADE: "made", FAILED: "failed", UNKNOWN: "of unknown outcome", LOGGED: "warnings logged"}
_LARGE = 100_000  # characters of a value at most: several of them have to fit on a small disk
_PAUSE = 0.002  # seconds after a failed change
_LOOK_ANEW = 20  # one of so many failed changes is followed by an opening, and a check
_PATIENCE = 60  # seconds after which a process is given up


class SmallWriter(Writer):
    """A writer whose values are not as large."""

    def change(self, step: int, entries: Entries) -> Change:
        """Return its change number `step`, with these entries before it."""
        change = super().change(step, entries)
        put = ((key, value[:_LARGE] if isinstance(value, str) else value) for key, value in change.put)
        return change._replace(put=tuple(put))


class _Log(logging.Handler):
    def __init__(self, report: int) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, _: logging.LogRecord) -> None:
        os.write(self._report, LOGGED)


def tell_warnings(report: int) -> None:
    """Tell the warnings of the library instead of printing them: so folds that failed are counted."""
    logging.getLogger("tastypy").addHandler(_Log(report))
    logging.getLogger("tastypy").propagate = False


class Teller(NamedTuple):
    """The writer in its process: it changes the POD until the file `stop` is there.

    `expected` are the errors that a change may fail with; those that say that nothing was changed are held to it.
    """

    writer: Writer
    path: Path
    stop: Path
    expected: tuple[type[TastypyError], ...]
    begin: Callable[[], object] = lambda: None  # called first, in its process
    checks: bool = True  # whether `check` has to find nothing after a failed change

    def run(self, report: int, step: int, entries: Entries, options: dict[str, Any]) -> None:
        """Go on from the change number `step`; for a process of its own."""
        tell_warnings(report)
        try:
            self.begin()
            self._run(report, step, entries, options)
        except Exception:  # it is told
            os.write(report, WRONG + traceback.format_exc().encode())

    def _run(self, report: int, step: int, entries: Entries, options: dict[str, Any]) -> None:
        pod = self._persist(lambda: POD[str, Any](self.path, timeout=_PATIENCE, **options))
        while not self.stop.exists():
            change = self.writer.change(step, entries)
            try:
                self.writer.commit(pod, change)
            except self.expected as error:
                if not error.path or str(self.path) not in str(error):
                    raise
                if change.kind == "held" or isinstance(error, UnknownOutcomeError):
                    os.write(report, UNKNOWN)  # what is held is written first, and synchronised then
                    made = self._look(pod, entries, change)
                    os.write(report, WAS_MADE if made else WAS_NOT)
                    entries = change.apply(entries) if made else entries
                else:
                    os.write(report, FAILED)
                    if pod._store.seq < 0:
                        # what is committed could not be read to undo it either: it is at the next use
                        self._persist(pod.refresh)
                    self._compare(self.writer.own(pod), entries, f"after {error!r}")
                    if step % _LOOK_ANEW == 0:
                        self._look_anew(pod, entries)
                time.sleep(_PAUSE)
            else:
                os.write(report, MADE)
                entries = change.apply(entries)
            step += 1
        self._persist(pod.close)

    def _persist(self, action: Callable[[], Any]) -> Any:
        """Return what `action` returns, once it does not fail any more."""
        while True:
            try:
                return action()
            except self.expected:
                if self.stop.exists():
                    raise
                time.sleep(_PAUSE)

    def _look(self, pod: POD[str, Any], entries: Entries, change: Change) -> bool:
        """Tell whether the change was made."""

        def look() -> Entries:
            pod.revert()
            pod.refresh()
            return self.writer.own(pod)

        found: Entries = self._persist(look)
        after = change.apply(entries)
        if [*found.items()] == [*after.items()]:
            return True
        self._compare(found, entries, f"after a change of unknown outcome, {str(change)[:300]}")
        return False

    def _look_anew(self, pod: POD[str, Any], entries: Entries) -> None:
        self._compare(self._persist(lambda: self.writer.own(read(self.path))), entries, "in a POD that is opened anew")
        if not self.checks:
            return
        problems = [problem for problem in self._persist(pod.check) if "set aside" not in problem]
        if problems:
            raise WrongError(str(problems))

    @staticmethod
    def _compare(found: Entries, wanted: Entries, when: str) -> None:
        if [*found.items()] != [*wanted.items()]:
            message = f"{when}: {difference(found, wanted)}"
            raise WrongError(message)


@dataclass
class Told:
    """What is known of a writer from outside: the entries that it may have, one or two of them, and its next change."""

    writer: Writer
    step: int = 0
    states: list[Entries] = field(default_factory=lambda: [{}])
    counts: Counter[str] = field(default_factory=Counter)

    def hear(self, told: bytes) -> None:
        """Follow what it told.

        Raises:
            WrongError: it says that something is wrong.
        """
        for number, byte in enumerate(told):
            mark = b"%c" % byte
            if mark == WRONG:
                message = f"writer {self.writer.name} at its change {self.step}: {told[number + 1 :].decode()}"
                raise WrongError(message)
            if mark in MEANINGS:
                self.counts[MEANINGS[mark]] += 1
            if mark in (WAS_MADE, WAS_NOT):
                self.states = [self.states[1 if mark == WAS_MADE else 0]]
            elif mark in (MADE, FAILED, UNKNOWN):
                before = self.states[0]
                after = before if mark == FAILED else self.writer.change(self.step, before).apply(before)
                self.states = [before, after] if mark == UNKNOWN else [after]
                self.step += 1

    def judge(self, pod: Entries, *, killed: bool) -> None:
        """Raise unless its part is right, where the change in flight may have been made if it was `killed`."""
        found = self.writer.own(pod)
        states = self.states[:]
        if killed and len(states) == 1:
            states += [self.writer.change(self.step, state).apply(state) for state in self.states]
            self.step += 1
        for state in states:
            if [*state.items()] == [*found.items()]:
                self.states = [state]
                return
        told = "\n".join(f"  against what may be: {difference(found, state)}" for state in states)
        message = f"writer {self.writer.name}, before change {self.step}, {'killed' if killed else 'ended'}\n{told}"
        raise WrongError(message)


class Voice:
    """A teller's process, and what is known of it."""

    def __init__(self, teller: Teller, options: dict[str, Any]) -> None:
        self.told = Told(teller.writer)
        self._teller = teller
        self._options = options
        self._reports = -1
        self._process: ForkProcess | None = None

    def start(self) -> None:
        """Start it from what is known."""
        self._reports, report = os.pipe()
        os.set_blocking(self._reports, False)
        self._process = get_context("fork").Process(
            target=self._teller.run, args=(report, self.told.step, self.told.states[0], self._options), daemon=True
        )
        self._process.start()
        os.close(report)

    def listen(self) -> bool:
        """Hear what was told until now; return whether there may be more."""
        try:
            while told := os.read(self._reports, 1 << 20):
                if WRONG in told:
                    time.sleep(0.1)  # for the rest of it
                    told += os.read(self._reports, 1 << 20)
                self.told.hear(told)
        except BlockingIOError:
            return True
        return False

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self._process is not None:
            self._process.kill()
            self.end()

    def end(self) -> int:
        """Wait for its end, hearing it; return its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        deadline = time.monotonic() + _PATIENCE
        try:
            while self.listen():
                if time.monotonic() > deadline:
                    message = f"writer {self.told.writer.name} does not end"
                    raise WrongError(message)
                time.sleep(0.005)
        finally:
            process.join(1)
            process.kill()
            process.join()
            os.close(self._reports)
        status = process.exitcode
        if status not in (0, -signal.SIGKILL):
            message = f"writer {self.told.writer.name} ended with exit status {status}, see above"
            raise WrongError(message)
        return status
