"""The steps that a teacher and a pupil need for what they do in every lesson, counted at the real window.

A step is a click, a double click, a key or a field that is typed into. Elsewhere the same takes as many
or more, known from the programs that schools use for it: `ELSEWHERE`.
"""

from __future__ import annotations

import tkinter as tk
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_call import last
from test_window_controls import over
from window_driver import Driver, Open, middle, opened, walk, written

import connectsphere as cs

__all__ = ["opened"]  # a fixture

ELSEWHERE = {  # the fewest of a video meeting's or a classroom's program
	"host": 1,
	"host, called otherwise": 2,
	"invite": 1,
	"mute all, and keep it, by mouse": 3,
	"mute all, and keep it, by key": 1,
	"give the word to who raised a hand": 1,
	"a word to one in private": 2,
	"hand out a file": 2,
	"hand in what is collected": 2,
	"share": 2,
	"take over": 2,
	"ask for a pupil's screen": 1,
	"show somebody large to all": 2,
	"remove": 3,
	"end for all": 2,
	"another language": 3,
}


class Steps:
	"""Hands that count what they do."""

	def __init__(self, driver: Driver):
		self.driver, self.count, self.folder = driver, 0, ""

	def click(self, where: tk.Misc | str, words: str = "") -> None:
		"""Click a widget, or the one in it that shows these words."""
		self.count += 1
		self.driver.pump(0.05)
		found = [one for one in walk(where) if words in written(one)] if words else [where]  # type: ignore[arg-type]
		self.driver.click(found[0])  # type: ignore[arg-type]

	def spot(self, view: Any, name: str) -> None:
		"""Click what a painted list offers."""
		self.count += 1
		self.driver.spot(view, name)

	def twice(self, view: Any, name: str) -> None:
		"""A double click there."""
		self.count += 1
		self.driver.until(lambda: name in view.actions, name)
		x, y = middle(view, name)
		at = str(view.canvas.winfo_rootx() + x), str(view.canvas.winfo_rooty() + y)
		self.driver.hand("mousemove", *at, "click", "--repeat", "2", "--delay", "40", "1")
		self.driver.pump(0.1)

	def tile(self, number: int, icon: str) -> None:
		"""Click the small button of somebody's tile."""
		over(self.driver, number)
		self.spot(self.driver.view.stage, f"hover:{icon}")

	def entry(self, words: str, *keys: str) -> None:
		"""Choose an entry of the open menu: one click by mouse; here by keys, of which these come first."""
		self.count += 1
		self.driver.key(*keys) if keys else None
		self.driver.menu(words)

	def key(self, key: str) -> None:
		self.count += 1
		self.driver.key(key)

	def type(self, words: str) -> None:
		"""Type a field's words, and Enter."""
		self.count += 1
		self.driver.type(words, "Return")

	def file(self, path: Path) -> Callable[..., str]:
		"""The system's dialog: a double click on a file in the folder that it shows."""

		def choose(*_: object, initialdir: str = "") -> str:
			self.count += 1
			self.folder = initialdir
			return str(path)

		return choose

	def dialog(self) -> Any:
		"""The dialog that has come, which has the keyboard."""
		self.driver.until(lambda: self.driver.root.grab_current(), "the dialog")
		self.driver.pump(0.05)
		return self.driver.view.dialog


def test_hosting_takes_one_click_and_a_title_that_is_typed_one_more(opened: Open) -> None:
	for name, title, said in (("host", "", "Physics"), ("host, called otherwise", " 8a", "Physics 8a")):
		driver = opened("1366x768", title="Physics")
		hands, start = Steps(driver), driver.start
		if title:
			hands.click(start.title.entry)
			driver.type(title)
		hands.click(start.right, "Host a meeting")
		driver.until(lambda: driver.loop.view is not None, "the meeting")  # noqa: B023
		assert [call[1:] for call in driver.backend.calls if call[0] == "host"] == [
			("Zuri Okafor", said, "auto")
		]
		assert hands.count <= ELSEWHERE[name]


