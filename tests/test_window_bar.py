"""The small bar over the desktop while that is shared, on a desktop with a window manager."""

from __future__ import annotations

import contextlib
import shutil
import time
import tkinter as tk
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_call import last
from hand import HANDS, Hand
from screens import desktop
from test_window_class import words
from test_window_controls import press
from window_driver import Driver, Open, opened, walk, written

import connectsphere as cs

__all__ = ["opened"]  # a fixture

LACKING = [tool for tool in ("Xvfb", "openbox", "xdotool", "xprop") if shutil.which(tool) is None]
pytestmark = [
	pytest.mark.skipif(bool(LACKING), reason=f"needs {', '.join(LACKING)}"),
	pytest.mark.xdist_group("desktop"),
]


@pytest.fixture(scope="session")  # Tk keeps its connection: it may not end before
def screen() -> Iterator[str]:
	"""A teacher's screen with a task bar."""
	with desktop("1366x768") as name:
		root = tk.Tk(screenName=name)
		root.update()  # its connection stays
		root.destroy()
		HANDS[name] = Hand(name)
		yield name
		HANDS.pop(name).close()


def share(driver: Driver, source: str) -> None:
	"""Share it, by the dialog's word."""
	names = {"screen:1": cs.Words("Screen {number}", number=2)}
	driver.view.actions._share("", source, names.get(source, Path(source).name))
	driver.until(lambda: driver.view.shot.presenter == driver.view.shot.me, "it is shared")
	driver.pump(0.3)


def said(driver: Driver) -> list[str]:
	"""What the bar over the desktop says, from left to right."""
	assert driver.view.bar is not None
	found = [(one.winfo_rootx(), line) for one in walk(driver.view.bar.window) for line in written(one)]
	return [line for _, line in sorted(found)]


def test_a_bar_over_the_desktop_takes_the_place_of_the_window(opened: Open) -> None:
	driver = opened("", start=False)
	call = driver.meet(5, host=True)
	share(driver, "screen:1")
	driver.until(lambda: driver.root.state() == "iconic", "the window is out of the way")
	view = driver.view
	words = ["Everyone sees Screen 2", "Hands: 1", "Chat 0", "Mute", "Pause", "Stop share"]
	assert said(driver) == words and view.bar is not None
	bar = view.bar.window
	assert bar.winfo_y() == 0 and bar.winfo_viewable()
	line = cs.ChatLine(90, "Jonas Weber", "PRIVATE WORDS", time.time(), "Mr Lewis")
	call.change(
		chat=(*call.snapshot().chat, line, cs.ChatLine(91, "Mr Lewis", "mine", time.time(), own=True))
	)
	driver.until(lambda: "Chat 1" in said(driver), "one is new")
	assert "PRIVATE" not in "".join(said(driver)) and view.shot.pin not in "".join(said(driver))
	press(driver, bar, "Pause")
	assert last(call, "pause") == {"do": "pause", "on": True}
	call.change_person(1, paused=True)
	driver.until(lambda: said(driver)[0] == "Paused", "it is paused")
	press(driver, bar, "Resume")
	assert last(call, "pause") == {"do": "pause", "on": False}
	x, y = bar.winfo_x(), bar.winfo_y()
	driver.hand(
		"mousemove", str(x + 20), str(y + 15), "mousedown", "1", "mousemove", str(x - 40), str(y + 105)
	)
	driver.hand("mouseup", "1")
	driver.until(lambda: (bar.winfo_x(), bar.winfo_y()) == (x - 60, y + 90), "it is dragged away")
	press(driver, bar, "Chat 1")
	driver.until(lambda: driver.root.state() != "iconic" and view.reading(), "the window with the messages")
	driver.until(lambda: "Chat 0" in said(driver), "they are read")
	assert bar.winfo_viewable(), "it is still shared"
	driver.root.iconify()
	driver.pump(0.3)
	press(driver, bar, "Stop share")
	assert last(call, "share") == {"do": "share", "on": False}
	driver.until(lambda: view.bar is None and driver.root.state() != "iconic", "the window is back")


