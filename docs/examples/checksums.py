"""SHA-256 and line count of every file below a directory, by processes that share one POD.

    python checksums.py DIRECTORY PATH.pod

Stop it, kill any of its processes, pull the plug: the same command again does what is missing.
"""

import hashlib
import sys
import time
from multiprocessing import Process
from pathlib import Path
from typing import Any

from tastypy import POD

WORKERS = 4


def work(pod: POD[str, Any], files: list[Path]) -> None:
    """Do a share of the files. When an assignment is done, no crash can lose its result any more."""
    for file in files:
        data = file.read_bytes()
        pod[str(file)] = {"sha256": hashlib.sha256(data).hexdigest(), "lines": data.count(b"\n")}


def main(directory: str, path: str) -> None:
    """Share out what is missing among some processes, and show how far they are."""
    with POD[str, Any](path) as pod:
        files = [file for file in Path(directory).rglob("*") if file.is_file()]
        todo = [file for file in files if str(file) not in pod]
        print(f"{len(files)} files, {len(todo)} of them to do")
        processes = [Process(target=work, args=(pod, todo[number::WORKERS])) for number in range(WORKERS)]
        for process in processes:
            process.start()
        while any(process.is_alive() for process in processes):
            time.sleep(0.1)
            pod.refresh()  # bring in what the others stored
            print(f"\r{len(pod)} results", end="", flush=True)
        pod.refresh()
        print(f"\r{len(pod)} results in {pod.path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
