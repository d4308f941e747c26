"""Figures of a running program: start-up, delay of sound and pictures, a class of many."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from headless import PROGRAM, Headless
from lan import Lan
from meetings import LOOPBACK, SILENT, enter, join, serve, stats, switch, wav
from numpy.typing import NDArray
from processes import child_in_role, children_of, cpu_seconds, kbytes
from sound import heard_in
from starter import popen

RATE = 16_000
Starts = Callable[..., Headless]


def percentile(values: Sequence[float], share: float) -> float:
	"""The value that `share` of `values` do not exceed."""
	return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def start_up(meeting: Starts, directory: Path, runs: int = 5) -> dict[str, float]:
	"""Median seconds from process start to `serving` and to `joined`, after one run to warm up."""
	times: dict[str, list[float]] = {"serve": [], "join": []}
	for _ in range(runs + 1):
		server, base = serve(meeting, home=directory / "server", program=PROGRAM)
		times["serve"].append(server.seen_at("serving") - server.started_at)
		member = enter(meeting, base, "Ben", home=directory / "member", program=PROGRAM)
		member.wait("joined", timeout=40)
		times["join"].append(member.seen_at("joined") - member.started_at)
		member.close()
		server.process.send_signal(signal.SIGTERM)
		server.close()
	return {role: statistics.median(taken[1:]) for role, taken in times.items()}


# -- two who meet ----------------------------------------------------------------------------------------

Pair = Callable[[Sequence[str], Sequence[str]], tuple[Headless, Headless]]  # each with these arguments


def on_lan(meeting: Starts, lan: Lan, jitter: float = 0.0) -> Pair:
	"""Ana on host 1 and Ben on host 2; with `jitter` what Ben is sent goes over host 3, as late as that."""

	def pair(ana: Sequence[str], ben: Sequence[str]) -> tuple[Headless, Headless]:
		one = meeting("--host", "--name", "Ana", *SILENT, *ana, netns=lan.namespace(1))
		base = one.wait("serving", timeout=40)["port"]
		one.wait("joined", timeout=40)
		at = lan.address(1)
		if jitter:
			at = lan.address(3)
			script = str(Path(__file__).parent / "jittery.py")
			words = (script, lan.address(1), str(base), at, str(jitter))
			way = lan.popen(3, sys.executable, *words, stdout=subprocess.PIPE)
			assert way.stdout and way.stdout.readline()
		other = meeting("--join", f"{at}:{base}", "--name", "Ben", *SILENT, *ben, netns=lan.namespace(2))
		other.wait("joined", timeout=40)
		return one, other

	return pair


# -- sound -----------------------------------------------------------------------------------------------

CLICK_EVERY = 0.5


def clicks(path: Path, seconds: float = 60.0) -> Path:
	"""A WAV of short chirps, one each half second, on a floor of noise that keeps the voice gate open."""
	random = np.random.default_rng(5)
	sound = random.normal(size=int(seconds * RATE)) * 60
	at = np.arange(160)
	chirp = np.sin(2 * np.pi * (800 + 20 * at) * at / RATE) * 20_000
	for start in range(RATE // 4, len(sound) - 160, int(CLICK_EVERY * RATE)):
		sound[start : start + 160] += chirp
	return wav(path, sound.astype(np.int16))


def click_times(samples: NDArray[Any]) -> NDArray[np.float64]:
	"""Seconds at which the chirps of `clicks` begin."""
	loud = np.abs(samples.astype(float)) > 6_000
	starts = np.flatnonzero(loud & ~np.roll(loud, 1))
	kept = [int(starts[0])] if len(starts) else []
	for start in starts[1:]:
		if start - kept[-1] > RATE // 10:
			kept.append(int(start))
	return np.array(kept) / RATE


def sound_delays(pair: Pair, directory: Path, seconds: float) -> list[float]:
	"""Seconds from the moment a sample is captured to the moment it is played, one value a chirp.

	The microphone's sample k is captured k / 16000 s after its first block began, which is 16 ms before
	`device live` at the latest; the speaker's sample k is heard k / 16000 s after `joined`.
	"""
	heard = directory / "heard.wav"
	ana, ben = pair(("--mic", str(clicks(directory / "clicks.wav"))), ("--speaker", str(heard)))
	time.sleep(1.0)
	live = switch(ana, "mic", True)["time"]
	time.sleep(seconds)
	found = heard_delays(heard, ben.seen("joined")[0]["time"], live)
	ana.send({"do": "end"})
	ben.wait("ended")
	return [delay for _, delay in found]


def heard_delays(heard: Path, joined: float, live: float) -> list[tuple[float, float]]:
	"""(when, delay) in seconds of each chirp in what a speaker wrote; `live`: the event of the microphone."""
	found = joined + click_times(heard_in(heard))
	offsets = found - (live - 0.016) - 0.25
	return [
		(float(at), float(off % CLICK_EVERY)) for at, off in zip(found, offsets, strict=True) if off > 0.5
	]


# -- pictures --------------------------------------------------------------------------------------------


def picture_delays(pair: Pair, seconds: float) -> list[float]:
	"""Seconds from drawing a test card to having decoded it, 640x360 at 25 a second, as `stats` says."""
	ana, ben = pair(("--camera", "pattern"), ())
	switch(ana, "camera", True)
	ben.send({"do": "watch", "streams": {"Ana": {"layer": 2, "fps": 25}}})
	found: list[float] = []
	until = time.monotonic() + seconds + 2
	while time.monotonic() < until:
		time.sleep(0.25)
		figures = stats(ben)["video"].get("Ana")
		if figures and figures["latency_ms"] is not None and time.monotonic() > until - seconds:
			found.append(figures["latency_ms"] / 1e3)
	ana.send({"do": "end"})
	ben.wait("ended")
	return found


# -- a class ---------------------------------------------------------------------------------------------


@dataclass
class ClassFigures:
	"""What a class of many showed; shares are 0..1."""

	people: int
	seconds: float
	worst_rate: float  # the slowest stream, as a share of what was asked
	median_rate: float
	streams: int
	dropped: int  # participants who were lost or had to come back
	concealed: float  # share of audio blocks, all together
	late_ticks: float  # share of the mixer's ticks, those late by more than a tick
	growth: float  # of the server's memory after the first 10 s
	kbytes: int
	client_growth: float  # of the clients' memory, all together
	client_kbytes: int  # of one
	client_cpu: float  # of one core, each
	server_cpu: float  # of one core, the mixer included
	others: float  # cores that others used meanwhile


def memory(pid: int) -> int:
	"""Resident kilobytes of a process and its children."""
	return kbytes(pid) + sum(map(memory, children_of(pid)))


def core_seconds() -> float:
	"""What all cores have been busy so far, whoever it was for."""
	ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
	return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


class Spent:
	"""What groups of processes, and all cores together, use of the processor from now on."""

	def __init__(self, *groups: Sequence[int]) -> None:
		self._groups = groups
		self._began = time.monotonic()
		self._before = self._now()

	def _now(self) -> list[float]:
		return [*(sum(map(cpu_seconds, group)) for group in self._groups), core_seconds()]

	def cores(self) -> list[float]:
		"""Cores in use since then: by each group, and in all."""
		took = time.monotonic() - self._began
		return [(new - old) / took for old, new in zip(self._before, self._now(), strict=True)]


def hold_class(meeting: Starts, people: int, seconds: float) -> ClassFigures:
	"""Everyone watches 6 at layer 0 and 1 at layer 1, 15 a second; three talk."""
	server, base = serve(meeting, "-v", program=PROGRAM)  # a fork would hold more to begin with
	names = [f"P{n:02}" for n in range(people)]
	everyone = [
		enter(meeting, base, name, "--camera", "pattern", "--mic", f"voice:{n + 1}")
		for n, name in enumerate(names)
	]
	for one in everyone:
		one.wait("joined", timeout=60)
	for n, one in enumerate(everyone):
		one.send({"do": "camera", "on": True})
		others = [names[(n + k) % people] for k in range(1, 8)]
		layers = {name: {"layer": int(k == 6), "fps": 15} for k, name in enumerate(others)}
		one.send({"do": "watch", "streams": layers})
	for one in everyone[:3]:
		one.send({"do": "mic", "on": True})
	for one in everyone:
		one.wait("device", timeout=60, what="camera", state="live")
	time.sleep(min(10.0, seconds / 2))
	size, clients = memory(server.process.pid), [one.process.pid for one in everyone]
	client_size, before = sum(map(memory, clients)), [stats(one) for one in everyone]
	late, pid = late_ticks(server.errors()), server.process.pid
	spent = Spent([pid, *children_of(pid)], clients, [os.getpid()])
	began = time.monotonic()
	time.sleep(seconds)
	took = time.monotonic() - began
	hosting, joining, own, busy = spent.cores()
	after = [stats(one) for one in everyone]
	grown, late = memory(server.process.pid), late_ticks(server.errors()) - late
	client_grown = sum(map(memory, clients))
	for one in everyone:
		one.hang_up()
	for one in everyone:
		one.wait("left", timeout=30)
	server.process.send_signal(signal.SIGTERM)
	server.process.wait(15)
	rates = [
		(figures["frames"] - old["video"].get(name, {"frames": 0})["frames"]) / took / 15
		for old, new in zip(before, after, strict=True)
		for name, figures in new["video"].items()
	]
	blocks = people * took / 0.016
	concealed = sum(
		n["audio"]["concealed"] - o["audio"]["concealed"] for o, n in zip(before, after, strict=True)
	)
	return ClassFigures(
		people,
		round(took, 1),
		round(min(rates), 3),
		round(statistics.median(rates), 3),
		len(rates),
		sum(len(one.seen("reconnecting")) + (one.events[-1]["event"] != "left") for one in everyone),
		round(concealed / blocks, 5),
		round(late * 0.016 / took, 5),
		round(grown / size - 1, 4),
		grown,
		round(client_grown / client_size - 1, 4),
		client_grown // people,
		round(joining / people, 4),
		round(hosting, 3),
		round(busy - hosting - joining - own, 2),
	)


@dataclass
class LessonFigures:
	"""What a lesson with one shared screen showed; shares are 0..1."""

	people: int
	seconds: float
	server_cpu: float  # of one core, the mixer included
	mixer_cpu: float
	streams: int
	worst_rate: float  # as a share of what was asked
	best_rate: float
	lost_pictures: int
	sound_lost: float  # share of the blocks that were due
	late_ticks: float
	screen_fps: float  # of the slowest viewer
	busy: float  # cores in use, the clients' and others' included
	memory: float  # MB, server and mixer, with everyone in


class LightPupils:
	"""Light participants in a process of their own (pupils.py)."""

	def __init__(self, base: int, names: Sequence[str]) -> None:
		words = (str(Path(__file__).parent / "pupils.py"), LOOPBACK, str(base), *names)
		self._process: subprocess.Popen[str] = popen(
			[sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
		)
		self.ports: dict[str, list[int]] = self.answer()["ports"]  # local ones: video, audio, control

	def say(self, line: str) -> None:
		"""Give one command."""
		assert self._process.stdin
		self._process.stdin.write(line + "\n")
		self._process.stdin.flush()

	def answer(self) -> dict[str, Any]:
		"""The next line that they say."""
		assert self._process.stdout
		said: dict[str, Any] = json.loads(self._process.stdout.readline())
		return said

	def close(self) -> None:
		"""Let them leave."""
		assert self._process.stdin and self._process.stdout
		self._process.stdin.close()
		self._process.wait(20)
		self._process.stdout.close()


Asked = dict[str, tuple[int, int]]  # of whom: layer, pictures a second


def at_full_rate(thumbnails: Sequence[str], teacher: str) -> Asked:
	"""Nine at layer 0 and the teacher at layer 2, 15 a second."""
	return {**dict.fromkeys(thumbnails, (0, 15)), **({teacher: (2, 15)} if teacher else {})}


def hold_lesson(
	meeting: Starts,
	people: int,
	seconds: float,
	asks: Callable[[Sequence[str], str], Asked] = at_full_rate,
	camera: str = "pattern",
	meanwhile: Callable[[int, dict[str, list[int]]], contextlib.AbstractContextManager[object]] | None = None,
) -> LessonFigures:
	"""Everyone watches 9 and the teacher as `asks` says; three talk, one shares a screen.

	Teacher, the one who shares and one more are whole clients; the others open the seals without decoding.
	`meanwhile` is entered with the base port and their local ports, {name: [video, audio, ...]}.
	"""
	server, base = serve(meeting, "-v")
	names = ["Teacher", "Sharer", "Talker", *(f"L{n:02}" for n in range(people - 3))]
	whole = [join(meeting, base, name, "--camera", camera, "--mic", "tone") for name in names[:3]]
	half = 3 + (people - 3) // 2
	with contextlib.ExitStack() as stack:
		light = [
			stack.enter_context(contextlib.closing(LightPupils(base, part)))
			for part in (names[3:half], names[half:])
		]
		seen = names[2:]  # of whom everyone has nine on the page
		wanted = {
			name: asks(
				[seen[(number - 2 + k) % len(seen)] for k in range(1, min(10, len(seen)))],
				"Teacher" if number else "",
			)
			for number, name in enumerate(names)
		}
		for crowd in light:
			crowd.say("watch " + json.dumps(wanted))
		for one, name in zip(whole, names, strict=False):
			streams = {other: {"layer": layer, "fps": fps} for other, (layer, fps) in wanted[name].items()}
			one.send({"do": "watch", "streams": streams})
			switch(one, "mic", True)
			if name != "Sharer":
				switch(one, "camera", True)
		whole[1].send({"do": "share", "on": True, "source": "pattern"})
		whole[0].wait("screen_start")
		for crowd in light:
			crowd.say("view")
		time.sleep(5.0)
		ports = {name: found for crowd in light for name, found in crowd.ports.items()}
		with meanwhile(base, ports) if meanwhile else contextlib.nullcontext():
			return _lesson(server, whole, light, wanted, seconds)


def _lesson(
	server: Headless,
	whole: list[Headless],
	light: list[LightPupils],
	wanted: dict[str, Asked],
	seconds: float,
) -> LessonFigures:
	pid = server.process.pid
	mixer = child_in_role(pid, "--mixer")
	before, late = [stats(one) for one in whole], late_ticks(server.errors())
	for crowd in light:
		crowd.say(f"measure {seconds}")
	began, spent = time.monotonic(), Spent([pid], [mixer])
	told = [crowd.answer() for crowd in light]
	after, took = [stats(one) for one in whole], time.monotonic() - began
	memory = (kbytes(pid) + kbytes(mixer)) / 1024
	relay_cores, mixer_cores, busy = spent.cores()
	late = late_ticks(server.errors()) - late
	rates = [rate for crowd in told for rate in crowd["rates"]]
	lost, blocks, due = (sum(crowd[key] for crowd in told) for key in ("lost", "blocks", "blocks_due"))
	gone = due - blocks
	for old, new, asked in zip(before, after, wanted.values(), strict=False):
		figures = new["video"].items()
		rates += [
			(now["frames"] - old["video"][name]["frames"]) / took / asked[name][1] for name, now in figures
		]
		lost += sum(now["lost_frames"] - old["video"][name]["lost_frames"] for name, now in figures)
		gone += new["audio"]["lost"] - old["audio"]["lost"]
		due += round(took / 0.016)
	for one in whole:
		one.hang_up()
		one.wait("left", timeout=30)
	for crowd in light:
		crowd.close()
	server.process.send_signal(signal.SIGTERM)
	server.process.wait(15)
	return LessonFigures(
		len(wanted),
		round(took, 1),
		round(relay_cores + mixer_cores, 3),
		round(mixer_cores, 3),
		len(rates),
		round(min(rates), 3),
		round(max(rates), 3),
		lost,
		round(gone / due, 6),
		round(late * 0.016 / took, 5),
		round(min(crowd["screen_fps"] for crowd in told), 1),
		round(busy, 2),
		round(memory, 1),
	)


def late_ticks(log: str) -> int:
	"""How many ticks of the mixer were late by more than a tick so far, from the server's log."""
	told = re.findall(r"the mixer was late by more than a tick (\d+) times", log)
	return int(told[-1]) if told else 0


