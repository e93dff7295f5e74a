"""Rows of a large POD: opening it, updating it, what it takes in memory, and folding it. See `pairs` for the rest."""

from __future__ import annotations

import os
import random
import time
import tracemalloc
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from stress.bench.bench import SMALL, Bench, Pair, Sides, entry, key_of
from stress.bench.cells import Cell, LeftOutError, apart, fill
from stress.bench.pairs import assign
from stress.bench.peers import OURS, PEERS, Peer
from tastypy import POD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LARGEST = 1_000_000  # entries that a peer has to be tried with, to be the best of them
_PATIENCE = 300  # seconds after which a peer is given up


def _opening(path: Path) -> float:
    start = time.perf_counter()
    pod = POD[str, Any](path)
    seconds = time.perf_counter() - start
    pod.close()
    return seconds


def _loading(text: bytes) -> float:
    start = time.perf_counter()
    data = orjson.loads(text)
    seconds = time.perf_counter() - start
    del data
    return seconds


@contextmanager
def opening(bench: Bench) -> Iterator[Sides]:
    """Open a POD of small dicts."""
    path = bench.pod(bench.large)
    text = orjson.dumps({key_of(number): entry(number) for number in range(bench.large)})
    yield Sides(lambda: _opening(path), lambda: _loading(text))


def _reading_all(peer: Peer, path: Path) -> float:
    start = time.perf_counter()
    store = peer.open(path)
    found = sum(1 for _ in peer.items(store))
    seconds = time.perf_counter() - start
    peer.close(store)
    if not found:
        raise LeftOutError("wrong: nothing is there")
    return seconds


def _best(bench: Bench) -> Peer:
    """Return the peer that opens and reads all fastest, of a tenth of the entries."""
    best, least = None, float("inf")
    for peer in PEERS:
        if peer.package == OURS or peer.missing() or peer.appends or not peer.lasting or peer.largest < _LARGEST:
            continue
        path = bench.path()
        try:
            apart(fill, Cell(peer, path, 0, bench.large // 10, 0), _PATIENCE)
            seconds = min(_reading_all(peer, path) for _ in range(3))
        except LeftOutError as error:
            print(f"open-all without {peer.name}: {error}", flush=True)
            continue
        if seconds < least:
            best, least = peer, seconds
    if best is None:
        raise LeftOutError("no peer is there that could open as many entries")
    return best


@contextmanager
def opening_all(bench: Bench) -> Iterator[Sides]:
    """Open and read all."""
    best = _best(bench)
    theirs, ours = bench.path(), bench.pod(bench.large)
    apart(fill, Cell(best, theirs, 0, bench.large, 0), _PATIENCE)
    yield Sides(lambda: _reading_all(PEERS[0], ours), lambda: _reading_all(best, theirs), best.name)


@contextmanager
def opening_numbers(bench: Bench) -> Iterator[Sides]:
    """Open a POD of numbers, the worst case: the collector, which opening switches off, has nothing to do in `loads`."""
    path = bench.path()
    numbers = {key_of(number): number for number in range(bench.large)}
    with POD[str, int](path) as pod:
        pod.update(numbers)
        pod.sync()
    text = orjson.dumps(numbers)
    del numbers
    yield Sides(lambda: _opening(path), lambda: _loading(text))


_TURNS = 25  # in which a round's updates are made


@contextmanager
def scaling(bench: Bench) -> Iterator[Sides]:
    """Update random keys of a large POD and of a small one, so many that both fold in each round."""
    folds = 1 if bench.quick else 2  # of the large one, in a round; the small one folds more often

    def update(pod: POD[str, Any], entries: int, chooser: random.Random, updates: int) -> float:
        return assign(pod, [(key_of(chooser.randrange(entries)), entry(number)) for number in range(updates)])

    with POD[str, Any](bench.pod(bench.large)) as large, POD[str, Any](bench.pod(SMALL)) as small:
        chooser, step = random.Random(bench.large), 500
        epoch, period = large.stats().epoch, 0
        while large.stats().epoch == epoch:
            update(large, bench.large, chooser, step)
            period += step
        updates = folds * (period + step) // _TURNS
        epochs = large.stats().epoch, small.stats().epoch
        yield Sides(
            lambda: update(large, bench.large, chooser, updates), lambda: update(small, SMALL, chooser, updates)
        )
        if large.stats().epoch - epochs[0] < folds or small.stats().epoch - epochs[1] < folds:
            message = f"fewer than {folds} folds: this row measured too little"
            raise RuntimeError(message)


def _kept(make: Callable[[], Any]) -> float:
    """Return the bytes, a key, of what `make` returns."""
    tracemalloc.start()
    try:
        kept = make()
        return tracemalloc.get_traced_memory()[0] / len(kept)
    finally:
        tracemalloc.stop()


@contextmanager
def memory(bench: Bench) -> Iterator[Sides]:
    """Hold an open POD in memory."""
    path = bench.pod(bench.large)
    text = orjson.dumps({key_of(number): entry(number) for number in range(bench.large)})
    yield Sides(lambda: _kept(lambda: POD[str, Any](path)), lambda: _kept(lambda: orjson.loads(text)))


@contextmanager
def folding(bench: Bench) -> Iterator[Sides]:
    """Fold a large POD, all of whose shards have changed keys; write and fsync as many bytes."""
    with POD[str, Any](bench.pod(bench.large)) as pod:
        chooser = random.Random(bench.large)

        def ours() -> float:
            pod.update({key_of(chooser.randrange(bench.large)): entry(number) for number in range(5000)})
            start = time.perf_counter()
            pod.sync()
            return time.perf_counter() - start

        def theirs() -> float:
            text = b"x" * pod.stats().bytes
            start = time.perf_counter()
            descriptor = os.open(bench.path(), os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, text)
            os.fsync(descriptor)
            os.close(descriptor)
            return time.perf_counter() - start

        yield Sides(ours, theirs)


# The bounds are those of the issues that asked for them.
LARGE_PAIRS = (
    Pair("open", "opening {large} entries", "orjson.loads", opening, 0.9, chunks=3, combine=min, warm=False, most=5),
    Pair("open-all", "opening and reading {large}", "best peer", opening_all, 0.25, warm=False, most=5),
    Pair(
        "scale",
        "update of one of {large}",
        f"of {SMALL:,} keys",
        scaling,
        1.3,
        chunks=_TURNS,
        warm=False,
        most=5,
        quick_rounds=1,
    ),
    Pair("memory", "key in memory, of {large}", "dict", memory, 1.15, unit="B", warm=False, most=1, quick_rounds=1),
    Pair("open-numbers", "opening {large} numbers", "orjson.loads", opening_numbers, most=5, quick_rounds=1),
    Pair("fold", "fold of {large} entries", "write and fsync", folding, warm=False, most=5, quick_rounds=1),
)
