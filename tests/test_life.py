"""A POD's life and health at the surface: close, the context manager, repr, copies, pickles, stats, check, repair, settings."""

from __future__ import annotations

import copy
import gzip
import json
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest
from helpers import Opener, append, exactly, files, in_shards, journal, open_files, shards, stored

from tastypy import (
    POD,
    ClosedPODError,
    CommitError,
    DuplicateKeyError,
    LockTimeout,
    PersistentOrderedDictIntegrityError,
    ReadOnlyError,
    Stats,
    TastypyError,
    errors,
)

# ------------------------------------------------------------------------------------------------------------- close


def test_closing_writes_what_is_held_and_may_be_repeated(pod: POD[Any, Any]) -> None:
    pod.hold()
    pod["a"] = 1
    closed = [pod.closed]
    pod.close()
    pod.close()
    assert [*closed, pod.closed] == [False, True]
    assert stored(pod.path) == {"a": 1}


def test_the_context_manager_closes_and_writes_whatever_happened(path: Path) -> None:
    with pytest.raises(LookupError), POD[str, int](path) as pod:
        pod.hold()
        pod["a"] = 1
        raise LookupError
    assert pod.closed
    assert stored(path) == {"a": 1}


def test_a_closed_pod_still_says_what_it_was(pod: POD[Any, Any]) -> None:
    path = pod.path
    pod["a"] = 1
    pod.close()
    assert pod.closed
    assert pod.path == path
    assert str(path) in repr(pod)
    assert "closed" in repr(pod)


def test_a_reader_closes_without_writing(pod: POD[Any, Any], opened: Opener) -> None:
    pod["a"] = 1
    before = files(Path(pod.path))
    with opened(mode="r") as reader:
        assert reader == {"a": 1}
    assert reader.closed
    assert files(Path(pod.path)) == before


def test_opening_and_closing_leaks_no_descriptors(path: Path) -> None:
    POD[Any, Any](path).close()
    before = open_files()
    for _ in range(20):
        with POD[Any, Any](path) as pod, POD[Any, Any](path, mode="r") as reader:
            pod["a"] = 1
            pod.sync()
            reader.refresh()
    assert open_files() == before


def test_a_pod_that_is_dropped_without_close_leaks_no_descriptors(path: Path) -> None:
    POD[Any, Any](path).close()
    before = open_files()
    for number in range(20):
        pod = POD[Any, Any](path)
        pod[str(number)] = number
        del pod
    assert len(open_files()) <= len(before) + 4
    assert len(stored(path)) == 20


# ---------------------------------------------------------------------------------------------- repr, copies, pickles


def test_the_repr_has_the_path_and_the_length(pod: POD[Any, Any]) -> None:
    pod.update(a=1, b=2, c=3)
    assert repr(pod) == f"PersistentOrderedDict({str(pod.path)!r}, 3 entries)"
    assert str(pod) == repr(pod)


def test_a_pickle_holds_the_path_and_no_data(pod: POD[Any, Any]) -> None:
    pod["secret"] = "x" * 10_000
    data = pickle.dumps(pod)
    assert len(data) < 1_000
    assert b"secret" not in data


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_keeps_mode_and_settings(opened: Opener, protocol: int) -> None:
    pod = opened(gzipped=True, shard_bytes=100, durable=True, timeout=5)
    pod["a"] = 1
    reader = opened(mode="r")
    twins: list[POD[Any, Any]] = [pickle.loads(pickle.dumps(each, protocol)) for each in (pod, reader)]
    with twins[0], twins[1]:
        assert [twin.mode for twin in twins] == ["a", "r"]
        assert all(twin == {"a": 1} for twin in twins)
        with pytest.raises(ReadOnlyError):
            twins[1]["b"] = 2


def test_deep_copies_share_nothing_with_the_pod(pod: POD[Any, Any]) -> None:
    pod["a"] = [1]
    deep, shallow = copy.deepcopy(pod), copy.copy(pod)
    deep["a"].append(2)
    assert shallow["a"] is pod["a"] is pod.copy()["a"]
    assert pod["a"] == [1]


# ------------------------------------------------------------------------------------------------------ settings, files


def test_a_shard_is_text_that_people_can_read(pod: POD[Any, Any]) -> None:
    pod["foo"] = "bar"
    pod[1] = [1, 2]
    pod.sync()
    (shard,) = shards(Path(pod.path))
    assert shard.read_text() == '{\n"foo":"bar",\n"#1":[1,2]\n}\n'


def test_gzipped_shards_are_gzip_and_the_setting_is_stored(opened: Opener) -> None:
    with opened(gzipped=True) as pod:
        pod["foo"] = "bar"
    (shard,) = shards(Path(pod.path))
    assert shard.name.endswith(".json.gz")
    assert json.loads(gzip.decompress(shard.read_bytes())) == {"foo": "bar"}
    with opened() as again:
        again["b"] = 1
    assert all(each.suffix == ".gz" for each in shards(Path(pod.path)))
    assert in_shards(Path(pod.path)) == {"foo": "bar", "b": 1}


@pytest.mark.parametrize("gzipped", [False, True])
def test_shards_stay_near_their_size_and_keep_the_order(opened: Opener, *, gzipped: bool) -> None:
    expected = {f"key {number}": "x" * (number % 50) for number in range(500)}
    with opened(shard_bytes=1000, gzipped=gzipped) as pod:
        pod.update(expected)
        pod.sync()
        for key in list(expected)[100:120]:
            pod[key] = expected[key] = "y" * 500  # these shards outgrow their limit
        pod.sync()
        assert pod.stats().shards == len(shards(Path(pod.path))) > 20
    if not gzipped:
        assert max(shard.stat().st_size for shard in shards(Path(pod.path))) < 3000
    assert exactly(stored(pod.path)) == exactly(expected)


