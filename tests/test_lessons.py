"""What other stores lost data over (the table in DESIGN, section 7), row by row: what holds here."""

from __future__ import annotations

import ast
import inspect
import json
import logging
import os
import pickle
import random
import time
from pathlib import Path
from typing import Any

import pytest
from faults import FailingOS
from helpers import Opener, append, batches, end, exactly, files, hear, journal, shards, start, stored, tell

import tastypy
from tastypy import (
    POD,
    ClosedPODError,
    LockTimeout,
    PersistentOrderedDictIntegrityError,
    SettingsError,
    UnstorableValueError,
)

TORN = [
    b'{"crc":"0',
    b'{"crc":"00000000","seq":3,"put":{"torn":1}}',
    b'{"crc":"00000000","seq":3,"put":{"torn":1}}\n',
    b"\0" * 64,
]


@pytest.mark.parametrize("tail", TORN, ids=["begun", "no newline", "wrong crc", "zeros"])
def test_a_torn_last_line_is_cut_before_the_next_append(pod: POD[Any, Any], opened: Opener, tail: bytes) -> None:
    """It swallows nothing, and the journal stays readable."""
    pod["a"] = 1
    pod["b"] = 2
    append(journal(Path(pod.path)), tail)
    assert stored(pod.path) == {"a": 1, "b": 2}
    other = opened()
    other["c"] = 3
    pod["d"] = 4
    text = journal(Path(pod.path)).read_bytes()
    assert text.count(b'{"crc":"') == text.count(b"\n") == 5
    assert b"torn" not in text
    assert b"\0" not in text
    assert [batch["seq"] for batch in batches(Path(pod.path))] == [1, 2, 3, 4]
    assert stored(pod.path) == {"a": 1, "b": 2, "c": 3, "d": 4} == pod
    assert pod.check() == []


def test_temporary_names_are_random_and_lie_beside_their_target(pod: POD[Any, Any], failing_os: FailingOS) -> None:
    """Two writers on two hosts, with the same process id and the same random state, do not share one."""
    temporary: list[str] = []
    failing_os.before["rename"] = lambda source, target: temporary.append(source)
    for number in range(20):
        random.seed(0)
        pod["a"] = number
        pod.sync()
    names = [os.path.basename(name) for name in temporary]
    assert len(names) == len(set(names)) == 20
    assert {os.path.dirname(name) for name in temporary} == {str(pod.path)}
    assert all(len(set(name)) > 4 and str(os.getpid()) != name.strip(".tmp") for name in names)


def test_no_file_but_the_end_of_the_journal_and_the_lock_is_written_in_place(
    pod: POD[Any, Any], failing_os: FailingOS
) -> None:
    """A shorter document over a longer one leaves no trailing bytes."""
    in_place: set[str] = set()

    def note(name: str, flags: int, *_: Any) -> None:
        if flags & (os.O_WRONLY | os.O_RDWR) and not flags & os.O_EXCL:
            assert flags & os.O_APPEND or Path(name).name == ".lock", name
            in_place.add(Path(name).name.partition("-")[0])

    failing_os.before["open"] = note
    failing_os.before["rename"] = lambda source, target: pytest.fail(target) if os.path.exists(target) else None
    for value in ("long" * 1000, "s", ["long" * 5000], [], ""):
        pod["key"] = value
        pod.sync()
        (shard,) = shards(Path(pod.path))
        assert json.loads(shard.read_bytes()) == {"key": value}
    pod.close()
    assert in_place <= {"journal", ".lock"}


def test_a_value_is_serialised_whole_before_any_file_is_opened(pod: POD[Any, Any], failing_os: FailingOS) -> None:
    """One that cannot be leaves no half of a document."""
    pod["a"] = 1
    before = files(Path(pod.path))
    failing_os.calls.clear()
    with pytest.raises(TypeError, match=r"value\['list'\]\[1000\]"):
        pod["b"] = {"text": "x" * 100_000, "list": [*range(1000), object()]}
    with pytest.raises(TypeError):
        pod.update(c=1, d=object())
    with pytest.raises(TypeError):
        pod.setdefault("e", object())
    assert failing_os.calls == []
    assert files(Path(pod.path)) == before
    assert pod == {"a": 1}


