"""The keyboard of the real window: what is typed where a text is meant is that text, for that person, and
nothing else; held keys act once; every layout; who is written to stays the one chosen."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tkinter as tk
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from fake_call import FakeController, last, sent
from hand import HANDS, Hand
from test_window_meeting import Desk, desk, hosted
from waiting import best_of
from window_driver import Driver, Open, opened, walk, written

import connectsphere as cs

if not all(map(shutil.which, ("xdotool", "setxkbmap"))):
	pytest.skip("needs xdotool and setxkbmap", allow_module_level=True)

__all__ = ["desk", "opened"]  # fixtures

AMIRA = "Amira Hassan"


def quiet(call: FakeController) -> list[cs.Json]:
	"""What the window did but for asking for pictures."""
	return [one for one in call.commands if not one["do"].startswith("watch")]


@pytest.fixture
def layout(display: str) -> Iterator[Callable[[str], None]]:
	"""Chooses the keyboard's layout; a hand knows the one that it has seen at its beginning."""
	lasting = HANDS[display]

	def choose(name: str) -> None:
		change = ["setxkbmap", "-display", display, name]
		assert best_of(
			5, lambda: subprocess.run(change, check=False).returncode == 0
		)  # it races the X server
		if HANDS[display] is not lasting:
			HANDS[display].close()
		HANDS[display] = lasting if name == "us" else Hand(display)

	yield choose
	choose("us")


# -- what is typed is what is sent ------------------------------------------------------


def fresh(driver: Driver) -> None:
	"""Straight after joining: nobody has touched anything."""


def chat_by_key(driver: Driver) -> None:
	driver.command("c")


def chat_by_button(driver: Driver) -> None:
	driver.key("Escape")
	driver.click(driver.view.side.buttons["chat"].canvas)


def chat_by_tab(driver: Driver) -> None:
	driver.command("u")
	driver.click(driver.view.panel.buttons["messages"].canvas)


def choose(driver: Driver) -> None:
	driver.click(driver.view.chat.composer.target.canvas)
	driver.menu(f"To: {AMIRA}")


def everyone_again(driver: Driver) -> None:
	choose(driver)
	driver.click(driver.view.chat.composer.target.canvas)
	driver.menu("To: Everyone")


def answer_row(driver: Driver) -> None:
	driver.spot(driver.view.chat.list, "reply")


def answer_toast(driver: Driver) -> None:
	driver.command("u")
	driver.view.controller.gui_queue.put({"event": "private", "from": AMIRA, "text": "hi", "n": 90})
	driver.until(lambda: driver.view.stage.canvas.find_withtag("toast"), "the toast")
	driver.key("a")


def write_from_menu(driver: Driver) -> None:
	driver.command("u")
	driver.spot(driver.view.attendees.list, "more2")
	driver.menu("Write in private")


def closed(name: str, *keys: str) -> Callable[[Driver], None]:
	"""A dialog opened and closed, with the messages in sight."""

	def state(driver: Driver) -> None:
		driver.click(driver.view.side.buttons[name].canvas)
		driver.until(lambda: cs.grabbed(driver.root), "the dialog")
		driver.key(*keys)
		driver.until(lambda: not cs.grabbed(driver.root), "the dialog is closed")

	return state


def picker_left(driver: Driver) -> None:
	driver.click(driver.view.side.buttons["react"].canvas)
	driver.key("Escape")


def picker_open(driver: Driver) -> None:
	driver.click(driver.view.side.buttons["react"].canvas)


def on_a_button(driver: Driver) -> None:
	driver.view.side.buttons["share"].canvas.focus_set()


def on_the_stage(driver: Driver) -> None:
	driver.click(driver.view.stage.canvas, 3, 3)


def with_modifiers(driver: Driver) -> None:
	driver.view.stage.canvas.focus_set()
	for chord in ("alt+h", "super+s", "alt+s", "super+m", "alt+m"):
		driver.key(chord)
	choose(driver)
	driver.key("super+s", "alt+s")


