"""Connections of the same person one after the other: what is left of an earlier one changes nothing.

A connection's generation is its id: who comes back gets a new one, new keys and a new socket, and stays the
same person. Two people and the real planes, relay and mixer: four hundred times on a simulated network and
clock, twenty times over sockets.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from headless import free_base
from light import picture
from meetings import LOOPBACK, Passage
from weather import BadWeather, Faults

import connectsphere as cs

BACK_WITHIN = 0.5  # seconds


class Port:
	"""One end of the simulated network, with an address that nobody had before."""

	counter = itertools.count(1)
	network: Network

	def __init__(self, *_: Any, sound: bool = False, **__: Any) -> None:
		self.sound, self.address = sound, ("10.0.0.1", next(self.counter))
		self.server: Port | None = None
		self.socket = SimpleNamespace(setsockopt=lambda *_: None)

	def send(self, datagram: Any, address: cs.Address | None = None) -> bool:
		self.network.carry(self.address, address or self.server_of().address, bytes(datagram))
		return True

	def send_frame(self, layout: Any, address: cs.Address | None = None, tail: bool = False) -> bool:
		view = bytes(layout)
		return all(self.send(view[at : at + cs.DATAGRAM], address) for at in range(0, len(view), cs.DATAGRAM))

	def server_of(self) -> Port:
		return self.network.servers[self.sound]

	def held(self) -> int:
		return 0


class Network:
	"""Before a break three of ten datagrams are 50 to 800 ms late, else it takes 2 ms."""

	def __init__(self, seed: int) -> None:
		self.now, self.order, self.random = 100.0, itertools.count(), random.Random(seed)
		self.under_way: list[tuple[float, int, cs.Address, cs.Address, bytes]] = []
		self.listens: dict[cs.Address, Callable[[bytes, cs.Address], None]] = {}
		self.servers: dict[bool, Port] = {}
		self.breaking = False

	def carry(self, source: cs.Address, to: cs.Address, data: bytes) -> None:
		late = self.random.uniform(0.05, 0.8) if self.breaking and self.random.random() < 0.3 else 0.002
		heapq.heappush(self.under_way, (self.now + late, next(self.order), source, to, data))

	def arrive(self) -> None:
		while self.under_way and self.under_way[0][0] <= self.now:
			_, _, source, to, data = heapq.heappop(self.under_way)
			with contextlib.suppress(cs.PeerFault):
				if to in self.listens:
					self.listens[to](data, source)


class Client:
	"""A person's two planes, over all connections."""

	def __init__(self, meeting: Meeting, name: str) -> None:
		self.meeting, self.name, self.id, self.seq = meeting, name, 0, 0
		self.token: str | None = None
		welcome = self.admit()
		options = cs.ClientOptions(address="10.0.0.1")
		self.video = cs.VideoPlane(options, welcome, cs.Counters())
		self.video.glance = 1e9
		self.audio = cs.AudioPlane(options, welcome, cs.Counters(), lambda ident: None)
		self.listen()

	def admit(self) -> dict[str, Any]:
		"""As the server does it: another id, other keys."""
		meeting, old = self.meeting, self.id
		member, self.token, _ = meeting.room.join(self.name, "member", "10.0.0.1", self.token, meeting.now())
		self.id, self.person = member.id, member.person
		keys = {key: secrets.token_hex(16) for key in ("video_up", "video_down", "audio_up", "audio_down")}
		meeting.relay.remove(old)
		meeting.relay.add(self.id, bytes.fromhex(keys["video_up"]), bytes.fromhex(keys["video_down"]))
		meeting.mixer._do({"do": "remove", "id": old})
		meeting.mixer._do({"do": "add", "id": self.id, "up": keys["audio_up"], "down": keys["audio_down"]})
		meeting.mixer._do({"do": "mute", "id": self.id, "on": False})
		return {"id": self.id, **keys}

	def come_back(self) -> None:
		"""Over another connection; numbers start lower."""
		welcome = self.admit()
		lower = self.meeting.network.random.randrange(1, 2_000)
		self.video._numbers = [max(0, number - lower) for number in self.video._numbers]
		self.seq = max(0, self.seq - lower)
		for plane in (self.video, self.audio):
			self.meeting.network.listens.pop(plane.path.port.address, None)  # type: ignore[attr-defined]
			plane.go_on(welcome)
		self.listen()

	def listen(self) -> None:
		for plane in (self.video, self.audio):

			def heard(data: bytes, source: cs.Address, plane: Any = plane) -> None:
				plane._on_datagrams(memoryview(data), len(data), source, self.meeting.now())

			self.meeting.network.listens[plane.path.port.address] = heard  # type: ignore[attr-defined]


