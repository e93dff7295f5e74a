"""Finding damage, and mending it: recovery of `.lock`, `check`, `repair`.

Nothing is ever thrown away: what cannot be used is set aside under a name that begins with `aside-`, and `check` reports it
until somebody removes it.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import orjson

from tastypy import files, folding, merging
from tastypy import format as form
from tastypy.errors import PersistentOrderedDictIntegrityError
from tastypy.reading import Position
from tastypy.shards import shard_dict, unpack

if TYPE_CHECKING:
    from tastypy.store import Store

log = logging.getLogger("tastypy")

_NOTED = 1 << 12  # bytes of a `.lock` that is damaged: it is one short line, but somebody may have made it a large file

SHARD_BYTES = 256 * 1024  # the default size of its text at which a shard closes


def choose(path: str) -> form.LockLine | None:
    """Return what `.lock` should say, from the journals alone; None if none has a whole header.

    It is the highest journal whose last sequence number is not below that of the journal that it follows: a fold that died
    before its commit leaves a whole header, too, and others may have gone on in the journal before.
    """
    headers: dict[int, form.Header] = {}
    last: dict[int, form.Lines] = {}
    for name, what in files.names_in(path).items():
        if what is None or what.kind != "journal":
            continue
        text = files.read_file(f"{path}/{name}")
        start = text.find(b"\n") + 1
        header = form.decode_header(text[:start], f"{path}/{name}")
        if header is not None and header.epoch == what.epoch:
            headers[header.epoch] = header
            last[header.epoch] = form.read_lines(text[start:], header.seq, leased=header.leased)
    for epoch in sorted(headers, reverse=True):
        header = headers[epoch]
        before = last.get(header.before)
        if header.leased and before is not None and before.seal != epoch and header.seq <= before.seq:
            continue  # there the seal is the commit; but a repair, which has a number of its own, does without
        if before is None or last[epoch].seq >= before.seq:
            # a seal says that the epoch after it was committed, even if its header is damaged
            return form.LockLine(header.id, max(epoch, last[epoch].seal), header.lock)
    return None


def recover(store: Store, found: bytes) -> form.LockLine | None:
    """Write `.lock` anew, in which `found` stood, with the lock held; return its line, or None if there is nothing yet.

    Raises:
        PersistentOrderedDictIntegrityError: there are shards or batches, but no journal that says what they are.
    """
    line = choose(store.path)
    if line is None:
        if not _has_content(store):
            return None  # whoever was creating it died
        message = (
            f"{store.path}: {files.LOCK} and every journal are missing or damaged; "
            f"`tastypy repair {store.path}` makes a POD of what can be read"
        )
        raise PersistentOrderedDictIntegrityError(message, store.path)
    store.id = line.id
    header, text = store.read_journal(line.epoch)
    is_new = header.seq == 0 and not header.shards and len(text) == len(header.encode()) and not found
    if not is_new:
        aside = _note_lock(store, line.epoch)
        log.warning(
            "%s: .lock was missing or damaged; recovered at epoch %d, noted in %s", store.path, line.epoch, aside
        )
    # whoever wrote the journal may have died before it, and its name, were on stable storage
    descriptor = files.open_to_append(store.file(files.journal_name(line.epoch)))
    try:
        files.sync(descriptor)
    finally:
        files.close(descriptor)
    files.sync_directory(store.path)
    files.replace_line(store.lock.open(), line.encode())
    files.shorten(store.lock.open(), len(line.encode()))  # there may have been more
    return line


def _note_lock(store: Store, epoch: int) -> str:
    """Write down, in a file that was set aside, what `.lock` begins with before it says `epoch`; return its name."""
    found = files.read_at(store.lock.open(), _NOTED, 0)
    note: dict[str, Any] = {
        "file": files.LOCK,
        "found": found.decode(errors="replace"),
        "epoch": epoch,
        "time": time.time(),
    }
    if note["found"].encode() != found:
        note["hex"] = found.hex()
    aside = files.aside_name(f"{files.LOCK}.json")
    files.write_new(store.file(aside), orjson.dumps(note) + b"\n", store.permissions)
    return aside


def _has_content(store: Store) -> bool:
    """Tell whether there is a shard, or a journal with more than a header that was not written to its end."""
    for name, what in files.names_in(store.path).items():
        if what and (what.kind == "shard" or (what.kind == "journal" and b"\n" in files.read_file(store.file(name)))):
            return True
    return False


def check(store: Store) -> list[str]:
    """Return the problems of the directory, with the lock held, or as it is while nobody writes."""
    problems = [f"{name}: set aside; remove it when it is of no more use" for name in _asides(store)]
    line = form.decode_lock_line(store.read_lock_line(locked=store.writable))
    if line is None:
        return [*problems, f"{files.LOCK}: damaged; opening the POD recovers it"]
    epoch = line.epoch
    while True:
        name = files.journal_name(epoch)
        try:
            text = files.read_file(store.file(name))
        except FileNotFoundError:
            return [*problems, f"{name}: missing, though {files.LOCK} names it"]
        start = text.find(b"\n") + 1
        header = form.decode_header(text[:start], store.file(name))
        if header is None:
            return [*problems, f"{name}, line 1: the header is damaged"]
        if header.id != line.id or header.epoch != epoch:
            problems.append(f"{name}: its header is of epoch {header.epoch} of directory {header.id}, not of {line}")
        lines = form.read_lines(text[start:], header.seq, leased=header.leased)
        if not (header.leased and lines.seal > epoch):  # else it is the seal that counts
            break
        epoch = lines.seal
    problems += _check_shards(store, header)
    # a torn tail was never acknowledged, and the next writer removes it
    if lines.trouble and (lines.trouble != "torn" or start + lines.length < lines.synced):
        number = text[: start + lines.length].count(b"\n") + 1
        problems.append(f"{name}, line {number}: {lines.trouble}")
    if lines.seal and not header.leased:
        problems.append(f"{files.LOCK}: of epoch {line.epoch}, though {name} goes on in that of {lines.seal}")
    return problems


def _asides(store: Store) -> list[str]:
    return [name for name, what in files.names_in(store.path).items() if what and what.kind == "aside"]


def _check_shards(store: Store, header: form.Header) -> list[str]:
    problems = []
    seen: dict[Any, str] = {}
    for shard in header.shards:
        name = files.shard_name(shard.number, shard.epoch, gzipped=header.gzipped)
        try:
            entries, problem = _read_shard(store, header, shard)
        except OSError as error:
            entries, problem = {}, f"cannot be read: {error}"
        if problem:
            problems.append(f"{name}: {problem}")
            continue
        if len(entries) != shard.entries:
            problems.append(f"{name}: {len(entries)} entries, though the header says {shard.entries}")
        problems += [f"{name}: the key {key!r} is in {seen[key]}, too" for key in entries.keys() & seen.keys()]
        seen.update(dict.fromkeys(entries, name))
    return problems


def _read_shard(store: Store, header: form.Header, shard: form.Shard) -> tuple[dict[Any, Any], str]:
    """Return what the shard holds, and "", or what is wrong with it.

    Raises:
        OSError: the file system failed, which says nothing of the shard.
    """
    try:
        return shard_dict(store.read_shard(header, shard)), ""
    except FileNotFoundError:
        return {}, "missing"
    except PersistentOrderedDictIntegrityError:
        return {}, "damaged: size or CRC are not as the header says"
    except ValueError as error:
        return {}, f"damaged: {error}"


def repair(store: Store) -> list[str]:
    """Set aside what is damaged, keep the rest, and write it as a new epoch, with the lock held; return what was done."""
    done: list[str] = []
    header, text = _best_header(store, done)
    good: list[form.Shard] = []
    for shard in header.shards:
        name = files.shard_name(shard.number, shard.epoch, gzipped=header.gzipped)
        problem = _read_shard(store, header, shard)[1]
        if problem:
            done.append(
                f"{name}: {problem}{_set_aside(store, name)}; its {shard.entries} entries are not in the POD any more"
            )
        else:
            good.append(shard)
    name = files.journal_name(header.epoch)
    records, lines, lost, in_order = _good_records(text, header.seq, header.epoch, leased=header.leased)
    if header.leased and form.read_lines(text, header.seq, leased=True).trouble in ("", "torn"):
        lost = []  # what is void there is no damage
    if lost:
        aside = files.aside_name(name)
        files.write_new(store.file(aside), b"".join(lost), store.permissions)
        done.append(f"{name}: {len(lost)} damaged lines set aside in {aside}")
    elif not in_order:
        done.append(f"{name}: lines are missing, or in another order than their numbers; all that are there are kept")
    if not done:
        return []
    kept = header._replace(shards=tuple(good))
    changes = merging.net_entries(records, lines)
    # a number of its own, so that processes that read what is lost now read everything anew
    seq = max([header.seq, *(record["seq"] for record in records)]) + 1
    store.settle(kept, Position(kept.epoch, 0, header.seq))
    try:
        folding.write_epoch(store, merging.merge(store, kept, changes), seq)
    finally:
        store.position = None  # what is in memory is older, or newer, than this
        store.floor = None
    return done


def _set_aside(store: Store, name: str) -> str:
    """Copy the file under a name of its own (the fold removes it); return what to say of it."""
    try:
        data = files.read_file(store.file(name))
    except FileNotFoundError:
        return ""
    aside = files.aside_name(name)
    files.write_new(store.file(aside), data, store.permissions)
    return f"; set aside in {aside}"


def _good_records(
    text: bytes, seq: int, epoch: int, *, leased: bool = False
) -> tuple[list[form.Record], list[bytes], list[bytes], bool]:
    """Return the batches after number `seq` of all good lines of the journal of `epoch`, these lines, and all others but its seal.

    They are in the order of their numbers, and of those with the same number the first one counts. At last, whether they
    stand in the journal so, and none is missing.
    """
    found: dict[int, tuple[form.Record, bytes]] = {}
    lost: list[bytes] = []
    *lines, tail = text.split(b"\n")
    for at, line in enumerate(lines):
        record = next(iter(form.parse_lines([line])), {}) if form.is_good(line) else {}
        number = record.get("seq", 0)
        if number > seq and number not in found and "seal" not in record:
            found[number] = record, line
        elif record.get("seal", 0) <= epoch or ("seq" in record) != leased or at + 1 < len(lines):
            lost.append(line + b"\n")
    if tail:
        lost.append(tail)
    ordered = [found[number] for number in sorted(found)]
    whole = [*found] == [*range(seq + 1, seq + 1 + len(found))]
    return [record for record, _ in ordered], [line for _, line in ordered], lost, whole


def _committed_line(store: Store, done: list[str]) -> form.LockLine | None:
    """Return what `.lock` says, or should say by the journals, and write that; None if it cannot be told.

    Raises:
        PersistentOrderedDictIntegrityError: it and the journals are not of one directory.
    """
    found = store.read_lock_line(locked=True)
    line = form.decode_lock_line(found)
    if line is not None and not _is_left(store, line.epoch):
        return line
    chosen = choose(store.path)
    if line is not None and chosen is not None and chosen.id != line.id:
        raise _stranger(store, files.journal_name(chosen.epoch), chosen, line)
    if line is not None and (chosen is None or chosen.epoch <= line.epoch):
        return line
    if chosen is None and not found:
        return None
    epoch = chosen.epoch if chosen else 0
    said = f"of epoch {line.epoch}" if line else "missing or damaged"
    done.append(f"{files.LOCK}: {said}; what stood there is noted in {_note_lock(store, epoch)}")
    if chosen is not None:
        files.replace_line(store.lock.open(), chosen.encode())
    files.shorten(store.lock.open(), len(chosen.encode()) if chosen else 0)  # there may have been more
    return chosen


def _stranger(
    store: Store, name: str, journal: form.LockLine, line: form.LockLine
) -> PersistentOrderedDictIntegrityError:
    path = store.file(name)
    message = (
        f"{path} is of epoch {journal.epoch} of directory {journal.id}, {files.LOCK} of epoch {line.epoch} of {line.id}: "
        "one of them was put here by hand; remove that one, and repair again"
    )
    return PersistentOrderedDictIntegrityError(message, path)


def _is_left(store: Store, epoch: int) -> bool:
    """Tell whether the journal of an epoch is gone, or sealed."""
    try:
        text = files.read_file(store.file(files.journal_name(epoch)))
    except FileNotFoundError:
        return True
    start = text.find(b"\n") + 1
    header = form.decode_header(text[:start], store.file(files.journal_name(epoch)))
    return header is not None and form.read_lines(text[start:], header.seq, leased=header.leased).seal > epoch


def _best_header(store: Store, done: list[str]) -> tuple[form.Header, bytes]:
    """Return the header to go on from, and the lines after it.

    Where that of the current journal is damaged, the newest file of each shard is taken, up to the epoch that is known to be
    committed; what is not taken is set aside, since the fold that follows removes it.
    """
    names = files.names_in(store.path)
    line = _committed_line(store, done)
    journals = {
        what.epoch: files.read_file(store.file(name)) for name, what in names.items() if what and what.kind == "journal"
    }
    if line is not None:
        epoch = line.epoch
        text = journals.get(epoch, b"")
        start = text.find(b"\n") + 1
        path = store.file(files.journal_name(epoch))
        header = form.decode_header(text[:start], path)
        if header is not None and header.lock_line != line:
            raise _stranger(store, files.journal_name(epoch), header.lock_line, line)
        if header is not None:
            return header, text[start:]
    else:
        epoch = max((epoch for epoch, text in journals.items() if b"\n" in text), default=0)
        text = journals.get(epoch, b"")
        start = text.find(b"\n") + 1
    if form.is_good(text[: start - 1]) and form.parse_lines([text[: start - 1]]):
        start = 0  # a batch; the line of the header is gone
    if epoch in journals:
        name = files.journal_name(epoch)
        done.append(f"{name}: without a whole header{_set_aside(store, name)}; its good lines are kept")
    else:
        done.append(f"{files.journal_name(epoch)}: missing; the newest file of each shard is taken")
    newest: dict[int, form.Shard] = {}
    for file, what in names.items():
        if what and what.kind == "shard" and (line is None or what.epoch <= epoch):
            shard = _shard_as_it_is(store, file, what)
            newest[what.number] = max(newest.get(what.number, shard), shard, key=lambda one: one.epoch)
    taken = {(shard.number, shard.epoch) for shard in newest.values()}
    for file, what in names.items():
        if what and what.kind == "shard" and (what.number, what.epoch) not in taken:
            done.append(f"{file}: of an epoch that was not committed, or replaced{_set_aside(store, file)}")
        if what and what.kind == "journal" and what.epoch != epoch and journals[what.epoch]:
            done.append(f"{file}: not the current journal{_set_aside(store, file)}")
    highest = max([what.epoch for what in names.values() if what] + [epoch])
    gzipped = any(file.endswith(".json.gz") for file in names)
    shards = tuple(newest[number] for number in sorted(newest))
    identity = line.id if line else files.random_text(8)
    records = _good_records(text[start:], 0, epoch)[0]
    seq = records[0]["seq"] - 1 if records else 0
    lock = form.LEASE if store.lock.leased else form.FLOCK
    free = max(newest, default=-1) + 1
    return form.Header(identity, highest, 0, seq, gzipped, SHARD_BYTES, free, shards, lock=lock), text[start:]


def _shard_as_it_is(store: Store, name: str, what: files.Name) -> form.Shard:
    """Return what a header would say of a shard file."""
    data = files.read_file(store.file(name))
    try:
        entries = len(shard_dict(unpack(data) if name.endswith(".gz") else data))
    except ValueError:  # found again, and set aside, when it is read
        entries = 0
    return form.Shard(what.number, what.epoch, entries, len(data), form.crc_text(data))


def has_files(path: str) -> bool:
    """Tell whether there is something of a POD in the directory, besides `.lock`."""
    try:
        names = files.names_in(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return any(what and what.kind in ("journal", "shard") for what in names.values())
