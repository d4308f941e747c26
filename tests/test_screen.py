"""The screen plane: who may share, what viewers see, and that a slow one skips instead of lagging."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import Meeting
from headless import Headless, free_base
from hypothesis import given
from hypothesis import strategies as st
from meetings import SILENT
from pictures import film
from processes import child_in_role, kbytes
from proxy import Proxy
from screens import another_window, grabbed
from waiting import best_of, wait_until

import connectsphere as cs

LOOPBACK = "127.0.0.1"
Join = Callable[..., Headless]
shared = pytest.mark.xdist_group("call")


class Call:
	"""A host at 127.0.0.1 and whoever joins."""

	def __init__(self, meeting: Callable[..., Headless]) -> None:
		self.base = free_base()
		self._meeting = meeting
		where = ("--bind", LOOPBACK, "--port", str(self.base))
		self.host = meeting("--host", "--name", "Host", *where, *SILENT)
		self.host.wait("joined", 20)

	def join(self, name: str, address: str = LOOPBACK, **options: Any) -> Headless:
		one = self._meeting("--join", f"{address}:{self.base}", "--name", name, *SILENT, **options)
		one.wait("joined", 20)
		return one


@pytest.fixture
def call(meeting: Callable[..., Headless]) -> Call:
	return Call(meeting)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
	"""The call that tests marked `shared` have in common; each leaves it as it found it."""
	with contextlib.closing(Meeting(tmp_path_factory.mktemp("call"))) as started:
		yield Call(started)


@pytest.fixture
def proxy(call: Call) -> Iterator[Proxy]:
	with Proxy(call.base) as between:
		yield between


class BrokenLink:
	"""A link that is found broken at its `after`th writing, as a TlsLink finds it."""

	def __init__(self, after: int) -> None:
		self.left, self.closed, self.flow = after, False, ("in", "", 0)
		self.sent = bytearray()
		self.on_room: Callable[[], None] | None = None
		self.on_close: Callable[[str], None] = lambda reason: None

	def send(self, data: bytes) -> None:
		self.left -= 1
		if self.left < 0:
			self.discard("reset")
		elif not self.closed:
			self.sent += data

	def ask_room(self) -> None:
		self.left -= not self.closed
		if self.left < 0:
			self.discard("reset")
		elif self.on_room and not self.closed:
			self.on_room()

	def evict(self) -> None: ...

	def discard(self, reason: str) -> None:
		if not self.closed:
			self.closed = True
			self.on_close(reason)


class Plane:
	"""The server's screen plane with links that break when a test wants them to."""

	def __init__(self) -> None:
		self.presenter = self.peers = 0
		loop: Any = SimpleNamespace(counters=cs.Counters())
		half_open: Any = SimpleNamespace(leave=lambda end: None)
		self.manager = cs.ScreenShareManager(loop, loop, half_open, self._claim, self._released)

	def _claim(self, role: str, ticket: str) -> int:
		self.peers += 1
		if role == "presenter":
			self.presenter = self.peers
		return self.peers

	def _released(self, ident: int) -> None:
		self.presenter = 0

	def come(self, role: str, after: int = 9**9) -> tuple[cs.ScreenPeer, BrokenLink]:
		link: Any = BrokenLink(after)
		peer = cs.ScreenPeer(link, cs.MessageSplitter())
		link.on_close = lambda reason: self.manager._closed(peer)
		hello = {"v": 1, "role": role, "ticket": "ab" * 16}
		self.manager._on_message(peer, json.dumps(hello).encode())
		return peer, link


@pytest.mark.parametrize("after", range(4))
def test_a_presenter_whose_link_breaks_at_once_frees_the_screen(after: int) -> None:
	plane = Plane()
	_, link = plane.come("presenter", after)
	link.discard("reset")
	assert plane.presenter == 0 and plane.manager._presenter is None


