"""A host that is not one's friend: what it says reaches no terminal, ends no program and fills no memory."""

from __future__ import annotations

import copy
import json
import random
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import wire_examples
from false_hosts import FalseHost
from headless import Headless
from meetings import LOOPBACK

import connectsphere as cs

QUIET = ("--camera", "none", "--mic", "none", "--speaker", "none")
FIRST = sorted(cs.FIRST_MESSAGES)
ESC = "\x1b]0;pwned\x07\x1b[2J\x9b2J\u202e"


class Scripted(FalseHost):
	"""Welcomes whoever says hello, with some members changed, then says `lines`."""

	def __init__(self, home: Path, lines: list[cs.Json], **welcome: Any) -> None:
		self._said = [{"type": "welcome", **wire_examples.SERVER["welcome"], **welcome}, *lines]
		super().__init__(home)

	def serve(self, near: ssl.SSLSocket) -> None:
		near.recv(1 << 16)
		for message in self._said:
			near.sendall(json.dumps(message).encode() + b"\n")
			time.sleep(0.05)
		near.settimeout(10)
		while near.recv(1 << 16):
			pass


@pytest.fixture
def hostile(tmp_path: Path, meeting: Callable[..., Headless]) -> Iterator[Callable[..., Headless]]:
	"""A client of a host that says this; without a meeting of its own."""
	hosts: list[Scripted] = []

	def start(*lines: cs.Json, **welcome: Any) -> Headless:
		hosts.append(Scripted(tmp_path / f"host-{len(hosts)}", list(lines), **welcome))
		(tmp_path / f"host-{len(hosts)}").mkdir(exist_ok=True)
		return meeting("--join", f"{LOOPBACK}:{hosts[-1].port}", "--name", "Ana", *QUIET)

	(tmp_path / "host-0").mkdir()
	yield start
	for host in hosts:
		host.close()


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> tuple[cs.CommandConnection, list[str]]:
	"""One that was welcomed, and what it passes on."""
	passed: list[str] = []
	wire = SimpleNamespace(closed=False, fingerprint="ab" * 32, begin=lambda: None)
	monkeypatch.setattr(cs, "connect_link", lambda *_: wire)
	link = cs.CommandConnection(
		cast(Any, SimpleNamespace(counters=cs.Counters(), later=lambda *_: None)), cs.ClientOptions(),
		lambda _: ("", False), lambda _: True,
		lambda message: passed.append(message["type"]), lambda _: None, 1, 1.0,
	)  # fmt: skip
	link.welcomed = True
	return link, passed


@pytest.mark.parametrize("kind", sorted(cs.SERVER_MESSAGES))
def test_what_belongs_before_the_welcome_is_a_fault_after_it(
	connection: tuple[cs.CommandConnection, list[str]], kind: str
) -> None:
	link, passed = connection
	line = cs.encode_line({"type": kind, **wire_examples.SERVER[kind]})
	if kind in cs.FIRST_MESSAGES:
		with pytest.raises(cs.PeerFault, match="unexpected"):
			link._on_bytes(line)
	else:
		link._on_bytes(line)
	assert passed == ([] if kind in cs.FIRST_MESSAGES else [kind])


def test_a_second_welcome_is_no_bug(hostile: Callable[..., Headless]) -> None:
	"""The link ends, and the program tries again."""
	one = hostile({"type": "welcome", **wire_examples.SERVER["welcome"]})
	one.wait("joined")
	one.wait("reconnecting")
	assert len(one.seen("joined")) <= 1


def test_nothing_controls_a_terminal(
	hostile: Callable[..., Headless], capfd: pytest.CaptureFixture[str]
) -> None:
	"""Standard output is JSON that says the same, of printable signs alone."""
	line = {**wire_examples.SERVER["chat"], "type": "chat", "n": 9_999, "text": f"hi{ESC}"}
	one = hostile(line)
	said = one.wait("chat", n=9_999)
	assert said["text"] == f"hi{ESC}"


@pytest.mark.parametrize(
	"text", [ESC, "a\nb", "\u2028", "👨\u200d👩\u200d👧", "\ud83d", "é", "\U000e0041", "\x00"]
)
def test_what_is_printed_is_printable_and_the_same_json(text: str) -> None:
	said = cs.harmless(json.dumps({"text": text}, ensure_ascii=False))
	assert said.isprintable() and json.loads(said) == {"text": text}
	assert cs.harmless(text).isprintable()


@pytest.mark.parametrize("char", "\0\n\x1b\x7f\x9b\u061c\u200e\u2028\u202e\u2066")
def test_names_of_a_host_are_as_clean_as_a_servers(char: str) -> None:
	"""Whatever a server cleans a name to is taken; what none would give is the peer's fault."""
	user = {**wire_examples.USER, "name": f"Eve{char}l"}
	with pytest.raises(cs.PeerFault):
		cs.check_message({"type": "join", "user": user}, cs.SERVER_MESSAGES)
	user["name"] = cs.clean_name(user["name"])
	cs.check_message({"type": "join", "user": user}, cs.SERVER_MESSAGES)
	hello = {"type": "hello", "v": 1, "name": f"Eve{char}l"}
	assert cs.check_message(hello, cs.CLIENT_MESSAGES)["name"] == hello["name"]


