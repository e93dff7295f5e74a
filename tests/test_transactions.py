"""What is atomic across processes: transactions, savepoints, `edit`, `incr`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from faults import FailingOS
from helpers import PATIENCE, Opener, batches, exactly, files, stored

from tastypy import POD, TransactionError


class Abort(Exception):  # noqa: N818 - a signal of these tests, not an error
    """Raised to end a transaction without a commit."""


@pytest.fixture
def other(pod: POD[Any, Any], opened: Opener) -> POD[Any, Any]:
    """A second POD on the directory of `pod`."""
    return opened()


def test_a_transaction_is_one_line_written_at_its_end(pod: POD[Any, Any]) -> None:
    pod.update(a=1, b=2)
    before = len(batches(Path(pod.path)))
    with pod.transaction():
        pod["a"] = 10
        del pod["b"]
        pod["c"] = 3
        assert pod == {"a": 10, "c": 3}
        assert stored(pod.path) == {"a": 1, "b": 2}
    assert len(batches(Path(pod.path))) == before + 1
    assert exactly(stored(pod.path)) == exactly(pod) == exactly({"a": 10, "c": 3})


@pytest.mark.parametrize("held", [{}, {"held": 1}], ids=["nothing", "something"])
def test_a_new_key_that_a_transaction_moves_to_the_front_stays_there_under_hold(
    pod: POD[Any, Any], held: dict[str, int]
) -> None:
    pod["a"] = 1
    pod.hold()
    pod.update(held)
    with pod.transaction():
        pod["new"] = 2
        pod.move_to_end("new", last=False)
    assert list(pod) == ["new", "a", *held]
    assert list(stored(pod.path)) == ["new", "a"]


def test_a_transaction_begins_with_what_others_committed(pod: POD[Any, Any], other: POD[Any, Any]) -> None:
    other["theirs"] = 1
    with pod.transaction():
        assert pod == {"theirs": 1}
        pod["theirs"] += 1
    assert stored(pod.path) == {"theirs": 2}


def test_ctrl_c_again_while_a_transaction_is_undone_leaves_nothing_of_it(
    pod: POD[Any, Any], failing_os: FailingOS
) -> None:
    """A deletion is undone from the disk; where that is interrupted twice, the memory follows the disk at its next use."""
    pod.update(a=1, b=2)
    with pytest.raises(KeyboardInterrupt), pod.transaction():
        del pod["a"]
        failing_os.arm(1, KeyboardInterrupt, persistent=True)
        raise Abort
    failing_os.disarm()
    pod.refresh()
    assert exactly(pod) == exactly(stored(pod.path)) == exactly({"a": 1, "b": 2})


@pytest.mark.parametrize("error", [Abort, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_transaction_that_raises_changes_nothing(pod: POD[Any, Any], error: type[BaseException]) -> None:
    pod.update(a=1, b=2, c=3)
    before = files(Path(pod.path))
    with pytest.raises(error), pod.transaction():
        pod["a"] = 10
        del pod["b"]
        pod["d"] = 4
        pod.move_to_end("c", last=False)
        pod.popitem()
        raise error
    assert exactly(pod) == exactly({"a": 1, "b": 2, "c": 3})
    assert files(Path(pod.path)) == before
    pod["e"] = 5
    assert exactly(stored(pod.path)) == exactly({"a": 1, "b": 2, "c": 3, "e": 5})


def test_a_transaction_that_cleared_and_raises_has_everything_back(pod: POD[Any, Any]) -> None:
    pod.update(a=1, b=2)
    pod.sync()
    pod["c"] = 3
    with pytest.raises(Abort), pod.transaction():
        pod.clear()
        pod["z"] = 1
        raise Abort
    assert exactly(pod) == exactly(stored(pod.path)) == exactly({"a": 1, "b": 2, "c": 3})


def test_a_transaction_without_changes_writes_nothing(pod: POD[Any, Any]) -> None:
    pod["a"] = 1
    before = files(Path(pod.path))
    with pod.transaction():
        assert pod["a"] == 1
    assert files(Path(pod.path)) == before


def test_a_value_refused_inside_a_transaction_does_not_spoil_it(pod: POD[Any, Any]) -> None:
    with pod.transaction():
        pod["a"] = 1
        with pytest.raises(TypeError):
            pod["b"] = object()
        pod["c"] = 3
    assert stored(pod.path) == {"a": 1, "c": 3}


@pytest.mark.parametrize("call", ["sync", "close", "revert", "hold", "unhold"])
def test_what_ends_or_writes_is_refused_inside_a_transaction(pod: POD[Any, Any], call: str) -> None:
    with pod.transaction():
        pod["a"] = 1
        with pytest.raises(TransactionError, match=call):
            getattr(pod, call)()
        pod["b"] = 2
    assert stored(pod.path) == {"a": 1, "b": 2}


def test_a_write_through_another_pod_of_the_directory_raises_and_names_both(
    pod: POD[Any, Any], other: POD[Any, Any]
) -> None:
    """It would have to wait for its own thread."""
    with pod.transaction():
        pod["a"] = 1
        with pytest.raises(TransactionError, match=str(pod.path)):
            other["b"] = 2
        with pytest.raises(TransactionError), other.transaction():
            pass
    assert stored(pod.path) == {"a": 1}
    other["b"] = 2
    assert stored(pod.path) == {"a": 1, "b": 2}


def test_another_pod_may_read_meanwhile(pod: POD[Any, Any], other: POD[Any, Any]) -> None:
    pod["a"] = 1
    with pod.transaction():
        pod["a"] = 2
        other.refresh()
        assert other == {"a": 1}


def test_pods_of_two_directories_may_be_in_transactions_at_once(
    pod: POD[Any, Any], opened: Opener, tmp_path: Path
) -> None:
    second = opened(tmp_path / "second.pod")
    with pod.transaction(), second.transaction():
        pod["a"] = 1
        second["b"] = 2
    assert (stored(pod.path), stored(second.path)) == ({"a": 1}, {"b": 2})


# ------------------------------------------------------------------------------------------------------- savepoints


def test_a_transaction_inside_a_transaction_is_a_savepoint(pod: POD[Any, Any]) -> None:
    pod.update(a=1, b=2)
    with pod.transaction():
        pod["a"] = 10
        with pytest.raises(Abort), pod.transaction():
            pod["a"] = 100
            pod["c"] = 3
            del pod["b"]
            raise Abort
        assert exactly(pod) == exactly({"a": 10, "b": 2})
        with pod.transaction():
            pod["d"] = 4
        assert stored(pod.path) == {"a": 1, "b": 2}
    assert exactly(stored(pod.path)) == exactly(pod) == exactly({"a": 10, "b": 2, "d": 4})


def test_a_savepoint_that_committed_goes_with_its_transaction(pod: POD[Any, Any]) -> None:
    with pytest.raises(Abort), pod.transaction():
        pod["a"] = 1
        with pod.transaction():
            pod["b"] = 2
        raise Abort
    assert pod == stored(pod.path) == {}


def test_savepoints_nest_deeply(pod: POD[Any, Any]) -> None:
    def go_down(depth: int) -> None:
        with pod.transaction():
            pod[depth] = depth
            if depth % 2:
                with pytest.raises(Abort), pod.transaction():
                    pod[depth] = "dropped"
                    raise Abort
            if depth < 20:
                go_down(depth + 1)

    go_down(0)
    assert stored(pod.path) == {depth: depth for depth in range(21)}


# -------------------------------------------------------------------------------------------------------- edit, incr


def test_edit_commits_a_nested_value(pod: POD[Any, Any]) -> None:
    pod["a"] = {"list": [1]}
    with pod.edit("a") as value:
        value["list"].append(2)
        assert stored(pod.path) == {"a": {"list": [1]}}
    assert pod == stored(pod.path) == {"a": {"list": [1, 2]}}


def test_edit_starts_from_what_others_committed(pod: POD[Any, Any], other: POD[Any, Any]) -> None:
    other["a"] = [1]
    with pod.edit("a") as value:
        value.append(2)
    assert stored(pod.path) == {"a": [1, 2]}


def test_edit_that_raises_rolls_back_the_mutation_too(pod: POD[Any, Any]) -> None:
    pod["a"] = {"list": [1]}
    with pytest.raises(Abort), pod.edit("a") as value:
        value["list"].append(2)
        raise Abort
    assert pod == stored(pod.path) == {"a": {"list": [1]}}


def test_edit_of_a_missing_key_takes_the_default_or_raises(pod: POD[Any, Any]) -> None:
    with pytest.raises(KeyError, match="nothing"), pod.edit("nothing"):
        pytest.fail("there is nothing to edit")
    default: list[int] = []
    with pod.edit("a", default=default) as value:
        value.append(1)
    assert stored(pod.path) == {"a": [1]}
    assert default == []
    with pod.edit("a", default=[]) as value:
        value.append(2)
    assert stored(pod.path) == {"a": [1, 2]}


def test_edit_that_makes_the_value_unstorable_changes_nothing(pod: POD[Any, Any]) -> None:
    pod["a"] = [1]
    with pytest.raises(TypeError, match="'a'"), pod.edit("a") as value:
        value.append(object())
    assert pod == stored(pod.path) == {"a": [1]}


def test_incr_counts_and_gives_the_new_value(pod: POD[Any, Any], other: POD[Any, Any]) -> None:
    assert pod.incr("n") == 1
    assert other.incr("n") == 2
    assert pod.incr("n", by=10) == 12
    assert pod.incr("n", by=-0.5) == 11.5
    assert pod.incr("m", default=100) == 101
    assert stored(pod.path) == {"n": 11.5, "m": 101}


def test_incr_and_edit_commit_even_while_held(pod: POD[Any, Any], other: POD[Any, Any]) -> None:
    """Like transactions, they are for what several processes change."""
    pod.hold()
    pod["held"] = 1
    other["n"] = 5
    assert pod.incr("n") == 6
    with pod.edit("list", default=[]) as value:
        value.append(1)
    assert stored(pod.path) == {"n": 6, "list": [1]}
    assert pod.dirty() == {"held"}


def test_incr_of_what_is_no_number_raises_and_changes_nothing(pod: POD[Any, Any]) -> None:
    pod["n"] = "text"
    with pytest.raises(TypeError):
        pod.incr("n")
    assert pod == stored(pod.path) == {"n": "text"}


# ----------------------------------------------------------------------------------------------------------- threads


def test_a_transaction_excludes_the_other_threads_of_the_process(pod: POD[Any, Any], other: POD[Any, Any]) -> None:
    """Their writes wait for its end, through the same POD or another one of the directory."""
    inside = threading.Event()
    pod["n"] = 0

    def add(target: POD[Any, Any]) -> None:
        inside.wait(PATIENCE)
        target.incr("n", by=100)

    threads = [threading.Thread(target=add, args=(target,)) for target in (pod, other)]
    for thread in threads:
        thread.start()
    with pod.transaction():
        value = pod["n"]
        inside.set()
        for thread in threads:
            thread.join(0.1)
            assert thread.is_alive()
        pod["n"] = value + 1
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert stored(pod.path) == {"n": 201}
