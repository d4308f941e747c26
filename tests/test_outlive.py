"""The meeting outlives its host's program: by which rules, how its program finds it again, how it ends."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from headless import PROGRAM, ROOT, Headless, environment, free_base
from meetings import LOOPBACK, SILENT, Starts, join, stats, switch
from pictures import read_picture
from sound import longest_silence
from waiting import wait_until

import connectsphere as cs

NOTICED = 1.0
BACK = 5.0
PATIENCE = 900.0


# -- the rules, without a clock -------------------------------------------------------------------------


class Lesson:
	"""A room whose host's program died at 0 s, looked at twice a second."""

	def __init__(self, *roles: str, patience: float = PATIENCE) -> None:
		self.members: dict[int, cs.Member] = {}
		self.orphan = cs.Orphan(patience, 0.0)
		self.now = 0.0
		self.told: list[tuple[float, int]] = []
		self.over = 0.0
		self.roles(*roles)

	def roles(self, *roles: str) -> None:
		"""These are in now."""
		self.members = {n: cs.Member(n, f"P{n}", role, address=LOOPBACK) for n, role in enumerate(roles)}

	def until(self, end: float) -> None:
		"""Let it be `end`, or the meeting's end."""
		while self.now <= end and not self.over:
			for effect in self.orphan.step(self.members, self.now):
				if isinstance(effect, cs.MeetingOver):
					self.over = self.now
				else:
					assert isinstance(effect, cs.Tell)
					assert effect.to == tuple(self.members)
					self.told.append((self.now, effect.message["seconds"]))
			self.now += 0.5


def test_everyone_is_told_thrice_before_the_end() -> None:
	lesson = Lesson("member", "member")
	lesson.until(2_000)
	assert lesson.told == [(0.0, 900), (600.0, 300), (840.0, 60)]
	assert lesson.over == 900.0


@pytest.mark.parametrize("role", ["host", "co-host"])
def test_who_may_host_keeps_it_going_and_gone_again_it_counts_anew(role: str) -> None:
	lesson = Lesson("member")
	lesson.until(800)
	lesson.roles("member", role)
	lesson.until(5_000)
	assert not lesson.over
	assert lesson.orphan.alone is (role != "host"), "a co-host does not keep the host's program away"
	lesson.roles("member")
	lesson.until(9_000)
	assert lesson.told == [(0.0, 900), (600.0, 300), (5_000.5, 900), (5_600.0, 300), (5_840.0, 60)]
	assert lesson.over == 5_900.0


def test_with_nobody_in_it_ends_after_two_minutes() -> None:
	lesson = Lesson()
	lesson.until(2_000)
	assert lesson.over == cs.EMPTY_SECONDS
	lesson = Lesson("member")
	lesson.until(200)
	lesson.roles()
	lesson.until(300)
	lesson.roles("member")
	lesson.until(400)
	lesson.roles()
	lesson.until(2_000)
	assert lesson.over == 400 + cs.EMPTY_SECONDS


@pytest.mark.parametrize(("patience", "told"), [(45.0, [45]), (200.0, [200, 60]), (300.0, [300, 60])])
def test_a_short_patience_is_told_as_it_is(patience: float, told: list[int]) -> None:
	lesson = Lesson("member", patience=patience)
	lesson.until(2_000)
	assert [seconds for _, seconds in lesson.told] == told
	assert lesson.over == patience


def test_a_demo_and_a_server_alone_leave_no_orphan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
	monkeypatch.setenv("CONNECTSPHERE_HOME", str(tmp_path))
	shown: list[argparse.Namespace] = []
	monkeypatch.setattr(cs, "has_display", lambda: True)
	monkeypatch.setattr(cs, "show_window", lambda options, *_: shown.append(options) or 0)
	options = cs.parse_options(["--demo"])
	assert cs.role_demo(options) == 0 and shown[0].orphan_seconds == 0
	assert cs.server_options(cs.parse_options(["--serve"])).orphan_seconds == 0
	assert cs.server_options(cs.parse_options(["--host"])).orphan_seconds == PATIENCE


