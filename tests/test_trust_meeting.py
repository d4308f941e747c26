"""Who is let in, and by whom: PIN, machines in the middle, twins of a meeting, an eavesdropper."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Meeting
from false_hosts import Guesser, Impostor
from headless import PROGRAM, Event, Headless, free_base
from meetings import LOOPBACK, Passage, enter, host, join, serve, stats, switch
from member import HELLO, Member, tls

import connectsphere as cs

PIN = "482913"
shared = pytest.mark.xdist_group("open meeting")
Opened = tuple[Headless, int]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
	"""The host of a meeting without a PIN, and its base port; tests marked `shared` leave it as it was."""
	with contextlib.closing(Meeting(tmp_path_factory.mktemp("open"))) as started:
		yield host(started)


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[Callable[[int], Impostor]]:
	made: list[Impostor] = []

	def make(base: int) -> Impostor:
		made.append(Impostor(tmp_path / "impostor", base))
		return made[-1]

	(tmp_path / "impostor").mkdir()
	yield make
	for one in made:
		one.close()


def denied(one: Headless) -> str:
	"""The code with which it was turned away; it has ended with status 1 and told nothing else."""
	code = one.wait("denied", timeout=40)["code"]
	assert one.process.wait(5) == 1
	assert [event["event"] for event in one.events] == ["denied"]
	return str(code)


def test_the_pin(meeting: Callable[..., Headless], impostor: Callable[[int], Impostor]) -> None:
	ana, base = host(meeting, "--pin", PIN)
	ben = join(meeting, base, "Ben", "--pin", PIN)
	assert ben.seen("joined")[0]["encrypted"] is True
	assert denied(enter(meeting, base, "Cara")) == "pin_required"
	started = time.monotonic()
	assert denied(enter(meeting, base, "Cara", "--pin", "482914", program=PROGRAM)) == "wrong_pin"
	assert time.monotonic() - started < 12
	between = impostor(base)
	assert denied(enter(meeting, between.port, "Dan", "--pin", PIN)) in ("wrong_pin", "host_unproven")
	assert between.overheard and b'"welcome"' not in between.overheard
	assert PIN.encode() not in between.overheard
	ana.send({"do": "users", "ref": 1})
	assert [user["name"] for user in ana.wait("users", ref=1)["users"]] == ["Ana", "Ben"]


def test_guessing_a_pin_is_slow_and_locks_nobody_out(meeting: Callable[..., Headless]) -> None:
	ana, base = host(meeting, "--pin", PIN)
	wrong = [enter(meeting, base, f"Eve {n}", "--pin", f"00000{n}") for n in range(5)]
	assert {denied(one) for one in wrong} == {"wrong_pin"}
	waiting = enter(meeting, base, "Ben", "--pin", PIN)
	ana.wait("knock", name="Ben")
	ana.send({"do": "admit", "who": "Ben", "yes": True, "ref": 1})
	came = until_event(waiting)
	assert came["event"] == "joined", "the PIN is proved, only not counted"


def until_event(one: Headless, timeout: float = 40.0) -> Event:
	"""The first event of it."""
	end = time.monotonic() + timeout
	while not one.events:
		assert time.monotonic() < end, f"{one} hears nothing"
		time.sleep(0.05)
	return one.events[0]


@pytest.mark.parametrize("guesses", [1, 5])
def test_a_false_host_tests_one_pin_for_each_try_of_the_user(
	meeting: Callable[..., Headless], tmp_path: Path, guesses: int
) -> None:
	with contextlib.closing(Guesser(tmp_path, guesses)) as guesser:
		code = denied(enter(meeting, guesser.port, "Ben", "--pin", PIN))
		assert guesser.tested == 1
		assert code == ("host_unproven" if guesses == 1 else code)


@shared
def test_an_open_twin_is_refused(opened: Opened, meeting: Callable[..., Headless]) -> None:
	_, base = opened
	assert denied(enter(meeting, base, "Ben", "--pin", PIN)) == "host_unproven"


class Replaying(cs.ConferenceServer):
	"""A modified server: whoever says so is the host there, by what another signed elsewhere."""

	def pose_as(self, other: cs.ConferenceServer) -> cs.Json:
		"""As a server at which the host is in: the same meeting, id and proof; returns that id."""
		host = next(one for one in other.room.members.values() if one.role == "host")
		self.room.meeting, self.room.newest_id = other.room.meeting, host.id - 1
		self.lobby._enter = lambda session, hello: self.admit(session)  # type: ignore[method-assign]
		self.lobby._on_proof = self.believe  # type: ignore[method-assign]
		self.logged = {**host.proof, "id": host.id}
		return self.logged

	def believe(self, session: cs.ControlSession, signature: str) -> None:
		session.right = self.logged
		self.admit(session)


SECRET = "5e" * 32


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[cs.ConferenceServer]]:
	"""Two honest servers and a modified one, all of the same host."""
	found: list[cs.ConferenceServer] = []
	with contextlib.ExitStack() as stack:
		for number, kind in enumerate((cs.ConferenceServer, cs.ConferenceServer, Replaying)):
			home = tmp_path / f"server {number}"
			home.mkdir()
			options = cs.ServerOptions("Maths", "Frau Meier", base=free_base(), bind=LOOPBACK)
			options.host_key = cs.HostRight(SECRET).public
			found.append(kind(options, cs.load_identity(home)))
			found[-1].start()
			stack.callback(found[-1].close)
		yield found


def test_a_host_is_believed_only_where_it_has_signed(
	meeting: Callable[..., Headless], tmp_path: Path, servers: list[cs.ConferenceServer]
) -> None:
	(tmp_path / "key").write_text(SECRET)
	honest, _, false = servers
	assert isinstance(false, Replaying)
	roles = {}
	join(meeting, honest.options.base, "Frau Meier", "--host-key", str(tmp_path / "key"))
	logged = false.pose_as(honest)
	with tls(false.options.base) as link:
		eve = Member(link, false.options.base)
		eve.enter(name="Frau Meier", host_key=SECRET)
		assert (eve.welcome["id"], eve.welcome["role"]) == (logged["id"], "host")
		for server in (honest, false):
			ben = join(meeting, server.options.base, "Ben", home=tmp_path / f"ben{server.options.base}")
			users = ben.wait("users")["users"]
			roles[server] = {user["name"]: user["role"] for user in users}
	assert roles[honest] == {"Frau Meier": "host", "Ben": "member"}
	assert roles[false] == {"Frau Meier": "member", "Ben": "member"}


def claims_host(server: cs.ConferenceServer, sign: Callable[[cs.Json, str], str]) -> cs.Json:
	"""What a server answers someone who says to be the host, with `sign(challenge, fingerprint)`."""
	with tls(server.options.base) as link, link.makefile("rb") as lines:

		def say(**message: object) -> cs.Json:
			link.sendall(json.dumps(message).encode() + b"\n")
			return dict(json.loads(lines.readline()))

		challenge = say(**{**HELLO, "name": "Frau Meier", "host": cs.HostRight(SECRET).public})
		certificate = link.getpeercert(binary_form=True)
		assert challenge["type"] == "prove" and certificate
		signature = sign(challenge, cs.certificate_fingerprint(certificate))
		return say(type="proof", signature=signature)


def test_what_a_server_heard_of_a_hosts_proof_opens_nothing(servers: list[cs.ConferenceServer]) -> None:
	"""It logs what was signed for it and for others, and hands on others' challenges to be signed for it."""
	right, (honest, second, false) = cs.HostRight(SECRET), servers
	heard: list[tuple[cs.Json, str]] = []

	def genuine(challenge: cs.Json, fingerprint: str) -> str:
		heard.append((challenge, right.prove(challenge, fingerprint)))
		return heard[-1][1]

	assert claims_host(honest, genuine)["role"] == "host"
	assert isinstance(false, Replaying)
	false.pose_as(honest)
	assert claims_host(false, genuine)["role"] == "host"
	for server in (honest, second):
		for _, logged in heard:
			assert claims_host(server, lambda *_, logged=logged: logged)["code"] == "not_allowed"
		for seen in (false, second if server is honest else honest):
			told = claims_host(
				server, lambda asked, _, seen=seen: right.prove(asked, seen.identity.fingerprint)
			)
			assert told["code"] == "not_allowed", "signed by the host itself, for who stands in between"
		assert claims_host(server, lambda asked, at: right.prove(heard[0][0], at))["code"] == "not_allowed"
	for server in (honest, second):
		assert all(member.role == "member" for member in server.room.members.values())


