"""Workers side by side (pytest -n): a network of its own for each, and turns for who needs everything."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CLONE_NEWNET = 0x40000000
# what is locked, and nothing else to it
GATE, ROOM, LONG = (
    Path(__file__),
    Path(__file__).with_name("conftest.py"),
    Path(__file__).with_name("leaks.py"),
)


def apart() -> None:
    """Give this process a loopback of its own, where the system lets it: meetings of two never meet."""
    if sys.platform == "linux" and ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def outside() -> list[str]:
    """What to put in front of a command that needs the network that the parent process has."""
    parent = Path(f"/proc/{os.getppid()}/ns/net")
    with contextlib.suppress(OSError):
        if parent.readlink() != Path("/proc/self/ns/net").readlink():
            return ["nsenter", f"--net={parent}"]
    return []


@contextlib.contextmanager
def turn(alone: bool = False, long: bool = False) -> Iterator[None]:
    """Hold a place among the workers, or all places; who wants all is not overtaken, but first lets those
    end that take minutes while the others go on."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with LONG.open() as minutes, GATE.open() as gate, ROOM.open() as room:
        if alone or long:
            fcntl.flock(minutes, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield
