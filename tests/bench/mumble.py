"""Mumble's server with everyone talking: what the bench `mixer` has as a reference (python tests/bench mixer)

The server is Debian's package `mumble-server`, run by hand, with all that it keeps in a directory of its own.
Its clients log in by TLS and talk by UDP as Mumble 1.3 does: a packet each 16 ms, sealed with OCB2-AES128, of
as many bytes as its client makes by default (40 kbit/s; the server does not look into them). It sends each
packet on to all others, who open it and count it if it is whole; mixing is left to them.
"""

from __future__ import annotations

import getpass
import hmac
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from figures import answer, heard, spread

HERE: Final = "127.0.0.1"
VOICE: Final = bytes(range(80))  # 16 ms at 40 kbit/s
VERSION, AUTHENTICATE, REJECT, SERVER_SYNC, CRYPT_SETUP = 0, 2, 4, 5, 15  # kinds of messages by TLS
OPUS: Final = 4 << 5  # the head of a packet with voice for one's own channel
MESSAGE: Final = struct.Struct(">HI")  # kind, length
CONFIG: Final = """host={host}
port={port}
users={users}
uname={user}
database={directory}/mumble.sqlite
logfile=
pidfile=
ice=
dbus=
bonjour=false
registerName=
bandwidth=1000000
autobanAttempts=0
"""


# -- OCB2 --------------------------------------------------------------------------------------------------


def doubled(value: int) -> int:
	"""Twice a value of GF(2^128)."""
	return (value << 1) & ((1 << 128) - 1) ^ 0x87 * (value >> 127)


def xor(one: bytes, other: bytes) -> bytes:
	"""As long as both."""
	return (int.from_bytes(one) ^ int.from_bytes(other)).to_bytes(len(one))


