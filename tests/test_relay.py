"""The video relay with its thread and socket: what reaches whom, in what order, what is asked for anew."""

from __future__ import annotations

import contextlib
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator
from unittest import mock

import pytest
from light import picture
from meetings import LOOPBACK
from pictures import frame_datagrams

import connectsphere as cs

LAYER = 1  # its pictures may have 60 kB


class Watcher:
	"""A client's end of the video plane."""

	def __init__(self, ident: int, up: str, down: str, server: cs.Address) -> None:
		self.port = cs.UdpPort(None, cs.Counters(), connect=server)
		self.path = cs.MediaPath(self.port, ident, up, down)
		self.incoming = cs.Reassembler(layered=False, counters=cs.Counters())
		self.number = 0
		self.nacks: list[cs.Nack] = []
		self.pictures: list[tuple[int, bytes]] = []

	def layout(self, data: bytes) -> bytes:
		self.number += 1
		number = LAYER << cs.LAYER_SHIFT | self.number
		total = cs.parts_of(len(data) + cs.TAG)
		sealed = self.path.sealer.seal(cs.Kind.VIDEO, self.path.id, number, data, total)
		return frame_datagrams(self.path.id, number, sealed)

	def turn(self) -> None:
		now = time.monotonic()
		self.path.bind_due(now)
		for buffer, segment, _ in self.port.receive(8):
			for run in cs.runs_of(buffer, segment):
				if cs.VIDEO_HEADER.unpack_from(run)[2] == 0:
					kind, payload = self.path.on_small(bytes(run[:segment]), now)
					self.nacks += [cs.parse_nack(payload)] if kind == cs.Kind.NACK else []
					continue
				for frame in self.incoming.push_batch(run, segment, now):
					total = cs.parts_of(len(frame.sealed))
					data = self.path.opener.open(cs.Kind.VIDEO, frame.id, frame.number, frame.sealed, total)
					self.pictures.append((frame.number, data))
		for nack in self.incoming.nacks(now):
			self.path.send_small(cs.Kind.NACK, cs.encode_nack(nack))


def until(people: list[Watcher], what: Callable[[], object], seconds: float = 15.0) -> None:
	end = time.monotonic() + seconds
	while not what():
		assert time.monotonic() < end, "in vain"
		for one in people:
			one.turn()
		time.sleep(0.001)


@contextlib.contextmanager
def meeting(count: int) -> Iterator[tuple[list[Watcher], cs.Counters]]:
	"""`count` clients, of whom all others watch the first."""
	counters = cs.Counters()
	relay = cs.VideoRelay((LOOPBACK, 0), counters)
	people = []
	for ident in range(1, count + 1):
		up, down = secrets.token_hex(16), secrets.token_hex(16)
		relay.add(ident, bytes.fromhex(up), bytes.fromhex(down))
		people.append(Watcher(ident, up, down, (LOOPBACK, relay.loop.port.port)))
	relay.route(1, dict.fromkeys(range(2, count + 1), (LAYER, 60)))
	relay.loop.start()
	try:
		until(people, lambda: all(one.path.answered > 0 for one in people))
		time.sleep(0.05)  # the last answer is on its way
		yield people, counters
	finally:
		relay.loop.close()
		for one in people:
			one.port.close()


@pytest.mark.parametrize("size", [3_000, 20_000, 60_000])
def test_each_watcher_gets_every_frame_in_order_under_its_own_seal(size: int) -> None:
	with meeting(6) as (people, counters):
		sent = [picture(LAYER, size + n) for n in range(12)]
		for count, data in enumerate(sent, 1):
			people[0].port.send_frame(people[0].layout(data))
			until(people, lambda count=count: all(len(one.pictures) == count for one in people[1:]))  # type: ignore[misc]
			time.sleep(1 / 30)  # 60 a second may pass
		for one in people[1:]:
			assert [data for _, data in one.pictures] == sent
			assert [number for number, _ in one.pictures] == list(range(1, len(sent) + 1))
		assert not people[0].pictures
		assert set(counters.snapshot()) <= {"bad_answer"}, "two binds that a busy machine read at once"


