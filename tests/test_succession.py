"""The lesson outlives its host: who goes on, in what order, with which rights, and how all are one again."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import pytest
import wire_examples
from headless import Headless
from hypothesis import given, settings
from hypothesis import strategies as st
from lan import Lan, needs_lan
from meetings import SILENT, Starts, enter, host, join, switch
from member import Member, tls
from sound import longest_silence
from waiting import wait_until

import connectsphere as cs

WITHIN = 3.0  # s from the host's death to the first sound of another
WRONG = (sys.executable, str(Path(__file__).with_name("wrong_clock.py")))
DAY = 86_400.0
SPARE = 1.5  # a machine on which other tests run, too


class Class:
	"""A lesson on a LAN: the teacher on host 1, pupils on the others; each has a home of its own.

	`ahead` are the seconds by which the clocks of hosts are wrong.
	"""

	def __init__(
		self, lan: Lan, home: Path, *pin: str, ahead: Mapping[int, float] = MappingProxyType({})
	) -> None:
		self.lan, self.home, self.pin, self.ahead = lan, home, pin, ahead
		self.all: list[Headless] = []
		self.teacher = self.start(1, "Ms Lee", "--host", "--title", "Maths", *pin, "--orphan-seconds", "900")

	def begin(self) -> Class:
		"""The teacher is in."""
		self.first = self.teacher.wait("joined", timeout=40)
		return self

	def start(self, at: int, name: str, *args: str) -> Headless:
		args = ("--name", name, *SILENT, *args)
		wrong = {"env": {"WRONG_CLOCK": str(self.ahead[at])}, "program": WRONG} if at in self.ahead else {}
		home = self.home / name.replace(" ", "-")
		one = Headless(args, home, netns=self.lan.namespace(at), **wrong)  # type: ignore[arg-type]
		self.all.append(one)
		return one

	def pupil(self, at: int, name: str, *args: str) -> Headless:
		"""Someone who has joined."""
		one = self.start(at, name, "--join", self.lan.address(1), *self.pin, *args)
		one.wait("joined", timeout=40)
		return one

	def standby(self, at: int, name: str, *args: str) -> Headless:
		"""Someone who has joined and is ready to go on with the meeting."""
		one = self.pupil(at, name, "--standby", "yes", *args)
		self.teacher.wait("stand_by", 20, name=name, state="ready")
		return one

	def kill_host(self) -> float:
		"""The host's window and server are killed at once; when that was."""
		server = cs.RunningMeeting(self.teacher.home).read()["pid"]
		died = time.time()
		for process in (self.teacher.process.pid, server):
			os.kill(process, signal.SIGKILL)
		return died

	def close(self) -> None:
		for one in self.all:
			one.process.kill()
			one.close()


@pytest.fixture
def lesson(tmp_path: Path) -> Iterator[Callable[..., Class]]:
	"""Starts a class on a LAN of so many hosts."""
	with contextlib.ExitStack() as stack:

		def start(hosts: int, *pin: str, **more: Any) -> Class:
			one = Class(stack.enter_context(Lan(hosts)), tmp_path, *pin, **more)
			stack.callback(one.close)
			return one.begin()

		yield start


def people(one: Headless) -> dict[str, int]:
	"""The ids of who is in, by name, as `one` knows it last."""
	return {user["name"]: user["id"] for user in one.seen("users")[-1]["users"]}


# -- the rules, without a network ------------------------------------------------------------------------

SECRET = "5e" * 32
MEETING, HERE, THERE = "0a" * 16, "11" * 32, "22" * 32


def server(fingerprint: str, name: str = "Ana") -> cs.Json:
	return {"fingerprint": fingerprint, "name": name, "address": "10.0.0.7", "port": 9000}


def signed(secret: str = SECRET, **changes: Any) -> cs.Json:
	"""A succession record as it is told."""
	right = cs.HostRight(secret)
	record = {
		"meeting": MEETING, "title": "Maths", "pin": True, "epoch": 1, "host_key": right.public,
		"n": 60, "servers": [server(HERE, "Ms Lee"), server(THERE)],
	}  # fmt: skip
	return right.sign(json.dumps({**record, **changes}))


class Participant:
	"""What Successors need of a participant."""

	def __init__(self) -> None:
		self.options = cs.ClientOptions(teacher=cs.HostRight(SECRET).public, address="10.0.0.1")
		self.state, self.meeting, self.link = cs.StateManager(), MEETING, None
		self.server = self
		self.sent: list[cs.Json] = []
		self.events: list[tuple[str, cs.Json]] = []

	def send(self, type: str, **members: Any) -> None:
		self.sent.append({"type": type, **members})

	def emit(self, event: str, ref: Any = None, **fields: Any) -> None:
		self.events.append((event, fields))

	def token_at(self, fingerprint: str) -> str:
		return fingerprint[::-1]


@pytest.fixture
def heirs(tmp_path: Path) -> cs.Successors:
	return cs.Successors(Participant(), tmp_path)  # type: ignore[arg-type]


def late() -> cs.Json:
	told = signed()
	return {**told, "record": told["record"].replace("Maths", "Music")}


@pytest.mark.parametrize(
	"told",
	[
		signed("66" * 32),
		signed("66" * 32, host_key=cs.HostRight(SECRET).public),
		signed(meeting="0b" * 16),
		signed(servers=[]),
		signed(epoch=0),
		{"record": signed()["record"], "signature": "00" * 64},
		{"record": "{}", "signature": cs.HostRight(SECRET).sign("{}")["signature"]},
		late(),
	],
)
def test_a_record_that_the_host_has_not_signed_for_now_and_here_is_refused(
	heirs: cs.Successors, told: cs.Json
) -> None:
	with pytest.raises(cs.PeerFault):
		heirs.take(told)
	assert not heirs.record and not heirs.lists(THERE)
	heirs.take(signed())
	with pytest.raises(cs.PeerFault):
		heirs.take(told)
	assert heirs.lists(THERE)


def test_an_older_record_does_not_come_back(heirs: cs.Successors) -> None:
	old, now = signed(), signed(n=90, servers=[server(HERE, "Ms Lee")])
	heirs.take(now)
	for told in (old, {**old}):
		with pytest.raises(cs.PeerFault):
			heirs.take(told)
	assert not heirs.lists(THERE)
	with pytest.raises(cs.PeerFault):
		heirs._on_moved({"server": server(THERE), "epoch": 9})


