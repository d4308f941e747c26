"""What the fuzzer runs: each target takes bytes as a peer may send them and knows what must hold for them.

A fault of the peer is no finding; anything else that is raised is.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import re
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import atheris
import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import wire_examples  # noqa: E402 - found by the path above

import connectsphere as cs  # noqa: E402 - found by the path above

Result = TypeVar("Result")
KEY = bytes(16)
WHOLE = cv2.imencode(".jpg", np.full((360, 640, 3), 90, np.uint8))[1].tobytes()  # "base" in a patch of it
cs.log.disabled = True


def unless_refused(call: Callable[..., Result], *arguments: Any) -> Result | None:
	"""What `call` returns; None when it says that the peer is at fault."""
	try:
		return call(*arguments)
	except (cs.PeerFault, cs.Refused):
		return None


# -- parsers ---------------------------------------------------------------------------------------------


def control(data: bytes) -> None:
	"""Lines of the control plane, in pieces; what is taken comes out the same when it is said again."""
	lines = cs.LineSplitter()
	step = 1 + (data[0] if data else 0)
	for at in range(1, len(data), step):
		for line in unless_refused(lines.push, data[at : at + step]) or ():
			for shapes in (cs.CLIENT_MESSAGES, cs.SERVER_MESSAGES):
				message = unless_refused(cs.parse_message, line, shapes)
				if message is not None:
					assert cs.parse_message(cs.encode_line(message)[:-1], shapes) == message
			unless_refused(cs.encode_line, {"type": "chat", "text": "x" * 16 * len(line)})


READERS = (cs.coded_size, cs.webp_size)


def pictures(data: bytes) -> None:
	"""Headers of pictures: what is found to be of a size is decoded to that size, or not at all."""
	picture = data[1:]
	size = unless_refused(READERS[data[0] // 2 % 2 if data else 0], picture)
	if size is None:
		return
	for layer in range(len(cs.LAYERS)):
		cs.fits_layer(size, layer)
	if size[0] <= 1_280 and size[1] <= 720:
		try:
			decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
		except cv2.error:
			return
		assert decoded is None or decoded.shape[1::-1] == size
		for whole in (picture, WHOLE):
			unless_refused(
				cs.decode_frame, picture.replace(b"base", hashlib.sha256(whole).digest()[:4]), whole
			)


def screen(data: bytes) -> None:
	"""Messages of the screen plane, into a server's table and through it to a viewer's canvas."""
	messages, table, canvas = cs.MessageSplitter(4_096), cs.TileTable(), cs.TileCanvas()
	for payload in unless_refused(messages.push, data) or ():
		message = unless_refused(cs.parse_screen, payload)
		if message is None:
			continue
		said = cs.encode_screen(message)
		assert cs.parse_screen(said) == message and len(said) == len(payload)
		if isinstance(message, cs.Rectangle):
			assert cs._SIZE_READERS[message.codec](message.data) == (message.width, message.height)
		_present(table, canvas, message)


def _present(table: cs.TileTable, canvas: cs.TileCanvas, message: cs.ScreenMessage) -> None:
	match message:
		case cs.Geometry() if message.width * message.height <= 1 << 20:
			unless_refused(table.set_geometry, message)
		case cs.Rectangle():
			unless_refused(table.put, message)
		case cs.Commit():
			table.commit(message)
			cursor = cs.TileCursor()
			while (told := table.since(cursor)) is not None:
				_view(canvas, told)


def _view(canvas: cs.TileCanvas, told: cs.ScreenMessage) -> None:
	match told:
		case cs.Geometry():
			canvas.set_geometry(told)
		case cs.Rectangle():
			canvas.place(told, np.zeros((told.height, told.width, 3), np.uint8))
		case cs.Commit():
			canvas.commit(told)


def files(data: bytes) -> None:
	"""Lines of the files plane, and the JSON in front of the bytes of screen and files."""
	for line in data.split(b"\n"):
		offset = unless_refused(cs.parse_file_answer, line)
		if offset is not None:
			assert cs.parse_file_answer(cs.file_ready(offset)[:-1]) == offset
		unless_refused(cs.parse_file_head, line)
		unless_refused(cs.parse_message, line, cs.FILE_REQUESTS)
		for shape in (cs.SCREEN_HELLO, cs.SCREEN_ANSWER):
			record = unless_refused(lambda: cs._shaped(cs.parse_json(line), shape))  # noqa: B023
			if record is not None:
				(again,) = cs.MessageSplitter().push(cs.encode_record(record))
				assert cs._shaped(cs.parse_json(again), shape) == record
	for code, _ in cs.CODES:
		assert unless_refused(cs.parse_file_answer, cs.file_failed(code)[:-1]) is None


def discovery(data: bytes) -> None:
	"""Datagrams of discovery; no answer is longer than its question."""
	padded = data[1:].ljust(cs.QUESTION_SIZE + (data[0] if data else 0))
	question = unless_refused(cs.parse_question, padded)
	if question is not None:
		again = cs.discovery_question(bytes.fromhex(question[0]), question[1])
		assert cs.parse_question(again) == question
	heard = unless_refused(cs.parse_answer, data[1:])
	if heard is not None and heard[1]["version"] == cs.PROTOCOL:
		nonce, fields = heard
		_answer_within(nonce or "", fields, 300 + 2 * len(data))


def _answer_within(nonce: str, fields: cs.Json, limit: int) -> None:
	try:
		said = cs.discovery_answer(nonce, fields, limit)
	except ValueError:
		return
	assert len(said) <= limit
	unless_refused(cs.parse_answer, said)


# -- sealed datagrams --------------------------------------------------------------------------------------


def sealed(data: bytes) -> None:
	"""Sealing, opening, replay, binding and nacks, against what they promise."""
	dice = atheris.FuzzedDataProvider(data)
	dice.ConsumeBool()  # the seeds begin with one
	sealer, opener = cs.Sealer(KEY), cs.Opener(KEY)
	used: set[tuple[int, int, int]] = set()
	opened: set[tuple[int, int, int]] = set()
	said: list[tuple[int, int, int, bytes]] = []
	number = 0
	for _ in range(48):
		edge = dice.PickValueInList([-1, 1, cs.REPLAY_WINDOW - 1, cs.REPLAY_WINDOW, cs.REPLAY_WINDOW + 1])
		number = (number + (edge if dice.ConsumeBool() else dice.ConsumeIntInRange(-1, 600))) % (1 << 33)
		lane = (dice.ConsumeIntInRange(0, 5), dice.ConsumeIntInRange(0, 2), number)
		try:
			said.append((*lane, sealer.seal(*lane, dice.ConsumeBytes(4))))
			assert lane not in used, "a number was used twice"
			used.add(lane)
		except cs.SealError:
			pass
		if not said:
			continue
		kind, ident, number_, text = said[dice.ConsumeIntInRange(0, len(said) - 1)]
		if dice.ConsumeBool():
			_forge(opener, dice, kind, ident, number_, text)
		if unless_refused(opener.open, kind, ident, number_, text) is not None:
			assert (kind, ident, number_) not in opened, "a replay was taken"
			opened.add((kind, ident, number_))
	_bind(dice)


def _forge(opener: cs.Opener, dice: Any, kind: int, ident: int, number: int, text: bytes) -> None:
	at = dice.ConsumeIntInRange(0, 8 * len(text) - 1)
	wrong = bytearray(text)
	wrong[at // 8] ^= 1 << at % 8
	assert unless_refused(opener.open, kind, ident, number, bytes(wrong)) is None


def _bind(dice: Any) -> None:
	"""Binds and answers in any order, from two addresses: bound is who answered its own challenge."""
	binding, client = cs.PathValidation(7, KEY, b"\1" * 16), cs.Sealer(KEY)
	challenged: dict[cs.Address, list[bytes]] = {}
	for number in range(1, 16):
		source = ("10.0.0.1", dice.ConsumeIntInRange(1, 2))
		if dice.ConsumeBool():
			token = struct.pack(">IQI", 1, number, 1)
			bind = client.seal(cs.Kind.BIND, 7, number, b"")
			if unless_refused(binding.on_bind, number, bind, source, token):
				challenged.setdefault(source, []).append(token)
		else:
			known = [one for tokens in challenged.values() for one in tokens]
			token = known[dice.ConsumeIntInRange(0, len(known) - 1)] if known else b"x"
			before = binding.address
			unless_refused(binding.on_answer, number, client.seal(cs.Kind.ANSWER, 7, number, token), source)
			assert binding.address == before or token in challenged.get(source, ())


def frames(data: bytes) -> None:
	"""Datagrams as a kernel merges them: taken apart, collected, asked for again; memory stays bounded."""
	dice = atheris.FuzzedDataProvider(data)
	counters = cs.Counters()
	reassembler = cs.Reassembler(layered=dice.ConsumeBool(), counters=counters)
	now = 0.0
	for _ in range(24):
		now += dice.ConsumeIntInRange(0, 40) / 1_000
		buffer = b"".join(_datagram(dice) for _ in range(dice.ConsumeIntInRange(1, 4)))
		segment = dice.PickValueInList([1_112, 12, 20, 52, max(1, len(buffer))])
		runs = cs.runs_of(memoryview(buffer), segment) if buffer else []
		assert b"".join(runs) == buffer
		for run in runs:
			for frame in reassembler.push_batch(run, segment, now):
				assert 0 < cs.parts_of(len(frame.sealed)) <= cs.MAX_PARTS
				if dice.ConsumeBool():
					reassembler.retry(frame)
		for nack in reassembler.nacks(now):
			assert cs.parse_nack(cs.encode_nack(nack)) == nack
		assert all(reassembler.held(ident) <= 1 << 20 for ident in range(3))
	nack = unless_refused(cs.parse_nack, dice.ConsumeBytes(40))
	if nack:
		assert cs.parse_nack(cs.encode_nack(nack)) == nack


def _datagram(dice: Any) -> bytes:
	ident, number = dice.ConsumeIntInRange(0, 2), dice.PickValueInList([1, 2, 3, 9, 1 << 30, 1 << 31])
	total, index = dice.ConsumeIntInRange(0, 3), dice.ConsumeIntInRange(0, 4)
	size = dice.PickValueInList([1_100, 0, 1, 40, 1_099])
	if not total:
		return cs.VIDEO_HEADER.pack(ident, number, 0, cs.Kind.NACK) + bytes(size)
	if dice.ConsumeBool():
		return cs.audio_datagram(ident, number, bytes(size))
	return struct.pack(">IIHH", ident, number, total, index) + bytes(size)


# -- the server's state machine ------------------------------------------------------------------------------


class FakeLink:
	"""A connection that keeps what is said to it, as long as it stands."""

	limit = 0
	closed = False

	def __init__(self) -> None:
		self.said: list[cs.Json] = []

	def send(self, data: bytes) -> None:
		self.said.append(cs.parse_message(data[:-1], cs.SERVER_MESSAGES))

	def close(self, reason: str) -> None:
		self.closed = True

	discard = close

	def evict(self) -> None:
		pass


class Now:
	"""A thread that has done everything at once."""

	def post(self, call: Callable[[], None]) -> None:
		unless_refused(call)

	put = post


class Stage:
	"""A server without sockets and threads, whose room can be emptied."""

	RIGHT = cs.HostRight("5e" * 32)

	def __init__(self, pin: str) -> None:
		self._home = tempfile.TemporaryDirectory()
		identity = cs.load_identity(Path(self._home.name))
		options = cs.ServerOptions(pin=pin, host_key=self.RIGHT.public, base=20_000, bind="127.0.0.1")
		self.server = cs.ConferenceServer(options, identity)
		relay = self.server.media.relay = cs.VideoRelay(("127.0.0.1", 0), self.server.counters)
		relay.loop = self.server._keeper._disk = Now()  # type: ignore[assignment]
		self.sessions: list[cs.ControlSession] = []
		self.tickets: list[str] = []
		self.tokens: list[str] = []

	def empty(self) -> None:
		server, numbers = self.server, iter(range(1, 1 << 30))
		server.room.__init__(  # type: ignore[misc]
			"Physics", "Ana", "ab" * 16, lambda size: f"{next(numbers):0{2 * size}x}"
		)
		server.sessions.clear()
		server.lobby._waiting.clear()
		server.lobby._gate = cs.PinGate()
		server.lobby._arrivals = cs.KeyedBuckets(*cs.ARRIVALS)
		server.loop._timers.clear()
		server._screen.loop._mail.clear()
		server.over.clear()
		self.sessions, self.tickets, self.tokens = [], [], []

	def settle(self) -> None:
		"""Let the control thread do what it was told."""
		mail = self.server.loop._mail
		while mail:
			mail.popleft()()

	def come(self, address: str) -> cs.ControlSession:
		session = cs.ControlSession(FakeLink(), address)  # type: ignore[arg-type]
		self.sessions.append(session)
		return session

	def hear(self, session: cs.ControlSession, data: bytes) -> None:
		"""Bytes from a connection, as its link would hand them over."""
		if session.link.closed:
			return
		if unless_refused(lambda: self.server._on_bytes(session, data) or 1) is None:
			self.drop(session)
		self.settle()
		for message in session.link.said[-8:]:  # type: ignore[attr-defined]
			if message["type"] == "ticket":
				self.tickets.append(message["ticket"])
			elif message["type"] == "welcome":
				self.tokens.append(message["resume"])

	def drop(self, session: cs.ControlSession) -> None:
		session.link.discard("broke")
		self.server._closed(session, "broke")

	def check(self) -> None:
		room = self.server.room
		assert set(self.server.sessions) == set(room.members)
		names = [cs.skeleton(one.name) for one in room.members.values()]
		assert len(names) == len(set(names)), "two look alike"
		sharing = [one.id for one in room.members.values() if one.sharing]
		assert sharing == ([room.planes.presenter] if room.planes.presenter else [])
		for one in room.members.values():
			watched = room.streams.allocator.people[one.id].subscriptions
			assert set(watched) <= set(room.members) - {one.id}
			session = self.server.sessions[one.id]
			assert session.stage == "in"
			assert (one.role == "host") == session.host
		assert len(self.server.lobby._waiting) <= cs.Lobby.MOST_WAITING


_STAGES: dict[str, Stage] = {}
NAMES = ["Ana", "Ben", "\u0410na", "Ana (2)", "", "\u202eneB", "x" * 40]
TEXTS = ["hi", "", "\x1b[31m", "x" * 4_000, "\u200b"]


def server(data: bytes) -> None:
	"""People who come, say valid and senseless things in any order, and go; with a PIN and without."""
	dice = atheris.FuzzedDataProvider(data)
	pin = "1234" if dice.ConsumeIntInRange(0, 31) == 31 else ""
	stage = _STAGES.get(pin) or _STAGES.setdefault(pin, Stage(pin))
	stage.empty()
	for number in range(64):
		if not dice.remaining_bytes():
			break
		_step(stage, dice)
		if number % 8 == 7:
			stage.check()
	stage.check()


def _step(stage: Stage, dice: Any) -> None:
	what = dice.ConsumeIntInRange(0, 15)
	if what < 3 or not stage.sessions:
		session = stage.come(f"10.0.0.{dice.ConsumeIntInRange(1, 3)}")
		if what:
			stage.hear(session, cs.encode_line(_hello(stage, dice)))
		return
	session = stage.sessions[dice.ConsumeIntInRange(0, len(stage.sessions) - 1)]
	if what < 11:
		stage.hear(session, cs.encode_line(_message(stage, dice)))
	elif what == 11:
		stage.hear(session, dice.ConsumeBytes(40) + b"\n")
	elif what == 12:
		stage.drop(session)
	elif what == 13 and stage.tickets:
		role = dice.PickValueInList(["presenter", "viewer"])
		ticket = dice.PickValueInList(stage.tickets)
		with contextlib.suppress(cs.Refused):
			stage.server._claim_screen(role, ticket)
	elif what == 14:
		for file in list(stage.server.room.shelf.offers):
			stage.server.apply(stage.server.room.shelf.file_whole(file))
			stage.server.apply(stage.server.room.shelf.file_saved(file, session.id))
	else:
		stage.server._on_tick()
		stage.server.media.bring_all()


def _hello(stage: Stage, dice: Any) -> cs.Json:
	hello: cs.Json = {"type": "hello", "v": dice.PickValueInList([1, 1, 1, 1, 2])}
	hello["name"] = dice.PickValueInList(NAMES)
	extras = dice.ConsumeIntInRange(0, 15)
	if extras & 1 and stage.tokens:
		hello["resume"] = dice.PickValueInList(stage.tokens)
	if extras & 6 == 6:
		hello["host"] = Stage.RIGHT.public
	if extras & 8:
		hello["pin"] = dice.ConsumeBool()
	return hello


def _message(stage: Stage, dice: Any) -> cs.Json:
	"""A message of the client's table, mostly of the right shape."""
	kind = dice.PickValueInList(sorted(cs.CLIENT_MESSAGES))
	message: cs.Json = {"type": kind}
	for name in cs.CLIENT_MESSAGES[kind]:
		if not name.endswith("?") or dice.ConsumeBool():
			message[name.rstrip("?")] = _value(name.rstrip("?"), stage, dice)
	return message


