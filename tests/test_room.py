"""Who is in the meeting, who may do what, and who must receive what: the server's truth without a network."""

from __future__ import annotations

import itertools
import json
import math
import unicodedata
from typing import Any

import pytest
import wire_examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import connectsphere
from connectsphere import (
	CLIENT_MESSAGES,
	DOORS,
	HISTORY,
	HOST_ONLY,
	HOSTS_ALONE,
	LINE_SHIFT,
	LINGER,
	MAX_LINE,
	MAX_NAME,
	MAX_PEOPLE,
	PERMITS,
	RATES,
	RESUME_SECONDS,
	SERVER_MESSAGES,
	TICKET_SECONDS,
	Chat,
	Classroom,
	Effect,
	Expel,
	FileGone,
	FileShelf,
	Json,
	Keep,
	MeetingOver,
	Member,
	PeerFault,
	Planes,
	Refused,
	Reroute,
	Room,
	RoomLine,
	SetRate,
	ShareStopped,
	Streams,
	Tell,
	ToMixer,
	clean_name,
	encode_line,
	looks,
	parse_json,
	parse_message,
	skeleton,
)

SHA = "0" * 64
PARTS = (Room, Classroom, Chat, FileShelf, Planes, Streams)
IN_ROOM = [kind for kind in CLIENT_MESSAGES for part in PARTS if hasattr(part, f"_on_{kind}")]
BY_SERVER = {"hello", "probe", "proof", "pin", "pin_proof"}


def as_json(state: Json) -> Json:
	return parse_json(json.dumps(state, allow_nan=False).encode())


class World:
	"""A room with a clock, whose random tokens count up, and who was told what."""

	def __init__(self) -> None:
		self.number = 0
		self.room = Room("Algebra", "Ms Lee", "0f" * 16, self.token)
		self.now = 100.0
		self.kept = self.exported()
		self.told: dict[int, list[Json]] = {}
		self.tokens: dict[int, str] = {}
		self.effects: list[Effect] = []

	def token(self, octets: int) -> str:
		self.number += 1
		return f"{self.number:0{2 * octets}x}"

	def exported(self, *changes: Keep) -> Json:
		return as_json(self.room.export(self.now, *changes))

	def note(self, effects: list[Effect]) -> list[Effect]:
		for key, value in self.exported(
			Keep("lines", ()), *(one for one in effects if isinstance(one, Keep))
		).items():
			self.kept[key] = {**self.kept[key], **value} if isinstance(value, dict) else value
		for effect in effects:
			if isinstance(effect, Tell):
				line = encode_line(effect.message)[:-1]
				assert parse_message(line, SERVER_MESSAGES) == effect.message, (
					"what is said is what WIRE says"
				)
				for ident in effect.to:
					self.told.setdefault(ident, []).append(effect.message)
		self.effects = effects
		return effects

	def join(
		self, name: str = "Ana", role: str = "member", address: str = "10.0.0.9", token: str | None = None
	) -> Member:
		member, fresh, effects = self.room.join(name, role, address, token, self.now)
		self.tokens[member.id] = fresh
		self.note(effects)
		return member

	def leave(self, member: Member, reason: str = "left") -> list[Effect]:
		return self.note(self.room.leave(member.id, reason, self.now))

	def subscriptions(self, member: Member) -> dict[int, tuple[int, int]]:
		"""{sender: (layer, fps)} that a member wants to see."""
		return self.room.streams.allocator.people[member.id].subscriptions

	def say(self, member: Member, kind: str, /, **fields: Any) -> list[Effect]:
		"""What happens when `member` says it; rates are another matter."""
		self.room.names.people[member.person].buckets.clear()
		line = encode_line({"type": kind, **fields})[:-1]
		message = parse_message(line, CLIENT_MESSAGES)
		return self.note(self.room.handle(member.id, message, self.now, 1e9 + self.now))

	def heard(self, member: Member, kind: str) -> list[Json]:
		return [message for message in self.told.get(member.id, []) if message["type"] == kind]

	def ticket(self, member: Member, plane: str, direction: str, **fields: Any) -> str:
		self.say(member, "ticket", plane=plane, direction=direction, ref=1, **fields)
		return str(self.heard(member, "ticket")[-1]["ticket"])

	def offer(self, member: Member, size: int = 5, **fields: Any) -> str:
		self.say(member, "file_offer", name="a.pdf", size=size, sha256=SHA, ref=1, **fields)
		return str(self.heard(member, "file_ready")[-1]["file"])


@pytest.fixture
def world() -> World:
	return World()


@pytest.fixture
def host(world: World) -> Member:
	return world.join("Ms Lee", "host", "10.0.0.1")


# ------------------------------------------------------------------------------------------ names


class TestNames:
	def test_the_server_makes_them_unique(self, world: World) -> None:
		assert [world.join("Ana").name for _ in range(3)] == ["Ana", "Ana (2)", "Ana (3)"]

	@pytest.mark.parametrize(
		"other", ["ana", "ANA", "A n a", "\u0410n\u0430", "Ána", "A\u200bna", "Ａｎａ", "Ana."]
	)
	def test_a_name_that_looks_the_same_is_the_same(self, world: World, other: str) -> None:
		world.join("Ana")
		assert world.join(other).name.endswith(" (2)")

	def test_a_suffix_that_somebody_chose_is_passed_over(self, world: World) -> None:
		assert world.join("Ana (2)").name == "Ana (2)"
		assert [world.join("Ana").name for _ in range(2)] == ["Ana", "Ana (3)"]

	def test_a_name_stays_its_owners_after_leaving(self, world: World) -> None:
		world.leave(world.join("Ana"))
		assert world.join("Ana").name == "Ana (2)"

	def test_long_names_stay_within_their_limit(self, world: World) -> None:
		names = [world.join("x" * 60).name for _ in range(12)]
		assert len(set(names)) == 12 and all(len(name) <= MAX_NAME for name in names)
		assert names[-1] == "x" * (MAX_NAME - 5) + " (12)"

	@pytest.mark.parametrize(
		("wanted", "given"),
		[
			("  Ana \t\n Lee ", "Ana Lee"),
			("", "Guest"),
			("\u202e\u200b", "Guest"),
			("Ana\u202egnp", "Anagnp"),
			("A" + "\u0301" * 9 + "na", "\u00c1\u0301\u0301na"),
			("\ufb01n", "fin"),
		],
	)
	def test_names_are_cleaned(self, world: World, wanted: str, given: str) -> None:
		assert world.join(wanted).name == given

	def test_a_thousand_of_one_name_are_quick(self, world: World) -> None:
		for _ in range(1_000):
			last = world.join("Ana")
			world.leave(last)
		assert last.name == "Ana (1000)"
		assert world.room.names.owned[skeleton("Ana")] == 1_001, "no search from the start each time"


IMITATIONS = [  # of "Frau Meier"
	*(
		"Frau Me\u0269er",
		"Fra\u028b Meier",
		"F\u1d26au Meier",
		"Frau M\u0247i\u0247r",
		"Fr\u1d8fu Meier",
		"Frau M\uab32ier",
	),
	*(
		"Frau \u13b7eier",
		"\ua4ddrau \ua4dfeier",
		"Frau \u2c98eier",
		"Frau Meier\u02bc",
		"Frau\u3164Meier",
		"Frau Meier\u2800",
	),
	*(
		"Frau Meier\uffa0",
		"Frau\u1160 Meier",
		"frau meier",
		"FRAU MEIER",
		"Frau \u039ceier",
		"Fr\u0430u M\u0435i\u0435r",
		"Frau Me1er",
	),
	*(
		"Frau Meier (Host)",
		"Host: Frau Meier",
		"Frau Meier \U0001d159",
		"Frau Meier\U000e0101",
		"Frau \uff2deier",
		"Fra\u222a Meier",
	),
]


