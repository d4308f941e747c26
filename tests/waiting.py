"""Waiting for what happens in another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable


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
