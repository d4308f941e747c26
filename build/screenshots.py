#!/usr/bin/env python3
"""Takes the pictures of docs/ from the running program: `python3 build/screenshots.py [NAME ...]`.

Each shot is a `--demo` (the start window: a plain start) on an Xvfb of its own, driven by xdotool.
Needs what the tests need. Takes some minutes for all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from headless import Headless  # noqa: E402
from screens import window_manager, xvfb  # noqa: E402 - found by the path above
from workers import apart  # noqa: E402

sys.path.insert(0, str(ROOT))
from connectsphere import RunningMeeting  # noqa: E402

PROGRAM = [sys.executable, str(ROOT / "connectsphere.py")]
PORT = 9460
PIN = "482913"
LARGEST = 500_000
CLASS = (40, 595)  # its button at 1280x800


class Desktop:
	"""A display with one program on it, and whoever else was started for the picture."""

	def __init__(
		self, directory: Path, display: str, size: tuple[int, int], settings: dict[str, Any]
	) -> None:
		self.size, self.directory = size, directory
		self.id = "root"  # the window
		self.started: list[subprocess.Popen[str]] = []
		self.home = directory / "home"
		self.home.mkdir(exist_ok=True)
		(self.home / "settings.json").write_text(json.dumps(settings))
		self.environment = {
			**os.environ, "DISPLAY": display, "XCURSOR_SIZE": "1",
			"CONNECTSPHERE_HOME": str(self.home), "LANG": "C.UTF-8",
		}  # fmt: skip

	def run(self, *words: str, **options: Any) -> subprocess.Popen[str]:
		"""Start the program."""
		process = subprocess.Popen([*PROGRAM, *words], env=self.environment, text=True, **options)
		self.started.append(process)
		return process

	def window(self, *words: str, deadline: float = 60.0) -> None:
		"""Start the program and wait until its window fills the display."""
		self.run(*words)
		end = time.monotonic() + deadline
		while not (found := self.hand("search", "--onlyvisible", "--class", "connectsphere").split()):
			assert time.monotonic() < end, "no window"
			time.sleep(0.2)
		self.id = found[-1]
		time.sleep(1.0)
		size = f"Geometry: {self.size[0]}x{self.size[1]}\n"
		assert size in self.hand("getwindowgeometry", self.id), f"not {size}"

	def hand(self, *words: str) -> str:
		"""One xdotool command; returns what it printed."""
		return subprocess.run(
			["xdotool", *words], env=self.environment, capture_output=True, text=True, check=False
		).stdout

	def click(self, x: int, y: int) -> None:
		"""Click at a place of the window; negative values count from the right and the lower edge."""
		self.point(x, y)
		time.sleep(0.3)
		self.hand("click", "1")
		time.sleep(0.5)

	def point(self, x: int, y: int) -> None:
		"""Move the mouse, likewise."""
		width, height = self.size
		self.hand("mousemove", "--window", self.id, str(x % width), str(y % height))

	def press(self, *keys: str) -> None:
		"""Give commands by keys. The panel is open and closed first: a chat takes letters."""
		self.hand("key", "Escape")
		time.sleep(0.4)
		self.hand("key", *keys)
		time.sleep(0.4)

	def member(self, name: str, *commands: dict[str, Any], port: int = PORT) -> None:
		"""One more participant without a window, who does `commands` and stays."""
		words = ["--join", f"127.0.0.1:{port}", "--headless", "--name", name]
		other = self.run(
			*words,
			"--camera",
			"pattern",
			"--speaker",
			"none",
			stdin=subprocess.PIPE,
			stdout=subprocess.DEVNULL,
		)
		assert other.stdin is not None
		for command in commands:
			other.stdin.write(json.dumps(command) + "\n")
		other.stdin.flush()

	def picture(self, path: Path) -> None:
		"""The window without its frame as a PNG of few colours; the pointer is not on it."""
		self.hand("mousemove", "0", "0")
		time.sleep(0.7)
		shot = self.directory / "shot.png"
		subprocess.run(["import", "-window", self.id, str(shot)], env=self.environment, check=True)
		with Image.open(shot) as image:
			whole = image.convert("RGB")
		whole.save(path, optimize=True)
		if path.stat().st_size > LARGEST:  # fewer colours, spread so that no shade turns into bands
			colours = whole.quantize(256, Image.Quantize.MEDIANCUT)
			whole.quantize(palette=colours, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
		print(f"{path.name}  {path.stat().st_size} bytes", flush=True)

	def close(self) -> None:
		"""End everybody."""
		for process in reversed(self.started):
			process.terminate()
		for process in self.started:
			process.wait(20)
			if process.stdin:
				process.stdin.close()


@contextlib.contextmanager
def desktop(size: tuple[int, int] = (1280, 800), **settings: Any) -> Iterator[Desktop]:
	"""A display of its own, with these settings remembered."""
	with (
		tempfile.TemporaryDirectory(prefix="screenshots-") as directory,
		xvfb(f"{size[0] + 40}x{size[1] + 80}") as (display, _),
		window_manager({**os.environ, "DISPLAY": display}),
	):
		place = f"{size[0]}x{size[1]}+10+30"  # with room for a frame
		made = Desktop(Path(directory), display, size, {"window": place, **settings})
		try:
			yield made
		finally:
			made.close()


def demo(screen: Desktop, people: int, wait: float, *more: str) -> None:
	"""A demo of `people` with a teacher's name and picture, `wait` seconds old."""
	screen.window(
		"--demo", str(people), "--port", str(PORT), "--name", "Ms Brandt", "--camera", "pattern",
		"--mic", "tone", "--speaker", "none", "--title", "Year 7 Science · The water cycle",
		"--new", *more,
	)  # fmt: skip
	time.sleep(wait)
	screen.hand("key", "ctrl+e")


