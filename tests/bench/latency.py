"""Seconds until someone is in, is heard and is seen: python tests/bench join|audio|video

Sound and pictures cross namespaces that stand in for hosts of a LAN, from a microphone or camera of known
content to what a speaker or a picture shows; the sound-card's own buffers are not in it. The reference of
joining is to start Python and load the program, in turn.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from figures import ROOT, Row, in_turn, participants, percentile
from lan import Lan
from measure import Pair, on_lan, picture_delays, sound_delays, start_up

SECONDS = 10.0  # a round


def pair_delays(jitter: float, measure: Callable[[Pair, Path], Sequence[float]]) -> list[float]:
	"""What `measure` finds between two hosts of a LAN."""
	with Lan(3) as lan, participants() as (meeting, directory):
		return list(measure(on_lan(meeting, lan, jitter), directory))


def row(bench: str, what: str, delays: Sequence[float], p50: float, p99: float) -> Row:
	"""Delays in seconds against bounds in ms."""
	middle, worst = (1e3 * percentile(delays, share) for share in (0.5, 0.99))
	figure = f"p50 {middle:.1f}, p99 {worst:.1f} ms (n={len(delays)})"
	return Row(bench, what, figure, bound=f"p50 < {p50:g}, p99 < {p99:g} ms")


def loaded() -> float:
	"""Seconds that Python takes to start and load the program."""
	began = time.monotonic()
	subprocess.run([sys.executable, "-c", "import connectsphere"], cwd=ROOT, check=True)
	return time.monotonic() - began


def started() -> dict[str, float]:
	"""Seconds to `serving` and to `joined`."""
	with participants() as (meeting, directory):
		return start_up(meeting, directory, 1)


def join_rows(rounds: int) -> list[Row]:
	"""From the start of the process to `serving` and to `joined`."""
	medians = in_turn({"load": lambda: {"load": loaded()}, "start": started}, rounds)
	load, took = medians["load"]["load"], medians["start"]
	reference = f"{load:.2f} s Python with the program loaded"
	return [
		Row("join", "a server serves", f"{took['serve']:.2f} s", reference, took["serve"] / load, "<= 0.8 s"),
		Row("join", "a member is in", f"{took['join']:.2f} s", reference, took["join"] / load, "<= 1.0 s"),
	]


def audio_rows(rounds: int) -> list[Row]:
	"""Mouth to ear, on a clean link and with 30 ms of jitter in one direction."""
	found = []
	for jitter, p50, p99 in ((0.0, 60, 85), (0.03, 100, 140)):
		delays = [
			delay
			for _ in range(rounds)
			for delay in pair_delays(jitter, lambda pair, path: sound_delays(pair, path, SECONDS))
		]
		found.append(row("audio", f"mouth to ear, jitter up to {1e3 * jitter:g} ms", delays, p50, p99))
	return found


def video_rows(rounds: int) -> list[Row]:
	"""Test card drawn to picture decoded, 640x360 at 25 a second."""
	delays = [
		delay
		for _ in range(rounds)
		for delay in pair_delays(0.0, lambda pair, _: picture_delays(pair, SECONDS))
	]
	return [row("video", "picture drawn to picture decoded, 640x360", delays, 60, 150)]
