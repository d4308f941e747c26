"""The program behind the window, without one: what outlives a meeting, and whose host one is."""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import sys
import time
import types
import unittest.mock
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from false_hosts import FalseHost
from headless import PROGRAM, Headless, free_base
from meetings import host, join, serve, stats, switch
from processes import child_in_role, told
from waiting import wait_until

import connectsphere as cs

HERE = "127.0.0.1"
until = partial(wait_until, seconds=15.0)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[cs.Program]:
	"""The program of Ana, who hosts at this machine's loopback."""
	home = tmp_path / "ana"
	home.mkdir()
	monkeypatch.setenv("CONNECTSPHERE_HOME", str(home))
	base = free_base()
	options = cs.ClientOptions(
		name="Ana", port=base, bind=HERE, camera="pattern", mic="tone", speaker="none",
		given={"name", "camera", "mic", "speaker"},
	)  # fmt: skip
	server = cs.asdict(cs.ServerOptions(host_name="Ana", base=base, bind=HERE))
	with contextlib.closing(cs.Program(options, server, home, look=False)) as made:
		yield made


def heard(controller: cs.MeetingController, event: str, **match: Any) -> cs.Json:
	"""The next such event."""
	while True:
		told: cs.Json = controller.gui_queue.get(timeout=15)
		if told["event"] == event and all(told[key] == value for key, value in match.items()):
			return told


def leave(controller: cs.MeetingController) -> None:
	controller.do({"do": "leave"})
	heard(controller, "left")
	controller.close()


def heard_of(program: cs.Program, title: str) -> list[cs.MeetingAd]:
	return [ad for ad in program.find() if ad.title == title]


def found(program: cs.Program, title: str) -> cs.MeetingAd:
	until(lambda: heard_of(program, title))
	return heard_of(program, title)[0]


def test_who_never_hosted_has_no_keys_made(program: cs.Program, tmp_path: Path) -> None:
	assert program.lesson() == "" and not program.find()
	assert not {"identity.pem", "host.key"} & {file.name for file in (tmp_path / "ana").iterdir()}


def test_a_meeting_that_its_host_ended_is_over(program: cs.Program) -> None:
	controller = program.host("Ana", "Physics", "")
	assert program._hosted is not None
	keeper = program._hosted._child
	started = keeper._process
	controller.do({"do": "end"})
	heard(controller, "ended")
	until(lambda: not keeper._worker._thread.is_alive())
	assert keeper._process is started, "nobody started another"
	assert started is not None and started.returncode == 0
	assert not cs.tcp_answers((HERE, controller.options.port))


def test_a_host_who_comes_back_through_the_list_is_the_host(program: cs.Program) -> None:
	first = program.host("Ana", "Physics", "")
	leave(first)
	ad = found(program, "Physics")
	second = program.join(ad.address, ad.port, "Ana", "")
	until(lambda: second.state.current.role == "host")


def test_who_is_in_a_meeting_asks_for_no_others(program: cs.Program, monkeypatch: pytest.MonkeyPatch) -> None:
	asked: list[bool] = []
	monkeypatch.setattr(cs, "ASK_EVERY", 0.05)
	monkeypatch.setattr(program._finder, "_ask_everywhere", lambda: asked.append(True))
	until(lambda: len(asked) > 3)
	controller = program.host("Ana", "Physics", "")
	until(lambda: program._finder._scan is None)
	time.sleep(0.1)
	asked.clear()
	time.sleep(0.7)
	assert not asked
	leave(controller)
	until(lambda: len(asked) > 3)


def test_hosting_that_failed_leaves_the_list_as_it_was(
	program: cs.Program, meeting: Callable[..., Headless]
) -> None:
	_, base = serve(meeting, "--title", "Chess")
	program._server["base"] = base
	with pytest.raises(cs.Refused, match="is still running"):
		program.host("Ana", "Physics", "")
	ad = found(program, "Chess")
	joined = program.join(ad.address, ad.port, "Ana", "")
	until(lambda: joined.state.current.title == "Chess")


