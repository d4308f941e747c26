"""The tests' own tools: leaks are seen, and the headless driver waits for the right event."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from headless import PROGRAM, ROOT, Headless, free_base
from lan import Lan
from leaks import Watch, children
from meetings import LOOPBACK, host, join, serve
from processes import child_in_role
from starter import popen
from waiting import best_of, wait_until
from workers import PLACES, QUEUE, ROOMS, Turns

import connectsphere as cs

ECHO = """
import json, sys, time
def say(event, **fields): print(json.dumps({"event": event, "time": time.time(), **fields}), flush=True)
say("joined", id=7, home=__import__("os").environ["CONNECTSPHERE_HOME"])
for line in sys.stdin:
    say("echo", command=json.loads(line))
print("bye", file=sys.stderr)
say("left", reason="end of input")
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("{}", flush=True)
time.sleep(60)
"""


@pytest.fixture
def echo(meeting: Callable[..., Headless]) -> Headless:
	return meeting("--name", "Ana", program=(sys.executable, "-c", ECHO))


def test_events_are_waited_for_and_returned_once(echo: Headless) -> None:
	assert echo.wait("joined", id=7)["home"] == str(echo.home)
	echo.send({"do": "chat", "text": "é"})
	echo.send(do="users")
	assert echo.wait("echo", command=lambda c: c["do"] == "users")["command"] == {"do": "users"}
	assert echo.wait("echo")["command"] == {"do": "chat", "text": "é"}
	with pytest.raises(AssertionError, match=r"not within 0\.05 s"):
		echo.wait("echo", timeout=0.05)
	assert len(echo.seen("echo")) == 2


def test_an_end_without_the_event_says_so_at_once(echo: Headless) -> None:
	echo.hang_up()
	started = time.monotonic()
	with pytest.raises(AssertionError, match=r"(?s)no nothing.*\"left\".*bye"):
		echo.wait("nothing", timeout=30)
	assert time.monotonic() - started < 5
	assert echo.close() == 0
	assert echo.close() == 0


def test_who_does_not_leave_is_killed(tmp_path: Path) -> None:
	one = Headless([], tmp_path, program=(sys.executable, "-c", STUBBORN))
	assert one.close(timeout=0.3) < 0
	assert one.garbage == ["{}\n"]


def targets(folder: Path) -> Iterator[str]:
	"""What the links in a folder of /proc lead to; some go meanwhile."""
	for path in folder.iterdir():
		with contextlib.suppress(FileNotFoundError):
			yield os.readlink(path)


def seen_from_outside(pid: int) -> dict[str, object]:
	"""What tells a process from another: its parent, folder, network, signals, threads and descriptors."""
	here = Path(f"/proc/{pid}")
	status = dict(line.split(":\t", 1) for line in (here / "status").read_text().splitlines())
	links = [os.readlink(f"{here}/{name}") for name in ("cwd", "ns/net", "exe")]
	opened = sorted(re.sub(r"\d+", "", target) for target in targets(here / "fd"))
	words = ("TracerPid", "Threads", "SigBlk", "SigIgn", "SigCgt", "Groups")
	own = [name for name in ("PPid", "NSpgid", "NSsid") if int(status[name]) == os.getpid()]
	return {"links": links, "open": opened, "own": own, **{word: status[word] for word in words}}


def mixer_of(pid: int) -> int:
	"""It begins a moment after its server serves."""
	found: list[int] = []

	def begun() -> bool:
		with contextlib.suppress(AssertionError):
			found.append(child_in_role(pid, "--mixer"))
		return bool(found)

	wait_until(begun)
	return found[0]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("apart", [False, True], ids=["here", "on a host of its own"])
def test_a_fork_of_the_program_is_as_a_start_of_it(
	meeting: Callable[..., Headless], apart: bool, request: pytest.FixtureRequest
) -> None:
	netns = request.getfixturevalue("lan")(1).namespace(1) if apart else None
	started, forked = (serve(meeting, program=way, netns=netns)[0] for way in (PROGRAM, ()))
	hosts = [one.process.pid for one in (started, forked)]
	pids = [pid for host in hosts for pid in (host, mixer_of(host))]
	ways = [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids]
	assert ["starter.py" in words for words in ways] == [False, False, True, True]
	outside: list[dict[str, object]] = []

	def alike() -> bool:
		time.sleep(0.02)  # one that has just begun opens something for a moment
		outside[:] = map(seen_from_outside, pids)
		outside[2]["open"].remove("socket:[]")  # type: ignore[attr-defined]  # to what becomes its mixer
		return outside[:2] == outside[2:]

	best_of(100, alike)
	assert outside[:2] == outside[2:]
	for one in (started, forked):
		if not apart:
			join(meeting, one.seen("serving")[0]["port"], "Ben", at=LOOPBACK)
		one.process.terminate()
		assert one.process.wait(10) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_all_of_a_hosted_meeting_are_forks(meeting: Callable[..., Headless]) -> None:
	ana, _ = host(meeting)
	server = child_in_role(ana.process.pid, "--serve-child")
	for pid in (ana.process.pid, server, mixer_of(server)):
		assert "starter.py" in Path(f"/proc/{pid}/cmdline").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is a fork")
def test_forks_may_have_pipes_wherever_the_tests_write(tmp_path: Path) -> None:
	"""As to a file, in which Python seeks where a stream is set up anew."""
	ask = [sys.executable, "-c", "import sys; sys.stderr.reconfigure(errors='replace'); print('done')"]
	code = f"import starter; starter.STARTERS.append(starter.Apart()); print(starter.ran({ask}, timeout=9))"
	with (tmp_path / "log").open("wb") as log:
		command = [sys.executable, "-c", f"{code}; starter.STARTERS.pop().close()"]
		subprocess.run(command, cwd=ROOT / "tests", stdout=log, stderr=log, check=True)
	assert "returncode=0, stdout='done\\n', stderr=''" in (tmp_path / "log").read_text()


ENDING = """
import atexit, sys, threading, time
class Kept:
	def __del__(self): print("taken apart")