@pytest.mark.parametrize("after", range(6))
def test_a_viewer_whose_link_breaks_is_gone_and_the_others_go_on(after: int) -> None:
	plane = Plane()
	viewers = [plane.come("viewer", after if n % 2 else 9**9)[0] for n in range(8)]
	presenter, _ = plane.come("presenter")
	for epoch in range(3):
		plane.manager._on_presenter(cs.Geometry(epoch, 64, 64))
		plane.manager._on_presenter(cs.Commit(epoch, 0))
		plane.manager._pass_on()
		plane.manager._start_anew()
	feeds = plane.manager._viewers
	assert feeds.keys() == {one for one in viewers if not one.link.closed}
	assert all(feeds[one]._table is plane.manager._table for one in viewers[::2])
	assert plane.manager._presenter is presenter


def screen_stats(one: Headless) -> dict[str, Any]:
	one.send(do="stats")
	found: dict[str, Any] = one.wait("stats")["screen"]
	return found


def snapshot(one: Headless, path: Path) -> cs.Picture:
	one.send(do="snapshot", of="screen", path=str(path))
	told = one.wait("snapshot", of="screen")
	picture = cv2.imread(str(path))
	assert picture.shape == (told["height"], told["width"], 3)
	return picture


def written_page(width: int, height: int, seed: int = 1) -> cs.Picture:
	"""Text on white, and a corner with noise in it that no lossy code keeps."""
	page = np.full((height, width, 3), 250, np.uint8)
	for line in range(height // 24):
		words = f"{line * seed:03} The quick brown fox jumps over the lazy dog"
		cv2.putText(page, words, (8, 20 + 24 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 20, 90), 1)
	noise = np.random.default_rng(seed).integers(0, 256, (100, 100, 3), np.uint8)
	page[-100:, -100:] = noise
	return page


@pytest.fixture
def still(tmp_path: Path) -> Path:
	path = tmp_path / "still.png"
	cv2.imwrite(str(path), written_page(1000, 700))
	return path


# -- what people see


def test_two_viewers_see_the_pattern_move(call: Call, tmp_path: Path) -> None:
	viewers = [call.join("Ana"), call.join("Ben")]
	call.host.send(do="share", on=True, source="pattern", ref="s")
	assert call.host.wait("screen_start", ref="s")["name"] == "Host"
	call.host.wait("state", sharing=True)
	for viewer in viewers:
		viewer.wait("screen_start", name="Host")
		wait_until(lambda v=viewer: screen_stats(v)["latency_ms"] is not None, 5)
	before = [screen_stats(viewer)["updates"] for viewer in viewers]
	for viewer, count in zip(viewers, before, strict=True):
		wait_until(lambda v=viewer, n=count: screen_stats(v)["updates"] - n >= 10, what="ten updates")
		wait_until(lambda v=viewer: screen_stats(v)["latency_ms"] < 1_000, what="an update that is prompt")
		assert screen_stats(viewer)["kbps"] > 0
	call.host.send(do="share", on=False, ref="e")
	call.host.wait("screen_stop", ref="e", name="Host")
	viewers[0].wait("screen_stop")
	viewers[0].send(do="snapshot", of="screen", path=str(tmp_path / "no.png"), ref=5)
	assert viewers[0].wait("error", ref=5)["code"] == "nothing_yet"


def test_a_still_picture_becomes_exact_and_then_costs_nothing(
	call: Call, still: Path, tmp_path: Path
) -> None:
	viewer = call.join("Ana")
	call.host.send(do="share", on=True, source=str(still))
	viewer.wait("screen_start")
	wait_until(lambda: screen_stats(viewer)["exact"], 5)
	assert (snapshot(viewer, tmp_path / "seen.png") == cv2.imread(str(still))).all()
	wait_until(lambda: screen_stats(viewer)["kbps"] == 0, 5)
	late = call.join("Late")
	assert wait_until(lambda: screen_stats(late)["exact"], 3) < 3
	assert (snapshot(late, tmp_path / "late.png") == cv2.imread(str(still))).all()


def test_another_size_in_mid_share(call: Call, still: Path, tmp_path: Path) -> None:
	viewer = call.join("Ana")
	other = tmp_path / "other.png"
	cv2.imwrite(str(other), written_page(333, 777, 7))
	for path in (still, other):
		call.host.send(do="share", on=True, source=str(path), ref=path.name)
		call.host.wait("screen_start", ref=path.name)
		shape = cv2.imread(str(path)).shape
		viewer.wait("screen_start")
		wait_until(lambda: screen_stats(viewer)["exact"], 5)
		wait_until(lambda s=shape: snapshot(viewer, tmp_path / "seen.png").shape == s, 3)
		assert (snapshot(viewer, tmp_path / "seen.png") == cv2.imread(str(path))).all()


def test_looking_away_and_back(call: Call, still: Path, tmp_path: Path) -> None:
	viewer = call.join("Ana")
	viewer.send(do="watch_screen", on=False)
	call.host.send(do="share", on=True, source=str(still))
	viewer.wait("screen_start")
	wait_until(lambda: screen_stats(call.host)["exact"], 5)
	viewer.send(do="snapshot", of="screen", path=str(tmp_path / "no.png"), ref=1)
	assert viewer.wait("error", ref=1)["code"] == "nothing_yet"
	viewer.send(do="watch_screen", on=True)
	wait_until(lambda: screen_stats(viewer)["exact"], 5)


def test_the_camera_is_off_while_sharing(meeting: Callable[..., Headless], call: Call) -> None:
	ana = meeting("--join", f"{LOOPBACK}:{call.base}", "--name", "Ana", "--camera", "pattern")
	ana.wait("joined", 20)
	ana.send(do="camera", on=True)
	ana.wait("device", what="camera", state="live")
	ana.send(do="share", on=True, source="pattern")
	ana.wait("device", what="camera", state="off")
	call.host.wait("video_stop", name="Ana")
	ana.send(do="share", on=False)
	ana.wait("device", what="camera", state="live")


@shared
def test_what_cannot_be_shared(lasting: Call) -> None:
	before = lasting.host.seen("screen_start")
	lasting.host.send(do="share", on=True, source="/no/such/file.png", ref=1)
	assert lasting.host.wait("error", ref=1)["code"] == "device"
	lasting.host.send(do="share", on=True, source=5, ref=2)
	assert lasting.host.wait("error", ref=2)["code"] == "bad_command"
	assert lasting.host.seen("screen_start") == before


# -- one presenter at a time


def test_a_second_presenter_is_told_who_shares(call: Call) -> None:
	ana = call.join("Ana")
	call.host.send(do="share", on=True, source="pattern")
	ana.wait("screen_start")
	ana.send(do="share", on=True, source="pattern", ref=3)
	error = ana.wait("error", ref=3)
	assert error["code"] == "share_busy"
	assert "Host" in error["reason"]
	call.host.send(do="share", on=False)
	ana.wait("screen_stop")
	ana.send(do="share", on=True, source="pattern", ref=4)
	ana.wait("screen_start", ref=4)


def test_the_host_takes_over_and_allows_again(call: Call) -> None:
	ana = call.join("Ana")
	ana.send(do="share", on=True, source="pattern")
	call.host.wait("screen_start", name="Ana")
	ana.send(do="take_over", ref=1)
	assert ana.wait("error", ref=1)["code"] == "not_allowed"
	call.host.send(do="take_over")
	call.host.wait("screen_stop", name="Ana")
	call.host.send(do="share", on=True, source="pattern")
	call.host.wait("screen_start", name="Host")
	call.host.send(do="share", on=False)
	ana.wait("error", code=("not_allowed", "share_busy").__contains__)  # whoever was quicker
	call.host.wait("screen_stop", name="Host")
	ana.send(do="share", on=True, source="pattern", ref=2)
	assert ana.wait("error", ref=2)["code"] == "not_allowed"
	call.host.send(do="permit", what="share", on=True, who="Ana")
	ana.send(do="share", on=True, source="pattern", ref=3)
	ana.wait("screen_start", ref=3, name="Ana")


def test_a_killed_presenter_frees_the_screen(call: Call) -> None:
	ana, ben = call.join("Ana"), call.join("Ben")
	ana.send(do="share", on=True, source="pattern")
	ben.wait("screen_start", name="Ana")
	ana.process.send_signal(signal.SIGKILL)
	killed = time.monotonic()
	ben.wait("screen_stop", 3, name="Ana")
	ben.send(do="share", on=True, source="pattern")
	call.host.wait("screen_start", 3, name="Ben")
	assert time.monotonic() - killed < 3


def test_the_share_goes_on_after_a_reconnect(call: Call, proxy: Proxy) -> None:
	ana, ben = call.join("Ana", proxy.address), call.join("Ben")
	ana.send(do="share", on=True, source="pattern")
	ben.wait("screen_start", name="Ana")
	proxy.cut()
	ana.wait("reconnected", 15)
	ana.wait("screen_start", 10, name="Ana")
	ben.wait("screen_stop")
	ben.wait("screen_start", 10, name="Ana")
	count = screen_stats(ben)["updates"]
	wait_until(lambda: screen_stats(ben)["updates"] > count + 5, 5)


def test_a_pause_keeps_the_last_picture_and_outlives_a_reconnect(
	call: Call, proxy: Proxy, tmp_path: Path
) -> None:
	ana, ben = call.join("Ana", proxy.address), call.join("Ben")
	ana.send(do="pause", on=True, ref="early")
	assert ana.wait("error", ref="early")["code"] == "not_allowed"
	ana.send(do="share", on=True, source="pattern")
	ben.wait("screen_start", name="Ana")
	wait_until(lambda: screen_stats(ben)["updates"] > 5, 10)
	ana.send(do="pause", on=True, ref="pause")
	assert ana.wait("state", ref="pause")["paused"]
	ben.wait("state", name="Ana", paused=True)
	time.sleep(0.5)  # what was under way has come
	seen = snapshot(ben, tmp_path / "seen.png")
	proxy.cut()
	ana.wait("reconnected", 15)
	ben.wait("state", 10, name="Ana", paused=True)
	time.sleep(1)
	assert (snapshot(ben, tmp_path / "again.png") == seen).all()
	ana.send(do="pause", on=False)
	wait_until(lambda: bool((snapshot(ben, tmp_path / "on.png") != seen).any()), 5)


def test_a_viewer_comes_back_after_a_reconnect(call: Call, proxy: Proxy, still: Path) -> None:
	ana = call.join("Ana", proxy.address)
	call.host.send(do="share", on=True, source="pattern")
	ana.wait("screen_start")
	wait_until(lambda: screen_stats(ana)["updates"] > 5, 5)
	proxy.cut()
	ana.wait("reconnected", 15)
	count = screen_stats(ana)["updates"]
	wait_until(lambda: screen_stats(ana)["updates"] > count + 5, 5)


# -- slow viewers


def server_memory(host: Headless) -> float:
	"""Megabytes of the process that serves `host`'s meeting."""
	return kbytes(child_in_role(host.process.pid, "--serve-child")) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_slow_viewer_skips_and_costs_nobody_anything(call: Call, proxy: Proxy) -> None:
	proxy.screen_rate = 25_000  # about half of what the pattern takes
	fast, slow = [call.join("Ana"), call.join("Ben")], call.join("Slow", proxy.address)
	call.host.send(do="share", on=True, source="pattern")
	wait_until(lambda: screen_stats(slow)["updates"] > 5, 20)
	memory = server_memory(call.host)

	def apart() -> bool:
		before, slow_before = (screen_stats(one)["updates"] for one in (fast[0], slow))
		delays: dict[str, list[float]] = {"fast": [], "slow": []}
		for _ in range(6):
			time.sleep(1)
			delays["fast"] += [screen_stats(one)["latency_ms"] or 0.0 for one in fast]
			delays["slow"] += filter(None, [screen_stats(slow)["latency_ms"]])
		changes, slow_changes = (
			screen_stats(fast[0])["updates"] - before,
			screen_stats(slow)["updates"] - slow_before,
		)
		print(delays, changes, slow_changes)
		fast_usual, slow_usual = map(statistics.median, delays.values())
		return max(delays["slow"]) < 3_000 and fast_usual < slow_usual / 2 and slow_changes < 0.8 * changes

	assert best_of(4, apart)
	assert server_memory(call.host) - memory < 10


# -- the handshake, byte by byte


RAW = itertools.count(1)


class Raw:
	"""A member without a program: control and screen spoken by hand."""

	def __init__(self, base: int, name: str) -> None:
		self.base, self.name = base, name
		self.control = self._connect(base)
		self._lines = self.control.makefile("rb")
		hello = {"type": "hello", "v": cs.PROTOCOL, "name": name}
		self.control.sendall(json.dumps(hello).encode() + b"\n")
		self.read("welcome")

	def _connect(self, port: int) -> ssl.SSLSocket:
		plain = socket.create_connection((LOOPBACK, port), 5)
		return cs.client_context().wrap_socket(plain)

	def read(self, kind: str) -> dict[str, Any]:
		while line := self._lines.readline():
			message: dict[str, Any] = json.loads(line)
			if message["type"] == kind:
				return message
		raise AssertionError(f"no {kind}")

	def ticket(self, direction: str) -> str:
		ask = {"type": "ticket", "plane": "screen", "direction": direction, "ref": 1}
		self.control.sendall(json.dumps(ask).encode() + b"\n")
		return str(self.read("ticket")["ticket"])

	def screen(self, role: str, ticket: str) -> Screen:
		link = Screen(self._connect(self.base + 1))
		link.say(json.dumps({"role": role, "ticket": ticket}).encode())
		return link

	def close(self) -> None:
		self._lines.close()
		self.control.close()


class Screen:
	"""One connection of the screen plane."""

	def __init__(self, link: ssl.SSLSocket) -> None:
		self.link = link

	def say(self, payload: bytes) -> None:
		self.link.sendall(struct.pack(">I", len(payload)) + payload)

	def hear(self) -> bytes:
		"""The next message; empty at the end."""
		(size,) = struct.unpack(">I", self._read(4) or b"\0\0\0\0")
		return self._read(size)

	def _read(self, size: int) -> bytes:
		data = b""
		while len(data) < size:
			try:
				more = self.link.recv(size - len(data))
			except (ssl.SSLError, ConnectionError):
				more = b""
			if not more:
				return b""
			data += more
		return data

	def answer(self) -> dict[str, Any]:
		found: dict[str, Any] = json.loads(self.hear())
		return found


@pytest.fixture
def raw(lasting: Call) -> Iterator[Raw]:
	with contextlib.closing(Raw(lasting.base, f"Raw {next(RAW)}")) as one:  # a name is kept for who was lost
		yield one
	lasting.host.wait("leave", name=one.name)


@shared
def test_tickets_open_one_door_once(raw: Raw) -> None:
	good = raw.ticket("viewer")
	for role, ticket in (("viewer", "0" * 32), ("presenter", raw.ticket("viewer"))):
		link = raw.screen(role, ticket)
		assert link.answer()["status"] == "denied"
		assert link.hear() == b""
		link.link.close()
	first, second = raw.screen("viewer", good), raw.screen("viewer", good)
	statuses = sorted([first.answer()["status"], second.answer()["status"]])
	assert statuses == ["denied", "ok"]
	first.link.close()
	second.link.close()


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=40) | st.just("0" * 32)


