"""Sound cards as Windows presents them: a tone in is the same tone out, whatever the device's channels."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sound import share_of_tone

import connectsphere as cs

TONE = 440.0
RATE = 48_000


class Card:
	"""A stream of PyAudio 0.2.14 on WASAPI in shared mode, which takes the device's own channels alone.

	One channel of a stereo device opens as well, but blocking calls leave out its conversion: what is
	written as mono is played as stereo, twice as fast, and what is read is stereo where mono is asked for.
	"""

	def __init__(self, own: int, channels: int, blocks: threading.Semaphore) -> None:
		self.own, self.channels, self.blocks = own, channels, blocks
		self.played: list[np.ndarray] = []
		self.at = 0

	def read(self, frames: int, exception_on_overflow: bool) -> bytes:
		"""`frames` of the tone on each of the device's channels; waits for the test to want them."""
		self.blocks.acquire(timeout=0.02)
		at = self.at + np.arange(frames)
		self.at += frames
		tone = (12_000 * np.sin(2 * np.pi * TONE * at / RATE)).astype(np.int16)
		return tone.repeat(self.own)[: frames * self.channels].tobytes()

	def write(self, data: bytes) -> None:
		"""Play; the device's first channel is kept."""
		self.played.append(np.frombuffer(data, np.int16)[:: self.own])

	def close(self) -> None:
		"""Nothing is held."""


class Cards:
	"""The module pyaudio on a computer with one device of `own` channels, found through `api`."""

	def __init__(self, api: str, own: int, takes: Callable[[int], bool]) -> None:
		self.api, self.own, self.takes = api, own, takes
		self.blocks = threading.Semaphore(0)
		self.opened: list[Card] = []
		self.module = types.SimpleNamespace(PyAudio=lambda: self)

	def open(self, channels: int, rate: int, **_: Any) -> Card:
		"""A stream, or paInvalidChannelCount."""
		if rate != RATE or not self.takes(channels):
			raise OSError(-9998, "Invalid number of channels")
		self.opened.append(Card(self.own, channels, self.blocks))
		return self.opened[-1]

	def get_device_count(self) -> int:
		"""One."""
		return 1

	def get_device_info_by_index(self, index: int) -> dict[str, Any]:
		"""The device."""
		return {
			"index": index, "name": "Card", "hostApi": 0, "defaultSampleRate": float(RATE),
			"maxInputChannels": self.own, "maxOutputChannels": self.own,
		}  # fmt: skip

	def get_host_api_count(self) -> int:
		"""One."""
		return 1

	def get_host_api_info_by_index(self, index: int) -> dict[str, Any]:
		"""The interface through which the system lends it."""
		return {"index": index, "name": self.api, "defaultInputDevice": 0, "defaultOutputDevice": 0}

	def terminate(self) -> None:
		"""Nothing is held."""


def cards(patch: pytest.MonkeyPatch, api: str, own: int, takes: Callable[[int], bool]) -> Cards:
	"""Install them for this test."""
	made = Cards(api, own, takes)
	patch.setitem(sys.modules, "pyaudio", made.module)
	return made


def wasapi(patch: pytest.MonkeyPatch, own: int) -> Cards:
	"""A device of Windows: its own channels alone, and a stereo one opens for mono, which then is garbled."""
	return cards(patch, "Windows WASAPI", own, lambda n: n == own or (n, own) == (1, 2))


@pytest.mark.parametrize("own", [1, 2, 4, 8])
def test_a_microphone_of_any_channels_gives_the_tone(own: int, monkeypatch: pytest.MonkeyPatch) -> None:
	made = wasapi(monkeypatch, own)
	microphone = cs.open_microphone("default")
	heard = []
	for _ in range(100):
		made.blocks.release()
		heard.append(microphone.read())
	microphone.close()
	assert share_of_tone(np.concatenate(heard), TONE, cs.AUDIO_RATE) >= 0.95


@pytest.mark.parametrize("own", [1, 2, 4, 8])
def test_a_speaker_of_any_channels_plays_the_tone(own: int, monkeypatch: pytest.MonkeyPatch) -> None:
	made = wasapi(monkeypatch, own)
	speaker = cs.open_speaker("default", cs.monotonic())
	at = np.arange(100 * cs.BLOCK)
	tone = (12_000 * np.sin(2 * np.pi * TONE * at / cs.AUDIO_RATE)).astype(np.int16)
	for block in tone.reshape(-1, cs.BLOCK):
		speaker.write(block)
	speaker.close()
	# between two blocks a device that never waits plays silence
	played = np.concatenate([piece for piece in made.opened[0].played if piece.any()])
	assert share_of_tone(played, TONE, RATE) >= 0.95


@pytest.mark.parametrize(("takes", "used"), [((1, 2, 32), 1), ((2, 32), 2), ((32,), 32)])
def test_elsewhere_as_few_channels_are_taken_as_the_device_allows(
	takes: tuple[int, ...], used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""ALSA's default device names 32 channels and converts; a card with hardware of its own may not."""
	made = cards(monkeypatch, "ALSA", 32, takes.__contains__)
	cs.open_microphone("default").close()
	assert [card.channels for card in made.opened] == [used]
