"""Writers that share a POD on a disk whose power is cut: what they report outside, and what must and may be there afterwards.

A report says when a change was acknowledged, which number the POD's last batch had then, and up to which number all is on stable
storage. So all changes are in one order, and what is found must be those up to one of them: none missing before it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import struct
import time
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from stress.changes import Change, Entries, Writer
from stress.command import WrongError
from stress.judging import difference
from stress.power.remains import Found
from tastypy import POD, files
from tastypy.reading import Position
from tastypy.store import Store

_FORMAT = struct.Struct("dqq")
_PATIENCE = 30  # seconds after which a process is given up
_LARGE = 100_000  # bytes that set off a fold


class Steady(Writer):
    """One who never asks for stable storage, so that what is lost is what commits by themselves may lose."""

    def change(self, step: int, entries: Entries) -> Change:
        """Return its change number `step`, with these entries before it."""
        change = super().change(step, entries)
        if change.kind not in ("sync", "held") and len(str(change.put)) < _LARGE:
            return change
        return Change("set", put=((self.key(0), step),))


class Report(NamedTuple):
    """That a change was acknowledged: when (of `time.monotonic`), the last batch by then, and the last one that is stable for certain."""

    time: float
    seq: int
    stable: int


class Hand:
    """A writing process, and its part of the POD."""

    def __init__(self, writer: Writer, reports: Path) -> None:
        self.writer = writer
        self.step = 0
        self.entries: Entries = {}
        self._reports = reports
        self._process: ForkProcess | None = None

    def start(self, path: Path, options: dict[str, Any]) -> None:
        """Start changing the POD."""
        self._reports.write_bytes(b"")
        self._process = multiprocessing.get_context("fork").Process(
            target=self._work, args=(str(path), options), daemon=True
        )
        self._process.start()

    def _work(self, path: str, options: dict[str, Any]) -> None:
        logging.getLogger("tastypy").setLevel(logging.CRITICAL)  # it would say that the disk is gone
        report = os.open(self._reports, os.O_WRONLY | os.O_APPEND)
        entries = self.entries
        step = self.step
        append, sync = Store.append, files.sync
        flushes = synced = 0

        def counted(descriptor: int) -> None:
            nonlocal flushes
            sync(descriptor)
            flushes += 1

        def noted(store: Store, content: bytes, **how: Any) -> Position:
            nonlocal synced
            before = flushes
            position = append(store, content, **how)
            if flushes > before:
                synced = position.seq
            return position

        with mock.patch.object(files, "sync", counted), mock.patch.object(Store, "append", noted):
            pod = POD[str, Any](path, **options)
            while True:
                change = self.writer.change(step, entries)
                if change.kind == "sync":
                    synced = pod._store.seq  # what is known before it
                self.writer.commit(pod, change)
                # `seq` may be beyond that: of what others have committed meanwhile
                stable = max(synced, pod._store.header.seq)
                os.write(report, _FORMAT.pack(time.monotonic(), pod._store.seq, stable))  # the one order
                entries = change.apply(entries)
                step += 1

    def stop(self) -> None:
        """Stop the process where it is.

        It must not see its disk go: an fdatasync that a shutdown overtakes may succeed though nothing reached the disk (seen
        of ext4 and XFS, in Linux 6.18, with nothing but an append and an fdatasync in a loop), and be acknowledged.
        """
        if self._process is None or not self._process.is_alive():
            message = f"writer {self.writer.name} ended before the power was cut"
            raise WrongError(message)
        os.kill(self._process.pid or 0, signal.SIGSTOP)
        status = Path(f"/proc/{self._process.pid}/stat")
        end = time.monotonic() + _PATIENCE
        while status.read_text().rpartition(") ")[2][0] not in "TD":  # in a system call that waits, or stopped
            if time.monotonic() > end:
                message = f"writer {self.writer.name} cannot be stopped"
                raise WrongError(message)
            time.sleep(0.0005)

    def reports(self) -> list[Report]:
        """Return what it acknowledged."""
        return [Report(*one) for one in _FORMAT.iter_unpack(self._reports.read_bytes())]

    def kill(self) -> None:
        """Kill the process, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def judge(hands: list[Hand], reports: list[list[Report]], found: Found) -> None:
    """Raise unless what is found are the changes up to one that no promise lies behind; have the writers go on from there."""
    promised = max((one.stable for some in reports for one in some), default=0)
    if found.seq < promised:
        message = f"batch {promised} was on stable storage, the last one is {found.seq}"
        raise WrongError(message)
    for hand, some in zip(hands, reports, strict=True):
        there = sum(one.seq <= found.seq for one in some)
        least, most = hand.writer.states(hand.step, hand.entries, there)
        own = hand.writer.own(found.entries)
        hand.entries = least
        if there == len(some) and [*own.items()] != [*least.items()]:  # the one in flight
            hand.entries = most
            there += 1
        if [*own.items()] != [*hand.entries.items()]:
            message = (
                f"writer {hand.writer.name}, of {len(some)} changes from step {hand.step} on the {there} up to batch "
                f"{found.seq}: {difference(own, least)}"
            )
            raise WrongError(message)
        hand.step += there


def windows(reports: list[list[Report]], found: Found, cut: float) -> tuple[int, float]:
    """Return how many acknowledged changes are lost, and how many seconds before the cut the first of them was."""
    lost = [one.time for some in reports for one in some if one.seq > found.seq]
    return len(lost), cut - min(lost, default=cut)
