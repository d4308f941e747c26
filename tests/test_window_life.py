"""The window's meetings: coming in and giving up, leaving, closing, the own meeting that goes on."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import threading
import time
import tkinter as tk
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_call import last
from headless import PROGRAM, ROOT, Headless, environment, free_base
from meetings import LOOPBACK, SILENT, enter, join, serve
from screens import xvfb
from test_window_controls import press
from test_window_meeting import Desk, Start, desk, is_button
from waiting import wait_until
from window_driver import Driver, Open, opened, walk

import connectsphere as cs

if shutil.which("xdotool") is None:
	pytest.skip("needs xdotool", allow_module_level=True)

__all__ = ["desk", "opened"]  # fixtures


class Door:
	"""A meeting whose next joiner is held at a place on the way in."""

	def __init__(self, server: Headless, teacher: Headless, place: Desk, port: int) -> None:
		self.server, self.teacher, self.place, self.port = server, teacher, place, port
		self.join = place.program.join

	@contextlib.contextmanager
	def held(self, where: str) -> Iterator[None]:
		"""While somebody joins: before a link, in front of a host that does not answer, or just in."""
		here, on = threading.Event(), threading.Event()

		def late(*args: Any) -> cs.MeetingController:
			if where == "in":
				controller = self.join(*args)
				here.set()
				on.wait(20)
				return controller
			here.set()
			if where == "looking":
				on.wait(20)
			return self.join(*args)

		self.place.program.join = late  # type: ignore[method-assign, assignment]
		if where == "asking":
			self.server.process.send_signal(signal.SIGSTOP)
		driver = self.place.driver
		driver.start.join_at(f"127.0.0.1:{self.port}", "")
		driver.until(here.is_set, f"{where} is reached")
		driver.until(lambda: driver.start.busy.frame.winfo_ismapped(), "it says so")
		try:
			yield
		finally:
			self.server.process.send_signal(signal.SIGCONT)
			on.set()
			self.place.program.join = self.join  # type: ignore[method-assign]

	def pupils(self) -> int:
		"""How many of the window's user the teacher sees."""
		joins, leaves = (
			len([one for one in self.teacher.seen(what) if "Pupil" in one["name"]])
			for what in ("join", "leave")
		)
		return joins - leaves

	def settle(self) -> None:
		"""Let what was begun come to its end, and the teacher hear of it."""
		tasks = self.place.driver.loop.tasks
		wait_until(lambda: not any(one.is_alive() for one in tasks._threads), 20)
		before = len(self.teacher.seen("users"))
		self.teacher.send(do="users")
		wait_until(lambda: len(self.teacher.seen("users")) > before)


@pytest.fixture
def door(desk: Callable[..., Desk], meeting: Start) -> Door:
	server, port = serve(meeting)
	return Door(server, join(meeting, port, "Teacher"), desk("Pupil"), port)


def busy(driver: Driver) -> bool:
	return bool(driver.start.busy.frame.winfo_ismapped())


PLACES = ("looking", "asking", "in")


def test_who_gives_up_joining_is_not_in_and_joins_once(door: Door) -> None:
	driver = door.place.driver
	for where in PLACES:
		with door.held(where):
			if where == "looking":
				driver.key("Escape")
			else:
				press(driver, driver.start.busy.frame, "Cancel")
			assert not busy(driver) and driver.loop.joining is None
		driver.until(lambda: not any(one.is_alive() for one in driver.loop.tasks._threads), "it has ended")
		driver.pump(0.1)
		door.settle()
		assert driver.loop.view is None and door.pupils() == 0, where
		assert not driver.start.trouble["text"], "one's own wish is no trouble"
	driver.start.join_at(f"127.0.0.1:{door.port}", "")
	driver.until(lambda: driver.loop.view is not None, "in the meeting")
	wait_until(lambda: door.pupils() == 1)
	assert len(door.teacher.seen("users")[-1]["users"]) == 2


def test_another_look_leaves_the_joining_as_it_is(door: Door) -> None:
	driver = door.place.driver
	for where in PLACES:
		with door.held(where):
			driver.start.pin.set("12")
			driver.start.title.entry.insert(0, "8")
			title = driver.start.title.value
			before = driver.start
			driver.loop.restyle()
			assert driver.start is not before and driver.start.pin.value == "12"
			assert driver.start.title.value == title
			driver.until(lambda: busy(driver), "the new window says what goes on, too")
			driver.start.join_at(f"127.0.0.1:{door.port}", "")  # nothing: it is under way
		driver.until(lambda: driver.loop.view is not None, "the result comes to the new window")
		wait_until(lambda: door.pupils() == 1)
		driver.view.actions.leave()
		driver.pump(0.1)
		wait_until(lambda: door.pupils() == 0)


@pytest.mark.parametrize("where", PLACES)
def test_who_closes_the_window_while_joining_is_not_in(door: Door, where: str) -> None:
	with door.held(where):
		door.place.driver.loop.stop()
	door.settle()
	wait_until(lambda: door.pupils() == 0)


def press_x(driver: Driver) -> None:
	"""What a window manager asks for at the button of the title bar."""
	driver.root.tk.eval(driver.root.protocol("WM_DELETE_WINDOW"))
	driver.pump(0.1)


def question(driver: Driver) -> str:
	"""The title of the dialog that has the keyboard."""
	grabbed = driver.root.grab_current()
	labels = [one for one in driver.root.winfo_children() if one is grabbed]
	return next((str(one["text"]) for top in labels for one in walk(top) if isinstance(one, tk.Label)), "")


