"""Light participants of a class: each sends its camera's lowest layer, watches some and views the screen.

    python tests/pupils.py ADDRESS BASE NAME ...

Says {"ready": true, "ports": {NAME: [VIDEO, AUDIO, CONTROL]}} once all are in. A line "watch JSON" says who
watches what: {NAME: {NAME: [LAYER, FPS]}}; "view" opens the shared screen for all; "measure SECONDS" is
answered by a line of figures of that time.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import selectors
import ssl
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

from light import FPS, Light  # noqa: E402 - found by the path above
from pictures import as_filmed  # noqa: E402 - found by the path above
from stranger import dial  # noqa: E402 - found by the path above

import connectsphere as cs  # noqa: E402 - found by the path above

CARDS = int(os.environ.get("PUPIL_CARDS", "16"))  # pictures that a camera sends in turn


class Pupil(Light):
	"""One of them."""

	def __init__(self, address: str, base: int, name: str) -> None:
		super().__init__(address, base, name)
		self.name = name
		card = cs.TestCard(name, cs.LAYERS[0])
		drawn = [as_filmed(card.draw(time.time() + n / 4), n) for n in range(CARDS)]
		self.cards = {  # by whether they are WebP
			webp: [code(one, cs.JPEG_QUALITY) for one in drawn]
			for webp, code in ((False, cs.encode_jpeg), (True, cs.encode_webp))
		}
		self.webp = False
		self.ids: dict[str, int] = {}
		self.asked: dict[int, int] = {}  # pictures a second, by sender
		self.fps = 0  # of layer 0, as far as anyone wants it
		self.next_picture = 0.0
		self.turn = 0
		self.screen: ssl.SSLSocket | None = None
		self.messages = cs.MessageSplitter()
		self.commits = self.screen_octets = 0
		self.say(type="video_start")
		self.say(type="user_list")

	def on_message(self, message: dict[str, Any]) -> None:
		match message["type"]:
			case "user_list":
				self.ids.update({user["name"]: user["id"] for user in message["users"]})
			case "join":
				self.ids[message["user"]["name"]] = message["user"]["id"]
			case "encode":
				self.fps, self.webp = message["layers"].get("0", 0), message.get("webp", False)
			case "ticket":
				self.view(message["ticket"])
			case _:
				super().on_message(message)

	def view(self, ticket: str) -> None:
		self.screen, _ = dial((self.where[0], self.where[1] + 1))
		hello = json.dumps({"role": "viewer", "ticket": ticket}).encode()
		self.screen.sendall(struct.pack(">I", len(hello)) + hello)
		self.screen.setblocking(False)

	def on_screen(self) -> None:
		assert self.screen
		with contextlib.suppress(ssl.SSLWantReadError):
			while data := self.screen.recv(65_536):
				self.screen_octets += len(data)
				for message in self.messages.push(data):
					if message[0] == 3:
						self.commits += 1
						self.screen.sendall(struct.pack(">IB", 9, 5) + message[1:9])

	def take_turn(self, now: float) -> None:
		if self.fps and now >= self.next_picture:
			self.next_picture = max(self.next_picture + 1 / self.fps, now - 1 / self.fps)
			self.turn = (self.turn + 1) % CARDS
			self.send_picture(self.cards[self.webp][self.turn], layer=0)


class Pupils:
	"""All of them on one thread."""

	def __init__(self, address: str, base: int, names: list[str]) -> None:
		self.everyone: list[Pupil] = []
		for name in names:
			self.everyone.append(Pupil(address, base, name))
			for one in self.everyone:  # who says nothing for 10 s is out, however long the others take
				one.due(time.monotonic())
		self.selector = selectors.DefaultSelector()
		for number, one in enumerate(self.everyone):
			self.selector.register(one.link, selectors.EVENT_READ, one.on_control)
			self.selector.register(one.ports[0], selectors.EVENT_READ, one.on_video)
			self.selector.register(one.ports[1], selectors.EVENT_READ, one.on_audio)
			one.next_picture = time.monotonic() + number / FPS / len(names)
		self.next_due = 0.0

	def run(self, seconds: float) -> None:
		until = time.monotonic() + seconds
		while (now := time.monotonic()) < until:
			for key, _ in self.selector.select(0.002):
				with contextlib.suppress(cs.PeerFault):
					key.data()
			for one in self.everyone:
				one.take_turn(now)
				if now >= self.next_due:
					one.due(now)
			if now >= self.next_due:
				self.next_due = now + 0.004

	def do(self, line: str) -> None:
		"""One command, as the head of this file says."""
		what, _, rest = line.strip().partition(" ")
		match what:
			case "watch":
				wanted = json.loads(rest)
				for one in self.everyone:
					asked = {one.ids[name]: wish for name, wish in wanted[one.name].items()}
					one.asked = {ident: fps for ident, (_, fps) in asked.items()}
					streams = {
						str(ident): {"layer": layer, "fps": fps} for ident, (layer, fps) in asked.items()
					}
					one.say(type="watch", streams=streams)
			case "view":
				for one in self.everyone:
					one.say(type="ticket", plane="screen", direction="viewer", ref=1)
				self.run(1.0)
				for one in self.everyone:
					assert one.screen, f"{one.name} does not see the screen"
					self.selector.register(one.screen, selectors.EVENT_READ, one.on_screen)
					one.on_screen()
			case "measure":
				print(json.dumps(self.figures(float(rest))), flush=True)

	def figures(self, seconds: float) -> dict[str, Any]:
		"""What comes in the next seconds."""
		before = [(one.seen.copy(), one.incoming.lost, one.commits) for one in self.everyone]
		for one in self.everyone:
			one.blocks.clear()
		began = time.monotonic()
		self.run(seconds)
		took = time.monotonic() - began
		rates, lost, commits = [], 0, []
		for one, (seen, gone, painted) in zip(self.everyone, before, strict=True):
			rates += [(count - seen[ident]) / took / one.asked[ident] for ident, count in one.seen.items()]
			lost += one.incoming.lost - gone
			commits.append((one.commits - painted) / took)
		return {
			"rates": rates,
			"lost": lost,
			"screen_fps": min(commits),
			"blocks": sum(len(one.blocks) for one in self.everyone),
			"blocks_due": sum(max(one.blocks) - min(one.blocks) + 1 for one in self.everyone),
			"seconds": took,
		}

	def leave(self) -> None:
		"""Everyone goes."""
		for one in self.everyone:
			one.say(type="leave")
			for sock in (one.link, *one.ports, *([one.screen] if one.screen else [])):
				sock.close()
		self.selector.close()


def main(address: str, base: int, names: list[str]) -> None:
	"""As the head of this file says."""
	pupils = Pupils(address, base, names)
	pupils.run(1.0)
	ports = {
		one.name: [*(port.port for port in one.ports), one.link.getsockname()[1]] for one in pupils.everyone
	}
	print(json.dumps({"ready": True, "ports": ports}), flush=True)
	commands: queue.SimpleQueue[str] = queue.SimpleQueue()

	def read() -> None:
		for line in sys.stdin:
			commands.put(line)
		commands.put("")

	threading.Thread(target=read, daemon=True).start()
	line = "begin"
	while line:
		pupils.run(0.1)
		if not commands.empty() and (line := commands.get()):
			pupils.do(line)
	pupils.leave()


if __name__ == "__main__":
	main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
