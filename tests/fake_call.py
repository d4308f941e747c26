"""A meeting without a network, for looking at the window: `python3 tests/fake_call.py --people 9`.

Synthetic people with moving coloured cards; every command that the window sends is kept and, where it
changes the room, obeyed.
"""

from __future__ import annotations

import argparse
import queue
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import connectsphere as cs

NAMES = (
	"Mr Lewis", "Amira Hassan", "Jonas Weber", "Priya Nair", "Tomás García", "Zuri Okafor", "ليلى أحمد",
	"Wolfeschlegelsteinhausenbergerdorff-Maximilian Alexander", "דניאל כהן", "李小龙", "Ana", "Bo",
	"अनन्या शर्मा", "Chloé", "Dmitri Ivanov", "Ελένη",
)  # fmt: skip
LINES = (
	("Mr Lewis", "Good morning! Please open page 42 of the book."),
	("Jonas Weber", "Is the picture due on Friday?"),
	("Zuri Okafor", "Yes, he said Friday 👍"),
	("Amira Hassan", "I made a drawing yesterday 🎨, may I share my screen? 🦖"),
	("Mr Lewis", "Of course. Look at https://example.org/water first,\nthen at the 2nd task."),
	("ليلى أحمد", "مرحبا بالجميع"),
	("Mr Lewis", "Thank you 🎉👏"),
)  # fmt: skip


def ad(
	meeting: str = "m1", title: str = "Year 7 Science", host: str = "Mr Lewis", **others: Any
) -> cs.MeetingAd:
	"""What the start window lists."""
	fields = {"address": "192.168.1.20", "port": 9000, "people": 23, "pin": True, "locked": False}
	return cs.MeetingAd(
		meeting, title, host, **{**fields, "fingerprint": "ab" * 32, "version": cs.PROTOCOL, **others}
	)


@lru_cache(maxsize=256)
def card(number: int, size: tuple[int, int], at: float) -> cs.Picture:
	"""A moving coloured card (BGR)."""
	width, height = size
	shade = np.linspace(0.55, 1.0, height)[:, None, None]
	base = np.array([(number * 67) % 140 + 60, (number * 101) % 140 + 60, (number * 41) % 140 + 60])
	picture = np.broadcast_to((base * shade), (height, width, 3)).astype(np.uint8)
	x = int((0.5 + 0.35 * np.sin(at + number)) * width)
	yy, xx = np.ogrid[:height, :width]
	disc = (xx - x) ** 2 + (yy - height * 0.42) ** 2 < (height * 0.2) ** 2
	body = ((xx - x) / (height * 0.42)) ** 2 + ((yy - height * 1.05) / (height * 0.42)) ** 2 < 1
	picture[body] = base[::-1] * 0.5
	picture[disc] = (170, 200, 235)
	return picture


