"""Figures by hand: python tests/bench NAME [ROUNDS], where NAME is a bench or `all`.

Each bench runs the product and a reference in turn and prints a table; `all` runs them all (half an hour) and
writes the table and the plot to docs/, the table to the README, too. On a machine where nothing else runs.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Final, cast

from figures import ROOT, Row, machine, plot, table

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

BENCHES: Final = {
    "relay": "relay:rows",
    "mixer": "mixer:rows",
    "growth": "growth:rows",
    "join": "latency:join_rows",
    "audio": "latency:audio_rows",
    "video": "latency:video_rows",
    "class": "class:rows",
    "lesson": "lesson:rows",
    "capped": "capped:rows",
    "crowded": "crowded:rows",
    "screen": "screen:rows",
    "slow": "screen:slow_rows",
    "files": "files:rows",
}


def bench(name: str) -> Callable[[int], list[Row]]:
    """The function that runs a bench in so many rounds."""
    module, _, function = BENCHES[name].partition(":")
    return cast(Callable[[int], list[Row]], getattr(importlib.import_module(module), function))


def publish(where: str, rows: list[Row]) -> None:
    """Write table and plot to docs/ and the table into the README."""
    plot(rows, ROOT / "docs" / "figures.png")
    text = f"{where}\n\n{table(rows)}\n"
    (ROOT / "docs" / "figures.md").write_text(f"# Figures\n\n{text}")
    readme = ROOT / "README.md"
    begin, end = "<!-- figures -->\n", "<!-- end of figures -->"
    before, _, rest = readme.read_text().partition(begin)
    readme.write_text(f"{before}{begin}{text}{end}{rest.partition(end)[2]}")


def main(name: str, rounds: int) -> None:
    """Run and show."""
    where = machine()
    chosen = list(BENCHES) if name == "all" else [name]
    rows = [row for one in chosen for row in bench(one)(rounds)]
    print(f"{where}\n\n{table(rows)}")
    if name == "all":
        publish(where, rows)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in (*BENCHES, "all"):
        main(sys.argv[1], int((*sys.argv[2:], "3")[0]))
    else:
        sys.exit(f"{__doc__}\nBenches: {', '.join(BENCHES)}")
