"""A meeting goes on after its server died, its cable was out, its laptop slept, its address changed."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from headless import PROGRAM, ROOT, Headless
from lan import Lan
from meetings import LOOPBACK, SILENT, Passage, drained, enter, host, join, serve, stats, switch
from processes import child_in_role
from waiting import best_of, wait_until

import connectsphere as cs

Starts = Callable[..., Headless]
NOTICED = 5.0  # seconds in which a dead host shows
BACK = 15.0  # seconds in which everyone is back after the host is
LONG = os.environ.get("CONNECTSPHERE_LONG_TESTS") == "1"


# -- the room: resume tokens and what is kept --------------------------------------------------------------


def a_room() -> cs.Room:
	numbers = iter(range(10_000))
	return cs.Room("Physics", "Ana", "ab" * 16, lambda size: f"{next(numbers):0{2 * size}x}")


def spared(room: cs.Room, token: str, now: float, name: str = "Ben") -> bool:
	claim = room.names.holder(token)
	return claim is not None and claim.name == name and (claim.passed or now < claim.until)


def test_a_token_is_good_until_its_successor_is_acknowledged_and_no_longer() -> None:
	room = a_room()
	ben, first, _ = room.join("Ben", "member", "10.0.0.2", None, 0.0)
	room.leave(ben.id, "lost", 1.0)
	ben, second, _ = room.join("Ben", "member", "10.0.0.2", first, 2.0)
	assert ben.name == "Ben"
	assert spared(room, first, 3.0) and spared(room, second, 3.0)
	room.handle(ben.id, {"type": "resumed"}, 4.0, 0.0)
	assert not spared(room, first, 5.0)
	assert room.names.claim(first, 5.0) == (None, False), "it no longer owns the name either"
	assert spared(room, second, 5.0)


def test_a_successor_that_never_arrived_dies_when_the_old_token_is_used_again() -> None:
	room = a_room()
	_, first, _ = room.join("Ben", "member", "10.0.0.2", None, 0.0)
	_, unheard, _ = room.join("Ben", "member", "10.0.0.2", first, 1.0)
	ben, third, effects = room.join("Ben", "member", "10.0.0.2", first, 2.0)
	assert not spared(room, unheard, 3.0)
	assert spared(room, third, 3.0)
	assert [one.name for one in room.members.values()] == ["Ben"]
	assert isinstance(effects[0], cs.Expel) and effects[0].id != ben.id


def test_a_token_spares_the_pin_no_more_after_a_removal() -> None:
	room = a_room()
	ana, _, _ = room.join("Ana", "host", "10.0.0.1", None, 0.0)
	_, first, _ = room.join("Ben", "member", "10.0.0.2", None, 0.0)
	again, second, _ = room.join("Ben", "member", "10.0.0.2", first, 1.0)
	room.handle(ana.id, {"type": "remove", "who": again.id}, 2.0, 0.0)
	assert not spared(room, first, 2.0) and not spared(room, second, 2.0)
	room.handle(ana.id, {"type": "unban", "who": "Ben"}, 3.0, 0.0)
	assert room.names.claim(second, 3.0) == ("Ben", False) and not spared(room, second, 3.0), (
		"but for the name"
	)


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("new_pin", [False, True])
@pytest.mark.parametrize("way", ["is in", "lost", "lost long ago", "left", "left long ago"])
def test_who_was_in_is_asked_for_no_pin_but_a_new_one(way: str, new_pin: bool, crash: bool) -> None:
	"""For as long as the meeting runs; a new PIN is asked of who has no place in it any more."""
	room, at = a_room(), 1_700.0 if "long" in way else 1_100.0
	ana, _, _ = room.join("Ana", "host", "10.0.0.1", None, 1.0)
	ben, token, _ = room.join("Ben", "member", "10.0.0.2", None, 2.0)
	if way != "is in":
		room.leave(ben.id, way.split()[0], 1_000.0)
	if new_pin:
		room.handle(ana.id, {"type": "new_pin"}, 1_001.0, 0.0)
	if crash:
		state, room = room.export(1_002.0), cs.Room("", "", "", lambda size: "f" * 2 * size)
		room.load(state, 1_002.0)
		room.outlive(1_002.0)
	assert spared(room, token, at) == (not new_pin or way in ("is in", "lost"))
	assert (at < room.names.people[ben.person].until) == (way in ("is in", "lost")), "a place is kept"
	again, second, _ = room.join("Ben", "member", "10.0.0.2", token, at)  # by the new PIN, where it is asked
	room.leave(again.id, "left", at + 1)
	assert spared(room, second, at + 9_000.0)


def test_a_token_is_for_one_name_and_never_makes_a_host() -> None:
	room = a_room()
	host, token, _ = room.join("Ana", "host", "10.0.0.1", None, 0.0)
	room.leave(host.id, "lost", 1.0)
	back, _, _ = room.join("Ben", "member", "10.0.0.1", token, 3.0)
	assert (back.name, back.role) == ("Ana", "member"), "it says who comes, whatever that one says"


def kept_room(room: cs.Room, away: float, now: float) -> cs.Room:
	"""`room` at 100 s as a new server has it that starts `away` seconds after the old one died, at `now`."""
	other = cs.Room("", "", "", lambda size: "0" * 2 * size)
	other.load(room.export(100.0), now - away)
	other.outlive(now)
	return other


def test_a_new_server_knows_names_tokens_bans_and_chat() -> None:
	room = a_room()
	ana, _, _ = room.join("Ana", "host", "10.0.0.1", None, 0.0)
	ben, token, _ = room.join("Ben", "member", "10.0.0.2", None, 0.0)
	eve, evil, _ = room.join("Eve", "member", "10.0.0.9", None, 0.0)
	cara, lost, _ = room.join("Cara", "member", "10.0.0.3", None, 0.0)
	room.handle(ben.id, {"type": "chat", "text": "one"}, 1.0, 50.0)
	room.handle(ben.id, {"type": "private_chat", "text": "two", "to_name": "Ana"}, 2.0, 51.0)
	room.handle(ana.id, {"type": "remove", "who": eve.id}, 3.0, 52.0)
	room.leave(cara.id, "lost", 40.0)
	again = kept_room(room, 30.0, 5_000.0)
	assert spared(again, token, 5_599.0) and spared(again, lost, 5_001.0, "Cara")
	places = {claim.name: claim.until for claim in again.names.people.values()}
	assert places["Ben"] == 5_600.0 and places["Cara"] == 5_000.0 + 600 - 60 - 30
	assert again.names.barred("10.0.0.9", None) == again.names.barred("10.0.0.7", evil) == "removed"
	back, _, _ = again.join("Ben", "member", "10.0.0.2", token, 5_001.0)
	stranger, _, _ = again.join("Ben", "member", "10.0.0.4", None, 5_001.0)
	assert (back.name, stranger.name) == ("Ben", "Ben (2)")
	assert back.id == ben.id and stranger.id > cara.id, "no id is given to two people of a meeting"
	welcome = again.welcome(back)
	assert [line["text"] for line in welcome["chat"]] == ["one"]
	assert [line["text"] for line in welcome["private"]] == ["two"]
	effects = again.handle(back.id, {"type": "chat", "text": "three"}, 5_002.0, 60.0)
	assert again.chat.lines[max(again.chat.lines)].text == "three" and max(again.chat.lines) > 2
	assert isinstance(effects[0], cs.Keep)


def test_what_is_said_is_kept_before_it_is_told() -> None:
	room = a_room()
	ben, _, effects = room.join("Ben", "member", "10.0.0.2", None, 0.0)
	kinds = [type(effect) for effect in effects]
	assert kinds.index(cs.Keep) < kinds.index(cs.Tell)
	for message in ({"type": "chat", "text": "x"}, {"type": "private_chat", "text": "x", "to_name": "Ben"}):
		assert isinstance(room.handle(ben.id, message, 1.0, 0.0)[0], cs.Keep)


# -- the journal -------------------------------------------------------------------------------------------


@pytest.fixture
def identity(tmp_path: Path) -> cs.Identity:
	return cs.load_identity(tmp_path)


STATE = {"meeting": "x", "lines": {"1": {"text": "a secret line"}}, "people": {}}
MORE = {"counter": 2, "lines": {"2": {"text": "two"}}}


def journal_file(identity: cs.Identity) -> Path:
	return identity.path.parent / "journal" / "9000.sealed"


def written(identity: cs.Identity, *more: dict[str, Any]) -> cs.Journal:
	journal = cs.Journal(identity, 9_000)
	journal.write(STATE)
	for record in more:
		journal.append(record)
	return journal


def test_a_journal_gives_back_what_was_written(identity: cs.Identity) -> None:
	written(identity, MORE, {"people": {"1": None}}).close()
	lines = {**STATE["lines"], **MORE["lines"]}  # type: ignore[dict-item]
	assert cs.Journal(identity, 9_000).read() == {
		**STATE,
		"counter": 2,
		"lines": lines,
		"people": {"1": None},
	}
	assert cs.Journal(identity, 9_005).read() == {}
	assert cs.Journal(identity, 9_000, "10.0.0.7").read() == {}, "another meeting's"
	assert cs.Journal(identity, 9_000, None, "Physics").read() == {}, "another meeting's"


def test_a_journal_is_private_and_says_nothing_by_itself(identity: cs.Identity) -> None:
	journal = written(identity)
	path = journal_file(identity)
	assert stat.S_IMODE(path.stat().st_mode) == 0o600
	assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
	assert b"secret" not in path.read_bytes() and b"line" not in path.read_bytes()
	journal.delete()
	assert not path.exists()
	journal.delete()


@pytest.mark.parametrize("cut", [2, 5, 17, 40])
def test_a_record_that_was_cut_off_does_not_count(identity: cs.Identity, cut: int) -> None:
	written(identity, MORE).close()
	path = journal_file(identity)
	path.write_bytes(path.read_bytes()[:-cut])
	assert cs.Journal(identity, 9_000).read() == STATE


def test_a_changed_or_foreign_journal_is_not_believed(identity: cs.Identity, tmp_path: Path) -> None:
	written(identity).close()
	path = journal_file(identity)
	data = bytearray(path.read_bytes())
	data[20] ^= 1
	path.write_bytes(data)
	assert cs.Journal(identity, 9_000).read() == {}
	other_home = tmp_path / "other"
	other_home.mkdir()
	other = cs.load_identity(other_home)
	written(other).close()
	path.write_bytes(journal_file(other).read_bytes())
	assert cs.Journal(identity, 9_000).read() == {}


def test_a_disk_that_fails_costs_the_journal_only(
	identity: cs.Identity, caplog: pytest.LogCaptureFixture
) -> None:
	(identity.path.parent / "journal").write_text("in the way")
	journal = written(identity, MORE)
	assert "not kept over a crash" in caplog.text
	journal.delete()


Keep = Callable[..., cs.Keeper]


@pytest.fixture
def posted() -> list[Callable[[], None]]:
	"""What is to be called on the control thread."""
	return []


@pytest.fixture
def keep(identity: cs.Identity, posted: list[Callable[[], None]]) -> Iterator[Keep]:
	made: list[cs.Keeper] = []

	def start(room: cs.Room, *facts: str) -> cs.Keeper:
		journal = cs.Journal(identity, 9_000, None, *facts)
		loop: Any = SimpleNamespace(counters=cs.Counters(), post=posted.append)
		made.append(cs.Keeper(room, journal, loop))
		made[-1].start()
		return made[-1]

	yield start
	for one in made:
		one.close()


def say(room: cs.Room, keeper: cs.Keeper, ident: int, text: str) -> None:
	effects = room.handle(ident, {"type": "chat", "text": text}, time.monotonic(), 0.0)
	keeper.keep(*(effect for effect in effects if isinstance(effect, cs.Keep)))


def test_a_journal_is_begun_anew_when_it_has_grown(
	identity: cs.Identity, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
	monkeypatch.setattr(cs, "TEXT_OCTETS", (1 << 30, 0))
	room = a_room()
	keeper = keep(room)
	ben, _, effects = room.join("Ben", "member", "10.0.0.2", None, 0.0)
	keeper.keep(*(effect for effect in effects if isinstance(effect, cs.Keep)))
	for n in range(3_000):
		room.names.people[ben.person].buckets.clear()
		say(room, keeper, ben.id, f"{n} {'x' * 3_000}")
	keeper._written.wait(10.0)
	keeper.tick()
	keeper._written.wait(10.0)
	assert journal_file(identity).stat().st_size < 6 << 20
	again = a_room()
	keep(again)
	assert again.chat.lines == room.chat.lines


def test_a_journal_that_a_full_disk_ended_is_begun_anew(
	identity: cs.Identity, keep: Keep, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
	room = a_room()
	keeper = keep(room)
	ben, *_ = room.join("Ben", "member", "10.0.0.2", None, 0.0)

	def full(*_: Any) -> None:
		raise OSError(errno.ENOSPC, "full")

	with monkeypatch.context() as patch:
		patch.setattr(cs, "write_all", full)
		patch.setattr(cs, "write_private", full)
		for text in ("said", "while", "it is full"):
			say(room, keeper, ben.id, text)
			keeper.keep()
			wait_until(keeper._written.is_set)
	assert caplog.text.count("not kept over a crash") == 1
	keeper.keep()
	wait_until(keeper._written.is_set)
	say(room, keeper, ben.id, "and then")
	wait_until(keeper._written.is_set)
	again = a_room()
	keep(again)
	assert again.chat.lines == room.chat.lines


def test_a_disk_that_is_slow_does_not_stop_the_meeting(
	identity: cs.Identity, keep: Keep, posted: list[Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
	room = a_room()
	keeper = keep(room)
	ben, _, effects = room.join("Ben", "member", "10.0.0.2", None, 0.0)
	keeper.keep(*(effect for effect in effects if isinstance(effect, cs.Keep)))
	go, append = threading.Event(), keeper._journal.append
	monkeypatch.setattr(keeper._journal, "append", lambda changes: (go.wait(10.0), append(changes)))
	began = time.monotonic()
	for n in range(30):
		say(room, keeper, ben.id, str(n))
	assert time.monotonic() - began < 5, "it waits for nothing"
	assert len(keeper._disk._mail) <= keeper.MOST, "nothing piles up"
	assert not posted
	go.set()
	wait_until(lambda: posted, what="what was missed is kept as soon as the disk is free")
	posted.pop()()
	keeper._written.wait(10.0)
	again = a_room()
	keep(again)
	assert again.chat.lines == room.chat.lines, "it is late, and all there"


def test_a_busy_disk_takes_a_tenth_of_the_servers_time(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
	"""Whatever is to be kept, and however much of it somebody makes."""
	room = a_room()
	keeper = keep(room)
	ben, *_ = room.join("Ben", "member", "10.0.0.2", None, 0.0)
	append = keeper._journal.append
	monkeypatch.setattr(keeper._journal, "append", lambda changes: (time.sleep(0.02), append(changes)))

	def waits_little() -> bool:
		waited, until = 0.0, time.monotonic() + 1.0
		while (began := time.monotonic()) < until:
			room.names.people[ben.person].buckets.clear()
			say(room, keeper, ben.id, "x")
			waited += time.monotonic() - began
			time.sleep(0.005)
		return waited < 0.3  # 0.1 s, and a tenth; 0.8 where each is waited for

	assert best_of(3, waits_little)


def test_the_server_goes_on_while_its_journal_is_begun_anew(
	identity: cs.Identity, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
	room = a_room()
	keeper = keep(room)
	ben, *_ = room.join("Ben", "member", "10.0.0.2", None, 0.0)
	go, write = threading.Event(), keeper._journal.write
	monkeypatch.setattr(keeper._journal, "write", lambda state: (go.wait(10.0), write(state)))
	keeper._journal._size = 5 << 20
	began = time.monotonic()
	keeper.tick()
	assert time.monotonic() - began < 5, "it waits for nothing"
	say(room, keeper, ben.id, "meanwhile")
	go.set()
	keeper._written.wait(10.0)
	again = a_room()
	keep(again)
	assert again.chat.lines == room.chat.lines


@pytest.mark.parametrize(
	("title", "pin", "age", "goes_on"),
	[
		("Physics", "123456", 0, True),
		("Physics", "123456", 590, True),
		("Physics", "123456", 610, False),
		("Physics", "123456", -3e8, True),
		("Physics", "654321", 0, False),
		("Physics", "", 0, False),
		("Maths", "123456", 0, False),
	],
)
def test_which_meeting_goes_on(
	keep: Keep, monkeypatch: pytest.MonkeyPatch, title: str, pin: str, age: int, goes_on: bool
) -> None:
	"""Also where the clock was set back since; then nobody's place is kept for longer."""
	room = a_room()
	room.join("Ana", "member", "10.0.0.1", None, time.monotonic())
	keep(room, "Physics", "123456")
	new = cs.Room(title, "Ana", "cd" * 16, lambda size: "0" * 2 * size)
	later = time.time() + age
	monkeypatch.setattr(time, "time", lambda: later)
	keep(new, title, pin)
	assert new.meeting == ("ab" * 16 if goes_on else "cd" * 16)
	for claim in new.names.people.values():
		assert claim.until <= time.monotonic() + cs.RESUME_SECONDS and 0 <= claim.stayed < 600


