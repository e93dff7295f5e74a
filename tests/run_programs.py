"""Programs that tests run in processes of their own, and that call `run`: `python run_programs.py NAME …`."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import Any, NoReturn

import run_functions
from run_functions import PATIENCE, double, say

from tastypy import POD, CommitError, Tracker


class Inline(Executor):
    """An executor that says nothing of its workers, and does everything at once, where it is, as one does to debug."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        self.calls.append(pickle.dumps((function, arguments, options)))
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(function(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
        return future


class OnlyOne(Inline):
    """An executor that is busy for ever after its first call."""

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        return Future() if self.calls else super().submit(function, *arguments, **options)


def run(path: str, function: str, arguments: str, settings: str) -> None:
    """Call `run`, and say what came of it."""
    options = json.loads(settings)
    if "method" in options:
        multiprocessing.set_start_method(options.pop("method"))
    if options.pop("handler", None):
        signal.signal(signal.SIGTERM, lambda *_: say("own handler"))
    default: Callable[[Any], Any] | None = None
    if options.pop("default", None):
        default = lambda value: f"{value}"  # noqa: E731 - that is the point: it cannot be pickled
    if "at_fork" in options:
        interrupt_at_fork(options.pop("at_fork"))
    if options.pop("without_tqdm", None):
        sys.modules["tqdm"] = None  # type: ignore[assignment]  # which makes its import fail
    if options.pop("held", None):
        other = POD[str, int](f"{path}.other")
        other.hold()
        other["held"] = 1
    if options.pop("disk_full", None):
        Tracker._end = refuse  # type: ignore[assignment]  # only this, of all that is written
    if options.pop("children_ignored", None):
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if options.pop("lost_at_fork", None):
        os.register_at_fork(after_in_child=lambda: os._exit(3))
    func: Callable[[Any], Any] = partial(getattr(run_functions, function), *json.loads(arguments))
    if options.pop("lambda", None):
        func = lambda key: key  # noqa: E731 - as above
    executor: Executor | None = None
    match options.pop("pool", None):
        case "threads":
            executor = ThreadPoolExecutor(2)
        case "processes":
            executor = ProcessPoolExecutor(2)
        case "none":
            executor = Inline()
    tracker = Tracker[Any](path, options.pop("max_tries", 0), default=default)
    try:
        summary = tracker.run(func, executor=executor, **options)
        say("summary", summary.done, summary.failed, summary.given_up)
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            say("the handler of SIGINT is another one")
    except BaseException as error:
        children = multiprocessing.active_children()
        say(f"{type(error).__name__}: {error}".partition("\n")[0].strip(": "), *children)
        if isinstance(error, KeyboardInterrupt):
            raise


def refuse(tracker: Tracker[Any], *_: object) -> NoReturn:
    """Stand for the end of a task where the disk is full."""
    message = "the disk is full"
    raise CommitError(message, tracker.path, errno.ENOSPC)


def interrupt_at_fork(number: int) -> None:
    """Have Ctrl-C come right after the fork with this number."""
    forks = 0

    def count() -> None:
        nonlocal forks
        forks += 1
        if forks == number:
            os.kill(os.getpid(), signal.SIGINT)

    os.register_at_fork(after_in_parent=count)


def hold_a_task(path: str) -> None:
    """Claim a task, say which, and keep it until told to go on; then be killed, or give it back."""
    tracker = Tracker[Any](path)
    task = tracker.claim()
    say("claimed", "nothing" if task is None else task.key)
    sys.stdin.readline()


def run_while_holding(path: str, by: str) -> None:
    """Run while this process has a task of its own in hand, by the same object or another one."""
    tracker = Tracker[Any](path)
    holder = tracker if by == "the same" else Tracker[Any](path)
    task = holder.claim()
    summary = tracker.run(double, workers=1)
    say("done", summary.done)
    if task is not None:
        task.release()


class Widget:
    """What stands in for the widgets of a notebook."""

    def __init__(self, *_: object, **options: Any) -> None:
        self.value, self.children, self.bar_style, self.max = "", (), "", 0
        self.layout = self.style = type("Layout", (), {})()
        self.__dict__.update(options)


def run_in_a_notebook(path: str) -> None:
    """Run as the kernel of a notebook would, with a worker's process; say what is displayed there."""
    shown: list[Any] = []

    def display(widget: Any) -> None:
        shown.append(widget)

    shell = type("Shell", (), {"config": {"IPKernelApp": {}}})()  # which older versions of tqdm look at
    modules: dict[str, dict[str, Any]] = {
        "IPython": {"get_ipython": lambda: shell},
        "IPython.display": {"display": display},
        "ipykernel.zmqshell": {},
        "ipywidgets": {"HTML": Widget, "FloatProgress": Widget, "HBox": Widget},
    }
    for name, contents in modules.items():
        module = type(sys)(name)
        module.__dict__.update(contents)
        sys.modules[name] = module
    with Tracker[int](path) as tracker:
        summary = tracker.run(double, workers=1)
        say("displayed", len(shown))
        say("summary", summary.done)
        bar = shown[0].children[1]
        say(f"bar {bar.value} of {bar.max}")


def terminate_another_process(path: str, method: str) -> None:
    """Run with processes of this start method, then start another one of our own, and say whether it can be terminated."""
    multiprocessing.set_start_method(method)
    lock = multiprocessing.Lock()  # what watches over such resources runs from now on
    with lock, Tracker[int](path) as tracker:
        tracker.run(double, workers=1)
    process = multiprocessing.Process(target=be_there)
    process.start()
    process.terminate()
    process.join(5)
    say("it ended with", process.exitcode)
    process.kill()


def be_there() -> None:
    time.sleep(PATIENCE)


def main() -> None:
    """Run the program that the command line names."""
    name, *arguments = sys.argv[1:]
    globals()[name](*arguments)


if __name__ == "__main__":
    main()
