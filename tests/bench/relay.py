"""The video relay that ships against a naive one, in turn: python tests/bench relay

Load: frames of 20 kB, 25 a second, everyone receives every sender, for 1 x 50, 5 x 10 and 15 x 10. The
relay that ships runs with its thread, its sockets and its seals; the naive one is what one would write in
Python first, `recvfrom` and a `sendto` for each receiver, and encrypts nothing. Senders and receivers are
processes of their own; receivers open the seals. The delay of a frame runs from before it is sealed at its
sender to the kernel's stamp on its last part at the receiver, so that it is the server's and not the load's.
"""

from __future__ import annotations

import random
import secrets
import selectors
import socket
import struct
import sys
import time
from functools import partial
from typing import Any, Final

import numpy as np
from figures import Child, Row, answer, forever, heard, in_background, in_turn, percentile
from processes import measured

import connectsphere as cs

HERE: Final = "127.0.0.1"
FPS: Final = 25
ASKED_FPS: Final = 60  # so that none is thinned out where a busy machine's senders come in bunches
SIZE: Final = 20_000
LAYER: Final = 1
LOADS: Final = ((1, 50), (5, 10), (15, 10))
SETTLE: Final = 1.2
SECONDS: Final = 4.0
_STAMP: Final = 35  # SO_TIMESTAMPNS of Linux
_TIME: Final = struct.Struct("@ll")
_SENT_AT: Final = struct.Struct(">q")
_SENT_OFFSET: Final = 6
Keys = dict[int, tuple[str, str]]


# -- the servers -------------------------------------------------------------------------------------------


def serve_relay(told: dict[str, Any]) -> None:
	"""The relay of the product."""
	counters = cs.Counters()
	relay = cs.VideoRelay((HERE, 0), counters)
	for ident, (up, down) in told["keys"].items():
		relay.add(int(ident), bytes.fromhex(up), bytes.fromhex(down))
	for sender in told["senders"]:
		relay.route(sender, dict.fromkeys(told["receivers"], (LAYER, ASKED_FPS)))
	relay.loop.start()
	answer(port=relay.loop.port.port)
	for _ in heard():
		answer(counters=counters.snapshot())
	relay.loop.close()


def serve_naive(told: dict[str, Any]) -> None:
	"""Who wants to receive says one byte; the rest goes to all who did."""
	sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
	cs.UdpPort((HERE, 0), cs.Counters(), adopt=sock)  # the same buffers
	sock.setsockopt(socket.IPPROTO_UDP, 104, 0)  # and nothing else of it
	sock.setblocking(True)
	receivers: list[Any] = []

	def run() -> None:
		while True:
			data, source = sock.recvfrom(2048)
			if len(data) == 1:
				receivers.append(source)
				continue
			for receiver in receivers:
				sock.sendto(data, receiver)

	in_background(run)
	answer(port=sock.getsockname()[1])
	for _ in heard():
		answer(counters={})


# -- the load ----------------------------------------------------------------------------------------------


def picture() -> bytearray:
	"""A JPEG of LAYER's size and SIZE bytes, with room for a time at _SENT_OFFSET."""
	noise = np.random.default_rng(1).integers(0, 256, (*reversed(cs.LAYERS[LAYER]), 3), np.uint8)
	coded = cs.encode_jpeg(noise, 20)
	room = SIZE - len(coded) - 4
	assert room >= _SENT_AT.size
	return bytearray(coded[:2] + struct.pack(">HH", 0xFFFE, room + 2) + bytes(room) + coded[2:])


class Client:
	"""The client's end of the video plane, with the kernel's stamps."""

	def __init__(self, ident: int, keys: tuple[str, str], server: cs.Address) -> None:
		self.port = cs.UdpPort(None, cs.Counters(), connect=server)
		self.path = cs.MediaPath(self.port, ident, *keys)
		self.sent = cs.RetransmissionCache()
		self.incoming = cs.Reassembler(layered=False, counters=cs.Counters())
		self.number = 0
		self.sent_at: list[int] = []

	def send(self, data: bytearray, sealed: bool) -> None:
		"""A picture, stamped; the naive relay is not burdened with seals."""
		self.number += 1
		number = LAYER << cs.LAYER_SHIFT | self.number
		self.sent_at.append(time.time_ns())
		_SENT_AT.pack_into(data, _SENT_OFFSET, self.sent_at[-1])
		whole, total = bytes(data), cs.parts_of(len(data) + cs.TAG)
		if sealed:
			whole = self.path.sealer.seal(cs.Kind.VIDEO, self.path.id, number, whole, total)
		layout = cs.FrameLayout(total).lay(self.path.id, number, whole)
		self.sent.store(whole, time.monotonic())
		self.sent.note_sent(number)
		self.port.send_frame(layout)

	def on_small(self, data: bytes) -> None:
		"""A challenge or a nack."""
		kind, payload = self.path.on_small(data, time.monotonic())
		if kind == cs.Kind.NACK:
			for datagram in self.sent.resend(cs.parse_nack(payload), time.monotonic()):
				self.port.send(datagram)


