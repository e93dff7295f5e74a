"""SHA-256 and line count of every file below a directory, by workers that share one tracker.

    python checksums.py DIRECTORY PATH.tracker

Stop it, kill any of its processes, pull the plug: the same command again does what is missing.
"""

import hashlib
import sys
from pathlib import Path

from tastypy import Tracker


def checksum(file: str) -> dict[str, str | int]:
    """Do one file. What is returned goes into its entry, as `result`; an exception does, too, as `_error`."""
    data = Path(file).read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "lines": data.count(b"\n")}


def main(directory: str, path: str) -> None:
    """Add what is new, and take everything that is not done through `checksum`."""
    with Tracker[str](path, max_tries=3) as tracker:
        files = [str(file) for file in Path(directory).rglob("*") if file.is_file()]
        print(f"{len(files)} files, {tracker.add_many_if_absent(files)} of them new")
        print(tracker.run(checksum))
        for file, entry in tracker.failed_items():
            print(f"{file}: {entry['_error']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
