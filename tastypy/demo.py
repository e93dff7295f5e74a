"""`tastypy demo`: workers share one tracker, one of them is killed, and the work goes on from what is stored.

The core of it, without the show, is `docs/examples/checksums.py`. Here are a kill on the way, and the distrust: every file
must have its result at the end, and a sample of them is computed again by other means.
"""

from __future__ import annotations

import hashlib
import os
import random
import shlex
import signal
import stat
import sys
import sysconfig
import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from tastypy import Tracker

Key = str | tuple[str, str]  # a path, or ("bytes", percent-encoded) if it is not UTF-8, which no JSON can hold
Stamp = list[int] | None  # size and ctime in ns; None if it cannot be read


def demo(directory: str | None, path: str | None, workers: int | None) -> bool:
    """Run the demonstration, print what happens, and return whether everything was found to be right.

    Raises OSError if there is nothing to read at `directory`, and TastypyError if there cannot be a tracker at `path`.
    """
    root = os.path.abspath(directory or sysconfig.get_path("stdlib"))
    path = os.path.abspath(path or os.path.join(tempfile.mkdtemp(prefix="tastypy-demo-"), "checksums.tracker"))
    # What is installed, and the caches that running programs write, is not the standard library.
    files = list_files(root, path, () if directory else ("site-packages", "dist-packages", "__pycache__"))
    try:
        with Tracker[Key](path, max_tries=3) as tracker, tempfile.TemporaryDirectory() as scratch:
            todo = add(tracker, files)
            print(f"{len(files):,} files below {root}, {len(todo):,} of them to do, in {path}", flush=True)
            victim = todo[len(todo) // 3] if todo else None  # the worker that gets this one first kills itself
            summary = tracker.run(partial(describe, victim, f"{scratch}/killed"), workers=workers)
            print(f"{summary.done:,} done in {summary.seconds:.1f} s, {summary.failed:,} failed")
            print(
                f"{victim!r} was tried {tracker.tries(victim)} times" if victim else "nothing has changed", flush=True
            )
            tracker.sync()  # so that everything lies in plain shards, for whoever wants to look at it
            right = verify(tracker, files)
    except KeyboardInterrupt:
        again = [sys.executable, "-m", "tastypy", "demo", *([directory] if directory else []), "--pod", path]
        print(f"\nStopped. What was done is stored; to go on:\n  {shlex.join(again)}", flush=True)
        raise
    there, command = shlex.quote(path), f"{shlex.quote(sys.executable)} -m tastypy"
    print(f"\nLook at it:\n  ls -A {there}\n  head -n 3 {there}/0000-*.json\n  {command} status {there}", flush=True)
    return right


def add(tracker: Tracker[Key], files: dict[Key, Stamp]) -> list[Key]:
    """Add the files that are new, or have changed, and return all that are to be read."""
    stamps = {key: entry.get("result", {}).get("stamp", ()) for key, entry in tracker.items()}
    tracker.update({key: {"_done": False, "_tries": 0} for key in files if stamps.get(key, ()) != files[key]})
    return [key for key in tracker.todo_keys() if key in files]


def list_files(root: str, path: str, skip: tuple[str, ...]) -> dict[Key, Stamp]:
    """Return the files below `root`, without those below `path` and in directories that have a name in `skip`."""
    if not os.path.isdir(root):
        raise NotADirectoryError(f"{root} is not a directory")
    files: dict[Key, Stamp] = {}
    for folder, folders, names in os.walk(root, onerror=lambda error: print(f"left out: {error}")):
        folders[:] = sorted(name for name in folders if name not in skip and os.path.join(folder, name) != path)
        for file in [os.path.join(folder, name) for name in sorted(names)]:
            if os.path.exists(file) and not stat.S_ISREG(os.stat(file).st_mode):
                print(f"left out: {file!r} is no file")
            else:
                raw = os.fsencode(file)
                files[file if raw.decode(errors="ignore").encode() == raw else ("bytes", quote(raw))] = stamp_of(file)
    if not files:
        raise FileNotFoundError(f"there is no file to read below {root}")
    return files


def stamp_of(path: str) -> Stamp:
    """Return what tells whether a file has changed."""
    return [os.stat(path).st_size, os.stat(path).st_ctime_ns] if os.access(path, os.R_OK) else None


def path_of(key: Key) -> str:
    """Return the path of a file."""
    return key if isinstance(key, str) else unquote(key[1], errors="surrogateescape")


def describe(victim: Key | None, killed: str, key: Key) -> dict[str, Any]:
    """Return SHA-256 and number of newlines of a file, or why it cannot be read; the first who gets `victim` is killed."""
    if key == victim and not os.path.exists(killed):
        with open(killed, "x"):
            os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out
    try:
        with open(path_of(key), "rb") as stream:
            digest, lines = hashlib.sha256(), 0
            for chunk in iter(partial(stream.read, 1 << 20), b""):
                digest.update(chunk)
                lines += chunk.count(b"\n")
            return {"stamp": stamp_of(path_of(key)), "sha256": digest.hexdigest(), "lines": lines}
    except OSError as error:
        return {"stamp": None, "error": error.strerror}


def verify(tracker: Tracker[Key], files: dict[Key, Stamp]) -> bool:
    """Look for every file's result, and compute a sample of them again by other means."""
    problems = [*tracker.check(), *(f"not done: {key}" for key in files if not tracker.done(key))]
    good = [key for key in files if "sha256" in tracker[key].get("result", {}) and stamp_of(path_of(key)) == files[key]]
    sample = random.sample(good, min(200, len(good)))
    for key in sample:
        data = Path(path_of(key)).read_bytes()
        again = {"sha256": hashlib.sha256(data).hexdigest(), "lines": len(data.split(b"\n")) - 1}
        if not again.items() <= tracker[key]["result"].items():
            problems.append(f"wrong: {path_of(key)}")
    print(f"{len(sample)} of them were computed again by other means; {len(problems)} problems", *problems, sep="\n  ")
    return not problems
