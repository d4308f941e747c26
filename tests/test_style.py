"""The linter, the formatter and the type checker agree, as part of the suite."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from headless import ROOT

CHECKS = {
	"ruff check": ["ruff", "check", "."],
	"ruff format": ["ruff", "format", "--check", "."],
}
TEST_FOLDERS = ("tests", "tests/fuzz", "tests/bench")


def complaints(command: list[str], **options: Any) -> str:
	"""What the tool says, empty if it is content."""
	run = subprocess.run(
		[sys.executable, "-m", *command],
		cwd=ROOT,
		capture_output=True,
		text=True,
		timeout=300,
		check=False,
		**options,
	)
	return "" if run.returncode == 0 else run.stdout + run.stderr


@pytest.mark.parametrize("name", CHECKS)
def test_clean(name: str) -> None:
	assert complaints(CHECKS[name]) == ""


@pytest.mark.long
@pytest.mark.timeout(320)
def test_types_are_right_and_what_tests_and_benches_call_exists() -> None:
	"""A bench or a planted bug that nothing ran would keep a name that the program has no more.

	All in one run, half of which looks at libraries; of tests only missing names are told.
	"""
	files = [str(path) for folder in TEST_FOLDERS for path in sorted((ROOT / folder).glob("*.py"))]
	files.remove(str(ROOT / "tests" / "bench" / "endurance.py"))  # the name of the module it runs
	env = {**os.environ, "MYPYPATH": os.pathsep.join(str(ROOT / folder) for folder in (".", *TEST_FOLDERS))}
	said = complaints(["mypy", "--strict", "connectsphere.py", *files], env=env).splitlines()
	assert "checked" in said[-1], said
	ours = [line for line in said if line.startswith("connectsphere.py:") and " error: " in line]
	assert ours + [line for line in said if missing(line)] == []


def missing(line: str) -> bool:
	"""Whether a line of mypy's says that a module or a class of ours has no such name."""
	return bool(re.search(r'(Module|"(?!object|Misc)\w+") has no attribute', line))


def test_a_missing_name_is_told() -> None:
	said = complaints(["mypy", "-c", "import os; os.x; f = lambda: 0; 'a'.b"])
	assert sum(map(missing, said.splitlines())) == 2, said


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


def spaced(text: str) -> list[int]:
	"""Lines of code, not of a string, that spaces indent: what a formatter is told to skip can hold some."""
	found = [row for row, line in enumerate(text.splitlines(), 1) if re.match(r"\t* \s*\S", line)]
	if not found:
		return []
	inside = {
		row
		for node in ast.walk(ast.parse(text))
		if isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno
		for row in range(node.lineno + 1, node.end_lineno + 1)
	}
	return [row for row in found if row not in inside]


def test_code_is_indented_by_tabs() -> None:
	files = [
		ROOT / "connectsphere.py",
		*sorted((ROOT / "tests").rglob("*.py")),
		*sorted((ROOT / "build").glob("*.py")),
	]
	assert {path.name: found for path in files if (found := spaced(path.read_text("utf-8")))} == {}


def test_a_space_at_the_begin_is_found_but_in_a_string() -> None:
	assert spaced('x = (\n  1,\n\t2,\n)\ny = """\n  1\n"""\nif x:\n\ty = 1; z = 2\n') == [2]
