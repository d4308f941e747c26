"""The command line's contract: what it prints, which status it ends with, never a traceback."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from headless import PROGRAM, ROOT, environment, free_base
from starter import ran

import connectsphere

LOOPBACK = "127.0.0.1"
ALONE = "127.41.7.9"  # discovery on another loopback address is a world of its own
Run = Callable[..., subprocess.CompletedProcess[str]]
ROLES = ("--host", "--serve", "--join", "--list", "--demo", "--doctor")
OPTIONS = (
	"--name", "--title", "--pin", "--port", "--bind", "--camera", "--mic", "--speaker", "--downloads",
	"--host-key", "--headless", "--new", "--log", "--json", "--version", "-v",
)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Run:
	"""Runs the program to its end with a home of its own."""

	def run(*args: str, timeout: float = 15.0, **env: str) -> subprocess.CompletedProcess[str]:
		return ran([*PROGRAM, *args], cwd=ROOT, env=environment(tmp_path / "home", env), timeout=timeout)

	return run


def assert_one_sentence(text: str, *words: str) -> None:
	"""Standard error holds one clear sentence and no traceback."""
	lines = text.strip().splitlines()
	assert len(lines) == 1, text
	assert "Traceback" not in text
	assert len(lines[0].split()) >= 4, text
	assert [word for word in words if word not in text] == []


def test_version() -> None:
	for python in ([], ["-u"]):  # the second is none that imported it before
		done = ran([PROGRAM[0], *python, *PROGRAM[1:], "--version"], cwd=ROOT, timeout=15)
		assert (done.returncode, done.stderr) == (0, "")
		assert done.stdout.split()[-1] == connectsphere.VERSION


def test_help_names_every_role_and_option(run: Run) -> None:
	done = run("--help")
	assert (done.returncode, done.stderr) == (0, "")
	named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", done.stdout))
	assert sorted({*ROLES, *OPTIONS} - named) == []


WRONG = (
	["--nonsense"],
	["surplus"],
	["--port", "abc"],
	["--port", "0"],
	["--port", "64000"],
	["--port"],
	["--bind", "not an address"],
	["--join"],
	["--join", ""],
	["--join", "127.0.0.1:99999"],
	["--join", "127.0.0.1:port"],
	["--host", "--serve"],
	["--host", "--join", LOOPBACK],
	["--serve", "--list"],
	["--demo", "0"],
	["--demo", "many"],
	["--host", "--pin", ""],
	["--host", "--orphan-seconds", "-1"],
	["--host", "--pin", "9" * 65],
)
# All of them in one process, each as if it were the only one.
EACH = """
import contextlib, io, json, sys, connectsphere
for sys.argv[1:] in json.loads(sys.argv[1]):
	with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(io.StringIO()) as told:
		status = connectsphere.main()
	print(json.dumps([status, said.getvalue(), told.getvalue()]))
