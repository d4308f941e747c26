"""A lesson step by step through the real windows of a teacher and a pupil, among 28 others.

Each window is on a desktop with a window manager. With LESSON_PICTURES=DIRECTORY both are photographed at
each step, to be looked at.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from headless import PROGRAM, ROOT, Headless, environment
from screens import window_manager, xvfb
from test_window_bar import LACKING, screen
from test_window_class import card, words
from test_window_controls import press
from test_window_meeting import LONG, Desk, Start, answered, desk, hosted, pupil, until
from test_window_steps import Steps

import connectsphere as cs

__all__ = ["desk", "screen"]  # fixtures

pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"needs {', '.join(LACKING)}")


def code(driver: Any, one: Headless, **command: Any) -> str:
	"""With which a pupil's command is refused; "" where it is done."""
	ref = f"r{len(one.events)}"
	one.send(**command, ref=ref)
	driver.until(
		lambda: [event for event in one.events if event.get("ref") == ref], f"answer to {command}", LONG
	)
	found = next(event for event in one.events if event.get("ref") == ref)
	return str(found["code"]) if found["event"] == "error" else ""


class Screen:
	"""A pupil's window: the program on a display of its own, with mouse and keyboard."""

	def __init__(self, display: str, home: Path, *arguments: str) -> None:
		self.env = {**environment(home, {"DISPLAY": display}), "HOME": str(home)}
		self.process = subprocess.Popen([*PROGRAM, *arguments], cwd=ROOT, env=self.env)

	def hand(self, *words: str) -> None:
		"""One xdotool command."""
		subprocess.run(["xdotool", *words], env=self.env, check=True, timeout=10)

	def close(self) -> None:
		self.process.terminate()
		self.process.wait(20)


@pytest.fixture
def zoe(tmp_path: Path) -> Iterator[Callable[..., Screen]]:
	"""Starts the pupil's window."""
	with xvfb("1280x720") as (display, _), contextlib.ExitStack() as ends:
		ends.enter_context(window_manager({**os.environ, "DISPLAY": display}))
		(tmp_path / "zoe").mkdir()

		def start(*arguments: str) -> Screen:
			made = Screen(display, tmp_path / "zoe", *arguments)
			ends.callback(made.close)
			return made

		yield start


@contextlib.contextmanager
def crowd(port: int, names: list[str]) -> Iterator[subprocess.Popen[bytes]]:
	"""Light participants with moving pictures."""
	command = [sys.executable, str(ROOT / "tests" / "pupils.py"), "127.0.0.1", str(port), *names]
	pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
	env = {**os.environ, "PUPIL_CARDS": "2"}  # else those who came first say nothing for too long
	with subprocess.Popen(command, env=env, **pipes) as process:  # type: ignore[call-overload]
		yield process
		process.kill()


def photographs(driver: Any, pupil: Screen) -> Callable[[str], None]:
	"""Takes both windows, if somebody wants to look at them."""
	folder = os.environ.get("LESSON_PICTURES", "")

	def take(name: str) -> None:
		driver.pump(0.3 if folder else 0.0)
		for who, env in (("teacher", dict(os.environ)), ("pupil", pupil.env)) if folder else ():
			path = Path(folder) / f"{name}-{who}.png"
			subprocess.run(["import", "-window", "root", str(path)], env=env, check=True)

	return take


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_lesson(
	desk: Callable[..., Desk],
	meeting: Start,
	tmp_path: Path,
	zoe: Callable[..., Screen],
	monkeypatch: pytest.MonkeyPatch,
) -> None:
	"""What a teacher did in the lesson that was played first, and tripped over."""
	place = desk("Ms Alvarez", size="")
	place.program.set_setting("ask_pin", False)
	driver = hosted(place)
	others = [f"Pupil {number:02}" for number in range(25)]
	with crowd(place.port, others) as light:
		play(driver, place, meeting, zoe, monkeypatch, light, tmp_path)


