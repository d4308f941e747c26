"""A class of four on a LAN, one of whom suddenly gets less through than before, and then again all."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headless import Event, Headless
from lan import Lan
from measure import clicks
from meetings import SILENT, stats, switch
from pictures import film

import connectsphere as cs

Starts = Callable[..., Headless]
FPS = 15
LOOK = 0.25
SETTLE = 3.0


@dataclass
class Look:
	"""What one participant has at a moment, all streams together."""

	at: float
	kbps: float
	frames: int
	lost: int
	layers: Mapping[str, int]
	fps: Mapping[str, float]
	audio: Mapping[str, Any]


def look(one: Headless) -> Look:
	"""Now, by what `stats` says."""
	said: Event = stats(one)
	video = said["video"]
	return Look(
		time.monotonic(),
		sum(entry["kbps"] for entry in video.values()),
		sum(entry["frames"] for entry in video.values()),
		sum(entry["lost_frames"] for entry in video.values()),
		{name: entry["layer"] for name, entry in video.items()},
		{name: entry["fps"] for name, entry in video.items()},
		said["audio"],
	)


Followed = tuple[list[Look], list[Look]]


@dataclass
class Figures:
	"""What a cap did; shares are 0..1. `recovered`: seconds until all was as before it."""

	used_kbps: int
	lost: float
	audio_lost: float
	audio_concealed: float
	flickers: int  # changes of the large picture's layer
	recovered: float
	others_lost: float
	others_rate: float
	others_layers: bool


class ShortPath:
	"""Ana (teacher, speaks) and Ben send a film; Cleo's path can be capped, Dan's never is.

	Both watch Ana at `layer`, Ben at the one below.
	"""

	def __init__(self, lan: Lan, meeting: Starts, directory: Path, layer: int) -> None:
		self.lan, self.layers = lan, {"Ana": layer, "Ben": layer - 1}
		video = film(directory / "film.avi", 8, size=cs.LAYERS[layer])
		voice = clicks(directory / "clicks.wav")

		def there(host: int, *args: str) -> Headless:
			one = meeting(*args, *SILENT[4:], netns=lan.namespace(host))
			one.wait("joined", timeout=40)
			return one

		camera, quiet = ("--camera", str(video)), SILENT[:4]
		ana = there(1, "--host", "--name", "Ana", *camera, "--mic", str(voice))
		ben = there(2, "--join", lan.address(1), "--name", "Ben", *camera, "--mic", "none")
		self.cleo = there(3, "--join", lan.address(1), "--name", "Cleo", *quiet)
		self.dan = there(4, "--join", lan.address(1), "--name", "Dan", *quiet)
		switch(ana, "mic", True)
		for one in (ana, ben):
			switch(one, "camera", True)
		for one in (self.cleo, self.dan):
			streams = {name: {"layer": layer, "fps": FPS} for name, layer in self.layers.items()}
			one.send({"do": "watch", "streams": streams})

	def follow(self, seconds: float, enough: Callable[[Look], bool] = lambda _: False) -> Followed:
		"""Looks at Cleo and at Dan for so long, or until `enough` of Cleo."""
		until = time.monotonic() + seconds
		cleo, dan = [look(self.cleo)], [look(self.dan)]
		while time.monotonic() < until and not enough(cleo[-1]):
			time.sleep(LOOK)
			cleo.append(look(self.cleo))
			dan.append(look(self.dan))
		return cleo, dan

	def is_full(self, one: Look) -> bool:
		"""Whether everything is had that was asked for, at its rate."""
		return one.layers == self.layers and all(fps >= 0.9 * FPS for fps in one.fps.values())

	def measure(self, rate: str, seconds: float) -> Figures:
		"""Cap Cleo's path to `rate`, give it 3 s, follow it for `seconds`, end the cap."""
		self.follow(8.0, self.is_full)
		self.lan.cap_down(3, rate)
		_, dan_before = self.follow(SETTLE)
		cleo, dan = self.follow(seconds)
		self.lan.cap_down(3, "")
		free, dan_after = self.follow(20.0, self.is_full)
		everyone_else = [*dan_before, *dan, *dan_after]
		return Figures(
			used_kbps=round(sum(one.kbps for one in cleo) / len(cleo)),
			lost=lost(cleo[0], cleo[-1]),
			audio_lost=change(cleo, "lost") / max(1, change(cleo, "received")),
			audio_concealed=change(cleo, "concealed") / max(1, change(cleo, "received")),
			flickers=sum(a.layers["Ana"] != b.layers["Ana"] for a, b in itertools.pairwise(cleo)),
			recovered=free[-1].at - free[0].at if self.is_full(free[-1]) else math.inf,
			others_lost=lost(everyone_else[0], everyone_else[-1]),
			others_rate=rate_of(everyone_else),
			others_layers=all(one.layers == everyone_else[0].layers for one in everyone_else),
		)


def lost(first: Look, last: Look) -> float:
	"""The share of pictures lost between two looks."""
	gone = last.lost - first.lost
	return gone / max(1, gone + last.frames - first.frames)


def rate_of(looks: Sequence[Look]) -> float:
	"""Pictures a second as a share of what was asked for."""
	asked = FPS * len(looks[-1].layers)
	return (looks[-1].frames - looks[0].frames) / (looks[-1].at - looks[0].at) / asked


def change(looks: Sequence[Look], count: str) -> float:
	"""How much a count of the sound has grown."""
	return float(looks[-1].audio[count] - looks[0].audio[count])
