"""Bad input on every port of a running meeting: dropped, counted, and two others never notice."""

from __future__ import annotations

import contextlib
import json
import random
import re
import secrets
import signal
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import wire_examples
from conftest import Meeting
from headless import Headless
from meetings import LOOPBACK, join, serve, stats, switch
from member import HELLO, SEED, Member, bombs, jpeg, noise, read_to_end, tls

import connectsphere as cs
from connectsphere import Json

pytestmark = pytest.mark.xdist_group("lesson")


@dataclass
class Lesson:
	"""Ana, host, is seen and heard by Ben while strangers and members misbehave."""

	server: Headless
	ana: Headless
	ben: Headless
	base: int
	said: int = 0

	def check_undisturbed(self) -> None:
		"""Chat goes both ways, pictures flow, sound flows, nothing was logged as a bug."""
		self.said += 1
		for one, other in ((self.ana, self.ben), (self.ben, self.ana)):
			text = f"calm {self.said} {id(one)}"
			one.send({"do": "chat", "text": text})
			other.wait("chat", text=text)
		frames = stats(self.ben)["video"]["Ana"]["frames"]
		heard = stats(self.ben)["audio"]["received"]
		until = time.monotonic() + 10
		while True:
			now = stats(self.ben)
			if now["video"]["Ana"]["frames"] >= frames + 3 and now["audio"]["received"] >= heard + 5:
				break
			assert time.monotonic() < until, now
			time.sleep(0.05)
		assert "Traceback" not in self.server.errors()


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lesson]:
	started = Meeting(tmp_path_factory.mktemp("lesson"))
	try:
		server, base = serve(started, "-v")
		key = ("--host-key", str(server.home / "host.key"))
		ana = join(started, base, "Ana", *key, "--camera", "pattern", "--mic", "tone")
		ben = join(started, base, "Ben")
		for what in ("camera", "mic"):
			switch(ana, what, True)
		ben.send({"do": "watch", "streams": {"Ana": {"layer": 0, "fps": 15}}})
		ben.wait("speaking", name="Ana")
		until = time.monotonic() + 15
		while "Ana" not in stats(ben)["video"] and time.monotonic() < until:
			time.sleep(0.1)
		yield Lesson(server, ana, ben, base)
		server.process.send_signal(signal.SIGTERM)
		server.process.wait(10)
		counted = re.search(r"dropped and counted: (\{.*\})", server.errors())
		assert counted, server.errors()
		print(counted[1])
		assert "'bugs'" not in counted[1]
	finally:
		started.close()


# -- TCP ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plane", [0, 1, 2], ids=["control", "screen", "files"])
def test_bytes_that_are_no_tls(lesson: Lesson, plane: int) -> None:
	for said in (noise(1), noise(300), noise(70_000), b"\x16\x03\x01\xff\xff" + noise(400), b"\n" * 5_000):
		with socket.create_connection((LOOPBACK, lesson.base + plane), 10) as raw:
			raw.settimeout(15)
			with contextlib.suppress(ConnectionResetError, BrokenPipeError):
				raw.sendall(said)
				read_to_end(raw)
	lesson.check_undisturbed()


BEFORE_THE_WELCOME = {
	"random": noise(3_000) + b"\n",
	"not an object": b"[1,2]\n",
	"deep": b'{"type":' + b"[" * 30_000 + b"\n",
	"NaN": b'{"type":"hello","v":NaN,"name":"Eve"}\n',
	"unknown": b'{"type":"dance"}\n',
	"no type": b"{}\n",
	"type of a wrong type": b'{"type":{"a":1}}\n',
	"name of a wrong type": b'{"type":"hello","v":1,"name":7}\n',
	"huge number": b'{"type":"hello","v":1' + b"0" * 9_000 + b',"name":"Eve"}\n',
	"chat before hello": b'{"type":"chat","text":"hm"}\n',
	"another version": b'{"type":"hello","v":99,"name":"Eve"}\n',
	"oversized": b'{"type":"hello","v":1,"name":"' + b"x" * 70_000 + b'"}\n',
	"endless": b"x" * 2_000_000,
	"truncated": b'{"type":"hello","v":1,',
	"invalid UTF-8": b'{"type":"hello","v":1,"name":"\xff\xfe"}\n',
	"lone surrogate": b'{"type":"hello","v":1,"name":"\\ud800"}\n',
}


