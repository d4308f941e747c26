"""A shared screen: python tests/bench screen; with one viewer who has 2 Mbit/s: python tests/bench slow

A 1920x1080 desktop under Xvfb, a host that shares it and three viewers, all on this machine.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from figures import Row, percentile
from headless import Headless, free_base
from processes import child_in_role, kbytes
from proxy import Proxy
from screens import xvfb

import connectsphere as cs

SIZE = (1920, 1080)
CELL = 32  # pixels of one bit of the counter
PLACES = [(64, 64), (1500, 64), (64, 900), (1500, 900), (800, 500)]
BITS = 10
FILM_FPS = 24
SLOW = 2_000_000 / 8

TYPING = """
import sys, tkinter
root = tkinter.Tk()
root.geometry("1200x800+100+80")
text = tkinter.Text(root, font=("TkFixedFont", 14), insertofftime=0)
text.pack(fill="both", expand=True)
text.insert("end", "The quick brown fox jumps over the lazy dog.\\n" * 20)
def listen():
    line = sys.stdin.readline()
    if not line:
        root.destroy()
        return
    text.insert("end", line)
    text.see("end")
    root.update()
    print("typed", flush=True)
    root.after(1, listen)
root.after(300, listen)
root.mainloop()
"""

PLAYING = """
import sys, time, cv2, numpy as np
sys.path.insert(0, sys.argv[1])
import screen
cv2.namedWindow("v", cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)
cv2.moveWindow("v", 0, 0)
frames = screen.film()
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    number = int(time.monotonic() * screen.FILM_FPS)
    picture = frames[number % len(frames)].copy()
    screen.write_counter(picture, number % 1024)
    cv2.imshow("v", picture)
    cv2.waitKey(5)
"""


def film() -> list[cs.Picture]:
	"""A second of something that moves everywhere, as films do."""
	import cv2

	rng = np.random.default_rng(3)
	ground = rng.integers(0, 256, (30, 60, 3), np.uint8)
	big = cv2.resize(ground, (SIZE[0] + 240, SIZE[1]), interpolation=cv2.INTER_CUBIC)
	return [np.ascontiguousarray(big[:, 10 * n : 10 * n + SIZE[0]]) for n in range(24)]


def write_counter(picture: cs.Picture, number: int) -> None:
	"""The bits of `number` in black and white, at every place."""
	for left, top in PLACES:
		for bit in range(BITS):
			x = left + bit * CELL
			picture[top : top + CELL, x : x + CELL] = 255 if number >> bit & 1 else 0


def read_counters(picture: cs.Picture) -> list[int]:
	"""What each place says."""
	middle = CELL // 2
	return [
		sum(1 << bit for bit in range(BITS) if picture[y + middle, x + bit * CELL + middle, 1] > 127)
		for x, y in PLACES
	]


class Watcher:
	"""A viewer in this process: keeps every new picture's moment."""

	def __init__(self, base: int, name: str, home: Path, address: str = "127.0.0.1") -> None:
		home.mkdir()
		options = cs.ClientOptions(name=name, address=address, port=base, speaker="none")
		self.controller = cs.MeetingController(options, home)
		self.controller.start()
		while self.controller.gui_queue.get()["event"] != "joined":
			pass

	def stats(self) -> cs.Json:
		"""Its screen's figures."""
		return self.controller.screen.stats()

	def age(self) -> float | None:
		"""Seconds since the shown picture of the film was the newest."""
		picture = self.controller.screen.newest()
		numbers = read_counters(picture) if picture is not None and picture.shape[0] == SIZE[1] else []
		if len(set(numbers)) != 1:
			return None
		return (time.monotonic() - numbers[0] / FILM_FPS) % ((1 << BITS) / FILM_FPS)

	def wait_change(self, box: tuple[slice, slice], before: cs.Picture, timeout: float = 5.0) -> float:
		"""When the place differs from `before`."""
		until = time.monotonic() + timeout
		while time.monotonic() < until:
			picture = self.controller.screen.newest()
			if picture is not None and (picture[box] != before[box]).any():
				return time.monotonic()
			time.sleep(0.004)
		return float("inf")


