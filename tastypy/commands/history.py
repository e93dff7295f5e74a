"""`tastypy log`: what was committed to a POD, and is, batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tastypy.commands.parsing import DONE, Commands, add_json, add_path, command, not_negative, seconds

if TYPE_CHECKING:
    import argparse

_JSON = """\
--json prints one object a line:
  batch, time  its number, and when it was (seconds since the epoch), or null
  changes      a list; of each: what (as above), keys (as in the files), error (a text, "" without one), and worker, of whoever
               has or had a task: name, host, pid (each null if it is not known); or null
or, where batches could not be read, {"missing": [FIRST, LAST]}, or, where one was taken back since its commit failed,
{"revoked": NUMBER}.

"""


def add(commands: Commands) -> None:
    """Add `log`."""
    parser = command(
        commands,
        "log",
        "show what was committed to a POD, batch by batch, and what is",
        """\
A line has the number of the batch, its time if that is known, and what it did: put, deleted, cleared, moved (to the front). Of the
tasks of a tracker it tells what became of them, and the worker: added, claimed, done, failed (and the error), released, aborted,
unaborted, reopened, or changed, which is what is stored with them.

  tastypy log results.pod
  tastypy log results.pod -n 100
  tastypy log my.tracker --follow
  tastypy log my.tracker --follow --json | jq -c 'select(.changes[].what == "failed")'

It only reads, and takes no lock. It goes back as far as there are journals: to the last fold, or the one before. --follow goes on
over folds; if there were so many between two looks that something is missing, it says so. The files know when a task's state
changed, and nothing of the time of other changes: with --follow that is when they were seen.
""",
        _JSON,
    )
    add_path(parser)
    parser.add_argument(
        "-n",
        "--lines",
        type=not_negative,
        default=10,
        metavar="N",
        help="the last N batches, to begin with (default: 10)",
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on with those that come, until Ctrl-C")
    parser.add_argument(
        "--interval", type=seconds, default=0.5, metavar="SECONDS", help="between two looks of --follow (default: 0.5)"
    )
    add_json(parser, "print an object a line, for scripts")
    parser.set_defaults(run=_log)


def _log(options: argparse.Namespace) -> int:
    from tastypy.chronicle import chronicle  # noqa: PLC0415 - the other commands do not need it

    chronicle(
        options.path,
        last=options.lines,
        interval=options.interval if options.follow else None,
        as_json=options.json,
    )
    return DONE
