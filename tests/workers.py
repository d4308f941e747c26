"""Workers side by side (pytest -n): a network of its own for each, and turns for who needs everything."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000
KINDS = ("other", "calm", "alone")  # of tests, in the order in which they run
ROOMS = ("leaks", "waiting", "lan")  # a file for each
PLACES = ("meetings", "headless", "screens", "sound")  # of calm ones: so many run at once
QUEUE = "fake_call"  # of those who wait for one of these
HERE = Path(__file__).parent
MOMENT = 0.05  # seconds between two looks


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


def compiled(worker: int, workers: int) -> None:
	"""Import the tests, each worker from another on: what one has compiled all others find so."""
	names = sorted(path.stem for path in HERE.glob("test_*.py"))
	first = len(names) * worker // workers
	for name in names[first:] + names[:first]:
		with contextlib.suppress(Exception, pytest.skip.Exception):  # the collection tells it
			importlib.import_module(name)


class Turns:
	"""Who runs beside whom, as one worker sees it: it locks files of `folder`, and does nothing to them."""

	def __init__(self, folder: Path = HERE) -> None:
		self._gate = folder / "workers.py"
		self._rooms = {kind: folder / f"{name}.py" for kind, name in zip(KINDS, ROOMS, strict=True)}
		self._places = [folder / f"{name}.py" for name in PLACES]
		self._queue = folder / f"{QUEUE}.py"
		self._last = KINDS[0]

	@contextlib.contextmanager
	def turn(self, kind: str) -> Iterator[None]:
		"""Hold a place: those of one kind run side by side, an `alone` one by itself.

		Who comes to the first of a later kind lets all others end what they have of earlier ones. Nobody runs
		between two tests of theirs: it begins when that has lasted.
		"""
		with contextlib.ExitStack() as held:
			with contextlib.ExitStack() as queue:
				if kind == "calm":  # else who comes back from a test is quicker than who looks now and then
					locked(self._queue, queue, wait=True)
				self._wait(kind, held)
			self._last = kind
			yield

	def _wait(self, kind: str, held: contextlib.ExitStack) -> None:
		"""Look until there is a place; it is kept until `held` ends."""
		steps = KINDS.index(kind) - KINDS.index(self._last)
		looks, needed = 0, 1 if self._begun(kind) else max(1, 10 * steps)  # the calm before the `alone`
		while True:
			looks = looks + 1 if self._enter(kind, held) else 0
			if looks == needed:
				return
			held.close()
			time.sleep(MOMENT)

	def _begun(self, kind: str) -> bool:
		"""Whether calm ones run now, and this is another."""
		if kind != "calm":
			return False
		with contextlib.ExitStack() as seen:
			locked(self._gate, seen, wait=True)  # who looks locks rooms for a moment
			return not locked(self._rooms[kind], seen)

	def _enter(self, kind: str, held: contextlib.ExitStack) -> bool:
		"""Whether nobody of another kind runs, and there is a place: it is kept until `held` ends."""
		with contextlib.ExitStack() as seen:
			locked(self._gate, seen, wait=True)
			return (
				all(locked(room, seen) for other, room in self._rooms.items() if other != kind)
				and locked(self._rooms[kind], held, shared=kind != "alone")
				and (kind != "calm" or any(locked(place, held) for place in self._places))
			)


def locked(path: Path, until: contextlib.ExitStack, *, shared: bool = False, wait: bool = False) -> bool:
	"""Whether this file could be locked; it is until the end of `until`."""
	if sys.platform == "win32":
		return True
	import fcntl

	try:
		how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
		fcntl.flock(until.enter_context(path.open("rb", buffering=0)), how)
	except BlockingIOError:
		return False
	return True
