"""A meeting that goes on: people come and go, pictures, sound, a screen and files over a network that loses.

What may not grow is measured all along: memory, threads and descriptors of the server, of its mixer and of
one client, each a process; threads and descriptors of this process, which holds the other clients (the memory
of so many in one finds its level only after minutes); and how long a line of chat takes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import random
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from headless import PROGRAM, Headless
from meetings import Passage, enter, serve
from processes import child_in_role
from weather import BadWeather, Faults

import connectsphere as cs

AT = "127.0.0.2"
SAMPLE_SECONDS = 1.0
WARM_UP = 0.25  # of the time: caches, pools and arenas find their size
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4_096


@dataclass
class Level:
	"""What a process holds, sample by sample."""

	megabytes: list[float] = field(default_factory=list)
	threads: list[int] = field(default_factory=list)
	descriptors: list[int] = field(default_factory=list)

	def note(self, pid: int, harmless: int = 0) -> None:
		"""Take a sample; `harmless` descriptors are the test's own."""
		resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
		self.megabytes.append(resident * PAGE / 1e6)
		self.threads.append(len(os.listdir(f"/proc/{pid}/task")))
		self.descriptors.append(len(os.listdir(f"/proc/{pid}/fd")) - harmless)


def thirds(values: list[float] | list[int]) -> tuple[float, float]:
	"""The medians of the first and of the last third, after the warm-up."""
	settled = values[int(WARM_UP * len(values)) :]
	third = max(1, len(settled) // 3)
	return statistics.median(settled[:third]), statistics.median(settled[-third:])


@dataclass
class Endured:
	"""The figures of a meeting."""

	levels: dict[str, Level] = field(default_factory=dict)
	chat_ms: list[float] = field(default_factory=list)
	joins: int = 0
	files: int = 0
	shares: int = 0
	frames: int = 0
	lost: int = 0

	def lines(self) -> list[str]:
		"""The figures in words: each quantity in the first and the last third."""
		said = [f"{self.joins} joined anew, {self.files} files, {self.shares} shares, {self.frames} pictures"]
		said += [f"{self.lost} datagrams lost"]
		for name, level in self.levels.items():
			for what in ("megabytes", "threads", "descriptors"):
				first, last = thirds(getattr(level, what))
				said.append(f"{name}: {what} {first:.1f} -> {last:.1f}")
		first, last = thirds(self.chat_ms)
		return [*said, f"a line of chat: {first:.1f} -> {last:.1f} ms"]


class Pupil:
	"""A client of this process; its events are taken as they come."""

	def __init__(self, name: str, base: int, home: Path, camera: str, mic: str) -> None:
		home.mkdir(parents=True, exist_ok=True)
		self.name, self.home = name, home
		self.frames = 0
		self._wanted: list[tuple[str, Callable[[cs.Json], bool], queue.SimpleQueue[cs.Json]]] = []
		options = cs.ClientOptions(
			name, "", AT, base, camera=camera, mic=mic, speaker="none", downloads=str(home / "got")
		)
		self.controller = cs.MeetingController(options, home)
		self._reader = threading.Thread(target=self._read, name=f"reader of {name}")
		joined = self.expect("joined")
		self.controller.start()
		self._reader.start()
		joined()
		self.do(do="watch_screen", on=False)

	def do(self, **command: object) -> None:
		self.controller.do(command)

	def expect(self, event: str, **match: object) -> Callable[[], cs.Json]:
		"""What waits for such an event, of those from now on."""
		found: queue.SimpleQueue[cs.Json] = queue.SimpleQueue()
		fits = lambda told: all(told.get(key) == value for key, value in match.items())  # noqa: E731
		entry = (event, fits, found)
		self._wanted.append(entry)

		def wait() -> cs.Json:
			try:
				return found.get(timeout=30)
			except queue.Empty:
				raise AssertionError(f"{self.name}: no {event} {match}") from None
			finally:
				self._wanted.remove(entry)

		return wait

	def _read(self) -> None:
		while (told := self.controller.gui_queue.get())["event"] not in ("left", "ended"):
			for event, fits, found in tuple(self._wanted):
				if told["event"] == event and fits(told):
					found.put(told)

	def close(self) -> None:
		self.do(do="leave")
		self._reader.join(20)
		self.controller.close()


class Endurance:
	"""The meeting, its people and what they do in turn."""

	def __init__(
		self, meeting: Callable[..., Headless], directory: Path, people: int, fps: int, loss: float
	) -> None:
		self.figures, self._fps = Endured(), fps
		self._directory, self._people = directory, people
		self._server, self._base = serve(meeting, program=PROGRAM)  # a fork would hold more to begin with
		self._weather = BadWeather(Faults(loss=loss))
		self._passage = Passage(self._base, AT, carry=self._weather.carry)
		self._numbers = itertools.count(1)
		self._dice = random.Random(6)
		self.pupils: list[Pupil] = []
		self.watcher = enter(meeting, self._base, "Watcher", at=AT)  # a process of its own

	def gather(self) -> None:
		"""Everyone comes; three have cameras and microphones, and these stay."""
		for n in range(self._people):
			self._come("pattern" if n < 3 else "none", "tone" if n < 3 else "none")
		for one in self.pupils[:3]:
			one.do(do="camera", on=True)
		shown = {one.name: {"layer": 1, "fps": self._fps} for one in self.pupils[:3]}
		self.watcher.wait("joined", timeout=40)
		self.watcher.send(do="watch", streams=shown)
		self._weather.begin()

	def _come(self, camera: str = "none", mic: str = "none") -> None:
		number = next(self._numbers)
		home = self._directory / f"pupil-{number % (2 * self._people)}"
		one = Pupil(f"Pupil {number}", self._base, home, camera, mic)
		others = [other.name for other in self.pupils[:3]]
		one.do(do="watch", streams={name: {"layer": 0, "fps": self._fps} for name in others})
		self.pupils.append(one)

	def go_on(self, seconds: float) -> None:
		"""Let things happen for as long as that, and take samples."""
		until = time.monotonic() + seconds
		acts = itertools.cycle(
			(self._replace, self._write, self._give, self._write, self._share, self._write, self._speak)
		)
		sample_at = 0.0
		while time.monotonic() < until:
			next(acts)()
			if time.monotonic() >= sample_at:
				sample_at = time.monotonic() + SAMPLE_SECONDS
				self._sample()
			time.sleep(0.05)

	def _replace(self) -> None:
		"""One goes, another comes."""
		leaver = self.pupils.pop(self._dice.randrange(3, len(self.pupils)))
		self.figures.frames += sum(one["frames"] for one in self._ask(leaver, "stats")["video"].values())
		leaver.close()
		self._come()
		self.figures.joins += 1

	def _ask(self, one: Pupil, what: str) -> cs.Json:
		answer = one.expect(what)
		one.do(do=what)
		return answer()

	def _speak(self) -> None:
		"""One who stays is heard for a second."""
		one = self._dice.choice(self.pupils[:3])
		for on, state in ((True, "live"), (False, "off")):
			turned = one.expect("device", what="mic", state=state)
			one.do(do="mic", on=on)
			turned()
			time.sleep(0.3 if on else 0.0)

	def _write(self) -> None:
		one, other = self._dice.sample(self.pupils, 2)
		text = f"line {time.monotonic()}"
		heard = other.expect("chat", text=text)
		begun = time.monotonic()
		one.do(do="chat", text=text)
		heard()
		self.figures.chat_ms.append((time.monotonic() - begun) * 1e3)

	def _give(self) -> None:
		"""A file of a megabyte goes to the host and from there to another, and is taken back."""
		one, other = self._dice.sample(self.pupils, 2)
		path = self._directory / "homework.bin"
		path.write_bytes(self._dice.randbytes(1 << 20))
		uploaded, offered = one.expect("uploaded"), other.expect("file_offer")
		one.do(do="upload", path=str(path))
		file = uploaded()["file"]
		offered()
		saved = other.expect("file_saved", file=file)
		other.do(do="download", file=file)
		Path(saved()["path"]).unlink()
		one.do(do="cancel", file=file)
		self.figures.files += 1

	def _share(self) -> None:
		"""A moving picture is shared for a second, and two look: of those who stay, as canvases are large."""
		presenter, *viewers = self._dice.sample(self.pupils[:3], 3)
		begun = [viewer.expect("screen_start") for viewer in viewers]
		over = presenter.expect("screen_stop")
		for viewer in viewers:
			viewer.do(do="watch_screen", on=True)
		presenter.do(do="share", on=True, source="pattern")
		for wait in begun:
			wait()
		time.sleep(0.3)
		presenter.do(do="share", on=False)
		over()
		for viewer in viewers:
			viewer.do(do="watch_screen", on=False)
		self.figures.shares += 1

	def _sample(self) -> None:
		server = self._server.process.pid
		own = len(self._passage._udp) + 2 * len(self._passage._ends)
		for name, pid, harmless in (
			("server", server, 0),
			("mixer", child_in_role(server, "--mixer"), 0),
			("client", self.watcher.process.pid, 0),
			("test", os.getpid(), own),
		):
			self.figures.levels.setdefault(name, Level()).note(pid, harmless)

	def close(self) -> None:
		self.figures.lost = self._weather.lost
		for one in self.pupils:
			one.close()
		self._passage.close()
		self._weather.close()


def endure(
	meeting: Callable[..., Headless],
	directory: Path,
	seconds: float,
	people: int = 20,
	fps: int = 5,
	loss: float = 0.02,
) -> Endured:
	"""Hold such a meeting for `seconds`; its figures."""
	held = Endurance(meeting, directory, people, fps, loss)
	with contextlib.closing(held):
		held.gather()
		held.go_on(seconds)
	return held.figures