def cpu(pids: list[int]) -> float:
	"""Seconds of processor time used by the processes so far."""
	ticks = 0
	for pid in pids:
		fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
		ticks += int(fields[11]) + int(fields[12])
	return ticks / os.sysconf("SC_CLK_TCK")


def typing(viewers: list[Watcher], typist: subprocess.Popen[str]) -> list[Row]:
	"""A line appears in the window: until each of three viewers shows it."""
	assert typist.stdin and typist.stdout
	box = (slice(80, 900), slice(100, 1300))
	delays: list[float] = []
	for number in range(12):
		time.sleep(1.0 + 0.037 * number)
		befores = [viewer.controller.screen.newest() for viewer in viewers]
		typist.stdin.write(f"line {number} of the text that is typed\n")
		typist.stdin.flush()
		typist.stdout.readline()
		typed = time.monotonic()
		seen: list[float] = [0.0] * len(viewers)

		def wait(index: int, seen: list[float] = seen, befores: list[cs.Picture | None] = befores) -> None:
			before = befores[index]
			assert before is not None
			seen[index] = viewers[index].wait_change(box, before)

		threads = [threading.Thread(target=wait, args=(index,)) for index in range(len(viewers))]
		for thread in threads:
			thread.start()
		for thread in threads:
			thread.join()
		delays += [at - typed for at in seen]
		exact = time.monotonic()
		while not all(viewer.stats()["exact"] for viewer in viewers) and time.monotonic() < exact + 3:
			time.sleep(0.02)
	middle, worst = 1e3 * percentile(delays, 0.5), 1e3 * max(delays)
	return [
		Row("screen", "typed line to all viewers", f"p50 {middle:.0f}, worst {worst:.0f} ms"),
		Row("screen", "exact after the last line", f"{time.monotonic() - typed:.2f} s"),
	]


def still(host: Headless, viewer: Watcher) -> list[Row]:
	"""Nothing moves; compared with the same meeting in which nothing is shared."""
	pids = {"presenter": host.process.pid, "server": child_in_role(host.process.pid, "--serve-child")}
	shares: dict[str, list[float]] = {name: [] for name in pids}
	kbps = 0
	for sharing in (True, False):
		if not sharing:
			host.send(do="share", on=False)
		time.sleep(5)
		before, began = {name: cpu([pid]) for name, pid in pids.items()}, time.monotonic()
		kbps = viewer.stats()["kbps"] if sharing else kbps
		time.sleep(10)
		spent = time.monotonic() - began
		for name, pid in pids.items():
			shares[name].append(100 * (cpu([pid]) - before[name]) / spent)
	host.send(do="share", on=True, source="screen:0")
	return [Row("screen", "a still screen", f"{kbps} kbit/s")] + [
		Row("screen", f"a still screen, {name}", f"{on:.1f} % of a core", f"{off:.1f} % without it")
		for name, (on, off) in shares.items()
	]


def full_film(viewer: Watcher) -> list[Row]:
	"""A film fills the screen."""
	with subprocess.Popen(
		[sys.executable, "-c", PLAYING, str(Path(__file__).parent), "16"], stderr=subprocess.DEVNULL
	) as player:
		time.sleep(5)
		seen: list[list[int]] = []
		serial, began = 0, time.monotonic()
		while time.monotonic() - began < 8:
			newest, picture = viewer.controller.picture("screen")
			if newest != serial and picture is not None:
				serial = newest
				seen.append(read_counters(picture))
			time.sleep(0.005)
		spent = time.monotonic() - began
		stats = viewer.stats()
		player.wait()
	whole = [one[0] for one in seen if len(set(one)) == 1]
	share = 100 * len(whole) / max(1, len(seen))
	rate = f"{len(set(whole)) / spent:.1f} pictures a second, {stats['kbps']} kbit/s"
	return [Row("screen", f"a film on it, {share:.0f} % of pictures from one frame", rate)]


def ages(viewers: Sequence[Watcher], seconds: float) -> list[list[float]]:
	"""How old what each viewer shows is, ten times a second."""
	found: list[list[float]] = [[] for _ in viewers]
	until = time.monotonic() + seconds
	while time.monotonic() < until:
		for viewer, values in zip(viewers, found, strict=True):
			age = viewer.age()
			if age is not None:
				values.append(age)
		time.sleep(0.1)
	return found


