"""`POD(path, type=...)` beside processes that write to the directory with another type, or without one."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers import Opener, end, files, hear, start, stored, tell
from typed_values import Result, add_one

from tastypy import POD, WrongTypeError


@dataclass
class Other:
    """Another type."""

    name: str


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"score": "x"}, "field 'score' must be float, not 'x'"),
        ({}, "field 'score' is missing"),
        ({"score": 1, "more": 1, "extra": 1}, "field 'extra' is unknown: Result has no such field"),
        (
            {"score": 1, "steps": [{"name": "a", "seconds": None}]},
            r"field 'steps\[0\].seconds' must be float, not None",
        ),
        (7, " must be Result, not 7"),
    ],
)
def test_a_directory_with_another_value_is_not_opened_and_stays_as_it_is(
    opened: Opener, value: Any, message: str
) -> None:
    plain = opened()
    plain.update(good={"score": 1}, bad=value)
    before = files(Path(plain.path))
    with pytest.raises(WrongTypeError, match=rf"my.pod: the value of 'bad':? ?{message}\. .*open the POD without it"):
        opened(type=Result)
    assert files(Path(plain.path)) == before
    plain.sync()
    with pytest.raises(WrongTypeError, match="the value of 'bad'"):
        opened(type=Result)
    del plain["bad"]
    assert opened(type=Result) == {"good": Result(1)}


def test_a_refresh_that_meets_another_value_changes_nothing_and_the_one_after_it_is_mended_all(
    results: POD[str, Result], untyped: POD[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    results["a"] = Result(1)
    untyped.update(b={"score": 2})
    untyped["a"] = {"score": None}
    untyped.update(c={"score": 3})
    before = files(Path(results.path))
    for change in (
        results.refresh,
        lambda: results.update(d=Result(4)),
        lambda: results.pop("a"),
        lambda: results.transaction().__enter__(),
        results.sync,
    ):
        with pytest.raises(WrongTypeError, match="the value of 'a': field 'score' must be float, not None"):
            change()
        assert dict(results.items()) == {"a": Result(1)}
    assert files(Path(results.path)) == before
    assert caplog.text == ""
    untyped["a"] = {"score": 5}  # the value before it stays in the journal, and does not count
    assert results.refresh() == {"a", "b", "c"}
    results["d"] = Result(4)
    assert list(results.items()) == [("a", Result(5)), ("b", Result(2)), ("c", Result(3)), ("d", Result(4))]


@pytest.mark.parametrize("mend", ["del", "clear", "put", "del and put"])
@pytest.mark.parametrize("held", [False, True])
def test_a_bad_value_that_is_gone_by_the_time_of_the_refresh_is_none(
    results: POD[str, Result], untyped: POD[str, Any], mend: str, held: bool
) -> None:
    results.update(a=Result(1), b=Result(2))
    if held:
        results.hold()
        results["h"] = Result(9)
    untyped["a"] = "bad"
    if "del" in mend:
        del untyped["a"]
    if "clear" in mend:
        untyped.clear()
    if "put" in mend:
        untyped["a"] = {"score": 3}
    changed = results.refresh()
    rest = {} if mend == "clear" else {"b": Result(2)}
    there = {"put": {"a": Result(3), **rest}, "del and put": {**rest, "a": Result(3)}}.get(mend, rest)
    assert list(results.items()) == list({**there, **({"h": Result(9)} if held else {})}.items())
    assert changed == ({"a", "b"} if mend == "clear" else {"a"})


def test_a_repair_tells_what_it_did_whatever_others_wrote(results: POD[str, Result], untyped: POD[str, Any]) -> None:
    untyped["b"] = {"score": 1}
    untyped.sync()
    untyped["a"] = {"score": "x"}
    (shard,) = Path(results.path).glob("0000-*.json")
    shard.write_text("{}")
    assert any(shard.name in done for done in results.repair())
    with pytest.raises(WrongTypeError, match="the value of 'a'"):
        results.refresh()


def test_an_empty_pod_stays_empty_where_all_that_is_new_is_bad(
    results: POD[str, Result], untyped: POD[str, Any]
) -> None:
    for _ in range(3):
        untyped["a"] = {"score": "x"}
        untyped.sync()
    with pytest.raises(WrongTypeError, match="the value of 'a'"):
        results.refresh()
    assert results == {}


def test_a_refresh_over_folds_tells_the_keys_that_changed_and_no_others(
    results: POD[str, Result], untyped: POD[str, Any]
) -> None:
    results.update(a=Result(1), b=Result(2), c=Result(3))
    for score in (4, 5, 6):
        untyped["a"] = {"score": score}
        untyped.sync()
    del untyped["b"]
    assert results.refresh() == {"a", "b"}
    assert list(results.items()) == [("a", Result(6)), ("c", Result(3))]
    for _ in range(3):
        untyped["c"] = None
        untyped.sync()
    with pytest.raises(WrongTypeError, match="the value of 'c' must be Result, not None"):
        results.refresh()
    assert list(results.items()) == [("a", Result(6)), ("c", Result(3))]
    untyped.pop("c")
    assert results.refresh() == {"c"}


@pytest.mark.parametrize("end", ["unhold", "close", "__exit__"])
@pytest.mark.parametrize("folds", [0, 3])
def test_what_is_held_gets_written_whatever_others_wrote(
    results: POD[str, Result], untyped: POD[str, Any], end: str, folds: int
) -> None:
    results["a"] = Result(1)
    results.hold()
    results.update(a=Result(2), new=Result(3))
    untyped.update(bad="bad", more={"score": 4})
    for number in range(folds):
        untyped["more"] = {"score": number}
        untyped.sync()
    with pytest.raises(WrongTypeError, match="'bad'"):
        results.sync()
    assert results.dirty() == {"a", "new"}
    if end == "__exit__":
        results.__exit__(None, None, None)
    else:
        getattr(results, end)()
    untyped.refresh()
    assert list(untyped) == ["a", "bad", "more", "new"]
    assert [untyped["a"]["score"], untyped["new"]["score"]] == [2, 3]
    if end == "unhold":
        with pytest.raises(WrongTypeError, match="'bad'"):
            results["b"] = Result(5)
        del untyped["bad"]
        results["b"] = Result(5)
        assert list(results) == ["a", "more", "new", "b"]
    untyped.sync()
    assert untyped.check() == []


def test_what_is_held_gets_written_after_a_wait_for_the_lock_and_a_look_at_what_is_bad(
    results: POD[str, Result], untyped: POD[str, Any]
) -> None:
    results.hold()
    results["new"] = Result(1)
    untyped["bad"] = "bad"
    holder = start("stand_in_transaction", results.path)
    assert hear(holder) == "inside"
    threading.Timer(0.1, tell, [holder]).start()
    results.unhold()
    assert end(holder) == 0
    assert list(stored(results.path)) == ["bad", "inside", "new"]


def test_what_is_held_gets_written_at_exit_whatever_others_wrote(path: Path) -> None:
    program = f"""
