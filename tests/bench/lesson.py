"""A lesson of 30, of whom 27 open the seals without decoding, and what it costs the server.

python tests/bench lesson [ROUNDS], or by hand: python tests/bench/lesson.py [SECONDS [PEOPLE ...]]

Everyone watches the same number whatever the size of the class: several sizes show how the cost grows.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from figures import Row, participants
from measure import LessonFigures, hold_lesson


def held(people: int, seconds: float) -> LessonFigures:
	"""One lesson."""
	with participants() as (meeting, _):
		return hold_lesson(meeting, people, seconds)


def rows(rounds: int) -> list[Row]:
	"""Thirty for half a minute; the worst of the rounds."""
	runs = [held(30, 30.0) for _ in range(rounds)]
	cost = max(run.server_cpu for run in runs)
	least, most = min(run.worst_rate for run in runs), max(run.best_rate for run in runs)
	lost = max(run.sound_lost for run in runs)
	what = "30 people with a shared screen"
	return [
		Row("lesson", f"{what}: server and mixer, of one core", f"{cost:.0%}", bound="< 60 %"),
		Row("lesson", f"{what}: rates of 299 streams", f"{least:.1%} to {most:.1%}", bound="90 to 110 %"),
		Row("lesson", f"{what}: blocks of sound lost", f"{lost:.2%}", bound="0"),
	]


def main(seconds: float, sizes: Sequence[int]) -> None:
	"""Measure and print, a column for each size of the class."""
	columns = [dataclasses.asdict(held(people, seconds)) for people in sizes]
	for key in columns[0]:
		print(f"{key:14}", *(f"{column[key]:>9}" for column in columns))


if __name__ == "__main__":
	main(float((*sys.argv[1:], "30")[0]), [int(word) for word in sys.argv[2:]] or [30])
