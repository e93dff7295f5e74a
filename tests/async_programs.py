"""A program of coroutines that tests kill: `python async_programs.py PATH`."""

from __future__ import annotations

import asyncio
import sys

from tracker_programs import say

from tastypy import Tracker

CROWD = 50


async def work(tracker: Tracker[int]) -> None:
    while (task := await asyncio.to_thread(tracker.claim)) is not None:
        with task:
            if task.key >= CROWD:  # by now all of them have something in hand
                say("busy")
                await asyncio.sleep(3600)
            await asyncio.sleep(0.001)
            await asyncio.to_thread(task.done, square=task.key**2)


async def main(path: str) -> None:
    with Tracker[int](path, max_tries=3) as tracker:
        async with asyncio.TaskGroup() as group:
            for _ in range(CROWD):
                group.create_task(work(tracker))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
