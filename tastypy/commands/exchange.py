"""`tastypy export` and `import`: entries, or a whole POD, out to files and in from them and from other stores."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from tastypy import POD, ExchangeError
from tastypy.commands.output import json_object, path_text
from tastypy.commands.parsing import DONE, PROBLEMS, Commands, add_json, add_path, add_timeout, command, place

if TYPE_CHECKING:
    import argparse

_STREAM = "-"
_KEYS = "Keys are spelled as in the files of a POD: a str is itself; any other key, as a str that begins with #, is # and its JSON.\n"

_EXPORT_JSON = """\
--json prints one object, in one line; on standard error if the entries go to standard output:
  path, target       the POD, and where its entries went
  format, entries    in which format, and how many

"""
_IMPORT_JSON = """\
--json prints one object, in one line:
  path, source       the POD, and where its entries came from
  added, replaced    how many are new, and how many took the place of one that was there
  skipped            how many were left out since there was one already
  unstorable         of each one that was left out since JSON cannot hold it, what is wrong with it; texts

"""


def add(commands: Commands) -> None:
    """Add `export` and `import`."""
    _add_export(commands)
    _add_import(commands)


def _add_export(commands: Commands) -> None:
    parser = command(
        commands,
        "export",
        "write what a POD holds to a file, or copy it, while others work on it",
        f"""\
Everything is as it is at one moment. Nobody has to wait, and nothing is changed. A file is replaced as a whole, or not at all.

  tastypy export my.pod my.jsonl
  tastypy export my.pod my.csv.gz
  tastypy export my.pod my.parquet --columns
  tastypy export my.pod | jq -c 'select(.value.lines > 100)'
  tastypy export my.pod backup.pod

What comes out, by the suffix of TARGET or --format:
  json               one object
  jsonl, csv         an object or a row for each entry, with its key and value; in csv the value is JSON text
  parquet            a table like that (pip install 'tastypy[parquet]')
  pod                a copy: a directory of its own, on stable storage, in which workers have no claims
With .gz behind the suffix, json, jsonl and csv are compressed. `tastypy import` brings all of it back exactly, but for what
--columns writes, which is for other programs.
{_KEYS}""",
        _EXPORT_JSON,
    )
    parser.options_first = True
    add_path(parser)
    parser.add_argument(
        "target",
        metavar="TARGET",
        type=place,
        nargs="?",
        default=_STREAM,
        help="where to (default: -, standard output, as jsonl)",
    )
    parser.add_argument("--format", choices=("json", "jsonl", "csv", "parquet", "pod"), help="of TARGET")
    _add_columns(parser, "give each field of a dict a column of its own; any other value is in the column value")
    add_json(parser, "say what was done as JSON, for scripts")
    parser.set_defaults(run=partial(_export, parser))


def _add_import(commands: Commands) -> None:
    parser = command(
        commands,
        "import",
        "store in a POD what a file, or another store, holds",
        f"""\
Everything is read first, and then stored in one commit: all of it or, on any error, nothing. The POD is made if it is not there.

  tastypy import my.jsonl my.pod
  tastypy import people.csv people.pod --columns --key id
  tastypy import my.parquet my.pod --existing replace
  tastypy import pod-of-2017 my.pod
  tastypy import results.sqlite my.pod --format sqlitedict --table runs --unpickle
  some-program | tastypy import - my.pod --existing skip

What goes in, by the suffix of SOURCE, by what is in it if it is a directory, or by --format:
  json, jsonl, csv, parquet, pod     what `tastypy export` writes; the texts may be compressed with gzip
  2017                               files of the first tastypy, key<TAB>value; one, or a directory of them, compressed or not
  shelve, sqlitedict, diskcache      what these libraries wrote
  pickle                             a pickled dict
