"""30 receivers behind a cap on what the host sends: python tests/bench crowded

Once it holds all that is asked for, once a quarter of it. The delay of sound is what it has more than without
pictures, in the same run.
"""

from __future__ import annotations

import statistics

from figures import Row, participants
from lan import Lan
from measure import CapFigures, crowd_behind_a_cap

SECONDS = 10.0
CASES = {  # cap, senders, bytes of a picture
	"100 Mbit/s, 85 are asked for": ("100mbit", 1, 23_600),
	"30 Mbit/s, 130 are asked for": ("30mbit", 3, 12_000),
}


def measured(cap: str, senders: int, size: int) -> CapFigures:
	"""One round of a case."""
	with Lan(2) as lan, participants() as (meeting, _):
		return crowd_behind_a_cap(meeting, lan, cap, senders, size, SECONDS)


def row(title: str, found: list[CapFigures]) -> Row:
	"""The medians over the rounds."""
	mbit, dropped, lost, p50, p99 = (
		statistics.median(getattr(one, what) for one in found)
		for what in ("mbit", "datagrams_dropped", "sound_lost", "sound_more_p50", "sound_more_p99")
	)
	figure = (
		f"{mbit:.0f} Mbit/s of video, {dropped:.3%} of datagrams dropped; sound later by p50 {p50:.1f}, "
		f"p99 {p99:.1f} ms, {lost:.2%} lost"
	)
	return Row("crowded", title, figure, bound="< 0.1 %; p99 <= 5 ms, 0 %")


def rows(rounds: int) -> list[Row]:
	"""A line for each case."""
	return [row(title, [measured(*case) for _ in range(rounds)]) for title, case in CASES.items()]
