"""What hosts set for the class: permissions, the word, roles, a question, names, attendance, the door."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import wire_examples
from headless import Headless
from hypothesis import given, settings
from hypothesis import strategies as st
from meetings import Starts, enter, join
from meetings import host as hosted
from processes import child_in_role
from test_room import IN_ROOM, SHA, World
from waiting import wait_until

import connectsphere as cs

ACTS: dict[str, tuple[str, dict[str, Any]]] = {  # what a member does that needs the permission
	"mic": ("mic", {"on": True}),
	"camera": ("video_start", {}),
	"chat": ("chat", {"text": "hello"}),
	"private": ("private_chat", {"to_name": "Cleo", "text": "hello"}),
	"react": ("reaction", {"emoji": "👍"}),
	"files": ("file_offer", {"name": "a.txt", "size": 1, "sha256": SHA, "ref": 1}),
}


class Lesson:
	"""A host, a co-host and two members."""

	def __init__(self) -> None:
		self.world = World()
		self.host = self.world.join("Ms Lee", "host", "10.0.0.1")
		self.people = {name: self.world.join(name) for name in ("Bea", "Ana", "Cleo")}
		self.say("Ms Lee", "cohost", who=self.member("Bea").id, on=True)

	def member(self, name: str) -> cs.Member:
		return next(one for one in self.world.room.members.values() if one.name == name)

	def say(self, name: str, kind: str, /, **fields: Any) -> list[cs.Effect]:
		return self.world.say(self.member(name), kind, **fields)

	def tries(self, name: str, what: str) -> str:
		"""The code with which it is refused; "" when it is done."""
		if what == "share":
			try:
				self.world.note(self.world.room.planes.share_start(self.member(name).id))
			except cs.Refused as refused:
				return refused.code
			self.world.note(self.world.room.planes.share_stop(self.member(name).id))
			return ""
		kind, fields = ACTS[what]
		effects = self.say(name, kind, **fields)
		said = [one.message for one in effects if isinstance(one, cs.Tell)]
		if what in ("mic", "camera"):  # off again, for the next try
			self.say(
				name, "mic" if what == "mic" else "video_stop", **({"on": False} if what == "mic" else {})
			)
		return next((message["code"] for message in said if message["type"] == "error"), "")

	def rules(self, name: str) -> cs.Json:
		return self.world.heard(self.member(name), "rules")[-1]


@pytest.fixture
def lesson() -> Lesson:
	return Lesson()


REFUSED = {what: "no_word" if what == "mic" else "not_permitted" for what in cs.PERMITS}


@pytest.mark.parametrize("what", cs.PERMITS)
def test_what_is_off_is_refused_to_members_alone(lesson: Lesson, what: str) -> None:
	assert lesson.tries("Ana", what) == ""
	lesson.say("Bea", "permit", what=what, on=False)
	assert {name: lesson.tries(name, what) for name in ("Ms Lee", "Bea", "Ana")} == {
		"Ms Lee": "", "Bea": "", "Ana": REFUSED[what]
	}  # fmt: skip
	assert lesson.rules("Ana")["off"] == [what]
	lesson.say("Ms Lee", "permit", what=what, on=True, who=lesson.member("Ana").id)
	assert lesson.rules("Cleo")["exceptions"] == {what: ["Ana"]}
	assert (lesson.tries("Ana", what), lesson.tries("Cleo", what)) == (
		"",
		REFUSED[what],
	)
	lesson.say("Ms Lee", "permit", what=what, on=True)
	assert lesson.rules("Ana")["exceptions"] == {} and lesson.tries("Ana", what) == ""


def test_to_a_host_one_can_always_write_and_hand_in(lesson: Lesson) -> None:
	for what in cs.PERMITS:
		lesson.say("Ms Lee", "permit", what=what, on=False)
	for teacher in ("Ms Lee", "Bea"):
		lesson.say("Ana", "private_chat", to_name=teacher, text="I do not understand")
		lesson.say("Ana", "file_offer", name="a.txt", size=1, sha256=SHA, ref=1, to_name=teacher)
	assert not lesson.world.heard(lesson.member("Ana"), "error")
	assert len(lesson.world.heard(lesson.member("Ms Lee"), "private_chat")) == 1


def test_the_word(lesson: Lesson) -> None:
	for name in ("Ms Lee", "Bea", "Ana", "Cleo"):
		lesson.say(name, "mic", on=True)
	effects = lesson.say("Ms Lee", "permit", what="mic", on=False)
	quiet = {one.order["id"] for one in effects if isinstance(one, cs.ToMixer) and one.order["on"]}
	assert quiet == {lesson.member("Ana").id, lesson.member("Cleo").id}, "hosts go on speaking"
	lesson.say("Ana", "hand", up=True)
	lesson.say("Ms Lee", "word", who=lesson.member("Ana").id)
	assert lesson.rules("Ana")["word"] == "Ana" and lesson.member("Ana").hand == 0
	assert lesson.tries("Ana", "mic") == "" and lesson.tries("Cleo", "mic") == "no_word"
	lesson.say("Ana", "mic", on=True)
	effects = lesson.say("Bea", "word", who=lesson.member("Cleo").id)
	muted = {"do": "mute", "id": lesson.member("Ana").id, "on": True}
	assert cs.ToMixer(muted) in effects, "the word passes on"
	lesson.say("Bea", "word", who=0)
	assert lesson.rules("Ana")["word"] == "" and lesson.tries("Cleo", "mic") == "no_word"


def test_cameras_are_stopped_but_may_start_again(lesson: Lesson) -> None:
	for name in ("Ana", "Cleo"):
		lesson.say(name, "video_start")
	lesson.say("Ms Lee", "mute", who="all", what="camera")
	assert not any(lesson.member(name).camera for name in ("Ana", "Cleo"))
	lesson.say("Ana", "video_start")
	assert lesson.member("Ana").camera and not lesson.member("Cleo").camera


TURNS: dict[str, Callable[[bool], tuple[str, cs.Json]]] = {  # how its owner turns a device on or off
	"mic": lambda on: ("mic", {"on": on}),
	"camera": lambda on: ("video_start" if on else "video_stop", {}),
}


@pytest.mark.parametrize("noticed", [True, False])
@pytest.mark.parametrize("what", [*TURNS])
def test_what_is_ordered_of_all_is_told_to_whoever_was_away_for_a_moment(
	lesson: Lesson, what: str, noticed: bool
) -> None:
	"""Whether the server had noticed that the link was broken or not: the device is still on there."""
	world, order = lesson.world, {"type": "muted", "by": "Ms Lee"}
	order |= {"what": what} if what == "camera" else {}

	def back(name: str) -> list[cs.Json]:
		before = lesson.member(name)
		if noticed:
			world.leave(before, "lost")
		return greeted(name, before)

	def greeted(name: str, before: cs.Member) -> list[cs.Json]:
		now = world.join(name, token=world.tokens[before.id])
		return [one for one in world.room.classroom.greeting(now, world.now) if one["type"] == "muted"]

	def turn(name: str, on: bool) -> None:
		kind, fields = TURNS[what](on)
		lesson.say(name, kind, **fields)

	for name in ("Ana", "Cleo"):
		turn(name, True)
	before, dora = lesson.member("Ana"), world.join("Dora")
	world.leave(dora)
	if noticed:
		world.leave(before, "lost")
	lesson.say("Ms Lee", "mute", who="all", what=what)
	turn("Cleo", False)  # who is here obeys
	assert greeted("Ana", before) == [order]
	assert back("Ana") == [order], "it may have been lost with the link"
	turn("Ana", False)
	assert not back("Ana"), "she has obeyed"
	turn("Cleo", True)
	assert not back("Cleo"), "what came later is hers"
	assert not greeted("Dora", dora), "who left begins with it off"
	for name in ("Ana", "Ms Lee"):
		assert not back(name)


def test_who_had_it_off_is_told_once(lesson: Lesson) -> None:
	before = lesson.member("Ana")
	lesson.world.leave(before, "lost")
	lesson.say("Bea", "mute", who="all")
	told = []
	for _ in range(3):
		now = lesson.world.join("Ana", token=lesson.world.tokens[before.id])
		told += [one for one in lesson.world.room.classroom.greeting(now, 0.0) if one["type"] == "muted"]
		lesson.say("Ana", "resumed")
		lesson.world.leave(now, "lost")
		before = now
	assert told == [{"type": "muted", "by": "Bea"}]


def test_who_has_not_handed_in_is_reminded(lesson: Lesson) -> None:
	def reminded() -> set[str]:
		told = [one for one in lesson.say("Ms Lee", "remind") if isinstance(one, cs.Tell)]
		ids = {ident for one in told if one.message["type"] == "asked" for ident in one.to}
		return {one.name for one in lesson.world.room.members.values() if one.id in ids}

	assert not reminded(), "nothing is collected"
	for title in ("Sheet 1", "Sheet 2"):  # what was handed in for one is none for the other
		lesson.say("Ms Lee", "collect", title=title)
		assert reminded() == {"Ana", "Cleo"}
		lesson.say("Ana", "file_offer", name="a.txt", size=1, sha256=SHA, kind="work", ref=1)
		lesson.world.note(lesson.world.room.shelf.file_whole([*lesson.world.room.shelf.offers][-1]))
		assert reminded() == {"Cleo"}
		offer = [*lesson.world.room.shelf.offers.values()][-1]
		assert (offer.task, offer.at) == (title, lesson.world.room.clock)


def test_work_that_did_not_arrive_is_not_handed_in(lesson: Lesson) -> None:
	lesson.say("Ms Lee", "collect", title="Sums")
	lesson.say("Ana", "file_offer", name="a.txt", size=1, sha256=SHA, kind="work", ref=1)
	for whole in (False, True):
		if whole:
			lesson.world.note(lesson.world.room.shelf.file_whole(next(iter(lesson.world.room.shelf.offers))))
		lesson.say("Ms Lee", "remind")
		assert len(lesson.world.heard(lesson.member("Ana"), "asked")) == 1


def test_who_shares_may_pause_and_all_read_so(lesson: Lesson) -> None:
	room, ana = lesson.world.room, lesson.member("Ana").id

	def refused(name: str, on: bool) -> bool:
		lesson.say(name, "pause", on=on)
		errors = lesson.world.heard(lesson.member(name), "error")
		return bool(errors) and errors.pop()["code"] == "not_allowed"

	assert refused("Ana", True)
	for before in (room.planes.share_start, room.planes.share_stop):
		lesson.world.note(room.planes.share_start(ana))
		for on in (True, False, True):
			lesson.say("Ana", "pause", on=on)
			assert lesson.world.heard(lesson.member("Cleo"), "state")[-1]["user"].get("paused", False) is on
		lesson.say("Ms Lee", "pause", on=False)
		assert lesson.member("Ana").paused, "it is hers"
		lesson.world.note(before(ana))
		assert not lesson.member("Ana").paused, "what begins or is over does not stand still"


def test_hands_are_lowered(lesson: Lesson) -> None:
	for name in ("Ana", "Cleo"):
		lesson.say(name, "hand", up=True)
	lesson.say("Bea", "lower", who=lesson.member("Ana").id)
	assert not lesson.member("Ana").hand and lesson.member("Cleo").hand
	lesson.say("Ana", "hand", up=True)
	lesson.say("Ms Lee", "lower", who="all")
	assert not any(one.hand for one in lesson.world.room.members.values())


def test_the_hand_of_whoever_is_away_for_a_moment_is_lowered_with_all(lesson: Lesson) -> None:
	before = {name: lesson.member(name) for name in ("Ana", "Cleo")}
	for name, one in before.items():
		lesson.say(name, "hand", up=True)
		lesson.world.leave(one, "lost")
	lesson.world.join("Cleo", token=lesson.world.tokens[before["Cleo"].id])
	assert lesson.member("Cleo").hand
	lesson.world.note(lesson.world.room.leave(lesson.member("Cleo").id, "lost", lesson.world.now))
	effects = lesson.say("Ms Lee", "lower", who="all")
	kept = {key for one in effects if isinstance(one, cs.Keep) and one.part == "people" for key in one.keys}
	assert kept == {one.person for one in before.values()}, "a crash does not raise it"
	for name, one in before.items():
		assert not lesson.world.join(name, token=lesson.world.tokens[one.id]).hand


def test_a_cohost_has_all_rights_but_two(lesson: Lesson) -> None:
	for kind in ("end", "cohost"):
		fields = {"who": lesson.member("Ana").id, "on": True} if kind == "cohost" else {}
		lesson.say("Bea", kind, **fields)
		assert lesson.world.heard(lesson.member("Bea"), "error")[-1]["code"] == "not_allowed"
	lesson.say("Bea", "remove", who=lesson.host.id)
	assert "Ms Lee" in {one.name for one in lesson.world.room.members.values()}
	lesson.say("Ms Lee", "cohost", who=lesson.member("Bea").id, on=False)
	assert lesson.member("Bea").role == "member"


def test_a_cohost_keeps_what_is_handed_in_and_takes_back_what_is_not_meant(lesson: Lesson) -> None:
	def offered(name: str, **fields: Any) -> str:
		lesson.say(name, "file_offer", name="a.txt", size=1, sha256=SHA, ref=1, **fields)
		return str(lesson.world.heard(lesson.member(name), "file_ready")[-1]["file"])

	shelf = lesson.world.room.shelf.offers
	work = offered("Ana", to_name="Bea")
	lesson.say("Bea", "decline", file=work)
	assert work in shelf and lesson.world.heard(lesson.member("Bea"), "error")[-1]["code"] == "not_allowed"
	joke = offered("Cleo")
	lesson.say("Ana", "cancel", file=joke)
	assert joke in shelf
	lesson.say("Bea", "cancel", file=joke)
	assert joke not in shelf


def test_a_question_takes_one_vote_a_person(lesson: Lesson) -> None:
	lesson.say("Ms Lee", "question", question="Ready?", answers=["yes", "no"])
	for name, index in (("Ana", 0), ("Ana", 1), ("Cleo", 1)):
		lesson.say(name, "answer", index=index)
	assert lesson.world.heard(lesson.host, "question")[-1]["counts"] == [0, 2]
	assert "counts" not in lesson.world.heard(lesson.member("Ana"), "question")[-1]
	assert lesson.world.heard(lesson.member("Ana"), "question")[-1]["own"] == 1
	lesson.say("Bea", "close_question")
	closed, none = lesson.world.heard(lesson.member("Ana"), "question")[-2:]
	assert closed["counts"] == [0, 2] and none["answers"] == []
	lesson.say("Ana", "answer", index=0)
	assert lesson.world.heard(lesson.member("Ana"), "error")[-1]["code"] == "bad_command"


def test_a_name_is_changed_for_good(lesson: Lesson) -> None:
	token = lesson.world.tokens[lesson.member("Ana").id]
	lesson.say("Ana", "rename", name="Ana María")
	lesson.say("Cleo", "rename", name="Zoe", who=lesson.member("Ana María").id)
	assert lesson.world.heard(lesson.member("Cleo"), "error")[-1]["code"] == "not_allowed"
	lesson.say("Cleo", "rename", name="Ms Lee")
	assert "Ms Lee (2)" in {one.name for one in lesson.world.room.members.values()}
	lesson.say("Ms Lee (2)", "rename", name="Ana")  # who was called so before is meant by it
	assert "Ana (2)" in {one.name for one in lesson.world.room.members.values()}
	ana = lesson.member("Ana María")
	for name in ("Ana", "Ana María"):
		lesson.say("Ms Lee", "rename", name=name, who=ana.id)
		assert lesson.world.room.members[ana.id].name == name
	lesson.world.leave(lesson.member("Ana María"), "lost")
	assert lesson.world.join("Ana", token=token).name == "Ana María"


@pytest.mark.parametrize("name", ["ana", "ANA", "Ána", "A n a", "Anna", "ana (2)"])
def test_a_name_like_ones_own_needs_no_number(lesson: Lesson, name: str) -> None:
	lesson.say("Ana", "rename", name=name)
	assert lesson.member(name)
	assert lesson.world.join("ana").name.startswith("ana ("), "it is nobody else's for that"
	cleo = lesson.member("Cleo")
	lesson.say("Cleo", "rename", name=name)
	assert lesson.world.room.members[cleo.id].name != name


def test_only_who_was_asked_frees_the_screen_and_once(lesson: Lesson) -> None:
	"""Or any pupil could end what somebody else shows."""
	world, room, host = lesson.world, lesson.world.room, lesson.host.id

	def ends_it(name: str, *, yes: bool = True) -> bool:
		world.note(room.planes.share_start(host))
		lesson.say(name, "agree", to="share", yes=yes)
		return room.planes.presenter != host

	assert not any(ends_it(name) for name in ("Ana", "Bea", "Cleo"))
	lesson.say("Bea", "ask_share", who=lesson.member("Ana").id)
	assert not ends_it("Cleo")
	world.leave(lesson.member("Ana"), "lost")
	world.join("Ana", token=world.tokens[lesson.people["Ana"].id])
	assert ends_it("Ana"), "the person is asked, not the link"
	assert not ends_it("Ana")
	lesson.say("Bea", "ask_share", who=lesson.member("Ana").id)
	assert not ends_it("Ana", yes=False) and not ends_it("Ana")
	with pytest.raises(cs.PeerFault):
		lesson.say("Ana", "agree", to="work", yes=True)


def test_work_goes_to_the_host_whatever_her_name_is_now(lesson: Lesson) -> None:
	lesson.say("Ms Lee", "collect", title="Sums")
	lesson.say("Ms Lee", "rename", name="Lena")
	lesson.say("Ana", "file_offer", name="a.txt", size=1, sha256=SHA, kind="work", ref=1)
	file = lesson.world.heard(lesson.member("Ana"), "file_ready")[-1]["file"]
	assert lesson.world.room.shelf.offers[file].to == lesson.host.person


def test_work_waits_for_a_host_who_is_away(lesson: Lesson) -> None:
	"""Who hands in while her link is broken need not do it again."""
	world, shelf, ana = lesson.world, lesson.world.room.shelf, lesson.member("Ana")
	lesson.say("Ms Lee", "collect", title="Sums")
	lesson.say("Ms Lee", "rename", name="Lena")
	lesson.say("Lena", "permit", what="files", on=False)
	world.leave(lesson.member("Lena"), "lost")
	state = cs.StateManager()
	state.apply(world.room.welcome(ana))
	state.apply(world.room.classroom.rules())
	moves: list[cs.Transfer] = []
	files = cs.FileTransfers(cs.ClientOptions(), *[state] * 5)  # type: ignore[arg-type]
	files._state, files._add = state, moves.append  # type: ignore[method-assign]
	files.hand_in({"do": "hand_in", "path": "sums.pdf"})
	assert moves[0].command["kind"] == "work", "her program tries"
	file = world.offer(ana, kind="work")
	world.note(shelf.file_whole(file))
	assert [one["file"] for one in world.heard(ana, "file_offer")] == [file]
	assert not world.heard(lesson.member("Cleo"), "file_offer"), "it is between the two"
	back = world.join("Ms Lee", "host", token=world.tokens[lesson.host.id])
	assert [one.file for one in shelf.due(back.person)] == [file]


def test_nobody_hands_in_where_there_never_was_a_host() -> None:
	world = World()
	ana = world.join("Ana")
	world.room.classroom.set.collecting = "Sums"
	world.say(ana, "file_offer", name="a.txt", size=1, sha256=SHA, kind="work", ref=1)
	assert world.heard(ana, "error")[-1]["code"] == "no_such_person" and not world.room.shelf.offers


def test_work_bears_the_name_that_its_owner_has_now(lesson: Lesson) -> None:
	"""Or the host reads that it is missing."""
	lesson.say("Ms Lee", "collect", title="Sums")
	lesson.say("Ana", "file_offer", name="a.txt", size=1, sha256=SHA, kind="work", ref=1)
	room, state = lesson.world.room, cs.StateManager()
	file = next(iter(room.shelf.offers))
	lesson.world.note(room.shelf.file_whole(file))
	for message in (room.welcome(lesson.host), *room.classroom.greeting(lesson.host, 0.0)):
		state.apply(message)
	state.change_file(file, has=frozenset({"Ana", "Cleo"}), to="Ana")
	lesson.say("Ana", "rename", name="Zoe")
	for message in lesson.world.told[lesson.host.id][-2:]:
		state.apply(message)
	assert state.current.handed_in == {"Zoe"} and state.file(file).has == {"Zoe", "Cleo"}
	assert state.file(file).to == "Zoe", "or a server that takes over is not offered it"
	late = cs.StateManager()
	for message in (room.welcome(lesson.host), *room.classroom.greeting(lesson.host, 0.0)):
		late.apply(message)
	assert late.current.handed_in == {"Zoe"}
	assert any(entry["from"] == "Zoe" for entry in lesson.world.kept["files"].values())


def test_rules_are_told_whomever_they_name(lesson: Lesson) -> None:
	"""Of a meeting's people more than the roster holds may have come and gone, each with own rights."""
	world = lesson.world
	for what in cs.PERMITS:
		lesson.say("Ms Lee", "permit", what=what, on=False)
	for n in range(cs.MAX_PEOPLE + 20):
		member = world.join(f"Guest {n}")
		for what in cs.PERMITS:
			world.room.classroom.exempt(member, what, True)
		if n < 200:
			world.leave(member)
	rules = cs.parse_message(cs.encode_line(world.room.classroom.rules()).rstrip(), cs.SERVER_MESSAGES)
	assert member.name in rules["exceptions"]["mic"]