STATES: list[tuple[Callable[[Driver], None], str]] = [
	(fresh, ""), (chat_by_key, ""), (chat_by_button, ""), (chat_by_tab, ""), (choose, AMIRA),
	(everyone_again, ""), (answer_row, AMIRA), (answer_toast, AMIRA), (write_from_menu, AMIRA),
	(closed("settings", "Escape"), ""), (closed("share", "Return", "Escape"), ""),
	(closed("leave", "Escape"), ""), (picker_left, ""), (picker_open, ""), (on_a_button, ""),
	(on_the_stage, ""), (with_modifiers, AMIRA),
]  # fmt: skip
SENTENCES = [  # by layout
	("us", "I don't understand exercise 3?"), ("us", "hello, 1+1=2!"), ("es", "Señor, ¿a la una?"),
	("fr", "ça va, où est l'exercice 3 ?"), ("in", "मुझे समझ"), ("ru", "Я не понимаю 3"),
	("gr", "δεν καταλαβαινω"), ("ara", "لم افهم"), ("il", "לא הבנתי"), ("us", "mvhrcupas?"),
	("us", "+ 0 2 3"),
]  # fmt: skip


@pytest.mark.long
def test_any_sentence_after_anything_goes_to_that_person_and_does_nothing_else(
	opened: Open, layout: Callable[[str], None]
) -> None:
	"""LESSON: "I don't understand" typed after choosing To: once shared the pupil's screen."""
	driver = opened(start=False)
	call = driver.meet()
	for at, (state, to) in enumerate(STATES):
		driver.view.chat.composer.to("")
		driver.view.stage.canvas.focus_set()
		state(driver)
		name, words = SENTENCES[at % len(SENTENCES)]
		layout(name)
		before = quiet(call)
		driver.type(words, "Return")
		wanted = {"do": "private", "to": to, "text": words} if to else {"do": "chat", "text": words}
		label = getattr(state, "__name__", str(at))
		driver.until(lambda before=before: quiet(call) != before, f"{label}: {words}")  # type: ignore[misc]
		driver.pump(0.02)
		assert quiet(call)[len(before) :] == [wanted], label
		assert not cs.grabbed(driver.root) and driver.view.reading(), label