def test_a_later_record_counts_whatever_the_clocks_say(
	tmp_path: Path, heirs: cs.Successors, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""The host's clock is set in mid-lesson and between two lessons; whoever reads has another one."""
	me, right, numbers = Participant(), time.time(), list[int]()
	me.options.host_key = SECRET
	(home := tmp_path / "host").mkdir()
	own = cs.load_identity(home).fingerprint
	for n, ahead in enumerate((0.0, -4_000 * DAY, DAY, -DAY)):
		host = cs.Successors(me, home)  # type: ignore[arg-type]
		host._here = own
		for step in (0.0, -5.0):
			monkeypatch.setattr(time, "time", lambda at=right + ahead + step: at)
			me.state.update(meeting=f"{n:032x}")
			me.meeting = heirs.me.server.meeting = f"{n:032x}"
			host._on_sign({"servers": [server(own, "Ms Lee"), server(THERE)]})
			told = next(one for one in reversed(me.sent) if one["type"] == "record")
			for each, clock in ((host, right), (heirs, right + 9 * DAY)):
				monkeypatch.setattr(time, "time", lambda at=clock: at)
				each.take(told)
				assert each.lists(THERE)
			numbers.append(heirs.record["n"])
		heirs.record, me.sent = {}, []
	assert numbers == sorted({*numbers})


def test_who_was_not_in_believes_no_record_older_than_one_it_has_seen(
	heirs: cs.Successors, tmp_path: Path
) -> None:
	"""Who was a standby once could draw newcomers to itself with it; that one is of another lesson or not."""
	me, message = heirs.me, {"meeting": MEETING, "record": signed(n=5)}
	me.successors = heirs
	way = cs.ServerLink(me, tmp_path)
	way.link = cast(Any, SimpleNamespace(fingerprint=THERE))
	way._known.remember(HERE, "Maths", "Ms Lee", host_key=cs.HostRight(SECRET).public)
	way.tokens.close()
	assert way._stands_in(message)
	me.server.meeting = "0b" * 16
	heirs.take(signed(n=9, meeting="0b" * 16))
	assert not way._stands_in(message)
	for n, meeting in ((9, "0b" * 16), (10, MEETING)):
		assert way._stands_in({"meeting": meeting, "record": signed(n=n, meeting=meeting)})


def test_the_host_signs_for_another_computer_only_whom_she_has_named(tmp_path: Path) -> None:
	me = Participant()
	me.options.host_key = SECRET
	heirs = cs.Successors(me, tmp_path)  # type: ignore[arg-type]
	heirs.take(signed())
	me.sent.clear()
	for here, named, signs in (
		(THERE, [THERE], True),
		(THERE, [THERE, HERE], True),
		(THERE, [THERE, "33" * 32], False),
		(THERE, [HERE, THERE], False),
		(cs.load_identity(tmp_path).fingerprint, [cs.load_identity(tmp_path).fingerprint, "33" * 32], True),
	):
		heirs._here = here
		with contextlib.suppress(cs.PeerFault):
			heirs._on_sign({"servers": [server(one) for one in named]})
		assert bool(me.sent) == signs, (here, named)
		me.sent.clear()


def test_the_hosts_own_standby_is_asked_for_once_a_link(tmp_path: Path) -> None:
	"""It is signed anew whenever it is asked for: asked for by each record, it would never end."""
	me = Participant()
	me.options.host_key = SECRET
	me.state.update(role="host", me=1)
	heirs = cs.Successors(me, tmp_path)  # type: ignore[arg-type]
	heirs.serving = {"fingerprint": HERE}

	def asked() -> int:
		return sum(one["type"] == "hand_over" for one in me.sent)

	heirs.take(signed(n=60, servers=[server(HERE, "Ms Lee"), server(THERE)]))
	heirs.arrived({"epoch": 2, "role": "host"}, THERE)
	assert asked() == 0, "it is not ready yet"
	for number in range(61, 70):
		heirs.take(signed(n=number, servers=[server(THERE), server(HERE, "Ms Lee")]))
	assert asked() == 1
	heirs.arrived({"epoch": 2, "role": "host"}, THERE)
	assert asked() == 2, "what was said over another link may be lost"
	heirs.take(signed(n=70, servers=[server(THERE)]))
	heirs.take(signed(n=71, servers=[server(THERE), server(HERE, "Ms Lee")]))
	assert asked() == 3, "it was started again"
	heirs.arrived({"epoch": 3, "role": "host"}, HERE)
	assert asked() == 3, "she is there"


def test_each_is_tried_in_the_order_of_the_record(heirs: cs.Successors) -> None:
	heirs.take(signed(servers=[server(f"{n}{n}" * 32) for n in range(1, 5)]))
	options = heirs.options
	options.fingerprint = "22" * 32
	heirs.arrived({"epoch": 1, "role": "member"}, "22" * 32)
	heirs.aim(0.9)
	assert options.fingerprint == "22" * 32, "a second for the one that was lost"
	tried = []
	for _ in range(5):
		heirs.aim(1.1)
		tried.append(options.fingerprint[0])
	assert tried == ["3", "4", "1", "2", "3"]
	heirs._goal = server("44" * 32)
	heirs.aim(0.0)
	assert options.fingerprint == "44" * 32, "where the server has sent it"


def full_room() -> tuple[cs.Room, dict[str, str]]:
	"""A room with everything in it that is private, and the tokens of those in it at the standby THERE."""
	room = cs.Room("Maths", "Ms Lee", MEETING, secrets.token_hex)
	tokens, ids = {}, {}
	for name in ("Ms Lee", "Ana", "Ben", "Eve"):
		member, _, _ = room.join(
			name, "host" if name == "Ms Lee" else "member", f"10.0.0.{len(ids)}", None, 1.0
		)
		ids[name], tokens[name] = member.id, secrets.token_hex(32)
		digests = {THERE: cs.digest(tokens[name]), HERE: "77" * 32}
		room.handle(member.id, {"type": "claims", "digests": digests}, 1.0, 1.0)
	for who, message in (
		("Ana", {"type": "chat", "text": "for all"}),
		("Ana", {"type": "private_chat", "to_name": "Ben", "text": "for Ben alone"}),
		("Ms Lee", {"type": "cohost", "who": ids["Ben"], "on": True}),
		("Ms Lee", {"type": "permit", "what": "chat", "on": False}),
		("Ms Lee", {"type": "permit", "what": "chat", "on": True, "who": ids["Ana"]}),
		("Ms Lee", {"type": "door", "mode": "locked"}),
		("Ms Lee", {"type": "remove", "who": ids["Eve"]}),
		(
			"Ana",
			{"type": "file_offer", "name": "secret.pdf", "size": 9, "sha256": "88" * 32, "to_name": "Ben"},
		),
	):
		room.handle(ids[who], message, 2.0, 2.0)
	return room, tokens


def copied(room: cs.Room) -> cs.Json:
	state: cs.Json = {}
	for part, (_, records) in room.parts().items():
		for key in records:
			for name, value in room.copy(THERE, 3.0, part, key).items():
				state[name] = {**state.get(name, {}), **value} if isinstance(value, dict) else value
	return json.loads(json.dumps(state))


def inherited() -> tuple[cs.Room, dict[str, str], dict[str, int]]:
	"""The room of the standby after it has taken over."""
	before, tokens = full_room()
	room = cs.Room("Maths", "Ms Lee", "ff" * 16, secrets.token_hex)
	room.inherit(copied(before), 2, "Ana", 4.0, 4.0)
	return room, tokens, {one.name: one.id for one in before.members.values()}


def test_a_standby_holds_nothing_private() -> None:
	room, tokens = full_room()
	text = json.dumps(copied(room))
	assert "for all" in text
	server_tokens = [token for claim in room.names.people.values() for token in claim.tokens]
	for private in ("for Ben alone", "secret.pdf", "77" * 32, *tokens.values(), *server_tokens):
		assert private not in text
	kept = {
		part: set(next(iter(entries.values()))) for part, entries in copied(room).items() if part == "people"
	}
	told = {
		key
		for key, value in next(iter(copied(room)["people"].values())).items()
		if value not in (0, [], {}, False, "")
	}
	assert kept and told <= {
		"person",
		"name",
		"address",
		"exempt",
		"removed",
		"until",
		"passed",
		"tokens",
		"vote",
		"room",
	}


def test_what_is_kept_for_a_time_is_kept_as_long_at_a_standby() -> None:
	"""By when it was told: its own clocks count from elsewhere."""
	before, tokens = full_room()
	ben = next(one for one in before.members.values() if one.name == "Ben")
	before.leave(ben.id, "lost", 2.0)
	room = cs.Room("Maths", "Ms Lee", "ff" * 16, secrets.token_hex)
	room.inherit(copied(before), 2, "Ana", 9_010.0, 9_000.0)
	assert room.lasted(9_010.0) == 3.0 + 10.0
	left = 9_000.0 - 1.0 + cs.RESUME_SECONDS
	assert [room.names.claim(tokens["Ben"], at)[1] for at in (left - 0.5, left + 0.5)] == [True, False]


def test_who_comes_to_a_standby_is_who_it_was_and_nobody_leads() -> None:
	room, tokens, ids = inherited()
	for name in ("Ana", "Ben"):
		member, _, _ = room.join("anything", "member", "10.0.0.9", tokens[name], 5.0)
		assert (member.name, member.id, member.role) == (name, ids[name], "member")
	stranger, _, _ = room.join("Ana", "member", "10.0.0.8", None, 5.0)
	assert (stranger.name, stranger.id) == ("Ana (2)", (1 << cs.ID_SHIFT) + 1)
	assert room.names.barred("10.0.0.3", tokens["Eve"]) == "removed"
	assert room.classroom.set.door == "locked"
	assert room.classroom.may(next(one for one in room.members.values() if one.name == "Ana"), "chat")
	assert not room.classroom.may(stranger, "chat")


def test_what_the_class_saw_is_as_it_was_at_a_standby() -> None:
	"""All that hosts set, but for what only they know; and what each had said to it, also who was away."""
	before, tokens = full_room()
	ids = {one.name: one.id for one in before.members.values()}
	for who, message in (
		("Ms Lee", {"type": "question", "question": "Which?", "answers": ["a", "b"]}),
		("Ana", {"type": "answer", "index": 1}), ("Ben", {"type": "answer", "index": 1}),
		("Ms Lee", {"type": "timer", "seconds": 60}), ("Ms Lee", {"type": "collect", "title": "Sums"}),
		("Ms Lee", {"type": "spotlight", "who": ids["Ana"]}), ("Ms Lee", {"type": "word", "who": ids["Ben"]}),
		("Ms Lee", {"type": "one_room", "on": True}), ("Ana", {"type": "room", "same": 0}),
		("Ms Lee", {"type": "new_pin"}),
		("Ana", {"type": "hand", "up": True}), ("Ben", {"type": "hand", "up": True}),
		("Ms Lee", {"type": "file_offer", "name": "s.pdf", "size": 9, "sha256": "88" * 32, "kind": "sheet"}),
	):  # fmt: skip
		before.handle(ids[who], message, 2.0, 2.0)
	sheet = [*before.shelf.offers][-1]
	before.shelf.file_whole(sheet)
	before.shelf.file_saved(sheet, ids["Ana"])
	hands = [one.hand for one in before.members.values() if one.name in ("Ana", "Ben")]
	before.leave(ids["Ben"], "lost", 2.5)
	room = cs.Room("Maths", "Ms Lee", "ff" * 16, secrets.token_hex)
	room.inherit(copied(before), 2, "Ana", 4.0, 4.0)
	here = [room.join(name, "member", "10.0.0.9", tokens[name], 5.0)[0] for name in ("Ana", "Ben")]
	assert [one.hand for one in here] == hands and all(hands)
	set_before, now = before.classroom.set.message(kept=True), room.classroom.set.message(kept=True)
	assert {key for key in now if now[key] != set_before[key]} == {"pin"}
	told = {one["type"]: one for one in room.classroom.greeting(here[0], 5.0)}
	assert (told["question"]["question"], told["question"]["own"]) == ("Which?", 1)
	assert told["timer"]["left"] == 60 - 2.0
	assert {one.person: one.room for one in room.names.people.values()}[here[0].person] == 0
	offer = room.shelf.offers[sheet]
	assert offer.saved == [here[0].person]
	room.shelf.file_whole(sheet)  # sent anew, it is taken by whoever had not
	assert [len(room.shelf.due(one.person)) for one in here] == [0, 1]


STEPS: list[tuple[str, cs.Json]] = [
	*(("permit", {"what": what, "on": False}) for what in cs.PERMITS),
	("door", {"mode": "knock"}), ("door", {"mode": "open"}), ("word", {"who": 2}), ("spotlight", {"who": 3}),
	("question", {"question": "Which?", "answers": ["a", "b"]}), ("collect", {"title": "Sheet 3"}),
	("one_room", {"on": True}), ("timer", {"seconds": 60}), ("cohost", {"who": 2, "on": True}),
]  # fmt: skip


def contents(room: cs.Room) -> str:
	"""All that a room would keep."""
	parts = {
		part: {str(key): one.message(kept=True) for key, one in records.items() if one}
		for part, (_, records) in room.parts().items()
	}
	return json.dumps(parts, sort_keys=True, default=str)


@settings(max_examples=600, deadline=None)
@given(
	st.sampled_from(sorted({*cs.CLIENT_MESSAGES} & {*wire_examples.CLIENT})),
	st.sampled_from(["Ana", "Ben", "Zoe"]),
	st.sampled_from(["Ana", "Ben", "Zoe"]),
	st.lists(st.sampled_from(STEPS), max_size=6),
	st.booleans(),
)
def test_no_message_of_anybody_leads_where_the_host_has_not_signed(
	kind: str, name: str, about: str, steps: list[tuple[str, cs.Json]], shares: bool
) -> None:
	"""Who was a member, a co-host or a stranger, in any state in which the class was left."""
	before, tokens = full_room()
	lee = next(one.id for one in before.members.values() if one.name == "Ms Lee")
	for do, fields in steps:
		before.handle(lee, {"type": do, **fields}, 2.5, 2.5)
	room = cs.Room("Maths", "Ms Lee", "ff" * 16, secrets.token_hex)
	room.inherit(copied(before), 2, "Ana", 4.0, 4.0)
	here = {
		who: room.join(who, "member", "10.0.0.9", tokens.get(who), 5.0)[0] for who in ("Ana", "Ben", "Zoe")
	}
	assert {one.role for one in room.members.values()} == {"member"}
	with contextlib.suppress(cs.Refused):
		room.planes.share_start(here["Ana"].id if shares else 0)
	message = {"type": kind, **wire_examples.CLIENT[kind], "ref": 1}
	message |= {key: here[about].id for key in ("who", "to") if type(message.get(key)) is int}
	message |= {"to_name": about} if "to_name" in message else {}
	effects, kept = list[cs.Effect](), contents(room)
	with contextlib.suppress(cs.PeerFault):
		effects = room.handle(here[name].id, message, 6.0, 6.0)
	assert {one.role for one in room.members.values()} <= {"member"}
	told = [effect for effect in effects if isinstance(effect, cs.Tell) and effect.to]
	if kind in cs.HOST_ONLY:
		assert [one.message for one in told] == [{"type": "error", "code": "not_allowed", "ref": 1}]
		assert contents(room) == kept and {*room.members} == {one.id for one in here.values()}
	if kind == "private_chat":
		assert {who for one in told for who in one.to} <= {here[name].id, here[about].id}


@given(
	st.lists(
		st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 3)), min_size=2, max_size=4, unique=True
	)
)
def test_of_several_that_serve_one_remains(found: list[tuple[bool, int, int]]) -> None:
	"""Each compares itself with all others it reaches, and yields to a better one: one yields to nobody."""
	places = {f"{n}{n}" * 32: place for n, (_, _, place) in enumerate(found)}
	one = object.__new__(cs.Succession)
	one._place_of = lambda server: places[server["fingerprint"]]  # type: ignore[method-assign]
	ranks = [
		one._rank({"fingerprint": key}, {"hosted": hosted, "epoch": epoch})
		for key, (hosted, epoch, _) in zip(places, found, strict=True)
	]
	assert sum(rank == max(ranks) for rank in ranks) == 1


