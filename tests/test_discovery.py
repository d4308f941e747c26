"""DISCOVERY: the pure parts, and two programs that meet on loopback."""

from __future__ import annotations

import itertools
import json
import logging
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import ifaddr
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from waiting import best_of

import connectsphere as cs

FIELDS: cs.Json = {
	"meeting": "m1",
	"title": "Maths",
	"host": "Ana",
	"port": 9000,
	"people": 3,
	"pin": False,
	"locked": False,
	"fingerprint": "a" * 64,
	"version": cs.PROTOCOL,
}
NONCE = "0123456789abcdef" * 2
HOME = "127.83.12.7"
linux = pytest.mark.skipif(sys.platform != "linux", reason="loopback broadcasts on Linux only")


class TestWire:
	def test_question(self) -> None:
		data = cs.discovery_question(bytes.fromhex(NONCE), 7)
		assert len(data) == 512
		assert cs.parse_question(data) == (NONCE, 7)

	def test_short_question_is_none(self) -> None:
		data = cs.discovery_question(bytes.fromhex(NONCE), 1)
		with pytest.raises(cs.PeerFault):
			cs.parse_question(data[:511])

	def test_answer_and_beacon(self) -> None:
		assert cs.parse_answer(cs.discovery_answer(NONCE, FIELDS, 512)) == (NONCE, FIELDS)
		assert cs.parse_answer(cs.discovery_answer("", FIELDS, 512))[0] is None

	@given(
		st.text(max_size=64).map(partial(cs.clean_name, limit=64)), st.text(max_size=32).map(cs.clean_name)
	)
	def test_never_longer_than_the_question(self, title: str, host: str) -> None:
		data = cs.discovery_answer(NONCE, FIELDS | {"title": title, "host": host}, 512)
		assert len(data) <= 512
		fields = cs.parse_answer(data)[1]
		assert title.encode("utf-8", "replace").decode().startswith(fields["title"])

	@given(st.binary(max_size=1600) | st.binary(min_size=512, max_size=600))
	def test_hostile_bytes(self, data: bytes) -> None:
		for parse in (cs.parse_question, cs.parse_answer):
			with pytest.raises(cs.PeerFault):
				parse(data)

	@pytest.mark.parametrize("data", [b"[" * 1400, b'{"a":' * 250, b"NaN".ljust(512), b"9" * 1400])
	def test_hostile_json(self, data: bytes) -> None:
		for parse in (cs.parse_question, cs.parse_answer):
			with pytest.raises(cs.PeerFault):
				parse(data)

	def heard(self, fields: Mapping[str, Any]) -> cs.MeetingAd:
		"""The ad that a client makes of an answer with these fields."""
		answer = {"connectsphere": "answer", "nonce": NONCE, **fields}
		return cs.MeetingAd.of(cs.parse_answer(json.dumps(answer, allow_nan=False).encode())[1], "10.0.0.1")

	values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())

	@given(st.sampled_from(sorted(FIELDS)), values)
	def test_hostile_fields(self, key: str, value: Any) -> None:
		assume(key != "version" or type(value) is not int)  # another version is another matter
		try:
			ad = self.heard(FIELDS | {key: value})
		except (cs.PeerFault, ValueError):  # what is no answer, and what cannot be said as one
			return
		assert 1 <= ad.port <= 65_535 and ad.people >= 0 and len(ad.fingerprint) == 64
		assert 0 < len(ad.title) <= cs.MAX_TITLE and 0 < len(ad.host) <= cs.MAX_NAME
		assert ad.title.isprintable() and ad.meeting.isprintable()

	@pytest.mark.parametrize("key", sorted(FIELDS))
	def test_missing_field(self, key: str) -> None:
		with pytest.raises(cs.PeerFault):
			self.heard({k: v for k, v in FIELDS.items() if k != key})