def test_share_needs_a_choice_and_letters_a_closed_panel(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	driver.command("s", "Return", "super+s", "alt+h", "alt+s", "super+m")
	assert quiet(call) == [] and driver.view.dialog is None
	driver.key("ctrl+shift+s")
	dialog = driver.view.dialog
	assert isinstance(dialog, cs.ShareDialog)
	driver.until(lambda: dialog.found, "the screens")
	driver.key("Return", "s", "h", "space")
	driver.click(dialog.go.canvas)
	assert quiet(call) == [] and dialog.open
	driver.key("Right")
	driver.click(dialog.go.canvas)
	assert quiet(call) == [{"do": "share", "on": True, "source": "screen:0"}]


# -- Escape -----------------------------------------------------------------------------


def test_escape_closes_the_newest_of_what_stands(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet()
	view = driver.view
	driver.command("r")
	assert len(view.look.layers) == 1
	driver.key("ctrl+shift+s")
	assert isinstance(view.dialog, cs.ShareDialog) and view.dialog.open
	driver.key("Escape")
	assert not view.dialog.open and view.look.layers == [] and driver.loop.view is view
	driver.key("u", "Escape")
	assert not view.panel_open
	driver.key("Escape")
	assert isinstance(view.dialog, cs.ConfirmDialog) and view.dialog.open
	driver.key("Escape")
	assert not view.dialog.open and view.look.layers == []


def test_a_picker_ends_with_the_meeting(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	driver.click(driver.view.side.buttons["react"].canvas)
	driver.until(lambda: driver.loop.look.layers, "the picker")
	call.gui_queue.put({"event": "ended", "reason": "The host ended the meeting."})
	driver.until(lambda: driver.loop.start is not None, "the start window")
	assert driver.loop.look.layers == []
	assert [one for one in driver.root.winfo_children() if one.winfo_manager() == "place"] == []


# -- held keys --------------------------------------------------------------------------


def test_a_held_key_acts_once(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	driver.key("Escape")
	for key, focus, do in (
		("m", "", "mic"), ("h", "", "hand"), ("ctrl+d", "", "mic"),
		("space", "mic", "mic"), ("Return", "hand", "hand"),
	):  # fmt: skip
		driver.view.stage.focus_set()
		if focus:
			driver.view.side.buttons[focus].canvas.focus_set()
		call.commands.clear()
		with held(driver, *key.split("+")):
			driver.pump(0.9)  # X begins to repeat after 0.5 s
		assert len(sent(call, do)) == 1, key
		driver.hand("key", key)
		driver.until(lambda: len(sent(call, do)) == 2, f"{key} pressed again")  # noqa: B023


def test_what_opens_under_a_held_key_is_not_pressed_by_it(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	driver.key("Escape")
	for key, button in (("Return", "leave"), ("space", "leave"), ("Escape", ""), ("Return", "share")):
		before = driver.view.dialog
		if button:
			driver.view.side.buttons[button].canvas.focus_set()
		with held(driver, key):
			driver.pump(0.9)
		dialog = driver.view.dialog
		assert dialog not in (None, before) and dialog.open and quiet(call) == [], (key, button)  # type: ignore[union-attr]
		driver.key("Escape")


@contextlib.contextmanager
def held(driver: Driver, *keys: str) -> Iterator[None]:
	"""While it lasts these keys are down."""
	driver.hand("keydown", *keys)
	yield
	driver.hand("keyup", *keys)
	driver.pump(0.1)


def test_a_held_key_of_windows_comes_without_releases(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
	driver = opened(start=False)
	call = driver.meet()
	driver.key("Escape")
	monkeypatch.setattr("sys.platform", "win32")
	press = driver.view.stage.canvas.event_generate
	for at in (0, 500, 533, 566, 1400):
		press("<KeyPress-h>", time=1000 + at)
	assert len(sent(call, "hand")) == 1
	press("<KeyRelease-h>", time=2450)
	press("<KeyPress-h>", time=2500)
	assert len(sent(call, "hand")) == 2
	press("<KeyPress-h>", time=4000)  # its release went to another window
	assert len(sent(call, "hand")) == 3


# -- wanted state -----------------------------------------------------------------------


def own(view: cs.MainAppView, what: str) -> bool:
	"""What the roster says of one's own microphone, camera or hand."""
	return bool(getattr(view.shot.person(view.shot.me), what))


def test_two_quick_presses_end_where_they_began(desk: Callable[..., Desk]) -> None:
	driver = hosted(desk("Teacher"))
	driver.key("Escape")
	view = driver.view
	for key, what in (("m", "mic"), ("v", "camera"), ("h", "hand")):
		for presses in (2, 3):
			began = view.controller.snapshot().wants(what)
			done: list[cs.Json] = []
			act = view.act

			def noted(do: str, done: list[cs.Json] = done, act: Any = act, **members: Any) -> None:
				done.append({"do": do, **members})
				act(do, **members)

			view.act = noted  # type: ignore[method-assign]
			driver.hand("key", "--delay", "4", *[key] * presses)
			driver.until(lambda: len([c for c in done if c["do"] == what]) == presses, f"{presses} presses")  # noqa: B023
			view.act = act  # type: ignore[method-assign]
			ends = began if presses == 2 else not began
			assert view.controller.snapshot().wants(what) is ends  # at once, whatever the device does
			driver.until(lambda: own(view, what) is ends, f"{what} is {ends}", 20)  # noqa: B023
			driver.pump(0.3)
			assert own(view, what) is ends is view.controller.snapshot().wants(what)


def test_a_button_shows_what_is_wanted_and_that_it_is_not_live_yet(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	call.change_person(6, mic=False)
	call.change(wanted={"mic": True})
	mic = driver.view.side.buttons["mic"]
	driver.until(lambda: (mic.words, mic.slash, mic.kind) == ("Mute", False, "ghost"), "starting")
	call.change_person(6, mic=True)
	driver.until(lambda: (mic.words, mic.slash, mic.kind) == ("Mute", False, "card"), "live")
	call.change(wanted={"mic": False})
	driver.until(lambda: (mic.words, mic.slash, mic.kind) == ("Unmute", True, "warn"), "off at once")


# -- layouts ----------------------------------------------------------------------------

PLACES = {"m": 58, "v": 55, "h": 43, "d": 40, "e": 26, "s": 39, "c": 54, "a": 38, "x": 53}  # of a US keyboard
LAYOUTS = ("us", "fr", "cz", "ru", "gr", "ara", "il", "in")
AZERTY = {"m": 47, "a": 24}


def test_shortcuts_work_under_every_layout(opened: Open, layout: Callable[[str], None]) -> None:
	driver = opened(start=False)
	call = driver.meet()
	for name in LAYOUTS:
		layout(name)
		driver.pump(0.2)
		call.commands.clear()
		driver.view.show_panel("messages")
		shortcuts_work(driver, call, name)
		driver.view.attendees.search.entry.delete(0, "end")
		driver.view.chat.composer.entry.delete("1.0", "end")


def shortcuts_work(driver: Driver, call: FakeController, name: str) -> None:
	"""Under the layout of that name; the messages are in sight."""
	places = {**PLACES, **(AZERTY if name == "fr" else {})}

	def press(key: str, *mods: str) -> None:
		driver.hand("key", "+".join([*mods, str(places.get(key, key))]))
		driver.pump(0.05)

	driver.key("Escape")
	for key, do in (("m", "mic"), ("v", "camera"), ("h", "hand")):
		press(key)
		assert last(call, do) is not None, (name, key)
	for code, wanted in (("11", "speaker"), ("12", "focus"), ("10", "grid")):
		press(code)
		assert driver.view.stage.plan.layout == wanted, (name, code)
	for key, do in (("d", "mic"), ("e", "camera")):
		before = len(sent(call, do))
		press(key, "ctrl")
		assert len(sent(call, do)) == before + 1, (name, key)
	press("s", "ctrl", "shift")
	assert isinstance(driver.view.dialog, cs.ShareDialog) and driver.view.dialog.open, name
	driver.key("Escape")
	driver.view.show_panel("messages")
	entry = driver.view.chat.composer.entry
	entry.insert("1.0", "some words")
	press("a", "ctrl")
	press("x", "ctrl")
	driver.until(lambda: driver.view.chat.composer.text() == "", f"{name}: cut")
	press("v", "ctrl")
	driver.until(lambda: driver.view.chat.composer.text().strip() == "some words", f"{name}: pasted")
	driver.view.show_panel("attendees")
	field = driver.view.attendees.search.entry
	driver.click(field)
	field.insert(0, "Priya")
	press("a", "ctrl")
	press("c", "ctrl")
	driver.until(lambda: driver.root.clipboard_get() == "Priya", f"{name}: copied")


NEW = "Find a name"  # any sentence of the table
PLACES_OF_COMMANDS = ("side", "foot", "class", "person", "attendees", "")


@pytest.mark.parametrize("where", PLACES_OF_COMMANDS)
def test_a_new_command_is_one_row(opened: Open, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
	"""Its button or entry, its key, its tip and its line on the page of shortcuts; for the host alone."""
	done: list[tuple[Any, ...]] = []
	row = cs.Command("X", NEW, NEW, lambda view, *about: done.append(about), where, "eye", host=True)
	monkeypatch.setattr(cs, "COMMANDS", {**cs.COMMANDS, "another": row})
	driver = opened(start=False)
	call, view = driver.meet(host=True), driver.view
	for host in (True, False):
		call.change(role="host" if host else "member", me=1 if host else 6)
		driver.until(lambda: view.shot.leads is host, "who one is")  # noqa: B023
		command_is_offered(driver, where, host, done)
		driver.key("Escape")


def command_is_offered(driver: Driver, where: str, host: bool, done: list[tuple[Any, ...]]) -> None:
	"""To the host there, and by its key; among the shortcuts, which stand open afterwards."""
	view = driver.view
	if where in ("side", "foot"):
		button = view.side.buttons["another"]
		assert (button.words, bool(button.canvas.winfo_ismapped())) == (NEW, host)
	elif where == "class" and host:
		view.flip_class()
		assert view.card is not None
		view.card.list.scroll(1_000)
		driver.spot(view.card.list, "another")
		assert done.pop() == ()
		driver.key("Escape")
	elif where == "person":
		entries = driver.entries(3)
		assert (NEW in entries) is host
		if host:
			entries[NEW]()
			assert done.pop() == (view.shot.person(3),)
	elif where == "attendees" and host:
		view.show_panel("attendees")
		driver.pump(0.1)
		driver.spot(view.attendees.list, "another")
		assert done.pop() == ()
	driver.command("x")
	assert done == ([()] if host and where != "person" else []) or where == "person"
	done.clear()
	view.settings("keys")
	driver.pump(0.2)
	page = [one for one in walk(view.dialog.frame) if isinstance(one, tk.Canvas)]  # type: ignore[union-attr]
	assert any(NEW in written(one) and "X" in written(one) for one in page)


def test_every_command_of_the_table_is_offered_and_can_be_done(
	opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
	monkeypatch.setattr(cs, "asked_path", lambda *_, **__: "")  # no file is chosen
	driver = opened(start=False)
	call = driver.meet(host=True)
	view, keys = driver.view, cs.Keys.SIGNS.values()
	listed = [key for one in cs.COMMANDS.values() for key in one.keys.split(", ") if key]
	assert len(listed) == len(set(listed)) and {*keys} <= {*listed}
	assert all(one.keys or one.where for one in cs.COMMANDS.values()), "there is a way to each"
	for name, one in cs.COMMANDS.items():
		if name not in ("react", "talk", "invite", "give") and "person" not in one.where:
			one.does(view)
			driver.pump(0.05)
			if view.dialog:
				view.dialog.close()
	for one in cs.commands_at("person").values():
		one.does(view, view.shot.people[2])
		driver.pump(0.05)
	assert {"mute", "permit", "take_over", "mic", "hand"} <= {one["do"] for one in call.commands}


@pytest.mark.parametrize(
	("platform", "keysym", "char", "code", "state", "names"),
	[
		("win32", "Cyrillic_softsign", "ь", 77, 0, ("cyrillic_softsign", "m")),
		("win32", "ampersand", "&", 49, 0, ("1", "ampersand")),
		("win32", "F11", "", 122, 0, ("f11", "")),
		("win32", "1", "1", 49, 1, ("1",)),
		("darwin", "Cyrillic_softsign", "ь", 46 << 16 | 0x44C, 0, ("cyrillic_softsign", "m")),
		("darwin", "Cyrillic_softsign", "ь", 46 << 24 | 0x44C, 0, ("cyrillic_softsign", "m")),
		("darwin", "Greek_sigma", "σ", 1 << 24, 8, ("greek_sigma", "s")),
		("linux", "odiaeresis", "ö", 47, 0, ("odiaeresis",)),
		("linux", "semicolon", ";", 52, 0, ("semicolon",)),  # Dvorak
		("linux", "M", "M", 58, 2, ("m",)),  # Caps Lock
		("linux", "minus", "-", 15, 0, ("6", "minus")),  # AZERTY
	],
)
def test_a_key_is_its_sign_or_its_place(
	monkeypatch: pytest.MonkeyPatch, platform: str, keysym: str, char: str, code: int, state: int,
	names: tuple[str, ...],
) -> None:  # fmt: skip
	monkeypatch.setattr("sys.platform", platform)
	event: Any = SimpleNamespace(keysym=keysym, char=char, keycode=code, state=state)
	assert cs.key_names(event) == names


@pytest.mark.parametrize(
	("platform", "state", "held_with"),
	[
		("linux", 0, ""), ("linux", 2 | 16, ""), ("linux", 4, "control"), ("linux", 8, "alt"),
		("linux", 64 | 4, "alt"), ("linux", 128, "sign"), ("linux", 1 << 13, ""),  # the second layout
		("win32", 8 | 2, ""), ("win32", 4 | 8, "control"), ("win32", 0x20000, "alt"),  # 8 is Num Lock there
		("win32", 0x20004, "sign"), ("darwin", 8, "alt"), ("darwin", 16, "sign"), ("darwin", 4, "control"),
	],
)  # fmt: skip
def test_modifiers_of_each_system(
	monkeypatch: pytest.MonkeyPatch, platform: str, state: int, held_with: str
) -> None:
	monkeypatch.setattr("sys.platform", platform)
	assert cs.modifiers(state) == held_with


# -- who is written to ------------------------------------------------------------------


def test_who_is_written_to_never_changes_by_itself(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	composer, people = driver.view.chat.composer, call.snapshot().people
	driver.view.actions.write_to(AMIRA)
	driver.type("my marks are a secret")
	call.change(people=tuple(one for one in people if one.name != AMIRA))
	driver.until(lambda: not composer.here, "she is away")
	assert (composer.target.value, composer.target.faint) == (AMIRA, True)
	driver.key("Return", "Return")
	assert quiet(call) == [] and composer.text() == "my marks are a secret"
	assert "is not here now" in str(composer.mark["text"]) and composer.mark.winfo_ismapped()
	back = tuple(replace(one, id=77) if one.name == AMIRA else one for one in people)
	call.change(people=back)
	driver.until(lambda: composer.here, "she is back")
	driver.key("Return")
	assert quiet(call) == [{"do": "private", "to": AMIRA, "text": "my marks are a secret"}]
	assert composer.target.value == AMIRA and composer.card.outline == driver.view.look.palette.warn


def test_an_answer_to_one_who_has_left_is_for_nobody_else(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	call.change(people=tuple(one for one in call.snapshot().people if one.name != AMIRA))
	driver.until(lambda: not any(v == AMIRA for v, _ in driver.view.chat.composer.target.options), "away")
	answer_row(driver)
	driver.type("yes, on Monday", "Return")
	assert quiet(call) == [] and driver.view.chat.composer.text() == "yes, on Monday"


def test_people_stand_in_order_and_the_menu_not_under_the_pointer(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet(40)
	target = driver.view.chat.composer.target
	names = [value for value, _ in target.options]
	assert names[:2] == ["", "Mr Lewis"] and names[2:] == sorted(names[2:], key=str.casefold)
	driver.click(target.canvas)
	driver.hand("click", "1")
	driver.pump(0.2)
	assert target.value == ""
	driver.key("Escape")


def test_what_was_refused_comes_back_into_the_field(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	composer = driver.view.chat.composer
	driver.view.actions.write_to(AMIRA)
	composer.entry.insert("1.0", "x" * 4_001)
	driver.key("Return")
	driver.until(lambda: len(composer.text()) == 4_001, "it is there again")
	assert composer.target.value == AMIRA
	composer.entry.delete("1.0", "end")
	panel = driver.view.chat
	panel._sent["ref"] = ("first", AMIRA)
	composer.to("")
	driver.type("to all")
	call.gui_queue.put({"event": "error", "code": "not_allowed", "reason": "No.", "ref": "ref"})
	driver.until(lambda: not panel._sent.get("ref"), "the refusal")
	driver.pump(0.05)
	assert (composer.text(), composer.target.value) == ("to all", "")  # not mixed
	driver.key("Return")
	assert (composer.text(), composer.target.value) == ("first", AMIRA)


def test_every_control_hears_the_keyboard_first(opened: Open) -> None:
	driver = opened(start=False)
	driver.meet(host=True)
	driver.view.settings()
	driver.pump(0.1)
	assert [
		str(w) for w in walk(driver.root) if not isinstance(w, tk.Label) and cs.KEYBOARD not in w.bindtags()
	] == []