@pytest.mark.parametrize("said", BEFORE_THE_WELCOME.values(), ids=BEFORE_THE_WELCOME.keys())
def test_a_stranger_who_speaks_nonsense_is_turned_away(lesson: Lesson, said: bytes) -> None:
	with tls(lesson.base) as link:
		with contextlib.suppress(OSError):
			link.sendall(said)
		lines = read_to_end(link).splitlines()
	for line in lines:
		answer = json.loads(line)
		assert answer["type"] == "denied" and answer["code"] in ("bad_command", "other_version")
	lesson.check_undisturbed()


def test_last_words_arrive_although_more_was_said(lesson: Lesson) -> None:
	"""Closing a connection with unread bytes would reset it, and the reason with it."""
	for _ in range(10):
		with tls(lesson.base) as link:
			link.sendall(b'{"type":"hello","v":99,"name":"Eve"}\n' + b'{"type":"ping","t":1}\n' * 2_000)
			assert json.loads(read_to_end(link))["type"] == "denied"


@pytest.mark.long
@pytest.mark.parametrize("plane", [1, 2], ids=["screen", "files"])
def test_nonsense_on_the_other_planes(lesson: Lesson, plane: int) -> None:

	def say(said: bytes) -> None:
		with (
			contextlib.suppress(ConnectionResetError, ssl.SSLError, BrokenPipeError),
			tls(lesson.base, plane) as link,
		):
			link.sendall(said)
			read_to_end(link)

	words = (
		b"\xff\xff\xff\xff" + noise(100),
		struct.pack(">I", 50) + noise(50),
		struct.pack(">I", 2) + b"{}",
		struct.pack(">I", 70_000) + b"[" * 70_000,
		b'{"type":"file_upload","ticket":7}\n',
	)
	with ThreadPoolExecutor() as pool:  # silence is waited for at once
		list(pool.map(say, words))
	lesson.check_undisturbed()


def test_many_half_open_connections(lesson: Lesson) -> None:
	with contextlib.ExitStack() as stack:
		for _ in range(150):
			stack.enter_context(socket.create_connection((LOOPBACK, lesson.base), 10))
		with tls(lesson.base) as link:
			link.sendall(json.dumps(HELLO).encode() + b"\n")
			assert json.loads(link.makefile("rb").readline())["type"] == "welcome"
	lesson.check_undisturbed()


@pytest.fixture
def member(lesson: Lesson) -> Iterator[Member]:
	with tls(lesson.base) as link:
		one = Member(link, lesson.base)
		one.enter()
		lesson.ben.wait("join", id=one.welcome["id"])
		yield one
		one.close()
	lesson.ben.wait("leave", id=one.welcome["id"])


WRONG_MESSAGES: tuple[bytes | dict[str, Any], ...] = (
	noise(500).replace(b"\n", b" ") + b"\n",
	b"[" * 20_000 + b"\n",
	b'{"type":"chat","text":NaN}\n',
	b'{"type":"ping","t":1e999}\n',
	{"type": "dance", "ref": 3},
	{"type": "welcome", "ref": 2**53},
	{"type": "chat", "text": 7},
	{"type": "chat", "text": "x" * 5_000},
	{"type": "private_chat", "to_name": ["Ben"], "text": "x"},
	{"type": "watch", "streams": {"-1": {"layer": 0, "fps": 15}}},
	{"type": "watch", "streams": {"1": {"layer": 9, "fps": 15}}},
	{"type": "watch", "streams": {"1": {"layer": 0, "fps": 10**30}}},
	{"type": "watch", "streams": {str(n): {"layer": 0, "fps": 1} for n in range(900)}},
	{"type": "mute", "who": True},
	{"type": "remove", "who": "all"},
	{"type": "mic", "on": 1},
	{"type": "hand", "up": None},
	{"type": "ticket", "plane": "control", "direction": "upload", "ref": 1},
	{"type": "file_offer", "name": "x" * 5_000, "size": -1, "sha256": "", "ref": 1},
	{"type": "hello", "v": 1, "name": "again"},
	{"type": "pin", "message": "00" * 33},
)