class TestAnswerLimit:
	def test_one_answer_a_nonce(self) -> None:
		limit = cs.AnswerLimit()
		assert limit.admit("a", "10.0.0.1", 0.0)
		assert not limit.admit("a", "10.0.0.1", 0.1)
		assert not limit.admit("a", "10.0.0.2", 100.0)

	def test_five_a_second_and_address(self) -> None:
		limit = cs.AnswerLimit()
		admitted = [at for at in range(1000) if limit.admit(str(at), "10.0.0.1", at / 100)]
		assert 50 <= len(admitted) <= 55
		assert limit.admit("other", "10.0.0.2", 9.99)

	def test_three_hundred_a_second_in_all(self) -> None:
		limit = cs.AnswerLimit()
		admitted = [n for n in range(2000) if limit.admit(str(n), f"10.0.{n // 250}.{n % 250}", 1.0)]
		assert len(admitted) == 300
		assert limit.admit("later", "10.1.0.1", 1.1)

	def test_a_flood_from_one_address_leaves_room_for_the_others(self) -> None:
		limit = cs.AnswerLimit()
		for n in range(2000):
			limit.admit(str(n), "10.0.0.66", 1.0)
		assert limit.admit("x", "10.0.0.1", 1.0)

	def test_memory_is_bounded(self) -> None:
		limit = cs.AnswerLimit()
		for n in range(5000):
			limit.admit(str(n), str(n), float(n))
		assert len(limit._nonces._each) <= 1024


class TestMeetingList:
	def test_expires(self) -> None:
		heard = cs.MeetingList()
		heard.note(FIELDS, "10.0.0.1", 0.0)
		assert [ad.title for ad in heard.meetings(5.9)] == ["Maths"]
		assert heard.meetings(6.1) == []

	def test_newest_fields_win(self) -> None:
		heard = cs.MeetingList()
		heard.note(FIELDS, "10.0.0.1", 0.0)
		heard.note(FIELDS | {"people": 9}, "10.0.0.1", 1.0)
		assert [ad.people for ad in heard.meetings(1.0)] == [9]

	def test_two_addresses_of_a_host_are_one_meeting_until_one_is_silent(self) -> None:
		heard = cs.MeetingList()
		heard.note(FIELDS, "10.0.0.1", 0.0)
		heard.note(FIELDS, "10.1.0.1", 0.1)
		assert [ad.address for ad in heard.meetings(0.1)] == ["10.0.0.1"]
		heard.note(FIELDS, "10.1.0.1", 4.0)
		assert [ad.address for ad in heard.meetings(4.0)] == ["10.1.0.1"]

	def test_the_same_meeting_id_of_another_host_is_another_meeting(self) -> None:
		heard = cs.MeetingList()
		heard.note(FIELDS, "10.0.0.1", 0.0)
		heard.note(FIELDS | {"fingerprint": "b" * 64}, "10.0.0.2", 0.0)
		assert len(heard.meetings(0.0)) == 2

	def test_what_one_computer_invents_hides_nobodys_meeting(self) -> None:
		heard = cs.MeetingList()
		for n in range(8):
			heard.note(FIELDS | {"meeting": str(n)}, "10.0.0.66", 0.0)
		with pytest.raises(cs.PeerFault, match="many"):
			heard.note(FIELDS | {"meeting": "8"}, "10.0.0.66", 0.0)
		heard.note(FIELDS, "10.0.0.1", 0.0)
		assert heard.meetings(0.0)[-1].address == "10.0.0.1"

	def test_a_place_where_another_host_answered_gives_way_to_the_true_one(self) -> None:
		heard = cs.MeetingList()
		ad = cs.MeetingAd.of(FIELDS, "10.0.0.66")
		heard.note(FIELDS, "10.0.0.66", 0.0)
		heard.note(FIELDS, "10.0.0.1", 0.0)
		assert [ad.address for ad in heard.meetings(0.0)] == ["10.0.0.66"], "who was heard first"
		heard.distrust((ad.address, ad.port), ad.fingerprint, 1.0)
		heard.note(FIELDS, "10.0.0.1", 1.0)
		with pytest.raises(cs.PeerFault, match="false"):
			heard.note(FIELDS, "10.0.0.66", 1.1)
		assert [ad.address for ad in heard.meetings(1.1)] == ["10.0.0.1"]
		heard.forget(62.0)
		heard.note(FIELDS, "10.0.0.66", 62.0)

	def test_at_most_32(self) -> None:
		heard = cs.MeetingList()
		for n in range(32):
			heard.note(FIELDS | {"meeting": str(n)}, f"10.0.0.{66 + n // 8}", 0.0)
		with pytest.raises(cs.PeerFault, match="many"):
			heard.note(FIELDS, "10.0.0.1", 0.0)
		heard.forget(7.0)
		heard.note(FIELDS, "10.0.0.1", 7.0)
		assert len(heard.meetings(7.0)) == 1

	def test_another_version_needs_no_fields(self) -> None:
		heard = cs.MeetingList()
		heard.note({"version": cs.PROTOCOL + 1}, "10.0.0.1", 0.0)
		assert heard.meetings(0.0) == []
		assert heard.other_versions(0.0) == [("10.0.0.1", cs.PROTOCOL + 1)]
		assert heard.other_versions(7.0) == []
		for n in range(100):
			heard.note({"version": 9}, f"10.0.1.{n}", 0.0)
		assert len(heard.other_versions(0.0)) == 32


