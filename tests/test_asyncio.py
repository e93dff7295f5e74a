"""Trackers and PODs in coroutines: what works, what cancellations and signals leave, and what transactions do there."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from async_programs import CROWD
from helpers import PATIENCE, end, hear, stored

from tastypy import POD, LockTimeout, Tracker, TransactionError
from tastypy.entries import FRESH

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(__file__).with_name("async_programs.py")


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, PATIENCE))


def example() -> Any:
    """The example of the documentation, as a module."""
    spec = importlib.util.spec_from_file_location("on_asyncio", ROOT / "docs/examples/on_asyncio.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tracker(path: Path) -> Any:
    with Tracker[Any](path, max_tries=3) as tracker:
        yield tracker


def state(tracker: Tracker[Any], key: object) -> dict[str, Any]:
    return {name: value for name, value in stored(tracker.path)[key].items() if name not in ("_at", "_worker")}


# ----------------------------------------------------------------------------------------------------------- it works


def test_fifty_coroutines_on_one_tracker_do_each_task_once(tracker: Tracker[int]) -> None:
    tracker.add_many(range(300))
    begun: list[int] = []
    threads: set[int] = set()

    def claim() -> Any:
        threads.add(threading.get_ident())
        return tracker.claim()

    async def work() -> None:
        while (task := await asyncio.to_thread(claim)) is not None:
            begun.append(task.key)
            await asyncio.sleep(0.001)
            await asyncio.to_thread(task.done, square=task.key**2)

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(50)))

    run(main())
    assert sorted(begun) == [*range(300)]
    assert len(threads) > 1, "or nothing was shown about threads"
    assert all(entry["_tries"] == 1 and entry["square"] == key**2 for key, entry in stored(tracker.path).items())


def test_a_task_that_one_thread_has_claimed_another_one_ends(tracker: Tracker[str]) -> None:
    tracker.add_many([*"abc"])

    async def main() -> None:
        for end_it in ("done", "fail", "release"):
            task = await asyncio.to_thread(tracker.claim)  # in another thread than this one
            assert task is not None
            getattr(task, end_it)(*(["no"] if end_it == "fail" else []))

    run(main())
    assert state(tracker, "a") == {**FRESH, "_done": True, "_tries": 1}
    assert state(tracker, "b") == {**FRESH, "_tries": 1, "_error": "no"}
    assert state(tracker, "c") == FRESH


def test_a_change_that_a_thread_makes_is_there_when_it_was_awaited(path: Path) -> None:
    with POD[str, int](path) as pod:

        async def main() -> None:
            await asyncio.gather(*(asyncio.to_thread(pod.update, {f"key {number}": number}) for number in range(50)))
            await asyncio.gather(*(asyncio.to_thread(pod.incr, "sum") for _ in range(50)))

        run(main())
        assert stored(path) == {**{f"key {number}": number for number in range(50)}, "sum": 50}


# ------------------------------------------------------------------------------------------------------ cancellations


@asynccontextmanager
async def working(tracker: Tracker[Any], body: Callable[[], Coroutine[Any, Any, object]]) -> AsyncIterator[Any]:
    """A coroutine that has claimed a task and is at `body` in its block."""
    begun = asyncio.Event()

    async def work() -> None:
        task = await asyncio.to_thread(tracker.claim)
        assert task is not None
        with task:
            task["seen"] = True
            begun.set()
            await body()

    working = asyncio.create_task(work())
    await begun.wait()
    yield working


def test_a_cancellation_releases_the_task_without_a_try(tracker: Tracker[str]) -> None:
    tracker.add("a")

    async def main() -> None:
        async with working(tracker, lambda: asyncio.sleep(3600)) as job:
            assert tracker.counts().claimed == 1
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job

    run(main())
    assert state(tracker, "a") == FRESH
    assert tracker.claim() is not None, "and it can be claimed again"


def test_when_one_of_a_group_fails_its_task_fails_and_those_of_the_others_are_released(tracker: Tracker[str]) -> None:
    tracker.add_many([*"abc"])

    async def main() -> None:
        async def fail() -> None:
            await asyncio.sleep(0.05)
            raise ValueError("no")

        async def work(body: Coroutine[Any, Any, object]) -> None:
            task = tracker.claim()
            assert task is not None
            with task:
                await body

        async with asyncio.TaskGroup() as group:
            for body in (fail(), asyncio.sleep(3600), asyncio.sleep(3600)):
                group.create_task(work(body))

    with pytest.raises(ExceptionGroup, match="TaskGroup"):
        run(main())
    assert state(tracker, "a") == {**FRESH, "_tries": 1, "_error": "ValueError: no"}
    assert state(tracker, "b") == state(tracker, "c") == FRESH


def test_a_timeout_inside_the_block_fails_the_task_and_one_around_it_releases_it(tracker: Tracker[str]) -> None:
    tracker.add_many([*"ab"])

    async def main() -> None:
        with pytest.raises(TimeoutError), tracker.claim() or pytest.fail("no task"):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(3600)
        tracker.abort("a")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                with tracker.claim() or pytest.fail("no task"):
                    await asyncio.sleep(3600)

    run(main())
    assert state(tracker, "a") == {**FRESH, "_aborted": True, "_tries": 1, "_error": "TimeoutError"}
    assert state(tracker, "b") == FRESH


def test_a_coroutine_that_is_dropped_in_its_block_releases_the_task(tracker: Tracker[str]) -> None:
    tracker.add("a")

    class Never:
        def __await__(self) -> Generator[None, None, None]:
            yield

    async def work() -> None:
        with tracker.claim() or pytest.fail("no task"):
            await Never()

    coroutine = work()
    coroutine.send(None)
    assert tracker.counts().claimed == 1
    coroutine.close()
    assert state(tracker, "a") == FRESH


@pytest.mark.parametrize("times", range(5))
def test_who_is_cancelled_while_a_thread_ends_its_task_leaves_it_done_or_open_and_never_claimed(
    tracker: Tracker[str], times: int
) -> None:
    tracker.add("a")
    held, let_go = threading.Event(), threading.Event()

    def stay() -> None:
        with tracker.transaction():
            held.set()
            let_go.wait(PATIENCE)

    async def main() -> None:
        holder = threading.Thread(target=stay)

        async def end_it() -> None:
            await asyncio.to_thread(holder.start)
            held.wait(PATIENCE)
            task = next(iter(tracker._tasks.values())).task()
            assert task is not None
            await asyncio.to_thread(task.done, status=200)

        async with working(tracker, end_it) as job:
            await asyncio.sleep(0.01 * times)
            threading.Timer(0.05, let_go.set).start()
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
        if holder.ident is not None:  # it was cancelled before, else
            holder.join()

    run(main())
    entry = state(tracker, "a")
    assert entry in ({**FRESH, "_done": True, "_tries": 1, "status": 200, "seen": True}, FRESH)
    assert not tracker._tasks


def test_who_is_cancelled_while_a_thread_claims_leaves_that_claimed_but_for_the_way_of_the_example(
    tracker: Tracker[str],
) -> None:
    tracker.add_many([*"ab"])
    begun, go_on = threading.Event(), threading.Event()

    class Slow:
        """A tracker whose claim takes as long as one likes."""

        def claim(self) -> Any:
            begun.set()
            go_on.wait(PATIENCE)
            return tracker.claim()

    async def cancelled(claiming: Coroutine[Any, Any, Any]) -> None:
        begun.clear()
        go_on.clear()
        job = asyncio.create_task(claiming)
        await asyncio.to_thread(begun.wait, PATIENCE)
        job.cancel()
        await asyncio.sleep(0.01)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await job

    async def main() -> None:
        await cancelled(example().claim(Slow()))
        assert tracker.counts().claimed == 0
        await cancelled(asyncio.to_thread(Slow().claim))
        await asyncio.get_running_loop().shutdown_default_executor()  # until the thread is at its end
        assert tracker.counts().claimed == 1

    run(main())
    path = tracker.path
    tracker.close()
    assert {name: entry.get("_claim") for name, entry in stored(path).items()} == {"a": None, "b": None}


# ------------------------------------------------------------------------------------------------------------ signals


def start_crowd(path: Path) -> subprocess.Popen[bytes]:
    """A program whose coroutines have all done something, and have all something in hand."""
    with Tracker[int](path) as tracker:
        tracker.add_many(range(3 * CROWD))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, str(PROGRAM), str(path)], stdout=subprocess.PIPE, env=environment)
    for _ in range(CROWD):
        assert hear(process) == "busy"
    return process


def test_a_kill_costs_a_try_of_what_each_coroutine_had_in_hand_and_nothing_else(path: Path) -> None:
    process = start_crowd(path)
    process.kill()
    end(process)
    with Tracker[int](path, max_tries=3) as tracker:
        for task in tracker.claims():
            with task:
                task["square"] = task.key**2
        assert tracker.percent_done() == "100.00 %"
        assert [entry["square"] for entry in tracker.values()] == [key**2 for key in tracker]
        assert sorted(entry["_tries"] for entry in tracker.values()) == [1] * 2 * CROWD + [2] * CROWD


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_coroutines_have_in_hand_is_released_at_ctrl_c_and_sigterm(path: Path, number: int) -> None:
    process = start_crowd(path)
    process.send_signal(number)
    assert end(process) == -number
    entries = stored(path).values()
    assert sum(entry["_done"] for entry in entries) == CROWD
    assert sorted(entry["_tries"] for entry in entries) == [0] * 2 * CROWD + [1] * CROWD
    assert not any("_claim" in entry or "_error" in entry for entry in entries)


# ------------------------------------------------------------------------------------------------------- transactions


def test_a_transaction_in_a_thread_is_one_even_if_many_coroutines_want_it(path: Path) -> None:
    with POD[str, int](path) as pod:
        pod.update(a=1000, b=0)

        def move() -> None:
            with pod.transaction():
                pod["a"] -= 1
                pod["b"] += 1

        async def main() -> None:
            await asyncio.gather(*(asyncio.to_thread(move) for _ in range(100)))

        run(main())
        assert stored(path) == {"a": 900, "b": 100}


def test_two_coroutines_that_await_in_transactions_get_an_error_and_nothing_is_committed(path: Path) -> None:
    with POD[str, int](path) as pod:
        inside = asyncio.Event()

        async def first() -> None:
            with pod.transaction():
                pod["first"] = 1
                inside.set()
                await asyncio.sleep(0.05)

        async def second() -> None:
            await inside.wait()
            with pod.transaction():
                pod["second"] = 2
                await asyncio.sleep(0.1)  # until the first one has ended

        async def main() -> Sequence[BaseException | None]:
            return await asyncio.gather(first(), second(), return_exceptions=True)

        errors = run(main())
        assert [type(error) for error in errors] == [TransactionError, TransactionError]
        assert "coroutines await in transactions" in str(errors[0])
        assert dict(pod.items()) == stored(path) == {}
        pod["after"] = 3
        assert stored(path) == {"after": 3}


def test_what_others_do_in_the_thread_of_a_transaction_that_awaits_becomes_part_of_it(path: Path) -> None:
    with POD[str, int](path) as pod:
        inside = asyncio.Event()

        async def first() -> None:
            with pod.transaction():
                inside.set()
                await asyncio.sleep(0.05)
                raise ValueError("no")

        async def second() -> None:
            await inside.wait()
            pod["plain"] = 1
            with pod.transaction():
                pod["nested"] = 2
            assert stored(path) == {}, "it has returned, and is not on disk"

        async def main() -> None:
            await asyncio.gather(first(), second(), return_exceptions=False)

        with pytest.raises(ValueError, match="no"):
            run(main())
        assert dict(pod.items()) == stored(path) == {}


def test_a_transaction_that_awaits_a_thread_which_waits_for_it_ends_by_the_timeout(path: Path) -> None:
    with POD[str, int](path, timeout=0.2) as pod:

        async def main() -> None:
            with pod.transaction():
                await asyncio.to_thread(pod.update, {"a": 1})

        with pytest.raises(LockTimeout):
            run(main())
        assert stored(path) == {}


# -------------------------------------------------------------------------------------------------------- the example


def test_the_example_asks_servers_and_says_which_ones_do_not_answer(tmp_path: Path) -> None:
    path = tmp_path / "servers.tracker"

    async def main() -> tuple[str, list[str]]:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        servers = [f"127.0.0.1:{port}", f"localhost:{port}", "127.0.0.1:1", "nonsense"]
        async with server:
            command = [str(ROOT / "docs/examples/on_asyncio.py"), str(path), *servers]
            process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=subprocess.PIPE)
            output, _ = await process.communicate()
        assert process.returncode == 0
        return output.decode(), servers

    output, servers = run(main())
    assert "Counts(total=4, done=2, aborted=0, claimed=0, given_up=2, failed=0, open=0)" in output
    assert output.count("127.0.0.1:1: ConnectionRefusedError") == output.count("nonsense: ValueError") == 2
    entries = stored(path)
    assert all(0 < entries[server]["seconds"] < 5 for server in servers[:2])