@pytest.mark.parametrize("char", "\0\x1b\x9b\u202e\u2066")
@pytest.mark.parametrize(
	("kind", "path"),
	[("question", ["question"]), ("question", ["answers", 0]), ("asks", ["address"]),
	("moved", ["server", "address"]), ("reaction", ["emoji"])],
)  # fmt: skip
def test_what_a_sentence_shows_of_a_host_controls_nothing(kind: str, path: list[Any], char: str) -> None:
	message = {"type": kind, **copy.deepcopy(wire_examples.SERVER[kind])}
	part: Any = message
	for key in path[:-1]:
		part = part[key]
	part[path[-1]] = f"a{char}b"
	with pytest.raises(cs.PeerFault):
		cs.check_message(message, cs.SERVER_MESSAGES)
	part[path[-1]] = cs.clean_text(f"a{char}\n\tb\u200dc")
	cs.check_message(message, cs.SERVER_MESSAGES)


def test_what_a_host_may_make_one_remember_has_a_bound() -> None:
	"""Who waits, and who was seen as host."""
	state = cs.StateManager()
	state.apply({"type": "welcome", **wire_examples.SERVER["welcome"]})
	for n in range(state.MOST_ASKS):
		state.apply({"type": "asks", **wire_examples.SERVER["asks"], "ask": n})
	with pytest.raises(cs.PeerFault):
		state.apply({"type": "asks", **wire_examples.SERVER["asks"], "ask": n + 1})
	for n in range(2 * cs.MAX_PEOPLE):
		state.apply({"type": "state", "user": {**wire_examples.HOST, "name": f"H{n}"}})
	assert len(state.current.hosts) <= cs.MAX_PEOPLE and state.current.hosts >= {f"H{n}"}


@pytest.mark.parametrize("width", range(6, 60))
def test_a_click_opens_what_is_shown(width: int) -> None:
	"""Links that begin alike, wherever a narrow window cuts them."""
	text = "https://school.example.evil.net/login https://school.example https://school.example/🦄/x (https://b.c)"
	links = cs.LINK.findall(text)
	lines = [text[at : at + width].replace("🦄", "   ") for at in range(0, len(text), width)]
	for at, line in enumerate(lines):
		for found in cs.LINK.finditer(line):
			target = cs.link_at(found, links, lines[at + 1 :])
			shown = line[found.start() :] + "".join(lines[at + 1 :])
			assert shown.startswith(target)
			assert target == found[0] or (found.end() == len(line) and target in links)


@pytest.mark.parametrize("at", [3.1e10, 2.0**40, -1.0])
def test_no_line_is_of_a_time_that_no_clock_can_show(at: float) -> None:
	"""Windows' local time ends with the year 3000."""
	with pytest.raises(cs.PeerFault):
		cs.check_message({"type": "chat", **wire_examples.SERVER["chat"], "at": at}, cs.SERVER_MESSAGES)


# -- any message in any order

ODD = (
	*(0, 1, -1, 7, 8, 2**31, 2**32 - 1, 2**53, 0.0, 1e-9, 3e10, True, False, None, [], {}, [1]),
	*("", "x", "Ana", "Ms Lee", "all", "member", "host", "co-host", "open", "locked", "sheet", "work"),
	*("a" * 256, "🦄" * 64, "{x} %s {0.__class__}", "00ff", "ab" * 16, "ab" * 32),
	*(["mic"], ["camera", "chat"], {"mic": ["Ana"]}, {"0": 5, "3": 60}),
)


def mutated(dice: random.Random) -> cs.Json:
	"""A message that WIRE lets pass, of a kind and with members by chance."""
	while True:
		kind = dice.choice(sorted(cs.SERVER_MESSAGES.keys() - cs.FIRST_MESSAGES | {"welcome"}))
		message: cs.Json = {"type": kind, **copy.deepcopy(wire_examples.SERVER[kind])}
		for _ in range(dice.randrange(4)):
			part: Any = message
			while isinstance(part, dict) and part and dice.random() < 0.7:
				key = dice.choice(sorted(part))
				inner = part[key]
				inner = dice.choice(inner) if isinstance(inner, list) and inner else inner
				if isinstance(inner, dict) and inner:
					part = inner
				else:
					part[key] = copy.deepcopy(dice.choice(ODD))
					break
		try:
			return cs.check_message(json.loads(json.dumps(message)), cs.SERVER_MESSAGES)
		except cs.PeerFault:
			continue


@pytest.mark.parametrize("seed", range(8))
def test_no_order_of_messages_is_a_bug_of_a_participant(seed: int) -> None:
	"""The state, its events and the sentences of refusals: a fault of the peer, or nothing."""
	dice, state = random.Random(seed), cs.StateManager()
	state.apply({"type": "welcome", **wire_examples.SERVER["welcome"]})
	for _ in range(600):
		message = mutated(dice)
		try:
			for event in state.apply(message):
				cs.harmless(json.dumps(event))
				str(event.get("reason", ""))
			if "code" in message:
				str(cs.refusal(message).event["reason"])
		except cs.PeerFault:
			continue
		shot = state.current
		assert len(shot.chat) <= state.MOST_LINES and len(shot.files) <= state.MOST_FILES
		assert len(shot.people) <= 2 * cs.MAX_PEOPLE + 1
		shot.may("mic")
		shot.wants("camera")
		shot.person(shot.presenter)
		assert time.strftime("%Y", time.localtime(max((line.at for line in shot.chat), default=0)))
