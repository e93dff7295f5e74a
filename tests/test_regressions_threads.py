"""What a review found, once each, about the threads, coroutines, forks and signals of one process."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
from helpers import PATIENCE, Opener, exactly, in_child, stored

import tastypy
from stress.points import each_point
from tastypy import POD, LockTimeout, TransactionError
from tastypy import files as tastypy_files
from tastypy.reading import without_collector

# ------------------------------------------------------------------------------------------- transactions out of order


async def _overlap(pod: POD[Any, Any], order: str) -> dict[str, str]:
    """Enter a block in each of two coroutines, leave them in an order; what became of each."""
    entered, left = asyncio.Event(), asyncio.Event()
    fates: dict[str, str] = {}

    async def block(key: str, wait: Callable[[], Any], say: Callable[[], None]) -> None:
        try:
            with pod.transaction():
                pod[key] = 1
                say()
                await wait()
            fates[key] = "committed"
        except TransactionError:
            fates[key] = "refused"
        finally:
            left.set()

    first = asyncio.create_task(
        block("first", (entered if order == "first" else left).wait, lambda: None), name="the first to enter"
    )
    await asyncio.sleep(0)
    second = asyncio.create_task(
        block("second", left.wait if order == "first" else entered.wait, entered.set), name="the second to enter"
    )
    await asyncio.wait_for(asyncio.gather(first, second), PATIENCE)
    return fates


def test_transactions_of_two_coroutines_that_end_out_of_order_are_no_silent_loss(pod: POD[Any, Any]) -> None:
    """The second one counted as a savepoint of the first, which took it along when it ended."""
    fates = asyncio.run(_overlap(pod, "first"))
    committed = {key: 1 for key in ("first", "second") if fates[key] == "committed"}
    assert "refused" in fates.values()
    assert exactly(pod) == exactly(stored(pod.path)) == exactly(committed)
    pod["after"] = 1
    with pod.transaction():
        pod["in one"] = 1
    assert exactly(stored(pod.path)) == exactly(committed | {"after": 1, "in one": 1})


def test_transactions_of_two_coroutines_that_nest_are_one(pod: POD[Any, Any]) -> None:
    fates = asyncio.run(_overlap(pod, "second"))
    assert fates == {"first": "committed", "second": "committed"}
    assert exactly(pod) == exactly(stored(pod.path)) == exactly({"first": 1, "second": 1})


def test_leaving_a_transaction_in_another_thread_is_an_error_and_commits_nothing(path: Path) -> None:
    """As a generator does that is begun in one thread and ended in another."""

    def leave_in_thread() -> None:  # pragma: no cover - in a child, since the lock may stay with it
        pod = POD[str, int](path, timeout=1)
        pod["before"] = 1
        caught: list[BaseException] = []

        def dependency() -> Iterator[None]:
            with pod.transaction():
                pod["lost"] = 1
                yield

        running = dependency()
        next(running)

        def finish() -> None:
            try:
                next(running, None)
            except BaseException as error:
                caught.append(error)

        thread = threading.Thread(target=finish)
        thread.start()
        thread.join(PATIENCE)
        assert [type(error) for error in caught] == [TransactionError]
        assert stored(path) == {"before": 1}

    assert in_child(leave_in_thread) == 0
    with POD[str, int](path, timeout=1) as pod:
        pod["after"] = 1
        assert exactly(pod) == exactly({"before": 1, "after": 1})


def test_leaving_a_transaction_in_a_forked_child_stays_silent(pod: POD[Any, Any]) -> None:
    transaction = pod.transaction()
    with transaction:
        pod["a"] = 1
        assert in_child(lambda: transaction.end(None)) == 0
    assert exactly(stored(pod.path)) == exactly({"a": 1})


# -------------------------------------------------------------------------------------------------------- timeouts


@contextmanager
def _inside_a_transaction(pod: POD[Any, Any]) -> Iterator[None]:
    """Another thread is inside a transaction, until this ends."""
    inside, go_on = threading.Event(), threading.Event()

    def stay() -> None:
        with pod.transaction():
            inside.set()
            go_on.wait(5)

    thread = threading.Thread(target=stay)
    thread.start()
    try:
        assert inside.wait(PATIENCE)
        yield
    finally:
        still = thread.is_alive()
        go_on.set()
        thread.join()
    assert still, "it waited for the end of the transaction"


@pytest.mark.parametrize(
    "operation",
    [
        lambda pod: pod.sync(),
        lambda pod: POD(pod.path, timeout=0.05),
        lambda pod: pod.check(),
        lambda pod: pod.hold(),
        lambda pod: pod.close(),
        lambda pod: pod.repair(),
        lambda pod: pod.refresh(),
        lambda pod: pod.__setitem__("a", 1),
        lambda pod: pod.transaction().__enter__(),
    ],
    ids=["sync", "open", "check", "hold", "close", "repair", "refresh", "assign", "transaction"],
)
def test_no_call_waits_longer_than_its_timeout_for_a_transaction_of_another_thread(
    opened: Opener, operation: Callable[[POD[Any, Any]], object]
) -> None:
    pod = opened(timeout=0.05)
    pod["before"] = 1
    with _inside_a_transaction(pod), pytest.raises(LockTimeout, match="thread"):
        operation(pod)
    assert not pod.closed
    assert pod.dirty() == set()
    pod["after"] = 1
    assert exactly(stored(pod.path)) == exactly({"before": 1, "after": 1})


@pytest.mark.parametrize("call", ["unhold", "revert"])
def test_what_is_held_stays_held_when_a_transaction_of_another_thread_takes_too_long(opened: Opener, call: str) -> None:
    pod = opened(timeout=0.05)
    pod.hold()
    pod["held"] = 1
    with _inside_a_transaction(pod), pytest.raises(LockTimeout):
        getattr(pod, call)()
    assert pod.dirty() == {"held"}
    pod["late"] = 1
    assert pod.dirty() == {"held", "late"}
    pod.unhold()
    assert exactly(stored(pod.path)) == exactly({"held": 1, "late": 1})


def test_check_by_path_does_not_wait_for_a_transaction(opened: Opener) -> None:
    pod = opened()
    with _inside_a_transaction(pod):
        assert tastypy.check(pod.path) == []


# ---------------------------------------------------------------------------------------- a hold that comes in between


class _Interposed:
    """A mutex before which, the first time, something else is done."""

    def __init__(self, mutex: Any, action: Callable[[], object]) -> None:
        self._mutex, self._actions = mutex, [action]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mutex, name)

    def __enter__(self) -> None:
        if self._actions:
            self._actions.pop()()
        self._mutex.acquire()

    def __exit__(self, *_: object) -> None:
        self._mutex.release()


def test_an_assignment_that_another_threads_hold_overtakes_is_held_too(
    pod: POD[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it is committed past the held deletion, which wins at the end, while memory keeps the key."""
    pod["key"] = 1

    def hold_and_delete() -> None:
        pod.hold()
        del pod["key"]

    def overtake() -> None:
        thread = threading.Thread(target=hold_and_delete)
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive()

    lock = pod._store.lock
    with monkeypatch.context() as patch:
        patch.setattr(lock, "mutex", _Interposed(lock.mutex, overtake))
        pod["key"] = 2
    assert pod.dirty() == {"key"}
    pod.unhold()
    assert exactly(pod) == exactly(stored(pod.path)) == exactly({"key": 2})