def settle(viewer: Watcher, deadline: float) -> float:
	"""Seconds until what a viewer shows is exact."""
	began = time.monotonic()
	while not viewer.stats()["exact"] and time.monotonic() < began + deadline:
		time.sleep(0.02)
	return time.monotonic() - began


def slow_viewer(host: Headless, viewers: list[Watcher], base: int, home: Path, seconds: float) -> list[Row]:
	"""Two on a free link, before and while a third has a slow one; then a fourth who comes late."""
	film = [sys.executable, "-c", PLAYING, str(Path(__file__).parent), str(seconds + 30)]
	server = child_in_role(host.process.pid, "--serve-child")
	with subprocess.Popen(film, stderr=subprocess.DEVNULL) as player, Proxy(base, screen_rate=SLOW) as way:
		time.sleep(5)
		before = [statistics.median(one) for one in ages(viewers, 15)[:2]]
		viewers.pop().controller.close()
		viewers.append(Watcher(base, "Slow", home / "slow", way.address))
		time.sleep(3)
		held = kbytes(server)
		*fast, slow = ages(viewers, seconds)
		after = [statistics.median(one) for one in fast]
		grown = kbytes(server) - held
		player.wait()
		exact = settle(viewers[-1], 60)
		late = Watcher(base, "Late", home / "late")
		began = time.monotonic()
		viewers.append(late)
		while late.controller.screen.newest() is None:
			time.sleep(0.005)
		whole = time.monotonic() - began
		settled = whole + settle(late, 20)
		for viewer in viewers:
			viewer.controller.close()
	was, now = (500 * sum(one) for one in (before, after))
	middle = f"median {statistics.median(slow):.2f}, worst {max(slow):.2f} s"
	return [
		Row("slow", "age of what a viewer with 2 Mbit/s shows", middle),
		Row("slow", "the others beside it", f"{now:.0f} ms", f"{was:.0f} ms before", now / was),
		Row("slow", f"server's memory in {seconds:.0f} s", f"{held / 1024:.0f} MB, {grown / 1024:+.1f} MB"),
		Row("slow", "exact after the film", f"{exact:.1f} s"),
		Row("slow", "a late viewer", f"whole after {whole:.2f} s, exact after {settled:.2f} s"),
	]


@contextlib.contextmanager
def shared() -> Iterator[tuple[Headless, list[Watcher], subprocess.Popen[str], int, Path]]:
	"""A desktop with a text on it that its host shares, and three viewers."""
	with tempfile.TemporaryDirectory() as directory, xvfb("1920x1080") as (display, _):
		os.environ["DISPLAY"] = display
		home, base = Path(directory), free_base()
		host = Headless(
			["--host", "--name", "Host", "--bind", "127.0.0.1", "--port", str(base)], home / "host"
		)
		host.wait("joined", 20)
		viewers: list[Watcher] = []
		try:
			viewers += [Watcher(base, f"V{n}", home / f"v{n}") for n in range(3)]
			with subprocess.Popen(
				[sys.executable, "-c", TYPING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
			) as typist:
				host.send(do="share", on=True, source="screen:0")
				host.wait("screen_start", 10)
				time.sleep(3)
				yield host, viewers, typist, base, home
		finally:
			for viewer in viewers:
				viewer.controller.close()
			host.close()


def rows(_: int) -> list[Row]:
	"""The screen's part of the table; one round, of a dozen lines."""
	with shared() as (host, viewers, typist, _base, _home):
		found = typing(viewers, typist) + still(host, viewers[0])
		assert typist.stdin
		typist.stdin.close()
		for viewer in viewers[1:]:
			viewer.controller.close()
		return found + full_film(viewers[0])


def slow_rows(_: int) -> list[Row]:
	"""What a viewer with a slow link costs itself and others."""
	with shared() as (host, viewers, typist, base, home):
		found = slow_viewer(host, viewers, base, home, 20.0)
		assert typist.stdin
		typist.stdin.close()
		return found
