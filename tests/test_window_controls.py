"""Every button, menu, key and dialog of the window, driven by a hand on the display, and what it sends."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import shutil
import sys
import threading
import time
import tkinter as tk
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from fake_call import FakeBackend, ad, last, sent
from PIL import ImageColor
from waiting import cheap
from window_driver import PATIENCE, Driver, Open, middle, opened, overlaps, tops, walk, written

import connectsphere as cs

if shutil.which("xdotool") is None:
	pytest.skip("needs xdotool", allow_module_level=True)

__all__ = ["opened"]  # a fixture


def pick_file(driver: Driver, path: Path) -> None:
	"""Type a path into Tk's own file dialog once it stands.

	It waits in a loop of its own, in which only timers run: they type, and close what was not answered.
	"""
	words = ("key", "ctrl+slash"), ("type", "--delay", "1", str(path)), ("key", "Return")
	hands: list[threading.Thread] = []
	end = time.monotonic() + PATIENCE

	def step() -> None:
		if time.monotonic() > end:
			driver.root.tk.call("set", "::tk::Priv(selectFilePath)", "")
			return
		if not hands and "__tk_filedialog" in str(driver.root.tk.call("focus")):
			hands.append(driver.begin(*words))
		if not hands or hands[0].is_alive() or "__tk_filedialog" in str(driver.root.tk.call("focus")):
			driver.root.after(50, step)

	driver.root.after(50, step)
	driver.until(lambda: hands and not hands[0].is_alive(), "the path is typed", PATIENCE + 1)
	driver.pump(0.2)


def over(driver: Driver, key: int | str) -> tuple[int, int]:
	"""Rest the mouse on a tile; where its middle is on the stage."""
	stage = driver.view.stage
	x, y, wide, tall = stage.tiles[key].box
	canvas = stage.canvas
	at = canvas.winfo_rootx() + x + wide // 2, canvas.winfo_rooty() + y + tall // 2
	driver.hand("mousemove", str(at[0]), str(at[1]))
	driver.until(lambda: stage.hover.under == key, "the mouse is seen over the tile")
	return x + wide // 2, y + tall // 2


# -- the start window -----------------------------------------------------------------


def test_start_previews_and_tests_devices(opened: Open) -> None:
	driver = opened()
	start, calls = driver.start, driver.backend.calls
	for what, on in (("camera", (True, False)), ("mic", (True, True))):
		driver.spot(start.preview, f"preview:{what}")
		assert calls[-1] == ("preview", *on)
	driver.until(lambda: start.meter._lit > 0, "the level")
	driver.until(lambda: start.preview.own.painted[0] > 0, "a picture")
	press(driver, start.speaker.frame, "Play a test")
	assert ("test_speaker",) in calls
	driver.click(start.mic.choice.canvas)
	driver.menu("No microphone")
	assert driver.backend.settings["mic"] == "none"
	driver.until(lambda: start.list.rows, "the list")
	driver.spot(start.list, "meeting:192.168.1.33")
	driver.until(lambda: start.chosen and start.chosen.title == "Chess club", "another meeting is chosen")
	assert not start.pin_area.winfo_ismapped()


@pytest.mark.parametrize(
	("what", "spec"), [("camera", "/no/such.mp4"), ("camera", "none"), ("mic", "/no.wav")]
)
def test_what_cannot_be_had_is_off_and_says_so(opened: Open, what: str, spec: str) -> None:
	driver = opened(**{what: spec})
	preview = driver.backend.preview = cs.Preview(driver.backend.setting, lambda: None)
	with contextlib.closing(preview):
		card = driver.start.preview
		driver.spot(card, f"preview:{what}")
		driver.until(lambda: preview.failed and not getattr(card, what), "the button is off again")
		driver.until(lambda: card.own.painted[1], "the tile")
		assert card.own.painted[1].look.note == preview.failed[what] != ""
		driver.spot(card, f"preview:{what}")
		driver.until(lambda: preview.failed and not getattr(card, what), "it is tried again")
		driver.start.settings("video")
		dialog = driver.start.dialog
		if what == "camera":
			driver.until(lambda: dialog.tile.painted[1] and dialog.tile.painted[1].look.note, "there, too")


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_who_was_in_is_not_asked_for_the_pin_unless_there_is_a_new_one(opened: Open, by: str) -> None:
	driver = opened()
	start, backend = driver.start, driver.backend
	driver.until(start.pin_area.winfo_ismapped, "a PIN is asked for")
	backend.been.add("m1")
	backend.meetings[0] = ad(people=24)
	driver.until(lambda: not start.pin_area.winfo_ismapped(), "it is not needed")
	backend.refusal = cs.Refused("pin_required")
	driver.click(start.join.canvas)
	driver.until(start.pin_area.winfo_ismapped, "the PIN is asked for")
	assert backend.calls[-1][4] == "" and start.trouble["text"] == "This meeting needs a PIN."
	backend.refusal = None
	driver.until(lambda: cs.has_focus(start.pin.canvas), "it has the keyboard")
	driver.type("482913", *["Return"] * (by == "keyboard"))
	if by == "mouse":
		driver.click(start.join.canvas)
	driver.until(lambda: driver.loop.view is not None, "in the meeting")
	assert [one for one in backend.calls if one[0] == "join"][-1][4] == "482913"


def test_what_has_ended_is_no_error(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	call.gui_queue.put({"event": "ended", "reason": "The host ended the meeting."})
	driver.until(lambda: driver.loop.start is not None, "the start window")
	label, look = driver.start.trouble, driver.start.look.palette
	assert label["text"] == "The host ended the meeting." and str(label["fg"]) == look.second
	driver.backend.meetings.clear()
	driver.start.chosen = None
	driver.click(driver.start.join.canvas)
	assert label["text"] == "No meeting was found on this network." and str(label["fg"]) == look.bad_text


def test_all_of_a_field_is_chosen_as_everywhere(opened: Open) -> None:
	"""Tk's own Ctrl+A on Linux goes to the beginning of the line."""
	driver = opened()
	driver.click(driver.start.name.entry)
	driver.type("xyz", "ctrl+a")
	driver.type("Ben")
	assert driver.start.name.value == "Ben"


