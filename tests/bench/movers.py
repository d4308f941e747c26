"""Many participants by the protocol's page alone, who go on where the host has said.

    python tests/bench/movers.py ADDRESS BASE PIN COUNT

Says {"ready": COUNT} once all know who goes on, and {"back": [unix seconds, ...]} once all are in again.
"""

from __future__ import annotations

import json
import select
import ssl
import sys
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from stranger import Stranger  # noqa: E402 - found by the path above


class Mover(Stranger):
	"""One that notices when its server is gone."""

	lost = False

	def on_control(self) -> None:
		try:
			super().on_control()
			data = self.sock.recv(65_536)  # its end, or what has come since
			self.rest, self.lost = self.rest + data, not data
		except ssl.SSLWantReadError:
			pass
		except OSError:
			self.lost = True

	def listen(self) -> None:
		"""Read what is there, and show that one lives."""
		try:
			self.turn()
		except OSError:
			self.lost = True

	def move(self, back: list[float]) -> None:
		"""Go where the record says."""
		self.follow()
		back.append(time.time())


def main(address: str, base: str, pin: str, count: str) -> None:
	"""Join, wait for the end of the server, move."""
	movers: list[Mover] = []
	for n in range(int(count)):
		movers.append(Mover(address, int(base), f"Pupil {n + 1}", pin))
		for one in movers:  # who is silent for long is put out
			if time.monotonic() - one.pinged > 3.0:
				one.listen()
	back: list[float] = []
	threads: list[threading.Thread] = []
	told = False
	while movers:
		socks = {one.sock: one for one in movers}
		ready = select.select(list(socks), [], [], 0.2)[0]
		late = [one for one in movers if time.monotonic() - one.pinged > 2.0]
		for one in {*(socks[sock] for sock in ready), *late}:
			one.listen()
		if not told and all(len(one.record.get("servers", ())) > 1 for one in movers):
			told = True
			print(json.dumps({"ready": len(movers)}), flush=True)
		for one in [one for one in movers if one.lost]:
			movers.remove(one)
			threads.append(threading.Thread(target=one.move, args=(back,)))
			threads[-1].start()
	for thread in threads:
		thread.join()
	print(json.dumps({"back": back}), flush=True)


if __name__ == "__main__":
	main(*sys.argv[1:])