def test_a_port_without_its_planes_is_no_server() -> None:
	"""One volunteer whose ports leave the range would end the asking of all others."""
	for port in (0, 1, 63_535, 63_536, 65_535):
		fits = not port or port + 2_000 <= 65_535
		told = {"type": "standing_by", "fingerprint": HERE, "port": port, "rank": 0}
		with contextlib.nullcontext() if fits else pytest.raises(cs.PeerFault):
			cs.check_message(told, cs.CLIENT_MESSAGES)


def successor(room: cs.Room) -> tuple[cs.Succession, list[tuple[str, cs.Json]]]:
	"""What a server has of it, and what it tells each member by name."""
	one, told = object.__new__(cs.Succession), []

	def apply(effects: cs.Effects) -> None:
		for effect in effects:
			if isinstance(effect, cs.Tell):
				cs.encode_line(effect.message)
				told.extend((room.members[ident].name, effect.message) for ident in effect.to)

	place = {"fingerprint": HERE, "address": "10.0.0.1", "port": 9000}
	one._server = cast(Any, SimpleNamespace(apply=apply, place=lambda: place))
	one._room, one.serving, one._wanted = room, True, None
	one.record, one._volunteers, one._chosen = {}, {}, []
	return one, told


def test_a_change_of_many_is_copied_however_long_it_is() -> None:
	"""Or the standby's copy, too long for one line, keeps everyone else from hearing of the change."""
	room = cs.Room("Maths", "Ms Lee", MEETING, secrets.token_hex)
	members = [room.join(f"Ann {n}", "member", f"10.0.0.{n}", None, 1.0)[0] for n in range(cs.MAX_PEOPLE)]
	for member in members:
		room.handle(member.id, {"type": "claims", "digests": {THERE: "77" * 32}}, 1.0, 1.0)
	one, told = successor(room)
	one._volunteers[1] = cs.Volunteer(members[0], server(THERE), 0, "ready")
	one.copy([cs.Keep("people", [member.person for member in members])])
	copied = [key for _, message in told for key in message["state"].get("people", ())]
	assert sorted(map(int, copied)) == sorted(member.person for member in members)


