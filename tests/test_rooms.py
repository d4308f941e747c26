"""Several laptops in one room: who shares one, who hears whom by air alone, whose microphone counts."""

from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from acoustics import Laptop, School, impulse, turns
from conftest import Meeting
from headless import Headless
from meetings import host, join, wav
from test_classroom import Lesson
from test_room import World, loaded
from voices import BLOCK, RATE, Sound, echo_of, level, noise, samples, speech
from window_driver import Open, opened

import connectsphere as cs

__all__ = ["opened"]  # a fixture

# ------------------------------------------------------------------- the server: who says what


class Seats(Lesson):
	"""A lesson whose rooms are told by the names in them."""

	def ident(self, name: str) -> int:
		return self.member(name).id

	def groups(self) -> list[str]:
		"""One word a room, of initials."""
		names = {one.id: one.name[0] for one in self.world.room.members.values()}
		return [
			"".join(sorted(names[id] for id in group))
			for group in self.world.room.classroom.grouped["groups"]
		]

	def find(self, one: str, other: str, same: bool = True) -> None:
		report = {"event": "room", "ids": [self.ident(one), self.ident(other)], "same": same}
		self.world.note(self.world.room.classroom.note_found(report))

	def same(self, name: str, other: str | None) -> None:
		self.say(name, "room", same=self.ident(other) if other else 0)


@pytest.fixture
def seats() -> Seats:
	return Seats()


def test_what_a_person_says_outranks_the_switch_and_that_outranks_finding(seats: Seats) -> None:
	assert seats.groups() == []
	seats.find("Ana", "Cleo")
	assert seats.groups() == ["AC"]
	seats.say("Bea", "one_room", on=True)
	assert seats.groups() == ["ABCM"]
	seats.same("Ana", None)
	assert seats.groups() == ["BCM"]
	seats.say("Ms Lee", "one_room", on=False)
	assert seats.groups() == []
	seats.same("Cleo", "Ms Lee")
	assert seats.groups() == ["CM"]
	seats.find("Bea", "Ms Lee")
	assert seats.groups() == ["BCM"], "who said nothing is where it was found"
	seats.same("Ms Lee", None)
	assert seats.groups() == []
	for name in ("Ana", "Cleo", "Ms Lee"):
		seats.same(name, name)  # as others say or find
	assert sorted(seats.groups()) == ["AC", "BM"]
	told = seats.world.heard(seats.member("Ana"), "rooms")
	assert len(told) == 9 and all(one != other for one, other in itertools.pairwise(told))
	seats.say("Ana", "one_room", on=True)
	assert seats.world.heard(seats.member("Ana"), "error")[-1]["code"] == "not_allowed"


def test_found_rooms_merge_and_who_is_found_elsewhere_leaves_them(seats: Seats) -> None:
	seats.find("Ana", "Cleo")
	seats.find("Bea", "Ms Lee")
	seats.find("Ana", "Bea")
	assert seats.groups() == ["ABCM"]
	seats.find("Bea", "Cleo")
	seats.find("Ana", "Cleo", False)
	assert seats.groups() == ["BCM"]
	seats.world.leave(seats.member("Cleo"))
	assert seats.groups() == ["BM"]
	seats.world.note(
		seats.world.room.classroom.note_found(
			{"event": "room", "ids": [seats.ident("Bea"), 999], "same": True}
		)
	)
	assert seats.groups() == ["BM"]


def test_who_goes_on_with_a_meeting_knows_who_shares_a_room(seats: Seats) -> None:
	seats.find("Ana", "Cleo")
	grouped = seats.world.room.classroom.grouped
	assert grouped["groups"] and loaded(seats.world, seats.world.exported()).classroom.grouped == grouped


def test_rooms_outlive_reconnecting_and_a_crash_and_newcomers_are_told(seats: Seats) -> None:
	seats.find("Ana", "Cleo")
	seats.same("Bea", "Cleo")
	token = seats.world.tokens[seats.ident("Ana")]
	seats.world.leave(seats.member("Ana"), "lost")
	assert seats.groups() == ["BC"]
	kept = json.loads(json.dumps(seats.world.kept))
	for world in (seats.world, World()):
		if world is not seats.world:
			world.room.load(kept, world.now)
		member = world.join("Ana", token=token)
		groups = world.room.classroom.grouped["groups"]
		assert groups == [
			sorted(one.id for one in world.room.members.values() if one.name in ("Ana", "Bea", "Cleo"))
		]
		assert {"type": "rooms", "groups": groups} in world.room.classroom.greeting(member, 0.0)
		assert not world.heard(member, "rooms"), "nothing comes before the welcome"
	quiet = World()
	assert all(told["type"] != "rooms" for told in quiet.room.classroom.greeting(quiet.join("Zoe"), 0.0))