The last four need --unpickle, since unpickling runs whatever the writer of the data wants to be run.
{_KEYS}""",
        _IMPORT_JSON,
    )
    parser.add_argument("source", metavar="SOURCE", type=place, help="what to read (-: standard input, as jsonl)")
    add_path(parser)
    parser.add_argument(
        "--format",
        choices=("json", "jsonl", "csv", "parquet", "pod", "2017", "shelve", "sqlitedict", "diskcache", "pickle"),
        help="of SOURCE",
    )
    parser.add_argument(
        "--existing",
        choices=("error", "skip", "replace"),
        default="error",
        help="what to do about keys that are there already (default: error, and nothing is stored)",
    )
    _add_columns(parser, "make a dict of all columns but the one with the key")
    parser.add_argument("--table", metavar="NAME", help="of sqlitedict, if there are several")
    parser.add_argument("--unpickle", action="store_true", help="unpickle what is in SOURCE: I trust who wrote it")
    parser.add_argument(
        "--skip-unstorable", action="store_true", help="leave out what JSON cannot hold, and print what that is"
    )
    add_json(parser, "say what was done as JSON, for scripts")
    add_timeout(parser)
    parser.set_defaults(run=_import)


def _add_columns(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--columns", action="store_true", help=what)
    parser.add_argument(
        "--key", default="key", metavar="NAME", help="what the column with the key is called (default: key)"
    )


def _export(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    from tastypy.exchange import places  # noqa: PLC0415 - the other commands do not need it
    from tastypy.screen import printable  # noqa: PLC0415 - as above

    streamed = options.target == _STREAM
    kind = options.format or ("jsonl" if streamed else None)
    if streamed and kind in ("parquet", "pod"):
        parser.error(f"{kind} does not go to standard output: say where to")
    kind = kind or places.place_of(options.target, None, (*places.WRITTEN, "pod")).format
    if kind == "pod":
        if options.columns or options.key != "key":
            parser.error("a copy has no columns")
        from tastypy.exchange.copying import copy  # noqa: PLC0415 - as above

        count = sum(shard.entries for shard in copy(options.path, options.target).shards)
    else:
        from tastypy.exchange.writing import export  # noqa: PLC0415 - as above

        with POD[Any, Any](options.path, mode="r") as pod:
            target = sys.stdout.buffer if streamed else options.target
            count = export(pod, target, format=kind, columns=options.columns, key=options.key)
    said = sys.stderr if streamed else sys.stdout
    if options.json:
        print(json_object(options.path, target=path_text(options.target), format=kind, entries=count), file=said)
    elif not streamed:
        print(printable(f"{_entries(count)} of {options.path} in {options.target}"))
    return DONE


def _import(options: argparse.Namespace) -> int:
    from tastypy.exchange import importing  # noqa: PLC0415 - the other commands do not need it
    from tastypy.screen import printable  # noqa: PLC0415 - as above

    streamed = options.source == _STREAM
    if streamed and sys.stdin is None:
        message = "standard input is closed: there is nothing to import"
        raise ExchangeError(message)
    parcel = importing.read(
        sys.stdin.buffer if streamed else options.source,
        format=options.format or ("jsonl" if streamed else None),
        existing=options.existing,
        columns=options.columns,
        key=options.key,
        table=options.table,
        unpickle=options.unpickle,
        skip_unstorable=options.skip_unstorable,
    )
    with POD[Any, Any](
        options.path, timeout=options.timeout
    ) as pod:  # only now, so that none is made for what cannot be imported
        done = importing.store(pod, parcel)
    if options.json:
        print(json_object(options.path, source=path_text(options.source), **done._asdict()))
    else:
        for what in done.unstorable:
            print(printable(f"left out: {what}"))
        parts = [f"{_entries(done.added)} added"]
        parts += [f"{done.replaced:,} replaced"] if done.replaced else []
        parts += [f"{done.skipped:,} left as they were"] if done.skipped else []
        parts += [f"{len(done.unstorable):,} left out, which JSON cannot hold"] if done.unstorable else []
        print(printable(f"{options.path}: {', '.join(parts)}"))
    return PROBLEMS if done.unstorable else DONE


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count:,} entries"
