"""The real window in real meetings: what is clicked and typed there reaches another participant."""

from __future__ import annotations

import contextlib
import gc
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_call import ad
from headless import Headless, free_base
from window_driver import Driver, walk

import connectsphere as cs

if shutil.which("xdotool") is None:
	pytest.skip("needs xdotool", allow_module_level=True)

Start = Callable[..., Headless]
LONG = 30.0


class Desk:
	"""A window with its real program, in this process."""

	def __init__(
		self, display: str, home: Path, port: int, name: str, look: bool = False, size: str = "1280x720"
	) -> None:
		self.port = port
		options = cs.ClientOptions(
			name=name, port=port, bind="127.0.0.1", camera="pattern", mic="tone", speaker="none",
			downloads=str(home / "downloads"), given={"name", "camera", "mic", "speaker"},
		)  # fmt: skip
		server = cs.asdict(cs.ServerOptions(title="Physics", host_name=name, base=port, bind="127.0.0.1"))
		self.program = cs.Program(options, server, home, look=look)
		self.driver = Driver(display, self.program, size)

	def close(self) -> None:
		controller = self.driver.loop.controller
		self.driver.close()
		self.driver.loop.tasks.finish(10.0)
		if controller is not None:
			controller.close()
		self.program.close()


@pytest.fixture
def desk(display: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Desk]]:
	"""Makes the one window of a test."""
	home = tmp_path / "window"
	home.mkdir()
	monkeypatch.setenv("CONNECTSPHERE_HOME", str(home))
	with contextlib.ExitStack() as stack:

		def make(name: str, port: int = 0, **more: Any) -> Desk:
			made = Desk(display, home, port or free_base(), name, **more)
			stack.callback(made.close)
			return made

		yield make
	gc.collect()  # Tk objects must end in the thread that made them


def hosted(desk: Desk) -> Driver:
	"""The window hosts a meeting, by its own field."""
	driver = desk.driver
	driver.click(driver.start.title.entry)
	driver.type("Physics", "Return")
	driver.until(lambda: driver.loop.view is not None, "the meeting", LONG)
	return driver


def is_button(widget: Any, words: str) -> bool:
	"""Whether a canvas shows these words."""
	if widget.winfo_class() != "Canvas" or not widget.winfo_ismapped():
		return False
	return any(widget.itemcget(item, "text") == words for item in widget.find_all() if text(widget, item))


def text(widget: Any, item: int) -> bool:
	return bool(widget.type(item) == "text")


def pupil(start: Start, driver: Driver, port: int, name: str = "Pupil") -> Headless:
	"""A participant without a window, in the meeting that the window hosts."""
	pin = driver.view.controller.snapshot().pin
	one = start("--join", f"127.0.0.1:{port}", "--name", name, "--pin", pin, "--camera", "pattern",
		"--mic", "tone", "--speaker", "none")  # fmt: skip
	until(driver, one, "joined")
	return one


def until(driver: Driver, one: Headless, event: str, **match: Any) -> None:
	"""Let the window live until `one` has seen an event it has not been asked for before."""
	before = getattr(one, "told", 0)

	def seen() -> bool:
		found = one.seen(event, **match)
		return any(one.events.index(each) >= before for each in found)

	driver.until(seen, f"{one.args[-1]} sees {event} {match}", LONG)


def answered(driver: Driver, one: Headless, act: Callable[[], None], event: str, **match: Any) -> None:
	"""`act` on the window, and `one` sees the event after it."""
	one.told = len(one.events)  # type: ignore[attr-defined]
	act()
	until(driver, one, event, **match)


def head(start: Start, port: int) -> Headless:
	"""A host without a window."""
	return start(
		*("--host", "--port", str(port), "--bind", "127.0.0.1", "--name", "Head", "--title", "Maths"),
		*("--pin", "482913", "--camera", "pattern", "--mic", "tone", "--speaker", "none"),
	)