class Meeting:
	"""Ana speaks into her camera and microphone, Ben looks and listens."""

	def __init__(self, network: Network) -> None:
		self.network = network
		self.room = cs.Room("Algebra", "Ms Lee", "00" * 16, secrets.token_hex)
		self.relay = cs.VideoRelay(("10.0.0.1", 0), cs.Counters())
		self.mixer = cs.MixerProcess(None, lambda message: None)  # type: ignore[arg-type]
		for port, hears in (
			(self.relay._port, self.on_video),
			(self.mixer._port, lambda data, source: self.mixer._on_datagram(data, source, self.now())),
		):
			network.listens[port.address] = hears  # type: ignore[attr-defined]
		network.servers = {False: self.relay._port, True: self.mixer._port}  # type: ignore[dict-item]
		self.ana, self.ben = Client(self, "Ana"), Client(self, "Ben")
		self.frame = picture(0, 2_500)
		self.voice = (np.random.default_rng(2).normal(size=cs.BLOCK) * 3_000).astype(">i2").tobytes()
		self.steps = 0
		self.watch()

	def now(self) -> float:
		return self.network.now

	def on_video(self, data: bytes, source: cs.Address) -> None:
		self.relay._on_datagrams(memoryview(data), len(data), source, self.now())

	def watch(self) -> None:
		self.relay.route(self.ana.id, {self.ben.id: (0, 15)})
		self.ben.video.watch({self.ana.id})

	def step(self) -> bool:
		"""Eight milliseconds; whether Ben hears something."""
		self.network.now += 0.008
		self.steps += 1
		heard = False
		if self.steps % 8 == 0:
			self.ana.video.send_picture(0, self.frame)
		if self.steps % 2 == 0:
			self.ana.seq += 1
			self.ana.audio.send_block(self.ana.seq, self.voice)
			self.mixer._mix(self.now())
			self.mixer._tick += 1
			heard = bool(np.abs(self.ben.audio.pull()).max() > 500)
		self.network.arrive()
		self.relay._on_due(self.now())
		for one in (self.ana, self.ben):
			one.video._on_due(self.now())
			one.audio.path.bind_due(self.now())
		return heard


@pytest.fixture
def nacks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[cs.Nack]]:
	"""What was asked for again; the sockets, loops and clock are simulated."""
	asked: list[cs.Nack] = []
	encode = cs.encode_nack

	def noted(nack: cs.Nack) -> bytes:
		asked.append(nack)
		return encode(nack)

	monkeypatch.setattr(cs, "encode_nack", noted)
	monkeypatch.setattr(cs, "UdpPort", Port)
	monkeypatch.setattr(cs, "udp_port", Port)
	monkeypatch.setattr(cs, "DatagramLoop", lambda *_: SimpleNamespace(use=lambda port: None))
	Port.network = Network(seed=0)
	monkeypatch.setattr(cs, "monotonic", lambda: Port.network.now)
	yield asked


@pytest.mark.parametrize("seed", range(4))
def test_what_is_late_of_an_earlier_connection_is_never_asked_for(seed: int, nacks: list[cs.Nack]) -> None:
	"""A hundred times one or both come back: pictures and sound again within half a second."""
	Port.network = Network(seed)
	meeting = Meeting(Port.network)
	ana, ben = meeting.ana, meeting.ben
	people = ana.person, ben.person
	for _ in range(125):
		meeting.step()
	for turn in range(100):
		meeting.network.breaking = True
		for _ in range(15):
			meeting.step()
		meeting.network.breaking = False
		back = [ana, ben] if turn % 5 == 0 else [(ana, ben)[turn % 2]]
		for one in back:
			one.come_back()
		ben.video.streams.clear()
		meeting.watch()
		nacks.clear()
		began, seen, heard = meeting.now(), 0.0, 0.0
		while meeting.now() < began + BACK_WITHIN and not (seen and heard and meeting.now() > began + 0.2):
			hears = meeting.step()
			heard = heard or meeting.now() * hears
			seen = seen or meeting.now() * bool(ben.video.streams.get(ana.id))
		assert seen and heard, f"turn {turn}: seen {seen}, heard {heard} since {began}"
		down = meeting.relay._peers[ben.id].numbers.get(ana.id, 0)
		up = ana.video._numbers[0]
		for nack in nacks:
			assert nack.id == ana.id and nack.number <= max(up, down), f"turn {turn}: {nack} of before"
	assert (ana.person, ben.person) == people


# -- over sockets, with the threads that the program has


