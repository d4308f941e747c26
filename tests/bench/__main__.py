"""Figures by hand: python tests/bench NAME [ROUNDS], where NAME is a bench or `all`.

Each bench runs the product and a reference in turn and prints a table; `all` runs them all and writes the
table and the plot to docs/. On a machine where nothing else runs.
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
    "screen": "screen:rows",
    "slow": "screen:slow_rows",
    "files": "files:rows",
}


def bench(name: str) -> Callable[[int], list[Row]]:
    """The function that runs a bench in so many rounds."""
    module, _, function = BENCHES[name].partition(":")
    return cast(Callable[[int], list[Row]], getattr(importlib.import_module(module), function))


def main(name: str, rounds: int) -> None:
    """Run and show."""
    before = machine()
    chosen = list(BENCHES) if name == "all" else [name]
    rows = [row for one in chosen for row in bench(one)(rounds)]
    text = f"{before}\n\n{table(rows)}\n"
    print(text)
    if name == "all":
        docs = ROOT / "docs"
        plot(rows, docs / "figures.png")
        (docs / "figures.md").write_text(f"# Figures\n\n{text}")


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in (*BENCHES, "all"):
        main(sys.argv[1], int((*sys.argv[2:], "3")[0]))
    else:
        sys.exit(f"{__doc__}\nBenches: {', '.join(BENCHES)}")
