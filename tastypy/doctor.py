"""`tastypy doctor`: whether a directory's file system can carry PODs, for this host or for many, and if not, what to change.

What the system says about the mount is in `mounts`, what is tried out in `examination`. Here it becomes a verdict:

    good        tried out, and everything was right
    unproven    nothing is wrong, but whether two hosts can share PODs there takes two hosts to see
    bad         PODs are not safe there, or do not work; the reasons and what to change are named
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tastypy import __version__, files, mounts
from tastypy.dialogue import Dialogue, Room, identity_of_host, is_gone
from tastypy.errors import PeerError, StorageError, explained
from tastypy.examination import Examination, examine_alone
from tastypy.findings import Findings, in_milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD, UNPROVEN, BAD = "good", "unproven", "bad"
_SILENCE = 20.0  # seconds after which the other side counts as dead
_LITTLE = 1 << 20  # bytes
_FEW_TURNS, _FEW_LOOKS = 10, 4  # with less of them nothing is proved


class Side(NamedTuple):
    """What one side knows about its host and its mount.

    Attributes:
        host: its name, and `boot`, which tells one boot of one host from all others.
        device: of the directory; two mounts have two.
        flock: what is wrong with locks between processes of that host; empty if they work.
        free: bytes for new files.
    """

    version: str
    host: str
    boot: str
    path: str
    mount: mounts.Mount | None
    device: int
    flock: str
    free: int

    @property
    def kind(self) -> str:
        """Whether only this host sees what is there: local, network or unknown."""
        return self.mount.kind if self.mount else "unknown"

    def remarks(self) -> list[mounts.Remark]:
        """Return what is to be said about the mount."""
        return mounts.remarks(self.mount) if self.mount else []

    def as_dict(self) -> dict[str, Any]:
        """Return it for a message or a report."""
        return {**self._asdict(), "mount": self.mount._asdict() if self.mount else None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Side:
        """Return what `as_dict` made a message of."""
        mount = values["mount"]
        return cls(
            **{**values, "mount": mounts.Mount(**{**mount, "options": tuple(mount["options"])}) if mount else None}
        )


@dataclass
class Report:
    """What was found, and what follows from it.

    Attributes:
        code: of the examination by two; None of one alone.
        other: the other side of it.
        findings: what both saw in it; None if it was not worth while.
        verdict: good, unproven or bad; `reasons` for it, and `remedies`: what to change, or to do next.
        notes: what is good to know, but changes nothing.
    """

    side: Side
    other: Side | None = None
    code: str | None = None
    findings: Findings | None = None
    verdict: str = GOOD
    reasons: list[str] = field(default_factory=list)
    remedies: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        """Return all of it as one object in one line."""
        found = self.findings
        measured = found and {
            "exclusion": {
                **{name: getattr(found, name) for name in ("attempts", "let_in", "turns", "met")},
                "counts_lost": found.lost,
            },
            "freshness": {
                **{name: getattr(found, name) for name in ("looks", "old_growth", "old_locked", "old_names")},
            },
            "release_ms": [None if seconds < 0 else round(seconds * 1000, 1) for seconds in found.releases],
            "commit_ms": {"alone": in_milliseconds(found.alone), "together": in_milliseconds(found.together)},
            "commits_lost": found.lost_commits,
            "troubles": found.troubles,
        }
        return json.dumps(
            {
                "path": self.side.path,
                "verdict": self.verdict,
                "reasons": self.reasons,
                "remedies": self.remedies,
                "notes": self.notes,
                "code": self.code,
                "sides": [{**side.as_dict(), "kind": side.kind} for side in (self.side, self.other) if side],
                "measured": measured,
            }
        )

    def lines(self) -> list[str]:
        """Return all of it for a person, line by line."""
        lines = []
        for side in (self.side, self.other):
            if side:
                lines.append(f"{side.path} on {side.host}")
                lines.append(f"  mount        {side.mount or 'unknown: the system does not tell'}")
                lines.append(f"  kind         {_KINDS[side.kind]}")
                lines.append(
                    f"  flock        {side.flock or 'works between processes of this host, and of a killed one it is free'}"
                )
                lines.append(f"  free         {side.free / 1e9:,.1f} GB")
        if self.findings:
            lines += _measured(self.findings)
        lines += [f"note: {note}" for note in self.notes]
        lines.append(f"verdict: {self.verdict}")
        lines += [f"  reason       {reason}" for reason in self.reasons]
        to_do = "to do" if self.verdict == BAD else "next"
        lines += [f"  {to_do:<12} {remedy}" for remedy in self.remedies]
        return lines


_KINDS = {
    "local": "a local file system: the processes of this host can share PODs there",
    "network": "a network file system",
    "unknown": "not known to tastypy, which is as careful there as on a network file system",
}


def _measured(found: Findings) -> list[str]:
    releases = " and ".join("never" if seconds < 0 else f"{seconds * 1000:.0f} ms" for seconds in found.releases)
    lines = [
        "between the two",
        f"  exclusion    {found.let_in} of {found.attempts} attempts got a lock that the other side had",
        f"               in {found.met} of {found.turns} turns the other side was there, too; {found.lost} counts lost",
        f"  freshness    old were, of {found.looks} looks, {_old(found)}",
        f"  release      {releases} after the holder of a lock was killed",
    ]
    for what, times in (("alone", found.alone), ("together", found.together)):
        if times:
            figures = in_milliseconds(times)
            lines.append(
                f"  commit       {figures['median']} ms (median), {figures['longest']} ms (longest of {figures['commits']}), {what}"
            )
    lines += [f"  trouble      {trouble}" for trouble in found.troubles]
    return lines


def _old(found: Findings) -> str:
    return f"{found.old_growth} at a file that grows, {found.old_locked} at the locked file, {found.old_names} at a new name"


# --- examining


def examine(path: str) -> Report:
    """Examine a directory from this host alone.

    Raises:
        StorageError: it is no directory.
        PermissionDeniedError: nothing can be created in it.
    """
    directory = _directory(path)
    with explained(directory), Room(directory) as room:
        report = Report(_look(directory, room))
    judge(report)
    return report


def examine_with_peer(path: str, code: str, *, wait: float, announce: Callable[[str], object]) -> Report:
    """Examine a directory from two hosts, each of which calls this.

    Args:
        path: of the directory on this host.
        code: of the examination, the same on both hosts; the first one may give an empty one, and gets a random one.
        wait: for the other side, in seconds.
        announce: called with each line that the user should see at once, such as the command for the other side.

    Raises:
        PeerError: the other side did not come, failed, or is of another version.
        StorageError: it is no directory.
        PermissionDeniedError: nothing can be created in it.
    """
    directory = _directory(path)
    with explained(directory), Room(directory, code) as room:
        dialogue = Dialogue(room, patience=_SILENCE)
        if room.side == 1:
            announce(f"run this on the other host within {wait:g} s, with the path that the directory has there:")
            announce(f"  tastypy doctor {shlex.quote(directory)} --peer {room.code}")
        try:
            report = Report(_look(directory, room), code=room.code)
            report.other = _meet(report.side, dialogue, wait)
            announce(f"{report.other.host} is here; this takes about 15 seconds")
            if not (report.side.flock or report.other.flock):
                report.findings = Examination(room, dialogue).run()
            if room.side == 1:
                dialogue.hear()  # the other side has closed everything
            else:
                dialogue.say("bye")
                room.leave()
        except BaseException as error:
            dialogue.fail(error)
            if is_gone(error):  # what the other side removed when it ended
                raise PeerError(f"{dialogue.other} has ended the examination", directory) from error
            raise
    judge(report)
    return report


def _meet(mine: Side, dialogue: Dialogue, wait: float) -> Side:
    """Return what the other side knows about its host and mount, when it has come."""
    dialogue.say(mine.as_dict())
    try:
        other = Side.from_dict(dialogue.hear(wait))
    except TypeError:
        message = "the other side has another version of tastypy: install the same one on both"
        raise PeerError(message, mine.path) from None
    if other.version != mine.version:
        message = f"{other.host} has tastypy {other.version}, {mine.host} has tastypy {mine.version}: install the same one on both"
        raise PeerError(message, mine.path)
    dialogue.other = f"the other side ({other.host})"
    return other


def _directory(path: str) -> str:
    directory = os.path.abspath(os.path.expanduser(path))
    if not os.path.isdir(directory):
        message = f"{directory} is no directory: name one that is there, such as that in which a POD is to be made"
        raise StorageError(message, directory)
    return directory


def _look(directory: str, room: Room) -> Side:
    host, boot = identity_of_host()
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        figures = os.fstatvfs(descriptor)
        mount = mounts.mount_of(descriptor)
        device = os.fstat(descriptor).st_dev
    finally:
        files.close(descriptor)
    free = figures.f_bavail * figures.f_frsize
    return Side(__version__, host, boot, directory, mount, device, examine_alone(room), free)


# --- judging


def judge(report: Report) -> None:
    """Set the verdict of a report, with its reasons and remedies, from what was found."""
    sides = [side for side in (report.side, report.other) if side]
    reasons, remedies = _Texts(), _Texts()
    for side in sides:
        for remark in side.remarks():
            if remark.bad:
                reasons.add(side, remark.text)
            elif report.findings is None:  # what was tried out needs no warning
                report.notes.append(f"{remark.text}; {remark.remedy}")
        if side.flock:
            reasons.add(side, side.flock)
        if side.free < _LITTLE:
            report.notes.append(f"{_place(side)} is full")
    if report.findings:
        for fault in _faults(report.findings):
            for side in sides:
                reasons.add(side, fault)
    if reasons:
        for side in sides:
            for remedy in _remedies(side, reasons):
                remedies.add(side, remedy)
        report.verdict = BAD
        report.reasons, report.remedies = reasons.lines(), remedies.lines()
        return
    report.verdict, reason, remedy = _good_or_unproven(report)
    report.reasons.append(reason)
    if remedy:
        report.remedies.append(remedy)


class _Texts(dict[str, list[str]]):
    """Texts, each with the places that it is about."""

    def add(self, side: Side, text: str) -> None:
        places = self.setdefault(text, [])
        if _place(side) not in places:
            places.append(_place(side))

    def lines(self) -> list[str]:
        return [f"{' and '.join(places)}: {text}" for text, places in self.items()]


def _good_or_unproven(report: Report) -> tuple[str, str, str]:
    """Return the verdict, the reason, and what to do next, where nothing is wrong."""
    side, other = report.side, report.other
    if other is None:
        if side.kind == "local":
            return GOOD, "the processes of this host can share PODs there; other hosts do not see them", ""
        return (
            UNPROVEN,
            "locks work on this host; whether they do between hosts, only two of them can tell",
            f"tastypy doctor {shlex.quote(side.path)} --peer, which prints the command for the other host",
        )
    if (side.boot, side.device) == (other.boot, other.device):
        if side.kind == "local":
            return GOOD, "everything was right between two processes of this host, on a local file system", ""
        return (
            UNPROVEN,
            "everything was right, but both sides ran on one host, through one mount",
            "run the other side on another host",
        )
    found = report.findings
    if found and (found.turns < _FEW_TURNS or found.looks < _FEW_LOOKS):
        return (
            UNPROVEN,
            f"nothing was wrong, but so slow that it came to {found.turns} turns and {found.looks} looks only",
            "run it again while the hosts and the file server have less to do",
        )
    return GOOD, "everything was right between the two: hosts that mount it so can share PODs there", ""


def _faults(found: Findings) -> list[str]:
    """Return what was wrong between the two."""
    faults = list(found.troubles)
    if not found.excludes:
        faults.append(
            f"locks do not exclude the other side ({found.let_in} of {found.attempts} attempts got a lock that it had, and in "
            f"{found.met} of {found.turns} turns it was there, too)"
        )
    if not found.fresh:
        faults.append(
            "what the other side wrote under the lock is not seen under the lock (old were, of "
            f"{found.looks} looks, {_old(found)})"
        )
    if found.lost and found.excludes and found.fresh:
        faults.append(f"{found.lost} counts were lost that were made under the lock")
    if -1.0 in found.releases:
        faults.append("the lock of a killed process stays taken")
    if found.lost_commits:
        faults.append(f"{found.lost_commits} commits to a POD were lost")
    return faults


def _place(side: Side) -> str:
    return (
        f"{side.mount.point} ({side.mount.file_system}) on {side.host}" if side.mount else f"{side.path} on {side.host}"
    )


def _remedies(side: Side, reasons: _Texts) -> list[str]:
    """Return what to change about a side's mount: the options that are known to be wrong, or else whatever such a mount needs."""
    if not any(_place(side) in places for places in reasons.values()):
        return []
    known = [remark.remedy for remark in side.remarks() if remark.bad]
    found = known or [mounts.remedy(side.mount) if side.mount else mounts.ELSEWHERE]
    if side.flock:
        found.append(
            'or, if it cannot have flock, make PODs there with lock="lease": docs/clusters.md says what that gives up'
        )
    return found
