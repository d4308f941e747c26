"""The lesson outlives its host: how long until the last of the class sees, hears and is in again?

python tests/bench succession 20: so many rounds of eight people on five hosts of a LAN, PIN on, three
talking, one sharing, a file moving, 2 % loss toward the first standby; the host's window and server are
killed at once, 5 s later the first standby. Before, once each: the cable pulled; a half that reaches the
second standby alone; two that serve at once; no standby; splits with the host in the larger and in the
smaller half; the home on a stick; and 100 who are light.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from figures import ROOT, Row
from headless import Headless
from lan import Lan
from meetings import stats, switch
from sound import longest_silence
from test_succession import Class, moved, people, standby_of
from waiting import wait_until

PIN = "4711"
Found = dict[str, float]
BOUNDS = {
	"all are in again": 3,
	"first sound": 3,
	"first picture": 4,
	"after the next: all are in again": 3,
	"after the next: first sound": 3,
	"after the next: first picture": 4,
	"the host is back, its program's start included": 5,
	"brought back: gap of sound": 1,
	"cable pulled: all are in again": 7,
	"half at the second standby: one after mending": 5,
	"two that serve: one after mending": 5,
	"split, host in the larger half: one after mending": 5,
	"split, host in the smaller half: one after mending": 5,
	"home on a stick: the host is back": 5,
	"100 light ones: the last has moved": 5,
}


def frames(one: Headless, of: str) -> int:
	"""How many pictures of somebody have come."""
	return int(stats(one)["video"].get(of, {}).get("frames", 0))


def pictures(ones: Iterable[Headless], of: str, since: float) -> float:
	"""Seconds from then until the last of them has a new picture of somebody."""
	time.sleep(max(0.0, since + 0.3 - time.time()))  # what was under way has come
	before = {one: frames(one, of) for one in ones}
	slowest = 0.0
	while before:
		assert time.time() < since + 20, f"{[one.args[1] for one in before]} see nothing"
		for one, count in [*before.items()]:
			if 0 < frames(one, of) != count:  # from 0 where the stream began anew
				slowest = time.time() - since
				del before[one]
	return slowest


def silence(one: Headless, since: float, seconds: float = 5.0) -> float:
	"""The longest silence that somebody has heard from then on."""
	began = one.seen("joined")[0]["time"]
	return longest_silence(one.home / "heard.wav", since - began - 0.5, since - began + seconds)


class Lesson(Class):
	"""Eight people on five hosts, of whom three talk and one shares."""

	def __init__(self, lan: Lan, home: Path) -> None:
		super().__init__(lan, home, "--pin", PIN)
		self.begin()
		self.by_name = {"Ana": self.hearing(2, "Ana", "--standby", "yes")}
		self.teacher.wait("stand_by", 20, name="Ana", state="ready")
		self.by_name["Ben"] = self.hearing(
			3, "Ben", "--standby", "yes", "--mic", "tone", "--camera", "pattern"
		)
		self.teacher.wait("stand_by", 20, name="Ben", state="ready")
		for n, (name, *more) in enumerate(
			(("Cem",), ("Dan", "--mic", "tone"), ("Eva", "--mic", "tone"), ("Fay",), ("Gus",))
		):
			self.by_name[name] = self.hearing(2 + (n + 2) % 4, name, *more)
		for talker in ("Ben", "Dan", "Eva"):
			switch(self.by_name[talker], "mic", True)
		switch(self.by_name["Ben"], "camera", True)
		for one in self.others("Ben"):
			one.send(do="watch", streams={"Ben": {"layer": 0}})
		self.by_name["Eva"].send(do="share", on=True, source="pattern")
		for one in self.by_name.values():
			one.wait("succession", 20, names=["Ana", "Ben"])
		for one in self.others("Eva"):
			one.wait("screen_start", 20, name="Eva")
		lan.loss(2, 2.0)

	def hearing(self, at: int, name: str, *more: str) -> Headless:
		return self.pupil(at, name, "--speaker", str(self.home / name / "heard.wav"), *more)

	def others(self, *names: str) -> list[Headless]:
		return [one for name, one in self.by_name.items() if name not in names]

	def say(self, who: str, text: str) -> None:
		"""Said by one, read by all that are left."""
		self.by_name[who].send(do="chat", text=text)
		for one in self.by_name.values():
			one.wait("chat", text=text)

	def measured(self, epoch: int, at: str, died: float, words: str = "") -> Found:
		"""How all went on at that standby after the death of the server before."""
		seen = pictures(self.others("Ben"), "Ben", died)
		found = {"all are in again": max(moved(one, epoch, at, died) for one in self.by_name.values())}
		for one in self.others("Eva"):
			one.wait("screen_start", 20, name="Eva")
		time.sleep(max(0.0, died + 5.0 - time.time()))
		found["first sound"] = max(silence(one, died) for one in self.by_name.values())
		found["first picture"] = seen
		return {words + name: value for name, value in found.items()}


def takeovers(lan: Lan, home: Path) -> Found:
	"""The host is killed, 5 s later the first standby; the host comes again and brings the lesson back."""
	one = Lesson(lan, home)
	try:
		file = home / "moving.bin"
		file.write_bytes(os.urandom(60_000_000))
		ids = people(one.by_name["Cem"])
		one.say("Gus", "first")
		one.by_name["Cem"].send(do="upload", path=str(file))
		one.by_name["Cem"].wait("file_progress", 20)
		found = one.measured(2, "Ana", one.kill_host())
		one.say("Gus", "second")
		one.by_name["Fay"].wait("file_offer", 30, name="moving.bin")
		ana, died = one.by_name.pop("Ana"), time.time()
		for pid in (standby_of(ana), ana.process.pid):
			os.kill(pid, signal.SIGKILL)
		found |= one.measured(4, "Ben", died, "after the next: ")
		one.say("Gus", "third")
		wait_until(lambda: len(people(one.by_name["Cem"])) == 6)
		left = {name: n for name, n in ids.items() if name not in ("Ana", "Ms Lee")}
		assert people(one.by_name["Cem"]) == left, "ids stay"
		start = time.time()
		again = one.start(1, "Ms Lee", "--host")
		found["the host is back, its program's start included"] = again.wait("joined", 40)["time"] - start
		again.send(do="hand_over", to="Ms Lee", rights=False)
		for each in one.by_name.values():
			back = each.wait("reconnected", 30, epoch=5)["time"]
		time.sleep(2.0)
		gap = max(silence(each, back, 2.0) for each in one.by_name.values())
		found["brought back: gap of sound"] = gap
		for each in one.by_name.values():
			assert [line["text"] for line in each.seen("chat")] == ["first", "second", "third"]
		return found
	finally:
		one.close()


def apart(one: Class, halves: Iterable[Iterable[int]]) -> Callable[[], None]:
	"""Hosts of different halves do not reach each other until the function that is returned is called."""
	halves = [set(half) for half in halves]
	for half in halves:
		far = ", ".join(one.lan.address(at) for other in halves if other is not half for at in other)
		for at in half:
			one.lan.rules(at, "split", f"type filter hook input priority 0; ip saddr {{ {far} }} drop;")

	def mend() -> None:
		for half in halves:
			for at in half:
				one.lan.run(at, "nft", "delete table ip split")

	return mend


@contextlib.contextmanager
def class_of(lan: Lan, home: Path, standbys: int = 2) -> Iterator[tuple[Class, dict[str, Headless]]]:
	"""Five people on as many hosts."""
	with contextlib.closing(Class(lan, home, "--pin", PIN)) as one:
		one.begin()
		by_name = {}
		for at, name in enumerate(("Ana", "Ben", "Cem", "Dan"), 2):
			by_name[name] = one.standby(at, name) if at < 2 + standbys else one.pupil(at, name)
		for each in by_name.values() if standbys else ():
			each.wait("succession", 20, names=["Ana", "Ben"][:standbys])
		yield one, by_name


def slowest(ones: Iterable[Headless], epoch: int, at: str, since: float) -> float:
	return max(moved(one, epoch, at, since) for one in ones)


def once_and_whole(one: Iterable[Headless], said: Iterable[str]) -> None:
	"""Everyone has every line, once."""
	for each in one:
		wait_until(lambda: {line["text"] for line in each.seen("chat")} == {*said}, 10)  # noqa: B023
		assert len(each.seen("chat")) == len([*said])


def cable(lan: Lan, home: Path) -> Found:
	"""The host's cable is pulled."""
	with class_of(lan, home) as (_, by_name):
		lan.cut(1)
		cut = time.time()
		return {"cable pulled: all are in again": slowest(by_name.values(), 2, "Ana", cut)}


