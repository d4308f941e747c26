"""The fuzzer of tests/fuzz: a while of it, how much of the wire it reaches, and a bug planted for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from headless import ROOT

pytest.importorskip("atheris")
SECONDS = float(os.environ.get("CONNECTSPHERE_FUZZ_SECONDS", 9))


@pytest.mark.long(20)
@pytest.mark.timeout(SECONDS * 5 + 120)
def test_nothing_is_found_and_nine_tenths_of_the_wire_are_reached() -> None:
	"""But the bug that was planted: a number that just left the replay window is taken again. Two must be
	exactly 512 apart."""
	command = [sys.executable, "tests/fuzz/run.py", "--seconds", str(SECONDS), "--plant", "window"]
	done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
	print(done.stdout)
	assert done.returncode == 0, done.stdout + done.stderr
	assert "found in sealed+window" in done.stdout and "a replay was taken" in done.stdout
	runs = {name: int(count) for name, count in re.findall(r"(\w+): .* Done (\d+) runs", done.stdout)}
	assert len(runs) == 9 and min(runs.values()) >= 80, "every target was run"
