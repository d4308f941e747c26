"""Links, loops and children over real sockets and processes, on loopback."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import queue
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from waiting import wait_until

import connectsphere
from connectsphere import (
	ChildKeeper,
	Counters,
	DatagramLoop,
	HalfOpen,
	Json,
	Loop,
	PeerFault,
	TlsLink,
	UdpPort,
	Worker,
	client_context,
	connect_link,
	listen_tcp,
	load_identity,
	server_context,
)

HERE = "127.0.0.1"
PATIENCE = 10.0
T = TypeVar("T")


@pytest.fixture(scope="session")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
	identity = load_identity(tmp_path_factory.mktemp("host"))
	return server_context(identity), identity.fingerprint


class Hub:
	"""A loop that listens on loopback; what its links say is put in queues."""

	def __init__(self, context: ssl.SSLContext) -> None:
		self.counters = Counters()
		self.loop = Loop("test-hub", self.counters).start()
		self.listener = listen_tcp((HERE, 0))
		self.address = self.listener.getsockname()
		self.links: queue.Queue[TlsLink] = queue.Queue()
		self.got: queue.Queue[bytes] = queue.Queue()
		self.closed: queue.Queue[str] = queue.Queue()
		self.on_bytes: Callable[[TlsLink, bytes], object] = lambda link, data: self.got.put(data)
		self._context = context

	def on_thread(self, call: Callable[[], T]) -> T:
		"""The result of `call`, made on the loop's thread."""
		answers: queue.Queue[T] = queue.Queue()
		self.loop.post(lambda: answers.put(call()))
		return answers.get(timeout=PATIENCE)

	def accept(self, set_up: Callable[[TlsLink], object] = lambda link: None) -> TlsLink:
		"""Take the next connection; its link is open, or will be."""
		sock, _ = self.listener.accept()

		def begin() -> TlsLink:
			link = TlsLink(self.loop, sock, self._context, server=True)
			link.on_open = self.links.put
			link.on_bytes = lambda data: self.on_bytes(link, data)
			link.on_close = self.closed.put
			set_up(link)
			link.begin()
			return link

		return self.on_thread(begin)

	def close(self) -> None:
		self.loop.close()
		self.listener.close()


@pytest.fixture
def hub(contexts: tuple[ssl.SSLContext, str]) -> Iterator[Hub]:
	with contextlib.closing(Hub(contexts[0])) as one:
		yield one


@contextlib.contextmanager
def caller(hub: Hub, small: bool = False) -> Iterator[ssl.SSLSocket]:
	"""A blocking client with a TLS connection to the hub; `small`: it buffers little."""
	plain = socket.socket()
	if small:
		plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
	plain.settimeout(PATIENCE)
	plain.connect(hub.address)
	done = threading.Thread(target=hub.accept)
	done.start()
	with client_context().wrap_socket(plain) as sock:
		done.join()
		yield sock


def received(sock: ssl.SSLSocket, size: int) -> bytes:
	data = bytearray()
	while len(data) < size:
		piece = sock.recv(1 << 16)
		assert piece, f"ended after {len(data)} of {size} bytes"
		data += piece
	return bytes(data)


# ------------------------------------------------------------------------------------------ links


