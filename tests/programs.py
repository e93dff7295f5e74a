"""Programs that tests run in processes of their own: `python programs.py NAME ARGUMENT …`, or targets for multiprocessing.

A program says one line at each point that the test waits for, and waits for a line where the test must act first.
"""

from __future__ import annotations

import atexit
import gc
import os
import random
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn

from tastypy import POD

if TYPE_CHECKING:  # a process that never imports multiprocessing ends in another way
    from multiprocessing.synchronize import Barrier

PATIENCE = 60


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


# ------------------------------------------------------------------------------------------- programs with held changes


def hold_and(end: str, path: str) -> None:
    """Hold a change, and end in the way that `end` says."""
    pod = POD[str, int](path)
    pod["assigned"] = 1
    pod.hold()
    if end != "after a thread":
        pod["held"] = 2
    match end:
        case "return":
            return
        case "exit":
            sys.exit(3)
        case "raise":
            raise LookupError("uncaught")
        case "thread":
            threading.Thread(target=lambda: say("left")).start()
        case "wait":
            say("ready")
            wait_for_the_end()
        case "after a thread":
            hold_without_main_guard(f"{path}.other")
            pod["held"] = 2
            say("ready")
            wait_for_the_end()
        case "garbage":
            del pod
            gc.collect()
            say("collected")
            wait()
        case "own handler":
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
            say("ready")
            wait_for_the_end()
        case "atexit":
            atexit.register(pod.__setitem__, "registered", 3)
        case "in a transaction":
            with pod.transaction():
                pod["never"] = 1
                say("ready")
                wait()
        case _:
            raise AssertionError(end)


def hold_without_main_guard(path: str) -> None:
    """Hold a change in a thread that is not the main one, and return."""

    def work() -> None:
        pod = POD[str, int](path)
        pod.hold()
        pod["held"] = 2

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


# ------------------------------------------------------------------------------------------------------- busy programs


def assign_and_say(path: str, options: str = "") -> None:
    """Assign 0, 1, 2, … and say each number once its assignment returned, until killed."""
    pod = POD[int, str](path, shard_bytes=200, gzipped="gzipped" in options)
    say("ready")
    number = 0
    while True:
        pod[number] = "x" * (number % 50)
        if "sync" in options and number % 3 == 0:
            pod.sync()
        say(number)
        number += 1


def occupy(path: str, how: str) -> None:
    """Have the lock for milliseconds, again and again without a break, until the other side ends this."""
    with POD[str, int](path) as pod:
        for number in range(1_000_000):
            if how == "sync":
                pod["loop"] = number
                pod.sync()
            else:
                with pod.transaction():
                    pod["loop"] = number
                    time.sleep(0.005)
            if number == 3:
                say("begun")


def update_pairs(path: str) -> None:
    """Set two keys to the same number in one transaction, again and again, until killed."""
    pod = POD[str, int](path)
    number = 0
    say("ready")
    while True:
        number += 1
        with pod.transaction():
            pod["one"] = number
            pod["two"] = number
        if number % 50 == 0:
            pod.sync()


def count_until_terminated(path: str) -> None:
    """Commit as fast as possible, with something held meanwhile, until SIGTERM."""
    pod = POD[str, int](path)
    pod.hold()
    pod["held"] = 1
    number = 0
    say("ready")
    while True:
        number += 1
        with pod.transaction():
            pod["committed"] = number
        say(number)


class Interrupt(BaseException):
    """What the timer's signal raises, as Ctrl-C raises KeyboardInterrupt."""


def interrupt_often(path: str, times: str) -> None:
    """Be interrupted at every moment of commits, folds, transactions and holds, and go on as if nothing had happened.

    Says "sound" if after each interruption memory equals disk, and each change was made or not.
    """
    chance = random.Random(0)
    pod, witness = POD[Any, Any](path, shard_bytes=200), POD[Any, Any](path, mode="r")
    pod.update(one=0, two=0, n=0)

    def interrupt(*_: object) -> None:
        raise Interrupt

    signal.signal(signal.SIGALRM, interrupt)
    for number in range(1, int(times) + 1):
        done = 0
        before = pod.copy()
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00001, 0.002))
            while True:
                with pod.transaction():
                    pod["one"] = pod["two"] = number + done / 1000
                pod["n"] = number
                pod.sync() if done % 4 == 3 else pod.setdefault(f"key {number % 20}", number)
                with pod.hold():
                    pod.pop(f"key {number % 20}", None)
                done += 1
        except Interrupt:
            pass
        pod.unhold()  # it may have come between the hold and its block
        witness.refresh()
        if pod != witness or list(pod) != list(witness) or pod["one"] != pod["two"]:
            say(f"{number}: {before} became {pod.copy()} in memory, {witness.copy()} on disk")
            return
        pod["n"] = -number
    problems = pod.check()
    say(problems or "sound")


def stand_in_transaction(path: str) -> None:
    """Stay inside a transaction until told to go on; say so before and after."""
    pod = POD[str, int](path)
    with pod.transaction():
        pod["inside"] = 1
        say("inside")
        wait()
    say("committed")


