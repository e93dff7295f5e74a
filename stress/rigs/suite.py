"""What is tried on two mounts of one file system: the commands that share a POD or a tracker, with their processes on both."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence

from stress.hosts import Host

COHERENT, INCOHERENT = "coherent", "incoherent"
# The commands, and how much of the time each may take.
_COMMANDS: dict[str, dict[tuple[str, ...], float]] = {
    COHERENT: {
        ("stress.mounts", "--only", "shared"): 0.5,
        ("stress.histories",): 0.25,
        ("stress.tracker",): 0.25,
    },
    INCOHERENT: {("stress.mounts", "--only", "incoherent"): 1.0},
}


_VERDICTS = {COHERENT: "good", INCOHERENT: "bad"}


def _doctor(promise: str, mounts: Sequence[str]) -> bool:
    """Have `tastypy doctor` tried out by both hosts at once; tell whether each comes to the right verdict, and leaves nothing."""
    start = time.monotonic()
    sides = []
    for number, mount in enumerate(mounts, 1):
        host = Host.of(mount, number)
        on = ("nsenter", f"--target={host.process}", "--net", "--uts") if host.process else ()
        command = [*on, sys.executable, "-m", "tastypy", "doctor", str(host.mount), "--peer", "rig", "--json"]
        sides.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
    right = True
    for number, side in enumerate(sides, 1):
        report = json.loads(side.communicate()[0])
        right &= report["verdict"] == _VERDICTS[promise]
        print(f"host {number}: {report['verdict']}: {'; '.join(report['reasons'])}", flush=True)
    if promise == COHERENT:
        commits = report["measured"]["commit_ms"]
        print("ms of a commit: " + ", ".join(f"{name} {figure}" for name, figure in commits.items()), flush=True)
    left = [path.name for mount in mounts for path in Host.of(mount, 0).mount.iterdir() if "doctor" in path.name]
    print(
        f"{'WRONG' if left or not right else 'nothing wrong'}, left are {left} ({time.monotonic() - start:.0f} s)",
        flush=True,
    )
    return right and not left


def main() -> int:
    """Run all commands; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m stress.rigs.suite", description=__doc__)
    parser.add_argument("promise", choices=_COMMANDS, help="of the file system")
    parser.add_argument("--seconds", type=float, required=True, help="of all together")
    parser.add_argument("--quick", action="store_true", help="a sample of each")
    parser.add_argument("--mounts", nargs=2, required=True, metavar="DIR", help="as stress.mounts takes them")
    options = parser.parse_args()
    failed = False
    for (module, *rest), share in _COMMANDS[options.promise].items():
        command = [module, *rest, f"--seconds={options.seconds * share:g}", *(["--quick"] if options.quick else [])]
        print("==", *command, flush=True)
        done = subprocess.run([sys.executable, "-m", *command, "--mounts", *options.mounts], check=False)
        failed |= done.returncode != 0
    print("== tastypy doctor --peer", flush=True)
    failed |= not _doctor(options.promise, options.mounts)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