# -- devices that fail -------------------------------------------------------------------------------------


class Gadget(cs.DeviceThread):
	"""A device of the test's own: each use takes the next of `fates`, "works" or "fails"."""

	_FIRST_PAUSE = 0.01
	_LONGEST_PAUSE = 0.04

	def __init__(self, fates: list[str]) -> None:
		self.told: list[tuple[str, str]] = []
		self.changed = threading.Condition()
		super().__init__("mic", cs.ClientOptions(), lambda *_: None, self._tell)
		self.fates = iter(fates)
		self.uses = 0

	def _tell(self, what: str, state: str, reason: str) -> None:
		with self.changed:
			self.told.append((state, reason))
			self.changed.notify_all()

	def _use(self) -> None:
		self.uses += 1
		fate = next(self.fates, "stays")
		if fate == "missing":
			raise cs.DeviceError("It is not there.")
		self._live()
		if fate == "pulled out":
			raise cs.DeviceError("It was pulled out.")
		with self._news:
			self._news.wait_for(lambda: not self._going)

	def wait(self, *states: str) -> None:
		with self.changed:
			good = self.changed.wait_for(lambda: [state for state, _ in self.told] == list(states), 5.0)
		assert good, self.told


@pytest.fixture
def gadget() -> Iterator[Callable[..., Gadget]]:
	made: list[Gadget] = []

	def make(*fates: str) -> Gadget:
		made.append(Gadget(list(fates)))
		return made[-1]

	yield make
	for one in made:
		one.close()