def test_a_member_who_speaks_nonsense_is_answered_and_stays(lesson: Lesson, member: Member) -> None:
	for wrong in WRONG_MESSAGES:
		member.say(wrong)
		assert member.hear("error")["code"] in ("bad_command", "not_allowed"), wrong
	for host_only in ({"type": "mute", "who": "all"}, {"type": "remove", "who": 1}, {"type": "end"}):
		member.say(host_only)
		assert member.hear("error")["code"] == "not_allowed"
	member.say({"type": "chat", "text": "I am still here"})
	lesson.ben.wait("chat", text="I am still here", **{"from": member.welcome["name"]})
	lesson.check_undisturbed()


def answers(member: Member, said: Sequence[Json], last: int = 999_999) -> dict[Any, list[Json]]:
	"""What carried each `ref` by the time that all was answered."""
	found: dict[Any, list[Json]] = {}
	for message in said:
		member.say(message)
	member.say({"type": "ping", "t": 5, "ref": last})
	while last not in found:
		message = json.loads(member.lines.readline())
		if "ref" in message:
			found.setdefault(message["ref"], []).append(message)
	return found


def test_each_ref_gets_exactly_one_answer(lesson: Lesson, member: Member) -> None:
	"""Whatever is asked, in good order or not, allowed or not, and however often."""
	asked: list[Json] = []
	for kind, fields in wire_examples.CLIENT.items():
		if kind in ("leave", "hello", "pin", "pin_proof", "proof"):
			continue
		good = {"type": kind, **fields}
		asked += [good, *({**good, key: [[]]} for key in fields), {"type": kind}, good]
	asked += [{"type": "dance"}, {"type": "chat", "text": "\u200b"}, {"type": "hello", "v": 2, "name": "T"}]
	found = answers(member, [{**one, "ref": ref} for ref, one in enumerate(asked)])
	assert set(found) == {*range(len(asked)), 999_999}
	assert {len(one) for one in found.values()} == {1}
	assert found[999_999] == [{"type": "pong", "t": 5, "ref": 999_999}]
	member.say({"type": "leave", "ref": 7})
	assert member.hear("ok") == {"type": "ok", "ref": 7}


def test_what_only_a_later_version_can_mean_is_skipped(lesson: Lesson) -> None:
	with tls(lesson.base) as link:
		link.sendall(b'{"type":"dance"}\n')
		one = Member(link, lesson.base)
		one.enter(features=["webp", "of_a_later_version"], more={"a": 1})
		assert one.welcome["features"] == list(cs.FEATURES)
		found = answers(one, [{"type": "dance"}, {"type": "hand", "up": True, "ref": 5, "grace": 1}])
		assert found[5][0]["type"] == "state"
		one.say({"type": "ticket", "plane": "screen", "direction": "viewer", "ref": 6})
		hello = {"v": 1, "role": "viewer", "ticket": one.hear("ticket")["ticket"], "more": 1}
		with tls(lesson.base, 1) as screen:
			screen.sendall(cs.encode_record(hello) + 3 * cs.encode_message(b"\xc8later"))
			assert screen.recv(100) == cs.encode_record({"status": "ok"})
			screen.settimeout(0.3)
			with pytest.raises(TimeoutError):  # it stays open
				screen.recv(100)
		one.close()
	lesson.check_undisturbed()


@pytest.mark.parametrize(
	"said", [{"v": 2, "who": "T"}, {"v": "x"}, {**HELLO, "v": 99}, {"v": [], "type": "file_upload"}]
)
def test_the_version_counts_before_all_else(lesson: Lesson, said: Json) -> None:
	refused = {"code": "other_version", "versions": [cs.PROTOCOL]}
	for plane, data, answer in (
		(
			0,
			json.dumps(said).encode() + b"\n",
			json.dumps({"type": "denied", **refused}, separators=(",", ":")).encode() + b"\n",
		),
		(1, cs.encode_record(said), cs.encode_record({"status": "denied", **refused})),
		(2, json.dumps(said).encode() + b"\n", b"FAILED other_version\n"),
	):
		with tls(lesson.base, plane) as link:
			link.sendall(data)
			assert read_to_end(link) == answer


def test_a_member_without_end_of_line_goes(lesson: Lesson, member: Member) -> None:
	with contextlib.suppress(OSError):
		member.say(b"x" * 3_000_000)
	read_to_end(member.link)
	lesson.check_undisturbed()


