"""By hand: twenty participants who come and go, with loss, a screen and files, for as long as you say.

python tests/bench/endurance.py [MINUTES [PEOPLE]]
"""

from __future__ import annotations

import sys

from figures import participants

# isort: split
from endurance import endure


def main(minutes: float, people: int) -> None:
	"""Measure and print: each quantity in the first and in the last third of the time."""
	with participants() as (meeting, directory):
		figures = endure(meeting, directory, minutes * 60, people)
	print("\n".join(figures.lines()))


if __name__ == "__main__":
	main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0, int(sys.argv[2]) if len(sys.argv) > 2 else 20)