def test_nobody_who_leads_has_the_word_or_is_shown_is_silenced_by_what_was_found(seats: Seats) -> None:
	def free() -> set[str]:
		now = seats.world.room.classroom.grouped
		return {one.name for one in seats.world.room.members.values() if one.id in now["free"]}

	seats.find("Ana", "Ms Lee")
	seats.find("Ana", "Cleo")
	assert free() == {"Ms Lee", "Bea"}
	seats.say("Ms Lee", "word", who=seats.ident("Ana"))
	seats.say("Ms Lee", "spotlight", who=seats.ident("Cleo"))
	assert free() == {"Ms Lee", "Bea", "Ana", "Cleo"}
	seats.say("Ms Lee", "cohost", who=seats.ident("Bea"), on=False)
	assert free() == {"Ms Lee", "Ana", "Cleo"}
	order = [one.order for one in seats.world.effects if isinstance(one, cs.ToMixer)][-1]
	assert order == seats.world.room.classroom.grouped
	seats.say("Ms Lee", "one_room", on=True)
	assert free() == set(), "that is the host's own word"


# ------------------------------------------------------------------- the mixer


def steady(db: float, seed: int) -> cs.Samples:
	sound = noise(BLOCK, db, seed)
	return samples(sound * 10 ** ((db - level(sound)) / 20))


class Hall:
	"""A mixer whose clock is its ticks."""

	def __init__(self, groups: list[list[int]], free: tuple[int, ...] = ()) -> None:
		self.mixer = cs.AudioMixer()
		self.at = 0
		for ident in range(1, 6):
			self.mixer.add(ident)
		self.mixer.nearest.order(groups, free)

	def tick(self, said: dict[int, cs.Samples]) -> dict[int, tuple[cs.Samples, int]]:
		"""(what it hears, whom loudest) of each."""
		now = self.at * cs.BLOCK_SECONDS
		for ident, block in said.items():
			self.mixer.push(ident, self.at, block, now)
		mix = self.mixer.tick(now + 0.006)
		self.at += 1
		return {
			id: (cs.silence() if block is None else block.astype(np.int16), loud)
			for id, (block, loud) in mix.items()
		}

	def heard(self, said: dict[int, float], ticks: int = 20) -> dict[int, tuple[float, int]]:
		"""(level, whom loudest) of each after that many ticks of steady sounds at these levels."""
		for _ in range(ticks):
			out = self.tick({id: steady(db, id) for id, db in said.items()})
		return {id: (level(block), loud) for id, (block, loud) in out.items()}


def test_of_its_own_room_nobody_hears_anything_and_of_another_the_nearest() -> None:
	hall = Hall([[1, 2], [3, 4]])
	out = hall.heard({1: -26, 2: -36, 3: -30})
	for ident, (db, loudest) in {1: (-30, 3), 2: (-30, 3), 3: (-26, 1), 4: (-26, 1)}.items():
		assert out[ident][0] == pytest.approx(db, abs=0.3) and out[ident][1] == loudest, ident
	assert out[5][0] == pytest.approx(level(steady(-26, 1) + steady(-30, 3)), abs=0.3) and out[5][1] == 1
	alone = Hall([[1, 2], [3, 4]]).heard({1: -26, 2: -36})
	assert alone[1] == alone[2] == (level(cs.silence()), 0) and alone[5][1] == 1
	hall.mixer.set_gains(3, {1: 0.5, 4: 2.0})
	assert hall.heard({1: -26, 4: -26})[3] == (pytest.approx(-32, abs=0.3), 1)


def test_another_takes_over_when_it_is_clearly_louder_for_a_while_and_without_a_jump() -> None:
	hall = Hall([[1, 2]])
	assert hall.heard({1: -30, 2: -40})[5] == (pytest.approx(-30, abs=0.3), 1)
	assert hall.heard({1: -30, 2: -28})[5] == (pytest.approx(-30, abs=0.3), 1), "not clearly"
	before = hall.tick({1: steady(-30, 1), 2: steady(-20, 2)})[5][0]
	assert np.array_equal(before, steady(-30, 1)), "not yet"
	constant = {1: np.full(BLOCK, 1_000, np.int16), 2: np.full(BLOCK, 8_000, np.int16)}
	wave = np.concatenate([hall.tick(constant)[5][0] for _ in range(30)])
	assert wave[0] == 1_000 and wave[-1] == 8_000
	assert np.abs(np.diff(wave.astype(int))).max() < 40


