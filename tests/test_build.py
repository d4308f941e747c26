"""The Linux executables, built and tried out. Minutes long, so only where CONNECTSPHERE_BUILD is set."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from headless import ROOT
from lan import needs_lan
from workers import outside

LONG = 1_800


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