def fork_while_committing(path: str, forks: str, how: str) -> None:
    """Fork while another thread commits in a loop; each child commits, reads and ends within seconds."""
    pod = POD[str, int](path, timeout=20)
    begun, stop = threading.Event(), threading.Event()

    def commit() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            match how:
                case "assign":
                    pod["loop"] = number
                case "transaction":
                    with pod.transaction():
                        pod["loop"] = number
                case "sync":
                    pod["loop"] = number
                    pod.sync()
            begun.set()

    thread = threading.Thread(target=commit)
    thread.start()
    begun.wait(20)
    try:
        for number in range(int(forks)):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    pod[f"child {number}"] = number
                    pod.refresh()
                    if pod["loop"] > 0 and pod[f"child {number}"] == number and pod.dirty() == set():
                        status = 0
                finally:
                    os._exit(status)
            deadline = time.monotonic() + 30
            while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
                time.sleep(0.0005)
            if ended[0] == 0:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                say(f"child {number} hangs")
                return
            if ended[1]:
                say(f"child {number} ended with {os.waitstatus_to_exitcode(ended[1])}")
                return
    finally:
        stop.set()
        thread.join()
    pod.refresh()
    missing = [number for number in range(int(forks)) if f"child {number}" not in pod]
    say(f"missing {missing}" if missing else "all there")


def fork_inside_transaction(path: str) -> None:
    """Leave a transaction in a forked child: it does nothing there; the parent's goes on and still excludes others."""
    pod = POD[str, int](path, timeout=0.3)
    pod["before"] = 1
    with pod.transaction():
        pod["parent"] = 1
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            say(f"child {os.waitstatus_to_exitcode(status)}")
            wait()
    if child == 0:
        problems = 2 * ("parent" in pod) + 4 * bool(pod.dirty())
        try:
            pod["child"] = 1  # the parent has the lock
        except TimeoutError:
            os._exit(problems)
        os._exit(problems + 1)
    say("committed")


# --------------------------------------------------------------------------------------------- targets of multiprocessing


def assign(pod: POD[Any, Any], key: Any, value: Any) -> None:
    """Assign through a POD that was inherited or pickled."""
    pod[key] = value


def assign_number(pod: POD[Any, Any], number: int) -> int:
    """Assign through a POD that a task brought along; for `Pool.starmap`."""
    pod[number] = os.getpid()
    return os.getpid()


_pod: POD[Any, Any]


def open_in_worker(path: str, *, held: bool) -> None:
    """The initializer of a Pool: each worker has a POD of its own."""
    global _pod  # noqa: PLW0603 - this is how the workers of a Pool keep something
    _pod = POD(path)
    if held:
        _pod.hold()


def work(number: int) -> int:
    """A task of a Pool whose workers called `open_in_worker`."""
    _pod[number] = number * number
    return number


def work_on(number: int) -> None:
    """A task of such a Pool that goes on until its worker is terminated; beside the POD it is told that it has begun."""
    work(number)
    with POD[int, bool](f"{_pod.path}.begun") as begun:
        begun[number] = True
    wait_for_the_end()


def is_sigterm_taken() -> bool:
    """Whether SIGTERM is handled here, and not left to end the process at once."""
    return signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL


def look_at_sigterm(pod: POD[Any, Any]) -> list[bool]:
    """Whether SIGTERM is taken: before anything is held, meanwhile, and after that."""
    seen = [is_sigterm_taken()]
    with pod.hold():
        pod["held"] = 1
        seen.append(is_sigterm_taken())
    return [*seen, is_sigterm_taken()]


def hold_in_child(path: str) -> None:
    """Hold a change and return: the process ends."""
    pod = POD[Any, Any](path)
    pod.hold()
    pod[os.getpid()] = "held"


def create_at_once(path: str, barrier: Barrier, number: int) -> None:
    """Create the POD together with others, and write one key."""
    barrier.wait(PATIENCE)
    with POD[int, int](path) as pod:
        pod[number] = number


def count(path: str, barrier: Barrier, how: str, times: int) -> None:
    """Add one to a counter `times` times, atomically, together with others."""
    with POD[str, Any](path) as pod:
        barrier.wait(PATIENCE)
        for _ in range(times):
            match how:
                case "incr":
                    pod.incr("n")
                case "transaction":
                    with pod.transaction():
                        pod["n"] += 1
                case "edit":
                    with pod.edit("list") as value:
                        value[0] += 1
                case "pop":
                    while (value := pod.pop("token", None)) is None:
                        pass
                    pod["token"] = value + 1
        if how == "transaction":
            pod.sync()


def take_all(path: str, barrier: Barrier, number: int) -> None:
    """Empty the POD with others, by `popitem` from both ends, and write what was taken beside it."""
    taken = []
    with POD[int, int](path) as pod:
        barrier.wait(PATIENCE)
        while True:
            try:
                taken.append(pod.popitem(last=bool(number % 2))[0])
            except KeyError:
                break
    with POD[int, list[int]](f"{path}.taken") as results:
        results[number] = taken


def expect_no_inheritance(pod: POD[Any, Any], barrier: Barrier) -> None:
    """In a forked child: the parent's held changes are not ours, in memory or to write."""
    barrier.wait(PATIENCE)
    if pod.dirty() or "held" in pod or pod["changed"] != "committed" or "deleted" not in pod:
        os._exit(5)
    pod["child"] = 1
    pod.sync()


def main() -> None:
    """Run the program that the command line names."""
    name, *arguments = sys.argv[1:]
    globals()[name](*arguments)


if __name__ == "__main__":
    main()
