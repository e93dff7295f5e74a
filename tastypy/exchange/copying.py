"""A copy of a directory, as it is at one moment, while others write: read without the lock, and named when it is whole.

What is committed at a moment is what the shards of an epoch and the lines of its journal up to then say. Shards do not change
under their names, so they are copied as they are; where a fold removes one before that, one begins again with the new epoch,
and keeps those that are copied. Then the lines are merged into the copies, as a fold does it, and at last the header and `.lock`
are written. The copy has an id of its own: to whom the path of the original was open, and the copy is put there, it is another
directory, as it must be, since it may be older.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import orjson

from tastypy import files, merging
from tastypy import format as form
from tastypy.changes import Changes
from tastypy.directory import Directory
from tastypy.errors import DirectoryGoneError, PathTakenError, TastypyError, explained
from tastypy.exchange.places import refuse_inside_a_pod
from tastypy.exchange.rows import without_claim
from tastypy.reading import News
from tastypy.shards import entry_name, pack, shard_entries, shard_text
from tastypy.store import Store
from tastypy.values import loads

_CLAIM = b'"_claim":{'
_TRIES = 5  # how often the last line, which was read without the lock, is looked for again


def copy(
    path: str | os.PathLike[str], to: str | os.PathLike[str], *, identity: str = "", lock: str | None = None
) -> form.Header:
    """Copy the POD at `path` to a new directory; return the header of the copy.

    Args:
        path: of the original.
        to: of the copy: where nothing is, or an empty directory.
        identity: the id that the original must have, if that is known.
        lock: of the copy, if not that of the original.

    Raises:
        PathTakenError: something is at `to`.
        DirectoryGoneError: the original is another directory by now.
        And what a reader of the original raises.
    """
    if lock not in (form.FLOCK, form.LEASE, None):
        message = f'lock must be "flock" or "lease", not {lock!r}'
        raise ValueError(message)
    origin = files.absolute(path, "the path of a POD")
    target = os.path.realpath(files.absolute(to, "the path of a copy"))
    _refuse_taken(target)
    parent = os.path.dirname(target)
    with explained(target):
        refuse_inside_a_pod(target)
    # of a name so long that there is no room for more, a part tells enough
    temporary = f"{parent}/.{os.path.basename(target)[:200]}.{files.random_text(4)}.incomplete"
    source = _Original(origin, temporary, identity)
    try:
        with explained(target):
            files.make_directories(parent)
            files.make_directory(temporary, like=target if os.path.isdir(target) else origin)
            source.permissions = files.permissions_in(temporary)
        header = _finish(source, source.copied(), lock or source.header.lock)
        try:
            with explained(target):
                files.rename(temporary, target)
        except TastypyError:
            _refuse_taken(target)  # by now
            raise
    except BaseException:
        with suppress(OSError):
            files.remove_directory(temporary)
        raise
    finally:
        source.close()
    with explained(target):
        files.sync_directory(parent)
    return header


def _refuse_taken(target: str) -> None:
    with explained(target), suppress(FileNotFoundError, NotADirectoryError):
        if not os.path.lexists(target) or (os.path.isdir(target) and not os.listdir(target)):
            return
        message = f"{target} is there already: a copy goes where nothing is, or into an empty directory"
        raise PathTakenError(message, target)


class _Original(Store):
    """A directory whose shards go to another one as they are, where a reader would load them.

    Attributes:
        to: that directory.
        fetched: the names of the shards that are there; claimed: of those in which there may be claims of workers.
    """

    def __init__(self, path: str, to: str, identity: str) -> None:
        self.to = to
        self.fetched: set[str] = set()
        self.claimed: set[str] = set()
        super().__init__(path, writable=False)
        if identity not in ("", self.id):
            self.close()
            message = f"{path} was removed, moved or replaced while it was open: close this POD and open it again"
            raise DirectoryGoneError(message, path)

    def copied(self) -> News:
        """Return everything there is, once the shards are copied: the header that names them, and the batches after them."""
        news = self._arrived()
        for _ in range(_TRIES):
            # the writer of the last line may have failed, and cut it off again
            again = self.news(locked=False)
            if again is None or again.entries is None:
                break
            self.arrive(again)
            news = again
        return news

    def _arrived(self) -> News:
        news = self.news(locked=False)
        if news is None:
            message = "a store that has read nothing yet has news"
            raise RuntimeError(message)
        self.arrive(news)
        return news

    def load(self, header: form.Header, into: dict[Any, Any] | None = None) -> dict[Any, Any]:
        """Copy the shards that are not copied yet; return nothing of them."""
        for shard in header.shards:
            name = _name_of(header, shard)
            if name in self.fetched:
                continue
            data = self.read_shard_file(header, shard)
            with explained(self.to):
                descriptor = files.create(f"{self.to}/{name}", self.permissions)
                try:
                    files.append(descriptor, data)
                finally:
                    files.close(descriptor)
            self.fetched.add(name)
            if _CLAIM in self.shard_text(header, shard, data):
                self.claimed.add(name)
        return {} if into is None else into


def _finish(source: _Original, news: News, lock: str) -> form.Header:
    """Make a POD of the shards that were copied, and of the batches after them; return its header."""
    changes = Changes()
    for record in news.records:
        merging.add_record(changes, record)
    before = news.header
    epoch, free = before.epoch + 1, before.next
    to = Directory(source.to)
    shards: list[form.Shard] = []
    with explained(source.to):
        for shard, put in merging.merge(to, before, changes):
            entries = put
            if shard is not None and entries is None:
                name = _name_of(before, shard)
                if name not in source.claimed:
                    files.sync_file(to.file(name))
                    shards.append(shard)
                    continue
                entries = shard_entries(to.read_shard(before, shard))
            entries = [_released(entry) if _CLAIM in entry else entry for entry in entries or ()]
            number = free if shard is None else shard.number
            free = max(free, number + 1)
            text = shard_text(entries)
            data = pack(text) if before.gzipped else text
            new = form.Shard(number, epoch, len(entries), len(data), form.crc_text(data))
            files.write_new(to.file(_name_of(before, new)), data, source.permissions)
            shards.append(new)
        header = before._replace(
            id=files.random_text(8),
            epoch=epoch,
            before=0,
            seq=news.position.seq,
            next=free,
            shards=tuple(shards),
            last=(),
            lock=lock,
        )
        for name in source.fetched.difference(_name_of(header, shard) for shard in shards):
            files.remove(to.file(name))
        for name, line in ((files.journal_name(epoch), header.encode()), (files.LOCK, header.lock_line.encode())):
            descriptor = files.create(to.file(name), source.permissions)
            try:
                files.write_and_sync(descriptor, line)
            finally:
                files.close(descriptor)
        files.sync_directory(source.to)
    return header


def _name_of(header: form.Header, shard: form.Shard) -> str:
    return files.shard_name(shard.number, shard.epoch, gzipped=header.gzipped)


def _released(entry: bytes) -> bytes:
    """Return the entry of a shard without the claim of a worker."""
    name = entry_name(entry)
    value = loads(entry[len(name) + 1 :])
    free = without_claim(value)
    return entry if free is value else b"%b:%b" % (name, orjson.dumps(free))
