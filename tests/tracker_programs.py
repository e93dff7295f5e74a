"""Programs that claim tasks, run in processes of their own: `python tracker_programs.py NAME ARGUMENT …`, and how to start them.

Most tests need no more than `obey`, which does what it is told, line by line, and answers each with one line. Some functions
are targets for multiprocessing, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import helpers
from faults import FailingOS

from tastypy import POD, Task, Tracker
from tastypy import files as tastypy_files

# A signal handler that raises, or a fork beside a thread, can hit coverage's own code while that holds its lock.
_NOT_MEASURED = {
    *("interrupt_often", "fork_beside_a_claim", "work_until_terminated", "terminate_while_counting"),
    *("terminate_beside_a_claim", "terminate_beside_a_transaction"),
}


def start(name: str, *arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    """Start a program of this file in a new interpreter."""
    command = [sys.executable, __file__, name, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if name in _NOT_MEASURED:
        environment = {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, **options)
    helpers._started.append(process)
    return process


def ask(process: subprocess.Popen[bytes], line: str) -> str:
    """Tell a program that obeys what to do; its answer."""
    helpers.tell(process, line)
    return helpers.hear(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a program so that it can do nothing about it."""
    process.kill()
    assert process.wait(helpers.PATIENCE) == -signal.SIGKILL  # not `end`, which waits for its children, too


def worker_files(path: Path | str) -> list[Path]:
    """The files of the workers that a directory knows, dead ones included."""
    return sorted(Path(path).glob("worker-*.jsonl"))


def open_files_of_workers(path: Path) -> list[str]:
    """The files of workers in a directory that this process has open, temporary ones included."""
    links = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:  # that of the listing itself
            continue
        place, name = os.path.split(link)
        if place == str(path) and name.startswith(("worker-", ".")) and "lock" not in name:
            links.append(name)
    return links


def leftovers(path: Path | str) -> dict[str, Any]:
    """What should not be there when every worker ended well: claims, files of workers, temporary files."""
    with POD[Any, Any](path, mode="r") as pod:
        found: dict[str, Any] = {f"{key}": entry for key, entry in pod.items() if "_claim" in entry}
    return found | {name: "a file" for name in os.listdir(path) if name.startswith("worker-") or name.endswith(".tmp")}


def claimed(tracker: Tracker[Any]) -> Task:
    """The next task, which there must be."""
    task = tracker.claim()
    assert task is not None
    return task


def finish(tracker: Tracker[Any], **options: Any) -> list[Any]:
    """Take every task to its end, in a loop; their keys, in that order."""
    keys = []
    for task in tracker.claims(**options):
        with task:
            keys.append(task.key)
    return keys


def say(line: object) -> None:
    """One line to the test, at once and whole."""
    os.write(1, f"{line}\n".encode())


def wait() -> None:
    """Wait for the test's line."""
    sys.stdin.readline()


def wait_for_the_end() -> NoReturn:
    """Do nothing until a signal ends this process."""
    while True:
        time.sleep(0.02)  # not `pause`: a signal that comes just before it is handled after it only


# ------------------------------------------------------------------------------------------------------- one that obeys


