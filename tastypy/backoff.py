"""How long whoever finds a directory's lock taken pauses before the next attempt. Neither a clock nor a lock is in here.

Who waits cannot be told that the lock is free: it has to try, and each attempt takes something from those who work, of the
processors or of a file server. Nobody knows how many others wait. But what waiting took lately tells: with a thousand workers it
takes a thousand turns. So the pauses grow with it, and the attempts of all together stay a few in a turn.

If they grew in proportion, it would not be fair. Whoever waited long by bad luck would try seldom, therefore wait long again, and
try more seldom still, while others had their turn again and again. So the pauses grow with a power below one, and the rest of
the power is of what an attempt takes, which is microseconds on a local disk and milliseconds on a network file system. And when
a server, or the processors, have too much to do, attempts take longer, and so there are fewer of them.

It is only luck while others have their turns, though. Where nobody was seen to commit, somebody keeps the lock, for a fold or a
transaction, and to try more often would only take the processors from the one that all are waiting for. (Or others have turns
and change nothing in them, which looks the same: there, whoever has bad luck waits somewhat longer.)

`python -m stress.crowd` simulates it with up to a thousand workers, and tries it with 64 processes.
"""

from __future__ import annotations

from collections.abc import Callable

from tastypy import chance

_POWER = 0.75  # of what waiting takes; the rest is the attempt's
# A wait beyond the usual one is bad luck, until it took so many times as long. Then more are waiting than before, and so much
# of it is what a wait takes: the pauses grow until enough is known.
_UNLUCKY, _WAITED = 16, 1 / 16
_KEPT = 1 / 16  # of the time that somebody has kept the lock, a pause is at least
_WEIGHT = 0.25  # of the last wait, or attempt, in what they take lately
# Seconds of a pause. On a local disk an attempt takes nothing from anybody's server, and after short pauses, when the crowd has
# gone, the last ones are done as soon as may be.
_LEAST, LONGEST_LOCALLY, LONGEST = 0.00005, 0.04, 2.0
_JITTER = 0.5  # the least part of a pause that passes: against lockstep
# A process that lately waited so many seconds pauses for an attempt's time after it had the lock so often in a row: others wait,
# too, and find the lock free only by chance while somebody takes it again at once. (An attempt that loaded all anew took longer.)
CROWDED, _ROW = 0.05, 4
_COURTESY_LOCALLY, _COURTESY = 0.0005, 0.005  # seconds at most


class Backoff:
    """What one process knows of the waits for one lock, and concludes from it.

    Attributes:
        usual: seconds that waiting took lately; cost: those that an attempt took, with all that it takes.
    """

    __slots__ = ("_courtesy", "_longest", "_row", "_uniform", "cost", "usual")

    def __init__(self, *, local: bool, uniform: Callable[[float, float], float] = chance.uniform) -> None:
        self._longest = LONGEST_LOCALLY if local else LONGEST
        self._courtesy = _COURTESY_LOCALLY if local else _COURTESY
        self._uniform = uniform
        self.usual: float = 0.0
        self.cost: float = 0.0
        self._row = 0  # how often the lock was had since, without waiting

    def pause(self, waited: float, kept: float = 0.0) -> float:
        """Return the seconds until the next attempt, after so many of this wait; in the last `kept` ones nobody else had a turn."""
        wait = usual = self.usual
        lost = waited - kept
        if lost > usual * _UNLUCKY:
            wait = lost * _WAITED
        elif lost > usual:
            wait = usual * usual / lost  # whoever had bad luck tries more often than the others
        wait = max(wait, _LEAST)
        pause: float = wait**_POWER * min(self.cost, wait) ** (1 - _POWER)
        return min(max(pause, _LEAST, kept * _KEPT), self._longest) * self._uniform(_JITTER, 1.0)

    def tried(self, seconds: float) -> None:
        """Note what an attempt took."""
        self.cost += (seconds - self.cost) * (_WEIGHT if self.cost else 1.0)

    def had(self, waited: float) -> None:
        """Note that the lock was had, after so many seconds of waiting."""
        self.usual += (waited - self.usual) * _WEIGHT
        self._row = 0

    def courtesy(self) -> float:
        """Return the seconds to leave the lock to others, 0 most times, where `usual` is beyond CROWDED."""
        self._row += 1
        if self._row <= _ROW:
            return 0.0
        self._row = 0
        self.usual *= 0.9  # unless it has to wait again
        return min(self.cost, self._courtesy)
