"""What a review found, once each: damage that was folded away, keys, calls and closes that failed."""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from faults import FailingOS, os_error
from helpers import Opener, batches, exactly, files, journal, journals, stored

from tastypy import (
    POD,
    CommitError,
    IncoherentFileSystemError,
    PersistentOrderedDictIntegrityError,
    UnknownOutcomeError,
    UnstorableTypeError,
)
from tastypy.store import Store


@pytest.fixture(params=["local", "network"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """It holds on what is taken for a local file system and for one of another machine."""
    if request.param == "network":
        monkeypatch.setattr("tastypy.files.is_local", lambda descriptor: False)
    return str(request.param)


def name_of(descriptor: int) -> str:
    """The name of an open file within its directory."""
    return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name


# ---------------------------------------------------------------------------- damage to what was read before


@pytest.fixture
def damaged(opened: Opener, file_system: str, monkeypatch: pytest.MonkeyPatch) -> POD[Any, Any]:
    """A POD, open, with a line that it applied and that is damaged now, and good ones after it."""
    monkeypatch.setattr("tastypy.reading.PAUSE", 0)  # time does not heal it
    pod = opened(durable=True)
    for number in range(5):
        pod[f"key {number}"] = number
    file = journal(Path(pod.path))
    data = bytearray(file.read_bytes())
    data[data.index(b'"key 1"') + 1] ^= 1
    with file.open("r+b") as same:
        same.write(data)
    pod._store.wrote = False  # closing it is not the test
    return pod


def test_a_fold_refuses_a_line_that_is_damaged_since_it_was_read(damaged: POD[Any, Any]) -> None:
    before, memory = files(Path(damaged.path)), exactly(damaged)
    for _ in range(2):
        with pytest.raises(PersistentOrderedDictIntegrityError, match=r"line 3.*repair"):
            damaged.sync()
        assert files(Path(damaged.path)) == before
    assert exactly(damaged) == memory
    assert damaged.check() != []


def test_a_rollback_does_not_take_the_rest_of_a_damaged_journal_for_everything(damaged: POD[Any, Any]) -> None:
    before = files(Path(damaged.path))
    with pytest.raises((LookupError, PersistentOrderedDictIntegrityError)), damaged.transaction():
        damaged.clear()
        damaged["key 0"] = "never"
        raise LookupError
    for use in (damaged.refresh, lambda: damaged.update(x=1), damaged.sync):
        # the second one on a network file system, under the lock
        with pytest.raises((PersistentOrderedDictIntegrityError, IncoherentFileSystemError), match="repair"):
            use()
    assert files(Path(damaged.path)) == before


def test_a_fold_that_is_shown_a_short_journal_folds_nothing(
    pod: POD[Any, Any], file_system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache of a network file system may know an older size."""
    for number in range(5):
        pod[number] = number
    before, memory = files(Path(pod.path)), exactly(pod)
    read_tail = Store.read_tail

    def stale(store: Store, epoch: int, offset: int) -> bytes:
        text = read_tail(store, epoch, offset)
        return text[: text.find(b"\n") + 1]

    with (
        monkeypatch.context() as patch,
        pytest.raises((PersistentOrderedDictIntegrityError, IncoherentFileSystemError)),
    ):
        patch.setattr(Store, "read_tail", stale)
        pod.sync()
    assert files(Path(pod.path)) == before
    pod.sync()
    assert exactly(pod) == exactly(stored(pod.path)) == memory


# -------------------------------------------------------------------------------------- keys and values in memory


class Name(str):
    """Equal to a stored key, and not storable, as `numpy.str_` is."""

    __slots__ = ()


class Number(enum.IntEnum):
    """Equal to a storable value, and of another type."""

    ONE = 1


@pytest.mark.parametrize("mode", ["plain", "hold", "transaction"])
@pytest.mark.parametrize("key", [Name("a"), Number.ONE, Decimal(1)])
def test_a_key_that_is_equal_to_a_stored_one_deletes_and_synchronises_that(
    pod: POD[Any, Any], mode: str, key: Any
) -> None:
    """As in a dict; and it takes no other held change down with it."""
    spelled = "a" if key == "a" else 1
    other = "b" if key == "a" else 2

    def change() -> None:
        pod["important"] = 1
        pod[spelled].append(2)
        pod.sync_key(key)
        assert pod.pop(key) == [1, 2]
        del pod[Name(other) if key == "a" else Decimal(other)]
        pod["more"] = [1]
        pod["more"].append(2)
        pod.sync_key(Name("more"))

    pod.update({spelled: [1], other: 1})
    match mode:
        case "plain":
            change()
        case "hold":
            with pod.hold():
                change()
                assert pod.dirty() == {"important", spelled, other, "more"}
                assert {type(one) for one in pod.dirty()} <= {str, int}
        case "transaction":
            with pod.transaction():
                change()
    assert exactly(pod) == exactly(stored(pod.path)) == exactly({"important": 1, "more": [1, 2]})


@pytest.mark.parametrize("mode", ["plain", "hold", "transaction"])
@pytest.mark.parametrize("value", [Decimal("1.5"), Number.ONE])
def test_memory_has_what_default_made_of_a_value_and_not_what_is_equal_to_it(
    opened: Opener, mode: str, value: Any
) -> None:
    pod = opened(default=float)
    pod["a"] = []
    pod["a"].append(value)
    match mode:
        case "plain":
            pod.update("a")
        case "hold":
            with pod.hold():
                pod.update("a")
        case "transaction":
            with pod.transaction():
                pod.update("a")
    assert exactly(pod) == exactly(stored(pod.path)) == exactly({"a": [float(value)]})
    assert type(pod["a"][0]) is float


# ---------------------------------------------------------------------------------------- system calls that fail


@pytest.mark.parametrize(
    "operation",
    [
        lambda path, pod: pod.update(b=2),
        lambda path, pod: pod.sync(),
        lambda path, pod: pod.refresh(),
        lambda path, pod: POD(path).close(),
        lambda path, pod: POD(path, mode="r").close(),
        lambda path, pod: pod.check(),
    ],
    ids=["commit", "fold", "refresh", "open", "open to read", "check"],
)
def test_a_stale_handle_at_opening_a_file_is_tried_again(
    path: Path,
    pod: POD[Any, Any],
    failing_os: FailingOS,
    monkeypatch: pytest.MonkeyPatch,
    operation: Callable[[Path, POD[Any, Any]], object],
) -> None:
    """Each look at a file by its name may hit the old handle once, on a network file system."""
    monkeypatch.setattr("tastypy.files.is_local", lambda descriptor: False)
    pod._store.local = pod._store.lock.local = False
    monkeypatch.setattr("tastypy.reading.PAUSE", 0)
    left = [0]

    def stale(name: str, flags: int, *_: object) -> None:
        if flags & (os.O_CREAT | os.O_DIRECTORY) == 0:
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)

    pod["a"] = 0
    pod.sync()
    number = 0
    while left[0] <= 0:  # until there are fewer to open
        number += 1
        pod["a"] = number
        left[0] = number
        failing_os.before["open"] = stale
        operation(path, pod)
        failing_os.before.clear()
        assert exactly(pod) == exactly(stored(path))
    assert number > 1


def test_the_lock_line_whose_sync_failed_is_written_and_synced_again_before_the_next_append(
    opened: Opener, failing_os: FailingOS
) -> None:
    """Else a power cut goes back to the epoch before, and loses what was acknowledged in this one."""
    pod = opened(durable=True)
    pod["a"] = 1
    broken, calls = [True], list[tuple[str, str]]()

    def fdatasync(descriptor: int) -> None:
        calls.append(("fdatasync", name_of(descriptor)))
        if name_of(descriptor) == ".lock" and broken[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    failing_os.before["fdatasync"] = fdatasync
    for call in ("write", "pwrite"):
        failing_os.before[call] = lambda descriptor, *_, call=call: calls.append((call, name_of(descriptor)))
    with pytest.raises(UnknownOutcomeError):
        pod.sync()
    name = journal(Path(pod.path)).name
    for _ in range(2):
        calls.clear()
        with pytest.raises(CommitError):
            pod["never"] = 1
        assert ("write", name) not in calls
        assert calls[-2:] == [("pwrite", ".lock"), ("fdatasync", ".lock")]
    broken[0] = False
    calls.clear()
    pod["acknowledged"] = 1
    wanted = [("pwrite", ".lock"), ("fdatasync", ".lock"), ("write", name), ("fdatasync", name)]
    assert [call for call in calls if call in wanted] == wanted
    calls.clear()
    pod["later"] = 1
    assert calls == wanted[2:]
    failing_os.before.clear()
    assert exactly(pod) == exactly(stored(pod.path)) == exactly({"a": 1, "acknowledged": 1, "later": 1})


def test_no_pod_of_the_process_appends_to_a_journal_whose_fdatasync_failed(
    opened: Opener, failing_os: FailingOS
) -> None:
    """The kernel may have dropped pages before, and would report success for what stands behind them."""
    first, second = opened(durable=True), opened(durable=True)
    first["a"] = 1
    second["b"] = 2
    old = journal(Path(first.path))
    failing_os.always["fdatasync"] = os_error(errno.EIO)()
    with pytest.raises(CommitError):
        first["never"] = 1
    failing_os.always.clear()
    lines = old.read_bytes()
    second["c"] = 3
    assert old.read_bytes().startswith(lines)
    assert b'"c"' not in old.read_bytes()
    assert [batch["put"] for batch in batches(Path(first.path))] == [{"c": 3}]
    assert len(journals(Path(first.path))) == 2
    first["d"] = 4
    assert exactly(first) == exactly(stored(first.path)) == exactly({"a": 1, "b": 2, "c": 3, "d": 4})


# -------------------------------------------------------------------------------------------------- a close that fails


def test_a_close_that_fails_leaves_the_hold_as_it_was(pod: POD[Any, Any]) -> None:
    with pod.hold():
        pod["a"] = []
        pod["a"].append({1, 2})
        with pytest.raises(UnstorableTypeError):
            pod.close()
        pod["late"] = 1
        assert pod.dirty() == {"a", "late"}
        assert "late" not in stored(pod.path)
        pod["a"] = [2]
    assert pod.dirty() == set()
    assert stored(pod.path) == {"a": [2], "late": 1}


class _Registered(POD[Any, Any]):
    """A base whose subclasses have to say something, as in a registry of plugins."""

    def __init_subclass__(cls, *, tag: str, **options: Any) -> None:
        super().__init_subclass__(**options)


class _Tagged(_Registered, tag="x"):
    """A class of which `close` cannot make a closed one."""


def test_an_exception_of_init_subclass_in_close_leaves_the_pod_open_and_usable(path: Path) -> None:
    pod = _Tagged(path)
    pod["a"] = 1
    for number in range(2):
        with pytest.raises(TypeError, match="tag"):
            pod.close()
        assert not pod.closed
        pod[number] = number
        assert pod.refresh() == set()
    assert exactly(pod) == exactly(stored(path)) == exactly({"a": 1, 0: 0, 1: 1})