def test_a_list_of_attendance_leaves_out_whoever_stayed_shortest(lesson: Lesson) -> None:
	world = lesson.world
	for n in range(cs.MOST_ROWS):
		world.leave(world.join(f"Guest {n}"))
	world.join("Late")
	world.now += 60
	lesson.say("Ms Lee", "attendance", ref=3)
	rows = world.heard(lesson.host, "attendance")[-1]["rows"]
	names = [row["name"] for row in rows]
	assert len(rows) == cs.MOST_ROWS and {"Ms Lee", "Ana", "Bea", "Cleo", "Late"} <= {*names}
	assert [row["came"] for row in rows] == sorted(row["came"] for row in rows)


def test_the_folder_of_a_list_is_made_with_all_above_it(tmp_path: Path) -> None:
	"""As it is for what is received; a file or a full disk in its place is told."""
	path = tmp_path / "Downloads" / "ConferenceFiles" / "list.csv"
	cs.write_attendance(path, [cs.Attended("Ana", 1e9, 0.0, 60.0, 0)])
	assert "Ana" in path.read_text("utf-8-sig")


def test_who_was_here(lesson: Lesson) -> None:
	world, token = lesson.world, lesson.world.tokens[lesson.member("Ana").id]
	world.now += 600
	world.leave(lesson.member("Ana"), "lost")
	world.now += 60
	world.join("Ana", token=token)
	world.now += 300
	world.leave(lesson.member("Cleo"))
	lesson.say("Bea", "attendance", ref=3)
	rows = {row["name"]: row for row in world.heard(lesson.member("Bea"), "attendance")[-1]["rows"]}
	assert (rows["Ana"]["seconds"], rows["Ana"]["lost"], rows["Ana"]["went"]) == (900, 1, 0)
	assert (rows["Cleo"]["seconds"], rows["Cleo"]["went"] - rows["Cleo"]["came"]) == (960, 960)