class TestTheHostsName:
	@pytest.fixture
	def world(self) -> World:
		world = World()
		world.room = Room("Physics", "Frau Meier", "ab" * 16, world.room.token)
		return world

	@pytest.mark.parametrize("name", ["Frau Meier", *IMITATIONS])
	def test_is_the_hosts_before_she_comes(self, world: World, name: str) -> None:
		assert world.join(name).name.endswith(" (2)")
		assert world.join("Frau Meier", "host").name == "Frau Meier"
		assert world.join("Frau Meier").name.startswith("Frau Meier (")

	def test_and_once_she_is_gone(self, world: World) -> None:
		host, eve = world.join("Frau Meier", "host"), world.join("Eve")
		world.say(eve, "private_chat", to_name="Frau Meier", text="psst")
		world.leave(host)
		assert world.join("Frau Meier").name == "Frau Meier (2)"
		back = world.join("Frau Meier", "host")
		assert back.name == "Frau Meier", "the right gives her the name, whatever became of her token"
		assert [line["text"] for line in world.room.welcome(back)["private"]] == ["psst"]
		assert world.join("Frau Meier", "host").name == "Frau Meier (3)", "a second computer of hers"

	@pytest.mark.parametrize(
		"name", ["all", "Screen", "EVERYONE", "h\u043est", "Pantalla", "tous", "सभी", "A11"]
	)
	def test_words_of_the_interface_are_nobodys(self, world: World, name: str) -> None:
		assert world.join(name).name.endswith(" (2)")

	@given(name=st.text(max_size=40))
	def test_any_name_shows_something_and_looks_like_nobodys(self, name: str) -> None:
		world = World()
		first, second = world.join(name).name, world.join(name).name
		assert clean_name(first) == first and looks(first).isdisjoint(looks(second))
		assert any(unicodedata.category(char)[0] in "LNPS" for char in first)


@given(name=st.text(st.characters(codec="utf-8") | st.sampled_from("ab. "), max_size=60))
def test_a_name_that_is_cut_says_so(name: str) -> None:
	whole, cut = clean_name(name, 1_000), clean_name(name)
	if len(whole) <= MAX_NAME:
		assert cut == whole
	else:
		assert len(cut) <= MAX_NAME and cut.endswith("...") and whole.startswith(cut[:-3])


def test_every_character_that_shows_nothing_is_left_out_of_names() -> None:
	"""Default_Ignorable_Code_Point of Unicode 17 and the blank ones besides."""
	ignorable = [0xAD, 0x34F, 0x61C, *range(0x115F, 0x1161), *range(0x17B4, 0x17B6), *range(0x180B, 0x1810)]
	ignorable += [
		*range(0x200B, 0x2010),
		*range(0x202A, 0x202F),
		*range(0x2060, 0x2070),
		0x3164,
		0xFEFF,
		0xFFA0,
	]
	ignorable += [*range(0xFE00, 0xFE10), *range(0xFFF0, 0xFFF9), *range(0x1BCA0, 0x1BCA4)]
	ignorable += [*range(0x1D173, 0x1D17B), *range(0xE0000, 0xE1000), 0x2800, 0x2028, 0x3000, 0x1D159]
	for char in map(chr, ignorable):
		assert clean_name(char) == "Guest" and clean_name(f"A{char}na").replace(" ", "") == "Ana", ascii(char)


