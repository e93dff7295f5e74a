"""`tastypy demo`: processes share one POD, one of them is killed, and the work goes on from what is stored.

The core of it, without the show, is `docs/examples/checksums.py`. Here are the show (a progress bar, a kill, a table)
and the distrust: what the workers reported must be there after the crash, and a sample is computed again by other means.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import shlex
import shutil
import signal
import stat
import sys
import sysconfig
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import quote

from tastypy import POD, NotAPODError

Key = str | tuple[str, str]
Entry = dict[str, Any]

_CHUNK = 1 << 20
_SAMPLE = 200
_DIED = "A worker died that this program has not killed. What was done is stored."


class File(NamedTuple):
    """A file to read: its path, and what tells whether an entry is about its present content and permissions."""

    path: str
    size: int
    ctime_ns: int


class Tree(NamedTuple):
    """The files below a directory by their keys, how many things are no files, and the directories that cannot be read."""

    files: dict[Key, File]
    special: int
    closed: list[str]


class Crash(NamedTuple):
    """What a run reported before it broke down: the keys that were acknowledged, and the worker that was killed, or 0."""

    acknowledged: set[Key]
    killed: int


def demo(directory: str | None, pod_path: str | None, workers: int | None) -> bool:
    """Run the demonstration, print what happens, and return whether everything was found to be right.

    Raises:
        OSError: there is nothing to read at `directory`.
        TastypyError: the POD cannot be opened or written, or has other things in it.
    """
    root = os.path.abspath(directory or sysconfig.get_path("stdlib"))
    if not os.path.isdir(root):
        raise NotADirectoryError(f"{root} is not a directory")
    # What is installed, and the caches that running programs write, is not the standard library.
    pod_path = os.path.abspath(pod_path) if pod_path else None
    tree = list_files(root, pod_path, () if directory else ("site-packages", "dist-packages", "__pycache__"))
    if not tree.files:
        raise FileNotFoundError(f"there is no file to read below {root}")
    pod_path = pod_path or os.path.join(tempfile.mkdtemp(prefix="tastypy-demo-"), "checksums.pod")
    _say(f"{len(tree.files):,} files below {root}")
    if tree.special:
        _say(f"left out: pipes, sockets or devices, {tree.special:,} in all")
    if tree.closed:
        _say(f"left out: directories that cannot be read, {len(tree.closed):,} in all, the first is {tree.closed[0]}")
    try:
        right = _work(tree, pod_path, workers or max(2, min(8, os.cpu_count() or 2))) and _verify(tree, pod_path)
    except KeyboardInterrupt:
        again = shlex.join(
            [sys.executable, "-m", "tastypy", "demo", *([directory] if directory else []), "--pod", pod_path]
        )
        _say(f"\nStopped. What was done is stored; to go on:\n  {again}")
        raise
    _say_what_was_done(pod_path)
    return right


# --- the work


def list_files(root: str, pod_path: str | None, skip: tuple[str, ...] = ()) -> Tree:
    """Return the files below `root`, without those of the POD and without directories that have a name in `skip`."""
    tree = Tree({}, 0, [])
    special = 0
    for folder, folders, names in os.walk(root, onerror=lambda error: tree.closed.append(error.filename)):
        folders[:] = sorted(name for name in folders if name not in skip and os.path.join(folder, name) != pod_path)
        for name in sorted(names):
            path = os.path.join(folder, name)
            try:
                status = os.stat(path)
            except OSError:  # a link to nothing, say: its entry will tell
                tree.files[key_of(path)] = File(path, 0, 0)
                continue
            if stat.S_ISREG(status.st_mode):
                tree.files[key_of(path)] = File(path, status.st_size, status.st_ctime_ns)
            else:
                special += 1
    return tree._replace(special=special)


def key_of(path: str) -> Key:
    """Return the key for a path: itself, or ("bytes", percent-encoded) if it is not UTF-8, which no JSON can hold."""
    raw = os.fsencode(path)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return ("bytes", quote(raw))


def describe(file: File) -> Entry:
    """Return the entry for a file: SHA-256 and number of newlines, or why it cannot be read."""
    entry: Entry = {"bytes": file.size, "ctime_ns": file.ctime_ns}
    try:
        with open(file.path, "rb") as stream:
            digest, lines = hashlib.sha256(), 0
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                lines += chunk.count(b"\n")
    except OSError as error:
        return entry | {"error": error.strerror or type(error).__name__}
    return entry | {"sha256": digest.hexdigest(), "lines": lines}


def _end_with_parent() -> None:
    """End this worker when its parent is killed; the pool would let it wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Worker:
    """What a worker process has open: set once by `start`, which the pool calls in each of its processes."""

    pod: POD[Key, Entry]
    run: int

    @classmethod
    def start(cls, pod_path: str, run: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which lets us end what we have begun
        threading.Thread(target=_end_with_parent, daemon=True).start()
        cls.pod = POD(pod_path)
        cls.run = run

    @classmethod
    def work(cls, key: Key, file: File) -> tuple[Key, int]:
        """Store the entry of one file. It is on disk when this returns."""
        cls.pod[key] = describe(file) | {"run": cls.run, "worker": os.getpid()}
        return key, os.getpid()


def _work(tree: Tree, pod_path: str, workers: int) -> bool:
    """Do what is missing: first with a worker that gets killed on the way, then to the end."""
    with POD[Key, Any](pod_path) as pod:
        if any(not isinstance(entry, dict) or "run" not in entry for entry in pod.values()):
            raise NotAPODError(
                f"{pod_path} has other things in it than results of this demo: choose another path", pod_path
            )
        run = 1 + max((entry["run"] for entry in pod.values()), default=0)
        todo = _missing(tree, pod)
        if pod:
            _say(f"{len(tree.files) - len(todo):,} of them are in {pod_path} already")
    if not todo:
        return True
    _say(f"\nrun {run}: {len(todo):,} files to do, {workers} workers")
    crash = _run(run, tree, todo, pod_path, workers, kill_after=max(1, len(todo) // 3))
    with POD[Key, Entry](pod_path) as pod:
        lost = crash.acknowledged - set(pod)
        todo = _missing(tree, pod)
        stored = sum(entry["run"] == run for entry in pod.values())
    if not crash.killed:
        _say(_DIED)
        return False
    _say(f"worker {crash.killed} was killed with SIGKILL, and the whole pool stopped with it")
    _say(f"{len(crash.acknowledged):,} results had been reported by then, {len(lost):,} of them are lost")
    _say(f"\nrun {run + 1}: {stored:,} results of run {run} are stored, {len(todo):,} files to do")
    rest = _run(run + 1, tree, todo, pod_path, workers)
    if len(rest.acknowledged) < len(todo):
        _say(_DIED)
    return not lost and len(rest.acknowledged) == len(todo)


def _missing(tree: Tree, pod: POD[Key, Entry]) -> list[Key]:
    """Return the keys of the files that have no entry, or have changed since it was made."""
    return [
        key
        for key, file in tree.files.items()
        if key not in pod or (pod[key]["bytes"], pod[key]["ctime_ns"]) != (file.size, file.ctime_ns)
    ]


def _run(run: int, tree: Tree, todo: list[Key], pod_path: str, workers: int, kill_after: int = 0) -> Crash:
    """Do `todo`, or that much of it that is done when a worker dies; kill one after `kill_after` files, if that is not 0."""
    acknowledged: set[Key] = set()
    killed = 0
    keys = iter(todo)
    progress = _Progress(len(todo))
    try:
        with ProcessPoolExecutor(workers, initializer=_Worker.start, initargs=(pod_path, run)) as pool:
            # A few tasks ahead, so that nobody waits; not all of them, so that the kill finds work that is not begun.
            waiting = {pool.submit(_Worker.work, key, tree.files[key]) for key in islice(keys, 4 * workers)}
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    key, pid = future.result()
                    acknowledged.add(key)
                    progress.show(len(acknowledged))
                if kill_after and not killed and len(acknowledged) >= kill_after:
                    killed = _kill(pid)
                    keys = iter(())
                waiting.update(pool.submit(_Worker.work, key, tree.files[key]) for key in islice(keys, len(done)))
            if killed:
                # It had nothing in hand, and the pool has not noticed. But it may have had the lock of the pool's queue,
                # for which the other workers would wait for ever, and the pool for them.
                for process in multiprocessing.active_children():
                    process.kill()
    except BrokenProcessPool:
        pass
    progress.end()
    return Crash(acknowledged, killed)


def _kill(pid: int) -> int:
    """Kill that worker of ours at once, as the system does when memory runs out."""
    for process in multiprocessing.active_children():
        if process.pid == pid:
            process.kill()
    return pid


# --- the verification


def _verify(tree: Tree, pod_path: str) -> bool:
    """Look for every file's entry in what is on disk, and compute a sample of them again by other means."""
    with POD[Key, Entry](pod_path) as pod:
        pod.sync()  # so that everything lies in plain shards, for whoever wants to look at it
    with POD[Key, Entry](pod_path, mode="r") as pod:
        problems = pod.check()
        absent = [key for key in tree.files if key not in pod]
        readable = [key for key in tree.files if "sha256" in pod.get(key, {})]
        wrong, changed = [], 0
        sample = random.sample(readable, min(_SAMPLE, len(readable)))
        for key in sample:
            entry, again = pod[key], _recompute(tree.files[key])
            if again is None:
                changed += 1
            elif again != (entry["sha256"], entry["lines"]):
                wrong.append(key)
    _say("\nverification")
    _say(f"  files with an entry           {len(tree.files) - len(absent):,} of {len(tree.files):,}")
    _say(f"  files that cannot be read     {len(tree.files) - len(absent) - len(readable):,} (their entries say why)")
    _say(f"  sample, computed again        {len(sample) - len(wrong) - changed:,} of {len(sample):,} agree")
    if changed:
        _say(f"  sample, changed since         {changed:,}")
    _say(f"  problems found by a check     {len(problems):,}")
    for text in [*map(str, problems), *(f"no entry for {key}" for key in absent), *(f"wrong: {key}" for key in wrong)]:
        _say(f"  {text}")
    return not (problems or absent or wrong)


def _recompute(file: File) -> tuple[str, int] | None:
    """Return SHA-256 and number of lines, computed in another way than by `describe`; None if the file has changed."""
    try:
        with open(file.path, "rb") as stream:
            status = os.fstat(stream.fileno())
            if (status.st_size, status.st_ctime_ns) != (file.size, file.ctime_ns):
                return None
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            return digest, sum(piece.endswith(b"\n") for piece in iter(lambda: stream.readline(_CHUNK), b""))
    except OSError:
        return None


# --- what the user sees


def _say_what_was_done(pod_path: str) -> None:
    with POD[Key, Entry](pod_path, mode="r") as pod:
        done = Counter((entry["run"], entry["worker"]) for entry in pod.values())
    _say("\n   run    worker     files")
    for (run, worker), count in sorted(done.items()):
        _say(f"{run:6} {worker:9} {count:9,}")
    path, python = shlex.quote(pod_path), shlex.quote(sys.executable)
    code = f'import tastypy; pod = tastypy.POD({json.dumps(pod_path)}, "r"); print(sum("sha256" in e for e in pod.values()))'
    _say(f"\nThe POD: {path}\nLook at it:")
    _say(f"  ls -A {path}")
    _say(f"  head -n 3 {path}/0000-*.json")
    if shutil.which("jq"):
        _say(f"  jq -s 'map(length) | add' {path}/*.json")
        _say(f"""  jq -r 'to_entries[] | "\\(.value.lines) \\(.key)"' {path}/*.json | sort -n | tail -n 3""")
    _say(f"  {python} -c {shlex.quote(code)}")
    _say(f"  {python} -m tastypy check {path}")
    _say(f"The same command with --pod {path} does only what has changed.")


class _Progress:
    """How many of `total` are done: a bar that is drawn again on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._terminal = sys.stdout.isatty()
        self._done = 0
        self._next = 0.0 if self._terminal else time.monotonic() + 2

    def show(self, done: int) -> None:
        self._done = done
        if time.monotonic() >= self._next:
            self._draw()
            self._next = time.monotonic() + (0.1 if self._terminal else 2)

    def end(self) -> None:
        self._draw()
        if self._terminal:
            _say("")

    def _draw(self) -> None:
        count = f"{self._done:,} of {self._total:,}"
        if not self._terminal:
            _say(f"  {count}")
            return
        width = max(10, min(60, shutil.get_terminal_size().columns - len(count) - 8))
        full = width * self._done // max(1, self._total)
        sys.stdout.write(f"\r  [{'#' * full}{'.' * (width - full)}] {count} ")
        sys.stdout.flush()


def _say(text: str) -> None:
    print(text, flush=True)