kept = [Kept()]
kept.append(kept)
atexit.register(lambda: print("at exit"))
threading.Thread(target=lambda: (time.sleep(0.2), print("a thread to its end"))).start()
print("said")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is a fork")
@pytest.mark.parametrize("last", ["", "sys.exit()", "sys.exit(3)", "sys.exit('why')", "1 / 0"])
def test_a_fork_ends_as_python_does(last: str) -> None:
	"""Only what is still there is not taken apart, where the end is in order."""
	command = [sys.executable, "-c", ENDING + last]
	pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
	said = []
	for start in (subprocess.Popen, popen):
		with start(command, **pipes) as process:
			told, complained = process.communicate(timeout=20)
		said.append((process.returncode, told.replace("taken apart\n", ""), complained.splitlines()[-1:]))
	assert said[0] == said[1] and said[0][1].split("\n")[1:3] == ["a thread to its end", "at exit"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_who_wants_another_python_gets_one(meeting: Callable[..., Headless]) -> None:
	"""What is read while Python starts and imports cannot be changed afterwards."""
	one, _ = serve(meeting, env={"PYTHONHASHSEED": "7"})
	assert "starter.py" not in Path(f"/proc/{one.process.pid}/cmdline").read_text()


def test_a_leaked_thread_is_named_and_its_end_awaited() -> None:
	watch, go = Watch(), threading.Event()
	thread = threading.Thread(target=go.wait, name="forgotten")
	thread.start()
	assert watch.settle(0.05) == ["thread forgotten"]
	threading.Timer(0.1, go.set).start()
	assert watch.settle() == []


def test_a_leaked_descriptor_is_named() -> None:
	watch = Watch()
	with socket.socket() as left:
		assert [
			leak.startswith(f"file descriptor {left.fileno()}: socket") for leak in watch.settle(0.05)
		] == [True]
	assert watch.settle() == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_leaked_child_is_named_and_killed() -> None:
	watch = Watch()
	with subprocess.Popen(["sleep", "60"]) as child:
		while not children().get(child.pid):  # its words stand a moment after Popen returns
			time.sleep(0.001)
		assert watch.settle(0.05) == [f"process {child.pid}: sleep 60"]
		assert child.wait(2) == -9
	assert watch.settle() == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_grandchild_that_outlives_its_parent_is_seen() -> None:
	watch = Watch()
	orphan = int(
		subprocess.run(["sh", "-c", "sleep 60 >&- 2>&- & echo $!"], capture_output=True, check=True).stdout
	)
	assert watch.settle(0.05) == [f"process {orphan}: sleep 60"]
	assert os.waitpid(orphan, 0)[1] == 9


def test_an_error_in_a_tk_callback_is_collected(display: str, tk_errors: list[BaseException]) -> None:
	tkinter = pytest.importorskip("tkinter")
	root = tkinter.Tk()
	root.after_idle(lambda: 1 / 0)
	root.after_idle(root.quit)
	root.mainloop()
	root.destroy()
	assert [type(error) for error in tk_errors] == [ZeroDivisionError]
	tk_errors.clear()


ASK = """
import socket, sys
with socket.socket(type=socket.SOCK_DGRAM) as s:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    s.sendto(sys.argv[1].encode(), ("10.77.0.255", 9000))
"""
LISTEN = """
import json, os, socket, sys, threading, time
def say(event, **fields): print(json.dumps({"event": event, "time": time.time(), **fields}), flush=True)
def leave(): sys.stdin.read(); os._exit(0)
threading.Thread(target=leave, daemon=True).start()
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind(("", 9000))
say("serving")
while True:
    word, address = s.recvfrom(99)
    say("asked", by=address[0], word=word.decode())
"""


def test_hosts_of_a_lan_hear_broadcasts_without_a_route(
	lan: Callable[[int], Lan], meeting: Callable[..., Headless]
) -> None:
	hosts = lan(2)
	listener = meeting(netns=hosts.namespace(1), program=(sys.executable, "-c", LISTEN))
	listener.wait("serving")
	assert hosts.run(2, "ip", "route", "show", "default").stdout == ""
	hosts.run(2, sys.executable, "-c", ASK, "open")
	assert listener.wait("asked")["by"] == hosts.address(2)
	hosts.loss(1, 100)
	hosts.run(2, sys.executable, "-c", ASK, "lost")
	hosts.loss(1, 0)
	hosts.run(2, sys.executable, "-c", ASK, "mended")
	assert listener.wait("asked")["word"] == "mended"


def test_a_free_base_has_five_free_ports() -> None:
	base = free_base()
	with socket.socket() as control, socket.socket(type=socket.SOCK_DGRAM) as audio:
		control.bind(("127.0.0.1", base))
		audio.bind(("127.0.0.1", base + 2_000))


def test_no_fixture_of_a_whole_run_changes_the_environment() -> None:
	"""DISPLAY was so: two screens in one run, and whose tests came later looked at the other's."""
	found = []
	for path in sorted(Path(__file__).parent.glob("*.py")):
		text = path.read_text("utf-8")
		for node in ast.walk(ast.parse(text)) if "scope=" in text else ():
			if isinstance(node, ast.FunctionDef) and re.search(
				r"scope='(?!function)", " ".join(map(ast.unparse, node.decorator_list))
			):
				lasts = re.search(r"\.setenv\(|environ\[[^]]*\] = |environ\.update", ast.unparse(node))
				found += [f"{path.name}: {node.name}"] * bool(lasts)
	assert found == []


@pytest.mark.skipif(sys.platform == "win32", reason="workers lock nothing there")
def test_workers_end_one_kind_of_tests_before_the_next_begins(tmp_path: Path) -> None:
	"""One that comes to a calm test early waits for all others', and nobody for it."""
	for name in ("workers", QUEUE, *ROOMS, *PLACES):
		(tmp_path / f"{name}.py").touch()
	now: list[str] = []
	beside: list[tuple[str, ...]] = []

	def work(tests: str) -> None:
		turns = Turns(tmp_path)
		for kind in tests.split():
			with turns.turn(kind):
				now.append(kind)
				beside.append(tuple(sorted(now)))
				time.sleep(0.1)
				now.remove(kind)
			time.sleep(0.05)

	lists = [
		"calm alone",
		"other other calm calm",
		"other other other other calm",
		*["other calm"] * 3,
		"alone",
	]
	workers = [threading.Thread(target=work, args=(tests,)) for tests in lists]
	for worker in workers:
		worker.start()
	for worker in workers:
		worker.join()
	assert all(len(set(kinds)) == 1 for kinds in beside), "of one kind only"
	kinds = [kinds[0] for kinds in beside]
	assert kinds == [*["other"] * 9, *["calm"] * 7, *["alone"] * 2]
	assert 2 <= max(map(len, beside[9:16])) <= len(PLACES), "so many calm ones at once"
	assert max(map(len, beside[16:])) == 1


@pytest.mark.xdist_group("language")
def test_the_scheduler_sees_the_group_of_a_test(request: pytest.FixtureRequest) -> None:
	"""By its id; else each worker opens the meeting that a group shares."""
	grouped = getattr(request.config.option, "loadgroup", False)
	assert request.node.nodeid.endswith("@language") == grouped


@pytest.mark.xdist_group("language")
@pytest.mark.parametrize("turned", ["fr", "es"])
def test_each_test_begins_in_english(turned: str) -> None:
	"""Whatever the one before it has turned, as a window and a command do."""
	assert cs.tr.language == "en"
	cs.tr.language = turned
