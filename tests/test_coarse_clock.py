"""A meeting on an imitated Windows, each process with waits of its own: from mouth to ear, and pictures.

The program's own threads run in virtual time; sound cards and network keep exact time, as hardware does.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from clockwork import World
from light import picture
from measure import CLICK_EVERY, RATE, click_times, percentile
from winsim import Windows

import connectsphere as cs

SECONDS = 3.0
VIDEO, AUDIO = ("10.0.0.1", 10_000), ("10.0.0.1", 11_000)
HELD = (1_536, 640)  # samples that the driver of a speaker holds: as most do, and hardly more than is written


class Mouth:
	"""What PortAudio has for a microphone: a chirp each half second on a floor of noise."""

	def __init__(self, world: World) -> None:
		self.world, self.start, self.read_so_far = world, world.now, 0
		noise = np.random.default_rng(5).normal(size=int(SECONDS + 2) * RATE) * 60
		at = np.arange(160)
		for start in range(RATE // 4, len(noise) - 160, int(CLICK_EVERY * RATE)):
			noise[start : start + 160] += np.sin(2 * np.pi * (800 + 20 * at) * at / RATE) * 20_000
		self.sound = noise.astype(np.int16)

	def read(self, samples: int, exception_on_overflow: bool) -> bytes:
		at, self.read_so_far = self.read_so_far, self.read_so_far + samples
		self.world.wait(self.start + self.read_so_far / RATE)
		return self.sound[at : at + samples].tobytes()


class Ear:
	"""What PortAudio has for a speaker, and what was heard when."""

	def __init__(self, world: World, held: int) -> None:
		self.world, self.ends, self.held = world, world.now, held
		self.start, self.heard = world.now, np.zeros(int(SECONDS + 3) * RATE, np.int16)

	def write(self, data: bytes) -> None:
		samples = np.frombuffer(data, np.int16)
		self.world.wait(self.ends - (self.held - len(samples)) / RATE)
		begins = max(self.ends, self.world.now)
		self.ends = begins + len(samples) / RATE
		at = round((begins - self.start) * RATE)
		self.heard[at : at + len(samples)] = samples


class Cards:
	"""The sound cards of one participant."""

	stale, devices = False, 0

	def __init__(self, world: World, held: int) -> None:
		self.mouth, self.ear = Mouth(world), Ear(world, held)

	def open(self, spec: str, kind: str) -> cs._SoundStream:
		return cs._SoundStream(self.mouth if kind == "input" else self.ear, kind, RATE, 1)


class Meeting:
	"""A server, its mixer, and two who are in: processes of their own, on systems of one kind."""

	def __init__(
		self,
		patch: pytest.MonkeyPatch,
		timers: str,
		held: int = HELD[0],
		phase: float = 0.0,
		people: int = 2,
	) -> None:
		self.world, self.timers, self.held, self.phase = World(), timers, held, phase
		server, mixer = self.process(), self.process()
		server.install(patch)
		self.patch = patch
		self.relay = cs.VideoRelay(VIDEO, cs.Counters())
		self.relay.loop.start()
		self.told: list[Any] = []
		self.mixer = cs.MixerProcess(AUDIO, self.told.append)  # type: ignore[arg-type]
		self.world.start(mixer, self.mixer.run)
		self.members = [self.member(ident) for ident in range(1, people + 1)]
		self.server = server

	def process(self) -> Windows:
		process = Windows(self.timers == "refused", world=self.world)
		process.always_fine = self.timers == "exact"
		return process

	def member(self, ident: int) -> tuple[cs.MediaManager, Cards]:
		keys = {key: secrets.token_hex(16) for key in ("video_up", "video_down", "audio_up", "audio_down")}
		self.relay.loop.post(
			lambda: self.relay.add(ident, bytes.fromhex(keys["video_up"]), bytes.fromhex(keys["video_down"]))
		)
		self.mixer.tell({"do": "add", "id": ident, "up": keys["audio_up"], "down": keys["audio_down"]})
		self.mixer.tell({"do": "mute", "id": ident, "on": False})
		self.world.wait(self.world.now + 0.1 + self.phase)
		before, self.world.system = self.world.system, self.process()
		cards = Cards(self.world, self.held)
		self.patch.setattr(cs, "_sound_cards", cards)
		options = cs.ClientOptions(address="10.0.0.1", port=9_000, camera="none")
		media = cs.MediaManager(options, cs.Counters(), lambda *_: None, lambda ident: None)
		media.start({"id": ident, **keys})
		cs.power.need("timers", self, True)  # as whoever is in a meeting does
		media.turn("mic", ident == 1)
		self.world.wait(self.world.now + 0.1)
		self.world.system = before
		return media, cards


@pytest.fixture
def meetings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
	"""Makes a meeting on systems that refuse fine timers or grant them."""
	made: list[Meeting] = []

	def make(*arguments: Any) -> Meeting:
		made.append(Meeting(monkeypatch, *arguments))
		return made[-1]

	yield make
	for one in made:
		one.world.end()


def delays(meeting: Meeting) -> list[float]:
	"""Seconds from the first one's mouth to the second one's ear."""
	(_, speaks), (_, hears) = meeting.members
	meeting.world.wait(meeting.world.now + SECONDS)
	captured = speaks.mouth.start + click_times(speaks.mouth.sound)
	heard = hears.ear.start + click_times(hears.ear.heard)
	return [float(at - captured[captured <= at][-1]) for at in heard]


@pytest.mark.parametrize(("held", "phase"), [(HELD[0], 0.0041), *((HELD[1], at) for at in (0.0041, 0.0093))])
def test_mouth_to_ear(held: int, phase: float, meetings: Any) -> None:
	"""`phase`: how long after the mixer's tick a voice arrives there, which is when its wait ends at once."""
	p50, late = {}, {}
	for timers in ("exact", "granted", "refused"):
		meeting = meetings(timers, held, phase)
		found = delays(meeting)
		p50[timers], late[timers] = percentile(found, 0.5), percentile(meeting.mixer._lateness, 0.99)
		assert len(found) >= 2 * SECONDS - 1, "every chirp is heard"
		assert max(found) < p50[timers] + 0.016
	print({timers: (f"{p50[timers] * 1e3:.1f} ms", f"{late[timers] * 1e3:.1f} ms") for timers in p50})
	assert abs(p50["granted"] - p50["exact"]) < 0.008
	assert late["granted"] < 0.003
	assert p50["refused"] <= p50["exact"] + 0.032
	assert late["refused"] > 0.003, "what is refused is felt, else this shows nothing"


