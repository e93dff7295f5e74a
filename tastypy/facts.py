"""What a directory is: its kind, figures, settings and mount, for `tastypy info`. How that is shown is left to the command."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from tastypy import by_hand
from tastypy import format as form
from tastypy.mounts import Mount, mount_at


@dataclass(frozen=True, slots=True)
class Facts:
    """What a look at a directory finds.

    Attributes:
        path: absolute.
        kind: "POD" or "tracker".
        entries: how many there are.
        shards, bytes: the files that hold them, and their size together.
        journal_bytes: of the current journal, with what is not in the shards yet.
        epoch: of the last fold.
        batches: how many were ever committed.
        id: of the directory, 16 random hexadecimal digits.
        format: the version of it.
        gzipped, shard_bytes, lock: the settings that it was created with.
        mount: what it lies on; None if the system does not tell.
    """

    path: str
    kind: str
    entries: int
    shards: int
    bytes: int
    journal_bytes: int
    epoch: int
    batches: int
    id: str
    format: int
    gzipped: bool
    shard_bytes: int
    lock: str
    mount: Mount | None

    def as_json(self) -> str:
        """Return it as a JSON object, in one line."""
        return orjson.dumps(self, default=lambda mount: {**mount._asdict(), "kind": mount.kind}).decode()


def facts(path: str) -> Facts:
    """Return what is to be said of the POD at `path`, without the lock and without a change.

    Raises:
        MissingPODError: there is none.
        And what `POD` raises.
    """
    with by_hand.opened(path) as pod:
        store = pod._store  # noqa: SLF001 - what is told here is no business of programs
        header = store.header
        return Facts(
            path=pod.path.encode(errors="backslashreplace").decode(),
            kind="tracker" if by_hand.is_tracker(pod) else "POD",
            **pod.stats()._asdict(),
            batches=store.seq,
            id=header.id,
            format=form.VERSION,
            gzipped=header.gzipped,
            shard_bytes=header.shard_bytes,
            lock=header.lock,
            mount=mount_at(pod.path),
        )
