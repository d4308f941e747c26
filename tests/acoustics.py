"""Laptops in rooms, in a closed loop through the real mixer: what each microphone hears, who is grouped."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from voices import BLOCK, RATE, Sound, noise, samples

import connectsphere as cs

PARTS = 24  # of 256 samples: 384 ms of a room
NEAR = 0.5  # metres from a mouth to its microphone, where a voice has the level that the test names


def impulse(metres: float, seed: int, decay: float = 0.4, critical: float = 1.1) -> Sound:
	"""The way to a microphone: straight, then reflections, as loud as the former at `critical` metres."""
	response = np.random.default_rng(seed).normal(size=PARTS * BLOCK) * 10 ** (
		-3 * np.arange(PARTS * BLOCK) / (decay * RATE)
	)
	response *= NEAR / critical / np.sqrt((response**2).sum())
	at = round(metres / 343 * RATE)
	response = np.concatenate((np.zeros(at), response))[: PARTS * BLOCK]
	response[at] += NEAR / max(metres, 0.2)
	return response


@dataclass
class Laptop:
	"""One client: where it stands (metres), what it does with its sound, how late things reach it."""

	room: int
	at: tuple[float, float] = (0.0, 0.0)
	clear: bool = True  # takes the echo out
	speaker: float = 1.0  # 0: headphones
	up: float = 0.02  # seconds from the microphone to the mixer
	down: int = 2  # blocks from the mixer to the player
	card: int = 2  # blocks from the player to the air
	voice: Sound = field(default_factory=lambda: np.zeros(0))
	around: Sound = field(default_factory=lambda: np.zeros(0))  # else heard there: a film, a fan


class School:
	"""All of them, `seconds` long; steps of a block."""

	SOFTER = 188  # blocks, from the moment that all microphones open

	def __init__(self, laptops: Sequence[Laptop], seconds: float, seed: int = 0, hiss: float = -65.0) -> None:
		self.laptops, self.blocks = laptops, int(seconds * RATE) // BLOCK
		count, size = len(laptops), self.blocks * BLOCK
		ways = np.zeros((count, count, PARTS * BLOCK))
		self.near = np.zeros((count, size))
		for i, mine in enumerate(laptops):
			self.near[i] = noise(size, hiss, seed * 50 + i)
			own = mine.around[:size]
			self.near[i, : len(own)] += own
			for j, other in enumerate(laptops):
				if mine.room != other.room:
					continue
				metres = float(np.hypot(*np.subtract(mine.at, other.at)))
				ways[i, j] = impulse(metres + 0.25, 100 * i + j + seed) * other.speaker * bool(other.speaker)
				said = other.voice[:size]
				if len(said):
					way = impulse(np.hypot(metres, NEAR), 7_000 + 100 * i + j + seed)
					total = len(said) + len(way)
					heard = np.fft.irfft(np.fft.rfft(said, total) * np.fft.rfft(way, total), total)
					self.near[i, : len(said)] += heard[: len(said)]
		parts = np.concatenate(
			(ways.reshape(count, count, PARTS, BLOCK), np.zeros((count, count, PARTS, BLOCK))), -1
		)
		ways = np.fft.rfft(parts).transpose(3, 0, 2, 1)  # frequency, microphone, part, speaker
		self._ways = ways.reshape(BLOCK + 1, count, -1).astype(np.complex64)
		self._past = np.zeros((BLOCK + 1, PARTS, count), np.complex64)
		self._last = np.zeros((count, BLOCK))
		self.mixer = cs.AudioMixer()
		for ident in self.ids:
			self.mixer.add(ident)
		self.ears = [cs.HeardBefore() for _ in laptops]
		for ident, ear in zip(self.ids, self.ears, strict=True):
			ear.on_early = partial(self.mixer.finder.note_early, ident)
		self.voices = [cs.VoiceProcessor() for _ in laptops]
		for voice in self.voices:
			voice.begin()
		self.gates = [cs.VoiceActivityDetector() for _ in laptops]
		self.mixes: deque[list[cs.Samples]] = deque([[cs.silence()] * count] * 12, 12)
		self.played: deque[list[cs.Samples]] = deque([[cs.silence()] * count] * 12, 12)
		self.groups: list[set[int]] = []
		self.log: list[tuple[float, str]] = []
		self.at = 0
		self.waiting: list[tuple[float, int, int, cs.Samples | None]] = []
		self.heard = np.zeros((count, size), np.int16)
		self.microphones = np.zeros((count, size), np.float32)
		self.free: list[int] = []
		self.automatic = True

	@property
	def ids(self) -> range:
		return range(1, len(self.laptops) + 1)

	def _air(self, speakers: NDArray[np.float64]) -> Sound:
		self._past[:, 1:] = self._past[:, :-1]
		self._past[:, 0] = np.fft.rfft(np.concatenate((self._last, speakers), axis=1)).T
		self._last = speakers
		spectrum = (self._ways @ self._past.reshape(BLOCK + 1, -1, 1))[:, :, 0].T
		return np.fft.irfft(spectrum, axis=1)[:, BLOCK:]

	def step(self) -> None:
		"""16 ms."""
		k = self.at
		now = 100 + k * cs.BLOCK_SECONDS
		pulled = [self.ears[i].play(self.mixes[-1 - one.down][i]) for i, one in enumerate(self.laptops)]
		self.played.append(pulled)
		speakers = np.stack([self.played[-1 - one.card][i] for i, one in enumerate(self.laptops)]) / 32_768.0
		gains = np.array([[bool(one.speaker)] for one in self.laptops])
		air = self._air(np.clip(np.tanh(1.5 * speakers) / 1.5, -0.6, 0.6) * gains)
		piece = slice(k * BLOCK, (k + 1) * BLOCK)
		captured = samples(self.near[:, piece] + air)
		self.microphones[:, piece] = captured
		self.heard[:, piece] = pulled
		for i, one in enumerate(self.laptops):
			self.ears[i].hear(captured[i])
			self.voices[i].play(pulled[i])
			block = self.voices[i].process(captured[i]) if one.clear else captured[i]
			if one.clear and k < self.SOFTER:  # as MicrophoneSender has it
				block = (block / 2).astype(np.int16)
			voice = self.gates[i].is_voice(block, self.voices[i].probability if one.clear else 1.0)
			self.waiting.append((now + one.up, i + 1, k, block if voice else None))
		due = [item for item in self.waiting if item[0] <= now + cs.BLOCK_SECONDS]
		self.waiting = [item for item in self.waiting if item[0] > now + cs.BLOCK_SECONDS]
		for when, ident, number, block in sorted(due, key=lambda item: item[0]):
			self.mixer.push(ident, number, block, when)
		mix = self.mixer.tick(now + cs.BLOCK_SECONDS)
		self.mixes.append([cs.silence() if b is None else b.astype(np.int16) for b, _ in mix.values()])
		for news in self.mixer.finder.news:
			if news["event"] == "room":
				self.note(*news["ids"], news["same"])
			else:
				self.log.append((round(self.at * cs.BLOCK_SECONDS, 2), f"listen {news['ids']}"))
				for ident in news["ids"]:
					self.ears[ident - 1].begin()
		self.mixer.finder.news.clear()
		self.at += 1

	def note(self, one: int, other: int, same: bool) -> None:
		self.log.append(
			(round(self.at * cs.BLOCK_SECONDS, 2), f"{one} {'with' if same else 'not with'} {other}")
		)
		mixed = [group for group in self.groups if group & {one, other}]
		self.groups = [group for group in self.groups if group not in mixed]
		self.groups += [{one, other}.union(*mixed)] if same else [group - {one} for group in mixed]
		self.groups = [group for group in self.groups if len(group) > 1]
		if self.automatic:
			self.mixer.nearest.order([sorted(group) for group in self.groups], self.free)

	def run(self, seconds: float | None = None) -> None:
		"""Until then, or to the end."""
		until = self.blocks if seconds is None else int(seconds / cs.BLOCK_SECONDS)
		while self.at < min(until, self.blocks):
			self.step()


def turns(
	voices: Sequence[tuple[int, float, float]], seconds: float, speak: Callable[[int, float], Sound]
) -> list[Sound]:
	"""For each talker, silence but for its turns (who, from, to)."""
	out = [np.zeros(int(seconds * RATE)) for _ in range(1 + max(who for who, _, _ in voices))]
	for who, begin, end in voices:
		said = speak(who, end - begin)
		out[who][int(begin * RATE) : int(begin * RATE) + len(said)] = said[
			: len(out[who]) - int(begin * RATE)
		]
	return out
