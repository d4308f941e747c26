"""A lesson of 12 while somebody means harm, a minute from outside and one from inside, after one without.

python tests/bench attackers [ROUNDS], or by hand: python tests/bench/attackers.py [SECONDS]

Outside: eight addresses that pour and hold connections open without saying who they are. Inside: eight names
of one address that chat, react, watch, offer, ask for tickets and pour, each as much as it is let.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from figures import Row, participants
from headless import Headless
from meetings import LOOPBACK, SILENT, host
from member import Member, tls

SECONDS = 60.0
PEOPLE = 12
HEAVY = b'{"type":"ping","t":1,"x":' + json.dumps([[]] * 15_000).encode() + b"}\n"
OUTSIDE: list[Callable[[ssl.SSLSocket], object]] = [
	lambda link: link.sendall(b"\n" * 16_000),
	lambda link: link.sendall(HEAVY),
	lambda link: [link.sendall(HEAVY[at : at + 1]) for at in range(500)],
	lambda _: time.sleep(5),
]
TICKET = {"type": "ticket", "plane": "screen", "direction": "viewer", "ref": 1}
OFFER = {"type": "file_offer", "name": "x.bin", "size": 1 << 30, "sha256": "0" * 64}
WATCH = [
	{"type": "watch", "streams": {str(n): {"layer": k, "fps": 9 + k} for n in range(1, 30)}} for k in (0, 1)
]
INSIDE = ({"type": "chat", "text": "x" * 4_000}, {"type": "reaction", "emoji": "👍"}, *WATCH, OFFER, TICKET)


@dataclass
class Found:
	"""What the lesson had to bear."""

	pongs: list[float] = field(default_factory=list)  # seconds, as the next two
	joins: list[float] = field(default_factory=list)
	commands: list[float] = field(default_factory=list)
	thrown_out: int = 0
	sound_lost: int = 0  # blocks
	tries: int = 0  # of the attackers


class Attackers:
	"""Eight threads that come, do harm and come again."""

	def __init__(self, base: int, inside: bool, found: Found) -> None:
		self._base, self._inside, self._found = base, inside, found
		self._over = threading.Event()
		self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(8)]

	def _run(self, number: int) -> None:
		with contextlib.suppress(AttributeError, OSError):  # a thread's own: the cores are the host's
			os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
		source = "127.0.66.9" if self._inside else f"127.0.66.{number + 1}"
		while not self._over.is_set():
			with contextlib.suppress(OSError), tls(self._base, 0, source) as link:
				self._harm(link, number)
			self._over.wait(0.05)

	def _harm(self, link: ssl.SSLSocket, number: int) -> None:
		if self._inside:
			one = Member(link, self._base)
			one.enter(name=f"Eve {number}")
			link.settimeout(1.0)
		for message in itertools.cycle(INSIDE):
			if self._over.is_set():
				return
			self._found.tries += 1
			if self._inside and number:
				one.say(message)
				if self._found.tries % 200 == 0:
					link.recv(1 << 20)
			else:
				OUTSIDE[number % len(OUTSIDE)](link)

	def __enter__(self) -> None:
		for thread in self._threads:
			thread.start()

	def __exit__(self, *_: object) -> None:
		self._over.set()
		for thread in self._threads:
			thread.join()


class Lesson:
	"""The host's own program, one that speaks, one that listens, and nine by hand."""

	def __init__(self, meeting: Callable[..., Headless], stack: contextlib.ExitStack) -> None:
		self.host, self.base = host(meeting, name="Ms Lee")
		self.found = Found()
		join = ("--join", f"{LOOPBACK}:{self.base}")
		self.speaks = meeting(
			*join, "--name", "Ana", "--camera", "none", "--mic", "tone", "--speaker", "none"
		)
		self.hears = meeting(*join, "--name", "Ben", *SILENT)
		for one in (self.speaks, self.hears):
			one.wait("joined")
			with contextlib.suppress(OSError):  # each has a computer of its own, which no attacker slows
				os.setpriority(os.PRIO_PROCESS, one.process.pid, -10)
		self.speaks.send(do="mic", on=True)
		self.hears.wait("speaking", name="Ana")
		self.pupils = [
			stack.enter_context(self._pupil(f"Pupil {n}", f"127.0.1.{n}")) for n in range(1, PEOPLE - 2)
		]

	@contextlib.contextmanager
	def _pupil(self, name: str, source: str) -> Iterator[Member]:
		with tls(self.base, 0, source) as link:
			one = Member(link, self.base)
			one.enter(name=name)
			with contextlib.closing(one):
				yield one

	def lost(self) -> int:
		"""Blocks of sound that the listener has missed so far."""
		self.hears.send(do="stats", ref=(ref := time.monotonic()))
		audio = self.hears.wait("stats", ref=ref)["audio"]
		return int(audio["lost"] + audio["late"])

	def _come_late(self) -> None:
		"""One more, who tries again, as the program does, when its place among the half open is taken."""
		try:
			with self._pupil("Late", "127.0.1.99"):
				pass
		except (OSError, ValueError):
			self._come_late()

	def turn(self) -> None:
		"""Everyone once: a pong, a newcomer, a command of the host's."""
		for one in list(self.pupils):
			begun = time.monotonic()
			try:
				one.say({"type": "ping", "t": begun})
				one.hear("pong")
				self.found.pongs.append(time.monotonic() - begun)
			except (OSError, ValueError):
				self.found.thrown_out += 1
				self.pupils.remove(one)
		begun = time.monotonic()
		self._come_late()
		self.found.joins.append(time.monotonic() - begun)
		begun = time.monotonic()
		self.host.send(do="lower", who="all", ref=begun)
		self.host.wait("ok", ref=begun)
		self.found.commands.append(time.monotonic() - begun)