@pytest.mark.parametrize(("typing", "presenter"), [(False, 0), (True, 0), (False, 3)])
def test_full_screen_is_the_picture_alone(opened: Open, typing: bool, presenter: int) -> None:
	driver = opened("", start=False)
	call = driver.meet(5)
	view, root, stage = driver.view, driver.root, driver.view.stage.canvas
	bars = view.side.frame, view.top.frame, view.panel.frame
	place = lambda one: (one.winfo_rootx(), one.winfo_rooty(), one.winfo_width(), one.winfo_height())  # noqa: E731
	driver.until(lambda: all(bar.winfo_ismapped() for bar in bars), "bars and panel")
	before = place(stage)
	if typing:  # the key is no text
		driver.click(view.chat.composer.entry)
	driver.key("F11")
	driver.until(lambda: place(stage) == (0, 0, 1366, 768), "all of the screen, task bar included")
	assert not any(bar.winfo_ismapped() for bar in bars)
	call.change(presenter=presenter)
	shown = {"screen"} if presenter else {1, 2, 3, 4, 5}
	driver.until(lambda: view.stage.tiles.keys() == shown, "nobody beside what is shared")
	call.change(presenter=0)
	driver.until(lambda: stage.winfo_containing(683, 767) is stage, "nothing lies over it")
	driver.key("Escape")
	driver.until(lambda: place(stage) == before and all(bar.winfo_ismapped() for bar in bars), "as before")
	assert not root.attributes("-fullscreen") and driver.loop.view is view and not view.chat.composer.text()


def test_a_shared_file_leaves_the_window_where_it_is(opened: Open) -> None:
	driver = opened("", start=False)
	driver.meet(5, host=True)
	share(driver, "/home/film.mp4")
	assert driver.root.state() != "iconic" and driver.view.bar is None
	assert "Everyone sees film.mp4" in words(driver)


def test_the_bar_over_the_desktop_goes_with_the_meeting(opened: Open) -> None:
	driver = opened("", start=False)
	call = driver.meet(5, host=True)
	share(driver, "window:77")
	assert said(driver)[0] == "Everyone sees window:77"
	call.gui_queue.put({"event": "ended", "reason": "The host ended the meeting."})
	driver.until(lambda: driver.loop.start is not None, "the start window")
	driver.until(lambda: driver.root.state() != "iconic", "in sight")
	assert not any(isinstance(one, tk.Toplevel) and one.winfo_viewable() for one in walk(driver.root))


@pytest.mark.parametrize("event", ["knock", "hand", "private", "none"])
def test_whoever_waits_for_an_answer_is_seen_in_the_task_bar(opened: Open, event: str) -> None:
	"""While another program is in front; a notice that asks for nothing disturbs nobody."""
	driver = opened("", start=False)
	call = driver.meet(5, host=True)
	told = {
		"knock": {"n": 1, "name": "Tim", "address": "192.168.1.9", "why": "knock"},
		"hand": {"event": "state", "id": 3, "name": "Jonas Weber", "hand": True, "raised": True},
		"private": {"from": "Jonas Weber", "text": "May I?", "n": 99, "to": "Mr Lewis"},
		"none": {"event": "muted", "by": "Jonas Weber", "id": 3},
	}[event]

	def asks() -> bool:
		with contextlib.closing(cs._XDesktop()) as desk:
			(outer,) = [
				one for one in desk._words(desk._root, "_NET_CLIENT_LIST") if desk.title(one) == cs.APP_NAME
			]
			return desk._atom("_NET_WM_STATE_DEMANDS_ATTENTION") in desk._words(outer, "_NET_WM_STATE")

	def tell() -> None:
		call.gui_queue.put({"event": event, **told})
		driver.until(lambda: driver.view.toasts._toasts, "the notice")
		driver.pump(0.3)

	driver.until(driver.view.in_front, "the window is in front")
	if event != "private":  # which is being read
		tell()
		assert not asks()
		driver.view.toasts._toasts.clear()
	other = tk.Tk()
	try:
		driver.until(lambda: other.focus_force() or not driver.view.in_front(), "another is in front")  # type: ignore[func-returns-value]
		tell()
		assert asks() is (event != "none")
	finally:
		other.destroy()