"""


def test_wrong_options(run: Run) -> None:
	command = [sys.executable, "-c", EACH, json.dumps(WRONG)]
	done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
	for args, answer in zip(WRONG, map(json.loads, done.stdout.splitlines()), strict=True):
		assert_one_sentence(answer[2])
		assert answer[:2] == [2, ""], args
	one = run(*WRONG[0])
	assert_one_sentence(one.stderr)
	assert (one.returncode, one.stdout) == (2, "")


@pytest.mark.parametrize(
	("plane", "kind"), [(0, "tcp"), (1, "tcp"), (2, "tcp"), (1_000, "udp"), (2_000, "udp")]
)
@pytest.mark.parametrize("role", ["--serve", "--host"])
def test_a_busy_port(run: Run, role: str, plane: int, kind: str) -> None:
	base = free_base()
	with socket.socket(type=socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as busy:
		busy.bind((LOOPBACK, base + plane))
		if kind == "tcp":
			busy.listen()
		headless = ["--headless"] if role == "--host" else []
		done = run(role, *headless, "--bind", LOOPBACK, "--port", str(base))
	assert_one_sentence(done.stderr, str(base + plane))
	assert (done.returncode, done.stdout) == (1, "")


def test_an_address_where_nothing_listens(run: Run) -> None:
	done = run("--join", f"{LOOPBACK}:{free_base()}", "--headless", timeout=12)
	assert_one_sentence(done.stderr, LOOPBACK)
	assert done.returncode == 1
	assert denied_codes(done.stdout) == ["no_meeting"]


@pytest.mark.parametrize("chosen", ["", "fr"])
def test_a_refusal_is_in_the_users_language(run: Run, tmp_path: Path, chosen: str) -> None:
	connectsphere.Settings(tmp_path / "home").set("language", chosen)
	done = run("--join", f"{LOOPBACK}:1", "--headless", LC_ALL="es_ES.UTF-8")
	denied = json.loads(done.stdout)
	assert denied["code"] == "no_meeting" and denied["address"] == f"{LOOPBACK}:1"
	words = "No meeting answers at {address} ({fault})."
	own = connectsphere.tr.table[words][chosen or "es"]
	assert denied["reason"] == own.format(address=f"{LOOPBACK}:1", fault=denied["fault"])
	assert_one_sentence(done.stderr, denied["reason"])


def test_a_name_that_nobody_has(run: Run) -> None:
	done = run("--join", "no-such-host.invalid", "--headless", timeout=12)
	assert_one_sentence(done.stderr, "no-such-host.invalid")
	assert done.returncode == 1
	assert denied_codes(done.stdout) == ["no_meeting"]


def test_an_address_that_accepts_and_never_answers(run: Run) -> None:
	with socket.create_server((LOOPBACK, 0)) as silent:
		done = run("--join", f"{LOOPBACK}:{silent.getsockname()[1]}", "--headless", timeout=12)
	assert_one_sentence(done.stderr, LOOPBACK)
	assert done.returncode == 1
	assert denied_codes(done.stdout) == ["no_meeting"]


def test_nothing_to_join(run: Run) -> None:
	done = run("--headless", "--bind", ALONE, "--port", str(free_base()), timeout=14)
	assert_one_sentence(done.stderr)
	assert done.returncode == 1
	assert denied_codes(done.stdout) == ["no_meeting"]


def test_leaving_while_it_looks_for_a_meeting(tmp_path: Path) -> None:
	"""SIGTERM means leave, also before there is a meeting."""
	log = tmp_path / "log"
	command = [*PROGRAM, "--headless", "--bind", ALONE, "--port", str(free_base()), "--log", str(log)]
	with subprocess.Popen(
		command, cwd=ROOT, env=environment(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
	) as process:
		while not log.exists():  # from then on it listens to signals
			assert process.poll() is None
			time.sleep(0.01)
		process.terminate()
		said, _ = process.communicate(timeout=10)
	assert [json.loads(line)["event"] for line in said.splitlines()] == ["left"]
	assert process.returncode == 0


def denied_codes(output: str) -> list[str]:
	"""The codes of the `denied` events; every line must be an event."""
	events = [json.loads(line) for line in output.splitlines()]
	return [event["code"] for event in events if event["event"] == "denied"]


def test_an_empty_list_is_json(run: Run) -> None:
	done = run("--list", "--json", "--bind", ALONE, "--port", str(free_base()))
	assert (json.loads(done.stdout), done.stderr, done.returncode) == ([], "", 0)


def test_a_host_key_that_is_not_there(run: Run) -> None:
	for role in ("--join=127.0.0.1", "--host"):
		done = run(role, "--host-key", "/no/such/file", "--headless")
		assert_one_sentence(done.stderr, "/no/such/file", "No such file or directory.")
		assert (done.returncode, done.stdout, "Errno" in done.stderr) == (1, "", False)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
def test_no_display(run: Run) -> None:
	done = run("--new", DISPLAY="", WAYLAND_DISPLAY="")
	assert_one_sentence(done.stderr)
	assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
	("given", "counts"),
	[("482 913", "482913"), (" sol 26 ", "sol 26"), ("12 apples", "12 apples"), ("٤٨ ٢", "482")],
)
def test_a_pin_is_given_as_it_is_read(given: str, counts: str) -> None:
	options = connectsphere.parse_options(["--join", LOOPBACK, "--pin", given])
	assert connectsphere.client_options(options).pin == counts


def test_all_addresses_are_no_address() -> None:
	assert connectsphere.parse_options(["--serve", "--bind", "0.0.0.0"]).bind is None


def test_what_lies_where_the_user_stands_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
	"""A pupil's exercises may be called like a module of Python's own."""
	for name in ("connectsphere.py", "queue.py", "random.py"):
		(tmp_path / name).write_text("raise SystemExit(9)")
	monkeypatch.chdir(tmp_path)
	child = connectsphere.start_child(["--version"])
	said, _ = child.communicate(timeout=30)
	assert (child.returncode, said.split()[-1]) == (0, connectsphere.VERSION)


@pytest.mark.parametrize("role", ["--list", "--join", "--host"])
def test_a_reader_who_goes_away_is_no_bug(role: str, tmp_path: Path) -> None:
	"""`| head -1` is the usual end of a reader: nothing is said of it, no report is written."""
	port = str(free_base())
	args = {
		"--list": ["--list"],
		"--join": ["--join", f"{LOOPBACK}:{port}", "--headless"],
		"--host": ["--host", "--headless", "--orphan-seconds", "0", "--camera", "none", "--mic", "none"],
	}[role]
	where = ["--bind", ALONE if role == "--list" else LOOPBACK, "--port", port]
	process = subprocess.Popen(
		[*PROGRAM, *args, *where, "--speaker", "none"], cwd=ROOT, env=environment(tmp_path / "home"),
		stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
	)  # fmt: skip
	assert process.stdout and process.stderr and process.stdin
	if role == "--host":
		process.stdout.readline()
	process.stdout.close()
	with process.stdin, process.stderr:
		errors = process.stderr.read().decode()
		assert process.wait(20) in (0, 1)
	assert "bug" not in errors and "Traceback" not in errors and "BrokenPipe" not in errors
	assert not list((tmp_path / "home").glob("**/*report*"))