class Servant:
    """A worker that does what the test tells it: one method a word."""

    def __init__(self, path: str, max_tries: int) -> None:
        self.path = path
        self.tracker = Tracker[str](path, max_tries)
        self.loop: Iterator[Task] = iter(())
        self.tasks: list[Task] = []

    @property
    def task(self) -> Task:
        """The one claimed last."""
        return self.tasks[-1]

    def claim(self) -> object:
        """Claim one; its key, or None."""
        return self._took(self.tracker.claim())

    def loop_over(self, batch: str) -> object:
        """Begin a loop."""
        self.loop = self.tracker.claims(batch=int(batch))
        return "begun"

    def step(self) -> object:
        """Take the next task of the loop; its key, or None."""
        return self._took(next(self.loop, None))

    def _took(self, task: Task | None) -> object:
        if task is None:
            return None
        self.tasks.append(task)
        return task.key

    def leave(self) -> object:
        """Leave the loop."""
        del self.loop
        return "left"

    def done(self) -> object:
        """End the task as done."""
        self.task.done()
        return "done"

    def fail(self) -> object:
        """End the task as failed."""
        self.task.fail("told so")
        return "failed"

    def add(self, *keys: str) -> object:
        """Add tasks."""
        return self.tracker.add_many(keys)

    def fold(self) -> object:
        """Fold, so that others have to read the shards."""
        self.tracker.sync()
        return "folded"

    def close(self) -> object:
        """Close the tracker."""
        self.tracker.close()
        return "closed"

    def sleep_inside(self) -> object:
        """Stand in the block of the task for ever."""
        with self.task:
            say("inside")
            wait_for_the_end()

    def raise_inside(self) -> object:
        """Raise, in the block of the task, what nobody catches."""
        with self.task:
            raise LookupError("inside")

    def raise_outside(self) -> object:
        """Raise what nobody catches."""
        raise LookupError("outside")

    def exit_inside(self) -> object:
        """Exit in the block of the task."""
        with self.task:
            sys.exit(3)

    def exit(self) -> object:
        """Exit with the task in hand."""
        sys.exit(3)

    def handle_sigterm(self) -> object:
        """Have a handler of its own for SIGTERM, which exits."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        return "handled"

    def forget(self) -> object:
        """Have the tracker collected as garbage, with tasks that nobody ended."""
        self.tasks.clear()
        del self.tracker
        gc.collect()
        return "forgotten"

    def fork(self) -> object:
        """Fork a child in the block of the task, where it stays; its process id, once it does."""
        self.task.__enter__()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            with contextlib.ExitStack() as block:
                block.push(self.task)  # entered before
                os.write(writing, b"inside")
                wait_for_the_end()
        os.read(reading, 6)
        return child


def obey(path: str, max_tries: str = "0") -> None:
    """Do what each line says, and answer it."""
    servant = Servant(path, int(max_tries))
    for line in sys.stdin:
        word, *arguments = line.split()
        action: Callable[..., object] = getattr(servant, word)
        say(action(*arguments))


# --------------------------------------------------------------------------------------------------- workers that go on


def work(path: str, journal: str, batch: str, milliseconds: str = "2") -> None:
    """The loop of the documentation, with a record outside the tracker of what it did to which task, and when.

    What stands in the block is guarded by an flock of the task's own, which the kernel drops at a kill: were two workers to
    stand in one block at once, one of them would say so.
    """
    tracker = Tracker[int](path)
    record = os.open(journal, os.O_WRONLY | os.O_APPEND)

    def note(what: str, key: object) -> None:
        os.write(record, f"{what} {key} {os.getpid()}\n".encode())

    note("begin", "-")
    for task in tracker.claims(batch=int(batch), wait=True):
        with task:
            guard = os.open(f"{journal}.{task.key}", os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                note("overlap", task.key)
            note("start", task.key)
            time.sleep(random.uniform(0, 2 * float(milliseconds) / 1000))
            task["status"] = task.key * 2
            note("end", task.key)
            os.close(guard)
        note("finished", task.key)
    tracker.close()


def work_and_add(path: str, least: str) -> None:
    """Work with others, and add two tasks for each below a depth; say which ones were done here."""
    tracker = Tracker[int](path)
    done = []
    for task in tracker.claims(wait=True):
        with task:
            if task.key < int(least):
                tracker.add_many_if_absent([2 * task.key, 2 * task.key + 1])
            done.append(task.key)
    tracker.close()
    say(" ".join(map(str, done)))


def work_until_terminated(path: str, threads: str, batch: str) -> None:
    """Claim and finish tasks, in several threads, until a signal ends this process; say when some are finished."""
    tracker = Tracker[int](path)
    numbers = iter(range(10**9))

    def loop() -> None:
        for task in tracker.claims(batch=int(batch)):
            with task:
                if next(numbers) == 20:
                    say("busy")

    for _ in range(int(threads) - 1):
        threading.Thread(target=loop, daemon=True).start()
    loop()


class Interrupt(BaseException):
    """What the timer's signal raises, as Ctrl-C raises KeyboardInterrupt."""


def interrupt_often(path: str, times: str, batch: str) -> None:
    """Claim and finish tasks, be interrupted at every moment of that, go on; at last close the tracker and say how it was."""
    chance = random.Random(0)
    tracker = Tracker[int](path)

    def interrupt(*_: object) -> None:
        raise Interrupt

    signal.signal(signal.SIGALRM, interrupt)
    interrupts = 0
    while interrupts < int(times):
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00002, 0.001))
            for task in tracker.claims(batch=int(batch)):
                with task:
                    task["n"] = task.key
            signal.setitimer(signal.ITIMER_REAL, 0)
            tracker.add_many(range(len(tracker), len(tracker) + 1000))
        except Interrupt:
            interrupts += 1
    descriptors = len(os.listdir("/proc/self/fd"))
    tracker.close()
    say("sound" if descriptors < 20 else f"{descriptors} open files")
    wait()


