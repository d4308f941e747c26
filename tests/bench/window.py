#!/usr/bin/env python3
"""What the window costs and how fast it answers: `python3 tests/bench/window.py [NAME ...]`.

Each figure is taken from the real window in a process of its own under an Xvfb, with pictures that a
thread of the same process decodes from JPEG as a meeting's does. Ends with status 1 if a bound is missed.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2])]

import numpy as np  # noqa: E402 - all found by the path above
from fake_call import FakeBackend, FakeController, card  # noqa: E402
from screens import xvfb  # noqa: E402

import connectsphere as cs  # noqa: E402

SIZE = "1280x720"
WARM, SECONDS = 2.0, 10.0


class Movie(FakeController):
	"""A meeting whose pictures a thread decodes at a steady rate: of who is watched, in that layer."""

	def __init__(self, people: int, rate: float, **changes: Any) -> None:
		super().__init__(people, **changes)
		everybody = tuple(replace(one, camera=True, mic=True) for one in self.snapshot().people)
		self.change(people=everybody)
		self.rate, self.watched, self.pictures = rate, dict[int, int](), dict[int | str, tuple[int, Any]]()
		self.stop = threading.Event()
		self.clicks: queue.SimpleQueue[float] = queue.SimpleQueue()
		self._films: dict[Any, list[bytes]] = {}
		self._thread = threading.Thread(target=self._decode)
		self._thread.start()

	def do(self, command: cs.Json) -> None:
		if command["do"] == "watch":
			ids = {one.name: one.id for one in self.snapshot().people}
			self.watched = {ids[name]: wish["layer"] for name, wish in command["streams"].items()}
		if command["do"] == "hand":
			self.clicks.put(time.perf_counter())
		super().do(command)

	def film(self, key: int | str, layer: int) -> list[bytes]:
		"""Eight pictures as a camera or a screen sends them."""
		if (key, layer) not in self._films:
			number = key if isinstance(key, int) else 99
			size = cs.LAYERS[layer] if key != "screen" else (1920, 1080)
			noise = np.random.default_rng(number).integers(0, 24, (size[1], size[0], 3), np.uint8)
			pictures = [card(number, size, at / 8 * 2 * np.pi) // 2 + noise for at in range(8)]
			self._films[key, layer] = [cs.encode_jpeg(picture, 70) for picture in pictures]
		return self._films[key, layer]

	def _decode(self) -> None:
		due, number = time.perf_counter(), 0
		while not self.stop.is_set():
			wanted: dict[int | str, int] = {**self.watched}
			if self.snapshot().presenter:
				wanted = {"screen": 3}
			for key, layer in wanted.items():
				film = self.film(key, layer)
				self.pictures[key] = (number, cs.decode_picture(film[number % len(film)]))
				self.told()
			number += 1
			due = max(due + 1 / self.rate, time.perf_counter() - 0.2)
			self.stop.wait(max(0.0, due - time.perf_counter()))

	def picture(self, key: int | str) -> tuple[int, Any]:
		return self.pictures.get(key, (0, None))

	def close(self, deadline: float = 3.0) -> None:
		self.stop.set()
		self._thread.join()


def timed(call: Movie, **settings: bool) -> dict[str, float]:
	"""Show `call` for a while: how busy the Tk thread is, how late its ticks and its answers to clicks."""
	import tkinter

	root = tkinter.Tk()
	faults: list[BaseException] = []
	root.report_callback_exception = lambda kind, fault, trace: faults.append(fault)
	loop = cs.WindowLoop(FakeBackend(settings=settings), root)
	root.geometry(f"{SIZE}+0+0")
	ticks, answers, busy = list[float](), list[float](), list[float]()
	tick = loop._tick
	loop._tick = lambda: (ticks.append(time.perf_counter()), tick())[1]  # type: ignore[method-assign, func-returns-value]
	paste, pasted = cs.PictureBox.paste, list[int]()
	cs.PictureBox.paste = lambda tile, image: (pasted.append(1), paste(tile, image))[1]  # type: ignore[method-assign, func-returns-value]
	loop.enter(call)

	def click() -> None:
		"""A hand on the button of the raised hand, and how long until its command is sent."""
		assert loop.view is not None
		button = loop.view.side.buttons["hand"].canvas
		x, y = button.winfo_rootx() + 40, button.winfo_rooty() + 20
		subprocess.run(["xdotool", "mousemove", str(x), str(y)], check=True)
		while not call.stop.wait(0.4):
			begun = time.perf_counter()
			subprocess.run(["xdotool", "click", "1"], check=True)
			answers.append(call.clicks.get(timeout=5) - begun)

	def begin() -> None:
		ticks.clear()
		pasted.clear()
		busy[:] = [time.thread_time(), time.perf_counter()]
		threading.Thread(target=click, daemon=True).start()

	def end() -> None:
		spent, passed = time.thread_time() - busy[0], time.perf_counter() - busy[1]
		busy[:] = [spent / passed]
		call.close()
		root.after(700, loop.stop)

	root.after(round(WARM * 1000), begin)
	root.after(round((WARM + SECONDS) * 1000), end)
	root.mainloop()
	assert not faults, faults
	late = np.diff(np.array(ticks)) - 1 / cs.WindowLoop.FPS
	return {
		"busy_percent": 100 * busy[0],
		"tick_late_p99_ms": 1000 * float(np.percentile(late, 99)),
		"click_p99_ms": 1000 * float(np.percentile(answers, 99)),
		"ticks_a_second": len(ticks) / SECONDS,
		"pictures_a_second": len(pasted) / SECONDS,
		"load": os.getloadavg()[0],
	}


def nine() -> dict[str, float]:
	"""9 tiles at 25 pictures a second."""
	return timed(Movie(9, 25.0))


def fifty() -> dict[str, float]:
	"""50 participants on pages, 25 pictures a second."""
	return timed(Movie(50, 25.0))


def whole_class() -> dict[str, float]:
	"""49 tiles on one page, each at the 5 pictures a second that are asked for then."""
	return timed(Movie(49, 5.0), many_tiles=True)


def screen() -> dict[str, float]:
	"""One shared screen of 1920x1080 at 15 pictures a second."""
	return timed(Movie(1, 15.0, presenter=1, me=77))


def resident() -> int:
	"""Bytes of memory of this process."""
	return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def cycles() -> dict[str, float]:
	"""2,000 cycles of join, leave, layout and reaction: what the second thousand leaves behind."""
	import tkinter

	root = tkinter.Tk()
	loop = cs.WindowLoop(FakeBackend(), root)
	root.geometry(f"{SIZE}+0+0")
	call = FakeController(9)
	loop.enter(call)
	root.update()
	view = loop.view
	assert view is not None

	def cycle(number: int) -> None:
		people = call.snapshot().people
		call.change(people=(*people, cs.Person(100 + number, f"Guest {number % 7}", camera=True)))
		root.update()
		call.change(people=people)
		view.set_layout(("grid", "speaker", "focus")[number % 3])
		view.reactions.add("👍", "Ana")
		view.tick()
		root.update()

	def rest() -> tuple[int, int, int, int]:
		"""(bytes, pictures, after callbacks, threads) at rest."""
		view.reactions.clear()
		view.set_layout("grid")
		end = time.monotonic() + 0.5
		while time.monotonic() < end:
			root.update()
		gc.collect()
		ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps for later is not left behind
		waiting = len(root.tk.splitlist(root.tk.call("after", "info")))
		return resident(), len(root.image_names()), waiting, threading.active_count()

	left = []
	for start in (0, 1000):
		for number in range(start, start + 1000):
			cycle(number)
		left.append(rest())
	loop.stop()
	names = ("second_thousand_kB", "more_images", "more_after", "more_threads")
	figures = {name: float(b - a) for name, a, b in zip(names, *left, strict=True)}
	return {**figures, "second_thousand_kB": figures["second_thousand_kB"] / 1000}


def start() -> dict[str, float]:
	"""From starting the program from source until its window is on the display, median of 5."""
	took = []
	for _ in range(5):
		with tempfile.TemporaryDirectory() as home:
			begun = time.perf_counter()
			program = subprocess.Popen(
				[sys.executable, cs.__file__, "--bind", "127.0.0.1", "--port", "9700"],
				env={**os.environ, "CONNECTSPHERE_HOME": home},
			)  # fmt: skip
			search = ["xdotool", "search", "--onlyvisible", "--class", "connectsphere"]
			while not subprocess.run(search, capture_output=True, check=False).stdout:
				assert time.perf_counter() < begun + 30, "no window"
			took.append(time.perf_counter() - begun)
			program.terminate()
			program.wait(10)
	return {"seconds_to_window": float(np.median(took))}


FIGURES: dict[str, tuple[Callable[[], dict[str, float]], dict[str, float]]] = {
	"nine": (nine, {"busy_percent": 40, "tick_late_p99_ms": 50, "click_p99_ms": 100}),
	"fifty": (fifty, {"busy_percent": 40, "tick_late_p99_ms": 50, "click_p99_ms": 100}),
	"class": (whole_class, {"busy_percent": 40, "tick_late_p99_ms": 50, "click_p99_ms": 100}),
	"screen": (screen, {"busy_percent": 50, "tick_late_p99_ms": 50, "click_p99_ms": 100}),
	"cycles": (cycles, {"second_thousand_kB": 5000, "more_images": 0, "more_after": 0, "more_threads": 0}),
	"start": (start, {"seconds_to_window": 1.5}),
}


def main() -> int:
	"""Take the named figures, or all, each in a process and on a display of its own."""
	parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
	parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FIGURES))
	parser.add_argument("--only", help=argparse.SUPPRESS)
	options = parser.parse_args()
	if options.only:
		print(json.dumps(FIGURES[options.only][0]()))
		return 0
	print(f"{platform.machine()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d %H:%M')}")
	missed = False
	for name in options.names or FIGURES:
		with xvfb("1280x800") as (display, _):
			run = subprocess.run(
				[sys.executable, str(HERE), "--only", name],
				env={**os.environ, "DISPLAY": display}, stdout=subprocess.PIPE, text=True, check=True,
			)  # fmt: skip
		print(f"{name}: {FIGURES[name][0].__doc__}")
		for figure, value in json.loads(run.stdout.splitlines()[-1]).items():
			bound = FIGURES[name][1].get(figure)
			bad = bound is not None and value > bound
			missed |= bad
			print(
				f"  {figure:22}{value:10.1f}"
				+ (f"  at most {bound:g}" + " MISSED" * bad if bound is not None else "")
			)
	return int(missed)


if __name__ == "__main__":
	sys.exit(main())