class_message = st.one_of(
	st.builds(lambda what, on, who: ("permit", {"what": what, "on": on, **({"who": who} if who else {})}),
		st.sampled_from(cs.PERMITS), st.booleans(), st.integers(0, 5)),
	st.builds(lambda who: ("word", {"who": who}), st.integers(0, 5)),
	st.builds(lambda who: ("spotlight", {"who": who}), st.integers(0, 5)),
	st.builds(lambda on: ("one_room", {"on": on}), st.booleans()),
	st.builds(lambda same: ("room", {"same": same}), st.integers(0, 5)),
	st.builds(lambda mode: ("door", {"mode": mode}), st.sampled_from(cs.DOORS)),
	st.builds(lambda who, on: ("cohost", {"who": who, "on": on}), st.integers(0, 5), st.booleans()),
	st.just(("question", {"question": "Ready?", "answers": ["yes", "no"]})),
	st.builds(lambda index: ("answer", {"index": index}), st.integers(0, 2)),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(class_message, max_size=12))
def test_rights_are_what_the_rules_say_and_outlive_a_crash(
	messages: list[tuple[str, dict[str, Any]]],
) -> None:
	"""For every state: refused or done as everyone is told; a room that was kept and loaded says the same."""
	lesson = Lesson()
	for kind, fields in messages:
		lesson.say("Ms Lee", kind, **fields)
	rules = cs.Rules.read(lesson.world.room.classroom.rules())
	for name in ("Bea", "Ana", "Cleo"):
		member = lesson.member(name)
		for what in cs.PERMITS:
			allowed = member.role != "member" or rules.permits(what, name)
			assert lesson.world.room.classroom.may(member, what) == allowed
			if not (what == "private" and lesson.member("Cleo").role != "member"):
				assert (lesson.tries(name, what) == "") == allowed, (name, what)
	now = lesson.world.now
	kept = json.loads(json.dumps(lesson.world.room.export(now)))
	again = World()
	again.room.load(kept, now)
	assert again.room.classroom.rules() == lesson.world.room.classroom.rules()
	assert again.room.export(now + 50)["settings"] == kept["settings"]