def raises(error: Exception) -> NoReturn:
	raise error


class TestInterfaces:
	def test_own_are_listed(self) -> None:
		loopback = next(each for each in cs.interfaces() if each.loopback)
		assert (loopback.address, loopback.prefix, loopback.broadcast) == ("127.0.0.1", 8, "127.255.255.255")

	def test_of_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
		"""By the adapter's description; without a cable it keeps an address that cannot be used."""
		ip = ifaddr.IP
		adapters = [
			ifaddr.Adapter(
				"{1}", "Wi-Fi 6 AX200", [ip(("fe80::1", 0, 4), 64, "WLAN"), ip("10.9.8.7", 20, "WLAN")]
			),
			ifaddr.Adapter("{2}", "Bluetooth Device", [ip("169.254.7.7", 16, "Bluetooth")]),
			ifaddr.Adapter("{3}", "Software Loopback Interface 1", [ip("127.0.0.1", 8, "Loopback")]),
		]
		monkeypatch.setattr(sys, "platform", "win32")
		monkeypatch.setattr(cs, "is_own_address", lambda address: not address.startswith("169."))
		monkeypatch.setattr(cs.ifaddr, "get_adapters", lambda: adapters)
		assert cs.interfaces() == [
			cs.Interface("Software Loopback Interface 1", "127.0.0.1", 8),
			cs.Interface("Wi-Fi 6 AX200", "10.9.8.7", 20),
		]

	def test_one_that_is_gone_meanwhile_or_cannot_be_listed(self, monkeypatch: pytest.MonkeyPatch) -> None:
		gone = ifaddr.Adapter("d2gone", "d2gone", [ifaddr.IP("10.9.8.7", 20, "d2gone")])
		monkeypatch.setattr(cs.ifaddr, "get_adapters", lambda: [gone])
		assert cs.interfaces() == []
		monkeypatch.setattr(cs.ifaddr, "get_adapters", partial(raises, OSError(24, "too many")))
		assert cs.interfaces() == []

	def test_only_the_bound_one(self) -> None:
		assert [each.address for each in cs.interfaces_for("127.0.0.1")] == ["127.0.0.1"]
		assert cs.interfaces_for("127.9.9.9")[0].broadcast == "127.255.255.255"
		assert cs.interfaces_for("203.0.113.9")[0].broadcasts == ["255.255.255.255"]

	def test_bind_is_checked(self) -> None:
		assert [cs.own_address(bind) for bind in (None, "0.0.0.0", "10.0.0.1")] == [None, None, "10.0.0.1"]
		with pytest.raises(cs.UsageError, match="nowhere"):
			cs.MeetingFinder("nowhere")

	def test_point_to_point_has_no_broadcast(self) -> None:
		each = cs.Interface("tun0", "10.8.0.2", 32)
		assert each.broadcasts == ["255.255.255.255"]