def stop_share(screen: Desktop) -> None:
	"""The host ends the share of the crowd, so that the grid is to be seen."""
	screen.click(*CLASS)
	screen.hand("key", "Up", "Up", "Down", "Down", "space")  # the third button: Stop the shared screen
	time.sleep(0.5)
	screen.hand("key", "Escape")
	time.sleep(2.5)


def say(screen: Desktop) -> None:
	"""Chat of more people, with emoji, a link and a file."""
	with tempfile.NamedTemporaryFile("wb", suffix=".pdf", dir=screen.directory, delete=False) as file:
		file.write(os.urandom(1_240_000))
	path = Path(file.name).with_name("water-cycle.pdf")
	Path(file.name).rename(path)
	notes = path.with_name("homework for Friday.odt")
	notes.write_bytes(os.urandom(24_000))
	screen.member("Leyla Aydın", {"do": "upload", "path": str(path)}, {"do": "upload", "path": str(notes)},
		{"do": "chat", "text": "My drawing is done 🎨"},
		{"do": "private", "to": "Ms Brandt", "text": "May I present mine next?"},
		{"do": "chat", "text": "It is like https://water.example/cycle 👍"},
		{"do": "camera", "on": True})  # fmt: skip


def started(out: Path) -> None:
	"""The start window with a meeting found, preview and level running."""
	with desktop(name="Zuri Okafor") as screen:
		screen.run("--serve", "--port", str(PORT), "--bind", "127.0.0.1", "--pin", PIN,
			"--title", "Year 7 Science", "--name", "Ms Brandt", stdout=subprocess.DEVNULL)  # fmt: skip
		screen.window("--port", str(PORT), "--bind", "127.0.0.1", "--camera", "pattern", "--mic", "tone",
			"--speaker", "none")  # fmt: skip
		time.sleep(6)
		screen.click(358, 585)
		screen.click(426, 585)
		screen.click(-400, 616)
		screen.hand("type", "4829")
		time.sleep(1.5)
		screen.picture(out / "start.png")


def meeting(out: Path) -> None:
	"""Everything that a meeting of nine shows, one state after the other."""
	with desktop() as screen:
		demo(screen, 7, 9)
		say(screen)
		time.sleep(19)
		screen.picture(out / "screen.png")
		stop_share(screen)
		time.sleep(6)
		screen.picture(out / "meeting.png")
		screen.click(-58, 95)
		screen.picture(out / "files.png")
		screen.press("u")
		screen.picture(out / "attendees.png")
		screen.press("c")
		time.sleep(8)
		screen.picture(out / "chat.png")
		screen.press("2")
		time.sleep(2)
		screen.picture(out / "speaker.png")
		screen.hand("key", "1")
		time.sleep(1)
		screen.point(250, 200)
		time.sleep(0.5)
		screen.hand("key", "p")
		time.sleep(2)
		screen.picture(out / "focus.png")
		screen.click(40, -126)
		time.sleep(1)
		screen.picture(out / "settings.png")
		screen.hand("key", "Escape")
		time.sleep(0.5)
		screen.hand("key", "ctrl+shift+s")
		time.sleep(2)
		screen.picture(out / "share.png")


