"""Whether the library does right by a damaged directory; the judge of `corruption`, whose docstring says what is right."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from contextlib import redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

from stress.command import WrongError
from stress.corruption import plain
from stress.corruption.samples import write
from stress.judging import difference
from tastypy import POD, MissingPODError, TastypyError, Tracker, check, repair
from tastypy.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stress.corruption.damages import Damage
    from stress.corruption.plain import Entries, Files, Reading
    from stress.corruption.samples import Sample

# Files were exchanged by hand: repair may leave it to a hand to take out what does not belong there.
_BY_HAND = {
    *("a file of another POD", "a line of another POD", "a line of another file"),
    *("an older file", "files swapped", "a file in place of another"),
    *("a forged header", "a forged batch"),
}


class Case:
    """A damage of a sample, and what is right after it."""

    def __init__(self, sample: Sample, damage: Damage) -> None:
        self.sample = sample
        self.damage = damage
        self.files = damage.files
        origin = sample.files
        self.changed = [name for name in {**origin, **self.files} if origin.get(name) != self.files.get(name)]
        self.reading: Reading | None = None
        self.left = sample.entries
        self.lost: list[bytes] = []  # what has to be set aside
        if damage.kind.startswith("a forged"):
            return  # none of these lines has a meaning: it must not be more than nothing
        self.reading = plain.opened(sample.known, origin, self.files)
        self.left, self.lost = plain.readable(sample.known, origin, self.files)
        self.lost += [self.files[name] for name in sample.known.shards if name in self.changed and name in self.files]

    @property
    def nothing_left(self) -> bool:
        """Whether no journal and no shard is there: that may have been a POD that was just being created."""
        return not any(name.startswith("journal-") or name[0].isdigit() for name in self.files)

    def judge(self, place: Path) -> Counter[str]:
        """Let readers, writers and repairers have a copy each; return how these ended."""
        counts: Counter[str] = Counter()
        for judge in (self._reader, self._writer, self._repairer, self._open):
            path = place / judge.__name__
            write(path, self.sample.files if judge == self._open else self.files)
            try:
                counts[judge(path)] += 1
            except Exception as error:
                error.add_note(f"{path}: {self.sample.name}, {self.damage.words}")
                raise
            shutil.rmtree(path)
        return counts

    # --- opened

    def _reader(self, path: Path) -> str:
        """A reader changes nothing; `check` finds nothing only where what is read is right."""
        error, entries = _outcome(lambda: _read(self.sample.kind, path))
        checked, problems = _outcome(lambda: check(path))
        if _files(path) != self.files:
            raise WrongError("a reader, or check, changed files")
        if checked is not None:
            self._judge_error(path, checked)
        if error is None:
            self._judge_entries(entries)
            return "read"
        self._judge_error(path, error)
        if checked is None and not problems:
            raise WrongError(f"check finds nothing, and a reader gets {error}")
        return "errors of readers"

    def _writer(self, path: Path) -> str:
        """A writer raises and changes nothing, or has what is right, sets aside what it does not use, and goes on."""
        error, pod = _outcome(lambda: self.sample.kind(path))
        if error is not None:
            self._judge_error(path, error)
            self._judge_unchanged(path)
            return "errors of writers"
        entries = pod.copy()
        self._judge_entries(entries)
        error, _ = _outcome(lambda: _go_on(pod))
        after = _files(path)
        if error is None and self.reading and self.reading.damaged and self.reading.rest not in _asides(after).values():
            raise WrongError("what follows a bad line was not set aside")
        if error is None:
            _judge_asides(after, pod.check())
        _outcome(pod.close)
        if error is not None:
            self._judge_error(path, error)
            self._judge_unchanged(path)
            return "errors of writers"
        _judge_same(_read(self.sample.kind, path), _gone_on(self.sample.kind, path, entries))
        return "opened"

    def _judge_entries(self, entries: Entries) -> None:
        """Raise unless they are what was there, or what docs/format.md says that the files hold now."""
        right = [
            self.sample.entries,
            *([self.reading.entries] if self.reading else []),
            *([{}] if self.nothing_left else []),
        ]
        if plain.exactly(entries) not in map(plain.exactly, right):
            raise WrongError(f"wrong data in silence: {difference(entries, self.sample.entries)}")

    def _judge_error(self, path: Path, error: TastypyError) -> None:
        """Raise unless the error names a file that was damaged; where several do not fit together, one of them."""
        names = [*self.sample.files] if self.damage.kind in _BY_HAND else self.changed
        if self.damage.kind == "a forged batch":
            names = ["journal-"]  # one that a forged seal names
        if self.nothing_left and isinstance(error, MissingPODError):
            names = [path.name]
        if not any(name in str(error) for name in names):
            raise WrongError(f"the error does not name {' or '.join(names)}: {error}")
        if not str(error.path).startswith(str(path)):
            raise WrongError(f"the error's path is {error.path}")

    def _judge_unchanged(self, path: Path) -> None:
        """Raise unless all files are as they were; a damaged `.lock` may be mended, and that noted."""
        after = _files(path)
        added = [name for name in after if name not in self.files and not name.endswith(("-lock.json", ".lock"))]
        mended = {".lock"}.intersection(self.changed)
        if added or any(after.get(name) != data for name, data in self.files.items() if name not in mended):
            raise WrongError(f"an error changed files: {_changes(self.files, after)}")

    # --- repaired

    def _repairer(self, path: Path) -> str:
        """Repair keeps what can be read, sets the rest aside, says so, and has nothing to do the second time."""
        error, done = _outcome(lambda: repair(path))
        if error is not None:
            if self.damage.kind not in _BY_HAND and not self.nothing_left:
                raise WrongError(f"repair: {error}")
            self._judge_error(path, error)
            self._judge_unchanged(path)
            return "refused repairs"
        entries = _read(self.sample.kind, path)
        after = _files(path)
        self._judge_left(entries)
        if done == [] and after != self.files and ".lock" not in self.changed:
            raise WrongError(f"repair said nothing of {_changes(self.files, after)}")
        _judge_asides(after, check(path))
        unsaid = [name for name in _asides(after) if name not in "\n".join(done) and not name.endswith("-lock.json")]
        if unsaid:
            raise WrongError(f"repair did not say that it set aside {unsaid}, but {done}")
        if self.damage.kind.startswith("a file"):  # few: the command takes longer than the repair
            with redirect_stdout(io.StringIO()) as said:
                main(["repair", str(path)])
            if "nothing to repair" not in said.getvalue():
                raise WrongError(f"the command repairs again: {said.getvalue()}")
        again = repair(path)
        if again or _files(path) != after:
            raise WrongError(f"repair again did {again}, {_changes(after, _files(path))}")
        with self.sample.kind(path) as pod:
            _go_on(pod)
        _judge_same(_read(self.sample.kind, path), _gone_on(self.sample.kind, path, entries))
        self._judge_kept(_files(path))
        return "repaired" if done else "in no need of repair"

    def _judge_left(self, entries: Entries) -> None:
        whole, left = self.sample.entries, self.left
        right = [whole, left]
        if self._head_is_bad:
            right.append({key: left[key] for key in entries if key in left})  # the order is that of the header
        if self._folded_twice:
            right.append({key: whole[key] for key in entries if key in whole})
        elif left.keys() - entries.keys():
            raise WrongError(f"after repair: {difference(entries, left)}")
        if plain.exactly(entries) not in map(plain.exactly, right):
            raise WrongError(f"after repair: {difference(entries, left)}")

    @property
    def _folded_twice(self) -> bool:
        """Whether what a dead fold wrote may stand for the current epoch, since nothing says any more that it is not it."""
        known = self.sample.known
        is_lost = ".lock" in self.changed or known.journal not in self.files
        return is_lost and any(plain.epoch_of(name) > known.epoch for name in self.sample.files)

    @property
    def _head_is_bad(self) -> bool:
        name = self.sample.known.journal
        return plain.lines_of(self.files.get(name, b""))[:1] != plain.lines_of(self.sample.files[name])[:1]

    def _judge_kept(self, after: Files) -> None:
        """Raise unless everything that the POD stood on and does not use lies in a file, after the folds that followed."""
        kept = _asides(after).values()
        for data in () if self._folded_twice else self.lost:
            if not any(data in one for one in kept):
                raise WrongError(f"thrown away: {data[:200]!r}")

    # --- damaged while it is open

    def _open(self, path: Path) -> str:
        """The next use raises or is right, and does not overwrite what is good."""
        kind = self.sample.kind
        pod = kind(path)
        with pod.transaction():
            pass  # from here on it knows under the lock what is there
        reader = kind(path, mode="r")
        _damage(path, self.sample.files, self.files)
        error, _ = _outcome(reader.refresh)
        self._judge_open(path, error, reader.copy())
        error, _ = _outcome(lambda: _go_on(pod))
        if error is not None:
            self._judge_open(path, error, self.sample.entries)
            self._judge_remains(_files(path))
            refused, _ = _outcome(pod.repair)
            if refused is None:
                self._judge_left({key: value for key, value in pod.items() if not str(key).startswith("probe")})
                _judge_same(_read(kind, path), pod.copy())
        else:
            right = self.sample.entries
            if self.reading and self.damage.kind == "a line of another POD":
                right = self.reading.entries  # nobody can see that
            found = pod.copy()  # as it had it, or with that line if it had to read that again
            if plain.exactly(found) != plain.exactly(_gone_on(kind, path, right)):
                _judge_same(found, _gone_on(kind, path, self.sample.entries))
            unreadable, entries = _outcome(lambda: _read(kind, path))
            if unreadable is None:  # what is not looked at, an untouched shard, may be damaged yet
                _judge_same(entries, _gone_on(kind, path, right))
        for one in (reader, pod):
            _outcome(one.close)
        return "errors while open" if error else "gone on with"

    def _judge_open(self, path: Path, error: TastypyError | None, entries: Entries) -> None:
        self._judge_entries(entries)
        if error is not None and not str(error.path).startswith(str(path)):
            raise WrongError(f"the error's path is {error.path}: {error}")

    def _judge_remains(self, after: Files) -> None:
        known, origin = self.sample.known, self.sample.files
        everything = b"".join(after.values())
        for name in known.shards:
            if self.files.get(name) == origin[name] and origin[name] != after.get(name):
                raise WrongError(f"{name} was good, and is not there any more")
        for line in plain.lines_of(self.files.get(known.journal, b"")):
            if plain.is_whole(line) and line not in everything:
                raise WrongError(f"a good line is not there any more: {line!r}")


def _outcome(call: Callable[[], Any]) -> tuple[TastypyError | None, Any]:
    """Return the error that the call raises, if it is one of ours, or what it returns."""
    try:
        return None, call()
    except TastypyError as error:
        return error, None


def _read(kind: type[POD[Any, Any]], path: Path) -> Entries:
    with kind(path, mode="r") as pod:
        return pod.copy()


def _files(path: Path) -> Files:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def _asides(files: Files) -> Files:
    return {name: data for name, data in files.items() if name.startswith("aside-")}


def _changes(before: Files, after: Files) -> list[str]:
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def _damage(path: Path, before: Files, after: Files) -> None:
    for name in _changes(before, after):
        if name in after:
            (path / name).write_bytes(after[name])  # in place: the file stays the one that is open
        else:
            (path / name).unlink()


def _judge_asides(files: Files, problems: list[str]) -> None:
    """Raise unless what was set aside is all that `check` finds."""
    asides = _asides(files)
    if len(problems) != len(asides) or not all(any(name in problem for problem in problems) for name in asides):
        raise WrongError(f"check finds {problems}, and {[*asides]} were set aside")


def _go_on(pod: POD[Any, Any]) -> None:
    """Commit, and fold, twice: what was not set aside is removed by then."""
    for number in (1, 2):
        if isinstance(pod, Tracker):
            pod.add(f"probe {number}")
        else:
            pod[f"probe {number}"] = number
        pod.sync()


def _gone_on(kind: type[POD[Any, Any]], path: Path, entries: Entries) -> Entries:
    """Return the entries after `_go_on`."""
    if kind is POD:
        return {**entries, "probe 1": 1, "probe 2": 2}
    with suppress(TastypyError):
        entries = {
            **entries,
            **{key: value for key, value in _read(kind, path).items() if key in ("probe 1", "probe 2")},
        }
    return entries


def _judge_same(found: Entries, wanted: Entries) -> None:
    if plain.exactly(found) != plain.exactly(wanted):
        raise WrongError(f"after the next writer: {difference(found, wanted)}")
