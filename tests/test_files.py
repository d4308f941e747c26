"""The files plane: what is offered arrives whole or not at all, through the real server."""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import json
import math
import os
import queue
import re
import selectors
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any, cast

import pytest
from headless import PATIENCE, Event, Headless, free_base, matches
from hypothesis import given
from hypothesis import strategies as st
from meetings import QUIET_MACHINE
from test_file_names import HOSTILE
from waiting import wait_until

import connectsphere as cs

LOOPBACK = "127.0.0.1"
QUIET = ("--bind", LOOPBACK, "--camera", "none", "--mic", "none", "--speaker", "none")
MB = 1 << 20

Json = dict[str, Any]


# -- what the tests join with ----------------------------------------------------------------------


class Guest:
	"""A participant in this process: the controller that window and headless interface drive."""

	def __init__(self, name: str, port: int, home: Path, host_key: str = "") -> None:
		self.events: list[Event] = []
		self.folder = home / "got"
		options = cs.ClientOptions(
			name=name,
			address=LOOPBACK,
			port=port,
			bind=LOOPBACK,
			camera="none",
			mic="none",
			speaker="none",
			downloads=str(self.folder),
			host_key=host_key,
		)
		self.controller = cs.MeetingController(options, home)
		self.controller.start()
		self.wait("joined")

	def send(self, **command: Any) -> None:
		self.controller.do(command)

	def wait(self, event: str, **match: Any) -> Event:
		"""The next event of this name with these fields, of those not waited for before."""
		until = time.monotonic() + 3 * PATIENCE
		for index, old in enumerate(self.events):
			if matches(old, event, match):
				return self.events.pop(index)
		while True:
			try:
				new = self.controller.gui_queue.get(timeout=max(0.0, until - time.monotonic()))
			except queue.Empty:
				raise AssertionError(f"no {event} {match} among {self.events}") from None
			if matches(new, event, match):
				return new
			self.events.append(new)

	def seen(self, event: str, **match: Any) -> list[Event]:
		"""The events of this name so far that were not waited for; all before this call are in."""
		self.send(do="users", ref="now")
		marker = self.wait("users", ref="now")
		return [one for one in self.events if matches(one, event, match) and one["time"] <= marker["time"]]

	def entry(self, file: str) -> cs.FileEntry:
		"""What the window would show of a file."""
		return next(one for one in self.controller.snapshot().files if one.file == file)

	def offer(self, path: Path, **fields: Any) -> str:
		"""Upload to the end; the file's id."""
		self.send(do="upload", path=str(path), ref=str(path), **fields)
		return str(self.wait("uploaded", ref=str(path))["file"])

	def fetch(self, file: str) -> Path:
		"""Download to the end; where it was saved."""
		self.wait("file_offer", file=file)
		self.send(do="download", file=file)
		return Path(self.wait("file_saved", file=file)["path"])

	def visible(self) -> list[str]:
		"""Everything in the downloads, hidden or not."""
		return sorted(os.listdir(self.folder)) if self.folder.exists() else []

	def close(self) -> None:
		self.controller.close()


class Raw:
	"""A member that speaks the wire itself and keeps no rule that a test wants broken."""

	def __init__(self, name: str, base: int) -> None:
		self.base = base
		self.refs = 0
		self.control = self.connect(base)
		self.lines = self.control.makefile("rb")
		self.say({"type": "hello", "v": cs.PROTOCOL, "name": name})
		self.welcome = self.hear("welcome")

	@staticmethod
	def connect(port: int) -> Any:
		raw = socket.create_connection((LOOPBACK, port), PATIENCE)
		try:
			return cs.client_context().wrap_socket(raw)
		except OSError:
			raw.close()
			raise

	def say(self, message: Json) -> None:
		self.control.sendall(json.dumps(message).encode() + b"\n")

	def hear(self, *kinds: str, **match: Any) -> Json:
		while line := self.lines.readline():
			message: Json = json.loads(line)
			if message["type"] in kinds and match.items() <= message.items():
				return message
		raise AssertionError(f"the server closed before {kinds}")

	def ask(self, message: Json) -> Json:
		self.refs += 1
		self.say({**message, "ref": self.refs})
		return self.hear("file_ready", "ticket", "error", ref=self.refs)

	def offer(self, data: bytes, name: str = "raw.txt", size: int | None = None) -> str:
		size = len(data) if size is None else size
		digest = hashlib.sha256(data).hexdigest()
		told = self.ask({"type": "file_offer", "name": name, "size": size, "sha256": digest})
		return str(told["file"])

	def ticket(self, direction: str, file: str = "", plane: str = "files") -> str:
		ask = {"type": "ticket", "plane": plane, "direction": direction}
		return str(self.ask({**ask, "file": file} if file else ask)["ticket"])

	def transfer(self, ticket: str, direction: str, **fields: Any) -> Any:
		"""A connection of the files plane that has said what it wants, and a reader of its lines."""
		tls = self.connect(self.base + 2)
		tls.sendall(json.dumps({"type": f"file_{direction}", "ticket": ticket, **fields}).encode() + b"\n")
		return tls

	def upload(self, data: bytes, name: str) -> str:
		file = self.offer(data, name)
		with self.transfer(self.ticket("upload", file), "upload") as tls, tls.makefile("rb") as lines:
			assert lines.readline() == b"READY 0\n"
			tls.sendall(data)
			assert lines.readline() == b"DONE\n"
		return file

	def download(self, file: str, ticket: str = "", offset: int = 0) -> bytes:
		ticket = ticket or self.ticket("download", file)
		with (
			self.transfer(ticket, "download", offset=offset) as tls,
			tls.makefile("rb") as lines,
		):
			head = json.loads(lines.readline())
			tls.sendall(b"READY\n")
			data: bytes = lines.read(head["size"] - offset)
			tls.sendall(b"DONE\n")
			return data

	def close(self) -> None:
		self.lines.close()
		self.control.close()


