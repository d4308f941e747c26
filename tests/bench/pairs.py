"""This version against an earlier one: python tests/bench/pairs.py COMMIT [NAME...] [publish]

COMMIT runs from a worktree of its own. Each figure is taken in seven pairs of runs, one of each version, in
turn and each first in every other pair: a busy machine slows both runs of a pair alike. Printed are the
median of the seven ratios now / before (under 1 is better), its 90 % interval (by signed ranks: the 4th
smallest and the 4th largest mean of two ratios) and every run. The relay's and the mixer's load comes from
this version's generator, whichever serves; the window's figures are of each version's own bench. `publish`
writes them to docs/figures.md and docs/pairs.json. It never ends with an error for a figure.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from figures import ROOT, Child, answer, heard, machine, worktree

PAIRS: Final = 7
SECONDS: Final = 3.0
WORSE: Final = 1.05
RUN: Final = "import sys; sys.path[0] = {!r}; import connectsphere; sys.exit(connectsphere.main())"
LOADS: Final = ((1, 10), (1, 50), (5, 10), (15, 10))
Found = dict[str, float]


# -- in a process that has the program of one of the two versions ------------------------------------------


def serve_relay(told: dict[str, Any]) -> None:
	"""The relay; with `gso` false as where the system cuts no buffers into datagrams."""
	cs, relay = importlib.import_module("connectsphere"), importlib.import_module("relay")
	made = cs.UdpPort.__init__

	def without(port: Any, *args: Any, **options: Any) -> None:
		made(port, *args, **options)
		port._gso = False

	if not told["gso"]:
		cs.UdpPort.__init__ = without
	relay.serve_relay(told)


def serve_mixer(told: dict[str, Any]) -> None:
	"""The mixer's process, and what it reports."""
	shipped = importlib.import_module("mixer").shipped
	with shipped({int(ident): keys for ident, keys in told["keys"].items()}) as (port, pid, report):
		answer(port=port, pid=pid)
		for _ in heard():
			answer(**report())


ROLES: Final = {"relay": serve_relay, "mixer": serve_mixer}


# -- the figures: each runs the program in `tree` once ------------------------------------------------------


def program(tree: Path) -> tuple[str, ...]:
	"""The command of the program there."""
	return sys.executable, "-c", RUN.format(str(tree))


def relay(senders: int, receivers: int, gso: bool, tree: Path) -> Found:
	"""Pictures of 20 kB, 25 a second, to everyone."""
	bench = importlib.import_module("relay")
	with bench.Traffic("relay", senders, receivers, __file__, tree=str(tree), gso=gso) as traffic:
		time.sleep(bench.SETTLE)
		found = traffic.measure(SECONDS)
	return {"CPU-seconds a Gbit": found["cpu_per_gbit"], "delay p99, ms": found["p99"]}


def mixer(tree: Path) -> Found:
	"""Fifty talk at once."""
	bench = importlib.import_module("mixer")

	@contextlib.contextmanager
	def served(keys: Mapping[int, tuple[str, str]]) -> Iterator[tuple[int, int, Any]]:
		child = Child(__file__, "mixer", keys=keys, tree=str(tree))
		try:
			yield child.ready["port"], child.ready["pid"], child.ask
		finally:
			child.close()

	found = bench.run(served, 50, SECONDS)
	return {"share of a core": found["core"], "a tick's lateness p99, ms": found["late_p99"]}


def start_up(tree: Path) -> Found:
	"""From the start of a process, after one to warm up."""
	from figures import participants
	from measure import start_up

	with participants() as (meeting, directory):
		found = start_up(partial(meeting, program=program(tree)), directory, 1)
	return {"a server serves, s": found["serve"], "a member is in, s": found["join"]}


def files(tree: Path) -> Found:
	"""256 MB up and down, as a share of what TLS, SHA-256 and a disk take at the least."""
	from figures import participants
	from meetings import join, serve

	bench, cs = importlib.import_module("files"), importlib.import_module("connectsphere")
	with participants() as (meeting, folder):
		source = folder / "source.dat"
		with source.open("wb") as file:
			for _ in range(bench.MEGABYTES):
				file.write(os.urandom(1 << 20))
		bare = bench.bare_loop(cs.load_identity(folder), source, folder / "bare.dat")
		start = partial(meeting, program=program(tree))
		_, base = serve(start)
		ana, ben = (join(start, base, name, "--downloads", str(folder)) for name in ("Ana", "Ben"))
		file_id, hop, _ = bench.upload(ana, source, 1)
		ben.wait("file_offer", file=file_id)
		down = bench.download(ben, file_id, 2)
	return {"upload, times the bare loop": hop / bare, "download, times the bare loop": down / bare}


def client(tree: Path) -> Found:
	"""A window that shows one test card, five seconds after it was started."""
	from figures import participants
	from meetings import LOOPBACK, SILENT, join, serve, switch
	from processes import kbytes
	from screens import xvfb

	with participants() as (meeting, directory), xvfb("1280x800") as (display, _):
		start = partial(meeting, program=program(tree))
		_, base = serve(start)
		ana = join(start, base, "Ana", "--camera", "pattern")
		switch(ana, "camera", True)
		env = {**os.environ, "DISPLAY": display, "CONNECTSPHERE_HOME": str(directory / "window")}
		where = ("--join", f"{LOOPBACK}:{base}", "--name", "Ben", *SILENT)
		with subprocess.Popen([*program(tree), *where], cwd=tree, env=env) as window:
			time.sleep(5.0)
			assert ana.seen("join", name="Ben")
			held = kbytes(window.pid) / 1024
			window.terminate()
		return {"memory, MB": held, "headless, MB": kbytes(ana.process.pid) / 1024}


