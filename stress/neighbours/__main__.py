"""Users who share a directory, and neighbours who may write there and mean harm.

Users of one group, with whatever umask, in a setgid directory: both go on always. Others get an error that says what to do, and
change nothing; who may read, reads. What a neighbour puts in the place of a file (a symbolic link, a FIFO, a directory, a
socket, a device, a hard link to a foreign file) is refused by its name: not followed, not waited for, not written to; before
a POD is opened, while it is open, and by a process that goes on swapping files while others work. No key gets into a path.
Nothing in a file runs code or takes memory out of proportion. Every attempt has to end in 5 s.

Not promised: who may write in a directory can write wrong values into it, and remove files. The path of the directory itself
may lead over symbolic links: who opens it has chosen it.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import Counter
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stress.command import Trial, WrongError, command
from stress.judging import go_on, judge_total, read
from stress.neighbours import hostile
from stress.neighbours.bounded import Answer, attempt
from stress.neighbours.plants import Outside, can_exchange, possible, remove, swap
from stress.neighbours.sharing import exclude, share
from stress.telling import SmallWriter, Teller, Voice
from tastypy import POD, TastypyError, Tracker, UnstorableValueError, check, repair
from tastypy.files import parse_name

if TYPE_CHECKING:
    import random

_PARTS = ("users", "planted", "swapped", "keys", "contents")
_VICTIMS = (".lock", "journal", "shard", "worker", "the next journal", "the next shard")


# --- planted


def _make_tracker(path: Path) -> dict[str, Any]:
    """Make a tracker with tasks, of which a worker that was killed has one."""
    with Tracker[str](path) as tracker:
        tracker.add_many(f"task-{number}" for number in range(10))
        tracker.sync()

    def die() -> None:
        tracker = Tracker[str](path)
        tracker.claim()
        os._exit(0)

    process = get_context("fork").Process(target=die)
    process.start()
    process.join()
    return read(path)


def _victim(path: Path, victim: str) -> Path:
    epoch = int(hostile.journal(path).stem.partition("-")[2])
    match victim:
        case ".lock":
            return path / ".lock"
        case "journal":
            return hostile.journal(path)
        case "shard":
            return hostile.shard(path)
        case "worker":
            return next(path.glob("worker-*"))
        case "the next journal":
            return path / f"journal-{epoch + 1}.jsonl"
        case _:
            return path / f"0000-{epoch + 1}.json"


def plant_everywhere(place: Path, figures: Counter[str], *, every: int, first: int) -> None:
    """Put each thing in the place of each file, at each moment, or one in `every` of these."""
    outside = Outside(place)
    origin = place / "origin"
    expected = _make_tracker(origin)
    cases = [
        (name, plant, victim, moment)
        for name, plant in possible(place, outside).items()
        for victim in _VICTIMS
        for moment in ("open", "a", "r", "claim", "check")
    ]
    for name, plant, victim, moment in cases[first % every :: every]:
        path = place / "tracker"
        shutil.copytree(origin, path)
        file, aside = _victim(path, victim), place / "aside"
        title = f"{name} for {victim}, {moment}"
        there = file.exists()

        def put(file: Path = file, aside: Path = aside, plant: Any = plant, *, there: bool = there) -> None:
            if there:
                file.rename(aside)
            plant(file, outside)

        if moment != "open":
            put()
        answer = attempt(title, partial(_use, path, moment, put))
        outside.judge()
        figures["planted"] += 1
        figures["refused"] += bool(answer.error)
        _judge_refusal(title, answer, path, file)
        if there:
            remove(file)
            aside.rename(file)
        elif file.is_dir() and not file.is_symlink():
            file.rmdir()  # one fold would fail, as it should
        found, problems = read(path), hostile.go_on(path)
        if found.keys() - {"probe"} != expected.keys() or problems:
            message = f"{title}: then there is {[*found]}, {problems}"
            raise WrongError(message)
        shutil.rmtree(path)


def _judge_refusal(title: str, answer: Answer, path: Path, file: Path) -> None:
    if answer.error and file.name not in answer.error and not (file.name == ".lock" and str(path) in answer.error):
        message = f"{title}: refused without saying what: {answer.error}"
        raise WrongError(message)


def _use(path: Path, moment: str, put: Any) -> str:
    """Do at this moment what one does with a tracker; return what it was."""
    match moment:
        case "r":
            hostile.copy(path, "r")
        case "check":
            with Tracker[str](path) as tracker:
                tracker.check()
        case "claim":
            with Tracker[str](path) as tracker:
                for _ in range(len(tracker)):
                    if (task := tracker.claim()) is not None:
                        task.done()
                tracker.sync()
        case _:
            with Tracker[str](path) as tracker:
                if moment == "open":
                    tracker.add("probe")
                    put()
                tracker.add_if_absent("probe")
                tracker.mark_done("probe")
                tracker.sync()
                tracker.refresh()
    return moment


# --- swapped


def swap_under_writers(place: Path, chance: random.Random, seconds: float) -> Counter[str]:
    """Let a process swap files while others write, fold and open; judge what they told once it has ended."""
    outside, path, aside = Outside(place), place / "pod", place / "aside"
    aside.mkdir()
    kinds = possible(place, outside)
    stop, stop_swapping = place / "stop", place / "stop swapping"
    POD[str, Any](path, shard_bytes=5000).close()
    voices = [
        Voice(
            Teller(SmallWriter(chance.randrange(1 << 30), f"w{number}"), path, stop, (TastypyError,), checks=False), {}
        )
        for number in range(2)
    ]
    swapper = get_context("fork").Process(
        target=swap, args=(path, aside, outside, kinds, chance.randrange(1 << 30), stop_swapping), daemon=True
    )
    figures: Counter[str] = Counter()
    try:
        for voice in voices:
            voice.start()
        swapper.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for mode in ("a", "r"):
                answer = attempt(f"opened while it is swapped, {mode}", partial(hostile.copy, path, mode))
                figures["openings"] += 1
                figures["openings refused"] += bool(answer.error)
            for voice in voices:
                voice.listen()
        stop_swapping.touch()
        swapper.join(10)
        figures["swaps"] = (aside / "swaps").stat().st_size
        stop.touch()
        for voice in voices:
            voice.end()
        outside.judge()
        found = go_on(path)
        judge_total(found)
        for voice in voices:
            voice.told.judge(found, killed=False)
            figures.update(voice.told.counts)
    finally:
        swapper.kill()
        for voice in voices:
            voice.kill()
    return figures


# --- keys


_KEYS = [
    "../../x",
    "/etc/x",
    "a\0b",
    "a\nb",
    "0000-1.json",
    ".lock",
    "journal-1.jsonl",
    "..",
    ".",
    "",
    "#",
    "#[",
    '"',
    "\\",
]


def use_keys(place: Path, chance: random.Random) -> Counter[str]:
    """Set hostile keys and random ones, and see that none gets into a path."""
    letters = "./\\\0\n\"'#~-*$({x0:\u202e\uffff\U0001f600"
    keys = [*_KEYS, "x" * 100_000, "../" * 10_000 + "x"]
    keys += ["".join(chance.choices(letters, k=chance.randrange(1, 20))) for _ in range(200)]
    entries = {key: number for number, key in enumerate(keys)}
    before = {*place.iterdir()}
    path = place / "keys"
    with POD[Any, Any](path, shard_bytes=chance.choice([1, 500, 50_000])) as pod:
        pod.update(entries)
        pod.sync()
        for key in chance.sample(keys, 20):
            pod[key] = entries[key]
        try:
            pod["\ud800"] = 1
        except UnstorableValueError:
            pass
        else:
            message = "a lone surrogate was taken for a key"
            raise WrongError(message)
    foreign = [file.name for file in path.iterdir() if parse_name(file.name) is None]
    if read(path) != entries or foreign or {*place.iterdir()} != before | {path}:
        message = f"keys came back otherwise, or there are {foreign} and {[*place.iterdir()]}"
        raise WrongError(message)
    shutil.rmtree(path)
    return Counter(keys=len(entries))


# --- contents


def read_contents(place: Path, figures: Counter[str], *, every: int, first: int) -> None:
    """Let each file that means harm be read, checked and repaired, or one in `every`, with bounds on time and memory."""
    for gzipped, contents in ((False, hostile.PLAIN), (True, hostile.GZIPPED)):
        origin = place / f"origin-{gzipped}"
        hostile.make(origin, gzipped=gzipped)
        for name, write in [*contents.items()][first % every :: every]:
            for how, action in (
                ("r", partial(hostile.copy, mode="r")),
                ("a", hostile.go_on),
                ("check", check),
                ("repair", repair),
            ):
                path = place / "pod"
                shutil.copytree(origin, path)
                write(path)
                answer = attempt(f"{name}, {how}", partial(action, path))
                figures["attempts"] += 1
                figures["refused"] += bool(answer.error)
                if "secret" in str(answer) or (answer.error and str(path) not in answer.error):
                    message = f"{name}, {how}: {answer}"
                    raise WrongError(message)
                shutil.rmtree(path)


def _run(trial: Trial) -> None:
    trial.place.chmod(0o711)
    root = os.geteuid() == 0
    if trial.wants("users") and not root:
        print("users: left out, to become others takes root")
    elif trial.wants("users"):
        with trial.part("users of one group, and a stranger") as figures:
            for number in trial.rounds(0.1):
                place = trial.path()
                place.mkdir()
                figures.update(share(place, trial.chance("users", number), 0.5 if trial.quick else 2))
                figures.update(exclude(place))
                shutil.rmtree(place)
    if trial.wants("planted"):
        with trial.part("something else in the place of a file") as figures:
            place = trial.path()
            place.mkdir()
            plant_everywhere(place, figures, every=19 if trial.quick else 1, first=trial.seed)
    if trial.wants("swapped"):
        place = trial.path()
        place.mkdir()
        if reason := can_exchange(place):
            print(f"swapped: left out, {reason}")
        else:
            with trial.part("files swapped while others work") as figures:
                figures.update(swap_under_writers(place, trial.chance("swapped"), 0.8 if trial.quick else 5))
    if trial.wants("keys"):
        with trial.part("hostile keys") as figures:
            for number in trial.rounds(0.1):
                place = trial.path()
                place.mkdir()
                figures.update(use_keys(place, trial.chance("keys", number)))
    if trial.wants("contents"):
        with trial.part("hostile contents") as figures:
            place = trial.path()
            place.mkdir()
            read_contents(place, figures, every=6 if trial.quick else 1, first=trial.seed)


if __name__ == "__main__":
    sys.exit(command("neighbours", __doc__, _run, seconds=30, quick=0.5, parts=_PARTS))
