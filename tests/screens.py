"""Screens for tests: virtual ones, windows of other programs on them, and what they show."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mss
import numpy as np
import pytest
from starter import popen
from waiting import wait_until

import connectsphere as cs

_WINDOW = """
import sys, threading, tkinter
root = tkinter.Tk()
root.geometry(sys.argv[1])
exec(sys.argv[2])
def obey():
    for line in sys.stdin:
        root.after(0, root.geometry, line.strip())
    root.after(0, root.destroy)
threading.Thread(target=obey, daemon=True).start()
root.after(200, lambda: print("ready", flush=True))
root.mainloop()
"""


KEPT: dict[str, list[Any]] = {}  # by display: the Tk of closed windows, for those that come
DISPLAYS = itertools.count(64 * os.getpid())  # so many are one process's own


@contextlib.contextmanager
def xvfb(size: str, depth: int = 24) -> Iterator[tuple[str, subprocess.Popen[str]]]:
	"""A virtual screen of WIDTHxHEIGHT without a window manager: its name, for DISPLAY, and its process.

	Its number is chosen here: an Xvfb that ends removes the socket of the one that has just taken its number,
	which is then unreachable from other network namespaces.
	"""
	for number in DISPLAYS:
		command = ["Xvfb", f":{100 + number % 50_000}", "-displayfd", "1", "-screen", "0", f"{size}x{depth}"]
		command += ["-nolisten", "tcp", "-noreset"]
		with subprocess.Popen(
			command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
		) as server:
			assert server.stdout is not None
			try:
				if name := server.stdout.readline().strip():
					yield f":{name}", server
					return
			finally:
				server.terminate()


@contextlib.contextmanager
def another_window(geometry: str, content: str) -> Iterator[subprocess.Popen[str]]:
	"""Another program's window that is in sight; `content` is Python that fills `root`.

	A line on its standard input is its new geometry.
	"""
	command = [sys.executable, "-c", _WINDOW, geometry, content]
	with popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
		assert process.stdin is not None and process.stdout is not None
		assert process.stdout.readline() == "ready\n"
		yield process
		process.stdin.close()
		process.wait(5)


def photographed() -> cs.Picture:
	"""All that stands on the screen, windows of this process included."""
	with mss.MSS() as camera:
		shot = camera.grab(camera.monitors[0])
		return np.frombuffer(shot.raw, np.uint8).reshape(shot.height, shot.width, 4)[..., :3].copy()


@contextlib.contextmanager
def window_manager(env: Mapping[str, str] = os.environ) -> Iterator[None]:
	"""One that is ready: it may miss what is mapped while it starts. Skips the test where there is none."""
	if lacking := [name for name in ("openbox", "xprop") if shutil.which(name) is None]:
		pytest.skip(f"needs {lacking}")
	asking = ["xprop", "-root", "_NET_SUPPORTING_WM_CHECK"]
	with subprocess.Popen(["openbox", "--sm-disable"], env=env, stderr=subprocess.DEVNULL) as manager:
		try:
			wait_until(
				lambda: b"# 0x" in subprocess.check_output(asking, env=env), 60.0, "the window manager"
			)
			yield
		finally:
			manager.terminate()


@contextlib.contextmanager
def desktop(size: str, bar: int = 48, screens: Sequence[str] = ()) -> Iterator[str]:
	"""A screen of WIDTHxHEIGHT with a window manager, a task bar of `bar` pixels at its foot; for DISPLAY.

	`screens`: widths, heights and places, WxH+X+Y, of the monitors of which it consists.
	"""
	with contextlib.ExitStack() as ends:
		display, _ = ends.enter_context(xvfb(size))
		env = {**os.environ, "DISPLAY": display}

		def tool(*command: str) -> str:
			return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout

		for number, place in enumerate(screens):
			wide, tall, left, top = re.split(r"[x+]", place)
			output = "none" if number else "screen"
			tool("xrandr", "--setmonitor", f"m{number}", f"{wide}/300x{tall}/200+{left}+{top}", output)
		ends.enter_context(window_manager(env))
		wide, tall = map(int, size.split("x"))
		with pytest.MonkeyPatch.context() as patch:
			patch.setenv("DISPLAY", display)
			content = "root.title('task bar'); root.attributes('-type', 'dock')"
			ends.enter_context(another_window(f"{wide}x{bar}+0+{tall - bar}", content))
		strut = f"0,0,0,{bar},0,0,0,0,0,0,0,{wide - 1}"
		area = f"0, 0, {wide}, {tall - bar}"

		def has_room() -> bool:
			"""Say it until the manager, which may not have seen the bar yet, heeds it."""
			for window in tool("xdotool", "search", "--name", "^task bar$").split():
				name = "_NET_WM_STRUT_PARTIAL"
				tool("xprop", "-id", window, "-f", name, "32c", "-set", name, strut)
			return area in tool("xprop", "-root", "_NET_WORKAREA")

		wait_until(has_room, 60.0, "the task bar's room")
		yield display


def grabbed(source: str = "screen:0") -> cs.Picture:
	"""What a screen, or what stands in for it, shows now."""
	screen = cs.open_screen(source)
	try:
		return screen.grab().copy()
	finally:
		screen.close()
