"""Someone who is in a meeting by hand: speaks the wire, and may lie on every plane."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from meetings import LOOPBACK
from pictures import frame_datagrams

import connectsphere as cs

HELLO = {"type": "hello", "v": cs.PROTOCOL, "name": "Eve", "pin": False}
SEED = 20_260_101


@contextlib.contextmanager
def tls(base: int, plane: int = 0, source: str = "") -> Iterator[ssl.SSLSocket]:
	"""A TLS connection to a plane of the meeting at `base`, from another loopback address if asked."""
	with socket.create_connection((LOOPBACK, base + plane), 10, (source, 0)) as raw:
		raw.settimeout(15)
		with cs.client_context().wrap_socket(raw) as link:
			yield link


def read_to_end(link: socket.socket) -> bytes:
	"""What comes until the other side ends the connection; TimeoutError when it does not."""
	found = bytearray()
	with contextlib.suppress(ConnectionResetError, ssl.SSLError, BrokenPipeError):
		while data := link.recv(1 << 16):
			found += data
	return bytes(found)


def noise(size: int, seed: int = SEED) -> bytes:
	return random.Random(seed).randbytes(size)


@dataclass
class Member:
	"""Someone who is in, by hand: speaks the wire and may lie on every plane."""

	link: ssl.SSLSocket
	base: int
	welcome: dict[str, Any] = field(default_factory=dict)
	udp: dict[str, socket.socket] = field(default_factory=dict)
	sealers: dict[str, cs.Sealer] = field(default_factory=dict)
	number: int = 1_000

	def say(self, message: Any) -> None:
		self.link.sendall(message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n")

	def hear(self, kind: str) -> dict[str, Any]:
		"""The next message of a kind; others are passed over."""
		while True:
			message = json.loads(self._line())
			if message["type"] == kind:
				return dict(message)

	def _line(self) -> bytes:
		line: bytes = self.lines.readline()
		if not line:
			raise ConnectionError("the server has ended the connection")
		return line

	def enter(self, host_key: str = "", pin: str = "", **more: Any) -> None:
		"""Say hello, with more or other members, prove the host's right or the PIN, and be welcomed."""
		self.lines = self.link.makefile("rb")
		try:
			self._enter(host_key, pin, **more)
		except BaseException:
			self.lines.close()  # else the socket stays open with it
			raise

	def _enter(self, host_key: str, pin: str, **more: Any) -> None:
		if pin:
			self._prove(pin, HELLO | more | {"pin": True})
		elif host_key:
			right = cs.HostRight(host_key)
			self.say(HELLO | more | {"host": right.public})
			self.say({"type": "proof", "signature": right.prove(self.hear("prove"), self.fingerprint)})
		else:
			self.say(HELLO | more)
		self.welcome = self.hear("welcome")

	@property
	def fingerprint(self) -> str:
		"""The server's."""
		certificate = self.link.getpeercert(binary_form=True)
		assert certificate
		return cs.certificate_fingerprint(certificate)

	def _prove(self, pin: str, hello: dict[str, Any]) -> None:
		said = [json.dumps(hello).encode() + b"\n"]
		self.say(said[0])
		while json.loads(question := self._line())["type"] == "waiting":
			pass  # for a free attempt
		proof = cs.PinProof(pin, self.fingerprint, host=False)
		said += [question, json.dumps({"type": "pin", "message": proof.message.hex()}).encode() + b"\n"]
		self.say(said[-1])
		mac = proof.finish(bytes.fromhex(json.loads(question)["message"]), b"".join(said))
		self.say({"type": "pin_proof", "mac": mac.hex()})
		assert proof.confirm(bytes.fromhex(self.hear("pin_proof")["mac"]))

	def ticket(self, **fields: Any) -> str:
		"""A ticket for another plane."""
		self.say({"type": "ticket", "ref": 7, **fields})
		return str(self.hear("ticket")["ticket"])

	def close(self) -> None:
		self.lines.close()
		for udp in self.udp.values():
			udp.close()

	def bind(self, plane: str) -> None:
		"""Open a UDP plane: bind, challenge, answer."""
		udp = socket.socket(type=socket.SOCK_DGRAM)
		udp.settimeout(0.3)
		udp.connect((LOOPBACK, self.base + (1_000 if plane == "video" else 2_000)))
		self.udp[plane] = udp
		up, down = (bytes.fromhex(self.welcome[f"{plane}_{way}"]) for way in ("up", "down"))
		self.sealers[plane] = cs.Sealer(up)
		ident = self.welcome["id"]
		for binds in range(1, 30):  # the first may come before the server's planes know of us
			self._small(plane, cs.Kind.BIND, b"")
			if self._answer_challenges(plane, cs.Opener(down), ident, binds):
				break
		else:
			raise AssertionError("nobody answers")
		udp.settimeout(10)

	def _answer_challenges(self, plane: str, opener: cs.Opener, ident: int, binds: int) -> bool:
		"""Answer what comes for that many binds: only the newest counts, and which that is is not known."""
		answered = False
		with contextlib.suppress(TimeoutError):
			for _ in range(binds):
				challenge = self.udp[plane].recv(2_048)
				_, number, _, kind = cs.VIDEO_HEADER.unpack_from(challenge)
				if len(challenge) in cs.AUDIO_SIZES:
					break  # it is bound, and hears
				assert kind == cs.Kind.CHALLENGE
				token = opener.open(cs.Kind.CHALLENGE, ident, number, challenge[cs.VIDEO_HEADER.size :])
				self._small(plane, cs.Kind.ANSWER, token)
				answered = True
		return answered

	def _small(self, plane: str, kind: cs.Kind, payload: bytes) -> None:
		self.udp[plane].send(self.sealers[plane].small(kind, self.welcome["id"], payload))

	def frame(self, data: bytes, layer: int = 0) -> bytes:
		"""A whole frame, sealed and cut, with the next number."""
		self.number += 1
		number, total = layer << cs.LAYER_SHIFT | self.number, cs.parts_of(len(data) + cs.TAG)
		sealed = self.sealers["video"].seal(cs.Kind.VIDEO, self.welcome["id"], number, data, total)
		return frame_datagrams(self.welcome["id"], number, sealed)

	def send_frame(self, data: bytes, layer: int = 0) -> None:
		layout = self.frame(data, layer)
		for at in range(0, len(layout), 1_112):
			self.udp["video"].send(layout[at : at + 1_112])


