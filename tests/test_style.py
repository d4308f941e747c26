"""The linter, the formatter and the type checker agree, as part of the suite."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from headless import ROOT

CHECKS = {
	"ruff check": ["ruff", "check", "."],
	"ruff format": ["ruff", "format", "--check", "."],
	"mypy": ["mypy", "--strict", "connectsphere.py"],
}


def complaints(command: list[str], **options: Any) -> str:
	"""What the tool says, empty if it is content."""
	run = subprocess.run(
		[sys.executable, "-m", *command],
		cwd=ROOT,
		capture_output=True,
		text=True,
		timeout=110,
		check=False,
		**options,
	)
	return "" if run.returncode == 0 else run.stdout + run.stderr


@pytest.mark.long
@pytest.mark.parametrize("name", CHECKS)
def test_clean(name: str) -> None:
	assert complaints(CHECKS[name]) == ""


@pytest.mark.parametrize(
	("command", "source", "word"),
	[
		(["ruff", "check", "--stdin-filename", "x.py", "-"], "import os\n", "F401"),
		(["ruff", "format", "--diff", "--stdin-filename", "x.py", "-"], "x = 'a'\n", "+x ="),
		(["mypy", "--strict", "-c", "def f(x): return x"], "", "no-untyped-def"),
	],
)
def test_the_check_can_fail(command: list[str], source: str, word: str) -> None:
	assert word in complaints(command, input=source)
