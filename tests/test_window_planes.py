"""The shared screen and files in the real window in real meetings, driven by mouse and keyboard."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from headless import Headless
from PIL import ImageColor
from screens import another_window, grabbed, photographed
from test_window_controls import file_rows, pick_file, press
from test_window_meeting import LONG, Desk, Start, answered, desk, hosted, pupil, until
from window_driver import Driver

import connectsphere as cs

__all__ = ["desk"]  # a fixture

MARK = (1300, 40, 240, 160)  # where another program's window stands beside the window: x, y, width, height
MARKER = 'tkinter.Label(root, text="Another program", font=("TkFixedFont", 14), fg="navy").pack(expand=True)'


@pytest.fixture
def marker(display: str) -> Iterator[None]:
	"""Another program's window."""
	x, y, width, height = MARK
	with another_window(f"{width}x{height}+{x}+{y}", MARKER):
		yield


def shown(driver: Driver, colour: str) -> int:
	"""How many pixels of the stage have exactly this colour."""
	canvas = driver.view.stage.canvas
	x, y, width, height = (
		getattr(canvas, f"winfo_{what}")() for what in ("rootx", "rooty", "width", "height")
	)
	wanted = np.array(ImageColor.getrgb(colour)[::-1], np.uint8)
	return int((photographed()[y : y + height, x : x + width] == wanted).all(axis=2).sum())


def seen_screen(driver: Driver, one: Headless, path: Path) -> cs.Picture | None:
	"""What a participant without a window sees of the shared screen."""
	ref = len(one.events)
	one.send(do="snapshot", of="screen", path=str(path), ref=ref)
	driver.until(lambda: one.seen("snapshot", ref=ref) or one.seen("error", ref=ref), "an answer", LONG)
	return cv2.imread(str(path)) if one.seen("snapshot", ref=ref) else None  # type: ignore[return-value]


def test_sharing_from_the_window(
	desk: Callable[..., Desk], meeting: Start, marker: None, tmp_path: Path
) -> None:
	place = desk("Teacher")
	driver = hosted(place)
	one = pupil(meeting, driver, place.port)
	me = {"name": "Teacher"}
	answered(driver, one, lambda: driver.command("v"), "state", **me, camera=True)
	driver.key("ctrl+shift+s")
	driver.until(lambda: driver.view.dialog and driver.view.dialog.found, "the screens")  # type: ignore[attr-defined]
	answered(driver, one, lambda: driver.key("Right", "Return"), "screen_start", **me)
	driver.until(lambda: one.seen("state", **me, sharing=True, camera=False), "the camera is off", LONG)
	x, y, width, height = MARK
	part = slice(y, y + height), slice(x, x + width)

	def exact() -> bool:
		seen = seen_screen(driver, one, tmp_path / "seen.png")
		return (
			seen is not None and seen.shape == (1000, 1600, 3) and bool((seen[part] == grabbed()[part]).all())
		)

	driver.until(exact, "the other program's window, to the pixel", LONG)

	def only_grey(x: int, y: int) -> bool:
		seen = seen_screen(driver, one, tmp_path / "seen.png")
		assert seen is not None
		seen[part] = 0
		assert driver.view.bar is not None
		bar, grey = driver.view.bar.window, np.zeros(seen.shape[:2], bool)
		left, top = bar.winfo_x(), bar.winfo_y()
		grey[y : y + 720, x : x + 1280] = True
		grey[top : top + bar.winfo_height(), left : left + bar.winfo_width()] = True
		return bool((seen[grey] == 128).all()) and not seen[~grey].any()

	assert only_grey(0, 0)  # the window itself: what is written there is nobody's
	driver.root.geometry("+80+200")
	driver.until(lambda: only_grey(80, 200), "it is moved", LONG)
	driver.root.geometry("+0+0")
	driver.until(lambda: shown(driver, driver.view.look.palette.good) > 1_000, "the green border", LONG)
	driver.until(lambda: driver.view.notice.frame.winfo_ismapped(), "the bar")
	stop = lambda: press(driver, driver.view.notice.frame, "Stop share")  # noqa: E731
	answered(driver, one, stop, "screen_stop", **me)
	until(driver, one, "state", **me, sharing=False, camera=True)


