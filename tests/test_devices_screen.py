"""The shared screen: whole screens, the window in front, its moves and its end, and the stand-ins."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pictures import counting
from screens import another_window, grabbed, xvfb
from waiting import wait_until

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
    assert cs.list_screens() == [
        ("screen:0", "Screen 1", (800, 600)),
        ("window", "The window in front", (0, 0)),
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
            return "closed" in fault.reason
        return False

    wait_until(closed)
    source.close()


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
    assert cs.list_screens() == []


@pytest.mark.parametrize("source", ["screen:0", "window"])
def test_no_display_is_one_sentence(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("only X11 can be without a display")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(cs.DeviceError, match=r"\.$"):
        cs.open_screen(source)
    assert cs.list_screens() == []


def test_pattern_and_picture_and_video_stand_in(tmp_path: Path) -> None:
    card = cs.open_screen("pattern")
    first = card.grab()
    time.sleep(0.05)
    assert first.shape == (720, 1280, 3) and (first != card.grab()).any() and card.pointer() is None
    card.close()
    slide = np.random.default_rng(1).integers(0, 256, (30, 50, 3), np.uint8)
    (tmp_path / "é.png").write_bytes(cs.encode_png(slide))
    assert np.array_equal(grabbed(str(tmp_path / "é.png")), slide)
    source = cs.open_screen(str(counting(tmp_path / "a.avi")))
    start = time.perf_counter()
    assert source.grab().mean() < 4
    wait_until(lambda: source.grab().mean() > 80)
    assert 0.25 < time.perf_counter() - start < 1.0
    source.close()


@pytest.mark.parametrize("source", ["screen:x", "/nowhere.mp4", "/nowhere.png", __file__])
def test_wrong_source_is_one_sentence(source: str) -> None:
    with pytest.raises(cs.DeviceError, match=r"\.$"):
        cs.open_screen(source)
