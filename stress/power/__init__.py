"""Power cuts: of disks under load, and of recorded programs at every call."""