def test_the_hosts_key_and_the_pin_together(meeting: Callable[..., Headless], tmp_path: Path) -> None:
	(tmp_path / "key").write_text("5e" * 32)
	key = ("--host-key", str(tmp_path / "key"))
	_, base = serve(meeting, "--name", "Frau Meier", "--pin", PIN, *key)
	assert denied(enter(meeting, base, "Frau Meier", *key, "--pin", "000000")) == "wrong_pin"
	for pin in ((), ("--pin", PIN)):
		host = join(meeting, base, "Frau Meier", *key, *pin)
		assert host.seen("joined")[0]["role"] == "host"
		assert host.seen("joined")[0]["name"] == "Frau Meier"
		assert host.close() == 0


@pytest.mark.parametrize("damage", [b"", bytes(64), b"5e" * 20, "folder"])
def test_a_damaged_host_key_keeps_nobody_out(
	meeting: Callable[..., Headless], tmp_path: Path, damage: bytes | str
) -> None:
	path = tmp_path / "home" / "host.key"
	path.mkdir(parents=True) if isinstance(damage, str) else path.parent.mkdir()
	if isinstance(damage, bytes):
		path.write_bytes(damage)
	ana, base = host(meeting, home=path.parent)
	assert ana.seen("joined")[0]["role"] == "host"
	ben = join(meeting, base, "Ana", home=path.parent)
	assert (ben.seen("joined")[0]["role"], ben.seen("joined")[0]["name"]) == ("member", "Ana (2)")