MEMBERS = st.sampled_from(["role", "ticket", "status", "code", "reason"]) | st.text()


@given(
	st.binary(max_size=200) | st.dictionaries(MEMBERS, LEAVES).map(lambda record: json.dumps(record).encode())
)
def test_any_record_is_judged(payload: bytes) -> None:
	for shape in (cs.SCREEN_HELLO, cs.SCREEN_ANSWER):
		with contextlib.suppress(cs.PeerFault):
			cs._shaped(cs.parse_json(payload), shape)


BAD_HELLOS = (b"", b"{}", b"\xff" * 20, b"[1]", b'{"role":"king","ticket":"%032d"}' % 0, b"x" * 5_000)


@shared
def test_a_bad_hello_ends_the_connection(raw: Raw) -> None:
	for hello in BAD_HELLOS:
		link = Screen(raw._connect(raw.base + 1))
		link.say(hello)
		assert link.hear() == b"", hello
		link.link.close()


@shared
def test_silence_ends_after_five_seconds(raw: Raw) -> None:
	link = Screen(raw._connect(raw.base + 1))
	began = time.monotonic()
	link.link.settimeout(10)
	assert link.hear() == b""
	assert 3 < time.monotonic() - began < 8
	link.link.close()


@shared
def test_those_who_say_nothing_make_room_for_others(raw: Raw) -> None:
	silent = [Screen(raw._connect(raw.base + 1)) for _ in range(8)]
	time.sleep(1.2)  # longer than a burst may last
	good = raw.screen("viewer", raw.ticket("viewer"))
	assert good.answer() == {"status": "ok"}
	assert silent[0].hear() == b""
	for link in (good, *silent):
		link.link.close()