def test_looking_on_in_the_window(desk: Callable[..., Desk], meeting: Start, tmp_path: Path) -> None:
	page = np.random.default_rng(4).integers(0, 256, (900, 1400, 3), np.uint8)
	page = cv2.resize(page[:90, :140], (1400, 900), interpolation=cv2.INTER_NEAREST)
	cv2.putText(page, "small print", (640, 455), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
	cv2.imwrite(str(tmp_path / "page.png"), page)
	place = desk("Teacher")
	driver = hosted(place)
	one = pupil(meeting, driver, place.port)
	driver.until(lambda: len(driver.view.shot.people) == 2, "the pupil in the window")
	one.send(do="share", on=True, source=str(tmp_path / "page.png"))
	driver.until(lambda: "screen" in driver.view.stage.tiles, "the shared screen", LONG)
	controller = driver.view.controller
	driver.until(lambda: controller.screen.stats()["exact"], "exact", LONG)  # type: ignore[attr-defined]
	print_ = np.ascontiguousarray(page[435:465, 640:760])

	def to_the_pixel() -> bool:
		seen = photographed()
		_, _, (x, y), _ = cv2.minMaxLoc(
			cv2.matchTemplate(seen, print_, cv2.TM_SQDIFF)
		)  # found by Fourier: rounds
		return np.array_equal(seen[y : y + 30, x : x + 120], print_)

	assert not to_the_pixel()  # it is fitted into the stage
	driver.click(driver.view.stage.canvas)
	driver.command("0")
	driver.until(to_the_pixel, "one pixel is one pixel", LONG)
	answered(driver, one, lambda: one.send(do="share", on=False), "screen_stop")
	driver.until(lambda: "screen" not in driver.view.stage.tiles, "the stage is free", LONG)


def entry(driver: Driver, name: str) -> Any:
	"""What the window knows of a file."""
	return next((one for one in driver.view.shot.files if one.name == name), None)


def test_files_both_ways(desk: Callable[..., Desk], meeting: Start, tmp_path: Path) -> None:
	place = desk("Teacher")
	driver = hosted(place)
	one = pupil(meeting, driver, place.port)
	driver.until(lambda: len(driver.view.shot.people) == 2, "the pupil in the window")
	paper = tmp_path / "paper.txt"
	paper.write_bytes(b"water cycle\n" * 10_000)
	driver.view.show_panel("files")
	driver.root.after(50, lambda: press(driver, driver.view.files.frame, "Send a file"))
	pick_file(driver, paper)
	until(driver, one, "file_offer", name="paper.txt", **{"from": "Teacher"})
	file = one.seen("file_offer")[0]["file"]
	one.send(do="download", file=file)
	driver.until(lambda: one.seen("file_saved", file=file), "the pupil has it", LONG)
	saved = one.seen("file_saved", file=file)[0]
	assert saved["sha256"] == hashlib.sha256(paper.read_bytes()).hexdigest()
	Path(saved["path"]).unlink()
	driver.until(lambda: entry(driver, "paper.txt").people == 1, "how many have it", LONG)

	tool = tmp_path / "tool.exe"
	tool.write_bytes(b"MZ")
	one.send(do="upload", path=str(tool), to="Teacher", ref="tool")
	driver.until(lambda: entry(driver, "tool.exe.blocked"), "the offer", LONG)
	assert "a program: it may do harm" in file_rows(driver)[0]._facts()
	assert not [name for name in driver.view.files.list.actions if name.startswith("decline")]
	tool_id = entry(driver, "tool.exe.blocked").file
	for word in ("decline", "cancel"):
		driver.view.act(word, file=tool_id)
	one.send(do="cancel", file=tool_id)
	driver.until(lambda: entry(driver, "tool.exe.blocked").state == "gone", "its owner takes it back", LONG)
	assert "Pupil took" in one.seen("file_failed")[0]["reason"]  # nothing else took it away
	driver.spot(driver.view.files.list, f"cancel{file}")
	driver.until(lambda: entry(driver, "paper.txt").state == "gone", "the host takes hers back", LONG)

	downloads = tmp_path / "window" / "downloads"
	for name in ("paper.txt", "paper (2).txt"):
		one.send(do="upload", path=str(paper), ref=name)
		driver.until(lambda name=name: one.seen("uploaded", ref=name), "it is on offer", LONG)  # type: ignore[misc]
		driver.spot(driver.view.files.list, "download")
		driver.until((downloads / name).exists, f"{name} is saved", LONG)
		assert (downloads / name).read_bytes() == paper.read_bytes()
	assert sorted(path.name for path in downloads.glob("*.txt")) == ["paper (2).txt", "paper.txt"]
