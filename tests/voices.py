"""Voices, rooms figures: espeak-ng talkers, the stand-in room, levels, STOI."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
import wave
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import connectsphere as cs

RATE, BLOCK = 16_000, 256
Sound = NDArray[np.float64]  # full scale is 1

SENTENCES = (
	"Good morning everybody.|Today we look at how plants turn sunlight into sugar.|Please open your books "
	"at page forty two.|Who can tell me what a leaf needs besides light?|Yes, water, and a gas from the air.",
	"I think it was in the second chapter, where the captain leaves the harbour at night.|He says that "
	"nobody should follow him, but his brother does it anyway.|Afterwards they find the old map.",
	"Can you hear me now?|My microphone was off, I am sorry.|We measured the length of the shadow "
	"three times.|Our group thinks that at noon it would be about eighty centimetres long.",
	"The answer to number five is seventeen.|First I took the brackets away, and then I divided by three.|My "
	"neighbour has another result, she says it must be fifteen.|Perhaps we should check it once more.",
	"Could we please have a short break after this exercise?|Some of us still have to copy the table from "
	"the board.|The wind outside is really loud today, and the window behind me does not close well.",
)
TALKERS = ("en-us+Michael", "en-gb+Linda", "en-us+Annie", "en-gb+Andy", "en-us+Alicia")
_SAID = Path(tempfile.gettempdir()) / "connectsphere-voices"


@cache
def _say(talker: str, sentence: str) -> Sound:
	"""One sentence, made once on this machine; to change its rate takes as long as some tests."""
	_SAID.mkdir(exist_ok=True)
	path = _SAID / f"{hashlib.sha256(f'{talker}|{sentence}'.encode()).hexdigest()[:16]}.npy"
	if not path.exists():
		with tempfile.TemporaryDirectory(dir=_SAID) as own:  # another test may make it at the same time
			subprocess.run(["espeak-ng", "-v", talker, "-w", f"{own}/a.wav", sentence], check=True)
			with wave.open(f"{own}/a.wav") as file:
				rate = file.getframerate()
				samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
			np.save(f"{own}/a.npy", cs.Resampler(rate, RATE).push(samples))
			Path(own, "a.npy").replace(path)
	sound: Sound = np.load(path) / 32_768.0
	loud = np.flatnonzero(np.abs(sound) > 1e-3)
	return sound[loud[0] : loud[-1]]


def speech(talker: int, seconds: float, seed: int = 0, db: float = -26.0) -> Sound:
	"""`seconds` of one talker at `db` while audible: sentences in an order of the seed, with short pauses."""
	random = np.random.default_rng((seed, talker))
	said = SENTENCES[talker % 5].split("|")
	pieces: list[Sound] = []
	while sum(map(len, pieces)) < seconds * RATE:
		for at in random.permutation(len(said)):
			pieces += [_say(TALKERS[talker % 5], said[at]), np.zeros(int(random.uniform(0.2, 0.9) * RATE))]
	sound = np.concatenate(pieces)[: int(seconds * RATE)]
	return sound * 10 ** (db / 20) / np.sqrt(np.mean(sound[np.abs(sound) > 0.003] ** 2))


def noise(count: int, db: float, seed: int = 0) -> Sound:
	"""The hiss and rumble of a quiet room."""
	spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=count))
	spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(count, 1 / RATE), 50) / 50)
	sound = np.fft.irfft(spectrum, count)
	return sound * 10 ** (db / 20) / sound.std()


def samples(sound: Sound) -> cs.Samples:
	"""As int16."""
	return np.clip(np.rint(sound * 32_768), -32_768, 32_767).astype(np.int16)


def level(sound: Sound | cs.Samples) -> float:
	"""RMS in dBFS; int16 or full scale 1."""
	scale = 32_768.0 if sound.dtype == np.int16 else 1.0
	return float(10 * np.log10(max(1e-12, np.mean((sound / scale) ** 2))))


def audible(sound: Sound | cs.Samples) -> float:
	"""The level of what is louder than 3 % of the peak."""
	return level(sound[np.abs(sound) > np.abs(sound).max() * 0.03])


def echo_of(far: cs.Samples, ppm: float = 100.0, delay: float = 0.045) -> Sound:
	"""What a microphone whose clock is `ppm` fast hears of `far` in the stand-in room."""
	room = cs.Acoustics()
	room.delay = delay
	heard = []
	for k in range(len(far) // BLOCK):
		room.play(k * 0.016, far[k * BLOCK : (k + 1) * BLOCK])
		heard.append(room.hear(cs.silence(), k * 0.016 * (1 - ppm * 1e-6)))
	return np.concatenate(heard) / 32_768.0


def processed(
	near: cs.Samples,
	far: cs.Samples,
	lost: Callable[[int], bool] = lambda k: False,
	unsaid: Callable[[int], bool] = lambda k: False,
	probability: list[float] | None = None,
) -> cs.Samples:
	"""What the product makes of a microphone's blocks beside a speaker's, one of each a turn.

	Of block k, the microphone's is `lost`, or the player does not say (`unsaid`) what it plays.
	"""
	voice = cs.VoiceProcessor()
	assert voice.begin()
	out = []
	for k in range(len(near) // BLOCK):
		piece = slice(k * BLOCK, (k + 1) * BLOCK)
		if not unsaid(k):
			voice.play(far[piece])
		if not lost(k):
			out.append(voice.process(near[piece]))
			if probability is not None:
				probability.append(voice.probability)
	return np.concatenate(out)


LAG = 352  # samples, 22 ms: of the canceller 8, of the suppressor 6, and of frames in blocks 8


def lag(before: Sound, after: Sound, most: int = 1_600) -> int:
	"""By how many samples `after` comes later."""
	size = 2 * len(before)
	product = np.fft.irfft(np.fft.rfft(after, size) * np.conj(np.fft.rfft(before, size)))
	return int(np.argmax(product[:most]))


def understood(clean: Sound, heard: Sound) -> float:
	"""STOI of what was `heard` of a clean voice, aligned."""
	from pystoi import stoi  # which takes 2 s to load

	late = lag(clean, heard)
	return float(stoi(clean[: len(clean) - late], heard[late:], RATE))


def fall(heard: Sound, left: Sound, begin: float, end: float) -> float:
	"""By how many dB less is left of what was heard between two seconds, where that was audible."""
	places = range(int(begin * RATE), int(end * RATE), 1_600)
	pieces = [at for at in places if level(heard[at : at + 1_600]) > -45]
	before = sum((heard[at : at + 1_600] ** 2).sum() for at in pieces)
	after = sum((left[at + LAG : at + LAG + 1_600] ** 2).sum() for at in pieces)
	return float(10 * np.log10(before / max(after, 1e-12)))


def second(sound: Sound, begin: float, end: float) -> Sound:
	"""What is in `sound` between two seconds."""
	return sound[int(begin * RATE) : int(end * RATE)]
