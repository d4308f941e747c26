"""What is heard: echo, noise and loudness; music as it is; each as loud as the listener wants."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Meeting
from headless import Headless
from meetings import QUIET_MACHINE, Passage, host, join, switch, wav
from sound import heard_in, missing, virtual_sound
from voices import (
	BLOCK,
	LAG,
	RATE,
	Sound,
	audible,
	echo_of,
	fall,
	lag,
	level,
	noise,
	processed,
	samples,
	second,
	speech,
	understood,
)  # fmt: skip

import connectsphere as cs

# to load what judges it, and to let the room sound, takes longer than one of them
speech_judged = pytest.mark.xdist_group("speech")
ADVICE = "Headphones stop echo for everyone."


@pytest.fixture(scope="module")
def conversation() -> tuple[Sound, Sound, Sound]:
	"""30 s of (far, near, echo of far): far alone for 14 s, both for 9, near alone."""
	count = 30 * RATE // BLOCK * BLOCK
	far, near = speech(0, 30, 3, -22)[:count], speech(1, 30, 10, -26)[:count]
	far[: RATE // 4] = far[23 * RATE :] = near[: 14 * RATE] = 0
	return far, near, echo_of(samples(far))


@speech_judged
def test_far_hears_the_near_voice_and_not_itself(conversation: tuple[Sound, Sound, Sound]) -> None:
	far, near, echo = conversation
	assert -29 < level(second(echo, 1, 14)) < -25, "the room is as loud as it says"
	heard = echo + near + noise(len(far), -62)
	left = processed(samples(heard), samples(far)) / 32_768.0
	assert fall(heard, left, 0.25, 2) >= 25
	assert fall(heard, left, 8, 14) >= 30
	assert understood(second(near, 15, 23), second(left, 15, 23)) >= 0.58, "both at once"
	assert understood(second(near, 24, 30), second(left, 24, 30)) >= 0.96, "near alone"
	assert lag(second(near, 25, 29), second(left, 25, 29)) == LAG


def grown(echo: Sound) -> Sound:
	"""From 8 s on, 150 ms later."""
	at, more = 8 * RATE, 2_400
	return np.concatenate((echo[:at], np.zeros(more), echo[at:-more]))


@speech_judged
@pytest.mark.parametrize(
	("change", "lost", "unsaid"),
	[
		(grown, (0, 0), (0, 0)),
		(lambda echo: echo, (500, 506), (0, 0)),  # 96 ms
		(lambda echo: echo, (0, 0), (438, 500)),
	],
	ids=["the playback buffer grows", "captured sound is lost", "a second of reference is lost"],
)
def test_after_a_fault_the_echo_is_gone_again_within_three_seconds(
	conversation: tuple[Sound, Sound, Sound],
	change: Callable[[Sound], Sound],
	lost: tuple[int, int],
	unsaid: tuple[int, int],
) -> None:
	far, _, echo = conversation
	heard = change(echo)[: 14 * RATE] + noise(14 * RATE, -62)
	left = processed(
		samples(heard), samples(far), lambda k: lost[0] <= k < lost[1], lambda k: unsaid[0] <= k < unsaid[1]
	)
	gap = (lost[1] - lost[0]) * BLOCK
	heard = np.concatenate((heard[: lost[0] * BLOCK], heard[lost[1] * BLOCK :])) if gap else heard
	assert fall(heard, left / 32_768.0, 11, 13.5) >= 20


@speech_judged
def test_a_long_way_is_found(conversation: tuple[Sound, Sound, Sound]) -> None:
	far = conversation[0][: 10 * RATE]
	heard = echo_of(samples(far), ppm=-100, delay=0.2)
	heard += noise(len(heard), -62)
	assert fall(heard, processed(samples(heard), samples(far)) / 32_768.0, 3, 9.5) >= 25


def test_voices_become_as_loud_as_each_other_and_noise_does_not() -> None:
	count = 20 * RATE
	silent = np.zeros(count, np.int16)
	out = []
	for at, db in enumerate((-45, -35, -26, -18)):
		said = speech(at, 20, 5, db) + noise(count, -70, at)
		out.append(processed(samples(said), silent)[12 * RATE :])
	levels = [audible(one) for one in out]
	assert max(levels) - min(levels) <= 8, levels
	alone = noise(count, -45)
	assert level(processed(samples(alone), silent)[8 * RATE :]) <= -45
	mixer = cs.AudioMixer()
	five = [*out, processed(samples(speech(4, 20, 5, -26)), silent)[12 * RATE :]]
	for ident in range(6):
		mixer.add(ident + 1)
	clipped = 0
	for k in range(len(out[0]) // BLOCK):
		for ident, one in enumerate(five):
			mixer.push(ident + 1, k, one[k * BLOCK : (k + 1) * BLOCK].copy(), k * 0.016)
		block = mixer.tick(k * 0.016 + 0.005)[6][0]
		clipped += 0 if block is None else int((np.abs(block.astype(int)) >= 32_767).sum())
	assert clipped == 0


class Microphone:
	"""A sender whose microphone is a file; what it sends, and what it says of its device."""

	def __init__(self, path: Path, sound: str) -> None:
		self.sent: list[tuple[int, bytes]] = []
		self.said: list[tuple[str, str, str]] = []
		self.options = cs.ClientOptions(name="Ana", mic=str(path), sound=sound)
		self.sender = cs.MicrophoneSender(
			self.options,
			lambda seq, block: self.sent.append((seq, block)),
			lambda *told: self.said.append(told),
			lambda: 0,
			cs.VoiceProcessor(),
		)

	def speak(self, blocks: int) -> list[bytes]:
		"""So many blocks, on from off; those with a voice in them."""
		before = len(self.sent)
		self.sender.turn(True)
		until = time.monotonic() + 20
		while len(self.sent) < before + blocks and time.monotonic() < until:
			time.sleep(0.01)
		self.sender.turn(False)
		while (not self.said or self.said[-1][1] != "off") and time.monotonic() < until:
			time.sleep(0.01)
		return [block for _, block in self.sent[before:] if block]


@pytest.fixture
def said(tmp_path: Path) -> tuple[Path, list[bytes]]:
	"""A file without a pause, and its first blocks as they go to the seal."""
	sound = samples(np.random.default_rng(1).normal(0, 0.05, 2 * RATE))
	blocks = [sound[at : at + BLOCK].astype(">i2").tobytes() for at in range(0, 60 * BLOCK, BLOCK)]
	return wav(tmp_path / "said.wav", sound), blocks


def test_original_sound_is_untouched_from_capture_to_seal(said: tuple[Path, list[bytes]]) -> None:
	for sound in ("original", ""):  # a file without a room is as it is unless one asks for a clear voice
		microphone = Microphone(said[0], sound)
		try:
			assert microphone.speak(40)[:40] == said[1][:40]
		finally:
			microphone.sender.close()
	assert cs.ClientOptions(mic="default").clear
	assert cs.ClientOptions(mic="room:a.wav").clear
	assert not cs.ClientOptions(mic="room:a.wav", sound="original").clear
	assert cs.ClientOptions(mic="a.wav", sound="clear").clear


class Counted(cs.Microphone):
	"""A microphone that tells whether it is open; opening takes as long as a real one does."""

	open_ones, opened = 0, 0

	def __init__(self) -> None:
		time.sleep(0.2)
		Counted.open_ones += 1
		Counted.opened += 1
		self._mine = True

	def read(self) -> cs.Samples:
		"""Loud, every 16 ms."""
		time.sleep(cs.BLOCK_SECONDS)
		return np.full(BLOCK, 8_000, np.int16)

	def close(self) -> None:
		"""Once."""
		Counted.open_ones -= self._mine
		self._mine = False


def test_a_muted_microphone_is_let_go_after_a_while_and_held_for_who_holds_a_key_to_talk(
	monkeypatch: pytest.MonkeyPatch,
) -> None:
	monkeypatch.setattr(cs, "open_microphone", lambda spec: Counted())
	monkeypatch.setattr(cs.MicrophoneSender, "LET_GO", 0.3)
	Counted.open_ones = Counted.opened = 0
	one = Microphone(Path("default"), "original")
	one.options.decode_all = True
	waits = []

	def turn(on: bool) -> None:
		before, sent, began = len(one.said), len(one.sent), time.monotonic()
		one.sender.turn(on)
		while len(one.said) == before or (on and not any(block for _, block in one.sent[sent:])):
			assert time.monotonic() < began + 10
			time.sleep(0.001)
		waits.append(time.monotonic() - began)

	try:
		turn(True)
		turn(False)
		assert Counted.open_ones == 1, "held, for who is about to speak"
		turn(True)
		assert Counted.opened == 1
		turn(False)
		until = time.monotonic() + 10
		while Counted.open_ones and time.monotonic() < until:
			time.sleep(0.01)
		assert not Counted.open_ones, "let go"
		one.options.talks_held = True
		turn(True)
		turn(False)
		waits.clear()
		for _ in range(9):
			time.sleep(0.35 if not waits else 0.05)  # longer than it is held else
			turn(True)
			turn(False)
		assert Counted.opened == 2
		assert sorted(waits[::2])[4] <= 0.06, waits
		one.options.mic = "another"
		one.sender.renew()
		until = time.monotonic() + 10
		while Counted.open_ones and time.monotonic() < until:
			time.sleep(0.01)
		assert not Counted.open_ones, "another was chosen"
		assert [state for _, state, _ in one.said][:6] == ["live", "off"] * 3
	finally:
		one.sender.close()
	assert not Counted.open_ones


def broken(where: str) -> Any:
	"""A package that fails in one of the ways in which packages fail."""
	if where == "missing":
		return None  # what `import` takes for an ImportError
	module = types.ModuleType("pywebrtc_audio")

	class Failing:
		speech_probability = 1.0

		def __init__(self, **_: Any) -> None:
			pass

		def process(self, *_: Any) -> None:
			raise RuntimeError("no such instruction")

	if where == "first block":
		module.__dict__.update(AudioProcessor=Failing, GainController=Failing)
	return module  # else an empty one, as is on the index for Windows on Arm


@pytest.mark.parametrize("where", ["missing", "import", "first block"])
def test_without_the_package_all_is_as_before_and_headphones_are_advised_once(
	where: str, said: tuple[Path, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
	monkeypatch.setitem(sys.modules, "pywebrtc_audio", broken(where))
	microphone = Microphone(said[0], "clear")
	try:
		for advice in (ADVICE, ""):
			microphone.said.clear()
			assert microphone.speak(10)[:10] == said[1][:10]
			live = [reason for what, state, reason in microphone.said if state == "live"]
			assert live == [advice]
	finally:
		microphone.sender.close()


def loud_for(path: Path, seconds: float) -> float:
	"""The level of the newest seconds."""
	recorded = heard_in(path)[-int(seconds * RATE) :]
	return level(recorded) if len(recorded) else -120.0


def wait_level(
	path: Path, good: Callable[[float], bool], seconds: float = 0.6, timeout: float = 20.0
) -> float:
	"""The level of what was heard in the newest seconds, once it is good."""
	end = time.monotonic() + timeout
	while not good(now := loud_for(path, seconds)):
		assert time.monotonic() < end, f"still {now:.1f} dB"
		time.sleep(0.1)
	return now


def asked(one: Headless, **command: Any) -> None:
	"""Carry out a command that is answered by `ok`."""
	ref = len(one.events)
	one.send({**command, "ref": ref})
	one.wait("ok", ref=ref)


def hear_own_echo_until_clear(meeting: Meeting, tmp_path: Path, *devices: str) -> tuple[Headless, Headless]:
	"""Ben talks to the host, whose `devices` send him his own voice until hers is clear: (host, Ben)."""
	far, back = wav(tmp_path / "far.wav", samples(speech(0, 8, 1, -22))), tmp_path / "back.wav"
	near, base = host(meeting, *devices, "--sound", "original")
	ben = join(meeting, base, "Ben", "--mic", str(far), "--speaker", str(back))
	switch(near, "mic", True)
	switch(ben, "mic", True)
	loud = wait_level(back, lambda db: db > -40, 2.0)
	asked(near, do="sound", mode="clear")
	wait_level(back, lambda db: db <= loud - 25, 1.0, 2.5 if QUIET_MACHINE else 20.0)
	return near, ben


def test_far_hears_its_own_echo_until_the_voice_is_clear(meeting: Meeting, tmp_path: Path) -> None:
	hush = wav(tmp_path / "hush.wav", samples(noise(4 * RATE, -66)))
	_, ben = hear_own_echo_until_clear(meeting, tmp_path, "--mic", f"room:{hush}")
	ben.send(do="sound", mode="muffled", ref=99)
	assert ben.wait("error", ref=99)["code"] == "bad_command"


@pytest.mark.skipif(bool(missing), reason="needs the packages pulseaudio and pulseaudio-utils")
def test_far_hears_no_echo_of_a_sound_card_whose_output_comes_back_into_its_input(
	meeting: Meeting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
	with virtual_sound() as virtual:
		virtual.loop(45)
		for name, value in virtual.environment.items():
			monkeypatch.setenv(name, value)
		near, _ = hear_own_echo_until_clear(meeting, tmp_path, "--mic", "default", "--speaker", "default")
		near.close()


def test_a_listener_sets_how_loud_each_other_is_and_it_stays_over_reconnects(
	meeting: Meeting, tmp_path: Path
) -> None:
	own = tmp_path / "own.wav"
	ana, base = host(meeting, "--mic", "tone")
	ben = join(meeting, base, "Ben", "--mic", "tone")
	passage = Passage(base)
	try:
		cara = join(meeting, base, "Cara", "--speaker", str(own), "--join", f"{passage.at}:{base}")
		switch(ana, "mic", True)
		normal = wait_level(own, lambda db: abs(db + 23) < 0.5)
		asked(cara, do="volume", who="Ana", gain=2)
		wait_level(own, lambda db: abs(db - normal - 6) < 0.5)
		asked(cara, do="volume", who="Ana", gain=0)
		wait_level(own, lambda db: db < -90)
		passage.cut()
		cara.wait("reconnecting")
		passage.mend()
		cara.wait("reconnected", timeout=20)
		switch(ana, "mic", False)
		switch(ana, "mic", True)
		switch(ben, "mic", True)
		wait_level(own, lambda db: abs(db - normal) < 0.5, 0.3)  # of both, one is heard
		switch(ben, "mic", False)
		wait_level(own, lambda db: db < -90, 0.3)
		asked(cara, do="volume", who="Ana", gain=1)
		wait_level(own, lambda db: abs(db - normal) < 0.5, 0.3)
		for gain in (-0.1, 2.1, True, "loud", None):
			cara.send(do="volume", who="Ana", gain=gain, ref=500)
			assert cara.wait("error", ref=500)["code"] == "bad_command"
	finally:
		passage.close()
