"""A first meeting on a LAN without a default route: found by itself, seen, heard, and left again.

CONNECTSPHERE_FILM names a real video file to be seen instead of a drawn one.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from headless import PROGRAM, Headless
from lan import Lan, needs_lan
from meetings import QUIET_MACHINE, stats, switch, wav
from numpy.typing import NDArray
from pictures import best_frame, film, frame_rate, frames_of, grey, read_picture
from sound import heard_in, speech_like

import connectsphere as cs

pytestmark = needs_lan

RATE = 16_000
HEARD = 9 if QUIET_MACHINE else 6  # seconds
WARM = 5 if QUIET_MACHINE else 3  # starts
SPEECH = (
	"Good morning everyone. Today we look at how sound travels through the air, and why a string "
	"that is twice as long sings an octave lower. Please take out your notebooks, write down the date, "
	"and tell me what you hear when I pluck this one. Now listen again: which of the two was higher?"
)
SILENT = ("--camera", "none", "--mic", "none")


def speech(path: Path, seconds: int = 16) -> NDArray[np.int16]:
	"""Real speech where espeak-ng is installed, else something alike; also written to `path`."""
	try:
		spoken = subprocess.run(
			["espeak-ng", "-s", "150", "--stdout", SPEECH], capture_output=True, check=True, timeout=30
		)
	except FileNotFoundError:
		samples = speech_like(seconds, RATE)
		wav(path, samples)
		return samples
	raw = path.with_suffix(".raw.wav")
	raw.write_bytes(spoken.stdout)
	with wave.open(str(raw)) as file:
		rate = file.getframerate()
		found = np.frombuffer(file.readframes(1 << 30), "<i2").astype(float)
	at = np.arange(int(len(found) / rate * RATE)) * rate / RATE
	samples = np.interp(at, np.arange(len(found)), found).astype(np.int16)
	wav(path, samples)
	return samples


def correlations(window: NDArray[Any], voice: NDArray[Any]) -> NDArray[np.float64]:
	"""The normalised correlation of `window` with every stretch of the endless loop of `voice`."""
	count = len(window)
	loop = np.tile(voice.astype(float), -(-count // len(voice)) + 1)[: len(voice) + count - 1]
	size = 1 << (len(loop) + count).bit_length()
	product = np.fft.irfft(np.fft.rfft(loop, size) * np.conj(np.fft.rfft(window, size)), size)[: len(voice)]
	energy = np.cumsum(np.insert(loop**2, 0, 0.0))
	stretch = energy[count : count + len(voice)] - energy[: len(voice)]
	norm = np.sqrt(np.maximum(stretch, 1.0) * max(1.0, float(np.sum(np.square(window, dtype=float)))))
	found: NDArray[np.float64] = product / norm
	return found


def level_db(samples: NDArray[Any]) -> float:
	return 10 * float(np.log10(max(1.0, float(np.mean(np.square(samples, dtype=float))))))


@pytest.fixture
def hosts(lan: Callable[[int], Lan]) -> Lan:
	return lan(3)


@pytest.mark.long(25)
@pytest.mark.calm
def test_the_first_meeting(hosts: Lan, meeting: Callable[..., Headless], tmp_path: Path) -> None:
	chosen = os.environ.get("CONNECTSPHERE_FILM")
	video = Path(chosen) if chosen else film(tmp_path / "film.avi", 8)
	voice = speech(tmp_path / "ana.wav")
	other = np.roll(speech_like(13, RATE, seed=7), 999)
	wav(tmp_path / "ben.wav", other)

	def there(host: int, *args: str) -> Headless:
		speaker = ("--speaker", str(tmp_path / f"heard-{host}.wav"))
		return meeting(*args, *speaker, netns=hosts.namespace(host))

	ana = there(1, "--host", "--name", "Ana", "--camera", str(video), "--mic", str(tmp_path / "ana.wav"))
	ana.wait("joined", timeout=40)
	ben = there(2, "--name", "Ben", "--camera", "pattern", "--mic", str(tmp_path / "ben.wav"))
	assert ben.wait("joined", timeout=40)["address"] == hosts.address(1)
	ana.wait("join", name="Ben")
	cara = there(3, "--name", "Cara", *SILENT)
	assert cara.wait("joined", timeout=40)["address"] == hosts.address(1)
	ana.wait("join", name="Cara")

	switch(ana, "camera", True)
	switch(ana, "mic", True)
	ben.send({"do": "watch", "streams": {"Ana": {"layer": 2, "fps": 15}}})
	cara.wait("speaking", name="Ana")
	began = time.time()
	see_the_film(ben, video, tmp_path)
	assert stats(cara)["udp"] == "ok"
	talk(ana, ben, cara)
	time.sleep(max(0.0, began + HEARD + 2.5 - time.time()))
	audio = stats(cara)["audio"]
	hear(tmp_path / "heard-3.wav", cara, began, voice)
	assert audio["lost"] == 0, audio
	switch(ana, "mic", False)
	both_ways(ana, ben, tmp_path, voice, other)
	leave(ana, ben, cara)


def see_the_film(ben: Headless, video: Path, directory: Path) -> None:
	"""Two snapshots a second apart show frames a second apart; the rate is what was asked."""
	time.sleep(3)
	frames, rate = frames_of(video), frame_rate(video)
	size = cs.fit_picture(np.zeros((*frames[0].shape, 3), np.uint8), cs.LAYERS[2]).shape[1::-1]
	if size != frames[0].shape[::-1]:
		frames = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
	seen = []
	for n in range(2):
		path = directory / f"seen-{n}.png"
		asked = time.time()
		ben.send({"do": "snapshot", "of": "Ana", "path": str(path), "ref": n})
		taken = ben.wait("snapshot", ref=n)
		assert (taken["width"], taken["height"]) == size
		seen.append((asked, taken["time"], grey(read_picture(path))))
		if n == 0:
			time.sleep(max(0.0, asked + 1 - time.time()))
	figures = stats(ben)["video"]["Ana"]
	(first, alike), (second, alike_too) = (best_frame(picture, frames) for *_, picture in seen)
	apart = (second - first) % len(frames) / rate
	print(f"snapshots {apart:.2f} s apart, ssim {alike:.3f} {alike_too:.3f}, {figures}")
	assert min(alike, alike_too) >= 0.85
	# each was taken after it was asked for and before it was there
	assert seen[1][0] - seen[0][1] - 0.08 <= apart <= seen[1][1] - seen[0][0] + 0.08
	assert figures["fps"] >= (0.9 if QUIET_MACHINE else 0.6) * 15


def talk(ana: Headless, ben: Headless, cara: Headless) -> None:
	for one, name in ((ana, "Ana"), (ben, "Ben"), (cara, "Cara")):
		one.send({"do": "chat", "text": f"from {name}"})
		for other in (ana, ben, cara):
			assert other.wait("chat", text=f"from {name}")["from"] == name
	ben.send({"do": "private", "to": "Cara", "text": "just us"})
	assert cara.wait("private", text="just us")["from"] == "Ben"
	assert ben.wait("private", text="just us")["to"] == "Cara"
	cara.send({"do": "react", "emoji": "🎉"})
	for one in (ana, ben, cara):
		assert one.wait("reaction", emoji="🎉")["from"] == "Cara"
	assert not ana.seen("private")
	cara.send({"do": "users", "ref": "all"})
	users = cara.wait("users", ref="all")["users"]
	assert [(user["name"], user["role"], user["camera"], user["mic"]) for user in users] == [
		("Ana", "host", True, True),
		("Ben", "member", False, False),
		("Cara", "member", False, False),
	]


def hear(path: Path, cara: Headless, began: float, voice: NDArray[np.int16]) -> None:
	"""What Cara's speaker wrote is what Ana says, in every 5 s and as loud.

	A busy machine changes the delay within 5 s and loses blocks: there, a share of the half seconds must fit.
	"""
	joined = cara.seen("joined")[0]["time"]
	heard = heard_in(path)[int((began + 0.5 - joined) * RATE) :].astype(float)
	assert len(heard) >= HEARD * RATE, f"{len(heard) / RATE} s were heard"
	seconds, needed = (5.0, 1.0) if QUIET_MACHINE else (0.5, 0.3)
	size = int(seconds * RATE)
	good = []
	for start in range(0, len(heard) - size + 1, RATE // 2):
		window = heard[start : start + size]
		found = correlations(window, voice)
		lag = int(np.argmax(found))
		loudness = level_db(window) - level_db(np.roll(voice, -lag)[:size])
		print(f"from {start / RATE:.1f} s correlation {found[lag]:.3f} at {lag}, level {loudness:+.1f} dB")
		good.append(found[lag] >= 0.9 and abs(loudness) <= 3)
	assert sum(good) >= needed * len(good)


def both_ways(
	ana: Headless, ben: Headless, directory: Path, voice: NDArray[np.int16], other: NDArray[np.int16]
) -> None:
	"""Ana and Ben talk at once: each hears the other and never the own voice."""
	for one in (ana, ben):
		switch(one, "mic", True)
	began = time.time()
	time.sleep(7)
	for one in (ana, ben):
		switch(one, "mic", False)
	for host, one, theirs, own in ((1, ana, other, voice), (2, ben, voice, other)):
		joined = one.seen("joined")[0]["time"]
		at = int((began + 1 - joined) * RATE)
		window = heard_in(directory / f"heard-{host}.wav")[at : at + 5 * RATE].astype(float)
		assert len(window) == 5 * RATE
		found, echo = correlations(window, theirs).max(), np.abs(correlations(window, own)).max()
		print(f"host {host}: the other {found:.3f}, the own voice {echo:.3f}")
		assert found >= (0.9 if QUIET_MACHINE else 0.3)
		assert echo <= 0.1


def leave(ana: Headless, ben: Headless, cara: Headless) -> None:
	ben.send({"do": "leave"})
	assert ben.wait("left")
	assert ben.process.wait(5) == 0
	for one in (ana, cara):
		assert one.wait("leave", name="Ben")
	ana.send({"do": "end"})
	for one in (ana, cara):
		assert one.wait("ended")
		assert one.process.wait(8) == 0


def test_an_address_that_nobody_has(hosts: Lan, meeting: Callable[..., Headless]) -> None:
	there = hosts.namespace(2)
	one = meeting("--join", hosts.address(77), "--name", "Ben", netns=there, program=PROGRAM)
	assert one.wait("denied", timeout=12)["code"] == "no_meeting"
	assert one.process.wait(5) == 1
	assert time.monotonic() - one.started_at < 12


@pytest.mark.long(20)
@pytest.mark.calm
def test_found_and_joined_at_once(hosts: Lan, meeting: Callable[..., Headless], tmp_path: Path) -> None:
	"""Plain starts with no address; the median of five warm ones, or three. A busy machine gets more time."""
	quiet = (*SILENT, "--speaker", "none")
	ana = meeting("--host", "--name", "Ana", *quiet, netns=hosts.namespace(1))
	ana.wait("joined", timeout=40)
	took: dict[int, list[float]] = {2: [], 3: []}
	for n in range(1 + WARM):
		for host, times in took.items():
			home = tmp_path / f"home-{host}"
			at = hosts.namespace(host)
			one = meeting("--name", f"P{host}", *quiet, home=home, netns=at, program=PROGRAM)
			one.wait("joined", timeout=40)
			if n:
				times.append(time.monotonic() - one.started_at)
			one.close()
	for times in took.values():
		print(f"joined after {', '.join(f'{t:.2f}' for t in times)} s, median {statistics.median(times):.2f}")
		assert statistics.median(times) <= (1.6 if QUIET_MACHINE else 6.0)
