"""The command `tastypy`: a demonstration, the health of PODs and file systems, and a look and a hand at a tracker's tasks."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from tastypy import TastypyError, __version__, check, repair

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE, PROBLEMS, IMPOSSIBLE, INTERRUPTED = 0, 1, 2, 130
_DAY = 86400  # seconds

_JSON = """\
--json prints one object, in one line; with --watch one a line. All times are in seconds since the epoch:
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

_DOCTOR_JSON = """\
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

_EXIT_CODES = """\
exit codes:
  0    done, and all is well
  1    done, but there are problems; they are printed
  2    it could not be done; one line on standard error says why
  130  stopped by Ctrl-C
"""


class _Parser(argparse.ArgumentParser):
    flags_first = False  # whether flags, options without a value, may stand between positional arguments

    def error(self, message: str) -> NoReturn:
        self.exit(IMPOSSIBLE, f"{self.prog}: {message}; {self.prog} --help tells more\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as always, with the flags put first: argparse has no place for the KEYs in `PATH --failed KEY`."""
        if self.flags_first:
            end = args.index("--") if "--" in args else len(args)
            flags = [one for one in args[:end] if one.startswith("-")]
            rest = [one for one in args[:end] if not one.startswith("-")]
            args = [*flags, "--", *rest, *args[end + 1 :]]
        return super().parse_known_args(args, namespace)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: those of this process) and return its exit code."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may have bytes that are no text
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone: `tastypy demo | head`
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # so that the flush at exit does not fail as well
        return IMPOSSIBLE
    except KeyboardInterrupt:
        return INTERRUPTED
    except (TastypyError, OSError) as error:
        print(f"tastypy: {error}", file=sys.stderr)
        return IMPOSSIBLE
    return code


def _parser() -> _Parser:
    parser = _Parser(
        prog="tastypy",
        description="A dict in a directory of JSON files that many processes may share, and no crash can hurt.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tastypy {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    command = _command(
        commands,
        "demo",
        "watch workers share a tracker, one of them get killed, and the work go on",
        """\
Store the SHA-256 and the number of lines of every file below DIRECTORY in a tracker that several worker processes share.
After a third of the work one of them is killed with SIGKILL: another one takes its place, and its task is tried again.
Then every file's result is looked for, and a sample of them computed again by other means. The same command with the
same --pod does only what has changed.

A file that cannot be read gets a result that says why. Symbolic links to directories are not followed; pipes, sockets
and devices are left out. A name that is not UTF-8 gets the key ("bytes", its percent-encoding).
""",
    )
    command.add_argument(
        "directory", nargs="?", metavar="DIRECTORY", help="what to read (default: the standard library of this Python)"
    )
    command.add_argument(
        "--pod",
        metavar="PATH",
        help="where to put the tracker; if it is there, go on with it (default: a new temporary directory)",
    )
    command.add_argument(
        "--workers", type=_positive, metavar="N", help="worker processes (default: one for each processor)"
    )
    command.set_defaults(run=_demo)
    command = _command(commands, "check", "read every file of a POD and print what is wrong", "Changes nothing.")
    command.add_argument("path", metavar="PATH", help="the POD's directory")
    command.set_defaults(run=_check)
    command = _command(
        commands,
        "repair",
        "set damaged files of a POD aside and keep the rest",
        """\
Prints what was done. What cannot be read is not deleted but set aside, in files named aside-*; they count as problems
until you have looked at them and removed them.
""",
    )
    command.add_argument("path", metavar="PATH", help="the POD's directory")
    command.set_defaults(run=_repair)
    _add_status(commands)
    _add_retry(commands)
    _add_doctor(commands)
    return parser


def _add_status(commands: argparse._SubParsersAction[_Parser]) -> None:
    command = _command(
        commands,
        "status",
        "show how it stands with a tracker, and who works on what",
        """\
From any terminal, on any host that has the directory, and without disturbing anybody: it only reads.

  tastypy status my.tracker
  tastypy status my.tracker --watch
  tastypy status my.tracker --json | jq .counts.done

The rate is that of the latest 100 tasks, or of the last 10 seconds if more were done in them, since the first of the
workers that are alive began. What a dead worker has goes to the next worker that looks for a task. With rich
(pip install 'tastypy[rich]') there are colours on a terminal, unless NO_COLOR is set.
""",
        _JSON,
    )
    command.add_argument("path", metavar="PATH", help="the tracker's directory")
    command.add_argument(
        "--max-tries",
        type=_count_of_tries,
        metavar="N",
        help="after how many tries a task counts as given up, 0: never (default: what the workers that are alive say)",
    )
    command.add_argument("--json", action="store_true", help="print all of it as JSON, for scripts")
    command.add_argument("--watch", action="store_true", help="show it again and again, until Ctrl-C")
    command.add_argument(
        "--interval", type=_seconds, default=1.0, metavar="SECONDS", help="between two looks of --watch (default: 1)"
    )
    command.set_defaults(run=_status)


