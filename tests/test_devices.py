"""Devices and what stands in for them: pace, contents, and one clear sentence when something is missing."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pictures import counting
from sound import VirtualSound, missing, speech_like, typical_match, virtual_sound
from waiting import best_of

import connectsphere as cs


def bars(width: int, height: int) -> cs.Picture:
	"""A picture that JPEG keeps well: smooth, every corner different."""
	across = np.linspace(0, 255, width)[None, :, None] * (1, 0.5, 0)
	down = np.linspace(0, 255, height)[:, None, None] * (0, 0.5, 1)
	return (across + down).clip(0, 255).astype(np.uint8)


def wav(path: Path, samples: np.ndarray, rate: int = 16_000, width: int = 2) -> str:
	"""Write `samples` ((frames,) or (frames, channels)) as a WAV file of integers `width` bytes wide."""
	frames = samples if samples.ndim == 2 else samples[:, None]
	wide = frames.astype("<i4") * (1 << 8 * (width - 2)) if width > 2 else frames.astype("<i2")
	raw = wide.view(np.uint8).reshape(*frames.shape, -1)[:, :, :width] if width > 1 else (frames >> 8) + 128
	with wave.open(str(path), "wb") as out:
		out.setparams((frames.shape[1], width, rate, 0, "NONE", ""))
		out.writeframes(np.ascontiguousarray(raw).astype(np.uint8).tobytes())
	return str(path)


def recorded(path: Path) -> np.ndarray:
	with wave.open(str(path)) as file:
		assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
		return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def take(microphone: cs.Microphone, blocks: int) -> np.ndarray:
	try:
		return np.concatenate([microphone.read() for _ in range(blocks)])
	finally:
		microphone.close()


def error(function: Callable[[], object]) -> str:
	with pytest.raises(cs.DeviceError) as caught:
		function()
	reason = caught.value.reason
	assert reason.endswith(".") and "\n" not in reason and "Traceback" not in reason
	return reason


# ---- codecs --------------------------------------------------------------------------


def test_jpeg_round_trip() -> None:
	picture = bars(640, 360)
	decoded = cs.decode_picture(cs.encode_jpeg(picture, 80))
	assert decoded.shape == picture.shape
	assert np.abs(decoded.astype(int) - picture).mean() < 4


def test_jpeg_is_baseline() -> None:
	assert b"\xff\xc0" in cs.encode_jpeg(bars(64, 64), 70)


def test_png_is_exact() -> None:
	picture = np.random.default_rng(1).integers(0, 256, (50, 70, 3), np.uint8)
	assert np.array_equal(cs.decode_picture(cs.encode_png(picture)), picture)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_what_is_no_picture_is_a_peer_fault(data: bytes) -> None:
	with pytest.raises(cs.PeerFault):
		cs.decode_picture(data)


def test_a_turned_jpeg_keeps_the_size_that_was_checked() -> None:
	jpeg = cs.encode_jpeg(bars(64, 32), 80)
	tag = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
	turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(tag) + 2) + tag + jpeg[2:]
	assert cs.decode_picture(turned).shape == (32, 64, 3)


# ---- test card and cameras -----------------------------------------------------------


@pytest.mark.parametrize("size", cs.LAYERS)
def test_card_moves_and_is_its_name_s_own(size: tuple[int, int]) -> None:
	card = cs.TestCard("Ana", size)
	picture = card.draw(1_000.0)
	assert picture.shape == (size[1], size[0], 3) and picture.dtype == np.uint8
	assert np.array_equal(picture, cs.TestCard("Ana", size).draw(1_000.0))
	above = slice(0, size[1] * 3 // 4)  # without the clock's bits
	assert (picture[above] != card.draw(1_000.1)[above]).any()
	other = cs.TestCard("Bo", size).draw(1_000.0)[above]
	assert np.abs(picture[above].astype(int) - other).mean() > 10


def test_card_takes_any_name() -> None:
	for name in ("", "名前", "é" * 32, "a" * 500):
		assert cs.TestCard(name, (160, 90)).draw(0.0).any()


@pytest.mark.skipif(not hasattr(cs, "read_clock"), reason="MEDIA has no read_clock here")
def test_card_s_clock_can_be_read() -> None:
	picture = cs.fit_picture(cs.TestCard("Ana", (1280, 720)).draw(1_000.0), (160, 90))
	latency = cs.read_clock(cs.decode_picture(cs.encode_jpeg(picture, 60)), 1_000.25)
	assert latency == pytest.approx(0.25, abs=0.002)


def test_pattern_camera_keeps_its_rate_and_drops_when_late() -> None:
	camera = cs.open_camera("pattern", "Ana", 50)
	camera.prefer((160, 90), 50)

	def keeps_its_rate() -> bool:
		camera.read(1.0)
		start = time.perf_counter()
		pictures = [camera.read(1.0) for _ in range(26)]
		took = time.perf_counter() - start
		assert took > 0.45
		assert all((a != b).any() for a, b in itertools.pairwise(pictures))
		return took < 0.75

	assert best_of(4, keeps_its_rate)
	time.sleep(0.5)  # being late is what is tested
	start = time.perf_counter()
	for _ in range(6):
		camera.read(1.0)
	assert time.perf_counter() - start > 0.07, "what was missed must not be made up for"
	camera.close()
	camera.close()
	assert "closed" in error(lambda: camera.read(1.0))


def test_camera_that_is_too_slow_for_the_timeout_says_so() -> None:
	camera = cs.open_camera("pattern", "Ana", 0.1)
	camera.read(1.0)
	start = time.perf_counter()
	error(lambda: camera.read(0.05))
	assert time.perf_counter() - start < 5, "ten seconds are between two pictures"
	camera.close()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
	return str(counting(tmp_path_factory.mktemp("video") / "count.avi"))


def number_of(picture: cs.Picture) -> int:
	return round(float(picture.mean()) / 8)


def test_video_file_plays_by_the_wall_in_a_loop(video: str) -> None:
	with contextlib.closing(cs.open_camera(video, "Ana")) as camera:
		before = time.perf_counter()
		assert number_of(camera.read(1.0)) == 0
		start = time.perf_counter()  # at the latest

		def off() -> float:
			"""Frames by which the next one is off all that should be shown while it is read."""
			asked = time.perf_counter()
			shown = number_of(camera.read(1.0))
			first, last = (asked - start) * 30, (time.perf_counter() - before) * 30
			early = (first - shown) % 30
			return 0.0 if last - first >= 30 - early else min(early, (shown - last) % 30)

		while time.perf_counter() < start + 1.6:
			assert off() < 1.1
		time.sleep(0.33)  # late: the frames between are dropped
		assert off() < 1.1
		camera.close()


def test_video_file_goes_on_after_the_machine_slept(video: str) -> None:
	file = cs._VideoFile(video, 15)
	assert file.fps == 30
	assert number_of(file.picture(3)) == 3
	assert number_of(file.picture(3)) == 3
	assert number_of(file.picture(40)) == 10
	assert number_of(file.picture(1_000_000)) == 11
	assert number_of(file.picture(1_000_001)) == 12
	file.close()


class Film:
	"""What cv2.VideoCapture is for a film: picture n at `times[n]`, where the file has times at all."""

	def __init__(self, times: list[float], says: bool = True) -> None:
		self.times, self.says, self.at = times, says, -1

	def isOpened(self) -> bool:  # noqa: N802
		return True

	def get(self, what: int) -> float:
		return 20.0 if what == 5 else 1000 * self.times[self.at] * self.says

	def grab(self) -> bool:
		self.at += 1
		return self.at < len(self.times)

	def retrieve(self) -> tuple[bool, cs.Picture]:
		return True, np.full((9, 16, 3), self.at, np.uint8)

	def release(self) -> None:
		pass


UNEVEN = [n / 50 for n in range(20)] + [3 + n / 10 for n in range(20)]  # a burst, nothing for 2.6 s, slow


@pytest.mark.parametrize(("times", "says"), [(UNEVEN, True), ([n / 20 for n in range(40)], False)])
def test_a_film_of_uneven_rate_is_shown_by_its_own_times(
	times: list[float], says: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""At each moment the newest picture whose time has come, in each loop; by the mean rate without times."""
	monkeypatch.setattr(cs.cv2, "VideoCapture", lambda path: Film(times, says))
	(tmp_path / "film.mp4").touch()
	film = cs._VideoFile(str(tmp_path / "film.mp4"), 30)
	length = times[-1] + 1 / 20
	for number in range(int(2.5 * length * film.fps)):
		now = (number + 0.5) / film.fps % length
		assert round(float(film.picture(number).mean())) == sum(time <= now for time in times) - 1, now