def test_the_removed_knock_and_may_be_let_back(meeting: Callable[..., Headless], tmp_path: Path) -> None:
	ana, base = host(meeting)
	home = tmp_path / "ben"
	ben = join(meeting, base, "Ben", home=home)
	cara = join(meeting, base, "all")
	ana.send({"do": "remove", "who": "Ben", "ref": 1})
	ana.wait("banned", names=["Ben"])
	assert ben.close() == 0
	assert denied(enter(meeting, base, "Ben", home=home)) == "not_allowed", "its claim is known"
	stranger = enter(meeting, base, "Zoe")
	assert until_event(stranger)["event"] == "waiting"
	ana.wait("knock", name="Zoe", why="removed")
	ana.send({"do": "admit", "who": "Zoe", "yes": True, "ref": 2})
	stranger.wait("joined")
	cara.send({"do": "unban", "who": "Ben", "ref": 3})
	assert cara.wait("error", ref=3)["code"] == "not_allowed"
	ana.send({"do": "unban", "who": "Ben", "ref": 4})
	assert ana.wait("banned", ref=4)["names"] == []
	assert join(meeting, base, "Ben", home=home).seen("joined")[0]["name"] == "Ben"
	assert cara.seen("joined")[0]["name"] == "all (2)", "no command can mean everyone by it"


