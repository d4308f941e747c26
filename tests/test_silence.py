"""Silence costs nothing: microphones and the mixer's real process send voice, and little of what is none."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from meetings import wav
from mixing import mixer
from stranger import AUDIO, Plane, sealed

import connectsphere as cs

# whole waves: a voice has no constant offset, which is taken out
VOICE = (np.sin(np.arange(cs.BLOCK) * 16 * np.pi / cs.BLOCK) * 8_000).astype(">i2").tobytes()
WITH_VOICE = max(cs.AUDIO_SIZES)
KEYS = {1: ("11" * 16, "12" * 16), 2: ("21" * 16, "22" * 16)}


@contextlib.contextmanager
def clients() -> Iterator[tuple[Plane, Plane]]:
	"""Two clients' audio planes, both bound and not muted, at a mixer's process."""
	with contextlib.ExitStack() as stack:
		address, _ = stack.enter_context(mixer(KEYS))
		planes = [Plane(address, ident, *keys) for ident, keys in KEYS.items()]
		for plane in planes:
			stack.enter_context(plane.sock)
		until = time.monotonic() + 20
		bound: set[int] = set()  # who is sent silence
		while len(bound) < len(planes) and time.monotonic() < until:
			for plane in planes:
				plane.bind(time.monotonic())
			for plane in planes:
				if take(plane):
					bound.add(plane.id)
			time.sleep(0.01)
		yield planes[0], planes[1]


def take(plane: Plane) -> list[bytes]:
	"""The sound that has come; challenges are answered."""
	found = []
	plane.sock.setblocking(False)
	with contextlib.suppress(BlockingIOError):
		while True:
			data = plane.sock.recv(2_048)
			if len(data) in cs.AUDIO_SIZES:
				found.append(data)
			else:
				plane.on_small(data)
	return found


def say(plane: Plane, seq: int, block: bytes) -> None:
	plane.sock.send(cs.AUDIO_HEADER.pack(plane.id, seq) + sealed(plane.up, AUDIO, plane.id, seq, block))


def test_the_mixer_sends_voice_to_the_others_and_next_to_nothing_else() -> None:
	with clients() as (ana, ben):
		for seq in range(1, 61):
			say(ana, seq, VOICE)
			time.sleep(cs.BLOCK_SECONDS)
		spoken, own = take(ben), take(ana)
		time.sleep(0.5)  # what is under way
		take(ben)
		time.sleep(2.0)
		silence = take(ben)
	assert sum(len(data) == WITH_VOICE for data in spoken) >= 40
	assert not [data for data in own if len(data) == WITH_VOICE], "nobody hears oneself"
	assert 1 <= len(silence) <= 2.0 / cs.BLOCK_SECONDS / 16 + 2
	assert {len(data) for data in silence} == {min(cs.AUDIO_SIZES)}


def test_a_microphone_sends_voice_and_says_silence_once_in_a_while(tmp_path: Path) -> None:
	loud = np.tile(np.frombuffer(VOICE, ">i2"), 60)
	path = wav(tmp_path / "said.wav", np.concatenate([loud, np.zeros(250 * cs.BLOCK, np.int16)]))
	sent: list[tuple[int, int]] = []
	sender = cs.MicrophoneSender(
		cs.ClientOptions(name="Ana", mic=str(path)),
		lambda seq, block: sent.append((seq, len(block))),
		lambda *_: None,
		lambda: 0,
		cs.VoiceProcessor(),
	)
	sender.turn(True)
	try:
		until = time.monotonic() + 20
		while (not sent or sent[-1][0] < 250) and time.monotonic() < until:
			time.sleep(0.01)
	finally:
		sender.close()
	with_voice = [seq for seq, size in sent if size and seq <= 250]
	assert 58 <= len(with_voice) <= 60 + cs.VoiceActivityDetector.HANGOVER
	assert max(with_voice) <= 60 + cs.VoiceActivityDetector.HANGOVER, "silence was sent as sound"
	assert 3 <= sum(not size for seq, size in sent if seq <= 250) <= 3 + 250 / 16


class Quiet:
	"""A mixer's port and clock: what comes when, what leaves when, how often it is woken."""

	def __init__(self, come: Sequence[tuple[float, bytes]], until: float) -> None:
		self.now, self.wakes, self.until = 0.0, 0, until
		self.come = deque(come)
		self.sent: list[tuple[float, bytes]] = []
		self.mixer: cs.MixerProcess | None = None

	def pass_time(self, seconds: float) -> bool:
		self.wakes += 1
		self.now += seconds
		if self.now >= self.until and self.mixer:
			self.mixer.tell(None)
		return True

	def wait(self, seconds: float) -> bool:
		left = self.come[0][0] - self.now if self.come else math.inf
		self.pass_time(max(0.0, min(seconds, left)) + 1e-6)
		return left <= seconds

	def receive(self, most: int) -> list[tuple[bytes, int, cs.Address]]:
		found = []
		while self.come and self.come[0][0] <= self.now:
			data = self.come.popleft()[1]
			found.append((data, len(data), ("10.0.0.1", 1)))
		return found

	def send(self, data: bytes, address: cs.Address) -> None:
		if address == ("10.0.0.1", 2):
			self.sent.append((self.now, data))

	def close(self) -> None:
		pass


