"""Let processes on several hosts change one POD at once, kill some of them, and judge what is there by what they were told.

    python -m stress.mounts --mounts DIR DIR             on a file system that is mounted at both
    python -m stress.mounts --mounts DIR DIR --only incoherent

`shared`: writers have keys of their own, and count their transactions under one key of all; they fold every few dozen changes, or
hundreds, into shards of a few entries, gzipped or not. Readers without the lock refresh beside them, and look for a transaction of which
half is there. Others have each host cache the files that are there, and that are not there yet. Each acknowledged change is
counted outside the file system: after every piece of work, in which writers on all hosts are killed, each host must show
exactly those changes, and at most the one more that was under way.

`incoherent` is for mounts that do not show one host's writes to the other under the lock, or that give it to both: there a writer
has to be told so, by an IncoherentFileSystemError, in every round.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from itertools import count
from multiprocessing import connection
from typing import Any

from stress.changes import Writer
from stress.command import Trial, WrongError, command
from stress.judging import Known, go_on, judge_total, read
from stress.mounts.players import INCOHERENT, Player, Round, reader, spoiler, writer
from tastypy import POD

_PIECES = 6  # of work in a round
_SOON = 20.0  # seconds that writers may go on where each host sees its own writes alone


def _round(trial: Trial, chance: random.Random, seconds: float) -> Round:
    options = {"shard_bytes": chance.choice([400, 4000, None]), "gzipped": chance.random() < 0.3}
    return Round(trial.shared(), options, chance.choice([3000, 3000, 100_000]), seconds)


def _share(trial: Trial, chance: random.Random, figures: Counter[str]) -> None:
    """Play a round in which nothing may be lost."""
    played = _round(trial, chance, 1.0 if trial.quick else 3.0)
    hosts = len(played.pod.hosts)
    known = [Known(Writer(trial.seed, f"w{number}")) for number in range(chance.randint(2, 3) * hosts)]
    go_on(played.pod.path(), **played.options)
    others: dict[str, Player] = {}
    try:
        for number in range(hosts):
            for name, play in (("reader", reader(len(known), chance)), ("spoiler", spoiler(chance))):
                others[f"the {name} on host {number + 1}"] = Player(play, played.pod, number)
        for _ in range(_PIECES):
            acknowledged = _work(played, known, chance, figures)
            _judge(played, known, acknowledged)
            for name, player in others.items():
                if not player.process.is_alive():
                    raise WrongError(f"{name} has ended, see above")
    finally:
        for player in others.values():
            player.process.kill()
    for name, player in others.items():
        figures["looks of readers" if "reader" in name else "looks to be cached"] += player.end()[0]
    go_on(played.pod.path(), **played.options)
    with POD[str, Any](played.pod.path(), mode="r") as pod:
        figures.update(folds=pod.stats().epoch, rounds=1)
    played.pod.remove()


def _work(played: Round, known: list[Known], chance: random.Random, figures: Counter[str]) -> list[int]:
    """Have all writers work for a while, and some killed; return how many changes each was told are made."""
    players = [Player(writer(played, one), played.pod, number) for number, one in enumerate(known)]
    victims = chance.sample(players, chance.randint(0, len(players) // 2))
    end = time.monotonic() + played.seconds
    for victim in victims:
        time.sleep(chance.random() * max(end - time.monotonic(), 0) / len(victims))
        victim.process.kill()
    acknowledged = []
    for number, (player, one) in enumerate(zip(players, known, strict=True)):
        told, status = player.end()
        if status and player not in victims:
            raise WrongError(
                f"writer {one.writer.name} on host {number % len(played.pod.hosts) + 1} ended with {status}"
            )
        acknowledged.append(told)
    figures.update({"acknowledged": sum(acknowledged), "kills": len(victims)})
    return acknowledged


def _judge(played: Round, known: list[Known], acknowledged: list[int]) -> None:
    """Raise unless each host shows what the writers were told, and all of them the same."""
    for number in range(len(played.pod.hosts)):
        found = read(played.pod.path(number))
        judge_total(found)
        for one, told in zip(known, acknowledged, strict=True):
            if number == 0:
                one.judge(found, told)
            else:
                one.judge_again(found)


def _be_told(trial: Trial, chance: random.Random, figures: Counter[str]) -> None:
    """Play a round on mounts that do not agree: one of the writers has to be told so.

    One that was told of something else, as a file system may say whatever it likes then, is followed by another one.
    """
    played = _round(trial, chance, _SOON)
    logging.getLogger("tastypy").setLevel(logging.CRITICAL)  # of what goes wrong on purpose, and of the mounts
    go_on(played.pod.path(), **played.options)
    start = time.monotonic()
    names = count()

    def begun(number: int) -> Player:
        return Player(writer(played, Known(Writer(trial.seed, f"w{next(names)}"))), played.pod, number)

    players = [begun(number) for number in range(len(played.pod.hosts))]
    try:
        while True:
            left = start + _SOON - time.monotonic()
            connection.wait([player.process.sentinel for player in players], max(left, 0))
            ended = [number for number, player in enumerate(players) if not player.process.is_alive()]
            if left < 0:
                raise WrongError(f"no writer was told within {_SOON:g} s that the mounts do not agree")
            statuses = [players[number].process.exitcode for number in ended]
            if INCOHERENT in statuses:
                break
            for number in ended:
                figures["acknowledged before"] += players[number].end()[0]
                players[number] = begun(number)
            figures["otherwise"] += len(ended)
    finally:
        for player in players:
            player.process.kill()
    figures.update({"rounds": 1, "told": statuses.count(INCOHERENT)})
    figures["acknowledged before"] += sum(player.end()[0] for player in players)
    figures["ms at most"] = max(figures["ms at most"], round((time.monotonic() - start) * 1000))
    with suppress(OSError):  # such a mount does not even agree on what is there
        played.pod.remove()


def _run(trial: Trial) -> None:
    incoherent = trial.wants("incoherent") and not trial.wants("shared")
    title, play = (
        ("writers on hosts that do not see each other", _be_told) if incoherent else ("a POD shared by hosts", _share)
    )
    with trial.part(title) as figures:
        for number in trial.rounds():
            play(trial, trial.chance(title, number), figures)


if __name__ == "__main__":
    sys.exit(command("mounts", __doc__, _run, seconds=120, quick=8, parts=("shared", "incoherent")))
