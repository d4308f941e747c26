"""Frames into datagrams and back, over links that lose, double, reorder and lie."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import threading
import tracemalloc
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import frame_datagrams

import connectsphere
from connectsphere import (
	ALL_PARTS,
	BURST_GAP,
	BURST_PARTS,
	CHUNK,
	DATAGRAM,
	FRAME_LIFE,
	LAYER_SHIFT,
	MAX_FRAME,
	MAX_HELD,
	MAX_OPEN,
	MAX_PARTS,
	MAX_SENDERS,
	VIDEO_HEADER,
	Counters,
	FrameDropper,
	Kind,
	Nack,
	Pacer,
	Reassembler,
	RetransmissionCache,
	Sealer,
	SendBudget,
	WholeFrame,
)


def sealed_of(size: int, seed: int = 1) -> bytes:
	return random.Random(seed).randbytes(size)


def parts(layout: bytes) -> list[bytes]:
	return [bytes(layout[at : at + DATAGRAM]) for at in range(0, len(layout), DATAGRAM)]


def feed(reassembler: Reassembler, datagrams: list[bytes], now: float) -> list[WholeFrame]:
	return [frame for frame in (reassembler.push(d, now) for d in datagrams) if frame]


def idle(reassembler: Reassembler, now: float) -> bool:
	"""Whether nothing is open: nothing to ask for at `now`, and no later time to ask."""
	return reassembler.nacks(now) == [] and reassembler.next_due(now) is None


# -- datagrams ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 17, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK, 20_016, MAX_FRAME])
def test_layout_is_every_datagram_back_to_back(size: int) -> None:
	sealed = sealed_of(size)
	total = -(-size // CHUNK)
	expected = b"".join(
		VIDEO_HEADER.pack(7, 99, total, i) + sealed[i * CHUNK : (i + 1) * CHUNK] for i in range(total)
	)
	assert bytes(frame_datagrams(7, 99, sealed)) == expected


@given(
	st.lists(
		st.tuples(
			st.integers(1, 3),
			st.integers(0, 2**32 - 1),
			st.sampled_from([1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK - 1]),
		),
		max_size=12,
	)
)
def test_what_frames_have_in_common_is_laid_out_once_and_none_shows_in_another(
	frames: list[tuple[int, int, int]],
) -> None:
	layout = connectsphere.FrameLayout(4)
	for ident, number, size in [frame for one in frames for frame in (one, one)]:
		sealed = sealed_of(size, number)
		assert bytes(layout.lay(ident, number, sealed)) == frame_datagrams(ident, number, sealed)


# -- reassembly -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, CHUNK, CHUNK + 1, 20_016, 50 * CHUNK, MAX_FRAME])
@pytest.mark.parametrize("batch", [True, False])
def test_frame_comes_home(size: int, batch: bool) -> None:
	reassembler, sealed = Reassembler(False, Counters()), sealed_of(size)
	layout = frame_datagrams(3, 5, sealed)
	if batch:
		frames = reassembler.push_batch(layout, DATAGRAM, 1.0)
	else:
		frames = feed(reassembler, parts(layout), 1.0)
	assert frames == [WholeFrame(3, 5, sealed, 1.0)]
	assert reassembler.held(3) == 0
	assert idle(reassembler, 1.05)


def test_frame_in_order_takes_no_work_for_each_datagram(monkeypatch: pytest.MonkeyPatch) -> None:
	reassembler, sealed = Reassembler(False, Counters()), sealed_of(20_016)
	monkeypatch.setattr(Reassembler, "push", None)
	assert reassembler.push_batch(frame_datagrams(3, 5, sealed), DATAGRAM, 1.0)[0].sealed == sealed


def test_frame_split_over_three_batches_out_of_order() -> None:
	reassembler, sealed = Reassembler(False, Counters()), sealed_of(150 * CHUNK + 9)
	layout = frame_datagrams(3, 5, sealed)
	cut = 58 * DATAGRAM
	assert reassembler.push_batch(layout[2 * cut :], DATAGRAM, 1.0) == []
	assert reassembler.push_batch(layout[:cut], DATAGRAM, 1.0) == []
	assert reassembler.push_batch(layout[cut : 2 * cut], DATAGRAM, 1.0)[0].sealed == sealed


def test_batch_of_two_senders_and_two_frames_is_taken_apart() -> None:
	reassembler = Reassembler(False, Counters())
	first, second, other = sealed_of(4 * CHUNK, 1), sealed_of(3 * CHUNK, 2), sealed_of(2 * CHUNK + 1, 3)
	buffer = frame_datagrams(1, 8, first) + frame_datagrams(1, 9, second) + frame_datagrams(2, 1, other)
	frames = reassembler.push_batch(buffer, DATAGRAM, 0.0)
	assert [(frame.id, frame.number, frame.sealed) for frame in frames] == [
		(1, 8, first),
		(1, 9, second),
		(2, 1, other),
	]


def test_batch_that_overlaps_what_is_there() -> None:
	counters = Counters()
	reassembler, sealed = Reassembler(False, counters), sealed_of(10 * CHUNK)
	layout = frame_datagrams(1, 1, sealed)
	reassembler.push_batch(layout[2 * DATAGRAM : 5 * DATAGRAM], DATAGRAM, 0.0)
	assert reassembler.push_batch(layout, DATAGRAM, 0.0)[0].sealed == sealed
	assert counters.snapshot() == {"video.duplicate": 3}


def test_any_order_and_doubles_come_home_once() -> None:
	sealed = sealed_of(12 * CHUNK + 5)
	for seed in range(50):
		reassembler = Reassembler(False, Counters())
		datagrams = 2 * parts(frame_datagrams(1, 1, sealed))
		random.Random(seed).shuffle(datagrams)
		assert [frame.sealed for frame in feed(reassembler, datagrams, 0.0)] == [sealed]


def malformed() -> Iterator[bytes]:
	full, short = bytes(CHUNK), bytes(CHUNK - 1)
	yield b""
	yield b"\0" * 11
	yield VIDEO_HEADER.pack(1, 1, 1, 0)
	yield VIDEO_HEADER.pack(1, 1, 0, 1) + b"small message"
	yield VIDEO_HEADER.pack(1, 1, 2, 2) + full
	yield VIDEO_HEADER.pack(1, 1, 2, 0) + short
	yield VIDEO_HEADER.pack(1, 1, MAX_PARTS + 1, 0) + full
	yield VIDEO_HEADER.pack(1, 1, 1, 0) + full + b"x"


@pytest.mark.parametrize("datagram", list(malformed()))
def test_malformed_datagrams_are_counted(datagram: bytes) -> None:
	counters = Counters()
	reassembler = Reassembler(False, counters)
	assert reassembler.push(datagram, 0.0) is None
	assert counters.snapshot() == {"video.malformed": 1}
	assert reassembler.next_due(0.0) is None


def test_lie_about_the_total_is_counted_and_changes_nothing() -> None:
	counters = Counters()
	reassembler, sealed = Reassembler(False, counters), sealed_of(3 * CHUNK)
	honest = parts(frame_datagrams(1, 1, sealed))
	lie = VIDEO_HEADER.pack(1, 1, 9, 1) + bytes(CHUNK)
	assert feed(reassembler, [honest[0], lie, honest[1], honest[2]], 0.0)[0].sealed == sealed
	assert counters.snapshot() == {"video.other_total": 1}


def test_later_frame_delivers_at_once_and_the_earlier_one_is_late() -> None:
	counters = Counters()
	reassembler = Reassembler(False, counters)
	old, new = (parts(frame_datagrams(1, n, sealed_of(2 * CHUNK, n))) for n in (1, 2))
	assert feed(reassembler, [old[0]], 0.0) == []
	assert [frame.number for frame in feed(reassembler, new, 0.0)] == [2]
	assert feed(reassembler, old, 0.0) == []
	assert counters.snapshot() == {"video.late": 2}
	assert reassembler.held(1) == 0


def test_layers_are_apart_upstream_and_numbers_are_whole_downstream() -> None:
	up, down = Reassembler(True, Counters()), Reassembler(False, Counters())
	high, low = (3 << LAYER_SHIFT) | 5, 6
	datagrams = [bytes(frame_datagrams(1, n, b"x")) for n in (high, low)]
	assert [frame.number for frame in feed(up, datagrams, 0.0)] == [high, low]
	assert [frame.number for frame in feed(down, datagrams, 0.0)] == [high]


@pytest.mark.parametrize("order", [*itertools.permutations((1, 2, 3))])
def test_of_what_one_read_brings_only_those_asked_for_are_taken(order: tuple[int, ...]) -> None:
	"""A peer's datagrams come joined, and each may bear another id."""
	counters = Counters()
	reassembler = Reassembler(True, counters, only={2})
	joined = b"".join(bytes(frame_datagrams(id, 5, bytes(2 * CHUNK)))[:DATAGRAM] for id in order)
	assert reassembler.push_batch(joined, DATAGRAM, 1.0) == []
	assert [reassembler.held(id) > 0 for id in (1, 2, 3)] == [False, True, False]
	assert {nack.id for nack in reassembler.nacks(1.05)} == {2}
	assert counters.snapshot() == {"video.unasked": 2}
	whole = b"".join(bytes(frame_datagrams(id, 6, bytes(CHUNK))) for id in order)
	assert [frame.id for frame in reassembler.push_batch(whole, DATAGRAM, 1.1)] == [2]


