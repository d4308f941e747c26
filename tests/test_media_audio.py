"""The audio half of MEDIA: jitter buffer, mixer, voice gate, resampler, the test card's clock."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import connectsphere as cs
from connectsphere import BLOCK, BLOCK_SECONDS, AudioMixer, JitterBuffer, Samples, silence

MS = 0.001


def tone(first: int, count: int, hertz: float = 440.0, peak: float = 8_000.0) -> Samples:
	"""`count` samples of a sine from sample number `first` on."""
	wave = peak * np.sin(2.0 * np.pi * hertz / 16_000.0 * (first + np.arange(count)))
	return np.rint(wave).astype(np.int16)


TONE: Samples = tone(0, 400 + BLOCK)  # 440 Hz repeats after 400 samples


def steady_tone(seq: int) -> Samples:
	start = seq * BLOCK % 400
	return TONE[start : start + BLOCK]


def speech(seconds: float, seed: int = 5) -> Samples:
	"""Something like speech: a gliding buzz in syllables with pauses and some breath."""
	rng = np.random.default_rng(seed)
	at = np.arange(int(seconds * 16_000)) / 16_000.0
	phase = 2.0 * np.pi * np.cumsum(130.0 + 30.0 * np.sin(2.0 * np.pi * 0.7 * at)) / 16_000.0
	buzz = sum(np.sin(k * phase) / k for k in range(1, 12))
	syllables = np.clip(np.sin(2.0 * np.pi * 2.3 * at) + 0.4, 0.0, None) * (
		np.sin(2.0 * np.pi * 0.31 * at) > -0.6
	)
	return np.rint(4_000.0 * syllables * (buzz + 0.1 * rng.standard_normal(len(at)))).astype(np.int16)


@dataclass
class Run:
	"""What a simulated consumer heard, pull by pull."""

	buffer: JitterBuffer
	sound: Samples
	delays: np.ndarray = field(default_factory=lambda: np.zeros(0))  # seconds, first pull to last
	slips: int = 0  # how often the delay was changed

	@property
	def clicks(self) -> int:
		"""The biggest jump between neighbouring samples."""
		return self.clicks_after(0)

	def clicks_after(self, start: int) -> int:
		"""The same from that sample on; an hour at once would take half a gigabyte."""
		pieces = (self.sound[at : at + 1_000_001] for at in range(start, len(self.sound) - 1, 1_000_000))
		return max(int(np.abs(np.diff(piece.astype(np.int32))).max()) for piece in pieces)


class CountedDelay(cs.PlayoutDelay):
	slips = 0

	def moved(self, blocks: int) -> None:
		self.slips += 1
		super().moved(blocks)


def simulate(
	seconds: float,
	*,
	source: Callable[[int], Samples | None] = steady_tone,
	lateness: Callable[[int], float | None] = lambda _: 0.0,
	phase: float = 5 * MS,
	drift: float = 0.0,
) -> Run:
	"""Blocks go in with `lateness` (None is lost) and are pulled at the consumer's own pace.

	The delay is read off the schedule: how long after its own instant a block's turn comes.
	"""
	buffer = JitterBuffer()
	buffer._watch = watch = CountedDelay()
	count = round(seconds / BLOCK_SECONDS)
	arrivals: list[tuple[float, int]] = []
	for seq in range(round(count * (1.0 + drift)) + 2):
		late = lateness(seq)
		if late is not None:
			arrivals.append((seq * BLOCK_SECONDS + late, seq))
	arrivals.sort()
	out: list[Samples] = []
	delays: list[float] = []
	place = 0
	for pull in range(count):
		now = pull * BLOCK_SECONDS * (1.0 + drift) + phase
		while place < len(arrivals) and arrivals[place][0] <= now:
			at, seq = arrivals[place]
			buffer.push(seq, source(seq), at)
			place += 1
		waiting = len(buffer._pending) / 16_000.0
		turn = buffer._next
		out.append(buffer.pull(now))
		delays.append(now - turn * BLOCK_SECONDS + waiting)
	return Run(buffer, np.concatenate(out), np.array(delays), watch.slips)


def uniform(most: float, seed: int = 1) -> Callable[[int], float]:
	rng = np.random.default_rng(seed)
	some = itertools.chain.from_iterable(rng.uniform(0.0, most, 4_096).tolist() for _ in itertools.count())
	return lambda _: next(some)


# -- jitter buffer


@pytest.mark.parametrize("phase", [0.1 * MS, 1 * MS, 3 * MS, 5 * MS, 9 * MS, 15.9 * MS])
@pytest.mark.parametrize("jitter", [0.0, 1 * MS, 3 * MS])
def test_a_steady_link_is_passed_on_untouched(phase: float, jitter: float) -> None:
	run = simulate(60.0, lateness=uniform(jitter), phase=phase)
	assert run.slips == 0
	assert run.buffer.stats()["concealed"] == run.buffer.stats()["lost"] == 0
	assert np.median(run.delays[5:]) <= 25 * MS
	start = int(np.argmax(run.sound != 0)) // BLOCK
	first = round((start * BLOCK_SECONDS + phase - run.delays[start + 1]) / BLOCK_SECONDS)
	same = tone(first * BLOCK, len(run.sound) - start * BLOCK)
	assert np.array_equal(run.sound[(start + 1) * BLOCK :], same[BLOCK:])


def test_an_unsteady_link_settles_near_the_99th_percentile() -> None:
	for phase in (1 * MS, 8 * MS, 15 * MS):
		run = simulate(60.0, lateness=uniform(30 * MS), phase=phase)
		assert run.buffer.stats()["concealed"] <= 0.01 * 60.0 / BLOCK_SECONDS
		late = run.buffer.stats()["late"] + run.buffer.stats()["lost"]
		assert late <= 0.01 * 60.0 / BLOCK_SECONDS
		assert 29 * MS <= np.median(run.delays[-1000:]) <= (29.7 + 2 + 20) * MS
		assert run.buffer.stats()["jitter_ms"] == pytest.approx(30.0, abs=2.0)


def test_a_calm_link_gets_its_delay_back() -> None:
	rng = np.random.default_rng(2)
	run = simulate(40.0, lateness=lambda seq: float(rng.uniform(0.0, 40 * MS)) if seq < 600 else 0.0)
	assert np.median(run.delays[400:600]) > 38 * MS
	assert np.median(run.delays[-300:]) <= 25 * MS


def test_loss_is_concealed_without_clicks() -> None:
	rng = np.random.default_rng(3)
	words = speech(60.0)
	run = simulate(
		60.0,
		source=lambda seq: words[seq * BLOCK : (seq + 1) * BLOCK],
		lateness=lambda _: None if rng.random() < 0.05 else float(rng.uniform(0.0, 2 * MS)),
	)
	stats = run.buffer.stats()
	share = stats["lost"] / (stats["lost"] + stats["received"])
	assert share == pytest.approx(0.05, abs=0.01)
	assert stats["concealed"] == pytest.approx(stats["lost"], rel=0.02)
	assert run.slips == 0
	assert run.clicks <= np.abs(np.diff(words.astype(np.int32))).max()
	heard = run.sound[: len(words)].astype(float)
	lag = round(np.median(run.delays[5:]) / BLOCK_SECONDS - 0.5) * BLOCK
	assert np.corrcoef(heard[lag:], words[: len(heard) - lag])[0, 1] > 0.9


def test_concealment_fades_within_60_ms() -> None:
	run = simulate(2.0, lateness=lambda seq: None if seq >= 60 else 0.0)
	sounding = np.flatnonzero(run.sound)[-1]
	last_played = int(60 * BLOCK + round(run.delays[50] / BLOCK_SECONDS - 0.5) * BLOCK)
	assert sounding - last_played <= cs.FADE_OUT
	assert run.buffer.stats()["concealed"] == 4


@pytest.mark.long
@pytest.mark.parametrize(("drift", "seconds"), [(200e-6, 1_200.0), (-200e-6, 800.0)])
def test_clock_drift_is_followed_without_clicks(drift: float, seconds: float) -> None:
	"""A slip each 80 s, for twenty minutes; the other way for a while."""
	run = simulate(seconds, lateness=uniform(2 * MS), drift=drift)
	target = 2 * MS + 2 * MS + BLOCK_SECONDS / 2.0
	assert np.abs(run.delays[400:] - target).max() <= BLOCK_SECONDS + 2 * MS
	assert seconds / 80 - 3 <= run.slips <= seconds / 80 * 1.5
	own = np.abs(np.diff(tone(0, 16_000).astype(np.int32))).max()
	start = int(np.argmax(run.sound != 0)) + BLOCK
	assert run.clicks_after(start) <= 1.3 * own
	assert run.buffer.stats()["concealed"] <= 0.001 * seconds / BLOCK_SECONDS
	whole = len(run.sound[start:]) // BLOCK * BLOCK
	strength = np.abs(run.sound[start : start + whole].reshape(-1, BLOCK)).max(axis=1)
	assert strength.min() > 0.9 * 8_000


@pytest.mark.parametrize("kind", ["burst", "lost", "paused"])
def test_a_stalled_producer_is_followed_again_within_a_second(kind: str) -> None:
	stall, length = 300, 125

	def late(seq: int) -> float | None:
		if kind == "paused":
			return length * BLOCK_SECONDS if seq >= stall else 0.0
		if not stall <= seq < stall + length:
			return 0.0
		return None if kind == "lost" else (stall + length - seq) * BLOCK_SECONDS

	run = simulate(12.0, lateness=late)
	offset = length * BLOCK_SECONDS if kind == "paused" else 0.0
	after = run.delays[stall + length + 60 : 700] - offset
	assert np.all((after >= 2 * MS) & (after <= 25 * MS))
	assert np.abs(run.sound[(stall + length + 60) * BLOCK :][:BLOCK]).max() > 7_000


def test_a_consumer_that_was_away_catches_up_quickly() -> None:
	buffer = JitterBuffer()
	away = range(200, 230)
	heard = []
	for seq in range(400):
		buffer.push(seq, steady_tone(seq), seq * BLOCK_SECONDS)
		if seq not in away:
			heard.append(buffer.pull(seq * BLOCK_SECONDS + 5 * MS))
	assert len(buffer._blocks) <= 2
	assert buffer.stats()["buffer_ms"] < 30.0
	own = np.abs(np.diff(tone(0, 16_000).astype(np.int32))).max()
	assert np.abs(np.diff(np.concatenate(heard[5:]).astype(np.int32))).max() <= 1.3 * own


@pytest.mark.parametrize("late", [0.0, 7 * MS, 30 * MS])
def test_speech_after_silence_starts_unclipped(late: float) -> None:
	def source(seq: int) -> Samples | None:
		return steady_tone(seq) if seq < 100 or seq >= 400 else None

	run = simulate(
		8.0, source=source, lateness=lambda seq: None if 100 < seq < 400 else late if seq >= 400 else 0.0
	)
	assert run.buffer.stats()["lost"] == run.buffer.stats()["concealed"] == 0
	blocks = run.sound.reshape(-1, BLOCK)
	sounding = np.flatnonzero(np.abs(blocks).max(axis=1) > 100)
	onset = int(sounding[sounding > 200][0])
	assert np.array_equal(blocks[onset, cs.JOIN :], steady_tone(400)[cs.JOIN :])
	assert np.array_equal(blocks[onset + 1], steady_tone(401))


def test_a_gap_after_the_silence_mark_is_silence() -> None:
	buffer = JitterBuffer()
	for seq in range(20):
		buffer.push(seq, steady_tone(seq) if seq < 10 else None, seq * BLOCK_SECONDS)
		last = buffer.pull(seq * BLOCK_SECONDS + 5 * MS)
	assert last is silence()
	assert buffer.stats()["concealed"] == buffer.stats()["lost"] == 0


def test_a_late_block_counts_as_late_and_not_as_lost() -> None:
	buffer = JitterBuffer()
	for seq in range(40):
		if seq != 20:
			buffer.push(seq, steady_tone(seq), seq * BLOCK_SECONDS)
		if seq == 25:
			assert buffer.stats()["lost"] == 1
			buffer.push(20, steady_tone(20), seq * BLOCK_SECONDS)
			buffer.push(20, steady_tone(20), seq * BLOCK_SECONDS)
		buffer.pull(seq * BLOCK_SECONDS + 5 * MS)
	stats = buffer.stats()
	assert (stats["received"], stats["lost"], stats["late"], stats["concealed"]) == (40, 0, 1, 1)


def test_a_block_of_another_size_is_a_fault() -> None:
	with pytest.raises(cs.PeerFault):
		JitterBuffer().push(1, np.zeros(255, np.int16), 0.0)


push = st.tuples(
	st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1), st.integers(2**32 - 40, 2**32 - 1)),
	st.booleans(),
	st.integers(1, 80),
)
moment = st.one_of(st.floats(0.0, 10.0), st.floats(-1e9, 1e9))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.one_of(st.none(), push), moment), max_size=120))
def test_the_buffer_bears_anything(steps: list[tuple[tuple[int, bool, int] | None, float]]) -> None:
	buffer = JitterBuffer()
	loud = np.full(BLOCK, -32_768, np.int16)
	loud.setflags(write=False)
	for step, now in steps:
		if step is not None:
			first, sounding, count = step
			for seq in range(first, first + count):
				buffer.push(seq, loud if sounding else None, now)
		block = buffer.pull(now)
		assert block.shape == (BLOCK,)
		assert block.dtype == np.int16
		assert len(buffer._blocks) <= cs.DEEPEST
		assert len(buffer._pending) <= 2 * BLOCK
		assert all(value >= 0 for value in list(buffer.stats().values())[:4])


# -- mixer


def ticks(
	mixer: AudioMixer, sources: dict[int, Callable[[int], Samples | None]], until: int, first: int = 0
) -> Iterator[cs.Mix]:
	"""Ticks `first` to `until`, each 5 ms after one block of each source came in."""
	for seq in range(first, until):
		for id, source in sources.items():
			mixer.push(id, seq, source(seq), seq * BLOCK_SECONDS)
		yield mixer.tick(seq * BLOCK_SECONDS + 5 * MS)


def voice(hertz: float, peak: float = 4_000.0) -> Callable[[int], Samples]:
	return lambda seq: tone(seq * BLOCK, BLOCK, hertz, peak)


def mixer_of(*ids: int) -> AudioMixer:
	mixer = AudioMixer()
	for id in ids:
		mixer.add(id)
	return mixer


def test_everyone_hears_the_others_and_never_itself() -> None:
	sources = {1: voice(300.0), 2: voice(500.0), 3: voice(700.0)}
	*_, mix = ticks(mixer_of(1, 2, 3, 4), sources, 20)
	said = {id: source(19).astype(int) for id, source in sources.items()}
	assert list(mix) == [1, 2, 3, 4]
	for id, (block, _) in mix.items():
		assert block is not None
		assert np.array_equal(block, sum(said[other] for other in said if other != id))


def test_the_sum_is_bent_and_neither_cut_off_nor_wrapped() -> None:
	sources = {id: voice(440.0, 30_000.0) for id in (1, 2, 3)}
	*_, mix = ticks(mixer_of(1, 2, 3), sources, 20)
	assert mix[1][0] is not None
	said = 2 * voice(440.0, 30_000.0)(19).astype(int)
	assert 32_000 < mix[1][0].max() < 32_767
	assert (np.sign(mix[1][0]) == np.sign(said)).all()
	assert (np.diff(mix[1][0][np.argsort(said)].astype(int)) >= 0).all(), "louder is louder"
	quiet = np.abs(said) < cs.KNEE
	assert np.array_equal(mix[1][0][quiet], said[quiet])


def test_each_listener_hears_the_others_as_loud_as_it_wants() -> None:
	sources = {1: voice(300.0), 2: voice(500.0), 3: voice(700.0)}
	mixer = mixer_of(1, 2, 3, 4)
	mixer.set_gains(1, {2: 0.0, 1: 2.0})
	mixer.set_gains(4, {3: 2.0, 99: 0.5})
	*_, mix = ticks(mixer, sources, 20)
	said = {id: source(19).astype(int) for id, source in sources.items()}
	wanted = {1: said[3], 2: said[1] + said[3], 3: said[1] + said[2], 4: said[1] + said[2] + 2 * said[3]}
	for id, (block, _) in mix.items():
		assert block is not None
		assert np.array_equal(block, wanted[id]), id
	mixer.set_gains(4, {1: 0.0, 2: 0.0, 3: 0.0})
	*_, mix = ticks(mixer, sources, 40, 20)
	assert mix[4][0] is None, "nothing is left to be heard"
	assert mix[4][1] == 0
	mixer.remove(4)
	mixer.add(4)
	*_, mix = ticks(mixer, sources, 60, 40)
	assert mix[4][0] is not None, "who comes anew has said nothing yet"


def test_one_speaker_alone_hears_silence() -> None:
	*_, mix = ticks(mixer_of(1, 2), {1: voice(300.0)}, 20)
	assert mix[1][0] is None
	assert np.array_equal(mix[2][0], voice(300.0)(19))
	assert [loudest for _, loudest in mix.values()] == [0, 1]


def test_nobody_speaking_is_silence_for_all() -> None:
	mixer = mixer_of(1, 2)
	assert mixer.tick(0.0) == {1: (None, 0), 2: (None, 0)}
	assert AudioMixer().tick(0.0) == {}


def test_a_muted_speaker_is_dropped_and_still_hears() -> None:
	mixer = mixer_of(1, 2)
	sources = {1: voice(300.0), 2: voice(500.0)}
	*_, before = ticks(mixer, sources, 10)
	mixer.mute(1, True)
	*_, muted = ticks(mixer, sources, 20, 10)
	mixer.mute(1, False)
	*_, after = ticks(mixer, sources, 30, 20)
	assert [block is None for block, _ in before.values()] == [False, False]
	assert [block is None for block, _ in muted.values()] == [False, True]
	assert [block is None for block, _ in after.values()] == [False, False]


def test_strangers_and_the_removed_are_ignored() -> None:
	mixer = mixer_of(1, 2)
	list(ticks(mixer, {1: voice(300.0), 9: voice(300.0)}, 10))
	mixer.remove(1)
	mixer.remove(1)
	mixer.mute(1, True)
	*_, mix = ticks(mixer, {1: voice(300.0)}, 10)
	assert mix == {2: (None, 0)}


def test_the_loudest_changes_only_for_one_who_stays_louder() -> None:
	mixer = mixer_of(1, 2, 3)
	strong = range(30, 35)  # 80 ms: too short to take over
	lasting = range(60, 90)

	def second(seq: int) -> Samples:
		return voice(500.0, 20_000.0 if seq in strong or seq in lasting else 500.0)(seq)

	heard = [
		[loudest for _, loudest in mix.values()] for mix in ticks(mixer, {1: voice(300.0), 2: second}, 90)
	]
	assert all(loudest == [2, 1, 1] for loudest in heard[5:60])
	switch = next(n for n, loudest in enumerate(heard) if loudest == [2, 1, 2])
	assert 0.14 <= (switch - 60) * BLOCK_SECONDS <= 0.25
	assert all(loudest == [2, 1, 2] for loudest in heard[switch:])


def test_nobody_ever_is_its_own_loudest() -> None:
	rng = np.random.default_rng(4)
	loud = rng.choice([0.0, 300.0, 3_000.0, 9_000.0], (400, 6))
	sources = {id: (lambda seq, id=id: voice(200.0 + 50 * id, loud[seq // 5, id])(seq)) for id in range(1, 6)}
	for mix in ticks(mixer_of(1, 2, 3, 4, 5), sources, 2_000):
		assert all(own != other for own, (_, other) in mix.items())


def test_the_mixer_follows_an_arrival_within_a_block_or_so() -> None:
	mixer = mixer_of(1, 2)
	rng = np.random.default_rng(6)
	waits = []
	for seq in range(200):
		at = seq * BLOCK_SECONDS + rng.uniform(0.0, 1 * MS)
		mixer.push(1, seq, np.full(BLOCK, seq + 1, np.int16), at)
		mix = mixer.tick(seq * BLOCK_SECONDS + 9 * MS)
		if seq > 5:
			waits.append(seq * BLOCK_SECONDS + 9 * MS - (int(mix[2][0][-1]) - 1) * BLOCK_SECONDS)
	assert max(waits) <= 17 * MS


def test_microphone_to_speaker_takes_at_most_60_ms() -> None:
	"""Capture, mixer and client buffer, for many phases of the three clocks, with 1 ms of jitter each."""
	rng = np.random.default_rng(12)
	medians = []
	for _ in range(40):
		mixer, client = mixer_of(1, 2), JitterBuffer()
		tick_at, pull_at = rng.uniform(0.0, BLOCK_SECONDS, 2)
		delays = []
		for seq in range(60):
			start = (seq + 1) * BLOCK_SECONDS
			steps = [
				(start + rng.uniform(0.0, MS), "push"),
				(start + tick_at, "tick"),
				(start + pull_at, "pull"),
			]
			for now, step in sorted(steps):
				if step == "push":
					mixer.push(1, seq, np.full(BLOCK, seq + 1, np.int16), now)
				elif step == "tick":
					client.push(seq, mixer.tick(now)[2][0], now + 0.2 * MS)
				else:
					heard = int(client.pull(now)[-1])
					delays.append(now - (heard - 1) * BLOCK_SECONDS)
		medians.append(np.median(delays[20:]))
	assert np.median(medians) <= 50 * MS
	assert max(medians) <= 60 * MS


def test_500_speakers_at_once_are_mixed_for_little_more_than_their_sum() -> None:
	"""In one run with the least it takes: all are added up, and each gets the sum without its own."""
	ids = range(1, 501)
	mixer = mixer_of(*ids)
	block = np.random.default_rng(7).integers(-500, 500, BLOCK).astype(np.int16)
	spent, least = [], []
	for seq in range(60):
		for id in ids:
			mixer.push(id, seq, block, seq * BLOCK_SECONDS)
		start = time.thread_time()
		mix = mixer.tick(seq * BLOCK_SECONDS + 5 * MS)
		spent.append(time.thread_time() - start)
		start = time.thread_time()
		total = np.zeros(BLOCK, np.int32)
		for _ in ids:
			total += block
		assert len([(total - block).clip(-32_768, 32_767).astype(np.int16) for _ in ids]) == len(mix)
		least.append(time.thread_time() - start)
	assert all(other is not None for other, _ in mix.values())
	print(f"{np.median(spent) / MS:.1f} ms, the least {np.median(least) / MS:.1f} ms")
	assert np.median(spent) < 2 * np.median(least)  # 1.2 times, 3.5 ms; a tick is 16


# -- voice gate, level


def test_level_db() -> None:
	assert cs.level_db(silence()) == cs.LEVEL_FLOOR
	assert cs.level_db(silence()[:0]) == cs.LEVEL_FLOOR
	assert cs.level_db(tone(0, 16_000, 440.0, 32_767.0)) == pytest.approx(-3.01, abs=0.02)
	assert cs.level_db(np.full(BLOCK, -32_768, np.int16)) == pytest.approx(0.0)


def test_the_gate_hangs_over_after_speech_and_less_after_a_click() -> None:
	gate = cs.VoiceActivityDetector()
	assert not gate.is_voice(silence())
	assert gate.is_voice(steady_tone(0))
	after_click = [gate.is_voice(silence()) for _ in range(30)]
	assert 4 <= sum(after_click) <= 8
	assert all(gate.is_voice(steady_tone(seq)) for seq in range(60))
	after_speech = [gate.is_voice(silence()) for _ in range(30)]
	assert sum(after_speech) * BLOCK_SECONDS == pytest.approx(0.32, abs=0.02)
	assert not any(after_speech[21:])


def test_a_quiet_tone_above_the_threshold_is_sent_and_noise_below_is_not() -> None:
	gate = cs.VoiceActivityDetector()
	assert gate.is_voice(tone(0, BLOCK, 440.0, 60.0))
	assert not cs.VoiceActivityDetector().is_voice(tone(0, BLOCK, 440.0, 30.0))


# -- resampler


def resampled(rate_in: int, rate_out: int, wave: Samples, sizes: list[int]) -> Samples:
	resampler = cs.Resampler(rate_in, rate_out)
	parts, place, turn = [], 0, 0
	while place < len(wave):
		size = sizes[turn % len(sizes)]
		parts.append(resampler.push(wave[place : place + size]))
		place, turn = place + size, turn + 1
	return np.concatenate(parts)


@pytest.mark.parametrize(
	("rate_in", "rate_out"),
	[
		(48_000, 16_000),
		(44_100, 16_000),
		(16_000, 48_000),
		(16_000, 44_100),
		(8_000, 16_000),
		(44_099, 16_000),
	],
)
def test_a_tone_survives_resampling(rate_in: int, rate_out: int) -> None:
	at = np.arange(2 * rate_in) / rate_in
	wave = np.rint(10_000 * np.sin(2 * np.pi * 1_000 * at)).astype(np.int16)
	out = resampled(rate_in, rate_out, wave, [480, 1, 333, 0, 2_048])
	assert 2 * rate_out - 0.004 * rate_out <= len(out) <= 2 * rate_out + 1
	expected = 10_000 * np.sin(2 * np.pi * 1_000 * np.arange(len(out)) / rate_out)
	error = out[rate_out // 100 :] - expected[rate_out // 100 :]
	assert np.sqrt(np.mean(error**2)) < 10_000 * 0.003


def test_block_edges_change_nothing() -> None:
	wave = np.random.default_rng(8).integers(-9_000, 9_000, 44_100).astype(np.int16)
	whole = resampled(44_100, 16_000, wave, [44_100])
	parts = resampled(44_100, 16_000, wave, [1, 441, 77, 1_024])
	assert np.array_equal(whole[: len(parts)], parts)
	assert len(whole) - len(parts) <= 1


def test_what_cannot_be_kept_is_filtered_out() -> None:
	at = np.arange(48_000) / 48_000
	high = np.rint(10_000 * np.sin(2 * np.pi * 9_000 * at)).astype(np.int16)
	out = resampled(48_000, 16_000, high, [768])
	assert np.abs(out[200:]).max() < 20
	speech_band = np.rint(10_000 * np.sin(2 * np.pi * 6_000 * at)).astype(np.int16)
	assert np.abs(resampled(48_000, 16_000, speech_band, [768])[200:]).max() > 9_800


def test_equal_rates_pass_and_impossible_ones_are_refused() -> None:
	assert np.array_equal(cs.Resampler(16_000, 16_000).push(steady_tone(0)), steady_tone(0))
	with pytest.raises(ValueError, match="positive"):
		cs.Resampler(0, 16_000)


# -- the test card's clock

INKS = (0, 0, 0), (255, 255, 255)


@pytest.mark.parametrize("size", [(160, 90), (320, 180), (640, 360), (1280, 720), (1366, 768), (1920, 1080)])
def test_the_clock_is_read_back(size: tuple[int, int]) -> None:
	picture = np.random.default_rng(9).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
	cs.stamp_clock(picture, 1_700_000_000.123, *INKS)
	assert cs.read_clock(picture, 1_700_000_000.323) == pytest.approx(0.2, abs=0.0011)
	assert cs.read_clock(picture, 1_700_000_000.023) == pytest.approx(-0.1, abs=0.0011)


@pytest.mark.parametrize("size", [(160, 90), (320, 180), (1280, 720)])
def test_the_clock_survives_scaling_and_jpeg(size: tuple[int, int]) -> None:
	rng = np.random.default_rng(10)
	for _ in range(50):
		now = float(rng.uniform(1.6e9, 1.8e9))
		picture = cv2.resize(rng.integers(0, 255, (45, 80, 3)).astype(np.uint8), (1280, 720))
		cs.stamp_clock(picture, now, *INKS)
		small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
		_, packed = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 60])
		seen = cv2.imdecode(packed, cv2.IMREAD_COLOR)
		assert cs.read_clock(seen, now + 0.05) == pytest.approx(0.05, abs=0.0011)


def test_no_card_no_time() -> None:
	rng = np.random.default_rng(11)
	for shape in [(90, 160, 3), (720, 1280, 3), (1, 1, 3), (2, 900, 3), (900, 2, 3)]:
		assert cs.read_clock(rng.integers(0, 255, shape).astype(np.uint8), 0.0) is None
		assert cs.read_clock(np.zeros(shape, np.uint8), 0.0) is None
	picture = np.zeros((90, 160, 3), np.uint8)
	cs.stamp_clock(picture, 1.0, *INKS)
	picture[72:80, 8:16] = 255 - picture[72:80, 8:16]
	assert cs.read_clock(picture, 1.0) is None


# -- a speaker that is not there ---------------------------------------------------------------------------


@settings(max_examples=20)
@given(lags=st.lists(st.floats(0.0, 0.07), min_size=60, max_size=160), lost=st.sets(st.integers(1, 159)))
def test_what_nobody_hears_is_counted_as_if_it_were_played_in_time(lags: list[float], lost: set[int]) -> None:
	key = bytes(16)
	welcome = {"id": 3, "audio_up": key.hex(), "audio_down": key.hex()}
	audio = cs.AudioPlane(cs.ClientOptions(address="127.0.0.1"), welcome, cs.Counters(), lambda ident: None)
	sealer, start = cs.Sealer(key), time.monotonic() - 9.0
	arrivals = sorted((start + n * cs.BLOCK_SECONDS + lag, n) for n, lag in enumerate(lags) if n not in lost)
	sealed = {
		n: sealer.seal(cs.Kind.AUDIO, 7, n, steady_tone(n).astype(">i2").tobytes()) for n in range(len(lags))
	}
	heard, turn = cs.JitterBuffer(), start
	audio.play_to_nobody(start)
	for at, n in arrivals:
		while turn <= at:
			heard.pull(turn)
			turn += cs.BLOCK_SECONDS
		heard.push(n, steady_tone(n), at)
		audio._on_datagram(cs.audio_datagram(7, n, sealed[n]), at)
	counted = audio.stats()
	while turn <= time.monotonic():
		heard.pull(turn)
		turn += cs.BLOCK_SECONDS
	audio.loop.close()
	keys = ("received", "lost", "concealed", "late")
	assert {key: counted[key] for key in keys} == {key: heard.stats()[key] for key in keys}
	assert counted["received"] > 0 and counted["concealed"] > 0
