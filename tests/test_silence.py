"""Silence costs nothing: microphones and the mixer's real process send voice, and little of what is none."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
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
