"""What a program does to its files, call by call, with the changes that it acknowledges: the record that `replay` works on.

The recorder stands where the modules that write have `os`. It does what it is asked to, and notes whatever changes a file, a
name, or what is on stable storage. It records one process; one that takes over from a dead one goes on with its record.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from tastypy import files, lock, store

SEQ = slice(17, 23)  # what stands there tells a batch from other lines


class Op(NamedTuple):
    """One thing that was done.

    Attributes:
        kind: "create" (of `name`), "mkdir", "rename" (of `name` `to`), "unlink"; "write" (of `data` at `number`), "cut" (at
            `number`), "sync", "close", of a file; "settle" (fsync of the directory `name`); "begin" of a change and "ack" of
            it, which makes `number` changes in all; "promise": so many are on stable storage.
        file: which one, by a number of its own, whatever its names are.
    """

    kind: str
    file: int = 0
    name: str = ""
    to: str = ""
    number: int = 0
    data: bytes = b""


class Recorder:
    """Put it where a module has `os`: everything is done by `os`, and recorded.

    Attributes:
        ops: the record; names: the files that there are below `root`, by number.
        late: how many closings had something to write; the one of number `refuse`, counted from 1, fails, and it is lost: so
            a network file system reports that it is full.
    """

    def __init__(self, root: Path, ops: list[Op], names: dict[str, int]) -> None:
        self.ops = ops
        self.names = names
        self.late = self.refuse = 0
        self._unwritten: dict[int, int] = {}  # files with something to be written at their close, and from where on
        self._root = root
        self._count = max([0, *(op.file for op in ops)])
        self._open: dict[int, int | str] = {}  # files to be written, directories by name; 0: what is only read

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _name(self, path: str) -> str:
        return os.path.relpath(path, self._root)

    def open(self, path: str, flags: int, *mode: int) -> int:
        """Open a file; what is created here is new."""
        name = self._name(path)
        new = bool(flags & os.O_CREAT) and name not in self.names
        descriptor = os.open(path, flags, *mode)
        if new:
            self._count += 1
            self.names[name] = self._count
            self.ops.append(Op("create", self._count, name))
        if flags & os.O_DIRECTORY:
            self._open[descriptor] = name
        else:
            self._open[descriptor] = self.names.get(name, 0) if flags & os.O_RDWR else 0
        return descriptor

    def mkdir(self, path: str) -> None:
        """Create a directory."""
        Path(path).mkdir()
        self.ops.append(Op("mkdir", name=self._name(path)))

    def rename(self, path: str, to: str) -> None:
        """Give a file another name."""
        Path(path).rename(to)
        file = self.names.pop(self._name(path))
        self.names[self._name(to)] = file
        self.ops.append(Op("rename", file, self._name(path), self._name(to)))

    def unlink(self, path: str) -> None:
        """Remove a file."""
        Path(path).unlink()
        name = self._name(path)
        self.ops.append(Op("unlink", self.names.pop(name), name))

    def write(self, descriptor: int, data: bytes) -> int:
        """Append; nothing here is ever written otherwise but by `pwrite`."""
        offset = os.fstat(descriptor).st_size
        self._unwritten.setdefault(self._file(descriptor), offset)
        written = os.write(descriptor, data)
        self.ops.append(Op("write", self._file(descriptor), number=offset, data=data[:written]))
        return written

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        """Write at an offset."""
        written = os.pwrite(descriptor, data, offset)
        self.ops.append(Op("write", self._file(descriptor), number=offset, data=data[:written]))
        return written

    def ftruncate(self, descriptor: int, offset: int) -> None:
        """Cut a file off."""
        os.ftruncate(descriptor, offset)
        self.ops.append(Op("cut", self._file(descriptor), number=offset))

    def fsync(self, descriptor: int) -> None:
        """Note that a file, or a directory, is on stable storage; it need not get there."""
        file = self._open[descriptor]
        if isinstance(file, int):
            self._unwritten.pop(file, None)
        self.ops.append(Op("settle", name=file) if isinstance(file, str) else Op("sync", file))

    def fdatasync(self, descriptor: int) -> None:
        """Note that a file is on stable storage, size included."""
        self._unwritten.pop(self._file(descriptor), None)
        self.ops.append(Op("sync", self._file(descriptor)))

    def close(self, descriptor: int) -> None:
        """Close a file."""
        file = self._open.pop(descriptor, 0)
        if not file or isinstance(file, str):
            os.close(descriptor)
            return
        begin = self._unwritten.pop(file, None)
        if begin is not None:
            self.late += 1
            if self.late == self.refuse:
                os.ftruncate(descriptor, begin)
                os.close(descriptor)
                raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        os.close(descriptor)
        self.ops.append(Op("close", file))

    def _file(self, descriptor: int) -> int:
        file = self._open[descriptor]
        if not file or isinstance(file, str):
            message = f"descriptor {descriptor} is of no file that was recorded"
            raise RuntimeError(message)
        return file

    # --- what the program says

    def begin(self, number: int) -> None:
        """Note that the change begins that makes them `number`."""
        self.ops.append(Op("begin", number=number))

    def acknowledge(self, number: int, *, stable: bool) -> None:
        """Note that there are `number` changes, and whether they are promised to be on stable storage.

        They are, too, where the last batch was followed by an fdatasync, of its journal or of a fold.
        """
        begin = max(at for at, op in enumerate(self.ops) if op.kind == "begin")
        line = max((at for at, op in enumerate(self.ops) if op.data[SEQ] == b'"seq":'), default=-1)
        if line > begin:
            lock = next(file for name, file in self.names.items() if Path(name).name == files.LOCK)
            stable |= any(op.kind == "sync" and op.file in (self.ops[line].file, lock) for op in self.ops[line:])
        self.ops.append(Op("ack", number=number))
        if stable:
            self.ops.append(Op("promise", number=number))


@contextmanager
def recorded(recorder: Recorder, *, remote: bool) -> Iterator[None]:
    """Let it record what is done in here, on what is taken for a network file system if `remote`."""
    with ExitStack() as stack:
        for module in (files, lock, store):  # the last two close what the first one opened
            stack.enter_context(mock.patch.object(module, "os", recorder))
        if remote:
            stack.enter_context(mock.patch.object(files, "is_local", return_value=False))
        yield
