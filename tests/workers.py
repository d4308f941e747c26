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
KINDS = ("other", "calm", "alone")  # of tests, in the order in which they run
AT_ONCE = 4  # calm ones, however many workers there are
HERE = Path(__file__).parent
# what is locked, and nothing else to it
GATE, ROOMS = (
	Path(__file__),
	{kind: HERE / f"{name}.py" for kind, name in zip(KINDS, ("leaks", "waiting", "lan"), strict=True)},
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


def place() -> Path:
	"""What those of the workers lock that share a place among the calm ones."""
	worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
	return HERE / ("meetings.py", "headless.py", "screens.py", "sound.py")[worker % AT_ONCE]


@contextlib.contextmanager
def turn(kind: str) -> Iterator[None]:
	"""Hold a place among the workers: those of one kind run side by side, an `alone` one by itself.

	Who waits until those of another kind have ended is not overtaken.
	"""
	if sys.platform == "win32":
		yield
		return
	import fcntl

	with contextlib.ExitStack() as stack:
		gate, *opened = (stack.enter_context(path.open()) for path in (GATE, *ROOMS.values()))
		rooms = dict(zip(ROOMS, opened, strict=True))
		fcntl.flock(gate, fcntl.LOCK_EX)
		for other in set(rooms) - {kind}:
			fcntl.flock(rooms[other], fcntl.LOCK_EX)  # when it is empty
			fcntl.flock(rooms[other], fcntl.LOCK_UN)
		fcntl.flock(rooms[kind], fcntl.LOCK_EX if kind == "alone" else fcntl.LOCK_SH)
		fcntl.flock(gate, fcntl.LOCK_UN)
		if kind == "calm":
			fcntl.flock(stack.enter_context(place().open()), fcntl.LOCK_EX)
		yield