def test_a_frame_that_does_not_open_is_asked_for_again_and_then_reaches_all() -> None:
	with meeting(3) as (people, counters):
		sender, data = people[0], picture(LAYER, 20_000)
		honest = sender.layout(data)
		forged = bytearray(honest)
		forged[-1] ^= 1
		sender.port.send_frame(forged)
		until(people, lambda: sender.nacks)
		assert sender.nacks[0].bitmap == cs.ALL_PARTS
		sender.port.send_frame(honest)
		until(people, lambda: all(one.pictures for one in people[1:]))
		assert [data for _, data in people[1].pictures] == [data]
		assert counters.snapshot() == {"unsealed": 1}


def test_what_a_watcher_misses_is_sent_again() -> None:
	with meeting(2) as (people, _):
		sender, watcher = people
		push, missing = watcher.incoming.push_batch, [3]  # parts of the fourth frame that the link loses

		def lossy(buffer: memoryview, segment: int, now: float) -> list[cs.WholeFrame]:
			if missing and len(watcher.pictures) == 3:
				buffer = buffer[: -missing.pop() * segment]
			return push(buffer, segment, now)

		watcher.incoming.push_batch = lossy  # type: ignore[method-assign,assignment]
		for count in range(1, 6):
			sender.port.send_frame(sender.layout(picture(LAYER, 20_000)))
			until(people, lambda count=count: len(watcher.pictures) == count)  # type: ignore[misc]
			time.sleep(1 / 30)  # 60 a second may pass
		assert not missing
		assert watcher.incoming.counts(1) == {"lost_frames": 0, "repaired": 1}


def test_only_the_own_id_of_what_a_kernel_merged_is_collected() -> None:
	relay = cs.VideoRelay((LOOPBACK, 0), counters := cs.Counters())
	with contextlib.closing(relay.loop):
		relay.add(5, bytes(16), bytes(16))
		peer = relay._peers[5]
		peer.binding.address = here = (LOOPBACK, 1)
		ids = [5, *range(1_000, 1_040), 5]
		merged = b"".join(cs.VIDEO_HEADER.pack(ident, 1, 200, 0) + bytes(cs.CHUNK) for ident in ids)
		relay._on_datagrams(memoryview(merged), cs.DATAGRAM, here, 1.0)
		assert [peer.incoming.held(ident) for ident in (5, 1_000, 1_039)] == [cs.CHUNK, 0, 0]
		assert counters.snapshot() == {"video.unasked": 40, "video.duplicate": 1}


def test_both_ends_learn_the_round_trip_time_by_validating_the_path() -> None:
	relay, here = cs.VideoRelay((LOOPBACK, 0), cs.Counters()), (LOOPBACK, 9)
	port = cs.UdpPort(None, cs.Counters(), connect=here)
	with contextlib.closing(relay.loop), contextlib.closing(port):
		relay.add(5, bytes(16), bytes(16))
		challenge = relay._peers[5].binding.sealer.small(cs.Kind.CHALLENGE, 5, b"token")
		path = cs.MediaPath(port, 5, "00" * 16, "00" * 16)
		path.bind_due(began := cs.monotonic())
		path.on_small(challenge, began + 0.04)
		assert path.rtt == pytest.approx(0.04)
		sealer = cs.Sealer(bytes(16))
		with mock.patch.object(cs, "token_bytes", return_value=b"token"):
			for kind, at in ((cs.Kind.BIND, 1.0), (cs.Kind.ANSWER, 1.03)):
				datagram = sealer.small(kind, 5, b"token" if kind == cs.Kind.ANSWER else b"")
				relay._on_datagrams(memoryview(datagram), len(datagram), here, at)
		assert relay._peers[5].incoming.rtt == pytest.approx(0.03)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what it dropped")
def test_a_port_knows_what_came_while_its_buffer_was_full() -> None:
	with contextlib.closing(cs.UdpPort((LOOPBACK, 0), cs.Counters())) as port:
		port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
		with socket.socket(type=socket.SOCK_DGRAM) as other:
			for _ in range(2):
				before = port.dropped
				for _ in range(50):
					other.sendto(bytes(1_000), (LOOPBACK, port.port))
				came = 0
				while read := port.receive(64):
					came += len(read)
				other.sendto(bytes(1_000), (LOOPBACK, port.port))
				assert port.receive(64)
				assert port.dropped == before + 50 - came > before
