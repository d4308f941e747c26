"""One of four gets less through than before for a while, and how everyone fares: python tests/bench capped

After 3 s to settle the capped one is followed for 20 s; then the cap ends. The others are followed all along.
"""

from __future__ import annotations

import statistics

from figures import Row, participants
from lan import Lan
from short_path import Figures, ShortPath

SECONDS = 20.0
CAPS = ("3mbit", "6mbit", "1500kbit")


def measured(rounds: int) -> dict[str, list[Figures]]:
	"""The figures of each cap, one a round."""
	with Lan(4) as lan, participants() as (meeting, directory):
		path = ShortPath(lan, meeting, directory, 3)
		return {cap: [path.measure(cap, SECONDS) for _ in range(rounds)] for cap in CAPS}


def row(cap: str, found: list[Figures]) -> Row:
	"""The medians over the rounds, of `others` the worst."""
	used, lost, sound, back = (
		statistics.median(getattr(one, what) for one in found)
		for what in ("used_kbps", "lost", "audio_lost", "recovered")
	)
	rate, gone = min(one.others_rate for one in found), max(one.others_lost for one in found)
	figure = (
		f"{used:.0f} kbit/s used, {lost:.2%} of pictures and {sound:.2%} of sound lost, all back after "
		f"{back:.1f} s; others: {rate:.1%} of the rate, {gone:.2%} lost"
	)
	return Row("capped", f"one path at {cap} of 22 Mbit/s", figure, bound="< 2 %, 0 %, <= 15 s; > 97 %")


def rows(rounds: int) -> list[Row]:
	"""A line for each cap."""
	return [row(cap, found) for cap, found in measured(rounds).items()]