def send_load(told: dict[str, Any]) -> None:
	"""All senders, each at its own moment of the frame's interval."""
	server, sealed, data = (HERE, told["port"]), told["sealed"], picture()
	clients = [Client(int(ident), keys, server) for ident, keys in told["keys"].items()]
	chance = random.Random()
	begun = time.monotonic() + 0.5
	due = [(begun + chance.random() / FPS, client) for client in clients]

	def turn() -> None:
		nonlocal due
		due.sort(key=lambda one: one[0])
		at, client = due[0]
		time.sleep(max(0.0, min(at - time.monotonic(), 0.004)))
		now = time.monotonic()
		if now >= at:
			client.send(data, sealed)
			due[0] = (max(at + 1 / FPS, now + 0.5 / FPS), client)  # cameras do not catch up
		for one in clients if sealed else ():
			one.path.bind_due(now)
			for buffer, segment, _ in one.port.receive(4):
				one.on_small(bytes(buffer[:segment]))

	in_background(lambda: forever(turn))
	answer()
	for asked in heard():
		answer(sent=sum(asked["from"] <= at < asked["to"] for client in clients for at in client.sent_at))


class Tally:
	"""What a process of receivers has got: bytes; of each whole frame, when it was sent and when it came."""

	def __init__(self) -> None:
		self.bytes = 0
		self.frames: list[tuple[int, int]] = []


class Receiver(Client):
	"""One who watches: reads as the product's client does, and what the kernel says about when."""

	def __init__(self, ident: int, keys: tuple[str, str], server: cs.Address, tally: Tally) -> None:
		super().__init__(ident, keys, server)
		self.tally = tally
		self.slot = bytearray(65_536)
		self.begun: dict[int, int] = {}
		self.port.socket.setsockopt(socket.SOL_SOCKET, _STAMP, 1)

	def read(self) -> None:
		"""Everything that has come."""
		while True:
			try:
				size, control, _, _ = self.port.socket.recvmsg_into([self.slot], 128)
			except BlockingIOError:
				return
			segment, stamp = size, 0
			for level, kind, value in control:
				if (level, kind) == (socket.SOL_SOCKET, _STAMP):
					seconds, nanoseconds = _TIME.unpack_from(value)
					stamp = seconds * 1_000_000_000 + nanoseconds
				elif level == socket.IPPROTO_UDP:
					segment = int.from_bytes(value[:2], sys.byteorder)
			self.take(memoryview(self.slot)[:size], segment, stamp)

	def take(self, buffer: memoryview, segment: int, stamp: int) -> None:
		"""What one read gave."""
		for run in cs.runs_of(buffer, segment):
			if cs.VIDEO_HEADER.unpack_from(run)[2] == 0:
				self.on_small(bytes(run[:segment]))
				continue
			self.tally.bytes += len(run)
			for frame in self.incoming.push_batch(run, segment, time.monotonic()):
				total = cs.parts_of(len(frame.sealed))
				data = self.path.opener.open(cs.Kind.VIDEO, frame.id, frame.number, frame.sealed, total)
				self.tally.frames.append((_SENT_AT.unpack_from(data, _SENT_OFFSET)[0], stamp))

	def due(self, now: float) -> None:
		"""Bind, and ask again."""
		self.path.bind_due(now)
		for nack in self.incoming.nacks(now):
			self.path.send_small(cs.Kind.NACK, cs.encode_nack(nack))


class NaiveReceiver(Receiver):
	"""One who watches through the naive relay: counts, opens nothing."""

	def take(self, buffer: memoryview, segment: int, stamp: int) -> None:
		"""One datagram."""
		self.tally.bytes += len(buffer)
		ident, _, total, index = cs.VIDEO_HEADER.unpack_from(buffer)
		if index == 0:
			self.begun[ident] = _SENT_AT.unpack_from(buffer, cs.VIDEO_HEADER.size + _SENT_OFFSET)[0]
		elif index == total - 1 and ident in self.begun:
			self.tally.frames.append((self.begun.pop(ident), stamp))

	def due(self, now: float) -> None:
		"""Ask to be sent everything, once."""
		if not self.number:
			self.number = 1
			self.port.send(b"x")


