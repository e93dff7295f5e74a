"""A fold that is done in steps, in the commits of one process, while others append to the journal."""

from __future__ import annotations

import gc
import logging
import os
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fold_helpers import LIMIT, begin, fill, go_on
from helpers import Opener, exactly, files, header_of, journal, open_files, stored

from tastypy import POD, PersistentOrderedDictIntegrityError, check, folding, store
from tastypy import files as tastypy_files

pytestmark = pytest.mark.usefixtures("small_folds")


def test_no_commit_does_more_than_a_step(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = opened(shard_bytes=200)
    fill(pod)
    written: list[str] = []
    write_new = tastypy_files.write_new

    def noted(path: str, data: bytes, permissions: int) -> None:
        written.append(path)
        write_new(path, data, permissions)

    monkeypatch.setattr(tastypy_files, "write_new", noted)
    epoch = header_of(pod.path).epoch
    before = 0
    most = 0
    for number in range(1000):
        pod[f"key {number % 60}"] = number
        most = max(most, len(written) - before)
        before = len(written)
        if header_of(pod.path).epoch != epoch:
            break
    assert len(written) > 3
    assert most == 1


def test_a_fold_of_another_one_replaces_it(opened: Opener) -> None:
    pod, other = opened(shard_bytes=200), opened()
    fill(pod)
    epoch = begin(pod)
    pod["last"] = 1
    other.sync()
    assert header_of(pod.path).epoch > epoch
    pod["after"] = 2
    assert pod._store.under_way is None
    other.refresh()
    assert exactly(pod) == exactly(other) == exactly(stored(pod.path))
    pod.sync()
    header = header_of(pod.path)
    names = {f"{shard.number:04d}-{shard.epoch}.json" for shard in header.shards}
    assert files(Path(pod.path)).keys() == names | {
        ".lock",
        f"journal-{header.before}.jsonl",
        f"journal-{header.epoch}.jsonl",
    }


def test_old_files_are_removed_a_few_in_each_of_the_next_commits(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "_FILES", 3)
    pod = opened(shard_bytes=100)
    fill(pod)
    epoch = begin(pod)
    go_on(pod, epoch)
    header = header_of(pod.path)
    wanted = {f"{shard.number:04d}-{shard.epoch}.json" for shard in header.shards}
    wanted |= {".lock", f"journal-{header.before}.jsonl", f"journal-{header.epoch}.jsonl"}
    numbers = [len(files(Path(pod.path)).keys() - wanted)]
    while numbers[-1]:
        pod["more"] = len(numbers)
        numbers.append(len(files(Path(pod.path)).keys() - wanted))
        assert 0 < numbers[-2] - numbers[-1] <= 3
    assert len(numbers) > 2
    assert files(Path(pod.path)).keys() == wanted


@pytest.mark.parametrize("how", ["sync", "close"])
def test_a_sync_or_a_close_drops_it(opened: Opener, how: str) -> None:
    pod, other = opened(shard_bytes=200), opened(mode="r")
    fill(pod)
    epoch = begin(pod)
    getattr(pod, how)()
    other.refresh()
    assert exactly(other) == exactly(stored(pod.path))
    with POD[Any, Any](pod.path) as again:
        again.sync()
        assert len([name for name in files(Path(pod.path)) if name.startswith("journal-")]) == 2
        assert header_of(pod.path).epoch > epoch


def test_another_one_takes_over_where_nothing_comes_of_it(opened: Opener) -> None:
    pod, other = opened(shard_bytes=200), opened()
    fill(pod)
    epoch = begin(pod)
    assert go_on(other, epoch) > 1
    pod.refresh()
    assert exactly(pod) == exactly(other) == exactly(stored(pod.path))
    pod["and so on"] = 1
    assert pod._store.under_way is None


def test_a_forked_child_leaves_its_parent_s_alone(opened: Opener) -> None:
    pod = opened(shard_bytes=200)
    fill(pod)
    epoch = begin(pod)
    before = files(Path(pod.path))
    child = os.fork()
    if not child:
        try:
            pod["child"] = 1
            pod.refresh()
            os._exit(0 if pod._store.under_way is None else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert files(Path(pod.path)).keys() >= before.keys()
    go_on(pod, epoch)
    assert pod["child"] == 1
    assert exactly(pod) == exactly(stored(pod.path))
    assert check(pod.path) == []


def test_one_that_fails_leaves_everything_and_is_tried_again(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pod = opened(shard_bytes=200)
    fill(pod)
    epoch = begin(pod)
    full = OSError(28, "No space left on device")

    def fail(*_: object) -> None:
        raise full

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(tastypy_files, "write_new", fail)
        for number in range(200):
            pod["more"] = number
            if pod._store.under_way is None:
                break
    assert "folding failed and is tried again later" in caplog.text
    assert exactly(pod) == exactly(stored(pod.path))
    for number in range(2000):
        pod["more"] = number
        if header_of(pod.path).epoch != epoch:
            break
    assert header_of(pod.path).epoch == epoch + 1
    assert exactly(pod) == exactly(stored(pod.path))
    assert check(pod.path) == []


def test_damage_in_the_old_journal_is_found_before_it_is_gone(opened: Opener) -> None:
    pod = opened(shard_bytes=200)
    fill(pod)
    begin(pod)
    path = Path(pod.path) / f"journal-{header_of(pod.path).epoch}.jsonl"
    data = path.read_bytes()
    at = data.index(b'"put":{"key 20"')
    path.write_bytes(data[:at] + b'"qut"' + data[at + 5 :])
    for number in range(100):
        pod["more"] = number
    assert pod._store.header.epoch == header_of(pod.path).epoch
    with pytest.raises(PersistentOrderedDictIntegrityError, match="damaged, though it was read before"):
        pod.sync()


def operation(chance: random.Random) -> Callable[[Any], object]:
    """Return a random change of a POD, or of an OrderedDict."""
    key, number = f"key {chance.randrange(80)}", chance.randrange(1000)
    changes: list[Callable[[Any], object]] = [
        lambda mapping: mapping.__setitem__(key, number),
        lambda mapping: mapping.pop(key, None),
        lambda mapping: mapping.update({key: number, f"{key}'": "y" * 40}),
        lambda mapping: key in mapping and mapping.move_to_end(key),
        lambda mapping: key in mapping and mapping.move_to_end(key, last=False),
    ]
    return chance.choice(changes)


@pytest.mark.parametrize("seed", range(12))
def test_random_changes_by_several_are_what_a_dict_would_have(opened: Opener, seed: int) -> None:
    chance = random.Random(seed)
    pods = [opened(shard_bytes=chance.choice([100, 400, 3000])), opened(), opened()]
    reader = opened(mode="r")
    fill(pods[0])
    expected = OrderedDict(pods[0])
    epoch, folds, later = header_of(pods[0].path).epoch, 0, 0
    for _ in range(900):
        pod = chance.choice(pods if chance.random() < 0.5 else pods[:1])
        pod.refresh()
        change = operation(chance)
        change(expected)
        change(pod)
        if (now := header_of(pod.path)).epoch != epoch:
            epoch = now.epoch
            folds += 1
            later += pod._store.seq > now.seq
        if chance.random() < 0.1:
            other = chance.choice([*pods, reader])
            other.refresh()
            assert list(other.items()) == list(expected.items()) == list(stored(pod.path).items())
    assert folds > 5
    assert later > 3
    assert check(pods[0].path) == []


def test_a_sync_lets_others_commit_between_its_steps(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was there when it was called is in the shards afterwards, and what came meanwhile in the journal."""
    pod, other = opened(shard_bytes=200), opened()
    fill(pod)
    pod.update({f"key {number}": number for number in range(10)})
    steps: list[int] = []
    fold_up_to = folding.fold_up_to

    def watched(one: store.Store, seq: int) -> bool:
        done = fold_up_to(one, seq)
        steps.append(one.position.seq if one.position else 0)
        return done

    def write() -> None:
        while len(steps) < 5:
            time.sleep(0.001)
        other["meanwhile"] = 1

    monkeypatch.setattr(folding, "fold_up_to", watched)
    before = pod._store.seq
    thread = threading.Thread(target=write)
    thread.start()
    pod.hold()
    pod["held"] = 1
    pod.sync()
    thread.join()
    assert len(steps) > 5
    header = header_of(pod.path)
    assert header.seq >= before + 1
    pod.refresh()
    assert exactly(stored(pod.path)) == exactly(pod)
    assert pod["meanwhile"] == 1
    assert pod["held"] == 1
    pod.sync()
    assert [name for name in files(Path(pod.path)) if name.startswith("journal-")] == [
        f"journal-{header_of(pod.path).before}.jsonl",
        f"journal-{header_of(pod.path).epoch}.jsonl",
    ]


@pytest.mark.parametrize("way", ["whole", "in steps", "dropped", "overtaken"])
def test_descriptors_go_when_a_pod_is_closed_and_not_with_the_collector(
    path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A fold and its steps know each other."""
    if way == "whole":
        monkeypatch.setattr(folding, "_AT_ONCE", 1 << 20)
    gc.disable()
    try:
        before = open_files()
        with POD[Any, Any](path, shard_bytes=200) as pod:
            fill(pod)
            if way != "whole":
                epoch = begin(pod)
            if way == "in steps":
                go_on(pod, epoch)
            if way == "overtaken":
                with POD[Any, Any](path) as other:
                    other.sync()
                del other
                pod.refresh()
        del pod
        assert len(os.listdir("/proc/self/fd")) == len(before) + 1  # and the one by which they are listed
    finally:
        gc.enable()


def test_who_closes_after_a_few_large_batches_folds_them_and_lets_others_commit_meanwhile(
    opened: Opener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the next commit of anybody would have to wait for all of it."""
    monkeypatch.setattr("tastypy.memory._CHEAP", 0)
    loader = opened(shard_bytes=300)
    fill(loader)
    epoch, batch = loader.stats().epoch, 0
    while loader.stats().epoch == epoch:
        loader.update({f"more {batch} {number}": "y" * 40 for number in range(50)})
        batch += 1
    assert loader.stats().journal_bytes > 3 * LIMIT, "what came since the fold began, one step a batch"
    expected = loader.copy()
    lock, steps = loader._store.lock, [0]
    fold_up_to = folding.fold_up_to

    def step(one: store.Store, seq: int) -> bool:
        steps.append(lock.busy)
        return fold_up_to(one, seq)

    monkeypatch.setattr(folding, "fold_up_to", step)
    loader.close()
    assert len(steps) > 10, "each with the lock, which is free in between"
    assert journal(path).read_bytes().count(b"\n") == 1, "the header"
    assert stored(path) == expected
