"""`tastypy status`, `watch` and `retry`: a look and a hand at the tasks of a tracker."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tastypy.commands.output import json_object
from tastypy.commands.parsing import (
    DONE,
    PROBLEMS,
    Commands,
    add_json,
    add_path,
    add_timeout,
    command,
    not_negative,
    seconds,
)
from tastypy.pod import require

if TYPE_CHECKING:
    import argparse

_JSON = """\
--json prints one object, in one line; watch prints one a line. All times are in seconds since the epoch:
  path, time         the tracker, and when it was looked at
  counts             total, and done, aborted, claimed, given_up, failed, open: each task is in one of these
  max_tries          after how many tries a task counts as given up; 0: never
  rate               tasks done a second of late, or null
  seconds_left       for what is open, failed and claimed, at that rate, or null
  workers            those alive: name, host, pid, since, and tasks: of each its key, since when it is claimed, and
                     in_hand, which is false for what lies ahead in a batch
  runs               processes that are in Tracker.run: name, host, pid, since
  dead               as workers: not alive, but with claims, which go to the next worker that looks for a task
  errors             the newest first: text, count, and of the last task that has it the key, and at, when it failed
Keys are spelled as in the files, and so as `tastypy retry` takes them.

"""


def add(commands: Commands) -> None:
    """Add `status`, `watch` and `retry`."""
    _add_status(commands)
    _add_watch(commands)
    _add_retry(commands)


def _add_status(commands: Commands) -> None:
    parser = command(
        commands,
        "status",
        "show how it stands with a tracker, and who works on what",
        """\
From any terminal, on any host that has the directory, and without disturbing anybody: it only reads.

  tastypy status my.tracker
  tastypy status my.tracker --json | jq .counts.done

The rate is that of the latest 100 tasks, or of the last 10 seconds if more were done in them, since the first of the
workers that are alive began. What a dead worker has goes to the next worker that looks for a task. With rich
(pip install 'tastypy[rich]') there are colours on a terminal, unless NO_COLOR is set.
""",
        _JSON,
    )
    _add_looking(parser)
    parser.set_defaults(run=_status, interval=None)


def _add_watch(commands: Commands) -> None:
    parser = command(
        commands,
        "watch",
        "show how it stands with a tracker again and again, until Ctrl-C",
        """\
What `tastypy status` shows, in place on a terminal, and one page after the other in a pipe. Like that it only reads.

  tastypy watch my.tracker
  tastypy watch my.tracker --interval 60 --json >> progress.jsonl

The changes of a POD that is no tracker shows `tastypy log PATH --follow`.
""",
        _JSON,
    )
    _add_looking(parser)
    parser.add_argument(
        "--interval", type=seconds, default=1.0, metavar="SECONDS", help="between two looks (default: 1)"
    )
    parser.set_defaults(run=_status)


def _add_looking(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "the tracker's directory")
    parser.add_argument(
        "--max-tries",
        type=not_negative,
        metavar="N",
        help="after how many tries a task counts as given up, 0: never (default: what the workers that are alive say)",
    )
    add_json(parser)


def _add_retry(commands: Commands) -> None:
    parser = command(
        commands,
        "retry",
        "make tasks of a tracker available again, as if they had never been tried",
        """\
What is stored with them stays. It is done in one step: all of it or, if there is no task of a given KEY, nothing.

  tastypy retry my.tracker --failed
  tastypy retry my.tracker https://example.org '#1' '#["a",1]'

A KEY is written as in the files, and as `tastypy status` shows it: a str is itself; any other key is # and its JSON, and so
is a str that begins with #. Behind -- a KEY may begin with a dash. What a live worker has is left alone.
""",
        """\
--json prints one object, in one line: path; opened, how many tasks are open again; and the KEYs that are unknown (nothing was changed
then), held (a live worker has them) and idle (they were open, and not tried).

""",
    )
    parser.options_first = True
    add_path(parser, "the tracker's directory")
    parser.add_argument(
        "keys", nargs="*", metavar="KEY", help="a task, whatever its state is: done, aborted, failed ..."
    )
    parser.add_argument("--failed", action="store_true", help="all tasks that failed, those given up included")
    parser.add_argument("--aborted", action="store_true", help="all tasks that were aborted")
    add_json(parser)
    add_timeout(parser)
    parser.set_defaults(run=partial(_retry, parser))


def _status(options: argparse.Namespace) -> int:
    from tastypy.show import show  # noqa: PLC0415 - the other commands do not need it

    show(
        options.path,
        max_tries=options.max_tries,
        as_json=options.json,
        interval=options.interval,
    )
    return DONE


def _retry(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    from tastypy.retry import retry  # noqa: PLC0415 - the other commands do not need it

    if not (options.keys or options.failed or options.aborted):
        parser.error("say which tasks: --failed, --aborted or KEYs")
    outcome = retry(options.path, options.keys, failed=options.failed, aborted=options.aborted, timeout=options.timeout)
    code = PROBLEMS if outcome.unknown or outcome.held else DONE
    if options.json:
        print(json_object(require(options.path), **outcome._asdict()))
        return code
    for name in outcome.unknown:
        print(f"{name}: there is no such task")
    for name in outcome.held:
        print(f"{name}: left alone, a live worker has it")
    for name in outcome.idle:
        print(f"{name}: is open, and was not tried")
    if outcome.unknown:
        print("nothing was changed")
    else:
        print("1 task is open again" if outcome.opened == 1 else f"{outcome.opened:,} tasks are open again")
    return code
