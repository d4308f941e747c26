"""The Linux executables, built and tried out. Minutes long, so only where CONNECTSPHERE_BUILD is set."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from headless import ROOT
from lan import needs_lan
from workers import outside

import connectsphere as cs

LONG = 1_800


def test_the_scripts_find_the_version() -> None:
	"""They read it out of the source, and name what they build by it."""
	for script in (ROOT / "build").glob("*.sh"):
		for command in re.findall(r"^version=\$\((.+)\)$", script.read_text(), re.MULTILINE):
			said = subprocess.run(
				["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
			)
			assert said.stdout.strip() == cs.VERSION, script


@needs_lan
@pytest.mark.long
@pytest.mark.timeout(LONG)
@pytest.mark.skipif(not os.environ.get("CONNECTSPHERE_BUILD"), reason="CONNECTSPHERE_BUILD is not set")
def test_the_linux_executables_work() -> None:
	"""build/linux.sh ends with a window of each executable, a meeting of both, and no process left.

	Not compressed: the one file unpacks itself at each of its eight starts.
	"""
	built = subprocess.run(
		[*outside(), ROOT / "build" / "linux.sh", "--no-archive"],
		env={**os.environ, "PYTHON": sys.executable, "PYINSTALLER_ZLIB_COMPRESSION_LEVEL": "0"},
		stdout=subprocess.PIPE,
		stderr=subprocess.STDOUT,
		text=True,
		timeout=LONG - 10,
	)
	print(built.stdout)
	assert built.returncode == 0
	assert built.stdout.count("connectsphere works") == 2
