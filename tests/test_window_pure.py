"""Parts of the window without a window: whom a draft goes to, what closes it, what stays of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image, ImageColor

import connectsphere as cs

NAMES = ["Ms Lee", "Ana", "Ben"]  # the host is first


class Draft:
	"""The composer with what was written in it, as Tk would hold it."""

	def __init__(self) -> None:
		self.words = ""
		self.composer: Any = object.__new__(cs.Composer)
		target = SimpleNamespace(value="", options=[], faint=False)
		target.show = vars(target).update
		parts = {"target": target, "_names": [], "_all": True, "_stead": None, "_hint": lambda: None}
		vars(self.composer).update(parts, text=lambda: self.words, focus=lambda: None)

	@property
	def to(self) -> str:
		return str(self.composer.target.value)


@pytest.mark.parametrize("to_all", [True, False])
@pytest.mark.parametrize("words", ["", "between us"])
@pytest.mark.parametrize("reader", ["Ms Lee", "Ben"])
def test_who_was_chosen_reads_it_whatever_is_allowed_meanwhile(reader: str, words: str, to_all: bool) -> None:
	one = Draft()
	one.composer.people(NAMES, to_all)
	one.composer.to(reader)
	one.words = words
	for allowed in (not to_all, to_all, not to_all):
		one.composer.people(NAMES, allowed)
		assert one.to == reader


def test_a_draft_goes_to_its_reader_in_another_look_while_nobody_writes_to_everyone() -> None:
	one = Draft()
	one.composer._aim("Ben")  # as it is given to the new composer
	one.composer.people(NAMES, False)
	assert one.to == "Ben"


def test_the_host_reads_in_place_of_everyone_and_what_was_written_then_stays_hers() -> None:
	one = Draft()
	for words, then in (("", ""), ("between us", "Ms Lee")):
		one.composer.people([], False)
		assert one.to == "", "nobody is there"
		one.composer.people(NAMES, False)
		assert one.to == "Ms Lee"
		one.words = words
		one.composer.people(NAMES, True)
		assert one.to == then


@pytest.mark.parametrize("role", ["host", "member"])
def test_who_stays_after_all_reads_why_the_meeting_ended(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
	"""The button of the title bar was pressed and taken back: the window does not go with the meeting."""
	monkeypatch.setattr(cs, "Button", lambda *_, **__: SimpleNamespace(pack=lambda **__: None))
	asked: list[tuple[Any, ...]] = []
	told: list[Any] = []
	view: Any = SimpleNamespace(
		shot=cs.Snapshot(role=role), closes=False, act=told.append, left=told.append,
		confirm=lambda title, words, *answers, **_: asked.extend(answers),
		look=SimpleNamespace(px=int), dialog=SimpleNamespace(body=None),
	)  # fmt: skip
	actions = cs.Actions(view)
	actions.ask_leave(closes=True)
	assert not view.closes, "Escape answers nothing"
	answers = {words: command for words, _, *command in asked}
	assert answers["Stay"] == [], "it does nothing"
	answers["End for all" if role == "host" else "Leave"][0]()
	assert view.closes and told == (["end"] if role == "host" else ["leave", ""])
	actions.leave()
	assert not view.closes


def test_a_lesson_is_offered_once_whatever_the_look() -> None:
	def start(offered: bool) -> Any:
		made: Any = object.__new__(cs.StartView)
		entry = SimpleNamespace(delete=lambda *_: None, insert=lambda *_: None)
		made.name = made.title = SimpleNamespace(entry=entry, value="Ana")
		made.pin = SimpleNamespace(value="", set=lambda value: None)
		made.trouble = type("Label", (dict,), {"configure": dict.update})(text="")
		made.preview = SimpleNamespace(mic=False, camera=False)
		made.backend = SimpleNamespace(preview=SimpleNamespace(run=lambda *_: None))
		made.chosen, made._tried, made._offered = None, ("", 0, "", False), offered
		made._picked, made.reason, made.look = (
			False,
			"",
			SimpleNamespace(say=lambda *_: None, palette=cs.DARK),
		)
		return made

	after = start(False)
	after.resume(start(True))
	assert after._offered


def test_a_window_that_is_late_shows_the_newest_pictures_alone() -> None:
	painter, shown = cs.TilePainter(), list[int]()
	boxes = [Mock(paste=shown.append) for _ in range(2)]
	for number, box in enumerate([*boxes, *boxes]):
		painter._done.put((box, number))  # type: ignore[arg-type]
	painter.close()
	painter.paste()
	assert shown == [2, 3]


@pytest.mark.skipif(not hasattr(vars(Image)["core"], "set_use_block_allocator"), reason="Pillow before 11.3")
@pytest.mark.parametrize("picture", [None, np.zeros((90, 160, 3), np.uint8)])
def test_tk_takes_a_painted_tile_as_it_is(picture: cs.Picture | None) -> None:
	"""Else its thread copies each before."""
	cs.TilePainter().close()
	job = cs.TileJob((160, 90), cs.TileLook(), cs.DARK, 1.0)
	assert cs.paint_tile(job, picture, []).im.isblock()


def test_the_top_bar_names_the_host_as_she_is_called_now() -> None:
	bar: Any = object.__new__(cs.TopBar)
	pill = SimpleNamespace(say=lambda *_, **__: None)
	vars(bar).update(
		look=SimpleNamespace(palette=cs.DARK), _narrow=False, _lines=("", ""), _told=(), _write=lambda: None,
		_states=lambda *_: None, people=pill, quality=pill, pin=pill, layouts={},
	)  # fmt: skip
	shot = cs.Snapshot(host="Lena", people=(cs.Person(1, "Ms Lee", "host"),))
	bar.show(shot, "grid", 0.0, "192.168.1.20")
	assert "Host: Ms Lee" in bar._lines[1]


@pytest.mark.parametrize("palette", cs.PALETTES.values())
def test_the_corners_of_a_tile_leave_no_seam_on_the_window(palette: cs.Palette) -> None:
	window = ImageColor.getrgb(palette.window)
	picture = np.full((90, 160, 3), window[::-1], np.uint8)
	job = cs.TileJob((160, 90), cs.TileLook(fit=True), palette, 1.0)
	painted = np.asarray(cs.paint_tile(job, picture, cs.tile_marks(job, live=True)))
	assert np.all(painted == window)


@pytest.mark.parametrize("platform", ["linux", "win32", "darwin"])
def test_pillow_writes_on_a_tile_only_what_tk_cannot_shape(
	platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
	monkeypatch.setattr("sys.platform", platform)

	def marks(text: str) -> bytes:
		lines = {"label": cs.TileLine(40, 70, 60, text, 13, bold=False)}
		job = cs.TileJob((160, 90), cs.TileLook(), cs.DARK, 1.0, lines)
		return cs.paint_tile(job, None, cs.tile_marks(job, live=False)).tobytes()

	assert marks("Zoë") == marks("")
	assert (marks("שלום") == marks("")) is (platform != "linux")


def test_the_edge_between_fill_and_outline_is_smooth() -> None:
	"""Pillow 12 gives a transparent pixel the whole colour however little of it is pasted."""
	box = np.asarray(cs.rounded(40, 40, 20, "#FF0000", "#0000FF", 4)).astype(int)
	assert np.all(box[..., 0] + box[..., 2] > 250) and len(np.unique(box[..., 0])) > 20
	assert tuple(box[20, 20]) == (255, 0, 0, 255) and tuple(box[20, 1]) == (0, 0, 255, 255)


def test_a_pin_stays_with_a_person_over_breaks_and_renames() -> None:
	"""Each connection has a new id, and may replace one whose loss nobody noticed yet."""

	def large(*people: cs.Person, lost: tuple[cs.Person, ...] = ()) -> object:
		plan.shot, plan.lost = cs.Snapshot(me=1, people=people), lost
		return plan.boxes()[0][0]

	plan = cs.Plan(cs.Metrics())
	plan.size = 1280, 720
	me, ana, ben = cs.Person(1, "Me", "host"), cs.Person(2, "Ana", "member"), cs.Person(3, "Ben", "member")
	large(me, ana, ben)
	plan.pin(3)
	assert large(me, ana, ben) == 3
	assert large(me, ana, lost=(ben,)) == 3
	assert large(me, ana, cs.replace(ben, id=4)) == 4, "after a break"
	assert large(me, ana, cs.replace(ben, id=5)) == 5, "without one"
	assert large(me, ana, cs.replace(ben, id=5, name="Benjamin")) == 5
	assert large(me, ana) == 2 and plan.pinned == 5, "he left"
	assert large(me, ana, cs.replace(ben, id=6, name="Benjamin")) == 6
	plan.pin(plan.pinned)
	assert plan.pinned is None and large(me, ana, ben) == 2
	plan.pin(2)
	assert large(me, ana, ben) == 2
	plan.pin("screen")
	assert large(me, cs.replace(ana, id=8), ben) == 8, "nobody is pinned, and she is the first"
