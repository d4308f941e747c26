"""What all benches share: things run in turn, participants, processes of their own, tables, plots.

Imported first: it lets the program and the tests' helpers be found.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
	from conftest import Meeting

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
Figures = Mapping[str, float]


def machine() -> str:
	"""Where and when: the processor, the system, the date and how busy it is."""
	names = [line.split(":", 1)[1].strip() for line in cpu_lines() if line.startswith("model name")]
	name = names[0] if names else platform.processor() or platform.machine()
	system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
	load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
	return f"{name}, {os.cpu_count()} cores, {system}; {datetime.date.today()}, load {load}"


def cpu_lines() -> list[str]:
	"""What Linux says about the processor."""
	path = Path("/proc/cpuinfo")
	return path.read_text().splitlines() if path.exists() else []


@contextlib.contextmanager
def worktree(commit: str) -> Iterator[Path]:
	"""The program as it was."""
	with tempfile.TemporaryDirectory() as name:
		tree = Path(name) / "before"
		subprocess.run(["git", "worktree", "add", "-q", "--detach", tree, commit], cwd=ROOT, check=True)
		try:
			yield tree
		finally:
			subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


@dataclass(frozen=True)
class Row:
	"""One line of the table. `ratio`: to the reference, measured in turn in the same run."""

	bench: str
	what: str
	figure: str
	reference: str = ""
	ratio: float | None = None
	bound: str = ""


def in_turn(things: Mapping[str, Callable[[], Figures]], rounds: int) -> dict[str, dict[str, float]]:
	"""The medians of each thing's figures over `rounds` rounds, in each of which all run once."""
	found: dict[str, list[Figures]] = {name: [] for name in things}
	for number in range(rounds):
		for name, run in things.items():
			found[name].append(run())
			words = ", ".join(f"{key} {value:.4g}" for key, value in found[name][-1].items())
			print(f"  round {number + 1}, {name}: {words}", file=sys.stderr, flush=True)
	return {
		name: {key: statistics.median(one[key] for one in all_rounds) for key in all_rounds[0]}
		for name, all_rounds in found.items()
	}


def percentile(values: Sequence[float], share: float) -> float:
	"""The value that `share` of `values` do not exceed; 0 for none."""
	return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


@contextlib.contextmanager
def participants() -> Iterator[tuple[Meeting, Path]]:
	"""Something that starts participants, who end with it, and a directory for them."""
	from conftest import Meeting  # here, as many a child of a bench does without it

	with tempfile.TemporaryDirectory() as name, contextlib.closing(Meeting(Path(name))) as meeting:
		yield meeting, Path(name)


# -- processes ---------------------------------------------------------------------------------------------


class Child:
	"""A process of a bench: `script` run with `role`; a line of JSON in, a line of JSON out."""

	def __init__(self, script: str, role: str, **told: Any) -> None:
		self.process = subprocess.Popen(
			[sys.executable, script, role], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
		)
		self.ready = self.ask(**told)

	def ask(self, **said: Any) -> Any:
		"""Say something and hear the answer."""
		assert self.process.stdin and self.process.stdout
		self.process.stdin.write(json.dumps(said) + "\n")
		self.process.stdin.flush()
		line = self.process.stdout.readline()
		assert line, f"a process of the bench has ended: {self.process.wait()}"
		return json.loads(line)

	def close(self) -> None:
		"""End it by the end of its input."""
		self.process.communicate()


def heard() -> Iterator[dict[str, Any]]:
	"""In a child: what it is asked, one after the other."""
	return map(json.loads, sys.stdin)


def answer(**said: Any) -> None:
	"""In a child: the answer."""
	print(json.dumps(said), flush=True)


def in_background(run: Callable[[], object]) -> None:
	"""In a child: work that goes on until the process ends."""
	threading.Thread(target=run, daemon=True).start()


def forever(turn: Callable[[], object]) -> None:
	"""Until the process ends."""
	while True:
		turn()


def spread(turns: Sequence[Callable[[], object]], every: float) -> Callable[[], int]:
	"""In a child: each of `turns` every so many seconds, evenly spread, in the background; tells how many."""
	begun, done = time.monotonic(), 0

	def turn() -> None:
		nonlocal done
		time.sleep(0.001)
		due = int((time.monotonic() - begun) / every * len(turns))
		for _ in range(min(due - done, len(turns))):
			turns[done % len(turns)]()
			done += 1

	in_background(lambda: forever(turn))
	return lambda: done


# -- showing -----------------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
	"""The rows in Markdown."""
	lines = ["| bench | what | measured | reference in turn | ratio | to be |", "|---|---|---|---|---|---|"]
	for row in rows:
		ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
		cells = (row.bench, row.what, row.figure, row.reference, ratio, row.bound)
		lines.append("| " + " | ".join(cells) + " |")
	return "\n".join(lines)


def plot(rows: Sequence[Row], path: Path) -> None:
	"""Each row that has a ratio as a bar; the line is the reference itself."""
	from PIL import Image, ImageDraw, ImageFont

	shown = [row for row in rows if row.ratio is not None]
	wide, high, left, right = 1400, 44, 620, 110
	most = max([1.2, *(row.ratio or 0.0 for row in shown)])
	scale = (wide - left - right) / most
	picture = Image.new("RGB", (wide, 100 + high * len(shown)), "#ffffff")
	draw, font = ImageDraw.Draw(picture), ImageFont.load_default(20)
	draw.text((24, 20), "Cost or time as a share of the reference in the same run", "#111111", font)
	for number, row in enumerate(shown):
		top = 64 + number * high
		draw.text((24, top + 6), f"{row.bench}: {row.what}", "#333333", font)
		end = left + (row.ratio or 0.0) * scale
		draw.rectangle((left, top + 6, max(end, left + 2), top + high - 10), "#2f6fde")
		draw.text((end + 10, top + 6), f"{row.ratio:.2f}", "#111111", font)
	draw.line((left + scale, 56, left + scale, 70 + high * len(shown)), "#c2410c", 3)
	draw.text((left + scale - 50, 74 + high * len(shown)), "reference", "#c2410c", font)
	picture.save(path, optimize=True)
