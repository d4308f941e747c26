"""The program on a computer whose clock is wrong, in the place of `python -m connectsphere`.

WRONG_CLOCK is by how many seconds it is ahead; what the program starts has the same clock.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import connectsphere as cs

RIGHT, AHEAD = time.time, float(os.environ["WRONG_CLOCK"])

if __name__ == "__main__":
	time.time = lambda: RIGHT() + AHEAD
	cs.__file__ = __file__  # its children are of the same kind
	sys.exit(cs.main())