# -- many behind one cap -----------------------------------------------------------------------------------


@dataclass
class CapFigures:
	"""What a cap on all that the host sends did; shares are 0..1, delays in milliseconds."""

	mbit: float  # of video, received
	rate: float  # of pictures, as a share of what was asked
	pictures_lost: float
	datagrams_dropped: float  # at the cap
	sound_lost: float
	sound_more_p50: float  # than without pictures
	sound_more_p99: float


def crowd_behind_a_cap(
	meeting: Starts, lan: Lan, cap: str, senders: int, size: int, seconds: float
) -> CapFigures:
	"""30 light receivers on host 2 watch `senders` of pictures of `size` bytes; host 1 may send `cap`."""
	server = meeting("--serve", netns=lan.namespace(1))
	server.wait("serving", timeout=40)
	lan.cap(1, cap)
	base, script = server.seen("serving")[0]["port"], str(Path(__file__).parent / "light.py")
	words = (script, lan.address(1), str(base), str(30 + senders), str(senders), str(size))
	crowd = lan.popen(2, sys.executable, *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

	def ask(line: str) -> dict[str, float]:
		crowd.stdin.write(line)
		crowd.stdin.flush()
		found: dict[str, float] = json.loads(crowd.stdout.readline())
		return found

	assert crowd.stdin and crowd.stdout and json.loads(crowd.stdout.readline())["ready"]
	idle = ask(f"idle {seconds}\n")
	passed = lan.passed(1)
	busy = ask(f"busy {seconds}\n")
	sent, dropped = (after - before for after, before in zip(lan.passed(1), passed, strict=True))
	crowd.stdin.close()
	crowd.wait(10)
	more = {
		share: 1e3 * (busy[f"sound_lag_{share}"] - idle[f"sound_lag_{share}"]) for share in ("p50", "p99")
	}
	return CapFigures(
		round(busy["mbit"], 1),
		round(busy["rate"], 3),
		round(busy["lost"], 5),
		round(dropped / max(1, dropped + sent), 6),
		round(busy["sound_lost"], 5),
		round(more["p50"], 2),
		round(more["p99"], 2),
	)
