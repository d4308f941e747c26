"""The fuzzer of tests/fuzz: a while of it, how much of the wire it reaches, and a bug planted for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from headless import ROOT
from waiting import best_of

pytest.importorskip("atheris")
SECONDS = float(os.environ.get("CONNECTSPHERE_FUZZ_SECONDS", 16))


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
	command = [sys.executable, "tests/fuzz/run.py", *arguments]
	return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.long(30)
@pytest.mark.timeout(SECONDS * 5 + 120)
def test_nothing_is_found_and_nine_tenths_of_the_wire_are_reached() -> None:
	seconds = iter((SECONDS, 3 * SECONDS))  # on a busy machine it comes to less in a time

	def reached() -> bool:
		done = fuzz("--seconds", str(next(seconds)))
		print(done.stdout)
		assert done.returncode == 0, done.stdout + done.stderr
		runs = re.findall(r"Done (\d+) runs", done.stdout)
		ran, of = map(int, re.findall(r"(\d+) of (\d+) lines of WIRE", done.stdout)[0])
		assert len(runs) == 9, "every target was run"
		return min(map(int, runs)) > 20 and ran >= 0.9 * of

	assert best_of(2, reached)


@pytest.mark.timeout(120)
def test_a_planted_bug_is_found() -> None:
	"""A number that just left the replay window is taken again: two numbers must be exactly 512 apart."""
	done = fuzz("--plant", "window", "--seconds", "60", "sealed")
	assert done.returncode == 1, done.stdout + done.stderr
	assert "found in sealed" in done.stdout and "a replay was taken" in done.stdout