def test_a_device_that_was_pulled_out_comes_back(gadget: Callable[..., Gadget]) -> None:
	one = gadget("pulled out", "missing", "missing", "stays")
	one.turn(True)
	one.wait("live", "failed", "live")
	one.turn(False)
	one.wait("live", "failed", "live", "off")


def test_a_device_that_is_turned_off_is_not_tried_again(gadget: Callable[..., Gadget]) -> None:
	one = gadget("pulled out", *["missing"] * 1_000)
	one.turn(True)
	one.wait("live", "failed")
	assert one.on
	one.turn(False)
	one.wait("live", "failed", "off")
	uses = one.uses
	one.turn(False)
	one.wait("live", "failed", "off", "off")
	assert one.uses == uses


def test_a_device_that_never_was_live_is_not_tried_again(gadget: Callable[..., Gadget]) -> None:
	one = gadget("missing", "stays")
	one.turn(True)
	one.wait("failed")
	assert not one.on
	one.turn(False)
	one.wait("failed", "off")
	assert one.uses == 1


def test_a_speaker_that_was_pulled_out_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
	told: list[str] = []
	changed = threading.Condition()
	opened = iter(["breaks", "missing", "works"])

	class FakeSpeaker:
		def __init__(self, fate: str) -> None:
			self.fate, self.blocks = fate, 0

		def write(self, block: cs.Samples) -> None:
			time.sleep(cs.BLOCK_SECONDS / 4)
			self.blocks += 1
			if self.fate == "breaks" and self.blocks > 3:
				raise cs.DeviceError("pulled out")

		def close(self) -> None:
			pass

	def open_speaker(spec: str, start: float) -> FakeSpeaker:
		fate = "stand-in" if spec == "none" else next(opened)
		if fate == "missing":
			raise cs.DeviceError("not there")
		return FakeSpeaker(fate)

	def on_device(what: str, state: str, reason: str) -> None:
		with changed:
			told.append(f"{what} {state}")
			changed.notify_all()

	monkeypatch.setattr(cs, "open_speaker", open_speaker)
	options = cs.ClientOptions(speaker="default")
	media = cs.MediaManager(options, cs.Counters(), on_device, lambda ident: None)
	monkeypatch.setattr(media, "_next_block", lambda: None)
	player = cs.Worker("player", lambda worker: media._play(worker, "default", time.monotonic())).start()
	with changed:
		assert changed.wait_for(lambda: len(told) == 3, 8.0)
	player.close()
	assert told == ["speaker live", "speaker failed", "speaker live"]


