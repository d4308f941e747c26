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


WORK = """
import sys
for name in sys.argv[1:]:
	sys.modules[name] = None  # whoever imports it finds that it is missing
import connectsphere as cs
import numpy as np
cs.load_codecs()
picture = np.zeros((90, 160, 3), np.uint8)
for data in cs.encode_jpeg(picture, 72), cs.encode_webp(picture, 72), cs.encode_lossless(picture):
	assert cs.decode_picture(data).shape == picture.shape
cs.draw_logo(64)
cs.TestCard("Ana", (160, 90)).draw(0.0)
from PIL import ImageTk
print(*(one.__file__ for one in list(sys.modules.values()) if getattr(one, "__file__", None)), sep="\\n")
"""


def test_the_executables_have_what_the_program_works_with() -> None:
	"""Neither the modules nor the files that the build leaves out are in use: pictures of every kind are."""
	spec = (ROOT / "build" / "pyinstaller.spec").read_text()
	left_out = re.findall(r'"([\w.]+)"', spec.partition("excludes=[")[2].partition("\n    ],")[0])
	needless = re.findall(
		r'^    r"(.+)",', spec.partition("NEEDLESS = (")[2].partition("\n)\n")[0], re.MULTILINE
	)
	assert "scipy" in left_out and len(needless) == 3
	done = subprocess.run(
		[sys.executable, "-c", WORK, *left_out], cwd=ROOT, capture_output=True, text=True, check=False
	)
	assert done.returncode == 0, done.stderr
	files = [line.partition("site-packages/")[2] for line in done.stdout.splitlines()]
	native = [file for file in files if not file.endswith(".py")]  # the others are not kept as files
	assert any("_webp" in file for file in native)
	assert not [file for file in native if any(re.search(pattern, file) for pattern in needless)]


@needs_lan
@pytest.mark.long(90)
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
