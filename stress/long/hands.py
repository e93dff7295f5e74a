"""A process of the long run: it changes its part of a POD, holds, forks, runs out of descriptors and memory, and reports.

Whatever interrupts a change, be it Ctrl-C or a limit of the system, is survived: the process finds out whether the change was
made, which a clear error says and memory and directory agree on, and goes on. What it acknowledges, and what it holds, it
reports through a pipe by the number of the step that it has reached. So what a kill may leave is known outside.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import logging
import multiprocessing
import os
import resource
import signal
import struct
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from stress.changes import Entries
from stress.command import WrongError
from stress.judging import Known, difference, read
from stress.steps import perhaps_in_steps
from tastypy import POD, TastypyError, UnknownOutcomeError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from types import FrameType

_RECORD = struct.Struct("<cIQ")  # what, which process, and the step that it has reached
_PR_SET_PDEATHSIG = 1
_PAUSE = 0.003  # seconds between two changes, in the mean
_DEPTH = 2  # of children of children
_DOES = {"change": 60, "hold": 4, "fork": 2, "descriptors": 2, "memory": 2, "reopen": 2, "look": 4}
_TOGETHER = {"set", "delete", "pop", "update", "back"}  # kinds of changes that are one call, and may be held together
_OTHERS = {
    b"i": "interrupted",
    b"d": "failures without descriptors",
    b"m": "failures without memory",
    b"c": "crashes of orjson without memory",
    b"f": "forks",
    b"t": "times that what was held was written at the end",
}


class Account:
    """What is known outside of a writer: its part when that was judged last, and what was reported since."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.counts = dict.fromkeys(_OTHERS.values(), 0)
        self._acknowledged = known.step
        self._held, self._holder = 0, 0  # up to which step, by which process
        self._short = 0  # which process is short of memory just now
        self._rest = b""

    def take(self, data: bytes) -> None:
        """Take reports, which may end within one."""
        data = self._rest + data
        whole = len(data) - len(data) % _RECORD.size
        self._rest = data[whole:]
        for what, process, step in _RECORD.iter_unpack(data[:whole]):
            self._short = process if what == b"l" else 0
            if what == b"a":
                self._acknowledged, self._held = step, 0
            elif what == b"h":
                self._held, self._holder = step, process
            elif what in _OTHERS:
                self.counts[_OTHERS[what]] += 1

    def crashed(self, process: int, status: int) -> bool:
        """Tell, and count, whether a process that was short of memory has crashed: orjson cannot say that there is none."""
        crashed = status in (-signal.SIGSEGV, -signal.SIGABRT) and process == self._short
        self.counts[_OTHERS[b"c"]] += crashed
        return crashed

    def settle(self, pod: Entries, wrote: int = 0) -> int:
        """Raise unless its part is right, and go on from it; return the number of changes that were acknowledged.

        `wrote` is a process that has written what it held, since it ended by SIGTERM or by itself.
        """
        known, writer = self.known, self.known.writer
        if not self._held:
            right = [self._acknowledged, self._acknowledged + 1]
        elif self._holder == wrote:
            right = [self._held, self._held + 1]
            self.counts[_OTHERS[b"t"]] += 1
        else:
            right = [self._acknowledged, self._held]
        found = writer.own(pod)
        entries, wrong = known.entries, []
        for step in range(known.step, right[1] + 1):
            if step in right:
                if same(found, entries):
                    acknowledged = right[0] - known.step
                    known.step, known.entries = self._acknowledged, _ = step, entries
                    self._held = 0
                    return acknowledged
                wrong.append(f"  against before step {step}: {difference(found, entries)}")
            change = writer.change(step, entries)
            entries = change.apply(entries)
        message = (
            f"writer {writer.name}, known before step {known.step}, {right} are right, the last is {str(change)[:300]}"
        )
        raise WrongError("\n".join([message, *wrong]))


class Life(NamedTuple):
    """Which POD a process works on, for how many steps, and what is random in it."""

    path: Path
    options: dict[str, Any]
    chance: random.Random
    steps: int


