"""A POD that processes on several hosts change at once, and counts of what they were told: see `python -m stress.mounts --help`."""
