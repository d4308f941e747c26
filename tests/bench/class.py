"""By hand: a class of headless participants on this machine, and how everyone fares.

python tests/bench/class.py [PEOPLE [SECONDS]]
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
from measure import hold_class  # noqa: E402 - found by the path above


def main(people: int, seconds: float) -> None:
    """Measure and print, one figure a line."""
    with tempfile.TemporaryDirectory() as name, contextlib.closing(Meeting(Path(name))) as meeting:
        figures = hold_class(meeting, people, seconds)
    for key, value in dataclasses.asdict(figures).items():
        print(f"{key}: {value}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, float(sys.argv[2]) if len(sys.argv) > 2 else 60.0)
