"""A small run in two sittings, with a pause, of tasks that fail now and then, drawn as a picture.

    python draw.py PICTURE.svg

It takes three seconds.
"""

import random
import sys
import tempfile
import time

from tastypy import Tracker


def task(number: int) -> float:
    """Take some time, and fail now and then: some of the tasks always, some of them once."""
    chance = random.Random(number)
    seconds = chance.uniform(0.01, 0.05)
    time.sleep(seconds)
    if chance.random() < 0.04:
        message = "the file is empty"
        raise ValueError(message)
    if chance.random() < 0.02:
        message = "title"
        raise KeyError(message)
    if random.random() < 0.08:
        message = "read timed out"
        raise TimeoutError(message)
    return seconds


def main(picture: str) -> None:
    """Do it, and draw it."""
    with (
        tempfile.TemporaryDirectory() as directory,
        Tracker[int](f"{directory}/example.tracker", max_tries=3) as tracker,
    ):
        tracker.add_many(range(120))
        tracker.run(task, workers=3, progress=False)
        time.sleep(0.6)
        tracker.add_many(range(120, 200))
        tracker.run(task, workers=2, progress=False)
        figure = tracker.plot()
    figure.suptitle("pages.tracker", x=0.01, ha="left", weight="bold")  # in place of the path, which is a passing one
    figure.savefig(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
