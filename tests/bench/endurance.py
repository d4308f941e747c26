"""By hand: twenty participants who come and go, with loss, a screen and files, for as long as you say.

python tests/bench/endurance.py [MINUTES [PEOPLE]]
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from conftest import Meeting  # noqa: E402 - found by the path above
from endurance import endure  # noqa: E402 - found by the path above


def main(minutes: float, people: int) -> None:
    """Measure and print: each quantity in the first and in the last third of the time."""
    with tempfile.TemporaryDirectory() as name, contextlib.closing(Meeting(Path(name))) as meeting:
        figures = endure(meeting, Path(name), minutes * 60, people, fps=15)
    print("\n".join(figures.lines()))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0, int(sys.argv[2]) if len(sys.argv) > 2 else 20)