@shared
def test_a_presenter_that_lies_loses_the_screen(lasting: Call, raw: Raw) -> None:
	link = raw.screen("presenter", raw.ticket("presenter"))
	assert link.answer() == {"status": "ok"}
	lasting.host.wait("screen_start", name=raw.name)
	link.say(cs.encode_screen(cs.Rectangle(9, 1, 0, 0, 64, 64, cs.Codec.JPEG, b"no picture")))
	assert link.hear() == b""
	lasting.host.wait("screen_stop", name=raw.name)
	link.link.close()


@shared
def test_a_presenter_hears_when_it_was_painted(lasting: Call, raw: Raw) -> None:
	before = screen_stats(lasting.host)["updates"]
	link = raw.screen("presenter", raw.ticket("presenter"))
	assert link.answer() == {"status": "ok"}
	data = cs.encode_jpeg(np.zeros((64, 64, 3), np.uint8), 80)
	for message in (
		cs.Geometry(1, 64, 64),
		cs.Rectangle(1, 1, 0, 0, 64, 64, cs.Codec.JPEG, data),
		cs.Commit(1, 1),
	):
		link.say(cs.encode_screen(message))
	assert cs.parse_screen(link.hear()) == cs.Acknowledge(1, 1)
	wait_until(lambda: screen_stats(lasting.host)["updates"] == before + 1, 3)
	link.link.close()
	lasting.host.wait("screen_stop", name=raw.name)