def test_a_first_syllable_is_whole_where_the_nearest_was_silent() -> None:
	hall = Hall([[1, 2]])
	hall.heard({1: -30})
	hall.heard({})
	first = hall.tick({2: steady(-40, 2)})[5][0]
	assert np.array_equal(first[cs.JOIN :], steady(-40, 2)[cs.JOIN :])


def test_who_is_free_goes_through_beside_the_nearest() -> None:
	"""A pupil who plays the teacher's voice from a recording does not take her microphone."""
	out = Hall([[1, 2, 3]], free=(1,)).heard({1: -36, 2: -20, 3: -30})
	both = level(steady(-36, 1).astype(np.int16) + steady(-20, 2))
	assert out[5] == (pytest.approx(both, abs=0.2), 2)
	assert out[1][1] == out[2][1] == 0


def test_of_microphones_as_loud_as_each_other_the_near_one_goes_through() -> None:
	"""Gain makes all as loud; reflections stay."""
	said = np.fft.rfft(speech(1, 6, 0, -26), 8 * RATE)
	near, far = (np.fft.irfft(said * np.fft.rfft(impulse(at, 5), 8 * RATE))[: 6 * RATE] for at in (0.5, 2.0))
	far *= 10 ** ((level(near) + 2 - level(far)) / 20)
	hall, right = Hall([[1, 2]]), []
	for k in range(len(near) // BLOCK):
		piece = slice(k * BLOCK, (k + 1) * BLOCK)
		hall.tick({1: samples(far[piece]), 2: samples(near[piece])})
		right.append(hall.mixer.nearest.shut == {1})
	assert np.mean(right[60:]) > 0.9


# ------------------------------------------------------------------- finding


def silent(blocks: int) -> Sound:
	return np.zeros(blocks * BLOCK)


def classroom(seconds: float, gain: float = 1.0, seed: int = 0) -> School:
	"""Four laptops in one room, one elsewhere on headphones, one in a room of its own."""
	said = [speech(0, seconds - 0.5, seed, -26)]
	voice = np.concatenate((silent(31), *said))
	seats = [(0.0, 0.0), (1.5, 0.0), (0.0, 1.6), (1.7, 1.8)]
	laptops = [
		Laptop(0, at, speaker=gain, up=0.01 + 0.008 * n, down=1 + n, voice=voice if n == 0 else silent(0))
		for n, at in enumerate(seats)
	]
	return School([*laptops, Laptop(1, speaker=0.0), Laptop(2, speaker=gain)], seconds, seed)


@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_four_in_one_room_are_found_within_four_seconds_of_the_first_words(gain: float) -> None:
	school = classroom(4.5, gain)
	school.run()
	assert school.groups == [{1, 2, 3, 4}], school.log


def conversation(kind: str, seconds: float, seed: int) -> School:
	"""Six people, each alone, none of whom shares a room."""
	random = np.random.default_rng((seed, 6))
	order = [0, 2, 1, 3, 0, 4, 5, 1] if kind != "third" else [2, 3, 2, 4, 2, 5, 3, 2]
	step = seconds / len(order)
	told = [(who, at * step + 0.2, (at + 1) * step + 0.4) for at, who in enumerate(order)]
	told = [(who, begin, min(end, seconds)) for who, begin, end in told]
	said = turns(told, seconds, lambda who, length: speech(who, length, seed + 7 * who, -26))
	ways = random.uniform(0.01, 0.035, 6), random.integers(1, 4, 6), random.integers(0, 4, 6)
	laptops = [
		Laptop(n, (0, 0), kind == "film" or n > 1, 0.7, float(up), int(down), int(card), said[n])
		for n, (up, down, card) in enumerate(zip(*ways, strict=True))
	]
	count = int(seconds * RATE)
	if kind == "film":
		film = speech(7, seconds, seed, -30)
		laptops[0].around, laptops[1].around = film, np.concatenate((silent(25), film))
	if kind == "fan":
		fan = noise(count, -45) + 0.003 * np.sin(2 * np.pi * 118 / RATE * np.arange(count))
		for one in laptops:
			one.around = fan
	return School(laptops, seconds, seed)


@pytest.mark.parametrize("kind", ["two leak", "third", "film", "fan"])
def test_leaks_films_and_fans_make_no_room(kind: str) -> None:
	school = conversation(kind, 7.0, 1)
	school.run()
	assert school.groups == [], school.log


def test_who_has_hardly_spoken_yet_listens_with_those_it_resembles_and_is_found_with_them() -> None:
	finder = cs.RoomFinder()
	voice, hiss = samples(speech(0, 4, 1, -26)), samples(noise(4 * RATE, -70, 9))
	asked: list[int] = []
	for k in range(len(voice) // BLOCK):
		piece = slice(k * BLOCK, (k + 1) * BLOCK)
		# the third one's gate opens late: its own loudspeaker had drowned what it heard
		talkers = [1, 2, 3] if k > 20 else [1, 2]
		other = hiss[piece].astype(np.float32)
		waves = [voice[piece].astype(np.float32)] * len(talkers)
		finder.push([*talkers, 4], np.stack([*waves, other]), [1, 2, 3, 4], {})
		asked += [id for news in finder.news if news["event"] == "listen" for id in news["ids"]]
		finder.news.clear()
		if asked and k == 150:
			for id in (1, 2, 3):
				finder.note_early(id)
			break
	assert asked[:3] == [1, 2, 3] and 4 not in asked
	pairs = [news["ids"] for news in finder.news]
	assert sorted(pairs) == [[1, 2], [1, 3], [2, 3]]


def test_a_leak_is_asked_about_seldom() -> None:
	finder = cs.RoomFinder()
	voice = samples(speech(0, 30, 1, -26))
	asked = []
	for k in range(len(voice) // BLOCK):
		block = voice[k * BLOCK : (k + 1) * BLOCK].astype(np.float32)
		finder.push([1, 2], np.stack((block, block)), [1, 2], {})
		asked += [k for news in finder.news if news["event"] == "listen"]
		finder.news.clear()
	gaps = np.diff(asked) * cs.BLOCK_SECONDS
	assert len(asked) >= 3 and (gaps[1:] > gaps[:-1] * 1.4).all() and gaps[0] >= 3


@pytest.mark.parametrize("rooms", [{}, {1: [1, 2], 2: [1, 2]}])
def test_nothing_is_kept_of_who_left(rooms: dict[int, list[int]]) -> None:
	"""Whenever that is: each connection has an id of its own, for a whole school day."""
	voice, kept = samples(speech(0, 3, 1, -26)), 0
	for end in range(74, 82):  # some of them in the middle of a judgement
		mixer = cs.AudioMixer()
		for k in range(end + 30):
			block = voice[k * BLOCK : (k + 1) * BLOCK].astype(np.float32)
			here = [1, 2] if k < end else [1, 3]
			mixer.finder.push(here, np.stack((block, block if rooms == {} else 0 * block)), here, rooms)
			if k == end:
				kept += bool(known(mixer.finder))
				mixer.remove(2)
		assert 2 not in set().union(*known(mixer.finder))
	assert kept, "there was something to forget"


def known(finder: cs.RoomFinder) -> list[set[int]]:
	"""The pairs of which it keeps something."""
	return [set(pair) for pair in (*finder._asked, *finder._against)]


def test_a_room_lapses_when_one_does_not_hear_the_other_and_not_in_silence() -> None:
	finder = cs.RoomFinder()
	rooms = {1: [1, 2], 2: [1, 2]}
	voice, hush = speech(0, 20, 1, -26), silent(RATE * 60 // BLOCK)
	quiet = noise(len(voice) + len(hush), -62)
	sound = samples(np.concatenate((hush, voice)) + quiet)
	told = []
	for k in range(len(sound) // BLOCK):
		block = sound[k * BLOCK : (k + 1) * BLOCK].astype(np.float32)
		talks = level(block.astype(np.int16)) > -58
		finder.push(
			[1] if talks else [], block[None] if talks else np.zeros((0, BLOCK), np.float32), [1, 2], rooms
		)
		told += [(k * cs.BLOCK_SECONDS, news) for news in finder.news]
		finder.news.clear()
	assert told[0][1] == {"event": "room", "ids": (2, 1), "same": False}
	assert 60 + 10 < told[0][0] < 60 + 18


def test_listening_ends_though_the_microphone_does_not_run() -> None:
	ear = cs.HeardBefore()
	block = steady(-26, 1)
	assert ear.play(block) is block
	ear.begin()
	played = [ear.play(block) is block for _ in range(200)]
	assert played == [False] * ear.BLOCKS + [True] * (200 - ear.BLOCKS) and ear.BLOCKS * cs.BLOCK_SECONDS < 2


# ------------------------------------------------------------------- through programs


def asked(one: Headless, **command: Any) -> None:
	ref = len(one.events)
	one.send({**command, "ref": ref})
	one.wait("ok", ref=ref)


def test_a_real_meeting_finds_its_room_and_the_people_in_it_have_the_last_word(
	meeting: Meeting, tmp_path: Path
) -> None:
	voice = speech(0, 12, 1, -24)
	near = wav(tmp_path / "near.wav", samples(voice + noise(len(voice), -66)))
	far = wav(tmp_path / "far.wav", samples(voice * 0.3 + noise(len(voice), -66, 1)))
	ana, base = host(meeting, "--mic", f"room:{near}")
	ben = join(meeting, base, "Ben", "--mic", f"room:{far}")
	people = {one: one.seen("joined")[0]["id"] for one in (ana, ben)}
	both = sorted(people.values())
	for _ in range(6):  # two files begin together, as one voice does, unless the machine is busy
		for on in (True, False):
			for one in people:
				one.send({"do": "mic", "on": on, "ref": f"mic {on}"})
			for one in people:
				one.wait("device", what="mic", ref=f"mic {on}")
			with contextlib.suppress(AssertionError):
				assert on and ben.wait("rooms", 6)["groups"] == [both]
				break
		if ben.seen("rooms"):
			break
	assert ana.wait("rooms", groups=[both])
	cara = join(meeting, base, "Cara")
	assert cara.wait("rooms")["groups"] == [both], "who comes is told once"
	ben.send({"do": "room", "same": None, "ref": "not I"})
	assert ben.wait("rooms", ref="not I")["groups"] == []
	asked(ana, do="one_room", on=True)
	others = sorted([people[ana], cara.seen("joined")[0]["id"]])
	assert cara.wait("rooms", groups=[others])
	ben.send({"do": "room", "same": "Cara", "ref": "I, too"})
	assert ben.wait("rooms", ref="I, too")["groups"] == [sorted([people[ben], *others])]


# ------------------------------------------------------------------- one's own microphone, and the window


def test_a_new_microphone_is_softer_until_its_room_is_known_but_no_file(
	monkeypatch: pytest.MonkeyPatch,
) -> None:
	sent: list[bytes] = []
	said = steady(-26, 1)
	for mic, soft in (("default", True), ("a.wav", False)):
		sender = cs.MicrophoneSender(
			cs.ClientOptions(mic=mic, sound="clear"),
			lambda _, block: sent.append(block),
			lambda *_: None,
			lambda: 0,
			cs.VoiceProcessor(),
		)
		monkeypatch.setattr(sender._voice, "process", lambda block: block)
		sent.clear()
		for _ in range(250):
			sender._send_block(said)
		levels = [level(np.frombuffer(block, ">i2").astype(np.int16)) for block in sent]
		assert levels[170] - levels[249] == pytest.approx(-6 if soft else 0, abs=0.2)
		assert levels[190] == pytest.approx(levels[249], abs=0.2), "3 s at most"


@pytest.mark.parametrize(("late", "leaks"), [(0.045, False), (0.75, True)])
def test_headphones_are_advised_only_where_an_echo_is_left(late: float, leaks: bool) -> None:
	"""Beyond half a second the canceller does not find it."""
	far = samples(speech(0, 14, 3, -22))
	voice, heard = (
		cs.VoiceProcessor(),
		samples(echo_of(far, delay=late) + noise(len(far) // BLOCK * BLOCK, -62)),
	)
	assert voice.begin()
	for at in range(0, len(heard) - BLOCK, BLOCK):
		voice.play(far[at : at + BLOCK])
		voice.process(heard[at : at + BLOCK])
	assert (voice.echo > 0.5) == leaks


def test_the_window_says_whom_one_hears_through_the_air_and_takes_a_no(opened: Open) -> None:
	driver = opened()
	call = driver.meet(5, host=True)
	me, other, *_ = (one.id for one in call.snapshot().people)
	call.change(rooms=[[me, other]])
	call.gui_queue.put({"event": "rooms", "groups": [[me, other]], "time": 0})
	view = driver.view
	driver.until(lambda: view.toasts._toasts, "the notice")
	assert "Amira Hassan" in view.toasts._toasts[-1].words
	view.show_panel("attendees")
	driver.until(lambda: view.attendees.list.rows, "the people")
	facts = {row.person.id: row.facts for row in view.attendees.list.rows if isinstance(row, cs.PersonRow)}
	assert "heard through the air" in facts[other] and not (facts[me] or facts[3])
	view.toasts.answer()
	assert call.commands[-1] == {"do": "room", "same": None}
	for key, words, same in (
		(other, "✓ In my room", None), (3, "In my room", call.snapshot().people[2].name),
	):  # fmt: skip
		driver.entries(key)[words]()
		assert call.commands[-1] == {"do": "room", "same": same}
	view.flip_class()
	(switch,) = [
		row for row in view.card.list.rows if isinstance(row, cs.SwitchRow) and row.name == "one_room"
	]
	switch.flip()
	assert call.commands[-1] == {"do": "one_room", "on": True}
