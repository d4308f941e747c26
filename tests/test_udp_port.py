"""The UDP port over real loopback sockets, and with a kernel that refuses to cut datagrams."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import random
import select
import socket
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from lan import Lan, needs_lan
from pictures import frame_datagrams

import connectsphere as cs
from connectsphere import (
	CHUNK,
	DATAGRAM,
	DSCP_EF,
	MAX_FRAME,
	Counters,
	Reassembler,
	UdpPort,
	WholeFrame,
)

HERE = "127.0.0.1"
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="segmentation offload is Linux's")


@contextlib.contextmanager
def opened(connect: tuple[str, int] | None = None) -> Iterator[tuple[UdpPort, Counters]]:
	counters = Counters()
	port = UdpPort((HERE, 0), counters, connect)
	try:
		yield port, counters
	finally:
		port.close()


def received(port: UdpPort, size: int, seconds: float = 5.0) -> list[tuple[bytes, int, tuple[str, int]]]:
	"""What comes until `size` bytes are there."""
	buffers: list[tuple[bytes, int, tuple[str, int]]] = []
	end = time.monotonic() + seconds
	while sum(len(data) for data, _, _ in buffers) < size:
		assert select.select([port], [], [], max(0.0, end - time.monotonic()))[0], "nothing came"
		buffers += [(bytes(view), segment, address) for view, segment, address in port.receive(8)]
	return buffers


class FussySocket:
	"""A socket whose batched sending fails with `error`, from the `after`-th call on."""

	def __init__(self, real: socket.socket, error: int, after: int = 0) -> None:
		self.real = real
		self.error = error
		self.after = after
		self.calls = 0

	def __getattr__(self, name: str) -> Any:
		return getattr(self.real, name)

	def sendmsg(self, *arguments: Any) -> int:
		self.calls += 1
		if self.calls > self.after:
			raise OSError(self.error, "no")
		return self.real.sendmsg(*arguments)


class RefusingSocket(FussySocket):
	"""A socket that sends nothing: every call fails with `error` while `times` lasts."""

	times = 10**9

	def sendto(self, *arguments: Any) -> int:
		self.calls += 1
		self.times -= 1
		if self.times >= 0:
			raise OSError(self.error, "no")
		return self.real.sendto(*arguments)

	def sendmsg(self, *arguments: Any) -> int:
		self.calls += 1
		raise OSError(self.error, "no")

	def recvmsg_into(self, *arguments: Any) -> Any:
		self.calls += 1
		raise OSError(self.error, "no")

	recvfrom_into = recvfrom = recvmsg_into


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("size", [1, CHUNK, CHUNK + 1, 20_016, 58 * CHUNK, 58 * CHUNK + 1, MAX_FRAME])
def test_frame_goes_through_whole(size: int, connected: bool) -> None:
	sealed = random.Random(size).randbytes(size)
	layout = frame_datagrams(7, 1, sealed)
	with opened() as (here, counters), opened((HERE, here.port) if connected else None) as (there, _):
		assert there.send_frame(layout, None if connected else (HERE, here.port))
		frames: list[WholeFrame] = []
		reassembler = Reassembler(False, counters)
		for data, segment, address in received(here, len(layout)):
			assert address == (HERE, there.port)
			frames += reassembler.push_batch(data, segment, 0.0)
		assert [frame.sealed for frame in frames] == [sealed]
		assert counters.snapshot() == {}


def test_a_port_for_sound_hands_out_each_datagram() -> None:
	layout = frame_datagrams(7, 1, bytes(20 * CHUNK + 3))
	with contextlib.closing(UdpPort((HERE, 0), Counters(), sound=True)) as here, opened() as (there, _):
		assert there.send_frame(layout, (HERE, here.port))
		came: list[tuple[bytes, tuple[str, int]]] = []
		end = time.monotonic() + 5
		while len(came) < 21 and time.monotonic() < end:
			came += [(bytes(data), address) for data, _, address in here.receive(4)]
		assert [len(data) for data, _ in came] == [DATAGRAM] * 20 + [15]
		assert b"".join(data for data, _ in came) == bytes(layout)
		assert {address for _, address in came} == {(HERE, there.port)}


@linux_only
def test_sound_that_comes_in_a_bunch_is_taken_apart() -> None:
	"""A Wi-Fi card hands over several blocks at once, and what was asked of a socket before still holds."""
	with opened() as (taken, counters), opened() as (there, _):
		layout = frame_datagrams(7, 1, bytes(2 * CHUNK + 500))
		with contextlib.closing(UdpPort(None, counters, adopt=taken.socket, sound=True)) as here:
			assert there.send_frame(layout, (HERE, here.port))
			assert here.wait(5.0)
			assert [len(data) for data, *_ in here.receive(8)] == [DATAGRAM, DATAGRAM, 512]


@linux_only
def test_sound_asks_to_go_first() -> None:
	"""What a switch sees: the DSCP for expedited forwarding on sound, none on pictures."""
	for sound, wanted in ((True, DSCP_EF), (False, 0)):
		with (
			opened() as (there, _),
			contextlib.closing(
				UdpPort((HERE, 0), Counters(), connect=(HERE, there.port), sound=sound)
			) as here,
		):
			there.socket.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
			here.send(b"block")
			assert there.wait(5.0)
			_, control, _, _ = there.socket.recvmsg(100, 64)
			assert [data[0] for _, kind, data in control if kind == socket.IP_TOS] == [wanted]


def test_what_is_sent_over_loopback_is_not_held_back() -> None:
	with opened() as (here, _), opened() as (there, _):
		assert there.held() == 0
		assert there.send_frame(frame_datagrams(7, 1, bytes(50 * CHUNK)), (HERE, here.port))
		assert there.held() == 0
		there.close()
		assert there.held() == 0


HOLDING = """
import sys, time, connectsphere as cs
port, there = cs.UdpPort(None, cs.Counters()), (sys.argv[1], 9)
port.send(b"who has this address?", there)
time.sleep(0.3)
for number in range(5):
    port.send_frame(cs.FrameLayout(18).lay(1, number, bytes(18 * cs.CHUNK)), there)
