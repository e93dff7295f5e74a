"""The batches of a directory as one who looks on reads them: over folds, beside writers, and where something is not as it should be."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from helpers import append, end, exactly, journal, journals, open_files, start, stored

import tastypy
from tastypy import POD, DirectoryGoneError, MissingPODError, PersistentOrderedDictIntegrityError
from tastypy import format as form
from tastypy.changes import replay
from tastypy.history import Batch, History, Missing, Revoked


@pytest.fixture(params=["local", "remote", "lease"])
def anywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A local file system, one that is not known to be local, and one without flock."""
    if request.param != "local":
        monkeypatch.setattr("tastypy.files.is_local", lambda _: False)
    return str(request.param)


@pytest.fixture
def new(path: Path, anywhere: str) -> POD[Any, Any]:
    """A new POD there."""
    return POD[Any, Any](path, lock="lease" if anywhere == "lease" else "flock", shard_bytes=100)


def told(history: History) -> list[Any]:
    """What is new, in short: numbers of batches, and what is no batch."""
    return [event.number if isinstance(event, Batch) else event for event in history.new()]


def test_it_has_all_from_the_journal_before_the_last_fold_on(path: Path, new: POD[Any, Any]) -> None:
    for number in range(9):
        new[number] = number
        if number % 3 == 2:
            new.sync()
    with History(str(path)) as history:
        assert told(history) == [7, 8, 9]
        assert told(history) == []
        new["a"] = 1
        new.update(b=2, c=3)
        del new["b"]
        records = [event.record for event in history.new() if isinstance(event, Batch)]
        fields = [{name: field for name, field in record.items() if name != "synced"} for record in records]
        assert fields == [{"put": {"a": 1}}, {"put": {"b": 2, "c": 3}}, {"del": ["b"]}]
    new.close()


def test_nothing_is_missed_over_one_fold_or_two(path: Path, new: POD[Any, Any], anywhere: str) -> None:
    new["a"] = 1
    with History(str(path)) as history:
        assert told(history) == [1]
        for folds in (1, 2, 1, 1):
            before = new._store.seq
            for number in range(folds):
                new[f"{folds} {number}"] = 1
                new.sync()
            new[folds] = 2
            expected = [*range(before + 1, new._store.seq + 1)]
            # of the journal that was being read only a descriptor has the end, once it is removed
            assert told(history) == (
                expected if folds == 1 or anywhere == "local" else [Missing(expected[0], expected[0]), *expected[1:]]
            )
    new.close()


def test_what_is_missed_over_many_folds_is_said(path: Path, new: POD[Any, Any], anywhere: str) -> None:
    new["a"] = 1
    with History(str(path)) as history:
        assert told(history) == [1]
        new["last in the journal"] = 1
        for number in range(5):
            new[number] = number
            new.sync()
        assert told(history) == ([2, 3, Missing(4, 6), 7] if anywhere == "local" else [Missing(2, 6), 7])
        new["b"] = 1
        assert told(history) == [8]
    new.close()


@pytest.mark.parametrize("seed", range(3))
def test_what_it_tells_replayed_is_what_is_there(path: Path, new: POD[Any, Any], seed: int) -> None:
    """However looks and changes mix, as long as there are not three folds between two looks."""
    chance = random.Random(seed)
    replayed: dict[Any, Any] = {}
    numbers = []
    with History(str(path)) as history:
        for _ in range(60):
            for _ in range(chance.randrange(4)):
                _change(new, chance)
            if chance.random() < 0.3:
                new.sync()
            for event in history.new():
                assert isinstance(event, Batch)
                numbers.append(event.number)
                replay(replayed, [event.record])
            assert exactly(replayed) == exactly(new)
    assert numbers == [*range(1, new._store.seq + 1)]
    new.close()


def _change(pod: POD[Any, Any], chance: random.Random) -> None:
    key = chance.choice([*range(9), ("a", 1), "#x"])
    action = chance.randrange(10)
    if action == 0:
        pod.clear()
    elif action == 1 and key in pod:
        pod.move_to_end(key, last=chance.random() < 0.5)
    elif action < 4:
        pod.pop(key, None)
    else:
        pod.update({key: "x" * chance.randrange(60), chance.randrange(9): 1})


def test_beside_a_writer_each_batch_comes_once_or_is_said_to_be_missing(path: Path) -> None:
    POD[str, int](path).close()
    with History(str(path)) as history:
        assert told(history) == []
        writer = start("update_pairs", path)  # which folds after every 50
        numbers: list[int] = []
        while len(numbers) < 2000:
            numbers += _numbers(history)
        writer.kill()
        end(writer)
        numbers += _numbers(history)
    with POD[str, int](path, mode="r") as pod:
        assert numbers == [*range(1, pod._store.seq + 1)]


def _numbers(history: History) -> list[int]:
    numbers: list[int] = []
    for event in history.new():
        assert not isinstance(event, Revoked)
        numbers += [event.number] if isinstance(event, Batch) else range(event.first, event.last + 1)
    return numbers