def refusal(lesson: Lesson, name: str, kind: str, fields: dict[str, Any]) -> str:
	"""The code with which it is refused; "" when it is done."""
	told = [one.message for one in lesson.say(name, kind, **fields) if isinstance(one, cs.Tell)]
	return next((one["code"] for one in told if one["type"] == "error"), "")


NEEDS = {"chat": "chat", "reaction": "react", "video_start": "camera"}  # a permission, whatever their members
RIGHTS = {"not_allowed", "not_permitted", "no_word"}  # all other codes are about what was asked for


def expected(lesson: Lesson, name: str, kind: str, fields: dict[str, Any]) -> str:
	"""With which of RIGHTS it is to be refused now; "" when it is not."""
	room, one = lesson.world.room, lesson.member(name)
	off, rules = room.classroom.set.off, cs.Rules.read(room.classroom.rules())
	member = one.role == "member"
	may = lambda what: not member or (what in off) == (name in rules.exceptions.get(what, ()))  # noqa: E731
	if not cs.may_say(one.role, kind):
		return "not_allowed"
	if kind == "pause":
		return "" if room.planes.presenter == one.id else "not_allowed"
	if kind == "mic" and fields["on"]:
		return "" if may("mic") or rules.word == name else "no_word"
	if kind == "private_chat":
		return "" if may("private") or lesson.member(fields["to_name"]).leads else "not_permitted"
	if kind == "rename" and fields.get("who", one.id) != one.id:
		return "not_allowed" if member else ""
	if kind == "file_offer" and fields["kind"]:
		allowed = bool(rules.collecting) if fields["kind"] == "work" else not member
		return "" if allowed else "not_permitted"
	if kind == "file_offer":
		return "" if may("files") or lesson.member(fields["to_name"]).leads else "not_permitted"
	return "" if kind not in NEEDS or may(NEEDS[kind]) else "not_permitted"