def test_no_step_more_than_elsewhere(opened: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(9, host=True)
	view, sheet = driver.view, tmp_path / "Sheet 3.pdf"
	hands = Steps(driver)
	monkeypatch.setattr(cs, "asked_path", hands.file(sheet))

	def share() -> None:
		hands.click(view.side.buttons["share"].canvas)
		dialog = hands.dialog()
		driver.until(lambda: dialog.found, "the screens")
		driver.pump(0.1)
		hands.twice(dialog.cards, "share:screen:0")

	def did(name: str, done: dict[str, Any]) -> None:
		"""It was done, in no more steps than elsewhere; the next thing begins anew."""
		assert last(call, done["do"]) == done, name
		assert hands.count <= ELSEWHERE[name], (name, hands.count)
		call.commands.clear()
		hands.count = 0

	hands.click(view.side.buttons["host"].canvas)
	assert view.card is not None
	hands.spot(view.card.list, "mic")
	quiet = {"do": "permit", "what": "mic", "on": False}
	did("mute all, and keep it, by mouse", quiet)
	driver.key("Escape")
	hands.key("ctrl+shift+m")
	did("mute all, and keep it, by key", quiet)
	call.change(rules=cs.Rules(["mic"]))
	driver.pump(0.1)
	driver.key("ctrl+shift+m")
	assert last(call, "permit") == {**quiet, "on": True}, "and again they may"

	hands.tile(3, "chat")
	assert view.chat.composer.target.value == "Jonas Weber"
	hands.type("Page 4, please")
	did("a word to one in private", {"do": "private", "to": "Jonas Weber", "text": "Page 4, please"})
	hands.tile(3, "share")
	did("ask for a pupil's screen", {"do": "ask_share", "who": "Jonas Weber"})
	hands.tile(3, "more")
	hands.entry("Show to everyone")
	did("show somebody large to all", {"do": "spotlight", "who": "Jonas Weber"})
	view.chat.composer.to("")

	buttons = [one for one in walk(view.chat.composer.frame) if isinstance(one, tk.Canvas)]
	hands.click(buttons[4])  # the clip
	did("hand out a file", {"do": "hand_out", "path": str(sheet)})
	view.show_panel("messages")
	hands.key("ctrl+o")
	did("hand out a file", {"do": "hand_out", "path": str(sheet)})

	for name, presenter in (("share", 0), ("take over", 3)):
		call.change(presenter=presenter)
		driver.pump(0.2)
		share()
		did(name, {"do": "share", "on": True, "source": "screen:0"})
		call.change(presenter=0)
		driver.until(lambda: driver.root.state() == "normal", "the window is back")
		driver.pump(0.2)

	call.change_person(4, hand=1.0)
	driver.pump(0.2)
	driver.click(view.stage.canvas, 5, 5)
	hands.key("n")
	did("give the word to who raised a hand", {"do": "word", "to": "Amira Hassan"})
	hands.tile(3, "more")
	hands.entry("Remove from the meeting…", "Up")
	hands.click(hands.dialog().frame, "Remove from the meeting")
	did("remove", {"do": "remove", "who": "Jonas Weber"})

	hands.click(view.top.pin.canvas)
	assert isinstance(hands.dialog(), cs.InvitationDialog) and hands.count <= ELSEWHERE["invite"]
	driver.key("Escape")
	hands.count = 0

	hands.click(view.side.buttons["settings"].canvas)
	hands.click(hands.dialog().frame, "Language")
	hands.click(hands.dialog().frame, "Español")
	assert cs.tr.language == "es" and hands.count <= ELSEWHERE["another language"]
	driver.key("Escape")
	view.rebuild(driver.loop.look)
	hands.count = 0
	hands.click(view.side.buttons["leave"].canvas)
	hands.click(hands.dialog().frame, cs.tr("End for all"))
	did("end for all", {"do": "end"})


def test_a_pupil_hands_in_from_the_folder_of_the_sheet(
	opened: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
	driver = opened("1366x768", start=False)
	sheet = cs.FileEntry(
		"f9", "Sheet 3.pdf", 9, "Mr Lewis", state="saved", path=str(tmp_path / "Sheet 3.pdf")
	)
	call = driver.meet(9, files=(sheet,), rules=cs.Rules(collecting="Fractions"))
	hands, work = Steps(driver), str(tmp_path / "work.pdf")
	monkeypatch.setattr(cs, "asked_path", hands.file(tmp_path / "work.pdf"))
	driver.until(driver.view.notice.frame.winfo_ismapped, "the bar")
	hands.click(driver.view.notice.frame, "Hand in")
	assert last(call, "hand_in") == {"do": "hand_in", "path": work} and hands.folder == str(tmp_path)
	assert hands.count <= ELSEWHERE["hand in what is collected"]
	driver.view.show_panel("messages")
	driver.key("ctrl+o")
	assert call.commands[-1] == {"do": "hand_in", "path": work}, (
		"beside a message to all it is no less private"
	)
	driver.view.actions.write_to("Jonas Weber")
	driver.key("ctrl+o")
	assert last(call, "upload") == {"do": "upload", "path": work, "to": "Jonas Weber"} and not hands.folder


def test_who_may_not_be_written_to_is_not_offered_so(opened: Open) -> None:
	driver = opened("1366x768", start=False)
	driver.meet(9, rules=cs.Rules(["private"]))
	for number, offered in ((3, False), (1, True)):
		over(driver, number)
		assert ("hover:chat" in driver.view.stage.actions) is offered
