"""What every command that tries to break a POD has in common: its options, its time, its place, and its report.

A command is a function that takes a `Trial` and raises `WrongError` when something is wrong. Whatever it raises, the directory
is kept and the seed is printed; when nothing is, the figures are printed and the directory is removed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stress.hosts import Host, Place

_LEASES = 0.25  # of the rounds have leases
_MEMORY = "/dev/shm"


class WrongError(Exception):
    """Something is there that must not be, or is not there that must be."""


class Trial:
    """One run of a command.

    Attributes:
        place: a directory of its own; seed: of what is chosen at random; quick: whether a sample of all is enough.
        seconds: of what is repeated; most: how often, None for any number.
    """

    def __init__(self, options: argparse.Namespace, place: Path, seed: int, seconds: float) -> None:
        self.place = place
        self.seed = seed
        self.quick: bool = options.quick
        self._only: Sequence[str] = getattr(options, "only", None) or ()
        self.most: int | None = options.rounds
        self.seconds = seconds
        self._paths = 0
        mounts: Sequence[str] = options.mounts or ()
        self._hosts = tuple(Host.of(mount, number) for number, mount in enumerate(mounts, 1)) or (Host(place),)

    def wants(self, part: str) -> bool:
        """Tell whether this part was asked for, by its name or since none was named."""
        return not self._only or part in self._only

    def asked(self, part: str) -> bool:
        """Tell whether this part was named, as one has to be that is no test."""
        return part in self._only

    def chance(self, *names: object) -> random.Random:
        """Return random numbers that follow from the seed and these names."""
        return random.Random(" ".join(map(str, (self.seed, *names))))

    def lock(self, chance: random.Random) -> str | None:
        """Return what `lock` is in a round that kills processes.

        On several hosts it is no lease in the quick form: one whose holder is dead lasts half a minute there, and so all wait.
        """
        lease = chance.random() < _LEASES
        return "lease" if lease and not (self.quick and len(self._hosts) > 1) else None

    def path(self) -> Path:
        """Return a path that nothing is at."""
        self._paths += 1
        return self.place / str(self._paths)

    def shared(self) -> Place:
        """Return a place that nothing is at, and that all hosts see."""
        self._paths += 1
        return Place(self._hosts, f"{self.place.name}-{self._paths}")

    def rounds(self, share: float = 1.0) -> Iterator[int]:
        """Count rounds until this share of the time is up, or their number is reached; there is at least one."""
        end = time.monotonic() + self.seconds * share
        number = 0
        while number != self.most and (number == 0 or time.monotonic() < end):
            yield number
            number += 1

    @contextmanager
    def in_memory(self) -> Iterator[Path]:
        """Make a directory, in memory if that is possible: an fsync costs nothing there. If something is wrong, it is kept."""
        path = Path(
            tempfile.mkdtemp(prefix=f"{self.place.name}-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None)
        )
        try:
            yield path
        except Exception:
            shutil.copytree(path, self.path())
            raise
        finally:
            shutil.rmtree(path)

    @contextmanager
    def part(self, title: str) -> Iterator[Counter[str]]:
        """Print, at the end, the figures that a part counts in what this yields; say in an exception which part it was."""
        start = time.monotonic()
        figures: Counter[str] = Counter()
        try:
            yield figures
        except Exception as error:
            error.add_note(f"in {title}")
            raise
        told = ", ".join(f"{number:,} {name}" for name, number in figures.items())
        print(f"{title}: {told} ({time.monotonic() - start:.0f} s)", flush=True)


def command(
    module: str,
    doc: str | None,
    action: Callable[[Trial], object],
    *,
    seconds: float,
    quick: float,
    parts: Sequence[str] = (),
    arguments: Sequence[str] | None = None,
) -> int:
    """Run `python -m stress.MODULE` with its arguments; return the exit status: 0, or 1 if something is wrong.

    `seconds` is the default of the option of that name, `quick` what it is with --quick. `parts` are what --only may name.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m stress.{module}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a sample of all, in little time")
    parser.add_argument(
        "--seconds", type=float, metavar="S", help=f"of what is repeated (default {seconds:g}, with --quick {quick:g})"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="how often it is repeated at most")
    parser.add_argument("--seed", type=int, metavar="N", help="of what is random (default: random; it is printed)")
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help="where the data lies (default: the temporary directory)"
    )
    parser.add_argument(
        "--mounts",
        nargs="+",
        metavar="DIR",
        help="where one file system is mounted, for each host once: what processes share lies there, and they are on these "
        "hosts in turn; DIR@PID is for a mount of process PID's network and host name",
    )
    if parts:
        parser.add_argument("--only", nargs="+", metavar="PART", choices=parts, help=f"of {', '.join(parts)}")
    options = parser.parse_args(arguments)
    if options.seconds is None:
        options.seconds = quick if options.quick else seconds
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    seed = random.randrange(1 << 30) if options.seed is None else options.seed
    place = Path(tempfile.mkdtemp(prefix=f"tastypy-{module}-", dir=options.dir))
    print(f"seed {seed}, data in {place}", flush=True)
    start = time.monotonic()
    try:
        action(Trial(options, place, seed, options.seconds))
    except Exception as error:
        print(f"WRONG (seed {seed}; the directory is kept: {place})", flush=True)
        if not isinstance(error, WrongError):
            raise
        print(error, *getattr(error, "__notes__", ()), sep="\n", flush=True)
        return 1
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    shutil.rmtree(place)
    print(f"nothing wrong ({time.monotonic() - start:.0f} s)", flush=True)
    return 0