def _value(name: str, stage: Stage, dice: Any) -> Any:
	ids = [0, *stage.server.room.members]
	choices: dict[str, list[Any]] = {
		"name": NAMES,
		"to_name": NAMES,
		"text": TEXTS,
		"emoji": ["\U0001f389", "", "x" * 40],
		"who": [*ids, "all"],
		"file": [*stage.server.room.shelf.offers, "00ff"],
		"plane": ["screen", "files", "control"],
		"direction": ["presenter", "viewer", "upload", "download"],
		"sha256": ["0" * 64, "x"],
		"message": ["42" + "00" * 32, "41" + "01" * 32],
		"mac": ["00" * 32],
		"streams": [{}, {str(ids[-1]): {"layer": 2, "fps": 15}, str(ids[0]): {"layer": 0, "fps": 60}}],
		"size": [0, 5, 1 << 50, -1],
		"on": [True, False],
		"up": [True, False, 0],
	}
	if name in choices:
		return dice.PickValueInList(choices[name])
	return dice.ConsumeIntInRange(-1, 9)


# -- the client, from a hostile server's lines to the words of its window --------------------------------


class StandingLink(FakeLink):
	"""A client's connection, to a server of that certificate."""

	fingerprint = "ab" * 32
	local_address = "127.0.0.1"
	connected = True

	def begin(self) -> None:
		pass

	def send(self, data: bytes) -> None:
		"""Nothing is answered that is no message of the wire."""
		self.said.append(cs.parse_message(data[:-1], cs.CLIENT_MESSAGES))


