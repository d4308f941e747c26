"""Waiting for what happens in another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable

QUIET = 0.0004  # CPU seconds of the piece of work of `slowness` where nothing else runs (a server of 2023)


def wait_until(true: Callable[[], object], seconds: float = 10.0, what: str = "it") -> float:
	"""Seconds until `true()`; AssertionError if it is not so within `seconds`."""
	began = time.monotonic()
	while not true():
		assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}"
		time.sleep(0.01)
	return time.monotonic() - began


def best_of(times: int, well: Callable[[], bool]) -> bool:
	"""Whether it goes well once: what else runs on the machine can only make it worse."""
	return any(well() for _ in range(times))


def crowding(seconds: float = 0.01) -> float:
	"""How many times its CPU seconds a piece of work takes now: others want the same processors."""
	began, used = time.monotonic(), time.thread_time()
	while time.thread_time() - used < seconds:
		pass
	return (time.monotonic() - began) / seconds


def slowness() -> float:
	"""How many times the CPU seconds of a quiet machine a piece of work takes now, at least 1: others share
	its caches, or it is an older one."""
	took = []
	for _ in range(15):
		began = time.thread_time()
		sorted(str(n) for n in range(4_000))
		took.append(time.thread_time() - began)
	return max(1.0, sorted(took)[len(took) // 2] / QUIET)


def cheap(seconds: float, bound: float) -> bool:
	"""Whether that many CPU seconds are less than a bound of a quiet machine, as this one is now."""
	return seconds < bound or seconds < bound * slowness()
