"""By hand: 30 receivers behind a cap of 100 Mbit/s on what the host sends, of which pictures take 85.

python tests/bench/crowded.py [SECONDS [CAP [SIZE]]]
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from conftest import Meeting  # noqa: E402 - found by the path above
from lan import Lan  # noqa: E402 - found by the path above
from measure import crowd_behind_a_cap  # noqa: E402 - found by the path above


def main(seconds: float, cap: str, size: int) -> None:
    """Measure and print, one figure a line."""
    with (
        tempfile.TemporaryDirectory() as name,
        Lan(2) as lan,
        contextlib.closing(Meeting(Path(name))) as meeting,
    ):
        figures = crowd_behind_a_cap(meeting, lan, cap, size, seconds)
    for key, value in dataclasses.asdict(figures).items():
        print(f"{key}: {value}")


if __name__ == "__main__":
    told = [*sys.argv[1:], *("20", "100mbit", "23600")[len(sys.argv) - 1 :]]
    main(float(told[0]), told[1], int(told[2]))
