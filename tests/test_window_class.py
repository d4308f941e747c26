"""What a teacher does for the whole class, and what a pupil sees of it, in the real window."""

from __future__ import annotations

import time
import tkinter as tk
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from fake_call import FakeController, last, sent
from test_window_controls import press
from window_driver import Driver, Open, opened, overlaps, walk, written

import connectsphere as cs

__all__ = ["opened"]  # a fixture


def rules(driver: Driver, call: FakeController, **changes: Any) -> None:
	"""Let these be the rules, in the window too."""
	call.change(rules=cs.Rules(**changes))
	driver.until(lambda: driver.view.shot.rules == cs.Rules(**changes), "the rules")
	driver.pump(0.1)


def raise_hands(driver: Driver, call: FakeController, *numbers: int) -> None:
	"""Let them raise their hands one after the other, 40 s apart, the first one two minutes ago."""
	for at, number in enumerate(numbers):
		lasted = cs.monotonic() - call.snapshot().since
		call.change_person(number, hand=lasted - 125 + 40 * at)
	driver.until(lambda: [one.id for one in driver.view.shot.hands] == [*numbers], "the hands")
	driver.pump(0.1)


def card(driver: Driver) -> cs.ListView:
	"""The rows of the card of the class, opened by its button."""
	driver.click(driver.view.side.buttons["host"].canvas)
	assert driver.view.card is not None
	return driver.view.card.list


def words(driver: Driver) -> str:
	"""All that is written on canvases in sight."""
	return "\n".join(line for one in walk(driver.root) for line in written(one))


def test_a_switch_says_what_is_so_and_turns_it(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True)
	rows = card(driver)
	for what, off in ((one, off) for one in cs.PERMITS for off in ([], [one])):
		rules(driver, call, off=off)
		shown = next(row for row in rows.rows if isinstance(row, cs.SwitchRow) and row.name == what)
		assert shown.on is (what not in off), (what, off)
		driver.spot(rows, what)
		assert last(call, "permit") == {"do": "permit", "what": what, "on": what in off}, (what, off)


def test_the_card_is_walked_by_keys_and_closed_by_escape(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True)
	card(driver)
	driver.key("Down", "Down", "Down", "space")
	assert last(call, "permit") == {"do": "permit", "what": "mic", "on": False}
	driver.key("Down", "Return")
	assert last(call, "permit")["what"] == "camera" and not sent(call, "hand")
	driver.key("Escape")
	assert driver.view.card is None and not sent(call, "leave")
	driver.command("h")
	assert sent(call, "hand"), "the keyboard is free again"


def test_the_card_shows_the_pin_and_makes_another(opened: Open) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(host=True)
	driver.view.flip_class()
	for pin, said in (("482913", "Door · PIN 482 913"), ("", "Door")):
		call.change(pin=pin)
		driver.until(lambda: said in words(driver).splitlines(), "the door")  # noqa: B023
	assert driver.view.card is not None
	driver.spot(driver.view.card.list, "new_pin")
	assert last(call, "new_pin") == {"do": "new_pin"}


LISTS = {  # as files
	"utf-8": "Zoë Martin\n\nWEBER, Jonas\r\nLiam O'Brien\n".encode(),
	"with a mark": "\ufeffZoë Martin\nWeber Jonas\nLiam O'Brien".encode(),
	"of an old Windows": "Zoë Martin\r\nJonas Weber\r\nLiam O'Brien\r\n".encode("cp1252"),
}


