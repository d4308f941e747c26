"""A model of one Wi-Fi access point, in user space: what packets cost of the air, and how long they wait.

Each transmission costs OVERHEAD (waiting for the medium, preamble, block acknowledgement) and its bytes at
the rate of the radio. What leaves for one station at one stroke is aggregated into one transmission, as
802.11n does it. One that fails is repeated whole. Sound goes first (WMM).
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

OVERHEAD: Final = 150e-6  # s
AT_ONE_STROKE: Final = 0.001  # s: what follows one another more closely leaves together
MOST: Final = 65_535  # bytes of an aggregate
BUFFER: Final = 256 << 10  # bytes that wait for one station at most
TRIES: Final = 7


class Packet(NamedTuple):
	"""So many bytes that leave the host's network card (or reach it) for `station` at `at` seconds."""

	at: float
	station: int
	octets: int
	sound: bool = False


class Carried(NamedTuple):
	"""What became of the packets: seconds in the air in all, each one's delay, and how many were lost."""

	airtime: float
	delays: list[tuple[Packet, float]]
	lost: list[Packet]


def strokes(packets: Iterable[Packet]) -> list[Packet]:
	"""What is aggregated: packets for one station, each at most AT_ONE_STROKE after the one before."""
	found: list[Packet] = []
	last: dict[int, tuple[int, float]] = {}  # of each station: place of its newest stroke, its newest packet
	for packet in sorted(packets):
		place, at = last.get(packet.station, (-1, float("-inf")))
		if packet.at - at <= AT_ONE_STROKE and found[place].octets + packet.octets <= MOST:
			found[place] = found[place]._replace(octets=found[place].octets + packet.octets)
		else:
			place = len(found)
			found.append(packet)
		last[packet.station] = place, packet.at
	return found


def airtime(packets: Iterable[Packet], mbit: float) -> float:
	"""Seconds of the air that `packets` ask for, where the air has room for them."""
	return sum(OVERHEAD + 8e-6 * stroke.octets / mbit for stroke in strokes(packets))


def crossing_twice(packets: Iterable[Packet]) -> list[Packet]:
	"""The same where the host is on that Wi-Fi, too: from it to the access point, and on from there."""
	return [one for packet in packets for one in (packet, packet._replace(station=-1))]


class AccessPoint:
	"""One medium that serves its stations in turn; `fails` is the share of transmissions that do."""

	def __init__(self, mbit: float, fails: float = 0.0, seed: int = 1) -> None:
		self._mbit, self._fails, self._chance = mbit, fails, random.Random(seed)
		self._waiting: dict[tuple[bool, int], deque[Packet]] = {}
		self._held = Counter[tuple[bool, int]]()  # bytes of each

	def carry(self, packets: Sequence[Packet]) -> Carried:
		"""Everything, from when it comes to when it has arrived."""
		coming, now, busy = deque(sorted(packets)), 0.0, 0.0
		delays: list[tuple[Packet, float]] = []
		lost: list[Packet] = []
		while coming or self._waiting:
			if not self._waiting:
				now = max(now, coming[0].at)
			while coming and coming[0].at <= now:
				lost += self._accept(coming.popleft())
			took, sent, arrived = self._serve()
			now, busy = now + took, busy + took
			if arrived:
				delays += [(packet, now - packet.at) for packet in sent]
			else:
				lost += sent
		return Carried(busy, delays, lost)

	def _accept(self, packet: Packet) -> list[Packet]:
		key = not packet.sound, packet.station
		if self._held[key] + packet.octets > BUFFER:
			return [packet]
		self._held[key] += packet.octets
		self._waiting.setdefault(key, deque()).append(packet)
		return []

	def _serve(self) -> tuple[float, list[Packet], bool]:
		"""The next aggregate: seconds it took, what was in it, whether it arrived."""
		key = min(self._waiting, key=lambda one: one[0])  # sound first, else who waits longest for a turn
		queue, sent, octets = self._waiting.pop(key), [], 0
		while queue and (not sent or octets + queue[0].octets <= MOST):
			sent.append(queue.popleft())
			octets += sent[-1].octets
		self._held[key] -= octets
		if queue:
			self._waiting[key] = queue
		tries = 1
		while tries < TRIES and self._chance.random() < self._fails:
			tries += 1
		return tries * (OVERHEAD + 8e-6 * octets / self._mbit), sent, tries < TRIES
