"""A minimal client of another kind, written from docs/protocol.md alone."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import select
import socket
import ssl
import struct
import time
import unicodedata
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from spake2 import SPAKE2_A

VIDEO, BIND, CHALLENGE, ANSWER, NACK, AUDIO = range(6)


def sealed(key: str, kind: int, ident: int, number: int, text: bytes, total: int = 0) -> bytes:
	nonce = struct.pack(">B3xII", kind, ident, number)
	return AESGCM(bytes.fromhex(key)).encrypt(nonce, text, struct.pack(">IIH", ident, number, total))


def opened(key: str, kind: int, ident: int, number: int, data: bytes, total: int = 0) -> bytes:
	nonce = struct.pack(">B3xII", kind, ident, number)
	return AESGCM(bytes.fromhex(key)).decrypt(nonce, data, struct.pack(">IIH", ident, number, total))


def dial(address: tuple[str, int]) -> tuple[ssl.SSLSocket, str]:
	"""A TLS connection and the host's fingerprint."""
	context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
	context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
	context.minimum_version = ssl.TLSVersion.TLSv1_3
	sock = context.wrap_socket(socket.create_connection(address, timeout=10))
	certificate = sock.getpeercert(binary_form=True)
	assert certificate
	return sock, hashlib.sha256(certificate).hexdigest()


def ask(address: str) -> dict[str, Any]:
	"""What the host at `address` answers to a discovery question."""
	nonce = os.urandom(16).hex()
	question = json.dumps({"connectsphere": "question", "version": 1, "nonce": nonce}).encode().ljust(512)
	with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
		sock.settimeout(10)
		sock.sendto(question, (address, 9000))
		while True:
			answer: dict[str, Any] = json.loads(sock.recv(2048))
			if answer["connectsphere"] == "answer" and answer["nonce"] == nonce:
				return answer


class Plane:
	"""One UDP plane: binds, answers challenges, counts small messages."""

	def __init__(self, address: tuple[str, int], ident: int, up: str, down: str) -> None:
		self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		self.sock.connect(address)
		self.id = ident
		self.number = 0
		self.rekey(up, down)

	def rekey(self, up: str, down: str) -> None:
		self.up, self.down = up, down
		self.challenges = 0
		self.bind_at = [time.monotonic() + delay for delay in (0.0, 0.1, 0.3)]

	def small(self, kind: int, text: bytes) -> None:
		self.number += 1
		head = struct.pack(">IIHH", self.id, self.number, 0, kind)
		self.sock.send(head + sealed(self.up, kind, self.id, self.number, text))

	def bind(self, now: float) -> None:
		if now >= self.bind_at[0]:
			self.small(BIND, b"")
			self.bind_at = self.bind_at[1:] or [now + 5.0]

	def on_small(self, data: bytes) -> None:
		ident, number, total, kind = struct.unpack_from(">IIHH", data)
		text = opened(self.down, kind, ident, number, data[12:])
		assert (ident, total) == (self.id, 0) and kind in (CHALLENGE, NACK)
		if kind == CHALLENGE:
			assert len(text) == 16
			self.challenges += 1
			self.small(ANSWER, text)


