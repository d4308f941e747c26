"""By hand: seconds until someone is in, is heard and is seen, on a machine where nothing else runs.

python tests/bench/latency.py [SECONDS]
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from conftest import Meeting  # noqa: E402 - found by the path above
from lan import Lan  # noqa: E402 - found by the path above
from measure import on_lan, percentile, picture_delays, sound_delays, start_up  # noqa: E402 - found by the path above


def report(what: str, delays: Sequence[float], p50: float, p99: float) -> None:
    """One line: what was measured and what it is held to."""
    middle, worst = (1e3 * percentile(delays, share) for share in (0.5, 0.99))
    print(f"{what}: p50 {middle:.1f} ms (at most {p50}), p99 {worst:.1f} ms (at most {p99}), n={len(delays)}")


def main(seconds: float) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with contextlib.closing(Meeting(directory / "start")) as meeting:
            took = start_up(meeting, directory)
        print(f"serving {took['serve']:.2f} s (at most 0.80), joined {took['join']:.2f} s (at most 1.00)")
        for jitter, p50, p99 in ((0.0, 60, 85), (0.03, 100, 140)):
            with Lan(3) as lan, contextlib.closing(Meeting(directory / f"sound-{jitter}")) as meeting:
                delays = sound_delays(on_lan(meeting, lan, jitter), directory, seconds)
            report(f"microphone to speaker, jitter {1e3 * jitter:g} ms", delays, p50, p99)
        with Lan(2) as lan, contextlib.closing(Meeting(directory / "pictures")) as meeting:
            report("test card to picture", picture_delays(on_lan(meeting, lan), seconds), 60, 150)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0)
