"""A bad network: loss, jitter, reordering, duplicates and corruption between the clients and their server.

A seeded proxy spoils every datagram of every client in both directions, so that a picture or a word crosses
two bad links on its way.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import io
import itertools
import math
import os
import random
import shutil
import subprocess
import sys
import time
import wave
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headless import Headless
from lan import Lan
from meetings import SILENT, Passage, serve, stats, switch, wav
from numpy.typing import NDArray
from pictures import frame_datagrams
from sound import best_match, heard_in
from waiting import best_of
from weather import BadWeather, Faults

import connectsphere as cs

Starts = Callable[..., Headless]
LONG = os.environ.get("CONNECTSPHERE_LONG_TESTS") == "1"
SECONDS = 60.0 if LONG else 5.0
AT = "127.0.0.2"
BUSY = sys.platform != "win32" and os.getloadavg()[0] > 4 * (os.cpu_count() or 1)
needs_quiet = pytest.mark.skipif(BUSY, reason="this machine is too busy for figures in real time")
IN_TIME = 0.2


@dataclass
class Ledger:
	"""When each coded picture was sent, and when each receiver had it whole."""

	sent: dict[bytes, tuple[int, float]] = field(default_factory=dict)
	whole: dict[int, dict[bytes, float]] = field(default_factory=lambda: defaultdict(dict))

	def share_in_time(self, receiver: int, layer: int, since: float, until: float) -> tuple[float, int]:
		"""(share of the layer's pictures whole within 200 ms, pictures)."""
		wanted = [key for key, (of, at) in self.sent.items() if of == layer and since <= at <= until]
		got = self.whole[receiver]
		delays = [got.get(key, math.inf) - self.sent[key][1] for key in wanted]
		return sum(delay <= IN_TIME for delay in delays) / max(1, len(wanted)), len(wanted)


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
	"""Notes what the clients of this process send and receive."""
	ledger = Ledger()
	send, put = cs.VideoPlane.send_picture, cs.Stream.put

	def noted_send(self: cs.VideoPlane, layer: int, data: bytes) -> None:
		ledger.sent[hashlib.sha256(data).digest()] = (layer, time.monotonic())
		send(self, layer, data)

	def noted_put(self: cs.Stream, data: bytes, size: tuple[int, int]) -> None:
		ledger.whole[id(self)][hashlib.sha256(data).digest()] = time.monotonic()
		put(self, data, size)

	monkeypatch.setattr(cs.VideoPlane, "send_picture", noted_send)
	monkeypatch.setattr(cs.Stream, "put", noted_put)
	return ledger


@contextlib.contextmanager
def people(
	meeting: Starts, tmp_path: Path, faults: Faults, names: Sequence[str], **devices: str
) -> Iterator[tuple[BadWeather, list[cs.MeetingController]]]:
	"""Clients of this process in one meeting, each behind a link that `faults` spoil."""
	_, base = serve(meeting)
	weather = BadWeather(faults)
	passage = Passage(base, AT, carry=weather.carry)
	clients = []
	try:
		for name in names:
			home = tmp_path / f"{base}-{name}"  # who knew another Ana would not come in
			home.mkdir()
			spoken = {"camera": "none", "mic": "none", "speaker": "none", **devices}
			if name != names[0]:
				spoken |= {"camera": "none", "mic": "none", "speaker": str(tmp_path / f"{name}.wav")}
			clients.append(cs.MeetingController(cs.ClientOptions(name, "", AT, base, **spoken), home))
			clients[-1].start()
			wait_for(clients[-1], "joined")
		yield weather, clients
	finally:
		for client in clients:
			client.close()
		passage.close()
		weather.close()


def wait_for(client: cs.MeetingController, event: str, patience: float = 20.0, **match: Any) -> cs.Json:
	until = time.monotonic() + patience
	while True:
		told: cs.Json = client.gui_queue.get(timeout=max(0.01, until - time.monotonic()))
		if told["event"] == event and all(told[key] == value for key, value in match.items()):
			return told


def within_chance(share: float, count: int, least: float) -> bool:
	"""Whether a `share` of `count` is no proof that less than `least` is usual: seen once in 10,000 runs."""
	good = round(share * count)
	seldom = sum(math.comb(count, n) * least**n * (1.0 - least) ** (count - n) for n in range(good + 1))
	return seldom > 1e-4


def stats_of(client: cs.MeetingController) -> cs.Json:
	client.do({"do": "stats"})
	return wait_for(client, "stats")


# -- pictures ------------------------------------------------------------------------------------------


def pictures(
	meeting: Starts, tmp_path: Path, ledger: Ledger, faults: Faults
) -> tuple[list[tuple[float, int]], list[cs.Json]]:
	"""[(share in time, pictures) of layers 0, 1, 2] and their receivers' stats, at 15 a second."""
	with people(meeting, tmp_path, faults, ("Ana", "Ben", "Cara", "Dan"), camera="pattern") as (
		weather,
		all_,
	):
		ana, *receivers = all_
		ana.do({"do": "camera", "on": True})
		wait_for(ana, "device", what="camera", state="live")
		for layer, receiver in enumerate(receivers):
			receiver.do({"do": "watch", "streams": {"Ana": {"layer": layer, "fps": 15}}})
		time.sleep(1.5)  # layers settle
		weather.begin()
		since = time.monotonic()
		time.sleep(SECONDS)
		until = time.monotonic()
		time.sleep(0.5)
		told = [stats_of(receiver) for receiver in receivers]
		shares = []
		for layer, receiver in enumerate(receivers):
			assert receiver.media.video is not None
			(stream,) = receiver.media.video.streams.values()
			shares.append(ledger.share_in_time(id(stream), layer, since, until))
		print(f"{faults}: whole within 200 ms, by layer: {[f'{share:.1%} of {n}' for share, n in shares]}")
		return shares, told


@needs_quiet
@pytest.mark.long
@pytest.mark.calm
@pytest.mark.parametrize(
	("loss", "least"), [(0.10, 0.92)] if not LONG else [(0.01, 0.985), (0.05, 0.97), (0.10, 0.92)]
)
def test_lost_parts_are_asked_for_again(
	meeting: Starts, tmp_path: Path, ledger: Ledger, loss: float, least: float
) -> None:
	"""On real sockets, too, as well as chance lets it."""

	def repaired() -> bool:
		shares, told = pictures(meeting, tmp_path, ledger, Faults(loss))
		assert sum(one["video"]["Ana"]["repaired"] for one in told) > 0
		# the next picture takes the place of one of a single datagram before that is missed
		bounds = (1.0 - loss) ** 2, least, least
		return all(
			count >= 10 * SECONDS and within_chance(share, count, bound)
			for (share, count), bound in zip(shares, bounds, strict=True)
		)

	assert best_of(2, repaired)


@needs_quiet
@pytest.mark.long
@pytest.mark.calm
def test_pictures_through_everything_at_once(meeting: Starts, tmp_path: Path, ledger: Ledger) -> None:
	faults = Faults(loss=0.05, jitter=0.06, duplicate=0.05, corrupt=0.02)

	def come() -> bool:
		shares, told = pictures(meeting, tmp_path, ledger, faults)
		for one in told:
			assert one["udp"] == "ok"
			assert one["counters"], "what was dropped is counted"
			assert "bugs" not in one["counters"]
		# every datagram up to 60 ms late, twice: most asking again is in vain
		return shares[0][0] >= 0.25 and min(share for share, _ in shares) > 0.05

	assert best_of(2, come)


@pytest.mark.long
@pytest.mark.calm
@needs_quiet
def test_loss_between_two_machines(lan: Callable[[int], Lan], meeting: Starts) -> None:
	"""The kernel of each namespace drops 5 % of what reaches it, which may be all that one call sent: the
	last datagram, which goes by itself, tells of the others."""
	net = lan(2)
	ana = meeting("--host", "--name", "Ana", *SILENT, "--camera", "pattern", netns=net.namespace(1))
	ana.wait("joined", timeout=40)
	ben = meeting("--join", net.address(1), "--name", "Ben", *SILENT, netns=net.namespace(2))
	ben.wait("joined", timeout=40)
	switch(ana, "camera", True)
	ben.send(do="watch", streams={"Ana": {"layer": 2, "fps": 15}})
	ben.wait("video_start", name="Ana")
	time.sleep(3.0)  # the layer comes
	for host in (1, 2):
		net.loss(host, 5)
	before = stats(ben)["video"]["Ana"]
	time.sleep(SECONDS)
	after = stats(ben)["video"]["Ana"]
	frames, lost, repaired = (after[key] - before[key] for key in ("frames", "lost_frames", "repaired"))
	print(f"layer {after['layer']}: {frames} whole, {repaired} of them repaired, {lost} lost")
	assert frames >= 0.7 * 15 * SECONDS
	assert lost <= 0.05 * (frames + lost)


# -- speech --------------------------------------------------------------------------------------------


@cache
def speech() -> NDArray[np.int16]:
	"""Ten seconds of speech at 16 kHz."""
	if shutil.which("espeak-ng"):
		words = (
			"The quick brown fox jumps over the lazy dog, while seven wizards make toxic brew for the queen. "
			* 3
		)
		said = subprocess.run(
			["espeak-ng", "-s", "150", "--stdout", words], check=True, stdout=subprocess.PIPE
		).stdout
		with wave.open(io.BytesIO(said)) as file:
			rate = file.getframerate()
			samples = np.frombuffer(file.readframes(1 << 20), "<i2").astype(np.int16)
		samples = cs.Resampler(rate, 16_000).push(samples)
	else:
		samples = cs._voice(1)
	return np.resize(samples, 160_000).astype(np.int16)


def aligned(clean: NDArray[np.int16], heard: NDArray[np.int16], near: bool = False) -> NDArray[np.float64]:
	"""What was heard of each second of `clean`: the jitter buffer may shift time, which is no distortion.

	`near`: the sounds begin together, so that a second is looked for from one before its time to two after.
	"""
	pieces = []
	for number, second in enumerate(clean.reshape(-1, 16_000)):
		where = heard[max(0, number - 1) * 16_000 :][:64_000] if near else heard
		_, at = best_match(second, where)
		pieces.append(np.resize(where[at : at + 16_000], 16_000))
	return np.concatenate(pieces).astype(float)


def steepest(sound: NDArray[Any]) -> float:
	return float(np.abs(np.diff(sound.astype(float))).max())


class BadLink:
	"""A link in simulated time: what is sent at a moment arrives later, twice or never."""

	def __init__(self, faults: Faults, seed: int) -> None:
		self._faults, self._random = faults, random.Random(seed)
		self._late: list[tuple[float, int, Any]] = []
		self._order = itertools.count()

	def send(self, what: Any, now: float) -> None:
		if self._random.random() < self._faults.loss + self._faults.corrupt:  # what is changed does not open
			return
		for _ in range(1 + (self._random.random() < self._faults.duplicate)):
			at = now + 0.001 + self._random.uniform(0.0, self._faults.jitter)
			heapq.heappush(self._late, (at, next(self._order), what))

	def arrived(self, now: float) -> Iterator[tuple[float, Any]]:
		while self._late and self._late[0][0] <= now:
			at, _, what = heapq.heappop(self._late)
			yield at, what


class Hop:
	"""A sender and who collects its pictures, over two such links, in simulated time."""

	def __init__(self, faults: Faults, seed: int) -> None:
		self.sent, self.got = cs.RetransmissionCache(), cs.Reassembler(layered=False, counters=cs.Counters())
		self.watch, self.path = cs.ReceiverReport(), cs.BandwidthEstimator()
		self._forth, self._back = BadLink(faults, seed), BadLink(faults, seed + 1)
		self._octets = self._pictures = 0
		self._looks_at = 0.0

	def send(self, number: int, picture: bytes, now: float) -> None:
		self.sent.store(picture, now)
		self.sent.note_sent(number)
		layout = frame_datagrams(1, number, picture)
		for at in range(0, len(layout), cs.DATAGRAM):
			self._forth.send(bytes(layout[at : at + cs.DATAGRAM]), now)

	def say(self, block: int, now: float) -> None:
		self._forth.send(block, now)

	def arrived(self, now: float) -> Iterator[cs.WholeFrame]:
		for at, nack in self._back.arrived(now):
			for datagram in self.sent.resend(nack, at):
				self._forth.send(bytes(datagram), at)
		for at, what in self._forth.arrived(now):
			if isinstance(what, int):
				self.watch.note_block(what, at)
				continue
			self._octets += len(what)
			frame = self.got.push(what, at)
			if frame:
				self._pictures += 1
				yield frame
		for nack in self.got.nacks(now):
			self._back.send(nack, now)
		if now < self._looks_at:
			return
		self._looks_at = now + 0.0099  # the program looks each quarter of a second
		report = self.watch.report(self._octets, self._pictures, self.got.lost, now)
		if report:
			self.path.report(report["loss"], report["delay_ms"] / 1e3, report["kbps"] * 125.0, now)


@pytest.mark.parametrize(
	("loss", "least", "size"),
	[
		(0.05, 0.97, 8_000),
		*(one for size in (3_000, 40_000) for one in ((0.01, 0.995, size), (0.10, 0.92, size))),
	],
)
def test_pictures_over_two_bad_links(loss: float, least: float, size: int) -> None:
	"""For two minutes, or one: what chance takes is repaired in time, and not taken for a short path."""
	up, down = Hop(Faults(loss), 1), Hop(Faults(loss), 3)
	pictures, in_time, held = 1_800 if size < 10_000 else 900, 0, 0
	steps = pictures * 500 // 15 + 500
	for step in range(steps):
		now = step / 500
		number, phase = divmod(step * 15, 500)
		if phase < 15 and number < pictures:
			up.send(number, bytes(size), now)
		if step % 8 == 0:
			up.say(step // 8, now)
			down.say(step // 8, now)
		for frame in up.arrived(now):
			down.send(frame.number, frame.sealed, now)
		in_time += sum(now - frame.number / 15 <= IN_TIME for frame in down.arrived(now))
		held += up.path.rate == down.path.rate == math.inf
	print(f"{loss:.0%} of {size} bytes: {in_time / pictures:.1%} in time; no limit for {held / steps:.0%}")
	assert in_time >= least * pictures
	assert held == steps


class Voice:
	"""What leaves a microphone or a mixer: of silence the first three blocks and then every 16th are said."""

	def __init__(self) -> None:
		self._silent = 0

	def said(self, block: NDArray[np.int16] | None) -> bool:
		self._silent = 0 if block is not None else self._silent + 1
		return self._silent <= 3 or self._silent % 16 == 0


def through_a_meeting(clean: NDArray[np.int16], faults: Faults, seed: int) -> NDArray[np.int16]:
	"""What Ben hears of what Ana says, over two such links, in simulated time."""
	mixer, ears, gate = cs.AudioMixer(), cs.JitterBuffer(), cs.VoiceActivityDetector()
	ana, ben = 1, 2
	for ident in (ana, ben):
		mixer.add(ident)
		mixer.mute(ident, False)
	up, down = BadLink(faults, seed), BadLink(faults, seed + 1)
	mouth, mixed, heard = Voice(), Voice(), []
	for number, block in enumerate([*clean.reshape(-1, cs.BLOCK), *np.zeros((60, cs.BLOCK), np.int16)]):
		now = number * cs.BLOCK_SECONDS
		spoken = block if gate.is_voice(block) else None
		if mouth.said(spoken):
			up.send((number, spoken), now)
		for at, (seq, samples) in up.arrived(now + 0.005):
			mixer.push(ana, seq, samples, at)
		mix = mixer.tick(now + 0.005)
		block, loudest = mix[ben]
		out = block.copy() if loudest else None
		if mixed.said(out):
			down.send((number, out), now + 0.005)
		for at, (seq, samples) in down.arrived(now + 0.011):
			ears.push(seq, samples, at)
		heard.append(ears.pull(now + 0.011))
	return np.concatenate(heard)


@pytest.mark.xdist_group("speech")  # to load what judges it takes longer than one of them
@pytest.mark.parametrize(
	("faults", "least", "seed"),
	[
		(Faults(), 0.99, 1),  # without chance each seed is the same
		*(
			(faults, least, seed)
			for faults, least in (
				(Faults(loss=0.01), 0.97),
				(Faults(loss=0.05), 0.93),
				(Faults(loss=0.10), 0.90),
				(Faults(jitter=0.06), 0.97),
				(Faults(loss=0.05, jitter=0.06, duplicate=0.05, corrupt=0.01), 0.92),
			)
			for seed in (1, 2, 3)
		),
	],
	ids=str,
)
def test_speech(faults: Faults, least: float, seed: int) -> None:
	pystoi = pytest.importorskip("pystoi")
	clean = speech()
	heard = through_a_meeting(clean, faults, 10 * seed)
	middle = clean[16_000:-16_000]  # the buffers find their size in the first second
	score = float(pystoi.stoi(middle.astype(float), aligned(middle, heard[16_000:], near=True), 16_000))
	print(f"{faults}: STOI {score:.3f}, steepest {steepest(heard):.0f} of {steepest(clean):.0f}")
	assert score >= least
	assert np.abs(heard.astype(int)).max() <= 1.05 * np.abs(clean.astype(int)).max()
	assert steepest(heard) <= 1.1 * steepest(clean), "a click"


@pytest.mark.long(30)
@pytest.mark.calm
@pytest.mark.timeout(180)
def test_speech_through_real_sockets(meeting: Starts, tmp_path: Path) -> None:
	"""What else runs on the machine can only make it worse: of up to three hearings the best counts."""
	clean = speech()
	faults, mic = Faults(loss=0.05), str(wav(tmp_path / "speech.wav", clean))
	with people(meeting, tmp_path, faults, ("Ana", "Ben"), mic=mic) as (weather, (ana, ben)):
		weather.begin()
		ana.do({"do": "mic", "on": True})
		wait_for(ana, "device", what="mic", state="live")
		since, scores = 0, [0.0]
		while len(scores) <= 3 and max(scores) < 0.85:
			# the file is said in a loop: twice its length holds all of it once
			time.sleep(12.0 if not since else 2 * len(clean) / 16_000)
			figures = stats_of(ben)["audio"]
			heard = heard_in(tmp_path / "Ben.wav")
			scores.append(intelligible(clean[16_000:-16_000], heard[since:]))
			print(f"{faults}, real sockets: STOI {scores[-1]:.3f}, {figures}")
			assert steepest(heard[since:]) <= 1.1 * steepest(np.tile(clean, 2)), "a click"
			since = len(heard)
	assert max(scores) >= 0.85


def intelligible(said: NDArray[np.int16], heard: NDArray[np.int16]) -> float:
	"""The STOI of the middle two of four quarters: one dropout of a busy machine spoils one of them."""
	pystoi = pytest.importorskip("pystoi")
	pairs = zip(np.split(said.astype(float), 4), np.split(aligned(said, heard), 4), strict=True)
	scores = sorted(float(pystoi.stoi(piece, got, 16_000)) for piece, got in pairs)
	return (scores[1] + scores[2]) / 2