@pytest.mark.parametrize("usual", [True, False])
def test_who_says_no_port_hosts_where_some_are_free(
	usual: bool, program: cs.Program, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""Windows keeps ports for WSL and Docker, and who double-clicks cannot name others."""
	base = program._server["base"]
	monkeypatch.setattr(cs, "DEFAULT_PORT", base if usual else base + 1)
	with contextlib.closing(cs.listen_tcp((HERE, base + 1))):
		if usual:
			assert program.host("Ana", "Physics", "").options.port == base + 100
			assert found(program, "Physics").port == base + 100
		else:
			with pytest.raises(cs.Refused, match=str(base + 1)):
				program.host("Ana", "Physics", "")


def test_who_hosted_before_invites_to_the_meeting_that_is_on(
	program: cs.Program, meeting: Callable[..., Headless]
) -> None:
	first = program.host("Ana", "Physics", "")
	assert {way.address for way in program.ways_in()} == {f"{HERE}:{first.options.port}"}
	leave(first)
	_, base = serve(meeting, "--title", "Chess")
	second = program.join(HERE, base, "Ana", "")
	until(lambda: second.state.current.title == "Chess")
	assert {way.address for way in program.ways_in()} == {f"{HERE}:{base}"}


@pytest.mark.parametrize(("what", "other"), [("mic", "tone"), ("camera", "pattern")])
def test_choosing_a_device_turns_none_on(program: cs.Program, what: str, other: str) -> None:
	controller = program.host("Ana", "Physics", "")
	for on, state in ((True, "live"), (False, "off")):
		controller.do({"do": what, "on": on})
		heard(controller, "device", what=what, state=state)
	program.set_setting(what, other)
	assert heard(controller, "device", what=what)["state"] == "off"
	controller.do({"do": what, "on": True})
	heard(controller, "device", what=what, state="live")
	program.set_setting(what, other)
	heard(controller, "device", what=what, state="live")
	controller.do({"do": what, "on": False})
	heard(controller, "device", what=what, state="off")


def test_choosing_another_after_one_failed_turns_none_on(program: cs.Program) -> None:
	controller = program.host("Ana", "Physics", "")
	program.set_setting("mic", "97")
	controller.do({"do": "mic", "on": True})
	heard(controller, "device", what="mic", state="failed")
	program.set_setting("mic", "tone")
	assert heard(controller, "device", what="mic")["state"] == "off"
	controller.do({"do": "mic", "on": True})
	heard(controller, "device", what="mic", state="live")


def test_a_volume_that_is_only_tried_is_not_remembered(program: cs.Program) -> None:
	controller = program.host("Ana", "Physics", "")
	program.try_volume(0.25)
	until(lambda: controller.options.volume == 0.25)
	assert program.setting("volume") == 0.8
	program.set_setting("volume", 0.5)
	until(lambda: controller.options.volume == 0.5)
	assert program.setting("volume") == 0.5


def test_each_microphone_remembers_its_sound(program: cs.Program) -> None:
	controller = program.host("Ana", "Physics", "")
	for mic, sound in (("tone", "clear"), ("tone:500", "original"), ("tone:600", "")):
		program.set_setting("mic", mic)
		if sound:
			program.set_setting("sound", sound)
	for mic, sound in (("tone", "clear"), ("tone:500", "original"), ("tone:600", "")):
		program.set_setting("mic", mic)
		assert program.setting("sound") == sound
		until(lambda mic=mic, sound=sound: (controller.options.mic, controller.options.sound) == (mic, sound))  # type: ignore[misc]


class Trap(FalseHost):
	"""A host that hangs up."""

	def serve(self, near: ssl.SSLSocket) -> None:
		"""Nothing."""


def test_who_announces_anothers_meeting_keeps_nobody_out_for_long(
	program: cs.Program, meeting: Callable[..., Headless], tmp_path: Path
) -> None:
	"""Heard first, it is believed; once another host answers there, the true one is."""
	teacher, base = serve(meeting, "--title", "Physics")
	told = cs.asdict(found(program, "Physics"))
	del told["address"]
	teacher.process.kill()
	until(lambda: not heard_of(program, "Physics"))
	with contextlib.closing(Trap(tmp_path)) as trap:
		liar = cs.DiscoveryResponder(lambda: told | {"port": trap.port, "nonce": ""}, HERE, cs.Counters())
		liar.start()
		with contextlib.closing(liar):
			assert found(program, "Physics").port == trap.port
			with pytest.raises(cs.Refused) as refused:
				program.join(HERE, trap.port, "Ana", "")
			assert refused.value.code == "host_changed"
			assert not heard_of(program, "Physics")
			serve(meeting, "--title", "Physics", home=teacher.home, base=base)
			assert found(program, "Physics").port == base


NOT_FOR_A_SERVER = {"PIL", "cv2", "http", "mss", "pyaudio", "pywebrtc_audio", "tkinter"}
NOT_FOR_A_SERVER |= {"importlib.metadata", "numpy.ma", "numpy.random"}


def test_what_is_imported_late_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
	"""With each picture that would cost as much as some of what is done with it."""
	late = cs.Lazy("colorsys")
	first = late.rgb_to_hsv
	monkeypatch.setattr("importlib.import_module", unittest.mock.Mock(side_effect=AssertionError))
	assert late.rgb_to_hsv is first


@pytest.mark.parametrize("shown", [True, False])
def test_the_logo_of_the_one_file_goes_before_a_role_without_a_window(
	shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""PyInstaller's module takes it away, and complains where none stands."""
	closed: list[str] = []
	monkeypatch.setitem(sys.modules, "pyi_splash", types.SimpleNamespace(close=lambda: closed.append("gone")))
	monkeypatch.delenv("_PYI_SPLASH_IPC", raising=False)
	if shown:
		monkeypatch.setenv("_PYI_SPLASH_IPC", "1")
	for name in ("set_up_logging", "gc", "sys.setswitchinterval"):
		monkeypatch.setattr(f"connectsphere.{name}", unittest.mock.Mock())
	monkeypatch.setattr(cs, "ROLES", {"version": lambda _: len(closed)})
	assert cs.run(["--version"]) == len(closed) == shown


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["--no-such-option"]])
def test_the_one_file_ends_after_the_thread_of_its_logo(
	words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
	"""However short the way to its end: PyInstaller crashes if it unloads Tcl before, imitated here."""
	monkeypatch.setenv("CONNECTSPHERE_HOME", str(tmp_path))
	monkeypatch.setenv("_PYI_SPLASH_IPC", "1")
	alive: list[str] = []  # the windows of Tcl's thread, seen once more after the logo is away

	def close() -> None:
		monkeypatch.delenv("_PYI_SPLASH_IPC")
		monkeypatch.setattr("sys.platform", "win32")
		alive.append("TclSocket")

	def find(name: str, _: None) -> int:
		return len(name) if alive and alive.pop() == name else 0

	monkeypatch.setitem(sys.modules, "pyi_splash", types.SimpleNamespace(close=close))
	user = types.SimpleNamespace(FindWindowW=find)
	monkeypatch.setattr("ctypes.windll", types.SimpleNamespace(user32=user), raising=False)
	monkeypatch.setattr("sys.argv", ["connectsphere", *words])
	for name in ("set_up_logging", "prepare_streams", "gc", "sys.setswitchinterval"):
		monkeypatch.setattr(f"connectsphere.{name}", unittest.mock.Mock())
	monkeypatch.setattr(cs, "ROLES", {"version": lambda _: 0})
	with contextlib.suppress(SystemExit):
		cs.main()
	assert not alive and "_PYI_SPLASH_IPC" not in os.environ


def test_server_and_mixer_load_only_what_they_need(meeting: Callable[..., Headless]) -> None:
	server, base = serve(meeting, env={"PYTHONPROFILEIMPORTTIME": "1"})
	people = [join(meeting, base, name, "--camera", "pattern", "--mic", "tone") for name in ("Ana", "Ben")]
	for one in people:
		switch(one, "camera", True)
		switch(one, "mic", True)
	people[0].send(do="share", on=True, source="pattern")
	people[1].wait("screen_start")
	people[1].send(do="chat", text="we are all in")
	people[0].wait("chat", text="we are all in")
	if sys.platform == "linux":
		libraries = told(Path(f"/proc/{child_in_role(server.process.pid, '--mixer')}/maps"))
		assert "_multiarray_umath" in libraries and "_ssl" not in libraries
	server.close()
	loaded = re.findall(r"^import time:.*\| +(\S+)$", server.errors(), re.MULTILINE)
	assert loaded.count("numpy.lib") == 2, "in both"
	assert not NOT_FOR_A_SERVER.intersection(loaded)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_server_of_a_host_loads_numpy_with_the_first_picture(meeting: Callable[..., Headless]) -> None:
	"""That takes a third of the time of a start."""

	def loaded(pid: int) -> bool:
		return "_multiarray_umath" in told(Path(f"/proc/{pid}/maps"))

	ana, base = host(meeting, program=PROGRAM)
	ben = join(meeting, base, "Ben", "--camera", "pattern")
	ben.send(do="chat", text="both are in")
	ana.wait("chat", text="both are in")
	server = child_in_role(ana.process.pid, "--serve-child")
	assert not loaded(server) and loaded(ana.process.pid)
	switch(ben, "camera", True)
	ana.send(do="watch", streams={"Ben": {"layer": 0}})
	until(lambda: loaded(server))


def test_whatever_is_on_python_ends_in_order(meeting: Callable[..., Headless], tmp_path: Path) -> None:
	"""It takes all apart at its end, before which forks of tests end: see starter.py."""
	with_all = ("--camera", "pattern", "--mic", "tone", "--speaker")
	ana, base = host(meeting, *with_all, str(tmp_path / "ana.wav"), program=PROGRAM)
	ben = join(meeting, base, "Ben", *with_all, str(tmp_path / "ben.wav"), program=PROGRAM)
	for one, other in ((ana, "Ben"), (ben, "Ana")):
		switch(one, "mic", True)
		switch(one, "camera", True)
		one.send(do="watch", streams={other: {"layer": 2, "fps": 15}})
	for one, other in ((ana, "Ben"), (ben, "Ana")):
		until(lambda one=one, other=other: stats(one)["video"].get(other, {}).get("frames"))  # type: ignore[misc]
	ben.send(do="share", on=True, source="pattern")
	ana.wait("screen_start")
	for one, last in ((ben, "leave"), (ana, "end")):
		one.send(do=last)
		assert (one.process.wait(10), one.errors()) == (0, "")
