"""The open PODs of this process: what happens to them at its exit, at SIGTERM and SIGHUP, and in a forked child.

A POD with held changes is referenced strongly from here until they are written, so that garbage collection loses nothing.
"""

from __future__ import annotations

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
from tastypy.reading import collector_off

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from tastypy.memory import Memory

log = logging.getLogger("tastypy")

T = TypeVar("T")

_open: WeakValueDictionary[int, Memory[Any, Any]] = WeakValueDictionary()
_holding: dict[int, Memory[Any, Any]] = {}
_finalized = _signalled = 0  # the process whose end, and whose signals, are seen to
_ending = 0  # the process that a signal is about to end
_registered = False


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
        take_signals()


def released(pod: Memory[Any, Any]) -> None:
    """Let go of a POD that has no held changes, and no claims, any more."""
    if not pod._is_pending():
        _holding.pop(id(pod), None)
        if pod._is_pending():  # another thread has claimed something just now
            _holding[id(pod)] = pod


def closed(pod: Memory[Any, Any]) -> None:
    """Let go of a POD that was closed."""
    _holding.pop(id(pod), None)
    _open.pop(id(pod), None)


def _finalize() -> None:
    global _finalized  # noqa: PLW0603 - as above
    _finalized = os.getpid()
    # A worker of multiprocessing ends without atexit; and what was registered before its fork was cleared in it.
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _at_exit, exitpriority=100)


def take_signals() -> None:
    """See to SIGTERM and SIGHUP, if that is not done yet, and this is the main thread, which alone can."""
    global _signalled  # noqa: PLW0603 - as above
    if _signalled == os.getpid() or threading.current_thread() is not threading.main_thread():
        return
    _signalled = os.getpid()
    import signal  # noqa: PLC0415 - it makes enums when imported, and few processes hold anything

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _on_signal)


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
    import signal  # noqa: PLC0415 - as above

    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _in_child() -> None:
    """Drop, in a forked child, what is the parent's.

    An exception that a signal handler raises in a fork hook is ignored by CPython, so this insists; where it is hit between
    its lines, `DirectoryLock.take` finds another process id, and does it again.
    """
    pods = _insist(lambda: [(pod, pod._is_unsettled()) for pod in _open.values()])
    _insist(locks.forked)
    _insist(_holding.clear)
    if collector_off.active:  # another thread was loading, which is not in here
        collector_off.active = False
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