class Proxy:
	"""Passes TCP on to a meeting from a base port of its own, until a cable is to be cut or held.

	`budget` counts down the bytes of the files plane, both ways. When it is used up, the connection that
	used it up is cut (and the budget is endless again), or everything on that plane stands still.
	"""

	def __init__(self, base: int) -> None:
		self.base = free_base()
		self.budget = math.inf
		self.passed = 0
		self.hold = False
		self.spent = threading.Event()
		self._target = base
		self._cut_all = threading.Event()
		self._over = threading.Event()
		self._selector = selectors.DefaultSelector()
		self._pairs: dict[socket.socket, tuple[socket.socket, int]] = {}
		for plane in (0, 2):
			listener = socket.create_server((LOOPBACK, self.base + plane))
			self._selector.register(listener, selectors.EVENT_READ, plane)
		self._thread = threading.Thread(target=self._run, name="test-proxy")
		self._thread.start()

	def cut(self) -> None:
		"""Break every connection once."""
		self._cut_all.set()

	def close(self) -> None:
		self._over.set()
		self._thread.join()

	def _run(self) -> None:
		while not self._over.is_set():
			if self._cut_all.is_set():
				self._cut_all.clear()
				for end in list(self._pairs):
					self._drop(end)
			for key, _ in self._selector.select(0.01):
				end = key.fileobj
				assert isinstance(end, socket.socket)
				if key.data is not None:
					self._accept(end, key.data)
				elif end in self._pairs:
					self._pass(end)
		for key in list(self._selector.get_map().values()):
			key.fileobj.close()  # type: ignore[union-attr]
		self._selector.close()

	def _accept(self, listener: socket.socket, plane: int) -> None:
		near, _ = listener.accept()
		far = socket.create_connection((LOOPBACK, self._target + plane))
		for end, other in ((near, far), (far, near)):
			end.settimeout(PATIENCE)
			self._pairs[end] = (other, plane)
			self._selector.register(end, selectors.EVENT_READ)

	def _pass(self, end: socket.socket) -> None:
		other, plane = self._pairs[end]
		if plane == 2 and self.budget <= 0:
			if self.hold:
				time.sleep(0.005)
				return
			self.budget = math.inf
			self._drop(end)
			return
		try:
			data = end.recv(16_384)
			other.sendall(data)
		except OSError:
			data = b""
		if not data:
			self._drop(end)
		elif plane == 2:
			self.passed += len(data)
			self.budget -= len(data)
			if self.budget <= 0:
				self.spent.set()

	def _drop(self, end: socket.socket) -> None:
		pair = self._pairs.pop(end, None)
		if pair:
			self._pairs.pop(pair[0], None)
			for one in (end, pair[0]):
				self._selector.unregister(one)
				one.close()


class Meeting:
	"""A server in this process, and who has joined it."""

	def __init__(self, folder: Path, **options: Any) -> None:
		self.folder = folder
		self.base = free_base()
		chosen = cs.ServerOptions(
			base=self.base, bind=LOOPBACK, host_key=cs.HostRight("ab" * 32).public, **options
		)
		self.server = cs.ConferenceServer(chosen, cs.load_identity(folder))
		self.server.media.mixer.start = lambda: None  # nobody is heard, and it takes 0.4 s of a processor
		self.server.start()
		self._open: list[Any] = []

	def guest(self, name: str, port: int = 0, host_key: str = "") -> Guest:
		home = self.folder / name
		home.mkdir()
		return self._keep(Guest(name, port or self.base, home, host_key))

	def raw(self, name: str) -> Raw:
		return self._keep(Raw(name, self.base))

	def proxy(self) -> Proxy:
		return self._keep(Proxy(self.base))

	def _keep(self, one: Any) -> Any:
		self._open.append(one)
		return one

	def stored(self) -> list[Path]:
		"""The files in the server's store."""
		return [one for store in self.folder.glob("connectsphere-files-*") for one in store.iterdir()]

	def close(self) -> None:
		for one in reversed(self._open):
			one.close()
		self.server.close()
		assert not list(self.folder.glob("connectsphere-files-*"))


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Meeting]]:
	"""Starts a meeting with these options; its store lies in the test's folder."""
	monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
	with contextlib.ExitStack() as stack:
		yield lambda **options: stack.enter_context(contextlib.closing(Meeting(tmp_path, **options)))


@pytest.fixture
def server(start: Callable[..., Meeting]) -> Meeting:
	"""A meeting with the usual limits."""
	return start()


def make(folder: Path, name: str, size: int) -> Path:
	"""A file of `size` bytes that no two tests share."""
	path = folder / name
	path.write_bytes(os.urandom(size))
	return path


# -- the wire ------------------------------------------------------------------------------------------


def test_answers_of_the_server() -> None:
	assert cs.parse_file_answer(b"READY 0") == 0
	assert cs.parse_file_answer(cs.file_ready(12345)[:-1]) == 12345
	assert cs.parse_file_answer(cs.FILE_DONE[:-1]) is None
	for code in ("no_such_file", "too_large", "wrong_hash", "busy", "bad_ticket"):
		with pytest.raises(cs.Refused) as refused:
			cs.parse_file_answer(cs.file_failed(code)[:-1])
		assert refused.value.code == code and " " in refused.value.reason


HEAD = {"size": 5, "sha256": "ab" * 32, "offset": 2}