@pytest.fixture
def movie(tmp_path: Path) -> Path:
	return film(tmp_path / "film.avi", 4, size=(1280, 720))


def test_quality_follows_the_pace_of_viewers(call: Call, movie: Path) -> None:
	call.host.send(do="share", on=True, source=str(movie))
	call.host.wait("screen_start")
	with contextlib.closing(Raw(call.base, "Raw")) as raw:
		follow(raw)


def follow(raw: Raw) -> None:
	"""Take changes slowly, then at once: they become smaller, then larger again."""
	link = raw.screen("viewer", raw.ticket("viewer"))

	def sizes(changes: int, pause: float) -> list[int]:
		"""Bytes of each change, which this viewer takes `pause` seconds to paint."""
		found = [0]
		while len(found) <= changes:
			message = cs.parse_screen(link.hear())
			if isinstance(message, cs.Rectangle):
				found[-1] += len(message.data)
			elif isinstance(message, cs.Commit):
				found.append(0)
				time.sleep(pause)
				raw.control.sendall(b'{"type":"ping","t":1}\n')  # who is silent is dropped
				link.say(cs.encode_screen(cs.Acknowledge(*message)))
		return found[:-1]

	def followed() -> bool:
		best, slowly = max(sizes(6, 0.0)[3:]), sizes(8, 0.32)  # the first is the whole picture
		while len(slowly) < 16 and slowly[-1] >= 0.7 * best:
			slowly += sizes(1, 0.32)
		print(best, slowly)
		return slowly[-1] < 0.7 * best and max(sizes(12, 0.0)) > 1.2 * slowly[-1]

	with contextlib.closing(link.link):
		assert link.answer() == {"status": "ok"}
		assert best_of(4, followed)  # a busy machine is slow, too


