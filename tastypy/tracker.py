"""`ProgressTracker`, what users see: a POD of tasks that workers claim, finish, retry and give up on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tastypy import entries
from tastypy.claims import ClaimedDict
from tastypy.entries import FRESH, Counts, Entry
from tastypy.errors import DuplicateKeyError, MissingKeyError
from tastypy.index import Figures
from tastypy.layers import Layer
from tastypy.task import Task
from tastypy.tasks import check_number
from tastypy.values import encode_items, encode_key
from tastypy.variables import K

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from matplotlib.figure import Figure


class Summary(NamedTuple):
    """What came of a run.

    Attributes:
        done: how many tasks were finished while it went on, by other runs on the same tracker, too.
        failed: how many tasks are not done, and their last try failed; those given up are among them.
        given_up: how many tasks were tried `max_tries` times in vain.
        seconds: how long it took.
    """

    done: int
    failed: int
    given_up: int
    seconds: float


class ProgressTracker(ClaimedDict[K]):
    """A POD of tasks that any number of workers share. Its short name is `Tracker`.

    Each value is a dict, the entry of a task: `_done`, `_aborted` and `_tries`, and what was stored with the task. All that a
    POD has is there; `update` merges dicts into entries.

    * **add**: `add`, `add_if_absent`, `add_many`, `add_many_if_absent`.
    * **state**: `mark_done`, `mark_not_done`, `abort`, `unabort`, `increment_tries`, `decrement_tries`, `reset_tries`; `done`,
      `aborted`, `tries`.
    * **gates**: `should_do`, `should_do_add`, `should_try`, `should_try_add`.
    * **iterate**: `todo_keys`, `try_keys`, `aborted_keys`, `failed_keys`, `claimed_keys`; each with `values` and `items`, too.
    * **figures**: `num_done`, `fraction_done`, `percent_done`, `percent_not_done`; the same of `tried` and `aborted`; `counts`.
    * **claims**: `claim`, `claims`. No two live workers have one task, and a dead worker's goes on at once.
    * **run**: `run` takes every remaining task through a function, in processes of its own or in an executor.
    * **look**: `plot` draws a picture of it.

    >>> tracker = Tracker("squares.tracker", max_tries=3)
    >>> tracker.add_many_if_absent(range(10))
    10
    >>> for task in tracker.claims():
    ...     with task:
    ...         task["square"] = task.key**2
    >>> tracker[7]["square"], tracker.percent_done()
    (49, '100.00 %')

    Args:
        path, mode, and all that follows: as for a POD.
        max_tries: how often a task is tried before it is given up; 0 means without limit. It is this object's, and not stored.

    Raises:
        NotATrackerError: there are values that cannot be entries. Those of a plain POD can if they are dicts.
        ValueError: `max_tries` is negative.
        And what `POD` raises.
    """

    __slots__ = ()

    if TYPE_CHECKING:  # the parameters as they are, for checkers and completion

        def __init__(
            self,
            path: str | os.PathLike[str],
            max_tries: int = 0,
            mode: str = "a",
            *,
            timeout: float = 300,
            durable: bool = False,
            default: Callable[[Any], Any] | None = None,
            gzipped: bool | None = None,
            shard_bytes: int | None = None,
            lock: Literal["flock", "lease"] | None = None,
        ) -> None: ...

    @property
    def max_tries(self) -> int:
        """How often a task is tried before it is given up; 0: without limit."""
        return self._max_tries

    # --- adding tasks

    def add(self, key: K, /, **fields: Any) -> None:
        """Add a task, with fields to store with it, one commit.

        Raises:
            DuplicateKeyError: it is there already.
        """
        self._add({key: fields}, if_absent=False)

    def add_if_absent(self, key: K, /, **fields: Any) -> bool:
        """Add a task unless it is there; tell whether it was added."""
        return bool(self._add({key: fields}, if_absent=True))

    def add_many(self, keys: Iterable[K] | Mapping[K, Entry], /, **fields: Any) -> int:
        """Add tasks, each with the same fields, or, from a mapping, with those that it has for them; one commit.

        Returns:
            How many they were.

        Raises:
            DuplicateKeyError: one is there already; none was added.
        """
        return self._add(_with_fields(keys, fields), if_absent=False)

    def add_many_if_absent(self, keys: Iterable[K] | Mapping[K, Entry], /, **fields: Any) -> int:
        """Add those tasks that are not there, as `add_many` does; return how many that were."""
        return self._add(_with_fields(keys, fields), if_absent=True)

    def _add(self, tasks: dict[K, Entry], *, if_absent: bool) -> int:
        for key, fields in tasks.items():
            tasks[key] = entries.sound(key, fields, self.path)
            encode_key(key)

        def action(layer: Layer) -> int:
            new = {key: fields for key, fields in tasks.items() if key not in self}
            if len(new) < len(tasks) and not if_absent:
                key = next(key for key in tasks if key in self)
                message = f"the task {key!r} is in {self.path} already; add_if_absent and add_many_if_absent leave it as it is"
                raise DuplicateKeyError(message, self.path)
            if new:
                text, copy = encode_items(new, self._default)
                layer.set_many(copy, b'"put":%b' % text)
            return len(new)

        return self._run("add", action)

    # --- the state of a task

    def mark_done(self, key: K) -> None:
        """Mark a task done. A worker that has claimed it keeps its claim, and may store what it found."""
        self._set_state("mark_done", key, _done=True)

    def mark_not_done(self, key: K) -> None:
        """Mark a task not done."""
        self._set_state("mark_not_done", key, _done=False)

    def abort(self, key: K) -> None:
        """Give a task up: it is not claimed any more until `unabort`. A worker that has claimed it may finish it."""
        self._set_state("abort", key, _aborted=True)

    def unabort(self, key: K) -> None:
        """Take an aborted task up again."""
        self._set_state("unabort", key, _aborted=False)

    def increment_tries(self, key: K) -> None:
        """Count a try of a task."""
        self._change("increment_tries", key, partial(_more_tries, 1))

    def decrement_tries(self, key: K) -> None:
        """Take back a try of a task; ValueError (UnstorableValueError) if there was none."""

        def change(entry: Entry) -> Entry:
            return entries.sound(key, _more_tries(-1, entry), self.path)

        self._change("decrement_tries", key, change)

    def reset_tries(self, key: K) -> None:
        """Forget a task's tries, and the error of the last one: so it may be tried `max_tries` times again."""

        def change(entry: Entry) -> Entry | None:
            if entry.get("_tries", 0) == 0 and "_error" not in entry:
                return None
            return entries.untried(entry, entries.time_now())

        self._change("reset_tries", key, change)

    def _set_state(self, what: str, key: K, **state: bool) -> None:
        def change(entry: Entry) -> Entry | None:
            if state.items() <= entry.items():
                return None
            entry = {**FRESH, **entry, **state, "_at": entries.time_now()}
            if state.get("_done"):  # which no try did
                entry.pop("_error", None)
                entry.pop("_worker", None)
            return entry

        self._change(what, key, change)

    def done(self, key: K) -> bool:
        """Tell whether a task is done; KeyError (MissingKeyError) if there is no such task, as for all that follow."""
        return bool(self._entry(key).get("_done", False))

    def aborted(self, key: K) -> bool:
        """Tell whether a task was aborted."""
        return bool(self._entry(key).get("_aborted", False))

    def tries(self, key: K) -> int:
        """Return how often a task was tried; a try under way does not count yet."""
        return int(self._entry(key).get("_tries", 0))

    # --- gates: for loops that go over keys of their own, in one process; they claim nothing

    def should_do(self, key: K, allow_aborted: bool = False) -> bool:
        """Tell whether a task is not done, not aborted (unless `allow_aborted`), and tried fewer than `max_tries` times."""
        return self._should(self._entry(key), allow_aborted)

    def should_do_add(self, key: K, allow_aborted: bool = False) -> bool:
        """Do what `should_do` does, and add the task if it is not there."""
        return self.add_if_absent(key) or self.should_do(key, allow_aborted)

    def should_try(self, key: K, allow_aborted: bool = False) -> bool:
        """Tell what `should_do` does, and if it is so, count a try: one commit, so that `max_tries` holds for all together."""

        def change(entry: Entry) -> Entry | None:
            return _more_tries(1, entry) if self._should(entry, allow_aborted) else None

        return self._change("should_try", key, change)

    def should_try_add(self, key: K, allow_aborted: bool = False) -> bool:
        """Do what `should_try` does, and add the task if it is not there."""
        self.add_if_absent(key)
        return self.should_try(key, allow_aborted)

    def _should(self, entry: Entry, allow_aborted: bool) -> bool:
        return entries.should_do(entry, self._max_tries, allow_aborted=allow_aborted)

    # --- iteration, in the order of the tracker, safe while it changes

    def todo_keys(self, allow_aborted: bool = False) -> Iterator[K]:
        """Yield the tasks that `should_do`; each is looked at when its turn comes."""
        return (key for key, _ in self.todo_items(allow_aborted))

    def todo_values(self, allow_aborted: bool = False) -> Iterator[Entry]:
        """Yield the entries of `todo_keys`."""
        return (entry for _, entry in self.todo_items(allow_aborted))

    def todo_items(self, allow_aborted: bool = False) -> Iterator[tuple[K, Entry]]:
        """Yield the items of `todo_keys`."""
        return self._those(lambda entry: self._should(entry, allow_aborted))

    def try_keys(self, allow_aborted: bool = False) -> Iterator[K]:
        """Yield the tasks that `should_try`: a try is counted as each is yielded."""
        return (key for key, _ in self.try_items(allow_aborted))

    def try_values(self, allow_aborted: bool = False) -> Iterator[Entry]:
        """Yield the entries of `try_keys`."""
        return (entry for _, entry in self.try_items(allow_aborted))

    def try_items(self, allow_aborted: bool = False) -> Iterator[tuple[K, Entry]]:
        """Yield the items of `try_keys`."""
        for key, _ in self.todo_items(allow_aborted):
            try:
                tried = self.should_try(key, allow_aborted)
            except MissingKeyError:  # another process has deleted it
                continue
            entry = dict.get(self, key)
            if tried and entry is not None:
                yield key, entry

    def aborted_keys(self) -> Iterator[K]:
        """Yield the tasks that were aborted."""
        return (key for key, _ in self.aborted_items())

    def aborted_values(self) -> Iterator[Entry]:
        """Yield the entries of `aborted_keys`."""
        return (entry for _, entry in self.aborted_items())

    def aborted_items(self) -> Iterator[tuple[K, Entry]]:
        """Yield the items of `aborted_keys`."""
        return self._those(lambda entry: bool(entry.get("_aborted", False)))

    def failed_keys(self) -> Iterator[K]:
        """Yield the tasks whose last try failed, those included that were tried `max_tries` times."""
        return (key for key, _ in self.failed_items())

    def failed_values(self) -> Iterator[Entry]:
        """Yield the entries of `failed_keys`."""
        return (entry for _, entry in self.failed_items())

    def failed_items(self) -> Iterator[tuple[K, Entry]]:
        """Yield the items of `failed_keys`."""
        return self._in_state("failed", "given_up")

    def claimed_keys(self) -> Iterator[K]:
        """Yield the tasks that a worker has claimed, which may be dead."""
        return (key for key, _ in self.claimed_items())

    def claimed_values(self) -> Iterator[Entry]:
        """Yield the entries of `claimed_keys`."""
        return (entry for _, entry in self.claimed_items())

    def claimed_items(self) -> Iterator[tuple[K, Entry]]:
        """Yield the items of `claimed_keys`."""
        return self._in_state("claimed")

    def _in_state(self, *states: str) -> Iterator[tuple[K, Entry]]:
        return self._those(lambda entry: entries.state_of(entry, self._max_tries) in states)

    def _those(self, wanted: Callable[[Entry], bool]) -> Iterator[tuple[K, Entry]]:
        return ((key, entry) for key, entry in self.items() if wanted(self._sound(key, entry)))

    # --- figures, kept up with every change

    def counts(self) -> Counts:
        """Return how many tasks there are, and how many in each state.

        >>> tracker = Tracker("my.tracker")
        >>> tracker.add_many(["a", "b"])
        2
        >>> tracker.mark_done("a")
        >>> tracker.counts()
        Counts(total=2, done=1, aborted=0, claimed=0, given_up=0, failed=0, open=1)
        """
        return self._figures().figures.counts

    def num_done(self) -> int:
        """Return how many tasks are done."""
        return self.counts().done

    def num_tried(self) -> int:
        """Return how many tasks were tried at least once."""
        return self._figures().figures.tried

    def num_aborted(self) -> int:
        """Return how many tasks were aborted."""
        return self._figures().figures.aborted

    def fraction_done(self) -> float:
        """Return the share of the tasks that are done, between 0 and 1; 0 if there are no tasks."""
        return _share(self._figures().figures, "done")

    def fraction_tried(self) -> float:
        """Return the share of the tasks that were tried at least once."""
        return _share(self._figures().figures, "tried")

    def fraction_aborted(self) -> float:
        """Return the share of the tasks that were aborted."""
        return _share(self._figures().figures, "aborted")

    def percent_done(self, decimals: int = 2) -> str:
        """Return the percentage of the tasks that are done, as in "66.67 %", with so many decimals."""
        return _percent(self.fraction_done(), decimals)

    def percent_not_done(self, decimals: int = 2) -> str:
        """Return the percentage of the tasks that are not done."""
        return _percent(1 - self.fraction_done(), decimals)

    def percent_tried(self, decimals: int = 2) -> str:
        """Return the percentage of the tasks that were tried at least once."""
        return _percent(self.fraction_tried(), decimals)

    def percent_not_tried(self, decimals: int = 2) -> str:
        """Return the percentage of the tasks that were never tried."""
        return _percent(1 - self.fraction_tried(), decimals)

    def percent_aborted(self, decimals: int = 2) -> str:
        """Return the percentage of the tasks that were aborted."""
        return _percent(self.fraction_aborted(), decimals)

    def percent_not_aborted(self, decimals: int = 2) -> str:
        """Return the percentage of the tasks that were not aborted."""
        return _percent(1 - self.fraction_aborted(), decimals)

    # --- claims

    def claim(self) -> Task[K] | None:
        """Claim the next task that is not done, not aborted, not given up, and not claimed by a live worker: one commit.

        Returns:
            The task, which is this process's until it has ended, or None if there is none now.

        Raises:
            TransactionError: inside a transaction, whose end would come after the task was given out.
            CommitError, PermissionDeniedError: it could not be written; nothing was claimed.
        """
        tasks = self._claim(1)
        return tasks[0] if tasks else None

    def claims(self, batch: int = 1, wait: bool = False) -> Iterator[Task[K]]:
        """Yield tasks as they are claimed, one after the other, those included that are added meanwhile.

        Args:
            batch: how many tasks are claimed in one commit; those not begun are given back when the loop ends, and innocent
                when the process is killed. More than 1 is for tasks that take less than a few milliseconds.
            wait: whether to wait for tasks that other workers hold, and may fail or add to, and to end only when none is left.

        Raises:
            ValueError: `batch` is less than 1.
        """
        check_number("batch", batch, 1)
        return self._claims(batch, wait=wait, is_over=lambda: False)

    def run(
        self,
        func: Callable[[K], Any],
        *,
        workers: int | None = None,
        executor: Executor | None = None,
        progress: bool | None = None,
        batch: int = 1,
        on_error: str = "record",
    ) -> Summary:
        """Take every remaining task through `func(key)`, and store what it returns in its entry, as `result`.

        Ends when no task is left that is open or that a worker holds. Tasks may be added meanwhile, and a second `run`, on
        whatever host, joins in. Ctrl-C and SIGTERM end it: tasks in hand are interrupted and released, without a try. Ctrl-C
        for the second time kills the workers.

        Args:
            func: what to do for a task. Where processes are not forked it must be possible to pickle it.
            workers: how many processes work here, each replaced if it dies; by default one for each processor that this process
                may use. With `executor`: how many of the executor's workers to ask for.
            executor: any `concurrent.futures.Executor`, whose workers do it then; they open the tracker by its path.
            progress: whether to show it: None where there is a terminal or a notebook, True in any case. A bar if `tqdm` is
                installed (`pip install 'tastypy[progress]'`), else lines.
            batch: as for `claims`.
            on_error: "record" to store an exception of `func` as `_error`, and go on; "raise" to stop at the first one, too.

        Returns:
            What came of it: tasks done, failed and given up, and the seconds that it took.

        Raises:
            ValueError: `workers` or `batch` is less than 1, or `on_error` is something else.
            WorkerError: workers die before they begin, or `func` cannot be pickled.
            TransactionError: inside a transaction.
            And what `func` raises, with `on_error="raise"`.
        """
        from tastypy.run import run  # noqa: PLC0415 - multiprocessing takes longer to import than all of the rest

        return run(self, func, workers=workers, executor=executor, progress=progress, batch=batch, on_error=on_error)

    # --- pictures

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw what was done when, how fast and by whom, how often tasks were tried, and which errors there are.

        It takes matplotlib: `pip install 'tastypy[plot]'`. A notebook shows the figure that is returned. What is drawn is
        what this object knows, as with all reads: say `refresh()` before.

        Args:
            path: where to write it, too; what it ends in says how: `.svg`, `.png` or `.pdf`.

        Returns:
            A `matplotlib.figure.Figure`, which pyplot knows nothing of.

        Raises:
            MissingExtraError: matplotlib is not installed.
            ValueError: the path ends in something else.
            StorageError, PathTakenError: the picture cannot be written there; what was there is as before.
        """
        from tastypy.plots import plot  # noqa: PLC0415 - seldom needed, and matplotlib, an extra, for nothing else

        return plot(self, path)

    def _repr_html_(self) -> str:
        from tastypy.notebook import tracker_html  # noqa: PLC0415 - for notebooks only

        return tracker_html(self)


Tracker = ProgressTracker


def _with_fields(keys: Any, fields: Entry) -> dict[Any, Entry]:
    if isinstance(keys, str | bytes):
        message = f"add_many takes an iterable of keys, and {keys!r} is one key: say [{keys!r}]"
        raise TypeError(message)
    if isinstance(keys, Mapping):
        for key, own in keys.items():
            if not isinstance(own, Mapping):
                message = f"add_many takes a mapping of keys to the fields of their tasks, and {key!r} has {own!r}"
                raise TypeError(message)
        return {key: {**fields, **own} for key, own in keys.items()}
    return dict.fromkeys(keys, fields)


def _more_tries(number: int, entry: Entry) -> Entry:
    return {**FRESH, **entry, "_tries": entry.get("_tries", 0) + number, "_at": entries.time_now()}


def _share(figures: Figures, what: str) -> float:
    number = figures.counts.done if what == "done" else figures.tried if what == "tried" else figures.aborted
    return number / max(figures.counts.total, 1)


def _percent(fraction: float, decimals: int) -> str:
    return f"{100 * fraction:.{decimals}f} %"