def test_gap_in_the_numbers_is_lost_and_counted_once() -> None:
	reassembler = Reassembler(False, Counters())
	for number in (10, 11, 15, 16):
		feed(reassembler, [bytes(frame_datagrams(1, number, b"x"))], 0.0)
	assert reassembler.counts(1)["lost_frames"] == 3
	assert reassembler.counts(2)["lost_frames"] == 0


def test_what_is_lost_is_counted_while_senders_come_and_go() -> None:
	"""The report is made by another thread than the one that collects."""
	reassembler, over = Reassembler(False, Counters()), threading.Event()

	def come_and_go() -> None:
		for ident in itertools.cycle(range(64)):
			reassembler._streams.setdefault(ident, {})[0] = connectsphere._Stream()
			reassembler.forget(ident - 32)
			if over.is_set():
				return

	coming = threading.Thread(target=come_and_go)
	coming.start()
	try:
		assert not any(reassembler.lost for _ in range(3_000))
	finally:
		over.set()
		coming.join()


def test_a_frame_that_is_given_up_or_passed_over_is_lost_once() -> None:
	"""By a crowd of open ones, by time, by a later one: one count, whatever comes afterwards."""
	chance = random.Random(8)
	for _ in range(200):
		reassembler, now, delivered = Reassembler(False, Counters()), 0.0, [0]
		feed(reassembler, [frame_datagrams(1, 0, b"x")], now)
		numbers = sorted(chance.sample(range(1, 40), 20))
		for number in numbers:
			now += chance.choice([0.001, 0.03, 0.2])
			reassembler.nacks(now)
			datagrams = parts(frame_datagrams(1, number, bytes(2 * CHUNK)))
			delivered += [f.number for f in feed(reassembler, datagrams[: chance.choice([1, 1, 2])], now)]
		feed(reassembler, [frame_datagrams(1, 41, b"x")], now)
		assert reassembler.lost == reassembler.counts(1)["lost_frames"] == 41 - len(delivered)


