"""The headless contract of COMMANDS on loopback: every command, every event, every error code there is."""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Meeting
from headless import PROGRAM, ROOT, Event, Headless, free_base
from meetings import LOOPBACK, SILENT, Passage, drained, enter, host, join, serve, stats, switch, wav
from pictures import film, read_picture
from sound import speech_like
from waiting import wait_until

import connectsphere as cs

pytestmark = pytest.mark.xdist_group("room")
EVENT_FIELDS = {
	"serving": {"address", "port", "title", "fingerprint"},
	"joined": {"id", "name", "meeting", "title", "address", "host", "encrypted", "role"},
	"users": {"users"},
	"join": {"id", "name"},
	"leave": {"id", "name"},
	"state": {"id", "name", "mic", "camera", "hand", "sharing", "role"},
	"device": {"what", "state", "reason"},
	"video_start": {"id", "name"},
	"video_stop": {"id", "name"},
	"speaking": {"id", "name"},
	"chat": {"from", "text", "n", "to"},
	"private": {"from", "text", "n", "to"},
	"reaction": {"from", "emoji", "n", "to"},
	"snapshot": {"of", "path", "width", "height"},
	"stats": {"video", "audio", "screen", "udp", "counters"},
	"screen_start": {"id", "name"},
	"screen_stop": {"id", "name"},
	"file_offer": {"file", "name", "size", "from", "private"},
	"file_progress": {"file", "bytes", "size"},
	"file_saved": {"file", "path", "sha256"},
	"file_failed": {"file", "code", "reason"},
	"uploaded": {"file", "name"},
	"error": {"code", "reason"},
	"denied": {"code", "reason"},
	"reconnecting": {"reason"},
	"reconnected": {"seconds"},
	"left": {"reason"},
	"ended": {"reason"},
}
USER_FIELDS = {"id", "name", "role", "mic", "camera", "hand", "sharing"}
VIDEO_FIELDS = {
	"layer", "fps", "width", "height", "kbps", "frames", "lost_frames", "repaired", "latency_ms",
}  # fmt: skip
AUDIO_FIELDS = {"level_db", "jitter_ms", "buffer_ms", "received", "lost", "concealed", "late"}
CODES = {
	"bad_command", "pin_required", "wrong_pin", "host_unproven", "host_changed", "no_meeting",
	"several_meetings", "share_busy", "no_such_person", "no_such_file", "not_allowed", "device", "too_large",
	"nothing_yet",
	"cancelled", "unreachable", "disk", "busy", "not_permitted", "no_word",
}  # fmt: skip


@dataclass
class Class:
	"""One meeting that the tests of this module share; each leaves it as it found it."""

	base: int
	ana: Headless
	ben: Headless
	cara: Headless
	directory: Path

	@property
	def everyone(self) -> tuple[Headless, Headless, Headless]:
		return self.ana, self.ben, self.cara


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Class]:
	directory = tmp_path_factory.mktemp("class")
	started = Meeting(directory)
	try:
		speech = wav(directory / "speech.wav", speech_like(6, 16_000))
		video = film(directory / "film.avi", 6)
		devices = ("--camera", str(video), "--mic", str(speech), "--speaker", str(directory / "ana.wav"))
		ana, base = host(started, *devices, "--title", "Physics")
		ben = join(started, base, "Ben", "--camera", "pattern", "--mic", "tone")
		cara = join(started, base, "Cara", "--speaker", str(directory / "cara.wav"))
		for one in (ana, ben):
			one.wait("join", name="Cara")
		yield Class(base, ana, ben, cara, directory)
	finally:
		started.close()


def check_events(one: Headless) -> None:
	"""Every event so far has the fields of its kind, and every error a known code."""
	for event in one.events:
		missing = EVENT_FIELDS.get(event["event"], set()) - set(event)
		assert not missing, f"{event} lacks {missing}"
		if event["event"] in ("error", "denied"):
			assert event["code"] in CODES, event
			assert len(event["reason"].split()) >= 3, event
		for user in event.get("users", ()):
			assert set(user) >= USER_FIELDS
			assert all(type(user[key]) is bool for key in ("mic", "camera", "hand", "sharing"))


def until(look: Callable[[], Any], good: Callable[[Any], object], timeout: float = 10.0) -> Any:
	"""What `look` gives once it is `good`; AssertionError with the last of it when it never is."""
	end = time.monotonic() + timeout
	while not good(seen := look()):
		assert time.monotonic() < end, f"still {seen!r}"
		time.sleep(0.1)
	return seen


