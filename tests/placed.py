"""The window where the program itself puts it, in a process of its own: a display may end only after it.

usage: placed.py walk|stay [SETTINGS]   prints JSON; `stay` obeys lines `geometry` and ends with its input
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import tkinter as tk
from pathlib import Path
from typing import Any

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


def main() -> None:
	"""Open it, and do what is asked."""
	what, settings = sys.argv[1], json.loads(sys.argv[2])
	backend = FakeBackend(9, settings)
	driver = Driver(os.environ["DISPLAY"], backend, "")
	if what == "walk":
		area = json.loads(sys.argv[3])
		driver.pump(0.3)  # the window manager may fill the screen with it
		for name in states(driver):
			until = time.monotonic() + 5.0  # a busy machine may still be drawing
			while (faults := overlaps(driver.root) + outside(driver.root, area)) and time.monotonic() < until:
				driver.pump(0.1)
			print(json.dumps([name, faults[:3]]), flush=True)
	else:
		lines: queue.SimpleQueue[str] = queue.SimpleQueue()
		threading.Thread(target=lambda: [*map(lines.put, sys.stdin), lines.put("end")], daemon=True).start()
		line = ""
		while line != "end":
			driver.pump(0.3)
			root = driver.root
			head = root.winfo_rooty() - root.winfo_y()
			box: list[Any] = [
				root.winfo_rootx(),
				root.winfo_rooty() - head,
				root.winfo_width(),
				root.winfo_height() + head,
			]
			print(json.dumps(box), flush=True)
			line = lines.get().strip()
			if line != "end":
				root.geometry(line)
	driver.close()
	print(json.dumps(backend.settings.get("window")), flush=True)


if __name__ == "__main__":
	main()