# -- nacks ----------------------------------------------------------------------------------


def test_gap_is_asked_for_after_two_milliseconds_four_times() -> None:
	reassembler = Reassembler(False, Counters())
	datagrams = parts(frame_datagrams(1, 1, sealed_of(5 * CHUNK)))
	feed(reassembler, [datagrams[0], datagrams[2], datagrams[4]], 1.0)
	wanted = [Nack(1, 1, 0b01010)]
	assert reassembler.next_due(1.0) == pytest.approx(1.002)
	assert reassembler.nacks(1.001) == []
	for at in (1.002, 1.017, 1.032, 1.047):
		assert reassembler.nacks(at - 0.0005) == []
		assert reassembler.nacks(at) == wanted
	assert reassembler.next_due(1.05) == pytest.approx(1.0 + FRAME_LIFE)
	assert reassembler.nacks(1.119) == []
	assert reassembler.nacks(1.121) == []
	assert reassembler.next_due(1.2) is None
	assert reassembler.held(1) == 0


def test_missing_tail_is_asked_for_after_ten_milliseconds() -> None:
	reassembler = Reassembler(False, Counters())
	datagrams = parts(frame_datagrams(1, 1, sealed_of(3 * CHUNK)))
	feed(reassembler, datagrams[:1], 1.000)
	feed(reassembler, datagrams[1:2], 1.006)
	assert reassembler.nacks(1.0159) == []
	assert reassembler.nacks(1.0161) == [Nack(1, 1, 0b100)]


def test_reordering_within_two_milliseconds_asks_for_nothing() -> None:
	reassembler = Reassembler(False, Counters())
	datagrams = parts(frame_datagrams(1, 1, sealed_of(4 * CHUNK)))
	feed(reassembler, [datagrams[1], datagrams[0]], 1.0)
	assert reassembler.nacks(1.005) == []


def test_whole_missing_frame_is_asked_for() -> None:
	reassembler = Reassembler(False, Counters())
	feed(reassembler, [bytes(frame_datagrams(1, 1, b"x"))], 1.0)
	feed(reassembler, parts(frame_datagrams(1, 3, sealed_of(3 * CHUNK)))[:2], 1.05)
	assert reassembler.nacks(1.0521) == [Nack(1, 2, ALL_PARTS)]
	assert feed(reassembler, [bytes(frame_datagrams(1, 2, b"y"))], 1.055)[0].sealed == b"y"
	assert reassembler.counts(1) == {"lost_frames": 0, "repaired": 1}


def test_round_trip_time_stretches_the_rounds() -> None:
	reassembler = Reassembler(False, Counters())
	reassembler.rtt = 0.030
	datagrams = parts(frame_datagrams(1, 1, sealed_of(3 * CHUNK)))
	feed(reassembler, [datagrams[0], datagrams[2]], 1.0)
	assert reassembler.nacks(1.002)
	assert reassembler.nacks(1.046) == []
	assert reassembler.nacks(1.0471)


def test_late_part_of_a_given_up_frame_opens_nothing() -> None:
	counters = Counters()
	reassembler = Reassembler(False, counters)
	datagrams = parts(frame_datagrams(1, 1, sealed_of(3 * CHUNK)))
	feed(reassembler, datagrams[:1], 1.0)
	reassembler.nacks(1.2)
	feed(reassembler, datagrams[1:], 1.21)
	assert reassembler.next_due(1.21) is None
	assert counters.snapshot() == {"video.late": 2}


