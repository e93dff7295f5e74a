"""What is tried on two mounts of one file system: the commands that share a POD or a tracker, with their processes on both."""

from __future__ import annotations

import argparse
import subprocess
import sys

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
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
