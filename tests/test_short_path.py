"""One of four on a LAN of namespaces gets 3 Mbit/s for a while; bench/capped.py measures it at length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from headless import Headless
from lan import Lan, needs_lan
from meetings import QUIET_MACHINE
from short_path import ShortPath

pytestmark = needs_lan


def test_a_receiver_behind_three_megabits(
    lan: Callable[[int], Lan], meeting: Callable[..., Headless], tmp_path: Path
) -> None:
    figures = ShortPath(lan(4), meeting, tmp_path, 2).measure("3mbit", 3.0)
    print(figures)
    assert 600 <= figures.used_kbps <= 3_000
    assert figures.lost <= (0.02 if QUIET_MACHINE else 0.1)
    assert figures.audio_lost <= (0.0 if QUIET_MACHINE else 0.02)
    assert figures.recovered <= (15.0 if QUIET_MACHINE else 20.0)
    assert figures.others_layers and figures.others_lost <= (0.002 if QUIET_MACHINE else 0.02)
    assert figures.others_rate >= (0.97 if QUIET_MACHINE else 0.7)
