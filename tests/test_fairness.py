"""Whose turn it is on the control thread: the queue by itself, then a class and attackers at one address."""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from headless import Headless
from hypothesis import given
from hypothesis import strategies as st
from meetings import serve
from member import HELLO, Member, tls
from starter import popen
from waiting import best_of, crowding

import connectsphere as cs

SAME = "127.0.0.66"  # the address that attackers and pupils have in common
PIN = "482913"
HEAVY = b'{"type":"ping","t":1,"x":[' + b",".join([b"[]"] * 21_700) + b"]}\n"
COSTLY = b'{"type":"ping","t":1,"x":"' + b"\\u00e9" * 10_880 + b'"}\n'


def served(
	queue: cs.FairQueue, flows: list[cs.Flow], cost: Callable[[cs.Flow], float], turns: int
) -> Counter[cs.Flow]:
	"""How much each flow got of so many turns, if all of them always want more."""
	got: Counter[cs.Flow] = Counter()
	for number, flow in enumerate(flows):
		queue.add((number, flow), flow)
	for _ in range(turns):
		item, flow = queue.pop()
		queue.charge(flow, cost(flow))
		got[flow] += cost(flow)  # type: ignore[assignment]
		queue.add(item, flow)
	return got


class TestFairQueue:
	def test_many_names_of_one_address_have_the_share_of_one(self) -> None:
		flows: list[cs.Flow] = [("in", "10.0.0.1", n) for n in range(24)] + [("in", "10.0.0.2", 99)]
		got = served(cs.FairQueue({}), flows, lambda flow: 1.0, 4_800)
		assert got["in", "10.0.0.2", 99] == pytest.approx(2_400, rel=0.02)

	def test_costly_work_gets_fewer_turns(self) -> None:
		flows: list[cs.Flow] = [("in", "a", 1), ("in", "b", 2)]
		got = served(cs.FairQueue({}), flows, lambda flow: 8.0 if flow[1] == "a" else 0.5, 2_000)
		assert got["in", "a", 1] == pytest.approx(got["in", "b", 2], rel=0.05)

	def test_who_is_not_in_shares_a_tenth(self) -> None:
		flows: list[cs.Flow] = [("outside", str(n), n) for n in range(50)] + [("in", "a", 1)]
		got = served(cs.FairQueue({"outside": 0.1}), flows, lambda flow: 1.0, 5_500)
		assert got["in", "a", 1] == pytest.approx(5_000, rel=0.02)

	@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 3)), max_size=12))
	def test_who_comes_after_a_pause_waits_for_one_turn_at_most(self, flows: list[cs.Flow]) -> None:
		queue = cs.FairQueue({"a": 0.1})
		greedy: list[cs.Flow] = [("b", "x", 0), *(flow for flow in flows if flow[:2] != ("b", "z"))]
		served(queue, greedy, lambda flow: 1.0, 40)
		queue.add("quiet", ("b", "z", 9))
		first = []
		for _ in range(2):
			item, flow = queue.pop()
			queue.charge(flow, 1.0)
			first.append(item)
		assert "quiet" in first

	@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 2), st.integers(0, 2))))
	def test_what_waits_is_what_was_added_and_not_discarded(
		self, steps: list[tuple[bool, int, int, int]]
	) -> None:
		queue, waiting = cs.FairQueue({}), set()
		for add, item, address, person in steps:
			if add:
				queue.add(item, ("in", address, person))
				waiting.add(item)
			else:
				queue.discard(item)
				waiting.discard(item)
		assert len(queue) == len(waiting)
		assert {queue.pop()[0] for _ in range(len(waiting))} == waiting
		assert not queue._below

	def test_memory_is_bounded(self) -> None:
		queue = cs.FairQueue({})
		for number in range(20_000):
			queue.add(number, ("in", number, number))
			queue.charge(queue.pop()[1], 1.0)
		assert len(queue._used) < 5_000 and len(queue._floor) < 10_000


# -- behind one address --------------------------------------------------------------------------------


def blank_lines(link: ssl.SSLSocket) -> None:
	link.sendall(b"\n" * 16_000)


def heavy_lines(link: ssl.SSLSocket) -> None:
	link.sendall(HEAVY + COSTLY)


def tiny_records(link: ssl.SSLSocket) -> None:
	for octet in COSTLY[:2_000]:
		link.sendall(bytes([octet]))


POURS = {one.__name__: one for one in (blank_lines, heavy_lines, tiny_records)}


class Attack:
	"""Eight connections of one address that pour for as long as they are let, and then come back."""

	def __init__(self, base: int, pour: str, pin: str, enters: bool) -> None:
		self._base, self._pour, self._pin, self._enters = base, POURS[pour], pin, enters
		self._over = threading.Event()
		self.tries: Counter[str] = Counter()
		self._threads = [threading.Thread(target=self._run) for _ in range(8)]
		for thread in self._threads:
			thread.start()

	def _run(self) -> None:
		while not self._over.is_set():
			with contextlib.suppress(OSError), tls(self._base, 0, SAME) as link:
				if self._enters and self._pin:
					Member(link, self._base).enter(name="Eve", pin=self._pin)
				elif self._enters:
					link.sendall(json.dumps({**HELLO, "name": "Eve"}).encode() + b"\n")
				self.tries["connections"] += 1
				while not self._over.is_set():
					self._pour(link)
					self.tries["pours"] += 1
			self._over.wait(0.05)

	def close(self) -> None:
		self._over.set()
		for thread in self._threads:
			thread.join()


def attack(base: int, pin: str) -> None:
	"""Begin and end the attacks that standard input names, two lines for each; says what was tried."""
	for line in sys.stdin:
		pour, who = line.split()
		with contextlib.closing(Attack(base, pour, pin, who == "enters")) as one:
			print(json.dumps("begun"), flush=True)
			sys.stdin.readline()
		print(json.dumps(one.tries), flush=True)