SHARED = st.sampled_from(["", "Ms Lee", "Ana", "Cleo"])
STATE = st.tuples(st.lists(class_message, max_size=6), SHARED, st.sampled_from(["", "Fractions"]))


@pytest.mark.parametrize("name", ["Ms Lee", "Bea", "Ana"])
@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted({*IN_ROOM} - {"leave", "end", "hand_over"})), STATE)
def test_every_message_is_refused_or_done_as_its_role_and_the_class_say(
	name: str, kind: str, state: tuple[list[tuple[str, dict[str, Any]]], str, str]
) -> None:
	"""Every message of a host, a co-host and a member, each in the same state of the class."""
	messages, shared, collecting = state
	lesson = Lesson()
	for done, fields in messages:
		lesson.say("Ms Lee", done, **fields)
	lesson.say("Ms Lee", "collect", title=collecting)
	if shared and lesson.world.room.classroom.may(lesson.member(shared), "share"):
		lesson.world.note(lesson.world.room.planes.share_start(lesson.member(shared).id))
	examples = [dict(wire_examples.CLIENT[kind])]
	if kind in ("private_chat", "file_offer"):
		examples = [{**examples[0], "to_name": to} for to in ("Cleo", "Ms Lee") if to != name]
	if kind == "file_offer":
		examples = [{**one, "kind": what, "ref": 1} for one in examples for what in ("", "work", "sheet")]
	if kind == "rename":
		examples = [{"name": "Zoe", "who": lesson.member("Ms Lee").id}]
	if kind in ("mic", "pause"):
		examples = [{"on": True}, {"on": False}]
	for fields in examples:
		wanted = expected(lesson, name, kind, fields)
		code = refusal(lesson, name, kind, fields)
		assert (code if code in RIGHTS else "") == wanted, (kind, fields, code)


