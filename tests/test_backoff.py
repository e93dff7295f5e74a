"""How long whoever finds the lock taken pauses: within bounds, longer where waiting takes longer, never for ever, and fair to all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from stress.crowd.processes import waits_of
from stress.crowd.simulation import Figures, Load, Place, simulate
from tastypy.backoff import CROWDED, LONGEST, LONGEST_LOCALLY, Backoff

SECONDS = [0.0, 0.00001, 0.001, 0.02, 0.5, 10.0, 300.0]


def backoff(usual: float = 0.0, cost: float = 0.00001, *, jitter: float = 1.0, local: bool = False) -> Backoff:
    """One that knows this, without chance."""
    one = Backoff(local=local, uniform=lambda low, high: low + (high - low) * jitter)
    one.usual, one.cost = usual, cost
    return one


@pytest.mark.parametrize("usual", SECONDS)
@pytest.mark.parametrize("cost", SECONDS)
def test_a_pause_is_never_nothing_and_never_long(usual: float, cost: float) -> None:
    for local, longest in ((True, LONGEST_LOCALLY), (False, LONGEST)):
        ones = [backoff(usual, cost, jitter=jitter, local=local) for jitter in (0.0, 1.0)]
        pauses = [one.pause(waited) for waited in SECONDS for one in ones]
        assert 0.00002 < min(pauses) <= max(pauses) <= longest


def test_pauses_are_shorter_on_a_local_disk_where_they_take_nothing_from_a_server() -> None:
    assert backoff(10.0, 0.1, local=True).pause(0.0) < 0.05 < backoff(10.0, 0.1).pause(0.0)
    assert backoff(0.01, local=True).pause(0.0) == backoff(0.01).pause(0.0)


def test_pauses_are_of_random_length_against_lockstep() -> None:
    one = Backoff(local=False, uniform=random.Random(1).uniform)
    one.usual, one.cost = 1.0, 0.001
    pauses = [one.pause(0.0) for _ in range(100)]
    assert len(set(pauses)) == 100
    assert max(pauses) < 2.1 * min(pauses)
    assert len({Backoff(local=False).pause(1.0) for _ in range(10)}) == 10, "nor is it the same for each process"


@pytest.mark.parametrize("cost", [0.00001, 0.001, 0.1])
def test_the_longer_waiting_takes_the_longer_are_the_pauses_but_less_than_in_proportion(cost: float) -> None:
    """In proportion, whoever waited long by bad luck would try seldom, and so wait long again."""
    usual = [max(cost, 0.0001) * 10**power for power in range(4)]
    pauses = [backoff(each, cost).pause(0.0) for each in usual]
    for shorter, longer in pairwise(pauses):
        assert shorter < longer < 8 * shorter or longer == LONGEST


def test_the_more_an_attempt_takes_the_fewer_there_are() -> None:
    """As when a server has too much to do."""
    pauses = [backoff(3.0, cost).pause(0.0) for cost in (0.0001, 0.001, 0.01, 0.1)]
    assert pauses == sorted(set(pauses))
    assert backoff(0.001, 10.0).pause(0.0) <= 0.001, "but one that took very long says nothing of waiting"


def test_whoever_waits_longer_than_usual_tries_more_often_than_the_others() -> None:
    one = backoff(1.0, 0.001)
    pauses = [one.pause(waited) for waited in (0.0, 2.0, 4.0, 8.0, 16.0)]
    assert pauses == sorted(pauses, reverse=True)
    assert pauses[-1] < pauses[0] / 4


def test_whoever_waits_much_longer_than_usual_tries_less_often_since_more_are_waiting() -> None:
    one = backoff(0.001, 0.0001)
    pauses = [one.pause(waited) for waited in (0.1, 1.0, 10.0, 100.0)]
    assert pauses == sorted(set(pauses))


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("usual", [0.0, 0.01, 1.0])
def test_while_one_keeps_the_lock_waiting_is_no_bad_luck_and_attempts_become_fewer(
    usual: float, *, local: bool
) -> None:
    """Or all who wait would take the processors from the one that they are waiting for, as in a fold."""
    one = backoff(usual, 0.0002, local=local)
    first = one.pause(0.0)
    pauses = [one.pause(2.0 + kept, kept) for kept in (0.0, 0.1, 0.2, 0.4)]
    assert pauses[0] == one.pause(2.0), "before, others had their turns"
    assert pauses == sorted(pauses)
    assert [one.pause(kept, kept) for kept in (0.1, 0.4, 10.0)] == [
        max(first, min(kept / 16, LONGEST_LOCALLY if local else LONGEST)) for kept in (0.1, 0.4, 10.0)
    ]


def attempts_in(seconds: float, one: Backoff, *, turns: bool = True) -> int:
    """Wait for a lock that is free after so many seconds, of others' `turns` or of one; return how many attempts that took."""
    waited, attempts = 0.0, 0
    while True:
        attempts += 1
        waited += one.cost
        if waited >= seconds:
            one.had(waited)
            return attempts
        waited += one.pause(waited, 0.0 if turns else waited)


