"""By hand: 30 receivers behind a cap on what the host sends, which holds all that is asked for, and a third.

python tests/bench/crowded.py [SECONDS]
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

CASES = {  # cap, senders, bytes of a picture
    "100 Mbit/s, 85 are asked for": ("100mbit", 1, 23_600),
    "30 Mbit/s, 130 are asked for": ("30mbit", 3, 12_000),
}


def main(seconds: float) -> None:
    """Measure and print, a block for each case."""
    for title, (cap, senders, size) in CASES.items():
        with (
            tempfile.TemporaryDirectory() as name,
            Lan(2) as lan,
            contextlib.closing(Meeting(Path(name))) as meeting,
        ):
            figures = crowd_behind_a_cap(meeting, lan, cap, senders, size, seconds)
        print(title)
        for key, value in dataclasses.asdict(figures).items():
            print(f"  {key}: {value}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)