held = port.held()
time.sleep(0.5)
print(held, port.held())
"""


@needs_lan
def test_what_a_slow_link_still_holds_is_told() -> None:
	with Lan(2) as lan:
		lan.cap(1, "4mbit")
		done = lan.run(1, sys.executable, "-c", HOLDING, lan.address(2))
		held, later = map(int, done.stdout.split())
		assert held > 20_000, "the cap lets 64 kB through at once and holds the rest"
		assert later == 0


def test_datagrams_and_answers_keep_their_borders() -> None:
	with opened() as (here, _), opened((HERE, here.port)) as (there, _):
		assert there.send(b"one")
		assert there.send(b"three")
		buffers = received(here, 8)
		cut = [data[i : i + step] for data, step, _ in buffers for i in range(0, len(data), step)]
		assert cut == [b"one", b"three"]
		assert here.send(b"back", buffers[0][2])
		assert [data for data, _, _ in received(there, 4)] == [b"back"]


@linux_only
def test_frame_of_twenty_kilobytes_is_one_call_each_way() -> None:
	with opened() as (here, _), opened() as (there, _):
		fussy = FussySocket(there.socket, 0, after=10**9)
		there.socket = fussy  # type: ignore[assignment]
		layout = frame_datagrams(7, 1, bytes(20_000))
		assert there.send_frame(layout, (HERE, here.port))
		assert fussy.calls == 1
		buffers = received(here, len(layout))
		assert [(len(data), segment) for data, segment, _ in buffers] == [(len(layout), DATAGRAM)]


def test_last_datagram_goes_by_itself_where_it_is_to_tell_of_the_others() -> None:
	layout = frame_datagrams(7, 1, bytes(18 * CHUNK + 5))
	with opened() as (here, _), opened() as (there, _):
		assert there.send_frame(layout, (HERE, here.port), tail=True)
		got = [bytes(data) for data, *_ in received(here, len(layout))]
	assert b"".join(got) == bytes(layout)
	assert len(got[-1]) == len(layout) - 18 * DATAGRAM, "not joined with what went before"


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EMSGSIZE])
@pytest.mark.parametrize("after", [0, 1])
@linux_only
def test_batch_that_the_kernel_refuses_is_sent_plainly_and_not_tried_again(code: int, after: int) -> None:
	sealed = random.Random(1).randbytes(100 * CHUNK)
	with opened() as (here, _), opened() as (there, counters):
		fussy = FussySocket(there.socket, code, after)
		there.socket = fussy  # type: ignore[assignment]
		frames: list[WholeFrame] = []
		reassembler = Reassembler(False, Counters())
		for number in (1, 2):
			layout = frame_datagrams(7, number, sealed)
			assert there.send_frame(layout, (HERE, here.port))
			for data, segment, _ in received(here, len(layout)):
				frames += reassembler.push_batch(data, segment, 0.0)
		assert [frame.sealed for frame in frames] == [sealed, sealed]
		assert fussy.calls == after + 1
		assert counters.snapshot() == {"udp.no_gso": 1}


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOBUFS])
def test_full_buffer_drops_the_rest_of_the_frame_and_is_counted_once(code: int) -> None:
	with opened() as (port, counters):
		port.socket = refusing = RefusingSocket(port.socket, code)  # type: ignore[assignment]
		assert not port.send_frame(frame_datagrams(1, 1, bytes(100 * CHUNK)), (HERE, 9))
		assert refusing.calls == 1
		assert counters.snapshot() == {"udp.full": 1}
		refusing.times = 0
		port._gso = False
		assert port.send_frame(frame_datagrams(1, 1, bytes(3 * CHUNK)), (HERE, port.port))


def test_vanished_peer_never_ends_sending_or_receiving() -> None:
	with opened() as (port, counters):
		real = port.socket
		port.socket = RefusingSocket(real, errno.ECONNRESET)  # type: ignore[assignment]
		assert not port.send(b"x", (HERE, 9))
		assert port.receive(3) == []
		assert counters.snapshot() == {"udp.reset": 5}
		port.socket.times = 1  # type: ignore[attr-defined]
		assert port.send(b"x", (HERE, port.port))
		port.socket = real
		assert [data for data, _, _ in received(port, 1)] == [b"x"]


@linux_only
def test_peer_that_closed_is_counted_and_a_new_one_on_its_port_is_heard() -> None:
	gone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
	gone.bind((HERE, 0))
	with opened(gone.getsockname()) as (port, counters):
		address = gone.getsockname()
		gone.close()
		port.send(b"to nobody")
		assert select.select([port], [], [], 5.0)[0]
		assert port.receive(4) == []
		assert counters.snapshot()["udp.reset"] >= 1
		with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
			back.bind(address)
			back.sendto(b"here again", (HERE, port.port))
			assert [data for data, _, _ in received(port, 10)] == [b"here again"]


def test_no_route_is_counted() -> None:
	with opened() as (port, counters):
		port.socket = RefusingSocket(port.socket, errno.ENETUNREACH)  # type: ignore[assignment]
		assert not port.send(b"x", (HERE, 9))
		assert counters.snapshot() == {"udp.error": 1}


def test_nothing_to_read_is_no_error_and_most_is_kept() -> None:
	with opened() as (here, counters), opened((HERE, here.port)) as (there, _):
		assert here.receive(4) == []
		for length in range(1, 6):  # of different sizes, so that they are not joined
			there.send(bytes(length * 20 % 70 + 1))
		first = received(here, 1)
		assert len(here.receive(1)) <= 1
		assert len(first) <= 8
		assert counters.snapshot() == {}


def test_empty_datagrams_are_counted_and_not_handed_out() -> None:
	with opened() as (here, counters), opened((HERE, here.port)) as (there, _):
		for data in (b"", b"full", b""):
			there.send(data)
		assert [data for data, *_ in received(here, 1)] == [b"full"]
		until = time.monotonic() + 5
		while counters.snapshot() != {"short_datagram": 2} and time.monotonic() < until:
			assert here.receive(4) == []
		assert counters.snapshot() == {"short_datagram": 2}


def test_buffers_are_read_back_and_a_taken_port_is_an_error() -> None:
	with opened() as (port, _):
		kinds = (socket.SO_RCVBUF, socket.SO_SNDBUF)
		assert min(port.socket.getsockopt(socket.SOL_SOCKET, kind) for kind in kinds) > 65_536
		with pytest.raises(OSError, match=r"in use|address"):
			UdpPort((HERE, port.port), Counters())


def test_closed_port_sends_and_reads_nothing() -> None:
	with opened() as (port, counters):
		port.close()
		port.close()
		assert port.fileno() == -1
		assert not port.send(b"x", (HERE, 9))
		assert port.receive(1) == []
		assert counters.snapshot() == {"udp.error": 2}


@pytest.mark.parametrize(("service", "kind"), [(DSCP_EF, 4), (cs.DSCP_CS1, 1)])
def test_windows_is_asked_by_qwave(service: int, kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
	"""It ignores IP_TOS. By its documented call: voice is 4, background 1, a flow without probes 2.

	Only a socket that is not connected says for whom: the mixer's, once a listener.
	"""
	flows: list[tuple[bytes | None, int, int]] = []

	def add(handle: object, number: object, where: bytes | None, kind: int, flags: int, flow: bytes) -> int:
		flows.append((where, kind, flags))
		return 1

	system = SimpleNamespace(QOSCreateHandle=lambda version, handle: 1, QOSAddSocketToFlow=add)
	monkeypatch.setattr(ctypes, "WinDLL", lambda name: system, raising=False)
	monkeypatch.setattr(sys, "platform", "win32")
	cs._qwave.cache_clear()
	with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
		cs.set_dscp(service, sock, ("10.1.2.3", 0x1234))
		sock.connect((HERE, 9))
		cs.set_dscp(service, sock)
	cs._qwave.cache_clear()
	where = bytes((2, 0, 0x12, 0x34, 10, 1, 2, 3)) + bytes(8)
	assert flows == [(where, kind, 2), (None, kind, 2)]