# -- what someone who can spoof addresses may do --------------------------------------------


def test_forged_frame_is_asked_for_once_more_and_then_given_up() -> None:
	reassembler = Reassembler(False, Counters())
	forged, honest = (parts(frame_datagrams(1, 9, sealed_of(2 * CHUNK, seed))) for seed in (1, 2))
	(frame,) = feed(reassembler, forged, 1.0)
	assert reassembler.retry(frame)
	assert reassembler.nacks(1.0) == [Nack(1, 9, ALL_PARTS)]
	(frame,) = feed(reassembler, honest, 1.01)
	assert frame.sealed == sealed_of(2 * CHUNK, 2)
	assert not reassembler.retry(frame)
	assert feed(reassembler, honest, 1.02) == []
	assert idle(reassembler, 1.2)


def test_forged_high_number_does_not_block_the_honest_ones() -> None:
	reassembler = Reassembler(False, Counters())
	feed(reassembler, [bytes(frame_datagrams(1, 5, b"x"))], 1.0)
	(forged,) = feed(reassembler, [bytes(frame_datagrams(1, 2**32 - 1, b"forged"))], 1.01)
	reassembler.retry(forged)
	for number in (6, 7):
		assert feed(reassembler, [bytes(frame_datagrams(1, number, b"y"))], 1.02)[0].number == number
	assert reassembler.counts(1)["lost_frames"] == 0


def test_open_frames_and_bytes_of_a_sender_are_bounded() -> None:
	counters = Counters()
	reassembler = Reassembler(True, counters)
	for number, layer in itertools.product(range(1, 40), range(4)):
		layout = frame_datagrams(1, layer << LAYER_SHIFT | number, bytes(MAX_FRAME))
		reassembler.push_batch(layout[:-DATAGRAM], DATAGRAM, 1.0)
		assert reassembler.held(1) <= MAX_HELD
	assert len(reassembler.nacks(1.05)) <= 4 * MAX_OPEN
	assert counters.snapshot()["video.crowded"] > 100


def test_number_of_senders_is_bounded() -> None:
	reassembler = Reassembler(False, Counters())
	for ident in range(MAX_SENDERS + 10):
		reassembler.push(VIDEO_HEADER.pack(ident, 1, 2, 0) + bytes(CHUNK), 1.0)
	assert reassembler.held(9) == 0
	assert reassembler.held(10) == CHUNK
	reassembler.forget(10)
	assert reassembler.held(10) == 0


datagram = st.builds(
	lambda ident, number, total, index, size: VIDEO_HEADER.pack(ident, number, total, index) + bytes(size),
	st.integers(0, 2),
	st.sampled_from([0, 1, 2, 3, 4, 5, 9, 2**30, 2**30 + 1, 2**32 - 1]),
	st.integers(0, 5) | st.sampled_from([255, 256, 257, 65_535]),
	st.integers(0, 5) | st.sampled_from([255, 256, 65_535]),
	st.sampled_from([0, 1, 500, CHUNK - 1, CHUNK, CHUNK, CHUNK, CHUNK + 1]),
)
step = st.tuples(
	st.lists(datagram | st.binary(max_size=40), max_size=6),
	st.sampled_from([1, 12, 13, 600, DATAGRAM, DATAGRAM, DATAGRAM, 65_535]),
	st.floats(0, 0.05),
	st.booleans(),
)


@settings(max_examples=120, deadline=None)
@given(layered=st.booleans(), steps=st.lists(step, max_size=30))
def test_nothing_that_a_peer_sends_raises_or_grows(
	layered: bool, steps: list[tuple[list[bytes], int, float, bool]]
) -> None:
	reassembler, now = Reassembler(layered, Counters()), 0.0
	for datagrams, segment, later, opens in steps:
		now += later
		frames = reassembler.push_batch(b"".join(datagrams), segment, now)
		frames += feed(reassembler, datagrams, now)
		for frame in frames:
			assert 0 < len(frame.sealed) <= MAX_FRAME
			assert opens or reassembler.retry(frame) in (True, False)
		for nack in reassembler.nacks(now):
			assert 0 < nack.bitmap <= ALL_PARTS
		assert all(reassembler.held(ident) <= MAX_HELD for ident in range(3))
		assert (reassembler.next_due(now) or now) >= now
	reassembler.nacks(now + 2 * FRAME_LIFE)
	assert reassembler.next_due(now) is None
	assert all(reassembler.held(ident) == 0 for ident in range(3))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 9 * CHUNK), min_size=1, max_size=8))