def test_what_a_host_does_is_seen_by_others(desk: Callable[..., Desk], meeting: Start) -> None:
	place = desk("Teacher")
	driver = hosted(place)
	one = pupil(meeting, driver, place.port)
	side, key = driver.view.side.buttons, driver.command
	me = {"name": "Teacher"}
	driver.until(lambda: len(driver.view.shot.people) == 2, "the pupil in the window")

	for on in (True, False):
		answered(driver, one, lambda: key("m"), "state", **me, mic=on)
		answered(driver, one, lambda: key("v"), "state", **me, camera=on)
		answered(driver, one, lambda: key("h"), "state", **me, hand=on)
	for on in (True, False):
		answered(driver, one, lambda: driver.click(side["mic"].canvas), "state", **me, mic=on)
		answered(driver, one, lambda: driver.click(side["hand"].canvas), "state", **me, hand=on)
		answered(driver, one, lambda: key("ctrl+e"), "state", **me, camera=on)
	answered(driver, one, lambda: driver.hand("keydown", "space"), "state", **me, mic=True)
	answered(driver, one, lambda: driver.hand("keyup", "space"), "state", **me, mic=False)

	def react() -> None:
		before = driver.root.focus_get()
		key("r")
		driver.until(lambda: driver.root.focus_get() is not before, "the reactions")
		key("Return")

	answered(driver, one, react, "reaction", emoji="👍")
	driver.view.show_panel("messages")
	answered(driver, one, lambda: driver.type("Good morning", "Return"), "chat", text="Good morning")
	driver.view.actions.write_to("Pupil")
	answered(driver, one, lambda: driver.type("only you", "Return"), "private", text="only you")

	def share() -> None:
		key("ctrl+shift+s")
		driver.until(lambda: driver.view.dialog and driver.view.dialog.found, "the screens")  # type: ignore[attr-defined]
		key("Right", "Return")

	answered(driver, one, share, "screen_start", **me)
	driver.until(lambda: driver.view.shot.presenter == driver.view.shot.me, "the own sharing")
	answered(driver, one, lambda: key("ctrl+shift+s"), "screen_stop", **me)

	one.send(do="mic", on=True)
	driver.until(lambda: any(p.mic for p in driver.view.shot.people if p.name == "Pupil"), "it talks", LONG)
	key("u")
	answered(driver, one, lambda: driver.spot(driver.view.attendees.list, "mute_all"), "muted", by="Teacher")
	driver.until(lambda: not any(p.mic for p in driver.view.shot.people), "it is silent", LONG)
	one.send(do="mic", on=True)
	driver.until(lambda: any(p.mic for p in driver.view.shot.people if p.name == "Pupil"), "again", LONG)

	def mute_one() -> None:
		driver.spot(driver.view.attendees.list, "more")
		driver.menu("Mute")

	answered(driver, one, mute_one, "muted", by="Teacher")
	key("Escape", "Escape")
	driver.until(lambda: driver.root.grab_current(), "the question")
	key("Tab")
	answered(driver, one, lambda: key("Return"), "ended")
	driver.until(lambda: driver.loop.start is not None, "the start window", LONG)


@pytest.mark.parametrize("way", ["at once", "by hosting again", "anew"])
def test_a_host_who_left_is_led_back_into_the_lesson_that_goes_on(
	desk: Callable[..., Desk], meeting: Start, way: str
) -> None:
	place = desk("Teacher")
	place.program._server["orphan_seconds"] = 60.0  # as for everyone but tests
	driver = hosted(place)
	one = pupil(meeting, driver, place.port)
	driver.until(lambda: len(driver.view.shot.people) == 2, "the pupil in the window")
	ident = driver.view.shot.meeting
	driver.view.actions.ask_leave()
	driver.until(lambda: driver.root.grab_current(), "whether she leaves")
	driver.pump(0.1)
	answered(driver, one, lambda: driver.key("Return"), "leave", name="Teacher")
	driver.until(lambda: driver.loop.start and driver.start.dialog, "the question", LONG)
	driver.until(lambda: driver.root.grab_current(), "the dialog")
	driver.pump(0.1)
	if way == "by hosting again":
		driver.key("Escape")
		driver.click(next(w for w in walk(driver.start.right) if is_button(w, "Host a meeting")))
		question = cs.ConfirmDialog
		driver.until(lambda: isinstance(driver.start.dialog, question) and driver.root.grab_current(), "it")
		driver.pump(0.1)
	if way == "anew":
		frame = driver.start.dialog.frame  # type: ignore[union-attr]
		assert not one.seen("ended")
		anew = next(w for w in walk(frame) if is_button(w, "End it and start anew"))
		answered(driver, one, lambda: driver.click(anew), "ended")
		driver.until(lambda: driver.loop.view and driver.view.shot.meeting not in ("", ident), "it", LONG)
		return
	answered(driver, one, lambda: driver.key("Return"), "join", name="Teacher")
	driver.until(lambda: driver.loop.view and driver.view.shot.meeting == ident, "the meeting", LONG)
	assert driver.view.shot.role == "host"
	assert not one.seen("reconnecting") and not one.seen("ended")