from typed_values import *
pod = POD({str(path)!r}, type=Result)
pod.hold()
pod["new"] = Result(1)
POD({str(path)!r})["bad"] = "bad"
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60, capture_output=True)
    assert b"the value of 'bad' must be Result, not 'bad'" in done.stderr
    assert b"what is held here is written all the same" in done.stderr
    assert list(stored(path)) == ["bad", "new"]


def test_a_held_value_over_a_bad_one_wins(results: POD[str, Result], untyped: POD[str, Any]) -> None:
    results.hold()
    results["a"] = Result(1)
    untyped["a"] = "bad"
    results.unhold()
    assert results.refresh() == set()
    assert results == {"a": Result(1)}


def test_a_revert_that_meets_another_value_drops_nothing(results: POD[str, Result], untyped: POD[str, Any]) -> None:
    results.hold()
    results["a"] = Result(1)
    untyped["b"] = "bad"
    with pytest.raises(WrongTypeError, match="the value of 'b'"):
        results.revert()
    assert results.dirty() == {"a"}
    assert results == {"a": Result(1)}
    untyped["b"] = {"score": 2}
    results.revert()
    assert results == {"b": Result(2)}
    results.unhold()


def test_another_type_is_refused_as_well(results: POD[str, Result], opened: Opener) -> None:
    results["a"] = Result(1)
    with pytest.raises(WrongTypeError, match="the value of 'a': field 'score' is unknown: Other has no such field"):
        opened(type=Other)


def test_workers_reopen_it_with_its_type(results: POD[str, Result]) -> None:
    results["a"] = Result(1)
    with ProcessPoolExecutor(2) as executor:
        scores = [result.score for result in executor.map(add_one, [results] * 4)]
    assert max(scores) == 5
    assert results.refresh() == {"a"}
    assert results["a"] == Result(5)
    assert pickle.loads(pickle.dumps(results))["a"] == Result(5)


def test_what_others_committed_while_an_assignment_waited_comes_in_as_objects(
    results: POD[str, Result], opened: Opener
) -> None:
    twin = opened(type=Result)
    with twin.transaction():
        twin["a"] = Result(1)
    twin["b"] = Result(2)
    results["c"] = Result(3)
    assert list(results.values()) == [Result(1), Result(2), Result(3)]
    twin.sync()
    results["d"] = Result(4)
    assert [*opened(type=Result).values()] == [Result(1), Result(2), Result(3), Result(4)]
