"""A lesson step by step through the real window, on a teacher's desktop with a window manager."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from headless import Headless
from test_window_bar import LACKING, display
from test_window_class import card
from test_window_controls import press
from test_window_meeting import LONG, Desk, Start, answered, desk, hosted, pupil, until

import connectsphere as cs

__all__ = ["desk", "display"]  # fixtures

pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"needs {', '.join(LACKING)}")


def code(driver: Any, one: Headless, **command: Any) -> str:
	"""With which a pupil's command is refused; "" where it is done."""
	ref = f"r{len(one.events)}"
	one.send(**command, ref=ref)
	driver.until(
		lambda: [event for event in one.events if event.get("ref") == ref], f"answer to {command}", LONG
	)
	found = next(event for event in one.events if event.get("ref") == ref)
	return str(found["code"]) if found["event"] == "error" else ""


@pytest.mark.long
def test_a_lesson(desk: Callable[..., Desk], meeting: Start, tmp_path: Path) -> None:
	"""What a teacher did in the lesson that was played first, and tripped over."""
	place = desk("Ms Alvarez", size="")
	driver = hosted(place)
	ana, ben, cleo = (pupil(meeting, driver, place.port, name) for name in ("Ana", "Ben", "Cleo"))
	view = driver.view

	# the title bar's X asks, as Escape does; the lesson goes on
	driver.key("alt+F4")
	driver.until(lambda: view.dialog is not None and view.dialog.open, "the question")
	driver.key("Escape")
	driver.until(lambda: view.dialog is not None and not view.dialog.open, "she stays")
	assert driver.loop.view is view

	# letters are words, never commands
	driver.view.show_panel("messages")
	answered(
		driver,
		ana,
		lambda: driver.type("sharing musters hush", "Return"),
		"chat",
		text="sharing musters hush",
	)
	assert not view.shot.presenter and not view.shot.wants("mic")

	# quiet, a hand, the word by one key; whoever has not got it is not heard
	driver.spot(card(driver), "mute_all")
	driver.key("Escape")
	driver.command("a")  # keep them so
	until(driver, ben, "permissions")
	driver.until(lambda: "mic" in view.shot.rules.off, "only with the word", LONG)
	assert code(driver, ben, do="mic", on=True) == "no_word"
	ana.send(do="hand", up=True)
	driver.until(lambda: [one.name for one in view.shot.hands] == ["Ana"], "the hand", LONG)
	driver.click(view.stage.canvas)
	answered(driver, ana, lambda: driver.key("n"), "permissions", word="Ana")
	assert code(driver, ana, do="mic", on=True) == ""

	# work comes in by pupil, and who is missing is named
	view.act("collect", open=True, title="Fractions")
	until(driver, ana, "collecting", title="Fractions")
	work = tmp_path / "Worksheet.pdf"
	work.write_bytes(b"solved" * 10_000)
	ana.send(do="hand_in", path=str(work))
	until(driver, ana, "handed_in")
	view.show_panel("files")
	rows = view.files.list
	driver.until(
		lambda: any(getattr(row, "words", "") == "Missing: Ben, Cleo" for row in rows.rows), "who", LONG
	)
	(kept,) = place.program.downloads().glob("*Physics*/Ana/Worksheet.pdf")
	assert kept.read_bytes() == work.read_bytes()

	# sharing: the window makes way, pupils keep the last picture of a pause
	driver.key("ctrl+shift+s")
	driver.until(lambda: getattr(view.dialog, "found", None), "the screens", LONG)
	answered(driver, ben, lambda: driver.key("Right", "Return"), "screen_start", name="Ms Alvarez")
	driver.until(lambda: view.bar is not None and driver.root.state() == "iconic", "the bar", LONG)
	assert view.bar is not None
	bar = view.bar.window
	answered(driver, ben, lambda: press(driver, bar, "Pause"), "state", name="Ms Alvarez", paused=True)
	answered(driver, ben, lambda: press(driver, bar, "Stop share"), "screen_stop")
	driver.until(lambda: driver.root.state() != "iconic", "the window is back", LONG)

	# who drops out keeps the place, and the list says so
	cleo.process.kill()
	driver.until(lambda: view.attendees.gone.get("Cleo"), "Cleo is lost", LONG)
	(table,) = place.program.downloads().glob("*Physics.csv")
	driver.until(
		lambda: all(name in table.read_text("utf-8-sig") for name in ("Ana", "Ben", "Cleo")), "the list"
	)

	# the end is for all, and asked once
	view.actions.ask_leave()
	driver.until(lambda: view.dialog is not None and view.dialog.open, "the question")
	assert isinstance(view.dialog, cs.ConfirmDialog)
	answered(driver, ben, lambda: press(driver, view.dialog.frame, "End for all"), "ended")  # type: ignore[union-attr]
	driver.until(lambda: driver.loop.start is not None, "the start window", LONG)
	assert shutil.which("openbox")