def play(
	driver: Any,
	place: Desk,
	meeting: Start,
	zoe: Callable[..., Screen],
	monkeypatch: pytest.MonkeyPatch,
	light: subprocess.Popen[bytes],
	tmp_path: Path,
) -> None:
	"""The lesson."""
	view = driver.view
	driver.until(lambda: len(view.shot.people) == 26, "the crowd", LONG)

	# a PIN for whoever comes now, from the card of the class
	driver.spot(card(driver), "new_pin")
	driver.until(lambda: f"PIN {cs.spaced_pin(view.shot.pin)}" in words(driver) and view.shot.pin, "it", LONG)
	driver.key("Escape")
	where = ("--join", f"127.0.0.1:{place.port}", "--pin", view.shot.pin)
	silent = ("--camera", "pattern", "--mic", "none", "--speaker", "none")
	window = zoe(*where, "--name", "Zoë", *silent)
	ana, ben, cleo = (pupil(meeting, driver, place.port, name) for name in ("Ana", "Ben", "Cleo"))
	driver.until(lambda: len(view.shot.people) == 30, "Zoë's window", LONG)
	take = photographs(driver, window)

	# who of the class is missing is named
	names = tmp_path / "7b.txt"
	names.write_text("Ana\nZoë\nLiam O'Brien\n", "utf-8")
	with monkeypatch.context() as patch:
		patch.setattr(cs, "asked_path", lambda *_, **__: str(names))
		view.run("names")
	driver.until(lambda: "Missing: 1" in words(driver) and "Liam O'Brien" in words(driver), "the list")
	take("1-who")

	# the title bar's X asks, as Escape does; the lesson goes on
	driver.click(driver.root, driver.root.winfo_width() - 11, -10)
	driver.until(lambda: view.dialog is not None and view.dialog.open, "the question")
	driver.key("Escape")
	driver.until(lambda: view.dialog is not None and not view.dialog.open, "she stays")
	assert driver.loop.view is view

	# letters are words, never commands
	driver.view.show_panel("messages")
	answered(
		driver,
		ana,
		lambda: driver.type("sharing musters hush", "Return"),
		"chat",
		text="sharing musters hush",
	)
	assert not view.shot.presenter and not view.shot.wants("mic")
	window.hand("type", "--delay", "5", "harder than it looks")
	window.hand("key", "Return")
	driver.until(lambda: view.shot.chat[-1].text == "harder than it looks", "the pupil's words", LONG)
	assert not any(one.hand or one.mic for one in view.shot.people if one.name == "Zoë")
	take("2-chat")

	# quiet, a hand, the word by one key; whoever has not got it is not heard
	driver.spot(card(driver), "mute_all")
	driver.key("Escape")
	driver.command("a")  # keep them so
	until(driver, ben, "permissions")
	driver.until(lambda: "mic" in view.shot.rules.off, "only with the word", LONG)
	assert code(driver, ben, do="mic", on=True) == "no_word"
	ana.send(do="hand", up=True)
	driver.until(lambda: [one.name for one in view.shot.hands] == ["Ana"], "the hand", LONG)
	driver.click(view.stage.canvas)
	answered(driver, ana, lambda: driver.key("n"), "permissions", word="Ana")
	assert code(driver, ana, do="mic", on=True) == ""
	window.hand("key", "Escape")
	driver.pump(0.3)
	window.hand("key", "m")  # asks to speak
	driver.until(lambda: [one.name for one in view.shot.hands] == ["Zoë"], "the pupil's hand", LONG)
	view.show_panel("attendees")
	take("3-quiet")
	answered(driver, ana, lambda: driver.spot(view.attendees.list, "lower"), "state", name="Zoë", hand=False)

	# one is shown to everyone; her camera is off, and asked for by one click
	ben_now = next(one for one in view.shot.people if one.name == "Ben")
	driver.entries(ben_now.id)["Show to everyone"]()
	driver.until(lambda: "Ben: The camera is off" in words(driver), "the line", LONG)
	take("4-star")
	answered(driver, ben, lambda: press(driver, view.notice.frame, "Ask"), "asked", to="camera")
	view.act("spotlight", who=None)

	# work comes in by pupil, and who is missing is named
	sheet = tmp_path / "Sheet 3.pdf"
	sheet.write_bytes(b"exercise 3" * 1_000)
	view.show_panel("messages")
	with monkeypatch.context() as patch:
		asked: list[bool] = []
		patch.setattr(cs, "asked_path", lambda *_, **__: asked.append(True) or str(sheet))  # type: ignore[func-returns-value]
		# under load, a window manager may lose a key
		driver.until(lambda: asked or driver.key("ctrl+o"), "she is asked for a file", LONG)
	until(driver, ana, "file_saved")
	assert Path(ana.seen("file_saved")[0]["path"]).read_bytes() == sheet.read_bytes(), "without a question"
	view.act("collect", open=True, title="Fractions")
	until(driver, ana, "collecting", title="Fractions")
	work = tmp_path / "Worksheet.pdf"
	work.write_bytes(b"solved" * 10_000)
	ana.send(do="hand_in", path=str(work))
	until(driver, ana, "handed_in")
	view.show_panel("files")
	rows = view.files.list
	late = [one.name for one in view.shot.people if one.name not in ("Ms Alvarez", "Ana")]
	missing = f"Missing: {', '.join(late)}"
	driver.until(lambda: any(getattr(row, "words", "") == missing for row in rows.rows), "who", LONG)
	take("5-work")
	(kept,) = place.program.downloads().glob("*Physics*/Ana/Worksheet.pdf")
	assert kept.read_bytes() == work.read_bytes()

	# sharing: the window makes way, pupils keep the last picture of a pause
	driver.key("ctrl+shift+s")
	driver.until(lambda: getattr(view.dialog, "found", None), "the screens", LONG)
	cards, screen = view.dialog.cards, "share:screen:0"
	answered(driver, ben, lambda: Steps(driver).twice(cards, screen), "screen_start", name="Ms Alvarez")
	driver.until(lambda: view.bar is not None and driver.root.state() == "iconic", "the bar", LONG)
	assert view.bar is not None
	bar = view.bar.window
	take("6-share")
	answered(driver, ben, lambda: press(driver, bar, "Pause"), "state", name="Ms Alvarez", paused=True)
	answered(driver, ben, lambda: press(driver, bar, "Stop share"), "screen_stop")
	driver.until(lambda: driver.root.state() != "iconic", "the window is back", LONG)

	# who drops out keeps the place, and the list says so
	cleo.process.kill()
	driver.until(lambda: view.attendees.gone.get("Cleo"), "Cleo is lost", LONG)
	(table,) = place.program.downloads().glob("*Physics.csv")
	driver.until(
		lambda: all(name in table.read_text("utf-8-sig") for name in ("Ana", "Ben", "Cleo")), "the list"
	)

	# where most drop out at once she reads that it is her own cable
	light.kill()
	driver.until(lambda: "people lost the connection: look at this computer" in words(driver), "it", LONG)
	take("7-lost")

	# the end is for all, and asked once
	view.actions.ask_leave()
	driver.until(lambda: view.dialog is not None and view.dialog.open, "the question")
	assert isinstance(view.dialog, cs.ConfirmDialog)
	answered(driver, ben, lambda: press(driver, view.dialog.frame, "End for all"), "ended")  # type: ignore[union-attr]
	driver.until(lambda: driver.loop.start is not None, "the start window", LONG)
	assert shutil.which("openbox")
