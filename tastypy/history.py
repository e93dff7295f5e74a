"""The batches of a directory in the order of their numbers, as far as its journals still have them, and those that come.

Seen from outside: without the lock, without a change, and without the entries in memory. What a batch means is left to
`happenings`.

A fold leaves the journal before its own, so what is read here goes back one or two folds. Who follows keeps the journal that
it reads open, where that is possible, and goes on with those that came after it: so a batch is missed only if three folds come
between two looks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from itertools import count
from typing import NamedTuple, Self

from tastypy import files
from tastypy import format as form
from tastypy.errors import PersistentOrderedDictIntegrityError, TastypyError, explained
from tastypy.reading import PAUSE, TRIES
from tastypy.store import Store


class Batch(NamedTuple):
    """A batch by its number, and the header of the journal that it was read from."""

    number: int
    record: form.Record
    header: form.Header


class Missing(NamedTuple):
    """The numbers of batches, from `first` to `last`, that no journal has any more."""

    first: int
    last: int


class Revoked(NamedTuple):
    """The number of a batch that was read before its writer, whose commit failed, took it back."""

    number: int


Event = Batch | Missing | Revoked


class _ReadAgainError(Exception):
    """A journal was removed, or is not whole; `final` is what to raise if it stays so."""

    def __init__(self, final: TastypyError) -> None:
        super().__init__(str(final))
        self.final = final


class History:
    """What was committed to a directory, and is.

    Args:
        path: of the directory, absolute.

    Raises:
        MissingPODError: there is none.
        And what `POD` raises when it is opened for reading.
    """

    def __init__(self, path: str) -> None:
        self.store = Store(path, writable=False)
        self._header: form.Header | None = None  # of the journal that was read last
        self._offset = self._seq = 0  # up to where, and the number of the last batch before that
        self._last = b""  # its line, which its writer may take back
        self._descriptor = -1  # of that journal, on local file systems, where it stays good after the file is removed
        self._told = -1  # the number of the last batch that was yielded; -1 before the first look
        self._stamp = ""  # of that one

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()
        self.store.close()

    def new(self) -> Iterator[Event]:
        """Yield what was committed since the last call, in order; at the first one, all that the journals have.

        Raises:
            PersistentOrderedDictIntegrityError: a file is damaged, and stays so when one looks again.
            DirectoryGoneError: the directory was removed or replaced.
        """
        for attempt in range(TRIES):
            try:
                with explained(self.store.path):
                    yield from self._new(attempt)
            except _ReadAgainError as error:
                last = error.final
                self.store.check_place()
                if attempt > 2:  # a fold that ran meanwhile needs no pause
                    time.sleep(PAUSE)
            else:
                return
        raise last

    def _new(self, attempt: int) -> Iterator[Event]:
        while True:
            # first: where it names a later journal than ours, ours was at its end before that was read
            epoch = self._epoch(attempt)
            header = self._header
            if header is not None:
                epoch = max(epoch, (yield from self._rest(header, current=epoch <= header.epoch)))
            before = header.epoch if header is not None else 0
            if epoch <= before:
                self.store.check_place()  # what is open tells nothing of what is there now by that name
                return
            chain = self._chain(epoch, before)
            for header, text in chain:
                self._begin(header)
                body = text[self._offset :]
                yield from self._take(header, body, current=header.epoch == epoch)
            self._keep_open(epoch)

    def _epoch(self, attempt: int) -> int:
        """Return the current epoch: what `.lock` says, or, where that was written late and its journal is gone, the journals."""
        store = self.store
        line = store.current(store.read_lock_line(locked=False), locked=False)
        if line.lock == form.LEASE and attempt:
            line = form.decode_lock_line(store.line_by_journals()) or line
        return line.epoch

    # --- from journal to journal

    def _chain(self, epoch: int, before: int) -> list[tuple[form.Header, bytes]]:
        """Return the journals that there are after the epoch `before`, up to `epoch`, each with its header."""
        chain: list[tuple[form.Header, bytes]] = []
        while epoch > before:
            try:
                chain.append(self.store.read_journal(epoch))
            except (OSError, PersistentOrderedDictIntegrityError) as error:
                if isinstance(error, OSError) and (
                    isinstance(error, TastypyError) or error.errno not in files.VANISHED
                ):
                    raise
                if chain:  # it was the last one before, and that goes, or was repaired
                    break
                raise self._again(epoch, f"cannot be read: {error}") from error
            epoch = chain[-1][0].before
        return chain[::-1]

    def _begin(self, header: form.Header) -> None:
        self._let_go()
        self._header = header
        self._offset, self._seq, self._last = len(header.encode()), header.seq, b""
        if self._told < 0:
            self._told = header.seq

    def _keep_open(self, epoch: int) -> None:
        if self.store.local:
            try:
                self._descriptor = files.open_to_read(self.store.file(files.journal_name(epoch)))
            except FileNotFoundError:  # the next look goes on with others
                return

    def _let_go(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    # --- within a journal

    def _rest(self, header: form.Header, *, current: bool) -> Generator[Event, None, int]:
        """Yield what the journal has now after what was read; return the epoch that it was sealed to, or 0."""
        skip = len(self._last)
        text = self._read(header, self._offset - skip)
        if text is None:
            if current:
                raise self._again(header.epoch, "is missing, though it must be there")
            return 0
        if text[:skip] == self._last:
            return (yield from self._take(header, text[skip:], current=current))
        self._offset, self._seq, self._last = len(header.encode()), header.seq, b""
        text = self._read(header, self._offset)
        if text is None:
            raise self._again(header.epoch, "is missing, though it must be there")
        there = form.read_lines(text, header.seq, leased=header.leased).seq
        if there < self._told:
            yield Revoked(self._told)
            self._told, self._stamp = there, ""
        return (yield from self._take(header, text, current=current))

    def _read(self, header: form.Header, offset: int) -> bytes | None:
        """Return the journal from an offset on, None if it is gone."""
        if self._descriptor >= 0:
            return files.read_from(self._descriptor, offset)
        try:
            return files.read_file(self.store.file(files.journal_name(header.epoch)), offset)
        except OSError as error:
            if error.errno in files.VANISHED:
                return None
            raise

    def _take(self, header: form.Header, text: bytes, *, current: bool) -> Generator[Event, None, int]:
        """Yield the batches in `text`, with which the journal goes on; return the epoch that it was sealed to, or 0."""
        lines = form.read_lines(text, self._seq, leased=header.leased)
        if current and lines.trouble not in ("", "torn"):  # an older one may be one that was repaired
            raise self._again(header.epoch, f"is not whole after batch {lines.seq} ({lines.trouble})")
        if self._seq > self._told:
            yield Missing(self._told + 1, self._seq)
            self._told = self._seq
        for number, record, line in zip(count(self._seq + 1), lines.records, lines.lines, strict=False):
            if number == self._told and form.stamp(line) != self._stamp and self._stamp:
                yield Revoked(number)
                self._told -= 1
            if number > self._told:
                self._told, self._stamp = number, form.stamp(line)
                yield Batch(number, record, header)
        if lines.length:
            self._last = text[lines.length - lines.last : lines.length]
        self._offset += lines.length
        self._seq = lines.seq
        return lines.seal

    def _again(self, epoch: int, what: str) -> _ReadAgainError:
        path = self.store.file(files.journal_name(epoch))
        return _ReadAgainError(PersistentOrderedDictIntegrityError(f"{path} {what}", path))
