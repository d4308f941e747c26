"""Twenty people for as long as there is time: nothing grows.

Half a minute, or what CONNECTSPHERE_ENDURANCE_MINUTES says; tests/bench/endurance.py is for an hour.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from endurance import endure, thirds
from headless import Headless

MINUTES = float(os.environ.get("CONNECTSPHERE_ENDURANCE_MINUTES", 0.5))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what a process holds is read in /proc")
@pytest.mark.long(30)
@pytest.mark.timeout(MINUTES * 60 + 240)
def test_nothing_grows(meeting: Callable[..., Headless], tmp_path: Path) -> None:
	figures = endure(meeting, tmp_path, MINUTES * 60)
	print("\n".join(figures.lines()))
	assert figures.joins and figures.files and figures.shares and figures.frames and figures.lost
	for name, level in figures.levels.items():
		first, last = thirds(level.megabytes)
		assert name == "test" or last <= 1.05 * first + 5, f"memory of the {name}: {level.megabytes}"
		first, last = thirds(level.threads)
		assert last <= first + 4, f"threads of the {name}: {level.threads}"
		first, last = thirds(level.descriptors)
		assert last <= first + (8 if name == "test" else 4), f"descriptors of the {name}: {level.descriptors}"
	first, last = thirds(figures.chat_ms)
	assert last <= 2 * first + 50, f"chat: {figures.chat_ms}"