def mixed(
	patch: pytest.MonkeyPatch, come: Sequence[tuple[float, bytes]], until: float, sleeps: bool
) -> Quiet:
	"""What Ben is sent of what Ana says, by a mixer that sleeps while nobody speaks or one that does not."""
	port = Quiet(come, until)
	patch.setattr(cs, "UdpPort", lambda *_, **__: port)
	patch.setattr(cs, "monotonic", lambda: port.now)
	patch.setattr(time, "sleep", port.pass_time)
	mixer = port.mixer = cs.MixerProcess(None, lambda _: None)  # type: ignore[arg-type]
	for ident in (1, 2):
		mixer._do({"do": "add", "id": ident, "up": "00" * 16, "down": "00" * 16})
		mixer._do({"do": "mute", "id": ident, "on": False})
		mixer._peers[ident].binding.address = ("10.0.0.1", ident)
	if not sleeps:
		mixer._idle_ticks = lambda: 0  # type: ignore[method-assign]
	mixer.run()
	return port


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(0.001, 1.5), st.integers(1, 12)), max_size=4))
def test_a_mixer_that_sleeps_while_nobody_speaks_says_the_same(spoken: list[tuple[float, int]]) -> None:
	sealer, come, seq, at = cs.Sealer(bytes(16)), [], 0, 0.2
	for pause, blocks in spoken:
		at, seq = at + pause, seq + math.ceil(pause / cs.BLOCK_SECONDS)
		for number in range(blocks + 3):
			seq += 1
			sealed_block = sealer.seal(cs.Kind.AUDIO, 1, seq, VOICE if number < blocks else b"")
			come.append((at + number * cs.BLOCK_SECONDS, cs.audio_datagram(1, seq, sealed_block)))
		at += (blocks + 3) * cs.BLOCK_SECONDS
	with pytest.MonkeyPatch.context() as patch:
		awake, asleep = (mixed(patch, come, at + 3.0, sleeps) for sleeps in (False, True))
	voices = [[one for one in port.sent if len(one[1]) == WITH_VOICE] for port in (awake, asleep)]
	assert [data for _, data in voices[0]] == [data for _, data in voices[1]]
	assert all(abs(one[0] - two[0]) < 1e-3 for one, two in zip(*voices, strict=True))
	told = [at for at, _ in asleep.sent]
	assert all(two - one <= 0.257 for one, two in pairwise(told)), "silence is told, too"
	if not spoken:
		assert asleep.wakes <= 3.2 / 0.256 + 8 < awake.wakes / 5