def test_the_list_of_who_was_here_is_written_on(
	desk: Callable[..., Desk], meeting: Start, tmp_path: Path
) -> None:
	"""So that a crash costs seconds of it; that it cannot be written is said once."""
	place = desk("Teacher")
	folder = place.program.downloads()
	driver = hosted(place)
	found = lambda: [*folder.glob("*Physics.csv")]  # noqa: E731
	driver.until(found, "the list", LONG)
	pupil(meeting, driver, place.port, "Zoë Núñez")
	driver.until(lambda: "Zoë Núñez" in found()[0].read_text("utf-8-sig"), "who came is in it", LONG)
	assert len(found()) == 1 and found()[0].read_bytes().startswith(b"\xef\xbb\xbfname,")
	shutil.rmtree(folder)
	folder.write_text("a file in its place")
	said = lambda: [one for one in driver.view.toasts._toasts if "be saved" in one.words]  # noqa: E731
	driver.until(said, "why there is no list", LONG)
	driver.pump(6)
	assert len(said()) == 1


def test_what_others_do_is_seen_by_the_host(
	desk: Callable[..., Desk], meeting: Start, tmp_path: Path
) -> None:
	place = desk("Teacher")
	driver = hosted(place)
	one = pupil(meeting, driver, place.port)
	driver.until(lambda: len(driver.view.shot.people) == 2, "the pupil in the window")
	them = lambda: next(p for p in driver.view.shot.people if p.name == "Pupil")  # noqa: E731
	one.send(do="camera", on=True)
	driver.until(lambda: them().camera, "a camera", LONG)
	driver.until(lambda: driver.view.controller.picture(them().id)[0] > 3, "moving pictures", LONG)
	one.send(do="hand", up=True)
	driver.until(lambda: driver.view.stage.canvas.find_withtag("toast"), "the hand's message", LONG)
	one.send(do="react", emoji="🎉")
	driver.until(lambda: driver.view.stage.canvas.find_withtag("react"), "a floating reaction", LONG)
	driver.command("u")
	one.send(do="chat", text="Which page?")
	driver.until(lambda: driver.view.side.buttons["chat"].unread, "the unread dot", LONG)
	driver.key("c")
	assert not driver.view.side.buttons["chat"].unread
	paper = tmp_path / "paper.txt"
	paper.write_text("water cycle")
	one.send(do="upload", path=str(paper))
	driver.view.show_panel("files")
	driver.spot(driver.view.files.list, "download")
	saved = tmp_path / "window" / "downloads" / "paper.txt"
	driver.until(saved.exists, "the file", LONG)
	assert saved.read_text() == "water cycle"
	one.send(do="share", on=True, source="pattern")
	driver.until(lambda: "screen" in driver.view.stage.tiles, "the shared screen", LONG)
	answered(driver, one, lambda: driver.view.act("take_over"), "screen_stop", name="Pupil")
	tab = driver.view.panel.buttons["attendees"].canvas
	driver.until(tab.winfo_viewable, "the panel, which made way for the screen")
	driver.click(tab)
	driver.spot(driver.view.attendees.list, "more")
	driver.menu("Remove from the meeting…")
	driver.until(lambda: driver.root.grab_current(), "the question")
	driver.key("Tab")
	answered(driver, one, lambda: driver.key("Return"), "ended")
	driver.until(lambda: len(driver.view.shot.people) == 1, "alone again", LONG)


def test_a_member_joins_by_address_and_leaves(desk: Callable[..., Desk], meeting: Start) -> None:
	port = free_base()
	host = head(meeting, port)
	place = desk("Ana", port)
	driver = place.driver
	until(driver, host, "joined")
	driver.start._ask_address()
	driver.until(lambda: driver.root.grab_current(), "the dialog")
	driver.type(f"127.0.0.1:{port}", "Tab")
	driver.type("482913", "Return")
	driver.until(lambda: driver.loop.view is not None, "the meeting", LONG)
	driver.until(lambda: len(driver.view.shot.people) == 2, "both", LONG)
	assert driver.view.shot.title == "Maths" and driver.view.shot.role == "member"
	assert not driver.view.side.buttons["host"].canvas.winfo_ismapped()
	host.send(do="chat", text="Welcome")
	driver.until(lambda: [line for line in driver.view.shot.chat if line.text == "Welcome"], "chat", LONG)
	driver.command("Escape")
	driver.until(lambda: driver.root.grab_current(), "the question")
	answered(driver, host, lambda: driver.key("Return"), "leave", name="Ana")
	driver.until(lambda: driver.loop.start is not None, "the start window")