def _add_retry(commands: argparse._SubParsersAction[_Parser]) -> None:
    command = _command(
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
    )
    command.flags_first = True
    command.add_argument("path", metavar="PATH", help="the tracker's directory")
    command.add_argument(
        "keys", nargs="*", metavar="KEY", help="a task, whatever its state is: done, aborted, failed ..."
    )
    command.add_argument("--failed", action="store_true", help="all tasks that failed, those given up included")
    command.add_argument("--aborted", action="store_true", help="all tasks that were aborted")
    command.set_defaults(run=partial(_retry, command))


def _add_doctor(commands: argparse._SubParsersAction[_Parser]) -> None:
    command = _command(
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
        _DOCTOR_JSON,
    )
    command.add_argument("path", metavar="DIR", help="a directory on the file system, in which you may write")
    command.add_argument(
        "--peer",
        nargs="?",
        const="",
        type=_code,
        metavar="CODE",
        help="examine it from two hosts (CODE: what the first one printed)",
    )
    command.add_argument(
        "--wait", type=_seconds, default=40.0, metavar="SECONDS", help="for the other side to come (default: 40)"
    )
    command.add_argument("--json", action="store_true", help="print all of it as JSON, for scripts")
    command.set_defaults(run=_doctor)


def _command(
    commands: argparse._SubParsersAction[_Parser], name: str, summary: str, description: str, more: str = ""
) -> _Parser:
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{description}",
        epilog=more + _EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _count_of_tries(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is less than 0")
    return number


def _code(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z_-]{0,40}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no code: up to 40 letters, digits, _ and -")
    return text


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= _DAY:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0 and at most {_DAY}")
    return seconds


def _demo(options: argparse.Namespace) -> int:
    from tastypy.demo import demo  # noqa: PLC0415 - `check` and `repair` need no multiprocessing

    return DONE if demo(options.directory, options.pod, options.workers) else PROBLEMS


def _check(options: argparse.Namespace) -> int:
    problems = check(options.path)
    for problem in problems:
        print(problem)
    print(f"{options.path}: {_count(problems)}")
    return PROBLEMS if problems else DONE


def _repair(options: argparse.Namespace) -> int:
    done = repair(options.path)
    for line in done:
        print(line)
    if not done:
        print(f"{options.path}: nothing to repair")
    left = check(options.path)
    for problem in left:
        print(f"left: {problem}")
    return PROBLEMS if left else DONE


def _status(options: argparse.Namespace) -> int:
    from tastypy.show import show  # noqa: PLC0415 - the other commands need neither signals nor a screen

    show(
        options.path,
        max_tries=options.max_tries,
        as_json=options.json,
        interval=options.interval if options.watch else None,
    )
    return DONE


def _retry(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    from tastypy.retry import retry  # noqa: PLC0415 - as above

    if not (options.keys or options.failed or options.aborted):
        parser.error("say which tasks: --failed, --aborted or KEYs")
    outcome = retry(options.path, options.keys, failed=options.failed, aborted=options.aborted)
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
    return PROBLEMS if outcome.unknown or outcome.held else DONE


def _doctor(options: argparse.Namespace) -> int:
    from tastypy import doctor  # noqa: PLC0415 - as above

    if options.peer is None:
        report = doctor.examine(options.path)
    else:
        # with --json, standard output is the report's alone
        announce = partial(print, file=sys.stderr if options.json else sys.stdout, flush=True)
        report = doctor.examine_with_peer(options.path, options.peer, wait=options.wait, announce=announce)
    print(report.as_json() if options.json else "\n".join(report.lines()))
    return PROBLEMS if report.verdict == doctor.BAD else DONE


def _count(problems: list[str]) -> str:
    return "no problem" if not problems else "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
