"""The mixer that ships, everyone talking, against a bare loop in turn: python tests/bench mixer

The mixer is the product's own process, told what to do as the server tells it. The bare loop receives, opens,
seals and sends the same blocks, one each way for each client and tick, with the product's seals (which refuse
a number that was used), and does nothing else. Talkers are a process of their own, with a socket each. Where
Debian's package mumble-server is installed (it need not run), that is a reference, too: see mumble.py.
"""

from __future__ import annotations

import json
import secrets
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import mumble
import numpy as np
from figures import Child, Figures, Row, answer, heard, in_background, in_turn, spread
from mixing import mixer
from processes import measured
from relay import Traffic

import connectsphere as cs

HERE: Final = "127.0.0.1"
CROWDS: Final = (50, 200, 500)
FEW: Final = 10  # whom a server that mixes nothing serves, too
TICK: Final = 0.016
SETTLE: Final = 2.5
SECONDS: Final = 4.0
VOICE: Final = (np.random.default_rng(1).normal(size=cs.BLOCK) * 3_000).astype(">i2").tobytes()


def bare(told: dict[str, Any]) -> None:
	"""Receives and opens all the time; every 16 ms seals and sends each client a block."""
	sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
	cs.UdpPort((HERE, 0), cs.Counters(), adopt=sock, sound=True)  # the same buffers
	openers = {int(ident): cs.Opener(bytes.fromhex(up)) for ident, (up, _) in told["keys"].items()}
	sealers = {int(ident): cs.Sealer(bytes.fromhex(down)) for ident, (_, down) in told["keys"].items()}
	known: dict[int, Any] = {}
	block = bytes(2 * cs.BLOCK)

	def receive() -> None:
		while True:
			try:
				data, source = sock.recvfrom(2048)
			except BlockingIOError:
				return
			ident, seq = cs.AUDIO_HEADER.unpack_from(data)
			if len(data) == max(cs.AUDIO_SIZES):
				openers[ident].open(cs.Kind.AUDIO, ident, seq, data[cs.AUDIO_HEADER.size :])
				known[ident] = source

	def run() -> None:
		begun, number = time.monotonic(), 0
		while True:
			number += 1
			while (left := begun + number * TICK - time.monotonic()) > 0:
				if select.select([sock], [], [], left)[0]:
					receive()
			for ident, source in known.items():
				sealed = sealers[ident].seal(cs.Kind.AUDIO, ident, number, block)
				sock.sendto(cs.audio_datagram(ident, number, sealed), source)

	in_background(run)
	answer(port=sock.getsockname()[1])
	for _ in heard():
		answer()


class Talker:
	"""The client's end of the audio plane, which says one block each tick."""

	def __init__(self, ident: int, keys: tuple[str, str], server: cs.Address) -> None:
		self.port = cs.UdpPort(None, cs.Counters(), connect=server)
		self.path = cs.MediaPath(self.port, ident, *keys)
		self.seq = self.blocks = 0

	def turn(self) -> None:
		"""Hears what has come, says the next block."""
		self.hear()
		self.path.bind_due(time.monotonic())
		self.say()

	def say(self) -> None:
		"""The next block."""
		self.seq += 1
		sealed = self.path.sealer.seal(cs.Kind.AUDIO, self.path.id, self.seq, VOICE)
		self.port.send(cs.audio_datagram(self.path.id, self.seq, sealed))

	def hear(self) -> None:
		"""What has come since."""
		for buffer, segment, _ in self.port.receive(8):
			for at in range(0, len(buffer), segment):
				if segment in cs.AUDIO_SIZES:
					self.blocks += segment == max(cs.AUDIO_SIZES)
				else:
					self.path.on_small(bytes(buffer[at : at + segment]), time.monotonic())


def talk(told: dict[str, Any]) -> None:
	"""Everyone talks, spread over the tick."""
	people = [Talker(int(ident), keys, (HERE, told["port"])) for ident, keys in told["keys"].items()]
	said = spread([one.turn for one in people], told["tick"])
	answer()
	for _ in heard():
		answer(blocks=sum(one.blocks for one in people), said=said())


