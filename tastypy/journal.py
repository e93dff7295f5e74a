"""The journal of the epoch that a directory was read up to: its lines by their offsets, and its descriptor, where one may be kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tastypy import files
from tastypy import format as form
from tastypy.directory import Directory
from tastypy.errors import PersistentOrderedDictIntegrityError
from tastypy.reading import Position


class Journal(Directory):
    """A directory whose journal is read, and created.

    Attributes:
        path, id: of the directory.
        writable: whether it was opened to be changed.
        permissions: the bits of new files.
        header: of the journal.
    """

    _journal = -1  # here, for `__del__` after a Ctrl-C at the first instruction of what follows

    def __init__(self, path: str, *, writable: bool) -> None:
        self._journal = -1  # its descriptor, on local file systems; and its path and inode
        self._journal_path, self._inode = "", 0
        super().__init__(path)
        self.writable = writable
        self.permissions: int
        self.header: form.Header
        self._head = b""  # the header's line

    def __del__(self) -> None:
        self._close_journal()  # no I/O: what a file object does that is dropped

    def applied_lines(self, start: Position, here: Position, most: int | None = None) -> form.Lines:
        """Return batches that were applied, from one position to another in the journal, with the lock held.

        With `most` they are the first ones, that have about so many bytes.

        Raises:
            PersistentOrderedDictIntegrityError: they are not what they were.
        """
        if self._journal >= 0:
            self._check_head(self._journal)  # else `read_part` does
        size = here.offset - start.offset
        text = b""
        if most is not None and size > most:
            text = self.read_part(here.epoch, start.offset, most)
            text = text[: text.rfind(b"\n") + 1]
        part = bool(text)
        if not part:  # or a line is longer
            text = self.read_tail(here.epoch, start.offset)[:size]
        lines = form.read_lines(text, start.seq, leased=self.header.leased)
        if lines.trouble or lines.seal or (not part and (len(text) != size or lines.seq != here.seq)):
            path = self.file(files.journal_name(here.epoch))
            number = self.read_part(here.epoch, 0, start.offset + lines.length).count(b"\n") + 1
            message = (
                f"{path}, line {number}: damaged, though it was read before. Nothing was overwritten; "
                f"`tastypy repair {self.path}` sets the line aside and keeps the rest"
            )
            raise PersistentOrderedDictIntegrityError(message, path)
        return lines

    def read_tail(self, epoch: int, offset: int) -> bytes:
        """Return the journal of the position's epoch from an offset on."""
        if self._journal >= 0:
            return files.read_from(self._journal, offset)
        return self._read_once(epoch, lambda descriptor: files.read_from(descriptor, offset))

    def read_part(self, epoch: int, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from an offset of that journal on."""
        if self._journal >= 0:
            return files.read_at(self._journal, size, offset)
        return self._read_once(epoch, lambda descriptor: files.read_at(descriptor, size, offset))

    def _read_once(self, epoch: int, read: Callable[[int], bytes]) -> bytes:
        descriptor = files.open_to_read(self.file(files.journal_name(epoch)))
        try:
            self._check_head(descriptor)
            return read(descriptor)
        finally:
            os.close(descriptor)

    def _check_head(self, descriptor: int) -> None:
        """Raise if the journal, opened by its name, does not begin as the one that was read: the directory was replaced."""
        if files.read_at(descriptor, len(self._head), 0) != self._head:
            self.check_place()
            message = f"{self.file(files.journal_name(self.header.epoch))}, line 1: the header is not what it was"
            raise PersistentOrderedDictIntegrityError(message, self.path)

    def create_journal(self, epoch: int) -> tuple[int, int]:
        """Create the journal of the first free number from `epoch` on; return the number and the descriptor.

        Who creates it owns the number, for its shards too. Where it is there already, a fold died: its number is not used
        again, since another host may have seen the dead one's content under it.
        """
        while True:
            try:
                return epoch, files.create(self.file(files.journal_name(epoch)), self.permissions)
            except FileExistsError:
                epoch += 1

    def _open_journal(self, epoch: int) -> None:
        path = self.file(files.journal_name(epoch))
        try:
            self._journal = files.open_to_append(path) if self.writable else files.open_to_read(path)
        except FileNotFoundError:
            self.check_place()
            raise
        try:
            self._check_head(self._journal)
            self._journal_path, self._inode = path, files.inode_of(self._journal)
        except BaseException:
            self._close_journal()
            raise

    def _close_journal(self, close: Callable[[int], None] = os.close, quietly: Any = suppress(OSError)) -> None:  # noqa: B008 - bound
        """Close the journal; its arguments are bound for when the interpreter ends."""
        descriptor, self._journal = self._journal, -1
        with quietly:  # only on a local file system does it stay open, where closing says nothing of what was written
            if descriptor >= 0:
                close(descriptor)