def test_a_member_who_never_reads(lesson: Lesson, member: Member) -> None:
	with contextlib.suppress(OSError):
		for n in range(300):
			member.say({"type": "chat", "text": f"{n} " + "x" * 3_000})
	lesson.check_undisturbed()


# -- UDP ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plane", [1_000, 2_000], ids=["video", "audio"])
def test_datagrams_of_strangers(lesson: Lesson, plane: int) -> None:
	dice = random.Random(SEED + plane)
	ids = [one.seen("joined")[0]["id"] for one in (lesson.ana, lesson.ben)]
	with socket.socket(type=socket.SOCK_DGRAM) as udp:
		udp.connect((LOOPBACK, lesson.base + plane))
		for n in range(2_000):
			size = dice.choice((0, 1, 7, 8, 11, 12, 13, 24, 28, 60, 536, 1_111, 1_112, 1_113, 9_000))
			data = dice.randbytes(size)
			if n % 2 and size >= 12:
				total, part = dice.choice(((0, 1), (0, 3), (0, 4), (1, 0), (1, 1), (256, 255), (65_535, 0)))
				data = struct.pack(">IIHH", dice.choice(ids), n, total, part) + data[12:]
			with contextlib.suppress(ConnectionRefusedError):
				udp.send(data)
			if n % 100 == 0:
				time.sleep(0.005)
		udp.settimeout(0.2)
		with pytest.raises(TimeoutError):
			udp.recv(2_048)  # nobody answers a stranger
	lesson.check_undisturbed()


def test_forged_replayed_and_unbound_sound(lesson: Lesson, member: Member) -> None:
	member.bind("audio")
	member.say({"type": "mic", "on": True})
	ident, udp, sealer = member.welcome["id"], member.udp["audio"], member.sealers["audio"]
	loud = (np.sin(np.arange(256) * 0.3) * 20_000).astype(">i2").tobytes()

	def block(seq: int) -> bytes:
		return cs.audio_datagram(ident, seq, sealer.seal(cs.Kind.AUDIO, ident, seq, loud))

	with socket.socket(type=socket.SOCK_DGRAM) as elsewhere:
		elsewhere.connect(udp.getpeername())
		for seq in range(100, 130):
			elsewhere.send(block(seq))  # sealed well, from an address that is not bound
	for _ in range(50):
		udp.send(cs.audio_datagram(ident, 200, secrets.token_bytes(528)))
	time.sleep(0.5)
	assert not lesson.ben.seen("speaking", id=ident)
	good = [block(seq) for seq in range(300, 400)]
	for data in good:
		udp.send(data)
		time.sleep(0.016)
	lesson.ben.wait("speaking", id=ident)
	for data in good * 3:
		udp.send(data)
	lesson.ben.wait("speaking", id=lambda other: other != ident)
	lesson.check_undisturbed()


def test_jpeg_bombs_reach_nobody(lesson: Lesson, member: Member) -> None:
	member.bind("video")
	member.say({"type": "video_start"})
	name = member.welcome["name"]
	lesson.ben.send(
		{"do": "watch", "streams": {n: {"layer": 0, "fps": 15} for n in ("Ana", name)}},
	)
	member.hear("encode")
	for bomb in bombs().values():
		member.send_frame(bomb)
		time.sleep(0.1)
	member.udp["video"].send(member.frame(jpeg(160, 90))[:-20] + bytes(20))  # damaged
	time.sleep(0.3)
	assert stats(lesson.ben)["video"].get(name, {"frames": 0})["frames"] == 0
	for _ in range(5):
		member.send_frame(jpeg(160, 90))
		time.sleep(0.1)
	until = time.monotonic() + 5
	while not stats(lesson.ben)["video"].get(name, {"frames": 0})["frames"]:
		assert time.monotonic() < until, "a good picture after the bad ones does not come through"
		time.sleep(0.1)
	lesson.ben.send({"do": "watch", "streams": {"Ana": {"layer": 0, "fps": 15}}})
	lesson.check_undisturbed()
	assert "Traceback" not in lesson.ben.errors()


def test_a_flood_of_chat_is_answered_and_costs_only_its_author(
	lesson: Lesson, member: Member, meeting: Callable[..., Headless]
) -> None:
	for n in range(600):
		member.say({"type": "chat", "text": f"flood {n}"})
	assert member.hear("error")["code"] == "not_allowed"
	lesson.check_undisturbed()
