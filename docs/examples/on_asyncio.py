"""How long servers take to accept a connection, asked by fifty coroutines at a time.

    python on_asyncio.py PATH.tracker HOST:PORT ...

Stop it, kill it, run it twice at once: the same command again does what is missing.
"""

import asyncio
import sys
import time

from tastypy import Task, Tracker


async def claim(tracker: Tracker[str]) -> Task | None:
    """Claim a task in a thread. Who is cancelled meanwhile gives back what the thread has claimed."""
    claiming = asyncio.ensure_future(asyncio.to_thread(tracker.claim))
    try:
        return await asyncio.shield(claiming)
    except asyncio.CancelledError:
        task = await claiming
        if task is not None:
            task.release()
        raise


async def connect(server: str) -> float:
    """Return the seconds that a connection takes."""
    host, _, port = server.rpartition(":")
    start = time.monotonic()
    async with asyncio.timeout(5):
        _, writer = await asyncio.open_connection(host, int(port))
    writer.close()
    return time.monotonic() - start


async def work(tracker: Tracker[str]) -> None:
    """Do tasks until there is none to be had."""
    while (task := await claim(tracker)) is not None:
        try:
            with task:  # an exception fails it, a cancellation releases it
                seconds = await connect(task.key)
                await asyncio.to_thread(task.done, seconds=seconds)
        except (OSError, ValueError) as error:
            print(f"{task.key}: {error!r}")


async def main(path: str, *servers: str) -> None:
    """Add what is new, and have fifty coroutines at it."""
    with Tracker[str](path, max_tries=2) as tracker:
        tracker.add_many_if_absent(servers)
        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(work(tracker))
        print(tracker.counts())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
