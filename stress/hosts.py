"""Processes that see one directory as different hosts do: each through a mount of its own, with a name of its own.

A mount is the path of a directory, or `PATH@PID`: then who uses it enters the network and the host name of that process
first. Otherwise it takes a host name of its own, where the rights suffice.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_NEW_UTS, _NEW_NET = 0x04000000, 0x40000000  # of <linux/sched.h>: names of the host, and its network


class Host(NamedTuple):
    """One host: where it has the directory mounted, its name, and a process whose namespaces are its own, or 0."""

    mount: Path
    name: str = ""
    process: int = 0

    @classmethod
    def of(cls, mount: str, number: int) -> Host:
        """Return the host that a mount, as it is given on the command line, stands for."""
        path, _, process = mount.partition("@")
        return cls(Path(path), f"host{number}", int(process or 0))

    def enter(self) -> None:
        """Make this process one of that host, as far as its name and network go."""
        libc = ctypes.CDLL(None, use_errno=True)
        if self.process:
            for kind, name in ((_NEW_NET, "net"), (_NEW_UTS, "uts")):
                descriptor = os.open(f"/proc/{self.process}/ns/{name}", os.O_RDONLY)
                entered = libc.setns(descriptor, kind)
                os.close(descriptor)
                if entered:
                    raise OSError(ctypes.get_errno(), f"setns, {name} of {self.process}")
        elif self.name and libc.unshare(_NEW_UTS) == 0:
            with suppress(OSError):
                socket.sethostname(self.name)


class Place(NamedTuple):
    """A directory that all hosts see, each at a path of its own. Processes, which have numbers, are on them in turn."""

    hosts: tuple[Host, ...]
    name: str

    def path(self, number: int = 0) -> Path:
        """Return its path as the process with this number sees it."""
        return self.hosts[number % len(self.hosts)].mount / self.name

    def enter(self, number: int) -> Path:
        """Return that path, and make this process, which has that number, one of that host."""
        self.hosts[number % len(self.hosts)].enter()
        return self.path(number)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path())