def variants(name: str, size: tuple[int, int], **settings: Any) -> Callable[[Path], None]:
	"""A grid in another look or size."""

	def take(out: Path) -> None:
		with desktop(size, **settings) as screen:
			demo(screen, 7, 9)
			time.sleep(18)  # until no notice lies on the shared screen
			screen.picture(out / f"{name}.png")

	return take


def fifty(out: Path) -> None:
	"""A meeting of fifty, on pages."""
	with desktop() as screen:
		demo(screen, 49, 40)
		stop_share(screen)
		screen.press("u")
		time.sleep(12)
		screen.picture(out / "fifty.png")


def names(out: Path) -> None:
	"""Names from right to left, and names of 40 characters."""
	with desktop() as screen:
		demo(screen, 3, 8)
		for name in (
			"محمد عبد الله", "שרה כהן", "Maximiliana Wolfeschlegelsteinhausenberg", "अनन्या शर्मा",
		):  # fmt: skip
			screen.member(name, {"do": "chat", "text": f"👋 {name}"}, {"do": "camera", "on": name.isascii()})
		time.sleep(9)
		stop_share(screen)
		screen.press("u")
		time.sleep(7)
		screen.picture(out / "names.png")


def takeover(out: Path) -> None:
	"""A pupil sees the host fail: before, lost, at another computer, the host back, the lesson back."""
	silent = ("--camera", "pattern", "--mic", "none", "--speaker", "none")
	with desktop((960, 600)) as screen, contextlib.ExitStack() as stack:

		def start(name: str, *words: str) -> Headless:
			one = Headless(("--name", name, *words, *silent), screen.directory / name.replace(" ", "-"))
			stack.callback(one.close)
			stack.callback(one.process.kill)
			return one

		teacher = start(
			"Ms Brandt", "--host", "--title", "Year 7 Science", "--port", str(PORT), "--orphan-seconds", "900"
		)
		teacher.wait("joined", 40)
		where = ("--join", f"127.0.0.1:{PORT}")
		ana = start("Ana", *where, "--standby", "yes")
		teacher.wait("stand_by", 30, name="Ana", state="ready")
		for one in (teacher, ana):
			one.send(do="camera", on=True)
		screen.window(*where, "--name", "Ben", "--camera", "none", "--mic", "none", "--speaker", "none")
		ana.wait("join", 30, name="Ben")
		time.sleep(4.0)
		strip: list[Image.Image] = []

		def take(wait: float) -> None:
			time.sleep(wait)
			screen.picture(out / "takeover.png")
			strip.append(Image.open(out / "takeover.png").convert("RGB").resize((480, 300)))

		take(0.0)
		for pid in (RunningMeeting(teacher.home).read()["pid"], teacher.process.pid):
			os.kill(pid, signal.SIGKILL)
		take(0.3)
		ana.wait("reconnected", 20)
		take(2.5)
		again = start("Ms Brandt", "--host")
		again.wait("joined", 40)
		again.send(do="camera", on=True)
		take(3.0)
		again.send(do="hand_over", to="Ms Brandt", rights=False)
		ana.wait("moved", 30, name="Ms Brandt")
		take(2.5)
		film = Image.new("RGB", (480 * 5 + 8 * 4, 300), "white")
		for place, picture in enumerate(strip):
			film.paste(picture, (488 * place, 0))
		film.quantize(128).save(out / "takeover.png", optimize=True)


SHOTS: dict[str, Callable[[Path], None]] = {
	"takeover": takeover,
	"start": started,
	"meeting": meeting,
	"light": variants("light", (1280, 800), palette="light"),
	"small": variants("small", (1024, 600)),
	"double": variants("double", (2560, 1600), scale="200"),
	"fifty": fifty,
	"names": names,
}


def main(arguments: Sequence[str] | None = None) -> int:
	"""Take the named groups of pictures, or all."""
	parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
	parser.add_argument("shots", nargs="*", metavar="NAME", help=", ".join(SHOTS))
	parser.add_argument("--out", type=Path, default=ROOT / "docs")
	options = parser.parse_args(arguments)
	options.out.mkdir(exist_ok=True)
	apart()  # no meeting of anybody else in the pictures
	for name in options.shots or SHOTS:
		SHOTS[name](options.out)
	return 0


if __name__ == "__main__":
	sys.exit(main())
