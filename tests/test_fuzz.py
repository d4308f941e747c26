"""The fuzzer of tests/fuzz: a while of it, how much of the wire it reaches, and a bug planted for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from headless import ROOT

pytest.importorskip("atheris")
SECONDS = float(os.environ.get("CONNECTSPHERE_FUZZ_SECONDS", 16))


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
	command = [sys.executable, "tests/fuzz/run.py", *arguments]
	return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def fuzz_well(*targets: str) -> dict[str, int]:
	"""Nothing is found; how often each target was run."""
	done = fuzz("--seconds", str(SECONDS), *targets)
	print(done.stdout)
	assert done.returncode == 0, done.stdout + done.stderr
	return {name: int(runs) for name, runs in re.findall(r"(\w+): .* Done (\d+) runs", done.stdout)}


@pytest.mark.long(30)
@pytest.mark.timeout(SECONDS * 5 + 120)
def test_nothing_is_found_and_nine_tenths_of_the_wire_are_reached() -> None:
	runs = fuzz_well()
	assert len(runs) == 9, "every target was run"
	few = [name for name, count in runs.items() if count <= 20]
	assert not few or min(fuzz_well(*few).values()) > 20  # a busy machine: those have more time then


@pytest.mark.timeout(120)
def test_a_planted_bug_is_found() -> None:
	"""A number that just left the replay window is taken again: two numbers must be exactly 512 apart."""
	done = fuzz("--plant", "window", "--seconds", "60", "sealed")
	assert done.returncode == 1, done.stdout + done.stderr
	assert "found in sealed" in done.stdout and "a replay was taken" in done.stdout
