"""The shared screen: whole screens, the window in front, its moves and its end, and the stand-ins."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mss
import mss.exception
import numpy as np
import pytest
from pictures import counting
from PIL import Image
from screens import another_window, grabbed, window_manager, xvfb
from starter import popen
from waiting import best_of, wait_until

import connectsphere as cs

NEEDED = ("Xvfb", "xdotool")
absent = [tool for tool in NEEDED if shutil.which(tool) is None]
needs_x = pytest.mark.skipif(bool(absent), reason=f"needs {', '.join(absent)}")


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
	"""An X server of the test's own, 800x600, without a window manager."""
	pytest.importorskip("tkinter")
	monkeypatch.delenv("XDG_SESSION_TYPE", raising=False)
	with xvfb("800x600") as (name, server):
		monkeypatch.setenv("DISPLAY", name)
		yield server


@pytest.fixture(params=["none", "openbox"])
def manager(request: pytest.FixtureRequest, display: object) -> Iterator[str]:
	"""The window manager that runs on the display."""
	with window_manager() if request.param == "openbox" else contextlib.nullcontext():
		yield request.param


@pytest.fixture
def open_window() -> Iterator[Callable[..., subprocess.Popen[str]]]:
	"""Opens windows of another process: geometry, colour."""
	with contextlib.ExitStack() as stack:

		def start(geometry: str, colour: str) -> subprocess.Popen[str]:
			content = f'root.configure(background="{colour}"); root.title("{colour}")'
			return stack.enter_context(another_window(geometry, content))

		yield start


def xdotool(*words: str) -> str:
	return subprocess.run(["xdotool", *words], check=True, capture_output=True, text=True, timeout=10).stdout


RED = [0, 0, 255]


def all_red(picture: cs.Picture) -> bool:
	return bool((picture == RED).all())


@needs_x
def test_whole_screen_and_pointer(display: object, open_window: Callable[..., object]) -> None:
	assert [(*one, seen.shape) for *one, seen in cs.list_screens() if seen is not None] == [
		("screen:0", "Screen 1", (600, 800, 3))
	]
	open_window("200x100+50+60", "red")
	screen = cs.open_screen("screen:0")
	wait_until(lambda: all_red(screen.grab()[60:160, 50:250]))
	picture = screen.grab()
	assert picture.shape == (600, 800, 3) and not picture[:60].any() and not picture[:, 250:].any()
	xdotool("mousemove", "123", "45")
	assert screen.pointer() == (123, 45)
	screen.close()
	screen.close()


@needs_x
def test_window_in_front_is_followed_until_it_closes(
	display: object, open_window: Callable[..., object]
) -> None:
	open_window("300x300+10+10", "blue")
	front = open_window("200x100+50+60", "red")
	wait_until(lambda: all_red(grabbed()[60:160, 50:250]))
	source = cs.open_screen("window")
	assert source.grab().shape == (100, 200, 3) and all_red(source.grab())
	number = xdotool("search", "--name", "^red$").split()[-1]
	xdotool("windowmove", "--sync", number, "420", "333")
	wait_until(lambda: all_red(source.grab()))
	xdotool("mousemove", "430", "335")
	assert source.pointer() == (10, 2)
	xdotool("mousemove", "5", "5")
	assert source.pointer() is None
	xdotool("windowsize", "--sync", number, "240", "120")
	wait_until(lambda: source.grab().shape == (120, 240, 3))
	xdotool("windowmove", "--sync", number, "700", "333")
	wait_until(lambda: source.grab().shape == (120, 100, 3))
	xdotool("windowunmap", "--sync", number)
	assert source.grab().shape == (120, 100, 3), "a minimised window's last picture stays"
	assert isinstance(front, subprocess.Popen)
	front.kill()
	front.wait(10)

	def closed() -> bool:
		try:
			source.grab()
		except cs.DeviceError as fault:
			return "lost" in fault.reason
		return False

	wait_until(closed)
	source.close()