class FakeController:
	"""A meeting of `people` persons of whom `me` is one."""

	def __init__(self, people: int, host: bool = False, **changes: Any) -> None:
		names = [NAMES[n] if n < len(NAMES) else f"Pupil {n + 1}" for n in range(people)]
		roster = [
			cs.Person(
				n + 1,
				name,
				"host" if n == 0 else "member",
				mic=n % 3 == 0,
				camera=n % 4 != 3,
				hand=1.0 if n == 1 else 0.0,
			)
			for n, name in enumerate(names)
		]
		me = 1 if host else min(6, people)
		start = time.time() - 600
		chat = [
			cs.ChatLine(n + 1, who, text, start + 60 * n, own=who == names[me - 1])
			for n, (who, text) in enumerate(LINES)
		]
		chat.append(
			cs.ChatLine(
				len(LINES) + 1, "Amira Hassan", "Is the test on Monday?", start + 500, to=names[me - 1]
			)
		)
		files = (
			cs.FileEntry("f1", "water-cycle.pdf", 1_240_000, "Mr Lewis"),
			cs.FileEntry(
				"f2", "a very long file name of a drawing that does not fit.png", 8_240_000, "Amira Hassan",
				state="downloading", done=3_000_000, rate=2.1e6,
			),
			cs.FileEntry("f3", "homework.odt", 24_000, names[me - 1], own=True, state="offered"),
		)  # fmt: skip
		quality = {n: cs.StreamQuality(15.0, 640, 360, 3, 42.0) for n in range(1, people + 1)}
		quality[5] = cs.StreamQuality(3.0, 160, 90, 30, 400.0)
		self._shot = replace(
			cs.Snapshot(
				link="live", me=me, name=names[me - 1], role="host" if host else "member", meeting="m1",
				title="Year 7 Science · The water cycle", host=names[0], pin="482913",
				people=tuple(roster), chat=tuple(chat), files=files, speaking=1, quality=quality,
				delay_ms=12.0,
				since=time.monotonic() - 1457,
			),
			**changes,
		)  # fmt: skip
		self.gui_queue: queue.SimpleQueue[cs.Json] = queue.SimpleQueue()
		self.commands: list[cs.Json] = []
		self.fps = 1.0
		self.closed = False
		self.told: Callable[[], object] = lambda: None

	def snapshot(self) -> cs.Snapshot:
		return self._shot

	def change(self, **changes: Any) -> None:
		"""Let the meeting be different from now on."""
		self._shot = replace(self._shot, **changes)

	def change_person(self, number: int, **changes: Any) -> None:
		"""Let one person be different from now on."""
		people = tuple(replace(one, **changes) if one.id == number else one for one in self._shot.people)
		self.change(people=people)

	def on_picture(self, call: Callable[[], object]) -> None:
		self.told = call

	def picture(self, key: int | str) -> tuple[int, cs.Picture | None]:
		serial = int(time.monotonic() * self.fps)
		frame = serial % 4
		number = self._shot.me if key == "self" else key
		picture = card(number, (320, 180), frame * np.pi / 2) if isinstance(number, int) else screen(frame)
		return serial, picture

	def do(self, command: cs.Json) -> None:
		if command.get("ref") == "list":  # written every few seconds
			return
		self.commands.append({key: value for key, value in command.items() if key != "ref"})
		me, shot = self._shot.me, self._shot
		match command:
			case {"do": "chat" | "private", "text": text} if len(text) > cs.MAX_CHAT:
				error = {"event": "error", "code": "bad_command", "reason": "That is too long."}
				self.gui_queue.put({**error, "ref": command["ref"]})
			case {"do": "mic" | "camera" as what, "on": on}:
				self.change_person(me, **{what: on})
			case {"do": "hand", "up": up}:
				self.change_person(me, hand=time.monotonic() - shot.since if up else 0.0)
			case {"do": "share", "on": on}:
				self.change(presenter=me if on else 0)
			case {"do": "react", "emoji": emoji}:
				self.gui_queue.put({"event": "reaction", "from": shot.name, "emoji": emoji})
			case {"do": "chat" | "private" as kind, "text": text}:
				line = cs.ChatLine(
					len(shot.chat) + 1, shot.name, text, time.time(), command.get("to"), own=True
				)
				self.change(chat=(*shot.chat, line))
				self.gui_queue.put(
					{"event": kind, "from": shot.name, "text": text, "n": line.n, "ref": command["ref"]}
				)
			case {"do": "decline" | "download" | "cancel" as what, "file": number}:
				state = {"decline": "declined", "download": "downloading", "cancel": "offered"}[what]
				self.change(
					files=tuple(replace(f, state=state) if f.file == number else f for f in shot.files)
				)
			case {"do": "remove", "who": who}:
				self.change(people=tuple(one for one in shot.people if one.name != who))
			case {"do": "mute", "who": who}:
				people = [
					replace(p, mic=False) if who in ("all", p.name) and p.id != me else p for p in shot.people
				]
				self.change(people=tuple(people))
			case {"do": "end"}:
				self.gui_queue.put({"event": "ended", "reason": "The host ended the meeting."})

	def close(self, deadline: float = 3.0) -> None:
		self.closed = True