class Stranger:
	"""Joins with a PIN; everything it hears is in `messages`, `pictures` and `blocks`."""

	def __init__(self, address: str, base: int, name: str, pin: str) -> None:
		self.address, self.base = address, base
		self.messages: list[dict[str, Any]] = []
		self.pictures: list[tuple[int, int, bytes]] = []
		self.blocks: list[tuple[int, int, bytes]] = []
		self.parts: dict[tuple[int, int], dict[int, bytes]] = {}
		self.rest = b""
		self.pinged = 0.0
		self.sent = [0, 0, 0, 0]
		self.blocks_sent = 0
		self.sock, self.fingerprint = dial((address, base))
		try:
			self.welcome = self.join(name, pin)
		except BaseException:
			self.sock.close()
			raise
		self.secret, self.record = os.urandom(32), dict[str, Any]()
		self.host_key = self.welcome["host_key"]
		self.begin()

	def begin(self) -> None:
		"""The planes of a welcome."""
		self.me: int = self.welcome["id"]
		if "record" in self.welcome:
			self.take(self.welcome["record"])
		if self.welcome["epoch"] == 1:
			self.say(type="resumed")
		self.video = self.plane("video", 1000)
		self.audio = self.plane("audio", 2000)
		self.sock.setblocking(False)

	def plane(self, what: str, offset: int) -> Plane:
		up, down = self.welcome[f"{what}_up"], self.welcome[f"{what}_down"]
		return Plane((self.address, self.base + offset), self.me, up, down)

	def say(self, **message: Any) -> bytes:
		line = json.dumps(message).encode() + b"\n"
		self.sock.sendall(line)
		return line

	def hear(self) -> bytes:
		while b"\n" not in self.rest:
			data = self.sock.recv(65_536)
			assert data, "the server ended the connection"
			self.rest += data
		line, _, self.rest = self.rest.partition(b"\n")
		return line + b"\n"

	def join(self, name: str, pin: str) -> dict[str, Any]:
		said = self.say(type="hello", v=1, name=name, pin=True, features=["sound_pairs", "webp", "patch"])
		heard = self.hear()
		question = json.loads(heard)
		assert question["type"] == "pin", question
		password = unicodedata.normalize("NFKC", pin).strip().encode()
		host = b"connectsphere/1 host" + self.fingerprint.encode()
		spake = SPAKE2_A(password, idA=b"connectsphere/1 client", idB=host)
		said += heard + self.say(type="pin", message=spake.start().hex())
		key = spake.finish(bytes.fromhex(question["message"]))
		transcript = hashlib.sha256(said).digest()
		self.say(type="pin_proof", mac=hmac.digest(key, b"client" + transcript, "sha256").hex())
		answer = json.loads(self.hear())
		if answer["type"] == "denied":
			raise PermissionError(answer["code"])
		mine = hmac.digest(key, b"host" + transcript, "sha256")
		assert hmac.compare_digest(mine, bytes.fromhex(answer["mac"])), "not my host"
		welcome: dict[str, Any] = json.loads(self.hear())
		assert welcome["type"] == "welcome"
		return welcome

	def take(self, told: dict[str, Any]) -> None:
		"""Who goes on, as the host has signed it; InvalidSignature for what another has."""
		key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.host_key))
		signed = b"connectsphere/1 succession\0" + told["record"].encode()
		key.verify(bytes.fromhex(told["signature"]), signed)
		self.record = json.loads(told["record"])
		assert self.record["meeting"] == self.welcome["meeting"]
		prints = [server["fingerprint"] for server in self.record["servers"]]
		self.say(type="claims", digests={one: hashlib.sha256(self.proof(one)).hexdigest() for one in prints})

	def proof(self, fingerprint: str) -> bytes:
		"""What is shown to that server alone."""
		return hmac.digest(self.secret, fingerprint.encode(), "sha256").hex().encode()

	def follow(self, seconds: float = 20.0) -> None:
		"""The server is lost: go on at one that the host has named."""
		self.close()
		end, at = time.monotonic() + seconds, 0
		servers = [*self.record["servers"][1:], self.record["servers"][0]]
		goal = servers[0]
		while time.monotonic() < end:
			with contextlib.suppress(OSError, AssertionError):
				self.rest = b""
				self.sock, self.fingerprint = dial((goal["address"], goal["port"]))
				assert self.fingerprint == goal["fingerprint"], "another one answers there"
				known = {"resume": self.proof(self.fingerprint).decode(), "epoch": self.welcome["epoch"]}
				self.say(type="hello", v=1, name="Stranger", pin=False, features=[], **known)
				answer = json.loads(self.hear())
				if answer["type"] == "welcome":
					self.welcome, self.address, self.base = answer, goal["address"], goal["port"]
					self.begin()
					return
				self.sock.close()
				prints = [server["fingerprint"] for server in servers]
				if answer["type"] == "moved" and answer["server"]["fingerprint"] in prints:
					goal = answer["server"]
					continue
			at += 1
			goal = servers[at % len(servers)]
			time.sleep(0.25)
		raise AssertionError("nobody goes on")

	def hosts(self) -> list[str]:
		"""The names of those who are host by their own signature; InvalidSignature for one who is not.

		Whom the host has given her rights at this server needs none.
		"""
		given = self.record.get("rights", {}).get(self.fingerprint)
		found = []
		for user in (user for user in self.welcome["users"] if user["role"] == "host"):
			if user["name"] == given:
				found.append(user["name"])
				continue
			proof = user["proof"]
			named = (self.welcome["meeting"], self.fingerprint, proof["nonce"])
			signed = b"connectsphere/1 host\0" + struct.pack(">QI", proof["epoch"], user["id"])
			signed += b"".join(map(bytes.fromhex, named))
			key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.welcome["host_key"]))
			key.verify(bytes.fromhex(proof["signature"]), signed)
			found.append(user["name"])
		return found

	def until(self, what: Callable[[], Any], seconds: float = 20.0) -> Any:
		"""Take part until `what()` is true; returns it."""
		end = time.monotonic() + seconds
		while not (found := what()):
			assert time.monotonic() < end, f"in vain; heard {[m['type'] for m in self.messages]}"
			self.turn()
		return found

	def turn(self) -> None:
		now = time.monotonic()
		self.video.bind(now)
		self.audio.bind(now)
		if now - self.pinged >= 1.0:
			self.pinged = now
			self.say(type="ping", t=now)
		ready = select.select([self.sock, self.video.sock, self.audio.sock], [], [], 0.01)[0]
		if self.sock in ready:
			self.on_control()
		if self.video.sock in ready:
			self.on_video(self.video.sock.recv(65_536))
		if self.audio.sock in ready:
			with contextlib.suppress(InvalidTag):  # around `audio_keys` the two planes may cross
				self.on_audio(self.audio.sock.recv(65_536))

	def on_control(self) -> None:
		try:
			while data := self.sock.recv(65_536):
				self.rest += data
		except ssl.SSLWantReadError:
			pass
		*lines, self.rest = self.rest.split(b"\n")
		for message in map(json.loads, lines):
			self.messages.append(message)
			if message["type"] == "record":
				self.take(message)
			if message["type"] == "audio_keys":
				self.audio.rekey(message["up"], message["down"])

	def on_video(self, data: bytes) -> None:
		ident, number, total, index = struct.unpack_from(">IIHH", data)
		if total == 0:
			self.video.on_small(data)
			return
		parts = self.parts.setdefault((ident, number), {})
		parts[index] = data[12:]
		if len(parts) == total:
			whole = b"".join(parts[part] for part in range(total))
			self.pictures.append((ident, number, opened(self.video.down, VIDEO, ident, number, whole, total)))
			del self.parts[ident, number]

	def on_audio(self, data: bytes) -> None:
		if len(data) not in (24, 536, 1048):
			self.audio.on_small(data)
			return
		ident, number = struct.unpack_from(">II", data)
		sound = opened(self.audio.down, AUDIO, ident, number, data[8:])
		self.blocks += [
			(ident, number + n, sound[at : at + 512])
			for n, at in enumerate((0, *range(512, len(sound), 512)))
		]

	def heard(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
		return [m for m in self.messages if m["type"] == kind and fields.items() <= m.items()]

	def send_picture(self, layer: int, coded: bytes) -> None:
		self.sent[layer] += 1
		number = layer << 30 | self.sent[layer]
		total = -(-(len(coded) + 16) // 1100)
		whole = sealed(self.video.up, VIDEO, self.me, number, coded, total)
		for index in range(total):
			head = struct.pack(">IIHH", self.me, number, total, index)
			self.video.sock.send(head + whole[1100 * index : 1100 * (index + 1)])

	def send_block(self, samples: bytes) -> None:
		self.blocks_sent += 1
		head = struct.pack(">II", self.me, self.blocks_sent)
		self.audio.sock.send(head + sealed(self.audio.up, AUDIO, self.me, self.blocks_sent, samples))

	def view_screen(self) -> tuple[ssl.SSLSocket, list[bytes]]:
		"""The screen plane as a viewer: its connection, and the messages up to the first commit."""
		self.say(type="ticket", plane="screen", direction="viewer", ref=5)
		ticket = self.until(lambda: self.heard("ticket", ref=5))[0]["ticket"]
		sock, fingerprint = dial((self.address, self.base + 1))
		assert fingerprint == self.fingerprint
		hello = json.dumps({"role": "viewer", "ticket": ticket}).encode()
		sock.sendall(struct.pack(">I", len(hello)) + hello)
		assert json.loads(self.message(sock)) == {"status": "ok"}
		messages = [self.message(sock)]
		while messages[-1][0] != 3:
			messages.append(self.message(sock))
		sock.sendall(struct.pack(">IB", 9, 5) + messages[-1][1:])
		return sock, messages

	def message(self, sock: ssl.SSLSocket) -> bytes:
		data, want = b"", 4
		while len(data) < want:
			piece = sock.recv(want - len(data))
			assert piece
			data += piece
			if len(data) == 4 == want:
				want += struct.unpack(">I", data)[0]
		return data[4:]

	def leave(self) -> None:
		self.say(type="leave")
		self.close()

	def close(self) -> None:
		for sock in (self.sock, self.video.sock, self.audio.sock):
			sock.close()