@contextmanager
def shipped(keys: dict[int, tuple[str, str]]) -> Iterator[tuple[int, int, Any]]:
	"""The product's mixer: (its port, its process, what asks it for its newest report)."""
	newest: dict[str, Any] = {}
	with mixer(keys) as (address, process):

		def listen() -> None:
			for line in process.stdout or ():
				newest.update(json.loads(line))

		def report() -> dict[str, Any]:
			assert process.stdin
			process.stdin.write('{"do": "beat"}\n')
			process.stdin.flush()
			time.sleep(0.3)
			return dict(newest)

		in_background(listen)
		yield address[1], process.pid, report


@contextmanager
def barely(keys: dict[int, tuple[str, str]]) -> Iterator[tuple[int, int, Any]]:
	"""The bare loop, in the same terms."""
	child = Child(__file__, "bare", keys=keys)
	try:
		yield child.ready["port"], child.process.pid, dict
	finally:
		child.close()


def run(server: Any, people: int, seconds: float = SECONDS, talkers_of: str = __file__) -> dict[str, float]:
	"""Share of a core, blocks heard as a share of those due, the mixer's lateness in ms."""
	keys = {ident: (secrets.token_hex(16), secrets.token_hex(16)) for ident in range(1, people + 1)}
	with server(keys) as (port, pid, report):
		talkers = Child(talkers_of, "talkers", keys=keys, port=port, tick=TICK)
		time.sleep(SETTLE)
		before = talkers.ask()
		with measured([pid]) as cost:
			time.sleep(seconds)
		after = talkers.ask()
		time.sleep(1.1)
		told = report()
		talkers.close()
	due = people * cost["seconds"] / TICK
	found = {"core": cost["cpu"] / cost["seconds"], "heard": (after["blocks"] - before["blocks"]) / due}
	return found | {"late_p99": told.get("late_p99_ms", 0.0)}


def beside_video(people: int) -> Figures:
	"""The mixer while the relay forwards 300 Mbit/s, each in its process."""
	with Traffic("relay", 15, 5) as traffic:
		return run(shipped, people) | {"mbit": traffic.measure(1.0)["mbit"]}


def beside_mumble(rounds: int) -> Row:
	"""The mixer beside a server that sends every block on to all others; a sentence where it is not there."""
	what = f"{FEW} talking, share of a core"
	if not mumble.program():
		return Row("mixer", what, "not measured: the package mumble-server is not installed")
	other = partial(run, mumble.served, FEW, talkers_of=mumble.__file__)
	found = in_turn({"mumble-server": other, "mixer": partial(run, shipped, FEW)}, rounds)
	ours, theirs = found["mixer"], found["mumble-server"]
	how = f"forwards {len(mumble.VOICE)} bytes each 16 ms by UDP, does not mix"
	return Row(
		"mixer",
		what,
		f"{100 * ours['core']:.1f} %, {100 * ours['heard']:.1f} % heard",
		f"{100 * theirs['core']:.1f} % mumble-server ({how}), {100 * theirs['heard']:.1f} % heard",
		ours["core"] / theirs["core"],
	)


def rows(rounds: int) -> list[Row]:
	"""The mixer's part of the table."""
	found = [beside_mumble(rounds)]
	for people in CROWDS:
		medians = in_turn(
			{"bare": partial(run, barely, people), "mixer": partial(run, shipped, people)}, rounds
		)
		ours, theirs = medians["mixer"], medians["bare"]
		found.append(
			Row(
				"mixer",
				f"{people} talking at once",
				f"{100 * ours['core']:.1f} % of a core, {100 * ours['heard']:.1f} % heard",
				f"{100 * theirs['core']:.1f} % bare loop",
				ours["core"] / theirs["core"],
				"<= 1.5",
			)
		)
	video = in_turn({"mixer beside video": lambda: beside_video(50)}, rounds)["mixer beside video"]
	found.append(
		Row(
			"mixer",
			f"50 talking, lateness of a tick while {video['mbit']:.0f} Mbit/s of video are forwarded",
			f"p99 {video['late_p99']:.2f} ms",
			bound="< 2 ms",
		)
	)
	return found


ROLES: Final = {"bare": bare, "talkers": talk}

if __name__ == "__main__":
	ROLES[sys.argv[1]](next(heard()))