# ------------------------------------------------------------------- the same through programs


@pytest.fixture
def lesson_of_three(meeting: Starts) -> tuple[Headless, Headless, Headless, int]:
	host, base = hosted(meeting, name="Ms Lee")
	return host, join(meeting, base, "Ana"), join(meeting, base, "Ben"), base


def test_a_lesson_by_commands(
	lesson_of_three: tuple[Headless, Headless, Headless, int], tmp_path: Path
) -> None:
	host, ana, ben, _ = lesson_of_three
	assert ana.wait("permissions")["what"] == dict.fromkeys(cs.PERMITS, True)
	host.send({"do": "permit", "what": "mic", "on": False, "ref": 1})
	assert host.wait("permissions", ref=1)["what"]["mic"] is False
	ana.wait("permissions", what={**dict.fromkeys(cs.PERMITS, True), "mic": False})
	ana.send({"do": "mic", "on": True, "ref": 2})
	assert ana.wait("error", ref=2)["code"] == "no_word"
	ana.send({"do": "permit", "what": "mic", "on": True, "ref": 3})
	assert ana.wait("error", ref=3)["code"] == "not_allowed"
	ana.send({"do": "hand", "up": True})
	host.wait("state", name="Ana", hand=True)
	host.send({"do": "word", "to": "Ana"})
	assert ana.wait("permissions", word="Ana")
	host.wait("state", name="Ana", hand=False)
	host.send({"do": "cohost", "who": "Ben", "on": True})
	ben.wait("state", name="Ben", role="co-host")
	ben.send({"do": "spotlight", "who": "Ana"})
	assert ana.wait("spotlight")["name"] == "Ana"
	host.send({"do": "ask", "question": "Ready?", "answers": ["yes", "no"]})
	assert ana.wait("question")["answers"] == ["yes", "no"]
	ana.send({"do": "answer", "index": 1})
	assert host.wait("question", counts=[0, 1])
	host.send({"do": "close_question"})
	assert ana.wait("question", counts=[0, 1])["own"] == 1
	assert ana.wait("question", question=None)
	ben.send({"do": "timer", "seconds": 2})
	assert [ana.wait("timer")["seconds"], ana.wait("timer", timeout=6)["seconds"]] == [2, 0]
	ana.send({"do": "rename", "name": "Ana María"})
	host.wait("state", name="Ana María")
	table = tmp_path / "who.csv"
	host.send({"do": "attendance", "path": str(table), "ref": 9})
	host.wait("ok", ref=9)
	assert table.read_bytes().startswith("\ufeffname,".encode()) and "Ana María" in table.read_text("utf-8")