class Hand:
    """The process itself; a forked child goes on with a copy of it."""

    def __init__(self, life: Life, known: Known, report: int) -> None:
        self._life, self._chance, self._writer = life, life.chance, known.writer
        self._step, self._entries = known.step, known.entries
        self._reports = [report]  # the others are of the parents, who also wait for it
        self._depth = 0
        self._interruptible = False
        self._interrupts = 0
        self._pod: POD[str, Any]

    def run(self, parent: int) -> None:
        """Do what there is to do, and end, be it with something held; SIGINT is blocked at first."""
        signal.signal(signal.SIGINT, self._interrupt)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        die_with_parent(parent)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        logging.getLogger("tastypy").setLevel(logging.CRITICAL)  # what it logs under limits is expected
        with perhaps_in_steps(self._chance.random() < 0.5, 5000):
            self._live()

    def _live(self) -> None:
        unopened = len(open_files())
        self._open()
        for _ in range(self._life.steps):
            self._do(unopened)
        if self._chance.random() < 0.5:
            self._hold(end=False)
        else:
            self._pod.close()

    def _open(self) -> None:
        self._pod = POD(self._life.path, **self._life.options)
        self._expect(self._writer.own(self._pod), self._entries)

    def _do(self, unopened: int = 0) -> None:
        time.sleep(self._chance.expovariate(1 / _PAUSE))
        match self._chance.choices([*_DOES], [*_DOES.values()])[0]:
            case "change":
                self._change()
            case "hold":
                self._hold(end=True)
            case "fork":
                if self._depth < _DEPTH:
                    self._fork()
            case "descriptors":
                self._limited(resource.RLIMIT_NOFILE, next_descriptor() + self._chance.randrange(5))
            case "memory":
                self._limited(resource.RLIMIT_AS, memory() + int(self._chance.random() ** 3 * (1 << 22)))
            case "look":
                self._pod.refresh()
                self._expect(self._writer.own(self._pod), self._entries)
            case _:
                self._pod.close()
                gc.collect()
                there = len(open_files())
                # a Ctrl-C may come between the opening of a file and the keeping of its descriptor
                if unopened and not unopened <= there <= unopened + self._interrupts:
                    message = (
                        f"{there} descriptors are open when the POD is closed, {unopened} before it was opened, "
                        f"{self._interrupts} interrupts"
                    )
                    raise WrongError(message)
                self._open()

    # --- changes

    def _change(self) -> None:
        change = self._writer.change(self._step, self._entries)
        after = change.apply(self._entries)
        held = change.kind == "held"  # whose body may end anywhere, and is written then as far as it got
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM} if held else ())
        try:
            self._interruptible = not held
            self._writer.commit(self._pod, change)
            self._interruptible = False
        except KeyboardInterrupt:
            self._tell(b"i")
            self._find_out(after)
        else:
            self._made(after)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _made(self, after: Entries, what: bytes = b"a") -> None:
        self._step += 1
        self._entries = after
        self._tell(what)

    def _find_out(self, after: Entries) -> None:
        """Find out whether the change was made; if not, it is tried again."""
        self._pod.refresh()
        found = self._writer.own(self._pod)
        if after is not self._entries and same(found, after):
            self._made(after)
        self._expect(found, self._entries)
        self._expect(self._writer.own(read(self._life.path)), self._entries)

    def _expect(self, found: Entries, wanted: Entries) -> None:
        if not same(found, wanted):
            message = f"writer {self._writer.name} at step {self._step}: {difference(found, wanted)}"
            raise WrongError(message)

    def _hold(self, *, end: bool) -> None:
        """Hold some changes, which are acknowledged once they are written, at the end of the process if not at an `end`."""
        self._pod.hold()
        committed = self._entries
        for _ in range(self._chance.randint(1, 8)):
            change = self._writer.change(self._step, self._entries)
            if change.kind not in _TOGETHER:
                break
            self._writer.commit(self._pod, change)
            self._made(change.apply(self._entries), b"h")
            time.sleep(self._chance.expovariate(1 / _PAUSE))
        if self._chance.random() < 0.2:  # a child does not have what its parent holds
            pid = os.fork()
            if not pid:
                _exit_after(lambda: self._lacks_what_is_held(committed))
            if os.waitpid(pid, 0)[1]:
                message = "a child forked under hold has failed, see above"
                raise WrongError(message)
        if not end:
            return
        try:
            self._interruptible = True
            self._pod.unhold()
            self._interruptible = False
        except KeyboardInterrupt:
            self._tell(b"i")
            self._pod.close()
            self._open()
        self._tell(b"a")

    def _lacks_what_is_held(self, committed: Entries) -> None:
        found = self._writer.own(self._pod)
        if same(self._writer.own(read(self._life.path)), committed):
            # else the parent has been terminated, and wrote it
            self._expect(found, committed)

    def _interrupt(self, _: int, __: FrameType | None) -> None:
        if self._interruptible:
            self._interruptible = False
            self._interrupts += 1
            raise KeyboardInterrupt

    # --- limits

    def _limited(self, kind: int, limit: int) -> None:
        """Try to make changes while there is too little; each failure must say so and change nothing."""
        what, number = (b"d", errno.EMFILE) if kind == resource.RLIMIT_NOFILE else (b"m", errno.ENOMEM)
        usual = resource.getrlimit(kind)
        lowered = (limit, usual[1])
        for _ in range(self._chance.randint(1, 10)):
            change = self._writer.change(self._step, self._entries)
            if change.kind == "held" or (what == b"m" and len(str(change.put)) > 1 << 16):  # which crashes orjson
                return
            after = change.apply(self._entries)
            looks = self._chance.random() < 0.2
            error: Exception | None = None
            if what == b"m":
                self._tell(b"l")
            try:
                resource.setrlimit(kind, lowered)
                if looks:
                    self._look()
                else:
                    self._writer.commit(self._pod, change)
            # under a limit anything may raise; the limit has to go before it is judged, below
            except Exception as caught:
                _lift(kind, usual)
                error = caught
            _lift(kind, usual)
            if error is None:
                if looks:
                    self._tell(b"o")
                else:
                    self._made(after)
                continue
            if getattr(error, "errno", None) != number and not (what == b"m" and isinstance(error, MemoryError)):
                raise error
            if what == b"d" and not isinstance(error, TastypyError):
                raise error
            error.__traceback__ = None
            self._tell(what)
            # a MemoryError may come at any time, as Ctrl-C may
            made = isinstance(error, UnknownOutcomeError | MemoryError)
            self._find_out(after if made else self._entries)

    def _look(self) -> None:
        self._pod.refresh()
        with POD[str, Any](self._life.path, self._chance.choice("ar")) as pod:
            self._expect(self._writer.own(pod), self._entries)

    # --- children

    def _fork(self) -> None:
        """Have a child go on for a while, with the POD that it inherits, and go on from where it ended."""
        self._tell(b"f")
        reports, report = os.pipe()
        steps = self._chance.randint(1, 30)
        end = self._chance.choice(["leave", "leave", "kill", "terminate"])
        stays = self._chance.random() < 0.5

        def child() -> None:
            os.close(reports)
            self._reports.append(report)
            self._depth += 1
            if not stays:
                die_with_parent(parent)
            for _ in range(steps):
                self._do()
            if self._chance.random() < 0.7:
                self._hold(end=False)
            if end != "leave":
                os.kill(os.getpid(), signal.SIGKILL if end == "kill" else signal.SIGTERM)
                time.sleep(60)

        parent = os.getpid()
        exits = self._chance.random() < 0.5  # at once, and writes nothing then
        if exits:
            pid = os.fork()
            if not pid:
                _exit_after(child)
            os.close(report)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        else:
            process = multiprocessing.get_context("fork").Process(target=child)
            process.start()
            os.close(report)
            pid = process.pid or 0
            process.join()
            status = process.exitcode or 0
            process.close()
        account = Account(Known(self._writer, self._step, self._entries))
        while data := os.read(reports, 1 << 16):
            account.take(data)
        os.close(reports)
        if account.crashed(pid, status):
            self._tell(b"c")
            end = "kill"
        elif status != {"leave": 0, "kill": -signal.SIGKILL, "terminate": -signal.SIGTERM}[end]:
            message = f"a child that was to {end} has ended with status {status}, see above"
            raise WrongError(message)
        self._pod.refresh()
        account.settle(self._pod, 0 if end == "kill" or (exits and end == "leave") else pid)
        if account.counts[_OTHERS[b"t"]]:
            self._tell(b"t")
        self._step, self._entries = account.known.step, account.known.entries
        self._tell(b"a")

    def _tell(self, what: bytes) -> None:
        record = _RECORD.pack(what, os.getpid(), self._step)
        for number, report in enumerate(self._reports):
            try:
                os.write(report, record)
            except BrokenPipeError:
                if number == 0:  # nobody is there who would count it
                    os._exit(0)


def _exit_after(action: Callable[[], object]) -> NoReturn:
    status = 1
    try:
        action()
        status = 0
    except BaseException:  # whatever it was, nothing of the parent's may run in here
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _lift(kind: int, usual: tuple[int, int]) -> None:
    while True:
        try:
            resource.setrlimit(kind, usual)
        except MemoryError:
            continue
        return


def same(one: Entries, other: Entries) -> bool:
    """Tell whether both have the same entries in the same order."""
    return [*one.items()] == [*other.items()]


def die_with_parent(parent: int) -> None:
    """Have this process killed when the one that started it, `parent`, has ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def open_files() -> list[str]:
    """Return what each open descriptor of this process leads to."""
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            names.append(str(descriptor.readlink()))
    return names


def next_descriptor() -> int:
    """Return the number that the next descriptor will have."""
    descriptor = os.open("/", os.O_RDONLY)
    os.close(descriptor)
    return descriptor


def memory(field: int = 0) -> int:
    """Return the bytes of memory that this process has mapped, or, of field 1, that are resident."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[field]) * resource.getpagesize()
