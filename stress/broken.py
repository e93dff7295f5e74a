"""Break copies of the library, one change at a time, and see that each breakage is caught by a command of this directory.

A breakage is a patch: one text in one file that is replaced by another. The command that is to catch it runs on the broken copy
and has to end with exit status 1 and the word WRONG. Without --quick each command also runs on a copy that is not broken,
and has to find nothing there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from stress.command import Trial, WrongError, command

_ROOT = Path(__file__).parents[1]
_PATIENCE = 120  # seconds that a command may take


class Breakage(NamedTuple):
    """A change that must be caught: in a file of the package, `old` becomes `new`; and the command that catches it."""

    what: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]


_RECORDED = ("power", "--only", "recorder", "--quick", "--rounds", "12", "--seconds", "60", "--seed", "1")
_CLIENT = ("power", "--only", "client", "--quick", "--rounds", "12", "--seconds", "60", "--seed", "1")
_MODEL = ("model", "--quick", "--seconds", "20", "--seed", "3", "--only")
_DAMAGED = ("corruption", "--quick", "--seed", "1", "--only", "files")

BREAKAGES = {
    "fsync-shard": Breakage(
        "a shard is not on stable storage before the commit of a fold",
        "files.py",
        "            append(descriptor, data)\n            os.fsync(descriptor)\n",
        "            append(descriptor, data)\n",
        _RECORDED,
    ),
    "fsync-header": Breakage(
        "a header is not on stable storage before the commit of a fold",
        "files.py",
        "    append(descriptor, data)\n    os.fsync(descriptor)\n\n",
        "    append(descriptor, data)\n\n",
        _RECORDED,
    ),
    "fsync-names": Breakage(
        "the names of new files are not on stable storage before the commit of a fold",
        "folding.py",
        "        files.sync_directory(store.path)\n",
        "",
        _RECORDED,
    ),
    "removed-early": Breakage(
        "old files are removed before the commit of a fold",
        "folding.py",
        "        _commit(store, header, end, None if self._whole else _FILES)\n",
        "        store.header = header\n        clean(store)\n        _commit(store, header, end, None)\n",
        _RECORDED,
    ),
    "number-again": Breakage(
        "the number of a dead fold is used again",
        "journal.py",
        "files.create(self.file(files.journal_name(epoch)), self.permissions)",
        "os.open(self.file(files.journal_name(epoch)), os.O_RDWR | os.O_CREAT | os.O_APPEND, self.permissions)",
        ("crash", "--quick", "--seed", "1", "--only", "dead"),
    ),
    "lines-left": Breakage(
        "what is committed while a fold is under way is not in the next journal",
        "folding.py",
        "new.finish(self._here.seq, self._last, self._later)",
        "new.finish(now.seq, self._last, [])",
        (*_MODEL, "pods"),
    ),
    "position-first": Breakage(
        "the position is moved before the lines are applied",
        "following.py",
        "        try:\n            self._apply(news, changed)\n",
        "        try:\n            self._store.arrive(news)\n            self._apply(news, changed)\n",
        ("forks", "--quick", "--only", "points"),
    ),
    "lock-shared": Breakage(
        "the lock's descriptor is shared over a fork",
        "lock.py",
        "                os.close(self.descriptor)\n            self.descriptor = -1\n        self._reset()",
        "                pass\n        self._reset()",
        ("histories", "--quick", "--seed", "1", "--only", "pod"),
    ),
    "lock-dropped": Breakage(
        "a forked child unlocks what its parent has locked",
        "lock.py",
        "                os.close(self.descriptor)\n            self.descriptor = -1\n        self._reset()",
        "                flock(self.descriptor, LOCK_UN)\n                os.close(self.descriptor)\n"
        "            self.descriptor = -1\n        self._reset()",
        ("forks", "--quick", "--only", "forks"),
    ),
    "lock-never": Breakage(
        "the lock excludes nobody",
        "lock.py",
        "            return lock_descriptor(descriptor, blocking=False)",
        "            return True",
        ("histories", "--quick", "--seed", "1", "--only", "pod"),
    ),
    "torn-tail": Breakage(
        "the torn tail of a journal is not cut",
        "reading.py",
        "        files.cut(path, end)\n",
        "        pass\n",
        ("crash", "--quick", "--seed", "1", "--only", "cuts"),
    ),
    "fold-memory": Breakage(
        "a fold writes the objects in memory",
        "folding.py",
        "        for piece in merge(self._store, self._header, changes, order):\n",
        """        from tastypy import lifecycle, merging

        for memory in [pod for pod in lifecycle._open.values() if pod._store is self._store]:
            live = {merging.index_key(key): merging._entry(key, value) for key, value in dict.items(memory)}
            changes.put.update((name, live[name]) for name in changes.put if name in live)
        for piece in merge(self._store, self._header, changes, order):
