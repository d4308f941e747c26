"""What a meeting costs its host where little flows, before and now: python tests/bench small

The server that ships with its mixer, of one core. Some show themselves at 640x360, 15 pictures of 20 kB a
second, everyone watches them and nobody speaks. The program of BEFORE, in a worktree of its own, and this one
serve the same light participants (tests/light.py); the second half of the rows is of a system that does not
cut datagrams, as Windows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final
from unittest import mock

from air import RUN
from figures import ROOT, Row, in_turn, participants, worktree
from meetings import LOOPBACK, serve
from processes import children_of, measured

BEFORE: Final = "bdf9d8e"
LOADS: Final = ((1, 10), (1, 50), (5, 10), (15, 10))  # who shows, who watches besides
CASES: Final = tuple((load, cut) for cut in (True, False) for load in LOADS)
SIZE: Final = 20_000
SETTLE, SECONDS = 3.0, 6.0
UNCUT: Final = """import errno, socket
plain = socket.socket.sendmsg
def sendmsg(port, buffers, control=(), *rest):
	if any(level == socket.IPPROTO_UDP for level, _, _ in control):
		raise OSError(errno.EINVAL, "cuts nothing")
	return plain(port, buffers, control, *rest)
socket.socket.sendmsg = sendmsg
"""


def hold(tree: Path, senders: int, watchers: int, cut: bool) -> dict[str, float]:
	"""The share of a core that the program in `tree` takes, and the share of the pictures that came."""
	with participants() as (meeting, folder):
		(folder / "sitecustomize.py").write_text("" if cut else UNCUT)  # what each Python does first
		with mock.patch.dict(os.environ, PYTHONPATH=str(folder)):
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


def pair(before: Path, load: tuple[int, int], cut: bool) -> dict[str, float]:
	"""Both programs in turn, and how they compare."""
	was, now = hold(before, *load, cut), hold(ROOT, *load, cut)
	return {"was": was["core"], "came": was["rate"], **now, "ratio": now["core"] / was["core"]}


def row(load: tuple[int, int], cut: bool, found: Mapping[str, float]) -> Row:
	"""What was found with one load; `ratio` is the median of those of the pairs."""
	return Row(
		"small",
		f"{load[0]} watched by {load[1]} more, nobody speaks{'' if cut else ', datagrams not cut'}",
		f"{found['core']:.1%} of a core, {found['rate']:.0%} of the pictures came",
		f"{found['was']:.1%}, {found['came']:.0%} at {BEFORE}",
		found["ratio"],
		f"ratio <= {0.65 if load == LOADS[0] else 0.85}" if cut else "",
	)


def rows(rounds: int) -> list[Row]:
	"""A row for each load."""
	with worktree(BEFORE) as tree:
		found = in_turn({str(case): partial(pair, tree, *case) for case in CASES}, rounds)
	return [row(*case, found[str(case)]) for case in CASES]