@needs_x
def test_a_window_is_chosen_by_its_title_and_comes_to_the_front(
	manager: str, open_window: Callable[..., object]
) -> None:
	"""Those of other programs, the foremost first; of one that is covered the picture is missing."""
	open_window("300x200+10+10", "green")
	wait_until(lambda: has(grabbed(), [0, 128, 0], 40_000), 10.0, "the first")
	open_window("300x200+60+60", "red")
	wait_until(lambda: has(grabbed(), RED, 50_000), 10.0, "the second, over it")
	found = {words: (source, picture) for source, words, picture in cs.list_screens()}
	assert [*found] == ["Screen 1", "red", "green"]
	assert found["green"][1] is None and has(found["red"][1], RED, 50_000)  # type: ignore[arg-type]
	if manager == "openbox":
		with contextlib.closing(cs.open_screen(found["green"][0])) as source:
			assert has(source.grab(), [0, 128, 0], 59_000), "it is not covered any more"
		assert [words for _, words, _ in cs.list_screens()] == ["Screen 1", "green", "red"]


@needs_x
def test_a_window_that_closes_while_all_are_listed_hides_no_other(
	display: object, open_window: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
	for colour, place in (("green", "200x100+10+10"), ("red", "200x100+300+300")):
		open_window(place, colour)
	wait_until(lambda: len([*cs.list_screens()]) == 3, 10.0, "both")
	lost, place_of = cs.DeviceError("The shared screen got lost."), cs._XDesktop.rectangle
	tried = list[int]()

	def rectangle(desktop: Any, window: int) -> Any:
		tried.append(window)
		if window == tried[0]:
			raise lost
		return place_of(desktop, window)

	monkeypatch.setattr(cs._XDesktop, "rectangle", rectangle)
	assert len([*cs.list_screens()]) == 2


BESIDE = """
other = tkinter.Toplevel(root, background="green")
other.geometry("80x80+70+80")
other.withdraw()
def turn():
    other.deiconify() if other.state() == "withdrawn" else other.withdraw()
    root.after(1500, turn)
root.after(1500, turn)
"""


@needs_x
def test_what_lies_over_a_shared_window_is_not_seen(manager: str, open_window: Callable[..., object]) -> None:
	"""While another program covers a part of it the last picture stays; its own dialogs belong to it."""
	with contextlib.ExitStack() as stack:
		content = f'root.configure(background="red"); {BESIDE!r} and exec({BESIDE!r}, globals())'
		shared = stack.enter_context(another_window("200x150+50+60", content))
		wait_until(lambda: has(grabbed(), RED, 20_000))
		source = cs.open_screen("window")
		stack.callback(source.close)
		if manager == "openbox":
			wait_until(lambda: has(source.grab(), [0, 128, 0], 3_000), 10.0, "its own dialog")
			wait_until(lambda: not has(source.grab(), [0, 128, 0], 1), 10.0, "the dialog is gone")
		wide = source.grab().shape[1]
		secret = open_window("100x60+120+100", "blue")
		assert isinstance(secret, subprocess.Popen)
		wait_until(lambda: has(grabbed(), [255, 0, 0], 5_000))
		for process, place in ((shared, "220x150+50+60"), (secret, "+400+400")):
			seen = [source.grab() for _ in range(60)]
			assert not any(has(one, [255, 0, 0], 1) or one.shape[1] != wide for one in seen)
			assert process.stdin is not None
			process.stdin.write(place + "\n")
			process.stdin.flush()
			time.sleep(0.3)
		wait_until(lambda: source.grab().shape[1] == wide + 20, 10.0, "it goes on")


def has(picture: cs.Picture, colour: list[int], count: int) -> bool:
	"""Whether so many pixels have that colour (BGR)."""
	return int((picture == colour).all(axis=2).sum()) >= count


class FakeUser32:
	"""Windows from the top down: (number, process, left, top, width, height)."""

	def __init__(self, *stack: tuple[int, ...], front: int = 0) -> None:
		self.stack = {one[0]: one for one in stack}
		self.front, self.calls = front, list[tuple[Any, ...]]()

	def GetForegroundWindow(self) -> int:  # noqa: N802
		return self.front

	def GetTopWindow(self, _: None) -> int:  # noqa: N802
		return next(iter(self.stack))

	def GetWindowTextW(self, window: int, words: Any, size: int) -> None:  # noqa: N802
		assert len(words) == size
		words.value = f"Añadir {window} 😀"

	def SetForegroundWindow(self, window: int) -> None:  # noqa: N802
		self.calls.append(("SetForegroundWindow", window))

	def GetParent(self, window: int) -> int:  # noqa: N802
		return 100 + window

	def FlashWindow(self, window: int, on: bool) -> None:  # noqa: N802
		self.calls.append(("FlashWindow", window, on))

	def GetWindow(self, window: int, way: int) -> int:  # noqa: N802
		order = [*self.stack]
		at = order.index(window) + {2: 1, 3: -1}[way]
		return order[at] if 0 <= at < len(order) else 0

	def GetWindowThreadProcessId(self, window: int, owner: Any) -> None:  # noqa: N802
		owner._obj.value = self.stack[window][1]

	def GetWindowRect(self, window: int, sides: Any) -> None:  # noqa: N802
		left, top, width, height = self.stack[window][2:]
		sides[:] = [left, top, left + width, top + height]

	def __getattr__(self, name: str) -> Callable[..., int]:
		return lambda *_: name in ("IsWindow", "IsWindowVisible", "GetWindowTextLengthW")


@pytest.mark.parametrize(
	("over", "covered"),
	[
		((9, 70, 0, 0, 50, 50), True),
		((9, 70, 200, 0, 50, 50), False),
		((9, 50, 0, 0, 50, 50), False),
		((9, os.getpid(), 0, 0, 50, 50), False),
	],
	ids=["another program's", "beside it", "its own dialog", "ours, which Windows leaves out"],
)
def test_windows_is_asked_what_lies_over_a_window(over: tuple[int, ...], covered: bool) -> None:
	windows = cs._WindowsDesktop.__new__(cs._WindowsDesktop)
	below = (1, 60, 0, 0, 100, 100)
	windows._user = FakeUser32(over, (5, 50, 0, 0, 100, 100), below)  # type: ignore[assignment]
	windows._dwm = SimpleNamespace(DwmGetWindowAttribute=lambda *_: 1)  # type: ignore[assignment]
	assert windows.covered(5, cs._Rectangle(0, 0, 100, 100)) is covered


def test_windows_names_the_windows_of_others_the_one_in_front_first() -> None:
	windows = cs._WindowsDesktop.__new__(cs._WindowsDesktop)
	place = (0, 0, 9, 9)
	stack = [(9, 70, *place), (7, os.getpid(), *place), (5, 50, *place), (1, 60, *place)]
	windows._user = user = FakeUser32(*stack, front=5)  # type: ignore[assignment]
	windows._dwm = SimpleNamespace(DwmGetWindowAttribute=lambda *_: 1)  # type: ignore[assignment]
	assert [*windows.windows()] == [5, 9, 1] and windows.front() == 5
	assert windows.title(9) == "Añadir 9 😀"
	windows.bring(9)
	windows.flash(SimpleNamespace(winfo_id=lambda: 70))
	assert user.calls == [("SetForegroundWindow", 9), ("FlashWindow", 170, True)]


OWN = """
import tkinter, connectsphere
own = tkinter.Tk()
own.wm_client("test")  # makes Tk tell its process id
own.geometry("80x80+500+400")
tkinter.Toplevel(own).geometry("50x50+600+500")
own.update()
print(connectsphere.open_screen("window").grab().shape)
"""


@needs_x
def test_own_windows_are_not_shared(display: object, open_window: Callable[..., object]) -> None:
	with pytest.raises(cs.DeviceError, match="No other window"):
		cs.open_screen("window")
	open_window("200x100+50+60", "red")
	wait_until(lambda: all_red(grabbed()[60:160, 50:250]))
	command = [sys.executable, "-c", OWN]
	root = Path(cs.__file__).parent
	done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
	assert done.stdout == "(100, 200, 3)\n", done.stderr


HIDING = """
import json, threading, time, tkinter
import cv2
import connectsphere as cs

MARK, frames, leaks, over = "#ff00ff", [], [], []

def look():
    screen = cs.open_screen("screen:0")
    while not done.is_set():
        picture = screen.grab()
        if not frames or picture is not frames[-1]:
            frames.append(picture)
        leaks.append(cv2.countNonZero(cv2.inRange(picture, (195, 0, 195), (255, 60, 255))))
        time.sleep(0.005)
    screen.close()

def step(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        root.update()
        time.sleep(0.002)

root = tkinter.Tk()
root.wm_client("test")
root.configure(bg=MARK)
root.geometry("260x200+0+0")
other = tkinter.Toplevel(root, bg=MARK)
other.geometry("90x90+500+400")
bar = tkinter.Toplevel(root, bg=MARK)  # as the one over the desktop while it is shared
bar.overrideredirect(True)
bar.attributes("-topmost", True)
bar.geometry("200x20+300+0")
menu = tkinter.Menu(root, tearoff=0, bg=MARK, fg=MARK)
for _ in range(4):
    menu.add_command(label="private words")
step(0.3)
done = threading.Event()
looking = threading.Thread(target=look)
looking.start()
for at in range(ROUNDS):
    for part in range(4):  # drawn quickly over the screen, at rest for a moment, and on
        root.geometry(f"+{at * 97 % 500 + part * 9}+{at * 61 % 350 + part * 5}")
        step(0.02)
    step(0.1)
    if at == 8:
        menu.post(500, 50)
    if at == 12:
        menu.unpost()
    bar.geometry(f"+{300 + at * 31 % 300}+{at % 7}")
    if at == 16:
        other.withdraw()
        bar.withdraw()
while len(leaks) <= 200:  # as fast as this machine looks
    root.geometry(f"+{len(leaks) * 97 % 500}+{len(leaks) * 61 % 350}")
    step(0.1)
root.geometry("+100+100")
root.lift()
step(0.5)
grey = int((frames[-1] == 128).all(axis=2).sum())
print(json.dumps({"leaks": max(leaks), "looks": len(leaks), "frames": len(frames), "grey": grey}), flush=True)
input()  # now another program's window lies over ours
step(0.5)
print(json.dumps(frames[-1][160, 200].tolist()), flush=True)
root.iconify() if ARGUMENT == "openbox" else root.withdraw()
step(0.5)
grey = int((frames[-1] == 128).all(axis=2).sum())
done.set()
looking.join()
print(json.dumps({"leaks": max(leaks), "grey": grey}))
"""


@needs_x
def test_no_shared_picture_shows_a_window_of_ours(manager: str, open_window: Callable[..., object]) -> None:
	"""Wherever they go; what lies over them is shown, and nothing is grey where they are not."""
	with contextlib.ExitStack() as stack:
		script = HIDING.replace("ARGUMENT", repr(manager)).replace("ROUNDS", "24")
		command = [sys.executable, "-c", script]
		root = Path(cs.__file__).parent
		pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
		ours = stack.enter_context(popen(command, cwd=root, text=True, **pipes))
		stack.callback(ours.kill)
		told = json.loads(ours.stdout.readline())
		assert told["leaks"] == 0 and told["looks"] > 200 and told["frames"] > 20
		assert 260 * 200 <= told["grey"] < 300 * 260  # the frame that the manager draws is grey, too
		open_window("120x120+150+120", "blue")
		ours.stdin.write("\n")
		ours.stdin.flush()
		assert json.loads(ours.stdout.readline()) == [255, 0, 0]
		assert json.loads(ours.stdout.readline()) == {"leaks": 0, "grey": 0}


@needs_x
def test_screen_that_goes_away_is_one_sentence(display: subprocess.Popen[str]) -> None:
	screen = cs.open_screen("screen:0")
	with pytest.raises(cs.DeviceError, match="no screen 2"):
		cs.open_screen("screen:1")
	display.terminate()
	display.wait(10)
	with pytest.raises(cs.DeviceError):
		screen.grab()
	screen.close()
	with pytest.raises(cs.DeviceError):
		list(cs.list_screens())


@pytest.mark.parametrize("source", ["screen:0", "window"])
def test_no_display_is_one_sentence(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
	if sys.platform != "linux":
		pytest.skip("only X11 can be without a display")
	monkeypatch.delenv("DISPLAY", raising=False)
	with pytest.raises(cs.DeviceError, match=r"\.$"):
		cs.open_screen(source)
	with pytest.raises(cs.DeviceError, match=r"\.$"):
		list(cs.list_screens())


def test_pattern_and_picture_and_video_stand_in(tmp_path: Path) -> None:
	card = cs.open_screen("pattern")
	first = card.grab()
	time.sleep(0.05)
	assert first.shape == (720, 1280, 3) and (first != card.grab()).any() and card.pointer() is None
	card.close()
	slide = np.random.default_rng(1).integers(0, 256, (30, 50, 3), np.uint8)
	(tmp_path / "é.png").write_bytes(cs.encode_png(slide))
	assert np.array_equal(grabbed(str(tmp_path / "é.png")), slide)
	film = str(counting(tmp_path / "a.avi"))

	def plays_by_the_clock() -> bool:
		with contextlib.closing(cs.open_screen(film)) as source:
			start = time.perf_counter()
			assert source.grab().mean() < 4
			wait_until(lambda: source.grab().mean() > 80)
			took = time.perf_counter() - start
		assert took > 0.25
		return took < 1.0

	assert best_of(3, plays_by_the_clock)


# -- the user's own pictures: what a viewer program shows of them is what is shared


def drawing(mode: str = "RGB", size: tuple[int, int] = (60, 90)) -> Image.Image:
	"""A black bar, high on a ground that is white, or clear where `mode` can be."""
	clear = {"LA": (0, 0), "RGBA": (0, 0, 0, 0)}
	ink = {"LA": (0, 255), "RGBA": (0, 0, 0, 255)}
	picture = Image.new(mode, size, clear.get(mode, "white"))
	picture.paste(ink.get(mode, "black"), (20, 10, 40, 30))
	return picture


UPRIGHT = np.asarray(drawing())[..., ::-1]
TURNS = {
	2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
	5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
	8: Image.Transpose.ROTATE_270,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", TURNS)
def test_own_picture_is_turned_as_its_camera_says(kind: str, orientation: int, tmp_path: Path) -> None:
	exif = Image.Exif()
	exif[0x0112] = orientation
	path = tmp_path / f"photo.{kind}"
	drawing().transpose(TURNS[orientation]).save(path, exif=exif, quality=95)
	shown = grabbed(str(path)).astype(int)
	assert shown.shape == UPRIGHT.shape and abs(shown - UPRIGHT).mean() < 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("kind", ["png", "webp"])
def test_what_is_clear_in_an_own_picture_is_white(mode: str, kind: str, tmp_path: Path) -> None:
	path = tmp_path / f"drawing.{kind}"
	if mode == "P":
		picture = drawing().convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
		picture.save(path, transparency=picture.getpixel((0, 0)), lossless=True)
	else:
		drawing(mode).save(path, lossless=True)
	assert np.array_equal(grabbed(str(path)), UPRIGHT)


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "I;16", "RGB"])
def test_own_picture_of_any_depth_is_shown(mode: str, tmp_path: Path) -> None:
	path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
	if mode == "I;16":
		Image.fromarray(np.asarray(drawing("L")).astype(np.uint16) * 257).save(path)
	else:
		drawing().convert(mode).save(path)
	assert abs(grabbed(str(path)).astype(int) - UPRIGHT).mean() < 4


@pytest.mark.parametrize("size", [(2_000, 4_321), (7_681, 30), (30, 20_000), (7_680, 4_320)])
def test_picture_beyond_the_limit_is_shrunk_to_fit(size: tuple[int, int], tmp_path: Path) -> None:
	drawing("L", size).save(tmp_path / "long.png")
	height, width = grabbed(str(tmp_path / "long.png")).shape[:2]
	assert width <= cs.MAX_SCREEN[0] and height <= cs.MAX_SCREEN[1]
	assert (width, height) == size or width == cs.MAX_SCREEN[0] or height == cs.MAX_SCREEN[1]


def test_film_beyond_the_limit_is_shrunk_to_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
	monkeypatch.setattr(cs, "MAX_SCREEN", (200, 40))
	shape = grabbed(str(counting(tmp_path / "a.avi"))).shape
	assert shape[0] == 40 and shape[1] < 60


# -- screens that are not of the usual depth


class OnlyXlib:
	"""mss on a screen that its first choice refuses, as it does TigerVNC's."""

	refused = 0

	def __call__(self, backend: str = "default") -> object:
		if backend != "xlib":
			self.refused += 1
			raise mss.exception.ScreenShotError("drawable's visual not found in screen's supported visuals")
		return "by Xlib"


def test_another_way_to_the_screen_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
	monkeypatch.setattr(mss, "MSS", refusing := OnlyXlib())
	monkeypatch.setattr(cs._Grabber, "_by_xlib", False)
	opened = [cs._Grabber.__new__(cs._Grabber)._open(mss) for _ in range(3)]
	assert opened == ["by Xlib"] * 3 and refusing.refused == 1


@needs_x
@pytest.mark.parametrize("depth", [16, 30])
def test_depth_of_a_screen_that_cannot_be_shared_is_named(
	depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
	with xvfb("320x200", depth) as (name, _):
		monkeypatch.setenv("DISPLAY", name)
		for look in (lambda: list(cs.list_screens()), lambda: cs.open_screen("screen:0")):
			with pytest.raises(cs.DeviceError, match=f"{depth}-bit"):
				look()


@pytest.mark.parametrize("source", ["screen:x", "/nowhere.mp4", "/nowhere.png", __file__])
def test_wrong_source_is_one_sentence(source: str) -> None:
	with pytest.raises(cs.DeviceError, match=r"\.$"):
		cs.open_screen(source)
