"""Meetings on loopback for tests: who serves, who joins, and a way in between that can be cut."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headless import Event, Headless, free_base

import connectsphere as cs

LOOPBACK = "127.0.0.1"
SILENT = ("--camera", "none", "--mic", "none", "--speaker", "none")
QUIET_MACHINE = bool(os.environ.get("CONNECTSPHERE_QUIET_MACHINE"))  # exact bounds: nothing else runs here
Starts = Callable[..., Headless]
Carry = Callable[[bytes, Callable[[bytes], object]], object]


def host(
	meeting: Starts, *args: str, name: str = "Ana", base: int = 0, **options: Any
) -> tuple[Headless, int]:
	"""Someone who hosts at the loopback address and is in, and the base port."""
	base = base or free_base()
	where = ("--bind", LOOPBACK, "--port", str(base))
	one = meeting("--host", *where, "--name", name, *SILENT, *args, **options)
	one.wait("joined", timeout=40)
	return one, base


def serve(meeting: Starts, *args: str, base: int = 0, **options: Any) -> tuple[Headless, int]:
	"""A server alone at the loopback address that is serving, and its base port."""
	base = base or free_base()
	one = meeting("--serve", "--bind", LOOPBACK, "--port", str(base), *args, **options)
	one.wait("serving", timeout=40)
	return one, base


def enter(meeting: Starts, base: int, name: str, *args: str, at: str = LOOPBACK, **options: Any) -> Headless:
	"""Someone who is on the way in; the arguments given last win."""
	return meeting("--join", f"{at}:{base}", "--name", name, *SILENT, *args, **options)


def join(meeting: Starts, base: int, name: str, *args: str, **options: Any) -> Headless:
	"""Someone who has joined."""
	one = enter(meeting, base, name, *args, **options)
	one.wait("joined", timeout=40)
	return one


def switch(one: Headless, what: str, on: bool, timeout: float = 10.0) -> Event:
	"""Turn the microphone or camera on or off and wait until it is so."""
	ref = len(one.events)  # what came before is not the answer
	one.send({"do": what, "on": on, "ref": ref})
	return one.wait("device", timeout, what=what, state="live" if on else "off", ref=ref)


def stats(one: Headless) -> Event:
	"""What `stats` answers now."""
	ref = len(one.seen("stats"))
	one.send({"do": "stats", "ref": ref})
	return one.wait("stats", ref=ref)


def drained(one: cs.MeetingController) -> list[cs.Json]:
	"""The events of a controller that nobody has taken so far."""
	return [one.gui_queue.get_nowait() for _ in range(one.gui_queue.qsize())]


def wav(path: Path, samples: Any, rate: int = 16_000) -> Path:
	"""Write int16 samples as a mono WAV file."""
	import wave

	with wave.open(str(path), "wb") as file:
		file.setnchannels(1)
		file.setsampwidth(2)
		file.setframerate(rate)
		file.writeframes(samples.astype("<i2").tobytes())
	return path


class Passage:
	"""A way to a meeting that this test owns: its three TCP and two UDP ports at another loopback address.

	Everything passes unchanged, is shown to `tap(plane, upstream, data)`, and stops at `cut`. `carry(data,
	send)` may treat datagrams worse; with `one_way` only those toward the clients.
	"""

	def __init__(
		self,
		base: int,
		at: str = "127.0.0.2",
		tap: Callable[[str, bool, bytes], None] = lambda *_: None,
		carry: Carry = lambda data, send: send(data),
		target: str = LOOPBACK,
		one_way: bool = False,
	) -> None:
		self.at, self._tap, self._carry, self._one_way = at, tap, carry, one_way
		self._selector = selectors.DefaultSelector()
		self._ends: dict[socket.socket, tuple[socket.socket, str, bool]] = {}
		self._udp: dict[tuple[int, Any], socket.socket] = {}
		self._lock = threading.Lock()
		self._going = True
		self._open = True
		self._listeners: list[socket.socket] = []
		for plane, port in (("control", base), ("screen", base + 1), ("files", base + 2)):
			self._listeners.append(socket.create_server((at, port)))
			self._listeners[-1].setblocking(False)
			self._selector.register(self._listeners[-1], selectors.EVENT_READ, (plane, (target, port)))
		self._ports: list[socket.socket] = []
		for plane, port in (("video", base + 1_000), ("audio", base + 2_000)):
			ear = socket.socket(type=socket.SOCK_DGRAM)
			ear.setblocking(False)  # what was ready may be gone
			ear.bind((at, port))
			self._ports.append(ear)
			self._selector.register(ear, selectors.EVENT_READ, (plane, (target, port)))
		self._thread = threading.Thread(target=self._run, name="passage")
		self._thread.start()

	def cut(self) -> None:
		"""Reset every TCP connection and let nothing new through until `mend`."""
		with self._lock:
			self._open = False
			while self._ends:
				self._drop(next(iter(self._ends)))

	def mend(self) -> None:
		"""Let everything through again."""
		self._open = True

	def close(self) -> None:
		"""End it all."""
		self._going = False
		self._thread.join()
		for one in (*self._listeners, *self._ports, *self._udp.values(), *self._ends):
			one.close()
		self._selector.close()

	def _run(self) -> None:
		while self._going:
			for key, _ in self._selector.select(0.1):
				with self._lock, contextlib.suppress(OSError):
					self._step(key)

	def _step(self, key: selectors.SelectorKey) -> None:
		source = key.fileobj
		assert isinstance(source, socket.socket)
		if source in self._listeners:
			self._accept(source, *key.data)
		elif source in self._ends:
			self._pass_on(source)
		elif source in self._ports:
			self._up(source, *key.data)
		elif key.data:
			self._down(source, *key.data)

	def _accept(self, listener: socket.socket, plane: str, target: tuple[str, int]) -> None:
		near, _ = listener.accept()
		if not self._open:
			near.close()
			return
		far = socket.create_connection(target)
		for end, other, upstream in ((near, far, True), (far, near, False)):
			self._ends[end] = (other, plane, upstream)
			self._selector.register(end, selectors.EVENT_READ, None)

	def _pass_on(self, source: socket.socket) -> None:
		other, plane, upstream = self._ends[source]
		try:
			data = source.recv(1 << 16)
		except OSError:
			data = b""
		if not data:
			self._drop(source)
			return
		self._tap(plane, upstream, data)
		other.sendall(data)

	def _drop(self, end: socket.socket) -> None:
		other = self._ends[end][0]
		for one in (end, other):
			self._ends.pop(one, None)
			with contextlib.suppress(KeyError, ValueError):
				self._selector.unregister(one)
			one.close()

	def _up(self, ear: socket.socket, plane: str, target: tuple[str, int]) -> None:
		data, client = ear.recvfrom(1 << 16)
		if not self._open:
			return
		mouth = self._udp.get((ear.fileno(), client))
		if mouth is None:
			mouth = self._udp[ear.fileno(), client] = socket.socket(type=socket.SOCK_DGRAM)
			mouth.setblocking(False)
			mouth.bind((self.at, 0))
			mouth.connect(target)
			self._selector.register(mouth, selectors.EVENT_READ, (plane, ear, client))
		self._tap(plane, True, data)
		if self._one_way:
			mouth.send(data)
		else:
			self._carry(data, mouth.send)

	def _down(self, mouth: socket.socket, plane: str, ear: socket.socket, client: Any) -> None:
		data = mouth.recv(1 << 16)
		if self._open:
			self._tap(plane, False, data)
			self._carry(data, lambda spoilt: ear.sendto(spoilt, client))