# -- the server dies ---------------------------------------------------------------------------------------


def texts(one: Headless) -> list[str]:
	return [event["text"] for event in one.seen("chat")]


def names(one: Headless) -> list[str]:
	return sorted(user["name"] for user in one.seen("users")[-1]["users"])


def kill_server(server: Headless) -> None:
	server.process.kill()
	server.process.wait()


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc")


def test_a_server_that_was_killed_and_started_again(meeting: Starts) -> None:
	facts = ("--title", "Physics", "--name", "Lab", "--pin", "314159")
	server, base = serve(meeting, *facts)
	people = [join(meeting, base, name, "--pin", "314159") for name in ("Ana", "Ben", "Cara")]
	ana, ben, cara = people
	ids = {one.seen("joined")[0]["name"]: one.seen("joined")[0]["id"] for one in people}
	ben.send(do="chat", text="before")
	ana.send(do="private", to="Ben", text="for Ben")
	for one in people:
		one.wait("chat", text="before")
	ben.wait("private", text="for Ben")
	kill_server(server)
	killed = time.monotonic()
	for one in people:
		one.wait("reconnecting", timeout=NOTICED)
	assert time.monotonic() - killed < NOTICED
	cara.send(do="chat", text="typed while it was away")
	serve(meeting, *facts, base=base, home=server.home)
	back = time.monotonic()
	for one in people:
		one.wait("reconnected", timeout=BACK)
	print(f"three clients back {time.monotonic() - back:.1f} s after the server")
	ana.wait("chat", text="typed while it was away")
	ana.send(do="chat", text="after")
	dan = join(meeting, base, "Dan", "--pin", "314159")
	for one in (*people, dan):
		one.wait("chat", text="after")
		one.wait("users", users=lambda users: len(users) == 4)
		assert names(one) == ["Ana", "Ben", "Cara", "Dan"]
		assert texts(one) == ["before", "typed while it was away", "after"]
	assert [event["text"] for event in ben.seen("private")] == ["for Ben"]
	users = {user["name"]: user["id"] for user in dan.seen("users")[-1]["users"]}
	assert users.items() > ids.items() and users["Dan"] > max(ids.values())


