"""TRUST: identity, known hosts, PIN proof, what is kept on disk."""

from __future__ import annotations

import json
import os
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import connectsphere as cs

ROOT = Path(__file__).resolve().parent.parent
HOST, OTHER = "a" * 64, "b" * 64
posix = pytest.mark.skipif(os.name != "posix", reason="file modes are those of POSIX")


def mode(path: Path) -> int:
	return stat.S_IMODE(path.stat().st_mode)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
	"""A TLS handshake in memory; the client's side of it."""
	to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
	far = server.wrap_bio(to_server, to_client, server_side=True)
	near = client.wrap_bio(to_client, to_server)
	waiting = {far, near}
	for _ in range(10):
		for side in tuple(waiting):
			try:
				side.do_handshake()
				waiting.discard(side)
			except ssl.SSLWantReadError:
				pass
	assert not waiting
	return near


class TestHome:
	@posix
	def test_is_made_private(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
		monkeypatch.setenv("CONNECTSPHERE_HOME", str(tmp_path / "deep" / "home"))
		home = cs.home_directory()
		assert home == tmp_path / "deep" / "home"
		assert mode(home) == 0o700

	def test_a_file_in_its_place_is_left_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
		(tmp_path / "file").write_text("x")
		monkeypatch.setenv("CONNECTSPHERE_HOME", str(tmp_path / "file"))
		assert cs.home_directory() != tmp_path / "file"
		assert (tmp_path / "file").read_text() == "x"

	@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
	def test_usual_place(self, platform: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
		for name in ("CONNECTSPHERE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
			monkeypatch.delenv(name, raising=False)
		monkeypatch.setenv("HOME", str(tmp_path))
		monkeypatch.setattr(sys, "platform", platform)
		home = cs.home_directory()
		assert home.is_dir() and home.is_relative_to(tmp_path) and home.name.lower() == "connectsphere"


class TestIdentity:
	def test_stays_and_is_shown_in_tls(self, tmp_path: Path) -> None:
		identity = cs.load_identity(tmp_path)
		assert cs.load_identity(tmp_path) == identity
		near = handshake(cs.server_context(identity), cs.client_context())
		assert near.version() == "TLSv1.3"
		der = near.getpeercert(binary_form=True)
		assert der is not None and cs.certificate_fingerprint(der) == identity.fingerprint

	@posix
	def test_is_private(self, tmp_path: Path) -> None:
		identity = cs.load_identity(tmp_path)
		identity.path.chmod(0o644)
		assert mode(cs.load_identity(tmp_path).path) == 0o600
		assert [path.name for path in tmp_path.iterdir()] == ["identity.pem"]

	@pytest.mark.parametrize("damage", [b"", b"rubbish", "half"])
	def test_damaged_is_set_aside(self, tmp_path: Path, damage: bytes | str) -> None:
		old = cs.load_identity(tmp_path)
		content = old.path.read_bytes()
		old.path.write_bytes(content[: len(content) // 2] if isinstance(damage, str) else damage)
		new = cs.load_identity(tmp_path)
		assert new.fingerprint != old.fingerprint
		assert (tmp_path / "identity.damaged").exists()

	def test_key_of_another_is_no_pair(self, tmp_path: Path) -> None:
		(tmp_path / "a").mkdir()
		(tmp_path / "b").mkdir()
		one, two = cs.load_identity(tmp_path / "a"), cs.load_identity(tmp_path / "b")
		marker = "-----BEGIN CERTIFICATE"
		key = one.path.read_text().split(marker)[0]
		one.path.write_text(key + marker + two.path.read_text().split(marker)[1])
		assert cs.load_identity(tmp_path / "a").fingerprint not in (one.fingerprint, two.fingerprint)

	def test_programs_that_start_together_agree(self, tmp_path: Path) -> None:
		code = "import sys, pathlib, connectsphere; input();"
		code += "print(connectsphere.load_identity(pathlib.Path(sys.argv[1])))"
		programs = [
			subprocess.Popen(
				[sys.executable, "-c", code, str(tmp_path)],
				cwd=ROOT,
				stdin=subprocess.PIPE,
				stdout=subprocess.PIPE,
				text=True,
			)
			for _ in range(3)
		]
		for program in programs:
			assert program.stdin is not None
			program.stdin.write("\n")
			program.stdin.flush()
		assert len({program.communicate(timeout=60)[0] for program in programs}) == 1

	def test_nowhere_to_keep_it(self, tmp_path: Path) -> None:
		with pytest.raises(cs.ConnectSphereError, match="cannot be kept"):
			cs.load_identity(tmp_path / "missing")

	def test_only_tls_13_and_no_key_log(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
		monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
		(tmp_path / "home").mkdir()
		server, client = cs.server_context(cs.load_identity(tmp_path / "home")), cs.client_context()
		handshake(server, client)
		assert not (tmp_path / "keys").exists()
		old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
		old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
		old.maximum_version = ssl.TLSVersion.TLSv1_2
		with pytest.raises(ssl.SSLError):
			handshake(server, old)


class TestSkeleton:
	@pytest.mark.parametrize(
		("one", "other"),
		[
			("Maths", "maths"),
			("Maths", "M\u0430ths"),  # Cyrillic a
			("Maths 10", "Maths lO"),
			("Bill", "BiI1"),
			("Ana's lesson", "Ana’s  lesson."),
			("Ana", "A\u200bna"),
			("modern", "modem"),
			("Ana", "\uff21\uff4e\uff41"),  # full width
			("Ana", "\U0001d400na"),  # mathematical
			("José", "Jose"),
			("СОРЕ", "COPE"),
			("ΤΟΜ", "tom"),
			("w", "vv"),
		],
	)
	def test_confusable(self, one: str, other: str) -> None:
		assert cs.skeleton(one) == cs.skeleton(other)

	def test_different_names_stay_different(self) -> None:
		names = [
			"Ana",
			"Anna",
			"Maths",
			"Physics",
			"数学",
			"物理",
			"Математика",
			"Физика",
			"🎓",
			"🎨",
			"Room 5",
			"Room 6",
		]
		assert len({cs.skeleton(name) for name in names}) == len(names)

	@given(st.text())
	def test_any_text(self, text: str) -> None:
		assert not any(char.isspace() for char in cs.skeleton(text))
		assert cs.skeleton(f" {text} ") == cs.skeleton(text)


class TestPictures:
	def test_eight_of_sixty_four_and_spread(self) -> None:
		shown = [cs.fingerprint_pictures(f"{n:064x}") for n in range(40)]
		assert all(len(each) == 8 and all(0 <= picture < 64 for picture in each) for each in shown)
		assert len(set(shown)) == 40
		assert len({picture for each in shown for picture in each}) > 50

	def test_are_the_same_in_every_version(self) -> None:
		assert cs.fingerprint_pictures("0" * 64) == (29, 8, 35, 24, 51, 31, 12, 46)


class TestKnownHosts:
	def test_survive_a_restart(self, tmp_path: Path) -> None:
		known = cs.KnownHosts(tmp_path)
		assert known.get(HOST) is None
		first = known.remember(HOST, "Maths", "Ana", "10.0.0.1", port=9100)
		again = cs.KnownHosts(tmp_path)
		assert again.get(HOST) == first and again.all() == [first]
		later = again.remember(HOST, "Physics", "Ana")
		assert (later.last_address, later.title) == ("10.0.0.1", "Physics")

	@posix
	def test_private(self, tmp_path: Path) -> None:
		cs.KnownHosts(tmp_path).remember(HOST, "Maths", "Ana")
		assert mode(tmp_path / "known_hosts") == 0o700
		assert [mode(path) for path in (tmp_path / "known_hosts").iterdir()] == [0o600]

	def test_imitation(self, tmp_path: Path) -> None:
		known = cs.KnownHosts(tmp_path)
		ana = known.remember(HOST, "Maths", "Ana")
		assert known.imitated(OTHER, "M\u0430ths", "Ben") == ana
		assert known.imitated(OTHER, "Party", "ANA") == ana
		assert known.imitated(OTHER, "Ana", "Ben") == ana
		assert known.imitated(OTHER, "Party", "Ben") is None
		assert known.imitated(HOST, "Maths", "Ana") is None

	def test_an_accepted_host_that_takes_anothers_title_later(self, tmp_path: Path) -> None:
		known = cs.KnownHosts(tmp_path)
		ana = known.remember(HOST, "Maths", "Ana")
		known.remember(OTHER, "Party", "Ben")
		assert known.imitated(OTHER, "Maths", "Ben") == ana
		known.remember(OTHER, "Maths", "Ben")
		assert known.imitated(OTHER, "Maths", "Ben") is None

	def test_two_programs_do_not_lose_each_others(self, tmp_path: Path) -> None:
		one, two = cs.KnownHosts(tmp_path), cs.KnownHosts(tmp_path)
		one.remember(HOST, "Maths", "Ana")
		two.remember(OTHER, "Party", "Ben")
		assert {host.fingerprint for host in cs.KnownHosts(tmp_path).all()} == {HOST, OTHER}

	def test_bounded(self, tmp_path: Path) -> None:
		known = cs.KnownHosts(tmp_path)
		for number in range(260):
			known.remember(f"{number:064x}", f"T{number}", "x")
		assert len(known.all()) == len(list((tmp_path / "known_hosts").iterdir())) == 256
		assert known.get(f"{0:064x}") is None and known.get(f"{259:064x}") is not None

	def test_the_one_seen_last_is_first_though_the_clock_was_set_back(
		self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
	) -> None:
		known, right = cs.KnownHosts(tmp_path), time.time()
		for number in range(256):
			known.remember(f"{number:064x}", f"T{number}", "x")
		monkeypatch.setattr(time, "time", lambda: right - 3e8)
		known.remember(OTHER, "Physics", "Ana", "10.0.0.1")
		again = cs.KnownHosts(tmp_path)
		assert again.all()[0].fingerprint == OTHER and again.get(f"{0:064x}") is None

	@pytest.mark.parametrize("content", [b"", b"[]", b'{"title": 1}', b"\xff\xff", b"[" * 5000])
	def test_damaged_file_is_ignored(self, tmp_path: Path, content: bytes) -> None:
		cs.KnownHosts(tmp_path).remember(HOST, "Maths", "Ana")
		(tmp_path / "known_hosts" / f"{OTHER}.json").write_bytes(content)
		assert [host.fingerprint for host in cs.KnownHosts(tmp_path).all()] == [HOST]

	def test_a_fingerprint_is_never_a_path(self, tmp_path: Path) -> None:
		with pytest.raises(ValueError, match="fingerprint"):
			cs.KnownHosts(tmp_path).remember("../../x", "Maths", "Ana")


class TestSettings:
	def test_kept(self, tmp_path: Path) -> None:
		cs.Settings(tmp_path).set("name", "Zoë")
		assert cs.Settings(tmp_path).get("name", "") == "Zoë"
		assert cs.Settings(tmp_path).get("other", 5) == 5

	@pytest.mark.parametrize("content", [b"", b"nonsense", b"[1]", b'{"name": 7}', b"\xff"])
	def test_bad_file_means_defaults(self, tmp_path: Path, content: bytes) -> None:
		(tmp_path / "settings.json").write_bytes(content)
		settings = cs.Settings(tmp_path)
		assert settings.get("name", "Guest") == "Guest"
		settings.set("name", "Ana")
		assert cs.Settings(tmp_path).get("name", "Guest") == "Ana"

	def test_another_programs_setting_stays(self, tmp_path: Path) -> None:
		one, two = cs.Settings(tmp_path), cs.Settings(tmp_path)
		one.set("a", 1)
		two.set("b", 2)
		assert json.loads((tmp_path / "settings.json").read_text()) == {"a": 1, "b": 2}

	def test_what_a_full_disk_did_not_take_holds_and_is_kept_later(
		self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
	) -> None:
		settings = cs.Settings(tmp_path)
		settings.set("name", "Ana")
		with monkeypatch.context() as full:
			full.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
			settings.set("name", "Ben")
			settings.set("volume", 0.5)
		assert (settings.get("name", ""), settings.get("volume", 0.0)) == ("Ben", 0.5)
		assert caplog.text.count("could not be saved") == 1, "not each time"
		settings.set("mirror", True)
		kept = cs.Settings(tmp_path)
		assert (kept.get("name", ""), kept.get("volume", 0.0)) == ("Ben", 0.5)

	def test_a_disk_that_refuses_is_no_error(self, tmp_path: Path) -> None:
		(tmp_path / "file").write_text("")
		settings = cs.Settings(tmp_path / "file")
		settings.set("name", "Ana")
		assert settings.get("name", "") == "Ana"
		tokens = cs.ResumeTokens(tmp_path / "file")
		tokens.put(HOST, "m", "Ana", "token")
		assert tokens.get(HOST, "m", "Ana") == "token"
		known = cs.KnownHosts(tmp_path / "file")
		known.remember(HOST, "Maths", "Ana")
		assert known.get(HOST) is not None


class TestHostKey:
	def test_made_once_and_read(self, tmp_path: Path) -> None:
		path = tmp_path / "host.key"
		key = cs.make_host_key(path)
		assert len(bytes.fromhex(key)) == 32
		assert cs.load_host_key(path) == cs.make_host_key(path) == key
		assert os.name != "posix" or mode(path) == 0o600

	@pytest.mark.parametrize("content", [None, b"", b"abc", b"\xff" * 64, b"G" * 64])
	def test_none_or_damaged(self, tmp_path: Path, content: bytes | None) -> None:
		path = tmp_path / "host.key"
		if content is not None:
			path.write_bytes(content)
		with pytest.raises(cs.ConnectSphereError, match=r"host\.key"):
			cs.load_host_key(path)


def prove(client_pin: str, host_pin: str, fingerprint: str = HOST, seen: str = HOST) -> tuple[bool, bool]:
	"""Whether the host accepts the client and, if so, the client the host."""
	client, host = cs.PinProof(client_pin, seen, host=False), cs.PinProof(host_pin, fingerprint, host=True)
	assert len(client.message) == len(host.message) == 33
	mac = client.finish(host.message, b"lines")
	host.finish(client.message, b"lines")
	answer = host.confirm(mac)
	return answer is not None, answer is not None and client.confirm(answer) is not None


class TestPin:
	@pytest.mark.parametrize(
		("client", "host"), [("123456", "123456"), ("\uff11\uff12", "12"), ("Größe", "Gro\u0308ße")]
	)
	def test_same_pin(self, client: str, host: str) -> None:
		assert prove(client, host) == (True, True)

	def test_wrong_pin(self) -> None:
		assert prove("123456", "123457") == (False, False)

	def test_somebody_in_the_middle_has_another_certificate(self) -> None:
		assert prove("123456", "123456", fingerprint=HOST, seen=OTHER) == (False, False)

	def test_other_lines_were_seen(self) -> None:
		client, host = cs.PinProof("1", HOST, host=False), cs.PinProof("1", HOST, host=True)
		host.finish(client.message, b"one")
		assert host.confirm(client.finish(host.message, b"other")) is None

	def test_host_says_nothing_before_the_client_proved(self) -> None:
		client, host = cs.PinProof("1", HOST, host=False), cs.PinProof("2", HOST, host=True)
		mac = client.finish(host.message, b"")
		with pytest.raises(cs.PeerFault, match="pin"):
			host.confirm(mac)
		host.finish(client.message, b"")
		assert host.confirm(mac) is None

	def test_the_clients_own_mac_is_not_the_hosts(self) -> None:
		client, host = cs.PinProof("1", HOST, host=False), cs.PinProof("1", HOST, host=True)
		assert client.confirm(client.finish(host.message, b"")) is None

	def test_empty_pin(self) -> None:
		for host in (False, True):
			with pytest.raises(cs.UsageError):
				cs.PinProof(" ", HOST, host=host)

	def test_reflection_and_second_use(self) -> None:
		host = cs.PinProof("1", HOST, host=True)
		with pytest.raises(cs.PeerFault):
			host.finish(b"A" + host.message[1:], b"")
		with pytest.raises(cs.PeerFault):
			host.finish(cs.PinProof("1", HOST, host=False).message, b"")

	@given(st.binary(max_size=40) | st.binary(min_size=32, max_size=32).map(lambda rest: b"A" + rest))
	def test_hostile_message(self, message: bytes) -> None:
		host = cs.PinProof("1", HOST, host=True)
		try:
			host.finish(message, b"")
		except cs.PeerFault as fault:
			assert fault.kind == "pin"
		else:
			assert host.confirm(b"\0" * 32) is None

	def test_every_bit_of_the_confirmation_counts(self) -> None:
		client, host = cs.PinProof("1", HOST, host=False), cs.PinProof("1", HOST, host=True)
		mac = client.finish(host.message, b"")
		host.finish(client.message, b"")
		for bit in range(256):
			wrong = bytearray(mac)
			wrong[bit // 8] ^= 1 << bit % 8
			assert host.confirm(bytes(wrong)) is None
		assert [host.confirm(other) for other in (b"", mac + b"\0")] == [None, None] and host.confirm(mac)


class TestResumeTokens:
	def test_who_has_left_can_be_back_before_the_own_camera_is_closed(self, tmp_path: Path) -> None:
		"""Or is somebody else, with a number behind the name."""
		left = cs.MeetingController(cs.ClientOptions(), tmp_path)
		left.loop.start()
		left.do({"do": "leave"})
		assert left.gui_queue.get(timeout=10)["event"] == "left"
		back = cs.ResumeTokens(tmp_path)
		assert back._path == tmp_path / "resume" / "0.json"
		back.close()
		left.close()

	def test_survive_a_crash_and_are_replaced(self, tmp_path: Path) -> None:
		tokens = cs.ResumeTokens(tmp_path)
		tokens.put(HOST, "m1", "Ana", "one")
		tokens.put(HOST, "m1", "Ana", "two")
		tokens.close()
		again = cs.ResumeTokens(tmp_path)
		assert again.get(HOST, "m1", "Ana") == "two"
		for key in ((OTHER, "m1", "Ana"), (HOST, "m2", "Ana"), (HOST, "m1", "Ben")):
			assert again.get(*key) is None
		again.drop(HOST, "m1", "Ana")
		again.close()
		last = cs.ResumeTokens(tmp_path)
		assert last.get(HOST, "m1", "Ana") is None
		last.close()

	def test_a_program_beside_it_has_its_own(self, tmp_path: Path) -> None:
		one, two = cs.ResumeTokens(tmp_path), cs.ResumeTokens(tmp_path)
		one.put(HOST, "m", "Ana", "token")
		assert two.get(HOST, "m", "Ana") is None
		two.put(HOST, "m", "Ana", "other")
		one.close()
		two.close()
		again = cs.ResumeTokens(tmp_path)
		assert again.get(HOST, "m", "Ana") == "token"
		again.close()
		again.close()

	def test_bounded_and_private(self, tmp_path: Path) -> None:
		tokens = cs.ResumeTokens(tmp_path)
		for number in range(40):
			tokens.put(HOST, str(number), "Ana", "token")
		assert len(json.loads((tmp_path / "resume" / "0.json").read_text())) == 16
		assert tokens.get(HOST, "39", "Ana") == "token" and tokens.get(HOST, "0", "Ana") is None
		assert os.name != "posix" or {mode(path) for path in (tmp_path / "resume").iterdir()} == {0o600}
		tokens.close()


def test_no_file_is_ever_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
	settings = cs.Settings(tmp_path)
	settings.set("name", "Ana")

	def full(descriptor: int) -> None:
		raise OSError(28, "No space left on device")

	monkeypatch.setattr(os, "fsync", full)
	settings.set("name", "Ben")
	assert cs.Settings(tmp_path).get("name", "") == "Ana"
	assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def held(monkeypatch: pytest.MonkeyPatch, times: int, *names: str) -> list[str]:
	"""A virus scanner has files open while they are first used, and Windows refuses these; which that was."""
	refused: list[str] = []

	def refusing(name: str, act: Callable[..., Any]) -> Callable[..., Any]:
		def refuse(*args: Any, **options: Any) -> Any:
			if refused.count(name) < times:
				refused.append(name)
				raise PermissionError(13, "open elsewhere")
			return act(*args, **options)

		return refuse

	monkeypatch.setattr(cs, "PAUSES", (0.01, 0.01, 0.01))
	for name in names:
		monkeypatch.setattr(Path, name, refusing(name, getattr(Path, name)))
	return refused


def test_a_file_that_is_held_for_a_moment_is_waited_for(
	tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
	settings = cs.Settings(tmp_path)
	settings.set("name", "Ana")
	refused = held(monkeypatch, 3, "replace", "read_bytes")
	settings.set("name", "Ben")
	assert sorted(refused) == ["read_bytes"] * 3 + ["replace"] * 3
	assert cs.Settings(tmp_path).get("name", "") == "Ben"


def test_keys_are_made_though_the_temporary_file_is_held(
	tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""Or nobody can host on that computer, or the host has another key each time."""
	held(monkeypatch, 99, "unlink")
	assert cs.load_identity(tmp_path) == cs.load_identity(tmp_path)
	monkeypatch.setenv("CONNECTSPHERE_HOME", str(tmp_path))
	assert cs.make_host_key() == cs.make_host_key()


def test_a_received_file_is_kept_though_it_is_held_for_a_moment(
	tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""On a stick, whose file system has no hard links."""
	part = tmp_path / "part"
	part.write_text("work")
	held(monkeypatch, 99, "hardlink_to")
	held(monkeypatch, 3, "replace")
	assert cs.give_free_name(part, tmp_path, "work.txt").read_text() == "work"
	assert [path.name for path in tmp_path.iterdir()] == ["work.txt"]


def test_the_faster_program_wins(tmp_path: Path) -> None:
	for content in (b"first", b"second"):
		cs.write_private(tmp_path / "file", content, once=True)
	assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"first")]


def test_sorted_by_last_seen(tmp_path: Path) -> None:
	known = cs.KnownHosts(tmp_path)
	for number in range(3):
		known.remember(f"{number:064x}", "T", "x")
	assert all(one.last_seen >= two.last_seen for one, two in pairwise(known.all()))
