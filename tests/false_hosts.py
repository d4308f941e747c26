"""Hosts that are not what they say: TLS with a certificate of their own, and something else behind it."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
from pathlib import Path

from meetings import LOOPBACK

import connectsphere as cs


class FalseHost:
	"""Takes TLS connections at a loopback port, one after the other, and hands each to `serve`."""

	def __init__(self, home: Path) -> None:
		identity = cs.load_identity(home)
		self.fingerprint = identity.fingerprint
		self._context = cs.server_context(identity)
		self._listener = socket.create_server((LOOPBACK, 0))
		self.port = self._listener.getsockname()[1]
		self._thread = threading.Thread(target=self._run, name="false host")
		self._thread.start()

	def serve(self, near: ssl.SSLSocket) -> None:
		"""One connection; an OSError only ends it."""
		raise NotImplementedError

	def _run(self) -> None:
		while True:
			try:
				raw, _ = self._listener.accept()
			except OSError:
				return
			raw.settimeout(5)
			with contextlib.suppress(OSError), self._context.wrap_socket(raw, server_side=True) as near:
				self.serve(near)

	def close(self) -> None:
		self._listener.shutdown(socket.SHUT_RDWR)
		self._listener.close()
		self._thread.join()


class Impostor(FalseHost):
	"""A machine in the middle: passes what is said on to the real host, and keeps it."""

	def __init__(self, home: Path, base: int) -> None:
		self._target = (LOOPBACK, base)
		self.overheard = bytearray()
		super().__init__(home)

	def serve(self, near: ssl.SSLSocket) -> None:
		"""Both directions, until one side ends."""
		with (
			socket.create_connection(self._target, 5) as raw,
			cs.client_context().wrap_socket(raw) as far,
			selectors.DefaultSelector() as selector,
		):
			for one in (near, far):
				selector.register(one, selectors.EVENT_READ)
			while True:
				for key, _ in selector.select(5):
					source = key.fileobj
					assert isinstance(source, ssl.SSLSocket)
					data = source.recv(1 << 16)
					if not data:
						return
					self.overheard += data
					(far if source is near else near).sendall(data)


class Guesser(FalseHost):
	"""Wants to learn a PIN: each proof of a client tells it whether one guess was right."""

	def __init__(self, home: Path, guesses: int) -> None:
		self._guesses = guesses
		self.tested = 0
		super().__init__(home)

	def serve(self, near: ssl.SSLSocket) -> None:
		"""One guess after the other, for as long as the client goes along."""
		with near.makefile("rb") as lines:
			lines.readline()
			for guess in range(self._guesses):
				proof = cs.PinProof(f"{guess:06}", self.fingerprint, host=True)
				near.sendall(cs.encode_line({"type": "pin", "message": proof.message.hex()}))
				if not lines.readline() or not lines.readline():
					return
				self.tested += 1
