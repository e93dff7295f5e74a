"""Shared file systems of one's own, each mounted twice, and what is tried on them: see `python -m stress.rigs --help`."""