def half(lan: Lan, home: Path) -> Found:
	"""Half of the class reaches the second standby alone."""
	with class_of(lan, home) as (one, by_name):
		far, near = [by_name[name] for name in ("Ben", "Cem")], [by_name[name] for name in ("Ana", "Dan")]
		mend, cut = apart(one, ((1, 2, 5), (3, 4))), time.time()
		words = "half at the second standby: "
		found = {words + "in again": slowest(far, 3, "Ben", cut)}
		by_name["Cem"].send(do="chat", text="there")
		by_name["Dan"].send(do="chat", text="here")
		far[0].wait("chat", text="there")
		mend()
		found[words + "one after mending"] = slowest(far, 1, "Ms Lee", time.time())
		once_and_whole([one.teacher, *by_name.values()], ("there", "here"))
		assert not near[0].seen("reconnecting")
		return found


def both(lan: Lan, home: Path) -> Found:
	"""The host dies while the class is in halves: both standbys serve, until they meet."""
	with class_of(lan, home) as (one, by_name):
		far, near = [by_name[name] for name in ("Ben", "Cem")], [by_name[name] for name in ("Ana", "Dan")]
		mend, died = apart(one, ((2, 5), (3, 4))), one.kill_host()
		slowest(near, 2, "Ana", died)
		slowest(far, 3, "Ben", died)
		by_name["Cem"].send(do="chat", text="there")
		by_name["Dan"].send(do="chat", text="here")
		far[0].wait("chat", text="there")
		mend()
		took = slowest(near, 3, "Ben", time.time())  # the higher epoch stays
		once_and_whole(by_name.values(), ("there", "here"))
		return {"two that serve: one after mending": took}