class FakeCapture:
	"""What cv2.VideoCapture is to the program: pictures 0, 1, 2... at the test's word, then none."""

	def __init__(self) -> None:
		self.frames: list[int] = []
		self.asked = threading.Semaphore(0)
		self.released = threading.Event()
		self._ready = threading.Semaphore(0)

	def give(self, number: int | None) -> None:
		self.frames.append(-1 if number is None else number)
		self._ready.release()
		assert self.asked.acquire(timeout=5)

	def read(self) -> tuple[bool, cs.Picture | None]:
		self.asked.release()
		if not self._ready.acquire(timeout=0.2):
			return False, None
		number = self.frames.pop(0)
		return (False, None) if number < 0 else (True, np.full((9, 16, 3), number, np.uint8))

	def release(self) -> None:
		self.released.set()


def test_real_camera_gives_the_newest_picture_only() -> None:
	capture = FakeCapture()
	camera = cs._CaptureCamera(capture, "Camera 0")
	assert capture.asked.acquire(timeout=5)
	for number in (1, 2, 3):
		capture.give(number)
	assert camera.read(5.0).max() == 3
	capture.give(None)  # one damaged picture is no end
	capture.give(4)
	assert camera.read(5.0).max() == 4
	camera.close()
	assert capture.released.is_set() and "closed" in error(lambda: camera.read(1.0))


