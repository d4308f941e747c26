"""The real window under a display of its own, driven by real keys and clicks."""

from __future__ import annotations

import _tkinter
import contextlib
import ctypes
import dataclasses
import gc
import itertools
import queue
import re
import resource
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from fake_call import FakeBackend, FakeController, ad, card, last
from hypothesis import example, given
from hypothesis import strategies as st
from waiting import wait_until
from window_driver import Driver, Open, opened, overlaps, states, tops, written

import connectsphere as cs

if shutil.which("xdotool") is None:
	pytest.skip("needs xdotool", allow_module_level=True)

__all__ = ["opened"]  # a fixture


def test_keys_send_commands(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	for key, do in (("m", "mic"), ("v", "camera"), ("h", "hand")):
		driver.command(key)
		assert last(call, do) is not None, key


def test_panel_keys_open_and_close_the_panel(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()
	driver.command("u")
	assert driver.view.attendees.frame.winfo_ismapped()
	driver.key("u")
	assert not driver.view.panel.frame.winfo_ismapped()
	driver.key("c")
	assert driver.view.chat.frame.winfo_ismapped()


def test_space_talks_only_while_held(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	driver.hand("keydown", "space")
	driver.until(lambda: last(call, "mic") == {"do": "mic", "on": True, "held": True}, "talking")
	driver.pump(0.8)  # long enough for X to repeat the key as release and press
	assert [c for c in call.commands if c["do"] == "mic"] == [{"do": "mic", "on": True, "held": True}]
	driver.hand("keyup", "space")
	driver.until(lambda: last(call, "mic") == {"do": "mic", "on": False, "held": True}, "silent again")


def test_letters_are_text_in_the_composer(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	before = len(call.commands)
	driver.click(driver.view.chat.composer.entry)
	driver.hand("type", "my mum shares")
	driver.key("shift+Return")
	driver.hand("type", "2 lines")
	driver.key("Return")
	assert call.commands[before:] == [{"do": "chat", "text": "my mum shares\n2 lines"}]
	driver.key("ctrl+d")
	assert last(call, "mic") == {"do": "mic", "on": True}


def test_the_first_letter_takes_the_keyboard_before_the_composer_is_laid_out(opened: Open) -> None:
	"""Else the spaces of who types at once are no text, and Return sends nothing."""
	driver = opened(start=False)
	driver.meet()
	entry = driver.view.chat.composer.entry
	driver.view.stage.focus_set()
	packed: Any = entry.pack_info()
	entry.pack_forget()
	entry.pack(**packed)
	assert not entry.winfo_ismapped()
	driver.view.chat.composer.type("h")
	assert driver.root.focus_get() is entry


def test_letters_are_no_text_in_a_hidden_composer(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	composer = driver.view.chat.composer
	driver.click(composer.entry)
	driver.type("half a th")
	driver.click(driver.view.panel.buttons["files"].canvas)
	driver.key("m")
	assert last(call, "mic") == {"do": "mic", "on": True} and composer.text() == "half a th"


def test_keys_of_the_meeting_do_nothing_else_in_a_text(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	composer = driver.view.chat.composer
	driver.click(composer.entry)
	driver.type("half a th", "Home", "ctrl+d", "ctrl+e")
	driver.type("and ", "End")
	assert composer.text() == "and half a th" and last(call, "mic") and last(call, "camera")


def test_command_keys_of_a_mac_are_the_systems(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
	driver = opened(start=False)
	call = driver.meet()
	driver.view.show_panel("files")
	monkeypatch.setattr("sys.platform", "darwin")
	for key in "vmhc":
		driver.view.stage.canvas.event_generate(f"<KeyPress-{key}>", state=8)
		driver.view.stage.canvas.event_generate(f"<KeyRelease-{key}>", state=8, time=9)
	assert not any(last(call, one) for one in ("camera", "mic", "hand")) and not driver.view.reading()
	driver.view.stage.canvas.event_generate("<KeyPress-h>", time=99)
	assert last(call, "hand") == {"do": "hand", "up": True}


def test_private_message_goes_to_one(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	driver.view.actions.write_to("Jonas Weber")
	driver.pump(0.2)
	driver.hand("type", "hello")
	driver.key("Return")
	assert last(call, "private") == {"do": "private", "to": "Jonas Weber", "text": "hello"}


def test_raw_emoji_never_reach_tk(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	entry = driver.view.chat.composer.entry
	driver.click(entry)
	driver.root.clipboard_clear()
	driver.root.clipboard_append("good 👍🏽 dino 🦖")
	driver.key("ctrl+v")
	driver.pump(0.3)
	assert all(ord(char) < 0x1F000 for char in entry.get("1.0", "end"))
	driver.key("Return")
	assert last(call, "chat") == {"do": "chat", "text": "good 👍 dino :t-rex:"}


def test_letters_beyond_the_first_plane_are_shown(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	view = driver.view.chat.list
	for n, text in enumerate(("𠮷野家", "a 𪚥 b", "李 ok", "नमस्ते", "𝄞 note"), 1):
		assert cs.plain(text) == text and cs.plain(f"{text}\U000f0000\U000e0041\ufe0f") == text
		call.change(chat=(cs.ChatLine(n, text, text, 0.0),))
		if not cs.shaped(text):
			driver.until(lambda: written(view.canvas).count(text) == 2, f"{text}: the name and the words")  # noqa: B023


def test_the_address_in_the_top_bar_is_the_present_one(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
	driver = opened(start=False)
	driver.meet()
	assert driver.view.top._lines[1].startswith("Encrypted on this network  ·  192.168.1.20")
	moved = [cs.WayIn("10.9.8.7", "0T4N", "wlan0")]
	monkeypatch.setattr(driver.backend, "ways_in", lambda: moved)
	driver.until(lambda: "  ·  10.9.8.7  ·  " in driver.view.top._lines[1], "the new address", 8)


@pytest.mark.parametrize("size", ["1366x768", "1024x600", "853x480"])
def test_the_top_bar_shows_whole_facts_alone(opened: Open, size: str) -> None:
	driver = opened(size, language="fr", start=False)
	driver.meet()
	driver.pump(0.1)
	(facts,) = [one for one in written(driver.view.top.title.canvas) if "Chiffré" in one]
	assert driver.view.top._lines[1].startswith(facts) and not facts.endswith("…")
	assert set(facts.split("  ·  ")) <= set(driver.view.top._lines[1].split("  ·  "))
	assert "  ·  Animateur : Mr Lewis  ·  " in driver.view.top._lines[1]


def test_a_raised_hand_is_told_whichever_comes_first(opened: Open) -> None:
	driver = opened(start=False)
	call, view, said = driver.meet(), driver.view, list[str]()
	people = call.snapshot().people
	view.toasts.add = lambda words, *_, **__: said.append(words)  # type: ignore[method-assign]
	for (raised, who, told), way in itertools.product(((True, 3, 1), (False, 3, 0), (True, 6, 0)), (1, -1)):
		call.change(people=people)
		view.tick()
		said.clear()
		event = {"event": "state", "id": who, "name": "Jonas Weber", "hand": True, "raised": raised}
		steps = [partial(call.gui_queue.put, event), partial(call.change_person, who, hand=2.0)]
		for step in steps[::way]:
			step()
			view.tick()
		assert said == ["Jonas Weber raised a hand"] * told, (raised, who, way)


def test_reaction_is_picked_by_keyboard_and_floats(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
	monkeypatch.setattr(cs.Reactions, "SECONDS", 1.0)
	driver = opened(start=False)
	call = driver.meet()
	driver.command("r")
	driver.pump(0.2)
	driver.key("Right")
	driver.key("Return")
	assert last(call, "react") == {"do": "react", "emoji": "❤"}
	driver.until(lambda: driver.view.stage.canvas.find_withtag("react"), "a floating heart")
	driver.until(lambda: not driver.view.stage.canvas.find_withtag("react"), "the heart is gone")


def test_watch_asks_for_what_is_in_sight(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(30)
	streams = last(call, "watch")["streams"]
	seen = {person.name for person in call.snapshot().people if person.id in driver.view.stage.tiles}
	assert set(streams) <= seen and len(streams) < 16
	assert all(wish["fps"] in (5, 15) and wish["layer"] in (1, 2) for wish in streams.values())
	driver.command("2")
	driver.until(
		lambda: any(w["layer"] == 2 for w in last(call, "watch")["streams"].values()), "a large speaker"
	)
	driver.key("3")
	driver.until(lambda: len(last(call, "watch")["streams"]) == 1, "only one in focus")


def test_a_class_is_shown_at_the_rates_that_the_eye_needs(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(30)
	names = {one.id: one.name for one in call.snapshot().people}
	for number in names:
		call.change_person(number, camera=True)
	driver.root.geometry("1366x768")
	loud, beat = names[3], itertools.count(1)

	def asked() -> dict[str, int]:
		call.change(delay_ms=float(next(beat)))  # as the meeting says each second
		return {name: wish["fps"] for name, wish in last(call, "watch")["streams"].items()}

	def is_now(rates: dict[str, int], others: int) -> bool:
		now = asked()
		return len(now) > 6 and now == dict.fromkeys(now, others) | rates

	call.change(speaking=3)
	driver.until(lambda: is_now({loud: 15}, 5), "who speaks moves smoothly")
	call.change(speaking=0)
	driver.until(lambda: is_now({}, 5), "and for a while after that")
	driver.command("2")
	driver.until(lambda: cs.SPARING_FPS in asked().values(), "the large one, calm, in a class")
	large = driver.view.stage.plan.large
	assert isinstance(large, int)
	call.change(quality={large: cs.StreamQuality(lively=True)})
	driver.until(lambda: asked()[names[large]] == 15, "somebody who moves fast")
	driver.backend.set_setting("best_picture", True)
	driver.until(lambda: is_now({}, 15), "all that a cable carries")


def test_a_window_that_nobody_sees_asks_for_nothing_and_paints_nothing(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(9)
	before = last(call, "watch")
	assert before["streams"]
	driver.root.withdraw()  # as minimising does, for which there is no window manager here
	driver.until(lambda: last(call, "watch")["streams"] == {}, "nobody is watched")
	assert last(call, "watch_screen") == {"do": "watch_screen", "on": False}
	looks: list[object] = []
	call.picture = lambda key: looks.append(key) or (0, None)  # type: ignore[method-assign,func-returns-value]
	driver.pump(0.3)
	assert not looks
	driver.root.deiconify()
	driver.until(lambda: last(call, "watch") == before, "all are watched again")
	assert last(call, "watch_screen") == {"do": "watch_screen", "on": True}
	driver.until(lambda: looks, "and painted")


def test_a_shared_screen_out_of_sight_is_not_watched(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(9, presenter=1)
	on, off = ({"do": "watch_screen", "on": state} for state in (True, False))
	driver.until(lambda: "screen" in driver.view.stage.tiles, "the screen")
	driver.until(lambda: last(call, "watch_screen") in (None, on), "it is watched, as from the start")
	driver.view.stage.pin(3)
	driver.until(lambda: last(call, "watch_screen") == off, "only the pinned one")
	driver.view.stage.pin(3)
	driver.until(lambda: last(call, "watch_screen") == on, "the screen again")


def test_pages_turn_and_pin_goes_to_focus(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet(50)
	driver.key("Escape")
	stage = driver.view.stage
	first = set(stage.tiles)
	assert stage.plan.pages > 3
	driver.click(driver.view.pager.canvas, x=driver.view.pager.canvas.winfo_width() - 5)
	assert stage.plan.page == 1 and not first & set(stage.tiles)
	driver.click(stage.canvas, x=5, y=5)
	driver.key("Next")
	assert stage.plan.page == 2
	driver.key("Prior", "Prior")
	assert set(stage.tiles) == first
	x, y, *_ = stage.tiles[min(first)].box
	driver.click(stage.canvas, x + 20, y + 60)
	driver.key("p")
	assert stage.plan.layout == "focus" and list(stage.tiles) == [min(first)]
	driver.key("p")
	assert stage.plan.layout == "grid" and set(stage.tiles) == first


def test_pictures_move_in_the_tiles(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()
	photo = driver.view.stage.tiles[1]._photo
	assert photo is not None

	def look() -> str:
		name = str(photo)
		return str(
			[driver.root.tk.call(name, "get", x, photo.height() // 2) for x in range(20, photo.width(), 9)]
		)

	seen = look()
	driver.until(lambda: look() != seen, "another picture")
	assert driver.view.stage.tiles[1]._photo is photo


def test_a_new_picture_waits_for_no_tick(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	call.fps = 1e-9
	driver.pump(0.2)
	driver.loop._tick = lambda: None  # type: ignore[method-assign]  # nothing is drawn by one any more
	pasted: dict[cs.PictureBox, int] = dict.fromkeys(driver.view.stage.tiles.values(), 0)
	for box in pasted:
		box.paste = lambda image, box=box: pasted.update({box: pasted[box] + 1})  # type: ignore[method-assign]
	seen = [key for key, box in driver.view.stage.tiles.items() if box._live]
	for serial in (5, 6, 7):
		call.picture = lambda key, n=serial: (n, card(1, (320, 180), n))  # type: ignore[method-assign]
		call.told()
		driver.until(lambda n=serial: sum(pasted.values()) == (n - 4) * len(seen), "each, once")  # type: ignore[misc]
	assert {pasted[driver.view.stage.tiles[key]] for key in seen} == {3} and len(seen) < len(pasted)


def test_one_timer_ticks_and_shows_what_was_painted_twice_a_tick(opened: Open) -> None:
	"""Each time that Tk is woken costs as much as to show half a tile."""
	driver = opened()
	loop, tk, done = driver.loop, driver.root.tk, list[str]()
	loop._tick = lambda: done.append("tick")  # type: ignore[method-assign]
	loop.painter.paste = lambda: done.append("shown")  # type: ignore[method-assign]
	driver.until(lambda: done.count("tick") > 4, "ticks")
	first = done.index("tick")
	assert done[first : first + 9] == ["tick", "shown", "shown"] * 3
	waiting = [str(tk.call("after", "info", timer)) for timer in tk.splitlist(tk.call("after", "info"))]
	assert sum(loop._next in script for script in waiting) == 1


def test_what_stands_on_tiles_is_worked_out_when_it_changes(
	opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
	driver = opened()
	call, view = driver.meet(), driver.view
	stage, looks = view.stage, Mock(side_effect=view.stage.looks)
	driver.pump(0.1)
	monkeypatch.setattr(stage, "looks", looks)
	view.tick()
	view.tick()
	assert not looks.called
	changes: dict[str, Callable[[], object]] = {
		"the meeting": lambda: call.change(speaking=2),
		"the tile chosen": lambda: setattr(stage, "_last", 2),
		"the own picture": lambda: setattr(stage, "mirror", not stage.mirror),
		"who is watched": lambda: setattr(stage, "_watched", {}),
		"the places": stage.arrange,
		"the zoom": lambda: stage.zoom.by(2),
		"a dialog": view.settings,
	}
	for what, change in changes.items():
		change()
		view.tick()
		assert looks.called, what
		looks.reset_mock()


@pytest.mark.parametrize("tk_shapes", [False, True])
def test_tk_writes_on_tiles_what_it_can_shape(
	opened: Open, monkeypatch: pytest.MonkeyPatch, tk_shapes: bool
) -> None:
	"""Pillow for Windows cannot; where it writes, the words are no items of the canvas."""
	if tk_shapes:
		monkeypatch.setattr(cs, "shaped", lambda _: False)
	driver = opened(language="es", start=False)
	call = driver.meet(9)
	stage, joined = driver.view.stage, {"ليلى أحمد", "דניאל כהן"}

	def words(key: int) -> set[str]:
		tag = stage.tiles[key]._tag
		return {stage.canvas.itemcget(item, "text") for item in stage.canvas.find_withtag(tag)}

	driver.until(lambda: words(1) == {"Mr Lewis", "ANFITRIÓN"} and words(2) == {"Amira Hassan", "1"}, "names")
	driver.until(lambda: all(tile.painted[1] for tile in stage.tiles.values()), "the others")
	driver.pump(0.1)
	assert words(6) == {"Tú"} and words(7) | words(9) == (joined if tk_shapes else set())
	call.change(link="reconnecting")
	driver.until(lambda: "Reconectando…" in words(1), "a note")
	call.change(link="live", people=call.snapshot().people[1:])
	driver.until(lambda: 1 not in stage.tiles, "he has left")
	driver.until(lambda: words(2) == {"Amira Hassan", "1"}, "the others are painted at their places")
	assert not {"Mr Lewis", "ANFITRIÓN"} & set(written(stage.canvas))
	for tile in stage.tiles.values():
		x, y, wide, tall = tile.box
		for item in stage.canvas.find_withtag(tile._tag):
			left, top, right, foot = stage.canvas.bbox(item)
			assert x < left and y < top and right < x + wide and foot < y + tall


def test_a_shared_screen_is_asked_for_by_painters_alone(opened: Open) -> None:
	"""One of 7680x4320 takes 50 ms to get: in those the window would do nothing else."""
	driver = opened(start=False)
	driver.meet()
	asked: set[str] = set()
	stage = driver.view.stage
	box = cs.PictureBox(stage, lambda: (asked.add(threading.current_thread().name), (len(asked), None))[1])
	box.place((0, 0, 300, 200))
	for n in range(3):
		box.show(cs.TileLook(name=str(n), fit=True))
		driver.pump(0.1)
	box.remove()
	assert asked and all(name.startswith("tile-painter") for name in asked)


def test_a_tile_of_any_past_size_or_person_is_painted(opened: Open) -> None:
	"""Pictures are made for a place that may be another when they come; whoever has left is not painted."""
	driver = opened("1280x720", start=False)
	call = driver.meet()
	call.fps = 1e-9
	stage = driver.view.stage
	for size in ("1280x720", "1000x500", "1280x720"):
		driver.root.geometry(size)
		driver.root.update()
		driver.view.tick()
	driver.until(lambda: all(box.painted[1] for box in stage.tiles.values()), "painted")
	driver.pump(0.1)
	for key, box in stage.tiles.items():
		photo = str(box._photo)
		seen = {driver.root.tk.call(photo, "get", x, box.box[3] // 2) for x in range(20, box.box[2] - 20, 9)}
		assert len(seen) > 1, key
	stage.arrange = lambda: None  # type: ignore[method-assign]  # as in a window without room
	call.change(people=call.snapshot().people[:2])
	driver.view.tick()


def test_a_voice_that_moves_the_meter_renews_no_panel(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
	driver = opened(start=False)
	call = driver.meet()
	driver.pump(0.1)
	shown: list[object] = []
	monkeypatch.setattr(driver.view, "_show", shown.append)
	for level in (0.1, 0.5, 0.9):
		call.change(sound=(level, level, False))
		driver.view.tick()
	assert not shown
	call.change(speaking=2)
	driver.view.tick()
	assert shown


def test_a_list_that_nobody_sees_is_drawn_when_it_comes_into_sight(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(9, host=True)
	panel = driver.view.attendees
	drawn: list[object] = []
	wipe, panel.list.wipe = panel.list.wipe, drawn.append  # type: ignore[method-assign,assignment]
	for number in range(1, 4):  # the messages are in front
		people = [*call.snapshot().people, cs.Person(90 + number, f"Who comes as {number}", "member")]
		call.change(people=tuple(people))
		driver.until(lambda n=9 + number: len(panel.list.rows) >= n, "they are listed")  # type: ignore[misc]
	assert not drawn
	panel.list.wipe = wipe  # type: ignore[method-assign]
	driver.command("u")
	driver.until(lambda: any("comes as 3" in one for one in written(panel.list.canvas)), "they are drawn")


def test_a_control_is_painted_once_it_is_in_sight(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
	painted: Counter[cs.Painted] = Counter()

	def counted(paint: Callable[[Any], None]) -> Callable[[Any], None]:
		def paints(one: Any) -> None:
			assert one.canvas.winfo_viewable()
			painted[one] += 1
			paint(one)

		return paints

	for kind in (cs.Button, cs.BarButton, cs.ListView, cs.Card):
		monkeypatch.setattr(kind, "paint", counted(kind.paint))
	driver = opened(start=False)
	driver.meet(host=True)
	driver.view.side.buttons["hand"].show(kind="primary", words="Lower hand")
	for name in ("attendees", "files", "messages"):
		driver.view.show_panel(name)
		driver.pump(0.1)
	assert len(painted) > 30
	assert painted.total() < 1.5 * len(painted), "while they are built they change several times"


def test_the_rows_of_a_list_are_drawn_in_sight_alone(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
	drawn: list[bool] = []
	draw = cs.PersonRow.draw

	def counted(row: cs.PersonRow, view: cs.ListView, y: int, width: int) -> int:
		drawn.append(y < view.extent[1])
		return draw(row, view, y, width)

	monkeypatch.setattr(cs.PersonRow, "draw", counted)
	driver = opened(start=False)
	driver.meet(9)
	driver.view.show_panel("attendees")
	driver.until(lambda: len(drawn) > 3, "they are listed")
	assert all(drawn), "their heights come of that drawing"


def test_a_message_out_of_sight_is_measured_not_drawn(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()
	view = driver.view.chat.list
	row = next(one for one in view.rows if isinstance(one, cs.ChatRow) and one.first)
	drawn = len(view.canvas.find_all())
	below, high = view.extent[1], row.draw(view, view.extent[1], view.width)
	assert len(view.canvas.find_all()) == drawn
	assert high == row.draw(view, below - 1, view.width) and len(view.canvas.find_all()) > drawn


def test_what_is_drawn_for_a_size_that_was_is_given_back(opened: Open) -> None:
	driver = opened()
	look = driver.loop.look
	for width in range(900, 1300, 7):
		driver.root.geometry(f"{width}x{width // 2}")
		driver.root.update()
	pixels = sum(photo.width() * photo.height() for photo in look._photos.values())
	assert pixels == look._pixels <= look.PIXELS < 5_000_000


def test_host_leaves_or_ends(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True)
	driver.command("Escape")
	assert driver.view.dialog is not None and driver.view.dialog.open
	driver.key("Escape")
	assert not driver.view.dialog.open
	driver.key("Escape")
	driver.pump(0.2)
	driver.key("Tab")
	driver.key("Return")
	assert last(call, "end") == {"do": "end"}
	driver.until(lambda: driver.loop.start is not None, "back at the start window")
	assert "ended" in driver.start.trouble["text"]
	driver.until(lambda: call.closed, "the controller is closed")


@pytest.mark.parametrize(
	("event", "reason", "words"),
	[
		("left", "left", ""),
		("ended", "timeout", "El anfitrión no responde."),
		("ended", "The host removed you from the meeting.", "El anfitrión te quitó de la reunión."),
		("ended", "", "La reunión ha terminado."),
	],
)
def test_the_end_is_told_in_words_for_people(opened: Open, event: str, reason: str, words: str) -> None:
	driver = opened(language="es", start=False)
	driver.meet().gui_queue.put({"event": event, "reason": reason})
	driver.until(lambda: driver.loop.start is not None, "back at the start window")
	assert driver.start.trouble["text"] == words


def test_member_is_not_offered_host_tools(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	assert not driver.view.side.buttons["host"].canvas.winfo_ismapped()
	driver.command("u")
	driver.pump(0.2)
	assert "mute_all" not in driver.view.attendees.list.actions
	driver.command("u", "Escape")
	driver.pump(0.2)
	driver.key("Return")
	assert last(call, "leave") == {"do": "leave"}


def test_file_is_accepted_and_declined(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	driver.view.show_panel("files")
	driver.pump(0.2)
	view = driver.view.files.list
	driver.spot(view, "download")
	assert last(call, "download") == {"do": "download", "file": "f1"}


def test_mute_all_and_toast(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True)
	driver.command("u")
	driver.pump(0.2)
	driver.spot(driver.view.attendees.list, "mute_all")
	assert last(call, "mute") == {"do": "mute", "who": "all"}
	call.gui_queue.put(
		{"event": "device", "what": "camera", "state": "failed", "reason": "The camera was pulled out."}
	)
	driver.until(lambda: driver.view.stage.canvas.find_withtag("toast"), "a toast")


def test_start_lists_joins_and_asks_for_the_pin(opened: Open) -> None:
	driver = opened()
	driver.until(lambda: driver.start.list.rows, "the list")
	driver.start.backend.refusal = cs.Refused("wrong_pin", "That PIN is not right.")  # type: ignore[attr-defined]
	driver.click(driver.start.pin.canvas, x=30)
	driver.hand("type", "482913")
	driver.key("Return")
	driver.until(lambda: driver.start.trouble["text"], "the reason")
	assert driver.backend.calls[-1] == ("join", "192.168.1.20", 9000, "Zuri Okafor", "482913", False)
	assert driver.start.pin.value == ""
	driver.backend.refusal = None
	driver.hand("type", "111111")
	driver.click(driver.start.join.canvas)
	driver.until(lambda: driver.loop.view is not None, "in the meeting")


def test_start_joins_the_known_meeting_by_itself(opened: Open) -> None:
	driver = opened()
	driver.backend.known = ad(pin=False)
	driver.until(lambda: driver.loop.view is not None, "in the meeting")


def test_changed_host_is_a_loud_question(opened: Open) -> None:
	driver = opened()
	driver.backend.refusal = cs.Refused("host_changed", "The certificate is another one.")
	driver.start.refused("host_changed", "The certificate is another one.")
	driver.pump(0.3)
	driver.key("Return")
	assert driver.loop.view is None and not [c for c in driver.backend.calls if c[0] == "join"]


def test_hosting_from_the_start_window(opened: Open) -> None:
	driver = opened()
	driver.click(driver.start.title.entry)
	driver.type("Chess", "Return")
	driver.until(lambda: driver.loop.view is not None, "in the meeting")
	assert ("host", "Zuri Okafor", "Chess", "auto") in driver.backend.calls


def test_who_left_while_nothing_was_laid_out_is_skipped(
	opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""As where the window is so small that there is no room for tiles: they stay as they were."""
	driver = opened(start=False)
	driver.meet()
	stage = driver.view.stage
	shot = stage.plan.shot
	gone = next(one for one in shot.people if one.id in stage.tiles and one.id != shot.me)
	monkeypatch.setattr(stage.canvas, "winfo_width", lambda: 30)
	stage.show(dataclasses.replace(shot, people=tuple(one for one in shot.people if one is not gone)))
	assert gone.id in stage.tiles
	stage.render()


def test_settings_change_devices_and_palette(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()
	driver.view.settings()
	driver.pump(0.5)
	assert driver.view.dialog is not None
	for page in ("video", "look", "keys", "audio"):
		driver.view.dialog.choose(page)  # type: ignore[attr-defined]
		driver.pump(0.2)
	driver.view.dialog._restyled("palette", "light")  # type: ignore[attr-defined]
	driver.pump(0.3)
	assert driver.loop.look.palette is cs.LIGHT


@pytest.mark.parametrize(
	("size", "settings"),
	[
		("1280x800", {}),
		("1280x800", {"palette": "light", "language": "fr"}),
		("1024x600", {"language": "es"}),
		("1024x600", {"language": "fr"}),
		("1440x900", {"scale": "150"}),
		("1600x1000", {"scale": "200", "palette": "contrast"}),
	],
)
def test_nothing_overlaps(opened: Open, size: str, settings: dict[str, str]) -> None:
	driver = opened(size, **settings)
	for name in states(driver):
		assert overlaps(driver.root) == [], name


def test_the_check_and_its_findings_do_not_overlap(opened: Open) -> None:
	driver = opened()
	driver.backend.meetings = []
	driver.until(lambda: driver.start.check.canvas.winfo_ismapped(), "the way to the check")
	driver.click(driver.start.check.canvas)
	driver.until(lambda: driver.root.grab_current(), "the dialog")
	driver.pump(0.3)
	assert overlaps(driver.root) == []
	driver.key("Escape")
	assert driver.root.grab_current() is None


def resident() -> int:
	"""Bytes of memory of this process that are in use; what the allocator keeps for later is given back."""
	gc.collect()
	with contextlib.suppress(AttributeError):
		ctypes.CDLL(None).malloc_trim(0)
	return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_cycles_of_everything_leave_nothing(opened: Open) -> None:
	"""Cycles of join, leave, layout and reaction for 4 s; tests/bench/window.py does 2,000 and weighs kBs."""
	driver = opened()

	def cycle(call: FakeController, number: int) -> None:
		people = call.snapshot().people
		call.change(people=(*people, cs.Person(100 + number, f"Guest {number % 7}", camera=True)))
		driver.root.update()
		call.change(people=people)
		driver.view.set_layout(("grid", "speaker", "focus")[number % 3])
		driver.view.reactions.add("👍", "Ana")
		driver.view.tick()
		driver.root.update()

	def counts() -> tuple[int, ...]:
		driver.view.reactions.clear()
		driver.view.set_layout("grid")
		driver.pump(0.2)
		tk_call = driver.root.tk.call
		return (
			len(driver.root.tk.splitlist(tk_call("after", "info"))),
			threading.active_count(),
			len(driver.view.stage.tiles),
		)

	call = driver.meet()
	end = time.monotonic() + 2
	done = 0
	while done < 1_000 and time.monotonic() < end:
		cycle(call, done)
		done += 1
	before, memory = counts(), resident()
	images = len(driver.root.image_names())
	for number in range(done):
		cycle(call, number)
	assert counts() == before
	assert resident() - memory < 20_000_000  # one picture a cycle would be hundreds of MB
	assert len(driver.root.image_names()) <= images + 40  # the look's cache of drawn pictures


def test_a_second_start_brings_the_window_to_front(tmp_path: Path) -> None:
	knocks: queue.SimpleQueue[str] = queue.SimpleQueue()
	first, second = (cs.OneWindow(tmp_path, lambda: knocks.put("front")) for _ in range(2))
	assert first.open()
	assert not second.open()
	assert knocks.get(timeout=5) == "front"
	first.close()
	second.close()
	third = cs.OneWindow(tmp_path, lambda: None)
	assert third.open()
	third.close()


def test_orders_from_outside_close_the_window(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()
	driver.backend.orders.put("front")
	driver.until(driver.backend.orders.empty, "the order was taken")
	assert driver.root.wm_client()


def test_what_begins_the_window_is_said_and_its_failure_too(opened: Open) -> None:
	driver = opened()
	hold = threading.Event()

	def fail() -> FakeController:
		hold.wait(10)
		raise cs.Refused("no_meeting", "The host does not answer.")

	driver.loop.begin(lambda _: fail(), "One moment…")
	driver.until(lambda: driver.start.busy.frame.winfo_ismapped(), "it says what goes on")
	hold.set()
	driver.until(lambda: driver.start.trouble["text"] == "The host does not answer.", "why it failed")
	assert not driver.start.busy.frame.winfo_ismapped()


def test_a_window_opened_for_an_address_joins_there(display: str, monkeypatch: pytest.MonkeyPatch) -> None:
	monkeypatch.setenv("DISPLAY", display)
	backend = FakeBackend()
	backend.refusal = cs.Refused("no_meeting", "The host does not answer.")
	asked = backend.join

	def join(*args: Any) -> FakeController:
		backend.orders.put("close")
		return asked(*args)

	monkeypatch.setattr(backend, "join", join)
	gone: list[bool] = []
	note = lambda: gone.append(backend.closed)  # noqa: E731
	assert cs.run_window(backend, address="192.168.7.7:9100", gone=note) == 0  # type: ignore[arg-type]
	assert gone == [False], "before what takes its time"
	assert [one for one in backend.calls if one[0] == "join"] == [
		("join", "192.168.7.7", 9100, "Zuri Okafor", "", False)
	]
	assert backend.settings["address"] == "192.168.7.7:9100", "another try begins with it"
	assert backend.closed


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
	"""By how many seconds this computer's clock is ahead, never above 0: Tcl's waits end by the true one."""
	seconds, right = [0.0], time.time
	tcl, before = ctypes.CDLL(_tkinter.__file__), [ctypes.c_void_p() for _ in range(3)]

	@ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_long), ctypes.c_void_p)
	def tell(at: Any, _: Any) -> None:
		at[0], at[1] = divmod(round((right() + seconds[0]) * 1e6), 1_000_000)

	monkeypatch.setattr(time, "time", lambda: right() + seconds[0])
	tcl.Tcl_QueryTimeProc(*map(ctypes.byref, before))
	tcl.Tcl_SetTimeProc(tell, before[1], None)
	yield seconds
	tcl.Tcl_SetTimeProc(*before)


def test_a_clock_that_is_set_does_not_stop_the_window(
	display: str, monkeypatch: pytest.MonkeyPatch, ahead: list[float]
) -> None:
	monkeypatch.setenv("DISPLAY", display)
	backend, tick = FakeBackend(), cs.WindowLoop._tick
	ticks, lived = list[float](), list[tuple[float, bool]]()

	def count(loop: cs.WindowLoop) -> None:
		ticks.append(ahead[0])
		tick(loop)

	def lives(seconds: float) -> None:
		ahead[0], end = seconds, time.monotonic() + 15
		while ticks[-10:] != [seconds] * 10 and time.monotonic() < end:
			time.sleep(0.01)
		lived.append((seconds, ticks[-10:] == [seconds] * 10))

	def set_the_clock() -> None:
		for seconds in (0.0, -86_400.0, -3e8, 0.0):
			lives(seconds)
		backend.orders.put("close")

	monkeypatch.setattr(cs.WindowLoop, "_tick", count)
	setter = threading.Thread(target=set_the_clock)
	setter.start()
	assert cs.run_window(backend) == 0  # type: ignore[arg-type]
	setter.join()
	assert all(on for _, on in lived) and len(lived) == 4, lived


def knock(driver: Driver, call: FakeController, number: int, name: str, why: str) -> None:
	"""Let somebody wait, in the list too."""
	event = {"event": "knock", "n": number, "name": name, "address": "192.168.1.9", "why": why}
	call.change(asks={number: event})
	call.gui_queue.put(event)
	driver.view.show_panel("attendees")
	driver.until(lambda: f"ask{number}:1" in driver.view.attendees.list.actions, "the question")
	assert driver.view.toasts._toasts[-1].words == f"{name} (192.168.1.9) waits to be let in"


def test_who_waits_is_let_in(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True)
	knock(driver, call, 4, "Tim", "pin")
	assert "That is not the PIN of this meeting." in "\n".join(written(driver.view.attendees.list.canvas))
	driver.spot(driver.view.attendees.list, "ask4:1")
	assert last(call, "admit") == {"do": "admit", "n": 4, "yes": True}
	call.change(asks={})
	driver.until(lambda: "ask4:1" not in driver.view.attendees.list.actions, "nobody waits")


def test_the_host_is_marked_in_the_chat_and_lets_the_removed_back(opened: Open) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(3, host=True)
	first = call.snapshot().people[0].name
	line = cs.ChatLine(90, "Eve", "The lesson is over.", time.time())
	said = (cs.ChatLine(91, first, "Page 42, please.", time.time()), line)
	call.change(me=3, name="Ben", chat=said, hosts=frozenset({first}), banned=("Tim", "Zoe"))
	driver.view.show_panel("messages")
	driver.until(
		lambda: len([row for row in driver.view.chat.list.rows if isinstance(row, cs.ChatRow)]) == 2, "lines"
	)
	canvas = driver.view.chat.list.canvas
	marked = [canvas.itemcget(item, "text") for item in canvas.find_all() if canvas.type(item) == "text"]
	assert [words.startswith("Host · ") for words in marked if " · " in words] == [True]
	knock(driver, call, 7, "Tom", "removed")
	assert "Somebody there was removed." in "\n".join(written(driver.view.attendees.list.canvas))
	driver.spot(driver.view.attendees.list, "Zoe")
	assert last(call, "unban") == {"do": "unban", "who": "Zoe"}


def test_the_notice_of_who_waits_goes_with_the_waiting(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True)
	knock(driver, call, 4, "Tim", "knock")
	driver.view.toasts.add("Another notice", "info", "Look", stays=True)
	call.change(asks={})
	call.gui_queue.put({"event": "knock_gone", "n": 4})
	driver.until(lambda: len(driver.view.toasts._toasts) == 1, "it is gone")
	assert driver.view.toasts._toasts[0].words == "Another notice"


def test_messages_are_selected_copied_and_saved(
	opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
	driver = opened(start=False)
	driver.meet()
	panel = driver.view.chat
	rows = [row for row in panel.list.rows if isinstance(row, cs.ChatRow)][-2:]
	edges = tops(panel.list)
	driver.click(panel.list.canvas, 80, edges[rows[0]] + 40)
	driver.key("ctrl+c")
	assert driver.root.clipboard_get() == rows[0].line.text
	driver.hand("keydown", "shift")
	driver.click(panel.list.canvas, 80, edges[rows[1]] + 40)
	driver.hand("keyup", "shift")
	driver.key("ctrl+c")
	assert len(driver.root.clipboard_get().splitlines()) == 2
	monkeypatch.setattr(cs, "asked_path", lambda *_, **__: str(tmp_path / "chat.txt"))
	driver.view.actions.save_chat()
	saved = (tmp_path / "chat.txt").read_text("utf-8")
	assert all(line.text.splitlines()[0] in saved for line in driver.view.shot.chat)


def test_the_voice_says_lines_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
	said = tmp_path / "said"
	program = tmp_path / "spd-say"
	program.write_text(f'#!/bin/sh\n(echo "$*"; cat; echo) >> {said}\n')
	program.chmod(0o755)
	monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
	voice = cs.Voice()
	for words in ("Ana joined", "Zoë raised a hand; $(reboot)"):
		voice.say(words, "en")
	end = time.monotonic() + 5
	while not said.exists() or said.read_text("utf-8").count("\n") < 4:
		assert time.monotonic() < end
		time.sleep(0.01)
	voice.close()
	assert said.read_text("utf-8") == "-w -e -l en\nAna joined\n-w -e -l en\nZoë raised a hand; $(reboot)\n"


def test_the_voice_is_silent_once_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
	"""Also where the line was about to be said, and its program is only now there."""
	program = tmp_path / "spd-say"
	program.write_text("#!/bin/sh\nexec sleep 20\n")
	program.chmod(0o755)
	monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
	voice, said = cs.Voice(), []
	closing, looked, popen = threading.Thread(target=voice.close), threading.Event(), subprocess.Popen
	end = voice._worker.close

	def late(*told: Any, **more: Any) -> subprocess.Popen[str]:
		closing.start()
		assert looked.wait(5)
		said.append(popen(*told, **more))
		return said[0]

	monkeypatch.setattr(voice._worker, "close", lambda: (looked.set(), end()))
	monkeypatch.setattr("connectsphere.subprocess.Popen", late)
	voice.say("Ana joined", "en")
	assert looked.wait(5)
	closing.join()
	still = said[0].poll() is None
	said[0].kill()
	wait_until(lambda: not voice._worker._thread.is_alive())
	assert not still


class FixedFont:
	"""A font whose letters are all 7 pixels wide."""

	def measure(self, text: str) -> int:
		return 7 * len(text)


@given(st.text(st.sampled_from(["👍", "🎉", "a", "b", "!", " ", "\u00a0", "\n"])))
@example("👍" * 30)
def test_lines_fit_and_lose_nothing_but_blanks(text: str) -> None:
	blank = "\u00a0" * 3
	lines = cs.wrapped(text, FixedFont(), 70, blank)  # type: ignore[arg-type]
	assert max(map(len, lines)) <= 10
	emoji = re.sub("[👍🎉]", blank, text)
	assert "".join(lines).replace(" ", "") == re.sub("[ \n]", "", emoji)
	if "\u00a0" not in text:
		assert sum(line.count(blank) for line in lines) == len(re.findall("[👍🎉]", text)), (
			"an emoji is whole"
		)


def test_a_line_does_not_begin_with_the_comma_of_an_emoji() -> None:
	blank = "\u00a0" * 3
	lines = cs.wrapped("drawing👍, may I?", FixedFont(), 70, blank)  # type: ignore[arg-type]
	assert lines == ["drawing", f"{blank}, may", "I?"]


def test_grid_fills_the_space() -> None:
	for count in range(1, 17):
		boxes = cs.grid_boxes(count, 960, 620, 12)
		assert len(boxes) == count
		for x, y, wide, tall in boxes:
			assert x >= 0 and y >= 0 and x + wide <= 960 and y + tall <= 620
			assert 1.3 <= wide / tall <= 2.01
	assert len({box[1] for box in cs.grid_boxes(9, 960, 620, 12)}) == 3


def test_every_emoji_and_icon_can_be_drawn() -> None:
	assert len(cs.emoji_shapes()) >= 60
	for char in cs.emoji_shapes():
		assert cs.draw_emoji(char, 24).getbbox()
	for name in cs.shape_lines(cs.ICONS):
		assert cs.draw_icon(name, 20, "#FFFFFF").getbbox()


def test_plain_has_nothing_that_tk_chokes_on() -> None:
	assert (
		cs.plain("Ana 👩‍👩‍👧 🇫🇷 👍🏽 ❤️ é 李")
		== "Ana :woman: :regional_indicator_symbol_letter_f: :thumbs_up: :heart: é 李"
	)


def test_the_screen_stays_lit_while_others_are_in_sight(
	opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
	lit: set[object] = set()

	class Recorder:
		"""Stands in for Power."""

		def need(self, what: str, owner: object, on: bool) -> None:
			"""Note who wants the display."""
			assert what == "display"
			(lit.add if on else lit.discard)(id(owner))

	monkeypatch.setattr(cs, "power", Recorder())
	driver = opened()
	driver.pump(0.1)
	assert not lit, "not for the start window"
	call = driver.meet(3)
	driver.until(lambda: lit, "cameras of others")
	for number in range(9):
		call.change_person(number, camera=False)
	driver.until(lambda: not lit, "nobody shows anything")
	call.change(presenter=2)
	driver.until(lambda: lit, "another's screen")
	driver.view.stage.see(False)
	assert not driver.view.stage.shows_others, "not for a minimised window"
	driver.loop.left("left")
	assert not lit