# ---------------------------------------------------------------------------------------- forks and signals


@pytest.mark.parametrize("which", ["another", "the same"])
def test_a_signal_handler_may_open_a_pod_while_one_is_being_opened(tmp_path: Path, which: str) -> None:
    paths = [tmp_path / "first", tmp_path / ("first" if which == "the same" else "second")]

    def open_both() -> None:  # pragma: no cover - in a child
        is_local, found = tastypy_files.is_local, list[POD[Any, Any]]()

        def interrupted(descriptor: int) -> bool:
            tastypy_files.is_local = is_local
            os.kill(os.getpid(), signal.SIGUSR1)
            return is_local(descriptor)

        signal.signal(signal.SIGUSR1, lambda *_: found.append(POD(paths[1])))
        tastypy_files.is_local = interrupted
        found.append(POD(paths[0]))
        for number, pod in enumerate(found):
            pod[f"pod {number}"] = number
        if which == "the same":
            assert found[0]._store.lock is found[1]._store.lock

    assert in_child(open_both, patience=10) == 0
    assert len(stored(paths[0])) == (2 if which == "the same" else 1)


def test_a_child_that_is_forked_while_a_thread_loads_has_its_garbage_collector_on() -> None:
    loading, go_on = threading.Event(), threading.Event()

    def wait() -> bool:
        loading.set()
        return go_on.wait(PATIENCE)

    def look() -> None:  # pragma: no cover - in a child
        assert gc.isenabled()

    thread = threading.Thread(target=without_collector, args=(wait,))
    thread.start()
    try:
        assert loading.wait(PATIENCE)
        assert not gc.isenabled()
        assert in_child(look) == 0
    finally:
        go_on.set()
        thread.join()
    assert gc.isenabled()


def test_ctrl_c_at_any_point_of_a_load_leaves_the_garbage_collector_on() -> None:
    def interrupt() -> NoReturn:
        raise KeyboardInterrupt

    for point in each_point():
        with suppress(KeyboardInterrupt), point.calls(interrupt):
            without_collector(gc.isenabled)
        assert gc.isenabled(), point


def test_a_change_put_off_inside_a_transaction_of_another_object_is_made_at_its_end(
    pod: POD[Any, Any], opened: Opener
) -> None:
    """A handler or finaliser that was called inside a commit has no chance to do it again."""
    other = opened()
    lock = pod._store.lock
    with pod.transaction():
        lock.busy = threading.get_ident()  # as inside a commit
        other["from the finaliser"] = 1
        lock.busy = 0
        pod["a"] = 1
    assert stored(pod.path) == {"a": 1, "from the finaliser": 1}
