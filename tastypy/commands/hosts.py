"""`tastypy doctor`: whether a file system can carry PODs."""

from __future__ import annotations

import argparse
import re
import sys
from functools import partial

from tastypy.commands.parsing import DONE, PROBLEMS, Commands, command, place, seconds

_JSON = """\
--json prints one object, in one line; what --peer has to say before, it says on standard error:
  path, verdict      the directory; good, unproven or bad
  reasons, remedies  for the verdict, and what to change or to do next; texts
  notes              what is good to know; texts
  code               of the examination by two, or null
  sides              this host's, and the other's: host, boot, path, version, mount (point, type, source, options) or null, device,
                     kind (local, network or unknown), flock (what is wrong with it; empty if it works), free (bytes)
  measured           what both saw together, or null:
    exclusion        attempts for a lock that the other side had, and let_in, how many got it; turns under the lock in a race,
                     and met, in how many the other side was there, too; counts_lost, of those that were made under it
    freshness        looks at what the other side had just written, and how many were old: old_growth, old_locked, old_names
    release_ms       until the lock of a killed process was free, seen by either side; null for never
    commit_ms        of a POD, alone and together: commits, median, longest; and commits_lost
    troubles         what went wrong otherwise; texts

"""


def add(commands: Commands) -> None:
    """Add `doctor`."""
    parser = command(
        commands,
        "doctor",
        "find out whether a file system can carry PODs, for one host or for many",
        """\
Alone it tells what the directory is mounted from, what the options mean for a POD, and whether locks work on this host:

  tastypy doctor /shared

With --peer, on two hosts, it tries out what PODs stand on: that a lock keeps the other side out, that what was written
under it is seen under it, that a killed process's lock comes free, how long a commit takes. It takes about 15 seconds.
The first host prints the command for the second one. Or give both a CODE of your own, in a batch script:

  tastypy doctor /shared --peer
  srun --nodes=2 --ntasks-per-node=1 tastypy doctor /shared --peer "$SLURM_JOB_ID"

The verdict is good, unproven (nothing is wrong, but it takes a second host to be sure) or bad, with the reason and what to
change. DIR may be a POD that is in use: it is not touched. Everything is removed at the end, and what a killed doctor left by
the next one.
""",
        _JSON,
    )
    parser.add_argument(
        "path", metavar="DIR", type=place, help="a directory on the file system, in which you may write"
    )
    parser.add_argument(
        "--peer",
        nargs="?",
        const="",
        type=_code,
        metavar="CODE",
        help="examine it from two hosts (CODE: what the first one printed)",
    )
    parser.add_argument(
        "--wait", type=seconds, default=40.0, metavar="SECONDS", help="for the other side to come (default: 40)"
    )
    parser.add_argument("--json", action="store_true", help="print all of it as JSON, for scripts")
    parser.set_defaults(run=_doctor)


def _code(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z_-]{0,40}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no code: up to 40 letters, digits, _ and -")
    return text


def _doctor(options: argparse.Namespace) -> int:
    from tastypy import doctor  # noqa: PLC0415 - the other commands do not need it

    if options.peer is None:
        report = doctor.examine(options.path)
    else:
        # with --json, standard output is the report's alone
        announce = partial(print, file=sys.stderr if options.json else sys.stdout, flush=True)
        report = doctor.examine_with_peer(options.path, options.peer, wait=options.wait, announce=announce)
    print(report.as_json() if options.json else "\n".join(report.lines()))
    return PROBLEMS if report.verdict == doctor.BAD else DONE