class TestTlsLink:
	def test_echo(self, hub: Hub) -> None:
		hub.on_bytes = lambda link, data: link.send(data)
		with caller(hub) as sock:
			for message in (b"a", b"bc" * 1_000, b"d" * 50_000):
				sock.sendall(message)
				assert received(sock, len(message)) == message
			assert sock.version() == "TLSv1.3"
		assert hub.closed.get(timeout=PATIENCE) == "gone"

	def test_two_links_of_the_program(self, hub: Hub, contexts: tuple[ssl.SSLContext, str]) -> None:
		hub.on_bytes = lambda link, data: link.send(data.upper())
		got: queue.Queue[tuple[str, bytes]] = queue.Queue()

		def call() -> None:
			link = connect_link(hub.loop, hub.address)
			link.on_open = lambda link: link.send(b"hello")
			link.on_bytes = lambda data: got.put((link.fingerprint, data))
			link.begin()

		hub.loop.post(call)
		hub.accept()
		assert got.get(timeout=PATIENCE) == (contexts[1], b"HELLO")

	def test_big_sends_come_whole_and_in_order(self, hub: Hub) -> None:
		pieces = [
			bytes([n % 251]) * size for n, size in enumerate([1, 16_384, 16_385, 1_000_000, 3, 2_000_000])
		]
		with caller(hub) as sock:
			link = hub.links.get(timeout=PATIENCE)
			hub.loop.post(lambda: [link.send(piece) for piece in pieces])
			whole = b"".join(pieces)
			assert hashlib.sha256(received(sock, len(whole))).digest() == hashlib.sha256(whole).digest()
			assert hub.on_thread(lambda: len(link._unsent)) == 0

	def test_what_is_queued_before_close_is_sent(self, hub: Hub) -> None:
		with caller(hub) as sock:
			link = hub.links.get(timeout=PATIENCE)
			hub.loop.post(lambda: (link.send(b"x" * 2_000_000), link.close("done"), link.send(b"more")))
			assert received(sock, 2_000_000) == b"x" * 2_000_000
			with contextlib.suppress(ssl.SSLEOFError):
				assert sock.recv(1) == b""
		assert hub.closed.get(timeout=PATIENCE) == "done"

	def test_a_slow_reader_is_dropped_at_its_limit(self, hub: Hub) -> None:
		with caller(hub, small=True):
			link = hub.links.get(timeout=PATIENCE)
			most = 0

			def flood() -> bool:
				nonlocal most
				link.send(bytes(100_000))
				most = max(most, len(link._unsent))
				return link.closed

			wait_until(lambda: hub.on_thread(flood), what="dropped")
			assert hub.closed.get(timeout=PATIENCE) == "slow"
			assert most <= link.limit

	def test_one_that_never_reads_its_goodbye_is_dropped(
		self, hub: Hub, monkeypatch: pytest.MonkeyPatch
	) -> None:
		monkeypatch.setattr(connectsphere, "CLOSING_SECONDS", 0.2)
		with caller(hub, small=True):
			link = hub.links.get(timeout=PATIENCE)
			hub.loop.post(lambda: (link.send(bytes(4_000_000)), link.close("removed")))
			assert hub.closed.get(timeout=PATIENCE) == "removed"

	@pytest.mark.parametrize(
		"said", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(100), b"\0" * 70_000]
	)
	def test_no_tls(self, hub: Hub, said: bytes) -> None:
		with socket.create_connection(hub.address) as sock:
			hub.accept()
			with contextlib.suppress(OSError):
				sock.sendall(said)
			assert hub.closed.get(timeout=PATIENCE) == "no_tls"
		assert hub.links.empty() and "bugs" not in hub.counters.snapshot()

	def test_old_tls(self, hub: Hub) -> None:
		old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
		old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
		old.maximum_version = ssl.TLSVersion.TLSv1_2
		with socket.create_connection(hub.address) as sock:
			hub.accept()
			with pytest.raises(ssl.SSLError):
				old.wrap_socket(sock)
		assert hub.closed.get(timeout=PATIENCE) == "no_tls"

	def test_one_that_is_gone_before_it_can_be_wrapped(
		self, hub: Hub, monkeypatch: pytest.MonkeyPatch
	) -> None:
		"""The library has taken the socket then, and closed it."""

		def wrap_socket(sock: socket.socket, **options: object) -> ssl.SSLSocket:
			sock.close()
			raise ConnectionResetError(104, "gone")

		with socket.create_connection(hub.address):
			hub.accept(lambda link: monkeypatch.setattr(hub._context, "wrap_socket", wrap_socket))
			assert hub.closed.get(timeout=PATIENCE) == "unreachable"
		assert hub.on_thread(lambda: not hub.loop.links and "bugs" not in hub.counters.snapshot())

	def test_a_silent_one_is_dropped(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
		monkeypatch.setattr(connectsphere, "HANDSHAKE_SECONDS", 0.2)
		with socket.create_connection(hub.address) as sock:
			hub.accept()
			assert hub.closed.get(timeout=PATIENCE) == "timeout"
			sock.settimeout(PATIENCE)
			assert sock.recv(1) == b""

	def test_nobody_answers(self, hub: Hub) -> None:
		with socket.socket() as unused:
			unused.bind((HERE, 0))
			address = unused.getsockname()

			def call() -> None:
				link = connect_link(hub.loop, address)
				link.on_close = hub.closed.put
				link.begin()

			hub.loop.post(call)
			assert hub.closed.get(timeout=PATIENCE) == "refused"

	def test_a_peers_fault_ends_its_link_and_is_counted(self, hub: Hub) -> None:
		def refuse(link: TlsLink, data: bytes) -> None:
			raise PeerFault("long_line")

		hub.on_bytes = refuse
		with caller(hub) as sock:
			sock.sendall(b"x")
			assert hub.closed.get(timeout=PATIENCE) == "long_line"
		assert hub.counters.snapshot() == {"long_line": 1}

	def test_our_bug_is_logged_and_counted_and_ends_nobody(
		self, hub: Hub, caplog: pytest.LogCaptureFixture
	) -> None:
		def stumble(link: TlsLink, data: bytes) -> None:
			if data == b"bad":
				raise KeyError(data)
			link.send(data)

		hub.on_bytes = stumble
		with caller(hub) as one, caller(hub) as other:
			one.sendall(b"bad")
			wait_until(lambda: hub.counters.snapshot().get("bugs"), what="counted")
			for sock in (one, other):
				sock.sendall(b"good")
				assert received(sock, 4) == b"good"
		assert "KeyError" in caplog.text

	def test_room_is_asked_for_as_long_as_there_is_something(self, hub: Hub) -> None:
		pieces = iter([bytes([n % 256]) * 10_000 for n in range(300)])

		def fill(link: TlsLink) -> None:
			piece = next(pieces, None)
			if piece is not None:
				link.send(piece)

		with caller(hub) as sock:
			link = hub.links.get(timeout=PATIENCE)
			link.on_room = lambda: fill(link)
			hub.loop.post(link.ask_room)
			whole = received(sock, 3_000_000)
			assert whole == b"".join(bytes([n % 256]) * 10_000 for n in range(300))

	def test_endless_room_starves_nobody(self, hub: Hub) -> None:
		with caller(hub) as sock:
			link = hub.links.get(timeout=PATIENCE)
			link.on_room = lambda: link.send(bytes(16_384))
			stop = threading.Event()

			def read() -> None:
				while not stop.is_set():
					sock.recv(1 << 16)

			reader = threading.Thread(target=read)
			reader.start()
			hub.loop.post(link.ask_room)
			try:
				for _ in range(20):
					hub.on_thread(lambda: None)
			finally:
				hub.loop.post(lambda: setattr(link, "on_room", None))
				hub.loop.post(lambda: link.send(bytes(1)))
				stop.set()
				reader.join()

	@pytest.mark.parametrize("how", ["discard", "close", "flood", "bug"])
	def test_ending_within_on_room(self, hub: Hub, how: str) -> None:
		with caller(hub) as sock:
			link = hub.links.get(timeout=PATIENCE)
			calls: dict[str, Callable[[], object]] = {
				"discard": lambda: link.discard("over"),
				"close": lambda: link.close("over"),
				"flood": lambda: link.send(bytes(link.limit + 1)),
				"bug": lambda: 1 / 0,
			}
			link.on_room = calls[how]
			hub.loop.post(link.ask_room)
			if how == "bug":
				wait_until(lambda: hub.counters.snapshot().get("bugs"), what="counted")
				hub.loop.post(lambda: setattr(link, "on_room", None))
				hub.loop.post(lambda: link.send(b"on"))
				assert received(sock, 2) == b"on", "the link still works"
			else:
				assert hub.closed.get(timeout=PATIENCE) == ("slow" if how == "flood" else "over")
				assert "bugs" not in hub.counters.snapshot()

	def test_on_close_comes_once(self, hub: Hub) -> None:
		with caller(hub):
			link = hub.links.get(timeout=PATIENCE)
			for _ in range(3):
				hub.on_thread(lambda: (link.discard("first"), link.close("second"), link.send(b"x")))
		assert hub.closed.get(timeout=PATIENCE) == "first"
		assert hub.closed.empty()


# ---------------------------------------------------------------------------------------- the loop


class TestLoop:
	def test_what_is_posted_while_mail_is_handled_comes_next(self, hub: Hub) -> None:
		"""Its ring is read with the one before, and by itself the loop wakes a second later."""
		done = threading.Event()

		def one(left: int) -> None:
			if left:
				hub.loop.post(lambda: one(left - 1))
			else:
				done.set()

		hub.loop.post(lambda: one(10))
		assert done.wait(3.0)

	@pytest.mark.parametrize(
		"fault",
		[OSError(28, "No space left"), KeyError("x"), PeerFault("x"), connectsphere.Refused("port")],
		ids=repr,
	)
	def test_who_asks_gets_what_was_raised(self, hub: Hub, fault: Exception) -> None:
		"""Whatever it is; the loop goes on, and counts no bug of its own."""

		def fail() -> None:
			raise fault

		with pytest.raises(type(fault)) as raised:
			hub.loop.ask(fail, 1.0)
		assert raised.value is fault
		assert hub.loop.ask(lambda: 7) == 7 and not hub.counters.snapshot()

	def test_closing_says_goodbye_and_may_be_done_twice(self, hub: Hub) -> None:
		with caller(hub) as sock:
			link = hub.links.get(timeout=PATIENCE)
			hub.loop.post(lambda: link.send(b"bye"))
			started = time.monotonic()
			hub.loop.close(3.0)
			hub.loop.close(3.0)
			assert time.monotonic() - started < 3.0
			assert received(sock, 3) == b"bye"
		assert hub.closed.get(timeout=PATIENCE) == "closing"
		hub.loop.post(lambda: hub.closed.put("never"))
		assert hub.closed.empty()

	def test_closing_does_not_wait_for_one_that_reads_nothing(self, hub: Hub) -> None:
		with caller(hub, small=True):
			link = hub.links.get(timeout=PATIENCE)
			hub.on_thread(lambda: link.send(bytes(4_000_000)))
			started = time.monotonic()
			hub.loop.close(3.0)
			assert time.monotonic() - started < 2.5
		assert hub.closed.get(timeout=PATIENCE) == "closing"

	def test_never_started(self) -> None:
		loop = Loop("test-idle", Counters())
		loop.close()
		loop.close()

	def test_timers(self, hub: Hub) -> None:
		rang: queue.Queue[str] = queue.Queue()

		def set_timers() -> None:
			hub.loop.later(0.06, lambda: rang.put("second"))
			hub.loop.later(0.03, lambda: rang.put("first"))
			hub.loop.later(0.04, lambda: rang.put("never")).cancel()
			hub.loop.later(0.05, lambda: (_ for _ in ()).throw(ValueError("a bug")))

		hub.loop.post(set_timers)
		assert [rang.get(timeout=PATIENCE) for _ in range(2)] == ["first", "second"]
		assert rang.empty() and hub.counters.snapshot() == {"bugs": 1}

	def test_every_goes_on_after_a_bug(self, hub: Hub) -> None:
		calls = []

		def stumble() -> None:
			calls.append(1)
			raise RuntimeError

		hub.loop.post(lambda: hub.loop.every(0.01, stumble))
		wait_until(lambda: len(calls) >= 3, what="three calls")

	def test_a_call_that_posts_itself_starves_nobody(self, hub: Hub) -> None:
		going = True

		def again() -> None:
			if going:
				hub.loop.post(again)

		hub.on_bytes = lambda link, data: link.send(data)
		with caller(hub) as sock:
			hub.loop.post(again)
			sock.sendall(b"x")
			assert received(sock, 1) == b"x"
			going = False

	def test_mail_comes_in_order_from_any_thread(self, hub: Hub) -> None:
		got: list[int] = []
		for number in range(1_000):
			hub.loop.post(lambda n=number: got.append(n))  # type: ignore[misc]
		hub.on_thread(lambda: None)
		assert got == list(range(1_000))


class TestWorker:
	def test_a_bug_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
		worker = Worker("test-buggy", lambda worker: 1 / 0).start()  # type: ignore[arg-type,return-value]
		worker.close()
		assert "test-buggy" in caplog.text and "ZeroDivisionError" in caplog.text

	def test_one_that_does_not_end_is_named(self, caplog: pytest.LogCaptureFixture) -> None:
		release = threading.Event()
		worker = Worker("test-stuck", lambda worker: release.wait() and None).start()
		worker.close(0.05)
		assert "test-stuck did not end" in caplog.text
		release.set()
		worker.close()
		worker.close()

	def test_closing_from_within(self) -> None:
		worker = Worker("test-own", lambda worker: worker.close()).start()
		worker.close()


# -------------------------------------------------------------------------------------- datagrams


class LoopBench:
	"""A datagram loop whose callbacks a test sets, and a socket to talk to it."""

	def __init__(self) -> None:
		self.counters = Counters()
		self.got: queue.Queue[bytes] = queue.Queue()
		self.due: Callable[[float], float | None] = lambda now: None
		self.take: Callable[[bytes], object] = self.got.put
		port = UdpPort((HERE, 0), self.counters)
		self.loop = DatagramLoop("test-loop", port, self.counters, self._take, lambda now: self.due(now))
		self.loop.start()
		self.sock = socket.socket(type=socket.SOCK_DGRAM)
		self.sock.connect((HERE, port.port))

	def _take(self, buffer: memoryview, segment: int, address: Any, now: float) -> None:
		assert address == self.sock.getsockname()
		self.take(bytes(buffer))

	def close(self) -> None:
		self.loop.close()
		self.loop.close()
		self.sock.close()


@pytest.fixture
def loop() -> Iterator[LoopBench]:
	with contextlib.closing(LoopBench()) as one:
		yield one


class TestDatagramLoop:
	def test_datagrams_and_mail(self, loop: LoopBench) -> None:
		loop.sock.send(b"one")
		assert loop.got.get(timeout=PATIENCE) == b"one"
		loop.loop.post(lambda: loop.got.put(b"mail"))
		assert loop.got.get(timeout=PATIENCE) == b"mail"

	def test_faults_and_bugs_are_counted_and_end_nothing(
		self, loop: LoopBench, caplog: pytest.LogCaptureFixture
	) -> None:
		def stumble(data: bytes) -> None:
			if data == b"fault":
				raise PeerFault("forged")
			if data == b"bug":
				raise ValueError("oops")
			loop.got.put(data)

		loop.take = stumble
		for data in (b"fault", b"bug", b"good"):
			loop.sock.send(data)
		assert loop.got.get(timeout=PATIENCE) == b"good"
		loop.loop.post(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
		loop.loop.post(lambda: loop.got.put(b"mail"))
		assert loop.got.get(timeout=PATIENCE) == b"mail"
		assert loop.counters.snapshot() == {"forged": 1, "bugs": 2}
		assert "oops" in caplog.text and "ZeroDivisionError" in caplog.text

	def test_a_bug_in_what_is_due_stops_no_datagrams(self, loop: LoopBench) -> None:
		loop.due = lambda now: 1 / 0
		loop.loop.post(lambda: None)
		wait_until(lambda: loop.counters.snapshot().get("bugs"), what="counted")
		loop.sock.send(b"one")
		assert loop.got.get(timeout=PATIENCE) == b"one"

	def test_what_is_due_is_done_in_time(self, loop: LoopBench) -> None:
		calls: list[float] = []

		def due(now: float) -> float:
			calls.append(now)
			return now + 0.02

		loop.due = due
		loop.loop.post(lambda: None)
		wait_until(lambda: len(calls) > 20, what="calls")
		assert calls[20] - calls[1] >= 19 * 0.019

	def test_a_call_that_posts_itself_starves_nobody(self, loop: LoopBench) -> None:
		going = True

		def again() -> None:
			if going:
				loop.loop.post(again)

		loop.loop.post(again)
		loop.sock.send(b"one")
		assert loop.got.get(timeout=PATIENCE) == b"one"
		going = False

	def test_closing_unstarted(self) -> None:
		counters = Counters()
		port = UdpPort((HERE, 0), counters)
		DatagramLoop("test-idle", port, counters, lambda *_: None, lambda now: None).close()


# -------------------------------------------------------------------------------------- half open


class Crowd:
	"""Connections by number, and which of them were ended."""

	def __init__(self) -> None:
		self.ended: list[int] = []
		self.counters = Counters()
		self.half = HalfOpen(self.counters)
		self.ends: dict[int, Callable[[], None]] = {}

	def enter(self, number: int, address: str) -> list[int]:
		"""Who is ended for `number`."""
		before = len(self.ended)
		self.ends[number] = lambda: self.ended.append(number)
		self.half.enter(self.ends[number], address)
		return self.ended[before:]


class TestHalfOpen:
	def test_128_in_all(self) -> None:
		crowd = Crowd()
		for number in range(128):
			assert crowd.enter(number, f"10.0.0.{number}") == []
		assert crowd.enter(128, "10.0.1.1") == [0], "the oldest goes"
		assert crowd.enter(129, "10.0.1.2") == [1]
		assert crowd.counters.snapshot() == {"half_open_evicted": 2}

	def test_an_address_that_has_many_pays_for_itself(self) -> None:
		crowd = Crowd()
		assert crowd.enter(0, "10.0.0.2") == []
		for number in range(1, 128):
			assert crowd.enter(number, "10.0.0.1") == [], "a bell sends a whole class at once"
		assert [crowd.enter(number, "10.0.0.1") for number in range(128, 131)] == [[1], [2], [3]]
		assert crowd.enter(131, "10.0.0.2") == [4], "others are not touched"

	def test_who_has_said_who_it_is_counts_no_more(self) -> None:
		crowd = Crowd()
		for number in range(128):
			crowd.enter(number, "10.0.0.1")
		for _ in range(2):
			crowd.half.leave(crowd.ends[3])
		assert crowd.enter(128, "10.0.0.1") == []
		assert crowd.enter(129, "10.0.0.1") == [0]

	def test_a_link_is_evicted_from_any_thread(self, hub: Hub) -> None:
		half = HalfOpen(hub.counters)
		with socket.create_connection(hub.address) as sock:
			link = hub.accept()
			half.enter(link.evict, HERE)
			for number in range(half.MOST):
				half.enter(lambda number=number: None, HERE)  # type: ignore[misc]
			assert hub.closed.get(timeout=PATIENCE) == "evicted"
			sock.settimeout(PATIENCE)
			assert sock.recv(1) == b""
			half.leave(link.evict)


# --------------------------------------------------------------------------------------- children

CHILD = """
import json, sys, time
print(json.dumps({"event": "ready", "first": json.loads(sys.stdin.readline())}), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if message["do"] == "die":
        sys.exit(message.get("status", 3))
    if message["do"] == "garble":
        sys.stdout.buffer.write(bytes([195, 10]))  # cut off within a letter
        sys.stdout.flush()
    if message["do"] == "sulk":
        sys.stdout.write = lambda text: None
    if message["do"] == "hang":
        while True:
            time.sleep(1)
    print(json.dumps({"event": "echo", "do": message["do"]}), flush=True)
"""


class Keeper:
	"""A keeper of children that run CHILD, and what they said."""

	def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, ending: str = "") -> None:
		path.write_text(CHILD)
		monkeypatch.setattr(connectsphere, "__file__", str(path))
		self.said: queue.Queue[Json] = queue.Queue()
		self.gave_up = threading.Event()
		self.keeper = ChildKeeper(
			"test-child", [], {"hello": 1}, self._hear, ending=ending, gave_up=self.gave_up.set
		)
		self.keeper.start()
		assert self.next() == {"event": "ready", "first": {"hello": 1}}

	def _hear(self, message: Json) -> None:
		if message.get("do") == "stumble":
			raise ValueError("our own bug")
		self.said.put(message)

	def next(self) -> Json:
		return self.said.get(timeout=PATIENCE)

	def close(self) -> None:
		self.keeper.close()


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
	with contextlib.closing(Keeper(tmp_path / "a.child.py", monkeypatch)) as one:
		yield one


class TestChildKeeper:
	def test_talk(self, keeper: Keeper) -> None:
		keeper.keeper.tell("this")
		assert keeper.next() == {"event": "echo", "do": "this"}

	@pytest.mark.parametrize("status", [3, 0])
	def test_a_dead_one_is_started_again(
		self, keeper: Keeper, status: int, caplog: pytest.LogCaptureFixture
	) -> None:
		"""Some who end processes leave status 0, on Windows."""
		keeper.keeper.tell("die", status=status)
		assert keeper.next() == {"event": "ready", "first": {"hello": 1}}
		keeper.keeper.tell("this")
		assert keeper.next()["do"] == "this"
		assert f"ended with status {status}" in caplog.text

	@pytest.mark.parametrize("what", ["Popen", "share_socket"])
	def test_one_that_cannot_be_started_now_is_started_later(
		self, keeper: Keeper, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
	) -> None:
		"""Memory or processes run out for a moment, or Windows gives no socket to a child that just died."""
		failures = iter([BlockingIOError(11, "Resource temporarily unavailable")] * 2)
		where, name = {
			"Popen": (vars(connectsphere)["subprocess"].Popen, "_execute_child"),
			"share_socket": (connectsphere, "share_socket"),
		}[what]  # fmt: skip
		works = getattr(where, name)

		def fail(*args: Any, **options: Any) -> Any:
			for failure in failures:
				if what == "share_socket":
					os.kill(args[1], signal.SIGKILL)
				raise failure
			return works(*args, **options)

		monkeypatch.setattr(where, name, fail)
		with socket.socket() as shared:
			keeper.keeper.shared = lambda: shared
			keeper.keeper.tell("die")
			assert keeper.next()["event"] == "ready"
		assert caplog.text.count("ended with status") == 3

	def test_one_that_may_end_by_itself(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
		with contextlib.closing(Keeper(tmp_path / "a.child.py", monkeypatch, ending="end")) as one:
			one.keeper.tell("die", status=0)
			wait_until(lambda: not one.keeper._worker._thread.is_alive())
			assert one.said.empty()

	@pytest.mark.parametrize("what", ["garble", "stumble"])
	def test_senseless_words_end_nothing(
		self, keeper: Keeper, what: str, caplog: pytest.LogCaptureFixture
	) -> None:
		keeper.keeper.tell(what)
		keeper.keeper.tell("this")
		said = keeper.next()
		assert "this" in (said["do"], keeper.next()["do"] if said["do"] != "this" else "")
		words = {"garble": "said a line that is no message", "stumble": "was not taken"}
		assert words[what] in caplog.text

	def test_it_ends_with_its_input(self, keeper: Keeper, caplog: pytest.LogCaptureFixture) -> None:
		caplog.set_level(logging.WARNING)
		keeper.keeper.close()
		keeper.keeper.close()
		keeper.keeper.tell("late")
		assert not caplog.records, "it ended by itself, at once"

	def test_one_that_hangs_is_killed(self, keeper: Keeper, caplog: pytest.LogCaptureFixture) -> None:
		keeper.keeper.tell("hang")
		keeper.keeper.close(0.3)
		assert "is killed" in caplog.text

	def test_telling_one_that_does_not_listen_never_waits(self, keeper: Keeper) -> None:
		keeper.keeper.tell("hang")
		start = time.monotonic()
		for _ in range(1_000):
			keeper.keeper.tell("x" * 1000)
		assert time.monotonic() - start < 1.0, "over what a pipe holds"
		keeper.keeper.close(0.3)

	@pytest.mark.parametrize("how", ["hang", "sulk"])
	def test_one_that_gives_no_sign_of_life_is_replaced(self, keeper: Keeper, how: str) -> None:
		"""How long the questions took does not matter: a computer may have slept."""
		keeper.keeper.tell(how)
		if how == "hang":  # and what it was told is more than the pipe holds
			keeper.keeper.tell("x" * 1_000_000)
		while not keeper.said.empty():
			keeper.next()
		for _ in range(5):
			keeper.keeper.look()
		while keeper.next() != {"event": "ready", "first": {"hello": 1}}:
			pass
		keeper.keeper.tell("this")
		assert keeper.next()["do"] == "this"

	def test_one_that_answers_is_left_alone(self, keeper: Keeper) -> None:
		for _ in range(8):
			keeper.keeper.look()
			assert keeper.next() == {"event": "echo", "do": "beat"}

	def test_five_deaths_in_a_row_are_the_end(self, keeper: Keeper) -> None:
		for death in range(5):
			keeper.keeper.tell("die")
			if death < 4:
				assert keeper.next()["event"] == "ready"
		assert keeper.gave_up.wait(PATIENCE)
		assert keeper.said.empty()
