"""Let processes make random calls on a few shared keys, and decide that each history of calls and results can be right.

It is right if each call can be given one moment between its begin and its end so that, done in that order one at a time on a
plain dict, all return what they did; and if each object's reads return what the dict was at that object's last commit,
refresh or opening. `plain` says what exactly that means, and what is not judged, `linear` how it is decided. Some processes
are killed in a call, which then may have been done or not. The same for tasks: see `claiming`.

What is called follows from the seed; when, and in which order, does not.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from stress.command import Trial, WrongError, command
from stress.histories.claiming import START, Claimer, Tasks, death, step
from stress.histories.linear import Call, Step, search, table
from stress.histories.pieces import Crew, Player, longest, recorded
from stress.histories.plain import LOOKS, OWN, Shared
from stress.histories.sharing import Plan, Sharer
from stress.steps import perhaps_in_steps
from tastypy import Tracker

_PIECES = 20  # of a round


def decide(calls: Sequence[Call], state: Hashable, step: Step, own: Collection[str], figures: Counter[str]) -> None:
    """Raise unless the calls are linearizable; count what that took."""
    start = time.perf_counter()
    verdict = search(calls, state, step, own)
    figures.update(histories=1, calls=len(calls), states=verdict.states, undecided=verdict.linearizable is None)
    figures["overlapping"] += overlapping(calls)
    figures["killed in a call"] += sum(call.pending for call in calls)
    longest(figures, "states at most", verdict.states)
    longest(figures, "ms at most", round((time.perf_counter() - start) * 1000))
    if verdict.linearizable is False:
        message = (
            f"no order of these {len(calls)} calls explains what they returned (times in microseconds; "
            f">> are the calls that no order gets past), from {state}\n{table(calls, verdict.stuck)}"
        )
        raise WrongError(message)


def overlapping(calls: Sequence[Call]) -> int:
    """Return how many calls began before an earlier one had ended."""
    found = end = 0
    for call in sorted(calls, key=lambda call: call.start):
        found += call.start <= end
        end = max(end, call.end)
    return found


def judged(calls: Sequence[Call]) -> list[Call]:
    """Return the calls that can be judged: without reads that overlap another thread's call on the same object."""
    others: dict[int, list[Call]] = {}
    for call in calls:
        others.setdefault(call.subject, []).append(call)
    shared = {subject for subject, made in others.items() if len({call.lane for call in made}) > 1}
    found = []
    for call in calls:
        if call.pending and call.name in OWN | LOOKS:
            continue
        if call.subject in shared:
            if call.name in OWN and any(
                other.lane != call.lane and other.start <= call.end and call.start <= other.end
                for other in others[call.subject]
            ):
                continue
            if call.name == "refresh":  # which of them brought a key in cannot be told
                found.append(call._replace(result=None))
                continue
        found.append(call)
    return found


def _timeout(trial: Trial) -> float:
    """Return the seconds that a lock may take: a network file system may stall for some."""
    return 20 if trial.quick else 120


def share(trial: Trial, chance: random.Random, figures: Counter[str]) -> None:
    """Play a round on a POD, and judge its pieces."""
    plan = Plan(
        place=trial.path(),
        pod=trial.shared(),
        seed=chance.randrange(1 << 30),
        keys=chance.randint(3, 5),
        options={
            "shard_bytes": chance.choice([1, 30, 200]),
            "gzipped": chance.random() < 0.2,
            "lock": trial.lock(chance),
            "timeout": _timeout(trial),
        },
    )
    plan.place.mkdir()
    with ExitStack() as stack:
        stack.enter_context(perhaps_in_steps(chance.random() < 0.5))
        pod = None
        if chance.random() < 0.5:  # one that all inherit, open as it is
            pod = stack.enter_context(plan.open())
        elif chance.random() < 0.5:
            plan.open().close()  # else all create it at once
        crew = stack.enter_context(Crew())
        for subject in range(1, chance.randint(2, 6) + 1):
            mode = "a" if subject < 3 or not plan.exists or chance.random() < 0.8 else "r"
            threads = 2 if chance.random() < 0.2 else 1
            crew.start(
                subject, partial(Sharer, plan, subject, pod if mode == "a" else None, mode=mode, threads=threads)
            )
        _play(crew, chance, lambda subject: Sharer(plan, subject, None))
    entries: tuple[tuple[str, Any], ...] = ()
    for calls in crew.pieces(recorded(plan.place, crew.killed)):
        model = Shared(calls)
        some = judged(calls)
        figures["not judged"] += len(calls) - len(some)
        decide(some, model.state(entries), model.step, OWN, figures)
        entries = max((call for call in calls if call.name == "items"), key=lambda call: call.start).result
    figures["kills"] += len(crew.killed)
    figures["forks in between"] += sum(call.name == "fork" for call in recorded(plan.place, crew.killed))
    plan.pod.remove()
    shutil.rmtree(plan.place)


def claim(trial: Trial, chance: random.Random, figures: Counter[str]) -> None:
    """Play a round on a tracker, and judge its pieces."""
    place, shared, seed = trial.path(), trial.shared(), chance.randrange(1 << 30)
    place.mkdir()
    options: dict[str, Any] = {
        "shard_bytes": chance.choice([1, 100, 1000]),
        "lock": trial.lock(chance),
        "timeout": _timeout(trial),
    }
    with Tracker[str](shared.path(), **options) as tracker, Crew() as crew:
        tracker.add_many(START)
        heir = tracker if chance.random() < 0.5 else None
        for subject in range(1, chance.randint(2, 5) + 1):
            crew.start(subject, partial(Claimer, place, shared, seed, subject, heir, options))
        _play(crew, chance, lambda subject: Claimer(place, shared, seed, subject, None, options))
    state = Tasks(frozenset(START), lasting=options["lock"] is not None and len(shared.hosts) > 1)
    for calls in crew.pieces([*recorded(place, crew.killed), *map(death, crew.killed)]):
        decide(calls, state, step, ("rest",), figures)
        dead = state.dead.union(call.subject for call in calls if call.name == "die")
        state = state._replace(dead=dead).found(next(call for call in calls if call.name == "rest").result)
        claims = [call for call in calls if call.name == "claim" and not call.pending]
        figures.update({"claims": len(claims), "claims of nothing": sum(call.result is None for call in claims)})
    figures["kills"] += len(crew.killed)
    shared.remove()
    shutil.rmtree(place)


def _play(crew: Crew, chance: random.Random, make: Callable[[int], Player]) -> None:
    """Play the pieces of a round; whoever is killed is followed by another one."""
    for _ in range(_PIECES):
        victim = chance.choice(crew.subjects) if chance.random() < 0.3 else None
        crew.piece(victim, chance.random() * 0.004)
        if victim is not None:
            subject = max(victim, *crew.subjects, *(killed.subject for killed in crew.killed)) + 1
            crew.start(subject, partial(make, subject))
    crew.end()


_PARTS = {"pod": ("calls on a shared POD", share), "tracker": ("claims of shared tasks", claim)}


def _run(trial: Trial) -> None:
    parts = {name: part for name, part in _PARTS.items() if trial.wants(name)}
    for name, (title, play) in parts.items():
        with trial.part(title) as figures:
            for number in trial.rounds(1 / len(parts)):
                play(trial, trial.chance(name, number), figures)


if __name__ == "__main__":
    sys.exit(command("histories", __doc__, _run, seconds=60, quick=8, parts=tuple(_PARTS)))
