"""Processes that are killed, fork and run out of everything, for as long as asked."""
