"""The window where the program itself puts it, in a process of its own: a display may end only after it.

Each line of its input is a window: {"settings": …} and "area" to walk through its states in, or "then",
geometries that it is given; with "stay" it stands until there is another line. As JSON it prints what leaves
the area in each state, or the places of the window, then what it wants to remember of its place.
"""

from __future__ import annotations

import json
import os
import sys
import time
import tkinter as tk
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fake_call import FakeBackend
from window_driver import Driver, overlaps, states, walk


def outside(root: tk.Misc, area: tuple[int, int, int, int]) -> list[str]:
	"""What is in sight and leaves the work area (left, top, right, bottom)."""
	found = []
	for widget in walk(root):
		if widget.winfo_viewable():
			x, y = widget.winfo_rootx(), widget.winfo_rooty()
			right, bottom = x + widget.winfo_width(), y + widget.winfo_height()
			if x < area[0] or y < area[1] or right > area[2] or bottom > area[3]:
				found.append(f"{widget}: {x},{y} to {right},{bottom}")
	return found


def walked(driver: Driver, area: tuple[int, int, int, int]) -> None:
	"""Say of each state what is wrong with it."""
	driver.pump(0.3)  # the window manager may fill the screen with it
	for name in states(driver):
		until = time.monotonic() + 5.0  # a busy machine may still be drawing
		while (faults := overlaps(driver.root) + outside(driver.root, area)) and time.monotonic() < until:
			driver.pump(0.1)
		print(json.dumps([name, faults[:3]]), flush=True)


def box(driver: Driver) -> list[int]:
	"""Left, top, width and height of the window with its title bar."""
	driver.pump(0.3)
	root = driver.root
	head = root.winfo_rooty() - root.winfo_y()
	return [root.winfo_rootx(), root.winfo_rooty() - head, root.winfo_width(), root.winfo_height() + head]


def main() -> None:
	"""One window after another, as the input asks."""
	for line in sys.stdin:
		words = json.loads(line)
		backend = FakeBackend(9, words["settings"])
		driver = Driver(os.environ["DISPLAY"], backend, "")
		with closing(driver):
			if area := words.get("area"):
				walked(driver, area)
			else:
				print(json.dumps(box(driver)), flush=True)
			for geometry in words.get("then", ()):
				driver.root.attributes("-zoomed", False)
				driver.pump(0.3)  # the window manager gives it its former size, then this
				driver.root.geometry(geometry)
				print(json.dumps(box(driver)), flush=True)
			if words.get("stay"):
				sys.stdin.readline()
		print(json.dumps(backend.settings.get("window")), flush=True)


if __name__ == "__main__":
	main()
