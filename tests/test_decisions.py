"""The small decisions of the design, section 9: each a test, under its number."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from faults import FailingOS
from helpers import PATIENCE, Opener, exactly, files, journals, stored

from tastypy import POD, ClosedPODError, CommitError, MissingKeyError, MissingPODError


class Abort(Exception):  # noqa: N818 - a signal of these tests, not an error
    """Raised to end a transaction without a commit."""


@pytest.fixture
def other(pod: POD[Any, Any], opened: Opener) -> POD[Any, Any]:
    """A second POD on the directory of `pod`."""
    return opened()


def test_1_a_held_value_wins_in_memory_over_that_of_another_process_and_revert_gives_theirs(
    pod: POD[Any, Any], other: POD[Any, Any]
) -> None:
    pod["a"] = 0
    pod.hold()
    pod["a"] = "mine"
    other["a"] = "theirs"
    pod.refresh()
    assert pod["a"] == "mine"
    assert pod.dirty() == {"a"}
    pod.revert()
    assert pod["a"] == "theirs"
    assert stored(pod.path) == {"a": "theirs"}


def test_1_a_key_held_as_deleted_stays_deleted_and_revert_gives_theirs(
    pod: POD[Any, Any], other: POD[Any, Any]
) -> None:
    pod["a"] = 0
    pod.hold()
    del pod["a"]
    other["a"] = "theirs"
    pod.refresh()
    assert "a" not in pod
    pod.revert()
    assert pod == {"a": "theirs"}


def test_2_a_transaction_on_a_held_key_commits_its_value_and_drops_the_held_one(pod: POD[Any, Any]) -> None:
    pod["a"] = 0
    pod.hold()
    pod.update(a="held", b="held")
    with pod.transaction():
        pod["a"] = "committed"
    assert pod.dirty() == {"b"}
    assert stored(pod.path) == {"a": "committed"}
    pod.revert()
    assert pod == {"a": "committed"}


def test_2_on_an_exception_the_held_value_returns(pod: POD[Any, Any]) -> None:
    pod["a"] = 0
    pod.hold()
    pod.update(a="held", b="held")
    with pytest.raises(Abort), pod.transaction():
        pod["a"] = "never"
        del pod["b"]
        raise Abort
    assert exactly(pod) == exactly({"a": "held", "b": "held"})
    assert pod.dirty() == {"a", "b"}
    assert stored(pod.path) == {"a": 0}
    pod.unhold()
    assert stored(pod.path) == {"a": "held", "b": "held"}


def test_2_a_transaction_commits_its_own_changes_only_and_what_was_held_stays_held(pod: POD[Any, Any]) -> None:
    pod.hold()
    pod["held"] = 1
    with pod.transaction():
        pod["committed"] = 2
    assert stored(pod.path) == {"committed": 2}
    assert pod.dirty() == {"held"}


def test_3_a_transaction_rolls_back_to_the_old_place_and_the_committed_value(pod: POD[Any, Any]) -> None:
    pod.update(a=[1], b=[2], c=[3])
    pod.sync()
    with pytest.raises(Abort), pod.transaction():
        del pod["b"]
        pod["b"] = "again, at the end"
        pod["a"].append("mutated")
        pod["a"] = pod["a"]
        raise Abort
    assert exactly(pod) == exactly({"a": [1], "b": [2], "c": [3]})


def test_3_a_list_mutated_in_place_without_being_set_stays_mutated_in_memory(pod: POD[Any, Any]) -> None:
    """Nothing told us; the documentation points to `edit`."""
    pod["a"] = [1]
    with pytest.raises(Abort), pod.transaction():
        pod["a"].append(2)
        raise Abort
    assert pod["a"] == [1, 2]
    assert stored(pod.path) == {"a": [1]}


@pytest.mark.parametrize("call", ["update", "sync_key"])
def test_4_a_mutated_value_is_serialised_before_a_peers_value_comes_in(
    pod: POD[Any, Any], other: POD[Any, Any], call: str
) -> None:
    pod["a"] = [1]
    pod["a"].append("mine")
    other["a"] = ["theirs"]
    getattr(pod, call)("a")
    assert pod["a"] == [1, "mine"]
    assert stored(pod.path) == {"a": [1, "mine"]}


def test_5_update_of_the_empty_text_is_the_no_op_of_a_dict(pod: POD[Any, Any]) -> None:
    pod[""] = []
    pod[""].append(1)
    before = files(Path(pod.path))
    pod.update("")
    assert files(Path(pod.path)) == before
    pod.sync_key("")
    assert stored(pod.path) == {"": [1]}


def test_5_update_of_a_key_that_is_not_text_is_as_in_a_dict_and_sync_key_takes_it(pod: POD[Any, Any]) -> None:
    pod[1] = []
    pod[1].append(2)
    with pytest.raises(TypeError):
        pod.update(1)  # type: ignore[call-overload]  # that is the point
    pod.sync_key(1)
    assert stored(pod.path) == {1: [2]}
    with pytest.raises(MissingKeyError, match="2"):
        pod.sync_key(2)


def test_6_a_held_clear_deletes_the_keys_known_then(pod: POD[Any, Any], other: POD[Any, Any]) -> None:
    pod.update(a=1, b=2)
    pod.hold()
    pod.clear()
    other["c"] = 3
    assert pod.dirty() == {"a", "b"}
    pod.unhold()
    assert pod == stored(pod.path) == {"c": 3}


def test_6_a_clear_that_is_not_held_deletes_everything_under_the_lock(pod: POD[Any, Any], other: POD[Any, Any]) -> None:
    pod.update(a=1, b=2)
    other["c"] = 3
    pod.clear()
    assert pod == stored(pod.path) == {}


def test_7_hold_acts_at_once_and_a_fold_without_changes_does_nothing(pod: POD[Any, Any]) -> None:
    pod.hold()
    pod["a"] = 1
    assert stored(pod.path) == {}
    pod.unhold()
    pod.sync()
    before = files(Path(pod.path))
    pod.sync()
    pod.unhold()
    assert files(Path(pod.path)) == before


def test_8_a_closed_pod_raises_on_every_use(pod: POD[Any, Any]) -> None:
    pod["a"] = 1
    keys, iterator = pod.keys(), iter(pod)
    pod.close()
    uses: list[Callable[[], object]] = [
        *(
            lambda: pod["a"],
            lambda: len(pod),
            lambda: "a" in pod,
            lambda: bool(pod),
            lambda: pod == {},
            lambda: pod.get("a"),
        ),
        *(
            lambda: list(pod),
            lambda: list(keys),
            lambda: next(iterator),
            pod.copy,
            pod.items,
            pod.hold,
            pod.transaction,
        ),
    ]
    for use in uses:
        with pytest.raises(ClosedPODError, match=str(pod.path)):
            use()


def test_9_a_reader_of_a_directory_that_is_just_being_created_waits_briefly(path: Path) -> None:
    path.mkdir()
    (path / ".lock").touch()
    threading.Timer(0.05, lambda: POD[Any, Any](path).close()).start()
    with POD[Any, Any](path, mode="r") as reader:
        assert reader == {}


def test_9_and_then_says_that_it_does_not_exist(path: Path) -> None:
    path.mkdir()
    (path / ".lock").touch()
    with pytest.raises(MissingPODError, match=str(path)):
        POD(path, mode="r")
    assert files(path) == {".lock": b""}


def test_10_the_parents_of_a_new_directory_are_fsynced_when_they_were_made_here(
    tmp_path: Path, opened: Opener, failing_os: FailingOS
) -> None:
    synced: set[Path] = set()
    failing_os.before["fsync"] = lambda descriptor: synced.add(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
    opened(tmp_path / "new" / "parents" / "my.pod")
    assert synced >= {tmp_path, tmp_path / "new", tmp_path / "new" / "parents", tmp_path / "new" / "parents" / "my.pod"}


def test_11_copy_is_atomic_against_the_other_threads_of_the_process(pod: POD[Any, Any]) -> None:
    """Two keys that are always set together are equal in every copy."""
    pod.update({**{str(number): number for number in range(2000)}, "first": 0, "last": 0})
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            pod.update(first=number, last=number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(200):
            copied = pod.copy()
            assert copied["first"] == copied["last"]
    finally:
        stop.set()
        writer.join(PATIENCE)


def test_12_other_threads_see_a_transactions_changes_before_it_commits_and_other_pods_do_not(
    pod: POD[Any, Any], other: POD[Any, Any]
) -> None:
    seen: list[Any] = []
    with pod.transaction():
        pod["a"] = 1
        thread = threading.Thread(target=lambda: seen.append(pod.get("a")))
        thread.start()
        thread.join(PATIENCE)
        other.refresh()
        assert "a" not in other
    assert seen == [1]


def test_13_a_held_value_that_became_unstorable_is_reported_by_its_key_and_spares_the_others(
    pod: POD[Any, Any],
) -> None:
    pod.hold()
    pod.update(good=[1], bad=[2], fine=[3])
    pod["bad"].append(float("nan"))
    with pytest.raises(ValueError, match=r"'bad'.*NaN"):
        pod.sync()
    assert stored(pod.path) == {"good": [1], "fine": [3]}
    assert pod.dirty() == {"bad"}
    pod["bad"].pop()
    pod.sync()
    assert stored(pod.path) == {"good": [1], "bad": [2], "fine": [3]} == pod


def test_15_a_closed_pod_is_empty_to_c_code_that_reads_past_its_methods(pod: POD[Any, Any]) -> None:
    pod["a"] = 1
    assert orjson.loads(orjson.dumps(pod)) == {"a": 1}
    pod.close()
    assert orjson.dumps(pod) == b"{}"
    assert dict.__len__(pod) == 0


def test_16_copy_is_a_plain_dict_with_the_stored_objects(pod: POD[Any, Any]) -> None:
    pod["a"] = [1]
    copied = pod.copy()
    assert type(copied) is dict
    assert copied["a"] is pod["a"]


def test_18_a_fold_that_an_assignment_set_off_and_that_fails_does_not_fail_the_assignment(
    pod: POD[Any, Any], failing_os: FailingOS, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in the journal; the fold is logged and tried again later."""
    failing_os.always["rename"] = OSError(28, "No space left on device")
    with caplog.at_level(logging.WARNING, "tastypy"):
        for number in range(30):
            pod[f"key {number}"] = "x" * 50_000  # past the journal's least limit of 1 MiB
    assert any("No space left" in record.getMessage() for record in caplog.records)
    assert len(stored(pod.path)) == 30
    with pytest.raises(CommitError, match="No space left"):
        pod.sync()
    assert len(stored(pod.path)) == len(pod) == 30
    failing_os.always.clear()
    pod["one more"] = 1
    pod.sync()
    assert journals(Path(pod.path))[-1].stat().st_size < 10_000
    assert len(stored(pod.path)) == 31