class Attacker:
	"""A process of its own, whose threads are not in the way of those that measure."""

	def __init__(self, base: int, pin: str) -> None:
		self._process: subprocess.Popen[str] = popen(
			there(f"attack({base}, {pin!r})"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
		)

	def say(self, line: str) -> Any:
		"""Give it a line; what it says then."""
		assert self._process.stdin and self._process.stdout
		self._process.stdin.write(line + "\n")
		self._process.stdin.flush()
		return json.loads(self._process.stdout.readline())

	def close(self) -> None:
		self._process.communicate(timeout=20)
		assert self._process.returncode == 0


def there(call: str) -> list[str]:
	"""The command that calls a function of this file."""
	return [
		sys.executable,
		"-c",
		f"import sys; sys.path[:0] = {sys.path}; import test_fairness; test_fairness.{call}",
	]


@contextlib.contextmanager
def pupil(base: int, name: str, pin: str = "", source: str = SAME) -> Iterator[Member]:
	with tls(base, 0, source) as link:
		one = Member(link, base)
		one.enter(name=name, pin=pin)
		with contextlib.closing(one):
			yield one


def pong(one: Member) -> float:
	"""Seconds until the server answers."""
	begun = time.monotonic()
	one.say({"type": "ping", "t": begun})
	one.hear("pong")
	return time.monotonic() - begun


@pytest.mark.long(15)
@pytest.mark.calm
@pytest.mark.parametrize(
	("pin", "attacks"),
	[
		("", [(pour, who) for pour in POURS for who in ("enters", "stranger")]),
		(PIN, [("heavy_lines", "enters"), ("blank_lines", "stranger")]),
	],
	ids=["open", "with a PIN"],
)
def test_twelve_and_an_attacker_behind_one_address(
	meeting: Callable[..., Headless], pin: str, attacks: list[tuple[str, str]]
) -> None:
	"""The attacker enters, or pours before it says who it is; where there is a PIN a pupil knows it."""
	_, base = serve(meeting, *(("--pin", pin) if pin else ()))
	with contextlib.ExitStack() as stack:
		attacker = stack.enter_context(contextlib.closing(Attacker(base, pin)))
		pupils = [stack.enter_context(pupil(base, f"Pupil {n}", pin=pin)) for n in range(12)]

		def enter_late(inside: contextlib.ExitStack) -> None:
			"""One more, who tries again, as the program does, when its place among the half open is taken."""
			try:
				inside.enter_context(pupil(base, "Late", pin=pin))
			except ConnectionError:
				for one in pupils:  # who is silent for ten seconds is taken for gone
					pong(one)
				enter_late(inside)

		def slowest(seconds: float) -> tuple[float, float]:
			pongs, joins = [], []
			until = time.monotonic() + seconds
			while time.monotonic() < until:
				pongs += [pong(one) for one in pupils]
				begun = time.monotonic()
				with contextlib.ExitStack() as inside:
					enter_late(inside)
					joins.append(time.monotonic() - begun)
			print(f"pongs at most {max(pongs):.3f} s, joining {max(joins):.3f} s")
			return max(pongs), max(joins)

		def served() -> bool:
			"""Server, attacker and this process share two processors: beyond that others slow all of them."""
			before = crowding(0.05)
			pongs, joining = slowest(0.7)
			times = max(1.0, min(before, crowding(0.05)) / 2)
			return pongs < times * max(0.5, 4 * quiet[0]) and joining < times * max(2.0, 4 * quiet[1])

		for pour, who in attacks:
			quiet = slowest(0.2)  # on a machine that others keep busy
			assert attacker.say(f"{pour} {who}") == "begun"
			assert best_of(4, served), (pour, who)
			tries = attacker.say("")
			print(pour, who, tries)
			assert tries["pours"] > 0


def thirty(base: int, addresses: int) -> None:
	"""Thirty come at once and prove the PIN, from so many addresses; says when each of them was in."""
	begun = time.monotonic()

	def come(number: int) -> float:
		with pupil(base, f"Pupil {number}", PIN, f"127.0.1.{1 + number % addresses}"):
			return time.monotonic() - begun

	with ThreadPoolExecutor(30) as pool:
		print(json.dumps(sorted(pool.map(come, range(30)))), flush=True)


@pytest.mark.calm
@pytest.mark.parametrize("addresses", [30, 1], ids=["own addresses", "one address"])
def test_thirty_prove_the_pin_at_once(meeting: Callable[..., Headless], addresses: int) -> None:
	"""Its arithmetic takes the control thread 15 ms for each of them, which those who are in hardly feel."""
	_, base = serve(meeting, "--pin", PIN)
	run = there(f"thirty({base}, {addresses})")

	def served() -> bool:
		quiet = max(pong(ana) for _ in range(20))
		begun = time.monotonic()
		with pupil(base, "Ben", PIN):
			alone = time.monotonic() - begun
		with popen(run, stdout=subprocess.PIPE, text=True) as others:
			pongs = [pong(ana)]
			while others.poll() is None:
				time.sleep(0.01)
				pongs.append(pong(ana))
			assert others.stdout
			came = json.loads(others.stdout.read())
		print(
			f"pongs up to {max(pongs):.3f} s (quiet {quiet:.3f}); "
			f"in after {came[0]:.2f} to {came[-1]:.2f} s (one alone {alone:.2f})"
		)
		assert len(came) == 30
		return came[-1] < max(5.0, 30 * alone) and max(pongs) < max(0.5, 4 * quiet)

	with pupil(base, "Ana", PIN) as ana:
		assert best_of(3, served)