def window(name: str, keys: Mapping[str, str], tree: Path) -> Found:
	"""One figure of the bench of that version's window."""
	from screens import xvfb

	script = (
		f"import sys, json; sys.path.insert(0, {str(tree / 'tests' / 'bench')!r}); import window\n"
		f"window.SECONDS = {SECONDS}\n"
		f"print(json.dumps({{**window.{name}(), 'resident': window.resident() / 1e6}}))"
	)
	with xvfb("1280x800") as (display, _):
		run = subprocess.run(
			[sys.executable, "-c", script], cwd=tree, env={**os.environ, "DISPLAY": display}, check=True,
			stdout=subprocess.PIPE, text=True,
		)  # fmt: skip
	told = json.loads(run.stdout.splitlines()[-1])
	if "busy_percent" in told:
		told["picture_ms"] = 10 * told["busy_percent"] / told["pictures_a_second"]
	return {words: told[key] for key, words in keys.items()}


FIGURES: Final[dict[str, Callable[[Path], Found]]] = {
	**{
		f"relay {senders} x {receivers}{'' if gso else ' without segmentation offload'}": partial(
			relay, senders, receivers, gso
		)
		for gso in (True, False)
		for senders, receivers in LOADS
	},
	"mixer, 50 talking": mixer,
	"join": start_up,
	"files, 256 MB": files,
	"a window's program": client,
	"start to window": partial(window, "start", {"seconds_to_window": "s"}),
	"nine tiles": partial(
		window,
		"nine",
		{
			"busy_percent": "Tk thread, % of a core",
			"picture_ms": "Tk thread, ms a picture shown",
			"click_p99_ms": "click p99, ms",
		},
	),
	"window after 2,000 cycles": partial(window, "cycles", {"resident": "memory, MB"}),
}


# -- pairs ---------------------------------------------------------------------------------------------------


def interval(ratios: Sequence[float]) -> tuple[float, float]:
	"""The 90 % interval (92 % with seven) of their middle, by Wilcoxon's signed ranks."""
	logs = sorted(map(math.log, ratios))
	means = sorted((a + b) / 2 for a, b in itertools.combinations_with_replacement(logs, 2))
	return math.exp(means[3]), math.exp(means[-4])


def in_pairs(run: Callable[[Path], Found], before: Path) -> dict[str, list[list[float]]]:
	"""Of each figure the runs [before, now] of each pair."""
	runs: dict[str, list[list[float]]] = {}
	for number in range(PAIRS):
		trees = [before, ROOT] if number % 2 == 0 else [ROOT, before]
		found = {tree: run(tree) for tree in trees}
		for key in found[ROOT]:
			runs.setdefault(key, []).append([found[before][key], found[ROOT][key]])
	return runs


def line(name: str, key: str, runs: Sequence[Sequence[float]]) -> str:
	"""A row of the table."""
	ratios = [now / before for before, now in runs]
	low, high = interval(ratios)
	was, now = (statistics.median(column) for column in zip(*runs, strict=True))
	worse = "worse" if low > WORSE else ""
	middle = f"{statistics.median(ratios):.2f}"
	return f"| {name}: {key} | {was:.3g} | {now:.3g} | {middle} | {low:.2f} to {high:.2f} | {worse} |"


def table(known: Mapping[str, Any]) -> str:
	"""All figures in Markdown, and where and when."""
	head = "| figure | before | now | now / before | 90 % interval | |\n|---|---|---|---|---|---|"
	names = [name for name in FIGURES if name in known]
	loads = [known[name]["load"] for name in names] or [0.0]
	load = f"load {min(loads):.1f} to {max(loads):.1f}"
	lines = [line(name, key, runs) for name in names for key, runs in known[name]["runs"].items()]
	wheres = dict.fromkeys(f"- {known[name]['before']}: {known[name]['where']}, {load}" for name in names)
	return "\n".join([head, *lines, "\nBefore, where and when:\n", *wheres]) + "\n"


def publish(found: Mapping[str, Any]) -> None:
	"""Beside what was found before, into the page of figures."""
	kept, page = ROOT / "docs" / "pairs.json", ROOT / "docs" / "figures.md"
	known = {**(json.loads(kept.read_text()) if kept.exists() else {}), **found}
	kept.write_text(json.dumps(known) + "\n")
	begin, end = "<!-- pairs -->\n", "<!-- end of pairs -->"
	head, _, rest = page.read_text().partition(begin)
	page.write_text(f"{head}{begin}{table(known)}{end}{rest.partition(end)[2]}")


def main(commit: str, names: Sequence[str]) -> None:
	"""Measure, show and keep."""
	wanted = [name for name in FIGURES if not names or any(name.startswith(one) for one in names)]
	found: dict[str, Any] = {}
	with worktree(commit) as before:
		for name in wanted:
			try:
				runs = in_pairs(FIGURES[name], before)
			except (AssertionError, OSError, subprocess.SubprocessError) as error:
				print(f"{name}: not measured: {error!r}", flush=True)
				continue
			found[name] = {"before": commit, "where": machine().split(", load")[0], "runs": runs}
			found[name]["load"] = os.getloadavg()[0]
			print(*(f"{line(name, key, runs[key])} {runs[key]}" for key in runs), sep="\n", flush=True)
			if PUBLISH:
				publish(found)
	print(table(found))


if __name__ == "__main__":
	if sys.argv[1:2] and sys.argv[1] in ROLES:
		asked = next(heard())
		sys.path.insert(0, asked["tree"])
		ROLES[sys.argv[1]](asked)
	elif sys.argv[1:]:
		PUBLISH: Final = "publish" in sys.argv
		main(sys.argv[1], [name for name in sys.argv[2:] if name != "publish"])
	else:
		sys.exit(f"{__doc__}\nFigures: {', '.join(FIGURES)}")
