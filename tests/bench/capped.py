"""By hand: one of four gets less through than before for a while, and how everyone fares.

python tests/bench/capped.py [SECONDS [RATE ...]]
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from conftest import Meeting  # noqa: E402 - found by the path above
from lan import Lan  # noqa: E402 - found by the path above
from short_path import ShortPath  # noqa: E402 - found by the path above


def main(seconds: float, rates: Sequence[str]) -> None:
    """Measure and print, a block for each rate."""
    with (
        tempfile.TemporaryDirectory() as name,
        Lan(4) as lan,
        contextlib.closing(Meeting(Path(name))) as meeting,
    ):
        path = ShortPath(lan, meeting, Path(name), 3)
        for rate in rates:
            print(f"{rate} for {seconds:g} s, after 3 s to settle:")
            for key, value in dataclasses.asdict(path.measure(rate, seconds)).items():
                print(f"  {key}: {value:.4g}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0, sys.argv[2:] or ["3mbit", "6mbit", "1500kbit"])