# Each command in good order, and with members that are wrong; `ends` come last, for they end it.
ASKED: dict[str, tuple[Event, ...]] = {
	"chat": ({"text": "hi"}, {"text": " "}, {"text": 7}, {"text": "x" * 5_000}),
	"private": ({"to": "Ben", "text": "psst"}, {"to": "Ghost", "text": "boo"}, {"to": "Ben", "text": "\t"}),
	"react": ({"emoji": "🎉"}, {"emoji": "x" * 40}),
	"hand": ({"up": True}, {"up": True}, {"up": "yes"}),
	"mic": ({"on": True}, {"on": False}, {"on": True}, {"on": 1}),
	"camera": ({"on": True}, {"on": False}, {}),
	"share": (
		{"on": True, "source": "pattern"}, {"on": True, "source": "nothing.png"}, {"on": False},
		{"on": False}, {"on": True, "source": ""},
	),
	"pause": ({"on": True}, {"on": False}, {"on": "x"}),
	"watch": ({"streams": {"Ana": {"layer": 0, "fps": 5}, "Ghost": {}}}, {"streams": {"Ana": 7}}, {}),
	"watch_screen": ({"on": True}, {"on": 0}),
	"sound": ({"mode": "original"}, {"mode": "clear"}, {"mode": "loud"}),
	"volume": ({"who": "Ben", "gain": 0.5}, {"who": "Ghost", "gain": 1}, {"who": "Ben", "gain": 9}),
	"upload": (
		{"path": __file__}, {"path": "/nowhere/at/all"}, {"path": __file__, "to": "Ghost"}, {},
		{"path": str(ROOT)}, {"path": "a\0b"},
	),
	"download": ({"file": "00ff"}, {}),
	"decline": ({"file": "00ff"}, {}),
	"cancel": ({"file": "00ff"}, {}),
	"snapshot": ({"of": "Ghost", "path": "x.png"}, {"of": "screen", "path": ""}, {}),
	"users": ({},),
	"stats": ({},),
	"mute": ({"who": "all"}, {"who": "Ben"}, {"who": "all", "what": "camera"}, {"who": "Ghost"}, {}),
	"remove": ({"who": "Ghost"}, {}),
	"unban": ({"who": "Ghost"}, {}),
	"new_pin": ({},),
	"take_over": ({}, {}),
	"admit": ({"who": "Ghost", "yes": True}, {"who": "all", "yes": "x"}),
	"permit": ({"what": "chat", "on": True}, {"what": "mic", "on": False, "who": "Ghost"}, {"what": 7}),
	"word": ({"to": "Ben"}, {"to": None}, {"to": "Ghost"}, {}),
	"stand_by": ({"who": "Ben"}, {"who": "Ghost"}),
	"hand_over": ({"to": "Ben", "rights": False}, {"to": "Ghost", "rights": True}, {"to": "Ben"}),
	"lower": ({"who": "all"}, {"who": "Ben"}, {"who": 7}),
	"door": ({"mode": "open"}, {"mode": "ajar"}, {}),
	"cohost": ({"who": "Ben", "on": False}, {"who": "Ghost", "on": True}, {}),
	"spotlight": ({"who": "Ben"}, {"who": None}, {"who": 7}),
	"one_room": ({"on": True}, {"on": False}, {"on": "yes"}),
	"room": ({"same": "Ben"}, {"same": None}, {"same": "Ana"}, {"same": "Ghost"}, {"same": 7}),
	"ask_share": ({"who": "Ben"}, {"who": "Ghost"}, {"who": "Ben", "what": "camera"}),
	"agree": ({"to": "share", "yes": False}, {"to": "dance", "yes": True}, {}),
	"rename": ({"name": "Anna"}, {"name": "Ana"}, {"name": " "}, {"name": "Zoe", "who": "Ghost"}),
	"ask": ({"question": "Ready?", "answers": ["yes", "no"]}, {"question": "", "answers": ["yes"]}, {}),
	"answer": ({"index": 0}, {"index": 9}, {}),
	"close_question": ({}, {}),
	"timer": ({"seconds": 0}, {"seconds": -1}, {}),
	"collect": ({"open": True, "title": "Sums"}, {"open": True, "title": " "}, {"open": False}, {}),
	"remind": ({}, {}),
	"opened": ({"file": "00ff"}, {}),
	"attendance": ({"path": "/dev/null/all.csv"}, {}),
	"hand_out": ({"path": "/nowhere/at/all"}, {}),
	"hand_in": ({"path": "/nowhere/at/all"}, {}),
	"dance": ({}, {"to": "the music"}),
}  # fmt: skip


def test_every_command_is_asked() -> None:
	own = {name.removeprefix("_do_") for name in dir(cs.Commands) if name.startswith("_do_")}
	commands = own | {*cs.PLAIN_COMMANDS, *cs.FILE_COMMANDS}
	assert commands - {"leave", "end"} == set(ASKED) - {"dance"}
	page = (ROOT / "docs" / "protocol.md").read_text("utf-8")
	told = page[page.index("## The headless interface") :]
	assert [name for name in sorted(commands) if f"`{name}`" not in told] == []


def ask_all(one: Headless, mark: str) -> list[Any]:
	"""Give every command, each with a `ref` of its own; returns those."""
	asked = [{"do": name, **members} for name, many in ASKED.items() for members in many]
	refs: list[Any] = [[mark, n] for n in range(len(asked))]
	for ref, command in zip(refs, asked, strict=True):
		one.send({**command, "ref": ref})
	return refs


def check_answers(one: Headless, refs: list[Any], final: str) -> None:
	"""Each ref has, by the time of the event `final`, exactly one answer besides the progress of a file."""
	one.wait(final, timeout=20)
	one.process.wait(10)
	events = [event for event in one.events if event["event"] != "file_progress"]
	count = {json.dumps(ref): sum(event.get("ref") == ref for event in events) for ref in refs}
	assert {ref for ref, n in count.items() if n != 1} == set()
	assert one.events[-1]["event"] == final
	check_events(one)


def test_each_command_gets_exactly_one_final_answer(meeting: Callable[..., Headless]) -> None:
	"""In good order or not, allowed or not: for a host, and for a member with a camera."""
	ana, base = host(meeting, "--camera", "pattern", "--mic", "tone")
	ben = join(meeting, base, "Ben", "--camera", "pattern", "--mic", "tone")
	asked = {one: ask_all(one, one.args[1]) for one in (ben, ana)}
	ana.wait("stats")
	for one, refs in asked.items():  # what was asked, not what the end flushes
		until(lambda: {json.dumps(e.get("ref")) for e in one.events} >= {*map(json.dumps, refs)}, bool, 20.0)  # noqa: B023
	assert next(e for e in ben.events if e.get("absent"))["absent"] == ["Ghost"]
	for one, name, final in ((ben, "leave", "left"), (ana, "end", "ended")):
		one.send({"do": name, "ref": name})
		check_answers(one, [*asked[one], name], final)


