"""What is heard of echo, voice and loudness: python tests/bench voice [SEEDS]

In the stand-in room, without its clock: the speaker 45 ms away, overdriven, 100 ppm off, the echo 2 dB
under the talker. 14 s far alone, 10 s both at once, 6 s near alone, 8 s far alone. The worst seed counts. The
reference of cost is the package alone, in turn.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from figures import Row

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]
from voices import (  # noqa: E402 - found by the path above
	BLOCK,
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

import connectsphere as cs  # noqa: E402

LEVELS = (-45, -35, -26, -18)


class Talk:
	"""One seed's conversation, and what the far end gets of it."""

	def __init__(self, seed: int) -> None:
		count = 38 * RATE // BLOCK * BLOCK
		self.far, self.near = speech(0, 38, seed, -22)[:count], speech(1, 38, seed + 7, -26)[:count]
		self.far[: RATE // 4] = self.far[24 * RATE : 30 * RATE] = 0
		self.near[: 14 * RATE] = self.near[30 * RATE :] = 0
		self.echo = echo_of(samples(self.far))
		self.noise = noise(count, -62, seed)
		self.heard = self.echo + self.near + self.noise

	def sent(self) -> tuple[Sound, Sound]:
		"""What is left, and what of it passes the voice gate."""
		likely: list[float] = []
		left = processed(samples(self.heard), samples(self.far), probability=likely)
		gate, passed = cs.VoiceActivityDetector(), left.copy()
		for k, probability in enumerate(likely):
			piece = slice(k * BLOCK, (k + 1) * BLOCK)
			if not gate.is_voice(left[piece], probability):
				passed[piece] = 0
		return left / 32_768.0, passed / 32_768.0

	def after(self, change: Callable[[Sound], Sound], lost: range, unsaid: range) -> float:
		"""The fall of the echo between 3 and 5 s after a fault at 8 s."""
		heard = (change(self.echo) + self.noise)[: 14 * RATE]
		left = processed(samples(heard), samples(self.far), lost.__contains__, unsaid.__contains__)
		kept = np.concatenate((heard[: lost.start * BLOCK], heard[lost.stop * BLOCK :]))
		return fall(kept if lost else heard, left / 32_768.0, 11, 13)


def later(echo: Sound) -> Sound:
	"""From 8 s on, 150 ms later."""
	return np.concatenate((echo[: 8 * RATE], np.zeros(2_400), echo[8 * RATE : -2_400]))


def figures(seed: int) -> dict[str, float]:
	"""Of one seed."""
	talk, none = Talk(seed), range(0)
	left, passed = talk.sent()
	both, alone = second(talk.near, 15, 24), second(talk.near, 25, 30)
	far = talk.far[: 14 * RATE]
	slow = echo_of(samples(far), delay=0.2)
	slow += noise(len(slow), -62, seed)
	return {
		"echo, 0.25 to 2 s": fall(talk.heard, left, 0.25, 2),
		"echo, 2 to 8 s": fall(talk.heard, left, 2, 8),
		"echo, 8 to 14 s": fall(talk.heard, left, 8, 14),
		"echo, after both talked": fall(talk.heard, left, 30.5, 37.5),
		"8 to 14 s, through the voice gate": min(99.0, fall(talk.heard, passed, 8, 14)),
		"after both, through the voice gate": min(99.0, fall(talk.heard, passed, 30.5, 37.5)),
		"echo, 200 ms late": fall(slow, processed(samples(slow), samples(far)) / 32_768.0, 3, 13.5),
		"3 s after the playback grew by 150 ms": talk.after(later, none, none),
		"3 s after 96 ms of capture were lost": talk.after(lambda echo: echo, range(500, 506), none),
		"3 s after a second of reference was lost": talk.after(lambda echo: echo, none, range(438, 500)),
		"STOI, near alone": understood(alone, second(passed, 25, 30)),
		"STOI, both at once": understood(both, second(passed, 15, 24)),
		"milliseconds late": lag(alone, second(left, 25, 30)) / 16,
	}


def loudness(seed: int) -> tuple[float, list[float]]:
	"""How far levels lie apart, and what they are, after 12 s."""
	levels = []
	for at, db in enumerate(LEVELS):
		said = samples(speech(at, 20, seed, db) + noise(20 * RATE, -70, at))
		levels.append(audible(processed(said, np.zeros(len(said), np.int16))[12 * RATE :]))
	return max(levels) - min(levels), levels


def cost() -> tuple[float, float]:
	"""Milliseconds of processor time a block: all of it, and the package alone."""
	from pywebrtc_audio import AudioProcessor, GainController

	far, near = samples(speech(0, 16, 0, -22)), samples(speech(1, 16, 0, -26))
	spent: dict[str, list[float]] = {"all": [], "package": []}
	for _ in range(5):
		clean = AudioProcessor(sample_rate=RATE, echo_cancellation=True, noise_suppression=True, ns_level=1)
		gain = GainController(sample_rate=RATE, max_gain_db=21.0, headroom_db=12.0)
		began = time.process_time()
		for at in range(0, len(near), 160):
			gain.process(clean.process(near[at : at + 160], far[at : at + 160]))
		spent["package"].append(time.process_time() - began)
		began = time.process_time()
		processed(near, far)
		spent["all"].append(time.process_time() - began)
	blocks = len(near) / BLOCK / 1e3
	return float(np.median(spent["all"])) / blocks, float(np.median(spent["package"])) / blocks


BOUNDS = {
	"echo, 0.25 to 2 s": 25, "echo, 8 to 14 s": 30, "echo, 200 ms late": 25, "STOI, near alone": 0.96,
	"STOI, both at once": 0.58, **dict.fromkeys((
		"3 s after the playback grew by 150 ms", "3 s after 96 ms of capture were lost",
		"3 s after a second of reference was lost",
		), 20),
}  # fmt: skip


def rows(seeds: int) -> list[Row]:
	"""The worst of so many seeds."""
	found = [figures(seed) for seed in range(seeds)]
	made = []
	for what in found[0]:
		values = [one[what] for one in found]
		late = "late" in what and "echo" not in what
		unit, bound = "" if "STOI" in what else " ms" if late else " dB", BOUNDS.get(what)
		digits = 3 if "STOI" in what else 1
		figure = f"worst {min(values):.{digits}f}{unit}, mean {np.mean(values):.{digits}f}{unit}"
		made.append(Row("voice", what, figure, bound=f">= {bound:g}{unit}" if bound else ""))
	apart, levels = max(loudness(seed) for seed in range(seeds))
	shown = ", ".join(f"{one:.1f}" for one in levels)
	made.append(Row("voice", f"levels of {LEVELS} dBFS", f"{shown}: {apart:.1f} dB apart", bound="<= 8 dB"))
	whole, package = cost()
	share = f"{whole:.3f} ms a block, {whole / 0.16:.2f} % of a core"
	made.append(Row("voice", "cost", share, f"{package:.3f} ms the package alone", whole / package, "<= 1 %"))
	alone = level(processed(samples(noise(20 * RATE, -45)), np.zeros(20 * RATE, np.int16))[8 * RATE :])
	made.append(Row("voice", "noise alone of -45 dBFS", f"{alone:.1f} dBFS", bound="<= -45 dBFS"))
	return made