def test_real_camera_pulled_out_says_so_to_a_waiting_reader() -> None:
	capture = FakeCapture()
	camera = cs._CaptureCamera(capture, "Camera 0")
	start = time.perf_counter()
	assert "unplugged" in error(lambda: camera.read(20.0))
	assert time.perf_counter() - start < 10 and capture.released.wait(1)
	camera.close()


@pytest.mark.parametrize("spec", ["none", "97", "/nowhere/at all.mp4", __file__])
def test_missing_camera_is_one_sentence_and_nothing_else(
	spec: str, capfd: pytest.CaptureFixture[str]
) -> None:
	error(lambda: cs.open_camera(spec, "Ana"))
	assert capfd.readouterr().err == ""


# ---- microphones ---------------------------------------------------------------------


def test_tone_is_440_hz_at_minus_20_db() -> None:
	sound = take(cs.open_microphone("tone"), 63)[:16_000]
	spectrum = np.abs(np.fft.rfft(sound))
	assert np.argmax(spectrum) == 440
	assert 20 * np.log10(np.abs(sound).max() / 32_768) == pytest.approx(-20, abs=0.1)
	assert np.argmax(np.abs(np.fft.rfft(take(cs.open_microphone("tone:1000"), 63)[:16_000]))) == 1_000


def test_wav_microphone_starts_at_first_read_and_loops_exactly(tmp_path: Path) -> None:
	sound = speech_like(1, 16_000)[:9_000]
	microphone = cs.open_microphone(wav(tmp_path / "a.wav", sound))
	time.sleep(0.1)  # must not count
	heard = take(microphone, 80)
	assert np.array_equal(heard, np.resize(sound, len(heard)))