@pytest.mark.parametrize("kind", LISTS)
def test_who_of_the_class_is_missing(
	opened: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
	"""A list that is chosen once holds for lessons of its title; who lost the connection is not missing."""
	driver = opened("1366x768", start=False)
	call = driver.meet(5, host=True)
	path = tmp_path / "7b.txt"
	monkeypatch.setattr(cs, "asked_path", lambda *_, **__: str(path))
	rows = driver.view.attendees.list

	def missing() -> list[str]:
		driver.pump(0.1)
		said = [getattr(row, "words", "") for row in rows.rows]
		at = next((at for at, line in enumerate(said) if line.startswith("Missing: ")), len(said))
		return said[at : at + 2]

	driver.view.run("names")
	driver.until(lambda: driver.view.toasts._toasts, "it cannot be read")
	assert driver.view.toasts._toasts[-1].words.startswith(f"{path} cannot be read: ")
	path.write_bytes(LISTS[kind])
	driver.view.run("names")
	assert missing() == ["Missing: 2", "Zoë Martin, Liam O'Brien"]
	lose(driver, call, [3])
	assert missing()[0] == "Missing: 2", "Jonas Weber is lost, which his row says"
	zoe = cs.Person(40, "zoë martin")
	call.change(people=(*call.snapshot().people, zoe))
	driver.until(lambda: missing() == ["Missing: 1", "Liam O'Brien"], "she has come")
	call.change(title="Another class")
	driver.until(lambda: missing() == [], "whose list is not known")
	call.change(title="Maths", role="member")
	driver.until(lambda: missing() == [], "for a host alone")


def test_a_host_asks_for_the_camera_of_who_is_shown_to_everyone(opened: Open) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(host=True)
	call.change_person(3, camera=True)
	rules(driver, call, spotlight="Jonas Weber")
	assert not driver.view.notice.frame.winfo_ismapped()
	call.change_person(3, camera=False)
	driver.until(driver.view.notice.frame.winfo_ismapped, "the line")
	assert "Jonas Weber: The camera is off" in words(driver)
	press(driver, driver.view.notice.frame, "Ask")
	assert last(call, "ask_share") == {"do": "ask_share", "who": "Jonas Weber", "what": "camera"}


def test_a_pupil_is_asked_for_the_camera(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	call.gui_queue.put({"event": "asked", "to": "camera", "by": "Mr Lewis"})
	driver.until(lambda: driver.view.toasts._toasts, "the notice")
	assert driver.view.toasts._toasts[-1].words == "Mr Lewis asks for your camera"
	assert not sent(call, "camera"), "nobody is seen unasked"
	driver.command("a")
	assert last(call, "camera") == {"do": "camera", "on": True}


def test_what_the_card_offers(opened: Open) -> None:
	offers: dict[str, cs.Json] = {
		"still": {"do": "mute", "who": "all", "what": "camera"},
		"lower": {"do": "lower", "who": "all"},
		**{f"door:{mode}": {"do": "door", "mode": mode} for mode in cs.DOORS},
		"timer:120": {"do": "timer", "seconds": 120},
		"answers": {"do": "close_question"},
		"collected": {"do": "collect", "open": False},
	}
	driver = opened("1366x768", start=False)
	question = cs.Question("Which?", ["1/3", "2/5"], [3, 1])
	call = driver.meet(host=True, rules=cs.Rules(collecting="Sheet 3"), question=question)
	rows = card(driver)
	driver.pump(0.2)
	for name, command in offers.items():
		rows.scroll(1_000 if name in ("answers", "collected") else 0)
		driver.spot(rows, name)
		assert call.commands[-1] == command, name


def test_the_card_grows_with_what_is_on_it_within_the_window(opened: Open) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(host=True)
	rows = card(driver)
	driver.pump(0.2)
	assert rows._ended and not rows.bar.winfo_ismapped()
	call.change(question=cs.Question("Which is larger?", ["a", "b", "c", "d", "e"], [1, 2, 3, 0, 5]))
	driver.until(lambda: any(isinstance(row, cs.BarRow) for row in rows.rows), "the answers")
	driver.pump(0.2)
	bars = [(row.words, row.count, row.all_) for row in rows.rows if isinstance(row, cs.BarRow)]
	assert bars == [("a", 1, 11), ("b", 2, 11), ("c", 3, 11), ("d", 0, 11), ("e", 5, 11)]
	assert driver.view.card is not None
	frame = driver.view.card.frame
	assert frame.winfo_y() + frame.winfo_height() <= driver.view.frame.winfo_height()
	call.change(role="member")
	driver.until(lambda: driver.view.card is None, "who leads no longer has no card")


def test_hands_are_numbered_wait_and_get_the_word(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
	"""This computer's clock is set meanwhile: they wait as long, and the list of who was here stays one."""
	driver = opened("1366x768", start=False)
	call = driver.meet(host=True)
	right, act, lists = time.time, driver.view.act, list[str]()

	def acts(do: str, **members: Any) -> None:
		if do == "attendance":
			assert members["aside"], "no disk holds up the meeting"
			lists.append(members["path"])
		act(do, **members)

	monkeypatch.setattr(driver.view, "act", acts)
	for ahead in (0, 86_400):
		monkeypatch.setattr(time, "time", lambda ahead=ahead: right() + ahead)
		driver.view._readdress = 0.0
		driver.pump(0.2)
	assert len(lists) > 1 and len({*lists}) == 1
	call.change_person(2, hand=0.0)
	raise_hands(driver, call, 5, 3)
	driver.view.show_panel("attendees")
	driver.pump(0.2)
	assert driver.view.side.buttons["users"].unread == 2
	people = [row for row in driver.view.attendees.list.rows if isinstance(row, cs.PersonRow)]
	assert [one.person.id for one in people][:2] == [5, 3]
	assert people[0].facts[0].startswith("1 · 2:0") and people[1].facts[0].startswith("2 · 1:2")
	assert [driver.view.stage.looks(one.person).hand for one in people[:3]] == [1, 2, 0]
	before = people[0].facts
	driver.until(lambda: driver.view.attendees.list.rows[1].facts != before, "time goes on", 3)
	driver.spot(driver.view.attendees.list, "hand3:0")
	assert last(call, "word") == {"do": "word", "to": people[1].person.name}
	driver.spot(driver.view.attendees.list, "hand5:1")
	assert last(call, "lower") == {"do": "lower", "who": people[0].person.name}
	driver.spot(driver.view.attendees.list, "lower")
	assert last(call, "lower") == {"do": "lower", "who": "all"}
	driver.click(driver.view.stage.canvas)
	driver.key("n")
	assert last(call, "word") == {"do": "word", "to": people[0].person.name}


def test_a_raised_hand_offers_the_word(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True)
	event = {"event": "state", "id": 3, "name": "Jonas Weber", "raised": True}
	call.gui_queue.put(event)
	driver.until(lambda: driver.view.toasts._toasts, "the notice")
	driver.command("a")
	assert last(call, "word") == {"do": "word", "to": "Jonas Weber"}


def test_mute_all_answers_and_offers_to_keep_it(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True)
	live = sum(one.mic and one.id != 1 for one in call.snapshot().people)
	driver.spot(card(driver), "mute_all")
	toast = driver.view.toasts._toasts[-1]
	assert toast.words == f"{live} muted" and live
	driver.key("Escape")
	driver.command("a")
	assert last(call, "permit") == {"do": "permit", "what": "mic", "on": False}
	rules(driver, call, off=["mic"])
	driver.view.run("mute_all")
	assert not driver.view.toasts._toasts[-1].action


def test_what_is_set_stands_in_the_top_bar_and_is_ended_there_by_a_host(opened: Open) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(host=True)
	pills = driver.view.top.states
	assert not any(cs.in_place(one) for one in pills.values())
	call.change(timer=cs.monotonic() + 61)
	rules(driver, call, off=["mic"], spotlight="Jonas Weber")
	driver.until(lambda: all(one.canvas.winfo_ismapped() for one in pills.values()), "the pills")
	assert any(line in ("1:01", "1:00") for line in written(pills["timer"].canvas))
	for name, (_, command) in cs.TopBar.STATES.items():
		driver.click(pills[name].canvas)
		assert call.commands[-1] == command
	call.change(role="member")
	driver.pump(0.2)
	count = len(call.commands)
	driver.click(pills["quiet"].canvas)
	assert len(call.commands) == count, "a pupil only reads it"
	rules(driver, call)
	call.change(timer=0.0)
	driver.until(lambda: not any(cs.in_place(one) for one in pills.values()), "nothing is set")


def test_a_countdown_sounds_at_its_end_alone(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	for left, sounds in ((60.0, 0), (0.3, 1)):  # ended early, and run out
		call.change(timer=cs.monotonic() + left)
		driver.pump(0.3)
		call.gui_queue.put({"event": "timer", "seconds": 0})
		driver.pump(0.2)
		assert driver.backend.calls.count(("test_speaker",)) == sounds


def test_a_pupil_asks_to_speak_where_microphones_are_off(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	button = driver.view.side.buttons["mic"]
	rules(driver, call, off=["mic"])
	assert button.words == "Ask to speak" and button.locked and button.slash
	for press_it in (lambda: driver.click(button.canvas), lambda: driver.command("m")):
		call.change_person(6, hand=0.0)
		driver.pump(0.1)
		press_it()
		driver.until(lambda: call.snapshot().person(6).hand, "the hand")  # type: ignore[union-attr]
		assert not sent(call, "mic")
	driver.until(lambda: driver.view.toasts._toasts, "the notice")
	driver.command("m")
	assert driver.view.toasts._toasts[-1].words == "Your hand is up: number 2", "after Amira's"
	rules(driver, call, off=["mic"], word=call.snapshot().name)
	assert not button.locked
	press(driver, driver.view.notice.frame, "Unmute")
	assert last(call, "mic") == {"do": "mic", "on": True}


def test_what_is_locked_says_why(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(9)
	call.change_person(6, camera=False)
	for what, key in (("camera", "v"), ("share", "ctrl+shift+s"), ("react", "r")):
		button = driver.view.side.buttons[what]
		usual = button.tip.words
		rules(driver, call, off=[what])
		why = cs.not_permitted(what).reason
		assert button.locked and button.tip.words == why, what
		count = len(call.commands)
		driver.command(key)
		assert driver.view.toasts._toasts[-1].words == why and len(call.commands) == count, what
		assert driver.view.dialog is None, what
		rules(driver, call)
		assert not button.locked and button.tip.words == usual, what


def test_where_messages_are_off_one_writes_to_the_host(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(9)
	composer = driver.view.chat.composer
	rules(driver, call, off=["chat", "private"])
	assert [value for value, _ in composer.target.options] == [composer.target.value] == ["Mr Lewis"]
	driver.type("I do not understand", "Return")
	assert last(call, "private") == {"do": "private", "to": "Mr Lewis", "text": "I do not understand"}
	rules(driver, call, off=["private"])
	assert composer.target.value == "" and [value for value, _ in composer.target.options] == ["", "Mr Lewis"]
	rules(driver, call)
	assert len(composer.target.options) == 9


def test_a_question_is_answered_by_one_click_and_may_be_changed(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	call.change(question=cs.Question("Which is larger?", ["1/3", "2/5"]))
	driver.until(lambda: "Which is larger?" in words(driver), "the question")
	for own, index in ((-1, 1), (1, 0)):
		call.change(question=cs.Question("Which is larger?", ["1/3", "2/5"], (), own))
		driver.pump(0.2)
		press(driver, driver.view.notice.frame, "● 2/5" if index == own else ("1/3", "2/5")[index])
		assert last(call, "answer") == {"do": "answer", "index": index}
	none = {"question": None, "answers": [], "counts": [3]}
	driver.view.events._on_question(none)  # a host may say it, but there is nothing to tell
	driver.view.events._on_question({"question": "Which?", "answers": ["1/3", "2/5"], "counts": [3, 8]})
	assert driver.view.toasts._toasts[-1].words == "Which? · 1/3: 3 · 2/5: 8"


def test_work_is_handed_in_from_the_bar(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
	driver = opened(start=False)
	call = driver.meet()
	rules(driver, call, collecting="Fractions, exercise 3")
	monkeypatch.setattr(cs, "asked_path", lambda *_, **__: "/tmp/work.odt")
	press(driver, driver.view.notice.frame, "Hand in")
	assert last(call, "hand_in") == {"do": "hand_in", "path": "/tmp/work.odt"}


@pytest.mark.parametrize("answers", ["", "yes / no / perhaps"])
def test_a_quick_question_needs_no_answers(opened: Open, answers: str) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(host=True)
	driver.spot(card(driver), "question")
	driver.until(lambda: driver.root.grab_current(), "the form")
	driver.type("Understood?", "Tab")
	driver.type(answers, "Return")
	wanted = answers.split(" / ") if answers else ["✓", "✗"]
	assert last(call, "ask") == {"do": "ask", "question": "Understood?", "answers": wanted}
	call.change(role="member", me=3, question=cs.Question("Understood?", wanted))
	driver.until(lambda: {*wanted} <= {*words(driver).splitlines()}, "the buttons, as they were meant")


def test_no_answer_is_cut_in_silence(opened: Open) -> None:
	"""How many there may be stands in the form, in every language; what is too much is refused."""
	driver = opened("1366x768")
	call = driver.meet(host=True)
	driver.spot(card(driver), "question")
	driver.until(lambda: driver.root.grab_current(), "the form")
	answers = [str(number) for number in range(cs.MOST_ANSWERS + 1)]
	driver.type("Which?", "Tab")
	driver.type("/".join(answers), "Return")
	asked = last(call, "ask")
	assert asked["answers"] == answers
	with pytest.raises(cs.PeerFault):
		cs.check_message({**asked, "type": "question"}, cs.CLIENT_MESSAGES)
	(sentence,) = [line for line in cs.TEXTS.split("\n") if "answers, with /" in line]
	assert all(str(cs.MOST_ANSWERS) in words for words in sentence.split("|"))


def test_a_list_of_who_was_here_that_cannot_be_kept_is_told_once(opened: Open) -> None:
	driver = opened("1366x768")
	call = driver.meet(host=True)
	told = list[str]()
	driver.view.toasts.add = lambda words, *_, **__: told.append(words)  # type: ignore[method-assign]
	for code, path, reason in (
		("unreachable", "", "The host does not answer."),
		*[("bad_command", "/x/a.csv", "/x/a.csv cannot be saved: No space left on device.")] * 3,
		("unreachable", "", "The host does not answer."),
		("bad_command", "/x/a.csv", "/x/a.csv cannot be saved: Permission denied."),
	):
		event = {"event": "error", "code": code, "reason": reason, "ref": "list"}
		call.gui_queue.put(event | ({"path": path} if path else {}))
	driver.until(call.gui_queue.empty, "they are read")
	driver.pump(0.1)
	assert [words.rpartition(": ")[2] for words in told] == ["No space left on device.", "Permission denied."]


def work(sender: str, number: int, title: str = "Sheet 3", **more: Any) -> cs.FileEntry:
	"""What somebody has handed in."""
	at = time.time()
	return cs.FileEntry(
		f"a{number}", "sheet.odt", 9_000, sender, True, kind="work", task=title, at=at, **more
	)


def test_a_host_sees_who_has_handed_in_and_reminds_the_others(opened: Open) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(5, host=True)
	visited: list[str] = []
	driver.view.files.view = visited.append  # type: ignore[method-assign, assignment]
	rules(driver, call, collecting="Sheet 3")
	path = "ConferenceFiles/Maths 7b/Amira Hassan/sheet.odt"
	done = work("Amira Hassan", 1, state="saved", path=path)
	call.change(files=(work("Jonas Weber", 2, "Sheet 2"), done))
	driver.view.show_panel("files")
	rows = driver.view.files.list
	driver.until(lambda: rows.rows[0] == cs.BarRow("Sheet 3", 1, 4), "the bar")
	assert rows.rows[1].words == "Missing: Jonas Weber, Priya Nair, Tomás García", "of Sheet 2 is none of 3"
	for name, command in (("remind", {"do": "remind"}), ("collected", {"do": "collect", "open": False})):
		driver.spot(rows, name)
		assert call.commands[-1] == command
	driver.spot(rows, "folder")
	assert visited == ["ConferenceFiles/Maths 7b/Amira Hassan"]  # whose parent is shown
	facts = [row._facts() for row in rows.rows if isinstance(row, cs.FileRow) and row.entry == done]
	assert facts[0].startswith(f"from Amira Hassan · ✓ {cs.clock(done.at)} · 9 kB")
	call.change(files=tuple(work(one.name, one.id) for one in call.snapshot().people[1:]))
	driver.until(lambda: rows.rows[1].words == "Everyone has handed in", "all")


def test_a_host_sees_who_has_not_a_sheet_yet(opened: Open) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(5, host=True)
	driver.view.show_panel("files")
	everybody = tuple(one.name for one in call.snapshot().people[1:])
	for has, late in ((everybody[:1], ", ".join(everybody[1:])), (everybody, "")):
		sheet = cs.FileEntry(
			"s1", "sheet.pdf", 9, "Mr Lewis", own=True, kind="sheet", people=len(has), has=has
		)
		call.change(files=(sheet,))
		driver.until(lambda: driver.view.shot.files == call.snapshot().files, "the sheet")
		driver.pump(0.1)
		notes = [row.words for row in driver.view.files.list.rows if isinstance(row, cs.NoteRow)]
		assert notes == ([f"Missing: {late}"] if late else [])


def test_a_pupil_hands_in_until_it_is_done_and_may_replace_it(
	opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
	driver = opened(start=False)
	call = driver.meet()
	monkeypatch.setattr(cs, "asked_path", lambda *_, **__: "/tmp/work.odt")
	driver.view.show_panel("files")
	rules(driver, call, collecting="Sheet 3")
	assert driver.view.notice.frame.winfo_ismapped()
	driver.spot(driver.view.files.list, "hand_in")
	assert last(call, "hand_in") == {"do": "hand_in", "path": "/tmp/work.odt"}
	call.change(files=(work(call.snapshot().name, 1, own=True),))
	driver.until(lambda: not driver.view.notice.frame.winfo_ismapped(), "it is done")
	assert driver.view.files.list.rows[0].buttons == (("hand_in", "Replace", False),)
	call.gui_queue.put({"event": "asked", "to": "work", "by": "Mr Lewis"})
	driver.until(lambda: driver.view.toasts._toasts, "the reminder")
	driver.command("a")
	assert len(sent(call, "hand_in")) == 2


def lose(driver: Driver, call: FakeController, numbers: Iterable[int], reason: str = "lost") -> None:
	"""Let them go."""
	gone = [one for one in call.snapshot().people if one.id in numbers]
	call.change(people=tuple(one for one in call.snapshot().people if one not in gone))
	for one in gone:
		call.gui_queue.put({"event": "leave", "id": one.id, "name": one.name, "reason": reason})
	driver.until(lambda: all(one.name in driver.view.attendees.gone for one in gone), "they are gone")
	driver.pump(1.2)


def test_who_lost_the_connection_keeps_the_place_until_back(opened: Open) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(6, host=True)
	driver.view.show_panel("attendees")
	tiles, jonas = list(driver.view.stage.tiles), call.snapshot().people[2]
	view, tick, seen = driver.view, driver.view.tick, set[tuple[int, int]]()

	def note() -> None:
		tick()
		rows = [row for row in view.attendees.list.rows if isinstance(row, cs.PersonRow)]
		seen.add((len(view.stage.tiles), len(rows)))

	view.tick = note  # type: ignore[method-assign]
	lose(driver, call, [3])
	assert list(driver.view.stage.tiles) == tiles
	assert driver.view.stage.looks(driver.view.stage.plan.lost[0]).note == "lost the connection"
	row = next(one for one in driver.view.attendees.list.rows if getattr(one, "gone", ""))
	assert row.person.name == jonas.name
	assert row.gone.startswith("lost the connection · 0:0") and not row.choices
	assert not driver.view.actions.about(3), "nothing can be done with her"
	call.change(people=(*call.snapshot().people, cs.Person(40, jonas.name)))
	driver.until(lambda: not driver.view.attendees.gone, "she is back")
	driver.pump(0.2)
	assert list(driver.view.stage.tiles) == [40 if key == 3 else key for key in tiles], "in her place"
	assert seen == {(6, 6)}, "nobody else's moves, not for a moment"
	lose(driver, call, [4], "left")
	assert 4 not in driver.view.stage.tiles
	assert [row.words for row in driver.view.attendees.list.rows if isinstance(row, cs.FlowRow)][-1] == (
		"Left: Priya Nair"
	)


def test_a_host_whose_cable_fell_out_reads_so(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(9, host=True)
	lose(driver, call, [2, 3])
	assert not driver.view.notice.frame.winfo_ismapped(), "two of eight are two computers"
	lose(driver, call, range(2, 10))
	words = "8 people lost the connection: look at this computer's cable or Wi-Fi"
	driver.until(
		lambda: words in "\n".join(map(str, map(written, walk(driver.view.notice.frame)))), "the bar"
	)
	press(driver, driver.view.notice.frame, "Not working? Check this computer")
	assert isinstance(driver.view.dialog, cs.DoctorDialog)


def test_a_pupil_is_asked_to_show_the_screen(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
	"""Enter and who does not answer show nothing."""
	driver = opened(start=False)
	call = driver.meet()
	for words in ("Not now", "", "Share"):
		most = 10**6 if words else 400  # ms
		monkeypatch.setattr(
			cs.Dialog, "_later", lambda self, ms, go, most=most: after(self, min(ms, most), go)
		)
		before = driver.view.dialog
		call.commands.clear()
		call.gui_queue.put({"event": "asked", "to": "share", "by": "Mr Lewis"})
		driver.until(lambda: driver.view.dialog is not before, "the question")  # noqa: B023
		assert driver.view.dialog is not None
		if words:
			press(driver, driver.view.dialog.frame, words)
		driver.until(lambda: sent(call, "agree"), "the answer")
		assert last(call, "agree") == {"do": "agree", "to": "share", "yes": words == "Share"}
		assert not driver.view.dialog.open, words
		driver.pump(0.5)
		assert len(sent(call, "agree")) == 1, words


def test_a_pupil_is_asked_to_stand_by_and_reads_what_that_means(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	for words in ("Accept", "Not now"):
		call.commands.clear()
		call.gui_queue.put({"event": "asked", "to": "stand_by", "by": "Mr Lewis"})
		driver.until(lambda: driver.view.dialog and driver.view.dialog.open, "the question")
		assert driver.view.dialog is not None
		read = [one.cget("text") for one in walk(driver.view.dialog.frame) if isinstance(one, tk.Label)]
		assert "Messages of all then pass through it." in read
		assert not sent(call, "agree"), "nobody serves unasked"
		press(driver, driver.view.dialog.frame, words)
		assert last(call, "agree") == {"do": "agree", "to": "stand_by", "yes": words == "Accept"}


def menu_of(driver: Driver, number: int) -> list[str]:
	"""What the menu of a person offers."""
	return list(driver.entries(number))


def test_the_lesson_is_handed_over_after_a_question(opened: Open) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(host=True, heirs=("Jonas Weber", "Priya Nair"))
	driver.view.show_panel("attendees")
	for words in ("Cancel", "Hand the lesson over"):
		driver.spot(driver.view.attendees.list, "more3")
		driver.menu("Hand the lesson over…")
		assert driver.view.dialog is not None
		read = [one.cget("text") for one in walk(driver.view.dialog.frame) if isinstance(one, tk.Label)]
		assert "The lesson goes on at Jonas Weber's computer; messages pass through it." in read
		assert not sent(call, "hand_over"), "it asks first"
		press(driver, driver.view.dialog.frame, words)
		given = {"do": "hand_over", "to": "Jonas Weber", "rights": False}
		assert last(call, "hand_over") == (None if words == "Cancel" else given)


def test_it_is_handed_over_by_the_host_alone_to_who_stands_by(opened: Open) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(host=True)
	for role, heirs, offers in (
		("host", (), 0),
		("host", ("Jonas Weber",), 1),
		("co-host", ("Jonas Weber",), 0),
		("member", ("Jonas Weber",), 0),
	):
		call.change(role=role, heirs=heirs)
		driver.until(lambda: (driver.view.shot.role, driver.view.shot.heirs) == (role, heirs), "it")  # noqa: B023
		assert menu_of(driver, 3).count("Hand the lesson over…") == offers
		assert "Hand the lesson over…" not in menu_of(driver, 4)


def test_who_alone_does_not_reach_the_host_reads_that_others_do(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	call.change(link="reconnecting")
	call.gui_queue.put({"event": "reconnecting", "reason": "silent"})
	driver.pump(0.2)
	assert not driver.view.toasts._toasts, "the bar says it"
	call.gui_queue.put({"event": "reconnecting", **cs.Refused("host_alive").event})
	driver.until(lambda: driver.view.toasts._toasts, "the notice")
	assert "This computer does not reach the host's; others do." in words(driver)


def test_the_card_says_who_goes_on_and_leads_to_whom_one_may_choose(opened: Open) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(host=True)
	rows = card(driver)

	def said() -> list[str]:
		return [one.words for one in rows.rows if isinstance(one, cs.FlowRow) and "fails" in one.words]

	assert said() == ["If this computer fails: the lesson stops"]
	call.change(heirs=("Jonas Weber", "Priya Nair"))
	driver.until(lambda: said() == ["If this computer fails: Jonas Weber, Priya Nair"], "them")
	for _ in "12":
		driver.spot(rows, "heirs")
		assert driver.view.panel_open and driver.view.tab == "attendees"
	assert "Goes on if this computer fails" in menu_of(driver, 4)
	call.change(role="co-host")
	driver.until(lambda: not said(), "nothing: it is not a co-host's computer")


def test_the_panel_makes_room_for_a_shared_screen(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet()
	view = driver.view
	driver.until(view.panel.frame.winfo_ismapped, "the panel")
	for presenter, seen in ((2, False), (0, True)):
		call.change(presenter=presenter)
		driver.until(lambda: view.panel.frame.winfo_ismapped() == seen, "folded, and back")  # noqa: B023
	view.show_panel("messages")
	driver.type("I do not underst")
	call.change(presenter=2)
	driver.pump(0.2)
	driver.type("and")
	assert view.panel_open and view.chat.composer.text() == "I do not understand", "nobody is interrupted"
	assert not sent(call, "hand") and not sent(call, "mic")


def placed(driver: Driver) -> list[str]:
	"""The names on the tiles in sight, in their order."""
	people = {one.id: one.name for one in driver.view.shot.people}
	return [people[key] for key in driver.view.stage.tiles if isinstance(key, int)]


def test_a_whole_class_is_on_one_page_for_who_wants_it(opened: Open) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(49, host=True)
	stage = driver.view.stage
	assert len(stage.tiles) == stage.plan.per_page() < 16 and stage.plan.pages > 1
	driver.view.settings("look")
	driver.until(lambda: driver.view.dialog, "the settings")
	assert driver.view.dialog is not None
	switches = [one for one in walk(driver.view.dialog.frame) if isinstance(one, tk.Canvas)]
	assert switches
	driver.key("Escape")
	driver.backend.settings["many_tiles"] = True
	driver.view.flip_panel("messages")
	driver.view.needs_render = True
	driver.until(lambda: len(stage.tiles) == 49, "all of them")
	boxes = [tile.box for tile in stage.tiles.values()]
	assert stage.plan.pages == 1 and min(box[2] for box in boxes) >= 110
	assert all(watched["layer"] == 0 for watched in last(call, "watch")["streams"].values())
	before = placed(driver)
	call.change_person(30, hand=time.time())
	driver.pump(0.2)
	assert placed(driver) == before, "on one page nobody moves"


def test_raised_hands_and_speakers_are_on_the_first_page(
	opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(40, host=True)
	call.change_person(2, hand=0.0)
	driver.pump(0.2)
	stage, first = driver.view.stage, placed(driver)
	names = {one.id: one.name for one in driver.view.shot.people}
	call.change_person(30, hand=time.time())
	driver.until(lambda: names[30] in placed(driver), "the raised hand")
	call.change(speaking=35)
	driver.until(lambda: names[35] in placed(driver), "who speaks")
	now = placed(driver)
	assert (now[:-3], now[-1]) == (first[:-3], first[-1]) and {*now[-3:-1]} == {names[30], names[35]}
	assert len(now) == len(first) and sum(a == b for a, b in zip(first, now, strict=True)) == len(first) - 2
	call.change_person(30, hand=0.0)
	monkeypatch.setattr(cs.Plan, "PROMINENT", 0.0)
	call.change(speaking=1)
	driver.until(lambda: placed(driver) == first, "everybody is in place again")
	assert stage.plan.page == 0
	for number in range(2, 41):
		call.change_person(number, hand=time.time())
		driver.pump(0.01)
	driver.pump(0.2)
	assert sorted(placed(driver)) == sorted(first), "where all hands are up nobody changes places"


def test_viewers_read_that_a_shared_screen_stands_still(opened: Open) -> None:
	driver = opened(start=False)
	call = driver.meet(presenter=2)
	stage = driver.view.stage
	assert stage._screen_looks().note == ""
	call.change_person(2, paused=True)
	driver.until(lambda: stage._screen_looks().note, "it")
	assert stage._screen_looks().note == "Paused"


after = cs.Dialog._later


def test_one_renames_oneself_and_saves_the_list_at_the_end(
	opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
	driver = opened(start=False)
	call = driver.meet(host=True)
	driver.entries(1)["Rename…"]()
	driver.until(lambda: driver.root.grab_current(), "the form")
	driver.type("Mr Lee", "Return")
	assert last(call, "rename") == {"do": "rename", "name": "Mr Lee"}
	monkeypatch.setattr(cs, "asked_path", lambda *_, **__: "/tmp/class.csv")
	driver.view.actions.ask_leave()
	driver.pump(0.2)
	assert driver.view.dialog is not None
	press(driver, driver.view.dialog.frame, "Save the list of who was here…")
	assert last(call, "attendance") == {"do": "attendance", "path": "/tmp/class.csv"}
	assert driver.view.dialog.open and not sent(call, "end")


LONG = cs.Question("Which of these fractions is the larger one, and why is it?", ["five eighths"] * 5)


@pytest.mark.parametrize("language", ["en", "es", "fr"])
@pytest.mark.parametrize("size", ["1366x768", "1024x600"])
def test_nothing_of_a_lesson_overlaps(opened: Open, size: str, language: str) -> None:
	driver = opened(size, language=language, start=False)
	everything: dict[str, Any] = {
		"rules": cs.Rules(list(cs.PERMITS), {}, "Bo", "Mr Lewis", "knock", "Fractions, exercise 3, and 4"),
		"question": LONG,
		"timer": cs.monotonic() + 3_000,
	}
	call = driver.meet(30, host=True, **everything)
	for host in (True, False):
		call.change(role="host" if host else "member", me=1 if host else 6)
		for tab in ("attendees", "messages"):
			driver.view.show_panel(tab)
			driver.pump(0.15)
			assert overlaps(driver.root) == [], (host, tab)
		if host:
			driver.view.flip_class()
			driver.pump(0.15)
			assert overlaps(driver.root) == [], "the card"
