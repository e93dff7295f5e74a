"""The open PODs of this process: what happens to them at its exit, at SIGTERM and SIGHUP, and in a forked child.

A POD with held changes is referenced strongly from here until they are written, so that garbage collection loses nothing.

A worker of multiprocessing takes SIGTERM only while it holds or has claimed something. `Pool.terminate` sends it once and
waits for ever, and CPython, which runs a handler between two instructions, does not see a signal that comes just before the
main thread begins to wait in C, as the workers of a pool do between two jobs: the default action has no such gap.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` makes enums: at its import, and with each call, which takes 2 us
import _thread
import atexit
import gc
import logging
import os
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from tastypy import lock as locks
from tastypy import reading

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from tastypy.memory import Memory

log = logging.getLogger("tastypy")

T = TypeVar("T")

_open: WeakValueDictionary[int, Memory[Any, Any]] = WeakValueDictionary()
_holding: dict[int, Memory[Any, Any]] = {}
_SIGTERM = {_signal.SIGTERM}
# what the names of threads begin with that look after leases, and hold nothing else
THREADS = ("tastypy-lease", "filelock-lease")
_finalized = _signalled = 0  # the process whose end, and whose signals, are seen to
_ending = 0  # the process that a signal is about to end
_registered = _worker = False


def opened(pod: Memory[Any, Any]) -> None:
    """Watch over a POD from now on."""
    global _registered  # noqa: PLW0603 - a process has one list of hooks
    if not _registered:
        _registered = True
        atexit.register(_at_exit)
        os.register_at_fork(after_in_child=_in_child)
        locks.after_fork = _in_child
    _open[id(pod)] = pod


def holds(pod: Memory[Any, Any]) -> None:
    """Keep a POD that has held changes, or claims, until it is `released`."""
    if id(pod) not in _holding:
        _holding[id(pod)] = pod
        if _finalized != os.getpid():
            _finalize()
    take_signals()  # a thread, which cannot, may have been the first to hold something


def released(pod: Memory[Any, Any]) -> None:
    """Let go of a POD that has no held changes, and no claims, any more."""
    if not pod._is_pending():
        _holding.pop(id(pod), None)
        if pod._is_pending():  # another thread has claimed something just now
            _holding[id(pod)] = pod
        _let_go()


def closed(pod: Memory[Any, Any]) -> None:
    """Let go of a POD that was closed."""
    _holding.pop(id(pod), None)
    _open.pop(id(pod), None)
    _let_go()


def _let_go() -> None:
    # not while a signal is handled; and where there are threads, one may hold something next, which cannot take it again
    if _worker and not _holding and _signalled == os.getpid() != _ending and _is_alone():
        _give_sigterm_back()


def _is_alone() -> bool:
    """Tell whether there is no other thread that could hold something."""
    return threading.active_count() == 1 or sum(not one.name.startswith(THREADS) for one in threading.enumerate()) == 1


def _finalize() -> None:
    global _finalized, _worker
    _finalized, _worker = os.getpid(), is_worker()
    # A worker of multiprocessing ends without atexit; and what was registered before its fork was cleared in it.
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _at_exit, exitpriority=100)


def is_worker() -> bool:
    """Tell whether this is a process that multiprocessing started."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def take_signals() -> None:
    """See to SIGTERM and SIGHUP, if that is not done yet, and this is the main thread, which alone can."""
    global _signalled  # noqa: PLW0603 - as above
    if _signalled == os.getpid() or threading.current_thread() is not threading.main_thread():
        return
    _signalled = os.getpid()
    for number in (_signal.SIGTERM, _signal.SIGHUP):
        if _signal.getsignal(number) == _signal.SIG_DFL:
            _signal.signal(number, _on_signal)


def _give_sigterm_back() -> None:
    """Let SIGTERM do again what it does by default, if this is the main thread.

    It is blocked meanwhile: CPython drops a signal that comes after the call has looked for one, and before it is done.
    """
    global _signalled  # noqa: PLW0603 - as above
    if threading.current_thread() is not threading.main_thread():
        return
    if _signal.getsignal(_signal.SIGTERM) is not _on_signal:  # but the program's, or that of a worker of `run`
        return
    blocked: set[int] = set()
    try:
        blocked = _signal.pthread_sigmask(_signal.SIG_BLOCK, _SIGTERM)
        _signalled = 0
        _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
    finally:
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _SIGTERM - blocked)


def _at_exit() -> None:
    for pod in list(_open.values()):
        try:
            pod._abandon()
            pod._release()
            pod._settle()
        except Exception:
            log.exception("%s: not everything could be written at exit", pod._store.path)


def _on_signal(number: int, _: FrameType | None) -> None:
    global _ending  # noqa: PLW0603 - as above
    if _ending == os.getpid():
        return  # pools send it more than once: the first one is still at it
    for pod in list(_open.values()):  # whether or not it holds something: a fold would be left halfway
        lock = pod._store.lock
        if lock.busy == threading.get_ident():  # the signal came inside a commit: once that has ended
            lock.deferred.append(partial(_on_signal, number, None))
            return
    _ending = os.getpid()
    for pod in list(_holding.values()):
        try:
            # for good: other threads begin nothing any more
            if not pod._store.lock.mutex.acquire(timeout=pod._store.timeout):
                log.error(
                    "%s: what this process has is not given back, since a thread of it has the lock", pod._store.path
                )
                continue
            pod._abandon()
            pod._release()
            pod._settle()
        except Exception:
            log.exception("%s: not everything could be written at signal %d", pod._store.path, number)
    _signal.signal(number, _signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _in_child() -> None:
    """Drop, in a forked child, what is the parent's.

    An exception that a signal handler raises in a fork hook is ignored by CPython, so this insists; where it is hit between
    its lines, `DirectoryLock.take` finds another process id, and does it again.
    """
    pods = _insist(lambda: [(pod, pod._is_unsettled()) for pod in _open.values()])
    _insist(locks.forked)
    _insist(_holding.clear)
    _insist(_give_sigterm_back)
    if reading.collector_is_off:  # another thread was loading, which is not in here
        reading.collector_is_off = False
        gc.enable()
    for pod, unsettled in pods:
        _insist(partial(pod._forked, reload=unsettled))


def _insist(action: Callable[[], T]) -> T:
    try:
        result = action()
    except KeyboardInterrupt:
        result = action()
        _thread.interrupt_main()  # it is for the program
    return result
