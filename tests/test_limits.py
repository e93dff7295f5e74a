"""Too little of what the system gives: descriptors and memory. A failure says which, changes nothing, and passes."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from faults import FailingOS, os_error
from helpers import in_child, stored

from tastypy import POD, CommitError, StorageError, UnknownOutcomeError, folding, values
from tastypy.store import Store


@pytest.fixture
def pod(tmp_path: Path) -> POD[str, Any]:
    """A POD that was folded just now."""
    pod: POD[str, Any] = POD(tmp_path / "my.pod")
    pod.update(a=1, b=2)
    pod.sync()
    return pod


def test_a_change_for_which_no_file_can_be_opened_is_known_not_to_have_been_made(
    pod: POD[str, Any], failing_os: FailingOS
) -> None:
    """What was never begun needs no undoing, for which there are no descriptors either."""
    pod.refresh()  # the journal is open, and the one before it may want its seal
    failing_os.always["open"] = os_error(errno.EMFILE)()
    with pytest.raises(CommitError, match="nothing was changed") as caught:
        pod["c"] = 3
    assert not isinstance(caught.value, UnknownOutcomeError)
    assert caught.value.errno == errno.EMFILE
    failing_os.always.clear()
    assert pod == stored(pod.path) == {"a": 1, "b": 2}
    pod["c"] = 3
    assert stored(pod.path) == {"a": 1, "b": 2, "c": 3}


def test_a_forked_child_without_descriptors_gets_a_clear_error(
    pod: POD[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs one of its own for the lock."""

    def child() -> None:
        with monkeypatch.context() as patch:
            failing = FailingOS()
            failing.always["open"] = os_error(errno.EMFILE)()
            patch.setattr("tastypy.files.os", failing)
            with pytest.raises(StorageError) as caught:
                pod["c"] = 3
            assert caught.value.errno == errno.EMFILE
        pod["c"] = 3

    assert in_child(child) == 0
    assert stored(pod.path) == {"a": 1, "b": 2, "c": 3}


def test_a_fold_for_which_there_is_no_memory_does_not_fail_the_change_that_set_it_off(
    pod: POD[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change is in the journal, as when the disk is full."""

    def merge(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(folding, "merge", merge)
        pod["a"] = large = "x" * 1_200_000
        with pytest.raises(MemoryError):
            pod.sync()
    assert pod == stored(pod.path) == {"a": large, "b": 2}
    pod.sync()
    assert pod.check() == []


def test_a_change_that_cannot_be_undone_for_want_of_memory_is_read_again(
    pod: POD[str, Any], failing_os: FailingOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it takes the disk to know the order before, the memory must not keep what was not made."""

    def committed(_: Store) -> None:
        raise MemoryError

    pod["c"] = 3
    with monkeypatch.context() as patch:
        patch.setattr(Store, "committed", committed)
        failing_os.always["write"] = os_error(errno.ENOSPC)()
        with pytest.raises(CommitError):
            pod.move_to_end("a")
        failing_os.always.clear()
    pod.refresh()
    assert [*pod] == [*stored(pod.path)] == ["a", "b", "c"]


def test_json_that_there_is_no_memory_to_read_is_not_damaged(
    pod: POD[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orjson says that with the error that it has for damage, at which `repair` would set a whole shard aside."""

    class Orjson:
        JSONDecodeError = orjson.JSONDecodeError

        def loads(self, text: bytes) -> None:
            raise orjson.JSONDecodeError("Not enough memory to allocate buffer for parsing", text.decode(), 0)

    with monkeypatch.context() as patch:
        patch.setattr(values, "orjson", Orjson())
        with pytest.raises(MemoryError):
            pod.repair()
    assert pod.check() == []
    assert stored(pod.path) == {"a": 1, "b": 2}


HELD = """
import resource
from sys import argv
from tastypy import POD

pod = POD(argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if argv[2] == "update":
    pod.update({f"key {n}": n for n in range(40_000)})
else:
    with pod.hold() if argv[2] == "hold" else pod.transaction():
        for n in range(40_000):
            pod[f"key {n}"] = n
pod.sync()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("how", ["hold", "transaction", "update"])
def test_many_changes_at_once_take_memory_in_proportion(tmp_path: Path, how: str) -> None:
    """Each `bytes` of orjson takes four kilobytes as long as it is kept: that were 160 or 320 megabytes here."""
    taken = subprocess.check_output([sys.executable, "-c", HELD, str(tmp_path / "my.pod"), how], timeout=60)
    assert int(taken) < 100
