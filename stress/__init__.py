"""What takes processes, kills, time or a peer to compare with; each module is a command: `python -m stress.speed`."""
