"""The demo: whom it sees and hears, it has decoded."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from headless import PROGRAM, ROOT, environment, free_base
from lan import Lan, needs_lan
from meetings import QUIET_MACHINE

import connectsphere as cs

LINE = re.compile(r" ?\d+ s  seen \d/\d, heard \d/\d, [\d.]+ pictures a second(, \d+ ms)?(  missing: .+)?")


@pytest.mark.parametrize(("wanted", "status"), [(2, 0), (3, 1)])
def test_a_short_demo(wanted: int, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
	"""Two take part; whoever looks for a third misses that one."""
	monkeypatch.setattr(cs, "DEMO_SECONDS", 2)
	monkeypatch.setattr(cs, "DEMO_PATIENCE", 20.0 if wanted == 2 else 1.0)
	monkeypatch.setenv("CONNECTSPHERE_HOME", str(tmp_path))
	base, bind = free_base(), "127.0.0.1"
	server = cs.ServerOptions(title="Demo", host_name="Ana", base=base, bind=bind)
	options = cs.ClientOptions(name="Ana", port=base, bind=bind, camera="none", mic="none", speaker="none")
	options.given = {"camera", "mic", "speaker"}
	program = cs.Program(options, cs.asdict(server), tmp_path, look=False)
	said: list[str] = []
	try:
		assert cs.run_demo(program.demo(2), wanted, said.append) == status
	finally:
		program.close()
	assert len(said) == 3
	assert all(LINE.fullmatch(line) for line in said[:2]), said
	assert ("missing" in said[0]) is (status == 1)


@needs_lan
@pytest.mark.skipif(not QUIET_MACHINE, reason="takes a minute of a machine where nothing else runs")
@pytest.mark.parametrize("blocked", [False, True])
def test_the_whole_demo(blocked: bool, lan: Callable[[int], Lan], tmp_path: Path) -> None:
	"""With the video port blocked it ends with status 1."""
	hosts = lan(1)
	if blocked:
		rule = (
			"table inet f {\n chain i {\n type filter hook input priority 0\n udp dport 10000 drop\n }\n}\n"
		)
		hosts.run(1, "nft", rule)
	command = ["ip", "netns", "exec", hosts.namespace(1), *PROGRAM, "--demo"]
	surroundings = environment(tmp_path, {"DISPLAY": "", "WAYLAND_DISPLAY": ""})
	done = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=90)
	assert done.returncode == int(blocked), done.stdout
	first, *lines, last = done.stdout.splitlines()
	assert "no display" in first and done.stderr == ""
	assert len(lines) == 20 and all(LINE.fullmatch(line) for line in lines), done.stdout
	assert last == "In 20 of 20 seconds somebody was not seen or not heard." if blocked else "All 6" in last