def test_a_known_title_under_another_certificate(meeting: Callable[..., Headless], tmp_path: Path) -> None:
	ana, base = host(meeting, "--title", "Physics 10b")
	home = tmp_path / "ben"
	assert join(meeting, base, "Ben", home=home).close() == 0
	ana.send({"do": "end"})
	ana.wait("ended")
	ana.close()
	_, twin = host(meeting, "--title", "Phуsics  10B", name="Eve")  # one letter is Cyrillic
	assert denied(enter(meeting, twin, "Ben", home=home)) == "host_changed"
	again, base = host(meeting, "--title", "Physics 10b", home=ana.home)
	assert join(meeting, base, "Ben", home=home).seen("joined")[0]["host"] == "Ana"
	again.send({"do": "end"})


@shared
def test_a_machine_in_the_middle_of_a_known_meeting(
	opened: Opened, meeting: Callable[..., Headless], impostor: Callable[[int], Impostor], tmp_path: Path
) -> None:
	_, base = opened
	home = tmp_path / "ben"
	join(meeting, base, "Ben", home=home).close()
	between = impostor(base)
	assert denied(enter(meeting, between.port, "Ben", home=home)) == "host_changed"


@shared
def test_a_machine_in_the_middle_of_a_first_meeting_without_a_pin_shows_in_the_pictures(
	opened: Opened, meeting: Callable[..., Headless], impostor: Callable[[int], Impostor], tmp_path: Path
) -> None:
	"""What is not protected, as SECURITY.md says: it gets in between, and only comparing shows it."""
	ana, base = opened
	between = impostor(base)
	with contextlib.closing(join(meeting, between.port, "Ben", home=tmp_path / "ben")) as ben:
		assert b'"welcome"' in between.overheard
		real = ana.seen("serving")[0]["fingerprint"]
		(shown,) = [
			one for one in cs.KnownHosts(ben.home).all() if one.title == ana.seen("joined")[0]["title"]
		]
		assert shown.fingerprint != real
		assert cs.fingerprint_pictures(shown.fingerprint) != cs.fingerprint_pictures(real)


@pytest.mark.long
@shared
@pytest.mark.parametrize("plane", [1, 2], ids=["screen", "files"])
def test_the_other_planes_close_without_a_ticket(opened: Opened, plane: int) -> None:
	ana, base = opened
	first = b'{"role":"viewer","ticket":"' + b"0" * 32 + b'"}'

	def sealed(said: bytes) -> None:
		with socket.create_connection((LOOPBACK, base + plane), 5) as raw, contextlib.suppress(OSError):
			raw.settimeout(8)
			with cs.client_context().wrap_socket(raw) as tls:
				tls.sendall(said)
				answer = b"".join(iter(lambda: tls.recv(4096), b""))
				assert b"denied" in answer or b"FAILED" in answer or not answer

	def bare(said: bytes) -> None:
		with socket.create_connection((LOOPBACK, base + plane), 5) as raw:
			raw.settimeout(8)
			with contextlib.suppress(ConnectionResetError):
				raw.sendall(said)
				assert_end(raw)

	words = (b"", b"GET / HTTP/1.0\r\n\r\n", struct.pack(">I", len(first)) + first, b"\xff" * 64)
	with ThreadPoolExecutor() as pool:  # silence is waited for at once
		for done in [pool.submit(way, said) for way in (sealed, bare) for said in words]:
			done.result()
	ana.send({"do": "chat", "text": f"{plane} undisturbed"})
	ana.wait("chat", text=f"{plane} undisturbed")


def assert_end(raw: socket.socket) -> None:
	"""The other side ends the connection, with an alert of TLS at most."""
	with contextlib.suppress(ConnectionResetError):
		while data := raw.recv(4096):
			assert data[0] == 21, data


# -- what an eavesdropper gets ------------------------------------------------------------------------------


class Recorder:
	"""Everything that passed, by plane and direction."""

	def __init__(self) -> None:
		self.stream: dict[bool, bytearray] = {True: bytearray(), False: bytearray()}
		self.datagrams: dict[tuple[str, bool], list[bytes]] = defaultdict(list)

	def __call__(self, plane: str, upstream: bool, data: bytes) -> None:
		if plane == "control":
			self.stream[upstream] += data
		else:
			self.datagrams[plane, upstream].append(data)