def terminate_while_counting(path: str) -> None:
    """Claim a task, and be terminated when all figures are counted anew, as after two folds of others."""
    tracker = Tracker[str](path)
    task = tracker.claim()
    say(task and task.key)
    wait()
    tracker.refresh()
    count = tracker._index._count

    def terminate(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        count(*arguments)

    tracker._index._count = terminate  # type: ignore[method-assign,assignment]  # the moment that is tested
    tracker.counts()
    say("not counted anew")


def terminate_beside_a_transaction(path: str) -> None:
    """Be terminated with a task in hand while another thread stays in a transaction for ever."""
    tracker = Tracker[str](path, timeout=0.5)
    task = tracker.claim()
    inside = threading.Event()

    def stay() -> None:
        with tracker.transaction():
            inside.set()
            wait_for_the_end()

    threading.Thread(target=stay, daemon=True).start()
    assert inside.wait(helpers.PATIENCE)
    say(task and task.key)
    wait_for_the_end()


def terminate_beside_a_claim(path: str) -> None:
    """Be terminated while a thread has a task whose claim was under way when another thread's last task ended."""
    tracker = Tracker[str](path)
    first = tracker.claim()
    assert first is not None
    chose, ended, has_claimed = threading.Event(), threading.Event(), threading.Event()
    real = tracker._commit_items

    def claim() -> None:
        task = tracker.claim()
        has_claimed.set()
        time.sleep(helpers.PATIENCE)
        assert task

    def commit(*arguments: Any) -> bool:
        if threading.current_thread() is not threading.main_thread():
            chose.set()
            ended.wait(helpers.PATIENCE)
        return real(*arguments)

    Tracker._commit_items = staticmethod(commit)  # type: ignore[method-assign,assignment]  # it is about the moment before it
    threading.Thread(target=claim, daemon=True).start()
    assert chose.wait(helpers.PATIENCE)
    first.done()
    ended.set()
    assert has_claimed.wait(helpers.PATIENCE)
    say("claimed")
    wait_for_the_end()


def fork_beside_a_claim(path: str, call: str) -> None:
    """Fork while another thread is in the middle of its first claim, at this system call on the file of its worker.

    Says the child's process id, and then what the thread claimed.
    """
    tracker = Tracker[str](path)
    say("ready")
    wait()
    reached, forked, has_claimed = threading.Event(), threading.Event(), threading.Event()
    failing = FailingOS()

    def before(first: int | str, *_: Any) -> None:
        if ".tmp" in (first if isinstance(first, str) else os.readlink(f"/proc/self/fd/{first}")):
            reached.set()
            forked.wait(helpers.PATIENCE)

    def claim() -> None:
        task = tracker.claim()
        say(task and task.key)
        has_claimed.set()
        time.sleep(helpers.PATIENCE)

    failing.before[call] = before
    vars(tastypy_files)["os"] = failing
    threading.Thread(target=claim, daemon=True).start()
    assert reached.wait(helpers.PATIENCE)
    child = os.fork()
    if child == 0:
        say(os.getpid())  # what is done at a fork is done
        wait_for_the_end()
    wait()
    forked.set()
    assert has_claimed.wait(helpers.PATIENCE)
    wait_for_the_end()


# --------------------------------------------------------------------------------------------- targets of multiprocessing

_tracker: Tracker[Any]


def open_in_worker(path: str) -> None:
    """The initializer of a Pool: each worker has a tracker of its own."""
    global _tracker  # noqa: PLW0603 - this is how the workers of a Pool keep something
    _tracker = Tracker(path)


def claim_in_pool(tracker: Tracker[int] | None, _: int) -> tuple[int, int]:
    """Claim a task and finish it, with a tracker that came along or with the worker's own; its key and this process."""
    for task in (tracker or _tracker).claims():
        with task:
            task["status"] = os.getpid()
        return task.key, os.getpid()
    return -1, os.getpid()


def look_at_sigterm(tracker: Tracker[Any]) -> list[bool]:
    """Whether SIGTERM is taken in a worker: before it claims something, meanwhile, and after that."""

    def is_taken() -> bool:
        return signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL

    seen = [is_taken()]
    for task in tracker.claims():
        with task:
            seen.append(is_taken())
        break
    return [*seen, is_taken()]


def claim_and_stay(_: int) -> Any:
    """Claim a task, and leave it claimed when the Pool ends its workers; its key."""
    task = _tracker.claim()
    return task and task.key


def claim_and_wait(path: str, keys: Any) -> None:
    """Claim a task, tell which one, and have it in hand until a signal ends this process."""
    task = Tracker[Any](path).claim()
    keys.put(task and task.key)
    with task or contextlib.nullcontext():
        wait_for_the_end()


def main() -> None:
    """Run the program that the command line names."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored,
    signal.signal(signal.SIGINT, signal.default_int_handler)  # and a shell this one, of what runs in the background
    name, *arguments = sys.argv[1:]
    globals()[name](*arguments)


if __name__ == "__main__":
    main()
