"""Who asks for much makes way for who asks for little: places, room and bytes that many share."""

from __future__ import annotations

import contextlib
import itertools
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from headless import free_base
from meetings import LOOPBACK
from member import HELLO, Member, jpeg, tls
from test_room import SHA, World
from waiting import cheap, wait_until

import connectsphere as cs

CROWD, ALONE = "10.0.0.66", "10.0.0.5"
SECRET = "5e" * 32


@pytest.fixture
def world() -> World:
	return World()


# -- places in the meeting


def lobby(room: cs.Room, options: cs.ServerOptions | None = None, **more: Any) -> cs.Lobby:
	serves = SimpleNamespace(serving=True)
	facts = {
		"room": room,
		"options": options or cs.ServerOptions(),
		"loop": None,
		"succession": serves,
		**more,
	}
	server = SimpleNamespace(**facts, identity=SimpleNamespace(fingerprint="ab" * 32))
	return cs.Lobby(cast(Any, server))


def newcomer(address: str) -> cs.ControlSession:
	return cs.ControlSession(cast(Any, None), address, hello=HELLO)


@pytest.mark.parametrize("hosted", [True, False])
def test_places_kept_for_the_lost_give_way_to_newcomers(
	hosted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""One computer comes and goes; the last place of all stays the host's, and who has one keeps it."""
	world = World()
	world.now = cs.monotonic()
	monkeypatch.setattr(cs, "monotonic", lambda: world.now)
	host = world.join("Ms Lee", "host", ALONE) if hosted else None
	lost = world.join("Ben", address=ALONE)
	world.leave(lost, "lost")
	for n in range(cs.MAX_PEOPLE + 20):
		world.leave(world.join(f"Ghost {n}", address=CROWD), "lost")
	for n in range(20):
		assert lobby(world.room)._has_room(newcomer(f"10.0.1.{n}"))
		world.join(f"Ann {n}", address=f"10.0.1.{n}")
	assert len(world.room.names.awaited(world.now)) <= cs.MAX_PEOPLE - (not hosted)
	assert world.room.names.claim(world.tokens[lost.id], world.now) == ("Ben", True)
	for n in itertools.count(20):  # people of flesh and blood fill it
		if not lobby(world.room)._has_room(newcomer(f"10.0.1.{n}")):
			break
		world.join(f"Ann {n}", address=f"10.0.1.{n}")
	assert len(world.room.members) == cs.MAX_PEOPLE - (not hosted)
	assert host is None or host.id in world.room.members


def at_the_door(room: cs.Room, **options: Any) -> tuple[cs.Lobby, Callable[..., Any], list[str]]:
	"""A lobby that lets in; (it, what makes a newcomer at a stage, what newcomers are told)."""
	told: list[str] = []

	def admit(session: cs.ControlSession) -> None:
		session.become("in")
		room.join(session.hello["name"], "member", session.address, None, cs.monotonic())

	def come(address: str, stage: str = "hello") -> cs.ControlSession:
		link = SimpleNamespace(closed=False, close=lambda _: None)
		link.send = lambda line: told.append(cs.parse_json(line)["type"])
		return cs.ControlSession(cast(Any, link), address, stage, hello=HELLO)

	loop = SimpleNamespace(later=lambda *_: None, counters=cs.Counters())
	acts = {"loop": loop, "admit": admit, "tell_hosts": lambda *_, **__: None}
	return lobby(room, cs.ServerOptions(**options), **acts), come, told


def test_who_has_proved_the_pin_knocks_all_the_same(world: World) -> None:
	world.room.classroom.set.door = "knock"
	lobby, come, told = at_the_door(world.room, pin="482913")
	session = come(ALONE, "confirm")
	session.proof = cast(Any, SimpleNamespace(confirm=lambda _: b"mac"))
	lobby._on_pin_proof(session, {"mac": "00"})
	assert (told, session.stage) == (["pin_proof", "waiting"], "waiting")
	lobby.settle(session.ask, True)
	assert session.stage == "in"


def test_who_proves_the_pin_at_a_server_that_serves_no_longer_is_told_so(world: World) -> None:
	lobby, come, told = at_the_door(world.room, pin="482913")
	session = come(ALONE, "confirm")
	session.proof = cast(Any, SimpleNamespace(confirm=lambda _: b"mac"))
	lobby._server.succession.serving = False
	lobby._on_pin_proof(session, {"mac": "00"})
	assert (told, session.stage) == (["pin_proof", "denied"], "over")


@pytest.mark.parametrize("way", ["knock", "pin"])
def test_nobody_comes_in_beyond_the_last_place(way: str, world: World) -> None:
	"""Who waited or proved the PIN while others came finds it full, or the roster fits no welcome."""
	lobby, come, told = at_the_door(world.room, pin="482913" * (way == "pin"))
	world.room.classroom.set.door = "knock" if way == "knock" else "open"
	sessions = [come(f"10.0.1.{n}", "confirm" if way == "pin" else "hello") for n in range(3)]
	for session in sessions if way == "knock" else ():
		lobby._enter(session, HELLO)
	for n in range(cs.MAX_PEOPLE - 2):
		world.join(f"Ann {n}", "host" if not n else "member", address=f"10.0.2.{n}")
	for session in sessions:
		if way == "knock":
			lobby.settle(session.ask, True)
		else:
			session.proof = cast(Any, SimpleNamespace(confirm=lambda _: b"mac"))
			lobby._on_pin_proof(session, {"mac": "00"})
	assert [session.stage for session in sessions] == ["in", "in", "over"]
	assert told[-1] == "denied" and len(world.room.members) == cs.MAX_PEOPLE


@pytest.mark.parametrize("reason", ["alive", "denied", "gone"])
def test_a_server_that_asks_how_this_one_is_has_not_tried_to_come_in(reason: str) -> None:
	server = object.__new__(cs.ConferenceServer)
	server.tried, server.lobby = (), cast(Any, SimpleNamespace(forget=lambda session: None))
	server._closed(cs.ControlSession(cast(Any, None), ALONE, "over"), reason)
	assert server.tried == (() if reason == "alive" else (ALONE,))


# -- attempts at the PIN


def test_guessers_leave_half_of_the_attempts_to_others() -> None:
	gate = cs.PinGate()
	guessed = sum(gate.take(f"10.0.0.{n % 8}", 1.0) for n in range(100))
	assert guessed == cs.PinGate.IN_ALL // 2
	came = [gate.take(f"10.0.1.{n}", 2.0) for n in range(20)]
	assert sum(came) == cs.PinGate.IN_ALL // 2 and all(came[:10])
	assert not gate.take("10.0.2.1", 60.0) and gate.take("10.0.2.1", 61.1)


class Pinned:
	"""A server with a PIN in this process, and what connects to it by hand."""

	def __init__(self, home: Path) -> None:
		options = cs.ServerOptions(
			base=free_base(), bind=LOOPBACK, pin="482913", host_key=cs.HostRight(SECRET).public
		)
		self.server = cs.ConferenceServer(options, cs.load_identity(home))
		self.server.start()
		self.stack = contextlib.ExitStack()
		self.stack.callback(self.server.close)

	def hello(self, source: str) -> Any:
		"""Who says that it has a PIN, and then nothing."""
		link = self.stack.enter_context(tls(self.server.options.base, 0, source))
		link.sendall(b'{"type":"hello","v":1,"name":"Eve","pin":true}\n')
		return link


@pytest.fixture
def pinned(tmp_path: Path) -> Iterator[Pinned]:
	one = Pinned(tmp_path)
	with one.stack:
		yield one


def test_silence_is_no_attempt(pinned: Pinned, monkeypatch: pytest.MonkeyPatch) -> None:
	"""Who begins a proof and ends without a guess has used none up, however it ends."""
	monkeypatch.setattr(cs, "HANDSHAKE_SECONDS", 0.3)
	gate = pinned.server.lobby._gate
	for n in range(8):
		link = pinned.hello(f"127.0.0.{n + 1}")
		assert b'"pin"' in link.recv(4096)
		if n % 2:
			link.close()
	wait_until(lambda: not gate._started)


def test_who_waits_in_vain_hears_why(pinned: Pinned, monkeypatch: pytest.MonkeyPatch) -> None:
	monkeypatch.setattr(cs.PinGate, "IN_ALL", 0)
	monkeypatch.setattr(cs.Lobby, "PATIENCE", 0.3)
	with tls(pinned.server.options.base) as link:
		host = Member(link, pinned.server.options.base)
		host.enter(host_key=SECRET)
		eve = pinned.hello("127.0.0.8")
		assert host.hear("asks")["name"] == "Eve"
		assert b'"many"' in eve.recv(4096)
		host.hear("ask_gone")
		host.close()


# -- files


def test_what_was_never_sent_takes_room_from_nobody(world: World) -> None:
	limits = world.room.shelf.limits
	for n in range(6):
		eve = world.join(f"Eve {n}", address=CROWD)
		for m in range(cs.MOST_FILES_A_PERSON):
			world.say(eve, "file_offer", name=f"{m}", size=limits.largest_person // 300, sha256=SHA, ref=m)
	ana = world.join("Ana", address=ALONE)
	world.say(ana, "file_offer", name="sheet", size=1_000, sha256=SHA, ref=1)
	assert world.heard(ana, "file_ready")


def test_leaders_always_have_room(world: World) -> None:
	limits = world.room.shelf.limits
	limits.largest_meeting = 10
	ana, host = world.join("Ana"), world.join("Ms Lee", "host")
	for who in (ana, ana, host):
		world.say(who, "file_offer", name=f"{len(world.room.shelf.offers)}", size=8, sha256=SHA, ref=1)
		world.room.shelf.file_whole(next(reversed(world.room.shelf.offers)))
	assert world.heard(ana, "error")[-1]["code"] == "too_large"
	assert world.heard(host, "file_ready")


def moving(address: str, idle: float, aborted: list[str]) -> cs.FileConnection:
	stream = SimpleNamespace(abort=lambda: aborted.append(address))
	return cs.FileConnection(cast(Any, stream), address, idle=idle)


@pytest.mark.parametrize(
	("others", "leads", "goes"),
	[
		([(CROWD, math.inf)] * 63 + [(ALONE, 3.0)], False, ALONE),  # who has not begun
		([(CROWD, 9.0), (CROWD, 4.0), (ALONE, 3.0)], False, ALONE),  # longest
		([(CROWD, math.inf)] * 3 + [("10.0.0.7", math.inf)] * 2, False, CROWD),
		([(f"10.0.1.{n}", math.inf) for n in range(64)], False, ""),
		([(f"10.0.1.{n}", math.inf) for n in range(64)], True, "10.0.1.0"),
	],
)
def test_transfers_make_way(others: list[tuple[str, float]], leads: bool, goes: str) -> None:
	aborted: list[str] = []
	there = [moving(*one, aborted) for one in others]
	store = cast(Any, SimpleNamespace())
	with contextlib.nullcontext() if goes else pytest.raises(cs.Refused, match="busy"):
		cs.FileStore._make_way(store, there, "10.0.0.9", leads)
	assert aborted == [goes][: bool(goes)]
	assert sum(one.yields for one in there) == bool(goes)


# -- the program that is given on


def test_browsers_of_the_busiest_address_make_way(monkeypatch: pytest.MonkeyPatch) -> None:
	monkeypatch.setattr(cs, "GIVE_AT_ONCE", 6)
	with (
		contextlib.closing(cs.AppGiver(LOOPBACK, rate=50_000, port=0)) as giver,
		contextlib.ExitStack() as stack,
	):
		place = (LOOPBACK, int(giver.url.rpartition(":")[2]))

		def ask(source: str) -> socket.socket:
			one = stack.enter_context(socket.create_connection(place, 5, (source, 0)))
			one.sendall(f"GET /{giver.name} HTTP/1.0\r\n\r\n".encode())
			return one

		for n in range(6):
			assert ask(f"127.0.1.{n % 2}").recv(1)
		assert ask("127.0.0.77").recv(1)
		assert len(giver._server._open) <= 6


def test_giving_asks_no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
	def never(*_: object) -> str:
		raise AssertionError("a name was looked up")

	monkeypatch.setattr(socket, "getfqdn", never)
	cs.AppGiver(LOOPBACK, port=0).close()


# -- discovery


def ad_of(n: int) -> cs.Json:
	return {
		"meeting": f"{n:032x}",
		"title": f"Meeting {n}",
		"host": f"H{n}",
		"port": 9000,
		"people": 3,
		"pin": False,
		"locked": False,
		"fingerprint": f"{n:064x}",
		"version": cs.PROTOCOL,
	}


def test_inventions_keep_no_known_host_out() -> None:
	heard = cs.MeetingList({ALONE})
	for n in range(cs.MOST_ADS):
		heard.note(ad_of(n), f"10.0.0.{66 + n // 8}", 1.0)
	with pytest.raises(cs.PeerFault, match="too_many"):
		heard.note(ad_of(98), "10.0.0.4", 1.1)
	heard.note(ad_of(99), ALONE, 1.1)
	assert [ad.title for ad in heard.meetings(1.2)][-1] == "Meeting 99"


def test_many_who_ask_all_the_time_leave_answers_for_those_who_ask_as_the_program_does() -> None:
	limit, answered, asked = cs.AnswerLimit(), 0, 0
	for tick in range(1_000):
		for k in range(10):
			limit.admit(f"{tick} {k}", f"10.0.{(tick * 10 + k) % 200}.1", tick / 100)
		if tick % 4 == 0:  # fifty pupils, each every two seconds
			asked += tick > 200
			answered += tick > 200 and limit.admit(f"honest {tick}", f"10.9.0.{tick // 4 % 50}", tick / 100)
	assert answered == asked


# -- chat, screen and pictures: bytes


def test_chat_of_an_address_has_a_bound_whatever_it_is_called(world: World) -> None:
	line, octets = "🙂" * cs.MAX_CHAT, 0
	ana, ben = world.join("Ana", address=ALONE), world.join("Ben", address=ALONE)
	for n in range(8):
		eve = world.join(f"Eve {n}", address=CROWD)
		with contextlib.suppress(cs.PeerFault):
			for _ in range(250):
				world.say(eve, "chat", text=line)
				octets += len(line.encode())
	assert octets <= cs.TEXT_OCTETS[0]
	world.say(ana, "chat", text="Good morning")
	assert world.heard(ben, "chat")[-1]["text"] == "Good morning"


def test_the_screen_is_the_hosts_when_the_host_takes_it(world: World) -> None:
	"""Others may be quicker, and have asked before: the host gets it at the first try."""
	host, ana, eve = world.join("Ms Lee", "host"), world.join("Ana"), world.join("Eve", address=CROWD)
	early = world.ticket(eve, "screen", "presenter")
	world.note(world.room.planes.share_start(ana.id))
	world.say(host, "take_over")
	with pytest.raises(cs.PeerFault):
		world.room.planes.redeem(early, "screen", world.now)
	for who in (eve, world.join("Eve again", address=CROWD), ana):
		world.say(who, "ticket", plane="screen", direction="presenter", ref=2)
	assert world.heard(eve, "error")[-1]["code"] == "share_busy"
	mine = world.ticket(host, "screen", "presenter")
	assert world.room.planes.redeem(mine, "screen", world.now).member == host.id
	world.now += cs.TICKET_SECONDS + 1
	assert world.ticket(eve, "screen", "presenter")


@pytest.mark.parametrize("layer", range(len(cs.LAYERS)))
@pytest.mark.parametrize("marker", [b"\xff\xfe", b"\xff\xe1"])
def test_a_picture_has_no_more_bytes_than_its_size_can_use(layer: int, marker: bytes) -> None:
	plain, bound = jpeg(*cs.LAYERS[layer]), cs.PICTURE_HEAD + 1.5 * math.prod(cs.LAYERS[layer])
	room = int(bound) - len(plain)

	def padded(octets: int) -> bytes:
		parts = [min(60_000, octets - at) for at in range(0, octets, 60_000)]
		filling = b"".join(
			marker + (part - 2).to_bytes(2, "big") + bytes(part - 4) for part in parts if part > 4
		)
		return plain[:2] + filling + plain[2:]

	for octets in (0, room, room + 100):
		picture = padded(octets) if octets else plain
		assert cs.fits_layer(cs.jpeg_size(picture), layer, len(picture)) == (octets <= room)


@pytest.mark.parametrize("quality", [10, 45, 72, 80, 95])
def test_any_picture_of_a_camera_fits(quality: int) -> None:
	noise = np.random.default_rng(1).integers(0, 256, (360, 640, 3), np.uint8)
	for layer in range(3):
		picture = cs.encode_jpeg(noise[: cs.LAYERS[layer][1], : cs.LAYERS[layer][0]], quality)
		assert cs.fits_layer(cs.coded_size(picture), layer, len(picture))
		if layer == 0:
			small = cs.encode_webp(noise[:90, :160], quality)
			assert cs.fits_layer(cs.coded_size(small), layer, len(small))


def test_a_table_of_tiles_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
	"""Waiting for their commit or not, and whatever is replaced; what was replaced is room again."""
	monkeypatch.setattr(cs.TileTable, "MOST", 100_000)
	table, refused = cs.TileTable(), 0
	table.set_geometry(cs.Geometry(1, 640, 640))
	for version in range(1, 40):
		for x in range(0, 640, 64):
			try:
				table.put(cs.Rectangle(1, version, x, 0, 64, 64, cs.Codec.JPEG, bytes(4_000)))
			except cs.PeerFault:
				refused += 1
			assert table._size <= 100_000
		if version % 3:
			table.commit(cs.Commit(1, version))
	assert refused
	table.commit(cs.Commit(1, 40))
	assert table._size == sum(map(len, (one.data for one in table._rectangles.values())))


def test_geometries_have_a_pace() -> None:
	peer = cs.ScreenPeer(cast(Any, None), cs.MessageSplitter(), "presenter")
	manager = cast(Any, SimpleNamespace(_on_presenter=lambda message: None))

	def say(epoch: int) -> None:
		cs.ScreenShareManager._on_message(manager, peer, cs.encode_screen(cs.Geometry(epoch, 800, 600)))

	for epoch in range(50):  # somebody drags a window's edge
		say(epoch)
	with pytest.raises(cs.PeerFault, match="geometry"):
		for epoch in range(50, 500):
			say(epoch)


@pytest.mark.parametrize(
	"message",
	[cs.Geometry(1, 7680, 4320), cs.Commit(1, 1), cs.Pointer(1, 1, True)],
	ids=lambda one: type(one).__name__,
)
def test_what_waits_for_a_viewers_decoder_is_bounded_in_messages_too(
	message: cs.ScreenMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
	viewer = cs.ScreenViewer(cast(Any, SimpleNamespace(post=lambda call: None, counters=cs.Counters())))
	gate = threading.Event()
	take: Callable[..., None] = viewer._take
	monkeypatch.setattr(viewer, "_take", lambda *job: (gate.wait(20), take(*job)))
	monkeypatch.setattr(viewer, "MOST_WAITING", 1 << 16)
	put = itertools.count()
	with pytest.raises(cs.PeerFault, match="screen_flood"):
		while next(put) < 10_000:
			viewer.put(None, message)  # type: ignore[arg-type]
	assert next(put) <= (1 << 16) // 512 + 3
	gate.set()
	wait_until(lambda: viewer._taken == viewer._put)
	viewer.put(None, message)  # type: ignore[arg-type]
	viewer.close()


def test_a_crowd_of_names_costs_little_time(world: World) -> None:
	"""Making room is no work that grows with who came and went."""
	for n in range(cs.MAX_PEOPLE + 100):
		world.room.leave(
			world.room.join(f"Ghost {n}", "member", CROWD, None, world.now)[0].id, "lost", world.now
		)
	begun = time.thread_time()
	world.room.names.give_way(world.now, cs.MAX_PEOPLE)
	assert cheap(time.thread_time() - begun, 0.5)
