"""A class of headless participants on this machine, and how everyone fares.

python tests/bench class [ROUNDS], or by hand: python tests/bench/class.py [PEOPLE [SECONDS]]
"""

from __future__ import annotations

import dataclasses
import sys

from figures import Row, participants
from measure import ClassFigures, hold_class


def held(people: int, seconds: float) -> ClassFigures:
	"""One class."""
	with participants() as (meeting, _):
		return hold_class(meeting, people, seconds)


def rows(rounds: int) -> list[Row]:
	"""Twenty whole clients for a minute; the worst of the rounds."""
	runs = [held(20, 60.0) for _ in range(rounds)]
	slowest, dropped = min(run.worst_rate for run in runs), sum(run.dropped for run in runs)
	concealed, late = (max(getattr(run, key) for run in runs) for key in ("concealed", "late_ticks"))
	cost = max(run.client_cpu for run in runs)
	growth = max(max(run.growth, run.client_growth) for run in runs)
	others = max(run.others for run in runs)
	return [
		Row("class", "20 clients on these cores, slowest of 140 streams", f"{slowest:.0%}", bound=">= 90 %"),
		Row("class", "who dropped out", str(dropped), bound="0"),
		Row("class", "blocks of sound concealed", f"{concealed:.2%}", bound="<= 0.5 %"),
		Row(
			"class", f"late ticks of the mixer, others on {others:.1f} cores", f"{late:.2%}", bound="<= 0.1 %"
		),
		Row("class", "growth of memory in a minute", f"{growth:.1%}", bound="none"),
		Row("class", "a client, of one core", f"{cost:.1%}"),
	]


def main(people: int, seconds: float) -> None:
	"""Measure and print, one figure a line."""
	for key, value in dataclasses.asdict(held(people, seconds)).items():
		print(f"{key}: {value}")


if __name__ == "__main__":
	main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, float(sys.argv[2]) if len(sys.argv) > 2 else 60.0)