class TestScanTargets:
	lan = cs.Interface("eth0", "10.0.0.9", 24)

	def test_known_first_then_gateway_then_the_subnet_once(self) -> None:
		targets = cs.scan_targets([self.lan], [("10.0.0.77", 9100), ("10.5.0.1", 9000)], 9000)
		assert targets[0] == ("10.0.0.9", "10.0.0.77", 9100)
		assert targets[1] == ("", "10.5.0.1", 9000)
		assert targets[2] == ("10.0.0.9", "10.0.0.1", 9000)
		addresses = [address for _, address, port in targets if port == 9000 and address != "10.5.0.1"]
		assert len(addresses) == len(set(addresses)) == 253
		assert "10.0.0.9" not in addresses and "10.0.0.255" not in addresses

	def test_random_order(self) -> None:
		assert cs.scan_targets([self.lan], [], 9000) != cs.scan_targets([self.lan], [], 9000)

	def test_at_most_1024_small_nets_first(self) -> None:
		big = cs.Interface("eth1", "172.17.0.1", 16)
		targets = cs.scan_targets([big, self.lan], [], 9000)
		assert len(targets) == 1024
		assert len([own for own, _, _ in targets if own == self.lan.address]) == 253

	def test_never_loopback(self) -> None:
		loopback = cs.Interface("lo", "127.0.0.1", 8)
		assert cs.scan_targets([loopback], [("127.0.0.1", 9000)], 9000) == []

	@pytest.mark.parametrize(
		"name", ["tun0", "wg0", "docker0", "br-1a2b", "Cisco AnyConnect", "VMware Adapter"]
	)
	def test_never_a_vpn_or_a_container(self, name: str) -> None:
		for prefix in (16, 24):
			targets = cs.scan_targets([cs.Interface(name, "172.20.0.9", prefix), self.lan], [], 9000)
			assert {own for own, _, _ in targets} == {self.lan.address}


