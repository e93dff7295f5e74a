"""Claims: which worker has which task, and how long. The tasks themselves are `tasks`'; what users see is left to `tracker`.

A claim, and its end, is one commit each, even under hold. Which task is next is known without a look at the others (see
`index`); who is dead, by the files of `workers`.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from threading import get_ident
from typing import Any, NamedTuple, TypeVar
from weakref import ref

from tastypy import chance, entries, lifecycle, workers
from tastypy.entries import Entry
from tastypy.errors import ClaimLost, NotATrackerError
from tastypy.index import CLAIMABLE
from tastypy.layers import ABSENT
from tastypy.task import Task
from tastypy.tasks import TaskDict
from tastypy.values import encode_again, encode_items, encode_key, encode_value

log = logging.getLogger("tastypy")

K = TypeVar("K")
Change = Callable[[Entry, float], Entry]

_LOOK_EVERY = 0.5  # seconds between looks for dead workers while there is something else to do
_LOOK_AT = 16  # workers at a look then; others look at others
_SHORTEST, _LONGEST = 0.005, 0.2  # seconds between looks for tasks that others add or give back


class _Held(NamedTuple):
    """A claim of this process: the task's key, the thread that claimed it, and the task as long as somebody has it."""

    key: Any
    thread: int
    task: ref[Task[Any]]