@shared
def test_tickets_die_with_the_member(lasting: Call, raw: Raw) -> None:
	link = raw.screen("presenter", raw.ticket("presenter"))
	assert link.answer() == {"status": "ok"}
	lasting.host.wait("screen_start", name=raw.name)
	raw.control.shutdown(socket.SHUT_RDWR)
	assert link.hear() == b""
	lasting.host.wait("screen_stop", name=raw.name)
	link.link.close()


# -- a feed, alone


class FakeLink:
	"""Takes what fits in `room` bytes, then no more."""

	def __init__(self, room: int = 1 << 30) -> None:
		self.room = room
		self.heard: list[cs.ScreenMessage] = []
		self.on_room: Callable[[], None] | None = None
		self._queued = 0

	def send(self, data: bytes) -> None:
		self._queued += len(data)
		self.heard.append(cs.parse_screen(data[4:]))

	def ask_room(self) -> None:
		assert self.on_room is not None
		while self.room > 0:
			self._queued = 0
			self.on_room()
			if not self._queued:
				break
			self.room -= self._queued


def table_with(version: int, table: cs.TileTable | None = None) -> cs.TileTable:
	"""A table of 4 x 4 tiles, all of `version`."""
	rng = np.random.default_rng(version)
	if table is None:
		table = cs.TileTable()
		table.set_geometry(cs.Geometry(1, 256, 256))
	for place in range(16):
		data = cs.encode_jpeg(rng.integers(0, 256, (64, 64, 3), np.uint8), 95)
		x, y = place % 4 * 64, place // 4 * 64
		table.put(cs.Rectangle(1, version, x, y, 64, 64, cs.Codec.JPEG, data))
	table.commit(cs.Commit(1, version))
	return table


