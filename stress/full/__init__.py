"""Disks that are full."""