def test_who_was_in_the_meeting_comes_back_without_its_pin(
	desk: Callable[..., Desk], meeting: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""At a new start of the program by itself; a new PIN is asked for. The time is the lesson's."""
	port, found = free_base(), cs.MeetingFinder.meetings  # no meeting of other tests
	monkeypatch.setattr(
		cs.MeetingFinder, "meetings", lambda self: [one for one in found(self) if one.port == port]
	)
	host = head(meeting, port)
	first = desk("Ana", port)
	until(first.driver, host, "joined")
	began = time.monotonic()

	def leave(driver: Driver) -> None:
		driver.until(lambda: driver.loop.view and len(driver.view.shot.people) == 2, "the meeting", LONG)
		assert began - 9 < driver.view.shot.since < began + 1, "the lesson's time"
		driver.command("Escape")
		driver.until(lambda: driver.root.grab_current(), "the question")
		driver.pump(0.1)
		answered(driver, host, lambda: driver.key("Return"), "leave", name="Ana")
		driver.until(lambda: driver.loop.start, "the start window")

	first.driver.pump(1.2)
	first.driver.start.join_at(f"127.0.0.1:{port}", "482913")
	leave(first.driver)
	first.close()
	driver = desk("Ana", port, look=True).driver
	leave(driver)
	driver.until(lambda: driver.start.chosen, "the list", LONG)
	driver.pump(0.1)
	assert not driver.start.pin_area.winfo_ismapped()
	answered(driver, host, lambda: host.send(do="new_pin"), "door")
	driver.click(driver.start.join.canvas)
	driver.until(lambda: driver.start.pin_area.winfo_ismapped(), "the new PIN is asked for", LONG)
	driver.type(host.seen("door")[-1]["pin"], "Return")
	driver.until(lambda: driver.loop.view, "the meeting", LONG)


def test_speech_into_the_muted_microphone_is_noticed(desk: Callable[..., Desk]) -> None:
	driver = hosted(desk("Teacher"))
	canvas = driver.view.stage.canvas

	def told() -> bool:
		texts = [item for item in canvas.find_withtag("toast") if canvas.type(item) == "text"]
		return "You are muted" in [canvas.itemcget(item, "text") for item in texts]

	driver.pump(0.3)
	assert not told()  # never on yet: nobody listens
	for on in (True, False):
		driver.command("m")
		driver.until(lambda on=on: driver.view.controller.state.me.mic is on, f"the microphone is {on}", LONG)  # type: ignore[misc]
	driver.until(told, "the notice", LONG)


@pytest.mark.parametrize(("scale", "lines"), [("100", 1_724), ("200", 870)])
def test_messages_of_many_lines_and_long_words_leave_the_window_alive(
	scale: str, lines: int, desk: Callable[..., Desk], meeting: Start
) -> None:
	port, texts = free_base(), ["z\n" * (lines - 1) + "z", "y" * 3_999, "🦄" * 2_000]
	host = head(meeting, port)
	place = desk("Ana", port)
	driver = place.driver
	place.program.set_setting("scale", scale)
	driver.loop.restyle()
	until(driver, host, "joined")

	def told(count: int) -> None:
		for said in texts:
			host.send(do="chat", text=said)
		driver.until(lambda: len(driver.view.shot.chat) == count, "the messages", LONG)
		answered(driver, host, lambda: driver.view.act("hand", up=count == 6), "state")

	for said in texts:  # a newcomer is told them as history
		host.send(do="chat", text=said)
	until(driver, host, "chat", text=texts[-1])
	driver.start.join_at(f"127.0.0.1:{port}", "482913")
	driver.until(lambda: driver.loop.view is not None and driver.view.shot.chat, "the history", LONG)
	told(6)
	driver.view.flip_panel("messages")
	told(9)
	driver.view.show_panel("messages")
	driver.spot(driver.view.chat.list, "fold")
	driver.pump(0.2)
	assert driver.view.controller.snapshot().link == "live"


def test_a_wrong_pin_is_said_in_the_start_window(desk: Callable[..., Desk], meeting: Start) -> None:
	port = free_base()
	host = head(meeting, port)
	driver = desk("Ana", port).driver
	until(driver, host, "joined")
	driver.start.join_at(f"127.0.0.1:{port}", "111111")
	driver.until(lambda: "PIN" in str(driver.start.trouble["text"]), "the reason", LONG)
	assert driver.loop.view is None


def test_a_meeting_that_cannot_be_joined_is_tried_once(
	desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
	port = free_base()
	monkeypatch.setattr(
		cs.MeetingFinder, "meetings", lambda _: [ad(address="127.0.0.1", port=port, pin=False)]
	)
	driver = desk("Ana", port, look=True).driver
	trouble = driver.start.trouble
	driver.until(lambda: trouble["text"], "why it could not join by itself", LONG)
	driver.pump(0.5)
	assert trouble["text"] and not driver.start.busy.words