# -- what is kept for the program that comes back ---------------------------------------------------------


def test_a_meeting_counts_while_its_server_runs(tmp_path: Path) -> None:
	kept, seen = cs.RunningMeeting(tmp_path), cs.RunningMeeting(tmp_path)
	assert seen.read() == {}
	assert kept.keep({"title": "Maths"})
	assert (seen.read()["title"], seen.read()["pid"]) == ("Maths", os.getpid())
	assert (tmp_path / "running.json").stat().st_mode & 0o777 == 0o600
	assert not seen.keep({"title": "Another"}), "of two at a time the first is kept"
	kept.close()
	assert seen.read() == {}


def test_who_looks_does_not_keep_a_server_from_being_found(lesson: Hosts, tmp_path: Path) -> None:
	"""Whoever looks holds the lock for a moment: if that is when the server begins, it asks once more."""
	home = tmp_path / "teacher"
	home.mkdir(mode=0o700)
	look = cs.lock_file(home / "running.lock")
	assert look
	lesson().wait("joined")
	assert not (home / "running.json").exists()
	look.close()
	wait_until((home / "running.json").exists, 5)


def test_a_full_disk_ends_no_meeting_whose_window_is_gone(
	tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""What was never written was not deleted by `--end`; it is written once there is room."""
	options = cs.ServerOptions(bind=LOOPBACK, base=free_base(), orphan_seconds=900)
	with contextlib.closing(cs.ConferenceServer(options, cs.load_identity(tmp_path))) as server:
		with monkeypatch.context() as full:
			full.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
			server._note_running()
			server._orphan = cs.Orphan(900, cs.monotonic())
			server._on_tick()
			assert not server.over.is_set()
		server._on_tick()
		assert cs.RunningMeeting(tmp_path).read()["alone"] and not server.over.is_set()
		cs.remove_file(tmp_path / "running.json")
		server._on_tick()
		assert server.over.is_set()


def test_two_who_look_at_once_see_no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
	look = cs.lock_file(tmp_path / "running.lock")
	assert look
	monkeypatch.setattr(cs.time, "sleep", lambda _: look.close())
	assert not cs.RunningMeeting(tmp_path).served()


def test_an_end_is_asked_again_of_a_server_that_was_writing(tmp_path: Path) -> None:
	"""It notes that its host has left just when her program ends it: what was deleted is there again."""
	kept, wrote = cs.RunningMeeting(tmp_path), threading.Event()
	kept.keep({"alone": False})

	def serve() -> None:
		wait_until(lambda: not kept.path.exists(), 5)
		kept.keep({"alone": True})
		wrote.set()
		wait_until(lambda: not kept.path.exists(), 5)
		kept.close()

	server = threading.Thread(target=serve)
	server.start()
	cs.RunningMeeting(tmp_path).end()
	server.join()
	assert wrote.is_set() and not kept.path.exists() and not kept.served()


def test_what_somebody_has_open_hinders_no_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
	"""Windows deletes no file that a virus scanner reads: at closing it stays, an end is asked again."""
	kept, unlink, held = cs.RunningMeeting(tmp_path), Path.unlink, [3]
	kept.keep({"alone": True})

	def refuse(path: Path, **options: bool) -> None:
		held[0] -= 1
		if held[0] > 0:
			raise PermissionError(13, "open elsewhere")
		unlink(path, **options)

	monkeypatch.setattr(Path, "unlink", refuse)
	server = threading.Thread(target=lambda: (wait_until(lambda: not kept.path.exists(), 5), kept.close()))
	server.start()
	cs.RunningMeeting(tmp_path).end()
	server.join()
	kept, held[0] = cs.RunningMeeting(tmp_path), 9
	assert kept.keep({"alone": True})
	kept.close()
	assert kept.path.exists() and not kept.served()


@pytest.mark.parametrize("elsewhere", [{}, {"title": "Maths", "port": 9500}])
def test_the_host_comes_back_to_where_her_class_is(
	elsewhere: cs.Json, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
	"""Her own server, alone, gives way to a standby that serves: who came to it then was told `moved`."""
	monkeypatch.setattr(cs, "lesson_elsewhere", lambda _: elsewhere)
	kept = cs.RunningMeeting(tmp_path)
	with contextlib.closing(kept):
		assert kept.keep({"title": "Maths", "port": 9000, "alone": True})
		assert cs.own_meeting(tmp_path, "Maths")["port"] == elsewhere.get("port", 9000)


def test_what_a_killed_server_left_does_not_count(tmp_path: Path) -> None:
	script = "import connectsphere as c, os, pathlib, sys; c.RunningMeeting(pathlib.Path(sys.argv[1]))"
	subprocess.run(
		[sys.executable, "-c", f"{script}.keep({{'title': 'Maths'}}); os._exit(9)", str(tmp_path)],
		cwd=ROOT, check=False,
	)  # fmt: skip
	assert (tmp_path / "running.json").exists()
	assert cs.RunningMeeting(tmp_path).read() == {}


# -- real meetings ----------------------------------------------------------------------------------------

Hosts = Callable[..., Headless]


@pytest.fixture
def lesson(meeting: Starts, tmp_path: Path) -> Iterator[Hosts]:
	"""Starts the program of a teacher who hosts, from one home; what outlives it ends with the test."""
	home, base = tmp_path / "teacher", str(free_base())

	def start(*args: str, seconds: int = 900, **options: Any) -> Headless:
		where = ("--bind", LOOPBACK, "--port", base, "--orphan-seconds", str(seconds))
		return meeting("--host", *where, "--name", "Ms Lee", *SILENT, *args, home=home, **options)

	yield start
	with contextlib.suppress(OSError, ValueError, KeyError):
		os.kill(json.loads((home / "running.json").read_bytes())["pid"], signal.SIGTERM)
	wait_until(lambda: not cs.RunningMeeting(home).served())


def base_of(host: Headless) -> int:
	"""The base port of the meeting that `host` has joined."""
	return int(host.args[host.args.index("--port") + 1])


def kill(host: Headless) -> None:
	"""The end of a program that a task manager ends; its server has seen it."""
	host.process.kill()
	host.process.wait()
	wait_until(lambda: cs.RunningMeeting(host.home).read().get("alone", True))


def program(home: Path, *args: str) -> subprocess.CompletedProcess[str]:
	"""The program with these options, to its end."""
	return subprocess.run(
		[*PROGRAM, *args], cwd=ROOT, env=environment(home), capture_output=True, text=True, timeout=30
	)


def delay() -> float:
	"""By how much this machine, as busy as it is, starts a program later than one that does nothing else."""
	start = time.monotonic()
	program(ROOT, "--version")
	return max(0.0, time.monotonic() - start - 0.5)


def longest_gap(one: Headless, event: str, since: float) -> float:
	"""The longest time between two of these events that `one` got after `since`, by time.time."""
	times = [since, *(seen["time"] for seen in one.seen(event) if seen["time"] > since)]
	return max(after - before for before, after in itertools.pairwise(times))


class Witness:
	"""Someone who records what is heard, and looks at the clock in the newest picture of another."""

	def __init__(self, meeting: Starts, base: int, name: str, pin: str, folder: Path) -> None:
		self.heard, self.shot = folder / f"{name}.wav", folder / f"{name}.png"
		self.one = join(meeting, base, name, "--pin", pin, "--speaker", str(self.heard))
		self.joined = self.one.seen("joined")[0]["time"]
		self.ages: list[float] = []

	def watch(self, name: str) -> None:
		"""Look at that test card from now on; the first picture has come."""
		self.of = name
		self.one.send(do="watch", streams={name: {"layer": 2, "fps": 15}})
		wait_until(lambda: stats(self.one)["video"].get(name, {}).get("width") == 640)
		wait_until(lambda: self.silence(time.time() - 1.0) < 0.5)

	def look(self) -> None:
		ref = f"look {len(self.ages)}"
		self.one.send(do="snapshot", of=self.of, path=str(self.shot), ref=ref)
		came = self.one.wait("snapshot", ref=ref)["time"]
		age = cs.read_clock(read_picture(self.shot), came)
		assert age is not None
		self.ages.append(age)

	def silence(self, since: float) -> float:
		"""Seconds of the longest silence that was recorded since then."""
		return longest_silence(self.heard, since - self.joined, time.time() - self.joined - 0.3)


@pytest.mark.long
def test_a_lesson_goes_on_without_its_host_and_takes_her_back(
	lesson: Hosts, meeting: Starts, tmp_path: Path
) -> None:
	ana = lesson("--title", "Maths", "--pin", "4711")
	first = ana.wait("joined", timeout=40)
	base = base_of(ana)
	ben, cem, dan = (
		join(meeting, base, name, "--pin", "4711", "--mic", "tone") for name in ("Ben", "Cem", "Dan")
	)
	ana.send(do="chat", text="good morning")
	switch(cem, "mic", True)
	dan.send(do="share", on=True, source="pattern")
	ana.wait("screen_start", name="Dan")
	ana.send(do="take_over", ref=1)
	dan.wait("screen_stop", name="Dan")
	ana.send(do="permit", what="share", on=True, who="Ben", ref=2)  # else the screen is hers for 10 s
	ana.wait("ok", ref=2)
	ben.send(do="share", on=True, source="pattern")
	dan.wait("screen_start", name="Ben")
	offered = tmp_path / "work.bin"
	offered.write_bytes(os.urandom(64 << 20))
	cem.send(do="upload", path=str(offered))
	dan.wait("file_offer", name="work.bin")
	before, died = stats(dan), time.time()
	kill(ana)
	for n in range(20):
		ben.send(do="chat", text=f"still here {n}")
		dan.send(do="stats")
		time.sleep(0.1)
	dan.wait("chat", text="still here 19")
	cem.wait("uploaded", 30)
	assert [event["seconds"] for event in ben.seen("host_away")] == [900]
	assert longest_gap(dan, "chat", died) < NOTICED + delay()
	assert longest_gap(dan, "stats", died) < NOTICED + delay()
	after = stats(dan)
	assert after["screen"]["updates"] > before["screen"]["updates"]
	assert after["audio"]["received"] - before["audio"]["received"] > 0.9 * (time.time() - died - 1) / 0.016
	start = time.time()
	again = lesson("--title", "Maths", "--pin", "4711", program=PROGRAM)
	back = again.wait("joined", timeout=40)
	print(f"the host was back {back['time'] - start:.1f} s after the start of her program")
	assert back["time"] - start < BACK + 2 * delay()  # numpy, then OpenCV
	assert [back[key] for key in ("name", "meeting", "role")] == ["Ms Lee", first["meeting"], "host"]
	assert again.wait("chat", text="good morning")["history"]
	again.wait("file_offer", name="work.bin")
	assert {one["name"]: one["role"] for one in again.wait("users")["users"]} == {
		"Ms Lee": "host", "Ben": "member", "Cem": "member", "Dan": "member",
	}  # fmt: skip
	ben.send(do="share", on=False)
	again.wait("screen_stop", name="Ben")
	dan.send(do="share", on=True, source="pattern", ref=9)
	assert dan.wait("error", ref=9)["code"] == "not_allowed", "what she had taken away stays taken"
	for one in (ben, cem, dan):
		assert not [event for event in one.events if event["event"] in ("reconnecting", "ended")]
	again.hang_up()
	for one in (again, ben, cem, dan):
		assert one.wait("ended")["reason"] == "The host ended the meeting."
	assert again.process.wait(10) == 0
	assert not (again.home / "running.json").exists()


def test_another_lesson_has_to_wait_for_the_end_of_the_first(lesson: Hosts, meeting: Starts) -> None:
	ana = lesson("--title", "Maths", "--pin", "4711")
	ana.wait("joined", timeout=40)
	assert program(ana.home, "--end").stderr.count("open on this computer") == 1
	ben = join(meeting, base_of(ana), "Ben", "--pin", "4711")
	kill(ana)
	ben.wait("host_away")
	for other in (("--title", "Physics"), ("--title", "Maths", "--pin", "0815")):
		refused = lesson(*other)
		assert refused.wait("denied", 20)["code"] == "meeting_running"
		assert refused.process.wait(10) == 1
	back = lesson()  # neither is asked for
	back.wait("joined", timeout=40)
	wait_until(lambda: not cs.RunningMeeting(ana.home).read()["alone"])
	kill(back)
	ben.wait("host_away", seconds=900)
	done = program(ana.home, "--end")
	assert (done.returncode, done.stdout, done.stderr) == (0, "“Maths” has ended.\n", "")
	assert ben.wait("ended")["reason"] == "The host ended the meeting."
	done = program(ana.home, "--end")
	assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_the_meeting_of_another_account_is_named_and_left_alone(
	lesson: Hosts, meeting: Starts, tmp_path: Path
) -> None:
	ana = lesson("--title", "Maths")
	ana.wait("joined", timeout=40)
	where = ("--bind", LOOPBACK, "--port", str(base_of(ana)))
	for role in (("--end",), ("--host", "--headless", "--name", "Mr Fox", *SILENT)):
		done = program(tmp_path / "other", *role, *where)
		assert (done.returncode, done.stderr.count("\n")) == (1, 1)
		assert "“Maths · Ms Lee” is still running." in done.stderr
	ana.send(do="users", ref=1)
	ana.wait("users", ref=1)


def test_an_end_that_is_spoken_is_an_end(lesson: Hosts, meeting: Starts) -> None:
	for number in (signal.SIGTERM, signal.SIGINT):
		ana = lesson()
		ana.wait("joined", timeout=40)
		ben = join(meeting, base_of(ana), "Ben")
		ana.process.send_signal(number)
		ben.wait("ended")
		assert ana.process.wait(10) == 0
		assert not (ana.home / "running.json").exists()


def test_the_server_ends_when_it_is_terminated(lesson: Hosts, meeting: Starts) -> None:
	ana = lesson()
	ana.wait("joined", timeout=40)
	ben = join(meeting, base_of(ana), "Ben")
	kill(ana)
	ben.wait("host_away")
	os.kill(cs.RunningMeeting(ana.home).read()["pid"], signal.SIGTERM)
	ben.wait("ended")


@pytest.mark.parametrize(("seconds", "reason"), [(0, "The host ended"), (1, "The host did not come back")])
def test_patience(lesson: Hosts, meeting: Starts, seconds: int, reason: str) -> None:
	ana = lesson(seconds=seconds)
	ana.wait("joined", timeout=40)
	ben = join(meeting, base_of(ana), "Ben")
	kill(ana)
	assert ben.wait("ended")["reason"].startswith(reason)


def test_a_closed_terminal_takes_nothing_along(tmp_path: Path, lesson: Hosts, meeting: Starts) -> None:
	"""The terminal's group is ended by SIGHUP, and its end of what the program writes is closed."""
	home = tmp_path / "teacher"
	where = ("--bind", LOOPBACK, "--port", str(base := free_base()), "--orphan-seconds", "900")
	ana = subprocess.Popen(
		[*PROGRAM, "--host", *where, "--name", "Ms Lee", *SILENT, "--headless"],
		cwd=ROOT, env=environment(home), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
		stderr=subprocess.PIPE, start_new_session=True,
		preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # nohup would have it ignored
	)  # fmt: skip
	assert ana.stdin
	assert ana.stdout
	assert ana.stderr
	with ana.stdin, ana.stdout, ana.stderr:
		assert b"serving" in ana.stdout.readline()
		ben = join(meeting, base, "Ben", "--mic", "tone")
		os.killpg(ana.pid, signal.SIGHUP)
		ana.wait(10)
		ana.stderr.read()  # whoever reads what it said comes to an end, though the server and its mixer run
	ben.wait("host_away")
	switch(ben, "mic", True)
	ben.send(do="chat", text="on we go")
	ben.wait("chat", text="on we go")
	os.kill(cs.RunningMeeting(home).read()["pid"], signal.SIGINT)  # as SIGTERM does
	ben.wait("ended")


# -- with a window ------------------------------------------------------------------------------------------


def goes_on(meeting: Starts, base: int, ben: Headless, window: subprocess.Popen[bytes], folder: Path) -> None:
	"""The host's window is killed, a file is on its way and a pupil shares: none of the four has a gap."""
	dan = join(meeting, base, "Dan", "--pin", "4711", "--camera", "pattern")
	cem, eva = (Witness(meeting, base, name, "4711", folder) for name in ("Cem", "Eva"))
	switch(ben, "mic", True)
	switch(dan, "camera", True)
	ben.send(do="share", on=True, source="pattern")
	for one in (cem, eva):
		one.watch("Dan")
		one.one.wait("screen_start", name="Ben")
	work = folder / "work.bin"
	with work.open("wb") as file:
		file.truncate(100 << 20)
	dan.send(do="upload", path=str(work))
	dan.wait("file_progress", 60)
	before, died = stats(eva.one)["screen"]["updates"], time.time()
	window.kill()
	window.wait()
	assert not dan.seen("uploaded"), "the file is on its way"
	ben.wait("host_away")
	while time.time() < died + 3:
		for one in (cem, eva):
			one.look()
	for one in (cem, eva):
		print(f"silence {one.silence(died):.2f} s, newest picture {max(one.ages):.2f} s old")
		assert one.silence(died) < NOTICED + delay()
		assert max(one.ages) < NOTICED + delay()
	dan.wait("uploaded", 60)
	assert stats(eva.one)["screen"]["updates"] > before


@pytest.mark.skipif(not shutil.which("xdotool"), reason="needs Xvfb and xdotool")
@pytest.mark.alone
@pytest.mark.parametrize("again", ["--host", "plain"])
def test_a_killed_window_comes_back_to_its_lesson(
	again: str, display: str, tmp_path: Path, lesson: Hosts, meeting: Starts
) -> None:
	"""Hosting the same again goes back at once; a plain start asks, and Return means yes."""
	home, base = tmp_path / "teacher", free_base()
	env = {**environment(home), "DISPLAY": display}
	where = ("--bind", LOOPBACK, "--port", str(base), "--name", "Ms Lee", *SILENT)

	def start(*args: str) -> subprocess.Popen[bytes]:
		return subprocess.Popen([*PROGRAM, *args, *where], cwd=ROOT, env=env)

	window = start("--host", "--title", "Maths", "--pin", "4711")
	try:
		wait_until(lambda: cs.RunningMeeting(home).read(), 40)
		ben = join(meeting, base, "Ben", "--pin", "4711", "--mic", "tone")
		wait_until(lambda: ben.seen("users", users=lambda all: "Ms Lee" in [one["name"] for one in all]), 40)
		if again == "--host":
			goes_on(meeting, base, ben, window, tmp_path)
		else:
			window.kill()
			window.wait()
			ben.wait("host_away")
		begun = time.time()
		window = start("--host", "--title", "Maths", "--pin", "4711") if again == "--host" else start()

		def back() -> bool:
			if again == "plain":  # who presses too early presses again; the focus, for want of a manager
				find = ["xdotool", "search", "--onlyvisible", "--class", "connectsphere", "windowfocus"]
				subprocess.run(find, env=env, check=False)
				subprocess.run(["xdotool", "key", "Return"], env=env, check=True)
				time.sleep(0.2)  # two programs each time, which keep the window's from starting
			return bool(ben.seen("join", name="Ms Lee", time=lambda at: at > begun))

		wait_until(back, 40)
		took = ben.seen("join", name="Ms Lee")[-1]["time"] - begun
		print(f"the host was back {took:.1f} s after the start of her window")
		assert took < BACK + 2 * delay()
		window.terminate()
		assert window.wait(20) == 0
		ben.wait("ended")
	finally:
		window.kill()
		window.wait()