def test_each_command_is_answered_also_without_a_link(
	passages: Callable[[int], Passage], meeting: Callable[..., Headless]
) -> None:
	_, base = host(meeting)
	way = passages(base)
	ben = join(meeting, base, "Ben", "--camera", "pattern", "--mic", "tone", at=way.at)
	ben.send({"do": "upload", "path": __file__})
	file = ben.wait("uploaded")["file"]
	way.cut()
	ben.wait("reconnecting")
	refs = ask_all(ben, "lost")
	ben.send({"do": "cancel", "file": file, "ref": "cancel"})
	assert ben.wait("error", ref="cancel")["code"] == "unreachable"
	way.mend()
	ben.wait("reconnected", timeout=15)
	more = ask_all(ben, "back")
	ben.send({"do": "leave", "ref": "leave"})
	check_answers(ben, [*refs, *more, "leave"], "left")


def test_serving_then_joined_then_users(room: Class) -> None:
	names = [event["event"] for event in room.ana.events]
	assert names[:3] == ["serving", "joined", "users"]
	serving, joined = room.ana.events[:2]
	assert (serving["address"], serving["port"], serving["title"]) == (LOOPBACK, room.base, "Physics")
	assert len(bytes.fromhex(serving["fingerprint"])) == 32
	assert type(joined["id"]) is int
	assert (joined["name"], joined["role"], joined["encrypted"]) == ("Ana", "host", True)
	assert [event["event"] for event in room.ben.events[:2]] == ["joined", "users"]
	mine = room.ben.events[0]
	assert (mine["title"], mine["address"], mine["host"], mine["role"]) == (
		"Physics",
		LOOPBACK,
		"Ana",
		"member",
	)
	assert mine["meeting"] == joined["meeting"]
	assert {user["name"]: user["role"] for user in room.ben.events[1]["users"]} == {
		"Ana": "host",
		"Ben": "member",
	}


def test_times_are_unix_seconds(room: Class) -> None:
	assert all(abs(event["time"] - time.time()) < 300 for one in room.everyone for event in one.events)


def test_users_is_answered_and_told_at_every_change(room: Class) -> None:
	room.ben.send({"do": "users", "ref": "who"})
	users = room.ben.wait("users", ref="who")["users"]
	assert [(user["name"], user["role"]) for user in users] == [
		("Ana", "host"),
		("Ben", "member"),
		("Cara", "member"),
	]
	assert room.ana.wait("users", users=lambda all: len(all) == 3)


@pytest.mark.parametrize("ref", ["a text", 7, {"deep": [1]}, 0, False])
def test_chat_reaches_all_and_only_its_sender_gets_the_ref(room: Class, ref: object) -> None:
	text = f"Grüße, {ref}! 👋\nsecond line"
	room.ben.send({"do": "chat", "text": text, "ref": ref})
	told = [one.wait("chat", text=text) for one in room.everyone]
	assert {event["from"] for event in told} == {"Ben"}
	assert len({event["n"] for event in told}) == 1
	assert told[1]["ref"] == ref
	assert "ref" not in told[0] and "ref" not in told[2]


def test_message_numbers_rise(room: Class) -> None:
	for text in ("one", "two", "three"):
		room.cara.send({"do": "chat", "text": f"number {text}"})
	numbers = [room.ana.wait("chat", text=f"number {text}")["n"] for text in ("one", "two", "three")]
	assert numbers == sorted(set(numbers))


def test_private_is_for_the_two(room: Class) -> None:
	room.ben.send({"do": "private", "to": "Ana", "text": "psst", "ref": 5})
	mine = room.ben.wait("private", text="psst")
	theirs = room.ana.wait("private", text="psst")
	assert (mine["from"], mine["to"], mine["ref"]) == ("Ben", "Ana", 5)
	assert (theirs["from"], theirs["to"], theirs.get("ref")) == ("Ben", "Ana", None)
	room.ben.send({"do": "chat", "text": "after the whisper"})
	room.cara.wait("chat", text="after the whisper")
	assert not room.cara.seen("private", text="psst")
	assert not [e for one in room.everyone for e in one.seen("chat", text="psst")]


def test_reactions_and_hands(room: Class) -> None:
	room.cara.send({"do": "react", "emoji": "👍🏽", "ref": "r"})
	assert room.cara.wait("reaction", ref="r")["emoji"] == "👍🏽"
	assert room.ana.wait("reaction", emoji="👍🏽")["from"] == "Cara"
	for up in (True, False):
		room.cara.send({"do": "hand", "up": up, "ref": up})
		assert room.cara.wait("state", ref=up)["hand"] is up
		assert room.ben.wait("state", name="Cara", hand=up)["role"] == "member"
	room.cara.send({"do": "hand", "up": False, "ref": "again"})
	assert room.cara.wait("state", ref="again")["hand"] is False


def test_a_microphone(room: Class) -> None:
	room.ben.send({"do": "mic", "on": True, "ref": "on"})
	assert room.ben.wait("device", ref="on")["state"] == "live"
	assert room.ana.wait("state", name="Ben", mic=True)
	assert room.ben.wait("state", name="Ben", mic=True)
	assert room.ana.wait("speaking", name="Ben")["id"] == room.ben.seen("joined")[0]["id"]
	room.cara.wait("speaking", name="Ben")
	audio = until(lambda: stats(room.cara)["audio"], lambda audio: audio["level_db"] > -30)
	assert set(audio) >= AUDIO_FIELDS
	assert audio["level_db"] < -15
	room.ben.send({"do": "mic", "on": False, "ref": "off"})
	assert room.ben.wait("device", ref="off")["state"] == "off"
	assert room.ana.wait("state", name="Ben", mic=False)
	assert room.ana.wait("speaking", name=None, id=None)


def test_a_microphone_switched_faster_than_it_opens(room: Class) -> None:
	for n in range(6):
		room.ben.send({"do": "mic", "on": n % 2 == 0, "ref": n})
	room.ben.send({"do": "mic", "on": False, "ref": "last"})
	room.ben.wait("device", ref="last", state="off")
	room.ben.send({"do": "mic", "on": True})
	room.ben.send({"do": "mic", "on": True, "ref": "twice"})
	room.ben.wait("device", ref="twice", state="live")
	room.cara.wait("speaking", name="Ben")
	switch(room.ben, "mic", False)
	room.ben.send({"do": "users", "ref": "end"})
	users = {user["name"]: user for user in room.ben.wait("users", ref="end")["users"]}
	assert set(users["Ben"]) >= USER_FIELDS
	room.cara.wait("speaking", name=None)
	assert not stats(room.ben)["counters"].get("bugs")


