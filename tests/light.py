"""Many light participants in one process, who open the seals of what comes and decode nothing.

    python tests/light.py ADDRESS BASE PEOPLE SENDERS SIZE

The first SENDERS have pictures of SIZE bytes, 15 a second, which everyone watches, and smaller ones of the
lower layers; they send what the server asks them for. The first one speaks, too.
Says {"ready": true} once all are in. A line "idle SECONDS" on standard input is answered by a line of figures
of that time without pictures, "busy SECONDS" with, "quiet SECONDS" with and nobody speaks. A lag is on a
clock of its own.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import ssl
import struct
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

import numpy as np  # noqa: E402 - found by the path above
from pictures import frame_datagrams  # noqa: E402 - found by the path above
from stranger import dial  # noqa: E402 - found by the path above

import connectsphere as cs  # noqa: E402 - found by the path above

FPS, LAYER = 15, 2
PAIR = max(cs.AUDIO_SIZES) + 2 * cs.BLOCK  # two blocks
SHARES = (0.12, 0.35, 1.0)  # of SIZE, by layer
STAMP = 35  # SO_TIMESTAMPNS of Linux: when a datagram came, however late this process reads it
TIME = struct.Struct("@ll")
STARTED = int(time.time())


def picture(layer: int, size: int) -> bytes:
	"""A JPEG of the layer's size in so many bytes."""
	grey = np.full((*reversed(cs.LAYERS[layer]), 3), 128, np.uint8)
	coded = cs.encode_jpeg(grey, 30)
	room = size - len(coded) - 4
	assert room >= 0, f"{size} bytes hold no picture, {len(coded) + 4} do"
	return coded[:2] + struct.pack(">HH", 0xFFFE, room + 2) + bytes(room) + coded[2:]


