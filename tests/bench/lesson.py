"""By hand: a lesson of 30, of whom 27 open the seals without decoding, and what it costs the server.

python tests/bench/lesson.py [SECONDS [PEOPLE ...]]

Everyone watches the same number whatever the size of the class: several sizes show how the cost grows.
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
from measure import hold_lesson  # noqa: E402 - found by the path above


def main(seconds: float, sizes: Sequence[int]) -> None:
    """Measure and print, a column for each size of the class."""
    columns = []
    for people in sizes:
        with tempfile.TemporaryDirectory() as name, contextlib.closing(Meeting(Path(name))) as meeting:
            columns.append(dataclasses.asdict(hold_lesson(meeting, people, seconds)))
    for key in columns[0]:
        print(f"{key:14}", *(f"{column[key]:>9}" for column in columns))


if __name__ == "__main__":
    main(float((*sys.argv[1:], "30")[0]), [int(word) for word in sys.argv[2:]] or [30])
