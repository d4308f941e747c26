"""Short paths on LANs of namespaces: one of four gets 3 Mbit/s for a while; 30 share what the host may send.

python tests/bench capped and crowded measure it at length.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from headless import Headless
from lan import Lan, needs_lan
from measure import crowd_behind_a_cap
from meetings import QUIET_MACHINE
from short_path import ShortPath

pytestmark = needs_lan


@pytest.mark.long(25)
@pytest.mark.calm
def test_a_receiver_behind_three_megabits(
	lan: Callable[[int], Lan], meeting: Callable[..., Headless], tmp_path: Path
) -> None:
	figures = ShortPath(lan(4), meeting, tmp_path, 2).measure("3mbit", 3.0)
	print(figures)
	assert figures.used_kbps <= 3_000
	assert figures.audio_lost <= (0.0 if QUIET_MACHINE else 0.02)
	if figures.others_rate < 0.97 and not QUIET_MACHINE:
		pytest.skip("this machine is too busy: whom nothing caps does not get all, either")
	assert figures.used_kbps >= 600
	assert figures.lost <= 0.02
	assert figures.recovered <= (15.0 if QUIET_MACHINE else 20.0)
	assert figures.others_layers and figures.others_lost <= 0.002
	assert figures.others_rate >= 0.97


@pytest.mark.long(12)
@pytest.mark.calm
def test_thirty_receivers_behind_a_cap_of_the_host(
	lan: Callable[[int], Lan], meeting: Callable[..., Headless]
) -> None:
	figures = crowd_behind_a_cap(meeting, lan(2), "100mbit", 1, 23_600, 3.0)
	print(figures)
	assert figures.datagrams_dropped <= 0.001
	assert figures.sound_lost <= (0.0 if QUIET_MACHINE else 0.05)
	if QUIET_MACHINE:
		assert figures.rate >= 0.9
		assert figures.sound_more_p99 <= 5.0