@pytest.fixture
def passage(meeting: Starts) -> Iterator[tuple[Headless, Passage]]:
	"""A host with a PIN, and a way to her that can be cut."""
	lee, base = host(meeting, "--pin", "4711", name="Ms Lee")
	way = Passage(base)
	yield lee, way
	way.close()


@pytest.fixture
def ana(passage: tuple[Headless, Passage], tmp_path: Path) -> Iterator[cs.MeetingController]:
	"""A pupil in this process, who has come that way."""
	lee, way = passage
	devices = {"camera": "pattern", "mic": "tone", "speaker": "none"}
	base = lee.seen("serving")[0]["port"]
	one = cs.MeetingController(cs.ClientOptions("Ana", "4711", way.at, base, **devices), tmp_path)
	try:
		one.start()
		yield one
	finally:
		one.close()


def test_who_comes_back_does_what_was_ordered_of_all_meanwhile(
	passage: tuple[Headless, Passage], ana: cs.MeetingController
) -> None:
	lee, way = passage
	for command in ({"do": "mic", "on": True}, {"do": "camera", "on": True}, {"do": "hand", "up": True}):
		ana.do(command)
	lee.wait("state", name="Ana", mic=True, camera=True, hand=True)
	way.cut()
	lee.wait("leave", name="Ana", reason="lost")
	for number, order in enumerate(("mute", "mute", "lower")):
		lee.send(do=order, who="all", ref=number, **{"what": "camera"} if number else {})
		lee.wait("ok", ref=number)
	wait_until(lambda: ana.snapshot().link == "reconnecting")
	way.mend()
	lee.wait("join", name="Ana")
	wait_until(lambda: {ana.snapshot().devices[what] for what in ("mic", "camera")} == {"off"})
	lee.wait("state", name="Ana", mic=False, camera=False, hand=False)
	wait_until(lambda: not any(map(ana.snapshot().wants, ("mic", "camera", "hand"))))