class RealMeeting:
	"""The two of them, the relay and the mixer; what is on its way at a break comes late, three of ten."""

	def __init__(self, stack: contextlib.ExitStack) -> None:
		self.base, self.random, self.breaking = free_base(), random.Random(7), False
		ports = cs.Ports.at(self.base)
		self.weather = BadWeather(Faults())
		stack.callback(self.weather.close)
		self.relay = cs.VideoRelay((LOOPBACK, ports.video), cs.Counters())
		self.relay.loop.start()
		stack.callback(self.relay.loop.close)
		socket = cs.udp_port((LOOPBACK, ports.audio), cs.Counters(), sound=True).socket
		self.mixer = cs.MixerProcess(socket, lambda message: None)
		mixing = threading.Thread(target=self.mixer.run)
		mixing.start()
		stack.callback(mixing.join)
		stack.callback(self.mixer.tell, None)
		way = Passage(self.base, at="127.0.0.9", carry=self.carry)
		stack.callback(way.close)
		self.at = way.at
		self.idents = itertools.count(1)
		self.frame = picture(0, 2_500)
		self.voice = (np.random.default_rng(2).normal(size=cs.BLOCK) * 3_000).astype(">i2").tobytes()

	def carry(self, data: bytes, send: Callable[[bytes], object]) -> None:
		if self.breaking and self.random.random() < 0.3:
			self.weather._post(self.random.uniform(0.05, 0.8), send, data)
		else:
			send(data)

	def admit(self, old: int) -> dict[str, Any]:
		keys = {key: secrets.token_hex(16) for key in ("video_up", "video_down", "audio_up", "audio_down")}
		ident = next(self.idents)

		def renew() -> None:
			self.relay.remove(old)
			self.relay.add(ident, bytes.fromhex(keys["video_up"]), bytes.fromhex(keys["video_down"]))

		self.relay.loop.ask(renew)
		self.mixer.tell({"do": "remove", "id": old})
		self.mixer.tell({"do": "add", "id": ident, "up": keys["audio_up"], "down": keys["audio_down"]})
		self.mixer.tell({"do": "mute", "id": ident, "on": False})
		return {"id": ident, **keys}


class Person:
	"""Both planes of one of them, over all connections."""

	def __init__(self, meeting: RealMeeting, stack: contextlib.ExitStack) -> None:
		self.meeting, self.seq, welcome = meeting, 5_000, meeting.admit(0)
		self.id, options = welcome["id"], cs.ClientOptions(address=meeting.at, port=meeting.base)
		self.video = cs.VideoPlane(options, welcome, cs.Counters())
		self.video.glance = 1e9
		self.audio = cs.AudioPlane(options, welcome, cs.Counters(), lambda ident: None)
		for plane in (self.video, self.audio):
			plane.loop.start()
			stack.callback(plane.loop.close)

	def come_back(self) -> None:
		"""Over another connection; numbers start lower."""
		welcome = self.meeting.admit(self.id)
		self.id, lower = welcome["id"], self.meeting.random.randrange(1, 200)
		self.video._numbers = [max(0, number - lower) for number in self.video._numbers]
		self.seq -= lower
		for plane in (self.video, self.audio):
			plane.loop.ask(partial(plane.go_on, welcome))


def test_twenty_times_over_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
	asked: list[cs.Nack] = []
	encode = cs.encode_nack
	monkeypatch.setattr(cs, "encode_nack", lambda nack: asked.append(nack) or encode(nack))
	took: list[float] = []
	heard: list[int] = []
	with contextlib.ExitStack() as stack:
		meeting = RealMeeting(stack)
		ana, ben = Person(meeting, stack), Person(meeting, stack)

		def live(until: Callable[[], bool], seconds: float) -> bool:
			"""Ana speaks and is seen, Ben pulls what he hears, until then or for so long."""
			ended = time.monotonic() + seconds
			for n in itertools.count():
				ana.seq += 1
				ana.audio.send_block(ana.seq, meeting.voice)
				if n % 4 == 0:
					ana.video.send_picture(0, meeting.frame)
				time.sleep(cs.BLOCK_SECONDS)
				if np.abs(ben.audio.pull()).max() > 500:
					heard.append(n)
				if until() or time.monotonic() > ended:
					return until()
			raise AssertionError

		for turn in range(20):
			meeting.breaking = turn > 0
			live(lambda: False, 0.15)
			meeting.breaking = False
			for one in [ana, ben] if turn % 5 == 0 else [(ana, ben)[turn % 2]]:
				one.come_back()
			meeting.relay.loop.ask(partial(meeting.relay.route, ana.id, {ben.id: (0, 15)}))
			ben.video.loop.ask(partial(ben.video.watch, {ana.id}))
			ben.video.streams.clear()
			heard.clear()
			asked.clear()
			began = time.monotonic()
			assert live(lambda: bool(heard and ben.video.streams.get(ana.id)), 5.0), f"turn {turn}"
			took.append(time.monotonic() - began)
			for nack in asked:
				newest = max(meeting.relay._peers[ben.id].numbers.get(ana.id, 0), ana.video._numbers[0])
				assert nack.id == ana.id and nack.number <= newest, f"turn {turn}: {nack} of before"
	print(f"seen and heard again after {statistics.median(took):.3f} s, at most {max(took):.3f} s")
	assert statistics.median(took) < BACK_WITHIN


def test_the_first_bind_on_the_audio_plane_finds_its_owner() -> None:
	"""The newcomer's order stands in the mailbox when its bind wakes the mixer: orders are read first."""
	mixer = cs.MixerProcess(None, lambda message: None)  # type: ignore[arg-type]
	key = secrets.token_bytes(32).hex()
	known: list[bool] = []

	class Coming:
		def wait(self, seconds: float) -> bool:
			mixer.tell({"do": "add", "id": 7, "up": key, "down": key})
			return True

		def receive(self, most: int) -> list[Any]:
			if not known and mixer._tick:
				known.append(7 in mixer._peers)
				mixer.tell(None)
			return []

		def close(self) -> None:
			pass

	mixer._port.close()
	mixer._port = Coming()  # type: ignore[assignment]
	mixer.run()
	assert known == [True]