@pytest.mark.parametrize("careful", [False, True], ids=["", "after a loss"])
def test_pictures(careful: bool, meetings: Any) -> None:
	"""Everyone sees everyone; 18 datagrams a picture."""
	came, frame, seconds = {}, picture(2, 20_000), 1.2
	for timers in ("exact", "granted", "refused"):
		meeting = meetings(timers, HELD[0], 0.0, 3)
		world, planes = meeting.world, [media.video for media, _ in meeting.members]
		idents = {plane.path.id for plane in planes}
		if careful:
			meeting.relay.loop.post(partial(meeting.relay.limit, cs.SetRate(1, math.inf, lossy=True)))
		for plane in planes:
			me, start = plane.path.id, world.now + 0.1 + plane.path.id / 70
			others = dict.fromkeys(idents - {me}, (2, 15))
			meeting.relay.loop.post(partial(meeting.relay.route, me, others))
			plane.loop.post(partial(plane.watch, idents - {me}))
			for n in range(int(seconds * 15)):
				world.at(start + n / 15, partial(plane.send_picture, 2, frame))
		world.wait(world.now + seconds + 0.5)
		streams = [(plane, ident) for plane in planes for ident in idents - {plane.path.id}]
		came[timers] = sum(plane.streams[ident].newest[0] for plane, ident in streams)
		assert not any(plane.incoming.counts(ident)["lost_frames"] for plane, ident in streams)
	print(came)
	assert came["exact"] > 0.9 * len(streams) * seconds * 15
	assert came["granted"] >= 0.95 * came["exact"]
	assert came["refused"] >= (0.95 if careful else 1.0) * came["exact"]
