"""What a meeting costs its host where little flows, before and now: python tests/bench small

The server that ships with its mixer, of one core. Some show themselves at 640x360, 15 pictures of 20 kB a
second, everyone watches them and nobody speaks. The program of BEFORE, in a worktree of its own, and this one
serve the same light participants (tests/light.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Final

from air import BEFORE, RUN
from figures import ROOT, Row, in_turn, participants, worktree
from meetings import LOOPBACK, serve
from processes import children_of, measured

LOADS: Final = ((1, 10), (1, 50), (5, 10))  # who shows, who watches besides
SIZE: Final = 20_000
SETTLE, SECONDS = 3.0, 6.0


def hold(tree: Path, senders: int, watchers: int) -> dict[str, float]:
	"""The share of a core that the program in `tree` takes, and the share of the pictures that came."""
	with participants() as (meeting, _):
		server, base = serve(meeting, program=(sys.executable, "-c", RUN.format(str(tree))))
		words = [
			str(ROOT / "tests" / "light.py"),
			LOOPBACK,
			*map(str, (base, senders + watchers, senders, SIZE)),
		]
		crowd = subprocess.Popen(
			[sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
		)
		assert crowd.stdin and crowd.stdout
		crowd.stdout.readline()
		crowd.stdin.write(f"quiet {SECONDS + SETTLE}\n")
		crowd.stdin.flush()
		time.sleep(SETTLE)
		pid = server.process.pid
		with measured([pid, *children_of(pid)]) as cost:
			time.sleep(SECONDS)
		came = json.loads(crowd.stdout.readline())
		crowd.communicate(timeout=20)
	return {"core": cost["cpu"] / cost["seconds"], "rate": came["rate"]}


def rows(rounds: int) -> list[Row]:
	"""A row for each load."""
	with worktree(BEFORE) as tree:
		runs = {
			(load, name): partial(hold, where, *load)
			for load in LOADS
			for name, where in (("before", tree), ("now", ROOT))
		}
		medians = in_turn({f"{load} {name}": run for (load, name), run in runs.items()}, rounds)
	found = {load: [medians[f"{load} {name}"] for name in ("before", "now")] for load in LOADS}
	return [
		Row(
			"small",
			f"{load[0]} watched by {load[1]} more, nobody speaks",
			f"{now['core']:.1%} of a core, {now['rate']:.0%} of the pictures came",
			f"{before['core']:.1%}, {before['rate']:.0%} at {BEFORE}",
			now["core"] / before["core"],
			f"ratio <= {0.65 if load == LOADS[0] else 0.85}",
		)
		for load, (before, now) in found.items()
	]
