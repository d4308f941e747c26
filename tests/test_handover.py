"""A device goes from hand to hand: who comes next opens it once the former user has let it go."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from test_sound_cards import Card, Cards
from waiting import wait_until

import connectsphere as cs

OPTIONS = cs.ClientOptions("Ana", camera="0", mic="default", decode_all=True)


class Driver:
	"""A camera of which there is one, and whose release takes a while."""

	def __init__(self, release: float) -> None:
		self.seconds = release
		self.held = threading.Lock()
		self.opened = 0

	def open(self, index: int, fps: float) -> Driver:
		"""It, or what a driver says of a camera that is in use."""
		if not self.held.acquire(blocking=False):
			raise cs.DeviceError("Camera 0 is not there, or another program is using it.")
		self.opened += 1
		return self

	def read(self) -> tuple[bool, cs.Picture]:
		"""A picture, thirty a second."""
		time.sleep(1 / 30)
		return True, np.zeros((9, 16, 3), np.uint8)

	def release(self) -> None:
		"""Let it go."""
		time.sleep(self.seconds)
		self.held.release()


class OwnCards(Cards):
	"""A card that lends itself to one stream at a time, and whose closing takes a while."""

	release = 0.0
	taken = False

	def open(self, channels: int, rate: int, **more: object) -> Card:
		"""The stream, or that the card is in use."""
		if self.taken:
			raise OSError(-9985, "Device unavailable")
		card = super().open(channels, rate, **more)
		self.taken = True
		self.blocks.release(1_000)
		card.close = self.let_go  # type: ignore[method-assign]
		return card

	def let_go(self) -> None:
		"""What closing its stream comes to."""
		time.sleep(self.release)
		self.taken = False


class Told:
	"""A sender of the meeting, and what it said of its device."""

	def __init__(self, what: str) -> None:
		self.states: list[str] = []
		sends, tells = lambda number, data: None, lambda what, state, reason: self.states.append(state)
		self.sender: cs.CameraSender | cs.MicrophoneSender = (
			cs.CameraSender(OPTIONS, sends, tells)
			if what == "camera"
			else cs.MicrophoneSender(OPTIONS, sends, tells, lambda: 0, cs.VoiceProcessor())
		)

	def live(self) -> bool:
		"""Whether it has come to that; a failure is none that is told."""
		assert "failed" not in self.states
		return self.states[-1:] == ["live"]


@pytest.fixture(params=["camera", "mic"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], str]:
	"""Install a device of which there is one, and which takes so many seconds to be let go; its kind."""

	def install(release: float) -> str:
		driver, made = Driver(release), OwnCards("Windows WASAPI", 1, lambda n: n == 1)
		made.release = release
		monkeypatch.setattr(cs, "_open_capture", driver.open)
		monkeypatch.setitem(sys.modules, "pyaudio", made.module)
		return str(request.param)

	return install


def previewed(what: str) -> cs.Preview:
	"""A preview that shows it, or moves a level."""
	preview = cs.Preview({"camera": "0", "mic": "default", "name": "Ana"}.__getitem__, lambda: None)
	run(preview, what)
	wait_until(lambda: seen(preview, what), what="the preview")
	return preview


def run(preview: cs.Preview, what: str) -> None:
	preview.run(what == "camera", what == "mic")


def seen(preview: cs.Preview, what: str) -> bool:
	return bool(preview.picture[1] is not None if what == "camera" else preview.level)


def at_once(act: Callable[[], object]) -> None:
	"""Do it; whoever asks never waits: a device takes 0.8 s or more to be let go."""
	began = time.monotonic()
	act()
	assert time.monotonic() - began < 0.7


@pytest.mark.parametrize("release", [0.8, 1.5])
def test_from_the_start_window_to_the_meeting_and_back(
	device: Callable[[float], str], release: float
) -> None:
	what = device(release)
	preview, meeting = previewed(what), Told(what)
	at_once(lambda: preview.run(False, False))
	at_once(lambda: meeting.sender.turn(True))
	wait_until(meeting.live, what="the meeting's")
	leaving = threading.Thread(target=meeting.sender.close)
	leaving.start()
	at_once(lambda: run(preview, what))
	wait_until(lambda: seen(preview, what), what="the preview again")
	preview.close()
	leaving.join()


def test_who_changes_the_mind_several_times_has_it_in_the_end(device: Callable[[float], str]) -> None:
	what = device(0.8)
	preview, meeting = previewed(what), Told(what)
	for _ in range(3):
		at_once(lambda: preview.again(what))
		time.sleep(0.05)
	at_once(lambda: preview.run(False, False))
	at_once(lambda: meeting.sender.turn(True))
	wait_until(meeting.live, what="the meeting's")
	meeting.sender.close()
	preview.close()


@pytest.mark.parametrize("device", ["camera"], indirect=True)  # the sound system is one for all devices
def test_one_that_is_not_let_go_is_not_waited_for(
	device: Callable[[float], str], monkeypatch: pytest.MonkeyPatch
) -> None:
	monkeypatch.setattr(cs, "HANDOVER_SECONDS", 1.0)
	what = device(4.0)
	preview, meeting = previewed(what), Told(what)
	preview.run(False, False)
	began = time.monotonic()
	meeting.sender.turn(True)
	wait_until(lambda: meeting.states == ["failed"], what="that it cannot be had")
	assert time.monotonic() - began < 3.5
	meeting.sender.close()
	preview.close()


def test_a_camera_of_another_part_of_the_program_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
	"""Whoever opens it; for a while, for another one not at all."""
	driver, captures = Driver(0.3), cs._Captures()
	monkeypatch.setattr(cs, "_open_capture", driver.open)
	former = captures.open(0, 30)
	leaving = threading.Thread(target=former.close)
	leaving.start()
	latter = captures.open(0, 30)
	assert driver.opened == 2
	leaving.join()
	driver.seconds = 0.0
	monkeypatch.setattr(cs, "HANDOVER_SECONDS", 0.1)
	with pytest.raises(cs.DeviceError):
		captures.open(0, 30)
	monkeypatch.setattr(cs, "HANDOVER_SECONDS", 60.0)
	began = time.monotonic()
	with pytest.raises(cs.DeviceError):
		captures.open(1, 30)
	assert time.monotonic() - began < 30
	latter.close()
