"""A way to a meeting on which what clients are sent is late at random, up to a bound; a process.

    python tests/jittery.py HOST BASE AT SECONDS

Says a line once it stands; goes on until it is ended.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

from meetings import Passage  # noqa: E402 - found by the path above
from weather import BadWeather, Faults  # noqa: E402 - found by the path above


def main(host: str, base: int, at: str, jitter: float) -> None:
	"""As the head of this file says."""
	weather = BadWeather(Faults(jitter=jitter))
	Passage(base, at, carry=weather.carry, target=host, one_way=True)
	weather.begin()
	print("stands", flush=True)
	threading.Event().wait()


if __name__ == "__main__":
	main(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