def test_microphone_holds_absolute_time(tmp_path: Path) -> None:
	microphone = cs.open_microphone(wav(tmp_path / "a.wav", speech_like(1, 16_000)))
	start = time.perf_counter()
	early = []
	for number in range(1, 101):
		microphone.read()
		early.append(start + number * cs.BLOCK_SECONDS - time.perf_counter())
		if number == 30:
			time.sleep(0.15)  # made up for: the blocks wait, as in a sound card
	microphone.close()
	assert max(early) < 0.002, "a block came before its last sample was captured"
	assert sorted(early)[50] > -0.02
	assert "closed" in error(microphone.read)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_wav_of_any_width_and_channels(tmp_path: Path, width: int, channels: int) -> None:
	sound = speech_like(1, 16_000)
	path = wav(tmp_path / "a.wav", np.stack([sound] * channels, axis=1), width=width)
	heard = take(cs.open_microphone(path), 10)
	assert np.abs(heard.astype(int) - sound[: len(heard)]).max() <= (256 if width == 1 else 0)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_wav_of_any_rate(tmp_path: Path, rate: int) -> None:
	seconds = np.arange(2 * rate) / rate
	tone = (8_000 * np.sin(2 * np.pi * 500 * seconds)).astype(np.int16)
	heard = take(cs.open_microphone(wav(tmp_path / "a.wav", tone, rate)), 70)[512 : 512 + 16_000]
	spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
	assert np.argmax(spectrum) == 500
	assert np.std(heard) == pytest.approx(8_000 / np.sqrt(2), rel=0.05)