def test_a_camera_watched_and_photographed(room: Class) -> None:
	picture = room.directory / "of-ana.png"
	room.ben.send({"do": "snapshot", "of": "Ana", "path": str(picture), "ref": 1})
	assert room.ben.wait("error", ref=1)["code"] == "nothing_yet"
	room.ana.send({"do": "camera", "on": True, "ref": 2})
	assert room.ana.wait("device", ref=2)["state"] == "live"
	room.ben.wait("video_start", name="Ana")
	room.ben.wait("state", name="Ana", camera=True)
	for layer, size in ((2, (640, 360)), (0, (160, 90)), (1, (320, 180))):
		room.ben.send({"do": "watch", "streams": {"Ana": {"layer": layer, "fps": 10}}})
		seen = wait_for_layer(room.ben, "Ana", layer)
		assert set(seen) >= VIDEO_FIELDS
		assert (seen["width"], seen["height"], seen["latency_ms"]) == (*size, None)
		room.ben.send({"do": "snapshot", "of": "Ana", "path": str(picture), "ref": ("s", layer)})
		taken = room.ben.wait("snapshot", ref=["s", layer])
		assert (taken["of"], taken["path"], taken["width"], taken["height"]) == ("Ana", str(picture), *size)
		assert read_picture(picture).shape == (size[1], size[0], 3)
	room.ben.send({"do": "watch", "streams": {}})
	switch(room.ana, "camera", False)
	room.ben.wait("video_stop", name="Ana")
	room.ben.wait("state", name="Ana", camera=False)


def wait_for_layer(one: Headless, name: str, layer: int) -> dict[str, object]:
	"""The `stats` of a stream once it shows `layer`."""
	return dict(
		until(
			lambda: stats(one)["video"].get(name),
			lambda seen: seen and seen["layer"] == layer and seen["fps"] > 0,
		)
	)


def test_the_own_picture_needs_no_watcher(room: Class) -> None:
	switch(room.ben, "camera", True)
	paths = (str(room.directory / f"self-{n}.png") for n in itertools.count())

	def asked() -> list[Event]:
		room.ben.send({"do": "snapshot", "of": "Ben", "path": next(paths), "ref": "self"})
		return room.ben.seen("snapshot", ref="self")

	taken = until(asked, len)[0]
	assert read_picture(Path(taken["path"])).shape == (taken["height"], taken["width"], 3)
	switch(room.ben, "camera", False)


def test_a_test_card_tells_its_delay(room: Class) -> None:
	switch(room.ben, "camera", True)
	room.cara.send({"do": "watch", "streams": {"Ben": {"layer": 1, "fps": 15}, "Nobody": {"layer": 0}}})
	delay = until(
		lambda: stats(room.cara)["video"].get("Ben", {}).get("latency_ms"), lambda delay: delay is not None
	)
	assert 0 < delay < 2_000
	until(lambda: stats(room.cara)["udp"], lambda udp: udp == "ok")  # the mixer may have begun just now
	room.cara.send({"do": "watch", "streams": {}})
	switch(room.ben, "camera", False)


BAD_LINES: tuple[bytes, ...] = (
	b"not json",
	b"[]",
	b'"chat"',
	b"null",
	b"{}",
	b'{"do":"dance"}',
	b'{"do":7}',
	b'{"do":["chat"]}',
	b'{"do":"chat"}',
	b'{"do":"chat","text":7}',
	b'{"do":"chat","text":"  \\n "}',
	b'{"do":"chat","text":NaN}',
	b'{"do":"chat","text":"\\ud800"}',
	b'{"do":"private","text":"x"}',
	b'{"do":"react","emoji":""}',
	b'{"do":"react","emoji":"' + b"x" * 40 + b'"}',
	b'{"do":"hand","up":1}',
	b'{"do":"mic","on":"yes"}',
	b'{"do":"camera"}',
	b'{"do":"watch"}',
	b'{"do":"watch","streams":[]}',
	b'{"do":"watch","streams":{"Ana":{"layer":4}}}',
	b'{"do":"watch","streams":{"Ana":{"layer":0,"fps":0}}}',
	b'{"do":"watch","streams":{"Ana":{"layer":0,"fps":1e9}}}',
	b'{"do":"watch","streams":{"Ana":7}}',
	b'{"do":"snapshot","of":"Ana"}',
	b"\xff\xfe\x00",
	b"[" * 100_000,
	b'{"a":' * 100_000,
	b"x" * 3_000_000,
	b'{"do":"users","ref":"tail"}' * 100_000,
)


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: repr(line[:40]))
def test_a_bad_line_never_ends_the_session(room: Class, line: bytes) -> None:
	before = len(room.cara.seen("error"))
	room.cara.send_raw(line + b"\n")
	room.cara.send({"do": "users", "ref": repr(line[:40])})
	room.cara.wait("users", ref=repr(line[:40]))
	answered = room.cara.seen("error")[before:]
	assert [event["code"] for event in answered] == ["bad_command"]
	assert not room.cara.seen("users", ref="tail")


def test_a_mark_of_byte_order_is_no_command(room: Class) -> None:
	room.cara.send_raw(b'\xef\xbb\xbf{"do":"users","ref":"marked"}\r\n')
	room.cara.wait("users", ref="marked")


@pytest.mark.parametrize(
	("command", "code"),
	[
		({"do": "upload", "path": "/nowhere/at/all"}, "no_such_file"),
		({"do": "hand_out", "path": "/nowhere/at/all"}, "no_such_file"),
		({"do": "upload", "path": str(ROOT)}, "bad_command"),
		({"do": "collect", "open": True, "title": " "}, "bad_command"),
		({"do": "rename", "name": "\t"}, "bad_command"),
	],
	ids=str,
)
def test_what_is_wrong_is_called_by_its_code(room: Class, command: Event, code: str) -> None:
	room.ana.send({**command, "ref": str(command)})
	error = room.ana.wait("error", ref=str(command))
	assert error["code"] == code and error["reason"]