def occupied(what: str, driver: Driver) -> None:
	"""The user is at something in the meeting."""
	view = driver.view
	doing: dict[str, Callable[[], object]] = {
		"nothing": lambda: None,
		"settings": view.settings,
		"sharing": view.actions.share,
		"inviting": view.actions.invite,
		"leaving": view.actions.ask_leave,
		"writing": view.chat.composer.entry.focus_set,
	}
	doing[what]()
	driver.pump(0.1)


def test_the_title_bar_asks_what_escape_asks(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True)
	for what in ("nothing", "settings", "sharing", "inviting", "leaving", "writing"):
		occupied(what, driver)
		press_x(driver)
		assert question(driver) == "Leave the meeting", what
		assert driver.loop.view is not None and not call.commands[-1]["do"].startswith(("leave", "end")), what
		press(driver, driver.view.dialog.frame, "Stay")  # type: ignore[union-attr]
		assert driver.root.grab_current() is None and driver.loop.view is not None, what


@pytest.mark.parametrize(
	("host", "answer", "closes"),
	[(False, "Leave", True), (True, "End for all", True), (True, "Leave", False)],
)
def test_the_window_closes_with_the_meeting_unless_that_goes_on(
	opened: Open, host: bool, answer: str, closes: bool
) -> None:
	driver = opened(start=False)
	call = driver.meet(host=host)
	press_x(driver)
	button = next(w for w in walk(driver.view.dialog.frame) if is_button(w, answer))  # type: ignore[union-attr]
	driver.hand("mousemove", *(str(at + 12) for at in (button.winfo_rootx(), button.winfo_rooty())))
	driver.hand("click", "1")
	with contextlib.suppress(tk.TclError):
		driver.until(lambda: driver.loop.view is None, "the meeting is left")
		driver.pump(0.2)
	assert driver.closed == closes
	assert last(call, "end" if answer == "End for all" else "leave")


def file_dialogs(driver: Driver) -> dict[str, Callable[[], object]]:
	actions = driver.view.actions
	share = cs.ShareDialog(driver.view, actions._share)
	share.close()
	return {"upload": actions.upload, "save": actions.save_chat, "share": share._choose_file}


@pytest.mark.parametrize("end", ["the meeting", "the window"])
@pytest.mark.parametrize("what", ["upload", "save", "share"])
def test_a_file_dialog_outlives_what_it_was_for(
	opened: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str, end: str
) -> None:
	driver = opened(start=False)
	call = driver.meet()
	chosen = tmp_path / "chosen.txt"

	def ask(**_: Any) -> str:  # the system's dialog, in whose own loop the meeting goes on
		if end == "the window":
			driver.loop.stop()
		else:
			call.gui_queue.put({"event": "ended", "reason": "The host ended the meeting."})
			driver.until(lambda: driver.loop.view is None, "the end")
		return str(chosen)

	for name in ("askopenfilename", "asksaveasfilename"):
		monkeypatch.setattr(cs.filedialog, name, ask)
	before = len(call.commands)
	file_dialogs(driver)[what]()
	assert not chosen.exists()
	assert not [one for one in call.commands[before:] if one["do"] in ("upload", "share")]


def test_closing_takes_every_dialog_along(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()
	driver.view.settings("video")
	driver.pump(0.2)
	driver.loop.stop()
	names = lambda: [one.name for one in threading.enumerate() if one.name.startswith("tile-painter")]  # noqa: E731
	wait_until(lambda: not names())


@pytest.mark.skipif(shutil.which("openbox") is None, reason="needs openbox")
def test_the_button_of_a_real_title_bar_asks(meeting: Start, tmp_path: Path) -> None:
	base = free_base()
	with xvfb("1366x768") as (name, _), contextlib.ExitStack() as stack:
		env = {**environment(tmp_path / "host"), "DISPLAY": name}
		(tmp_path / "host").mkdir()

		def run(*words: str) -> subprocess.Popen[bytes]:
			process = subprocess.Popen(words, env=env, cwd=ROOT, stdout=subprocess.DEVNULL)
			stack.callback(process.wait, 10)
			stack.callback(process.terminate)
			return process

		def hand(*words: str) -> str:
			done = subprocess.run(["xdotool", *words], env=env, check=False, text=True, capture_output=True)
			return done.stdout

		run("openbox")
		window = run(
			*PROGRAM, "--host", "--bind", LOOPBACK, "--port", str(base), "--name", "Teacher", *SILENT
		)
		wait_until(lambda: cs.tcp_answers((LOOPBACK, base)), 30)
		pupil = enter(meeting, base, "Pupil")
		pupil.wait("joined", timeout=30)
		wait_until(lambda: hand("search", "--onlyvisible", "--name", "^ConnectSphere$"), 20)
		wait_until(lambda: "Teacher" in str(pupil.seen("users")[-1:]), 20)
		keys = "key", "ctrl+shift+m"  # heard once the window shows the meeting; before, X gives up joining
		wait_until(lambda: hand(*keys) or pupil.seen("permissions", what=lambda may: not may["mic"]), 20)
		hand("mousemove", "1355", "10", "click", "1")  # openbox loses one Alt+F4 of ten on a busy machine
		time.sleep(1.5)
		assert window.poll() is None and not pupil.seen("leave") and not pupil.seen("ended")
		hand("key", "Return")  # Leave: the others go on
		pupil.wait("leave", timeout=15, name="Teacher")
		window.send_signal(signal.SIGTERM)  # the system's word is not questioned
		pupil.wait("ended", timeout=15)
		assert window.wait(10) == 0
