"""A TCP proxy before a meeting, for tests: cuts its connections, slows the shared screen down."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from types import TracebackType

PLANES = 3  # control, screen, files


class Proxy:
	"""Listens at `address` on the TCP ports of the meeting at 127.0.0.1:`base` and passes everything on.

	`screen_rate`: bytes a second toward the viewers, read through a small buffer as a slow link would.
	"""

	def __init__(self, base: int, address: str = "127.0.0.2", screen_rate: float | None = None) -> None:
		self.base = base
		self.address = address
		self.screen_rate = screen_rate
		self._writers: set[asyncio.StreamWriter] = set()
		self._loop = asyncio.new_event_loop()
		self._thread = threading.Thread(target=self._loop.run_forever, name="test-proxy")

	def __enter__(self) -> Proxy:
		self._thread.start()
		self._call(self._listen())
		return self

	def __exit__(
		self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
	) -> None:
		self._call(self._end())
		self._loop.call_soon_threadsafe(self._loop.stop)
		self._thread.join()
		self._loop.close()

	def cut(self) -> None:
		"""Reset every connection that runs through here."""
		self._call(self._cut())

	def _call(self, work: object) -> None:
		asyncio.run_coroutine_threadsafe(work, self._loop).result(10)  # type: ignore[arg-type]

	async def _listen(self) -> None:
		self._servers = [
			await asyncio.start_server(
				lambda r, w, p=plane: self._serve(r, w, p), self.address, self.base + plane
			)
			for plane in range(PLANES)
		]

	async def _cut(self) -> None:
		for writer in list(self._writers):
			writer.transport.abort()

	async def _end(self) -> None:
		for server in self._servers:
			server.close()
		await self._cut()
		others = asyncio.all_tasks() - {asyncio.current_task()}
		if others:
			await asyncio.wait(others, timeout=5)

	async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, plane: int) -> None:
		out = socket.socket()
		out.setblocking(False)
		rate = self.screen_rate if plane == 1 else None
		if rate:
			out.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
		loop = asyncio.get_running_loop()
		try:
			await loop.sock_connect(out, ("127.0.0.1", self.base + plane))
		except OSError:
			out.close()
			writer.close()
			return
		far_reader, far_writer = await asyncio.open_connection(sock=out, limit=4_096)
		self._writers |= {writer, far_writer}
		try:
			await asyncio.gather(self._pump(reader, far_writer, None), self._pump(far_reader, writer, rate))
		finally:
			for one in (writer, far_writer):
				self._writers.discard(one)
				one.transport.abort()

	async def _pump(
		self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: float | None
	) -> None:
		free = time.monotonic()  # when the slow link can take more
		with contextlib.suppress(OSError):
			while data := await reader.read(4_096):
				writer.write(data)
				await writer.drain()
				if rate:
					free = max(free, time.monotonic() - 0.05) + len(data) / rate
					await asyncio.sleep(free - time.monotonic())
		writer.transport.abort()
