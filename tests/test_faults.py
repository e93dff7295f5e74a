"""Every system call of the module that writes is made to fail, one after another, in a program that does everything.

The invariant, at every point: opened again, the directory equals the state before or after the failing operation, everything
acknowledged is there, `check` finds nothing but what was set aside, and the next writer works.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from faults import Error, FailingOS, os_error
from helpers import exactly, stored, wait_for_child

from tastypy import POD, CommitError, TastypyError

SHARD_BYTES = 120
State = dict[Any, Any]


class Step(NamedTuple):
    """One operation on a POD, and what it does to a plain dict."""

    name: str
    on_pod: Callable[[POD[Any, Any]], object]
    on_dict: Callable[[State], object]


def both(name: str, change: Callable[[Any], object]) -> Step:
    """A step that is the same call on both."""
    return Step(name, change, change)


def only_pod(name: str, change: Callable[[POD[Any, Any]], object]) -> Step:
    """A step that changes no content."""
    return Step(name, change, lambda state: None)


def transaction(pod: POD[Any, Any]) -> None:
    with pod.transaction():
        pod["in"] = "transaction"
        del pod["c"]
        pod["a"] = "transaction"


def held(pod: POD[Any, Any]) -> None:
    with pod.hold():
        pod["held"] = [1]
        pod["a"] = "held"
        pod.pop("in")


def edit(pod: POD[Any, Any]) -> None:
    with pod.edit("held") as value:
        value.append(2)


PROGRAM = [
    both("assign", lambda each: each.__setitem__("a", 1)),
    both("assign more", lambda each: each.update(b="x" * 50, c=[1, {"d": None}])),
    only_pod("fold", lambda pod: pod.sync()),
    both("update", lambda each: each.__setitem__("a", 2)),
    both("delete", lambda each: each.__delitem__("b")),
    Step(
        "transaction",
        transaction,
        lambda state: (state.pop("c"), state.update({"in": "transaction", "a": "transaction"})),
    ),
    both("grow", lambda each: each.update({f"key {number}": "y" * 40 for number in range(6)})),
    only_pod("fold with splits", lambda pod: pod.sync()),
    both("delete from a shard", lambda each: each.pop("key 3")),
    Step("to the front", lambda pod: pod.move_to_end("key 4", last=False), lambda state: _front(state, "key 4")),
    Step("held", held, lambda state: (state.update(held=[1], a="held"), state.pop("in"))),
    Step("edit", edit, lambda state: state["held"].append(2)),
    Step("count", lambda pod: pod.incr("n"), lambda state: state.update(n=1)),
    only_pod("fold again", lambda pod: pod.sync()),
    both("clear", lambda each: each.clear()),
    both("start again", lambda each: each.update({"z": 0, 1: 2})),
    only_pod("last fold", lambda pod: pod.sync()),
    both("one more line", lambda each: each.__setitem__("end", True)),
]


def _front(state: State, key: Any) -> None:
    rest = {other: value for other, value in state.items() if other != key}
    first = {key: state[key]}
    state.clear()
    state.update(first | rest)


def copied(state: State) -> State:
    """As deep as the steps change it."""
    return {key: value.copy() if isinstance(value, list) else value for key, value in state.items()}


def states() -> list[State]:
    """What the POD holds before the first step and after each."""
    found: list[State] = [{}]
    for step in PROGRAM:
        found.append(copied(found[-1]))
        step.on_dict(found[-1])
    return found


STATES = states()


def open_one(path: Path) -> POD[Any, Any]:
    return POD(path, shard_bytes=SHARD_BYTES, timeout=5)


def assert_sound(path: Path, *possible: State) -> State:
    """The directory, opened anew, is one of the possible states and in order; the next writer works. Which state it is."""
    with open_one(path) as pod:
        found = pod.copy()
        assert exactly(found) in [exactly(state) for state in possible]
        assert exactly(stored(path)) == exactly(found)
        pod["the next writer"] = 1
        assert [problem for problem in pod.check() if not problem.startswith("aside-")] == []
        pod.sync()
        del pod["the next writer"]
    assert exactly(stored(path)) == exactly(found)
    return found


@pytest.fixture(params=["local", "network"])
def proxy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, failing_os: FailingOS) -> FailingOS:
    """The failing `os`, on what is taken for a local file system and for one of another machine."""
    if request.param == "network":
        monkeypatch.setattr("tastypy.files.is_local", lambda descriptor: False)
    return failing_os


@pytest.fixture
def directories(quick_directory: Path) -> Iterator[Path]:
    """A new path with each `next`."""
    return (quick_directory / f"{number}.pod" for number in range(10_000))


def test_the_program_runs_through_without_faults(proxy: FailingOS, directories: Iterator[Path]) -> None:
    """And makes more than a hundred calls of the kinds that can fail: the tests below stand on this."""
    path = next(directories)
    with open_one(path) as pod:
        for step, state in zip(PROGRAM, STATES[1:], strict=True):
            step.on_pod(pod)
            assert exactly(pod) == exactly(state), step.name
    assert_sound(path, STATES[-1])
    assert len(proxy.calls) > 100
    assert {"open", "write", "pwrite", "fsync", "fdatasync", "rename", "unlink", "close", "pread", "mkdir"} <= set(
        proxy.calls
    )


def names_of_calls(proxy: FailingOS, path: Path) -> list[str]:
    """Which system calls the program makes, in order."""
    proxy.calls.clear()
    with open_one(path) as pod:
        for step in PROGRAM:
            step.on_pod(pod)
    return proxy.calls.copy()


ERRORS: dict[str, Error] = {
    "ENOSPC": os_error(errno.ENOSPC),
    "EIO": os_error(errno.EIO),
    "EINTR": os_error(errno.EINTR),
    "Ctrl-C": KeyboardInterrupt,
}

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
READING = {"open", "pread", "read", "fstat", "stat", "lstat", "listdir", "scandir", "close", "lseek"}
PLACES = ("local", "network")
ALL_FAULTS = [(place, error, persistent) for place in PLACES for error in ERRORS for persistent in (False, True)]
# each of them in one place; `python -m stress.crash` draws from all
FAULTS = ALL_FAULTS if THOROUGH else [("local", "ENOSPC", False), ("network", "EIO", True), ("local", "Ctrl-C", False)]


@pytest.mark.parametrize(("proxy", "error", "persistent"), FAULTS, indirect=["proxy"])
def test_at_whatever_call_it_fails_the_directory_is_as_before_or_after(
    proxy: FailingOS, directories: Iterator[Path], error: str, *, persistent: bool
) -> None:
    bare: list[tuple[int, str]] = []
    names = names_of_calls(proxy, next(directories))
    for number in range(1, 10_000):
        path = next(directories)
        if error == "ENOSPC" and names[number - 1 : number] in (["pread"], ["fstat"], ["stat"]):
            continue  # a full disk fails no reads
        proxy.arm(number, ERRORS[error], persistent=persistent)
        at = 0
        pod = None
        try:
            pod = open_one(path)
            for at, step in enumerate(PROGRAM):  # noqa: B007 - used after the loop
                step.on_pod(pod)
            at = len(PROGRAM)
            pod.close()
        except (OSError, KeyboardInterrupt) as caught:
            proxy.disarm()
            if not isinstance(caught, TastypyError | KeyboardInterrupt):
                bare.append((number, proxy.calls[number - 1]))
            possible = [STATES[at], STATES[min(at + 1, len(PROGRAM))]]
        else:
            fired = proxy.fired
            proxy.disarm()
            possible = [STATES[-1]]
            if not fired:
                assert number > 100
                assert bare == [], "errors that say nothing of path and remedy"
                return
        assert_sound(path, *possible)
        if pod is not None:
            with_held = pod.closed or pod.dirty()
            pod.close()
            assert with_held or exactly(stored(path)) in [exactly(state) for state in possible]
            assert_sound(path, *possible)


GOING_ON = [(place, error) for place in PLACES for error in ("EIO", "ENOSPC")] if THOROUGH else [("network", "EIO")]


@pytest.mark.parametrize(("proxy", "error"), GOING_ON, indirect=["proxy"])
def test_after_a_failure_the_same_pod_goes_on(proxy: FailingOS, directories: Iterator[Path], error: str) -> None:
    """Memory equals the disk, before or after the operation that failed, which then can be repeated."""
    for number in range(1, 10_000):
        path = next(directories)
        proxy.arm(number, ERRORS[error])
        try:
            pod = open_one(path)
        except OSError:
            proxy.disarm()
            assert_sound(path, {})
            continue
        failures = 0
        for step, before, after in zip(PROGRAM, STATES, STATES[1:], strict=False):
            try:
                step.on_pod(pod)
            except OSError:
                failures += 1
                while pod.dirty():
                    pod.sync()
                found = stored(path)
                pod.refresh()
                assert exactly(pod) == exactly(found), (number, step.name)
                assert exactly(found) in (exactly(before), exactly(after)), (number, step.name)
                if exactly(found) == exactly(before):
                    step.on_pod(pod)
            assert exactly(pod) == exactly(after), (number, step.name)
        assert failures <= 1
        fired = proxy.fired
        proxy.disarm()
        pod.close()
        assert_sound(path, STATES[-1])
        if not fired:
            assert number > 100
            return


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of .*fork:DeprecationWarning")  # a test runner has threads
@pytest.mark.parametrize("kill", ["half", "before", "after"] if THOROUGH else ["half"])
def test_at_whatever_call_it_is_killed_nothing_acknowledged_is_lost(
    proxy: FailingOS, directories: Iterator[Path], kill: str
) -> None:
    """A process of its own is ended by SIGKILL, with half of the bytes written if the call is a write.

    Only at calls that change something: before any other the directory is as before the one before.
    """
    names = names_of_calls(proxy, next(directories))
    for number in range(1, 10_000):
        if not THOROUGH and number <= len(names) and names[number - 1] in READING:
            continue
        path = next(directories)
        acknowledged, acknowledge = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover - the child leaves without coverage's exit hook
            try:
                proxy.kill = kill
                proxy.arm(number, KeyboardInterrupt)
                with open_one(path) as pod:
                    for step in PROGRAM:
                        step.on_pod(pod)
                        os.write(acknowledge, b".")
            finally:
                os._exit(0 if proxy.at > len(proxy.calls) else 1)
        os.close(acknowledge)
        status = wait_for_child(child)
        done = len(os.read(acknowledged, 1000))
        os.close(acknowledged)
        if status == 0:
            assert number > len(names) - 10  # an fdatasync more or less is a matter of time
            assert done == len(PROGRAM)
            return
        assert status == -9
        assert_sound(path, *STATES[done : done + 2])


# ------------------------------------------------------------------------------------------------------ single faults


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_a_short_write_is_continued(pod: POD[Any, Any], failing_os: FailingOS, cut: int) -> None:
    """A system call may write less than it was given without an error."""
    real = os.write
    failing_os.__dict__["write"] = lambda descriptor, data: real(descriptor, bytes(data)[:cut])
    pod["a"] = "x" * 100
    pod.sync()
    pod["b"] = "y" * 100
    del failing_os.__dict__["write"]
    assert stored(pod.path) == {"a": "x" * 100, "b": "y" * 100} == pod
    assert pod.check() == []


def test_a_short_write_that_then_fails_is_a_failed_commit_and_leaves_no_torn_line(
    pod: POD[Any, Any], failing_os: FailingOS
) -> None:
    pod["a"] = 1
    before = {entry.name: entry.read_bytes() for entry in Path(pod.path).iterdir()}
    budget = [20]

    def write(descriptor: int, data: bytes) -> int:
        part = bytes(data)[: budget[0]]
        budget[0] -= len(part)
        if not part:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(descriptor, part)

    failing_os.__dict__["write"] = write
    with pytest.raises(CommitError, match="No space left") as caught:
        pod["b"] = "x" * 100
    assert caught.value.errno == errno.ENOSPC
    del failing_os.__dict__["write"]
    assert {entry.name: entry.read_bytes() for entry in Path(pod.path).iterdir()} == before
    assert pod == {"a": 1}
    pod["b"] = 2
    assert stored(pod.path) == {"a": 1, "b": 2} == pod


def test_a_failure_that_cannot_be_undone_is_unknown_and_the_pod_reads_again(
    pod: POD[Any, Any], failing_os: FailingOS
) -> None:
    """The line is whole, only its fdatasync and the cutting failed: the next use shows that it is there."""
    with POD[Any, Any](Path(pod.path), durable=True) as durable:
        durable["a"] = 1
        failing_os.always["fdatasync"] = failing_os.always["ftruncate"] = OSError(errno.EIO, os.strerror(errno.EIO))
        failing_os.always["fsync"] = failing_os.always["fdatasync"]
        with pytest.raises(CommitError) as caught:
            durable["b"] = 2
        assert type(caught.value).__name__ == "UnknownOutcomeError"
        failing_os.always.clear()
        durable.refresh()
        assert exactly(durable) == exactly(stored(pod.path))
        durable["c"] = 3
        assert exactly(durable) == exactly(stored(pod.path))
        assert durable["c"] == 3
    assert pod.check() == []


def test_after_a_failed_fdatasync_the_journal_is_folded_before_anything_is_appended(
    path: Path, failing_os: FailingOS
) -> None:
    """The kernel may have dropped the pages that it could not write, and forgotten that it did."""
    with POD[Any, Any](path, durable=True) as pod:
        pod["a"] = 1
        epoch = pod.stats().epoch
        failing_os.always["fdatasync"] = OSError(errno.EIO, os.strerror(errno.EIO))
        with pytest.raises(CommitError):
            pod["b"] = 2
        failing_os.always.clear()
        assert pod == {"a": 1}
        pod["c"] = 3
        assert pod.stats().epoch > epoch
        assert stored(path) == {"a": 1, "c": 3} == pod
