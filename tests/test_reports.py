"""Logs and crash reports: one line a fact, what was dropped is counted, and no secret in any of it."""

from __future__ import annotations

import logging
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from headless import ROOT, Headless, environment
from meetings import LOOPBACK, SILENT, host, join, serve, stats, switch
from starter import ran

import connectsphere as cs

SECRET = "271828-a-secret"


def record(text: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
	told = (type(error), error, error.__traceback__) if error else None
	return logging.LogRecord("connectsphere", logging.ERROR, "", 0, text, arguments, told)


def raised(error: Exception, cause: Exception | None = None) -> Exception:
	"""`error` as it is caught, from a function whose local variable is a secret."""
	pin = SECRET
	try:
		assert pin
		raise error from cause
	except (ValueError, KeyError) as caught:
		return caught


# -- the log -------------------------------------------------------------------------------------------


def test_a_fact_is_one_line_whatever_peers_put_into_it() -> None:
	line = cs.OneLine().format(record("dropped from %s", "Eve\n2026 INFO forged\x1b[31m\u202e\r"))
	assert "\n" not in line and "\x1b" not in line and "\u202e" not in line and "\r" not in line
	assert "Eve\\n2026 INFO forged\\u001b[31m" in line


def test_an_exception_is_one_line_without_its_words() -> None:
	error = raised(ValueError(SECRET))
	line = cs.OneLine().format(record("it failed", error=error))
	assert "\n" not in line and SECRET not in line
	assert "Traceback: ValueError in raised:" in line


def test_a_log_rotates(tmp_path: Path) -> None:
	path = tmp_path / "log.txt"
	code = (
		"import connectsphere as cs, sys\n"
		"cs.set_up_logging(cs.parse_options(['--list', '--log', sys.argv[1]]))\n"
		"for n in range(6_000): cs.log.info('a fact about %d and what came of it' + 600 * '.', n)\n"
	)
	run_code(code, tmp_path, str(path))
	sizes = {one.name: one.stat().st_size for one in tmp_path.glob("log.txt*")}
	assert set(sizes) == {"log.txt", "log.txt.1", "log.txt.2"}
	assert max(sizes.values()) <= 1 << 20


def run_code(code: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
	return ran([sys.executable, "-c", code, *arguments], cwd=ROOT, env=environment(home), timeout=60)


def test_the_logs_of_a_meeting_tell_facts_and_no_secrets(
	meeting: Callable[..., Headless], tmp_path: Path
) -> None:
	log = tmp_path / "logs" / "host.txt"
	log.parent.mkdir()
	ana, base = host(meeting, "--mic", "tone", "--pin", "314159", "--log", str(log))
	ben = join(meeting, base, "Ben", "--pin", "314159", "--log", str(log.parent / "ben.txt"))
	switch(ana, "mic", True)
	ben.send(do="chat", text=SECRET)
	ana.wait("chat", text=SECRET)
	ben.send(do="private", to="Ana", text=f"private {SECRET}")
	ana.wait("private")
	counters = stats(ben)["counters"]
	assert all(isinstance(count, int) for count in counters.values())
	tokens = [path.read_text() for path in ben.home.glob("resume/*.json")]
	ben.hang_up()
	ben.wait("left")
	ana.hang_up()
	ana.wait("ended")
	for one in (ana, ben):
		one.process.wait(8)
	told = {path.name: path.read_text() for path in log.parent.iterdir()}
	assert {"host.txt", "host.txt.server", "host.txt.mixer", "ben.txt"} == set(told)
	assert "Ben (2, member) has joined from 127.0.0.1" in told["host.txt.server"]
	assert "member 2 is out: left" in told["host.txt.server"]
	assert "dropped and counted" in told["host.txt.server"]
	assert "the mixer at the end" in told["host.txt.server"]
	assert "joined: " in told["ben.txt"] and "left: " in told["ben.txt"]
	secrets = {SECRET, "314159", *(piece for text in tokens for piece in text.split('"') if len(piece) == 64)}
	everything = "".join(told.values())
	fingerprint = ana.seen("serving")[0]["fingerprint"]
	for secret in secrets - {fingerprint}:
		assert secret not in everything
	assert len(everything.splitlines()) < 40, "no flood"


def test_a_peer_cannot_flood_the_log(meeting: Callable[..., Headless], tmp_path: Path) -> None:
	log = tmp_path / "server.txt"
	server, base = serve(meeting, "--log", str(log))
	context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
	context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
	for _ in range(30):
		with socket.create_connection((LOOPBACK, base)) as plain, context.wrap_socket(plain) as link:
			link.sendall(b'{"type":"hello","v":"\x1b[31mnonsense"}\n')
			while link.recv(4_096):
				pass
	server.process.terminate()
	server.process.wait(8)
	lines = log.read_text().splitlines()
	assert len([line for line in lines if "dropped from" in line]) == 1
	assert any(": 30" in line for line in lines[-2:])
	assert "\x1b" not in log.read_text()


# -- reports -------------------------------------------------------------------------------------------


@pytest.fixture
def said() -> list[str]:
	return []


@pytest.fixture
def handler(tmp_path: Path, said: list[str]) -> cs.ReportHandler:
	return cs.ReportHandler(lambda: tmp_path / "reports", said.append)


def reports(home: Path) -> list[Path]:
	return sorted((home / "reports").glob("*"))


def test_a_report_says_what_and_where_but_no_values(
	handler: cs.ReportHandler, tmp_path: Path, said: list[str]
) -> None:
	cause = raised(KeyError(SECRET))
	error = raised(ValueError(f"the PIN {SECRET}"), cause)
	handler.emit(record("the thread %s ended by a bug", SECRET, error=error))
	(path,) = reports(tmp_path)
	text = path.read_text()
	assert SECRET not in text and "PIN" not in text
	for needed in (cs.VERSION, "ValueError", "KeyError", "test_reports.py, line", "in raised", "Python 3"):
		assert needed in text
	assert stat.S_IMODE(path.stat().st_mode) == 0o600
	assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
	assert len(said) == 1 and str(path) in said[0] and "\n" not in said[0]


def test_what_is_no_exception_makes_no_report(
	handler: cs.ReportHandler, tmp_path: Path, said: list[str]
) -> None:
	handler.emit(record("the disk is full"))
	assert not reports(tmp_path) and not said


def test_reports_are_few(handler: cs.ReportHandler, tmp_path: Path, said: list[str]) -> None:
	(tmp_path / "reports").mkdir()
	for n in range(30):
		(tmp_path / "reports" / f"report-2020{n:04}.txt").write_text("old")
	for _ in range(50):
		handler.emit(record("again", error=raised(ValueError())))
	assert len(said) == handler.MOST_A_RUN
	assert len(reports(tmp_path)) == handler.MOST_KEPT
	assert reports(tmp_path)[-1].read_text() != "old"


def test_a_report_that_cannot_be_written_does_no_harm(tmp_path: Path, said: list[str]) -> None:
	(tmp_path / "file").write_text("")
	cs.ReportHandler(lambda: tmp_path / "file", said.append).emit(record("x", error=raised(ValueError())))
	assert not said


CRASHES = {
	"main": "crash('x')",
	"thread": "in_thread(threading.Thread(target=crash, args=('x',)))",
	"worker": "in_thread(cs.Worker('w', crash)._thread)",
}
PREFACE = f"""
import sys, threading
import connectsphere as cs

def crash(told):
    pin = "{SECRET}"
    raise ValueError(f"a bug with {{pin}}")

def in_thread(thread):
    thread.start()
    thread.join()
    return 0
"""


@pytest.mark.parametrize("kind", CRASHES)
def test_a_crash_leaves_a_report_and_one_sentence(kind: str, tmp_path: Path) -> None:
	role = f"cs.ROLES = {{**cs.ROLES, 'list': lambda options: {CRASHES[kind]}}}"
	code = f"{PREFACE}\n{role}\nsys.argv[1:] = ['--list']\nsys.exit(cs.main())"
	done = run_code(code, tmp_path)
	(path,) = reports(tmp_path)
	assert SECRET not in path.read_text() and "ValueError" in path.read_text()
	assert "in crash" in path.read_text()
	assert SECRET not in done.stderr
	lines = done.stderr.splitlines()
	assert len(lines) == 2, done.stderr
	assert str(path) in lines[1]
	assert done.returncode == (1 if kind == "main" else 0)


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Callable[[int], Headless]]:
	"""Someone whose program has a bug: reactions raise."""
	made: list[Headless] = []

	def start(base: int) -> Headless:
		code = (
			f"{PREFACE}\nbroken = ('reaction', False, {{'emoji': lambda _, command: crash(command)}})\n"
			"cs.PLAIN_COMMANDS['react'] = broken\n"
			"sys.exit(cs.main())"
		)
		arguments = ("--join", f"{LOOPBACK}:{base}", "--name", "Ben", *SILENT)
		made.append(Headless(arguments, tmp_path / "broken", program=(sys.executable, "-c", code)))
		made[-1].wait("joined", timeout=20)
		return made[-1]

	yield start
	for one in made:
		one.close()


def test_a_bug_of_one_leaves_the_meeting_going_for_all(
	meeting: Callable[..., Headless], broken: Callable[[int], Headless]
) -> None:
	ana, base = host(meeting)
	ben = broken(base)
	ben.send(do="react", emoji="👍")
	ben.send(do="chat", text="still here")
	ana.wait("chat", text="still here")
	assert stats(ben)["counters"]["bugs"] == 1
	(path,) = reports(ben.home)
	assert SECRET not in path.read_text() and "still here" not in path.read_text()
	assert str(path) in ben.errors()
