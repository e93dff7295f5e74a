"""What a tracker knows of its tasks without looking at each: how many are in which state, and which one is next.

Pure: it is told of each entry that changed, and does not know where entries come from.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

from tastypy.entries import Counts, Kind, kind_of, problem
from tastypy.layers import ABSENT

K = TypeVar("K")

CLAIMABLE = ("open", "failed")  # the states of tasks that can be claimed; those that failed come last


class Figures(NamedTuple):
    """The figures of one moment.

    Attributes:
        counts: how many tasks are in which state.
        tried, aborted: how many tasks were tried at least once, and aborted.
        tries: of all tasks together.
    """

    counts: Counts
    tried: int
    aborted: int
    tries: int


class DamagedEntriesError(Exception):
    """Some entries cannot be those of tasks. Attributes: `problems`, of each key what is wrong with it."""

    def __init__(self, problems: dict[Any, str]) -> None:
        super().__init__(problems)
        self.problems = problems


class Index(Generic[K]):
    """The figures of a tracker, and the tasks that can be claimed.

    It may be brought up to date late: that is done for each figure, but not for each claim, where several workers' changes of
    a task then count as one. So a claim takes its task from `next_open`, which may not be open any more.

    Attributes:
        figures: of the last time that it was brought up to date; a new object each time, so whoever looks sees one moment.
        whole: whether it is right; False while it is changed, and after that was interrupted.
        holders: by the name of each worker the tasks that it has a claim on.
    """

    def __init__(self, max_tries: int) -> None:
        self._max_tries = max_tries
        self.figures = Figures(Counts(0, 0, 0, 0, 0, 0, 0), 0, 0, 0)
        self._reset()

    def _reset(self) -> None:
        self.whole = False
        self._kinds: dict[K, Kind] = {}
        self._known: dict[Kind, Kind] = {}  # equal kinds are one object: there are few of them, and many tasks
        self._states = dict.fromkeys(Counts._fields[1:], 0)
        self._tried = self._tries = self._aborted = 0
        self.holders: dict[str, dict[K, None]] = {}
        # Those that can be claimed, by state, in the order in which they became so. (OrderedDicts, which let any key go in constant
        # time, and do not step over the gaps of others.)
        self._open: dict[str, OrderedDict[K, None]] = {state: OrderedDict() for state in CLAIMABLE}
        self._next: deque[K] = deque()  # some of these, to be looked at by claims
        self._spelled: dict[K, K] = {}  # of 1, 1.0 and True, which are one key, the one that came first

    def rebuild(self, entries: Iterable[tuple[K, Any]]) -> None:
        """Begin anew with these entries.

        Raises:
            DamagedEntriesError: there are such entries; the index is not whole then.
        """
        self._reset()
        problems: dict[Any, str] = {}
        for key, entry in entries:
            kind = kind_of(entry, self._max_tries)
            if kind is not None:
                self._count(key, kind)
            else:
                problems[key] = str(problem(entry))
        if problems:
            raise DamagedEntriesError(problems)
        self.end()

    def change(self, key: K, entry: Any) -> None:
        """Count the entry of `key` as what it is now, ABSENT for a key that is not there; `end` follows the last one.

        Raises:
            DamagedEntriesError: it cannot be the entry of a task.
        """
        kind = None
        if entry is not ABSENT:
            kind = kind_of(entry, self._max_tries)
            if kind is None:
                raise DamagedEntriesError({key: str(problem(entry))})
        if type(key) is not str:
            key = self._spelled.get(key, key) if kind is not None else self._spelled.pop(key, key)
        before = self._kinds.get(key)
        if kind == before:
            return
        if before is not None:
            state, tries, aborted, worker = before
            self._states[state] -= 1
            self._tried -= tries > 0
            self._tries -= tries
            self._aborted -= aborted
            if worker:
                held = self.holders[worker]
                del held[key]
                if not held:
                    del self.holders[worker]
            if state in CLAIMABLE and (kind is None or not state == kind[0] == "open"):
                del self._open[state][key]
        if kind is not None:
            self._count(key, kind)
        else:
            del self._kinds[key]

    def _count(self, key: K, kind: Kind) -> None:
        state, tries, aborted, worker = kind
        if type(key) is not str:
            self._spelled.setdefault(key, key)
        self._kinds[key] = self._known.setdefault(kind, kind) if not worker else kind
        self._states[state] += 1
        self._tried += tries > 0
        self._tries += tries
        self._aborted += aborted
        if worker:
            self.holders.setdefault(worker, {})[key] = None
        if state in CLAIMABLE:
            self._open[state][key] = None

    def end(self) -> None:
        """End a row of changes: it is whole, and there are new figures."""
        counts = Counts(len(self._kinds), **self._states)
        self.figures = Figures(counts, self._tried, self._aborted, self._tries)
        self.whole = True

    # --- the next task

    @property
    def has_next(self) -> bool:
        """Whether `next_open` has something to give."""
        return bool(self._next)

    def refill(self) -> None:
        """Let `next_open` begin anew, with all tasks that are open."""
        self._next = deque(self._open["open"])

    def next_open(self) -> K:
        """Take a task that was open when the index was looked at last; IndexError if there is none before a `refill`."""
        return self._next.popleft()

    def failed(self, number: int) -> list[K]:
        """Return up to `number` tasks whose last try failed, those first that failed first."""
        return [*islice(self._open["failed"], number)]