def measured(meeting: Callable[..., Headless], inside: bool | None, seconds: float) -> Found:
	"""One lesson with attackers for that long; None: with nobody, as the reference."""
	with contextlib.ExitStack() as stack:
		lesson = Lesson(meeting, stack)
		lesson.turn()
		lesson.found, before = Found(), lesson.lost()
		with contextlib.nullcontext() if inside is None else Attackers(lesson.base, inside, lesson.found):
			until = time.monotonic() + seconds
			while time.monotonic() < until:
				lesson.turn()
				time.sleep(0.2)
			lesson.found.sound_lost = lesson.lost() - before
		programs = (lesson.host, lesson.speaks, lesson.hears)
		lesson.found.thrown_out += sum(len(one.seen("reconnecting")) for one in programs)
		return lesson.found


def rows(rounds: int, seconds: float = SECONDS) -> list[Row]:
	"""The worst of the rounds, with nobody, from outside and from inside."""
	made = []
	for inside, who in ((None, "nobody"), (False, "eight addresses outside"), (True, "eight names inside")):
		with participants() as (meeting, _):
			runs = [measured(meeting, inside, seconds) for _ in range(rounds)]
		pong, newcomer, command = (
			1e3 * max(max(getattr(run, what)) for run in runs) for what in ("pongs", "joins", "commands")
		)
		out, lost, tries = (
			sum(getattr(run, what) for run in runs) for what in ("thrown_out", "sound_lost", "tries")
		)
		figures = (
			f"{out} thrown out; worst pong {pong:.0f}, newcomer {newcomer:.0f}, command of the host "
			f"{command:.0f} ms; {lost} blocks lost; {tries} tries"
		)
		made.append(
			Row("attackers", f"a lesson of {PEOPLE} and {who}", figures, bound="0; 500, 2,000, 200 ms; 0")
		)
	return made


if __name__ == "__main__":
	for row in rows(1, float((*sys.argv[1:], SECONDS)[0])):
		print(row.what, row.figure, row.bound, sep="\n  ")