def feed_on(link: FakeLink, table: cs.TileTable) -> cs.TileFeed:
	return cs.TileFeed(link, table)  # type: ignore[arg-type]


def test_a_feed_to_a_slow_peer_waits_for_each_change_to_be_painted() -> None:
	link, table = FakeLink(), table_with(1)
	feed = feed_on(link, table)
	feed.acknowledge(time.monotonic() + 1.0)
	for version in range(2, 6):
		table_with(version, table)
		feed.update()
	assert [one.version for one in link.heard if isinstance(one, cs.Commit)] == [1, 2]
	feed.acknowledge(time.monotonic() + 1.0)
	assert [one.version for one in link.heard if isinstance(one, cs.Commit)] == [1, 2, 5]


def test_a_feed_goes_no_more_than_two_changes_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
	monkeypatch.setattr(cs, "monotonic", lambda: 100.0)
	link, table = FakeLink(), table_with(1)
	feed = feed_on(link, table)
	for version in range(2, 12):
		table_with(version, table)
		feed.update()
	commits = [one.version for one in link.heard if isinstance(one, cs.Commit)]
	assert len(commits) == 2
	size, _ = feed.acknowledge(100.1)
	assert size > 32 << 10
	commits = [one.version for one in link.heard if isinstance(one, cs.Commit)]
	assert commits[2:] == [11]  # what came between was skipped
	rectangles = [one for one in link.heard if isinstance(one, cs.Rectangle)]
	assert len(rectangles) == 3 * 16


def test_a_change_is_said_to_its_end_before_the_next() -> None:
	link, table = FakeLink(room=1), table_with(1)
	feed = feed_on(link, table)
	table_with(2, table)
	link.room = 1 << 30
	feed.update()
	versions = [one.version for one in link.heard if isinstance(one, cs.Rectangle | cs.Commit)]
	assert versions == sorted(versions)
	assert [one.version for one in link.heard if isinstance(one, cs.Commit)] == [1, 2]


def test_more_acknowledged_than_sent_is_a_fault() -> None:
	feed = feed_on(FakeLink(), table_with(1))
	feed.acknowledge(0.0)
	with pytest.raises(cs.PeerFault):
		feed.acknowledge(0.0)


def test_only_the_newest_pointer_goes_out() -> None:
	link = FakeLink(room=0)
	feed = feed_on(link, table_with(1))
	for x in range(5):
		feed.point(cs.Pointer(x, 0, True))
	link.room = 1 << 30
	feed.update()
	assert [one for one in link.heard if isinstance(one, cs.Pointer)] == [cs.Pointer(4, 0, True)]


# -- a real desktop

EDITOR = """
text = tkinter.Text(root, font=("TkFixedFont", 14), insertofftime=0)
text.pack(fill="both", expand=True)
text.focus_force()
"""


@pytest.fixture
def window(display: str) -> Iterator[subprocess.Popen[str]]:
	with another_window("640x400+100+80", EDITOR) as process:
		yield process