def test_the_door(lesson_of_three: tuple[Headless, Headless, Headless, int], meeting: Starts) -> None:
	host, _, _, base = lesson_of_three
	host.send({"do": "door", "mode": "knock"})
	host.wait("door", mode="knock")
	cleo = enter(meeting, base, "Cleo")
	cleo.wait("waiting")
	knock = host.wait("knock", name="Cleo")
	host.send({"do": "admit", "who": "Cleo", "yes": True})
	cleo.wait("joined")
	host.wait("knock_gone", n=knock["n"])
	dan = enter(meeting, base, "Dan")
	dan.wait("waiting")
	host.wait("knock", name="Dan")
	host.send({"do": "admit", "who": "all", "yes": False})
	assert dan.wait("denied")["code"] == "not_allowed"
	host.send({"do": "door", "mode": "locked"})
	host.wait("door", mode="locked")
	assert enter(meeting, base, "Eve").wait("denied")["code"] == "locked"


def test_a_new_pin_is_asked_of_newcomers_and_outlives_a_crash(meeting: Starts) -> None:
	host, base = hosted(meeting, "--pin", "111111", name="Ms Lee")
	ana = join(meeting, base, "Ana", "--pin", "111111")
	ana.send({"do": "new_pin", "ref": 1})
	assert ana.wait("error", ref=1)["code"] == "not_allowed"
	host.send({"do": "new_pin", "ref": 1})
	told = host.wait("door", ref=1)
	assert re.fullmatch("[0-9]{6}", told["pin"]) and told["mode"] == "open"
	assert enter(meeting, base, "Bo", "--pin", "111111").wait("denied")["code"] == "wrong_pin"
	join(meeting, base, "Cleo", "--pin", told["pin"])
	server = child_in_role(host.process.pid, "--serve-child")
	os.kill(server, signal.SIGKILL)
	for one in (host, ana):
		one.wait("reconnected", timeout=40)
	assert enter(meeting, base, "Bo", "--pin", "111111").wait("denied")["code"] == "wrong_pin"
	join(meeting, base, "Dan", "--pin", told["pin"])
	assert not ana.seen("door")


def test_a_host_is_told_how_far_the_worst_third_is(lesson: Lesson) -> None:
	"""Of the members, by their own last round trips; members are not told."""
	for name, took in (("Ana", 300.0), ("Cleo", 12.5)):
		lesson.say(name, "ping", t=1, took_ms=took)
	lesson.say("Bea", "ping", t=1, took_ms=2_000.0)
	lesson.say("Ms Lee", "ping", t=1)
	heard = {name: lesson.world.heard(lesson.member(name), "pong")[-1] for name in ("Ms Lee", "Bea", "Ana")}
	assert [one.get("class_ms") for one in heard.values()] == [300.0, 300.0, None]
	lesson.world.leave(lesson.member("Ana"))
	lesson.say("Ms Lee", "ping", t=2)
	assert lesson.world.heard(lesson.member("Ms Lee"), "pong")[-1]["class_ms"] == 12.5