@pytest.mark.parametrize(
	"line",
	[
		*(b"", b"READY", b"READY -1", b"READY 1 2", b"ready 1", b"DONE ", b"FAILED", b"FAILED X", b"{}"),
		b"READY " + b"9" * 17,
		*(json.dumps({**HEAD, key: bad}).encode() for key in HEAD for bad in (-1, None, "x", 1.5, True)),
	],
)
def test_wrong_answers(line: bytes) -> None:
	for parse in (cs.parse_file_answer, cs.parse_file_head):
		with pytest.raises(cs.PeerFault):
			parse(line)


def test_the_head_of_a_download() -> None:
	assert cs.parse_file_head(json.dumps({**HEAD, "more": 1}).encode()) == HEAD
	with pytest.raises(cs.Refused):
		cs.parse_file_head(b"FAILED busy")


@given(st.binary(max_size=200))
def test_any_line_is_judged(line: bytes) -> None:
	for parse in (cs.parse_file_answer, cs.parse_file_head):
		with contextlib.suppress(cs.PeerFault, cs.Refused):
			parse(line)
	with contextlib.suppress(cs.PeerFault):
		cs.parse_message(line, cs.FILE_REQUESTS)


# -- the room ------------------------------------------------------------------------------------------


class Registry:
	"""A room with Ana and Bob, who say things."""

	def __init__(self) -> None:
		numbers = iter(range(1, 10_000))
		self.room = cs.Room("T", "Ana", "m", lambda n: f"{next(numbers):0{2 * n}x}")
		self.ana, _, _ = self.room.join("Ana", "member", "10.0.0.1", None, 0.0)
		self.bob, _, _ = self.room.join("Bob", "member", "10.0.0.2", None, 0.0)

	def say(self, who: cs.Member, **message: Any) -> list[cs.Effect]:
		"""What happens, but for what is kept over a crash."""
		effects = self.room.handle(who.id, message, 1.0, 1.0)
		return [effect for effect in effects if not isinstance(effect, cs.Keep)]

	def offer(self, who: cs.Member, name: str = "a.pdf", size: int = 10, **more: Any) -> str:
		effects = self.say(who, type="file_offer", name=name, size=size, sha256="0" * 64, ref=1, **more)
		assert isinstance(effects[0], cs.Tell)
		return str(effects[0].message.get("file") or effects[0].message["code"])


def told(effects: list[cs.Effect], kind: str) -> list[tuple[int, ...]]:
	return [one.to for one in effects if isinstance(one, cs.Tell) and one.message["type"] == kind]


def test_the_same_unfinished_offer_is_the_same_file() -> None:
	registry = Registry()
	file = registry.offer(registry.ana)
	assert registry.offer(registry.ana) == file
	others = {registry.offer(registry.bob), registry.offer(registry.ana, to_name="Bob")}
	registry.room.shelf.file_whole(file)
	assert len({file, registry.offer(registry.ana), *others}) == 4
	host, _, _ = registry.room.join("Ms Lee", "host", "10.0.0.1", None, 0.0)
	assert registry.offer(host, kind="sheet") != registry.offer(host), "a sheet that all get, and a file"


def test_limits_hold_for_file_person_and_meeting() -> None:
	registry = Registry()
	registry.room.shelf.limits = cs.Limits(largest_file=100, largest_person=150, largest_meeting=220)
	assert registry.offer(registry.ana, "1", 101) == "too_large"
	for who, name, size in ((registry.ana, "2", 100), (registry.bob, "3", 100)):
		file = registry.offer(who, name, size)
		assert file != "too_large"
		registry.room.shelf.file_whole(file)  # what never comes takes no room
	assert registry.offer(registry.ana, "4", 51) == "too_large"
	assert registry.offer(registry.ana, "5", 21) == "too_large"
	assert registry.offer(registry.ana, "6", 20) != "too_large"


def test_a_declined_private_offer_is_gone_and_its_owner_told() -> None:
	registry = Registry()
	private, public = registry.offer(registry.ana, to_name="Bob"), registry.offer(registry.ana, "b.pdf")
	assert registry.say(registry.bob, type="decline", file=public) == []
	assert registry.say(registry.ana, type="decline", file=private) == []
	registry.room.shelf.file_whole(private)
	effects = registry.say(registry.bob, type="decline", file=private)
	assert cs.FileGone(private) in effects
	assert told(effects, "file_gone") == [(registry.ana.id, registry.bob.id)]


@pytest.mark.parametrize(("reason", "patience"), [("left", 0.0), ("lost", cs.RESUME_SECONDS)])
def test_what_someone_who_left_did_not_finish_goes(reason: str, patience: float) -> None:
	registry = Registry()
	whole, half = registry.offer(registry.ana, "whole"), registry.offer(registry.ana, "half")
	registry.room.shelf.file_whole(whole)
	registry.room.leave(registry.ana.id, reason, 100.0)
	assert registry.room.tick(99.0 + patience) == []
	assert cs.FileGone(half) in registry.room.tick(101.0 + patience)
	assert list(registry.room.shelf.offers) == [whole]


# -- names and folders ---------------------------------------------------------------------------------


def test_a_free_name_is_never_one_that_is_there(tmp_path: Path) -> None:
	(tmp_path / "a.txt").write_text("old")
	(tmp_path / "a (2).txt").symlink_to(tmp_path / "nowhere")
	part = make(tmp_path, "part", 10)
	data = part.read_bytes()
	assert cs.give_free_name(part, tmp_path, "a.txt") == tmp_path / "a (3).txt"
	assert (tmp_path / "a (3).txt").read_bytes() == data
	assert (tmp_path / "a.txt").read_text() == "old"
	assert not part.exists()