def receive_load(told: dict[str, Any]) -> None:
	"""Some of the receivers."""
	tally, server = Tally(), (HERE, told["port"])
	kind = Receiver if told["sealed"] else NaiveReceiver
	selector = selectors.DefaultSelector()
	clients = [kind(int(ident), keys, server, tally) for ident, keys in told["keys"].items()]
	for client in clients:
		selector.register(client.port, selectors.EVENT_READ, client)

	def turn() -> None:
		for key, _ in selector.select(0.004):
			key.data.read()
		for client in clients:
			client.due(time.monotonic())

	in_background(lambda: forever(turn))
	answer()
	for asked in heard():
		delays = [(come - sent) / 1e6 for sent, come in tally.frames if asked["from"] <= sent < asked["to"]]
		repaired = sum(client.incoming.counts(n)["repaired"] for client in clients for n in told["senders"])
		answer(bytes=tally.bytes, delays=delays, repaired=repaired)


# -- a run -------------------------------------------------------------------------------------------------


def run(server_role: str, senders: int, receivers: int, seconds: float = SECONDS) -> dict[str, float]:
	"""One load through one server; the figures of the time after it has settled."""
	with Traffic(server_role, senders, receivers) as traffic:
		time.sleep(SETTLE)
		return traffic.measure(seconds)


class Traffic:
	"""A server, its senders and its receivers, all running until it is left.

	The server is `server_role` of `script`, which is told `more`.
	"""

	def __init__(
		self, server_role: str, senders: int, receivers: int, script: str = __file__, **more: object
	) -> None:
		keys: Keys = {
			ident: (secrets.token_hex(16), secrets.token_hex(16))
			for ident in range(1, senders + receivers + 1)
		}
		self.talking, watching = list(keys)[:senders], list(keys)[senders:]
		self.watching = len(watching)
		sealed = server_role == "relay"
		told = {"senders": self.talking, "receivers": watching, "sealed": sealed}
		self.server = Child(script, server_role, keys=keys, **told, **more)
		told["port"] = self.server.ready["port"]
		self.sinks = [
			Child(__file__, "receivers", keys={n: keys[n] for n in watching[half::2]}, **told)
			for half in (0, 1)
		]
		self.sources = Child(__file__, "senders", keys={n: keys[n] for n in self.talking}, **told)

	def __enter__(self) -> Traffic:
		return self

	def __exit__(self, *_: object) -> None:
		for child in (self.sources, *self.sinks, self.server):
			child.close()

	def measure(self, seconds: float) -> dict[str, float]:
		"""CPU-seconds a forwarded Gbit, share of frames opened, delays in ms, Mbit/s."""
		period = {"from": time.time_ns(), "to": 0}
		before = [sink.ask(**period)["bytes"] for sink in self.sinks]
		with measured([self.server.process.pid]) as cost:
			time.sleep(seconds)
		period["to"] = time.time_ns()
		octets = sum(sink.ask(**period)["bytes"] for sink in self.sinks) - sum(before)
		time.sleep(0.5)  # what is under way
		after = [sink.ask(**period) for sink in self.sinks]
		delays = [delay for sink in after for delay in sink["delays"]]
		counters = self.server.ask()["counters"]
		if counters:
			print(f"  counters {counters}", file=sys.stderr)
		gbit = octets * 8 / 1e9
		return {
			"cpu_per_gbit": cost["cpu"] / gbit,
			"opened": len(delays) / (self.sources.ask(**period)["sent"] * self.watching),
			"repaired": sum(sink["repaired"] for sink in after),
			"p50": percentile(delays, 0.5),
			"p99": percentile(delays, 0.99),
			"mbit": gbit * 1e3 / cost["seconds"],
		}


def rows(rounds: int) -> list[Row]:
	"""The relay's part of the table."""
	found: list[Row] = []
	for senders, receivers in LOADS:
		medians = in_turn(
			{role: partial(run, role, senders, receivers) for role in ("naive", "relay")},
			rounds,
		)
		ours, naive = medians["relay"], medians["naive"]
		load = f"{senders} x {receivers}"
		found += [
			Row(
				"relay",
				f"{load}, CPU-seconds a Gbit",
				f"{ours['cpu_per_gbit']:.3f}",
				f"{naive['cpu_per_gbit']:.3f} naive, not encrypted",
				ours["cpu_per_gbit"] / naive["cpu_per_gbit"],
				"<= 0.45",
			),
			Row("relay", f"{load}, frames opened", f"{100 * ours['opened']:.2f} %", bound=">= 99.9 %"),
			Row(
				"relay",
				f"{load}, delay at {ours['mbit']:.0f} Mbit/s",
				f"p50 {ours['p50']:.2f}, p99 {ours['p99']:.2f} ms",
				f"p50 {naive['p50']:.2f}, p99 {naive['p99']:.2f} ms",
				bound="p99 < 3 ms" if (senders, receivers) == LOADS[-1] else "",
			),
		]
	return found


ROLES: Final = {
	"relay": serve_relay,
	"naive": serve_naive,
	"senders": send_load,
	"receivers": receive_load,
}

if __name__ == "__main__":
	ROLES[sys.argv[1]](next(heard()))