def nobody(lan: Lan, home: Path) -> Found:
	"""Without a standby all wait, and are told so, until the host's program is there again."""
	with class_of(lan, home, 0) as (one, by_name):
		one.kill_host()
		for each in by_name.values():
			each.wait("reconnecting", 20)
		time.sleep(8.0)
		assert not any(each.seen("ended") or each.seen("reconnected") for each in by_name.values())
		again = one.start(1, "Ms Lee", "--host", "--title", "Maths", "--pin", PIN)
		start = again.wait("joined", 40)["time"]
		return {
			"no standby: all are in once the host is": max(
				each.wait("reconnected", 30)["time"] - start for each in by_name.values()
			)
		}


def split(lan: Lan, home: Path, larger: bool) -> Found:
	"""30 s apart, with the host in the larger half or the smaller one."""
	with class_of(lan, home) as (one, by_name):
		away = ("Ana", "Dan") if larger else ("Ana", "Ben", "Cem")
		there = [by_name[name] for name in away]
		here = [one.teacher, *(each for name, each in by_name.items() if name not in away)]
		hosts = {2 + ["Ana", "Ben", "Cem", "Dan"].index(name) for name in away}
		mend, cut = apart(one, (hosts, {1, 2, 3, 4, 5} - hosts)), time.time()
		slowest(there, 2, "Ana", cut)
		for n in range(3):
			there[-1].send(do="chat", text=f"there {n}")
			here[-1].send(do="chat", text=f"here {n}")
			there[0].wait("chat", text=f"there {n}")
		time.sleep(max(0.0, cut + 30.0 - time.time()))
		mend()
		took = slowest(there, 1, "Ms Lee", time.time())
		assert not any(each.seen("reconnecting") for each in here), "the host's server stays"
		once_and_whole([*here, *there], [f"{where} {n}" for where in ("there", "here") for n in range(3)])
		wait_until(lambda: len(people(one.teacher)) == 5)
		return {f"split, host in the {'larger' if larger else 'smaller'} half: one after mending": took}


def stick(lan: Lan, home: Path) -> Found:
	"""The host goes on at another computer, with her home on a stick."""
	with class_of(lan, home) as (one, by_name):
		died = one.kill_host()
		slowest(by_name.values(), 2, "Ana", died)
		elsewhere = home / "Elsewhere"
		shutil.copytree(one.teacher.home, elsewhere)
		args = ("--name", "Ms Lee", "--host", "--camera", "none", "--mic", "none", "--speaker", "none")
		start = time.time()
		again = Headless(args, elsewhere, netns=lan.namespace(5))
		one.all.append(again)
		back = again.wait("joined", 40)
		assert (back["role"], back["served_by"]) == ("host", "Ana")
		return {"home on a stick: the host is back": back["time"] - start}


def hundred(lan: Lan, home: Path) -> Found:
	"""100 participants by the protocol's page move."""
	one = Class(lan, home, "--pin", PIN).begin()
	try:
		one.standby(2, "Ana")
		program = (sys.executable, str(ROOT / "tests" / "bench" / "movers.py"))
		movers = lan.popen(3, *program, lan.address(1), "9000", PIN, "100", stdout=subprocess.PIPE, text=True)
		assert movers.stdout and json.loads(movers.stdout.readline())["ready"] == 100
		time.sleep(2.0)
		died = one.kill_host()
		back = json.loads(movers.stdout.readline())["back"]
		assert len(back) == 100
		return {"100 light ones: the last has moved": max(back) - died}
	finally:
		one.close()


def larger(lan: Lan, home: Path) -> Found:
	"""The host is in the larger half."""
	return split(lan, home, True)


def smaller(lan: Lan, home: Path) -> Found:
	"""The host is in the smaller half."""
	return split(lan, home, False)


ONCE = (cable, half, both, nobody, larger, smaller, stick, hundred)


def rows(rounds: int) -> list[Row]:
	"""The middle and the 95th percentile of so many rounds; the others once."""
	found: dict[str, list[float]] = {}
	for scene in (*ONCE, *[takeovers] * rounds):
		with tempfile.TemporaryDirectory() as home, Lan(5) as lan:
			one = scene(lan, Path(home))
		print("  " + ", ".join(f"{name} {value:.2f}" for name, value in one.items()), flush=True)
		for name, value in one.items():
			found.setdefault(name, []).append(value)
	told = []
	for name, values in found.items():
		ordered = sorted(values)
		figure = f"{statistics.median(values):.2f} s"
		if len(values) > 1:
			figure += f", p95 {ordered[int(0.95 * (len(values) - 1))]:.2f} s"
		bound = f"<= {BOUNDS[name]} s" if name in BOUNDS else ""
		told.append(Row("succession", name, figure, bound=bound))
	return told
