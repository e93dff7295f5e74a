"""`tastypy demo`: the main job, with a worker killed in the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tastypy.commands.parsing import DONE, PROBLEMS, Commands, command, place, positive

if TYPE_CHECKING:
    import argparse


def add(commands: Commands) -> None:
    """Add `demo`."""
    parser = command(
        commands,
        "demo",
        "watch workers share a tracker, one of them get killed, and the work go on",
        """\
Store the SHA-256 and the number of lines of every file below DIRECTORY in a tracker that several worker processes share.
After a third of the work one of them is killed with SIGKILL: another one takes its place, and its task is tried again.
Then every file's result is looked for, and a sample of them computed again by other means. The same command with the
same --pod does only what has changed.

  tastypy demo
  tastypy demo ~/src --pod checksums.tracker --workers 4

A file that cannot be read gets a result that says why. Symbolic links to directories are not followed; pipes, sockets
and devices are left out. A name that is not UTF-8 gets the key ("bytes", its percent-encoding).
""",
    )
    parser.add_argument(
        "directory",
        nargs="?",
        type=place,
        metavar="DIRECTORY",
        help="what to read (default: the standard library of this Python)",
    )
    parser.add_argument(
        "--pod",
        type=place,
        metavar="PATH",
        help="where to put the tracker; if it is there, go on with it (default: a new temporary directory)",
    )
    parser.add_argument(
        "--workers", type=positive, metavar="N", help="worker processes (default: one for each processor)"
    )
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    from tastypy.demo import demo  # noqa: PLC0415 - the other commands do not need it

    return DONE if demo(options.directory, options.pod, options.workers) else PROBLEMS