@pytest.mark.parametrize("stopped", [False, True])
def test_a_camera_that_rests_while_its_owner_shares_is_stopped_with_all(
	passage: tuple[Headless, Passage], ana: cs.MeetingController, stopped: bool
) -> None:
	"""It comes back by itself when the share ends, unless it was stopped meanwhile."""
	lee, _ = passage
	ana.do({"do": "camera", "on": True})
	lee.wait("state", name="Ana", camera=True)
	ana.do({"do": "share", "on": True, "source": "pattern"})
	lee.wait("state", name="Ana", sharing=True, camera=False)
	if stopped:
		lee.send(do="mute", who="all", what="camera")
		wait_until(lambda: any(one["event"] == "muted" for one in drained(ana)))
	ana.do({"do": "share", "on": False})
	lee.wait("state", name="Ana", sharing=False)
	ana.do({"do": "chat", "text": "over"})
	lee.wait("chat", text="over")
	assert ana.snapshot().wants("camera") is not stopped


def test_a_cohost_has_the_pin_that_holds_whenever_it_was_made(
	passage: tuple[Headless, Passage], meeting: Starts
) -> None:
	lee, way = passage
	base = lee.seen("serving")[0]["port"]

	def renewed(number: int) -> str:
		lee.send(do="new_pin", ref=number)
		return str(lee.wait("door", ref=number)["pin"])

	bea = join(meeting, base, "Bea", "--pin", "4711", at=way.at)
	pin = renewed(1)
	assert not bea.seen("door")
	lee.send(do="cohost", who="Bea", on=True)
	bea.wait("door", pin=pin)
	way.cut()
	lee.wait("leave", name="Bea")
	pin = renewed(2)
	way.mend()
	bea.wait("door", pin=pin)
	way.cut()
	lee.wait("leave", name="Bea")
	way.mend()
	bea.wait("reconnected")
	bea.send(do="chat", text="back", ref=9)
	bea.wait("chat", ref=9)
	assert len(bea.seen("door")) == 2, "it is told once"
	assert [one["pin"] for one in lee.seen("door")][1:] == [pin]


def test_the_journal_ends_with_the_meeting(meeting: Starts) -> None:
	server, base = serve(meeting, "--title", "Physics")
	ana = join(meeting, base, "Ana")
	path = server.home / "journal" / f"{LOOPBACK}-{base}.sealed"
	assert path.exists()
	server.process.terminate()
	ana.wait("ended")
	assert server.process.wait(8) == 0
	assert not path.exists()


def kill_server_of(host: Headless) -> None:
	os.kill(child_in_role(host.process.pid, "--serve-child"), signal.SIGKILL)


@needs_proc
def test_a_hosted_meeting_whose_server_dies_goes_on(meeting: Starts) -> None:
	ana, base = host(meeting, "--mic", "tone", "--title", "Physics", "--camera", "pattern")
	ben = join(meeting, base, "Ben", "--camera", "pattern")
	switch(ana, "mic", True)
	ids = {one: one.seen("joined")[0]["id"] for one in (ana, ben)}
	for one in (ana, ben):
		switch(one, "camera", True)
		ben.wait("video_start", id=ids[one])
	ana.send(do="chat", text="before")
	ben.wait("chat", text="before")
	kill_server_of(ana)
	died = time.monotonic()
	for one in (ana, ben):
		one.wait("reconnecting", timeout=NOTICED)
		one.wait("reconnected", timeout=BACK)
	took = time.monotonic() - died
	print(f"a hosted meeting was back {took:.1f} s after its server was killed")
	assert took < BACK
	until_heard(ben, 5.0)
	ana.send(do="mute", who="all")
	assert "error" not in {event["event"] for event in ana.events}
	assert {user["name"]: user["role"] for user in ana.seen("users")[-1]["users"]} == {
		"Ana": "host",
		"Ben": "member",
	}
	ben.send(do="chat", text="after")
	for one in (ana, ben):
		one.wait("chat", text="after")
	assert texts(ben) == texts(ana) == ["before", "after"]
	users = ben.seen("users")[-1]["users"]
	assert {user["id"]: user["camera"] for user in users} == dict.fromkeys(ids.values(), True)
	for one in (ana, ben):
		assert [event["id"] for event in one.seen("video_start")] == [*ids.values()], "once, not again"
	ben.process.kill()  # who comes back without a camera is not shown with one
	kill_server_of(ana)
	ana.wait("reconnected", timeout=BACK)
	again = join(meeting, base, "Ben", home=ben.home)
	assert again.seen("joined")[0]["id"] == ids[ben]
	ana.wait("video_stop", id=ids[ben])


def time_of_a_start() -> float:
	"""How long this program takes to start on this machine, as busy as it is."""
	start = time.monotonic()
	subprocess.run([*PROGRAM, "--version"], cwd=ROOT, check=True, capture_output=True, timeout=30)
	return time.monotonic() - start


def until_heard(one: Headless, patience: float) -> float:
	"""Wait until `one` hears something and new blocks come in; the seconds that it took."""
	start = time.monotonic()
	received = None
	while time.monotonic() - start < patience:
		figures = stats(one)["audio"]
		if received is not None and figures["received"] > received and figures["level_db"] > -40:
			return time.monotonic() - start
		received = figures["received"]
		time.sleep(0.05)
	raise AssertionError(f"nothing heard within {patience} s: {figures}")


