"""What a bad network does to datagrams, from a seed: loss, jitter, reordering, duplicates, corruption."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Faults:
	"""What happens to a datagram: chances from 0 to 1, and a delay of up to `jitter` seconds."""

	loss: float = 0.0
	jitter: float = 0.0
	duplicate: float = 0.0
	corrupt: float = 0.0


class BadWeather:
	"""Spoils the datagrams of a passage, from `begin()` on; the same ones for the same seed and order."""

	def __init__(self, faults: Faults, seed: int = 1) -> None:
		self.lost, self.passed = 0, 0
		self._faults, self._begun = faults, False
		self._random = random.Random(seed)
		self._late: list[tuple[float, int, Callable[[bytes], object], bytes]] = []
		self._order = itertools.count()
		self._news = threading.Condition()
		self._going = True
		self._postman = threading.Thread(target=self._deliver, name="postman")
		self._postman.start()

	def begin(self) -> None:
		self._begun = True

	def close(self) -> None:
		with self._news:
			self._going = False
			self._news.notify_all()
		self._postman.join()

	def carry(self, data: bytes, send: Callable[[bytes], object]) -> None:
		"""Pass `data` on by `send`, or not, or late, twice, changed."""
		faults, chance = self._faults, self._random.random
		if not self._begun:
			send(data)
			return
		if chance() < faults.loss:
			self.lost += 1
			return
		self.passed += 1
		if chance() < faults.corrupt:
			at = self._random.randrange(len(data))
			data = data[:at] + bytes([data[at] ^ 1 << self._random.randrange(8)]) + data[at + 1 :]
		for _ in range(1 + (chance() < faults.duplicate)):
			if faults.jitter:
				self._post(self._random.uniform(0.0, faults.jitter), send, data)
			else:
				send(data)

	def _post(self, delay: float, send: Callable[[bytes], object], data: bytes) -> None:
		with self._news:
			heapq.heappush(self._late, (time.monotonic() + delay, next(self._order), send, data))
			self._news.notify_all()

	def _deliver(self) -> None:
		with self._news:
			while self._going:
				wait = self._late[0][0] - time.monotonic() if self._late else 1.0
				if wait > 0:
					self._news.wait(wait)
					continue
				_, _, send, data = heapq.heappop(self._late)
				with contextlib.suppress(OSError):
					send(data)
