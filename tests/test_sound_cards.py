"""Sound cards as Windows presents them: a tone in is the same tone out, whatever the device's channels."""

from __future__ import annotations

import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
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
	patch.setattr(cs, "_sound_cards", cs._SoundCards())
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


# ------------------------------------------------------------------- headsets that come and go


class Plugs:
	"""The module pyaudio on a computer whose devices come and go: PortAudio lists them when it starts."""

	def __init__(self) -> None:
		self.there = ["Built-in"]  # in the order of their numbers
		self.default = "Built-in"
		self.listed: list[str] = []
		self.open_ones = 0
		self.heard: list[tuple[str, int]] = []  # by which device, the block's number
		self.captured = ""  # by which device, last
		self.silent = False  # who speaks into the microphones
		self.module = types.SimpleNamespace(PyAudio=self.start)

	def start(self) -> Plugs:
		"""A new PortAudio."""
		assert not self.open_ones, "the list is read anew with nothing open only"
		self.listed = [*self.there]
		return self

	def count(self) -> int:
		"""What the system says, at any time."""
		return len(self.there)

	def take(self, name: str) -> None:
		"""Pull it out."""
		self.there.remove(name)
		self.default = self.there[0]

	def plug(self, name: str, at: int = 0) -> None:
		"""It becomes the default."""
		self.there.insert(at, name)
		self.default = name

	def open(self, rate: int, channels: int, **options: Any) -> Plugged:
		"""A stream of a device that is there still."""
		at = options.get("input_device_index", options.get("output_device_index"))
		name = self.listed[at]
		if name not in self.there:
			raise OSError(-9985, "Device unavailable")
		self.open_ones += 1
		return Plugged(self, name)

	def get_device_count(self) -> int:
		"""As listed."""
		return len(self.listed)

	def get_device_info_by_index(self, index: int) -> dict[str, Any]:
		"""As listed."""
		return {
			"index": index, "name": self.listed[index], "hostApi": 0, "defaultSampleRate": 16_000.0,
			"maxInputChannels": 1, "maxOutputChannels": 1,
		}  # fmt: skip

	def get_host_api_count(self) -> int:
		"""One."""
		return 1

	def get_host_api_info_by_index(self, index: int) -> dict[str, Any]:
		"""As listed."""
		at = self.listed.index(self.default) if self.default in self.listed else 0
		return {"index": 0, "name": "Windows WASAPI", "defaultInputDevice": at, "defaultOutputDevice": at}

	def terminate(self) -> None:
		"""Nothing is held."""


class Plugged:
	"""A stream of such a device, four times as fast as real; it dies with it."""

	def __init__(self, plugs: Plugs, name: str) -> None:
		self.plugs, self.name = plugs, name
		self.due = time.monotonic()

	def _pace(self) -> None:
		self.due = max(self.due + cs.BLOCK_SECONDS / 4, time.monotonic() - 0.1)
		time.sleep(max(0.0, self.due - time.monotonic()))
		if self.name not in self.plugs.there:
			raise OSError(-9988, "Stream closed")

	def read(self, frames: int, exception_on_overflow: bool) -> bytes:
		"""A voice, or silence."""
		self._pace()
		self.plugs.captured = self.name
		return np.full(frames, 0 if self.plugs.silent else 8_000, np.int16).tobytes()

	def write(self, data: bytes) -> None:
		"""Blocks are constant: their number."""
		self._pace()
		number = int(np.frombuffer(data, np.int16)[-1])
		if number:
			self.plugs.heard.append((self.name, number))

	def close(self) -> None:
		"""Let go."""
		self.plugs.open_ones -= 1


class Said:
	"""Stands in for the audio plane: blocks with numbers, unless all are silent."""

	def __init__(self) -> None:
		self.number, self.level_db = 0, 0.0
		self.silent = False

	def pull(self) -> cs.Samples:
		"""The next one."""
		if self.silent:
			return cs.silence()
		self.number += 1
		return np.full(cs.BLOCK, self.number, np.int16)


class Desk:
	"""A client's microphone and player over `plugs`."""

	def __init__(self, plugs: Plugs, mic: str, speaker: str) -> None:
		self.plugs = plugs
		self.told: list[tuple[str, str, str]] = []
		self.sent: list[int] = []
		options = cs.ClientOptions(mic=mic, speaker=speaker, sound="original")
		self.media = cs.MediaManager(options, cs.Counters(), self.note, lambda _: None)
		self.said = Said()
		self.media.audio = self.said  # type: ignore[assignment]
		self.mic = cs.MicrophoneSender(
			options, lambda number, block: self.sent.append(number), self.note, lambda: 0, cs.VoiceProcessor()
		)
		self.media._microphone = self.mic
		self.mic.turn(True)
		self.media._player.start()

	def note(self, *told: str) -> None:
		"""What a device says."""
		self.told.append((told[0], told[1], str(told[2])))

	def uses(self, name: str) -> None:
		"""Wait until both ends are that device's."""
		until(
			lambda: (
				self.plugs.captured == name == [*self.plugs.heard, ("", 0)][-1 - bool(self.plugs.heard)][0]
			),
			name,
		)

	def lost(self) -> int:
		"""Blocks that nobody heard; none twice, and in order."""
		numbers = [number for _, number in self.plugs.heard]
		assert numbers == sorted(set(numbers))
		return numbers[-1] - numbers[0] + 1 - len(numbers)

	def close(self) -> None:
		"""End both."""
		self.media._player.close()
		self.mic.close()


