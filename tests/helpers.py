"""What tests ask of a POD's directory from outside, and the starting, hearing and ending of other processes."""

from __future__ import annotations

import contextlib
import gc
import gzip
import json
import os
import select
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tastypy import POD
from tastypy import format as form

PATIENCE = 60
"""Seconds after which a process that does not answer counts as hanging."""

Opener = Callable[..., POD[Any, Any]]

_started: list[subprocess.Popen[bytes]] = []


def files(directory: Path) -> dict[str, bytes]:
    """Every file of the directory with its bytes: what "the disk is as before" is compared with."""
    return {entry.name: entry.read_bytes() for entry in sorted(directory.iterdir())}


def stored(directory: Path | str) -> dict[Any, Any]:
    """What a reader that comes anew finds, in order."""
    with POD[Any, Any](directory, mode="r") as reader:
        return reader.copy()


def open_files() -> set[str]:
    """The files that this process has open, each with its descriptor; what earlier tests have left to the collector is closed."""
    gc.collect()
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # it was the directory's
            found.add(f"{descriptor} {os.readlink(f'/proc/self/fd/{descriptor}')}")
    return found


def exactly(mapping: Any) -> list[tuple[str, str]]:
    """Keys and values in order and so that 1, 1.0 and True differ."""
    return [(repr(key), repr(value)) for key, value in mapping.items()]


def journals(directory: Path) -> list[Path]:
    """The journals, the newest last."""
    return sorted(directory.glob("journal-*.jsonl"), key=lambda journal: int(journal.stem.partition("-")[2]))


def journal(directory: Path) -> Path:
    """The journal of the newest epoch."""
    return journals(directory)[-1]


def header_of(directory: Path | str) -> form.Header:
    """The header of the epoch that `.lock` names."""
    line = form.decode_lock_line((Path(directory) / ".lock").read_bytes())
    assert line is not None
    name = f"journal-{line.epoch}.jsonl"
    header = form.decode_header((Path(directory) / name).read_bytes().partition(b"\n")[0], name)
    assert header is not None
    return header


def batches(directory: Path) -> list[dict[str, Any]]:
    """The batch lines of the newest journal: without its header."""
    return [json.loads(line) for line in journal(directory).read_bytes().splitlines()[1:]]


def shards(directory: Path) -> list[Path]:
    """The shard files."""
    return sorted(
        entry for entry in directory.iterdir() if entry.name.endswith((".json", ".json.gz")) and entry.name[0].isdigit()
    )


def in_shards(directory: Path) -> dict[str, Any]:
    """The entries of all shard files, read with nothing but the standard library."""
    entries: dict[str, Any] = {}
    for shard in shards(directory):
        data = shard.read_bytes()
        entries.update(json.loads(gzip.decompress(data) if shard.suffix == ".gz" else data))
    return entries


def signed(rest: bytes) -> bytes:
    """A journal line with a valid crc around what follows the crc field: `"seq":1,…}`."""
    return b'{"crc":"%08x",%s\n' % (zlib.crc32(rest), rest)


def append(file: Path, data: bytes) -> None:
    """Add bytes to the end of a file, as a writer that died would have left them."""
    with file.open("ab") as end:
        end.write(data)


# A signal handler that raises, or a fork beside a thread, can hit coverage's own code while that holds its lock.
_NOT_MEASURED = {"interrupt_often", "count_until_terminated", "fork_while_committing"}


def start(name: str, *arguments: object, measured: bool = True, **options: Any) -> subprocess.Popen[bytes]:
    """Start a program of programs.py in a new interpreter; without coverage if it is not to be `measured`."""
    command = [sys.executable, str(Path(__file__).with_name("programs.py")), name, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if not measured or name in _NOT_MEASURED:
        environment = {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, **options)
    _started.append(process)
    return process


def end_all() -> None:
    """Kill what a failed test left running."""
    while _started:
        process = _started.pop()
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        process.wait()


def hear(process: subprocess.Popen[bytes], patience: float = PATIENCE) -> str:
    """The next line of a program, waited for no longer than `patience` seconds; an empty string when it has ended."""
    assert process.stdout is not None
    deadline = time.monotonic() + patience
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            process.kill()
            raise AssertionError(f"{process.args!r} said nothing for {patience} s after {line!r}")
        byte = os.read(process.stdout.fileno(), 1)
        if not byte:
            return ""
        line += byte
    return line.decode().rstrip("\n")


def tell(process: subprocess.Popen[bytes], line: str = "go") -> None:
    """Send a program one line."""
    assert process.stdin is not None
    process.stdin.write(line.encode() + b"\n")
    process.stdin.flush()


def end(process: subprocess.Popen[bytes], patience: float = PATIENCE) -> int:
    """Wait for a program's end, no longer than `patience` seconds; its status."""
    try:
        process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode


def run(name: str, *arguments: object, **options: Any) -> int:
    """Run a program of programs.py to its end; its status."""
    return end(start(name, *arguments, **options))


def wait_for_child(pid: int, patience: float = PATIENCE) -> int:
    """The status of a forked child, as `os.waitstatus_to_exitcode` has it; one that hangs is killed and reported."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    raise AssertionError(f"the forked child {pid} did not end within {patience} s")


def in_child(body: Callable[[], object], patience: float = PATIENCE) -> int:
    """Run `body` in a forked child that leaves without Python's exit; 0 when it returned, 1 with its traceback when not."""
    pid = os.fork()
    if pid == 0:  # pragma: no cover - the child ends without coverage's exit hook
        status = 1
        try:
            body()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    return wait_for_child(pid, patience)
