"""`tastypy info` and `sync`: what a POD's directory is, and its journal folded into the shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tastypy.commands.output import json_object
from tastypy.commands.parsing import DONE, Commands, add_json, add_path, add_timeout, command
from tastypy.pod import POD, require

if TYPE_CHECKING:
    import argparse

_INFO_JSON = """\
--json prints one object, in one line:
  path, kind                  the directory; "POD" or "tracker"
  entries                     how many there are
  shards, bytes               the files that hold them, and their size together
  journal_bytes               of the journal, which has what is not in the shards yet
  epoch, batches              of the last fold; how many changes were ever committed
  id, format                  of the directory; the version of its format
  gzipped, shard_bytes, lock  the settings that it was created with
  mount                       point, type, source, options, and kind (local, network or unknown); or null

"""


def add(commands: Commands) -> None:
    """Add `info` and `sync`."""
    parser = command(
        commands,
        "info",
        "show what a POD is: entries, files, settings, mount",
        """\
Without the lock and without a change.

  tastypy info results.pod
  tastypy info results.pod --json | jq .entries
""",
        _INFO_JSON,
    )
    add_path(parser)
    add_json(parser)
    parser.set_defaults(run=_info)
    parser = command(
        commands,
        "sync",
        "fold the journal of a POD into its shards",
        """\
All entries lie in plain JSON files then, on stable storage, for other tools to read. Others may go on changing the POD.

  tastypy sync results.pod
  tastypy sync results.pod && jq -s add results.pod/*.json
""",
        """\
--json prints one object, in one line: path, entries, shards, bytes, journal_bytes and epoch, as `tastypy info --json` does.

""",
    )
    add_path(parser)
    add_json(parser)
    add_timeout(parser)
    parser.set_defaults(run=_sync)


def _info(options: argparse.Namespace) -> int:
    from tastypy.facts import facts  # noqa: PLC0415 - the other commands do not need it
    from tastypy.screen import Screen, printable  # noqa: PLC0415 - as above

    found = facts(options.path)
    if options.json:
        print(found.as_json())
        return DONE
    paint = Screen().paint
    print(paint(printable(found.path), "bold"))
    for name, text in {
        "kind": found.kind,
        "entries": f"{found.entries:,}",
        "shards": f"{found.shards:,}, {found.bytes:,} bytes",
        "journal": f"{found.journal_bytes:,} bytes",
        "epoch": f"{found.epoch:,}, after {found.batches:,} batches",
        "id": found.id,
        "settings": f"gzipped={found.gzipped} shard_bytes={found.shard_bytes} lock={found.lock}",
        "format": f"{found.format}",
        "mount": f"{found.mount.kind}: {found.mount}" if found.mount else "unknown",
    }.items():
        print(f"  {paint(name, 'cyan')}{' ' * (10 - len(name))}{printable(text)}")
    return DONE


def _sync(options: argparse.Namespace) -> int:
    with POD[object, object](require(options.path), timeout=options.timeout) as pod:
        pod.sync()
        stats = pod.stats()
        path = pod.path
    if options.json:
        print(json_object(path, **stats._asdict()))
    else:
        print(
            f"{options.path}: {_count(stats.entries, 'entry', 'entries')} in {_count(stats.shards, 'shard', 'shards')}"
        )
    return DONE


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