def test_whoever_waits_for_a_fold_tries_far_less_often_than_for_so_many_turns() -> None:
    def crowded() -> Backoff:
        return backoff(0.012, 0.0002, jitter=0.5, local=True)

    assert attempts_in(0.18, crowded()) > 90
    assert attempts_in(0.18, crowded(), turns=False) < 45


@pytest.mark.parametrize("seconds", [0.002, 0.02, 0.2, 2.0])
@pytest.mark.parametrize("cost", [0.00002, 0.001])
def test_attempts_come_a_few_times_in_what_waiting_took_lately(seconds: float, cost: float) -> None:
    """However many wait, on a local disk and on a network file system."""
    one = backoff(cost=cost)
    first = attempts_in(seconds, one)
    last = [attempts_in(seconds, one) for _ in range(20)][-1]
    assert 2 <= last <= 20
    assert first > 2 * last or seconds <= 20 * cost, "many, where nothing is known"


def test_attempts_are_not_seldom_for_long_after_one_long_wait() -> None:
    one = backoff()
    attempts_in(100.0, one)
    for _ in range(50):
        attempts_in(0.0001, one)
    assert one.pause(0.0) < 0.001


def courtesies(one: Backoff, times: int = 100) -> Iterator[float]:
    """Have the lock so often without waiting, as `DirectoryLock.take` does."""
    for _ in range(times):
        if one.usual > CROWDED and (seconds := one.courtesy()):
            yield seconds


def test_whoever_had_to_wait_long_lets_others_have_the_lock_now_and_then() -> None:
    assert not list(courtesies(backoff()))
    crowded = backoff(1.0, 0.0003)
    given = list(courtesies(crowded))
    assert given == [0.0003] * 20
    assert max(courtesies(backoff(1.0, 100.0))) < 0.01, "not as long as it took to load all anew"
    assert max(courtesies(backoff(1.0, 100.0, local=True))) < 0.001
    assert not list(courtesies(crowded, 1000))[20:], "nobody else is there any more"


def test_a_row_begins_anew_after_a_wait() -> None:
    one = backoff(1.0, 0.001)
    assert [one.courtesy() for _ in range(4)] == [0.0] * 4
    one.had(1.0)
    assert [one.courtesy() for _ in range(5)] == [0.0] * 4 + [0.001]


def test_what_an_attempt_takes_is_that_of_the_first_one_and_follows_those_after() -> None:
    one = Backoff(local=False)
    one.tried(1.0)
    assert one.cost == 1.0
    one.tried(2.0)
    assert 1.0 < one.cost < 1.5


# ----------------------------------------------------------------------------------------------------------- simulated


def test_the_same_seed_gives_the_same_simulation_and_another_one_another() -> None:
    load = Load(4, 0.01, 1)
    one, same, other = (simulate(load, seed, begin=0.0, end=2.0) for seed in (1, 1, 2))
    assert one == same != other


def crowd(workers: int, operations: int = 20_000, task: float = 0.1) -> Figures:
    return simulate(Load(workers, task, 1), 1, begin=10.0, end=30.0, place=Place(operations=operations))


@pytest.mark.parametrize("workers", [2, 8, 64])
def test_of_workers_on_a_network_file_system_none_waits_more_than_fifty_times_the_median(workers: int) -> None:
    found = crowd(workers, task=0.01)
    assert found.waits > 500
    assert found.ratio < 50
    assert found.commits > 200
    assert found.attempts < 5 * found.commits


def test_many_workers_do_not_keep_a_slow_server_from_those_who_have_the_lock() -> None:
    found = crowd(64, operations=4_000)
    assert found.commits > 60
    assert found.operations < 3_800


def test_simulated_workers_work_all_the_time_where_nobody_waits() -> None:
    found = crowd(2, task=10.0)
    assert found.working > 0.95
    assert found.commits == pytest.approx(2 * found.tasks, abs=0.5)


def test_the_median_of_waits_is_in_their_middle_and_the_longest_at_their_end() -> None:
    waits = waits_of([0.004, 0.001, 0.002, 0.1, 0.003])
    assert (waits.number, waits.median, waits.longest) == (5, 0.003, 0.1)
    assert waits.ratio == pytest.approx(100 / 3)
