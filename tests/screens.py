"""Screens for tests: virtual ones, windows of other programs on them, and what they show."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import mss
import numpy as np

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


@contextlib.contextmanager
def xvfb(size: str, depth: int = 24) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A virtual screen of WIDTHxHEIGHT without a window manager: its name, for DISPLAY, and its process."""
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", f"{size}x{depth}", "-nolisten", "tcp", "-noreset"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            yield f":{server.stdout.readline().strip()}", server
        finally:
            server.terminate()


@contextlib.contextmanager
def another_window(geometry: str, content: str) -> Iterator[subprocess.Popen[str]]:
    """Another program's window that is in sight; `content` is Python that fills `root`.

    A line on its standard input is its new geometry.
    """
    command = [sys.executable, "-c", _WINDOW, geometry, content]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
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


def grabbed(source: str = "screen:0") -> cs.Picture:
    """What a screen, or what stands in for it, shows now."""
    screen = cs.open_screen(source)
    try:
        return screen.grab().copy()
    finally:
        screen.close()