def test_every_operation_on_a_closed_pod_but_close_raises(pod: POD[Any, Any]) -> None:
    """Writes after it do not go to memory and vanish."""
    pod["a"] = 1
    pod.close()
    with pytest.raises(ClosedPODError, match=str(pod.path)):
        pod["b"] = 2
    with pytest.raises(ClosedPODError):
        pod.get("a")
    pod.close()
    assert stored(pod.path) == {"a": 1}


@pytest.mark.parametrize(("setting", "value", "another"), [("gzipped", True, False), ("shard_bytes", 1000, 2000)])
def test_settings_are_stored_and_a_reopen_that_passes_others_raises(
    opened: Opener, setting: str, value: Any, another: Any
) -> None:
    """One that passes none, or the same, takes the stored ones."""
    with opened(**{setting: value}) as pod:
        pod["a"] = "x" * 3000
        pod.sync()
        pod["b"] = 1
    before = files(Path(pod.path))
    for mode in ("a", "r"):
        with pytest.raises(SettingsError, match=f"{setting}={value}"):
            opened(mode=mode, **{setting: another})
        with opened(mode=mode) as again, opened(mode=mode, **{setting: value}) as same:
            assert again == same == {"a": "x" * 3000, "b": 1}
    assert files(Path(pod.path)) == before


def test_a_lock_left_by_a_dead_process_blocks_nobody(path: Path, opened: Opener) -> None:
    """The kernel drops it with its process."""
    holder = start("stand_in_transaction", path)
    assert hear(holder) == "inside"
    holder.kill()
    end(holder)
    began = time.monotonic()
    opened()["a"] = 1
    assert time.monotonic() - began < 5