@pytest.mark.parametrize("links", [True, False])
def test_many_take_the_same_name_at_once(
	tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
	def refuse(self: Path, target: Path) -> None:
		raise OSError("no hard links here")

	if not links:
		monkeypatch.setattr(Path, "hardlink_to", refuse)
	parts = [make(tmp_path, f".{number}.part", 100) for number in range(24)]
	contents = sorted(part.read_bytes() for part in parts)
	with ThreadPoolExecutor(24) as pool:
		names = list(pool.map(lambda part: cs.give_free_name(part, tmp_path, "x.pdf"), parts))
	assert len(set(names)) == 24
	assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == contents


def test_a_part_that_cannot_be_swept_keeps_nobody_from_fetching(tmp_path: Path) -> None:
	"""Another transfer may sweep at the same time, a virus scanner may hold what is there."""
	gone, held, old = (tmp_path / f".connectsphere-{n}.part" for n in range(3))
	gone.symlink_to(tmp_path / "swept already")
	held.mkdir()
	old.write_text("half")
	for path in (held, old):
		os.utime(path, (0, 0))
	cs.sweep(*tmp_path.glob("*.part"))
	assert not old.exists()


def test_windows_learns_where_a_file_came_from(tmp_path: Path) -> None:
	path = make(tmp_path, "a.docx", 1)
	cs.mark_as_downloaded(path, "linux")
	assert os.listdir(tmp_path) == ["a.docx"]
	cs.mark_as_downloaded(path, "win32")  # elsewhere the stream is a file beside it
	assert (tmp_path / "a.docx:Zone.Identifier").read_text() == "[ZoneTransfer]\nZoneId=3\n"


def test_the_usual_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
	monkeypatch.setenv("HOME", str(tmp_path))
	monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
	assert cs.downloads_folder("") == tmp_path / "Downloads" / "ConferenceFiles"
	(tmp_path / "config").mkdir()
	(tmp_path / "config" / "user-dirs.dirs").write_text('# x\nXDG_DOWNLOAD_DIR="$HOME/Elsewhere"\n')
	assert cs.downloads_folder("") == tmp_path / "Elsewhere" / "ConferenceFiles"
	assert cs.downloads_folder("/there") == Path("/there")


NASTY = ("Lucía Fernández", "../../etc", "a/b\\c", "..", "CON", "x.exe", "Maths 7b: <new>", "ﷺ" * 32)


@pytest.mark.parametrize("sender", NASTY)
@pytest.mark.parametrize("title", ["Maths 7b", *NASTY[1:]])
def test_the_path_of_what_was_saved_names_the_sender(
	title: str, sender: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
	monkeypatch.setattr(cs, "_usual_downloads", lambda: tmp_path)
	state = cs.StateManager()
	state.update(title=title)
	state.put_file(cs.FileEntry("f1", "a.txt", 1, sender))
	files = cs.FileTransfers(cs.ClientOptions("Ms Brandt"), *[state] * 5)  # type: ignore[arg-type]
	files._state = state
	folder = files._folder(cs.Transfer(False, {}, "f1", "a.txt"))
	lesson, person = folder.relative_to(tmp_path / "ConferenceFiles").parts
	assert lesson.startswith("Maths 7b") or title not in ("Maths 7b", NASTY[6])
	assert len(lesson) >= 10 and person not in ("", ".", "..") and "/" not in person
	folder.mkdir(parents=True)
	assert folder.resolve().parent.parent == (tmp_path / "ConferenceFiles").resolve()
	if sender == NASTY[0]:
		assert person == sender and lesson.endswith(time.strftime("%Y-%m-%d"))


def test_each_senders_files_are_together(server: Meeting, tmp_path: Path) -> None:
	host, ana, bob = server.guest("Ms Brandt"), server.guest("Ana"), server.guest("Bob")
	host.controller.options.downloads = ""
	work = make(tmp_path, "work.txt", 5)
	for pupil in (ana, bob, bob):
		path = host.fetch(pupil.offer(work, to="Ms Brandt"))
		assert path.parent.name == pupil.controller.state.current.name
		assert path.parent.parent.parent == host.folder and path.read_bytes() == work.read_bytes()
	assert sorted(path.name for path in path.parent.iterdir()) == ["work (2).txt", "work.txt"]


@pytest.mark.parametrize(("chosen", "folder"), [("", "Elsewhere/ConferenceFiles"), ("got", "got")])
def test_the_window_looks_where_files_go(
	tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, folder: str
) -> None:
	monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
	(tmp_path / "user-dirs.dirs").write_text(f'XDG_DOWNLOAD_DIR="{tmp_path}/Elsewhere"\n')
	monkeypatch.chdir(tmp_path)
	options = cs.ClientOptions("Ana", bind=LOOPBACK, downloads=chosen)
	with contextlib.closing(cs.Program(options, {}, tmp_path, look=False)) as program:
		assert program.downloads() == tmp_path / folder


@pytest.mark.parametrize(
	("text", "size"),
	[("0", 0), ("500", 500), ("500B", 500), ("64 kB", 65_536), ("1.5M", 3 << 19), ("2GB", 2 << 30)],
)
def test_sizes_on_the_command_line(text: str, size: int) -> None:
	assert cs.parse_size(text) == size
	assert cs.parse_size(text.lower()) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1e9", "2 GB or so", "²", "1XB"])
def test_wrong_sizes_on_the_command_line(text: str) -> None:
	with pytest.raises(argparse.ArgumentTypeError):
		cs.parse_size(text)


# -- to and fro ----------------------------------------------------------------------------------------


def test_both_ways_with_checksum_and_progress(server: Meeting, tmp_path: Path) -> None:
	ana, bob = server.guest("Ana"), server.guest("Bob")
	lesson, work = make(tmp_path, "Lesson 1.pdf", 12 * MB + 17), make(tmp_path, "work.txt", 5)
	file = ana.offer(lesson)
	offered = bob.wait("file_offer", file=file)
	assert (offered["name"], offered["size"], offered["from"]) == ("Lesson 1.pdf", 12 * MB + 17, "Ana")
	assert offered["private"] is False
	bob.send(do="download", file=file, ref=5)
	saved = bob.wait("file_saved", file=file, ref=5)
	assert Path(saved["path"]).read_bytes() == lesson.read_bytes()
	assert saved["sha256"] == hashlib.sha256(lesson.read_bytes()).hexdigest()
	for one in (ana, bob):
		steps = one.seen("file_progress", file=file)
		assert steps[-1]["bytes"] == steps[-1]["size"] == 12 * MB + 17
		assert [step["bytes"] for step in steps] == sorted(step["bytes"] for step in steps)
		assert all(late["time"] - soon["time"] > 0.9 for soon, late in zip(steps, steps[5:], strict=False))
	assert (bob.entry(file).state, bob.entry(file).path) == ("saved", saved["path"])
	wait_until(lambda: ana.entry(file).people == 1)
	assert (ana.entry(file).state, ana.entry(file).done) == ("offered", 12 * MB + 17)
	assert ana.fetch(bob.offer(work)).read_bytes() == work.read_bytes()


def test_nothing_is_overwritten_and_empty_files_arrive(server: Meeting, tmp_path: Path) -> None:
	ana, bob = server.guest("Ana"), server.guest("Bob")
	bob.folder.mkdir()
	(bob.folder / "a.txt").write_text("mine")
	file = ana.offer(make(tmp_path, "a.txt", 0))
	assert bob.fetch(file).name == "a (2).txt"
	bob.send(do="download", file=file)
	assert Path(bob.wait("file_saved")["path"]).name == "a (3).txt"
	assert bob.visible() == ["a (2).txt", "a (3).txt", "a.txt"]
	assert (bob.folder / "a.txt").read_text() == "mine"


def test_a_private_offer_is_for_one(server: Meeting, tmp_path: Path) -> None:
	ana, bob, cid = server.guest("Ana"), server.guest("Bob"), server.raw("Cid")
	file = ana.offer(make(tmp_path, "marks.txt", 100), to="Bob")
	assert bob.wait("file_offer", file=file)["private"] is True
	told = cid.ask({"type": "ticket", "plane": "files", "direction": "download", "file": file})
	assert told["code"] == "no_such_file"
	late = server.raw("Dan")
	assert late.welcome["files"] == []
	bob.send(do="download", file=file)
	bob.wait("file_saved", file=file)


def test_who_comes_late_sees_what_is_on_offer(server: Meeting, tmp_path: Path) -> None:
	ana = server.guest("Ana")
	source = make(tmp_path, "a.txt", 1000)
	file = ana.offer(source)
	ana.send(do="leave")
	ana.wait("left")
	assert server.guest("Bob").fetch(file).read_bytes() == source.read_bytes()


def test_decline(server: Meeting, tmp_path: Path) -> None:
	ana, bob = server.guest("Ana"), server.guest("Bob")
	public, private = (
		ana.offer(make(tmp_path, "a.txt", 10)),
		ana.offer(make(tmp_path, "b.txt", 10), to="Bob"),
	)
	for file in (public, private):
		bob.wait("file_offer", file=file)
		bob.send(do="decline", file=file)
	failed = ana.wait("file_failed", file=private)
	assert "Bob" in failed["reason"]
	assert bob.seen("file_failed") == []
	assert bob.entry(public).state == "declined"
	assert ana.entry(public).state == "offered"
	wait_until(lambda: len(server.stored()) == 1)
	bob.send(do="decline", file=public, ref=1)
	assert bob.wait("error", ref=1)["code"] == "bad_command"


def test_errors(start: Callable[..., Meeting], tmp_path: Path) -> None:
	ana = start(largest_file=1000).guest("Ana")
	big = make(tmp_path, "big", 1001)
	for number, (command, code) in enumerate(
		[
			({"do": "upload", "path": str(tmp_path / "missing")}, "no_such_file"),
			({"do": "upload", "path": str(tmp_path)}, "bad_command"),
			({"do": "upload", "path": "a\0b"}, "no_such_file"),
			({"do": "upload"}, "bad_command"),
			({"do": "upload", "path": str(big)}, "too_large"),
			({"do": "upload", "path": str(big), "to": "Nobody"}, "no_such_person"),
			({"do": "upload", "path": str(big), "to": 7}, "bad_command"),
			({"do": "download", "file": "abc"}, "no_such_file"),
			({"do": "download", "file": 1}, "bad_command"),
			({"do": "decline", "file": "abc"}, "no_such_file"),
			({"do": "cancel", "file": "abc"}, "no_such_file"),
		]
	):
		ana.send(**command, ref=number)
		assert ana.wait("error", ref=number)["code"] == code, command
	assert len(ana.offer(make(tmp_path, "fits", 1000))) == 16


def test_the_disk_is_not_filled(start: Callable[..., Meeting], tmp_path: Path) -> None:
	ana = start(free_disk=1 << 60).guest("Ana")
	ana.send(do="upload", path=str(make(tmp_path, "a.txt", 10)))
	assert ana.wait("file_failed")["code"] == "too_large"


# -- broken off ----------------------------------------------------------------------------------------


def test_the_receiver_cancels_and_may_change_its_mind(server: Meeting, tmp_path: Path) -> None:
	ana, proxy = server.guest("Ana"), server.proxy()
	bob = server.guest("Bob", proxy.base)
	source = make(tmp_path, "a.mp4", 4 * MB)
	file = ana.offer(source)
	bob.wait("file_offer")
	proxy.hold, proxy.budget = True, 2 * MB
	bob.send(do="download", file=file)
	assert proxy.spent.wait(PATIENCE)
	bob.wait("file_progress")
	assert bob.entry(file).state == "downloading"
	bob.send(do="cancel", file=file, ref=3)
	assert bob.wait("file_failed", file=file)["code"] == "cancelled"
	assert bob.visible() == []
	assert bob.entry(file).state == "offered"
	proxy.budget = math.inf
	bob.send(do="download", file=file)
	assert Path(bob.wait("file_saved")["path"]).read_bytes() == source.read_bytes()


def test_the_sender_cancels_while_it_sends(server: Meeting, tmp_path: Path) -> None:
	proxy = server.proxy()
	ana, bob = server.guest("Ana", proxy.base), server.guest("Bob")
	proxy.hold, proxy.budget = True, 1 * MB
	ana.send(do="upload", path=str(make(tmp_path, "a.mp4", 4 * MB)))
	assert proxy.spent.wait(PATIENCE)
	file = ana.wait("file_progress")["file"]
	ana.send(do="cancel", file=file)
	assert ana.wait("file_failed", file=file)["code"] == "cancelled"
	assert ana.entry(file).state == "gone"
	wait_until(lambda: server.stored() == [])
	assert bob.seen("file_offer") + bob.seen("file_failed") + ana.seen("file_failed") == []
	assert ana.seen("error") == []


@pytest.mark.parametrize("by", ["owner", "host"])
def test_an_offer_is_taken_back_while_someone_fetches_it(server: Meeting, tmp_path: Path, by: str) -> None:
	ana, proxy = server.guest("Ana"), server.proxy()
	bob, host = server.guest("Bob", proxy.base), server.guest("Host", host_key="ab" * 32)
	file = ana.offer(make(tmp_path, "a.mp4", 4 * MB))
	for one in (bob, host):
		one.wait("file_offer")
	proxy.hold, proxy.budget = True, 2 * MB
	bob.send(do="download", file=file)
	assert proxy.spent.wait(PATIENCE)
	(ana if by == "owner" else host).send(do="cancel", file=file)
	assert bob.wait("file_failed", file=file)["code"] == "no_such_file"
	assert bob.visible() == []
	assert bob.entry(file).state == "gone"
	wait_until(lambda: server.stored() == [])
	bob.send(do="cancel", file=file, ref=1)
	assert bob.wait("error", ref=1)["code"] == "no_such_file"


def test_a_ticket_redeemed_when_its_connection_has_ended_keeps_no_file(
	server: Meeting, tmp_path: Path
) -> None:
	ana, bob = server.guest("Ana"), server.guest("Bob")
	file = ana.offer(make(tmp_path, "a.pdf", 1_000))
	bob.wait("file_offer")
	loop, redeemed = server.server.loop, threading.Event()

	def ask(call: Callable[[], Any], patience: float = 0.0) -> Any:
		"""The loop is too busy to answer in time."""
		del loop.ask  # type: ignore[method-assign]
		loop.post(lambda: loop.later(0.3, lambda: (call(), redeemed.set())))  # type: ignore[func-returns-value]
		raise TimeoutError

	loop.ask = ask  # type: ignore[method-assign,assignment]
	bob.send(do="download", file=file)
	assert redeemed.wait(PATIENCE)
	bob.wait("file_saved")
	ana.send(do="cancel", file=file)
	wait_until(lambda: server.stored() == [])


@pytest.mark.parametrize("direction", ["upload", "download"])
@pytest.mark.parametrize("what", ["one connection", "the whole cable"])
def test_it_goes_on_where_it_broke(server: Meeting, tmp_path: Path, direction: str, what: str) -> None:
	proxy = server.proxy()
	far = proxy.base
	ana = server.guest("Ana", far if direction == "upload" else 0)
	bob = server.guest("Bob", far if direction == "download" else 0)
	source = make(tmp_path, "a.mp4", 16 * MB)
	file = ana.offer(source) if direction == "download" else ""
	proxy.hold, proxy.budget = what != "one connection", 8 * MB
	if direction == "upload":
		ana.send(do="upload", path=str(source))
	else:
		bob.wait("file_offer")
		bob.send(do="download", file=file)
	if proxy.hold:
		assert proxy.spent.wait(PATIENCE)
		proxy.budget = math.inf
		proxy.cut()
		(ana if direction == "upload" else bob).wait("reconnected")
	if direction == "upload":
		file = ana.wait("uploaded")["file"]
		bob.wait("file_offer")
		bob.send(do="download", file=file)
	path = Path(bob.wait("file_saved", file=file)["path"])
	assert path.read_bytes() == source.read_bytes()
	assert proxy.spent.is_set()
	assert proxy.passed < 21 * MB  # from the start again would be 24


def test_a_killed_sender_leaves_nothing_to_see(
	server: Meeting, tmp_path: Path, meeting: Callable[..., Headless]
) -> None:
	bob, proxy = server.guest("Bob"), server.proxy()
	ana = meeting("--join", f"{LOOPBACK}:{proxy.base}", "--name", "Ana", *QUIET)
	ana.wait("joined")
	bob.wait("join", name="Ana")
	proxy.hold, proxy.budget = True, 1 * MB
	ana.send(do="upload", path=str(make(tmp_path, "a.mp4", 4 * MB)))
	assert proxy.spent.wait(PATIENCE)
	ana.process.kill()
	bob.wait("leave", name="Ana")
	assert bob.seen("file_offer") == []
	assert server.raw("Cid").welcome["files"] == []
	assert bob.visible() == []


def test_the_meeting_ends_in_mid_transfer(server: Meeting, tmp_path: Path) -> None:
	ana, proxy = server.guest("Ana"), server.proxy()
	bob = server.guest("Bob", proxy.base)
	file = ana.offer(make(tmp_path, "a.mp4", 4 * MB))
	bob.wait("file_offer")
	proxy.hold, proxy.budget = True, 2 * MB
	bob.send(do="download", file=file)
	assert proxy.spent.wait(PATIENCE)
	server.server.close()
	bob.wait("ended")
	bob.close()
	assert bob.visible() == []


# -- peers that keep no rule -----------------------------------------------------------------------------


def test_what_is_sent_beyond_the_declared_size_is_cut(server: Meeting) -> None:
	eve = server.raw("Eve")
	data = os.urandom(1024)
	file = eve.offer(data)
	with eve.transfer(eve.ticket("upload", file), "upload") as tls, tls.makefile("rb") as lines:
		assert lines.readline() == b"READY 0\n"
		with pytest.raises(OSError, match=r"."):  # cut: it cannot send on for ever
			for _ in range(4096):
				tls.sendall(data * 64)
	assert [path.stat().st_size for path in server.stored()] == [1024]


def test_a_wrong_hash_is_refused(server: Meeting) -> None:
	eve, bob = server.raw("Eve"), server.guest("Bob")
	file = eve.offer(b"what was declared")
	with eve.transfer(eve.ticket("upload", file), "upload") as tls, tls.makefile("rb") as lines:
		assert lines.readline() == b"READY 0\n"
		tls.sendall(b"what was sent....")
		assert lines.readline() == b"FAILED wrong_hash\n"
		assert lines.read() == b""
	assert eve.hear("file_gone")["file"] == file
	assert bob.seen("file_offer") == []
	wait_until(lambda: server.stored() == [])


def test_a_file_that_changes_while_it_is_sent(server: Meeting, tmp_path: Path) -> None:
	proxy = server.proxy()
	ana = server.guest("Ana", proxy.base)
	source = make(tmp_path, "a.mp4", 8 * MB)
	proxy.hold, proxy.budget = True, 1 * MB
	ana.send(do="upload", path=str(source))
	assert proxy.spent.wait(PATIENCE)
	os.truncate(source, 7 * MB)
	proxy.budget = math.inf
	assert ana.wait("file_failed")["code"] == "wrong_hash"
	wait_until(lambda: server.stored() == [])
	assert ana.seen("file_failed") == []


def test_a_stored_file_that_is_shorter_than_it_was_ends_the_transfer(tmp_path: Path) -> None:
	(path := tmp_path / "stored").write_bytes(bytes(1_000))
	sent: list[int] = []

	def send(data: bytes) -> None:
		sent.append(len(data))
		assert len(sent) < 100, "it goes on for ever"

	stream = SimpleNamespace(send=send, read_line=lambda *_: b"READY", STALL=1.0)
	stored = SimpleNamespace(path=path, size=2_000, sha256="00" * 32, file="x")
	connection = cs.FileConnection(cast(Any, stream), LOOPBACK)
	with pytest.raises(OSError, match="shorter"):
		cs.FileStore._hand_out(cast(Any, None), connection, cast(Any, stored), 0)
	assert sum(sent[1:]) == 1_000


def refused(tls: Any) -> bool:
	"""Whether the server says that it failed, and closes."""
	with contextlib.closing(tls):
		try:
			return bool(
				re.fullmatch(rb"(FAILED (bad_ticket|bad_command)\n)?", tls.recv(100)) and not tls.recv(100)
			)
		except ConnectionResetError:
			return True


def test_tickets(server: Meeting) -> None:
	eve = server.raw("Eve")
	file = eve.upload(b"hello", "a.txt")
	ticket = eve.ticket("download", file)
	assert eve.download(file, ticket) == b"hello"
	for wrong in (
		eve.transfer(ticket, "download", offset=0),  # used
		eve.transfer("0" * 32, "download", offset=0),
		eve.transfer("none", "download", offset=0),
		eve.transfer(eve.ticket("viewer", plane="screen"), "download", offset=0),
		eve.transfer(eve.ticket("upload", file), "download", offset=0),
		eve.transfer(eve.ticket("download", file), "upload"),
		eve.transfer(eve.ticket("download", file), "download"),
		eve.transfer(eve.ticket("download", file), "download", offset=-1),
		eve.transfer(eve.ticket("download", file), "download", offset=6),
	):
		assert refused(wrong)
	late = eve.ticket("download", file)
	other = server.raw("Other")
	ticket = other.ticket("download", file)
	other.close()
	bob = server.guest("Bob")
	bob.wait("file_offer")
	assert refused(eve.transfer(ticket, "download", offset=0))  # its session is over
	assert eve.download(file, late) == b"hello"
	assert eve.download(file, offset=3) == b"lo"


def test_an_upload_whose_end_was_not_heard(server: Meeting) -> None:
	eve, bob = server.raw("Eve"), server.guest("Bob")
	file = eve.upload(b"hello", "a.txt")
	with eve.transfer(eve.ticket("upload", file), "upload") as tls, tls.makefile("rb") as lines:
		assert lines.readline() == b"READY 5\n"
		assert lines.readline() == b"DONE\n"
	assert bob.fetch(file).read_bytes() == b"hello"
	assert bob.seen("file_offer") == []  # told once


@pytest.mark.parametrize("words", [b"\n", b"GET / HTTP/1.1\r\n", b"x" * 2000, b'{"type":"file_upload"}\n'])
def test_no_ticket(server: Meeting, words: bytes) -> None:
	tls = Raw.connect(server.base + 2)
	tls.sendall(words)
	assert refused(tls)


def test_silence_is_not_waited_for(server: Meeting) -> None:
	began = time.monotonic()
	with socket.create_connection((LOOPBACK, server.base + 2), PATIENCE) as silent:
		assert silent.recv(1) == b""
	assert refused(Raw.connect(server.base + 2))
	assert time.monotonic() - began < 3 * cs.HANDSHAKE_SECONDS


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_hostile_names_stay_in_the_folder(server: Meeting, kind: int) -> None:
	eve, bob = server.raw("Eve"), server.guest("Bob")
	names = [name for name in HOSTILE if len(name) < 1024 and name.isprintable() | ("\ud800" not in name)]
	for number, name in enumerate(names[kind::4][:20]):
		data = f"{number}".encode()
		path = bob.fetch(eve.upload(data, name))
		assert path.parent == bob.folder
		assert path.read_bytes() == data
		assert not PureWindowsPath(path.name).is_reserved()
		assert PureWindowsPath("C:/got", path.name).parent == PureWindowsPath("C:/got")
	assert len(bob.visible()) == len(names[kind::4][:20])


def test_thirty_fetch_the_same_file_at_once(server: Meeting, tmp_path: Path) -> None:
	source = make(tmp_path, "lesson.pdf", (50 if QUIET_MACHINE else 6) * MB)
	file = server.guest("Ana").offer(source)
	class_of = [server.raw(f"Pupil {number}") for number in range(28)]
	bob, cid = server.guest("Bob"), server.guest("Cid")
	with ThreadPoolExecutor(30) as pool:
		saved = [pool.submit(one.fetch, file) for one in (bob, cid)]
		digests = pool.map(lambda raw: hashlib.sha256(raw.download(file)).digest(), class_of)
		wanted = hashlib.sha256(source.read_bytes()).digest()
		assert set(digests) == {wanted}
		assert {hashlib.sha256(one.result().read_bytes()).digest() for one in saved} == {wanted}


def test_leftovers_of_a_killed_server_go(
	start: Callable[..., Meeting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""At any start, whatever that is for: folders of files, and journals of any port."""
	monkeypatch.setenv("CONNECTSPHERE_HOME", str(tmp_path))
	(tmp_path / "journal").mkdir()
	old = [tmp_path / "connectsphere-files-old", tmp_path / "journal" / "9005.sealed"]
	live = [tmp_path / "connectsphere-files-live", tmp_path / "journal" / "9010.sealed"]
	for one in (old, live):
		one[0].mkdir()
		(one[0] / "x").write_text("x")
		one[1].write_text("x")
	for path in old:
		os.utime(path, (0, 0))
	cs.home_directory()
	assert not any(path.exists() for path in old)
	assert all(path.exists() for path in live)
	shutil.rmtree(live[0])
	meeting = start()
	(store,) = tmp_path.glob("connectsphere-files-*")
	assert store.stat().st_mode & 0o777 == 0o700
	os.utime(store, (0, 0))
	meeting.server._files.tick()
	assert store.stat().st_mtime > time.time() - 60


@pytest.mark.parametrize("places", [1, 0])
def test_where_no_file_can_be_stored_the_meeting_runs(
	start: Callable[..., Meeting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, places: int
) -> None:
	"""The home comes first: a temporary folder may be memory. Where there is none, who offers hears so."""
	tried: list[Path | None] = []
	make = tempfile.mkdtemp

	def full(*told: Any, **more: Any) -> str:
		tried.append(more["dir"])
		if len(tried) == 2 and places:
			return make(*told, **more)
		raise OSError(errno.ENOSPC, "full")

	monkeypatch.setattr(tempfile, "mkdtemp", full)
	meeting = start()
	assert tried == [meeting.server._files._home, None]
	ana = meeting.guest("Ana")
	path = tmp_path / "a.txt"
	path.write_text("x")
	ana.send(do="upload", path=str(path))
	if places:
		ana.wait("uploaded")
	else:
		assert ana.wait("file_failed")["code"] == "too_large"


def test_a_temporary_folder_that_was_swept_is_made_again(
	start: Callable[..., Meeting], tmp_path: Path
) -> None:
	meeting = start()
	shutil.rmtree(meeting.server._files._folder)
	ana = meeting.guest("Ana")
	path = tmp_path / "a.txt"
	path.write_text("x")
	ana.send(do="upload", path=str(path))
	ana.wait("uploaded")


# -- the program itself --------------------------------------------------------------------------------


def test_processes_and_the_hosts_limits(meeting: Callable[..., Headless], tmp_path: Path) -> None:
	base = str(free_base())
	ana = meeting("--host", "--port", base, "--name", "Ana", "--largest-file", "3MB", *QUIET)
	ana.wait("joined")
	got = tmp_path / "got"
	bob = meeting("--join", f"{LOOPBACK}:{base}", "--name", "Bob", "--downloads", str(got), *QUIET)
	bob.wait("joined")
	source = make(tmp_path, "a.pdf", 3 * MB)
	ana.send(do="upload", path=str(source), ref=1)
	file = ana.wait("uploaded", ref=1, name="a.pdf")["file"]
	bob.wait("file_offer", file=file)
	bob.send(do="download", file=file)
	assert Path(bob.wait("file_saved")["path"]).read_bytes() == source.read_bytes()
	bob.send(do="upload", path=str(make(tmp_path, "b.pdf", 3 * MB + 1)), ref=2)
	assert bob.wait("error", ref=2)["code"] == "too_large"
	assert [path.name for path in got.iterdir()] == ["a.pdf"]
