"""What the state machines have in common: a directory in memory, rules that are counted, and runs that follow from a seed."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from hypothesis import HealthCheck, Phase, seed, settings, stateful
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

_MEMORY = "/dev/shm"
_CHOICES_OF_A_STEP = 64  # what Hypothesis counts for one, at most, on the average


class AbortError(Exception):
    """Ends a transaction without a commit."""


class LeftOutError(Exception):
    """A rule does nothing this time, since it is left open what would come of it, or since it has no meaning now."""


def leave_out(condition: object) -> None:
    """Leave the rule out, before it did anything, if the condition is true."""
    if condition:
        raise LeftOutError


class Machine(RuleBasedStateMachine):
    """Has a directory of its own.

    Attributes:
        counts: steps, and how often which rule was followed, of all the machines of a class.
        path: where the POD is, or will be.
        views: what each object on the directory should be; a rule's `which` is one of them.
        around: what holds until the example ends.
    """

    counts: ClassVar[Counter[str]]

    def __init_subclass__(cls) -> None:
        cls.counts = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.counts["examples"] += 1
        self.directory = tempfile.mkdtemp(dir=_MEMORY if Path(_MEMORY).is_dir() else None, prefix="tastypy-")
        self.path = Path(self.directory) / "my.pod"
        self.views: list[Any] = []
        self.around = ExitStack()

    def end(self) -> None:
        """Close what is open, and look at it a last time."""

    def teardown(self) -> None:
        """End the example, whatever came of it."""
        try:
            with self.around:
                self.end()
        finally:
            shutil.rmtree(self.directory)


def counted(**arguments: Any) -> Callable[[Callable[..., None]], Any]:
    """Make a rule of a method, which is counted unless it was left out."""

    def decorate(method: Callable[..., None]) -> Any:
        @wraps(method)
        def follow(self: Machine, **chosen: Any) -> None:
            if "which" in chosen:
                chosen["which"] %= len(self.views)
            self.counts["steps"] += 1
            try:
                method(self, **chosen)
            except LeftOutError:
                self.counts["left out"] += 1
            else:
                self.counts[method.__name__.replace("_", " ")] += 1

        return rule(**arguments)(follow)  # type: ignore[no-untyped-call]  # what `rule` returns has no types

    return decorate


def run(machine: type[Machine], number: int, *, examples: int, steps: int, patience: float) -> None:
    """Run examples that follow from a number; raise what went wrong in the smallest one found in `patience` seconds."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate, Phase.shrink],
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    # Hypothesis ends an example where it has made so many choices: after a few hundred steps
    size = max(engine.BUFFER_SIZE, steps * _CHOICES_OF_A_STEP)
    with (
        mock.patch.object(engine, "BUFFER_SIZE", size),
        mock.patch.object(stateful, "BUFFER_SIZE", size),
        mock.patch.object(engine, "MAX_SHRINKING_SECONDS", patience),
    ):
        run_state_machine_as_test(seed(number)(machine), settings=chosen)