def test_a_list_ticks_what_holds_now(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
	driver = opened(mic="none")
	driver.start.settings("audio")
	driver.until(lambda: driver.root.grab_current(), "the settings")
	dialog: Any = driver.start.dialog
	driver.until(lambda: dialog.found, "the devices")
	lists = [one for one in walk(dialog.page) if isinstance(one, tk.Canvas)]
	shown: list[str] = []
	menu = cs.Look.menu
	monkeypatch.setattr(
		cs.Look, "menu", lambda look, at, rows: shown.extend(row[0] for row in rows) or menu(look, at, rows)
	)
	driver.click(lists[0])
	driver.key("Escape")
	assert shown == ["Headset (USB Audio)", "✓ No microphone"]


def test_the_check_looks_again(opened: Open) -> None:
	driver = opened()
	driver.click(driver.start.check.canvas)
	check_twice(driver, lambda: driver.start.dialog)


def test_start_has_the_settings(opened: Open) -> None:
	driver = opened()
	gear = next(w for w in driver.start.frame.winfo_children() if w.grid_info().get("sticky") == "e")
	driver.click(gear)
	driver.until(lambda: driver.root.grab_current(), "the settings")
	assert driver.backend.calls[-1] == ("preview", False, True)  # the meter of the page that is shown
	driver.key("Escape")
	assert driver.backend.calls[-1] == ("preview", False, False)


@pytest.mark.parametrize("on", [False, True])
def test_the_settings_try_out_what_the_meeting_has_not_on(opened: Open, on: bool) -> None:
	driver = opened(start=False)
	call = driver.meet()
	shot = call.snapshot()
	people = tuple(replace(one, mic=on) if one.id == shot.me else one for one in shot.people)
	call.change(people=people, sound=(1.0, 0.9, True))
	driver.view.settings("audio")
	assert driver.backend.calls[-1] == ("preview", False, not on)
	assert (driver.backend.preview.now()[0] == (1.0, 0.9, True)) == on


def test_start_asks_for_an_address(opened: Open) -> None:
	driver = opened()
	driver.backend.meetings = []
	press(driver, driver.start.right, "Type an address or code")
	driver.until(lambda: driver.root.grab_current(), "the dialog")
	driver.type("192.168.7.7:9100", "Tab")
	driver.type("482913", "Return")
	driver.until(lambda: driver.loop.view is not None, "the meeting")
	assert driver.backend.calls[-2][:5] == ("join", "192.168.7.7", 9100, "Zuri Okafor", "482913")


def typed_address(driver: Driver, *keys: str) -> None:
	"""Open the dialog for an address, type into it and press Return."""
	press(driver, driver.start.right, "Type an address or code")
	driver.until(lambda: driver.root.grab_current(), "the dialog")
	driver.pump(0.05)
	for words in keys[:-1]:
		driver.type(words, "Tab")
	driver.type(keys[-1], "Return")


def test_a_changed_host_at_a_typed_address_is_joined_there(opened: Open) -> None:
	driver = opened()
	driver.backend.refusal = cs.Refused("host_changed", "The certificate is another one.")
	typed_address(driver, "192.168.7.7:9100", "482913")
	driver.until(lambda: isinstance(driver.start.dialog, cs.ConfirmDialog), "the question")
	driver.until(lambda: driver.root.grab_current(), "the dialog")
	press(driver, driver.start.dialog.frame, "Join anyway")  # type: ignore[union-attr]
	driver.until(lambda: driver.loop.view is not None, "the meeting")
	joins = [one for one in driver.backend.calls if one[0] == "join"]
	assert joins == [("join", "192.168.7.7", 9100, "Zuri Okafor", "482913", on) for on in (False, True)]


def test_a_typed_address_and_its_pin_are_kept_for_another_try(opened: Open) -> None:
	driver = opened()
	driver.backend.meetings = []
	driver.backend.refusal = cs.Refused("no_meeting", "The host does not answer.")
	typed_address(driver, "192.168.7.8", "482913")
	driver.until(lambda: driver.start.trouble["text"], "the reason")
	typed_address(driver, "192.168.7.7")  # in place of what stands there
	driver.until(lambda: len([one for one in driver.backend.calls if one[0] == "join"]) == 2, "another try")
	assert driver.backend.calls[-1] == ("join", "192.168.7.7", 9000, "Zuri Okafor", "482913", False)


def test_a_package_that_is_missing_is_named(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
	monkeypatch.setattr(FakeBackend, "list_devices", lambda _: cs.need("no_such_package"))
	driver = opened()
	driver.until(lambda: driver.start.trouble["text"], "it says so")
	assert (
		"'no_such_package'" in driver.start.trouble["text"] and "pip install" in driver.start.trouble["text"]
	)


def test_a_wrong_pin_of_a_typed_address_is_asked_for_again(opened: Open) -> None:
	driver = opened()
	driver.backend.refusal = cs.Refused("wrong_pin", "That PIN is not right.")
	typed_address(driver, "192.168.7.7", "111111")
	driver.until(lambda: driver.start.trouble["text"], "the reason")
	driver.until(lambda: driver.root.grab_current(), "the dialog again")
	assert overlaps(driver.root) == []
	driver.backend.refusal = None
	driver.type("482913", "Return")
	driver.until(lambda: driver.loop.view is not None, "the meeting")
	joins = [one for one in driver.backend.calls if one[0] == "join"]
	assert joins[-1] == ("join", "192.168.7.7", 9000, "Zuri Okafor", "482913", False)


def test_what_is_no_address_is_said_at_once(opened: Open) -> None:
	driver = opened()
	for address in ("", ":9000", "192.168.7.7:x", "192.168.7.7:99999", "192.168.7.7:"):
		driver.start.trouble.configure(text="")
		driver.start.join_at(address, "")
		joins = address == "192.168.7.7:"
		assert bool(driver.start.trouble["text"]) is not joins, address
		assert bool(driver.start.busy.words) is joins, address


def test_a_missing_name_loses_nothing_that_was_typed(opened: Open) -> None:
	driver = opened(name="")
	press(driver, driver.start.right, "Type an address or code")
	driver.until(lambda: driver.root.grab_current(), "the dialog")
	driver.pump(0.05)
	for written_there in ("192.168.7.7", "Chess"):
		driver.type(written_there, "Return")
		driver.until(lambda: driver.root.focus_get() is driver.start.name.entry, "the name is asked for")
		driver.click(driver.start.title.entry)
	assert driver.backend.settings["address"] == "192.168.7.7" and driver.start.title.value == "Chess"


def test_what_the_system_will_ask_is_said_once_before_hosting(
	opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""And again where it is another thing."""
	driver, said = opened("1366x768"), "If Windows asks about its firewall, tick both."
	hosts = lambda: len([one for one in driver.backend.calls if one[0] == "host"])  # noqa: E731
	for asks, asked, count in ((said, True, 1), (said, False, 2), (cs.KEPT_OUT, True, 3), ("", False, 4)):
		monkeypatch.setattr(cs, "system_asks", lambda moment, asks=asks: asks if moment == "host" else "")
		press(driver, driver.start.right, "Host a meeting")
		if asked:
			driver.until(lambda: driver.root.grab_current(), "it is said")
			labels = [one["text"] for one in walk(driver.root) if isinstance(one, tk.Label)]
			assert asks in labels and hosts() == count - 1
			driver.pump(0.05)
			driver.key("Return")
		driver.until(lambda count=count: hosts() == count and driver.loop.view, "the meeting")
		driver.view.left("")
		driver.until(lambda: driver.loop.start, "the start window")
		driver.pump(0.1)


def press(driver: Driver, parent: tk.Misc, words: str) -> None:
	"""Click the button that shows these words."""

	def found() -> list[tk.Misc]:
		return [one for one in walk(parent) if words in written(one)]

	driver.until(found, f"a button {words}")
	driver.click(found()[0])


# -- a lesson that goes on without its window ------------------------------------------

STILL = "“Maths” is still running."


def offered(driver: Driver) -> None:
	"""Wait for the two ways on."""

	def words() -> set[str]:
		shown = [line for widget in walk(driver.root) for line in written(widget)]
		return {*shown, *(one["text"] for one in walk(driver.root) if isinstance(one, tk.Label))}

	driver.until(lambda: {STILL, "Back to my lesson", "End it and start anew"} <= words(), "the question")
	driver.pump(0.1)


def test_a_start_offers_the_way_back_to_the_own_lesson(opened: Open) -> None:
	driver = opened()
	driver.backend.left_behind = STILL
	driver.start._offered = False
	offered(driver)
	driver.key("Return")
	driver.until(lambda: driver.loop.view, "the meeting")
	assert ("resume", "Zuri Okafor") in driver.backend.calls


@pytest.mark.parametrize("at_once", [True, False])
def test_hosting_another_lesson_ends_the_first_only_when_told_so(opened: Open, at_once: bool) -> None:
	driver = opened(title="Chess")
	driver.backend.left_behind = STILL
	if at_once:
		driver.start._offered = False
	else:
		press(driver, driver.start.right, "Host a meeting")
	offered(driver)
	assert not [call for call in driver.backend.calls if call[0] == "host"]
	press(driver, driver.root, "End it and start anew")
	driver.until(lambda: driver.loop.view, "the meeting")
	assert [call[:3] for call in driver.backend.calls if call[0] == "host"] == [
		("host", "Zuri Okafor", "Chess")
	]


# -- bars -----------------------------------------------------------------------------


def test_that_the_host_is_away_stays_to_be_read(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	everyone = call.snapshot().people
	call.change(people=everyone[1:])
	bar = driver.view.notice.frame
	driver.until(bar.winfo_ismapped, "the bar")
	assert "Mr Lewis is away" in [line for widget in walk(bar) for line in written(widget)]
	call.gui_queue.put({"event": "host_away", "seconds": 300})
	driver.until(lambda: driver.view.toasts._toasts, "the message")
	call.change(people=everyone)
	driver.until(lambda: not bar.winfo_ismapped(), "the host is back")


def test_a_field_is_one_picture_however_long_one_types(opened: Open) -> None:
	driver = opened()
	driver.click(driver.start.name.entry)
	driver.type("abc", "Left", "Right", "BackSpace")
	assert driver.start.name.value.endswith("ab") and len(driver.start.name.canvas.find_all()) == 1


def test_every_button_of_the_left_bar(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True)
	view, buttons = driver.view, driver.view.side.buttons
	for what, do in (("mic", "mic"), ("camera", "camera"), ("hand", "hand")):
		driver.click(buttons[what].canvas)
		assert len(sent(call, do)) == 1, what
	driver.click(buttons["react"].canvas)
	driver.key("Return")
	assert last(call, "react") == {"do": "react", "emoji": cs.REACTIONS[0]}
	driver.click(buttons["users"].canvas)
	assert view.attendees.frame.winfo_ismapped()
	driver.click(buttons["chat"].canvas)
	assert view.chat.frame.winfo_ismapped()
	driver.click(buttons["share"].canvas)
	driver.key("Escape")
	driver.click(buttons["settings"].canvas)
	assert isinstance(view.dialog, cs.SettingsDialog) and view.dialog.open
	driver.key("Escape")
	driver.click(buttons["leave"].canvas)
	press(driver, view.dialog.frame, "Stay")
	assert not sent(call, "leave") and not view.dialog.open


def test_the_card_of_the_class_does_what_the_host_wants(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True)
	driver.click(driver.view.side.buttons["host"].canvas)
	assert driver.view.card is not None
	rows = driver.view.card.list
	driver.spot(rows, "mute_all")
	assert last(call, "mute") == {"do": "mute", "who": "all"}
	call.change(presenter=3)
	driver.spot(rows, "stop")
	assert last(call, "take_over")
	driver.spot(rows, "invite")
	assert isinstance(driver.view.dialog, cs.InvitationDialog)
	driver.key("Escape")
	driver.spot(rows, "end")
	press(driver, driver.view.dialog.frame, "End for all")  # type: ignore[union-attr]
	assert last(call, "end")


def test_every_button_of_the_top_bar(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet(host=True)
	view, top = driver.view, driver.view.top
	for name in ("speaker", "focus", "grid"):
		driver.click(top.layouts[name].canvas)
		assert view.stage.plan.layout == name
	driver.click(top.people.canvas)
	assert view.attendees.frame.winfo_ismapped()
	driver.click(top.pin.canvas)
	press(driver, view.dialog.frame, "Copy")  # type: ignore[union-attr]
	copied = driver.root.clipboard_get()
	assert all(part in copied for part in ("192.168.1.20", "0T4N", "482913"))
	asked: list[bool] = []  # without a window manager the wish is all that can be seen

	def attributes(name: str, *value: bool) -> bool:
		asked.extend(value)
		return asked[-1] if asked else False

	driver.root.attributes = attributes  # type: ignore[method-assign, assignment]
	bars = view.side.frame, top.frame, view.panel.frame
	driver.click(top.full.canvas)
	driver.pump(0.1)
	assert not any(bar.winfo_ismapped() for bar in bars), "the picture alone"
	assert driver.root.focus_get() is view.stage.canvas
	driver.key("F11")
	driver.pump(0.1)
	assert all(bar.winfo_ismapped() for bar in bars)
	driver.key("F11")
	driver.until(lambda: view.away, "the pictures alone")
	driver.key("c")
	driver.until(lambda: view.panel_open, "the messages")
	driver.key("Escape")
	driver.until(lambda: not view.panel_open, "the newest first")
	assert asked == [True, False, True]
	driver.key("Escape")
	assert asked == [True, False, True, False]


def test_the_notice_stops_sharing(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	driver.key("ctrl+shift+s")
	driver.until(lambda: driver.view.dialog and driver.view.dialog.found, "the screens")  # type: ignore[attr-defined]
	driver.key("Right", "Return")
	driver.until(lambda: driver.view.notice.frame.winfo_ismapped(), "the bar")
	assert overlaps(driver.root) == []
	press(driver, driver.view.notice.frame, "Stop share")
	assert last(call, "share") == {"do": "share", "on": False}
	driver.until(lambda: not driver.view.notice.frame.winfo_ismapped(), "the bar is gone")


def test_a_host_never_seen_before_is_named_for_a_minute(
	opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
	driver = opened(start=False)
	driver.meet(new_host=True)
	bar = driver.view.notice.frame
	driver.until(bar.winfo_ismapped, "the bar")
	words = [line for widget in walk(bar) for line in written(widget)]
	assert "Hosted by Mr Lewis, new to this computer" in words and "Leave" in words
	press(driver, bar, "Leave")
	press(driver, driver.view.dialog.frame, "Stay")  # type: ignore[union-attr]
	assert cs.MainAppView.NEW_HOST_SECONDS == 60
	monkeypatch.setattr(cs.MainAppView, "NEW_HOST_SECONDS", 0.0)
	driver.until(lambda: not bar.winfo_ismapped(), "the minute is over")


def check_twice(driver: Driver, dialog: Callable[[], Any]) -> None:
	"""The doctor's dialog, open: what was mended is looked at again."""
	first = dialog()
	assert isinstance(first, cs.DoctorDialog)
	driver.until(lambda: hasattr(first, "list"), "the verdict")
	press(driver, first.frame, "Check again")
	driver.until(lambda: dialog() is not first and hasattr(dialog(), "list"), "a new verdict")
	assert not first.open and dialog().open


def test_a_lost_connection_offers_the_check(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	call.change(link="reconnecting")
	driver.until(lambda: driver.view.notice.frame.winfo_ismapped(), "the bar")
	press(driver, driver.view.notice.frame, "Not working? Check this computer")
	check_twice(driver, lambda: driver.view.dialog)
	driver.key("Escape")
	driver.view.actions.leave()
	assert last(call, "leave") and driver.loop.start is not None


# -- the stage ------------------------------------------------------------------------


def test_hovering_shows_quality_and_pins(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()
	stage = driver.view.stage
	over(driver, 2)
	said = [stage.canvas.itemcget(item, "text") for item in stage.canvas.find_withtag("hover")
		if stage.canvas.type(item) == "text"]  # fmt: skip
	assert said == ["Pin", "Good", "640×360", "15 fps", "3 lost · 42 ms"]
	driver.spot(stage, "hover:pin")
	assert stage.plan.layout == "focus" and list(stage.tiles) == [2]
	over(driver, 2)
	driver.spot(stage, "hover:pin")
	assert stage.plan.layout == "grid"


def test_menus_of_a_tile(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(9, host=True)
	stage = driver.view.stage
	over(driver, 4)
	driver.spot(stage, "hover:more")
	driver.menu("Mute")
	assert last(call, "mute") == {"do": "mute", "who": "Priya Nair"}
	offered = {
		one.mic: {entry[0] for entry in stage.menu_for(one.id) if entry}
		for one in call.snapshot().people[5:7]
	}
	assert offered[True] - offered[False] == {"Mute"}, "who is muted is not muted again"
	call.change(rules=cs.Rules(["share"]))
	driver.pump(0.1)
	driver.click(stage.canvas, *over(driver, 3), button=3)
	driver.menu("Allow to share the screen")
	assert last(call, "permit") == {"do": "permit", "who": "Jonas Weber", "what": "share", "on": True}
	driver.click(stage.canvas, *over(driver, 3), button=3)
	driver.menu("Remove from the meeting…")
	press(driver, driver.view.dialog.frame, "Remove from the meeting")  # type: ignore[union-attr]
	assert last(call, "remove") == {"do": "remove", "who": "Jonas Weber"}


@pytest.mark.parametrize("system", ["x11", "aqua"])
def test_a_menu_comes_as_the_system_asks_for_it(
	opened: Open, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
	driver, button = opened(), 3
	if system == "aqua":  # its Tk calls the right button the second; some mice have no other than the first
		driver.root.event_delete("<<ContextMenu>>", "<Button-3>")
		driver.root.event_add("<<ContextMenu>>", "<Button-2>")
		with monkeypatch.context() as mac:
			mac.setattr(sys, "platform", "darwin")
			mac.setattr(cs, "work_area", lambda *_: None)  # of this system: it would load what a Mac has
			driver.loop.restyle()
		button = 2
		assert "<Control-Button-1>" in driver.root.event_info("<<ContextMenu>>")
	call = driver.meet(host=True)
	call.change(chat=(cs.ChatLine(1, "Jonas Weber", "Hello", 0.0),))
	driver.until(lambda: len(driver.view.chat.list.rows) > 1, "the message")
	driver.click(driver.view.stage.canvas, *over(driver, 4), button=button)
	driver.menu("Mute")
	driver.click(driver.view.chat.list.canvas, 60, 80, button=button)
	driver.menu("Copy")


def contrast(one: str, other: str) -> float:
	"""Of two colours, as WCAG reckons it."""
	light, dark = sorted(
		(
			sum(
				weight * (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4)
				for weight, part in zip(
					(0.2126, 0.7152, 0.0722), np.array(ImageColor.getrgb(colour)) / 255, strict=True
				)
			)
			for colour in (one, other)
		),
		reverse=True,
	)
	return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", cs.PALETTES)
def test_every_button_can_be_read_and_shows_who_has_the_keyboard(
	opened: Open, palette: str, monkeypatch: pytest.MonkeyPatch
) -> None:
	driver = opened(palette=palette, start=False)
	look, colours = driver.loop.look, cs.PALETTES[palette]
	shown: dict[str, Any] = {}
	monkeypatch.setattr(cs.Button, "box", lambda _, *shape, **__: shown.update(fill=shape[5], ring=shape[6]))
	monkeypatch.setattr(cs.Button, "_content", lambda *told: shown.update(words=told[3]))
	monkeypatch.setattr(cs.Button, "ring", colours.focus)
	boxes: list[Any] = []
	monkeypatch.setattr(cs.BarButton, "box", lambda _, *shape, **__: boxes.append(shape))
	for kind in ("plain", "card", "primary", "danger", "ghost", "link"):
		for enabled in (True, False):
			button = cs.Button(look, driver.root, lambda: None, "Join", kind=kind)
			button.show(enabled=enabled)
			button.paint()
			assert contrast(shown["words"], shown["fill"]) >= 4.3, (kind, enabled)
			assert contrast(shown["ring"], shown["fill"]) >= 3, (kind, enabled)
			button.show(hot=True)
			button.paint()
			assert contrast(shown["words"], shown["fill"]) >= 3.5, (kind, enabled, "under the mouse")
			button.canvas.destroy()
	for kind in ("plain", "card", "primary", "danger", "live", "warn"):
		boxes.clear()
		cs.BarButton(look, driver.root, lambda: None, "Leave", icon="leave", kind=kind).paint()
		body, ring = boxes[0], boxes[-1]
		assert contrast(ring[6], body[5]) >= 3, kind
		rim = contrast(ring[6], colours.panel)
		assert ring[0] > body[0] or rim >= 3, f"at the rim it is not seen: {kind}"


@pytest.mark.parametrize("palette", cs.PALETTES)
def test_a_tooltip_and_a_raised_hand_stand_out(opened: Open, palette: str) -> None:
	driver = opened("1024x600", palette=palette, start=False)
	call = driver.meet(3, host=True)
	colours, people = cs.PALETTES[palette], driver.view.attendees.list
	tip = driver.view.side.buttons["mic"].tip
	tip._show()
	assert tip._shown is not None
	sheet = tip._shown.canvas
	words = next(item for item in sheet.find_all() if sheet.type(item) == "text")
	assert contrast(str(sheet["bg"]), colours.panel) >= 3, "an edge wherever it lies"
	assert contrast(sheet.itemcget(words, "fill"), str(sheet["bg"])) >= 4.5
	drawn: dict[str, str] = {}
	icon = people.icon

	def seen(x: int, y: int, *what: Any, **others: Any) -> None:
		drawn[what[0]] = what[2]
		icon(x, y, *what, **others)

	people.icon = seen  # type: ignore[method-assign]
	driver.view.show_panel("attendees")
	call.change_person(3, hand=time.time())
	driver.until(lambda: "hand" in drawn, "the hand")
	assert contrast(drawn["hand"], colours.panel) >= 3


@pytest.mark.parametrize("language", ["en", "es", "fr"])
def test_a_chosen_tab_has_room_for_its_words_and_number(opened: Open, language: str) -> None:
	driver = opened("1024x600", language=language, start=False)
	driver.meet(50, host=True)
	for name, button in driver.view.panel.buttons.items():
		driver.view.show_panel(name)
		driver.pump(0.05)
		assert not any(words.endswith("…") for words in written(button.canvas)), written(button.canvas)


def test_keys_and_meetings_stand_apart_where_the_window_is_low(opened: Open) -> None:
	driver = opened("1366x768", scale="150", language="fr")
	driver.backend.meetings = [ad(str(n), address=f"192.168.1.{n}") for n in range(1, 6)]
	shown = driver.start.list
	driver.until(lambda: shown.bar.winfo_ismapped(), "more meetings than there is room for")
	for name in shown.actions:
		assert shown.canvas.coords(name)[2] <= shown.bar.winfo_x(), "the bar lies beside the meetings"
	gear = next(one for one in driver.start.frame.winfo_children() if one.grid_info().get("sticky") == "e")
	check = driver.start.check.canvas
	assert check.winfo_x() + check.winfo_width() <= gear.winfo_x()
	driver.start.settings("keys")
	driver.pump(0.2)
	assert driver.start.dialog is not None
	sheets = [one for one in walk(driver.start.dialog.frame) if isinstance(one, tk.Canvas)]
	sheet = max(sheets, key=lambda one: sum(one.type(item) == "image" for item in one.find_all()))
	images = [sheet.bbox(item) for item in sheet.find_all() if sheet.type(item) == "image"]
	boxes = sorted(images, key=lambda box: box[1])
	assert len(boxes) > 10
	assert all(below[1] > above[3] for above, below in itertools.pairwise(boxes)), boxes


def test_how_loud_somebody_is_for_oneself(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	driver.command("u")
	for words, gains, wanted in (
		("Louder for me", {}, 1.5),
		("Louder for me", {"Amira Hassan": 2.0}, 2.0),
		("Softer for me", {"Amira Hassan": 0.5}, 0.0),
		("Mute for me", {}, 0.0),
		("✓ Mute for me", {"Amira Hassan": 0.0}, 1.0),
	):
		call.change(gains=gains)
		driver.until(lambda gains=gains: driver.view.shot.gains == gains, "the volumes")  # type: ignore[misc]
		driver.spot(driver.view.attendees.list, "more2")
		driver.menu(words)
		assert last(call, "volume") == {"do": "volume", "who": "Amira Hassan", "gain": wanted}


JONAS = "Jonas Weber"
ON: dict[str, tuple[cs.Json, str, str, cs.Json, cs.Json]] = {
	# how it is then for Jonas, the words before and then, what they do
	"unheard": (
		{"gains": {JONAS: 0.0}}, "Mute for me", "✓ Mute for me",
		{"do": "volume", "who": JONAS, "gain": 0.0}, {"do": "volume", "who": JONAS, "gain": 1.0},
	),
	"near": (
		{"rooms": [[1, 3]]}, "In my room", "✓ In my room",
		{"do": "room", "same": JONAS}, {"do": "room", "same": None},
	),
	"word": (
		{"rules": cs.Rules(["mic"], word=JONAS)}, "Give the word", "✓ Give the word",
		{"do": "word", "to": JONAS}, {"do": "word", "to": None},
	),
	"show": (
		{"rules": cs.Rules(spotlight=JONAS)}, "Show to everyone", "✓ Show to everyone",
		{"do": "spotlight", "who": JONAS}, {"do": "spotlight", "who": None},
	),
	"cohost": (
		{"role": "co-host"}, "Co-host", "✓ Co-host",
		{"do": "cohost", "who": JONAS, "on": True}, {"do": "cohost", "who": JONAS, "on": False},
	),
	"allow": (
		{"rules": cs.Rules(["share"], {"share": [JONAS]})},
		"Allow to share the screen", "✓ Allow to share the screen",
		{"do": "permit", "who": JONAS, "what": "share", "on": True},
		{"do": "permit", "who": JONAS, "what": "share", "on": False},
	),
}  # fmt: skip


def test_the_menu_of_a_person_says_what_is_on(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True, rules=cs.Rules(["share"]))
	view, before = driver.view, call.snapshot()
	for what, (then, off, on, turns_on, turns_off) in ON.items():
		call.change(**{name: getattr(before, name) for name in ("gains", "rooms", "rules", "people")})
		driver.until(lambda: view.shot == call.snapshot(), "how it was")
		entries = driver.entries(3)
		assert off in entries and on not in entries, what
		entries[off]()
		assert call.commands[-1] == turns_on, what
		if what == "cohost":
			call.change_person(3, **then)
		else:
			call.change(**then)
		driver.until(lambda: view.shot is call.snapshot(), "how it is then")
		entries = driver.entries(3)
		assert on in entries and off not in entries, what
		assert on not in driver.entries(4), f"{what}: of her it is not so"
		entries[on]()
		assert call.commands[-1] == turns_off, what


def test_a_tile_is_chosen_pinned_and_asked_by_keyboard(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()
	stage = driver.view.stage
	driver.click(stage.canvas, 3, 3)
	driver.key("Right", "Right", "Return")
	driver.menu("Write in private")
	assert driver.view.chat.composer.target.value == "Amira Hassan"
	driver.key("Escape")
	driver.click(stage.canvas, 3, 3)
	driver.key("Right", "Right", "p")
	assert stage.plan.layout == "focus" and list(stage.tiles) == [2]


def test_a_double_click_pins(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()
	at = over(driver, 4)
	driver.click(driver.view.stage.canvas, *at)
	driver.hand("click", "1")
	driver.until(lambda: driver.view.stage.plan.pinned == 4, "pinned")


def test_the_shared_screen_is_zoomed(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	call.change(presenter=3)
	stage = driver.view.stage
	driver.until(lambda: "screen" in stage.tiles, "the screen")
	at = over(driver, "screen")
	driver.hand("click", "4")
	assert stage.zoom.view[0] > 0.6
	driver.command("0")
	assert stage.zoom.view[0] == 0.0
	driver.key("0")
	assert stage.zoom.view[0] == 1.0
	driver.key("plus", "minus")
	assert stage.zoom.view[0] == pytest.approx(1.0)
	x, y = stage.canvas.winfo_rootx() + at[0], stage.canvas.winfo_rooty() + at[1]
	driver.hand(
		"mousemove", str(x), str(y), "mousedown", "1", "mousemove", str(x + 90), str(y), "mouseup", "1"
	)
	driver.until(lambda: stage.zoom.view[1] < 0.5, "moved to the left part")
	for name, true in (
		("plus", lambda: stage.zoom.view[0] > 1.1), ("minus", lambda: stage.zoom.view[0] < 1.1),
		("focus", lambda: stage.zoom.view[0] == 0.0),
	):  # fmt: skip
		driver.spot(stage, f"hover:{name}")
		assert true(), name
	driver.spot(stage, "hover:pin")
	assert stage.plan.pinned == "screen"


def toasts(driver: Driver) -> list[str]:
	canvas = driver.view.stage.canvas
	return [
		canvas.itemcget(item, "text") for item in canvas.find_withtag("toast") if canvas.type(item) == "text"
	]


def test_an_error_goes_unless_there_is_something_to_do(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
	driver = opened(start=False)
	driver.meet()
	now = cs.monotonic()
	for action, stays, due in (("", False, 5), ("", True, 15), ("Look", True, 0)):
		assert toasts(driver) == []
		monkeypatch.setattr(cs, "monotonic", lambda: now)
		driver.view.toasts.add("It broke.", "warning", action, stays=stays)
		for late in (4.9, 5.0, 14.9, 15.0, 3_600.0):
			monkeypatch.setattr(cs, "monotonic", lambda late=late: now + late)
			driver.view.toasts.step()
			assert bool(toasts(driver)) == (not due or late < due), (action, stays, late)


def test_who_shares_is_named(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet(host=False, presenter=3)
	driver.key("ctrl+shift+s")
	driver.until(lambda: toasts(driver), "the reason")
	name = next(one.name for one in driver.view.shot.people if one.id == 3)
	assert toasts(driver) == [f"{name} shares the screen"]


def test_two_toasts_at_most_and_errors_stay(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	call.gui_queue.put({"event": "error", "code": "device", "reason": "It broke."})
	for name in ("Ana", "Bo"):
		call.gui_queue.put({"event": "screen_start", "id": 77, "name": name})
	driver.until(lambda: "Bo shares the screen" in toasts(driver), "the newest")
	assert toasts(driver) == ["It broke.", "Bo shares the screen"]
	driver.command("a")
	assert toasts(driver) == ["It broke."]
	driver.spot(driver.view.stage, "toast:x")
	assert toasts(driver) == []


def test_a_toast_is_answered_by_click_and_by_key(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	driver.view.show_panel("attendees")
	call.gui_queue.put({"event": "private", "from": "Priya Nair", "text": "hi", "n": 90})
	driver.until(lambda: toasts(driver), "the message")
	driver.spot(driver.view.stage, "toast:1")
	assert driver.view.reading() and driver.view.chat.composer.target.value == "Priya Nair"
	driver.key("Escape")
	call.gui_queue.put({"event": "file_offer", "from": "Priya Nair", "name": "x.pdf", "size": 9, "file": "f"})
	driver.until(lambda: toasts(driver), "the offer")
	driver.key("a")
	assert driver.view.tab == "files"


def test_speech_into_a_muted_microphone_is_noticed(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	call.change(muted_speech=True)
	driver.until(lambda: "You are muted" in toasts(driver), "the notice")
	driver.command("a")
	assert last(call, "mic") == {"do": "mic", "on": True}


def test_who_is_muted_as_the_first_come_reads_it_once(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(9, host=True)
	people = tuple(replace(one, mic=False) for one in call.snapshot().people)
	call.change(people=people[:1], wanted={})
	driver.pump(0.2)
	assert "You are muted" not in toasts(driver), "alone"
	call.change(people=people)
	driver.until(lambda: "You are muted" in toasts(driver), "the class comes")
	driver.command("a")
	assert last(call, "mic") == {"do": "mic", "on": True}
	call.change(people=people[:1])
	driver.pump(0.1)
	call.change(people=people)
	driver.pump(0.2)
	assert "You are muted" not in toasts(driver)


def test_cues_are_spoken_when_wanted(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()

	def happen(name: str) -> list[Any]:
		call.gui_queue.put({"event": "join", "id": 90, "name": name})
		call.gui_queue.put({"event": "screen_start", "id": 90, "name": name})
		driver.until(lambda: f"{name} shares the screen" in toasts(driver), "what happened")
		return [one[1] for one in driver.backend.calls if one[0] == "speak"]

	assert happen("Ana") == []
	driver.view.settings("look")
	driver.until(lambda: driver.root.grab_current(), "the settings")
	switches = [one for one in walk(driver.view.dialog.frame) if str(one["height"]) == "28"]  # type: ignore[union-attr]
	driver.click(switches[-2])  # that of many people is below
	assert driver.backend.settings["spoken"] is True
	driver.key("Escape")
	assert happen("Bo") == ["Bo joined", "Bo shares the screen"]


# -- the side panel -------------------------------------------------------------------


def test_tabs_and_search(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet(30)
	for name in ("files", "attendees", "messages"):
		driver.click(driver.view.panel.buttons[name].canvas)
		assert driver.view.panel.pages[name].winfo_ismapped()
	driver.view.show_panel("attendees")
	driver.click(driver.view.attendees.search.entry)
	driver.type("pri")
	assert [row.person.name for row in driver.view.attendees.list.rows] == ["Priya Nair"]


def test_the_menu_of_an_attendee(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True)
	driver.command("u")
	driver.spot(driver.view.attendees.list, "more4")
	driver.menu("Mute")
	assert last(call, "mute") == {"do": "mute", "who": "Priya Nair"}
	driver.spot(driver.view.attendees.list, "more3")
	driver.menu("Pin")
	assert driver.view.stage.plan.pinned == 3


def test_the_composer(opened: Open, tmp_path: Path) -> None:
	driver = opened(start=False)
	call = driver.meet()
	composer = driver.view.chat.composer
	driver.click(composer.target.canvas)
	driver.menu("To: Priya Nair")
	driver.click(composer.smile.canvas)
	driver.until(lambda: cs.focused(driver.root).winfo_class() == "Canvas", "the emoji")  # type: ignore[union-attr]
	driver.key("Return")
	send = next(one for one in walk(composer.frame) if isinstance(one, tk.Canvas) and one.winfo_width() == 44)
	driver.click(send)
	assert last(call, "private") == {
		"do": "private",
		"to": "Priya Nair",
		"text": next(iter(cs.emoji_shapes())),
	}
	paper = tmp_path / "paper.txt"
	paper.write_text("x")
	driver.root.after(50, driver.view.actions.upload)
	pick_file(driver, paper)
	assert last(call, "upload") == {"do": "upload", "path": str(paper), "to": "Priya Nair"}
	driver.root.after(50, driver.view.actions.save_chat)
	pick_file(driver, tmp_path / "chat.txt")
	driver.until((tmp_path / "chat.txt").exists, "the saved chat")


def standing(driver: Driver) -> dict[str, Any]:
	"""What is open, chosen, marked and written in a meeting."""
	view, plan = driver.view, driver.view.stage.plan
	return {
		"panel": (view.panel_open, bool(view.panel.frame.winfo_ismapped()), view.tab),
		"stage": (plan.layout, plan.page, plan.pinned, view.stage.zoom.view),
		"toasts": toasts(driver)[:1], "unread": view.side.buttons["chat"].unread,
		"draft": (view.chat.composer.text(), view.chat.composer.target.value),
		"chat": (view.chat.picked, view.chat._whole, view.chat._notes),
		"search": view.attendees.search.value,
		"file goes to": view.files.target.value,
		"lists": [one._at for one in (view.chat.list, view.attendees.list, view.files.list)],
		"keyboard": str(driver.root.focus_get()).rpartition(".")[2].rstrip("0123456789"),
	}  # fmt: skip


@pytest.mark.parametrize(
	("tab", "what", "value"),
	[
		("", "palette", "light"), ("messages", "language", "fr"), ("attendees", "scale", "125"),
		("files", "palette", "contrast"),
	],
)  # fmt: skip
def test_all_that_stood_stands_in_another_look(opened: Open, tab: str, what: str, value: str) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(50, host=True)
	view = driver.view
	long = tuple(cs.ChatLine(n, "Bo", "word " * 400, time.time()) for n in range(20, 40))
	call.change(chat=(*call.snapshot().chat, *long))
	view.stage.turn(1)
	view.actions.write_to("Priya Nair")
	driver.type("half a thou")
	driver.until(lambda: len(view.chat.list.rows) > 20, "the lines")
	view.chat.fold(39)
	view.chat.list.yview("moveto", 0.5)
	view.chat._select(range(25, 27))
	view.show_panel("attendees")
	call.gui_queue.put({"event": "asks", "ask": 4, "name": "Tim", "address": "192.168.1.9"})
	driver.click(view.attendees.search.entry)
	driver.type("p")
	driver.pump(0.1)
	view.attendees.list.scroll(150)
	view.show_panel("files")
	driver.until(lambda: view.files.target.options, "whom a file may go to")
	view.files.target.pick("Amira Hassan")
	view.toasts.add("Bo is here", "info", "Look", lambda: driver.view.show_panel("messages"), stays=True)
	view.show_panel(tab or "messages")
	if not tab:
		view.flip_panel("messages")
	view.side.buttons["chat"].show(unread=True)
	driver.pump(0.2)
	before = standing(driver)
	assert before["unread"] and before["toasts"] and before["stage"][1] == 1
	assert all(before["lists"][:2]) and not view.chat.list._ended
	driver.backend.settings[what] = value
	driver.loop.restyle()
	driver.pump(0.2)
	assert standing(driver) == before
	driver.key("a" if tab != "messages" else "Escape", *("a" * (tab == "messages")))
	assert driver.view.reading(), "what a notice offers is done in the window that is there now"
	driver.loop.restyle()
	driver.pump(0.1)
	assert driver.view.reading() and "Bo is here" not in toasts(driver)


def test_the_zoom_and_the_settings_stay_in_another_look(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(presenter=3)
	driver.until(lambda: "screen" in driver.view.stage.tiles, "the screen")
	driver.view.stage.zoom.view = (2.0, 0.3, 0.4)
	for key, value in (("palette", "light"), ("scale", "125")):
		driver.view.settings("look")
		driver.view.dialog._restyled(key, value)  # type: ignore[union-attr]
		driver.pump(0.1)
		assert driver.view.stage.zoom.view == (2.0, 0.3, 0.4)
		dialog = driver.view.dialog
		assert isinstance(dialog, cs.SettingsDialog) and dialog.open and dialog.name == "look"
	call.change(presenter=0)
	driver.until(lambda: "screen" not in driver.view.stage.tiles, "it ends")


@pytest.mark.parametrize(("dpi", "scale"), [(144, 1.5), (192, 1.6)])  # for 2 it has no room
def test_on_a_monitor_of_another_density_it_has_another_scale(
	opened: Open, monkeypatch: pytest.MonkeyPatch, dpi: int, scale: float
) -> None:
	"""Windows as imitated: all that stood stands, and what is open is not taken away for it."""
	driver, told = opened("1000x600", start=False), Mock(**{"user32.GetDpiForWindow.return_value": 96})
	driver.meet()
	driver.view.actions.write_to("Priya Nair")
	driver.type("half a thou")
	driver.view.actions.ask_leave()
	monkeypatch.setattr("ctypes.windll", told, raising=False)
	monkeypatch.setattr("sys.platform", "win32")
	monkeypatch.setattr(cs, "work_area", lambda x, y: (1000, 0, 1366, 768))
	look = driver.loop.look
	driver.pump(0.1)
	told.user32.GetDpiForWindow.return_value = dpi
	driver.pump(0.2)
	assert driver.loop.look is look and len(look.layers) == 1, "the question stands"
	look.layers[0]()
	driver.until(lambda: driver.loop.look is not look, "another scale")
	assert driver.loop.look.px.scale == pytest.approx(scale, abs=0.05)
	assert driver.view.chat.composer.text() == "half a thou"
	least = [*map(driver.loop.look.px, cs.WindowLoop.LEAST)]
	driver.until(lambda: driver.root.winfo_width() >= least[0], "it is as large as it must be")
	assert driver.root.winfo_height() >= least[1] and overlaps(driver.root) == []
	look, told.user32.GetDpiForWindow.return_value = driver.loop.look, 96
	driver.until(lambda: driver.loop.look is not look, "and back")
	assert driver.loop.look.px.scale == 1 and driver.root.minsize() == cs.WindowLoop.LEAST


@pytest.mark.parametrize("scale", ["125", "150", "175"])
def test_a_larger_interface_finds_room_in_a_small_window(opened: Open, scale: str) -> None:
	driver = opened("800x480", start=False)
	driver.meet(host=True)
	driver.view.settings("look")
	driver.view.dialog._restyled("scale", scale)  # type: ignore[union-attr]
	driver.pump(0.3)
	assert driver.root.winfo_width() == driver.loop.look.px(cs.WindowLoop.LEAST[0])
	assert overlaps(driver.root) == []


def test_the_corners_of_a_picture_have_the_colour_around_it(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()

	def painted(tile: cs.PictureBox, colour: str) -> bool:
		seen = [driver.root.tk.call(str(tile._photo), "get", at, at) for at in (0, 40)]
		return seen[0] == ImageColor.getrgb(colour) != seen[1]

	palette = driver.loop.look.palette
	driver.until(lambda: painted(driver.view.stage.tiles[1], palette.window), "on the stage")
	driver.view.settings("video")
	driver.until(lambda: painted(driver.view.dialog.tile, palette.panel), "in a dialog")  # type: ignore[union-attr]


@pytest.mark.parametrize("on", [False, True])
def test_a_switch_lies_on_whatever_is_below(opened: Open, on: bool) -> None:
	"""Without a ring there is nothing around it, and one that is off has nothing in it."""
	driver = opened(palette="light")
	switch = cs.Switch(driver.loop.look, driver.start.frame, on, print)
	switch.canvas.place(x=0, y=0)
	driver.until(switch.canvas.find_all, "it is painted")
	body, *_ = switch.canvas.find_all()
	assert switch.canvas.bbox(body) == (3, 3, 43, 25)
	photo = switch.canvas.itemcget(body, "image")
	assert driver.root.tk.call(photo, "transparency", "get", 20, 11) == (not on)


def test_a_draft_outlives_the_panel_and_another_look(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()
	driver.view.actions.write_to("Priya Nair")
	driver.type("half a thou")
	driver.key("Escape")
	assert not driver.view.panel.frame.winfo_ismapped()
	driver.key("c")
	driver.backend.settings["palette"] = "light"
	driver.view.chat.note("Bo joined", 99)
	driver.loop.restyle()
	driver.pump(0.1)
	composer = driver.view.chat.composer
	assert (composer.text(), composer.target.value) == ("half a thou", "Priya Nair")
	assert driver.loop.look.palette is cs.LIGHT and (99, "Bo joined") in driver.view.chat._notes


def test_links_open_and_private_lines_are_answered(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
	driver = opened(start=False)
	call = driver.meet()
	visited: list[str] = []
	monkeypatch.setattr(cs.webbrowser, "open", visited.append)
	now = call.snapshot().chat[-1].at
	call.change(chat=(cs.ChatLine(1, "Bo", "see https://example.org/a?b=1.", now),
		cs.ChatLine(2, "Ana", "psst", now, to="Zuri Okafor")))  # fmt: skip
	panel = driver.view.chat
	driver.spot(panel.list, "link1")
	assert visited == ["https://example.org/a?b=1"]
	call.change_person(6, name="Ana")
	driver.until(lambda: any(value == "Ana" for value, _ in panel.composer.target.options) or True, "Ana")
	row = next(one for one in panel.list.rows if isinstance(one, cs.ChatRow))
	driver.click(panel.list.canvas, 80, tops(panel.list)[row] + 40, button=3)
	driver.menu("Copy")
	assert driver.root.clipboard_get() == row.line.text


LONG = "http://a.example/" + "way-" * 30 + "end"


def test_each_of_links_that_begin_alike_opens_itself(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
	driver = opened(start=False)
	call = driver.meet()
	view, at, visited = driver.view.chat.list, call.snapshot().chat[-1].at, list[str]()
	monkeypatch.setattr(cs.webbrowser, "open", visited.append)
	for links in (
		("http://a.example/xy", "http://a.example/x"), ("http://a.example/x", "http://a.example/xy"),
		(LONG, LONG[:30]), (LONG[:30], LONG), (LONG[:30], LONG, LONG[:30]), (LONG[:40], "x", LONG[:41]),
	):  # fmt: skip
		visited.clear()
		call.change(chat=())
		driver.until(lambda: not any(name.startswith("link1") for name in view.actions), "nothing is said")
		call.change(chat=(cs.ChatLine(1, "Bo", "\n".join(links), at),))
		driver.until(lambda: any(name.startswith("link1") for name in view.actions), "the links")
		for name in [name for name in view.actions if name.startswith("link1")]:
			driver.spot(view, name)
		assert visited == [one for one in links if one.startswith("http")]


def test_a_private_line_is_answered_in_one_click(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()
	driver.spot(driver.view.chat.list, "reply")
	assert driver.view.chat.composer.target.value == "Amira Hassan"
	assert driver.root.focus_get() is driver.view.chat.composer.entry


def test_files_are_declined_cancelled_and_shown(
	opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
	driver = opened(start=False)
	driver.backend.folder = tmp_path
	monkeypatch.chdir(tmp_path)
	call = driver.meet()
	visited: list[str] = []
	monkeypatch.setattr(cs.webbrowser, "open", visited.append)
	driver.view.show_panel("files")
	driver.spot(driver.view.files.list, "cancelf2")
	assert last(call, "cancel") == {"do": "cancel", "file": "f2"}
	driver.spot(driver.view.files.list, "declinef1")
	assert last(call, "decline") == {"do": "decline", "file": "f1"}
	driver.pump(0.1)
	driver.spot(driver.view.files.list, "downloadf1")
	assert last(call, "download") == {"do": "download", "file": "f1"}
	press(driver, driver.view.files.frame, "View Downloads")
	assert visited == [tmp_path.as_uri()]
	saved = tmp_path / "in" / "a.txt"
	saved.parent.mkdir()
	call.change(files=(cs.FileEntry("f9", "a.txt", 3, "Bo", state="saved", path="in/a.txt"),))
	driver.spot(driver.view.files.list, "openf9")
	assert visited[-1] == saved.parent.as_uri()


def file_rows(driver: Driver) -> list[cs.FileRow]:
	"""The rows of files; a host has the class's buttons above them."""
	return [row for row in driver.view.files.list.rows if isinstance(row, cs.FileRow)]


def facts(driver: Driver) -> list[str]:
	"""What the rows of the files say under the names, the oldest first."""
	driver.pump(0.1)
	return [row._facts() for row in reversed(file_rows(driver))]


def actions(driver: Driver) -> list[str]:
	driver.pump(0.1)
	return list(driver.view.files.list.actions)


FROM = cs.FileEntry("f1", "a.pdf", 1024, "Amira Hassan", private=True)


def test_the_senders_name_stays_in_the_row(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True)
	driver.view.show_panel("files")
	for state in ("offered", "downloading", "saved", "declined", "failed", "gone"):
		file = replace(FROM, state=state, path="a.pdf")
		call.change(files=(file,))
		driver.until(lambda: [row.entry for row in file_rows(driver)] == [file], "the file")  # noqa: B023
		assert facts(driver)[0].startswith("from Amira Hassan · "), state
		assert "declinef1" not in actions(driver), state  # handed in: no slip of a host loses it


def test_a_row_can_be_drawn_before_there_is_room(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()
	files = driver.view.files.list
	for state in ("offered", "uploading", "downloading", "saved", "failed"):
		row = cs.FileRow(replace(FROM, state=state, done=512), 8, ())
		row.draw(files, 0, files.look.px(60))  # what a list has until it is laid out


def test_an_own_offer_says_whom_it_is_for_and_who_has_it(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(people=14, host=True)
	driver.view.show_panel("files")
	own = cs.FileEntry("f1", "a.pdf", 1024, call.snapshot().name, own=True, people=11)
	private = replace(own, file="f2", private=True, to="Amira Hassan", people=0)
	call.change(files=(own, private))
	driver.until(lambda: len(file_rows(driver)) == 2, "the files")
	assert facts(driver) == [
		"To: Everyone · 1 kB · 11 of 13 have it", "To: Amira Hassan · 1 kB · 0 of 1 have it"
	]  # fmt: skip
	driver.spot(driver.view.files.list, "cancelf1")
	assert last(call, "cancel") == {"do": "cancel", "file": "f1"}


def test_what_is_let_go_elsewhere_does_nothing(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	driver.view.show_panel("files")
	call.change(files=(cs.FileEntry("f1", "a.pdf", 1, "Bo"), cs.FileEntry("f2", "b.pdf", 1, "Bo")))
	driver.until(lambda: len(file_rows(driver)) == 2, "the files")
	driver.pump(0.1)
	files = driver.view.files.list
	corner = np.array((files.canvas.winfo_rootx(), files.canvas.winfo_rooty()))
	places = {name: tuple(corner + middle(files, name)) for name in files.actions}
	before = len(call.commands)
	for first, then in itertools.permutations(places, 2):
		driver.hand("mousemove", *map(str, places[first]), "mousedown", "1")
		driver.hand("mousemove", *map(str, places[then]), "mouseup", "1")
		driver.pump(0.03)
	assert len(call.commands) == before and len(places) == 4
	driver.hand("mousemove", *map(str, places["downloadf2"]), "click", "1")
	driver.until(lambda: len(call.commands) > before, "a click")
	assert last(call, "download")["file"] == "f2"


@pytest.mark.parametrize("host", [True, False])
def test_whom_a_file_goes_to_stands_above_the_button(opened: Open, host: bool, tmp_path: Path) -> None:
	"""A pupil's goes to the host, not to everyone, until others are chosen; never to another by itself."""
	driver = opened(start=False)
	call = driver.meet(host=host)
	path = tmp_path / "work.txt"
	path.write_text("x")

	def sent_to() -> object:
		count = len(sent(call, "upload"))
		driver.root.after(50, lambda: press(driver, driver.view.files.frame, "Send a file"))
		pick_file(driver, path)
		driver.until(lambda: len(sent(call, "upload")) > count, "it is sent")
		return last(call, "upload").get("to")

	driver.view.show_panel("files")
	driver.pump(0.1)
	usual = None if host else "Mr Lewis"
	target = driver.view.files.target
	assert target.options[0] == (usual or "", f"To: {usual or 'Everyone'}")
	assert sent_to() == usual
	target.pick("Amira Hassan")
	call.change(people=tuple(one for one in driver.view.shot.people if one.name != "Amira Hassan"))
	driver.pump(0.2)
	assert sent_to() == "Amira Hassan"  # who is not here now: refused in words, not sent to others
	target.pick("")
	assert sent_to() is None


# -- dialogs --------------------------------------------------------------------------


def test_the_share_picker(opened: Open, tmp_path: Path) -> None:
	driver = opened(start=False)
	call = driver.meet()

	def picker() -> cs.ShareDialog:
		driver.key("ctrl+shift+s")
		dialog = driver.view.dialog
		assert isinstance(dialog, cs.ShareDialog)
		driver.until(lambda: dialog.found, "the screens")
		return dialog

	dialog = picker()
	looks = driver.backend.calls.count(("screens",))
	driver.until(lambda: driver.backend.calls.count(("screens",)) > looks, "it looks again")
	driver.key("Return")
	assert last(call, "share") is None and dialog.open  # nothing was chosen
	driver.key("Right", "Right", "Return")
	assert last(call, "share") == {"do": "share", "on": True, "source": "screen:1"}
	driver.key("ctrl+shift+s")
	driver.until(lambda: not driver.view.shot.presenter, "stopped")
	dialog = picker()
	driver.spot(dialog.cards, "share:screen:1")
	press(driver, dialog.frame, "Share")
	assert [c["source"] for c in sent(call, "share") if c["on"]] == ["screen:1", "screen:1"]
	driver.key("ctrl+shift+s")
	driver.until(lambda: not driver.view.shot.presenter, "stopped")
	dialog = picker()
	video = tmp_path / "film.avi"
	video.write_bytes(b"x")
	driver.root.after(50, dialog._choose_file)
	pick_file(driver, video)
	assert last(call, "share")["source"] == str(video)


def test_the_host_takes_the_screen_over(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True, presenter=3)
	driver.key("ctrl+shift+s")
	dialog = driver.view.dialog
	assert isinstance(dialog, cs.ShareDialog)
	driver.until(lambda: dialog.found, "the screens")
	assert not [one for one in call.commands if one["do"] in ("take_over", "share")], "nothing is chosen yet"
	read = {one.cget("text"): one for one in walk(dialog.frame) if isinstance(one, tk.Label)}
	label = read[f"{driver.view.shot.people[2].name} shares the screen"]
	assert label.winfo_y() + label.winfo_height() + 8 <= dialog.cards.canvas.winfo_y(), "they do not touch"
	driver.key("Right")
	press(driver, dialog.frame, "Take over")
	assert [c["do"] for c in call.commands if c["do"] in ("take_over", "share")] == ["take_over", "share"]


@pytest.mark.parametrize("host", [True, False])
def test_who_begins_to_share_while_another_chooses_is_not_interrupted_unasked(
	opened: Open, host: bool
) -> None:
	driver = opened(start=False)
	call = driver.meet(host=host)
	driver.key("ctrl+shift+s")
	dialog = driver.view.dialog
	assert isinstance(dialog, cs.ShareDialog)
	driver.until(lambda: dialog.found, "the screens")
	driver.key("Right")
	call.change(presenter=3)
	driver.until(lambda: driver.view.shot.presenter == 3, "another shares")
	press(driver, dialog.frame, "Share")
	assert not [one for one in call.commands if one["do"] in ("take_over", "share")]
	if host:
		press(driver, driver.view.dialog.frame, "Take over")  # type: ignore[union-attr]
		assert [c["do"] for c in call.commands if c["do"] in ("take_over", "share")] == ["take_over", "share"]
	else:
		assert "Jonas Weber shares the screen" in toasts(driver)


@pytest.mark.parametrize(
	("form", "typed", "do"),
	[
		("ask_class", ("Ready?", "yes / no"), "ask"), ("ask_collect", ("Fractions",), "collect"),
		("ask_name", ("Mr Lee",), "rename"),
	],
)  # fmt: skip
def test_a_form_that_is_refused_comes_back_with_what_was_typed(
	opened: Open, monkeypatch: pytest.MonkeyPatch, form: str, typed: tuple[str, ...], do: str
) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True)
	refs, obey = list[str](), call.do
	monkeypatch.setattr(call, "do", lambda told: (refs.append(str(told.get("ref"))), obey(told)))
	who = ["Mr Lewis"] * (form == "ask_name")
	getattr(driver.view.actions, form)(*who)
	for once in range(2):
		driver.until(lambda: driver.root.grab_current(), "the form")
		if not once:
			for words in typed:
				driver.type(words, *["Tab"] * (words is not typed[-1]))
		driver.key("Return")
		driver.until(lambda once=once: len(sent(call, do)) == once + 1, "it is sent")
		told = {"event": "error", "code": "name_taken", "reason": "That is too long.", "ref": refs[-1]}
		call.gui_queue.put(told)
		driver.until(lambda: driver.root.grab_current(), "the form again")
		read = [one.cget("text") for one in walk(driver.root.grab_current()) if isinstance(one, tk.Label)]
		assert "That is too long." in read and overlaps(driver.root) == []
	assert sent(call, do)[0] == sent(call, do)[1]
	driver.key("Escape")
	call.gui_queue.put({"event": "error", "code": "bad_command", "reason": "No.", "ref": "another"})
	driver.until(lambda: "No." in toasts(driver), "what else was refused is a notice")


def test_a_chosen_meeting_that_vanishes_is_not_replaced_by_another(opened: Open) -> None:
	driver = opened()
	start, (first, second) = driver.start, driver.backend.meetings

	def joined() -> list[str]:
		return [one[1] for one in driver.backend.calls if one[0] == "join"]

	driver.until(lambda: start.list.rows, "the list")
	driver.spot(start.list, f"meeting:{second.address}")
	for left in ([first], [], [first]):
		driver.backend.meetings = left
		driver.pump(0.2)
		press(driver, start.frame, "Join")
		assert joined() == [] and start.trouble["text"] == "Chess club: no longer offered", left
	driver.backend.meetings = [first, cs.replace(second, people=9)]
	driver.pump(0.2)
	driver.loop.restyle()
	press(driver, driver.start.frame, "Join")
	driver.until(joined, "it is back")
	assert joined() == [second.address]


def test_a_meeting_that_nobody_chose_makes_way(opened: Open) -> None:
	driver = opened()
	start, (first, second) = driver.start, driver.backend.meetings
	for left in ([first], [], [second]):
		driver.backend.meetings = left
		driver.until(lambda left=left: start.chosen == next(iter(left), None), "the first of the list")


def test_notices_notes_and_troubles_follow_the_language(opened: Open) -> None:
	driver = opened()
	driver.backend.refusal = cs.Refused("full")
	driver.start.join_at("192.168.7.7", "")
	driver.until(lambda: driver.start.trouble["text"] == "The meeting is full.", "the reason")

	def turn(language: str) -> None:
		driver.backend.settings["language"] = language
		driver.loop.restyle()
		driver.pump(0.2)

	turn("fr")
	assert driver.start.trouble["text"] == "La réunion est complète."
	turn("en")
	call = driver.meet(host=True)
	call.gui_queue.put({"event": "leave", "id": 99, "name": "Bo", "reason": "lost"})
	call.gui_queue.put({"event": "join", "id": 7 << 32, "name": "Mia"})
	for event in ({"event": "private", "from": "Amira Hassan", "text": "x"}, call_error()):
		driver.view.show_panel("files")
		call.gui_queue.put(event)
	driver.until(lambda: len(driver.view.toasts._toasts) == 2, "two notices")
	turn("es")
	driver.view.show_panel("messages")
	driver.pump(0.1)
	assert {"Amira Hassan te escribió en privado", "Responder", "La reunión está llena."} <= {*toasts(driver)}
	assert {"Bo: perdió la conexión", "Mia entró"} <= {*written(driver.view.chat.list.canvas)}


def call_error() -> cs.Json:
	return {**cs.Refused("full").event, "event": "error", "ref": "x"}


def test_many_arrivals_and_losses_at_once_are_a_line_each(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True)

	def notes() -> list[str]:
		driver.pump(0.1)
		said = [row.words for row in driver.view.chat.list.rows if isinstance(row, cs.NoteRow)]
		return [words for words in said if not words.startswith(("Today", "20"))]  # midnight brings one

	def tell(event: str, *names: str, **more: Any) -> None:
		for name in names:
			call.gui_queue.put({"event": event, "id": 7 << 32, "name": name, **more})

	names = [f"Pupil {n}" for n in range(28)]
	tell("join", "Ana")
	assert notes() == ["Ana joined"]
	tell("join", *names)
	assert notes() == ["Ana +28 joined"]
	tell("leave", *names, reason="lost")
	tell("join", *names)
	assert notes()[1:] == ["Pupil 0 +27: lost the connection", "Pupil 0 +27 joined"]
	driver.view.act("chat", text="Good morning", ref="1")
	tell("join", "Bo")
	assert notes()[3:] == ["Bo joined"], "what was said stands between them"
	tell("leave", "Bo", "Ana", reason="left")
	assert notes()[4:] == ["Bo +1 left"]


def test_every_control_of_the_settings(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()
	driver.view.settings()
	driver.until(lambda: driver.root.grab_current(), "the settings")
	dialog = driver.view.dialog
	assert isinstance(dialog, cs.SettingsDialog)
	driver.until(lambda: dialog.found, "the devices")
	settings, page = driver.backend.settings, dialog.page

	def choose(at: int, words: str) -> None:
		driver.click([one for one in walk(page) if isinstance(one, tk.Canvas)][at])
		driver.menu(words)

	def click(at: int) -> None:
		driver.click([one for one in walk(page) if isinstance(one, tk.Canvas)][at])

	click(3)
	assert settings["sound"] == "original", "for music"
	assert not dialog.clear.value
	settings.pop("sound")  # another microphone has a sound of its own
	choose(0, "No microphone")
	assert dialog.clear.value
	choose(5, "No speaker")
	assert (settings["mic"], settings["speaker"]) == ("none", "none")
	press(driver, page, "Play a test")
	assert ("test_speaker",) in driver.backend.calls
	slider = [one for one in walk(page) if isinstance(one, tk.Canvas)][6]
	driver.click(slider, 20)
	assert settings["volume"] < 0.1
	driver.key("Right")
	assert 0.05 <= settings["volume"] < 0.15
	for key, wanted in (
		("End", 1), ("Next", 0.8), ("Down", 0.75), ("Left", 0.7), ("Prior", 0.9), ("Up", 0.95), ("Home", 0),
	):  # fmt: skip
		driver.key(key)
		assert settings["volume"] == pytest.approx(wanted), key
	click(7)
	assert settings["space_talk"] is False
	press(driver, dialog.frame, "Video")
	choose(0, "Test card")
	assert settings["camera"] == "pattern" and not cs.mirrored(driver.backend)
	click(-2)
	click(-1)
	assert settings["mirror"] is False and settings["best_picture"] is True
	press(driver, dialog.frame, "Shortcuts")
	press(driver, dialog.frame, "Appearance")
	press(driver, page, "125 %")
	assert driver.loop.look.px.scale == 1.25
	driver.view.settings("language")
	driver.until(lambda: driver.root.grab_current(), "the settings again")
	assert isinstance(driver.view.dialog, cs.SettingsDialog)
	page = driver.view.dialog.page
	found = {line for one in walk(page) for line in written(one)}
	assert {"English", "Español", "Français"} <= found, "whatever one reads"
	press(driver, page, "Español")
	assert driver.loop.view is not None and cs.tr.language == "es"


def test_the_volume_is_heard_on_the_way_and_remembered_where_it_stays(
	opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
	driver = opened(start=False)
	driver.meet()
	kept: list[float] = []
	monkeypatch.setattr(driver.backend, "set_setting", lambda key, value: kept.append(value))
	driver.view.settings()
	dialog = driver.view.dialog
	assert isinstance(dialog, cs.SettingsDialog)
	driver.until(lambda: dialog.found and driver.root.grab_current(), "the settings")
	slider = [one for one in walk(dialog.page) if isinstance(one, tk.Canvas)][6]
	driver.root.update()
	x, y = slider.winfo_rootx() + 100, slider.winfo_rooty() + 10
	driver.hand("mousemove", str(x), str(y), "mousedown", "1")
	for step in range(1, 6):
		driver.hand("mousemove", str(x + 20 * step), str(y))
	driver.pump(0.1)
	tried = [one[1] for one in driver.backend.calls if one[0] == "try_volume"]
	assert len(tried) >= 2 and tried == sorted(tried) and kept == []
	driver.hand("mouseup", "1")
	driver.until(lambda: kept, "it stays")
	assert kept == tried[-1:]


def test_tab_reaches_everything_with_a_visible_focus(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()
	driver.click(driver.view.stage.canvas, 3, 3)
	seen: list[str] = []
	for _ in range(60):
		driver.hand("key", "Tab")
		driver.root.update()
		focus = driver.root.focus_get()
		if focus is None or str(focus) in seen:
			break
		seen.append(str(focus))
		assert focus.winfo_ismapped()
	reached = set(seen)
	wanted = [b.canvas for b in driver.view.side.buttons.values() if b.canvas.winfo_ismapped()]
	wanted += [b.canvas for b in driver.view.top.layouts.values()] + [driver.view.top.pin.canvas]
	wanted += [driver.view.chat.composer.smile.canvas, driver.view.chat.list.canvas]
	assert {str(one) for one in wanted} <= reached


@pytest.mark.calm
@pytest.mark.parametrize(
	("typed", "pin"), [("soleil2026", "soleil2026"), ("482 913", "482913"), ("dans l'eau", "dans l'eau")]
)
def test_any_pin_can_be_typed(opened: Open, typed: str, pin: str) -> None:
	driver = opened()
	driver.click(driver.start.pin.canvas)
	driver.type(typed, "x", "BackSpace", "KP_Enter")
	driver.until(lambda: driver.loop.view is not None, "in the meeting")
	assert ("join", "192.168.1.20", 9000, "Zuri Okafor", pin, False) in driver.backend.calls


def test_any_pin_can_be_pasted(opened: Open) -> None:
	driver = opened()
	boxes = driver.start.pin
	driver.click(boxes.canvas)
	for text in ("çà et là", "सूरज", "🌞", "W" * cs.MAX_PIN):
		driver.root.clipboard_clear()
		driver.root.clipboard_append(f"{text}\n")
		driver.key("ctrl+v")
		driver.until(lambda text=text: boxes.value == text, text)  # type: ignore[misc]
		words = [item for item in boxes.canvas.find_all() if boxes.canvas.type(item) == "text"]
		assert len(words) == min(len(text), 12)
		assert overlaps(driver.root) == []


def test_the_enter_key_of_the_number_pad_is_one(opened: Open) -> None:
	driver = opened()
	driver.click(driver.start.name.entry)
	driver.key("KP_Enter")
	driver.until(lambda: driver.loop.view is not None, "in the meeting")
	driver.click(driver.view.chat.composer.entry)
	driver.type("42", "KP_Enter")
	assert last(driver.backend.controllers[-1], "chat") == {"do": "chat", "text": "42"}
	assert driver.view.chat.composer.text() == ""


@pytest.mark.parametrize("name", ["", "Zuri"])
@pytest.mark.parametrize("late", [False, True])
def test_who_comes_by_keyboard_clicks_nothing(opened: Open, name: str, late: bool) -> None:
	driver = opened(name=name)
	meetings, driver.backend.meetings = driver.backend.meetings, []
	driver.pump(0.1 if late else 0.0)
	driver.backend.meetings = meetings
	driver.until(lambda: driver.start.pin_area.winfo_ismapped(), "a PIN is asked for")
	driver.pump(0.1)
	if not name:
		field = driver.start.name
		assert field._hint.winfo_ismapped(), "in a low window nothing else says what to type"
		driver.type("Zuri")
		assert not field._hint.winfo_ismapped()
		driver.key("Tab")
	driver.type("482913")
	assert not driver.start.busy.words, "longer PINs exist"
	driver.key("Return")
	driver.until(lambda: driver.loop.view is not None, "in the meeting")
	assert ("join", "192.168.1.20", 9000, "Zuri", "482913", False) in driver.backend.calls


def test_the_keyboard_goes_over_the_start_window_as_it_is_read(opened: Open) -> None:
	driver = opened("1366x768")
	start = driver.start
	driver.until(lambda: start.pin_area.winfo_ismapped(), "a PIN is asked for")
	start.check.canvas.focus_set()
	places: list[tuple[bool, int]] = []
	while (focus := driver.root.focus_get()) and len(places) < 20:
		left = focus.winfo_rootx() < start.right.winfo_rootx()
		places.append((not left, focus.winfo_rooty() + focus.winfo_height() // 2))
		driver.key("Tab")
		if driver.root.focus_get() is start.check.canvas:
			break
	(head, *columns) = places[1:]
	assert abs(head[1] - places[0][1]) < 20 and len(columns) > 8
	assert columns == sorted(columns, key=lambda at: (at[0], at[1] // 20)), columns


def test_auto_join_waits_for_a_name(opened: Open) -> None:
	driver = opened(name="")
	driver.backend.known = ad(pin=False)
	driver.pump(0.2)
	assert driver.loop.view is None
	driver.click(driver.start.name.entry)
	driver.type("Zuri", "Return")
	driver.until(lambda: driver.loop.view is not None, "in the meeting")


def test_auto_join_waits_for_what_is_typed(opened: Open) -> None:
	driver = opened(name="ana")
	driver.click(driver.start.name.entry)
	driver.type("Zu")
	driver.backend.known = ad(pin=False)
	driver.pump(0.2)
	assert not driver.start.busy.words and driver.loop.view is None
	driver.type("ri", "Home", "Delete", "Delete", "Delete", "Return")
	driver.until(lambda: driver.loop.view is not None, "in the meeting")
	assert [one[3] for one in driver.backend.calls if one[0] == "join"] == ["Zuri"]


def test_auto_join_waits_for_a_title_that_is_typed(opened: Open) -> None:
	driver = opened(title="Physics")
	driver.click(driver.start.title.entry)
	driver.type(" 8")
	driver.backend.known = ad(pin=False)
	driver.pump(0.2)
	assert driver.loop.view is None
	driver.key("BackSpace", "BackSpace")
	driver.until(lambda: driver.loop.view is not None, "in the meeting")


def test_auto_join_waits_for_a_dialog(opened: Open) -> None:
	driver = opened()
	press(driver, driver.start.right, "Type an address or code")
	driver.until(lambda: driver.root.grab_current(), "the dialog")
	driver.backend.known = ad(pin=False)
	driver.pump(0.2)
	assert driver.loop.view is None
	driver.key("Escape")
	driver.until(lambda: driver.loop.view is not None, "in the meeting")


def test_a_dialog_does_not_outlive_the_start_window(opened: Open) -> None:
	driver = opened()
	come = threading.Event()
	driver.loop.begin(lambda _: come.wait() and driver.backend.join("127.0.0.1", 9000, "Ana", ""), "Joining…")
	driver.start.settings()
	driver.until(lambda: driver.root.grab_current(), "the settings")
	come.set()
	driver.until(lambda: driver.loop.view is not None, "in the meeting")
	assert driver.root.grab_current() is None
	driver.command("m")
	assert last(driver.backend.controllers[-1], "mic") == {"do": "mic", "on": True}


def test_a_tooltip_names_the_control_and_its_key(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()
	button = driver.view.side.buttons["camera"].canvas
	driver.hand("mousemove", str(button.winfo_rootx() + 40), str(button.winfo_rooty() + 20))
	shown = lambda: [written(one) for one in driver.root.winfo_children() if "V, Ctrl+E" in written(one)]  # noqa: E731
	driver.until(shown, "the tooltip")
	assert shown() == [["Camera on or off", "V, Ctrl+E"]]
	driver.hand("mousemove", "600", "300")
	driver.until(lambda: not shown(), "it is gone")


def tips(driver: Driver) -> list[list[str]]:
	"""What each tooltip says that is seen."""
	return [
		written(one)
		for one in driver.root.winfo_children()
		if isinstance(one, tk.Canvas) and one.winfo_ismapped()
	]


@pytest.mark.parametrize("language", ["en", "es", "fr"])
def test_what_stands_over_a_tile_says_what_it_does(opened: Open, language: str) -> None:
	driver = opened("1366x768", language=language, start=False)
	call = driver.meet(4, host=True)
	stage = driver.view.stage
	for key, commands in (
		(3, {"chat": "write", "share": "ask_share", "pin": "pin", "more": "more"}),
		("screen", {"minus": "farther", "focus": "fit", "plus": "closer", "pin": "pin"}),
	):
		if key == "screen":
			call.change(presenter=2)
			driver.until(lambda: "screen" in stage.tiles, "the screen")
		over(driver, key)
		assert {one for one in stage.actions if one.startswith("hover:")} == {
			f"hover:{one}" for one in commands
		}
		for icon, name in commands.items():
			x, y = middle(stage, f"hover:{icon}")
			one = cs.COMMANDS[name]
			driver.hand("mousemove", str(stage.canvas.winfo_rootx() + x), str(stage.canvas.winfo_rooty() + y))
			words = [cs.tr(one.tip or one.words or "Zoom the shared screen"), *filter(None, [one.keys])]
			driver.until(lambda words=words: tips(driver) == [words], f"{words}")  # type: ignore[misc]
			stage.hover.show(key)  # as when its quality is another
			driver.pump(0.05)
			assert tips(driver) == [words], "it stays while the buttons are drawn anew"
	driver.key("p")
	driver.until(lambda: not tips(driver), "what it is about is gone")


KEYS = {"en": {"Space", "Esc", "M, Ctrl+D"}, "es": {"Espacio", "Esc"}, "fr": {"Espace", "Échap"}}


@pytest.mark.parametrize("language", KEYS)
def test_keys_are_called_as_on_keyboards_of_the_language(opened: Open, language: str) -> None:
	driver = opened("1366x768", language=language, start=False)
	driver.meet()
	tip = driver.view.side.buttons["leave"].tip
	tip._show()
	driver.until(lambda: tips(driver), "the tooltip")
	assert tips(driver)[0][1] in KEYS[language]
	tip._hide()
	driver.view.settings("keys")
	driver.pump(0.1)
	page = driver.view.dialog.page  # type: ignore[union-attr]
	assert KEYS[language] <= {line for one in walk(page) for line in written(one)}


@pytest.mark.parametrize("palette", cs.PALETTES)
def test_a_field_has_an_edge(opened: Open, palette: str, monkeypatch: pytest.MonkeyPatch) -> None:
	driver, colours = opened(palette=palette, start=False), cs.PALETTES[palette]
	look, root = driver.loop.look, driver.root
	fields = (
		cs.Field(look, root), cs.Choice(look, root, [("", "Default")], "", lambda _: None),
		cs.PinBoxes(look, root, lambda: None),
	)  # fmt: skip
	for field in fields:
		drawn: list[Any] = []
		monkeypatch.setattr(type(field), "box", lambda _, *shape, **__: drawn.append(shape))  # noqa: B023
		field.paint()
		assert drawn[0][6:] == (colours.line, 1), type(field)
	if palette == "contrast":
		assert min(contrast(colours.line, one) for one in (colours.window, colours.panel, colours.card)) > 7


def test_the_words_beside_a_switch_flip_it(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()
	driver.view.settings("look")
	driver.until(lambda: driver.root.grab_current(), "the settings")
	page = driver.view.dialog.page  # type: ignore[union-attr]
	words = next(one for one in walk(page) if one.winfo_class() == "Label" and "49" in one.cget("text"))
	switch = next(one for one in words.master.winfo_children() if isinstance(one, tk.Canvas))
	for wanted in (True, False):
		before = [switch.itemconfigure(item) for item in switch.find_all()]
		driver.click(words)
		assert driver.backend.settings["many_tiles"] is wanted
		assert [switch.itemconfigure(item) for item in switch.find_all()] != before
	at = words.winfo_rootx() + 9, words.winfo_rooty() + 5
	driver.hand("mousemove", *map(str, at), "mousedown", "1", "mousemove", "9", "9", "mouseup", "1")
	assert not driver.backend.settings["many_tiles"], "who thinks better of it lets go elsewhere"


@pytest.mark.parametrize("palette", cs.PALETTES)
def test_a_button_is_darker_while_it_is_held_down(
	opened: Open, palette: str, monkeypatch: pytest.MonkeyPatch
) -> None:
	driver = opened(palette=palette, start=False)
	look, root = driver.loop.look, driver.root
	fills: list[str] = []
	monkeypatch.setattr(cs.Button, "box", lambda _, *shape, **__: fills.append(shape[5]))

	def fill(button: cs.Button, **looks: bool) -> int:
		vars(button).update(looks)
		fills.clear()
		button.paint()
		return int(sum(ImageColor.getrgb(fills[0])))

	pill = cs.Pill(look, root, "Users", lambda: None)
	pill.say("9", "users")
	bar = cs.BarButton(look, root, lambda: None, "Chat", icon="chat", kind="card")
	kinds = ("plain", "card", "primary", "danger", "ghost", "link")
	for one in (pill, bar, *(cs.Button(look, root, lambda: None, "Join", kind=kind) for kind in kinds)):
		plain, over = fill(one), fill(one, hot=True)
		assert fill(one, down=True) < over or over == 0, one.kind
		assert fill(one, down=False, hot=False) == plain
	button = cs.Button(look, root, lambda: None, "Join", kind="primary")
	button.canvas.place(x=0, y=0)
	root.update()
	driver.hand("mousemove", "20", "20", "mousedown", "1")
	driver.until(lambda: button.down, "it is held down")
	assert fills[-1] not in (look.palette.accent, look.palette.accent_high)
	driver.hand("mouseup", "1")
	assert fills[-1] == look.palette.accent_high
	button.show(enabled=False)
	driver.hand("mousedown", "1")
	assert fills[-1] == look.palette.raised, "what cannot be pressed stays as it is"
	driver.hand("mouseup", "1")


def test_a_thousand_messages_stay_fluid(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	now = call.snapshot().chat[-1].at
	lines = [
		cs.ChatLine(n, f"Pupil {n % 30}", f"Message number {n} with some words 👍 and more of them", now)
		for n in range(1, 1002)
	]
	call.change(chat=tuple(lines[:-1]))
	driver.until(lambda: len(driver.view.chat.list.rows) > 1000, "a thousand rows")
	spent = time.thread_time()
	call.change(chat=tuple(lines))
	driver.until(
		lambda: "Message number 1001" in " ".join(written(driver.view.chat.list.canvas)), "the newest"
	)
	for _ in range(20):
		driver.view.chat.list.scroll(-300)
		driver.root.update()
	assert cheap(time.thread_time() - spent, 1.0)  # 50 ms of the Tk thread a step


class FakeUser32:
	"""Windows' user32 before or after the version that can leave a window out of pictures."""

	def __init__(self, newest: bool) -> None:
		self.newest, self.affinity = newest, 0

	def GetParent(self, window: int) -> int:  # noqa: N802
		return window + 1

	def SetWindowDisplayAffinity(self, window: int, how: int) -> bool:  # noqa: N802
		right = window == 8 and (self.newest or how != 17)
		self.affinity = how if right else self.affinity
		return right


@pytest.mark.parametrize("newest", [True, False])
def test_windows_keeps_the_window_out_of_pictures(newest: bool, monkeypatch: pytest.MonkeyPatch) -> None:
	user = FakeUser32(newest)
	monkeypatch.setattr(sys, "platform", "win32")
	monkeypatch.setattr(ctypes, "windll", SimpleNamespace(user32=user), raising=False)
	root: Any = SimpleNamespace(winfo_id=lambda: 7)
	cs.keep_private(root, True)
	assert user.affinity == (17 if newest else 1)
	cs.keep_private(root, False)
	assert user.affinity == 0


def test_the_window_is_private_from_the_share_dialog_until_the_meeting_is_left(
	opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
	told: list[bool] = []
	monkeypatch.setattr(cs, "keep_private", lambda root, on: told.append(on))
	driver = opened(start=False)
	driver.meet()
	driver.key("ctrl+shift+s")
	driver.until(lambda: driver.view.dialog, "the dialog")
	assert told[-1] is True
	driver.key("Escape")
	driver.view.left("")
	assert told[-1] is False


def test_nothing_on_the_start_window_moves_by_itself(opened: Open) -> None:
	driver = opened("1366x768")
	start = driver.start

	def places() -> list[tuple[int, int]]:
		driver.pump(0.1)
		fixed = (start.name.entry, start.join.canvas, start.check.canvas, start.list.canvas)
		return [(one.winfo_rootx(), one.winfo_rooty()) for one in fixed]

	driver.backend.meetings = []
	first = places()
	for meetings in ([ad(pin=False)], [ad(pin=True)], [ad(), ad("m2", "Chess")], []):
		driver.backend.meetings = meetings
		driver.until(lambda meetings=meetings: start._listed[:1] == (tuple(meetings),), "the list")
		assert places() == first, meetings
	start.trouble.configure(text="The host does not answer.")
	driver.pump(0.1)
	assert places()[:2] == first[:2]


# -- empty places ---------------------------------------------------------------------


def notes_of(view: cs.ListView) -> list[str]:
	return [row.words for row in view.rows if isinstance(row, cs.NoteRow)]


def test_an_empty_place_says_that_it_is(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(9, chat=())
	view = driver.view
	driver.until(lambda: notes_of(view.chat.list) == ["No messages yet"], "no messages")
	call.change(chat=(cs.ChatLine(1, "Ana", "Hello", 0.0),))
	driver.until(lambda: "No messages yet" not in notes_of(view.chat.list), "a message")
	view.show_panel("attendees")
	driver.click(view.attendees.search.entry)
	driver.type("zzz")
	driver.until(lambda: notes_of(view.attendees.list) == ["Nobody is called so"], "nobody found")
	people, me = call.snapshot().people, call.snapshot().me
	call.change(people=tuple(replace(one, camera=False) for one in people if one.id == me))
	driver.until(lambda: view.stage.looks(view.shot.people[0]).note == "Nobody else is here", "alone")
	call.change(people=people)
	driver.until(lambda: not view.stage.looks(view.shot.people[0]).note, "together")


def test_looking_for_meetings_comes_to_an_end(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
	driver = opened()
	monkeypatch.setattr(driver.backend, "find", list)
	driver.until(lambda: "Looking for meetings…" in notes_of(driver.start.list), "it looks")
	monkeypatch.setattr(cs.StartView, "PATIENCE", 0.0)
	driver.until(lambda: "No meeting was found on this network." in notes_of(driver.start.list), "it says so")
