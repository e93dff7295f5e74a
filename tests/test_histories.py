"""The checker of histories: what is linearizable is accepted, and what is not is rejected."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stress.histories.__main__ import judged
from stress.histories.claiming import Tasks, step
from stress.histories.linear import Call, Verdict, frozen, search, table
from stress.histories.plain import LOOKS, OWN, Plain, Shared, perform


def call(
    lane: int, name: str, arguments: Sequence[Any], result: Any, start: int, end: int, *, pending: bool = False
) -> Call:
    """A call of the object that has the number of its lane."""
    return Call(lane, lane, name, frozen(arguments), frozen(result), start, end, pending)


def decide(*calls: Call, entries: Sequence[tuple[str, Any]] = ()) -> bool | None:
    model = Shared(calls)
    return search(calls, model.state(tuple(entries)), model.step, OWN).linearizable


def test_calls_that_overlap_may_take_effect_in_either_order() -> None:
    """A pop that began after an assignment began, and ended before it ended, may find it or not."""
    for found in (None, 1):
        assert decide(call(1, "set", ["a", 1], None, 0, 10), call(2, "pop", ["a", None], found, 2, 5))


def test_what_ended_before_another_call_began_comes_before_it() -> None:
    """A pop misses what was assigned before it began."""
    calls = [call(1, "set", ["a", 1], None, 0, 1), call(2, "pop", ["a", None], None, 2, 5)]
    assert decide(*calls) is False


def test_no_two_processes_get_the_same_item() -> None:
    """`popitem` gives an item once."""
    first, second = (call(lane, "popitem", [True], ["a", 1], 0, 10) for lane in (1, 2))
    assert decide(first, second, entries=[("a", 1)]) is False
    assert decide(first, second._replace(result="KeyError"), entries=[("a", 1)])


def test_a_lost_increment_is_found() -> None:
    """Two increments of nothing return 1 and 2, not 1 twice."""
    first = call(1, "incr", ["a", 1], 1, 0, 10)
    assert decide(first, call(2, "incr", ["a", 1], 1, 5, 15)) is False
    assert decide(first, call(2, "incr", ["a", 1], 2, 5, 15))


def test_the_order_of_keys_counts() -> None:
    """`popitem` takes the last key, which is the one that was set last, not the one that was changed last."""
    calls = [call(1, "update", [[["a", 1], ["b", 2]]], None, 0, 1), call(1, "set", ["a", 3], None, 2, 3)]
    assert decide(*calls, call(2, "popitem", [True], ["b", 2], 4, 5))
    assert decide(*calls, call(2, "popitem", [True], ["a", 3], 4, 5)) is False


def test_a_transaction_is_all_or_nothing() -> None:
    """Nobody sees half of a move; one that was left by an exception, or that raised a KeyError, did nothing."""
    entries = [("a", 10), ("b", 0)]
    move = call(1, "move", ["a", "b", 3], [10, 0], 0, 10)
    look = call(2, "transaction", [["get", ["a"]], ["get", ["b"]]], [7, 3], 2, 5)
    assert decide(move, look, entries=entries)
    assert decide(move, look._replace(result=(7, 0)), entries=entries) is False
    for name, steps, result in (
        ("aborted", [["set", ["a", 0]]], [None]),
        ("transaction", [["set", ["a", 0]], ["delete", ["c"]]], "KeyError"),
    ):
        left = call(1, name, steps, result, 0, 1)
        assert decide(left, call(2, "pop", ["a", None], 10, 2, 3), entries=entries)
        assert decide(left, call(2, "pop", ["a", None], 0, 2, 3), entries=entries) is False


def test_a_killed_call_was_done_or_not_but_not_later() -> None:
    """Whether it was is the same for all who look, and it cannot happen once the process is gone."""
    killed = call(1, "set", ["a", 1], None, 0, 10, pending=True)
    for found in (1, None):
        look = call(2, "pop", ["a", None], found, 20, 21)
        assert decide(killed, look)
    assert decide(killed, look, call(2, "pop", ["a", None], 1, 22, 23)) is False


def test_reads_are_those_of_the_last_refresh() -> None:
    """They may be old, but neither older than that, nor newer without one."""
    change = call(1, "set", ["a", 1], None, 0, 1)
    for moved, found in ((False, None), (True, 1)):
        looks = [call(2, "refresh", [], ["a"], 2, 3)] if moved else []
        assert decide(change, *looks, call(2, "get", ["a"], found, 4, 5))
        assert decide(change, *looks, call(2, "get", ["a"], 1 - (found or 0), 4, 5)) is False


def test_a_commit_moves_the_view_too() -> None:
    """Who has changed something sees what others had changed before."""
    calls = [call(1, "set", ["a", 1], None, 0, 1), call(2, "set", ["b", 2], None, 2, 3)]
    assert decide(*calls, call(2, "items", [], [["a", 1], ["b", 2]], 4, 5))
    assert decide(*calls, call(2, "items", [], [["b", 2]], 4, 5)) is False


def test_reads_never_go_back() -> None:
    """A refresh that overlaps a change may show it or not; once it was shown it stays."""
    change = call(1, "set", ["a", 1], None, 0, 100)
    looks = [call(2, "refresh", [], ["a"], 10, 11), call(2, "refresh", [], [], 30, 31)]
    first, second = call(2, "get", ["a"], 1, 20, 21), call(2, "get", ["a"], None, 40, 41)
    assert decide(change, *looks, first, second._replace(result=1))
    assert decide(change, *looks, first, second) is False


def test_refresh_tells_what_it_brought_in() -> None:
    """A key whose value others changed is missing in what it returned."""
    change = call(1, "set", ["a", 1], None, 0, 1)
    assert decide(change, call(2, "refresh", [], [], 2, 3)) is False
    assert decide(change, call(2, "refresh", [], None, 2, 3))


def test_a_forked_child_begins_with_the_view_of_its_parent() -> None:
    """What its parent had not seen, it has not either."""
    change = call(1, "set", ["a", 1], None, 0, 1)
    fork = Call(20, 20, "fork", (2,), None, 2, 3)
    assert decide(change, fork, call(20, "get", ["a"], None, 4, 5))
    assert decide(change, fork, call(20, "get", ["a"], 1, 4, 5)) is False


def test_a_read_beside_another_thread_of_its_object_is_not_judged() -> None:
    """Only one that no call of the other thread overlaps is; and of a killed look nothing can be told."""
    change = Call(1, 7, "set", ("a", 1), None, 10, 20)
    beside, after = Call(2, 7, "get", ("a",), 1, 15, 16), Call(2, 7, "get", ("a",), 1, 25, 26)
    killed = call(3, "refresh", [], None, 0, 50, pending=True)
    assert judged([change, beside, after, killed]) == [change, after]
    assert decide(change, after)
    assert decide(change, after._replace(result=None)) is False


def test_a_history_is_shown_by_time_with_the_calls_that_nothing_gets_past() -> None:
    """In microseconds from its begin."""
    calls = [call(2, "pop", ["a", None], None, 4000, 5000), call(1, "set", ["a", 1], None, 1000, 2500)]
    model = Shared(calls)
    verdict = search(calls, model.state(()), model.step, OWN)
    assert verdict == Verdict(linearizable=False, states=2, stuck=(calls[0],))
    lines = table(calls, verdict.stuck).splitlines()
    assert lines[1].split() == ["0.0", "1.5", "1", "1", "set('a',", "1)", "->", "None"]
    assert lines[2].startswith(">>")


def test_a_search_ends_undecided_when_it_takes_too_many_states() -> None:
    """It says so instead of going on."""
    calls = [call(lane, "incr", ["a", 1 << lane], None, 0, 10, pending=lane < 9) for lane in range(1, 10)]
    assert search(calls, Shared(calls).state(()), Shared(calls).step, most=100).linearizable is None


ARGUMENTS: dict[str, Sequence[Any]] = {
    "set": ["a", 1],
    "setdefault": ["b", 2],
    "delete": ["a"],
    "pop": ["b", None],
    "popitem": [True],
    "incr": ["c", 1],
    "move": ["a", "c", 1],
    "move_to_end": ["a", False],
    "edit": ["list", 1],
    "transaction": [["get", ["a"]], ["set", ["b", 3]]],
    "refresh": [],
    "get": ["a"],
    "items": [],
}


def history(chance: random.Random, lanes: int, size: int) -> list[Call]:
    """Calls made one after another on a plain dict, and told with begins and ends that overlap those of other lanes."""
    memory, views = Plain(), [Plain() for _ in range(lanes)]
    made: list[list[Call]] = [[] for _ in range(lanes)]
    for moment in range(10, 10 * size + 10, 10):
        lane, name = chance.randrange(lanes), chance.choice([*ARGUMENTS])
        target = views[lane] if name in OWN else memory
        result = None if name in LOOKS else perform(target, name, frozen(ARGUMENTS[name]))
        if name not in OWN:
            views[lane] = Plain(memory)
        made[lane].append(call(lane, name, ARGUMENTS[name], result, moment, moment))
    for calls in made:
        for number in range(1, len(calls)):
            one, other = calls[number - 1 : number + 1]
            between = chance.randrange(one.end, other.start)
            calls[number - 1] = one._replace(end=chance.randint(one.end, between))
            calls[number] = other._replace(start=chance.randint(between + 1, other.start))
    return [one for calls in made for one in calls]


@settings(max_examples=200, deadline=None)
@given(st.integers(), st.integers(1, 5), st.integers(1, 40))
def test_what_was_done_one_after_another_is_accepted_however_it_overlaps(seed: int, lanes: int, size: int) -> None:
    """The order in which it was done is one that explains it."""
    calls = history(random.Random(seed), lanes, size)
    assert decide(*calls)
    assert decide(*(one._replace(pending=True) if one.name == "incr" else one for one in calls))


@settings(max_examples=200, deadline=None)
@given(st.integers(), st.integers(1, 5), st.integers(1, 40))
def test_a_result_that_was_never_there_is_rejected(seed: int, lanes: int, size: int) -> None:
    """Whichever call it is that returned it."""
    chance = random.Random(seed)
    calls = history(chance, lanes, size)
    number = chance.randrange(size)
    if calls[number].name not in LOOKS:
        calls[number] = calls[number]._replace(result="never there")
        assert decide(*calls) is False


# --- tasks


def claims(*calls: Call, open: Sequence[str] = ("a",)) -> bool | None:  # noqa: A002 - as in `Tasks`
    return search(calls, Tasks(frozenset(open)), step, ("rest",)).linearizable


def test_a_task_is_held_by_one_process_at_a_time() -> None:
    """The second one gets it only if the first may have given it back by then."""
    first, second = call(1, "claim", [], "a", 0, 1), call(2, "claim", [], "a", 2, 5)
    assert claims(first, second) is False
    assert claims(first, call(1, "release", ["a"], None, 3, 9), second)
    assert claims(first, call(1, "release", ["a"], None, 6, 9), second) is False
    assert claims(first, call(1, "done", ["a"], None, 3, 9), second) is False


def test_a_claim_of_nothing_had_a_moment_without_a_task() -> None:
    """Another one may have had it then."""
    nothing = call(2, "claim", [], None, 2, 5)
    assert claims(nothing) is False
    assert claims(call(1, "claim", [], "a", 0, 1), nothing)
    assert claims(call(1, "claim", [], "a", 0, 1), call(1, "release", ["a"], None, 1, 1), nothing) is False
    assert claims(call(1, "add", ["b"], True, 0, 1), nothing, open=()) is False


def test_the_tasks_of_the_dead_can_be_claimed_by_others() -> None:
    """From their death on, and not before; whether a claim in which one died was made cannot be told."""
    first, death = call(1, "claim", [], "a", 0, 1), Call(-1, 1, "die", (), None, 4, 6)
    assert claims(first, death, call(2, "claim", [], "a", 2, 5))
    assert claims(first, death, call(2, "claim", [], "a", 2, 3)) is False
    assert claims(first, death, call(2, "claim", [], None, 7, 8)) is False
    killed = call(1, "claim", [], None, 0, 6, pending=True)
    for found in ("a", None):
        assert claims(killed, death, call(2, "claim", [], found, 2, 3))


def test_where_the_claims_of_the_dead_last_a_claim_of_nothing_after_a_death_is_not_judged() -> None:
    """On other hosts they last until their leases have run out, which may be in a later piece."""
    death, nothing = Call(-1, 1, "die", (), None, 1, 2), call(2, "claim", [], None, 3, 4)
    begin = Tasks(frozenset("a"), lasting=True)
    assert not search([nothing], begin, step, ("rest",)).linearizable
    assert search([death, nothing], begin, step, ("rest",)).linearizable
    later = begin._replace(dead=frozenset({1})).found([("a", False), ("b", True)])
    assert (later.open, later.done) == (frozenset("a"), frozenset("b"))
    assert search([nothing], later, step, ("rest",)).linearizable


def test_what_is_there_at_rest_is_what_was_done() -> None:
    """Tasks that were added, and whether they are done."""
    calls = [call(1, "claim", [], "a", 0, 1), call(1, "done", ["a"], None, 2, 3), call(2, "add", ["b"], True, 0, 3)]
    assert claims(*calls, call(1, "rest", [], [["a", True], ["b", False]], 5, 6))
    assert claims(*calls, call(1, "rest", [], [["a", False], ["b", False]], 5, 6)) is False