class Heard:
	"""Stands for all that the words of events are given to; keeps the words."""

	def __init__(self, words: list[str]) -> None:
		self._words = words

	def __getattr__(self, name: str) -> Heard:
		return self

	def __call__(self, *arguments: Any, **named: Any) -> Heard:
		self._words += [one for one in (*arguments, *named.values()) if isinstance(one, str)]
		return self

	def __setitem__(self, key: object, value: object) -> None:
		self(value)


class Listener(cs.MeetingController):
	"""A participant without sockets, devices and threads, and the words that a window makes of its events."""

	def __init__(self, home: Path) -> None:
		super().__init__(cs.ClientOptions(name="Ana", downloads=str(home)), home)
		self.words: list[str] = []
		self.media.start = self.media.go_on = lambda _: None  # type: ignore[method-assign]
		self.successors._start = lambda: None  # type: ignore[method-assign]
		self.files._add = lambda _: None  # type: ignore[method-assign]
		self.server._look_for_host = lambda: None  # type: ignore[method-assign]
		self.server.tokens.put = self.server._known.remember = lambda *_, **__: None  # type: ignore[method-assign]
		view = Heard(self.words)
		view.__dict__.update(shot=self.state.current, controller=self)
		self.view = view
		self.event_words = cs.EventWords(view)  # type: ignore[arg-type]

	def hear(self, data: bytes) -> None:
		"""Bytes of the server, as its link would hand them over; what the window makes of them."""
		link = self.server.link
		if link is None or link.link is None or link.link.closed:
			link = self.connect()
		if unless_refused(lambda: link._on_bytes(data) or 1) is None and link.link:
			link.link.discard("peer")
		self.run()
		if link.link and link.link.closed:
			link._closed("peer")
			self.run()

	def connect(self) -> cs.CommandConnection:
		"""A connection that is open, where there was none."""
		if self.state.current.link == "ended":
			self.state.update(link="reconnecting")
			self.status = None
		self.server.connect()
		link = self.server.link
		assert link is not None
		link._opened(link.link)  # type: ignore[arg-type]
		return link

	def run(self) -> None:
		"""Do what the loop's thread was given, and what the window does then."""
		while self.loop._mail:
			self.loop._mail.popleft()()
		self.loop._timers.clear()
		self.view.__dict__["shot"] = self.snapshot()
		while not self.gui_queue.empty():
			event = self.gui_queue.get()
			json.dumps(event)
			self.event_words.take(event)

	def check(self) -> None:
		shot = self.snapshot()
		assert len(shot.chat) <= cs.StateManager.MOST_LINES and len(shot.files) <= cs.StateManager.MOST_FILES
		assert len(shot.people) <= 2 * cs.MAX_PEOPLE + 1 and len(shot.asks) <= cs.StateManager.MOST_ASKS
		assert len(self.loop._timers) < 100 and len(self.requests.waiting) < 100
		for words in self.words:
			assert re.sub("[\n\t\u200c\u200d]", "", words).isprintable(), words
		self.words.clear()