def test_a_small_change_rewrites_one_shard_only(opened: Opener) -> None:
    pod = opened(shard_bytes=1000)
    pod.update({f"key {number}": "x" * 20 for number in range(500)})
    pod.sync()
    before = set(shards(Path(pod.path)))
    pod["key 250"] = "y"
    pod.sync()
    assert len(set(shards(Path(pod.path))) - before) == 1


def test_new_files_take_the_permissions_of_the_directory(opened: Opener, path: Path) -> None:
    """A group's POD stays the group's, whatever one member's umask is."""
    path.mkdir()
    path.chmod(0o770)
    mask = os.umask(0o077)
    try:
        pod = opened()
        pod["a"] = 1
        pod.sync()
        pod["b"] = 1
    finally:
        os.umask(mask)
    assert {entry.name: oct(stat.S_IMODE(entry.stat().st_mode)) for entry in path.iterdir()} == {
        entry.name: oct(0o660) for entry in path.iterdir()
    }


def test_folds_leave_no_litter(pod: POD[Any, Any]) -> None:
    """The lock, a journal, the one before, and the shards."""
    for number in range(20):
        pod["a"] = number
        pod.sync()
    names = sorted(entry.name for entry in Path(pod.path).iterdir())
    assert len(names) == 4, names


# ------------------------------------------------------------------------------------------------------------- stats


def test_stats_say_what_the_directory_holds(pod: POD[Any, Any]) -> None:
    pod.update(a=1, b=2)
    before = pod.stats()
    assert isinstance(before, Stats)
    assert before.entries == 2
    assert before.shards == 0
    assert before.journal_bytes == journal(Path(pod.path)).stat().st_size
    pod.sync()
    after = pod.stats()
    assert after.entries == 2
    assert after.shards == 1
    assert after.bytes == sum(shard.stat().st_size for shard in shards(Path(pod.path)))
    assert after.epoch > before.epoch
    assert journal(Path(pod.path)).name == f"journal-{after.epoch}.jsonl"


# --------------------------------------------------------------------------------------------------------- check, repair


@pytest.mark.parametrize("mode", ["a", "r"])
def test_check_finds_nothing_in_a_sound_directory(pod: POD[Any, Any], opened: Opener, mode: str) -> None:
    pod.update({str(number): number for number in range(100)})
    pod.sync()
    pod["more"] = 1
    assert opened(mode=mode).check() == []


def test_check_names_a_damaged_shard_under_an_open_pod(pod: POD[Any, Any]) -> None:
    pod["a"] = "valuable"
    pod.sync()
    (shard,) = shards(Path(pod.path))
    shard.write_bytes(shard.read_bytes().replace(b"valuable", b"damaged!"))
    problems = pod.check()
    assert any(shard.name in problem for problem in problems), problems


def test_repair_of_a_sound_pod_does_nothing(pod: POD[Any, Any]) -> None:
    pod["a"] = 1
    before = files(Path(pod.path))
    assert pod.repair() == []
    assert files(Path(pod.path)) == before


def test_repair_under_an_open_pod_writes_again_what_memory_or_disk_still_have(opened: Opener) -> None:
    """One damaged shard is set aside; the entries of the others stay."""
    pod = opened(shard_bytes=64)
    pod.update({f"key {number}": "x" * 30 for number in range(10)})
    pod.sync()
    damaged = shards(Path(pod.path))[3]
    lost = set(json.loads(damaged.read_bytes()))
    damaged.write_bytes(b"\0" * damaged.stat().st_size)
    with pytest.raises(PersistentOrderedDictIntegrityError, match=damaged.name):
        stored(pod.path)
    done = pod.repair()
    assert any(damaged.name in line for line in done), done
    assert set(stored(pod.path)) >= {f"key {number}" for number in range(10)} - lost
    aside = [entry for entry in Path(pod.path).iterdir() if entry.name.startswith("aside-")]
    assert len(aside) == 1
    problems = pod.check()
    assert len(problems) == 1
    assert aside[0].name in problems[0]
    aside[0].unlink()
    assert pod.check() == []


def test_what_was_set_aside_is_reported_until_somebody_deletes_it(pod: POD[Any, Any]) -> None:
    note = Path(pod.path) / "aside-01234567-journal-1.jsonl"
    append(note, b"something")
    assert [problem for problem in pod.check() if note.name in problem]
    pod["a"] = 1
    pod.sync()
    assert note.exists()
    note.unlink()
    assert pod.check() == []


# ------------------------------------------------------------------------------------------------------------- errors


ALL_ERRORS = sorted(
    (
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, TastypyError)
    ),
    key=lambda each: each.__name__,
)  # fmt: skip


@pytest.mark.parametrize("kind", ALL_ERRORS)
def test_every_error_survives_pickling_and_derives_from_a_builtin(kind: type[TastypyError]) -> None:
    """So that it reaches the parent of a worker whole."""
    error = kind("what happened, and what to do", "/some/my.pod")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) == "what happened, and what to do"
    assert again.path == error.path == "/some/my.pod"
    if kind is not TastypyError:
        builtins = (ValueError, OSError, KeyError, TypeError, RuntimeError, ImportError)
        assert issubclass(kind, builtins)


def test_errors_derive_from_what_callers_already_catch() -> None:
    assert issubclass(DuplicateKeyError, KeyError)
    assert issubclass(PersistentOrderedDictIntegrityError, ValueError)
    assert issubclass(ClosedPODError, ValueError)
    assert issubclass(LockTimeout, TimeoutError)
    assert issubclass(ReadOnlyError, TypeError)
    assert issubclass(CommitError, OSError)
