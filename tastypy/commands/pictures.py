"""`tastypy plot`: a tracker as a picture."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from tastypy.commands.parsing import DONE, add_path, command

if TYPE_CHECKING:
    from tastypy.commands.parsing import Commands


def add(commands: Commands) -> None:
    """Add `plot`."""
    parser = command(
        commands,
        "plot",
        "draw a picture of a tracker",
        """\
What was done when, and how fast; which worker did it; how often tasks were tried; which errors those have that failed. It needs
matplotlib (pip install 'tastypy[plot]'), and only reads, so it may be drawn while workers are at it.

  tastypy plot my.tracker -o progress.svg
""",
    )
    add_path(parser, "the tracker's directory")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=_output,
        metavar="FILE",
        help="where to write it, replaced if it is there: a name that ends in .svg, .png or .pdf",
    )
    parser.set_defaults(run=_plot)


def _output(text: str) -> str:
    from tastypy.plots import checked  # noqa: PLC0415 - the other commands do not need it

    try:
        checked(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _plot(options: argparse.Namespace) -> int:
    from tastypy.plots import require  # noqa: PLC0415 - the other commands do not need it
    from tastypy.screen import printable  # noqa: PLC0415 - as above
    from tastypy.status import opened  # noqa: PLC0415 - as above

    os.environ.pop("MPLBACKEND", None)  # no window is opened, and matplotlib fails on one that it does not know
    require()  # before a large tracker is read for nothing
    with opened(options.path) as tracker:
        tracker.plot(options.output)
        print(f"{printable(options.output)}: {len(tracker):,} tasks, {tracker.num_done():,} done")
    return DONE
