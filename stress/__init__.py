"""What takes processes, kills, time or a peer to compare with; each package in here, and `broken`, is a command: `python -m stress.bench`."""