def test_private_things_are_never_another_persons(
	world: World, host: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""Not even when a name is given again because too many have come and gone."""
	monkeypatch.setattr(connectsphere, "MOST_NAMES", 20)
	ana = world.join("Ana", address="10.0.0.5")
	world.say(host, "private_chat", to_name="Ana", text="your mark")
	file = world.offer(host, to_name="Ana")
	world.room.shelf.file_whole(file)
	world.leave(ana)
	for n in range(100):
		world.leave(world.join(f"Guest {n}", address="10.0.0.66"))
	assert world.join("Ana", address="10.0.0.66").name == "Ana (2)", "the crowd's own names go first"
	for n in range(100):
		world.leave(world.join(f"Guest {n}", address=f"10.0.1.{n}"))
	eve = world.join("Ana", address="10.0.0.66")
	assert (
		eve.name == "Ana" and not world.room.welcome(eve)["private"] and not world.room.welcome(eve)["files"]
	)
	world.say(eve, "ticket", plane="files", direction="download", file=file, ref=1)
	assert world.told[eve.id][-1]["code"] == "no_such_file"


def loaded(world: World, state: Json, then: float = math.nan) -> Room:
	"""Another room that goes on from `state`, and gives the tokens that the world's would give."""
	number = itertools.count(world.number + 1)
	other = Room("", "", "", lambda n: f"{next(number):0{2 * n}x}")
	other.shelf.limits = world.room.shelf.limits
	other.load(as_json(state), world.now if math.isnan(then) else then)
	return other


def after_a_crash(world: World, state: Json) -> Room:
	room = loaded(world, state)
	room.outlive(world.now)
	return room


@pytest.mark.parametrize("locked", [False, True])
def test_over_a_crash_everyone_keeps_the_id_and_a_camera_that_is_allowed(
	world: World, host: Member, locked: bool
) -> None:
	people = [world.join(name) for name in ("Ana", "Ben", "Cleo")]
	tokens = [world.tokens[one.id] for one in people]
	world.say(people[0], "video_start")
	world.room = after_a_crash(world, world.kept)
	world.room = after_a_crash(world, world.exported())  # nobody was back yet
	eve = world.join("Eve")
	world.say(world.join("Ms Lee", "host", "10.0.0.1"), "permit", what="camera", on=not locked)
	back = [world.join(token=token) for token in reversed(tokens)][::-1]
	assert [one.id for one in back] == [one.id for one in people]
	assert [one.camera for one in back] == [not locked, False, False]
	assert eve.id > max(one.id for one in people)
	world.leave(back[0], "lost")
	again = world.join(token=world.tokens[back[0].id])
	assert (again.id > eve.id, again.camera) == (True, False), "no two connections of one server have one id"


def test_who_may_not_share_may_not_after_a_crash(world: World, host: Member) -> None:
	ana = world.join("Ana")
	world.room.planes.share_start(ana.id)
	assert isinstance(world.say(host, "take_over")[0], Keep)
	world.room = after_a_crash(world, world.kept)
	back = world.join("Ana", token=world.tokens[ana.id])
	with pytest.raises(Refused, match="allow"):
		world.room.planes.share_start(back.id)


def test_hands_keep_their_order_over_breaks_and_crashes(world: World, host: Member) -> None:
	raised = []
	for name in ("Ana", "Ben", "Cleo", "Dan"):
		raised.append(world.join(name))
		world.now += 1.0
		world.say(raised[-1], "hand", up=True)
	world.leave(raised[3])
	world.room = after_a_crash(world, world.kept)
	back = [world.join(token=world.tokens[one.id]) for one in (raised[2], raised[0], raised[1], raised[3])]
	by_time = sorted((one for one in back if one.hand), key=lambda one: one.hand)
	assert [one.name for one in by_time] == ["Ana", "Ben", "Cleo"], "who left took the hand down"
	world.say(back[0], "hand", up=False)
	world.leave(back[0], "lost")
	assert not world.join(token=world.tokens[back[0].id]).hand


def test_hands_and_the_timer_go_by_the_time_of_the_meeting(world: World, host: Member) -> None:
	"""Not by the computer's clock, which is set in between."""
	raised = [world.join(name) for name in ("Ana", "Ben")]
	for clock, one in zip((2e9, 1e9), raised, strict=True):
		world.now += 1.0
		world.note(world.room.handle(one.id, {"type": "hand", "up": True}, world.now, clock))
		world.note(world.room.handle(host.id, {"type": "timer", "seconds": 60}, world.now, clock))
	hands = [world.room.members[one.id].hand for one in raised]
	assert hands == [world.room.lasted(world.now - 1.0), world.room.lasted(world.now)]
	newcomer, room = world.join("Cleo"), loaded(world, world.exported(), 7.0)
	for each, now in ((world.room, world.now), (room, 7.0)):
		told = each.classroom.greeting(newcomer, now + 10.0)
		assert {"type": "timer", "left": 50.0} in told


def test_a_room_moves_to_another_clock(world: World, host: Member) -> None:
	"""What is kept for so and so long is kept so long by the wall, whatever the processes count from."""
	ana = world.join("Ana")
	world.leave(ana, "lost")
	state = world.exported()
	other = loaded(world, state, then=5.0 - 100.0)
	left = 5.0 + RESUME_SECONDS - 100.0
	token = world.tokens[ana.id]
	assert (
		other.names.claim(token, left - 1.0) == ("Ana", True) and not other.names.claim(token, left + 1.0)[1]
	)


@pytest.mark.parametrize("uptimes", [*itertools.product([0.5, 1e4, 1e7], repeat=2)])
def test_a_room_moves_from_computer_to_computer(
	world: World, host: Member, uptimes: tuple[float, float]
) -> None:
	"""However long each has been up: who came and went before that was still here, or is still gone."""
	world.now += 1e5
	gone, lost = world.join("Ana"), world.join("Ben")
	world.leave(gone)
	world.leave(lost, "lost")
	world.say(host, "attendance", ref=1)
	rows, token = world.told[host.id][-1]["rows"], world.tokens[lost.id]
	room, state = world.room, world.exported()
	for uptime in uptimes:
		room = loaded(world, state, uptime)
		state = room.export(uptime)
	assert room.names.claim(token, uptime) == ("Ben", True)
	world.room, world.now, room.clock = room, uptime, 1e9 + world.now
	seen = room.handle(host.id, {"type": "attendance"}, uptime, room.clock)[0]
	assert isinstance(seen, Tell) and seen.message["rows"] == [
		{key: pytest.approx(value, abs=0.01) if key != "name" else value for key, value in row.items()}
		for row in rows
	]


# ----------------------------------------------------------------------------------------- rights


class TestRights:
	def test_every_message_has_one_place(self) -> None:
		assert sorted([*IN_ROOM, *BY_SERVER]) == sorted(CLIENT_MESSAGES)

	@pytest.mark.parametrize("kind", sorted(HOST_ONLY))
	def test_members_may_not(self, world: World, host: Member, kind: str) -> None:
		member = world.join("Ben")
		before = world.room.roster()
		effects = world.say(member, kind, **wire_examples.CLIENT[kind])
		assert [type(effect) for effect in effects] == [Tell]
		assert world.told[member.id][-1]["code"] == "not_allowed"
		assert world.room.roster() == before

	@pytest.mark.parametrize("kind", sorted(set(IN_ROOM)))
	@pytest.mark.parametrize("role", ["host", "member"])
	def test_everything_else_is_open_to_all(self, world: World, host: Member, kind: str, role: str) -> None:
		one = host if role == "host" else world.join("Ben")
		world.join("Cleo")
		if kind == "pause":  # of the own share
			world.note(world.room.planes.share_start(one.id))
		world.say(one, kind, **wire_examples.CLIENT[kind])
		refused = any(message["code"] == "not_allowed" for message in world.heard(one, "error"))
		assert refused == (role == "member" and kind in HOST_ONLY)

	@pytest.mark.parametrize("kind", sorted(BY_SERVER - HOST_ONLY))
	def test_what_the_server_answers_itself_is_unexpected_here(
		self, world: World, host: Member, kind: str
	) -> None:
		with pytest.raises(PeerFault, match="unexpected_message"):
			world.say(host, kind, **wire_examples.CLIENT[kind])

	@pytest.mark.parametrize("kind", sorted(IN_ROOM))
	def test_who_is_gone_does_nothing(self, world: World, host: Member, kind: str) -> None:
		member = world.join("Ben")
		world.leave(member)
		assert world.say(member, kind, **wire_examples.CLIENT[kind]) == []

	def test_the_role_is_never_resumed(self, world: World, host: Member) -> None:
		again = world.join("Ms Lee", "member", token=world.tokens[host.id])
		assert (again.name, again.role) == ("Ms Lee", "member")


class TestRates:
	@pytest.mark.parametrize("kind", sorted({*IN_ROOM} - {"leave"}))
	def test_a_flood_is_dropped(self, world: World, host: Member, kind: str) -> None:
		member = world.join("Ben")
		burst, rate = RATES.get(kind, RATES["other"])
		message = {"type": kind, **wire_examples.CLIENT[kind]}
		for _ in range(int(burst)):
			world.room.handle(member.id, message, world.now, 0.0)
		with pytest.raises(PeerFault, match="flood"):
			world.room.handle(member.id, message, world.now, 0.0)
		world.room.handle(member.id, message, world.now + 1.01 / rate, 0.0)

	def test_ones_flood_is_not_the_others(self, world: World) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		message = {"type": "chat", "text": "x"}
		for _ in range(int(RATES["chat"][0])):
			world.room.handle(ana.id, message, world.now, 0.0)
		assert world.room.handle(ben.id, message, world.now, 0.0)

	def test_coming_anew_refills_nothing(self, world: World) -> None:
		ana = world.join("Ana")
		message = {"type": "chat", "text": "x"}
		for _ in range(int(RATES["chat"][0])):
			world.room.handle(ana.id, message, world.now, 0.0)
		again = world.join("Ana", token=world.tokens[ana.id])
		assert again.name == "Ana"
		with pytest.raises(PeerFault, match="flood"):
			world.room.handle(again.id, message, world.now, 0.0)

	def test_on_the_long_run_a_flood_is_what_the_wire_allows(self, world: World) -> None:
		"""Chat 5 in 5 s, reactions 3 a second, state 10 a second, once the burst is used up."""
		ana = world.join("Ana")
		for kind, rate in (("chat", 1), ("private_chat", 1), ("reaction", 3), ("hand", 10)):
			message = {"type": kind, **wire_examples.CLIENT[kind]}
			passed = [self.passes(world, ana, message, 200.0 + n / 100) for n in range(6_000)]
			assert sum(passed[-1_000:]) == pytest.approx(10 * rate, abs=1), kind

	@staticmethod
	def passes(world: World, member: Member, message: Json, now: float) -> bool:
		try:
			world.room.handle(member.id, message, now, 0.0)
		except PeerFault:
			return False
		return True

	def test_those_who_come_and_go_are_remembered_up_to_a_bound(
		self, world: World, monkeypatch: pytest.MonkeyPatch
	) -> None:
		monkeypatch.setattr(connectsphere, "MOST_NAMES", 50)
		ben = world.join("Ben")
		world.leave(ben, "lost")
		for n in range(500):
			world.now += 0.1
			world.leave(world.join(f"Guest {n}"))
		names = world.room.names
		assert len(names.owned) <= 50 + len(names._reserved)
		assert len(names.people) <= 50
		assert world.join("Guest 499").name == "Guest 499 (2)", "the last ones' names are still theirs"
		assert world.join("Guest 0").name == "Guest 0"
		assert world.join("Eve", token=world.tokens[ben.id]).name == "Ben", (
			"whose place is kept is not forgotten"
		)


# ------------------------------------------------------------------------------------------- chat


class TestChat:
	def test_all_get_it_the_sender_too(self, world: World) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		world.say(ana, "chat", text=" hi\u202e ")
		line = {"type": "chat", "n": 1, "id": ana.id, "from": "Ana", "text": " hi", "at": 1e9 + world.now}
		assert world.heard(ana, "chat") == world.heard(ben, "chat") == [line]

	def test_numbers_grow_over_all_kinds(self, world: World) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		world.say(ana, "chat", text="1")
		world.say(ben, "private_chat", to_name="Ana", text="2")
		world.say(ana, "reaction", emoji="🎉")
		world.say(ana, "chat", text="4")
		numbers = [m["n"] for m in world.told[ana.id] if "n" in m]
		assert numbers == [1, 2, 3, 4]

	def test_the_last_200_lines_are_kept_for_late_ones(self, world: World) -> None:
		ana = world.join("Ana")
		for number in range(HISTORY + 5):
			world.say(ana, "chat", text=str(number))
		late = world.room.welcome(world.join("Ben"))["chat"]
		assert [line["text"] for line in late] == [str(number) for number in range(5, HISTORY + 5)]

	@pytest.mark.parametrize("many", [0, HISTORY - 3, HISTORY])
	def test_a_welcome_holds_200_lines_wherever_they_came_from(self, world: World, many: int) -> None:
		"""Or nobody else comes in: with those of another server of the meeting there may be more."""
		world.room.begin_epoch(3)
		ana = world.join("Ana")
		for number in range(many):
			world.say(ana, "chat", text=str(number))
		for number in range(5):
			line = RoomLine((1 << LINE_SHIFT) + number, "Bob", f"there {number}", 1e9)
			world.note(world.room.chat.unite(line))
		world.say(ana, "chat", text="last")
		assert len(world.room.welcome(ana)["chat"]) == min(many + 6, HISTORY)
		assert loaded(world, world.kept).chat.lines == world.room.chat.lines
		assert max(world.room.chat.lines.values(), key=lambda one: one.n).text == "last"

	@pytest.mark.parametrize("at", [1e9, 3e10])
	def test_what_is_said_here_outlasts_what_another_server_had(self, world: World, at: float) -> None:
		"""Its numbers may be higher, its clock fast, or a peer's: new lines are kept all the same."""
		ana = world.join("Ana")
		world.say(ana, "chat", text="first")
		for number in range(HISTORY):
			world.note(world.room.chat.unite(RoomLine((1 << LINE_SHIFT) + number, "Bob", "there", at)))
		for number in range(5):
			world.now += 1
			world.say(ana, "chat", text=f"here {number}")
		texts = [line["text"] for line in world.room.welcome(ana)["chat"]]
		assert len(texts) == HISTORY and texts[-5:] == [f"here {number}" for number in range(5)]

	@pytest.mark.parametrize("text", ["", "   ", "\u202e\u0000"])
	def test_what_is_empty_is_not_said(self, world: World, text: str) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		for key, said in (("text", "chat"), ("text", "private_chat"), ("emoji", "reaction")):
			world.say(ana, said, **{key: text}, to_name="Ben", ref=7)
			refused = {"type": "error", "code": "bad_command", "key": key, "ref": 7}
			assert world.told[ana.id][-1] == refused
		assert world.room.counter == 0 and not world.heard(ben, "chat")

	def test_a_ref_says_a_thing_once(self, world: World) -> None:
		"""Also over a reconnect, and for each person alone; the welcome says which own lines were said."""
		ana, ben = world.join("Ana"), world.join("Ben")
		for one, text in ((ana, "hi"), (ana, "hi"), (ben, "hello"), (ana, "hi")):
			world.say(one, "chat", text=text, ref=9)
		world.say(ana, "private_chat", to_name="Ben", text="psst", ref=10)
		world.leave(ana, "lost")
		ana = world.join("Ana", token=world.tokens[ana.id])
		world.say(ana, "private_chat", to_name="Ben", text="psst", ref=10)
		assert world.told[ana.id][-1] == {"type": "ok", "ref": 10}
		assert [line["text"] for line in world.heard(ben, "chat")] == ["hi", "hello"]
		assert len(world.heard(ben, "private_chat")) == 1
		refs = [(line["text"], line.get("ref")) for line in world.room.welcome(ana)["chat"]]
		assert refs == [("hi", 9), ("hello", None)]
		assert [line.get("ref") for line in world.room.welcome(ben)["private"]] == [None]
		assert [line.get("ref") for line in world.room.welcome(ana)["private"]] == [10]

	def test_own_lines_are_own_under_another_name(self, world: World) -> None:
		"""After another start of the program, which has them from the welcome alone."""
		ben, zoe = world.join("Ben"), world.join("Zoe")
		for one, ref in ((ben, 9), (zoe, 9), (zoe, 10)):
			world.say(one, "chat", text="hi", ref=ref)
		world.say(ben, "private_chat", to_name="Zoe", text="psst", ref=11)
		world.say(ben, "rename", name="Benny")
		world.say(ben, "chat", text="hi", ref=12)
		world.leave(ben)
		for again, own in ((world.join(token=world.tokens[ben.id]), [1, 0, 0, 1, 1]), (zoe, [0, 1, 1, 0, 0])):
			state = connectsphere.StateManager()
			state.apply(world.room.welcome(again))
			assert [line.own for line in state.current.chat] == [bool(one) for one in own]

	def test_private_is_between_the_two(self, world: World, host: Member) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		world.say(ana, "private_chat", to_name="Ben", text="psst", ref=4)
		assert len(world.heard(ana, "private_chat")) == len(world.heard(ben, "private_chat")) == 1
		assert not world.heard(host, "private_chat")
		assert world.heard(ana, "private_chat")[0]["ref"] == 4
		assert "ref" not in world.heard(ben, "private_chat")[0], "it is the sender's own"
		kept = [world.room.welcome(one)["private"] for one in (ana, ben, host)]
		assert [[line["text"] for line in lines] for lines in kept] == [["psst"], ["psst"], []]
		assert world.room.welcome(world.join("Cleo"))["private"] == []
		assert world.room.welcome(ana)["chat"] == []

	def test_private_history_comes_back_with_the_name_only(self, world: World) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		world.say(ana, "private_chat", to_name="Ben", text="psst")
		world.leave(ben, "lost")
		assert world.room.welcome(world.join("Ben"))["private"] == [], "another Ben"
		again = world.join("Ben", token=world.tokens[ben.id])
		assert [line["text"] for line in world.room.welcome(again)["private"]] == ["psst"]

	def test_private_to_nobody(self, world: World) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		world.leave(ben)
		world.say(ana, "private_chat", to_name="Ben", text="psst", ref=9)
		error = world.told[ana.id][-1]
		assert (error["code"], error["ref"]) == ("no_such_person", 9)

	def test_a_full_meeting_fits_one_line(self, world: World) -> None:
		"""Names as long as they can be, in the longest script."""
		for number in range(MAX_PEOPLE):
			member = world.join("\U0001f600" * 24 + f"{number:08}")
			world.say(member, "hand", up=True)
		world.room.chat.lines.clear()
		extra = dict.fromkeys(("video_up", "video_down", "audio_up", "audio_down"), "0" * 32)
		welcome = {**world.room.welcome(member), **extra, "resume": SHA, "title": "\U0001f600" * 64}
		assert len(encode_line(welcome)) <= MAX_LINE


# ------------------------------------------------------------------------- hands, devices, muting


class TestState:
	def test_hand(self, world: World) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		world.say(ana, "hand", up=True)
		assert world.heard(ben, "state")[-1]["user"]["hand"] == world.now
		world.now += 1.0
		world.say(ana, "hand", up=True)
		assert len(world.heard(ben, "state")) == 1 and world.room.members[ana.id].hand == world.now - 1.0, (
			"it keeps its place"
		)
		world.say(ana, "hand", up=False)
		assert world.heard(ben, "state")[-1]["user"]["hand"] == 0.0

	def test_mic(self, world: World) -> None:
		ana = world.join("Ana")
		effects = world.say(ana, "mic", on=True)
		assert (
			effects[0] == ToMixer({"do": "mute", "id": ana.id, "on": False})
			and world.heard(ana, "state")[-1]["user"]["mic"]
		)
		assert world.say(ana, "mic", on=True) == []
		assert world.say(ana, "mic", on=False)[0] == ToMixer({"do": "mute", "id": ana.id, "on": True})

	def test_camera(self, world: World) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		world.say(ana, "video_start")
		assert world.heard(ben, "video_start") == [{"type": "video_start", "id": ana.id, "name": "Ana"}]
		assert world.heard(ben, "state")[-1]["user"]["camera"]
		assert world.say(ana, "video_start") == []

	def test_mute_one(self, world: World, host: Member) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		for one in (ana, ben):
			world.say(one, "mic", on=True)
		world.say(host, "mute", who=ana.id)
		assert [world.room.members[one.id].mic for one in (ana, ben)] == [False, True]
		assert world.heard(ana, "muted") == [{"type": "muted", "by": "Ms Lee"}]
		assert not world.heard(ben, "muted")

	def test_mute_all_but_oneself(self, world: World, host: Member) -> None:
		people = [host, world.join("Ana"), world.join("Ben")]
		for one in people:
			world.say(one, "mic", on=True)
		effects = world.say(host, "mute", who="all")
		assert [world.room.members[one.id].mic for one in people] == [True, False, False]
		silenced = [ToMixer({"do": "mute", "id": one.id, "on": True}) for one in people[1:]]
		assert [effect for effect in effects if isinstance(effect, ToMixer)] == silenced

	def test_mute_nobody(self, world: World, host: Member) -> None:
		world.say(host, "mute", who=99)
		assert world.told[host.id][-1]["code"] == "no_such_person"

	def test_end(self, world: World, host: Member) -> None:
		assert [type(effect) for effect in world.say(host, "end")] == [MeetingOver]


class TestRemoving:
	def test_the_removed_is_told_and_gone(self, world: World, host: Member) -> None:
		ana = world.join("Ana", address="10.0.0.7")
		effects = world.say(host, "remove", who=ana.id)
		assert isinstance(effects[0], Expel) and effects[0].message["type"] == "removed"
		assert ana.id not in world.room.members
		assert world.heard(host, "leave")[-1]["reason"] == "removed"

	def test_and_stays_out(self, world: World, host: Member) -> None:
		room, ana = world.room, world.join("Ana", address="10.0.0.7")
		world.say(host, "remove", who=ana.id)
		assert room.names.barred("10.0.0.7", None) == "removed", "the same machine"
		assert room.names.barred("10.0.0.8", world.tokens[ana.id]) == "removed", "the same token"
		assert room.names.claim(world.tokens[ana.id], world.now) == (None, False)
		assert room.names.barred("10.0.0.8", None) == "", "somebody else"
		assert world.join("Ana", address="10.0.0.8").name == "Ana (2)", "who is not called as the removed"

	@pytest.mark.parametrize("shared", ["127.0.0.1", "10.0.0.1", "10.0.0.7"])
	@pytest.mark.parametrize("reason", ["", "lost", "left"])
	def test_others_on_a_shared_machine_knock_or_show_their_claim(
		self, world: World, host: Member, shared: str, reason: str
	) -> None:
		ana, ben = world.join("Ana", address=shared), world.join("Ben", address=shared)
		if reason:
			world.leave(ben, reason)
		world.say(host, "remove", who=ana.id)
		names = world.room.names
		assert names.barred(shared, None) == names.barred(shared, "f" * 64) == "knock"
		assert names.barred(shared, world.tokens[ben.id]) == ""
		assert names.barred(shared, world.tokens[ana.id]) == "removed"

	def test_the_host_takes_it_back(self, world: World, host: Member) -> None:
		ana, ben = world.join("Ana", address="10.0.0.7"), world.join("Ben")
		world.say(ana, "private_chat", to_name="Ms Lee", text="psst")
		world.say(host, "remove", who=ana.id, ref=5)
		assert world.heard(host, "banned")[-1]["names"] == ["Ana"] and not world.heard(ben, "banned")
		world.say(host, "unban", who="Zoe")
		assert world.told[host.id][-1]["code"] == "no_such_person"
		world.say(host, "unban", who="Ana", ref=6)
		assert world.heard(host, "banned")[-1] == {"type": "banned", "names": [], "ref": 6}
		assert world.room.names.barred("10.0.0.7", None) == ""
		assert world.room.names.claim(world.tokens[ana.id], world.now) == ("Ana", False)
		again = world.join("x", token=world.tokens[ana.id])
		assert again.name == "Ana" and [one["text"] for one in world.room.welcome(again)["private"]] == [
			"psst"
		]

	def test_a_host_cannot_be_removed(self, world: World, host: Member) -> None:
		ben = world.join("Ben")
		world.say(host, "cohost", who=ben.id, on=True)
		world.say(ben, "remove", who=host.id)
		assert world.told[ben.id][-1] == {"type": "error", "code": "not_allowed"}
		world.say(host, "remove", who=host.id)
		assert host.id in world.room.members
		assert world.told[host.id][-1] == {"type": "error", "code": "no_such_person"}


# ---------------------------------------------------------------------------------- who sees whom


def watch(world: World, member: Member, *streams: tuple[Member, int, int]) -> list[Effect]:
	wanted = {str(sender.id): {"layer": layer, "fps": fps} for sender, layer, fps in streams}
	return world.say(member, "watch", streams=wanted)


class TestWatching:
	def encoding(self, world: World, sender: Member) -> dict[str, int]:
		return dict(world.heard(sender, "encode")[-1]["layers"])

	def test_the_sender_hears_the_highest_rate_of_each_layer(self, world: World) -> None:
		ana, ben, cleo = (world.join(name) for name in ("Ana", "Ben", "Cleo"))
		watch(world, ben, (ana, 2, 15))
		watch(world, cleo, (ana, 2, 30))
		assert self.encoding(world, ana) == {"2": 30}
		watch(world, ben, (ana, 0, 5))
		assert self.encoding(world, ana) == {"0": 5, "2": 30}
		assert world.room.streams.allocator.routes(ana.id) == {ben.id: (0, 5), cleo.id: (2, 30)}

	def test_numbers_grow(self, world: World) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		for fps in (5, 10, 15):
			watch(world, ben, (ana, 1, fps))
		numbers = [message["n"] for message in world.heard(ana, "encode")]
		assert numbers == sorted(set(numbers)) and len(numbers) == 3

	def test_the_same_wish_again_changes_nothing(self, world: World) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		watch(world, ben, (ana, 1, 5))
		assert watch(world, ben, (ana, 1, 5)) == []

	@pytest.mark.parametrize("how", ["watch", "lost", "left"])
	def test_a_layer_stops_two_seconds_after_its_last_use(self, world: World, how: str) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		watch(world, ben, (ana, 1, 5))
		effects = watch(world, ben) if how == "watch" else world.leave(ben, how)
		assert Reroute(ana.id) in effects and world.room.streams.allocator.routes(ana.id) == {}
		world.now += LINGER - 0.01
		assert world.note(world.room.tick(world.now)) == []
		assert self.encoding(world, ana) == {"1": 5}
		world.now += 0.02
		world.note(world.room.tick(world.now))
		assert self.encoding(world, ana) == {}

	def test_coming_back_in_time_costs_nothing(self, world: World) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		watch(world, ben, (ana, 1, 5))
		watch(world, ben)
		world.now += 1.0
		watch(world, ben, (ana, 1, 5))
		world.now += 5.0
		world.note(world.room.tick(world.now))
		assert len(world.heard(ana, "encode")) == 1

	def test_one_cannot_want_more_than_the_others_can_send(self, world: World) -> None:
		"""Thirty people encode for whoever asks: what is too much comes at the lowest layer."""
		eve, *others = [world.join(f"Pupil {n}") for n in range(31)]
		world.say(eve, "watch", streams={str(one.id): {"layer": 3, "fps": 60} for one in others})
		asked = [world.subscriptions(eve)[one.id] for one in others]
		assert asked == [(3, 60)] * 4 + [(0, 15)] * 26
		world.say(eve, "watch", streams={str(one.id): {"layer": 1, "fps": 15} for one in others})
		assert set(world.subscriptions(eve).values()) == {(1, 15)}, "a page of thirty is no trouble"

	def test_nobody_watches_oneself_or_nobody(self, world: World) -> None:
		ana = world.join("Ana")
		assert (
			world.say(
				ana, "watch", streams={str(ana.id): {"layer": 1, "fps": 5}, "99": {"layer": 1, "fps": 5}}
			)
			== []
		)
		assert world.subscriptions(ana) == {}

	def test_a_sender_who_left_is_forgotten(self, world: World) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		watch(world, ben, (ana, 1, 5))
		assert Reroute(ana.id) in world.leave(ana)
		assert world.subscriptions(ben) == {} and world.room.streams.allocator.routes(ana.id) == {}
		world.now += 5
		assert world.room.tick(world.now) == []


# ---------------------------------------------------------------------------------------- tickets


class TestTickets:
	def test_once(self, world: World) -> None:
		ana = world.join("Ana")
		ticket = world.ticket(ana, "screen", "viewer")
		assert len(ticket) == 32
		redeemed = world.room.planes.redeem(ticket, "screen", world.now)
		assert redeemed[:4] == (ana.id, "screen", "viewer", None)
		with pytest.raises(PeerFault, match="bad_ticket"):
			world.room.planes.redeem(ticket, "screen", world.now)

	@pytest.mark.parametrize(("after", "good"), [(TICKET_SECONDS - 0.1, True), (TICKET_SECONDS + 0.1, False)])
	def test_ten_seconds(self, world: World, after: float, good: bool) -> None:
		ticket = world.ticket(world.join("Ana"), "screen", "viewer")
		world.now += after
		world.room.tick(world.now)
		if good:
			assert world.room.planes.redeem(ticket, "screen", world.now)
		else:
			with pytest.raises(PeerFault, match="bad_ticket"):
				world.room.planes.redeem(ticket, "screen", world.now)

	def test_one_plane(self, world: World) -> None:
		ticket = world.ticket(world.join("Ana"), "screen", "viewer")
		with pytest.raises(PeerFault, match="bad_ticket"):
			world.room.planes.redeem(ticket, "files", world.now)

	@pytest.mark.parametrize("reason", ["left", "lost", "removed", "replaced"])
	def test_it_dies_with_the_session(self, world: World, reason: str) -> None:
		ana = world.join("Ana")
		ticket = world.ticket(ana, "screen", "viewer")
		world.leave(ana, reason)
		world.join("Ana", token=world.tokens[ana.id])
		with pytest.raises(PeerFault, match="bad_ticket"):
			world.room.planes.redeem(ticket, "screen", world.now)

	@pytest.mark.parametrize(("plane", "direction"), [("screen", "upload"), ("files", "viewer")])
	def test_directions_belong_to_planes(self, world: World, plane: str, direction: str) -> None:
		with pytest.raises(PeerFault, match="bad_ticket"):
			world.say(world.join("Ana"), "ticket", plane=plane, direction=direction, ref=1)

	def test_guessing(self, world: World) -> None:
		with pytest.raises(PeerFault, match="bad_ticket"):
			world.room.planes.redeem("0" * 32, "screen", world.now)


class TestResuming:
	def test_a_lost_one_comes_back_as_itself_without_a_pin(self, world: World) -> None:
		ana = world.join("Ana")
		world.leave(ana, "lost")
		world.now += RESUME_SECONDS - 1
		assert world.room.names.claim(world.tokens[ana.id], world.now) == ("Ana", True)
		again = world.join("Somebody", token=world.tokens[ana.id])
		assert again.name == "Ana" and again.id != ana.id

	def test_the_place_is_kept_ten_minutes_the_name_for_good(self, world: World) -> None:
		ana = world.join("Ana")
		world.leave(ana, "lost")
		world.now += RESUME_SECONDS + 1
		assert world.room.names.claim(world.tokens[ana.id], world.now) == ("Ana", False)

	def test_leaving_keeps_the_name_but_not_the_place(self, world: World) -> None:
		ana = world.join("Ana")
		world.leave(ana, "left")
		assert world.room.names.claim(world.tokens[ana.id], world.now) == ("Ana", False)

	def test_a_stale_session_is_ended(self, world: World) -> None:
		ana = world.join("Ana")
		again = world.join("Ana", token=world.tokens[ana.id])
		assert [effect.id for effect in world.effects if isinstance(effect, Expel)] == [ana.id]
		assert [user["id"] for user in world.room.roster()] == [again.id]

	def test_the_old_token_is_good_until_its_successor_is_acknowledged(self, world: World) -> None:
		first = world.join("Ana")
		old = world.tokens[first.id]
		world.leave(first, "lost")
		second = world.join("Ana", token=old)
		world.leave(second, "lost")
		assert world.room.names.claim(old, world.now) == ("Ana", True), "the welcome may have been lost"
		third = world.join("Ana", token=old)
		assert world.room.names.claim(world.tokens[second.id], world.now) == (None, False), (
			"nobody ever had it"
		)
		world.say(third, "resumed")
		assert world.room.names.claim(old, world.now) == (None, False)
		assert world.room.names.claim(world.tokens[third.id], world.now) == ("Ana", True)

	def test_using_the_successor_acknowledges_it(self, world: World) -> None:
		first = world.join("Ana")
		old = world.tokens[first.id]
		second = world.join("Ana", token=old)
		world.join("Ana", token=world.tokens[second.id])
		assert world.room.names.claim(old, world.now) == (None, False)

	@pytest.mark.parametrize("token", [None, "", "0" * 64])
	def test_no_claim(self, world: World, token: str | None) -> None:
		world.join("Ana")
		assert world.room.names.claim(token, world.now) == (None, False)
		assert world.join("Ana", token=token).name == "Ana (2)"

	def test_tokens_are_kept_hashed(self, world: World) -> None:
		ana = world.join("Ana")
		world.leave(ana, "lost")
		assert world.tokens[ana.id] not in json.dumps(world.room.export(0.0))

	def test_the_form_names_all_that_is_exported(self, world: World) -> None:
		"""So that no server reads the journal of a version that kept something else."""
		world.say(world.join("Ana"), "chat", text="Hello")
		kept = set()
		for part, records in world.room.export(0.0).items():
			names = (
				{name for entry in records.values() for name in entry} if isinstance(records, dict) else ()
			)
			kept |= {f"{part}.{name}" for name in names} if isinstance(records, dict) else {part}
		assert {"people.person", "lines.text", "members.name"} <= kept
		assert kept - {"now"} <= set(world.room.form())


# ------------------------------------------------------------------------------------- the screen


class TestSharing:
	def test_one_at_a_time(self, world: World) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		world.note(world.room.planes.share_start(ana.id))
		assert world.heard(ben, "screen_start")[-1]["id"] == ana.id and world.room.members[ana.id].sharing
		with pytest.raises(Refused) as refused:
			world.room.planes.share_start(ben.id)
		assert refused.value.code == "share_busy"
		assert world.room.planes.share_stop(ben.id) == [], "not ben's to stop"
		effects = world.note(world.room.planes.share_stop(ana.id))
		assert effects[0] == ShareStopped(ana.id) and not world.room.members[ana.id].sharing
		assert world.room.planes.share_start(ben.id)

	@pytest.mark.parametrize("reason", ["left", "lost", "removed", "replaced"])
	def test_leaving_frees_it(self, world: World, reason: str) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		world.room.planes.share_start(ana.id)
		world.leave(ana, reason)
		assert world.room.planes.presenter == 0
		assert world.heard(ben, "screen_stop") == [{"type": "screen_stop", "id": ana.id, "name": "Ana"}]
		assert world.room.planes.share_start(ben.id)

	def test_taken_over_stays_so_until_allowed(self, world: World, host: Member) -> None:
		ana = world.join("Ana")
		world.room.planes.share_start(ana.id)
		assert ShareStopped(ana.id) in world.say(host, "take_over")
		again = world.join("Ana", token=world.tokens[ana.id])
		with pytest.raises(Refused) as refused:
			world.room.planes.share_start(again.id)
		assert refused.value.code == "not_allowed"
		world.say(host, "permit", what="share", on=True, who=again.id)
		assert world.room.planes.share_start(again.id)

	def test_who_took_over_is_named(self, world: World, host: Member) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		world.room.planes.share_start(ana.id)
		world.say(host, "take_over")
		world.room.planes.share_start(host.id)
		for one, words in ((ana, "took over the screen."), (ben, "shares the screen")):
			with pytest.raises(Refused) as refused:
				world.room.planes.share_start(one.id)
			assert (refused.value.code, refused.value.reason) == ("share_busy", f"{host.name} {words}")

	def test_taking_over_nothing(self, world: World, host: Member) -> None:
		assert world.say(host, "take_over") == []
		world.room.planes.share_start(host.id)
		assert world.say(host, "take_over") == []

	def test_who_is_gone_cannot_start(self, world: World) -> None:
		ana = world.join("Ana")
		world.leave(ana)
		with pytest.raises(Refused):
			world.room.planes.share_start(ana.id)

	def test_late_ones_learn_of_it(self, world: World) -> None:
		ana = world.join("Ana")
		world.room.planes.share_start(ana.id)
		assert world.room.welcome(world.join("Ben"))["presenter"] == ana.id


# ------------------------------------------------------------------------------------------ files


class TestFiles:
	def test_a_welcome_holds_no_more_than_its_reader_takes(
		self, world: World, host: Member, monkeypatch: pytest.MonkeyPatch
	) -> None:
		"""Hosts may offer files beyond that; or nobody else comes in."""
		monkeypatch.setattr(connectsphere, "MOST_FILES", 3)
		files = [world.offer(host, size=size) for size in range(5)]
		for file in files:
			world.room.shelf.file_whole(file)
		assert [one["file"] for one in world.room.welcome(host)["files"]] == files[2:]

	def test_offered_once_whole(self, world: World) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		file = world.offer(ana)
		assert not world.heard(ben, "file_offer") and world.room.welcome(ben)["files"] == []
		world.note(world.room.shelf.file_whole(file))
		assert world.heard(ben, "file_offer")[-1]["file"] == file
		assert len(world.room.welcome(world.join("Cleo"))["files"]) == 1

	def test_a_private_one_is_between_the_two(self, world: World, host: Member) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		file = world.offer(ana, to_name="Ben")
		world.note(world.room.shelf.file_whole(file))
		assert world.heard(ana, "file_offer") and world.heard(ben, "file_offer")
		assert not world.heard(host, "file_offer") and world.room.welcome(host)["files"] == []
		world.say(host, "ticket", plane="files", direction="download", file=file, ref=3)
		assert world.told[host.id][-1]["code"] == "no_such_file"

	def test_tickets_for_files(self, world: World) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		file = world.offer(ana)
		allowed = []
		for whole, who, direction in itertools.product((False, True), (ana, ben), ("upload", "download")):
			if whole:
				world.room.shelf.file_whole(file)
			world.say(who, "ticket", plane="files", direction=direction, file=file, ref=3)
			if world.told[who.id][-1]["type"] == "ticket":
				allowed.append((whole, who.name, direction))
		mine = [(False, "Ana", "upload"), (True, "Ana", "upload"), (True, "Ana", "download")]
		assert allowed == [*mine, (True, "Ben", "download")]

	def test_to_nobody(self, world: World) -> None:
		ana = world.join("Ana")
		world.say(ana, "file_offer", name="a", size=1, sha256=SHA, to_name="Zoe", ref=7)
		assert world.told[ana.id][-1] == {
			"type": "error",
			"code": "no_such_person",
			"name": "Zoe",
			"ref": 7,
		}

	def test_limits(self, world: World) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		limits = world.room.shelf.limits
		limits.largest_file, limits.largest_person, limits.largest_meeting = 10, 25, 30
		refused = []
		for who, size in ((ana, 11), (ana, 10), (ana, 10), (ana, 10), (ben, 10), (ana, 5), (ben, 10)):
			effects = world.say(who, "file_offer", name=f"{len(refused)}", size=size, sha256=SHA, ref=1)
			refused.append(effects[-1].message.get("code") == "too_large")
			if not refused[-1]:
				world.room.shelf.file_whole(effects[-1].message["file"])
		assert refused == [True, False, False, True, False, True, True]

	def test_nobody_fills_the_shelf_alone(self, world: World) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		for n in range(connectsphere.MOST_FILES_A_PERSON):
			self.offer_another(world, ana, n)
		assert not world.heard(ana, "error")
		self.offer_another(world, ana, 9_999)
		assert world.heard(ana, "error")[-1]["code"] == "too_large"
		self.offer_another(world, ben, 0)
		assert world.heard(ben, "file_ready")

	@staticmethod
	def offer_another(world: World, member: Member, n: int) -> None:
		world.say(member, "file_offer", name=f"{n}.txt", size=0, sha256=SHA, ref=1)

	def test_an_upload_begun_goes_on(self, world: World) -> None:
		ana = world.join("Ana")
		file = world.offer(ana)
		world.leave(ana, "lost")
		again = world.join("Ana", token=world.tokens[ana.id])
		assert world.offer(again) == file
		assert world.offer(again, size=6) != file

	def test_declined_by_the_only_one_it_was_for(self, world: World, host: Member) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		file = world.offer(ana, to_name="Ben")
		world.room.shelf.file_whole(file)
		assert world.say(ana, "decline", file=file) == world.say(host, "decline", file=file) == []
		assert FileGone(file) in world.say(ben, "decline", file=file)
		public = world.offer(ana)
		world.room.shelf.file_whole(public)
		assert world.say(ben, "decline", file=public) == []

	@pytest.mark.parametrize("word", ["decline", "cancel"])
	def test_what_was_handed_in_stays(self, word: str, world: World, host: Member) -> None:
		"""Whatever a host presses; her own offers, and those to everyone, she can take away."""
		ana = world.join("Ana")
		work = world.offer(ana, to_name=host.name)
		own, public = world.offer(host, to_name="Ana"), world.offer(ana)
		for file in (work, own, public):
			world.room.shelf.file_whole(file)
		assert not any(isinstance(effect, FileGone) for effect in world.say(host, word, file=work))
		assert world.heard(host, "error") and work in world.room.shelf.offers
		gone = [file for file in (own, public) if FileGone(file) in world.say(host, word, file=file)]
		assert gone == ([own, public] if word == "cancel" else [])
		assert FileGone(work) in world.say(ana, "cancel", file=work)

	def test_cancel(self, world: World, host: Member) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		file = world.offer(ana)
		world.room.shelf.file_whole(file)
		world.say(ben, "cancel", file=file)
		assert world.told[ben.id][-1]["code"] == "no_such_file"
		effects = world.say(ana, "cancel", file=file)
		assert effects[1] == FileGone(file) and world.heard(ben, "file_gone")
		second = world.offer(ana)
		assert FileGone(second) in world.say(host, "cancel", file=second), "the host may, too"

	def test_an_unfinished_one_was_known_where_another_server_had_it(self, world: World) -> None:
		ana, ben, cem = (world.join(name) for name in ("Ana", "Ben", "Cem"))
		world.say(ana, "cancel", file=world.offer(ana))
		assert world.heard(ana, "file_gone") and world.heard(ben, "file_gone")
		world.say(ana, "cancel", file=world.offer(ana, to_name="Ben"))
		assert len(world.heard(ben, "file_gone")) == 2 and len(world.heard(cem, "file_gone")) == 1

	def test_who_saved_it_is_counted_for_the_owner(self, world: World) -> None:
		ana, ben = world.join("Ana"), world.join("Ben")
		file = world.offer(ana)
		world.room.shelf.file_whole(file)
		for who in (ben, ben, world.join("Cleo")):  # who takes it twice has it once
			world.note(world.room.shelf.file_saved(file, who.id))
		assert [m["people"] for m in world.heard(ana, "file_saved")] == [1, 1, 2]
		assert not world.heard(ben, "file_saved")
		token, dan = world.tokens[ana.id], world.join("Dan")
		world.leave(ana, "lost")
		assert said(world.room.shelf.file_saved(file, dan.id)) == set()
		assert world.room.shelf.file_saved("ffff", ben.id) == []
		back = world.join("Ana", token=token)
		world.note(world.room.shelf.file_saved(file, ben.id))
		assert world.heard(back, "file_saved")[-1]["people"] == 3, "one took it while she was away"


# -------------------------------------------------------------------------------- anything at all


def said(effects: list[Effect]) -> set[str]:
	return {effect.message["type"] for effect in effects if isinstance(effect, Tell)}


def as_told(effects: list[Effect]) -> list[Effect]:
	"""Without what only goes on while the same server does: who asked for which pictures."""
	passing = (Reroute, SetRate)
	told = [effect for effect in effects if not isinstance(effect, passing)]
	return [one for one in told if not (isinstance(one, Tell) and one.message["type"] == "encode")]


class RoomMachine(RuleBasedStateMachine):
	"""Random people, valid and senseless messages, in any order and at any speed."""

	def __init__(self) -> None:
		super().__init__()
		self.world = World()
		self.ids: set[int] = set()
		self.owners: dict[str, str] = {}
		self.seen_tickets: list[tuple[str, str]] = []

	def pick(self, data: st.DataObject) -> Member:
		return data.draw(st.sampled_from(list(self.world.room.members.values())))

	@initialize()
	def host_comes(self) -> None:
		self.enter(self.world.join("Ms Lee", "host", "10.0.0.1"))

	def enter(self, member: Member) -> None:
		assert member.id not in self.ids, "a server gives no id twice"
		assert self.owners.get(member.name, member.name) == member.name
		self.ids.add(member.id)
		self.owners[member.name] = member.name

	@precondition(lambda self: len(self.world.room.members) < 8)
	@rule(
		name=st.sampled_from(["Ana", "ana", "Ben", "\u0410na", "Ana (2)", "", "x" * 40])
		| st.text(max_size=40),
		data=st.data(),
	)
	def joins(self, name: str, data: st.DataObject) -> None:
		tokens = list(self.world.tokens.values())
		token = data.draw(st.none() | st.sampled_from(tokens) | st.just("f" * 64))
		owned, _ = self.world.room.names.claim(token, self.world.now)
		holder = self.world.room.names.holder(token)
		last = holder.last if holder else 0
		member = self.world.join(name, token=token)
		assert not last or member.id == last, "what one had before the crash"
		if owned:
			assert member.name == owned
		else:
			assert member.name not in self.owners
		self.enter(member)

	@precondition(lambda self: len(self.world.room.members) > 1)
	@rule(data=st.data(), reason=st.sampled_from(["left", "lost"]))
	def leaves(self, data: st.DataObject, reason: str) -> None:
		member = self.pick(data)
		self.world.leave(member, reason)
		assert self.world.leave(member, reason) == [], "once"

	@precondition(lambda self: self.world.room.members)
	@rule(data=st.data())
	def says_something(self, data: st.DataObject) -> None:
		world, member = self.world, self.pick(data)
		kind = data.draw(st.sampled_from(sorted(set(CLIENT_MESSAGES) - {"end", "rename"})))
		ids = st.sampled_from([one.id for one in world.room.members.values()]) | st.integers(0, 99)
		files = st.sampled_from(["00ff", *world.room.shelf.offers])
		names = st.sampled_from([one.name for one in world.room.members.values()]) | st.just("Zoe")
		streams = st.dictionaries(
			ids.map(str),
			st.fixed_dictionaries({"layer": st.integers(0, 3), "fps": st.integers(1, 60)}),
			max_size=4,
		)
		choices = {
			"who": names if kind == "unban" else ids | st.just("all") if kind in ("mute", "lower") else ids,
			"what": st.sampled_from({"mute": ("mic", "camera"), "ask_share": ("camera",)}.get(kind, PERMITS)),
			"mode": st.sampled_from(DOORS),
			"file": files,
			"to_name": names,
			"streams": streams,
			"on": st.booleans(),
			"up": st.booleans(),
			"direction": st.sampled_from(["presenter", "viewer", "upload", "download"]),
			"plane": st.sampled_from(["screen", "files"]),
		}
		fields = {
			key: data.draw(choices[key]) if key in choices else value
			for key, value in wire_examples.CLIENT[kind].items()
			if f"{key}?" not in CLIENT_MESSAGES[kind] or data.draw(st.booleans())
		}
		role = member.role
		before, numbered = world.room.roster(), world.room.counter
		twin = loaded(world, world.exported()) if data.draw(st.integers(0, 4)) == 0 else None
		try:
			effects = world.say(member, kind, **fields)
		except PeerFault as fault:
			assert fault.kind in ("unexpected_message", "bad_ticket")
			assert world.room.roster() == before
			return
		if (kind in HOST_ONLY and role == "member") or (kind in HOSTS_ALONE and role != "host"):
			assert [effect.message["code"] for effect in effects] == ["not_allowed"]
		assert world.room.counter - numbered == (
			kind in ("chat", "private_chat", "reaction") and "error" not in said(effects)
		)
		self.check(member, kind, effects)
		if twin:
			message = parse_message(encode_line({"type": kind, **fields})[:-1], CLIENT_MESSAGES)
			again = twin.handle(member.id, message, world.now, 1e9 + world.now)
			assert as_told(again) == as_told(effects), "who goes on with a room does as the room would"
			assert as_json(twin.export(world.now)) == world.exported()

	@precondition(lambda self: len(self.world.room.members) > 3)
	@rule()
	def the_server_dies(self) -> None:
		world = self.world
		world.room = after_a_crash(world, world.kept)
		self.world.room.token = self.world.token  # which counts all that is given
		self.ids -= {claim.last for claim in world.room.names.people.values()}
		world.kept = world.exported()
		world.told.clear()

	def teardown(self) -> None:
		"""A crash loses nothing, and who loads a room has that room."""
		world = self.world
		ours = after_a_crash(world, world.exported()).export(0.0)
		assert after_a_crash(world, world.kept).export(0.0) == ours
		other = loaded(world, world.exported())
		assert as_json(other.export(world.now)) == world.exported()
		for member in world.room.members.values():
			assert other.welcome(other.members[member.id]) == world.room.welcome(member)
		for address in ("10.0.0.1", "10.0.0.9"):
			for token in (None, *world.tokens.values()):
				assert other.names.barred(address, token) == world.room.names.barred(address, token)

	def check(self, member: Member, kind: str, effects: list[Effect]) -> None:
		for effect in effects:
			if not isinstance(effect, Tell):
				continue
			message = effect.message
			if message["type"] == "private_chat":
				names = {self.name_of(ident) for ident in effect.to}
				assert names <= {message["from"], message["to_name"]}
			if message["type"] in ("chat", "private_chat", "reaction"):
				assert message["n"] == self.world.room.counter
			if "ref" in message:
				assert effect.to == (member.id,)
			if message["type"] == "ticket":
				self.seen_tickets.append((message["ticket"], kind))
			if message["type"] == "error":
				assert effect.to == (member.id,)

	def name_of(self, ident: int) -> str:
		return self.world.room.members[ident].name

	@precondition(lambda self: self.world.room.members)
	@rule(data=st.data(), start=st.booleans())
	def shares(self, data: st.DataObject, start: bool) -> None:
		room, member = self.world.room, self.pick(data)
		busy = room.planes.presenter not in (0, member.id)
		if not start:
			self.world.note(room.planes.share_stop(member.id))
			return
		try:
			self.world.note(room.planes.share_start(member.id))
			assert not busy
		except Refused:
			assert busy or not room.classroom.may(member, "share")

	@rule(data=st.data(), plane=st.sampled_from(["screen", "files"]))
	def redeems(self, data: st.DataObject, plane: str) -> None:
		if not self.seen_tickets:
			return
		ticket, _ = data.draw(st.sampled_from(self.seen_tickets))
		try:
			found = self.world.room.planes.redeem(ticket, plane, self.world.now)
		except PeerFault:
			return
		assert found.member in self.world.room.members and found.plane == plane
		with pytest.raises(PeerFault):
			self.world.room.planes.redeem(ticket, plane, self.world.now)

	@rule(seconds=st.sampled_from([0.01, 1.0, 2.5, 11.0, 700.0]))
	def time_passes(self, seconds: float) -> None:
		self.world.now += seconds
		self.world.note(self.world.room.tick(self.world.now))
		assert self.world.room.tick(self.world.now) == []

	@rule(data=st.data())
	def uploads(self, data: st.DataObject) -> None:
		if self.world.room.shelf.offers:
			file = data.draw(st.sampled_from(list(self.world.room.shelf.offers)))
			self.world.note(self.world.room.shelf.file_whole(file))

	@invariant()
	def names_are_unique_by_look(self) -> None:
		looks = [skeleton(one.name) for one in self.world.room.members.values()]
		assert len(looks) == len(set(looks))
		assert all(0 < len(one.name) <= MAX_NAME for one in self.world.room.members.values())

	@invariant()
	def the_presenter_is_here_and_alone(self) -> None:
		sharing = [one.id for one in self.world.room.members.values() if one.sharing]
		assert sharing == ([self.world.room.planes.presenter] if self.world.room.planes.presenter else [])

	@invariant()
	def only_those_present_are_watched(self) -> None:
		room = self.world.room
		for member in room.members.values():
			wanted = room.streams.allocator.people[member.id].subscriptions
			assert member.id not in wanted and set(wanted) <= set(room.members)

	@invariant()
	def senders_are_seen_by_those_who_see_them(self) -> None:
		people = self.world.room.streams.allocator.people
		for sender in people:
			seen = {
				ident: one.allocation[sender] for ident, one in people.items() if sender in one.allocation
			}
			assert self.world.room.streams.allocator.routes(sender) == seen

	@invariant()
	def senders_know_what_is_wanted(self) -> None:
		world = self.world
		for member in world.room.members.values():
			said = world.heard(member, "encode")
			known = {int(layer): fps for layer, fps in said[-1]["layers"].items()} if said else {}
			wanted = {layer: 0 for layer, _ in world.room.streams.allocator.routes(member.id).values()}
			for layer, fps in world.room.streams.allocator.routes(member.id).values():
				wanted[layer] = max(wanted[layer], fps)
			assert {layer: known.get(layer) for layer in wanted} == wanted

	@invariant()
	def the_roster_is_what_everyone_was_told(self) -> None:
		"""Everyone's picture, built from join, leave and state alone, is the truth."""
		world = self.world
		for member in world.room.members.values():
			picture: dict[int, Json] = {}
			for message in world.told.get(member.id, []):
				if message["type"] == "leave":
					picture.pop(message["id"], None)
				elif message["type"] in ("join", "state"):
					picture[message["user"]["id"]] = message["user"]
			assert picture == {ident: world.room.members[ident].message() for ident in picture}


TestRoomMachine = pytest.mark.timeout(400)(pytest.mark.long(RoomMachine.TestCase))