def jpeg(width: int, height: int, *flags: int) -> bytes:
	"""A JPEG that OpenCV wrote."""
	import cv2

	done, data = cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8), list(flags))
	assert done
	return bytes(data)


def webp(width: int, height: int, *flags: int) -> bytes:
	"""A WebP that OpenCV wrote; lossy unless `flags` say otherwise."""
	import cv2

	picture = np.full((height, width, 3), 90, np.uint8)
	return bytes(cv2.imencode(".webp", picture, list(flags or (cv2.IMWRITE_WEBP_QUALITY, 72)))[1])


def bombs() -> dict[str, bytes]:
	"""Pictures that must not reach anyone's decoder."""
	import cv2

	good = jpeg(160, 90)
	sof = good.index(b"\xff\xc0")
	huge = good[: sof + 5] + struct.pack(">HH", 65_500, 65_500) + good[sof + 9 :]
	sos = good.index(b"\xff\xda")
	progressive = jpeg(160, 90, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
	scan = progressive.index(b"\xff\xda")
	still = webp(160, 90)
	moving = (
		b"RIFF" + struct.pack("<I", len(still) + 6) + b"WEBPANIM" + struct.pack("<IIH", 6, 0, 0) + still[12:]
	)
	return {
		"huge": huge,
		"progressive": progressive,
		"a thousand scans": progressive[:scan] + progressive[scan:-2] * 200 + b"\xff\xd9",
		"a second SOF": good[:sos] + huge[sof : sof + 19] + good[sos:],
		"PNG": bytes(cv2.imencode(".png", np.zeros((90, 160, 3), np.uint8))[1]),
		"grey": bytes(cv2.imencode(".jpg", np.zeros((90, 160), np.uint8))[1]),
		"of another layer": jpeg(320, 180),
		"WebP of another layer": webp(320, 180),
		"a moving WebP": moving,
		"WebP without loss": webp(160, 90, cv2.IMWRITE_WEBP_QUALITY, 101),
		"cut short": good[: sos + 4],
		"nothing": b"",
		"noise": noise(2_000),
	}
