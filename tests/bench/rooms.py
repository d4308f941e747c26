"""Laptops in one room, through the real mixer: python tests/bench rooms [SEEDS]

Four in one room of 0.4 s, one remote on headphones, one remote with a loudspeaker, by `tests/acoustics.py`.
Gain 0 dB: a voice that is played is as loud as a person. The worst seed counts. Then minutes of six talkers,
nobody of whom shares a room, each pair of whom has a reason to be mistaken for it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from figures import Row

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]
from acoustics import Laptop, School, turns  # noqa: E402 - found by the path above
from pystoi import stoi  # noqa: E402
from voices import BLOCK, RATE, Sound, lag, level, noise, samples, second, speech  # noqa: E402

import connectsphere as cs  # noqa: E402

SEATS = ((0.0, 0.0), (1.5, 0.0), (0.0, 1.6), (1.7, 1.8))
TALK = ((0, 0.5, 9.0), (1, 9.5, 16.0), (4, 16.5, 21.0), (2, 21.5, 28.0))
END, QUIET = 33.0, 31.0
PLAYED = 4  # the remote one on headphones
OFFSETS = (0.07, 0.06, 0.05, 0.035, 0.02)  # seconds by which one film is later in another room


def lesson(gain: float, seed: int, end: float = END) -> School:
	"""The four and two."""
	random = np.random.default_rng(seed)
	said = turns(TALK, END, lambda who, length: speech(who, length, seed + who, -26))
	laptops = [
		Laptop(
			max(0, n - 3), SEATS[n] if n < 4 else (0, 0), True, 0.0 if n == PLAYED else gain,
			float(random.uniform(0.01, 0.03)), int(random.integers(1, 5)), int(random.integers(1, 4)),
			said[n] if n < len(said) else np.zeros(0),
		)
		for n in range(6)
	]  # fmt: skip
	return School(laptops, end, seed)


def together(school: School) -> float:
	"""Seconds from the first words until the four are one group; infinite if not they alone are."""
	began = TALK[0][1]
	while school.at < school.blocks:
		school.step()
		if school.groups == [{1, 2, 3, 4}]:
			return school.at * cs.BLOCK_SECONDS - began
	return np.inf


def understood(clean: Sound, heard: Sound) -> float:
	"""STOI of what was heard up to half a second later."""
	late = lag(clean, heard, 8_000)
	return float(stoi(clean[: len(clean) - late], heard[late:], RATE))


def figures(gain: float, seed: int) -> dict[str, float]:
	"""Of one seed."""
	school = lesson(gain, seed)
	found = together(school)
	school.run()
	quiet = slice(int(QUIET * RATE), None)
	growth = max(
		level(school.microphones[n, quiet].astype(np.int16)) - level(school.near[n, quiet]) for n in range(4)
	)
	heard = school.heard[PLAYED] / 32_768.0
	words = [
		understood(second(school.laptops[who].voice, begin + 1, end), second(heard, begin + 1, end))
		for who, begin, end in TALK[1:]
		if who < 4
	]
	return {"seconds until grouped": found, "growth, dB": growth, "STOI at the remote one": min(words)}


def apart(minutes: float, seed: int) -> School:
	"""Six, of whom 1 and 2 leak, 3 and 4 see one film, 20 to 70 ms apart by seed, all have one fan."""
	random = np.random.default_rng((seed, 6))
	seconds, at, talk = 60 * minutes, 0.3, []
	while at < seconds - 7:
		length = float(random.uniform(1.5, 6))
		talk.append((int(random.integers(6)), at, at + length))
		at += length * float(random.uniform(0.7, 1.1))
	said = turns(talk, seconds, lambda who, length: speech(who, length, seed + int(1_000 * length), -26))
	count = int(seconds * RATE)
	fan = noise(count, -50, 3) + 0.002 * np.sin(2 * np.pi * 118 / RATE * np.arange(count))
	film = np.concatenate([speech(7, 20, n, -34) * (n % 4 == 0) for n in range(int(seconds / 20) + 1)])[
		:count
	]
	laptops = [
		Laptop(
			n, (0, 0), n > 1, 0.7, float(random.uniform(0.01, 0.035)), int(random.integers(1, 4)),
			int(random.integers(0, 4)), said[n], fan.copy(),
		)
		for n in range(6)
	]  # fmt: skip
	laptops[2].around += film
	laptops[3].around += np.concatenate((np.zeros(int(OFFSETS[seed % 5] * RATE)), film))[:count]
	return School(laptops, seconds, seed)


def cost(open_ones: int) -> tuple[float, float]:
	"""Milliseconds a tick of the mixer, with what tells rooms apart and without."""
	voices = [samples(speech(n, 8, n, -26)) for n in range(open_ones)]
	spent = []
	for finds in (True, False):
		mixer = cs.AudioMixer()
		if not finds:
			mixer.finder.push = lambda *_: None  # type: ignore[method-assign]
		for n in range(open_ones):
			mixer.add(n + 1)
		ticks = []
		for k in range(len(voices[0]) // BLOCK):
			for n, voice in enumerate(voices):
				mixer.push(n + 1, k, voice[k * BLOCK : (k + 1) * BLOCK], k * cs.BLOCK_SECONDS)
			began = time.process_time()
			mixer.tick(k * cs.BLOCK_SECONDS + 0.006)
			ticks.append(time.process_time() - began)
		spent.append(float(np.mean(ticks)) * 1e3)
	return spent[0], spent[1]


def rows(seeds: int, minutes: float = 10.0) -> list[Row]:
	"""The worst of so many seeds."""
	made = []
	bounds = {"seconds until grouped": (max, "<= 4"), "growth, dB": (max, "<= 12"), "STOI": (min, ">= 0.8")}
	for db in (0, 6):
		found = [figures(10 ** (db / 20), seed) for seed in range(seeds)]
		for what in found[0]:
			worst, bound = next(one for key, one in bounds.items() if what.startswith(key))
			values = [one[what] for one in found]
			figure = f"worst {worst(values):.2f}, mean {np.mean(values):.2f}"
			made.append(Row("rooms", f"{what}, gain {db:+d} dB", figure, bound=bound))
	apart_ones = [apart(minutes, seed) for seed in range(seeds)]
	for school in apart_ones:
		school.run()
	words = [words for school in apart_ones for _, words in school.log]
	false, asks = sum(" with " in one for one in words), sum("listen" in one for one in words)
	what = f"false groups in {minutes:g} min of six, {seeds} seeds"
	made.append(Row("rooms", what, f"{false} ({asks} times asked to listen)", bound="0"))
	for count in (8, 30):
		whole, plain = cost(count)
		share = f"{whole - plain:.3f} ms a tick, {(whole - plain) / 0.16:.2f} % of a core"
		bound = "<= 1.5 %" if count == 8 else ""
		made.append(
			Row("rooms", f"cost, {count} open microphones", share, f"{plain:.3f} ms without", bound=bound)
		)
	return made
