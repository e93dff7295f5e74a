"""A directory's files by their names, each checked: shards, journals, and whether it is still the directory that was opened."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, NoReturn

from tastypy import files
from tastypy import format as form
from tastypy.changes import extend
from tastypy.errors import DirectoryGoneError, PersistentOrderedDictIntegrityError
from tastypy.reading import without_collector
from tastypy.shards import shard_dict, unpack

log = logging.getLogger("tastypy")


class Directory:
    """What needs no more of a directory than its path and its id.

    Attributes:
        path: absolute; id: the random id that the directory was given, "" before that is known.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.id: str = ""

    def file(self, name: str) -> str:
        """Return the path of a file of the directory."""
        return f"{self.path}/{name}"

    def load(self, header: form.Header, into: dict[Any, Any] | None = None) -> dict[Any, Any]:
        """Put the entries of all shards of the header into a dict, which is empty, and return it; on an error it is empty again."""
        entries: dict[Any, Any] = {} if into is None else into
        try:
            # each as soon as it is parsed: its keys and values are in the processor's cache then
            shards = (self._shard_dict(header, shard) for shard in header.shards)
            without_collector(partial(extend, entries, shards))
        except BaseException:
            dict.clear(entries)
            raise
        return entries

    def _shard_dict(self, header: form.Header, shard: form.Shard) -> dict[Any, Any]:
        text = self.read_shard(header, shard)
        try:
            return shard_dict(text)
        except ValueError as error:
            raise self._damaged_shard(header, shard, str(error)) from error

    def read_shard(self, header: form.Header, shard: form.Shard) -> bytes:
        """Return the text of a shard.

        Raises:
            PersistentOrderedDictIntegrityError: it is not what the header says.
        """
        return self.shard_text(header, shard, self.read_shard_file(header, shard))

    def read_shard_file(self, header: form.Header, shard: form.Shard) -> bytes:
        """Return the bytes of a shard's file; raises what `read_shard` does."""
        data = files.read_file(self.file(files.shard_name(shard.number, shard.epoch, gzipped=header.gzipped)))
        if len(data) != shard.size or form.crc_text(data) != shard.crc:
            what = f"{len(data)} bytes with CRC {form.crc_text(data)} instead of {shard.size} with {shard.crc}"
            raise self._damaged_shard(header, shard, what)
        return data

    def shard_text(self, header: form.Header, shard: form.Shard, data: bytes) -> bytes:
        """Return the text that the bytes of a shard's file stand for; raises what `read_shard` does."""
        if not header.gzipped:
            return data
        try:
            return unpack(data)
        except ValueError as error:
            raise self._damaged_shard(header, shard, str(error)) from error

    def _damaged_shard(self, header: form.Header, shard: form.Shard, what: str) -> PersistentOrderedDictIntegrityError:
        path = self.file(files.shard_name(shard.number, shard.epoch, gzipped=header.gzipped))
        message = (
            f"{path} is damaged: {what}. Nothing was overwritten; `tastypy repair {self.path}` sets it aside and keeps "
            "the rest"
        )
        return PersistentOrderedDictIntegrityError(message, path)

    def read_journal(self, epoch: int) -> tuple[form.Header, bytes]:
        """Return the header of a journal and all its text, the header included."""
        path = self.file(files.journal_name(epoch))
        text = files.read_file(path)
        header = form.decode_header(text[: text.find(b"\n") + 1], path)
        if header is None:
            message = f"{path}, line 1: the header is damaged; `tastypy repair {self.path}` keeps what can be read"
            raise PersistentOrderedDictIntegrityError(message, path)
        if header.id != self.id:
            self.check_place()
            message = f"{path} is of directory {header.id}, {files.LOCK} of {self.id}: one of them was put here by hand; remove that one"
            raise PersistentOrderedDictIntegrityError(message, path)
        if header.epoch != epoch:
            message = f"{path} is the journal of epoch {header.epoch}: it was put here by hand; remove it"
            raise PersistentOrderedDictIntegrityError(message, path)
        return header, text

    def check_place(self) -> None:
        """Raise DirectoryGoneError if the path leads to another directory than the one that was opened."""
        try:
            line = form.decode_lock_line(files.read_file(self.file(files.LOCK)))
        except (FileNotFoundError, NotADirectoryError):
            self._gone()
        except OSError as error:  # it cannot be told, and whatever is done next will say the same
            log.debug("%s: .lock cannot be read: %s", self.path, error)
            return
        if line is not None and self.id and line.id != self.id:  # it has none yet while it is being opened
            self._gone()

    def _gone(self) -> NoReturn:
        message = f"{self.path} was removed, moved or replaced while it was open: close this POD and open it again"
        raise DirectoryGoneError(message, self.path)