@needs_proc
@pytest.mark.parametrize(("how", "noticed"), [(signal.SIGKILL, 0.0), (signal.SIGSTOP, 5.0)])
def test_a_mixer_that_dies_or_hangs_is_replaced_and_sound_goes_on(
	meeting: Starts, how: int, noticed: float
) -> None:
	ana, base = host(meeting, "--mic", "tone")
	ben = join(meeting, base, "Ben")
	switch(ana, "mic", True)
	until_heard(ben, 5.0)
	time.sleep(3.0)  # a child that lived for less is started with a pause
	os.kill(child_in_role(ana.process.pid, "--mixer"), how)
	time.sleep(0.2)  # what the jitter buffer holds is played out
	took = until_heard(ben, 6.0 + noticed) + 0.2
	start = time_of_a_start()
	print(
		f"sound was back {took:.2f} s after the mixer was stopped; a start takes {start:.2f} s here and now"
	)
	assert took < 1.5 + start + noticed  # a start takes 0.5 s on a machine that does nothing else
	assert not ben.seen("reconnecting")


# -- in one process: many clients, and one that has forgotten the PIN --------------------------------------


class Crowd:
	"""Clients in this process; their events go to lists."""

	def __init__(self, home: Path, base: int, names: list[str], pin: str = "") -> None:
		options = cs.ClientOptions(
			pin=pin, address=LOOPBACK, port=base, bind=LOOPBACK, camera="none", mic="none", speaker="none"
		)
		self.people = []
		for name in names:
			own = home / name
			own.mkdir(parents=True)
			self.people.append(cs.MeetingController(cs.replace(options, name=name), own))
		for one in self.people:
			one.start()
			self._wait_for(one, "joined", time.monotonic() + 15.0)

	def wait(self, event: str, patience: float) -> None:
		"""Wait for the next `event` of each; what comes before it is passed over."""
		until = time.monotonic() + patience
		for one in self.people:
			self._wait_for(one, event, until)

	def _wait_for(self, one: cs.MeetingController, event: str, until: float) -> None:
		while (told := one.gui_queue.get(timeout=max(0.01, until - time.monotonic())))["event"] != event:
			assert told["event"] not in ("denied", "ended"), told

	def close(self) -> None:
		for one in self.people:
			one.close()


def test_thirty_clients_come_back_under_their_names_without_the_pin(meeting: Starts, tmp_path: Path) -> None:
	facts = ("--title", "Physics", "--name", "Lab", "--pin", "314159")
	server, base = serve(meeting, *facts)
	crowd = Crowd(tmp_path / "crowd", base, [f"Pupil {n:02}" for n in range(30)], "314159")
	try:
		for one in crowd.people:
			one.options.pin = ""  # from here on nobody could prove it
		kill_server(server)
		crowd.wait("reconnecting", NOTICED)
		serve(meeting, *facts, base=base, home=server.home)
		back = time.monotonic()
		crowd.wait("reconnected", BACK)
		took = time.monotonic() - back
		print(f"30 clients back {took:.1f} s after the server")
		ana = join(meeting, base, "Ana", "--pin", "314159")
		ana.wait("users")
		assert names(ana) == ["Ana", *[f"Pupil {n:02}" for n in range(30)]]
		assert took < BACK
	finally:
		crowd.close()


def test_a_client_that_crashed_comes_back_to_its_name_without_the_pin(meeting: Starts) -> None:
	_, base = serve(meeting, "--pin", "314159")
	ana = join(meeting, base, "Ana", "--pin", "314159")
	ben = join(meeting, base, "Ben", "--pin", "314159")
	ben.process.kill()
	ben.process.wait()
	again = enter(meeting, base, "Ben", home=ben.home)
	assert again.wait("joined", timeout=10)["name"] == "Ben"
	ana.wait("leave", name="Ben")
	ana.wait("users", users=lambda users: sorted(u["name"] for u in users) == ["Ana", "Ben"])


# -- sleep -------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP here")
@pytest.mark.parametrize("seconds", [3.0, 30.0 if LONG else 12.0])
def test_a_laptop_that_slept(meeting: Starts, seconds: float) -> None:
	ana, base = host(meeting, "--mic", "tone", "--camera", "pattern")
	ben = join(meeting, base, "Ben", "--mic", "tone")
	for what in ("mic", "camera"):
		switch(ana, what, True)
	switch(ben, "mic", True)
	ben.send(do="watch", streams={"Ana": {"layer": 1, "fps": 15}})
	until_heard(ben, 5.0)
	ben.process.send_signal(signal.SIGSTOP)
	try:
		time.sleep(seconds)
		ana.send(do="chat", text="while Ben slept")
		ana.wait("chat", text="while Ben slept")
	finally:
		ben.process.send_signal(signal.SIGCONT)
	awake = time.monotonic()
	ben.wait("chat", text="while Ben slept", timeout=10)
	took = until_heard(ben, 8.0) + time.monotonic() - awake
	if seconds < 5:
		assert not ben.seen("reconnecting"), "a nap costs nothing"
	until_heard(ana, 5.0)
	assert stats(ben)["video"]["Ana"]["fps"] >= 0
	until_seen(ben, "Ana", 5.0)
	print(f"after {seconds:.0f} s of sleep everything went on within {took:.1f} s")
	assert names(ana) == ["Ana", "Ben"]
	assert texts(ben) == ["while Ben slept"]