ODD: list[Any] = [
	*(0, 1, 7, 2**31, 2**53, 0.0, 1e-9, 3e10, True, False, [], {}, "", "x", "Ms Lee", "host", "co-host"),
	*(
		"\x1b]0;x\x07",
		"\x9b2J",
		"\u202eabc",
		"a\nb",
		"{x} %s {0}",
		"\U0001f984" * 64,
		"mic",
		"ab" * 16,
		"00ff",
	),
]


def client(data: bytes) -> None:
	"""A server that says anything of the wire in any order: no bug, no endless size, no control signs."""
	dice = atheris.FuzzedDataProvider(data)
	cs.connect_link = lambda *_: StandingLink()
	with tempfile.TemporaryDirectory() as home:
		one = Listener(Path(home))
		one.hear(_said(dice, "welcome", 0))
		for _ in range(24):
			if not dice.remaining_bytes():
				break
			kind = dice.PickValueInList(sorted(cs.SERVER_MESSAGES))
			one.hear(_said(dice, kind, dice.ConsumeIntInRange(0, 3)))
			if one.state.current.link != "live" and dice.ConsumeBool():
				one.hear(_said(dice, "welcome", 0))
		one.check()
		one.server.tokens.close()


def _said(dice: Any, kind: str, changes: int) -> bytes:
	"""A message with some members, also inner ones, changed."""
	message: cs.Json = {"type": kind, **copy.deepcopy(wire_examples.SERVER[kind])}
	for _ in range(changes):
		part: Any = message
		while part:
			key = dice.PickValueInList(sorted(part) if isinstance(part, dict) else list(range(len(part))))
			if not isinstance(part[key], (dict, list)) or not dice.ConsumeBool():
				part[key] = copy.deepcopy(dice.PickValueInList(ODD))
				break
			part = part[key]
	return json.dumps(message).encode() + b"\n"


TARGETS: dict[str, Callable[[bytes], None]] = {
	target.__name__: target
	for target in (control, pictures, screen, files, discovery, sealed, frames, server, client)
}


# -- bugs planted for the purpose ----------------------------------------------------------------------------


def plant_window() -> None:
	"""A number that has left the replay window is taken again."""
	accept = cs.ReplayWindow.accept

	def forgetful(self: cs.ReplayWindow, number: int) -> bool:
		return accept(self, number) or self._top - number == cs.REPLAY_WINDOW

	cs.ReplayWindow.accept = forgetful  # type: ignore[method-assign]


PLANTS: dict[str, tuple[str, Callable[[], None]]] = {"window": ("sealed", plant_window)}  # and who finds it
