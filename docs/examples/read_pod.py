"""Read a POD without tastypy: the format as a program, on Python's standard library alone.

python read_pod.py PATH.pod
"""

import gzip
import json
import sys
import zlib
from pathlib import Path
from typing import Any

Fields = dict[str, Any]


def read(directory: Path) -> dict[Any, Any]:
    """Return what is committed; begin again if a fold removes what is being read."""
    for _ in range(100):
        try:
            return read_once(directory)
        except FileNotFoundError:
            continue
    raise FileNotFoundError(f"{directory} is no POD, or is folded all the time")


def read_once(directory: Path) -> dict[Any, Any]:
    """Follow `.lock` to the journal, its header to the shards, and its lines to the end."""
    line = (directory / ".lock").read_bytes()
    body, _, crc = line.rpartition(b',"crc":"')
    if crc != b'%08x"}\n' % zlib.crc32(body):
        raise ValueError(".lock is damaged, or being written")
    header, batches, seal = read_journal(directory, json.loads(line)["epoch"])
    entries: dict[Any, Any] = {}
    for shard in header["shards"]:
        entries |= read_shard(directory, header["gzipped"], *shard)
    while True:
        for batch in batches:
            entries = apply(entries, batch)
        if not seal:
            return entries
        _, batches, seal = read_journal(directory, seal)  # its shards hold what `entries` has


def read_journal(directory: Path, epoch: int) -> tuple[Fields, list[Fields], int]:
    """Return the header, the batches up to the first line that is not whole, and the epoch of the seal, or 0."""
    lines = (directory / f"journal-{epoch}.jsonl").read_bytes().split(b"\n")
    header = fields_of(lines[0])
    if header is None or header["tastypy"] != 1:
        raise ValueError(f"journal-{epoch}.jsonl has no good header of format 1")
    batches: list[Fields] = []
    leased = header.get("lock") == "lease"
    for line in lines[1:-1]:  # after the last newline there is nothing, or a line that is being written
        batch = fields_of(line)
        number = header["seq"] + len(batches) + 1
        if leased and (batch is None or batch["seq"] < number):
            continue  # void
        if batch is None:
            break
        if "seal" in batch:
            return header, batches, batch["seal"]
        if batch["seq"] != number:
            raise ValueError(f"journal-{epoch}.jsonl: number {batch['seq']} is out of line")
        batches.append(batch)
    return header, batches, 0


def fields_of(line: bytes) -> Fields | None:
    """Return a line's fields, or None if its checksum is wrong."""
    good = line[:8] == b'{"crc":"' and line[8:16] == b"%08x" % zlib.crc32(line[18:])
    return json.loads(line) if good else None


def read_shard(directory: Path, gzipped: bool, number: int, epoch: int, count: int, size: int, crc: str) -> Fields:
    """Return the entries of a shard."""
    name = f"{number:04d}-{epoch}.json" + (".gz" if gzipped else "")
    data = (directory / name).read_bytes()
    if len(data) != size or f"{zlib.crc32(data):08x}" != crc:
        raise ValueError(f"{name} is damaged")
    entries = json.loads(gzip.decompress(data) if gzipped else data)
    if len(entries) != count:
        raise ValueError(f"{name} does not hold {count} entries")
    return {key_of(name): value for name, value in entries.items()}


def apply(entries: dict[Any, Any], batch: Fields) -> dict[Any, Any]:
    """Return the entries after a batch."""
    if "clear" in batch:
        entries = {}
    for name in batch.get("del", []):
        entries.pop(key_of(name), None)
    for name, value in batch.get("put", {}).items():
        entries[key_of(name)] = value
    for name in batch.get("front", []):
        key = key_of(name)
        if key in entries:
            entries = {key: entries.pop(key)} | entries
    return entries


def key_of(name: str) -> Any:
    """Return the key that a name in a file stands for."""
    return tuples(json.loads(name[1:])) if name.startswith("#") else name


def tuples(key: Any) -> Any:
    """Turn the lists of a key back into tuples."""
    return tuple(map(tuples, key)) if isinstance(key, list) else key


if __name__ == "__main__":
    for key, value in read(Path(sys.argv[1])).items():
        print(repr(key), json.dumps(value))
