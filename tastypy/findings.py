"""What an examination by two sides found, as counts and times: what one side saw, or both together."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Findings:
    """What one side saw, or, added up, both.

    Attributes:
        attempts: for the lock while the other side had it, and `let_in`, how many of them got it.
        turns: under the lock in the race, and `met`, in how many the other side was there, too.
        lost: counts that were read, increased and written through the locked file, and are missing at the end.
        looks: right after the other side wrote, and how often it was old: the end of a file that grows, the locked file
            through its descriptor, a new name.
        releases: seconds until the lock of a process that was killed could be had, -1.0 for never.
        alone: seconds of each commit to a POD while the other side is quiet, and `together`, while it commits, too.
        lost_commits: increments of a POD's counter that are missing at the end.
        troubles: what went wrong otherwise, in words.
    """

    attempts: int = 0
    let_in: int = 0
    turns: int = 0
    met: int = 0
    lost: int = 0
    looks: int = 0
    old_growth: int = 0
    old_locked: int = 0
    old_names: int = 0
    releases: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    together: list[float] = field(default_factory=list)
    lost_commits: int = 0
    troubles: list[str] = field(default_factory=list)

    def __add__(self, other: Findings) -> Findings:
        mine, theirs = vars(self), vars(other)
        return Findings(**{name: mine[name] + theirs[name] for name in mine})

    @property
    def excludes(self) -> bool:
        """Whether nobody got a lock that another one had."""
        return self.let_in == self.met == 0

    @property
    def fresh(self) -> bool:
        """Whether all that was written under the lock was seen under the lock."""
        return self.old_growth == self.old_locked == self.old_names == 0

    @property
    def flawless(self) -> bool:
        """Whether nothing at all was wrong."""
        return (
            self.excludes
            and self.fresh
            and self.lost == self.lost_commits == 0
            and not self.troubles
            and -1.0 not in self.releases
        )


def in_milliseconds(times: list[float]) -> dict[str, Any]:
    """Return the median and the longest of the times, for the report."""
    if not times:
        return {"commits": 0, "median": None, "longest": None}
    return {
        "commits": len(times),
        "median": round(statistics.median(times) * 1000, 2),
        "longest": round(max(times) * 1000, 1),
    }