""",
        (*_MODEL, "pods"),
    ),
    "not-closed": Breakage(
        "a change is acknowledged before `close` has returned",
        "store.py",
        "        files.close(descriptor)  # where a full disk is reported\n",
        "        # not closed\n",
        _CLIENT,
    ),
    "close-ignored": Breakage(
        "a change is acknowledged though `close` has failed",
        "store.py",
        "        files.close(descriptor)  # where a full disk is reported\n",
        "        try:\n            files.close(descriptor)\n        except OSError:\n            pass\n",
        _CLIENT,
    ),
    "crc-shard": Breakage(
        "the checksum of a shard is not looked at",
        "directory.py",
        "if len(data) != shard.size or form.crc_text(data) != shard.crc:",
        "if len(data) != shard.size:",
        _DAMAGED,
    ),
    "repair-deletes": Breakage(
        "repair deletes lines instead of setting them aside",
        "health.py",
        '        files.write_new(store.file(aside), b"".join(lost), store.permissions)\n',
        "",
        _DAMAGED,
    ),
    "links-followed": Breakage(
        "symbolic links are followed",
        "files.py",
        "os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK",
        "os.O_CLOEXEC | os.O_NONBLOCK",
        ("neighbours", "--only", "swapped", "planted", "--rounds", "1", "--seconds", "3", "--seed", "1"),
    ),
    "not-undone": Breakage(
        "memory keeps a change that a full disk has refused",
        "memory.py",
        "            self._roll_back(layer)\n        self._mend()",
        "            pass\n        self._mend()",
        ("full", "--only", "writers", "--seconds", "4", "--seed", "1"),
    ),
    "held-dropped": Breakage(
        "what is held is not written at SIGTERM",
        "lifecycle.py",
        '            pod._settle()\n        except Exception:\n            log.exception("%s: not everything could be written at s',
        '            pass\n        except Exception:\n            log.exception("%s: not everything could be written at s',
        ("long", "--quick"),
    ),
    "alive-dead": Breakage(
        "a worker that is alive is taken for dead",
        "workers.py",
        "    except OSError:\n        return True\n    return False",
        "    except OSError:\n        return False\n    return False",
        ("histories", "--quick", "--seed", "1", "--only", "tracker"),
    ),
    "figures": Breakage(
        "a tracker's figures do not follow what others change",
        "following.py",
        '                    noted.update(record.get("put", {}))\n',
        "",
        (*_MODEL, "trackers"),
    ),
    "wait-unfair": Breakage(
        "whoever waits longer than usual tries more and more seldom",
        "backoff.py",
        "            wait = usual * usual / lost  #",
        "            wait = waited  #",
        ("crowd", "--quick", "--seed", "1", "--only", "simulated"),
    ),
}


def broken(breakage: Breakage) -> str:
    """Return the text of the file as the breakage leaves it.

    Raises:
        WrongError: the file has changed, and what is to be replaced does not stand in it once.
    """
    text = (_ROOT / "tastypy" / breakage.file).read_text()
    if text.count(breakage.old) != 1:
        message = f"{breakage.file} has changed: it holds {text.count(breakage.old)} times {breakage.old!r}, not once"
        raise WrongError(message)
    return text.replace(breakage.old, breakage.new)


def _copy(place: Path, breakage: Breakage | None) -> Path:
    """Make a copy of the package and of these commands, broken or not."""
    for name in ("tastypy", "stress"):
        shutil.copytree(_ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    if breakage:
        (place / "tastypy" / breakage.file).write_text(broken(breakage))
    return place


def _run(place: Path, arguments: tuple[str, ...]) -> tuple[int, str]:
    """Run a command of the copy; return its exit status and what it printed."""
    scratch = place / "data"
    scratch.mkdir()
    module, *rest = arguments
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"stress.{module}", "--dir", str(scratch), *rest],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(place)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{' '.join(arguments)} has not ended after {_PATIENCE} s"
        raise WrongError(message) from error
    return done.returncode, done.stdout


def _judge(place: Path, breakage: Breakage) -> None:
    status, told = _run(_copy(place, breakage), breakage.caught_by)
    # Anywhere in a line: processes that are still writing their tracebacks to the same place break it as they like.
    if status != 1 or "WRONG (seed " not in told:
        message = f"{breakage.what}: not caught by {' '.join(breakage.caught_by)}, status {status}\n{told[-2000:]}"
        raise WrongError(message)


def _judge_sound(place: Path, arguments: tuple[str, ...]) -> None:
    status, told = _run(_copy(place, None), arguments)
    if status:
        message = (
            f"{' '.join(arguments)} finds something in a library that is not broken, status {status}\n{told[-2000:]}"
        )
        raise WrongError(message)


def _break_all(trial: Trial) -> None:
    wanted = [breakage for name, breakage in BREAKAGES.items() if trial.wants(name)]
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        with trial.part("broken on purpose") as figures:
            for _ in executor.map(_judge, [trial.path() for _ in wanted], wanted):
                figures["caught"] += 1
        if not trial.quick:
            commands = {one.caught_by for one in wanted}
            with trial.part("not broken") as figures:
                for _ in executor.map(_judge_sound, [trial.path() for _ in commands], commands):
                    figures["without a finding"] += 1


if __name__ == "__main__":
    sys.exit(command("broken", __doc__, _break_all, seconds=0, quick=0, parts=[*BREAKAGES]))