def test_a_fold_in_steps_repeats_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal that it begins has batches that were in the one before, too."""
    monkeypatch.setattr("tastypy.folding._AT_ONCE", 1000)
    monkeypatch.setattr("tastypy.folding._STEP", 500)
    monkeypatch.setattr("tastypy.store._LEAST_LIMIT", 2000)
    with POD[int, str](path, shard_bytes=300) as pod, History(str(path)) as history:
        numbers: list[Any] = told(history)
        for number in range(300):
            pod[number % 50] = "x" * 30
            if number % 7 == 0:
                numbers += told(history)
        numbers += told(history)
        assert numbers == [*range(1, 301)]
        assert pod.stats().epoch > 3


def test_a_batch_that_its_writer_takes_back_is_revoked(path: Path, new: POD[Any, Any], anywhere: str) -> None:
    if anywhere == "lease":
        pytest.skip("there nothing is ever cut off")
    new["a"] = 1
    size = journal(path).stat().st_size
    append(journal(path), form.batch_line(2, b'"put":{"b":1}'))
    with History(str(path)) as history:
        assert told(history) == [1, 2]
        with journal(path).open("r+b") as file:
            file.truncate(size)
        assert told(history) == [Revoked(2)]
        new["c"] = 1
        assert told(history) == [2]
        with journal(path).open("r+b") as file:
            file.truncate(size)
        append(journal(path), form.batch_line(2, b'"put":{"c":2}'))
        assert told(history) == [Revoked(2), 2]


def test_a_line_that_is_being_written_is_waited_for(path: Path, new: POD[Any, Any]) -> None:
    new["a"] = 1
    line = form.batch_line(2, b'"put":{"b":1}')
    with History(str(path)) as history:
        assert told(history) == [1]
        append(journal(path), line[:20])
        assert told(history) == []
        append(journal(path), line[20:])
        assert told(history) == [2]


def test_without_a_seal_it_goes_on_with_what_the_lock_names(path: Path) -> None:
    """Whoever folded may have died before it wrote the seal."""
    with POD[str, int](path) as pod, History(str(path)) as history:
        pod["a"] = 1
        assert told(history) == [1]
        pod["b"] = 1
        pod.sync()
        old = journals(path)[-2]
        old.write_bytes(old.read_bytes()[: -len(form.seal_line(pod.stats().epoch))])
        pod["c"] = 1
        assert told(history) == [2, 3]


def test_it_goes_on_over_a_repair(path: Path) -> None:
    with POD[str, int](path) as pod:
        pod["a"] = 1
        with History(str(path)) as history:
            assert told(history) == [1]
            pod.update(b=2)
            pod["c"] = 3
            data = bytearray(journal(path).read_bytes())
            data[data.index(b'"b"') + 1] ^= 1
            journal(path).write_bytes(data)
            assert tastypy.repair(path)
            pod["d"] = 4
            events = told(history)
            assert events[-1] == pod._store.seq
            assert [event for event in events if not isinstance(event, int)] == [Missing(2, pod._store.seq - 1)]
        with History(str(path)) as history:
            assert told(history)[-1] == pod._store.seq


def test_damage_is_an_error_that_names_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tastypy.history.PAUSE", 0)
    pod = POD[str, int](path)
    pod.update(a=1)
    pod["b"] = 2
    with History(str(path)) as history:
        good = journal(path).read_bytes()
        journal(path).write_bytes(good.replace(b'"a":1', b'"a":7'))
        with pytest.raises(PersistentOrderedDictIntegrityError, match=journal(path).name):
            told(history)
        journal(path).write_bytes(good)
        assert told(history) == [1, 2]


def test_a_directory_that_goes_is_an_error(path: Path, tmp_path: Path) -> None:
    pod = POD[str, int](path)
    with History(str(path)) as history:
        pod["a"] = 1
        assert told(history) == [1]
        path.rename(tmp_path / "elsewhere")
        with pytest.raises(DirectoryGoneError):
            told(history)
        POD[str, int](path).close()
        with pytest.raises(DirectoryGoneError):
            told(history)
        (tmp_path / "nothing").mkdir()
        with pytest.raises(MissingPODError):
            History(str(tmp_path / "nothing"))


def test_it_keeps_nothing_open(path: Path) -> None:
    with POD[str, int](path) as pod:
        before = open_files()
        with History(str(path)) as history:
            for number in range(5):
                pod["a"] = number
                pod.sync()
                told(history)
                assert len(open_files()) <= len(before) + 2
            del history  # the descriptor of the lock goes with its last user
        assert open_files() == before


def test_it_changes_nothing(path: Path, new: POD[Any, Any]) -> None:
    new["a"] = 1
    before = {file: file.read_bytes() for file in path.iterdir()}
    with History(str(path)) as history:
        told(history)
    assert {file: file.read_bytes() for file in path.iterdir()} == before
    assert stored(path) == {"a": 1}