def until(done: Callable[[], bool], what: str) -> None:
	"""Wait for it, 10 s at most."""
	end = time.monotonic() + 10
	while not done():
		assert time.monotonic() < end, what
		time.sleep(0.005)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Desk]]:
	"""Opens desks, one after the other."""
	made: list[Desk] = []

	def open_desk(mic: str = "default", speaker: str = "default") -> Desk:
		plugs = Plugs()
		monkeypatch.setattr(cs, "_sound_cards", cs._SoundCards())  # it knows what number 0 was in other tests
		monkeypatch.setitem(sys.modules, "pyaudio", plugs.module)
		monkeypatch.setattr(cs, "_sound_devices", plugs.count)
		made.append(Desk(plugs, mic, speaker))
		return made[-1]

	yield open_desk
	for one in made:
		one.close()


def test_a_headset_that_comes_is_taken_in_a_pause_and_given_back_without_a_word_lost(
	desk: Callable[..., Desk],
) -> None:
	one = desk()
	plugs = one.plugs
	until(lambda: len(plugs.heard) > 5, "sound")
	for _ in range(2):
		plugs.silent, one.said.silent, one.said.level_db = False, False, -20.0
		one.uses("Built-in")
		until(lambda: not one.mic.silent, "a voice")
		one.media.follow_devices()
		plugs.plug("Headset")
		for _ in range(15):
			one.media.follow_devices()
		assert not cs._sound_cards.stale, "not in the middle of what is said"
		plugs.silent = one.said.silent = True
		one.said.level_db = -90.0
		until(lambda: one.mic.silent > 0, "a pause")
		for _ in range(2):
			one.media.follow_devices()
		plugs.silent = False
		until(lambda: plugs.captured == "Headset", "the headset's microphone")
		one.said.silent = False
		one.uses("Headset")
		assert one.lost() <= 1, "what is said next is heard"
		assert not [told for told in one.told if told[1] == "failed"], "nothing failed"
		plugs.take("Headset")
		one.uses("Built-in")
		assert [(told[0], "Headset" in told[2]) for told in one.told if told[1] == "failed"] in (
			[("mic", True), ("speaker", True)], [("speaker", True), ("mic", True)],
			[("mic", True)], [("speaker", True)],
		)  # fmt: skip
		one.told.clear()
		assert one.lost() <= 40, "0.2 s, four times as fast"
		plugs.heard.clear()
	gaps = np.diff(one.sent)
	assert (gaps >= 1).all(), "numbers go on"


def test_who_talks_without_a_pause_gets_the_headset_after_a_while(desk: Callable[..., Desk]) -> None:
	one = desk()
	one.uses("Built-in")
	one.plugs.plug("Headset")
	for _ in range(22):
		one.media.follow_devices()
	one.uses("Headset")


def test_where_one_device_alone_is_pulled_out_the_other_is_opened_anew(desk: Callable[..., Desk]) -> None:
	"""Else the list would stay as old as the end that goes on."""
	one = desk(speaker="0")
	one.uses("Built-in")
	one.plugs.plug("Headset", 1)
	cs._sound_cards.stale = True
	until(lambda: one.plugs.captured == "Headset", "the headset")
	assert one.plugs.heard[-1][0] == "Built-in"
	one.plugs.take("Headset")
	one.uses("Built-in")


def test_what_was_chosen_by_number_stays_when_numbers_change_and_comes_back(
	desk: Callable[..., Desk],
) -> None:
	one = desk("0", "0")
	one.uses("Built-in")
	one.plugs.plug("Headset", 0)
	cs._sound_cards.stale = True
	until(lambda: one.plugs.listed == ["Headset", "Built-in"], "the list anew")
	one.plugs.take("Built-in")  # before it is opened anew, or after
	one.uses("Headset")
	one.plugs.there.append("Built-in")
	for _ in range(22):
		one.media.follow_devices()
	one.uses("Built-in")


def test_what_was_chosen_from_the_list_is_that_device_whatever_else_is_plugged_in(
	monkeypatch: pytest.MonkeyPatch,
) -> None:
	"""Another day, too: a projector with sound is enough to move every number."""
	plugs, opened = Plugs(), list[int]()
	plugs.there = ["Built-in", "Headset", "Headset"]
	monkeypatch.setitem(sys.modules, "pyaudio", plugs.module)
	monkeypatch.setattr(cs, "_sound_devices", plugs.count)

	def start() -> cs._SoundCards:
		"""Another start of the program; its PortAudio is that of whoever is the first to use it."""
		cards = cs._SoundCards()
		begin = cards._start
		monkeypatch.setattr(cards, "_start", lambda *told: opened.append(told[1]["index"]) or begin(*told))
		return cards

	def use(cards: cs._SoundCards, spec: str) -> int:
		cards.close(cards.open(spec, "input"))
		return opened[-1]

	cards = start()
	(_, *listed) = [spec for spec, _ in cards.names("input")]
	assert all(map(cs.is_sound_card, listed)) and len({*listed}) == 3, "two of one name are two"
	assert [use(cards, spec) for spec in listed] == [0, 1, 2]
	assert use(cards, "1") == 1, "by number, as on the command line"
	plugs.plug("Projector", 0)
	assert use(cards, "1") == 2
	for later in (cards, start()):
		assert [use(later, spec) for spec in listed] == [1, 2, 3]
		assert later.names("input")[2:] == cards.names("input")[2:]
	assert use(cards, "1") == 2, "the list was asked for meanwhile"
	plugs.there.remove("Headset")
	assert [use(cards, spec) for spec in listed[1:]] == [2, 2], "the one that is left"
	plugs.there.remove("Headset")
	plugs.default = "Built-in"
	assert use(cards, listed[1]) == 1, "the default until it is back"
	plugs.there.append("Headset")
	assert use(cards, listed[1]) == 2
