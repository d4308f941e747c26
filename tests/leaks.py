"""What a test left behind: threads, child processes, file descriptors."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

GRACE = 10.0
PR_SET_CHILD_SUBREAPER = 36
HARMLESS = ("/dev/null", "/dev/urandom", "/dev/random", "/proc/", "/usr/share/zoneinfo")


def adopt_orphans() -> None:
	"""On Linux make grandchildren whose parent ended children of this process, so that they are seen."""
	if sys.platform == "linux":
		ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def listed(folder: str) -> list[str]:
	"""What is in a folder of /proc; nothing where there is none. Paths as objects take thrice the time."""
	return os.listdir(folder) if os.path.isdir(folder) else []


def child_ids() -> set[int]:
	"""Process ids of the children, also of those that have ended and that nobody has waited for."""
	found: set[int] = set()
	for thread in listed("/proc/self/task"):
		with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/children", "rb") as listing:
			found.update(map(int, listing.read().split()))
	return found


def children(known: Collection[int] = ()) -> dict[int, str]:
	"""Process ids of the live children but the `known` ones, with their command lines."""
	found: dict[int, str] = {}
	for pid in child_ids().difference(known):
		with contextlib.suppress(OSError):
			state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
			if state != "Z":
				words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
				found[pid] = b" ".join(words).decode(errors="replace").strip()
	return found


def descriptors() -> dict[int, str]:
	"""Open file descriptors and what they are, on Linux; elsewhere nothing."""
	found: dict[int, str] = {}
	for number in listed("/proc/self/fd"):
		with contextlib.suppress(OSError):
			target = os.readlink(f"/proc/self/fd/{number}")
			# A server of several tests opens its journal anew; one left open is a ResourceWarning.
			if not target.startswith(HARMLESS) and not target.endswith(".sealed"):
				found[int(number)] = target
	return found


class Watch:
	"""Compares what runs and what is open with what was so at its making."""

	def __init__(self) -> None:
		self._threads = set(threading.enumerate())
		self._children = child_ids()
		self._descriptors = descriptors()

	def leaks(self) -> list[str]:
		"""What is there now and was not then, in words."""
		return [*self._new_threads(), *self._new_children().values(), *self._new_descriptors()]

	def settle(self, grace: float = GRACE) -> list[str]:
		"""The leaks that remain after at most `grace` seconds; leaked children are then killed."""
		now = time.monotonic()
		until, collect = now + grace, now
		while leaks := self.leaks():
			if now >= collect:  # what only a cycle holds is no leak; its ResourceWarning is an error anyway
				gc.collect()
				collect = now + 10 * (time.monotonic() - now)  # nobody else runs meanwhile
			if now > until:
				break
			time.sleep(0.02)
			now = time.monotonic()
		for pid in self._new_children() if leaks else ():
			with contextlib.suppress(ProcessLookupError):
				os.kill(pid, signal.SIGKILL)
		return leaks

	def _new_threads(self) -> Iterator[str]:
		for thread in set(threading.enumerate()) - self._threads:
			yield f"thread {thread.name}{' (daemon)' if thread.daemon else ''}"

	def _new_children(self) -> dict[int, str]:
		return {pid: f"process {pid}: {words}" for pid, words in children(self._children).items()}

	def _new_descriptors(self) -> Iterator[str]:
		for number, target in descriptors().items():
			if self._descriptors.get(number) != target:
				yield f"file descriptor {number}: {target}"
