"""A private PulseAudio for tests: a virtual speaker that is heard and a virtual microphone that is fed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NEEDED = ("pulseaudio", "pactl", "paplay", "parec")
missing = [tool for tool in NEEDED if shutil.which(tool) is None]


@dataclass(frozen=True)
class VirtualSound:
	"""`environment` makes a program use it: what it plays goes to `speaker`, it records what `feed` plays."""

	environment: dict[str, str]
	server: subprocess.Popen[bytes]
	speaker: str = "ears.monitor"
	feed: str = "mouth"

	def play(self, wav: Path) -> None:
		"""Say the WAV file into the virtual microphone, to its end."""
		subprocess.run(
			["paplay", f"--device={self.feed}", str(wav)], env=self.environment, check=True, timeout=30
		)

	def loop(self, milliseconds: int) -> None:
		"""From now on the virtual microphone hears the virtual speaker, so much later."""
		module = ["module-loopback", f"source={self.speaker}", f"sink={self.feed}"]
		command = ["pactl", "load-module", *module, f"latency_msec={milliseconds}"]
		subprocess.run(command, env=self.environment, check=True, capture_output=True, timeout=10)

	@contextlib.contextmanager
	def listen(self) -> Iterator[list[NDArray[np.int16]]]:
		"""Record the virtual speaker inside the block (16 kHz mono); the one entry is there after it."""
		command = ["parec", f"--device={self.speaker}", "--raw", "--rate=16000", "--channels=1"]
		process = subprocess.Popen(
			[*command, "--format=s16le", "--latency-msec=20"], env=self.environment, stdout=subprocess.PIPE
		)
		assert process.stdout is not None
		stream = process.stdout
		pieces = [stream.read(2)]  # it records from now on
		reader = threading.Thread(target=lambda: pieces.append(stream.read()))
		reader.start()
		heard: list[NDArray[np.int16]] = []
		try:
			yield heard
		finally:
			process.terminate()
			process.wait(10)
			reader.join(10)
			stream.close()
			data = b"".join(pieces)
			heard.append(np.frombuffer(data[: len(data) // 2 * 2], np.int16))


def share_of_tone(samples: NDArray[np.int16], tone: float, rate: int) -> float:
	"""The share, 0 to 1, of the energy of `samples` within 6 Hz of `tone`, its first fifth left out."""
	kept = samples[len(samples) // 5 :].astype(float)
	energy = np.abs(np.fft.rfft(kept * np.hanning(len(kept)))) ** 2
	near = np.abs(np.fft.rfftfreq(len(kept), 1 / rate) - tone) < 6
	return float(energy[near].sum() / max(energy.sum(), 1.0))


@contextlib.contextmanager
def virtual_sound(channels: int = 2) -> Iterator[VirtualSound]:
	"""Start it in a directory of its own, with devices of `channels`; ended by process id."""
	with tempfile.TemporaryDirectory(prefix="sound-") as directory:
		socket = f"{directory}/native"
		environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
		environment |= {"HOME": directory, "XDG_RUNTIME_DIR": directory, "PULSE_RUNTIME_PATH": directory}
		environment |= {"PULSE_SERVER": f"unix:{socket}", "PULSE_COOKIE": f"{directory}/cookie"}
		modules = (
			f"module-native-protocol-unix auth-anonymous=1 socket={socket}",
			f"module-null-sink sink_name=ears rate=48000 channels={channels}",
			f"module-null-sink sink_name=mouth rate=48000 channels={channels}",
			"module-remap-source source_name=voice master=mouth.monitor",
		)
		command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
		command += [word for module in modules for word in ("-L", module)]
		with open(f"{directory}/log", "wb") as log:
			server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
		try:
			_wait_ready(environment)
			for what, which in (("sink", "ears"), ("source", "voice")):
				subprocess.run(
					["pactl", f"set-default-{what}", which], env=environment, check=True, timeout=10
				)
			yield VirtualSound(environment, server)
		finally:
			server.terminate()
			server.wait(10)


def _wait_ready(environment: dict[str, str]) -> None:
	for _ in range(100):
		if (
			subprocess.run(["pactl", "info"], env=environment, capture_output=True, timeout=10).returncode
			== 0
		):
			return
		time.sleep(0.1)
	raise RuntimeError("PulseAudio did not start")


def speech_like(seconds: int, rate: int, seed: int = 1) -> NDArray[np.int16]:
	"""Noise under 1.5 kHz in bursts like syllables; each stretch of it correlates with itself alone."""
	random = np.random.default_rng(seed)
	count = seconds * rate
	spectrum = np.fft.rfft(random.normal(size=count))
	spectrum[1_500 * seconds :] = 0
	loudness = np.interp(
		np.arange(count) * 8 / rate, np.arange(8 * seconds + 1), random.uniform(0, 1, 8 * seconds + 1)
	)
	sound = np.fft.irfft(spectrum, count) * loudness
	return (sound / np.abs(sound).max() * 12_000).astype(np.int16)


def heard_in(path: Path) -> NDArray[np.int16]:
	"""What a client's speaker has recorded so far, 16 kHz; nothing before the header is in the file."""
	if not path.exists() or not path.stat().st_size:
		return np.zeros(0, np.int16)
	with wave.open(str(path)) as file:
		return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def longest_silence(path: Path, start: float, end: float) -> float:
	"""Seconds of the longest silence in a WAV file of 16 kHz, mono, between two of its moments."""
	part = heard_in(path)[int(start * 16_000) : int(end * 16_000)]
	blocks = np.abs(part[: len(part) // 160 * 160].astype(int)).reshape(-1, 160).max(axis=1)
	return float(np.diff([-1, *np.flatnonzero(blocks > 500), len(blocks)]).max() - 1) * 0.01


def best_match(wanted: NDArray[np.int16], heard: NDArray[np.int16]) -> tuple[float, int]:
	"""The highest correlation of `wanted` with any stretch of `heard`, and where that begins."""
	size = len(wanted) + len(heard)
	product = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(wanted, size))
	at = int(np.argmax(np.fft.irfft(product, size)[: max(1, len(heard) - len(wanted) + 1)]))
	stretch = heard[at : at + len(wanted)].astype(float)
	return float(np.corrcoef(wanted[: len(stretch)], stretch)[0, 1]), at


def typical_match(wanted: NDArray[np.int16], heard: NDArray[np.int16], piece: int = 16_000) -> float:
	"""The median over the pieces of `wanted`, of so many samples: a dropout or a slip spoils one of them."""
	pieces = wanted[: len(wanted) // piece * piece].reshape(-1, piece)
	return float(np.median([best_match(part, heard)[0] for part in pieces]))
