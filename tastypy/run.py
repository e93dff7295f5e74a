"""`Tracker.run`: workers that take every remaining task through a function, in an executor or in processes of `crew`.

Whoever runs has a file like a worker's as long as the run goes on, by which workers everywhere know that it does. All
that is done goes into the tracker; nothing passes through here but news of errors.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NamedTuple, NoReturn, TypeVar

from tastypy import lifecycle
from tastypy.claims import ClaimedDict
from tastypy.errors import WorkerError
from tastypy.progress import Progress, progress_of
from tastypy.task import Task
from tastypy.tasks import check_number
from tastypy.tracker import Summary
from tastypy.workers import Worker, begin, current, host, is_alive

log = logging.getLogger("tastypy")

K = TypeVar("K")

_LOOK_EVERY = 0.5  # seconds between a worker's looks whether the run goes on
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0  # seconds before a task that fails is tried again, where max_tries is no limit


class Job(NamedTuple):
    """What a worker has to do.

    Attributes:
        marker: the worker's name of whoever runs, which is alive as long as the run goes on.
        parent: its host and process.
        ignored: the tokens of claims that it has itself, and that nobody waits for.
        number: of the executor's call, since dask takes calls that are equal for one, and makes it once.
    """

    tracker: ClaimedDict[Any]
    func: Callable[[Any], Any]
    batch: int
    stop_at_error: bool
    marker: str
    parent: tuple[str, int]
    ignored: frozenset[str]
    number: int = 0

    def is_here(self) -> bool:
        """Tell whether this is the process that runs."""
        return (host(), os.getpid()) == self.parent


class StoppedError(SystemExit):
    """Whoever runs has told this worker to stop."""


class Failure(NamedTuple):
    """The exception that ended a worker, to be raised where the run is.

    Attributes:
        error: itself, if it is still in its process.
        data: pickled.
        message: in words, for where that cannot be unpickled.
        text: its traceback.
    """

    error: BaseException | None
    data: bytes
    message: str
    text: str

    def reraise(self, path: str) -> NoReturn:
        """Raise the exception, with the worker's traceback as its cause."""
        if self.error is not None:
            raise self.error
        try:
            error: BaseException = pickle.loads(self.data)  # noqa: S301 - from a worker of ours
        except Exception:  # noqa: BLE001 - it may need what only the worker has
            error = WorkerError(self.message, path)
        raise error from _TracebackError(self.text)