def until_seen(one: Headless, name: str, patience: float) -> float:
	"""Wait until new pictures of `name` come in; the seconds that it took."""
	start = time.monotonic()
	frames = None
	while time.monotonic() - start < patience:
		now = stats(one)["video"].get(name, {}).get("frames", 0)
		if frames is not None and now > frames:
			return time.monotonic() - start
		frames = now
		time.sleep(0.05)
	raise AssertionError(f"no picture of {name} within {patience} s")


@pytest.mark.long
@needs_proc
def test_a_server_that_was_stopped_for_a_while(meeting: Starts) -> None:
	server, base = serve(meeting, "--title", "Physics")
	ana, ben = (join(meeting, base, name) for name in ("Ana", "Ben"))
	server.process.send_signal(signal.SIGSTOP)
	stopped = time.monotonic()
	try:
		for one in (ana, ben):
			one.wait("reconnecting", timeout=NOTICED + 1.0)
		noticed = time.monotonic() - stopped
		time.sleep(max(0.0, 12.0 - noticed))
	finally:
		server.process.send_signal(signal.SIGCONT)
	for one in (ana, ben):
		one.wait("reconnected", timeout=BACK)
	ana.send(do="chat", text="hello again")
	ben.wait("chat", text="hello again")
	assert names(ben) == ["Ana", "Ben"]
	print(f"a stopped server was noticed after {noticed:.1f} s")
	assert noticed <= NOTICED


# -- cables and addresses, in network namespaces -----------------------------------------------------------


def lan_meeting(meeting: Starts, lan: Lan) -> tuple[Headless, Headless]:
	"""Ana hosts on host 1 with picture and tone, Ben on host 2 sees and hears her."""
	facts = ("--title", "Physics", "--name", "Ana", *SILENT, "--mic", "tone", "--camera", "pattern")
	ana = meeting("--host", *facts, netns=lan.namespace(1))
	ana.wait("joined", timeout=20)
	ben = meeting("--join", lan.address(1), "--name", "Ben", *SILENT, netns=lan.namespace(2))
	ben.wait("joined", timeout=20)
	for what in ("mic", "camera"):
		switch(ana, what, True)
	ben.send(do="watch", streams={"Ana": {"layer": 1, "fps": 15}})
	until_heard(ben, 6.0)
	until_seen(ben, "Ana", 6.0)
	return ana, ben


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seconds", [5.0, 20.0, *([120.0] if LONG else [])])
def test_a_cable_that_was_out(lan: Callable[[int], Lan], meeting: Starts, seconds: float) -> None:
	net = lan(2)
	ana, ben = lan_meeting(meeting, net)
	net.cut(2)
	cut = time.monotonic()
	ben.wait("reconnecting", timeout=NOTICED + 2.0)
	noticed = time.monotonic() - cut
	ben.send(do="chat", text="said into the void")
	ana.send(do="chat", text="said meanwhile")
	ana.wait("chat", text="said meanwhile")
	time.sleep(max(0.0, seconds - (time.monotonic() - cut)))
	net.mend(2)
	mended = time.monotonic()
	ben.wait("reconnected", timeout=BACK)
	back = time.monotonic() - mended
	until_heard(ben, 5.0)
	until_seen(ben, "Ana", 5.0)
	print(f"cable out for {seconds:.0f} s: noticed after {noticed:.1f} s, back {back:.1f} s after it was in")
	ana.wait("chat", text="said into the void")
	ben.wait("chat", text="said into the void")
	assert sorted(texts(ben)) == sorted(texts(ana)) == ["said into the void", "said meanwhile"]
	assert names(ana) == names(ben) == ["Ana", "Ben"]
	assert noticed < NOTICED


def readdress(lan: Lan, host: int, new: str) -> None:
	"""Give `host` another address in place of the one that it has, as a router may."""
	old = lan.address(host)
	lan.run(host, "ip", "addr", "del", f"{old}/24", "dev", "eth0")
	lan.run(host, "ip", "addr", "add", f"{new}/24", "broadcast", "+", "dev", "eth0")


def test_the_own_address_changed_in_mid_call(lan: Callable[[int], Lan], meeting: Starts) -> None:
	net = lan(2)
	ana, ben = lan_meeting(meeting, net)
	readdress(net, 2, "10.77.0.92")
	changed = time.monotonic()
	ben.wait("reconnected", timeout=5)
	until_heard(ben, 5.0)
	until_seen(ben, "Ana", 5.0)
	took = time.monotonic() - changed
	print(f"media went on {took:.1f} s after the own address had changed")
	assert took < 3.0
	ben.send(do="chat", text="still here")
	ana.wait("chat", text="still here", **{"from": "Ben"})


def test_the_hosts_address_changed_in_mid_call(lan: Callable[[int], Lan], meeting: Starts) -> None:
	net = lan(2)
	ana, ben = lan_meeting(meeting, net)
	readdress(net, 1, "10.77.0.91")
	changed = time.monotonic()
	ben.wait("reconnected", timeout=BACK)
	until_heard(ben, 5.0)
	until_seen(ben, "Ana", 5.0)
	print(f"a host that had moved was found by its fingerprint after {time.monotonic() - changed:.1f} s")
	ben.send(do="chat", text="found you")
	ana.wait("chat", text="found you")