class Ocb2:
	"""The mode OCB 2.0 with AES-128, for texts that are not empty, without associated data."""

	def __init__(self, key: bytes) -> None:
		cipher = Cipher(algorithms.AES(key), modes.ECB())
		self.encrypt = cipher.encryptor().update
		self.decrypt = cipher.decryptor().update

	def seal(self, nonce: bytes, plain: bytes) -> tuple[bytes, bytes]:
		"""(sealed text, its tag of 16 bytes)."""
		sealed, pad, mask = self.crossed(self.encrypt, nonce, plain)
		return sealed, self.tag(plain, pad, mask)

	def open(self, nonce: bytes, sealed: bytes) -> tuple[bytes, bytes]:
		"""(plain text, the tag it should have)."""
		plain, pad, mask = self.crossed(self.decrypt, nonce, sealed)
		return plain, self.tag(plain, pad, mask)

	def crossed(
		self, cipher: Callable[[bytes], bytes], nonce: bytes, text: bytes
	) -> tuple[bytes, bytes, int]:
		"""(plain text sealed or the other way round, pad of its last block, mask of its tag)."""
		masks, delta = b"", int.from_bytes(self.encrypt(nonce))
		for _ in range((len(text) - 1) // 16):
			delta = doubled(delta)
			masks += delta.to_bytes(16)
		body, end = text[: len(masks)], text[len(masks) :]
		delta = doubled(delta)
		pad = self.encrypt((delta ^ 8 * len(end)).to_bytes(16))
		other = xor(masks, cipher(xor(masks, body))) + xor(end, pad[: len(end)])
		return other, pad, delta ^ doubled(delta)

	def tag(self, plain: bytes, pad: bytes, mask: int) -> bytes:
		"""The sum of all blocks, the last filled up with its pad, masked and encrypted."""
		filled = plain + pad[len(plain) % 16 or 16 :]
		for at in range(0, len(filled), 16):
			mask ^= int.from_bytes(filled[at : at + 16])
		return self.encrypt(mask.to_bytes(16))


# -- the clients -------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
	"""A number as protobuf writes it: seven bits a byte, the lowest first."""
	return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def field(number: int, value: int | bytes) -> bytes:
	"""A field of a protobuf message."""
	if isinstance(value, int):
		return varint(number << 3) + varint(value)
	return varint(number << 3 | 2) + varint(len(value)) + value


class Talker:
	"""One client: logged in when it is made; `blocks` counts what it has heard of the others."""

	def __init__(self, name: str, port: int) -> None:
		context = ssl.create_default_context()
		context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
		self.control = context.wrap_socket(socket.create_connection((HERE, port), 10))
		self.tell(VERSION, field(1, 1 << 16 | 3 << 8) + field(2, b"bench"))
		self.tell(AUTHENTICATE, field(1, name.encode()) + field(5, 1))  # it knows Opus
		key, *nonces = self.crypt_setup()
		self.ocb = Ocb2(key)
		self.sent, self.received = (int.from_bytes(nonce, "little") for nonce in nonces)
		self.port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		self.port.connect((HERE, port))
		self.port.setblocking(False)
		self.seq = self.blocks = 0

	def tell(self, kind: int, message: bytes) -> None:
		"""A message by TLS."""
		self.control.sendall(MESSAGE.pack(kind, len(message)) + message)

	def crypt_setup(self) -> list[bytes]:
		"""The key, the first nonce of the client and that of the server, once all else is told, too."""
		told: list[bytes] = []
		with self.control.makefile("rb") as stream:
			while True:
				kind, length = MESSAGE.unpack(stream.read(MESSAGE.size))
				message = stream.read(length)
				if kind == CRYPT_SETUP:  # three fields, each with a byte of number, one of length, 16 bytes
					told = [message[at + 2 : at + 18] for at in (0, 18, 36)]
				elif kind == SERVER_SYNC:
					return told
				elif kind == REJECT:
					raise PermissionError(message)

	def turn(self) -> None:
		"""Hears what has come, says the next packet: a byte of the nonce, 3 of the tag, sealed voice."""
		with suppress(BlockingIOError):
			while True:
				self.blocks += self.whole(self.port.recv(2048))
		self.seq, self.sent = self.seq + 1, self.sent + 1
		nonce = self.sent.to_bytes(17, "little")[:16]
		voice = struct.pack(">BHB", OPUS, 0x8000 | self.seq & 0x3FFF, len(VOICE)) + VOICE
		sealed, tag = self.ocb.seal(nonce, voice)
		self.port.send(nonce[:1] + tag[:3] + sealed)

	def whole(self, packet: bytes) -> bool:
		"""Whether this is somebody's voice, sealed by the server."""
		self.received += (packet[0] - self.received) & 255  # what was lost on the way is stepped over
		plain, tag = self.ocb.open(self.received.to_bytes(17, "little")[:16], packet[4:])
		return hmac.compare_digest(tag[:3], packet[1:4]) and plain[0] == OPUS and plain.endswith(VOICE)


def talk(told: dict[str, Any]) -> None:
	"""Everyone talks, spread over the tick; a block counts once it was heard by all others."""
	people = [Talker(f"Talker{ident}", told["port"]) for ident in told["keys"]]
	said = spread([one.turn for one in people], told["tick"])
	answer()
	for _ in heard():
		answer(blocks=sum(one.blocks for one in people) / (len(people) - 1), said=said())


# -- the server --------------------------------------------------------------------------------------------


def program() -> str | None:
	"""Where the server is, if it is there; Debian has used both names."""
	path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"
	return shutil.which("mumble-server", path=path) or shutil.which("murmurd", path=path)


@contextmanager
def served(keys: Mapping[int, Any]) -> Iterator[tuple[int, int, Any]]:
	"""A server for as many as there are keys (it makes its own): (its port, its process, no reports)."""
	with socket.create_server((HERE, 0)) as free:
		port = free.getsockname()[1]
	with tempfile.TemporaryDirectory() as directory, Path(directory, "log").open("w") as log:
		config = Path(directory, "mumble.ini")
		values = {"host": HERE, "port": port, "users": len(keys) + 1, "user": getpass.getuser()}
		config.write_text(CONFIG.format(**values, directory=directory))
		process = subprocess.Popen([str(program()), "-fg", "-ini", config], stdout=log, stderr=log)
		try:
			if not answers(port, process):
				raise OSError(Path(log.name).read_text())
			yield port, process.pid, dict
		finally:
			process.terminate()
			process.wait()


def answers(port: int, process: subprocess.Popen[bytes]) -> bool:
	"""Whether the server takes a connection within 20 s: it makes itself a certificate first."""
	ends = time.monotonic() + 20
	while process.poll() is None and time.monotonic() < ends:
		with suppress(OSError), socket.create_connection((HERE, port), 1):
			return True
		time.sleep(0.05)
	return False


if __name__ == "__main__":
	{"talkers": talk}[sys.argv[1]](next(heard()))
