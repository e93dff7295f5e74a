"""Hold PODs against a plain dict, and trackers against another, through rows of operations that Hypothesis finds.

What is done is chosen at random (see `pods`, `trackers` and `disturbed`): in short examples, of which there are many, and in long ones. Of
a row that goes wrong the smallest one that does is printed. Both follow from the seed, as far as the time allows the same
number of rounds.
"""

from __future__ import annotations

import logging
import sys
import traceback

from stress.command import Trial, WrongError, command
from stress.model.disturbed import DisturbedPods, DisturbedTrackers
from stress.model.machine import Machine, run

_MACHINES: dict[str, type[Machine]] = {"pods": DisturbedPods, "trackers": DisturbedTrackers}
_KINDS = {"short": (30, 40), "long": (3, 2000)}  # examples and steps of a round; the first example is trivial


def _hold_against_model(trial: Trial) -> None:
    logging.getLogger("tastypy").addHandler(logging.NullHandler())  # it is told of failures that are made on purpose
    patience = 5 if trial.quick else 60
    parts = [(name, kind) for name in _MACHINES if trial.wants(name) for kind in _KINDS]
    for name, kind in parts:
        machine, (examples, steps) = _MACHINES[name], _KINDS[kind]
        if trial.quick and kind == "long":
            steps //= 10
        with trial.part(f"{name}, {kind}") as figures:
            machine.counts.clear()
            for number in trial.rounds(1 / len(parts)):
                try:
                    run(
                        machine,
                        trial.chance(name, kind, number).randrange(1 << 30),
                        examples=examples,
                        steps=steps,
                        patience=patience,
                    )
                except Exception as error:
                    raise WrongError("".join(traceback.format_exception(error, limit=-3))) from error
            figures["examples"] = machine.counts.pop("examples")
            figures["steps"] = machine.counts.pop("steps")
            figures.update(dict(sorted(machine.counts.items())))


if __name__ == "__main__":
    sys.exit(command("model", __doc__, _hold_against_model, seconds=120, quick=5, parts=[*_MACHINES]))