def test_a_typed_line_is_seen_exactly(
	call: Call, display: str, window: subprocess.Popen[str], tmp_path: Path
) -> None:
	ana = call.join("Ana", env={"DISPLAY": display})
	ana.send(do="share", on=True, source="screen:0")
	call.host.wait("screen_start", name="Ana")
	wait_until(lambda: screen_stats(call.host)["exact"], 30)
	empty = grabbed()
	subprocess.run(["xdotool", "type", "--delay", "20", "a line of text"], check=True)
	wait_until(lambda: bool((grabbed() != empty).any()), 5)

	def same() -> bool:
		seen = snapshot(call.host, tmp_path / "seen.png")
		return seen.shape == empty.shape and bool((seen == grabbed()).all())

	wait_until(same, 30)
	assert (snapshot(call.host, tmp_path / "seen.png") != empty).any()


def test_a_window_is_followed_and_may_change_its_size(
	call: Call, display: str, window: subprocess.Popen[str], tmp_path: Path
) -> None:
	ana = call.join("Ana", env={"DISPLAY": display})
	ana.send(do="share", on=True, source="window")
	call.host.wait("screen_start", name="Ana")
	for geometry, shape in (("640x400+100+80", (400, 640)), ("500x300+400+200", (300, 500))):
		assert window.stdin is not None
		window.stdin.write(geometry + "\n")
		window.stdin.flush()

		def seen(shape: tuple[int, int] = shape, at: str = geometry) -> bool:
			x, y = map(int, at.split("+")[1:])
			picture = snapshot(call.host, tmp_path / "seen.png")
			part = grabbed()[y : y + shape[0], x : x + shape[1]]
			return picture.shape == part.shape and bool((picture == part).all())

		wait_until(lambda: screen_stats(call.host)["updates"] > 0, 8)
		wait_until(seen, 10)
	assert os.environ["DISPLAY"] == display


def test_a_link_that_is_lost_while_something_is_offered_is_no_bug() -> None:
	"""Sending finds it closed, and what comes of that takes the feed away in the middle."""
	presenter = object.__new__(cs.ScreenPresenter)
	presenter._table, presenter._ready = cs.TileTable(), threading.Event()

	class Feed:
		ready = True

		def update(self) -> None:
			presenter.feed = None

		point = lambda self, pointer: self.update()  # noqa: E731

	for pointer in (None, cs.Pointer(1, 2, True)):
		presenter.feed = Feed()  # type: ignore[assignment]
		presenter._ready.clear()
		presenter._offer([], pointer)
		assert presenter._ready.is_set()


@pytest.mark.parametrize("painted", [True, False])
def test_a_share_outlives_any_number_of_broken_links_if_pictures_come_through(painted: bool) -> None:
	"""In a lesson of an hour; a link that breaks again and again before anything was seen is given up."""
	failed: list[cs.Refused] = []
	presenter: Any = SimpleNamespace(
		detach=lambda: None,
		attach=lambda link: None,
		acknowledge=lambda: None,
		worker=SimpleNamespace(stop=lambda: None),
	)
	loop: Any = SimpleNamespace(later=lambda seconds, call: call(), counters=cs.Counters())
	plane = cs.ScreenPlane(loop, cs.ClientOptions(), lambda *_: None, failed.append, lambda on: None)
	plane._presenter = presenter
	plane._link_presenter(presenter)
	for _ in range(3 * plane.RETRIES):
		if link := plane._links.get("presenter"):
			link.on_ready()
			if painted:
				link.on_message(cs.Acknowledge(1, 1))
			link.on_closed(cs.Refused("", "broken"))
	assert bool(failed) != painted


def test_a_share_that_was_stopped_ends_before_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
	"""Python that ends while a thread of it is within OpenCV aborts; leaving stops the share first."""
	opening, go = threading.Event(), threading.Event()

	def slow(source: str) -> Any:
		opening.set()
		go.wait(10)
		raise cs.DeviceError("gone")

	monkeypatch.setattr(cs, "open_screen", slow)
	loop: Any = SimpleNamespace(later=lambda seconds, call: None, post=lambda call: None)
	plane = cs.ScreenPlane(loop, cs.ClientOptions(), lambda *_: None, lambda told: None, lambda on: None)
	plane.share("pattern")
	worker = plane._presenter and plane._presenter.worker
	assert worker and opening.wait(10)
	plane.stop_sharing()
	threading.Timer(0.2, go.set).start()
	plane.close()
	assert not worker._thread.is_alive()
