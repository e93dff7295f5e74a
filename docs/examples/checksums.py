"""SHA-256 and line count of every file below a directory, by processes that share one POD.

    python checksums.py DIRECTORY PATH.pod

Stop it, kill it, pull the plug: the same command again does what is missing.
"""

import hashlib
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tastypy import POD

pod: POD[str, dict[str, Any]]


def open_pod(path: str) -> None:
    """Each worker opens the same directory, once."""
    global pod
    pod = POD(path)


def work(file: Path) -> None:
    """When this returns, the result is safe, whatever happens to this process or any other."""
    data = file.read_bytes()
    pod[str(file)] = {"sha256": hashlib.sha256(data).hexdigest(), "lines": data.count(b"\n")}


def main(directory: str, path: str) -> None:
    """Do what is missing, and show how far it is."""
    with POD[str, Any](path) as results:
        files = [file for file in Path(directory).rglob("*") if file.is_file()]
        todo = [file for file in files if str(file) not in results]
        print(f"{len(files)} files, {len(todo)} of them to do")
        with ProcessPoolExecutor(initializer=open_pod, initargs=(path,)) as pool:
            for number, _ in enumerate(pool.map(work, todo), 1):
                print(f"\r{number} of {len(todo)}", end="", flush=True)
        results.refresh()
        print(f"\n{len(results)} results in {results.path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
