"""By hand: a lesson of 30, of whom 27 open the seals without decoding, and what it costs the server.

python tests/bench/lesson.py [PEOPLE [SECONDS]]
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
from measure import hold_lesson  # noqa: E402 - found by the path above


def main(people: int, seconds: float) -> None:
    """Measure and print, one figure a line."""
    with tempfile.TemporaryDirectory() as name, contextlib.closing(Meeting(Path(name))) as meeting:
        figures = hold_lesson(meeting, people, seconds)
    for key, value in dataclasses.asdict(figures).items():
        print(f"{key}: {value}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30, float(sys.argv[2]) if len(sys.argv) > 2 else 30.0)
