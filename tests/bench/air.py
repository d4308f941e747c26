"""A lesson of 30 on one Wi-Fi, before and after, by a model of its access point: python tests/bench air

Everyone watches nine small pictures and the teacher at 640x360, three talk, one shares a screen; both the
program of BEFORE, in a worktree of its own, and this one are asked for what their window asks for, by
the same light participants. What the server sends is captured as it leaves (Linux, root), and the model of
tests/wifi.py says what that takes.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from figures import ROOT, Row, in_turn, participants, worktree
from measure import Asked, at_full_rate, hold_lesson
from pictures import as_filmed
from wifi import AccessPoint, Packet, airtime, crossing_twice, strokes

import connectsphere as cs

BEFORE: Final = "8df10fd"  # its window asked for everything at the full rate
RUN: Final = "import sys; sys.path[0] = {!r}; import connectsphere; sys.exit(connectsphere.main())"
PEOPLE: Final = 30
SECONDS: Final = 6.0
SLOW, QUICK, FAILS = 65.0, 300.0, 0.05
SCREEN, AUDIO = 1, 2000  # ports from the base port on
HEADERS: Final = 28  # IP and UDP of each datagram
_LOOPBACK_ITSELF: Final = 0  # PACKET_HOST: each packet is seen twice there, going and coming
_STAMP: Final = 35


class Capture:
	"""What passes on the loopback between the server at `base` and `ports`, {name: its local ones}."""

	def __init__(self, base: int, ports: dict[str, list[int]]) -> None:
		self.down: list[Packet] = []
		self.up: list[Packet] = []
		self.media: list[Packet] = []  # of those down, what is no TCP
		self.datagrams = 0
		self._base = base
		self._stations = {port: number for number, mine in enumerate(ports.values()) for port in mine}
		self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
		self._socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
		self._socket.setsockopt(socket.SOL_SOCKET, _STAMP, 1)
		self._socket.bind(("lo", 0))
		self._socket.settimeout(0.2)
		self._ended = threading.Event()
		self._thread = threading.Thread(target=self._run)

	def __enter__(self) -> Capture:
		self._thread.start()
		return self

	def __exit__(self, *_: object) -> None:
		self._ended.set()
		self._thread.join()
		self._socket.close()

	def _run(self) -> None:
		slot = bytearray(64)
		while not self._ended.is_set():
			with contextlib.suppress(TimeoutError):
				size, control, _, where = self._socket.recvmsg_into([slot], 64, socket.MSG_TRUNC)
				if where[2] == _LOOPBACK_ITSELF and slot[0] == 0x45:
					self._note(size, slot, struct.unpack_from("@ll", control[0][2]))

	def _note(self, size: int, slot: bytearray, stamp: Sequence[int]) -> None:
		source, target = struct.unpack_from(">HH", slot, 20)
		at, udp = stamp[0] + stamp[1] / 1e9, slot[9] == socket.IPPROTO_UDP
		datagrams = -(-(size - HEADERS) // cs.DATAGRAM) if udp else 1
		octets = size + (datagrams - 1) * HEADERS
		if target in self._stations or source == self._base + SCREEN:
			station = self._stations.get(target, target)
			self.down.append(Packet(at, station, octets, source == self._base + AUDIO))
			if udp:
				self.media.append(self.down[-1])
				self.datagrams += datagrams
		elif source in self._stations:
			self.up.append(Packet(at, self._stations[source], octets, target == self._base + AUDIO))


def as_the_window_asks(thumbnails: Sequence[str], teacher: str) -> Asked:
	"""What the window of the program asks for: tiles of 112 pixels, the teacher large, one of them talks."""
	names = [*thumbnails, teacher] if teacher else list(thumbnails)
	tall = {number: 500 if name == teacher else 112 for number, name in enumerate(names)}
	spoke = [number for number, name in enumerate(names) if name == "Talker"]
	wishes = cs.picture_wishes(tall, len(thumbnails), spoke, PEOPLE > cs.CROWD, False)
	return {names[number]: (wish["layer"], wish["fps"]) for number, wish in wishes.items()}


def teacher(path: Path) -> Path:
	"""A film of somebody who talks before a camera."""
	import cv2

	writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 15, cs.LAYERS[2])
	card = cs.TestCard("Teacher", cs.LAYERS[2])
	for number in range(30):
		writer.write(as_filmed(card.draw(time.time() + number / 15), number, noise=2.0, room=0.2))
	writer.release()
	return path


def lesson(tree: Path) -> dict[str, float]:
	"""One lesson of the program in `tree`: what each viewer takes, and the air."""
	captured: list[Capture] = []

	def meanwhile(base: int, ports: dict[str, list[int]]) -> Capture:
		captured.append(Capture(base, ports))
		return captured[0]

	with participants() as (meeting, directory):
		film = str(teacher(directory / "teacher.avi"))
		start = partial(meeting, program=(sys.executable, "-c", RUN.format(str(tree))))
		asks = as_the_window_asks if tree == ROOT else at_full_rate
		held = hold_lesson(start, PEOPLE, SECONDS, asks, film, meanwhile)
	took = captured[0]
	begin = max(one[0].at for one in (took.down, took.up)) + 0.5
	end = begin + SECONDS - 1.0
	down, up, media = (
		[one._replace(at=one.at - begin) for one in some if begin <= one.at < end]
		for some in (took.down, took.up, took.media)
	)
	viewers = len({one.station for one in media})
	share = PEOPLE / viewers / (end - begin)  # of those who are captured, and a second
	each = 1.0 / viewers / (end - begin)
	figures = {
		"strokes": len(strokes(media)) * each,
		"mbit": 8e-6 * sum(one.octets for one in media) * each,
		"mbit_all": 8e-6 * sum(one.octets for one in down) * each,
		"air": airtime(down, SLOW) * share,
		"air_both_ways": (airtime(down, SLOW) + airtime(up, SLOW)) * share,
		"air_host_on_it": (airtime(crossing_twice(down), SLOW) + airtime(crossing_twice(up), SLOW)) * share,
		"server": held.server_cpu,
		"memory": held.memory,
		"worst_rate": held.worst_rate,
		"sound_lost": held.sound_lost,
	}
	for name, mbit in (("slow", SLOW), ("quick", QUICK)):
		carried = AccessPoint(mbit, FAILS).carry(
			[*down, *(one._replace(station=-2 - one.station) for one in up)]
		)
		sound = sorted(delay for packet, delay in carried.delays if packet.sound)
		figures |= {
			f"{name}_sound_p99": 1e3 * sound[int(0.99 * len(sound))],
			f"{name}_sound_lost": sum(one.sound for one in carried.lost) / max(1, len(sound)),
			f"{name}_lost": len(carried.lost) / len(down),
		}
	return figures


def rows(rounds: int) -> list[Row]:
	"""The table."""
	with worktree(BEFORE) as tree:
		medians = in_turn({"before": partial(lesson, tree), "now": partial(lesson, ROOT)}, rounds)
	now, old = medians["now"], medians["before"]

	def row(what: str, key: str, words: str, bound: str = "") -> Row:
		before = f"{words.format(old[key])} at {BEFORE}"
		return Row("air", what, words.format(now[key]), before, now[key] / old[key], bound)

	return [
		row("a viewer's pictures and sound", "mbit", "{:.2f} Mbit/s", "<= 2.6 Mbit/s"),
		row("a viewer's pictures and sound, strokes", "strokes", "{:.0f} a second", "<= 150"),
		row("airtime of 30 viewers, 65 Mbit/s", "air", "{:.0%}", "ratio <= 0.35"),
		row("... what they send included", "air_both_ways", "{:.0%}"),
		row("... and the host on the same Wi-Fi", "air_host_on_it", "{:.0%}"),
		row("sound through 300 Mbit/s, 5 % fail, p99", "quick_sound_p99", "{:.1f} ms", "<= 40 ms"),
		row("server and mixer, of one core", "server", "{:.3f}"),
		row("server and mixer, memory with 30 people in", "memory", "{:.0f} MB", "<= 110 MB"),
	]
