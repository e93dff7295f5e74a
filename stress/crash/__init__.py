"""Kills and errors at every system call, and journals cut at every byte."""