def records(stream: bytes) -> list[tuple[int, bytes]]:
	"""The TLS records of one direction: (content type, body)."""
	found, at = [], 0
	while at + 5 <= len(stream):
		kind, major, minor, size = struct.unpack_from(">BBBH", stream, at)
		assert (major, minor) in ((3, 1), (3, 3)), "no TLS record"
		assert 0 < size <= 16_384 + 256
		found.append((kind, bytes(stream[at + 5 : at + 5 + size])))
		at += 5 + size
	return found


def offers_tls_13(hello: bytes) -> bool:
	"""Whether a ServerHello chose TLS 1.3: its extension 43 holds 0x0304."""
	return struct.pack(">HHH", 43, 2, 0x0304) in hello


def bits_set(data: bytes) -> float:
	return sum(byte.bit_count() for byte in data) / (8 * len(data))


def test_a_capture_holds_sealed_bytes_only(meeting: Callable[..., Headless]) -> None:
	base = free_base()
	record = Recorder()
	ana, _ = host(meeting, "--camera", "pattern", "--mic", "tone", "--pin", PIN, base=base)
	way = Passage(base, tap=record)
	with contextlib.closing(way):
		ben = join(meeting, base, "Ben", "--pin", PIN, "--camera", "pattern", "--mic", "tone:700", at=way.at)
		for one, other in ((ana, "Ben"), (ben, "Ana")):
			switch(one, "camera", True)
			switch(one, "mic", True)
			one.send({"do": "watch", "streams": {other: {"layer": 1, "fps": 15}}})
			one.send({"do": "chat", "text": f"a secret for {other} " * 20})
		ana.wait("speaking", name="Ben")
		ben.wait("speaking", name="Ana")
		until = time.monotonic() + 15
		while len(record.datagrams["video", True]) < 40 or len(record.datagrams["video", False]) < 40:
			assert time.monotonic() < until, {key: len(value) for key, value in record.datagrams.items()}
			time.sleep(0.1)
		assert stats(ben)["udp"] == "ok"
		ben.close()
	check_streams(record)
	check_datagrams(record, ben.seen("joined")[0]["id"])


def check_streams(record: Recorder) -> None:
	up, down = records(record.stream[True]), records(record.stream[False])
	assert up[0][0] == 22 and down[0][0] == 22 and offers_tls_13(down[0][1])
	for direction in (up, down):
		kinds = [kind for kind, _ in direction[1:]]
		assert set(kinds) <= {20, 23}, "after its hello each side sends sealed records only"
	assert sum(len(body) for _, body in up) > 400


def check_datagrams(record: Recorder, ident: int) -> None:
	"""Layouts of WIRE by size and header; each sealed part as even as noise and never the same in another.

	A part that was asked for again comes once more as it was. The last of a frame may be so short that two
	are alike by chance.
	"""
	for (plane, upstream), datagrams in record.datagrams.items():
		sealed = []
		for data in dict.fromkeys(datagrams):
			if plane == "audio" and len(data) in cs.AUDIO_SIZES:
				who, sealed_part = struct.unpack_from(">I", data)[0], data[8:]
				assert len(sealed_part) in (16, 528)
			else:
				who, _, total, part = struct.unpack_from(">IIHH", data)
				sealed_part = data[12:]
				if total:
					assert plane == "video" and part < total <= 256
					assert len(sealed_part) == 1_100 or part == total - 1
				else:
					assert part in (1, 2, 3, 4) and 16 <= len(sealed_part) <= 64
			if upstream:
				assert who == ident
			if len(sealed_part) >= 16:
				sealed.append(sealed_part)
		assert len(set(sealed)) == len(sealed), f"{plane}: the same sealed bytes twice"
		assert abs(bits_set(b"".join(sealed)) - 0.5) < 0.02, f"{plane} does not look sealed"