@lru_cache(maxsize=4)
def screen(frame: int) -> cs.Picture:
	"""A shared screen: a document with a moving cursor."""
	picture = np.full((1080, 1920, 3), 245, np.uint8)
	picture[:70] = (120, 80, 40)
	for row in range(120, 1040, 40):
		picture[row : row + 14, 120 : 700 + (row * 37) % 1000] = 90
	picture[300 + frame * 10 : 330 + frame * 10, 900:930] = (40, 40, 220)
	return picture


def sent(call: FakeController, do: str) -> list[Any]:
	"""What the window has sent of one kind."""
	return [command for command in call.commands if command["do"] == do]


def last(call: FakeController, do: str) -> Any:
	"""The last of these; None where there is none."""
	return next(iter(sent(call, do)[-1:]), None)


class FakePreview(cs.Preview):
	"""Camera and microphone of the start window and the settings: what is asked of them is noted alone."""

	def __init__(self, calls: list[tuple[Any, ...]], meeting: Callable[[], Any]) -> None:
		super().__init__(lambda _: "none", meeting)
		self.calls = calls

	def _follow(self) -> None:
		self.calls.append(("preview", *map(any, zip(self._joining, self._tried, strict=True))))

	@property
	def picture(self) -> tuple[int, cs.Picture | None]:
		serial = int(time.monotonic() * 15)
		return serial, card(6, (320, 180), serial % 8 / 4 * np.pi)

	@property
	def level(self) -> float:
		return 0.4 + 0.2 * float(np.sin(time.monotonic() * 3))


class FakeVoice:
	"""The system's voice."""

	def __init__(self, calls: list[tuple[Any, ...]]) -> None:
		self.calls = calls

	def say(self, words: str, language: str) -> None:
		self.calls.append(("speak", words, language))


