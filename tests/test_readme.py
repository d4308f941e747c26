"""The README's lines and headings, and that continuous integration runs the line that is printed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from headless import ROOT
from test_sections import product, the_program

README = (ROOT / "README.md").read_text(encoding="utf-8")


def line_behind(marker: str) -> str:
	"""The one line of the code block behind an HTML comment."""
	block = re.search(rf"^<!-- {marker} -->\n```sh\n(.+)\n```$", README, re.MULTILINE)
	assert block, f"no line behind <!-- {marker} -->"
	return block[1]


@pytest.mark.parametrize(
	("marker", "end"),
	[("demo-line", "connectsphere.py --demo"), ("test-line", "-m pytest -n 6 --dist loadgroup")],
)
def test_each_line_sets_up_all_it_needs(marker: str, end: str) -> None:
	line = line_behind(marker)
	assert line.startswith("apt-get update")
	assert line.endswith(end)
	assert subprocess.run(["bash", "-n", "-c", line], check=False).returncode == 0


def test_ci_runs_the_printed_test_line(tmp_path: Path) -> None:
	(tmp_path / ".ci").mkdir()
	script = tmp_path / ".ci" / "run"
	script.write_bytes((ROOT / ".ci" / "run").read_bytes())
	(tmp_path / "README.md").write_text(
		README.replace(line_behind("test-line"), "pwd && echo 'two words' && false")
	)
	run = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
	assert (run.stdout, run.returncode) == (f"{tmp_path}\ntwo words\n", 1)


PARTS = (
	"What it does", "Get it", "Try it", "Roles", "For teachers", "Protocol",
	"Where is it", "Figures", "Security", "Building it", "Contributing",
)  # fmt: skip


def test_headings() -> None:
	headings = re.findall(r"^## (.+)$", README, re.MULTILINE)
	assert [part for part in PARTS if part not in headings] == []
	anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
	assert [link for link in re.findall(r"\]\(#([^)]+)", README) if link not in anchors] == []


PAGES = sorted([ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pictures_and_files_named_exist(page: Path) -> None:
	links = [
		link for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")) if "://" not in link
	]
	assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_front_door_is_short() -> None:
	assert len(README.splitlines()) <= 250
	assert [page.name for page in PAGES[1:] if page.name not in README] == []


@the_program
def test_each_name_stands_in_the_section_that_is_said() -> None:
	module = product()
	rows = re.findall(r"^\| [^|]+ \| ([A-Z][A-Z, -]+) \| (`.+) \|$", README, re.MULTILINE)
	assert len(rows) > 15
	for sections, names in rows:
		homes = {module.home[name].name for name in re.findall(r"`(\w+)`", names)}
		assert homes == set(sections.split(", ")), names


def test_each_claim_of_security_names_a_test_that_is_there() -> None:
	"""The very test, not its file; above "What is not protected" nothing stands behind the last one."""
	text = (ROOT / "SECURITY.md").read_text("utf-8")
	named = re.findall(r"`(?:tests/)?(test_\w+\.py)(?:::(\w+))?`", text)
	assert len(named) > 50
	for file, test in named:
		assert test and f"def {test}(" in (ROOT / "tests" / file).read_text("utf-8"), (file, test)
	claims = text.split("## What is protected")[1].split("## What is not")[0].split("\n* ")[1:]
	assert [claim[-60:] for claim in claims if not claim.rstrip().endswith("`).")] == []


def test_the_way_of_a_click_names_what_is_there() -> None:
	way = README.split("**The way of a click**")[1].split("\n## ")[0]
	source = (ROOT / "connectsphere.py").read_text("utf-8")
	named = set(re.findall(r"`(_?[a-z]\w+)`", way))
	assert len(named) > 8
	assert [name for name in named if f"def {name}(" not in source and f'"{name}": ' not in source] == []