class Light:
	"""One participant: control link, both planes, counts."""

	def __init__(self, address: str, base: int, name: str) -> None:
		self.link, _ = dial((address, base))
		self.rest = b""
		self.say(type="hello", v=1, name=name, pin=False, features=list(cs.FEATURES))
		while b"\n" not in self.rest:
			self.rest += self.link.recv(65_536)
		line, _, self.rest = self.rest.partition(b"\n")
		welcome = json.loads(line)
		assert welcome["type"] == "welcome", welcome
		self.id: int = welcome["id"]
		self.where = (address, base)
		self.say(type="resumed")
		self.link.setblocking(False)
		self.counters = cs.Counters()
		self.ports = [
			cs.UdpPort(None, self.counters, connect=(address, base + offset)) for offset in (1000, 2000)
		]
		self.ports[1].socket.setsockopt(socket.SOL_SOCKET, STAMP, 1)
		self.ports[1].socket.setsockopt(socket.IPPROTO_UDP, 104, 0)  # each datagram with its own stamp
		self.video = cs.MediaPath(self.ports[0], self.id, welcome["video_up"], welcome["video_down"])
		self.audio = cs.MediaPath(self.ports[1], self.id, welcome["audio_up"], welcome["audio_down"])
		self.incoming = cs.Reassembler(layered=False, counters=self.counters)
		self.watch = cs.ReceiverReport()
		self.sent = cs.RetransmissionCache()
		self.droppers: dict[int, cs.FrameDropper] = {}
		self.numbers = [0] * len(cs.LAYERS)
		self.pinged = 0.0
		self.pictures = self.octets = self.datagrams = 0
		self.seen: Counter[int] = Counter()  # pictures of each sender
		self.lags: list[float] = []
		self.blocks: list[int] = []

	def say(self, **message: Any) -> None:
		self.link.sendall(json.dumps(message).encode() + b"\n")

	def on_control(self) -> None:
		with contextlib.suppress(ssl.SSLWantReadError):
			while data := self.link.recv(65_536):
				self.rest += data
		*lines, self.rest = self.rest.split(b"\n")
		for message in map(json.loads, lines):
			self.on_message(message)

	def on_message(self, message: dict[str, Any]) -> None:
		if message["type"] == "audio_keys":
			self.audio.rekey(self.id, message["up"], message["down"])
			self.watch = cs.ReceiverReport()
		elif message["type"] == "encode":
			self.droppers = {int(n): cs.FrameDropper(fps) for n, fps in message["layers"].items()}

	def on_video(self) -> None:
		for buffer, segment, _ in self.ports[0].receive(16):
			for run in cs.runs_of(buffer, segment):
				if cs.VIDEO_HEADER.unpack_from(run)[2] == 0:
					kind, payload = self.video.on_small(bytes(run[:segment]), time.monotonic())
					if kind == cs.Kind.NACK:
						for datagram in self.sent.resend(cs.parse_nack(payload), time.monotonic()):
							self.ports[0].send(datagram)
					continue
				self.octets += len(run)
				self.datagrams += -(-len(run) // segment)
				for frame in self.incoming.push_batch(run, segment, time.monotonic()):
					total = cs.parts_of(len(frame.sealed))
					self.video.opener.open(cs.Kind.VIDEO, frame.id, frame.number, frame.sealed, total)
					self.pictures += 1
					self.seen[frame.id] += 1

	def on_audio(self) -> None:
		with contextlib.suppress(BlockingIOError):
			while True:
				data, control, _, _ = self.ports[1].socket.recvmsg(2048, 128)
				stamps = [TIME.unpack_from(value) for _, kind, value in control if kind == STAMP]
				if len(data) not in (*cs.AUDIO_SIZES, PAIR):
					self.audio.on_small(data, time.monotonic())
					continue
				loudest, seq = cs.AUDIO_HEADER.unpack_from(data)
				with contextlib.suppress(cs.PeerFault):
					self.audio.opener.open(cs.Kind.AUDIO, loudest, seq, data[cs.AUDIO_HEADER.size :])
					at = stamps[0][0] - STARTED + stamps[0][1] / 1e9
					for number in range(seq, seq + 1 + (len(data) == PAIR)):
						self.lags.append(at - number * cs.BLOCK_SECONDS)
						self.blocks.append(number)
						self.watch.note_block(number, at)

	def due(self, now: float) -> None:
		self.video.bind_due(now)
		self.audio.bind_due(now)
		for nack in self.incoming.nacks(now):
			self.video.send_small(cs.Kind.NACK, cs.encode_nack(nack))
		if now - self.pinged >= 1.0:
			self.pinged = now
			self.say(type="ping", t=now)
		at = time.time() - STARTED
		report = self.watch.report(self.octets, self.pictures, self.incoming.lost, at)
		if report:
			self.say(type="report", **report)

	def send_pictures(self, pictures: list[bytes]) -> None:
		for layer, thinner in self.droppers.items():
			if thinner.take(time.monotonic()):
				self.send_picture(pictures[layer], layer)

	def send_picture(self, data: bytes, layer: int = LAYER) -> None:
		self.numbers[layer] += 1
		number, total = layer << cs.LAYER_SHIFT | self.numbers[layer], cs.parts_of(len(data) + cs.TAG)
		sealed = self.video.sealer.seal(cs.Kind.VIDEO, self.id, number, data, total)
		layout = frame_datagrams(self.id, number, sealed)
		self.sent.store(sealed, time.monotonic())
		self.sent.note_sent(number)
		self.ports[0].send_frame(layout)

	def send_block(self, seq: int, samples: bytes) -> None:
		sealed = self.audio.sealer.seal(cs.Kind.AUDIO, self.id, seq, samples)
		self.ports[1].send(cs.audio_datagram(self.id, seq, sealed))


class Crowd:
	"""All of them, and what they send."""

	def __init__(self, address: str, base: int, people: int, senders: int, size: int) -> None:
		self.everyone = [Light(address, base, f"L{number:02}") for number in range(people)]
		self.senders = self.everyone[:senders]
		self.data = [picture(layer, int(share * size)) for layer, share in enumerate(SHARES)]
		self.selector = selectors.DefaultSelector()
		for one in self.everyone:
			self.selector.register(one.link, selectors.EVENT_READ, one.on_control)
			self.selector.register(one.ports[0], selectors.EVENT_READ, one.on_video)
			self.selector.register(one.ports[1], selectors.EVENT_READ, one.on_audio)
			streams = {str(other.id): {"layer": LAYER, "fps": FPS} for other in self.senders if other != one}
			one.say(type="watch", streams=streams)
		self.senders[0].say(type="mic", on=True)
		self.voice = (np.random.default_rng(2).normal(size=cs.BLOCK) * 2_000).astype(">i2").tobytes()
		self.started = time.monotonic()
		self.blocks = 0
		self.next_due = self.started
		self.next_picture = [self.started + n / FPS / senders for n in range(senders)]

	def run(self, seconds: float, pictures: bool, sound: bool = True) -> None:
		until = time.monotonic() + seconds
		while (now := time.monotonic()) < until:
			for key, _ in self.selector.select(0.002):
				with contextlib.suppress(cs.PeerFault):
					key.data()
			if now >= self.next_due:
				self.next_due = now + 0.004
				for one in self.everyone:
					one.due(now)
			while now >= self.started + self.blocks * cs.BLOCK_SECONDS:
				self.blocks += 1
				if sound:
					self.senders[0].send_block(self.blocks, self.voice)
			for number, sender in enumerate(self.senders if pictures else ()):
				if now >= self.next_picture[number]:
					self.next_picture[number] = max(self.next_picture[number] + 1 / FPS, now - 1 / FPS)
					sender.send_pictures(self.data)

	def figures(self, seconds: float, pictures: bool, sound: bool) -> dict[str, float]:
		"""What comes in the next seconds; the first one of them is to get going."""
		self.run(1.0, pictures, sound)
		before = [(one.pictures, one.incoming.lost, one.octets) for one in self.everyone]
		for one in self.everyone:
			one.lags.clear()
			one.blocks.clear()
		began = time.monotonic()
		self.run(seconds, pictures, sound)
		took = time.monotonic() - began
		deltas = [
			(one.pictures - old[0], one.incoming.lost - old[1], one.octets - old[2])
			for one, old in zip(self.everyone, before, strict=True)
		]
		whole, lost, octets = (sum(delta[n] for delta in deltas) for n in range(3))
		lags = sorted(lag for one in self.everyone for lag in one.lags)
		blocks = sum(max(one.blocks) - min(one.blocks) + 1 for one in self.everyone[1:] if one.blocks)
		came = sum(len(one.blocks) for one in self.everyone[1:])
		streams = len(self.senders) * (len(self.everyone) - 1)
		return {
			"mbit": octets * 8e-6 / took,
			"rate": whole / took / FPS / streams,
			"lost": lost / max(1, lost + whole),
			"sound_lag_p50": lags[len(lags) // 2],
			"sound_lag_p99": lags[int(0.99 * len(lags))],
			"sound_lost": 1.0 - came / max(1, blocks),
		}

	def leave(self) -> None:
		for one in self.everyone:
			one.say(type="leave")
			one.link.close()
			for port in one.ports:
				port.close()


def main(address: str, base: int, people: int, senders: int, size: int) -> None:
	"""As the head of this file says."""
	crowd = Crowd(address, base, people, senders, size)
	crowd.run(1.0, pictures=False)
	print(json.dumps({"ready": True}), flush=True)
	for line in sys.stdin:
		what, seconds = line.split()
		print(json.dumps(crowd.figures(float(seconds), what != "idle", what != "quiet")), flush=True)
	crowd.leave()


if __name__ == "__main__":
	main(sys.argv[1], *map(int, sys.argv[2:6]))