class _TracebackError(Exception):
    """Shows the traceback of another process as the cause of an exception that came from there."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def run(
    tracker: ClaimedDict[K],
    func: Callable[[K], Any],
    *,
    workers: int | None,
    executor: concurrent.futures.Executor | None,
    progress: bool | None,
    batch: int,
    on_error: str,
) -> Summary:
    """Do what `ProgressTracker.run` says."""
    from tastypy.crew import supervise  # noqa: PLC0415 - which stands on this module

    number = _number_of_workers(executor) if workers is None else workers
    check_number("workers", number, 1)
    check_number("batch", batch, 1)
    if on_error not in ("record", "raise"):
        message = f'on_error must be "record" or "raise", not {on_error!r}'
        raise ValueError(message)
    if not callable(func):
        message = f"func must be callable, not {func!r}"  # type: ignore[unreachable]  # types are not checked at run time
        raise TypeError(message)
    tracker._refuse_now("run")
    start = time.monotonic()
    if tracker.dirty():
        tracker.sync()  # workers see what is in the directory
    tracker.refresh()
    before = tracker._figures().figures.counts
    own = current(tracker._store)
    ignored = frozenset(own.tokens if own is not None else ())
    if tracker._others_work(ignored):
        with _sigterm_raises(tracker), progress_of(tracker, progress) as shown, _marked(tracker) as marker:
            parent = (host(), os.getpid())
            job = Job(tracker, func, batch, on_error == "raise", marker.name, parent, ignored)
            try:
                if executor is None:
                    supervise(job, number, shown)
                else:
                    _submit(job, number, executor, shown, marker)
            finally:
                tracker.refresh()  # after an error, too: what workers gave back is known here
            if not marker.is_whole() and tracker._others_work(ignored):
                message = f"{marker.path}, by which workers know that the run goes on, was removed before all was done"
                raise WorkerError(message, tracker.path)
    after = tracker._figures().figures.counts
    failed = after.failed + after.given_up
    return Summary(max(after.done - before.done, 0), failed, after.given_up, time.monotonic() - start)


def _number_of_workers(executor: Any) -> int:
    own = getattr(executor, "_max_workers", None)  # of the executors of the standard library, loky, and mpi4py
    return own if isinstance(own, int) else len(os.sched_getaffinity(0))


@contextlib.contextmanager
def _marked(tracker: ClaimedDict[Any]) -> Iterator[Worker]:
    """Have a file in the directory that says that the run goes on, as long as this process lives."""
    store = tracker._store
    marker = store.lock.run(lambda: begin(store, {"role": "run"}), store.timeout, tracker._meanwhile)
    try:
        yield marker
    finally:
        marker.end()


class _TerminatedError(BaseException):
    """SIGTERM came, whose default action would have ended the process."""


@contextlib.contextmanager
def _sigterm_raises(tracker: ClaimedDict[Any]) -> Iterator[None]:
    """Let SIGTERM raise in here, and do afterwards what it would have done, where that is to end the process."""
    before, process = signal.getsignal(signal.SIGTERM), os.getpid()
    if threading.current_thread() is not threading.main_thread() or before not in (
        signal.SIG_DFL,
        lifecycle._on_signal,
    ):
        yield  # only the main thread gets signals; and a handler of the program's own decides for itself
        return

    came = False

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if os.getpid() != process:  # a child that an executor has forked meanwhile
            lifecycle._on_signal(number, frame)
        elif not came:
            came = True  # a scheduler sends it to all processes of a job, and the job's shell sends it on: workers let go still
            raise _TerminatedError

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except _TerminatedError:
        signal.signal(signal.SIGTERM, before)
        with contextlib.suppress(Exception):
            tracker._release()  # what threads of this process have in hand; it is tried again, and told, below
        lifecycle._on_signal(signal.SIGTERM, None)
        sys.exit(128 + signal.SIGTERM)  # where that was deferred
    finally:
        signal.signal(signal.SIGTERM, before)


# --- what a worker does


def work(job: Job, is_stopped: Callable[[], bool] | None = None) -> Failure | None:
    """Take tasks through the function until there are none, or the run is over; return what went wrong.

    Executors call this, and processes of a crew, whose signals decide whether it `is_stopped`.
    """
    try:
        _loop(job, is_stopped)
        if not job.is_here():
            job.tracker.close()
    except (StoppedError, _TerminatedError):
        raise
    except BaseException as error:
        if is_stopped is None and isinstance(error, KeyboardInterrupt):
            raise
        message = "".join(traceback.format_exception_only(error)).strip()
        try:
            data = pickle.dumps(error)
        except Exception:  # noqa: BLE001 - it may hold whatever cannot be pickled
            data = b""
        return Failure(error if job.is_here() else None, data, message, traceback.format_exc())
    return None


def _loop(job: Job, is_stopped: Callable[[], bool] | None) -> None:
    looked = time.monotonic()

    def is_over() -> bool:
        nonlocal looked
        now = time.monotonic()
        if is_stopped is not None and is_stopped():
            return True
        if now - looked < _LOOK_EVERY:
            return False
        looked = now
        return not is_alive(job.tracker._store, job.marker)

    for task in job.tracker._claims(job.batch, wait=True, is_over=is_over, ignored=job.ignored):
        try:
            with task:
                _do(job, task, is_stopped)
        except Exception:
            if job.stop_at_error or not task.ended:  # else it is recorded
                raise


def _do(job: Job, task: Task, is_stopped: Callable[[], bool] | None) -> None:
    """Take a task through the function, in its block."""
    process = os.getpid()
    try:
        if task.tries and job.tracker._max_tries == 0:
            time.sleep(min(_FIRST_PAUSE * 2 ** min(task.tries - 1, 20), _LONGEST_PAUSE))
        result = job.func(task.key)
        if os.getpid() != process:  # it has forked, and this is the child, which has no business here
            os._exit(0)
        task["result"] = result
    except (StoppedError, _TerminatedError):
        raise
    except BaseException as error:
        if is_stopped is None:
            if isinstance(error, KeyboardInterrupt):
                raise  # somebody's Ctrl-C, where no crew takes note of it
        elif is_stopped():
            # a Ctrl-C ends programs, too, that the function has started: no failure of the task
            raise StoppedError(0) from error
        if isinstance(error, Exception):
            raise
        task.fail(error)  # what would end the worker elsewhere, such as sys.exit, is an error of the task here
        if job.stop_at_error:
            raise


# --- an executor


def not_picklable(job: Job, error: BaseException) -> WorkerError:
    """Return what to raise where the function cannot be brought to other processes."""
    message = (
        f"{job.func!r} cannot be brought to other processes ({error}): define it at the top of a module that they can import, "
        "not in a function, as a lambda or on the command line"
    )
    return WorkerError(message, job.tracker.path)


def _submit(job: Job, number: int, executor: concurrent.futures.Executor, shown: Progress, marker: Worker) -> None:
    """Have so many workers of an executor at work until all is done."""
    futures: list[concurrent.futures.Future[Failure | None]] = []
    try:
        for one in range(number):  # in here, for a Ctrl-C when some have begun
            futures.append(executor.submit(work, job._replace(number=one)))  # noqa: PERF401 - as above
        _attend(set(futures), job, shown)
    except BaseException as error:
        marker.end()  # by which the others know
        # those that could be cancelled may never be told so, and would be waited for without end
        begun = [future for future in futures if not future.cancel()]
        if not isinstance(error, _TerminatedError):
            _, left = concurrent.futures.wait(begun, 2)
            if left:
                log.warning("waiting for workers to end what they have in hand; Ctrl-C leaves them to it")
            concurrent.futures.wait(left)
        raise


def _attend(left: set[concurrent.futures.Future[Failure | None]], job: Job, shown: Progress) -> None:
    """Show how it goes until all workers have ended, and raise what one of them ended with."""
    # in a function of its own for a Ctrl-C: see tests/test_jumps.py
    while left:
        ended, left = concurrent.futures.wait(left, shown.every, concurrent.futures.FIRST_COMPLETED)
        job.tracker.refresh()
        shown.update()
        for future in ended:
            failure = _result(future, job)
            if failure is not None:
                failure.reraise(job.tracker.path)


def _result(future: concurrent.futures.Future[Failure | None], job: Job) -> Failure | None:
    try:
        return future.result()
    except (pickle.PicklingError, AttributeError, TypeError) as error:  # nothing of the function's comes this way
        raise not_picklable(job, error) from error
