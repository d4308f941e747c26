"""Figures by hand: python tests/bench NAME [ROUNDS [publish]], where NAME is a bench or `all`.

Each bench runs the product and a reference in turn and prints a table; `all` runs them all (half an hour) and
publishes: writes the table and the plot to docs/. On a machine where nothing else runs.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final, cast

from figures import ROOT, Row, machine, plot, table

BENCHES: Final = {
	"relay": "relay:rows",
	"mixer": "mixer:rows",
	"voice": "voice:rows",
	"rooms": "rooms:rows",
	"growth": "growth:rows",
	"small": "small:rows",
	"join": "latency:join_rows",
	"audio": "latency:audio_rows",
	"video": "latency:video_rows",
	"class": "class:rows",
	"lesson": "lesson:rows",
	"air": "air:rows",
	"capped": "capped:rows",
	"crowded": "crowded:rows",
	"attackers": "attackers:rows",
	"screen": "screen:rows",
	"slow": "screen:slow_rows",
	"files": "files:rows",
	"collect": "collect:rows",
	"succession": "succession:rows",
}


def bench(name: str) -> Callable[[int], list[Row]]:
	"""The function that runs a bench in so many rounds."""
	module, _, function = BENCHES[name].partition(":")
	return cast(Callable[[int], list[Row]], getattr(importlib.import_module(module), function))


def publish(found: dict[str, tuple[str, list[Row]]]) -> None:
	"""Put what was found beside what other benches found before, into docs/figures.*."""
	kept = ROOT / "docs" / "figures.json"
	known: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
	known |= {name: [where, [asdict(row) for row in rows]] for name, (where, rows) in found.items()}
	kept.write_text(json.dumps(known, indent=1) + "\n")
	rows = [Row(**row) for name in BENCHES if name in known for row in known[name][1]]
	plot(rows, ROOT / "docs" / "figures.png")
	wheres = "\n".join(f"- {name}: {known[name][0]}" for name in BENCHES if name in known)
	text = f"{table(rows)}\n\nWhere, when and beside what load:\n\n{wheres}\n"
	page = ROOT / "docs" / "figures.md"
	begin, end = "<!-- figures -->\n", "<!-- end of figures -->"
	before, _, rest = page.read_text().partition(begin)
	page.write_text(f"{before}{begin}{text}{end}{rest.partition(end)[2]}")


def main(name: str, rounds: int, keep: bool) -> None:
	"""Run and show."""
	found: dict[str, tuple[str, list[Row]]] = {}
	for one in BENCHES if name == "all" else [name]:
		where = machine()
		found[one] = (where, bench(one)(rounds))
		print(f"{where}\n\n{table(found[one][1])}\n", flush=True)
		if keep or name == "all":
			publish(found)


if __name__ == "__main__":
	if sys.argv[1:2] and sys.argv[1] in (*BENCHES, "all"):
		main(sys.argv[1], int((*sys.argv[2:], "3")[0]), sys.argv[3:] == ["publish"])
	else:
		sys.exit(f"{__doc__}\nBenches: {', '.join(BENCHES)}")