def test_a_member_that_may_be_missing_is_taken(tmp_path: Path) -> None:
	"""Each optional member of a command reaches the server as itself."""
	controller = cs.MeetingController(cs.ClientOptions(), tmp_path)
	asked: list[Event] = []
	controller.ask = lambda command, type, **members: asked.append(members)  # type: ignore[method-assign]
	ben = cs.Person(id=7, name="Ben")
	controller.state.update(role="host", people=(ben,))
	given = {"who": "Ben", "what": "camera", "on": True, "name": "Zoe"}
	for name, members in cs.PLAIN_COMMANDS.items():
		optional = [key[:-1] for key in members if key.endswith("?")]
		if optional:
			controller.commands._tell_server({**given, "do": name})
			assert {*optional} <= {*asked[-1]}, asked[-1]
	controller.close(0.1)
	assert len(asked) >= 3


@pytest.mark.parametrize("role", ["host", "co-host", "member"])
def test_what_the_server_is_asked_is_refused_without_a_link(tmp_path: Path, role: str) -> None:
	"""At once, and for each role: whoever asks waits for the answer. What is said waits for the link."""
	controller = cs.MeetingController(cs.ClientOptions(), tmp_path)
	ben = cs.Person(id=7, name="Ben")
	controller.state.update(link="reconnecting", role=role, people=(ben,))
	controller.commands.early = None
	later = ("chat", "private", "react", "hand", "end")
	for name in {*cs.PLAIN_COMMANDS, "attendance"}.difference(later):
		command = next(iter(ASKED[name]))
		controller.commands.carry_out({"do": name, "ref": name, **command})
		answers = drained(controller)
		assert [one["event"] for one in answers if one.get("ref") == name] == ["error"], name
	controller.close(0.1)


