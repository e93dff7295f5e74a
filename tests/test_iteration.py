"""Iteration over a POD that grows or shrinks meanwhile: over the keys at its start, then those added, without those deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from helpers import Opener, stored

from tastypy import POD

Walk = Callable[[POD[Any, Any]], Iterable[Any]]

WALKS: dict[str, Walk] = {
    "the POD": lambda pod: pod,
    "keys()": lambda pod: pod.keys(),
    "values()": lambda pod: (value["key"] for value in pod.values()),
    "items()": lambda pod: (key for key, _ in pod.items()),
}


def task(key: str) -> dict[str, str]:
    return {"key": key}


@pytest.fixture(params=list(WALKS))
def walk(request: pytest.FixtureRequest) -> Walk:
    """One way to go over all entries, giving their keys."""
    return WALKS[request.param]


@pytest.fixture
def letters(pod: POD[Any, Any]) -> POD[Any, Any]:
    """Five entries."""
    pod.update({key: task(key) for key in "abcde"})
    return pod


def test_a_crawler_reaches_every_page_that_its_pages_add(pod: POD[Any, Any], walk: Walk) -> None:
    """A page adds its links while the loop runs; each is visited once, in the order of discovery."""
    links = {"0": ["1", "2"], "1": ["3", "0"], "2": ["1", "4"], "3": [], "4": ["5", "0"], "5": ["2"]}
    pod["0"] = task("0")
    visited = []
    for page in walk(pod):
        visited.append(page)
        for link in links[page]:
            pod.setdefault(link, task(link))
    assert visited == ["0", "1", "2", "3", "4", "5"]
    assert list(stored(pod.path)) == visited


def test_a_long_crawl_ends(pod: POD[Any, Any], walk: Walk) -> None:
    pod["0"] = task("0")
    pod.hold()
    visited = 0
    for page in walk(pod):
        visited += 1
        for child in (2 * int(page) + 1, 2 * int(page) + 2):
            if child < 2000:
                pod.setdefault(str(child), task(str(child)))
    assert visited == 2000


def test_keys_deleted_before_their_turn_are_skipped(letters: POD[Any, Any], walk: Walk) -> None:
    seen = []
    for key in walk(letters):
        seen.append(key)
        if key == "a":
            del letters["b"]
            letters.pop("d")
    assert seen == ["a", "c", "e"]


def test_the_entry_in_hand_may_be_deleted(letters: POD[Any, Any], walk: Walk) -> None:
    for key in walk(letters):
        del letters[key]
    assert stored(letters.path) == {}


def test_clearing_ends_the_iteration_and_later_keys_are_still_met(letters: POD[Any, Any], walk: Walk) -> None:
    seen = []
    for key in walk(letters):
        seen.append(key)
        if key == "b":
            letters.clear()
            letters["z"] = task("z")
    assert seen == ["a", "b", "z"]


def test_a_key_that_was_updated_meanwhile_comes_once(letters: POD[Any, Any], walk: Walk) -> None:
    seen = []
    for key in walk(letters):
        seen.append(key)
        letters["e"] = task("e")
        letters["a"] = task("a")
    assert seen == list("abcde")


def test_moving_keys_to_the_end_does_not_go_on_for_ever(letters: POD[Any, Any], walk: Walk) -> None:
    """Every key there at the start is met once, though each is moved while it is in hand."""
    seen = []
    for key in walk(letters):
        seen.append(key)
        letters.move_to_end(key)
    assert seen[:5] == list("abcde")
    assert len(seen) == 5


def test_an_iteration_meets_what_other_processes_added_and_skips_what_they_deleted(opened: Opener, walk: Walk) -> None:
    one, two = opened(), opened()
    one.update({key: task(key) for key in "abc"})
    seen = []
    for key in walk(one):
        seen.append(key)
        if key == "a":
            two.update({"d": task("d")})
            del two["b"]
            one.refresh()
    assert seen == ["a", "c", "d"]


def test_an_iteration_survives_a_fold_and_a_reload(opened: Opener, walk: Walk) -> None:
    one, two = opened(), opened()
    one.update({key: task(key) for key in "abc"})
    seen = []
    for key in walk(one):
        seen.append(key)
        for number in range(3):
            two[f"{key}{number}"] = task(f"{key}{number}")
            two.sync()
            if len(two) > 20:
                break
        one.sync()
        if len(seen) > 20:
            break
    assert seen[:6] == ["a", "b", "c", "a0", "a1", "a2"]
    assert len(set(seen)) == len(seen)


def test_values_and_items_give_the_value_of_the_moment(letters: POD[Any, Any]) -> None:
    seen = []
    for key, value in letters.items():
        seen.append(value)
        if key == "a":
            letters["c"] = "new"
    assert seen[2] == "new"


def test_reversed_is_safe_as_well(letters: POD[Any, Any]) -> None:
    seen = []
    for key in reversed(letters):
        seen.append(key)
        letters.pop("b", None)
        letters[f"{key}{key}"] = task(key)
    assert [key for key in seen if len(key) == 1] == list("edca")


def test_an_iterator_that_is_exhausted_stays_so(letters: POD[Any, Any]) -> None:
    iterator = iter(letters)
    assert list(iterator) == list("abcde")
    letters["f"] = task("f")
    assert list(iterator) == []


def test_two_iterations_at_once_do_not_disturb_each_other(letters: POD[Any, Any]) -> None:
    pairs = [(one, two) for one in letters for two in letters]
    assert pairs == [(one, two) for one in "abcde" for two in "abcde"]


def test_emptying_from_the_front_is_linear_in_all(opened: Opener, tmp_path: Path) -> None:
    """Eight times the entries take about eight times as long, and not sixty-four."""

    def empty(entries: int) -> float:
        pod = opened(tmp_path / f"{entries}.pod")
        pod.update(dict.fromkeys(range(entries), 0))
        pod.hold()
        began = time.perf_counter()
        taken = [pod.popitem(last=False)[0] for _ in range(entries)]
        took = time.perf_counter() - began
        assert taken == list(range(entries))
        assert not pod
        return took

    few = min(empty(4_000), empty(4_001))
    assert empty(32_000) < 24 * few


def test_emptying_from_the_front_commits_each_removal(pod: POD[Any, Any]) -> None:
    pod.update({key: task(key) for key in map(str, range(300))})
    for number in range(299):
        assert pod.popitem(last=False) == (str(number), task(str(number)))
    assert stored(pod.path) == {"299": task("299")}