class FakeBackend:
	"""The program behind the start window."""

	def __init__(self, people: int = 9, settings: Mapping[str, Any] | None = None) -> None:
		self.people = people
		self.settings: dict[str, Any] = {"name": "Zuri Okafor", **(settings or {})}
		self.meetings: list[cs.MeetingAd] = [
			ad(), ad("m2", "Chess club", "Ms Brandt", address="192.168.1.33", people=6, pin=False),
		]  # fmt: skip
		self.known: cs.MeetingAd | None = None
		self.been: set[str] = set()  # meetings that need no PIN any more
		self.left_behind = ""
		self.refusal: cs.Refused | None = None
		self.calls: list[tuple[Any, ...]] = []
		self.controllers: list[FakeController] = []
		self.closed = False
		self.folder = Path("/no/such/folder")
		self.orders: queue.SimpleQueue[str] = queue.SimpleQueue()
		self.preview = FakePreview(self.calls, lambda: self.controllers[-1] if self.controllers else None)
		self.voice = FakeVoice(self.calls)

	def find(self) -> Sequence[cs.MeetingAd]:
		return self.meetings

	def auto_join(self) -> cs.MeetingAd | None:
		return self.known

	def asks_pin(self, ad: cs.MeetingAd) -> bool:
		return ad.pin and ad.meeting not in self.been

	def join(
		self,
		address: str,
		port: int,
		name: str,
		pin: str,
		accept_changed_host: bool = False,
		joining: Any = None,
	) -> FakeController:
		self.calls.append(("join", address, port, name, pin, accept_changed_host))
		if self.refusal is not None and not accept_changed_host:
			raise self.refusal
		self.controllers.append(FakeController(self.people))
		return self.controllers[-1]

	def lesson(self) -> str:
		return self.left_behind

	def resume(self, name: str, joining: Any = None) -> FakeController:
		self.calls.append(("resume", name))
		self.controllers.append(FakeController(1, host=True))
		return self.controllers[-1]

	def host(
		self, name: str, title: str, pin: str, joining: Any = None, *, anew: bool = False
	) -> FakeController:
		if self.left_behind and not anew:
			raise cs.Refused("meeting_running", self.left_behind)
		self.calls.append(("host", name, title, pin))
		self.controllers.append(FakeController(1, host=True, title=title))
		return self.controllers[-1]

	def ways_in(self) -> Sequence[cs.WayIn]:
		return [
			cs.WayIn("192.168.1.20", "0T4N", "eth0"),
			cs.WayIn("10.77.0.20:9100", "1FHKV4:9100", "Intel(R) Wi-Fi 6 AX201 160MHz"),
		]

	def give_app(self) -> cs.GivenApp:
		self.calls.append(("give_app",))
		url = "http://192.168.1.20:9003"
		return cs.GivenApp(url, "connectsphere.exe", 71_880_668, "19243217" * 8, cs.qr_picture(url))

	def keep_app(self) -> None:
		self.calls.append(("keep_app",))

	def doctor(self) -> cs.Diagnosis:
		findings = (
			cs.Finding("network", "ok", "This computer is on the network 192.168.1.0/24."),
			cs.Finding("meetings", "bad", "No meeting was found.", "none", "Ask the teacher for the code."),
		)
		return cs.Diagnosis("No meeting was found.", "Ask the teacher for the code.", ("none",), findings)

	def list_devices(self) -> Mapping[str, Sequence[tuple[str, str]]]:
		return {
			"camera": [("0", "Integrated Camera"), ("pattern", "Test card"), ("none", "No camera")],
			"mic": [("default", "Headset (USB Audio)"), ("none", "No microphone")],
			"speaker": [("default", "Headset (USB Audio)"), ("none", "No speaker")],
		}

	def screens(self) -> Sequence[tuple[str, str, cs.Picture | None]]:
		self.calls.append(("screens",))
		number = len(self.calls) % 4
		return [(f"screen:{n}", f"Screen {n + 1}", screen((number + n) % 4)) for n in range(2)]

	def setting(self, key: str) -> Any:
		default = cs.SETTINGS[key]
		return self.settings.get(key, getattr(cs.ClientOptions(), key) if default is None else default)

	def set_setting(self, key: str, value: Any) -> None:
		self.settings[key] = value

	def try_volume(self, volume: float) -> None:
		self.calls.append(("try_volume", volume))

	def downloads(self) -> Path:
		return self.folder

	def test_speaker(self) -> None:
		self.calls.append(("test_speaker",))

	def close(self) -> None:
		self.closed = True


def main() -> int:
	"""Show the start window, or at once a meeting."""
	import tkinter

	parser = argparse.ArgumentParser(description=__doc__)
	parser.add_argument("--people", type=int, default=0, help="0 shows the start window")
	parser.add_argument("--host", action="store_true")
	parser.add_argument("--size", default="")
	parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting")
	parser.add_argument(
		"--with", action="append", default=[], dest="changes", metavar="KEY=VALUE", help="a snapshot field"
	)
	parser.add_argument("--seconds", type=float, default=0)
	args = parser.parse_args()
	backend = FakeBackend(args.people or 9, dict(pair.split("=", 1) for pair in args.set))
	root = tkinter.Tk()
	loop = cs.WindowLoop(backend, root)
	if args.size:
		root.geometry(args.size + "+0+0")
	if args.people:
		fields = {
			key: int(value) if value.isdigit() else value
			for key, value in (pair.split("=", 1) for pair in args.changes)
		}
		loop.enter(FakeController(args.people, args.host, **fields), mic=False, camera=False)
	if args.seconds:
		root.after(round(args.seconds * 1000), loop.stop)
	root.mainloop()
	return 0


if __name__ == "__main__":
	sys.exit(main())