def test_who_was_away_is_offered_anew_what_was_handed_out_or_in_meanwhile(lesson: Lesson) -> None:
	"""Its program takes what is offered in the meeting by itself, and of a welcome nothing."""
	room = lesson.world.room

	def whole(name: str, kind: str, **fields: Any) -> str:
		return lesson.world.offer(lesson.member(name), kind=kind, **fields)

	def back(name: str) -> list[str]:
		"""Breaks the link, has what was sent meanwhile come to its end, comes back: what is offered anew."""
		before = lesson.member(name)
		lesson.world.leave(before, "lost")
		for file in files:
			lesson.world.note(room.shelf.file_whole(file))
		token, role = lesson.world.tokens[before.id], "host" * (name == "Ms Lee") or "member"
		now = lesson.world.join(name, role, token=token)
		offers = [one["file"] for one in room.classroom.greeting(now, 0.0) if one["type"] == "file_offer"]
		assert not {*offers}.intersection(one["file"] for one in room.welcome(now)["files"]), "not twice"
		return offers

	lesson.say("Ms Lee", "collect", title="Sums")
	sheet, work, other = whole("Ms Lee", "sheet"), whole("Ana", "work"), whole("Ana", "")
	files = [sheet, work, other]
	assert back("Cleo") == [sheet] and back("Ms Lee") == [work] and back("Ana") == [sheet]
	for name, file in (("Cleo", sheet), ("Ms Lee", work)):
		lesson.world.note(room.shelf.file_saved(file, lesson.member(name).id))
		assert back(name) == [], "she has it"
	assert {one["file"] for one in room.welcome(lesson.member("Ms Lee"))["files"]} == {*files}


def test_who_took_a_sheet_while_its_owner_was_away_has_it_and_she_is_told_once(lesson: Lesson) -> None:
	"""It may be her link that the whole class's fetching breaks."""
	world, room, state = lesson.world, lesson.world.room, cs.StateManager()
	sheet = world.offer(lesson.host, kind="sheet")
	world.note(room.shelf.file_whole(sheet))
	handed: list[cs.Json] = []
	for name in ("Ana", "Cleo"):
		before = lesson.member("Ms Lee")
		world.leave(before, "lost")
		world.note(room.shelf.file_saved(sheet, lesson.member(name).id))
		assert room.shelf.due(lesson.member(name).person) == []
		now = world.join("Ms Lee", "host", token=world.tokens[before.id])
		for message in (room.welcome(now), *room.classroom.greeting(now, 0.0)):
			handed += [one for one in state.apply(message) if one["event"] == "handed_out"]
	world.say(lesson.member("Ana"), "opened", file=sheet)
	handed += state.apply(world.heard(now, "file_saved")[-1])
	assert [(one["name"], one["opened"]) for one in handed] == [
		("Ana", False),
		("Cleo", False),
		("Ana", True),
	]
	assert (state.file(sheet).has, state.file(sheet).people) == ({"Ana", "Cleo"}, 2)


def test_a_sheet_goes_out_and_work_comes_in(meeting: Starts, tmp_path: Path) -> None:
	sheet, work = tmp_path / "sheet.pdf", tmp_path / "work.pdf"
	sheet.write_bytes(b"exercise 3")
	work.write_bytes(b"solved")
	host, base = hosted(meeting, "--downloads", str(tmp_path / "hers"), name="Ms Lee")
	ana = join(meeting, base, "Ana", "--downloads", str(tmp_path / "anas"))
	ana.send({"do": "hand_in", "path": str(work), "ref": 1})
	assert ana.wait("error", ref=1)["code"] == "not_permitted"
	ana.send({"do": "hand_out", "path": str(work), "ref": 2})
	assert ana.wait("error", ref=2)["code"] == "not_allowed"
	host.send({"do": "hand_out", "path": str(sheet)})
	assert Path(ana.wait("file_saved")["path"]).read_bytes() == b"exercise 3"
	given = host.wait("handed_out")
	assert (given["name"], given["has"], given["opened"]) == ("Ana", True, False)
	ana.send({"do": "opened", "file": given["file"]})
	host.wait("handed_out", name="Ana", opened=True)
	ben = join(meeting, base, "Ben", "--downloads", str(tmp_path / "bens"))
	assert Path(ben.wait("file_saved")["path"]).read_bytes() == b"exercise 3", "who comes late has it, too"
	assert len(ben.seen("file_offer")) == 1
	host.send({"do": "collect", "open": True, "title": "Fractions"})
	assert ana.wait("collecting")["title"] == "Fractions"
	host.send({"do": "rename", "name": "Lena"})
	ana.wait("state", name="Lena")

	def handed(times: int) -> bool:
		return len(host.seen("hand_in")) == times == len(ana.seen("handed_in"))

	paths = []
	for number in (1, 2):
		ana.send({"do": "hand_in", "path": str(work)})
		wait_until(partial(handed, number))
		paths.append(Path(host.seen("hand_in")[-1]["path"]))
		work.write_bytes(b"solved again")
	assert [path.read_bytes() for path in paths] == [b"solved", b"solved again"], "kept beside the first"
	assert {path.parent.name for path in paths} == {"Ana"}
	host.send({"do": "collect", "open": False})
	ana.wait("collecting", title=None)
