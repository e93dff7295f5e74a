"""The processes of a run in this host: started, supervised, replaced when they die, and dismissed."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from tastypy.errors import WorkerError
from tastypy.progress import Progress
from tastypy.run import Failure, Job, StoppedError, not_picklable, work

log = logging.getLogger("tastypy")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAY_AFTER = 2.0  # seconds of waiting for workers after which that is said

# by process, since a forked child has that of its parent locked; one thread forks at a time: filelock has a fork fail while
# another one is under way, since a descriptor of its might be inherited half changed
_forks: dict[int, threading.Lock] = {}


def supervise(job: Job, number: int, shown: Progress) -> None:
    """Keep so many processes at work until all is done."""
    context = multiprocessing.get_context()
    crew: list[_Member] = []
    payload = None
    if context.get_start_method() != "fork":
        payload = _pickled(job)
        job = job._replace(func=_unknown)
    try:
        for _ in range(number):
            _start(crew, context, job, payload)
        _attend(crew, context, job, payload, shown)
    except BaseException:
        _dismiss(crew)
        raise


def _attend(crew: list[_Member], context: Any, job: Job, payload: bytes | None, shown: Progress) -> None:
    """Show how it goes, and have others take the places of those that died, until all have ended."""
    # in a function of its own for a Ctrl-C: see tests/test_jumps.py
    while crew:
        wait([thing for one in crew for thing in (one.process.sentinel, one.news)], shown.every)
        job.tracker.refresh()
        shown.update()
        for one in list(crew):
            if one.has_ended(job):
                crew.remove(one)
                if not one.finished:
                    _start(crew, context, job, payload)


def _pickled(job: Job) -> bytes:
    try:
        payload = pickle.dumps(job.func)
    except Exception as error:
        raise not_picklable(job, error) from error
    try:
        pickle.dumps(job.tracker)
    except Exception as error:
        message = f"{job.tracker!r} cannot be brought to other processes, since its default= cannot ({error})"
        raise WorkerError(message, job.tracker.path) from error
    return payload


def _unknown(_: Any) -> None:
    """Stand for a function that is sent by itself, so that it can be said that it cannot be found."""


# --- in the parent


class _Member:
    """A worker process, and what it told.

    Attributes:
        begun: it has begun to work.
        finished: it has ended because there was nothing left to do.
    """

    def __init__(self, context: Any, job: Job, payload: bytes | None) -> None:
        self.begun = self.finished = False
        self.news, self.theirs = context.Pipe(duplex=False)
        arguments = (job, payload, self.theirs)
        self.process: BaseProcess = context.Process(target=_main, args=arguments, name="tastypy worker")

    def has_ended(self, job: Job) -> bool:
        """Tell whether it has ended; raise what it ended with."""
        ended = not self.is_running()
        for message in list(self._told()):
            self.begun = True
            self.finished = self.finished or message == "finished"
            if isinstance(message, Failure):
                message.reraise(job.tracker.path)
        if ended:
            self.news.close()
            if not self.finished:
                self._say_how(job)
        return ended

    def _told(self) -> Iterator[Any]:
        # in a function of its own for a Ctrl-C: see tests/test_jumps.py
        try:
            while self.news.poll():
                yield self.news.recv()
        except (EOFError, OSError):
            pass

    def is_running(self) -> bool:
        """Tell whether it runs: where the program ignores what becomes of its children, nobody else tells how it ended."""
        if not wait([self.process.sentinel], 0):
            return self.process.is_alive()
        self.process.join(1)
        return False

    def _say_how(self, job: Job) -> None:
        path, code = job.tracker.path, self.process.exitcode
        if not self.begun:
            message = (
                f"a worker of the run on {path} ended with status {code} before it began, and what it printed says why. "
                'Where processes are spawned, the program must be importable: start it under `if __name__ == "__main__":`'
            )
            raise WorkerError(message, path)
        log.warning("%s: worker %d died with status %s; another one takes its place", path, self.process.pid, code)


def _start(crew: list[_Member], context: Any, job: Job, payload: bytes | None) -> None:
    """Add a member to the crew and start it: in this order, so that whatever comes in between, it is dismissed."""
    one = _Member(context, job, payload)
    crew.append(one)
    with _undisturbed(context.get_start_method()):
        one.process.start()
    one.theirs.close()


@contextlib.contextmanager
def _undisturbed(method: str) -> Iterator[None]:
    """Put signals off while a process is started."""
    if method == "fork":
        with _forks.setdefault(os.getpid(), threading.Lock()):
            # in the child, too, until it has handlers of its own
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            try:
                yield
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
    elif threading.current_thread() is threading.main_thread():
        # not blocked: the server that forks would have them blocked for ever, and all that comes from it
        came: list[int] = []
        # None: a handler that was not installed from Python, which could not be put back
        heeded = [one for one in _SIGNALS if signal.getsignal(one) not in (signal.SIG_IGN, None)]
        handlers = {one: signal.signal(one, lambda number, _: came.append(number)) for one in heeded}
        try:
            yield
        finally:
            for one, handler in handlers.items():
                signal.signal(one, handler)
            for number in came:
                signal.raise_signal(number)
    else:
        yield


def _dismiss(crew: list[_Member]) -> None:
    """End all workers: each releases what it has in hand. Ctrl-C meanwhile kills them, which the others will notice."""
    crew = [one for one in crew if one.process.pid is not None]
    try:
        for one in crew:
            one.process.terminate()
        _wait_for(crew)
    finally:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for one in crew:
            one.process.kill()
        for one in crew:
            one.process.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait_for(crew: list[_Member]) -> None:
    # in a function of its own for a Ctrl-C: see tests/test_jumps.py
    start = time.monotonic()
    said = False
    for one in crew:
        while one.is_running():
            wait([one.process.sentinel], 0.1)
            if not said and time.monotonic() - start > _SAY_AFTER:
                said = True
                log.warning("waiting for workers to let go of what they have in hand; Ctrl-C kills them")


# --- in the child


class _Notice:
    """What signals have told a worker process."""

    def __init__(self) -> None:
        self.interrupted = self.stopped = False

    def interrupt(self, *_: object) -> None:
        """Take note of a Ctrl-C, which is for the parent (as a handler: programs started here do not inherit it)."""
        self.interrupted = True

    def stop(self, *_: object) -> None:
        """Stop at once, the first time."""
        if not self.stopped:
            self.stopped = True
            raise StoppedError(0)

    def came(self) -> bool:
        """Tell whether this worker is to take no more tasks."""
        return self.interrupted or self.stopped


def _main(job: Job, payload: bytes | None, news: Connection) -> None:
    """Be a worker process: tell that it begins, and how it ends."""
    notice = _Notice()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # else, as under nohup, what is started here inherits that it is ignored
        signal.signal(signal.SIGINT, notice.interrupt)
    signal.signal(signal.SIGTERM, notice.stop)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        if payload is not None:
            try:
                job = job._replace(func=pickle.loads(payload))  # noqa: S301 - from our parent
            except Exception as error:  # noqa: BLE001 - whatever there is to be imported may raise
                lost = not_picklable(job, error)
                news.send(Failure(None, pickle.dumps(lost), str(lost), ""))
                return
        news.send("begun")
        end = work(job, notice.came)
        if end is not None or not notice.came():
            news.send(end or "finished")
    finally:
        notice.stopped = True  # what comes now is too late to stop anything
        job.tracker.close()
