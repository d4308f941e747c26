"""Proves that a tone passes sound cards under Windows' rule for shared mode, with the PortAudio shipped.

usage: smoke_sound.py PYTHON   (python.exe for Wine, with the environment that windows.sh sets)

For devices of one, two and four channels the program's own speaker plays 440 Hz, and its microphone hears it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import wave
from pathlib import Path

from smoke import ROOT, Program, say

sys.path[:0] = [str(ROOT / "tests")]

import numpy as np  # noqa: E402 - found by the path above
import sound  # noqa: E402
from waiting import best_of  # noqa: E402

TONE = 440.0
RATE = 16_000
SECONDS = 4
LEAST = 0.95  # of the energy
CHANNELS = (1, 2, 4)


def ask(python: Program, virtual: sound.VirtualSound, *words: str) -> str:
	"""Run sound_rule.py in Wine; what it says last."""
	rule = python.file(Path(__file__).with_name("sound_rule.py"))
	command = [*python.command, rule, words[0], str(SECONDS), *words[1:]]
	done = subprocess.run(
		command, env=virtual.environment, stdin=subprocess.PIPE, capture_output=True, text=True, timeout=120
	)
	assert done.returncode == 0, done.stderr
	return done.stdout.strip().splitlines()[-1]


def check(python: Program, folder: Path, channels: int) -> None:
	"""Both ways with devices of `channels`."""
	file, heard = folder / f"tone-{channels}.wav", folder / f"heard-{channels}"
	tone = (12_000 * np.sin(2 * np.pi * TONE * np.arange(60 * RATE) / RATE)).astype("<i2")
	with wave.open(str(file), "wb") as out:
		out.setparams((1, 2, RATE, 0, "NONE", ""))
		out.writeframes(tone.tobytes())
	with sound.virtual_sound(channels) as virtual:

		def speaker() -> bool:
			with virtual.listen() as played:
				report = ask(python, virtual, "out")
			loud = played[0][np.flatnonzero(played[0])[0] : np.flatnonzero(played[0])[-1]]
			return passed("speaker", channels, report, loud)

		def microphone() -> bool:
			command = ["paplay", f"--device={virtual.feed}", str(file)]
			with subprocess.Popen(command, env=virtual.environment) as mouth:
				report = ask(python, virtual, "in", python.file(heard))
				mouth.kill()
			return passed("microphone", channels, report, np.fromfile(heard, "<i2"))

		assert best_of(4, speaker) and best_of(4, microphone), "the sound is another"
		python.end()  # it is bound to this sound server


def passed(what: str, channels: int, report: str, samples: np.ndarray) -> bool:
	"""Whether the tone is there, nearly alone; the rule was asked."""
	pieces = np.array_split(samples[RATE // 2 :], 2 * SECONDS)  # a busy machine loses a block now and then
	share = float(np.median([sound.share_of_tone(piece, TONE, RATE) for piece in pieces]))
	opened, refused = report.split()
	say(
		f"{what} of {channels}: opened with {opened}, {refused} refused, {100 * share:.1f} % at {TONE:.0f} Hz"
	)
	return share >= LEAST


def main() -> int:
	"""Check all counts of channels."""
	python = Program(sys.argv[1])
	python.end()
	try:
		with tempfile.TemporaryDirectory() as folder:
			for channels in CHANNELS:
				check(python, Path(folder), channels)
	finally:
		python.end()
	print("sound works", flush=True)
	return 0


if __name__ == "__main__":
	sys.exit(main())
