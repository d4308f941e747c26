"""Figures by hand: python tests/bench NAME [ROUNDS], where NAME is a bench or `all`.

Each bench runs the product and a reference in turn and prints a table; `all` runs them all and writes the
table and the plot to docs/. On a machine where nothing else runs.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Final

from figures import ROOT, machine, plot, table

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

BENCHES: Final = {"relay": "relay"}


def main(name: str, rounds: int) -> None:
    """Run and show."""
    before = machine()
    chosen = list(BENCHES) if name == "all" else [name]
    rows = [row for one in chosen for row in importlib.import_module(BENCHES[one]).rows(rounds)]
    text = f"{before}\n\n{table(rows)}\n"
    print(text)
    if name == "all":
        docs = Path(ROOT) / "docs"
        plot(rows, docs / "figures.png")
        (docs / "figures.md").write_text(f"# Figures\n\n{text}")


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in (*BENCHES, "all"):
        main(sys.argv[1], int((*sys.argv[2:], "3")[0]))
    else:
        sys.exit(f"{__doc__}\nBenches: {', '.join(BENCHES)}")