def test_a_slow_disk_holds_up_nothing_but_the_list_of_who_was_here(
	tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""The running list is written aside, one at a time; what was asked for is written before one leaves."""
	controller, go = cs.MeetingController(cs.ClientOptions(), tmp_path), threading.Event()
	written = list[Path]()

	def write(path: Path, rows: Sequence[cs.Attended]) -> None:
		assert go.wait(10.0)
		written.append(path)

	def said() -> list[tuple[str, Any]]:
		return [(one["event"], one.get("ref")) for one in drained(controller)]

	monkeypatch.setattr(cs, "write_attendance", write)
	link = SimpleNamespace(send=lambda *_, **__: None, welcomed=True, close=lambda *_: None)
	controller.state.update(link="live", role="host")
	controller.server.link, controller.commands.early = link, None  # type: ignore[assignment]

	def answered() -> None:
		for number in [*controller.requests.waiting]:
			controller.requests.answer({"type": "attendance", "rows": [], "ref": number})

	def list_now(**more: Any) -> None:
		controller.commands.carry_out({"do": "attendance", "path": str(tmp_path / "a.csv"), **more})
		answered()

	controller.loop.start()
	for _ in range(2):  # the second while the disk has the first
		controller.loop.ask(lambda: list_now(ref="list", aside=True))
	assert said() == [("error", "list")] and not written
	go.set()
	wait_until(lambda: not controller.gui_queue.empty())
	assert said() == [("ok", "list")] and len(written) == 1

	def list_and_leave() -> None:
		controller.commands.carry_out({"do": "attendance", "path": str(tmp_path / "b.csv"), "ref": 1})
		controller.commands.carry_out({"do": "leave", "ref": 2})
		answered()

	controller.loop.ask(list_and_leave)
	wait_until(lambda: controller.status is not None)
	assert said() == [("ok", 1), ("left", 2)] and len(written) == 2
	controller.close(1.0)


def test_a_bad_command_carries_its_ref(room: Class) -> None:
	room.cara.send({"do": "dance", "ref": "tango"})
	assert room.cara.wait("error", ref="tango")["code"] == "bad_command"
	room.cara.send({"do": "chat", "text": "x" * 5_000, "ref": "long"})
	assert room.cara.wait("error", ref="long")["code"] == "too_large"


def test_who_is_not_there(room: Class) -> None:
	for command in (
		{"do": "private", "to": "Nobody", "text": "hm"},
		{"do": "snapshot", "of": "Nobody", "path": str(room.directory / "nobody.png")},
	):
		room.cara.send({**command, "ref": command["do"]})
		assert room.cara.wait("error", ref=command["do"])["code"] == "no_such_person"
	for command in ({"do": "mute", "who": "Nobody"}, {"do": "remove", "who": "Nobody"}):
		room.ana.send({**command, "ref": command["do"]})
		assert room.ana.wait("error", ref=command["do"])["code"] == "no_such_person"
	room.cara.send({"do": "snapshot", "of": "screen", "path": "x.png", "ref": "screen"})
	assert room.cara.wait("error", ref="screen")["code"] == "nothing_yet"


@pytest.mark.parametrize(
	"command",
	[
		{"do": "mute", "who": "Ana"},
		{"do": "mute", "who": "all"},
		{"do": "remove", "who": "Ana"},
		{"do": "take_over"},
		{"do": "end"},
	],
	ids=str,
)
def test_what_only_the_host_may_do(room: Class, command: dict[str, str]) -> None:
	ref = json.dumps(command)
	room.ben.send({**command, "ref": ref})
	assert room.ben.wait("error", ref=ref)["code"] == "not_allowed"


def test_the_host_mutes_one_and_all(room: Class) -> None:
	for who in ("Ben", "all"):
		for one in (room.ana, room.ben, room.cara):
			one.forget()
		switch(room.ben, "mic", True)
		for one in (room.ana, room.cara):
			one.wait("state", name="Ben", mic=True)
		room.ana.send({"do": "mute", "who": who})
		assert room.ben.wait("device", what="mic", state="off")
		assert room.cara.wait("state", name="Ben", mic=False)
		room.ana.wait("state", name="Ben", mic=False)
	switch(room.ben, "mic", True)
	switch(room.ben, "mic", False)


def test_many_lines_at_once_are_all_said(room: Class) -> None:
	room.ben.send_raw(b"".join(b'{"do":"chat","text":"burst %d"}\n' % n for n in range(210)))
	room.cara.wait("chat", text="burst 209")
	said = [event["text"] for event in room.cara.seen("chat") if event["text"].startswith("burst ")]
	assert said == [f"burst {n}" for n in range(210)]


def test_a_late_joiner_gets_the_history(room: Class, tmp_path: Path) -> None:
	room.cara.send_raw(b"".join(b'{"do":"chat","text":"early %d"}\n' % n for n in range(210)))
	room.ben.wait("chat", text="early 209")
	room.cara.send({"do": "private", "to": "Ben", "text": "not for the late"})
	room.ben.wait("private", text="not for the late")
	late = Meeting(tmp_path)
	try:
		dan = join(late, room.base, "Dan")
		dan.send({"do": "chat", "text": "hello"})
		dan.wait("chat", text="hello")
		old = dan.seen("chat", history=True)
		numbers = [event["n"] for event in old]
		assert len(old) == 200
		assert numbers == sorted(set(numbers))
		assert old[-1]["text"] == "early 209"
		assert [event["event"] for event in dan.events[:3]] == ["joined", "users", "chat"]
		assert "history" not in dan.seen("chat", text="hello")[0]
		assert not dan.seen("private")
	finally:
		late.close()
	room.ana.wait("leave", name="Dan")


def test_names_are_made_unique(room: Class, meeting: Callable[..., Headless]) -> None:
	second = join(meeting, room.base, "Ben")
	assert second.seen("joined")[0]["name"] == "Ben (2)"
	third = join(meeting, room.base, "\u202eBEN\n ")
	assert third.seen("joined")[0]["name"] == "BEN (3)"
	for one in (second, third):
		assert one.close() == 0
	room.ana.wait("leave", name="BEN (3)")


def test_devices_that_are_missing(room: Class, meeting: Callable[..., Headless]) -> None:
	gone = ("--camera", "9", "--mic", "missing.wav", "--speaker", "/no/such/directory/x.wav")
	eve = join(meeting, room.base, "Eve", *gone)
	assert len(eve.wait("device", what="speaker", state="failed")["reason"].split()) > 3
	for what in ("camera", "mic"):
		for ref in (f"{what} 1", f"{what} 2"):
			eve.send({"do": what, "on": True, "ref": ref})
			failed = eve.wait("device", ref=ref)
			assert (failed["state"], failed["what"]) == ("failed", what)
			assert len(failed["reason"].split()) > 3
		eve.send({"do": what, "on": False, "ref": f"{what} off"})
		assert eve.wait("device", ref=f"{what} off")["state"] == "off"
	eve.send({"do": "chat", "text": "still here"})
	room.ana.wait("chat", text="still here")
	assert not room.ana.seen("state", name="Eve", camera=True)
	assert eve.close() == 0
	check_events(eve)
	said = eve.errors().splitlines()
	assert {line.split()[0] for line in said} == {"connectsphere:"}
	for name in ("“9”", "missing.wav", "/no/such/directory/x.wav"):
		assert any(name in line for line in said), (name, said)


def test_what_the_speaker_hears(room: Class) -> None:
	"""Sample 0 at `joined`; the header is valid while the meeting goes on."""
	path = room.directory / "cara.wav"
	joined = room.cara.seen("joined")[0]["time"]
	started = switch(room.ben, "mic", True)["time"]
	came = room.cara.wait("speaking", name="Ben", time=lambda at: at > started - 0.1)["time"]
	time.sleep(1.5)
	ended = switch(room.ben, "mic", False)["time"]
	room.cara.wait("speaking", name=None, time=lambda at: at > ended - 0.1)
	time.sleep(1.2)
	with wave.open(str(path)) as file:
		assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
		heard = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
	assert -0.05 < time.time() - joined - len(heard) / 16_000 < 1.5  # a block is written as it begins
	blocks = np.abs(heard[: len(heard) // 256 * 256]).reshape(-1, 256).max(axis=1) > 1_000
	since = int((started - joined) / 0.016)
	onset = (since + int(np.argmax(blocks[since:]))) * 0.016 + joined
	assert abs(onset - came) < 0.3
	said = (ended - started) / 0.016
	assert 0.7 * said < blocks[since:].sum() < said + 40


def test_every_event_so_far_was_in_order(room: Class) -> None:
	for one in room.everyone:
		check_events(one)
		assert "Traceback" not in one.errors()
		assert not stats(one)["counters"].get("bugs")


# -- meetings that end -----------------------------------------------------------------------------------


def test_what_the_host_does_answers_its_command(meeting: Callable[..., Headless], tmp_path: Path) -> None:
	"""Events that answer a command carry its `ref`, also those that everyone gets."""
	ana, base = host(meeting)
	ben = join(meeting, base, "Ben", "--mic", "tone", "--downloads", str(tmp_path / "got"))
	switch(ben, "mic", True)
	ben.send({"do": "share", "on": True, "source": "pattern", "ref": "mine"})
	assert ben.wait("screen_start", ref="mine")["name"] == "Ben"
	ana.wait("screen_start", name="Ben")
	ana.wait("state", name="Ben", mic=True)
	(tmp_path / "a.txt").write_text("hello")
	ana.send({"do": "upload", "path": str(tmp_path / "a.txt"), "ref": "up"})
	assert ana.wait("file_progress", ref="up")["size"] == 5
	file = ana.wait("uploaded", ref="up")["file"]
	ben.wait("file_offer", file=file)
	ben.send({"do": "download", "file": file, "ref": "down"})
	assert Path(ben.wait("file_saved", ref="down")["path"]).read_text() == "hello"
	for command, answer in (
		({"do": "mute", "who": "Ben"}, "state"),
		({"do": "take_over"}, "screen_stop"),
		({"do": "cancel", "file": file}, "file_failed"),
		({"do": "remove", "who": "Ben"}, "leave"),
		({"do": "end"}, "ended"),
	):
		ana.send({**command, "ref": command["do"]})
		told = ana.wait(answer, ref=command["do"])
		assert told.get("name", "Ben") == ("Ana" if answer == "file_failed" else "Ben")
	anas = ("up", "mute", "take_over", "cancel", "remove", "end")
	assert not [event for event in ben.events if event.get("ref") in anas]
	for one in (ana, ben):
		check_events(one)


def test_removed_means_out(meeting: Callable[..., Headless]) -> None:
	ana, base = host(meeting)
	ben = join(meeting, base, "Ben")
	ana.wait("join", name="Ben")
	ana.send({"do": "remove", "who": "Ben"})
	assert ben.wait("ended")["reason"]
	assert ben.process.wait(5) == 0
	assert ben.events[-1]["event"] == "ended"
	ana.wait("leave", name="Ben")
	again = enter(meeting, base, "Ben", home=ben.home)
	assert again.wait("denied", timeout=12)["code"] == "not_allowed"
	assert again.process.wait(5) == 1
	for name, home in (("BEN", None), ("Anders", ben.home)):  # others share this address: they may knock
		again = enter(meeting, base, name, home=home)
		again.wait("waiting")
		ana.wait("knock", name=name)
		ana.send({"do": "admit", "who": name, "yes": False})
		assert again.wait("denied", timeout=12)["code"] == "not_allowed"
	ana.send({"do": "remove", "who": "Ana", "ref": "self"})
	assert ana.wait("error", ref="self")["code"] in ("not_allowed", "no_such_person")


@pytest.mark.parametrize("place", ["in", "at the door"])
def test_end_of_input_and_leave(room: Class, meeting: Callable[..., Headless], place: str) -> None:
	room.ana.forget()
	come, gone = ("joined", "leave") if place == "in" else ("waiting", "knock_gone")
	room.ana.send({"do": "door", "mode": "open" if place == "in" else "knock", "ref": place})
	room.ana.wait("door" if place != "in" else "ok", ref=place)
	fay, gil, hal = (enter(meeting, room.base, name) for name in ("Fay", "Gil", "Hal"))
	for one in (fay, gil, hal):
		one.wait(come, timeout=40)
	fay.hang_up()
	gil.process.send_signal(signal.SIGTERM)
	hal.send({"do": "leave", "ref": "bye"})
	for one in (fay, gil, hal):
		assert one.wait("left")["reason"]
		assert one.process.wait(5) == 0
		assert one.events[-1]["event"] == "left"
		room.ana.wait(gone)
	assert hal.events[-1]["ref"] == "bye"
	if place != "in":
		room.ana.send({"do": "door", "mode": "open", "ref": "opened"})
		room.ana.wait("door", ref="opened")


@pytest.mark.parametrize("how", ["end of input", "leave", "SIGTERM"])
def test_what_was_asked_before_leaving_has_its_own_answer(
	room: Class, meeting: Callable[..., Headless], how: str
) -> None:
	"""The server has done it: `echo '{"do": "chat", …}' | connectsphere --join …` is no error."""
	room.ana.forget()
	gone = f"Gone by {how}"
	ida = enter(meeting, room.base, f"Ida, {how}")
	asked = {
		"chat": {"text": "hi"},
		"private": {"to": "Ana", "text": "between us"},
		"react": {"emoji": "🎉"},
		"hand": {"up": True},
		"rename": {"name": gone},
		"mute": {"who": "all"},
	}
	if how == "SIGTERM":
		ida.wait("joined", timeout=40)
	lines = [{"do": name, **members, "ref": name} for name, members in asked.items()]
	lines += [{"do": "leave", "ref": "leave"}] * (how == "leave")
	ida.send_raw(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
	if how == "SIGTERM":
		room.ana.wait("reaction")
		ida.process.send_signal(signal.SIGTERM)
	elif how == "end of input":
		ida.hang_up()
	assert ida.wait("left", timeout=40)
	assert ida.process.wait(10) == 0
	answers = {e["ref"]: e["code"] if e["event"] == "error" else e["event"] for e in ida.events if "ref" in e}
	told = {"chat": "chat", "private": "private", "react": "reaction", "hand": "state", "rename": "state"}
	assert answers == {**told, "mute": "not_allowed", **({"leave": "left"} if how == "leave" else {})}
	assert ida.events[-1]["event"] == "left"
	room.ana.wait("leave", name=gone)


@pytest.mark.parametrize("how", ["end of input", "SIGTERM", "end"])
def test_the_host_ends_it_for_all(meeting: Callable[..., Headless], how: str) -> None:
	ana, base = host(meeting)
	ben = join(meeting, base, "Ben")
	if how == "end":
		ana.send({"do": "end"})
	elif how == "SIGTERM":
		ana.process.send_signal(signal.SIGTERM)
	else:
		ana.hang_up()
	for one in (ana, ben):
		assert one.wait("ended")["reason"]
		assert one.process.wait(8) == 0
		assert one.events[-1]["event"] == "ended"
	assert ben.seen("reconnecting") == []


def test_commands_piped_in_before_it_has_joined(meeting: Callable[..., Headless]) -> None:
	base = free_base()
	where = ("--bind", LOOPBACK, "--port", str(base))
	ana = meeting("--host", *where, "--name", "Ana", *SILENT)
	ana.send({"do": "chat", "text": "early"})
	ana.send_raw(b'{"do":"chat","text":"last, without an end of line"}')
	ana.hang_up()
	assert ana.wait("ended", timeout=40)
	assert ana.process.wait(5) == 0
	assert [e["text"] for e in ana.seen("chat")] == ["early", "last, without an end of line"]


def test_a_server_alone(meeting: Callable[..., Headless], tmp_path: Path) -> None:
	server, base = serve(meeting, "--title", "Alone", "--name", "Lab")
	server.hang_up()
	key = str(server.home / "host.key")
	teacher = join(meeting, base, "Ana", "--host-key", key)
	assert (teacher.seen("joined")[0]["role"], teacher.seen("joined")[0]["title"]) == ("host", "Alone")
	ben = join(meeting, base, "Ben")
	teacher.wait("join", name="Ben")
	teacher.send({"do": "remove", "who": "Ben"})
	ben.wait("ended")
	teacher.send({"do": "unban", "who": "Ben"})
	teacher.wait("banned", names=[])
	teacher.hang_up()
	assert teacher.wait("left")
	cara = join(meeting, base, "Cara")  # only `--host` takes the meeting along
	server.process.send_signal(signal.SIGTERM)
	cara.wait("ended")
	assert server.process.wait(8) == 0


# -- meetings that are interrupted ------------------------------------------------------------------------


@pytest.fixture
def passages() -> Iterator[Callable[[int], Passage]]:
	made: list[Passage] = []

	def make(base: int) -> Passage:
		made.append(Passage(base))
		return made[-1]

	yield make
	for one in made:
		one.close()


def test_a_cut_connection_comes_back(
	passages: Callable[[int], Passage], meeting: Callable[..., Headless]
) -> None:
	ana, base = host(meeting, "--camera", "pattern", "--mic", "tone")
	way = passages(base)
	ben = join(meeting, base, "Ben", "--mic", "tone", at=way.at)
	switch(ana, "camera", True)
	ben.send({"do": "watch", "streams": {"Ana": {"layer": 0, "fps": 10}}})
	ben.send({"do": "hand", "up": True})
	switch(ben, "mic", True)
	ana.wait("speaking", name="Ben")
	wait_for_layer(ben, "Ana", 0)
	first = ben.seen("joined")[0]
	ana.send({"do": "chat", "text": "before"})
	ben.wait("chat", text="before")
	before = stats(ben)
	way.cut()
	assert ben.wait("reconnecting")["reason"]
	ana.wait("leave", name="Ben")
	ana.send({"do": "chat", "text": "meanwhile"})
	ana.wait("chat", text="meanwhile")
	ben.send({"do": "chat", "text": "said into the void", "ref": "void"})
	way.mend()
	assert 0 < ben.wait("reconnected", timeout=15)["seconds"] < 15
	assert ben.wait("chat", text="said into the void")["ref"] == "void"
	ana.wait("chat", text="said into the void")
	texts = [event["text"] for event in ben.seen("chat")]
	assert texts == ["before", "meanwhile", "said into the void"]
	back = ana.wait("join", name="Ben", id=lambda ident: ident != first["id"])
	ana.wait("state", id=back["id"], hand=True, mic=True)
	later = stats(ben)
	assert later["audio"]["received"] >= before["audio"]["received"] > 0, "counters go on"
	frames = later["video"]["Ana"]["frames"]
	assert frames >= before["video"]["Ana"]["frames"]
	until(lambda: stats(ben)["video"]["Ana"]["frames"], lambda now: now >= frames + 10)
	ana.wait("speaking", id=back["id"])
	assert len(ben.seen("joined")) == 1


def test_what_is_asked_while_the_link_is_lost_is_answered() -> None:
	"""Each numbered command that was under way is, when its link is lost."""
	me = SimpleNamespace(options=None, state=None, server=SimpleNamespace(standing=None))
	me.successors = SimpleNamespace(holds=lambda _: False)
	made = cs.Requests(me)  # type: ignore[arg-type]
	told: list[tuple[str, str]] = []

	def ask(name: str) -> None:
		made.make({"type": name}, lambda message: told.append((name, message["code"])))

	link = me.server.standing = SimpleNamespace(send=lambda **message: None, heard=0.0)
	ask("remove")
	ask("hand")
	assert not told
	me.server.standing = None
	made.forget_dropped(link)  # type: ignore[arg-type]
	assert told == [("remove", "unreachable")], "what was said waits for the next link"


def test_a_command_during_a_cut_has_its_answer(
	room: Class, passages: Callable[[int], Passage], meeting: Callable[..., Headless]
) -> None:
	way = passages(room.base)
	jim = join(meeting, room.base, "Jim", at=way.at)
	way.cut()
	jim.wait("reconnecting")
	jim.send({"do": "upload", "path": __file__, "ref": "sent later"})
	jim.send({"do": "private", "to": "Ana", "text": "kept", "ref": "kept"})
	jim.send({"do": "hand", "up": True, "ref": "hand"})
	way.mend()
	for ref, event in (("kept", "private"), ("hand", "state"), ("sent later", "uploaded")):
		told = jim.wait(event, ref=ref, timeout=15)
	jim.send({"do": "cancel", "file": told["file"], "ref": "taken back"})
	jim.wait("file_failed", ref="taken back")


def test_twice_cut_and_the_name_stays(
	room: Class, passages: Callable[[int], Passage], meeting: Callable[..., Headless]
) -> None:
	way = passages(room.base)
	kim = join(meeting, room.base, "Kim", at=way.at)
	for _ in range(2):
		way.cut()
		kim.wait("reconnecting")
		way.mend()
		kim.wait("reconnected", timeout=15)
		room.ana.wait("join", name="Kim")
	kim.send({"do": "users", "ref": 1})
	assert sorted(u["name"] for u in kim.wait("users", ref=1)["users"]) == ["Ana", "Ben", "Cara", "Kim"]


def test_nobody_to_join(meeting: Callable[..., Headless]) -> None:
	started = time.monotonic()
	lost = enter(meeting, free_base(), "Ben", program=PROGRAM)
	assert lost.wait("denied", timeout=12)["code"] == "no_meeting"
	assert lost.process.wait(5) == 1
	assert time.monotonic() - started < 12
