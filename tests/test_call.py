"""One participant's picture of the meeting: messages in, events and immutable snapshots out."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import wire_examples
from hypothesis import given
from hypothesis import strategies as st

from connectsphere import (
	MAX_PEOPLE,
	SERVER_MESSAGES,
	FileEntry,
	Json,
	PeerFault,
	Person,
	Snapshot,
	StateManager,
)

ANA = {**wire_examples.USER, "id": 7, "name": "Ana"}
BEN = {**wire_examples.USER, "id": 8, "name": "Ben", "camera": True, "hand": 5.0}


def line(n: int, text: str = "hi", sender: str = "Ben", **fields: Any) -> Json:
	return {"n": n, "id": 8, "from": sender, "text": text, "at": 1.0, **fields}


def welcome(**fields: Any) -> Json:
	nothing: Json = {"users": [ANA, BEN], "chat": [], "private": [], "files": [], "presenter": 0}
	return {"type": "welcome", **wire_examples.SERVER["welcome"], **nothing, "id": 7, **fields}


@pytest.fixture
def state() -> StateManager:
	one = StateManager()
	one.apply(welcome())
	return one


def names(events: list[Json]) -> list[str]:
	return [event["event"] for event in events]


class TestWelcome:
	def test_the_roster_then_history_then_what_is_shown(self) -> None:
		state = StateManager()
		message = welcome(
			chat=[line(1), line(4, sender="Ana")],
			private=[line(3, to_name="Ana")],
			files=[{**wire_examples.OFFER, "from": "Ben"}],
			presenter=8,
		)
		events = state.apply(message)
		assert names(events) == ["users", "chat", "private", "chat", "file_offer", "screen_start"]
		assert [event["n"] for event in events[1:4]] == [1, 3, 4]
		assert all(event["history"] for event in events[1:4])
		assert events[5] == {"event": "screen_start", "id": 8, "name": "Ben"}
		assert [entry.own for entry in state.current.chat] == [False, False, True]
		assert [entry.to for entry in state.current.chat] == [None, "Ana", None]

	def test_the_snapshot(self, state: StateManager) -> None:
		now = state.current
		assert (now.link, now.me, now.name, now.title, now.pin) == ("live", 7, "Ana", "Algebra", "123456")
		assert now.people == (Person(**ANA), Person(**BEN))
		assert state.me == state.named("Ana") == state.current.person(7)
		assert state.current.person(99) is None is state.named("Zoe")

	def test_users_as_the_headless_interface_says_them(self, state: StateManager) -> None:
		(users,) = state.apply({"type": "user_list", "users": [BEN]})
		assert users == {
			"event": "users",
			"users": [
				{
					"id": 8,
					"name": "Ben",
					"role": "member",
					"mic": True,
					"camera": True,
					"hand": True,
					"sharing": False,
				}
			],
		}


class TestReconnecting:
	def test_no_line_is_doubled_or_lost(self, state: StateManager) -> None:
		state.apply({"type": "chat", **line(1)})
		state.apply({"type": "private_chat", **line(2, to_name="Ana")})
		state.apply({"type": "reaction", **wire_examples.SERVER["reaction"], "n": 3})
		again = state.apply(
			welcome(id=9, chat=[line(1), line(4)], private=[line(2, to_name="Ana"), line(5, to_name="Ana")])
		)
		assert [event["n"] for event in again if "n" in event] == [4, 5]
		assert [entry.n for entry in state.current.chat] == [1, 2, 4, 5]
		assert state.current.me == 9

	def test_another_meeting_starts_anew(self, state: StateManager) -> None:
		state.apply({"type": "chat", **line(7)})
		events = state.apply(welcome(meeting="ff" * 16, chat=[line(1)]))
		assert [event["n"] for event in events if "n" in event] == [1]
		assert [entry.n for entry in state.current.chat] == [1]

	def test_known_files_are_not_offered_again(self, state: StateManager) -> None:
		offers = [{**wire_examples.OFFER, "file": name} for name in ("0a", "0b")]
		state.apply({"type": "file_offer", **offers[0]})
		state.change_file("0a", state="saved", path="/x")
		events = state.apply(welcome(files=offers))
		assert [event["file"] for event in events if event["event"] == "file_offer"] == ["0b"]
		assert [entry.state for entry in state.current.files] == ["saved", "offered"]

	def test_own_files_are_own_after_another_start_of_the_program(self) -> None:
		state = StateManager()
		senders = {"0a": "Ana", "0b": "Ben"}
		state.apply(welcome(files=[{**wire_examples.OFFER, "file": n, "from": senders[n]} for n in senders]))
		assert [entry.own for entry in state.current.files] == [True, False]

	def test_a_question_and_a_countdown_that_ended_meanwhile(self, state: StateManager) -> None:
		"""The server tells those that go on, after the welcome, and says nothing of others."""
		state.apply({"type": "question", **wire_examples.SERVER["question"]})
		state.update(timer=99.0)
		assert state.current.question.answers
		state.apply(welcome())
		assert not state.current.question.answers and not state.current.timer

	def test_a_screen_that_ended_meanwhile(self, state: StateManager) -> None:
		state.apply({"type": "screen_start", "id": 8, "name": "Ben"})
		events = state.apply(welcome(users=[ANA]))
		assert events[-1] == {"event": "screen_stop", "id": 8, "name": "Ben"}
		assert state.current.presenter == 0

	@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=12))
	def test_whatever_is_lost_each_number_comes_once(self, steps: list[tuple[bool, int]]) -> None:
		"""Welcomes and lines come with gaps, as after broken links, and late from another server."""
		state = StateManager()
		state.apply(welcome())
		seen: list[int] = []
		for fresh, upto in steps:
			message = (
				welcome(chat=[line(n) for n in range(1, upto + 1)])
				if fresh
				else {"type": "chat", **line(upto)}
			)
			seen += [event["n"] for event in state.apply(message) if "n" in event]
		assert len(seen) == len(set(seen))
		assert set(seen) == {n for fresh, upto in steps for n in (range(1, upto + 1) if fresh else [upto])}
		assert [entry.n for entry in state.current.chat] == seen


class TestMessages:
	def test_join_and_leave(self, state: StateManager) -> None:
		zoe = {**ANA, "id": 9, "name": "Zoe"}
		events = state.apply({"type": "join", "user": zoe})
		assert events[0] == {"event": "join", "id": 9, "name": "Zoe"} and names(events) == ["join", "users"]
		assert names(state.apply({"type": "join", "user": zoe})) == ["join", "users"]
		assert len(state.current.people) == 3, "once, however often it is said"
		events = state.apply({"type": "leave", "id": 9, "name": "Zoe", "reason": "lost"})
		assert events[0] == {"event": "leave", "id": 9, "name": "Zoe", "reason": "lost"}
		assert state.current.person(9) is None

	def test_state(self, state: StateManager) -> None:
		(event,) = state.apply({"type": "state", "user": {**BEN, "hand": 0.0, "sharing": True}})
		assert (event["event"], event["hand"], event["sharing"]) == ("state", False, True)
		assert state.current.person(8) == Person(**{**BEN, "hand": 0.0, "sharing": True})
		told = [
			state.apply({"type": "state", "user": {**BEN, "hand": hand, "mic": mic}})[0]["raised"]
			for hand, mic in ((0.0, False), (5.0, False), (5.0, True), (0.0, True), (6.0, True))
		]
		assert told == [False, True, False, False, True], "what changed stands in the event itself"
		state.apply({"type": "state", "user": {**BEN, "id": 99}})
		assert len(state.current.people) == 2, "a stranger's state adds nobody"

	def test_who_was_muted_for_oneself_is_so_under_another_name(self, state: StateManager) -> None:
		state.update(gains={"Ben": 0.0, "Cleo": 2.0})
		for name in ("Ben", "Benjamin"):
			state.apply({"type": "state", "user": {**BEN, "name": name}})
			assert state.current.gains == {name: 0.0, "Cleo": 2.0}

	def test_chat(self, state: StateManager) -> None:
		assert state.apply({"type": "chat", **line(1)}) == [
			{"event": "chat", "from": "Ben", "text": "hi", "n": 1, "to": None}
		]
		private = {"type": "private_chat", **line(2, sender="Ana", to_name="Ben")}
		assert state.apply(private) == [
			{"event": "private", "from": "Ana", "text": "hi", "n": 2, "to": "Ben"}
		]
		assert state.current.chat[-1].own

	def test_old_lines_go(self, state: StateManager) -> None:
		state.MOST_LINES = 10  # type: ignore[misc]
		for number in range(1, 15):
			state.apply({"type": "chat", **line(number)})
		assert [entry.n for entry in state.current.chat] == list(range(5, 15))

	def test_reaction_video_screen(self, state: StateManager) -> None:
		assert names(state.apply({"type": "reaction", **wire_examples.SERVER["reaction"]})) == ["reaction"]
		for kind in ("video_start", "video_stop", "screen_start", "screen_stop"):
			assert state.apply({"type": kind, "id": 8, "name": "Ben"}) == [
				{"event": kind, "id": 8, "name": "Ben"}
			]
			assert state.current.presenter == (8 if kind == "screen_start" else 0)

	def test_speaking_on_change(self, state: StateManager) -> None:
		assert state.speaking(8) == [{"event": "speaking", "id": 8, "name": "Ben"}]
		assert state.speaking(8) == []
		assert state.speaking(0) == [{"event": "speaking", "id": None, "name": None}]

	def test_files(self, state: StateManager) -> None:
		offer = {**wire_examples.OFFER, "from": "Ben", "name": "../plan?.pdf"}
		(event,) = state.apply({"type": "file_offer", **offer})
		assert "/" not in event["name"] and event["private"]
		entry = state.file("00ff")
		assert isinstance(entry, FileEntry) and entry.state == "offered" and entry.name == event["name"]
		gone = {"code": "no_such_file", "why": "taken_back", "name": "Ben"}
		events = state.apply({"type": "file_gone", "file": "00ff", **gone})
		words = "Ben took the file back."
		assert events == [{"event": "file_failed", "file": "00ff", **gone, "reason": words}]
		assert state.apply({"type": "file_gone", "file": "00ff", **gone}) == []
		assert state.apply({"type": "file_gone", "file": "beef", **gone}) == []

	@pytest.mark.parametrize("kind", sorted(SERVER_MESSAGES))
	def test_every_message_is_taken(self, state: StateManager, kind: str) -> None:
		events = state.apply({"type": kind, **wire_examples.SERVER[kind]})
		assert all(isinstance(event["event"], str) for event in events)


def test_who_leads_no_longer_knows_no_longer_who_waits_or_was_removed(state: StateManager) -> None:
	for how in ("state", "welcome"):
		state.apply({"type": "state", "user": {**ANA, "role": "co-host"}})
		state.apply({"type": "asks", **wire_examples.SERVER["asks"]})
		state.apply({"type": "banned", "names": ["Tim"]})
		assert state.current.asks and state.current.banned
		state.apply({"type": "state", "user": {**BEN, "hand": 0.0}})
		assert state.current.asks, "another's state changes nothing"
		state.apply({"type": "state", "user": ANA} if how == "state" else welcome())
		assert not state.current.asks and not state.current.banned


class TestSnapshot:
	def test_nothing_in_it_can_be_changed(self, state: StateManager) -> None:
		state.apply({"type": "chat", **line(1)})
		now = state.current
		for thing, name in ((now, "link"), (now.people[0], "name"), (now.chat[0], "text")):
			with pytest.raises(dataclasses.FrozenInstanceError):
				setattr(thing, name, "x")
		assert isinstance(now.people, tuple) and isinstance(now.chat, tuple) and isinstance(now.files, tuple)

	def test_a_reader_keeps_what_it_read(self, state: StateManager) -> None:
		before = state.current
		copy = dataclasses.replace(before)
		for kind, fields in wire_examples.SERVER.items():
			state.apply({"type": kind, **fields})
		state.speaking(8)
		assert before == copy and state.current is not before

	def test_it_starts_empty(self) -> None:
		assert StateManager().current == Snapshot()


def test_files_that_come_and_go_are_remembered_up_to_a_bound(
	state: StateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
	monkeypatch.setattr(StateManager, "MOST_FILES", 200)
	state.apply(welcome())
	for n in range(state.MOST_FILES + 500):
		state.apply({"type": "file_offer", **wire_examples.OFFER, "file": f"{n:x}"})
		if n % 10:
			state.apply({"type": "file_gone", "file": f"{n:x}", "code": "no_such_file"})
	files = state.current.files
	assert len(files) == state.MOST_FILES
	assert sum(one.state == "offered" for one in files) == (state.MOST_FILES + 500) // 10


def test_who_has_a_file_is_one_however_often_it_is_said(state: StateManager) -> None:
	state.put_file(FileEntry("f", "a.pdf", 5, "Ana", own=True))
	for opened in (False, True, True):
		state.apply({"type": "file_saved", "file": "f", "people": 1, "name": "Ben", "opened": opened})
	assert [*state.current.files[0].has] == ["Ben"]


def test_the_teacher_is_called_as_the_host_is_now(state: StateManager) -> None:
	assert state.current.teacher == state.current.host, "while she is away"
	state.update(people=(Person(7, "Ana"), Person(1, "Lena", "host")))
	assert state.current.teacher == "Lena"


def test_a_host_that_offers_and_names_without_end_is_at_fault(state: StateManager) -> None:
	state.apply(welcome())
	with pytest.raises(PeerFault, match="too_many_files"):
		for n in range(state.MOST_FILES + 1):
			state.apply({"type": "file_offer", **wire_examples.OFFER, "file": f"{n:x}"})
	with pytest.raises(PeerFault, match="too_many_people"):
		for n in range(100, 101 + 2 * MAX_PEOPLE):
			state.apply({"type": "join", "user": {**wire_examples.USER, "id": n}})


def test_lines_of_two_servers_of_a_meeting_are_all_kept(state: StateManager) -> None:
	"""A later epoch has higher numbers; what the other server said meanwhile comes late, and once."""
	from connectsphere import Room

	rooms = [Room("Maths", "Ms Lee", "00" * 16, lambda n: "a" * n) for _ in range(2)]
	rooms[1].begin_epoch(2)
	(first, second), ids = ([room.counter + 1 for room in rooms], [room.next_id() for room in rooms])
	assert first < second and ids[0] < ids[1]
	for n in (first, second, first + 1, second, first):
		state.apply({"type": "chat", **line(n)})
	assert [entry.n for entry in state.current.chat] == [first, second, first + 1]
