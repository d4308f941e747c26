"""The window has its place where the system leaves room: above the task bar, on one monitor, where it was."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from screens import desktop
from starter import popen
from waiting import wait_until

import connectsphere as cs

TOOLS = ("Xvfb", "openbox", "xprop", "xrandr", "xdotool")
LACKING = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = [
	pytest.mark.skipif(bool(LACKING), reason=f"needs {', '.join(LACKING)}"),
	pytest.mark.long,
]

Box = list[int]


@contextmanager
def placed(display: str) -> Iterator[subprocess.Popen[str]]:
	"""Windows in a process of their own."""
	command = [sys.executable, str(Path(__file__).with_name("placed.py"))]
	with popen(
		command,
		env={**os.environ, "DISPLAY": display},
		stdin=subprocess.PIPE,
		stdout=subprocess.PIPE,
		text=True,
	) as process:
		try:
			yield process
		finally:
			assert process.stdin is not None
			process.stdin.close()
			assert process.wait(30) == 0


def tell(process: subprocess.Popen[str], settings: dict[str, Any], **more: Any) -> Iterator[Any]:
	"""Have it open a window with these settings; what it says of it, up to its place at the end."""
	assert process.stdin is not None and process.stdout is not None
	process.stdin.write(json.dumps({"settings": settings, **more}) + "\n")
	process.stdin.flush()
	line: Any = []
	while isinstance(line, list):
		line = json.loads(process.stdout.readline())
		yield line


@pytest.mark.parametrize(
	("size", "scales"), [("1366x768", (125, 150)), ("1920x1080", (125, 150)), ("1024x600", (200,))]
)
def test_every_control_is_inside_the_work_area(size: str, scales: tuple[int, ...]) -> None:
	wide, tall = map(int, size.split("x"))
	with desktop(size) as display, placed(display) as window:
		for scale in scales:
			*seen, _ = tell(window, {"scale": str(scale)}, area=[0, 0, wide, tall - 48])
			assert len(seen) > 20
			assert [state for state in seen if state[1]] == [], scale


def inside(box: Box, area: Box) -> bool:
	"""Whether left, top, width, height lie in the same of an area."""
	return all(
		a <= at and at + n <= a + most
		for at, n, a, most in zip(box[:2], box[2:], area[:2], area[2:], strict=True)
	)


def test_it_comes_back_where_it_was_as_far_as_there_is_room() -> None:
	with desktop("1366x768") as display, placed(display) as window:
		filled, moved, kept = tell(window, {}, then=["900x500+200+100"])
		again, _ = tell(window, {"window": kept})
		for lost in ("900x500+4000+3000", "900x500+-700+-90", "3000x2000+0+0", "1x1+0+0", "rubbish"):
			place, _ = tell(window, {"window": lost})
			assert inside(place, [0, 0, 1366, 720]), lost
	assert inside(filled, [0, 0, 1366, 720]) and filled[2] > 1340, (
		"1280x800 do not fit, so it fills the screen"
	)
	assert moved[2] < filled[2] and moved[0] > 100, "or nothing is remembered"
	assert again == moved


@pytest.mark.parametrize("side", [0, 1])
def test_it_opens_on_the_monitor_with_the_mouse_and_stays_on_the_one_where_it_was(side: int) -> None:
	monitors = [[0, 0, 1280, 800], [1280, 0, 1280, 800]]
	with (
		desktop("2560x800", screens=["1280x800+0+0", "1280x800+1280+0"]) as display,
		placed(display) as window,
	):

		def mouse(x: int) -> None:
			subprocess.run(
				["xdotool", "mousemove", str(x), "300"], env={**os.environ, "DISPLAY": display}, check=True
			)

		mouse(600 + 1280 * side)
		box, kept = tell(window, {"scale": "75"})
		mouse(600 + 1280 * (1 - side))
		again, _ = tell(window, {"scale": "75", "window": kept})
	assert inside(box, monitors[side])
	assert again == box


def test_the_work_area_is_known_without_what_takes_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
	"""To load mss is a tenth of the time until the window is there."""
	monkeypatch.setattr(cs, "_Grabber", None)
	with desktop("1366x768") as display:
		monkeypatch.setenv("DISPLAY", display)
		assert cs.work_area(9, 9) == (0, 0, 1366, 720)


def signs(env: dict[str, str]) -> set[int]:
	"""The widths of the pictures that the window gives for title bar and task bar."""
	find = ["xdotool", "search", "--onlyvisible", "--name", f"^{cs.APP_NAME}$"]
	found = set()
	for number in subprocess.run(find, env=env, capture_output=True, text=True).stdout.split():
		show = ["xprop", "-id", number, "-notype", "32c", "_NET_WM_ICON"]
		said = subprocess.run(show, env=env, capture_output=True, text=True).stdout
		numbers = [int(word) for word in said.partition("=")[2].replace(",", " ").split()]
		while numbers:
			found.add(numbers[0])
			del numbers[: 2 + numbers[0] * numbers[1]]
	return found


def test_it_has_a_sign_of_its_own() -> None:
	with desktop("1366x768") as display, placed(display) as window:
		next(tell(window, {}, stay=True))
		wait_until(lambda: signs({**os.environ, "DISPLAY": display}) == {16, 32, 48, 128}, what="the signs")


def monitor_from_point(point: ctypes.c_longlong, otherwise: int) -> int:
	"""The monitor at a POINT, given by value; the left of two has the number 7."""
	assert otherwise == 2
	x, y = ctypes.cast(ctypes.byref(point), ctypes.POINTER(ctypes.c_int32))[:2]
	assert -1080 < y < 1080
	return 7 if x < 0 else 9


def get_monitor_info(monitor: ctypes.c_void_p, info: Any) -> int:
	"""Fill MONITORINFO; a task bar of 48 pixels stands on both."""
	assert info[0] == ctypes.sizeof(info) == 40
	edges = (-1920, 0, 0, 1080) if monitor.value == 7 else (0, 0, 1366, 768)
	info[1:5], info[5:9] = edges, (*edges[:3], edges[3] - 48)
	return 1


@pytest.mark.parametrize(
	("at", "area"),
	[((-5, 10), (-1920, 0, 1920, 1032)), ((5, -10), (0, 0, 1366, 720)), ((5, 99), (0, 0, 1366, 720))],
)
def test_windows_is_asked_for_the_work_area_of_the_monitor(
	at: tuple[int, int], area: tuple[int, ...]
) -> None:
	windows = cs._WindowsDesktop.__new__(cs._WindowsDesktop)
	windows._user = SimpleNamespace(MonitorFromPoint=monitor_from_point, GetMonitorInfoW=get_monitor_info)  # type: ignore[assignment]
	assert windows.work_area(*at) == area