def test_a_volunteer_is_told_by_the_name_that_it_has_now() -> None:
	room = full_room()[0]
	ids = {one.name: one.id for one in room.members.values()}
	one, told = successor(room)
	standing = {"type": "standing_by", "fingerprint": THERE, "port": 9000, "rank": 0}
	one.on_message(room.members[ids["Ana"]], standing)
	room.handle(ids["Ms Lee"], {"type": "rename", "who": ids["Ana"], "name": "Zoe"}, 9.0, 9.0)
	one._became(one._volunteers[ids["Ana"]], "unreachable")
	assert [message["name"] for _, message in told if message["type"] == "stand_by"] == ["Zoe", "Zoe"]


@pytest.mark.parametrize(
	("where", "fault"), [("live", "record"), ("live", "closed"), ("live", "moved"), ("reconnecting", "moved")]
)
def test_who_comes_in_vain_again_and_again_waits(
	where: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""Whatever a server does once one is in, or says in place of a welcome: for a few times, then hardly."""
	now, pauses = 1_000.0, list[float]()
	monkeypatch.setattr(cs, "monotonic", lambda: now)
	me = cs.MeetingController(cs.ClientOptions(), tmp_path)
	monkeypatch.setattr(me.loop, "later", lambda pause, _: pauses.append(pause))
	me.successors.record = {"servers": []}

	def lose(stayed: float = 0.01) -> float:
		nonlocal now
		if where == "live":
			me.state.become("live")
			me.server.came, me.server.tries = now, 0
		now += stayed
		me.server._on_closed(cs.Refused("moved") if fault == "moved" else cs.Refused("", cs.Words(fault)))
		now += pauses[-1]
		return pauses[-1]

	with contextlib.closing(me):
		me.state.become("live")
		me.state.become("reconnecting")
		me.server.lost_at = now
		assert max(lose() for _ in range(3)) <= 0.25, "who serves meanwhile is found at once"
		while now < 1_000.0 + cs.ServerLink.RETRY_SECONDS - 10.0:
			lose()
		assert len(pauses) < 90 and pauses[-1] == 8.0
		assert sum(pause < 1.0 for pause in pauses) <= 4
		if where == "live":
			assert lose(2 * cs.ServerLink.STEADY) <= 0.25, "who has stayed has not come in vain"


def test_a_line_of_another_server_is_of_who_was_there_alone() -> None:
	"""Who may stand by, and does not serve, says what others have said: not of those who know better."""
	room = full_room()[0]
	one, told = successor(room)
	by_name = {member.name: member for member in room.members.values()}
	now = cs.monotonic()
	heard = {"Ms Lee": now, "Ana": now, "Ben": now - 60.0}  # whose link is dead
	one._server.sessions = {
		member.id: cast(Any, SimpleNamespace(hello={"epoch": 2} if name == "Ana" else {}, heard=heard[name]))
		for name, member in by_name.items()
	}
	ana = by_name["Ana"]
	one._volunteers[ana.id] = cs.Volunteer(ana, server(THERE), 0, "ready")
	senders = {"Ana": 2, "Ben": 2, "Zoe": 2, "Ms Lee": 0, "MS LÉE": 0, "Мs Lee": 0}
	for n, sender in enumerate(senders):
		for epoch in (2, 3):
			number = ((epoch - 1) << cs.LINE_SHIFT) + n
			line = {
				"type": "line",
				"n": number,
				"id": 9,
				"from": sender,
				"text": f"{sender} {epoch}",
				"at": 1.0,
			}
			one.on_message(ana, line)
	said = {message["text"] for _, message in told if message["type"] == "chat"}
	assert said == {"Ana 2", "Ben 2", "Ben 3", "Zoe 2", "Zoe 3"}


# -- real lessons ----------------------------------------------------------------------------------------


def memory_of(pid: int) -> bytes:
	"""What a process has written to its memory."""
	found = bytearray()
	with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
		for line in maps:
			where, kind = line.split()[:2]
			if kind.startswith("rw"):
				first, last = (int(part, 16) for part in where.split("-"))
				with contextlib.suppress(OSError, OverflowError, ValueError):
					memory.seek(first)
					found += memory.read(last - first)
	return bytes(found)


def standby_of(one: Headless) -> int:
	"""The process id of the server that waits, or serves, on somebody's computer."""
	children = Path(f"/proc/{one.process.pid}/task/{one.process.pid}/children")
	below = [one.process.pid]
	for task in Path(f"/proc/{one.process.pid}/task").iterdir():
		below += map(int, (task / "children").read_text().split())
	assert children.exists()
	return next(pid for pid in below if b"--serve-child" in Path(f"/proc/{pid}/cmdline").read_bytes())


def moved(each: Headless, epoch: int, to: str, since: float) -> float:
	"""Seconds from then until somebody was in the meeting again, at that computer."""
	back = each.wait("reconnected", 20, epoch=epoch)
	assert back["served_by"] == to
	return float(back["time"] - since)


@needs_lan
def test_the_lesson_outlives_its_host_and_its_first_standby_and_comes_back(
	lesson: Callable[..., Class], tmp_path: Path
) -> None:
	one, heard = lesson(5, "--pin", "4711"), tmp_path / "heard.wav"
	ana, ben = one.standby(2, "Ana"), one.standby(3, "Ben", "--mic", "tone")
	cem = one.pupil(4, "Cem", "--speaker", str(heard), "--camera", "pattern")
	dan = one.pupil(5, "Dan")
	class_ = (ana, ben, cem, dan)
	for each in class_:
		each.wait("succession", 20, names=["Ana", "Ben"])
	switch(ben, "mic", True)
	dan.send(do="share", on=True, source="pattern")
	cem.wait("screen_start", name="Dan")
	one.teacher.send(do="permit", what="react", on=False)
	cem.send(do="chat", text="said before")
	dan.send(do="private", to="Cem", text="for Cem alone")
	cem.wait("private", text="for Cem alone")
	dan.wait("chat", text="said before")
	ids, joined = people(cem), cem.seen("joined")[0]["time"]
	time.sleep(0.5)
	assert b"for Cem alone" not in memory_of(standby_of(ana))
	memory = memory_of(standby_of(ana))
	assert b"said before" in memory
	kept = [path for each in (one.teacher, *class_) for path in each.home.glob("resume/*.json")]
	roots = [json.loads(path.read_text())[cs.ROOT_KEY] for path in kept]
	seed = cs.load_host_key(one.teacher.home / "host.key")
	assert len(roots) == 5 and cs.HostRight(seed).public.encode() in memory
	for secret in (*roots, seed):
		assert secret.encode() not in memory and bytes.fromhex(secret) not in memory

	died = first = one.kill_host()
	for each in class_:
		took = moved(each, 2, "Ana", died)
		print(f"{each.args[1]} was in again after {took:.2f} s")
		assert took < WITHIN * SPARE
		each.wait("moved", name="Ana", epoch=2)
	cem.wait("screen_start", name="Dan")
	wait_until(lambda: len(people(cem)) == 4)
	assert people(cem) == {name: n for name, n in ids.items() if name != "Ms Lee"}
	cem.send(do="react", emoji="🎉", ref="r")
	assert cem.wait("error", ref="r")["code"] == "not_permitted", "locks stay as they were set"
	for n, command in enumerate(
		({"do": "mute", "who": "all"}, {"do": "end"}, {"do": "door", "mode": "open"})
	):
		ana.send(**command, ref=n)
		assert ana.wait("error", ref=n)["code"] == "not_allowed", "nobody is master"
	cem.send(do="chat", text="said without her")
	dan.wait("chat", text="said without her")
	until = time.time()

	time.sleep(1.0)  # the next standby has its copy
	wait_until(lambda: ben.seen("succession", names=["Ana", "Ben"]))
	died = time.time()
	for pid in (standby_of(ana), ana.process.pid):
		os.kill(pid, signal.SIGKILL)
	for each in (ben, cem, dan):
		took = moved(each, 4, "Ben", died)
		print(f"{each.args[1]} was in again after {took:.2f} s")
		assert took < WITHIN * SPARE
	wait_until(
		lambda: longest_silence(heard, time.time() - joined - 1.0, time.time() - joined - 0.3) < 0.3, 5
	)
	silence = longest_silence(heard, first - joined - 0.5, until - joined)
	print(f"silence at the first takeover {silence:.2f} s")
	assert silence < WITHIN * SPARE

	start = time.time()
	again = one.start(1, "Ms Lee", "--host")
	back = again.wait("joined", timeout=40)
	assert (back["role"], back["epoch"], back["served_by"]) == ("host", 4, "Ben")
	assert back["meeting"] == one.first["meeting"]
	print(f"the host was back after {back['time'] - start:.1f} s")
	again.wait("chat", text="said without her", history=True)
	texts = [event["text"] for event in again.seen("chat")]
	assert texts == ["said before", "said without her"]
	again.send(do="hand_over", to="Ms Lee", rights=False)
	began = time.time()
	for each in (ben, cem, dan):
		took = moved(each, 5, "Ms Lee", began)
		print(f"{each.args[1]} was at hers again after {took:.2f} s")
	for each in (ben, cem, dan):
		wait_until(lambda: people(each).keys() == {"Ben", "Cem", "Dan", "Ms Lee"})  # noqa: B023
	for each in (ben, cem, dan):
		lines = [event["text"] for event in each.seen("chat")]
		assert lines == ["said before", "said without her"]
	assert not again.seen("error")
	again.hang_up()
	for each in (ben, cem, dan):
		assert each.wait("ended", 20)["reason"] == "The host ended the meeting."


@needs_lan
def test_a_class_that_was_split_is_one_again_and_no_line_is_lost_or_twice(
	lesson: Callable[..., Class],
) -> None:
	"""Ana's half goes on at her computer; the host's half stays where the host is."""
	one = lesson(4)
	ana, ben, cem = one.standby(2, "Ana"), one.pupil(3, "Ben"), one.pupil(4, "Cem")
	ben.wait("succession", 20, names=["Ana"])
	ben.send(do="chat", text="all of us")
	cem.wait("chat", text="all of us")
	halves = ((2, (1, 4)), (3, (1, 4)))
	for at, others in halves:
		far = ", ".join(one.lan.address(other) for other in others)
		one.lan.rules(at, "split", f"type filter hook input priority 0; ip saddr {{ {far} }} drop;")
	cut = time.time()
	for each in (ana, ben):
		took = moved(each, 2, "Ana", cut)
		print(f"{each.args[1]} was in again {took:.2f} s after the cable was pulled")
		assert took < 7 * SPARE
	ben.send(do="chat", text="here")
	ana.wait("chat", text="here")
	cem.send(do="chat", text="there")
	one.teacher.wait("chat", text="there")
	for at, _ in halves:
		one.lan.run(at, "nft", "delete table ip split")
	mended = time.time()
	for each in (ana, ben):
		took = moved(each, 1, "Ms Lee", mended)
		print(f"{each.args[1]} was one with the others {took:.2f} s after mending")
		assert took < 5 * SPARE
	wait_until(lambda: len(people(one.teacher)) == 4)
	said = {"all of us", "here", "there"}
	for each in (one.teacher, ana, ben, cem):
		wait_until(lambda: {event["text"] for event in each.seen("chat")} == said, 10)  # noqa: B023
		assert len(each.seen("chat")) == 3
	assert not cem.seen("reconnecting")
	assert not one.teacher.seen("reconnecting")


def standing_by(one: Headless) -> bool:
	"""Whether a server waits on somebody's computer."""
	with contextlib.suppress(StopIteration):
		return bool(standby_of(one))
	return False


def test_nobody_serves_unasked_and_a_yes_is_remembered(meeting: Starts) -> None:
	ana, base = host(meeting, name="Ms Lee")
	ben, cem = join(meeting, base, "Ben"), join(meeting, base, "Cem", "--standby", "no")
	ana.send(do="stand_by", who="Cem", ref=1)
	assert ana.wait("stand_by", ref=1)["state"] == "asked"
	ana.wait("stand_by", name="Cem", state="refused")
	ana.send(do="stand_by", who="Ben")
	assert ben.wait("asked", to="stand_by")["by"] == "Ms Lee"
	assert not standing_by(ben) and not standing_by(cem)
	ben.send(do="agree", to="stand_by", yes=True, ref=2)
	ben.wait("ok", ref=2)
	ana.wait("stand_by", 20, name="Ben", state="ready")
	cem.wait("succession", names=["Ben"])
	ben.close()
	cem.wait("succession", names=[])
	ben = join(meeting, base, "Ben", home=ben.home)
	ana.wait("stand_by", 20, name="Ben", state="ready")
	ben.send(do="agree", to="stand_by", yes=False)
	cem.wait("succession", names=["Ben"])
	cem.wait("succession", names=[])
	wait_until(lambda: not standing_by(ben))


def taken_over(one: Headless, epoch: int, by: str) -> None:
	"""Wait until somebody is in at that server."""
	assert one.wait("reconnected", 20, epoch=epoch)["served_by"] == by


def roles(one: Headless) -> dict[str, str]:
	"""Who is what, as `one` knows it."""
	one.send(do="users", ref=(ref := secrets.token_hex(4)))
	return {user["name"]: user["role"] for user in one.wait("users", ref=ref)["users"]}


def test_rights_are_given_away_and_end_when_the_host_comes(meeting: Starts) -> None:
	lee, base = host(meeting, name="Ms Lee")
	ben = join(meeting, base, "Ben", "--standby", "yes")
	lee.wait("stand_by", 20, name="Ben", state="ready")
	cem, class_ = join(meeting, base, "Cem"), (lee, ben)
	cem.wait("succession", names=["Ben"])
	cem.send(do="hand_over", to="Ben", rights=True, ref=1)
	assert cem.wait("error", ref=1)["code"] == "not_allowed"
	ben.send(do="rename", name="Benjamin")
	lee.wait("state", name="Benjamin")
	lee.send(do="hand_over", to="Benjamin", rights=True, ref=2)
	lee.wait("ok", ref=2)
	for each in (*class_, cem):
		taken_over(each, 2, "Ben")
	for each in (*class_, cem):
		wait_until(lambda: roles(each) == {"Ms Lee": "member", "Benjamin": "host", "Cem": "member"})  # noqa: B023
	for n, who in enumerate((lee, cem)):
		who.send(do="door", mode="locked", ref=n)
		assert who.wait("error", ref=n)["code"] == "not_allowed"
	ben.send(do="hand_over", to="Cem", rights=True, ref=3)
	assert ben.wait("error", ref=3)["code"] in ("not_allowed", "no_such_person")
	ben.send(do="permit", what="react", on=False, ref=4)
	ben.wait("permissions", ref=4)

	lee.process.kill()
	again = meeting("--host", "--name", "Ms Lee", *SILENT, home=lee.home)
	assert again.wait("joined", timeout=40)["role"] == "host"
	for each in (again, ben, cem):
		wait_until(lambda: roles(each) == {"Ms Lee": "host", "Benjamin": "member", "Cem": "member"})  # noqa: B023
	ben.send(do="door", mode="open", ref=5)
	assert ben.wait("error", ref=5)["code"] == "not_allowed"
	again.send(do="door", mode="knock", ref=6)
	again.wait("door", mode="knock", ref=6)


def test_who_knocks_while_the_lesson_moves_is_told_so(meeting: Starts) -> None:
	"""Nobody who could let it in is left at the server where it waits."""
	lee, base = host(meeting, name="Ms Lee")
	ben = join(meeting, base, "Ben", "--standby", "yes")
	lee.wait("stand_by", 20, name="Ben", state="ready")
	ben.wait("succession", names=["Ben"])
	lee.send(do="door", mode="knock")
	cleo = enter(meeting, base, "Cleo")
	lee.wait("knock", name="Cleo")
	lee.send(do="hand_over", to="Ben", rights=False)
	for each in (lee, ben):
		taken_over(each, 2, "Ben")
	assert cleo.wait("denied", 20)["code"] == "moved"


def test_files_and_words_to_the_host_outlive_her_server(meeting: Starts, tmp_path: Path) -> None:
	lee, base = host(meeting, "--orphan-seconds", "900", name="Ms Lee")
	ben = join(meeting, base, "Ben", "--standby", "yes")
	lee.wait("stand_by", 20, name="Ben", state="ready")
	cem, dan = join(meeting, base, "Cem"), join(meeting, base, "Dan", "--downloads", str(tmp_path / "got"))
	cem.wait("join", name="Dan")
	kept, lost, alone = (tmp_path / name for name in ("kept.txt", "lost.txt", "alone.txt"))
	for path in (kept, lost, alone):
		path.write_text(path.name)
		cem.send(do="upload", path=str(path), **({"to": "Dan"} if path is alone else {}))
	files = {one.name: dan.wait("file_offer", name=one.name)["file"] for one in (kept, lost, alone)}
	dan.wait("succession", names=["Ben"])
	time.sleep(0.5)
	lost.unlink()
	server = cs.RunningMeeting(lee.home).read()["pid"]
	for pid in (lee.process.pid, server):
		os.kill(pid, signal.SIGKILL)
	for each in (ben, cem, dan):
		taken_over(each, 2, "Ben")
	cem.wait("uploaded", name="kept.txt")
	cem.wait("uploaded", name="kept.txt")
	assert dan.wait("file_failed", file=files["lost.txt"])["code"] == "no_such_file"
	dan.send(do="download", file=files["kept.txt"])
	assert Path(dan.wait("file_saved", file=files["kept.txt"])["path"]).read_text() == "kept.txt"
	anew = dan.wait("file_offer", name="alone.txt")["file"]
	assert anew != files["alone.txt"] and not ben.seen("file_offer", name="alone.txt")

	cem.send(do="private", to="Ms Lee", text="I am at home", ref=1)
	assert cem.wait("private_waits", host="Ms Lee")["text"] == "I am at home"
	cem.send(do="private", to="Nobody", text="who?", ref=2)
	assert cem.wait("error", ref=2)["code"] == "no_such_person"
	assert b"I am at home" not in memory_of(standby_of(ben))
	# longer than a newcomer has to say who it is: all had said so before it was known who serves
	time.sleep(max(0.0, dan.seen("reconnected")[0]["time"] + cs.HANDSHAKE_SECONDS + 0.5 - time.time()))
	assert all(len(each.seen("reconnecting")) == 1 for each in (ben, cem, dan))
	again = meeting("--host", "--name", "Ms Lee", *SILENT, home=lee.home)
	assert again.wait("joined", timeout=40)["role"] == "host"
	assert again.wait("private", text="I am at home")["from"] == "Cem"
	cem.wait("private", text="I am at home", ref=1)
	assert not dan.seen("private") and not ben.seen("private")


# -- a standby that is not what it says --------------------------------------------------------------------

PIN = "4711"
FALSE = (sys.executable, str(Path(__file__).with_name("false_standby.py")))


def false_standby(meeting: Starts, base: int, lies: str, seen: Path) -> Headless:
	"""Ana, who has joined, and whose standby keeps all it is told in `seen`, and lies."""
	env = {"FALSE_STANDBY": f"{seen} {lies}"}
	return join(meeting, base, "Ana", "--pin", PIN, "--standby", "yes", program=FALSE, env=env)


def noted(seen: Path) -> list[cs.Json]:
	return [json.loads(line) for line in seen.read_text(encoding="utf-8").splitlines()]


def server_named(seen: Path, name: str) -> cs.Json:
	"""Where the newest record that Ana was told says that somebody serves."""
	told = [one.get("order", one.get("heard", {})) for one in noted(seen)]
	record = json.loads([one["record"] for one in told if isinstance(one.get("record"), str)][-1])
	return dict(next(one for one in record["servers"] if one["name"] == name))


def taught(meeting: Starts) -> tuple[Headless, int]:
	"""A teacher whose lesson has a PIN and outlives her window, and the base port."""
	return host(meeting, "--pin", PIN, "--orphan-seconds", "900", name="Ms Lee")


def kill_host(lee: Headless) -> None:
	"""Her window and her server are gone at once."""
	for pid in (lee.process.pid, cs.RunningMeeting(lee.home).read()["pid"]):
		os.kill(pid, signal.SIGKILL)


def known(one: Headless) -> dict[str, cs.Json]:
	"""The hosts that somebody's computer remembers, but for when it saw them."""
	kept = {path.name: json.loads(path.read_text()) for path in (one.home / "known_hosts").glob("*.json")}
	return {name: {**fields, "last_seen": 0} for name, fields in kept.items()}


def test_a_false_standby_that_serves_gets_nobodys_right_claim_or_private_line(
	meeting: Starts, tmp_path: Path
) -> None:
	"""It says that it is the host, and shows another's record; what it learned opens nothing elsewhere."""
	lee, base = taught(meeting)
	seen = tmp_path / "seen.txt"
	ana = false_standby(meeting, base, "host record", seen)
	lee.wait("stand_by", 20, name="Ana", state="ready")
	cem, dan, gus = (join(meeting, base, name, "--pin", PIN) for name in ("Cem", "Dan", "Gus"))
	for each in (ana, cem, dan, gus):
		each.wait("succession", names=["Ana"])
	gus.hang_up()
	cem.send(do="chat", text="said before")
	cem.send(do="private", to="Dan", text="for Dan alone")
	dan.wait("private", text="for Dan alone")
	ids = people(cem)
	time.sleep(0.5)
	kept = [path for each in (lee, cem, dan) for path in each.home.glob("resume/*.json")]
	roots = [json.loads(path.read_text())[cs.ROOT_KEY] for path in kept]
	memory, logged = memory_of(standby_of(ana)), seen.read_text(encoding="utf-8")
	assert len(roots) == 3 and "said before" in logged and b"said before" in memory
	for secret in (*roots, cs.load_host_key(lee.home / "host.key"), "for Dan alone"):
		assert secret not in logged and secret.encode() not in memory

	kill_host(lee)
	for each in (cem, dan):
		taken_over(each, 2, "Ana")
		wait_until(lambda: set(roles(each)) >= {"Ana", "Cem", "Dan"})  # noqa: B023
		assert {*roles(each).values()} == {"member"}, "who is host has signed"
	before, there = known(gus), server_named(seen, "Ana")
	back = enter(meeting, there["port"], "Gus", "--pin", PIN, home=gus.home)
	assert back.wait("denied", 30)["code"] == "host_changed", "another's record is refused"
	assert known(gus) == before
	heard = [one["heard"] for one in noted(seen) if one.get("by") == "server"]
	stolen = {one["name"]: one["resume"] for one in heard if one["type"] == "hello"}
	assert {"Cem", "Dan"} <= {*stolen} and f'"{PIN}"' not in json.dumps(heard)

	again = meeting("--host", "--name", "Ms Lee", *SILENT, home=lee.home)
	assert again.wait("joined", timeout=40)["role"] == "host"
	again.send(do="hand_over", to="Ms Lee", rights=False)
	for each in (cem, dan):
		taken_over(each, 3, "Ms Lee")
	assert len(again.seen("reconnecting")) <= 1, "she has her own record, whatever she is shown"
	port = server_named(seen, "Ms Lee")["port"]
	for name in ("Cem", "Dan"):
		with tls(port) as link, contextlib.closing(Member(link, port)) as thief:
			try_in = partial(thief.enter, resume=stolen[name], name=name)
			with pytest.raises(ConnectionError):
				try_in()
		with tls(port) as link, contextlib.closing(Member(link, port)) as thief:
			thief.enter(pin=PIN, resume=stolen[name], name=name)
			assert thief.welcome["id"] not in ids.values() and thief.welcome["name"] == f"{name} (2)"
			assert not thief.welcome["private"]


def test_a_false_standby_draws_nobody_from_the_host(meeting: Starts, tmp_path: Path) -> None:
	"""It says that it serves, has the host and a high epoch, and that the host may send all to it."""
	lee, base = taught(meeting)
	ana = false_standby(meeting, base, "epoch host", tmp_path / "seen.txt")
	cem = join(meeting, base, "Cem", "--pin", PIN)
	cem.wait("succession", 20, names=["Ana"])
	time.sleep(2 * cs.LOOK_EVERY + 0.5)
	for each in (lee, ana, cem):
		assert not each.seen("reconnecting") and not each.seen("moved")
		assert roles(each) == {"Ms Lee": "host", "Ana": "member", "Cem": "member"}


def test_a_standby_that_sees_the_host_for_ever_keeps_all_waiting_for_her(
	meeting: Starts, tmp_path: Path
) -> None:
	lee, base = taught(meeting)
	ana = false_standby(meeting, base, "alive", tmp_path / "seen.txt")
	lee.wait("stand_by", 20, name="Ana", state="ready")
	cem = join(meeting, base, "Cem", "--pin", PIN)
	cem.wait("succession", names=["Ana"])
	cem.send(do="chat", text="said before", ref=1)
	cem.wait("chat", ref=1)
	kill_host(lee)
	assert cem.wait("reconnecting", 20, code="host_alive"), "others reach her, it is told"
	assert not cem.seen("reconnected") and not ana.seen("reconnected")
	again, _ = host(meeting, "--pin", PIN, name="Ms Lee", base=base, home=lee.home)
	for each in (ana, cem):
		assert each.wait("reconnected", 20)["served_by"] == "Ms Lee"
	again.wait("chat", text="said before", history=True)
	assert roles(cem) == {"Ms Lee": "host", "Ana": "member", "Cem": "member"}


# -- who comes while a standby serves ------------------------------------------------------------------------


@needs_lan
def test_who_comes_while_a_standby_serves_is_in_and_remembers_no_standby(
	lesson: Callable[..., Class],
) -> None:
	"""A restarted pupil, one who was here before, and a newcomer: found by looking, without a warning.

	No two of their computers have the same clock: the host's battery is dead, the standby's is a day ahead.
	"""
	one = lesson(5, "--pin", PIN, ahead={1: -4_000 * DAY, 2: DAY, 3: -DAY, 4: -8 * 3_600})
	ana = one.standby(2, "Ana")
	ben, dan = one.pupil(3, "Ben"), one.pupil(4, "Dan")
	for each in (ben, dan):
		each.wait("succession", 20, names=["Ana"])
		each.send(do="chat", text=each.args[1])
		ana.wait("chat", text=each.args[1])  # behind what she gets to know of who that is
	kept = {"Ben": known(ben), "Dan": known(dan), "Eva": {}, "Fay": {}}
	assert all(len(kept[name]) == 1 for name in ("Ben", "Dan"))
	dan.hang_up()
	ben.send(do="chat", text="said before", ref=1)
	ben.wait("chat", ref=1)
	moved(ben, 2, "Ana", one.kill_host())
	ben.process.kill()
	here = [one.start(at, name, *one.pin) for at, name in ((3, "Ben"), (4, "Dan"), (5, "Eva"))]
	here.append(one.start(5, "Fay", "--join", one.lan.address(2), *one.pin))
	for each in here:
		came = each.wait("joined", 40)
		assert (came["host"], came["served_by"], came["role"]) == ("Ms Lee", "Ana", "member")
		assert came["name"] == each.args[1]
		each.wait("chat", text="said before")
	assert one.start(5, "Gil").wait("denied", 40)["code"] == "pin_required"
	again = one.start(1, "Ms Lee", "--host")
	assert again.wait("joined", 40)["role"] == "host"
	for each in here:
		wait_until(lambda: roles(each).get("Ms Lee") == "host")  # noqa: B023
	again.send(do="hand_over", to="Ms Lee", rights=False)
	for each in here:
		moved(each, 3, "Ms Lee", time.time())
		assert known(each) == kept[each.args[1]], "no standby is a host"
		assert not each.seen("denied") and not each.seen("error")
		told = (each.home / "stderr.txt").read_text()
		assert not told, told