class ClaimedDict(TaskDict[K]):
    """A POD of tasks that workers claim."""

    __slots__ = ("_doubtful", "_looked", "_tasks", "_worker")

    def __init__(self, path: str | os.PathLike[str], max_tries: int = 0, mode: str = "a", **options: Any) -> None:
        self._looked = float("-inf")  # for dead workers
        self._tasks: dict[str, _Held] = {}  # what this object has claimed, by tokens
        self._doubtful = False  # whether there may be claims of this worker that none of its tasks has
        self._worker: workers.Worker | None = None  # this process's, once it has claimed something here
        super().__init__(path, max_tries, mode, **options)
        if self._store.writable and not lifecycle.is_worker():
            lifecycle.take_signals()  # now, for claims in threads, where it cannot be done

    # --- the begin of a claim

    def _claim(self, batch: int) -> list[Task[K]]:
        """Return up to `batch` tasks that are this worker's now: none if none can be had."""
        self._refuse_now("claim")
        tasks = self._try_to_claim(batch, urgent=False) if self._index.has_next else []
        return tasks or self._try_to_claim(batch, urgent=True)

    def _try_to_claim(self, batch: int, *, urgent: bool) -> list[Task[K]]:
        """Do what `_claim` says; unless it is `urgent`, dead workers are not looked for every time."""
        dead = self._find_dead(urgent=urgent)
        tasks: list[Task[K]] = []
        remains: list[workers.Remains] = []
        if urgent and not dead and not self._doubtful and not self._has_claimable():
            return tasks
        try:
            self._commit_chosen(tasks, partial(self._choose, batch, dead, remains, tasks, urgent=urgent))
            for one in remains:
                one.remove()
            self._doubtful = False
        except BaseException:
            # It may have been committed all the same, or the exception, a Ctrl-C, have come after that.
            self._doubtful = True
            for task in tasks:
                self._forget(task)
            raise
        finally:
            for one in remains:
                one.close()
        return tasks

    def _commit_chosen(self, tasks: list[Task[K]], choose: Callable[[], tuple[bytes, dict[K, Entry]]]) -> None:
        # in a function of its own for a Ctrl-C: see tests/test_jumps.py
        while not self._commit_items(choose):
            for task in tasks:
                self._forget(task)
            tasks.clear()

    def _has_claimable(self) -> bool:
        counts = self._figures().figures.counts
        return bool(counts.open or counts.failed)

    def _refuse_now(self, what: str) -> None:
        """Raise where nothing can be committed at once."""
        store = self._store
        lock = store.lock
        store.require_writable(what)
        lock.refuse_inside_commit()
        if lock.transaction is not None:
            self._refuse_in_transaction(what)

    def _find_dead(self, *, urgent: bool) -> list[str]:
        """Return the names of dead workers that have claims; unless it is urgent, not every time, and not of all.

        Their files are not kept locked: whoever is stopped before it has the directory's lock would keep their tasks.
        """
        now = time.monotonic()
        if not urgent and now - self._looked < _LOOK_EVERY:
            return []
        self._looked = now
        self.refresh()
        names = self._others(self._figures().holders)
        if not urgent and len(names) > _LOOK_AT:
            names = chance.sample(names, _LOOK_AT)
        return self._dead(names)

    def _dead(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if not workers.is_alive(self._store, name)]

    def _token(self, key: K) -> str:
        """Return the token of the claim on a task, "" if there is none."""
        entry = dict.get(self, key)
        return str(entry.get("_claim", {}).get("token", "")) if type(entry) is dict else ""

    def _choose(
        self, batch: int, dead: Sequence[str], remains: list[workers.Remains], tasks: list[Task[K]], *, urgent: bool
    ) -> tuple[bytes, dict[K, Entry]]:
        """Return the batch that claims the next tasks and releases those of dead workers, with the lock held.

        If it is `urgent`, those who died since they were looked at are found, too, before there is nothing to claim.
        """
        worker = self._begun_worker()
        now = entries.time_now()
        if dead:
            self._find_remains(dead, remains)
        items = self._freed(remains, worker, now) if remains or self._doubtful else {}
        chosen = self._next_open(batch, items)
        if urgent and not chosen and self._find_remains(self._dead(self._others(self._count_noted().holders)), remains):
            items = self._freed(remains, worker, now)
            chosen = self._next_open(batch, items)
        for key, entry in chosen:
            task = Task(self, key, entry, worker, ahead=batch > 1)
            tasks.append(task)  # first: what comes in between finds it there
            worker.tokens.add(task.token)
            self._tasks[task.token] = _Held(key, get_ident(), ref(task))
            items[key] = {**entry, "_claim": task.claim, "_at": now}
        if tasks:
            lifecycle.holds(self)
        if len(items) == 1:  # as most are: quicker than what follows
            ((key, entry),) = items.items()
            again = encode_again(entry)
            if again is not None:
                return b'"put":{%b:%b}' % (encode_key(key), again[0]), {key: again[1]}
        text, copy = encode_items(items, self._default)
        return b'"put":%b' % text, copy

    def _find_remains(self, names: Sequence[str], remains: list[workers.Remains]) -> bool:
        """Add to `remains` what is left of those of the workers that are dead, with the lock held; tell whether there are any."""
        known = {one.name for one in remains}
        found = [workers.find_remains(self._store, name) for name in names if name not in known]
        remains += [one for one in found if one is not None]
        return len(remains) > len(known)

    def _others(self, holders: Collection[str]) -> list[str]:
        """Return the workers among these that are not this process's."""
        own = workers.current(self._store)
        return [name for name in list(holders) if own is None or name != own.name]

    def _next_open(self, batch: int, freed: dict[K, Entry]) -> list[tuple[K, Entry]]:
        """Return up to `batch` tasks that can be claimed now, with the lock held.

        First those that are open, then those that failed, at last those that are just being freed.
        """
        index, found = self._index, dict[K, Entry]()
        refilled = False
        while len(found) < batch:
            try:
                key = index.next_open()
            except IndexError:
                if refilled:
                    break
                refilled = True
                self._count_noted().refill()
                continue
            self._find(key, found, freed)
        if refilled:
            for key in index.failed(batch + len(freed)):
                if len(found) < batch:
                    self._find(key, found, freed)
        for key, entry in freed.items():
            if len(found) < batch and self._is_claimable(entry):
                found[key] = entry
        return [*found.items()]

    def _find(self, key: K, found: dict[K, Entry], freed: dict[K, Entry]) -> None:
        """Add a task to those found, if it can be claimed."""
        entry = dict.get(self, key, ABSENT)
        if entry is not ABSENT and key not in freed and self._is_claimable(entry):
            found[key] = entry

    def _is_claimable(self, entry: Entry) -> bool:
        kind = entries.kind_of(entry, self._max_tries)
        if kind is None:
            self._count_noted()  # which tells what is wrong
        return kind is not None and kind[0] in CLAIMABLE

    def _begun_worker(self) -> workers.Worker:
        """Return this process's worker, with the lock held; it begins with its first claim."""
        store = self._store
        worker = self._worker
        # A local file system drops no lock by itself, and only a hand can have removed the file: looked at now and then.
        if worker is None or not worker.is_open or not store.local or self._looked > worker.looked:
            who = {"max_tries": self._max_tries}
            worker = self._worker = workers.begun(store, who, lambda: self._count_noted().holders)
            worker.looked = self._looked
        return worker

    def _freed(self, remains: Sequence[workers.Remains], worker: workers.Worker, now: float) -> dict[K, Entry]:
        """Return the entries of dead workers' tasks as they are without the claim, and of claims of ours that nobody has."""
        items: dict[K, Entry] = {}
        holders = self._count_noted().holders
        for one in remains:
            for key in holders.get(one.name, ()):
                entry = dict.__getitem__(self, key)
                if entries.is_in_hand(entry["_claim"], one.in_hand) and not entry.get("_done", False):
                    where = f" on {one.who['host']}" if "host" in one.who else ""
                    label = workers.label_of(one.who.get("host"), one.who.get("pid"))
                    items[key] = entries.failed(entry, f"its worker died{where}", now, label)
                else:
                    items[key] = entries.released(entry, now)
        for key in holders.get(worker.name, ()):
            if self._token(key) not in worker.tokens:
                items[key] = entries.released(dict.__getitem__(self, key), now)
        return items

    # --- the end of a claim

    def _end(self, task: Task[K], change: Change, fields: Entry | None = None) -> None:
        """Store `fields` in the entry of a task, and make it what `change` returns then: the end of its claim, one commit.

        Raises:
            ClaimLost: it is not this worker's any more.
        """
        self._refuse_now("the end of a task")
        key = task.key
        if fields:
            fields = encode_value(fields, self._default, f"the result of {key!r}")[1]
        known = dict.get(self, key)
        ready = self._encoded_end(task, known, change, fields)  # before the lock: it may take long

        def make() -> tuple[bytes, dict[K, Entry]]:
            entry = dict.get(self, key)
            encoded = ready if entry is known else self._encoded_end(task, entry, change, fields)
            if encoded is None:
                message = f"the claim on {key!r} was lost: {_fate(entry)}; nothing was written, and whoever has it now goes on"
                raise ClaimLost(message, self.path)
            text, copy = encoded
            return b'"put":{%b:%b}' % (encode_key(key), text), {key: copy}

        try:
            while not self._commit_items(make):
                pass
        except ClaimLost:
            self._worker = None  # whether its file is still there is looked at before the next claim
            self._forget(task)
            raise
        self._forget(task)

    def _encoded_end(
        self, task: Task[K], entry: Any, change: Change, fields: Entry | None
    ) -> tuple[bytes, Entry] | None:
        """Return what becomes of `entry`, as JSON and as that gives it back; None where it has not the task's claim any more."""
        if type(entry) is not dict or entry.get("_claim") != task.claim:
            return None
        entry = change({**entry, **fields} if fields else entry, entries.time_now())
        return encode_again(entry) or encode_value(entry, self._default, f"the entry of {task.key!r}")

    def _forget(self, task: Task[K]) -> None:
        """Forget a claim that has ended."""
        # in this order: after a Ctrl-C in between, the claim is given back with the others, and forgotten then
        task.worker.drop(task.token)
        self._tasks.pop(task.token, None)
        if not self._tasks:
            lifecycle.released(self)

    # --- the loop

    def _claims(
        self, batch: int, *, wait: bool, is_over: Callable[[], bool], ignored: Collection[str] = ()
    ) -> Iterator[Task[K]]:
        """Yield tasks as they are claimed, until `is_over`, or there are none; then give back those not yielded.

        With `wait`, there may be some as long as others have claims, those with the tokens in `ignored` excepted.
        """
        ahead: deque[Task[K]] = deque()
        process, delay = os.getpid(), _SHORTEST
        try:
            while True:  # not `while not is_over()`, for a Ctrl-C: see tests/test_jumps.py
                if is_over():
                    return
                self._refuse_now("claims")
                if process != os.getpid():  # what was claimed ahead is the parent's
                    ahead.clear()
                    process = os.getpid()
                if not ahead:
                    ahead.extend(self._claim(batch))
                if ahead:
                    delay = _SHORTEST
                    ahead[0].take_in_hand()
                    yield ahead.popleft()
                elif wait and self._others_work(ignored):
                    time.sleep(delay)
                    delay = min(delay * 1.5, _LONGEST)
                else:
                    return
        finally:
            if ahead and process == os.getpid() and not self.closed:
                self._give_back_quietly(ahead)

    def _give_back_quietly(self, tasks: Collection[Task[K]]) -> None:
        """Release tasks that a loop had ahead when it was left, perhaps by an exception, which says more than one in here."""
        try:
            self._give_back([self._tasks[task.token] for task in tasks if task.token in self._tasks])
        except Exception:
            log.exception("%s: %d tasks could not be given back, and are when it is closed", self.path, len(tasks))

    def _others_work(self, ignored: Collection[str] = ()) -> bool:
        """Tell whether there may be something to do later: tasks that can be claimed, or that somebody works on."""
        index = self._figures()
        counts = index.figures.counts
        if counts.open or counts.failed or not counts.claimed:
            return bool(counts.open or counts.failed)
        own = workers.current(self._store)
        mine = {key: self._token(key) for key in list(index.holders.get(own.name, ()))} if own is not None else {}
        lost = [key for key, token in mine.items() if token not in ignored and self._is_futile(token)]
        others = [self._token(key) for keys in list(index.holders.values()) for key in list(keys)] if ignored else ()
        if counts.claimed > len(lost) + sum(token in ignored for token in others):
            return True
        if lost:
            log.warning(
                "%s: %d tasks were claimed here and neither done nor released, %r the first, and nobody waits for them any more: "
                "use `with task:`",
                *(self.path, len(lost), lost[0]),
            )
        return False

    def _is_futile(self, token: str) -> bool:
        """Tell whether waiting for the end of a claim is futile: its task was dropped, or is this thread's own to end."""
        held = self._tasks.get(token)
        return held is not None and (held.task() is None or held.thread == get_ident())

    # --- the end

    def _give_back(self, held: Collection[_Held], *, orphans: bool = False) -> None:
        """Release these claims, and, if asked for, those of ours that are nobody's: one commit."""
        worker = workers.current(self._store)
        lock = self._store.lock
        if worker is None or not (held or orphans):
            return
        if get_ident() in (lock.thread, lock.busy):  # a loop that is dropped in a transaction, or by a finaliser
            lock.deferred.append(partial(self._give_back, held, orphans=orphans))
            return
        tokens = {token for token, one in list(self._tasks.items()) if one in held}

        def make() -> tuple[bytes, dict[K, Entry]]:
            now = entries.time_now()
            ours = {*self._held_by(worker.name)} if orphans else set()
            keys = {one.key for one in held} | ours
            items: dict[K, Entry] = {}
            for key in keys:
                token = self._token(key)
                if token in tokens or (orphans and token not in worker.tokens and key in ours):
                    items[key] = entries.released(dict.__getitem__(self, key), now)
            text, copy = encode_items(items, self._default)
            return b'"put":%b' % text, copy

        while not self._commit_items(make):
            pass
        for token in tokens:
            worker.drop(token)
            self._tasks.pop(token, None)
        lifecycle.released(self)

    def _held_by(self, name: str) -> list[K]:
        """Return the tasks that a worker has claims on, with the mutex held, however damaged others are."""
        try:
            return list(self._count_noted().holders.get(name, ()))
        except NotATrackerError:
            kinds = [(key, entries.kind_of(entry, 0)) for key, entry in list(dict.items(self))]
            return [key for key, kind in kinds if kind is not None and kind[3] == name]

    def _release(self) -> None:
        """Give back all that this object has claimed, since it, or its process, comes to an end."""
        worker = workers.current(self._store)
        if worker is not None and worker.is_open:
            if self._tasks or self._doubtful:
                self._give_back(list(self._tasks.values()), orphans=True)
            with self._store.lock.mutex:
                if not worker.tokens:
                    worker.end()

    def _is_pending(self) -> bool:
        return bool(self._tasks) or super()._is_pending()

    def _forked(self, *, reload: bool) -> None:
        self._tasks = {}
        self._worker = None
        self._doubtful = False
        workers.forked()
        super()._forked(reload=reload)


def _fate(entry: Any) -> str:
    """Return what has become of an entry that has not the expected claim."""
    if type(entry) is not dict:
        return "the entry was deleted"
    return "another worker has claimed it" if "_claim" in entry else "the entry was reset"