def riff(kind: int, bits: int, data: bytes, size: int | None = None) -> bytes:
	form = struct.pack("<HHIIHH", kind, 1, 16_000, 16_000 * bits // 8, bits // 8, bits)
	chunks = b"LIST" + struct.pack("<I", 3) + b"abc\0" + b"fmt " + struct.pack("<I", len(form)) + form
	chunks += b"data" + struct.pack("<I", len(data) if size is None else size) + data
	return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def test_streamed_wav(tmp_path: Path) -> None:
	sound = speech_like(1, 16_000)
	(tmp_path / "a.wav").write_bytes(riff(1, 16, sound.tobytes(), size=0xFFFFFFFF))
	heard = take(cs.open_microphone(str(tmp_path / "a.wav")), 5)
	assert np.array_equal(heard, sound[: len(heard)])


def test_wav_of_floats_is_refused(tmp_path: Path) -> None:
	(tmp_path / "a.wav").write_bytes(riff(3, 32, np.ones(999, "<f4").tobytes()))
	error(lambda: cs.open_microphone(str(tmp_path / "a.wav")))


@settings(deadline=None)
@given(st.integers(0, 43), st.integers(0, 255))
@example(39, 255)  # a rate of 4 GHz
def test_damaged_wav_is_refused_or_played(at: int, value: int) -> None:
	data = bytearray(riff(1, 16, bytes(range(200))))
	data[at] = value
	with tempfile.TemporaryDirectory() as directory:
		path = Path(directory) / "a.wav"
		path.write_bytes(data)
		with contextlib.suppress(cs.DeviceError):
			assert cs._WavFile(str(path)).read().dtype == np.int16


@pytest.mark.parametrize("spec", ["none", "97", "/nowhere/at all.wav", __file__, "tone:x"])
def test_missing_microphone_is_one_sentence(spec: str, capfd: pytest.CaptureFixture[str]) -> None:
	error(lambda: cs.open_microphone(spec))
	assert capfd.readouterr().err == ""


def test_voices_can_be_told_apart_by_their_pilots() -> None:
	speaking = {3, 17, 18, 44, 60}
	mix = np.zeros(16_000, np.int64)
	for number in speaking:
		mix += cs._voice(number)[32_000:48_000]
	spectrum = np.abs(np.fft.rfft(mix * np.hanning(len(mix))))
	level = {number: spectrum[round(cs.voice_pilot_hz(number))] for number in range(1, 61)}
	heard = {number for number, value in level.items() if value > max(level.values()) / 4}
	assert heard == speaking


def test_voice_is_seeded_has_pauses_and_a_steady_pilot() -> None:
	voice = cs._voice(5).astype(float)
	assert np.array_equal(voice, cs._voice(5)) and not np.array_equal(voice, cs._voice(6))
	windows = voice[: 240 * 800].reshape(240, 800)
	loud = 20 * np.log10(windows.std(axis=1) / 32_768)
	assert 0.15 < (loud > -35).mean() < 0.85
	pilot = np.abs(windows @ np.exp(-2j * np.pi * cs.voice_pilot_hz(5) * np.arange(800) / 16_000)) / 400
	assert 20 * np.log10(np.median(pilot) / 32_768) == pytest.approx(-40, abs=1)
	assert pilot.min() > np.median(pilot) / 2


# ---- speakers ------------------------------------------------------------------------


def test_wav_speaker_records_what_is_heard_when_it_is_heard(tmp_path: Path) -> None:
	sound = speech_like(1, 16_000)
	start = time.monotonic()
	speaker = cs.open_speaker(str(tmp_path / "out.wav"), start)
	for number in range(50):
		if number == 25:
			time.sleep(0.4)  # late: silence
		speaker.write(sound[256 * number : 256 * number + 256])
	took = time.monotonic() - start
	speaker.close()
	speaker.close()
	heard = recorded(tmp_path / "out.wav")
	assert abs(len(heard) - 16_000 * took) < 16_000 * 0.15
	at = int(np.flatnonzero(heard[6_500:])[0]) + 6_500
	gap = heard[6_400:at]
	assert np.array_equal(heard[:6_400], sound[:6_400]) and not gap.any()
	assert abs(len(gap) - 16_000 * 0.4) < 16_000 * 0.15
	assert "closed" in error(lambda: speaker.write(sound[:256]))


def test_wav_speaker_opened_late_begins_with_silence(tmp_path: Path) -> None:
	speaker = cs.open_speaker(str(tmp_path / "out.wav"), time.monotonic() - 2.0)
	speaker.write(np.full(256, 1_000, np.int16))
	speaker.close()
	heard = recorded(tmp_path / "out.wav")
	assert int(np.flatnonzero(heard)[0]) == pytest.approx(32_000, abs=800)


def test_wav_speaker_is_valid_each_second(tmp_path: Path) -> None:
	path = tmp_path / "out.wav"
	speaker = cs.open_speaker(str(path), time.monotonic() - 10)
	assert len(recorded(path)) == 0
	speaker.write(np.full(256, 7, np.int16))
	assert len(recorded(path)) >= 160_000 and recorded(path)[-256:].tolist() == [7] * 256
	speaker.close()


def test_none_speaker_paces() -> None:
	start = time.monotonic()
	speaker = cs.open_speaker("none", start)
	for _ in range(20):
		speaker.write(np.zeros(256, np.int16))
	assert 20 * cs.BLOCK_SECONDS - 0.001 < time.monotonic() - start < 0.8
	speaker.close()


class FullCard:
	"""PortAudio's end of a card whose buffer is full: each write takes as long as it plays."""

	def __init__(self) -> None:
		self.played: list[tuple[int, float]] = []  # which, when

	def write(self, data: bytes) -> None:
		self.played.append((int(np.frombuffer(data, np.int16)[0]), time.monotonic()))
		time.sleep(cs.BLOCK_SECONDS)

	def close(self) -> None:
		pass


def test_a_card_asks_for_a_block_no_sooner_than_it_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
	"""A block that lies about before it is played is delay for everyone's ears."""
	monkeypatch.setattr(cs._sound_cards, "close", lambda opened: None)
	card = FullCard()
	speaker = cs._SoundCardSpeaker(cs._SoundStream(card, "Card", 16_000, 1))
	asked = {}
	for number in range(1, 61):
		asked[number] = time.monotonic()
		speaker.write(np.full(256, number, np.int16))
	speaker.close()
	waited = [at - asked[number] for number, at in card.played if number]
	assert len(waited) >= 59
	assert statistics.median(waited) < cs.BLOCK_SECONDS / 2


@pytest.mark.parametrize("spec", ["97", "/nowhere/out.wav"])
def test_missing_speaker_is_one_sentence(spec: str, capfd: pytest.CaptureFixture[str]) -> None:
	error(lambda: cs.open_speaker(spec, time.monotonic()))
	assert capfd.readouterr().err == ""


# ---- sound cards ---------------------------------------------------------------------


@pytest.fixture
def sound_card(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualSound]:
	if missing:
		pytest.skip(f"needs {', '.join(missing)} (packages pulseaudio, pulseaudio-utils)")
	with virtual_sound() as virtual:
		for name, value in virtual.environment.items():
			monkeypatch.setenv(name, value)
		if not cs.list_devices()["mic"]:
			pytest.skip("PortAudio does not see PulseAudio (package libasound2-plugins)")
		yield virtual


def test_microphone_hears_what_is_said(sound_card: VirtualSound, tmp_path: Path) -> None:
	said = speech_like(4, 48_000)
	path = Path(wav(tmp_path / "a.wav", said, 48_000))

	def heard() -> bool:
		microphone = cs.open_microphone("default")
		microphone.read()
		player = threading.Thread(target=sound_card.play, args=(path,))
		player.start()
		start = time.perf_counter()
		sound = take(microphone, 340)
		took = time.perf_counter() - start
		player.join(10)
		match = typical_match(said[::3], sound)
		print(f"{took:.2f} s, match {match:.3f}")
		return abs(took - 340 * cs.BLOCK_SECONDS) < 0.3 and match > 0.95

	assert best_of(4, heard)


def test_speaker_says_what_is_written(sound_card: VirtualSound) -> None:
	said = speech_like(4, 16_000)

	def heard() -> bool:
		speaker = cs.open_speaker("default", time.monotonic())
		with sound_card.listen() as sound:
			for block in np.concatenate((said, np.zeros(16_128, np.int16))).reshape(-1, 256):
				speaker.write(block)
		speaker.close()
		match = typical_match(said, sound[0])
		print(f"match {match:.3f}")
		return match > 0.95

	assert best_of(4, heard)


def test_devices_are_listed_and_open_by_what_is_listed(sound_card: VirtualSound) -> None:
	devices = cs.list_devices()
	for kind in ("mic", "speaker"):
		assert devices[kind][0][0] == "default"
		assert all(cs.is_sound_card(spec) and label for spec, label in devices[kind][1:])
	listed = next(spec for spec, label in devices["mic"] if label == "pulse")
	assert len(take(cs.open_microphone(listed), 3)) == 768


PULLED_OUT = """
import os, sys, time, connectsphere, numpy
if sys.argv[1] == "mic":
    use = connectsphere.open_microphone("default").read
else:
    speaker = connectsphere.open_speaker("default", time.monotonic())
    use = lambda: speaker.write(numpy.zeros(256, numpy.int16))
try:
    use()
    print("works", flush=True)
    while True:
        use()
except connectsphere.DeviceError as fault:
    print(fault.reason, flush=True)
os._exit(0)  # a driver whose server died may never come back
"""


@pytest.mark.parametrize("what", ["mic", "speaker"])
def test_sound_card_pulled_out_says_so(sound_card: VirtualSound, what: str) -> None:
	command = [sys.executable, "-c", PULLED_OUT, what]
	root = Path(cs.__file__).parent
	with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as program:
		assert program.stdout is not None
		assert program.stdout.readline() == "works\n"
		sound_card.server.kill()
		start = time.perf_counter()
		assert program.communicate(timeout=30)[0].strip().endswith(("another program.", "does not answer."))
		assert time.perf_counter() - start < 10


def test_close_ends_a_waiting_reader(sound_card: VirtualSound) -> None:
	microphone = cs.open_microphone("default")
	reasons: list[str] = []
	reader = threading.Thread(
		target=lambda: reasons.append(error(lambda: [microphone.read() for _ in range(9_999)]))
	)
	reader.start()
	microphone.close()
	microphone.close()
	reader.join(5)
	assert "closed" in reasons[0]