def test_waiting_long_for_a_lock_is_said_by_its_name_and_ends_at_the_timeout(
    path: Path, opened: Opener, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 10 s a warning names the lock; after `timeout`, 300 s by default, LockTimeout is raised."""
    from tastypy import lock  # noqa: PLC0415 - only this test looks inside

    assert lock.WARN_AFTER == 10
    assert inspect.signature(POD).parameters["timeout"].default == 300
    monkeypatch.setattr(lock, "WARN_AFTER", 0.2)
    pod = opened(timeout=0.6)
    holder = start("stand_in_transaction", path)
    assert hear(holder) == "inside"
    with caplog.at_level(logging.WARNING, "tastypy"), pytest.raises(LockTimeout, match=str(path)):
        pod["a"] = 1
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert str(path / ".lock") in warnings[0]
    assert pod == {}
    tell(holder)
    assert hear(holder) == "committed"
    assert end(holder) == 0
    pod["a"] = 1
    assert stored(path) == {"inside": 1, "a": 1}


def test_a_lock_is_never_broken_by_age_while_its_holder_lives(path: Path, opened: Opener) -> None:
    pod = opened(timeout=0.3)
    holder = start("stand_in_transaction", path)
    assert hear(holder) == "inside"
    for entry in path.iterdir():
        os.utime(entry, (0, 0))
    with pytest.raises(LockTimeout):
        pod["a"] = 1
    with pytest.raises(LockTimeout):
        opened(timeout=0.1)
    tell(holder)
    assert hear(holder) == "committed"
    assert end(holder) == 0
    assert stored(path) == {"inside": 1}


def test_nan_large_integers_and_integer_keys_are_refused_or_exact(pod: POD[Any, Any]) -> None:
    for bad in (float("nan"), float("inf"), -float("inf"), 2**64, -(2**63) - 1, 10**30):
        with pytest.raises(UnstorableValueError):
            pod["key"] = bad
        with pytest.raises(UnstorableValueError):
            pod[bad] = "value"
    with pytest.raises(TypeError, match="key 1"):
        pod["key"] = {1: "value"}
    assert pod == {}
    pod[1] = 2**64 - 1
    assert exactly(stored(pod.path)) == exactly({1: 2**64 - 1})


def test_nothing_is_ever_evicted(opened: Opener) -> None:
    """Ten times the size of a journal's least limit, in many shards."""
    pod = opened(shard_bytes=20_000)
    expected = {}
    for number in range(1100):
        pod[number] = expected[number] = f"{number}" + "x" * 10_000
    assert pod == expected
    pod.close()
    assert stored(pod.path) == expected


def test_nothing_in_a_directory_is_ever_executed(pod: POD[Any, Any], tmp_path: Path) -> None:
    """JSON only: a pickle in the place of a shard or journal is a damaged file."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "exploded",)

    pod["a"] = 1
    pod.sync()
    pod["b"] = 1
    pod.close()
    bomb = pickle.dumps(Bomb())
    (shard,) = shards(Path(pod.path))
    for target in (shard, journal(Path(pod.path))):
        sound = target.read_bytes()
        target.write_bytes(bomb)
        for mode in ("r", "a"):
            with pytest.raises(PersistentOrderedDictIntegrityError, match=target.name):
                POD(pod.path, mode=mode)
        assert target.read_bytes() == bomb
        target.write_bytes(sound)
    assert not (tmp_path / "exploded").exists()
    assert stored(pod.path) == {"a": 1, "b": 1}


def test_no_module_of_the_package_can_execute_data() -> None:
    """None imports pickle, shelve, dill or code, or calls eval, exec or marshal.loads.

    But for what a run sends to its own workers, and gets from them: functions and exceptions, never what is stored.
    """
    package = Path(tastypy.__file__).parent
    sources = sorted({*package.glob("*.py")} - {package / "run.py", package / "crew.py"})
    assert len(sources) > 10
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            assert not {"pickle", "shelve", "dill", "code", "cloudpickle"} & set(names), source
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"eval", "exec", "marshal.load", "marshal.loads", "pickle.loads"}, source


@pytest.mark.parametrize("length", [1, 10, 1000])
def test_every_generation_has_names_of_its_own(opened: Opener, failing_os: FailingOS, length: int) -> None:
    """So that no reader reads the data of one generation at the offset of another, whichever is longer."""
    created: list[str] = []

    def note(name: str, flags: int, *_: Any) -> None:
        if flags & os.O_EXCL:
            created.append(name)

    failing_os.before["open"] = note
    failing_os.before["rename"] = lambda source, target: created.append(target)
    pod, reader = opened(), opened(mode="r")
    chance = random.Random(length)
    for number in range(40):
        pod[chance.randrange(5)] = "x" * chance.randrange(length)
        if number % 2:
            pod.sync()
        if number % 7 == 3:
            pod.close()
            pod = opened()
        if number % 3 == 0:
            reader.refresh()
            assert exactly(reader) == exactly(pod)
    assert len(created) > 40
    assert len(created) == len(set(created))


def test_one_corrupt_file_is_named_and_repair_keeps_the_rest(
    opened: Opener, capsys: pytest.CaptureFixture[str]
) -> None:
    """`tastypy repair` sets it aside; everything else stays readable."""
    from tastypy.cli import main  # noqa: PLC0415 - only this test uses the command

    with opened(shard_bytes=64) as pod:
        pod.update({f"key {number}": "x" * 30 for number in range(9)})
        pod.sync()
        pod["in the journal"] = 1
    damaged = shards(Path(pod.path))[2]
    lost = set(json.loads(damaged.read_bytes()))
    damaged.write_bytes(damaged.read_bytes()[:-10])
    before = files(Path(pod.path))
    for mode in ("a", "r"):
        with pytest.raises(PersistentOrderedDictIntegrityError, match=damaged.name) as caught:
            opened(mode=mode)
        assert "repair" in str(caught.value)
    assert files(Path(pod.path)) == before
    assert main(["repair", str(pod.path)]) == 1, "what is set aside counts as a problem until it is removed"
    assert damaged.name in capsys.readouterr().out
    kept = {f"key {number}": "x" * 30 for number in range(9) if f"key {number}" not in lost}
    assert stored(pod.path) == {**kept, "in the journal": 1}
    aside = [name for name in files(Path(pod.path)) if name.startswith("aside-")]
    assert len(aside) == 1
    assert files(Path(pod.path))[aside[0]] == before[damaged.name]
    (Path(pod.path) / aside[0]).unlink()
    assert main(["check", str(pod.path)]) == 0


def test_there_is_no_init_that_overwrites_saved_results(opened: Opener) -> None:
    """`setdefault` adds what is missing."""
    with opened() as pod:
        pod["saved"] = 1
    with pytest.raises(TypeError, match="init"):
        opened(init={"saved": 0})
    with opened() as pod:
        assert pod.setdefault("saved", 0) == 1
        assert pod.setdefault("new", 0) == 0
    assert stored(pod.path) == {"saved": 1, "new": 0}