def test_honest_frames_survive_shuffling_between_forgeries(seed: int, sizes: list[int]) -> None:
	chance = random.Random(seed)
	reassembler = Reassembler(False, Counters())
	for number, size in enumerate(sizes, 1):
		sealed = chance.randbytes(size)
		datagrams = parts(frame_datagrams(1, number, sealed))
		noise = [chance.randbytes(chance.randrange(1200)) for _ in range(5)]
		mixed = datagrams + noise + chance.sample(datagrams, len(datagrams) // 2)
		chance.shuffle(mixed)
		assert [f.sealed for f in feed(reassembler, mixed, 0.0) if f.id == 1] == [sealed]


# -- a link that loses ------------------------------------------------------------------------


class LossyLink:
	"""Sender, receiver and a link between them that loses a share of the datagrams each way, on one clock."""

	def __init__(self, loss: float, delay: float, seed: int) -> None:
		self.loss = loss
		self.delay = delay
		self.chance = random.Random(seed)
		self.events: list[tuple[float, int, str, object]] = []
		self.serial = itertools.count()
		self.sent = RetransmissionCache()
		self.receiver = Reassembler(False, Counters())
		self.receiver.rtt = 2 * delay
		self.home: dict[int, float] = {}
		self.resent = 0

	def at(self, when: float, kind: str, what: object) -> None:
		heapq.heappush(self.events, (when, next(self.serial), kind, what))

	def carry(self, now: float, kind: str, what: object) -> None:
		if self.chance.random() >= self.loss:
			self.at(now + self.delay, kind, what)

	def run(self, frames: int, interval: float) -> None:
		for number in range(frames):
			self.at(number * interval, "frame", number)
		while self.events:
			now, _, kind, what = heapq.heappop(self.events)
			getattr(self, f"on_{kind}")(what, now)
			due = self.receiver.next_due(now)
			if due is not None and kind != "nothing":
				self.at(due, "timer", None)

	def on_frame(self, number: int, now: float) -> None:
		sealed = sealed_of(14 * CHUNK + 500, number)
		layout = frame_datagrams(1, number, sealed)
		self.sent.store(sealed, now)
		self.sent.note_sent(number)
		for datagram in parts(layout):
			self.carry(now, "datagram", datagram)

	def on_datagram(self, datagram: bytes, now: float) -> None:
		frame = self.receiver.push(datagram, now)
		if frame:
			assert frame.sealed == sealed_of(14 * CHUNK + 500, frame.number)
			self.home[frame.number] = now

	def on_timer(self, _: None, now: float) -> None:
		for nack in self.receiver.nacks(now):
			self.carry(now, "nack", nack)

	def on_nack(self, nack: Nack, now: float) -> None:
		for datagram in self.sent.resend(nack, now):
			self.resent += 1
			self.carry(now, "datagram", bytes(datagram))


@pytest.mark.parametrize("fps", [15, 30])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nacks_bring_frames_home_over_a_link_that_loses_five_percent(seed: int, fps: int) -> None:
	link = LossyLink(loss=0.05, delay=0.001, seed=seed)
	link.run(frames=600, interval=1 / fps)
	in_time = [n for n, at in link.home.items() if at - n / fps <= 0.200]
	assert len(in_time) >= 0.97 * 600
	assert link.receiver.counts(1)["repaired"] > 200
	assert link.resent <= 0.25 * 15 * 600
	assert link.receiver.held(1) == 0


def test_without_nacks_the_same_link_loses_half_of_the_frames() -> None:
	link = LossyLink(loss=0.05, delay=0.001, seed=1)
	link.sent.BUDGET = 0.0
	link.run(frames=300, interval=1 / 15)
	assert len(link.home) < 0.6 * 300


@pytest.mark.parametrize("delay", [0.002, 0.015, 0.030, 0.040])
def test_what_is_lost_is_sent_once_more_however_far_away_the_receiver_is(delay: float) -> None:
	"""Nobody tells the round-trip time: the receiver learns it from what it asked for."""
	link = LossyLink(loss=0.02, delay=delay, seed=4)
	link.receiver.rtt = 0.0
	lost = itertools.count()
	carry = link.carry

	def counting(now: float, kind: str, what: object) -> None:
		before = len(link.events)
		carry(now, kind, what)
		if kind == "datagram" and len(link.events) == before:
			next(lost)

	link.carry = counting  # type: ignore[method-assign]
	link.run(frames=600, interval=1 / 15)
	assert link.resent <= 1.05 * next(lost)
	assert link.receiver.rtt == pytest.approx(2 * delay, rel=0.35)
	assert len(link.home) >= 595 or delay > 0.02, "a later one may be whole before that comes"


# -- resending --------------------------------------------------------------------------------


def keep(sent: RetransmissionCache, number: int, frame: bytes, now: float, *receivers: int) -> None:
	"""Send `frame` as `number` to each of the receivers."""
	sent.store(frame, now)
	for receiver in receivers or (0,):
		sent.note_sent(number, receiver)


def test_resend_gives_the_very_bytes_asked_for() -> None:
	sent = RetransmissionCache()
	for number in range(8):
		keep(sent, number, sealed_of(4 * CHUNK + 3, number), number / 100)
	stored = parts(frame_datagrams(4, 6, sealed_of(4 * CHUNK + 3, 6)))
	assert sent.resend(Nack(4, 6, 0b10010), 0.1) == [stored[1], stored[4]]
	assert sent.resend(Nack(4, 6, ALL_PARTS), 0.1) == stored
	assert sent.resend(Nack(4, 6, 1 << 9), 0.1) == []
	assert sent.resend(Nack(4, 99, 1), 0.1) == []
	assert sent.resend(Nack(4, 6, 1), 0.1, receiver=1) == []


def test_each_receiver_gets_its_own_numbers_sealed_with_its_own_key_again() -> None:
	"""One frame is thinned out for one of the two, whose numbers have no gap for it."""
	sent, sealers = RetransmissionCache(), {1: Sealer(b"1" * 16), 2: Sealer(b"2" * 16)}
	sent.BUDGET = 1.0
	frames = [sealed_of(3 * CHUNK, seed) for seed in range(3)]
	first: dict[tuple[int, int], list[bytes]] = {}
	for place, frame in enumerate(frames):
		sent.store(frame, 1.0)
		for receiver, number in ((1, place + 1), (2, place)):
			if number:
				sealed = sealers[receiver].seal(Kind.VIDEO, 7, number, frame, 4)
				sent.note_sent(number, receiver)
				first[receiver, number] = parts(frame_datagrams(7, number, sealed))
	for (receiver, number), datagrams in first.items():
		seal = partial(sealers[receiver].again, Kind.VIDEO, 7, total=4)
		assert sent.resend(Nack(7, number, 0b1010), 1.1, seal, receiver) == datagrams[1::2]


def test_resend_ends_after_a_quarter_of_a_second() -> None:
	sent = RetransmissionCache()
	keep(sent, 1, bytes(8 * CHUNK), 1.0)
	assert sent.resend(Nack(1, 1, 1), 1.249)
	assert sent.resend(Nack(1, 1, 1), 1.251) == []


def test_resends_are_a_quarter_of_the_stream_and_come_back() -> None:
	sent = RetransmissionCache()
	for number in range(10):
		keep(sent, number, bytes(8 * CHUNK), 1.0 + number / 20, 1, 2)
	given = sum(len(sent.resend(Nack(1, 9, 1 << p), 1.5, receiver=1)) for _ in range(10) for p in range(8))
	assert given == 20
	assert sent.resend(Nack(1, 9, 1), 1.5, receiver=2), "another receiver has a budget of its own"
	keep(sent, 10, bytes(8 * CHUNK), 2.6, 1, 2)
	assert sent.resend(Nack(1, 10, 0b11), 2.6, receiver=1)
	sent.forget(1)
	assert sent.resend(Nack(1, 10, 0b11), 2.6, receiver=1) == []


def test_who_comes_back_is_not_sent_again_what_was_sealed_with_the_key_before() -> None:
	"""Numbers begin anew with the key: another frame under one that was used would break it."""
	sent = RetransmissionCache()
	keep(sent, 1, bytes(8 * CHUNK), 1.0, 5)
	sent.forget(5)
	keep(sent, 2, bytes(9 * CHUNK), 1.01, 5)
	seal = partial(Sealer(b"2" * 16).again, Kind.VIDEO, 1)
	assert sent.resend(Nack(1, 1, 1), 1.02, seal, 5) == []
	assert sent.resend(Nack(1, 2, 1), 1.02, seal, 5)


def test_what_is_kept_does_not_grow_with_the_receivers_and_not_with_time() -> None:
	"""A class of thirty where everyone sees everyone in layer 2: 225 MB of frames sent, a few kept."""
	people, size, now = 30, 18_000, 1.0
	caches = [RetransmissionCache() for _ in range(people)]
	tracemalloc.start()
	try:
		for number, sent in itertools.product(range(15), caches):
			now += 1 / 15 / people
			keep(sent, number, bytes(size), now, *range(people - 1))
		assert tracemalloc.get_traced_memory()[0] < 8e6
		for sent in caches:
			sent.expire(now + 0.3)
		assert tracemalloc.get_traced_memory()[0] < 1e6
	finally:
		tracemalloc.stop()


# -- thinning ---------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [14.6, 15, 15.3, 30, 60])
def test_thinner_passes_the_asked_rate_through_jitter(source: float) -> None:
	chance = random.Random(5)
	thinner = FrameDropper(15)
	jitter = 0.2 / max(source, 15)
	seconds = 20
	times = [n / source + chance.uniform(-jitter, jitter) for n in range(int(seconds * source))]
	taken = [at for at in times if thinner.take(at)]
	assert len(taken) == pytest.approx(seconds * min(source, 15), rel=0.03)
	gaps = [b - a for a, b in itertools.pairwise(taken)]
	assert max(gaps) < 2.3 / 15


def test_thinner_passes_every_frame_and_every_second_one() -> None:
	same, half = FrameDropper(15), FrameDropper(15)
	assert [same.take(n / 15) for n in range(150)] == [True] * 150
	assert [half.take(n / 30) for n in range(300)] == [True, False] * 150
	assert not FrameDropper(0).take(1.0)


# -- egress -----------------------------------------------------------------------------------


def play(scheduler: Pacer, now: float, budget: int = 10**9) -> list[tuple[float, int, int]]:
	"""(time, receiver, bytes) of all that leaves until nothing is queued."""
	leaving = []
	while (due := scheduler.next_due()) is not None:
		now = max(now, due)
		leaving += [(now, receiver, len(view)) for receiver, view in scheduler.due(now, budget)]
		now += 1e-6
	return leaving


def layout_of(parts_wanted: int) -> bytes:
	return frame_datagrams(1, 1, bytes(parts_wanted * CHUNK))


def test_small_frame_leaves_at_once_in_one_piece() -> None:
	scheduler = Pacer(Counters())
	layout = layout_of(19)
	scheduler.queue(1, 0, layout, 5.0, 0.06)
	((receiver, view),) = scheduler.due(5.0, 10**9)
	assert receiver == 1
	assert bytes(view) == bytes(layout)
	assert scheduler.next_due() is None


def test_frames_of_thirty_receivers_are_spread_over_the_interval() -> None:
	scheduler = Pacer(Counters())
	scheduler.note_loss(5.0)
	for receiver in range(30):
		scheduler.queue(receiver, 0, layout_of(19), 5.0, 0.06)
	leaving = play(scheduler, 5.0)
	assert [receiver for _, receiver, _ in leaving] == list(range(30))
	gaps = [b[0] - a[0] for a, b in itertools.pairwise(leaving)]
	assert leaving[-1][0] == pytest.approx(5.058, abs=0.003)
	assert max(gaps) < 0.003
	assert min(gaps) > 0.001


def test_large_frames_leave_in_pieces_no_further_apart_than_a_tail_may_be() -> None:
	scheduler = Pacer(Counters())
	scheduler.note_loss(5.0)
	for receiver in range(10):
		scheduler.queue(receiver, 0, layout_of(170), 5.0, 0.06)
	leaving = play(scheduler, 5.0)
	assert max(size for _, _, size in leaving) <= BURST_PARTS * DATAGRAM
	assert leaving[-1][0] < 5.0 + 0.06 + 6 * BURST_GAP
	for receiver in range(10):
		times = [at for at, who, _ in leaving if who == receiver]
		assert sum(size for _, who, size in leaving if who == receiver) == 170 * DATAGRAM
		assert max(b - a for a, b in itertools.pairwise(times)) < 0.010


def test_pieces_of_a_frame_are_whole_datagrams_in_order() -> None:
	scheduler = Pacer(Counters())
	layout = frame_datagrams(1, 1, sealed_of(100 * CHUNK + 7))
	scheduler.queue(1, 0, layout, 0.0, 0.06)
	pieces, now = [], 0.0
	while (due := scheduler.next_due()) is not None:
		now = max(now, due) + 1e-6
		pieces += [bytes(view) for _, view in scheduler.due(now, 10**9)]
	assert b"".join(pieces) == bytes(layout)
	assert all(len(piece) % DATAGRAM == 0 for piece in pieces[:-1])


def test_priorities_go_first_and_receivers_take_turns() -> None:
	scheduler = Pacer(Counters())
	for priority, receiver in [(2, 1), (2, 1), (2, 2), (1, 9), (0, 8)]:
		scheduler.queue(receiver, priority, layout_of(20), 1.0, 0.06)
	assert [receiver for _, receiver, _ in play(scheduler, 1.0)] == [8, 9, 1, 2, 1]


def test_receiver_that_lags_an_interval_loses_its_oldest_frame_whole() -> None:
	counters = Counters()
	scheduler = Pacer(counters)
	for turn in range(3):
		scheduler.queue(1, 0, layout_of(20 + turn), 1.0 + turn * 0.060, 0.06)
	assert counters.snapshot() == {"egress.dropped": 1}
	assert [size // DATAGRAM for _, _, size in play(scheduler, 1.121)] == [21, 22]


def test_lone_late_frame_is_still_sent() -> None:
	scheduler = Pacer(Counters())
	scheduler.queue(1, 0, layout_of(5), 1.0, 0.06)
	assert len(scheduler.due(3.0, 10**9)) == 1


def test_budget_holds_and_the_rest_stays() -> None:
	scheduler = Pacer(Counters())
	for receiver in range(5):
		scheduler.queue(receiver, 0, layout_of(10), 1.0, 0.001)
	first = scheduler.due(1.5, 15 * DATAGRAM)
	assert len(first) == 2
	assert len(scheduler.due(2.0, 10**9)) == 3


def test_receiver_that_left_is_sent_nothing() -> None:
	scheduler = Pacer(Counters())
	scheduler.queue(1, 0, layout_of(100), 1.0, 0.06)
	scheduler.queue(2, 0, layout_of(5), 1.0, 0.06)
	assert scheduler.due(1.0, 1)[0][0] == 1
	scheduler.forget(1)
	assert {receiver for _, receiver, _ in play(scheduler, 1.0)} == {2}
	scheduler.forget(2)
	assert scheduler.next_due() is None


@pytest.mark.parametrize("megabits", [20, 100, 1_000])
def test_a_busy_link_holds_little_and_is_not_left_idle(megabits: int) -> None:
	budget, rate, held, longest, gone = SendBudget(), megabits * 125_000.0, 0.0, 0.0, 0.0
	for tick in range(2_000):
		now = tick * 0.001
		leaves = min(held, rate * 0.001)
		held, gone = held - leaves, gone + leaves
		budget.look(int(held), now)
		while budget.left > 0:
			budget.give(20_000, now)
			held += 20_000
		longest = max(longest, held / rate) if tick > 100 else 0.0
	assert longest <= SendBudget.QUEUE + 0.001 + (20_000 + SendBudget.LEAST) / rate
	assert gone / 2.0 >= 0.9 * rate


def test_a_link_that_holds_nothing_takes_all_at_once() -> None:
	budget = SendBudget()
	for tick in range(100):
		budget.look(0, tick * 0.001)
		assert budget.left == SendBudget.MOST
		budget.give(SendBudget.MOST, tick * 0.001)
		assert budget.left == 0


def test_a_loss_ends_bursts_for_a_while() -> None:
	pacer = Pacer(Counters())
	assert not pacer.paced(1.0)
	pacer.note_loss(1.0)
	assert pacer.paced(30.9) and not pacer.paced(31.1)


def test_only_small_frames_on_a_free_way_pass_the_queue() -> None:
	pacer, small = Pacer(Counters()), BURST_PARTS
	assert pacer.passes(1, small, 5.0)
	assert not pacer.passes(1, small + 1, 5.0)
	pacer.limit(1, 50_000.0)
	assert not pacer.passes(1, small, 5.0)
	assert pacer.passes(2, small, 5.0)
	pacer.queue(2, 0, layout_of(19), 5.0, 0.06)
	assert not pacer.passes(2, small, 5.0), "it would overtake what waits"
	assert [receiver for _, receiver, _ in play(pacer, 5.0)] == [2]
	assert pacer.passes(2, small, 6.0)
	pacer.note_loss(6.0)
	assert not pacer.passes(2, small, 6.1)


def test_where_nothing_was_lost_all_leaves_at_once() -> None:
	pacer = Pacer(Counters())
	for receiver in range(30):
		pacer.queue(receiver, 0, layout_of(19), 5.0, 0.06)
	assert len(pacer.due(5.0001, 10**9)) == 30


def test_what_left_before_a_loss_is_not_waited_for_after_it() -> None:
	pacer = Pacer(Counters())
	for receiver in range(100):
		pacer.queue(receiver, 0, layout_of(29), 5.0, 0.06)
	assert len(pacer.due(5.0, 10**9)) == 100
	pacer.note_loss(5.001)
	pacer.queue(1, 0, layout_of(29), 5.001, 0.06)
	assert len(pacer.due(5.001, 10**9)) == 1


@pytest.mark.parametrize("lifted", [False, True])
def test_a_limit_that_comes_and_goes_leaves_no_frame_behind(lifted: bool) -> None:
	"""Queued before it, under it and after it: all leave, at the rate while there is one."""
	pacer = Pacer(Counters())
	pacer.queue(1, 0, layout_of(60), 5.0, 0.06)
	assert pacer.due(5.0, 1)
	pacer.queue(1, 0, layout_of(20), 5.0, 0.06)
	pacer.limit(1, 100_000.0)
	for _ in range(2):
		pacer.queue(1, 0, layout_of(20), 5.001, 0.06)
	if lifted:
		pacer.due(5.002, 10**9)
		pacer.limit(1, math.inf)
		pacer.queue(1, 0, layout_of(20), 5.003, 0.06)
	leaving = play(pacer, 5.003)
	assert leaving[-1][0] < (5.1 if lifted else 6.0)
	assert lifted or leaving[-1][0] > 5.2
	assert pacer.passes(1, 1, 7.0) == lifted and pacer.accepts(1, 0.001)


queued = st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(1, 120), st.floats(0, 0.1))


@settings(max_examples=80, deadline=None)
@given(frames=st.lists(queued, max_size=25), budget=st.sampled_from([1, 30_000, 10**9]))
def test_all_that_is_queued_leaves_or_is_counted(
	frames: list[tuple[int, int, int, float]], budget: int
) -> None:
	counters, now, left = Counters(), 0.0, 0
	scheduler = Pacer(counters)
	for receiver, priority, count, later in frames:
		now += later
		scheduler.queue(receiver, priority, layout_of(count), now, 0.06)
		left += sum(len(view) for _, view in scheduler.due(now, budget))
	left += sum(size for _, _, size in play(scheduler, now, budget))
	queued_bytes = sum(count for _, _, count, _ in frames) * DATAGRAM
	dropped = counters.snapshot().get("egress.dropped", 0)
	assert (
		left == queued_bytes
		if not dropped
		else queued_bytes - dropped * 120 * DATAGRAM <= left < queued_bytes
	)