class TestPace:
	"""How often a finder asks and scans."""

	@pytest.fixture
	def scans(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
		"""When each scan began."""
		began: list[float] = []

		class Scan:
			def __init__(self, *_: object) -> None:
				began.append(0.0)

			def step(self, now: float) -> float | None:
				began[-1] = began[-1] or now
				return now + 8.0 if now < began[-1] + 8.0 else None

		monkeypatch.setattr(cs, "_PortScan", Scan)
		return began

	def played(self, finder: cs.MeetingFinder, until: float, at: float = 100.0) -> None:
		"""Its turns from one time to another, seconds."""
		while at < until:
			due = finder._on_turn(at)
			assert at < due
			at = due

	def test_who_hears_nobody_scans_ever_more_rarely(self, scans: list[float]) -> None:
		finder = cs.MeetingFinder(HOME)
		finder._ask_everywhere = lambda: None  # type: ignore[method-assign]
		finder._begin(100.0)
		self.played(finder, 100.0 + 3600)
		pauses = [then - first for first, then in itertools.pairwise([100.0, *scans])]
		assert pauses[:5] == pytest.approx([1.5, 38, 98, 488, 488], abs=2.1)
		assert len(scans) <= 10, "an hour"
		finder.close()

	def test_who_heard_somebody_scans_soon_after_that_ended(self, scans: list[float]) -> None:
		finder = cs.MeetingFinder(HOME)
		finder._ask_everywhere = lambda: None  # type: ignore[method-assign]
		finder._begin(100.0)
		self.played(finder, 1500.0)
		before = len(scans)
		finder.other_versions = lambda: [("10.0.0.1", 1)]  # type: ignore[method-assign]
		self.played(finder, 5000.0, 1500.0)
		assert len(scans) == before
		del finder.other_versions
		self.played(finder, 5000.0 + 35.0, 5000.0)
		assert len(scans) == before + 1
		finder.close()

	def test_nobody_is_asked_while_none_is_wanted(self, scans: list[float]) -> None:
		wanted, asked = True, list[bool]()
		finder = cs.MeetingFinder(HOME, wanted=lambda: wanted)
		finder._ask_everywhere = lambda: asked.append(wanted)  # type: ignore[method-assign]
		finder._begin(100.0)
		self.played(finder, 111.0)
		assert asked and scans
		wanted = False
		before = len(scans)
		self.played(finder, 4000.0, 111.0)
		assert all(asked) and len(scans) == before
		wanted, count = True, len(asked)
		self.played(finder, 4002.0, 4000.0)
		assert len(asked) >= count + 2 and len(scans) == before + 1, "as at the beginning"
		finder.close()


class TestPortScan:
	def test_fifty_at_once_and_every_open_one_is_told(self) -> None:
		selector = selectors.DefaultSelector()
		opened: list[str] = []
		most = 0

		def watch(tried: socket.socket, write: int, ready: Callable[[int], None]) -> None:
			nonlocal most
			selector.register(tried, selectors.EVENT_WRITE, ready)
			most = max(most, len(selector.get_map()))

		def drop(tried: socket.socket) -> None:
			selector.unregister(tried)
			tried.close()

		with socket.create_server((HOME, 0)) as listener, selector:
			port = listener.getsockname()[1]
			targets = [(HOME, f"127.83.13.{n}", port) for n in range(120)] + [(HOME, HOME, port)]
			scan = cs._PortScan(SimpleNamespace(watch=watch, drop=drop), targets, opened.append)
			while scan.step(time.monotonic()) is not None:
				for key, _ in selector.select(0.1):
					key.data(0)
		assert opened == [HOME]
		assert most == 50

	def test_what_never_answers_is_given_up(self) -> None:
		dropped: list[socket.socket] = []
		loop = SimpleNamespace(watch=lambda *_: None, drop=dropped.append)
		scan = cs._PortScan(loop, [(HOME, HOME, 9)] * 60, lambda _: None)
		assert scan.step(100.0) == pytest.approx(100.4)
		assert scan.step(100.3) == pytest.approx(100.4)
		assert len(dropped) == 0
		scan.step(100.5)
		assert len(dropped) == 50
		assert scan.step(101.0) is None
		for tried in dropped:
			tried.close()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
	"""Where is asked, in place of the usual port."""
	with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
		free.bind((HOME, 0))
		monkeypatch.setattr(cs, "DISCOVERY_PORT", port := int(free.getsockname()[1]))
	return port


Run = Callable[..., Any]


@pytest.fixture
def run(port: int) -> Iterator[Run]:
	"""Makes and starts a responder or finder bound to loopback; all are closed at the end."""
	started: list[cs.DiscoveryResponder | cs.MeetingFinder] = []

	def start(kind: type[Any], *arguments: Any, bind: str = HOME, **options: Any) -> Any:
		made = kind(*arguments, bind=bind, **{"counters": cs.Counters(), **options})
		started.append(made)
		made.start()
		return made

	before = set(threading.enumerate())
	yield start
	for each in started:
		each.close(2.0)
	assert set(threading.enumerate()) <= before


def meeting(title: str, **fields: Any) -> Callable[[], cs.Json]:
	return lambda: FIELDS | {"meeting": title, "title": title} | fields


def exchange(port: int, question: bytes, wait: float = 0.3) -> list[bytes]:
	"""What comes back for `question`, sent twice to the bound address."""
	with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
		asker.bind((HOME, 0))
		asker.settimeout(wait)
		answers = []
		for _ in range(2):
			asker.sendto(question, (HOME, port))
		try:
			while True:
				answers.append(asker.recv(2048))
		except TimeoutError:
			return answers


class TestOnLoopback:
	def test_found_at_once(self, run: Run) -> None:
		run(cs.DiscoveryResponder, meeting("Maths", people=4))

		def at_once() -> bool:
			finder = run(cs.MeetingFinder)
			began = time.monotonic()
			assert finder.wait(bool, 2.0)
			took = time.monotonic() - began
			(ad,) = finder.meetings()
			assert (ad.title, ad.address, ad.people, ad.version) == ("Maths", HOME, 4, cs.PROTOCOL)
			return took < 0.2

		assert best_of(3, at_once)

	@linux
	def test_several_programs_on_one_address(self, run: Run) -> None:
		for title in ("One", "Two", "Three"):
			run(cs.DiscoveryResponder, meeting(title))
		finders = [run(cs.MeetingFinder) for _ in range(2)]
		for finder in finders:
			assert finder.wait(lambda ads: {ad.title for ad in ads} == {"One", "Two", "Three"}, 2.0)

	@linux
	def test_another_loopback_address_is_another_world(self, run: Run) -> None:
		run(cs.DiscoveryResponder, meeting("Maths"), bind="127.83.12.8")
		finder = run(cs.MeetingFinder)
		assert finder.wait_settled(5.0)
		assert finder.meetings() == []

	def test_another_version_is_told(self, run: Run, tmp_path: Path) -> None:
		run(cs.DiscoveryResponder, lambda: {"version": 99})
		finder = run(cs.MeetingFinder)
		assert finder.wait(lambda ads: bool(finder.other_versions()), 2.0)
		assert finder.other_versions() == [(HOME, 99)]
		assert finder.meetings() == []
		with pytest.raises(cs.Refused) as told:
			cs.find_meeting(finder, cs.KnownHosts(tmp_path), has_pin=False)
		assert told.value.told == {"code": "other_version", "versions": [99]}

	def test_settles(self, run: Run) -> None:
		began = time.monotonic()
		assert run(cs.MeetingFinder).wait_settled(5.0)
		assert time.monotonic() - began >= 1.4

	@linux
	def test_a_beacon_shows_a_meeting_between_two_questions(self, run: Run) -> None:
		finder = run(cs.MeetingFinder)
		assert finder.wait_settled(5.0)  # the next question goes out at 2.75 s
		began = time.monotonic()
		run(cs.DiscoveryResponder, meeting("Late"))
		assert finder.wait(bool, 1.0)
		assert time.monotonic() - began < 0.9

	def test_a_closed_port_is_a_warning_and_tried_again(
		self, run: Run, port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
	) -> None:
		monkeypatch.setattr(cs, "BEACON_EVERY", 0.05)
		with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
			taken.bind((HOME, port))
			with caplog.at_level(logging.WARNING, "connectsphere"):
				run(cs.DiscoveryResponder, meeting("Maths"))
			assert len([record for record in caplog.records if "joined by address" in record.message]) == 1
		assert run(cs.MeetingFinder).wait(bool, 5.0)

	def test_one_answer_a_nonce_to_its_source(self, run: Run, port: int) -> None:
		run(cs.DiscoveryResponder, meeting("Maths"))
		question = cs.discovery_question(bytes(16), 7)
		(answer,) = exchange(port, question)
		nonce, fields = cs.parse_answer(answer)
		assert (nonce, fields["title"]) == (bytes(16).hex(), "Maths")
		assert len(answer) <= len(question)
		assert exchange(port, question, 0.1) == []

	def test_rubbish_is_not_answered(self, run: Run, port: int) -> None:
		counters = cs.Counters()
		run(cs.DiscoveryResponder, meeting("Maths"), counters=counters)
		question = cs.discovery_question(bytes(16), 1)
		for data in (b"", question[:511], b"{" * 600, question.replace(b"question", b"quest1on")):
			assert exchange(port, data, 0.05) == []
		assert counters.snapshot() == {"bad_question": 2, "bad_json": 2}
		assert len(exchange(port, question)) == 1

	def test_a_failing_description_does_not_end_it(
		self, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
	) -> None:
		monkeypatch.setattr(cs, "BEACON_EVERY", 0.05)
		calls = iter([ValueError("no meeting yet")])

		def describe() -> cs.Json:
			for error in calls:
				raise error
			return FIELDS

		run(cs.DiscoveryResponder, describe)
		assert run(cs.MeetingFinder).wait(bool, 5.0)
		assert "no meeting yet" in caplog.text

	def test_an_answer_nobody_asked_for_is_dropped(self, run: Run) -> None:
		counters = cs.Counters()
		finder = run(cs.MeetingFinder, counters=counters)
		assert finder.wait(lambda ads: HOME in finder._mouths, 2.0) or HOME in finder._mouths
		with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as liar:
			liar.bind((HOME, 0))
			where = finder._mouths[HOME].getsockname()
			for data in (cs.discovery_answer(NONCE, FIELDS, 512), cs.discovery_answer("", FIELDS, 512), b"x"):
				liar.sendto(data, where)
		assert finder.wait(lambda ads: sum(counters.snapshot().values()) == 3, 3.0)
		assert finder.meetings() == []
		assert counters.snapshot() == {"discovery_unasked": 2, "bad_json": 1}

	def test_closing_twice_and_unstarted(self, port: int) -> None:
		for started in (True, False):
			for each in (
				cs.MeetingFinder(HOME),
				cs.DiscoveryResponder(meeting("x"), HOME, cs.Counters()),
			):
				if started:
					each.start()
				began = time.monotonic()
				each.close()
				each.close()
				assert time.monotonic() - began < 0.9
				assert not each._worker._thread.is_alive()
